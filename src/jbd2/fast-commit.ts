import { crc32c } from '../base/crc.ts';
import { FsError } from '../base/fs-error.ts';
import { pad, struct, u16, u32 } from '../layout/struct.ts';

export const EXT4_FC_TAG_ADD_RANGE = 1;
export const EXT4_FC_TAG_DEL_RANGE = 2;
export const EXT4_FC_TAG_CREAT = 3;
export const EXT4_FC_TAG_LINK = 4;
export const EXT4_FC_TAG_UNLINK = 5;
export const EXT4_FC_TAG_INODE = 6;
export const EXT4_FC_TAG_PAD = 7;
export const EXT4_FC_TAG_TAIL = 8;
export const EXT4_FC_TAG_HEAD = 9;

const EXT4_NAME_LEN = 255;
const INODE_SIZE_MIN = 128;
const INODE_SIZE_MAX = 65536;
const EXT_INIT_MAX_LEN = 32768;

// Little-endian, unlike the log around it. Source: Linux fs/ext4/fast_commit.h

const ext4_fc_tl = struct('ext4_fc_tl', 4, { fc_tag: u16(0), fc_len: u16(2) });
const ext4_fc_head = struct('ext4_fc_head', 8, { fc_features: u32(0), fc_tid: u32(4) });
const ext4_fc_tail = struct('ext4_fc_tail', 8, { fc_tid: u32(0), fc_crc: u32(4) });
/** ext4_fc_add_range: an inode and an ext4_extent. */
// biome-ignore format: one row per field, as the format is drawn
const ext4_fc_add_range = struct('ext4_fc_add_range', 16, {
  fc_ino:      u32(0),
  ee_block:    u32(4),
  ee_len:      u16(8), // blocks; above 32768 the run is unwritten and 32768 is subtracted
  ee_start_hi: u16(10),
  ee_start_lo: u32(12),
});
const ext4_fc_del_range = struct('ext4_fc_del_range', 12, { fc_ino: u32(0), fc_lblk: u32(4), fc_len: u32(8) });
/** ext4_fc_dentry_info, followed by the name. */
const ext4_fc_dentry_info = struct('ext4_fc_dentry_info', 8, { fc_parent_ino: u32(0), fc_ino: u32(4) });
/** ext4_fc_inode, followed by the record: 128 bytes and those of i_extra_isize. */
const ext4_fc_inode = struct('ext4_fc_inode', 4, { fc_ino: u32(0) });
/** What of an inode's record says how long it is. */
const ext4_inode_extra = struct('ext4_inode_extra', 4, { i_extra_isize: u16(0), i_checksum_hi: pad(2, 2) });

/** One change of a fast commit, checked as far as it can be without the volume. */
export type FastCommitRecord =
  /** Blocks [lblk, lblk + length) of the file are those from `start` on. */
  | { readonly tag: 'add_range'; ino: number; lblk: number; length: number; start: number; isUnwritten: boolean }
  | { readonly tag: 'del_range'; ino: number; lblk: number; length: number }
  | { readonly tag: 'creat' | 'link' | 'unlink'; parent: number; ino: number; name: Uint8Array }
  /** `raw`: the start of the inode's record, 128 bytes or more. */
  | { readonly tag: 'inode'; ino: number; raw: Uint8Array };

const DENTRY_TAGS: Readonly<Record<number, 'creat' | 'link' | 'unlink'>> = {
  [EXT4_FC_TAG_CREAT]: 'creat',
  [EXT4_FC_TAG_LINK]: 'link',
  [EXT4_FC_TAG_UNLINK]: 'unlink',
};

/**
 * Reads the area of fast commits, block by block.
 *
 * Invariant: `records` has those before the last tail with the right transaction and checksum.
 */
export class FastCommitScan {
  readonly #tid: number;
  readonly #records: FastCommitRecord[] = [];
  /** How many of #records are committed. */
  #committed = 0;
  #crc = 0;
  #isFirst = true;

  /** `tid`: the transaction that would come next, which the fast commits are a part of. */
  constructor(tid: number) {
    this.#tid = tid;
  }

  get records(): readonly FastCommitRecord[] {
    return this.#records.slice(0, this.#committed);
  }

  /**
   * Takes the next block, which it keeps views of. False when nothing that follows counts.
   *
   * Errors: EOPNOTSUPP for fast commits with features; EUCLEAN for a change that is committed but makes no sense.
   */
  add(block: Uint8Array): boolean {
    for (let at = 0; at + ext4_fc_tl.size <= block.length; ) {
      const { fc_tag: tag, fc_len: length } = ext4_fc_tl.read(block, at);
      const start = at + ext4_fc_tl.size;
      const end = start + length;
      if (end > block.length || (this.#isFirst && tag !== EXT4_FC_TAG_HEAD)) return false;
      const value = block.subarray(start, end);
      if (tag === EXT4_FC_TAG_TAIL) {
        if (!this.#commit(block, at, value)) return false;
      } else {
        if (tag === EXT4_FC_TAG_HEAD) {
          if (!this.#begin(value)) return false;
        } else if (tag !== EXT4_FC_TAG_PAD) {
          const record = readRecord(tag, value);
          if (record === undefined) return false;
          this.#records.push(record);
        }
        this.#crc = crc32c(this.#crc, block, at, end);
      }
      this.#isFirst = false;
      at = end;
    }
    return true;
  }

  #begin(value: Uint8Array): boolean {
    if (value.length < ext4_fc_head.size) return false;
    const { fc_features, fc_tid } = ext4_fc_head.read(value);
    // Left over from an earlier transaction.
    if (fc_tid !== this.#tid) return false;
    if (fc_features !== 0) throw new FsError('EOPNOTSUPP', 'mount', { detail: `fast commit features 0x${fc_features.toString(16)}` });
    return true;
  }

  #commit(block: Uint8Array, at: number, value: Uint8Array): boolean {
    if (value.length < ext4_fc_tail.size) return false;
    const { fc_tid, fc_crc } = ext4_fc_tail.read(value);
    const crc = crc32c(this.#crc, block, at, at + ext4_fc_tl.size + 4);
    if (fc_tid !== this.#tid || fc_crc !== crc) return false;
    this.#crc = 0;
    this.#committed = this.#records.length;
    return true;
  }
}

/** Undefined for what no writer writes: nothing from there on is committed. */
function readRecord(tag: number, value: Uint8Array): FastCommitRecord | undefined {
  const { length } = value;
  const dentryTag = DENTRY_TAGS[tag];
  if (dentryTag !== undefined) {
    const nameLength = length - ext4_fc_dentry_info.size;
    if (nameLength < 1 || nameLength > EXT4_NAME_LEN) return undefined;
    const { fc_parent_ino: parent, fc_ino: ino } = ext4_fc_dentry_info.read(value);
    return { tag: dentryTag, parent, ino, name: value.subarray(ext4_fc_dentry_info.size) };
  }
  if (tag === EXT4_FC_TAG_ADD_RANGE && length === ext4_fc_add_range.size) {
    const range = ext4_fc_add_range.read(value);
    const isUnwritten = range.ee_len > EXT_INIT_MAX_LEN;
    const blocks = isUnwritten ? range.ee_len - EXT_INIT_MAX_LEN : range.ee_len;
    if (blocks === 0 || range.ee_block + blocks > 2 ** 32) return undefined;
    return {
      tag: 'add_range',
      ino: range.fc_ino,
      lblk: range.ee_block,
      length: blocks,
      start: range.ee_start_hi * 2 ** 32 + range.ee_start_lo,
      isUnwritten,
    };
  }
  if (tag === EXT4_FC_TAG_DEL_RANGE && length === ext4_fc_del_range.size) {
    const { fc_ino: ino, fc_lblk: lblk, fc_len: blocks } = ext4_fc_del_range.read(value);
    return lblk + blocks > 2 ** 32 ? undefined : { tag: 'del_range', ino, lblk, length: blocks };
  }
  if (tag === EXT4_FC_TAG_INODE) {
    const raw = value.subarray(ext4_fc_inode.size);
    if (length < ext4_fc_inode.size + INODE_SIZE_MIN || raw.length > INODE_SIZE_MAX) return undefined;
    // A longer record says itself how much of it there is.
    if (raw.length >= INODE_SIZE_MIN + ext4_inode_extra.size) {
      const { i_extra_isize } = ext4_inode_extra.read(raw, INODE_SIZE_MIN);
      if (INODE_SIZE_MIN + i_extra_isize > raw.length) return undefined;
    }
    return { tag: 'inode', ino: ext4_fc_inode.read(value).fc_ino, raw };
  }
  return undefined;
}
