import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimScheduler } from '../../test/support/scheduler.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { checkCache, foliosOf, HeldRequests, patternByte, StubFile, settles, stubCache, turns } from '../../test/support/stub-file.ts';
import { isPromise } from '../base/task.ts';
import { FGP_DONTCACHE, FGP_NOWAIT, TAG_DIRTY, TAG_TOWRITE, TAG_WRITEBACK } from './address-space.ts';
import { BackingDevice } from './backing-device.ts';
import { filemapRead } from './filemap.ts';
import type { Folio } from './folio.ts';
import { PageCache } from './page-cache.ts';
import { PAGE_SIZE } from './page-memory.ts';
import { ReadaheadState } from './readahead.ts';

const MIB = 2 ** 20;
const read = { nowait: false, dontcache: false };

function take(answer: Folio | Promise<Folio>): Folio {
  assert.ok(!isPromise(answer), 'had to wait');
  return answer;
}

function release(folio: Folio): void {
  folio.unlock();
  folio.put();
}

test('a write gets the largest folio that its length, its alignment and the file allow', () => {
  const cases: { pos: number; length: number; orderMin?: number; orderMax?: number; index: number; order: number }[] = [
    { pos: 0, length: 1, index: 0, order: 0 },
    { pos: 0, length: 4096, index: 0, order: 0 },
    { pos: 0, length: 4097, index: 0, order: 1 },
    { pos: 4095, length: 2, index: 0, order: 1 },
    { pos: 0, length: 3 * 4096, index: 0, order: 1 }, // largest power of two not above the pages
    { pos: 0, length: 64 * 1024, index: 0, order: 4 },
    { pos: 0, length: 2 * MIB, index: 0, order: 9 },
    { pos: 0, length: 64 * MIB, index: 0, order: 9 },
    { pos: 4096, length: 64 * 1024, index: 1, order: 0 }, // natural alignment
    { pos: 6 * 4096, length: 64 * 1024, index: 6, order: 1 },
    { pos: 16 * 4096 + 100, length: 64 * 1024, index: 16, order: 4 },
    { pos: 0, length: 2 * MIB, orderMax: 4, index: 0, order: 4 },
    { pos: 0, length: 2 * MIB, orderMax: 0, index: 0, order: 0 },
    { pos: 5 * 4096, length: 1, orderMin: 4, index: 0, order: 4 }, // a block is larger than a page
    { pos: 17 * 4096, length: 64 * 1024, orderMin: 2, index: 16, order: 2 },
    { pos: 2 ** 45 + 4096, length: MIB, index: 2 ** 33 + 1, order: 0 },
    { pos: 2 ** 45, length: MIB, index: 2 ** 33, order: 8 },
  ];
  for (const { pos, length, index, order, ...options } of cases) {
    const { bdi } = stubCache({ budget: 8 * MIB });
    const { mapping } = new StubFile(bdi, options);
    const folio = take(mapping.getFolio(pos, length, 0));
    assert.deepEqual([folio.index, folio.order], [index, order], JSON.stringify({ pos, length, ...options }));
    assert.ok(folio.isLocked && folio.refs === 1 && !folio.isUptodate && folio.mapping === mapping);
    release(folio);
  }
});

test('a new folio never overlaps one that is cached: it gets smaller', () => {
  const { bdi } = stubCache({ budget: 8 * MIB });
  const { mapping } = new StubFile(bdi);
  release(take(mapping.getFolio(5 * PAGE_SIZE, 1, 0)));
  const folio = take(mapping.getFolio(0, 16 * PAGE_SIZE, 0));
  assert.deepEqual([folio.index, folio.order], [0, 2]);
  release(folio);
  assert.equal(take(mapping.getFolio(5 * PAGE_SIZE + 7, 16 * PAGE_SIZE, 0)).index, 5); // what is cached is used whatever its size
});

test('folio sizes by seed: aligned, inside the limits, covering the position, no overlap', () =>
  forEachSeed('getFolio', 60, (prng) => {
    const { cache, bdi } = stubCache({ budget: prng.pick([64, 256, 2048]) * PAGE_SIZE });
    const orderMin = prng.between(0, 3);
    const file = new StubFile(bdi, { orderMin, orderMax: prng.between(orderMin, 9) });
    const { mapping } = file;
    const base = prng.pick([0, 2 ** 31, 2 ** 32 - 512, 2 ** 40]) * PAGE_SIZE;
    for (let step = 0; step < 200; step++) {
      const pos = base + prng.below(600 * PAGE_SIZE);
      const length = 1 + prng.below(prng.pick([10, PAGE_SIZE, 64 * PAGE_SIZE, 600 * PAGE_SIZE]));
      const before = mapping.find(pos);
      const covered = new Set<number>();
      for (const [index, order] of foliosOf(mapping)) for (let page = index; page < index + 2 ** order; page++) covered.add(page);
      const folio = take(mapping.getFolio(pos, length, 0));
      assert.ok(folio.pos <= pos && pos < folio.end, `step ${step}: ${folio.index} order ${folio.order} for ${pos}`);
      assert.equal(folio.index % folio.pages, 0);
      assert.ok(folio.order >= mapping.orderMin && folio.order <= mapping.orderMax);
      if (before !== undefined) assert.equal(folio, before);
      else {
        for (let page = folio.index; page < folio.index + folio.pages; page++) {
          // Reclaim may have dropped a folio that was there; what is in the tree now must be this one.
          assert.equal(mapping.folios.load(page), folio, `step ${step}: page ${page}`);
        }
        if (folio.order > mapping.orderMin) assert.ok(folio.end < pos + length + PAGE_SIZE, `step ${step}: larger than the write`);
        if (cache.reclaimedFolios === 0)
          for (let page = folio.index; page < folio.index + folio.pages; page++) assert.ok(!covered.has(page));
      }
      release(folio);
    }
    checkCache(cache, [mapping], true);
  }));

test('without memory for a large folio a smaller one serves, down to the smallest, which reclaims', () => {
  const { cache, bdi } = stubCache({ budget: 16 * PAGE_SIZE });
  const a = new StubFile(bdi);
  const held = Array.from({ length: 15 }, (_, i) => take(a.mapping.getFolio(i * PAGE_SIZE, 1, 0)));
  const folio = take(a.mapping.getFolio(16 * PAGE_SIZE, 16 * PAGE_SIZE, 0));
  assert.equal(folio.order, 0);
  release(folio);
  const next = take(a.mapping.getFolio(32 * PAGE_SIZE, 16 * PAGE_SIZE, 0));
  assert.equal(next.order, 0);
  assert.equal(a.mapping.find(16 * PAGE_SIZE), undefined); // made room
  release(next);
  for (const each of held) release(each);
  checkCache(cache, [a.mapping], true);
});

test('invariant 20: FGP_NOWAIT waits for no lock, no writeback and no memory', async () => {
  const { bdi } = stubCache({ budget: 4 * PAGE_SIZE });
  const file = new StubFile(bdi, { stableWrites: true });
  const { mapping } = file;
  const again = { code: 'EAGAIN' };
  const folio = take(mapping.getFolio(0, 1, FGP_NOWAIT)); // makes one: nothing to wait for
  assert.throws(() => mapping.getFolio(0, 1, FGP_NOWAIT), again);
  mapping.startWriteback(folio);
  folio.unlock();
  assert.throws(() => mapping.getFolio(0, 1, FGP_NOWAIT), again);
  assert.ok(!folio.isLocked, 'the try left a lock behind');
  const held = [1, 2, 3].map((page) => take(mapping.getFolio(page * PAGE_SIZE, 1, FGP_NOWAIT)));
  assert.throws(() => mapping.getFolio(9 * PAGE_SIZE, 1, FGP_NOWAIT), again);
  mapping.endWriteback(folio);
  assert.equal(take(mapping.getFolio(0, 1, FGP_NOWAIT)), folio);
  release(folio);
  folio.put();
  for (const each of held) release(each);
  await turns(1);
  assert.equal(folio.refs, 0);
});

test('getFolio waits for the lock, for stable data and for memory, and looks again after each', async () => {
  const { cache, bdi } = stubCache({ budget: 4 * PAGE_SIZE });
  const file = new StubFile(bdi, { stableWrites: true });
  const { mapping } = file;
  const first = take(mapping.getFolio(0, 1, 0));
  const second = mapping.getFolio(0, 1, 0);
  assert.equal(await settles(second), false);
  mapping.remove(first); // while the other one waits for its lock
  release(first);
  const fresh = await second;
  assert.notEqual(fresh, first);
  assert.equal(mapping.find(0), fresh);
  mapping.startWriteback(fresh);
  release(fresh);
  const stable = mapping.getFolio(0, 1, 0);
  assert.equal(await settles(stable), false);
  mapping.endWriteback(fresh);
  assert.equal(await stable, fresh);
  const rest = [1, 2, 3].map((page) => take(mapping.getFolio(page * PAGE_SIZE, 1, 0)));
  const last = mapping.getFolio(7 * PAGE_SIZE, 1, 0);
  assert.equal(await settles(last), false);
  release(rest[1] as Folio);
  const got = await last;
  assert.equal(got.index, 7);
  for (const each of [fresh, rest[0] as Folio, rest[2] as Folio, got]) release(each);
  checkCache(cache, [mapping], true);
});

test('bug 27: DONTCACHE marks the folio that it makes, leaves one that was there, and overwriting it keeps the mark (N1, N5)', () => {
  const { bdi } = stubCache({ budget: MIB });
  const { mapping } = new StubFile(bdi);
  const made = take(mapping.getFolio(0, 1, FGP_DONTCACHE));
  assert.ok(made.isDropbehind);
  release(made);
  release(take(mapping.getFolio(0, 1, FGP_DONTCACHE)));
  assert.ok(made.isDropbehind);
  release(take(mapping.getFolio(0, 1, 0))); // N2: somebody wants it after all
  assert.ok(!made.isDropbehind);
  release(take(mapping.getFolio(0, 1, FGP_DONTCACHE)));
  assert.ok(!made.isDropbehind);
});

test('a DONTCACHE lookup that waits follows the same rules', async () => {
  const { bdi } = stubCache({ budget: MIB });
  const { mapping } = new StubFile(bdi);
  const made = take(mapping.getFolio(0, 1, FGP_DONTCACHE));
  const dontcache = mapping.getFolio(0, 1, FGP_DONTCACHE);
  made.unlock();
  await dontcache;
  assert.ok(made.isDropbehind);
  const normal = mapping.getFolio(0, 1, 0);
  made.unlock();
  await normal;
  assert.ok(!made.isDropbehind);
  made.unlock();
  for (let i = 0; i < 3; i++) made.put();
});

test('invariant 62: a DONTCACHE folio is gone after its writeback, one that was there before stays', () => {
  const requests = new HeldRequests();
  const { cache, bdi } = stubCache({ budget: MIB });
  const file = new StubFile(bdi, { post: requests.post });
  const { mapping } = file;
  file.dirty(0, PAGE_SIZE, 1);
  file.dirty(0, 4 * PAGE_SIZE, 2, FGP_DONTCACHE);
  const done = mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
  assert.ok(isPromise(done));
  assert.ok(foliosOf(mapping).length > 1);
  requests.endAll();
  return done.then(() => {
    assert.deepEqual(foliosOf(mapping), [[0, 0]]);
    assert.deepEqual([...file.stored(PAGE_SIZE, 1)], [2]);
    checkCache(cache, [mapping], true);
  });
});

test('invariant 62: a DONTCACHE folio that is dirtied again or held at the end of its writeback stays, and goes after the next', async () => {
  const requests = new HeldRequests();
  const { cache, bdi } = stubCache({ budget: MIB });
  const file = new StubFile(bdi, { post: requests.post });
  const { mapping } = file;
  file.dirty(0, PAGE_SIZE, 1, FGP_DONTCACHE);
  const first = mapping.writeAndWait(0, PAGE_SIZE);
  file.dirty(0, PAGE_SIZE, 2, FGP_DONTCACHE); // N5: overwritten while in flight
  requests.endAll();
  await first;
  assert.deepEqual(foliosOf(mapping), [[0, 0]]);
  assert.ok(mapping.find(0)?.isDirty);
  const second = mapping.writeAndWait(0, PAGE_SIZE);
  requests.endAll();
  await second;
  assert.deepEqual(foliosOf(mapping), []);
  assert.deepEqual([...file.stored(0, 1)], [2]);
  checkCache(cache, [mapping], true);
});

test('lockFolio gives the folio that is cached once the lock is had, or none', async () => {
  const { bdi } = stubCache({ budget: MIB });
  const { mapping } = new StubFile(bdi);
  assert.equal(mapping.lockFolio(0), undefined);
  const first = take(mapping.getFolio(0, 1, 0));
  const gone = mapping.lockFolio(0);
  const replaced = mapping.lockFolio(100);
  mapping.remove(first);
  release(first);
  assert.equal(await gone, undefined);
  assert.equal(await replaced, undefined);
  const second = take(mapping.getFolio(0, 1, 0));
  const other = mapping.lockFolio(0);
  mapping.remove(second);
  const third = mapping.tryCreateOrder(0, 2, false) as Folio; // a larger folio stands there now
  release(second);
  release(third);
  assert.equal(await other, third);
  release(third);
  assert.equal(third.refs, 0);
});

test('tags, counters and device follow every change of state', () => {
  const { cache, bdi, clock } = stubCache({ budget: MIB });
  const { mapping } = new StubFile(bdi);
  const folio = take(mapping.getFolio(0, 4 * PAGE_SIZE, 0));
  folio.markUptodate();
  for (let i = 0; i < 2; i++) mapping.setDirty(folio);
  assert.deepEqual([mapping.dirtyBytes, bdi.dirtyBytes, cache.dirtyBytes], Array(3).fill(4 * PAGE_SIZE));
  assert.equal(mapping.next(0, 1, TAG_DIRTY), folio);
  assert.ok(
    mapping.isDirty && mapping.needsWriteback(0, 1) && !mapping.needsWriteback(4 * PAGE_SIZE, 1e9) && !mapping.needsWriteback(5, 5),
  );
  mapping.folios.setTag(folio, TAG_TOWRITE);
  assert.equal(mapping.clearDirtyForIo(folio), true);
  assert.equal(mapping.clearDirtyForIo(folio), false);
  assert.equal(mapping.next(0, 1, TAG_TOWRITE), undefined);
  assert.ok(!mapping.needsWriteback(0, 1));
  mapping.startWriteback(folio);
  assert.throws(() => mapping.startWriteback(folio), { code: 'ERR_ASSERTION' });
  assert.deepEqual([mapping.writebackBytes, bdi.writebackBytes, cache.writebackBytes], Array(3).fill(4 * PAGE_SIZE));
  assert.equal(mapping.next(0, 1, TAG_WRITEBACK), folio);
  assert.ok(mapping.needsWriteback(0, 1));
  assert.throws(() => mapping.remove(folio), { code: 'ERR_ASSERTION' });
  mapping.setDirty(folio); // rewritten while in flight: both
  checkCache(cache, [mapping], false);
  mapping.endWriteback(folio);
  assert.throws(() => mapping.endWriteback(folio), { code: 'ERR_ASSERTION' });
  mapping.remove(folio); // dirty data goes with it
  release(folio);
  checkCache(cache, [mapping], true);
  assert.throws(() => mapping.setDirty(folio), { code: 'ERR_ASSERTION' });
  assert.equal(clock.timerCount, 1);
});

test('a file that became clean is forgotten by its device, and its age starts anew when it is dirtied again', async () => {
  const { cache, bdi, clock } = stubCache({ budget: MIB, dirtyWritebackMs: 1e9 });
  const file = new StubFile(bdi);
  file.dirty(0, 2 * PAGE_SIZE);
  assert.equal(file.mapping.dirtiedWhen, 0);
  await clock.advance(1000);
  file.dirty(8 * PAGE_SIZE, PAGE_SIZE);
  assert.equal(file.mapping.dirtiedWhen, 0); // that of the first dirty folio
  await file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
  assert.equal(bdi.dirtyMappings.size, 0, 'the device holds on to a clean file');
  await clock.advance(1000);
  file.dirty(0, PAGE_SIZE);
  assert.equal(file.mapping.dirtiedWhen, 2000);
  await file.mapping.evict();
  assert.equal(bdi.dirtyMappings.size, 0, 'the device holds on to a file that is gone');
  checkCache(cache, [file.mapping], true);
});

test('truncateRange drops whole folios and zeroes parts of folios, against a byte array', () =>
  forEachSeed('truncateRange', 40, async (prng) => {
    const base = prng.pick([0, 2 ** 31 - 64 * PAGE_SIZE, 2 ** 32, 2 ** 44]);
    const { cache, bdi } = stubCache({ budget: MIB });
    const file = new StubFile(bdi, { orderMin: prng.pick([0, 0, 2]) });
    const { mapping } = file;
    const length = 64 * PAGE_SIZE;
    const model = new Map<number, Uint8Array>(); // page -> bytes, where cached
    for (let step = 0; step < 30; step++) {
      for (let n = prng.between(1, 4); n > 0; n--) {
        const pos = base + prng.below(length);
        const folio = take(mapping.getFolio(pos, 1 + prng.below(16 * PAGE_SIZE), 0));
        const bytes = prng.bytes(folio.size);
        folio.bytes(0, folio.size).set(bytes);
        folio.markUptodate();
        if (prng.chance(0.5)) mapping.setDirty(folio);
        for (let page = 0; page < folio.pages; page++) model.set(folio.index + page, bytes.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE));
        release(folio);
      }
      const bound = () => base + (prng.chance(0.4) ? prng.below(64) * PAGE_SIZE : prng.below(length));
      const [start, other] = [bound(), bound()].sort((a, b) => a - b) as [number, number];
      const end = prng.chance(0.2) ? Number.POSITIVE_INFINITY : other;
      const before = foliosOf(mapping);
      await mapping.truncateRange(start, end);
      for (const [index, order] of before) {
        const pos = index * PAGE_SIZE;
        const folioEnd = pos + PAGE_SIZE * 2 ** order;
        if (start <= pos && folioEnd <= end && start < end) for (let page = index; page < index + 2 ** order; page++) model.delete(page);
        else
          for (let at = Math.max(pos, start); at < Math.min(folioEnd, end); at++)
            (model.get(Math.floor(at / PAGE_SIZE)) as Uint8Array)[at % PAGE_SIZE] = 0;
      }
      let pages = 0;
      for (const [index, order] of foliosOf(mapping)) {
        for (let page = index; page < index + 2 ** order; page++, pages++) {
          const folio = mapping.folios.load(page) as Folio;
          const expected = model.get(page);
          assert.ok(expected !== undefined, `step ${step}: page ${page} should be gone`);
          assert.equal(Buffer.compare(folio.bytes((page - index) * PAGE_SIZE, PAGE_SIZE), expected), 0, `step ${step}: page ${page}`);
        }
      }
      assert.equal(pages, model.size, `step ${step}: a folio went that should have stayed`);
      checkCache(cache, [mapping], true);
    }
  }));

test('truncateRange and invalidateRange wait for locks and writeback, one folio at a time', async () => {
  for (const op of ['truncateRange', 'invalidateRange'] as const) {
    const requests = new HeldRequests();
    const { cache, bdi } = stubCache({ budget: MIB });
    const file = new StubFile(bdi, { post: requests.post, orderMax: 0 });
    const { mapping } = file;
    file.dirty(0, 3 * PAGE_SIZE);
    const write = mapping.startWrite(0, PAGE_SIZE); // page 0 is in flight
    const locked = await mapping.lockFolio(PAGE_SIZE); // page 1 is somebody's
    assert.ok(locked !== undefined);
    if (op === 'invalidateRange') for (const page of [1, 2]) mapping.cancelDirty(mapping.find(page * PAGE_SIZE) as Folio);
    const done = mapping[op](0, 3 * PAGE_SIZE);
    assert.equal(await settles(done), false);
    assert.equal(foliosOf(mapping).length, 3);
    requests.endAll();
    await turns();
    assert.equal(foliosOf(mapping).length, 2);
    release(locked);
    await done;
    await write;
    assert.deepEqual(foliosOf(mapping), []);
    checkCache(cache, [mapping], true);
  }
});

test('invalidateRange keeps what is dirty, says EBUSY, and drops the rest', async () => {
  const { cache, bdi } = stubCache({ budget: MIB });
  const file = new StubFile(bdi, { orderMax: 0 });
  const { mapping } = file;
  file.dirty(0, 4 * PAGE_SIZE);
  await mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
  file.dirty(PAGE_SIZE, PAGE_SIZE);
  assert.throws(() => mapping.invalidateRange(0, Number.POSITIVE_INFINITY), { code: 'EBUSY' });
  assert.deepEqual(foliosOf(mapping), [[1, 0]]);
  await mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
  assert.equal(mapping.invalidateRange(PAGE_SIZE + 1, PAGE_SIZE + 2), undefined); // a folio that overlaps goes as a whole
  assert.deepEqual(foliosOf(mapping), []);
  checkCache(cache, [mapping], true);
});

test('writeAndWait writes what is dirty in its range and waits for what is in flight, and for nothing else', async () => {
  const requests = new HeldRequests();
  const { bdi } = stubCache({ budget: MIB });
  const file = new StubFile(bdi, { post: requests.post, orderMax: 0 });
  const { mapping } = file;
  assert.equal(mapping.writeAndWait(0, Number.POSITIVE_INFINITY), undefined);
  file.dirty(0, 4 * PAGE_SIZE, 3);
  assert.equal(mapping.writeAndWait(7 * PAGE_SIZE, 8 * PAGE_SIZE), undefined);
  assert.equal(mapping.writeAndWait(PAGE_SIZE, PAGE_SIZE), undefined);
  const inFlight = mapping.startWrite(0, PAGE_SIZE);
  assert.equal(inFlight, undefined); // only started
  const done = mapping.writeAndWait(0, 2 * PAGE_SIZE);
  await turns();
  assert.deepEqual(file.pagesOf('write'), [
    [0, 1],
    [1, 1],
  ]);
  requests.endOne();
  assert.equal(await settles(done), false);
  requests.endOne();
  await done;
  assert.equal(file.stored(PAGE_SIZE, 1)[0], 3);
  assert.ok(mapping.needsWriteback(2 * PAGE_SIZE, 4 * PAGE_SIZE));
  await mapping.truncateRange(0, Number.POSITIVE_INFINITY);
});

test("an integrity pass is not endless: data dirtied behind it is the next one's", () =>
  forEachSeed('writeAndWait', 20, async (prng) => {
    const scheduler = new SimScheduler(prng.fork());
    const cache = new PageCache({ budget: MIB, clock: scheduler.clock });
    const bdi = new BackingDevice(cache);
    const file = new StubFile(bdi, { post: (fire) => scheduler.post(fire), orderMax: 0, size: 16 * PAGE_SIZE });
    file.dirty(0, 16 * PAGE_SIZE, 1);
    let synced = false;
    const sync = scheduler.spawn('sync', async () => {
      await file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
      synced = true;
    });
    const rewrite = scheduler.spawn('rewrite', async () => {
      for (let round = 0; !synced; round++) {
        assert.ok(round < 5000, 'the sync does not end while the file is rewritten');
        const folio = await file.mapping.getFolio(prng.below(16) * PAGE_SIZE, 1, 0);
        file.mapping.setDirty(folio);
        release(folio);
        await scheduler.pause('rewrite');
      }
    });
    await scheduler.run([sync, rewrite]);
    await scheduler.settle(file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY));
    checkCache(cache, [file.mapping], true);
  }));

test('invariants 39, 40: after a failed write the others are written and waited for, then the error is told', async () => {
  const requests = new HeldRequests();
  const { cache, bdi } = stubCache({ budget: MIB });
  const file = new StubFile(bdi, { post: requests.post, orderMax: 0 });
  const { mapping } = file;
  file.fails = ({ pos }) => pos === 0;
  file.dirty(0, 3 * PAGE_SIZE, 1);
  const done = mapping.writeAndWait(0, Number.POSITIVE_INFINITY) as Promise<void>;
  done.catch(() => {});
  requests.endOne();
  assert.equal(await settles(done), false, 'an answer while folios are in flight');
  requests.endAll();
  await assert.rejects(done, { code: 'EIO', syscall: 'fsync' });
  assert.equal(mapping.errors.check(0), -5);
  assert.ok(!mapping.needsWriteback(0, Number.POSITIVE_INFINITY));
  checkCache(cache, [mapping], true);
  // The lost-data rule: a second sync finds nothing to write and nothing to report.
  assert.equal(mapping.writeAndWait(0, Number.POSITIVE_INFINITY), undefined);
});

test('invariant 40: what writepages throws is told only after what it started has ended', async () => {
  const requests = new HeldRequests();
  for (const later of [false, true]) {
    const { bdi } = stubCache({ budget: MIB });
    const file = new StubFile(bdi, { post: requests.post, orderMax: 0 });
    const { mapping } = file;
    file.dirty(0, 2 * PAGE_SIZE, 1);
    mapping.ops = {
      writepages: (_, wbc) => {
        void file.writepages(mapping, wbc);
        const error = Object.assign(new Error('no space'), { code: 'ENOSPC' });
        if (later) return Promise.reject(error);
        throw error;
      },
    };
    const done = (async () => mapping.writeAndWait(0, Number.POSITIVE_INFINITY))();
    done.catch(() => {});
    assert.equal(await settles(done), false, 'an answer while folios are in flight');
    requests.endAll();
    await assert.rejects(done, { code: 'ENOSPC' });
  }
});

test('reads and truncates meet in any order: nobody sees bytes past the end that was', () =>
  forEachSeed('read against truncate', 60, async (prng) => {
    const scheduler = new SimScheduler(prng.fork());
    const cache = new PageCache({ budget: MIB, clock: scheduler.clock, poison: 0xdb });
    const bdi = new BackingDevice(cache);
    const file = new StubFile(bdi, { post: (fire) => scheduler.post(fire), size: 40 * PAGE_SIZE });
    const { mapping } = file;
    const readers = Array.from({ length: 4 }, (_, n) =>
      scheduler.spawn(`reader ${n}`, async () => {
        const ra = new ReadaheadState();
        for (let i = 0; i < 10; i++) {
          const pos = prng.below(42 * PAGE_SIZE);
          const into = new Uint8Array(prng.between(1, 6 * PAGE_SIZE));
          const sizeBefore = file.size;
          const count = await filemapRead(mapping, pos, into, { ...read, ra });
          // The file only shrinks here: what was read was inside the size at the start.
          assert.ok(pos + count <= Math.max(pos, sizeBefore), `read ${count} at ${pos}, size was ${sizeBefore}`);
          for (let at = 0; at < count; at++) {
            if (into[at] !== patternByte(pos + at)) assert.ok(into[at] === 0 && pos + at >= file.size, `byte ${pos + at} is ${into[at]}`);
          }
        }
      }),
    );
    const truncater = scheduler.spawn('truncate', async () => {
      for (let i = 0; i < 6; i++) {
        await mapping.invalidateLock.lock();
        file.size = prng.between(Math.floor(file.size / 2), file.size);
        await mapping.truncateRange(file.size, Number.POSITIVE_INFINITY);
        mapping.invalidateLock.unlock();
        const last = mapping.next(Math.ceil(file.size / PAGE_SIZE) * PAGE_SIZE, Number.POSITIVE_INFINITY);
        assert.ok(last === undefined || last.pos < file.size, `page ${last?.index} is past the end of ${file.size} bytes`);
        await scheduler.pause('truncate');
      }
    });
    await scheduler.run([...readers, truncater]);
    await scheduler.quiesce();
    checkCache(cache, [mapping], true);
  }));
