import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { checkRange, roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, type Task, wait } from '../base/task.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import {
  FALLOC_FL_ALLOCATE_RANGE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_ZERO_RANGE,
} from '../vfs/uapi.ts';
import { withLayoutLocked } from './layout-lock.ts';
import { resize, type TruncateOps } from './truncate.ts';
import { unshare } from './unshare.ts';
import { zeroRange } from './zero-range.ts';

// Changing which blocks a file has. Every recipe empties the cache of a range before the blocks below it change, so that no folio
// outlives what it was read from, and zeroes through the cache what is smaller than a block.

/**
 * What fallocate takes of a filesystem. Ranges are whole blocks, hooks are called with the file at rest (withLayoutLocked), and each
 * moves the sequence number behind validityCookie. A hook that is missing makes the operations that need it fail with EOPNOTSUPP.
 */
export interface FallocateOps extends TruncateOps {
  /** Takes the blocks of [start, end) out of the file: a hole remains. */
  freeBlocks?(inode: Inode, start: number, end: number): MaybePromise<void>;
  /** Gives the holes of [start, end) unwritten blocks. Does not change the size. */
  allocateUnwritten?(inode: Inode, start: number, end: number): MaybePromise<void>;
  /** Makes the blocks of [start, end) unwritten; holes may stay. By default they are freed and allocated anew. */
  convertToUnwritten?(inode: Inode, start: number, end: number): MaybePromise<void>;
  /** Moves everything from `from` on so that it begins at `to`; the range it moves over holds no blocks. Does not change the size. */
  shiftExtents?(inode: Inode, from: number, to: number): MaybePromise<void>;
}

/**
 * fallocate(2) by its mode.
 *
 * Errors:  EINVAL for a range that is none; EOPNOTSUPP for modes that are unknown, not served or do not go together; EFBIG past the
 *          largest file; those of the operation.
 */
export function fallocate(inode: Inode, mode: number, offset: number, length: number, ops: FallocateOps): MaybePromise<void> {
  const keepSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  checkAsked(inode, offset, length);
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case FALLOC_FL_ALLOCATE_RANGE:
      return preallocate(inode, offset, length, keepSize, ops);
    case FALLOC_FL_ZERO_RANGE:
      return fallocateZeroRange(inode, offset, length, keepSize, ops);
    case FALLOC_FL_UNSHARE_RANGE:
      return unshareRange(inode, offset, length, keepSize, ops);
    case FALLOC_FL_PUNCH_HOLE:
      if (keepSize) return punchHole(inode, offset, length, ops);
      break;
    case FALLOC_FL_COLLAPSE_RANGE:
      if (!keepSize) return collapseRange(inode, offset, length, ops);
      break;
    case FALLOC_FL_INSERT_RANGE:
      if (!keepSize) return insertRange(inode, offset, length, ops);
      break;
  }
  throw new FsError('EOPNOTSUPP', 'fallocate', { detail: `mode 0x${mode.toString(16)}` });
}

/**
 * Gives every byte of the range a block, so that writing it later cannot fail for want of space. What had none reads as zeros.
 *
 * Errors:  those of the hooks; after ENOSPC a part of the range may have blocks, and the size is as before.
 */
export function preallocate(inode: Inode, offset: number, length: number, keepSize: boolean, ops: FallocateOps): MaybePromise<void> {
  checkAsked(inode, offset, length);
  needs(ops, 'preallocation', 'allocateUnwritten');
  return withLayoutLocked('fallocate', [inode], () => allocate(inode, offset, offset + length, keepSize, ops));
}

/** Frees the blocks of the range: its bytes read as zeros. The size stays. */
export function punchHole(inode: Inode, offset: number, length: number, ops: FallocateOps): MaybePromise<void> {
  checkAsked(inode, offset, length);
  needs(ops, 'holes', 'freeBlocks');
  return withLayoutLocked('fallocate', [inode], () => {
    return clear(inode, offset, offset + length, ops, (first, last) => ops.freeBlocks(inode, first, last));
  });
}

/** Makes the bytes of the range read as zeros, and gives all of them blocks. */
export function fallocateZeroRange(inode: Inode, offset: number, length: number, keepSize: boolean, ops: FallocateOps): MaybePromise<void> {
  checkAsked(inode, offset, length);
  needs(ops, 'unwritten blocks', 'allocateUnwritten', 'freeBlocks');
  return withLayoutLocked('fallocate', [inode], function* () {
    const end = offset + length;
    yield* clear(inode, offset, end, ops, (first, last) => {
      return ops.convertToUnwritten === undefined ? ops.freeBlocks(inode, first, last) : ops.convertToUnwritten(inode, first, last);
    });
    yield* allocate(inode, offset, end, keepSize, ops);
  });
}

/** Gives the file blocks of its own for the range. Sharing is by block, so whole blocks are unshared. */
export function unshareRange(inode: Inode, offset: number, length: number, keepSize: boolean, ops: FallocateOps): MaybePromise<void> {
  checkAsked(inode, offset, length);
  needs(ops, 'preallocation', 'allocateUnwritten');
  return withLayoutLocked('fallocate', [inode], function* () {
    const end = offset + length;
    const first = roundDown(offset, inode.blockSize);
    const last = roundUp(end, inode.blockSize);
    yield* wait(unshare(inode, first, last - first, ops.io));
    // Blocks of its own are chosen when the copies are written; only then is the space certain.
    yield* wait(inode.mapping.writeAndWait(first, last));
    yield* allocate(inode, offset, end, keepSize, ops);
  });
}

/**
 * Takes the range out of the file: what follows moves down to `offset`.
 *
 * Errors:  EINVAL for a range that is not whole blocks, and for one that reaches the end of the file: that would be a truncate.
 */
export function collapseRange(inode: Inode, offset: number, length: number, ops: FallocateOps): MaybePromise<void> {
  checkAsked(inode, offset, length);
  checkBlocks(inode, offset, length);
  needs(ops, 'collapsing', 'freeBlocks', 'shiftExtents');
  return withLayoutLocked('fallocate', [inode], function* () {
    const end = offset + length;
    if (end >= inode.size)
      throw new FsError('EINVAL', 'fallocate', { detail: `range ${offset}+${length} reaches the end at ${inode.size}` });
    yield* dropFrom(inode, offset);
    yield* wait(ops.freeBlocks(inode, offset, end));
    yield* wait(ops.shiftExtents(inode, end, offset));
    yield* resize(inode, inode.size - length, ops);
  });
}

/**
 * Makes room of `length` bytes, a hole, at `offset`: what was there moves up.
 *
 * Errors:  EINVAL for a range that is not whole blocks and for a place at or past the end; EFBIG where the file would be too large.
 */
export function insertRange(inode: Inode, offset: number, length: number, ops: FallocateOps): MaybePromise<void> {
  checkAsked(inode, offset, length);
  checkBlocks(inode, offset, length);
  needs(ops, 'inserting', 'shiftExtents');
  return withLayoutLocked('fallocate', [inode], function* () {
    if (offset >= inode.size)
      throw new FsError('EINVAL', 'fallocate', { detail: `place ${offset} is not before the end at ${inode.size}` });
    checkRange('fallocate', inode.size, length, inode.sizeMax);
    // The size first: a crash in between leaves a hole at the end, not data past it.
    yield* resize(inode, inode.size + length, ops);
    yield* dropFrom(inode, offset);
    yield* wait(ops.shiftExtents(inode, offset, offset + length));
  });
}

function checkAsked(inode: Inode, offset: number, length: number): void {
  if (length === 0) throw new FsError('EINVAL', 'fallocate', { detail: 'length 0' });
  checkRange('fallocate', offset, length, inode.sizeMax);
}

function checkBlocks(inode: Inode, offset: number, length: number): void {
  if (offset % inode.blockSize === 0 && length % inode.blockSize === 0) return;
  throw new FsError('EINVAL', 'fallocate', { detail: `range ${offset}+${length} is not whole blocks of ${inode.blockSize}` });
}

/** FallocateOps with the hooks that an operation calls. */
type With<K extends keyof FallocateOps> = FallocateOps & Required<Pick<FallocateOps, K>>;

function needs<K extends keyof FallocateOps>(ops: FallocateOps, what: string, ...hooks: K[]): asserts ops is With<K> {
  if (hooks.some((hook) => ops[hook] === undefined))
    throw new FsError('EOPNOTSUPP', 'fallocate', { detail: `no ${what} on this filesystem` });
}

function* allocate(inode: Inode, start: number, end: number, keepSize: boolean, ops: With<'allocateUnwritten'>): Task<void> {
  const { blockSize } = inode;
  yield* wait(ops.allocateUnwritten(inode, roundDown(start, blockSize), roundUp(end, blockSize)));
  if (!keepSize && end > inode.size) yield* resize(inode, end, ops);
}

/**
 * Makes [start, end) read as zeros: empties the cache, zeroes the blocks that the range covers in part, and has `take` take away the
 * content of the whole ones.
 */
function* clear(
  inode: Inode,
  start: number,
  end: number,
  ops: FallocateOps,
  take: (first: number, last: number) => MaybePromise<void>,
): Task<void> {
  const { mapping, blockSize } = inode;
  const unit = Math.max(blockSize, PAGE_SIZE);
  // Written first: what is dropped below shares pages and requests with what stays, and no conversion may be under way.
  yield* wait(mapping.writeAndWait(roundDown(start, unit), roundUp(end, unit)));
  const first = roundUp(start, blockSize);
  const last = roundDown(end, blockSize);
  if (first > last) {
    yield* zeroInside(inode, start, end, ops);
    return;
  }
  // Whole folios go, clean as they are: a part zeroed in the cache would be wrong if a later step failed.
  yield* wait(mapping.invalidateRange(first, last));
  yield* zeroInside(inode, start, first, ops);
  yield* zeroInside(inode, last, end, ops);
  if (first < last) yield* wait(take(first, last));
}

/** Zeroes a part of a block. Past the end of the file there is nothing to zero: growing does that. */
function* zeroInside(inode: Inode, start: number, end: number, ops: FallocateOps): Task<void> {
  const stop = Math.min(end, inode.size);
  if (start < stop) yield* wait(zeroRange(inode, start, stop - start, ops.io));
}

/** Writes and drops the cache from `offset` to the end: what is below it is about to move. */
function* dropFrom(inode: Inode, offset: number): Task<void> {
  const { mapping, blockSize } = inode;
  const start = roundDown(offset, Math.max(blockSize, PAGE_SIZE));
  yield* wait(mapping.writeAndWait(start, Number.POSITIVE_INFINITY));
  yield* wait(mapping.invalidateRange(start, Number.POSITIVE_INFINITY));
  assert(!mapping.hasFolios(start, Number.POSITIVE_INFINITY), 'cache is left above blocks that move');
}
