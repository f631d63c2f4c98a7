import { struct, u8, u16, u32 } from '../../layout/struct.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { INCOMPAT_FILETYPE } from './features.ts';
import { EXT4_CASEFOLD_FL, EXT4_ENCRYPT_FL } from './format.ts';

// The records of directories, wherever they stand: in a block, or inline in the inode. Source: Linux fs/ext4/ext4.h, documented layout.
//
// Invariants of an area of records [from, end), which checkRecords proves and every change keeps:
// 1. Records tile the area: each is as long as its rec_len, a multiple of 4, and at least as long as its name needs.
// 2. A record never moves while it is in use. Room that is freed goes to the record before it; only the first may be unused for long.

/** A record; its name follows. Without the feature filetype the name's length has two bytes. */
// biome-ignore format: one row per field
export const ext4_dir_entry_2 = struct('ext4_dir_entry_2', 8, {
  inode:     u32(0), // 0: not in use
  rec_len:   u16(4), // bytes to the next record; of a block of 64 KiB see decodeRecLen
  name_len:  u8(6),
  file_type: u8(7), // EXT4_FT_*
});

export const DIR_NAME_MAX = 255;
const HEADER = ext4_dir_entry_2.size;
const REC_LEN = ext4_dir_entry_2.offsetOf('rec_len');
const NAME_LEN = ext4_dir_entry_2.offsetOf('name_len');
const FILE_TYPE = ext4_dir_entry_2.offsetOf('file_type');
/** The shortest record: a name of up to four bytes. */
export const REC_LEN_MIN = 12;
/** What records of encrypted casefold directories have behind their names: hash and minor hash. */
const HASH_BYTES = 8;
const REC_LEN_64K = 0xffff;

const SLASH = 0x2f;
const DOT = 0x2e;

/** Never used across a wait. */
const RAW = ext4_dir_entry_2.view();

/** How the records of one directory look. */
export class RecordFormat {
  readonly blockSize: number;
  readonly hasFiletype: boolean;
  /** Names are ciphertext, of any bytes. */
  readonly isEncrypted: boolean;
  /** Behind each name but "." and "..". */
  readonly hashBytes: number;
  readonly inodesCount: number;

  constructor(dir: Ext4Inode) {
    const { es } = dir.sb;
    this.blockSize = dir.sb.blockSize;
    this.hasFiletype = es.hasIncompat(INCOMPAT_FILETYPE);
    this.isEncrypted = (dir.flags & EXT4_ENCRYPT_FL) !== 0;
    this.hashBytes = this.isEncrypted && (dir.flags & EXT4_CASEFOLD_FL) !== 0 ? HASH_BYTES : 0;
    this.inodesCount = es.inodesCount;
  }

  /** Bytes that a name takes at least. */
  recSize(nameLen: number): number {
    return ((HEADER + nameLen + 3) & ~3) + this.hashBytes;
  }

  decodeRecLen(raw: number): number {
    if (this.blockSize < 65536) return raw;
    // A block of 64 KiB is longer than 16 bits can say: the two low bits, always 0 in a length, hold bits 16 and 17.
    return raw === 0 || raw === REC_LEN_64K ? 65536 : (raw & 0xfffc) | ((raw & 3) << 16);
  }

  /** The length of the record at `offset`, whatever it is. */
  recLenAt(bytes: Uint8Array, offset: number): number {
    return this.decodeRecLen((bytes[offset + REC_LEN] as number) | ((bytes[offset + REC_LEN + 1] as number) << 8));
  }

  encodeRecLen(recLen: number): number {
    return recLen === 65536 ? REC_LEN_64K : recLen;
  }
}

/**
 * A walk over records. One object for the whole walk: its properties are those of the record where it stands.
 *
 * Shape:   next() is false at the end, and at a record that breaks the tiling, which checkRecords would have refused: `isBroken`.
 */
export class RecordWalk {
  readonly #format: RecordFormat;
  readonly #typeMask: number;
  readonly bytes: Uint8Array;
  readonly #end: number;
  #next: number;
  isBroken = false;
  offset = -1;
  recLen = 0;
  nameLen = 0;
  fileType = 0;

  constructor(format: RecordFormat, bytes: Uint8Array, from: number, end: number) {
    this.#format = format;
    this.#typeMask = format.hasFiletype ? 0xff : 0;
    this.bytes = bytes;
    this.#next = from;
    this.#end = end;
  }

  // Reads bytes, not a cursor of the struct: this is the inner loop of every lookup, and twice as fast.
  next(): boolean {
    const at = this.#next;
    const left = this.#end - at;
    if (left < REC_LEN_MIN) {
      this.isBroken = left !== 0;
      return false;
    }
    const { bytes } = this;
    const recLen = this.#format.recLenAt(bytes, at);
    const fileType = bytes[at + FILE_TYPE] as number;
    this.fileType = fileType & this.#typeMask;
    this.nameLen = (bytes[at + NAME_LEN] as number) | ((fileType & ~this.#typeMask) << 8);
    if (recLen < REC_LEN_MIN || recLen > left || (recLen & 3) !== 0 || HEADER + this.nameLen > recLen) {
      this.isBroken = true;
      return false;
    }
    this.offset = at;
    this.recLen = recLen;
    this.#next = at + recLen;
    return true;
  }

  /** 0: not in use. */
  get inode(): number {
    const { bytes, offset } = this;
    return (
      ((bytes[offset] as number) |
        ((bytes[offset + 1] as number) << 8) |
        ((bytes[offset + 2] as number) << 16) |
        ((bytes[offset + 3] as number) << 24)) >>>
      0
    );
  }

  get nameStart(): number {
    return this.offset + HEADER;
  }

  get nameEnd(): number {
    return this.offset + HEADER + this.nameLen;
  }

  /** "." or "..". */
  get isDots(): boolean {
    const { bytes, nameLen } = this;
    const at = this.nameStart;
    return (nameLen === 1 || (nameLen === 2 && bytes[at + 1] === DOT)) && bytes[at] === DOT;
  }

  hasName(name: Uint8Array): boolean {
    if (this.nameLen !== name.length || this.inode === 0) return false;
    const { bytes } = this;
    const at = this.nameStart;
    for (let i = name.length - 1; i >= 0; i--) if (bytes[at + i] !== name[i]) return false;
    return true;
  }

  /** In use by a name that can be given to anybody: not a dot name, which the caller has looked at, and no '/' or NUL in it. */
  get isListed(): boolean {
    if (this.inode === 0 || this.nameLen === 0 || this.isDots) return false;
    if (this.#format.isEncrypted) return true;
    for (let at = this.nameStart, end = this.nameEnd; at < end; at++) {
      if (this.bytes[at] === SLASH || this.bytes[at] === 0) return false;
    }
    return true;
  }

  /** Bytes that the record needs at least. */
  get size(): number {
    return this.isDots ? REC_LEN_MIN : this.#format.recSize(this.nameLen);
  }
}

/** What is wrong with the records of [from, end), or undefined. Proves what RecordWalk and every change rely on. */
export function checkRecords(format: RecordFormat, bytes: Uint8Array, from: number, end: number): string | undefined {
  const walk = new RecordWalk(format, bytes, from, end);
  let next = from;
  while (walk.next()) {
    const { offset, recLen, nameLen, inode } = walk;
    next = offset + recLen;
    if (nameLen > DIR_NAME_MAX || walk.size > recLen) return `record at ${offset}: ${recLen} bytes for a name of ${nameLen}`;
    if (inode === 0) continue;
    if (nameLen === 0) return `record at ${offset}: no name`;
    if (inode > format.inodesCount) return `record at ${offset}: inode ${inode} of ${format.inodesCount}`;
  }
  return walk.isBroken ? `record at ${next}: length or place` : undefined;
}

/** The offset of the record of a name in use, or -1. */
export function findRecord(format: RecordFormat, bytes: Uint8Array, from: number, end: number, name: Uint8Array): number {
  const walk = new RecordWalk(format, bytes, from, end);
  while (walk.next()) if (walk.hasName(name)) return walk.offset;
  return -1;
}

/** The area holds the name already. */
export const NAME_EXISTS = -2;

/** Where a record of `size` bytes can go: the offset of the record with the slack (or without use), -1 for nowhere, or NAME_EXISTS. */
export function findRoom(format: RecordFormat, bytes: Uint8Array, from: number, end: number, name: Uint8Array, size: number): number {
  const walk = new RecordWalk(format, bytes, from, end);
  let room = -1;
  while (walk.next()) {
    if (walk.hasName(name)) return NAME_EXISTS;
    if (room < 0 && walk.recLen - (walk.inode === 0 ? 0 : walk.size) >= size) room = walk.offset;
  }
  return room;
}

/** Puts a name at the offset that findRoom gave: behind the record there, which shrinks to what it needs, or in its place. */
export function insertRecord(
  format: RecordFormat,
  bytes: Uint8Array,
  end: number,
  room: number,
  name: Uint8Array,
  ino: number,
  type: number,
) {
  const walk = new RecordWalk(format, bytes, room, end);
  walk.next();
  const used = walk.inode === 0 ? 0 : walk.size;
  if (used > 0) setRecLen(format, bytes, room, used);
  writeRecord(format, bytes, room + used, walk.recLen - used, name, ino, type);
}

/** Writes a whole record, with zeros behind the name. */
export function writeRecord(
  format: RecordFormat,
  bytes: Uint8Array,
  offset: number,
  recLen: number,
  name: Uint8Array,
  ino: number,
  type: number,
): void {
  const raw = RAW.at(bytes, offset);
  raw.inode = ino;
  raw.rec_len = format.encodeRecLen(recLen);
  raw.name_len = name.length;
  raw.file_type = format.hasFiletype ? type : 0;
  bytes.set(name, offset + HEADER);
  bytes.fill(0, offset + HEADER + name.length, offset + (name.length === 0 ? REC_LEN_MIN : format.recSize(name.length)));
}

/** Takes a record away. Its room goes to the one before; the first of the area stays, without use. */
export function removeRecord(format: RecordFormat, bytes: Uint8Array, from: number, end: number, offset: number): void {
  const walk = new RecordWalk(format, bytes, from, end);
  let before = -1;
  let beforeLen = 0;
  while (walk.next() && walk.offset < offset) {
    before = walk.offset;
    beforeLen = walk.recLen;
  }
  if (before < 0) {
    bytes.fill(0, offset + HEADER, walk.nameEnd);
    const raw = RAW.at(bytes, offset);
    raw.inode = 0;
    raw.name_len = 0;
    raw.file_type = 0;
    return;
  }
  bytes.fill(0, offset, walk.nameEnd);
  setRecLen(format, bytes, before, beforeLen + walk.recLen);
}

/** Changes the length of a record. */
export function setRecLen(format: RecordFormat, bytes: Uint8Array, offset: number, recLen: number): void {
  RAW.at(bytes, offset).rec_len = format.encodeRecLen(recLen);
}

/** Points a record at another inode. */
export function setRecordInode(format: RecordFormat, bytes: Uint8Array, offset: number, ino: number, type: number): void {
  const raw = RAW.at(bytes, offset);
  raw.inode = ino;
  if (format.hasFiletype) raw.file_type = type;
}
