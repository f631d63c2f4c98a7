import { assert } from '../../base/assert.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { allocBlocks, freeBlocks, goalOf } from './block-alloc.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import {
  type BlockMapping,
  capacityOf,
  childOf,
  countOf,
  createNode,
  depthOf,
  EXT_DEPTH_MAX,
  EXT_ROOT_MAX,
  endOf,
  extentAt,
  initNode,
  isFull,
  keyOf,
  lengthMax,
  moveEntries,
  nodeOf,
  readExtent,
  resizeNode,
  rootOf,
  searchNode,
  setDepth,
  setKey,
  writableNode,
  writeExtent,
  writeIndex,
} from './extent-node.ts';
import { EXT_MAX_BLOCKS } from './format.ts';

// The block map of a file as a tree of extents. Source: Linux fs/ext4/extents.c.
//
// Invariants of a tree that we made or changed:
// 1. Extents are sorted, without overlap, and no node but the root is empty.
// 2. The key of an index is the key of the first entry of its child.
// 3. Neighbours in a leaf that could be one extent are one, as far as they were touched.
// A tree that somebody else made may have keys below the first entry of the child, and is mapped and changed as it is.

/** Groups' worth of blocks that are freed in one step at most: each group is two blocks that change. */
const STEP_GROUPS = 4;

/** One node on the way from the root to a leaf. */
interface Level {
  /** Undefined: the root. */
  readonly bh: BufferHead | undefined;
  /** The content: replaced when it becomes writable. */
  node: Uint8Array;
  /** The entry that the way goes through; in a leaf the last one whose key is not above the block that was searched, or -1. */
  slot: number;
  /** What lies below this node is in [low, high). */
  readonly low: number;
  readonly high: number;
}

type Path = Level[];

/** Makes the root of an inode that has no blocks. The inode is under modifyInode. */
export function initExtents(inode: Ext4Inode): void {
  inode.iBlock.fill(0);
  initNode(inode.iBlock, 0, EXT_ROOT_MAX);
}

/** Fills `into` with what is at `lblk`. Shape: 0, or the block of a node that is not in core and has to be read first. */
export function lookupExtent(inode: Ext4Inode, lblk: number, into: BlockMapping): number {
  let node = rootOf(inode);
  let low = 0;
  let high = EXT_MAX_BLOCKS;
  for (let depth = depthOf(node); ; ) {
    const slot = searchNode(node, lblk);
    const count = countOf(node);
    const next = slot + 1 < count ? keyOf(node, slot + 1) : high;
    if (depth === 0 && slot >= 0) {
      readExtent(node, slot, into);
      if (lblk < into.lblk + into.count) {
        addNeighbours(node, slot, count, into);
        return 0;
      }
      low = into.lblk + into.count;
    }
    if (depth === 0 || slot < 0) {
      into.lblk = low;
      into.count = next - low;
      into.pblk = 0;
      into.isUnwritten = false;
      return 0;
    }
    const child = childOf(node, slot);
    const bh = inode.sb.buffers.peek(child);
    if (bh === undefined) return child;
    low = keyOf(node, slot);
    high = next;
    depth--;
    node = nodeOf(inode, bh, depth, low, high);
  }
}

const neighbour: BlockMapping = { lblk: 0, count: 0, pblk: 0, isUnwritten: false };

/** Extents are short; what follows at once and is of the same state is the same mapping. */
function addNeighbours(node: Uint8Array, slot: number, count: number, into: BlockMapping): void {
  for (let after = slot + 1; after < count; after++) {
    readExtent(node, after, neighbour);
    if (!isFollowedBy(into, neighbour)) return;
    into.count += neighbour.count;
  }
}

function isFollowedBy(before: BlockMapping, after: BlockMapping): boolean {
  return before.lblk + before.count === after.lblk && before.pblk + before.count === after.pblk && before.isUnwritten === after.isUnwritten;
}

/** The way to the leaf that has `lblk`, or would. */
function* findPath(inode: Ext4Inode, lblk: number): Task<Path> {
  const root = rootOf(inode);
  let level: Level = { bh: undefined, node: root, slot: searchNode(root, lblk), low: 0, high: EXT_MAX_BLOCKS };
  const path = [level];
  for (let depth = depthOf(root); depth > 0; depth--) {
    const { node, slot } = level;
    // Before all keys is below the first.
    level.slot = Math.max(0, slot);
    const key = keyOf(node, level.slot);
    const low = slot < 0 ? level.low : key;
    const high = level.slot + 1 < countOf(node) ? keyOf(node, level.slot + 1) : level.high;
    const bh = yield* wait(inode.sb.read(childOf(node, level.slot)));
    const child = nodeOf(inode, bh, depth - 1, key, high);
    level = { bh, node: child, slot: searchNode(child, lblk), low, high };
    path.push(level);
  }
  return path;
}

function leafOf(path: Path): Level {
  return path.at(-1) as Level;
}

function writable(h: Handle, inode: Ext4Inode, level: Level): Uint8Array {
  level.node = level.bh === undefined ? inode.iBlock : writableNode(h, inode, level.bh);
  return level.node;
}

// ---- insert

/**
 * Maps [lblk, lblk + count), which is a hole, to blocks from `pblk`. The inode is under modifyInode.
 *
 * Errors: ENOSPC, EDQUOT of a block for the tree; EUCLEAN, EBADMSG, EIO.
 */
export function* insertExtents(h: Handle, inode: Ext4Inode, lblk: number, pblk: number, count: number, isUnwritten: boolean): Task<void> {
  for (let done = 0; done < count; ) {
    const at = lblk + done;
    const path = yield* findPath(inode, at);
    const { node, slot, high } = leafOf(path);
    assert(slot < 0 || endOf(node, slot) <= at, `inode ${inode.ino}: block ${at} is mapped already`);
    const isLast = slot + 1 >= countOf(node);
    const room = (isLast ? high : keyOf(node, slot + 1)) - at;
    assert(isLast || room >= count - done, `inode ${inode.ino}: a block of [${at}, ${lblk + count}) is mapped already`);
    const length = Math.min(count - done, lengthMax(isUnwritten), room);
    yield* replaceAndMerge(h, inode, path, slot + 1, 0, [{ lblk: at, count: length, pblk: pblk + done, isUnwritten }]);
    done += length;
  }
}

/** Puts one extent where its key belongs. `known`: the way there. */
function* insertOne(h: Handle, inode: Ext4Inode, extent: BlockMapping, known?: Path): Task<void> {
  for (let path = known; ; path = undefined) {
    path ??= yield* findPath(inode, extent.lblk);
    const leaf = leafOf(path);
    if (!isFull(leaf.node)) {
      const slot = leaf.slot + 1;
      const node = writable(h, inode, leaf);
      resizeNode(node, slot, 1);
      writeExtent(node, slot, extent);
      if (slot === 0) fixKeys(h, inode, path, path.length - 1);
      return;
    }
    yield* makeRoom(h, inode, path, extent);
  }
}

/** A step towards room in the leaf: splits the highest node that is full with all below it, or makes the tree deeper. */
function* makeRoom(h: Handle, inode: Ext4Inode, path: Path, extent: BlockMapping): Task<void> {
  let parent = path.length - 1;
  while (parent >= 0 && isFull((path[parent] as Level).node)) parent--;
  const goal = leafOf(path).bh?.blocknr ?? extent.pblk;
  const { start } = yield* allocBlocks(h, inode, { goal: goal > 0 ? goal : goalOf(inode), count: 1, useReserved: true });
  // A bitmap that lies could give out what we stand on.
  if (path.some(({ bh }) => bh?.blocknr === start)) inode.sb.corrupted(`inode ${inode.ino}: block ${start} was not free`);
  if (parent < 0) growRoot(h, inode, start);
  else splitNode(h, inode, path, parent + 1, extent.lblk, start);
}

/** Moves the entries of the root into a block, and the root a level up. */
function growRoot(h: Handle, inode: Ext4Inode, blocknr: number): void {
  const root = inode.iBlock;
  const depth = depthOf(root);
  if (depth === EXT_DEPTH_MAX) throw new FsError('ENOSPC', 'write', { detail: `${inode.place}: the extent tree is too deep` });
  const bh = createNode(h, inode, blocknr, depth);
  moveEntries(root, 0, bh.data);
  setDepth(root, depth + 1);
  resizeNode(root, 0, 1);
  writeIndex(root, 0, keyOf(bh.data, 0), blocknr);
}

/**
 * Moves a part of path[level] into a new node behind it. Its parent has room.
 *
 * Half of it, in general. Behind the last entry it is a file that grows, and the old node stays full: a new leaf begins with `lblk`, which
 * the caller puts there at once; a new index node takes the last child along, because it cannot be without.
 */
function splitNode(h: Handle, inode: Ext4Inode, path: Path, level: number, lblk: number, blocknr: number): void {
  const full = path[level] as Level;
  const parent = path[level - 1] as Level;
  const count = countOf(full.node);
  const depth = depthOf(full.node);
  const isAppend = full.slot === count - 1;
  const at = !isAppend ? count >>> 1 : depth === 0 ? count : count - 1;
  const key = at < count ? keyOf(full.node, at) : lblk;
  const bh = createNode(h, inode, blocknr, depth);
  if (at < count) moveEntries(writable(h, inode, full), at, bh.data);
  const node = writable(h, inode, parent);
  resizeNode(node, parent.slot + 1, 1);
  writeIndex(node, parent.slot + 1, key, blocknr);
}

/** The first key of path[level] has changed: those above it follow. */
function fixKeys(h: Handle, inode: Ext4Inode, path: Path, level: number): void {
  for (let at = level; at > 0; at--) {
    const key = keyOf((path[at] as Level).node, 0);
    const parent = path[at - 1] as Level;
    if (keyOf(parent.node, parent.slot) !== key) setKey(writable(h, inode, parent), parent.slot, key);
    if (parent.slot > 0) return;
  }
}

// ---- change

/** Takes `removed` extents of the leaf from `slot` on out and puts `extents` there, merged with one another and with what is beside them. */
function* replaceAndMerge(h: Handle, inode: Ext4Inode, path: Path, slot: number, removed: number, extents: BlockMapping[]): Task<void> {
  const { node } = leafOf(path);
  let first = slot;
  let end = slot + removed;
  const all = extents;
  if (first > 0 && isFollowedBy(extentAt(node, first - 1), all[0] as BlockMapping)) all.unshift(extentAt(node, --first));
  if (end < countOf(node) && isFollowedBy(all.at(-1) as BlockMapping, extentAt(node, end))) all.push(extentAt(node, end++));
  yield* replace(h, inode, path, first, end - first, merged(all));
}

/** Neighbours made one as far as an extent is long enough. */
function merged(extents: readonly BlockMapping[]): BlockMapping[] {
  const out: BlockMapping[] = [];
  for (const { lblk, count, pblk, isUnwritten } of extents) {
    const max = lengthMax(isUnwritten);
    const last = out.at(-1);
    if (last !== undefined && isFollowedBy(last, { lblk, count, pblk, isUnwritten }) && last.count + count <= max) {
      last.count += count;
      continue;
    }
    for (let done = 0; done < count; done += max) {
      out.push({ lblk: lblk + done, count: Math.min(max, count - done), pblk: pblk + done, isUnwritten });
    }
  }
  return out;
}

/** Takes `removed` extents of the leaf from `slot` on out, and puts `extents` in, which lie where those were. The path is not valid after. */
function* replace(h: Handle, inode: Ext4Inode, path: Path, slot: number, removed: number, extents: readonly BlockMapping[]): Task<void> {
  const inPlace = Math.min(removed, extents.length);
  if (removed > 0) {
    const node = writable(h, inode, leafOf(path));
    for (let i = 0; i < inPlace; i++) writeExtent(node, slot + i, extents[i] as BlockMapping);
    if (removed > inPlace) resizeNode(node, slot + inPlace, inPlace - removed);
    if (countOf(node) === 0) yield* removeNode(h, inode, path, path.length - 1);
    else if (slot === 0) fixKeys(h, inode, path, path.length - 1);
    if (removed > inPlace) yield* shrinkRoot(h, inode);
  }
  let known = removed > 0 ? undefined : path;
  for (let i = inPlace; i < extents.length; i++, known = undefined) yield* insertOne(h, inode, extents[i] as BlockMapping, known);
}

/** path[level] is empty: it and its index go. */
function* removeNode(h: Handle, inode: Ext4Inode, path: Path, level: number): Task<void> {
  const { bh } = path[level] as Level;
  if (bh === undefined) {
    setDepth(inode.iBlock, 0);
    return;
  }
  yield* freeNode(h, inode, bh.blocknr);
  const parent = path[level - 1] as Level;
  const node = writable(h, inode, parent);
  resizeNode(node, parent.slot, -1);
  if (countOf(node) === 0) yield* removeNode(h, inode, path, level - 1);
  else if (parent.slot === 0) fixKeys(h, inode, path, level - 1);
}

/** A root with one child whose entries fit into it takes them, where that needs no read. */
function* shrinkRoot(h: Handle, inode: Ext4Inode): Task<void> {
  const root = inode.iBlock;
  while (depthOf(root) > 0 && countOf(root) === 1) {
    const blocknr = childOf(root, 0);
    const bh = inode.sb.buffers.peek(blocknr);
    if (bh === undefined) return;
    const depth = depthOf(root) - 1;
    const child = nodeOf(inode, bh, depth, 0, EXT_MAX_BLOCKS);
    if (countOf(child) > EXT_ROOT_MAX) return;
    initNode(root, depth, EXT_ROOT_MAX);
    moveEntries(child.slice(), 0, root);
    yield* freeNode(h, inode, blocknr);
  }
}

function* freeNode(h: Handle, inode: Ext4Inode, blocknr: number): Task<void> {
  const { clusterRatio } = inode.sb;
  yield* freeBlocks(h, inode, blocknr - (blocknr % clusterRatio), clusterRatio, true);
}

/**
 * Makes [lblk, lblk + count), all of which is mapped, written or unwritten. The inode is under modifyInode.
 *
 * Errors: ENOSPC only when not even what is kept back has a block for the tree; EUCLEAN, EBADMSG, EIO.
 */
export function* convertExtents(h: Handle, inode: Ext4Inode, lblk: number, count: number, toUnwritten: boolean): Task<void> {
  const end = lblk + count;
  for (let at = lblk; at < end; ) {
    const path = yield* findPath(inode, at);
    const { node, slot } = leafOf(path);
    assert(slot >= 0 && at < endOf(node, slot), `inode ${inode.ino}: block ${at} is not mapped`);
    const extent = extentAt(node, slot);
    const to = Math.min(end, extent.lblk + extent.count);
    if (extent.isUnwritten !== toUnwritten) {
      const middle = { ...part(extent, at, to), isUnwritten: toUnwritten };
      const parts = [part(extent, extent.lblk, at), middle, part(extent, to, extent.lblk + extent.count)];
      const extents = parts.filter((each) => each.count > 0);
      yield* replaceAndMerge(h, inode, path, slot, 1, extents);
    }
    at = to;
  }
}

function part({ lblk, pblk, isUnwritten }: BlockMapping, from: number, to: number): BlockMapping {
  return { lblk: from, count: to - from, pblk: pblk + (from - lblk), isUnwritten };
}

// ---- remove

/**
 * Unmaps [start, end) from the end on and frees its blocks, as far as the handle has credits. The inode is under modifyInode.
 *
 * Shape:  the block below which there is still something to do; `start` when it is done.
 * Errors: EUCLEAN, EBADMSG, EIO; ENOSPC as convertExtents, where a hole is made inside of an extent.
 */
export function* removeExtents(h: Handle, inode: Ext4Inode, start: number, end: number, isJournalled: boolean): Task<number> {
  const credits = creditsForStep(inode);
  for (let below = end; below > start; ) {
    if (h.credits < credits && !h.extend(credits)) return below;
    const path = yield* findPath(inode, below - 1);
    const { node, slot, low } = leafOf(path);
    if (slot < 0) {
      below = low;
      continue;
    }
    const extent = extentAt(node, slot);
    const extentEnd = extent.lblk + extent.count;
    if (extentEnd <= start) return start;
    const to = Math.min(below, extentEnd);
    const from = Math.max(start, extent.lblk, to - STEP_GROUPS * inode.sb.es.blocksPerGroup);
    below = from;
    const kept = [part(extent, extent.lblk, from), part(extent, to, extentEnd)].filter((each) => each.count > 0);
    yield* replace(h, inode, path, slot, 1, kept);
    yield* freeExtent(h, inode, part(extent, from, to), isJournalled);
  }
  return start;
}

/** Frees the blocks of a run that is not mapped any more; of the clusters at its ends those that no other block of the file is in. */
function* freeExtent(h: Handle, inode: Ext4Inode, { lblk, count, pblk }: BlockMapping, isJournalled: boolean): Task<void> {
  const { clusterRatio } = inode.sb;
  let from = lblk - (lblk % clusterRatio);
  let to = Math.ceil((lblk + count) / clusterRatio) * clusterRatio;
  if (from < lblk && (yield* hasBlocks(inode, from, lblk))) from += clusterRatio;
  if (from < to && to > lblk + count && (yield* hasBlocks(inode, lblk + count, to))) to -= clusterRatio;
  if (from < to) yield* freeBlocks(h, inode, pblk + (from - lblk), to - from, isJournalled);
}

function* hasBlocks(inode: Ext4Inode, from: number, to: number): Task<boolean> {
  const mapping: BlockMapping = { lblk: 0, count: 0, pblk: 0, isUnwritten: false };
  for (let at = from; at < Math.min(to, EXT_MAX_BLOCKS); at = mapping.lblk + mapping.count) {
    yield* mapExtent(inode, at, mapping);
    if (mapping.pblk !== 0) return true;
  }
  return false;
}

/** lookupExtent() with the reads that it asks for. */
export function* mapExtent(inode: Ext4Inode, lblk: number, into: BlockMapping): Task<void> {
  for (let missing = lookupExtent(inode, lblk, into); missing !== 0; missing = lookupExtent(inode, lblk, into)) {
    yield* wait(inode.sb.read(missing));
  }
}

// ---- shift

/** What is still to be shifted: extents that begin in [from, end) by to - from blocks. */
export interface ShiftRest {
  readonly from: number;
  readonly to: number;
  readonly end: number;
}

/**
 * Moves all extents that begin in [from, end) by to - from file blocks, as far as the handle has credits, a leaf at a time. Where they go to
 * is a hole. To the right, an extent that goes over `from` is cut there. The inode is under modifyInode.
 *
 * Shape:  what is still to be done: in between, the extents that were moved are those at the far end in the direction of the move.
 * Errors: EFBIG past the last file block; ENOSPC, EUCLEAN, EBADMSG, EIO.
 */
export function* shiftTree(h: Handle, inode: Ext4Inode, rest: ShiftRest): Task<ShiftRest | undefined> {
  return rest.to > rest.from ? yield* shiftRight(h, inode, rest) : yield* shiftLeft(h, inode, rest);
}

function* shiftRight(h: Handle, inode: Ext4Inode, { from, to, end: shiftEnd }: ShiftRest): Task<ShiftRest | undefined> {
  const distance = to - from;
  const credits = creditsForStep(inode);
  let end = shiftEnd;
  let hasRoom = h.credits >= credits || h.extend(credits);
  // First what may fail for want of space: nothing has been moved by then.
  if (hasRoom) yield* cutAt(h, inode, from);
  while (end > from) {
    hasRoom = hasRoom && (h.credits >= credits || h.extend(credits));
    if (!hasRoom) return { from, to, end };
    const path = yield* findPath(inode, end - 1);
    const leaf = leafOf(path);
    if (leaf.slot < 0) {
      end = leaf.low;
      continue;
    }
    const lastEnd = endOf(leaf.node, leaf.slot);
    if (lastEnd <= from) return undefined;
    if (lastEnd + distance > EXT_MAX_BLOCKS) throw new FsError('EFBIG', 'fallocate');
    const node = writable(h, inode, leaf);
    let slot = leaf.slot;
    for (; slot >= 0 && keyOf(node, slot) >= from; slot--) {
      end = keyOf(node, slot);
      setKey(node, slot, end + distance);
    }
    if (slot < 0) fixKeys(h, inode, path, path.length - 1);
  }
  return undefined;
}

/** Makes two of an extent that goes over `lblk`. */
function* cutAt(h: Handle, inode: Ext4Inode, lblk: number): Task<void> {
  const path = yield* findPath(inode, lblk);
  const { node, slot } = leafOf(path);
  if (slot < 0) return;
  const extent = extentAt(node, slot);
  const end = extent.lblk + extent.count;
  if (extent.lblk < lblk && lblk < end) yield* replace(h, inode, path, slot, 1, [part(extent, extent.lblk, lblk), part(extent, lblk, end)]);
}

function* shiftLeft(h: Handle, inode: Ext4Inode, { from, to, end }: ShiftRest): Task<ShiftRest | undefined> {
  const distance = from - to;
  const credits = creditsForStep(inode);
  let isSeamOpen = true;
  for (let at = from; at < end; ) {
    if (h.credits < credits && !h.extend(credits)) return { from: at, to: at - distance, end };
    const path = yield* findPath(inode, at);
    const leaf = leafOf(path);
    const isInside = leaf.slot >= 0 && at < endOf(leaf.node, leaf.slot);
    let slot = isInside ? leaf.slot : leaf.slot + 1;
    assert(!isInside || keyOf(leaf.node, slot) === at, `inode ${inode.ino}: an extent goes over block ${at}`);
    const isFirst = slot === 0;
    if (slot < countOf(leaf.node)) {
      const node = writable(h, inode, leaf);
      for (; slot < countOf(node) && keyOf(node, slot) < end; slot++) setKey(node, slot, keyOf(node, slot) - distance);
      if (isFirst) fixKeys(h, inode, path, path.length - 1);
    }
    at = leaf.high;
    if (isSeamOpen) yield* mergeAt(h, inode, to);
    isSeamOpen = false;
  }
  return undefined;
}

/** Makes the extent that begins at `lblk` one with the one before it in its leaf, if they can be. */
function* mergeAt(h: Handle, inode: Ext4Inode, lblk: number): Task<void> {
  const path = yield* findPath(inode, lblk);
  const { node, slot } = leafOf(path);
  if (slot > 0 && keyOf(node, slot) === lblk) yield* replaceAndMerge(h, inode, path, slot, 1, [extentAt(node, slot)]);
}

// ---- sizes

/** Blocks that the tree takes beside i_block. */
export function* countNodes(inode: Ext4Inode): Task<number> {
  const root = rootOf(inode);
  return yield* countBelow(inode, root, depthOf(root), EXT_MAX_BLOCKS);
}

function* countBelow(inode: Ext4Inode, node: Uint8Array, depth: number, high: number): Task<number> {
  if (depth === 0) return 0;
  const count = countOf(node);
  let total = count;
  for (let slot = 0; slot < count && depth > 1; slot++) {
    const bh = yield* wait(inode.sb.read(childOf(node, slot)));
    const end = slot + 1 < count ? keyOf(node, slot + 1) : high;
    total += yield* countBelow(inode, nodeOf(inode, bh, depth - 1, keyOf(node, slot), end), depth - 1, end);
  }
  return total;
}

/** Blocks that a change of `extents` neighbours in the tree touches at most: nodes, and bitmap and descriptor for each node that is new. */
export function creditsForExtents(inode: Ext4Inode, extents: number): number {
  const half = Math.max(1, capacityOf(inode.sb.blockSize) >>> 1);
  const leaves = extents <= 1 ? 1 : 1 + Math.ceil(extents / half);
  const levels = Math.min(EXT_DEPTH_MAX, depthOf(rootOf(inode)) + 1);
  return levels * leaves * 4;
}

/** Blocks that removing an extent, or shifting a leaf, touches at most: also bitmaps and descriptors of what is freed. */
export function creditsForStep(inode: Ext4Inode): number {
  return creditsForExtents(inode, 1) + 2 * Math.min(inode.sb.es.groupCount, STEP_GROUPS + 1);
}
