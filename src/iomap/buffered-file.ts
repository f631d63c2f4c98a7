import { FsError } from '../base/fs-error.ts';
import type { WriteSource } from '../base/iov-iter.ts';
import { checkPosition } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import { bufferedWrite, checkWriteFlags, type WriteStrategy } from './buffered-write.ts';
import { IOCB_APPEND, IOCB_DSYNC, IOCB_NOAPPEND, IOCB_NOWAIT, IOCB_SYNC, type Iocb } from './iocb.ts';
import { dropPastEnd } from './isize.ts';
import type { WriteIo } from './write-begin.ts';
import { zeroRange } from './zero-range.ts';

/** What a whole write call needs beside the hooks. */
export interface FileWriteOptions {
  /** Makes [start, end) durable: after IOCB_DSYNC (`datasync`) and IOCB_SYNC writes. */
  readonly sync?: (start: number, end: number, datasync: boolean) => MaybePromise<void>;
  /** Before data is changed, with the inode lock held: removes set-id bits, updates times. */
  readonly prepare?: () => MaybePromise<void>;
  readonly strategy?: WriteStrategy;
}

/**
 * One write call on a file whose data is cached here: the answer of write(2).
 *
 * Order:   freeze lock shared, inode lock exclusive; position of an append; zeroing between the old end and a position past it; the
 *          write; locks off; sync where the call asks for it.
 * Shape:   bytes accepted; short at the largest file size. iocb.pos moves by as many.
 * Errors:  EFBIG at the largest file size; EAGAIN under IOCB_NOWAIT where any lock, zeroing or folio would have to be waited for.
 */
export function bufferedFileWrite(
  iocb: Iocb,
  inode: Inode,
  source: WriteSource,
  io: WriteIo,
  options: FileWriteOptions = {},
): MaybePromise<number> {
  checkPosition('write', iocb.pos);
  if (source.count === 0) return 0;
  checkWriteFlags(iocb, inode); // before the gap is zeroed: it has no side effect
  inode.checkGood('write');
  const { freezeWrite } = inode.sb;
  const isPlain = iocb.flags === 0 && options.prepare === undefined && iocb.pos <= inode.size && source.count <= inode.sizeMax - iocb.pos;
  if (isPlain && freezeWrite.tryLockShared()) {
    if (inode.lock.tryLock()) return lockedWrite(iocb, inode, source, io, options);
    freezeWrite.unlockShared();
  }
  return run(fileWrite(iocb, inode, source, io, options));
}

/** The write itself, with both locks held, and nothing else that the call asks for. */
function lockedWrite(iocb: Iocb, inode: Inode, source: WriteSource, io: WriteIo, options: FileWriteOptions): MaybePromise<number> {
  const unlock = (): void => {
    inode.lock.unlock();
    inode.sb.freezeWrite.unlockShared();
  };
  let written: MaybePromise<number>;
  try {
    written = bufferedWrite(iocb, inode, source, io, options.strategy);
  } catch (error) {
    unlock();
    throw error;
  }
  if (isPromise(written)) return (written as Promise<number>).finally(unlock);
  unlock();
  return written;
}

function* fileWrite(iocb: Iocb, inode: Inode, source: WriteSource, io: WriteIo, options: FileWriteOptions): Task<number> {
  const nowait = (iocb.flags & IOCB_NOWAIT) !== 0;
  const { freezeWrite } = inode.sb;
  if (!freezeWrite.tryLockShared()) {
    if (nowait) throw new FsError('EAGAIN', 'write');
    yield* wait(freezeWrite.lockShared());
  }
  let written: number;
  let start: number;
  try {
    if (!inode.lock.tryLock()) {
      if (nowait) throw new FsError('EAGAIN', 'write');
      yield* wait(inode.lock.lock());
    }
    try {
      if ((iocb.flags & (IOCB_APPEND | IOCB_NOAPPEND)) === IOCB_APPEND) iocb.pos = inode.size;
      start = iocb.pos;
      if (start >= inode.sizeMax) throw new FsError('EFBIG', 'write', { detail: `position ${start}` });
      if (nowait && start > inode.size) throw new FsError('EAGAIN', 'write');
      const prepared = options.prepare?.();
      if (isPromise(prepared)) {
        if (nowait) {
          prepared.catch(() => {}); // it ends by itself
          throw new FsError('EAGAIN', 'write');
        }
        yield prepared;
      }
      const limited = source.count > inode.sizeMax - start ? new LimitedSource(source, inode.sizeMax - start) : source;
      try {
        if (start > inode.size) yield* zeroGap(inode, start, io);
        written = yield* wait(bufferedWrite(iocb, inode, limited, io, options.strategy));
      } finally {
        yield* wait(dropPastEnd(inode, start));
      }
    } finally {
      inode.lock.unlock();
    }
  } finally {
    freezeWrite.unlockShared();
  }
  if (written > 0 && (iocb.flags & (IOCB_DSYNC | IOCB_SYNC)) !== 0 && options.sync !== undefined) {
    yield* wait(options.sync(start, start + written, (iocb.flags & IOCB_SYNC) === 0));
  }
  return written;
}

/** Zeroes from i_size to the start of a write past it. */
function* zeroGap(inode: Inode, start: number, io: WriteIo): Task<void> {
  yield* wait(inode.dioWait());
  const { invalidateLock } = inode.mapping;
  yield* wait(invalidateLock.lock());
  try {
    yield* wait(zeroRange(inode, inode.size, start - inode.size, io));
  } finally {
    invalidateLock.unlock();
  }
}

/** The first `count` bytes of another source. */
class LimitedSource implements WriteSource {
  readonly #source: WriteSource;
  count: number;

  constructor(source: WriteSource, count: number) {
    this.#source = source;
    this.count = count;
  }

  faultIn(length: number): MaybePromise<number> {
    return this.#source.faultIn(Math.min(length, this.count));
  }

  copyTo(into: Uint8Array, at: number, length: number): number {
    const copied = this.#source.copyTo(into, at, Math.min(length, this.count));
    this.count -= copied;
    return copied;
  }

  revert(length: number): void {
    this.#source.revert(length);
    this.count += length;
  }
}
