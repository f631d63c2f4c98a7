import type { ReadStream, WriteStream } from 'node:fs';
import type { AbortSignalLike } from '../base/abort.ts';
import type { Task } from '../base/task.ts';
import * as calls from './file-calls.ts';
import { builtin } from './platform.ts';
import { promised, type VolumeState } from './state.ts';
import { type PathLike, toOptions } from './validate.ts';

// Streams are Node's own classes: they take the functions that they call from their `fs` option, and get ours, over our descriptors.

export type { ReadStream, WriteStream };

/** Options of both streams, as node:fs documents them. */
export interface StreamOptions {
  flags?: string | undefined;
  encoding?: BufferEncoding | null | undefined;
  fd?: number | StreamedHandle | undefined;
  mode?: number | undefined;
  autoClose?: boolean | undefined;
  emitClose?: boolean | undefined;
  start?: number | undefined;
  end?: number | undefined;
  highWaterMark?: number | undefined;
  flush?: boolean | undefined;
  signal?: AbortSignalLike | null | undefined;
}

/** The part of a FileHandle that its streams use. */
export interface StreamedHandle {
  readonly fd: number;
  close(): Promise<void>;
  once(event: 'close', listener: () => void): unknown;
}

type Callback = (error: Error | null, ...answers: unknown[]) => void;

/** What a stream calls. */
interface StreamFs {
  open(path: PathLike, flags: unknown, mode: unknown, callback: Callback): void;
  close(fd: number, callback: Callback): void;
  read(fd: number, buffer: Uint8Array, offset: number, length: number, position: unknown, callback: Callback): void;
  write(fd: number, buffer: Uint8Array, offset: number, length: number, position: unknown, callback: Callback): void;
  writev(fd: number, buffers: Uint8Array[], position: unknown, callback: Callback): void;
  fsync(fd: number, callback: Callback): void;
}

type StreamClass<S> = new (path: unknown, options: object) => S;

export function createReadStream(state: VolumeState, path: unknown, options?: unknown): ReadStream {
  return openStream(streamClass<ReadStream>('ReadStream'), state, path, options);
}

export function createWriteStream(state: VolumeState, path: unknown, options?: unknown): WriteStream {
  return openStream(streamClass<WriteStream>('WriteStream'), state, path, options);
}

export function createHandleReadStream(state: VolumeState, handle: StreamedHandle, options?: unknown): ReadStream {
  return handleStream(streamClass<ReadStream>('ReadStream'), state, handle, options);
}

export function createHandleWriteStream(state: VolumeState, handle: StreamedHandle, options?: unknown): WriteStream {
  return handleStream(streamClass<WriteStream>('WriteStream'), state, handle, options);
}

function streamClass<S>(name: string): StreamClass<S> {
  return builtin<Record<string, StreamClass<S>>>('node:fs')[name] as StreamClass<S>;
}

function openStream<S extends ReadStream | WriteStream>(Stream: StreamClass<S>, state: VolumeState, path: unknown, options: unknown): S {
  const given = toOptions<StreamOptions>(options);
  if (typeof given.fd === 'object' && given.fd !== null) return handleStream(Stream, state, given.fd, options);
  return new Stream(path, { ...given, fs: streamFs(state) });
}

function handleStream<S extends ReadStream | WriteStream>(
  Stream: StreamClass<S>,
  state: VolumeState,
  handle: StreamedHandle,
  options: unknown,
): S {
  const fs: StreamFs = { ...streamFs(state), close: (_fd, callback) => answer(handle.close(), callback, () => []) };
  const stream = new Stream(undefined, { ...toOptions<StreamOptions>(options), fd: handle.fd, fs });
  handle.once('close', () => stream.destroy());
  return stream;
}

/** Functions of node:fs with callbacks, over the descriptors of a volume. */
function streamFs(state: VolumeState): StreamFs {
  return {
    open(path, flags, mode, callback) {
      const task = function* (): Task<number> {
        return state.fds.add(yield* calls.open(state, path, flags, mode));
      };
      answer(promised(task), callback, (fd) => [fd]);
    },
    close(fd, callback) {
      const task = function* (): Task<void> {
        yield* calls.close(state, state.fds.remove(fd, 'close'));
      };
      answer(promised(task), callback, () => []);
    },
    read(fd, buffer, offset, length, position, callback) {
      const task = (): Task<number> => calls.read(state, state.fds.get(fd, 'read'), buffer, { offset, length, position });
      answer(promised(task), callback, (count) => [count, buffer]);
    },
    write(fd, buffer, offset, length, position, callback) {
      const task = (): Task<number> => calls.write(state, state.fds.get(fd, 'write'), buffer, offset, length, position);
      answer(promised(task), callback, (count) => [count, buffer]);
    },
    writev(fd, buffers, position, callback) {
      const task = (): Task<number> => calls.writev(state, state.fds.get(fd, 'write'), buffers, position);
      answer(promised(task), callback, (count) => [count, buffers]);
    },
    fsync(fd, callback) {
      const task = (): Task<void> => calls.fsync(state, state.fds.get(fd, 'fsync'));
      answer(promised(task), callback, () => []);
    },
  };
}

/** Calls back outside of the promise, so that what the callback throws is not taken for a rejection. */
function answer<T>(promise: Promise<T>, callback: Callback, answers: (value: T) => unknown[]): void {
  const { nextTick } = builtin<{ nextTick(call: () => void): void }>('node:process');
  promise.then(
    (value) => nextTick(() => callback(null, ...answers(value))),
    (error: Error) => nextTick(() => callback(error)),
  );
}
