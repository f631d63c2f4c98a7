import type { AbortSignalLike } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import type { WriteSource } from '../base/iov-iter.ts';
import { checkRange, roundDown } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import { isBlockUptodate, markDirty, markUptodate } from './folio-state.ts';
import type { WriteOps } from './hooks.ts';
import { IOCB_ATOMIC, IOCB_DONTCACHE, IOCB_NOWAIT, type Iocb } from './iocb.ts';
import { IOMAP_DONTCACHE, IOMAP_F_SIZE_CHANGED, IOMAP_INLINE, IOMAP_NOWAIT, IOMAP_WRITE, type Iomap } from './iomap.ts';
import { isizeExtended, writeFailed } from './isize.ts';
import { IomapIter, iterate } from './iter.ts';
import { needsZeroing } from './read-range.ts';
import { traceWrite } from './trace.ts';
import { isWritable, putFolio, type WriteIo, writeBegin, writeEnd, writeOpsOf } from './write-begin.ts';

/**
 * What a kind of write does beside copying: the plain one nothing, since writeback sends what it leaves dirty; write-through sends each
 * folio as it goes. One loop serves both.
 */
export interface WriteStrategy {
  /** Operation flags beside IOMAP_WRITE. */
  readonly flags?: number;
  /** Before anything that may wait while nothing is locked (throttling, reading the source): nothing unsent may be held here. */
  beforeWait?(iter: IomapIter): MaybePromise<void>;
  /** After `written` bytes at `pos` are valid and dirty, with the folio still locked. */
  afterWriteEnd?(iter: IomapIter, folio: Folio, pos: number, written: number): MaybePromise<void>;
  /** At the end of every mapping. */
  afterMapping?(iter: IomapIter): MaybePromise<void>;
  /** False: i_size is raised by whoever completes the write, not by the loop. */
  readonly raisesSize?: boolean;
}

const PLAIN: WriteStrategy = {};

/**
 * Copies `source` into the cache at iocb.pos, to be written back later.
 *
 * Shape:   bytes accepted, more than 0 if any were, whatever stopped it; iocb.pos and i_size move with them.
 * Locks:   the caller holds the inode lock exclusively and has zeroed what lies between i_size and a position past it.
 * Blocks:  for folios, memory, dirty limits, head and tail blocks and what the source waits for; not under IOCB_NOWAIT.
 * Errors:  EOPNOTSUPP for IOCB_ATOMIC; EFBIG, EOVERFLOW, EINVAL for the range; EAGAIN under IOCB_NOWAIT; EFAULT for a source that
 *          cannot be read; EINTR; those of the hooks.
 */
export function bufferedWrite(
  iocb: Iocb,
  inode: Inode,
  source: WriteSource,
  io: WriteIo,
  strategy: WriteStrategy = PLAIN,
): MaybePromise<number> {
  checkWriteFlags(iocb, inode);
  const length = source.count;
  checkRange('write', iocb.pos, length, inode.sizeMax);
  if (length === 0) return 0;
  let flags = IOMAP_WRITE | (strategy.flags ?? 0);
  if ((iocb.flags & IOCB_NOWAIT) !== 0) flags |= IOMAP_NOWAIT;
  if ((iocb.flags & IOCB_DONTCACHE) !== 0) flags |= IOMAP_DONTCACHE;
  if (traceWrite.channel.hasSubscribers) traceWrite.channel.publish({ ino: inode.ino, pos: iocb.pos, length, flags });
  const start = iocb.pos;
  const iter = new IomapIter(inode, io.ops, start, length, flags, io.private);
  const ended = (error?: unknown): number => {
    if (error !== undefined && iter.pos === start) throw error;
    iocb.pos = iter.pos;
    return iter.pos - start;
  };
  const isPlain = strategy === PLAIN && flags === IOMAP_WRITE && source.isResident === true;
  let walk: MaybePromise<void>;
  try {
    walk = iterate(iter, () => {
      if (isPlain) {
        while (tryWriteFolio(iter, source, io, iocb.signal));
        if (iter.usableLength() <= 0) return undefined;
      }
      return run(writeMapping(iter, source, io, strategy, iocb));
    });
  } catch (error) {
    return ended(error);
  }
  return isPromise(walk) ? (walk as Promise<void>).then(() => ended(), ended) : ended();
}

/**
 * Copies into the folio at iter.pos if there is nothing to wait for, to fetch or to decide: the fast path of a plain write from memory.
 *
 * Shape:   false where the slow path has to look at it; nothing was written then.
 */
function tryWriteFolio(iter: IomapIter, source: WriteSource, io: WriteIo, signal: AbortSignalLike | undefined): boolean {
  const { inode, pos, iomap } = iter;
  const { mapping, blockSize } = inode;
  const wops = writeOpsOf(io);
  if (iomap.type === IOMAP_INLINE || iter.source !== iomap || pos > inode.size) return false;
  if (wops.getFolio !== undefined || wops.putFolio !== undefined || signal?.aborted === true) return false;
  const usable = iter.usableLength();
  if (usable <= 0 || mapping.cache.isThrottling(mapping.bdi)) return false;
  void mapping.cache.balanceDirty(mapping); // starts the flusher

  const chunk = PAGE_SIZE * 2 ** mapping.orderMax;
  const wanted = Math.min(chunk - (pos % chunk), usable);
  const folio = mapping.tryGetFolio(pos, wanted, 0);
  if (folio === undefined) return false;
  const offset = pos - folio.pos;
  const bytes = Math.min(wanted, folio.size - offset);
  try {
    if (!isValid(wops, inode, iomap)) return false;
    if (!isWritable(folio, offset, bytes, blockSize) && !tryZeroAround(iter, folio, offset, bytes)) return false;
    source.copyTo(folio.slab, folio.base + offset, bytes);
    markUptodate(folio, offset, bytes);
    markDirty(folio, offset, bytes);
    // Under the folio lock: who sees the new size sees the data.
    if (pos + bytes > inode.size) {
      inode.size = pos + bytes;
      iomap.flags |= IOMAP_F_SIZE_CHANGED;
    }
  } finally {
    folio.unlock();
    folio.put();
  }
  iter.advance(bytes);
  return true;
}

/**
 * Zeroes the rest of the head and the tail block of a write of [offset, offset + length) of the folio, where they are not valid and storage
 * has only zeros for them. The write itself is not to fall short. False, and nothing is changed, where a block has to be read.
 */
function tryZeroAround({ inode, source }: IomapIter, folio: Folio, offset: number, length: number): boolean {
  const { blockSize } = inode;
  const end = offset + length;
  const head = roundDown(offset, blockSize);
  const tail = roundDown(end, blockSize);
  const hasHead = head < offset && !isBlockUptodate(folio, head);
  const hasTail = tail < end && !isBlockUptodate(folio, tail);
  if (hasHead && !needsZeroing(inode, source, folio.pos + head)) return false;
  if (hasTail && !needsZeroing(inode, source, folio.pos + tail)) return false;
  if (hasHead) folio.zero(head, offset);
  if (hasTail) folio.zero(end, tail + blockSize);
  return true;
}

/** False too where the filesystem cannot say: the slow path asks again, and knows what to undo. */
function isValid(wops: WriteOps, inode: Inode, iomap: Iomap): boolean {
  try {
    return wops.iomapValid?.(inode, iomap) !== false;
  } catch {
    return false;
  }
}

/** Errors: EOPNOTSUPP for flags that a write through the cache of this file does not serve. */
export function checkWriteFlags(iocb: Iocb, inode: Inode): void {
  if ((iocb.flags & IOCB_ATOMIC) !== 0) throw new FsError('EOPNOTSUPP', 'write', { detail: 'atomic writes are direct writes' });
  if ((iocb.flags & IOCB_DONTCACHE) !== 0 && !inode.allowsDontcache) throw new FsError('EOPNOTSUPP', 'write', { detail: 'DONTCACHE' });
}

/** Copies into the folios of the current mapping. */
function* writeMapping(iter: IomapIter, source: WriteSource, io: WriteIo, strategy: WriteStrategy, iocb: Iocb): Task<void> {
  const { inode } = iter;
  const { mapping } = inode;
  const wops = writeOpsOf(io);
  const nowait = (iter.flags & IOMAP_NOWAIT) !== 0;
  let chunk = PAGE_SIZE * 2 ** mapping.orderMax;
  let retry = 0; // bytes that were readable when the last copy fell short
  let fruitless = 0; // copies in a row that got nothing
  while (iter.length > 0 && iter.usableLength() > 0) {
    let bytes = Math.min(chunk - (iter.pos % chunk), source.count);
    if (retry > 0) bytes = Math.min(bytes, retry);
    retry = 0;

    if (strategy.beforeWait !== undefined) {
      const sent = strategy.beforeWait(iter);
      if (isPromise(sent)) yield sent;
    }
    const throttled = mapping.cache.balanceDirty(mapping);
    if (throttled !== undefined) {
      if (nowait) throw new FsError('EAGAIN', 'write');
      yield throttled;
    }
    bytes = Math.min(bytes, iter.usableLength());

    // The source may be a view on the folio that is about to be locked: what has to be read of it is read now.
    const readable = source.faultIn(bytes);
    if (isPromise(readable) && nowait) {
      readable.catch(() => {}); // it ends by itself
      throw new FsError('EAGAIN', 'write');
    }
    if ((isPromise(readable) ? yield readable : readable) === 0)
      throw new FsError('EFAULT', 'write', { detail: `source of byte ${iter.pos}` });

    const { pos } = iter;
    let folio: Folio | undefined;
    try {
      const begun = writeBegin(iter, wops, bytes, iocb.signal);
      folio = (isPromise(begun) ? yield begun : begun) as Folio | undefined;
    } catch (error) {
      const cleaned = writeFailed(inode, pos, pos + bytes, nowait);
      if (isPromise(cleaned)) yield cleaned;
      throw error;
    }
    if (folio === undefined) return; // stale

    const offset = pos - folio.pos;
    const end = folio.end;
    bytes = Math.min(bytes, folio.size - offset);
    const oldSize = inode.size;
    let copied = 0;
    let written = 0;
    let failure: unknown;
    try {
      copied = source.copyTo(folio.slab, folio.base + offset, bytes);
      written = writeEnd(iter, folio, pos, bytes, copied);
      // Under the folio lock: who sees the new size sees the data.
      if (pos + written > oldSize && strategy.raisesSize !== false) {
        inode.size = pos + written;
        iter.iomap.flags |= IOMAP_F_SIZE_CHANGED;
      }
      if (written > 0 && strategy.afterWriteEnd !== undefined) {
        const sent = strategy.afterWriteEnd(iter, folio, pos, written);
        if (isPromise(sent)) yield sent;
      }
    } catch (error) {
      failure = error;
    }
    if (written > 0 && (iter.flags & IOMAP_DONTCACHE) !== 0 && folio.isDropbehind) mapping.bdi.wakeFlusherDropbehind(written);
    const put = putFolio(iter, wops, folio, written);
    if (isPromise(put)) yield put;

    if (written > 0 && oldSize < pos) {
      const extended = isizeExtended(inode, oldSize, pos);
      if (isPromise(extended)) yield extended;
    }
    if (written < copied) source.revert(copied - written);
    if (written > 0) iter.advance(written);
    if (failure !== undefined || written === 0) {
      const cleaned = writeFailed(inode, pos + written, Math.min(pos + bytes, end), nowait);
      if (isPromise(cleaned)) yield cleaned;
      if (failure !== undefined) throw failure;
    }
    if (written < bytes) {
      // Less of the source is resident than was asked for: smaller pieces, and what did get copied will be readable again.
      if (chunk > PAGE_SIZE && written === 0) chunk /= 2;
      retry = copied - written;
    }
    fruitless = copied === 0 ? fruitless + 1 : 0;
    if (fruitless > 1) {
      // The source loses its memory between fault-in and copy: let those have a turn who can change that.
      if (nowait) throw new FsError('EAGAIN', 'write');
      yield mapping.cache.clock.yield();
    }
  }
  if (strategy.afterMapping !== undefined) {
    const sent = strategy.afterMapping(iter);
    if (isPromise(sent)) yield sent;
  }
}
