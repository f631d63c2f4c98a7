import { assert } from '../../base/assert.ts';
import { clearBits, countBits, nextClearBit, nextSetBit, setBits, testBit } from '../../base/bitmap.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { CHECKED_BITMAP } from './checked.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT4_BG_BLOCK_UNINIT } from './format.ts';
import { modifyInode } from './inode-table.ts';

/** Blocks that were allocated: `count` blocks from `start`, both of the volume; whole clusters. */
export interface BlockRun {
  readonly start: number;
  readonly count: number;
}

export interface AllocOptions {
  /** Where it would best begin. */
  readonly goal: number;
  /** Blocks wanted, and fewest that do (default 1). */
  readonly count: number;
  readonly countMin?: number;
  /** The caller may take all that is there: it has been promised, or must not fail. */
  readonly useReserved?: boolean;
  /** The last block that may be used, plus 1: indirect files cannot go past 2^32. */
  readonly end?: number;
}

/** Kept back for what must not fail: tree blocks of data that was accepted. One cluster of so many, and clusters at most: as the kernel does. */
const INTERNAL_RESERVE_SHARE = 50;
const INTERNAL_RESERVE_MAX = 4096;
/** Groups whose bitmaps are read for one request before any free run does. */
const GROUPS_TRIED = 64;

/** The clusters of one group that cannot be taken. */
interface GroupMap {
  /**
   * A bit for each cluster: those of the bitmap on the device, those that were freed in a transaction that is not durable, and those that
   * are promised to data on its way.
   */
  readonly busy: Uint32Array;
  /** No run of free clusters is longer. */
  runMax: number;
}

/**
 * Finds and accounts blocks.
 *
 *     free       in no bitmap, busy for nobody
 *     held       busy in core only: hold() .. claim() or letGo(). Data is on its way there; a crash forgets it
 *     in use     in the bitmap of the device
 *     leaving    no longer in the bitmap, busy until that is durable: what is still there may come back by a crash until then
 *
 * Invariants:
 * 1. busy >= bitmap of the device, in each group that is in core.
 * 2. es.freeClusters counts the clear bits of the bitmaps (free, held, leaving), es.dirtyClusters those of them that are promised.
 */
export class BlockAllocator {
  readonly #sb: Ext4Sb;
  readonly #maps = new Map<number, GroupMap>();
  /** Groups whose bitmap cannot be believed: nothing is taken from them. */
  readonly #bad = new Set<number>();
  /** Clusters kept back for what must not fail. */
  readonly internalReserve: number;
  /** Clusters that come back with the next commit. */
  leaving = 0;
  /** Of the promises, those that the handle which runs makes true: they keep nothing from it. */
  redeeming = 0;

  constructor(sb: Ext4Sb) {
    this.#sb = sb;
    this.internalReserve = Math.min(INTERNAL_RESERVE_MAX, Math.floor(sb.es.blocksCount / sb.es.clusterRatio / INTERNAL_RESERVE_SHARE));
  }

  /** Clusters that file data can still have: of root's own with `isRoot`. */
  available(isRoot: boolean): number {
    const { es } = this.#sb;
    const kept = this.internalReserve + (isRoot ? 0 : Math.ceil(es.reservedBlocks / es.clusterRatio));
    return Math.max(0, es.freeClusters - es.dirtyClusters - kept);
  }

  /** Takes a promise back, or what is left of it. */
  withdraw(clusters: number): void {
    const { es } = this.#sb;
    assert(clusters <= es.dirtyClusters, 'more is withdrawn than was promised');
    es.dirtyClusters -= clusters;
  }

  /** Finds a free run and holds it in core. Errors: ENOSPC where no run does. */
  *hold(options: AllocOptions): Task<BlockRun> {
    const { es } = this.#sb;
    const ratio = es.clusterRatio;
    const count = Math.ceil(options.count / ratio);
    const countMin = Math.ceil((options.countMin ?? 1) / ratio);
    const clustersEnd = options.end === undefined ? Number.POSITIVE_INFINITY : options.end;
    const goal = options.goal > es.firstDataBlock && options.goal < es.blocksCount ? options.goal : es.firstDataBlock + 1;
    const home = es.groupOf(goal);
    const at = Math.floor((goal - es.firstBlockOf(home)) / ratio);

    // Right at the goal: even a short run there continues the file.
    const map = yield* this.#map(home);
    if (map !== undefined && !testBit(map.busy, at) && es.firstBlockOf(home) < clustersEnd) {
      const end = nextSetBit(map.busy, at, Math.min(this.#sb.groups.clustersOf(home), at + count));
      if (end - at >= countMin) return this.#take(home, map, at, end - at);
    }
    // A group with all of it in one run; then any run, the longest of the first group that has one.
    let tried = 0;
    for (let i = 0; i < es.groupCount && tried < GROUPS_TRIED; i++) {
      const g = (home + i) % es.groupCount;
      if ((this.#sb.groups.freeClusters[g] as number) < count || es.firstBlockOf(g) >= clustersEnd) continue;
      const known = this.#maps.get(g);
      if (known !== undefined && known.runMax < count) continue;
      tried++;
      const found = yield* this.#search(g, count, count, i === 0 ? at : 0);
      if (found !== undefined) return found;
    }
    for (let i = 0; i < es.groupCount; i++) {
      const g = (home + i) % es.groupCount;
      if ((this.#sb.groups.freeClusters[g] as number) < countMin || es.firstBlockOf(g) >= clustersEnd) continue;
      const known = this.#maps.get(g);
      if (known !== undefined && known.runMax < countMin) continue;
      const found = yield* this.#search(g, count, countMin, 0);
      if (found !== undefined) return found;
    }
    throw new FsError('ENOSPC', 'write');
  }

  /** The first run of `count` clusters behind `from`, else the longest of at least `countMin` in the group. */
  *#search(g: number, count: number, countMin: number, from: number): Task<BlockRun | undefined> {
    const map = yield* this.#map(g);
    if (map === undefined) return undefined;
    const size = this.#sb.groups.clustersOf(g);
    let best = 0;
    let bestAt = 0;
    let at = nextClearBit(map.busy, from, size);
    while (at < size) {
      const end = nextSetBit(map.busy, at, Math.min(size, at + count));
      if (end - at >= count) return this.#take(g, map, at, count);
      if (end - at > best) {
        best = end - at;
        bestAt = at;
      }
      at = nextClearBit(map.busy, end, size);
    }
    if (from > 0) return yield* this.#search(g, count, countMin, 0);
    map.runMax = best;
    return best >= countMin && best > 0 ? this.#take(g, map, bestAt, best) : undefined;
  }

  #take(g: number, map: GroupMap, at: number, count: number): BlockRun {
    const { es } = this.#sb;
    setBits(map.busy, at, at + count);
    return { start: es.firstBlockOf(g) + at * es.clusterRatio, count: count * es.clusterRatio };
  }

  /** Keeps blocks from being chosen by hold(). Not for good: freeing them ends it. */
  *reserve(start: number, count: number): Task<void> {
    const { es } = this.#sb;
    for (let from = start; from < start + count; ) {
      const g = es.groupOf(from);
      const first = es.firstBlockOf(g);
      const to = Math.min(start + count, first + es.blocksPerGroup);
      const map = yield* this.#map(g);
      if (map !== undefined) setBits(map.busy, Math.floor((from - first) / es.clusterRatio), Math.ceil((to - first) / es.clusterRatio));
      from = to;
    }
  }

  /** Gives back what hold() gave. */
  letGo({ start, count }: BlockRun): void {
    const { es } = this.#sb;
    const g = es.groupOf(start);
    const map = this.#maps.get(g);
    assert(map !== undefined, 'a group with held clusters is in core');
    const at = (start - es.firstBlockOf(g)) / es.clusterRatio;
    clearBits(map.busy, at, at + count / es.clusterRatio);
    map.runMax = Number.POSITIVE_INFINITY;
  }

  /** What was held becomes in use. Charged to the inode. */
  *claim(h: Handle, inode: Ext4Inode, { start, count }: BlockRun): Task<void> {
    const sb = this.#sb;
    const { es, groups } = sb;
    const g = es.groupOf(start);
    const clusters = count / es.clusterRatio;
    const at = (start - es.firstBlockOf(g)) / es.clusterRatio;
    yield* groups.modify(h, g);
    const bits = yield* this.bitmap(h, g);
    for (let bit = at; bit < at + clusters; bit++) {
      if (((bits[bit >>> 3] as number) & (1 << (bit & 7))) !== 0)
        sb.corrupted(`block ${start + (bit - at) * es.clusterRatio} is in use already`);
      bits[bit >>> 3] = (bits[bit >>> 3] as number) | (1 << (bit & 7));
    }
    groups.freeClusters[g] = (groups.freeClusters[g] as number) - clusters;
    es.freeClusters -= clusters;
    yield* charge(h, inode, count * this.#sb.blockSize);
  }

  /** Does the bitmap say that the cluster of this block is in use? */
  *isInUse(block: number): Task<boolean> {
    const { es, groups } = this.#sb;
    const g = es.groupOf(block);
    if (((groups.flags[g] as number) & EXT4_BG_BLOCK_UNINIT) !== 0) return false;
    const bit = Math.floor((block - es.firstBlockOf(g)) / es.clusterRatio);
    const { data } = yield* wait(this.#sb.read(groups.blockBitmap[g] as number));
    return ((data[bit >>> 3] as number) & (1 << (bit & 7))) !== 0;
  }

  /** The bitmap of a group, to be changed. One that was never written becomes real. */
  *bitmap(h: Handle, g: number): Task<Uint8Array> {
    const { groups, buffers } = this.#sb;
    const block = groups.blockBitmap[g] as number;
    if (((groups.flags[g] as number) & EXT4_BG_BLOCK_UNINIT) === 0) {
      const bh = yield* wait(this.#sb.read(block));
      if (bh.checked !== CHECKED_BITMAP) yield* this.#check(g, bh);
      return h.getWriteAccess(bh);
    }
    yield* groups.modify(h, g);
    const bh = h.getCreateAccess(block);
    assert(buffers.peek(block) === bh, 'a new block is in core');
    const words = this.#initial(g);
    bh.data.set(new Uint8Array(words.buffer, 0, Math.min(bh.data.length, words.byteLength)));
    bh.data.fill(0xff, words.byteLength);
    bh.checked = CHECKED_BITMAP;
    groups.flags[g] = (groups.flags[g] as number) & ~EXT4_BG_BLOCK_UNINIT;
    return bh.data;
  }

  /** What is in use in a group that nothing was allocated in: fixed metadata, and bits past its end. */
  #initial(g: number): Uint32Array {
    const { es, zone, groups } = this.#sb;
    const words = new Uint32Array(es.blockSize / 4);
    const first = es.firstBlockOf(g);
    for (const { start, end } of zone.runsIn(first, first + es.blocksInGroup(g))) {
      setBits(words, Math.floor((start - first) / es.clusterRatio), Math.ceil((end - first) / es.clusterRatio));
    }
    setBits(words, groups.clustersOf(g), es.blockSize * 8);
    return words;
  }

  /** The map of a group, or undefined where it cannot be believed: then the volume goes on without it. */
  *#map(g: number): Task<GroupMap | undefined> {
    const known = this.#maps.get(g);
    if (known !== undefined) return known;
    if (this.#bad.has(g)) return undefined;
    const { groups } = this.#sb;
    let busy: Uint32Array;
    if (((groups.flags[g] as number) & EXT4_BG_BLOCK_UNINIT) !== 0) {
      busy = this.#initial(g);
    } else {
      const bh = yield* wait(this.#sb.read(groups.blockBitmap[g] as number));
      try {
        yield* this.#check(g, bh);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        this.#bad.add(g);
        this.#sb.noteError(error, 0, groups.blockBitmap[g] as number);
        return undefined;
      }
      // Somebody else who looks may have been faster, and holds something in it by now.
      const made = this.#maps.get(g);
      if (made !== undefined) return made;
      busy = new Uint32Array(bh.data.slice().buffer);
    }
    const map = { busy, runMax: Number.POSITIVE_INFINITY };
    this.#maps.set(g, map);
    return map;
  }

  /** Errors: EBADMSG, EUCLEAN. */
  *#check(g: number, bh: BufferHead): Task<void> {
    const sb = this.#sb;
    const { es, groups, zone } = sb;
    if (bh.checked === CHECKED_BITMAP) return;
    const sums = yield* groups.storedSums(g);
    if (sums !== undefined && (groups.blockBitmapSum(bh.data) & sums.mask) >>> 0 !== sums.block) {
      sb.corrupted(`checksum of the block bitmap of group ${g}`, 'EBADMSG');
    }
    const words = new Uint32Array(bh.data.slice().buffer);
    const first = es.firstBlockOf(g);
    for (const { start, end } of zone.runsIn(first, first + es.blocksInGroup(g))) {
      const from = Math.floor((start - first) / es.clusterRatio);
      const to = Math.ceil((end - first) / es.clusterRatio);
      if (nextClearBit(words, from, to) !== to) sb.corrupted(`block bitmap of group ${g} says that its metadata is free`);
    }
    const size = groups.clustersOf(g);
    const free = size - countBits(words, 0, size);
    if (free !== groups.freeClusters[g]) sb.corrupted(`group ${g} says ${groups.freeClusters[g]} free clusters, its bitmap ${free}`);
    bh.checked = CHECKED_BITMAP;
  }

  /** In use becomes leaving. */
  *free(h: Handle, inode: Ext4Inode, start: number, count: number): Task<void> {
    const sb = this.#sb;
    const { es, groups } = sb;
    for (let from = start; from < start + count; ) {
      const g = es.groupOf(from);
      const to = Math.min(start + count, es.firstBlockOf(g) + es.blocksPerGroup);
      const at = Math.floor((from - es.firstBlockOf(g)) / es.clusterRatio);
      const end = Math.ceil((to - es.firstBlockOf(g)) / es.clusterRatio);
      yield* groups.modify(h, g);
      yield* this.#map(g); // so that what is leaving stays busy
      const bits = yield* this.bitmap(h, g);
      for (let bit = at; bit < end; bit++) {
        if (((bits[bit >>> 3] as number) & (1 << (bit & 7))) === 0)
          sb.corrupted(`block ${es.firstBlockOf(g) + bit * es.clusterRatio} is free already`);
        bits[bit >>> 3] = (bits[bit >>> 3] as number) & ~(1 << (bit & 7));
      }
      const clusters = end - at;
      groups.freeClusters[g] = (groups.freeClusters[g] as number) + clusters;
      es.freeClusters += clusters;
      this.leaving += clusters;
      h.onRollback(() => {
        this.leaving -= clusters;
      });
      h.onCommit(() => {
        this.leaving -= clusters;
        const map = this.#maps.get(g);
        if (map === undefined) return;
        clearBits(map.busy, at, end);
        map.runMax = Number.POSITIVE_INFINITY;
      });
      yield* charge(h, inode, -clusters * es.clusterRatio * es.blockSize);
      from = to;
    }
  }
}

/**
 * Counts whole blocks for an inode, or takes them off: in i_blocks, and for its owners. `bytes` may be negative.
 *
 * Errors: EDQUOT; EUCLEAN where the inode says that it has fewer.
 */
export function* charge(h: Handle, inode: Ext4Inode, bytes: number): Task<void> {
  yield* modifyInode(h, inode);
  inode.blocks += bytes / 512;
  if (inode.blocks < 0) inode.sb.corrupted(`inode ${inode.ino} has more blocks than it says`);
  yield* inode.sb.quota.chargeBlocks(h, inode, bytes);
}

/**
 * Takes free blocks for an inode: marked in the bitmap, counted, charged to it (i_blocks and quota).
 *
 * Errors: ENOSPC, EDQUOT; EUCLEAN, EBADMSG for a group whose bitmap cannot be believed.
 */
export function* allocBlocks(h: Handle, inode: Ext4Inode, options: AllocOptions): Task<BlockRun> {
  const { allocator, es } = inode.sb;
  const owed = Math.max(0, es.dirtyClusters - allocator.redeeming);
  const room = options.useReserved === true ? Math.max(0, es.freeClusters - owed) : allocator.available(true);
  if (room < Math.ceil((options.countMin ?? 1) / es.clusterRatio)) throw new FsError('ENOSPC', 'write');
  const run = yield* allocator.hold({ ...options, count: Math.min(options.count, room * es.clusterRatio) });
  h.onRollback(() => allocator.letGo(run));
  yield* allocator.claim(h, inode, run);
  return run;
}

/**
 * Gives blocks of an inode back. They are not used again before the transaction is durable. `isMetadata`: they were in the log (tree blocks,
 * directory blocks, attribute blocks, journalled data), and are forgotten there. With bigalloc the caller gives whole clusters.
 *
 * Errors: EUCLEAN where a block is not in use, or is metadata of fixed place.
 */
export function* freeBlocks(h: Handle, inode: Ext4Inode, start: number, count: number, isMetadata: boolean): Task<void> {
  const { sb } = inode;
  if (!sb.isDataRange(start, count, inode.ino)) sb.corrupted(`inode ${inode.ino} has ${count} blocks at ${start}, which are not for data`);
  if (isMetadata) for (let block = start; block < start + count; block++) h.forget(block);
  yield* sb.allocator.free(h, inode, start, count);
}

/** Where blocks of an inode that has none would best begin: in its own group. */
export function goalOf(inode: Ext4Inode): number {
  const { es } = inode.sb;
  const g = Math.floor((inode.ino - 1) / es.inodesPerGroup);
  return es.firstBlockOf(g) + (g === 0 ? 1 : 0);
}
