import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { TAG_DIRTY } from '../pagecache/address-space.ts';
import type { Folio } from '../pagecache/folio.ts';
import { IOMAP_DELALLOC, IOMAP_F_FOLIO_BATCH, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_UNWRITTEN, type Iomap, type IomapType } from './iomap.ts';
import { truncatePage, zeroRange } from './zero-range.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Lets a file answer zeroing with the dirty folios of unwritten (and, if `holes`, missing) blocks, at most `max` at a time. */
function offerBatches(file: BlockFile, max: number): void {
  const { iomapBegin } = file.ops;
  (file.ops as { iomapBegin: typeof iomapBegin }).iomapBegin = (inode, pos, length, flags, map, srcmap, iter) => {
    const answer = iomapBegin(inode, pos, length, flags, map, srcmap, iter);
    if ((flags & 2) === 0 || (map.type !== IOMAP_UNWRITTEN && map.type !== IOMAP_HOLE)) return answer;
    map.flags |= IOMAP_F_FOLIO_BATCH;
    const end = Math.min(map.offset + map.length, pos + length);
    for (let at = pos; at < end; ) {
      let folio: Folio | undefined;
      for (const each of file.folios()) {
        if (each.end > at && each.pos < end && (each.isDirty || each.isWriteback)) {
          folio = each;
          break;
        }
      }
      if (folio === undefined) break;
      if (iter.fbatch.length === max) {
        map.length = Math.ceil(at / inode.blockSize) * inode.blockSize - map.offset; // as far as was searched
        break;
      }
      folio.get();
      iter.fbatch.push(folio);
      at = folio.end;
    }
    return answer;
  };
}

for (const how of ['flush', 'batch'] as const) {
  test(`invariant 26, bug 13: dirty data over unwritten blocks is zeroed, also on the device and after the cache is dropped (${how})`, () =>
    forEachSeed('zero unwritten', 80, async (prng) => {
      const blockSize = prng.pick([512, 1024, 4096, 16384, 65536]);
      const size = 256 * 1024;
      const file = new BlockFile({
        blockSize,
        size,
        initial: IOMAP_UNWRITTEN,
        fill: 0xdb,
        extentMax: prng.pick([3, 1000]),
        orderMin: prng.below(4),
      });
      if (how === 'batch') offerBatches(file, prng.pick([1, 2, 15]));
      const model = new Uint8Array(size);
      for (let step = 0; step < 8; step++) {
        const pos = prng.below(size - 1);
        const data = prng.bytes(1 + prng.below(Math.min(60_000, size - pos)));
        await file.write(pos, data);
        model.set(data, pos);
        const from = prng.below(size);
        const length = 1 + prng.below(size - from);
        await file.zero(from, length);
        model.fill(0, from, from + length);
        assert.equal(file.inode.size, size);
        assertSameBytes(await file.read(0, size), model, `step ${step}`);
        if (prng.chance(0.5)) {
          await file.sync();
          // What a crash now would show: the device where blocks were converted, zeros elsewhere.
          const disk = new Uint8Array(size);
          for (const block of file.ofType(IOMAP_MAPPED, size / blockSize))
            disk.set(file.device.inner.read(block * blockSize, blockSize), block * blockSize);
          assertSameBytes(disk, model, `disk at step ${step}`);
          await file.dropCache();
          assertSameBytes(await file.read(0, size), model, `dropped at step ${step}`);
        }
        file.check();
      }
    }));
}

test('bug 13: old data does not come back after a truncate inside an unwritten block with dirty data', async () => {
  for (const blockSize of [1024, 4096, 65536]) {
    const file = new BlockFile({ blockSize, size: 65536, initial: IOMAP_UNWRITTEN, fill: 0xdb });
    await file.write(0, new Uint8Array(65536).fill(7));
    await file.truncate(100);
    await file.truncate(65536);
    const expected = new Uint8Array(65536);
    expected.fill(7, 0, 100);
    assertSameBytes(await file.read(0, 65536), expected, 'cache');
    await file.sync();
    await file.dropCache();
    assertSameBytes(await file.read(0, 65536), expected, 'disk');
  }
});

test('Z1, Z10: data in flight over unwritten blocks counts as dirty: it is waited for, and zeroed after its conversion', async () => {
  const file = new BlockFile({ size: 16384, initial: IOMAP_UNWRITTEN, fill: 0xdb });
  await file.write(0, new Uint8Array(4096).fill(7));
  file.device.holds = (bio) => bio.op === 1;
  const syncing = file.sync();
  assert.equal(file.folioAt(0).isWriteback, true);
  assert.equal(file.folioAt(0).isDirty, false);
  const zeroing = file.zero(0, 4096);
  await turn();
  file.device.holds = () => false;
  file.device.release();
  await syncing;
  assert.equal(await zeroing, true);
  assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096));
  await file.sync();
  await file.dropCache();
  assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096));
});

test('Z5: the flush comes once for each call, however many unwritten mappings there are', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 65536, initial: IOMAP_UNWRITTEN, extentMax: 1, orderMin: 0 });
  await file.write(0, new Uint8Array(32768).fill(7));
  let passes = 0;
  const { ops } = file.inode.mapping;
  const { writepages } = ops;
  ops.writepages = (mapping, wbc) => {
    passes++;
    return writepages?.(mapping, wbc);
  };
  assert.equal(await file.zero(0, 65536), true);
  assert.equal(passes, 1);
});

test('Z5: an error of the flush ends the call with it, and zeroes nothing over it', async () => {
  const file = new BlockFile({ size: 16384, initial: IOMAP_UNWRITTEN });
  await file.write(0, new Uint8Array(4096).fill(7));
  file.device.fails = (bio) => (bio.op === 1 ? -5 : 0);
  await assert.rejects(file.zero(0, 8192), (error) => hasCode(error, 'EIO'));
  file.check();
});

test('invariant 27: zeroing allocates nothing over clean holes and unwritten blocks, and leaves the size alone', async () => {
  for (const type of [IOMAP_HOLE, IOMAP_UNWRITTEN] as const) {
    for (const blockSize of [512, 4096, 16384]) {
      const file = new BlockFile({ blockSize, size: 100_000, initial: type, fill: 0xdb });
      assert.equal(await file.zero(10, 90_000), false, 'nothing to zero');
      assert.equal(await file.zero(50_000, 1_000_000), false);
      assert.deepEqual([file.inode.size, file.folios().length, file.stats.reserved, file.blocks.size], [100_000, 0, 0, 0]);
      assert.deepEqual(file.device.requests, []);
    }
  }
  // Cached, clean zeros of a hole stay as they are.
  const file = new BlockFile({ size: 65536, initial: IOMAP_HOLE });
  await file.read(0, 65536);
  assert.equal(await file.zero(0, 65536), false);
  assert.equal(file.inode.mapping.isDirty, false);
});

test('table 2.3: mapped and reserved ranges are zeroed in the cache', async () => {
  for (const type of [IOMAP_MAPPED, IOMAP_DELALLOC] as const) {
    const file = new BlockFile({ blockSize: 1024, size: 65536, initial: type, fill: 0x77, orderMin: 2 });
    const expected = (await file.read(0, 65536)).slice();
    if (type === IOMAP_DELALLOC) await file.write(0, new Uint8Array(65536).fill(0x77));
    expected.fill(0x77);
    assert.equal(await file.zero(1500, 10_000), true);
    expected.fill(0, 1500, 11_500);
    assert.deepEqual(await file.read(0, 65536), expected);
    await file.sync();
    await file.dropCache();
    assert.deepEqual(await file.read(0, 65536), expected);
    file.check();
  }
});

test('zeroing part of blocks that are not cached reads only these blocks', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 65536, fill: 0x77, orderMin: 2 });
  await file.zero(1500, 10_000); // blocks 1 and 11 in part
  assert.deepEqual(file.device.reads(), [
    { op: 'read', addr: 1024, length: 1024 },
    { op: 'read', addr: 11 * 1024, length: 1024 },
  ]);
});

test('invariant 31: truncate_page on a block boundary does nothing', async () => {
  for (const blockSize of [512, 4096, 65536]) {
    const file = new LinearFile({ blockSize, size: 4 * blockSize, fill: 1 });
    for (const pos of [0, blockSize, 3 * blockSize]) assert.equal(await truncatePage(file.inode, pos, file.io), false);
    assert.equal(file.begins, 0);
    assert.equal(await truncatePage(file.inode, blockSize + 10, file.io), true);
    const expected = new Uint8Array(4 * blockSize).fill(1);
    expected.fill(0, blockSize + 10, 2 * blockSize);
    assert.deepEqual(await file.read(0, 4 * blockSize), expected);
  }
});

test('invariant 29: after a shrink and a growth the bytes between read as zeros, for every alignment of both sizes', () =>
  forEachSeed('shrink and grow', 120, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const initial = prng.pick<IomapType>([IOMAP_MAPPED, IOMAP_UNWRITTEN, IOMAP_HOLE]);
    const size = 60_000;
    const file = new BlockFile({ blockSize, size, initial, fill: 0xdb, orderMin: prng.below(3) });
    const data = prng.bytes(size);
    await file.write(0, data);
    if (prng.chance(0.5)) await file.sync();
    if (prng.chance(0.3)) {
      await file.sync();
      await file.dropCache();
    }
    const near = (unit: number) => unit * prng.below(Math.floor(size / unit)) + prng.pick([0, 1, unit - 1, prng.below(unit)]);
    const small = Math.min(size, prng.chance(0.5) ? near(blockSize) : near(4096));
    const large = Math.max(small, prng.pick([size, near(blockSize), near(4096), small + 1]));
    await file.truncate(small);
    if (prng.chance(0.3)) await file.sync();
    const view = file.view(65536);
    if (prng.chance(0.5) && small > 0 && small % 4096 !== 0) await view.store(small, Uint8Array.of(0xee)); // junk behind the end
    if (prng.chance(0.5)) await file.truncate(large);
    else if (large > small) await file.fileWrite(large - 1, Uint8Array.of(0));
    const expected = new Uint8Array(Math.max(small, large));
    expected.set(data.subarray(0, small));
    assertSameBytes(await file.read(0, 100_000), expected, `cache, ${small} to ${large}`);
    const mapped = new Uint8Array(expected.length);
    await view.load(0, mapped);
    assertSameBytes(mapped, expected, 'mapped view');
    await file.sync();
    await file.dropCache();
    assertSameBytes(await file.read(0, 100_000), expected, `disk, ${small} to ${large}`);
  }));

test('bug 30: folios of a batch are waited for before they are touched, where writes must be stable', async () => {
  const file = new BlockFile({ size: 16384, initial: IOMAP_UNWRITTEN, stableWrites: true });
  offerBatches(file, 15);
  await file.write(0, new Uint8Array(4096).fill(7));
  file.device.holds = (bio) => bio.op === 1;
  const syncing = file.sync();
  let isDone = false;
  const zeroing = file.zero(0, 4096).then(() => {
    isDone = true;
  });
  await turn();
  assert.equal(isDone, false);
  assert.deepEqual(file.folioAt(0).bytes(0, 4096), new Uint8Array(4096).fill(7), 'in flight: not changed');
  file.device.holds = () => false;
  file.device.release();
  await Promise.all([syncing, zeroing]);
  assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096));
});

test('V8: a batched folio that was truncated meanwhile makes the step stale, and it is tried again', async () => {
  const file = new BlockFile({ size: 65536, initial: IOMAP_UNWRITTEN, orderMax: 0 });
  offerBatches(file, 15);
  await file.write(0, new Uint8Array(12288).fill(7));
  const second = file.folioAt(4096);
  second.get();
  assert.ok(second.tryLock());
  const zeroing = file.zero(0, 12288);
  file.inode.mapping.remove(second);
  second.unlock();
  second.put();
  assert.equal(await zeroing, true);
  assert.deepEqual(await file.read(0, 12288), new Uint8Array(12288));
  assert.ok(file.begins >= 2);
  file.check();
});

test('bug 43: the folios of a batch are put when zeroing fails', async () => {
  const file = new BlockFile({ size: 65536, initial: IOMAP_UNWRITTEN, orderMax: 0, isValidated: false });
  offerBatches(file, 15);
  await file.write(0, new Uint8Array(12288).fill(7));
  (file.io.writeOps as { iomapValid?: unknown }).iomapValid = () => {
    throw new FsError('EIO', 'fallocate');
  };
  await assert.rejects(file.zero(0, 12288), (error) => hasCode(error, 'EIO'));
  for (const folio of file.folios()) assert.deepEqual([folio.refs, folio.isLocked], [0, false]);
  file.check();
});

test('E9: with a batch nothing is flushed', async () => {
  const file = new BlockFile({ size: 65536, initial: IOMAP_UNWRITTEN });
  offerBatches(file, 2);
  await file.write(0, new Uint8Array(65536).fill(7));
  await file.zero(0, 65536);
  assert.deepEqual(file.device.writes(), []);
  assert.equal(file.inode.mapping.next(0, 65536, TAG_DIRTY) !== undefined, true);
});

test('Y7: a store through a mapped view after the range was sampled clean is not lost, or is zeroed: never half', async () => {
  const file: BlockFile = new BlockFile({
    size: 16384,
    initial: IOMAP_UNWRITTEN,
    map: async (pos, length, flags, map: Iomap) => {
      if ((flags & 2) !== 0) await turn(); // a store comes while the mapping is looked up
      file.mapForWriteback(pos, length, map);
    },
  });
  const view = file.view(16384);
  await file.read(0, 16384);
  const zeroing = zeroRange(file.inode, 0, 4096, file.io);
  await view.store(0, new Uint8Array(4096).fill(9));
  assert.equal(await zeroing, false);
  assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096).fill(9), 'as if the store came after');
});

test('zeroing in a server-fetched file asks the hooks for head and tail only', async () => {
  const data = new Prng(5).bytes(65536);
  const asked: [number, number][] = [];
  const file = new LinearFile({
    size: 65536,
    orderMin: 4,
    map: (_pos, _length, _flags, map) => void Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 65536 }),
    writeOps: {
      readFolioRange: async (_iter, folio, pos, length) => {
        asked.push([pos, length]);
        await turn();
        folio.bytes(pos - folio.pos, length).set(data.subarray(pos, pos + length));
      },
    },
  });
  await file.zero(100, 20_000);
  assert.deepEqual(asked, [
    [0, 4096],
    [16384, 4096],
  ]);
  assert.deepEqual(file.folioAt(0).bytes(0, 100), data.slice(0, 100));
  assert.deepEqual(file.folioAt(0).bytes(100, 20_000), new Uint8Array(20_000));
});

test('W19: where a batch skips clean bytes, the tail of the range is still the tail: its block is filled, not left to memory of nobody', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 65536, initial: IOMAP_UNWRITTEN, orderMin: 2, fill: 0xdb });
  offerBatches(file, 15);
  await file.write(32768, new Uint8Array(10).fill(7)); // one dirty folio of 16 KiB, of which one block is valid
  // The range begins far before the folio and ends inside a block of it that is not valid.
  await file.zero(100, 32768 + 5000 - 100);
  assert.deepEqual(await file.read(0, 65536), new Uint8Array(65536));
  file.check();
});
