// The memory of a request: pieces in order, taken as one run of bytes.

/** Collects memory for a request. What lies side by side in one buffer becomes one piece, which costs one view and one copy. */
export class VecBuilder {
  #vec: Uint8Array[] | undefined = undefined;
  // The piece that may still grow.
  #memory: Uint8Array | undefined = undefined;
  #from = 0;
  #to = 0;

  /** Appends the bytes [from, to) of `memory`. */
  add(memory: Uint8Array, from: number, to: number): void {
    if (memory === this.#memory && from === this.#to) {
      this.#to = to;
      return;
    }
    this.#close();
    this.#memory = memory;
    this.#from = from;
    this.#to = to;
  }

  /** The pieces so far. */
  take(): Uint8Array[] {
    this.#close();
    return this.#vec ?? [];
  }

  #close(): void {
    if (this.#memory === undefined) return;
    const piece = this.#memory.subarray(this.#from, this.#to);
    if (this.#vec === undefined) this.#vec = [piece];
    else this.#vec.push(piece);
    this.#memory = undefined;
  }
}

/** A copy of the bytes [from, from + length) of the pieces. */
export function gather(vec: readonly Uint8Array[], from: number, length: number, into: Uint8Array = new Uint8Array(length)): Uint8Array {
  let done = 0;
  for (const part of slice(vec, from, length)) {
    into.set(part, done);
    done += part.length;
  }
  return into;
}

/** Copies `bytes` into the pieces, from byte `to` of them on. */
export function scatter(bytes: Uint8Array, vec: readonly Uint8Array[], to: number): void {
  let done = 0;
  for (const part of slice(vec, to, bytes.length)) {
    part.set(part.length === bytes.length ? bytes : bytes.subarray(done, done + part.length));
    done += part.length;
  }
}

/** The pieces of the bytes [from, from + length), as views on the same memory. */
export function slice(vec: readonly Uint8Array[], from: number, length: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let skip = from;
  let left = length;
  for (const piece of vec) {
    if (left === 0) break;
    if (skip >= piece.length) {
      skip -= piece.length;
      continue;
    }
    const count = Math.min(piece.length - skip, left);
    parts.push(count === piece.length ? piece : piece.subarray(skip, skip + count));
    skip = 0;
    left -= count;
  }
  return parts;
}
