import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { isDirectory } from '../../vfs/uapi.ts';
import { CHECKED_BITMAP, CHECKED_ITABLE } from './checked.ts';
import { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT, EXT4_ROOT_INO, EXT4_TOPDIR_FL } from './format.ts';
import { clearInode, modifyInode } from './inode-table.ts';

/**
 * A new inode near its parent: its bit set, its record cleared, without names, in core and under modifyInode. Owner, times and flags are the
 * caller's, who charges it to the quota when the owner is known (chargeNewInode).
 *
 * Errors: ENOSPC; EUCLEAN, EBADMSG where no group's bitmap can be believed.
 */
export function* allocInode(h: Handle, sb: Ext4Sb, parent: Ext4Inode, mode: number): Task<Ext4Inode> {
  const { es, groups } = sb;
  if (es.freeInodes <= 0) throw new FsError('ENOSPC', 'create', { detail: 'no free inodes' });
  const home = isDirectory(mode) ? groupForDirectory(sb, parent) : groupOfIno(sb, parent.ino);
  for (let i = 0; i < es.groupCount; i++) {
    const g = (home + i) % es.groupCount;
    if (groups.freeInodes[g] === 0) continue;
    const bits = yield* inodeBitmap(h, sb, g);
    if (bits === undefined) continue;
    const first = Math.max(0, Math.min(es.inodesPerGroup, es.firstIno - 1 - g * es.inodesPerGroup));
    const index = firstClear(bits, first, es.inodesPerGroup);
    if (index < 0) continue;
    return yield* take(h, sb, g, index, bits, mode);
  }
  throw new FsError('ENOSPC', 'create', { detail: 'no free inodes' });
}

/**
 * The inode with this number, which is free: as allocInode().
 *
 * Errors: EUCLEAN, EBADMSG where its group's bitmap cannot be believed.
 */
export function* claimInode(h: Handle, sb: Ext4Sb, ino: number, mode: number): Task<Ext4Inode> {
  const g = groupOfIno(sb, ino);
  const bits = yield* inodeBitmap(h, sb, g);
  if (bits === undefined) return sb.corrupted(`inode ${ino} is in a group without a bitmap`);
  return yield* take(h, sb, g, (ino - 1) % sb.es.inodesPerGroup, bits, mode);
}

/** Does the bitmap say that the number is in use? Errors: EUCLEAN, EBADMSG, EIO. */
export function* isInodeInUse(sb: Ext4Sb, ino: number): Task<boolean> {
  const { groups } = sb;
  const g = groupOfIno(sb, ino);
  if (((groups.flags[g] as number) & EXT4_BG_INODE_UNINIT) !== 0) return false;
  const bh = yield* wait(sb.read(groups.inodeBitmap[g] as number));
  yield* checkInodeBitmap(sb, g, bh);
  const index = (ino - 1) % sb.es.inodesPerGroup;
  return ((bh.data[index >>> 3] as number) & (1 << (index & 7))) !== 0;
}

function groupOfIno(sb: Ext4Sb, ino: number): number {
  return Math.floor((ino - 1) / sb.es.inodesPerGroup);
}

/**
 * Directories of the top are spread, so that each tree has room around it; others stay near their parent unless it is full there.
 * Source: the idea of M. Orlov's allocator.
 */
function groupForDirectory(sb: Ext4Sb, parent: Ext4Inode): number {
  const { es, groups } = sb;
  const home = groupOfIno(sb, parent.ino);
  const flex = es.groupsPerFlex;
  const inodesAverage = es.freeInodes / es.groupCount;
  const clustersAverage = es.freeClusters / es.groupCount;
  const isTop = parent.ino === EXT4_ROOT_INO || (parent.flags & EXT4_TOPDIR_FL) !== 0;
  if (isTop) {
    const start = sb.env.prng.below(es.groupCount);
    let best = -1;
    let fewest = Number.POSITIVE_INFINITY;
    for (let i = 0; i < es.groupCount; i++) {
      const g = (start + i) % es.groupCount;
      if ((groups.freeInodes[g] as number) < inodesAverage || (groups.freeClusters[g] as number) < clustersAverage) continue;
      if (groups.freeInodes[g] === 0 || (groups.usedDirs[g] as number) >= fewest) continue;
      best = g;
      fewest = groups.usedDirs[g] as number;
    }
    if (best >= 0) return best;
  }
  const dirs = groups.usedDirs.reduce((sum, count) => sum + count, 0) / es.groupCount;
  for (let i = 0; i < es.groupCount; i++) {
    const g = (home + i) % es.groupCount;
    const hasRoom =
      (groups.usedDirs[g] as number) <= dirs + es.inodesPerGroup / 16 &&
      (groups.freeInodes[g] as number) >= Math.max(1, inodesAverage - (es.inodesPerGroup * flex) / 4) &&
      (groups.freeClusters[g] as number) >= clustersAverage - (es.clustersPerGroup * flex) / 4;
    if (hasRoom) return g;
  }
  return home;
}

/** The inode bitmap of a group, to be changed; undefined where it cannot be believed. */
function* inodeBitmap(h: Handle, sb: Ext4Sb, g: number): Task<Uint8Array | undefined> {
  const { es, groups } = sb;
  const block = groups.inodeBitmap[g] as number;
  if (((groups.flags[g] as number) & EXT4_BG_INODE_UNINIT) !== 0) {
    yield* groups.modify(h, g);
    const bh = h.getCreateAccess(block);
    bh.data.fill(0xff, es.inodesPerGroup / 8);
    bh.checked = CHECKED_BITMAP;
    groups.flags[g] = (groups.flags[g] as number) & ~EXT4_BG_INODE_UNINIT;
    return bh.data;
  }
  const bh = yield* wait(sb.read(block));
  try {
    yield* checkInodeBitmap(sb, g, bh);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    sb.noteError(error, 0, block);
    return undefined;
  }
  return h.getWriteAccess(bh);
}

function* checkInodeBitmap(sb: Ext4Sb, g: number, bh: BufferHead): Task<void> {
  if (bh.checked === CHECKED_BITMAP) return;
  const { groups } = sb;
  const sums = yield* groups.storedSums(g);
  if (sums !== undefined && (groups.inodeBitmapSum(bh.data) & sums.mask) >>> 0 !== sums.inode) {
    sb.corrupted(`checksum of the inode bitmap of group ${g}`, 'EBADMSG');
  }
  bh.checked = CHECKED_BITMAP;
}

function firstClear(bits: Uint8Array, from: number, to: number): number {
  for (let bit = from; bit < to; bit++) {
    const byte = bits[bit >>> 3] as number;
    if (byte === 0xff) bit |= 7;
    else if ((byte & (1 << (bit & 7))) === 0) return bit;
  }
  return -1;
}

function* take(h: Handle, sb: Ext4Sb, g: number, index: number, bits: Uint8Array, mode: number): Task<Ext4Inode> {
  const { es, groups } = sb;
  const ino = g * es.inodesPerGroup + index + 1;
  yield* groups.modify(h, g);
  // As everybody who has written such an image: a group with inodes in use has a block bitmap.
  if (((groups.flags[g] as number) & EXT4_BG_BLOCK_UNINIT) !== 0) yield* sb.allocator.bitmap(h, g);
  bits[index >>> 3] = (bits[index >>> 3] as number) | (1 << (index & 7));
  groups.freeInodes[g] = (groups.freeInodes[g] as number) - 1;
  es.freeInodes--;
  if (isDirectory(mode)) groups.usedDirs[g] = (groups.usedDirs[g] as number) + 1;

  const { block, offset } = groups.placeOf(ino);
  const used = es.inodesPerGroup - (groups.itableUnused[g] as number);
  const inBlock = es.blockSize / es.inodeSize;
  const firstInBlock = index - (index % inBlock);
  const isFresh = groups.hasChecksums && firstInBlock >= used;
  if (groups.hasChecksums && index >= used) groups.itableUnused[g] = es.inodesPerGroup - (index + 1);
  // A block of the table that was never used is not read: it may hold anything.
  const bh = isFresh ? h.getCreateAccess(block) : yield* wait(sb.read(block));
  const data = h.getWriteAccess(bh);
  bh.checked = CHECKED_ITABLE;
  const wasGeneration = readGeneration(data, offset);
  data.fill(0, offset, offset + es.inodeSize);

  const inode = new Ext4Inode(sb, ino);
  const before = sb.inodes.get(ino);
  sb.inodes.set(ino, inode);
  h.onRollback(() => {
    if (before === undefined) sb.inodes.delete(ino);
    else sb.inodes.set(ino, before);
  });
  clearInode(inode, mode);
  yield* modifyInode(h, inode);
  do inode.generation = sb.env.prng.u32();
  while (inode.generation === wasGeneration);
  return inode;
}

function readGeneration(data: Uint8Array, offset: number): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(offset + 0x64, true);
}

/** The owner of a new inode is known. Errors: EDQUOT. */
export function* chargeNewInode(h: Handle, inode: Ext4Inode): Task<void> {
  yield* inode.sb.quota.chargeInodes(h, inode, 1);
}

/**
 * The end of an inode: without names, blocks and attributes. Its record says so, and its number is free.
 *
 * Errors: EUCLEAN where the bitmap says that it is free already.
 */
export function* freeInode(h: Handle, inode: Ext4Inode): Task<void> {
  const { sb, ino } = inode;
  const { es, groups } = sb;
  const g = groupOfIno(sb, ino);
  const index = (ino - 1) % es.inodesPerGroup;
  if (ino < es.firstIno) sb.corrupted(`inode ${ino} is not for files`);
  yield* modifyInode(h, inode);
  yield* sb.quota.chargeInodes(h, inode, -1);
  inode.dtime = Math.max(1, sb.env.now().sec) % 2 ** 32;
  inode.size = 0;
  inode.nlink = 0;
  yield* groups.modify(h, g);
  const bits = yield* inodeBitmap(h, sb, g);
  if (bits === undefined || ((bits[index >>> 3] as number) & (1 << (index & 7))) === 0) return sb.corrupted(`inode ${ino} is free already`);
  bits[index >>> 3] = (bits[index >>> 3] as number) & ~(1 << (index & 7));
  groups.freeInodes[g] = (groups.freeInodes[g] as number) + 1;
  es.freeInodes++;
  if (inode.isDirectory) groups.usedDirs[g] = (groups.usedDirs[g] as number) - 1;
}
