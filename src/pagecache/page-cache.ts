import { assert } from '../base/assert.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { Fifo } from '../base/fifo.ts';
import { WaitQueue } from '../base/wait-queue.ts';
import type { AddressSpace } from './address-space.ts';
import type { BackingDevice } from './backing-device.ts';
import { Folio } from './folio.ts';
import { PAGE_SIZE, PageMemory } from './page-memory.ts';

export interface PageCacheOptions {
  /** Bytes for the data of all folios. Default 256 MiB. */
  budget?: number;
  clock?: Clock;
  /** Share of the budget that may be dirty or in flight before writers wait. Default 0.2. */
  dirtyRatio?: number;
  /** Share of the budget from which the flusher writes in the background. Default 0.1. */
  dirtyBackgroundRatio?: number;
  /** Age at which dirty data is written whatever its amount, milliseconds. Default 30 s. */
  dirtyExpireMs?: number;
  /** How often age is looked at, milliseconds. Default 5 s. */
  dirtyWritebackMs?: number;
  /** Byte that fills memory nobody owns, for tests that hunt stale memory. */
  poison?: number;
}

interface MemoryWaiter {
  /** `#changes` when it last tried. */
  readonly since: number;
  readonly wake: () => void;
}

/** Folios looked at in one go when larger memory would be nice but is not needed. */
const SCAN_MAX = 128;

/**
 * All folios of all files of one process, under one memory budget.
 *
 * Invariants:
 * 1. Bytes of folios never pass the budget; dirty and in-flight bytes pass their limit by at most one folio for each writer.
 * 2. Only clean, unlocked folios that nobody holds are reclaimed, the least recently used first (second chance).
 * 3. Who needs memory frees clean folios itself and waits for the flusher for the rest; it never writes back on its own stack.
 */
export class PageCache {
  readonly memory: PageMemory;
  readonly clock: Clock;
  readonly dirtyExpireMs: number;
  readonly dirtyWritebackMs: number;
  readonly devices = new Set<BackingDevice>();
  /** Woken when dirty and in-flight bytes went down, and throttled writers may go on. */
  readonly progress = new WaitQueue();
  dirtyBytes = 0;
  writebackBytes = 0;
  /** Folios dropped to make room, ever. */
  reclaimedFolios = 0;
  /** Times a writer had to wait for writeback. */
  throttledWriters = 0;
  /** Told of every error that a mapping keeps for later. */
  onMappingError: ((mapping: AddressSpace, errno: number) => void) | undefined;
  readonly #dirtyLimit: number;
  readonly #dirtyBackground: number;
  readonly #waiters = new Fifo<MemoryWaiter>();
  // How often memory or a folio became free while somebody waited, and that number when a try last found nothing left.
  #changes = 0;
  #exhausted = -1;
  #isWaking = false;
  // Least recently used list: new folios at the head, victims from the tail.
  #head: Folio | undefined;
  #tail: Folio | undefined;
  #folios = 0;

  constructor(options: PageCacheOptions = {}) {
    this.memory = new PageMemory(options.budget ?? 256 * 1024 * 1024, options.poison);
    this.clock = options.clock ?? systemClock;
    this.dirtyExpireMs = options.dirtyExpireMs ?? 30_000;
    this.dirtyWritebackMs = options.dirtyWritebackMs ?? 5_000;
    this.#dirtyLimit = this.memory.budget * (options.dirtyRatio ?? 0.2);
    this.#dirtyBackground = Math.min(this.memory.budget * (options.dirtyBackgroundRatio ?? 0.1), this.#dirtyLimit);
  }

  get folioCount(): number {
    return this.#folios;
  }

  /** A folio of 2^order pages, locked and held, in no tree yet; undefined without memory. `reclaim` drops as many clean folios as it takes. */
  tryAllocFolio(mapping: AddressSpace, index: number, order: number, reclaim: boolean): Folio | undefined {
    let pfn = this.memory.tryAlloc(order);
    // Dropping one victim at a time keeps what is cached; a larger run may need several before its pieces join.
    while (pfn < 0 && this.#reclaim(PAGE_SIZE << order, reclaim)) {
      pfn = this.memory.tryAlloc(order);
      if (!reclaim) break;
    }
    if (pfn < 0) return undefined;
    const folio = new Folio(this, mapping, index, order, pfn, this.memory.slabOf(pfn));
    this.#insert(folio);
    return folio;
  }

  /** Memory of a folio that left its tree. Held folios give theirs back at the last put. */
  forget(folio: Folio): void {
    this.#unlink(folio);
    if (folio.refs === 0) this.freeFolio(folio);
  }

  freeFolio(folio: Folio): void {
    assert(folio.refs === 0 && folio.mapping === undefined && !folio.isWriteback, 'free of a folio that is in use');
    this.memory.release(folio.pfn, folio.order);
    this.wakeMemoryWaiters();
  }

  get hasMemoryWaiters(): boolean {
    return this.#waiters.length > 0;
  }

  /** Called whenever a folio was unlocked, put or cleaned: those who wait for memory may have it if nothing else keeps it. */
  noteIdle(folio: Folio): void {
    if (this.#waiters.length === 0) return;
    if (folio.refs === 0 && !folio.isLocked && !folio.isDirty && !folio.isWriteback) this.wakeMemoryWaiters();
  }

  /** Called whenever memory became free, or a folio that can be reclaimed. */
  wakeMemoryWaiters(): void {
    this.#changes++;
    if (!this.#isWaking && this.#waiters.length > 0) void this.#wakeInTurn();
  }

  /**
   * Wakes those who wait for memory one after the other, until one of them finds that nothing is left: of a thousand who wait, a folio
   * wakes two. Each gets a try for every change, so that one who is held up elsewhere, or wants more, keeps nothing from the others.
   */
  async #wakeInTurn(): Promise<void> {
    this.#isWaking = true;
    for (;;) {
      const next = this.#waiters.peek();
      if (next === undefined || next.since === this.#changes || this.#exhausted === this.#changes) break;
      this.#waiters.shift();
      next.wake();
      await undefined; // its try comes first
    }
    this.#isWaking = false;
  }

  /** Called whenever dirty or in-flight bytes went down. */
  wakeProgress(): void {
    // Not before some of them can go on: each would only look and wait again, once for every folio that is written.
    if (this.dirtyBytes + this.writebackBytes <= this.#dirtyLimit) this.progress.wakeAll();
  }

  /** Resolves when a try for memory may succeed. Never called with a folio lock held. */
  waitForMemory(order: number): Promise<void> {
    assert(order <= this.memory.orderMax, 'the memory budget is smaller than one folio');
    const freed = new Promise<void>((wake) => {
      this.#waiters.push({ since: this.#changes, wake });
    });
    for (const device of this.devices) if (device.dirtyMappings.size > 0) device.wakeFlusher();
    return freed;
  }

  /** Drops clean folios until `bytes` are free or nothing more can go. Returns the bytes dropped. */
  shrink(bytes: number): number {
    const before = this.memory.used;
    while (this.memory.free < bytes && this.#reclaim(bytes - this.memory.free, true));
    return before - this.memory.used;
  }

  isOverBackground(bdi: BackingDevice): boolean {
    return this.dirtyBytes > this.#dirtyBackground || bdi.dirtyBytes > bdi.dirtyLimit / 2;
  }

  /**
   * Slows a writer down to what its device can take. Called before a folio is locked.
   *
   * Blocks:  while dirty and in-flight bytes are above the limit. `undefined` at once below it.
   */
  balanceDirty(mapping: AddressSpace): undefined | Promise<void> {
    const bdi = mapping.bdi;
    if (this.isOverBackground(bdi) && !bdi.isFlushing) bdi.wakeFlusher();
    if (!this.isThrottling(bdi)) return undefined;
    this.throttledWriters++;
    return this.#throttle(bdi);
  }

  async #throttle(bdi: BackingDevice): Promise<void> {
    while (this.isThrottling(bdi)) {
      const progress = this.progress.wait();
      for (const device of this.devices) if (device.dirtyMappings.size > 0) device.wakeFlusher();
      await progress;
    }
  }

  /** Do writers to this device have to wait? */
  isThrottling(bdi: BackingDevice): boolean {
    return this.dirtyBytes + this.writebackBytes > this.#dirtyLimit || bdi.dirtyBytes + bdi.writebackBytes > bdi.dirtyLimit;
  }

  /** Drops clean folios for at least `bytes` from the cold end; looks at all of them if `hard`. True if anything went. */
  #reclaim(bytes: number, hard: boolean): boolean {
    // Enough is free, in pieces: dropping more would cost the cache and hardly join them.
    if (!hard && this.memory.free >= bytes) return false;
    const goal = this.memory.used - bytes;
    // Twice round the list: the first time takes the second chances away.
    let scan = hard ? this.#folios * 2 : Math.min(SCAN_MAX, this.#folios);
    let dropped = false;
    for (; scan > 0 && this.memory.used > goal; scan--) {
      const folio = this.#tail;
      if (folio === undefined) break;
      if (!folio.isReferenced && folio.refs === 0 && !folio.isDirty && !folio.isWriteback && folio.tryLock()) {
        if (folio.mapping?.tryRelease(folio) === true) {
          folio.unlock();
          dropped = true;
          this.reclaimedFolios++;
          continue;
        }
        // Kept: no news for those who wait for memory, or two of them would wake each other for ever.
        folio.unlockUnseen();
      }
      folio.clearReferenced();
      this.#unlink(folio);
      this.#insert(folio);
    }
    if (hard && !dropped && this.memory.free === 0) this.#exhausted = this.#changes;
    return dropped;
  }

  #insert(folio: Folio): void {
    folio.lruNext = this.#head;
    folio.lruPrev = undefined;
    if (this.#head !== undefined) this.#head.lruPrev = folio;
    this.#head = folio;
    this.#tail ??= folio;
    this.#folios++;
  }

  #unlink(folio: Folio): void {
    if (folio.lruPrev !== undefined) folio.lruPrev.lruNext = folio.lruNext;
    else this.#head = folio.lruNext;
    if (folio.lruNext !== undefined) folio.lruNext.lruPrev = folio.lruPrev;
    else this.#tail = folio.lruPrev;
    folio.lruPrev = undefined;
    folio.lruNext = undefined;
    this.#folios--;
  }
}
