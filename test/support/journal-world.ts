import { assert } from '../../src/base/assert.ts';
import { isPromise } from '../../src/base/task.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import { BufferCache } from '../../src/block/buffer-cache.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import type { JournalOptions } from '../../src/jbd2/journal.ts';
import { type JournalSuperblock, writeJournalSuperblock } from '../../src/jbd2/journal-format.ts';
import { JournalLocation } from '../../src/jbd2/journal-location.ts';
import { DeviceSink, type RecoveryResult, recoverJournal, resetJournal } from '../../src/jbd2/recovery.ts';

/** What a device that completes inside submit() answers. */
export function now<T>(value: T | Promise<T>): T {
  assert(!isPromise(value), 'an answer without a promise');
  return value as T;
}

/** A small volume: blocks of 1 KiB, first the volume's own, then its journal, which is in three pieces. */
export const BLOCK_SIZE = 1024;
export const HOME_BLOCKS = 600;
export const JOURNAL_BLOCKS = 1024;
export const VOLUME_BLOCKS = HOME_BLOCKS + JOURNAL_BLOCKS;

export const TEST_UUID: Uint8Array = Uint8Array.of(
  0,
  0x11,
  0x22,
  0x33,
  0x44,
  0x55,
  0x66,
  0x77,
  0x88,
  0x99,
  0xaa,
  0xbb,
  0xcc,
  0xdd,
  0xee,
  0xff,
);

export function locate(bdev: BlockDevice): JournalLocation {
  return new JournalLocation(bdev, BLOCK_SIZE, [
    { start: HOME_BLOCKS + 500, count: 524 },
    { start: HOME_BLOCKS, count: 200 },
    { start: HOME_BLOCKS + 200, count: 300 },
  ]);
}

/** The superblock of an empty log. */
export function journalSuperblock(fields: Partial<JournalSuperblock> = {}): JournalSuperblock {
  return {
    h_magic: 0xc03b3998,
    h_blocktype: 4,
    h_sequence: 0,
    s_blocksize: BLOCK_SIZE,
    s_maxlen: JOURNAL_BLOCKS,
    s_first: 1,
    s_sequence: 1,
    s_start: 0,
    s_errno: 0,
    s_feature_compat: 0,
    s_feature_incompat: 0,
    s_feature_ro_compat: 0,
    s_uuid: TEST_UUID,
    s_nr_users: 1,
    s_dynsuper: 0,
    s_max_transaction: 0,
    s_max_trans_data: 0,
    s_checksum_type: 0,
    s_padding2: new Uint8Array(3),
    s_num_fc_blocks: 0,
    s_head: 0,
    s_padding: new Uint8Array(160),
    s_checksum: 0,
    s_users: new Uint8Array(768),
    ...fields,
  };
}

/** A volume whose log is empty. */
export function makeVolume(fields: Partial<JournalSuperblock> = {}): MemoryDevice {
  const bdev = new MemoryDevice({ size: VOLUME_BLOCKS * BLOCK_SIZE, hasVolatileCache: true, chunkSize: 4096 });
  const block = new Uint8Array(BLOCK_SIZE);
  writeJournalSuperblock(block, journalSuperblock(fields));
  bdev.write(locate(bdev).runFrom(0).addr, block);
  return bdev;
}

/** Everything of JournalOptions but what a test wants to have its own way. */
export function journalOptions(bdev: BlockDevice): JournalOptions {
  let sec = 1_700_000_000;
  return { location: locate(bdev), now: () => ({ sec: sec++, nsec: 5 }), hasMetadataCsum: false, is64bit: false };
}

export function buffersOf(bdev: BlockDevice, budget = 2 ** 20): BufferCache {
  return new BufferCache(bdev, BLOCK_SIZE, budget);
}

/** What a mount does first. The device is one that completes inside submit(). */
export function recoverVolume(bdev: BlockDevice): RecoveryResult {
  const location = locate(bdev);
  const result = now(recoverJournal(location, VOLUME_BLOCKS, new DeviceSink(bdev, BLOCK_SIZE)));
  now(resetJournal(location, result));
  return result;
}
