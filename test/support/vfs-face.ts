// PosixFace over a Vfs of this process: the calls as a kernel would make them for a process of its own.

import { FsError } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import { type MaybePromise, then } from '../../src/base/task.ts';
import type { AttrChanges, FileExtent, StatFs } from '../../src/vfs/attr.ts';
import { type Caller, callerOf } from '../../src/vfs/caller.ts';
import type { FileDescription } from '../../src/vfs/file-description.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_END, SEEK_SET } from '../../src/vfs/uapi.ts';
import type { Vfs } from '../../src/vfs/vfs.ts';
import type { Ids, PosixDirent, PosixFace, PosixFile, PosixLock, PosixLockKind, PosixProcess, PosixStat, PosixTime } from './posix-face.ts';

const PID = 4711;
/** Names in one getdents, where all are asked for. */
const DIRENTS = 100;

export class VfsFace implements PosixFace {
  readonly #vfs: Vfs;
  readonly #setReadOnly: ((isReadOnly: boolean) => void) | undefined;
  #umask = 0o022;
  #ids: Ids = { uid: 0, gid: 0 };
  #lastPid = PID;

  /** The root of `vfs` is the fresh directory; `setReadOnly` is what remount does. */
  constructor(vfs: Vfs, setReadOnly?: (isReadOnly: boolean) => void) {
    this.#vfs = vfs;
    this.#setReadOnly = setReadOnly;
  }

  /** Who calls now. */
  get caller(): Caller {
    return callerOf({ ...this.#ids, umask: this.#umask, pid: PID });
  }

  open(path: string, flags: number, mode = 0o666): MaybePromise<PosixFile> {
    return then(this.#vfs.open(this.caller, path, flags, mode), (description) => new VfsFile(this, description));
  }

  stat(path: string): MaybePromise<PosixStat> {
    return this.#vfs.stat(this.caller, path);
  }

  lstat(path: string): MaybePromise<PosixStat> {
    return this.#vfs.stat(this.caller, path, false);
  }

  mkdir(path: string, mode = 0o777): MaybePromise<void> {
    return this.#vfs.mkdir(this.caller, path, mode);
  }

  mknod(path: string, mode: number, rdev = 0): MaybePromise<void> {
    return this.#vfs.mknod(this.caller, path, mode, rdev);
  }

  symlink(target: string, path: string): MaybePromise<void> {
    return this.#vfs.symlink(this.caller, target, path);
  }

  readlink(path: string): MaybePromise<string> {
    return this.#vfs.readlink(this.caller, path);
  }

  link(existing: string, path: string, follow = false): MaybePromise<void> {
    return this.#vfs.link(this.caller, existing, path, follow);
  }

  unlink(path: string): MaybePromise<void> {
    return this.#vfs.unlink(this.caller, path);
  }

  rmdir(path: string): MaybePromise<void> {
    return this.#vfs.rmdir(this.caller, path);
  }

  rename(from: string, to: string, flags = 0): MaybePromise<void> {
    return this.#vfs.rename(this.caller, from, to, flags);
  }

  chmod(path: string, mode: number): MaybePromise<void> {
    return this.#vfs.setattr(this.caller, path, { mode });
  }

  chown(path: string, uid: number, gid: number): MaybePromise<void> {
    return this.#vfs.setattr(this.caller, path, ownerOf(uid, gid));
  }

  lchown(path: string, uid: number, gid: number): MaybePromise<void> {
    return this.#vfs.setattr(this.caller, path, ownerOf(uid, gid), false);
  }

  utimens(path: string, atime: PosixTime, mtime: PosixTime): MaybePromise<void> {
    return isNothing(atime, mtime) ? undefined : this.#vfs.setattr(this.caller, path, timesOf(atime, mtime));
  }

  lutimens(path: string, atime: PosixTime, mtime: PosixTime): MaybePromise<void> {
    return isNothing(atime, mtime) ? undefined : this.#vfs.setattr(this.caller, path, timesOf(atime, mtime), false);
  }

  truncate(path: string, size: number): MaybePromise<void> {
    return this.#vfs.truncate(this.caller, path, size);
  }

  access(path: string, mask: number): MaybePromise<void> {
    return this.#vfs.access(this.caller, path, mask);
  }

  statfs(path: string): MaybePromise<StatFs> {
    return this.#vfs.statfs(this.caller, path);
  }

  getxattr(path: string, name: string): MaybePromise<Uint8Array> {
    return then(this.#vfs.getxattr(this.caller, path, name), present);
  }

  lgetxattr(path: string, name: string): MaybePromise<Uint8Array> {
    return then(this.#vfs.getxattr(this.caller, path, name, false), present);
  }

  setxattr(path: string, name: string, value: Uint8Array | string, flags = 0): MaybePromise<void> {
    return this.#vfs.setxattr(this.caller, path, name, bytesOf(value), flags);
  }

  lsetxattr(path: string, name: string, value: Uint8Array | string, flags = 0): MaybePromise<void> {
    return this.#vfs.setxattr(this.caller, path, name, bytesOf(value), flags, false);
  }

  listxattr(path: string): MaybePromise<string[]> {
    return this.#vfs.listxattr(this.caller, path);
  }

  llistxattr(path: string): MaybePromise<string[]> {
    return this.#vfs.listxattr(this.caller, path, false);
  }

  removexattr(path: string, name: string): MaybePromise<void> {
    return this.#vfs.removexattr(this.caller, path, name);
  }

  lremovexattr(path: string, name: string): MaybePromise<void> {
    return this.#vfs.removexattr(this.caller, path, name, false);
  }

  umask(mask: number): number {
    const before = this.#umask;
    this.#umask = mask;
    return before;
  }

  async as<T>(ids: Ids, fn: () => MaybePromise<T>): Promise<T> {
    const before = this.#ids;
    this.#ids = ids;
    try {
      return await fn();
    } finally {
      this.#ids = before;
    }
  }

  fork(): PosixProcess {
    const caller: Caller = callerOf({ pid: ++this.#lastPid });
    const files = new Map<number, FileDescription>();
    const fileOf = (fd: number): FileDescription => {
      const file = files.get(fd);
      if (file === undefined) throw new FsError('EBADF', 'fcntl');
      return file;
    };
    return {
      open: async (path, flags) => {
        files.set(files.size, await this.#vfs.open(caller, path, flags));
        return files.size - 1;
      },
      lock: async (fd, kind, lock, wait) => fileOf(fd).lock(caller, kind, lock, wait),
      getlk: async (fd, kind, lock) => lockOf(await fileOf(fd).getLock(caller, kind, lock)),
      close: async (fd) => fileOf(fd).close(caller),
      exit: async () => {
        for (const file of files.values()) if (file.isOpen) await file.close(caller);
      },
    };
  }

  remount(isReadOnly: boolean): void {
    if (this.#setReadOnly === undefined) throw new Error('this filesystem is not made read-only');
    this.#setReadOnly(isReadOnly);
  }

  end(): MaybePromise<void> {
    return this.#vfs.close();
  }
}

class VfsFile implements PosixFile {
  readonly #face: VfsFace;
  readonly #description: FileDescription;

  constructor(face: VfsFace, description: FileDescription) {
    this.#face = face;
    this.#description = description;
  }

  get #caller(): Caller {
    return this.#face.caller;
  }

  read(length: number): MaybePromise<Uint8Array> {
    return this.#read(length, null);
  }

  pread(length: number, pos: number): MaybePromise<Uint8Array> {
    return this.#read(length, pos);
  }

  #read(length: number, pos: number | null): MaybePromise<Uint8Array> {
    const into = new Uint8Array(length);
    return then(this.#description.read(this.#caller, into, pos), (count) => into.subarray(0, count));
  }

  readv(lengths: readonly number[], pos?: number): MaybePromise<Uint8Array[]> {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    return then(this.#read(total, pos ?? null), (bytes) => {
      let at = 0;
      return lengths.map((length) => bytes.subarray(at, (at += length)));
    });
  }

  write(data: Uint8Array | string): MaybePromise<number> {
    return this.writev([data]);
  }

  pwrite(data: Uint8Array | string, pos: number): MaybePromise<number> {
    return this.writev([data], pos);
  }

  writev(data: readonly (Uint8Array | string)[], pos?: number, rwf = 0): MaybePromise<number> {
    return this.#description.write(this.#caller, new IovIter(data.map(bytesOf)), pos ?? null, rwf);
  }

  lseek(offset: number, whence: number): MaybePromise<number> {
    return this.#description.lseek(this.#caller, offset, whence);
  }

  ftruncate(size: number): MaybePromise<void> {
    return this.#description.truncate(this.#caller, size);
  }

  fstat(): MaybePromise<PosixStat> {
    return this.#description.stat(this.#caller);
  }

  fsync(): MaybePromise<void> {
    return this.#description.fsync(this.#caller, false);
  }

  fdatasync(): MaybePromise<void> {
    return this.#description.fsync(this.#caller, true);
  }

  syncfs(): MaybePromise<void> {
    return this.#description.vfs.syncfs(this.#caller);
  }

  fchmod(mode: number): MaybePromise<void> {
    return this.#description.setattr(this.#caller, { mode });
  }

  fchown(uid: number, gid: number): MaybePromise<void> {
    return this.#description.setattr(this.#caller, ownerOf(uid, gid));
  }

  futimens(atime: PosixTime, mtime: PosixTime): MaybePromise<void> {
    return isNothing(atime, mtime) ? undefined : this.#description.setattr(this.#caller, timesOf(atime, mtime));
  }

  fallocate(mode: number, offset: number, length: number): MaybePromise<void> {
    return this.#description.fallocate(this.#caller, mode, offset, length);
  }

  copyFileRange(pos: number, out: PosixFile, posOut: number, length: number): MaybePromise<number> {
    return this.#description.copyRange(this.#caller, pos, (out as VfsFile).#description, posOut, length);
  }

  getdents(count = DIRENTS): MaybePromise<PosixDirent[]> {
    return this.#description.readdir(this.#caller, count);
  }

  seekdir(position: number | bigint): MaybePromise<void> {
    return then(this.#description.lseek(this.#caller, Number(position), SEEK_SET), () => {});
  }

  fgetxattr(name: string): MaybePromise<Uint8Array> {
    return then(this.#description.getxattr(this.#caller, name), present);
  }

  fsetxattr(name: string, value: Uint8Array | string, flags = 0): MaybePromise<void> {
    return this.#description.setxattr(this.#caller, name, bytesOf(value), flags);
  }

  flistxattr(): MaybePromise<string[]> {
    return this.#description.listxattr(this.#caller);
  }

  fremovexattr(name: string): MaybePromise<void> {
    return this.#description.removexattr(this.#caller, name);
  }

  setlk(kind: PosixLockKind, lock: PosixLock): MaybePromise<void> {
    return this.#description.lock(this.#caller, kind, lock, false);
  }

  getlk(kind: PosixLockKind, lock: PosixLock): MaybePromise<PosixLock | undefined> {
    return then(this.#description.getLock(this.#caller, kind, lock), lockOf);
  }

  flock(operation: number): MaybePromise<void> {
    const type = [undefined, F_RDLCK, F_WRLCK, undefined, undefined, undefined, undefined, undefined, F_UNLCK][operation] ?? -1;
    return this.#description.lock(this.#caller, 'flock', { type, start: 0, end: LOCK_END }, false);
  }

  fiemap(start: number, length: number): MaybePromise<FileExtent[]> {
    return this.#description.fiemap(this.#caller, start, length, 0);
  }

  linkTo(path: string): MaybePromise<void> {
    return this.#description.link(this.#caller, path);
  }

  close(): MaybePromise<void> {
    return this.#description.close(this.#caller);
  }
}

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data) : data;
}

/** What a lock is to who asks: without the owner. */
function lockOf(found: PosixLock | undefined): PosixLock | undefined {
  return found === undefined ? undefined : { type: found.type, start: found.start, end: found.end };
}

function present(value: Uint8Array | undefined): Uint8Array {
  if (value === undefined) throw new FsError('ENODATA', 'getxattr');
  return value;
}

function ownerOf(uid: number, gid: number): AttrChanges {
  return { ...(uid === -1 ? {} : { uid }), ...(gid === -1 ? {} : { gid }) };
}

/** utimensat(2) does not even look at the path when both times are omitted; other changes of nothing move ctime. */
function isNothing(atime: PosixTime, mtime: PosixTime): boolean {
  return atime === 'omit' && mtime === 'omit';
}

function timesOf(atime: PosixTime, mtime: PosixTime): AttrChanges {
  return { ...(atime === 'omit' ? {} : { atime }), ...(mtime === 'omit' ? {} : { mtime }) };
}
