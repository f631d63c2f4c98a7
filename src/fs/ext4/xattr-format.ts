// biome-ignore-all format: one row per field, as the formats are drawn
import { crc32c, crc32cWord } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import { struct, u8, u16, u32, u32array } from '../../layout/struct.ts';
import { nameBytes, nameLength, nameOf } from '../../vfs/name.ts';
import { XATTR_NAME_POSIX_ACL_ACCESS, XATTR_NAME_POSIX_ACL_DEFAULT } from '../../vfs/posix-acl.ts';
import { XATTR_NAME_MAX } from '../../vfs/uapi.ts';

// Extended attributes as they lie in an area: a list of entries that grows upwards, ended by a zero word, and values that grow down from the
// end of the area. There are two kinds of area, the room behind an inode's fields and a block. Source: Linux fs/ext4/xattr.h.

export const EXT4_XATTR_MAGIC = 0xea020000;
/** Inodes that may share one block. */
export const EXT4_XATTR_REFCOUNT_MAX = 1024;

/** At the start of the area in an inode. Value offsets count from its end. */
export const ext4_xattr_ibody_header = struct('ext4_xattr_ibody_header', 4, { h_magic: u32(0) });

/** At the start of a block of attributes. Value offsets count from the start of the block. */
export const ext4_xattr_header = struct('ext4_xattr_header', 32, {
  h_magic:    u32(0),
  h_refcount: u32(4),  // inodes whose i_file_acl leads here
  h_blocks:   u32(8),  // 1
  h_hash:     u32(12), // of all entries, 0: not to be shared
  h_checksum: u32(16), // crc32c of the block's number and content
  h_reserved: u32array(20, 3),
});

/** Followed by the name, padded to 4 bytes. */
export const ext4_xattr_entry = struct('ext4_xattr_entry', 16, {
  e_name_len:   u8(0),
  e_name_index: u8(1),   // EXT4_XATTR_INDEX_*
  e_value_offs: u16(2),  // 0 where there is no value in the area
  e_value_inum: u32(4),  // inode whose content is the value, 0: it lies in the area
  e_value_size: u32(8),
  e_hash:       u32(12), // of name and value; 0 for values in the inode
});

// e_name_index.
export const EXT4_XATTR_INDEX_USER = 1;
export const EXT4_XATTR_INDEX_POSIX_ACL_ACCESS = 2;
export const EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT = 3;
export const EXT4_XATTR_INDEX_TRUSTED = 4;
export const EXT4_XATTR_INDEX_SECURITY = 6;
export const EXT4_XATTR_INDEX_SYSTEM = 7;
export const EXT4_XATTR_INDEX_HURD = 10;

/** What stands before the name in the entry; other indexes are kept and not shown. */
const PREFIXES: readonly (readonly [index: number, prefix: string])[] = [
  [EXT4_XATTR_INDEX_USER, 'user.'],
  [EXT4_XATTR_INDEX_TRUSTED, 'trusted.'],
  [EXT4_XATTR_INDEX_SECURITY, 'security.'],
  [EXT4_XATTR_INDEX_HURD, 'gnu.'],
];
/** Indexes that are the whole name. */
const WHOLE_NAMES: readonly (readonly [index: number, name: string])[] = [
  [EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_NAME_POSIX_ACL_ACCESS],
  [EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT, XATTR_NAME_POSIX_ACL_DEFAULT],
];

/** What an attribute is called in an area. */
export interface XattrKey {
  /** EXT4_XATTR_INDEX_*. */
  readonly index: number;
  /** What follows the prefix. */
  readonly name: Uint8Array;
}

/** An attribute of an area. */
export interface XattrEntry extends XattrKey {
  /** Where `inum` is 0: a view of the area. Otherwise empty. */
  readonly value: Uint8Array;
  /** Inode whose content is the value, or 0. */
  readonly inum: number;
  /** Bytes of the value, wherever it is. */
  readonly size: number;
  readonly hash: number;
}

/** The key of a full name. Errors: EOPNOTSUPP for a prefix that has no index, EINVAL without anything behind it, ERANGE where it is too long. */
export function keyOf(fullName: string, syscall: string): XattrKey {
  if (nameLength(fullName) > XATTR_NAME_MAX) throw new FsError('ERANGE', syscall);
  const whole = WHOLE_NAMES.find(([, name]) => name === fullName);
  if (whole !== undefined) return { index: whole[0], name: new Uint8Array(0) };
  const row = PREFIXES.find(([, prefix]) => fullName.startsWith(prefix));
  if (row === undefined) throw new FsError('EOPNOTSUPP', syscall);
  if (fullName === row[1] || fullName.includes('\0')) throw new FsError('EINVAL', syscall);
  return { index: row[0], name: nameBytes(fullName.slice(row[1].length)) };
}

/** The full name of an entry; undefined for those that are not shown. */
export function fullNameOf({ index, name }: XattrKey): string | undefined {
  const whole = WHOLE_NAMES.find(([known]) => known === index);
  if (whole !== undefined) return whole[1];
  const row = PREFIXES.find(([known]) => known === index);
  return row === undefined ? undefined : row[1] + nameOf(name);
}

export function isAcl({ index }: XattrKey): boolean {
  return index === EXT4_XATTR_INDEX_POSIX_ACL_ACCESS || index === EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT;
}

/** The order of entries in a block: index, length of the name, name. 0: the same attribute. */
export function compareKeys(a: XattrKey, b: XattrKey): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  return compareBytes(a.name, b.name);
}

/** Of arrays of one length. */
function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number);
  return 0;
}

export function isSameValue(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && compareBytes(a, b) === 0;
}

/** Where entries and values of an area lie. */
export interface AreaShape {
  /** The first entry. */
  readonly first: number;
  /** What e_value_offs counts from. */
  readonly valueBase: number;
}

export const IBODY_AREA: AreaShape = { first: ext4_xattr_ibody_header.size, valueBase: ext4_xattr_ibody_header.size };
export const BLOCK_AREA: AreaShape = { first: ext4_xattr_header.size, valueBase: 0 };

/** The zero word behind the last entry. */
const TERMINATOR_SIZE = 4;

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/** Bytes of an area that an entry takes, with its value. */
export function entrySpace({ name, value }: { readonly name: Uint8Array; readonly value: Uint8Array }): number {
  return padded(ext4_xattr_entry.size + name.length) + padded(value.length);
}

/** Bytes of an area of `length` bytes that are left beside these entries; below 0 where they do not fit. */
export function freeSpace(entries: readonly XattrEntry[], length: number, shape: AreaShape): number {
  return entries.reduce((left, entry) => left - entrySpace(entry), length - shape.first - TERMINATOR_SIZE);
}

/**
 * The attributes of an area, in its order. Values are views of `area`.
 *
 * Errors:  EUCLEAN for a list that is not wholly inside the area, names that cannot be, values outside or over the list or over each other.
 */
export function parseEntries(area: Uint8Array, shape: AreaShape, where: string): XattrEntry[] {
  const bad = (what: string): never => {
    throw new FsError('EUCLEAN', 'ext4', { detail: `${where}: ${what}` });
  };
  const { length } = area;
  const entries: XattrEntry[] = [];
  const spans: { start: number; end: number }[] = [];
  const raw = ext4_xattr_entry.view();
  let at = shape.first;
  for (;;) {
    if (at + TERMINATOR_SIZE > length) bad('a list of attributes without an end');
    if ((area[at] as number) + (area[at + 1] as number) + (area[at + 2] as number) + (area[at + 3] as number) === 0) break;
    if (at + ext4_xattr_entry.size > length) bad('an attribute past the end');
    raw.at(area, at);
    const { e_name_len, e_name_index: index, e_value_offs, e_value_inum: inum, e_value_size: size, e_hash: hash } = raw;
    const nameAt = at + ext4_xattr_entry.size;
    at = padded(nameAt + e_name_len);
    if (at + TERMINATOR_SIZE > length) bad('a list of attributes without an end');
    const name = area.subarray(nameAt, nameAt + e_name_len);
    if (name.includes(0)) bad('the name of an attribute with a NUL');
    if (PREFIXES.some(([known]) => known === index) && e_name_len === 0) bad('an attribute without a name');
    if (isAcl({ index, name }) && e_name_len !== 0) bad('an ACL with a name');
    let value = area.subarray(0, 0);
    if (inum === 0 && size > 0) {
      const start = shape.valueBase + e_value_offs;
      if (start + padded(size) > length) bad(`a value of ${size} bytes at ${start} of ${length}`);
      spans.push({ start, end: start + padded(size) });
      value = area.subarray(start, start + size);
    }
    entries.push({ index, name, value, inum, size, hash });
  }
  let end = at + TERMINATOR_SIZE;
  for (const span of spans.sort((a, b) => a.start - b.start)) {
    if (span.start < end) bad(`a value at ${span.start}, where something else is`);
    end = span.end;
  }
  return entries;
}

/** Writes entries and values into an area that is all zero from the first entry on, where they fit: the values from the end down. */
export function packEntries(area: Uint8Array, entries: readonly XattrEntry[], shape: AreaShape): void {
  let at = shape.first;
  let end = area.length;
  for (const { index, name, value, inum, size, hash } of entries) {
    end -= padded(value.length);
    ext4_xattr_entry.write(area, at, {
      e_name_len: name.length,
      e_name_index: index,
      e_value_offs: value.length === 0 ? 0 : end - shape.valueBase,
      e_value_inum: inum,
      e_value_size: size,
      e_hash: hash,
    });
    area.set(name, at + ext4_xattr_entry.size);
    area.set(value, end);
    at = padded(at + ext4_xattr_entry.size + name.length);
  }
}

/** e_hash. `isSigned`: bytes of the name count as signed, as machines with a signed char have written it. */
export function hashEntry(name: Uint8Array, value: Uint8Array, isSigned = false): number {
  let hash = 0;
  for (const byte of name) hash = (hash << 5) ^ (hash >>> 27) ^ (isSigned && byte > 127 ? byte - 256 : byte);
  for (let at = 0; at < value.length; at += 4) hash = addWord(hash, wordAt(value, at));
  return hash >>> 0;
}

/** e_hash of an attribute whose value is in an inode: the checksum of the value takes the value's place. */
export function hashInodeEntry(name: Uint8Array, valueChecksum: number, isSigned = false): number {
  return addWord(hashEntry(name, new Uint8Array(0), isSigned), valueChecksum) >>> 0;
}

/** h_hash of a block with these entries. */
export function hashBlock(entries: readonly XattrEntry[]): number {
  let hash = 0;
  for (const entry of entries) {
    if (entry.hash === 0) return 0;
    hash = addWord(hash, entry.hash);
  }
  return hash >>> 0;
}

function addWord(hash: number, word: number): number {
  return (hash << 16) ^ (hash >>> 16) ^ word;
}

/** The word of up to four bytes; those that are not there are zero. */
function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
}

/** h_checksum of a block. */
export function checksumBlock(csumSeed: number, blocknr: number, block: Uint8Array): number {
  const seed = crc32cWord(crc32cWord(csumSeed, blocknr | 0), Math.floor(blocknr / 2 ** 32));
  const field = ext4_xattr_header.offsetOf('h_checksum');
  return crc32c(crc32cWord(crc32c(seed, block, 0, field), 0), block, field + 4);
}
