// PosixFace over the kernel: a fresh directory of the host, through the C library. The directory is the working directory of the process
// while the face lives, so one face lives at a time; ids and umask are those of the process too.

import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  AT_EACCESS,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  F_GETLK,
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_SETLK,
  Libc,
  LOCK_NB,
  MS_RDONLY,
  MS_REMOUNT,
  type Statx,
  type Timespec,
  UTIME_NOW,
  UTIME_OMIT,
} from '../../src/sys/libc.ts';
import type { FileExtent, StatFs } from '../../src/vfs/attr.ts';
import { makedev } from '../../src/vfs/attr.ts';
import { nameBytes, nameOf } from '../../src/vfs/name.ts';
import { SEEK_SET } from '../../src/vfs/uapi.ts';
import { flockOf, forkHostProcess, lockOf } from './host-process.ts';
import type { Ids, PosixDirent, PosixFace, PosixFile, PosixLock, PosixLockKind, PosixProcess, PosixStat, PosixTime } from './posix-face.ts';

const NO_PATH = new Uint8Array(0);
const EXTENTS_MAX = 1000;

export class HostFace implements PosixFace {
  readonly #libc = new Libc();
  readonly #dir: string;
  readonly #cwd: string;
  readonly #umask: number;
  readonly #mountpoint: string | undefined;
  /** What a behaviour leaves open when it fails would keep the mount busy. */
  readonly #open = new Set<HostFile>();
  readonly #processes: PosixProcess[] = [];

  /** In a fresh directory below `parent`; `mountpoint` is what remount changes. */
  constructor(parent: string, mountpoint?: string) {
    this.#mountpoint = mountpoint;
    this.#cwd = process.cwd();
    this.#dir = mkdtempSync(join(parent, 'face-'));
    this.#umask = process.umask(0o022);
    process.chdir(this.#dir);
    this.chmod('.', 0o755);
  }

  open(path: string, flags: number, mode = 0o666): PosixFile {
    const file = new HostFile(this.#libc, this.#libc.open(nameBytes(path), flags, mode), this.#open);
    this.#open.add(file);
    return file;
  }

  stat(path: string): PosixStat {
    return statOf(this.#libc.statx(AT_FDCWD, nameBytes(path), 0));
  }

  lstat(path: string): PosixStat {
    return statOf(this.#libc.statx(AT_FDCWD, nameBytes(path), AT_SYMLINK_NOFOLLOW));
  }

  mkdir(path: string, mode = 0o777): void {
    this.#libc.mkdir(nameBytes(path), mode);
  }

  mknod(path: string, mode: number, rdev = 0): void {
    this.#libc.mknod(nameBytes(path), mode, rdev);
  }

  symlink(target: string, path: string): void {
    this.#libc.symlink(nameBytes(target), nameBytes(path));
  }

  readlink(path: string): string {
    return nameOf(this.#libc.readlink(nameBytes(path)));
  }

  link(existing: string, path: string, follow = false): void {
    this.#libc.linkat(AT_FDCWD, nameBytes(existing), nameBytes(path), follow ? AT_SYMLINK_FOLLOW : 0);
  }

  unlink(path: string): void {
    this.#libc.unlink(nameBytes(path));
  }

  rmdir(path: string): void {
    this.#libc.rmdir(nameBytes(path));
  }

  rename(from: string, to: string, flags = 0): void {
    this.#libc.renameat2(nameBytes(from), nameBytes(to), flags);
  }

  chmod(path: string, mode: number): void {
    this.#libc.chmod(nameBytes(path), mode);
  }

  chown(path: string, uid: number, gid: number): void {
    this.#libc.fchownat(AT_FDCWD, nameBytes(path), uid, gid, 0);
  }

  lchown(path: string, uid: number, gid: number): void {
    this.#libc.fchownat(AT_FDCWD, nameBytes(path), uid, gid, AT_SYMLINK_NOFOLLOW);
  }

  utimens(path: string, atime: PosixTime, mtime: PosixTime): void {
    this.#libc.utimensat(nameBytes(path), timespecOf(atime), timespecOf(mtime), 0);
  }

  lutimens(path: string, atime: PosixTime, mtime: PosixTime): void {
    this.#libc.utimensat(nameBytes(path), timespecOf(atime), timespecOf(mtime), AT_SYMLINK_NOFOLLOW);
  }

  truncate(path: string, size: number): void {
    this.#libc.truncate(nameBytes(path), size);
  }

  access(path: string, mask: number): void {
    this.#libc.faccessat(nameBytes(path), mask, AT_EACCESS);
  }

  statfs(path: string): StatFs {
    const raw = this.#libc.statfs(nameBytes(path));
    return {
      type: raw.f_type,
      bsize: raw.f_bsize,
      blocks: raw.f_blocks,
      bfree: raw.f_bfree,
      bavail: raw.f_bavail,
      files: raw.f_files,
      ffree: raw.f_ffree,
      namelen: raw.f_namelen,
    };
  }

  getxattr(path: string, name: string): Uint8Array {
    return this.#libc.getxattr(nameBytes(path), nameBytes(name), true);
  }

  lgetxattr(path: string, name: string): Uint8Array {
    return this.#libc.getxattr(nameBytes(path), nameBytes(name), false);
  }

  setxattr(path: string, name: string, value: Uint8Array | string, flags = 0): void {
    this.#libc.setxattr(nameBytes(path), nameBytes(name), bytesOf(value), flags, true);
  }

  lsetxattr(path: string, name: string, value: Uint8Array | string, flags = 0): void {
    this.#libc.setxattr(nameBytes(path), nameBytes(name), bytesOf(value), flags, false);
  }

  listxattr(path: string): string[] {
    return namesOf(this.#libc.listxattr(nameBytes(path), true));
  }

  llistxattr(path: string): string[] {
    return namesOf(this.#libc.listxattr(nameBytes(path), false));
  }

  removexattr(path: string, name: string): void {
    this.#libc.removexattr(nameBytes(path), nameBytes(name), true);
  }

  lremovexattr(path: string, name: string): void {
    this.#libc.removexattr(nameBytes(path), nameBytes(name), false);
  }

  umask(mask: number): number {
    return process.umask(mask);
  }

  async as<T>(ids: Ids, fn: () => T | Promise<T>): Promise<T> {
    const groups = process.getgroups?.() ?? [];
    process.setgroups?.([...(ids.groups ?? [])]);
    process.setegid?.(ids.gid);
    process.seteuid?.(ids.uid); // the effective capabilities go with it
    try {
      return await fn();
    } finally {
      process.seteuid?.(0);
      process.setegid?.(0);
      process.setgroups?.(groups);
    }
  }

  fork(): PosixProcess {
    const started = forkHostProcess();
    this.#processes.push(started);
    return started;
  }

  remount(isReadOnly: boolean): void {
    if (this.#mountpoint === undefined) throw new Error('this face has no mount of its own');
    this.#libc.mount(NO_PATH, nameBytes(this.#mountpoint), NO_PATH, MS_REMOUNT | (isReadOnly ? MS_RDONLY : 0), NO_PATH);
  }

  async end(): Promise<void> {
    for (const each of this.#processes) await each.exit();
    for (const file of this.#open) file.close();
    process.umask(this.#umask);
    process.chdir(this.#cwd);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

class HostFile implements PosixFile {
  readonly #libc: Libc;
  readonly fd: number;
  readonly #open: Set<HostFile>;

  constructor(libc: Libc, fd: number, open: Set<HostFile>) {
    this.#libc = libc;
    this.fd = fd;
    this.#open = open;
  }

  read(length: number): Uint8Array {
    const into = new Uint8Array(length);
    return into.subarray(0, this.#libc.read(this.fd, into));
  }

  pread(length: number, pos: number): Uint8Array {
    const into = new Uint8Array(length);
    return into.subarray(0, this.#libc.pread(this.fd, into, pos));
  }

  readv(lengths: readonly number[], pos = -1): Uint8Array[] {
    const vec = lengths.map((length) => new Uint8Array(length));
    let left = this.#libc.preadv2(this.fd, vec, pos, 0);
    return vec.map((each) => {
      const got = each.subarray(0, Math.min(each.length, left));
      left -= got.length;
      return got;
    });
  }

  write(data: Uint8Array | string): number {
    return this.#libc.write(this.fd, bytesOf(data));
  }

  pwrite(data: Uint8Array | string, pos: number): number {
    return this.#libc.pwrite(this.fd, bytesOf(data), pos);
  }

  writev(data: readonly (Uint8Array | string)[], pos = -1, rwf = 0): number {
    return this.#libc.pwritev2(this.fd, data.map(bytesOf), pos, rwf);
  }

  lseek(offset: number, whence: number): number {
    return this.#libc.lseek(this.fd, offset, whence);
  }

  ftruncate(size: number): void {
    this.#libc.ftruncate(this.fd, size);
  }

  fstat(): PosixStat {
    return statOf(this.#libc.statx(this.fd, NO_PATH, AT_EMPTY_PATH));
  }

  fsync(): void {
    this.#libc.fsync(this.fd);
  }

  fdatasync(): void {
    this.#libc.fdatasync(this.fd);
  }

  syncfs(): void {
    this.#libc.syncfs(this.fd);
  }

  fchmod(mode: number): void {
    this.#libc.fchmod(this.fd, mode);
  }

  fchown(uid: number, gid: number): void {
    this.#libc.fchownat(this.fd, NO_PATH, uid, gid, AT_EMPTY_PATH);
  }

  futimens(atime: PosixTime, mtime: PosixTime): void {
    this.#libc.futimens(this.fd, timespecOf(atime), timespecOf(mtime));
  }

  fallocate(mode: number, offset: number, length: number): void {
    this.#libc.fallocate(this.fd, mode, offset, length);
  }

  copyFileRange(pos: number, out: PosixFile, posOut: number, length: number): number {
    return this.#libc.copyFileRange(this.fd, pos, (out as HostFile).fd, posOut, length);
  }

  getdents(count = Number.POSITIVE_INFINITY): PosixDirent[] {
    for (;;) {
      const all = this.#libc.getdents64(this.fd);
      if (all.length === 0) return [];
      const names = all.filter(({ name }) => name[0] !== 0x2e || (name.length > 1 && (name.length > 2 || name[1] !== 0x2e)));
      const taken = names.slice(0, count);
      const last = taken.at(-1);
      if (last === undefined) continue; // only dots so far
      // The kernel gives what fits the buffer: what was not asked for is read again.
      if (taken.length < names.length) this.seekdir(last.off);
      return taken.map(({ name, ino, off, type }) => ({ name: nameOf(name), ino, type: type * 0o10000, next: off }));
    }
  }

  seekdir(position: number | bigint): void {
    this.#libc.lseek(this.fd, position, SEEK_SET);
  }

  fgetxattr(name: string): Uint8Array {
    return this.#libc.fgetxattr(this.fd, nameBytes(name));
  }

  fsetxattr(name: string, value: Uint8Array | string, flags = 0): void {
    this.#libc.fsetxattr(this.fd, nameBytes(name), bytesOf(value), flags);
  }

  flistxattr(): string[] {
    return namesOf(this.#libc.flistxattr(this.fd));
  }

  fremovexattr(name: string): void {
    this.#libc.fremovexattr(this.fd, nameBytes(name));
  }

  setlk(kind: PosixLockKind, lock: PosixLock): void {
    this.#libc.fcntlLock(this.fd, kind === 'posix' ? F_SETLK : F_OFD_SETLK, flockOf(lock));
  }

  getlk(kind: PosixLockKind, lock: PosixLock): PosixLock | undefined {
    return lockOf(this.#libc.fcntlLock(this.fd, kind === 'posix' ? F_GETLK : F_OFD_GETLK, flockOf(lock)));
  }

  flock(operation: number): void {
    this.#libc.flock(this.fd, operation | LOCK_NB);
  }

  fiemap(start: number, length: number): FileExtent[] {
    return this.#libc.fiemap(this.fd, start, length, 0, EXTENTS_MAX);
  }

  linkTo(path: string): void {
    this.#libc.linkat(AT_FDCWD, nameBytes(`/proc/self/fd/${this.fd}`), nameBytes(path), AT_SYMLINK_FOLLOW);
  }

  close(): void {
    this.#open.delete(this);
    this.#libc.close(this.fd);
  }
}

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data) : data;
}

/** Names of a list in which each ends with NUL. */
function namesOf(list: Uint8Array): string[] {
  return nameOf(list).split('\0').slice(0, -1);
}

function timespecOf(time: PosixTime): Timespec {
  if (time === 'now') return { sec: 0, nsec: UTIME_NOW };
  return time === 'omit' ? { sec: 0, nsec: UTIME_OMIT } : time;
}

function statOf(raw: Statx): PosixStat {
  return {
    ino: raw.stx_ino,
    size: raw.stx_size,
    blocks: raw.stx_blocks,
    blksize: raw.stx_blksize,
    mode: raw.stx_mode,
    nlink: raw.stx_nlink,
    uid: raw.stx_uid,
    gid: raw.stx_gid,
    rdev: makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
    atime: raw.stx_atime_sec,
    atimeNsec: raw.stx_atime_nsec,
    mtime: raw.stx_mtime_sec,
    mtimeNsec: raw.stx_mtime_nsec,
    ctime: raw.stx_ctime_sec,
    ctimeNsec: raw.stx_ctime_nsec,
  };
}
