import type { AbortSignalLike } from '../base/abort.ts';
import { type Deferred, deferred, isPromise, then } from '../base/task.ts';
import { IN_ATTRIB, IN_MODIFY, type WatchEvent } from '../vfs/fsnotify.ts';
import { globPattern } from './glob.ts';
import { abortError, face } from './node-error.ts';
import { builtin } from './platform.ts';
import { basename, resolve } from './posix-path.ts';
import type { VolumeState } from './state.ts';
import { encodeName } from './text.ts';
import type { EncodingOptions } from './tree-calls.ts';
import {
  invalidType,
  invalidValue,
  nodeError,
  type PathLike,
  toPath,
  validateAbortSignal,
  validateBoolean,
  validateEncoding,
  validateFunction,
  validateInteger,
  validateObject,
} from './validate.ts';

/** What is not told: glob patterns, for the last component where they have no slash; expressions; functions of the name. */
export type WatchIgnore = string | RegExp | ((filename: string) => boolean);

export interface WatchOptions extends EncodingOptions {
  /** Accepted for node:fs: a watch keeps no process alive. */
  persistent?: boolean | undefined;
  /** What happens in directories below, too. */
  recursive?: boolean | undefined;
  /** Events kept for an iterator that does not ask. Default 2048. */
  maxQueue?: number | undefined;
  /** What becomes of those that are more: they are lost, or the iterator fails. Default 'ignore'. */
  overflow?: 'ignore' | 'error' | undefined;
  ignore?: WatchIgnore | readonly WatchIgnore[] | undefined;
}

/** As node:fs tells it: 'change' of contents or attributes, 'rename' for names that come and go. */
export interface FileChange {
  readonly eventType: 'rename' | 'change';
  /** In the watched directory; of a watched file its own. */
  readonly filename: string | Uint8Array;
}

/** What happens to a file, or in a directory, from the first call of `next` on, until `return` or the signal ends it. */
export async function* watch(state: VolumeState, path: PathLike, options: WatchOptions = {}): AsyncGenerator<FileChange, void, undefined> {
  const name = toPath(path);
  const { maxQueue = 2048, overflow = 'ignore', signal } = checkOptions(options);
  if (signal?.aborted === true) throw abortError(signal);

  const queue: FileChange[] = [];
  let failure: Error | undefined;
  let news: Deferred<void> = deferred();
  const fail = (error: Error): void => {
    failure ??= error;
    news.resolve();
  };
  const end = await begin(state, name, options, (change) => {
    if (queue.length < maxQueue) queue.push(change);
    else if (overflow === 'error') {
      fail(nodeError(Error, 'ERR_FS_WATCH_QUEUE_OVERFLOW', `fs.watch() queued more than ${maxQueue} events`));
    }
    news.resolve();
  });
  const endAbort = onAbort(signal, () => fail(abortError(signal)));
  try {
    for (;;) {
      if (failure !== undefined) throw failure;
      const change = queue.shift();
      if (change !== undefined) yield change;
      else {
        await news.promise;
        news = deferred();
      }
    }
  } finally {
    endAbort();
    end();
  }
}

/** The watcher of fs.watch: an EventEmitter with 'change', 'error' and 'close'. */
export interface FsWatcher {
  close(): void;
  /** Nothing to do: a watch keeps no process alive. */
  ref(): FsWatcher;
  unref(): FsWatcher;
  on(event: 'change', listener: (eventType: 'rename' | 'change', filename: string | Uint8Array) => void): FsWatcher;
  on(event: 'error', listener: (error: Error) => void): FsWatcher;
  on(event: 'close', listener: () => void): FsWatcher;
  emit(event: string, ...values: unknown[]): boolean;
}

export type WatchListener = (eventType: 'rename' | 'change', filename: string | Uint8Array) => void;

/** fs.watch. Events come in a later turn than what causes them. Needs Node's EventEmitter. */
export function watchEvents(
  state: VolumeState,
  path: PathLike,
  options?: string | WatchOptions | WatchListener,
  listener?: WatchListener,
): FsWatcher {
  const given = typeof options === 'function' ? {} : typeof options === 'string' ? { encoding: options } : (options ?? {});
  if (typeof given !== 'object') throw invalidType('options', 'one of type string or object', options);
  const heard = typeof options === 'function' ? options : listener;
  if (heard !== undefined) validateFunction(heard, 'listener');
  const name = toPath(path);
  const { signal } = checkOptions(given);

  const { EventEmitter } = builtin<{ EventEmitter: new () => FsWatcher }>('node:events');
  const watcher = new EventEmitter();
  if (heard !== undefined) watcher.on('change', heard);
  const later = (event: string, ...values: unknown[]): void => {
    void Promise.resolve().then(() => watcher.emit(event, ...values));
  };
  let isClosed = false;
  let end = (): void => {};
  watcher.close = () => {
    if (isClosed) return;
    isClosed = true;
    end();
    later('close');
  };
  watcher.ref = () => watcher;
  watcher.unref = () => watcher;

  const begun = then(
    begin(state, name, given, ({ eventType, filename }) => {
      if (!isClosed) later('change', eventType, filename);
    }),
    (ended) => {
      if (isClosed) ended();
      else end = ended;
    },
  );
  if (isPromise(begun)) begun.then(undefined, (error: Error) => later('error', error));
  if (signal?.aborted === true) watcher.close();
  else onAbort(signal, () => watcher.close());
  return watcher;
}

function checkOptions(options: WatchOptions): WatchOptions {
  validateObject(options, 'options');
  const { persistent, recursive, encoding, maxQueue, overflow, ignore } = options;
  if (persistent !== undefined) validateBoolean(persistent, 'options.persistent');
  if (recursive !== undefined) validateBoolean(recursive, 'options.recursive');
  if (maxQueue !== undefined) validateInteger(maxQueue, 'options.maxQueue');
  if (overflow !== undefined && overflow !== 'ignore' && overflow !== 'error') {
    throw invalidValue('options.overflow', overflow, "must be one of: 'ignore', 'error'");
  }
  if (encoding !== 'buffer') validateEncoding(encoding);
  validateAbortSignal(options.signal);
  if (Array.isArray(ignore)) for (const [index, each] of ignore.entries()) checkIgnore(each, `options.ignore[${index}]`);
  else if (ignore !== undefined && ignore !== null) checkIgnore(ignore, 'options.ignore');
  return options;
}

function checkIgnore(ignore: unknown, name: string): void {
  if (ignore === '') throw invalidValue(name, ignore, 'must be a non-empty string');
  if (typeof ignore === 'string' || typeof ignore === 'function' || ignore instanceof RegExp) return;
  throw invalidType(name, 'one of type string or function or an instance of RegExp', ignore);
}

/** Tells `listener` what happens, in node:fs's words. Gives what ends it. Errors: those of watch, with the path as `filename`, too. */
function begin(state: VolumeState, name: string, options: WatchOptions, listener: (change: FileChange) => void) {
  const { recursive = false, encoding } = options;
  const isIgnored = ignored(options.ignore);
  const own = basename(resolve('/', name));
  const hear = (event: WatchEvent): void => {
    const filename = event.name === '' ? own : event.name;
    if (isIgnored(filename)) return;
    listener({ eventType: event.mask & (IN_MODIFY | IN_ATTRIB) ? 'change' : 'rename', filename: encodeName(filename, encoding) });
  };
  const failed = (error: unknown): never => {
    throw Object.assign(face(error, 'watch', name), { filename: encodeName(name) });
  };
  try {
    const end = state.vfs.watch(state.caller, name, { recursive }, hear);
    return isPromise(end) ? end.catch(failed) : end;
  } catch (error) {
    return failed(error);
  }
}

function ignored(ignore: WatchOptions['ignore']): (filename: string) => boolean {
  const all = ignore === undefined || ignore === null ? [] : Array.isArray(ignore) ? ignore : [ignore];
  const tests = all.map((each: WatchIgnore): ((filename: string) => boolean) => {
    if (typeof each === 'function') return each;
    if (typeof each !== 'string') return (filename) => each.test(filename);
    const pattern = globPattern(each, { dot: true, matchBase: true });
    return (filename) => pattern.match(filename);
  });
  return (filename) => tests.some((test) => test(filename));
}

/** Calls `heard` when the signal is aborted. Returns what ends that. A signal without events is not heard. */
function onAbort(signal: AbortSignalLike | undefined, heard: () => void): () => void {
  const target = signal as
    | Partial<Record<'addEventListener' | 'removeEventListener', (type: string, listener: () => void) => void>>
    | undefined;
  target?.addEventListener?.('abort', heard);
  return () => target?.removeEventListener?.('abort', heard);
}
