import type { Attr, StatFs as StatFsAttr } from '../vfs/attr.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../vfs/uapi.ts';

/** Nanoseconds of a millisecond, for bigints. */
const NS_PER_MS = 1_000_000n;

/** What Stats and BigIntStats share: what the mode and the times in milliseconds tell. */
abstract class StatsBase<N extends number | bigint> {
  abstract readonly mode: N;
  abstract readonly atimeMs: N;
  abstract readonly mtimeMs: N;
  abstract readonly ctimeMs: N;
  abstract readonly birthtimeMs: N;

  get atime(): Date {
    return dateOf(this.atimeMs);
  }

  set atime(value: Date) {
    setOwn(this, 'atime', value);
  }

  get mtime(): Date {
    return dateOf(this.mtimeMs);
  }

  set mtime(value: Date) {
    setOwn(this, 'mtime', value);
  }

  get ctime(): Date {
    return dateOf(this.ctimeMs);
  }

  set ctime(value: Date) {
    setOwn(this, 'ctime', value);
  }

  get birthtime(): Date {
    return dateOf(this.birthtimeMs);
  }

  set birthtime(value: Date) {
    setOwn(this, 'birthtime', value);
  }

  isFile(): boolean {
    return this.#isType(S_IFREG);
  }

  isDirectory(): boolean {
    return this.#isType(S_IFDIR);
  }

  isSymbolicLink(): boolean {
    return this.#isType(S_IFLNK);
  }

  isFIFO(): boolean {
    return this.#isType(S_IFIFO);
  }

  isSocket(): boolean {
    return this.#isType(S_IFSOCK);
  }

  isBlockDevice(): boolean {
    return this.#isType(S_IFBLK);
  }

  isCharacterDevice(): boolean {
    return this.#isType(S_IFCHR);
  }

  #isType(type: number): boolean {
    return (Number(this.mode) & S_IFMT) === type;
  }
}

/** Attributes of a file, with the fields of node:fs in their order; times are milliseconds with fractions. */
export class Stats extends StatsBase<number> {
  readonly dev: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly ino: number;
  readonly size: number;
  /** Units of 512 bytes. */
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;

  constructor(attr: Attr, dev: number) {
    super();
    this.dev = dev;
    this.mode = attr.mode;
    this.nlink = attr.nlink;
    this.uid = attr.uid;
    this.gid = attr.gid;
    this.rdev = attr.rdev;
    this.blksize = attr.blksize;
    this.ino = attr.ino;
    this.size = attr.size;
    this.blocks = attr.blocks;
    this.atimeMs = attr.atime * 1000 + attr.atimeNsec / 1e6;
    this.mtimeMs = attr.mtime * 1000 + attr.mtimeNsec / 1e6;
    this.ctimeMs = attr.ctime * 1000 + attr.ctimeNsec / 1e6;
    this.birthtimeMs = attr.btime * 1000 + attr.btimeNsec / 1e6;
  }
}

/** The same in bigints, where times are whole milliseconds, and nanoseconds beside them. */
export class BigIntStats extends StatsBase<bigint> {
  readonly dev: bigint;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly blksize: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  /** Units of 512 bytes. */
  readonly blocks: bigint;
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;

  constructor(attr: Attr, dev: number) {
    super();
    const atimeNs = nanoseconds(attr.atime, attr.atimeNsec);
    const mtimeNs = nanoseconds(attr.mtime, attr.mtimeNsec);
    const ctimeNs = nanoseconds(attr.ctime, attr.ctimeNsec);
    const birthtimeNs = nanoseconds(attr.btime, attr.btimeNsec);
    this.dev = BigInt(dev);
    this.mode = BigInt(attr.mode);
    this.nlink = BigInt(attr.nlink);
    this.uid = BigInt(attr.uid);
    this.gid = BigInt(attr.gid);
    this.rdev = BigInt(attr.rdev);
    this.blksize = BigInt(attr.blksize);
    this.ino = BigInt(attr.ino);
    this.size = BigInt(attr.size);
    this.blocks = BigInt(attr.blocks);
    this.atimeMs = atimeNs / NS_PER_MS;
    this.mtimeMs = mtimeNs / NS_PER_MS;
    this.ctimeMs = ctimeNs / NS_PER_MS;
    this.birthtimeMs = birthtimeNs / NS_PER_MS;
    this.atimeNs = atimeNs;
    this.mtimeNs = mtimeNs;
    this.ctimeNs = ctimeNs;
    this.birthtimeNs = birthtimeNs;
  }
}

/** The counts of a filesystem, with the fields of node:fs in their order. */
export class StatFs<N extends number | bigint = number> {
  readonly type: N;
  /** Preferred size of an I/O request, bytes. */
  readonly bsize: N;
  /** Unit of the block counts, bytes. */
  readonly frsize: N;
  readonly blocks: N;
  readonly bfree: N;
  readonly bavail: N;
  readonly files: N;
  readonly ffree: N;

  constructor(attr: StatFsAttr, as: (value: number) => N) {
    this.type = as(attr.type);
    this.bsize = as(attr.bsize);
    this.frsize = as(attr.bsize);
    this.blocks = as(attr.blocks);
    this.bfree = as(attr.bfree);
    this.bavail = as(attr.bavail);
    this.files = as(attr.files);
    this.ffree = as(attr.ffree);
  }
}

export function statsOf(attr: Attr, bigint: boolean | undefined, dev: number): Stats | BigIntStats {
  return bigint === true ? new BigIntStats(attr, dev) : new Stats(attr, dev);
}

export function statFsOf(attr: StatFsAttr, bigint: boolean | undefined): StatFs<number> | StatFs<bigint> {
  return bigint === true ? new StatFs(attr, BigInt) : new StatFs(attr, Number);
}

/** Dates are made when they are asked for; one that is set stays. */
function setOwn(stats: object, name: string, value: Date): void {
  Object.defineProperty(stats, name, { value, writable: true, enumerable: true, configurable: true });
}

function nanoseconds(sec: number, nsec: number): bigint {
  return BigInt(sec) * 1_000_000_000n + BigInt(nsec);
}

function dateOf(ms: number | bigint): Date {
  return new Date(Math.round(Number(ms)));
}
