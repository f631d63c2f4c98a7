import { assert } from '../../base/assert.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { allocBlocks, goalOf } from './block-alloc.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { BlockMapping } from './extent-node.ts';
import * as extents from './extent-tree.ts';
import { EXT_MAX_BLOCKS, EXT4_EA_INODE_FL, EXT4_GOOD_OLD_FIRST_INO, EXT4_JOURNAL_DATA_FL } from './format.ts';
import * as indirect from './indirect.ts';
import { modifyInode, sizeMaxOf } from './inode-table.ts';

// Which block of the volume holds which block of a file, whatever form the map has: an extent tree or block pointers. For inodes that have
// their data in blocks: inline data, short links and devices have other things in i_block.

export type { BlockMapping } from './extent-node.ts';
export type { ShiftRest } from './extent-tree.ts';

/** A mapping to be filled by mapBlocks: make one and use it again. */
export function newMapping(): BlockMapping {
  return { lblk: 0, count: 0, pblk: 0, isUnwritten: false };
}

/** A map without blocks. */
export function* initBlockMap(h: Handle, inode: Ext4Inode): Task<void> {
  yield* modifyInode(h, inode);
  inode.isMapChanged = true;
  if (inode.hasExtents) extents.initExtents(inode);
  else inode.iBlock.fill(0);
}

/** One past the last file block that can be mapped. */
export function lblkEndOf(inode: Ext4Inode): number {
  return Math.min(EXT_MAX_BLOCKS, Math.floor(sizeMaxOf(inode) / inode.sb.blockSize));
}

/** AllocOptions.end for blocks of this file. */
export function blockEndOf(inode: Ext4Inode): number {
  return inode.hasExtents ? Number.POSITIVE_INFINITY : indirect.INDIRECT_BLOCK_END;
}

// ---- map

/**
 * Fills `into` with the extent or hole that contains `lblk`, if what has to be known is in core.
 *
 * Shape:  0, or a block that has to be read first: mapBlocks does it. The extent begins at `lblk` or before; neighbours that continue it are
 *         a part of it. A hole goes on to the next extent; of one between block pointers it may be a part.
 * Errors: EUCLEAN, EBADMSG.
 */
export function tryMapBlocks(inode: Ext4Inode, lblk: number, into: BlockMapping): number {
  assert(lblk >= 0 && lblk < EXT_MAX_BLOCKS, `file block ${lblk}`);
  return inode.hasExtents ? extents.lookupExtent(inode, lblk, into) : indirect.lookupPointer(inode, lblk, into);
}

/** The extent or hole that contains `lblk`, as tryMapBlocks; the same object comes back. Errors: EUCLEAN, EBADMSG, EIO. */
export function* mapBlocks(inode: Ext4Inode, lblk: number, into: BlockMapping = newMapping()): Task<BlockMapping> {
  for (let missing = tryMapBlocks(inode, lblk, into); missing !== 0; missing = tryMapBlocks(inode, lblk, into)) {
    yield* wait(inode.sb.read(missing));
  }
  return into;
}

/**
 * Calls `visit` for what is mapped of [start, end), in order, trimmed to it. The mapping is valid during the call.
 *
 * Errors: EUCLEAN, EBADMSG, EIO.
 */
export function* forEachExtent(inode: Ext4Inode, start: number, end: number, visit: (mapping: BlockMapping) => void): Task<void> {
  const { sb } = inode;
  const mapping = newMapping();
  let total = 0;
  for (let at = start; at < Math.min(end, EXT_MAX_BLOCKS); ) {
    yield* mapBlocks(inode, at, mapping);
    const next = mapping.lblk + mapping.count;
    if (mapping.pblk !== 0) {
      mapping.pblk += at - mapping.lblk;
      mapping.lblk = at;
      mapping.count = Math.min(end, next) - at;
      // Pointers that lie can name the same blocks over and over.
      total += mapping.count;
      if (total > sb.es.blocksCount) sb.corrupted(`inode ${inode.ino} has more blocks than the volume`);
      visit(mapping);
    }
    at = next;
  }
}

/** First block of the cluster that file blocks around `lblk` have already, so that it has to be in there, too. Undefined: none. */
export function* findCluster(inode: Ext4Inode, lblk: number): Task<number | undefined> {
  const { clusterRatio } = inode.sb;
  const first = lblk - (lblk % clusterRatio);
  let cluster: number | undefined;
  yield* forEachExtent(inode, first, first + clusterRatio, (mapping) => {
    cluster ??= mapping.pblk - (mapping.lblk - first);
  });
  return cluster;
}

/** Blocks that the map takes beside i_block. */
export function* countTreeBlocks(inode: Ext4Inode): Task<number> {
  return inode.hasExtents ? yield* extents.countNodes(inode) : yield* indirect.countPointerBlocks(inode);
}

// ---- change

/**
 * Maps [lblk, lblk + count), which is a hole, to blocks from `pblk`, which are the inode's already.
 *
 * Errors: EFBIG past lblkEndOf(); EOPNOTSUPP for unwritten blocks of a file without extents; ENOSPC, EDQUOT of a block for the map; EUCLEAN,
 *         EBADMSG, EIO.
 */
export function* insertBlocks(h: Handle, inode: Ext4Inode, lblk: number, pblk: number, count: number, isUnwritten: boolean): Task<void> {
  assert(lblk >= 0 && count > 0 && pblk > 0, `${count} blocks at ${pblk} for file block ${lblk}`);
  if (lblk + count > lblkEndOf(inode)) throw new FsError('EFBIG', 'write', { detail: inode.place });
  if (isUnwritten) needExtents(inode);
  yield* modifyInode(h, inode);
  inode.isMapChanged = true;
  if (inode.hasExtents) yield* extents.insertExtents(h, inode, lblk, pblk, count, isUnwritten);
  else yield* indirect.insertPointers(h, inode, lblk, pblk, count);
}

/**
 * Makes [lblk, lblk + count), all of which is mapped, written or unwritten; what is so already stays.
 *
 * Errors: EOPNOTSUPP for unwritten blocks of a file without extents; ENOSPC only when not even what is kept back has a block for the map;
 *         EUCLEAN, EBADMSG, EIO.
 */
export function* convertBlocks(h: Handle, inode: Ext4Inode, lblk: number, count: number, toUnwritten: boolean): Task<void> {
  if (toUnwritten) needExtents(inode);
  if (!inode.hasExtents) return;
  yield* modifyInode(h, inode);
  inode.isMapChanged = true;
  yield* extents.convertExtents(h, inode, lblk, count, toUnwritten);
}

function needExtents(inode: Ext4Inode): void {
  if (!inode.hasExtents) throw new FsError('EOPNOTSUPP', 'fallocate', { detail: inode.place });
}

/**
 * Unmaps [start, end) from the end on and frees its blocks, as far as the handle has credits: a step needs creditsForRemove(). In between
 * everything is whole.
 *
 * Shape:  the block below which there is still something to do, for the next call with a handle that was restarted; `start` when it is done.
 * Errors: EUCLEAN, EBADMSG, EIO; ENOSPC as convertBlocks, where a hole is made inside of an extent.
 */
export function* removeBlocks(h: Handle, inode: Ext4Inode, start: number, end: number): Task<number> {
  yield* modifyInode(h, inode);
  inode.isMapChanged = true;
  const isJournalled = isDataJournalled(inode);
  const stop = Math.min(end, EXT_MAX_BLOCKS);
  if (stop <= start) return start;
  if (inode.hasExtents) return yield* extents.removeExtents(h, inode, start, stop, isJournalled);
  return yield* indirect.removePointers(h, inode, start, stop, isJournalled);
}

/** Do the blocks of this file's data go through the log? Then they have to be forgotten there when they are freed. */
export function isDataJournalled(inode: Ext4Inode): boolean {
  const { sb } = inode;
  return (
    sb.journalsData ||
    !inode.isRegular ||
    inode.ino < EXT4_GOOD_OLD_FIRST_INO ||
    (inode.flags & (EXT4_JOURNAL_DATA_FL | EXT4_EA_INODE_FL)) !== 0
  );
}

/**
 * Moves all extents that begin in [from, end) by to - from file blocks, as far as the handle has credits: a step needs creditsForRemove().
 * Where they go to is a hole. To the right, an extent that goes over `from` is cut there.
 *
 * Shape:  what is still to be done, for the next call with a handle that was restarted; undefined when it is done. In between the map is
 *         whole, and what was moved are the extents at the far end in the direction of the move.
 * Errors: EOPNOTSUPP without extents; EFBIG past the last file block, EINVAL for parts of clusters; ENOSPC, EUCLEAN, EBADMSG, EIO.
 */
export function* shiftExtents(
  h: Handle,
  inode: Ext4Inode,
  from: number,
  to: number,
  end: number = EXT_MAX_BLOCKS,
): Task<extents.ShiftRest | undefined> {
  needExtents(inode);
  if ((to - from) % inode.sb.clusterRatio !== 0 || to < 0) throw new FsError('EINVAL', 'fallocate', { detail: inode.place });
  yield* modifyInode(h, inode);
  inode.isMapChanged = true;
  return yield* extents.shiftTree(h, inode, { from, to, end });
}

/**
 * Blocks that mapping or converting `count` extents in one range of the file touches at most, without the inode's and those of the blocks
 * themselves. `blocks`: of the range, for block pointers.
 */
export function creditsForInsert(inode: Ext4Inode, count: number, blocks: number = count): number {
  return inode.hasExtents ? extents.creditsForExtents(inode, count) : indirect.creditsForPointers(inode, blocks);
}

/** Blocks that one step of removeBlocks or shiftExtents touches at most, without the inode's. */
export function creditsForRemove(inode: Ext4Inode): number {
  return inode.hasExtents ? extents.creditsForStep(inode) : indirect.STEP_CREDITS;
}

// ---- files whose blocks are metadata: directories, long links, attribute values, quota, orphans

/** The block of a file, or undefined for one that is not written. Errors: EUCLEAN, EBADMSG, EIO. */
export function* readFileBlock(inode: Ext4Inode, lblk: number): Task<BufferHead | undefined> {
  const mapping = yield* mapBlocks(inode, lblk);
  if (mapping.pblk === 0 || mapping.isUnwritten) return undefined;
  return yield* wait(inode.sb.read(mapping.pblk + (lblk - mapping.lblk)));
}

/**
 * A new block at the end of a file, all zero and open for change in the handle; the size is that of whole blocks then.
 *
 * Errors: EFBIG, ENOSPC, EDQUOT; EUCLEAN, EBADMSG, EIO.
 */
export function* appendFileBlock(h: Handle, inode: Ext4Inode): Task<{ lblk: number; bh: BufferHead }> {
  const { blockSize } = inode.sb;
  yield* modifyInode(h, inode);
  const lblk = Math.ceil(inode.size / blockSize);
  if (lblk >= lblkEndOf(inode)) throw new FsError('EFBIG', 'write', { detail: inode.place });
  const pblk = yield* fileBlockFor(h, inode, lblk);
  const bh = h.getCreateAccess(pblk);
  inode.size = (lblk + 1) * blockSize;
  return { lblk, bh };
}

/** The block of the volume for a file block: the one it has, one of a cluster that the file has, or a new one behind the block before. */
function* fileBlockFor(h: Handle, inode: Ext4Inode, lblk: number): Task<number> {
  const { clusterRatio } = inode.sb;
  const mapping = yield* mapBlocks(inode, lblk);
  if (mapping.pblk !== 0) {
    if (mapping.isUnwritten) yield* convertBlocks(h, inode, lblk, 1, false);
    return mapping.pblk + (lblk - mapping.lblk);
  }
  let cluster = clusterRatio > 1 ? yield* findCluster(inode, lblk) : undefined;
  if (cluster === undefined) {
    const before = lblk > 0 ? yield* mapBlocks(inode, lblk - 1, mapping) : undefined;
    const goal = before === undefined || before.pblk === 0 ? goalOf(inode) : before.pblk + (lblk - before.lblk);
    const run = yield* allocBlocks(h, inode, { goal, count: 1, end: blockEndOf(inode) });
    cluster = run.start;
  }
  const pblk = cluster + (lblk % clusterRatio);
  yield* insertBlocks(h, inode, lblk, pblk, 1, false);
  return pblk;
}

/** Begins to read blocks of a file, and waits for the map at most. Errors: EUCLEAN, EBADMSG, EIO of the map. */
export function* readAheadFile(inode: Ext4Inode, lblk: number, count: number): Task<void> {
  yield* forEachExtent(inode, lblk, lblk + count, (mapping) => {
    if (!mapping.isUnwritten) void inode.sb.buffers.readAhead(mapping.pblk, mapping.count);
  });
}
