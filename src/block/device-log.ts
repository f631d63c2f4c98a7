import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { isPowerOfTwo } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { bytes, s32, struct, u32, u64 } from '../layout/struct.ts';
import { decodeUtf8, encodeUtf8 } from '../layout/utf8.ts';
import { Bio, type BioOp, emptyBio, REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { type BlockDevice, submitAndWait } from './block-device.ts';
import { gather } from './vec.ts';

/** A label that the test put between two requests. */
export const LOG_MARK = 255;

/** One write, write-zeroes, discard or flush, or a mark. */
export interface LogEntry {
  /** Place in the log, by submission. */
  readonly id: number;
  readonly op: BioOp | typeof LOG_MARK;
  readonly flags: number;
  readonly addr: number;
  readonly length: number;
  /** A write's data as it was at submission, a mark's text as UTF-8. */
  readonly data: Uint8Array | undefined;
  /** Event number; events are 1, 2, 3 and so on. */
  readonly submittedAt: number;
  /** Event number, that of submission for a mark; 0 while in flight. */
  completedAt: number;
  status: number;
  /** The submitter changed the memory while the write was in flight. Not kept by encode(). */
  changedInFlight: boolean;
}

/** log_header: start of an encoded log, followed by records. Little-endian. */
// biome-ignore format: one row per field, as the format is drawn
export const log_header = struct('log_header', 40, {
  magic:        bytes(0, 8),
  version:      u32(8),
  flags:        u32(12), // bit 0: the device has a volatile cache
  block_size:   u32(16), // bytes
  record_count: u32(20),
  device_size:  u64(24), // bytes
  data_length:  u64(32), // bytes of all records with their data
});

/** log_record: one entry, followed by data_length bytes of data. Little-endian, not aligned. */
// biome-ignore format: one row per field, as the format is drawn
export const log_record = struct('log_record', 40, {
  op:          u32(0), // a REQ_OP_, or 255: a mark, its data is the label
  flags:       u32(4), // REQ_ flags
  addr:        u64(8), // bytes
  length:      u64(16), // bytes
  submitted:   u32(24), // event numbers: each of 1..n is used once; n = submissions + completions + marks
  completed:   u32(28), // 0: in flight when the log ended
  status:      s32(32), // 0 or a negative errno
  data_length: u32(36), // bytes; that of `length` for a write, any for a mark, else 0
});

/** What a log knows of its device. */
export interface LoggedDevice {
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly hasVolatileCache: boolean;
}

const MAGIC = encodeUtf8('IOMAPLOG');
const VERSION = 1;
const FLAG_VOLATILE_CACHE = 1;

/**
 * What happened to a device, in order of submission and of completion.
 *
 * Invariant: the event numbers of all entries are 1..time, each used once.
 */
export class DeviceLog {
  readonly deviceSize: number;
  readonly logicalBlockSize: number;
  readonly hasVolatileCache: boolean;
  readonly entries: LogEntry[] = [];
  #time = 0;

  constructor(device: LoggedDevice) {
    this.deviceSize = device.size;
    this.logicalBlockSize = device.logicalBlockSize;
    this.hasVolatileCache = device.hasVolatileCache;
  }

  /** Number of the last event. */
  get time(): number {
    return this.#time;
  }

  submit(bio: Bio): LogEntry {
    return this.#append(bio.op, bio.flags, bio.addr, bio.length, bio.op === REQ_OP_WRITE ? gather(bio.vec, 0, bio.length) : undefined);
  }

  complete(entry: LogEntry, status: number): void {
    assert(entry.completedAt === 0, 'completion of an entry that is not in flight');
    entry.completedAt = ++this.#time;
    entry.status = status;
  }

  /** Puts a label here, such as what has been promised by now. */
  mark(label: string): void {
    const entry = this.#append(LOG_MARK, 0, 0, 0, encodeUtf8(label));
    entry.completedAt = entry.submittedAt;
  }

  /** Labels of all marks up to event `upTo`. */
  marks(upTo: number = this.#time): string[] {
    return this.entries
      .filter(({ op, submittedAt }) => op === LOG_MARK && submittedAt <= upTo)
      .map(({ data }) => decodeUtf8(data as Uint8Array));
  }

  /** The entry of each event, by event number - 1; twice in it for a request that completed. */
  events(): LogEntry[] {
    const events: LogEntry[] = [];
    for (const entry of this.entries) {
      events[entry.submittedAt - 1] = entry;
      if (entry.completedAt > 0) events[entry.completedAt - 1] = entry;
    }
    return events;
  }

  /** Does to `onto`, in order of completion, all that succeeded up to event `upTo`. Errors: those of `onto`, as FsError. */
  replay(onto: BlockDevice, upTo: number = this.#time): MaybePromise<void> {
    return run(this.#replay(onto, upTo));
  }

  *#replay(onto: BlockDevice, upTo: number): Task<void> {
    const done = this.entries.filter(
      ({ op, completedAt, status }) => op !== LOG_MARK && completedAt > 0 && completedAt <= upTo && status === 0,
    );
    done.sort((a, b) => a.completedAt - b.completedAt);
    for (const { op, addr, length, data } of done) {
      for (let at = 0; at < Math.max(length, 1); at += onto.bioSizeMax) {
        const count = Math.min(onto.bioSizeMax, length - at);
        let bio: Bio;
        if (data === undefined) {
          bio = emptyBio(op as BioOp, addr + at, count, 0, () => {});
        } else {
          bio = new Bio(REQ_OP_WRITE, addr + at, 0, () => {});
          bio.add(data.subarray(at, at + count));
        }
        const status = yield* wait(submitAndWait(onto, bio));
        if (status < 0) throw FsError.of(status, 'write', { detail: `${onto.name} at byte ${addr + at}` });
      }
    }
  }

  /** The log as bytes: log_header, then a log_record with its data for each entry. */
  encode(): Uint8Array {
    let dataLength = 0;
    for (const { data } of this.entries) dataLength += log_record.size + (data?.length ?? 0);
    const out = new Uint8Array(log_header.size + dataLength);
    log_header.write(out, 0, {
      magic: MAGIC,
      version: VERSION,
      flags: this.hasVolatileCache ? FLAG_VOLATILE_CACHE : 0,
      block_size: this.logicalBlockSize,
      record_count: this.entries.length,
      device_size: this.deviceSize,
      data_length: dataLength,
    });
    let at = log_header.size;
    for (const { op, flags, addr, length, data, submittedAt, completedAt, status } of this.entries) {
      const data_length = data?.length ?? 0;
      log_record.write(out, at, { op, flags, addr, length, submitted: submittedAt, completed: completedAt, status, data_length });
      at += log_record.size;
      if (data !== undefined) out.set(data, at);
      at += data_length;
    }
    return out;
  }

  /** Reads what encode() made. Shape: data are views on `from`. Errors: EUCLEAN for anything that encode() cannot have made. */
  static decode(from: Uint8Array): DeviceLog {
    try {
      const { device, entries, time } = decodeEntries(from);
      const log = new DeviceLog(device);
      for (const entry of entries) log.entries.push(entry);
      log.#time = time;
      return log;
    } catch (error) {
      // A 64-bit number past 2^53 - 1 is as malformed as any other.
      if (error instanceof FsError && error.code === 'EOVERFLOW') throw malformed(error.message);
      throw error;
    }
  }

  #append(op: LogEntry['op'], flags: number, addr: number, length: number, data: Uint8Array | undefined): LogEntry {
    const id = this.entries.length;
    const entry: LogEntry = {
      id,
      op,
      flags,
      addr,
      length,
      data,
      submittedAt: ++this.#time,
      completedAt: 0,
      status: 0,
      changedInFlight: false,
    };
    this.entries.push(entry);
    return entry;
  }
}

function decodeEntries(from: Uint8Array): { device: LoggedDevice; entries: LogEntry[]; time: number } {
  const header = log_header.read(from, 0);
  const { block_size: logicalBlockSize, device_size: size } = header;
  if (header.magic.some((byte, i) => byte !== MAGIC[i])) throw malformed('magic');
  if (header.version !== VERSION) throw malformed(`version ${header.version}`);
  if (header.flags > FLAG_VOLATILE_CACHE) throw malformed(`flags ${header.flags}`);
  if (!isPowerOfTwo(logicalBlockSize) || logicalBlockSize < 512 || size % logicalBlockSize !== 0)
    throw malformed(`block size ${logicalBlockSize}, size ${size}`);
  if (header.data_length !== from.length - log_header.size)
    throw malformed(`${header.data_length} bytes of records, there are ${from.length - log_header.size}`);
  if (header.record_count * log_record.size > header.data_length) throw malformed(`${header.record_count} records`);

  const entries: LogEntry[] = [];
  let at = log_header.size;
  let last = 0; // event number of the last submission
  let time = 0; // how many events there must be
  for (let id = 0; id < header.record_count; id++) {
    const record = log_record.read(from, at);
    const { op, flags, addr, length, submitted: submittedAt, completed: completedAt, status, data_length: dataLength } = record;
    at += log_record.size;
    if (dataLength > from.length - at) throw malformed(`record ${id}: ${dataLength} bytes of data`);
    if (!isSane(record, size, logicalBlockSize)) throw malformed(`record ${id}`);
    if (submittedAt <= last) throw malformed(`record ${id}: event ${submittedAt} after ${last}`);
    last = submittedAt;
    time += op === LOG_MARK || completedAt === 0 ? 1 : 2;
    const data = op === LOG_MARK || op === REQ_OP_WRITE ? from.subarray(at, at + dataLength) : undefined;
    at += dataLength;
    entries.push({ id, op: op as LogEntry['op'], flags, addr, length, data, submittedAt, completedAt, status, changedInFlight: false });
  }
  if (at !== from.length) throw malformed(`${from.length - at} bytes left over`);

  const isUsed = new Uint8Array(time + 1);
  for (const { id, op, submittedAt, completedAt } of entries) {
    for (const event of op === LOG_MARK || completedAt === 0 ? [submittedAt] : [submittedAt, completedAt]) {
      if (event > time || isUsed[event] !== 0) throw malformed(`record ${id}: event ${event} of ${time}`);
      isUsed[event] = 1;
    }
  }
  return { device: { size, logicalBlockSize, hasVolatileCache: header.flags === FLAG_VOLATILE_CACHE }, entries, time };
}

function isSane(record: ReturnType<typeof log_record.read>, deviceSize: number, blockSize: number): boolean {
  const { op, flags, addr, length, submitted, completed, status, data_length: dataLength } = record;
  if (op === LOG_MARK) return flags === 0 && addr === 0 && length === 0 && completed === submitted && status === 0;
  if (completed !== 0 && completed <= submitted) return false;
  if (status > 0 || (completed === 0 && status !== 0)) return false;
  if (op === REQ_OP_FLUSH) return dataLength === 0;
  if (op !== REQ_OP_WRITE && op !== REQ_OP_WRITE_ZEROES && op !== REQ_OP_DISCARD) return false;
  if (addr % blockSize !== 0 || length % blockSize !== 0 || length === 0 || length > deviceSize - addr) return false;
  return dataLength === (op === REQ_OP_WRITE ? length : 0);
}

function malformed(detail: string): FsError {
  return new FsError('EUCLEAN', 'read', { detail: `device log: ${detail}` });
}
