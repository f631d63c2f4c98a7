// The simplest file there is: file byte x lives at device byte base + x. For tests that look at one folio or one request at a time.
import { assert } from '../../src/base/assert.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';
import { type Bio, REQ_OP_READ, REQ_OP_WRITE } from '../../src/block/bio.ts';
import { FilterDevice } from '../../src/block/filter-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { blockFileIo } from '../../src/iomap/block-file-io.ts';
import { bufferedFileWrite } from '../../src/iomap/buffered-file.ts';
import { bufferedRead } from '../../src/iomap/buffered-read.ts';
import { bufferedWrite } from '../../src/iomap/buffered-write.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../src/iomap/file-io.ts';
import { allUptodate, hasState, isBlockUptodate, nextDirty } from '../../src/iomap/folio-state.ts';
import type { IomapOps, ReadOps, WritebackOps, WriteOps } from '../../src/iomap/hooks.ts';
import type { IoendOps } from '../../src/iomap/ioend.ts';
import { IOMAP_MAPPED, Iomap, type IomapType } from '../../src/iomap/iomap.ts';
import type { IomapIter } from '../../src/iomap/iter.ts';
import { MappedView } from '../../src/iomap/mapped-view.ts';
import { zeroRange } from '../../src/iomap/zero-range.ts';
import { BackingDevice, type BackingDeviceOptions } from '../../src/pagecache/backing-device.ts';
import type { Folio } from '../../src/pagecache/folio.ts';
import { PageCache, type PageCacheOptions } from '../../src/pagecache/page-cache.ts';
import { Inode, type InodeOptions } from '../../src/vfs/inode.ts';
import { SuperBlock } from '../../src/vfs/super-block.ts';

export interface Request {
  readonly op: 'read' | 'write';
  readonly addr: number;
  readonly length: number;
}

/** Notes every read and write that reaches a device; holds or fails those that a test picks. */
export class WatchedDevice extends FilterDevice {
  declare readonly inner: MemoryDevice;
  readonly requests: Request[] = [];
  /** Which requests wait for release(). Their data moves then, from and to the submitter's memory. */
  holds: (bio: Bio) => boolean = () => false;
  /** Errno with which a request ends instead of being served; 0 serves it. */
  fails: (bio: Bio) => number = () => 0;
  readonly held: Bio[] = [];
  constructor(inner: MemoryDevice) {
    super(inner, 'watched');
  }
  submit(bio: Bio): void {
    if (bio.op === REQ_OP_READ || bio.op === REQ_OP_WRITE) {
      this.requests.push({ op: bio.op === REQ_OP_READ ? 'read' : 'write', addr: bio.addr, length: bio.length });
    }
    if (this.holds(bio)) this.held.push(bio);
    else this.#serve(bio);
  }
  #serve(bio: Bio): void {
    const errno = this.fails(bio);
    if (errno < 0) bio.end(errno);
    else this.inner.submit(bio);
  }
  /** Serves the request that was held `index`-th, or all of them in order. */
  release(index?: number): void {
    for (const bio of this.held.splice(index ?? 0, index === undefined ? this.held.length : 1)) this.#serve(bio);
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

const filled = new Map<string, MemoryDevice>();

/** A device full of one byte. Filling one takes longer than most tests: those of one kind share their chunks until they write. */
function filledDevice(size: number, fill: number, bioSizeMax: number | undefined): MemoryDevice {
  const key = `${size} ${fill} ${bioSizeMax}`;
  let base = filled.get(key);
  if (base === undefined) {
    base = new MemoryDevice({ size, chunkSize: 64 * 1024, ...(bioSizeMax === undefined ? {} : { bioSizeMax }) });
    base.fill(fill);
    filled.set(key, base);
  }
  return base.snapshot();
}

export interface LinearOptions extends Partial<InodeOptions> {
  /** Byte that fills the device. */
  fill?: number;
  /** What begin answers; the default is one mapping over all of the device. */
  map?: (pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap, iter: IomapIter) => MaybePromise<void>;
  /** What end does. */
  end?: NonNullable<IomapOps['iomapEnd']>;
  foreign?: boolean;
  type?: IomapType;
  mapFlags?: number;
  readOps?: ReadOps;
  writeOps?: WriteOps;
  writebackOps?: WritebackOps;
  /** What writeback does beside mapping; mapBlocks replaces the default, which asks begin. */
  ioend?: Partial<IoendOps>;
  cache?: PageCacheOptions;
  bdi?: BackingDeviceOptions;
  deviceSize?: number;
  bioSizeMax?: number;
}

/** A file on a watched memory device, with everything around it. */
export class LinearFile {
  readonly cache: PageCache;
  readonly sb: SuperBlock;
  readonly device: WatchedDevice;
  readonly inode: Inode;
  readonly ops: IomapOps;
  readonly io: FileIo;
  begins = 0;
  failedBegins = 0;
  ends = 0;

  constructor(options: LinearOptions = {}) {
    const {
      cache,
      bdi,
      fill,
      map,
      end,
      foreign,
      type,
      mapFlags,
      readOps,
      writeOps,
      writebackOps,
      ioend,
      deviceSize,
      bioSizeMax,
      ...inode
    } = options;
    this.cache = new PageCache({ budget: 64 * 1024 * 1024, poison: 0xa5, ...cache });
    this.sb = new SuperBlock(this.cache, new BackingDevice(this.cache, bdi));
    this.device = new WatchedDevice(filledDevice(deviceSize ?? 64 * 1024 * 1024, fill ?? 0, bioSizeMax));
    this.ops = {
      ...(foreign === undefined ? {} : { foreign }),
      iomapBegin: (_inode, pos, length, flags, iomap, srcmap, iter) => {
        this.begins++;
        if (map !== undefined) return this.#counted(() => map(pos, length, flags, iomap, srcmap, iter));
        iomap.type = type ?? IOMAP_MAPPED;
        iomap.flags = mapFlags ?? 0;
        iomap.offset = 0;
        iomap.length = this.device.size;
        iomap.addr = 0;
        iomap.bdev = this.device;
      },
      iomapEnd: (...args) => {
        this.ends++;
        return end?.(...args);
      },
    };
    const blocks = blockFileIo(this.ops, {
      mapBlocks: (wpc, pos, length) => {
        wpc.iomap.clear();
        this.ends++; // writeback has no end
        return this.ops.iomapBegin(this.inode, pos, length, 0, wpc.iomap, new Iomap(), undefined as never);
      },
      ...ioend,
    });
    this.io = {
      ops: this.ops,
      readOps: readOps ?? blocks.readOps,
      writeOps: { ...blocks.writeOps, ...writeOps },
      writebackOps: writebackOps ?? blocks.writebackOps,
    };
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

  /** A begin that fails has no end. */
  #counted(begin: () => MaybePromise<void>): MaybePromise<void> {
    const failed = (error: unknown): never => {
      this.failedBegins++;
      throw error;
    };
    try {
      const answer = begin();
      return isPromise(answer) ? answer.catch(failed) : answer;
    } catch (error) {
      return failed(error);
    }
  }

  /** A whole write call: locks, the gap behind the old end, the write. */
  async fileWrite(pos: number, data: Uint8Array, flags = 0): Promise<number> {
    return await bufferedFileWrite({ pos, flags }, this.inode, new IovIter(data), this.io);
  }

  async zero(pos: number, length: number): Promise<boolean> {
    await this.inode.lock.lock();
    try {
      return await zeroRange(this.inode, pos, length, this.io);
    } finally {
      this.inode.lock.unlock();
    }
  }

  /** The file as memory. */
  view(length: number, offset = 0): MappedView {
    return new MappedView(this.inode, offset, length, this.io);
  }

  async read(pos: number, length: number, flags = 0): Promise<Uint8Array> {
    const into = new Uint8Array(length);
    return into.subarray(0, await bufferedRead({ pos, flags }, this.inode, into));
  }

  /** All cached folios, in order. */
  folios(): Folio[] {
    const { mapping } = this.inode;
    const found: Folio[] = [];
    const end = Number.MAX_SAFE_INTEGER;
    for (let folio = mapping.next(0, end); folio !== undefined; folio = mapping.next(folio.end, end)) found.push(folio);
    return found;
  }

  folioAt(pos: number): Folio {
    const folio = this.inode.mapping.find(pos);
    if (folio === undefined) throw new Error(`byte ${pos} is not cached`);
    return folio;
  }

  /** Asserts what is true of every folio while nothing is going on: invariants 1 to 5, locks, references, the balance of hooks. */
  check(): void {
    const { blockSize, size, mapping } = this.inode;
    for (const folio of this.folios()) {
      const what = `folio [${folio.pos}, ${folio.end})`;
      assert(!folio.isLocked && !folio.isWriteback && folio.refs === 0, `${what} is in use`);
      assert(!hasState(folio) || folio.size > blockSize, `invariant 1: ${what} has one block and a record`);
      assert(!hasState(folio) || allUptodate(folio) === folio.isUptodate, `invariant 3: ${what}`);
      let isAnyDirty = false;
      for (
        let at = nextDirty(folio, 0, folio.size);
        at >= 0 && at < folio.size;
        at = at < folio.size ? nextDirty(folio, at, folio.size) : -1
      ) {
        isAnyDirty = true;
        assert(isBlockUptodate(folio, at), `invariant 4: ${what}: block at ${at} is dirty and not uptodate`);
        assert(folio.isDirty || folio.pos + at >= size, `invariant 5: ${what}: block at ${at} is dirty in a clean folio`);
        at += blockSize;
      }
      assert(!folio.isDirty || isAnyDirty, `${what} is dirty without a dirty block`);
    }
    assert(
      this.begins - this.failedBegins === this.ends,
      `invariant 22: ${this.begins - this.failedBegins} mappings begun, ${this.ends} ended`,
    );
    assert(!this.inode.lock.isLocked && !mapping.invalidateLock.isLocked, 'a lock is held');
  }

  async sync(): Promise<void> {
    await this.inode.mapping.writeAndWait(0, Number.MAX_SAFE_INTEGER);
  }

  async dropCache(): Promise<void> {
    await this.inode.mapping.invalidateRange(0, Number.MAX_SAFE_INTEGER);
  }
}
