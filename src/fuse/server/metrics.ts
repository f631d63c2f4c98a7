import { codeOf } from '../../base/errno.ts';
import { opcodeName } from '../abi/opcodes.ts';

/** Operations are counted by their number; those that have none here are counted as number 0. */
const OPCODES = 64;
/** The last bucket has what took longer than all others: about 4 s. */
const BUCKETS = 23;
const ERRNO_MAX = 512;

/** What was answered, by operation. Latencies are from the moment in which a request was received to that in which its answer was sent. */
export interface OperationMetrics {
  /** The C name; 'other' for requests that the tables do not know. */
  readonly operation: string;
  /** Requests that were answered, those with errors among them; of FORGET and the like, those received. */
  readonly count: number;
  readonly inFlight: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly latency: {
    /** Requests that took less than 2^i µs and no less than the bucket before, by i; in the last one all that took longer. */
    readonly buckets: readonly number[];
    readonly sumUs: number;
  };
}

export interface NotificationMetrics {
  /** Notifications that the kernel took. */
  readonly taken: number;
  /** It knew nothing of what they spoke of (ENOENT). */
  readonly unknown: number;
  /** Other errors. */
  readonly failed: number;
  /** Times that so many changes had to be told that everything was told to be stale instead. */
  readonly overflows: number;
  /** Given to the channel and not taken yet. */
  readonly underWay: number;
  /** What waits here to be given to it. */
  readonly queued: number;
}

/** Plain numbers and names: they cross threads as they are. */
export interface ServerMetrics {
  readonly operations: readonly OperationMetrics[];
  readonly inFlight: number;
  /** Requests that were answered with ETIMEDOUT, and those of them whose filesystem has still not come back. */
  readonly timedOut: number;
  readonly late: number;
  /** Answers that nobody waited for any more. */
  readonly unwanted: number;
  readonly notifications: NotificationMetrics;
}

/** Counters of one server: fixed arrays, since each request passes here. */
export class OperationCounters {
  unwanted = 0;
  readonly #counts = new Float64Array(OPCODES);
  readonly #sums = new Float64Array(OPCODES);
  readonly #latencies = new Float64Array(OPCODES * BUCKETS);
  readonly #errors = new Map<number, number>();

  /** A request that gets no answer. */
  received(opcode: number): void {
    this.#counts[opcode < OPCODES ? opcode : 0]!++;
  }

  /** `errno` is 0 or negative. */
  answered(opcode: number, tookMs: number, errno: number): void {
    const at = opcode < OPCODES ? opcode : 0;
    const us = tookMs * 1000;
    this.#counts[at]!++;
    this.#sums[at]! += us;
    this.#latencies[at * BUCKETS + bucketOf(us)]!++;
    if (errno !== 0) {
      const key = at * ERRNO_MAX + -errno;
      this.#errors.set(key, (this.#errors.get(key) ?? 0) + 1);
    }
  }

  /** Operations that came at least once. */
  list(inFlight: ReadonlyMap<string, number>): OperationMetrics[] {
    const out: OperationMetrics[] = [];
    for (let opcode = 0; opcode < OPCODES; opcode++) {
      const operation = opcode === 0 ? 'other' : opcodeName(opcode);
      const count = this.#counts[opcode] as number;
      const waiting = inFlight.get(operation) ?? 0;
      if (count === 0 && waiting === 0) continue;
      const errors: Record<string, number> = {};
      for (const [key, times] of this.#errors) {
        if (Math.floor(key / ERRNO_MAX) === opcode) errors[codeOf(key % ERRNO_MAX)] = times;
      }
      const buckets = [...this.#latencies.subarray(opcode * BUCKETS, (opcode + 1) * BUCKETS)];
      out.push({ operation, count, inFlight: waiting, errors, latency: { buckets, sumUs: this.#sums[opcode] as number } });
    }
    return out;
  }
}

function bucketOf(us: number): number {
  return us < 1 ? 0 : Math.min(BUCKETS - 1, 32 - Math.clz32(Math.min(us, 2 ** 31)));
}
