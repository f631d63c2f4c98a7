import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { assertSameBytes, FlatModel } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { StepLog } from '../../test/support/step-log.ts';
import { TestFile } from '../../test/support/test-file.ts';
import { GARBAGE, TestFs } from '../../test/support/test-fs.ts';
import { testFsOps } from '../../test/support/test-fs-ops.ts';
import { FsError } from '../base/fs-error.ts';
import { run } from '../base/task.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { IOMAP_MAPPED } from './iomap.ts';
import { setSize } from './truncate.ts';
import { truncatePage, zeroRange } from './zero-range.ts';

const BLOCK = 4096;

function world(blockSize = BLOCK) {
  const bdev = new MemoryDevice({ size: 2 ** 22 });
  bdev.fill(GARBAGE);
  const fs = new TestFs({ bdev, blockSize });
  const log = new StepLog();
  const ops = testFsOps(fs, (step) => log.note(step));
  const file = new TestFile(fs);
  return { bdev, fs, log, ops, file, inode: file.inode };
}

test('growing: locks, zeroing, size, stable, durable size', async () => {
  const { file, inode, ops, log } = world();
  await file.write(0, new Uint8Array(5000).fill(1));
  await file.fsync();
  log.watch(inode);
  await setSize(inode, 20_000, ops);
  // The last block is mapped: its rest is zeroed in the cache, and written before the size that shows it becomes durable.
  assert.deepEqual(log.take(), ['lock 1', 'dioWait 1', 'invalidateLock 1', 'size 1 20000', 'write 1 5000 20000', 'setSize 20000']);
  // Holes need nothing.
  await setSize(inode, 20_480, ops);
  await file.fsync();
  log.take();
  await setSize(inode, 30_000, ops);
  assert.deepEqual(log.take().slice(3), ['size 1 30000', 'setSize 30000']);
});

test('growing: data that was acknowledged past the durable size is written before the durable size passes it', async () => {
  const { file, inode, ops, log, fs, bdev } = world();
  await file.write(0, new Uint8Array(1000).fill(1));
  await file.fsync();
  await file.write(1000, new Uint8Array(500).fill(2)); // into the same block, which is mapped: a crash would show zeros
  assert.equal(inode.diskSize, 1000);
  log.watch(inode);
  await setSize(inode, BLOCK, ops);
  assert.deepEqual(log.take().slice(3), ['size 1 4096', 'write 1 1000 4096', 'setSize 4096']);
  await run(fs.commit());
  const after = TestFs.mount({ bdev: bdev.snapshot(), blockSize: BLOCK }, fs.durable);
  const expected = new Uint8Array(BLOCK);
  expected.fill(1, 0, 1000).fill(2, 1000, 1500);
  assertSameBytes(await new TestFile(after, after.inode(1)).readAll(), expected, 'after a crash');
});

test('shrinking: locks, rest of the last block, stable, size, cache, durable size', async () => {
  const { file, inode, ops, log } = world();
  await file.write(0, new Uint8Array(20_000).fill(1));
  await file.fsync();
  log.watch(inode);
  await setSize(inode, 5000, ops);
  assert.deepEqual(log.take(), ['lock 1', 'dioWait 1', 'invalidateLock 1', 'size 1 5000', 'drop 1 5000 Infinity', 'setSize 5000']);
  // Data that is not durable yet and stays in the file goes first.
  await file.write(5000, new Uint8Array(10_000).fill(2));
  log.take();
  await setSize(inode, 9000, ops);
  assert.deepEqual(
    log.take().filter((step) => /^(write|size|drop|setSize)/.test(step)),
    ['write 1 5000 9000', 'size 1 9000', 'drop 1 9000 Infinity', 'setSize 9000'],
  );
  assert.deepEqual([...new Set(await file.readAll())], [1, 2]);
});

test('the same size again frees what is allocated past the end', async () => {
  const { file, inode, ops } = world();
  await file.write(0, new Uint8Array(5000).fill(1));
  await file.prealloc(0, 40_960);
  assert.equal(inode.data.nextStart(5), 5);
  await setSize(inode, 5000, ops);
  assert.equal(inode.data.nextStart(2), Number.POSITIVE_INFINITY);
  assert.equal(inode.size, 5000);
});

test('sizes that are none', () => {
  const fs = new TestFs({ bdev: new MemoryDevice({ size: 2 ** 22 }), sizeMax: 2 ** 30 });
  const inode = fs.createInode();
  const ops = testFsOps(fs, () => assert.fail('a hook was called'));
  assert.throws(() => setSize(inode, -1, ops), { code: 'EINVAL', syscall: 'ftruncate' });
  assert.throws(() => setSize(inode, 1.5, ops), { code: 'EINVAL' });
  assert.throws(() => setSize(inode, 2 ** 30 + 1, ops), { code: 'EFBIG' });
  assert.throws(() => setSize(inode, 2 ** 60, ops), { code: 'EFBIG' });
  inode.markBad();
  assert.throws(() => setSize(inode, 1, ops), { code: 'EIO' });
  assert.equal(fs.sb.freezeWrite.isLocked || inode.lock.isLocked || inode.mapping.invalidateLock.isLocked, false);
});

test('growing that fails leaves the file as it was', async () => {
  const { file, inode, ops } = world(1024);
  await file.write(0, new Uint8Array(1500).fill(1));
  const failing = {
    ...ops,
    setSize: () => {
      assert.equal(inode.size, 9000);
      throw new FsError('ENOSPC', 'ftruncate');
    },
  };
  await assert.rejects(async () => setSize(inode, 9000, failing), { code: 'ENOSPC' });
  assert.equal(inode.size, 1500);
  assert.deepEqual(await file.readAll(), new Uint8Array(1500).fill(1));
  await setSize(inode, 9000, ops);
  assert.deepEqual((await file.readAll()).subarray(1500), new Uint8Array(7500));
});

test('growing whose zeroing fails half way leaves nothing in the cache past the end', async () => {
  const file: LinearFile = new LinearFile({
    size: 5000,
    fill: 7,
    orderMax: 0,
    map: (pos, _length, _flags, map) => {
      if (pos >= 20_480) throw new FsError('EIO', 'ftruncate');
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 20_480, addr: 0, bdev: file.device });
    },
  });
  const ops = { io: file.io, setSize: () => assert.fail('the durable size moved') };
  await assert.rejects(async () => setSize(file.inode, 40_000, ops), { code: 'EIO' });
  assert.equal(file.inode.size, 5000);
  assert.equal(file.inode.mapping.hasFolios(8192, Number.MAX_SAFE_INTEGER), false);
  assertSameBytes(await file.read(0, 9000), new Uint8Array(5000).fill(7), 'content');
});

test('direct I/O in flight is waited for before anything changes', async () => {
  const { file, inode, ops, log } = world();
  await file.write(0, new Uint8Array(5000).fill(1));
  log.watch(inode);
  inode.dioBegin();
  const done = Promise.resolve(setSize(inode, 100, ops));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(log.take(), ['lock 1', 'dioWait 1']);
  inode.dioEnd();
  await done;
  assert.equal(inode.size, 100);
});

test('invariant 31: truncatePage on a block boundary does nothing', async () => {
  const file = new LinearFile({ size: 65536, fill: 7, blockSize: 1024 });
  for (const pos of [0, 1024, 4096, 65536]) assert.equal(truncatePage(file.inode, pos, file.io), false);
  assert.equal(file.begins, 0);
  assert.equal(file.cache.folioCount, 0);
  assert.equal(await truncatePage(file.inode, 1025, file.io), true);
});

test('invariant 66: a range of length 0 calls no hook', () => {
  const file = new LinearFile({ size: 65536 });
  assert.equal(zeroRange(file.inode, 1000, 0, file.io), false);
  assert.equal(file.begins, 0);
});

test('invariant 26: zeroing an unwritten range with dirty data on it shows zeros, from the cache and from storage', async () => {
  for (const folioBatch of [false, true]) {
    const bdev = new MemoryDevice({ size: 2 ** 22 });
    bdev.fill(GARBAGE);
    const fs = new TestFs({ bdev, blockSize: 1024, folioBatch });
    const file = new TestFile(fs);
    await file.prealloc(0, 65536, { keepSize: false });
    await file.write(10_000, new Uint8Array(20_000).fill(5));
    await file.inode.lock.lock();
    assert.equal(await zeroRange(file.inode, 12_345, 10_000, fs.io), true);
    file.inode.lock.unlock();
    const expected = new Uint8Array(65536);
    expected.fill(5, 10_000, 30_000).fill(0, 12_345, 22_345);
    assertSameBytes(await file.readAll(), expected, 'from the cache');
    await file.fsync();
    await file.dropCache();
    assertSameBytes(await file.readAll(), expected, 'from storage');
    const after = TestFs.mount({ bdev: bdev.snapshot(), blockSize: 1024 }, fs.durable);
    assertSameBytes(await new TestFile(after, after.inode(1)).readAll(), expected, 'after a crash');
  }
});

test('invariant 29: bytes between a smaller and a larger size read zero, for every alignment of both', async () => {
  for (const blockSize of [512, 1024, 4096, 8192]) {
    const sizes = new Set<number>();
    for (const unit of [blockSize, 4096, 16384]) for (const off of [-1, 0, 1, unit / 2]) sizes.add(2 * unit + off);
    for (const small of sizes) {
      for (const large of sizes) {
        if (small >= large) continue;
        for (const sync of [false, true]) {
          const bdev = new MemoryDevice({ size: 2 ** 20, chunkSize: 65536 });
          bdev.fill(GARBAGE);
          const file = new TestFile(new TestFs({ bdev, blockSize }));
          await file.write(0, new Uint8Array(40_000).fill(3));
          if (sync) await file.fsync();
          await file.truncate(small);
          if (sync) await file.dropCache();
          await file.truncate(large);
          const expected = new Uint8Array(large).fill(3, 0, small);
          const what = `block ${blockSize}, ${small} to ${large}`;
          assertSameBytes(await file.readAll(), expected, `${what}, cache`);
          await file.dropCache();
          assertSameBytes(await file.readAll(), expected, `${what}, storage`);
        }
      }
    }
  }
});

test('a store past the old end of a large folio asks for blocks again after the file grew', async () => {
  for (const blockSize of [512, 4096]) {
    const file = new TestFile(new TestFs({ bdev: new MemoryDevice({ size: 2 ** 22 }), blockSize }));
    await file.write(0, new Uint8Array(16_384).fill(1)); // one folio of four pages
    await file.truncate(BLOCK);
    assert.equal(file.inode.mapping.find(0)?.size, 16_384);
    await file.store(0, Uint8Array.of(2)); // open for stores now, with blocks up to the end of the file
    await file.truncate(16_384);
    await file.store(2 * BLOCK, new Uint8Array(BLOCK).fill(3));
    await file.fsync();
    await file.dropCache();
    assertSameBytes(await file.read(2 * BLOCK, BLOCK), new Uint8Array(BLOCK).fill(3), `block ${blockSize}`);
  }
});

test('sizes and stores through mapped views agree with a flat model', () =>
  forEachSeed('truncate', 80, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const bdev = new MemoryDevice({ size: 2 ** 22, chunkSize: 65536 });
    bdev.fill(GARBAGE);
    const options = {
      blockSize,
      mode: prng.pick(['delalloc', 'unwritten', 'mapped-new'] as const),
      extentMax: prng.pick([1, 3, 100]),
      orderMax: prng.between(0, 5),
      folioBatch: prng.chance(0.5),
      inlineMax: prng.pick([0, 0, 500]),
    };
    const fs = new TestFs({ bdev, prng: prng.fork(), ...options });
    const file = new TestFile(fs);
    const model = new FlatModel();
    const user = (length: number) => prng.bytes(length).map((byte) => byte & 0x7f);
    for (let step = 0; step < 60; step++) {
      const pos = prng.below(40_000);
      const data = user(prng.between(1, 9000));
      await prng.pick([
        async () => {
          await file.write(pos, data);
          model.write(pos, data);
        },
        async () => {
          await file.truncate(pos);
          model.truncate(pos);
        },
        async () => {
          // Up to the end of its page a store goes where no file is.
          const last = Math.ceil(model.size / 4096) * 4096;
          if (model.size === 0 || last - model.size === 0) return;
          const at = Math.min(pos, model.size - 1);
          const bytes = data.subarray(0, last - at);
          await file.store(at, bytes);
          model.write(at, bytes.subarray(0, model.size - at));
        },
        () => file.dropCache(),
        () => file.fsync(),
        () => file.prealloc(pos, data.length),
      ])();
      assertSameBytes(await file.readAll(), model.content, `step ${step}`);
    }
    await file.fsync();
    await fs.settle();
    const after = TestFs.mount({ bdev: bdev.snapshot(), ...options }, fs.durable);
    assertSameBytes(await new TestFile(after, after.inode(1)).readAll(), model.content, 'after fsync and a crash');
  }));

test('invariant 30: what a view stored past the end into a block that is a hole does not show when the file grows twice', async () => {
  const { file, inode } = world(1024);
  await file.write(0, new Uint8Array(2048).fill(1));
  await file.fsync(); // nothing is late: growing need not write the folio, which would zero what lies past the end
  await file.store(3608, new Uint8Array(488).fill(0x50)); // the rest of the last page can be stored to, and is not the file
  await file.truncate(3608);
  await file.write(20_480, new Uint8Array(10).fill(2)); // the gap begins inside a block that zero_range takes for a hole
  const expected = new Uint8Array(inode.size).fill(1, 0, 2048).fill(2, 20_480);
  assertSameBytes(await file.readAll(), expected, 'cache');
  await file.fsync();
  await file.dropCache();
  assertSameBytes(await file.readAll(), expected, 'storage');
});
