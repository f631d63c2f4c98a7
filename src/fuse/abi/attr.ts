import { type fuse_attr, fuse_statx, fuse_sx_time, type ViewOf } from './structs.ts';

// Attributes, entries and statistics on their way to and from the wire. The interfaces have the words of the FileSystem interface, so that
// its answers are encoded as they are.

/** Attributes of an inode. Times are whole seconds since 1970 and nanoseconds after them; blocks are units of 512 bytes. */
export interface WireAttr {
  ino: number;
  size: number;
  blocks: number;
  blksize: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
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

export interface WireEntry {
  /** 0: there is no such name. */
  readonly node: number;
  readonly generation: number;
  readonly attr: Readonly<WireAttr>;
  readonly entryValidMs: number;
  readonly attrValidMs: number;
}

export interface WireStatFs {
  /** Unit of the counts, bytes. */
  bsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  /** Bytes. */
  namelen: number;
}

/** "For ever" on the wire: 136 years, which fits every clock of the kernel. */
const VALID_SEC_MAX = 2 ** 32 - 1;

/** Whole seconds of a validity in milliseconds, which may be Infinity. */
export function validSec(ms: number): number {
  return Math.min(Math.floor(ms / 1000), VALID_SEC_MAX);
}

/** Nanoseconds after them. */
export function validNsec(ms: number): number {
  return ms / 1000 >= VALID_SEC_MAX ? 0 : Math.floor((ms % 1000) * 1e6);
}

/** The other way. */
export function validMs(sec: number, nsec: number): number {
  return sec >= VALID_SEC_MAX ? Number.POSITIVE_INFINITY : sec * 1000 + nsec / 1e6;
}

/** Errors: EOVERFLOW for what the field of 32 bits cannot hold. */
export function putAttr(view: ViewOf<typeof fuse_attr>, attr: Readonly<WireAttr>, flags: number): void {
  view.ino = attr.ino;
  view.size = attr.size;
  view.blocks = attr.blocks;
  view.atime = attr.atime;
  view.mtime = attr.mtime;
  view.ctime = attr.ctime;
  view.atimensec = attr.atimeNsec;
  view.mtimensec = attr.mtimeNsec;
  view.ctimensec = attr.ctimeNsec;
  view.mode = attr.mode;
  view.nlink = attr.nlink;
  view.uid = attr.uid;
  view.gid = attr.gid;
  view.rdev = attr.rdev;
  view.blksize = attr.blksize;
  view.flags = flags;
}

/**
 * Fills `into` with all that a fuse_attr tells, so all but the time of birth.
 *
 * Errors: EOVERFLOW for what no file has.
 */
export function takeAttr(view: ViewOf<typeof fuse_attr>, into: WireAttr): void {
  into.ino = view.ino;
  into.size = view.size;
  into.blocks = view.blocks;
  into.atime = view.atime;
  into.mtime = view.mtime;
  into.ctime = view.ctime;
  into.atimeNsec = view.atimensec;
  into.mtimeNsec = view.mtimensec;
  into.ctimeNsec = view.ctimensec;
  into.mode = view.mode;
  into.nlink = view.nlink;
  into.uid = view.uid;
  into.gid = view.gid;
  into.rdev = view.rdev;
  into.blksize = view.blksize;
}

// Moved within one call only.
const statx = fuse_statx.view();
const sxTime = fuse_sx_time.view();

/** Writes the struct at `at`, all of it. `mask`: STATX_*, what is filled. */
export function putStatx(bytes: Uint8Array, at: number, attr: Readonly<WireAttr>, mask: number): void {
  bytes.fill(0, at, at + fuse_statx.size);
  const view = statx.at(bytes, at);
  view.mask = mask;
  view.blksize = attr.blksize;
  view.nlink = attr.nlink;
  view.uid = attr.uid;
  view.gid = attr.gid;
  view.mode = attr.mode;
  view.ino = attr.ino;
  view.size = attr.size;
  view.blocks = attr.blocks;
  view.rdev_major = (attr.rdev >>> 8) & 0xfff;
  view.rdev_minor = (attr.rdev & 0xff) | ((attr.rdev >>> 12) & 0xfff00);
  putTime(bytes, at + fuse_statx.offsetOf('atime'), attr.atime, attr.atimeNsec);
  putTime(bytes, at + fuse_statx.offsetOf('btime'), attr.btime, attr.btimeNsec);
  putTime(bytes, at + fuse_statx.offsetOf('ctime'), attr.ctime, attr.ctimeNsec);
  putTime(bytes, at + fuse_statx.offsetOf('mtime'), attr.mtime, attr.mtimeNsec);
}

/** Fills `into`. Shape: the mask of what the peer filled. Errors: as takeAttr. */
export function takeStatx(bytes: Uint8Array, at: number, into: WireAttr): number {
  const view = statx.at(bytes, at);
  into.blksize = view.blksize;
  into.nlink = view.nlink;
  into.uid = view.uid;
  into.gid = view.gid;
  into.mode = view.mode;
  into.ino = view.ino;
  into.size = view.size;
  into.blocks = view.blocks;
  into.rdev = ((view.rdev_minor & 0xff) | ((view.rdev_major & 0xfff) << 8) | ((view.rdev_minor & 0xfff00) << 12)) >>> 0;
  sxTime.at(bytes, at + fuse_statx.offsetOf('atime'));
  into.atime = sxTime.tv_sec;
  into.atimeNsec = sxTime.tv_nsec;
  sxTime.at(bytes, at + fuse_statx.offsetOf('btime'));
  into.btime = sxTime.tv_sec;
  into.btimeNsec = sxTime.tv_nsec;
  sxTime.at(bytes, at + fuse_statx.offsetOf('ctime'));
  into.ctime = sxTime.tv_sec;
  into.ctimeNsec = sxTime.tv_nsec;
  sxTime.at(bytes, at + fuse_statx.offsetOf('mtime'));
  into.mtime = sxTime.tv_sec;
  into.mtimeNsec = sxTime.tv_nsec;
  return view.mask;
}

function putTime(bytes: Uint8Array, at: number, sec: number, nsec: number): void {
  sxTime.at(bytes, at);
  sxTime.tv_sec = sec;
  sxTime.tv_nsec = nsec;
}
