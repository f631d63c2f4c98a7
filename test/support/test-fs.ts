import { assert } from '../../src/base/assert.ts';
import type { Clock } from '../../src/base/clock.ts';
import { FsError } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../../src/base/task.ts';
import { Bio, REQ_OP_WRITE } from '../../src/block/bio.ts';
import { type BlockDevice, flushDevice, submitAndWait, writeDevice } from '../../src/block/block-device.ts';
import { blockFileIo } from '../../src/iomap/block-file-io.ts';
import { firstUntouched, releaseDelalloc } from '../../src/iomap/delalloc.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../src/iomap/file-io.ts';
import type { IomapOps, WriteOps, WritepageContext } from '../../src/iomap/hooks.ts';
import { IOEND_SHARED, type Ioend, type IoendOps } from '../../src/iomap/ioend.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_DIRECT,
  IOMAP_F_BOUNDARY,
  IOMAP_F_FOLIO_BATCH,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_FAULT,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_NULL_ADDR,
  IOMAP_OVERWRITE_ONLY,
  IOMAP_REPORT,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
  type Iomap,
} from '../../src/iomap/iomap.ts';
import type { IomapIter } from '../../src/iomap/iter.ts';
import { FGP_NOWAIT } from '../../src/pagecache/address-space.ts';
import { BackingDevice } from '../../src/pagecache/backing-device.ts';
import type { Folio } from '../../src/pagecache/folio.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { Inode, type InodeOptions } from '../../src/vfs/inode.ts';
import { SuperBlock } from '../../src/vfs/super-block.ts';
import { BlockAllocator } from './block-allocator.ts';
import { DELALLOC, type Extent, ExtentMap } from './extent-map.ts';
import { FakeServer } from './fake-server.ts';
import type { SimScheduler } from './scheduler.ts';

/** How a buffered write to a hole gets its blocks. */
export type WriteMode =
  /** Space is reserved; writeback chooses the blocks. */
  | 'delalloc'
  /** Blocks are allocated in begin and reported UNWRITTEN. */
  | 'unwritten'
  /** Blocks are allocated in begin and reported MAPPED and NEW to writers; to everybody else they are unwritten until data is on them. */
  | 'mapped-new';

export interface TestFsOptions {
  bdev: BlockDevice;
  /** Where blocks go, and every choice that the filesystem is free to make. */
  prng?: Prng;
  cache?: PageCache;
  clock?: Clock;
  /** With one, hooks wait for events of it as often as `asyncShare` says. */
  scheduler?: SimScheduler;
  asyncShare?: number;
  /** Bytes: 512 to 65536. Default 4096. */
  blockSize?: number;
  orderMax?: number;
  /** Default: as the device demands. */
  stableWrites?: boolean;
  mode?: WriteMode;
  /** Files up to so many bytes live in a buffer of the inode; at most a block. Default 0: none. */
  inlineMax?: number;
  /** No extent and no mapping is longer, blocks. */
  extentMax?: number;
  /** Zeroing gets the dirty folios over an unwritten range handed out. */
  folioBatch?: boolean;
  /** A transaction for every folio that is written, as files with journaled data need it. */
  journalData?: boolean;
  /** Share of completions whose transaction is committed at once. Default 0.1. */
  commitShare?: number;
  /** Size of the largest file. */
  sizeMax?: number;
}

/** One call on a file, as it passes through the engine to the filesystem (iter.private). */
export interface FileOp {
  /** Called, maybe several times, while the call holds the inode lock. */
  underLock(): void;
}

/** A file as the durable metadata has it. */
export interface DurableFile {
  readonly ino: number;
  readonly size: number;
  readonly extents: readonly Extent[];
  readonly inline: Uint8Array | undefined;
}

/** The filesystem after a power cut: with the device's content at that moment it can be mounted again. */
export interface DurableState {
  readonly files: readonly DurableFile[];
}

/** Filler of freed blocks and of fresh devices. User data in tests stays below: any byte from here on in a file is stale exposure. */
export const GARBAGE = 0xa5;

/** A file of the test filesystem. */
export class TestInode extends Inode {
  readonly fs: TestFs;
  /** Where the file's data is. */
  data = new ExtentMap();
  /** Blocks that will take the place of shared ones, once data is on them. */
  cow = new ExtentMap();
  /** Grows with every change of either fork: the validity cookie. */
  sequence = 1;
  /** The content of a file that is small enough; there are no extents then. */
  inline: Uint8Array | undefined;
  /** Size of the file as the next commit makes it durable. */
  diskSize = 0;
  /** Who has the data of a file that has no blocks here. */
  readonly server: FakeServer | undefined;

  constructor(fs: TestFs, options: InodeOptions, server?: FakeServer) {
    super(fs.sb, options);
    this.fs = fs;
    this.server = server;
    this.diskSize = this.size;
  }

  /** The hooks that the engine has for it. */
  get io(): FileIo {
    return this.server?.io ?? this.fs.io;
  }

  bump(): void {
    this.sequence++;
  }

  /** The size that a block-aligned limit of the file's data has, blocks. */
  get sizeBlocks(): number {
    return Math.ceil(this.size / this.blockSize);
  }
}

/**
 * A filesystem of files without names, on any block device: the exemplary user of the engine, and the one that every test of it runs on.
 * Metadata is in core; what a power cut would leave of it is in `durable`.
 *
 * Invariants:
 * 1. All changes of an extent map happen between two awaits, and every one of them bumps the file's sequence number.
 * 2. A block is in one place: in the data fork or the copy-on-write fork of one file, or in the data forks of several; never free as well.
 * 3. A freed block is handed out again only after a commit has made its being free durable, and nothing in flight touches it.
 * 4. Written extents hold file data on the device. Unwritten ones and reservations read as zeros.
 * 5. The durable metadata refers only to data that was stable before the commit.
 */
export class TestFs {
  readonly bdev: BlockDevice;
  readonly blockSize: number;
  readonly cache: PageCache;
  readonly sb: SuperBlock;
  readonly mode: WriteMode;
  readonly inlineMax: number;
  readonly allocator: BlockAllocator;
  readonly inodes = new Set<TestInode>();
  readonly io: FileIo;
  durable: DurableState = { files: [] };
  /** Successful begins and their ends; folios got and put; folio transactions opened and closed. */
  begun = 0;
  ended = 0;
  foliosGot = 0;
  foliosPut = 0;
  openTransactions = 0;
  /** Requests of its own in flight. */
  background = 0;
  /** Chances: of a write to find no space; of writeback to find none, or to fail when its data is on the device already. */
  readonly faults = { enospc: 0, conversion: 0 };
  readonly #options: TestFsOptions;
  readonly #prng: Prng;
  readonly #extentMax: number;
  readonly #inodeOptions: Omit<InodeOptions, 'ino' | 'size'>;
  #nextIno = 1;
  #commits = 0;
  #durableCommit = 0;
  /** Blocks of which a use ended, while the durable metadata may still have it. */
  #retired: number[] = [];
  /** Durably so, but direct I/O in flight may still touch them. */
  #expired: number[] = [];
  #releasing = new Set<Promise<unknown>>();

  constructor(options: TestFsOptions) {
    const { bdev, blockSize = 4096, mode = 'delalloc', inlineMax = 0, extentMax = 2 ** 20 } = options;
    assert(inlineMax <= blockSize, 'inline data is larger than a block');
    this.#options = options;
    this.#prng = options.prng ?? new Prng(1);
    this.#extentMax = extentMax;
    this.bdev = bdev;
    this.blockSize = blockSize;
    this.mode = mode;
    this.inlineMax = inlineMax;
    this.cache = options.cache ?? new PageCache({ budget: 16 * 2 ** 20, ...(options.clock === undefined ? {} : { clock: options.clock }) });
    this.sb = new SuperBlock(this.cache, new BackingDevice(this.cache), options.sizeMax ?? 2 ** 40);
    this.allocator = new BlockAllocator(Math.floor(bdev.size / blockSize), this.#prng.fork(), extentMax);
    this.io = this.#hooks();
    this.#inodeOptions = {
      blockSize,
      stableWrites: options.stableWrites ?? bdev.stableWrites,
      ops: iomapAddressSpaceOps(this.io),
      ...(options.orderMax === undefined ? {} : { orderMax: options.orderMax }),
    };
  }

  /** A new, empty file. */
  createInode(): TestInode {
    const inode = new TestInode(this, { ...this.#inodeOptions, ino: this.#nextIno++ });
    if (this.inlineMax > 0) inode.inline = new Uint8Array(this.inlineMax);
    this.inodes.add(inode);
    return inode;
  }

  /** A new, empty file whose data is fetched from a server and sent there. */
  createServerInode(): TestInode {
    const server = new FakeServer(this.blockSize, (label) => this.pause(label));
    const ops = iomapAddressSpaceOps(server.io);
    const inode = new TestInode(this, { ...this.#inodeOptions, ino: this.#nextIno++, ops }, server);
    this.inodes.add(inode);
    return inode;
  }

  /** A file of `content` that can only be read, and comes as inline packets of `packetSize` bytes: offsets above 0 included. */
  createPacketInode(content: Uint8Array, packetSize: number): TestInode {
    const ops: IomapOps = {
      iomapBegin: (_inode, pos, _length, flags, map) => {
        if ((flags & (IOMAP_WRITE | IOMAP_ZERO)) !== 0) throw new FsError('EROFS', 'write');
        map.offset = pos - (pos % packetSize);
        map.length = packetSize;
        map.type = IOMAP_INLINE;
        map.inlineData = content.subarray(map.offset, map.offset + packetSize);
        return this.pause('begin');
      },
    };
    const options = { ...this.#inodeOptions, ino: this.#nextIno++, size: content.length, ops: iomapAddressSpaceOps({ ...this.io, ops }) };
    const inode = new TestInode(this, options);
    this.inodes.add(inode);
    return inode;
  }

  /** The files of an earlier life, on a device with the content of the moment at which it ended. Asserts that no block is claimed wrongly. */
  static mount(options: TestFsOptions, state: DurableState): TestFs {
    const fs = new TestFs(options);
    for (const file of state.files) {
      const inode = new TestInode(fs, { ...fs.#inodeOptions, ino: file.ino, size: file.size });
      inode.inline = file.inline?.slice();
      for (const extent of file.extents) {
        inode.data.insert(extent);
        fs.allocator.claim(extent.addr, extent.count);
      }
      fs.inodes.add(inode);
      fs.#nextIno = Math.max(fs.#nextIno, file.ino + 1);
    }
    fs.durable = state;
    return fs;
  }

  inode(ino: number): TestInode {
    for (const inode of this.inodes) if (inode.ino === ino) return inode;
    throw new Error(`no file ${ino}`);
  }

  // ---- Hooks -------------------------------------------------------------------------------------------------------------------

  #hooks(): FileIo {
    const ops: IomapOps = {
      iomapBegin: (inode, pos, length, flags, map, srcmap, iter) =>
        run(this.#begin(inode as TestInode, pos, length, flags, map, srcmap, iter)),
      iomapEnd: (inode, pos, length, written, flags, map) => run(this.#end(inode as TestInode, pos, length, written, flags, map)),
    };
    const ioendOps: IoendOps = {
      mapBlocks: (wpc, pos) => (this.#holds(wpc, pos) ? undefined : run(this.#mapBlocks(wpc, pos))),
      prepareIoend: (ioend) => {
        checkEnd(ioend);
        return this.pause('prepare');
      },
      needsCompletion: (ioend) => this.#needsCompletion(ioend),
      endIoend: (ioend) => run(this.#endIoend(ioend)),
    };
    const io = blockFileIo(ops, ioendOps, (inode, map) => map.validityCookie === (inode as TestInode).sequence);
    if (this.#options.journalData !== true) return io;
    return { ...io, writeOps: { ...io.writeOps, ...this.#folioCallouts() } };
  }

  /** A transaction around every folio that is written: opened before the folio is locked, closed after its unlock. */
  #folioCallouts(): WriteOps {
    return {
      getFolio: (iter, pos, length) => {
        this.openTransactions++;
        const close = (error: unknown): never => {
          this.openTransactions--; // nobody else closes it: there will be no put
          throw error;
        };
        try {
          const got = iter.inode.mapping.getFolio(pos, length, (iter.flags & IOMAP_NOWAIT) !== 0 ? FGP_NOWAIT : 0);
          this.foliosGot++;
          if (!isPromise(got)) return got;
          return got.catch((error) => {
            this.foliosGot--;
            return close(error);
          });
        } catch (error) {
          return close(error);
        }
      },
      putFolio: (_inode, _pos, _copied, folio) => {
        const finish = (): void => {
          folio.unlock(); // the journal took what it needs under the lock
          folio.put();
          this.foliosPut++;
          this.openTransactions--;
        };
        const paused = this.pause('putFolio');
        return isPromise(paused) ? paused.then(finish) : finish();
      },
    };
  }

  /** Waits for an event if the seed says so: where a real filesystem would read its metadata, or wait for a transaction. */
  pause(label: string): MaybePromise<void> {
    const { scheduler, asyncShare = 0.3 } = this.#options;
    if (scheduler !== undefined && this.#prng.chance(asyncShare)) return scheduler.pause(label);
  }

  /** Bumps the sequence number of some file although nothing changed: legal at any await. */
  bumpSomeFile(): void {
    for (const inode of this.inodes) if (this.#prng.chance(0.5)) inode.bump();
  }

  *#begin(inode: TestInode, pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap, iter: IomapIter): Task<void> {
    const nowait = (flags & IOMAP_NOWAIT) !== 0;
    (iter.private as FileOp | undefined)?.underLock();
    if (!nowait) yield* wait(this.pause('begin'));
    const needsBlocks = (flags & (IOMAP_WRITE | IOMAP_ZERO)) !== 0 && pos + length > this.inlineMax;
    if (inode.inline !== undefined && needsBlocks) {
      if (nowait) throw new FsError('EAGAIN', 'write');
      yield* this.unstuff(inode);
    }
    if (inode.inline !== undefined) this.#mapInline(inode, inode.inline, pos, map);
    else if ((flags & IOMAP_WRITE) !== 0 || ((flags & IOMAP_ZERO) !== 0 && this.#isShared(inode, pos))) {
      yield* this.#mapForWrite(inode, pos, length, flags, map, srcmap);
    } else this.#mapAsIs(inode, pos, length, flags, map, iter);
    this.begun++;
    // What was found may be out of date when it arrives: that is what the cookie is for. Reports have no cookie check.
    if (!nowait && (flags & IOMAP_REPORT) === 0) yield* wait(this.pause('begun'));
  }

  #mapInline(inode: TestInode, inline: Uint8Array, pos: number, map: Iomap): void {
    const end = Math.ceil(this.inlineMax / this.blockSize);
    if (pos >= end * this.blockSize) {
      this.#fill(inode, map, IOMAP_HOLE, Math.floor(pos / this.blockSize), this.#extentMax, IOMAP_NULL_ADDR);
      return;
    }
    map.type = IOMAP_INLINE;
    map.offset = 0;
    map.length = end * this.blockSize;
    map.inlineData = inline;
    map.validityCookie = inode.sequence;
  }

  /** What is there, without changing anything: reads, zeroing, reports. */
  #mapAsIs(inode: TestInode, pos: number, length: number, flags: number, map: Iomap, iter: IomapIter): void {
    const block = Math.floor(pos / this.blockSize);
    const extent = inode.data.at(block);
    if (extent === undefined) {
      const next = inode.data.nextStart(block);
      this.#fill(inode, map, IOMAP_HOLE, block, next - block, IOMAP_NULL_ADDR);
    } else if (extent.addr === DELALLOC) this.#fill(inode, map, IOMAP_DELALLOC, block, extent.count, IOMAP_NULL_ADDR);
    else if ((flags & IOMAP_ZERO) !== 0) {
      // A part that is shared is another mapping: zeroing it takes a copy.
      const count = extent.written ? this.#runOf(extent, false) : extent.count;
      this.#fill(inode, map, extent.written ? IOMAP_MAPPED : IOMAP_UNWRITTEN, block, count, extent.addr);
      if (!extent.written && this.#options.folioBatch === true) this.#attachDirtyFolios(inode, pos, pos + length, map, iter);
    } else this.#fill(inode, map, extent.written ? IOMAP_MAPPED : IOMAP_UNWRITTEN, block, extent.count, extent.addr);
  }

  /** Hands the dirty folios of an unwritten mapping out, and cuts the mapping to what was looked at. */
  #attachDirtyFolios(inode: TestInode, pos: number, requestEnd: number, map: Iomap, iter: IomapIter): void {
    const max = this.#prng.between(1, 4);
    let end = Math.min(map.end, Math.ceil(requestEnd / this.blockSize) * this.blockSize);
    for (let folio = inode.mapping.next(pos, end); folio !== undefined; folio = inode.mapping.next(folio.end, end)) {
      if (!folio.isDirty && !folio.isWriteback && !folio.isMapDirty) continue;
      if (iter.fbatch.length === max) {
        end = folio.pos; // the rest comes with the next mapping
        break;
      }
      folio.get();
      iter.fbatch.push(folio);
    }
    map.length = end - map.offset;
    map.flags |= IOMAP_F_FOLIO_BATCH;
  }

  /** Finds, reserves or allocates what a write needs. */
  *#mapForWrite(inode: TestInode, pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap): Task<void> {
    const { blockSize, allocator } = this;
    const block = Math.floor(pos / blockSize);
    const end = Math.ceil((pos + length) / blockSize);
    const isDirect = (flags & IOMAP_DIRECT) !== 0;
    if (this.faults.enospc > 0 && this.#prng.chance(this.faults.enospc)) throw new FsError('ENOSPC', 'write');
    for (;;) {
      const extent = inode.data.at(block);
      const isPlain = extent?.written === true && !allocator.isShared(extent.addr);
      if ((flags & IOMAP_OVERWRITE_ONLY) !== 0 && !isPlain) throw new FsError('EAGAIN', 'write');
      if (extent === undefined) {
        const room = Math.min(end, inode.data.nextStart(block)) - block;
        if ((flags & IOMAP_UNSHARE) !== 0) {
          this.#fill(inode, map, IOMAP_HOLE, block, room, IOMAP_NULL_ADDR);
          return;
        }
        const count = Math.min(room, this.#extentMax, allocator.available);
        if (count === 0) {
          yield* this.#makeSpace(flags);
          continue;
        }
        if (this.mode === 'delalloc' && !isDirect) {
          allocator.reserve(count);
          inode.data.insert({ block, count, addr: DELALLOC, written: false });
          inode.bump();
          this.#fill(inode, map, IOMAP_DELALLOC, block, count, IOMAP_NULL_ADDR);
          map.flags |= IOMAP_F_NEW;
          return;
        }
        const found = allocator.allocate(count);
        inode.data.insert({ block, count: found.count, addr: found.addr, written: false });
        inode.bump();
        this.#fillUnwritten(inode, map, block, found.count, found.addr, true);
      } else if (extent.addr === DELALLOC) {
        if (isDirect) {
          this.#convertDelalloc(inode, inode.data, extent, end - block);
          continue;
        }
        this.#fill(inode, map, IOMAP_DELALLOC, block, extent.count, IOMAP_NULL_ADDR);
      } else if (!extent.written) this.#fillUnwritten(inode, map, block, extent.count, extent.addr, false);
      else if (isPlain) this.#fill(inode, map, IOMAP_MAPPED, block, this.#runOf(extent, false), extent.addr);
      else if (!(yield* this.#mapCopy(inode, extent, pos, length, flags, map, srcmap))) continue;
      return;
    }
  }

  #fillUnwritten(inode: TestInode, map: Iomap, block: number, count: number, addr: number, isNew: boolean): void {
    if (this.mode === 'mapped-new') {
      this.#fill(inode, map, IOMAP_MAPPED, block, count, addr);
      map.flags |= IOMAP_F_NEW;
    } else {
      this.#fill(inode, map, IOMAP_UNWRITTEN, block, count, addr);
      if (isNew) map.flags |= IOMAP_F_NEW;
    }
  }

  /** A write to shared blocks goes to blocks of its own, with the old ones as the source. False if it has to be looked at again. */
  *#mapCopy(inode: TestInode, shared: Extent, pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap): Task<boolean> {
    const { blockSize, allocator } = this;
    const { block } = shared;
    const isDirect = (flags & IOMAP_DIRECT) !== 0;
    // Sub-block direct writes would have to copy the rest of the block: they go through the cache.
    if (isDirect && (pos % blockSize !== 0 || length % blockSize !== 0)) throw new FsError('ENOTBLK', 'write');
    const run = this.#runOf(shared, true);
    let copy = inode.cow.at(block);
    let isNew = false;
    if (copy === undefined) {
      const end = Math.ceil((pos + length) / blockSize);
      const room = Math.min(end, inode.cow.nextStart(block)) - block;
      const count = Math.min(room, run, this.#extentMax, allocator.available);
      if (count === 0) {
        yield* this.#makeSpace(flags);
        return false;
      }
      if (this.mode === 'delalloc' && !isDirect) {
        allocator.reserve(count);
        copy = { block, count, addr: DELALLOC, written: false };
      } else {
        const found = allocator.allocate(count);
        copy = { block, count: found.count, addr: found.addr, written: false };
      }
      inode.cow.insert(copy);
      inode.bump();
      isNew = true;
    } else if (copy.addr === DELALLOC && isDirect) {
      this.#convertDelalloc(inode, inode.cow, copy, copy.count);
      return false;
    }
    this.#fill(inode, srcmap, IOMAP_MAPPED, block, run, shared.addr);
    const count = Math.min(copy.count, run);
    if (copy.addr === DELALLOC) this.#fill(inode, map, IOMAP_DELALLOC, block, count, IOMAP_NULL_ADDR);
    else this.#fill(inode, map, isDirect ? IOMAP_MAPPED : IOMAP_UNWRITTEN, block, count, copy.addr);
    map.flags |= IOMAP_F_SHARED | (isNew && !isDirect ? IOMAP_F_NEW : 0);
    map.private = 'copy';
    return true;
  }

  /** `count` blocks from `block` on, cut to what one mapping may be. */
  #fill(inode: TestInode, map: Iomap, type: Iomap['type'], block: number, count: number, addr: number): void {
    map.type = type;
    map.offset = block * this.blockSize;
    map.length = Math.min(count, this.#extentMax) * this.blockSize;
    map.addr = addr === IOMAP_NULL_ADDR ? IOMAP_NULL_ADDR : addr * this.blockSize;
    map.bdev = addr === IOMAP_NULL_ADDR ? undefined : this.bdev;
    map.validityCookie = inode.sequence;
  }

  #isShared(inode: TestInode, pos: number): boolean {
    const extent = inode.data.at(Math.floor(pos / this.blockSize));
    return extent?.written === true && this.allocator.isShared(extent.addr);
  }

  /** Blocks from the start of the extent on that are all shared, or all not. */
  #runOf(extent: Extent, shared: boolean): number {
    let count = 1;
    while (count < extent.count && this.allocator.isShared(extent.addr + count) === shared) count++;
    return count;
  }

  /** Releases what a short write reserved and did not use. */
  *#end(inode: TestInode, pos: number, _length: number, written: number, flags: number, map: Iomap): Task<void> {
    this.ended++;
    if ((flags & IOMAP_NOWAIT) === 0) yield* wait(this.pause('end'));
    if (map.type === IOMAP_INLINE) inode.diskSize = inode.size;
    if (map.type !== IOMAP_DELALLOC || (map.flags & IOMAP_F_NEW) === 0) return;
    if ((flags & IOMAP_FAULT) !== 0) return; // a fault uses all that it reserves, and holds the lock shared
    const start = firstUntouched(pos, written, this.blockSize);
    const { end, private: fork } = map;
    if (start >= end) return;
    const isLocked = (flags & (IOMAP_UNSHARE | IOMAP_ZERO)) !== 0; // by the caller of the operation
    const { invalidateLock } = inode.mapping;
    if (!isLocked) yield* wait(invalidateLock.lock());
    try {
      yield* wait(
        releaseDelalloc(inode, start, end, (from, to) => {
          this.#unreserve(inode, fork === 'copy' ? inode.cow : inode.data, from, to);
        }),
      );
    } finally {
      if (!isLocked) invalidateLock.unlock();
    }
  }

  /** Takes the reservations, and only those, out of a byte range. */
  #unreserve(inode: TestInode, fork: ExtentMap, from: number, to: number): void {
    const parts = fork.slice(Math.floor(from / this.blockSize), Math.ceil(to / this.blockSize));
    for (const { block, count, addr } of parts) if (addr === DELALLOC) this.#freeAll(fork.remove(block, block + count));
    if (parts.length > 0) inode.bump();
  }

  // ---- Writeback ---------------------------------------------------------------------------------------------------------------

  #holds(wpc: WritepageContext, pos: number): boolean {
    const { iomap } = wpc;
    return iomap.length > 0 && iomap.covers(pos) && iomap.validityCookie === (wpc.inode as TestInode).sequence;
  }

  *#mapBlocks(wpc: WritepageContext, pos: number): Task<void> {
    const inode = wpc.inode as TestInode;
    const { iomap } = wpc;
    iomap.clear();
    yield* wait(this.pause('mapBlocks'));
    const block = Math.floor(pos / this.blockSize);
    for (;;) {
      const copy = inode.cow.at(block);
      const extent = copy ?? inode.data.at(block);
      if (extent === undefined) {
        const next = Math.min(inode.data.nextStart(block), inode.cow.nextStart(block));
        this.#fill(inode, iomap, IOMAP_HOLE, block, next - block, IOMAP_NULL_ADDR);
        return;
      }
      if (extent.addr === DELALLOC) {
        if (this.faults.conversion > 0 && this.#prng.chance(this.faults.conversion)) this.#failDelalloc(inode, pos);
        this.#convertDelalloc(inode, copy === undefined ? inode.data : inode.cow, extent, extent.count);
        continue;
      }
      if (copy === undefined && extent.written && this.allocator.isShared(extent.addr)) {
        // Dirty over shared blocks without a copy to go to: its copy was given up after a failed write.
        if (this.allocator.available === 0) throw new FsError('ENOSPC', 'fsync');
        const found = this.allocator.allocate(Math.min(this.#runOf(extent, true), this.allocator.available));
        inode.cow.insert({ block, count: found.count, addr: found.addr, written: false });
        inode.bump();
        continue;
      }
      // A range that was shared and is not any more must not run into one that has a copy.
      const count = copy === undefined ? Math.min(extent.count, inode.cow.nextStart(block) - block) : extent.count;
      const isUnwritten = !extent.written && copy === undefined && this.mode !== 'mapped-new';
      const run = extent.written ? this.#runOf({ ...extent, count }, false) : count;
      this.#fill(inode, iomap, isUnwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED, block, run, extent.addr);
      if (copy !== undefined) iomap.flags |= IOMAP_F_SHARED;
      if (this.#prng.chance(0.05)) iomap.flags |= IOMAP_F_BOUNDARY;
      return;
    }
  }

  /** No blocks after all: the folio will be clean, so its reservations go too. */
  #failDelalloc(inode: TestInode, pos: number): never {
    const end = (inode.mapping.find(pos) as Folio).end;
    this.#unreserve(inode, inode.data, pos, end);
    this.#unreserve(inode, inode.cow, pos, end);
    throw new FsError('ENOSPC', 'fsync');
  }

  /** Turns the start of a reservation into blocks: they are unwritten, so that a crash shows zeros. */
  #convertDelalloc(inode: TestInode, fork: ExtentMap, extent: Extent, want: number): void {
    const { addr, count } = this.allocator.allocate(Math.min(extent.count, want));
    this.allocator.unreserve(count);
    fork.remove(extent.block, extent.block + count);
    fork.insert({ block: extent.block, count, addr, written: false });
    inode.bump();
  }

  #needsCompletion(ioend: Ioend): boolean {
    const inode = ioend.inode as TestInode;
    if (ioend.end > inode.diskSize) return true;
    return this.mode === 'mapped-new' && inode.data.slice(...this.#blocksOf(ioend.offset, ioend.length)).some(({ written }) => !written);
  }

  *#endIoend(ioend: Ioend): Task<void> {
    const inode = ioend.inode as TestInode;
    yield* wait(this.pause('endIoend'));
    yield* this.#completeWrite(inode, ioend.offset, ioend.length, ioend.end, ioend.error, (ioend.flags & IOEND_SHARED) !== 0);
  }

  /**
   * Data of [pos, pos + length), whole blocks, is stable, or was lost. Copies go into the file, unwritten blocks become written, the size
   * on disk goes up to `end`: in this order, between two awaits.
   */
  *#completeWrite(inode: TestInode, pos: number, length: number, end: number, error: number, isCopy: boolean): Task<void> {
    const [first, last] = this.#blocksOf(pos, length);
    const isConversionLost = error === 0 && this.faults.conversion > 0 && this.#prng.chance(this.faults.conversion);
    if (error < 0 || isConversionLost) {
      if (isCopy) {
        for (const { block, count, addr } of inode.cow.slice(first, last)) {
          if (addr !== DELALLOC) this.#freeAll(inode.cow.remove(block, block + count));
        }
        inode.bump();
      }
      if (isConversionLost) throw new FsError('EIO', 'fsync');
      return;
    }
    if (isCopy) {
      for (const copy of inode.cow.slice(first, last)) {
        assert(copy.addr !== DELALLOC, 'a copy was written to a reservation');
        inode.cow.remove(copy.block, copy.block + copy.count);
        this.#freeAll(inode.data.remove(copy.block, copy.block + copy.count));
        inode.data.insert({ ...copy, written: true });
      }
    }
    for (const extent of inode.data.slice(first, last)) {
      assert(extent.addr !== DELALLOC, 'data was written to a reservation');
      if (extent.written) continue;
      inode.data.remove(extent.block, extent.block + extent.count);
      inode.data.insert({ ...extent, written: true });
    }
    inode.diskSize = Math.max(inode.diskSize, Math.min(end, inode.size));
    inode.bump();
    if (this.#prng.chance(this.#options.commitShare ?? 0.1)) yield* this.commit();
  }

  /** The end of a direct write: as that of a written range. Raises i_size last. */
  *endDirectWrite(inode: TestInode, pos: number, length: number, error: number, isCopy: boolean): Task<void> {
    yield* wait(this.pause('endDirect'));
    if (error < 0) return; // blocks stay as they are: unwritten, or a copy that nobody sees
    const end = pos + length;
    const [first, last] = this.#blocksOf(pos, length);
    if (end > inode.size) inode.size = end;
    if (inode.inline !== undefined || inode.server !== undefined) inode.diskSize = inode.size;
    else yield* this.#completeWrite(inode, first * this.blockSize, (last - first) * this.blockSize, end, 0, isCopy);
  }

  #blocksOf(pos: number, length: number): [number, number] {
    return [Math.floor(pos / this.blockSize), Math.ceil((pos + length) / this.blockSize)];
  }

  // ---- Space and commits -------------------------------------------------------------------------------------------------------

  /** Gives extents back: reservations at once, blocks with the next commit. */
  #freeAll(extents: readonly Extent[]): void {
    for (const { addr, count } of extents) {
      if (addr === DELALLOC) {
        this.allocator.unreserve(count);
        continue;
      }
      this.allocator.retire(addr, count);
      for (let block = addr; block < addr + count; block++) this.#retired.push(block);
    }
  }

  /** Waits for freed blocks to become usable. Errors: ENOSPC if there are none, EAGAIN for those who may not wait. */
  *#makeSpace(flags: number): Task<void> {
    if ((flags & IOMAP_NOWAIT) !== 0) throw new FsError('EAGAIN', 'write');
    const before = this.allocator.available;
    if (this.#retired.length > 0 || this.#expired.length > 0) yield* this.commit();
    while (this.allocator.available <= before && this.#releasing.size > 0) yield Promise.race(this.#releasing);
    if (this.allocator.available === 0) throw new FsError('ENOSPC', 'write');
  }

  /** Makes what the metadata says now durable, after the data that it refers to. */
  *commit(): Task<void> {
    const state = this.#capture();
    const retired = this.#retired;
    this.#retired = [];
    const number = ++this.#commits;
    try {
      yield* wait(flushDevice(this.bdev));
    } catch (error) {
      this.#retired.push(...retired);
      throw error;
    }
    if (number > this.#durableCommit) {
      this.#durableCommit = number;
      this.durable = state;
    }
    this.#expired.push(...retired);
    this.#release();
  }

  #capture(): DurableState {
    const files: DurableFile[] = [];
    for (const inode of this.inodes) {
      if (inode.server !== undefined) continue;
      const extents = inode.data.all.filter(({ addr }) => addr !== DELALLOC);
      files.push({ ino: inode.ino, size: inode.diskSize, extents, inline: inode.inline?.slice() });
    }
    return { files };
  }

  /** Overwrites freed blocks with garbage, so that whoever still reads them shows it, and hands them out again. */
  #release(): void {
    for (const inode of this.inodes) if (inode.dioCount > 0) return;
    const blocks: number[] = [];
    for (const block of this.#expired.sort((a, b) => a - b)) {
      if (this.allocator.isShared(block)) this.allocator.release(block);
      else blocks.push(block);
    }
    this.#expired = [];
    for (let at = 0; at < blocks.length; ) {
      const first = blocks[at] as number;
      let count = 1;
      while (blocks[at + count] === first + count && (count + 1) * this.blockSize <= Math.min(this.bdev.bioSizeMax, 65536)) count++;
      at += count;
      const done = (): void => {
        for (let block = first; block < first + count; block++) this.allocator.release(block);
      };
      const bio = new Bio(REQ_OP_WRITE, first * this.blockSize, 0, () => {});
      bio.add(new Uint8Array(count * this.blockSize).fill(GARBAGE));
      const status = submitAndWait(this.bdev, bio);
      if (!isPromise(status)) {
        done();
        continue;
      }
      this.background++;
      const released = status.then(() => {
        this.background--;
        this.#releasing.delete(released);
        done();
      });
      this.#releasing.add(released);
    }
  }

  // ---- What the file operations are made of. The caller holds the inode lock exclusively. ----------------------------------------

  /** Moves inline data to a block. */
  *unstuff(inode: TestInode): Task<void> {
    const { inline } = inode;
    if (inline === undefined) return;
    if (inode.size > 0) {
      while (this.allocator.available === 0) yield* this.#makeSpace(0);
      const { addr } = this.allocator.allocate(1);
      const block = new Uint8Array(this.blockSize);
      block.set(inline.subarray(0, inode.size));
      try {
        yield* wait(writeDevice(this.bdev, addr * this.blockSize, block));
      } catch (error) {
        this.#freeAll([{ block: 0, count: 1, addr, written: true }]);
        throw error;
      }
      // A read that has the buffer mapped holds the folio that it fills; the next one finds the block.
      const folio = yield* wait(inode.mapping.lockFolio(0));
      inode.data.insert({ block: 0, count: 1, addr, written: true });
      inode.inline = undefined;
      folio?.unlock();
      folio?.put();
    }
    inode.inline = undefined;
    inode.diskSize = inode.size;
    inode.bump();
  }

  /** Frees the whole blocks in [start, end). Nothing of the range is cached. */
  removeBlocks(inode: TestInode, start: number, end: number): void {
    const first = Math.ceil(start / this.blockSize);
    const last = end === Number.POSITIVE_INFINITY ? end : Math.floor(end / this.blockSize);
    if (first < last) {
      this.#freeAll(inode.data.remove(first, last));
      this.#freeAll(inode.cow.remove(first, last));
      inode.server?.content.zero(first * this.blockSize, (last - first) * this.blockSize);
    }
    inode.bump();
  }

  /** Makes `size` the size that the next commit makes durable, and frees what lies past it. */
  setSize(inode: TestInode, size: number): void {
    this.removeBlocks(inode, size, Number.POSITIVE_INFINITY);
    inode.inline?.fill(0, size);
    inode.server?.content.truncate(size);
    inode.diskSize = size;
    inode.bump();
  }

  /** Blocks for the holes of [pos, pos + length), unwritten. */
  *preallocate(inode: TestInode, pos: number, length: number): Task<void> {
    if (inode.server !== undefined) return;
    yield* this.unstuff(inode);
    const [first, last] = this.#blocksOf(pos, length);
    for (let block = first; block < last; ) {
      const extent = inode.data.at(block);
      if (extent !== undefined) {
        block += extent.count;
        continue;
      }
      const room = Math.min(last, inode.data.nextStart(block)) - block;
      if (this.allocator.available === 0) {
        yield* this.#makeSpace(0);
        continue;
      }
      const { addr, count } = this.allocator.allocate(Math.min(room, this.allocator.available));
      inode.data.insert({ block, count, addr, written: false });
      inode.bump();
      block += count;
    }
  }

  /** Makes a range of `to` share the blocks of `from`, all in bytes. Nothing of either range is dirty, nothing of `to` cached. */
  shareBlocks(from: TestInode, fromPos: number, to: TestInode, toPos: number, length: number): void {
    const count = length / this.blockSize;
    const first = fromPos / this.blockSize;
    const shift = toPos / this.blockSize - first;
    this.#freeAll(to.data.remove(first + shift, first + shift + count));
    this.#freeAll(to.cow.remove(first + shift, first + shift + count));
    for (const extent of from.data.slice(first, first + count)) {
      if (!extent.written) continue; // zeros: a hole does
      this.allocator.share(extent.addr, extent.count);
      to.data.insert({ ...extent, block: extent.block + shift });
    }
    from.bump();
    to.bump();
  }

  /** Waits for all that the filesystem itself has in flight. */
  async settle(): Promise<void> {
    await this.sb.work.drain();
    while (this.#releasing.size > 0) await Promise.all(this.#releasing);
  }
}

/** Invariants 35 and 36: nothing behind the end of the file goes to the device but zeros, and none of it counts as data. */
function checkEnd({ inode, offset, size, length, end, vec }: Ioend): void {
  // A truncate lowers the size first and then waits for writeback.
  assert(
    end <= inode.size || inode.lock.isExclusive,
    `invariant 36: [${offset}, ${end}) of a file of ${inode.size} bytes is written as data`,
  );
  if (size === length || !inode.mapping.stableWrites) return;
  const last = vec[vec.length - 1] as Uint8Array;
  const padding = last.subarray(last.length - (length - size));
  assert(
    padding.every((byte) => byte === 0),
    `invariant 35: bytes from ${end} on, behind the end of the file, are written and not zero`,
  );
}
