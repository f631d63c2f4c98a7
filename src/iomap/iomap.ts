import { assert } from '../base/assert.ts';
import type { BlockDevice } from '../block/block-device.ts';
import type { DaxDevice } from '../block/dax-device.ts';

// Mapping types, numbers as in traces and on the fuse-iomap wire. Source: Linux include/linux/iomap.h
/** Nothing allocated, nothing reserved; reads as zeros. */
export const IOMAP_HOLE = 0;
/** Space reserved, place not chosen; data is in the cache only. */
export const IOMAP_DELALLOC = 1;
/** Blocks at addr hold file data. */
export const IOMAP_MAPPED = 2;
/** Blocks at addr are reserved, their content is garbage; reads as zeros until converted. */
export const IOMAP_UNWRITTEN = 3;
/** Data is in a buffer near the inode. */
export const IOMAP_INLINE = 4;

export type IomapType = 0 | 1 | 2 | 3 | 4;

// Flags of a mapping. The filesystem's from bit 0 upward, the core's from bit 15 downward.
/** Blocks were allocated by this call: bytes that the caller does not write are zeroed, never read. */
export const IOMAP_F_NEW = 1 << 0;
/** Reaching the data takes a metadata commit. */
export const IOMAP_F_DIRTY = 1 << 1;
/** Blocks are shared with another file: a write goes elsewhere. */
export const IOMAP_F_SHARED = 1 << 2;
/** Glued from several records of the filesystem. */
export const IOMAP_F_MERGED = 1 << 3;
/** Per-buffer code of the filesystem; served by an adapter only, refused here. */
export const IOMAP_F_BUFFER_HEAD = 1 << 4;
/** The mapping is of attribute data. */
export const IOMAP_F_XATTR = 1 << 5;
/** I/O for this mapping is not merged with what lies before it. */
export const IOMAP_F_BOUNDARY = 1 << 6;
/** No address yet: the filesystem chooses one when the write is submitted. */
export const IOMAP_F_ANON_WRITE = 1 << 7;
/** The write must reach the device as one untorn request. */
export const IOMAP_F_ATOMIC_BIO = 1 << 8;
/** Protection information goes with the data. */
export const IOMAP_F_INTEGRITY = 1 << 9;
/** After the written bytes the rest of the last block is zeroed even though the mapping is MAPPED. */
export const IOMAP_F_ZERO_TAIL = 1 << 10;
/** Verity metadata past the end of the file, in the file's own cache: EOF rules do not apply. */
export const IOMAP_F_FSVERITY = 1 << 11;
/** The filesystem's own. */
export const IOMAP_F_PRIVATE = 1 << 12;
/** Walk the attached batch of dirty folios instead of looking folios up. */
export const IOMAP_F_FOLIO_BATCH = 1 << 13;
/** This step raised i_size; end() has to persist it. */
export const IOMAP_F_SIZE_CHANGED = 1 << 14;
/** Not trusted any more: the step ends and the range is mapped again. */
export const IOMAP_F_STALE = 1 << 15;

/** What a filesystem may set. */
export const IOMAP_F_FS_MASK = (1 << 13) - 1;

// Flags of an operation, the argument of begin() and end(). None: read.
/** Will write: allocate or reserve. */
export const IOMAP_WRITE = 1 << 0;
/** Zeroing: nothing is allocated for holes and unwritten ranges. */
export const IOMAP_ZERO = 1 << 1;
/** Report state only. */
export const IOMAP_REPORT = 1 << 2;
/** Page fault. */
export const IOMAP_FAULT = 1 << 3;
/** Direct I/O; with WRITE: real blocks, not DELALLOC. */
export const IOMAP_DIRECT = 1 << 4;
/** Must not wait. */
export const IOMAP_NOWAIT = 1 << 5;
/** No allocation, no size change, no conversion that needs zeroing; else EAGAIN. */
export const IOMAP_OVERWRITE_ONLY = 1 << 6;
/** Break sharing; the source map says where the shared data is. */
export const IOMAP_UNSHARE = 1 << 7;
/** Mapping for memory access. */
export const IOMAP_DAX = 1 << 8;
/** Torn-write protection. */
export const IOMAP_ATOMIC = 1 << 9;
/** Folios are dropped after writeback. */
export const IOMAP_DONTCACHE = 1 << 10;
/** Written through the cache at once (proposed, RWF_WRITETHROUGH). */
export const IOMAP_WRITETHROUGH = 1 << 11;

// In March 2025 two mapping flags were given one bit. Never again.
for (const flags of [
  [IOMAP_F_NEW, IOMAP_F_DIRTY, IOMAP_F_SHARED, IOMAP_F_MERGED, IOMAP_F_BUFFER_HEAD, IOMAP_F_XATTR, IOMAP_F_BOUNDARY, IOMAP_F_ANON_WRITE]
    .concat([IOMAP_F_ATOMIC_BIO, IOMAP_F_INTEGRITY, IOMAP_F_ZERO_TAIL, IOMAP_F_FSVERITY, IOMAP_F_PRIVATE])
    .concat([IOMAP_F_FOLIO_BATCH, IOMAP_F_SIZE_CHANGED, IOMAP_F_STALE]),
  [IOMAP_WRITE, IOMAP_ZERO, IOMAP_REPORT, IOMAP_FAULT, IOMAP_DIRECT, IOMAP_NOWAIT, IOMAP_OVERWRITE_ONLY, IOMAP_UNSHARE, IOMAP_DAX].concat([
    IOMAP_ATOMIC,
    IOMAP_DONTCACHE,
    IOMAP_WRITETHROUGH,
  ]),
]) {
  assert(flags.reduce((all, flag) => all + flag, 0) === flags.reduce((all, flag) => all | flag, 0), 'two iomap flags share a bit');
}

/** `addr` of a mapping that has no device address: HOLE, DELALLOC, INLINE, and writes whose place is chosen at submission. */
export const IOMAP_NULL_ADDR = -1;

/**
 * Where one range of a file lives: struct iomap.
 *
 * Shape:  file bytes [offset, offset + length). MAPPED and UNWRITTEN with a device: device bytes from `addr`. MAPPED without device
 *         and address: data that the read and writeback hooks fetch and send themselves (server-fetched, in memory).
 *         The record belongs to the iterator; a filesystem fills it in begin() and keeps no reference.
 */
export class Iomap {
  type: IomapType = IOMAP_HOLE;
  flags = 0;
  offset = 0;
  length = 0;
  addr = IOMAP_NULL_ADDR;
  bdev: BlockDevice | undefined = undefined;
  daxDev: DaxDevice | undefined = undefined;
  /** INLINE: index 0 is file byte `offset`. Valid until end(). */
  inlineData: Uint8Array | undefined = undefined;
  /** The filesystem's own, from begin() to end() and the hooks. */
  private: unknown = undefined;
  /** The filesystem's sequence number at the time of begin(); compared only by its iomapValid. */
  validityCookie = 0;

  clear(): void {
    this.type = IOMAP_HOLE;
    this.flags = 0;
    this.offset = 0;
    this.length = 0;
    this.addr = IOMAP_NULL_ADDR;
    this.bdev = undefined;
    this.daxDev = undefined;
    this.inlineData = undefined;
    this.private = undefined;
    this.validityCookie = 0;
  }

  copyFrom(other: Iomap): void {
    this.type = other.type;
    this.flags = other.flags;
    this.offset = other.offset;
    this.length = other.length;
    this.addr = other.addr;
    this.bdev = other.bdev;
    this.daxDev = other.daxDev;
    this.inlineData = other.inlineData;
    this.private = other.private;
    this.validityCookie = other.validityCookie;
  }

  /** First file byte behind the mapping. */
  get end(): number {
    return this.offset + this.length;
  }

  /** True if the mapping covers the byte at `pos`. */
  covers(pos: number): boolean {
    return pos >= this.offset && pos < this.offset + this.length;
  }

  /** Device byte address of the file byte at `pos`, or IOMAP_NULL_ADDR where it is chosen at submission. */
  addrOf(pos: number): number {
    return (this.flags & IOMAP_F_ANON_WRITE) !== 0 || this.addr === IOMAP_NULL_ADDR ? IOMAP_NULL_ADDR : this.addr + (pos - this.offset);
  }
}

/** The name of a mapping type, for messages and traces. */
export function typeName(type: number): string {
  return ['HOLE', 'DELALLOC', 'MAPPED', 'UNWRITTEN', 'INLINE'][type] ?? `type ${type}`;
}
