import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BLOCK_SIZE,
  buffersOf,
  HOME_BLOCKS,
  JOURNAL_BLOCKS,
  journalOptions,
  journalSuperblock,
  locate,
  makeVolume,
  now,
  recoverVolume,
  VOLUME_BLOCKS,
} from '../../test/support/journal-world.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { type ErrnoCode, isErrnoCode } from '../base/errno.ts';
import { errnoCodeOf, hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import type { Bio } from '../block/bio.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { FilterDevice } from '../block/filter-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { OverlayDevice } from '../block/overlay-device.ts';
import { RecordingDevice } from '../block/recording-device.ts';
import { Journal, type JournalOptions } from './journal.ts';
import {
  JBD2_DESCRIPTOR_BLOCK,
  JBD2_REVOKE_BLOCK,
  JournalFormat,
  type JournalSuperblock,
  readJournalSuperblock,
} from './journal-format.ts';
import { JournalLocation } from './journal-location.ts';
import { appendTransaction, DeviceSink, OverlaySink, recoverJournal } from './recovery.ts';

const V3 = { s_feature_incompat: 0x10, s_checksum_type: 4 };
const V3_ASYNC = { s_feature_incompat: 0x14, s_checksum_type: 4 };

/** A block of a transaction, to be logged with this content. */
type Write = readonly [blocknr: number, byte: number];

interface Plan {
  readonly writes?: readonly Write[];
  readonly revokes?: readonly number[];
  /** Time of the commit block. */
  readonly sec?: number;
  readonly tid?: number;
}

/** A volume with a log as any writer may leave it. Shape: the block of the log that each transaction begins at, and the end. */
function makeLog(fields: Partial<JournalSuperblock>, plans: readonly Plan[], start = 1): { bdev: MemoryDevice; blocks: number[] } {
  const sequence = fields.s_sequence ?? 5;
  const bdev = makeVolume({ s_start: start, ...fields, s_sequence: sequence });
  const location = locate(bdev);
  const format = new JournalFormat(journalSuperblock(fields), BLOCK_SIZE);
  let at = start;
  const put = (block: Uint8Array): void => {
    bdev.write(location.runFrom(at).addr, block);
    at = at + 1 >= JOURNAL_BLOCKS ? 1 : at + 1;
  };
  const blocks = [at];
  plans.forEach(({ writes = [], revokes = [], sec = 100, tid: own }, index) => {
    const tid = own ?? (sequence + index) >>> 0;
    let crc = ~0 >>> 0;
    if (revokes.length > 0) put(format.revokeBlock(tid, revokes));
    if (writes.length > 0) {
      const data = writes.map(([, byte]) => new Uint8Array(BLOCK_SIZE).fill(byte));
      const tags = writes.map(([blocknr], i) => ({ blocknr, flags: 0, checksum: format.dataCsum(tid, data[i] as Uint8Array) }));
      for (const block of [format.descriptor(tid, tags), ...data]) {
        crc = format.addToTransaction(crc, block);
        put(block);
      }
    }
    put(format.commitBlock(tid, sec, 0, crc));
    blocks.push(at);
  });
  return { bdev, blocks };
}

function flip(bdev: MemoryDevice, block: number, at: number): void {
  const { addr } = locate(bdev).runFrom(block);
  bdev.write(addr + at, Uint8Array.of((bdev.read(addr + at, 1)[0] as number) ^ 0x10));
}

function home(bdev: MemoryDevice, blocknr: number): number {
  return bdev.read(blocknr * BLOCK_SIZE + 77, 1)[0] as number;
}

function refused(bdev: MemoryDevice, code: ErrnoCode): void {
  assert.throws(
    () => recoverVolume(bdev),
    (error) => hasCode(error, code),
  );
}

function startOf(bdev: MemoryDevice): number {
  return now(locate(bdev).readSuperblock()).sb.s_start;
}

test('an empty log is left alone', () => {
  const bdev = makeVolume({ s_sequence: 9 });
  const result = { replayed: 0, revoked: 0, transactions: 0, lastTid: 8, nextSequence: 9, head: 0, errno: 0, fastCommits: [] };
  assert.deepEqual(recoverVolume(bdev), result);
});

test('transactions are replayed in order, and the log is empty with a sequence number two past the last', () => {
  const { bdev } = makeLog(V3, [
    {
      writes: [
        [3, 1],
        [4, 1],
      ],
    },
    { writes: [[3, 2]] },
  ]);
  const result = recoverVolume(bdev);
  assert.deepEqual(result, { replayed: 3, revoked: 0, transactions: 2, lastTid: 6, nextSequence: 8, head: 8, errno: 0, fastCommits: [] });
  assert.deepEqual([home(bdev, 3), home(bdev, 4)], [2, 1]);
  const { sb } = now(locate(bdev).readSuperblock());
  assert.deepEqual([sb.s_start, sb.s_sequence], [0, 8]);
});

test('a transaction is added to a log that was replayed, all of it or nothing whatever a power cut leaves', () => {
  for (const fields of [{}, V3, { s_feature_compat: 1 }]) {
    const { bdev } = makeLog(fields, [{ writes: [[3, 1]] }, { writes: [[4, 1]] }], JOURNAL_BLOCKS - 5);
    const location = locate(bdev);
    const sink = new DeviceSink(bdev, BLOCK_SIZE);
    const result = now(recoverJournal(location, VOLUME_BLOCKS, sink));
    const device = new RecordingDevice(bdev);
    const data = [3, 5, 6].map((blocknr) => ({ blocknr, data: new Uint8Array(BLOCK_SIZE).fill(blocknr === 5 ? 0 : 9) }));
    // One that has to be escaped.
    (data[2] as { data: Uint8Array }).data.set([0xc0, 0x3b, 0x39, 0x98]);
    now(appendTransaction(locate(device), result, data, { sec: 200, nsec: 0 }));

    const seen = new Set<string>();
    for (const state of device.crashStates(new Prng(1), { statesPerCut: 32 })) {
      const left = state.materialise();
      const { fastCommits, lastTid } = recoverVolume(left);
      assert.deepEqual(fastCommits, []);
      seen.add(`${lastTid}: ${[3, 4, 5, 6].map((blocknr) => home(left, blocknr))}`);
    }
    assert.deepEqual([...seen].sort(), ['6: 1,1,0,0', '7: 9,1,0,9']);
  }
});

test('a transaction that a log has no room for is not added', () => {
  const { bdev } = makeLog(V3, [{ writes: [[3, 1]] }]);
  const result = now(recoverJournal(locate(bdev), VOLUME_BLOCKS, new DeviceSink(bdev, BLOCK_SIZE)));
  const blocks = Array.from({ length: JOURNAL_BLOCKS }, (_, i) => ({ blocknr: i, data: new Uint8Array(BLOCK_SIZE) }));
  assert.throws(
    () => now(appendTransaction(locate(bdev), result, blocks, { sec: 200, nsec: 0 })),
    (error) => hasCode(error, 'ENOSPC'),
  );
});

test('a log that wraps is replayed', () => {
  const { bdev } = makeLog(
    V3,
    [
      {
        writes: [
          [3, 1],
          [4, 1],
          [5, 1],
        ],
      },
      { writes: [[3, 2]] },
    ],
    JOURNAL_BLOCKS - 2,
  );
  assert.equal(recoverVolume(bdev).transactions, 2);
  assert.deepEqual([home(bdev, 3), home(bdev, 5)], [2, 1]);
});

test('sequence numbers go on behind 2^32 - 1, for revokes too', () => {
  const fields = { ...V3, s_sequence: 2 ** 32 - 2 };
  const { bdev } = makeLog(fields, [
    {
      writes: [
        [3, 1],
        [4, 1],
      ],
    },
    { writes: [[5, 1]] },
    { writes: [[4, 2]], revokes: [3] },
    { writes: [[5, 2]] },
  ]);
  bdev.fill(9, 3 * BLOCK_SIZE, BLOCK_SIZE);
  const result = recoverVolume(bdev);
  assert.deepEqual([result.transactions, result.revoked, result.lastTid, result.nextSequence], [4, 1, 1, 3]);
  assert.deepEqual([home(bdev, 3), home(bdev, 4), home(bdev, 5)], [9, 2, 2]);
});

test('a revoke covers its own transaction and those before it, not those behind it', () => {
  const { bdev } = makeLog({}, [
    { writes: [[3, 1]] },
    { writes: [[3, 2]], revokes: [3, 4] },
    {
      writes: [
        [3, 3],
        [5, 3],
      ],
    },
    { revokes: [5] },
  ]);
  assert.deepEqual(recoverVolume(bdev), {
    replayed: 1,
    revoked: 3,
    transactions: 4,
    lastTid: 8,
    nextSequence: 10,
    head: 14,
    errno: 0,
    fastCommits: [],
  });
  assert.deepEqual([home(bdev, 3), home(bdev, 5)], [3, 0]);
});

test('a last transaction without its commit block is not replayed', () => {
  const { bdev, blocks } = makeLog(V3, [{ writes: [[3, 1]] }, { writes: [[3, 2]] }]);
  flip(bdev, (blocks[2] as number) - 1, 0);
  assert.equal(recoverVolume(bdev).lastTid, 5);
  assert.equal(home(bdev, 3), 1);
});

for (const [version, fields] of [
  [1, { s_feature_compat: 1 }],
  [2, { s_feature_incompat: 8, s_checksum_type: 4 }],
  [3, V3],
] as const) {
  test(`a last transaction whose commit block has a wrong checksum is not replayed: version ${version}`, () => {
    const { bdev, blocks } = makeLog(fields, [{ writes: [[3, 1]] }, { writes: [[3, 2]] }]);
    flip(bdev, (blocks[2] as number) - 1, 0x10);
    assert.equal(recoverVolume(bdev).lastTid, 5);
    assert.equal(home(bdev, 3), 1);
  });
}

test('version 1 finds damaged data by the checksum of the transaction, unless its commit block has none', () => {
  const { bdev, blocks } = makeLog({ s_feature_compat: 1 }, [{ writes: [[3, 1]] }, { writes: [[3, 2]] }]);
  flip(bdev, (blocks[2] as number) - 2, 200);
  const copy = bdev.snapshot();
  assert.equal(recoverVolume(bdev).lastTid, 5);
  const { addr } = locate(copy).runFrom((blocks[2] as number) - 1);
  copy.fill(0, addr + 0xc, 8);
  assert.equal(recoverVolume(copy).lastTid, 6);
});

test('data with a wrong checksum is not written, the rest is, and the log stays', () => {
  const { bdev, blocks } = makeLog(V3, [
    {
      writes: [
        [3, 1],
        [4, 1],
      ],
    },
    { writes: [[5, 2]] },
  ]);
  flip(bdev, (blocks[0] as number) + 1, 500);
  refused(bdev, 'EBADMSG');
  assert.deepEqual([home(bdev, 3), home(bdev, 4), home(bdev, 5)], [0, 1, 2]);
  assert.equal(startOf(bdev), 1);
});

for (const what of ['descriptor', 'revoke block'] as const) {
  const plan: Plan = what === 'descriptor' ? { writes: [[3, 2]] } : { revokes: [4] };
  test(`a ${what} with a wrong checksum is the end if its commit is older than the last, and corrupt if it is not`, () => {
    for (const [sec, code] of [
      [99, undefined],
      [100, 'EBADMSG'],
      [101, 'EBADMSG'],
    ] as const) {
      const { bdev, blocks } = makeLog(V3, [{ writes: [[3, 1]] }, { ...plan, sec }]);
      flip(bdev, blocks[1] as number, BLOCK_SIZE - 1);
      if (code !== undefined) refused(bdev, code);
      else assert.equal(recoverVolume(bdev).lastTid, 5);
    }
  });
}

test('with asynchronous commits nothing behind a damaged commit is replayed, and no number behind it is used again', () => {
  const { bdev, blocks } = makeLog(V3_ASYNC, [{ writes: [[3, 1]] }, { writes: [[3, 2]] }, { writes: [[3, 3]] }]);
  flip(bdev, (blocks[2] as number) - 1, 0x20);
  const result = recoverVolume(bdev);
  assert.deepEqual([result.lastTid, result.transactions], [5, 1]);
  assert(result.nextSequence > 7, `${result.nextSequence}`);
  assert.equal(home(bdev, 3), 1);
});

test('a block outside the volume, or in the journal, is refused', () => {
  for (const blocknr of [VOLUME_BLOCKS, 2 ** 32 - 1, HOME_BLOCKS, VOLUME_BLOCKS - 1]) {
    const { bdev } = makeLog(V3, [{ writes: [[blocknr, 1]] }]);
    const before = bdev.read(0, bdev.size);
    refused(bdev, 'EUCLEAN');
    assert.deepEqual(bdev.read(0, bdev.size), before);
  }
  const { bdev } = makeLog({ s_feature_incompat: 0x12, s_checksum_type: 4 }, [{ writes: [[2 ** 52, 1]] }]);
  refused(bdev, 'EUCLEAN');
});

test('a log of nothing but descriptors, or revoke blocks, of one transaction ends', () => {
  for (const type of [JBD2_DESCRIPTOR_BLOCK, JBD2_REVOKE_BLOCK]) {
    const { bdev } = makeLog({}, []);
    const location = locate(bdev);
    const format = new JournalFormat(journalSuperblock(), BLOCK_SIZE);
    for (let at = 1; at < JOURNAL_BLOCKS; at++) bdev.write(location.runFrom(at).addr, format.newBlock(type, 5));
    refused(bdev, 'EUCLEAN');
  }
});

test('a revoke block of a wrong size is refused', () => {
  const { bdev, blocks } = makeLog({}, [{ writes: [[3, 1]], revokes: [3] }]);
  bdev.write(locate(bdev).runFrom(blocks[0] as number).addr + 12, Uint8Array.of(0, 0, 5, 0));
  refused(bdev, 'EINVAL');
});

test('a log that changes while it is replayed is an I/O error', () => {
  const { bdev } = makeLog(V3, [{ writes: [[3, 1]] }, { writes: [[3, 2]] }]);
  class Changing extends FilterDevice {
    #reads = 0;
    submit(bio: Bio): void {
      // The superblock, and two pieces in the scan; then the second commit is gone.
      if (++this.#reads === 4) bdev.fill(0, locate(bdev).runFrom(6).addr, BLOCK_SIZE);
      this.inner.submit(bio);
    }
  }
  const changing = new Changing(bdev, 'changing');
  const location = new JournalLocation(changing, BLOCK_SIZE, [
    { start: HOME_BLOCKS + 500, count: 3 },
    { start: HOME_BLOCKS + 503, count: 521 },
    { start: HOME_BLOCKS, count: 500 },
  ]);
  assert.throws(
    () => recoverJournal(location, VOLUME_BLOCKS, new OverlaySink(new OverlayDevice(bdev))),
    (error) => hasCode(error, 'EIO'),
  );
});

test('errors of the device are told, and the log stays', () => {
  const { bdev } = makeLog(V3, [{ writes: [[3, 1]] }]);
  for (const op of ['read', 'write', 'flush'] as const) {
    const faulty = new FaultyDevice(bdev, new Prng(1));
    faulty.inject({ ops: [op], errno: 'EIO' });
    assert.throws(
      () => recoverVolume(faulty),
      (error) => hasCode(error, 'EIO'),
      op,
    );
    assert.equal(startOf(bdev), 1);
  }
});

/** A log that Journal wrote: with revokes, escapes, and a crash. */
function writtenLog(prng: Prng, options: Partial<JournalOptions>): MemoryDevice {
  const bdev = makeVolume({ s_head: prng.pick([1, 1000]) });
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), ...options }));
  for (let round = 0; round < 8; round++) {
    const handle = now(journal.start(20));
    for (let i = 0; i < 8; i++) {
      const block = prng.below(40);
      if (prng.chance(0.2)) handle.forget(block);
      else handle.getCreateAccess(block).data.set(prng.chance(0.2) ? [0xc0, 0x3b, 0x39, 0x98, round] : prng.bytes(BLOCK_SIZE));
    }
    now(handle.stop());
    now(journal.commit());
  }
  return bdev;
}

test('a power cut in a recovery costs nothing: the next one ends the same', () =>
  forEachSeed('again', 5, (prng) => {
    const base = writtenLog(prng, { hasMetadataCsum: true });
    const bdev = new RecordingDevice(base);
    const result = recoverVolume(bdev);
    assert(result.replayed > 0 && result.revoked > 0);
    const whole = base.read(0, HOME_BLOCKS * BLOCK_SIZE);
    for (const state of bdev.crashStates(prng, { statesPerCut: 8 })) {
      const image = state.materialise();
      recoverVolume(image);
      assert.deepEqual(image.read(0, HOME_BLOCKS * BLOCK_SIZE), whole, state.text);
    }
  }));

test('an overlay shows what a recovery leaves on the device, which stays as it is', () =>
  forEachSeed('overlay', 5, (prng) => {
    const bdev = writtenLog(prng, {});
    const before = bdev.read(0, bdev.size);
    const overlay = new OverlayDevice(bdev);
    now(recoverJournal(locate(bdev), VOLUME_BLOCKS, new OverlaySink(overlay)));
    assert.deepEqual(bdev.read(0, bdev.size), before);
    const shown = buffersOf(overlay);
    recoverVolume(bdev);
    for (let block = 0; block < HOME_BLOCKS; block++) {
      assert.deepEqual(now(shown.read(block)).data, bdev.read(block * BLOCK_SIZE, BLOCK_SIZE), `block ${block}`);
    }
  }));

test('damaged logs are replayed or refused, soon, and nothing but the volume is written', () =>
  forEachSeed('damaged', 150, (prng) => {
    const bdev = writtenLog(
      prng,
      prng.pick<Partial<JournalOptions>>([{}, { hasJournalChecksum: true }, { hasMetadataCsum: true }, { is64bit: true }]),
    );
    const location = locate(bdev);
    for (let n = prng.between(1, 30); n > 0; n--) {
      const block = prng.chance(0.1) ? 0 : prng.chance(0.5) ? prng.between(1, 100) : prng.between(995, 1023);
      // Headers and tags rather than data.
      const at = prng.below(prng.chance(0.8) ? 48 : BLOCK_SIZE - 4);
      const value = prng.pick<number>([0, 1, 0xff, prng.below(256)]);
      bdev.write(location.runFrom(block).addr + at, prng.chance(0.3) ? new Uint8Array(4).fill(value) : Uint8Array.of(value));
    }
    const before = bdev.read(HOME_BLOCKS * BLOCK_SIZE, JOURNAL_BLOCKS * BLOCK_SIZE);
    try {
      recoverVolume(bdev);
    } catch (error) {
      const code = errnoCodeOf(error);
      assert(error instanceof Error && isErrnoCode(code) && code !== ('ERR_ASSERTION' as ErrnoCode), String(error));
    }
    const after = bdev.read(HOME_BLOCKS * BLOCK_SIZE, JOURNAL_BLOCKS * BLOCK_SIZE);
    const superblock = 500 * BLOCK_SIZE;
    for (const bytes of [before, after]) bytes.fill(0, superblock, superblock + 1024);
    assert.deepEqual(after, before);
  }));

test('a journal whose blocks are not on the device, or are there twice, has no place', () => {
  const bdev = new MemoryDevice({ size: 100 * BLOCK_SIZE });
  for (const runs of [
    [{ start: 90, count: 11 }],
    [{ start: -1, count: 5 }],
    [{ start: 0, count: 0 }],
    [
      { start: 10, count: 10 },
      { start: 19, count: 5 },
    ],
  ]) {
    assert.throws(
      () => new JournalLocation(bdev, BLOCK_SIZE, runs),
      (error) => hasCode(error, 'EUCLEAN'),
    );
  }
  assert.throws(
    () => new JournalLocation(bdev, BLOCK_SIZE, []).readSuperblock(),
    (error) => hasCode(error, 'EUCLEAN'),
  );
  assert.throws(
    () => readJournalSuperblock(new Uint8Array(1024), BLOCK_SIZE, 100),
    (error) => hasCode(error, 'EUCLEAN'),
  );
});

test('a block of the journal is found in its piece, and known as one', () => {
  const bdev = makeVolume();
  const location = locate(bdev);
  assert.deepEqual(location.runFrom(523), { addr: (HOME_BLOCKS + 1023) * BLOCK_SIZE, count: 1 });
  assert.deepEqual(location.runFrom(524), { addr: HOME_BLOCKS * BLOCK_SIZE, count: 200 });
  assert.deepEqual(location.runFrom(1023), { addr: (HOME_BLOCKS + 499) * BLOCK_SIZE, count: 1 });
  assert.throws(
    () => location.runFrom(1024),
    (error) => hasCode(error, 'EUCLEAN'),
  );
  assert.deepEqual(
    [HOME_BLOCKS - 1, HOME_BLOCKS, HOME_BLOCKS + 199, HOME_BLOCKS + 1023, HOME_BLOCKS + 1024].map((block) => location.contains(block)),
    [false, true, true, true, false],
  );
});
