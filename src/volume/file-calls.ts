import { type AbortSignalLike, checkAborted } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { type MaybePromise, type Task, wait } from '../base/task.ts';
import type { AttrChanges } from '../vfs/attr.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import { isRegular } from '../vfs/uapi.ts';
import { face, faced } from './node-error.ts';
import { allocate, decodeText, encodeText, toBuffer } from './platform.ts';
import { type VolumeState, withSignal } from './state.ts';
import { type BigIntStats, type Stats, statsOf } from './stats.ts';
import {
  invalidType,
  invalidValue,
  nodeError,
  outOfRange,
  type PathLike,
  toBytes,
  toFlags,
  toMode,
  toOptions,
  toPath,
  toReadPosition,
  toTimestamp,
  validateBoolean,
  validateBuffer,
  validateBuffers,
  validateId,
  validateInteger,
  validateObject,
} from './validate.ts';

// Operations on open files, and on whole files by their path. Each is written once: promises and their Sync namesakes run the same Task.

/** Bytes in one step of a whole-file read or write that a signal can end. */
const STEP = 512 * 1024;
/** Bytes in one step of reading a file that does not say its size. */
const UNSIZED_STEP = 64 * 1024;
/** Bytes of the largest file that readFile takes. */
const READ_FILE_MAX = 2 ** 31 - 1;

/** What a file may be written from. */
export type FileData = string | ArrayBufferView | Iterable<string | ArrayBufferView> | AsyncIterable<string | ArrayBufferView>;

/** Options of readFile, as validated. */
export interface ReadFileOptions {
  encoding?: string | null | undefined;
  flag?: string | number | undefined;
  signal?: AbortSignalLike | undefined;
}

export interface WriteFileOptions extends ReadFileOptions {
  mode?: number | string | undefined;
  flush?: boolean | undefined;
}

// Open and close.

export function* open(state: VolumeState, path: PathLike, flags?: unknown, mode?: unknown): Task<FileDescription> {
  const name = toPath(path);
  const bits = toFlags(flags);
  return yield* openName(state, name, bits, toMode(mode, 0o666));
}

function openName(state: VolumeState, path: string, flags: number, mode: number): Task<FileDescription> {
  return faced(() => state.vfs.open(state.caller, path, flags, mode), 'open', path);
}

export function close(state: VolumeState, file: FileDescription): Task<void> {
  return faced(() => file.close(state.caller), 'close');
}

/** Runs `use` with the file at `path` open; closes it in any case. The error of `use` comes before that of closing. */
function* withFile<T>(state: VolumeState, path: string, flags: number, mode: number, use: (file: FileDescription) => Task<T>): Task<T> {
  const file = yield* openName(state, path, flags, mode);
  let answer: T;
  try {
    answer = yield* use(file);
  } catch (error) {
    try {
      yield* close(state, file);
    } catch {
      // The first error is the one that matters.
    }
    throw error;
  }
  yield* close(state, file);
  return answer;
}

// Reading.

/** A part of a caller's buffer, as read, write and their options name it. */
export interface BufferRange {
  offset?: unknown;
  length?: unknown;
  position?: unknown;
}

/** What a read fills, and from where: null is the position of the file. */
export interface ReadTarget {
  readonly into: Uint8Array;
  readonly position: number | null;
}

/** Checks the arguments of a read. undefined if there is nothing to do. */
export function readTarget(buffer: unknown, range: BufferRange): ReadTarget | undefined {
  const bytes = validateBuffer(buffer);
  const offset = range.offset === undefined ? 0 : validateInteger(range.offset, 'offset', 0);
  const length = range.length === undefined ? bytes.length - offset : Math.trunc(range.length as number) || 0;
  if (length === 0) return undefined;
  if (bytes.length === 0) throw invalidValue('buffer', buffer, 'is empty and cannot be written');
  if (length < 0) throw outOfRange('length', '>= 0', length);
  if (length > bytes.length - offset) throw outOfRange('length', `<= ${bytes.length - offset}`, length);
  const position = toReadPosition(range.position, length);
  return { into: length === bytes.length ? bytes : part(bytes, offset, length), position };
}

/** A part of the same memory. Cheaper than subarray of a Buffer. */
function part(bytes: Uint8Array, offset: number, length: number): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset + offset, length);
}

/** Bytes read, 0 at the end. */
export function* read(state: VolumeState, file: FileDescription, buffer: unknown, range: BufferRange = {}): Task<number> {
  const target = readTarget(buffer, range);
  return target === undefined ? 0 : yield* faced(() => file.read(state.caller, target.into, target.position), 'read');
}

/** Fills the buffers one after the other, and ends with the first that is not filled. */
export function* readv(state: VolumeState, file: FileDescription, buffers: unknown, position?: unknown): Task<number> {
  const vec = validateBuffers(buffers);
  if (vec.length === 0) throw new FsError('EINVAL', 'read');
  let pos = positionOf(position);
  let done = 0;
  for (const into of vec) {
    if (into.length === 0) continue;
    let count: number;
    try {
      count = yield* wait(file.read(state.caller, into, pos));
    } catch (error) {
      // What is read is read: the error comes back with the next call.
      if (done > 0) return done;
      throw face(error, 'read');
    }
    done += count;
    if (pos !== null) pos += count;
    if (count < into.length) break;
  }
  return done;
}

/** Where a vector goes, and a write: anything but a whole number from 0 up means the position of the file. */
export function positionOf(position: unknown): number | null {
  return Number.isSafeInteger(position) && (position as number) >= 0 ? (position as number) : null;
}

/** What is left of the file, from its position on: as text, or as bytes. */
export function* readFile(state: VolumeState, file: FileDescription, options?: unknown, path?: string): Task<string | Uint8Array> {
  const { encoding, signal } = toOptions<ReadFileOptions>(options);
  const bytes = yield* readAll(state, file, signal, path);
  return encoding === null || encoding === undefined || encoding === '' ? toBuffer(bytes) : decodeText(bytes, encoding);
}

function* readAll(state: VolumeState, file: FileDescription, signal: AbortSignalLike | undefined, path?: string): Task<Uint8Array> {
  const { caller } = withSignal(state, signal);
  // Who aborts in the turn of the call has aborted it.
  if (signal !== undefined) yield Promise.resolve();
  checkAborted(signal, 'read');
  const attr = yield* faced(() => file.stat(caller), 'fstat');
  const size = isRegular(attr.mode) ? attr.size : 0;
  if (size > READ_FILE_MAX) {
    throw nodeError(RangeError, 'ERR_FS_FILE_TOO_LARGE', `File size (${size}) is greater than 2 GiB`);
  }
  const step = signal === undefined ? READ_FILE_MAX : STEP;
  if (size === 0) return yield* readUnsized(withSignal(state, signal), file, signal, path);

  const bytes = allocate(size);
  let done = 0;
  while (done < size) {
    const into = part(bytes, done, Math.min(step, size - done));
    const count = yield* faced(() => file.read(caller, into, null), 'read', path);
    if (count === 0) break;
    done += count;
    checkAborted(signal, 'read');
  }
  return done === size ? bytes : part(bytes, 0, done);
}

/** A file that has data without saying how much. */
function* readUnsized(state: VolumeState, file: FileDescription, signal: AbortSignalLike | undefined, path?: string): Task<Uint8Array> {
  let bytes = allocate(0);
  let done = 0;
  for (;;) {
    if (done === bytes.length) {
      const more = allocate(Math.max(UNSIZED_STEP, 2 * done));
      more.set(bytes);
      bytes = more;
    }
    const into = part(bytes, done, bytes.length - done);
    const count = yield* faced(() => file.read(state.caller, into, null), 'read', path);
    if (count === 0) return part(bytes, 0, done);
    done += count;
    checkAborted(signal, 'read');
  }
}

/** The whole file at `path`. */
export function* readPath(state: VolumeState, path: PathLike, options?: unknown, showPath = true): Task<string | Uint8Array> {
  const given = toOptions<ReadFileOptions>(options);
  const name = toPath(path);
  checkAborted(given.signal, 'open');
  const flags = toFlags(given.flag || 'r', 'r');
  return yield* withFile(withSignal(state, given.signal), name, flags, 0o666, (file) =>
    readFile(state, file, given, showPath ? name : undefined),
  );
}

// Writing.

/** What a write takes its bytes from, and where they go: null is the position of the file. */
export interface WriteTarget {
  readonly from: Uint8Array;
  readonly position: number | null;
}

const DATA_TYPES = 'of type string or an instance of Buffer, TypedArray, or DataView';

/** Checks the arguments of a write: of bytes with a range, or of text with position and encoding. */
export function writeTarget(buffer: unknown, offset?: unknown, length?: unknown, position?: unknown): WriteTarget {
  if (typeof buffer === 'string') return { from: bytesOfText(buffer, length), position: positionOf(offset) };
  if (!ArrayBuffer.isView(buffer)) throw invalidType('buffer', DATA_TYPES, buffer);
  const bytes = toBytes(buffer);
  const range: BufferRange = typeof offset === 'object' && offset !== null ? offset : { offset, length, position };

  const start = range.offset === undefined || range.offset === null ? 0 : validateInteger(range.offset, 'offset', 0);
  const count = typeof range.length === 'number' ? range.length : bytes.length - start;
  if (start > bytes.length) throw outOfRange('offset', `<= ${bytes.length}`, start);
  if (count > bytes.length - start) throw outOfRange('length', `<= ${bytes.length - start}`, count);
  if (count < 0) throw outOfRange('length', '>= 0', count);
  validateInteger(count, 'length');
  return { from: count === bytes.length ? bytes : part(bytes, start, count), position: positionOf(range.position) };
}

/** Unknown encodings count as UTF-8, as in node:fs. */
function bytesOfText(text: string, encoding: unknown): Uint8Array {
  const name = typeof encoding === 'string' ? encoding.toLowerCase() : '';
  if (name === 'hex' && text.length % 2 !== 0) throw invalidValue('encoding', encoding, `is invalid for data of length ${text.length}`);
  return encodeText(text, /^(?:utf-?16le|ucs-?2|latin1|binary|ascii|hex|base64|base64url)$/.test(name) ? name : 'utf8');
}

/** Bytes written; may be fewer than there are. */
export function* write(
  state: VolumeState,
  file: FileDescription,
  buffer: unknown,
  offset?: unknown,
  length?: unknown,
  position?: unknown,
): Task<number> {
  const { from, position: pos } = writeTarget(buffer, offset, length, position);
  return yield* faced(() => file.write(state.caller, new IovIter(from), pos), 'write');
}

export function* writev(state: VolumeState, file: FileDescription, buffers: unknown, position?: unknown): Task<number> {
  const vec = validateBuffers(buffers);
  if (vec.length === 0) return 0;
  return yield* faced(() => file.write(state.caller, new IovIter(vec), positionOf(position)), 'write');
}

/** Writes all of `data` at the position. Text is encoded; iterables are written piece by piece, as they come. */
export function* writeFile(state: VolumeState, file: FileDescription, data: unknown, options?: unknown): Task<void> {
  const { encoding, signal, flush } = toOptions<WriteFileOptions>(options, { encoding: 'utf8', flush: false });
  const flushes = flush === null ? false : validateBoolean(flush, 'options.flush');
  const own = withSignal(state, signal);
  if (isPieces(data)) yield* writePieces(own, file, data, encoding || 'utf8', signal);
  else yield* writeAll(own, file, dataBytes(data, encoding || 'utf8'), signal);
  if (flushes) yield* fsync(own, file);
}

/** Is it data that comes in pieces? */
export function isPieces(data: unknown): data is Iterable<unknown> | AsyncIterable<unknown> {
  if (typeof data !== 'object' || data === null || ArrayBuffer.isView(data)) return false;
  return Symbol.asyncIterator in data || Symbol.iterator in data;
}

/** Bytes of what writeFile takes at once. */
function dataBytes(data: unknown, encoding: string): Uint8Array {
  if (typeof data === 'string') return encodeText(data, encoding);
  if (!ArrayBuffer.isView(data)) throw invalidType('data', DATA_TYPES, data);
  return toBytes(data);
}

function* writePieces(
  state: VolumeState,
  file: FileDescription,
  data: Iterable<unknown> | AsyncIterable<unknown>,
  encoding: string,
  signal: AbortSignalLike | undefined,
): Task<void> {
  checkAborted(signal, 'write');
  const pieces = Symbol.asyncIterator in data ? data[Symbol.asyncIterator]() : data[Symbol.iterator]();
  let finished = false;
  try {
    for (;;) {
      const step = yield* wait(pieces.next() as MaybePromise<IteratorResult<unknown>>);
      if (step.done === true) {
        finished = true;
        return;
      }
      const piece = yield* wait(step.value as MaybePromise<unknown>);
      yield* writeAll(state, file, ArrayBuffer.isView(piece) ? toBytes(piece) : encodeText(piece, encoding), signal);
    }
  } finally {
    // Whoever makes the pieces learns that no more are wanted.
    if (!finished) yield* wait(pieces.return?.() as MaybePromise<unknown>);
  }
}

function* writeAll(state: VolumeState, file: FileDescription, bytes: Uint8Array, signal: AbortSignalLike | undefined): Task<void> {
  const step = signal === undefined ? Number.MAX_SAFE_INTEGER : STEP;
  let done = 0;
  checkAborted(signal, 'write');
  while (done < bytes.length) {
    const from = part(bytes, done, Math.min(step, bytes.length - done));
    const count = yield* faced(() => file.write(state.caller, new IovIter(from), null), 'write');
    if (count === 0) throw new FsError('EIO', 'write', { detail: 'nothing was written' });
    done += count;
    checkAborted(signal, 'write');
  }
}

/** writeFile and, with other flags, appendFile of a path. */
export function* writePath(state: VolumeState, path: PathLike, data: unknown, options: unknown, flag: string): Task<void> {
  const given = toOptions<WriteFileOptions>(options, { encoding: 'utf8', mode: 0o666, flag, flush: false });
  if (given.flush !== null) validateBoolean(given.flush, 'options.flush');
  const flags = toFlags(given.flag || flag, flag);
  // Encoded before the file is opened, so that what cannot be encoded truncates nothing.
  const body = isPieces(data) ? data : dataBytes(data, given.encoding || 'utf8');
  const name = toPath(path);
  const mode = toMode(given.mode, 0o666);
  checkAborted(given.signal, 'open');
  yield* withFile(withSignal(state, given.signal), name, flags, mode, (file) => writeFile(state, file, body, given));
}

/** Checks what writeFileSync takes: nothing that comes in pieces. */
export function validateData(data: unknown): void {
  if (typeof data !== 'string' && !ArrayBuffer.isView(data)) throw invalidType('data', DATA_TYPES, data);
}

// The rest of an open file.

export function* ftruncate(state: VolumeState, file: FileDescription, length: unknown = 0): Task<void> {
  const size = Math.max(0, validateInteger(length, 'len'));
  yield* faced(() => file.truncate(state.caller, size), 'ftruncate');
}

export function fsync(state: VolumeState, file: FileDescription): Task<void> {
  return faced(() => file.fsync(state.caller, false), 'fsync');
}

export function fdatasync(state: VolumeState, file: FileDescription): Task<void> {
  return faced(() => file.fsync(state.caller, true), 'fdatasync');
}

export function* fstat(state: VolumeState, file: FileDescription, options: unknown = {}): Task<Stats | BigIntStats> {
  const { bigint } = validateObject(options as { bigint?: boolean }, 'options');
  return statsOf(yield* faced(() => file.stat(state.caller), 'fstat'), bigint, state.dev);
}

export function* fchmod(state: VolumeState, file: FileDescription, mode: unknown): Task<void> {
  const bits = toMode(mode);
  yield* setattr(state, file, { mode: bits & 0o7777 }, 'fchmod');
}

export function* fchown(state: VolumeState, file: FileDescription, uid: unknown, gid: unknown): Task<void> {
  yield* setattr(state, file, ownerChanges(uid, gid), 'fchown');
}

/** The ids that chown changes: -1 stays. */
export function ownerChanges(uid: unknown, gid: unknown): AttrChanges {
  const changes: AttrChanges = {};
  const user = validateId(uid, 'uid');
  const group = validateId(gid, 'gid');
  if (user !== -1 && user !== 2 ** 32 - 1) changes.uid = user;
  if (group !== -1 && group !== 2 ** 32 - 1) changes.gid = group;
  return changes;
}

export function* futimes(state: VolumeState, file: FileDescription, atime: unknown, mtime: unknown): Task<void> {
  const changes = { atime: toTimestamp(atime, 'atime'), mtime: toTimestamp(mtime, 'mtime') };
  yield* setattr(state, file, changes, 'futime');
}

function setattr(state: VolumeState, file: FileDescription, changes: AttrChanges, syscall: string): Task<void> {
  return faced(() => file.setattr(state.caller, changes), syscall);
}
