import { AssertionError } from '../base/assert.ts';
import { isPromise } from '../base/task.ts';
import type { AddressSpace } from './address-space.ts';
import type { PageCache } from './page-cache.ts';
import { PAGE_SIZE } from './page-memory.ts';

/** Writes what it can without waiting for each folio; folios under writeback are left out. */
export const WB_SYNC_NONE = 0;
/** Writes everything that was dirty at the start, and waits for folios under writeback. */
export const WB_SYNC_ALL = 1;

/** What one writeback pass is asked to do, and what it has left. */
export interface WritebackControl {
  readonly syncMode: typeof WB_SYNC_NONE | typeof WB_SYNC_ALL;
  /** File range in bytes, half open. */
  readonly start: number;
  readonly end: number;
  /** Pages that may still be written before the pass stops; Infinity in integrity passes. */
  nrToWrite: number;
  /** Start where the last background pass over this file stopped, and wrap. */
  readonly rangeCyclic: boolean;
  /** Only folios that are to be dropped afterwards. */
  readonly onlyDropbehind: boolean;
}

export interface BackingDeviceOptions {
  name?: string;
  /** Largest readahead window, bytes. */
  readaheadMax?: number;
  /** A single request larger than the window is read in pieces of this size, bytes. */
  ioOptimal?: number;
  /** Bytes of dirty and in-flight cache this device may have; the cache's own limit where absent. */
  dirtyLimit?: number;
}

/** Pages written to one file before the flusher looks at the next (4 MiB). */
const SLICE_PAGES = 1024;

/**
 * Where the dirty data of some files goes: its counters, its dirty files, its flusher.
 *
 * Invariants:
 * 1. dirtyBytes and writebackBytes are sums over the folios of its mappings.
 * 2. `dirtyMappings` holds exactly the mappings with a dirty folio: in the order in which they became dirty, those that a pass has
 *    visited behind the others.
 * 3. At most one flusher runs. It is the only one that writes on behalf of memory pressure; those who need memory wait for it.
 * 4. A flusher that found nothing it can write ends `stalled`. Those who wait do not start it again: the end of a writeback, new dirty
 *    data or the timer does. So nobody spins, and no news is lost.
 */
export class BackingDevice {
  readonly name: string;
  readonly cache: PageCache;
  readonly readaheadMax: number;
  readonly ioOptimal: number;
  readonly dirtyLimit: number;
  dirtyBytes = 0;
  writebackBytes = 0;
  readonly dirtyMappings = new Set<AddressSpace>();
  #flushing = false;
  #stalled = false;
  #endedWritebacks = 0;
  #dropbehindWanted = 0; // pages
  #cancelTimer: (() => void) | undefined;

  constructor(cache: PageCache, options: BackingDeviceOptions = {}) {
    this.cache = cache;
    this.name = options.name ?? 'bdi';
    this.readaheadMax = options.readaheadMax ?? 128 * 1024;
    this.ioOptimal = options.ioOptimal ?? this.readaheadMax;
    this.dirtyLimit = options.dirtyLimit ?? Number.POSITIVE_INFINITY;
    cache.devices.add(this);
  }

  /** Takes the device out of its cache, once its files are gone. */
  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.cache.devices.delete(this);
  }

  get isFlushing(): boolean {
    return this.#flushing;
  }

  /** A folio of the mapping became dirty. */
  markDirty(mapping: AddressSpace): void {
    if (!this.dirtyMappings.has(mapping)) {
      this.dirtyMappings.add(mapping);
      mapping.dirtiedWhen = this.cache.clock.now();
      this.#armTimer();
    }
    // Those who wait for the flusher asked for it before this was there to be written.
    if (this.#stalled) this.#resume();
  }

  /** The mapping has no dirty folio any more. */
  markClean(mapping: AddressSpace): void {
    this.dirtyMappings.delete(mapping);
  }

  /** The writeback of a folio ended: if it is dirty again, it can be written again. */
  noteWritebackEnd(): void {
    this.#endedWritebacks++;
    if (this.#stalled) this.#resume();
  }

  /**
   * Starts the flusher, which writes while there is more dirty data than the background limit, while somebody waits for memory,
   * and what has been dirty for too long. Returns at once.
   */
  wakeFlusher(): void {
    if (this.#flushing || this.#stalled) return;
    this.#flushing = true;
    // The flusher starts in a turn of its own: its caller may hold locks.
    void this.cache.clock.yield().then(() => this.#flush());
  }

  #resume(): void {
    this.#stalled = false;
    this.wakeFlusher();
  }

  /** Also has the flusher write `bytes` of folios that are to be dropped (RWF_DONTCACHE). */
  wakeFlusherDropbehind(bytes: number): void {
    this.#dropbehindWanted += Math.ceil(bytes / PAGE_SIZE);
    this.#resume();
  }

  #armTimer(): void {
    if (this.#cancelTimer !== undefined || this.dirtyMappings.size === 0) return;
    this.#cancelTimer = this.cache.clock.timer(this.cache.dirtyWritebackMs, () => {
      this.#cancelTimer = undefined;
      this.#resume();
    });
  }

  async #flush(): Promise<void> {
    const { clock } = this.cache;
    // Files of which nothing could be written since the last progress; tried again after the next.
    const stuck = new Set<AddressSpace>();
    let ended = 0;
    let dirty = 0;
    for (;;) {
      const everything = this.cache.isOverBackground(this) || this.cache.hasMemoryWaiters;
      const onlyDropbehind = !everything && this.#dropbehindWanted > 0;
      const mapping = this.#pick(everything || onlyDropbehind, stuck);
      if (mapping === undefined) {
        if (stuck.size === 0) break;
        // Redirtied by its own pass, a file has as many dirty bytes as before: that is no news.
        const isNews = this.#endedWritebacks !== ended || this.dirtyBytes > dirty;
        if (!isNews && !onlyDropbehind) {
          this.#stalled = true;
          break;
        }
        if (onlyDropbehind) this.#dropbehindWanted = 0; // clean by now, in flight, or gone
        stuck.clear();
        continue;
      }
      if (stuck.size === 0) {
        ended = this.#endedWritebacks;
        dirty = this.dirtyBytes;
      }
      const started = clock.now();
      const pages = onlyDropbehind ? Math.min(SLICE_PAGES, this.#dropbehindWanted) : SLICE_PAGES;
      const wbc: WritebackControl = {
        syncMode: WB_SYNC_NONE,
        start: 0,
        end: Number.POSITIVE_INFINITY,
        nrToWrite: pages,
        rangeCyclic: !onlyDropbehind,
        onlyDropbehind,
      };
      let failed = false;
      try {
        const writing = mapping.writepages(wbc);
        // A device that answers at once must not keep the event loop from turning.
        await (isPromise(writing) ? writing : clock.yield());
      } catch (error) {
        failed = true; // kept on the mapping, for fsync of each opener
        if (error instanceof AssertionError) mapping.recordFailure(error); // our own mistake is not: fsync says EIO
      }
      const written = pages - wbc.nrToWrite;
      if (onlyDropbehind) this.#dropbehindWanted = Math.max(0, this.#dropbehindWanted - written);
      if (written > 0) stuck.clear();
      else stuck.add(mapping);
      if (!mapping.isDirty) continue;
      this.dirtyMappings.delete(mapping);
      this.dirtyMappings.add(mapping); // to the end of the line
      // After a pass over all of it, what is dirty became so since.
      if (written > 0 && wbc.nrToWrite > 0 && !onlyDropbehind && !failed) mapping.dirtiedWhen = started;
    }
    this.#flushing = false;
    this.#dropbehindWanted = 0;
    this.#armTimer();
  }

  /** The dirty file that waited longest, none that is stuck; only those dirty for too long unless `any`. */
  #pick(any: boolean, stuck: ReadonlySet<AddressSpace>): AddressSpace | undefined {
    const expired = this.cache.clock.now() - this.cache.dirtyExpireMs;
    for (const mapping of this.dirtyMappings) {
      if ((any || mapping.dirtiedWhen <= expired) && !stuck.has(mapping)) return mapping;
    }
    return undefined;
  }
}
