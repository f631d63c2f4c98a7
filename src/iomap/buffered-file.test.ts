import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import type { Prng } from '../base/prng.ts';
import { REQ_OP_READ } from '../block/bio.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import { bufferedFileWrite, type FileWriteOptions } from './buffered-file.ts';
import { bufferedRead } from './buffered-read.ts';
import { IOCB_APPEND, IOCB_DONTCACHE, IOCB_DSYNC, IOCB_NOAPPEND, IOCB_NOWAIT, IOCB_SYNC } from './iocb.ts';
import { IOMAP_DELALLOC, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_UNWRITTEN, IOMAP_WRITE, IOMAP_ZERO, type IomapType } from './iomap.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function call(
  file: LinearFile,
  pos: number,
  data: Uint8Array,
  flags: number,
  options: FileWriteOptions = {},
): Promise<[number, number]> {
  const iocb = { pos, flags };
  return [await bufferedFileWrite(iocb, file.inode, new IovIter(data), file.io, options), iocb.pos];
}

test('APPEND takes the position from the size under the lock; NOAPPEND overrides it', async () => {
  const file = new LinearFile({ size: 100, fill: 1 });
  assert.deepEqual(await call(file, 7, new Uint8Array(10), IOCB_APPEND), [10, 110]);
  assert.deepEqual(await call(file, 7, new Uint8Array(10), IOCB_APPEND | IOCB_NOAPPEND), [10, 17]);
  // Many at once: none overwrites another.
  const empty = new LinearFile({ size: 0 });
  await Promise.all(Array.from({ length: 20 }, (_, i) => call(empty, 0, new Uint8Array(100).fill(i + 1), IOCB_APPEND)));
  const seen = await empty.read(0, 5000);
  assert.equal(seen.length, 2000);
  for (let i = 0; i < 20; i++) assert.equal(new Set(seen.subarray(i * 100, i * 100 + 100)).size, 1);
});

test('two writes do not mix, and a write behind the end zeroes the gap before it raises the size', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 500, initial: IOMAP_MAPPED, fill: 0xdb, orderMin: 1 });
  const view = file.view(65536);
  await view.store(600, new Uint8Array(10).fill(0xee));
  await Promise.all([call(file, 3000, new Uint8Array(2000).fill(1), 0), call(file, 3500, new Uint8Array(10).fill(2), 0)]);
  const expected = new Uint8Array(5000);
  expected.fill(0xdb, 0, 500);
  expected.fill(1, 3000, 5000);
  expected.fill(2, 3500, 3510);
  assert.deepEqual(await file.read(0, 9000), expected);
  await file.sync();
  await file.dropCache();
  assert.deepEqual(await file.read(0, 9000), expected);
  file.check();
});

test('W34: a write behind the end waits for direct I/O', async () => {
  const file = new LinearFile({ size: 100 });
  file.inode.dioBegin();
  let done = false;
  const writing = call(file, 10_000, new Uint8Array(10), 0).then(() => {
    done = true;
  });
  await turn();
  assert.equal(done, false);
  file.inode.dioEnd();
  await writing;
});

test('DSYNC and SYNC sync exactly what was written, after the locks are off', async () => {
  for (const [flags, datasync] of [
    [IOCB_DSYNC, true],
    [IOCB_SYNC, false],
    [IOCB_DSYNC | IOCB_SYNC, false],
  ] as const) {
    const file = new LinearFile({ size: 0 });
    const calls: unknown[] = [];
    const sync = (start: number, end: number, data: boolean) => {
      assert.equal(file.inode.lock.isLocked || file.sb.freezeWrite.isLocked, false);
      calls.push([start, end, data]);
    };
    await call(file, 1000, new Uint8Array(500), flags, { sync });
    await call(file, 0, new Uint8Array(500), 0, { sync });
    assert.deepEqual(calls, [[1000, 1500, datasync]]);
  }
});

test('prepare runs under the lock before anything changes; its error is that of the call', async () => {
  const file = new LinearFile({ size: 0 });
  await assert.rejects(
    call(file, 0, new Uint8Array(10), 0, {
      prepare: async () => {
        assert.equal(file.inode.lock.isExclusive, true);
        await turn();
        throw new FsError('EPERM', 'write');
      },
    }),
    (error) => hasCode(error, 'EPERM'),
  );
  assert.equal(file.inode.size, 0);
  assert.equal(file.inode.lock.isLocked || file.sb.freezeWrite.isLocked, false);
});

test('a frozen filesystem holds writes until it thaws', async () => {
  const file = new LinearFile({ size: 0 });
  await file.sb.freezeWrite.lock();
  const writing = call(file, 0, new Uint8Array(10), 0);
  await turn();
  assert.equal(file.inode.size, 0);
  file.sb.freezeWrite.unlock();
  assert.deepEqual(await writing, [10, 10]);
});

test('a write larger than the memory of the cache goes through it, throttled', async () => {
  for (const blockSize of [512, 4096, 65536]) {
    const file = new BlockFile({ blockSize, size: 0, initial: IOMAP_HOLE, cache: { budget: 2 ** 20 }, orderMax: 4 });
    const data = new Uint8Array(8 * 2 ** 20).map((_, i) => (i * 7) % 253);
    assert.deepEqual(await call(file, 0, data, 0), [data.length, data.length]);
    assert.ok(file.cache.throttledWriters > 0);
    await file.sync();
    assertSameBytes(await file.read(0, data.length), data, 'content');
    file.check();
  }
});

/**
 * One file, one flat array, random calls one after the other: every block size with every folio size.
 *
 * Half the runs use a device that keeps requests and answers them in any order.
 */
async function agreesWithArray(prng: Prng): Promise<void> {
  const blockSize = prng.pick([512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]);
  const blockOrder = Math.max(0, Math.log2(blockSize / PAGE_SIZE));
  const orderMin = prng.between(blockOrder, Math.max(blockOrder, 4));
  const orderMax = prng.between(orderMin, 9);
  const max = prng.pick([20_000, 100_000, 1_000_000]);
  const file = new BlockFile({
    blockSize,
    orderMin,
    orderMax,
    size: 0,
    initial: prng.pick<IomapType>([IOMAP_HOLE, IOMAP_HOLE, IOMAP_UNWRITTEN]),
    fill: 0xdb,
    extentMax: prng.pick([1, 4, 1000]),
    stableWrites: prng.chance(0.5),
    isValidated: prng.chance(0.5),
    cache: { budget: prng.pick([8, 64]) * 2 ** 20 },
    bdi: { readaheadMax: prng.pick([0, 16384, 131072, 2 ** 20]) },
    bioSizeMax: prng.pick([65536, 2 ** 20, 2 ** 26]),
  });
  const isSlow = prng.chance(0.5);
  let model = new Uint8Array(0);
  const resize = (size: number): void => {
    const grown = new Uint8Array(size);
    grown.set(model.subarray(0, size));
    model = grown;
  };
  /** Runs one call, and the device beside it. */
  const settle = async <T>(work: T | PromiseLike<T>): Promise<T> => {
    if (!isSlow) return await work;
    let result: { value: T } | undefined;
    let failure: { error: unknown } | undefined;
    void Promise.resolve(work).then(
      (value) => {
        result = { value };
      },
      (error) => {
        failure = { error };
      },
    );
    for (let idle = 0; result === undefined && failure === undefined; ) {
      await turn();
      if (file.device.held.length > 0) {
        idle = 0;
        file.device.release(prng.below(file.device.held.length));
      } else if (++idle > 1000) throw new Error('deadlock');
    }
    if (failure !== undefined) throw failure.error;
    return (result as { value: T }).value;
  };
  if (isSlow) file.device.holds = () => true;
  const view = file.view(2 ** 30);
  const ops = {
    async write() {
      const pos = prng.below(max);
      const data = prng.bytes(1 + prng.below(prng.pick([10, 5000, 200_000])));
      const flags = prng.chance(0.1) ? IOCB_DONTCACHE : 0;
      assert.equal(await settle(file.fileWrite(pos, data, flags)), data.length);
      if (pos + data.length > model.length) resize(pos + data.length);
      model.set(data, pos);
    },
    async append() {
      const data = prng.bytes(1 + prng.below(5000));
      await settle(file.fileWrite(0, data, IOCB_APPEND));
      const pos = model.length;
      resize(pos + data.length);
      model.set(data, pos);
    },
    async nowait() {
      const pos = prng.below(max);
      const data = prng.bytes(1 + prng.below(5000));
      const iocb = { pos, flags: IOCB_NOWAIT };
      try {
        await settle(bufferedFileWrite(iocb, file.inode, new IovIter(data), file.io));
      } catch (error) {
        assert.ok(hasCode(error, 'EAGAIN'));
      }
      const count = iocb.pos - pos;
      if (count === 0) return;
      if (pos + count > model.length) resize(pos + count);
      model.set(data.subarray(0, count), pos);
    },
    async read() {
      const pos = prng.below(max);
      const into = new Uint8Array(1 + prng.below(prng.pick([10, 5000, 300_000])));
      const count = await settle(bufferedRead({ pos, flags: prng.chance(0.1) ? IOCB_DONTCACHE : 0 }, file.inode, into));
      assertSameBytes(
        into.subarray(0, count),
        model.subarray(Math.min(pos, model.length), Math.min(pos + into.length, model.length)),
        'read',
        pos,
      );
    },
    async zero() {
      if (model.length === 0) return;
      const pos = prng.below(model.length);
      const length = 1 + prng.below(model.length - pos);
      await settle(file.zero(pos, length));
      model.fill(0, pos, pos + length);
    },
    async truncate() {
      const size = prng.chance(0.3) ? blockSize * prng.below(Math.ceil(max / blockSize)) : prng.below(max);
      await settle(file.truncate(size));
      resize(size);
    },
    async store() {
      if (model.length === 0) return;
      const pos = prng.below(model.length);
      const data = prng.bytes(1 + prng.below(Math.min(3000, Math.ceil(model.length / PAGE_SIZE) * PAGE_SIZE - pos)));
      await settle(view.store(pos, data));
      model.set(data.subarray(0, model.length - pos), pos); // the rest is junk in the last page
    },
    async sync() {
      await settle(file.sync());
    },
    async drop() {
      await settle(file.sync());
      await settle(file.dropCache());
    },
  };
  const names = Object.keys(ops) as (keyof typeof ops)[];
  for (let step = 0; step < 25; step++) {
    const name = prng.pick(names);
    await ops[name]();
    assert.equal(file.inode.size, model.length, `size at step ${step}: ${name}`);
    // Readahead and the flusher may be at work behind the call.
    if (!file.sb.bdi.isFlushing && file.device.held.length === 0 && file.inode.mapping.writebackBytes === 0) file.check();
  }
  file.device.holds = () => false;
  file.device.release();
  const all = new Uint8Array(model.length + 10);
  const count = await settle(bufferedRead({ pos: 0, flags: 0 }, file.inode, all));
  assertSameBytes(all.subarray(0, count), model, 'cache');
  await settle(file.sync());
  await settle(file.dropCache());
  // The device has it all, with zeros behind the end.
  const disk = new Uint8Array(Math.ceil(model.length / blockSize) * blockSize);
  for (const block of file.ofType(IOMAP_MAPPED, disk.length / blockSize))
    disk.set(file.device.inner.read(block * blockSize, blockSize), block * blockSize);
  const padded = new Uint8Array(disk.length);
  padded.set(model);
  assertSameBytes(disk.subarray(0, model.length), model, 'disk');
  assert.equal(file.durableSize, model.length);
  assert.deepEqual(file.ofType(IOMAP_DELALLOC, 2 ** 21 / blockSize), [], 'nothing is reserved for ever');
  file.check();
}

test('buffered I/O agrees with a flat byte array, over all block and folio sizes', () => forEachSeed('model', 250, agreesWithArray));

test('device errors in the middle: every call says so, content is that of the calls that succeeded or were there before', () =>
  forEachSeed('errors', 100, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = 100_000;
    const file = new LinearFile({ blockSize, size, fill: 0x21, orderMin: prng.below(3), cache: { budget: 8 * 2 ** 20 } });
    const model = new Uint8Array(size).fill(0x21);
    const bad = new Set(Array.from({ length: 4 }, () => prng.below(25) * 4096));
    file.device.fails = (bio) =>
      bio.op === REQ_OP_READ && [...bad].some((addr) => addr < bio.addr + bio.length && addr + 4096 > bio.addr) ? -5 : 0;
    for (let step = 0; step < 20; step++) {
      const pos = prng.below(size);
      const length = Math.min(size - pos, 1 + prng.below(20_000));
      if (prng.chance(0.5)) {
        const data = prng.bytes(length);
        const iocb = { pos, flags: 0 };
        try {
          await bufferedFileWrite(iocb, file.inode, new IovIter(data), file.io);
        } catch (error) {
          assert.ok(hasCode(error, 'EIO'));
        }
        model.set(data.subarray(0, iocb.pos - pos), pos);
      } else {
        const into = new Uint8Array(length);
        try {
          const count = await bufferedRead({ pos, flags: 0 }, file.inode, into);
          assertSameBytes(into.subarray(0, count), model.subarray(pos, pos + count), `step ${step}`, pos);
        } catch (error) {
          assert.ok(hasCode(error, 'EIO'));
        }
      }
      file.check();
    }
    bad.clear();
    assertSameBytes(await file.read(0, size), model, 'at the end');
    await file.sync();
    await file.dropCache();
    assertSameBytes(await file.read(0, size), model, 'disk');
  }));

test('a write far past the end that fails takes the zeros before it along: nothing is dirty where writeback never goes', async () => {
  const file: LinearFile = new LinearFile({
    size: 5000,
    fill: 0xdb,
    orderMax: 0,
    map: (_pos, _length, flags, map) => {
      if ((flags & IOMAP_WRITE) !== 0) throw new FsError('ENOSPC', 'write');
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 2 ** 20, addr: 0, bdev: file.device });
    },
  });
  await assert.rejects(file.fileWrite(40_000, new Uint8Array(10)), { code: 'ENOSPC' });
  assert.equal(file.inode.size, 5000);
  assert.equal(file.inode.mapping.next(8192, Number.MAX_SAFE_INTEGER), undefined);
  assert.deepEqual(await file.read(4990, 100), new Uint8Array(10).fill(0xdb));
});

test('a write far past the end whose zeroing fails half way takes the zeros along', async () => {
  const file: LinearFile = new LinearFile({
    size: 5000,
    fill: 0xdb,
    orderMax: 0,
    map: (pos, _length, flags, map) => {
      if ((flags & IOMAP_ZERO) !== 0 && pos >= 20_480) throw new FsError('EIO', 'write');
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 20_480, addr: 0, bdev: file.device });
    },
  });
  await assert.rejects(file.fileWrite(40_000, new Uint8Array(10)), { code: 'EIO' });
  assert.equal(file.inode.size, 5000);
  assert.equal(file.inode.mapping.hasFolios(8192, Number.MAX_SAFE_INTEGER), false);
  assert.deepEqual(await file.read(4990, 100), new Uint8Array(10).fill(0xdb));
});
