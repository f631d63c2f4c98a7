import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { hasCode } from '../base/fs-error.ts';
import type { WriteSource } from '../base/iov-iter.ts';
import { bufferedWrite } from './buffered-write.ts';
import { firstUntouched, releaseDelalloc } from './delalloc.ts';
import { dirtyRunEnd, nextDirty } from './folio-state.ts';
import { IOMAP_DELALLOC, IOMAP_HOLE, IOMAP_MAPPED } from './iomap.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Blocks that are dirty inside the file. */
function dirtyBlocks(file: BlockFile): number[] {
  const { blockSize, size } = file.inode;
  const found: number[] = [];
  for (const folio of file.folios()) {
    if (!folio.isDirty) continue;
    for (let at = nextDirty(folio, 0, folio.size); at >= 0; ) {
      const end = dirtyRunEnd(folio, at, folio.size);
      for (let block = at; block < end; block += blockSize) if (folio.pos + block < size) found.push((folio.pos + block) / blockSize);
      at = end < folio.size ? nextDirty(folio, end, folio.size) : -1;
    }
  }
  return found;
}

/** A source that ends a write after `length` bytes with an error. */
function failingSource(data: Uint8Array, length: number): WriteSource {
  let at = 0;
  return {
    get count() {
      return data.length - at;
    },
    faultIn: (wanted) => (at >= length ? 0 : wanted),
    copyTo(into, offset, wanted) {
      const count = Math.min(wanted, length - at);
      into.set(data.subarray(at, at + count), offset);
      at += count;
      return count;
    },
    revert(count) {
      at -= count;
    },
  };
}

test('I14: the first untouched block of a write that used nothing is its first block, else the next one', () => {
  assert.equal(firstUntouched(5000, 0, 4096), 4096);
  assert.equal(firstUntouched(5000, 1, 4096), 8192);
  assert.equal(firstUntouched(4096, 4096, 4096), 8192);
  assert.equal(firstUntouched(2 ** 40 + 1, 1, 4096), 2 ** 40 + 4096);
});

test('invariants 32 and 33: after failed and short writes exactly the dirty blocks inside the file are reserved', () =>
  forEachSeed('reservations', 200, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const file = new BlockFile({
      blockSize,
      size: prng.below(60_000),
      initial: IOMAP_HOLE,
      fill: 0xdb,
      orderMin: prng.below(3),
      extentMax: prng.pick([2, 5, 1000]),
    });
    for (let step = 0; step < 10; step++) {
      const pos = Math.min(prng.below(80_000), file.inode.size + prng.below(3) * 500);
      const length = 1 + prng.below(40_000);
      if (pos > file.inode.size) await file.zero(file.inode.size, pos - file.inode.size);
      await file.inode.lock.lock();
      try {
        await bufferedWrite({ pos, flags: 0 }, file.inode, failingSource(prng.bytes(length), prng.below(length + 1)), file.io);
      } catch (error) {
        assert.ok(hasCode(error, 'EFAULT'));
      } finally {
        file.inode.lock.unlock();
      }
      if (prng.chance(0.2)) await file.sync();
      if (prng.chance(0.2)) await file.read(prng.below(60_000), 5000); // clean folios among the dirty
      const homeless = dirtyBlocks(file).filter((block) => file.typeOf(block) !== IOMAP_MAPPED);
      assert.deepEqual(file.ofType(IOMAP_DELALLOC, 200_000 / blockSize), homeless, `step ${step}`);
      file.check();
    }
  }));

test('D4, D6: clean cached blocks lose their reservation, dirty ones keep it', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 65536, initial: IOMAP_HOLE, orderMin: 2 });
  await file.read(0, 65536); // clean, cached holes
  await file.write(3000, new Uint8Array(2000)); // blocks 2, 3, 4
  await file.write(20_000, new Uint8Array(10)); // block 19
  file.set(0, 64, IOMAP_DELALLOC);
  const punches: [number, number][] = [];
  await releaseDelalloc(file.inode, 0, 65536, (start, end) => {
    punches.push([start, end]);
    file.punchDelalloc(start, end);
  });
  assert.deepEqual(punches, [
    [0, 2048],
    [5120, 19 * 1024],
    [20 * 1024, 65536],
  ]);
  assert.deepEqual(file.ofType(IOMAP_DELALLOC, 64), [2, 3, 4, 19]);
});

test('D5: everything past the end of the file is released, dirty or not', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 65536, initial: IOMAP_HOLE, orderMin: 2 });
  await file.write(0, new Uint8Array(65536));
  file.inode.size = 10_000;
  await releaseDelalloc(file.inode, 0, 65536, (start, end) => file.punchDelalloc(start, end));
  assert.deepEqual(file.ofType(IOMAP_DELALLOC, 64), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('D10: reservations that were there before this write are not touched', async () => {
  const file = new BlockFile({ blockSize: 4096, size: 65536, initial: IOMAP_HOLE });
  file.set(0, 16, IOMAP_DELALLOC);
  await file.inode.lock.lock();
  assert.equal(await bufferedWrite({ pos: 0, flags: 0 }, file.inode, failingSource(new Uint8Array(65536), 4096), file.io), 4096);
  file.inode.lock.unlock();
  assert.equal(file.ofType(IOMAP_DELALLOC, 16).length, 16);
});

test('bug 2, Y2: a mapped store waits while a short write releases what it reserved, and keeps its blocks', async () => {
  const file: BlockFile = new BlockFile({ blockSize: 4096, size: 65536, initial: IOMAP_HOLE, orderMax: 0 });
  const view = file.view(65536);
  await file.read(0, 65536); // cached, clean
  await file.inode.lock.lock();
  // The scan is held up at a locked folio; meanwhile a store comes to a folio whose reservation it is about to remove.
  const third = file.folioAt(8192);
  third.get();
  assert.ok(third.tryLock());
  const writing = bufferedWrite({ pos: 0, flags: 0 }, file.inode, failingSource(new Uint8Array(65536), 4096), file.io);
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(file.inode.mapping.invalidateLock.isExclusive, true);
  const storing = view.store(3 * 4096, Uint8Array.of(1));
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(file.folioAt(3 * 4096).isDirty, false, 'the fault waits for the invalidate lock');
  third.unlock();
  third.put();
  assert.equal(await writing, 4096);
  file.inode.lock.unlock();
  await storing;
  assert.deepEqual(dirtyBlocks(file), [0, 3]);
  assert.deepEqual(file.ofType(IOMAP_DELALLOC, 16), [0, 3]);
  await file.sync();
  await file.dropCache();
  assert.equal((await file.read(3 * 4096, 1))[0], 1);
  file.check();
});

test('bug 21, Y3: folios that are dropped while the scan waits do not make it stop or loop', async () => {
  const file = new BlockFile({ blockSize: 4096, size: 65536, initial: IOMAP_HOLE, orderMax: 0 });
  await file.write(0, new Uint8Array(65536));
  const second = file.folioAt(4096);
  second.get();
  assert.ok(second.tryLock());
  const punched: [number, number][] = [];
  const releasing = releaseDelalloc(file.inode, 0, 65536, (start, end) => punched.push([start, end]));
  await turn();
  // All but the first and the last go, among them the one it waits for.
  for (const folio of file.folios().slice(2, -1)) {
    folio.get();
    assert.ok(folio.tryLock());
    file.inode.mapping.remove(folio);
    folio.unlock();
    folio.put();
  }
  file.inode.mapping.remove(second);
  second.unlock();
  second.put();
  await releasing;
  assert.deepEqual(punched, [[4096, 15 * 4096]]);
});

test('D8: punch is called with the folio locked at most, and for ranges in order without overlap', () =>
  forEachSeed('punches', 60, async (prng) => {
    const blockSize = prng.pick([512, 4096]);
    const file = new BlockFile({ blockSize, size: 100_000, initial: IOMAP_HOLE, orderMin: prng.below(3) });
    for (let i = 0; i < 6; i++) await file.write(prng.below(90_000), prng.bytes(1 + prng.below(8000)));
    const start = blockSize * prng.below(50);
    const end = start + blockSize * (1 + prng.below(200));
    const dirty = new Set(dirtyBlocks(file));
    const punched = new Set<number>();
    let last = start;
    await releaseDelalloc(file.inode, start, end, (from, to) => {
      assert.ok(from >= last && to > from && to <= end);
      last = to;
      for (let at = from; at < to; at += blockSize) punched.add(at / blockSize);
    });
    for (let block = start / blockSize; block < end / blockSize; block++)
      assert.equal(punched.has(block), !dirty.has(block), `block ${block}`);
  }));
