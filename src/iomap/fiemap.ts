import { FsError, hasCode } from '../base/fs-error.ts';
import { checkPosition } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import type { IomapOps } from './hooks.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_MERGED,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_NULL_ADDR,
  IOMAP_REPORT,
  IOMAP_UNWRITTEN,
  type Iomap,
} from './iomap.ts';
import { IomapIter } from './iter.ts';

// Flags of a request and of an extent. Source: Linux include/uapi/linux/fiemap.h
/** Write the file's cache first. */
export const FIEMAP_FLAG_SYNC = 0x1;
/** Extents of the attribute data. */
export const FIEMAP_FLAG_XATTR = 0x2;

/** The last extent of the range that was asked for. */
export const FIEMAP_EXTENT_LAST = 0x1;
/** Where the data is is not known now. */
export const FIEMAP_EXTENT_UNKNOWN = 0x2;
/** Space reserved, place not chosen. Comes with UNKNOWN. */
export const FIEMAP_EXTENT_DELALLOC = 0x4;
/** The data on the device is encoded. */
export const FIEMAP_EXTENT_ENCODED = 0x8;
/** The data on the device is encrypted. Comes with ENCODED. */
export const FIEMAP_EXTENT_DATA_ENCRYPTED = 0x80;
/** The extent does not begin or end on a block boundary. */
export const FIEMAP_EXTENT_NOT_ALIGNED = 0x100;
/** The data lies among metadata. Comes with NOT_ALIGNED. */
export const FIEMAP_EXTENT_DATA_INLINE = 0x200;
/** The data shares its block with that of other files. Comes with NOT_ALIGNED. */
export const FIEMAP_EXTENT_DATA_TAIL = 0x400;
/** Allocated, reads as zeros. */
export const FIEMAP_EXTENT_UNWRITTEN = 0x800;
/** Made up of several records that the filesystem does not keep as one extent. */
export const FIEMAP_EXTENT_MERGED = 0x1000;
/** Other files use the blocks too. */
export const FIEMAP_EXTENT_SHARED = 0x2000;

export interface FiemapRequest {
  /** File range, bytes; to the largest file size by default, past the end of the file too. */
  readonly start?: number;
  readonly length?: number;
  /** FIEMAP_FLAG_*. */
  readonly flags?: number;
  /** Extents wanted, all by default; 0 counts without listing. */
  readonly max?: number;
}

/** struct fiemap_extent. */
export interface FiemapExtent {
  /** File position, bytes. */
  logical: number;
  /** Device address, bytes; 0 where there is none. */
  physical: number;
  length: number;
  /** FIEMAP_EXTENT_*. */
  flags: number;
}

export interface FiemapAnswer {
  readonly extents: FiemapExtent[];
  /** Extents listed, or found where only the count was asked for. */
  readonly count: number;
}

/**
 * FIEMAP: the extents of a file range, in file order, without holes.
 *
 * Shape:   extents are whole: the first and the last may reach out of the range. The last of the range carries FIEMAP_EXTENT_LAST,
 *          unless `max` cut the list before it. A mapping without an address (data that hooks fetch) is UNKNOWN.
 * Locks:   takes the inode lock shared, after the cache was written if FIEMAP_FLAG_SYNC asks for it.
 * Errors:  EINVAL, EOVERFLOW; EFBIG for a start past the largest file; EBADR for flags not served, FIEMAP_FLAG_XATTR without
 *          `xattrOps` among them; those of writeback and of the hooks, except ENOENT, which means that there is nothing (more).
 * Source:  Linux fs/iomap/fiemap.c, Documentation/filesystems/fiemap.rst.
 */
export function fiemap(inode: Inode, request: FiemapRequest, ops: IomapOps, xattrOps?: IomapOps): MaybePromise<FiemapAnswer> {
  const { start = 0, flags = 0, max = Number.POSITIVE_INFINITY } = request;
  checkPosition('fiemap', start);
  if (start > inode.sizeMax) throw new FsError('EFBIG', 'fiemap', { detail: `start ${start} of at most ${inode.sizeMax}` });
  // Callers ask for everything with a length that passes the end of all files.
  const length = Math.min(request.length ?? Number.POSITIVE_INFINITY, inode.sizeMax - start);
  const isCount = Number.isInteger(max) || max === Number.POSITIVE_INFINITY;
  if (!(Number.isInteger(length) && length >= 0 && isCount && max >= 0)) {
    throw new FsError('EINVAL', 'fiemap', { detail: `length ${request.length}, max ${max}` });
  }
  const served = FIEMAP_FLAG_SYNC | (xattrOps === undefined ? 0 : FIEMAP_FLAG_XATTR);
  if ((flags & ~served) !== 0) throw new FsError('EBADR', 'fiemap', { detail: `flags ${flags & ~served}` });
  if (length === 0) return { extents: [], count: 0 };
  const from = (flags & FIEMAP_FLAG_XATTR) === 0 ? ops : (xattrOps as IomapOps);
  return run(list(inode, start, length, max, (flags & FIEMAP_FLAG_SYNC) !== 0, from));
}

function* list(inode: Inode, start: number, length: number, max: number, sync: boolean, ops: IomapOps): Task<FiemapAnswer> {
  if (sync) yield* wait(inode.mapping.writeAndWait(start, start + length));
  yield* wait(inode.lock.lockShared());
  const extents: FiemapExtent[] = [];
  let count = 0;
  let told = 0; // end of the last extent
  let isCut = false;
  try {
    const iter = new IomapIter(inode, ops, start, length, IOMAP_REPORT);
    yield* iter.each(() => {
      const { iomap } = iter;
      if (iomap.type !== IOMAP_HOLE && iomap.end > told) {
        // Only the extent after the last wanted one tells whether that one is the last of all.
        isCut = max > 0 && extents.length === max;
        if (isCut) return; // no progress: the walk ends
        count++;
        if (max > 0) extents.push(extentOf(iomap, Math.max(iomap.offset, told)));
        told = iomap.end;
      }
      iter.advanceFull();
    });
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  } finally {
    inode.lock.unlockShared();
  }
  const last = extents.at(-1);
  if (last !== undefined && !isCut) last.flags |= FIEMAP_EXTENT_LAST;
  return { extents, count };
}

/** A mapping from `logical` on, as an extent. */
function extentOf(map: Iomap, logical: number): FiemapExtent {
  let flags = 0;
  if (map.type === IOMAP_DELALLOC) flags |= FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN;
  else if (map.type === IOMAP_INLINE) flags |= FIEMAP_EXTENT_DATA_INLINE;
  else if (map.addr === IOMAP_NULL_ADDR) flags |= FIEMAP_EXTENT_UNKNOWN;
  if (map.type === IOMAP_UNWRITTEN) flags |= FIEMAP_EXTENT_UNWRITTEN;
  if ((map.flags & IOMAP_F_MERGED) !== 0) flags |= FIEMAP_EXTENT_MERGED;
  if ((map.flags & IOMAP_F_SHARED) !== 0) flags |= FIEMAP_EXTENT_SHARED;
  const physical = map.addr === IOMAP_NULL_ADDR ? 0 : map.addr + (logical - map.offset);
  return { logical, physical, length: map.end - logical, flags };
}
