import { FsError } from '../base/fs-error.ts';
import { checkPosition } from '../base/ranges.ts';
import { type MaybePromise, run, type Task } from '../base/task.ts';
import type { AddressSpace } from '../pagecache/address-space.ts';
import type { Inode } from '../vfs/inode.ts';
import { nextNotUptodate, nextUptodate } from './folio-state.ts';
import type { IomapOps, WriteOps } from './hooks.ts';
import { IOMAP_HOLE, IOMAP_REPORT, IOMAP_UNWRITTEN, type Iomap } from './iomap.ts';
import { IomapIter } from './iter.ts';

/** Looks for what it seeks in [pos, end) of one mapping; `end` if it is not there. */
type Look = (mapping: AddressSpace, map: Iomap, pos: number, end: number) => number;

/**
 * SEEK_DATA: the first byte from `pos` on that may be data.
 *
 * Unwritten blocks count as data where the cache has valid bytes for them, dirty or not: a read of an unwritten range may turn it into
 * data, which the interface allows, but data on its way to storage never looks like a hole.
 *
 * Shape:   a position in [pos, i_size).
 * Blocks:  where begin does. `iomapValid` then has a mapping that changed before the cache was looked at asked for again.
 * Locks:   none; the caller holds the inode lock shared if the answer is to hold for longer than the call.
 * Errors:  ENXIO where `pos` is outside the file, and where no data follows.
 * Source:  Linux fs/iomap/seek.c.
 */
export function seekData(inode: Inode, pos: number, ops: IomapOps, iomapValid?: WriteOps['iomapValid']): MaybePromise<number> {
  checkInside(inode, pos);
  return run(seek(inode, pos, ops, iomapValid, lookForData));
}

/** SEEK_HOLE: the first byte from `pos` on that may be in a hole, the end of the file at the latest. As seekData otherwise. */
export function seekHole(inode: Inode, pos: number, ops: IomapOps, iomapValid?: WriteOps['iomapValid']): MaybePromise<number> {
  checkInside(inode, pos);
  return run(seek(inode, pos, ops, iomapValid, lookForHole));
}

function checkInside(inode: Inode, pos: number): void {
  if (pos < 0 || pos >= inode.size) throw new FsError('ENXIO', 'lseek', { detail: `byte ${pos} of a file of ${inode.size}` });
  checkPosition('lseek', pos);
}

function* seek(inode: Inode, pos: number, ops: IomapOps, iomapValid: WriteOps['iomapValid'], look: Look): Task<number> {
  const { size } = inode;
  let found = -1;
  const iter = new IomapIter(inode, ops, pos, size - pos, IOMAP_REPORT);
  yield* iter.each(() => {
    const end = iter.pos + iter.usableLength();
    // A conversion since begin answered would have taken its data out of both places where it is looked for: mapping and cache.
    if (iter.iomap.type === IOMAP_UNWRITTEN && iomapValid?.(inode, iter.iomap) === false) return iter.markStale();
    const at = look(inode.mapping, iter.iomap, iter.pos, end);
    if (at < end) found = at;
    else iter.advanceFull();
  });
  if (found >= 0) return found;
  if (look === lookForData) throw new FsError('ENXIO', 'lseek', { detail: `no data from byte ${pos} on` });
  return size;
}

function lookForData(mapping: AddressSpace, map: Iomap, pos: number, end: number): number {
  if (map.type === IOMAP_HOLE) return end;
  return map.type === IOMAP_UNWRITTEN ? nextCachedData(mapping, pos, end) : pos;
}

function lookForHole(mapping: AddressSpace, map: Iomap, pos: number, end: number): number {
  if (map.type === IOMAP_HOLE) return pos;
  return map.type === IOMAP_UNWRITTEN ? nextCachedHole(mapping, pos, end) : end;
}

/** The first byte of [pos, end) that is valid in the cache, block granular; `end` if none is. */
export function nextCachedData(mapping: AddressSpace, pos: number, end: number): number {
  for (let from = pos; from < end; ) {
    const folio = mapping.next(from, end);
    if (folio === undefined) break;
    const at = nextUptodate(folio, Math.max(from - folio.pos, 0));
    if (at < folio.size) return Math.min(folio.pos + at, end);
    from = folio.end;
  }
  return end;
}

/** The first byte of [pos, end) that is not valid in the cache, block granular; `end` if all is. */
export function nextCachedHole(mapping: AddressSpace, pos: number, end: number): number {
  let from = pos;
  while (from < end) {
    const folio = mapping.find(from);
    if (folio === undefined) return from;
    from = folio.pos + nextNotUptodate(folio, from - folio.pos);
    if (from < folio.end) break;
  }
  return Math.min(from, end);
}
