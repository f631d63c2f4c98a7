import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimScheduler } from '../../test/support/scheduler.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import {
  checkCache,
  foliosOf,
  HeldRequests,
  patternByte,
  StubFile,
  type StubFileOptions,
  settles,
  stubCache,
  turns,
} from '../../test/support/stub-file.ts';
import { isPromise, type MaybePromise, run } from '../base/task.ts';
import { BackingDevice } from './backing-device.ts';
import { type FilemapReadOptions, filemapRead, lockUptodateFolio, tryRead, WOULD_BLOCK } from './filemap.ts';
import type { Folio } from './folio.ts';
import { PageCache } from './page-cache.ts';
import { PAGE_SIZE } from './page-memory.ts';
import { ReadaheadState } from './readahead.ts';

const MIB = 2 ** 20;

function open(options: StubFileOptions & { budget?: number; readaheadMax?: number } = {}) {
  const { cache, bdi } = stubCache({ budget: options.budget ?? 4 * MIB }, { readaheadMax: options.readaheadMax ?? 128 * 1024 });
  const file = new StubFile(bdi, options);
  return { cache, bdi, file, mapping: file.mapping };
}

function read(file: StubFile, pos: number, into: Uint8Array, options: Partial<FilemapReadOptions> = {}): MaybePromise<number> {
  return filemapRead(file.mapping, pos, into, { ra: new ReadaheadState(), nowait: false, dontcache: false, ...options });
}

function expected(pos: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => patternByte(pos + i));
}

function randomReader(): ReadaheadState {
  const ra = new ReadaheadState();
  ra.hint = 'random';
  return ra;
}

test('reads agree with the file, short at its end and nothing behind it, for any position and length, past 2^32 too', () =>
  forEachSeed('filemapRead', 40, async (prng) => {
    const base = prng.pick([0, 0, 2 ** 31 - 3 * PAGE_SIZE, 2 ** 32 - PAGE_SIZE, 2 ** 45]);
    const size = base + prng.between(1, 100 * PAGE_SIZE);
    const orderMin = prng.pick([0, 0, 2]);
    const { cache, file, mapping } = open({
      size,
      orderMin,
      orderMax: prng.between(orderMin, 5),
      budget: prng.pick([16, 64, 1024]) * PAGE_SIZE,
      noReadahead: prng.chance(0.2),
    });
    const ra = new ReadaheadState();
    for (let step = 0; step < 40; step++) {
      const pos = base + prng.below(size - base + PAGE_SIZE);
      const length = prng.pick([0, 1, 511, PAGE_SIZE, 3 * PAGE_SIZE + 7, 40 * PAGE_SIZE]);
      const into = new Uint8Array(length).fill(0xee);
      const count = await read(file, pos, into, { ra, dontcache: prng.chance(0.2) });
      const wanted = Math.max(0, Math.min(length, size - pos));
      assert.equal(count, wanted, `step ${step}: ${length} at ${pos} of ${size}`);
      assert.equal(Buffer.compare(into.subarray(0, count), file.stored(pos, count)), 0, `step ${step}: ${length} at ${pos}`);
      assert.ok(
        into.subarray(count).every((byte) => byte === 0xee),
        'bytes behind the answer were touched',
      );
    }
    checkCache(cache, [mapping], true);
  }));

test('what is cached is answered without a promise and without I/O', () => {
  const { file } = open({ size: 10 * PAGE_SIZE });
  void read(file, 0, new Uint8Array(10 * PAGE_SIZE));
  file.requests.length = 0;
  const into = new Uint8Array(3 * PAGE_SIZE);
  assert.equal(read(file, 100, into), 3 * PAGE_SIZE);
  assert.equal(tryRead(file.mapping, 100, into), 3 * PAGE_SIZE);
  assert.equal(tryRead(file.mapping, 10 * PAGE_SIZE - 1, into), 1);
  assert.equal(tryRead(file.mapping, 10 * PAGE_SIZE, into), 0);
  assert.equal(file.requests.length, 0);
});

test('tryRead declines when any byte is missing, not valid, or is to start readahead', () => {
  const { file, mapping } = open({ size: 64 * PAGE_SIZE });
  const into = new Uint8Array(2 * PAGE_SIZE);
  assert.equal(tryRead(mapping, 0, into), WOULD_BLOCK);
  void read(file, 0, new Uint8Array(1)); // a window of four pages, its mark on page 1
  assert.equal(tryRead(mapping, 0, into.subarray(0, PAGE_SIZE)), PAGE_SIZE);
  assert.equal(tryRead(mapping, 0, into), WOULD_BLOCK);
  const folio = mapping.tryCreateOrder(20, 0, false) as Folio;
  assert.equal(tryRead(mapping, 20 * PAGE_SIZE, into.subarray(0, 1)), WOULD_BLOCK);
  folio.endRead(true);
  folio.put();
  assert.equal(tryRead(mapping, 20 * PAGE_SIZE, into.subarray(0, 1)), 1);
});

test('concurrent readers of one missing folio issue one read, and all get it', async () => {
  for (const noReadahead of [false, true]) {
    const requests = new HeldRequests();
    const { cache, file, mapping } = open({ size: PAGE_SIZE, post: requests.post, noReadahead });
    const reads = Array.from({ length: 20 }, (_, i) => read(file, i, new Uint8Array(5)));
    await turns();
    assert.equal(file.requests.length, 1);
    requests.endAll();
    assert.deepEqual(await Promise.all(reads), new Array(20).fill(5));
    assert.equal(file.requests.length, 1);
    checkCache(cache, [mapping], true);
  }
});

test('invariant 14: a failed read is EIO for who waits, leaves no folio locked, and the next reader tries again', async () => {
  for (const noReadahead of [false, true]) {
    const { cache, file, mapping } = open({ size: 8 * PAGE_SIZE, noReadahead });
    let fail = true;
    file.fails = ({ pos }) => fail && pos === 2 * PAGE_SIZE;
    const reader = randomReader();
    assert.throws(() => read(file, 2 * PAGE_SIZE + 5, new Uint8Array(10), { ra: reader }), { code: 'EIO', syscall: 'read' });
    checkCache(cache, [mapping], true);
    // Bytes before the error are an answer; the error is the next call's.
    const into = new Uint8Array(8 * PAGE_SIZE);
    assert.equal(read(file, 0, into), 2 * PAGE_SIZE);
    assert.throws(() => read(file, 2 * PAGE_SIZE, into), { code: 'EIO' });
    fail = false;
    assert.equal(read(file, 0, into), 8 * PAGE_SIZE);
    assert.deepEqual(into, expected(0, 8 * PAGE_SIZE));
    checkCache(cache, [mapping], true);
  }
});

test('invariant 14: of several readers of a folio that fails, each gets EIO, and none waits for ever', async () => {
  const requests = new HeldRequests();
  const { cache, file, mapping } = open({ size: PAGE_SIZE, post: requests.post });
  file.fails = () => true;
  const reads = Array.from({ length: 4 }, () => Promise.resolve(read(file, 0, new Uint8Array(5))).then(String, (error) => error.code));
  for (let i = 0; i < 20; i++) {
    await turns(1);
    requests.endAll();
  }
  assert.deepEqual(await Promise.all(reads), ['EIO', 'EIO', 'EIO', 'EIO']);
  checkCache(cache, [mapping], true);
});

test('invariant 20: NOWAIT answers at once from what is valid, else EAGAIN; it waits for nothing and starts no I/O', async () => {
  const requests = new HeldRequests();
  const { cache, file, mapping } = open({ size: 64 * PAGE_SIZE, post: requests.post });
  const again = { code: 'EAGAIN' };
  const nowait = { nowait: true };
  assert.throws(() => read(file, 0, new Uint8Array(5), nowait), again);
  assert.equal(file.requests.length, 0);
  assert.equal(cache.folioCount, 0);

  const slow = read(file, 0, new Uint8Array(2)); // four pages are on their way, the mark on page 1
  assert.throws(() => read(file, 0, new Uint8Array(5), nowait), again);
  requests.endAll();
  await slow;
  const started = file.requests.length;
  assert.equal(read(file, 0, new Uint8Array(PAGE_SIZE), nowait), PAGE_SIZE);
  const into = new Uint8Array(20 * PAGE_SIZE);
  assert.equal(read(file, 100, into, nowait), 4 * PAGE_SIZE - 100); // short: what comes next is not there
  assert.deepEqual(into.subarray(0, 4 * PAGE_SIZE - 100), expected(100, 4 * PAGE_SIZE - 100));
  assert.ok(mapping.find(PAGE_SIZE)?.isReadaheadMark, 'left for a reader who may start I/O');

  void mapping.invalidateLock.lock(); // somebody punches a hole
  assert.equal(read(file, 0, new Uint8Array(PAGE_SIZE), nowait), PAGE_SIZE);
  assert.throws(() => read(file, 10 * PAGE_SIZE, new Uint8Array(1), nowait), again);
  mapping.invalidateLock.unlock();
  const locked = await mapping.lockFolio(0);
  assert.equal(read(file, 0, new Uint8Array(1), nowait), 1); // valid bytes need no lock
  locked?.unlock();
  locked?.put();
  assert.equal(read(file, 64 * PAGE_SIZE, new Uint8Array(1), nowait), 0);
  assert.equal(file.requests.length, started);
  checkCache(cache, [mapping], true);
});

test('bug 44: a folio that is valid in part serves those bytes without a read, and is read for the others', () => {
  const { cache, file, mapping } = open({ size: 8 * PAGE_SIZE, orderMax: 3 });
  const folio = mapping.tryCreateOrder(0, 3, false) as Folio;
  folio.bytes(1000, 500).fill(0x77);
  folio.unlock();
  folio.put();
  const asked: [number, number][] = [];
  mapping.ops = {
    ...mapping.ops,
    isPartiallyUptodate(_, offset, length) {
      asked.push([offset, length]);
      return offset >= 1000 && offset + length <= 1500;
    },
  };
  const into = new Uint8Array(100);
  assert.equal(read(file, 1200, into), 100);
  assert.ok(into.every((byte) => byte === 0x77));
  assert.deepEqual(asked, [[1200, 100]]);
  assert.equal(file.requests.length, 0);
  assert.equal(read(file, 1200, into, { nowait: true }), 100);
  assert.throws(() => read(file, 1450, into, { nowait: true }), { code: 'EAGAIN' });
  assert.equal(read(file, 1450, into), 100); // the stub reads all of it
  assert.deepEqual(file.pagesOf('read'), [[0, 8]]);
  assert.equal(read(file, 7 * PAGE_SIZE, new Uint8Array(PAGE_SIZE)), PAGE_SIZE);
  checkCache(cache, [mapping], true);
});

test('Y11: a reader of valid bytes does not wait for another one who reads the rest of the folio', async () => {
  const requests = new HeldRequests();
  const { file, mapping } = open({ size: 8 * PAGE_SIZE, orderMax: 3, post: requests.post });
  const folio = mapping.tryCreateOrder(0, 3, false) as Folio;
  folio.unlock();
  folio.put();
  mapping.ops = { ...mapping.ops, isPartiallyUptodate: (_, offset, length) => offset + length <= 1000 };
  const whole = read(file, 0, new Uint8Array(8 * PAGE_SIZE));
  assert.equal(await settles(whole), false);
  assert.equal(read(file, 0, new Uint8Array(1000)), 1000);
  requests.endAll();
  assert.equal(await whole, 8 * PAGE_SIZE);
});

test('the size is looked at after the content is known: a truncate that races shows no zeros past the new end', async () => {
  const requests = new HeldRequests();
  const { cache, file, mapping } = open({ size: 4 * PAGE_SIZE, orderMax: 2, post: requests.post });
  const into = new Uint8Array(4 * PAGE_SIZE).fill(0xee);
  const slow = read(file, 0, into);
  await turns();
  file.size = 1000;
  requests.endAll(); // the storage still had all of it
  assert.equal(await slow, 1000);
  assert.ok(into.subarray(1000).every((byte) => byte === 0xee));
  const gone = read(file, 500, new Uint8Array(10));
  assert.equal(await gone, 10);
  file.size = 0;
  assert.equal(await read(file, 0, into), 0);
  await mapping.truncateRange(0, Number.POSITIVE_INFINITY);
  checkCache(cache, [mapping], true);
});

test('a folio that is truncated while a reader waits for it is looked up again', async () => {
  const requests = new HeldRequests();
  const { cache, file, mapping } = open({ size: 4 * PAGE_SIZE, post: requests.post });
  const folio = mapping.tryCreateOrder(1, 0, false) as Folio; // locked by somebody
  const slow = read(file, PAGE_SIZE, new Uint8Array(10), { ra: randomReader() });
  await turns();
  mapping.remove(folio);
  folio.unlock();
  folio.put();
  await turns();
  requests.endAll();
  assert.equal(await slow, 10);
  assert.deepEqual(file.pagesOf('read'), [[1, 1]]);
  checkCache(cache, [mapping], true);
});

test('readers put nothing in while blocks move: they wait for the invalidate lock', async () => {
  const { file, mapping } = open({ size: 4 * PAGE_SIZE });
  void mapping.invalidateLock.lock();
  const slow = read(file, 0, new Uint8Array(10));
  assert.equal(await settles(slow), false);
  assert.deepEqual([file.requests.length, foliosOf(mapping).length], [0, 0]);
  mapping.invalidateLock.unlock();
  assert.equal(await slow, 10);
  assert.ok(!mapping.invalidateLock.isLocked);
});

test('an aborted reader stops between two folios: a short count after some bytes, EINTR before any', async () => {
  const requests = new HeldRequests();
  const { cache, file, mapping } = open({ size: 16 * PAGE_SIZE, post: requests.post });
  const controller = new AbortController();
  const slow = read(file, 0, new Uint8Array(16 * PAGE_SIZE), { signal: controller.signal, ra: randomReader() });
  await turns();
  requests.endOne();
  await turns();
  controller.abort(new Error('enough'));
  requests.endAll();
  await turns();
  requests.endAll();
  const count = await slow;
  assert.ok(count > 0 && count < 16 * PAGE_SIZE, `${count} bytes`);
  await turns();
  requests.endAll();
  await mapping.truncateRange(0, Number.POSITIVE_INFINITY);
  const requested = file.requests.length;
  assert.throws(() => read(file, 0, new Uint8Array(10), { signal: controller.signal }), { code: 'EINTR' });
  assert.equal(file.requests.length, requested);
  checkCache(cache, [mapping], true);
});

test('invariant 62: a DONTCACHE read leaves nothing of what it brought in, and all of what was there (N1, N3)', async () => {
  const { cache, file, mapping } = open({ size: 40 * PAGE_SIZE, orderMax: 3 });
  void read(file, 9 * PAGE_SIZE, new Uint8Array(1), { ra: randomReader() });
  const there = mapping.find(9 * PAGE_SIZE);
  const ra = new ReadaheadState();
  const into = new Uint8Array(40 * PAGE_SIZE);
  assert.equal(await read(file, 0, into, { dontcache: true, ra }), 40 * PAGE_SIZE);
  assert.deepEqual(into, expected(0, 40 * PAGE_SIZE));
  assert.equal(mapping.find(9 * PAGE_SIZE), there);
  assert.deepEqual(foliosOf(mapping).length, 1);
  checkCache(cache, [mapping], true);
});

test('N2: a reader who wants the data to stay keeps what a DONTCACHE read brought in', () => {
  const { file, mapping } = open({ size: 40 * PAGE_SIZE });
  void read(file, 0, new Uint8Array(1), { dontcache: true }); // reads ahead: pages 1 to 3 wait to be dropped
  assert.ok(mapping.find(PAGE_SIZE)?.isDropbehind);
  void read(file, PAGE_SIZE, new Uint8Array(1));
  assert.equal(mapping.find(PAGE_SIZE)?.isDropbehind, false);
  void read(file, PAGE_SIZE, new Uint8Array(1), { dontcache: true });
  assert.ok(mapping.find(PAGE_SIZE) !== undefined);
  assert.equal(read(file, 2 * PAGE_SIZE, new Uint8Array(1), { nowait: true }), 1);
  assert.equal(mapping.find(2 * PAGE_SIZE)?.isDropbehind, false);
});

test('a DONTCACHE read does not drop what is dirty, in flight or held by another', async () => {
  const requests = new HeldRequests();
  const { file, mapping } = open({ size: 8 * PAGE_SIZE, orderMax: 0, post: requests.post });
  const first = read(file, 0, new Uint8Array(1), { dontcache: true, ra: randomReader() });
  const second = read(file, 0, new Uint8Array(1), { dontcache: true, ra: randomReader() });
  await turns();
  requests.endAll();
  await Promise.all([first, second]);
  assert.equal(mapping.find(0), undefined); // the last of them dropped it
  file.dirty(0, PAGE_SIZE, 1, 1 << 1);
  assert.ok(mapping.find(0)?.isDropbehind);
  assert.equal(read(file, 0, new Uint8Array(1), { dontcache: true }), 1);
  assert.ok(mapping.find(0)?.isDirty);
});

test('readers that want more than the memory at once all get their bytes', () =>
  forEachSeed('memory pressure', 20, async (prng) => {
    const scheduler = new SimScheduler(prng.fork());
    const cache = new PageCache({ budget: 8 * PAGE_SIZE, clock: scheduler.clock, poison: 0xdb });
    const bdi = new BackingDevice(cache, { readaheadMax: prng.pick([0, 4, 32]) * PAGE_SIZE });
    const orderMin = prng.pick([0, 0, 1]);
    const file = new StubFile(bdi, {
      size: 200 * PAGE_SIZE,
      post: (fire) => scheduler.post(fire),
      orderMin,
      orderMax: prng.between(orderMin, 3),
    });
    const tasks = Array.from({ length: 30 }, (_, n) =>
      scheduler.spawn(`reader ${n}`, async () => {
        for (let i = 0; i < 5; i++) {
          const pos = prng.below(200 * PAGE_SIZE);
          const into = new Uint8Array(prng.between(1, 12 * PAGE_SIZE));
          const count = await read(file, pos, into, { dontcache: prng.chance(0.2) });
          assert.equal(count, Math.min(into.length, file.size - pos));
          assert.equal(Buffer.compare(into.subarray(0, count), file.stored(pos, count)), 0);
        }
      }),
    );
    await scheduler.run(tasks);
    await scheduler.quiesce();
    checkCache(cache, [file.mapping], true);
  }));

test('lockUptodateFolio gives all of the folio, valid, locked and held; EFAULT behind the last page, EIO where it cannot be read', async () => {
  const { cache, file, mapping } = open({ size: 5 * PAGE_SIZE + 1, orderMax: 2 });
  const lock = (pos: number) => run(lockUptodateFolio(mapping, pos, new ReadaheadState()));
  const folio = lock(5 * PAGE_SIZE + 4000); // the rest of the last page can be used
  assert.ok(!isPromise(folio) && folio.isLocked && folio.isUptodate && folio.refs === 1);
  folio.unlock();
  folio.put();
  assert.throws(() => lock(6 * PAGE_SIZE), { code: 'EFAULT' });
  file.fails = () => true;
  await mapping.truncateRange(0, Number.POSITIVE_INFINITY);
  assert.throws(() => lock(0), { code: 'EIO' });
  // Valid in part is not enough for a store anywhere in it.
  file.fails = () => false;
  await mapping.truncateRange(0, Number.POSITIVE_INFINITY);
  const partial = mapping.tryCreateOrder(0, 2, false) as Folio;
  partial.unlock();
  partial.put();
  mapping.ops = { ...mapping.ops, isPartiallyUptodate: (_, offset, length) => offset + length <= PAGE_SIZE };
  const whole = lock(10);
  assert.ok(!isPromise(whole) && whole === partial && whole.isUptodate);
  whole.unlock();
  whole.put();
  checkCache(cache, [mapping], true);
});

test('a reader that waits for the invalidate lock holds no folio: whoever has the lock may need its memory', async () => {
  const { cache, file, mapping } = open({ budget: 4 * PAGE_SIZE });
  // Cached and not valid: as a read that failed leaves it.
  const folio = mapping.tryCreateOrder(0, 0, true) as Folio;
  folio.unlock();
  folio.put();
  assert.ok(mapping.invalidateLock.tryLock());
  const into = new Uint8Array(PAGE_SIZE);
  const reading = read(file, 0, into);
  assert.ok(isPromise(reading));
  await turns();
  assert.equal(folio.refs, 0);
  cache.shrink(4 * PAGE_SIZE);
  assert.equal(mapping.find(0), undefined);
  mapping.invalidateLock.unlock();
  assert.equal(await reading, PAGE_SIZE);
  assert.deepEqual(into, expected(0, PAGE_SIZE));
});
