import type { NodeId } from './file-system.ts';

/**
 * What getattr answers: struct statx in plain numbers.
 *
 * Times are whole seconds since 1970, negative before, and nanoseconds from 0 to 999,999,999 after them.
 */
export interface Attr {
  ino: number;
  /** Bytes. */
  size: number;
  /** Space taken, in units of 512 bytes. */
  blocks: number;
  /** Preferred size of an I/O request, bytes. */
  blksize: number;
  /** File type and mode bits. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  /** Device of a special file: makedev(major, minor). */
  rdev: number;
  atime: number;
  atimeNsec: number;
  mtime: number;
  mtimeNsec: number;
  ctime: number;
  ctimeNsec: number;
  btime: number;
  btimeNsec: number;
}

/** A moment: whole seconds since 1970 and nanoseconds after them. */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

/** What setattr changes: what is absent stays. ctime follows by itself. */
export interface AttrChanges {
  /** Mode bits; the file type stays. */
  mode?: number;
  uid?: number;
  gid?: number;
  /** Bytes. */
  size?: number;
  /** 'now' is the filesystem's own clock. */
  atime?: Timespec | 'now';
  mtime?: Timespec | 'now';
  /** As kept by a writeback cache above. */
  ctime?: Timespec;
  /** The caller may not keep set-id bits (FATTR_KILL_SUIDGID): clear S_ISUID, and S_ISGID where the group may execute. */
  killSuidgid?: boolean;
}

/**
 * How the data of a file is served. Fixed when its inode is instantiated and until its eviction: a later answer that says otherwise is
 * refused. Files of one filesystem may differ.
 */
export type IoMode =
  /** Through mappings: the page cache of the iomap engine. */
  | { readonly mode: 'iomap' }
  /** Through a page cache that read and write calls fill. */
  | { readonly mode: 'cached' }
  /** Every call goes to the filesystem; mapped views are not possible. */
  | { readonly mode: 'direct' }
  /** Calls go to another open file, registered under this number. */
  | { readonly mode: 'passthrough'; readonly backingId: number };

/** A name that leads to an inode: what lookup and the creating operations answer. Each one counts one lookup, to be forgotten. */
export interface Entry {
  readonly node: NodeId;
  /** Tells a reused node number from its former bearer. */
  readonly generation: number;
  readonly attr: Attr;
  /** How long the name may be used without asking again, milliseconds; Infinity where all changes come through this interface. */
  readonly entryValidMs: number;
  readonly attrValidMs: number;
  readonly io: IoMode;
}

/** One name of a directory. */
export interface DirEntry {
  readonly name: string;
  readonly ino: number;
  /** File type bits of a mode (S_IFDIR, ...), 0 if it is not known without a lookup. */
  readonly type: number;
  /** Where the listing goes on after this name: opaque, above 0, and true while other names come and go. */
  readonly next: number;
  /** With attributes (readdirplus): as from lookup, and counted as one. */
  readonly entry?: Entry | undefined;
}

/** struct statfs. */
export interface StatFs {
  /** Magic number of the filesystem type. */
  type: number;
  /** Unit of the counts below, bytes. */
  bsize: number;
  blocks: number;
  bfree: number;
  /** Free for callers without privileges. */
  bavail: number;
  files: number;
  ffree: number;
  namelen: number;
}

/** One extent of a file, as fiemap tells it. `flags` are FIEMAP_EXTENT_*. */
export interface FileExtent {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
  readonly flags: number;
}

/** struct flock: bytes [start, end], end included. */
export interface FileLock {
  /** F_RDLCK, F_WRLCK, F_UNLCK. */
  readonly type: number;
  readonly start: number;
  /** Last byte, LOCK_END to the end of the file wherever it comes to be. */
  readonly end: number;
  /** Whom getlk names. */
  readonly pid: number;
  /** Opaque: locks of one owner do not conflict with each other. Processes and open files share one space of numbers. */
  readonly owner: number;
  /** The owner is an open file (F_OFD_SETLK): it takes no part in deadlocks, and getlk tells -1 as its pid. */
  readonly ofd?: boolean;
}

/** How setlk asks. */
export interface LockRequest {
  /** flock(2): whole files, a space of its own beside byte ranges. */
  readonly flock: boolean;
  /** Wait for those that conflict; otherwise EAGAIN. */
  readonly wait: boolean;
}

/** Seconds and nanoseconds of a clock in milliseconds. */
export function timespecOf(ms: number): Timespec {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.min(Math.floor((ms - sec * 1000) * 1e6), 999_999_999) };
}

/** makedev(3). Source: glibc, gnu_dev_makedev, for numbers of 32 bits each. */
export function makedev(major: number, minor: number): number {
  // 12 bits of major at 8, 8 bits of minor at 0 and 12 at 20; what lies above bit 31 is arithmetic.
  const low = ((minor & 0xff) | ((major & 0xfff) << 8)) >>> 0;
  return low + Math.floor(minor / 256) * 2 ** 20 + Math.floor(major / 4096) * 2 ** 44;
}

export function majorOf(rdev: number): number {
  return (Math.floor(rdev / 256) & 0xfff) + Math.floor(rdev / 2 ** 44) * 4096;
}

export function minorOf(rdev: number): number {
  return (rdev & 0xff) + (Math.floor(rdev / 2 ** 20) % 2 ** 24) * 256;
}
