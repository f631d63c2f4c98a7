import { errnoOf, FsError, hasCode } from '../../base/fs-error.ts';
import type { ReplyEncoder } from '../abi/reply-encoder.ts';
import type { FuseChannel } from '../transport/channel.ts';
import type { OperationCounters } from './metrics.ts';

/**
 * The answer that one request is owed.
 *
 * Invariant: it is sent at most once; encoding and sending are one turn, since all answers share an encoder.
 */
export class PendingReply {
  readonly unique: number;
  readonly opcode: number;
  /** When the request was received, clock milliseconds (performance.now). */
  readonly since: number;
  #isResend: boolean;
  readonly #encoder: ReplyEncoder;
  readonly #channel: FuseChannel;
  readonly #counters: OperationCounters;
  #isSent = false;
  #isTimedOut = false;

  constructor(encoder: ReplyEncoder, channel: FuseChannel, counters: OperationCounters, unique: number, opcode: number, isResend: boolean) {
    this.#encoder = encoder;
    this.#channel = channel;
    this.#counters = counters;
    this.unique = unique;
    this.opcode = opcode;
    this.since = performance.now();
    this.#isResend = isResend;
  }

  /** The request came once more: it is that copy which waits for the answer. */
  noteResend(): void {
    this.#isResend = true;
  }

  /** Time was up before the filesystem answered. */
  get isTimedOut(): boolean {
    return this.#isTimedOut;
  }

  get isSent(): boolean {
    return this.#isSent;
  }

  /**
   * Sends what `encode` writes, into `bytes` if it is given.
   *
   * Shape:  false if nobody waits for it any more; then what the answer would have handed over is to be taken back.
   */
  send(encode: (encoder: ReplyEncoder) => number, bytes?: Uint8Array, errno = 0): boolean {
    // Time was up, and the caller has been told so.
    if (this.#isSent) return false;
    const shared = this.#encoder.bytes;
    if (bytes !== undefined) this.#encoder.moveTo(bytes);
    try {
      const length = encode(this.#encoder.to(this.unique, this.#isResend));
      this.#isSent = true;
      this.#channel.send(this.#encoder.bytes, length);
      this.#counters.answered(this.opcode, performance.now() - this.since, errno);
      return true;
    } catch (error) {
      // The caller died, or the session ended, before the answer was there.
      if (this.#isSent && (hasCode(error, 'ENOENT') || hasCode(error, 'ENODEV') || hasCode(error, 'ENOTCONN'))) {
        this.#counters.unwanted++;
        return false;
      }
      throw error;
    } finally {
      this.#encoder.moveTo(shared);
    }
  }

  empty(): boolean {
    return this.send((encoder) => encoder.empty());
  }

  timeOut(): void {
    this.#isTimedOut = true;
    this.fail(new FsError('ETIMEDOUT', 'fuse'));
  }

  fail(error: unknown): boolean {
    return this.error(errnoOf(error));
  }

  /** A negative errno as answer: for what is asked often and is mostly not there, since making an error takes longer than many a request. */
  error(errno: number): boolean {
    return this.send((encoder) => encoder.error(errno), undefined, errno);
  }
}
