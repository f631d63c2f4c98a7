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
class LoopbackEnd implements FuseChannel {
  #peer: LoopbackEnd | undefined;
  readonly #queue = new Fifo<Uint8Array>();
  #waiter: (Deferred<number> & { readonly into: Uint8Array }) | undefined;
  #isClosed = false;

  connect(peer: LoopbackEnd): void {
    this.#peer = peer;
  }

  receive(into: Uint8Array): MaybePromise<number> {
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

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#wakeAtEnd();
    if (this.#peer !== undefined) this.#peer.#wakeAtEnd();
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
export function loopbackPair(): [FuseChannel, FuseChannel] {
  const [a, b] = [new LoopbackEnd(), new LoopbackEnd()];
  a.connect(b);
  b.connect(a);
  return [a, b];
}
