// The smallest filesystem that gives direct I/O every kind of mapping, on a device that shows and holds each request.
import { FsError } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import type { Prng } from '../../src/base/prng.ts';
import { type MaybePromise, then } from '../../src/base/task.ts';
import { type Bio, type BioOp, REQ_OP_FLUSH, REQ_OP_READ } from '../../src/block/bio.ts';
import { type BlockDevice, readDevice, writeDevice } from '../../src/block/block-device.ts';
import { MemoryDevice, type MemoryDeviceOptions } from '../../src/block/memory-device.ts';
import { blockFileIo } from '../../src/iomap/block-file-io.ts';
import { bufferedFileWrite } from '../../src/iomap/buffered-file.ts';
import { bufferedRead } from '../../src/iomap/buffered-read.ts';
import { type DirectFileIo, directRead, directWrite } from '../../src/iomap/direct-file.ts';
import { type DirectOps, type DirectOptions, directIo, IOMAP_DIO_COW, IOMAP_DIO_UNWRITTEN } from '../../src/iomap/direct-io.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../src/iomap/file-io.ts';
import type { IomapOps } from '../../src/iomap/hooks.ts';
import {
  IOMAP_DIRECT,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_MAPPED,
  IOMAP_OVERWRITE_ONLY,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  type Iomap,
} from '../../src/iomap/iomap.ts';
import type { IomapIter } from '../../src/iomap/iter.ts';
import { BackingDevice } from '../../src/pagecache/backing-device.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { Inode } from '../../src/vfs/inode.ts';
import { SuperBlock } from '../../src/vfs/super-block.ts';

/** What a device holds where no file ever wrote. */
export const STALE = 0xee;

/** A request as the device got it. */
export interface SeenRequest {
  readonly op: BioOp;
  readonly addr: number;
  readonly length: number;
  readonly flags: number;
}

export type Geometry = Partial<Omit<BlockDevice, 'submit' | 'close' | 'name' | 'size'>>;

/** Notes every request, and holds or fails those it is told to. */
export class SpyDevice implements BlockDevice {
  readonly inner: BlockDevice;
  readonly name = 'spy';
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly stableWrites: boolean;
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;
  readonly requests: SeenRequest[] = [];
  /** Requests wait in `held` for release(). */
  isHolding = false;
  readonly held: Bio[] = [];
  /** Gives the status of a request that is to fail, a negative errno; 0 for others. Asked at submission. */
  fails: ((bio: Bio) => number) | undefined = undefined;
  /** True while a completion runs on the device's stack. */
  isCompleting = false;

  constructor(inner: BlockDevice, geometry: Geometry = {}) {
    this.inner = inner;
    this.size = inner.size;
    this.logicalBlockSize = geometry.logicalBlockSize ?? inner.logicalBlockSize;
    this.dmaAlignment = geometry.dmaAlignment ?? inner.dmaAlignment;
    this.bioSizeMax = geometry.bioSizeMax ?? inner.bioSizeMax;
    this.hasVolatileCache = geometry.hasVolatileCache ?? inner.hasVolatileCache;
    this.hasFua = geometry.hasFua ?? inner.hasFua;
    this.stableWrites = geometry.stableWrites ?? inner.stableWrites;
    this.atomicWriteMin = geometry.atomicWriteMin ?? inner.atomicWriteMin;
    this.atomicWriteMax = geometry.atomicWriteMax ?? inner.atomicWriteMax;
  }

  submit(bio: Bio): void {
    const { op, addr, length, flags } = bio;
    this.requests.push({ op, addr, length, flags });
    const status = this.fails?.(bio) ?? 0;
    if (status < 0) this.#complete(() => bio.end(status));
    else if (this.isHolding) this.held.push(bio);
    else this.#complete(() => this.inner.submit(bio));
  }

  /** Lets the request that has waited longest, or the given one, go on; with a status it fails instead. */
  release(at = 0, status = 0): void {
    const [bio] = this.held.splice(at, 1) as [Bio];
    this.#complete(() => (status < 0 ? bio.end(status) : this.inner.submit(bio)));
  }

  releaseAll(): void {
    while (this.held.length > 0) this.release();
  }

  count(op: BioOp): number {
    return this.requests.filter((request) => request.op === op).length;
  }

  get reads(): number {
    return this.count(REQ_OP_READ);
  }

  get flushes(): number {
    return this.count(REQ_OP_FLUSH);
  }

  #complete(end: () => void): void {
    const outer = this.isCompleting;
    this.isCompleting = true;
    try {
      end();
    } finally {
      this.isCompleting = outer;
    }
  }
}

export type BlockState = 'written' | 'unwritten' | 'fresh';

/** A block of the file. `fresh`: allocated by a write that is not complete, and reported NEW. */
export interface DirectBlock {
  addr: number;
  state: BlockState;
  isShared: boolean;
}

export interface DirectFsOptions {
  /** Bytes. Default: 4096. */
  blockSize?: number;
  size?: number;
  sizeMax?: number;
  /** What a direct write to a hole gets. */
  alloc?: 'unwritten' | 'new';
  /** Blocks of the largest mapping. */
  extentMax?: number;
  /** Of cached folios. Default: 4. */
  orderMax?: number;
  /** Where blocks go; one after the other without. */
  prng?: Prng;
  /** In front of a memory device that is made here. */
  geometry?: Geometry;
  device?: Partial<MemoryDeviceOptions>;
  /** In place of both. */
  bdev?: BlockDevice;
}

/** What one call adds to its hooks. */
export interface CallOptions extends DirectOptions {
  flags?: number;
  dioFlags?: number;
  dops?: DirectOps | undefined;
  iov?: IovIter;
}

/** One file on one device. */
export class DirectFs {
  readonly memory: MemoryDevice;
  readonly spy: SpyDevice;
  readonly bdev: BlockDevice;
  readonly inode: Inode;
  readonly sb: SuperBlock;
  readonly fileIo: FileIo;
  readonly blockSize: number;
  readonly blocks = new Map<number, DirectBlock>();
  /** Copies in the making, by file block: their device address. */
  readonly #copies = new Map<number, number>();
  readonly events: string[] = [];
  /** Added to the flags of every mapping with blocks. */
  mapFlags = 0;
  /** Answers in place of the filesystem where it returns true. */
  override: ((pos: number, length: number, flags: number, map: Iomap) => MaybePromise<boolean>) | undefined = undefined;
  /** Called by end(); may throw. */
  onEnd: ((written: number) => void) | undefined = undefined;
  /** Awaited by endIo before anything is converted. */
  beforeConversion: (() => MaybePromise<void>) | undefined = undefined;
  begins = 0;
  ends = 0;
  readonly #alloc: 'unwritten' | 'new';
  readonly #extentMax: number;
  readonly #prng: Prng | undefined;
  #nextBlock = 1;

  constructor(options: DirectFsOptions = {}) {
    const { blockSize = 4096, size = 0, alloc = 'unwritten', extentMax = 1024, prng, geometry, device, bdev } = options;
    this.memory = new MemoryDevice({ size: 32 * 1024 * 1024, ...device });
    this.memory.fill(STALE);
    this.spy = new SpyDevice(this.memory, geometry);
    this.bdev = bdev ?? this.spy;
    this.blockSize = blockSize;
    this.#alloc = alloc;
    this.#extentMax = extentMax;
    this.#prng = prng;
    const cache = new PageCache({ budget: 32 * 1024 * 1024, poison: 0xa5 });
    this.sb = new SuperBlock(cache, new BackingDevice(cache), options.sizeMax);
    this.fileIo = blockFileIo(this.ops, {
      mapBlocks: (wpc, pos) => {
        wpc.iomap.clear();
        this.#fill(wpc.iomap, Math.floor(pos / blockSize), pos + 1);
      },
      endIoend: (ioend) => {
        if (ioend.error === 0) this.convert(ioend.offset, ioend.size);
      },
    });
    this.inode = new Inode(this.sb, { blockSize, size, ino: 7, orderMax: options.orderMax ?? 4, ops: iomapAddressSpaceOps(this.fileIo) });
  }

  /** Gives the file blocks [pos, pos + length) on the device: written ones hold `fill`, unwritten ones garbage. */
  put(pos: number, length: number, state: BlockState, fill = 0x11, isShared = false): void {
    const { blockSize } = this;
    for (let at = pos; at < pos + length; at += blockSize) {
      const addr = this.#nextBlock++ * blockSize;
      this.blocks.set(at / blockSize, { addr, state, isShared });
      this.memory.fill(state === 'written' ? fill : STALE, addr, blockSize);
    }
  }

  /** What the device holds for the file block at `pos`. */
  deviceBlock(pos: number): Uint8Array {
    const block = this.blocks.get(Math.floor(pos / this.blockSize)) as DirectBlock;
    return this.memory.read(block.addr, this.blockSize);
  }

  readonly ops: IomapOps = {
    iomapBegin: (_inode: Inode, pos: number, length: number, flags: number, map: Iomap, _srcmap: Iomap, _iter: IomapIter) => {
      this.begins++;
      this.events.push('begin');
      return then(this.override?.(pos, length, flags, map), (done) => {
        if (done === true) return;
        const block = Math.floor(pos / this.blockSize);
        return (flags & IOMAP_WRITE) === 0 ? this.#fill(map, block, pos + length) : this.#mapForWrite(pos, length, flags, map, block);
      });
    },
    iomapEnd: (_inode, _pos, _length, written) => {
      this.ends++;
      this.events.push('end');
      this.onEnd?.(written);
    },
  };

  readonly dops: DirectOps = {
    endIo: (_iocb, inode, pos, size, errno, flags) => {
      this.events.push(`endIo ${errno}`);
      return then(this.beforeConversion?.(), () => {
        if (errno !== 0) {
          this.#undo(pos, inode);
          return;
        }
        if ((flags & IOMAP_DIO_UNWRITTEN) !== 0 || this.#alloc === 'new') this.convert(pos, size);
        if ((flags & IOMAP_DIO_COW) !== 0) this.#remap(pos, size);
        if (pos + size > inode.size) {
          this.events.push('size');
          inode.size = pos + size;
        }
      });
    },
  };

  convert(pos: number, length: number): void {
    this.events.push('convert');
    for (const index of this.#range(pos, length)) {
      const block = this.blocks.get(index);
      if (block !== undefined) block.state = 'written';
    }
  }

  write(pos: number, data: Uint8Array, options: CallOptions = {}): MaybePromise<number> {
    return this.io(true, pos, data, options);
  }

  read(pos: number, into: Uint8Array, options: CallOptions = {}): MaybePromise<number> {
    return this.io(false, pos, into, options);
  }

  /** directIo() itself, without locks. */
  io(isWrite: boolean, pos: number, bytes: Uint8Array, options: CallOptions = {}): MaybePromise<number> {
    const { flags = 0, dioFlags = 0, iov = new IovIter(bytes), ...rest } = options;
    const dops = 'dops' in options ? options.dops : isWrite ? this.dops : undefined;
    return directIo({ pos, flags }, this.inode, iov, isWrite, this.ops, dops, dioFlags, rest);
  }

  /** The hooks of whole calls, with a way through the cache. */
  fileOps(more: Partial<DirectFileIo> = {}): DirectFileIo {
    return {
      ops: this.ops,
      dops: this.dops,
      bufferedWrite: (iocb, source) => bufferedFileWrite(iocb, this.inode, source, this.fileIo),
      bufferedRead: (iocb, iov) => {
        const rest = new Uint8Array(iov.count);
        return then(bufferedRead(iocb, this.inode, rest), (count) => iov.copyFrom(rest.subarray(0, count)));
      },
      ...more,
    };
  }

  writeFile(pos: number, data: Uint8Array, flags = 0, more: Partial<DirectFileIo> = {}): MaybePromise<number> {
    return directWrite({ pos, flags }, this.inode, new IovIter(data), this.fileOps(more));
  }

  readFile(pos: number, into: Uint8Array, flags = 0, more: Partial<DirectFileIo> = {}): MaybePromise<number> {
    return directRead({ pos, flags }, this.inode, new IovIter(into), this.fileOps(more));
  }

  bufferedWrite(pos: number, data: Uint8Array): MaybePromise<number> {
    return bufferedFileWrite({ pos, flags: 0 }, this.inode, new IovIter(data), this.fileIo);
  }

  async bufferedRead(pos: number, length: number): Promise<Uint8Array> {
    const into = new Uint8Array(length).fill(0x77);
    return into.subarray(0, await bufferedRead({ pos, flags: 0 }, this.inode, into));
  }

  /** The run of equal blocks from `block` on, or of none; looked for up to the byte `end`. */
  #fill(map: Iomap, block: number, end: number): void {
    const { blockSize, blocks } = this;
    const first = blocks.get(block);
    const isData = first?.state === 'written';
    let count = 1;
    for (; count < this.#extentMax && (block + count) * blockSize < end; count++) {
      const next = blocks.get(block + count);
      if (first === undefined ? next !== undefined : next?.addr !== first.addr + count * blockSize) break;
      if (next?.state !== first?.state || next?.isShared !== first?.isShared) break;
    }
    map.offset = block * blockSize;
    map.length = count * blockSize;
    if (first === undefined) return;
    map.type = isData ? IOMAP_MAPPED : IOMAP_UNWRITTEN;
    map.addr = first.addr;
    map.bdev = this.bdev;
    map.flags = this.mapFlags;
  }

  #mapForWrite(pos: number, length: number, flags: number, map: Iomap, block: number): MaybePromise<void> {
    const { blockSize, blocks } = this;
    const found = blocks.get(block);
    const isWhole = pos % blockSize === 0 && length % blockSize === 0;
    if ((flags & IOMAP_OVERWRITE_ONLY) !== 0) {
      if (found === undefined || found.isShared || (found.state !== 'written' && !isWhole)) throw new FsError('EAGAIN', 'write');
    }
    if (found === undefined) {
      const end = Math.ceil((pos + length) / blockSize);
      const isDirect = (flags & IOMAP_DIRECT) !== 0;
      const state = isDirect && this.#alloc === 'new' ? 'fresh' : 'unwritten';
      let count = 0;
      this.#allocate(Math.min(end - block, this.#extentMax), (addr) => {
        if (blocks.has(block + count)) return false;
        blocks.set(block + count++, { addr, state, isShared: false });
        return true;
      });
      this.#fill(map, block, (block + count) * blockSize);
      if (state === 'fresh') map.type = IOMAP_MAPPED;
      map.flags |= IOMAP_F_NEW;
      return;
    }
    if (!found.isShared) {
      this.#fill(map, block, pos + length);
      if (found.state === 'fresh') {
        map.type = IOMAP_MAPPED;
        map.flags |= IOMAP_F_NEW;
      }
      return;
    }
    if ((flags & IOMAP_DIRECT) !== 0) {
      if (!isWhole) throw new FsError('ENOTBLK', 'write');
      this.#allocate(1, (addr) => {
        this.#copies.set(block, addr);
        map.type = IOMAP_MAPPED;
        map.flags = IOMAP_F_SHARED | this.mapFlags;
        map.offset = block * blockSize;
        map.length = blockSize;
        map.addr = addr;
        map.bdev = this.bdev;
        return true;
      });
      return;
    }
    return this.#copyNow(found, map, block, pos + length);
  }

  /** Buffered writes take the short cut of copying shared blocks at once. */
  async #copyNow(found: DirectBlock, map: Iomap, block: number, end: number): Promise<void> {
    const bytes = new Uint8Array(this.blockSize);
    await readDevice(this.bdev, found.addr, bytes);
    let target = 0;
    this.#allocate(1, (addr) => {
      target = addr;
      return true;
    });
    await writeDevice(this.bdev, target, bytes);
    this.blocks.set(block, { addr: target, state: 'written', isShared: false });
    this.#fill(map, block, end);
  }

  /** Up to `count` device blocks that follow each other. */
  #allocate(count: number, take: (addr: number) => boolean): void {
    const run = this.#prng === undefined ? count : this.#prng.between(1, count);
    for (let i = 0; i < run; i++) {
      if (!take(this.#nextBlock * this.blockSize)) break;
      this.#nextBlock++;
    }
    if (this.#prng?.chance(0.5) === true) this.#nextBlock++;
  }

  #remap(pos: number, length: number): void {
    this.events.push('remap');
    for (const index of this.#range(pos, length)) {
      const addr = this.#copies.get(index);
      if (addr !== undefined) this.blocks.set(index, { addr, state: 'written', isShared: false });
      this.#copies.delete(index);
    }
  }

  /** A failed write leaves no block that only it had asked for. */
  #undo(pos: number, inode: Inode): void {
    for (const [index, { state }] of this.blocks) {
      if (state === 'fresh' && index >= Math.floor(pos / inode.blockSize)) this.blocks.delete(index);
    }
    for (const index of [...this.#copies.keys()]) if (index >= Math.floor(pos / inode.blockSize)) this.#copies.delete(index);
  }

  #range(pos: number, length: number): number[] {
    const first = Math.floor(pos / this.blockSize);
    const last = Math.ceil((pos + length) / this.blockSize);
    return Array.from({ length: last - first }, (_, i) => first + i);
  }
}
