import { FsError } from '../base/fs-error.ts';
import type { Inode } from '../vfs/inode.ts';
import {
  IOMAP_F_ANON_WRITE,
  IOMAP_F_BUFFER_HEAD,
  IOMAP_F_FOLIO_BATCH,
  IOMAP_F_FS_MASK,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_REPORT,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
  type Iomap,
  typeName,
} from './iomap.ts';

/**
 * Checks what begin() returned for `pos`. A mapping that cannot be true marks the inode bad: nothing its filesystem says about it is
 * used again; other inodes are not harmed.
 *
 * Errors:  EUCLEAN from a filesystem in this process, EIO from a foreign server; EIO for inline data that is too short.
 */
export function checkMapping(inode: Inode, pos: number, flags: number, map: Iomap, srcmap: Iomap, foreign: boolean): void {
  const fault = mappingFault(inode, pos, flags, map) ?? (srcmap.type === IOMAP_HOLE ? undefined : sourceFault(inode, pos, flags, srcmap));
  if (fault === undefined) return;
  inode.markBad();
  const code = foreign || fault.endsWith(INLINE_SHORT) ? 'EIO' : 'EUCLEAN';
  throw new FsError(code, 'iomap', {
    detail: `inode ${inode.ino} at byte ${pos}: ${fault}; got ${typeName(map.type)} [${map.offset}, ${map.offset + map.length}) at ${map.addr}`,
  });
}

const INLINE_SHORT = 'inline data is shorter than the file';

function mappingFault(inode: Inode, pos: number, flags: number, map: Iomap): string | undefined {
  const { type, offset, length, addr } = map;
  if (!(Number.isInteger(type) && type >= IOMAP_HOLE && type <= IOMAP_INLINE)) return 'unknown mapping type';
  if ((map.flags & ~(IOMAP_F_FS_MASK | (flags & IOMAP_ZERO ? IOMAP_F_FOLIO_BATCH : 0))) !== 0) return 'flags that no filesystem may set';
  if ((map.flags & IOMAP_F_BUFFER_HEAD) !== 0) return 'buffer heads are not served';
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length <= 0) return 'no range';
  if (offset > pos || length <= pos - offset) return 'the range does not hold the position';
  if (!Number.isSafeInteger(offset + length)) return 'the range passes 2^53 - 1';
  // Breaking sharing skips holes; any other write has nowhere to go.
  if ((flags & (IOMAP_WRITE | IOMAP_UNSHARE)) === IOMAP_WRITE && type === IOMAP_HOLE) return 'a hole for a write';
  if (type === IOMAP_INLINE) return inlineFault(inode, flags, map);
  if (type === IOMAP_MAPPED || type === IOMAP_UNWRITTEN) {
    const hasDevice = map.bdev !== undefined || map.daxDev !== undefined;
    const isAnonymous = (map.flags & IOMAP_F_ANON_WRITE) !== 0;
    if (addr !== IOMAP_NULL_ADDR && !(Number.isSafeInteger(addr) && addr >= 0)) return 'no device address';
    if (hasDevice && !isAnonymous) {
      if (addr === IOMAP_NULL_ADDR) return 'a device without an address';
      const size = map.bdev?.size ?? map.daxDev?.size ?? 0;
      if (addr > size || length > size - addr) return 'a range outside its device';
    } else if (addr !== IOMAP_NULL_ADDR)
      return isAnonymous ? 'an address for a write whose place is not chosen' : 'an address without a device';
    if (!hasDevice) return undefined; // fetched by hooks: bytes, not blocks
  } else if (addr !== IOMAP_NULL_ADDR) return 'an address where there are no blocks';
  if ((flags & IOMAP_REPORT) !== 0) return undefined; // reports may clip to a byte
  const { blockSize } = inode;
  if (offset % blockSize !== 0) return 'a start that is not block aligned';
  if (length % blockSize !== 0 && type !== IOMAP_HOLE) return 'a length that is not whole blocks';
  if (addr !== IOMAP_NULL_ADDR && addr % Math.min(blockSize, map.bdev?.logicalBlockSize ?? 1) !== 0)
    return 'an address that is not aligned';
  return undefined;
}

/** Inline data fed in packets (offset above 0) need hold only its own packet; a file that is all inline must hold the file. */
function inlineFault(inode: Inode, flags: number, map: Iomap): string | undefined {
  if (map.inlineData === undefined) return 'inline without data';
  if (map.addr !== IOMAP_NULL_ADDR) return 'an address where there are no blocks';
  if ((flags & IOMAP_REPORT) !== 0) return undefined;
  if (map.inlineData.length < Math.min(map.length, inode.size - map.offset)) return INLINE_SHORT;
  return undefined;
}

function sourceFault(inode: Inode, pos: number, flags: number, srcmap: Iomap): string | undefined {
  const fault = mappingFault(inode, pos, flags & ~IOMAP_WRITE, srcmap);
  return fault === undefined ? undefined : `source map: ${fault}`;
}
