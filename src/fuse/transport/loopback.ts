import { Fifo } from '../../base/fifo.ts';
import { FsError } from '../../base/fs-error.ts';
import type { MaybePromise } from '../../base/task.ts';
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
  #waiter: { readonly into: Uint8Array; readonly wake: (length: number) => void } | undefined;
  #isClosed = false;

  connect(peer: LoopbackEnd): void {
    this.#peer = peer;
  }

  receive(into: Uint8Array): MaybePromise<number> {
    const message = this.#queue.shift();
    if (message !== undefined) {
      if (message.length > into.length) throw new FsError('EINVAL', 'read', { detail: `${message.length} bytes into ${into.length}` });
      into.set(message);
      return message.length;
    }
    if (this.#isClosed || this.#peer === undefined || this.#peer.#isClosed) return SESSION_END;
    return new Promise((wake) => {
      this.#waiter = { into, wake };
    });
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
    waiter?.wake(SESSION_END);
  }

  #deliver(message: Uint8Array): void {
    const waiter = this.#waiter;
    if (waiter !== undefined && message.length <= waiter.into.length) {
      this.#waiter = undefined;
      waiter.into.set(message);
      waiter.wake(message.length);
      return;
    }
    if (this.#queue.length >= QUEUE_MAX) throw new FsError('ENOBUFS', 'write', { detail: `${QUEUE_MAX} messages wait at the other end` });
    this.#queue.push(message.slice());
  }
}

/** Two ends of a channel in memory. */
export function loopbackPair(): [FuseChannel, FuseChannel] {
  const [a, b] = [new LoopbackEnd(), new LoopbackEnd()];
  a.connect(b);
  b.connect(a);
  return [a, b];
}
