import { assert } from './assert.ts';
import type { MaybePromise } from './task.ts';

/** Where the bytes of a write come from. May be short of memory at any moment, as user memory is. */
export interface WriteSource {
  /** Bytes left. */
  readonly count: number;
  /** All of it is in memory and stays there: nothing waits, and no copy falls short. */
  readonly isResident?: boolean;
  /** Makes bytes at the front readable without waiting. Returns how many of the next `length` are; 0 if none can be (EFAULT). */
  faultIn(length: number): MaybePromise<number>;
  /** Copies up to `length` bytes to `into` at `at` and moves on; never waits, so it may copy less, or nothing. */
  copyTo(into: Uint8Array, at: number, length: number): number;
  /** Gives back the last `length` bytes that were copied. */
  revert(length: number): void;
}

/** A walk over a list of buffers in memory: the source of a write or the target of a read. The buffers stay the caller's. */
export class IovIter implements WriteSource {
  readonly isResident = true;
  readonly #vec: readonly Uint8Array[];
  #segment = 0;
  #offset = 0; // in the segment
  #count = 0;
  #done = 0;

  constructor(vec: Uint8Array | readonly Uint8Array[]) {
    this.#vec = vec instanceof Uint8Array ? [vec] : vec;
    for (const each of this.#vec) this.#count += each.length;
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes passed so far. */
  get done(): number {
    return this.#done;
  }

  get segments(): readonly Uint8Array[] {
    return this.#vec;
  }

  faultIn(length: number): number {
    return Math.min(length, this.#count);
  }

  copyTo(into: Uint8Array, at: number, length: number): number {
    let copied = 0;
    while (copied < length && this.#count > 0) {
      const piece = this.#piece(length - copied);
      into.set(piece, at + copied);
      copied += piece.length;
      this.advance(piece.length);
    }
    return copied;
  }

  /** Stores `from` at the front and moves on: the target of a read. Returns the bytes stored. */
  copyFrom(from: Uint8Array): number {
    let copied = 0;
    while (copied < from.length && this.#count > 0) {
      const piece = this.#piece(from.length - copied);
      piece.set(copied === 0 && piece.length === from.length ? from : from.subarray(copied, copied + piece.length));
      copied += piece.length;
      this.advance(piece.length);
    }
    return copied;
  }

  /** Zeroes `length` bytes at the front and moves on. Returns the bytes zeroed. */
  zero(length: number): number {
    let zeroed = 0;
    while (zeroed < length && this.#count > 0) {
      const piece = this.#piece(length - zeroed);
      piece.fill(0);
      zeroed += piece.length;
      this.advance(piece.length);
    }
    return zeroed;
  }

  /** The memory at the front, in one piece, at most `length` bytes; for devices. Does not move. */
  peek(length: number): Uint8Array {
    assert(this.#count > 0, 'peek past the end of the buffers');
    return this.#piece(length);
  }

  /** Only the next `count` bytes are left. Bytes cut off come back with reexpand. */
  truncate(count: number): void {
    this.#count = Math.min(this.#count, count);
  }

  reexpand(count: number): void {
    this.#count = count;
  }

  advance(length: number): void {
    assert(length <= this.#count, 'advance past the end of the buffers');
    this.#count -= length;
    this.#done += length;
    this.#offset += length;
    this.#settle();
  }

  revert(length: number): void {
    assert(length <= this.#done, 'revert before the start of the buffers');
    this.#count += length;
    this.#done -= length;
    let left = length;
    while (left > this.#offset) {
      left -= this.#offset;
      this.#segment--;
      this.#offset = (this.#vec[this.#segment] as Uint8Array).length;
    }
    this.#offset -= left;
  }

  /** Steps over segments that are used up. */
  #settle(): void {
    while (this.#segment < this.#vec.length - 1) {
      const length = (this.#vec[this.#segment] as Uint8Array).length;
      if (this.#offset < length) return;
      this.#offset -= length;
      this.#segment++;
    }
  }

  #piece(length: number): Uint8Array {
    this.#settle();
    const segment = this.#vec[this.#segment] as Uint8Array;
    const end = Math.min(segment.length, this.#offset + Math.min(length, this.#count));
    return this.#offset === 0 && end === segment.length ? segment : segment.subarray(this.#offset, end);
  }
}
