import { FsError } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { type BlockDevice, readDevice } from '../block/block-device.ts';
import { bytes, pad, struct, u16, u32 } from '../layout/struct.ts';
import { JournalLocation } from './journal-location.ts';

const EXT4_SUPER_MAGIC = 0xef53;
const EXT4_FEATURE_INCOMPAT_JOURNAL_DEV = 0x8;
const SUPERBLOCK_OFFSET = 1024;

/** What a device that is a journal has of ext4's superblock. Little-endian. */
// biome-ignore format: one row per field, as the format is drawn
const ext4_super_block = struct('ext4_super_block', 1024, {
  s_inodes_count:      pad(0, 4),
  s_blocks_count_lo:   u32(4), // blocks of the journal, superblocks and all
  s_r_blocks_count_lo: pad(8, 0x10),
  s_log_block_size:    u32(0x18), // 0 is 1024 bytes
  s_log_cluster_size:  pad(0x1c, 0x1c),
  s_magic:             u16(0x38),
  s_state:             pad(0x3a, 0x26),
  s_feature_incompat:  u32(0x60),
  s_feature_ro_compat: pad(0x64, 4),
  s_uuid:              bytes(0x68, 16),
  s_rest:              pad(0x78, 0x388),
});

/**
 * The journal that fills a device of its own.
 *
 * Shape:  `uuid`: the one that the volume asks for; `blockSize`: of the volume. Its superblock is in the block behind ext4's.
 * Errors: EIO; EUCLEAN where the device is no journal, EINVAL where it is another's, or has several users.
 */
export function openExternalJournal(bdev: BlockDevice, blockSize: number, uuid: Uint8Array): MaybePromise<JournalLocation> {
  return run(open(bdev, blockSize, uuid));
}

function* open(bdev: BlockDevice, blockSize: number, uuid: Uint8Array): Task<JournalLocation> {
  const raw = new Uint8Array(Math.max(4096, bdev.logicalBlockSize));
  if (bdev.size < raw.length) throw new FsError('EUCLEAN', 'mount', { detail: `${bdev.name} is too small for a journal` });
  yield* wait(readDevice(bdev, 0, raw));
  const es = ext4_super_block.read(raw, SUPERBLOCK_OFFSET);
  if (es.s_magic !== EXT4_SUPER_MAGIC || (es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_JOURNAL_DEV) === 0)
    throw new FsError('EUCLEAN', 'mount', { detail: `${bdev.name} is not a journal` });
  if (es.s_log_block_size > 6 || 1024 << es.s_log_block_size !== blockSize)
    throw new FsError('EINVAL', 'mount', { detail: `${bdev.name}: journal with another block size` });
  if (!isSame(es.s_uuid, uuid)) throw new FsError('EINVAL', 'mount', { detail: `${bdev.name}: journal of another volume` });

  const superblock = blockSize === SUPERBLOCK_OFFSET ? 2 : 1;
  const location = new JournalLocation(bdev, blockSize, [{ start: 0, count: es.s_blocks_count_lo }], { superblock });
  const { sb } = yield* wait(location.readSuperblock());
  if (!isSame(sb.s_uuid, uuid)) throw new FsError('EINVAL', 'mount', { detail: `${bdev.name}: journal of another volume` });
  if (sb.s_nr_users > 1) throw new FsError('EINVAL', 'mount', { detail: `${bdev.name}: journal with ${sb.s_nr_users} users` });
  if (sb.s_first <= superblock) throw new FsError('EUCLEAN', 'mount', { detail: `${bdev.name}: the log begins at block ${sb.s_first}` });
  return location;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
