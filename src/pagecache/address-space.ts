import { AssertionError, assert } from '../base/assert.ts';
import { ErrseqRecord } from '../base/errseq.ts';
import { errnoOf, FsError } from '../base/fs-error.ts';
import { RwLock } from '../base/lock.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { type BackingDevice, WB_SYNC_ALL, WB_SYNC_NONE, type WritebackControl } from './backing-device.ts';
import type { Folio } from './folio.ts';
import type { PageCache } from './page-cache.ts';
import { ORDER_MAX, PAGE_SIZE } from './page-memory.ts';
import type { ReadaheadControl } from './readahead.ts';
import { type Tag, XArray } from './xarray.ts';

export const TAG_DIRTY: Tag = 0;
export const TAG_WRITEBACK: Tag = 1;
/** Chosen by an integrity pass. */
export const TAG_TOWRITE: Tag = 2;

/** What the cache needs to know of the file whose folios it holds. */
export interface MappingHost {
  /** i_size, bytes. */
  readonly size: number;
}

/** What the owner of the folios does for the cache. Each is optional: a mapping without any holds only what its user puts in. */
export interface AddressSpaceOps {
  /** Fills a locked folio that is not uptodate and unlocks it, now or later. Outcome: the folio's uptodate flag. */
  readFolio?(mapping: AddressSpace, folio: Folio): MaybePromise<void>;
  /** Starts reads of the folios that the control hands out. */
  readahead?(control: ReadaheadControl): MaybePromise<void>;
  /** Writes dirty folios. Errors are recorded on the mapping; an integrity pass also throws the first. */
  writepages?(mapping: AddressSpace, wbc: WritebackControl): MaybePromise<void>;
  /** Are the bytes [offset, offset + length) of a folio valid that is not wholly uptodate? */
  isPartiallyUptodate?(folio: Folio, offset: number, length: number): boolean;
  /** All of the folio is dirtied by a store through a mapped view. */
  dirtyFolio?(folio: Folio): void;
  /** The folio, clean and locked, is to leave the cache. False keeps it. */
  releaseFolio?(folio: Folio): boolean;
  /** The folio, locked and not under writeback, leaves the cache with all that it holds. */
  invalidateFolio?(folio: Folio): void;
}

export interface AddressSpaceOptions {
  /** Order of the smallest folio: that of a block where blocks are larger than pages. */
  orderMin?: number;
  orderMax?: number;
  /** Data must not change while it is being written. */
  stableWrites?: boolean;
  ops?: AddressSpaceOps;
}

/** Flags of getFolio. */
export const FGP_NOWAIT = 1 << 0;
export const FGP_DONTCACHE = 1 << 1;

/**
 * All cached folios of one file.
 *
 * Invariants:
 * 1. A folio is tagged dirty exactly while its dirty flag is set, writeback likewise.
 * 2. Whoever puts folios in from storage holds invalidateLock shared from before the lookup of the mapping to the end of the read;
 *    whoever changes where blocks live holds it exclusively and has emptied the range.
 * 3. Lock order: inode lock, invalidateLock, folio locks by ascending index, the filesystem's own locks.
 */
export class AddressSpace {
  readonly cache: PageCache;
  readonly bdi: BackingDevice;
  readonly host: MappingHost;
  readonly orderMin: number;
  readonly orderMax: number;
  readonly stableWrites: boolean;
  ops: AddressSpaceOps;
  readonly folios = new XArray<Folio>();
  readonly invalidateLock = new RwLock();
  readonly errors = new ErrseqRecord();
  /** Errors ever recorded, and the last: for waiters inside the engine, which consume nothing of `errors`. */
  errorCount = 0;
  lastError = 0;
  /** Bytes of folios in the tree. */
  cachedBytes = 0;
  dirtyBytes = 0;
  writebackBytes = 0;
  /** When the first of the dirty folios became dirty, clock milliseconds. */
  dirtiedWhen = 0;
  /** Page at which the last cyclic pass stopped. */
  writebackIndex = 0;
  #hint: Folio | undefined;

  constructor(cache: PageCache, bdi: BackingDevice, host: MappingHost, options: AddressSpaceOptions = {}) {
    this.cache = cache;
    this.bdi = bdi;
    this.host = host;
    this.orderMin = options.orderMin ?? 0;
    this.orderMax = Math.max(this.orderMin, Math.min(options.orderMax ?? ORDER_MAX, cache.memory.orderMax));
    this.stableWrites = options.stableWrites ?? false;
    this.ops = options.ops ?? {};
    assert(this.orderMin <= cache.memory.orderMax, 'a block is larger than the memory budget');
  }

  get isDirty(): boolean {
    return this.dirtyBytes > 0;
  }

  /** The folio that holds the byte at `pos`, if it is cached. Not held. */
  find(pos: number): Folio | undefined {
    const hint = this.#hint;
    if (hint !== undefined && hint.mapping === this) {
      const offset = pos - hint.pos;
      if (offset >= 0 && offset < hint.size) return hint;
    }
    const folio = this.folios.load(Math.floor(pos / PAGE_SIZE));
    if (folio !== undefined) this.#hint = folio;
    return folio;
  }

  /** The first folio that holds a byte of [start, end), with the tag if one is given. Not held. */
  next(start: number, end: number, tag?: Tag): Folio | undefined {
    if (start >= end) return undefined;
    return this.folios.next(Math.floor(start / PAGE_SIZE), Math.ceil(end / PAGE_SIZE), tag);
  }

  hasFolios(start: number, end: number): boolean {
    return this.next(start, end) !== undefined;
  }

  /** True if a folio of the range is dirty or under writeback. */
  needsWriteback(start: number, end: number): boolean {
    if (this.dirtyBytes === 0 && this.writebackBytes === 0) return false;
    return this.next(start, end, TAG_DIRTY) !== undefined || this.next(start, end, TAG_WRITEBACK) !== undefined;
  }

  /** The folio at `pos` locked and held, if it is cached; checked again after waiting for its lock. */
  lockFolio(pos: number): MaybePromise<Folio | undefined> {
    const folio = this.find(pos);
    if (folio === undefined) return undefined;
    folio.get();
    if (folio.tryLock()) return folio;
    return this.#lockSlow(folio, pos);
  }

  async #lockSlow(first: Folio, pos: number): Promise<Folio | undefined> {
    let folio: Folio | undefined = first;
    for (;;) {
      await folio.lock();
      if (folio.mapping === this) return folio;
      folio.unlock();
      folio.put();
      folio = this.find(pos);
      if (folio === undefined) return undefined;
      folio.get();
    }
  }

  /**
   * The folio at `pos`, locked and held, made if it is absent: for a write of `length` bytes from there on.
   *
   * Shape:   a new folio is as large as the write, its alignment and orderMax allow, at least orderMin, not uptodate.
   * Blocks:  for a folio lock, for writeback where writes must be stable, for memory. With FGP_NOWAIT for none of these.
   * Errors:  EAGAIN under FGP_NOWAIT.
   */
  getFolio(pos: number, length: number, flags: number): MaybePromise<Folio> {
    const folio = this.tryGetFolio(pos, length, flags);
    if (folio !== undefined) return folio;
    if ((flags & FGP_NOWAIT) !== 0) throw new FsError('EAGAIN', 'write');
    return run(this.#getFolioSlow(pos, length, flags));
  }

  /** As getFolio; undefined where that has to wait. */
  tryGetFolio(pos: number, length: number, flags: number): Folio | undefined {
    const folio = this.find(pos);
    if (folio === undefined) return this.tryCreate(pos, length, flags);
    if ((flags & FGP_DONTCACHE) === 0) folio.setDropbehind(false);
    if ((folio.isWriteback && this.stableWrites) || !folio.tryLock()) return undefined;
    folio.get();
    return folio;
  }

  *#getFolioSlow(pos: number, length: number, flags: number): Task<Folio> {
    for (;;) {
      const folio = yield* wait(this.lockFolio(pos));
      if (folio !== undefined) {
        if ((flags & FGP_DONTCACHE) === 0) folio.setDropbehind(false);
        yield* wait(folio.waitStable());
        return folio;
      }
      const made = this.tryCreate(pos, length, flags);
      if (made !== undefined) return made;
      if (this.find(pos) === undefined) yield* wait(this.cache.waitForMemory(this.orderMin));
    }
  }

  /** A new folio for a range that is not cached, locked, held and in the tree; undefined when there is no memory for it at once. */
  tryCreate(pos: number, length: number, flags = 0): Folio | undefined {
    const page = Math.floor(pos / PAGE_SIZE);
    const touched = Math.ceil((pos + length) / PAGE_SIZE) - page;
    let order = this.orderMin;
    // As large as the pages asked for; a naturally aligned start keeps it inside the request.
    for (let pages = 2 ** (order + 1); order < this.orderMax && pages <= touched && page % pages === 0; pages *= 2) order++;
    for (; order >= this.orderMin; order--) {
      const folio = this.tryCreateOrder(page, order, order === this.orderMin);
      if (folio !== undefined) {
        if ((flags & FGP_DONTCACHE) !== 0) folio.setDropbehind(true);
        return folio;
      }
    }
    return undefined;
  }

  /** A new folio of one order around `page`. Undefined if a part of it is cached, or there is no memory; `reclaim` tries harder. */
  tryCreateOrder(page: number, order: number, reclaim: boolean): Folio | undefined {
    const pages = 2 ** order;
    const index = page - (page % pages);
    if (this.folios.next(index, index + pages) !== undefined) return undefined;
    const folio = this.cache.tryAllocFolio(this, index, order, reclaim);
    if (folio === undefined) return undefined;
    this.folios.store(folio);
    this.cachedBytes += folio.size;
    this.#hint = folio;
    return folio;
  }

  /** Takes a locked, held folio out of the cache with all that it holds. Its bytes live until the last put. */
  remove(folio: Folio): void {
    assert(folio.mapping === this && folio.isLocked && !folio.isWriteback, 'removal of a folio that is in use');
    if (folio.isDirty) this.cancelDirty(folio);
    this.ops.invalidateFolio?.(folio);
    folio.mkclean();
    this.folios.erase(folio);
    this.cachedBytes -= folio.size;
    if (this.#hint === folio) this.#hint = undefined;
    folio.mapping = undefined;
    this.cache.forget(folio);
  }

  /** Drops a clean, locked folio if its owner agrees. Others who hold it see that `mapping` is gone when they have its lock. */
  tryRelease(folio: Folio): boolean {
    if (folio.isDirty || folio.isWriteback || folio.mapping !== this) return false;
    if (folio.mkclean()) {
      this.ops.dirtyFolio?.(folio); // a store came through a mapped view since it was cleaned
      return false;
    }
    if (this.ops.releaseFolio?.(folio) === false) return false;
    this.remove(folio);
    return true;
  }

  /** Marks the folio dirty for writeback. Which blocks are dirty is the owner's record. */
  setDirty(folio: Folio): void {
    if (folio.isDirty) return;
    assert(folio.mapping === this, 'a folio outside the cache was dirtied');
    folio.setDirtyFlag(true);
    this.folios.setTag(folio, TAG_DIRTY);
    this.dirtyBytes += folio.size;
    this.bdi.dirtyBytes += folio.size;
    this.cache.dirtyBytes += folio.size;
    this.bdi.markDirty(this);
  }

  /** Takes the dirty flag off because the folio is about to be written. False if it was not dirty. */
  clearDirtyForIo(folio: Folio): boolean {
    assert(folio.isLocked, 'clearDirtyForIo without the folio lock');
    if (folio.mkclean()) this.ops.dirtyFolio?.(folio);
    if (!folio.isDirty) return false;
    this.cancelDirty(folio);
    return true;
  }

  /** Takes the dirty flag off because the data is no longer wanted. */
  cancelDirty(folio: Folio): void {
    if (!folio.isDirty) return;
    folio.setDirtyFlag(false);
    this.folios.clearTag(folio, TAG_DIRTY);
    this.folios.clearTag(folio, TAG_TOWRITE);
    this.dirtyBytes -= folio.size;
    this.bdi.dirtyBytes -= folio.size;
    this.cache.dirtyBytes -= folio.size;
    if (this.dirtyBytes === 0) this.bdi.markClean(this);
    this.cache.noteIdle(folio);
    this.cache.wakeProgress();
  }

  startWriteback(folio: Folio): void {
    assert(folio.isLocked && !folio.isWriteback, 'writeback started on an unlocked folio, or twice');
    folio.setWritebackFlag(true);
    this.folios.setTag(folio, TAG_WRITEBACK);
    folio.get();
    this.writebackBytes += folio.size;
    this.bdi.writebackBytes += folio.size;
    this.cache.writebackBytes += folio.size;
  }

  /** Ends the writeback of a folio, now that its data is where it belongs; drops the folio if nobody is to keep it. */
  endWriteback(folio: Folio): void {
    assert(folio.isWriteback, 'writeback ended twice');
    this.folios.clearTag(folio, TAG_WRITEBACK);
    this.writebackBytes -= folio.size;
    this.bdi.writebackBytes -= folio.size;
    this.cache.writebackBytes -= folio.size;
    folio.setWritebackFlag(false);
    if (folio.isDropbehind) void run(this.#dropBehind(folio));
    folio.put();
    this.bdi.noteWritebackEnd();
    this.cache.wakeProgress();
  }

  /**
   * Drops a folio whose use is over, unless somebody dirtied or wanted it meanwhile. That it is held is no reason to keep it: whoever
   * waits for this very writeback holds it. On a device that answers at once the pass that sent it still has the lock.
   */
  *#dropBehind(folio: Folio): Task<void> {
    folio.get();
    yield* wait(folio.lock());
    if (folio.isDropbehind) this.tryRelease(folio);
    folio.unlock();
    folio.put();
  }

  /** Records an error that nobody waits for; each opener gets it at its next fsync. */
  setError(errno: number): void {
    this.errors.set(errno);
    this.errorCount++;
    this.lastError = errno;
    this.cache.onMappingError?.(this, errno);
  }

  writepages(wbc: WritebackControl): MaybePromise<void> {
    return this.ops.writepages?.(this, wbc);
  }

  /** Starts writing the dirty folios of [start, end). */
  startWrite(start: number, end: number): MaybePromise<void> {
    return this.#write(start, end, WB_SYNC_NONE);
  }

  /**
   * Writes the dirty folios of [start, end) and waits until they are written.
   *
   * Errors:  the first that the pass met in sending; else the last that a completion in the range or beside it brought meanwhile.
   */
  writeAndWait(start: number, end: number): MaybePromise<void> {
    if (start >= end || !this.needsWriteback(start, end)) return;
    return run(this.#writeAndWait(start, end));
  }

  *#writeAndWait(start: number, end: number): Task<void> {
    const errorCount = this.errorCount;
    let failure: unknown;
    try {
      const sent = this.#write(start, end, WB_SYNC_ALL);
      if (isPromise(sent)) yield sent;
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      failure = error; // told when nothing of the range is in flight any more
    }
    const ended = this.waitWriteback(start, end);
    if (isPromise(ended)) yield ended;
    if (failure !== undefined) throw failure;
    if (this.errorCount !== errorCount) throw FsError.of(this.lastError, 'fsync');
  }

  #write(start: number, end: number, syncMode: WritebackControl['syncMode']): MaybePromise<void> {
    if (this.next(start, end, TAG_DIRTY) === undefined) return;
    return this.writepages({ syncMode, start, end, nrToWrite: Number.POSITIVE_INFINITY, rangeCyclic: false, onlyDropbehind: false });
  }

  /** Resolves when no folio of [start, end) is under writeback that was at the call. */
  waitWriteback(start: number, end: number): MaybePromise<void> {
    if (this.writebackBytes === 0) return;
    return run(this.#waitWriteback(start, end));
  }

  *#waitWriteback(start: number, end: number): Task<void> {
    let from = start;
    for (;;) {
      const folio = this.next(from, end, TAG_WRITEBACK);
      if (folio === undefined) return;
      folio.get();
      yield* wait(folio.waitWriteback());
      from = folio.end;
      folio.put();
    }
  }

  /**
   * Drops the cached content of [start, end): whole folios go, parts of folios are zeroed. Dirty data in the range is lost.
   *
   * Blocks:  for folio locks and for writeback.
   */
  truncateRange(start: number, end: number): MaybePromise<void> {
    if (this.cachedBytes === 0 || start >= end) return;
    const rest = this.#dropIdle(start, end);
    if (rest !== undefined) return run(this.#truncateRange(rest, end));
  }

  /** Drops whole folios from the start of the range on, as long as nobody is busy with them. Position where that ends before the range does. */
  #dropIdle(start: number, end: number): number | undefined {
    for (let at = start; ; ) {
      const folio = this.next(at, end);
      if (folio === undefined) return undefined;
      if (folio.pos < start || folio.end > end || folio.isWriteback || !folio.tryLock()) return at;
      folio.get();
      this.remove(folio);
      at = folio.end;
      folio.unlock();
      folio.put();
    }
  }

  *#truncateRange(start: number, end: number): Task<void> {
    let from = start;
    for (;;) {
      const seen = this.next(from, end);
      if (seen === undefined) return;
      const folio = yield* wait(this.lockFolio(Math.max(from, seen.pos)));
      if (folio === undefined) continue;
      yield* wait(folio.waitWriteback());
      if (start <= folio.pos && folio.end <= end) this.remove(folio);
      else {
        folio.zero(Math.max(start, folio.pos) - folio.pos, Math.min(end, folio.end) - folio.pos);
        if (folio.mkclean()) this.ops.dirtyFolio?.(folio); // mapped views ask again for what is left
      }
      from = folio.end;
      folio.unlock();
      folio.put();
    }
  }

  /**
   * Drops the clean folios of [start, end), whole folios that overlap it included. Callers write dirty ones back first.
   *
   * Blocks:  for folio locks and for writeback.
   * Errors:  EBUSY if a folio was dirty, or its owner kept it; the others are dropped all the same.
   */
  invalidateRange(start: number, end: number): MaybePromise<void> {
    if (this.cachedBytes === 0 || start >= end) return;
    return run(this.#invalidateRange(start, end));
  }

  *#invalidateRange(start: number, end: number): Task<void> {
    let from = start;
    let busy = false;
    for (;;) {
      const seen = this.next(from, end);
      if (seen === undefined) break;
      const folio = yield* wait(this.lockFolio(Math.max(from, seen.pos)));
      if (folio === undefined) continue;
      yield* wait(folio.waitWriteback());
      if (!this.tryRelease(folio)) busy = true;
      from = folio.end;
      folio.unlock();
      folio.put();
    }
    if (busy) throw new FsError('EBUSY', 'invalidate');
  }

  /** Empties the mapping at the end of the inode's life, after writeback that is running. Dirty data is lost. */
  evict(): MaybePromise<void> {
    return this.truncateRange(0, Number.POSITIVE_INFINITY);
  }

  /** Keeps what was thrown for fsync of each opener; for callers that may not throw. Returns its errno. */
  recordFailure(error: unknown): number {
    const errno = errnoOf(error);
    this.setError(errno);
    return errno;
  }
}
