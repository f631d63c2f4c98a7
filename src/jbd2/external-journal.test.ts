import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  buffersOf,
  journalOptions,
  journalSuperblock,
  makeVolume,
  now,
  recoverVolume,
  TEST_UUID,
  VOLUME_BLOCKS,
} from '../../test/support/journal-world.ts';
import { hasCode } from '../base/fs-error.ts';
import { REQ_OP_FLUSH } from '../block/bio.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { RecordingDevice } from '../block/recording-device.ts';
import { openExternalJournal } from './external-journal.ts';
import { Journal } from './journal.ts';
import { type JournalSuperblock, writeJournalSuperblock } from './journal-format.ts';
import { DeviceSink, recoverJournal, resetJournal } from './recovery.ts';

interface Fields {
  magic?: number;
  incompat?: number;
  logBlockSize?: number;
  uuid?: Uint8Array;
  blocks?: number;
  journal?: Partial<JournalSuperblock>;
}

/** A device that is a journal of 1030 blocks of 1 KiB: nothing, ext4's superblock, jbd2's. */
function journalDevice(fields: Fields = {}): MemoryDevice {
  const bdev = new MemoryDevice({ size: 1030 * 1024, hasVolatileCache: true });
  const es = new Uint8Array(1024);
  const view = new DataView(es.buffer);
  view.setUint32(4, fields.blocks ?? 1030, true);
  view.setUint32(0x18, fields.logBlockSize ?? 0, true);
  view.setUint16(0x38, fields.magic ?? 0xef53, true);
  view.setUint32(0x60, fields.incompat ?? 8, true);
  es.set(fields.uuid ?? TEST_UUID, 0x68);
  bdev.write(1024, es);
  const raw = new Uint8Array(1024);
  writeJournalSuperblock(raw, journalSuperblock({ s_maxlen: 1030, s_first: 3, ...fields.journal }));
  bdev.write(2048, raw);
  return bdev;
}

const OTHER_UUID = new Uint8Array(16);

for (const [what, fields, code] of [
  ['of no filesystem', { magic: 0 }, 'EUCLEAN'],
  ['that is a volume', { incompat: 0 }, 'EUCLEAN'],
  ['with larger blocks', { logBlockSize: 2 }, 'EINVAL'],
  ['with blocks of nonsense', { logBlockSize: 0xffffffff }, 'EINVAL'],
  ['of another volume', { uuid: OTHER_UUID }, 'EINVAL'],
  ['whose log is of another volume', { journal: { s_uuid: OTHER_UUID } }, 'EINVAL'],
  ['with two users', { journal: { s_nr_users: 2 } }, 'EINVAL'],
  ['that claims to be larger than it is', { blocks: 1031 }, 'EUCLEAN'],
  ['whose log begins at its superblock', { journal: { s_first: 2 } }, 'EUCLEAN'],
] as const) {
  test(`a device ${what} is refused`, () => {
    assert.throws(
      () => openExternalJournal(journalDevice(fields), 1024, TEST_UUID),
      (error) => hasCode(error, code),
    );
  });
}

test('a device that is too small is refused', () => {
  assert.throws(
    () => openExternalJournal(new MemoryDevice({ size: 1024 }), 1024, TEST_UUID),
    (error) => hasCode(error, 'EUCLEAN'),
  );
});

test('what a log on another device has is replayed, and a block number of the volume is never one of the journal', () => {
  const volume = makeVolume();
  const device = journalDevice();
  const location = now(openExternalJournal(device, 1024, TEST_UUID));
  assert.deepEqual([location.superblock, location.blockCount, location.isExternal, location.contains(5)], [2, 1030, true, false]);
  const journal = now(Journal.load(buffersOf(volume), { ...journalOptions(volume), location, hasMetadataCsum: true }));
  const handle = now(journal.start(2));
  handle.getCreateAccess(5).data.fill(5);
  now(handle.stop());
  now(journal.commit());
  assert.equal(recoverVolume(volume).replayed, 0);
  const result = now(recoverJournal(location, VOLUME_BLOCKS, new DeviceSink(volume, 1024)));
  now(resetJournal(location, result));
  assert.equal(result.replayed, 1);
  assert.equal(volume.read(5 * 1024, 1)[0], 5);
  assert.equal(now(location.readSuperblock()).sb.s_start, 0);
});

test('the volume is flushed before the commit block is written to the other device', () => {
  const volume = new RecordingDevice(makeVolume());
  const location = now(openExternalJournal(journalDevice(), 1024, TEST_UUID));
  const journal = now(Journal.load(buffersOf(volume), { ...journalOptions(volume), location }));
  const handle = now(journal.start(2));
  handle.getCreateAccess(5).data.fill(5);
  now(handle.stop());
  now(journal.commit());
  assert.deepEqual(
    volume.log.entries.map(({ op }) => op),
    [REQ_OP_FLUSH],
  );
});
