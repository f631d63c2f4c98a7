import { closeSync, read, readSync, writeSync } from 'node:fs';
import { errnoOf, FsError, hasCode } from '../../base/fs-error.ts';
import type { MaybePromise } from '../../base/task.ts';
import { type FuseChannel, SESSION_END } from './channel.ts';

/**
 * The kernel's end of a mount: an open descriptor of /dev/fuse, in blocking mode.
 *
 * While nothing else has to run, the thread waits in read(2) itself: that is nearly twice as fast as a turn of the event loop for each
 * request. Otherwise a thread of Node's pool waits, and what was begun goes on meanwhile.
 */
export class DevFuse implements FuseChannel {
  readonly fd: number;
  #isClosed = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  receive(into: Uint8Array, mayBlock: boolean): MaybePromise<number> {
    if (this.#isClosed) return SESSION_END;
    return mayBlock ? this.#receiveNow(into) : this.#receiveLater(into);
  }

  #receiveNow(into: Uint8Array): number {
    for (;;) {
      try {
        return readSync(this.fd, into) || SESSION_END;
      } catch (error) {
        const answer = this.#explain(error);
        if (answer !== undefined) return answer;
      }
    }
  }

  async #receiveLater(into: Uint8Array): Promise<number> {
    for (;;) {
      try {
        return (await this.#read(into)) || SESSION_END;
      } catch (error) {
        const answer = this.#explain(error);
        if (answer !== undefined) return answer;
      }
    }
  }

  #read(into: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      read(this.fd, into, 0, into.length, null, (error, length) => (error === null ? resolve(length) : reject(error)));
    });
  }

  /** The end, or undefined where it is worth another try. Errors: all others. */
  #explain(error: unknown): number | undefined {
    // ENODEV: unmounted. ECONNABORTED: aborted. EBADF: closed here meanwhile.
    if (this.#isClosed || hasCode(error, 'ENODEV') || hasCode(error, 'ECONNABORTED')) return SESSION_END;
    // ENOENT: the request was taken back before it was read.
    if (hasCode(error, 'EINTR') || hasCode(error, 'EAGAIN') || hasCode(error, 'ENOENT')) return undefined;
    throw FsError.of(errnoOf(error), 'read', { cause: error, detail: '/dev/fuse' });
  }

  send(bytes: Uint8Array, length: number): void {
    if (this.#isClosed) throw new FsError('ENODEV', 'write');
    try {
      writeSync(this.fd, bytes, 0, length);
    } catch (error) {
      throw FsError.of(errnoOf(error), 'write', { cause: error, detail: '/dev/fuse' });
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.fd);
  }
}
