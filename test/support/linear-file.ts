// The simplest file there is: file byte x lives at device byte base + x. For tests that look at one folio or one request at a time.
import { IovIter } from '../../src/base/iov-iter.ts';
import { type Bio, REQ_OP_READ, REQ_OP_WRITE } from '../../src/block/bio.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { blockFileIo } from '../../src/iomap/block-file-io.ts';
import { bufferedRead } from '../../src/iomap/buffered-read.ts';
import { bufferedWrite } from '../../src/iomap/buffered-write.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../src/iomap/file-io.ts';
import type { IomapOps } from '../../src/iomap/hooks.ts';
import { IOMAP_MAPPED, type Iomap, type IomapType } from '../../src/iomap/iomap.ts';
import { BackingDevice, type BackingDeviceOptions } from '../../src/pagecache/backing-device.ts';
import { PageCache, type PageCacheOptions } from '../../src/pagecache/page-cache.ts';
import { Inode, type InodeOptions } from '../../src/vfs/inode.ts';
import { SuperBlock } from '../../src/vfs/super-block.ts';

export interface Request {
  readonly op: 'read' | 'write';
  readonly addr: number;
  readonly length: number;
}

/** Notes every read and write that reaches a device. */
export class WatchedDevice implements BlockDevice {
  readonly inner: MemoryDevice;
  readonly requests: Request[] = [];
  constructor(inner: MemoryDevice) {
    this.inner = inner;
  }
  get name() {
    return this.inner.name;
  }
  get size() {
    return this.inner.size;
  }
  get logicalBlockSize() {
    return this.inner.logicalBlockSize;
  }
  get dmaAlignment() {
    return 1;
  }
  get bioSizeMax() {
    return this.inner.bioSizeMax;
  }
  get hasVolatileCache() {
    return false;
  }
  get hasFua() {
    return false;
  }
  get stableWrites() {
    return this.inner.stableWrites;
  }
  get atomicWriteMin() {
    return 0;
  }
  get atomicWriteMax() {
    return 0;
  }
  submit(bio: Bio): void {
    if (bio.op === REQ_OP_READ || bio.op === REQ_OP_WRITE) {
      this.requests.push({ op: bio.op === REQ_OP_READ ? 'read' : 'write', addr: bio.addr, length: bio.length });
    }
    this.inner.submit(bio);
  }
  reads(): Request[] {
    return this.requests.filter((request) => request.op === 'read');
  }
  writes(): Request[] {
    return this.requests.filter((request) => request.op === 'write');
  }
  clear(): void {
    this.requests.length = 0;
  }
}

export interface LinearOptions extends Partial<InodeOptions> {
  /** Byte that fills the device. */
  fill?: number;
  /** What begin answers; the default is one mapping over all of the device. */
  map?: (pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap) => void;
  type?: IomapType;
  mapFlags?: number;
  cache?: PageCacheOptions;
  bdi?: BackingDeviceOptions;
  deviceSize?: number;
}

/** A file on a watched memory device, with everything around it. */
export class LinearFile {
  readonly cache: PageCache;
  readonly sb: SuperBlock;
  readonly device: WatchedDevice;
  readonly inode: Inode;
  readonly io: FileIo;
  begins = 0;
  ends = 0;

  constructor(options: LinearOptions = {}) {
    const { cache, bdi, fill, map, type, mapFlags, deviceSize, ...inode } = options;
    this.cache = new PageCache({ budget: 64 * 1024 * 1024, poison: 0xa5, ...cache });
    this.sb = new SuperBlock(this.cache, new BackingDevice(this.cache, bdi));
    const memory = new MemoryDevice({ size: deviceSize ?? 64 * 1024 * 1024 });
    if (fill !== undefined) memory.fill(fill);
    this.device = new WatchedDevice(memory);
    const ops: IomapOps = {
      iomapBegin: (_inode, pos, length, flags, iomap, srcmap) => {
        this.begins++;
        if (map !== undefined) {
          map(pos, length, flags, iomap, srcmap);
          return;
        }
        iomap.type = type ?? IOMAP_MAPPED;
        iomap.flags = mapFlags ?? 0;
        iomap.offset = 0;
        iomap.length = this.device.size;
        iomap.addr = 0;
        iomap.bdev = this.device;
      },
      iomapEnd: () => {
        this.ends++;
      },
    };
    this.io = blockFileIo(ops, {
      mapBlocks: (wpc, pos, length) => {
        wpc.iomap.clear();
        return ops.iomapBegin(this.inode, pos, length, 0, wpc.iomap, wpc.iomap, undefined as never);
      },
    });
    this.inode = new Inode(this.sb, { blockSize: 4096, size: 0, ...inode, ops: iomapAddressSpaceOps(this.io) });
  }

  async write(pos: number, data: Uint8Array, flags = 0): Promise<number> {
    await this.inode.lock.lock();
    try {
      return await bufferedWrite({ pos, flags }, this.inode, new IovIter(data), this.io);
    } finally {
      this.inode.lock.unlock();
    }
  }

  async read(pos: number, length: number, flags = 0): Promise<Uint8Array> {
    const into = new Uint8Array(length);
    return into.subarray(0, await bufferedRead({ pos, flags }, this.inode, into));
  }

  async sync(): Promise<void> {
    await this.inode.mapping.writeAndWait(0, Number.MAX_SAFE_INTEGER);
  }

  async dropCache(): Promise<void> {
    await this.inode.mapping.invalidateRange(0, Number.MAX_SAFE_INTEGER);
  }
}
