import { checkRange } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import { IOMAP_F_SHARED, IOMAP_MAPPED, IOMAP_UNSHARE, IOMAP_WRITE } from './iomap.ts';
import { IomapIter, iterate } from './iter.ts';
import { putFolio, type WriteIo, writeBegin, writeEnd, writeOpsOf } from './write-begin.ts';

/**
 * Gives the file blocks of its own for [pos, pos + length): reads what is shared into the cache and dirties it, for writeback to the
 * new place. What is not shared, and what lies past the end of the file, is not touched.
 *
 * Locks:   the caller holds the inode lock and the invalidate lock exclusively.
 * Errors:  those of reading and of the hooks; EIO where the shared data is not mapped.
 */
export function unshare(inode: Inode, pos: number, length: number, io: WriteIo): MaybePromise<void> {
  checkRange('fallocate', pos, length);
  const end = Math.min(pos + length, inode.size);
  if (pos >= end) return;
  const iter = new IomapIter(inode, io.ops, pos, end - pos, IOMAP_WRITE | IOMAP_UNSHARE, io.private);
  return iterate(iter, () => {
    // SHARED alone is not enough: some filesystems set it on all that is headed for their COW fork.
    if ((iter.iomap.flags & IOMAP_F_SHARED) !== 0 && iter.srcmap.type === IOMAP_MAPPED) return run(unshareMapping(iter, io));
    iter.advanceFull();
  });
}

function* unshareMapping(iter: IomapIter, io: WriteIo): Task<void> {
  const wops = writeOpsOf(io);
  const { mapping } = iter.inode;
  while (iter.length > 0 && iter.usableLength() > 0) {
    const throttled = mapping.cache.balanceDirty(mapping);
    if (throttled !== undefined) yield throttled;
    const folio = yield* wait(writeBegin(iter, wops, iter.usableLength()));
    if (folio === undefined) return; // stale
    const { pos } = iter;
    const bytes = Math.min(iter.usableLength(), folio.end - pos);
    writeEnd(iter, folio, pos, bytes, bytes);
    yield* wait(putFolio(iter, wops, folio, bytes));
    iter.advance(bytes);
  }
}
