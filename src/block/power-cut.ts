import { assert } from '../base/assert.ts';
import type { Prng } from '../base/prng.ts';
import { type BioOp, REQ_ATOMIC, REQ_FUA, REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_WRITE, REQ_PREFLUSH } from './bio.ts';
import type { MemoryDevice } from './memory-device.ts';

/** Which blocks of a request reached the medium: all, or these runs [from, to), sorted, not empty. */
export type Kept = 'all' | readonly (readonly [from: number, to: number])[];

/** What a discarded block reads as: nothing that a file system may rely on. Ranges past the limit read as zeros, to save memory. */
const DISCARDED = 0xdb;
const DISCARD_FILL_MAX = 2 ** 24;

/** A request that changes the device, or a flush, as the model sees it. */
export class PendingRequest {
  readonly id: number;
  readonly op: BioOp;
  readonly flags: number;
  readonly addr: number;
  readonly length: number;
  /** The data of a write; may be set as late as before the next cut. */
  data: Uint8Array | undefined;
  readonly submittedAt: number;
  /** Infinity while in flight. */
  completedAt = Infinity;
  hasFailed = false;
  /** Certainly on the medium. */
  isDurable = false;

  constructor(id: number, op: BioOp, flags: number, addr: number, length: number, data: Uint8Array | undefined, submittedAt: number) {
    this.id = id;
    this.op = op;
    this.flags = flags;
    this.addr = addr;
    this.length = length;
    this.data = data;
    this.submittedAt = submittedAt;
  }
}

/**
 * What a device may keep when the power goes.
 *
 * A write is certainly kept once it completed with FUA, or completed before a flush was submitted that completed too (REQ_PREFLUSH is
 * such a flush, ahead of the request's own data); without a volatile cache, once it completed. Of every other write any set of blocks is
 * kept: caches go to the medium by the block and in no order. Where kept writes overlap, the later completed wins. REQ_ATOMIC is kept
 * whole or not at all. A failed write may have left any of its blocks.
 *
 * Invariants:
 * 1. #base holds the durable requests that precede, in order of completion, every request that is not durable; #completed has the rest.
 * 2. If any block of a REQ_PREFLUSH request is kept, all writes that completed before its submission are kept.
 */
export class PowerCutModel {
  readonly blockSize: number;
  readonly #hasVolatileCache: boolean;
  readonly #base: MemoryDevice;
  #time = 0;
  #completed: PendingRequest[] = [];
  readonly #inFlight = new Set<PendingRequest>();

  /** Starts from the content of `base`, which stays as it is. */
  constructor(base: MemoryDevice, blockSize: number, hasVolatileCache: boolean) {
    this.#base = base.snapshot();
    this.blockSize = blockSize;
    this.#hasVolatileCache = hasVolatileCache;
  }

  submit(id: number, op: BioOp, flags: number, addr: number, length: number, data: Uint8Array | undefined): PendingRequest {
    const request = new PendingRequest(id, op, flags, addr, length, data, ++this.#time);
    this.#inFlight.add(request);
    return request;
  }

  complete(request: PendingRequest, status: number): void {
    assert(this.#inFlight.delete(request), 'completion of a request that is not in flight');
    request.completedAt = ++this.#time;
    request.hasFailed = status < 0;
    if (request.op !== REQ_OP_FLUSH) this.#completed.push(request);
    if (request.hasFailed) return;

    request.isDurable = !this.#hasVolatileCache || (request.flags & REQ_FUA) !== 0;
    if (request.op === REQ_OP_FLUSH || (request.flags & REQ_PREFLUSH) !== 0) {
      for (const earlier of this.#completed) if (isFlushedBy(earlier, request)) earlier.isDurable = true;
    }
    let settled = 0;
    for (; settled < this.#completed.length; settled++) {
      const first = this.#completed[settled] as PendingRequest;
      if (!first.isDurable) break;
      this.#apply(this.#base, first, 'all');
    }
    if (settled > 0) this.#completed.splice(0, settled);
  }

  /** The requests that a cut now may keep or lose, in the order in which they would be applied. */
  optional(): PendingRequest[] {
    return [...this.#completed.filter((request) => !request.isDurable), ...[...this.#inFlight].filter(({ op }) => op !== REQ_OP_FLUSH)];
  }

  /** Blocks of a request. */
  blocksOf(request: PendingRequest): number {
    return request.length / this.blockSize;
  }

  canTear(request: PendingRequest): boolean {
    return (request.flags & REQ_ATOMIC) === 0 && this.blocksOf(request) > 1;
  }

  /** The device after a cut now that kept these of the optional requests, by id. */
  cut(keep: ReadonlyMap<number, Kept>): MemoryDevice {
    const image = this.#base.snapshot();
    const flushing = this.optional().filter(({ id, flags }) => keep.has(id) && (flags & REQ_PREFLUSH) !== 0);
    for (const request of this.#completed) {
      const isKept = request.isDurable || flushing.some((flush) => isFlushedBy(request, flush));
      const kept = isKept ? 'all' : keep.get(request.id);
      if (kept !== undefined) this.#apply(image, request, kept);
    }
    for (const request of this.#inFlight) {
      const kept = keep.get(request.id);
      if (kept !== undefined) this.#apply(image, request, kept);
    }
    return image;
  }

  /** Draws what a cut now keeps. */
  draw(prng: Prng): Map<number, Kept> {
    const keep = new Map<number, Kept>();
    const whole = prng.pick([0.1, 0.5, 0.9]);
    const torn = prng.pick([0, 0.2, 0.8]);
    for (const request of this.optional()) {
      if (this.canTear(request) && prng.chance(torn)) {
        const runs = drawRuns(prng, this.blocksOf(request));
        if (runs.length > 0) keep.set(request.id, runs);
      } else if (prng.chance(whole)) {
        keep.set(request.id, 'all');
      }
    }
    return keep;
  }

  #apply(image: MemoryDevice, request: PendingRequest, kept: Kept): void {
    const { addr, length, data } = request;
    for (const [from, to] of kept === 'all' ? [[0, length / this.blockSize] as const] : kept) {
      const start = from * this.blockSize;
      const count = (to - from) * this.blockSize;
      if (request.op === REQ_OP_WRITE) image.write(addr + start, (data as Uint8Array).subarray(start, start + count));
      else image.fill(request.op === REQ_OP_DISCARD && length <= DISCARD_FILL_MAX ? DISCARDED : 0, addr + start, count);
    }
  }
}

function isFlushedBy(write: PendingRequest, flush: PendingRequest): boolean {
  return !write.hasFailed && write.completedAt < flush.submittedAt;
}

// Torn writes as devices leave them: a prefix, a suffix, or any blocks.
function drawRuns(prng: Prng, blocks: number): [number, number][] {
  const at = prng.between(1, blocks - 1);
  switch (prng.below(3)) {
    case 0:
      return [[0, at]];
    case 1:
      return [[at, blocks]];
    default: {
      const runs: [number, number][] = [];
      for (let block = 0; block < blocks; block++) {
        if (!prng.chance(0.5)) continue;
        const last = runs.at(-1);
        if (last !== undefined && last[1] === block) last[1]++;
        else runs.push([block, block + 1]);
      }
      return runs;
    }
  }
}
