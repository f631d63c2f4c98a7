// The system calls of a filesystem, as one interface over what can be tested: the host's own filesystems (host-face.ts) and a Vfs in this
// process (vfs-face.ts), also by way of a Volume (volume-face.ts). Calls answer at once or with a promise; errors carry `code`. Paths start at a fresh, empty directory that belongs
// to root; they are names of src/vfs/name.ts, so that bytes that are no text can be said.

import type { MaybePromise } from '../../src/base/task.ts';
import type { Attr, FileExtent, StatFs } from '../../src/vfs/attr.ts';

export type PosixStat = Omit<Attr, 'btime' | 'btimeNsec'>;

/** A face has no way to say this: what needs it is skipped, with the message as the reason. */
export class Inexpressible extends Error {}

/** As utimensat takes it; 'omit' leaves the time. */
export type PosixTime = { readonly sec: number; readonly nsec: number } | 'now' | 'omit';

export interface PosixDirent {
  readonly name: string;
  readonly ino: number;
  /** File type bits of a mode, 0 if the directory does not say. */
  readonly type: number;
  /** For seekdir. */
  readonly next: number | bigint;
}

/** Whose locks: those of the process, or of the open file. */
export type PosixLockKind = 'posix' | 'ofd';

export interface PosixLock {
  /** F_RDLCK, F_WRLCK, F_UNLCK. */
  readonly type: number;
  readonly start: number;
  /** Last byte, included; Infinity for to the end. */
  readonly end: number;
}

export interface Ids {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
}

/** An open file description. */
export interface PosixFile {
  read(length: number): MaybePromise<Uint8Array>;
  pread(length: number, pos: number): MaybePromise<Uint8Array>;
  /** Into buffers of these lengths, one after the other; at `pos` or, without it, at the position. Shape: what each got. */
  readv(lengths: readonly number[], pos?: number): MaybePromise<Uint8Array[]>;
  /** Bytes written. Text is UTF-8. */
  write(data: Uint8Array | string): MaybePromise<number>;
  pwrite(data: Uint8Array | string, pos: number): MaybePromise<number>;
  writev(data: readonly (Uint8Array | string)[], pos?: number, rwf?: number): MaybePromise<number>;
  lseek(offset: number, whence: number): MaybePromise<number>;
  ftruncate(size: number): MaybePromise<void>;
  fstat(): MaybePromise<PosixStat>;
  fsync(): MaybePromise<void>;
  fdatasync(): MaybePromise<void>;
  syncfs(): MaybePromise<void>;
  fchmod(mode: number): MaybePromise<void>;
  fchown(uid: number, gid: number): MaybePromise<void>;
  futimens(atime: PosixTime, mtime: PosixTime): MaybePromise<void>;
  fallocate(mode: number, offset: number, length: number): MaybePromise<void>;
  copyFileRange(pos: number, out: PosixFile, posOut: number, length: number): MaybePromise<number>;
  /** At most `count` names, '.' and '..' left out; none at the end. */
  getdents(count?: number): MaybePromise<PosixDirent[]>;
  /** 0 begins anew. */
  seekdir(position: number | bigint): MaybePromise<void>;
  fgetxattr(name: string): MaybePromise<Uint8Array>;
  fsetxattr(name: string, value: Uint8Array | string, flags?: number): MaybePromise<void>;
  flistxattr(): MaybePromise<string[]>;
  fremovexattr(name: string): MaybePromise<void>;
  /** F_SETLK. Never waits. */
  setlk(kind: PosixLockKind, lock: PosixLock): MaybePromise<void>;
  /** F_GETLK: the lock in the way, if any. */
  getlk(kind: PosixLockKind, lock: PosixLock): MaybePromise<PosixLock | undefined>;
  /** LOCK_SH, LOCK_EX, LOCK_UN. Never waits. */
  flock(operation: number): MaybePromise<void>;
  fiemap(start: number, length: number): MaybePromise<FileExtent[]>;
  /** Gives an open file a further name, an O_TMPFILE too: linkat with AT_SYMLINK_FOLLOW of its entry in /proc. */
  linkTo(path: string): MaybePromise<void>;
  close(): MaybePromise<void>;
}

/** Another process, for locks. Its calls may wait, and nothing else of it goes on meanwhile. */
export interface PosixProcess {
  /** A descriptor of that process. */
  open(path: string, flags: number): Promise<number>;
  lock(fd: number, kind: PosixLockKind | 'flock', lock: PosixLock, wait: boolean): Promise<void>;
  getlk(fd: number, kind: PosixLockKind, lock: PosixLock): Promise<PosixLock | undefined>;
  close(fd: number): Promise<void>;
  /** The process exits, and what it had open is closed. */
  exit(): Promise<void>;
}

export interface PosixFace {
  /** `mode` is 0o666 if absent. */
  open(path: string, flags: number, mode?: number): MaybePromise<PosixFile>;
  stat(path: string): MaybePromise<PosixStat>;
  lstat(path: string): MaybePromise<PosixStat>;
  mkdir(path: string, mode?: number): MaybePromise<void>;
  mknod(path: string, mode: number, rdev?: number): MaybePromise<void>;
  symlink(target: string, path: string): MaybePromise<void>;
  readlink(path: string): MaybePromise<string>;
  /** A symbolic link is linked itself, unless `follow`. */
  link(existing: string, path: string, follow?: boolean): MaybePromise<void>;
  unlink(path: string): MaybePromise<void>;
  rmdir(path: string): MaybePromise<void>;
  /** `flags` are RENAME_*. */
  rename(from: string, to: string, flags?: number): MaybePromise<void>;
  chmod(path: string, mode: number): MaybePromise<void>;
  /** -1 leaves an id. */
  chown(path: string, uid: number, gid: number): MaybePromise<void>;
  lchown(path: string, uid: number, gid: number): MaybePromise<void>;
  utimens(path: string, atime: PosixTime, mtime: PosixTime): MaybePromise<void>;
  lutimens(path: string, atime: PosixTime, mtime: PosixTime): MaybePromise<void>;
  truncate(path: string, size: number): MaybePromise<void>;
  /** By effective ids. */
  access(path: string, mask: number): MaybePromise<void>;
  statfs(path: string): MaybePromise<StatFs>;
  getxattr(path: string, name: string): MaybePromise<Uint8Array>;
  lgetxattr(path: string, name: string): MaybePromise<Uint8Array>;
  setxattr(path: string, name: string, value: Uint8Array | string, flags?: number): MaybePromise<void>;
  lsetxattr(path: string, name: string, value: Uint8Array | string, flags?: number): MaybePromise<void>;
  listxattr(path: string): MaybePromise<string[]>;
  llistxattr(path: string): MaybePromise<string[]>;
  removexattr(path: string, name: string): MaybePromise<void>;
  lremovexattr(path: string, name: string): MaybePromise<void>;
  /** Sets the mode bits that new files do not get, 0o022 at first. Returns those of before. */
  umask(mask: number): number;
  /** Runs `fn` with these effective ids, no further groups than told, and, unless uid is 0, no capabilities. */
  as<T>(ids: Ids, fn: () => MaybePromise<T>): Promise<T>;
  /** Another process with the ids of root; exits with the face. */
  fork(): MaybePromise<PosixProcess>;
  /** From here on the filesystem is read-only, or is written again. */
  remount(isReadOnly: boolean): MaybePromise<void>;
  /** Ends the face; what it made goes away. */
  end(): MaybePromise<void>;
}
