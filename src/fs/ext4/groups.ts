import { assert } from '../../base/assert.ts';
import { crc16, crc32c, crc32cWord } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import * as feature from './features.ts';
import { EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT, ext4_group_desc, ext4_group_desc_hi } from './format.ts';
import type { Superblock } from './superblock.ts';

const HI = 32;

/** Does the group begin with a copy of the superblock? */
export function hasSuperblock(es: Superblock, g: number): boolean {
  if (g === 0) return true;
  if (es.hasCompat(feature.COMPAT_SPARSE_SUPER2)) return es.fields.s_backup_bgs.get(0) === g || es.fields.s_backup_bgs.get(1) === g;
  if (g === 1 || !es.hasRoCompat(feature.RO_COMPAT_SPARSE_SUPER)) return true;
  return isPowerOf(g, 3) || isPowerOf(g, 5) || isPowerOf(g, 7);
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** Blocks at the start of a group that hold superblock, descriptors, and what is reserved for more descriptors. */
export function baseMetaBlocks(es: Superblock, g: number): number {
  const hasSuper = hasSuperblock(es, g);
  const firstMeta = es.hasIncompat(feature.INCOMPAT_META_BG) ? es.fields.s_first_meta_bg * es.descsPerBlock : Number.POSITIVE_INFINITY;
  if (g < firstMeta) {
    if (!hasSuper) return 0;
    const blocks = es.hasIncompat(feature.INCOMPAT_META_BG) ? es.fields.s_first_meta_bg : es.gdtBlocks;
    return 1 + blocks + es.fields.s_reserved_gdt_blocks;
  }
  const inMeta = g % es.descsPerBlock;
  const hasDescs = inMeta === 0 || inMeta === 1 || inMeta === es.descsPerBlock - 1;
  return (hasSuper ? 1 : 0) + (hasDescs ? 1 : 0);
}

/** Where descriptor block `index` lies. */
export function gdtBlockOf(es: Superblock, index: number): number {
  if (!es.hasIncompat(feature.INCOMPAT_META_BG) || index < es.fields.s_first_meta_bg) return superBlockOf(es) + 1 + index;
  const g = index * es.descsPerBlock;
  return es.firstBlockOf(g) + (hasSuperblock(es, g) ? 1 : 0);
}

/** The block with the primary superblock. With bigalloc and blocks of 1 KiB it is not the first data block. */
function superBlockOf(es: Superblock): number {
  return es.block;
}

/**
 * The group descriptors in core. They are the truth while mounted; their blocks get them when a transaction closes.
 *
 * Invariant: a group whose numbers differ from its descriptor block, or whose bitmaps have changed since their checksums were taken, is in
 * `#late`, and its descriptor block is part of the running transaction.
 */
export class Groups {
  readonly #sb: Ext4Sb;
  readonly blockBitmap: Float64Array;
  readonly inodeBitmap: Float64Array;
  readonly inodeTable: Float64Array;
  /** Free clusters. */
  readonly freeClusters: Uint32Array;
  readonly freeInodes: Uint32Array;
  readonly usedDirs: Uint32Array;
  readonly itableUnused: Uint32Array;
  readonly flags: Uint16Array;
  readonly #late = new Set<number>();

  private constructor(sb: Ext4Sb) {
    const { groupCount } = sb.es;
    this.#sb = sb;
    this.blockBitmap = new Float64Array(groupCount);
    this.inodeBitmap = new Float64Array(groupCount);
    this.inodeTable = new Float64Array(groupCount);
    this.freeClusters = new Uint32Array(groupCount);
    this.freeInodes = new Uint32Array(groupCount);
    this.usedDirs = new Uint32Array(groupCount);
    this.itableUnused = new Uint32Array(groupCount);
    this.flags = new Uint16Array(groupCount);
  }

  /**
   * Reads and checks all descriptors, and fills the zone of fixed metadata and the free counts of the superblock. `isProvisional`: only to find
   * the journal, which may have newer ones.
   *
   * Errors: EUCLEAN for places outside the volume or the group, and for metadata that overlaps; EBADMSG.
   */
  static *load(sb: Ext4Sb, isProvisional: boolean): Task<Groups> {
    const { es, buffers } = sb;
    const groups = new Groups(sb);
    for (let index = 0; index < es.gdtBlocks; index++) {
      const block = gdtBlockOf(es, index);
      if (index % 64 === 0 && !es.hasIncompat(feature.INCOMPAT_META_BG))
        yield* wait(buffers.readAhead(block, Math.min(64, es.gdtBlocks - index)));
      const bh = yield* wait(sb.read(block));
      const first = index * es.descsPerBlock;
      const last = Math.min(es.groupCount, first + es.descsPerBlock);
      for (let g = first; g < last; g++) groups.#decode(g, bh.data, isProvisional);
    }
    if (!isProvisional) groups.#fillZone();
    let freeClusters = 0;
    let freeInodes = 0;
    for (let g = 0; g < es.groupCount; g++) {
      freeClusters += groups.freeClusters[g] as number;
      freeInodes += groups.freeInodes[g] as number;
    }
    es.freeClusters = freeClusters;
    es.freeInodes = freeInodes;
    return groups;
  }

  #decode(g: number, data: Uint8Array, isProvisional: boolean): void {
    const sb = this.#sb;
    const { es } = sb;
    const at = (g % es.descsPerBlock) * es.descSize;
    const low = descLow.at(data, at);
    if (!isProvisional && this.hasChecksums && low.bg_checksum !== this.#checksum(g, data, at))
      sb.corrupted(`checksum of group descriptor ${g}`, 'EBADMSG');
    const high = es.is64bit ? descHigh.at(data, at + HI) : undefined;
    this.blockBitmap[g] = (high?.bg_block_bitmap_hi ?? 0) * 2 ** 32 + low.bg_block_bitmap_lo;
    this.inodeBitmap[g] = (high?.bg_inode_bitmap_hi ?? 0) * 2 ** 32 + low.bg_inode_bitmap_lo;
    this.inodeTable[g] = (high?.bg_inode_table_hi ?? 0) * 2 ** 32 + low.bg_inode_table_lo;
    this.freeClusters[g] = (high?.bg_free_blocks_count_hi ?? 0) * 65536 + low.bg_free_blocks_count_lo;
    this.freeInodes[g] = (high?.bg_free_inodes_count_hi ?? 0) * 65536 + low.bg_free_inodes_count_lo;
    this.usedDirs[g] = (high?.bg_used_dirs_count_hi ?? 0) * 65536 + low.bg_used_dirs_count_lo;
    this.itableUnused[g] = (high?.bg_itable_unused_hi ?? 0) * 65536 + low.bg_itable_unused_lo;
    // Without checksums nothing protects a bitmap that was never written: such flags mean nothing then.
    this.flags[g] = this.hasChecksums ? low.bg_flags : 0;
    if (!this.hasChecksums) this.itableUnused[g] = 0;
    if (isProvisional) return;
    if ((this.freeClusters[g] as number) > this.clustersOf(g)) sb.corrupted(`group ${g} says ${this.freeClusters[g]} free clusters`);
    if ((this.freeInodes[g] as number) > es.inodesPerGroup) sb.corrupted(`group ${g} says ${this.freeInodes[g]} free inodes`);
    if ((this.itableUnused[g] as number) > es.inodesPerGroup) sb.corrupted(`group ${g} says ${this.itableUnused[g]} unused inodes`);
  }

  /** Descriptors carry checksums: metadata_csum or uninit_bg. */
  get hasChecksums(): boolean {
    return this.#sb.hasCsum || this.#sb.es.hasRoCompat(feature.RO_COMPAT_GDT_CSUM);
  }

  /** Blocks of an inode table. */
  get tableBlocks(): number {
    const { es } = this.#sb;
    return Math.ceil((es.inodesPerGroup * es.inodeSize) / es.blockSize);
  }

  /** Clusters of group `g`. */
  clustersOf(g: number): number {
    const { es } = this.#sb;
    return Math.ceil(es.blocksInGroup(g) / es.clusterRatio);
  }

  #fillZone(): void {
    const sb = this.#sb;
    const { es } = sb;
    const table = this.tableBlocks;
    const isFlex = es.hasIncompat(feature.INCOMPAT_FLEX_BG);
    const runs: { start: number; count: number; what: string }[] = [];
    const put = (g: number, start: number, count: number, what: string): void => {
      const from = isFlex ? es.firstDataBlock + 1 : es.firstBlockOf(g);
      const to = isFlex ? es.blocksCount : es.firstBlockOf(g) + es.blocksInGroup(g);
      if (!(start >= from && start + count <= to)) sb.corrupted(`${what} of group ${g} at block ${start}`);
      runs.push({ start, count, what: `the ${what} of group ${g}` });
    };
    for (let g = 0; g < es.groupCount; g++) {
      const base = baseMetaBlocks(es, g);
      const first = g === 0 ? es.block - es.firstDataBlock : 0; // with bigalloc and blocks of 1 KiB block 0 comes before the superblock
      if (base > 0)
        runs.push({ start: es.firstBlockOf(g), count: Math.min(base + first, es.blocksInGroup(g)), what: `the head of group ${g}` });
      put(g, this.blockBitmap[g] as number, 1, 'block bitmap');
      put(g, this.inodeBitmap[g] as number, 1, 'inode bitmap');
      put(g, this.inodeTable[g] as number, table, 'inode table');
    }
    sb.zone.set(runs);
  }

  /** A block of the inode tables: where inode `ino` is. */
  placeOf(ino: number): { readonly block: number; readonly offset: number } {
    const { es } = this.#sb;
    const g = Math.floor((ino - 1) / es.inodesPerGroup);
    const bytes = ((ino - 1) % es.inodesPerGroup) * es.inodeSize;
    return { block: (this.inodeTable[g] as number) + Math.floor(bytes / es.blockSize), offset: bytes % es.blockSize };
  }

  /** The numbers of group `g` may change in this handle from here on. */
  *modify(h: Handle, g: number): Task<void> {
    const sb = this.#sb;
    const block = gdtBlockOf(sb.es, Math.floor(g / sb.es.descsPerBlock));
    const bh = yield* wait(sb.read(block));
    h.getWriteAccess(bh);
    const { freeClusters, freeInodes, usedDirs, itableUnused, flags } = this;
    const before = [
      freeClusters[g],
      freeInodes[g],
      usedDirs[g],
      itableUnused[g],
      flags[g],
      sb.es.freeClusters,
      sb.es.freeInodes,
    ] as number[];
    const wasLate = this.#late.has(g);
    this.#late.add(g);
    h.onRollback(() => {
      [freeClusters[g], freeInodes[g], usedDirs[g], itableUnused[g], flags[g], sb.es.freeClusters, sb.es.freeInodes] = before as [
        number,
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      if (!wasLate) this.#late.delete(g);
    });
  }

  /** Brings the descriptor blocks up to date: a transaction closes. */
  flush(access: (bh: BufferHead) => Uint8Array): void {
    const sb = this.#sb;
    for (const g of this.#late) {
      const bh = sb.buffers.peek(gdtBlockOf(sb.es, Math.floor(g / sb.es.descsPerBlock)));
      assert(bh !== undefined, 'a changed descriptor block is in core');
      this.#encode(g, access(bh));
    }
    this.#late.clear();
  }

  #encode(g: number, data: Uint8Array): void {
    const sb = this.#sb;
    const { es } = sb;
    const at = (g % es.descsPerBlock) * es.descSize;
    const low = descLow.at(data, at);
    const high = es.is64bit ? descHigh.at(data, at + HI) : undefined;
    const free = this.freeClusters[g] as number;
    const inodes = this.freeInodes[g] as number;
    const dirs = this.usedDirs[g] as number;
    const unused = this.itableUnused[g] as number;
    low.bg_free_blocks_count_lo = free & 0xffff;
    low.bg_free_inodes_count_lo = inodes & 0xffff;
    low.bg_used_dirs_count_lo = dirs & 0xffff;
    if (this.hasChecksums) {
      low.bg_itable_unused_lo = unused & 0xffff;
      low.bg_flags = this.flags[g] as number;
    }
    if (high !== undefined) {
      high.bg_free_blocks_count_hi = free >>> 16;
      high.bg_free_inodes_count_hi = inodes >>> 16;
      high.bg_used_dirs_count_hi = dirs >>> 16;
      if (this.hasChecksums) high.bg_itable_unused_hi = unused >>> 16;
    }
    if (sb.hasCsum) {
      // A bitmap that is not in core has not changed.
      const blocks = sb.buffers.peek(this.blockBitmap[g] as number);
      if (blocks !== undefined && ((this.flags[g] as number) & EXT4_BG_BLOCK_UNINIT) === 0) {
        const sum = this.blockBitmapSum(blocks.data);
        low.bg_block_bitmap_csum_lo = sum & 0xffff;
        if (high !== undefined) high.bg_block_bitmap_csum_hi = sum >>> 16;
      }
      const inodeBits = sb.buffers.peek(this.inodeBitmap[g] as number);
      if (inodeBits !== undefined && ((this.flags[g] as number) & EXT4_BG_INODE_UNINIT) === 0) {
        const sum = this.inodeBitmapSum(inodeBits.data);
        low.bg_inode_bitmap_csum_lo = sum & 0xffff;
        if (high !== undefined) high.bg_inode_bitmap_csum_hi = sum >>> 16;
      }
    }
    if (this.hasChecksums) low.bg_checksum = this.#checksum(g, data, at);
  }

  blockBitmapSum(data: Uint8Array): number {
    return crc32c(this.#sb.csumSeed, data, 0, this.#sb.es.clustersPerGroup / 8);
  }

  inodeBitmapSum(data: Uint8Array): number {
    return crc32c(this.#sb.csumSeed, data, 0, this.#sb.es.inodesPerGroup / 8);
  }

  /** The checksum that the descriptor has for a bitmap: 16 bits of it in descriptors of 32 bytes. Undefined where there is none. */
  *storedSums(g: number): Task<{ block: number; inode: number; mask: number } | undefined> {
    const sb = this.#sb;
    if (!sb.hasCsum) return undefined;
    const { es } = sb;
    const bh = yield* wait(sb.read(gdtBlockOf(es, Math.floor(g / es.descsPerBlock))));
    const at = (g % es.descsPerBlock) * es.descSize;
    const low = descLow.at(bh.data, at);
    const high = es.is64bit ? descHigh.at(bh.data, at + HI) : undefined;
    return {
      block: ((high?.bg_block_bitmap_csum_hi ?? 0) * 65536 + low.bg_block_bitmap_csum_lo) >>> 0,
      inode: ((high?.bg_inode_bitmap_csum_hi ?? 0) * 65536 + low.bg_inode_bitmap_csum_lo) >>> 0,
      mask: high === undefined ? 0xffff : 0xffffffff,
    };
  }

  #checksum(g: number, data: Uint8Array, at: number): number {
    const sb = this.#sb;
    const { descSize, fields } = sb.es;
    const field = at + ext4_group_desc.offsetOf('bg_checksum');
    if (sb.hasCsum) {
      let crc = crc32c(crc32cWord(sb.csumSeed, g), data, at, field);
      crc = crc32c(crc, ZEROS, 0, 2);
      return crc32c(crc, data, field + 2, at + descSize) & 0xffff;
    }
    let crc = crc16(0xffff, fields.s_uuid);
    crc = crc16(crc, Uint8Array.of(g & 0xff, (g >>> 8) & 0xff, (g >>> 16) & 0xff, g >>> 24));
    crc = crc16(crc, data, at, field);
    return descSize > HI ? crc16(crc, data, field + 2, at + descSize) : crc;
  }

  /** Checks a number of an inode that something leads to. Errors: EUCLEAN. */
  checkIno(ino: number, what: string): void {
    const { es } = this.#sb;
    if (!(Number.isInteger(ino) && ino >= 1 && ino <= es.inodesCount)) {
      throw new FsError('EUCLEAN', 'ext4', { detail: `${this.#sb.bdev.name}: ${what} leads to inode ${ino} of ${es.inodesCount}` });
    }
  }
}

const descLow = ext4_group_desc.view();
const descHigh = ext4_group_desc_hi.view();
const ZEROS = new Uint8Array(2);
