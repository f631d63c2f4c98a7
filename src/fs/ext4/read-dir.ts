import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import { nameOf } from '../../vfs/name.ts';
import { readAheadFile } from './block-map.ts';
import { dirBlockCount, endOfHole, readLeaf, recordsEnd } from './dir-block.ts';
import type { NameHasher } from './dir-hash.ts';
import { RecordFormat, RecordWalk } from './dir-record.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { COMPAT_DIR_INDEX } from './features.ts';
import { EXT4_CASEFOLD_FL, EXT4_ENCRYPT_FL } from './format.ts';
import { type DxPath, defaultHasher, isIndexUsed, probe } from './htree.ts';
import { inlineAreas } from './inline-dir.ts';
import { noKeyName } from './no-key-name.ts';

// Listing a directory while others change it. The position of a reader is a number, the cookie, which names the place behind a name:
//
//   below 2^52   by place, in directories whose names never move: the byte behind the record, "." at 0. Removing a name joins its record to
//                the one before, so a reader goes on with the first record at or behind its cookie.
//   from 2^52    by hash, in directories that are indexed or may become so, since splits move names but not their hashes:
//                2^52 + (31 bits of hash, 9 bits of minor hash) * 2^12 + the number of names of exactly this hash that were given out
//
// Directories begin a walk by hash if they are indexed, or small enough to become indexed during it: such a walk goes on the same whatever
// the directory becomes.
//
// Names of one key (the 40 bits) come in the order of minor hash and name. While others of them come and go their number says too little, so
// the open directory remembers which it gave out (DirCursor). Without that memory, as after a seek to where another handle was, the number counts
// names in their order.

export interface DirName {
  readonly name: string;
  readonly ino: number;
  /** EXT4_FT_*. */
  readonly type: number;
  /** The cookie behind it. */
  readonly next: number;
}

const BY_HASH = 2 ** 52;
/** Names of one key that can be told apart by number. */
const RUN_SIZE = 2 ** 12;
/** Blocks of leaves that are read ahead of a reader. */
const READ_AHEAD = 64;

/** What an open directory remembers of its last answer. */
export class DirCursor {
  #answer: readonly DirName[] = [];
  /** Names of the first key in it that answers before it gave out. */
  #before: readonly string[] = [];
  /** Blocks that were read ahead, of the directory. */
  ahead: ReadonlySet<number> = new Set();

  /** Remembers an answer to the cookie of these names. */
  remember(answer: readonly DirName[], before: readonly string[]): void {
    if (answer.length === 0) return;
    this.#answer = answer;
    this.#before = before;
  }

  /** The names of its key that were given out by the time of this cookie; undefined if that is not known. */
  givenOut(cookie: number): string[] | undefined {
    const key = keyOf(cookie);
    const number = cookie % RUN_SIZE;
    const first = this.#answer[0];
    const names = first !== undefined && keyOf(first.next) === key ? [...this.#before] : [];
    for (const { name, next } of this.#answer) {
      if (next > cookie) break;
      if (keyOf(next) === key) names.push(name);
    }
    return names.length === number || (number === RUN_SIZE - 1 && names.length > number) ? names : undefined;
  }
}

function keyOf(cookie: number): number {
  return Math.floor((cookie - BY_HASH) / RUN_SIZE);
}

function keyOfHash(hash: number, minor: number): number {
  return (hash >>> 1) * 512 + (minor >>> 23);
}

function hashOfKey(key: number): number {
  return Math.floor(key / 512) * 2;
}

/**
 * Names from `cookie` on: 0, or the `next` of a name. Without "." and "..".
 *
 * Shape:  at most `count`, which is not 0; `end` if there are no more now. Each name that was there all the time comes exactly once. Names
 *         that are none (with '/' or NUL) are left out. `cursor`: of the open directory, if there is one.
 * Errors: EINVAL for a cookie that is none; EUCLEAN, EBADMSG of the blocks that are read.
 */
export function* readDir(
  dir: Ext4Inode,
  cookie: number,
  count: number,
  cursor: DirCursor = new DirCursor(),
): Task<{ names: DirName[]; end: boolean }> {
  if (!(Number.isSafeInteger(cookie) && cookie >= 0)) throw new FsError('EINVAL', 'readdir');
  const format = new RecordFormat(dir);
  if (cookie >= BY_HASH || (cookie === 0 && (yield* isByHash(dir, format)))) return yield* readByHash(dir, format, cookie, count, cursor);
  const names: DirName[] = [];
  return { names, end: yield* readByPlace(dir, format, cookie, count, cursor, names) };
}

/** Does a walk begin in the order of hashes? Nothing is ever added to the others, or nothing in them ever moves. */
function* isByHash(dir: Ext4Inode, format: RecordFormat): Task<boolean> {
  if (!dir.sb.es.hasCompat(COMPAT_DIR_INDEX) || (dir.flags & (EXT4_CASEFOLD_FL | EXT4_ENCRYPT_FL)) !== 0) return false;
  if (isIndexUsed(dir)) return (yield* probe(dir, format, () => 0)) !== undefined;
  return defaultHasher(dir) !== undefined && (dir.hasInlineData || dirBlockCount(dir) === 1);
}

// ---- by place

function* readByPlace(
  dir: Ext4Inode,
  format: RecordFormat,
  cookie: number,
  count: number,
  cursor: DirCursor,
  names: DirName[],
): Task<boolean> {
  // Names without key carry the hash that finds them again.
  let hasher: NameHasher | undefined;
  if (format.isEncrypted) hasher = (isIndexUsed(dir) ? yield* probe(dir, format, () => 0) : undefined)?.hasher ?? defaultHasher(dir);
  const take = (bytes: Uint8Array, from: number, end: number, shift: number): boolean => {
    const record = new RecordWalk(format, bytes, from, end);
    while (record.next()) {
      const pos = record.offset + shift;
      if (pos < cookie || !record.isListed) continue;
      names.push({ name: nameIn(format, record, hasher), ino: record.inode, type: record.fileType, next: pos + record.recLen });
      if (names.length >= count) return true;
    }
    return false;
  };

  if (dir.hasInlineData) {
    for (const { bytes, from, end, shift } of inlineAreas(dir, format)) if (take(bytes, from, end, shift)) return false;
    return true;
  }
  const { blockSize } = format;
  const blocks = dirBlockCount(dir);
  for (let lblk = Math.floor(cookie / blockSize); lblk < blocks; ) {
    if (!cursor.ahead.has(lblk)) {
      yield* readAhead(
        dir,
        cursor,
        lblk,
        Array.from({ length: Math.min(READ_AHEAD, blocks - lblk) }, (_, i) => lblk + i),
      );
    }
    const bh = yield* readLeaf(dir, format, lblk);
    if (bh !== undefined && take(bh.data, 0, recordsEnd(dir, format, bh.data), lblk * blockSize)) return false;
    lblk = bh === undefined ? yield* endOfHole(dir, lblk) : lblk + 1;
  }
  return true;
}

function nameIn(format: RecordFormat, record: RecordWalk, hasher: NameHasher | undefined): string {
  const { bytes, nameStart, nameEnd } = record;
  if (!format.isEncrypted) return nameOf(bytes, nameStart, nameEnd);
  if (format.hashBytes > 0) {
    const stored = new DataView(bytes.buffer, bytes.byteOffset + ((nameEnd + 3) & ~3), format.hashBytes);
    return noKeyName(stored.getUint32(0, true), stored.getUint32(4, true), bytes, nameStart, nameEnd);
  }
  return noKeyName(hasher?.hash(bytes, nameStart, nameEnd) ?? 0, hasher?.minor ?? 0, bytes, nameStart, nameEnd);
}

function* readAhead(dir: Ext4Inode, cursor: DirCursor, lblk: number, following: readonly number[]): Task<void> {
  cursor.ahead = new Set([lblk, ...following]);
  const sorted = [...cursor.ahead].sort((a, b) => a - b);
  for (let start = 0; start < sorted.length; ) {
    let end = start + 1;
    while (end < sorted.length && sorted[end] === (sorted[end - 1] as number) + 1) end++;
    yield* readAheadFile(dir, sorted[start] as number, end - start);
    start = end;
  }
}

// ---- by hash

/** Records, and the keys that they may have where they stand: what is outside counts as on the border, so that nothing is lost. */
interface Source {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly end: number;
  readonly keyMin: number;
  readonly keyMax: number;
}

/** The names of some sources in the order of their keys. */
class SortedNames {
  readonly sources: readonly Source[];
  readonly keys: Float64Array;
  readonly offsets: Uint32Array;
  readonly #sourceOf: Uint32Array;

  constructor(format: RecordFormat, hasher: NameHasher, sources: readonly Source[]) {
    this.sources = sources;
    const found: { key: number; minor: number; source: number; offset: number; name: Uint8Array }[] = [];
    sources.forEach(({ bytes, from, end, keyMin, keyMax }, source) => {
      const record = new RecordWalk(format, bytes, from, end);
      while (record.next()) {
        if (!record.isListed) continue;
        const hash = hasher.hash(bytes, record.nameStart, record.nameEnd);
        const { minor } = hasher;
        const key = Math.max(keyMin, Math.min(keyMax, keyOfHash(hash, minor)));
        found.push({ key, minor, source, offset: record.offset, name: bytes.subarray(record.nameStart, record.nameEnd) });
      }
    });
    found.sort((a, b) => a.key - b.key || a.minor - b.minor || compareBytes(a.name, b.name));
    this.keys = Float64Array.from(found, ({ key }) => key);
    this.offsets = Uint32Array.from(found, ({ offset }) => offset);
    this.#sourceOf = sources.length > 1 ? Uint32Array.from(found, ({ source }) => source) : EMPTY;
  }

  /** The first name whose key is not below `key`. */
  firstFrom(key: number): number {
    let low = 0;
    let high = this.keys.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if ((this.keys[mid] as number) < key) low = mid + 1;
      else high = mid;
    }
    return low;
  }

  record(format: RecordFormat, index: number): RecordWalk {
    const { bytes, end } = this.sources[this.#sourceOf[index] ?? 0] as Source;
    const record = new RecordWalk(format, bytes, this.offsets[index] as number, end);
    record.next();
    return record;
  }
}

const EMPTY = new Uint32Array(0);

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number);
  return a.length - b.length;
}

/** One answer in the making. */
class Answer {
  readonly names: DirName[] = [];
  readonly #format: RecordFormat;
  readonly #count: number;
  /** Where it begins: names of this key may have been given out before, so many of them, and these. */
  readonly #key: number;
  readonly #number: number;
  readonly before: readonly string[] | undefined;

  constructor(format: RecordFormat, cookie: number, count: number, cursor: DirCursor) {
    this.#format = format;
    this.#count = count;
    this.#key = cookie === 0 ? -1 : keyOf(cookie);
    this.#number = cookie === 0 ? 0 : cookie % RUN_SIZE;
    this.before = cookie === 0 ? [] : cursor.givenOut(cookie);
  }

  /** The hash where it begins. */
  get hash(): number {
    return this.#key < 0 ? 0 : hashOfKey(this.#key);
  }

  /** Takes names until the answer is full; false if it is. */
  take(sorted: SortedNames): boolean {
    const before = new Set(this.before);
    let key = this.#key;
    let number = this.#number;
    // Without memory: how many of the key's names are passed over.
    let passed = this.before === undefined ? (number === RUN_SIZE - 1 ? Number.POSITIVE_INFINITY : number) : 0;
    for (let i = sorted.firstFrom(this.#key); i < sorted.keys.length; i++) {
      const at = sorted.keys[i] as number;
      if (at !== key) {
        key = at;
        number = 0;
      }
      const record = sorted.record(this.#format, i);
      const name = nameOf(record.bytes, record.nameStart, record.nameEnd);
      if (key === this.#key && (passed-- > 0 || before.has(name))) continue;
      if (number < RUN_SIZE - 1) number++;
      this.names.push({ name, ino: record.inode, type: record.fileType, next: BY_HASH + key * RUN_SIZE + number });
      if (this.names.length >= this.#count) return false;
    }
    return true;
  }
}

function* readByHash(
  dir: Ext4Inode,
  format: RecordFormat,
  cookie: number,
  count: number,
  cursor: DirCursor,
): Task<{ names: DirName[]; end: boolean }> {
  const answer = new Answer(format, cookie, count, cursor);
  const path = isIndexUsed(dir) ? yield* probe(dir, format, () => answer.hash) : undefined;
  let end: boolean;
  if (path !== undefined) {
    do {
      end = answer.take(yield* sortedLeaves(dir, format, path, cursor));
    } while (end && (yield* path.next(format)));
  } else {
    const hasher = defaultHasher(dir);
    end = hasher === undefined || answer.take(new SortedNames(format, hasher, yield* allSources(dir, format)));
  }
  const first = answer.names[0];
  cursor.remember(answer.names, first !== undefined && cookie !== 0 && keyOf(first.next) === keyOf(cookie) ? (answer.before ?? []) : []);
  return { names: answer.names, end };
}

/** The names of the leaf where the path is, and of those behind it that a run of equal hashes continues in: the path is at the last of them then. */
function* sortedLeaves(dir: Ext4Inode, format: RecordFormat, path: DxPath, cursor: DirCursor): Task<SortedNames> {
  const sources: Source[] = [];
  for (;;) {
    const { leaf, nextKey } = path;
    if (!cursor.ahead.has(leaf)) yield* readAhead(dir, cursor, leaf, path.upcoming(READ_AHEAD));
    const bh = yield* readLeaf(dir, format, leaf);
    const keyMin = keyOfHash(path.key, 0);
    const isContinued = nextKey !== undefined && (nextKey & 1) !== 0;
    const keyMax =
      nextKey === undefined ? Number.POSITIVE_INFINITY : keyOfHash(nextKey, isContinued ? 0xffffffff : 0) - (isContinued ? 0 : 1);
    if (bh !== undefined) {
      const source = { bytes: bh.data, from: 0, end: recordsEnd(dir, format, bh.data), keyMin, keyMax };
      if (sources.length === 0 && !isContinued) {
        const { decoded } = bh;
        if (decoded instanceof SortedNames && decoded.sources[0]?.keyMin === keyMin && decoded.sources[0].keyMax === keyMax) return decoded;
        const sorted = new SortedNames(format, path.hasher, [source]);
        bh.decoded = sorted;
        return sorted;
      }
      sources.push(source);
    }
    if (!isContinued || !(yield* path.next(format))) return new SortedNames(format, path.hasher, sources);
  }
}

/** All records of a directory without index. */
function* allSources(dir: Ext4Inode, format: RecordFormat): Task<Source[]> {
  const keys = { keyMin: 0, keyMax: Number.POSITIVE_INFINITY };
  if (dir.hasInlineData) return inlineAreas(dir, format).map(({ bytes, from, end }) => ({ bytes, from, end, ...keys }));
  const sources: Source[] = [];
  const blocks = dirBlockCount(dir);
  for (let lblk = 0; lblk < blocks; ) {
    const bh = yield* readLeaf(dir, format, lblk);
    if (bh !== undefined) sources.push({ bytes: bh.data, from: 0, end: recordsEnd(dir, format, bh.data), ...keys });
    lblk = bh === undefined ? yield* endOfHole(dir, lblk) : lblk + 1;
  }
  return sources;
}
