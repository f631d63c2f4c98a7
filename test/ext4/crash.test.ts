// Power cuts and failing devices under ext4, in process: a few of the states that npm run fuzz -- ext4-crash looks at by the thousand.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Prng } from '../../src/base/prng.ts';
import { FaultyDevice } from '../../src/block/faulty-device.ts';
import { RecordingDevice } from '../../src/block/recording-device.ts';
import { SimulatedDevice } from '../../src/block/simulated-device.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import {
  assertClean,
  assertReplayOnly,
  type CrashKind,
  e2fsck,
  freshDevice,
  mountKind,
  runCrash,
  runFailing,
} from '../support/ext4-crash.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';

const LARGE: CrashKind = { title: 'ext4', options: '-t ext4 -b 1024 -J size=1', size: 32 };
const LARGE_KINDS: readonly CrashKind[] = [
  LARGE,
  { ...LARGE, title: 'ext4 with an orphan file', options: `${LARGE.options} -O orphan_file` },
  { ...LARGE, title: 'ext3', options: '-t ext3 -b 1024 -J size=1' },
];

describe('after a power cut', { skip: whyNoE2fsprogs() ?? false }, () => {
  test('every byte and name that was promised is there, no byte is a stranger, and e2fsck has a log to replay at most', () =>
    forEachSeed('power cuts', 13, (_prng, seed) => runCrash(seed, 3)));

  test('where the device had failed before, the same is true of what was promised', () =>
    forEachSeed('failing devices', 13, (_prng, seed) => runFailing(seed, 1)));

  test('the space of files without names that were open is back', async () => {
    for (const kind of LARGE_KINDS) {
      const device = freshDevice(kind);
      const before = await freeOf(kind, device);
      const { face } = await mountKind(kind, device);
      const file = await face.open('/gone', uapi.O_RDWR | uapi.O_CREAT);
      await file.pwrite(new Uint8Array(5_000_000).fill(7), 0);
      await file.fsync();
      await face.unlink('/gone');
      const tmpfile = await face.open('/', uapi.O_RDWR | uapi.O_TMPFILE);
      await tmpfile.pwrite(new Uint8Array(100_000).fill(7), 0);
      await tmpfile.fsync();
      const left = device.snapshot();
      const { text } = e2fsck(kind, left.snapshot(), ['-fy']);
      assertReplayOnly(text);
      assert.equal(await freeOf(kind, left), before, kind.title);
      assertClean(kind, left, kind.title);
    }
  });

  test('a truncate that takes several transactions is finished', () =>
    forEachSeed('half a truncate', 3, async (prng, seed) => {
      const kind = GROUPS_KINDS[seed % GROUPS_KINDS.length] as CrashKind;
      let finished = 0;
      for (const state of await truncateStates(kind, prng)) {
        assertReplayOnly(e2fsck(kind, state.snapshot(), ['-fy']).text);
        const world = await mountKind(kind, state);
        if (world.warnings.some((warning) => /1 truncations finished/.test(warning))) finished++;
        const { size, blocks } = await world.face.stat('/large');
        if (size === 1000) assert.equal(blocks, 2, 'all that is left is one block');
        else assert(blocks >= LARGE_SIZE / 512, `${blocks} sectors of ${LARGE_SIZE} bytes`);
        await world.end();
        assertClean(kind, state, 'what we have finished');
      }
      assert(finished > 0, 'some state was half way');
    }));
});

describe('what the power cuts have found', { skip: whyNoE2fsprogs() ?? false }, () => {
  test('parts of a cluster that are written at different times get the same one', async () => {
    const kind: CrashKind = { title: 'clusters', options: '-t ext4 -b 1024 -J size=1 -O bigalloc -C 16384', size: 32, hasClusters: true };
    const base = freshDevice(kind);
    const late = new SimulatedDevice({
      ...{ size: base.size, logicalBlockSize: base.logicalBlockSize, base, prng: new Prng(1) },
      ...{ copiesAtSubmit: true, hasVolatileCache: true },
    });
    late.autoRun({ post: () => void setImmediate(() => late.step()) });
    const device = new RecordingDevice(late, base);
    const { face, end } = await mountKind(kind, device);
    const file = await face.open('/file', uapi.O_RDWR | uapi.O_CREAT);
    const block = new Uint8Array(1024).fill(1);
    const synced: unknown[] = [];
    for (const lblk of [21, 17, 26, 5, 0, 12, 34]) {
      await file.pwrite(block, lblk * 1024);
      synced.push(file.fsync()); // the next is written while this one is on its way
    }
    await Promise.all(synced);
    // Up to the middle of a cluster that has its place because of what is behind.
    await file.pwrite(new Uint8Array(5 * 1024).fill(2), 60 * 1024);
    await file.fsync();
    await file.pwrite(new Uint8Array(20 * 1024).fill(2), 36 * 1024);
    await file.fsync();
    await end();
    const left = base.snapshot();
    await device.replay(left);
    assertClean(kind, left, 'what was written in parts');
  });

  test('an fsync of a volume that an error has made read-only does not say that all is well', async () => {
    const faulty = new FaultyDevice(freshDevice(LARGE), new Prng(1));
    const { face, end } = await mountKind(LARGE, faulty);
    const file = await face.open('/file', uapi.O_RDWR | uapi.O_CREAT);
    faulty.inject({ ops: ['write'], errno: 'EIO' });
    assert.equal(await codeOf(() => file.fsync()), 'EIO');
    faulty.heal();
    assert.equal(await codeOf(() => file.fsync()), 'EROFS');
    assert.equal(await codeOf(() => file.syncfs()), 'EROFS');
    await end();
  });
});

async function codeOf(call: () => unknown): Promise<string | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

/** Groups so small that the bitmaps of one file do not fit into a transaction. */
const GROUPS: CrashKind = { title: 'ext4', options: '-t ext4 -b 1024 -J size=1 -g 256 -O ^resize_inode', size: 96 };
const GROUPS_KINDS: readonly CrashKind[] = [
  GROUPS,
  { ...GROUPS, title: 'ext4 with an orphan file', options: `${GROUPS.options},orphan_file` },
  { ...GROUPS, title: 'ext3', options: '-t ext3 -b 1024 -J size=1 -g 256 -O ^resize_inode' },
];
const LARGE_SIZE = 72 * 2 ** 20;

async function freeOf(kind: CrashKind, device: Parameters<typeof mountKind>[1]): Promise<number> {
  const world = await mountKind(kind, device);
  const { bfree } = await world.face.statfs('/');
  await world.end();
  return bfree;
}

/** States that a power cut may leave while a large file is cut to almost nothing. */
async function truncateStates(kind: CrashKind, prng: Prng) {
  const base = freshDevice(kind);
  const before = await mountKind(kind, base);
  const file = await before.face.open('/large', uapi.O_RDWR | uapi.O_CREAT);
  for (let pos = 0; pos < LARGE_SIZE; pos += 2 ** 20) await file.pwrite(new Uint8Array(2 ** 20).fill(1), pos);
  await file.close();
  await before.end();

  const device = new RecordingDevice(base);
  const { face, end } = await mountKind(kind, device);
  await face.truncate('/large', 1000);
  // The last part is not committed yet.
  const states = [base.snapshot()];
  for (const state of device.crashStates(prng, { cutsMax: 2, statesPerCut: 1 })) states.push(state.materialise());
  await end();
  return states;
}
