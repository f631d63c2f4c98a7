import { roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import { dirtyWholeFolio } from './folio-state.ts';

/**
 * After i_size grew from `from` to `to`: prepares the folio that holds the old end (pagecache_isize_extended).
 *
 * What a mapped view stored past the old end is zeroed, and its next store asks again, so that the filesystem can provide blocks past the
 * old end where a page holds several. The caller holds the inode lock.
 */
export function isizeExtended(inode: Inode, from: number, to: number): MaybePromise<void> {
  const { blockSize } = inode;
  if (from >= to || blockSize >= PAGE_SIZE) return;
  const blockEnd = roundUp(from, blockSize);
  if (to <= blockEnd || blockEnd % PAGE_SIZE === 0) return;
  if (inode.mapping.find(from) === undefined) return;
  return run(extended(inode, from, to));
}

function* extended(inode: Inode, from: number, to: number): Task<void> {
  const folio = yield* wait(inode.mapping.lockFolio(from));
  if (folio === undefined) return;
  if (folio.mkclean()) dirtyWholeFolio(folio, inode);
  if (folio.isDirty) folio.zero(from - folio.pos, Math.min(to, folio.end) - folio.pos);
  folio.unlock();
  folio.put();
}

/** Drops cached content of [pos, end) that lies past i_size: what a failed write left there. Older data inside i_size is not touched. */
export function writeFailed(inode: Inode, pos: number, end: number): MaybePromise<void> {
  const start = Math.max(pos, inode.size);
  if (start < end) return inode.mapping.truncateRange(start, end);
}
