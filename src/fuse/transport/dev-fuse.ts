import { closeSync, read, readSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { isErrnoCode } from '../../base/errno.ts';
import { errnoOf, FsError, hasCode } from '../../base/fs-error.ts';
import { type Deferred, deferred, type MaybePromise } from '../../base/task.ts';
import { Libc } from '../../sys/libc.ts';
import { type FuseChannel, SESSION_END } from './channel.ts';
import type { FromNotifier, NotifierData, ToNotifier } from './notifier.ts';

export interface DevFuseOptions {
  /** Never stands still: for a thread that has more to do than to serve. Default: it may, when the server says so. */
  readonly onEventLoop?: boolean;
  /**
   * [0] is set by another thread to end this side: at the next message, which is not taken then. A message that came by the event loop is at
   * the start of `mailbox` from its arrival until the loop turns to it. [CONTROL_DONE] is 1, and notified, once the descriptor is closed.
   */
  readonly control?: Int32Array;
  /** Memory that other threads see, as large as the largest message. Used on the event loop only. */
  readonly mailbox?: Uint8Array;
  /** Makes the kernel send some message, so that a wait in the pool ends. Called at close(). */
  readonly wake?: () => void;
  /** Has another thread do so after a while, milliseconds. The last call counts. */
  readonly wakeIn?: (delayMs: number) => void;
}

/** Values of control[0]. */
export const CONTROL_END = 1;
/** The descriptor is closed already, by who set this. */
export const CONTROL_CLOSED = 2;
/** Index in control, and its length. */
export const CONTROL_DONE = 1;
export const CONTROL_WORDS = 2;

/**
 * The kernel's end of a mount: an open descriptor of /dev/fuse, in blocking mode.
 *
 * While nothing else has to run, the thread waits in read(2) itself: that is nearly twice as fast as a turn of the event loop for each
 * request. Otherwise a thread of Node's pool waits, and what was begun goes on meanwhile.
 *
 * Invariant: the descriptor is closed only once no thread can be about to read or write by its number, which may be another file's from then on.
 */
export class DevFuse implements FuseChannel {
  readonly fd: number;
  /** Resolves when the descriptor is closed, and the thread of notifications gone. Never fails. */
  readonly closed: Promise<void>;
  readonly wakeIn?: (delayMs: number) => void;
  readonly #options: DevFuseOptions;
  readonly #end: Deferred<void> = deferred<void>();
  #isClosed = false;
  #isReading = false;
  #notifier: Notifier | undefined;

  constructor(fd: number, options: DevFuseOptions = {}) {
    this.fd = fd;
    this.#options = options;
    if (options.wakeIn !== undefined) this.wakeIn = options.wakeIn;
    this.closed = this.#end.promise;
  }

  receive(into: Uint8Array, mayBlock: boolean): MaybePromise<number> {
    if (this.#isEnding) return SESSION_END;
    // Notifications under way are waited for by somebody, whose turn comes on the event loop.
    const stands = mayBlock && this.#options.onEventLoop !== true && (this.#notifier?.isIdle ?? true);
    return stands ? this.#receiveNow(into) : this.#receiveLater(into);
  }

  get #isEnding(): boolean {
    const { control } = this.#options;
    return this.#isClosed || (control !== undefined && Atomics.load(control, 0) !== 0);
  }

  #receiveNow(into: Uint8Array): number {
    for (;;) {
      try {
        return this.#taken(readSync(this.fd, into));
      } catch (error) {
        const answer = this.#explain(error);
        if (answer !== undefined) return answer;
      }
    }
  }

  async #receiveLater(into: Uint8Array): Promise<number> {
    const { mailbox } = this.#options;
    for (;;) {
      try {
        const length = await this.#read(mailbox ?? into);
        if (mailbox !== undefined) {
          if (length > into.length) throw new FsError('EINVAL', 'read', { detail: `${length} bytes into ${into.length}` });
          into.set(mailbox.subarray(0, length));
          mailbox.fill(0, 0, 4);
        }
        return this.#taken(length);
      } catch (error) {
        const answer = this.#explain(error);
        if (answer !== undefined) return answer;
      }
    }
  }

  #read(into: Uint8Array): Promise<number> {
    this.#isReading = true;
    return new Promise((resolve, reject) => {
      read(this.fd, into, 0, into.length, null, (error, length) => {
        this.#isReading = false;
        this.#closeIfUnused();
        if (error === null) resolve(length);
        else reject(error);
      });
    });
  }

  #taken(length: number): number {
    return length === 0 || this.#isEnding ? SESSION_END : length;
  }

  /** The end, or undefined where it is worth another try. Errors: all others. */
  #explain(error: unknown): number | undefined {
    // ENODEV: unmounted. ECONNABORTED: aborted. EBADF: closed here meanwhile.
    if (this.#isEnding || hasCode(error, 'ENODEV') || hasCode(error, 'ECONNABORTED')) return SESSION_END;
    // ENOENT: the request was taken back before it was read.
    if (hasCode(error, 'EINTR') || hasCode(error, 'EAGAIN') || hasCode(error, 'ENOENT')) return undefined;
    throw FsError.of(errnoOf(error), 'read', { cause: error, detail: '/dev/fuse' });
  }

  send(bytes: Uint8Array, length: number): void {
    if (this.#isEnding) throw new FsError('ENODEV', 'write');
    try {
      writeSync(this.fd, bytes, 0, length);
    } catch (error) {
      throw FsError.of(errnoOf(error), 'write', { cause: error, detail: '/dev/fuse' });
    }
  }

  /**
   * Sends one whole notification from another thread than this one, which goes on at once. Notifications arrive in the order of the calls, and
   * one that the kernel keeps waiting holds up those after it.
   *
   * Errors: the kernel's, ENOENT where it knows nothing of what the notification is about; ENODEV at the end.
   */
  notify(bytes: Uint8Array): Promise<void> {
    if (this.#isEnding) return Promise.reject(new FsError('ENODEV', 'write', { detail: 'a notification' }));
    this.#notifier ??= new Notifier(this.fd, () => this.#closeIfUnused());
    return this.#notifier.send(bytes);
  }

  /** Errors: those of the ioctl; ENOSYS without koffi. */
  backingOpen(fd: number): number {
    return new Libc().fuseBackingOpen(this.fd, fd);
  }

  backingClose(backingId: number): void {
    new Libc().fuseBackingClose(this.fd, backingId);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#notifier?.close();
    if (this.#isReading) this.#options.wake?.();
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    if (!this.#isClosed || this.#isReading || this.#notifier?.isIdle === false) return;
    const { control } = this.#options;
    const before = control === undefined ? 0 : Atomics.exchange(control, 0, CONTROL_CLOSED);
    if (before !== CONTROL_CLOSED) closeSync(this.fd);
    if (control !== undefined) {
      Atomics.store(control, CONTROL_DONE, 1);
      Atomics.notify(control, CONTROL_DONE);
    }
    void Promise.resolve(this.#notifier?.terminate()).then(() => this.#end.resolve());
    this.#notifier = undefined;
  }
}

/** The thread of notifications, as the one that answers sees it. */
class Notifier {
  readonly #worker: Worker;
  readonly #closed = new Int32Array(new SharedArrayBuffer(4));
  readonly #waiting = new Map<number, Deferred<void>>();
  readonly #onIdle: () => void;
  #lastId = 0;

  constructor(fd: number, onIdle: () => void) {
    const workerData: NotifierData = { fd, closed: this.#closed };
    this.#onIdle = onIdle;
    this.#worker = new Worker(new URL('./notifier.js', import.meta.url), { workerData, trackUnmanagedFds: false });
    this.#worker.unref();
    this.#worker.on('message', ({ id, code }: FromNotifier) => this.#settle(id, code));
    const lost = (): void => {
      for (const id of [...this.#waiting.keys()]) this.#settle(id, 'EIO');
    };
    this.#worker.once('error', lost);
    this.#worker.once('exit', lost);
  }

  /** No notification is under way: nobody writes, and nobody waits. */
  get isIdle(): boolean {
    return this.#waiting.size === 0;
  }

  send(bytes: Uint8Array): Promise<void> {
    const id = ++this.#lastId;
    const message: ToNotifier = { id, bytes: bytes.slice() };
    const waiting = deferred<void>();
    this.#waiting.set(id, waiting);
    this.#worker.postMessage(message, [message.bytes.buffer as ArrayBuffer]);
    return waiting.promise;
  }

  /** Those not yet written fail with ENODEV. */
  close(): void {
    Atomics.store(this.#closed, 0, 1);
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #settle(id: number, code: string | undefined): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (code === undefined) waiting?.resolve();
    else waiting?.reject(new FsError(isErrnoCode(code) ? code : 'EIO', 'write', { detail: 'a notification to /dev/fuse' }));
    if (this.isIdle) this.#onIdle();
  }
}
