import { assert } from '../base/assert.ts';

/** Bio operations. */
export const REQ_OP_READ = 0;
export const REQ_OP_WRITE = 1;
/** Makes all completed writes durable. No data. */
export const REQ_OP_FLUSH = 2;
/** The content of the range is no longer needed; it may read as anything afterwards. No data. */
export const REQ_OP_DISCARD = 3;
/** The range reads as zeros afterwards. No data. */
export const REQ_OP_WRITE_ZEROES = 9;

export type BioOp = typeof REQ_OP_READ | typeof REQ_OP_WRITE | typeof REQ_OP_FLUSH | typeof REQ_OP_DISCARD | typeof REQ_OP_WRITE_ZEROES;

/** Bio flags. */
/** The data is durable before the request completes. */
export const REQ_FUA = 1 << 0;
/** All writes completed before this request are durable before it starts. */
export const REQ_PREFLUSH = 1 << 1;
/** All of the request reaches the device, or nothing of it. */
export const REQ_ATOMIC = 1 << 2;
/** Nobody waits for this read; it may fail with -EAGAIN when the device is busy. */
export const REQ_RAHEAD = 1 << 3;
/** Somebody waits for it. */
export const REQ_SYNC = 1 << 4;
/** Metadata. */
export const REQ_META = 1 << 5;
/** The device generates or verifies protection information for it. */
export const REQ_INTEGRITY = 1 << 6;

/**
 * One request to a block device.
 *
 * Shape:  device bytes [addr, addr + length); `vec` is the memory, in order, length bytes in all (empty for flush, discard and
 *         write-zeroes). The device may keep references to the memory until it calls end().
 * Invariant: end() is called exactly once, inside submit() or later. onEnd does not throw: it runs on the stack of the device.
 */
export class Bio {
  readonly op: BioOp;
  flags: number;
  readonly addr: number;
  length = 0;
  readonly vec: Uint8Array[];
  /** 0, or a negative errno. Valid from end() on. */
  status = 0;
  onEnd: (bio: Bio) => void;
  /** File position of the first byte where the data is a file's, -1 elsewhere: devices that encrypt derive the key position from it. */
  filePos = -1;
  /** The submitter's own. */
  private: unknown = undefined;
  #ended = false;

  /** `vec`, of `length` bytes, is the bio's from here on; empty to start with if absent. */
  constructor(op: BioOp, addr: number, flags: number, onEnd: (bio: Bio) => void, vec: Uint8Array[] = [], length = 0) {
    this.op = op;
    this.addr = addr;
    this.flags = flags;
    this.onEnd = onEnd;
    this.vec = vec;
    this.length = length;
  }

  /** Appends memory. */
  add(bytes: Uint8Array): void {
    this.vec.push(bytes);
    this.length += bytes.length;
  }

  get isWrite(): boolean {
    return this.op !== REQ_OP_READ;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Completes the request. Called by the device. */
  end(status: number): void {
    assert(!this.#ended, 'bio completed twice');
    this.#ended = true;
    this.status = status;
    this.onEnd(this);
  }
}

/** A request without memory (flush, discard, write-zeroes) of a given length. */
export function emptyBio(op: BioOp, addr: number, length: number, flags: number, onEnd: (bio: Bio) => void): Bio {
  const bio = new Bio(op, addr, flags, onEnd);
  bio.length = length;
  return bio;
}
