// biome-ignore-all format: one row per field, as the formats are drawn
import { assert } from '../../base/assert.ts';
import { crc32c } from '../../base/crc.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { struct, u16, u32 } from '../../layout/struct.ts';
import { CHECKED_EXTENT } from './checked.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { EXT_INIT_MAX_LEN, EXT_MAX_BLOCKS, EXT_UNWRITTEN_MAX_LEN } from './format.ts';

// A node of an extent tree: a header, and entries of 12 bytes sorted by file block; in a leaf they are extents, above it indexes. The root is
// in i_block and has room for 4. A node in a block has a checksum behind the last entry there is room for, with metadata_csum.
// Source: Linux fs/ext4/ext4_extents.h.

export const EXT4_EXT_MAGIC = 0xf30a;
/** Levels below the root. */
export const EXT_DEPTH_MAX = 5;
/** Of the header and of each entry, bytes. */
const ENTRY = 12;
/** Entries of a root that we make. */
export const EXT_ROOT_MAX = 4;

export const ext4_extent_header = struct('ext4_extent_header', 12, {
  eh_magic:      u16(0),
  eh_entries:    u16(2),
  eh_max:        u16(4), // entries there is room for
  eh_depth:      u16(6), // 0: a leaf
  eh_generation: u32(8), // kept as it is
});

export const ext4_extent = struct('ext4_extent', 12, {
  ee_block:    u32(0), // first file block of the run
  ee_len:      u16(4), // blocks; above 32768 the run is unwritten and 32768 is subtracted
  ee_start_hi: u16(6), // physical block, bits 32..47
  ee_start_lo: u32(8), // physical block, bits 0..31
});

export const ext4_extent_idx = struct('ext4_extent_idx', 12, {
  ei_block:   u32(0), // first file block below this child: at the same place as ee_block
  ei_leaf_lo: u32(4), // block of the child, bits 0..31
  ei_leaf_hi: u16(8), // bits 32..47
  ei_unused:  u16(10), // may be anything
});

/** A run of file blocks: an extent, or a hole. Filled by who maps, owned by who asks. */
export interface BlockMapping {
  /** First file block. */
  lblk: number;
  /** Blocks. */
  count: number;
  /** First block of the volume; 0: a hole. */
  pblk: number;
  /** Allocated, and reads as zeros. */
  isUnwritten: boolean;
}

// One cursor of each kind, to check and to change: nobody holds one across a wait. A lookup takes a few fields out of each of many nodes, and
// a cursor makes a DataView for each array that it enters, so lookups read the bytes themselves: five times as fast.
const header = ext4_extent_header.view();
const extent = ext4_extent.view();
const index = ext4_extent_idx.view();

const EH_ENTRIES = ext4_extent_header.offsetOf('eh_entries');
const EH_MAX = ext4_extent_header.offsetOf('eh_max');
const EH_DEPTH = ext4_extent_header.offsetOf('eh_depth');
const EE_LEN = ext4_extent.offsetOf('ee_len');
const EE_START_HI = ext4_extent.offsetOf('ee_start_hi');
const EE_START_LO = ext4_extent.offsetOf('ee_start_lo');
const EI_LEAF_LO = ext4_extent_idx.offsetOf('ei_leaf_lo');
const EI_LEAF_HI = ext4_extent_idx.offsetOf('ei_leaf_hi');

function u16At(node: Uint8Array, at: number): number {
  return (node[at] as number) | ((node[at + 1] as number) << 8);
}

function u32At(node: Uint8Array, at: number): number {
  return (u16At(node, at) | (u16At(node, at + 2) << 16)) >>> 0;
}

export function depthOf(node: Uint8Array): number {
  return u16At(node, EH_DEPTH);
}

export function countOf(node: Uint8Array): number {
  return u16At(node, EH_ENTRIES);
}

export function isFull(node: Uint8Array): boolean {
  return u16At(node, EH_ENTRIES) >= u16At(node, EH_MAX);
}

/** First file block of an entry, of either kind. */
export function keyOf(node: Uint8Array, slot: number): number {
  return u32At(node, ENTRY + slot * ENTRY);
}

export function setKey(node: Uint8Array, slot: number, lblk: number): void {
  extent.at(node, ENTRY + slot * ENTRY).ee_block = lblk;
}

export function childOf(node: Uint8Array, slot: number): number {
  const at = ENTRY + slot * ENTRY;
  return u16At(node, at + EI_LEAF_HI) * 2 ** 32 + u32At(node, at + EI_LEAF_LO);
}

/** First file block behind an extent. */
export function endOf(node: Uint8Array, slot: number): number {
  return keyOf(node, slot) + lengthOf(u16At(node, ENTRY + slot * ENTRY + EE_LEN));
}

function lengthOf(ee_len: number): number {
  return ee_len > EXT_INIT_MAX_LEN ? ee_len - EXT_INIT_MAX_LEN : ee_len;
}

/** Fills `into` with an extent. */
export function readExtent(node: Uint8Array, slot: number, into: BlockMapping): void {
  const at = ENTRY + slot * ENTRY;
  const ee_len = u16At(node, at + EE_LEN);
  into.lblk = keyOf(node, slot);
  into.count = lengthOf(ee_len);
  into.pblk = u16At(node, at + EE_START_HI) * 2 ** 32 + u32At(node, at + EE_START_LO);
  into.isUnwritten = ee_len > EXT_INIT_MAX_LEN;
}

export function extentAt(node: Uint8Array, slot: number): BlockMapping {
  const into = { lblk: 0, count: 0, pblk: 0, isUnwritten: false };
  readExtent(node, slot, into);
  return into;
}

export function writeExtent(node: Uint8Array, slot: number, { lblk, count, pblk, isUnwritten }: BlockMapping): void {
  assert(count > 0 && count <= lengthMax(isUnwritten) && lblk + count <= EXT_MAX_BLOCKS, `an extent of ${count} blocks at ${lblk}`);
  extent.at(node, ENTRY + slot * ENTRY);
  extent.ee_block = lblk;
  extent.ee_len = isUnwritten ? count + EXT_INIT_MAX_LEN : count;
  extent.ee_start_hi = Math.floor(pblk / 2 ** 32);
  extent.ee_start_lo = pblk % 2 ** 32;
}

export function writeIndex(node: Uint8Array, slot: number, lblk: number, child: number): void {
  index.at(node, ENTRY + slot * ENTRY);
  index.ei_block = lblk;
  index.ei_leaf_lo = child % 2 ** 32;
  index.ei_leaf_hi = Math.floor(child / 2 ** 32);
  index.ei_unused = 0;
}

/** Blocks that one extent can have. */
export function lengthMax(isUnwritten: boolean): number {
  return isUnwritten ? EXT_UNWRITTEN_MAX_LEN : EXT_INIT_MAX_LEN;
}

/** The last entry whose key is not above `lblk`; -1: all are. */
export function searchNode(node: Uint8Array, lblk: number): number {
  let low = 0;
  let high = countOf(node);
  while (low < high) {
    const mid = (low + high) >>> 1;
    if (keyOf(node, mid) <= lblk) low = mid + 1;
    else high = mid;
  }
  return low - 1;
}

/** Makes `node` one without entries. */
export function initNode(node: Uint8Array, depth: number, max: number): void {
  node.fill(0, 0, ENTRY);
  header.at(node);
  header.eh_magic = EXT4_EXT_MAGIC;
  header.eh_max = max;
  header.eh_depth = depth;
}

export function setDepth(node: Uint8Array, depth: number): void {
  header.at(node).eh_depth = depth;
}

/** Makes room for `added` entries before entry `slot`, or takes out that many where it is negative. What comes free is zero. */
export function resizeNode(node: Uint8Array, slot: number, added: number): void {
  header.at(node);
  const count = header.eh_entries;
  const from = ENTRY + (slot + Math.max(0, -added)) * ENTRY;
  node.copyWithin(from + added * ENTRY, from, ENTRY + count * ENTRY);
  if (added < 0) node.fill(0, ENTRY + (count + added) * ENTRY, ENTRY + count * ENTRY);
  header.eh_entries = count + added;
  assert(header.eh_entries <= header.eh_max, 'a node has room for its entries');
}

/** Moves the entries of `from` from `slot` on behind those of `to`. */
export function moveEntries(from: Uint8Array, slot: number, to: Uint8Array): void {
  const moved = countOf(from) - slot;
  const at = countOf(to);
  resizeNode(to, at, moved);
  to.set(from.subarray(ENTRY + slot * ENTRY, ENTRY + (slot + moved) * ENTRY), ENTRY + at * ENTRY);
  resizeNode(from, slot, -moved);
}

/** Entries that a block of the volume has room for. */
export function capacityOf(blockSize: number): number {
  return Math.floor((blockSize - ENTRY) / ENTRY);
}

/** `node` is in i_block. What it says about children and blocks has been checked. */
const checkedRoots = new WeakSet<Uint8Array>();

/** The root, checked. Errors: EUCLEAN. */
export function rootOf(inode: Ext4Inode): Uint8Array {
  const root = inode.iBlock;
  if (checkedRoots.has(root)) return root;
  checkNode(inode, root, Math.floor(root.length / ENTRY) - 1, 'root');
  checkedRoots.add(root);
  return root;
}

/**
 * The content of `bh` as a node of `inode`, `depth` levels above the leaves, checked; its entries have to lie in [low, high).
 *
 * Errors: EUCLEAN; EBADMSG for the checksum.
 */
export function nodeOf(inode: Ext4Inode, bh: BufferHead, depth: number, low: number, high: number): Uint8Array {
  const node = bh.data;
  if (bh.checked !== CHECKED_EXTENT || bh.decoded !== inode.ino) checkBlock(inode, bh);
  // The same block may be reached over two ways in an image that lies, so these are asked each time.
  const count = countOf(node);
  if (depthOf(node) !== depth) bad(inode, `block ${bh.blocknr} is at depth ${depthOf(node)} and not ${depth}`);
  if (count > 0) {
    const end = depth === 0 ? endOf(node, count - 1) : keyOf(node, count - 1) + 1;
    if (keyOf(node, 0) < low || end > high) bad(inode, `block ${bh.blocknr} has blocks outside [${low}, ${high})`);
  }
  return node;
}

function checkBlock(inode: Ext4Inode, bh: BufferHead): void {
  const { sb } = inode;
  const node = bh.data;
  const where = `block ${bh.blocknr}`;
  checkHeader(inode, node, capacityOf(sb.blockSize), where);
  header.at(node);
  // Fewer than two could not be split.
  if (header.eh_max < 2) bad(inode, `${where} has room for ${header.eh_max}`);
  if (header.eh_depth >= EXT_DEPTH_MAX) bad(inode, `${where} is at depth ${header.eh_depth}`);
  // What was changed in core gets its sum when it leaves.
  const isSealed = !bh.isDirty && bh.journalHead === undefined;
  if (sb.hasCsum && isSealed) {
    const tail = ENTRY + header.eh_max * ENTRY;
    if (sumOf(inode, node, tail) !== word(node, tail)) sb.corrupted(`inode ${inode.ino}: checksum of extent ${where}`, 'EBADMSG');
  }
  checkNode(inode, node, capacityOf(sb.blockSize), where);
  bh.checked = CHECKED_EXTENT;
  bh.decoded = inode.ino;
}

function checkHeader(inode: Ext4Inode, node: Uint8Array, capacity: number, where: string): void {
  const { eh_magic, eh_entries, eh_max, eh_depth } = header.at(node);
  if (eh_magic !== EXT4_EXT_MAGIC) bad(inode, `${where} has magic ${eh_magic.toString(16)}`);
  if (eh_max === 0 || eh_max > capacity) bad(inode, `${where} has room for ${eh_max}, of ${capacity}`);
  if (eh_entries > eh_max) bad(inode, `${where} has ${eh_entries} entries, of ${eh_max}`);
  if (eh_depth > EXT_DEPTH_MAX) bad(inode, `${where} has depth ${eh_depth}`);
  if (eh_depth > 0 && eh_entries === 0) bad(inode, `${where} has no entries`);
}

function checkNode(inode: Ext4Inode, node: Uint8Array, capacity: number, where: string): void {
  checkHeader(inode, node, capacity, where);
  const { sb, ino } = inode;
  const { eh_entries: count, eh_depth: depth } = header;
  let end = 0;
  for (let slot = 0; slot < count; slot++) {
    if (depth > 0) {
      const key = keyOf(node, slot);
      if (slot > 0 && key < end) bad(inode, `${where} is not sorted at ${key}`);
      if (key >= EXT_MAX_BLOCKS) bad(inode, `${where} has index ${key}`);
      if (!sb.isDataRange(childOf(node, slot), 1, ino)) bad(inode, `${where} leads to block ${childOf(node, slot)}`);
      end = key + 1;
      continue;
    }
    readExtent(node, slot, found);
    const { lblk, count: length, pblk } = found;
    if (length === 0) bad(inode, `${where} has an empty extent at ${lblk}`);
    if (lblk < end) bad(inode, `${where} is not sorted at ${lblk}`);
    end = lblk + length;
    if (end > EXT_MAX_BLOCKS) bad(inode, `${where} has ${length} blocks at ${lblk}`);
    if (!sb.isDataRange(pblk, length, ino)) bad(inode, `${where} maps ${length} blocks at ${pblk}`);
    // File blocks that share a cluster share it in the volume too.
    if (pblk % sb.clusterRatio !== lblk % sb.clusterRatio) bad(inode, `${where} maps ${lblk} to ${pblk} across clusters`);
  }
}

const found: BlockMapping = { lblk: 0, count: 0, pblk: 0, isUnwritten: false };

function bad(inode: Ext4Inode, what: string): never {
  return inode.sb.corrupted(`inode ${inode.ino}: extent tree: ${what}`);
}

/** The content of a node that is in a block, to be changed. */
export function writableNode(h: Handle, inode: Ext4Inode, bh: BufferHead): Uint8Array {
  const node = h.getWriteAccess(bh);
  own(inode, bh);
  return node;
}

/** A new node in block `blocknr`. */
export function createNode(h: Handle, inode: Ext4Inode, blocknr: number, depth: number): BufferHead {
  const bh = h.getCreateAccess(blocknr);
  initNode(bh.data, depth, capacityOf(inode.sb.blockSize));
  own(inode, bh);
  return bh;
}

function own(inode: Ext4Inode, bh: BufferHead): void {
  bh.checked = CHECKED_EXTENT;
  bh.decoded = inode.ino;
  if (!inode.sb.hasCsum) return;
  bh.seal = ({ data }) => {
    const tail = ENTRY + header.at(data).eh_max * ENTRY;
    setWord(data, tail, sumOf(inode, data, tail));
  };
}

function sumOf(inode: Ext4Inode, node: Uint8Array, tail: number): number {
  return crc32c(inode.csumSeed, node, 0, tail);
}

function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
}

function setWord(bytes: Uint8Array, at: number, value: number): void {
  new DataView(bytes.buffer, bytes.byteOffset + at, 4).setUint32(0, value, true);
}
