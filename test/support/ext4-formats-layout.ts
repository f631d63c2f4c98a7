// Where the metadata of an ext2, ext3 or ext4 volume lies, block by block, and how its checksums are made: read from the bytes by code of its
// own, so that a test can damage any of it and make it look genuine again.

import { crc16, crc32c } from '../../src/base/crc.ts';
import type { MemoryDevice } from '../../src/block/memory-device.ts';

export type BlockKind =
  | 'superblock'
  | 'descriptors'
  | 'blockBitmap'
  | 'inodeBitmap'
  | 'inodeTable'
  | 'extents'
  | 'pointers'
  | 'directory'
  | 'xattrs'
  | 'orphans'
  | 'quota'
  | 'symlink'
  | 'journal'
  | 'mmp';

/** A block of metadata. */
export interface MetadataBlock {
  readonly kind: BlockKind;
  readonly block: number;
  /** Of bitmaps and tables. */
  readonly group: number;
  /** Of what belongs to one inode. */
  readonly ino: number;
  /** Of inode tables: the inode of its first record. */
  readonly firstIno: number;
}

const JOURNAL_MAGIC = 0xc03b3998;
/** Blocks of the journal's file that count, of those that are larger than tests have them. */
const JOURNAL_BLOCKS = 1024;

/** The places of a clean volume's metadata. */
export class Ext4Layout {
  readonly blockSize: number;
  readonly inodeSize: number;
  readonly blocks: MetadataBlock[] = [];
  /** Inodes with blocks, values or anything else of their own. */
  readonly interesting: number[] = [];
  readonly #inodesPerGroup: number;
  readonly #clustersPerGroup: number;
  readonly #descSize: number;
  readonly #groupCount: number;
  readonly #seed: number;
  readonly #uuid: Uint8Array;
  readonly #hasCsum: boolean;
  readonly #hasGdtCsum: boolean;
  readonly #is64bit: boolean;
  readonly #gdtBlocks: number[] = [];
  readonly #tables: number[] = [];
  /** Of inodes that own blocks. */
  readonly #generations = new Map<number, number>();
  #journalCsum = false;
  #journalSeed = 0;

  constructor(bdev: MemoryDevice) {
    const sb = bdev.read(1024, 1024);
    const view = viewOf(sb);
    const u32 = (at: number): number => view.getUint32(at, true);
    const u16 = (at: number): number => view.getUint16(at, true);
    this.blockSize = 1024 * 2 ** u32(0x18);
    const isOld = u32(0x4c) === 0;
    const compat = isOld ? 0 : u32(0x5c);
    const incompat = isOld ? 0 : u32(0x60);
    const roCompat = isOld ? 0 : u32(0x64);
    this.inodeSize = isOld ? 128 : u16(0x58);
    this.#inodesPerGroup = u32(0x28);
    this.#clustersPerGroup = u32(0x24);
    this.#is64bit = (incompat & 0x80) !== 0;
    this.#descSize = this.#is64bit ? u16(0xfe) : 32;
    this.#hasCsum = (roCompat & 0x400) !== 0;
    this.#hasGdtCsum = (roCompat & 0x10) !== 0;
    this.#uuid = sb.slice(0x68, 0x78);
    this.#seed = (incompat & 0x2000) !== 0 ? u32(0x270) : crc32c(0xffffffff, this.#uuid);
    const first = u32(0x14);
    const perGroup = u32(0x20);
    this.#groupCount = Math.ceil((u32(0x04) - first) / perGroup);
    const add = (kind: BlockKind, block: number, more: Partial<MetadataBlock> = {}): void => {
      this.blocks.push({ kind, block, group: 0, ino: 0, firstIno: 0, ...more });
    };

    add('superblock', Math.floor(1024 / this.blockSize));
    const descsPerBlock = this.blockSize / this.#descSize;
    const firstMeta = (incompat & 0x10) !== 0 ? u32(0x104) : Number.POSITIVE_INFINITY;
    for (let index = 0; index * descsPerBlock < this.#groupCount; index++) {
      const g = index * descsPerBlock;
      // Tests that have meta_bg have the superblock's copies of sparse_super.
      const hasSuper = g <= 1 || [3, 5, 7].some((base) => isPowerOf(g, base));
      const block = index < firstMeta ? Math.floor(1024 / this.blockSize) + 1 + index : first + g * perGroup + (hasSuper ? 1 : 0);
      this.#gdtBlocks.push(block);
      add('descriptors', block, { group: g });
    }
    for (let group = 0; group < this.#groupCount; group++) {
      const { desc, at } = this.#descOf(bdev, group);
      const flags = desc.getUint16(at + 0x12, true);
      if ((flags & 2) === 0) add('blockBitmap', desc.getUint32(at, true), { group });
      if ((flags & 1) === 0) add('inodeBitmap', desc.getUint32(at + 4, true), { group });
      const table = desc.getUint32(at + 8, true);
      this.#tables.push(table);
      const perBlock = this.blockSize / this.inodeSize;
      if ((flags & 1) !== 0) continue;
      for (let index = 0; index * perBlock < this.#inodesPerGroup; index++) {
        const firstIno = group * this.#inodesPerGroup + index * perBlock + 1;
        const bytes = bdev.read((table + index) * this.blockSize, this.blockSize);
        if (!bytes.some((byte) => byte !== 0)) continue;
        add('inodeTable', table + index, { group, firstIno });
        for (let slot = 0; slot < perBlock; slot++) this.#addInode(bdev, firstIno + slot, bytes.subarray(slot * this.inodeSize), sb, add);
      }
    }
    if ((incompat & 0x100) !== 0) add('mmp', u32(0x168));
    const journal = (compat & 4) === 0 ? undefined : this.blocks.find(({ kind }) => kind === 'journal');
    if (journal === undefined) return;
    const jsb = bdev.read(journal.block * this.blockSize, 1024);
    this.#journalCsum = (viewOf(jsb).getUint32(0x28) & 0x18) !== 0;
    this.#journalSeed = crc32c(0xffffffff, jsb, 0x30, 0x40);
  }

  #addInode(
    bdev: MemoryDevice,
    ino: number,
    record: Uint8Array,
    sb: Uint8Array,
    add: (kind: BlockKind, block: number, more: Partial<MetadataBlock>) => void,
  ): void {
    const view = viewOf(record);
    const type = view.getUint16(0, true) & 0xf000;
    const flags = view.getUint32(0x20, true);
    const fileAcl = view.getUint32(0x68, true);
    if (type === 0) return;
    this.#generations.set(ino, view.getUint32(0x64, true));
    if (type !== 0x8000 || view.getUint32(0x1c, true) > 0 || view.getUint32(4, true) > 0 || ino < 12) this.interesting.push(ino);
    if (fileAcl !== 0) add('xattrs', fileAcl, { ino });
    const special = viewOf(sb);
    let kind: BlockKind | undefined;
    if (type === 0x4000) kind = 'directory';
    else if (type === 0xa000) kind = 'symlink';
    else if (ino === special.getUint32(0xe0, true)) kind = 'journal';
    else if (ino === special.getUint32(0x280, true)) kind = 'orphans';
    else if ([0x240, 0x244, 0x26c].some((at) => special.getUint32(at, true) === ino)) kind = 'quota';
    if ((flags & 0x10000000) !== 0 || ino === 7) return; // inline; the reserved descriptors
    if ((flags & 0x80000) !== 0) this.#addExtents(bdev, record.subarray(0x28, 0x64), ino, kind, add);
    else if (type === 0x8000 || type === 0x4000 || (type === 0xa000 && view.getUint32(4, true) >= 60)) {
      let left = JOURNAL_BLOCKS;
      const addPointers = (bytes: Uint8Array, from: number, to: number, level: number): void => {
        for (let at = from; at < to && left > 0; at++) {
          const block = viewOf(bytes).getUint32(at * 4, true);
          if (block === 0) continue;
          if (level > 0) {
            add('pointers', block, { ino });
            addPointers(bdev.read(block * this.blockSize, this.blockSize), 0, this.blockSize / 4, level - 1);
          } else {
            left--;
            if (kind !== undefined) add(kind, block, { ino });
          }
        }
      };
      const root = record.slice(0x28, 0x64);
      addPointers(root, 0, 12, 0);
      for (const level of [1, 2, 3]) addPointers(root, 11 + level, 12 + level, level);
    }
  }

  #addExtents(
    bdev: MemoryDevice,
    node: Uint8Array,
    ino: number,
    kind: BlockKind | undefined,
    add: (kind: BlockKind, block: number, more: Partial<MetadataBlock>) => void,
  ): void {
    const view = viewOf(node);
    const depth = view.getUint16(6, true);
    for (let at = 12; at < 12 + view.getUint16(2, true) * 12; at += 12) {
      if (depth === 0) {
        const length = Math.min(view.getUint16(at + 4, true), JOURNAL_BLOCKS);
        const start = view.getUint32(at + 8, true);
        for (let block = start; kind !== undefined && block < start + length; block++) add(kind, block, { ino });
      } else {
        const child = view.getUint32(at + 4, true);
        add('extents', child, { ino });
        this.#addExtents(bdev, bdev.read(child * this.blockSize, this.blockSize), ino, kind, add);
      }
    }
  }

  #descOf(bdev: MemoryDevice, group: number): { desc: DataView; at: number; addr: number } {
    const perBlock = this.blockSize / this.#descSize;
    const addr = (this.#gdtBlocks[Math.floor(group / perBlock)] as number) * this.blockSize;
    return { desc: viewOf(bdev.read(addr, this.blockSize)), at: (group % perBlock) * this.#descSize, addr };
  }

  /** Address of the record of an inode. */
  addressOf(ino: number): number {
    const index = ino - 1;
    const table = this.#tables[Math.floor(index / this.#inodesPerGroup)] as number;
    return table * this.blockSize + (index % this.#inodesPerGroup) * this.inodeSize;
  }

  /** Makes the checksums of a block right, by what it was on the clean volume. */
  fix(bdev: MemoryDevice, { kind, block, group, ino, firstIno }: MetadataBlock): void {
    const addr = block * this.blockSize;
    const bytes = bdev.read(addr, this.blockSize);
    const view = viewOf(bytes);
    const put = (at: number, sum: number): void => view.setUint32(at, sum, true);
    const owner = this.#inodeSeed(ino, this.#generations.get(ino) ?? 0);
    switch (kind) {
      case 'superblock': {
        if (!this.#hasCsum) return;
        const sb = bdev.read(1024, 1024);
        viewOf(sb).setUint32(0x3fc, crc32c(0xffffffff, sb, 0, 0x3fc), true);
        bdev.write(1024, sb);
        return;
      }
      case 'descriptors': {
        const perBlock = this.blockSize / this.#descSize;
        for (let g = group; g < Math.min(this.#groupCount, group + perBlock); g++)
          this.#sumDescriptor(bytes, (g - group) * this.#descSize, g);
        break;
      }
      case 'blockBitmap':
      case 'inodeBitmap': {
        if (!this.#hasCsum) return;
        const bits = kind === 'blockBitmap' ? this.#clustersPerGroup : this.#inodesPerGroup;
        const sum = crc32c(this.#seed, bytes, 0, bits / 8);
        const { desc, at, addr: descAddr } = this.#descOf(bdev, group);
        const field = kind === 'blockBitmap' ? 0x18 : 0x1a;
        desc.setUint16(at + field, sum & 0xffff, true);
        if (this.#descSize >= 64) desc.setUint16(at + field + 0x20, sum >>> 16, true);
        const descs = new Uint8Array(desc.buffer);
        this.#sumDescriptor(descs, at, group);
        bdev.write(descAddr, descs);
        return;
      }
      case 'inodeTable':
        for (let at = 0; at < this.blockSize; at += this.inodeSize) {
          this.#sumInode(bytes.subarray(at, at + this.inodeSize), firstIno + at / this.inodeSize);
        }
        break;
      case 'extents': {
        if (!this.#hasCsum) return;
        const capacity = Math.floor((this.blockSize - 12) / 12);
        const end = 12 + 12 * Math.min(view.getUint16(4, true), capacity);
        if (end + 4 <= this.blockSize) put(end, crc32c(owner, bytes, 0, end));
        break;
      }
      case 'directory':
        if (!this.#hasCsum) return;
        this.#sumDirectory(bytes, owner);
        break;
      case 'xattrs':
        if (!this.#hasCsum) return;
        put(0x10, 0);
        put(0x10, crc32c(crc32c(this.#seed, u64(block)), bytes));
        break;
      case 'orphans':
        if (!this.#hasCsum) return;
        put(this.blockSize - 4, crc32c(crc32c(owner, u64(block)), bytes, 0, this.blockSize - 8));
        break;
      case 'mmp':
        if (!this.#hasCsum) return;
        put(0x3fc, crc32c(this.#seed, bytes, 0, 0x3fc));
        break;
      case 'journal':
        this.#sumJournal(bytes);
        break;
      default:
        return;
    }
    bdev.write(addr, bytes);
  }

  #inodeSeed(ino: number, generation: number): number {
    return crc32c(crc32c(this.#seed, u32le(ino)), u32le(generation));
  }

  #sumDescriptor(bytes: Uint8Array, at: number, g: number): void {
    const view = viewOf(bytes);
    const size = this.#descSize;
    if (this.#hasCsum) {
      view.setUint16(at + 0x1e, 0, true);
      view.setUint16(at + 0x1e, crc32c(crc32c(this.#seed, u32le(g)), bytes, at, at + size) & 0xffff, true);
    } else if (this.#hasGdtCsum) {
      const start = crc16(crc16(crc16(0xffff, this.#uuid), u32le(g)), bytes, at, at + 0x1e);
      view.setUint16(at + 0x1e, size > 32 ? crc16(start, bytes, at + 0x20, at + size) : start, true);
    }
  }

  #sumInode(record: Uint8Array, ino: number): void {
    if (!this.#hasCsum || !record.some((byte) => byte !== 0)) return;
    const view = viewOf(record);
    const isWide = this.inodeSize > 128 && view.getUint16(0x80, true) >= 4;
    view.setUint16(0x7c, 0, true);
    if (isWide) view.setUint16(0x82, 0, true);
    const sum = crc32c(this.#inodeSeed(ino, view.getUint32(0x64, true)), record);
    view.setUint16(0x7c, sum & 0xffff, true);
    if (isWide) view.setUint16(0x82, sum >>> 16, true);
  }

  #sumDirectory(bytes: Uint8Array, owner: number): void {
    const view = viewOf(bytes);
    const { blockSize } = this;
    // A leaf's records end at its tail; those of a block of an index go on to the end of the block.
    const recLen = view.getUint16(4, true);
    const isNode = view.getUint32(0, true) === 0 && (recLen === blockSize || recLen === 0xffff);
    const isRoot = recLen === 12 && view.getUint16(16, true) === blockSize - 12 && bytes[29] === 8;
    if (isNode || isRoot) {
      const start = isRoot ? 32 : 8;
      const tail = start + 8 * view.getUint16(start, true);
      const end = start + 8 * view.getUint16(start + 2, true);
      if (tail + 8 > blockSize || end > tail) return;
      const covered = crc32c(crc32c(owner, bytes, 0, end), bytes, tail, tail + 4);
      view.setUint32(tail + 4, crc32c(covered, new Uint8Array(4)), true);
    } else {
      view.setUint32(blockSize - 4, crc32c(owner, bytes, 0, blockSize - 12), true);
    }
  }

  #sumJournal(bytes: Uint8Array): void {
    const view = viewOf(bytes);
    if (!this.#journalCsum || view.getUint32(0) !== JOURNAL_MAGIC) return;
    const sum = (at: number, end: number, seed: number): void => {
      view.setUint32(at, 0);
      view.setUint32(at, crc32c(seed, bytes, 0, end));
    };
    const type = view.getUint32(4);
    if (type === 4) sum(0xfc, 1024, 0xffffffff);
    else if (type === 1 || type === 5) sum(this.blockSize - 4, this.blockSize, this.#journalSeed);
    else if (type === 2) sum(0x10, this.blockSize, this.#journalSeed);
  }
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function u32le(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, true);
  return bytes;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, BigInt(value), true);
  return bytes;
}
