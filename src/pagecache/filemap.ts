import type { AbortSignalLike } from '../base/abort.ts';
import { checkAborted } from '../base/abort.ts';
import { AssertionError } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { AddressSpace } from './address-space.ts';
import type { Folio } from './folio.ts';
import { PAGE_SIZE } from './page-memory.ts';
import { asyncReadahead, type ReadaheadState, syncReadahead } from './readahead.ts';

/** What one read through the cache may do. */
export interface FilemapReadOptions {
  readonly ra: ReadaheadState;
  /** Never wait: EAGAIN, or a short count. */
  readonly nowait: boolean;
  /** Folios made by this read are dropped after it (RWF_DONTCACHE). */
  readonly dontcache: boolean;
  readonly signal?: AbortSignalLike | undefined;
}

/** Answer of tryRead when something has to be fetched. */
export const WOULD_BLOCK = -1;

/**
 * Copies [pos, pos + into.length) out of the cache if all of it is there: the fast path.
 *
 * Shape:   bytes copied, short at the end of the file; WOULD_BLOCK if any byte is missing or readahead wants to go on.
 */
export function tryRead(mapping: AddressSpace, pos: number, into: Uint8Array): number {
  const { size } = mapping.host;
  if (pos >= size) return 0;
  const length = Math.min(into.length, size - pos);
  let done = 0;
  while (done < length) {
    const folio = mapping.find(pos + done);
    if (folio === undefined || folio.isReadaheadMark || folio.isDropbehind) return WOULD_BLOCK;
    const offset = pos + done - folio.pos;
    const count = Math.min(length - done, folio.size - offset);
    if (!isValid(mapping, folio, offset, count)) return WOULD_BLOCK;
    const from = folio.base + offset;
    into.set(folio.slab.subarray(from, from + count), done);
    folio.markAccessed();
    done += count;
  }
  return done;
}

/**
 * Reads [pos, pos + into.length) of a file through its cache, filling what is missing.
 *
 * Shape:   bytes read, short at the end of the file and where an error or NOWAIT ended it after some bytes.
 * Blocks:  for folio locks, the invalidate lock, memory and reads, unless `nowait`.
 * Errors:  EIO where a folio could not be read; EAGAIN under `nowait`; EINTR when the signal is aborted.
 */
export function filemapRead(mapping: AddressSpace, pos: number, into: Uint8Array, options: FilemapReadOptions): MaybePromise<number> {
  // The fast path marks what it reads as used, which 'noreuse' does not want.
  const copied = options.ra.hint === 'noreuse' ? WOULD_BLOCK : tryRead(mapping, pos, into);
  if (copied !== WOULD_BLOCK) {
    if (copied > 0) options.ra.prevPos = pos + copied;
    return copied;
  }
  return run(readSlow(mapping, pos, into, options));
}

function* readSlow(mapping: AddressSpace, start: number, into: Uint8Array, options: FilemapReadOptions): Task<number> {
  const { ra } = options;
  let done = 0;
  try {
    while (done < into.length) {
      checkAborted(options.signal, 'read');
      const pos = start + done;
      if (pos >= mapping.host.size) break;
      const wanted = Math.min(into.length - done, mapping.host.size - pos);
      const folio = yield* getUptodate(mapping, pos, wanted, options);
      // The size is looked at after the content is known to be valid, so that a truncate in between shows.
      const count = Math.min(wanted, folio.end - pos, mapping.host.size - pos);
      if (count <= 0) {
        folio.put();
        break;
      }
      const from = folio.base + (pos - folio.pos);
      into.set(folio.slab.subarray(from, from + count), done);
      done += count;
      ra.prevPos = pos + count;
      if (ra.hint !== 'noreuse') folio.markAccessed();
      finishFolio(mapping, folio, options);
    }
  } catch (error) {
    if (done === 0 || error instanceof AssertionError) throw error;
  }
  return done;
}

/** Lets go of a folio after its bytes were copied. */
function finishFolio(mapping: AddressSpace, folio: Folio, options: FilemapReadOptions): void {
  if (folio.isDropbehind) {
    if (!options.dontcache)
      folio.setDropbehind(false); // somebody wants it after all
    else if (folio.refs === 1 && folio.tryLock()) {
      mapping.tryRelease(folio);
      folio.unlock();
    }
  }
  folio.put();
}

function isValid(mapping: AddressSpace, folio: Folio, offset: number, count: number): boolean {
  return folio.isUptodate || mapping.ops.isPartiallyUptodate?.(folio, offset, count) === true;
}

/** The folio at `pos`, held, whose bytes from there on (of `length` wanted) are valid. */
function* getUptodate(mapping: AddressSpace, pos: number, length: number, options: FilemapReadOptions): Task<Folio> {
  const index = Math.floor(pos / PAGE_SIZE);
  const count = Math.ceil((pos + length) / PAGE_SIZE) - index;
  const { ra, nowait, dontcache } = options;
  for (;;) {
    let folio = mapping.find(pos);
    if (folio === undefined) {
      if (nowait) throw new FsError('EAGAIN', 'read');
      yield* wait(mapping.invalidateLock.lockShared());
      try {
        yield* wait(syncReadahead(mapping, ra, index, count, dontcache));
        folio = mapping.find(pos);
        if (folio === undefined) {
          const made = mapping.tryCreateOrder(index, mapping.orderMin, true);
          if (made !== undefined) {
            if (dontcache) made.setDropbehind(true);
            yield* readFolio(mapping, made);
            continue;
          }
        }
      } finally {
        mapping.invalidateLock.unlockShared();
      }
      if (folio === undefined) {
        // Another task may have put it in meanwhile; otherwise it is memory that is missing.
        if (mapping.find(pos) === undefined) yield* wait(mapping.cache.waitForMemory(mapping.orderMin));
        continue;
      }
    }
    folio.get();
    // A reader that would have to wait here does without: whoever has the lock exclusively may wait for the memory that this one holds.
    if (folio.isReadaheadMark && !nowait && mapping.invalidateLock.tryLockShared()) {
      try {
        yield* wait(asyncReadahead(mapping, ra, folio, count, dontcache));
      } catch (error) {
        folio.put();
        throw error;
      } finally {
        mapping.invalidateLock.unlockShared();
      }
    }
    const offset = pos - folio.pos;
    const wanted = Math.min(length, folio.size - offset);
    if (isValid(mapping, folio, offset, wanted)) return folio;
    if (nowait) {
      folio.put();
      throw new FsError('EAGAIN', 'read');
    }
    // A read may be running: its end unlocks the folio.
    if (folio.isLocked) {
      yield* wait(folio.lock());
      folio.unlock();
      if (folio.mapping === mapping && isValid(mapping, folio, offset, wanted)) return folio;
    }
    if (!mapping.invalidateLock.tryLockShared()) {
      folio.put(); // for the same reason
      yield* wait(mapping.invalidateLock.lockShared());
      mapping.invalidateLock.unlockShared();
      continue;
    }
    try {
      yield* wait(folio.lock());
      if (folio.mapping !== mapping) {
        folio.unlock();
        folio.put();
        continue;
      }
      if (isValid(mapping, folio, offset, wanted)) {
        folio.unlock();
        return folio;
      }
      yield* readFolio(mapping, folio, true);
    } finally {
      mapping.invalidateLock.unlockShared();
    }
    if (isValid(mapping, folio, offset, wanted)) return folio;
    const gone = folio.mapping !== mapping;
    folio.put();
    if (!gone) throw new FsError('EIO', 'read', { detail: `byte ${pos}` });
  }
}

/** Has a locked folio filled and waits until it is unlocked. Puts it unless `keep`, and when it throws. */
function* readFolio(mapping: AddressSpace, folio: Folio, keep = false): Task<void> {
  const { readFolio: fill } = mapping.ops;
  if (fill === undefined) {
    folio.unlock();
  } else {
    try {
      yield* wait(fill(mapping, folio));
    } catch (error) {
      folio.put();
      throw error;
    }
    if (folio.isLocked) {
      yield* wait(folio.lock());
      folio.unlock();
    }
  }
  const failed = !folio.isUptodate && folio.mapping === mapping;
  if (keep) return;
  folio.put();
  if (failed) throw new FsError('EIO', 'read', { detail: `byte ${folio.pos}` });
}

/** The whole folio at `pos`, read if need be, uptodate, locked and held. For callers that store into it (mapped views). Errors: EIO, EFAULT past the end. */
export function* lockUptodateFolio(mapping: AddressSpace, pos: number, ra: ReadaheadState): Task<Folio> {
  for (;;) {
    // The rest of the last page can be used, as by any mmap; it is not part of the file.
    if (pos >= roundUp(mapping.host.size, PAGE_SIZE))
      throw new FsError('EFAULT', 'mmap', { detail: `byte ${pos} is past the end of the file` });
    const seen = mapping.find(pos);
    const start = seen?.pos ?? pos;
    const held = yield* getUptodate(mapping, start, seen === undefined ? 1 : seen.size, { ra, nowait: false, dontcache: false });
    yield* wait(held.lock());
    if (held.mapping === mapping && held.isUptodate && pos < held.end) {
      held.setDropbehind(false);
      return held;
    }
    held.unlock();
    held.put();
  }
}
