import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { isPromise, type MaybePromise, run, type Task } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';

export interface EvictOps {
  /** No name leads to the file any more: its data is not written, and `release` frees its blocks. */
  readonly isDeleted: boolean;
  /** Ends what the filesystem holds for the inode, now that nothing of it is cached or in flight. */
  release?(inode: Inode): MaybePromise<void>;
}

/**
 * The end of an inode in core: writes what is dirty unless the file is deleted, waits for writeback, empties the cache, waits for direct
 * I/O, and lets the filesystem go on from there. Nobody else uses the inode any more.
 *
 * Errors:  those of `release`. Data that could not be written is lost: the error is on the superblock's record, for syncfs.
 */
export function evictInode(inode: Inode, ops: EvictOps): MaybePromise<void> {
  return run(evict(inode, ops));
}

function* evict(inode: Inode, ops: EvictOps): Task<void> {
  const { mapping } = inode;
  if (!ops.isDeleted && !inode.isBad) {
    try {
      const written = mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
      if (isPromise(written)) yield written;
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
    }
  }
  const emptied = mapping.evict(); // waits for the writeback of each folio
  if (isPromise(emptied)) yield emptied;
  const idle = inode.dioWait();
  if (isPromise(idle)) yield idle;
  assert(mapping.cachedBytes === 0 && inode.dioCount === 0, 'an inode was evicted while somebody used it');
  const released = ops.release?.(inode);
  if (isPromise(released)) yield released;
}
