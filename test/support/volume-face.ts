// PosixFace over a Volume: the behaviours as a program sees them that knows the methods of node:fs/promises and what a Volume has beyond.

import { FsError } from '../../src/base/fs-error.ts';
import { type Attr, type FileExtent, majorOf, minorOf, type StatFs } from '../../src/vfs/attr.ts';
import { nameBytes, nameOf } from '../../src/vfs/name.ts';
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  LOCK_END,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  S_IFSOCK,
  SEEK_DATA,
  SEEK_HOLE,
  XATTR_CREATE,
  XATTR_REPLACE,
} from '../../src/vfs/uapi.ts';
import type { Dir } from '../../src/volume/dir.ts';
import type { FileHandle } from '../../src/volume/file-handle.ts';
import type { LockOptions } from '../../src/volume/linux-calls.ts';
import type { BigIntStats } from '../../src/volume/stats.ts';
import type { Volume } from '../../src/volume/volume.ts';
import {
  type Ids,
  Inexpressible,
  type PosixDirent,
  type PosixFace,
  type PosixFile,
  type PosixLock,
  type PosixLockKind,
  type PosixProcess,
  type PosixStat,
  type PosixTime,
} from './posix-face.ts';

const PID = 4711;
const NODE_TYPES = new Map([
  [S_IFIFO, 'fifo'],
  [S_IFCHR, 'char'],
  [S_IFBLK, 'block'],
  [S_IFSOCK, 'socket'],
] as const);

export class VolumeFace implements PosixFace {
  /** On behalf of whoever calls now. */
  #volume: Volume;
  #umask = 0o022;
  #ids: Ids = { uid: 0, gid: 0 };
  #lastPid = PID;
  readonly #setReadOnly: ((isReadOnly: boolean) => void) | undefined;

  /** The root of `volume` is the fresh directory; `setReadOnly` is what remount does. */
  constructor(volume: Volume, setReadOnly?: (isReadOnly: boolean) => void) {
    this.#volume = volume;
    this.#setReadOnly = setReadOnly;
    this.#become(this.#ids);
  }

  #become(ids: Ids): void {
    this.#ids = ids;
    this.#volume = this.#volume.as({ ...ids, umask: this.#umask, pid: PID });
  }

  async open(path: string, flags: number, mode = 0o666): Promise<PosixFile> {
    const volume = this.#volume;
    const handle = await volume.open(bytesOfName(path), flags, mode);
    if (!(await handle.stat()).isDirectory()) return new VolumeFile(handle, undefined);
    return new VolumeFile(handle, await volume.opendir(bytesOfName(path), { encoding: 'buffer' as never }));
  }

  async stat(path: string): Promise<PosixStat> {
    return statOf(await this.#volume.stat(bytesOfName(path), { bigint: true }));
  }

  async lstat(path: string): Promise<PosixStat> {
    return statOf(await this.#volume.lstat(bytesOfName(path), { bigint: true }));
  }

  mkdir(path: string, mode = 0o777): Promise<void> {
    return this.#volume.mkdir(bytesOfName(path), mode);
  }

  async mknod(path: string, mode: number, rdev = 0): Promise<void> {
    const type = NODE_TYPES.get((mode & S_IFMT) as typeof S_IFIFO);
    if (type === undefined) throw new Inexpressible('mknod of a Volume makes special files only');
    await this.#volume.mknod(bytesOfName(path), { type, mode: mode & 0o7777, major: majorOf(rdev), minor: minorOf(rdev) });
  }

  symlink(target: string, path: string): Promise<void> {
    return this.#volume.symlink(bytesOfName(target), bytesOfName(path));
  }

  async readlink(path: string): Promise<string> {
    return nameOf(await this.#volume.readlink(bytesOfName(path), { encoding: 'buffer' }));
  }

  async link(existing: string, path: string, follow = false): Promise<void> {
    if (follow) throw new Inexpressible('link of node:fs does not follow');
    await this.#volume.link(bytesOfName(existing), bytesOfName(path));
  }

  unlink(path: string): Promise<void> {
    return this.#volume.unlink(bytesOfName(path));
  }

  rmdir(path: string): Promise<void> {
    return this.#volume.rmdir(bytesOfName(path));
  }

  async rename(from: string, to: string, flags = 0): Promise<void> {
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) throw new Inexpressible('flags of rename have names');
    await this.#volume.rename(bytesOfName(from), bytesOfName(to), {
      noReplace: (flags & RENAME_NOREPLACE) !== 0,
      exchange: (flags & RENAME_EXCHANGE) !== 0,
      whiteout: (flags & RENAME_WHITEOUT) !== 0,
    });
  }

  chmod(path: string, mode: number): Promise<void> {
    return this.#volume.chmod(bytesOfName(path), mode);
  }

  chown(path: string, uid: number, gid: number): Promise<void> {
    return this.#volume.chown(bytesOfName(path), uid, gid);
  }

  lchown(path: string, uid: number, gid: number): Promise<void> {
    return this.#volume.lchown(bytesOfName(path), uid, gid);
  }

  async utimens(path: string, atime: PosixTime, mtime: PosixTime): Promise<void> {
    await this.#volume.utimes(bytesOfName(path), timeOf(atime), timeOf(mtime));
  }

  async lutimens(path: string, atime: PosixTime, mtime: PosixTime): Promise<void> {
    await this.#volume.lutimes(bytesOfName(path), timeOf(atime), timeOf(mtime));
  }

  async truncate(path: string, size: number): Promise<void> {
    if (size < 0) throw new Inexpressible('a negative length is 0 to truncate of node:fs');
    await this.#volume.truncate(bytesOfName(path), size);
  }

  async access(path: string, mask: number): Promise<void> {
    if ((mask & ~7) !== 0) throw new Inexpressible('unknown bits of access are argument errors of node:fs');
    await this.#volume.access(bytesOfName(path), mask);
  }

  async statfs(path: string): Promise<StatFs> {
    const { type, bsize, blocks, bfree, bavail, files, ffree } = await this.#volume.statfs(bytesOfName(path));
    return { type, bsize, blocks, bfree, bavail, files, ffree, namelen: 255 }; // which node:fs does not tell
  }

  async getxattr(path: string, name: string): Promise<Uint8Array> {
    return present(await this.#volume.getXattr(bytesOfName(path), attribute(name)));
  }

  async lgetxattr(path: string, name: string): Promise<Uint8Array> {
    return present(await this.#volume.getXattr(bytesOfName(path), attribute(name), { followSymlinks: false }));
  }

  async setxattr(path: string, name: string, value: Uint8Array | string, flags = 0): Promise<void> {
    await this.#volume.setXattr(bytesOfName(path), attribute(name), value, xattrFlags(flags));
  }

  async lsetxattr(path: string, name: string, value: Uint8Array | string, flags = 0): Promise<void> {
    await this.#volume.setXattr(bytesOfName(path), attribute(name), value, { ...xattrFlags(flags), followSymlinks: false });
  }

  listxattr(path: string): Promise<string[]> {
    return this.#volume.listXattr(bytesOfName(path));
  }

  llistxattr(path: string): Promise<string[]> {
    return this.#volume.listXattr(bytesOfName(path), { followSymlinks: false });
  }

  removexattr(path: string, name: string): Promise<void> {
    return this.#volume.removeXattr(bytesOfName(path), name);
  }

  lremovexattr(path: string, name: string): Promise<void> {
    return this.#volume.removeXattr(bytesOfName(path), name, { followSymlinks: false });
  }

  umask(mask: number): number {
    const before = this.#umask;
    this.#umask = mask;
    this.#become(this.#ids);
    return before;
  }

  async as<T>(ids: Ids, fn: () => T | Promise<T>): Promise<T> {
    const before = this.#ids;
    this.#become(ids);
    try {
      return await fn();
    } finally {
      this.#become(before);
    }
  }

  fork(): PosixProcess {
    const volume = this.#volume.as({ pid: ++this.#lastPid });
    const handles = new Map<number, FileHandle>();
    const handleOf = (fd: number): FileHandle => {
      const handle = handles.get(fd);
      if (handle === undefined) throw new FsError('EBADF', 'fcntl');
      return handle;
    };
    return {
      open: async (path, flags) => {
        const handle = await volume.open(bytesOfName(path), flags);
        handles.set(handle.fd, handle);
        return handle.fd;
      },
      lock: async (fd, kind, lock, wait) => setLock(handleOf(fd), kind, lock, wait),
      getlk: async (fd, kind, lock) => getLock(handleOf(fd), kind, lock),
      close: async (fd) => {
        const handle = handleOf(fd);
        handles.delete(fd);
        await handle.close();
      },
      exit: async () => {
        for (const handle of handles.values()) await handle.close();
        handles.clear();
      },
    };
  }

  remount(isReadOnly: boolean): void {
    if (this.#setReadOnly === undefined) throw new Error('this filesystem is not made read-only');
    this.#setReadOnly(isReadOnly);
  }

  end(): Promise<void> {
    return this.#volume.close();
  }
}

class VolumeFile implements PosixFile {
  readonly #handle: FileHandle;
  readonly #dir: Dir | undefined;

  constructor(handle: FileHandle, dir: Dir | undefined) {
    this.#handle = handle;
    this.#dir = dir;
  }

  read(length: number): Promise<Uint8Array> {
    return this.#read(length, null);
  }

  async pread(length: number, pos: number): Promise<Uint8Array> {
    if (pos < 0) throw new Inexpressible('a negative position is the current one to node:fs');
    return this.#read(length, pos);
  }

  async #read(length: number, pos: number | null): Promise<Uint8Array> {
    const into = new Uint8Array(length);
    const { bytesRead } = await this.#handle.read(into, 0, length, pos);
    return into.subarray(0, bytesRead);
  }

  async readv(lengths: readonly number[], pos?: number): Promise<Uint8Array[]> {
    const buffers = lengths.map((length) => new Uint8Array(length));
    let { bytesRead } = await this.#handle.readv(buffers, pos ?? null);
    return buffers.map((each) => {
      const got = each.subarray(0, Math.min(each.length, bytesRead));
      bytesRead -= got.length;
      return got;
    });
  }

  async write(data: Uint8Array | string): Promise<number> {
    const bytes = bytesOf(data);
    return (await this.#handle.write(bytes, 0, bytes.length, null)).bytesWritten;
  }

  async pwrite(data: Uint8Array | string, pos: number): Promise<number> {
    if (pos < 0) throw new Inexpressible('a negative position is the current one to node:fs');
    const bytes = bytesOf(data);
    return (await this.#handle.write(bytes, 0, bytes.length, pos)).bytesWritten;
  }

  async writev(data: readonly (Uint8Array | string)[], pos?: number, rwf = 0): Promise<number> {
    if (rwf !== 0) throw new Inexpressible('writes of node:fs have no flags');
    return (await this.#handle.writev(data.map(bytesOf), pos ?? null)).bytesWritten;
  }

  async lseek(offset: number, whence: number): Promise<number> {
    if (whence === SEEK_DATA && offset >= 0) return await this.#handle.seekData(offset);
    if (whence === SEEK_HOLE && offset >= 0) return await this.#handle.seekHole(offset);
    throw new Inexpressible('node:fs has no lseek');
  }

  async ftruncate(size: number): Promise<void> {
    if (size < 0) throw new Inexpressible('a negative length is 0 to truncate of node:fs');
    await this.#handle.truncate(size);
  }

  async fstat(): Promise<PosixStat> {
    return statOf(await this.#handle.stat({ bigint: true }));
  }

  fsync(): Promise<void> {
    return this.#handle.sync();
  }

  fdatasync(): Promise<void> {
    return this.#handle.datasync();
  }

  async syncfs(): Promise<void> {
    throw new Inexpressible('syncfs is one of the volume, not of a file');
  }

  fchmod(mode: number): Promise<void> {
    return this.#handle.chmod(mode);
  }

  fchown(uid: number, gid: number): Promise<void> {
    return this.#handle.chown(uid, gid);
  }

  async futimens(atime: PosixTime, mtime: PosixTime): Promise<void> {
    await this.#handle.utimes(timeOf(atime), timeOf(mtime));
  }

  fallocate(mode: number, offset: number, length: number): Promise<void> {
    return this.#handle.fallocate(offset, length, { mode });
  }

  copyFileRange(pos: number, out: PosixFile, posOut: number, length: number): Promise<number> {
    return this.#handle.copyFileRange((out as VolumeFile).#handle, { position: pos, otherPosition: posOut, length });
  }

  async getdents(count = Number.POSITIVE_INFINITY): Promise<PosixDirent[]> {
    if (this.#dir === undefined) throw new Inexpressible('node:fs lists a path, not an open file');
    const found: PosixDirent[] = [];
    while (found.length < count) {
      const entry = await this.#dir.read();
      if (entry === null || entry === undefined) break;
      found.push({
        name: nameOf(entry.name as unknown as Uint8Array),
        get ino(): number {
          throw new Inexpressible('Dirent has no inode number');
        },
        type: 0,
        get next(): number {
          throw new Inexpressible('Dir has no positions');
        },
      });
    }
    return found;
  }

  async seekdir(): Promise<void> {
    throw new Inexpressible('Dir has no positions');
  }

  async fgetxattr(name: string): Promise<Uint8Array> {
    return present(await this.#handle.getXattr(name));
  }

  async fsetxattr(name: string, value: Uint8Array | string, flags = 0): Promise<void> {
    await this.#handle.setXattr(name, value, xattrFlags(flags));
  }

  flistxattr(): Promise<string[]> {
    return this.#handle.listXattr();
  }

  fremovexattr(name: string): Promise<void> {
    return this.#handle.removeXattr(name);
  }

  setlk(kind: PosixLockKind, lock: PosixLock): Promise<void> {
    return setLock(this.#handle, kind, lock, false);
  }

  getlk(kind: PosixLockKind, lock: PosixLock): Promise<PosixLock | undefined> {
    return getLock(this.#handle, kind, lock);
  }

  flock(operation: number): Promise<void> {
    const type = [undefined, F_RDLCK, F_WRLCK, undefined, undefined, undefined, undefined, undefined, F_UNLCK][operation] ?? -1;
    return setLock(this.#handle, 'flock', { type, start: 0, end: LOCK_END }, false);
  }

  fiemap(start: number, length: number): Promise<FileExtent[]> {
    return this.#handle.fiemap({ start, length });
  }

  async linkTo(): Promise<void> {
    throw new Inexpressible('node:fs gives no name to an open file');
  }

  async close(): Promise<void> {
    await this.#dir?.close();
    await this.#handle.close();
  }
}

async function setLock(handle: FileHandle, kind: PosixLockKind | 'flock', lock: PosixLock, wait: boolean): Promise<void> {
  if (lock.type === F_UNLCK) await handle.unlock({ kind, ...rangeOf(lock) });
  else await handle.lock({ kind, ...rangeOf(lock), type: typeOf(lock), wait });
}

async function getLock(handle: FileHandle, kind: PosixLockKind, lock: PosixLock): Promise<PosixLock | undefined> {
  const found = await handle.getLock({ kind, ...rangeOf(lock), type: typeOf(lock) });
  if (found === undefined) return undefined;
  const end = found.length === 0 ? LOCK_END : found.start + found.length - 1;
  return { type: found.type === 'shared' ? F_RDLCK : F_WRLCK, start: found.start, end };
}

function rangeOf({ start, end }: PosixLock): Pick<LockOptions, 'start' | 'length'> {
  if (start < 0) throw new Inexpressible('a negative start is an argument error');
  return { start, length: end === LOCK_END ? 0 : end - start + 1 };
}

function typeOf({ type }: PosixLock): 'shared' | 'exclusive' {
  if (type !== F_RDLCK && type !== F_WRLCK) throw new Inexpressible('types of locks have names');
  return type === F_RDLCK ? 'shared' : 'exclusive';
}

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data) : data;
}

function bytesOfName(name: string): Buffer {
  return Buffer.from(nameBytes(name));
}

function present(value: Uint8Array | undefined): Uint8Array {
  if (value === undefined) throw new FsError('ENODATA', 'getxattr');
  return value;
}

function attribute(name: string): string {
  if (name === '') throw new Inexpressible('an attribute without a name is an argument error');
  return name;
}

function xattrFlags(flags: number): { create: boolean; replace: boolean } {
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new Inexpressible('flags of setXattr have names');
  return { create: (flags & XATTR_CREATE) !== 0, replace: (flags & XATTR_REPLACE) !== 0 };
}

/** A time in the ways that node:fs has: seconds, of which the last digits may be lost, or a Date, since negative seconds are now. */
function timeOf(time: PosixTime): number | Date {
  if (typeof time === 'string') throw new Inexpressible('utimes of node:fs cannot say now, or omit a time');
  const seconds = time.sec + time.nsec / 1e9;
  return seconds < 0 ? new Date(seconds * 1000) : seconds;
}

function statOf(stats: BigIntStats): PosixStat {
  const numbers: Omit<Attr, 'btime' | 'btimeNsec' | 'atime' | 'atimeNsec' | 'mtime' | 'mtimeNsec' | 'ctime' | 'ctimeNsec'> = {
    ino: Number(stats.ino),
    size: Number(stats.size),
    blocks: Number(stats.blocks),
    blksize: Number(stats.blksize),
    mode: Number(stats.mode),
    nlink: Number(stats.nlink),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    rdev: Number(stats.rdev),
  };
  const [atime, atimeNsec] = partsOf(stats.atimeNs);
  const [mtime, mtimeNsec] = partsOf(stats.mtimeNs);
  const [ctime, ctimeNsec] = partsOf(stats.ctimeNs);
  return { ...numbers, atime, atimeNsec, mtime, mtimeNsec, ctime, ctimeNsec };
}

function partsOf(ns: bigint): [sec: number, nsec: number] {
  const nsec = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return [Number((ns - nsec) / 1_000_000_000n), Number(nsec)];
}
