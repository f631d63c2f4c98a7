// A small filesystem in one object: each block of one file is a hole, reserved, unwritten or written. For tests of allocation, conversion,
// zeroing and sharing. A block's place on the device is its place in the file; the copy of a shared block lies COW_OFFSET further on.
import { FsError } from '../../src/base/fs-error.ts';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';
import { firstUntouched, releaseDelalloc } from '../../src/iomap/delalloc.ts';
import type { Ioend, IoendOps } from '../../src/iomap/ioend.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
  type Iomap,
  type IomapType,
} from '../../src/iomap/iomap.ts';
import { isizeExtended } from '../../src/iomap/isize.ts';
import { truncatePage, zeroRange } from '../../src/iomap/zero-range.ts';
import type { Inode } from '../../src/vfs/inode.ts';
import { LinearFile, type LinearOptions } from './linear-file.ts';

/** Device bytes between a block and its copy, in the middle of the device. */
export const COW_OFFSET = 32 * 1024 * 1024;

export interface BlockFileOptions extends LinearOptions {
  /** Type of a block that nothing says anything about. */
  initial?: IomapType;
  /** Largest mapping, blocks. */
  extentMax?: number;
  /** ioend hooks of a test, after those of the file. */
  onEnd?: (ioend: Ioend) => MaybePromise<void>;
  /** The cookie is compared when a folio is locked. */
  isValidated?: boolean;
}

export class BlockFile extends LinearFile {
  readonly blocks: Map<number, IomapType>;
  /** Blocks that another file shares, and those of them that have a copy reserved here. */
  readonly shared: Set<number>;
  readonly copies: Map<number, IomapType>;
  /** Reservations made and released, blocks. */
  readonly stats: { reserved: number; punched: number; converted: number; remapped: number };
  /** i_size that a crash now would leave. */
  durableSize: number;
  /** Free blocks for new reservations. */
  free = Number.POSITIVE_INFINITY;
  cookie = 0;

  constructor(options: BlockFileOptions = {}) {
    const { initial, extentMax, onEnd, isValidated, ...rest } = options;
    const holder: { file: BlockFile } = { file: undefined as never };
    const ioend: Partial<IoendOps> = {
      mapBlocks: (wpc, pos, length) => {
        wpc.iomap.clear();
        holder.file.mapForWriteback(pos, length, wpc.iomap);
      },
      needsCompletion: (each) => each.end > holder.file.durableSize,
      endIoend: (each) => {
        const after = onEnd?.(each);
        return isPromise(after) ? after.then(() => holder.file.completed(each)) : holder.file.completed(each);
      },
      ...rest.ioend,
    };
    super({
      map: (pos, length, flags, map, srcmap) => holder.file.#begin(pos, length, flags, map, srcmap),
      end: (inode, pos, length, written, flags, map) => holder.file.#end(inode, pos, length, written, flags, map),
      ...rest,
      writeOps: {
        ...(isValidated === true ? { iomapValid: (_inode, map) => map.validityCookie === holder.file.cookie } : {}),
        ...rest.writeOps,
      },
      ioend,
    });
    this.blocks = new Map();
    this.shared = new Set();
    this.copies = new Map();
    this.stats = { reserved: 0, punched: 0, converted: 0, remapped: 0 };
    this.durableSize = this.inode.size;
    this.#initial = initial ?? IOMAP_HOLE;
    this.#extentMax = extentMax ?? Number.POSITIVE_INFINITY;
    holder.file = this;
  }

  readonly #initial: IomapType;
  readonly #extentMax: number;

  typeOf(block: number): IomapType {
    return this.blocks.get(block) ?? this.#initial;
  }

  set(from: number, to: number, type: IomapType): void {
    for (let block = from; block < to; block++) this.blocks.set(block, type);
    this.cookie++;
  }

  /** Blocks of one type below `end`, in order. */
  ofType(type: IomapType, end: number): number[] {
    const found: number[] = [];
    for (let block = 0; block < end; block++) if (this.typeOf(block) === type) found.push(block);
    return found;
  }

  #run(first: number, last: number, same: (block: number) => boolean): number {
    let end = first + 1;
    while (end < last && end - first < this.#extentMax && same(end)) end++;
    return end;
  }

  #fill(map: Iomap, type: IomapType, first: number, end: number, isCopy = false): void {
    const { blockSize } = this.inode;
    map.type = type;
    map.offset = first * blockSize;
    map.length = (end - first) * blockSize;
    map.validityCookie = this.cookie;
    if (type !== IOMAP_MAPPED && type !== IOMAP_UNWRITTEN) return;
    map.addr = map.offset + (isCopy ? COW_OFFSET : 0);
    map.bdev = this.device;
  }

  #begin(pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap): void {
    const { blockSize } = this.inode;
    const first = Math.floor(pos / blockSize);
    const last = Math.ceil((pos + length) / blockSize);
    const isShared = this.shared.has(first);
    if (isShared && (flags & (IOMAP_WRITE | IOMAP_UNSHARE | IOMAP_ZERO)) !== 0) {
      const end = this.#run(first, last, (block) => this.shared.has(block) && this.typeOf(block) === this.typeOf(first));
      for (let block = first; block < end; block++) if (!this.copies.has(block)) this.copies.set(block, IOMAP_DELALLOC);
      this.#fill(map, IOMAP_DELALLOC, first, end, true);
      map.flags |= IOMAP_F_SHARED;
      this.#fill(srcmap, this.typeOf(first), first, end);
      return;
    }
    const type = this.typeOf(first);
    if (type === IOMAP_HOLE && (flags & IOMAP_WRITE) !== 0) {
      const end = Math.min(
        this.#run(first, last, (block) => this.typeOf(block) === IOMAP_HOLE && !this.shared.has(block)),
        first + this.free,
      );
      if (end <= first) throw new FsError('ENOSPC', 'write');
      this.free -= end - first;
      this.stats.reserved += end - first;
      this.set(first, end, IOMAP_DELALLOC);
      this.#fill(map, IOMAP_DELALLOC, first, end);
      map.flags |= IOMAP_F_NEW;
      return;
    }
    // Beyond the request the answer would be as true; a hole at the end goes on for ever.
    const end = this.#run(first, last, (block) => this.typeOf(block) === type && this.shared.has(block) === isShared);
    this.#fill(map, type, first, end);
    if (isShared) map.flags |= IOMAP_F_SHARED;
  }

  #end(inode: Inode, pos: number, length: number, written: number, flags: number, map: Iomap): MaybePromise<void> {
    if ((flags & IOMAP_WRITE) === 0 || map.type !== IOMAP_DELALLOC || (map.flags & IOMAP_F_NEW) === 0 || written >= length) return;
    const start = firstUntouched(pos, written, inode.blockSize);
    const { invalidateLock } = inode.mapping;
    const end = map.end;
    const release = async (): Promise<void> => {
      await invalidateLock.lock();
      try {
        await releaseDelalloc(inode, start, end, (from, to) => this.punchDelalloc(from, to));
      } finally {
        invalidateLock.unlock();
      }
    };
    return release();
  }

  /** Takes the reservations of a byte range back. */
  punchDelalloc(start: number, end: number): void {
    const { blockSize } = this.inode;
    for (let block = start / blockSize; block < end / blockSize; block++) {
      if (this.typeOf(block) !== IOMAP_DELALLOC) continue;
      this.blocks.set(block, IOMAP_HOLE);
      this.free++;
      this.stats.punched++;
    }
  }

  mapForWriteback(pos: number, length: number, map: Iomap): void {
    const { blockSize } = this.inode;
    const first = Math.floor(pos / blockSize);
    const last = Math.ceil((pos + length) / blockSize);
    if (this.copies.has(first)) {
      const end = this.#run(first, last, (block) => this.copies.has(block));
      this.#fill(map, IOMAP_UNWRITTEN, first, end, true);
      map.flags |= IOMAP_F_SHARED;
      return;
    }
    if (this.typeOf(first) === IOMAP_DELALLOC) {
      const end = this.#run(first, last, (block) => this.typeOf(block) === IOMAP_DELALLOC && !this.copies.has(block));
      this.set(first, end, IOMAP_UNWRITTEN);
    }
    const type = this.typeOf(first);
    this.#fill(
      map,
      type,
      first,
      this.#run(first, last, (block) => this.typeOf(block) === type && !this.copies.has(block)),
    );
  }

  /** The filesystem's part of the end of a write: remap, convert, durable size. */
  completed(ioend: Ioend): void {
    if (ioend.error < 0) return;
    const { blockSize } = this.inode;
    for (let block = ioend.offset / blockSize; block < Math.ceil(ioend.end / blockSize); block++) {
      if (this.copies.delete(block)) {
        // The copy becomes the file's own: its bytes move to where a plain block lives.
        this.device.inner.write(block * blockSize, this.device.inner.read(block * blockSize + COW_OFFSET, blockSize));
        this.shared.delete(block);
        this.blocks.set(block, IOMAP_MAPPED);
        this.stats.remapped++;
      } else if (this.typeOf(block) === IOMAP_UNWRITTEN) {
        this.blocks.set(block, IOMAP_MAPPED);
        this.stats.converted++;
      }
    }
    this.cookie++;
    this.durableSize = Math.max(this.durableSize, Math.min(ioend.end, this.inode.size));
  }

  /** ftruncate, in the order of the recipes. */
  async truncate(size: number): Promise<void> {
    const { inode } = this;
    const { mapping, blockSize } = inode;
    await inode.lock.lock();
    await mapping.invalidateLock.lock();
    try {
      const oldSize = inode.size;
      if (size > oldSize) {
        const didZero = await zeroRange(inode, oldSize, size - oldSize, this.io);
        inode.size = size;
        await isizeExtended(inode, oldSize, size);
        if (didZero || this.durableSize < oldSize) await mapping.writeAndWait(this.durableSize, size);
      } else {
        await truncatePage(inode, size, this.io);
        if (size > this.durableSize) await mapping.writeAndWait(this.durableSize, size);
        inode.size = size;
        await mapping.truncateRange(size, Number.MAX_SAFE_INTEGER);
        for (const block of this.blocks.keys()) if (block >= Math.ceil(size / blockSize)) this.blocks.set(block, IOMAP_HOLE);
      }
      this.cookie++;
      this.durableSize = size;
    } finally {
      mapping.invalidateLock.unlock();
      inode.lock.unlock();
    }
  }
}
