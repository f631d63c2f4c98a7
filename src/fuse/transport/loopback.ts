import { assert } from '../../base/assert.ts';
import { Fifo } from '../../base/fifo.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Deferred, deferred, type MaybePromise } from '../../base/task.ts';
import { type FuseChannel, SESSION_END } from './channel.ts';

/** Messages that one end may have sent and the other not yet received. */
const QUEUE_MAX = 10_000;

/**
 * One end of an in-memory pair. Messages arrive in the order in which they were sent, as copies.
 *
 * Invariant: while somebody waits in receive, nothing is queued.
 */
export class LoopbackEnd implements FuseChannel {
  /**
   * Takes the notifications of the other end, as a kernel does: an error is the answer to that one, a promise holds it up. Without it they
   * are received like answers.
   */
  onNotify: ((bytes: Uint8Array) => MaybePromise<void>) | undefined;
  #peer: LoopbackEnd | undefined;
  readonly #queue = new Fifo<Uint8Array>();
  #waiter: (Deferred<number> & { readonly into: Uint8Array }) | undefined;
  #isClosed = false;
  /** When the last notification is taken. */
  #notified: Promise<void> = Promise.resolve();
  /** Fails at the end. */
  readonly #ended = deferred<void>();

  constructor() {
    this.#ended.promise.catch(() => {}); // told to those who wait
  }

  connect(peer: LoopbackEnd): void {
    this.#peer = peer;
  }

  receive(into: Uint8Array, _mayBlock: boolean): MaybePromise<number> {
    const message = this.#queue.shift();
    if (message !== undefined) {
      return put(message, into);
    }
    if (this.#isClosed || this.#peer === undefined || this.#peer.#isClosed) return SESSION_END;
    assert(this.#waiter === undefined, 'at most one receive is under way');
    this.#waiter = { ...deferred<number>(), into };
    return this.#waiter.promise;
  }

  send(bytes: Uint8Array, length: number): void {
    const peer = this.#peer;
    if (this.#isClosed || peer === undefined || peer.#isClosed) throw new FsError('ENODEV', 'write');
    peer.#deliver(bytes.subarray(0, length));
  }

  /** In a later turn, one behind the other. */
  notify(bytes: Uint8Array): Promise<void> {
    const taken = this.#notified.then((): MaybePromise<void> => {
      const peer = this.#peer;
      if (this.#isClosed || peer === undefined || peer.#isClosed) throw new FsError('ENODEV', 'write');
      if (peer.onNotify === undefined) return peer.#deliver(bytes);
      return Promise.race([peer.onNotify(bytes), this.#ended.promise]);
    });
    this.#notified = taken.catch(() => {});
    return taken;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#ended.reject(new FsError('ENODEV', 'write'));
    this.#wakeAtEnd();
    if (this.#peer === undefined) return;
    this.#peer.#ended.reject(new FsError('ENODEV', 'write'));
    this.#peer.#wakeAtEnd();
  }

  #wakeAtEnd(): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(SESSION_END);
  }

  #deliver(message: Uint8Array): void {
    const waiter = this.#waiter;
    if (waiter !== undefined) {
      this.#waiter = undefined;
      try {
        waiter.resolve(put(message, waiter.into));
      } catch (error) {
        waiter.reject(error);
      }
      return;
    }
    if (this.#queue.length >= QUEUE_MAX) throw new FsError('ENOBUFS', 'write', { detail: `${QUEUE_MAX} messages wait at the other end` });
    this.#queue.push(message.slice());
  }
}

/** Shape: its length. Errors: EINVAL for one that does not fit; it is lost. */
function put(message: Uint8Array, into: Uint8Array): number {
  if (message.length > into.length) throw new FsError('EINVAL', 'read', { detail: `${message.length} bytes into ${into.length}` });
  into.set(message);
  return message.length;
}

/** Two ends of a channel in memory. */
export function loopbackPair(): [LoopbackEnd, LoopbackEnd] {
  const [a, b] = [new LoopbackEnd(), new LoopbackEnd()];
  a.connect(b);
  b.connect(a);
  return [a, b];
}
