import { crc32c } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Prng } from '../../base/prng.ts';
import { type MaybePromise, run, type Task, wait } from '../../base/task.ts';
import { readDevice, writeDevice } from '../../block/block-device.ts';
import { cstr, pad, struct, u16, u32, u64big } from '../../layout/struct.ts';
import { encodeUtf8 } from '../../layout/utf8.ts';
import type { Timespec } from '../../vfs/attr.ts';
import type { Ext4Sb } from './ext4-sb.ts';

// Multiple mount protection: a block that says who has the volume mounted. Who has, writes a new sequence number into it every few seconds;
// who wants it, watches for that long whether the number changes. Source: Linux fs/ext4/mmp.c; kernel documentation of ext4, "Multiple Mount
// Protection".

export const EXT4_MMP_MAGIC = 0x004d4d50;
/** mmp_seq of a volume that nobody has. */
export const EXT4_MMP_SEQ_CLEAN = 0xff4d4d50;
/** mmp_seq while it is checked. */
export const EXT4_MMP_SEQ_FSCK = 0xe24d4d50;
/** Largest mmp_seq of a mount. */
const EXT4_MMP_SEQ_MAX = 0xe24d4d4f;
const MIN_CHECK_INTERVAL = 5;
const MAX_CHECK_INTERVAL = 300;
/** Updates that may be missed before somebody else may take the volume. */
const CHECK_MULTIPLE = 2;

export const mmp_struct = struct('mmp_struct', 1024, {
  mmp_magic: u32(0x00),
  mmp_seq: u32(0x04),
  mmp_time: u64big(0x08), // of the last write, seconds
  mmp_nodename: cstr(0x10, 64),
  mmp_bdevname: cstr(0x50, 32),
  mmp_check_interval: u16(0x70), // seconds
  mmp_pad1: pad(0x72, 2),
  mmp_pad2: pad(0x74, 904),
  mmp_checksum: u32(0x3fc), // crc32c of what lies before it
});
const CHECKSUM_AT = mmp_struct.offsetOf('mmp_checksum');

/** What the protocol needs of its surroundings. */
export interface MmpHost {
  /** Name of this machine. */
  readonly nodename: string;
  readonly prng: Prng;
  /** The time of day. */
  now(): Timespec;
  /** Keeps the process alive meanwhile. */
  sleep(ms: number): Promise<void>;
  /** Calls `fire` once, later; returns what takes it back. */
  timer(delayMs: number, fire: () => void): () => void;
}

/**
 * Our hold on a volume.
 *
 * Invariant: from start() to close() the block has our sequence number, and a new one within each update interval. The block is never taken
 * from the cache.
 */
export class Mmp {
  readonly #sb: Ext4Sb;
  readonly #host: MmpHost;
  readonly #block: number;
  readonly #updateInterval: number;
  /** Seconds that others are to wait for us. */
  readonly #checkInterval: number;
  readonly #onLost: (why: FsError) => void;
  #seq = 0;
  #cancel: (() => void) | undefined = undefined;
  #updating: Promise<void> | undefined = undefined;
  #isClosed = false;

  private constructor(sb: Ext4Sb, host: MmpHost, onLost: (why: FsError) => void) {
    const { fields, firstDataBlock, blocksCount } = sb.es;
    this.#sb = sb;
    this.#host = host;
    this.#onLost = onLost;
    this.#block = fields.s_mmp_block_hi * 2 ** 32 + fields.s_mmp_block_lo;
    if (this.#block <= firstDataBlock || this.#block >= blocksCount) sb.corrupted(`multiple mount protection at block ${this.#block}`);
    this.#updateInterval = Math.min(Math.max(1, fields.s_mmp_update_interval || MIN_CHECK_INTERVAL), MAX_CHECK_INTERVAL);
    this.#checkInterval = Math.max(CHECK_MULTIPLE * this.#updateInterval, MIN_CHECK_INTERVAL);
  }

  /**
   * Takes the volume, after watching that nobody has it: before anything else is written. `onLost` is called when somebody has taken it from us,
   * or when we could not say for too long that we have it: nothing may be written any more then.
   *
   * Errors:  EBUSY where somebody has it; EUCLEAN, EBADMSG for a block that is none; the device's.
   */
  static *start(sb: Ext4Sb, host: MmpHost, onLost: (why: FsError) => void): Task<Mmp> {
    const mmp = new Mmp(sb, host, onLost);
    yield* mmp.#acquire();
    mmp.#schedule();
    return mmp;
  }

  *#acquire(): Task<void> {
    const first = yield* this.#read();
    const { s_mmp_update_interval } = this.#sb.es.fields;
    const interval = Math.min(MAX_CHECK_INTERVAL, Math.max(first.mmp_check_interval, s_mmp_update_interval, MIN_CHECK_INTERVAL));
    const watchMs = Math.min(2 * interval + 1, interval + 60) * 1000;
    if (first.mmp_seq === EXT4_MMP_SEQ_FSCK) throw this.#busy('it is being checked');
    if (first.mmp_seq !== EXT4_MMP_SEQ_CLEAN) {
      yield* wait(this.#host.sleep(watchMs));
      const second = yield* this.#read();
      if (second.mmp_seq !== first.mmp_seq) throw this.#busy(`${second.mmp_nodename} has it as ${second.mmp_bdevname}`);
    }
    // Another one may have come to the same conclusion at the same time: the last of us to write has it.
    yield* this.#write(1 + this.#host.prng.below(EXT4_MMP_SEQ_MAX));
    yield* wait(this.#host.sleep(watchMs));
    yield* this.#checkOurs();
  }

  /** A new number is on its way to the device. */
  get isBusy(): boolean {
    return this.#updating !== undefined;
  }

  /** Gives the volume back, after everything else was written. Errors: the device's. */
  close(): MaybePromise<void> {
    return run(this.#close());
  }

  *#close(): Task<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancel?.();
    if (this.#updating !== undefined) yield* wait(this.#updating);
    yield* this.#checkOurs();
    yield* this.#write(EXT4_MMP_SEQ_CLEAN);
  }

  #schedule(): void {
    this.#cancel = this.#host.timer(this.#updateInterval * 1000, () => {
      this.#updating = this.#update().finally(() => {
        this.#updating = undefined;
      });
    });
  }

  async #update(): Promise<void> {
    try {
      await run(this.#renew());
    } catch (error) {
      this.#isClosed = true;
      this.#onLost(error instanceof FsError ? error : new FsError('EIO', 'ext4', { cause: error }));
      return;
    }
    if (!this.#isClosed) this.#schedule();
  }

  *#renew(): Task<void> {
    yield* this.#checkOurs();
    yield* this.#write(this.#seq >= EXT4_MMP_SEQ_MAX ? 1 : this.#seq + 1);
  }

  *#checkOurs(): Task<void> {
    const { mmp_seq, mmp_nodename, mmp_bdevname } = yield* this.#read();
    if (mmp_seq !== this.#seq) throw this.#busy(`${mmp_nodename} has taken it as ${mmp_bdevname}`);
  }

  #busy(why: string): FsError {
    return new FsError('EBUSY', 'mount', { detail: `${this.#sb.bdev.name}: ${why}` });
  }

  *#read(): Task<ReturnType<typeof mmp_struct.read>> {
    const sb = this.#sb;
    const data = new Uint8Array(sb.blockSize);
    yield* wait(readDevice(sb.bdev, this.#block * sb.blockSize, data));
    const mmp = mmp_struct.read(data);
    if (mmp.mmp_magic !== EXT4_MMP_MAGIC) sb.corrupted(`multiple mount protection: magic ${mmp.mmp_magic.toString(16)}`);
    if (sb.hasCsum && mmp.mmp_checksum !== crc32c(sb.csumSeed, data, 0, CHECKSUM_AT)) {
      sb.corrupted('checksum of multiple mount protection', 'EBADMSG');
    }
    return mmp;
  }

  *#write(seq: number): Task<void> {
    const sb = this.#sb;
    const data = new Uint8Array(sb.blockSize);
    mmp_struct.write(data, 0, {
      mmp_magic: EXT4_MMP_MAGIC,
      mmp_seq: seq,
      mmp_time: BigInt(Math.max(0, this.#host.now().sec)),
      mmp_nodename: fitting(this.#host.nodename, 64),
      mmp_bdevname: fitting(sb.bdev.name, 32),
      mmp_check_interval: this.#checkInterval,
    });
    if (sb.hasCsum) mmp_struct.view().at(data).mmp_checksum = crc32c(sb.csumSeed, data, 0, CHECKSUM_AT);
    yield* wait(writeDevice(sb.bdev, this.#block * sb.blockSize, data, true));
    this.#seq = seq;
  }
}

/** As much of a text as `length` bytes hold. */
function fitting(text: string, length: number): string {
  let fitted = text;
  while (encodeUtf8(fitted).length > length) fitted = fitted.slice(0, -1);
  return fitted;
}
