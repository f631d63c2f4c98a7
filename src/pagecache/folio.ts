import { assert } from '../base/assert.ts';
import { Fifo } from '../base/fifo.ts';
import type { AddressSpace } from './address-space.ts';
import type { PageCache } from './page-cache.ts';
import { PAGE_SHIFT, PAGE_SIZE } from './page-memory.ts';

const LOCKED = 1 << 0;
const UPTODATE = 1 << 1;
const DIRTY = 1 << 2;
const WRITEBACK = 1 << 3;
const REFERENCED = 1 << 4;
const DROPBEHIND = 1 << 5;
const READAHEAD = 1 << 6;
const MAP_WRITABLE = 1 << 7;
const MAP_DIRTY = 1 << 8;

/** `state` of a folio without per-block state. */
export const NO_STATE = -1;

interface Waiters {
  readonly lock: Fifo<() => void>;
  writeback: (() => void)[];
}

/**
 * A cached run of 2^order pages of one file.
 *
 * Invariants:
 * 1. While `mapping` is set the folio is in that mapping's tree; a task that waited for the lock checks `mapping` again.
 * 2. refs counts tasks that hold the folio; the tree's own hold is not counted. Memory goes back when the folio is out of the
 *    tree and refs is 0.
 * 3. Dirty implies in a tree. Writeback implies that the memory stays.
 * 4. uptodate: every byte is file content (zeros past the end of the file).
 */
export class Folio {
  mapping: AddressSpace | undefined;
  /** First page of the file that it holds. */
  readonly index: number;
  readonly order: number;
  readonly pfn: number;
  /** The slab that holds the bytes, which start at `base` in it. */
  readonly slab: Uint8Array;
  readonly cache: PageCache;
  refs = 1;
  /** Handle of the per-block state, or NO_STATE. Owned by iomap. */
  state = NO_STATE;
  /** The filesystem's own, for folios that carry no per-block state (journaled data). */
  private: unknown = undefined;
  lruPrev: Folio | undefined = undefined;
  lruNext: Folio | undefined = undefined;
  #flags = LOCKED;
  #waiters: Waiters | undefined = undefined;

  /** A new folio is locked, not uptodate, held once by its maker, and in no tree yet. */
  constructor(cache: PageCache, mapping: AddressSpace, index: number, order: number, pfn: number, slab: Uint8Array) {
    this.cache = cache;
    this.mapping = mapping;
    this.index = index;
    this.order = order;
    this.pfn = pfn;
    this.slab = slab;
  }

  /** Where its bytes start in the slab. */
  get base(): number {
    return (this.pfn << PAGE_SHIFT) & (this.slab.length - 1);
  }

  /** Bytes. */
  get size(): number {
    return PAGE_SIZE << this.order;
  }

  /** File position of the first byte. */
  get pos(): number {
    return this.index * PAGE_SIZE;
  }

  get end(): number {
    return this.index * PAGE_SIZE + (PAGE_SIZE << this.order);
  }

  get pages(): number {
    return 1 << this.order;
  }

  /** A view on the bytes [offset, offset + length) of the folio. Valid while the folio is held. */
  bytes(offset: number, length: number): Uint8Array {
    return this.slab.subarray(this.base + offset, this.base + offset + length);
  }

  /** Zeroes the bytes [from, to) of the folio. */
  zero(from: number, to: number): void {
    this.slab.fill(0, this.base + from, this.base + to);
  }

  get isLocked(): boolean {
    return (this.#flags & LOCKED) !== 0;
  }

  tryLock(): boolean {
    if ((this.#flags & LOCKED) !== 0) return false;
    this.#flags |= LOCKED;
    return true;
  }

  /** Takes the lock; waiters get it first come, first served. The caller holds a reference. */
  lock(): void | Promise<void> {
    if (this.tryLock()) return;
    assert(this.refs > 0, 'waiting for the lock of a folio that is not held');
    this.#waiters ??= { lock: new Fifo(), writeback: [] };
    const queue = this.#waiters.lock;
    return new Promise((grant) => {
      queue.push(grant);
    });
  }

  unlock(): void {
    assert((this.#flags & LOCKED) !== 0, 'unlock of a folio that is not locked');
    const next = this.#waiters?.lock.shift();
    if (next !== undefined) {
      next(); // stays locked: it is the waiter's from this turn on
      return;
    }
    this.#flags &= ~LOCKED;
    this.cache.noteIdle(this);
  }

  /** Ends a lock that was taken in this very turn, so that nobody waits for it, and that changed nothing. */
  unlockUnseen(): void {
    assert((this.#flags & LOCKED) !== 0 && (this.#waiters?.lock.length ?? 0) === 0, 'unlockUnseen of a lock that was seen');
    this.#flags &= ~LOCKED;
  }

  get isUptodate(): boolean {
    return (this.#flags & UPTODATE) !== 0;
  }

  markUptodate(): void {
    this.#flags |= UPTODATE;
  }

  /**
   * Ends a read: sets uptodate if all of it succeeded and unlocks, in one step, so that nobody sees an unlocked folio whose
   * finished read does not show yet.
   */
  endRead(success: boolean): void {
    assert((this.#flags & LOCKED) !== 0, 'end of a read on an unlocked folio');
    if (success) {
      assert((this.#flags & UPTODATE) === 0, 'folio was marked uptodate while its read was pending');
      this.#flags |= UPTODATE;
    }
    this.unlock();
  }

  get isDirty(): boolean {
    return (this.#flags & DIRTY) !== 0;
  }

  /** For AddressSpace only: it keeps tags and counters in step. */
  setDirtyFlag(on: boolean): void {
    this.#set(DIRTY, on);
  }

  get isWriteback(): boolean {
    return (this.#flags & WRITEBACK) !== 0;
  }

  /** For AddressSpace only. */
  setWritebackFlag(on: boolean): void {
    this.#set(WRITEBACK, on);
    if (on || this.#waiters === undefined || this.#waiters.writeback.length === 0) return;
    const wake = this.#waiters.writeback;
    this.#waiters.writeback = [];
    for (const each of wake) each();
  }

  /** Resolves when no writeback is running. The caller holds a reference. */
  waitWriteback(): void | Promise<void> {
    if (!this.isWriteback) return;
    return this.#waitWriteback();
  }

  async #waitWriteback(): Promise<void> {
    while (this.isWriteback) {
      this.#waiters ??= { lock: new Fifo(), writeback: [] };
      const { writeback } = this.#waiters;
      await new Promise<void>((wake) => {
        writeback.push(wake);
      });
    }
  }

  /** Waits for the end of writeback where the mapping wants data that does not change in flight. */
  waitStable(): void | Promise<void> {
    if (this.isWriteback && this.mapping?.stableWrites === true) return this.waitWriteback();
  }

  get isReferenced(): boolean {
    return (this.#flags & REFERENCED) !== 0;
  }

  markAccessed(): void {
    this.#flags |= REFERENCED;
  }

  clearReferenced(): void {
    this.#flags &= ~REFERENCED;
  }

  /** To be dropped after its writeback or read, unless somebody else uses it (RWF_DONTCACHE). */
  get isDropbehind(): boolean {
    return (this.#flags & DROPBEHIND) !== 0;
  }

  setDropbehind(on: boolean): void {
    this.#set(DROPBEHIND, on);
  }

  /** A reader that reaches this folio starts the next readahead window. */
  get isReadaheadMark(): boolean {
    return (this.#flags & READAHEAD) !== 0;
  }

  setReadaheadMark(on: boolean): void {
    this.#set(READAHEAD, on);
  }

  /** Some mapped view may store into it without asking: set by page_mkwrite, cleared by mkclean. */
  get isMapWritable(): boolean {
    return (this.#flags & MAP_WRITABLE) !== 0;
  }

  /** A mapped view stored into it since mkclean. */
  get isMapDirty(): boolean {
    return (this.#flags & MAP_DIRTY) !== 0;
  }

  setMapWritable(): void {
    this.#flags |= MAP_WRITABLE;
  }

  markMapDirty(): void {
    this.#flags |= MAP_DIRTY;
  }

  /** Write-protects it: the next store of a mapped view asks again. Returns whether a store came since the last time. */
  mkclean(): boolean {
    const wasDirty = (this.#flags & MAP_DIRTY) !== 0;
    this.#flags &= ~(MAP_WRITABLE | MAP_DIRTY);
    return wasDirty;
  }

  get(): void {
    this.refs++;
  }

  put(): void {
    assert(this.refs > 0, 'put of a folio that is not held');
    if (--this.refs > 0) return;
    if (this.mapping === undefined) this.cache.freeFolio(this);
    else this.cache.noteIdle(this);
  }

  #set(flag: number, on: boolean): void {
    if (on) this.#flags |= flag;
    else this.#flags &= ~flag;
  }
}
