import { assert } from '../../src/base/assert.ts';
import { FsError } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import { RwLock } from '../../src/base/lock.ts';
import { Prng } from '../../src/base/prng.ts';
import { roundDown } from '../../src/base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../../src/base/task.ts';
import { MemoryDaxDevice, type MemoryDaxDeviceOptions } from '../../src/block/dax-device.ts';
import { daxBreakLayouts, daxRw, daxUnshare, daxWriteback, daxZeroRange } from '../../src/iomap/dax.ts';
import { DaxEntries } from '../../src/iomap/dax-entries.ts';
import { DaxView, type DaxViewOptions } from '../../src/iomap/dax-view.ts';
import type { IomapOps } from '../../src/iomap/hooks.ts';
import type { Iocb } from '../../src/iomap/iocb.ts';
import {
  IOMAP_F_DIRTY,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
  type Iomap,
} from '../../src/iomap/iomap.ts';
import { BackingDevice } from '../../src/pagecache/backing-device.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { PAGE_SIZE } from '../../src/pagecache/page-memory.ts';
import { Inode } from '../../src/vfs/inode.ts';
import { SuperBlock } from '../../src/vfs/super-block.ts';
import { type Extent, ExtentMap } from './extent-map.ts';

export interface DaxFsOptions extends Partial<MemoryDaxDeviceOptions> {
  blockSize?: number;
  /** Where blocks go, and where begin waits. */
  prng?: Prng;
  /** Longest run of new blocks. */
  runMax?: number;
  /** Share of begins and ends that wait a few turns. */
  asyncShare?: number;
}

/** What freed and never allocated blocks are full of: must never be seen in a file. */
const GARBAGE = 0xdd;

/** New blocks for a mapping of shared ones, from begin to end. */
interface Cow {
  readonly block: number;
  readonly addr: number;
  readonly count: number;
}

/** The blocks of the device: how many files use each. Runs of free ones come from places drawn by seed. */
export class DaxBlocks {
  readonly #users: Uint16Array;
  readonly #prng: Prng;
  readonly #runMax: number;
  free: number;

  constructor(blocks: number, prng: Prng, runMax: number) {
    this.#users = new Uint16Array(blocks);
    this.#prng = prng;
    this.#runMax = runMax;
    this.free = blocks;
  }

  usersOf(block: number): number {
    return this.#users[block] as number;
  }

  /** A run of at least one and at most `count` free blocks, used once. Errors: ENOSPC. */
  allocate(count: number): { addr: number; count: number } {
    if (this.free === 0) throw new FsError('ENOSPC', 'write');
    let addr = this.#prng.below(this.#users.length);
    while (this.#users[addr] !== 0) addr = (addr + 1) % this.#users.length;
    let taken = 1;
    while (taken < Math.min(count, this.#runMax) && this.#users[addr + taken] === 0) taken++;
    this.use(addr, taken);
    return { addr, count: taken };
  }

  /** One file more uses the blocks. */
  use(addr: number, count: number): void {
    for (let block = addr; block < addr + count; block++) {
      if (this.usersOf(block) === 0) this.free--;
      this.#users[block] = this.usersOf(block) + 1;
    }
  }

  /** One file less uses the blocks. Returns those that are free now. */
  drop(addr: number, count: number): number[] {
    const freed: number[] = [];
    for (let block = addr; block < addr + count; block++) {
      assert(this.usersOf(block) > 0, `block ${block} is freed twice`);
      this.#users[block] = this.usersOf(block) - 1;
      if (this.usersOf(block) === 0) freed.push(block);
    }
    this.free += freed.length;
    return freed;
  }
}

/** A call of begin, as seen. */
export interface Begun {
  readonly pos: number;
  readonly length: number;
  readonly flags: number;
}

export class DaxFile {
  readonly inode: Inode;
  extents = new ExtentMap();
  /** Held from begin to end of what may change extents. */
  readonly lock = new RwLock();
  /** Extents changed since the last commit. */
  isUncommitted = false;

  constructor(inode: Inode) {
    this.inode = inode;
  }
}

/**
 * A filesystem over one memory device, with holes, unwritten blocks and blocks shared between files; writes to shared blocks go to new
 * blocks, which become the file's in end. Metadata is in memory and never lost.
 */
export class DaxFs {
  readonly device: MemoryDaxDevice;
  readonly blockSize: number;
  readonly allocator: DaxBlocks;
  readonly sb: SuperBlock;
  readonly ops: IomapOps;
  readonly begun: Begun[] = [];
  /** Lets end fail: given the write that it would commit. */
  failEnd: ((pos: number, written: number) => unknown) | undefined;
  /** Called before a begin answers. */
  onBegin: ((inode: Inode, flags: number) => MaybePromise<void>) | undefined;
  commits = 0;
  readonly #files = new Map<Inode, DaxFile>();
  readonly #prng: Prng;
  readonly #asyncShare: number;

  constructor(options: DaxFsOptions = {}) {
    const { blockSize = 4096, prng = new Prng(1), runMax = 1000, asyncShare = 0, ...device } = options;
    this.device = new MemoryDaxDevice({ size: 2 ** 20, trackDurability: true, ...device });
    this.blockSize = blockSize;
    this.allocator = new DaxBlocks(this.device.size / blockSize, prng, runMax);
    this.#prng = prng;
    this.#asyncShare = asyncShare;
    this.#spoil(0, this.device.size);
    const cache = new PageCache({ budget: 2 ** 20 });
    this.sb = new SuperBlock(cache, new BackingDevice(cache));
    this.ops = {
      iomapBegin: (inode, pos, length, flags, map, srcmap) => run(this.#begin(inode, pos, length, flags, map, srcmap)),
      iomapEnd: (inode, pos, _length, written, flags, map) => run(this.#end(inode, pos, written, flags, map)),
    };
  }

  create(size: number): DaxFile {
    const file = new DaxFile(new Inode(this.sb, { blockSize: this.blockSize, size, ino: this.#files.size + 1 }));
    this.#files.set(file.inode, file);
    return file;
  }

  /** Gives a file blocks at a chosen place; `data` goes to them, without data they are unwritten. Numbers are blocks. */
  place(file: DaxFile, block: number, addr: number, count: number, data?: Uint8Array): void {
    this.allocator.use(addr, count);
    file.extents.insert({ block, count, addr, written: data !== undefined });
    if (data === undefined) return;
    for (let done = 0; done < data.length; ) {
      const bytes = this.device.bytes(addr * this.blockSize + done, data.length - done);
      bytes.set(data.subarray(done, done + bytes.length));
      done += bytes.length;
    }
    this.device.flush(addr * this.blockSize, data.length);
  }

  /** Lets `to` share the blocks of `from`, block for block. What the views of either stored is in them first. */
  reflink(from: DaxFile, to: DaxFile, block: number, count: number): MaybePromise<void> {
    return run(this.#reflink(from, to, block, count));
  }

  *#reflink(from: DaxFile, to: DaxFile, block: number, count: number): Task<void> {
    yield* this.#locked([from, to], () => {
      const start = block * this.blockSize;
      const end = start + count * this.blockSize;
      // Stores through views take blocks that are pages; with others there is nothing to write back.
      if (this.blockSize === PAGE_SIZE) {
        daxWriteback(from.inode, start, end);
        daxWriteback(to.inode, start, end);
      }
      DaxEntries.of(to.inode).drop(start, end);
      this.#free(to.extents.remove(block, block + count));
      for (const extent of from.extents.slice(block, block + count)) {
        this.allocator.use(extent.addr, extent.count);
        to.extents.insert(extent);
      }
    });
  }

  read(file: DaxFile, pos: number, length: number, flags = 0): MaybePromise<Uint8Array> {
    return run(this.#read(file, pos, length, flags));
  }

  *#read(file: DaxFile, pos: number, length: number, flags: number): Task<Uint8Array> {
    const into = new Uint8Array(length);
    const { lock } = file.inode;
    yield* wait(lock.lockShared());
    try {
      const count = yield* wait(daxRw({ pos, flags }, file.inode, new IovIter(into), false, this.ops));
      return into.subarray(0, count);
    } finally {
      lock.unlockShared();
    }
  }

  /** Writes, and then raises the size, with what lies between the old end and the write zeroed. */
  write(file: DaxFile, pos: number, data: Uint8Array | Uint8Array[], flags = 0): MaybePromise<number> {
    return run(this.#write(file, { pos, flags }, new IovIter(data)));
  }

  *#write(file: DaxFile, iocb: Iocb, iov: IovIter): Task<number> {
    const { inode } = file;
    yield* wait(inode.lock.lock());
    try {
      if (iocb.pos > inode.size) yield* wait(daxZeroRange(inode, inode.size, iocb.pos - inode.size, this.ops));
      const bytes = yield* wait(daxRw(iocb, inode, iov, true, this.ops));
      if (bytes > 0) inode.size = Math.max(inode.size, iocb.pos);
      return bytes;
    } finally {
      inode.lock.unlock();
    }
  }

  zero(file: DaxFile, pos: number, length: number): MaybePromise<void> {
    return run(this.#exclusive(file, () => daxZeroRange(file.inode, pos, length, this.ops)));
  }

  unshare(file: DaxFile, pos: number, length: number): MaybePromise<void> {
    return run(this.#exclusive(file, () => daxUnshare(file.inode, pos, length, this.ops)));
  }

  /** Frees the blocks that lie whole in the range; the edges are zeroed. */
  punch(file: DaxFile, pos: number, length: number): MaybePromise<void> {
    return run(this.#exclusive(file, () => run(this.#punch(file, pos, pos + length))));
  }

  *#punch(file: DaxFile, pos: number, end: number): Task<void> {
    const { inode, extents } = file;
    yield* wait(daxBreakLayouts(inode, pos, end));
    const first = Math.ceil(pos / this.blockSize);
    const last = Math.floor(end / this.blockSize);
    if (first >= last) {
      yield* wait(daxZeroRange(inode, pos, end - pos, this.ops));
      return;
    }
    yield* wait(daxZeroRange(inode, pos, first * this.blockSize - pos, this.ops));
    yield* wait(daxZeroRange(inode, last * this.blockSize, end - last * this.blockSize, this.ops));
    this.#free(extents.remove(first, last));
  }

  /** Everything that was stored is durable afterwards. */
  fsync(file: DaxFile, start = 0, end: number = Number.POSITIVE_INFINITY): void {
    daxWriteback(file.inode, start, end);
    file.isUncommitted = false;
    this.commits++;
  }

  view(file: DaxFile, offset: number, length: number, options: DaxViewOptions = {}): DaxView {
    return new DaxView(file.inode, offset, length, this.ops, { fsync: (start, end) => this.fsync(file, start, end), ...options });
  }

  /** The content of a file as its blocks have it, on the device or on another image of it. */
  content(file: DaxFile, image?: Uint8Array): Uint8Array {
    const { blockSize } = this;
    const out = new Uint8Array(Math.ceil(file.inode.size / blockSize) * blockSize);
    for (const { block, count, addr, written } of file.extents.slice(0, out.length / blockSize)) {
      for (let at = 0; written && at < count * blockSize; ) {
        const from = addr * blockSize + at;
        const bytes = image?.subarray(from, (addr + count) * blockSize) ?? this.device.bytes(from, count * blockSize - at);
        out.set(bytes, block * blockSize + at);
        at += bytes.length;
      }
    }
    return out.subarray(0, file.inode.size);
  }

  *#exclusive(file: DaxFile, operation: () => MaybePromise<unknown>): Task<void> {
    yield* this.#locked([file], operation);
  }

  /** Runs an operation that changes where blocks live. */
  *#locked(files: DaxFile[], operation: () => MaybePromise<unknown>): Task<void> {
    const ordered = [...new Set(files)].sort((a, b) => a.inode.ino - b.inode.ino).map((each) => each.inode);
    for (const inode of ordered) yield* wait(inode.lock.lock());
    for (const inode of ordered) yield* wait(inode.mapping.invalidateLock.lock());
    try {
      yield* wait(operation());
    } finally {
      for (const inode of ordered) inode.mapping.invalidateLock.unlock();
      for (const inode of ordered) inode.lock.unlock();
    }
  }

  *#pause(): Task<void> {
    if (this.#asyncShare === 0 || !this.#prng.chance(this.#asyncShare)) return;
    for (let turns = 1 + this.#prng.below(5); turns > 0; turns--) yield Promise.resolve();
  }

  *#begin(inode: Inode, pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap): Task<void> {
    const file = this.#files.get(inode);
    assert(file !== undefined, 'begin of a foreign inode');
    this.begun.push({ pos, length, flags });
    const before = this.onBegin?.(inode, flags);
    if (before !== undefined) yield* wait(before);
    const changes = (flags & (IOMAP_WRITE | IOMAP_ZERO)) !== 0;
    if (changes && !file.lock.tryLock()) {
      if ((flags & IOMAP_NOWAIT) !== 0) throw new FsError('EAGAIN', 'iomap');
      yield* wait(file.lock.lock());
    }
    try {
      if ((flags & IOMAP_NOWAIT) === 0) yield* this.#pause();
      this.#map(file, pos, length, flags, map, srcmap);
      if ((flags & IOMAP_NOWAIT) === 0) yield* this.#pause();
    } catch (error) {
      if (changes) file.lock.unlock();
      throw error;
    }
  }

  #map(file: DaxFile, pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap): void {
    const { blockSize, allocator } = this;
    const block = Math.floor(pos / blockSize);
    const room = Math.ceil((pos + length) / blockSize) - block;
    const extent = file.extents.at(block);
    const isWrite = (flags & IOMAP_WRITE) !== 0;
    const isChange = isWrite || (flags & IOMAP_ZERO) !== 0;
    if (extent === undefined) {
      const count = Math.min(room, file.extents.nextStart(block) - block);
      if (!isWrite || (flags & IOMAP_UNSHARE) !== 0) this.#answer(map, IOMAP_HOLE, block, count);
      else this.#answer(map, IOMAP_MAPPED, block, this.#allocate(file, block, count), IOMAP_F_NEW | IOMAP_F_DIRTY);
      return;
    }
    const isShared = allocator.usersOf(extent.addr) > 1;
    let count = 1;
    while (count < extent.count && allocator.usersOf(extent.addr + count) > 1 === isShared) count++;
    const found = { ...extent, count };
    const flag = (isShared ? IOMAP_F_SHARED : 0) | (file.isUncommitted ? IOMAP_F_DIRTY : 0);
    const type = extent.written ? IOMAP_MAPPED : IOMAP_UNWRITTEN;
    if (!isChange || (!isWrite && !extent.written)) {
      this.#answer(map, type, block, found, isChange ? 0 : flag);
      return;
    }
    if (isShared) {
      const fresh = allocator.allocate(Math.min(room, count));
      this.#answer(map, IOMAP_MAPPED, block, fresh, IOMAP_F_SHARED | IOMAP_F_DIRTY);
      this.#answer(srcmap, type, block, { ...found, count: fresh.count });
      map.private = { block, ...fresh } satisfies Cow;
      return;
    }
    if (!extent.written && (flags & IOMAP_UNSHARE) === 0) {
      const part = { ...found, count: Math.min(count, room) };
      file.extents.remove(block, block + part.count);
      this.device.zero(part.addr * blockSize, part.count * blockSize);
      file.extents.insert({ ...part, written: true });
      file.isUncommitted = true;
      this.#answer(map, IOMAP_MAPPED, block, part, IOMAP_F_NEW | IOMAP_F_DIRTY);
      return;
    }
    this.#answer(map, type, block, found, flag);
  }

  #answer(map: Iomap, type: Iomap['type'], block: number, run: number | { addr: number; count: number }, flags = 0): void {
    const { blockSize } = this;
    map.type = type;
    map.flags = flags;
    map.offset = block * blockSize;
    map.length = (typeof run === 'number' ? run : run.count) * blockSize;
    if (typeof run === 'number') return;
    map.addr = run.addr * blockSize;
    map.daxDev = this.device;
  }

  /** Zeroed blocks for a hole. */
  #allocate(file: DaxFile, block: number, count: number): { addr: number; count: number } {
    const fresh = this.allocator.allocate(count);
    this.device.zero(fresh.addr * this.blockSize, fresh.count * this.blockSize);
    file.extents.insert({ block, ...fresh, written: true });
    file.isUncommitted = true;
    return fresh;
  }

  *#end(inode: Inode, pos: number, written: number, flags: number, map: Iomap): Task<void> {
    if ((flags & (IOMAP_WRITE | IOMAP_ZERO)) === 0) return;
    const file = this.#files.get(inode) as DaxFile;
    const cow = map.private as Cow | undefined;
    try {
      if ((flags & IOMAP_NOWAIT) === 0) yield* this.#pause();
      const failure = this.failEnd?.(pos, written);
      if (cow !== undefined) this.#remap(file, cow, failure === undefined && written > 0 ? pos + written : roundDown(pos, this.blockSize));
      if (failure !== undefined) throw failure;
    } finally {
      file.lock.unlock();
    }
    // Others go on with the new extents before the caller knows that they are committed.
    if ((flags & IOMAP_NOWAIT) === 0) yield* this.#pause();
  }

  /** The new blocks are the file's up to the block that holds the byte before `end`; the others are free again. */
  #remap(file: DaxFile, { block, addr, count }: Cow, end: number): void {
    const done = Math.ceil(end / this.blockSize) - block;
    if (done > 0) {
      this.#free(file.extents.remove(block, block + done));
      file.extents.insert({ block, addr, count: done, written: true });
      file.isUncommitted = true;
    }
    if (done < count) this.#free([{ block, addr: addr + done, count: count - done, written: false }]);
  }

  #free(extents: readonly Extent[]): void {
    for (const { addr, count } of extents) {
      for (const block of this.allocator.drop(addr, count)) this.#spoil(block * this.blockSize, this.blockSize);
    }
  }

  #spoil(addr: number, length: number): void {
    for (let done = 0; done < length; ) {
      const count = this.device.contiguous(addr + done, length - done);
      if (count === 0) return; // poison stays
      this.device.bytes(addr + done, count).fill(GARBAGE);
      this.device.flush(addr + done, count);
      done += count;
    }
  }
}
