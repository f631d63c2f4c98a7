import { crc32c } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { struct, u8, u16, u32 } from '../../layout/struct.ts';
import { appendFileBlock, mapBlocks, readFileBlock } from './block-map.ts';
import { CHECKED_DIR_LEAF } from './checked.ts';
import { checkRecords, REC_LEN_MIN, type RecordFormat, writeRecord } from './dir-record.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { INCOMPAT_LARGEDIR } from './features.ts';
import { EXT4_FT_DIR_CSUM } from './format.ts';

// Blocks of a directory that hold records: all of a linear directory, the leaves of an indexed one. With metadata_csum such a block ends in
// a checksum dressed as a record. Source: Linux fs/ext4/namei.c, documented layout.
//
// Invariant: the bytes of a block whose `seal` is set came from here. Their checksum is made when they leave memory, so it is verified only
// where `seal` is not set. `seal` is set with every change.

/** The checksum at the end of a block, dressed as a record without name. */
// biome-ignore format: one row per field
export const ext4_dir_entry_tail = struct('ext4_dir_entry_tail', 12, {
  det_reserved_zero1: u32(0),
  det_rec_len:        u16(4), // 12
  det_reserved_zero2: u8(6),
  det_reserved_ft:    u8(7), // EXT4_FT_DIR_CSUM
  det_checksum:       u32(8), // crc32c of what lies before the tail, from the inode's seed
});

const TAIL_SIZE = ext4_dir_entry_tail.size;
/** Length of "." and of the shortest "..": the two that begin the first block. */
export const DOT_SIZE = 12;
export const DOT_NAME: Uint8Array = Uint8Array.of(0x2e);
export const DOTDOT_NAME: Uint8Array = Uint8Array.of(0x2e, 0x2e);
const NO_NAME = new Uint8Array(0);

/** Blocks of a directory. Errors: EUCLEAN for a size that no directory has. */
export function dirBlockCount(dir: Ext4Inode): number {
  const count = dir.size / dir.sb.blockSize;
  if (!(Number.isInteger(count) && count > 0 && count <= dir.sb.es.blocksCount && count < 2 ** 32)) {
    dir.sb.corrupted(`directory ${dir.ino} has a size of ${dir.size}`);
  }
  return count;
}

/**
 * Does a block look like one of an index? To readers of records it is empty, or has the dot names only. It has no tail. Where leaves have
 * none either (no checksums), one with two names looks so too, if the first is short: it is not to be taken for empty.
 */
export function isIndexLike(format: RecordFormat, data: Uint8Array): boolean {
  const { blockSize } = format;
  const first = format.recLenAt(data, 0);
  if (first === blockSize) return data[0] === 0 && data[1] === 0 && data[2] === 0 && data[3] === 0;
  return first === DOT_SIZE && format.recLenAt(data, DOT_SIZE) === blockSize - DOT_SIZE;
}

/** Where the records of a block end: at its tail, or with the block. */
export function recordsEnd(dir: Ext4Inode, format: RecordFormat, data: Uint8Array): number {
  return dir.sb.hasCsum && !isIndexLike(format, data) ? format.blockSize - TAIL_SIZE : format.blockSize;
}

/** Bytes for records in a block of its own. */
export function leafRoom(dir: Ext4Inode): number {
  return dir.sb.hasCsum ? dir.sb.blockSize - TAIL_SIZE : dir.sb.blockSize;
}

/** A block of records, checked; undefined for a hole. Errors: EBADMSG, EUCLEAN. */
export function* readLeaf(dir: Ext4Inode, format: RecordFormat, lblk: number): Task<BufferHead | undefined> {
  const bh = yield* readFileBlock(dir, lblk);
  if (bh !== undefined && bh.checked !== CHECKED_DIR_LEAF) checkLeaf(dir, format, bh, lblk);
  return bh;
}

/** The block behind a hole. */
export function* endOfHole(dir: Ext4Inode, lblk: number): Task<number> {
  const hole = yield* mapBlocks(dir, lblk);
  return Math.max(lblk + 1, hole.lblk + hole.count);
}

/** The same for a change, which does not go around holes. */
export function* needLeaf(dir: Ext4Inode, format: RecordFormat, lblk: number): Task<BufferHead> {
  return (yield* readLeaf(dir, format, lblk)) ?? dir.sb.corrupted(`directory ${dir.ino} has a hole at block ${lblk}`);
}

function checkLeaf(dir: Ext4Inode, format: RecordFormat, bh: BufferHead, lblk: number): void {
  const { data } = bh;
  const end = recordsEnd(dir, format, data);
  if (end < format.blockSize && bh.seal === undefined) {
    const tail = ext4_dir_entry_tail.read(data, end);
    const isTail = tail.det_reserved_zero1 === 0 && tail.det_rec_len === TAIL_SIZE && tail.det_reserved_ft === EXT4_FT_DIR_CSUM;
    if (!isTail || tail.det_checksum !== crc32c(dir.csumSeed, data, 0, end)) {
      dir.sb.corrupted(`directory ${dir.ino}, block ${lblk}: checksum`, 'EBADMSG');
    }
  }
  const wrong = checkRecords(format, data, 0, end);
  if (wrong !== undefined) dir.sb.corrupted(`directory ${dir.ino}, block ${lblk}: ${wrong}`);
  bh.checked = CHECKED_DIR_LEAF;
}

/** The records of a block, to be changed. */
export function changeLeaf(h: Handle, dir: Ext4Inode, bh: BufferHead): Uint8Array {
  const data = h.getWriteAccess(bh);
  bh.decoded = undefined;
  bh.checked = CHECKED_DIR_LEAF;
  const { csumSeed } = dir;
  bh.seal = dir.sb.hasCsum ? (leaf) => sealLeaf(leaf.data, csumSeed) : undefined;
  return data;
}

function sealLeaf(data: Uint8Array, csumSeed: number): void {
  const at = data.length - TAIL_SIZE;
  ext4_dir_entry_tail.view().at(data, at).det_checksum = crc32c(csumSeed, data, 0, at);
}

/** Makes an array of zeros, but for what its caller keeps before `from`, records without use from there on, and the tail. */
export function initLeaf(dir: Ext4Inode, format: RecordFormat, data: Uint8Array, from = 0): void {
  const end = leafRoom(dir);
  data.fill(0, from);
  if (end - from >= REC_LEN_MIN) writeRecord(format, data, from, end - from, NO_NAME, 0, 0);
  if (end < data.length) ext4_dir_entry_tail.write(data, end, { det_rec_len: TAIL_SIZE, det_reserved_ft: EXT4_FT_DIR_CSUM });
}

/** A name was met that its caller has found to be absent. */
export function nameExists(dir: Ext4Inode): FsError {
  return new FsError('EEXIST', 'ext4', { detail: `${dir.place}: the name is there` });
}

/** A new block at the end of a directory, whose content its caller makes. Errors: ENOSPC, also for a directory that cannot be larger. */
export function* appendDirBlock(h: Handle, dir: Ext4Inode): Task<{ lblk: number; bh: BufferHead }> {
  const isLarge = dir.sb.es.hasIncompat(INCOMPAT_LARGEDIR);
  // Without large_dir the size of a directory has 32 bits. Block numbers in an index have 28.
  if (dir.size + dir.sb.blockSize >= (isLarge ? 2 ** 28 * dir.sb.blockSize : 2 ** 32)) {
    throw new FsError('ENOSPC', 'ext4', { detail: `${dir.place}: the directory cannot be larger` });
  }
  return yield* appendFileBlock(h, dir);
}

/** A new block of records at the end, without any. */
export function* appendLeaf(h: Handle, dir: Ext4Inode, format: RecordFormat): Task<{ lblk: number; bh: BufferHead }> {
  const added = yield* appendDirBlock(h, dir);
  initLeaf(dir, format, changeLeaf(h, dir, added.bh));
  return added;
}
