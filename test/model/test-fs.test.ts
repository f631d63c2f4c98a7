import assert from 'node:assert/strict';
import test from 'node:test';
import { Prng } from '../../src/base/prng.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { checkConsistent } from '../support/check-consistent.ts';
import { assertSameBytes, FlatModel } from '../support/model.ts';
import { SimScheduler } from '../support/scheduler.ts';
import { forEachSeed } from '../support/seeds.ts';
import { TestFile } from '../support/test-file.ts';
import { GARBAGE, TestFs, type TestFsOptions } from '../support/test-fs.ts';

function newFs(options: Partial<TestFsOptions> = {}, deviceSize = 8 * 2 ** 20): TestFs {
  const bdev = new MemoryDevice({ size: deviceSize, chunkSize: 65536 });
  bdev.fill(GARBAGE);
  return new TestFs({ bdev, ...options });
}

test('one task on the test filesystem agrees with a flat byte array, in every mode', async () => {
  await forEachSeed('sequential', 60, async (prng) => {
    const fs = newFs({
      prng: prng.fork(),
      blockSize: prng.pick([512, 1024, 4096, 16384]),
      mode: prng.pick(['delalloc', 'unwritten', 'mapped-new']),
      extentMax: prng.pick([1, 3, 1000]),
      folioBatch: prng.chance(0.5),
      journalData: prng.chance(0.3),
      inlineMax: prng.pick([0, 0, 200]),
      orderMax: prng.pick([0, 2, 8]),
    });
    const file = new TestFile(fs, prng.chance(0.2) ? fs.createServerInode() : fs.createInode());
    const model = new FlatModel();
    for (let step = 0; step < 40; step++) {
      const pos = prng.below(100_000);
      const length = 1 + prng.below(20_000);
      const data = prng.bytes(length);
      switch (prng.below(8)) {
        case 0:
        case 1:
          await file.write(pos, data);
          model.write(pos, data);
          break;
        case 2: {
          const aligned = data.subarray(0, Math.max(512, length - (length % 512)));
          if (aligned.length % 512 !== 0) continue;
          await file.directWrite(pos - (pos % 512), aligned);
          model.write(pos - (pos % 512), aligned);
          break;
        }
        case 3:
          await file.truncate(pos);
          model.truncate(pos);
          break;
        case 4:
          await file.punch(pos, length);
          model.zero(pos, length);
          break;
        case 5:
          await file.zero(pos, length);
          model.zero(pos, length);
          break;
        case 6: {
          const inside = data.subarray(0, Math.max(0, model.size - pos));
          if (inside.length === 0) continue;
          await file.store(pos, inside);
          model.write(pos, inside);
          break;
        }
        case 7:
          await file.dropCache();
          break;
      }
      assertSameBytes(await file.readAll(), model.content, `step ${step}`);
      checkConsistent(fs);
    }
    await file.fsync();
    await file.dropCache();
    assertSameBytes(await file.readAll(), model.content, 'from the device');
    if (file.inode.server !== undefined) assertSameBytes(file.inode.server.content.content, model.content, 'on the server');
  });
});

test('after a power cut a file has what its last commit says, and blocks freed since are not reused', async () => {
  const fs = newFs({ commitShare: 0 });
  const file = new TestFile(fs);
  const data = new Prng(1).bytes(50_000);
  await file.write(0, data);
  await file.fsync();
  await file.punch(8192, 16384);
  await new TestFile(fs).write(0, new Uint8Array(100_000).fill(1));
  await new TestFile(fs).dropCache();
  const after = TestFs.mount({ bdev: fs.bdev }, fs.durable);
  assertSameBytes(await new TestFile(after, after.inode(file.inode.ino)).readAll(), data, 'after the power cut');
});

test('files that share blocks are independent, and invariant 28: unshare changes no byte', async () => {
  for (const mode of ['delalloc', 'unwritten', 'mapped-new'] as const) {
    const fs = newFs({ mode });
    const [a, b] = [new TestFile(fs), new TestFile(fs)];
    const data = new Prng(2).bytes(40_000);
    await a.write(0, data);
    assert.equal(await b.reflinkFrom(a), 40_000);
    const extent = b.inode.data.at(1);
    assert.ok(extent !== undefined && fs.allocator.isShared(extent.addr));
    await a.write(5000, new Uint8Array(100).fill(9));
    await b.unshare(8192, 8192);
    await b.store(20_000, new Uint8Array(10).fill(8));
    const [inA, inB] = [data.slice(), data.slice()];
    inA.fill(9, 5000, 5100);
    inB.fill(8, 20_000, 20_010);
    for (const file of [a, b]) await file.dropCache();
    assertSameBytes(await a.readAll(), inA, 'the source');
    assertSameBytes(await b.readAll(), inB, 'the copy');
    const own = b.inode.data.at(2);
    assert.ok(own !== undefined && fs.allocator.usersOf(own.addr) === 1);
    checkConsistent(fs);
  }
});

test('inline packets at offsets above 0 fill a file, whatever their size', async () => {
  const content = new Prng(3).bytes(30_001);
  for (const packetSize of [512, 700, 4096, 10_000]) {
    const fs = newFs({ blockSize: 1024 });
    const file = new TestFile(fs, fs.createPacketInode(content, packetSize));
    assertSameBytes(await file.readAll(), content, `packets of ${packetSize}`);
    assertSameBytes(await file.read(12_345, 6789), content.subarray(12_345, 12_345 + 6789), 'from the cache');
    checkConsistent(fs);
  }
});

test('a file without blocks: a write inside two blocks fetches these two, and only dirty blocks travel back', async () => {
  const fs = newFs();
  const file = new TestFile(fs, fs.createServerInode());
  const { server } = file.inode;
  assert.ok(server !== undefined);
  await file.write(0, new Uint8Array(65536).fill(1));
  await file.dropCache();
  server.bytesRead = server.bytesWritten = 0;
  await file.write(1, new Uint8Array(65534).fill(2));
  assert.equal(server.bytesRead, 2 * 4096);
  await file.fsync();
  assert.equal(server.bytesWritten, 65536);
  await file.write(9000, new Uint8Array(1));
  await file.fsync();
  assert.equal(server.bytesWritten, 65536 + 4096);
});

test('invariant 32: a mapped store without space leaves no dirty block without a place', async () => {
  const fs = newFs({ blockSize: 512, extentMax: 1 }, 8 * 512);
  const file = new TestFile(fs);
  await file.truncate(16384);
  await file.load(0, 4096); // cached, over a hole
  await new TestFile(fs).write(0, new Uint8Array(5 * 512).fill(1));
  await assert.rejects(file.store(0, Uint8Array.of(1)), { code: 'ENOSPC' });
  checkConsistent(fs);
});

test('the scheduler says which tasks wait for ever', async () => {
  const scheduler = new SimScheduler(new Prng(1));
  const stuck = { name: 'a task that nobody wakes', done: new Promise(() => {}) };
  await assert.rejects(scheduler.run([stuck, scheduler.spawn('a good one', () => 1)]), /deadlock.*: a task that nobody wakes\n/);
});

test('the scheduler replays a run exactly', async () => {
  const runs: string[] = [];
  for (let i = 0; i < 2; i++) {
    const scheduler = new SimScheduler(new Prng(5));
    const order: number[] = [];
    const tasks = Array.from({ length: 10 }, (_, n) =>
      scheduler.spawn(`task ${n}`, async () => {
        await scheduler.clock.yield();
        order.push(n);
      }),
    );
    await scheduler.run(tasks);
    runs.push(order.join());
  }
  assert.equal(runs[0], runs[1]);
  assert.notEqual(runs[0], '0,1,2,3,4,5,6,7,8,9');
});
