import type { Stream } from 'node:stream';
import { type Task, wait } from '../base/task.ts';
import { type Caller, callerOf } from '../vfs/caller.ts';
import type { FileSystem } from '../vfs/file-system.ts';
import type { PosixAcl } from '../vfs/posix-acl.ts';
import { Vfs } from '../vfs/vfs.ts';
import type { AclOptions } from './acl.ts';
import { constants } from './constants.ts';
import * as copies from './copy-calls.ts';
import { type Dir, type OpendirOptions, opendir } from './dir.ts';
import type { Dirent } from './dirent.ts';
import { FdTable } from './fd-table.ts';
import * as calls from './file-calls.ts';
import { FileHandle, signalOf } from './file-handle.ts';
import { type GlobMatch, type GlobOptions, globEach } from './glob.ts';
import { abortError } from './node-error.ts';
import { atOnce, promised, type VolumeState, withCaller, withSignal } from './state.ts';
import type { BigIntStats, StatFs, Stats } from './stats.ts';
import { createReadStream, createWriteStream, type ReadStream, type StreamOptions, type WriteStream } from './streams.ts';
import * as tree from './tree-calls.ts';
import { type PathLike, type TimeLike, validateFd } from './validate.ts';
import { VolumeSync } from './volume-sync.ts';
import { type FileChange, type WatchOptions, watch } from './watch.ts';

type Abortable = tree.Abortable;

/** An option that names the encoding of names or data; alone, it may stand for the whole bag. */
export type TextOptions<More = unknown> = ({ encoding?: BufferEncoding | null | undefined } & More & Abortable) | BufferEncoding | null;
/** The same, where names come as bytes. */
export type BytesOptions<More = unknown> = ({ encoding: 'buffer' } & More & Abortable) | 'buffer';

/** What writeFile takes. */
export type WriteData = calls.FileData | Stream;

/** Whose volume it is: ids, groups, capabilities and umask. */
export type VolumeOptions = Partial<Omit<Caller, 'nowait' | 'signal'>>;

/** Of the next volume: an anonymous device, as the kernel gives to filesystems without one. */
let lastDevice = 0;

/**
 * A filesystem with the methods of node:fs/promises, in this process: same names, arguments, options, classes and errors; and what Linux has
 * beyond. `sync` has the synchronous ones.
 *
 * Without options the caller is root with all capabilities. Every operation takes a signal in its options, also where Node's takes none.
 */
export class Volume implements AsyncDisposable {
  readonly #state: VolumeState;
  #sync: VolumeSync | undefined = undefined;

  /** A volume over a Vfs that others use too. */
  constructor(vfs: Vfs, options: VolumeOptions = {}, shared?: Pick<VolumeState, 'fds' | 'dev'>) {
    const caller = callerOf(options);
    // makedev(0, n) is n below 256, and splits the number further up; neither matters for telling volumes apart.
    this.#state = { vfs, caller, fds: shared?.fds ?? new FdTable(), dev: shared?.dev ?? ++lastDevice };
  }

  /** A volume of a filesystem that nobody else uses. */
  static create(fs: FileSystem, options: VolumeOptions = {}): Volume {
    return new Volume(new Vfs(fs), options);
  }

  /** The path walk and what is open, for other faces of the same filesystem. */
  get vfs(): Vfs {
    return this.#state.vfs;
  }

  /** On whose behalf operations are made. */
  get caller(): Caller {
    return this.#state.caller;
  }

  get constants(): typeof constants {
    return constants;
  }

  /** The same files and descriptors, synchronously. */
  get sync(): VolumeSync {
    this.#sync ??= new VolumeSync(withCaller(this.#state, { ...this.#state.caller, nowait: true }));
    return this.#sync;
  }

  /** The same volume on behalf of another caller. What is absent is as of callerOf, but the umask, which stays. */
  as(ids: VolumeOptions): Volume {
    return new Volume(this.vfs, { umask: this.caller.umask, pid: this.caller.pid, ...ids }, this.#state);
  }

  /** Closes what is open, writes what is dirty, and ends the filesystem; for every volume of it. */
  close(): Promise<void> {
    return promised(() => wait(this.vfs.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // Files.

  async open(path: PathLike, flags?: string | number, mode?: number | string, options?: Abortable): Promise<FileHandle> {
    const file = await this.#run((state) => calls.open(state, path, flags, mode), options);
    return new FileHandle(this.#state, file);
  }

  /** @internal As open, but now. Errors: EAGAIN where it would have to wait. */
  openAtOnce(path: PathLike, flags?: string | number, mode?: number | string): FileHandle {
    const { state } = this.sync;
    return new FileHandle(this.#state, atOnce(calls.open(state, path, flags, mode)));
  }

  readFile(
    path: PathLike | FileHandle,
    options?: ({ encoding?: null | undefined; flag?: string | number | undefined } & Abortable) | null,
  ): Promise<Uint8Array>;
  readFile(
    path: PathLike | FileHandle,
    options: ({ encoding: BufferEncoding; flag?: string | number | undefined } & Abortable) | BufferEncoding,
  ): Promise<string>;
  readFile(path: PathLike | FileHandle, options?: TextOptions<{ flag?: string | number | undefined }>): Promise<string | Uint8Array>;
  readFile(path: PathLike | FileHandle, options?: unknown): Promise<string | Uint8Array> {
    if (path instanceof FileHandle) return ofHandle(path, (handle) => handle.readFile(options as BufferEncoding));
    return this.#run((state) => calls.readPath(state, path, options), options);
  }

  writeFile(
    path: PathLike | FileHandle,
    data: WriteData,
    options?: (calls.WriteFileOptions & Abortable) | BufferEncoding | null,
  ): Promise<void> {
    if (path instanceof FileHandle) return ofHandle(path, (handle) => handle.writeFile(data as calls.FileData, options));
    return this.#run((state) => calls.writePath(state, path, data, options, 'w'), options);
  }

  appendFile(
    path: PathLike | FileHandle,
    data: WriteData,
    options?: (calls.WriteFileOptions & Abortable) | BufferEncoding | null,
  ): Promise<void> {
    if (path instanceof FileHandle) return ofHandle(path, (handle) => handle.appendFile(data as calls.FileData, options));
    return this.#run((state) => calls.writePath(state, path, data, options, 'a'), options);
  }

  truncate(path: PathLike, length?: number, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.truncate(state, path, length), options);
  }

  copyFile(src: PathLike, dest: PathLike, mode?: number, options?: Abortable): Promise<void> {
    return this.#run((state) => copies.copyFile(state, src, dest, mode), options);
  }

  cp(src: PathLike, dest: PathLike, options?: copies.CpOptions): Promise<void> {
    return this.#run((state) => copies.cp(state, src, dest, options), options);
  }

  createReadStream(path: PathLike, options?: StreamOptions | BufferEncoding | null): ReadStream {
    return createReadStream(this.#state, path, options);
  }

  createWriteStream(path: PathLike, options?: StreamOptions | BufferEncoding | null): WriteStream {
    return createWriteStream(this.#state, path, options);
  }

  // Attributes.

  stat(path: PathLike, options?: tree.StatOptions & { bigint?: false | undefined; throwIfNoEntry?: true | undefined }): Promise<Stats>;
  stat(path: PathLike, options: tree.StatOptions & { bigint: true; throwIfNoEntry?: true | undefined }): Promise<BigIntStats>;
  stat(path: PathLike, options?: tree.StatOptions & { throwIfNoEntry?: true | undefined }): Promise<Stats | BigIntStats>;
  stat(path: PathLike, options: tree.StatOptions): Promise<Stats | BigIntStats | undefined>;
  stat(path: PathLike, options?: tree.StatOptions): Promise<Stats | BigIntStats | undefined> {
    return this.#run((state) => tree.stat(state, path, options), options);
  }

  lstat(path: PathLike, options?: tree.StatOptions & { bigint?: false | undefined; throwIfNoEntry?: true | undefined }): Promise<Stats>;
  lstat(path: PathLike, options: tree.StatOptions & { bigint: true; throwIfNoEntry?: true | undefined }): Promise<BigIntStats>;
  lstat(path: PathLike, options?: tree.StatOptions & { throwIfNoEntry?: true | undefined }): Promise<Stats | BigIntStats>;
  lstat(path: PathLike, options: tree.StatOptions): Promise<Stats | BigIntStats | undefined>;
  lstat(path: PathLike, options?: tree.StatOptions): Promise<Stats | BigIntStats | undefined> {
    return this.#run((state) => tree.lstat(state, path, options), options);
  }

  access(path: PathLike, mode?: number, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.access(state, path, mode), options);
  }

  chmod(path: PathLike, mode: number | string, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.chmod(state, path, mode), options);
  }

  lchmod(path: PathLike, mode: number | string, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.lchmod(state, path, mode), options);
  }

  chown(path: PathLike, uid: number, gid: number, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.chown(state, path, uid, gid), options);
  }

  lchown(path: PathLike, uid: number, gid: number, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.lchown(state, path, uid, gid), options);
  }

  utimes(path: PathLike, atime: TimeLike, mtime: TimeLike, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.utimes(state, path, atime, mtime), options);
  }

  lutimes(path: PathLike, atime: TimeLike, mtime: TimeLike, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.lutimes(state, path, atime, mtime), options);
  }

  /** The value of an extended attribute, or undefined. */
  getXattr(path: PathLike, name: string, options?: tree.XattrOptions): Promise<Uint8Array | undefined> {
    return this.#run((state) => tree.getXattr(state, path, name, options), options);
  }

  setXattr(path: PathLike, name: string, value: string | ArrayBufferView, options?: tree.SetXattrOptions): Promise<void> {
    return this.#run((state) => tree.setXattr(state, path, name, value, options), options);
  }

  listXattr(path: PathLike, options?: tree.XattrOptions): Promise<string[]> {
    return this.#run((state) => tree.listXattr(state, path, options), options);
  }

  /** Errors: ENODATA where there is none. */
  removeXattr(path: PathLike, name: string, options?: tree.XattrOptions): Promise<void> {
    return this.#run((state) => tree.removeXattr(state, path, name, options), options);
  }

  /** What decides about access; with `default` what a directory gives to what is made in it, undefined where there is none. */
  getAcl(path: PathLike, options?: AclOptions & Abortable): Promise<PosixAcl | undefined> {
    return this.#run((state) => tree.getAcl(state, path, options), options);
  }

  /** Sets it, also from text (`u::rwx,u:1000:r,g::r,m::r,o::-`); undefined removes it. */
  setAcl(path: PathLike, acl: PosixAcl | string | undefined, options?: AclOptions & Abortable): Promise<void> {
    return this.#run((state) => tree.setAcl(state, path, acl, options), options);
  }

  // Directories.

  mkdir(path: PathLike, options: tree.MkdirOptions & { recursive: true }): Promise<string | undefined>;
  mkdir(path: PathLike, options?: number | string | (tree.MkdirOptions & { recursive?: false | undefined }) | null): Promise<void>;
  mkdir(path: PathLike, options?: number | string | tree.MkdirOptions | null): Promise<string | undefined>;
  mkdir(path: PathLike, options?: number | string | tree.MkdirOptions | null): Promise<unknown> {
    return this.#run((state) => tree.mkdir(state, path, options), options);
  }

  mkdtemp(prefix: PathLike, options?: TextOptions): Promise<string>;
  mkdtemp(prefix: PathLike, options: BytesOptions): Promise<Uint8Array>;
  mkdtemp(prefix: PathLike, options?: TextOptions | BytesOptions): Promise<string | Uint8Array> {
    return this.#run((state) => tree.mkdtemp(state, prefix, options), options);
  }

  /** A directory that is removed, with what is in it, when it goes out of scope. */
  mkdtempDisposable(prefix: PathLike, options?: TextOptions | BytesOptions): Promise<tree.TemporaryDirectory> {
    // The directory outlives the call that makes it, and so is not bound to its signal.
    return promised(() => tree.mkdtempDisposable(this.#state, prefix, options));
  }

  readdir(path: PathLike, options?: TextOptions<{ withFileTypes?: false | undefined; recursive?: boolean | undefined }>): Promise<string[]>;
  readdir(
    path: PathLike,
    options: BytesOptions<{ withFileTypes?: false | undefined; recursive?: boolean | undefined }>,
  ): Promise<Uint8Array[]>;
  readdir(
    path: PathLike,
    options: { encoding?: BufferEncoding | null | undefined; withFileTypes: true; recursive?: boolean | undefined } & Abortable,
  ): Promise<Dirent[]>;
  readdir(
    path: PathLike,
    options: { encoding: 'buffer'; withFileTypes: true; recursive?: boolean | undefined } & Abortable,
  ): Promise<Dirent<Uint8Array>[]>;
  readdir(path: PathLike, options?: string | null | tree.ReaddirOptions): Promise<unknown> {
    return this.#run((state) => tree.readdir(state, path, options), options);
  }

  opendir(path: PathLike, options?: OpendirOptions): Promise<Dir> {
    return this.#run((state) => opendir(state, path, options), options);
  }

  rmdir(path: PathLike, options?: object): Promise<void> {
    return this.#run((state) => tree.rmdir(state, path, options as Abortable), options);
  }

  rm(path: PathLike, options?: tree.RmOptions): Promise<void> {
    return this.#run((state) => tree.rm(state, path, options), options);
  }

  /** Paths that match, as the walk comes to them. */
  glob(patterns: string | readonly string[], options?: GlobOptions & { withFileTypes?: false | undefined }): AsyncGenerator<string, void>;
  glob(patterns: string | readonly string[], options: GlobOptions & { withFileTypes: true }): AsyncGenerator<Dirent, void>;
  glob(patterns: string | readonly string[], options?: GlobOptions): AsyncGenerator<GlobMatch, void>;
  glob(patterns: string | readonly string[], options?: GlobOptions): AsyncGenerator<GlobMatch, void> {
    return globEach(this.#state, patterns, options);
  }

  /** What happens to a file, or in a directory, from the first step of the iteration on. */
  watch(path: PathLike, options?: WatchOptions | string): AsyncGenerator<FileChange, void> {
    return watch(this.#state, path, typeof options === 'string' ? { encoding: options } : options);
  }

  // Names and links.

  unlink(path: PathLike, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.unlink(state, path), options);
  }

  /** With `noReplace`, `exchange` and `whiteout` of renameat2(2). */
  rename(oldPath: PathLike, newPath: PathLike, options?: tree.RenameOptions): Promise<void> {
    return this.#run((state) => tree.rename(state, oldPath, newPath, options), options);
  }

  link(existingPath: PathLike, newPath: PathLike, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.link(state, existingPath, newPath), options);
  }

  symlink(target: PathLike, path: PathLike, type?: string | null, options?: Abortable): Promise<void> {
    return this.#run((state) => tree.symlink(state, target, path, type), options);
  }

  readlink(path: PathLike, options?: TextOptions): Promise<string>;
  readlink(path: PathLike, options: BytesOptions): Promise<Uint8Array>;
  readlink(path: PathLike, options?: string | null | tree.EncodingOptions): Promise<string | Uint8Array>;
  readlink(path: PathLike, options?: string | null | tree.EncodingOptions): Promise<string | Uint8Array> {
    return this.#run((state) => tree.readlink(state, path, options), options);
  }

  realpath(path: PathLike, options?: TextOptions): Promise<string>;
  realpath(path: PathLike, options: BytesOptions): Promise<Uint8Array>;
  realpath(path: PathLike, options?: string | null | tree.EncodingOptions): Promise<string | Uint8Array>;
  realpath(path: PathLike, options?: string | null | tree.EncodingOptions): Promise<string | Uint8Array> {
    return this.#run((state) => tree.realpath(state, path, options), options);
  }

  /** A fifo, a socket or a device. */
  mknod(path: PathLike, options: tree.MknodOptions): Promise<void> {
    return this.#run((state) => tree.mknod(state, path, options), options);
  }

  // The whole.

  statfs(path: PathLike, options?: { bigint?: false | undefined } & Abortable): Promise<StatFs>;
  statfs(path: PathLike, options: { bigint: true } & Abortable): Promise<StatFs<bigint>>;
  statfs(path: PathLike, options?: { bigint?: boolean | undefined } & Abortable): Promise<StatFs | StatFs<bigint>>;
  statfs(path: PathLike, options?: { bigint?: boolean | undefined } & Abortable): Promise<StatFs | StatFs<bigint>> {
    return this.#run((state) => tree.statfs(state, path, options), options);
  }

  /** All that was written is durable. */
  syncfs(options?: Abortable): Promise<void> {
    return this.#run((state) => tree.syncfs(state, options), options);
  }

  /** Writers wait, and what is stored can be copied, until thaw. */
  freeze(options?: Abortable): Promise<void> {
    return this.#run((state) => tree.freeze(state, options), options);
  }

  thaw(options?: Abortable): Promise<void> {
    return this.#run((state) => tree.thaw(state, options), options);
  }

  /** Runs a Task; a signal among `options` ends it. */
  async #run<T>(task: (state: VolumeState) => Task<T>, options?: unknown): Promise<T> {
    const signal = signalOf(options);
    if (signal?.aborted === true) throw abortError(signal);
    return await promised(() => task(withSignal(this.#state, signal)), signal);
  }
}

/** A handle in the place of a path. Errors: ERR_OUT_OF_RANGE for its descriptor if it is closed, as in Node. */
async function ofHandle<T>(handle: FileHandle, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  validateFd(handle.fd);
  return await use(handle);
}
