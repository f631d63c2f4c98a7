import { assert } from '../../base/assert.ts';
import { crc32c, crc32cWord } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { struct, u8, u16, u32 } from '../../layout/struct.ts';
import { readFileBlock } from './block-map.ts';
import { CHECKED_DX } from './checked.ts';
import {
  appendDirBlock,
  appendLeaf,
  changeLeaf,
  DOT_NAME,
  DOT_SIZE,
  DOTDOT_NAME,
  dirBlockCount,
  initLeaf,
  isIndexLike,
  leafRoom,
  nameExists,
  needLeaf,
  recordsEnd,
} from './dir-block.ts';
import { DX_HASH_SIPHASH, DX_HASH_TEA, NameHasher } from './dir-hash.ts';
import {
  ext4_dir_entry_2,
  findRoom,
  insertRecord,
  NAME_EXISTS,
  type RecordFormat,
  RecordWalk,
  setRecLen,
  writeRecord,
} from './dir-record.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { COMPAT_DIR_INDEX, INCOMPAT_LARGEDIR } from './features.ts';
import { EXT4_CASEFOLD_FL, EXT4_ENCRYPT_FL, EXT4_INDEX_FL } from './format.ts';
import { modifyInode } from './inode-table.ts';

// The index of a directory: hash -> leaf. Block 0 is its root; nodes, of one or two levels, lie among the leaves. To a reader that knows no
// index all of its blocks are records without names. Source: Linux fs/ext4/namei.c, documented layout.
//
// Invariants of an index, checked as its blocks are met:
// 1. Entries of a block are ordered by hash; entry 0 stands for all hashes from the block's own bound on.
// 2. A leaf has the names of hashes from its key on, up to the next key. Bit 0 of a key says that the leaf before it has names of this
//    same hash too: the run is continued.
// An index that is not like this is no index: its directory is read as a linear one.

/** Behind "." and ".." of block 0. */
// biome-ignore format: one row per field
export const dx_root_info = struct('dx_root_info', 8, {
  reserved_zero:   u32(0),
  hash_version:    u8(4), // DX_HASH_*
  info_length:     u8(5), // 8
  indirect_levels: u8(6), // of nodes between the root and the leaves
  unused_flags:    u8(7), // bit 0: not for us
});

/** The first entry has limit and count in the place of its hash. */
// biome-ignore format: one row per field
export const dx_entry = struct('dx_entry', 8, {
  hash:  u32(0), // bit 0: continued
  block: u32(4), // of the directory; 28 bits
});

// biome-ignore format: one row per field
export const dx_countlimit = struct('dx_countlimit', 4, {
  limit: u16(0), // entries that fit
  count: u16(2), // entries in use, this one included
});

/** Behind the place of the last entry, with metadata_csum. */
// biome-ignore format: one row per field
export const dx_tail = struct('dx_tail', 8, {
  dt_reserved: u32(0), // not always zero: what was there when the block became a root
  dt_checksum: u32(4), // crc32c of the entries in use and what lies before them, of dt_reserved, and of a zero word
});

const ROOT_INFO = 2 * DOT_SIZE;
const ROOT_ENTRIES = ROOT_INFO + dx_root_info.size;
const NODE_ENTRIES = ext4_dir_entry_2.size;
const ENTRY_SIZE = dx_entry.size;
const BLOCK_MASK = 0x0fffffff;
/** Levels of nodes, and with large_dir. */
const LEVELS_MAX = 1;
const LEVELS_MAX_LARGE = 2;

// Never used across a wait.
const ENTRY = dx_entry.view();
const COUNT = dx_countlimit.view();
const INFO = dx_root_info.view();

/** A block of the index, and the entry that a walk took. */
class DxFrame {
  readonly lblk: number;
  readonly bh: BufferHead;
  /** Where the entries begin. */
  readonly base: number;
  at = 0;

  constructor(lblk: number, bh: BufferHead, base: number) {
    this.lblk = lblk;
    this.bh = bh;
    this.base = base;
  }

  get count(): number {
    return COUNT.at(this.bh.data, this.base).count;
  }

  get limit(): number {
    return COUNT.at(this.bh.data, this.base).limit;
  }

  /** The key of an entry but the first, with its continued bit. */
  keyOf(index: number): number {
    return ENTRY.at(this.bh.data, this.base + index * ENTRY_SIZE).hash;
  }

  blockOf(index: number): number {
    return ENTRY.at(this.bh.data, this.base + index * ENTRY_SIZE).block & BLOCK_MASK;
  }

  /** Takes the last entry whose key is not above `hash`. */
  search(hash: number): void {
    let low = 1;
    let high = this.count;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (this.keyOf(mid) > hash) high = mid;
      else low = mid + 1;
    }
    this.at = low - 1;
  }
}

/** A way from the root to a leaf. It holds for as long as nobody changes the directory. */
export class DxPath {
  readonly dir: Ext4Inode;
  readonly frames: DxFrame[];
  readonly hasher: NameHasher;
  /** Steps that may still be taken: a directory has no more leaves than blocks. */
  #budget: number;

  constructor(dir: Ext4Inode, frames: DxFrame[], hasher: NameHasher) {
    this.dir = dir;
    this.frames = frames;
    this.hasher = hasher;
    this.#budget = dirBlockCount(dir);
  }

  get #last(): DxFrame {
    return this.frames[this.frames.length - 1] as DxFrame;
  }

  /** The leaf's block of the directory. */
  get leaf(): number {
    return this.#last.blockOf(this.#last.at);
  }

  /** The key of the leaf, without the continued bit. */
  get key(): number {
    for (let level = this.frames.length - 1; level >= 0; level--) {
      const frame = this.frames[level] as DxFrame;
      if (frame.at > 0) return (frame.keyOf(frame.at) & ~1) >>> 0;
    }
    return 0;
  }

  /** The key of the leaf behind this one, with its continued bit; undefined at the end. */
  get nextKey(): number | undefined {
    for (let level = this.frames.length - 1; level >= 0; level--) {
      const frame = this.frames[level] as DxFrame;
      if (frame.at + 1 < frame.count) return frame.keyOf(frame.at + 1);
    }
    return undefined;
  }

  /** Leaves that follow in the same block of the index, at most `max` of them. */
  upcoming(max: number): number[] {
    const frame = this.#last;
    const leaves: number[] = [];
    for (let at = frame.at + 1; at < frame.count && leaves.length < max; at++) leaves.push(frame.blockOf(at));
    return leaves;
  }

  /** Goes on to the next leaf; false at the end. Errors: EUCLEAN where the index has more leaves than the directory blocks, or is damaged. */
  *next(format: RecordFormat): Task<boolean> {
    const { dir, frames } = this;
    let level = frames.length - 1;
    while (level >= 0 && (frames[level] as DxFrame).at + 1 >= (frames[level] as DxFrame).count) level--;
    if (level < 0) return false;
    if (this.#budget-- <= 0) dir.sb.corrupted(`directory ${dir.ino}: the index has more leaves than blocks`);
    (frames[level] as DxFrame).at++;
    for (; level + 1 < frames.length; level++) {
      const above = frames[level] as DxFrame;
      const node = yield* readNode(dir, format, above.blockOf(above.at));
      frames[level + 1] = node ?? dir.sb.corrupted(`directory ${dir.ino}: index node at block ${above.blockOf(above.at)}`);
    }
    return true;
  }
}

/** Is the index of the directory, if it has one, to be looked at? */
export function isIndexUsed(dir: Ext4Inode): boolean {
  return dir.isIndexed && !dir.hasInlineData && dir.sb.es.hasCompat(COMPAT_DIR_INDEX);
}

/** The hasher of a directory that is not indexed, should it become so; undefined where the superblock names no hash. */
export function defaultHasher(dir: Ext4Inode): NameHasher | undefined {
  const version = dir.sb.es.fields.s_def_hash_version;
  return version > DX_HASH_TEA ? undefined : hasherOf(dir.sb, version);
}

const HASHERS = new WeakMap<Ext4Sb, Map<number, NameHasher>>();

/** The hasher of a version on a volume: one for all, since nobody keeps its answers across a wait. */
function hasherOf(sb: Ext4Sb, version: number): NameHasher {
  let hashers = HASHERS.get(sb);
  if (hashers === undefined) {
    hashers = new Map();
    HASHERS.set(sb, hashers);
  }
  let hasher = hashers.get(version);
  if (hasher === undefined) {
    hasher = new NameHasher(version, sb.es.hashSeed, sb.es.hasUnsignedHash);
    hashers.set(version, hasher);
  }
  return hasher;
}

function limitOf(dir: Ext4Inode, base: number): number {
  return Math.floor((dir.sb.blockSize - base - (dir.sb.hasCsum ? dx_tail.size : 0)) / ENTRY_SIZE);
}

/** Are the entries of a block of the index what they must be? */
function checkEntries(dir: Ext4Inode, bh: BufferHead, base: number): boolean {
  const { data } = bh;
  const { limit, count } = COUNT.at(data, base);
  if (limit !== limitOf(dir, base) || count < 1 || count > limit) return false;
  if (
    dir.sb.hasCsum &&
    bh.seal === undefined &&
    dx_tail.read(data, base + limit * ENTRY_SIZE).dt_checksum !== dxChecksum(data, base, limit, dir.csumSeed)
  ) {
    dir.sb.corrupted(`directory ${dir.ino}: checksum of the index`, 'EBADMSG');
  }
  const blocks = dirBlockCount(dir);
  const seen = new Set<number>();
  let before = 0;
  for (let i = 0; i < count; i++) {
    const { hash, block } = ENTRY.at(data, base + i * ENTRY_SIZE);
    const lblk = block & BLOCK_MASK;
    const key = i === 0 ? 0 : (hash & ~1) >>> 0;
    if (lblk === 0 || lblk >= blocks || seen.has(lblk) || key < before) return false;
    seen.add(lblk);
    before = key;
  }
  return true;
}

/** What the tail of a block of the index holds. */
export function dxChecksum(data: Uint8Array, base: number, limit: number, csumSeed: number): number {
  const count = Math.min(limit, COUNT.at(data, base).count);
  const tail = base + limit * ENTRY_SIZE;
  const entries = crc32c(csumSeed, data, 0, base + count * ENTRY_SIZE);
  return crc32cWord(crc32c(entries, data, tail, tail + 4), 0);
}

/** The entries of a block of the index, to be changed. */
function changeIndex(h: Handle, dir: Ext4Inode, bh: BufferHead, base: number): Uint8Array {
  const data = h.getWriteAccess(bh);
  const { csumSeed } = dir;
  // Not what the block says then: another owner of it, on a damaged volume, does not make a commit fail.
  const limit = limitOf(dir, base);
  bh.decoded = undefined;
  bh.checked = CHECKED_DX;
  bh.seal = dir.sb.hasCsum
    ? (index) => {
        dx_tail.view().at(index.data, base + limit * ENTRY_SIZE).dt_checksum = dxChecksum(index.data, base, limit, csumSeed);
      }
    : undefined;
  return data;
}

/** The root, or undefined for what is none. Errors: EBADMSG. */
function* readRoot(dir: Ext4Inode, format: RecordFormat): Task<DxFrame | undefined> {
  const bh = yield* readFileBlock(dir, 0);
  if (bh === undefined) return undefined;
  if (bh.checked !== CHECKED_DX) {
    if (!isIndexLike(format, bh.data) || dotsOf(format, bh.data) === undefined || !isRootInfo(dir, bh.data)) return undefined;
    if (!checkEntries(dir, bh, ROOT_ENTRIES)) return undefined;
    bh.checked = CHECKED_DX;
  }
  return new DxFrame(0, bh, ROOT_ENTRIES);
}

function isRootInfo(dir: Ext4Inode, data: Uint8Array): boolean {
  const info = INFO.at(data, ROOT_INFO);
  const isKnown = info.hash_version <= DX_HASH_TEA || (info.hash_version === DX_HASH_SIPHASH && isSecret(dir));
  return (
    isKnown &&
    info.reserved_zero === 0 &&
    info.info_length === dx_root_info.size &&
    (info.unused_flags & 1) === 0 &&
    info.indirect_levels <= levelsMax(dir)
  );
}

/** The names are hashed with a key. */
function isSecret(dir: Ext4Inode): boolean {
  return (dir.flags & EXT4_CASEFOLD_FL) !== 0 && (dir.flags & EXT4_ENCRYPT_FL) !== 0;
}

function levelsMax(dir: Ext4Inode): number {
  return dir.sb.es.hasIncompat(INCOMPAT_LARGEDIR) ? LEVELS_MAX_LARGE : LEVELS_MAX;
}

/** A node below the root, or undefined for what is none. Errors: EBADMSG. */
function* readNode(dir: Ext4Inode, format: RecordFormat, lblk: number): Task<DxFrame | undefined> {
  const bh = yield* readFileBlock(dir, lblk);
  if (bh === undefined) return undefined;
  if (bh.checked !== CHECKED_DX) {
    if (lblk === 0 || !isIndexLike(format, bh.data)) return undefined;
    if (!checkEntries(dir, bh, NODE_ENTRIES)) return undefined;
    bh.checked = CHECKED_DX;
  }
  // A root that is met as a node has been checked as a root: its entries begin elsewhere.
  return lblk === 0 ? undefined : new DxFrame(lblk, bh, NODE_ENTRIES);
}

/** Where "." and ".." of block 0 lead, or undefined where the block does not begin with them. */
export function dotsOf(format: RecordFormat, data: Uint8Array): { self: number; parent: number; dotdotLen: number } | undefined {
  const walk = new RecordWalk(format, data, 0, format.blockSize);
  if (!walk.next() || !walk.hasName(DOT_NAME) || walk.recLen !== DOT_SIZE) return undefined;
  const self = walk.inode;
  if (!walk.next() || !walk.hasName(DOTDOT_NAME)) return undefined;
  return { self, parent: walk.inode, dotdotLen: walk.recLen };
}

/** The block of the dot names, as what it is: the root, or a leaf. */
function* readFirst(dir: Ext4Inode, format: RecordFormat): Task<BufferHead> {
  const root = dir.isIndexed ? yield* readRoot(dir, format) : undefined;
  return root?.bh ?? (yield* needLeaf(dir, format, 0));
}

/** What the dot names say. Errors: EUCLEAN, EBADMSG. */
export function* readDots(dir: Ext4Inode, format: RecordFormat): Task<{ self: number; parent: number }> {
  const { data } = yield* readFirst(dir, format);
  return dotsOf(format, data) ?? dir.sb.corrupted(`directory ${dir.ino}: no dot names`);
}

/** The block of the dot names, to be changed. An index that cannot be believed is given up. */
export function* changeDots(h: Handle, dir: Ext4Inode, format: RecordFormat): Task<Uint8Array> {
  const bh = yield* readFirst(dir, format);
  if (dotsOf(format, bh.data) === undefined) dir.sb.corrupted(`directory ${dir.ino}: no dot names`);
  if (bh.checked === CHECKED_DX) return changeIndex(h, dir, bh, ROOT_ENTRIES);
  if (isIndexLike(format, bh.data)) yield* dropIndex(h, dir, format);
  return changeLeaf(h, dir, bh);
}

/**
 * The way to the leaf where names of `hash`, or of the name that `hashOf` hashes, begin; undefined where the directory has no index that
 * can be believed. Errors: EBADMSG.
 */
export function* probe(dir: Ext4Inode, format: RecordFormat, hashOf: (hasher: NameHasher) => number): Task<DxPath | undefined> {
  const root = yield* readRoot(dir, format);
  if (root === undefined) return noteDamage(dir);
  const info = INFO.at(root.bh.data, ROOT_INFO);
  const levels = info.indirect_levels;
  const hasher = hasherOf(dir.sb, info.hash_version);
  const hash = hashOf(hasher);
  root.search(hash);
  const frames = [root];
  for (let frame = root; frames.length <= levels; ) {
    const node = yield* readNode(dir, format, frame.blockOf(frame.at));
    if (node === undefined) return noteDamage(dir);
    node.search(hash);
    frames.push(node);
    frame = node;
  }
  return new DxPath(dir, frames, hasher);
}

/** Directories whose damage is on record. */
const DAMAGED = new WeakSet<Ext4Inode>();

function noteDamage(dir: Ext4Inode): undefined {
  if (DAMAGED.has(dir)) return;
  DAMAGED.add(dir);
  dir.sb.noteError(
    new FsError('EUCLEAN', 'ext4', { detail: `${dir.place}: the index of the directory is damaged, and not used` }),
    dir.ino,
    0,
  );
}

/**
 * Adds a name to an indexed directory: into its leaf, which is split if it is full, as is every block of the index above it that has to be.
 *
 * Shape:   false where there is no index that can be believed; nothing was changed.
 * Errors:  EEXIST; ENOSPC of the volume, or of an index that cannot grow; EUCLEAN, EBADMSG.
 */
export function* insertIndexed(
  h: Handle,
  dir: Ext4Inode,
  format: RecordFormat,
  name: Uint8Array,
  ino: number,
  type: number,
): Task<boolean> {
  const size = format.recSize(name.length);
  let hash = 0;
  // Each turn but the last makes room in one block of the index: the leaf's, those above it, or one level more.
  for (let turn = 0; turn <= LEVELS_MAX_LARGE + 3; turn++) {
    const path = yield* probe(dir, format, (hasher) => {
      hash = hasher.hash(name);
      return hash;
    });
    if (path === undefined) {
      if (turn > 0) dir.sb.corrupted(`directory ${dir.ino}: the index is damaged`);
      return false;
    }
    let leaf = yield* needLeaf(dir, format, path.leaf);
    // Empty, and without a tail.
    if (dir.sb.hasCsum && isIndexLike(format, leaf.data)) initLeaf(dir, format, changeLeaf(h, dir, leaf));
    let room = findRoom(format, leaf.data, 0, recordsEnd(dir, format, leaf.data), name, size);
    if (room === -1) {
      if (!(yield* makeRoomInIndex(h, dir, format, path))) continue;
      leaf = yield* splitLeaf(h, dir, format, path, leaf, hash);
      room = findRoom(format, leaf.data, 0, leafRoom(dir), name, size);
      assert(room !== -1, 'half a leaf has room for a name');
    }
    if (room === NAME_EXISTS) throw nameExists(dir);
    insertRecord(format, changeLeaf(h, dir, leaf), leafRoom(dir), room, name, ino, type);
    return true;
  }
  dir.sb.corrupted(`directory ${dir.ino}: the index does not grow`);
}

/** Is there room for one more entry beside the leaf's? If not, one block of the index is split, and the way is to be looked for anew. */
function* makeRoomInIndex(h: Handle, dir: Ext4Inode, format: RecordFormat, { frames }: DxPath): Task<boolean> {
  let level = frames.length - 1;
  while (level >= 0 && (frames[level] as DxFrame).count >= (frames[level] as DxFrame).limit) level--;
  if (level === frames.length - 1) return true;
  if (level < 0 && frames.length > levelsMax(dir)) {
    throw new FsError('ENOSPC', 'ext4', { detail: `${dir.place}: the index of the directory is full` });
  }
  const full = frames[level + 1] as DxFrame;
  const { lblk, bh } = yield* appendDirBlock(h, dir);
  const data = changeIndex(h, dir, bh, NODE_ENTRIES);
  setRecLen(format, data, 0, format.blockSize);
  const old = changeIndex(h, dir, full.bh, full.base);
  const { count } = full;
  // The root gives all it has to a node of its own, a node half of what it has to one beside it.
  const from = level < 0 ? 0 : count >>> 1;
  const key = full.keyOf(from);
  data.set(old.subarray(full.base + from * ENTRY_SIZE, full.base + count * ENTRY_SIZE), NODE_ENTRIES);
  setCount(data, NODE_ENTRIES, count - from, limitOf(dir, NODE_ENTRIES));
  old.fill(0, full.base + Math.max(1, from) * ENTRY_SIZE, full.base + count * ENTRY_SIZE);
  if (level < 0) {
    setCount(old, full.base, 1, full.limit);
    ENTRY.at(old, full.base).block = lblk;
    INFO.at(old, ROOT_INFO).indirect_levels++;
  } else {
    setCount(old, full.base, from, full.limit);
    insertEntry(h, dir, frames[level] as DxFrame, key, lblk);
  }
  return false;
}

function setCount(data: Uint8Array, base: number, count: number, limit: number): void {
  COUNT.at(data, base);
  COUNT.limit = limit;
  COUNT.count = count;
}

/** Puts an entry behind the one that the walk took. */
function insertEntry(h: Handle, dir: Ext4Inode, frame: DxFrame, key: number, lblk: number): void {
  const data = changeIndex(h, dir, frame.bh, frame.base);
  const { count, limit } = frame;
  const at = frame.base + (frame.at + 1) * ENTRY_SIZE;
  data.copyWithin(at + ENTRY_SIZE, at, frame.base + count * ENTRY_SIZE);
  ENTRY.at(data, at);
  ENTRY.hash = key;
  ENTRY.block = lblk;
  setCount(data, frame.base, count + 1, limit);
}

interface Moving {
  readonly hash: number;
  readonly offset: number;
  /** Bytes that its record needs. */
  readonly size: number;
}

/** Moves the upper half of a leaf's names, by hash, to a leaf of its own. Answers the one where `hash` belongs. */
function* splitLeaf(h: Handle, dir: Ext4Inode, format: RecordFormat, path: DxPath, leaf: BufferHead, hash: number): Task<BufferHead> {
  const frame = path.frames[path.frames.length - 1] as DxFrame;
  const names: Moving[] = [];
  const walk = new RecordWalk(format, leaf.data, 0, leafRoom(dir));
  while (walk.next()) {
    if (walk.inode === 0) continue;
    names.push({ hash: path.hasher.hash(leaf.data, walk.nameStart, walk.nameEnd), offset: walk.offset, size: walk.size });
  }
  names.sort((a, b) => a.hash - b.hash || a.offset - b.offset);
  const old = leaf.data.slice();
  if (names.length < 2) {
    // Records without use have cut it into pieces that are too small.
    packRecords(dir, format, changeLeaf(h, dir, leaf), old, names);
    return leaf;
  }
  const split = splitPoint(names, format.blockSize);
  const key = (names[split] as Moving).hash;
  const isContinued = key === (names[split - 1] as Moving).hash;
  const next = path.nextKey;
  if (key < path.key || (next !== undefined && key > next))
    dir.sb.corrupted(`directory ${dir.ino}, block ${path.leaf}: names of other hashes`);

  const added = yield* appendDirBlock(h, dir);
  packRecords(dir, format, changeLeaf(h, dir, added.bh), old, names.slice(split));
  packRecords(dir, format, changeLeaf(h, dir, leaf), old, names.slice(0, split));
  insertEntry(h, dir, frame, isContinued ? key + 1 : key, added.lblk);
  return hash >= key ? added.bh : leaf;
}

/** The first name of the upper half: about half a block by size, and never all. */
function splitPoint(names: readonly Moving[], blockSize: number): number {
  let bytes = 0;
  let at = names.length;
  for (; at > 0; at--) {
    const { size } = names[at - 1] as Moving;
    if (bytes + size / 2 > blockSize / 2) break;
    bytes += size;
  }
  return at > 0 && at < names.length ? at : names.length >>> 1;
}

/** Makes a leaf of some records of an old one, without gaps, in the order of their places. */
function packRecords(dir: Ext4Inode, format: RecordFormat, data: Uint8Array, old: Uint8Array, names: readonly Moving[]): void {
  initLeaf(dir, format, data);
  let at = 0;
  let left = names.length;
  for (const { offset, size } of [...names].sort((a, b) => a.offset - b.offset)) {
    data.set(old.subarray(offset, offset + size), at);
    setRecLen(format, data, at, --left === 0 ? leafRoom(dir) - at : size);
    at += size;
  }
}

/** Makes a directory of one block an indexed one: its names move to a leaf. Errors: EUCLEAN where it does not begin with the dot names. */
export function* makeIndexed(h: Handle, dir: Ext4Inode, format: RecordFormat, hasher: NameHasher): Task<void> {
  const first = yield* needLeaf(dir, format, 0);
  const dots = dotsOf(format, first.data) ?? dir.sb.corrupted(`directory ${dir.ino}: no dot names`);
  yield* modifyInode(h, dir);
  dir.flags = (dir.flags | EXT4_INDEX_FL) >>> 0;
  const added = yield* appendLeaf(h, dir, format);
  const moved: Moving[] = [];
  const walk = new RecordWalk(format, first.data, DOT_SIZE + dots.dotdotLen, leafRoom(dir));
  while (walk.next()) if (walk.inode !== 0) moved.push({ hash: 0, offset: walk.offset, size: walk.size });
  packRecords(dir, format, added.bh.data, first.data, moved);

  const root = changeIndex(h, dir, first, ROOT_ENTRIES);
  root.fill(0, 2 * DOT_SIZE);
  setRecLen(format, root, DOT_SIZE, format.blockSize - DOT_SIZE);
  dx_root_info.write(root, ROOT_INFO, { hash_version: hasher.version, info_length: dx_root_info.size });
  setCount(root, ROOT_ENTRIES, 1, limitOf(dir, ROOT_ENTRIES));
  ENTRY.at(root, ROOT_ENTRIES).block = added.lblk;
}

/** Gives up an index that cannot be believed: the directory is a linear one from here on. Errors: EUCLEAN without the dot names. */
export function* dropIndex(h: Handle, dir: Ext4Inode, format: RecordFormat): Task<void> {
  const bh = yield* needLeaf(dir, format, 0);
  const dots = dotsOf(format, bh.data) ?? dir.sb.corrupted(`directory ${dir.ino}: no dot names`);
  yield* modifyInode(h, dir);
  dir.flags = (dir.flags & ~EXT4_INDEX_FL) >>> 0;
  if (!isIndexLike(format, bh.data)) return;
  const data = changeLeaf(h, dir, bh);
  initLeaf(dir, format, data, 2 * DOT_SIZE);
  writeRecord(format, data, DOT_SIZE, DOT_SIZE, DOTDOT_NAME, dots.parent, ext4_dir_entry_2.view().at(data, DOT_SIZE).file_type);
}
