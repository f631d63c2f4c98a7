// What INIT agrees on: 64 flags in two words. The masks are numbers, exact powers of two; past bit 31 no bit operator sees them, so
// sets of them are pairs of words, as on the wire. Source: Linux include/uapi/linux/fuse.h.

/** The two words of fuse_init_in and fuse_init_out. */
export interface InitFlags {
  /** Bits 0 to 31. */
  flags: number;
  /** Bits 32 to 63, which count only with FUSE_INIT_EXT. */
  flags2: number;
}

export interface InitFlagRow {
  readonly name: string;
  readonly bit: number;
  /** Minor version of the protocol. */
  readonly since: number;
  /** The kernel tells what it has; a server has nothing to ask for. */
  readonly informational: boolean;
  readonly meaning: string;
}

export const FUSE_ASYNC_READ = 2 ** 0;
export const FUSE_POSIX_LOCKS = 2 ** 1;
export const FUSE_FILE_OPS = 2 ** 2;
export const FUSE_ATOMIC_O_TRUNC = 2 ** 3;
export const FUSE_EXPORT_SUPPORT = 2 ** 4;
export const FUSE_BIG_WRITES = 2 ** 5;
export const FUSE_DONT_MASK = 2 ** 6;
export const FUSE_SPLICE_WRITE = 2 ** 7;
export const FUSE_SPLICE_MOVE = 2 ** 8;
export const FUSE_SPLICE_READ = 2 ** 9;
export const FUSE_FLOCK_LOCKS = 2 ** 10;
export const FUSE_HAS_IOCTL_DIR = 2 ** 11;
export const FUSE_AUTO_INVAL_DATA = 2 ** 12;
export const FUSE_DO_READDIRPLUS = 2 ** 13;
export const FUSE_READDIRPLUS_AUTO = 2 ** 14;
export const FUSE_ASYNC_DIO = 2 ** 15;
export const FUSE_WRITEBACK_CACHE = 2 ** 16;
export const FUSE_NO_OPEN_SUPPORT = 2 ** 17;
export const FUSE_PARALLEL_DIROPS = 2 ** 18;
export const FUSE_HANDLE_KILLPRIV = 2 ** 19;
export const FUSE_POSIX_ACL = 2 ** 20;
export const FUSE_ABORT_ERROR = 2 ** 21;
export const FUSE_MAX_PAGES = 2 ** 22;
export const FUSE_CACHE_SYMLINKS = 2 ** 23;
export const FUSE_NO_OPENDIR_SUPPORT = 2 ** 24;
export const FUSE_EXPLICIT_INVAL_DATA = 2 ** 25;
export const FUSE_MAP_ALIGNMENT = 2 ** 26;
export const FUSE_SUBMOUNTS = 2 ** 27;
export const FUSE_HANDLE_KILLPRIV_V2 = 2 ** 28;
export const FUSE_SETXATTR_EXT = 2 ** 29;
export const FUSE_INIT_EXT = 2 ** 30;
export const FUSE_INIT_RESERVED = 2 ** 31;
export const FUSE_SECURITY_CTX = 2 ** 32;
export const FUSE_HAS_INODE_DAX = 2 ** 33;
export const FUSE_CREATE_SUPP_GROUP = 2 ** 34;
export const FUSE_HAS_EXPIRE_ONLY = 2 ** 35;
export const FUSE_DIRECT_IO_ALLOW_MMAP = 2 ** 36;
export const FUSE_PASSTHROUGH = 2 ** 37;
export const FUSE_NO_EXPORT_SUPPORT = 2 ** 38;
export const FUSE_HAS_RESEND = 2 ** 39;
export const FUSE_ALLOW_IDMAP = 2 ** 40;
export const FUSE_OVER_IO_URING = 2 ** 41;
export const FUSE_REQUEST_TIMEOUT = 2 ** 42;

const INFORMATIONAL = true;

function flag(name: string, bit: number, since: number, meaning: string, informational = false): InitFlagRow {
  return { name, bit, since, meaning, informational };
}

/** One row per flag, by bit. */
// biome-ignore format: one row per flag
export const INIT_FLAGS: readonly InitFlagRow[] = [
  flag('FUSE_ASYNC_READ',           0,  6,  'reads of one file may run beside each other'),
  flag('FUSE_POSIX_LOCKS',          1,  7,  'byte-range locks come as GETLK, SETLK, SETLKW; FLUSH takes those of its owner back'),
  flag('FUSE_FILE_OPS',             2,  9,  'never used'),
  flag('FUSE_ATOMIC_O_TRUNC',       3,  9,  'OPEN carries O_TRUNC and truncates; otherwise SETATTR follows'),
  flag('FUSE_EXPORT_SUPPORT',       4,  10, 'LOOKUP answers "." and "..", also after FORGET, so that file handles outlive the cache'),
  flag('FUSE_BIG_WRITES',           5,  9,  'writes above 4 KiB'),
  flag('FUSE_DONT_MASK',            6,  12, 'the umask is for the server to apply'),
  flag('FUSE_SPLICE_WRITE',         7,  14, 'the device takes splice', INFORMATIONAL),
  flag('FUSE_SPLICE_MOVE',          8,  14, 'spliced pages may be moved', INFORMATIONAL),
  flag('FUSE_SPLICE_READ',          9,  14, 'the device gives splice', INFORMATIONAL),
  flag('FUSE_FLOCK_LOCKS',          10, 17, 'flock comes as SETLK, SETLKW with FUSE_LK_FLOCK; RELEASE takes it back'),
  flag('FUSE_HAS_IOCTL_DIR',        11, 18, 'IOCTL on directories', INFORMATIONAL),
  flag('FUSE_AUTO_INVAL_DATA',      12, 20, 'cached pages are dropped when fresh attributes show another mtime or size'),
  flag('FUSE_DO_READDIRPLUS',       13, 21, 'READDIRPLUS instead of READDIR'),
  flag('FUSE_READDIRPLUS_AUTO',     14, 21, 'with FUSE_DO_READDIRPLUS: where a heuristic expects it to pay'),
  flag('FUSE_ASYNC_DIO',            15, 22, 'direct I/O of one call in parallel requests'),
  flag('FUSE_WRITEBACK_CACHE',      16, 23, 'the kernel owns size, mtime, ctime of files, and writes later; excludes FUSE_PASSTHROUGH'),
  flag('FUSE_NO_OPEN_SUPPORT',      17, 23, 'ENOSYS to OPEN ends opens', INFORMATIONAL),
  flag('FUSE_PARALLEL_DIROPS',      18, 25, 'lookups and listings of one directory may run beside each other'),
  flag('FUSE_HANDLE_KILLPRIV',      19, 26, 'the server clears set-id bits and file capabilities at every write, chown, truncate'),
  flag('FUSE_POSIX_ACL',            20, 26, 'the kernel checks ACLs; implies default_permissions'),
  flag('FUSE_ABORT_ERROR',          21, 27, 'reading the device after an abort is ECONNABORTED, not ENODEV'),
  flag('FUSE_MAX_PAGES',            22, 28, 'max_pages is meant'),
  flag('FUSE_CACHE_SYMLINKS',       23, 28, 'targets of links are cached until they are invalidated'),
  flag('FUSE_NO_OPENDIR_SUPPORT',   24, 29, 'ENOSYS to OPENDIR ends opens of directories, whose listings are cached then', INFORMATIONAL),
  flag('FUSE_EXPLICIT_INVAL_DATA',  25, 30, 'cached pages are dropped by notification only; ignored with FUSE_AUTO_INVAL_DATA'),
  flag('FUSE_MAP_ALIGNMENT',        26, 31, 'map_alignment is meant (DAX)'),
  flag('FUSE_SUBMOUNTS',            27, 32, 'FUSE_ATTR_SUBMOUNT makes a mount (virtiofs)'),
  flag('FUSE_HANDLE_KILLPRIV_V2',   28, 33, 'as before, but set-id bits only where a KILL_SUIDGID flag says so'),
  flag('FUSE_SETXATTR_EXT',         29, 33, 'fuse_setxattr_in in its long form'),
  flag('FUSE_INIT_EXT',             30, 36, 'flags2 is meant, in both directions'),
  flag('FUSE_INIT_RESERVED',        31, 36, 'always 0'),
  flag('FUSE_SECURITY_CTX',         32, 36, 'creating operations carry security contexts'),
  flag('FUSE_HAS_INODE_DAX',        33, 36, 'FUSE_ATTR_DAX works (virtiofs)'),
  flag('FUSE_CREATE_SUPP_GROUP',    34, 38, "creating operations carry the caller's supplementary group that is the directory's"),
  flag('FUSE_HAS_EXPIRE_ONLY',      35, 38, 'FUSE_EXPIRE_ONLY works', INFORMATIONAL),
  flag('FUSE_DIRECT_IO_ALLOW_MMAP', 36, 39, 'shared mappings of files open with FOPEN_DIRECT_IO'),
  flag('FUSE_PASSTHROUGH',          37, 40, 'FOPEN_PASSTHROUGH works; needs max_stack_depth 1 or 2, and no FUSE_WRITEBACK_CACHE'),
  flag('FUSE_NO_EXPORT_SUPPORT',    38, 40, 'file handles cannot be opened'),
  flag('FUSE_HAS_RESEND',           39, 40, 'FUSE_NOTIFY_RESEND works', INFORMATIONAL),
  flag('FUSE_ALLOW_IDMAP',          40, 41, 'id-mapped mounts; needs default_permissions or FUSE_POSIX_ACL'),
  flag('FUSE_OVER_IO_URING',        41, 42, 'requests come by io_uring once all queues are registered'),
  flag('FUSE_REQUEST_TIMEOUT',      42, 43, 'request_timeout is meant; one late answer ends the session'),
];

/** Is the flag of this mask in the set? */
export function hasInitFlag(set: Readonly<InitFlags>, mask: number): boolean {
  return mask < 2 ** 32 ? (set.flags & mask) !== 0 : (set.flags2 & (mask / 2 ** 32)) !== 0;
}

/** The set of these masks, with FUSE_INIT_EXT if one of them needs it. */
export function initFlagsOf(...masks: readonly number[]): InitFlags {
  const set: InitFlags = { flags: 0, flags2: 0 };
  for (const mask of masks) {
    if (mask < 2 ** 32) set.flags = (set.flags | mask) >>> 0;
    else set.flags2 = (set.flags2 | (mask / 2 ** 32)) >>> 0;
  }
  if (set.flags2 !== 0) set.flags = (set.flags | FUSE_INIT_EXT) >>> 0;
  return set;
}

/** Names of the flags in a set, those of bits without a name as 'bit 43'. */
export function initFlagNames(set: Readonly<InitFlags>): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) if (hasInitFlag(set, 2 ** bit)) names.push(INIT_FLAGS[bit]?.name ?? `bit ${bit}`);
  return names;
}
