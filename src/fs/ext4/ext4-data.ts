import { assert } from '../../base/assert.ts';
import { FsError, hasCode } from '../../base/fs-error.ts';
import { RangeSet } from '../../base/range-set.ts';
import { roundDown, roundUp } from '../../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../../base/task.ts';
import { blockFileIo } from '../../iomap/block-file-io.ts';
import { firstUntouched, releaseDelalloc } from '../../iomap/delalloc.ts';
import type { DirectFileIo } from '../../iomap/direct-file.ts';
import type { DirectOps } from '../../iomap/direct-io.ts';
import { IOMAP_DIO_UNWRITTEN } from '../../iomap/direct-io.ts';
import { evictInode } from '../../iomap/evict.ts';
import type { FallocateOps } from '../../iomap/fallocate.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../iomap/file-io.ts';
import type { IomapOps, WritepageContext } from '../../iomap/hooks.ts';
import { IOEND_UNWRITTEN, type Ioend } from '../../iomap/ioend.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_DIRECT,
  IOMAP_F_DIRTY,
  IOMAP_F_MERGED,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_OVERWRITE_ONLY,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
  Iomap,
} from '../../iomap/iomap.ts';
import { zeroRange } from '../../iomap/zero-range.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { AddressSpace, AddressSpaceOps } from '../../pagecache/address-space.ts';
import { PAGE_SIZE } from '../../pagecache/page-memory.ts';
import { Inode } from '../../vfs/inode.ts';
import type { SuperBlock } from '../../vfs/super-block.ts';
import { type BlockRun, goalOf } from './block-alloc.ts';
import { convertBlocks, insertBlocks, mapBlocks, removeBlocks, shiftExtents } from './block-map.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { RO_COMPAT_LARGE_FILE } from './features.ts';
import { EXT_MAX_BLOCKS, EXT_UNWRITTEN_MAX_LEN } from './format.ts';
import { clearInline, inlineCapacity, readInline, writeInline } from './inline-data.ts';
import { modifyInode, sizeMaxOf } from './inode-table.ts';
import { isJournalled, journalledFileIo } from './journalled-data.ts';
import { addOrphan, isOrphan, removeOrphan } from './orphan.ts';
import { modifySuperblock } from './superblock.ts';
import { atOnce, CREDITS, look, update } from './update.ts';

/** Blocks that one delayed or direct allocation takes at most. */
const RUN_MAX = 32768;
/** A 32-bit block number's end: what block pointers reach. */
const POINTER_END = 2 ** 32;
/** Files from here on are said by a feature bit. */
const LARGE_FILE = 2 ** 31;

/** Blocks that data is on its way to: file blocks from `lblk` on, `count` blocks of the volume from `start` on. */
interface HeldRun {
  readonly lblk: number;
  readonly start: number;
  readonly count: number;
}

/** The engine's inode of a regular file: its size and its cache, above the blocks of an Ext4Inode. */
export class Ext4File extends Inode {
  readonly owner: Ext4Inode;
  /** File blocks that are promised space: data is in the cache only, or on its way to a held run. */
  readonly delayed = new RangeSet();
  /** Sorted by lblk, disjoint; all in `delayed`. */
  held: HeldRun[] = [];
  /** With bigalloc: first blocks of the clusters that are held for this file, and in no bitmap yet. Runs may share one. */
  readonly heldClusters = new Set<number>();
  /** Moves with every change of where bytes live. */
  sequence = 0;
  /** Who wrote last may have what is kept for root. */
  isRoots = false;

  constructor(sb: SuperBlock, owner: Ext4Inode, ops: AddressSpaceOps) {
    const { ino, size } = owner;
    super(sb, { ino, size, blockSize: owner.sb.blockSize, sizeMax: sizeMaxOf(owner), ops });
    this.owner = owner;
  }
}

/** How data is moved: straight to its blocks, or through the log. */
interface Ways {
  readonly io: FileIo;
  readonly fallocateOps: FallocateOps;
  readonly cache: AddressSpaceOps;
}

/**
 * File data of a volume through the iomap engine.
 *
 *     mapped, unwritten   extents and block pointers on the device
 *     delayed             a promise of space: what is in the cache will find room
 *     held                blocks chosen in core, data on its way there; nothing on the device knows of them
 *
 * New data goes to held blocks first. When it is there, one handle puts the blocks into the bitmap and the file and raises its size; the
 * flush of the commit comes before what makes them reachable. So no crash shows old bytes in new blocks, and nothing leaks (data=ordered).
 *
 * Invariants:
 * 1. es.dirtyClusters counts the clusters of all `delayed` ranges, and the blocks of pointers that they may need.
 * 2. Every dirty block of the cache inside i_size is mapped, unwritten or delayed.
 * 3. owner.size <= i_size, and all bytes below owner.size are on the device or in a hole.
 */
export class Ext4Data {
  readonly #plain: Ways;
  readonly #journalled: Ways;
  readonly #sb: Ext4Sb;
  readonly #superBlock: SuperBlock;
  readonly #addressSpaceOps: AddressSpaceOps;
  readonly #ops: IomapOps;

  constructor(sb: Ext4Sb, superBlock: SuperBlock) {
    this.#sb = sb;
    this.#superBlock = superBlock;
    this.#ops = {
      iomapBegin: (inode, pos, length, flags, map) => this.#begin(inode as Ext4File, pos, length, flags, map),
      iomapEnd: (inode, pos, _length, written, flags, map) => this.#end(inode as Ext4File, pos, written, flags, map),
    };
    const isValid = (inode: Inode, map: Iomap): boolean => map.validityCookie === (inode as Ext4File).sequence;
    const plain = blockFileIo(
      this.#ops,
      {
        mapBlocks: (wpc, pos) => this.#mapForWriteback(wpc, pos),
        needsCompletion: (ioend) => this.#needsCompletion(ioend),
        endIoend: (ioend) => {
          const isUnwritten = (ioend.flags & IOEND_UNWRITTEN) !== 0;
          return run(this.#completed(ioend.inode as Ext4File, ioend.offset, ioend.end, ioend.error, isUnwritten));
        },
      },
      isValid,
    );
    const journalled = journalledFileIo(sb, this.#ops, isValid, {
      place: (h, file, lblk) => this.#placeOne(h, file, lblk),
      grow: (h, file, size) => grow(h, file.owner, size),
      placed: (file, first, end) => this.#settle(file, first, end),
    });
    this.#plain = this.#waysOf(plain);
    this.#journalled = this.#waysOf(journalled);
    const pick = (mapping: AddressSpace): AddressSpaceOps => this.#ways((mapping.host as Ext4File).owner).cache;
    this.#addressSpaceOps = {
      ...this.#plain.cache,
      readFolio: (mapping, folio) => pick(mapping).readFolio?.(mapping, folio),
      readahead: (control) => pick(control.mapping).readahead?.(control),
      writepages: (mapping, wbc) => pick(mapping).writepages?.(mapping, wbc),
    };
  }

  #waysOf(io: FileIo): Ways {
    const fallocateOps: FallocateOps = {
      io,
      durableSize: (inode) => (inode as Ext4File).owner.size,
      setSize: (inode, size) => run(this.#setSize(inode as Ext4File, size)),
      freeBlocks: (inode, start, end) => run(this.#freeBlocks(inode as Ext4File, start, end)),
      allocateUnwritten: (inode, start, end) => run(this.#allocateUnwritten(inode as Ext4File, start, end)),
      convertToUnwritten: (inode, start, end) => run(this.#convertToUnwritten(inode as Ext4File, start, end)),
      shiftExtents: (inode, from, to) => run(this.#shift(inode as Ext4File, from, to)),
    };
    return { io, fallocateOps, cache: iomapAddressSpaceOps(io) };
  }

  #ways(owner: Ext4Inode): Ways {
    return isJournalled(owner) ? this.#journalled : this.#plain;
  }

  /** The hooks for a file's data as it is kept now. */
  ioOf(owner: Ext4Inode): FileIo {
    return this.#ways(owner).io;
  }

  fallocateOpsOf(owner: Ext4Inode): FallocateOps {
    return this.#ways(owner).fallocateOps;
  }

  /** The engine's inode of a regular file, made at first use. */
  open(owner: Ext4Inode): Ext4File {
    owner.file ??= new Ext4File(this.#superBlock, owner, this.#addressSpaceOps);
    return owner.file;
  }

  /** Ends the engine's inode; its data is on the device then, or dropped if the file is deleted. */
  close(owner: Ext4Inode, isDeleted: boolean): MaybePromise<void> {
    const { file } = owner;
    if (file === undefined) return;
    return evictInode(file, {
      isDeleted,
      release: () => {
        this.#forgetDelayed(file, 0, Number.POSITIVE_INFINITY);
        owner.file = undefined;
      },
    });
  }

  /** What direct I/O takes beside the mappings. `endOf`: where the data of a write that ends in padding really ends. */
  directIo(file: Ext4File, endOf?: number): DirectFileIo {
    const dops: DirectOps = {
      endIo: (_iocb, inode, pos, size, errno, flags) => {
        const end = Math.min(pos + size, endOf ?? Number.POSITIVE_INFINITY);
        return run(this.#writtenDirect(inode as Ext4File, pos, end, errno, (flags & IOMAP_DIO_UNWRITTEN) !== 0));
      },
    };
    return { ops: this.#ops, dops, zeroGap: (start, end) => run(this.#zeroGap(file, start, end)) };
  }

  /** What the last block holds behind the end of the file becomes zeros; the rest of the gap is a hole. */
  *#zeroGap(file: Ext4File, start: number, end: number): Task<void> {
    const stop = Math.min(end, roundUp(start, file.blockSize));
    if (start === stop) return;
    yield* wait(zeroRange(file, start, stop - start, this.ioOf(file.owner)));
    yield* wait(file.mapping.writeAndWait(start, stop));
  }

  /** Does zeroing what is allocated of [pos, end), as a new size does, wait for nothing: neither for memory nor for a write? */
  zeroesAtOnce(file: Ext4File, pos: number, end: number): boolean {
    const { mapping, blockSize } = file;
    if (pos >= end) return true;
    if (pos % blockSize !== 0 && mapping.find(pos) === undefined) {
      const bytes = Math.max(PAGE_SIZE, blockSize);
      mapping.cache.shrink(bytes);
      if (mapping.cache.memory.free < bytes) return false;
    }
    // New data over unwritten blocks is written first.
    const { owner } = file;
    if (owner.hasInlineData || !owner.hasExtents || !mapping.needsWriteback(pos, end)) return true;
    const hasUnwritten = run(this.#hasUnwritten(file, pos, Math.min(end, file.sizeMax)));
    if (!isPromise(hasUnwritten)) return !hasUnwritten;
    hasUnwritten.catch(() => {});
    return false;
  }

  *#hasUnwritten(file: Ext4File, pos: number, end: number): Task<boolean> {
    const map = new Iomap();
    for (let at = pos; at < end; at = map.end) {
      map.clear();
      yield* look(this.#sb, () => this.#map(file, at, map));
      if (map.type === IOMAP_UNWRITTEN) return true;
    }
    return false;
  }

  // Mappings.

  #begin(file: Ext4File, pos: number, length: number, flags: number, map: Iomap): MaybePromise<void> {
    const nowait = (flags & IOMAP_NOWAIT) !== 0;
    const task = this.#beginTask(file, pos, length, flags, map);
    return nowait ? atOnce(this.#sb, 'read', task) : run(task);
  }

  *#beginTask(file: Ext4File, pos: number, length: number, flags: number, map: Iomap): Task<void> {
    const { owner } = file;
    const isWrite = (flags & (IOMAP_WRITE | IOMAP_UNSHARE)) === IOMAP_WRITE;
    if (owner.hasInlineData) {
      const changes = isWrite || (flags & IOMAP_ZERO) !== 0;
      const fits = (flags & IOMAP_DIRECT) === 0 && pos + length <= inlineCapacity(owner);
      if (!changes || fits) {
        this.#mapInline(file, pos, changes, map);
        return;
      }
      if ((flags & (IOMAP_OVERWRITE_ONLY | IOMAP_NOWAIT)) !== 0) throw new FsError('EAGAIN', 'write');
      yield* this.#leaveInline(file);
    }
    const body = (): Task<void> => {
      map.clear();
      // A hole is still one when it is filled: all in one look.
      return look(this.#sb, () => this.#mapFor(file, pos, length, isWrite ? flags : 0, map));
    };
    yield* isWrite ? this.#withRoom(body) : body();
  }

  /** The mapping around `pos`; for a write a hole gets a promise of space, or blocks. */
  *#mapFor(file: Ext4File, pos: number, length: number, flags: number, map: Iomap): Task<void> {
    yield* this.#map(file, pos, map);
    if ((flags & IOMAP_WRITE) === 0) return;
    const isDirect = (flags & IOMAP_DIRECT) !== 0;
    if (map.type === IOMAP_DELALLOC && isDirect) throw new FsError('ENOTBLK', 'write'); // somebody dirtied it meanwhile
    if (map.type !== IOMAP_HOLE || (flags & IOMAP_ZERO) !== 0) return;
    if ((flags & IOMAP_OVERWRITE_ONLY) !== 0) throw new FsError('EAGAIN', 'write');
    const { blockSize } = file;
    const first = Math.floor(pos / blockSize);
    const end = Math.min(Math.ceil((pos + length) / blockSize), Math.ceil(map.end / blockSize), first + RUN_MAX);
    if (isDirect && isJournalled(file.owner)) throw new FsError('ENOTBLK', 'write');
    if (isDirect) yield* this.#holdDirect(file, first, end, map);
    else this.#delay(file, first, end, map);
  }

  /** The whole extent, hole or delayed range around `pos`. */
  *#map(file: Ext4File, pos: number, map: Iomap): Task<void> {
    const { blockSize, owner } = file;
    const first = Math.floor(pos / blockSize);
    map.validityCookie = file.sequence;
    if (first >= EXT_MAX_BLOCKS) {
      // The page around the end of the largest file reaches past what a map has numbers for.
      map.type = IOMAP_HOLE;
      map.offset = first * blockSize;
      map.length = blockSize;
      return;
    }
    const found = yield* mapBlocks(owner, first);
    map.bdev = this.#sb.bdev;
    if (found.pblk !== 0) {
      map.type = found.isUnwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED;
      map.offset = found.lblk * blockSize;
      map.length = found.count * blockSize;
      map.addr = found.pblk * blockSize;
      if (!owner.hasExtents) map.flags |= IOMAP_F_MERGED; // each block has a pointer of its own
      if (owner.datasyncTid > 0 && !this.#sb.log.isCommitted(owner.datasyncTid)) map.flags |= IOMAP_F_DIRTY;
      return;
    }
    // A hole of the device, which the cache may have plans for.
    const holeEnd = found.lblk + found.count;
    const end = Math.min(holeEnd, file.delayed.runEnd(first));
    map.type = file.delayed.has(first) ? IOMAP_DELALLOC : IOMAP_HOLE;
    map.offset = first * blockSize;
    map.length = (end - first) * blockSize;
    map.bdev = map.type === IOMAP_HOLE ? undefined : this.#sb.bdev;
  }

  /** For a change all that fits into the inode; otherwise what is stored there, and a hole behind it. */
  #mapInline(file: Ext4File, pos: number, changes: boolean, map: Iomap): void {
    const { owner } = file;
    let stored = readInline(owner);
    map.validityCookie = file.sequence;
    if (!changes && file.size > stored.length) {
      // The kernel leaves files that are longer than what is stored: zeros follow, and holes begin with blocks.
      const padded = new Uint8Array(roundUp(Math.max(stored.length, 1), file.blockSize));
      padded.set(stored);
      stored = padded;
    }
    if (!changes && pos >= stored.length) {
      map.type = IOMAP_HOLE;
      map.offset = stored.length;
      map.length = file.sizeMax - stored.length;
      return;
    }
    const data = changes ? new Uint8Array(inlineCapacity(owner)) : stored;
    if (changes) data.set(stored.subarray(0, data.length));
    map.type = IOMAP_INLINE;
    map.offset = 0;
    map.length = data.length;
    map.inlineData = data;
  }

  /** Promises space to a range of the cache. */
  #delay(file: Ext4File, first: number, end: number, map: Iomap): void {
    const stop = this.#promise(file, first, end);
    assert(stop > first, 'a promise of nothing');
    map.type = IOMAP_DELALLOC;
    map.flags |= IOMAP_F_NEW;
    map.offset = first * file.blockSize;
    map.length = (stop - first) * file.blockSize;
    map.bdev = this.#sb.bdev;
    map.validityCookie = file.sequence;
  }

  /** Promises as much of [first, end) as there is space for, and one block at least. Returns the end of it. Errors: ENOSPC. */
  #promise(file: Ext4File, first: number, end: number): number {
    const { allocator, clusterRatio, es } = this.#sb;
    const room = allocator.available(file.isRoots);
    // Whole clusters: a cluster that is promised or in use already counts again, and that is given back with the rest.
    const clusters = Math.min(Math.ceil(end / clusterRatio) - Math.floor(first / clusterRatio), room);
    if (clusters <= 0) throw new FsError('ENOSPC', 'write');
    let stop = Math.min(end, (Math.floor(first / clusterRatio) + clusters) * clusterRatio);
    for (;;) {
      const before = es.dirtyClusters;
      this.#addDelayed(file, first, stop);
      const excess = es.dirtyClusters - before - room;
      if (file.owner.hasExtents || excess <= 0) return stop;
      // Blocks of pointers need space, too.
      this.#forgetDelayed(file, first, stop);
      stop -= excess;
      if (stop <= first) throw new FsError('ENOSPC', 'write');
    }
  }

  #addDelayed(file: Ext4File, first: number, end: number): void {
    const before = promisedTo(file, first, end);
    file.delayed.add(first, end);
    const after = promisedTo(file, first, end);
    this.#sb.es.dirtyClusters += after - before;
  }

  /** Takes promises back. */
  #forgetDelayed(file: Ext4File, first: number, end: number): void {
    if (file.delayed.isEmpty) return;
    this.#letGo(file, first, end);
    const before = promisedTo(file, first, end);
    file.delayed.delete(first, end);
    const after = promisedTo(file, first, end);
    this.#sb.allocator.withdraw(before - after);
  }

  /** The place of file block `lblk`, if another block of the file is in its cluster already, or on its way there (bigalloc). */
  *#impliedBlock(file: Ext4File, lblk: number): Task<number> {
    const { owner } = file;
    const { clusterRatio } = this.#sb;
    if (clusterRatio === 1) return 0;
    const start = lblk - (lblk % clusterRatio);
    const held = file.held.find((run) => run.lblk < start + clusterRatio && run.lblk + run.count > start);
    if (held !== undefined) return held.start + (lblk - held.lblk);
    for (let at = start; at < start + clusterRatio; ) {
      const found = yield* mapBlocks(owner, at);
      if (found.pblk !== 0) return found.pblk + (at - found.lblk) - (at - start) + (lblk - start);
      at = found.lblk + found.count;
    }
    return 0;
  }

  /** Runs `body`, which holds no lock of the log; again where only what is freed and not yet durable keeps it from finding blocks. */
  *#withRoom<T>(body: () => Task<T>): Task<T> {
    const { allocator, log } = this.#sb;
    try {
      return yield* body();
    } catch (error) {
      if (!hasCode(error, 'ENOSPC') || allocator.leaving === 0) throw error;
    }
    yield* wait(log.commit());
    return yield* body();
  }

  /** Chooses blocks for [first, hole), a hole of the device, unless `first` has one: as many as come in one run. The range is delayed. */
  *#hold(file: Ext4File, first: number, hole: number): Task<HeldRun> {
    for (;;) {
      const known = file.held.find(({ lblk, count }) => first >= lblk && first < lblk + count);
      const held = known ?? (yield* this.#tryHold(file, first, hole));
      if (held !== undefined) return held;
    }
  }

  /** Undefined where another has chosen blocks for the file meanwhile: what was found does not fit them, it may be. */
  *#tryHold(file: Ext4File, first: number, hole: number): Task<HeldRun | undefined> {
    const { owner, sequence } = file;
    const { allocator, clusterRatio } = this.#sb;
    const end = Math.min(hole, file.held.find(({ lblk }) => lblk > first)?.lblk ?? hole);
    const implied = yield* this.#impliedBlock(file, first);
    if (file.sequence !== sequence) return undefined;
    let run: HeldRun;
    if (implied !== 0) {
      const stop = Math.min(end, first - (first % clusterRatio) + clusterRatio);
      run = { lblk: first, start: implied, count: stop - first };
    } else {
      const skew = first % clusterRatio;
      // The last cluster may have its place because of blocks behind the range.
      const last = roundDown(end, clusterRatio);
      const stop = last > first && last < end && (yield* this.#impliedBlock(file, last)) !== 0 ? last : end;
      const goal = yield* this.#goal(owner, first);
      const wanted = { goal, count: stop - first + skew, useReserved: true };
      const found = yield* allocator.hold(owner.hasExtents ? wanted : { ...wanted, end: POINTER_END });
      if (file.sequence !== sequence) {
        allocator.letGo(found);
        return undefined;
      }
      run = { lblk: first, start: found.start + skew, count: Math.min(stop - first, found.count - skew) };
      if (clusterRatio > 1) for (let at = 0; at < found.count; at += clusterRatio) file.heldClusters.add(found.start + at);
    }
    const at = file.held.findIndex(({ lblk }) => lblk > first);
    file.held.splice(at < 0 ? file.held.length : at, 0, run);
    file.sequence++;
    return run;
  }

  /** Right behind what the file has before this block, or near its inode. */
  *#goal(owner: Ext4Inode, lblk: number): Task<number> {
    const { file } = owner;
    const before = file?.held.findLast((run) => run.lblk + run.count <= lblk);
    if (before !== undefined && before.lblk + before.count === lblk) return before.start + before.count;
    if (lblk > 0) {
      const found = yield* mapBlocks(owner, lblk - 1);
      if (found.pblk !== 0) return found.pblk + (lblk - found.lblk);
    }
    return goalOf(owner);
  }

  *#holdDirect(file: Ext4File, first: number, end: number, map: Iomap): Task<void> {
    const stop = this.#promise(file, first, end);
    let run: HeldRun | undefined;
    try {
      run = yield* this.#hold(file, first, stop);
    } finally {
      if (run === undefined) this.#forgetDelayed(file, first, stop);
    }
    const heldEnd = run.lblk + run.count;
    if (heldEnd < stop) this.#forgetDelayed(file, heldEnd, stop);
    map.flags |= IOMAP_F_NEW | IOMAP_F_DIRTY;
    this.#mapHeld(file, run, map);
  }

  /** Blocks that data is on its way to are as good as mapped, to who sends it. */
  #mapHeld({ blockSize, sequence }: Ext4File, { lblk, start, count }: HeldRun, map: Iomap): void {
    map.type = IOMAP_MAPPED;
    map.offset = lblk * blockSize;
    map.length = count * blockSize;
    map.addr = start * blockSize;
    map.bdev = this.#sb.bdev;
    map.validityCookie = sequence;
  }

  #end(file: Ext4File, pos: number, written: number, flags: number, map: Iomap): MaybePromise<void> {
    if (map.type === IOMAP_INLINE) {
      if ((flags & (IOMAP_WRITE | IOMAP_ZERO)) === 0 || written === 0) return;
      return run(this.#storeInline(file, map.inlineData as Uint8Array));
    }
    if ((map.flags & IOMAP_F_NEW) === 0 || (flags & IOMAP_DIRECT) !== 0) return;
    const untouched = firstUntouched(pos, written, file.blockSize);
    if (untouched >= map.end) return;
    if ((flags & IOMAP_NOWAIT) !== 0) {
      // Nobody had a turn since the hole was promised space, so nothing else can be dirty there, and no folio has to be waited for.
      this.#forgetDelayed(file, untouched / file.blockSize, Math.ceil(map.end / file.blockSize));
      return;
    }
    return run(this.#releaseDelayed(file, untouched, map.end));
  }

  /** Takes back what a write was promised and did not use. */
  *#releaseDelayed(file: Ext4File, start: number, end: number): Task<void> {
    const { blockSize, mapping } = file;
    yield* wait(mapping.invalidateLock.lock());
    try {
      yield* wait(releaseDelalloc(file, start, end, (from, to) => this.#forgetDelayed(file, from / blockSize, to / blockSize)));
    } finally {
      mapping.invalidateLock.unlock();
    }
  }

  // Writeback.

  #mapForWriteback(wpc: WritepageContext, pos: number): MaybePromise<void> {
    const file = wpc.inode as Ext4File;
    const map = wpc.iomap;
    if (map.covers(pos) && map.validityCookie === file.sequence) return;
    const sb = this.#sb;
    const body = (): Task<void> => {
      map.clear();
      return look(sb, () => this.#mapToWrite(file, pos, map));
    };
    return run(this.#withRoom(body));
  }

  *#mapToWrite(file: Ext4File, pos: number, map: Iomap): Task<void> {
    const { blockSize } = file;
    const first = Math.floor(pos / blockSize);
    yield* this.#map(file, pos, map);
    if (map.type !== IOMAP_DELALLOC) return;
    // Only what is dirty now is sent; the rest of the range will find its run, or another, when it is.
    const run = yield* this.#hold(file, first, Math.min(Math.floor(map.end / blockSize), first + RUN_MAX));
    this.#mapHeld(file, run, map);
  }

  #needsCompletion(ioend: Ioend): boolean {
    const file = ioend.inode as Ext4File;
    return ioend.end > file.owner.size || file.held.length > 0;
  }

  /** Data of [pos, end) has reached the device, or not. */
  *#completed(file: Ext4File, pos: number, end: number, errno: number, isUnwritten: boolean): Task<void> {
    // The file may have been cut below it meanwhile: whoever cuts it waits for this.
    yield* this.#written(file, pos, Math.min(end, file.size), errno, isUnwritten, roundUp(end, file.blockSize));
  }

  /** A write past the cache has reached the device, or not: only now the file is so large. */
  *#writtenDirect(file: Ext4File, pos: number, end: number, errno: number, isUnwritten: boolean): Task<void> {
    yield* this.#written(file, pos, end, errno, isUnwritten);
    if (errno === 0 && end > pos) file.size = Math.max(file.size, end);
  }

  /**
   * Makes [pos, end) part of the file: blocks that were held for it, conversion of unwritten ones, the size. `dataEnd`: of the blocks, where
   * the data ends in padding.
   */
  *#written(
    file: Ext4File,
    pos: number,
    end: number,
    errno: number,
    isUnwritten: boolean,
    dataEnd: number = roundUp(end, file.blockSize),
  ): Task<void> {
    const { owner, blockSize } = file;
    const sb = this.#sb;
    const first = Math.floor(pos / blockSize);
    const stop = Math.ceil(dataEnd / blockSize);
    const runs = file.held.filter(({ lblk, count }) => lblk < stop && lblk + count > first);
    if (errno < 0) {
      if (runs.length > 0) this.#forgetDelayed(file, first, Math.max(stop, ...runs.map(({ lblk, count }) => lblk + count)));
      return;
    }
    if (runs.length === 0 && !isUnwritten && end <= owner.size) return;
    try {
      yield* update(sb, 'write', CREDITS + runs.length * 16, function* (h): Task<void> {
        yield* modifyInode(h, owner);
        sb.allocator.redeeming = runs.length === 0 ? 0 : promisedTo(file, first, stop);
        try {
          for (const run of runs) {
            const from = Math.max(first, run.lblk);
            const to = Math.min(stop, run.lblk + run.count);
            yield* enter(h, owner, from, run.start + (from - run.lblk), to - from);
          }
        } finally {
          sb.allocator.redeeming = 0;
        }
        if (isUnwritten) yield* convert(h, owner, first, stop);
        if (end > owner.size) yield* grow(h, owner, end);
      });
    } catch (error) {
      // The blocks were never part of the file: what is in them is lost.
      if (runs.length > 0) this.#forgetDelayed(file, first, stop);
      throw error;
    }
    file.sequence++;
    if (runs.length > 0) this.#settle(file, first, stop);
  }

  /** What was promised to [first, end) is in the bitmap now. */
  #settle(file: Ext4File, first: number, end: number): void {
    this.#unhold(file, first, end);
    const { allocator } = this.#sb;
    const before = promisedTo(file, first, end);
    file.delayed.delete(first, end);
    allocator.withdraw(before - promisedTo(file, first, end));
  }

  /** Gives one promised block its place in a handle. */
  *#placeOne(h: Handle, file: Ext4File, lblk: number): Task<number> {
    const { start } = yield* this.#hold(file, lblk, lblk + 1);
    h.onRollback(() => this.#letGo(file, lblk, lblk + 1));
    yield* enter(h, file.owner, lblk, start, 1);
    return start;
  }

  /** What is held of [first, end) is in use now. */
  #unhold(file: Ext4File, first: number, end: number): void {
    const { clusterRatio } = this.#sb;
    if (clusterRatio > 1) for (const cluster of clustersHeld(file, first, end, clusterRatio)) file.heldClusters.delete(cluster);
    file.held = file.held.flatMap((run) => cut(run, first, end));
  }

  /** What is held of [first, end) goes back. */
  #letGo(file: Ext4File, first: number, end: number): void {
    const { clusterRatio, allocator } = this.#sb;
    if (file.held.length === 0) return;
    const clusters = clusterRatio > 1 ? clustersHeld(file, first, end, clusterRatio) : undefined;
    for (const { lblk, start, count } of clusters === undefined ? file.held : []) {
      const from = Math.max(first, lblk);
      const to = Math.min(end, lblk + count);
      if (from < to) allocator.letGo({ start: start + (from - lblk), count: to - from });
    }
    file.held = file.held.flatMap((run) => cut(run, first, end));
    if (clusters !== undefined) {
      const kept = clustersHeld(file, 0, Number.POSITIVE_INFINITY, clusterRatio);
      for (const start of clusters) {
        if (!kept.has(start) && file.heldClusters.delete(start)) allocator.letGo({ start, count: clusterRatio });
      }
    }
    file.sequence++;
  }

  // Inline data.

  *#storeInline(file: Ext4File, data: Uint8Array): Task<void> {
    const { owner } = file;
    yield* update(this.#sb, 'write', CREDITS, function* (h): Task<void> {
      yield* modifyInode(h, owner);
      const size = Math.max(owner.size, Math.min(file.size, data.length));
      const content = data.slice(0, size);
      // An attribute may have taken the room since it was mapped.
      if (!(yield* writeInline(h, owner, content))) yield* leaveInline(h, owner, content);
      owner.size = size;
    });
    file.sequence++;
  }

  /** Moves inline data to a block, so that the file can have others. */
  *#leaveInline(file: Ext4File): Task<void> {
    yield* update(this.#sb, 'write', CREDITS, (h) => leaveInline(h, file.owner, readInline(file.owner)));
    file.sequence++;
  }

  // Changing which blocks a file has.

  *#setSize(file: Ext4File, size: number): Task<void> {
    const { owner, blockSize } = file;
    const sb = this.#sb;
    const first = Math.ceil(size / blockSize);
    this.#forgetDelayed(file, first, Number.POSITIVE_INFINITY);
    yield* this.#settleCluster(file, first);
    if (owner.hasInlineData && size > inlineCapacity(owner)) yield* this.#leaveInline(file);
    if (size > owner.size || owner.hasInlineData) {
      yield* update(sb, 'truncate', CREDITS, function* (h): Task<void> {
        yield* modifyInode(h, owner);
        if (owner.hasInlineData) {
          const data = new Uint8Array(size);
          data.set(readInline(owner).subarray(0, size));
          if (!(yield* writeInline(h, owner, data))) yield* leaveInline(h, owner, data);
          owner.size = size;
          return;
        }
        owner.size = size;
        yield* noteLargeFile(h, sb, size);
      });
      // Blocks past the end (fallocate) go with every change of size.
    }
    if (!owner.hasInlineData) yield* truncateBlocks(owner, size);
    file.sequence++;
  }

  /**
   * Gets the data of the cluster around the border before file block `lblk` to where it belongs: the cluster is about to lose blocks, and
   * goes with the last that the map knows of.
   */
  *#settleCluster(file: Ext4File, lblk: number): Task<void> {
    const { clusterRatio, blockSize } = this.#sb;
    if (lblk % clusterRatio === 0 || file.delayed.isEmpty) return;
    const start = lblk - (lblk % clusterRatio);
    yield* wait(file.mapping.writeAndWait(start * blockSize, (start + clusterRatio) * blockSize));
  }

  *#freeBlocks(file: Ext4File, start: number, end: number): Task<void> {
    const { owner, blockSize } = file;
    const first = start / blockSize;
    this.#forgetDelayed(file, first, end / blockSize);
    yield* this.#settleCluster(file, first);
    yield* this.#settleCluster(file, end / blockSize);
    if (owner.hasInlineData) yield* this.#leaveInline(file);
    let stop = Math.min(end / blockSize, EXT_MAX_BLOCKS);
    yield* update(this.#sb, 'fallocate', CREDITS, function* (h): Task<void> {
      yield* modifyInode(h, owner);
      while (stop > first) {
        stop = yield* removeBlocks(h, owner, first, stop);
        if (stop <= first) return;
        yield* wait(h.restart(CREDITS));
        yield* modifyInode(h, owner);
      }
    });
    file.sequence++;
  }

  *#allocateUnwritten(file: Ext4File, start: number, end: number): Task<void> {
    const { owner, blockSize } = file;
    if (owner.hasInlineData) yield* this.#leaveInline(file);
    if (!owner.hasExtents) throw new FsError('EOPNOTSUPP', 'fallocate', { detail: 'a file of block pointers has no unwritten blocks' });
    // What is only promised gets its place first, so that the range is either mapped or a hole.
    yield* wait(file.mapping.writeAndWait(start, end));
    const last = end / blockSize;
    let at = start / blockSize;
    if (last > EXT_MAX_BLOCKS) throw new FsError('EFBIG', 'fallocate');
    const allocate = (first: number, stop: number): Task<number> => this.#allocateRun(file, first, stop);
    while (at < last) {
      const from = at;
      const found = yield* look(this.#sb, () => mapBlocks(owner, from));
      const stop = Math.min(last, found.lblk + found.count);
      at = found.pblk !== 0 ? stop : yield* allocate(from, stop);
    }
    file.sequence++;
  }

  /** Gives a hole one run of unwritten blocks. Returns the end of it. */
  *#allocateRun(file: Ext4File, first: number, stop: number): Task<number> {
    const sb = this.#sb;
    const end = this.#promise(file, first, Math.min(stop, first + EXT_UNWRITTEN_MAX_LEN));
    try {
      const run = yield* this.#withRoom(() => look(sb, () => this.#hold(file, first, end)));
      const { owner } = file;
      yield* update(sb, 'fallocate', CREDITS, function* (h): Task<void> {
        yield* modifyInode(h, owner);
        yield* enter(h, owner, first, run.start, run.count, true);
      });
      this.#unhold(file, first, first + run.count);
      return first + run.count;
    } finally {
      this.#forgetDelayed(file, first, end);
    }
  }

  *#convertToUnwritten(file: Ext4File, start: number, end: number): Task<void> {
    const { owner, blockSize } = file;
    if (owner.hasInlineData) yield* this.#leaveInline(file);
    if (!owner.hasExtents) throw new FsError('EOPNOTSUPP', 'fallocate', { detail: 'a file of block pointers has no unwritten blocks' });
    const last = end / blockSize;
    for (let at = start / blockSize; at < last; ) {
      const from = at;
      at = yield* update(this.#sb, 'fallocate', CREDITS, function* (h): Task<number> {
        yield* modifyInode(h, owner);
        const found = yield* mapBlocks(owner, from);
        const stop = Math.min(last, found.lblk + found.count);
        if (found.pblk !== 0 && !found.isUnwritten) {
          yield* convertBlocks(h, owner, from, stop - from, true);
          owner.isMapChanged = true;
        }
        return stop;
      });
    }
    file.sequence++;
  }

  *#shift(file: Ext4File, from: number, to: number): Task<void> {
    const { owner, blockSize } = file;
    if (!owner.hasExtents) throw new FsError('EOPNOTSUPP', 'fallocate', { detail: 'a file of block pointers' });
    if (this.#sb.clusterRatio > 1 && ((from / blockSize) % this.#sb.clusterRatio !== 0 || (to / blockSize) % this.#sb.clusterRatio !== 0)) {
      throw new FsError('EINVAL', 'fallocate', { detail: 'the range is not whole clusters' });
    }
    yield* update(this.#sb, 'fallocate', CREDITS, function* (h): Task<void> {
      yield* modifyInode(h, owner);
      let rest = yield* shiftExtents(h, owner, from / blockSize, to / blockSize);
      while (rest !== undefined) {
        yield* wait(h.restart(CREDITS));
        rest = yield* shiftExtents(h, owner, rest.from, rest.to, rest.end);
      }
    });
    file.sequence++;
  }
}

/** Clusters promised to what is delayed of [first, end); for a file of block pointers those of all its delayed ranges, and of their pointers. */
function promisedTo(file: Ext4File, first: number, end: number): number {
  const { delayed, owner } = file;
  if (owner.hasExtents || owner.hasInlineData) return clustersOf(delayed, first, end, owner.sb.clusterRatio);
  return delayed.size + pointerBlocksOf(delayed, owner.sb.blockSize / 4);
}

/** Blocks of pointers to the file blocks of `set`, if none of them are there yet. `fanout`: pointers in a block. */
function pointerBlocksOf(set: RangeSet, fanout: number): number {
  const single = 12;
  const double = single + fanout;
  const triple = double + fanout ** 2;
  // First file block of each tree, and what one of its blocks spans, for each of its levels.
  const levels = [
    [single, double, fanout],
    [double, triple, fanout ** 2],
    [double, triple, fanout],
    [triple, Number.POSITIVE_INFINITY, fanout ** 3],
    [triple, Number.POSITIVE_INFINITY, fanout ** 2],
    [triple, Number.POSITIVE_INFINITY, fanout],
  ] as const;
  let blocks = 0;
  for (const [from, to, span] of levels) {
    let next = 0;
    for (const range of set.ranges()) {
      const start = Math.max(range.start, from) - from;
      const end = Math.min(range.end, to) - from;
      if (start >= end) continue;
      const begin = Math.max(next, Math.floor(start / span));
      const stop = Math.ceil(end / span);
      if (stop > begin) blocks += stop - begin;
      next = Math.max(next, stop);
    }
  }
  return blocks;
}

/** Clusters that the ranges of `set` within the clusters of [first, end) touch. */
function clustersOf(set: RangeSet, first: number, end: number, ratio: number): number {
  if (ratio === 1 && set.isEmpty) return 0;
  let clusters = 0;
  let last = -1;
  const from = Math.floor(first / ratio);
  const to = end === Number.POSITIVE_INFINITY ? end : Math.ceil(end / ratio);
  for (const range of set.ranges()) {
    if (range.start >= to * ratio) break;
    const begin = Math.max(from, Math.floor(range.start / ratio), last + 1);
    const stop = Math.min(to, Math.ceil(range.end / ratio));
    if (stop <= begin) continue;
    clusters += stop - begin;
    last = stop - 1;
  }
  return clusters;
}

/** First blocks of the clusters that the held runs within [first, end) are in. Source: clusters begin at multiples of their size. */
function clustersHeld(file: Ext4File, first: number, end: number, ratio: number): Set<number> {
  const clusters = new Set<number>();
  for (const { lblk, start, count } of file.held) {
    const from = start + (Math.max(first, lblk) - lblk);
    const to = start + (Math.min(end, lblk + count) - lblk);
    for (let at = roundDown(from, ratio); at < to; at += ratio) clusters.add(at);
  }
  return clusters;
}

/** What is left of a run without [first, end). */
function cut(run: HeldRun, first: number, end: number): HeldRun[] {
  const { lblk, start, count } = run;
  const stop = lblk + count;
  if (end <= lblk || first >= stop) return [run];
  const parts: HeldRun[] = [];
  if (lblk < first) parts.push({ lblk, start, count: first - lblk });
  if (end < stop) parts.push({ lblk: end, start: start + (end - lblk), count: stop - end });
  return parts;
}

/** Puts a held run into the bitmap and the file. */
function* enter(h: Handle, owner: Ext4Inode, lblk: number, start: number, count: number, isUnwritten = false): Task<void> {
  yield* claimNew(h, owner, { start, count });
  yield* insertBlocks(h, owner, lblk, start, count, isUnwritten);
}

/** Marks the clusters of a run that are not the file's already. */
function* claimNew(h: Handle, owner: Ext4Inode, { start, count }: BlockRun): Task<void> {
  const { allocator, clusterRatio } = owner.sb;
  if (clusterRatio === 1) {
    yield* allocator.claim(h, owner, { start, count });
    return;
  }
  const first = roundDown(start, clusterRatio);
  const end = roundUp(start + count, clusterRatio);
  for (let at = first; at < end; at += clusterRatio) {
    if (!(yield* allocator.isInUse(at))) yield* allocator.claim(h, owner, { start: at, count: clusterRatio });
  }
}

/** Makes the unwritten blocks of [first, end) written. */
function* convert(h: Handle, owner: Ext4Inode, first: number, end: number): Task<void> {
  for (let at = first; at < end; ) {
    const found = yield* mapBlocks(owner, at);
    const stop = Math.min(end, found.lblk + found.count);
    if (found.pblk !== 0 && found.isUnwritten) {
      yield* convertBlocks(h, owner, at, stop - at, false);
      owner.isMapChanged = true;
    }
    at = stop;
  }
}

/** Raises the size on the device. */
function* grow(h: Handle, owner: Ext4Inode, size: number): Task<void> {
  yield* modifyInode(h, owner);
  owner.size = size;
  yield* noteLargeFile(h, owner.sb, size);
}

/** From 2 GiB on a file is large, and the superblock says that there is one. */
export function* noteLargeFile(h: Handle, sb: Ext4Sb, size: number): Task<void> {
  if (size < LARGE_FILE || sb.es.hasRoCompat(RO_COMPAT_LARGE_FILE)) return;
  yield* modifySuperblock(h, sb);
  sb.es.fields.s_feature_ro_compat |= RO_COMPAT_LARGE_FILE;
}

/** Moves the inline content of a file to a block of its own. The data goes to the device at once: it is there before the commit. */
export function* leaveInline(h: Handle, owner: Ext4Inode, data: Uint8Array): Task<void> {
  const { sb } = owner;
  yield* modifyInode(h, owner);
  yield* clearInline(h, owner);
  owner.isMapChanged = true;
  if (data.length === 0) return;
  const { blockSize, allocator } = sb;
  const room = allocator.available(true);
  if (room < 1) throw new FsError('ENOSPC', 'write');
  const held = yield* allocator.hold({ goal: goalOf(owner), count: 1 });
  h.onRollback(() => allocator.letGo(held));
  yield* allocator.claim(h, owner, held);
  yield* insertBlocks(h, owner, 0, held.start, Math.min(held.count, 1), false);
  const block = new Uint8Array(blockSize);
  block.set(data);
  yield* wait(sb.writeData(held.start, block));
}

/**
 * Frees the blocks behind `size`, and makes that the size, in as many handles as it takes: on the list of orphans meanwhile, so that a crash
 * finishes it.
 */
export function* truncateBlocks(owner: Ext4Inode, size: number): Task<void> {
  const { sb } = owner;
  const first = Math.ceil(size / sb.blockSize);
  if (owner.size === size && owner.blocks === 0) return;
  yield* update(sb, 'truncate', CREDITS, function* (h): Task<void> {
    yield* modifyInode(h, owner);
    owner.size = size;
    let stop: number = owner.hasExtents ? EXT_MAX_BLOCKS : Math.ceil(sizeMaxOf(owner) / sb.blockSize);
    if (owner.blocks === 0) return;
    let wasOrphan = isOrphan(owner);
    const isListed = wasOrphan;
    for (;;) {
      const left = yield* removeBlocks(h, owner, first, stop);
      owner.isMapChanged = true;
      if (left <= first) break;
      assert(left <= stop, 'removing blocks goes down');
      stop = left;
      if (!wasOrphan) yield* addOrphan(h, owner);
      wasOrphan = true;
      yield* wait(h.restart(CREDITS));
      yield* modifyInode(h, owner);
    }
    if (wasOrphan && !isListed) yield* removeOrphan(h, owner);
  });
}
