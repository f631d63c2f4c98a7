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
  /**
   * Sends a notification, whole, from another thread than the one that answers: the kernel may hold it until an answer is there.
   *
   * Shape:   resolves when the kernel has taken it, in the order in which they are given. `bytes` is the channel's from here on.
   * Blocks:  never this thread; the promise for as long as the kernel holds what the notification needs.
   * Errors:  the kernel's: ENOENT where it knows nothing of that node or name; ENODEV at the end.
   */
  notify(bytes: Uint8Array): Promise<void>;
  /**
   * Ends a receive that blocks, by a message that means nothing, soon after `delayMs` milliseconds, counted from now. The last call counts.
   * Where it is absent, nobody wakes who blocks.
   */
  wakeIn?(delayMs: number): void;
  /**
   * Registers an open file of the host, to be read and written by the kernel itself. Where it is absent there is no passthrough.
   *
   * Shape:   the kernel's number of it, above 0.
   * Errors:  EPERM without the right, or where FUSE_PASSTHROUGH was not agreed on; ELOOP; EBADF.
   */
  backingOpen?(fd: number): MaybePromise<number>;
  /** Gives such a number back. Open files go on. */
  backingClose?(backingId: number): MaybePromise<void>;
  /** Ends this side. A receive under way ends with SESSION_END. */
  close(): void;
}
