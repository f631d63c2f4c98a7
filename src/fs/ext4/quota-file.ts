import { assert } from '../../base/assert.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Values } from '../../layout/struct.ts';
import { appendFileBlock, readFileBlock } from './block-map.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { EXT4_EA_INODE_FL } from './format.ts';
import { modifyInode } from './inode-table.ts';
import {
  DQUOTS_PER_BLOCK,
  QT_BLKSIZE,
  QT_DEPTH,
  QT_TREEOFF,
  QUOTA_MAGICS,
  QUOTA_VERSION,
  qt_disk_dqdbheader,
  v2_disk_dqheader,
  v2_disk_dqinfo,
  v2r1_disk_dqblk,
} from './quota-format.ts';

/** The record of an id, as plain values. */
export type Dquot = { -readonly [K in keyof Values<typeof v2r1_disk_dqblk>]: number };
type Info = { -readonly [K in keyof Values<typeof v2_disk_dqinfo>]: number };

/** Places of records that are remembered, by file. */
const PLACES_MAX = 4096;

const dqdbheader = qt_disk_dqdbheader.view();
const info = v2_disk_dqinfo.view();

/** A block of the file: a part of a block of the volume. */
interface QuotaBlock {
  readonly bh: BufferHead;
  readonly offset: number;
}

/**
 * The quota file of one type.
 *
 * A record stays where it is once it was made, also when its id has nothing any more. All that the file says about places is checked each
 * time: a walk takes QT_DEPTH steps and never leaves the file.
 */
export class QuotaFile {
  readonly inode: Ext4Inode;
  /** USRQUOTA, GRPQUOTA or PRJQUOTA. */
  readonly type: number;
  /** Positions of records, bytes. */
  readonly #places = new Map<number, number>();
  /** Where the record is that modify() gave out. */
  #open: { data: Uint8Array; at: number } | undefined = undefined;

  constructor(inode: Ext4Inode, type: number) {
    this.inode = inode;
    this.type = type;
  }

  #bad(what: string): never {
    return this.inode.sb.corrupted(`quota file of type ${this.type}, inode ${this.inode.ino}: ${what}`);
  }

  /** Is it a quota file? Errors: EUCLEAN. */
  *check(): Task<void> {
    const { inode } = this;
    if (!inode.isRegular || inode.nlink === 0 || inode.hasInlineData || (inode.flags & EXT4_EA_INODE_FL) !== 0)
      this.#bad('not a plain file');
    const { bh } = yield* this.#block(0);
    const { dqh_magic, dqh_version } = v2_disk_dqheader.read(bh.data);
    if (dqh_magic !== QUOTA_MAGICS[this.type] || dqh_version !== QUOTA_VERSION) this.#bad(`magic ${dqh_magic}, version ${dqh_version}`);
    yield* this.info();
  }

  /** Errors: EUCLEAN. */
  *info(): Task<Info> {
    const { bh } = yield* this.#block(0);
    const now = v2_disk_dqinfo.read(bh.data, v2_disk_dqheader.size);
    const { dqi_blocks, dqi_free_blk, dqi_free_entry } = now;
    if (dqi_blocks <= QT_TREEOFF || dqi_blocks * QT_BLKSIZE > this.inode.size) this.#bad(`${dqi_blocks} blocks`);
    for (const block of [dqi_free_blk, dqi_free_entry]) if (block !== 0) this.#checkBlock(block, dqi_blocks);
    return now;
  }

  /** May `block` stand in a tree or a list? */
  #checkBlock(block: number, blocks: number): void {
    if (block <= QT_TREEOFF || block >= blocks) this.#bad(`block ${block} of ${blocks}`);
  }

  *#block(block: number): Task<QuotaBlock> {
    const { blockSize } = this.inode.sb;
    const pos = block * QT_BLKSIZE;
    const bh = yield* readFileBlock(this.inode, Math.floor(pos / blockSize));
    if (bh === undefined) return this.#bad(`a hole at block ${block}`);
    return { bh, offset: pos % blockSize };
  }

  /** The bytes of a block, to be changed. */
  *#modifyBlock(h: Handle, block: number): Task<Uint8Array> {
    const { bh, offset } = yield* this.#block(block);
    return h.getWriteAccess(bh).subarray(offset, offset + QT_BLKSIZE);
  }

  *#modifyInfo(h: Handle): Task<typeof info> {
    return info.at(yield* this.#modifyBlock(h, 0), v2_disk_dqheader.size);
  }

  /** The record of an id; zeros where it has none. */
  *read(id: number): Task<Dquot> {
    const pos = yield* this.#find(id);
    if (pos === undefined) return v2r1_disk_dqblk.read(new Uint8Array(v2r1_disk_dqblk.size));
    const { bh, offset } = yield* this.#block(Math.floor(pos / QT_BLKSIZE));
    return decodeDquot(bh.data, offset + (pos % QT_BLKSIZE));
  }

  /** The record of an id, made if there is none. finish() writes it back, before anything else is asked of this file. */
  *modify(h: Handle, id: number): Task<Dquot> {
    const pos = (yield* this.#find(id)) ?? (yield* this.#insert(h, id));
    const data = yield* this.#modifyBlock(h, Math.floor(pos / QT_BLKSIZE));
    this.#open = { data, at: pos % QT_BLKSIZE };
    return decodeDquot(data, pos % QT_BLKSIZE);
  }

  finish(id: number, dquot: Dquot): void {
    assert(this.#open !== undefined, 'a record that is written was taken');
    const { data, at } = this.#open;
    this.#open = undefined;
    dquot.dqb_id = id;
    v2r1_disk_dqblk.write(data, at, isZero(dquot) ? { dqb_itime: 1 } : dquot);
  }

  /** Position of the record of an id. */
  *#find(id: number): Task<number | undefined> {
    const known = this.#places.get(id);
    if (known !== undefined) return known;
    const { dqi_blocks } = yield* this.info();
    let block = QT_TREEOFF;
    for (let depth = 0; depth < QT_DEPTH; depth++) {
      const { bh, offset } = yield* this.#block(block);
      const next = readRef(bh.data, offset, id, depth);
      if (next === 0) return undefined;
      this.#checkBlock(next, dqi_blocks);
      block = next;
    }
    const { bh, offset } = yield* this.#block(block);
    const pos = block * QT_BLKSIZE + this.#entryOf(bh.data.subarray(offset, offset + QT_BLKSIZE), id, block);
    this.#remember(id, pos);
    return pos;
  }

  #remember(id: number, pos: number): void {
    if (this.#places.size >= PLACES_MAX) this.#places.clear();
    this.#places.set(id, pos);
  }

  /** Offset of the record of an id in a block that the tree has led to. Errors: EUCLEAN. */
  #entryOf(data: Uint8Array, id: number, block: number): number {
    for (let i = 0; i < DQUOTS_PER_BLOCK; i++) {
      const at = entryAt(i);
      if (isUsed(data, at) && v2r1_disk_dqblk.read(data, at).dqb_id === id) return at;
    }
    return this.#bad(`block ${block} has no record of ${id}`);
  }

  /** Makes a record for an id that has none, and what is missing of the tree above it. */
  *#insert(h: Handle, id: number): Task<number> {
    const { dqi_blocks } = yield* this.info();
    let block = QT_TREEOFF;
    for (let depth = 0; depth < QT_DEPTH; depth++) {
      const { bh, offset } = yield* this.#block(block);
      let next = readRef(bh.data, offset, id, depth);
      if (next === 0) {
        next = yield* depth < QT_DEPTH - 1 ? this.#newBlock(h) : this.#roomyBlock(h);
        writeRef(yield* this.#modifyBlock(h, block), id, depth, next);
      } else {
        this.#checkBlock(next, dqi_blocks);
      }
      block = next;
    }

    const data = yield* this.#modifyBlock(h, block);
    let index = 0;
    while (index < DQUOTS_PER_BLOCK && isUsed(data, entryAt(index))) index++;
    if (index === DQUOTS_PER_BLOCK) this.#bad(`block ${block} says that it has room`);
    v2r1_disk_dqblk.write(data, entryAt(index), { dqb_id: id, dqb_itime: id === 0 ? 1 : 0 });
    const { dqdh_entries } = dqdbheader.at(data);
    if (dqdh_entries >= DQUOTS_PER_BLOCK) this.#bad(`block ${block} with ${dqdh_entries} records has room`);
    dqdbheader.dqdh_entries = dqdh_entries + 1;
    if (dqdh_entries + 1 === DQUOTS_PER_BLOCK) yield* this.#leaveRoomy(h, block);
    const pos = block * QT_BLKSIZE + entryAt(index);
    this.#remember(id, pos);
    h.onRollback(() => this.#places.clear());
    return pos;
  }

  /** A block of zeros: one that holds nothing, or a new one at the end. */
  *#newBlock(h: Handle): Task<number> {
    const { inode } = this;
    const { blockSize } = inode.sb;
    const { dqi_free_blk, dqi_blocks } = yield* this.info();
    if (dqi_free_blk !== 0) {
      const data = yield* this.#modifyBlock(h, dqi_free_blk);
      const next = dqdbheader.at(data).dqdh_next_free;
      if (next !== 0) this.#checkBlock(next, dqi_blocks);
      data.fill(0);
      (yield* this.#modifyInfo(h)).dqi_free_blk = next;
      return dqi_free_blk;
    }
    const end = (dqi_blocks + 1) * QT_BLKSIZE;
    if (end > inode.size) {
      yield* modifyInode(h, inode);
      if (Math.ceil(end / blockSize) > Math.ceil(inode.size / blockSize)) yield* appendFileBlock(h, inode);
      inode.size = end;
    }
    (yield* this.#modifyBlock(h, dqi_blocks)).fill(0);
    (yield* this.#modifyInfo(h)).dqi_blocks = dqi_blocks + 1;
    return dqi_blocks;
  }

  /** A block that has room for a record. */
  *#roomyBlock(h: Handle): Task<number> {
    const { dqi_free_entry } = yield* this.info();
    if (dqi_free_entry !== 0) return dqi_free_entry;
    const block = yield* this.#newBlock(h);
    (yield* this.#modifyInfo(h)).dqi_free_entry = block;
    return block;
  }

  /** A block is full: it leaves the list of those that have room. */
  *#leaveRoomy(h: Handle, block: number): Task<void> {
    const { dqi_blocks } = yield* this.info();
    const data = yield* this.#modifyBlock(h, block);
    const { dqdh_next_free: next, dqdh_prev_free: prev } = dqdbheader.at(data);
    dqdbheader.dqdh_next_free = 0;
    dqdbheader.dqdh_prev_free = 0;
    if (next !== 0) {
      this.#checkBlock(next, dqi_blocks);
      dqdbheader.at(yield* this.#modifyBlock(h, next)).dqdh_prev_free = prev;
    }
    if (prev !== 0) {
      this.#checkBlock(prev, dqi_blocks);
      dqdbheader.at(yield* this.#modifyBlock(h, prev)).dqdh_next_free = next;
    } else {
      (yield* this.#modifyInfo(h)).dqi_free_entry = next;
    }
  }
}

function isZero(dquot: Dquot): boolean {
  return Object.values(dquot).every((value) => value === 0);
}

/** The record at `at`. That of an id 0 which has nothing says so by a time, since it would not be in use otherwise. */
function decodeDquot(data: Uint8Array, at: number): Dquot {
  const dquot: Dquot = v2r1_disk_dqblk.read(data, at);
  return dquot.dqb_itime === 1 && isZero({ ...dquot, dqb_itime: 0 }) ? { ...dquot, dqb_itime: 0 } : dquot;
}

/** Offset of record `index` in its block. */
function entryAt(index: number): number {
  return qt_disk_dqdbheader.size + index * v2r1_disk_dqblk.size;
}

function isUsed(data: Uint8Array, at: number): boolean {
  return data.subarray(at, at + v2r1_disk_dqblk.size).some((byte) => byte !== 0);
}

/** Offset of the reference for an id in a block of level `depth`, the root's being 0. */
function refAt(id: number, depth: number): number {
  return ((id >>> (8 * (QT_DEPTH - 1 - depth))) & 0xff) * 4;
}

function readRef(data: Uint8Array, offset: number, id: number, depth: number): number {
  return new DataView(data.buffer, data.byteOffset + offset).getUint32(refAt(id, depth), true);
}

function writeRef(data: Uint8Array, id: number, depth: number, block: number): void {
  new DataView(data.buffer, data.byteOffset).setUint32(refAt(id, depth), block, true);
}
