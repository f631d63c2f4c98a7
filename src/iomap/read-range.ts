import { roundUp } from '../base/ranges.ts';
import type { Folio } from '../pagecache/folio.ts';
import type { Inode } from '../vfs/inode.ts';
import { nextNotUptodate, nextUptodate } from './folio-state.ts';
import { IOMAP_F_FSVERITY, IOMAP_F_NEW, IOMAP_MAPPED, type Iomap } from './iomap.ts';

/** A byte range of a folio, by file position. One is reused for each loop. */
export interface FolioRange {
  pos: number;
  end: number;
}

/**
 * The next run of blocks in [pos, end) of a folio that has to be filled: stops before the next uptodate block, and, where the range
 * runs over the end of the file, behind the block that holds the file's last byte.
 *
 * Shape:   into `out`; empty (pos = end) when all is there. A start inside a block stays where it is.
 */
export function nextReadRange(inode: Inode, folio: Folio, pos: number, end: number, out: FolioRange): void {
  const start = Math.min(folio.pos + nextNotUptodate(folio, pos - folio.pos), end);
  let stop = start === end ? end : Math.min(folio.pos + nextUptodate(folio, start - folio.pos), end);
  const { size } = inode;
  if (start < size && stop > size) stop = Math.min(stop, roundUp(size, inode.blockSize));
  out.pos = start;
  out.end = stop;
}

/** Do the bytes at `pos` read as zeros wherever they are not cached? */
export function needsZeroing(inode: Inode, source: Iomap, pos: number): boolean {
  if (source.type !== IOMAP_MAPPED || (source.flags & IOMAP_F_NEW) !== 0) return true;
  return (source.flags & IOMAP_F_FSVERITY) === 0 && pos >= inode.size;
}

/** Zeroes what a fill put past the end of the file into [pos, end) of a folio: a block's tail on storage may hold anything. */
export function zeroPastEof(inode: Inode, folio: Folio, pos: number, end: number): void {
  if (inode.hasVerityTail || end <= inode.size) return;
  folio.zero(Math.max(pos, inode.size) - folio.pos, end - folio.pos);
}
