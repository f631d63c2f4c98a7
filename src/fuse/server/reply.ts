import { ERRNO } from '../../base/errno.ts';
import { errnoOf, hasCode } from '../../base/fs-error.ts';
import type { ReplyEncoder } from '../abi/reply-encoder.ts';
import type { FuseChannel } from '../transport/channel.ts';

/** Where the answers of one session go out: they share an encoder. */
export class ReplyPath {
  readonly encoder: ReplyEncoder;
  readonly channel: FuseChannel;
  /** Answers that nobody waited for any more. */
  unwanted = 0;

  constructor(encoder: ReplyEncoder, channel: FuseChannel) {
    this.encoder = encoder;
    this.channel = channel;
  }
}

/**
 * The answer that one request is owed.
 *
 * Invariant: it is sent at most once; encoding and sending are one turn, since all answers share an encoder.
 */
export class PendingReply {
  readonly unique: number;
  readonly #path: ReplyPath;
  #isResend: boolean;
  #isSent = false;
  #isTimedOut = false;

  constructor(path: ReplyPath, unique: number, isResend: boolean) {
    this.#path = path;
    this.unique = unique;
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
  send(encode: (encoder: ReplyEncoder) => number, bytes?: Uint8Array): boolean {
    // Time was up, and the caller has been told so.
    if (this.#isSent) return false;
    const { encoder, channel } = this.#path;
    const shared = encoder.bytes;
    if (bytes !== undefined) encoder.moveTo(bytes);
    try {
      const length = encode(encoder.to(this.unique, this.#isResend));
      this.#isSent = true;
      channel.send(encoder.bytes, length);
      return true;
    } catch (error) {
      // The caller died, or the session ended, before the answer was there.
      if (this.#isSent && (hasCode(error, 'ENOENT') || hasCode(error, 'ENODEV') || hasCode(error, 'ENOTCONN'))) {
        this.#path.unwanted++;
        return false;
      }
      throw error;
    } finally {
      if (bytes !== undefined) encoder.moveTo(shared);
    }
  }

  empty(): boolean {
    return this.send((encoder) => encoder.empty());
  }

  timeOut(): void {
    this.#isTimedOut = true;
    this.error(-ERRNO.ETIMEDOUT);
  }

  fail(error: unknown): boolean {
    return this.error(errnoOf(error));
  }

  /** A negative errno as answer: for what is asked often and is mostly not there, since making an error takes longer than many a request. */
  error(errno: number): boolean {
    return this.send((encoder) => encoder.error(errno));
  }
}
