import { assert } from '../../src/base/assert.ts';

/** `addr` of blocks that are reserved and have no place yet. */
export const DELALLOC = -1;

/** A run of file blocks and where it lives. All numbers are blocks. */
export interface Extent {
  readonly block: number;
  readonly count: number;
  /** First device block, or DELALLOC. */
  readonly addr: number;
  /** The device blocks hold file data; otherwise they read as zeros. */
  readonly written: boolean;
}

/**
 * The extents of one file, or of its copy-on-write fork.
 *
 * Invariant: sorted by block, without overlap, none empty. Neighbours that could be one may stay two.
 */
export class ExtentMap {
  #extents: Extent[] = [];

  get all(): readonly Extent[] {
    return this.#extents;
  }

  get isEmpty(): boolean {
    return this.#extents.length === 0;
  }

  clone(): ExtentMap {
    const copy = new ExtentMap();
    copy.#extents = this.#extents.slice(); // extents are never changed, only replaced
    return copy;
  }

  /** The extent that holds `block`, from that block on. */
  at(block: number): Extent | undefined {
    const extent = this.#extents[this.#after(block)];
    return extent !== undefined && extent.block <= block ? cut(extent, block, extent.block + extent.count) : undefined;
  }

  /** First block from `block` on that has an extent; Infinity if there is none. */
  nextStart(block: number): number {
    const extent = this.#extents[this.#after(block)];
    return extent === undefined ? Number.POSITIVE_INFINITY : Math.max(extent.block, block);
  }

  /** The parts of extents that lie in [start, end). */
  slice(start: number, end: number): Extent[] {
    const parts: Extent[] = [];
    for (let at = this.#after(start); at < this.#extents.length; at++) {
      const extent = this.#extents[at] as Extent;
      if (extent.block >= end) break;
      parts.push(cut(extent, start, end));
    }
    return parts;
  }

  /** Adds an extent where there is none. */
  insert(extent: Extent): void {
    if (extent.count === 0) return;
    const at = this.#after(extent.block);
    const before = this.#extents[at - 1];
    const after = this.#extents[at];
    assert(after === undefined || after.block >= extent.block + extent.count, 'extents overlap');
    if (before !== undefined && joins(before, extent)) this.#extents.splice(at - 1, 1, { ...before, count: before.count + extent.count });
    else this.#extents.splice(at, 0, extent);
  }

  /** Takes the blocks [start, end) out. Returns what was there. */
  remove(start: number, end: number): Extent[] {
    const parts = this.slice(start, end);
    if (parts.length === 0) return parts;
    const kept: Extent[] = [];
    for (const extent of this.#extents) {
      const last = extent.block + extent.count;
      if (last <= start || extent.block >= end) kept.push(extent);
      else {
        if (extent.block < start) kept.push(cut(extent, extent.block, start));
        if (last > end) kept.push(cut(extent, end, last));
      }
    }
    this.#extents = kept;
    return parts;
  }

  /** Index of the first extent that ends after `block`. */
  #after(block: number): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const extent = this.#extents[middle] as Extent;
      if (extent.block + extent.count <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function cut(extent: Extent, start: number, end: number): Extent {
  const block = Math.max(extent.block, start);
  const count = Math.min(extent.block + extent.count, end) - block;
  if (block === extent.block && count === extent.count) return extent;
  return { block, count, addr: extent.addr === DELALLOC ? DELALLOC : extent.addr + (block - extent.block), written: extent.written };
}

function joins(before: Extent, after: Extent): boolean {
  if (before.block + before.count !== after.block || before.written !== after.written) return false;
  return before.addr === DELALLOC ? after.addr === DELALLOC : after.addr === before.addr + before.count;
}
