import { ERRNO } from '../base/errno.ts';
import { FsError } from '../base/fs-error.ts';
import type { Prng } from '../base/prng.ts';
import { checkRange, isPowerOfTwo, roundDown, roundUp } from '../base/ranges.ts';

/** What the processor writes back as one: bytes. */
const CACHE_LINE_SIZE = 64;

/**
 * A device whose bytes are memory: no requests, no copies; a load reads the device and a store changes it.
 *
 * A store is durable after flush() of its range. Poison is memory that can no longer be read; it is kept per page, and a view never
 * covers it, since on real memory the load would kill the process.
 * Source: Linux drivers/dax, drivers/nvdimm/pmem.c (dax_direct_access, dax_recovery_write, dax_zero_page_range).
 */
export interface DaxDevice {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Unit of poison and of mapping, bytes. */
  readonly pageSize: number;
  /** How many of the bytes [addr, addr + length) lie side by side in memory and can be read; 0 if the first page is poisoned. */
  contiguous(addr: number, length: number): number;
  /** The memory itself from `addr` on, contiguous(addr, length) bytes. Errors: EHWPOISON where that is 0. */
  bytes(addr: number, length: number): Uint8Array;
  /** Makes stores to the range durable. */
  flush(addr: number, length: number): void;
  isPoisoned(addr: number, length: number): boolean;
  /** Makes every poisoned page in the range usable again; it reads as zeros. */
  clearPoison(addr: number, length: number): void;
  /** Zeros the range, durably, and heals poisoned pages that it covers whole. Errors: EHWPOISON for one that it covers in part. */
  zero(addr: number, length: number): void;
  /** Stores `bytes`, durably, and heals poisoned pages that they cover whole. Errors: EHWPOISON for one that they cover in part. */
  recoveryWrite(addr: number, bytes: Uint8Array): void;
}

export interface MemoryDaxDeviceOptions {
  /** Bytes, a multiple of pageSize. */
  size: number;
  name?: string;
  pageSize?: number;
  /** Bytes, a multiple of pageSize: memory comes in runs of this length that do not lie side by side. Default: one run. */
  runSize?: number;
  /** Keeps what is durable apart, for durableImage(). */
  trackDurability?: boolean;
}

/** A DaxDevice in ordinary memory. */
export class MemoryDaxDevice implements DaxDevice {
  readonly name: string;
  readonly size: number;
  readonly pageSize: number;
  readonly runSize: number;
  /** Calls of flush(), and bytes in them. */
  flushCount = 0;
  flushedBytes = 0;
  readonly #runs: Uint8Array[] = [];
  readonly #poisoned = new Set<number>();
  readonly #durable: Uint8Array | undefined;

  constructor(options: MemoryDaxDeviceOptions) {
    const { size, pageSize = 4096, runSize = size } = options;
    const isSane =
      isPowerOfTwo(pageSize) && Number.isSafeInteger(size) && size > 0 && size % pageSize === 0 && runSize > 0 && runSize % pageSize === 0;
    if (!isSane) throw new FsError('EINVAL', 'open', { detail: `size ${size}, pageSize ${pageSize}, runSize ${runSize}` });
    this.name = options.name ?? 'dax';
    this.size = size;
    this.pageSize = pageSize;
    this.runSize = runSize;
    for (let addr = 0; addr < size; addr += runSize) this.#runs.push(new Uint8Array(Math.min(runSize, size - addr)));
    this.#durable = options.trackDurability === true ? new Uint8Array(size) : undefined;
  }

  contiguous(addr: number, length: number): number {
    this.#check('read', addr, length);
    const count = Math.min(length, this.runSize - (addr % this.runSize));
    if (this.#poisoned.size === 0) return count;
    for (let page = roundDown(addr, this.pageSize); page < addr + count; page += this.pageSize) {
      if (this.#poisoned.has(page)) return Math.max(page - addr, 0);
    }
    return count;
  }

  bytes(addr: number, length: number): Uint8Array {
    const count = this.contiguous(addr, length);
    if (count === 0 && length > 0) throw this.#poisonError('read', addr);
    return this.#view(addr, count);
  }

  flush(addr: number, length: number): void {
    this.#check('msync', addr, length);
    this.flushCount++;
    this.flushedBytes += length;
    if (length > 0) this.#persist(roundDown(addr, CACHE_LINE_SIZE), Math.min(roundUp(addr + length, CACHE_LINE_SIZE), this.size));
  }

  isPoisoned(addr: number, length: number): boolean {
    this.#check('read', addr, length);
    return this.#poisonedPages(addr, length).length > 0;
  }

  clearPoison(addr: number, length: number): void {
    this.#check('write', addr, length);
    for (const page of this.#poisonedPages(addr, length)) this.#heal(page);
  }

  zero(addr: number, length: number): void {
    this.#check('fallocate', addr, length);
    this.#healCovered('fallocate', addr, length);
    this.#forRuns(addr, length, (view) => void view.fill(0));
    this.#persist(addr, addr + length);
  }

  recoveryWrite(addr: number, bytes: Uint8Array): void {
    this.#check('write', addr, bytes.length);
    this.#healCovered('write', addr, bytes.length);
    this.#forRuns(addr, bytes.length, (view, done) => view.set(bytes.subarray(done, done + view.length)));
    this.#persist(addr, addr + bytes.length);
  }

  /** Makes every page that the range touches unreadable; its content is lost. */
  poison(addr: number, length: number): void {
    this.#check('write', addr, length);
    for (let page = roundDown(addr, this.pageSize); page < addr + length; page += this.pageSize) {
      this.#poisoned.add(page);
      this.#view(page, this.pageSize).fill(0xee);
      this.#durable?.fill(0xee, page, page + this.pageSize);
    }
  }

  /**
   * A copy of what a power cut keeps: everything that was flushed, and of the stores after that what `prng` picks, line by line, since
   * the processor writes lines back when it likes. Without `prng` none of them. Errors: ENOTSUP without trackDurability.
   */
  durableImage(prng?: Prng): Uint8Array {
    if (this.#durable === undefined) throw new FsError('ENOTSUP', 'read', { detail: `${this.name} does not track durability` });
    const image = this.#durable.slice();
    if (prng === undefined) return image;
    this.#forRuns(0, this.size, (view, done) => {
      for (let at = 0; at < view.length; at += CACHE_LINE_SIZE) {
        const line = view.subarray(at, at + CACHE_LINE_SIZE);
        if (line.some((byte, i) => byte !== image[done + at + i]) && prng.chance(0.5)) image.set(line, done + at);
      }
    });
    return image;
  }

  #check(syscall: string, addr: number, length: number): void {
    checkRange(syscall, addr, length, this.size);
  }

  #view(addr: number, length: number): Uint8Array {
    const within = addr % this.runSize;
    const run = this.#runs[Math.floor(addr / this.runSize)];
    return run === undefined ? new Uint8Array(0) : run.subarray(within, within + length);
  }

  #forRuns(addr: number, length: number, visit: (view: Uint8Array, done: number) => void): void {
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, this.runSize - ((addr + done) % this.runSize));
      visit(this.#view(addr + done, count), done);
      done += count;
    }
  }

  #persist(from: number, to: number): void {
    const durable = this.#durable;
    if (durable !== undefined) this.#forRuns(from, to - from, (view, done) => durable.set(view, from + done));
  }

  #poisonedPages(addr: number, length: number): number[] {
    const pages: number[] = [];
    if (this.#poisoned.size === 0) return pages;
    for (let page = roundDown(addr, this.pageSize); page < addr + length; page += this.pageSize) {
      if (this.#poisoned.has(page)) pages.push(page);
    }
    return pages;
  }

  #heal(page: number): void {
    this.#poisoned.delete(page);
    this.#view(page, this.pageSize).fill(0);
    this.#persist(page, page + this.pageSize);
  }

  // Checked before anything is healed, so that a refused call changes nothing.
  #healCovered(syscall: string, addr: number, length: number): void {
    const pages = this.#poisonedPages(addr, length);
    for (const page of pages) {
      if (page < addr || page + this.pageSize > addr + length) throw this.#poisonError(syscall, page);
    }
    for (const page of pages) this.#heal(page);
  }

  #poisonError(syscall: string, addr: number): FsError {
    return FsError.of(-ERRNO.EHWPOISON, syscall, { detail: `${this.name} at byte ${addr}` });
  }
}
