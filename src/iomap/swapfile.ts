import { FsError } from '../base/fs-error.ts';
import { roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { BlockDevice } from '../block/block-device.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import type { IomapOps } from './hooks.ts';
import {
  IOMAP_F_DIRTY,
  IOMAP_F_SHARED,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_REPORT,
  IOMAP_UNWRITTEN,
  type Iomap,
} from './iomap.ts';
import { IomapIter } from './iter.ts';

export interface SwapOptions {
  /** The device that swap goes to: all of the file has to lie on it. */
  readonly bdev: BlockDevice;
  /** Most pages to use, the header's included; all by default. */
  readonly max?: number;
  /** Makes the file and its metadata durable; by default only its cache is written. */
  readonly fsync?: () => MaybePromise<void>;
}

/** A run of whole pages on the device. */
export interface SwapExtent {
  /** Number of its first page in the swap area. */
  readonly startPage: number;
  readonly pageCount: number;
  /** Device byte address, page aligned. */
  readonly addr: number;
}

export interface SwapArea {
  readonly extents: SwapExtent[];
  /** Pages in all extents. Page 0 is the header: pageCount - 1 pages take data. */
  readonly pageCount: number;
  /** Device pages from the lowest to the highest that take data. */
  readonly spanPages: number;
}

/**
 * Lists the device pages behind a swap file, for I/O that goes past the filesystem from then on.
 *
 * Blocks:  makes the file durable first.
 * Locks:   the caller holds the inode lock exclusively, and keeps all who change the file out while the area is in use.
 * Errors:  EINVAL, and what it is that does not do: holes, delayed allocations, inline data, shared blocks, metadata that is not
 *          committed, another device, not a page for data; those of writeback and of the hooks.
 * Source:  Linux fs/iomap/swapfile.c.
 */
export function swapActivate(inode: Inode, ops: IomapOps, options: SwapOptions): MaybePromise<SwapArea> {
  const { max = Number.POSITIVE_INFINITY } = options;
  if (!(max === Math.floor(max) && max >= 0)) throw new FsError('EINVAL', 'swapon', { detail: `max ${max}` });
  if (inode.size < PAGE_SIZE) throw unusable(inode, 0, 'is smaller than a page');
  return run(activate(inode, ops, options, max));
}

function* activate(inode: Inode, ops: IomapOps, options: SwapOptions, max: number): Task<SwapArea> {
  // Mappings whose metadata is not on the device are refused: a crash would take them back while swap data lies there.
  if (options.fsync !== undefined) yield* wait(options.fsync());
  yield* wait(inode.mapping.writeAndWait(0, Number.POSITIVE_INFINITY));

  const list = new SwapList(max);
  const iter = new IomapIter(inode, ops, 0, roundDown(inode.size, PAGE_SIZE), IOMAP_REPORT);
  yield* iter.each(() => {
    const reason = whyUnusable(iter.iomap, options.bdev);
    if (reason !== undefined) throw unusable(inode, iter.pos, reason);
    list.add(iter.iomap.addrOf(iter.pos), iter.usableLength());
    iter.advanceFull();
  });
  return list.finish(inode);
}

function unusable(inode: Inode, pos: number, reason: string): FsError {
  return new FsError('EINVAL', 'swapon', { detail: `inode ${inode.ino} at byte ${pos}: the file ${reason}` });
}

function whyUnusable(map: Iomap, bdev: BlockDevice): string | undefined {
  if (map.type === IOMAP_INLINE) return 'is inline';
  if (map.type !== IOMAP_MAPPED && map.type !== IOMAP_UNWRITTEN) return 'has unallocated extents';
  if ((map.flags & IOMAP_F_DIRTY) !== 0) return 'is not committed';
  if ((map.flags & IOMAP_F_SHARED) !== 0) return 'has shared extents';
  if (map.bdev !== bdev) return 'is outside the main device';
  if (map.addrOf(map.offset) === IOMAP_NULL_ADDR) return 'has no device address';
  return undefined;
}

/**
 * The extents as they are found.
 *
 * Invariant: mappings that follow each other on the device are one run, [#start, #end), until another begins elsewhere: two blocks that
 * share a page are a page only together.
 */
class SwapList {
  readonly #extents: SwapExtent[] = [];
  readonly #max: number;
  #pageCount = 0;
  #lowest = Number.POSITIVE_INFINITY; // device bytes
  #highest = 0;
  #start = 0;
  #end = 0;

  constructor(max: number) {
    this.#max = max;
  }

  add(addr: number, length: number): void {
    if (addr !== this.#end) {
      this.#closeRun();
      this.#start = addr;
    }
    this.#end = addr + length;
  }

  finish(inode: Inode): SwapArea {
    this.#closeRun();
    // The header alone is no swap space.
    if (this.#pageCount <= 1) throw unusable(inode, 0, 'has not one usable page');
    return { extents: this.#extents, pageCount: this.#pageCount, spanPages: (this.#highest - this.#lowest) / PAGE_SIZE };
  }

  #closeRun(): void {
    const addr = roundUp(this.#start, PAGE_SIZE);
    // A run inside one page ends before it starts.
    const pages = Math.max(0, (roundDown(this.#end, PAGE_SIZE) - addr) / PAGE_SIZE);
    const pageCount = Math.min(pages, this.#max - this.#pageCount);
    if (pageCount === 0) return;
    // The header's page is not written to, and does not count for the span.
    const headerBytes = this.#pageCount === 0 ? PAGE_SIZE : 0;
    if (pageCount * PAGE_SIZE > headerBytes) {
      this.#lowest = Math.min(this.#lowest, addr + headerBytes);
      this.#highest = Math.max(this.#highest, addr + pageCount * PAGE_SIZE);
    }
    this.#extents.push({ startPage: this.#pageCount, pageCount, addr });
    this.#pageCount += pageCount;
  }
}
