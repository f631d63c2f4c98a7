import { codeOf } from '../../base/errno.ts';
import { nameBytes, nameOf } from '../../vfs/name.ts';
import { OPERATIONS, type Operation, opcodeName, operationOf } from '../abi/opcodes.ts';
import { fuse_in_header } from '../abi/structs.ts';
import { uniqueAt } from '../abi/words.ts';
import { HISTOGRAM_BUCKETS, type Metrics, type OperationMetrics } from './metrics.ts';

/** A request that has no answer yet. */
export interface InFlightRequest {
  readonly unique: number;
  /** The C name: FUSE_READ. */
  readonly operation: string;
  readonly node: number;
  /** The name in the request, if it has one: that of an entry of the directory `node`. */
  readonly name: string | undefined;
  /** Of the node, where the server keeps paths and the request waits for its filesystem. */
  readonly path: string | undefined;
  /** Of who asks; 0 for work of the kernel itself, and for processes that this one cannot see. */
  readonly pid: number;
  readonly uid: number;
  readonly ageMs: number;
}

/** Requests in flight that are noted. The kernel sends no more in the background than was agreed on, and one for each waiting thread. */
const SLOTS = 1024;
/** Slots that are looked at for one request, from the one that its number points to. */
const PROBES = 32;
/** Numbers of a slot. */
const [UNIQUE, OPCODE, NODE, PID, UID, SINCE, SLOT_WORDS] = [0, 1, 2, 3, 4, 5, 6];
/** Bytes of a name that are noted, the NUL included; longer ones are cut. */
const NAME_MAX = 64;

/** The same of a path. */
const PATH_MAX = 512;

/** Rows of the counts: one for each opcode, and row 0 for those that are unknown. */
const ROWS = 64;
const ERRNOS = 256;
/** Numbers of a row: how many, microseconds of all, one for each bucket, one for each errno. */
const [COUNT, SUM_US, BUCKETS] = [0, 1, 2];
const ERRORS = BUCKETS + HISTOGRAM_BUCKETS;
const ROW_WORDS = ERRORS + ERRNOS;

const SLOT_BYTES = SLOTS * SLOT_WORDS * 8;
const NAME_BYTES = SLOTS * NAME_MAX;
const PATH_BYTES = SLOTS * PATH_MAX;

/** Where the first name of a request is, by opcode; 0 where there is none. Requests of all minors that are served agree on it. */
const NAME_AT: readonly number[] = nameTable(OPERATIONS);

/**
 * What was asked and what was answered on one channel, in memory that all threads of the process see: who serves may stand in read(2), or in a
 * handler that does not return, and can be asked nothing.
 *
 * Invariants:
 * 1. One thread writes; others read at any time. A slot's number is written last and cleared first, so that what a reader finds under the same
 *    number before and after is one request.
 * 2. A request is in a slot from its arrival to its answer, unless all slots around its own are taken: then it is counted only.
 */
export class Ledger {
  /** Crosses to other threads, each of which makes a Ledger of it. */
  readonly memory: SharedArrayBuffer;
  readonly #slots: Float64Array;
  readonly #names: Uint8Array;
  readonly #paths: Uint8Array;
  readonly #rows: Float64Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(SLOT_BYTES + NAME_BYTES + PATH_BYTES + ROWS * ROW_WORDS * 8)) {
    this.memory = memory;
    this.#slots = new Float64Array(memory, 0, SLOTS * SLOT_WORDS);
    this.#names = new Uint8Array(memory, SLOT_BYTES, NAME_BYTES);
    this.#paths = new Uint8Array(memory, SLOT_BYTES + NAME_BYTES, PATH_BYTES);
    this.#rows = new Float64Array(memory, SLOT_BYTES + NAME_BYTES + PATH_BYTES, ROWS * ROW_WORDS);
  }

  /** A message arrived. `data` looks at `message`. */
  received(message: Uint8Array, data: DataView, length: number): void {
    if (length < fuse_in_header.size) return;
    const opcode = data.getUint32(4, true);
    const unique = uniqueAt(data, 8);
    if (unique <= 0 || operationOf(opcode)?.replies === false) {
      this.#add(rowOf(opcode) + COUNT, 1);
      return;
    }
    const at = this.#find(0, unique);
    if (at < 0) return;
    const slots = this.#slots;
    const slot = at * SLOT_WORDS;
    slots[slot + OPCODE] = opcode;
    slots[slot + NODE] = data.getUint32(20, true) * 2 ** 32 + data.getUint32(16, true);
    slots[slot + UID] = data.getUint32(24, true);
    slots[slot + PID] = data.getUint32(32, true);
    slots[slot + SINCE] = nowMs();
    this.#putName(at, message, NAME_AT[opcode] ?? 0, length);
    this.#paths[at * PATH_MAX] = 0;
    slots[slot + UNIQUE] = unique;
  }

  /** A request has to wait, and is about the file of that path. */
  waits(unique: number, path: string | undefined): void {
    const at = path === undefined ? -1 : this.#find(unique, unique);
    if (at < 0 || path === undefined) return;
    const bytes = nameBytes(path).subarray(0, PATH_MAX - 1);
    this.#paths.set(bytes, at * PATH_MAX);
    this.#paths[at * PATH_MAX + bytes.length] = 0;
  }

  /** An answer goes out; 0 is the number of notifications. */
  answered(data: DataView, length: number): void {
    if (length < 16) return;
    const unique = uniqueAt(data, 8);
    if (unique <= 0) return;
    const at = this.#find(unique, unique);
    if (at < 0) return;
    const slots = this.#slots;
    const slot = at * SLOT_WORDS;
    slots[slot + UNIQUE] = 0;
    const us = Math.max(0, (nowMs() - (slots[slot + SINCE] as number)) * 1000);
    const row = rowOf(slots[slot + OPCODE] as number);
    this.#add(row + COUNT, 1);
    this.#add(row + SUM_US, us);
    this.#add(row + BUCKETS + bucketOf(us), 1);
    const errno = -data.getInt32(4, true);
    if (errno > 0) this.#add(row + ERRORS + Math.min(errno, ERRNOS - 1), 1);
  }

  #add(at: number, amount: number): void {
    this.#rows[at] = (this.#rows[at] as number) + amount;
  }

  /** The oldest first. */
  get inFlight(): InFlightRequest[] {
    const found: InFlightRequest[] = [];
    const now = nowMs();
    for (let at = 0; at < SLOTS; at++) {
      const slot = at * SLOT_WORDS;
      const unique = this.#slots[slot + UNIQUE] as number;
      if (unique === 0) continue;
      const [, opcode = 0, node = 0, pid = 0, uid = 0, since = now] = this.#slots.slice(slot, slot + SLOT_WORDS);
      const name = textAt(this.#names, at, NAME_MAX);
      const path = textAt(this.#paths, at, PATH_MAX);
      if (this.#slots[slot + UNIQUE] !== unique) continue;
      found.push({ unique, operation: opcodeName(opcode), node, name, path, pid, uid, ageMs: Math.max(0, now - since) });
    }
    return found.sort((a, b) => b.ageMs - a.ageMs);
  }

  get metrics(): Metrics {
    const operations: Record<string, OperationMetrics> = {};
    for (let opcode = 0; opcode < ROWS; opcode++) {
      const row = this.#rows.subarray(opcode * ROW_WORDS, (opcode + 1) * ROW_WORDS);
      const count = row[COUNT] as number;
      if (count === 0) continue;
      const errors: Record<string, number> = {};
      for (let errno = 1; errno < ERRNOS; errno++) {
        const times = row[ERRORS + errno] as number;
        if (times > 0) errors[codeOf(errno)] = (errors[codeOf(errno)] ?? 0) + times;
      }
      operations[operationOf(opcode)?.name ?? 'unknown'] = {
        count,
        errors,
        buckets: [...row.subarray(BUCKETS, ERRORS)],
        sumUs: row[SUM_US] as number,
      };
    }
    return { operations, inFlight: this.inFlight.length };
  }

  /** The slot near the place of `unique` that holds `held`, which is 0 for a free one; -1 if none does. */
  #find(held: number, unique: number): number {
    // Numbers of requests are even, and go up by two.
    const first = Math.floor(unique / 2) % SLOTS;
    for (let i = 0; i < PROBES; i++) {
      const at = (first + i) % SLOTS;
      if (this.#slots[at * SLOT_WORDS + UNIQUE] === held) return at;
    }
    return -1;
  }

  #putName(at: number, message: Uint8Array, from: number, length: number): void {
    const names = this.#names;
    const to = at * NAME_MAX;
    let i = 0;
    if (from > 0) {
      const end = Math.min(length - from, NAME_MAX - 1);
      for (; i < end && message[from + i] !== 0; i++) names[to + i] = message[from + i] as number;
    }
    names[to + i] = 0;
  }
}

/** The text of slot `at`, up to its NUL; undefined for none. */
function textAt(memory: Uint8Array, at: number, size: number): string | undefined {
  const bytes = memory.slice(at * size, (at + 1) * size);
  const end = bytes.indexOf(0);
  return end === 0 ? undefined : nameOf(bytes, 0, end < 0 ? size : end);
}

function rowOf(opcode: number): number {
  return (opcode < ROWS ? opcode : 0) * ROW_WORDS;
}

/** Bucket n is for what took less than 2^n microseconds, the last one for everything else. */
function bucketOf(us: number): number {
  return us < 1 ? 0 : Math.min(HISTOGRAM_BUCKETS - 1, 32 - Math.clz32(Math.min(us, 0xffffffff)));
}

/** Milliseconds on a clock that all threads share. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

function nameTable(operations: readonly Operation[]): number[] {
  const table: number[] = new Array(ROWS).fill(0);
  for (const { opcode, names, in: form } of operations) {
    const [kind] = names;
    if (opcode < ROWS && (kind === 'entry' || kind === 'lookup')) table[opcode] = fuse_in_header.size + (form?.size ?? 0);
  }
  return table;
}
