import type { ErrnoCode } from '../../base/errno.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Prng } from '../../base/prng.ts';
import type { MaybePromise, Task } from '../../base/task.ts';
import { type BlockDevice, flushDevice, writeDevice } from '../../block/block-device.ts';
import type { BufferCache, BufferHead } from '../../block/buffer-cache.ts';
import type { Handle, LogHooks, MetadataLog } from '../../jbd2/log.ts';
import type { Timespec } from '../../vfs/attr.ts';
import type { BlockAllocator } from './block-alloc.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { INCOMPAT_FILETYPE } from './features.ts';
import { EXT4_ERROR_FS } from './format.ts';
import type { Groups } from './groups.ts';
import type { Superblock } from './superblock.ts';
import type { SystemZone } from './system-zone.ts';

/** What differs between two runs. */
export interface Ext4Env {
  /** The time of day. */
  now(): Timespec;
  /** Generations, hash seeds of placement, MMP sequences. */
  readonly prng: Prng;
}

/** Who has how much: nobody counts, until quota files are open (quota.ts). */
export interface QuotaCharges {
  /** `bytes` more of space, less where it is negative. Errors: EDQUOT. */
  chargeBlocks(h: Handle, inode: Ext4Inode, bytes: number): Task<void>;
  chargeInodes(h: Handle, inode: Ext4Inode, count: number): Task<void>;
}

function* nothing(): Task<void> {}

/** A mounted volume: what all parts of the driver share. No part keeps a BufferHead beyond the time it holds the log's lock. */
export class Ext4Sb {
  readonly bdev: BlockDevice;
  readonly buffers: BufferCache;
  /** The superblock in core: geometry, features, counters. */
  readonly es: Superblock;
  readonly env: Ext4Env;
  /** Bytes. */
  readonly blockSize: number;
  /** Blocks in a cluster: 1 without bigalloc. */
  readonly clusterRatio: number;
  /** Start of all metadata checksums. */
  readonly csumSeed: number;
  /** metadata_csum. */
  readonly hasCsum: boolean;
  /** Where metadata of fixed place lies. */
  readonly zone: SystemZone;
  /** Journal, or none. Set by mount before anything changes. */
  log: MetadataLog;
  /** Nothing is written: asked for, forced by a feature, or after an error. */
  isReadOnly: boolean;
  /** Set by mount, as soon as they can be. */
  groups!: Groups;
  allocator!: BlockAllocator;
  /** Inodes in core. Those that nobody is interested in leave from time to time. */
  readonly inodes = new Map<number, Ext4Inode>();
  /** Lookups of inodes that faces know and that are not in core. */
  readonly parkedLookups = new Map<number, number>();
  /** The handle that has the superblock under modifySuperblock. */
  superblockHandle: Handle | undefined = undefined;

  constructor(
    bdev: BlockDevice,
    buffers: BufferCache,
    es: Superblock,
    zone: SystemZone,
    log: MetadataLog,
    env: Ext4Env,
    isReadOnly: boolean,
  ) {
    this.bdev = bdev;
    this.buffers = buffers;
    this.es = es;
    this.env = env;
    this.blockSize = es.blockSize;
    this.clusterRatio = es.clusterRatio;
    this.csumSeed = es.csumSeed;
    this.hasCsum = es.hasMetadataCsum;
    this.zone = zone;
    this.log = log;
    this.isReadOnly = isReadOnly;
  }

  /** A block of metadata. Errors: EUCLEAN outside the volume, EIO. */
  read(blocknr: number): MaybePromise<BufferHead> {
    if (!(blocknr >= this.es.firstDataBlock && blocknr < this.es.blocksCount)) this.corrupted(`block ${blocknr} of ${this.es.blocksCount}`);
    return this.buffers.read(blocknr);
  }

  /** May `count` blocks from `start` hold file data or metadata of one inode? `ino`: of the inode that says so, which may own a part of the zone. */
  isDataRange(start: number, count: number, ino = 0): boolean {
    const { firstDataBlock, blocksCount } = this.es;
    return start > firstDataBlock && count > 0 && start + count <= blocksCount && this.zone.allows(start, count, ino);
  }

  quota: QuotaCharges = { chargeBlocks: nothing, chargeInodes: nothing };
  /** Numbers that no name leads to though they are in use: journal, quota, orphan file. */
  readonly hiddenInodes = new Set<number>();
  /** Inodes with times that are in core only. */
  readonly lazyInodes = new Set<Ext4Inode>();
  /** What the log asks of this volume. */
  hooks: LogHooks = {};
  /** Damage does not end writing. */
  errorsContinue = false;
  /** Every request of the device ends before submit() returns. */
  answersAtOnce = false;
  /** New files have their data in the log (data=journal). */
  journalsData = false;
  /** Called when isReadOnly becomes true. */
  onReadOnly: () => void = () => {};
  /** Hears of damage. Set by mount. */
  onError: (error: FsError) => void = () => {};

  /** Errors: EROFS. */
  checkWritable(syscall: string): void {
    if (this.isReadOnly) throw new FsError('EROFS', syscall);
  }

  /** A change failed because the image, or the device, is not as it has to be. It was rolled back. */
  failed(error: FsError): void {
    if (this.isReadOnly) return;
    this.noteError(error, 0, 0);
    if (!this.errorsContinue) this.log.abort(error);
  }

  /** Keeps an error on record, in the superblock too when that is written next. */
  noteError(error: FsError, ino: number, block: number): void {
    this.onError(error);
    if (this.isReadOnly) return;
    const { fields } = this.es;
    const now = this.env.now();
    fields.s_state |= EXT4_ERROR_FS;
    fields.s_last_error_ino = ino;
    fields.s_last_error_block_lo = block % 2 ** 32;
    fields.s_last_error_block_hi = Math.floor(block / 2 ** 32);
    fields.s_last_error_func = 'iomap';
    fields.s_last_error_line = 0;
    fields.s_last_error_errcode = errorCodeOf(error);
    this.es.setTime('s_last_error_time', now);
    if (fields.s_error_count === 0) {
      fields.s_first_error_ino = ino;
      fields.s_first_error_block_lo = fields.s_last_error_block_lo;
      fields.s_first_error_block_hi = fields.s_last_error_block_hi;
      fields.s_first_error_func = 'iomap';
      fields.s_first_error_line = 0;
      fields.s_first_error_errcode = fields.s_last_error_errcode;
      this.es.setTime('s_first_error_time', now);
    }
    fields.s_error_count = Math.min(fields.s_error_count + 1, 0xffffffff);
  }

  /** Directory entries say the type of what they lead to. */
  get hasFiletype(): boolean {
    return this.es.hasIncompat(INCOMPAT_FILETYPE);
  }

  /** Blocks that hold no files: what statfs takes off the size. */
  get overhead(): number {
    this.#overhead ??= this.es.fields.s_overhead_clusters * this.clusterRatio || this.zone.blocks;
    return this.#overhead;
  }

  #overhead: number | undefined;

  /** Writes file data, whole blocks. */
  writeData(block: number, data: Uint8Array): MaybePromise<void> {
    return writeDevice(this.bdev, block * this.blockSize, data);
  }

  /** Empties the volatile cache of the device. */
  flush(): MaybePromise<void> {
    return flushDevice(this.bdev);
  }

  /**
   * The image is not what the format says: throws EUCLEAN, or EBADMSG where a checksum is wrong. With a handle open the caller's operation
   * fails and is rolled back; what else follows (errors=) is decided by who ends the operation.
   */
  corrupted(detail: string, code: ErrnoCode = 'EUCLEAN'): never {
    throw new FsError(code, 'ext4', { detail: `${this.bdev.name}: ${detail}` });
  }
}

/** s_last_error_errcode. Source: Linux fs/ext4/ext4.h, EXT4_ERR_* */
function errorCodeOf({ code }: FsError): number {
  return { EIO: 2, ENOMEM: 3, EBADMSG: 4, EUCLEAN: 5, ENOSPC: 6 }[code as 'EIO'] ?? 1;
}
