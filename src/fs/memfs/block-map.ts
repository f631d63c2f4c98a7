/** What the map says of a block beside where it is stored: nothing is there. */
export const HOLE = 0;
/** Space is set aside; there is no data yet. */
export const RESERVED = -1;

const CHUNK_BLOCKS = 64;

function isNoHole(place: number): boolean {
  return place !== HOLE;
}

/** Neighbouring blocks, as far as there are any. */
interface Chunk {
  /** First file block: a multiple of CHUNK_BLOCKS. */
  readonly start: number;
  /** HOLE, RESERVED, or above 0 where the block is stored; holes from its end on. */
  readonly places: number[];
}

/**
 * Where the blocks of one file are. Costs are by the blocks that are there, not by the size of the file: a file with one byte at its
 * end has one chunk.
 *
 * Invariant: chunks are sorted by start, and none is empty.
 */
export class BlockMap {
  #chunks: Chunk[] = [];
  /** Index of the chunk that was found last: the next question is often about it or the one behind. */
  #hint = 0;
  /** Moves with every change: what somebody was told before may not hold any more. */
  sequence = 0;

  get isEmpty(): boolean {
    return this.#chunks.length === 0;
  }

  /** The place of a block: HOLE, RESERVED, or above 0. */
  at(block: number): number {
    const chunk = this.#chunks[this.#indexOf(block)];
    return chunk === undefined || chunk.start > block ? HOLE : (chunk.places[block - chunk.start] ?? HOLE);
  }

  /** `place` is not HOLE: that is what remove leaves. */
  set(block: number, place: number): void {
    this.sequence++;
    const index = this.#indexOf(block);
    const chunk = this.#chunks[index];
    if (chunk === undefined || chunk.start > block) {
      this.#add(index, block, place);
      return;
    }
    const { start, places } = chunk;
    while (places.length <= block - start) places.push(HOLE);
    places[block - start] = place;
  }

  /** A chunk for a block. Most files have one of each: arrays are made with room for no more. */
  #add(index: number, block: number, place: number): void {
    const at = block % CHUNK_BLOCKS;
    const places = at === 0 ? [place] : [...new Array<number>(at).fill(HOLE), place];
    const chunk: Chunk = { start: block - at, places };
    if (this.#chunks.length === 0) this.#chunks = [chunk];
    else this.#chunks.splice(index, 0, chunk);
  }

  /** The first block from `block` on that is no hole, or Infinity. */
  next(block: number): number {
    for (let index = this.#indexOf(block); index < this.#chunks.length; index++) {
      const { start, places } = this.#chunks[index] as Chunk;
      for (let at = Math.max(block - start, 0); at < places.length; at++) if (places[at] !== HOLE) return start + at;
    }
    return Number.POSITIVE_INFINITY;
  }

  /** End of the run of blocks, at most `end`, that are of the same kind as `block`: holes, reserved, or stored wherever. */
  runEnd(block: number, end: number): number {
    const kind = Math.sign(this.at(block));
    if (kind === HOLE) return Math.min(this.next(block), end);
    let stop = block + 1;
    while (stop < end && Math.sign(this.at(stop)) === kind) stop++;
    return stop;
  }

  /** Makes [start, end) a hole, and tells what was there, in order. */
  remove(start: number, end: number, removed: (block: number, place: number) => void): void {
    const first = this.#indexOf(start);
    let kept = first;
    let index = first;
    for (; index < this.#chunks.length; index++) {
      const chunk = this.#chunks[index] as Chunk;
      if (chunk.start >= end) break;
      const to = Math.min(end - chunk.start, chunk.places.length);
      for (let at = Math.max(start - chunk.start, 0); at < to; at++) {
        const place = chunk.places[at] as number;
        if (place === HOLE) continue;
        chunk.places[at] = HOLE;
        removed(chunk.start + at, place);
      }
      if (chunk.places.some(isNoHole)) this.#chunks[kept++] = chunk;
    }
    if (kept < index) this.#chunks.splice(kept, index - kept);
    this.sequence++;
  }

  /** Moves all blocks from `from` on so that they begin at `to`. What they move over is a hole. */
  shift(from: number, to: number): void {
    const moved: number[] = [];
    this.remove(from, Number.POSITIVE_INFINITY, (block, place) => moved.push(block + (to - from), place));
    for (let i = 0; i < moved.length; i += 2) this.set(moved[i] as number, moved[i + 1] as number);
  }

  /** Index of the chunk that holds the block, or would come next. */
  #indexOf(block: number): number {
    const chunks = this.#chunks;
    for (let index = this.#hint; index < this.#hint + 2; index++) {
      const chunk = chunks[index];
      if (chunk !== undefined && block >= chunk.start && block < chunk.start + CHUNK_BLOCKS) return (this.#hint = index);
    }
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((chunks[middle] as Chunk).start + CHUNK_BLOCKS <= block) low = middle + 1;
      else high = middle;
    }
    return (this.#hint = low);
  }
}
