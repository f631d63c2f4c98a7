import { crc32c } from '../../base/crc.ts';
import { type Task, wait } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Timespec } from '../../vfs/attr.ts';
import { isDirectory } from '../../vfs/uapi.ts';
import { CHECKED_ITABLE } from './checked.ts';
import { Ext4Inode, NO_TIME } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import * as feature from './features.ts';
import { EXT_MAX_BLOCKS, EXT4_HUGE_FILE_FL, ext4_inode, ext4_inode_extra } from './format.ts';

const INODE_SIZE_MIN = 128;
/** Offset of i_checksum_lo in the record, and of what lies behind the fields that every inode has. */
const CHECKSUM_LO = ext4_inode.offsetOf('i_checksum_lo');
const CHECKSUM_HI = INODE_SIZE_MIN + ext4_inode_extra.offsetOf('i_checksum_hi');
/** i_extra_isize that reaches the end of a field. */
const HAS_CHECKSUM_HI = 4;
const HAS_CTIME = 8;
const HAS_MTIME = 12;
const HAS_ATIME = 16;
const HAS_CRTIME = 24;
const HAS_VERSION_HI = 28;
const HAS_PROJID = 32;
/** Inode blocks fetched around the one that is asked for. */
const READAHEAD_BLOCKS = 32;

const head = ext4_inode.view();
const extra = ext4_inode_extra.view();
/** The extra fields of the record at hand, with zeros where it has none. */
const scratch = new Uint8Array(ext4_inode_extra.size);

/**
 * The inode with this number: the object in core, or its record.
 *
 * Errors: EUCLEAN for a number out of range or a record that makes no sense; EBADMSG for its checksum. A record without names is the
 *         caller's business.
 */
export function* getInode(sb: Ext4Sb, ino: number): Task<Ext4Inode> {
  const known = sb.inodes.get(ino);
  if (known !== undefined) return known;
  sb.groups.checkIno(ino, 'something');
  const { block, offset } = sb.groups.placeOf(ino);
  if (sb.buffers.peek(block) === undefined) yield* wait(readAhead(sb, block, ino));
  const bh = yield* wait(sb.read(block));
  const raced = sb.inodes.get(ino); // by somebody who waited for the same block
  if (raced !== undefined) return raced;
  const inode = decodeInode(sb, ino, bh.data, offset);
  inode.nlookup = sb.parkedLookups.get(ino) ?? 0;
  sb.parkedLookups.delete(ino);
  // It may be part of the running transaction, for all that is known here: its fsync waits for that.
  if (sb.log.isDirty) inode.syncTid = inode.datasyncTid = sb.log.runningTid;
  sb.inodes.set(ino, inode);
  return inode;
}

/** What lies around one inode in the table is asked for next, as a rule. */
function readAhead(sb: Ext4Sb, block: number, ino: number): ReturnType<typeof sb.buffers.readAhead> {
  const g = Math.floor((ino - 1) / sb.es.inodesPerGroup);
  const table = sb.groups.inodeTable[g] as number;
  const used = sb.es.inodesPerGroup - (sb.groups.itableUnused[g] as number);
  const end = table + Math.ceil((used * sb.es.inodeSize) / sb.blockSize);
  const first = table + Math.floor((block - table) / READAHEAD_BLOCKS) * READAHEAD_BLOCKS;
  return sb.buffers.readAhead(first, Math.max(1, Math.min(READAHEAD_BLOCKS, end - first)));
}

function decodeInode(sb: Ext4Sb, ino: number, data: Uint8Array, offset: number): Ext4Inode {
  const inode = new Ext4Inode(sb, ino);
  decodeRecord(inode, data, offset);
  if (sb.hasCsum) {
    const sum = checksum(inode, data, offset);
    const hasHigh = inode.extraIsize >= HAS_CHECKSUM_HI;
    const stored = hasHigh ? ((extra.i_checksum_hi << 16) | head.i_checksum_lo) >>> 0 : head.i_checksum_lo;
    if (stored !== (hasHigh ? sum : sum & 0xffff)) sb.corrupted(`checksum of inode ${ino}`, 'EBADMSG');
  }
  checkInode(inode, (what) => sb.corrupted(`inode ${ino}: ${what}`));
  return inode;
}

/** The fields of a record as it stands at `offset`, whatever its checksum is. Errors: EUCLEAN for what cannot be read. */
export function decodeRecord(inode: Ext4Inode, data: Uint8Array, offset: number): void {
  const { sb, ino } = inode;
  const { es } = sb;
  const bad = (what: string): never => sb.corrupted(`inode ${ino}: ${what}`);
  head.at(data, offset);
  inode.generation = head.i_generation;
  const room = es.inodeSize - INODE_SIZE_MIN;
  scratch.fill(0);
  extra.at(scratch);
  if (room > 0) {
    const used = (data[offset + INODE_SIZE_MIN] as number) | ((data[offset + INODE_SIZE_MIN + 1] as number) << 8);
    if (used > room || used % 4 !== 0) bad(`extra fields of ${used} bytes`);
    inode.extraIsize = used;
    scratch.set(data.subarray(offset + INODE_SIZE_MIN, offset + INODE_SIZE_MIN + Math.min(used, scratch.length)));
    inode.ea = data.slice(offset + INODE_SIZE_MIN + used, offset + es.inodeSize);
  }
  inode.mode = head.i_mode;
  inode.uid = head.i_uid + head.i_uid_high * 65536;
  inode.gid = head.i_gid + head.i_gid_high * 65536;
  inode.nlink = head.i_links_count;
  inode.flags = head.i_flags;
  inode.dtime = head.i_dtime;
  inode.iBlock = head.i_block.slice();
  const hasBigSize = inode.isRegular || (isDirectory(inode.mode) && es.hasIncompat(feature.INCOMPAT_LARGEDIR));
  if (hasBigSize && head.i_size_high >= 2 ** 21) bad(`size with ${head.i_size_high} as its high word`);
  inode.size = (hasBigSize ? head.i_size_high * 2 ** 32 : 0) + head.i_size_lo;
  inode.fileAcl = head.i_file_acl_lo + (es.is64bit ? head.i_file_acl_high * 2 ** 32 : 0);
  const sectors = es.hasRoCompat(feature.RO_COMPAT_HUGE_FILE) ? head.i_blocks_high * 2 ** 32 + head.i_blocks_lo : head.i_blocks_lo;
  const inBlocks = (inode.flags & EXT4_HUGE_FILE_FL) !== 0 && es.hasRoCompat(feature.RO_COMPAT_HUGE_FILE);
  inode.blocks = inBlocks ? sectors * (es.blockSize / 512) : sectors;
  const { extraIsize } = inode;
  inode.version = head.i_version_lo + (extraIsize >= HAS_VERSION_HI ? (extra.i_version_hi & 0x1fffff) * 2 ** 32 : 0);
  inode.ctime = decodeTime(head.i_ctime, extra.i_ctime_extra);
  inode.mtime = decodeTime(head.i_mtime, extra.i_mtime_extra);
  inode.atime = decodeTime(head.i_atime, extra.i_atime_extra);
  if (extraIsize >= HAS_CRTIME) inode.crtime = decodeTime(extra.i_crtime, extra.i_crtime_extra);
  if (extraIsize >= HAS_PROJID) inode.projid = extra.i_projid;
}

/** What no inode in use may say, whatever its type. */
export function checkInode(inode: Ext4Inode, bad: (what: string) => never): void {
  const { sb, size } = inode;
  const { es } = sb;
  if (inode.nlink === 0 && inode.mode === 0) return; // free: who asked sees that it has no names
  const isMapped = inode.isRegular || inode.isDirectory;
  if (inode.hasInlineData && inode.hasExtents) bad('data inline and in extents');
  if (isMapped && size > sizeMaxOf(inode)) bad(`size ${size}`);
  if (inode.fileAcl !== 0 && !sb.isDataRange(inode.fileAcl, 1)) bad(`attributes at block ${inode.fileAcl}`);
  if (inode.isDirectory && !inode.hasInlineData) {
    if (size % sb.blockSize !== 0 || size === 0) bad(`a directory of ${size} bytes`);
    if (size / 512 > inode.blocks + es.clusterRatio * (sb.blockSize / 512)) bad(`a directory of ${size} bytes in ${inode.blocks} sectors`);
  }
}

/** Bytes of the largest file of this kind. */
export function sizeMaxOf(inode: Ext4Inode): number {
  const { blockSize, es } = inode.sb;
  if (inode.hasExtents || inode.hasInlineData) return EXT_MAX_BLOCKS * blockSize;
  const perBlock = blockSize / 4;
  const mapped = 12 + perBlock + perBlock ** 2 + perBlock ** 3;
  // i_blocks has 32 bits of sectors, or with huge_file 48 bits of blocks; the tree blocks are counted too.
  const counted = es.hasRoCompat(feature.RO_COMPAT_HUGE_FILE) ? 2 ** 48 - 1 : Math.floor((2 ** 32 - 1) / (blockSize / 512));
  const all = mapped + pointerBlocks(mapped, perBlock);
  return Math.min(all <= counted ? mapped : counted - pointerBlocks(counted, perBlock), 2 ** 32 - 1) * blockSize;
}

/** Blocks with the pointers to `count` blocks of a file. */
function pointerBlocks(count: number, perBlock: number): number {
  const double = count - 12 - perBlock;
  const triple = double - perBlock ** 2;
  let blocks = count > 12 ? 1 : 0;
  if (double > 0) blocks += 1 + Math.ceil(Math.min(double, perBlock ** 2) / perBlock);
  if (triple > 0) blocks += 1 + Math.ceil(triple / perBlock) + Math.ceil(triple / perBlock ** 2);
  return blocks;
}

/** Seconds of 34 bits and nanoseconds. Source: Linux fs/ext4/ext4.h, ext4_decode_extra_time. */
function decodeTime(seconds: number, more: number): Timespec {
  const sec = (seconds | 0) + (more & 3) * 2 ** 32;
  const nsec = Math.min(more >>> 2, 999_999_999);
  return sec === 0 && nsec === 0 ? NO_TIME : { sec, nsec };
}

function secondsOf({ sec }: Timespec, hasExtra: boolean): number {
  // What does not fit is the nearest that does, as everywhere in the kernel.
  const max = hasExtra ? 2 ** 34 - 2 ** 31 - 1 : 2 ** 31 - 1;
  return Math.min(max, Math.max(-(2 ** 31), sec));
}

function extraOf(sec: number, nsec: number): number {
  return ((((sec - (sec | 0)) / 2 ** 32) & 3) | (nsec << 2)) >>> 0;
}

/**
 * The fields of `inode` may change in this handle from here on: they are as before if it is rolled back, and in the inode's record when it
 * stops. Idempotent within a handle.
 */
export function* modifyInode(h: Handle, inode: Ext4Inode): Task<void> {
  if (inode.handle === h) return;
  const { sb } = inode;
  const { block, offset } = sb.groups.placeOf(inode.ino);
  const bh = yield* wait(sb.read(block));
  h.getWriteAccess(bh);
  bh.checked = CHECKED_ITABLE;
  inode.handle = h;
  const before = spareStates.pop() ?? new InodeState();
  before.save(inode);
  h.onRollback(() => {
    inode.handle = undefined;
    before.restore(inode);
  });
  h.onStop(() => {
    inode.handle = undefined;
    inode.isLazy = false;
    sb.lazyInodes.delete(inode);
    inode.syncTid = h.tid;
    if (before.isDataChange(inode)) inode.datasyncTid = h.tid;
    encodeInode(inode, bh.data, offset);
    // Should the handle be rolled back yet, what is here is still true: nobody takes it before the next handle.
    spareStates.push(before);
  });
}

/** The fields of an inode as they were before a handle. Used again and again: most requests change an inode or two. */
class InodeState {
  #generation = 0;
  #mode = 0;
  #uid = 0;
  #gid = 0;
  #projid = 0;
  #nlink = 0;
  #size = 0;
  #blocks = 0;
  #flags = 0;
  #version = 0;
  #atime = NO_TIME;
  #mtime = NO_TIME;
  #ctime = NO_TIME;
  #crtime: Timespec | undefined = undefined;
  #dtime = 0;
  #fileAcl = 0;
  #extraIsize = 0;
  #isLazy = false;
  readonly #iBlock = new Uint8Array(60);
  #ea = new Uint8Array(0);
  #eaLength = 0;

  save(inode: Ext4Inode): void {
    this.#generation = inode.generation;
    this.#mode = inode.mode;
    this.#uid = inode.uid;
    this.#gid = inode.gid;
    this.#projid = inode.projid;
    this.#nlink = inode.nlink;
    this.#size = inode.size;
    this.#blocks = inode.blocks;
    this.#flags = inode.flags;
    this.#version = inode.version;
    this.#atime = inode.atime;
    this.#mtime = inode.mtime;
    this.#ctime = inode.ctime;
    this.#crtime = inode.crtime;
    this.#dtime = inode.dtime;
    this.#fileAcl = inode.fileAcl;
    this.#extraIsize = inode.extraIsize;
    this.#isLazy = inode.isLazy;
    this.#iBlock.set(inode.iBlock);
    if (this.#ea.length < inode.ea.length) this.#ea = new Uint8Array(inode.ea.length);
    this.#ea.set(inode.ea);
    this.#eaLength = inode.ea.length;
  }

  restore(inode: Ext4Inode): void {
    inode.generation = this.#generation;
    inode.mode = this.#mode;
    inode.uid = this.#uid;
    inode.gid = this.#gid;
    inode.projid = this.#projid;
    inode.nlink = this.#nlink;
    inode.size = this.#size;
    inode.blocks = this.#blocks;
    inode.flags = this.#flags;
    inode.version = this.#version;
    inode.atime = this.#atime;
    inode.mtime = this.#mtime;
    inode.ctime = this.#ctime;
    inode.crtime = this.#crtime;
    inode.dtime = this.#dtime;
    inode.fileAcl = this.#fileAcl;
    inode.extraIsize = this.#extraIsize;
    inode.isLazy = this.#isLazy;
    inode.iBlock = this.#iBlock.slice();
    inode.ea = this.#ea.slice(0, this.#eaLength);
  }

  /** Was anything changed that it takes to read the data back? */
  isDataChange(inode: Ext4Inode): boolean {
    return this.#size !== inode.size || this.#blocks !== inode.blocks || this.#flags !== inode.flags || inode.isMapChanged;
  }
}

const spareStates: InodeState[] = [];

/** Writes the fields into the record at `offset` of a table block. What the record has and we do not know stays. */
function encodeInode(inode: Ext4Inode, data: Uint8Array, offset: number): void {
  const { sb, extraIsize } = inode;
  const { es } = sb;
  inode.isMapChanged = false;
  head.at(data, offset);
  head.i_mode = inode.mode;
  head.i_uid = inode.uid & 0xffff;
  head.i_uid_high = inode.uid >>> 16;
  head.i_gid = inode.gid & 0xffff;
  head.i_gid_high = inode.gid >>> 16;
  head.i_links_count = inode.nlink;
  head.i_dtime = inode.dtime;
  head.i_generation = inode.generation;
  head.i_block = inode.iBlock;
  head.i_size_lo = inode.size % 2 ** 32;
  const isWide = inode.isRegular || (inode.isDirectory && es.hasIncompat(feature.INCOMPAT_LARGEDIR));
  if (isWide) head.i_size_high = Math.floor(inode.size / 2 ** 32);
  head.i_file_acl_lo = inode.fileAcl % 2 ** 32;
  if (es.is64bit) head.i_file_acl_high = Math.floor(inode.fileAcl / 2 ** 32);
  let count = inode.blocks;
  inode.flags = (inode.flags & ~EXT4_HUGE_FILE_FL) >>> 0;
  if (es.hasRoCompat(feature.RO_COMPAT_HUGE_FILE)) {
    if (count >= 2 ** 48) {
      inode.flags = (inode.flags | EXT4_HUGE_FILE_FL) >>> 0;
      count /= es.blockSize / 512;
    }
    head.i_blocks_high = Math.floor(count / 2 ** 32);
  }
  head.i_blocks_lo = count % 2 ** 32;
  head.i_flags = inode.flags;
  head.i_version_lo = inode.version % 2 ** 32;
  const has = (end: number): boolean => extraIsize >= end;
  const ctime = secondsOf(inode.ctime, has(HAS_CTIME));
  const mtime = secondsOf(inode.mtime, has(HAS_MTIME));
  const atime = secondsOf(inode.atime, has(HAS_ATIME));
  head.i_ctime = ctime >>> 0;
  head.i_mtime = mtime >>> 0;
  head.i_atime = atime >>> 0;
  if (es.inodeSize > INODE_SIZE_MIN) {
    const start = offset + INODE_SIZE_MIN;
    scratch.fill(0);
    const known = Math.min(extraIsize, scratch.length);
    scratch.set(data.subarray(start, start + known));
    extra.at(scratch);
    extra.i_extra_isize = extraIsize;
    extra.i_ctime_extra = extraOf(ctime, inode.ctime.nsec);
    extra.i_mtime_extra = extraOf(mtime, inode.mtime.nsec);
    extra.i_atime_extra = extraOf(atime, inode.atime.nsec);
    const crtime = inode.crtime ?? NO_TIME;
    const born = secondsOf(crtime, true);
    extra.i_crtime = born >>> 0;
    extra.i_crtime_extra = extraOf(born, crtime.nsec);
    extra.i_version_hi = Math.floor(inode.version / 2 ** 32);
    extra.i_projid = inode.projid;
    data.set(scratch.subarray(0, Math.max(2, known)), start);
    data.set(inode.ea, start + extraIsize);
  }
  if (!sb.hasCsum) return;
  const sum = checksum(inode, data, offset);
  head.at(data, offset);
  head.i_checksum_lo = sum & 0xffff;
  if (has(HAS_CHECKSUM_HI)) {
    data[offset + CHECKSUM_HI] = (sum >>> 16) & 0xff;
    data[offset + CHECKSUM_HI + 1] = sum >>> 24;
  }
}

/** Of the whole record, with zeros in place of the checksum. */
function checksum(inode: Ext4Inode, data: Uint8Array, offset: number): number {
  const { inodeSize } = inode.sb.es;
  let crc = crc32c(inode.csumSeed, data, offset, offset + CHECKSUM_LO);
  crc = crc32c(crc, ZEROS);
  if (inodeSize === INODE_SIZE_MIN || inode.extraIsize < HAS_CHECKSUM_HI)
    return crc32c(crc, data, offset + CHECKSUM_LO + 2, offset + inodeSize);
  crc = crc32c(crc, data, offset + CHECKSUM_LO + 2, offset + CHECKSUM_HI);
  crc = crc32c(crc, ZEROS);
  return crc32c(crc, data, offset + CHECKSUM_HI + 2, offset + inodeSize);
}

const ZEROS = new Uint8Array(2);

/** An inode's first fields: as new, with nothing in it. `extraIsize` is what its record gets. */
export function clearInode(inode: Ext4Inode, mode: number): void {
  const { sb } = inode;
  const { es } = sb;
  const room = es.inodeSize - INODE_SIZE_MIN;
  inode.mode = mode;
  inode.size = 0;
  inode.blocks = 0;
  inode.flags = 0;
  inode.version = 1;
  inode.dtime = 0;
  inode.fileAcl = 0;
  inode.nlink = 0;
  inode.projid = 0;
  inode.extraIsize = room === 0 ? 0 : Math.min(room, Math.max(es.fields.s_want_extra_isize, es.fields.s_min_extra_isize, 28));
  inode.iBlock = new Uint8Array(60);
  inode.ea = new Uint8Array(room - inode.extraIsize);
}
