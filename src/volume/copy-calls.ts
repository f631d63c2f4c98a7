import { ERRNO, type ErrnoCode } from '../base/errno.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { isPromise, type MaybePromise, type Task, wait } from '../base/task.ts';
import type { Attr, DirEntry } from '../vfs/attr.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import {
  isDirectory,
  isSymlink,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_WRONLY,
  S_IALLUGO,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  SEEK_DATA,
  SEEK_HOLE,
} from '../vfs/uapi.ts';
import { face, faced, systemError } from './node-error.ts';
import { child, dirname, resolve } from './posix-path.ts';
import type { VolumeState } from './state.ts';
import { encodeName } from './text.ts';
import { type Abortable, accessMode, begin, checkSignal, list, lstatOrNothing, makePath } from './tree-calls.ts';
import { nodeError, type PathLike, toPath, validateBoolean, validateFunction, validateInteger, validateObject } from './validate.ts';

// copyFile and cp. Holes stay holes, and what is copied inside the filesystem is not carried through memory.

/** The destination may not be there. */
export const COPYFILE_EXCL = 1;
/** Shares blocks where it can: copy_file_range is always tried. */
export const COPYFILE_FICLONE = 2;
/** Shares blocks or fails: ENOTSUP, since no filesystem is asked for nothing but that. */
export const COPYFILE_FICLONE_FORCE = 4;

/** Bytes copied before the signal is looked at again. */
const COPY_STEP = 16 * 2 ** 20;

export function* copyFile(state: VolumeState, src: PathLike, dest: PathLike, mode?: unknown, options: Abortable = {}): Task<void> {
  const from = toPath(src, 'src');
  const to = toPath(dest, 'dest');
  const flags = accessMode(mode, 0);
  yield* copyOne(begin(state, options), from, to, flags, true);
}

/** A file's data and mode. What was made of a copy that fails is removed. Without `follow`, neither path may be a symbolic link. */
function* copyOne(state: VolumeState, from: string, to: string, flags: number, follow: boolean): Task<void> {
  const { vfs, caller } = state;
  const nofollow = follow ? 0 : O_NOFOLLOW;
  let made: FileDescription | undefined;
  try {
    const source = yield* wait(vfs.open(caller, from, O_RDONLY | nofollow));
    try {
      const attr = yield* wait(source.stat(caller));
      if (isDirectory(attr.mode)) throw new FsError('EISDIR', 'copyfile');
      if (flags & COPYFILE_FICLONE_FORCE) throw new FsError('ENOTSUP', 'copyfile');
      const create = O_WRONLY | O_CREAT | nofollow | (flags & COPYFILE_EXCL ? O_EXCL : 0);
      const target = yield* wait(vfs.open(caller, to, create, attr.mode & S_IALLUGO));
      try {
        if ((yield* wait(target.stat(caller))).ino === attr.ino) return;
        made = target;
        yield* wait(target.truncate(caller, 0));
        yield* wait(target.setattr(caller, { mode: attr.mode & S_IALLUGO }));
        yield* copyData(state, source, target, attr.size);
      } finally {
        yield* wait(target.close(caller));
      }
    } finally {
      yield* wait(source.close(caller));
    }
  } catch (error) {
    if (made !== undefined) yield* removeQuietly(state, to);
    throw face(error, 'copyfile', from, to);
  }
}

/** Data between holes, then the size. `target` is empty. */
function* copyData(state: VolumeState, source: FileDescription, target: FileDescription, size: number): Task<void> {
  const { caller } = state;
  let end = 0;
  for (;;) {
    const start = yield* seekData(state, source, end);
    if (start === undefined) break;
    end = yield* wait(source.lseek(caller, start, SEEK_HOLE));
    for (let pos = start; pos < end; ) {
      checkSignal(state);
      const copied = yield* wait(source.copyRange(caller, pos, target, pos, Math.min(COPY_STEP, end - pos)));
      // The source has become shorter.
      if (copied === 0) return;
      pos += copied;
    }
  }
  if (end < size) yield* wait(target.truncate(caller, size));
}

function* seekData(state: VolumeState, source: FileDescription, pos: number): Task<number | undefined> {
  try {
    return yield* wait(source.lseek(state.caller, pos, SEEK_DATA));
  } catch (error) {
    if (hasCode(error, 'ENXIO')) return undefined;
    throw error;
  }
}

function* removeQuietly(state: VolumeState, path: string): Task<void> {
  try {
    yield* wait(state.vfs.unlink({ ...state.caller, signal: undefined }, path));
  } catch {
    // The error of the copy is the one that matters.
  }
}

// cp.

export interface CpOptions extends Abortable {
  dereference?: boolean | undefined;
  errorOnExist?: boolean | undefined;
  /** Copies what it answers true for. Answers that are promises are for the promise face only. */
  filter?: ((source: string, destination: string) => MaybePromise<boolean>) | undefined;
  force?: boolean | undefined;
  /** COPYFILE_*. */
  mode?: number | undefined;
  preserveTimestamps?: boolean | undefined;
  recursive?: boolean | undefined;
  verbatimSymlinks?: boolean | undefined;
}

interface CopyRules {
  readonly dereference: boolean;
  readonly errorOnExist: boolean;
  readonly filter: CpOptions['filter'];
  readonly force: boolean;
  readonly mode: number;
  readonly preserveTimestamps: boolean;
  readonly recursive: boolean;
  readonly verbatimSymlinks: boolean;
}

/** A source, and what is there at both ends. */
interface Pair {
  readonly src: string;
  readonly dest: string;
  readonly attr: Attr;
  readonly destAttr: Attr | undefined;
}

/** A directory whose names are being copied. */
interface OpenPair {
  readonly src: string;
  readonly dest: string;
  /** What is still to be copied, the next one last. */
  readonly entries: DirEntry[];
  /** Mode that the copy gets when it is complete; undefined for one that was there. */
  readonly mode: number | undefined;
}

export function* cp(state: VolumeState, src: PathLike, dest: PathLike, options?: CpOptions): Task<void> {
  const rules = copyRules(options);
  const from = toPath(src, 'src');
  const to = toPath(dest, 'dest');
  yield* new TreeCopy(begin(state, options ?? {}), rules).copy(from, to);
}

const RULES = ['dereference', 'errorOnExist', 'force', 'preserveTimestamps', 'recursive', 'verbatimSymlinks'] as const;

function copyRules(options: CpOptions | undefined): CopyRules {
  const given = options === undefined ? {} : validateObject(options, 'options');
  const { filter, mode } = given;
  const rules: Record<string, unknown> = { filter, mode: mode === undefined || mode === null ? 0 : validateInteger(mode, 'mode', 0, 7) };
  for (const name of RULES) rules[name] = validateBoolean(given[name] === undefined ? name === 'force' : given[name], `options.${name}`);
  if (rules['dereference'] === true && rules['verbatimSymlinks'] === true) {
    const message = 'Option "dereference" cannot be used in combination with option "verbatimSymlinks"';
    throw nodeError(TypeError, 'ERR_INCOMPATIBLE_OPTION_PAIR', message);
  }
  if (filter !== undefined) validateFunction(filter, 'options.filter');
  return rules as unknown as CopyRules;
}

/** One run of cp: from directory to directory, without recursion, so that depth costs no stack. */
class TreeCopy {
  readonly #state: VolumeState;
  readonly #rules: CopyRules;
  readonly #open: OpenPair[] = [];

  constructor(state: VolumeState, rules: CopyRules) {
    this.#state = state;
    this.#rules = rules;
  }

  *copy(src: string, dest: string): Task<void> {
    if (!(yield* this.#wanted(src, dest))) return;
    const pair = yield* this.#look(src, dest);
    yield* this.#checkParents(pair);
    yield* this.#makeParent(dest);
    yield* this.#copyPair(pair);

    for (let dir = this.#open.at(-1); dir !== undefined; dir = this.#open.at(-1)) {
      checkSignal(this.#state);
      const entry = dir.entries.pop();
      if (entry === undefined) {
        this.#open.pop();
        yield* this.#endDirectory(dir);
        continue;
      }
      const from = child(dir.src, entry.name);
      const to = child(dir.dest, entry.name);
      if (yield* this.#wanted(from, to)) yield* this.#copyPair(yield* this.#look(from, to));
    }
  }

  *#wanted(src: string, dest: string): Task<boolean> {
    const { filter } = this.#rules;
    if (filter === undefined) return true;
    const answer = filter(encodeName(src) as string, encodeName(dest) as string);
    if (isPromise(answer) && this.#state.caller.nowait === true) {
      const message = 'Expected boolean to be returned from the "filter" function but got an instance of Promise.';
      throw nodeError(TypeError, 'ERR_INVALID_RETURN_VALUE', message);
    }
    return Boolean(yield* wait(answer));
  }

  /** Looks at both ends, and refuses what cannot be. */
  *#look(src: string, dest: string): Task<Pair> {
    const { vfs, caller } = this.#state;
    const { dereference } = this.#rules;
    const attr = yield* faced(() => vfs.stat(caller, src, dereference), dereference ? 'stat' : 'lstat', src);
    const destAttr = yield* this.#statDest(dest);
    if (destAttr !== undefined) {
      if (destAttr.ino === attr.ino) throw cpError('ERR_FS_CP_EINVAL', 'src and dest cannot be the same', dest);
      if (isDirectory(attr.mode) && !isDirectory(destAttr.mode)) {
        throw cpError('ERR_FS_CP_DIR_TO_NON_DIR', `cannot overwrite non-directory ${dest} with directory ${src}`, dest);
      }
      if (!isDirectory(attr.mode) && isDirectory(destAttr.mode)) {
        throw cpError('ERR_FS_CP_NON_DIR_TO_DIR', `cannot overwrite directory ${dest} with non-directory ${src}`, dest);
      }
    }
    if (isDirectory(attr.mode) && isBelow(src, dest)) throw intoItself(src, dest);
    return { src, dest, attr, destAttr };
  }

  *#statDest(dest: string): Task<Attr | undefined> {
    const { vfs, caller } = this.#state;
    if (!this.#rules.dereference) return yield* lstatOrNothing(this.#state, dest);
    try {
      return yield* wait(vfs.stat(caller, dest));
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw face(error, 'stat', dest);
    }
  }

  /** Text does not show every way in which `dest` may be below `src`; inodes do. */
  *#checkParents({ src, dest, attr }: Pair): Task<void> {
    if (!isDirectory(attr.mode)) return;
    const { vfs, caller } = this.#state;
    for (let at = dirname(resolve('/', dest)); at !== '/'; at = dirname(at)) {
      try {
        if ((yield* wait(vfs.stat(caller, at))).ino === attr.ino) throw intoItself(src, dest);
      } catch (error) {
        if (!hasCode(error, 'ENOENT')) throw face(error, 'stat', at);
      }
    }
  }

  *#makeParent(dest: string): Task<void> {
    const parent = dirname(dest);
    if ((yield* lstatOrNothing(this.#state, parent)) === undefined) yield* makePath(this.#state, parent, 0o777);
  }

  *#copyPair(pair: Pair): Task<void> {
    const { src, dest, attr } = pair;
    const { mode } = attr;
    if (isDirectory(mode)) return yield* this.#beginDirectory(pair);
    if (isSymlink(mode)) return yield* this.#copyLink(pair);
    switch (mode & S_IFMT) {
      case S_IFREG:
      case S_IFCHR:
      case S_IFBLK:
        return yield* this.#copyFile(pair);
      case S_IFSOCK:
        throw cpError('ERR_FS_CP_SOCKET', `cannot copy a socket file: ${dest}`, dest);
      case S_IFIFO:
        throw cpError('ERR_FS_CP_FIFO_PIPE', `cannot copy a FIFO pipe: ${dest}`, dest);
      default:
        throw cpError('ERR_FS_CP_UNKNOWN', `cannot copy an unknown file type: ${dest}`, src);
    }
  }

  *#beginDirectory({ src, dest, attr, destAttr }: Pair): Task<void> {
    const { recursive, dereference } = this.#rules;
    const { vfs, caller } = this.#state;
    if (!recursive) throw cpError('ERR_FS_EISDIR', `${src} is a directory (not copied)`, src);
    if (destAttr === undefined) yield* faced(() => vfs.mkdir(caller, dest, 0o777), 'mkdir', dest);
    else this.#checkExisting(dest);
    const entries = yield* list(this.#state, src, dereference || this.#open.length === 0, 'opendir');
    entries.reverse();
    this.#open.push({ src, dest, entries, mode: destAttr === undefined ? attr.mode & S_IALLUGO : undefined });
  }

  /** The mode comes last: it may forbid writing. */
  *#endDirectory({ dest, mode }: OpenPair): Task<void> {
    const { vfs, caller } = this.#state;
    if (mode !== undefined) yield* faced(() => vfs.setattr(caller, dest, { mode }), 'chmod', dest);
  }

  /** May what is there be replaced? Errors: ERR_FS_CP_EEXIST where the caller wants to know. */
  #checkExisting(dest: string): boolean {
    const { force, errorOnExist } = this.#rules;
    if (!force && errorOnExist) throw cpError('ERR_FS_CP_EEXIST', `${dest} already exists`, dest);
    return force;
  }

  *#copyFile({ src, dest, attr, destAttr }: Pair): Task<void> {
    const { vfs, caller } = this.#state;
    const { mode, dereference, preserveTimestamps } = this.#rules;
    if (destAttr !== undefined) {
      if (!this.#checkExisting(dest)) return;
      yield* faced(() => vfs.unlink(caller, dest), 'unlink', dest);
    }
    yield* copyOne(this.#state, src, dest, mode, dereference);
    if (!preserveTimestamps) return;
    // As they were before reading changed the time of the last access.
    const times = { atime: { sec: attr.atime, nsec: attr.atimeNsec }, mtime: { sec: attr.mtime, nsec: attr.mtimeNsec } };
    yield* faced(() => vfs.setattr(caller, dest, times, false), 'utime', dest);
  }

  *#copyLink({ src, dest, destAttr }: Pair): Task<void> {
    const { vfs, caller } = this.#state;
    const target = this.#targetOf(src, yield* faced(() => vfs.readlink(caller, src), 'readlink', src));
    if (destAttr !== undefined && isSymlink(destAttr.mode)) {
      const former = this.#targetOf(dest, yield* faced(() => vfs.readlink(caller, dest), 'readlink', dest));
      if (yield* this.#leadsToDirectory(src)) {
        if (isBelow(target, former)) throw intoItself(target, former, dest);
        // Where src is below what dest leads to, src would lose what it is.
        if (isBelow(former, target)) throw cpError('ERR_FS_CP_SYMLINK_TO_SUBDIRECTORY', `cannot overwrite ${former} with ${target}`, dest);
      }
      yield* faced(() => vfs.unlink(caller, dest), 'unlink', dest);
    }
    yield* faced(() => vfs.symlink(caller, target, dest), 'symlink', target, dest);
  }

  /** What a link says; absolute, so that it is true at another place, unless it is to be copied verbatim. */
  #targetOf(link: string, target: string): string {
    return this.#rules.verbatimSymlinks || target.startsWith('/') ? target : resolve(dirname(resolve('/', link)), target);
  }

  *#leadsToDirectory(path: string): Task<boolean> {
    try {
      return isDirectory((yield* wait(this.#state.vfs.stat(this.#state.caller, path))).mode);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw face(error, 'stat', path);
    }
  }
}

/** Is `path` the same as `dir`, or below it, as text? */
function isBelow(dir: string, path: string): boolean {
  const top = resolve('/', dir);
  const full = resolve('/', path);
  return full === top || full.startsWith(top === '/' ? top : `${top}/`);
}

function intoItself(src: string, dest: string, path: string = dest): Error {
  return cpError('ERR_FS_CP_EINVAL', `cannot copy ${src} to a subdirectory of self ${dest}`, path);
}

/** Node's codes of fs.cp: what they say, and the error of the system that is behind each. */
const CP_ERRORS = {
  ERR_FS_CP_DIR_TO_NON_DIR: ['Cannot overwrite non-directory with directory', 'EISDIR'],
  ERR_FS_CP_EEXIST: ['Target already exists', 'EEXIST'],
  ERR_FS_CP_EINVAL: ['Invalid src or dest', 'EINVAL'],
  ERR_FS_CP_FIFO_PIPE: ['Cannot copy a FIFO pipe', 'EINVAL'],
  ERR_FS_CP_NON_DIR_TO_DIR: ['Cannot overwrite directory with non-directory', 'ENOTDIR'],
  ERR_FS_CP_SOCKET: ['Cannot copy a socket file', 'EINVAL'],
  ERR_FS_CP_SYMLINK_TO_SUBDIRECTORY: ['Cannot overwrite symlink in subdirectory of self', 'EINVAL'],
  ERR_FS_CP_UNKNOWN: ['Cannot copy an unknown file type', 'EINVAL'],
  ERR_FS_EISDIR: ['Path is a directory', 'EISDIR'],
} as const satisfies Record<string, readonly [string, ErrnoCode]>;

function cpError(code: keyof typeof CP_ERRORS, message: string, path: string): Error {
  const [words, error] = CP_ERRORS[code];
  const text = encodeName(message) as string;
  return systemError(code, words, { code: error, syscall: 'cp', message: text, errno: ERRNO[error], path });
}
