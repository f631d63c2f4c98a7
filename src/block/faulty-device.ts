import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { ERRNO, type ErrnoCode } from '../base/errno.ts';
import type { Prng } from '../base/prng.ts';
import type { MaybePromise } from '../base/task.ts';
import { WaitQueue } from '../base/wait-queue.ts';
import {
  Bio,
  type BioOp,
  emptyBio,
  REQ_ATOMIC,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
} from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';
import { FilterDevice } from './filter-device.ts';
import { slice } from './vec.ts';

export type FaultOp = 'read' | 'write' | 'flush' | 'discard' | 'write-zeroes';

/** When a request is hit, and what happens to it. A request that several rules hit is delayed by all and hit otherwise by the first. */
export interface FaultRule {
  /** Default: any. */
  ops?: readonly FaultOp[];
  /** Requests that touch [addr, addr + length); default the whole device. Flushes are hit wherever it lies. */
  addr?: number;
  length?: number;
  /** Lets this many matching requests pass first. */
  skip?: number;
  /** Hits at most this many. Default: all. */
  times?: number;
  /** 0 to 1, drawn for each matching request. Default: 1. */
  probability?: number;

  /** Fails the request. */
  errno?: ErrnoCode;
  /** A write that fails leaves some of its first blocks written, a read some of its first blocks read. Atomic writes leave nothing. */
  isTorn?: boolean;
  /** Flips so many bits in the data of a read that succeeds. */
  corruptBits?: number;
  /** Holds the completion until release(). */
  hangs?: boolean;
  /** Holds the completion for this long, or for a time drawn between the two. */
  latencyMs?: number | readonly [number, number];
}

/** A rule at work. */
export interface Fault {
  readonly rule: FaultRule;
  /** Requests that it hit. */
  readonly hits: number;
  remove(): void;
}

class ActiveFault implements Fault {
  readonly rule: FaultRule;
  readonly remove: () => void;
  matches = 0;
  hits = 0;

  constructor(rule: FaultRule, remove: () => void) {
    this.rule = rule;
    this.remove = remove;
  }
}

const OP_NAME: { readonly [K in BioOp]: FaultOp } = {
  [REQ_OP_READ]: 'read',
  [REQ_OP_WRITE]: 'write',
  [REQ_OP_FLUSH]: 'flush',
  [REQ_OP_DISCARD]: 'discard',
  [REQ_OP_WRITE_ZEROES]: 'write-zeroes',
};

/**
 * A device that fails, tears, corrupts, delays or holds the requests to another, by rules. The same seed and the same requests give the
 * same faults.
 *
 * Latency and hanging hold the completion, not the request: the data has moved by then, so a power cut meanwhile may or may not keep it.
 */
export class FaultyDevice extends FilterDevice {
  readonly #prng: Prng;
  readonly #clock: Clock | undefined;
  readonly #faults: ActiveFault[] = [];
  #hung: (() => void)[] = [];
  #held = 0;
  #isClosing = false;
  readonly #idle = new WaitQueue();

  /** `clock` is needed for rules with latency. */
  constructor(inner: BlockDevice, prng: Prng, clock?: Clock) {
    super(inner, 'faulty');
    this.#prng = prng;
    this.#clock = clock;
  }

  /** Adds a rule after those that are there. */
  inject(rule: FaultRule): Fault {
    assert(rule.latencyMs === undefined || this.#clock !== undefined, 'latency needs a clock');
    const fault = new ActiveFault(rule, () => {
      const at = this.#faults.indexOf(fault);
      if (at >= 0) this.#faults.splice(at, 1);
    });
    this.#faults.push(fault);
    return fault;
  }

  /** Removes all rules. What hangs goes on hanging. */
  heal(): void {
    this.#faults.length = 0;
  }

  /** Requests that hang. */
  get hungCount(): number {
    return this.#hung.length;
  }

  /** Completes the `count` requests that have hung longest. */
  release(count: number = this.#hung.length): void {
    for (const complete of this.#hung.splice(0, count)) complete();
  }

  submit(bio: Bio): void {
    // A request that the device would refuse is not one that can be hit.
    const rules = this.#faults.length === 0 || checkBio(this, bio) !== 0 ? [] : this.#hits(bio);
    if (rules.length === 0) {
      this.inner.submit(bio);
      return;
    }
    let delayMs = 0;
    let effect: FaultRule | undefined;
    for (const rule of rules) {
      const { latencyMs } = rule;
      if (latencyMs !== undefined)
        delayMs += typeof latencyMs === 'number' ? latencyMs : latencyMs[0] + (latencyMs[1] - latencyMs[0]) * (this.#prng.u32() / 2 ** 32);
      if (rule.errno !== undefined || rule.corruptBits !== undefined || rule.hangs === true) effect ??= rule;
    }

    const complete = (status: number): void => this.#complete(bio, status, delayMs, effect?.hangs === true);
    if (effect?.errno !== undefined) this.#fail(bio, -ERRNO[effect.errno], effect.isTorn === true, complete);
    else this.#forward(bio, bio.length, effect?.corruptBits ?? 0, complete);
  }

  /** Releases what hangs, waits for what is delayed, and closes the device below. */
  override close(): MaybePromise<void> {
    this.#isClosing = true;
    this.heal();
    this.release();
    if (this.#held === 0) return super.close();
    return this.#idle.wait().then(() => super.close());
  }

  #hits(bio: Bio): FaultRule[] {
    const hit: FaultRule[] = [];
    for (const fault of this.#faults) {
      const { ops, addr = 0, length = Infinity, skip = 0, times = Infinity, probability = 1 } = fault.rule;
      if (ops !== undefined && !ops.includes(OP_NAME[bio.op])) continue;
      if (bio.op !== REQ_OP_FLUSH && (bio.addr >= addr + length || bio.addr + bio.length <= addr)) continue;
      if (fault.matches++ < skip || fault.hits >= times) continue;
      if (probability < 1 && !this.#prng.chance(probability)) continue;
      fault.hits++;
      hit.push(fault.rule);
    }
    return hit;
  }

  #fail(bio: Bio, errno: number, isTorn: boolean, complete: (status: number) => void): void {
    const blocks = bio.length / this.logicalBlockSize;
    const canTear = isTorn && bio.op !== REQ_OP_FLUSH && (bio.flags & REQ_ATOMIC) === 0;
    // All blocks may have made it too: an error says nothing of them.
    const kept = canTear ? this.#prng.below(blocks + 1) * this.logicalBlockSize : 0;
    if (kept === 0) complete(errno);
    else this.#forward(bio, kept, 0, () => complete(errno));
  }

  #forward(bio: Bio, length: number, corruptBits: number, complete: (status: number) => void): void {
    const ended = ({ status }: Bio): void => {
      if (status === 0 && bio.op === REQ_OP_READ && corruptBits > 0) this.#corrupt(bio, corruptBits);
      complete(status);
    };
    if (bio.vec.length === 0) {
      this.inner.submit(emptyBio(bio.op, bio.addr, length, bio.flags, ended));
      return;
    }
    const part = new Bio(bio.op, bio.addr, bio.flags, ended);
    for (const bytes of length === bio.length ? bio.vec : slice(bio.vec, 0, length)) part.add(bytes);
    this.inner.submit(part);
  }

  #corrupt(bio: Bio, bits: number): void {
    // Distinct bits, since a bit flipped twice is whole again.
    const flipped = new Set<number>();
    while (flipped.size < Math.min(bits, bio.length * 8)) flipped.add(this.#prng.below(bio.length * 8));
    for (const bit of flipped) {
      const [byte] = slice(bio.vec, Math.floor(bit / 8), 1) as [Uint8Array];
      byte[0] = (byte[0] as number) ^ (1 << (bit % 8));
    }
  }

  #complete(bio: Bio, status: number, delayMs: number, hangs: boolean): void {
    if (delayMs === 0 && !hangs) {
      bio.end(status);
      return;
    }
    this.#held++;
    const end = (): void => {
      bio.end(status);
      if (--this.#held === 0) this.#idle.wakeAll();
    };
    const late = (): void => {
      if (hangs && !this.#isClosing) this.#hung.push(end);
      else end();
    };
    if (delayMs === 0) late();
    else (this.#clock as Clock).timer(delayMs, late);
  }
}
