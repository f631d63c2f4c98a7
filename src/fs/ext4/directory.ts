import { assert } from '../../base/assert.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { decodeUtf8 } from '../../layout/utf8.ts';
import { nameBytes } from '../../vfs/name.ts';
import { initBlockMap } from './block-map.ts';
import {
  appendDirBlock,
  appendLeaf,
  changeLeaf,
  DOT_SIZE,
  dirBlockCount,
  endOfHole,
  initLeaf,
  isIndexLike,
  leafRoom,
  nameExists,
  needLeaf,
  readLeaf,
  recordsEnd,
} from './dir-block.ts';
import {
  DIR_NAME_MAX,
  findRecord,
  findRoom,
  insertRecord,
  NAME_EXISTS,
  RecordFormat,
  RecordWalk,
  removeRecord,
  setRecordInode,
} from './dir-record.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { COMPAT_DIR_INDEX, INCOMPAT_INLINE_DATA } from './features.ts';
import { EXT4_CASEFOLD_FL, EXT4_ENCRYPT_FL, EXT4_FT_DIR } from './format.ts';
import { changeDots, defaultHasher, dropIndex, insertIndexed, isIndexUsed, makeIndexed, probe, readDots } from './htree.ts';
import {
  changeInline,
  initDots,
  initInline,
  inlineAreas,
  inlineParent,
  inlineToBlock,
  insertInline,
  setInlineParent,
} from './inline-dir.ts';
import { modifyInode } from './inode-table.ts';
import { parseNoKeyName } from './no-key-name.ts';

export { DirCursor, type DirName, readDir } from './read-dir.ts';

// The names of a directory, however they are stored: in the inode, in blocks one after another, or in blocks behind an index of hashes.
// Link counts and times are the caller's. "." and ".." are no names here: see parentOf and setParent.

/** A name that was found. It stays true until the log's lock is released: changes of other names in between do not spoil it. */
export interface DirHit {
  readonly ino: number;
  /** EXT4_FT_*; EXT4_FT_UNKNOWN where the volume does not keep it. */
  readonly type: number;
  /** The bytes of the record. */
  readonly name: Uint8Array;
  /** The block that it was found in, and its number in the directory; undefined: inline. */
  readonly bh: BufferHead | undefined;
  readonly lblk: number;
}

/**
 * For directories of more than one block that have no index: the first block that may have room. Those before it were full when they were
 * last looked at, and nothing was removed from them since.
 */
const ROOM = new WeakMap<Ext4Inode, number>();

/** Is it this record? `bh` and `lblk` as in a hit. */
type Matches = (record: RecordWalk, bh: BufferHead | undefined, lblk: number) => boolean;

/** The name's record. Errors: EUCLEAN, EBADMSG of a block that has to be read for the answer. */
export function* lookupName(dir: Ext4Inode, name: string): Task<DirHit | undefined> {
  if (name === '.' || name === '..' || name.includes('/') || name.includes('\0')) return undefined;
  const format = new RecordFormat(dir);
  if (format.isEncrypted) {
    const form = parseNoKeyName(name);
    if (form === undefined) return undefined;
    return yield* find(dir, format, form.hash, (record) => record.isListed && form.matches(record.bytes, record.nameStart, record.nameEnd));
  }
  const bytes = nameBytes(name);
  if (bytes.length === 0 || bytes.length > DIR_NAME_MAX) return undefined;
  if ((dir.flags & EXT4_CASEFOLD_FL) !== 0) return yield* findFolded(dir, format, bytes);
  return yield* findExact(dir, format, bytes);
}

function* findExact(dir: Ext4Inode, format: RecordFormat, name: Uint8Array): Task<DirHit | undefined> {
  return yield* find(dir, format, name, (record) => record.hasName(name));
}

/** Folding case takes tables of the volume's Unicode for the hash, which we do not have: every name is compared. */
function* findFolded(dir: Ext4Inode, format: RecordFormat, name: Uint8Array): Task<DirHit | undefined> {
  const folded = fold(name);
  let second: DirHit | undefined;
  const exact = yield* findLinear(dir, format, (record, bh, lblk) => {
    if (record.hasName(name)) return true;
    if (
      second === undefined &&
      folded !== undefined &&
      record.isListed &&
      fold(record.bytes.subarray(record.nameStart, record.nameEnd)) === folded
    )
      second = hitOf(record, bh, lblk);
    return false;
  });
  return exact ?? second;
}

/** A name with its case folded; undefined for one that is no text, which is equal to itself only. */
function fold(name: Uint8Array): string | undefined {
  const text = decodeUtf8(name);
  return text.includes('\ufffd') ? undefined : text.normalize('NFD').toUpperCase().toLowerCase().normalize('NFD');
}

function hitOf(record: RecordWalk, bh: BufferHead | undefined, lblk: number): DirHit {
  return { ino: record.inode, type: record.fileType, name: record.bytes.slice(record.nameStart, record.nameEnd), bh, lblk };
}

/** `key`: the name to hash, or the hash itself. */
function* find(dir: Ext4Inode, format: RecordFormat, key: Uint8Array | number, matches: Matches): Task<DirHit | undefined> {
  if (!isIndexUsed(dir)) return yield* findLinear(dir, format, matches);
  let hash = 0;
  const path = yield* probe(dir, format, (hasher) => {
    hash = typeof key === 'number' ? key : hasher.hash(key);
    return hash;
  });
  if (path === undefined) return yield* findLinear(dir, format, matches);
  for (;;) {
    const { leaf } = path;
    const bh = yield* readLeaf(dir, format, leaf);
    const hit = bh === undefined ? undefined : findInLeaf(dir, format, bh, leaf, matches);
    if (hit !== undefined) return hit;
    // Is the run of names with this hash continued in the next leaf?
    if (path.nextKey !== hash + 1 || !(yield* path.next(format))) return undefined;
  }
}

function findInLeaf(dir: Ext4Inode, format: RecordFormat, bh: BufferHead, lblk: number, matches: Matches): DirHit | undefined {
  const record = new RecordWalk(format, bh.data, 0, recordsEnd(dir, format, bh.data));
  while (record.next()) if (record.inode !== 0 && matches(record, bh, lblk)) return hitOf(record, bh, lblk);
  return undefined;
}

function* findLinear(dir: Ext4Inode, format: RecordFormat, matches: Matches): Task<DirHit | undefined> {
  if (dir.hasInlineData) {
    for (const { bytes, from, end } of inlineAreas(dir, format)) {
      const record = new RecordWalk(format, bytes, from, end);
      while (record.next()) if (record.inode !== 0 && matches(record, undefined, 0)) return hitOf(record, undefined, 0);
    }
    return undefined;
  }
  const count = dirBlockCount(dir);
  for (let lblk = 0; lblk < count; ) {
    const bh = yield* readLeaf(dir, format, lblk);
    const hit = bh === undefined ? undefined : findInLeaf(dir, format, bh, lblk, matches);
    if (hit !== undefined) return hit;
    lblk = bh === undefined ? yield* endOfHole(dir, lblk) : lblk + 1;
  }
  return undefined;
}

/**
 * Adds a name that is not there: its caller has looked.
 *
 * Errors: EEXIST where it is met all the same; ENAMETOOLONG, EINVAL for what is no name; ENOSPC, EDQUOT; ENOKEY in an encrypted directory,
 *         EOPNOTSUPP in one that folds case; EUCLEAN, EBADMSG. An index that cannot be believed is given up, not an error.
 */
export function* addName(h: Handle, dir: Ext4Inode, name: string, ino: number, fileType: number): Task<void> {
  const bytes = nameBytes(name);
  if (bytes.length > DIR_NAME_MAX) throw new FsError('ENAMETOOLONG', 'ext4');
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) throw new FsError('EINVAL', 'ext4');
  if ((dir.flags & EXT4_ENCRYPT_FL) !== 0) throw new FsError('ENOKEY', 'ext4', { detail: `${dir.place}: the directory is encrypted` });
  if ((dir.flags & EXT4_CASEFOLD_FL) !== 0) {
    throw new FsError('EOPNOTSUPP', 'ext4', {
      detail: `${dir.place}: no names are added to a directory that folds case (feature casefold)`,
    });
  }
  assert(ino > 0 && ino <= dir.sb.es.inodesCount, `a name of inode ${ino}`);
  const format = new RecordFormat(dir);
  if (dir.hasInlineData) {
    if (yield* insertInline(h, dir, format, bytes, ino, fileType)) return;
    yield* inlineToBlock(h, dir, format);
  }
  if (dir.isIndexed) {
    if (isIndexUsed(dir) && (yield* insertIndexed(h, dir, format, bytes, ino, fileType))) return;
    yield* dropIndex(h, dir, format);
  }
  yield* insertLinear(h, dir, format, bytes, ino, fileType);
}

function* insertLinear(h: Handle, dir: Ext4Inode, format: RecordFormat, name: Uint8Array, ino: number, type: number): Task<void> {
  const count = dirBlockCount(dir);
  const size = format.recSize(name.length);
  for (let lblk = Math.min(ROOM.get(dir) ?? 0, count - 1); lblk < count; lblk++) {
    const bh = yield* needLeaf(dir, format, lblk);
    // What is left of an index that was given up.
    if (dir.sb.hasCsum && isIndexLike(format, bh.data)) initLeaf(dir, format, changeLeaf(h, dir, bh));
    const room = findRoom(format, bh.data, 0, leafRoom(dir), name, size);
    if (room === NAME_EXISTS) throw nameExists(dir);
    if (room < 0) continue;
    insertRecord(format, changeLeaf(h, dir, bh), leafRoom(dir), room, name, ino, type);
    ROOM.set(dir, lblk);
    return;
  }
  const hasher = count === 1 && dir.sb.es.hasCompat(COMPAT_DIR_INDEX) ? defaultHasher(dir) : undefined;
  if (hasher !== undefined) {
    yield* makeIndexed(h, dir, format, hasher);
    const isAdded = yield* insertIndexed(h, dir, format, name, ino, type);
    if (!isAdded) dir.sb.corrupted(`directory ${dir.ino}: an index that was just made cannot be read`);
    return;
  }
  const { lblk, bh } = yield* appendLeaf(h, dir, format);
  insertRecord(format, bh.data, leafRoom(dir), 0, name, ino, type);
  ROOM.set(dir, lblk);
}

/** Removes a name. `hit`: of lookupName in the same handle. */
export function* removeName(h: Handle, dir: Ext4Inode, hit: DirHit): Task<void> {
  const format = new RecordFormat(dir);
  const lblk = yield* changeRecord(h, dir, format, hit, (bytes, from, end, offset) => removeRecord(format, bytes, from, end, offset));
  const room = ROOM.get(dir);
  if (room !== undefined && lblk < room) ROOM.set(dir, lblk);
}

/** Points a name at another inode: rename over it, or exchange. `hit`: of lookupName in the same handle. */
export function* replaceName(h: Handle, dir: Ext4Inode, hit: DirHit, ino: number, fileType: number): Task<void> {
  assert(ino > 0 && ino <= dir.sb.es.inodesCount, `a name of inode ${ino}`);
  const format = new RecordFormat(dir);
  yield* changeRecord(h, dir, format, hit, (bytes, _from, _end, offset) => setRecordInode(format, bytes, offset, ino, fileType));
}

/** Answers the number of the block. */
function* changeRecord(
  h: Handle,
  dir: Ext4Inode,
  format: RecordFormat,
  hit: DirHit,
  change: (bytes: Uint8Array, from: number, end: number, offset: number) => void,
): Task<number> {
  if (dir.hasInlineData) {
    for (const area of inlineAreas(dir, format)) {
      const offset = findRecord(format, area.bytes, area.from, area.end, hit.name);
      if (offset < 0) continue;
      yield* changeInline(h, dir, area, (bytes) => change(bytes, area.from, area.end, offset));
      return 0;
    }
    return dir.sb.corrupted(`directory ${dir.ino}: a name is gone while it is changed`);
  }
  let { bh, lblk } = hit;
  let offset = bh === undefined ? -1 : findRecord(format, bh.data, 0, recordsEnd(dir, format, bh.data), hit.name);
  if (bh === undefined || offset < 0) {
    // It was moved since, by a split or out of the inode.
    const anew = yield* findExact(dir, format, hit.name);
    // Blocks that two directories share change under both.
    if (anew?.bh === undefined) return dir.sb.corrupted(`directory ${dir.ino}: a name is gone while it is changed`);
    ({ bh, lblk } = anew as { bh: BufferHead; lblk: number });
    offset = findRecord(format, bh.data, 0, recordsEnd(dir, format, bh.data), hit.name);
  }
  const data = changeLeaf(h, dir, bh);
  change(data, 0, recordsEnd(dir, format, data), offset);
  return lblk;
}

/** No names but "." and ".."? Errors: EUCLEAN, EBADMSG: a directory that cannot be read is not said to be empty. */
export function* isEmptyDir(dir: Ext4Inode): Task<boolean> {
  const format = new RecordFormat(dir);
  return (yield* findLinear(dir, format, (record, bh) => bh === undefined || !record.isDots)) === undefined;
}

/** Makes the content of a new directory: in its inode where the volume does that, otherwise a block. */
export function* initDir(h: Handle, dir: Ext4Inode, parentIno: number): Task<void> {
  yield* modifyInode(h, dir);
  const format = new RecordFormat(dir);
  const isInline = dir.sb.es.hasIncompat(INCOMPAT_INLINE_DATA) && (dir.flags & EXT4_ENCRYPT_FL) === 0;
  if (isInline && (yield* initInline(h, dir, format, parentIno))) return;
  yield* initBlockMap(h, dir);
  dir.size = 0;
  const { bh } = yield* appendDirBlock(h, dir);
  initDots(dir, format, changeLeaf(h, dir, bh), parentIno);
}

/** The directory above. Errors: EUCLEAN where the directory does not say. */
export function* parentOf(dir: Ext4Inode): Task<number> {
  const parent = dir.hasInlineData ? inlineParent(dir) : (yield* readDots(dir, new RecordFormat(dir))).parent;
  if (parent === 0 || parent > dir.sb.es.inodesCount) dir.sb.corrupted(`directory ${dir.ino} has no parent`);
  return parent;
}

/** Says that the directory stands in another one now. */
export function* setParent(h: Handle, dir: Ext4Inode, parentIno: number): Task<void> {
  if (dir.hasInlineData) {
    yield* modifyInode(h, dir);
    setInlineParent(dir, parentIno);
    return;
  }
  const format = new RecordFormat(dir);
  setRecordInode(format, yield* changeDots(h, dir, format), DOT_SIZE, parentIno, EXT4_FT_DIR);
}
