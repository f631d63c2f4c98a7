import { FsError } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import { type Inode, inodeOf } from '../vfs/inode.ts';
import { ensureState, markDirty } from './folio-state.ts';
import { IOMAP_FAULT, IOMAP_WRITE } from './iomap.ts';
import { IomapIter } from './iter.ts';
import type { WriteIo } from './write-begin.ts';

/**
 * A mapped view is about to store into a locked, uptodate folio: has the filesystem provide blocks for it, and dirties it.
 *
 * Shape:   returns with the folio still locked, stable and open for stores. When it throws, the folio is still locked too.
 * Locks:   the caller holds the freeze lock and the invalidate lock shared, and the folio.
 * Errors:  EFAULT (SIGBUS) for a folio past the end of the file; ENOSPC, EDQUOT and the like from the filesystem.
 */
export function pageMkwrite(folio: Folio, io: WriteIo): MaybePromise<void> {
  return run(mkwrite(folio, io));
}

function* mkwrite(folio: Folio, io: WriteIo): Task<void> {
  const { mapping } = folio;
  if (mapping === undefined || folio.pos >= mapping.host.size) throw new FsError('EFAULT', 'mmap', { detail: `byte ${folio.pos}` });
  const inode: Inode = inodeOf(mapping);
  const length = Math.min(folio.size, inode.size - folio.pos);
  const iter = new IomapIter(inode, io.ops, folio.pos, length, IOMAP_WRITE | IOMAP_FAULT, io.private);
  // No check of validity: the folio is uptodate and is not filled; blocks were provided under this fault's own locks. Each mapping's
  // blocks become dirty with it: if a later one fails, nothing is dirty that has no blocks.
  yield* iter.each(() => {
    ensureState(folio, inode.blockSize);
    markDirty(folio, iter.pos - folio.pos, iter.usableLength());
    iter.advanceFull();
  });
  yield* wait(folio.waitStable());
  folio.setMapWritable();
}
