import type { MaybePromise } from '../../base/task.ts';

/** Answer of receive() when the session is over: unmounted, aborted, or the peer hung up. */
export const SESSION_END = -1;

/**
 * What moves framed messages between a FUSE server and its kernel, or whoever plays it. One receive gives one whole message, one send takes
 * one.
 */
export interface FuseChannel {
  /**
   * The next message, put at the start of `into`.
   *
   * Shape:   its length, or SESSION_END. At most one receive is under way.
   * Blocks:  with `mayBlock` the thread itself may stand still until there is one: nothing else has to run meanwhile. Otherwise it answers
   *          with a promise when there is none.
   * Errors:  EINVAL for an `into` that is too small; EIO.
   */
  receive(into: Uint8Array, mayBlock: boolean): MaybePromise<number>;
  /** Sends the first `length` bytes. Errors: ENOENT where nobody waits for this answer any more; ENODEV at the end; EINVAL for one that is none. */
  send(bytes: Uint8Array, length: number): void;
  /** Ends this side. A receive under way ends with SESSION_END. */
  close(): void;
}
