import { FsError } from '../base/fs-error.ts';
import { checkRange, isPowerOfTwo } from '../base/ranges.ts';
import { type Bio, REQ_OP_DISCARD, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';

export interface MemoryDeviceOptions {
  /** Bytes, a multiple of logicalBlockSize. */
  size: number;
  name?: string;
  logicalBlockSize?: number;
  /** Only said, not done: nothing is ever lost here. For a device that loses, see SimulatedDevice. */
  hasVolatileCache?: boolean;
  hasFua?: boolean;
  bioSizeMax?: number;
  atomicWriteMax?: number;
  /** Unit of allocation and of what a snapshot copies on the first change, bytes. Default: 1 MiB; crash tests want less. */
  chunkSize?: number;
  /** Takes and touches all memory now: the first store to fresh memory costs a page fault for every 4 KiB. */
  populate?: boolean;
}

/**
 * A device in memory. Completes inside submit() and copies, so no memory is kept.
 *
 * Invariants:
 * 1. A chunk that is not in #chunks reads as zeros.
 * 2. A chunk in #shared belongs to a snapshot too, and is copied before it is changed.
 */
export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment = 1;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly stableWrites = false;
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;
  readonly #chunkSize: number;
  readonly #keepsMemory: boolean;
  #chunks = new Map<number, Uint8Array>();
  #shared = new Set<number>();

  constructor(options: MemoryDeviceOptions) {
    const { size, logicalBlockSize = 512, chunkSize = 2 ** 20 } = options;
    checkGeometry(size, logicalBlockSize);
    if (!isPowerOfTwo(chunkSize)) throw new FsError('EINVAL', 'open', { detail: `chunkSize ${chunkSize}` });
    this.name = options.name ?? 'memory';
    this.size = size;
    this.logicalBlockSize = logicalBlockSize;
    this.bioSizeMax = options.bioSizeMax ?? 2 ** 26;
    this.hasVolatileCache = options.hasVolatileCache ?? false;
    this.hasFua = options.hasFua ?? true;
    this.atomicWriteMax = options.atomicWriteMax ?? 0;
    this.atomicWriteMin = this.atomicWriteMax > 0 ? logicalBlockSize : 0;
    this.#chunkSize = chunkSize;
    this.#keepsMemory = options.populate ?? false;
    if (this.#keepsMemory) for (let index = 0; index * chunkSize < size; index++) this.#writable(index).fill(0);
  }

  submit(bio: Bio): void {
    const status = checkBio(this, bio);
    if (status === 0) this.#serve(bio);
    bio.end(status);
  }

  /** A copy of the bytes [addr, addr + length). Errors: EINVAL, EFBIG outside the device. */
  read(addr: number, length: number): Uint8Array {
    checkRange('read', addr, length, this.size);
    const bytes = new Uint8Array(length);
    this.#copyOut(addr, bytes);
    return bytes;
  }

  /** Puts `bytes` at `addr`. Errors: EINVAL, EFBIG outside the device. */
  write(addr: number, bytes: Uint8Array): void {
    checkRange('write', addr, bytes.length, this.size);
    this.#copyIn(addr, bytes);
  }

  /** Fills [addr, addr + length) with a byte, or with a pattern that repeats from `addr` on; the whole device if no range is given. */
  fill(pattern: number | Uint8Array, addr = 0, length: number = this.size - addr): void {
    checkRange('write', addr, length, this.size);
    const unit = typeof pattern === 'number' ? Uint8Array.of(pattern) : pattern;
    if (unit.length === 0) throw new FsError('EINVAL', 'write', { detail: 'empty pattern' });
    if (unit.every((byte) => byte === 0)) {
      this.#zero(addr, length);
      return;
    }
    // Whole repetitions in pieces of some size, so that the copies and not the loop cost.
    const tile = new Uint8Array(Math.min(length, unit.length * Math.ceil(65536 / unit.length)));
    for (let at = 0; at < tile.length; at++) tile[at] = unit[at % unit.length] as number;
    for (let done = 0; done < length; done += tile.length) {
      this.#copyIn(addr + done, tile.length <= length - done ? tile : tile.subarray(0, length - done));
    }
  }

  /** A device with the same content, at the cost of a table: chunks are shared until one side changes them. */
  snapshot(): MemoryDevice {
    const copy = new MemoryDevice({
      size: this.size,
      name: this.name,
      logicalBlockSize: this.logicalBlockSize,
      hasVolatileCache: this.hasVolatileCache,
      hasFua: this.hasFua,
      bioSizeMax: this.bioSizeMax,
      atomicWriteMax: this.atomicWriteMax,
      chunkSize: this.#chunkSize,
    });
    copy.#chunks = new Map(this.#chunks);
    copy.#shared = new Set(this.#chunks.keys());
    this.#shared = new Set(this.#chunks.keys());
    return copy;
  }

  /** Bytes of memory taken for data, those shared with snapshots too. */
  get allocatedBytes(): number {
    return this.#chunks.size * this.#chunkSize;
  }

  #serve(bio: Bio): void {
    let addr = bio.addr;
    switch (bio.op) {
      case REQ_OP_READ:
        for (const piece of bio.vec) {
          this.#copyOut(addr, piece);
          addr += piece.length;
        }
        break;
      case REQ_OP_WRITE:
        for (const piece of bio.vec) {
          this.#copyIn(addr, piece);
          addr += piece.length;
        }
        break;
      case REQ_OP_DISCARD:
      case REQ_OP_WRITE_ZEROES:
        this.#zero(addr, bio.length);
        break;
    }
  }

  #copyOut(addr: number, into: Uint8Array): void {
    const chunkSize = this.#chunkSize;
    let index = Math.floor(addr / chunkSize);
    let within = addr % chunkSize;
    for (let done = 0; done < into.length; index++, within = 0) {
      const count = Math.min(chunkSize - within, into.length - done);
      const chunk = this.#chunks.get(index);
      if (chunk === undefined) into.fill(0, done, done + count);
      else into.set(count === chunkSize ? chunk : chunk.subarray(within, within + count), done);
      done += count;
    }
  }

  #copyIn(addr: number, from: Uint8Array): void {
    const chunkSize = this.#chunkSize;
    let index = Math.floor(addr / chunkSize);
    let within = addr % chunkSize;
    for (let done = 0; done < from.length; index++, within = 0) {
      const count = Math.min(chunkSize - within, from.length - done);
      this.#writable(index).set(count === from.length ? from : from.subarray(done, done + count), within);
      done += count;
    }
  }

  #zero(addr: number, length: number): void {
    const chunkSize = this.#chunkSize;
    // A whole-device discard of a sparse device must not walk chunks that are not there.
    if (addr === 0 && length === this.size && !this.#keepsMemory) {
      this.#chunks.clear();
      this.#shared.clear();
      return;
    }
    let index = Math.floor(addr / chunkSize);
    let within = addr % chunkSize;
    for (let done = 0; done < length; index++, within = 0) {
      const count = Math.min(chunkSize - within, length - done);
      if (this.#chunks.has(index)) {
        if (count === chunkSize && !this.#keepsMemory) {
          this.#chunks.delete(index);
          this.#shared.delete(index);
        } else {
          this.#writable(index).fill(0, within, within + count);
        }
      }
      done += count;
    }
  }

  #writable(index: number): Uint8Array {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = new Uint8Array(this.#chunkSize);
      this.#chunks.set(index, chunk);
    } else if (this.#shared.size > 0 && this.#shared.delete(index)) {
      chunk = chunk.slice();
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }
}

/** Errors: EINVAL for a block size that is no power of two from 512 on, or a size that is not whole blocks. */
export function checkGeometry(size: number, logicalBlockSize: number): void {
  if (!isPowerOfTwo(logicalBlockSize) || logicalBlockSize < 512)
    throw new FsError('EINVAL', 'open', { detail: `logicalBlockSize ${logicalBlockSize}` });
  if (!Number.isSafeInteger(size) || size < 0 || size % logicalBlockSize !== 0) {
    throw new FsError('EINVAL', 'open', { detail: `size ${size} is not whole blocks of ${logicalBlockSize}` });
  }
}
