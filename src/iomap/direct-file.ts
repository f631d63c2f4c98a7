import { FsError, hasCode } from '../base/fs-error.ts';
import type { IovIter } from '../base/iov-iter.ts';
import { checkPosition } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import {
  type DirectOps,
  type DirectOptions,
  directIo,
  IOMAP_DIO_FORCE_WAIT,
  IOMAP_DIO_OVERWRITE_ONLY,
  IOMAP_DIO_PARTIAL,
} from './direct-io.ts';
import type { IomapOps } from './hooks.ts';
import { IOCB_APPEND, IOCB_ATOMIC, IOCB_NOAPPEND, IOCB_NOWAIT, type Iocb } from './iocb.ts';
import { dropPastEnd } from './isize.ts';

// Whole read and write calls past the cache: locks, the end of the file, and what is left to the cache.

/** What a whole direct call needs beside the mappings. */
export interface DirectFileIo extends DirectOptions {
  readonly ops: IomapOps;
  /** For writes. */
  readonly dops?: DirectOps;
  /** For reads. Without it small ones take the short way. */
  readonly readDops?: DirectOps;
  /** IOMAP_DIO_* for every request. */
  readonly dioFlags?: number;
  /** Before data is changed, with the inode lock held: removes set-id bits, updates times. */
  readonly prepare?: () => MaybePromise<void>;
  /**
   * Makes the range between the old end of the file and a write past it read as zeros, with the inode lock held exclusively and no direct
   * I/O in flight: zeroRange, where the file is cached too. Default: the folio with the old end is written, which zeroes what is past the
   * end in it; that does where storage past the end is always zeros, also after a write past the end that failed.
   */
  readonly zeroGap?: (start: number, end: number) => MaybePromise<void>;
  /** Reads, or writes, what direct I/O left over, through the cache: takes its own locks and moves iocb.pos. Default: nobody does. */
  readonly bufferedRead?: (iocb: Iocb, iov: IovIter) => MaybePromise<number>;
  readonly bufferedWrite?: (iocb: Iocb, source: IovIter) => MaybePromise<number>;
}

/**
 * One read call past the cache.
 *
 * Order:   inode lock shared, direct read, lock off, the rest through the cache.
 * Shape:   bytes read; iocb.pos and `iov` move by as many.
 * Errors:  those of directIo; EAGAIN under IOCB_NOWAIT where a lock is taken.
 */
export function directRead(iocb: Iocb, inode: Inode, iov: IovIter, io: DirectFileIo): MaybePromise<number> {
  checkPosition('read', iocb.pos);
  return iov.count === 0 ? 0 : run(read(iocb, inode, iov, io));
}

function* read(iocb: Iocb, inode: Inode, iov: IovIter, io: DirectFileIo): Task<number> {
  const { ops, readDops, dioFlags = 0 } = io;
  yield* lock(iocb, inode, false, 'read');
  let direct: number;
  let isDone: boolean;
  try {
    direct = yield* wait(directIo(iocb, inode, iov, false, ops, readDops, dioFlags, io));
    isDone = iov.count === 0 || iocb.pos >= inode.size;
  } finally {
    inode.lock.unlockShared();
  }
  if (isDone || !mayGoOn(iocb, io, direct, io.bufferedRead !== undefined, 'read')) return direct;
  try {
    return direct + (yield* wait((io.bufferedRead as NonNullable<typeof io.bufferedRead>)(iocb, iov)));
  } catch (error) {
    if (direct > 0 && error instanceof FsError) return direct;
    throw error;
  }
}

/**
 * One write call past the cache.
 *
 * Order:   freeze lock shared. Inside the file: inode lock shared, as an overwrite; where that does not do (EAGAIN), and past the end, the
 *          inode lock exclusive. A write of parts of blocks under the exclusive lock waits until no other direct I/O is in flight: the
 *          zeros that two of them put around their data would collide. Locks off; what is left goes through the cache, is written back
 *          and dropped from it, so that it is where the caller wants it.
 * Shape:   bytes written, short at the largest file size; iocb.pos and `iov` move by as many.
 * Errors:  those of directIo; EFBIG at the largest file size; EAGAIN under IOCB_NOWAIT where something would have to be waited for;
 *          ENOTBLK where nothing could be done past the cache and there is no way through it.
 */
export function directWrite(iocb: Iocb, inode: Inode, iov: IovIter, io: DirectFileIo): MaybePromise<number> {
  checkPosition('write', iocb.pos);
  if (iov.count === 0) return 0;
  inode.checkGood('write');
  return run(write(iocb, inode, iov, io));
}

function* write(iocb: Iocb, inode: Inode, iov: IovIter, io: DirectFileIo): Task<number> {
  const { freezeWrite } = inode.sb;
  if (!freezeWrite.tryLockShared()) {
    if ((iocb.flags & IOCB_NOWAIT) !== 0) throw new FsError('EAGAIN', 'write');
    yield* wait(freezeWrite.lockShared());
  }
  let direct: number;
  try {
    direct = yield* writeLocked(iocb, inode, iov, io);
  } finally {
    freezeWrite.unlockShared();
  }
  if (iov.count === 0 || iocb.pos >= inode.sizeMax) return direct;
  if (!mayGoOn(iocb, io, direct, io.bufferedWrite !== undefined, 'write')) return direct;
  return yield* writeRest(iocb, inode, iov, io.bufferedWrite as NonNullable<typeof io.bufferedWrite>, direct);
}

/** Is the rest of a short request for the cache? Throws where the answer is no and nothing was done: 0 would be taken for the end of the file. */
function mayGoOn(iocb: Iocb, io: DirectFileIo, direct: number, hasWay: boolean, syscall: string): boolean {
  if (((io.dioFlags ?? 0) & IOMAP_DIO_PARTIAL) !== 0) return false; // it was the memory that ended
  if ((iocb.flags & IOCB_NOWAIT) === 0 && (iocb.flags & IOCB_ATOMIC) === 0 && hasWay) return true;
  if (direct > 0) return false;
  if ((iocb.flags & IOCB_NOWAIT) !== 0) throw new FsError('EAGAIN', syscall);
  throw new FsError('ENOTBLK', syscall, { detail: 'the filesystem cannot do this past the cache' });
}

function* writeLocked(iocb: Iocb, inode: Inode, iov: IovIter, io: DirectFileIo): Task<number> {
  const { ops, dops, dioFlags = 0 } = io;
  const isAppend = (iocb.flags & (IOCB_APPEND | IOCB_NOAPPEND)) === IOCB_APPEND;
  const nowait = (iocb.flags & IOCB_NOWAIT) !== 0;
  if (!isAppend && iocb.pos + iov.count <= inode.size) {
    yield* lock(iocb, inode, false, 'write');
    try {
      // The file may have been cut while we waited.
      if (iocb.pos + iov.count <= inode.size) {
        if (io.prepare !== undefined) yield* wait(io.prepare());
        const flags = dioFlags | IOMAP_DIO_OVERWRITE_ONLY | forceWait(iocb.pos, iov.count, inode);
        return yield* wait(directIo(iocb, inode, iov, true, ops, dops, flags, io));
      }
    } catch (error) {
      if (nowait || !hasCode(error, 'EAGAIN')) throw error;
    } finally {
      inode.lock.unlockShared();
    }
  }

  yield* lock(iocb, inode, true, 'write');
  try {
    if (isAppend) iocb.pos = inode.size;
    const { pos } = iocb;
    const cut = Math.max(0, iov.count - (inode.sizeMax - pos));
    if (pos >= inode.sizeMax || (cut > 0 && (iocb.flags & IOCB_ATOMIC) !== 0)) {
      throw new FsError('EFBIG', 'write', { detail: `${iov.count} bytes at ${pos}` });
    }
    const flags = dioFlags | forceWait(pos, iov.count, inode);
    const collides = (flags & IOMAP_DIO_FORCE_WAIT) !== 0 || pos > inode.size;
    if (collides && inode.dioCount > 0) {
      if (nowait) throw new FsError('EAGAIN', 'write');
      yield* wait(inode.dioWait());
    }
    if (io.prepare !== undefined) yield* wait(io.prepare());
    if (pos > inode.size) yield* prepareGap(inode, pos, nowait, io);
    iov.truncate(iov.count - cut);
    try {
      return yield* wait(directIo(iocb, inode, iov, true, ops, dops, flags, io));
    } finally {
      iov.reexpand(iov.count + cut);
      if (!nowait) yield* wait(dropPastEnd(inode, pos)); // under NOWAIT nothing was zeroed
    }
  } finally {
    inode.lock.unlock();
  }
}

/** Parts of blocks: the lock is held until the zeros around them are written too. */
function forceWait(pos: number, length: number, inode: Inode): number {
  return pos % inode.blockSize === 0 && length % inode.blockSize === 0 ? 0 : IOMAP_DIO_FORCE_WAIT;
}

/** What a mapped view stored behind the old end must not become part of the file. */
function* prepareGap(inode: Inode, pos: number, nowait: boolean, io: DirectFileIo): Task<void> {
  const { mapping, size } = inode;
  if (io.zeroGap === undefined && !mapping.needsWriteback(size, pos)) return;
  if (nowait) throw new FsError('EAGAIN', 'write');
  yield* wait(mapping.invalidateLock.lock()); // as in every zeroing: the filesystem may count on it
  try {
    yield* wait(io.zeroGap === undefined ? mapping.writeAndWait(size, pos) : io.zeroGap(size, pos));
  } catch (error) {
    yield* wait(dropPastEnd(inode, pos));
    throw error;
  } finally {
    mapping.invalidateLock.unlock();
  }
}

/** Writes through the cache what direct I/O left over, and makes it look as if direct I/O had done it. */
function* writeRest(
  iocb: Iocb,
  inode: Inode,
  iov: IovIter,
  bufferedWrite: NonNullable<DirectFileIo['bufferedWrite']>,
  direct: number,
): Task<number> {
  const { pos } = iocb;
  const { mapping } = inode;
  let buffered = 0;
  try {
    buffered = yield* wait(bufferedWrite(iocb, iov));
    // Ranges are half open: if the cache took nothing, nothing is written, and nothing dropped below.
    yield* wait(mapping.writeAndWait(iocb.pos - buffered, iocb.pos));
  } catch (error) {
    // How much of it is on storage is not known: only what went there directly counts.
    iov.revert(buffered);
    iocb.pos = pos;
    if (direct > 0 && error instanceof FsError) return direct;
    throw error;
  }
  try {
    yield* wait(mapping.invalidateRange(iocb.pos - buffered, iocb.pos));
  } catch (error) {
    if (!hasCode(error, 'EBUSY')) throw error; // still in use: it stays cached, and true
  }
  return direct + buffered;
}

function* lock(iocb: Iocb, inode: Inode, exclusive: boolean, syscall: string): Task<void> {
  if (exclusive ? inode.lock.tryLock() : inode.lock.tryLockShared()) return;
  if ((iocb.flags & IOCB_NOWAIT) !== 0) throw new FsError('EAGAIN', syscall);
  yield* wait(exclusive ? inode.lock.lock() : inode.lock.lockShared());
}
