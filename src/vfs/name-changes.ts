import { FsError } from '../base/fs-error.ts';
import { RwLock } from '../base/lock.ts';
import { isPromise, type MaybePromise, type Task, wait } from '../base/task.ts';
import type { AccessControl } from './access-control.ts';
import type { Entry } from './attr.ts';
import type { Caller } from './caller.ts';
import type { Dcache } from './dcache.ts';
import type { Dentry } from './dentry.ts';
import type { FileSystem } from './file-system.ts';
import {
  IN_ATTRIB,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_MOVE_SELF,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  type Notifications,
} from './fsnotify.ts';
import { acquire, lookupLocked, PathWalk, type WalkHost } from './path-walk.ts';
import { RENAME_EXCHANGE, RENAME_NOREPLACE, W_OK } from './uapi.ts';
import type { Vnode } from './vnode.ts';

/**
 * What changes names: creating, removing, renaming, with the rules of the kernel.
 *
 * Locks, in this order: the rename lock, for renames across directories; directories from the root downwards, and of two that are not above
 * each other the one with the smaller number first; then those of the filesystem. A directory that goes is locked too, so that nothing
 * comes into it meanwhile.
 */
export class NameChanges {
  readonly #host: WalkHost;
  readonly #fs: FileSystem;
  readonly #dcache: Dcache;
  readonly #access: AccessControl;
  readonly #notifications: Notifications;
  readonly #renameLock = new RwLock();

  constructor(host: WalkHost, notifications: Notifications) {
    this.#host = host;
    this.#fs = host.fs;
    this.#dcache = host.dcache;
    this.#access = host.access;
    this.#notifications = notifications;
  }

  /** Makes a name: the part that all kinds have in common. */
  *create(
    caller: Caller,
    path: string,
    syscall: string,
    isMkdir: boolean,
    make: (dir: Vnode, name: string) => MaybePromise<Entry>,
  ): Task<void> {
    const walk = new PathWalk(this.#host, caller, path, syscall);
    try {
      yield* walk.toLast();
      const { dir, name } = walk;
      if (walk.last !== 'norm') throw new FsError('EEXIST', syscall);
      const locked = acquire(dir.lock, caller, syscall);
      if (isPromise(locked)) yield locked;
      try {
        const found = lookupLocked(this.#host, caller, dir, name);
        if ((isPromise(found) ? yield found : found) !== undefined) throw new FsError('EEXIST', syscall);
        if (walk.hasSlash && !isMkdir) throw new FsError('ENOENT', syscall);
        const allowed = this.#access.mayCreate(caller, dir, syscall);
        if (isPromise(allowed)) yield allowed;
        const made = make(dir, name);
        const entry = (isPromise(made) ? yield made : made) as Entry;
        this.#dcache.add(dir, name, this.#dcache.instantiate(entry), entry.entryValidMs);
        this.#notifications.entry(dir, name, IN_CREATE);
      } finally {
        dir.lock.unlock();
      }
    } finally {
      walk.end();
    }
  }

  *remove(caller: Caller, path: string, syscall: 'unlink' | 'rmdir'): Task<void> {
    const walk = new PathWalk(this.#host, caller, path, syscall);
    try {
      yield* walk.toLast();
      const { dir, name, last } = walk;
      if (last !== 'norm') {
        if (syscall === 'unlink') throw new FsError('EISDIR', syscall);
        throw new FsError(last === 'dot' ? 'EINVAL' : last === 'dotdot' ? 'ENOTEMPTY' : 'EBUSY', syscall);
      }
      if (this.#fs.isReadOnly) throw new FsError('EROFS', syscall);
      const locked = acquire(dir.lock, caller, syscall);
      if (isPromise(locked)) yield locked;
      try {
        const found = lookupLocked(this.#host, caller, dir, name);
        const dentry = (isPromise(found) ? yield found : found) as Dentry | undefined;
        if (dentry === undefined) throw new FsError('ENOENT', syscall);
        const { vnode } = dentry;
        if (walk.hasSlash && syscall === 'unlink') throw new FsError(vnode.isDirectory ? 'EISDIR' : 'ENOTDIR', syscall);
        vnode.refs++;
        try {
          const allowed = this.#access.mayDelete(caller, dir, vnode, syscall);
          if (isPromise(allowed)) yield allowed;
          if (syscall === 'rmdir') yield* this.#rmdirLocked(caller, dir, dentry);
          else yield* this.#unlinkLocked(caller, dir, dentry);
        } finally {
          this.#dcache.put(vnode);
        }
      } finally {
        dir.lock.unlock();
      }
    } finally {
      walk.end();
    }
  }

  *#unlinkLocked(caller: Caller, dir: Vnode, dentry: Dentry): Task<void> {
    const { vnode, name } = dentry;
    if (vnode.isDirectory) throw new FsError('EISDIR', 'unlink');
    const unlinked = this.#fs.unlink(caller, dir.id, name);
    if (isPromise(unlinked)) yield unlinked;
    this.#dcache.drop(dentry);
    this.#notifications.entry(dir, name, IN_DELETE);
    this.#notifications.own(vnode, vnode.dentries === 0 ? IN_DELETE_SELF : IN_ATTRIB);
  }

  *#rmdirLocked(caller: Caller, dir: Vnode, dentry: Dentry): Task<void> {
    const { vnode, name } = dentry;
    if (!vnode.isDirectory) throw new FsError('ENOTDIR', 'rmdir');
    // Nothing may come into it while it goes.
    yield* wait(acquire(vnode.lock, caller, 'rmdir'));
    try {
      yield* wait(this.#fs.rmdir(caller, dir.id, name));
      vnode.isDead = true;
      this.#dcache.drop(dentry);
    } finally {
      vnode.lock.unlock();
    }
    this.#notifications.entry(dir, name, IN_DELETE);
    this.#notifications.own(vnode, IN_DELETE_SELF);
  }

  *rename(caller: Caller, from: string, to: string, flags: number): Task<void> {
    const source = new PathWalk(this.#host, caller, from, 'rename');
    let target: PathWalk | undefined;
    try {
      yield* source.toLast();
      target = new PathWalk(this.#host, caller, to, 'rename');
      yield* target.toLast();
      if (source.last !== 'norm') throw new FsError('EBUSY', 'rename');
      if (target.last !== 'norm') throw new FsError((flags & RENAME_NOREPLACE) !== 0 ? 'EEXIST' : 'EBUSY', 'rename');
      if (this.#fs.isReadOnly) throw new FsError('EROFS', 'rename');
      const unlock = yield* this.#lockBoth(caller, source.dir, target.dir);
      try {
        yield* this.#renameLocked(caller, source, target, flags);
      } finally {
        unlock();
      }
    } finally {
      target?.end();
      source.end();
    }
  }

  /** Locks two directories, in the order that all follow. Returns what unlocks them. */
  *#lockBoth(caller: Caller, a: Vnode, b: Vnode): Task<() => void> {
    if (a === b) {
      yield* wait(acquire(a.lock, caller, 'rename'));
      return () => a.lock.unlock();
    }
    yield* wait(acquire(this.#renameLock, caller, 'rename'));
    const held = [this.#renameLock];
    try {
      const aFirst = isWithin(b, a) || (!isWithin(a, b) && a.id < b.id);
      for (const dir of aFirst ? [a, b] : [b, a]) {
        yield* wait(acquire(dir.lock, caller, 'rename'));
        held.unshift(dir.lock);
      }
    } catch (error) {
      for (const lock of held) lock.unlock();
      throw error;
    }
    return () => {
      for (const lock of held) lock.unlock();
    };
  }

  *#renameLocked(caller: Caller, source: PathWalk, target: PathWalk, flags: number): Task<void> {
    const { dir: oldDir, name: oldName } = source;
    const { dir: newDir, name: newName } = target;
    const isExchange = (flags & RENAME_EXCHANGE) !== 0;
    const failed = (code: 'ENOENT' | 'EEXIST' | 'ENOTDIR' | 'EISDIR' | 'EINVAL' | 'ENOTEMPTY'): FsError => new FsError(code, 'rename');

    const oldDentry = yield* wait(lookupLocked(this.#host, caller, oldDir, oldName));
    if (oldDentry === undefined) throw failed('ENOENT');
    const moved = oldDentry.vnode;
    moved.refs++;
    let victim: Vnode | undefined;
    let victimLock: RwLock | undefined;
    try {
      const newDentry = yield* wait(lookupLocked(this.#host, caller, newDir, newName));
      victim = newDentry?.vnode;
      if (victim !== undefined) victim.refs++;
      if ((flags & RENAME_NOREPLACE) !== 0 && victim !== undefined) throw failed('EEXIST');
      if (isExchange && victim === undefined) throw failed('ENOENT');
      if (isExchange && target.hasSlash && victim?.isDirectory === false) throw failed('ENOTDIR');
      if (!moved.isDirectory && (source.hasSlash || (!isExchange && target.hasSlash))) throw failed('ENOTDIR');
      if (moved.isDirectory && isWithin(newDir, moved)) throw failed('EINVAL');
      if (victim?.isDirectory === true && isWithin(oldDir, victim)) throw failed(isExchange ? 'EINVAL' : 'ENOTEMPTY');
      if (victim === moved) return;

      yield* wait(this.#access.mayDelete(caller, oldDir, moved, 'rename'));
      if (victim === undefined) {
        yield* wait(this.#access.mayCreate(caller, newDir, 'rename'));
      } else {
        yield* wait(this.#access.mayDelete(caller, newDir, victim, 'rename'));
        if (!isExchange && moved.isDirectory !== victim.isDirectory) throw failed(moved.isDirectory ? 'ENOTDIR' : 'EISDIR');
      }
      // '..' of a directory changes with its parent: that is a write to it.
      if (newDir !== oldDir) {
        if (moved.isDirectory) yield* this.#access.permission(caller, moved, W_OK, 'rename');
        if (isExchange && victim?.isDirectory === true) yield* this.#access.permission(caller, victim, W_OK, 'rename');
      }
      if (victim?.isDirectory === true && !isExchange) {
        yield* wait(acquire(victim.lock, caller, 'rename'));
        victimLock = victim.lock;
      }
      yield* wait(this.#fs.rename(caller, oldDir.id, oldName, newDir.id, newName, flags));

      if (isExchange) {
        if (newDentry !== undefined) this.#dcache.exchange(oldDentry, newDentry);
      } else {
        if (victim?.isDirectory === true) victim.isDead = true;
        if (newDentry !== undefined) this.#dcache.drop(newDentry);
        this.#dcache.move(oldDentry, newDir, newName);
      }
    } finally {
      victimLock?.unlock();
      this.#dcache.put(moved);
      if (victim !== undefined) this.#dcache.put(victim);
    }
    this.#notifyRename(oldDir, oldName, newDir, newName, moved, victim, isExchange);
  }

  #notifyRename(
    oldDir: Vnode,
    oldName: string,
    newDir: Vnode,
    newName: string,
    moved: Vnode,
    victim: Vnode | undefined,
    isExchange: boolean,
  ): void {
    const notifications = this.#notifications;
    if (notifications.isIdle) return;
    notifications.entry(oldDir, oldName, IN_MOVED_FROM);
    notifications.entry(newDir, newName, IN_MOVED_TO);
    notifications.own(moved, IN_MOVE_SELF);
    if (victim === undefined) return;
    if (isExchange) {
      notifications.entry(newDir, newName, IN_MOVED_FROM);
      notifications.entry(oldDir, oldName, IN_MOVED_TO);
      notifications.own(victim, IN_MOVE_SELF);
    } else {
      notifications.own(victim, victim.dentries === 0 ? IN_DELETE_SELF : IN_ATTRIB);
    }
  }
}

/** Is `vnode` the directory `above`, or somewhere below it? */
function isWithin(vnode: Vnode, above: Vnode): boolean {
  for (let at: Vnode | undefined = vnode; at !== undefined; at = at.alias?.parent) if (at === above) return true;
  return false;
}
