import { type Clock, systemClock, WatchedClock } from '../../base/clock.ts';
import { FsError } from '../../base/fs-error.ts';
import { Prng } from '../../base/prng.ts';
import { roundUp } from '../../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../../base/task.ts';
import { type BlockDevice, flushDevice, readDevice, writeDevice } from '../../block/block-device.ts';
import { BufferCache } from '../../block/buffer-cache.ts';
import { OverlayDevice } from '../../block/overlay-device.ts';
import { openExternalJournal } from '../../jbd2/external-journal.ts';
import { Journal } from '../../jbd2/journal.ts';
import { JournalLocation, type JournalRun } from '../../jbd2/journal-location.ts';
import type { LogHooks } from '../../jbd2/log.ts';
import { NoJournal } from '../../jbd2/no-journal.ts';
import { appendTransaction, DeviceSink, OverlaySink, type RecoveryResult, recoverJournal, resetJournal } from '../../jbd2/recovery.ts';
import { BackingDevice } from '../../pagecache/backing-device.ts';
import { PageCache } from '../../pagecache/page-cache.ts';
import { timespecOf } from '../../vfs/attr.ts';
import { SuperBlock } from '../../vfs/super-block.ts';
import { BlockAllocator } from './block-alloc.ts';
import { forEachExtent } from './block-map.ts';
import { Ext4Data, truncateBlocks } from './ext4-data.ts';
import { deleteInode, Ext4Fs, type Ext4FsOptions, type Ext4Volume } from './ext4-fs.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { type Ext4Env, Ext4Sb } from './ext4-sb.ts';
import { applyFastCommits } from './fast-commit.ts';
import * as feature from './features.ts';
import {
  EXT_MAX_BLOCKS,
  EXT4_DEFM_JMODE,
  EXT4_DEFM_JMODE_DATA,
  EXT4_ERROR_FS,
  EXT4_ERRORS_CONTINUE,
  EXT4_ROOT_INO,
  EXT4_VALID_FS,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from './format.ts';
import { Groups } from './groups.ts';
import { isInodeInUse } from './inode-alloc.ts';
import { getInode } from './inode-table.ts';
import { Mmp } from './mmp.ts';
import { clearOrphanList, hasOrphans, loadOrphans, removeOrphan } from './orphan.ts';
import { openQuota } from './quota.ts';
import { modifySuperblock, readSuperblock, type Superblock } from './superblock.ts';
import { SystemZone } from './system-zone.ts';
import { CREDITS, look, update } from './update.ts';

export interface Ext4Options extends Ext4FsOptions {
  /** Not one byte of the device changes: a log that has to be replayed is replayed in memory. Default: no. */
  readonly readOnly?: boolean;
  /** Read-only, without what is in the log only. */
  readonly noRecovery?: boolean;
  /** What follows where the image turns out to be damaged. Default: what its superblock says. */
  readonly errors?: 'continue' | 'remount-ro';
  /** How file data is kept in step with metadata. Default: what the superblock says, else 'ordered'. */
  readonly data?: 'ordered' | 'writeback' | 'journal';
  /** Seconds until a change is committed, at most. Default 5. */
  readonly commitInterval?: number;
  /** Where a volume with an external journal has it. */
  readonly journalDevice?: BlockDevice;
  /** Bytes of metadata kept in core. Default 32 MiB. */
  readonly metadataCache?: number;
  /** Where file data is cached, shared with others if they are given the same. Default: one of its own. */
  readonly cache?: PageCache;
  readonly clock?: Clock;
  /** The time of day, milliseconds since 1970. */
  readonly now?: () => number;
  readonly seed?: number;
  /** Limits of quotas are kept to, by type: 0 user, 1 group, 2 project. Usage is always counted. */
  readonly enforceQuota?: readonly number[];
  /** Called when the volume has ended, by destroy(): nothing is written any more. */
  readonly onEnd?: () => MaybePromise<void>;
  /** Hears of damage that nobody's operation failed by, and of what a mount has to say. */
  readonly onWarning?: (message: string) => void;
}

const METADATA_CACHE = 32 * 2 ** 20;

/**
 * Mounts an ext2, ext3 or ext4 volume: checks it, replays its journal, finishes what a crash left half done.
 *
 * Blocks:  for the device; answers at once where the device does, except for multi-mount protection.
 * Errors:  EINVAL for what is no such volume; EOPNOTSUPP with the name of a feature that is not supported, at all or for writing; EROFS where
 *          something would have to be written that cannot be; EBUSY where another has it (mmp); EUCLEAN, EBADMSG, EIO.
 */
export function mountExt4(bdev: BlockDevice, options: Ext4Options = {}): MaybePromise<Ext4Fs> {
  return run(new Mounting(bdev, options).mount());
}

/** One mount, step by step. */
class Mounting {
  #bdev: BlockDevice;
  readonly #options: Ext4Options;
  readonly #isReadOnly: boolean;
  readonly #env: Ext4Env;
  readonly #clock: WatchedClock;
  #mmp: Mmp | undefined;
  #answersAtOnce = false;
  #journalErrno = 0;

  constructor(bdev: BlockDevice, options: Ext4Options) {
    this.#bdev = bdev;
    this.#options = options;
    this.#isReadOnly = options.readOnly === true || options.noRecovery === true;
    const now = options.now ?? Date.now;
    this.#env = { now: () => timespecOf(now()), prng: new Prng(options.seed ?? Math.floor(Math.random() * 2 ** 32)) };
    this.#clock = new WatchedClock(options.clock ?? systemClock);
  }

  #warn(message: string): void {
    this.#options.onWarning?.(message);
  }

  *mount(): Task<Ext4Fs> {
    const { es, readOnlyBecause } = yield* this.#readSuperblock();
    if (!this.#isReadOnly && readOnlyBecause.length > 0) {
      throw new FsError('EOPNOTSUPP', 'mount', {
        detail: `${this.#bdev.name} cannot be written because of ${readOnlyBecause.join(', ')}: it can be mounted read-only`,
      });
    }
    let sb = yield* this.#open(es, true);
    if (!this.#isReadOnly && es.hasIncompat(feature.INCOMPAT_MMP)) yield* this.#startMmp(sb);
    try {
      const hasJournal = es.hasCompat(feature.COMPAT_HAS_JOURNAL);
      if (!hasJournal && es.hasIncompat(feature.INCOMPAT_RECOVER)) sb.corrupted('it needs recovery, and has no journal');
      let location = hasJournal ? yield* this.#journalOf(sb) : undefined;
      if (location !== undefined && this.#options.noRecovery !== true && (yield* this.#recover(es, location))) {
        // Whatever was read before may have been replaced.
        sb = yield* this.#open((yield* this.#readSuperblock()).es, true);
        location = yield* this.#journalOf(sb);
      }
      sb = yield* this.#open(sb.es, false);
      return yield* this.#start(sb, location);
    } catch (error) {
      yield* wait(this.#mmp?.close());
      throw error;
    }
  }

  *#readSuperblock(): Task<{ es: Superblock; readOnlyBecause: readonly string[] }> {
    const bytes = new Uint8Array(roundUp(SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE, this.#bdev.logicalBlockSize));
    if (this.#bdev.size < bytes.length) {
      throw new FsError('EINVAL', 'mount', {
        detail: `${this.#bdev.name} has ${this.#bdev.size} bytes: it is not an ext2, ext3 or ext4 volume`,
      });
    }
    const reading = readDevice(this.#bdev, 0, bytes);
    this.#answersAtOnce = !isPromise(reading);
    yield* wait(reading);
    const { es, verdict } = readSuperblock(bytes.subarray(SUPERBLOCK_OFFSET), this.#bdev.name, this.#bdev.size);
    if (es.blockSize % this.#bdev.logicalBlockSize !== 0) {
      throw new FsError('EINVAL', 'mount', {
        detail: `${this.#bdev.name}: blocks of ${es.blockSize} bytes on a device with sectors of ${this.#bdev.logicalBlockSize}`,
      });
    }
    return { es, readOnlyBecause: verdict.readOnlyBecause };
  }

  /** The volume's parts in core. `isProvisional`: before the log is replayed, when the checksums of descriptors need not be right yet. */
  *#open(es: Superblock, isProvisional: boolean): Task<Ext4Sb> {
    const buffers = new BufferCache(this.#bdev, es.blockSize, this.#options.metadataCache ?? METADATA_CACHE);
    const hooks: LogHooks = {
      beforeCommit: (access) => sb.groups.flush(access),
      onAbort: (why) => this.#aborted(sb, why),
    };
    const log = new NoJournal(buffers, { hooks, clock: this.#clock, commitIntervalMs: this.#intervalMs });
    const sb: Ext4Sb = new Ext4Sb(this.#bdev, buffers, es, new SystemZone(), log, this.#env, this.#isReadOnly);
    sb.hooks = hooks;
    sb.groups = yield* Groups.load(sb, isProvisional);
    sb.allocator = new BlockAllocator(sb);
    for (const ino of [es.fields.s_journal_inum, es.fields.s_usr_quota_inum, es.fields.s_grp_quota_inum]) sb.hiddenInodes.add(ino);
    if (es.hasRoCompat(feature.RO_COMPAT_PROJECT)) sb.hiddenInodes.add(es.fields.s_prj_quota_inum);
    if (es.hasCompat(feature.COMPAT_ORPHAN_FILE)) sb.hiddenInodes.add(es.fields.s_orphan_file_inum);
    return sb;
  }

  get #intervalMs(): number {
    return (this.#options.commitInterval ?? 5) * 1000;
  }

  *#startMmp(sb: Ext4Sb): Task<void> {
    const clock = this.#clock;
    const host = {
      nodename: 'iomap',
      prng: this.#env.prng,
      now: () => this.#env.now(),
      sleep: (ms: number) => new Promise<void>((resolve) => void clock.timer(ms, resolve)),
      timer: (ms: number, fire: () => void) => clock.timer(ms, fire),
    };
    this.#mmp = yield* Mmp.start(sb, host, (why) => this.#mounted?.log.abort(why));
  }

  #mounted: Ext4Sb | undefined;

  /** Where the journal is, checked: whole, on the volume, in nobody's way. */
  *#journalOf(sb: Ext4Sb): Task<JournalLocation> {
    const { fields, blockSize } = sb.es;
    if (fields.s_journal_inum === 0) {
      const { journalDevice } = this.#options;
      if (journalDevice === undefined) {
        throw new FsError('EINVAL', 'mount', { detail: `${this.#bdev.name} has its journal on another device, which is not given` });
      }
      return yield* wait(openExternalJournal(journalDevice, blockSize, fields.s_journal_uuid.slice()));
    }
    const inode = yield* look(sb, () => getInode(sb, fields.s_journal_inum));
    if (!inode.isRegular || inode.nlink === 0 || inode.hasInlineData || inode.size < 1024 * blockSize) {
      return sb.corrupted(`inode ${inode.ino} is not a journal`);
    }
    const runs: JournalRun[] = [];
    let next = 0;
    const count = Math.floor(inode.size / blockSize);
    yield* forEachExtent(inode, 0, Math.min(count, EXT_MAX_BLOCKS), (mapping) => {
      if (mapping.lblk !== next || mapping.isUnwritten) sb.corrupted(`the journal has a hole at its block ${next}`);
      runs.push({ start: mapping.pblk, count: mapping.count });
      next = mapping.lblk + mapping.count;
    });
    if (next !== count) sb.corrupted(`the journal has a hole at its block ${next}`);
    return new JournalLocation(this.#bdev, blockSize, runs);
  }

  /** Replays the log: on the device, or in memory over it. Returns whether there was anything in it. */
  *#recover(es: Superblock, location: JournalLocation): Task<boolean> {
    const geometry = yield* wait(location.readSuperblock());
    if (geometry.sb.s_start === 0) {
      this.#journalErrno = geometry.sb.s_errno;
      return false;
    }
    let result: RecoveryResult;
    const { name } = this.#bdev;
    if (this.#isReadOnly) {
      const overlay = new OverlayDevice(this.#bdev);
      result = yield* wait(recoverJournal(location, es.blocksCount, new OverlaySink(overlay)));
      this.#bdev = overlay;
    } else {
      result = yield* wait(recoverJournal(location, es.blocksCount, new DeviceSink(this.#bdev, es.blockSize)));
    }
    if (result.fastCommits.length > 0) result = yield* this.#applyFastCommits(location, result);
    if (!this.#isReadOnly) yield* wait(resetJournal(location, result));
    this.#journalErrno = result.errno;
    this.#warn(`${name} was not unmounted: replayed ${result.transactions} transactions, ${result.replayed} blocks`);
    return true;
  }

  /** Does what was committed fast: in memory first, then by a transaction of its own, so that a crash leaves all of it or nothing. */
  *#applyFastCommits(location: JournalLocation, result: RecoveryResult): Task<RecoveryResult> {
    const bdev = this.#bdev;
    const overlay = new OverlayDevice(bdev);
    this.#bdev = overlay;
    const sb = yield* this.#open((yield* this.#readSuperblock()).es, false);
    sb.isReadOnly = false;
    sb.onError = (error) => this.#warn(error.message);
    yield* this.#keepJournal(sb, location);
    yield* openQuota(sb);
    yield* look(sb, () => loadOrphans(sb, (ino) => orphanOf(sb, ino)));
    yield* applyFastCommits(sb, result.fastCommits);
    this.#warn(`${bdev.name} had fast commits: ${result.fastCommits.length} changes`);
    if (this.#isReadOnly) return result;

    const { blockSize, blocksCount } = sb.es;
    const blocknrs = new Set([...overlay.overlaidAddrs()].map((addr) => Math.floor(addr / blockSize)));
    const blocks: { blocknr: number; data: Uint8Array }[] = [];
    for (const blocknr of blocknrs) {
      const data = new Uint8Array(blockSize);
      yield* wait(readDevice(overlay, blocknr * blockSize, data));
      blocks.push({ blocknr, data });
    }
    this.#bdev = bdev;
    yield* wait(appendTransaction(location, result, blocks, this.#env.now()));
    const { replayed, transactions } = result;
    const last = yield* wait(recoverJournal(location, blocksCount, new DeviceSink(bdev, blockSize)));
    return { ...last, replayed: replayed + last.replayed, transactions };
  }

  /** The journal's blocks are for nobody else. */
  *#keepJournal(sb: Ext4Sb, location: JournalLocation | undefined): Task<void> {
    if (location === undefined || location.isExternal) return;
    const inode = yield* look(sb, () => getInode(sb, sb.es.fields.s_journal_inum));
    yield* forEachExtent(inode, 0, EXT_MAX_BLOCKS, ({ pblk, count }) => sb.zone.add(pblk, count, inode.ino));
  }

  *#start(sb: Ext4Sb, location: JournalLocation | undefined): Task<Ext4Fs> {
    const { es } = sb;
    const { fields } = es;
    sb.onError = (error) => this.#warn(error.message);
    sb.answersAtOnce = this.#answersAtOnce && location?.isExternal !== true;
    sb.errorsContinue = this.#options.errors === undefined ? fields.s_errors === EXT4_ERRORS_CONTINUE : this.#options.errors === 'continue';
    const jmode = fields.s_default_mount_opts & EXT4_DEFM_JMODE;
    sb.journalsData =
      (this.#options.data ?? (jmode === EXT4_DEFM_JMODE_DATA ? 'journal' : 'ordered')) === 'journal' && location !== undefined;
    yield* this.#keepJournal(sb, location);
    if (location !== undefined && !this.#isReadOnly) {
      const journal = yield* wait(
        Journal.load(sb.buffers, {
          location,
          now: () => this.#env.now(),
          hasMetadataCsum: es.hasMetadataCsum,
          is64bit: es.is64bit,
          hooks: sb.hooks,
          clock: this.#clock,
          commitIntervalMs: this.#intervalMs,
        }),
      );
      if (this.#journalErrno !== 0) {
        fields.s_state |= EXT4_ERROR_FS;
        yield* wait(journal.clearErrno());
      }
      sb.log = journal;
    }
    this.#mounted = sb;
    yield* look(sb, () => checkRoot(sb));
    if (es.hasRoCompat(feature.RO_COMPAT_QUOTA) && !this.#isReadOnly) yield* openQuota(sb, this.#options.enforceQuota);
    const state = fields.s_state;
    if ((state & EXT4_ERROR_FS) !== 0) this.#warn(`${this.#bdev.name} has errors on record: e2fsck should look at it`);
    else if ((state & EXT4_VALID_FS) === 0) this.#warn(`${this.#bdev.name} was not unmounted cleanly: e2fsck should look at it`);

    const orphans = yield* look(sb, () => loadOrphans(sb, (ino) => orphanOf(sb, ino)));
    if (!this.#isReadOnly) {
      yield* this.#markMounted(sb);
      yield* this.#finishOrphans(sb, orphans);
    }
    const cache = this.#options.cache ?? new PageCache({ clock: this.#clock });
    const superBlock = new SuperBlock(cache, new BackingDevice(cache, { name: 'ext4' }), EXT_MAX_BLOCKS * es.blockSize);
    const volume: Ext4Volume = {
      sb,
      superBlock,
      data: new Ext4Data(sb, superBlock),
      clock: this.#clock,
      isBusy: () => this.#mmp?.isBusy === true,
      syncSuper: () => syncSuper(sb),
      unmount: () => this.#unmount(sb, state),
    };
    const root = yield* look(sb, () => getInode(sb, EXT4_ROOT_INO));
    root.nlookup = 0;
    return new Ext4Fs(volume, this.#options);
  }

  /** The volume says that it is in use before anything else on it changes. */
  *#markMounted(sb: Ext4Sb): Task<void> {
    const { es } = sb;
    const { fields } = es;
    const now = this.#env.now();
    es.setTime('s_mtime', now);
    es.setTime('s_wtime', now);
    fields.s_mnt_count = (fields.s_mnt_count + 1) & 0xffff;
    if (es.hasCompat(feature.COMPAT_HAS_JOURNAL)) fields.s_feature_incompat = (fields.s_feature_incompat | feature.INCOMPAT_RECOVER) >>> 0;
    else fields.s_state &= ~EXT4_VALID_FS;
    if (es.hasCompat(feature.COMPAT_ORPHAN_FILE)) {
      fields.s_feature_ro_compat = (fields.s_feature_ro_compat | feature.RO_COMPAT_ORPHAN_PRESENT) >>> 0;
    }
    yield* writeSuperblock(sb);
  }

  /** What a crash left: files without names go, sizes that were to shrink do. */
  *#finishOrphans(sb: Ext4Sb, orphans: readonly number[]): Task<void> {
    if ((sb.es.fields.s_state & EXT4_ERROR_FS) !== 0) {
      if (sb.es.lastOrphan !== 0) yield* update(sb, 'mount', CREDITS, (h) => clearOrphanList(h, sb));
      return;
    }
    let deleted = 0;
    try {
      for (const ino of orphans) {
        const inode = yield* look(sb, () => getInode(sb, ino));
        if (inode.nlink === 0) {
          yield* deleteInode(inode);
          deleted++;
        } else {
          if (inode.isRegular && !inode.hasInlineData) yield* truncateBlocks(inode, inode.size);
          yield* update(sb, 'mount', CREDITS, (h) => removeOrphan(h, inode));
        }
      }
      // Behind something impossible: e2fsck finds what was there.
      if (sb.es.lastOrphan !== 0) yield* update(sb, 'mount', CREDITS, (h) => clearOrphanList(h, sb));
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      sb.noteError(error, 0, 0);
      if (sb.log.aborted !== undefined) return;
    }
    if (orphans.length > 0) this.#warn(`${this.#bdev.name}: ${deleted} deleted files and ${orphans.length - deleted} truncations finished`);
    yield* wait(sb.log.commit());
  }

  /** Everything is home, and the volume says that it is whole. */
  *#unmount(sb: Ext4Sb, stateAtMount: number): Task<void> {
    try {
      if (this.#isReadOnly) return;
      const { fields } = sb.es;
      if (sb.log.aborted === undefined) {
        yield* wait(sb.log.close());
        if (!hasOrphans(sb)) fields.s_feature_ro_compat = (fields.s_feature_ro_compat & ~feature.RO_COMPAT_ORPHAN_PRESENT) >>> 0;
        fields.s_feature_incompat = (fields.s_feature_incompat & ~feature.INCOMPAT_RECOVER) >>> 0;
        if ((fields.s_state & EXT4_ERROR_FS) === 0) fields.s_state |= stateAtMount & EXT4_VALID_FS;
        sb.es.setTime('s_wtime', this.#env.now());
        sb.es.finish();
        yield* writeSuperblock(sb);
      } else {
        yield* wait(sb.log.close());
      }
    } finally {
      yield* wait(this.#mmp?.close());
      yield* wait(this.#options.onEnd?.());
    }
  }

  #aborted(sb: Ext4Sb, why: FsError): void {
    sb.isReadOnly = true;
    sb.onReadOnly();
    this.#warn(`${this.#bdev.name} is read-only from here on: ${why.message}`);
  }
}

function* orphanOf(sb: Ext4Sb, ino: number): Task<Ext4Inode> {
  if (!(yield* isInodeInUse(sb, ino))) sb.corrupted(`inode ${ino}, which nobody uses, as an orphan`);
  return yield* getInode(sb, ino);
}

function* checkRoot(sb: Ext4Sb): Task<void> {
  const root = yield* getInode(sb, EXT4_ROOT_INO);
  if (!root.isDirectory || root.nlink === 0 || root.size === 0) sb.corrupted('the root is no directory');
}

/** Puts the counters into the superblock, in the log. */
function* syncSuper(sb: Ext4Sb): Task<void> {
  if (!sb.log.isDirty) return;
  yield* update(sb, 'syncfs', CREDITS, function* (h): Task<void> {
    yield* modifySuperblock(h, sb);
    sb.es.setTime('s_wtime', sb.env.now());
    sb.es.finish();
  });
}

/** Writes the superblock past the log, which is empty or ended; durable at return. */
export function* writeSuperblock(sb: Ext4Sb): Task<void> {
  const { es, buffers, bdev } = sb;
  es.sum();
  const bh = yield* wait(buffers.read(es.block));
  bh.data.set(es.raw, es.offset);
  yield* wait(writeDevice(bdev, es.block * es.blockSize, bh.data, true));
  yield* wait(flushDevice(bdev));
}
