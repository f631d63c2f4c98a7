// The C library's system calls, synchronously: one method per call, names as bytes, errors as FsError. What node:fs has no way to say
// (flags of rename, positions of a directory, locks, attributes) is said here. Loads koffi at the first use.

import { createRequire } from 'node:module';
import { FsError } from '../base/fs-error.ts';
import { bytes, pad, s16, s32, s64, struct, u8, u16, u32, u64, u64big, type Values } from '../layout/struct.ts';

// biome-ignore format: one row per field, as the format is drawn
/** struct statx. Source: Linux include/uapi/linux/stat.h */
export const statx = struct('statx', 256, {
  stx_mask:            u32(0),
  stx_blksize:         u32(4),
  stx_attributes:      u64big(8),
  stx_nlink:           u32(16),
  stx_uid:             u32(20),
  stx_gid:             u32(24),
  stx_mode:            u16(28),
  stx_spare0:          pad(30, 2),
  stx_ino:             u64(32),
  stx_size:            u64(40),
  stx_blocks:          u64(48),    // of 512 bytes
  stx_attributes_mask: u64big(56),
  stx_atime_sec:       s64(64),
  stx_atime_nsec:      u32(72),
  stx_atime_pad:       pad(76, 4),
  stx_btime_sec:       s64(80),
  stx_btime_nsec:      u32(88),
  stx_btime_pad:       pad(92, 4),
  stx_ctime_sec:       s64(96),
  stx_ctime_nsec:      u32(104),
  stx_ctime_pad:       pad(108, 4),
  stx_mtime_sec:       s64(112),
  stx_mtime_nsec:      u32(120),
  stx_mtime_pad:       pad(124, 4),
  stx_rdev_major:      u32(128),
  stx_rdev_minor:      u32(132),
  stx_dev_major:       u32(136),
  stx_dev_minor:       u32(140),
  stx_mnt_id:          u64big(144),
  stx_spare:           pad(152, 104), // newer kernels tell alignments here
});

// biome-ignore format: one row per field, as the format is drawn
/** struct statfs of machines with 64-bit words. Source: Linux include/uapi/asm-generic/statfs.h */
export const statfs = struct('statfs', 120, {
  f_type:    u64(0),
  f_bsize:   u64(8),
  f_blocks:  u64(16),
  f_bfree:   u64(24),
  f_bavail:  u64(32),
  f_files:   u64(40),
  f_ffree:   u64(48),
  f_fsid:    u64big(56),
  f_namelen: u64(64),
  f_frsize:  u64(72),
  f_flags:   u64(80),
  f_spare:   pad(88, 32),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct flock. Source: Linux include/uapi/asm-generic/fcntl.h */
export const flock = struct('flock', 32, {
  l_type:   s16(0),
  l_whence: s16(2),
  l_pad:    pad(4, 4),
  l_start:  s64(8),
  l_len:    s64(16), // 0 is to the end, wherever that comes to be
  l_pid:    s32(24), // 0 when an OFD lock is asked for; -1 is told of one
  l_tail:   pad(28, 4),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct linux_dirent64, the part before the name. Source: Linux include/linux/dirent.h */
export const linux_dirent64 = struct('linux_dirent64', 19, {
  d_ino:    u64(0),
  d_off:    u64big(8), // where the next name is; a hash of 64 bits on some filesystems
  d_reclen: u16(16),
  d_type:   u8(18),    // DT_*: the file type bits of a mode, shifted right by 12
});

// biome-ignore format: one row per field, as the format is drawn
/** struct fiemap, the part before the extents. Source: Linux include/uapi/linux/fiemap.h */
export const fiemap = struct('fiemap', 32, {
  fm_start:          u64(0),
  fm_length:         u64big(8),
  fm_flags:          u32(16),
  fm_mapped_extents: u32(20),
  fm_extent_count:   u32(24),
  fm_reserved:       pad(28, 4),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct fiemap_extent. Source: Linux include/uapi/linux/fiemap.h */
export const fiemap_extent = struct('fiemap_extent', 56, {
  fe_logical:    u64(0),
  fe_physical:   u64(8),
  fe_length:     u64(16),
  fe_reserved64: bytes(24, 16),
  fe_flags:      u32(40),
  fe_reserved:   pad(44, 12),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct timespec of machines with 64-bit words. Source: POSIX time.h */
const timespec = struct('timespec', 16, {
  tv_sec:  s64(0),
  tv_nsec: s64(8), // or UTIME_NOW, UTIME_OMIT
});

// biome-ignore format: one row per field, as the format is drawn
/** struct iovec of machines with 64-bit words. Source: POSIX sys/uio.h */
const iovec = struct('iovec', 16, {
  iov_base: u64(0),
  iov_len:  u64(8),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct msghdr of machines with 64-bit words. Source: POSIX sys/socket.h, Linux include/linux/socket.h */
const msghdr = struct('msghdr', 56, {
  msg_name:       u64(0),
  msg_namelen:    u32(8),
  msg_pad:        pad(12, 4),
  msg_iov:        u64(16),
  msg_iovlen:     u64(24),
  msg_control:    u64(32),
  msg_controllen: u64(40), // bytes there are; the kernel leaves how many it used
  msg_flags:      s32(48),
  msg_tail:       pad(52, 4),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct cmsghdr of machines with 64-bit words, with one descriptor after it. Source: as above. */
const cmsg_fd = struct('cmsg_fd', 24, {
  cmsg_len:   u64(0),  // bytes of this header and its data, without what pads it
  cmsg_level: s32(8),
  cmsg_type:  s32(12),
  cmsg_fd:    s32(16),
  cmsg_pad:   pad(20, 4),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct fuse_backing_map. Source: Linux include/uapi/linux/fuse.h */
const fuse_backing_map = struct('fuse_backing_map', 16, {
  fd:      s32(0),
  flags:   u32(4), // none is defined
  padding: pad(8, 8),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct rlimit of machines with 64-bit words. Source: Linux include/uapi/linux/resource.h */
const rlimit = struct('rlimit', 16, {
  rlim_cur: u64big(0), // 2^64 - 1 is no limit
  rlim_max: u64big(8),
});

// biome-ignore format: one row per field, as the format is drawn
/** struct __user_cap_header_struct. Source: Linux include/uapi/linux/capability.h */
const cap_user_header = struct('cap_user_header', 8, {
  version: u32(0),
  pid:     s32(4), // 0 is the calling thread
});

// biome-ignore format: one row per field, as the format is drawn
/** struct __user_cap_data_struct, of which there are two: capabilities 0 to 31, and those from 32 on. Source: as above. */
const cap_user_data = struct('cap_user_data', 12, {
  effective:   u32(0),
  permitted:   u32(4),
  inheritable: u32(8),
});

export type Statx = Values<typeof statx>;
export type Statfs = Values<typeof statfs>;
export type Flock = Values<typeof flock>;

/** One name of a directory, as getdents64 tells it. */
export interface Dirent {
  readonly ino: number;
  /** Position behind the name: for lseek of this directory only. */
  readonly off: bigint;
  /** DT_*. */
  readonly type: number;
  readonly name: Uint8Array;
}

/** Capabilities of a thread: a bit for each, bit n of the kernel's number n. */
export interface Capabilities {
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly inheritable: bigint;
}

export interface FiemapExtent {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
  readonly flags: number;
}

/** Seconds, and nanoseconds or one of the two below. */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_EACCESS = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;

export const AT_REMOVEDIR = 0x200;

// fcntl(2), flock(2), ioctl(2), mount(2).
export const F_DUPFD_CLOEXEC = 1030;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_GETLK = 5;
export const F_SETLK = 6;
export const F_SETLKW = 7;
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_OFD_SETLKW = 38;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;
export const FS_IOC_FIEMAP = 0xc020660b;
export const MS_RDONLY = 1;
export const MS_REMOUNT = 32;
export const MS_NOATIME = 1024;
export const MS_RELATIME = 1 << 21;
export const MS_STRICTATIME = 1 << 24;
export const MNT_DETACH = 2;

// setrlimit(2), unshare(2); stx_mask of statx(2).
export const RLIMIT_NOFILE = 7;
export const CLONE_FS = 0x200;
export const STATX_MNT_ID = 0x1000;

// socketpair(2), recvmsg(2), ioctl(2) of /dev/fuse.
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

const CAPABILITY_VERSION_3 = 0x20080522;
/** Number of setgroups(2) by architecture: the C library's function of that name changes all threads. */
const SYS_SETGROUPS: Readonly<Record<string, number>> = { x64: 116, arm64: 159, riscv64: 159, loong64: 159, s390x: 206, ppc64: 81 };

const STATX_BASIC_AND_BTIME = 0xfff;
const DIRENT_BUFFER_SIZE = 64 * 1024;
const XATTR_BUFFER_SIZE = 64 * 1024;

/**
 * The calls. A path is its bytes without the terminator; relative ones start at the working directory of the process. `fd` arguments are
 * file descriptors of this process. Every call blocks the thread until the kernel answers.
 *
 * Errors: FsError with the kernel's errno and the name of the call.
 */
export class Libc {
  readonly #native: Native;

  /** Errors: ENOSYS where there is no koffi, or no C library of Linux. */
  constructor() {
    this.#native = load();
  }

  open(path: Uint8Array, flags: number, mode: number): number {
    return this.#call('open', cstring(path), flags, mode);
  }

  openat(dirfd: number, path: Uint8Array, flags: number, mode: number): number {
    return this.#call('openat', dirfd, cstring(path), flags, mode);
  }

  close(fd: number): void {
    this.#call('close', fd);
  }

  /** At `pos`, or at the position of the descriptor with -1. `flags` are RWF_*. */
  preadv2(fd: number, into: readonly Uint8Array[], pos: number, flags: number): number {
    return this.#call('preadv2', fd, this.#vec(into), into.length, pos, flags);
  }

  pwritev2(fd: number, from: readonly Uint8Array[], pos: number, flags: number): number {
    return this.#call('pwritev2', fd, this.#vec(from), from.length, pos, flags);
  }

  read(fd: number, into: Uint8Array): number {
    return this.#call('read', fd, into, into.length);
  }

  write(fd: number, from: Uint8Array): number {
    return this.#call('write', fd, from, from.length);
  }

  pread(fd: number, into: Uint8Array, pos: number): number {
    return this.#call('pread', fd, into, into.length, pos);
  }

  pwrite(fd: number, from: Uint8Array, pos: number): number {
    return this.#call('pwrite', fd, from, from.length, pos);
  }

  /** Positions of directories may need all 64 bits. */
  lseek(fd: number, offset: number | bigint, whence: number): number {
    return this.#call('lseek', fd, offset, whence);
  }

  statx(dirfd: number, path: Uint8Array, flags: number): Statx {
    const out = new Uint8Array(statx.size);
    this.#call('statx', dirfd, cstring(path), flags, STATX_BASIC_AND_BTIME, out);
    return statx.read(out);
  }

  statfs(path: Uint8Array): Statfs {
    const out = new Uint8Array(statfs.size);
    this.#call('statfs', cstring(path), out);
    return statfs.read(out);
  }

  mkdir(path: Uint8Array, mode: number): void {
    this.#call('mkdir', cstring(path), mode);
  }

  mknod(path: Uint8Array, mode: number, rdev: number): void {
    this.#call('mknod', cstring(path), mode, rdev);
  }

  unlink(path: Uint8Array): void {
    this.#call('unlink', cstring(path));
  }

  rmdir(path: Uint8Array): void {
    this.#call('rmdir', cstring(path));
  }

  mkdirat(dirfd: number, path: Uint8Array, mode: number): void {
    this.#call('mkdirat', dirfd, cstring(path), mode);
  }

  mknodat(dirfd: number, path: Uint8Array, mode: number, rdev: number): void {
    this.#call('mknodat', dirfd, cstring(path), mode, rdev);
  }

  /** `flags` may be AT_REMOVEDIR. */
  unlinkat(dirfd: number, path: Uint8Array, flags: number): void {
    this.#call('unlinkat', dirfd, cstring(path), flags);
  }

  symlinkat(target: Uint8Array, dirfd: number, path: Uint8Array): void {
    this.#call('symlinkat', cstring(target), dirfd, cstring(path));
  }

  /** An empty path reads the link that is open as `dirfd`. */
  readlinkat(dirfd: number, path: Uint8Array): Uint8Array {
    const out = new Uint8Array(4096);
    return out.slice(0, this.#call('readlinkat', dirfd, cstring(path), out, out.length));
  }

  symlink(target: Uint8Array, path: Uint8Array): void {
    this.#call('symlink', cstring(target), cstring(path));
  }

  readlink(path: Uint8Array): Uint8Array {
    const out = new Uint8Array(4096);
    return out.slice(0, this.#call('readlink', cstring(path), out, out.length));
  }

  linkat(dirfd: number, existing: Uint8Array, path: Uint8Array, flags: number, newdirfd = AT_FDCWD): void {
    this.#call('linkat', dirfd, cstring(existing), newdirfd, cstring(path), flags);
  }

  renameat2(from: Uint8Array, to: Uint8Array, flags: number, dirfd = AT_FDCWD, newdirfd = AT_FDCWD): void {
    this.#call('renameat2', dirfd, cstring(from), newdirfd, cstring(to), flags);
  }

  chmod(path: Uint8Array, mode: number): void {
    this.#call('chmod', cstring(path), mode);
  }

  fchmod(fd: number, mode: number): void {
    this.#call('fchmod', fd, mode);
  }

  /** -1 leaves an id as it is. `flags` are AT_*. */
  fchownat(dirfd: number, path: Uint8Array, uid: number, gid: number, flags: number): void {
    this.#call('fchownat', dirfd, cstring(path), uid, gid, flags);
  }

  utimensat(path: Uint8Array, atime: Timespec, mtime: Timespec, flags: number): void {
    this.#call('utimensat', AT_FDCWD, cstring(path), timespecs(atime, mtime), flags);
  }

  futimens(fd: number, atime: Timespec, mtime: Timespec): void {
    this.#call('futimens', fd, timespecs(atime, mtime));
  }

  faccessat(path: Uint8Array, mask: number, flags: number): void {
    this.#call('faccessat', AT_FDCWD, cstring(path), mask, flags);
  }

  truncate(path: Uint8Array, size: number): void {
    this.#call('truncate', cstring(path), size);
  }

  ftruncate(fd: number, size: number): void {
    this.#call('ftruncate', fd, size);
  }

  fsync(fd: number): void {
    this.#call('fsync', fd);
  }

  fdatasync(fd: number): void {
    this.#call('fdatasync', fd);
  }

  syncfs(fd: number): void {
    this.#call('syncfs', fd);
  }

  fallocate(fd: number, mode: number, offset: number, length: number): void {
    this.#call('fallocate', fd, mode, offset, length);
  }

  copyFileRange(fdIn: number, posIn: number, fdOut: number, posOut: number, length: number): number {
    return this.#call('copy_file_range', fdIn, BigInt64Array.of(BigInt(posIn)), fdOut, BigInt64Array.of(BigInt(posOut)), length, 0);
  }

  /** The next names, '.' and '..' among them, as many as fit `size` bytes; none at the end. Errors: EINVAL where not even one fits. */
  getdents64(fd: number, size = DIRENT_BUFFER_SIZE): Dirent[] {
    const out = new Uint8Array(size);
    const end = this.#call('getdents64', fd, out, out.length);
    const found: Dirent[] = [];
    const raw = linux_dirent64.view();
    for (let at = 0; at < end; at += raw.d_reclen) {
      raw.at(out, at);
      const from = at + linux_dirent64.size;
      found.push({ ino: raw.d_ino, off: raw.d_off, type: raw.d_type, name: out.slice(from, out.indexOf(0, from)) });
    }
    return found;
  }

  getxattr(path: Uint8Array, name: Uint8Array, follow: boolean): Uint8Array {
    const out = new Uint8Array(XATTR_BUFFER_SIZE);
    return out.slice(0, this.#call(follow ? 'getxattr' : 'lgetxattr', cstring(path), cstring(name), out, out.length));
  }

  fgetxattr(fd: number, name: Uint8Array): Uint8Array {
    const out = new Uint8Array(XATTR_BUFFER_SIZE);
    return out.slice(0, this.#call('fgetxattr', fd, cstring(name), out, out.length));
  }

  /** `flags` are XATTR_CREATE, XATTR_REPLACE. */
  setxattr(path: Uint8Array, name: Uint8Array, value: Uint8Array, flags: number, follow: boolean): void {
    this.#call(follow ? 'setxattr' : 'lsetxattr', cstring(path), cstring(name), value, value.length, flags);
  }

  fsetxattr(fd: number, name: Uint8Array, value: Uint8Array, flags: number): void {
    this.#call('fsetxattr', fd, cstring(name), value, value.length, flags);
  }

  /** Names, each with its terminator. */
  listxattr(path: Uint8Array, follow: boolean): Uint8Array {
    const out = new Uint8Array(XATTR_BUFFER_SIZE);
    return out.slice(0, this.#call(follow ? 'listxattr' : 'llistxattr', cstring(path), out, out.length));
  }

  flistxattr(fd: number): Uint8Array {
    const out = new Uint8Array(XATTR_BUFFER_SIZE);
    return out.slice(0, this.#call('flistxattr', fd, out, out.length));
  }

  removexattr(path: Uint8Array, name: Uint8Array, follow: boolean): void {
    this.#call(follow ? 'removexattr' : 'lremovexattr', cstring(path), cstring(name));
  }

  fremovexattr(fd: number, name: Uint8Array): void {
    this.#call('fremovexattr', fd, cstring(name));
  }

  /** Commands without an argument of their own, F_GETFL, or with a number, F_SETFL. */
  fcntl(fd: number, cmd: number, arg: number): number {
    return this.#call('fcntl', fd, cmd, arg);
  }

  /** Lock commands. Shape: `lock` as the kernel leaves it. */
  fcntlLock(fd: number, cmd: number, lock: Partial<Flock>): Flock {
    const raw = new Uint8Array(flock.size);
    flock.write(raw, 0, lock);
    this.#call('fcntlLock', fd, cmd, raw);
    return flock.read(raw);
  }

  flock(fd: number, operation: number): void {
    this.#call('flock', fd, operation);
  }

  /** At most `max` extents that touch the range. */
  fiemap(fd: number, start: number, length: number, flags: number, max: number): FiemapExtent[] {
    const raw = new Uint8Array(fiemap.size + max * fiemap_extent.size);
    fiemap.write(raw, 0, { fm_start: start, fm_length: BigInt(length), fm_flags: flags, fm_extent_count: max });
    this.#call('ioctl', fd, FS_IOC_FIEMAP, raw);
    const extents: FiemapExtent[] = [];
    for (let i = 0; i < fiemap.read(raw).fm_mapped_extents; i++) {
      const each = fiemap_extent.read(raw, fiemap.size + i * fiemap_extent.size);
      extents.push({ logical: each.fe_logical, physical: each.fe_physical, length: each.fe_length, flags: each.fe_flags });
    }
    return extents;
  }

  /** `flags` are MS_*. */
  mount(source: Uint8Array, target: Uint8Array, type: Uint8Array, flags: number, data: Uint8Array): void {
    this.#call('mount', cstring(source), cstring(target), cstring(type), flags, cstring(data));
  }

  /** `flags` are MNT_*. */
  umount2(target: Uint8Array, flags: number): void {
    this.#call('umount2', cstring(target), flags);
  }

  /** Two ends of a stream, neither of which a program that is started inherits unless it is handed over. */
  socketpair(): [number, number] {
    const ends = new Int32Array(2);
    this.#call('socketpair', AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    return [ends[0] as number, ends[1] as number];
  }

  /**
   * The descriptor that comes over a socket with one byte of data; undefined if the other end closes before, or sends none.
   *
   * Blocks:  never this thread; a thread of Node's pool until something comes.
   * Errors:  EIO, whatever it was: numbers of errors stay in the thread that waited.
   */
  async receiveDescriptor(socket: number): Promise<number | undefined> {
    const [byte, control, vec, header] = [1, cmsg_fd.size, iovec.size, msghdr.size].map(pinned) as [Pinned, Pinned, Pinned, Pinned];
    const addressOf = (memory: Uint8Array): number => Number(this.#native.address(memory));
    iovec.write(vec, 0, { iov_base: addressOf(byte), iov_len: byte.length });
    msghdr.write(header, 0, {
      msg_iov: addressOf(vec),
      msg_iovlen: 1,
      msg_control: addressOf(control),
      msg_controllen: control.length,
    });
    const { recvmsg } = this.#native.calls;
    const length = await new Promise<number>((resolve, reject) => {
      recvmsg.async(socket, header, MSG_CMSG_CLOEXEC, (error, result) => (error ? reject(error) : resolve(Number(result))));
    });
    if (length < 0) throw new FsError('EIO', 'recvmsg');
    const { cmsg_len, cmsg_level, cmsg_type, cmsg_fd: fd } = cmsg_fd.read(control);
    const isThere = length > 0 && msghdr.read(header).msg_controllen >= 20 && cmsg_len === 20;
    return isThere && cmsg_level === SOL_SOCKET && cmsg_type === SCM_RIGHTS ? fd : undefined;
  }

  /** Registers `fd` with the connection of the device. Shape: the kernel's number of it. */
  fuseBackingOpen(device: number, fd: number): number {
    const raw = new Uint8Array(fuse_backing_map.size);
    fuse_backing_map.write(raw, 0, { fd });
    return this.#call('ioctl', device, FUSE_DEV_IOC_BACKING_OPEN, raw);
  }

  fuseBackingClose(device: number, backingId: number): void {
    this.#call('ioctl', device, FUSE_DEV_IOC_BACKING_CLOSE, Uint32Array.of(backingId));
  }

  // Of the calling thread, and of no other.

  /** Who the thread is to file systems (fsuid). Shape: who it was. Refusals do not show: -1 asks who it is. */
  setfsuid(uid: number): number {
    return this.#call('setfsuid', uid >>> 0);
  }

  setfsgid(gid: number): number {
    return this.#call('setfsgid', gid >>> 0);
  }

  /** Supplementary groups. */
  getgroups(): number[] {
    const groups = new Uint32Array(this.#call('getgroups', 0, null));
    return [...groups.subarray(0, this.#call('getgroups', groups.length, groups))];
  }

  /** Changes them. Errors: ENOSYS on machines of which the number of the call is not known. */
  setThreadGroups(groups: readonly number[]): void {
    const number = SYS_SETGROUPS[process.arch];
    if (number === undefined) throw new FsError('ENOSYS', 'setgroups', { detail: process.arch });
    this.#call('setgroups', number, groups.length, Uint32Array.from(groups));
  }

  capget(): Capabilities {
    const data = new Uint8Array(2 * cap_user_data.size);
    this.#call('capget', capHeader(), data);
    const [low, high] = [cap_user_data.read(data), cap_user_data.read(data, cap_user_data.size)];
    const both = (name: keyof typeof low): bigint => (BigInt(high[name]) << 32n) | BigInt(low[name]);
    return { effective: both('effective'), permitted: both('permitted'), inheritable: both('inheritable') };
  }

  capset(capabilities: Capabilities): void {
    const data = new Uint8Array(2 * cap_user_data.size);
    for (const half of [0, 1]) {
      const word = (bits: bigint): number => Number((bits >> BigInt(32 * half)) & 0xffffffffn);
      const { effective, permitted, inheritable } = capabilities;
      const words = { effective: word(effective), permitted: word(permitted), inheritable: word(inheritable) };
      cap_user_data.write(data, half * cap_user_data.size, words);
    }
    this.#call('capset', capHeader(), data);
  }

  /** `flags` are CLONE_*: from here on the thread has these for itself. */
  unshare(flags: number): void {
    this.#call('unshare', flags);
  }

  // Of the process; the mask is the thread's own after unshare(CLONE_FS).

  /** Shape: the mask that it was. */
  umask(mask: number): number {
    return this.#call('umask', mask);
  }

  /** Shape: the soft limit and the hard one. */
  getrlimit(resource: number): [bigint, bigint] {
    const out = new Uint8Array(rlimit.size);
    this.#call('getrlimit', resource, out);
    const { rlim_cur, rlim_max } = rlimit.read(out);
    return [rlim_cur, rlim_max];
  }

  setrlimit(resource: number, rlim_cur: bigint, rlim_max: bigint): void {
    const raw = new Uint8Array(rlimit.size);
    rlimit.write(raw, 0, { rlim_cur, rlim_max });
    this.#call('setrlimit', resource, raw);
  }

  /** Where memory is, for calls that want it at multiples of something. */
  addressOf(memory: Uint8Array): bigint {
    return this.#native.address(memory);
  }

  #call(name: keyof typeof CALLS, ...args: unknown[]): number {
    const result = this.#native.calls[name](...args);
    if (result < 0) throw FsError.of(this.#native.errno(), name === 'fcntlLock' ? 'fcntl' : name);
    return Number(result);
  }

  #vec(buffers: readonly Uint8Array[]): Uint8Array {
    const raw = new Uint8Array(buffers.length * iovec.size);
    buffers.forEach((each, i) => {
      const address = each.length === 0 ? 0 : Number(this.#native.address(each));
      iovec.write(raw, i * iovec.size, { iov_base: address, iov_len: each.length });
    });
    return raw;
  }
}

// biome-ignore format: one row per call
const CALLS = {
  open:            'int open(const void *path, int flags, uint32_t mode)',
  openat:          'int openat(int dirfd, const void *path, int flags, uint32_t mode)',
  close:           'int close(int fd)',
  read:            'int64_t read(int fd, void *into, size_t length)',
  write:           'int64_t write(int fd, const void *from, size_t length)',
  pread:           'int64_t pread(int fd, void *into, size_t length, int64_t pos)',
  pwrite:          'int64_t pwrite(int fd, const void *from, size_t length, int64_t pos)',
  preadv2:         'int64_t preadv2(int fd, const void *vec, int count, int64_t pos, int flags)',
  pwritev2:        'int64_t pwritev2(int fd, const void *vec, int count, int64_t pos, int flags)',
  lseek:           'int64_t lseek(int fd, int64_t offset, int whence)',
  statx:           'int statx(int dirfd, const void *path, int flags, uint32_t mask, void *out)',
  statfs:          'int statfs(const void *path, void *out)',
  mkdir:           'int mkdir(const void *path, uint32_t mode)',
  mknod:           'int mknod(const void *path, uint32_t mode, uint64_t rdev)',
  unlink:          'int unlink(const void *path)',
  rmdir:           'int rmdir(const void *path)',
  mkdirat:         'int mkdirat(int dirfd, const void *path, uint32_t mode)',
  mknodat:         'int mknodat(int dirfd, const void *path, uint32_t mode, uint64_t rdev)',
  unlinkat:        'int unlinkat(int dirfd, const void *path, int flags)',
  symlinkat:       'int symlinkat(const void *target, int dirfd, const void *path)',
  readlinkat:      'int64_t readlinkat(int dirfd, const void *path, void *out, size_t length)',
  symlink:         'int symlink(const void *target, const void *path)',
  readlink:        'int64_t readlink(const void *path, void *out, size_t length)',
  linkat:          'int linkat(int dirfd, const void *existing, int newdirfd, const void *path, int flags)',
  renameat2:       'int renameat2(int dirfd, const void *from, int newdirfd, const void *to, uint32_t flags)',
  chmod:           'int chmod(const void *path, uint32_t mode)',
  fchmod:          'int fchmod(int fd, uint32_t mode)',
  fchownat:        'int fchownat(int dirfd, const void *path, int32_t uid, int32_t gid, int flags)',
  utimensat:       'int utimensat(int dirfd, const void *path, const void *times, int flags)',
  futimens:        'int futimens(int fd, const void *times)',
  faccessat:       'int faccessat(int dirfd, const void *path, int mask, int flags)',
  truncate:        'int truncate(const void *path, int64_t size)',
  ftruncate:       'int ftruncate(int fd, int64_t size)',
  fsync:           'int fsync(int fd)',
  fdatasync:       'int fdatasync(int fd)',
  syncfs:          'int syncfs(int fd)',
  fallocate:       'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
  copy_file_range: 'int64_t copy_file_range(int fdIn, void *posIn, int fdOut, void *posOut, size_t length, uint32_t flags)',
  getdents64:      'int64_t getdents64(int fd, void *out, size_t length)',
  getxattr:        'int64_t getxattr(const void *path, const void *name, void *out, size_t length)',
  lgetxattr:       'int64_t lgetxattr(const void *path, const void *name, void *out, size_t length)',
  fgetxattr:       'int64_t fgetxattr(int fd, const void *name, void *out, size_t length)',
  setxattr:        'int setxattr(const void *path, const void *name, const void *value, size_t length, int flags)',
  lsetxattr:       'int lsetxattr(const void *path, const void *name, const void *value, size_t length, int flags)',
  fsetxattr:       'int fsetxattr(int fd, const void *name, const void *value, size_t length, int flags)',
  listxattr:       'int64_t listxattr(const void *path, void *out, size_t length)',
  llistxattr:      'int64_t llistxattr(const void *path, void *out, size_t length)',
  flistxattr:      'int64_t flistxattr(int fd, void *out, size_t length)',
  removexattr:     'int removexattr(const void *path, const void *name)',
  lremovexattr:    'int lremovexattr(const void *path, const void *name)',
  fremovexattr:    'int fremovexattr(int fd, const void *name)',
  fcntl:           'int fcntl(int fd, int cmd, int64_t arg)', // declared with `...` in C, which passes these the same way
  fcntlLock:       'int fcntl(int fd, int cmd, void *arg)',
  flock:           'int flock(int fd, int operation)',
  ioctl:           'int ioctl(int fd, uint64_t cmd, void *arg)',
  mount:           'int mount(const void *source, const void *target, const void *type, uint64_t flags, const void *data)',
  umount2:         'int umount2(const void *target, int flags)',
  setfsuid:        'uint32_t setfsuid(uint32_t uid)',
  setfsgid:        'uint32_t setfsgid(uint32_t gid)',
  getgroups:       'int getgroups(int count, void *groups)',
  setgroups:       'int64_t syscall(int64_t number, size_t count, const void *groups)', // variadic too
  capget:          'int capget(const void *header, void *data)',
  capset:          'int capset(const void *header, const void *data)',
  unshare:         'int unshare(int flags)',
  umask:           'uint32_t umask(uint32_t mask)',
  getrlimit:       'int getrlimit(int resource, void *out)',
  setrlimit:       'int setrlimit(int resource, const void *limits)',
  socketpair:      'int socketpair(int domain, int type, int protocol, void *ends)',
  recvmsg:         'int64_t recvmsg(int fd, void *header, int flags)',
};

interface NativeCall {
  (...args: unknown[]): number | bigint;
  /** In a thread of Node's pool; the last argument is called with the result. */
  async(...args: [...unknown[], (error: unknown, result: number | bigint) => void]): void;
}

/** Memory that stays where it is. */
type Pinned = Uint8Array;

interface Native {
  readonly calls: Record<keyof typeof CALLS, NativeCall>;
  errno(): number;
  address(memory: Uint8Array): bigint;
}

let loaded: Native | undefined;

function load(): Native {
  if (loaded !== undefined) return loaded;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const library = koffi.load(null);
    const calls = Object.fromEntries(Object.entries(CALLS).map(([name, definition]) => [name, library.func(definition)]));
    loaded = { calls: calls as unknown as Native['calls'], errno: () => koffi.errno(), address: (memory) => koffi.address(memory) };
    return loaded;
  } catch (cause) {
    throw new FsError('ENOSYS', 'dlopen', { cause, detail: 'the C library cannot be called: koffi or a symbol is missing' });
  }
}

/** Small arrays live on JavaScript's heap, and move, unless they are views of a buffer that was made for them. */
function pinned(bytes: number): Pinned {
  return new Uint8Array(new ArrayBuffer(bytes));
}

function capHeader(): Uint8Array {
  const raw = new Uint8Array(cap_user_header.size);
  cap_user_header.write(raw, 0, { version: CAPABILITY_VERSION_3, pid: 0 });
  return raw;
}

function cstring(text: Uint8Array): Uint8Array {
  const out = new Uint8Array(text.length + 1);
  out.set(text);
  return out;
}

function timespecs(atime: Timespec, mtime: Timespec): Uint8Array {
  const raw = new Uint8Array(2 * timespec.size);
  timespec.write(raw, 0, { tv_sec: atime.sec, tv_nsec: atime.nsec });
  timespec.write(raw, timespec.size, { tv_sec: mtime.sec, tv_nsec: mtime.nsec });
  return raw;
}
