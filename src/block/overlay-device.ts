import { ERRNO } from '../base/errno.ts';
import type { MaybePromise } from '../base/task.ts';
import { type Bio, REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';
import { FilterDevice } from './filter-device.ts';
import { gather, scatter } from './vec.ts';

/**
 * A device that keeps what is written to it in memory, before another that is never written.
 *
 * Invariant: a block in #blocks hides the block of `inner`.
 */
export class OverlayDevice extends FilterDevice {
  /** By number, in units of logicalBlockSize. */
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(inner: BlockDevice) {
    super(inner, 'overlay');
  }

  /** Bytes that are not those of `inner`. */
  get overlaidBytes(): number {
    return this.#blocks.size * this.logicalBlockSize;
  }

  /** Where bytes are not those of `inner`: in units of logicalBlockSize, in the order in which they came. */
  *overlaidAddrs(): Generator<number, void, undefined> {
    for (const block of this.#blocks.keys()) yield block * this.logicalBlockSize;
  }

  /** Puts `bytes`, whole blocks, at `addr`. The array is the overlay's from here on. */
  put(addr: number, bytes: Uint8Array): void {
    const unit = this.logicalBlockSize;
    for (let at = 0; at < bytes.length; at += unit) this.#blocks.set((addr + at) / unit, bytes.subarray(at, at + unit));
  }

  submit(bio: Bio): void {
    const status = checkBio(this, bio);
    if (status !== 0) {
      bio.end(status);
      return;
    }
    switch (bio.op) {
      case REQ_OP_READ:
        this.#read(bio);
        return;
      case REQ_OP_WRITE:
        this.put(bio.addr, gather(bio.vec, 0, bio.length));
        bio.end(0);
        return;
      case REQ_OP_WRITE_ZEROES:
        this.#zero(bio.addr, bio.length);
        bio.end(0);
        return;
      case REQ_OP_DISCARD:
      case REQ_OP_FLUSH:
        bio.end(0);
        return;
      default:
        bio.end(-ERRNO.ENOTSUP);
    }
  }

  override close(): MaybePromise<void> {
    this.#blocks.clear();
    return super.close();
  }

  #read(bio: Bio): void {
    if (this.#blocks.size > 0) {
      const { onEnd } = bio;
      bio.onEnd = (ended) => {
        if (ended.status === 0) this.#cover(ended);
        ended.onEnd = onEnd;
        onEnd(ended);
      };
    }
    this.inner.submit(bio);
  }

  /** Replaces what was read of blocks that are hidden. */
  #cover(bio: Bio): void {
    const unit = this.logicalBlockSize;
    for (let at = 0; at < bio.length; at += unit) {
      const block = this.#blocks.get((bio.addr + at) / unit);
      if (block !== undefined) scatter(block, bio.vec, at);
    }
  }

  #zero(addr: number, length: number): void {
    const unit = this.logicalBlockSize;
    const zeros = new Uint8Array(unit);
    for (let at = 0; at < length; at += unit) this.#blocks.set((addr + at) / unit, zeros);
  }
}
