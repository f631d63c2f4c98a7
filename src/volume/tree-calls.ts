import type { AbortSignalLike } from '../base/abort.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { type Task, wait } from '../base/task.ts';
import { encodeUtf8 } from '../layout/utf8.ts';
import { type Attr, type AttrChanges, type DirEntry, makedev } from '../vfs/attr.ts';
import { nameBytes, nameOfText, nameText } from '../vfs/name.ts';
import { aclFromMode, type PosixAcl } from '../vfs/posix-acl.ts';
import {
  isDirectory,
  isSymlink,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IALLUGO,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFSOCK,
  XATTR_CREATE,
  XATTR_REPLACE,
} from '../vfs/uapi.ts';
import { getAcl as readAcl, setAcl as writeAcl } from './acl.ts';
import { Dirent } from './dirent.ts';
import { abortError, face, faced, systemError } from './node-error.ts';
import { toBuffer } from './platform.ts';
import { child, join, resolve } from './posix-path.ts';
import { atOnce, promised, type VolumeState, withSignal } from './state.ts';
import { type BigIntStats, type StatFs, type Stats, statFsOf, statsOf } from './stats.ts';
import { encodeName } from './text.ts';
import {
  invalidType,
  invalidValue,
  nodeError,
  outOfRange,
  type PathLike,
  type TimeLike,
  toMode,
  toOptions,
  toPath,
  toTimestamp,
  validateAbortSignal,
  validateBoolean,
  validateBuffer,
  validateId,
  validateInt32,
  validateInteger,
  validateObject,
  validateUint32,
} from './validate.ts';

// Operations on names: everything of node:fs that takes a path and opens no file for the caller, and what node:fs lacks. Each is written
// once: promises and their Sync namesakes run the same Task. Arguments are checked first, as node:fs checks them.

/** Any operation ends early, with an AbortError, when its signal says so. */
export interface Abortable {
  signal?: AbortSignalLike | undefined;
}

export interface EncodingOptions extends Abortable {
  encoding?: string | null | undefined;
}

/** The state for an operation with these options. Errors: AbortError. */
export function begin(state: VolumeState, options: Abortable): VolumeState {
  const signal = validateAbortSignal(options.signal);
  if (signal?.aborted === true) throw abortError(signal);
  return withSignal(state, signal);
}

/** Between the steps of something long. Errors: AbortError. */
export function checkSignal(state: VolumeState): void {
  const { signal } = state.caller;
  if (signal?.aborted === true) throw abortError(signal);
}

/** An option bag of an operation that takes no text for it. */
function bagOf<T extends Abortable>(options: unknown): T {
  return options === undefined || typeof options === 'function' ? ({} as T) : (validateObject(options, 'options') as T);
}

// Attributes.

export interface StatOptions extends Abortable {
  bigint?: boolean | undefined;
  /** With false, what is not there is undefined. */
  throwIfNoEntry?: boolean | undefined;
}

export function stat(state: VolumeState, path: PathLike, options?: StatOptions): Task<Stats | BigIntStats | undefined> {
  return statAt(state, path, options, 'stat');
}

export function lstat(state: VolumeState, path: PathLike, options?: StatOptions): Task<Stats | BigIntStats | undefined> {
  return statAt(state, path, options, 'lstat');
}

function* statAt(
  state: VolumeState,
  path: PathLike,
  options: StatOptions | undefined,
  syscall: 'stat' | 'lstat',
): Task<Stats | BigIntStats | undefined> {
  const bag = bagOf<StatOptions>(options);
  const name = toPath(path);
  const { vfs, caller, dev } = begin(state, bag);
  let attr: Attr | undefined;
  try {
    attr = yield* wait(vfs.tryStat(caller, name, syscall === 'stat'));
  } catch (error) {
    if (bag.throwIfNoEntry === false && isAbsent(error)) return undefined;
    throw face(error, syscall, name);
  }
  if (attr !== undefined) return statsOf(attr, bag.bigint, dev);
  if (bag.throwIfNoEntry === false) return undefined;
  throw new FsError('ENOENT', syscall, { path: nameText(name) });
}

/** No file has this path. */
function isAbsent(error: unknown): boolean {
  return hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR');
}

export function* access(state: VolumeState, path: PathLike, mode?: unknown): Task<void> {
  const name = toPath(path);
  const mask = accessMode(mode, 0);
  yield* faced(() => state.vfs.access(state.caller, name, mask), 'access', name);
}

/** Three bits, of access and of copyFile. */
export function accessMode(mode: unknown, fallback: number): number {
  if (mode === undefined || mode === null) return fallback;
  if (typeof mode !== 'number') throw nodeError(TypeError, 'ERR_INVALID_ARG_TYPE', 'mode must be int32 or null/undefined');
  const bits = Math.trunc(mode);
  if (bits >= 0 && bits <= 7) return bits;
  const range = Number.isFinite(mode) ? ': >= 0 && <= 7' : '';
  throw nodeError(RangeError, 'ERR_OUT_OF_RANGE', `mode is out of range${range}`);
}

/** Whatever goes wrong: false. */
export function* exists(state: VolumeState, path: PathLike): Task<boolean> {
  try {
    return (yield* wait(state.vfs.tryStat(state.caller, toPath(path)))) !== undefined;
  } catch {
    return false;
  }
}

export function* chmod(state: VolumeState, path: PathLike, mode: unknown): Task<void> {
  const name = toPath(path);
  const bits = toMode(mode);
  yield* faced(() => state.vfs.setattr(state.caller, name, { mode: bits & S_IALLUGO }), 'chmod', name);
}

/** Linux has none. */
export function* lchmod(_state: VolumeState, _path: PathLike, _mode: unknown): Task<void> {
  throw nodeError(Error, 'ERR_METHOD_NOT_IMPLEMENTED', 'The lchmod() method is not implemented');
}

export function chown(state: VolumeState, path: PathLike, uid: unknown, gid: unknown): Task<void> {
  return chownAt(state, path, uid, gid, 'chown');
}

export function lchown(state: VolumeState, path: PathLike, uid: unknown, gid: unknown): Task<void> {
  return chownAt(state, path, uid, gid, 'lchown');
}

function* chownAt(state: VolumeState, path: PathLike, uid: unknown, gid: unknown, syscall: 'chown' | 'lchown'): Task<void> {
  const name = toPath(path);
  const owner = validateId(uid, 'uid');
  const group = validateId(gid, 'gid');
  const changes: AttrChanges = {};
  if (isId(owner)) changes.uid = owner;
  if (isId(group)) changes.gid = group;
  yield* faced(() => state.vfs.setattr(state.caller, name, changes, syscall === 'chown'), syscall, name);
}

/** -1, of either width, leaves what is there. */
function isId(id: number): boolean {
  return id !== -1 && id !== 2 ** 32 - 1;
}

export function utimes(state: VolumeState, path: PathLike, atime: TimeLike, mtime: TimeLike): Task<void> {
  return utimesAt(state, path, atime, mtime, 'utime');
}

export function lutimes(state: VolumeState, path: PathLike, atime: TimeLike, mtime: TimeLike): Task<void> {
  return utimesAt(state, path, atime, mtime, 'lutime');
}

function* utimesAt(state: VolumeState, path: PathLike, atime: TimeLike, mtime: TimeLike, syscall: 'utime' | 'lutime'): Task<void> {
  const name = toPath(path);
  try {
    const changes = { atime: toTimestamp(atime), mtime: toTimestamp(mtime) };
    yield* wait(state.vfs.setattr(state.caller, name, changes, syscall === 'utime'));
  } catch (error) {
    throw face(error, syscall, name);
  }
}

/** Opens before it looks at the length, as node:fs does. */
export function* truncate(state: VolumeState, path: PathLike, length: unknown = 0): Task<void> {
  const { vfs, caller } = state;
  const name = toPath(path);
  const file = yield* faced(() => vfs.open(caller, name, O_RDWR), 'open', name);
  try {
    const size = Math.max(0, validateInteger(length, 'len'));
    yield* faced(() => file.truncate(caller, size), 'ftruncate');
  } finally {
    yield* faced(() => file.close(caller), 'close');
  }
}

export function* statfs(
  state: VolumeState,
  path: PathLike,
  options?: Abortable & { bigint?: boolean | undefined },
): Task<StatFs<number> | StatFs<bigint>> {
  const name = toPath(path);
  const bag: Abortable & { bigint?: boolean | undefined } = toOptions(typeof options === 'object' ? options : {});
  const { vfs, caller } = begin(state, bag);
  return statFsOf(yield* faced(() => vfs.statfs(caller, name), 'statfs', name), bag.bigint);
}

// Directories.

export interface ReaddirOptions extends EncodingOptions {
  withFileTypes?: boolean | undefined;
  recursive?: boolean | undefined;
}

/** A directory on the way of a recursive readdir. */
interface Below {
  /** Below where it began; '' there. */
  readonly path: string;
  readonly ino: number;
  readonly isLink: boolean;
  readonly above: Below | undefined;
}

/**
 * The names of a directory, by their bytes; with `recursive` directory by directory, the nearest first.
 *
 * As in node:fs, symbolic links to directories are followed; but for those that lead back to a directory above, where Node goes round until
 * the path has too many links.
 */
export function* readdir(
  state: VolumeState,
  path: PathLike,
  options?: string | null | ReaddirOptions,
): Task<(string | Uint8Array)[] | Dirent<string | Uint8Array>[]> {
  const bag: ReaddirOptions = toOptions(options);
  const name = toPath(path);
  if (bag.recursive !== undefined && bag.recursive !== null) validateBoolean(bag.recursive, 'options.recursive');
  const { encoding, withFileTypes, recursive } = bag;
  const each = begin(state, bag);

  const names: (string | Uint8Array)[] = [];
  const dirents: Dirent<string | Uint8Array>[] = [];
  const ino = recursive ? yield* directoryAt(each, name) : undefined;
  const dirs: Below[] = [{ path: '', ino: ino ?? 0, isLink: true, above: undefined }];
  for (const at of dirs) {
    checkSignal(each);
    const dir = at.path === '' ? name : join(name, at.path);
    const parentPath = encodeName(dir, path instanceof Uint8Array ? 'buffer' : 'utf8');
    for (const entry of yield* listSorted(each, dir, at.isLink)) {
      const type = withFileTypes || recursive ? yield* typeOf(each, dir, entry) : 0;
      const below = child(at.path, entry.name);
      if (withFileTypes) dirents.push(new Dirent(encodeName(entry.name, encoding), parentPath, type));
      else names.push(encodeName(below, encoding));
      if (!recursive) continue;

      const isLink = isSymlink(type);
      const ino = isLink ? yield* directoryAt(each, child(dir, entry.name)) : isDirectory(type) ? entry.ino : undefined;
      if (ino !== undefined && !(isLink && isAbove(at, ino))) dirs.push({ path: below, ino, isLink, above: at });
    }
  }
  return withFileTypes ? dirents : names;
}

/** The inode of the directory that a path leads to; undefined if it is none, or not to be seen. */
function* directoryAt({ vfs, caller }: VolumeState, path: string): Task<number | undefined> {
  try {
    const attr = yield* wait(vfs.stat(caller, path));
    return isDirectory(attr.mode) ? attr.ino : undefined;
  } catch (error) {
    if (isAbsent(error) || hasCode(error, 'ELOOP') || hasCode(error, 'EACCES') || hasCode(error, 'ENAMETOOLONG')) return undefined;
    throw face(error, 'stat', path);
  }
}

function isAbove(at: Below | undefined, ino: number): boolean {
  for (; at !== undefined; at = at.above) if (at.ino === ino) return true;
  return false;
}

/** Names asked for at once. */
const READDIR_COUNT = 1024;

/** All names of a directory, in its own order. Without `follow` a symbolic link is not a directory. Errors: those of `syscall`. */
export function* list(state: VolumeState, path: string, follow: boolean, syscall = 'scandir'): Task<DirEntry[]> {
  const { vfs, caller } = state;
  const all: DirEntry[] = [];
  try {
    const dir = yield* wait(vfs.open(caller, path, O_RDONLY | O_DIRECTORY | (follow ? 0 : O_NOFOLLOW)));
    try {
      for (;;) {
        const some = yield* wait(dir.readdir(caller, READDIR_COUNT));
        if (some.length === 0) return all;
        for (const entry of some) all.push(entry);
        checkSignal(state);
      }
    } finally {
      yield* wait(dir.close(caller));
    }
  } catch (error) {
    throw face(error, syscall, path);
  }
}

/** In the order of bytes, as scandir(3) has it in the C locale. */
export function* listSorted(state: VolumeState, path: string, follow: boolean): Task<DirEntry[]> {
  const entries = yield* list(state, path, follow);
  return entries.sort((a, b) => compareNames(a.name, b.name));
}

function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // From the surrogates on, UTF-16 and bytes are not in the same order.
    return x < 0xd800 && y < 0xd800 ? x - y : compareBytes(nameBytes(a), nameBytes(b));
  }
  return a.length - b.length;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number);
  return a.length - b.length;
}

/** File type bits of a name; those of nothing, 0, if it is gone by now. */
export function* typeOf(state: VolumeState, dir: string, entry: DirEntry): Task<number> {
  if (entry.type !== 0) return entry.type;
  const attr = yield* lstatOrNothing(state, child(dir, entry.name));
  return attr === undefined ? 0 : attr.mode & S_IFMT;
}

/** undefined where there is nothing. Errors: those of lstat. */
export function* lstatOrNothing(state: VolumeState, path: string): Task<Attr | undefined> {
  try {
    return yield* wait(state.vfs.stat(state.caller, path, false));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw face(error, 'lstat', path);
  }
}

export interface MkdirOptions extends Abortable {
  /** Default 0o777. */
  mode?: number | string | null | undefined;
  /** Makes what is missing above, too; a directory that is there is fine. */
  recursive?: boolean | undefined;
}

/** With `recursive`: the first directory that was made, undefined if all were there. */
export function* mkdir(state: VolumeState, path: PathLike, options?: number | string | null | MkdirOptions): Task<string | undefined> {
  const bag: MkdirOptions =
    typeof options === 'number' || typeof options === 'string'
      ? { mode: options }
      : options !== null && typeof options === 'object'
        ? options
        : {};
  const name = toPath(path);
  const { recursive = false } = bag;
  validateBoolean(recursive, 'options.recursive');
  const mode = toMode(bag.mode, 0o777);
  const each = begin(state, bag);
  if (recursive) return yield* makePath(each, name, mode);
  yield* faced(() => each.vfs.mkdir(each.caller, name, mode), 'mkdir', name);
  return undefined;
}

/** Goes up until a directory is there or can be made, and down again. */
export function* makePath(state: VolumeState, path: string, mode: number): Task<string | undefined> {
  const { vfs, caller } = state;
  const missing: string[] = [];
  let first: string | undefined;
  let at = path;
  for (;;) {
    checkSignal(state);
    try {
      yield* wait(vfs.mkdir(caller, at, mode));
      first ??= at;
    } catch (error) {
      const slash = at.lastIndexOf('/');
      if (hasCode(error, 'ENOENT') && slash > 0) {
        missing.push(at);
        at = at.slice(0, slash);
        continue;
      }
      if (!hasCode(error, 'EEXIST')) throw face(error, 'mkdir', at);
      let isThere = false;
      try {
        isThere = isDirectory((yield* wait(vfs.stat(caller, at))).mode);
      } catch (statError) {
        if (missing.length === 0) throw face(statError, 'mkdir', at);
      }
      if (!isThere) throw face(missing.length === 0 ? error : new FsError('ENOTDIR', 'mkdir'), 'mkdir', at);
    }
    const next = missing.pop();
    if (next === undefined) return first === undefined ? undefined : (encodeName(first) as string);
    at = next;
  }
}

/** Letters and digits, 62 of them. */
const TEMP_CHARACTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
/** Names that are tried before EEXIST is the answer. */
const TEMP_TRIES = 238_328;

/** A directory that was not there, mode 0o700. `random` gives numbers in [0, 1). */
export function* mkdtemp(
  state: VolumeState,
  prefix: PathLike,
  options?: string | null | EncodingOptions,
  random: () => number = Math.random,
): Task<string | Uint8Array> {
  const bag: EncodingOptions = toOptions(options);
  return encodeName(yield* makeTemporary(state, prefix, bag, random), bag.encoding);
}

function* makeTemporary(state: VolumeState, prefix: PathLike, options: EncodingOptions, random: () => number): Task<string> {
  const name = toPath(prefix, 'prefix');
  const { vfs, caller } = begin(state, options);
  for (let tries = 1; ; tries++) {
    let path = name;
    for (let i = 0; i < 6; i++) path += TEMP_CHARACTERS[Math.floor(random() * TEMP_CHARACTERS.length)];
    try {
      yield* wait(vfs.mkdir(caller, path, 0o700));
      return path;
    } catch (error) {
      if (!hasCode(error, 'EEXIST') || tries === TEMP_TRIES) throw face(error, 'mkdtemp', `${name}XXXXXX`);
    }
  }
}

/** A directory that removes itself, and what is in it. Removing it twice is fine. */
export interface TemporaryDirectory {
  readonly path: string | Uint8Array;
  remove(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface TemporaryDirectorySync {
  readonly path: string | Uint8Array;
  remove(): void;
  [Symbol.dispose](): void;
}

export function* mkdtempDisposable(
  state: VolumeState,
  prefix: PathLike,
  options?: string | null | EncodingOptions,
  random: () => number = Math.random,
): Task<TemporaryDirectory> {
  const bag: EncodingOptions = toOptions(options);
  const name = yield* makeTemporary(state, prefix, bag, random);
  const remove = (): Promise<void> => promised(() => removeTree(state, name, REMOVE_TEMPORARY));
  return { path: encodeName(name, bag.encoding), remove, [Symbol.asyncDispose]: remove };
}

export function* mkdtempDisposableSync(
  state: VolumeState,
  prefix: PathLike,
  options?: string | null | EncodingOptions,
  random: () => number = Math.random,
): Task<TemporaryDirectorySync> {
  const bag: EncodingOptions = toOptions(options);
  const name = yield* makeTemporary(state, prefix, bag, random);
  const remove = (): void => atOnce(removeTree(state, name, REMOVE_TEMPORARY));
  return { path: encodeName(name, bag.encoding), remove, [Symbol.dispose]: remove };
}

export function* rmdir(state: VolumeState, path: PathLike, options?: Abortable): Task<void> {
  const name = toPath(path);
  const bag = bagOf<Abortable & { recursive?: unknown }>(options);
  if (bag.recursive !== undefined) throw invalidValue('options.recursive', bag.recursive, 'is no longer supported');
  const { vfs, caller } = begin(state, bag);
  yield* faced(() => vfs.rmdir(caller, name), 'rmdir', name);
}

// Removing.

export interface RmOptions extends Abortable {
  /** What is not there is fine. */
  force?: boolean | undefined;
  /** Directories too, with all that is in them. */
  recursive?: boolean | undefined;
  /** How often each step is tried again while something is busy, only with `recursive`. Default 0. */
  maxRetries?: number | undefined;
  /** Milliseconds before the first retry; each waits that much longer. Default 100. */
  retryDelay?: number | undefined;
}

type Removal = { readonly [K in 'force' | 'recursive']: boolean } & { readonly [K in 'maxRetries' | 'retryDelay']: number };

const REMOVE_TEMPORARY: Removal = { force: true, recursive: true, maxRetries: 0, retryDelay: 0 };

export function* rm(state: VolumeState, path: PathLike, options?: RmOptions): Task<void> {
  const name = toPath(path);
  const bag = options === undefined ? {} : (validateObject(options, 'options') as RmOptions);
  const { force = false, recursive = false, maxRetries = 0, retryDelay = 100 } = bag;
  validateBoolean(force, 'options.force');
  validateBoolean(recursive, 'options.recursive');
  validateInt32(retryDelay, 'options.retryDelay', 0);
  validateUint32(maxRetries, 'options.maxRetries');
  yield* removeTree(begin(state, bag), name, { force, recursive, maxRetries, retryDelay });
}

/** A directory on the way down: its names that are still to be removed. */
interface Doomed {
  readonly path: string;
  readonly entries: DirEntry[];
}

/** Symbolic links are removed, never followed: each directory is opened with O_NOFOLLOW. What others remove meanwhile is fine. */
function* removeTree(state: VolumeState, path: string, removal: Removal): Task<void> {
  const { vfs, caller } = state;
  let attr: Attr;
  try {
    attr = yield* wait(vfs.stat(caller, path, false));
  } catch (error) {
    if (removal.force && hasCode(error, 'ENOENT')) return;
    throw face(error, 'lstat', path);
  }
  if (!isDirectory(attr.mode)) return yield* removeName(state, path, removal);
  if (!removal.recursive) {
    const message = 'is a directory';
    throw systemError('ERR_FS_EISDIR', 'Path is a directory', { code: 'EISDIR', message, path, syscall: 'rm', errno: 21 });
  }

  if (yield* removeIfEmpty(state, path, removal)) return;
  const doomed: Doomed[] = [{ path, entries: yield* list(state, path, false) }];
  for (let dir = doomed.at(-1); dir !== undefined; dir = doomed.at(-1)) {
    checkSignal(state);
    const entry = dir.entries.pop();
    if (entry === undefined) {
      yield* removeDirectory(state, dir.path, removal);
      doomed.pop();
      continue;
    }
    const name = child(dir.path, entry.name);
    if (!isDirectory(yield* typeOf(state, dir.path, entry))) yield* removeName(state, name, removal);
    else if (!(yield* removeIfEmpty(state, name, removal))) {
      const entries = yield* listIfDirectory(state, name);
      if (entries === undefined) yield* removeName(state, name, removal);
      else doomed.push({ path: name, entries });
    }
  }
}

/** Tells whether the directory is gone. Each directory is tried before its names are, so that what may not be removed keeps what is in it. */
function* removeIfEmpty(state: VolumeState, path: string, removal: Removal): Task<boolean> {
  const { vfs, caller } = state;
  let isGone = true;
  yield* retried(state, removal, function* () {
    try {
      yield* faced(() => vfs.rmdir(caller, path), 'rmdir', path);
    } catch (error) {
      if (!NOT_EMPTY.some((code) => hasCode(error, code))) throw error;
      isGone = false;
    }
  });
  return isGone;
}

/** What rmdir says of a directory with names in it, and of what is no directory any more. */
const NOT_EMPTY = ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'] as const;

/** undefined for what was a directory a moment ago and is none now. */
function* listIfDirectory(state: VolumeState, path: string): Task<DirEntry[] | undefined> {
  try {
    return yield* list(state, path, false);
  } catch (error) {
    if (isAbsent(error) || hasCode(error, 'ELOOP')) return undefined;
    throw error;
  }
}

function* removeName(state: VolumeState, path: string, removal: Removal): Task<void> {
  const { vfs, caller } = state;
  yield* retried(state, removal, () => faced(() => vfs.unlink(caller, path), 'unlink', path));
}

function* removeDirectory(state: VolumeState, path: string, removal: Removal): Task<void> {
  const { vfs, caller } = state;
  yield* retried(state, removal, () => faced(() => vfs.rmdir(caller, path), 'rmdir', path));
}

const RETRIED = ['EBUSY', 'EMFILE', 'ENFILE', 'ENOTEMPTY', 'EPERM'] as const;

function* retried(state: VolumeState, removal: Removal, step: () => Task<void>): Task<void> {
  const max = removal.recursive ? removal.maxRetries : 0;
  for (let tries = 1; ; tries++) {
    try {
      return yield* step();
    } catch (error) {
      if (removal.recursive && hasCode(error, 'ENOENT')) return;
      if (tries > max || !RETRIED.some((code) => hasCode(error, code))) throw error;
    }
    // Who may not wait tries again at once.
    if (state.caller.nowait !== true) yield* wait(pause(removal.retryDelay * tries));
    checkSignal(state);
  }
}

/** A timer that keeps the process alive, unlike those of a Clock: somebody waits for what comes after it. */
function pause(ms: number): Promise<void> {
  const host = globalThis as unknown as { setTimeout(fire: () => void, delayMs: number): unknown };
  return new Promise((resolve) => host.setTimeout(resolve, ms));
}

export function* unlink(state: VolumeState, path: PathLike): Task<void> {
  const name = toPath(path);
  yield* faced(() => state.vfs.unlink(state.caller, name), 'unlink', name);
}

// Names and links.

export interface RenameOptions extends Abortable {
  /** EEXIST if the new name is taken. */
  noReplace?: boolean | undefined;
  /** Both names stay, each with what the other had. */
  exchange?: boolean | undefined;
  /** Leaves a whiteout, character device 0:0, at the old name. */
  whiteout?: boolean | undefined;
}

export function* rename(state: VolumeState, oldPath: PathLike, newPath: PathLike, options?: RenameOptions): Task<void> {
  const from = toPath(oldPath, 'oldPath');
  const to = toPath(newPath, 'newPath');
  const bag = bagOf<RenameOptions>(options);
  const flags = (bag.noReplace ? RENAME_NOREPLACE : 0) | (bag.exchange ? RENAME_EXCHANGE : 0) | (bag.whiteout ? RENAME_WHITEOUT : 0);
  const { vfs, caller } = begin(state, bag);
  yield* faced(() => vfs.rename(caller, from, to, flags), 'rename', from, to);
}

export function* link(state: VolumeState, existingPath: PathLike, newPath: PathLike): Task<void> {
  const existing = toPath(existingPath, 'existingPath');
  const path = toPath(newPath, 'newPath');
  yield* faced(() => state.vfs.link(state.caller, existing, path), 'link', existing, path);
}

/** `type` means something to Windows only. */
export function* symlink(state: VolumeState, target: PathLike, path: PathLike, type?: unknown): Task<void> {
  if (type !== undefined && type !== null && type !== 'dir' && type !== 'file' && type !== 'junction') {
    throw invalidValue('type', type, "must be one of: 'dir', 'file', 'junction', null, undefined");
  }
  const to = toPath(target, 'target');
  const name = toPath(path);
  yield* faced(() => state.vfs.symlink(state.caller, to, name), 'symlink', to, name);
}

export function* readlink(state: VolumeState, path: PathLike, options?: string | null | EncodingOptions): Task<string | Uint8Array> {
  const bag: EncodingOptions = toOptions(options);
  const name = toPath(path);
  const { vfs, caller } = begin(state, bag);
  return encodeName(yield* faced(() => vfs.readlink(caller, name), 'readlink', name), bag.encoding);
}

/** As realpath(3): fs.promises.realpath, fs.realpath.native, fs.realpathSync.native. */
export function* realpath(state: VolumeState, path: PathLike, options?: string | null | EncodingOptions): Task<string | Uint8Array> {
  const bag: EncodingOptions = toOptions(options);
  const name = toPath(path);
  const { vfs, caller } = begin(state, bag);
  return encodeName(yield* faced(() => vfs.realpath(caller, name), 'realpath', name), bag.encoding);
}

/** As fs.realpathSync: '..' takes back the component before it, link or not, and errors are those of lstat and stat on the way. */
export function* realpathLexical(state: VolumeState, path: PathLike, options?: string | null | EncodingOptions): Task<string | Uint8Array> {
  const bag: EncodingOptions = toOptions(options);
  const name = resolve('/', toPath(path));
  const { vfs, caller } = begin(state, bag);
  let at = '/';
  for (const part of name.split('/')) {
    if (part === '') continue;
    const next = child(at, part);
    const attr = yield* faced(() => vfs.stat(caller, next, false), 'lstat', next);
    at = next;
    if ((attr.mode & S_IFMT) !== S_IFLNK) continue;
    yield* faced(() => vfs.stat(caller, next), 'stat', next);
    at = yield* faced(() => vfs.realpath(caller, next), 'realpath', next);
  }
  return encodeName(at, bag.encoding);
}

// What node:fs lacks.

export interface XattrOptions extends Abortable {
  /** With false, the attributes of a symbolic link itself. Default true. */
  followSymlinks?: boolean | undefined;
}

export interface SetXattrOptions extends XattrOptions {
  /** EEXIST if it is there. */
  create?: boolean | undefined;
  /** ENODATA if it is not. */
  replace?: boolean | undefined;
}

/** undefined where there is none of this name. */
export function* getXattr(state: VolumeState, path: PathLike, name: string, options?: XattrOptions): Task<Uint8Array | undefined> {
  const { file, follow, each } = xattrCall(state, path, options);
  const attribute = attributeName(name);
  const value = yield* faced(() => each.vfs.getxattr(each.caller, file, attribute, follow), 'getxattr', file);
  return value === undefined ? undefined : toBuffer(value);
}

export function* setXattr(
  state: VolumeState,
  path: PathLike,
  name: string,
  value: string | ArrayBufferView,
  options?: SetXattrOptions,
): Task<void> {
  const { file, follow, each } = xattrCall(state, path, options);
  const attribute = attributeName(name);
  const bytes = typeof value === 'string' ? encodeUtf8(value) : validateBuffer(value, 'value');
  const flags = (options?.create ? XATTR_CREATE : 0) | (options?.replace ? XATTR_REPLACE : 0);
  yield* faced(() => each.vfs.setxattr(each.caller, file, attribute, bytes, flags, follow), 'setxattr', file);
}

export function* listXattr(state: VolumeState, path: PathLike, options?: XattrOptions): Task<string[]> {
  const { file, follow, each } = xattrCall(state, path, options);
  return yield* faced(() => each.vfs.listxattr(each.caller, file, follow), 'listxattr', file);
}

/** Errors: ENODATA where there is none. */
export function* removeXattr(state: VolumeState, path: PathLike, name: string, options?: XattrOptions): Task<void> {
  const { file, follow, each } = xattrCall(state, path, options);
  const attribute = attributeName(name);
  yield* faced(() => each.vfs.removexattr(each.caller, file, attribute, follow), 'removexattr', file);
}

function xattrCall(state: VolumeState, path: PathLike, options?: XattrOptions): { file: string; follow: boolean; each: VolumeState } {
  const file = toPath(path);
  const { followSymlinks = true } = bagOf<XattrOptions>(options);
  return { file, follow: validateBoolean(followSymlinks, 'options.followSymlinks'), each: begin(state, options ?? {}) };
}

function attributeName(name: unknown): string {
  if (typeof name !== 'string') throw invalidType('name', 'of type string', name);
  return nameOfText(name);
}

export interface AclOptions extends Abortable {
  /** That which a directory gives to what is made in it. */
  default?: boolean | undefined;
}

/** What decides about access, from the mode where there is no list; with `default` undefined where there is none. */
export function* getAcl(state: VolumeState, path: PathLike, options?: AclOptions): Task<PosixAcl | undefined> {
  const name = toPath(path);
  const bag = bagOf<AclOptions>(options);
  const { vfs, caller } = begin(state, bag);
  const acl = yield* faced(() => readAcl(bag, (attribute) => vfs.getxattr(caller, name, attribute)), 'getxattr', name);
  if (acl !== undefined || bag.default === true) return acl;
  const attr = yield* faced(() => vfs.stat(caller, name), 'stat', name);
  return aclFromMode(attr.mode);
}

/** A list, its text, or undefined to remove it. */
export function* setAcl(state: VolumeState, path: PathLike, acl: PosixAcl | string | undefined, options?: AclOptions): Task<void> {
  const name = toPath(path);
  const bag = bagOf<AclOptions>(options);
  const { vfs, caller } = begin(state, bag);
  const store = {
    set: (attribute: string, value: Uint8Array) => vfs.setxattr(caller, name, attribute, value),
    remove: (attribute: string) => vfs.removexattr(caller, name, attribute),
  };
  yield* faced(() => writeAcl(acl, bag, store), 'setxattr', name);
}

const NODE_TYPES = { fifo: S_IFIFO, char: S_IFCHR, block: S_IFBLK, socket: S_IFSOCK } as const;

export interface MknodOptions extends Abortable {
  type: keyof typeof NODE_TYPES;
  /** Default 0o666. */
  mode?: number | string | undefined;
  /** Of a device. Default 0. */
  major?: number | undefined;
  minor?: number | undefined;
}

export function* mknod(state: VolumeState, path: PathLike, options: MknodOptions): Task<void> {
  const name = toPath(path);
  const { type, mode, major = 0, minor = 0, signal } = validateObject(options, 'options');
  if (!Object.hasOwn(NODE_TYPES, type)) throw invalidValue('options.type', type, "must be one of: 'fifo', 'char', 'block', 'socket'");
  const bits = toMode(mode, 0o666, 'options.mode') & S_IALLUGO;
  const rdev = makedev(validateUint32(major, 'options.major'), validateUint32(minor, 'options.minor'));
  const isDevice = type === 'char' || type === 'block';
  if (!isDevice && rdev !== 0) throw outOfRange('options.major', '0 for what is no device', major);
  const { vfs, caller } = begin(state, { signal });
  yield* faced(() => vfs.mknod(caller, name, NODE_TYPES[type] | bits, rdev), 'mknod', name);
}

/** All that was written is durable. */
export function* syncfs(state: VolumeState, options?: Abortable): Task<void> {
  const { vfs, caller } = begin(state, bagOf(options));
  yield* faced(() => vfs.syncfs(caller), 'syncfs');
}

/** Writers wait, and what is stored can be copied, until it is thawed. */
export function* freeze(state: VolumeState, options?: Abortable): Task<void> {
  const { vfs, caller } = begin(state, bagOf(options));
  yield* faced(() => vfs.freeze(caller), 'freeze');
}

export function* thaw(state: VolumeState, options?: Abortable): Task<void> {
  const { vfs, caller } = begin(state, bagOf(options));
  yield* faced(() => vfs.thaw(caller), 'thaw');
}
