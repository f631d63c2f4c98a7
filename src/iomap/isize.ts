import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import type { Inode } from '../vfs/inode.ts';
import { dirtyWholeFolio, ensureState, markDirty } from './folio-state.ts';

/**
 * After i_size grew from `from` to `to`: prepares the folio that holds the old end (pagecache_isize_extended).
 *
 * What a mapped view stored past the old end is zeroed, and its next store asks again, so that the filesystem can provide blocks past the
 * old end where a page holds several. The caller holds the inode lock.
 */
export function isizeExtended(inode: Inode, from: number, to: number): MaybePromise<void> {
  if (from >= to) return;
  // Also where only the rest of the old last block is new: if that block is a hole, no zero_range looks at it.
  if (inode.mapping.find(from) === undefined) return;
  return run(extended(inode, from, to));
}

function* extended(inode: Inode, from: number, to: number): Task<void> {
  const folio = yield* wait(inode.mapping.lockFolio(from));
  if (folio === undefined) return;
  yield* wait(folio.waitStable());
  if (folio.mkclean()) dirtyWholeFolio(folio, inode);
  const offset = from - folio.pos;
  const length = Math.min(to, folio.end) - from;
  if (folio.bytes(offset, length).some((byte) => byte !== 0)) {
    folio.zero(offset, offset + length);
    if (folio.isUptodate) {
      ensureState(folio, inode.blockSize);
      markDirty(folio, offset, length);
    }
  }
  folio.unlock();
  folio.put();
}

/**
 * Drops cached content of [pos, end) that lies past i_size: what a failed write left there, and with it clean folios that lie wholly past
 * i_size. Older data inside i_size is not touched. With `nowait` a folio that somebody else is busy with is left as it is.
 */
export function writeFailed(inode: Inode, pos: number, end: number, nowait: boolean): MaybePromise<void> {
  const { mapping } = inode;
  const start = Math.max(pos, inode.size);
  if (start >= end) return;
  const first = mapping.find(start);
  const last = mapping.find(end - 1);
  const from = first !== undefined && isLeftOver(inode, first) ? first.pos : start;
  const to = last !== undefined && isLeftOver(inode, last) ? last.end : end;
  if (nowait) {
    for (let folio = mapping.next(from, to); folio !== undefined; folio = mapping.next(folio.end, to)) {
      if (folio.isLocked || folio.isWriteback) return;
    }
  }
  return mapping.truncateRange(from, to);
}

/**
 * Ends what was to raise i_size to `pos` or further, and first put zeros into the cache between i_size and `pos`: where it failed before
 * i_size was there, drops what is cached past i_size. It is not part of the file, and would stay dirty where writeback never goes. The
 * caller holds the inode lock.
 */
export function dropPastEnd(inode: Inode, pos: number): MaybePromise<void> {
  if (inode.size < pos) return inode.mapping.truncateRange(inode.size, Number.POSITIVE_INFINITY);
}

function isLeftOver(inode: Inode, folio: Folio): boolean {
  return folio.pos >= inode.size && !folio.isDirty && !folio.isWriteback && !inode.hasVerityTail;
}
