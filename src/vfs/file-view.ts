import { FsError } from '../base/fs-error.ts';
import { IovIter, type WriteSource } from '../base/iov-iter.ts';
import { roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';

/** The open file behind a view, by its calls. */
export interface ViewedFile {
  /** i_size. */
  size(): MaybePromise<number>;
  read(into: Uint8Array, pos: number): MaybePromise<number>;
  write(source: WriteSource, pos: number): MaybePromise<number>;
  sync(start: number, end: number): MaybePromise<void>;
  close(): MaybePromise<void>;
}

/**
 * A range of a file as memory, MAP_SHARED: what is stored is what reads see, and the other way round. Loads and stores are calls, so
 * that it works on every filesystem, near or behind a channel; the cache that serves them is the filesystem's.
 *
 * As in any mmap the last page goes on behind the end of the file: it loads as zeros there, and what is stored there is lost.
 *
 * Errors:  EFAULT past that page, for which the kernel sends SIGBUS; EACCES for a store to a view that is not writable; EINVAL for bytes
 *          outside the view, EBADF after close.
 */
export class FileView {
  /** File position of byte 0 of the view. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly writable: boolean;
  readonly #file: ViewedFile;
  #isOpen = true;

  constructor(offset: number, length: number, writable: boolean, file: ViewedFile) {
    this.offset = offset;
    this.length = length;
    this.writable = writable;
    this.#file = file;
  }

  /** Copies the bytes [at, at + into.length) of the view. */
  load(at: number, into: Uint8Array): MaybePromise<void> {
    this.#check(at, into.length);
    return run(this.#load(at, into));
  }

  *#load(at: number, into: Uint8Array): Task<void> {
    const { inFile } = yield* this.#place(at, into.length);
    for (let done = 0; done < inFile; ) {
      const count = yield* wait(this.#file.read(into.subarray(done, inFile), this.offset + at + done));
      if (count === 0) {
        into.fill(0, done); // truncated meanwhile
        return;
      }
      done += count;
    }
    into.fill(0, inFile);
  }

  /** Stores `from` at byte `at` of the view. What was stored before an error stays. */
  store(at: number, from: Uint8Array): MaybePromise<void> {
    this.#check(at, from.length);
    if (!this.writable) throw new FsError('EACCES', 'mmap');
    return run(this.#store(at, from));
  }

  *#store(at: number, from: Uint8Array): Task<void> {
    const { inFile } = yield* this.#place(at, from.length);
    for (let done = 0; done < inFile; ) {
      done += yield* wait(this.#file.write(new IovIter(from.subarray(done, inFile)), this.offset + at + done));
    }
  }

  /** Makes what was stored in [at, at + length) of the view durable (MS_SYNC). */
  sync(at = 0, length: number = this.length - at): MaybePromise<void> {
    this.#check(at, length);
    return length === 0 ? undefined : this.#file.sync(this.offset + at, this.offset + at + length);
  }

  /** munmap. Again is no error. */
  close(): MaybePromise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    return this.#file.close();
  }

  /** How many of the bytes lie in the file; the others lie behind it in its last page. */
  *#place(at: number, length: number): Task<{ inFile: number }> {
    const size = yield* wait(this.#file.size());
    const start = this.offset + at;
    if (length > 0 && start + length > roundUp(size, PAGE_SIZE)) {
      throw new FsError('EFAULT', 'mmap', {
        detail: `byte ${Math.max(start, roundUp(size, PAGE_SIZE))} is past the end of the file at ${size}`,
      });
    }
    return { inFile: Math.max(0, Math.min(length, size - start)) };
  }

  #check(at: number, length: number): void {
    if (!this.#isOpen) throw new FsError('EBADF', 'mmap');
    const isInside = Number.isInteger(at) && at >= 0 && Number.isInteger(length) && length >= 0 && at + length <= this.length;
    if (!isInside) throw new FsError('EINVAL', 'mmap', { detail: `bytes ${at}+${length} of a view of ${this.length}` });
  }
}
