import { errnoOf, hasCode } from '../../base/fs-error.ts';
import type { ReplyEncoder } from '../abi/reply-encoder.ts';
import type { FuseChannel } from '../transport/channel.ts';

/**
 * The answer that one request is owed.
 *
 * Invariant: it is sent at most once; encoding and sending are one turn, since all answers share an encoder.
 */
export class PendingReply {
  readonly unique: number;
  readonly #isResend: boolean;
  readonly #encoder: ReplyEncoder;
  readonly #channel: FuseChannel;
  #isSent = false;

  constructor(encoder: ReplyEncoder, channel: FuseChannel, unique: number, isResend: boolean) {
    this.#encoder = encoder;
    this.#channel = channel;
    this.unique = unique;
    this.#isResend = isResend;
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
    const shared = this.#encoder.bytes;
    if (bytes !== undefined) this.#encoder.moveTo(bytes);
    try {
      const length = encode(this.#encoder.to(this.unique, this.#isResend));
      this.#isSent = true;
      this.#channel.send(this.#encoder.bytes, length);
      return true;
    } catch (error) {
      // The caller died, or the session ended, before the answer was there.
      if (this.#isSent && (hasCode(error, 'ENOENT') || hasCode(error, 'ENODEV') || hasCode(error, 'ENOTCONN'))) return false;
      throw error;
    } finally {
      this.#encoder.moveTo(shared);
    }
  }

  empty(): boolean {
    return this.send((encoder) => encoder.empty());
  }

  fail(error: unknown): boolean {
    return this.send((encoder) => encoder.error(errnoOf(error)));
  }
}
