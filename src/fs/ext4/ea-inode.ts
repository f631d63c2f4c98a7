import { crc32c } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import { S_IFREG } from '../../vfs/uapi.ts';
import { charge } from './block-alloc.ts';
import { appendFileBlock, creditsForRemove, initBlockMap, readFileBlock, removeBlocks } from './block-map.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { INCOMPAT_EXTENTS } from './features.ts';
import { EXT_MAX_BLOCKS, EXT4_EA_INODE_FL, EXT4_EXTENTS_FL } from './format.ts';
import { allocInode, freeInode } from './inode-alloc.ts';
import { getInode, modifyInode } from './inode-table.ts';
import { addOrphan } from './orphan.ts';
import { hashInodeEntry, type XattrEntry } from './xattr-format.ts';

// Values that lie in an inode of their own (feature ea_inode). Such an inode has no name and no attributes; its i_atime is the checksum of the
// value, and how many blocks and inodes refer to it stands in i_ctime (high word) and i_version (low word). Source: Linux fs/ext4/xattr.c

const VALUE_MODE = S_IFREG | 0o600;
/** Blocks that making or freeing an inode with a value touches beside those of the value: inode, bitmaps, descriptors, a block of the map. */
export const VALUE_CREDITS = 24;

/** Makes sure that so many blocks may still join. Errors: ENOSPC where the transaction has no room for them. */
export function needCredits(h: Handle, credits: number): void {
  if (h.credits < credits && !h.extend(credits - h.credits))
    throw new FsError('ENOSPC', 'setxattr', { detail: 'too large for the journal' });
}

/** Counts a value in an inode for the inode that has the attribute, as if it were not shared. `sign`: 1 or -1. */
export function* chargeValue(h: Handle, owner: Ext4Inode, size: number, sign: 1 | -1): Task<void> {
  const clusterSize = owner.sb.clusterRatio * owner.sb.blockSize;
  yield* charge(h, owner, sign * Math.ceil(size / clusterSize) * clusterSize);
  yield* owner.sb.quota.chargeInodes(h, owner, sign);
}

/**
 * A new inode with this value and one reference, charged to `owner`.
 *
 * Shape:   number of the inode, and the checksum of the value.
 * Errors:  ENOSPC, EDQUOT.
 */
export function* createValue(h: Handle, owner: Ext4Inode, value: Uint8Array): Task<{ inum: number; checksum: number }> {
  const { sb } = owner;
  const credits = Math.ceil(value.length / sb.blockSize) + VALUE_CREDITS;
  if (h.credits < credits && !h.extend(credits - h.credits))
    throw new FsError('ENOSPC', 'setxattr', { detail: 'too large for the journal' });
  yield* chargeValue(h, owner, value.length, 1);
  const inode = yield* allocInode(h, sb, owner, VALUE_MODE);
  yield* modifyInode(h, inode);
  inode.uid = owner.uid;
  inode.gid = owner.gid;
  inode.nlink = 1;
  inode.flags = sb.es.hasIncompat(INCOMPAT_EXTENTS) ? EXT4_EA_INODE_FL | EXT4_EXTENTS_FL : EXT4_EA_INODE_FL;
  yield* initBlockMap(h, inode);
  for (let pos = 0; pos < value.length; pos += sb.blockSize) {
    const { bh } = yield* appendFileBlock(h, inode);
    bh.data.set(value.subarray(pos, pos + sb.blockSize));
  }
  const checksum = crc32c(sb.csumSeed, value);
  inode.size = value.length;
  inode.atime = { sec: checksum | 0, nsec: 0 };
  setReferences(inode, 1);
  return { inum: inode.ino, checksum };
}

/** The value of an entry of `owner`. Errors: EUCLEAN where inode and entry do not fit each other. */
export function* readValue(owner: Ext4Inode, entry: XattrEntry): Task<Uint8Array> {
  const { sb } = owner;
  const inode = yield* getValueInode(sb, entry.inum);
  if (inode.size !== entry.size) sb.corrupted(`inode ${entry.inum} has ${inode.size} of the ${entry.size} bytes of a value`);
  const value = new Uint8Array(inode.size);
  for (let pos = 0; pos < value.length; pos += sb.blockSize) {
    const bh = yield* readFileBlock(inode, pos / sb.blockSize);
    if (bh === undefined) return sb.corrupted(`inode ${entry.inum} has no block for byte ${pos} of a value`);
    value.set(bh.data.subarray(0, Math.min(sb.blockSize, value.length - pos)), pos);
  }
  // An older form says by other fields whose value it is, and has no checksum.
  if (inode.mtime.sec >>> 0 === owner.ino && inode.generation === owner.generation) return value;
  const checksum = crc32c(sb.csumSeed, value);
  const isRight = [false, true].some((isSigned) => hashInodeEntry(entry.name, checksum, isSigned) === entry.hash);
  if (checksum !== inode.atime.sec >>> 0 || !isRight) sb.corrupted(`inode ${entry.inum} has not the value that its attribute tells`);
  return value;
}

export function* refValue(h: Handle, sb: Ext4Sb, inum: number): Task<void> {
  const inode = yield* getValueInode(sb, inum);
  yield* modifyInode(h, inode);
  setReferences(inode, referencesOf(inode) + 1);
}

/** Drops one reference; the last one frees the inode. */
export function* derefValue(h: Handle, sb: Ext4Sb, inum: number): Task<void> {
  const inode = yield* getValueInode(sb, inum);
  const references = referencesOf(inode);
  if (references === 0) sb.corrupted(`inode ${inum}, a value without references, is referred to`);
  yield* modifyInode(h, inode);
  setReferences(inode, references - 1);
  if (references > 1) return;
  inode.nlink = 0;
  for (let end = EXT_MAX_BLOCKS; inode.blocks > 0; ) {
    const left = yield* removeBlocks(h, inode, 0, end);
    if (left === 0) break;
    end = left;
    if (h.extend(creditsForRemove(inode))) continue;
    yield* addOrphan(h, inode); // scattered over so many groups that the rest is left to the next mount
    return;
  }
  yield* freeInode(h, inode);
}

function referencesOf(inode: Ext4Inode): number {
  if (inode.ctime.sec >>> 0 >= 2 ** 20) inode.sb.corrupted(`inode ${inode.ino}, a value, with too many references`);
  return (inode.ctime.sec >>> 0) * 2 ** 32 + (inode.version % 2 ** 32);
}

function setReferences(inode: Ext4Inode, references: number): void {
  inode.ctime = { sec: Math.floor(references / 2 ** 32) | 0, nsec: 0 };
  inode.version = references % 2 ** 32;
}

function* getValueInode(sb: Ext4Sb, inum: number): Task<Ext4Inode> {
  if (inum < sb.es.firstIno || inum > sb.es.inodesCount) sb.corrupted(`inode ${inum} for the value of an attribute`);
  const inode = yield* getInode(sb, inum);
  if ((inode.flags & EXT4_EA_INODE_FL) === 0 || !inode.isRegular || inode.nlink === 0 || inode.fileAcl !== 0 || inode.hasInlineData) {
    sb.corrupted(`inode ${inum} holds no value of an attribute`);
  }
  return inode;
}
