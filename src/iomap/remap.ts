import { FsError } from '../base/fs-error.ts';
import { checkPosition, checkRange, roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, type Task, wait } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import type { Inode } from '../vfs/inode.ts';
import { dropPastEnd } from './isize.ts';
import { withLayoutLocked } from './layout-lock.ts';
import { raiseSize, type TruncateOps } from './truncate.ts';
import { zeroRange } from './zero-range.ts';

/** What sharing blocks between files takes of a filesystem. Hooks are called with both files at rest (withLayoutLocked). */
export interface RemapOps extends TruncateOps {
  /**
   * Replaces the blocks of `dst` in [dstPos, dstPos + length) by those of `src` from `srcPos` on, which both files then share; holes
   * become holes. Whole blocks; moves the sequence numbers behind both files' validityCookie; does not change a size.
   */
  remapExtents(src: Inode, srcPos: number, dst: Inode, dstPos: number, length: number): MaybePromise<void>;
}

/** One range of one file that is to share the blocks of a range of another, or of the same file. Bytes. */
export interface RemapRange {
  readonly src: Inode;
  readonly srcPos: number;
  readonly dst: Inode;
  readonly dstPos: number;
  readonly length: number;
  /** Do as much as can be done, instead of EINVAL for what cannot. */
  readonly canShorten?: boolean;
}

/**
 * Reflink (FICLONERANGE): the destination range becomes a copy that shares the blocks of the source until one of them is written.
 *
 * Shape:   bytes that are shared now: all, unless `canShorten`. The destination grows to hold them. A last block that is not whole is
 *          shared only where it ends both files.
 * Locks:   takes those of withLayoutLocked on both files.
 * Errors:  EXDEV for files of two filesystems; EINVAL for positions that are not on blocks, a range that leaves the source, and one that
 *          overlaps itself; EFBIG; those of reading, of writeback and of the hooks.
 */
export function reflink(range: RemapRange, ops: RemapOps): MaybePromise<number> {
  if (!checkAsked(range)) return 0;
  return withLayoutLocked('copy_file_range', [range.src, range.dst], function* () {
    const { dst, dstPos } = range;
    const count = checkedLength(range, false);
    if (count === 0) return 0;
    try {
      // What the destination shows between its old end and the range is zeros, whatever its blocks there hold.
      const didZero = dstPos > dst.size && (yield* wait(zeroRange(dst, dst.size, dstPos - dst.size, ops.io)));
      yield* flush(range, count);
      yield* remap(range, count, didZero, ops);
    } finally {
      yield* wait(dropPastEnd(dst, dstPos + count));
    }
    return count;
  });
}

/**
 * Dedupe (FIDEDUPERANGE): as reflink, if both ranges hold the same bytes, which are compared with both files at rest.
 *
 * Shape:   bytes that are shared now; undefined if the data differs.
 * Errors:  as reflink; EINVAL for a range that leaves either file.
 */
export function dedupe(range: RemapRange, ops: RemapOps): MaybePromise<number | undefined> {
  if (!checkAsked(range)) return 0;
  return withLayoutLocked('dedupe', [range.src, range.dst], function* () {
    const count = checkedLength(range, true);
    if (count === 0) return 0;
    yield* flush(range, count);
    if (!(yield* isSameData(range, count))) return undefined;
    yield* remap(range, count, false, ops);
    return count;
  });
}

/** False if there is nothing to do. */
function checkAsked({ src, srcPos, dst, dstPos, length }: RemapRange): boolean {
  if (src.sb !== dst.sb) throw new FsError('EXDEV', 'copy_file_range');
  checkPosition('copy_file_range', srcPos);
  checkRange('copy_file_range', dstPos, length);
  return length > 0;
}

/** Bytes that can be shared, as the sizes are now. Source: Linux fs/remap_range.c, generic_remap_checks. */
function checkedLength({ src, srcPos, dst, dstPos, length, canShorten }: RemapRange, isDedupe: boolean): number {
  const { blockSize } = src;
  const invalid = (reason: string) =>
    new FsError('EINVAL', 'copy_file_range', { detail: `${srcPos} to ${dstPos}, ${length} bytes: ${reason}` });
  if (blockSize !== dst.blockSize || srcPos % blockSize !== 0 || dstPos % blockSize !== 0) throw invalid('not on block boundaries');
  if (isDedupe && (length > src.size - srcPos || length > dst.size - dstPos)) throw invalid('past the end of a file');
  if (srcPos >= src.size) throw invalid('past the end of the source');

  let count = Math.min(length, src.size - srcPos);
  checkRange('copy_file_range', dstPos, count, dst.sizeMax);
  // What follows the last bytes in their block goes along: it must be what follows the end of both files.
  const endsBoth = srcPos + count === src.size && dstPos + count >= dst.size;
  if (!endsBoth) count = roundDown(count, blockSize);
  if (count !== length && canShorten !== true) throw invalid('not whole blocks, or past the end of the source');
  if (src === dst && Math.abs(dstPos - srcPos) < roundUp(count, blockSize)) throw invalid('the ranges overlap');
  return count;
}

/** Writes both ranges, so that what is on storage is what is shared, and mapped views cannot change it any more. */
function* flush({ src, srcPos, dst, dstPos }: RemapRange, count: number): Task<void> {
  const blocks = roundUp(count, src.blockSize);
  yield* wait(src.mapping.writeAndWait(srcPos, srcPos + blocks));
  yield* wait(dst.mapping.writeAndWait(dstPos, dstPos + blocks));
}

/** Drops the destination's cache, shares the blocks, and grows the destination. `didZero`: between its old end and the range. */
function* remap({ src, srcPos, dst, dstPos }: RemapRange, count: number, didZero: boolean, ops: RemapOps): Task<void> {
  const blocks = roundUp(count, src.blockSize);
  yield* wait(dst.mapping.invalidateRange(dstPos, dstPos + blocks));
  yield* wait(ops.remapExtents(src, srcPos, dst, dstPos, blocks));
  if (dstPos + count > dst.size) yield* raiseSize(dst, dstPos + count, didZero, ops);
}

function* isSameData({ src, srcPos, dst, dstPos }: RemapRange, count: number): Task<boolean> {
  for (let done = 0; done < count; ) {
    const a = yield* uptodateFolio(src, srcPos + done);
    try {
      const b = yield* uptodateFolio(dst, dstPos + done);
      try {
        const [atA, atB] = [srcPos + done - a.pos, dstPos + done - b.pos];
        const length = Math.min(count - done, a.size - atA, b.size - atB);
        if (!isSame(a.bytes(atA, length), b.bytes(atB, length))) return false;
        done += length;
      } finally {
        b.put();
      }
    } finally {
      a.put();
    }
  }
  return true;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** The folio at `pos`, held, read if need be. Its content stands still: the invalidate lock is ours, so no one else may fill it. */
function* uptodateFolio(inode: Inode, pos: number): Task<Folio> {
  const { mapping } = inode;
  const folio = yield* wait(mapping.getFolio(pos, 1, 0));
  if (folio.isUptodate || mapping.ops.readFolio === undefined) folio.unlock();
  else yield* wait(mapping.ops.readFolio(mapping, folio));
  if (!folio.isUptodate && folio.isLocked) {
    yield* wait(folio.lock()); // the end of the read unlocks it
    folio.unlock();
  }
  if (folio.isUptodate) return folio;
  folio.put();
  throw new FsError('EIO', 'dedupe', { detail: `inode ${inode.ino} at byte ${pos}` });
}
