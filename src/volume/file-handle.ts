import type { EventEmitter } from 'node:events';
import type { Interface as ReadlineInterface } from 'node:readline';
import type { ReadableStream } from 'node:stream/web';
import type { AbortSignalLike } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import type { Task } from '../base/task.ts';
import type { FileExtent } from '../vfs/attr.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import type { FileView } from '../vfs/file-view.ts';
import type { PosixAcl } from '../vfs/posix-acl.ts';
import type { AclOptions } from './acl.ts';
import * as calls from './file-calls.ts';
import * as linux from './linux-calls.ts';
import { abortError, face, unlessAborted } from './node-error.ts';
import { allocate, builtin, hasNode } from './platform.ts';
import { atOnce, promised, type VolumeState, withSignal } from './state.ts';
import type { BigIntStats, Stats } from './stats.ts';
import { createHandleReadStream, createHandleWriteStream, type ReadStream, type StreamOptions, type WriteStream } from './streams.ts';
import type { Abortable } from './tree-calls.ts';
import { nodeError, type TimeLike, toOptions, validateObject } from './validate.ts';

/** Bytes of the buffer that read makes when it is given none. */
const READ_BUFFER_SIZE = 16 * 1024;
/** Bytes of a chunk of a web stream. */
const WEB_CHUNK_SIZE = 16 * 1024;

export interface ReadRange extends Abortable {
  offset?: number | null | undefined;
  length?: number | null | undefined;
  position?: number | bigint | null | undefined;
}

export interface ReadInto<T extends ArrayBufferView = Uint8Array> extends ReadRange {
  buffer?: T | undefined;
}

export interface WriteRange extends Abortable {
  offset?: number | null | undefined;
  length?: number | null | undefined;
  position?: number | null | undefined;
}

const Emitter: new () => EventEmitter = hasNode
  ? builtin<{ EventEmitter: new () => EventEmitter }>('node:events').EventEmitter
  : (class {} as new () => EventEmitter);

/**
 * An open file with the methods of FileHandle of node:fs/promises, and those that Linux has beyond.
 *
 * Invariants:
 * 1. The file is open until close; close waits until no operation is under way, and no operation begins after it.
 * 2. What is answered from memory has not begun and ended at different times: only operations that wait are counted.
 */
export class FileHandle extends Emitter {
  readonly #state: VolumeState;
  readonly #file: FileDescription;
  #fd: number;
  /** Operations under way. */
  #pending = 0;
  #closing: Promise<void> | undefined = undefined;
  /** Called when nothing is under way any more. */
  #whenIdle: (() => void) | undefined = undefined;
  #isStreamed = false;

  /** @internal Made by Volume.open. */
  constructor(state: VolumeState, file: FileDescription) {
    super();
    this.#state = state;
    this.#file = file;
    this.#fd = state.fds.add(file);
  }

  /** Its descriptor in the volume; -1 once it is closed. */
  get fd(): number {
    return this.#fd;
  }

  /** @internal The open file behind it. Errors: EBADF. */
  description(syscall: string): FileDescription {
    if (this.#fd === -1) throw closedError(syscall);
    return this.#file;
  }

  // Reading.

  read<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: T }>;
  read<T extends ArrayBufferView>(buffer: T, options?: ReadRange | null): Promise<{ bytesRead: number; buffer: T }>;
  read<T extends ArrayBufferView = Uint8Array>(options?: ReadInto<T> | null): Promise<{ bytesRead: number; buffer: T }>;
  async read(
    buffer?: unknown,
    offset?: unknown,
    length?: unknown,
    position?: unknown,
  ): Promise<{ bytesRead: number; buffer: ArrayBufferView }> {
    const file = this.description('read');
    let caller = this.#state.caller;
    let into: Uint8Array;
    let pos: number | null;
    let given = buffer as ArrayBufferView;
    let signal: AbortSignalLike | undefined;
    if (isPlainRead(buffer, offset, length, position)) {
      into = length === buffer.length ? buffer : new Uint8Array(buffer.buffer, buffer.byteOffset + (offset as number), length as number);
      pos = (position ?? null) as number | null;
    } else {
      const { buffer: target, signal: ended, ...range } = readArguments(buffer, offset, length, position);
      const checked = calls.readTarget(target, range);
      given = target as ArrayBufferView;
      if (checked === undefined) return { bytesRead: 0, buffer: given };
      into = checked.into;
      pos = checked.position;
      if (ended !== undefined) {
        signal = signalOf({ signal: ended });
        if (signal?.aborted === true) throw abortError(signal);
        caller = { ...caller, signal };
      }
    }
    try {
      // What is in the cache is here at once, and passes no promise but the one that is returned.
      const count = file.read(caller, into, pos);
      return { bytesRead: typeof count === 'number' ? count : await this.#counted(count), buffer: given };
    } catch (error) {
      throw unlessAborted(face(error, 'read'), signal);
    }
  }

  async readv<T extends readonly ArrayBufferView[]>(buffers: T, position?: number | null): Promise<{ bytesRead: number; buffers: T }> {
    const bytesRead = await this.#run('readv', (state, file) => calls.readv(state, file, buffers, position));
    return { bytesRead, buffers };
  }

  readFile(options?: ({ encoding?: null | undefined } & Abortable) | null): Promise<Uint8Array>;
  readFile(options: ({ encoding: BufferEncoding } & Abortable) | BufferEncoding): Promise<string>;
  readFile(options?: ({ encoding?: BufferEncoding | null | undefined } & Abortable) | BufferEncoding | null): Promise<string | Uint8Array>;
  readFile(options?: unknown): Promise<string | Uint8Array> {
    return this.#run('readFile', (state, file) => calls.readFile(state, file, options), options);
  }

  /** Lines of the file, from its position on; for `for await`. */
  readLines(options?: StreamOptions | BufferEncoding | null): ReadlineInterface {
    const readline = builtin<typeof import('node:readline')>('node:readline');
    return readline.createInterface({ input: this.createReadStream(options), crlfDelay: Number.POSITIVE_INFINITY });
  }

  createReadStream(options?: StreamOptions | BufferEncoding | null): ReadStream {
    return createHandleReadStream(this.#state, this, options);
  }

  createWriteStream(options?: StreamOptions | BufferEncoding | null): WriteStream {
    return createHandleWriteStream(this.#state, this, options);
  }

  /** The file as a byte stream of the web, from its position on. One at a time, and one only. */
  readableWebStream(options: { type?: string | undefined; autoClose?: boolean | undefined } = {}): ReadableStream {
    if (this.#fd === -1) throw nodeError(Error, 'ERR_INVALID_STATE', 'Invalid state: The FileHandle is closed');
    if (this.#closing !== undefined) throw nodeError(Error, 'ERR_INVALID_STATE', 'Invalid state: The FileHandle is closing');
    if (this.#isStreamed) throw nodeError(Error, 'ERR_INVALID_STATE', 'Invalid state: The FileHandle is locked');
    const { autoClose = false } = validateObject(options, 'options');
    this.#isStreamed = true;
    const end = async (): Promise<void> => {
      if (autoClose) await this.close();
    };
    const Stream = (globalThis as unknown as { ReadableStream: typeof ReadableStream }).ReadableStream;
    return new Stream({
      type: 'bytes',
      autoAllocateChunkSize: WEB_CHUNK_SIZE,
      pull: async (controller) => {
        const request = controller.byobRequest as unknown as { view: Uint8Array; respond(count: number): void };
        const { bytesRead } = await this.read(request.view, 0, request.view.byteLength);
        if (bytesRead === 0) {
          controller.close();
          await end();
        }
        request.respond(bytesRead);
      },
      cancel: end,
    });
  }

  // Writing.

  write<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: T }>;
  write<T extends ArrayBufferView>(buffer: T, options?: WriteRange): Promise<{ bytesWritten: number; buffer: T }>;
  write(data: string, position?: number | null, encoding?: BufferEncoding | null): Promise<{ bytesWritten: number; buffer: string }>;
  async write(
    buffer: unknown,
    offset?: unknown,
    length?: unknown,
    position?: unknown,
  ): Promise<{ bytesWritten: number; buffer: ArrayBufferView | string }> {
    const options = typeof buffer === 'string' ? undefined : offset;
    const task = (state: VolumeState, file: FileDescription): Task<number> => calls.write(state, file, buffer, offset, length, position);
    const bytesWritten = await this.#run('write', task, options);
    return { bytesWritten, buffer: buffer as ArrayBufferView | string };
  }

  async writev<T extends readonly ArrayBufferView[]>(buffers: T, position?: number | null): Promise<{ bytesWritten: number; buffers: T }> {
    const bytesWritten = await this.#run('writev', (state, file) => calls.writev(state, file, buffers, position));
    return { bytesWritten, buffers };
  }

  writeFile(data: calls.FileData, options?: (calls.WriteFileOptions & Abortable) | BufferEncoding | null): Promise<void> {
    return this.#run('writeFile', (state, file) => calls.writeFile(state, file, data, options), options);
  }

  /** The same as writeFile: at the position, which is the end if the file was opened to append. */
  appendFile(data: calls.FileData, options?: (calls.WriteFileOptions & Abortable) | BufferEncoding | null): Promise<void> {
    return this.writeFile(data, options);
  }

  truncate(length = 0, options?: Abortable): Promise<void> {
    return this.#run('ftruncate', (state, file) => calls.ftruncate(state, file, length), options);
  }

  sync(options?: Abortable): Promise<void> {
    return this.#run('fsync', calls.fsync, options);
  }

  datasync(options?: Abortable): Promise<void> {
    return this.#run('fdatasync', calls.fdatasync, options);
  }

  // Attributes.

  stat(options?: { bigint?: false | undefined } & Abortable): Promise<Stats>;
  stat(options: { bigint: true } & Abortable): Promise<BigIntStats>;
  stat(options?: { bigint?: boolean | undefined } & Abortable): Promise<Stats | BigIntStats>;
  stat(options: unknown = {}): Promise<Stats | BigIntStats> {
    return this.#run('fstat', (state, file) => calls.fstat(state, file, options), options);
  }

  chmod(mode: number | string, options?: Abortable): Promise<void> {
    return this.#run('fchmod', (state, file) => calls.fchmod(state, file, mode), options);
  }

  chown(uid: number, gid: number, options?: Abortable): Promise<void> {
    return this.#run('fchown', (state, file) => calls.fchown(state, file, uid, gid), options);
  }

  utimes(atime: TimeLike, mtime: TimeLike, options?: Abortable): Promise<void> {
    return this.#run('futimes', (state, file) => calls.futimes(state, file, atime, mtime), options);
  }

  // What node:fs lacks.

  /** Allocates, punches, zeroes, takes out or makes room, as fallocate(2). */
  fallocate(offset: number, length: number, options?: linux.FallocateOptions & Abortable): Promise<void> {
    return this.#run('fallocate', (state, file) => linux.fallocate(state, file, offset, length, options), options);
  }

  /** Where data begins at `pos` or behind. Errors: ENXIO if none follows. */
  seekData(pos: number, options?: Abortable): Promise<number> {
    return this.#run('lseek', (state, file) => linux.seekData(state, file, pos), options);
  }

  /** Where a hole begins at `pos` or behind; the end of the file counts as one. Errors: ENXIO past the end. */
  seekHole(pos: number, options?: Abortable): Promise<number> {
    return this.#run('lseek', (state, file) => linux.seekHole(state, file, pos), options);
  }

  /** The extents of a range of the file. */
  fiemap(options?: linux.FiemapOptions & Abortable): Promise<FileExtent[]> {
    return this.#run('fiemap', (state, file) => linux.fiemap(state, file, options), options);
  }

  /** Copies bytes of this file into another open one. Shape: bytes copied, fewer at the end. */
  copyFileRange(other: FileHandle, options?: linux.CopyRangeOptions & Abortable): Promise<number> {
    const task = (state: VolumeState, file: FileDescription): Task<number> =>
      linux.copyFileRange(state, file, other.description('copy_file_range'), options);
    return this.#run('copy_file_range', task, options);
  }

  /** The value of an extended attribute, or undefined. */
  getXattr(name: string, options?: Abortable): Promise<Uint8Array | undefined> {
    return this.#run('fgetxattr', (state, file) => linux.fgetxattr(state, file, name), options);
  }

  setXattr(name: string, value: string | ArrayBufferView, options?: linux.SetXattrOptions & Abortable): Promise<void> {
    return this.#run('fsetxattr', (state, file) => linux.fsetxattr(state, file, name, value, options), options);
  }

  listXattr(options?: Abortable): Promise<string[]> {
    return this.#run('flistxattr', linux.flistxattr, options);
  }

  /** Errors: ENODATA where there is none. */
  removeXattr(name: string, options?: Abortable): Promise<void> {
    return this.#run('fremovexattr', (state, file) => linux.fremovexattr(state, file, name), options);
  }

  /** What decides about access; with `default` what a directory gives to what is made in it, undefined where there is none. */
  getAcl(options?: AclOptions & Abortable): Promise<PosixAcl | undefined> {
    return this.#run('fgetxattr', (state, file) => linux.fgetacl(state, file, options), options);
  }

  /** Sets it, also from text (`u::rwx,u:1000:r,g::r,m::r,o::-`); undefined removes it. */
  setAcl(acl: PosixAcl | string | undefined, options?: AclOptions & Abortable): Promise<void> {
    return this.#run('fsetxattr', (state, file) => linux.fsetacl(state, file, acl, options), options);
  }

  /** Takes an advisory lock. Blocks: until it is granted, unless told not to. Errors: EAGAIN, EDEADLK; AbortError. */
  lock(options?: linux.LockOptions & Abortable): Promise<void> {
    return this.#run('fcntl', (state, file) => linux.lock(state, file, options), options);
  }

  unlock(options?: Omit<linux.LockOptions, 'type' | 'wait'> & Abortable): Promise<void> {
    return this.#run('fcntl', (state, file) => linux.unlock(state, file, options), options);
  }

  /** A lock of somebody else that would keep this one waiting, or undefined. */
  getLock(options?: Omit<linux.LockOptions, 'wait'> & Abortable): Promise<linux.LockHolder | undefined> {
    return this.#run('fcntl', (state, file) => linux.getLock(state, file, options), options);
  }

  /** A range of the file as memory. It keeps the file open, also past this handle's close, until it is closed itself. */
  map(options?: linux.MapOptions & Abortable): Promise<FileView> {
    return this.#run('mmap', (state, file) => linux.map(state, file, options), options);
  }

  // Closing.

  /** Waits for what is under way and closes the file. Once: later calls get the same answer. */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    if (this.#fd === -1) return Promise.resolve();
    const { fds } = this.#state;
    const fd = this.#fd;
    this.#fd = -1;
    // The number stays taken until the file is closed, so that nobody reads another file by it.
    this.#closing = this.#idle()
      .then(() => {
        if (!this.#file.isOpen) throw new FsError('EBADF', 'close');
        return promised(() => calls.close(this.#state, this.#file));
      })
      .finally(() => {
        fds.release(fd, this.#file);
        this.#closing = undefined;
      });
    if (hasNode) this.emit('close');
    return this.#closing;
  }

  /** @internal Closes now, with nothing under way. Errors: EBADF; EAGAIN where it would have to wait. */
  closeAtOnce(): void {
    if (this.#fd === -1) throw closedError('close');
    const { fds } = this.#state;
    atOnce(calls.close(this.#state, fds.remove(this.#fd, 'close')));
    this.#fd = -1;
    if (hasNode) this.emit('close');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #idle(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenIdle = resolve;
    });
  }

  /** Waits for an operation, which keeps the file open. */
  async #counted<T>(operation: PromiseLike<T>): Promise<T> {
    this.#pending++;
    try {
      return await operation;
    } finally {
      if (--this.#pending === 0) this.#whenIdle?.();
    }
  }

  /** Runs a Task on the file. `options` may hold a signal. */
  async #run<T>(syscall: string, task: (state: VolumeState, file: FileDescription) => Task<T>, options?: unknown): Promise<T> {
    const file = this.description(syscall);
    const signal = signalOf(options);
    if (signal?.aborted === true) throw abortError(signal);
    const state = withSignal(this.#state, signal);
    return await this.#counted(promised(() => task(state, file), signal));
  }
}

/** Node's: without a number, since no system call was made. */
function closedError(syscall: string): Error {
  return Object.assign(new Error('file closed'), { code: 'EBADF', syscall });
}

/** The signal in an option bag. */
export function signalOf(options: unknown): AbortSignalLike | undefined {
  if (typeof options !== 'object' || options === null || !('signal' in options)) return undefined;
  return toOptions({ signal: options.signal }).signal;
}

/** Are these arguments of read, in the form of numbers, right as they are? Others are for readArguments. */
function isPlainRead(buffer: unknown, offset: unknown, length: unknown, position: unknown): buffer is Uint8Array {
  return (
    buffer instanceof Uint8Array &&
    Number.isInteger(offset) &&
    Number.isInteger(length) &&
    (offset as number) >= 0 &&
    (length as number) > 0 &&
    (offset as number) + (length as number) <= buffer.length &&
    (position === null || position === undefined || (Number.isSafeInteger(position) && (position as number) >= 0))
  );
}

/** The arguments of read, which come in three forms. */
function readArguments(
  buffer: unknown,
  offset: unknown,
  length: unknown,
  position: unknown,
): calls.BufferRange & { buffer: unknown; signal?: unknown } {
  let range: calls.BufferRange & { signal?: unknown };
  if (ArrayBuffer.isView(buffer)) {
    range = typeof offset === 'object' && offset !== null ? offset : { offset, length, position };
  } else {
    const options = validateObject((buffer ?? {}) as calls.BufferRange & { buffer?: unknown }, 'options');
    range = options;
    buffer = options.buffer === undefined ? allocate(READ_BUFFER_SIZE).fill(0) : options.buffer;
  }
  return {
    buffer,
    offset: range.offset ?? undefined,
    length: range.length ?? undefined,
    position: range.position,
    signal: range.signal,
  };
}
