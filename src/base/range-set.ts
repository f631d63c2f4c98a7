/** A set of integers as sorted, disjoint, non-adjacent ranges [start, end). */
export class RangeSet {
  /** start, end, start, end, ... ascending. */
  readonly #bounds: number[] = [];

  get isEmpty(): boolean {
    return this.#bounds.length === 0;
  }

  /** Number of integers in it. */
  get size(): number {
    let size = 0;
    for (let i = 0; i < this.#bounds.length; i += 2) size += (this.#bounds[i + 1] as number) - (this.#bounds[i] as number);
    return size;
  }

  has(value: number): boolean {
    return this.#index(value) % 2 === 1;
  }

  /** Up to which everything is in the set as `value` is, or not in it as `value` is not; Infinity where nothing follows. */
  runEnd(value: number): number {
    return this.#bounds[this.#index(value)] ?? Number.POSITIVE_INFINITY;
  }

  /** Adds [start, end). Returns how many integers are new. */
  add(start: number, end: number): number {
    return this.#replace(start, end, true);
  }

  /** Removes [start, end). Returns how many integers were in it. */
  delete(start: number, end: number): number {
    return this.#replace(start, end, false);
  }

  /** The ranges, ascending. */
  *ranges(): Iterable<{ readonly start: number; readonly end: number }> {
    for (let i = 0; i < this.#bounds.length; i += 2) yield { start: this.#bounds[i] as number, end: this.#bounds[i + 1] as number };
  }

  /** Bounds that are at most `value`: odd inside a range, even outside. */
  #index(value: number): number {
    let low = 0;
    let high = this.#bounds.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if ((this.#bounds[mid] as number) <= value) low = mid + 1;
      else high = mid;
    }
    return low;
  }

  /** First bound that is at least `value`. */
  #lowerBound(value: number): number {
    const index = this.#index(value);
    return index > 0 && this.#bounds[index - 1] === value ? index - 1 : index;
  }

  #replace(start: number, end: number, isIn: boolean): number {
    if (start >= end) return 0;
    // All bounds within [start, end] go; whether new ones come depends on what lies on either side.
    const first = this.#lowerBound(start);
    const last = this.#index(end);
    let inside = 0;
    let at = start;
    let on = first % 2 === 1;
    for (let i = first; i < last; i++) {
      const bound = Math.min(end, this.#bounds[i] as number);
      if (on) inside += bound - at;
      at = bound;
      on = !on;
    }
    if (on) inside += end - at;
    const bounds: number[] = [];
    if ((first % 2 === 1) !== isIn) bounds.push(start);
    if ((last % 2 === 1) !== isIn) bounds.push(end);
    this.#bounds.splice(first, last - first, ...bounds);
    return isIn ? end - start - inside : inside;
  }
}
