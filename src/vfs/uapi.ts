// Linux numbers that cross the FileSystem interface, in their C spelling.
// Source: Linux include/uapi/linux/stat.h, fcntl.h, fs.h, xattr.h, falloc.h, capability.h; include/uapi/asm-generic/fcntl.h.

// File type and mode bits.
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;
export const S_IRWXU = 0o700;
export const S_IRWXG = 0o070;
export const S_IXGRP = 0o010;
export const S_IRWXO = 0o007;
/** Everything of a mode but the file type. */
export const S_IALLUGO = 0o7777;

// open(2).
export const O_RDONLY = 0o0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_ACCMODE = 0o3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_DSYNC = 0o10000;
export const O_DIRECT = 0o40000;
export const O_LARGEFILE = 0o100000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_NOATIME = 0o1000000;
export const O_CLOEXEC = 0o2000000;
/** O_DSYNC and one bit more. */
export const O_SYNC = 0o4010000;
export const O_PATH = 0o10000000;
/** O_DIRECTORY and one bit more. */
export const O_TMPFILE = 0o20200000;

// access(2), and the mask of a permission check.
export const F_OK = 0;
export const X_OK = 1;
export const W_OK = 2;
export const R_OK = 4;

// renameat2(2).
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

// lseek(2).
export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

// setxattr(2), and the limits of names and values.
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
/** Bytes of an attribute's name, without a terminator. */
export const XATTR_NAME_MAX = 255;
/** Bytes of an attribute's value, and of the list of names. */
export const XATTR_SIZE_MAX = 65536;
export const XATTR_LIST_MAX = 65536;

// Locks.
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
/** Last byte that a lock to the end of the file covers; 2^63 - 1 on the wire. */
export const LOCK_END = Number.POSITIVE_INFINITY;

// Flags of one read or write; those of preadv2(2) and pwritev2(2) with their values. They are the engine's IOCB_* of the same name.
export const RWF_HIPRI = 0x01;
export const RWF_DSYNC = 0x02;
export const RWF_SYNC = 0x04;
export const RWF_NOWAIT = 0x08;
export const RWF_APPEND = 0x10;
export const RWF_NOAPPEND = 0x20;
export const RWF_ATOMIC = 0x40;
export const RWF_DONTCACHE = 0x80;
/** Not in the uapi: the writer may not keep set-id bits (FUSE_WRITE_KILL_SUIDGID). */
export const RW_KILL_SUIDGID = 0x10000;
/** Not in the uapi: with it S_ISGID goes whether the group may execute or not, since the writer is not of the group. */
export const RW_KILL_SGID = 0x20000;

// fallocate(2).
export const FALLOC_FL_ALLOCATE_RANGE = 0x00;
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_NO_HIDE_STALE = 0x04;
export const FALLOC_FL_COLLAPSE_RANGE = 0x08;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const FALLOC_FL_INSERT_RANGE = 0x20;
export const FALLOC_FL_UNSHARE_RANGE = 0x40;
export const FALLOC_FL_WRITE_ZEROES = 0x80;

// Bytes of a name in a directory, and of a path with its terminator.
export const NAME_MAX = 255;
export const PATH_MAX = 4096;
/** Symbolic links followed in one path walk. */
export const MAXSYMLINKS = 40;

// Capabilities, as masks: bit n of the kernel's number n.
export const CAP_CHOWN = 1 << 0;
export const CAP_DAC_OVERRIDE = 1 << 1;
export const CAP_DAC_READ_SEARCH = 1 << 2;
export const CAP_FOWNER = 1 << 3;
export const CAP_FSETID = 1 << 4;
export const CAP_LINUX_IMMUTABLE = 1 << 9;
export const CAP_SYS_ADMIN = 1 << 21;
export const CAP_SYS_RESOURCE = 1 << 24;
export const CAP_MKNOD = 1 << 27;
export const CAP_SETFCAP = 1 << 31;
/** All 32 of the first word. */
export const CAP_ALL = -1;

// poll(2).
export const POLLIN = 0x0001;
export const POLLOUT = 0x0004;
export const POLLRDNORM = 0x0040;
export const POLLWRNORM = 0x0100;
/** What a file that never has to wait answers. */
export const DEFAULT_POLLMASK: number = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

export function isDirectory(mode: number): boolean {
  return (mode & S_IFMT) === S_IFDIR;
}

export function isRegular(mode: number): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

export function isSymlink(mode: number): boolean {
  return (mode & S_IFMT) === S_IFLNK;
}

/** Does a mode carry set-id bits, which a write may have to take off? */
export function hasSetId(mode: number): boolean {
  return (mode & (S_ISUID | S_ISGID)) !== 0;
}
