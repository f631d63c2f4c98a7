import { FsError } from '../base/fs-error.ts';
import type { FileExtent } from '../vfs/attr.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import type { FileView } from '../vfs/file-view.ts';
import type { PosixAcl } from '../vfs/posix-acl.ts';
import type { AclOptions } from './acl.ts';
import { constants } from './constants.ts';
import * as copies from './copy-calls.ts';
import { type Dir, type OpendirOptions, opendir } from './dir.ts';
import type { Dirent } from './dirent.ts';
import * as calls from './file-calls.ts';
import { type GlobMatch, type GlobOptions, glob } from './glob.ts';
import * as linux from './linux-calls.ts';
import { atOnce, type VolumeState } from './state.ts';
import type { BigIntStats, StatFs, Stats } from './stats.ts';
import * as tree from './tree-calls.ts';
import { type PathLike, type TimeLike, toFlags, toOptions, validateFd, validateObject } from './validate.ts';
import { type FsWatcher, type WatchListener, type WatchOptions, watchEvents } from './watch.ts';

type BigintOption = { bigint?: boolean | undefined };
type TextOptions<More = unknown> = ({ encoding?: BufferEncoding | null | undefined } & More) | BufferEncoding | null;
type BytesOptions<More = unknown> = ({ encoding: 'buffer' } & More) | 'buffer';
type FlagOption = { flag?: string | number | undefined };

/**
 * The synchronous methods of node:fs over a volume, and those of what Linux has beyond. They see the same files and descriptors as the
 * methods that return promises.
 *
 * Errors: EAGAIN where the answer is not in memory and has to be waited for.
 */
export class VolumeSync {
  readonly #state: VolumeState;

  /** @internal `state` has a caller that does not wait. Made by Volume. */
  constructor(state: VolumeState) {
    this.#state = state;
  }

  /** @internal */
  get state(): VolumeState {
    return this.#state;
  }

  get constants(): typeof constants {
    return constants;
  }

  // Descriptors.

  openSync(path: PathLike, flags?: string | number | null, mode?: number | string | null): number {
    return this.#state.fds.add(atOnce(calls.open(this.#state, path, flags, mode)));
  }

  closeSync(fd: number): void {
    validateFd(fd);
    atOnce(calls.close(this.#state, this.#state.fds.remove(fd, 'close')));
  }

  readSync(fd: number, buffer: ArrayBufferView, offset: number, length: number, position?: number | bigint | null): number;
  readSync(
    fd: number,
    buffer: ArrayBufferView,
    options?: { offset?: number | undefined; length?: number | undefined; position?: number | bigint | null | undefined },
  ): number;
  readSync(fd: number, buffer: ArrayBufferView, ...rest: unknown[]): number {
    const [offset, length, position] = rest;
    // One more argument is the bag of options, or nothing; of three, an object or null is.
    const isBag = rest.length <= 1 || typeof offset === 'object';
    const range = isBag ? validateObject((offset ?? {}) as calls.BufferRange, 'options') : { offset, length, position };
    return atOnce(calls.read(this.#state, this.#file(fd), buffer, range));
  }

  readvSync(fd: number, buffers: readonly ArrayBufferView[], position?: number | null): number {
    return atOnce(calls.readv(this.#state, this.#file(fd), buffers, position));
  }

  writeSync(fd: number, buffer: ArrayBufferView, offset?: number | null, length?: number | null, position?: number | null): number;
  writeSync(
    fd: number,
    buffer: ArrayBufferView,
    options?: { offset?: number | undefined; length?: number | undefined; position?: number | null | undefined },
  ): number;
  writeSync(fd: number, data: string, position?: number | null, encoding?: BufferEncoding | null): number;
  writeSync(fd: number, data: ArrayBufferView | string, offset?: unknown, length?: unknown, position?: unknown): number {
    return atOnce(calls.write(this.#state, this.#file(fd), data, offset, length, position));
  }

  writevSync(fd: number, buffers: readonly ArrayBufferView[], position?: number | null): number {
    return atOnce(calls.writev(this.#state, this.#file(fd), buffers, position));
  }

  fstatSync(fd: number, options?: { bigint?: false | undefined }): Stats;
  fstatSync(fd: number, options: { bigint: true }): BigIntStats;
  fstatSync(fd: number, options?: BigintOption): Stats | BigIntStats;
  fstatSync(fd: number, options?: BigintOption): Stats | BigIntStats {
    return atOnce(calls.fstat(this.#state, this.#file(fd), options));
  }

  ftruncateSync(fd: number, length?: number | null): void {
    atOnce(calls.ftruncate(this.#state, this.#file(fd), length));
  }

  fsyncSync(fd: number): void {
    atOnce(calls.fsync(this.#state, this.#file(fd)));
  }

  fdatasyncSync(fd: number): void {
    atOnce(calls.fdatasync(this.#state, this.#file(fd)));
  }

  fchmodSync(fd: number, mode: number | string): void {
    atOnce(calls.fchmod(this.#state, this.#file(fd), mode));
  }

  fchownSync(fd: number, uid: number, gid: number): void {
    atOnce(calls.fchown(this.#state, this.#file(fd), uid, gid));
  }

  futimesSync(fd: number, atime: TimeLike, mtime: TimeLike): void {
    atOnce(calls.futimes(this.#state, this.#file(fd), atime, mtime));
  }

  // Descriptors, beyond node:fs.

  fallocateSync(fd: number, offset: number, length: number, options?: linux.FallocateOptions): void {
    atOnce(linux.fallocate(this.#state, this.#file(fd), offset, length, options));
  }

  seekDataSync(fd: number, pos: number): number {
    return atOnce(linux.seekData(this.#state, this.#file(fd), pos));
  }

  seekHoleSync(fd: number, pos: number): number {
    return atOnce(linux.seekHole(this.#state, this.#file(fd), pos));
  }

  fiemapSync(fd: number, options?: linux.FiemapOptions): FileExtent[] {
    return atOnce(linux.fiemap(this.#state, this.#file(fd), options));
  }

  copyFileRangeSync(fd: number, otherFd: number, options?: linux.CopyRangeOptions): number {
    const other = this.#state.fds.get(validateFd(otherFd), 'copy_file_range');
    return atOnce(linux.copyFileRange(this.#state, this.#file(fd), other, options));
  }

  fgetXattrSync(fd: number, name: string): Uint8Array | undefined {
    return atOnce(linux.fgetxattr(this.#state, this.#file(fd), name));
  }

  fsetXattrSync(fd: number, name: string, value: string | ArrayBufferView, options?: linux.SetXattrOptions): void {
    atOnce(linux.fsetxattr(this.#state, this.#file(fd), name, value, options));
  }

  flistXattrSync(fd: number): string[] {
    return atOnce(linux.flistxattr(this.#state, this.#file(fd)));
  }

  fremoveXattrSync(fd: number, name: string): void {
    atOnce(linux.fremovexattr(this.#state, this.#file(fd), name));
  }

  /** Never waits: EAGAIN if a lock is in the way. */
  lockSync(fd: number, options: linux.LockOptions = {}): void {
    atOnce(linux.lock(this.#state, this.#file(fd), { ...options, wait: false }));
  }

  unlockSync(fd: number, options?: linux.LockOptions): void {
    atOnce(linux.unlock(this.#state, this.#file(fd), options));
  }

  getLockSync(fd: number, options?: linux.LockOptions): linux.LockHolder | undefined {
    return atOnce(linux.getLock(this.#state, this.#file(fd), options));
  }

  mapSync(fd: number, options?: linux.MapOptions): FileView {
    return atOnce(linux.map(this.#state, this.#file(fd), options));
  }

  // Files.

  readFileSync(path: PathLike | number, options?: ({ encoding?: null | undefined } & FlagOption) | null): Uint8Array;
  readFileSync(path: PathLike | number, options: ({ encoding: BufferEncoding } & FlagOption) | BufferEncoding): string;
  readFileSync(path: PathLike | number, options?: TextOptions<FlagOption>): string | Uint8Array;
  readFileSync(path: PathLike | number, options?: unknown): string | Uint8Array {
    const given: FlagOption = withoutSignal(options);
    // Here '' is no flag, other than for promises.
    toFlags(given.flag);
    if (isFd(path)) return atOnce(calls.readFile(this.#state, this.#file(path), given));
    return atOnce(calls.readPath(this.#state, path as PathLike, given, false));
  }

  writeFileSync(path: PathLike | number, data: string | ArrayBufferView, options?: calls.WriteFileOptions | BufferEncoding | null): void {
    this.#write(path, data, options, 'w');
  }

  appendFileSync(path: PathLike | number, data: string | ArrayBufferView, options?: calls.WriteFileOptions | BufferEncoding | null): void {
    this.#write(path, data, options, 'a');
  }

  #write(path: PathLike | number, data: unknown, options: unknown, flag: string): void {
    const given = withoutSignal(options);
    calls.validateData(data);
    if (isFd(path)) {
      const file = typeof data === 'string' ? (this.#state.fds.find(path) ?? CLOSED) : this.#file(path);
      atOnce(calls.writeFile(this.#state, file, data, given));
    } else {
      atOnce(calls.writePath(this.#state, path as PathLike, data, given, flag));
    }
  }

  truncateSync(path: PathLike | number, length?: number | null): void {
    if (isFd(path)) this.ftruncateSync(path, length);
    else atOnce(tree.truncate(this.#state, path as PathLike, length));
  }

  copyFileSync(src: PathLike, dest: PathLike, mode?: number): void {
    atOnce(copies.copyFile(this.#state, src, dest, mode));
  }

  cpSync(src: PathLike, dest: PathLike, options?: copies.CpOptions): void {
    atOnce(copies.cp(this.#state, src, dest, options));
  }

  // Attributes.

  statSync(path: PathLike, options?: { bigint?: false | undefined; throwIfNoEntry?: true | undefined }): Stats;
  statSync(path: PathLike, options: { bigint: true; throwIfNoEntry?: true | undefined }): BigIntStats;
  statSync(path: PathLike, options: { bigint?: false | undefined; throwIfNoEntry: false }): Stats | undefined;
  statSync(path: PathLike, options: { bigint: true; throwIfNoEntry: false }): BigIntStats | undefined;
  statSync(path: PathLike, options?: tree.StatOptions): Stats | BigIntStats | undefined;
  statSync(path: PathLike, options?: tree.StatOptions): Stats | BigIntStats | undefined {
    return atOnce(tree.stat(this.#state, path, options));
  }

  lstatSync(path: PathLike, options?: { bigint?: false | undefined; throwIfNoEntry?: true | undefined }): Stats;
  lstatSync(path: PathLike, options: { bigint: true; throwIfNoEntry?: true | undefined }): BigIntStats;
  lstatSync(path: PathLike, options: { bigint?: false | undefined; throwIfNoEntry: false }): Stats | undefined;
  lstatSync(path: PathLike, options: { bigint: true; throwIfNoEntry: false }): BigIntStats | undefined;
  lstatSync(path: PathLike, options?: tree.StatOptions): Stats | BigIntStats | undefined;
  lstatSync(path: PathLike, options?: tree.StatOptions): Stats | BigIntStats | undefined {
    return atOnce(tree.lstat(this.#state, path, options));
  }

  accessSync(path: PathLike, mode?: number): void {
    atOnce(tree.access(this.#state, path, mode));
  }

  existsSync(path: PathLike): boolean {
    return atOnce(tree.exists(this.#state, path));
  }

  chmodSync(path: PathLike, mode: number | string): void {
    atOnce(tree.chmod(this.#state, path, mode));
  }

  lchmodSync(path: PathLike, mode: number | string): void {
    atOnce(tree.lchmod(this.#state, path, mode));
  }

  chownSync(path: PathLike, uid: number, gid: number): void {
    atOnce(tree.chown(this.#state, path, uid, gid));
  }

  lchownSync(path: PathLike, uid: number, gid: number): void {
    atOnce(tree.lchown(this.#state, path, uid, gid));
  }

  utimesSync(path: PathLike, atime: TimeLike, mtime: TimeLike): void {
    atOnce(tree.utimes(this.#state, path, atime, mtime));
  }

  lutimesSync(path: PathLike, atime: TimeLike, mtime: TimeLike): void {
    atOnce(tree.lutimes(this.#state, path, atime, mtime));
  }

  /** The value of an extended attribute, or undefined. */
  getXattrSync(path: PathLike, name: string, options?: tree.XattrOptions): Uint8Array | undefined {
    return atOnce(tree.getXattr(this.#state, path, name, options));
  }

  setXattrSync(path: PathLike, name: string, value: string | ArrayBufferView, options?: tree.SetXattrOptions): void {
    atOnce(tree.setXattr(this.#state, path, name, value, options));
  }

  listXattrSync(path: PathLike, options?: tree.XattrOptions): string[] {
    return atOnce(tree.listXattr(this.#state, path, options));
  }

  removeXattrSync(path: PathLike, name: string, options?: tree.XattrOptions): void {
    atOnce(tree.removeXattr(this.#state, path, name, options));
  }

  getAclSync(path: PathLike, options?: AclOptions): PosixAcl | undefined {
    return atOnce(tree.getAcl(this.#state, path, options));
  }

  setAclSync(path: PathLike, acl: PosixAcl | string | undefined, options?: AclOptions): void {
    atOnce(tree.setAcl(this.#state, path, acl, options));
  }

  // Directories.

  mkdirSync(path: PathLike, options: tree.MkdirOptions & { recursive: true }): string | undefined;
  mkdirSync(path: PathLike, options?: number | string | (tree.MkdirOptions & { recursive?: false | undefined }) | null): void;
  mkdirSync(path: PathLike, options?: number | string | tree.MkdirOptions | null): string | undefined;
  mkdirSync(path: PathLike, options?: number | string | tree.MkdirOptions | null): string | undefined {
    return atOnce(tree.mkdir(this.#state, path, options));
  }

  mkdtempSync(prefix: PathLike, options?: TextOptions): string;
  mkdtempSync(prefix: PathLike, options: BytesOptions): Uint8Array;
  mkdtempSync(prefix: PathLike, options?: string | null | tree.EncodingOptions): string | Uint8Array;
  mkdtempSync(prefix: PathLike, options?: string | null | tree.EncodingOptions): string | Uint8Array {
    return atOnce(tree.mkdtemp(this.#state, prefix, options));
  }

  /** A directory that is removed, with what is in it, when it goes out of scope. */
  mkdtempDisposableSync(prefix: PathLike, options?: TextOptions | BytesOptions): tree.TemporaryDirectorySync {
    return atOnce(tree.mkdtempDisposableSync(this.#state, prefix, options));
  }

  readdirSync(path: PathLike, options?: TextOptions<{ withFileTypes?: false | undefined; recursive?: boolean | undefined }>): string[];
  readdirSync(path: PathLike, options: BytesOptions<{ withFileTypes?: false | undefined; recursive?: boolean | undefined }>): Uint8Array[];
  readdirSync(
    path: PathLike,
    options: { encoding?: BufferEncoding | null | undefined; withFileTypes: true; recursive?: boolean | undefined },
  ): Dirent[];
  readdirSync(path: PathLike, options: { encoding: 'buffer'; withFileTypes: true; recursive?: boolean | undefined }): Dirent<Uint8Array>[];
  readdirSync(path: PathLike, options?: string | null | tree.ReaddirOptions): unknown {
    return atOnce(tree.readdir(this.#state, path, options));
  }

  opendirSync(path: PathLike, options?: OpendirOptions): Dir {
    return atOnce(opendir(this.#state, path, options));
  }

  rmdirSync(path: PathLike, options?: object): void {
    atOnce(tree.rmdir(this.#state, path, options));
  }

  rmSync(path: PathLike, options?: tree.RmOptions): void {
    atOnce(tree.rm(this.#state, path, options));
  }

  globSync(patterns: string | readonly string[], options?: GlobOptions & { withFileTypes?: false | undefined }): string[];
  globSync(patterns: string | readonly string[], options: GlobOptions & { withFileTypes: true }): Dirent[];
  globSync(patterns: string | readonly string[], options?: GlobOptions): GlobMatch[];
  globSync(patterns: string | readonly string[], options?: GlobOptions): GlobMatch[] {
    return atOnce(glob(this.#state, patterns, options));
  }

  /** fs.watch: events by listeners. */
  watch(path: PathLike, options?: string | WatchOptions | WatchListener, listener?: WatchListener): FsWatcher {
    return watchEvents(this.#state, path, options, listener);
  }

  // Names and links.

  unlinkSync(path: PathLike): void {
    atOnce(tree.unlink(this.#state, path));
  }

  /** With `noReplace`, `exchange` and `whiteout` of renameat2(2). */
  renameSync(oldPath: PathLike, newPath: PathLike, options?: tree.RenameOptions): void {
    atOnce(tree.rename(this.#state, oldPath, newPath, options));
  }

  linkSync(existingPath: PathLike, newPath: PathLike): void {
    atOnce(tree.link(this.#state, existingPath, newPath));
  }

  symlinkSync(target: PathLike, path: PathLike, type?: string | null): void {
    atOnce(tree.symlink(this.#state, target, path, type));
  }

  readlinkSync(path: PathLike, options?: TextOptions): string;
  readlinkSync(path: PathLike, options: BytesOptions): Uint8Array;
  readlinkSync(path: PathLike, options?: string | null | tree.EncodingOptions): string | Uint8Array;
  readlinkSync(path: PathLike, options?: string | null | tree.EncodingOptions): string | Uint8Array {
    return atOnce(tree.readlink(this.#state, path, options));
  }

  /** Callable, and with `native` as a further function, as in node:fs. */
  readonly realpathSync: RealpathSync = Object.assign(
    (path: PathLike, options?: string | null | tree.EncodingOptions) => atOnce(tree.realpathLexical(this.#state, path, options)),
    { native: (path: PathLike, options?: string | null | tree.EncodingOptions) => atOnce(tree.realpath(this.#state, path, options)) },
  ) as RealpathSync;

  /** A fifo, a socket or a device. */
  mknodSync(path: PathLike, options: tree.MknodOptions): void {
    atOnce(tree.mknod(this.#state, path, options));
  }

  // The whole.

  statfsSync(path: PathLike, options?: { bigint?: false | undefined }): StatFs;
  statfsSync(path: PathLike, options: { bigint: true }): StatFs<bigint>;
  statfsSync(path: PathLike, options?: BigintOption): StatFs | StatFs<bigint>;
  statfsSync(path: PathLike, options?: BigintOption): StatFs | StatFs<bigint> {
    return atOnce(tree.statfs(this.#state, path, options));
  }

  syncfsSync(): void {
    atOnce(tree.syncfs(this.#state));
  }

  freezeSync(): void {
    atOnce(tree.freeze(this.#state));
  }

  thawSync(): void {
    atOnce(tree.thaw(this.#state));
  }

  /** The open file of a descriptor, or CLOSED. Errors: argument errors. */
  #file(fd: unknown): FileDescription {
    return this.#state.fds.find(validateFd(fd)) ?? CLOSED;
  }
}

/** What stands for a descriptor that is not open: each call on it fails with EBADF, after the other arguments have been checked. */
const CLOSED = new Proxy({} as FileDescription, {
  get: () => (): never => {
    throw new FsError('EBADF', 'fd');
  },
});

/** Does it stand for an open file where a path may come as well? Other numbers are no path. */
function isFd(path: unknown): path is number {
  return typeof path === 'number' && (path | 0) === path;
}

interface RealpathCall {
  (path: PathLike, options?: TextOptions): string;
  (path: PathLike, options: BytesOptions): Uint8Array;
  (path: PathLike, options?: string | null | tree.EncodingOptions): string | Uint8Array;
}

export interface RealpathSync extends RealpathCall {
  native: RealpathCall;
}

/** Node checks a signal here, and does not look at it. */
function withoutSignal(options: unknown): object {
  const { signal, ...rest } = toOptions(options);
  return rest;
}
