import { assert } from '../../base/assert.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { allocBlocks, charge, freeBlocks, goalOf } from './block-alloc.ts';
import { CHECKED_XATTR } from './checked.ts';
import { chargeValue, derefValue, needCredits, refValue, VALUE_CREDITS } from './ea-inode.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { modifyInode } from './inode-table.ts';
import {
  BLOCK_AREA,
  checksumBlock,
  compareKeys,
  EXT4_XATTR_MAGIC,
  EXT4_XATTR_REFCOUNT_MAX,
  ext4_xattr_header,
  freeSpace,
  hashBlock,
  hashEntry,
  isSameValue,
  packEntries,
  parseEntries,
  type XattrEntry,
} from './xattr-format.ts';

// The block of attributes that i_file_acl leads to. Inodes with the same attributes may share one: h_refcount says how many do, and who
// changes it while others have it takes a copy. Invariants:
// 1. A block of refcount 1 is the inode's own, and changed in place.
// 2. A block holds one reference on each inode that has a value of it, however many share the block.
// 3. Each inode pays for the whole block and for all values of it in inodes, in i_blocks and quota, as if nothing were shared.

/** Blocks by their hash that may be shared, of one volume. */
type ShareableBlocks = Map<number, number>;
const SHAREABLE_MAX = 1024;
const SHAREABLE = new WeakMap<Ext4Sb, ShareableBlocks>();

/** Block numbers by h_hash. What stands here is looked at before it is used, and leaves when the block is changed or freed. */
function shareableOf(sb: Ext4Sb): ShareableBlocks {
  let blocks = SHAREABLE.get(sb);
  if (blocks === undefined) SHAREABLE.set(sb, (blocks = new Map()));
  return blocks;
}

const header = ext4_xattr_header.view();

/** The inode's block, checked. Errors: EUCLEAN, EBADMSG. */
function* readBlock(sb: Ext4Sb, blocknr: number): Task<BufferHead> {
  if (!sb.isDataRange(blocknr, 1)) sb.corrupted(`attributes at block ${blocknr}`);
  const bh = yield* wait(sb.read(blocknr));
  if (bh.checked === CHECKED_XATTR) return bh;
  const bad = (what: string): never => sb.corrupted(`attributes at block ${blocknr}: ${what}`);
  const { h_magic, h_refcount, h_blocks, h_hash, h_checksum } = header.at(bh.data);
  if (h_magic !== EXT4_XATTR_MAGIC) bad(`magic ${h_magic.toString(16)}`);
  if (h_blocks !== 1) bad(`${h_blocks} blocks`);
  if (sb.hasCsum && h_checksum !== checksumBlock(sb.csumSeed, blocknr, bh.data)) {
    sb.corrupted(`checksum of attributes at block ${blocknr}`, 'EBADMSG');
  }
  if (h_refcount === 0 || h_refcount > EXT4_XATTR_REFCOUNT_MAX) bad(`${h_refcount} references`);
  const entries = parseEntries(bh.data, BLOCK_AREA, `attributes at block ${blocknr}`);
  bh.checked = CHECKED_XATTR;
  bh.decoded = entries;
  if (h_hash !== 0 && h_refcount < EXT4_XATTR_REFCOUNT_MAX) offerBlock(sb, h_hash, blocknr);
  return bh;
}

function entriesOf(bh: BufferHead): readonly XattrEntry[] {
  return (bh.decoded ??= parseEntries(bh.data, BLOCK_AREA, `attributes at block ${bh.blocknr}`)) as readonly XattrEntry[];
}

function refcountOf(bh: BufferHead): number {
  return header.at(bh.data).h_refcount;
}

/** The attributes in the inode's block, sorted; none without a block. Values are views that stay as they are when the block is written. */
export function* readBlockEntries(inode: Ext4Inode): Task<readonly XattrEntry[]> {
  return inode.fileAcl === 0 ? [] : entriesOf(yield* readBlock(inode.sb, inode.fileAcl));
}

/** Bytes that are left in a block beside these entries; below 0 where they do not fit. */
export function blockSpace(sb: Ext4Sb, entries: readonly XattrEntry[]): number {
  return freeSpace(entries, sb.blockSize, BLOCK_AREA);
}

/**
 * Replaces the attributes in the inode's block by entries that fit: in place, in a copy, in a block of somebody else that has just these, or
 * by giving the block up where there are none. References on values in inodes that are not in `entries` any more are dropped with it, those
 * that are new have been taken by the caller.
 *
 * Errors:  ENOSPC, EDQUOT.
 */
export function* writeBlockEntries(h: Handle, inode: Ext4Inode, entries: readonly XattrEntry[]): Task<void> {
  const { sb } = inode;
  assert(entries.length === 0 || blockSpace(sb, entries) >= 0, 'the entries fit');
  yield* modifyInode(h, inode);
  const next = entries.map((entry) => (entry.hash === 0 ? { ...entry, hash: hashEntry(entry.name, entry.value) } : entry));
  next.sort(compareKeys);
  if (inode.fileAcl === 0) {
    if (next.length > 0) yield* attachBlock(h, inode, next);
    return;
  }

  const bh = yield* readBlock(sb, inode.fileAcl);
  const before = entriesOf(bh);
  // One value may be that of several entries, so that what stays is said by names.
  const stays = (old: XattrEntry): boolean => next.some((entry) => entry.inum === old.inum && compareKeys(entry, old) === 0);
  const dropped = before.filter((entry) => entry.inum !== 0 && !stays(entry));
  const isShared = refcountOf(bh) > 1;
  for (const { inum, size } of dropped) {
    yield* chargeValue(h, inode, size, -1);
    if (!isShared) yield* derefValue(h, sb, inum);
  }
  if (!isShared && next.length > 0 && (yield* findTwin(sb, next, inode.fileAcl)) === undefined) {
    fillBlock(h, sb, bh, 1, next);
    return;
  }
  // The values that stay get another block that refers to them, or lose the one that did.
  const kept = before.filter((entry) => entry.inum !== 0 && stays(entry));
  assert(isShared || kept.length === 0, 'blocks with values in inodes have no twins');
  if (kept.length > 0) needCredits(h, kept.length + VALUE_CREDITS);
  for (const { inum } of kept) yield* refValue(h, sb, inum);
  yield* detachBlock(h, inode, bh);
  if (next.length > 0) yield* attachBlock(h, inode, next);
}

/**
 * Gives the inode's block up, with its references on values in inodes: the inode is deleted. Restarts the handle where there are many, with all
 * that is whole.
 */
export function* releaseBlock(h: Handle, inode: Ext4Inode): Task<void> {
  while (inode.fileAcl !== 0 && refcountOf(yield* readBlock(inode.sb, inode.fileAcl)) === 1) {
    const entries = yield* readBlockEntries(inode);
    const value = entries.find(({ inum }) => inum !== 0);
    if (value === undefined) break;
    yield* makeRoom(h);
    yield* writeBlockEntries(
      h,
      inode,
      entries.filter((entry) => entry !== value),
    );
  }
  yield* writeBlockEntries(h, inode, []);
}

/** Room for the end of one value in an inode, in this transaction or the next. */
export function* makeRoom(h: Handle): Task<void> {
  if (h.credits < VALUE_CREDITS && !h.extend(VALUE_CREDITS)) yield* wait(h.restart(2 * VALUE_CREDITS));
}

/** Gives an inode without a block one with these entries, sorted and with their hashes. */
function* attachBlock(h: Handle, inode: Ext4Inode, entries: readonly XattrEntry[]): Task<void> {
  const { sb } = inode;
  const twin = yield* findTwin(sb, entries, 0);
  if (twin !== undefined) {
    yield* charge(h, inode, sb.clusterRatio * sb.blockSize);
    setRefcount(h, sb, twin, refcountOf(twin) + 1);
    inode.fileAcl = twin.blocknr;
    return;
  }
  const { start } = yield* allocBlocks(h, inode, { goal: goalOf(inode), count: 1 });
  fillBlock(h, sb, h.getCreateAccess(start), 1, entries);
  inode.fileAcl = start;
}

/** Takes the inode's block away from it; the block is free if nobody else has it. */
function* detachBlock(h: Handle, inode: Ext4Inode, bh: BufferHead): Task<void> {
  const { sb } = inode;
  const refcount = refcountOf(bh);
  inode.fileAcl = 0;
  if (refcount > 1) {
    setRefcount(h, sb, bh, refcount - 1);
    yield* charge(h, inode, -sb.clusterRatio * sb.blockSize);
    return;
  }
  withdrawBlock(sb, bh);
  const inCluster = (bh.blocknr - sb.es.firstDataBlock) % sb.clusterRatio;
  yield* freeBlocks(h, inode, bh.blocknr - inCluster, sb.clusterRatio, true);
}

function seal(sb: Ext4Sb): (bh: BufferHead) => void {
  return (bh) => {
    header.at(bh.data).h_checksum = sb.hasCsum ? checksumBlock(sb.csumSeed, bh.blocknr, bh.data) : 0;
  };
}

function setRefcount(h: Handle, sb: Ext4Sb, bh: BufferHead, refcount: number): void {
  const data = h.getWriteAccess(bh);
  header.at(data).h_refcount = refcount;
  bh.seal = seal(sb);
}

function fillBlock(h: Handle, sb: Ext4Sb, bh: BufferHead, refcount: number, entries: readonly XattrEntry[]): void {
  withdrawBlock(sb, bh);
  // Packed elsewhere first: the values may be views of the block.
  const block = new Uint8Array(sb.blockSize);
  const hash = hashBlock(entries);
  ext4_xattr_header.write(block, 0, { h_magic: EXT4_XATTR_MAGIC, h_refcount: refcount, h_blocks: 1, h_hash: hash });
  packEntries(block, entries, BLOCK_AREA);
  h.getWriteAccess(bh).set(block);
  bh.seal = seal(sb);
  bh.checked = CHECKED_XATTR;
  bh.decoded = undefined;
  if (hash === 0) return;
  const { blocknr } = bh;
  offerBlock(sb, hash, blocknr);
  h.onRollback(() => shareableOf(sb).delete(hash));
}

function offerBlock(sb: Ext4Sb, hash: number, blocknr: number): void {
  const blocks = shareableOf(sb);
  blocks.delete(hash);
  blocks.set(hash, blocknr);
  if (blocks.size <= SHAREABLE_MAX) return;
  for (const oldest of blocks.keys()) {
    blocks.delete(oldest);
    break;
  }
}

/** The content of the block is about to be another. */
function withdrawBlock(sb: Ext4Sb, bh: BufferHead): void {
  const { h_hash } = header.at(bh.data);
  const blocks = shareableOf(sb);
  if (blocks.get(h_hash) === bh.blocknr) blocks.delete(h_hash);
}

/** A block with just these entries, not `own`, that one more inode may have. Those with values in inodes are never shared by us. */
function* findTwin(sb: Ext4Sb, entries: readonly XattrEntry[], own: number): Task<BufferHead | undefined> {
  const blocknr = shareableOf(sb).get(hashBlock(entries));
  if (blocknr === undefined || blocknr === own) return undefined;
  let bh: BufferHead;
  try {
    bh = yield* readBlock(sb, blocknr);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    shareableOf(sb).delete(hashBlock(entries)); // nobody has asked for that block
    return undefined;
  }
  const theirs = entriesOf(bh);
  if (refcountOf(bh) >= EXT4_XATTR_REFCOUNT_MAX || theirs.length !== entries.length) return undefined;
  const isTwin = theirs.every((their, i) => {
    const our = entries[i] as XattrEntry;
    return compareKeys(their, our) === 0 && their.inum === 0 && our.inum === 0 && isSameValue(their.value, our.value);
  });
  return isTwin ? bh : undefined;
}
