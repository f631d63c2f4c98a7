import { FsError } from '../base/fs-error.ts';
import type { RwLock } from '../base/lock.ts';
import { isPromise, type MaybePromise, type Task, wait } from '../base/task.ts';
import type { AccessControl } from './access-control.ts';
import type { Entry } from './attr.ts';
import type { Caller } from './caller.ts';
import type { Dcache } from './dcache.ts';
import type { Dentry } from './dentry.ts';
import type { FileSystem } from './file-system.ts';
import { nameLength } from './name.ts';
import { isSymlink, MAXSYMLINKS, PATH_MAX, X_OK } from './uapi.ts';
import type { Vnode } from './vnode.ts';

/** What the last component of a path is. */
export type LastType = 'norm' | 'dot' | 'dotdot' | 'root';

/** Where a walk ends: the inode, not referenced, and its name, if it has one here. */
export interface PathEnd {
  readonly vnode: Vnode;
  readonly dentry: Dentry | undefined;
}

/** What a walk works with. */
export interface WalkHost {
  readonly fs: FileSystem;
  readonly dcache: Dcache;
  readonly access: AccessControl;
}

/** Takes a lock, or with `nowait` throws EAGAIN if somebody has it. */
export function acquire(lock: RwLock, caller: Caller, syscall: string, shared = false): MaybePromise<void> {
  if (shared ? lock.tryLockShared() : lock.tryLock()) return;
  if (caller.nowait === true) throw new FsError('EAGAIN', syscall, { detail: 'another call holds it' });
  return shared ? lock.lockShared() : lock.lock();
}

/** The name in a directory, asked for if it is not cached. The caller holds the directory's lock, and the directory. */
export function lookupLocked(host: WalkHost, caller: Caller, dir: Vnode, name: string): MaybePromise<Dentry | undefined> {
  const { dcache, fs } = host;
  const cached = dcache.find(dir, name);
  if (cached !== undefined) return cached;
  if (name.length * 3 > fs.nameMax && nameLength(name) > fs.nameMax) throw new FsError('ENAMETOOLONG', 'lookup');
  if (dir.isDead) return undefined;
  const { invalidations } = dir;
  const answer = fs.lookup(caller, dir.id, name);
  if (isPromise(answer)) return (answer as Promise<Entry | undefined>).then((entry) => note(dcache, dir, name, entry, invalidations));
  return note(dcache, dir, name, answer as Entry | undefined, invalidations);
}

/** Keeps what a lookup has found. */
function note(dcache: Dcache, dir: Vnode, name: string, entry: Entry | undefined, invalidations: number): Dentry | undefined {
  if (entry === undefined) {
    const stale = dir.children?.get(name);
    if (stale !== undefined) dcache.drop(stale);
    return undefined;
  }
  // A name that changed while the answer was on its way is believed for this walk only.
  return dcache.add(dir, name, dcache.instantiate(entry), invalidations === dir.invalidations ? entry.entryValidMs : 0);
}

/**
 * Where [0, end) of a path leads, if every step of it is cached and needs no thought: the fast path of a walk.
 *
 * Shape:   the dentry, 'root', or undefined where the walk has to look at it: links to be followed, '.' and '..', names that are not cached,
 *          permissions that have to be asked for, errors.
 */
export function tryWalk(host: WalkHost, caller: Caller, path: string, end: number, follow: boolean): Dentry | 'root' | undefined {
  const { dcache, access } = host;
  if (end === 0 || end * 3 >= PATH_MAX) return undefined;
  let vnode = dcache.root;
  let found: Dentry | undefined;
  for (let at = 0; at < end; ) {
    if (path.charCodeAt(at) === SLASH) {
      at++;
      continue;
    }
    let stop = path.indexOf('/', at);
    if (stop < 0 || stop > end) stop = end;
    // '.' and '..' are names of nobody: they miss.
    if (!access.maySearchAtOnce(caller, vnode)) return undefined;
    found = dcache.find(vnode, path.slice(at, stop));
    if (found === undefined) return undefined;
    vnode = found.vnode;
    at = stop;
    if (isSymlink(vnode.type) && (follow || at < end)) return undefined;
  }
  if (vnode.isBad || (path.charCodeAt(end - 1) === SLASH && !vnode.isDirectory)) return undefined;
  return found ?? 'root';
}

/**
 * One walk along a path, with the rules of the kernel's: search permission on every directory, '..' of the root is the root, at most
 * MAXSYMLINKS symbolic links, a trailing slash asks for a directory and follows a link.
 *
 * Invariants:
 * 1. `dir` is referenced by the walk from begin to end().
 * 2. After toLast(): `dir` holds, or is to hold, the last component, `name`; nothing is left of the path.
 */
export class PathWalk {
  readonly #host: WalkHost;
  readonly #caller: Caller;
  readonly #syscall: string;
  dir: Vnode;
  name = '';
  last: LastType = 'root';
  /** The path ends with a slash. */
  hasSlash = false;
  #links = 0;
  #rest: string;
  /** What is left of the paths in which symbolic links were met, the outermost first. */
  #outer: string[] | undefined = undefined;

  constructor(host: WalkHost, caller: Caller, path: string, syscall: string) {
    this.#host = host;
    this.#caller = caller;
    this.#syscall = syscall;
    if (path === '') throw this.#failed('ENOENT');
    if (path.length * 3 >= PATH_MAX && nameLength(path) >= PATH_MAX) throw this.#failed('ENAMETOOLONG');
    const { root } = host.dcache;
    // All but the last component is cached most of the time.
    const cut = path.lastIndexOf('/');
    const above = cut > 0 && cut < path.length - 1 ? tryWalk(host, caller, path, cut, true) : undefined;
    const dir = above === undefined || above === 'root' ? root : above.vnode;
    const isThere = above !== undefined && dir.isDirectory;
    this.dir = isThere ? dir : root;
    this.#rest = isThere ? path.slice(cut + 1) : path;
    this.dir.refs++;
  }

  end(): void {
    this.#host.dcache.put(this.dir);
  }

  /** Walks to the last component, which is looked at by whoever needs it. */
  *toLast(): Task<void> {
    for (;;) {
      if (!this.#next()) return;
      if (this.#isAtEnd()) {
        // The directory must be one that can be searched, whatever is to happen to the name.
        if (!this.#host.access.maySearchAtOnce(this.#caller, this.dir)) yield* this.#search();
        return;
      }
      yield* this.#step();
    }
  }

  /** Walks to the end. Shape: the inode, not referenced; the dentry if it has one here. `follow`: the last link too. */
  *toEnd(follow: boolean): Task<PathEnd> {
    const end = yield* this.tryToEnd(follow);
    if (end === undefined) throw this.#failed('ENOENT');
    return end;
  }

  /** As toEnd, but undefined where only the last name is not there: most of those who ask want to know just that. */
  *tryToEnd(follow: boolean): Task<PathEnd | undefined> {
    for (;;) {
      yield* this.toLast();
      if (this.last !== 'norm') {
        yield* this.#step();
        return { vnode: this.dir, dentry: this.dir.alias };
      }
      const dentry = yield* this.lookup(this.name);
      if (dentry === undefined) return undefined;
      const { vnode } = dentry;
      if (isSymlink(vnode.type) && (follow || this.hasSlash)) {
        yield* this.follow(vnode);
        continue;
      }
      if (this.hasSlash && !vnode.isDirectory) throw this.#failed('ENOTDIR');
      return { vnode, dentry };
    }
  }

  /** A name in the current directory. */
  *lookup(name: string): Task<Dentry | undefined> {
    const { dir } = this;
    const cached = this.#host.dcache.find(dir, name);
    if (cached !== undefined) return cached;
    yield* wait(acquire(dir.lock, this.#caller, this.#syscall, true));
    try {
      return yield* wait(lookupLocked(this.#host, this.#caller, dir, name));
    } finally {
      dir.lock.unlockShared();
    }
  }

  /** The last component is this symbolic link: goes on where it points. toLast() comes next. */
  *follow(link: Vnode): Task<void> {
    if (++this.#links > MAXSYMLINKS) throw this.#failed('ELOOP');
    link.refs++;
    let target: string;
    try {
      target = yield* wait(this.#host.fs.readlink(this.#caller, link.id));
    } finally {
      this.#host.dcache.put(link);
    }
    if (target === '') throw this.#failed('ENOENT');
    if (this.#rest !== '') {
      this.#outer ??= [];
      this.#outer.push(this.#rest);
    }
    this.#rest = target;
    if (target.startsWith('/')) this.#moveTo(this.#host.dcache.root);
    this.last = 'root';
  }

  /** Takes the next component off the path. False if there is none: the path was made of slashes. */
  #next(): boolean {
    for (;;) {
      const rest = this.#rest;
      let start = 0;
      while (rest.charCodeAt(start) === SLASH) start++;
      if (start === rest.length) {
        const outer = this.#outer?.pop();
        this.#rest = outer ?? '';
        if (outer === undefined) return false;
        continue;
      }
      let end = rest.indexOf('/', start);
      if (end < 0) end = rest.length;
      this.name = rest.slice(start, end);
      this.#rest = rest.slice(end);
      this.last = this.name === '.' ? 'dot' : this.name === '..' ? 'dotdot' : 'norm';
      return true;
    }
  }

  /** Is nothing left but slashes? Then those are noted; what is finished is dropped in any case. */
  #isAtEnd(): boolean {
    let sawSlash = false;
    for (;;) {
      const rest = this.#rest;
      if (!isSlashes(rest)) return false;
      sawSlash ||= rest.length > 0;
      const outer = this.#outer?.[this.#outer.length - 1];
      if (outer === undefined) {
        this.hasSlash ||= sawSlash;
        this.#rest = '';
        return true;
      }
      // More of the path in which the link was met: a slash in between says nothing of the last name.
      if (!isSlashes(outer)) return false;
      this.#outer?.pop();
      this.#rest = outer;
    }
  }

  /** Into the component that was taken, which is not the last or is no name. */
  *#step(): Task<void> {
    if (this.last === 'root') return;
    yield* this.#search();
    if (this.last === 'dot') return;
    if (this.last === 'dotdot') {
      this.#moveTo(this.dir.alias?.parent ?? this.#host.dcache.root);
      return;
    }
    const dentry = yield* this.lookup(this.name);
    if (dentry === undefined) throw this.#failed('ENOENT');
    const { vnode } = dentry;
    if (isSymlink(vnode.type)) yield* this.follow(vnode);
    else if (vnode.isDirectory) this.#moveTo(vnode);
    else throw this.#failed('ENOTDIR');
  }

  *#search(): Task<void> {
    if (this.dir.isDead && this.last !== 'dotdot' && this.last !== 'dot') throw this.#failed('ENOENT');
    yield* this.#host.access.permission(this.#caller, this.dir, X_OK, this.#syscall);
  }

  #moveTo(dir: Vnode): void {
    dir.refs++;
    this.#host.dcache.put(this.dir);
    this.dir = dir;
  }

  #failed(code: 'ENOENT' | 'ENOTDIR' | 'ELOOP' | 'ENAMETOOLONG'): FsError {
    return new FsError(code, this.#syscall);
  }
}

const SLASH = 0x2f;

function isSlashes(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) !== SLASH) return false;
  return true;
}
