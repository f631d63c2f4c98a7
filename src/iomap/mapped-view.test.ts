import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { bufferedWrite } from './buffered-write.ts';
import { IOCB_NOWAIT } from './iocb.ts';
import { IOMAP_HOLE, IOMAP_MAPPED, IOMAP_UNWRITTEN, type IomapType } from './iomap.ts';

test('loads and stores go to the folios of read and write', async () => {
  const file = new LinearFile({ size: 65536, fill: 1 });
  const view = file.view(65536);
  const into = new Uint8Array(10);
  await view.load(100, into);
  assert.deepEqual(into, new Uint8Array(10).fill(1));
  await view.store(4090, new Uint8Array(12).fill(2));
  assert.deepEqual(await file.read(4090, 12), new Uint8Array(12).fill(2));
  await file.write(4095, new Uint8Array(2).fill(3));
  await view.load(4090, into);
  assert.deepEqual(into, Uint8Array.of(2, 2, 2, 2, 2, 3, 3, 2, 2, 2));
  file.check();
});

test('a store to a folio that is cached leaves it unlocked and not held', async () => {
  const file = new LinearFile({ size: 65536, fill: 1 });
  const view = file.view(65536);
  await view.load(0, new Uint8Array(10));
  await view.store(0, Uint8Array.of(1, 2, 3));
  file.check();
  await view.store(0, Uint8Array.of(1, 2, 3));
  await file.sync();
  await view.store(0, Uint8Array.of(4));
  file.check();
});

test('M6: the filesystem is asked at the first store after each write-protection, and not in between', async () => {
  const file = new LinearFile({ size: 16384, fill: 1 });
  const view = file.view(16384);
  await view.load(0, new Uint8Array(16384));
  const begins = () => file.begins;
  const before = begins();
  await view.store(0, Uint8Array.of(1));
  assert.equal(begins(), before + 1);
  for (let i = 0; i < 10; i++) assert.equal(view.store(i, Uint8Array.of(2)), undefined, 'memory alone: at once');
  assert.equal(begins(), before + 1);
  await file.sync(); // write-protects
  const after = begins();
  await view.store(0, Uint8Array.of(3));
  assert.equal(begins(), after + 1);
  await view.sync();
  assert.equal(file.device.inner.read(0, 1)[0], 3);
  file.check();
});

test('stores that came after writeback took the folio are written by the next pass', async () => {
  const file = new LinearFile({ size: 4096, fill: 1 });
  const view = file.view(4096);
  await view.store(0, Uint8Array.of(2));
  file.device.holds = (bio) => bio.op === 1;
  const syncing = file.sync();
  await view.store(1, Uint8Array.of(3)); // faults again, since the pass protected the folio
  file.device.holds = () => false;
  file.device.release();
  await syncing;
  assert.equal(file.folioAt(0).isDirty, true);
  await view.sync();
  assert.deepEqual(file.device.inner.read(0, 2), Uint8Array.of(2, 3));
});

test('past the last page of the file a load and a store are EFAULT, in a large folio too; inside it the rest of the page can be used', async () => {
  for (const orderMin of [0, 4]) {
    const file = new LinearFile({ size: 5000, fill: 1, orderMin });
    const view = file.view(65536);
    await view.load(5000, new Uint8Array(3192));
    await view.store(5000, Uint8Array.of(9));
    for (const at of [8192, 20_000]) {
      await assert.rejects(
        async () => view.load(at, new Uint8Array(1)),
        (error) => hasCode(error, 'EFAULT'),
      );
      await assert.rejects(
        async () => view.store(at, Uint8Array.of(1)),
        (error) => hasCode(error, 'EFAULT'),
      );
    }
    await assert.rejects(
      async () => view.load(8000, new Uint8Array(1000)),
      (error) => hasCode(error, 'EFAULT'),
    );
    await assert.rejects(
      async () => view.store(8000, new Uint8Array(1000)),
      (error) => hasCode(error, 'EFAULT'),
    );
    assert.throws(
      () => view.load(65530, new Uint8Array(10)),
      (error) => hasCode(error, 'EFBIG'),
    );
    file.check();
  }
});

test('invariant 30: what is stored past the end never becomes file content, by write, truncate or store, and never reaches the device', () =>
  forEachSeed('junk', 150, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = 1 + prng.below(20_000);
    const file = new BlockFile({
      blockSize,
      size,
      initial: prng.pick<IomapType>([IOMAP_HOLE, IOMAP_UNWRITTEN, IOMAP_MAPPED]),
      orderMin: prng.below(3),
    });
    const data = prng.bytes(size);
    await file.write(0, data);
    if (prng.chance(0.5)) await file.sync();
    const view = file.view(2 ** 20);
    const pageEnd = Math.ceil(size / 4096) * 4096;
    const junk = (): Promise<void> =>
      pageEnd > size ? Promise.resolve(view.store(size, new Uint8Array(pageEnd - size).fill(0xee))) : Promise.resolve();
    await junk();
    if (prng.chance(0.4)) {
      await file.sync();
      for (const { addr, length } of file.device.writes()) {
        const bytes = file.device.inner.read(addr, length);
        if (addr + length > size)
          assert.ok(
            bytes.subarray(Math.max(0, size - addr)).every((byte) => byte === 0),
            'junk on the device',
          );
      }
      if (prng.chance(0.5)) await junk();
    }
    const grown = size + 1 + prng.below(30_000);
    let expected = new Uint8Array(grown);
    expected.set(data);
    switch (prng.below(3)) {
      case 0:
        await file.truncate(grown);
        break;
      case 1:
        await file.fileWrite(grown - 1, Uint8Array.of(7));
        expected[grown - 1] = 7;
        break;
      default: {
        // Exactly at the old end.
        const more = prng.bytes(1 + prng.below(100));
        await file.fileWrite(size, more);
        expected = expected.slice(0, size + more.length);
        expected.set(more, size);
      }
    }
    assertSameBytes(await file.read(0, 100_000), expected, 'cache');
    await file.sync();
    await file.dropCache();
    assertSameBytes(await file.read(0, 100_000), expected, 'disk');
  }));

test('W35, W37: growth over the old end protects its folio, so that the next store has blocks provided there', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 100, initial: IOMAP_HOLE });
  const view = file.view(65536);
  await view.store(0, Uint8Array.of(1));
  assert.equal(file.typeOf(1), IOMAP_HOLE);
  await file.truncate(4096);
  assert.equal(file.folioAt(0).isMapWritable, false);
  await view.store(2000, Uint8Array.of(2));
  await file.sync();
  await file.dropCache();
  assert.equal((await file.read(2000, 1))[0], 2, 'not lost for want of a block');
});

for (const [name, from, to, length] of [
  ['the same place', 1000, 1000, 5000],
  ['a place behind', 1000, 3000, 5000],
  ['a place before', 3000, 1000, 5000],
  ['another folio', 0, 40_000, 20_000],
] as const) {
  test(`invariant 16, Y9: a write whose source is a view on the destination ends without a deadlock: ${name}`, async () => {
    for (const cached of [true, false]) {
      for (const blockSize of [512, 4096]) {
        const file = new LinearFile({ blockSize, size: 65536, orderMin: 2 });
        const data = new Prng(9).bytes(65536);
        file.device.inner.write(0, data);
        if (cached) await file.read(0, 65536);
        const view = file.view(65536);
        const source = view.source(from, length);
        await file.inode.lock.lock();
        assert.equal(await bufferedWrite({ pos: to, flags: 0 }, file.inode, source, file.io), length);
        file.inode.lock.unlock();
        const expected = data.slice();
        if (to <= from || to >= from + length) {
          expected.copyWithin(to, from, from + length);
          assertSameBytes(await file.read(0, 65536), expected, name);
        } else {
          // Where source and destination overlap forwards, bytes may be copied that were written by the same call, as in the kernel.
          const content = await file.read(0, 65536);
          assertSameBytes(content.subarray(0, to), data.subarray(0, to), 'before');
          assertSameBytes(content.subarray(to + length), data.subarray(to + length), 'behind');
        }
        file.check();
      }
    }
  });
}

test('a source in the last page of a file can be read to the end of the page, and not behind it', async () => {
  const from = new LinearFile({ size: 1000, fill: 5 });
  const to = new LinearFile({ size: 0 });
  const view = from.view(65536);
  assert.equal(await bufferedWrite({ pos: 0, flags: 0 }, to.inode, view.source(900, 3000), to.io), 3000);
  const expected = new Uint8Array(3000);
  expected.fill(5, 0, 100);
  assert.deepEqual(await to.read(0, 4000), expected);
  assert.equal(await bufferedWrite({ pos: 0, flags: 0 }, to.inode, view.source(4000, 3000), to.io), 96, 'short at the end of the mapping');
  await assert.rejects(
    async () => bufferedWrite({ pos: 0, flags: 0 }, to.inode, view.source(4096, 10), to.io),
    (error) => hasCode(error, 'EFAULT'),
  );
});

test('a source that cannot be read is EFAULT', async () => {
  const from = new LinearFile({ size: 65536, fill: 5 });
  from.device.fails = () => -5;
  const to = new LinearFile({ size: 0 });
  await assert.rejects(
    async () => bufferedWrite({ pos: 0, flags: 0 }, to.inode, from.view(65536).source(0, 10), to.io),
    (error) => hasCode(error, 'EFAULT'),
  );
  to.check();
  from.check();
});

test('a NOWAIT write whose source is not cached is EAGAIN at once', async () => {
  const from = new LinearFile({ size: 65536, fill: 5 });
  from.device.holds = () => true;
  const to = new LinearFile({ size: 0 });
  assert.throws(
    () => bufferedWrite({ pos: 0, flags: IOCB_NOWAIT }, to.inode, from.view(65536).source(0, 10), to.io),
    (error) => hasCode(error, 'EAGAIN'),
  );
  from.device.holds = () => false;
  from.device.release();
  await new Promise(setImmediate);
  from.check();
});

test('views, reads and writes agree with a flat byte array', () =>
  forEachSeed('views', 60, async (prng) => {
    const size = 50_000;
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const file = new BlockFile({
      blockSize,
      size,
      initial: prng.pick<IomapType>([IOMAP_HOLE, IOMAP_UNWRITTEN, IOMAP_MAPPED]),
      orderMin: prng.below(3),
    });
    const model = new Uint8Array(size);
    const view = file.view(size);
    for (let step = 0; step < 40; step++) {
      const pos = prng.below(size);
      const length = Math.min(size - pos, 1 + prng.below(9000));
      const data = prng.bytes(length);
      switch (prng.below(7)) {
        case 0:
        case 1:
          await view.store(pos, data);
          model.set(data, pos);
          break;
        case 2:
          await file.write(pos, data);
          model.set(data, pos);
          break;
        case 3:
          await file.zero(pos, length);
          model.fill(0, pos, pos + length);
          break;
        case 4:
          await file.sync();
          break;
        case 5:
          await file.sync();
          await file.dropCache();
          break;
        default: {
          const into = new Uint8Array(length);
          await view.load(pos, into);
          assertSameBytes(into, model.subarray(pos, pos + length), `load at step ${step}`, pos);
        }
      }
      assertSameBytes(await file.read(0, size), model, `step ${step}`);
      file.check();
    }
  }));
