import { assert } from '../base/assert.ts';
import { log2Floor } from '../base/ranges.ts';

/** Bytes of a page, the smallest unit of the cache. */
export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;
/** Order of the largest folio: 2 MiB. */
export const ORDER_MAX = 9;

const NONE = -1;

/**
 * The memory of all folios: naturally aligned runs of 2^order pages, by a buddy allocator over slabs.
 *
 * Invariants:
 * 1. Bytes of slabs never pass the budget, so bytes handed out never do.
 * 2. A free run is in exactly one free list, that of its order; its buddy of the same order is not free.
 * 3. Memory handed out holds garbage. Who takes a run fills or zeroes what it shows.
 *
 * A run is named by its page frame number (pfn): slab number * pages per slab + page in the slab.
 */
export class PageMemory {
  /** Bytes, rounded down to whole slabs. */
  readonly budget: number;
  readonly orderMax: number;
  /** Bytes in runs handed out. */
  used = 0;
  readonly #slabPages: number;
  readonly #slabShift: number;
  readonly #slabs: (Uint8Array | undefined)[] = [];
  readonly #slabsMax: number;
  readonly #poison: number | undefined;
  // Free lists: heads by order; links by pfn; freeOrder[pfn] is the order of the free run that starts there, or NONE.
  readonly #heads: Int32Array;
  #next = new Int32Array(0);
  #prev = new Int32Array(0);
  #freeOrder = new Int8Array(0);

  /** `poison`: byte that fills freed runs, for tests that hunt stale memory. */
  constructor(budget: number, poison?: number) {
    assert(budget >= PAGE_SIZE, 'the memory budget is below one page');
    this.orderMax = Math.min(ORDER_MAX, log2Floor(Math.floor(budget / PAGE_SIZE)));
    this.#slabShift = this.orderMax;
    this.#slabPages = 1 << this.orderMax;
    this.#slabsMax = Math.floor(budget / (this.#slabPages * PAGE_SIZE));
    this.budget = this.#slabsMax * this.#slabPages * PAGE_SIZE;
    this.#heads = new Int32Array(this.orderMax + 1).fill(NONE);
    this.#poison = poison;
  }

  /** Bytes of slabs held from the host. */
  get resident(): number {
    let slabs = 0;
    for (const slab of this.#slabs) if (slab !== undefined) slabs++;
    return slabs * this.#slabPages * PAGE_SIZE;
  }

  get free(): number {
    return this.budget - this.used;
  }

  /** The slab that holds a run; the run starts at byteOffset(pfn) in it. */
  slabOf(pfn: number): Uint8Array {
    return this.#slabs[pfn >>> this.#slabShift] as Uint8Array;
  }

  byteOffset(pfn: number): number {
    return (pfn & (this.#slabPages - 1)) << PAGE_SHIFT;
  }

  /** A run of 2^order pages, or -1 if there is none without freeing something. */
  tryAlloc(order: number): number {
    assert(order <= this.orderMax, 'a run larger than the memory budget');
    let at = order;
    while (at <= this.orderMax && this.#heads[at] === NONE) at++;
    if (at > this.orderMax) {
      if (!this.#addSlab()) return NONE;
      at = this.orderMax;
    }
    const pfn = this.#heads[at] as number;
    this.#unlink(pfn, at);
    while (at > order) this.#link(pfn + (1 << --at), at); // give the upper half back
    this.used += PAGE_SIZE << order;
    return pfn;
  }

  release(pfn: number, order: number): void {
    if (this.#poison !== undefined) {
      const start = this.byteOffset(pfn);
      this.slabOf(pfn).fill(this.#poison, start, start + (PAGE_SIZE << order));
    }
    this.used -= PAGE_SIZE << order;
    let head = pfn;
    let at = order;
    for (; at < this.orderMax; at++) {
      const buddy = head ^ (1 << at);
      if (this.#freeOrder[buddy] !== at) break;
      this.#unlink(buddy, at);
      head = Math.min(head, buddy);
    }
    this.#link(head, at);
  }

  /** Gives slabs that are wholly free back to the host. Returns the bytes given back. */
  trim(): number {
    let bytes = 0;
    for (let slab = 0; slab < this.#slabs.length; slab++) {
      const pfn = slab << this.#slabShift;
      if (this.#slabs[slab] === undefined || this.#freeOrder[pfn] !== this.orderMax) continue;
      this.#unlink(pfn, this.orderMax);
      this.#slabs[slab] = undefined;
      bytes += this.#slabPages * PAGE_SIZE;
    }
    return bytes;
  }

  #addSlab(): boolean {
    let slab = this.#slabs.indexOf(undefined);
    if (slab < 0) {
      if (this.#slabs.length >= this.#slabsMax) return false;
      slab = this.#slabs.length;
    }
    const bytes = new Uint8Array(this.#slabPages * PAGE_SIZE);
    if (this.#poison !== undefined) bytes.fill(this.#poison);
    this.#slabs[slab] = bytes;
    const pages = this.#slabs.length << this.#slabShift;
    if (pages > this.#next.length) this.#growTables(Math.max(pages, this.#next.length * 2));
    this.#link(slab << this.#slabShift, this.orderMax);
    return true;
  }

  #growTables(pages: number): void {
    const next = new Int32Array(pages);
    next.set(this.#next);
    this.#next = next;
    const prev = new Int32Array(pages);
    prev.set(this.#prev);
    this.#prev = prev;
    const freeOrder = new Int8Array(pages).fill(NONE);
    freeOrder.set(this.#freeOrder);
    this.#freeOrder = freeOrder;
  }

  #link(pfn: number, order: number): void {
    const head = this.#heads[order] as number;
    this.#next[pfn] = head;
    this.#prev[pfn] = NONE;
    if (head !== NONE) this.#prev[head] = pfn;
    this.#heads[order] = pfn;
    this.#freeOrder[pfn] = order;
  }

  #unlink(pfn: number, order: number): void {
    const next = this.#next[pfn] as number;
    const prev = this.#prev[pfn] as number;
    if (prev === NONE) this.#heads[order] = next;
    else this.#next[prev] = next;
    if (next !== NONE) this.#prev[next] = prev;
    this.#freeOrder[pfn] = NONE;
  }
}
