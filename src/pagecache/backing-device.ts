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
 * 2. A mapping with a dirty folio is in `dirtyMappings`, in the order in which the mappings became dirty.
 * 3. At most one flusher runs. It is the only one that writes on behalf of memory pressure; those who need memory wait for it.
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

  /** A mapping got its first dirty folio. */
  markDirty(mapping: AddressSpace): void {
    if (this.dirtyMappings.has(mapping)) return;
    this.dirtyMappings.add(mapping);
    mapping.dirtiedWhen = this.cache.clock.now();
    this.#armTimer();
  }

  /**
   * Starts the flusher, which writes while there is more dirty data than the background limit, while somebody waits for memory,
   * and what has been dirty for too long. Returns at once.
   */
  wakeFlusher(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    // The flusher starts in a turn of its own: its caller may hold locks.
    void this.cache.clock.yield().then(() => this.#flush());
  }

  /** Also has the flusher write `bytes` of folios that are to be dropped (RWF_DONTCACHE). */
  wakeFlusherDropbehind(bytes: number): void {
    this.#dropbehindWanted += Math.ceil(bytes / PAGE_SIZE);
    this.wakeFlusher();
  }

  #armTimer(): void {
    if (this.#cancelTimer !== undefined || this.dirtyMappings.size === 0) return;
    this.#cancelTimer = this.cache.clock.timer(this.cache.dirtyWritebackMs, () => {
      this.#cancelTimer = undefined;
      this.wakeFlusher();
    });
  }

  async #flush(): Promise<void> {
    for (;;) {
      const everything = this.cache.isOverBackground(this) || this.cache.hasMemoryWaiters;
      const onlyDropbehind = !everything && this.#dropbehindWanted > 0;
      const mapping = this.#pick(everything || onlyDropbehind);
      if (mapping === undefined) break;
      const pages = onlyDropbehind ? Math.min(SLICE_PAGES, this.#dropbehindWanted) : SLICE_PAGES;
      const wbc: WritebackControl = {
        syncMode: WB_SYNC_NONE,
        start: 0,
        end: Number.POSITIVE_INFINITY,
        nrToWrite: pages,
        rangeCyclic: !onlyDropbehind,
        onlyDropbehind,
      };
      try {
        const writing = mapping.writepages(wbc);
        if (isPromise(writing)) await writing;
      } catch {
        // Kept on the mapping, for fsync of each opener.
      }
      const written = pages - wbc.nrToWrite;
      this.#dropbehindWanted = onlyDropbehind && written === 0 ? 0 : Math.max(0, this.#dropbehindWanted - written);
      if (this.dirtyMappings.delete(mapping) && mapping.isDirty) this.dirtyMappings.add(mapping); // to the end of the line
      if (written > 0 || onlyDropbehind) continue;
      // All that is dirty here is in flight as well: news comes when that ends.
      if (this.cache.writebackBytes === 0) break;
      await this.cache.progress.wait();
    }
    this.#flushing = false;
    this.#dropbehindWanted = 0;
    this.#armTimer();
  }

  /** The dirty file that waited longest; only those dirty for too long unless `any`. */
  #pick(any: boolean): AddressSpace | undefined {
    const expired = this.cache.clock.now() - this.cache.dirtyExpireMs;
    for (const mapping of this.dirtyMappings) {
      if (!mapping.isDirty) this.dirtyMappings.delete(mapping);
      else if (any || mapping.dirtiedWhen <= expired) return mapping;
    }
    return undefined;
  }
}
