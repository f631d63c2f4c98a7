import { crc32c, crc32cWord } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { struct, u32 } from '../../layout/struct.ts';
import { readFileBlock } from './block-map.ts';
import { CHECKED_ORPHAN } from './checked.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { COMPAT_ORPHAN_FILE, RO_COMPAT_ORPHAN_PRESENT } from './features.ts';
import { EXT4_EA_INODE_FL } from './format.ts';
import { getInode, modifyInode } from './inode-table.ts';
import { modifySuperblock } from './superblock.ts';

// Inodes that a crash now would leave half done: without names, or longer on disk than they shall be. The next mount finishes them.
// They stand in the slots of a file, if the volume has one (orphan_file), and where that is full or missing, on a list: its head is in the
// superblock, each inode's i_dtime is the next. Invariants:
// 1. An inode stands in one slot or on the list once, and `slots` and `list` say where.
// 2. `list` has the inodes of the list; next of the tail is nobody, whatever its i_dtime says.
// 3. `free` counts the zero slots of each block of the file.

const EXT4_ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
/** Most blocks of the file that we believe in. */
const ORPHAN_FILE_BLOCKS_MAX = 8192;
const SLOT_SIZE = 4;

/** At the end of each block of the orphan file; the rest is inode numbers, 0 for a free slot. */
const ext4_orphan_block_tail = struct('ext4_orphan_block_tail', 8, {
  ob_magic: u32(0),
  ob_checksum: u32(4), // crc32c of the file's inode, the block's number and the slots
});
const tail = ext4_orphan_block_tail.view();

interface OrphanFile {
  readonly inode: Ext4Inode;
  /** Free slots by block of the file. */
  readonly free: Uint16Array;
  /** Block in which the last free slot was found. */
  hint: number;
}

/** An inode on the list. */
interface Listed {
  readonly inode: Ext4Inode;
  /** Towards the head. */
  before: Listed | undefined;
  /** What its i_dtime says. */
  next: Listed | undefined;
}

interface Orphans {
  readonly file: OrphanFile | undefined;
  /** Slots by inode number: block of the file times slots per block, plus slot. */
  readonly slots: Map<number, number>;
  /** By inode number. */
  readonly list: Map<number, Listed>;
  head: Listed | undefined;
}

const ORPHANS = new WeakMap<Ext4Sb, Orphans>();

/**
 * Reads who is an orphan. Before anything is added; again if a journal was replayed.
 *
 * Shape:   their numbers, in the order in which they are to be finished. What is on the list behind something impossible is left out, and
 *          noted as an error of the volume; clearOrphanList() gets rid of it.
 * Errors:  EUCLEAN, EBADMSG for an orphan file that is none.
 */
export function* loadOrphans(sb: Ext4Sb, readInode: (ino: number) => Task<Ext4Inode>): Task<number[]> {
  const { es } = sb;
  const file = es.hasCompat(COMPAT_ORPHAN_FILE) ? yield* openOrphanFile(sb) : undefined;
  const slots = new Map<number, number>();
  if (file !== undefined) yield* readSlots(file, slots);
  const list = new Map<number, Listed>();
  let head: Listed | undefined;
  let last: Listed | undefined;
  try {
    for (let ino = es.lastOrphan; ino !== 0; ino = last.inode.dtime) {
      checkOrphan(sb, ino);
      if (list.has(ino) || slots.has(ino)) sb.corrupted(`inode ${ino} is an orphan twice`);
      const listed: Listed = { inode: yield* readInode(ino), before: last, next: undefined };
      if (last === undefined) head = listed;
      else last.next = listed;
      list.set(ino, listed);
      last = listed;
    }
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    sb.noteError(error, es.lastOrphan, 0);
  }
  ORPHANS.set(sb, { file, slots, list, head });
  const orphans = [...list.keys()];
  if (es.hasRoCompat(RO_COMPAT_ORPHAN_PRESENT)) orphans.push(...slots.keys());
  return orphans;
}

/** Is there anything for the next mount to finish? */
export function hasOrphans(sb: Ext4Sb): boolean {
  const orphans = ORPHANS.get(sb);
  return orphans !== undefined && (orphans.list.size > 0 || orphans.slots.size > 0);
}

export function isOrphan({ sb, ino }: Ext4Inode): boolean {
  const orphans = ORPHANS.get(sb);
  return orphans !== undefined && (orphans.slots.has(ino) || orphans.list.has(ino));
}

/** The inode is to be finished after a crash from here on. Idempotent. */
export function* addOrphan(h: Handle, inode: Ext4Inode): Task<void> {
  if (isOrphan(inode)) return;
  const { sb } = inode;
  const orphans = orphansOf(sb);
  const { file, slots } = orphans;
  if (file !== undefined && (yield* fillSlot(h, file, slots, inode.ino))) return;
  yield* modifySuperblock(h, sb);
  yield* modifyInode(h, inode);
  inode.dtime = sb.es.lastOrphan;
  sb.es.lastOrphan = inode.ino;
  const listed: Listed = { inode, before: undefined, next: orphans.head };
  link(orphans, listed);
  h.onRollback(() => unlink(orphans, listed));
}

/** Between the neighbours that it names. */
function link(orphans: Orphans, listed: Listed): void {
  orphans.list.set(listed.inode.ino, listed);
  if (listed.before === undefined) orphans.head = listed;
  else listed.before.next = listed;
  if (listed.next !== undefined) listed.next.before = listed;
}

function unlink(orphans: Orphans, { inode, before, next }: Listed): void {
  orphans.list.delete(inode.ino);
  if (before === undefined) orphans.head = next;
  else before.next = next;
  if (next !== undefined) next.before = before;
}

/** The inode is whole, or gone: i_dtime is 0 where it was on the list. Idempotent. */
export function* removeOrphan(h: Handle, inode: Ext4Inode): Task<void> {
  const { sb, ino } = inode;
  const orphans = orphansOf(sb);
  const { file, slots } = orphans;
  const slot = slots.get(ino);
  if (slot !== undefined && file !== undefined) {
    yield* writeSlot(h, file, slot, 0);
    changeFree(h, file, slot, 1);
    slots.delete(ino);
    h.onRollback(() => slots.set(ino, slot));
    return;
  }
  const listed = orphans.list.get(ino);
  if (listed === undefined) return;
  const next = listed.next?.inode.ino ?? 0;
  if (listed.before === undefined) {
    yield* modifySuperblock(h, sb);
    sb.es.lastOrphan = next;
  } else {
    yield* modifyInode(h, listed.before.inode);
    listed.before.inode.dtime = next;
  }
  yield* modifyInode(h, inode);
  inode.dtime = 0;
  unlink(orphans, listed);
  h.onRollback(() => link(orphans, listed));
}

/** Nobody is on the list any more. What was is not finished. */
export function* clearOrphanList(h: Handle, sb: Ext4Sb): Task<void> {
  const orphans = orphansOf(sb);
  yield* modifySuperblock(h, sb);
  sb.es.lastOrphan = 0;
  const { head } = orphans;
  const dropped = [...orphans.list];
  orphans.list.clear();
  orphans.head = undefined;
  h.onRollback(() => {
    for (const [ino, listed] of dropped) orphans.list.set(ino, listed);
    orphans.head = head;
  });
}

function orphansOf(sb: Ext4Sb): Orphans {
  const orphans = ORPHANS.get(sb);
  if (orphans === undefined) throw new FsError('EROFS', 'ext4', { detail: 'the orphans of the volume were not read' });
  return orphans;
}

function checkOrphan(sb: Ext4Sb, ino: number): void {
  const { firstIno, inodesCount } = sb.es;
  if (ino < firstIno || ino > inodesCount) sb.corrupted(`inode ${ino} as an orphan`);
}

// ---- orphan file

function* openOrphanFile(sb: Ext4Sb): Task<OrphanFile> {
  const ino = sb.es.fields.s_orphan_file_inum;
  checkOrphan(sb, ino);
  const inode = yield* getInode(sb, ino);
  const blocks = inode.size / sb.blockSize;
  const isPlain = inode.isRegular && inode.nlink > 0 && !inode.hasInlineData && (inode.flags & EXT4_EA_INODE_FL) === 0;
  if (!isPlain || blocks === 0 || !Number.isInteger(blocks) || blocks > ORPHAN_FILE_BLOCKS_MAX) {
    sb.corrupted(`orphan file, inode ${ino}, of ${inode.size} bytes`);
  }
  return { inode, free: new Uint16Array(blocks), hint: 0 };
}

function slotsPerBlock(sb: Ext4Sb): number {
  return (sb.blockSize - ext4_orphan_block_tail.size) / SLOT_SIZE;
}

function checksum(inode: Ext4Inode, blocknr: number, data: Uint8Array): number {
  const seed = crc32cWord(crc32cWord(inode.csumSeed, blocknr | 0), Math.floor(blocknr / 2 ** 32));
  return crc32c(seed, data, 0, data.length - ext4_orphan_block_tail.size);
}

function* readBlock({ inode }: OrphanFile, block: number): Task<BufferHead> {
  const { sb } = inode;
  const bh = yield* readFileBlock(inode, block);
  if (bh === undefined) return sb.corrupted(`orphan file: a hole at block ${block}`);
  if (bh.checked === CHECKED_ORPHAN) return bh;
  const { ob_magic, ob_checksum } = tail.at(bh.data, sb.blockSize - ext4_orphan_block_tail.size);
  if (ob_magic !== EXT4_ORPHAN_BLOCK_MAGIC) sb.corrupted(`orphan file: block ${block} with magic ${ob_magic.toString(16)}`);
  if (sb.hasCsum && ob_checksum !== checksum(inode, bh.blocknr, bh.data))
    sb.corrupted(`orphan file: checksum of block ${block}`, 'EBADMSG');
  bh.checked = CHECKED_ORPHAN;
  return bh;
}

function slotView(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.length - ext4_orphan_block_tail.size);
}

function* readSlots(file: OrphanFile, slots: Map<number, number>): Task<void> {
  const { sb, ino: own } = file.inode;
  const perBlock = slotsPerBlock(sb);
  for (let block = 0; block < file.free.length; block++) {
    const { data } = yield* readBlock(file, block);
    const view = slotView(data);
    let free = 0;
    for (let slot = 0; slot < perBlock; slot++) {
      const ino = view.getUint32(slot * SLOT_SIZE, true);
      if (ino === 0) {
        free++;
        continue;
      }
      checkOrphan(sb, ino);
      if (ino === own || slots.has(ino)) sb.corrupted(`orphan file: inode ${ino} in slot ${slot} of block ${block}`);
      slots.set(ino, block * perBlock + slot);
    }
    file.free[block] = free;
  }
}

/** Puts an inode into a free slot; false if there is none. */
function* fillSlot(h: Handle, file: OrphanFile, slots: Map<number, number>, ino: number): Task<boolean> {
  const { sb } = file.inode;
  const blocks = file.free.length;
  const perBlock = slotsPerBlock(sb);
  for (let i = 0; i < blocks; i++) {
    const block = (file.hint + i) % blocks;
    if (file.free[block] === 0) continue;
    const { data } = yield* readBlock(file, block);
    const view = slotView(data);
    let slot = 0;
    while (slot < perBlock && view.getUint32(slot * SLOT_SIZE, true) !== 0) slot++;
    if (slot === perBlock) sb.corrupted(`orphan file: block ${block} has no free slot`);
    const at = block * perBlock + slot;
    yield* writeSlot(h, file, at, ino);
    changeFree(h, file, at, -1);
    file.hint = block;
    slots.set(ino, at);
    h.onRollback(() => slots.delete(ino));
    return true;
  }
  return false;
}

function* writeSlot(h: Handle, file: OrphanFile, at: number, ino: number): Task<void> {
  const { inode } = file;
  const { sb } = inode;
  const perBlock = slotsPerBlock(sb);
  const bh = yield* readBlock(file, Math.floor(at / perBlock));
  slotView(h.getWriteAccess(bh)).setUint32((at % perBlock) * SLOT_SIZE, ino, true);
  bh.seal = (sealed) => {
    const sum = sb.hasCsum ? checksum(inode, sealed.blocknr, sealed.data) : 0;
    tail.at(sealed.data, sb.blockSize - ext4_orphan_block_tail.size).ob_checksum = sum;
  };
}

function changeFree(h: Handle, { inode, free }: OrphanFile, at: number, change: number): void {
  const block = Math.floor(at / slotsPerBlock(inode.sb));
  free[block] = (free[block] as number) + change;
  h.onRollback(() => {
    free[block] = (free[block] as number) - change;
  });
}
