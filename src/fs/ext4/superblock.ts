import { crc32c } from '../../base/crc.ts';
import { FsError } from '../../base/fs-error.ts';
import { type Task, wait } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Timespec } from '../../vfs/attr.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import * as feature from './features.ts';
import {
  EXT2_FLAGS_UNSIGNED_HASH,
  EXT4_GOOD_OLD_FIRST_INO,
  EXT4_SUPER_MAGIC,
  ext4_super_block,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from './format.ts';

/** Blocks of 1 KiB << n. */
const LOG_BLOCK_SIZE_MAX = 6;
const LOG_CLUSTER_SIZE_MAX = 20;
const DESC_SIZE_MIN = 32;
const DESC_SIZE_64BIT_MIN = 64;
const CREATOR_OS_HURD = 1;

/** What cannot be written here, though it can be read. Bits of s_feature_ro_compat. */
const RO_COMPAT_WRITABLE =
  feature.RO_COMPAT_SPARSE_SUPER |
  feature.RO_COMPAT_LARGE_FILE |
  feature.RO_COMPAT_HUGE_FILE |
  feature.RO_COMPAT_GDT_CSUM |
  feature.RO_COMPAT_DIR_NLINK |
  feature.RO_COMPAT_EXTRA_ISIZE |
  feature.RO_COMPAT_QUOTA |
  feature.RO_COMPAT_BIGALLOC |
  feature.RO_COMPAT_METADATA_CSUM |
  feature.RO_COMPAT_PROJECT |
  feature.RO_COMPAT_VERITY |
  feature.RO_COMPAT_ORPHAN_PRESENT;

/** What can be read, of s_feature_incompat. */
const INCOMPAT_READABLE =
  feature.INCOMPAT_FILETYPE |
  feature.INCOMPAT_RECOVER |
  feature.INCOMPAT_META_BG |
  feature.INCOMPAT_EXTENTS |
  feature.INCOMPAT_64BIT |
  feature.INCOMPAT_MMP |
  feature.INCOMPAT_FLEX_BG |
  feature.INCOMPAT_EA_INODE |
  feature.INCOMPAT_CSUM_SEED |
  feature.INCOMPAT_LARGEDIR |
  feature.INCOMPAT_INLINE_DATA |
  feature.INCOMPAT_ENCRYPT |
  feature.INCOMPAT_CASEFOLD;

/**
 * The superblock in core: its 1024 bytes, and the geometry that was checked when it was read.
 *
 * Invariant: what is derived here never changes while the volume is mounted; what changes is in `raw` (through the cursor `fields`), by
 * modifySuperblock.
 */
export class Superblock {
  readonly raw: Uint8Array;
  /** The cursor on `raw`. */
  readonly fields: ReturnType<typeof ext4_super_block.view>;
  readonly blockSize: number;
  /** Blocks in a cluster. */
  readonly clusterRatio: number;
  readonly blocksCount: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly clustersPerGroup: number;
  readonly inodesPerGroup: number;
  readonly inodesCount: number;
  readonly groupCount: number;
  readonly descSize: number;
  /** Descriptors in a block. */
  readonly descsPerBlock: number;
  /** Blocks of all descriptors. */
  readonly gdtBlocks: number;
  readonly inodeSize: number;
  readonly firstIno: number;
  /** Groups of one flexible group. */
  readonly groupsPerFlex: number;
  /** Start of all metadata checksums. */
  readonly csumSeed: number;
  readonly hasMetadataCsum: boolean;
  /** 64bit: block numbers have high halves. */
  readonly is64bit: boolean;
  /** Words of the seed of directory hashes. */
  readonly hashSeed: readonly number[];
  /** Directory hashes take bytes as unsigned. */
  readonly hasUnsignedHash: boolean;
  /** Free clusters by the descriptors: the truth while mounted. */
  freeClusters = 0;
  freeInodes = 0;
  /** Clusters promised to data that is in the cache only. */
  dirtyClusters = 0;

  /** `raw` becomes its own. Errors: see readSuperblock. */
  constructor(raw: Uint8Array, name: string, deviceSize: number) {
    this.raw = raw;
    const es = ext4_super_block.view().at(raw);
    this.fields = es;
    const bad = (what: string): never => {
      throw new FsError('EUCLEAN', 'mount', { detail: `${name}: superblock: ${what}` });
    };
    if (es.s_rev_level > 1) throw new FsError('EOPNOTSUPP', 'mount', { detail: `${name}: revision ${es.s_rev_level}` });
    this.hasMetadataCsum = this.hasRoCompat(feature.RO_COMPAT_METADATA_CSUM);
    if (this.hasMetadataCsum) {
      if (es.s_checksum_type !== 1) throw new FsError('EOPNOTSUPP', 'mount', { detail: `${name}: checksum type ${es.s_checksum_type}` });
      if (es.s_checksum !== crc32c(0xffffffff, raw, 0, SUPERBLOCK_SIZE - 4)) {
        throw new FsError('EBADMSG', 'mount', { detail: `${name}: checksum of the superblock` });
      }
    }
    if (es.s_log_block_size > LOG_BLOCK_SIZE_MAX) bad(`block size 1024 << ${es.s_log_block_size}`);
    this.blockSize = 1024 * 2 ** es.s_log_block_size;
    const hasBigalloc = this.hasRoCompat(feature.RO_COMPAT_BIGALLOC);
    if (hasBigalloc) {
      if (es.s_log_cluster_size < es.s_log_block_size || es.s_log_cluster_size > LOG_CLUSTER_SIZE_MAX) {
        bad(`cluster size 1024 << ${es.s_log_cluster_size}`);
      }
      this.clusterRatio = 2 ** (es.s_log_cluster_size - es.s_log_block_size);
      this.clustersPerGroup = es.s_clusters_per_group;
    } else {
      this.clusterRatio = 1;
      this.clustersPerGroup = es.s_blocks_per_group;
    }
    this.blocksPerGroup = es.s_blocks_per_group;
    const { blockSize, clustersPerGroup } = this;
    if (clustersPerGroup === 0 || clustersPerGroup > 8 * blockSize || clustersPerGroup % 8 !== 0)
      bad(`${clustersPerGroup} clusters per group`);
    if (this.blocksPerGroup !== clustersPerGroup * this.clusterRatio) bad(`${this.blocksPerGroup} blocks per group`);

    this.is64bit = this.hasIncompat(feature.INCOMPAT_64BIT);
    if (this.is64bit) {
      this.descSize = es.s_desc_size;
      const isPower = (this.descSize & (this.descSize - 1)) === 0;
      if (this.descSize < DESC_SIZE_64BIT_MIN || this.descSize > blockSize || !isPower) bad(`group descriptors of ${this.descSize} bytes`);
    } else {
      this.descSize = DESC_SIZE_MIN;
    }
    this.descsPerBlock = blockSize / this.descSize;

    const isOld = es.s_rev_level === 0;
    this.inodeSize = isOld ? 128 : es.s_inode_size;
    this.firstIno = isOld ? EXT4_GOOD_OLD_FIRST_INO : es.s_first_ino;
    if (this.inodeSize < 128 || this.inodeSize > blockSize || (this.inodeSize & (this.inodeSize - 1)) !== 0)
      bad(`inodes of ${this.inodeSize} bytes`);
    this.inodesPerGroup = es.s_inodes_per_group;
    const perBlock = blockSize / this.inodeSize;
    if (
      this.inodesPerGroup === 0 ||
      this.inodesPerGroup > 8 * blockSize ||
      this.inodesPerGroup < perBlock ||
      this.inodesPerGroup % 8 !== 0
    ) {
      bad(`${this.inodesPerGroup} inodes per group`);
    }

    const first = es.s_first_data_block;
    if (first > 1 || (first === 1 && blockSize !== 1024) || (first === 0 && blockSize === 1024 && !hasBigalloc))
      bad(`first data block ${first}`);
    this.firstDataBlock = first;
    this.blocksCount = this.wide(es.s_blocks_count_lo, es.s_blocks_count_hi);
    if (this.blocksCount <= first + 1) bad(`${this.blocksCount} blocks`);
    if (this.blocksCount > Math.floor(deviceSize / blockSize)) {
      throw new FsError('EUCLEAN', 'mount', {
        detail: `${name}: the volume has ${this.blocksCount} blocks of ${blockSize} bytes, the device only ${Math.floor(deviceSize / blockSize)}`,
      });
    }
    this.groupCount = Math.ceil((this.blocksCount - first) / this.blocksPerGroup);
    this.inodesCount = es.s_inodes_count;
    if (this.inodesCount !== this.inodesPerGroup * this.groupCount) bad(`${this.inodesCount} inodes in ${this.groupCount} groups`);
    if (this.firstIno < EXT4_GOOD_OLD_FIRST_INO || this.firstIno > this.inodesCount) bad(`first inode ${this.firstIno}`);
    this.gdtBlocks = Math.ceil(this.groupCount / this.descsPerBlock);
    if (this.gdtBlocks >= this.blocksCount - first) bad(`${this.groupCount} group descriptors`);
    if (this.hasIncompat(feature.INCOMPAT_META_BG) && es.s_first_meta_bg > this.gdtBlocks) bad(`first meta group ${es.s_first_meta_bg}`);
    if (es.s_reserved_gdt_blocks > blockSize / 4) bad(`${es.s_reserved_gdt_blocks} reserved descriptor blocks`);
    if (this.hasIncompat(feature.INCOMPAT_FLEX_BG)) {
      if (es.s_log_groups_per_flex >= 32) bad(`flexible groups of 1 << ${es.s_log_groups_per_flex}`);
      this.groupsPerFlex = 2 ** es.s_log_groups_per_flex;
    } else {
      this.groupsPerFlex = 1;
    }
    if (this.reservedBlocks > this.blocksCount) bad(`${this.reservedBlocks} reserved blocks`);
    const extraMax = this.inodeSize - 128;
    if (extraMax > 0 && (es.s_min_extra_isize > extraMax || es.s_want_extra_isize > extraMax)) {
      bad(`extra inode fields of ${es.s_min_extra_isize} and ${es.s_want_extra_isize} bytes`);
    }

    const hasSeed = this.hasIncompat(feature.INCOMPAT_CSUM_SEED);
    this.csumSeed = hasSeed ? es.s_checksum_seed : crc32c(0xffffffff, es.s_uuid);
    this.hashSeed = es.s_hash_seed.toArray();
    this.hasUnsignedHash = (es.s_flags & EXT2_FLAGS_UNSIGNED_HASH) !== 0;
  }

  /** A number of two halves, of which the high one is there with 64bit only. */
  wide(low: number, high: number): number {
    return this.hasIncompat(feature.INCOMPAT_64BIT) ? high * 2 ** 32 + low : low;
  }

  hasCompat(mask: number): boolean {
    return this.fields.s_rev_level > 0 && (this.fields.s_feature_compat & mask) !== 0;
  }

  hasIncompat(mask: number): boolean {
    return this.fields.s_rev_level > 0 && (this.fields.s_feature_incompat & mask) !== 0;
  }

  hasRoCompat(mask: number): boolean {
    return this.fields.s_rev_level > 0 && (this.fields.s_feature_ro_compat & mask) !== 0;
  }

  /** Blocks kept for root. */
  get reservedBlocks(): number {
    return this.wide(this.fields.s_r_blocks_count_lo, this.fields.s_r_blocks_count_hi);
  }

  /** Head of the list of orphans. */
  get lastOrphan(): number {
    return this.fields.s_last_orphan;
  }

  set lastOrphan(ino: number) {
    this.fields.s_last_orphan = ino;
  }

  /** The device block that holds the superblock, and its place in it. */
  get block(): number {
    return Math.floor(SUPERBLOCK_OFFSET / this.blockSize);
  }

  get offset(): number {
    return SUPERBLOCK_OFFSET % this.blockSize;
  }

  /** Blocks of group `g`: the last one may have fewer. */
  blocksInGroup(g: number): number {
    return g === this.groupCount - 1 ? this.blocksCount - this.firstBlockOf(g) : this.blocksPerGroup;
  }

  firstBlockOf(g: number): number {
    return this.firstDataBlock + g * this.blocksPerGroup;
  }

  groupOf(block: number): number {
    return Math.floor((block - this.firstDataBlock) / this.blocksPerGroup);
  }

  /** Sets a time of which the high byte stands elsewhere. */
  setTime(field: 's_mtime' | 's_wtime' | 's_first_error_time' | 's_last_error_time', { sec }: Timespec): void {
    this.fields[field] = sec >>> 0;
    this.fields[`${field}_hi`] = Math.floor(sec / 2 ** 32) & 0xff;
  }

  /** Writes the counters and the checksum into `raw`. */
  finish(): void {
    const { fields } = this;
    const free = this.freeClusters * this.clusterRatio;
    fields.s_free_blocks_count_lo = free >>> 0;
    if (this.is64bit) fields.s_free_blocks_count_hi = Math.floor(free / 2 ** 32);
    fields.s_free_inodes_count = this.freeInodes;
    this.sum();
  }

  /** The checksum alone. */
  sum(): void {
    if (this.hasMetadataCsum) this.fields.s_checksum = crc32c(0xffffffff, this.raw, 0, SUPERBLOCK_SIZE - 4);
  }
}

/** What the features of a volume let us do with it. */
export interface Verdict {
  /** Names of features that keep it from being written; empty: it can be. */
  readonly readOnlyBecause: readonly string[];
}

/**
 * The superblock in these 1024 bytes, checked by itself.
 *
 * Errors:  EINVAL for bytes that are none; EUCLEAN, EBADMSG for a damaged one; EOPNOTSUPP with the names of features that cannot be read.
 */
export function readSuperblock(bytes: Uint8Array, name: string, deviceSize: number): { es: Superblock; verdict: Verdict } {
  const raw = bytes.slice(0, SUPERBLOCK_SIZE);
  const probe = ext4_super_block.view().at(raw);
  if (probe.s_magic !== EXT4_SUPER_MAGIC) throw new FsError('EINVAL', 'mount', { detail: `${name} is not an ext2, ext3 or ext4 volume` });
  const verdict = probe.s_rev_level === 0 ? { readOnlyBecause: [] } : judgeFeatures(probe, name);
  const es = new Superblock(raw, name, deviceSize);
  const reasons = [...verdict.readOnlyBecause];
  if (probe.s_creator_os === CREATOR_OS_HURD) reasons.push('an image of the Hurd');
  return { es, verdict: { readOnlyBecause: reasons } };
}

function judgeFeatures(es: Superblock['fields'], name: string): Verdict {
  const { s_feature_compat: compat, s_feature_incompat: incompat, s_feature_ro_compat: roCompat } = es;
  const refuse = (what: string): never => {
    throw new FsError('EOPNOTSUPP', 'mount', { detail: `${name}: ${what}` });
  };
  if ((incompat & feature.INCOMPAT_JOURNAL_DEV) !== 0) refuse('this is the journal of another volume');
  const unreadable = incompat & ~INCOMPAT_READABLE;
  if (unreadable !== 0) refuse(`feature ${featureList('incompat', unreadable)} is not supported`);
  const inconsistent = (what: string): never => {
    throw new FsError('EUCLEAN', 'mount', { detail: `${name}: features ${what}` });
  };
  const hasExtents = (incompat & feature.INCOMPAT_EXTENTS) !== 0;
  if ((roCompat & feature.RO_COMPAT_BIGALLOC) !== 0 && !hasExtents) inconsistent('bigalloc without extent');
  if ((incompat & feature.INCOMPAT_META_BG) !== 0 && (compat & feature.COMPAT_RESIZE_INODE) !== 0) inconsistent('meta_bg and resize_inode');
  if ((roCompat & feature.RO_COMPAT_METADATA_CSUM) !== 0 && (roCompat & feature.RO_COMPAT_GDT_CSUM) !== 0)
    inconsistent('metadata_csum and uninit_bg');
  if ((incompat & feature.INCOMPAT_CSUM_SEED) !== 0 && (roCompat & feature.RO_COMPAT_METADATA_CSUM) === 0) {
    inconsistent('metadata_csum_seed without metadata_csum');
  }
  const unwritable = roCompat & ~RO_COMPAT_WRITABLE;
  return { readOnlyBecause: unwritable === 0 ? [] : [featureList('ro_compat', unwritable)] };
}

function featureList(word: 'incompat' | 'ro_compat', bits: number): string {
  return feature.featureNames(word, bits).join(', ');
}

/** The superblock's `raw` may change in this handle from here on; it is written when the handle stops. Idempotent. */
export function* modifySuperblock(h: Handle, sb: Ext4Sb): Task<void> {
  if (sb.superblockHandle === h) return;
  const { es } = sb;
  const bh = yield* wait(sb.buffers.read(es.block));
  h.getWriteAccess(bh);
  const before = es.raw.slice();
  sb.superblockHandle = h;
  h.onRollback(() => {
    es.raw.set(before);
    sb.superblockHandle = undefined;
  });
  h.onStop(() => {
    sb.superblockHandle = undefined;
    es.sum();
    bh.data.set(es.raw, es.offset);
  });
}
