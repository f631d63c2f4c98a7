import { assert } from '../../base/assert.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { allocBlocks, freeBlocks, goalOf } from './block-alloc.ts';
import { CHECKED_INDIRECT } from './checked.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { BlockMapping } from './extent-node.ts';
import { EXT_MAX_BLOCKS } from './format.ts';

// The block map of ext2 and ext3: pointers of 32 bits, 0 for a hole. i_block has 12 to blocks of the file, then one each to a block of
// pointers, a block of such blocks, and one more level. Blocks of pointers have no checksum and do not say what they are, so any block that
// has only good pointers is one; what keeps a walk in bounds is its level. Source: Linux fs/ext4/indirect.c.

const EXT4_NDIR_BLOCKS = 12;
/** Pointers of i_block. */
const ROOT_POINTERS = 15;
/** No pointer leads past it. */
export const INDIRECT_BLOCK_END = 2 ** 32;

/** Blocks that a step of removePointers touches: those on the way, and bitmap and descriptor of each that is freed and of the run's ends. */
export const STEP_CREDITS = 3 + 2 * (3 + 2);

/** Pointers in a block. */
function pointersOf(inode: Ext4Inode): number {
  return inode.sb.blockSize / 4;
}

function pointerAt(block: Uint8Array, slot: number): number {
  const at = slot * 4;
  const low = (block[at] as number) | ((block[at + 1] as number) << 8);
  return (low | ((block[at + 2] as number) << 16) | ((block[at + 3] as number) << 24)) >>> 0;
}

function setPointer(block: Uint8Array, slot: number, blocknr: number): void {
  for (let i = 0; i < 4; i++) block[slot * 4 + i] = (blocknr >>> (8 * i)) & 0xff;
}

/** Where a file block hangs. */
interface Place {
  /** Pointer of i_block. */
  readonly root: number;
  /** Blocks of pointers below it. */
  readonly levels: number;
  /** First file block below that pointer, and the blocks there are. */
  readonly first: number;
  readonly span: number;
}

function placeOf(inode: Ext4Inode, lblk: number): Place | undefined {
  if (lblk < EXT4_NDIR_BLOCKS) return { root: lblk, levels: 0, first: lblk, span: 1 };
  const pointers = pointersOf(inode);
  let first = EXT4_NDIR_BLOCKS;
  for (let levels = 1; levels <= 3; levels++) {
    const span = pointers ** levels;
    if (lblk < first + span) return { root: EXT4_NDIR_BLOCKS + levels - 1, levels, first, span };
    first += span;
  }
  return undefined;
}

const checkedRoots = new WeakSet<Uint8Array>();

function rootOf(inode: Ext4Inode): Uint8Array {
  const root = inode.iBlock;
  if (!checkedRoots.has(root)) {
    checkPointers(inode, root, ROOT_POINTERS, 'i_block');
    checkedRoots.add(root);
  }
  return root;
}

function pointerBlock(inode: Ext4Inode, bh: BufferHead): Uint8Array {
  if (bh.checked !== CHECKED_INDIRECT || bh.decoded !== inode.ino) {
    checkPointers(inode, bh.data, pointersOf(inode), `block ${bh.blocknr}`);
    own(inode, bh);
  }
  return bh.data;
}

function own(inode: Ext4Inode, bh: BufferHead): void {
  bh.checked = CHECKED_INDIRECT;
  bh.decoded = inode.ino;
}

/** Errors: EUCLEAN for a pointer to where no file has blocks. */
function checkPointers(inode: Ext4Inode, block: Uint8Array, count: number, where: string): void {
  for (let slot = 0; slot < count; slot++) {
    const pointer = pointerAt(block, slot);
    if (pointer !== 0 && !inode.sb.isDataRange(pointer, 1, inode.ino)) {
      inode.sb.corrupted(`inode ${inode.ino}: ${where} leads to block ${pointer}`);
    }
  }
}

/** Fills `into` with what is at `lblk`: a mapping begins there. Shape: 0, or a block of pointers that has to be read first. */
export function lookupPointer(inode: Ext4Inode, lblk: number, into: BlockMapping): number {
  let block = rootOf(inode);
  const place = placeOf(inode, lblk);
  into.isUnwritten = false;
  into.pblk = 0;
  if (place === undefined) {
    into.lblk = lblk;
    into.count = EXT_MAX_BLOCKS - lblk;
    return 0;
  }
  let { root: slot, first, span } = place;
  // Where the pointers of this block that have the same span end.
  let end = place.levels === 0 ? EXT4_NDIR_BLOCKS : slot + 1;
  for (let levels = place.levels; ; levels--) {
    const pointer = pointerAt(block, slot);
    if (pointer === 0) {
      let after = slot + 1;
      while (after < end && pointerAt(block, after) === 0) after++;
      into.lblk = first;
      into.count = (after - slot) * span;
      if (block === inode.iBlock && after >= EXT4_NDIR_BLOCKS) addMissingTrees(inode, after, into);
      return 0;
    }
    if (levels === 0) {
      let after = slot + 1;
      while (after < end && pointerAt(block, after) === pointer + (after - slot)) after++;
      into.lblk = lblk;
      into.count = after - slot;
      into.pblk = pointer;
      return 0;
    }
    const bh = inode.sb.buffers.peek(pointer);
    if (bh === undefined) return pointer;
    block = pointerBlock(inode, bh);
    end = pointersOf(inode);
    span /= end;
    slot = Math.floor((lblk - first) / span);
    first += slot * span;
  }
}

/** The hole goes on where the pointers of i_block from `slot` on are zero, too. */
function addMissingTrees(inode: Ext4Inode, slot: number, into: BlockMapping): void {
  const pointers = pointersOf(inode);
  for (let at = slot; at < ROOT_POINTERS; at++) {
    if (pointerAt(inode.iBlock, at) !== 0) return;
    into.count += pointers ** (at - EXT4_NDIR_BLOCKS + 1);
  }
  into.count = EXT_MAX_BLOCKS - into.lblk;
}

/** A block of pointers on the way to a file block. */
interface Level {
  /** Undefined: i_block. */
  readonly bh: BufferHead | undefined;
  readonly slot: number;
  /** File blocks below each pointer here, and the first one below this. */
  readonly span: number;
  readonly first: number;
}

function contentOf(inode: Ext4Inode, level: Level): Uint8Array {
  return level.bh === undefined ? rootOf(inode) : pointerBlock(inode, level.bh);
}

function writable(h: Handle, inode: Ext4Inode, level: Level): Uint8Array {
  if (level.bh === undefined) return inode.iBlock;
  const block = h.getWriteAccess(level.bh);
  own(inode, level.bh);
  return block;
}

/** Where the way below a pointer goes on. */
function below(inode: Ext4Inode, level: Level, bh: BufferHead, lblk: number): Level {
  const span = level.span / pointersOf(inode);
  const slot = Math.floor((lblk - level.first) / span);
  return { bh, slot, span, first: level.first + slot * span };
}

/** Past the blocks of pointers that are missing: the way ends at the pointer that is zero, or at that of the file block. */
function* findPath(inode: Ext4Inode, lblk: number, place: Place): Task<Level[]> {
  let level: Level = { bh: undefined, slot: place.root, span: place.span, first: place.first };
  const path = [level];
  for (let levels = place.levels; levels > 0; levels--) {
    const pointer = pointerAt(contentOf(inode, level), level.slot);
    if (pointer === 0) break;
    const bh = yield* wait(inode.sb.read(pointer));
    pointerBlock(inode, bh);
    level = below(inode, level, bh, lblk);
    path.push(level);
  }
  return path;
}

/** With bigalloc nobody has ever allocated for such a file, and what shares a cluster could not be found. */
function refuseClusters(inode: Ext4Inode): void {
  if (inode.sb.clusterRatio > 1) inode.sb.corrupted(`inode ${inode.ino}: block pointers on a volume of clusters`);
}

/**
 * Maps [lblk, lblk + count), which is a hole, to blocks from `pblk`. The inode is under modifyInode.
 *
 * Errors: ENOSPC, EDQUOT of a block of pointers; EUCLEAN, EIO.
 */
export function* insertPointers(h: Handle, inode: Ext4Inode, lblk: number, pblk: number, count: number): Task<void> {
  refuseClusters(inode);
  assert(pblk + count <= INDIRECT_BLOCK_END, 'a pointer has 32 bits');
  for (let done = 0; done < count; ) {
    const at = lblk + done;
    const place = placeOf(inode, at);
    assert(place !== undefined, `block ${at} has a pointer`);
    const path = yield* findPath(inode, at, place);
    let level = path.at(-1) as Level;
    for (let levels = path.length - 1; levels < place.levels; levels++) {
      const goal = level.bh?.blocknr ?? pblk;
      const options = { goal: goal > 0 ? goal : goalOf(inode), count: 1, end: INDIRECT_BLOCK_END, useReserved: true };
      const { start } = yield* allocBlocks(h, inode, options);
      if (path.some(({ bh }) => bh?.blocknr === start)) inode.sb.corrupted(`inode ${inode.ino}: block ${start} was not free`);
      setPointer(writable(h, inode, level), level.slot, start);
      const bh = h.getCreateAccess(start);
      own(inode, bh);
      level = below(inode, level, bh, at);
    }
    const block = writable(h, inode, level);
    const end = level.bh === undefined ? level.slot + 1 : pointersOf(inode);
    for (let slot = level.slot; slot < end && done < count; slot++, done++) {
      // The caller has seen that it is a hole; it was one, unless blocks of pointers lead to one another.
      if (pointerAt(block, slot) !== 0) inode.sb.corrupted(`inode ${inode.ino}: block ${lblk + done} is mapped already`);
      setPointer(block, slot, pblk + done);
    }
  }
}

/**
 * Unmaps [start, end) from the end on and frees its blocks, as far as the handle has credits. The inode is under modifyInode.
 *
 * Shape:  the block below which there is still something to do; `start` when it is done.
 * Errors: EUCLEAN, EIO.
 */
export function* removePointers(h: Handle, inode: Ext4Inode, start: number, end: number, isJournalled: boolean): Task<number> {
  refuseClusters(inode);
  const pointers = pointersOf(inode);
  const last = EXT4_NDIR_BLOCKS + pointers + pointers ** 2 + pointers ** 3;
  for (let at = Math.min(end, last); at > start; ) {
    if (h.credits < STEP_CREDITS && !h.extend(STEP_CREDITS)) return at;
    const place = placeOf(inode, at - 1) as Place;
    const path = yield* findPath(inode, at - 1, place);
    const level = path.at(-1) as Level;
    const block = contentOf(inode, level);
    const pointer = pointerAt(block, level.slot);
    if (pointer === 0) {
      at = level.first;
      yield* dropEmpty(h, inode, path);
      continue;
    }
    // A run of neighbours, backwards.
    let count = 1;
    const most = Math.min(at - start, level.bh === undefined ? 1 : level.slot + 1);
    while (count < most && pointerAt(block, level.slot - count) === pointer - count) count++;
    const changed = writable(h, inode, level);
    for (let i = 0; i < count; i++) setPointer(changed, level.slot - i, 0);
    yield* freeBlocks(h, inode, pointer - count + 1, count, isJournalled);
    at -= count;
    yield* dropEmpty(h, inode, path);
  }
  return start;
}

/** Frees the blocks of pointers at the end of the way that have none left. */
function* dropEmpty(h: Handle, inode: Ext4Inode, path: readonly Level[]): Task<void> {
  for (let i = path.length - 1; i > 0; i--) {
    const { bh } = path[i] as Level;
    if (bh === undefined || hasPointers(pointerBlock(inode, bh))) return;
    const parent = path[i - 1] as Level;
    setPointer(writable(h, inode, parent), parent.slot, 0);
    yield* freeBlocks(h, inode, bh.blocknr, 1, true);
  }
}

function hasPointers(block: Uint8Array): boolean {
  return block.some((byte) => byte !== 0);
}

/** Blocks of pointers that the file has. Errors: EUCLEAN, EIO. */
export function* countPointerBlocks(inode: Ext4Inode): Task<number> {
  let total = 0;
  for (let levels = 1; levels <= 3; levels++) {
    const pointer = pointerAt(rootOf(inode), EXT4_NDIR_BLOCKS + levels - 1);
    if (pointer !== 0) total = yield* countBelow(inode, pointer, levels, total);
  }
  return total;
}

/** `before`, and the blocks of pointers from this one down. */
function* countBelow(inode: Ext4Inode, blocknr: number, levels: number, before: number): Task<number> {
  const { sb } = inode;
  let total = before + 1;
  // Blocks that lead to one another could keep us busy for long.
  if (total > sb.es.blocksCount) sb.corrupted(`inode ${inode.ino} has more blocks than the volume`);
  if (levels === 1) return total;
  const bh = yield* wait(sb.read(blocknr));
  for (let slot = 0; slot < pointersOf(inode); slot++) {
    const pointer = pointerAt(pointerBlock(inode, bh), slot);
    if (pointer !== 0) total = yield* countBelow(inode, pointer, levels - 1, total);
  }
  return total;
}

/** Blocks that the insertion of `blocks` neighbours touches at most: blocks of pointers, each new with its bitmap and descriptor. */
export function creditsForPointers(inode: Ext4Inode, blocks: number): number {
  const pointers = pointersOf(inode);
  const singles = blocks <= 1 ? 1 : 1 + Math.ceil(blocks / pointers);
  const doubles = singles === 1 ? 1 : 1 + Math.ceil(singles / pointers);
  return 3 * (singles + doubles + 1);
}
