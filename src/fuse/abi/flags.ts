// Flag words, limits and ioctl numbers of FUSE up to protocol 7.45. A version behind a name is the minor that introduced it.
// Source: Linux include/uapi/linux/fuse.h.

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor that these tables know. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
export const FUSE_ROOT_ID = 1;

/** Bytes of the smallest buffer that the device accepts for a read. */
export const FUSE_MIN_READ_BUFFER = 8192;
/** Errors of replies are -1 to -FUSE_ERRNO_MAX; beyond are numbers of the kernel's own. Not in the header. */
export const FUSE_ERRNO_MAX = 511;

// fuse_setattr_in.valid.
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_FH = 1 << 6; // 7.3
export const FATTR_ATIME_NOW = 1 << 7; // 7.9
export const FATTR_MTIME_NOW = 1 << 8; // 7.9
export const FATTR_LOCKOWNER = 1 << 9; // 7.9
export const FATTR_CTIME = 1 << 10; // 7.23
export const FATTR_KILL_SUIDGID = 1 << 11; // 7.33

// fuse_open_out.open_flags.
/** Past the page cache: no readahead, short answers stay short. Shared mappings need FUSE_DIRECT_IO_ALLOW_MMAP. */
export const FOPEN_DIRECT_IO = 1 << 0; // 7.2
/** Cached pages survive this open; without it they are dropped. */
export const FOPEN_KEEP_CACHE = 1 << 1; // 7.2
export const FOPEN_NONSEEKABLE = 1 << 2; // 7.10
/** Listings are kept in the page cache; across opens only with FOPEN_KEEP_CACHE. */
export const FOPEN_CACHE_DIR = 1 << 3; // 7.28
/** No position at all: reads and writes of one open file run beside each other. */
export const FOPEN_STREAM = 1 << 4; // 7.31
/** No FLUSH at close. Ignored with FUSE_WRITEBACK_CACHE. */
export const FOPEN_NOFLUSH = 1 << 5; // 7.35
/** With FOPEN_DIRECT_IO: writes that do not extend the file run beside each other. */
export const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6; // 7.38
/** backing_id is meant. */
export const FOPEN_PASSTHROUGH = 1 << 7; // 7.40

// fuse_open_in.open_flags, fuse_create_in.open_flags.
/** With O_TRUNC: the opener may not keep set-id bits. */
export const FUSE_OPEN_KILL_SUIDGID = 1 << 0; // 7.33

// fuse_getattr_in.getattr_flags.
export const FUSE_GETATTR_FH = 1 << 0; // 7.9

// fuse_attr.flags.
export const FUSE_ATTR_SUBMOUNT = 1 << 0; // 7.32
export const FUSE_ATTR_DAX = 1 << 1; // 7.36

// fuse_read_in.read_flags.
export const FUSE_READ_LOCKOWNER = 1 << 1; // 7.9

// fuse_write_in.write_flags.
/** Written back from the page cache: fh is any writable handle of the inode, and the flags word is 0. */
export const FUSE_WRITE_CACHE = 1 << 0; // 7.9
export const FUSE_WRITE_LOCKOWNER = 1 << 1; // 7.9
export const FUSE_WRITE_KILL_SUIDGID = 1 << 2; // 7.31, as FUSE_WRITE_KILL_PRIV

// fuse_release_in.release_flags.
export const FUSE_RELEASE_FLUSH = 1 << 0; // 7.8
/** lock_owner is meant: its flock goes with the open file. */
export const FUSE_RELEASE_FLOCK_UNLOCK = 1 << 1; // 7.17

// fuse_fsync_in.fsync_flags.
export const FUSE_FSYNC_FDATASYNC = 1 << 0; // 7.1

// fuse_lk_in.lk_flags.
export const FUSE_LK_FLOCK = 1 << 0; // 7.9

// fuse_ioctl_in.flags, fuse_ioctl_out.flags.
export const FUSE_IOCTL_COMPAT = 1 << 0; // 7.11
export const FUSE_IOCTL_UNRESTRICTED = 1 << 1; // 7.11, of CUSE only
export const FUSE_IOCTL_RETRY = 1 << 2; // 7.11, of CUSE only
export const FUSE_IOCTL_32BIT = 1 << 3; // 7.16
export const FUSE_IOCTL_DIR = 1 << 4; // 7.18
export const FUSE_IOCTL_COMPAT_X32 = 1 << 5; // 7.30
export const FUSE_IOCTL_MAX_IOV = 256;

// fuse_poll_in.flags.
export const FUSE_POLL_SCHEDULE_NOTIFY = 1 << 0; // 7.11

// fuse_setxattr_in.setxattr_flags.
/** An access ACL is set by one who may not keep S_ISGID. */
export const FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0; // 7.33

// fuse_notify_inval_entry_out.flags.
/** The name is asked for again at its next use, and nobody waits for a lock. */
export const FUSE_EXPIRE_ONLY = 1 << 0; // 7.38

// fuse_setupmapping_in.flags.
export const FUSE_SETUPMAPPING_FLAG_WRITE = 1 << 0; // 7.31
export const FUSE_SETUPMAPPING_FLAG_READ = 1 << 1; // 7.31
/** fuse_removemapping_one in one message. In the header a page divided by their size. */
export const FUSE_REMOVEMAPPING_MAX_ENTRY = 256;

// fuse_ext_header.type.
/** Types up to here are the count of a fuse_secctx_header. */
export const FUSE_MAX_NR_SECCTX = 31; // 7.38
export const FUSE_EXT_GROUPS = 32; // 7.38

// cuse_init_in.flags.
export const CUSE_UNRESTRICTED_IOCTL = 1 << 0; // 7.12
/** Bytes of the strings that follow a cuse_init_out. */
export const CUSE_INIT_INFO_MAX = 4096;

// ioctl(2) on the device.
export const FUSE_DEV_IOC_MAGIC = 229;
/** Argument: u32, the descriptor of a device that has a session. */
export const FUSE_DEV_IOC_CLONE = 0x8004e500; // 7.15
/** Argument: fuse_backing_map. Answers a number above 0. */
export const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501; // 7.40
/** Argument: u32, that number. */
export const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502; // 7.40
/** mount(2) waits for the answer to INIT. */
export const FUSE_DEV_IOC_SYNC_INIT = 0xe503; // 7.45

// Commands of a ring.
export const FUSE_URING_IN_OUT_HEADER_SZ = 128; // 7.42
export const FUSE_URING_OP_IN_OUT_SZ = 128; // 7.42
export const FUSE_IO_URING_CMD_REGISTER = 1; // 7.42
export const FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2; // 7.42

// Masks of fuse_statx_in.sx_mask and fuse_statx.mask. Source: Linux include/uapi/linux/stat.h.
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
