import { assert } from '../../base/assert.ts';
import { Fifo } from '../../base/fifo.ts';
import { log2Floor, roundDown, roundUp } from '../../base/ranges.ts';
import { type MaybePromise, then } from '../../base/task.ts';
import { finishFolioRead } from '../../iomap/buffered-read.ts';
import { firstUntouched } from '../../iomap/delalloc.ts';
import { evictInode } from '../../iomap/evict.ts';
import type { FallocateOps } from '../../iomap/fallocate.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../iomap/file-io.ts';
import { IOMAP_F_NEW, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_UNSHARE, IOMAP_UNWRITTEN, IOMAP_WRITE, type Iomap } from '../../iomap/iomap.ts';
import { finishFolioWrite } from '../../iomap/writeback.ts';
import type { AddressSpaceOps } from '../../pagecache/address-space.ts';
import type { Folio } from '../../pagecache/folio.ts';
import { ORDER_MAX, PAGE_SIZE, PageMemory } from '../../pagecache/page-memory.ts';
import { Inode } from '../../vfs/inode.ts';
import type { SuperBlock } from '../../vfs/super-block.ts';
import { HOLE, RESERVED } from './block-map.ts';
import { BLOCK_SIZE, type MemInode } from './mem-inode.ts';
import type { Quota } from './quota.ts';

/** Memory that blocks may take in all: places are 31-bit numbers. */
const MEMORY_MAX = 2 ** 42;
/** Blocks freed before whole slabs go back to the host. */
const TRIM_BLOCKS = 4096;
/** Files that stay in core when nobody has them open any more: those closed last. */
const RESTING_MAX = 256;
/** Others too of which more is cached, bytes: less is copied from the blocks as fast as it is asked for. */
const CACHED_MIN = 64 * 1024;

/** The engine's inode of a regular file: its size and its cache, above the blocks that the MemInode owns. */
export class FileInode extends Inode {
  readonly owner: MemInode;
  /** Waits in BlockStore's line of files that nobody has open. */
  isResting = false;

  constructor(sb: SuperBlock, owner: MemInode, ops: AddressSpaceOps, orderMax: number) {
    const { ino, size } = owner.attr;
    // What is dropped behind a writer would come back from memory: RWF_DONTCACHE has nothing to offer here.
    super(sb, { ino, size, blockSize: BLOCK_SIZE, ops, orderMax, allowsDontcache: false });
    this.owner = owner;
  }
}

/**
 * The storage below the page cache, blocks in memory, and the hooks that tell the engine about it.
 *
 *     stored     MAPPED, without a device: the hooks copy between folio and block
 *     reserved   UNWRITTEN: counted, so that writeback finds room, but no memory yet
 *     nothing    HOLE
 *
 * A write reserves before a byte is copied: that is where ENOSPC and EDQUOT come from. Every hook answers at once, so the engine does
 * too, as long as writers are not held up for dirty data: before the cache would do that, a write puts it into blocks itself.
 *
 * Invariants:
 * 1. Every dirty block of the cache is stored or reserved, but for zeros that a truncate left in a hole: writeback skips those.
 * 2. blockCount, and the quota of the owner, count what is stored and what is reserved.
 * 3. A file that nobody has open and that is in core is in `#resting`, or has much in the cache, or is deleted.
 */
export class BlockStore {
  readonly io: FileIo;
  readonly fallocateOps: FallocateOps;
  readonly #sb: SuperBlock;
  readonly #quota: Quota;
  readonly #memory = new PageMemory(MEMORY_MAX);
  readonly #addressSpaceOps: AddressSpaceOps;
  /** Order of the largest folio, and blocks of the longest mapping for a write: so little that it never fills the cache's dirty limit. */
  readonly #orderMax: number;
  readonly #resting = new Fifo<FileInode>();
  #freedBlocks = 0;

  constructor(sb: SuperBlock, quota: Quota) {
    this.#sb = sb;
    this.#quota = quota;
    this.#orderMax = Math.min(ORDER_MAX, log2Floor(Math.max(1, sb.cache.memory.budget / 32 / PAGE_SIZE)));
    this.io = {
      ops: {
        iomapBegin: (inode, pos, length, flags, map) => {
          const { owner } = inode as FileInode;
          const isWrite = (flags & (IOMAP_WRITE | IOMAP_UNSHARE)) === IOMAP_WRITE;
          if (!isWrite) this.#map(owner, pos, length, map);
          else return then(this.#makeRoom(), () => this.#mapForWrite(owner, pos, length, map));
        },
        iomapEnd: (inode, pos, _length, written, _flags, map) => {
          if ((map.flags & IOMAP_F_NEW) !== 0) this.#free((inode as FileInode).owner, firstUntouched(pos, written, BLOCK_SIZE), map.end);
        },
      },
      readOps: {
        readFolioRange: (iter, ctx, length) => {
          const folio = ctx.curFolio as Folio;
          this.#fetch((iter.inode as FileInode).owner, folio, iter.pos, length);
          finishFolioRead(folio, iter.pos - folio.pos, length, 0);
        },
      },
      writeOps: {
        iomapValid: (inode, map) => map.validityCookie === (inode as FileInode).owner.blocks.sequence,
        readFolioRange: (iter, folio, pos, length) => this.#fetch((iter.inode as FileInode).owner, folio, pos, length),
      },
      writebackOps: {
        writebackRange: (wpc, folio, pos, length) => {
          const { owner } = wpc.inode as FileInode;
          this.#map(owner, pos, length, wpc.iomap);
          const handled = wpc.iomap.length;
          if (wpc.iomap.type !== IOMAP_HOLE) {
            this.#store(owner, folio, pos, handled);
            finishFolioWrite(wpc.inode, folio, handled);
          }
          return handled;
        },
        writebackSubmit: () => {}, // nothing is ever batched
      },
    };
    this.fallocateOps = {
      io: this.io,
      setSize: (inode, size) => this.#free((inode as FileInode).owner, roundUp(size, BLOCK_SIZE), Number.POSITIVE_INFINITY),
      freeBlocks: (inode, start, end) => this.#free((inode as FileInode).owner, start, end),
      allocateUnwritten: (inode, start, end) => this.#reserve((inode as FileInode).owner, start, end),
      shiftExtents: (inode, from, to) => (inode as FileInode).owner.blocks.shift(from / BLOCK_SIZE, to / BLOCK_SIZE),
    };
    this.#addressSpaceOps = iomapAddressSpaceOps(this.io);
  }

  /** The engine's inode of a regular file, made at first use. */
  open(owner: MemInode): FileInode {
    owner.file ??= new FileInode(this.#sb, owner, this.#addressSpaceOps, this.#orderMax);
    return owner.file;
  }

  /** Nobody has the file open any more, but somebody may again: its inode makes way only when many others came after it. */
  rest(owner: MemInode): void {
    const { file } = owner;
    if (file === undefined || file.isResting) return;
    file.isResting = true;
    this.#resting.push(file);
    if (this.#resting.length <= RESTING_MAX) return;
    const oldest = this.#resting.shift() as FileInode;
    oldest.isResting = false;
    // One that is open again comes back here, and one that was deleted has ended.
    const isIdle = oldest.owner.opens === 0 && oldest.owner.file === oldest;
    if (isIdle && oldest.mapping.cachedBytes < CACHED_MIN) void this.close(oldest.owner, false);
  }

  /** Ends the engine's inode, if there is one; the data is in blocks then, or gone if the file is. */
  close(owner: MemInode, isDeleted: boolean): MaybePromise<void> {
    const { file } = owner;
    if (file !== undefined) return evictInode(file, { isDeleted, release: isDeleted ? this.#releaseDeleted : this.#release });
    if (isDeleted) this.#freeAll(owner);
  }

  readonly #release = (inode: Inode): void => {
    const { owner, size } = inode as FileInode;
    owner.attr.size = size;
    owner.file = undefined;
  };

  readonly #releaseDeleted = (inode: Inode): void => {
    this.#release(inode);
    this.#freeAll((inode as FileInode).owner);
  };

  /** The end, after that of every file. */
  destroy(): void {
    assert(this.#memory.used === 0 && this.#quota.total.blocks === 0, 'blocks of no file');
  }

  /** The run of blocks of one kind that holds `pos`. */
  #map({ blocks }: MemInode, pos: number, length: number, map: Iomap): void {
    const first = Math.floor(pos / BLOCK_SIZE);
    const end = blocks.runEnd(first, Math.ceil((pos + length) / BLOCK_SIZE));
    const place = blocks.at(first);
    map.type = place === HOLE ? IOMAP_HOLE : place === RESERVED ? IOMAP_UNWRITTEN : IOMAP_MAPPED;
    map.offset = first * BLOCK_SIZE;
    map.length = (end - first) * BLOCK_SIZE;
    map.validityCookie = blocks.sequence;
  }

  /** As #map; a hole is reserved, as much of it as there is space for. */
  #mapForWrite(owner: MemInode, pos: number, length: number, map: Iomap): void {
    const chunk = BLOCK_SIZE * 2 ** this.#orderMax;
    this.#map(owner, pos, Math.min(length, chunk - (pos % chunk)), map);
    if (map.type !== IOMAP_HOLE) return;
    const { blocks } = owner;
    const count = this.#quota.takeBlocks(owner.attr.uid, map.length / BLOCK_SIZE, 1, 'write');
    owner.blockCount += count;
    const first = map.offset / BLOCK_SIZE;
    for (let block = first; block < first + count; block++) blocks.set(block, RESERVED);
    map.type = IOMAP_UNWRITTEN;
    map.flags = IOMAP_F_NEW;
    map.length = count * BLOCK_SIZE;
    map.validityCookie = blocks.sequence;
  }

  /** Puts dirty data into blocks before there is so much of it that the cache would make the writer wait. */
  #makeRoom(): MaybePromise<void> {
    const { cache, bdi } = this.#sb;
    if (!cache.isOverBackground(bdi)) return;
    for (const mapping of bdi.dirtyMappings) void mapping.startWrite(0, Number.POSITIVE_INFINITY);
  }

  /** Reserves the holes of a range of whole blocks: all of them or none. */
  #reserve(owner: MemInode, start: number, end: number): void {
    const { blocks } = owner;
    const first = start / BLOCK_SIZE;
    const last = end / BLOCK_SIZE;
    let holes = 0;
    for (let at = first; at < last; ) {
      const stop = blocks.runEnd(at, last);
      if (blocks.at(at) === HOLE) holes += stop - at;
      at = stop;
    }
    if (holes === 0) return;
    this.#quota.takeBlocks(owner.attr.uid, holes, holes, 'fallocate');
    owner.blockCount += holes;
    for (let block = first; block < last; block++) if (blocks.at(block) === HOLE) blocks.set(block, RESERVED);
  }

  /** Makes a range of whole blocks a hole. */
  #free(owner: MemInode, start: number, end: number): void {
    let count = 0;
    owner.blocks.remove(start / BLOCK_SIZE, end / BLOCK_SIZE, (_block, place) => {
      if (place > 0) this.#memory.release(pfnOf(place), 0);
      count++;
    });
    owner.blockCount -= count;
    this.#quota.releaseBlocks(owner.attr.uid, count);
    this.#freedBlocks += count;
    if (this.#freedBlocks < TRIM_BLOCKS) return;
    this.#freedBlocks = 0;
    this.#memory.trim();
  }

  #freeAll(owner: MemInode): void {
    if (owner.blockCount > 0) this.#free(owner, 0, Number.POSITIVE_INFINITY);
  }

  /** Fills bytes of a folio from the blocks. */
  #fetch({ blocks }: MemInode, folio: Folio, pos: number, length: number): void {
    for (let at = pos; at < pos + length; ) {
      const offset = at % BLOCK_SIZE;
      const stop = Math.min(pos + length, roundDown(at, BLOCK_SIZE) + BLOCK_SIZE);
      const place = blocks.at(Math.floor(at / BLOCK_SIZE));
      if (place > 0) folio.slab.set(this.#bytesOf(place, offset, stop - at), folio.base + at - folio.pos);
      else folio.zero(at - folio.pos, stop - folio.pos);
      at = stop;
    }
  }

  /** Stores dirty blocks of a folio: they take the memory that was reserved when they became dirty. */
  #store({ blocks }: MemInode, folio: Folio, pos: number, length: number): void {
    for (let at = pos; at < pos + length; at += BLOCK_SIZE) {
      const block = at / BLOCK_SIZE;
      let place = blocks.at(block);
      if (place === RESERVED) {
        place = placeOf(this.#memory.tryAlloc(0));
        blocks.set(block, place);
      }
      const pfn = pfnOf(place);
      this.#memory.slabOf(pfn).set(folio.bytes(at - folio.pos, BLOCK_SIZE), this.#memory.byteOffset(pfn));
    }
  }

  /** The bytes [offset, offset + length) of a block. */
  #bytesOf(place: number, offset: number, length: number): Uint8Array {
    const pfn = pfnOf(place);
    const start = this.#memory.byteOffset(pfn) + offset;
    return this.#memory.slabOf(pfn).subarray(start, start + length);
  }
}

// In the map of blocks 0 is a hole: a place is the number of a page of memory, and one more.

function placeOf(pfn: number): number {
  assert(pfn >= 0, 'out of block memory'); // the quota ends before it
  return pfn + 1;
}

function pfnOf(place: number): number {
  return place - 1;
}
