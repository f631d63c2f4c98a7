import { hasCode } from '../base/fs-error.ts';
import { type Task, wait } from '../base/task.ts';
import type { DirEntry } from '../vfs/attr.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import { isDirectory, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../vfs/uapi.ts';
import { Dirent } from './dirent.ts';
import { face, faced } from './node-error.ts';
import { join } from './posix-path.ts';
import { atOnce, promised, type VolumeState } from './state.ts';
import { encodeName } from './text.ts';
import { begin, checkSignal, type EncodingOptions, typeOf } from './tree-calls.ts';
import { nodeError, type PathLike, toOptions, toPath, validateFunction, validateInteger } from './validate.ts';

export interface OpendirOptions extends EncodingOptions {
  /** Names read from the directory at once. Default 32. */
  bufferSize?: number | undefined;
  /** Also what is in the directories below. Symbolic links are not followed. */
  recursive?: boolean | undefined;
}

type AnyDirent = Dirent<string | Uint8Array>;
type ReadCallback = (error: Error | null, dirent?: AnyDirent | null) => void;
type CloseCallback = (error?: Error | null) => void;

export function* opendir(state: VolumeState, path: PathLike, options?: string | null | OpendirOptions): Task<Dir> {
  const name = toPath(path);
  const bag: OpendirOptions = toOptions(options);
  const bufferSize = validateInteger(bag.bufferSize === undefined ? 32 : bag.bufferSize, 'options.bufferSize', 1, 2 ** 32 - 1);
  const each = begin(state, bag);
  const file = yield* faced(() => each.vfs.open(each.caller, name, O_RDONLY | O_DIRECTORY), 'opendir', name);
  return new Dir(each, file, name, bufferSize, bag, path instanceof Uint8Array ? 'buffer' : 'utf8');
}

/**
 * An open directory, as node:fs has it. Calls that give promises may overlap, and are answered in their order; the others fail while such
 * calls run.
 *
 * Invariant: at most one directory is open at a time, also when what is below is listed.
 */
export class Dir {
  readonly #state: VolumeState;
  readonly #path: string;
  readonly #bufferSize: number;
  readonly #options: OpendirOptions;
  readonly #parentEncoding: 'buffer' | 'utf8';
  #file: FileDescription;
  /** Path of the directory that is being read. */
  #at: string;
  /** Paths of directories that are still to be read. */
  readonly #below: string[] = [];
  #entries: DirEntry[] = [];
  #next = 0;
  #isClosed = false;
  #running = 0;
  #last: Promise<unknown> = Promise.resolve();

  /** Takes the open file over. `parentEncoding`: how entries name the directory. */
  constructor(
    state: VolumeState,
    file: FileDescription,
    path: string,
    bufferSize: number,
    options: OpendirOptions,
    parentEncoding: 'buffer' | 'utf8' = 'utf8',
  ) {
    this.#state = state;
    this.#file = file;
    this.#path = path;
    this.#at = path;
    this.#bufferSize = bufferSize;
    this.#options = options;
    this.#parentEncoding = parentEncoding;
  }

  /** As it was given to opendir. */
  get path(): string {
    return encodeName(this.#path) as string;
  }

  /** The next name, in no order; null at the end. */
  read(): Promise<AnyDirent | null>;
  read(callback: ReadCallback): void;
  read(callback?: ReadCallback): Promise<AnyDirent | null> | undefined {
    return withCallback(callback, () => this.#inOrder(() => this.#read(this.#stateOf(false))));
  }

  readSync(): AnyDirent | null {
    this.#checkIdle();
    return atOnce(this.#read(this.#stateOf(true)));
  }

  close(): Promise<void>;
  close(callback: CloseCallback): void;
  close(callback?: CloseCallback): Promise<void> | undefined {
    return withCallback(callback, async () => {
      this.#checkOpen();
      this.#isClosed = true;
      await this.#queued(() => this.#close(this.#stateOf(false)));
    });
  }

  closeSync(): void {
    this.#checkIdle();
    this.#isClosed = true;
    atOnce(this.#close(this.#stateOf(true)));
  }

  async *entries(): AsyncGenerator<AnyDirent, void, undefined> {
    try {
      for (let dirent = await this.read(); dirent !== null; dirent = await this.read()) yield dirent;
    } finally {
      if (!this.#isClosed) await this.close();
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<AnyDirent, void, undefined> {
    return this.entries();
  }

  *[Symbol.iterator](): Generator<AnyDirent, void, undefined> {
    try {
      for (let dirent = this.readSync(); dirent !== null; dirent = this.readSync()) yield dirent;
    } finally {
      if (!this.#isClosed) this.closeSync();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isClosed) await this.close();
  }

  [Symbol.dispose](): void {
    if (!this.#isClosed) this.closeSync();
  }

  *#read(state: VolumeState): Task<AnyDirent | null> {
    const { encoding, recursive } = this.#options;
    for (;;) {
      checkSignal(state);
      const entry = this.#entries[this.#next];
      if (entry !== undefined) {
        const type = yield* typeOf(state, this.#at, entry);
        this.#next++;
        if (recursive && isDirectory(type)) this.#below.push(join(this.#at, entry.name));
        return new Dirent(encodeName(entry.name, encoding), encodeName(this.#at, this.#parentEncoding), type);
      }
      this.#entries = yield* faced(() => this.#file.readdir(state.caller, this.#bufferSize), 'scandir', this.#at);
      this.#next = 0;
      if (this.#entries.length === 0 && !(yield* this.#descend(state))) return null;
    }
  }

  /** Goes on with the next directory below; false if there is none. One that is gone by now is left out. */
  *#descend(state: VolumeState): Task<boolean> {
    const { vfs, caller } = state;
    for (let path = this.#below[0]; path !== undefined; path = this.#below[0]) {
      const at = path;
      let file: FileDescription | undefined;
      try {
        file = yield* wait(vfs.open(caller, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      } catch (error) {
        if (!(['ENOENT', 'ENOTDIR', 'ELOOP'] as const).some((code) => hasCode(error, code))) throw face(error, 'opendir', at);
      }
      this.#below.shift();
      if (file === undefined) continue;
      const done = this.#file;
      this.#file = file;
      this.#at = at;
      yield* this.#closeFile(state, done);
      return true;
    }
    return false;
  }

  *#close(state: VolumeState): Task<void> {
    yield* this.#closeFile(state, this.#file);
  }

  *#closeFile(state: VolumeState, file: FileDescription): Task<void> {
    yield* faced(() => file.close(state.caller), 'closedir');
  }

  async #inOrder<T>(task: () => Task<T>): Promise<T> {
    this.#checkOpen();
    return await this.#queued(task);
  }

  #queued<T>(task: () => Task<T>): Promise<T> {
    this.#running++;
    const { signal } = this.#state.caller;
    const answer = this.#last.then(() => promised(task, signal)).finally(() => this.#running--);
    this.#last = answer.then(
      () => {},
      () => {},
    );
    return answer;
  }

  #stateOf(nowait: boolean): VolumeState {
    const { caller } = this.#state;
    return { ...this.#state, caller: { ...caller, nowait } };
  }

  #checkOpen(): void {
    if (this.#isClosed) throw nodeError(Error, 'ERR_DIR_CLOSED', 'Directory handle was closed');
  }

  #checkIdle(): void {
    this.#checkOpen();
    if (this.#running === 0) return;
    const message = 'Cannot do synchronous work on directory handle with concurrent asynchronous operations';
    throw nodeError(Error, 'ERR_DIR_CONCURRENT_OPERATION', message);
  }
}

/** The promise of `start`, or where there is a callback nothing: it is called with what comes of it. */
function withCallback<T>(
  callback: ((error: Error | null, value?: T) => void) | undefined,
  start: () => Promise<T>,
): Promise<T> | undefined {
  if (callback === undefined) return start();
  validateFunction(callback, 'callback');
  start().then(
    (value) => callback(null, value),
    (error: Error) => callback(error),
  );
  return undefined;
}
