import { PAGE_SIZE } from '../../pagecache/page-memory.ts';
import type { Attr, Timespec } from '../../vfs/attr.ts';
import { type PosixAcl, parseAcl } from '../../vfs/posix-acl.ts';
import { isDirectory, S_IFMT } from '../../vfs/uapi.ts';
import { BlockMap } from './block-map.ts';
import { Directory } from './directory.ts';
import type { FileInode } from './mem-data.ts';

/** Unit of storage, bytes: what the page cache and the memory of blocks have pages of. */
export const BLOCK_SIZE: number = PAGE_SIZE;
/** Units of Attr.blocks in a block. */
const SECTORS = BLOCK_SIZE / 512;
/** Bytes that a name adds to the size of its directory, as on tmpfs. */
const DIRENT_SIZE = 20;

// Which times an operation changes.
export const ATIME = 1 << 0;
export const MTIME = 1 << 1;
export const CTIME = 1 << 2;

/**
 * A file of any type.
 *
 * It lives while a name leads to it, the face remembers it (`nlookup`) or it is open (`opens`); the first keeps it, the others keep
 * the number known.
 */
export class MemInode {
  /** What getattr answers, with size and times as of the last time they were asked for (`stat`). */
  readonly attr: Attr;
  nlookup = 0;
  opens = 0;
  /** link(2) may give it its first name: made by tmpfile, without O_EXCL. */
  isLinkable = false;
  /** Directories: their names. */
  readonly directory: Directory | undefined;
  /** Symbolic links: where they lead. */
  target: string | undefined = undefined;
  /** Regular files: where their blocks are, once there are some. */
  #blocks: BlockMap | undefined = undefined;
  /** Regular files: the engine's inode, while somebody is interested in the data. It has the size then. */
  file: FileInode | undefined = undefined;
  /** Extended attributes, ACLs among them. */
  xattrs: Map<string, Uint8Array> | undefined = undefined;

  constructor(ino: number, mode: number, uid: number, gid: number, rdev: number, now: Timespec, parent: MemInode | undefined) {
    const { sec, nsec } = now;
    this.attr = {
      ino,
      size: 0,
      blocks: 0,
      blksize: BLOCK_SIZE,
      mode,
      nlink: 0,
      uid,
      gid,
      rdev,
      atime: sec,
      atimeNsec: nsec,
      mtime: sec,
      mtimeNsec: nsec,
      ctime: sec,
      ctimeNsec: nsec,
      btime: sec,
      btimeNsec: nsec,
    };
    this.directory = isDirectory(mode) ? new Directory(parent) : undefined;
  }

  get blocks(): BlockMap {
    this.#blocks ??= new BlockMap();
    return this.#blocks;
  }

  /** Blocks that are stored or reserved: what its owner is charged for. */
  get blockCount(): number {
    return this.attr.blocks / SECTORS;
  }

  set blockCount(count: number) {
    this.attr.blocks = count * SECTORS;
  }

  /** S_IFMT bits. */
  get type(): number {
    return this.attr.mode & S_IFMT;
  }

  /** The attributes now, the caller's own. */
  stat(): Attr {
    const { attr } = this;
    if (this.file !== undefined) attr.size = this.file.size;
    else if (this.directory !== undefined) attr.size = this.directory.count * DIRENT_SIZE;
    return { ...attr };
  }

  /** Sets some of the times. */
  touch(times: number, { sec, nsec }: Timespec): void {
    const { attr } = this;
    if ((times & ATIME) !== 0) {
      attr.atime = sec;
      attr.atimeNsec = nsec;
    }
    if ((times & MTIME) !== 0) {
      attr.mtime = sec;
      attr.mtimeNsec = nsec;
    }
    if ((times & CTIME) !== 0) {
      attr.ctime = sec;
      attr.ctimeNsec = nsec;
    }
  }

  /** The ACL that an attribute holds. */
  acl(name: string): PosixAcl | undefined {
    const value = this.xattrs?.get(name);
    return value === undefined ? undefined : parseAcl(value);
  }

  setXattr(name: string, value: Uint8Array): void {
    this.xattrs ??= new Map();
    this.xattrs.set(name, value);
  }
}
