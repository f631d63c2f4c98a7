import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DaxFs } from '../../test/support/dax-fs.ts';
import { assertSameBytes, FlatModel } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { IovIter } from '../base/iov-iter.ts';
import { Prng } from '../base/prng.ts';
import { daxBreakLayouts, daxDedupeCompare, daxRw, daxTruncatePage, daxUnshare, daxWriteback, daxZeroRange } from './dax.ts';
import { checkDaxRemap, DaxEntries } from './dax-entries.ts';
import { IOCB_ATOMIC, IOCB_NOWAIT } from './iocb.ts';
import { IOMAP_DAX, IOMAP_F_SHARED, IOMAP_INLINE, IOMAP_MAPPED, IOMAP_NOWAIT, IOMAP_UNWRITTEN, IOMAP_WRITE } from './iomap.ts';

const BLOCK = 4096;

function pattern(length: number, seed = 1): Uint8Array {
  return new Prng(seed).bytes(length);
}

test('reads and writes go to device memory and end at the file size; holes and unwritten blocks read as zeros', async () => {
  for (const blockSize of [1024, 4096, 16384]) {
    const fs = new DaxFs({ blockSize, runSize: 32768 });
    const file = fs.create(10 * blockSize - 100);
    fs.place(file, 2, 8, 2, pattern(2 * blockSize));
    fs.place(file, 5, 20, 1);
    const expected = new Uint8Array(10 * blockSize - 100);
    expected.set(pattern(2 * blockSize), 2 * blockSize);
    assertSameBytes(await fs.read(file, 0, 20 * blockSize), expected, 'before');
    assert.equal(fs.allocator.usersOf(0), 0);

    const data = pattern(4 * blockSize, 2);
    assert.equal(await fs.write(file, 3 * blockSize + 7, [data.subarray(0, 5), data.subarray(5)]), data.length);
    expected.set(data, 3 * blockSize + 7);
    assertSameBytes(await fs.read(file, 0, 20 * blockSize), expected, 'after');
    assertSameBytes(fs.content(file), expected, 'on the device');
    assertSameBytes(fs.content(file, fs.device.durableImage()), expected, 'a write is durable at return');
    assert.equal((await fs.read(file, 10 * blockSize, 10)).length, 0);
    assert.equal(fs.begun[0]?.flags, IOMAP_DAX);
  }
});

test('requests that DAX does not serve are refused before any hook is called; an empty one calls none', () => {
  const fs = new DaxFs();
  const file = fs.create(BLOCK);
  const iov = new IovIter(new Uint8Array(10));
  assert.throws(() => daxRw({ pos: 0, flags: IOCB_ATOMIC }, file.inode, iov, true, fs.ops), { code: 'EIO' });
  assert.throws(() => daxRw({ pos: -1, flags: 0 }, file.inode, iov, true, fs.ops), { code: 'EINVAL' });
  assert.throws(() => daxRw({ pos: file.inode.sizeMax, flags: 0 }, file.inode, iov, true, fs.ops), { code: 'EFBIG' });
  assert.equal(daxRw({ pos: 0, flags: 0 }, file.inode, new IovIter(new Uint8Array(0)), true, fs.ops), 0);
  assert.equal(daxZeroRange(file.inode, 0, 0, fs.ops), false);
  assert.equal(daxUnshare(file.inode, BLOCK, 10, fs.ops), undefined);
  assert.deepEqual(fs.begun, []);
});

test('mappings that cannot be stored to are refused', () => {
  const fs = new DaxFs();
  const { inode } = fs.create(BLOCK);
  const ops = (type: 2 | 3 | 4, dax: boolean) => ({
    iomapBegin: (...[, , , , map]: Parameters<typeof fs.ops.iomapBegin>) => {
      map.type = type;
      map.length = BLOCK;
      if (type === IOMAP_INLINE) map.inlineData = new Uint8Array(BLOCK);
      else if (dax) {
        map.daxDev = fs.device;
        map.addr = 0;
      }
    },
  });
  const write = (type: 2 | 3 | 4, dax: boolean) =>
    daxRw({ pos: 0, flags: 0 }, inode, new IovIter(new Uint8Array(10)), true, ops(type, dax));
  assert.throws(() => write(IOMAP_UNWRITTEN, true), { code: 'EIO' });
  assert.throws(() => write(IOMAP_INLINE, true), { code: 'EIO' });
  assert.equal(inode.isBad, false);
  assert.throws(() => write(IOMAP_MAPPED, false), { code: 'EIO' });
  assert.equal(inode.isBad, true);
});

test('NOWAIT and a signal end a request at what was done', async () => {
  const fs = new DaxFs({ asyncShare: 1 });
  const file = fs.create(4 * BLOCK);
  const writing = fs.write(file, 0, new Uint8Array(10)) as Promise<number>;
  assert.throws(() => daxRw({ pos: 0, flags: IOCB_NOWAIT }, file.inode, new IovIter(new Uint8Array(10)), true, fs.ops), { code: 'EAGAIN' });
  await writing;
  assert.equal(daxRw({ pos: 0, flags: IOCB_NOWAIT }, file.inode, new IovIter(new Uint8Array(10)), true, fs.ops), 10);
  assert.equal(fs.begun.at(-1)?.flags, IOMAP_DAX | IOMAP_WRITE | IOMAP_NOWAIT);

  let looks = 0;
  const signal = {
    get aborted() {
      return ++looks > 1;
    },
    reason: 'enough',
  };
  const small = new DaxFs({ runSize: BLOCK });
  const runs = small.create(4 * BLOCK);
  small.place(runs, 0, 0, 4, pattern(4 * BLOCK));
  const iov = new IovIter(new Uint8Array(4 * BLOCK));
  assert.equal(daxRw({ pos: 0, flags: 0, signal }, runs.inode, iov, false, small.ops), BLOCK);
  assert.equal(iov.count, 3 * BLOCK);
  assert.throws(() => daxRw({ pos: 0, flags: 0, signal }, runs.inode, iov, false, small.ops), { code: 'EINTR' });
});

test('invariant 60: a write to shared blocks leaves the other file unchanged, whatever its alignment', async () => {
  for (const blockSize of [1024, 4096, 16384]) {
    for (const [pos, length] of [
      [0, 4],
      [1, 0.5],
      [1.25, 0.5],
      [0.5, 3],
      [1.75, 1.5],
    ] as const) {
      const fs = new DaxFs({ blockSize, runMax: 2, runSize: 16384, prng: new Prng(7) });
      const a = fs.create(4 * blockSize);
      const b = fs.create(4 * blockSize);
      const old = pattern(4 * blockSize);
      fs.place(a, 0, 3, 4, old);
      await fs.reflink(a, b, 0, 4);
      const data = pattern(length * blockSize, 2);
      assert.equal(await fs.write(b, pos * blockSize, data), data.length);
      const expected = old.slice();
      expected.set(data, pos * blockSize);
      assertSameBytes(fs.content(b), expected, 'the file that was written');
      assertSameBytes(fs.content(a), old, 'the other file');
      const image = fs.device.durableImage();
      assertSameBytes(fs.content(b, image), expected, 'durable: edges are flushed before end makes the blocks the file’s');
    }
  }
});

test('the edges of a new block over an unwritten source, or over none, are zeros', async () => {
  const fs = new DaxFs();
  const a = fs.create(2 * BLOCK);
  const b = fs.create(2 * BLOCK);
  fs.place(a, 0, 0, 2);
  await fs.reflink(a, b, 0, 2);
  await fs.write(b, 100, new Uint8Array(50).fill(1));
  const expected = new Uint8Array(2 * BLOCK).fill(1, 100, 150);
  assertSameBytes(fs.content(b), expected, 'unwritten source');
  assertSameBytes(await fs.read(a, 0, 2 * BLOCK), new Uint8Array(2 * BLOCK), 'the other file');

  // What XFS answers for a block of its copy-on-write fork over a hole: SHARED, and nothing that was shared.
  const { inode } = fs.create(BLOCK);
  fs.device.bytes(64 * BLOCK, BLOCK).fill(0xee);
  const ops = {
    iomapBegin: (...[, , , , map]: Parameters<typeof fs.ops.iomapBegin>) => {
      Object.assign(map, { type: IOMAP_UNWRITTEN, flags: IOMAP_F_SHARED, length: BLOCK, addr: 64 * BLOCK, daxDev: fs.device });
    },
  };
  assert.equal(daxRw({ pos: 100, flags: 0 }, inode, new IovIter(new Uint8Array(50).fill(1)), true, ops), 50);
  assertSameBytes(fs.device.bytes(64 * BLOCK, BLOCK), expected.subarray(0, BLOCK), 'no source');
});

test('invariant 60: a read of a hole allocates nothing', async () => {
  const fs = new DaxFs();
  const file = fs.create(8 * BLOCK);
  const { free } = fs.allocator;
  assertSameBytes(await fs.read(file, 0, 8 * BLOCK), new Uint8Array(8 * BLOCK), 'read');
  const into = new Uint8Array(8 * BLOCK).fill(9);
  await fs.view(file, 0, 8 * BLOCK).load(0, into);
  assertSameBytes(into, new Uint8Array(8 * BLOCK), 'load');
  assert.equal(await daxZeroRange(file.inode, 10, 5 * BLOCK, fs.ops), false);
  assert.equal(fs.allocator.free, free);
  assert.equal(file.extents.isEmpty, true);
  assert.ok(fs.begun.every((each) => (each.flags & IOMAP_WRITE) === 0));
});

test('poison: a read fails from the poisoned page on; only a write that covers the page heals it', async () => {
  const fs = new DaxFs();
  const file = fs.create(4 * BLOCK);
  const old = pattern(4 * BLOCK);
  fs.place(file, 0, 10, 4, old);
  fs.device.poison(12 * BLOCK, 1);

  assertSameBytes(await fs.read(file, 100, 4 * BLOCK), old.subarray(100, 2 * BLOCK), 'the bytes before the poison');
  assert.throws(() => fs.read(file, 2 * BLOCK, 10), { code: 'EIO' });

  const iov = new IovIter(new Uint8Array(BLOCK));
  assert.throws(() => daxRw({ pos: 2 * BLOCK + 1, flags: 0 }, file.inode, iov, true, fs.ops), { code: 'EIO' });
  assert.equal(iov.count, BLOCK, 'nothing was taken');
  assert.equal(await fs.write(file, 2 * BLOCK - 10, new Uint8Array(20)), 10, 'bytes before the poison count');
  assert.throws(() => daxZeroRange(file.inode, 2 * BLOCK, 10, fs.ops), { code: 'EIO' });
  assert.throws(() => fs.read(file, 2 * BLOCK, 10), { code: 'EIO' });

  const data = pattern(2 * BLOCK, 2);
  assert.equal(await fs.write(file, 2 * BLOCK - 50, data), data.length);
  const expected = old.slice();
  expected.set(data, 2 * BLOCK - 50);
  assertSameBytes(fs.content(file), expected, 'healed');
  assertSameBytes(fs.content(file, fs.device.durableImage()), expected, 'durable');

  fs.device.poison(13 * BLOCK, BLOCK);
  assert.equal(await daxZeroRange(file.inode, 3 * BLOCK, BLOCK, fs.ops), true);
  expected.fill(0, 3 * BLOCK);
  assertSameBytes(fs.content(file), expected, 'zeroing heals');
});

test('poison: a poisoned source of shared data fails the write; poison where the new blocks are does not', async () => {
  const fs = new DaxFs({ size: 3 * BLOCK });
  const a = fs.create(BLOCK);
  const b = fs.create(BLOCK);
  fs.place(a, 0, 0, 1, pattern(BLOCK));
  await fs.reflink(a, b, 0, 1);
  fs.device.poison(BLOCK, 2 * BLOCK);
  const expected = pattern(BLOCK);
  await fs.write(b, 10, new Uint8Array(5));
  expected.fill(0, 10, 15);
  assertSameBytes(fs.content(b), expected, 'new blocks are healed');

  await fs.reflink(a, b, 0, 1);
  fs.device.poison(0, 1);
  const { free } = fs.allocator;
  assert.throws(() => fs.write(b, 10, new Uint8Array(5)), { code: 'EIO' });
  assert.throws(() => daxUnshare(b.inode, 0, BLOCK, fs.ops), { code: 'EIO' });
  assert.equal(fs.allocator.free, free, 'end gave the new blocks back');
  assert.equal(await fs.write(b, 0, pattern(BLOCK, 3)), BLOCK, 'a write that needs no old byte works');
});

test('an error in the middle of a new block leaves the old block in place', async () => {
  const fs = new DaxFs({ blockSize: 16384, runSize: BLOCK });
  const a = fs.create(2 * 16384);
  const b = fs.create(2 * 16384);
  const old = pattern(2 * 16384);
  fs.place(a, 0, 0, 2, old);
  await fs.reflink(a, b, 0, 2);
  let looks = 0;
  const signal = {
    get aborted() {
      return ++looks > 6; // pages
    },
  };
  const iov = new IovIter(pattern(2 * 16384, 2));
  assert.equal(daxRw({ pos: 0, flags: 0, signal }, b.inode, iov, true, fs.ops), 16384);
  assert.equal(iov.count, 16384, 'the source goes back too');
  const expected = old.slice();
  expected.set(pattern(2 * 16384, 2).subarray(0, 16384));
  assertSameBytes(fs.content(b), expected, 'the file');
  assertSameBytes(fs.content(a), old, 'the other file');
});

test('bug 48: bytes whose commit failed are not reported', async () => {
  const fs = new DaxFs({ runMax: 2 });
  const a = fs.create(6 * BLOCK);
  const b = fs.create(6 * BLOCK);
  const old = pattern(6 * BLOCK);
  fs.place(a, 0, 0, 6, old);
  await fs.reflink(a, b, 0, 6);
  const data = pattern(6 * BLOCK, 2);

  const failure = Object.assign(new Error('log is full'), { code: 'ENOSPC' });
  fs.failEnd = () => failure;
  const first = new IovIter(data);
  assert.throws(() => daxRw({ pos: 0, flags: 0 }, b.inode, first, true, fs.ops), failure);
  assert.equal(first.count, data.length, 'nothing was taken from the buffers');
  assertSameBytes(fs.content(b), old, 'nothing happened');

  const iocb = { pos: 0, flags: 0 };
  fs.failEnd = (pos) => (pos >= 4 * BLOCK ? failure : undefined);
  const second = new IovIter(data);
  const bytes = await daxRw(iocb, b.inode, second, true, fs.ops);
  assert.equal(bytes, 4 * BLOCK, 'only what was committed');
  assert.equal(iocb.pos, bytes);
  assert.equal(second.done, bytes);
  const expected = old.slice();
  expected.set(data.subarray(0, bytes));
  assertSameBytes(fs.content(b), expected, 'the file');
  assertSameBytes(fs.content(a), old, 'the other file');
});

test('bug 5: unshare copies whole blocks, at whatever offset it is asked to', async () => {
  for (const blockSize of [1024, 4096, 16384]) {
    const fs = new DaxFs({ blockSize, runMax: 2, runSize: 16384 });
    const a = fs.create(6 * blockSize - 10);
    const b = fs.create(6 * blockSize - 10);
    const old = pattern(5 * blockSize);
    fs.place(a, 0, 4, 5, old);
    await fs.reflink(a, b, 0, 5);
    await fs.unshare(b, blockSize + 17, 2 * blockSize + 1);
    assertSameBytes(fs.content(b).subarray(0, old.length), old, 'content stays');
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((block) => b.extents.at(block)?.addr === a.extents.at(block)?.addr),
      [true, false, false, false, true],
    );
    await fs.write(b, blockSize, new Uint8Array(3 * blockSize));
    assertSameBytes(fs.content(a).subarray(0, old.length), old, 'the other file');
    assertSameBytes(fs.content(b, fs.device.durableImage()), fs.content(b), 'durable');
  }
});

test('unshare of unwritten blocks gives zeros, and touches nothing past the end of the file', async () => {
  const fs = new DaxFs();
  const a = fs.create(2 * BLOCK);
  const b = fs.create(2 * BLOCK);
  fs.place(a, 0, 0, 4);
  await fs.reflink(a, b, 0, 4);
  await fs.unshare(b, 10, 4 * BLOCK);
  assertSameBytes(fs.content(b), new Uint8Array(2 * BLOCK), 'zeros');
  assert.notEqual(b.extents.at(1)?.addr, 1);
  assert.equal(b.extents.at(2)?.addr, 2);
});

test('zero range zeroes mapped bytes only, and a copy of shared ones', async () => {
  const fs = new DaxFs({ runMax: 2 });
  const a = fs.create(8 * BLOCK);
  const b = fs.create(8 * BLOCK);
  const old = pattern(2 * BLOCK);
  fs.place(a, 1, 0, 2, old);
  fs.place(b, 5, 5, 1);
  await fs.reflink(a, b, 1, 2);
  assert.equal(await daxZeroRange(b.inode, BLOCK + 100, 5 * BLOCK, fs.ops), true);
  const expected = new Uint8Array(8 * BLOCK);
  expected.set(old.subarray(0, 100), BLOCK);
  assertSameBytes(fs.content(b), expected, 'zeroed');
  assertSameBytes(fs.content(b, fs.device.durableImage()), expected, 'durable');
  assertSameBytes(fs.content(a).subarray(BLOCK, 3 * BLOCK), old, 'the other file');
  assert.equal(b.extents.at(5)?.written, false);
  assert.equal(b.extents.at(3), undefined);

  assert.equal(await daxTruncatePage(a.inode, BLOCK, fs.ops), false);
  assert.equal(await daxTruncatePage(a.inode, BLOCK + 1, fs.ops), true);
  assertSameBytes(fs.content(a).subarray(BLOCK, BLOCK + 5), Uint8Array.of(old[0] as number, 0, 0, 0, 0), 'to the end of the block');
  assertSameBytes(fs.content(a).subarray(2 * BLOCK, 3 * BLOCK), old.subarray(BLOCK), 'no further');
});

test('dedupe compare tells equal memory from different, and a hole from zeros', async () => {
  const fs = new DaxFs({ runSize: 8192 });
  const a = fs.create(10 * BLOCK);
  const b = fs.create(10 * BLOCK);
  const data = pattern(4 * BLOCK);
  fs.place(a, 0, 0, 4, data);
  fs.place(b, 1, 20, 4, data);
  fs.place(b, 6, 30, 1);
  const compare = (pos: number, otherPos: number, length: number) => daxDedupeCompare(a.inode, pos, b.inode, otherPos, length, fs.ops);
  assert.deepEqual(await compare(0, BLOCK, 4 * BLOCK), { same: true, length: 4 * BLOCK });
  assert.deepEqual(await compare(100, BLOCK + 100, 3 * BLOCK), { same: true, length: 3 * BLOCK });
  assert.deepEqual(await compare(0, BLOCK, 7 * BLOCK), { same: true, length: 7 * BLOCK }, 'hole, unwritten');
  assert.deepEqual(await compare(0, 0, 0), { same: true, length: 0 });
  assert.deepEqual(await compare(0, 0, BLOCK), { same: false, length: 0 });
  await fs.write(b, 3 * BLOCK + 77, Uint8Array.of((data[2 * BLOCK + 77] as number) ^ 1));
  assert.deepEqual(await compare(0, BLOCK, 4 * BLOCK), { same: false, length: 2 * BLOCK + 77 });
  fs.place(b, 7, 31, 1, new Uint8Array(BLOCK));
  assert.deepEqual(await compare(5 * BLOCK, 6 * BLOCK, 3 * BLOCK), { same: false, length: BLOCK }, 'zeros are data');
  fs.device.poison(0, 1);
  assert.throws(() => compare(0, BLOCK, 10), { code: 'EIO' });
  assert.ok(fs.begun.every((each) => (each.flags & IOMAP_WRITE) === 0 || each.pos === 3 * BLOCK + 77));
});

test('crash: what views stored is durable after writeback, and the tags are gone after the flush, not before', async () => {
  const fs = new DaxFs();
  const file = fs.create(4 * BLOCK);
  fs.place(file, 0, 0, 4, pattern(4 * BLOCK));
  const expected = pattern(4 * BLOCK);
  const entries = DaxEntries.of(file.inode);
  const view = fs.view(file, 0, 4 * BLOCK);
  await view.store(BLOCK - 5, new Uint8Array(10).fill(1));
  expected.fill(1, BLOCK - 5, BLOCK + 5);
  assert.equal(entries.dirtyCount, 2);
  assertSameBytes(fs.content(file), expected, 'in memory');
  assertSameBytes(fs.content(file, fs.device.durableImage()), pattern(4 * BLOCK), 'not yet durable');

  daxWriteback(file.inode, 0, BLOCK);
  assert.equal(entries.dirtyCount, 1);
  daxWriteback(file.inode);
  assert.equal(entries.dirtyCount, 0);
  assertSameBytes(fs.content(file, fs.device.durableImage()), expected, 'durable');
  const flushes = fs.device.flushCount;
  daxWriteback(file.inode);
  assert.equal(fs.device.flushCount, flushes, 'nothing is dirty');

  // The next store asks again and is dirty again.
  const begun = fs.begun.length;
  await view.store(0, Uint8Array.of(2));
  assert.equal(fs.begun.length, begun + 1);
  assert.equal(entries.dirtyCount, 1);
  await view.sync(0, 1);
  expected[0] = 2;
  assertSameBytes(fs.content(file, fs.device.durableImage()), expected, 'durable');
});

test('a failed flush leaves the entry dirty, tries the others, and is kept for fsync of each opener', async () => {
  const fs = new DaxFs();
  const file = fs.create(4 * BLOCK);
  fs.place(file, 0, 0, 4, pattern(4 * BLOCK));
  const { inode } = file;
  const view = fs.view(file, 0, 4 * BLOCK);
  await view.store(BLOCK, Uint8Array.of(7));
  await view.store(3 * BLOCK, Uint8Array.of(8));
  const flush = fs.device.flush.bind(fs.device);
  let isBroken = true;
  fs.device.flush = (addr, length) => {
    if (isBroken && addr === BLOCK) throw Object.assign(new Error('media'), { code: 'EIO' });
    flush(addr, length);
  };
  assert.throws(() => daxWriteback(inode), { code: 'EIO' });
  assert.equal(DaxEntries.of(inode).dirtyCount, 1);
  assert.equal(inode.mapping.lastError, -5);
  isBroken = false;
  daxWriteback(inode);
  assert.equal(DaxEntries.of(inode).dirtyCount, 0);
  assertSameBytes(fs.content(file, fs.device.durableImage()), fs.content(file), 'durable');
});

test('writeback takes blocks that are pages; sharing takes two DAX files', () => {
  const fs = new DaxFs({ blockSize: 1024 });
  const file = fs.create(BLOCK);
  const other = fs.create(BLOCK);
  assert.throws(() => daxWriteback(file.inode), { code: 'EIO' });
  assert.throws(() => checkDaxRemap(file.inode, other.inode), { code: 'EINVAL' });
  DaxEntries.of(other.inode);
  checkDaxRemap(file.inode, other.inode);
});

test('punch waits until nobody has the memory pinned, and lets faults through meanwhile', async () => {
  const fs = new DaxFs();
  const file = fs.create(4 * BLOCK);
  fs.place(file, 0, 0, 4, pattern(4 * BLOCK));
  const view = fs.view(file, 0, 4 * BLOCK);
  const pin = await view.pin(BLOCK + 10, BLOCK, true);
  assert.deepEqual(
    pin.memory.map((each) => each.length),
    [BLOCK - 10, 10],
  );
  let isDone = false;
  const punching = (async () => {
    await fs.punch(file, BLOCK, BLOCK);
    isDone = true;
  })();
  await view.store(3 * BLOCK, Uint8Array.of(1)); // takes the invalidate lock
  pin.memory[0]?.fill(5);
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
  assert.equal(isDone, false);
  assert.equal(fs.allocator.usersOf(1), 1, 'the block is not free');
  assert.equal(fs.content(file)[BLOCK + 10], 5);

  fs.fsync(file);
  assert.equal(fs.content(file, fs.device.durableImage())[BLOCK + 10], 5, 'stores through a pin are flushed too');
  pin.release();
  pin.release();
  await punching;
  const expected = pattern(4 * BLOCK);
  expected.fill(0, BLOCK, 2 * BLOCK);
  expected.fill(5, 2 * BLOCK, 2 * BLOCK); // the pin's second piece was not stored to
  expected[3 * BLOCK] = 1;
  assertSameBytes(fs.content(file), expected, 'punched');
  const into = new Uint8Array(BLOCK);
  await view.load(BLOCK, into);
  assertSameBytes(into, new Uint8Array(BLOCK), 'views see the hole');
  assert.throws(() => daxBreakLayouts(file.inode, 0, 1), /invalidate lock/);
});

test('model: two files that share blocks agree with flat byte arrays', () =>
  forEachSeed('dax model', 25, async (prng) => {
    const fs = new DaxFs({
      size: 96 * BLOCK,
      runSize: prng.pick([BLOCK, 4 * BLOCK, 96 * BLOCK]),
      runMax: prng.pick([1, 3, 20]),
      asyncShare: prng.pick([0, 0.3]),
      prng: prng.fork(),
    });
    const SIZE = 20 * BLOCK;
    const files = [0, 1].map(() => {
      const file = fs.create(prng.below(SIZE));
      const model = new FlatModel();
      model.truncate(file.inode.size);
      return { file, model, views: [fs.view(file, 0, SIZE), fs.view(file, 2 * BLOCK, 6 * BLOCK)] };
    });
    type File = (typeof files)[number];
    const range = (end: number, max: number) => {
      const pos = prng.below(Math.max(1, end));
      return [pos, Math.min(1 + prng.below(max), end - pos)] as const;
    };
    const ops = {
      async write({ file, model }: File) {
        const [pos, length] = range(SIZE, prng.pick([100, 3 * BLOCK]));
        const data = prng.bytes(length);
        assert.equal(await fs.write(file, pos, data), length);
        model.write(pos, data);
      },
      async read({ file, model }: File) {
        const [pos, length] = range(SIZE, 4 * BLOCK);
        assertSameBytes(await fs.read(file, pos, length), model.read(pos, length), 'read');
      },
      async zero({ file, model }: File) {
        const [pos, length] = range(model.size, 3 * BLOCK);
        if (length <= 0) return;
        await fs.zero(file, pos, length);
        model.zero(pos, length);
      },
      async punch({ file, model }: File) {
        const [pos, length] = range(model.size, 3 * BLOCK);
        if (length <= 0) return;
        await fs.punch(file, pos, length);
        model.zero(pos, length);
      },
      async unshare({ file }: File) {
        const [pos, length] = range(SIZE, 4 * BLOCK);
        await fs.unshare(file, pos, length);
      },
      async store({ model, views }: File) {
        const view = prng.pick(views);
        const [at, length] = range(Math.min(model.size - view.offset, view.length), prng.pick([50, 2 * BLOCK]));
        if (length <= 0) return;
        const data = prng.bytes(length);
        await view.store(at, data);
        model.write(view.offset + at, data);
      },
      async load({ model, views }: File) {
        const view = prng.pick(views);
        const [at, length] = range(Math.min(model.size - view.offset, view.length), 3 * BLOCK);
        if (length <= 0) return;
        const into = new Uint8Array(length);
        await view.load(at, into);
        assertSameBytes(into, model.read(view.offset + at, length), 'load');
      },
      async reflink({ file, model }: File) {
        const other = files.find((each) => each.file !== file) as File;
        const block = prng.below(20);
        const count = 1 + prng.below(20 - block);
        // Only what lies in both files whole, so that no size changes.
        const whole = Math.min(block + count, Math.floor(Math.min(model.size, other.model.size) / BLOCK));
        if (whole <= block) return;
        await fs.reflink(file, other.file, block, whole - block);
        other.model.write(block * BLOCK, model.read(block * BLOCK, (whole - block) * BLOCK));
      },
      async fsync({ file, model }: File) {
        fs.fsync(file);
        assertSameBytes(fs.content(file, fs.device.durableImage(prng)), model.content, 'after a power cut');
      },
    };
    for (let step = 0; step < 120; step++) {
      const name = prng.pick(Object.keys(ops) as (keyof typeof ops)[]);
      await ops[name](prng.pick(files));
      for (const { file, model } of files) assertSameBytes(fs.content(file), model.content, `step ${step}: ${name}`);
    }
    for (const { file, model } of files) {
      fs.fsync(file);
      assertSameBytes(fs.content(file, fs.device.durableImage()), model.content, 'at the end');
      assert.equal(DaxEntries.of(file.inode).dirtyCount, 0);
    }
  }));

test('model: writers, stores, reflinks and writeback at once lose no byte', () =>
  forEachSeed('dax concurrency', 60, async (prng) => {
    const fs = new DaxFs({ size: 64 * BLOCK, runMax: 3, asyncShare: 0.5, prng: prng.fork() });
    const BLOCKS = 4;
    const file = fs.create(BLOCKS * BLOCK);
    const copy = fs.create(BLOCKS * BLOCK);
    const expected = pattern(BLOCKS * BLOCK);
    fs.place(file, 0, 0, BLOCKS, expected);
    // Worker k owns bytes [256k, 256k + 256) of every block: its loads see what it stored last, whatever the others do to the block.
    const worker = async (k: number, own: Prng) => {
      const view = fs.view(file, 0, BLOCKS * BLOCK);
      for (let step = 0; step < 25; step++) {
        const pos = own.below(BLOCKS) * BLOCK + 256 * k;
        const data = own.bytes(256);
        if (own.chance(0.5)) await view.store(pos, data);
        else assert.equal(await fs.write(file, pos, data), 256);
        expected.set(data, pos);
        const into = new Uint8Array(256);
        await view.load(pos, into);
        assertSameBytes(into, data, `worker ${k}, load`);
        assertSameBytes(await fs.read(file, pos, 256), data, `worker ${k}, read`);
      }
    };
    const sharer = async (own: Prng) => {
      for (let step = 0; step < 25; step++) {
        const block = own.below(BLOCKS);
        if (own.chance(0.6)) await fs.reflink(file, copy, block, 1 + own.below(BLOCKS - block));
        else if (own.chance(0.5)) await fs.unshare(file, own.below(BLOCKS * BLOCK), BLOCK);
        else fs.fsync(file);
        const kept = fs.content(copy).slice();
        for (let turns = own.below(20); turns > 0; turns--) await Promise.resolve();
        assertSameBytes(fs.content(copy), kept, 'the copy');
      }
    };
    await Promise.all([...[0, 1, 2, 3].map((k) => worker(k, prng.fork())), sharer(prng.fork())]);
    assertSameBytes(fs.content(file), expected, 'at the end');
    fs.fsync(file);
    assertSameBytes(fs.content(file, fs.device.durableImage()), expected, 'durable');
  }));
