import { checkRange } from '../base/ranges.ts';
import { isPromise, type MaybePromise, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import { dropPastEnd, isizeExtended } from './isize.ts';
import { withLayoutLocked } from './layout-lock.ts';
import type { WriteIo } from './write-begin.ts';
import { truncatePage, zeroRange } from './zero-range.ts';

// Changing the size of a file. The order of the steps is what keeps old bytes from showing:
//
//   grow     zero what is allocated past the old end -> raise i_size -> prepare the folio of the old end -> make stable -> durable size
//   shrink   zero the rest of the new last block -> make stable -> lower i_size -> drop the cache past it -> durable size, free blocks
//
// The durable size moves to S only when every byte below S that was acknowledged is stable, or its block is a hole or unwritten: a
// crash right after it would otherwise show zeros, or older bytes, where a write had been. "Make stable" is for that.

/** What changing the size of a file takes of its filesystem. The hooks are called with the file at rest (withLayoutLocked). */
export interface TruncateOps {
  readonly io: WriteIo;
  /** The size a crash now would leave. By default i_size: nothing is late. */
  durableSize?(inode: Inode): number;
  /** Makes `size` the durable size and frees the blocks that lie wholly past it, those allocated past the end before too. */
  setSize(inode: Inode, size: number): MaybePromise<void>;
}

/**
 * ftruncate: gives a file the size `size`. Bytes that are new read as zeros, wherever they lie.
 *
 * Locks:   takes those of withLayoutLocked.
 * Errors:  EINVAL, EFBIG for the size; those of reading, of writeback and of the hooks. When growing fails the file is as before. When
 *          shrinking fails it may have the new size in core while the blocks are not yet freed: the next call does that.
 */
export function setSize(inode: Inode, size: number, ops: TruncateOps): MaybePromise<void> {
  checkRange('ftruncate', 0, size, inode.sizeMax);
  return withLayoutLocked('ftruncate', [inode], () => resize(inode, size, ops));
}

/** setSize for callers that have the file at rest and have checked the size. */
export function resize(inode: Inode, size: number, ops: TruncateOps): Task<void> {
  return size > inode.size ? grow(inode, size, ops) : shrink(inode, size, ops);
}

function* grow(inode: Inode, size: number, ops: TruncateOps): Task<void> {
  try {
    const didZero = yield* wait(zeroRange(inode, inode.size, size - inode.size, ops.io));
    yield* raiseSize(inode, size, didZero, ops);
  } finally {
    yield* wait(dropPastEnd(inode, size));
  }
}

/**
 * Raises i_size and the durable size, now that [i_size, size) reads as it is to read. `wasZeroed`: some of it in the cache only. When it
 * fails i_size is as before, and the caller drops what is cached past it.
 */
export function* raiseSize(inode: Inode, size: number, wasZeroed: boolean, ops: TruncateOps): Task<void> {
  const oldSize = inode.size;
  inode.size = size;
  try {
    yield* wait(isizeExtended(inode, oldSize, size));
    yield* makeStable(inode, oldSize, size, wasZeroed, ops);
    yield* wait(ops.setSize(inode, size));
  } catch (error) {
    inode.size = oldSize;
    throw error;
  }
}

function* shrink(inode: Inode, size: number, ops: TruncateOps): Task<void> {
  const oldSize = inode.size;
  const didZero = size < oldSize && (yield* wait(truncatePage(inode, size, ops.io)));
  yield* makeStable(inode, oldSize, size, didZero, ops);
  inode.size = size;
  const dropped = inode.mapping.truncateRange(size, Number.POSITIVE_INFINITY);
  if (isPromise(dropped)) yield dropped;
  const done = ops.setSize(inode, size);
  if (isPromise(done)) yield done;
}

/** Writes what the durable size is about to pass over: bytes acknowledged past it, and zeros that so far are in the cache only. */
function* makeStable(inode: Inode, oldSize: number, size: number, wasZeroed: boolean, ops: TruncateOps): Task<void> {
  const durableSize = ops.durableSize?.(inode) ?? oldSize;
  if (durableSize < size && (wasZeroed || durableSize < oldSize)) yield* wait(inode.mapping.writeAndWait(durableSize, size));
}
