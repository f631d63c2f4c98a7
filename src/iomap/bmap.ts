import { FsError } from '../base/fs-error.ts';
import { checkPosition } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import type { IomapOps } from './hooks.ts';
import { IOMAP_MAPPED, IOMAP_NULL_ADDR, IOMAP_REPORT } from './iomap.ts';
import { IomapIter } from './iter.ts';

/** What the interface can carry: a block number is an int. */
const BLOCK_MAX = 2 ** 31 - 1;

/**
 * FIBMAP: the device block, in blocks of the filesystem, that holds one block of a file.
 *
 * Shape:   0 where there is none: hole, unwritten, inline, an address that is not whole blocks or passes 2^31 - 1; and on errors.
 * Blocks:  writes the file's cache first, so that data whose place was not chosen yet has one.
 * Errors:  EINVAL, EOVERFLOW for a block number that is none; nothing else is told apart from "no block".
 * Source:  Linux fs/iomap/fiemap.c, iomap_bmap.
 */
export function bmap(inode: Inode, block: number, ops: IomapOps): MaybePromise<number> {
  checkPosition('bmap', block);
  if (block >= inode.sizeMax / inode.blockSize) return 0;
  return run(mapBlock(inode, block, ops));
}

function* mapBlock(inode: Inode, block: number, ops: IomapOps): Task<number> {
  const { blockSize, mapping } = inode;
  let found = 0;
  try {
    yield* wait(mapping.writeAndWait(0, Number.POSITIVE_INFINITY));
    const iter = new IomapIter(inode, ops, block * blockSize, blockSize, IOMAP_REPORT);
    yield* iter.each(() => {
      const addr = iter.iomap.addrOf(iter.pos);
      if (iter.iomap.type === IOMAP_MAPPED && addr !== IOMAP_NULL_ADDR && addr % blockSize === 0) found = addr / blockSize;
    });
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    return 0;
  }
  return found <= BLOCK_MAX ? found : 0;
}
