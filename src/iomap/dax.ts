import { type AbortSignalLike, checkAborted } from '../base/abort.ts';
import { assert } from '../base/assert.ts';
import { errnoOf, FsError } from '../base/fs-error.ts';
import type { IovIter } from '../base/iov-iter.ts';
import { checkPosition, checkRange, roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { DaxDevice } from '../block/dax-device.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import { daxDeviceOf, fillBlocks, fillEdges, isShared, poisonAsEio, readsAsZeros, writableDeviceOf, zeroMemory } from './dax-cow.ts';
import { DaxEntries, readableMemory } from './dax-entries.ts';
import type { IomapOps } from './hooks.ts';
import { IOCB_ATOMIC, IOCB_NOWAIT, type Iocb } from './iocb.ts';
import { IOMAP_DAX, IOMAP_F_NEW, IOMAP_F_SHARED, IOMAP_HOLE, IOMAP_NOWAIT, IOMAP_UNSHARE, IOMAP_WRITE, IOMAP_ZERO } from './iomap.ts';
import { IomapIter } from './iter.ts';
import { traceZeroRange } from './trace.ts';

// File I/O on a byte-addressable device: no cache, the device's memory is the file.
//
// Stores of these operations are durable when they return, and before end() commits the blocks that they went to; stores through mapped
// views are durable after daxWriteback(). Faults are in dax-fault.ts.

/**
 * Reads or writes at iocb.pos.
 *
 * Shape:   bytes, if any; iocb.pos and `iov` move by as many. Reads end at i_size; who writes past it raises it afterwards, under the
 *          inode lock. After an error in the middle of blocks that are new or were shared, only whole blocks count.
 * Blocks:  where begin and end do; never for faults of mapped views. EAGAIN under IOCB_NOWAIT instead.
 * Locks:   the caller holds the inode lock: shared to read, exclusively to write.
 * Errors:  EIO for poison, for mappings that cannot be written by DAX, and for IOCB_ATOMIC; those of the hooks.
 * Source:  Linux fs/dax.c, dax_iomap_rw.
 */
export function daxRw(iocb: Iocb, inode: Inode, iov: IovIter, isWrite: boolean, ops: IomapOps): MaybePromise<number> {
  const syscall = isWrite ? 'write' : 'read';
  checkPosition(syscall, iocb.pos);
  if ((iocb.flags & IOCB_ATOMIC) !== 0) throw new FsError('EIO', syscall, { detail: 'no atomic writes by DAX' });
  if (isWrite) checkRange(syscall, iocb.pos, iov.count, inode.sizeMax);
  const length = isWrite ? iov.count : Math.min(iov.count, inode.size - iocb.pos);
  if (length <= 0) return 0;
  return run(rw(iocb, inode, iov, length, isWrite, ops));
}

function* rw(iocb: Iocb, inode: Inode, iov: IovIter, length: number, isWrite: boolean, ops: IomapOps): Task<number> {
  const flags = IOMAP_DAX | (isWrite ? IOMAP_WRITE : 0) | ((iocb.flags & IOCB_NOWAIT) !== 0 ? IOMAP_NOWAIT : 0);
  const iter = new IomapIter(inode, ops, iocb.pos, length, flags, iocb.private);
  const doneBefore = iov.done;
  let failure: unknown;
  try {
    yield* eachDax(iter, () => (isWrite ? writeMapping(iter, iov, iocb.signal) : readMapping(iter, iov, iocb.signal)));
  } catch (error) {
    failure = error;
  }
  // Bytes whose commit failed in end() do not count, although they were copied: the iterator went back, the buffers follow.
  const bytes = iter.pos - iocb.pos;
  iov.revert(iov.done - doneBefore - bytes);
  iocb.pos = iter.pos;
  if (bytes === 0 && failure !== undefined) throw failure;
  return bytes;
}

function readMapping(iter: IomapIter, iov: IovIter, signal: AbortSignalLike | undefined): void {
  const { iomap } = iter;
  if (readsAsZeros(iomap)) {
    iov.zero(iter.usableLength());
    iter.advanceFull();
    return;
  }
  const daxDev = daxDeviceOf(iter, iomap, 'read');
  while (iter.length > 0 && iter.usableLength() > 0) {
    checkAborted(signal, 'read');
    const copied = iov.copyFrom(readableMemory(daxDev, iomap.addrOf(iter.pos), iter.usableLength(), 'read'));
    iter.advance(copied);
  }
}

function writeMapping(iter: IomapIter, iov: IovIter, signal: AbortSignalLike | undefined): void {
  const { pos, iomap } = iter;
  const length = iter.usableLength();
  const daxDev = writableDeviceOf(iter, 'write');
  if (isShared(iomap)) fillEdges(iter, pos, pos + length);
  let done = 0;
  try {
    while (done < length) {
      checkAborted(signal, 'write');
      done += storeRun(daxDev, iomap.addrOf(pos + done), iov, length - done);
    }
  } finally {
    // A block that is only half written must not become the file's: neither its old bytes nor all of the new ones are in it.
    const isFresh = (iomap.flags & (IOMAP_F_NEW | IOMAP_F_SHARED)) !== 0;
    const whole = done === length || !isFresh ? done : Math.max(0, roundDown(pos + done, iter.inode.blockSize) - pos);
    iter.advance(whole);
  }
}

/** Stores bytes of `iov` to one run of device memory, durably; over poison by the device's recovery write, page by page. */
function storeRun(daxDev: DaxDevice, addr: number, iov: IovIter, length: number): number {
  const count = daxDev.contiguous(addr, length);
  if (count > 0) {
    iov.copyTo(daxDev.bytes(addr, count), 0, count);
    daxDev.flush(addr, count);
    return count;
  }
  const bytes = new Uint8Array(Math.min(length, daxDev.pageSize - (addr % daxDev.pageSize)));
  iov.copyTo(bytes, 0, bytes.length);
  try {
    daxDev.recoveryWrite(addr, bytes);
  } catch (error) {
    iov.revert(bytes.length);
    throw poisonAsEio(error, 'write');
  }
  return bytes.length;
}

/**
 * Makes the bytes [pos, pos + length) read as zeros without allocating and without changing i_size.
 *
 * Shape:   true if any byte was zeroed on the device; holes and unwritten ranges are zeros already.
 * Locks:   the caller holds the inode lock exclusively.
 * Errors:  EINVAL, EFBIG, EOVERFLOW for the range; EIO for a page that is poisoned and zeroed only in part; those of the hooks.
 */
export function daxZeroRange(inode: Inode, pos: number, length: number, ops: IomapOps): MaybePromise<boolean> {
  checkRange('fallocate', pos, length, inode.sizeMax);
  if (length === 0) return false;
  if (traceZeroRange.channel.hasSubscribers) traceZeroRange.channel.publish({ ino: inode.ino, pos, length });
  return run(zero(new IomapIter(inode, ops, pos, length, IOMAP_DAX | IOMAP_ZERO)));
}

function* zero(iter: IomapIter): Task<boolean> {
  let didZero = false;
  yield* eachDax(iter, () => {
    const { source, iomap, pos } = iter;
    const length = iter.usableLength();
    if (!readsAsZeros(source)) {
      const daxDev = writableDeviceOf(iter, 'fallocate');
      if (isShared(iomap)) fillEdges(iter, pos, pos + length);
      zeroMemory(daxDev, iomap.addrOf(pos), length, 'fallocate');
      didZero = true;
    }
    iter.advance(length);
  });
  return didZero;
}

/** Zeroes from `pos` to the end of its block; nothing where `pos` is on a block boundary. As daxZeroRange otherwise. */
export function daxTruncatePage(inode: Inode, pos: number, ops: IomapOps): MaybePromise<boolean> {
  checkPosition('truncate', pos);
  const end = roundUp(pos, inode.blockSize);
  return end === pos ? false : daxZeroRange(inode, pos, end - pos, ops);
}

/**
 * Gives the file blocks of its own for [pos, pos + length): whole blocks are copied to where end() then lets them live. What is not
 * shared, and what lies past the end of the file, is not touched.
 *
 * Locks:   the caller holds the inode lock and the invalidate lock exclusively.
 * Errors:  EIO for poison in the shared data; those of the hooks.
 */
export function daxUnshare(inode: Inode, pos: number, length: number, ops: IomapOps): MaybePromise<void> {
  checkRange('fallocate', pos, length);
  const end = Math.min(pos + length, inode.size);
  if (pos >= end) return;
  const iter = new IomapIter(inode, ops, pos, end - pos, IOMAP_DAX | IOMAP_WRITE | IOMAP_UNSHARE);
  return run(
    eachDax(iter, () => {
      const { iomap, srcmap, pos } = iter;
      const length = iter.usableLength();
      // A source that reads as zeros is zeroed, not skipped: end() is going to use the new blocks for all that was advanced over.
      if (isShared(iomap) && srcmap.type !== IOMAP_HOLE) fillBlocks(iter, pos, pos + length);
      iter.advance(length);
    }),
  );
}

/** What daxDedupeCompare found. */
export interface DaxComparison {
  readonly same: boolean;
  /** Bytes from the start that are equal: all of them, or those before the first difference. */
  readonly length: number;
}

/**
 * Compares [pos, pos + length) of one file with [otherPos, otherPos + length) of another, or of the same. Reads only.
 *
 * Locks:   the caller holds both inode locks and both invalidate locks.
 * Errors:  EIO for poison; those of the hooks.
 */
export function daxDedupeCompare(
  inode: Inode,
  pos: number,
  other: Inode,
  otherPos: number,
  length: number,
  ops: IomapOps,
): MaybePromise<DaxComparison> {
  checkRange('dedupe', pos, length);
  checkRange('dedupe', otherPos, length);
  return run(compare(inode, pos, other, otherPos, length, ops));
}

function* compare(inode: Inode, pos: number, other: Inode, otherPos: number, length: number, ops: IomapOps): Task<DaxComparison> {
  const left = new IomapIter(inode, ops, pos, length, IOMAP_DAX);
  yield* left.each(() => {
    const right = new IomapIter(other, ops, otherPos + (left.pos - pos), left.usableLength(), IOMAP_DAX);
    return run(right.each(() => compareMappings(left, right)));
  });
  return { same: left.length === 0, length: left.pos - pos };
}

/** Advances both over the bytes that are equal. A difference stops both walks: the next mapping then moves nothing. */
function compareMappings(left: IomapIter, right: IomapIter): void {
  while (right.length > 0 && right.usableLength() > 0) {
    const length = right.usableLength();
    const a = comparable(left, length);
    const b = comparable(right, length);
    // Zeros on a device and a hole read the same, but one has blocks to share and the other has none.
    if ((a === undefined) !== (b === undefined)) return;
    const count = Math.min(a?.length ?? length, b?.length ?? length);
    const equal = a === undefined || b === undefined ? count : equalPrefix(a, b, count);
    left.advance(equal);
    right.advance(equal);
    if (equal < count) return;
  }
}

/** The memory at the iterator's position, or undefined where there are only zeros. */
function comparable(iter: IomapIter, length: number): Uint8Array | undefined {
  const { iomap, pos } = iter;
  return readsAsZeros(iomap) ? undefined : readableMemory(daxDeviceOf(iter, iomap, 'dedupe'), iomap.addrOf(pos), length, 'dedupe');
}

function equalPrefix(a: Uint8Array, b: Uint8Array, length: number): number {
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return at;
  return length;
}

/**
 * Makes what mapped views stored to [start, end) durable; their next store to each page asks the filesystem again.
 *
 * Blocks:  never.
 * Errors:  EIO unless blocks are pages; those of the device, which are also recorded on the file for fsync of each opener. What failed
 *          stays dirty and is tried again.
 */
export function daxWriteback(inode: Inode, start = 0, end: number = Number.POSITIVE_INFINITY): void {
  const entries = DaxEntries.of(inode);
  if (inode.blockSize !== PAGE_SIZE) throw new FsError('EIO', 'fsync', { detail: `DAX writeback with blocks of ${inode.blockSize} bytes` });
  try {
    entries.writeback(start, end);
  } catch (error) {
    inode.setError(errnoOf(error));
    throw error;
  }
}

/**
 * Before the blocks of [start, end) are freed or moved: takes them away from all mapped views and waits until nobody has them pinned.
 *
 * Locks:   the caller holds the inode lock, and the mapping's invalidate lock exclusively. The latter is let go of while this waits, since
 *          whoever pinned memory may have to fault before it lets go; what the caller knows of the file's blocks is to be asked again.
 */
export function daxBreakLayouts(inode: Inode, start: number, end: number): MaybePromise<void> {
  return run(breakLayouts(inode, start, end));
}

function* breakLayouts(inode: Inode, start: number, end: number): Task<void> {
  const entries = DaxEntries.of(inode);
  const { invalidateLock } = inode.mapping;
  assert(invalidateLock.isExclusive, 'layouts are broken under the invalidate lock');
  for (;;) {
    entries.drop(start, end);
    if (!entries.isPinned(start, end)) return;
    invalidateLock.unlock();
    yield entries.waitUnpin();
    yield* wait(invalidateLock.lock());
  }
}

/**
 * Runs `body` on each mapping. Where begin() gave the file new blocks (NEW, SHARED), mapped views lose their entries twice: before the
 * stores, so that nothing more goes through them to old blocks or to the zero page; and after end(), since a fault in between may
 * still have been answered with the old blocks.
 */
function* eachDax(iter: IomapIter, body: () => void): Task<void> {
  const entries = DaxEntries.of(iter.inode);
  const unit = Math.max(iter.inode.blockSize, PAGE_SIZE);
  let start = Number.POSITIVE_INFINITY;
  let end = 0;
  try {
    yield* iter.each(() => {
      if ((iter.flags & (IOMAP_WRITE | IOMAP_ZERO)) !== 0 && (iter.iomap.flags & (IOMAP_F_NEW | IOMAP_F_SHARED)) !== 0) {
        const from = roundDown(iter.pos, unit);
        const to = roundUp(iter.pos + iter.usableLength(), unit);
        entries.drop(from, to);
        start = Math.min(start, from);
        end = Math.max(end, to);
      }
      body();
    });
  } finally {
    entries.drop(start, end);
  }
}
