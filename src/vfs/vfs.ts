import { type Clock, systemClock } from '../base/clock.ts';
import { FsError } from '../base/fs-error.ts';
import { checkFilePosition } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import { AccessControl, checkGood, isAcl } from './access-control.ts';
import type { Attr, AttrChanges, Entry, StatFs } from './attr.ts';
import { type Caller, hasCap } from './caller.ts';
import { Dcache, DENTRY_BYTES } from './dcache.ts';
import type { Dentry } from './dentry.ts';
import { FileDescription } from './file-description.ts';
import type { CreateReply, Fh, FileSystem, NodeId, Notifier } from './file-system.ts';
import { IN_ATTRIB, IN_CREATE, IN_MODIFY, Notifications, type WatchEvent } from './fsnotify.ts';
import { nameLength } from './name.ts';
import { NameChanges } from './name-changes.ts';
import { acquire, lookupLocked, PathWalk, tryWalk, type WalkHost } from './path-walk.ts';
import { isOwnerOrCapable, prepareSetattr } from './permission.ts';
import {
  CAP_MKNOD,
  CAP_SYS_ADMIN,
  isDirectory,
  isRegular,
  isSymlink,
  O_ACCMODE,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_PATH,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  PATH_MAX,
  R_OK,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IALLUGO,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_ISVTX,
  W_OK,
  X_OK,
  XATTR_CREATE,
  XATTR_NAME_MAX,
  XATTR_REPLACE,
  XATTR_SIZE_MAX,
} from './uapi.ts';
import type { Vnode } from './vnode.ts';

export interface VfsOptions {
  readonly clock?: Clock;
  /** Bytes for names and inodes in core that nobody uses. Default 64 MiB. */
  readonly dentryBytes?: number;
}

/** The fewest dentries that are kept, so that a walk does not push out what it has just found. */
const DENTRIES_MIN = 64;

/**
 * What the kernel puts around a filesystem, in process: path walk, cached names, permissions, the meaning of open flags, the rules of
 * rename and unlink, watches. One for each FileSystem; all faces in this process share it, so that they see each other's changes.
 *
 * Paths are names (name.ts) joined by '/', from the root whether they begin with '/' or not.
 */
export class Vfs {
  readonly fs: FileSystem;
  readonly dcache: Dcache;
  readonly permissions: AccessControl;
  readonly notifications = new Notifications();
  readonly #host: WalkHost;
  readonly #names: NameChanges;
  readonly #open = new Set<FileDescription>();
  readonly #backings = new Map<number, FileDescription>();
  readonly #detach: () => void;
  #isClosed = false;
  #lastId = 0;

  constructor(fs: FileSystem, options: VfsOptions = {}) {
    this.fs = fs;
    const dentries = Math.floor((options.dentryBytes ?? 64 * 1024 * 1024) / DENTRY_BYTES);
    this.dcache = new Dcache(fs, options.clock ?? systemClock, Math.max(DENTRIES_MIN, dentries));
    this.permissions = new AccessControl(fs, this.dcache);
    this.#host = { fs, dcache: this.dcache, access: this.permissions };
    this.#names = new NameChanges(this.#host, this.notifications);
    this.#detach = fs.attach(this.#notifier());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  // Attributes.

  stat(caller: Caller, path: string, follow = true): MaybePromise<Attr> {
    return then(this.tryStat(caller, path, follow), present);
  }

  /** stat, but undefined where there is no such name in a directory that is there. */
  tryStat(caller: Caller, path: string, follow = true): MaybePromise<Attr | undefined> {
    this.checkOpen('stat');
    const quick = tryWalk(this.#host, caller, path, path.length, follow);
    if (quick !== undefined) return this.fs.getattr(caller, quick === 'root' ? this.fs.root : quick.vnode.id);
    return run(this.#tryStat(caller, path, follow));
  }

  *#tryStat(caller: Caller, path: string, follow: boolean): Task<Attr | undefined> {
    const walk = new PathWalk(this.#host, caller, path, 'stat');
    try {
      const end = yield* walk.tryToEnd(follow);
      if (end === undefined) return undefined;
      const { vnode } = end;
      vnode.refs++;
      try {
        return yield* this.getattr(caller, vnode);
      } finally {
        this.dcache.put(vnode);
      }
    } finally {
      walk.end();
    }
  }

  /** chmod, chown, utimes by path. */
  setattr(caller: Caller, path: string, changes: AttrChanges, follow = true): MaybePromise<void> {
    this.checkOpen('setattr');
    return run(this.#at(caller, path, follow, 'setattr', (vnode, dentry) => this.changeAttr(caller, vnode, dentry, changes)));
  }

  truncate(caller: Caller, path: string, size: number): MaybePromise<void> {
    this.checkOpen('truncate');
    checkFilePosition('truncate', size);
    return run(
      this.#at(caller, path, true, 'truncate', (vnode, dentry) => {
        if (vnode.isDirectory) throw new FsError('EISDIR', 'truncate');
        if (!isRegular(vnode.type)) throw new FsError('EINVAL', 'truncate');
        return this.changeAttr(caller, vnode, dentry, { size });
      }),
    );
  }

  access(caller: Caller, path: string, mask: number): MaybePromise<void> {
    this.checkOpen('access');
    if ((mask & ~(R_OK | W_OK | X_OK)) !== 0) throw new FsError('EINVAL', 'access', { detail: `mode ${mask}` });
    return run(
      this.#at(caller, path, true, 'access', (vnode) =>
        mask === 0 ? nothing() : this.permissions.permission(caller, vnode, mask, 'access'),
      ),
    );
  }

  statfs(caller: Caller, path: string): MaybePromise<StatFs> {
    this.checkOpen('statfs');
    return run(this.#at(caller, path, true, 'statfs', (vnode) => wait(this.fs.statfs(caller, vnode.id))));
  }

  readlink(caller: Caller, path: string): MaybePromise<string> {
    this.checkOpen('readlink');
    return run(
      this.#at(caller, path, false, 'readlink', (vnode) => {
        if (!isSymlink(vnode.type)) throw new FsError('EINVAL', 'readlink');
        return wait(this.fs.readlink(caller, vnode.id));
      }),
    );
  }

  /** The path without symbolic links, '.' and '..'. */
  realpath(caller: Caller, path: string): MaybePromise<string> {
    this.checkOpen('realpath');
    return run(this.#realpath(caller, path));
  }

  *#realpath(caller: Caller, path: string): Task<string> {
    const walk = new PathWalk(this.#host, caller, path, 'realpath');
    try {
      const { vnode } = yield* walk.toEnd(true);
      return vnode.isDirectory ? pathTo(vnode) : `${pathTo(walk.dir).replace(/\/$/, '')}/${walk.name}`;
    } finally {
      walk.end();
    }
  }

  // Extended attributes.

  getxattr(caller: Caller, path: string, name: string, follow = true): MaybePromise<Uint8Array | undefined> {
    this.checkOpen('getxattr');
    return run(this.#at(caller, path, follow, 'getxattr', (vnode) => this.readXattr(caller, vnode, name)));
  }

  setxattr(caller: Caller, path: string, name: string, value: Uint8Array, flags = 0, follow = true): MaybePromise<void> {
    this.checkOpen('setxattr');
    return run(this.#at(caller, path, follow, 'setxattr', (vnode, dentry) => this.writeXattr(caller, vnode, dentry, name, value, flags)));
  }

  listxattr(caller: Caller, path: string, follow = true): MaybePromise<string[]> {
    this.checkOpen('listxattr');
    return run(this.#at(caller, path, follow, 'listxattr', (vnode) => this.xattrNames(caller, vnode)));
  }

  removexattr(caller: Caller, path: string, name: string, follow = true): MaybePromise<void> {
    this.checkOpen('removexattr');
    return run(
      this.#at(caller, path, follow, 'removexattr', (vnode, dentry) => this.writeXattr(caller, vnode, dentry, name, undefined, 0)),
    );
  }

  // Names.

  mkdir(caller: Caller, path: string, mode: number): MaybePromise<void> {
    this.checkOpen('mkdir');
    // S_ISVTX of a directory can be given, set-id bits cannot.
    const bits = mode & (0o777 | S_ISVTX);
    return run(this.#names.create(caller, path, 'mkdir', true, (dir, name) => this.fs.mkdir(caller, dir.id, name, bits)));
  }

  mknod(caller: Caller, path: string, mode: number, rdev: number): MaybePromise<void> {
    this.checkOpen('mknod');
    const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
    if (isDirectory(type)) throw new FsError('EPERM', 'mknod');
    if (![S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK].includes(type)) throw new FsError('EINVAL', 'mknod');
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    return run(
      this.#names.create(caller, path, 'mknod', false, (dir, name) => {
        const isWhiteout = type === S_IFCHR && rdev === 0;
        if (isDevice && !isWhiteout && !hasCap(caller, CAP_MKNOD)) throw new FsError('EPERM', 'mknod');
        return this.fs.mknod(caller, dir.id, name, type | (mode & S_IALLUGO), isDevice ? rdev : 0);
      }),
    );
  }

  symlink(caller: Caller, target: string, path: string): MaybePromise<void> {
    this.checkOpen('symlink');
    if (target === '') throw new FsError('ENOENT', 'symlink');
    if (nameLength(target) >= PATH_MAX) throw new FsError('ENAMETOOLONG', 'symlink');
    return run(this.#names.create(caller, path, 'symlink', false, (dir, name) => this.fs.symlink(caller, dir.id, name, target)));
  }

  /** A further name for what `existing` leads to; with `follow` behind a symbolic link. */
  link(caller: Caller, existing: string, path: string, follow = false): MaybePromise<void> {
    this.checkOpen('link');
    return run(this.#at(caller, existing, follow, 'link', (vnode) => this.linkVnode(caller, vnode, path)));
  }

  /** A name for an inode that is held. */
  *linkVnode(caller: Caller, vnode: Vnode, path: string): Task<void> {
    vnode.refs++;
    try {
      yield* this.#names.create(caller, path, 'link', false, (dir, name) => {
        if (vnode.isDirectory) throw new FsError('EPERM', 'link');
        return this.fs.link(caller, vnode.id, dir.id, name);
      });
    } finally {
      this.dcache.put(vnode);
    }
  }

  unlink(caller: Caller, path: string): MaybePromise<void> {
    this.checkOpen('unlink');
    return run(this.#names.remove(caller, path, 'unlink'));
  }

  rmdir(caller: Caller, path: string): MaybePromise<void> {
    this.checkOpen('rmdir');
    return run(this.#names.remove(caller, path, 'rmdir'));
  }

  rename(caller: Caller, from: string, to: string, flags = 0): MaybePromise<void> {
    this.checkOpen('rename');
    const known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
    if ((flags & ~known) !== 0 || ((flags & RENAME_EXCHANGE) !== 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) !== 0)) {
      throw new FsError('EINVAL', 'rename', { detail: `flags ${flags}` });
    }
    return run(this.#names.rename(caller, from, to, flags));
  }

  // Open files.

  /**
   * open(2): opens, creates, or with O_TMPFILE makes a file without a name. Directories too.
   *
   * Errors:  those of open(2); ENXIO for devices, FIFOs and sockets, which have nothing behind them here.
   */
  open(caller: Caller, path: string, flags: number, mode = 0o666): MaybePromise<FileDescription> {
    this.checkOpen('open');
    if ((flags & O_PATH) !== 0) return run(this.#openPath(caller, path, flags));
    if ((flags & O_TMPFILE) === O_TMPFILE) return run(this.#tmpfile(caller, path, flags, mode));
    if ((flags & O_CREAT) !== 0) {
      if ((flags & O_DIRECTORY) !== 0) throw new FsError('EINVAL', 'open', { detail: 'O_CREAT with O_DIRECTORY' });
      return run(this.#openOrCreate(caller, path, flags, mode));
    }
    const follow = (flags & O_NOFOLLOW) === 0;
    return run(this.#at(caller, path, follow, 'open', (vnode, dentry) => this.#openVnode(caller, vnode, dentry, flags)));
  }

  // The whole.

  syncfs(caller: Caller): MaybePromise<void> {
    this.checkOpen('syncfs');
    return this.fs.syncfs(caller);
  }

  freeze(caller: Caller): MaybePromise<void> {
    this.#checkAdmin(caller, 'freeze');
    return this.fs.freeze();
  }

  thaw(caller: Caller): MaybePromise<void> {
    this.#checkAdmin(caller, 'thaw');
    return this.fs.thaw();
  }

  shutdown(caller: Caller, how: number): MaybePromise<void> {
    this.#checkAdmin(caller, 'shutdown');
    return this.fs.shutdown(how);
  }

  /**
   * Tells `listener` what happens to a file, or in a directory, from here on.
   *
   * Shape: the function that ends it. Errors: those of the walk; EACCES without read permission.
   */
  watch(
    caller: Caller,
    path: string,
    options: { readonly recursive?: boolean },
    listener: (event: WatchEvent) => void,
  ): MaybePromise<() => void> {
    this.checkOpen('watch');
    const { notifications, dcache } = this;
    const { recursive = false } = options;
    const begin = (vnode: Vnode): (() => void) => {
      vnode.refs++;
      const end = notifications.add(vnode, { recursive, listener });
      let isOn = true;
      return () => {
        if (!isOn) return;
        isOn = false;
        end();
        dcache.put(vnode);
      };
    };
    const mayWatch = (vnode: Vnode): Task<void> => this.permissions.permission(caller, vnode, R_OK, 'watch');
    return run(
      this.#at(caller, path, true, 'watch', function* (vnode) {
        yield* mayWatch(vnode);
        return begin(vnode);
      }),
    );
  }

  /** Gives the number by which passthrough files name an open file as what is behind them. Returns what takes it back. */
  registerBacking(backingId: number, file: FileDescription): () => void {
    if (this.#backings.has(backingId)) throw new FsError('EBUSY', 'backing', { detail: `number ${backingId}` });
    this.#backings.set(backingId, file);
    return () => this.#backings.delete(backingId);
  }

  /** Errors: EIO for a number that nobody registered. */
  backing(backingId: number): FileDescription {
    const file = this.#backings.get(backingId);
    if (file === undefined) throw new FsError('EIO', 'backing', { detail: `no file is registered as ${backingId}` });
    return file;
  }

  /** Drops every cached name that nobody uses. */
  dropCaches(): void {
    this.dcache.dropAll();
  }

  /** Closes what is open and ends the filesystem. Everything fails with EBADF afterwards. Errors: the first of closing and of ending. */
  close(): MaybePromise<void> {
    if (this.#isClosed) return;
    return run(this.#close());
  }

  *#close(): Task<void> {
    let failure: unknown;
    for (const file of [...this.#open]) {
      try {
        yield* wait(file.close({ ...file.opener, nowait: false, signal: undefined })); // whoever opened it, ending waits
      } catch (error) {
        failure ??= error;
      }
    }
    this.#isClosed = true;
    this.#detach();
    yield* wait(this.fs.destroy());
    if (failure !== undefined) throw failure;
  }

  // For FileDescription, and for the walk.

  /** Errors: EBADF after close. */
  checkOpen(syscall: string): void {
    if (this.#isClosed) throw new FsError('EBADF', syscall, { detail: 'the filesystem is closed' });
  }

  /** Number of a new open file description. */
  nextId(): number {
    return ++this.#lastId;
  }

  noteClosed(file: FileDescription): void {
    this.#open.delete(file);
  }

  *getattr(caller: Caller, vnode: Vnode, fh?: number): Task<Attr> {
    checkGood(vnode, 'stat');
    return yield* wait(this.fs.getattr(caller, vnode.id, fh));
  }

  /** Changes attributes, if the caller may. */
  *changeAttr(caller: Caller, vnode: Vnode, dentry: Dentry | undefined, changes: AttrChanges, fh?: number): Task<void> {
    checkGood(vnode, 'setattr');
    checkTimes(changes);
    if (Object.keys(changes).length === 0) return;
    if (this.fs.isReadOnly) throw new FsError('EROFS', 'setattr');
    const isByHandle = fh !== undefined && changes.size !== undefined;
    let prepared = changes;
    if (!this.fs.checksAccess) {
      // What set-id bits there are decides what has to go with the change.
      this.dcache.noteAttr(vnode, yield* this.getattr(caller, vnode, fh), this.fs.attrValidMs);
      const acl = yield* this.permissions.aclOf(caller, vnode);
      prepared = prepareSetattr(caller, vnode, acl, changes, isByHandle);
    }
    // By an open file the times move even if the size is as before.
    if (isByHandle) prepared = { ...prepared, mtime: 'now' };
    const attr = yield* wait(this.fs.setattr(caller, vnode.id, prepared, fh));
    this.dcache.noteAttr(vnode, attr, this.fs.attrValidMs);
    if (changes.mode !== undefined) vnode.acl = undefined;
    this.notifications.self(vnode, dentry, changes.size === undefined ? IN_ATTRIB : IN_MODIFY);
  }

  *readXattr(caller: Caller, vnode: Vnode, name: string): Task<Uint8Array | undefined> {
    checkGood(vnode, 'getxattr');
    checkXattrName(name, 'getxattr');
    yield* this.permissions.mayXattr(caller, vnode, name, false, 'getxattr');
    return yield* wait(this.fs.getxattr(caller, vnode.id, name));
  }

  *xattrNames(caller: Caller, vnode: Vnode): Task<string[]> {
    checkGood(vnode, 'listxattr');
    const names = yield* wait(this.fs.listxattr(caller, vnode.id));
    return hasCap(caller, CAP_SYS_ADMIN) ? names : names.filter((name) => !name.startsWith('trusted.'));
  }

  /** Sets an attribute, or removes it where `value` is undefined. */
  *writeXattr(
    caller: Caller,
    vnode: Vnode,
    dentry: Dentry | undefined,
    name: string,
    value: Uint8Array | undefined,
    flags: number,
  ): Task<void> {
    const syscall = value === undefined ? 'removexattr' : 'setxattr';
    checkGood(vnode, syscall);
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new FsError('EINVAL', syscall, { detail: `flags ${flags}` });
    checkXattrName(name, syscall);
    if (value !== undefined && value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG', syscall, { detail: `${value.length} bytes` });
    if (this.fs.isReadOnly) throw new FsError('EROFS', syscall);
    yield* this.permissions.mayXattr(caller, vnode, name, true, syscall);
    if (value === undefined) yield* wait(this.fs.removexattr(caller, vnode.id, name));
    else yield* wait(this.fs.setxattr(caller, vnode.id, name, value, flags));
    if (isAcl(name)) {
      // An access ACL speaks of the mode bits too.
      vnode.acl = undefined;
      vnode.attrValidUntil = Number.NEGATIVE_INFINITY;
    }
    this.notifications.self(vnode, dentry, IN_ATTRIB);
  }

  // Inside.

  /** Runs `body` on what a path leads to, held meanwhile. */
  *#at<T>(
    caller: Caller,
    path: string,
    follow: boolean,
    syscall: string,
    body: (vnode: Vnode, dentry: Dentry | undefined) => Task<T>,
  ): Task<T> {
    const quick = tryWalk(this.#host, caller, path, path.length, follow);
    let vnode: Vnode;
    let dentry: Dentry | undefined;
    if (quick !== undefined) {
      dentry = quick === 'root' ? undefined : quick;
      vnode = dentry?.vnode ?? this.dcache.root;
      vnode.refs++;
    } else {
      const walk = new PathWalk(this.#host, caller, path, syscall);
      try {
        const end = yield* walk.toEnd(follow);
        vnode = end.vnode;
        dentry = end.dentry;
        vnode.refs++;
      } finally {
        walk.end();
      }
    }
    try {
      return yield* body(vnode, dentry);
    } finally {
      this.dcache.put(vnode);
    }
  }

  /** A place in the tree, not the file there: nothing is asked of the filesystem, and a symbolic link can be named itself. */
  *#openPath(caller: Caller, path: string, flags: number): Task<FileDescription> {
    return yield* this.#at(caller, path, (flags & O_NOFOLLOW) === 0, 'open', (vnode, dentry) =>
      this.#describePath(caller, vnode, dentry, flags),
    );
  }

  *#describePath(caller: Caller, vnode: Vnode, dentry: Dentry | undefined, flags: number): Task<FileDescription> {
    if ((flags & O_DIRECTORY) !== 0 && !vnode.isDirectory) throw new FsError('ENOTDIR', 'open');
    return this.#describe(caller, vnode, dentry, undefined, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW));
  }

  *#openOrCreate(caller: Caller, path: string, flags: number, mode: number): Task<FileDescription> {
    const walk = new PathWalk(this.#host, caller, path, 'open');
    try {
      for (;;) {
        yield* walk.toLast();
        const { dir, name } = walk;
        if (walk.last !== 'norm') throw new FsError((flags & O_EXCL) !== 0 ? 'EEXIST' : 'EISDIR', 'open');
        if (walk.hasSlash) throw new FsError('EISDIR', 'open');
        let found = this.dcache.find(dir, name);
        if (found === undefined) {
          const locked = acquire(dir.lock, caller, 'open');
          if (isPromise(locked)) yield locked;
          try {
            const looked = lookupLocked(this.#host, caller, dir, name);
            found = (isPromise(looked) ? yield looked : looked) as Dentry | undefined;
            if (found === undefined) return yield* this.#createLocked(caller, dir, name, flags, mode);
          } finally {
            dir.lock.unlock();
          }
        }
        if ((flags & O_EXCL) !== 0) throw new FsError('EEXIST', 'open');
        const { vnode } = found;
        if (isSymlink(vnode.type)) {
          if ((flags & O_NOFOLLOW) !== 0) throw new FsError('ELOOP', 'open');
          yield* walk.follow(vnode);
          continue;
        }
        if (vnode.isDirectory) throw new FsError('EISDIR', 'open');
        vnode.refs++;
        try {
          return yield* this.#openVnode(caller, vnode, found, flags);
        } finally {
          this.dcache.put(vnode);
        }
      }
    } finally {
      walk.end();
    }
  }

  *#createLocked(caller: Caller, dir: Vnode, name: string, flags: number, mode: number): Task<FileDescription> {
    const allowed = this.permissions.mayCreate(caller, dir, 'open');
    if (isPromise(allowed)) yield allowed;
    const created = this.fs.create(caller, dir.id, name, mode & S_IALLUGO, flags & ~(O_CREAT | O_EXCL | O_TRUNC));
    const { entry, fh } = (isPromise(created) ? yield created : created) as CreateReply;
    const vnode = this.#instantiateOpen(entry, fh);
    const dentry = this.dcache.add(dir, name, vnode, entry.entryValidMs);
    this.notifications.entry(dir, name, IN_CREATE);
    return this.#describe(caller, vnode, dentry, fh, flags);
  }

  /** The inode of a file that was made and opened in one go. What is refused is closed again. */
  #instantiateOpen(entry: Entry, fh: Fh): Vnode {
    try {
      return this.dcache.instantiate(entry);
    } catch (error) {
      const released = this.fs.release(entry.node, fh);
      if (isPromise(released)) released.catch(() => {}); // the refusal is the answer
      throw error;
    }
  }

  *#tmpfile(caller: Caller, path: string, flags: number, mode: number): Task<FileDescription> {
    const access = flags & O_ACCMODE;
    if (access !== O_WRONLY && access !== O_RDWR) throw new FsError('EINVAL', 'open', { detail: 'O_TMPFILE without write access' });
    if ((flags & O_CREAT) !== 0) throw new FsError('EINVAL', 'open', { detail: 'O_TMPFILE with O_CREAT' });
    return yield* this.#at(caller, path, (flags & O_NOFOLLOW) === 0, 'open', (dir) => this.#tmpfileIn(caller, dir, flags, mode));
  }

  *#tmpfileIn(caller: Caller, dir: Vnode, flags: number, mode: number): Task<FileDescription> {
    if (!dir.isDirectory) throw new FsError('ENOTDIR', 'open');
    yield* wait(this.permissions.mayCreate(caller, dir, 'open'));
    const { entry, fh } = yield* wait(
      this.fs.tmpfile(caller, dir.id, mode & S_IALLUGO, flags & ~(O_TRUNC | (O_TMPFILE & ~O_DIRECTORY) | O_DIRECTORY)),
    );
    return this.#describe(caller, this.#instantiateOpen(entry, fh), undefined, fh, flags & ~O_TMPFILE);
  }

  /** Opens what is there, as open(2) goes on from the end of the walk. */
  *#openVnode(caller: Caller, vnode: Vnode, dentry: Dentry | undefined, flags: number): Task<FileDescription> {
    const failed = (code: 'ELOOP' | 'EISDIR' | 'ENOTDIR' | 'ENXIO' | 'EPERM'): FsError => new FsError(code, 'open');
    const access = flags & O_ACCMODE;
    const truncates = (flags & O_TRUNC) !== 0;
    // Access mode 3 asks for both rights and gives neither: a file to be asked about.
    const mask = (access === O_WRONLY ? 0 : R_OK) | (access !== 0 || truncates ? W_OK : 0);
    checkGood(vnode, 'open');
    if (isSymlink(vnode.type)) throw failed((flags & O_DIRECTORY) !== 0 ? 'ENOTDIR' : 'ELOOP');
    if ((flags & O_DIRECTORY) !== 0 && !vnode.isDirectory) throw failed('ENOTDIR');
    if (vnode.isDirectory && (mask & W_OK) !== 0) throw failed('EISDIR');
    yield* this.permissions.permission(caller, vnode, mask, 'open');
    if ((flags & O_NOATIME) !== 0 && !this.fs.checksAccess) {
      yield* this.permissions.refresh(caller, vnode);
      if (!isOwnerOrCapable(caller, vnode)) throw failed('EPERM');
    }
    if (!vnode.isDirectory && !isRegular(vnode.type)) throw failed('ENXIO');
    const asked = flags & ~(O_CREAT | O_EXCL | O_TRUNC);
    if (vnode.isDirectory) {
      const { fh } = yield* wait(this.fs.opendir(caller, vnode.id, asked));
      return this.#describe(caller, vnode, dentry, fh, flags);
    }
    const { fh } = yield* wait(this.fs.open(caller, vnode.id, asked));
    const file = this.#describe(caller, vnode, dentry, fh, flags);
    if (truncates) {
      try {
        yield* this.changeAttr(caller, vnode, dentry, { size: 0 }, fh);
      } catch (error) {
        yield* wait(file.close(caller));
        throw error;
      }
    }
    return file;
  }

  #describe(caller: Caller, vnode: Vnode, dentry: Dentry | undefined, fh: Fh | undefined, flags: number): FileDescription {
    const file = new FileDescription(this, caller, vnode, dentry, fh, flags & ~(O_CREAT | O_EXCL | O_TRUNC));
    this.#open.add(file);
    return file;
  }

  #checkAdmin(caller: Caller, syscall: string): void {
    this.checkOpen(syscall);
    if (!hasCap(caller, CAP_SYS_ADMIN)) throw new FsError('EPERM', syscall);
  }

  /** Hears what others change. */
  #notifier(): Notifier {
    const { notifications, dcache } = this;
    const tell = (node: NodeId, name: string, mask: number): void => {
      const vnode = dcache.get(node);
      if (vnode === undefined) return;
      if (name === '') notifications.own(vnode, mask);
      else notifications.entry(vnode, name, mask);
    };
    return {
      invalInode: (node) => this.#invalInode(node),
      invalEntry: (parent, name) => this.#invalEntry(parent, name),
      delete: (parent, child, name) => {
        const vnode = dcache.get(child);
        if (vnode?.isDirectory === true) vnode.isDead = true;
        this.#invalEntry(parent, name);
      },
      get event() {
        return notifications.isIdle ? undefined : tell;
      },
    };
  }

  #invalInode(node: NodeId): void {
    const vnode = this.dcache.get(node);
    if (vnode === undefined) return;
    vnode.attrValidUntil = Number.NEGATIVE_INFINITY;
    vnode.acl = undefined;
  }

  #invalEntry(parent: NodeId, name: string): void {
    const dir = this.dcache.get(parent);
    if (dir === undefined) return;
    dir.invalidations++;
    const dentry = dir.children?.get(name);
    if (dentry !== undefined) this.dcache.drop(dentry);
  }
}

function* nothing(): Task<void> {}

/** Errors: ENOENT for what is not there. */
function present(attr: Attr | undefined): Attr {
  if (attr === undefined) throw new FsError('ENOENT', 'stat');
  return attr;
}

/** Path of a directory from the root. */
function pathTo(dir: Vnode): string {
  const names: string[] = [];
  for (let alias = dir.alias; alias !== undefined; alias = alias.parent.alias) names.push(alias.name);
  return `/${names.reverse().join('/')}`;
}

/** Errors: EINVAL for a moment that is none. */
function checkTimes({ atime, mtime, ctime }: AttrChanges): void {
  for (const time of [atime, mtime, ctime]) {
    if (time === undefined || time === 'now') continue;
    const { sec, nsec } = time;
    if (!Number.isSafeInteger(sec) || !Number.isInteger(nsec) || nsec < 0 || nsec > 999_999_999) {
      throw new FsError('EINVAL', 'utime', { detail: `${sec} s and ${nsec} ns` });
    }
  }
}

function checkXattrName(name: string, syscall: string): void {
  const length = nameLength(name);
  if (length === 0 || length > XATTR_NAME_MAX) throw new FsError('ERANGE', syscall, { detail: `a name of ${length} bytes` });
}
