import assert from 'node:assert/strict';
import test from 'node:test';
import { assertSameBytes, FlatModel } from '../../test/support/model.ts';
import { SimScheduler } from '../../test/support/scheduler.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { StepLog } from '../../test/support/step-log.ts';
import { TestFile } from '../../test/support/test-file.ts';
import { GARBAGE, TestFs } from '../../test/support/test-fs.ts';
import { testFsOps } from '../../test/support/test-fs-ops.ts';
import { Prng } from '../base/prng.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { SimulatedDevice } from '../block/simulated-device.ts';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_NO_HIDE_STALE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_WRITE_ZEROES,
  FALLOC_FL_ZERO_RANGE,
} from '../vfs/uapi.ts';
import { collapseRange, type FallocateOps, fallocate, fallocateZeroRange, insertRange, preallocate, punchHole } from './fallocate.ts';
import { reflink } from './remap.ts';

const BLOCK = 4096;
const LOCKS = ['lock 1', 'dioWait 1', 'invalidateLock 1'];

async function world(size = 10 * BLOCK, options: { blockSize?: number; sizeMax?: number } = {}) {
  const memory = new MemoryDevice({ size: 2 ** 22, chunkSize: 65536 });
  memory.fill(GARBAGE);
  const bdev = new FaultyDevice(memory, new Prng(1));
  const fs = new TestFs({ bdev, ...options });
  const log = new StepLog();
  const ops = testFsOps(fs, (step) => log.note(step));
  const file = new TestFile(fs);
  if (size > 0)
    await file.write(
      0,
      new Uint8Array(size).map((_, i) => 1 + Math.floor(i / 1024)),
    );
  await file.fsync();
  log.watch(file.inode);
  const content = await file.readAll();
  return { bdev, fs, log, ops, file, inode: file.inode, content: content.slice() };
}

const written = (steps: string[]) => steps.filter((step) => !LOCKS.includes(step));

test('punching a hole: locks, flush, whole blocks out of the cache, edges zeroed, blocks freed', async () => {
  const { file, inode, ops, log, content } = await world();
  await punchHole(inode, 2 * BLOCK + 100, 3 * BLOCK, ops);
  assert.deepEqual(log.take(), [
    ...LOCKS,
    `write 1 ${2 * BLOCK} ${6 * BLOCK}`,
    `invalidate 1 ${3 * BLOCK} ${5 * BLOCK}`,
    `freeBlocks ${3 * BLOCK} ${5 * BLOCK}`,
  ]);
  assert.deepEqual(
    inode.data.all.map(({ block, count }) => [block, count]),
    [
      [0, 3],
      [5, 5],
    ],
  );
  content.fill(0, 2 * BLOCK + 100, 5 * BLOCK + 100);
  assertSameBytes(await file.readAll(), content, 'cache');
  await file.dropCache();
  assertSameBytes(await file.readAll(), content, 'storage');
});

test('a hole inside one block is zeros and frees nothing', async () => {
  const { file, inode, ops, log, content } = await world();
  await punchHole(inode, 2 * BLOCK + 100, 200, ops);
  assert.deepEqual(written(log.take()), [`write 1 ${2 * BLOCK} ${3 * BLOCK}`]);
  await file.dropCache();
  content.fill(0, 2 * BLOCK + 100, 2 * BLOCK + 300);
  assertSameBytes(await file.readAll(), content, 'storage');
});

test('a hole of some blocks of a page reads as zeros, from the cache and from storage', async () => {
  const { file, inode, ops, content } = await world(16 * 1024, { blockSize: 1024 });
  await punchHole(inode, 1024, 2048, ops);
  content.fill(0, 1024, 3072);
  assertSameBytes(await file.readAll(), content, 'cache');
  await file.dropCache();
  assertSameBytes(await file.readAll(), content, 'storage');
});

test('a hole past the end frees what is allocated there and leaves the size', async () => {
  const { inode, ops, log, file } = await world(100);
  await file.prealloc(0, 10 * BLOCK);
  log.take();
  await punchHole(inode, 50, 5 * BLOCK, ops);
  assert.deepEqual(written(log.take()).slice(-1), [`freeBlocks ${BLOCK} ${5 * BLOCK}`]);
  assert.equal(inode.size, 100);
  const expected = new Uint8Array(100).fill(1, 0, 50);
  assertSameBytes(await file.readAll(), expected, 'content');
  await punchHole(inode, 6 * BLOCK, BLOCK, ops);
  assert.deepEqual(written(log.take()).slice(-1), [`freeBlocks ${6 * BLOCK} ${7 * BLOCK}`]);
});

test('zeroing a range: as a hole, then blocks for all of it, then the size', async () => {
  const { file, inode, ops, log, content } = await world();
  await fallocateZeroRange(inode, 8 * BLOCK + 10, 4 * BLOCK, false, ops);
  const [end, size] = [12 * BLOCK + 10, 10 * BLOCK];
  assert.deepEqual(written(log.take()), [
    `write 1 ${8 * BLOCK} ${13 * BLOCK}`,
    `invalidate 1 ${9 * BLOCK} ${12 * BLOCK}`,
    `freeBlocks ${9 * BLOCK} ${12 * BLOCK}`,
    `allocateUnwritten ${8 * BLOCK} ${13 * BLOCK}`,
    `size 1 ${end}`,
    `setSize ${end}`,
  ]);
  const expected = new Uint8Array(end);
  expected.set(content.subarray(0, 8 * BLOCK + 10));
  assertSameBytes(await file.readAll(), expected, 'content');
  assert.ok(inode.data.slice(8, 13).reduce((sum, { count }) => sum + count, 0) === 5);
  assert.equal(size < end, true);
});

test('a filesystem that can make blocks unwritten is asked to instead', async () => {
  const { inode, ops, log } = await world();
  const own: FallocateOps = {
    ...ops,
    convertToUnwritten: (_inode, start, end) => log.note(`convertToUnwritten ${start} ${end}`),
  };
  await fallocateZeroRange(inode, BLOCK, 2 * BLOCK, true, own);
  assert.deepEqual(written(log.take()).slice(2), [`convertToUnwritten ${BLOCK} ${3 * BLOCK}`, `allocateUnwritten ${BLOCK} ${3 * BLOCK}`]);
});

test('preallocation: whole blocks, unwritten, and the size unless it is to be kept', async () => {
  const { file, inode, ops, log, content } = await world(100);
  await preallocate(inode, 5000, 10_000, true, ops);
  assert.deepEqual(log.take(), [...LOCKS, `allocateUnwritten ${BLOCK} ${4 * BLOCK}`]);
  assert.equal(inode.size, 100);
  assert.deepEqual(
    inode.data.slice(1, 4).map(({ written }) => written),
    [false],
  );
  await preallocate(inode, 5000, 10_000, false, ops);
  // The rest of the block of the old end was zeroed, and goes out first.
  assert.deepEqual(written(log.take()), [`allocateUnwritten ${BLOCK} ${4 * BLOCK}`, 'size 1 15000', 'write 1 100 15000', 'setSize 15000']);
  const expected = new Uint8Array(15_000);
  expected.set(content);
  assertSameBytes(await file.readAll(), expected, 'content');
});

test('collapsing: flush and drop to the end, blocks freed, the rest moved down, the size', async () => {
  const { file, inode, ops, log, content } = await world(10 * BLOCK + 10);
  await collapseRange(inode, 2 * BLOCK, 3 * BLOCK, ops);
  const size = 7 * BLOCK + 10;
  assert.deepEqual(written(log.take()), [
    `write 1 ${2 * BLOCK} Infinity`,
    `invalidate 1 ${2 * BLOCK} Infinity`,
    `freeBlocks ${2 * BLOCK} ${5 * BLOCK}`,
    `shiftExtents ${5 * BLOCK} ${2 * BLOCK}`,
    `size 1 ${size}`,
    `drop 1 ${size} Infinity`,
    `setSize ${size}`,
  ]);
  const expected = new Uint8Array(size);
  expected.set(content.subarray(0, 2 * BLOCK));
  expected.set(content.subarray(5 * BLOCK), 2 * BLOCK);
  assertSameBytes(await file.readAll(), expected, 'content');
});

test('inserting: the size first, flush and drop to the end, the rest moved up', async () => {
  const { file, inode, ops, log, content } = await world();
  await insertRange(inode, 2 * BLOCK, 3 * BLOCK, ops);
  assert.deepEqual(written(log.take()), [
    `size 1 ${13 * BLOCK}`,
    `setSize ${13 * BLOCK}`,
    `write 1 ${2 * BLOCK} Infinity`,
    `invalidate 1 ${2 * BLOCK} Infinity`,
    `shiftExtents ${2 * BLOCK} ${5 * BLOCK}`,
  ]);
  const expected = new Uint8Array(13 * BLOCK);
  expected.set(content.subarray(0, 2 * BLOCK));
  expected.set(content.subarray(2 * BLOCK), 5 * BLOCK);
  assertSameBytes(await file.readAll(), expected, 'content');
});

test('a large folio over the place from which blocks move is dropped whole, and loses nothing', async () => {
  const { file, inode, ops, content } = await world(64 * 1024);
  await file.dropCache();
  await file.write(0, content); // one folio
  assert.equal(inode.mapping.find(0)?.size, 65536);
  await collapseRange(inode, 3 * BLOCK, BLOCK, ops);
  const expected = new Uint8Array(15 * BLOCK);
  expected.set(content.subarray(0, 3 * BLOCK));
  expected.set(content.subarray(4 * BLOCK), 3 * BLOCK);
  assertSameBytes(await file.readAll(), expected, 'content');
});

test('what cannot be flushed is not moved', async () => {
  for (const recipe of [punchHole, collapseRange]) {
    const { bdev, file, inode, ops, log } = await world();
    await file.write(3 * BLOCK, new Uint8Array(100).fill(9));
    const extents = inode.data.all.slice();
    log.take();
    bdev.inject({ ops: ['write'], errno: 'EIO' });
    await assert.rejects(async () => recipe(inode, 2 * BLOCK, 4 * BLOCK, ops), { code: 'EIO' });
    assert.deepEqual(inode.data.all, extents);
    assert.deepEqual(
      written(log.take()).filter((step) => !step.startsWith('write')),
      [],
    );
    assert.equal(inode.lock.isLocked || inode.mapping.invalidateLock.isLocked || inode.sb.freezeWrite.isLocked, false);
  }
});

test('ranges and modes are checked as fallocate(2) does, before any hook is called (invariant 66: length 0 too)', async () => {
  const { inode, ops, log } = await world(10 * BLOCK, { sizeMax: 2 ** 20 });
  const cases: [mode: number, offset: number, length: number, code: string][] = [
    [0, 0, 0, 'EINVAL'],
    [FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0, 'EINVAL'],
    [0, -1, 10, 'EINVAL'],
    [0, 0, -10, 'EINVAL'],
    [0, 0.5, 10, 'EINVAL'],
    [0, 2 ** 60, 10, 'EOVERFLOW'],
    [0, 2 ** 20, 1, 'EFBIG'],
    [FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 ** 20 - 5, 10, 'EFBIG'],
    [FALLOC_FL_PUNCH_HOLE, 0, 10, 'EOPNOTSUPP'],
    [FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, BLOCK, 'EOPNOTSUPP'],
    [FALLOC_FL_INSERT_RANGE | FALLOC_FL_KEEP_SIZE, 0, BLOCK, 'EOPNOTSUPP'],
    [FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE, 0, BLOCK, 'EOPNOTSUPP'],
    [FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, BLOCK, 'EOPNOTSUPP'],
    [FALLOC_FL_NO_HIDE_STALE, 0, BLOCK, 'EOPNOTSUPP'],
    [FALLOC_FL_WRITE_ZEROES, 0, BLOCK, 'EOPNOTSUPP'],
    [0x1000, 0, BLOCK, 'EOPNOTSUPP'],
    [FALLOC_FL_COLLAPSE_RANGE, 1, BLOCK, 'EINVAL'],
    [FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK + 1, 'EINVAL'],
    [FALLOC_FL_COLLAPSE_RANGE, 9 * BLOCK, BLOCK, 'EINVAL'],
    [FALLOC_FL_COLLAPSE_RANGE, 8 * BLOCK, 4 * BLOCK, 'EINVAL'],
    [FALLOC_FL_INSERT_RANGE, 1, BLOCK, 'EINVAL'],
    [FALLOC_FL_INSERT_RANGE, 0, 100, 'EINVAL'],
    [FALLOC_FL_INSERT_RANGE, 10 * BLOCK, BLOCK, 'EINVAL'],
    [FALLOC_FL_INSERT_RANGE, 0, 2 ** 20 - 9 * BLOCK, 'EFBIG'],
  ];
  for (const [mode, offset, length, code] of cases) {
    await assert.rejects(
      async () => fallocate(inode, mode, offset, length, ops),
      { code, syscall: 'fallocate' },
      `mode ${mode} ${offset} ${length}`,
    );
  }
  assert.deepEqual(written(log.take()), []);
  assert.equal(inode.size, 10 * BLOCK);
});

test('a filesystem without a hook says so', async () => {
  const { inode, ops } = await world();
  const { io, setSize } = ops;
  for (const mode of [
    0,
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_ZERO_RANGE,
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
  ]) {
    assert.throws(() => fallocate(inode, mode, 0, BLOCK, { io, setSize }), { code: 'EOPNOTSUPP' });
  }
});

test('the modes of fallocate, and a clone among them, agree with a flat model', () =>
  forEachSeed('fallocate', 60, async (prng) => {
    const isAsync = prng.chance(0.4);
    const blockSize = prng.pick([512, 1024, 4096, 8192]);
    const size = 2 ** 22;
    const memory = new MemoryDevice({ size, chunkSize: 65536 });
    memory.fill(GARBAGE);
    const scheduler = isAsync ? new SimScheduler(prng.fork()) : undefined;
    const bdev = isAsync ? new SimulatedDevice({ size, prng: prng.fork(), base: memory }) : memory;
    if (bdev instanceof SimulatedDevice && scheduler !== undefined) bdev.autoRun(scheduler);
    const fs = new TestFs({
      bdev,
      prng: prng.fork(),
      blockSize,
      mode: prng.pick(['delalloc', 'unwritten', 'mapped-new'] as const),
      extentMax: prng.pick([1, 3, 100]),
      orderMax: prng.between(0, 5),
      folioBatch: prng.chance(0.5),
      ...(scheduler === undefined ? {} : { scheduler, clock: scheduler.clock }),
    });
    const settle = async <T>(value: T | Promise<T>): Promise<T> => (scheduler === undefined ? value : scheduler.settle(value));
    const ops = testFsOps(fs);
    const files = [new TestFile(fs), new TestFile(fs)];
    const models = [new FlatModel(), new FlatModel()];
    const room = 24 * blockSize;
    const blocks = (max: number) => prng.below(max) * blockSize;
    const user = (length: number) => prng.bytes(length).map((byte) => byte & 0x7f);
    const replace = (model: FlatModel, content: Uint8Array) => {
      model.truncate(0);
      model.write(0, content);
    };
    const steps = prng.between(20, 50);
    for (let step = 0; step < steps; step++) {
      const which = prng.below(2);
      const [file, model] = [files[which] as TestFile, models[which] as FlatModel];
      const { inode } = file;
      const pos = prng.below(room);
      const length = prng.between(1, 6 * blockSize);
      const all: Record<string, () => Promise<void>> = {
        async write() {
          const data = user(length);
          await file.write(pos, data);
          model.write(pos, data);
        },
        async truncate() {
          await file.truncate(pos);
          model.truncate(pos);
        },
        async punch() {
          await fallocate(inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, length, ops);
          model.zero(pos, length);
        },
        async zeroRange() {
          const keep = prng.chance(0.5) ? FALLOC_FL_KEEP_SIZE : 0;
          await fallocate(inode, FALLOC_FL_ZERO_RANGE | keep, pos, length, ops);
          model.zero(pos, length);
          if (keep === 0 && pos + length > model.size) model.truncate(pos + length);
        },
        async preallocate() {
          const keep = prng.chance(0.5) ? FALLOC_FL_KEEP_SIZE : 0;
          await fallocate(inode, keep, pos, length, ops);
          if (keep === 0 && pos + length > model.size) model.truncate(pos + length);
        },
        async unshare() {
          await fallocate(inode, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE, pos, length, ops);
        },
        async collapse() {
          const at = blocks(20);
          const count = blocks(4) + blockSize;
          if (at + count >= model.size) return;
          await fallocate(inode, FALLOC_FL_COLLAPSE_RANGE, at, count, ops);
          replace(model, Uint8Array.from([...model.content.subarray(0, at), ...model.content.subarray(at + count)]));
        },
        async insert() {
          const at = blocks(20);
          const count = blocks(4) + blockSize;
          if (at >= model.size) return;
          await fallocate(inode, FALLOC_FL_INSERT_RANGE, at, count, ops);
          replace(model, Uint8Array.from([...model.content.subarray(0, at), ...new Uint8Array(count), ...model.content.subarray(at)]));
        },
        async clone() {
          const [src, from] = [files[1 - which] as TestFile, models[1 - which] as FlatModel];
          const srcPos = blocks(20);
          const dstPos = blocks(20);
          if (srcPos >= from.size) return;
          const count = await reflink({ src: src.inode, srcPos, dst: inode, dstPos, length, canShorten: true }, ops);
          model.write(dstPos, from.content.slice(srcPos, srcPos + count));
        },
        async drop() {
          await file.dropCache();
        },
        async fsync() {
          await file.fsync();
        },
      };
      const name = prng.pick(Object.keys(all));
      await settle((all[name] as () => Promise<void>)());
      for (const [i, each] of files.entries()) {
        assertSameBytes(
          await settle(each.readAll()),
          (models[i] as FlatModel).content,
          `step ${step}: ${name} on file ${which}: file ${i}`,
        );
      }
    }
    await settle(files[0]?.fsync());
    await settle(files[1]?.fsync());
    if (!(bdev instanceof MemoryDevice)) {
      await scheduler?.quiesce();
      return;
    }
    await fs.settle();
    const after = TestFs.mount({ bdev: bdev.snapshot(), blockSize, mode: fs.mode }, fs.durable);
    for (const [i, { inode }] of files.entries()) {
      const content = await new TestFile(after, after.inode(inode.ino)).readAll();
      assertSameBytes(content, (models[i] as FlatModel).content, `file ${i} after fsync and a crash`);
    }
  }));
