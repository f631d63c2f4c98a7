import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimScheduler } from '../../test/support/scheduler.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { checkCache, foliosOf, HeldRequests, patternByte, StubFile, settles, stubCache, turns } from '../../test/support/stub-file.ts';
import { isPromise, run } from '../base/task.ts';
import { FGP_DONTCACHE } from './address-space.ts';
import { BackingDevice } from './backing-device.ts';
import { filemapRead } from './filemap.ts';
import type { Folio } from './folio.ts';
import { PageCache } from './page-cache.ts';
import { PAGE_SIZE } from './page-memory.ts';
import { ReadaheadState } from './readahead.ts';

const MIB = 2 ** 20;

function readOptions() {
  return { ra: new ReadaheadState(), nowait: false, dontcache: false };
}

/** Reads one page by itself, as a random reader does. */
function readPage(file: StubFile, page: number): void {
  const ra = new ReadaheadState();
  ra.hint = 'random';
  const count = filemapRead(file.mapping, page * PAGE_SIZE, new Uint8Array(1), { ...readOptions(), ra });
  assert.equal(count, 1);
}

function make(file: StubFile, page: number, order = 0): Folio {
  const folio = file.mapping.tryCreateOrder(page, order, true);
  assert.ok(folio !== undefined, `no memory for page ${page}`);
  return folio;
}

test('invariant: the budget holds under a load of ten times its size, and every byte arrives', () =>
  forEachSeed('load', 12, async (prng) => {
    const budget = prng.pick([64, 128, 512]) * PAGE_SIZE;
    const scheduler = new SimScheduler(prng.fork());
    const cache = new PageCache({
      budget,
      clock: scheduler.clock,
      poison: 0xdb,
      dirtyRatio: prng.pick([0.05, 0.2, 0.5]),
      dirtyBackgroundRatio: prng.pick([0, 0.1]),
    });
    const bdi = new BackingDevice(cache, { readaheadMax: prng.pick([0, 32, 128]) * 1024 });
    const orderMax = prng.pick([0, 2, 4]);
    const post = (fire: () => void): void => scheduler.post(fire);
    const written = new StubFile(bdi, { size: 0, post, orderMax });
    const source = new StubFile(bdi, { size: 10 * budget, post, orderMax: prng.pick([0, 3]) });
    const writerCount = prng.between(1, 4);
    const limit = (cache as unknown as { memory: { budget: number } }).memory.budget * 0.5 + writerCount * (PAGE_SIZE << orderMax);
    scheduler.onTurn = () => {
      assert.ok(cache.memory.used <= cache.memory.budget);
      assert.ok(cache.memory.resident <= cache.memory.budget);
      assert.ok(cache.dirtyBytes <= limit, `${cache.dirtyBytes} dirty bytes`);
    };
    scheduler.describe = () =>
      `used ${cache.memory.used} of ${cache.memory.budget}, dirty ${cache.dirtyBytes}, in flight ${cache.writebackBytes}, flushing ${bdi.isFlushing}`;
    const share = 10 * budget;
    const writers = Array.from({ length: writerCount }, (_, n) =>
      scheduler.spawn(`writer ${n}`, async () => {
        for (let pos = 0; pos < share / writerCount; ) {
          const length = PAGE_SIZE * prng.between(1, 16);
          const start = n * share + pos;
          const done = run(written.write(start, length, 1 + ((start / PAGE_SIZE) % 200), prng.chance(0.2) ? FGP_DONTCACHE : 0));
          if (isPromise(done)) await done;
          pos += length;
          if (prng.chance(0.1)) await scheduler.pause('writer');
        }
      }),
    );
    const readers = Array.from({ length: prng.between(1, 3) }, (_, n) =>
      scheduler.spawn(`reader ${n}`, async () => {
        const options = { ...readOptions(), dontcache: prng.chance(0.2) };
        const into = new Uint8Array(prng.pick([1000, PAGE_SIZE, 40_000]));
        for (let pos = 0; pos < source.size; ) {
          const count = await filemapRead(source.mapping, pos, into, options);
          assert.ok(count > 0);
          for (const at of [0, count >> 1, count - 1]) assert.equal(into[at], patternByte(pos + at), `byte ${pos + at}`);
          pos += count + (prng.chance(0.3) ? prng.below(10 * PAGE_SIZE) : 0);
        }
      }),
    );
    await scheduler.run([...writers, ...readers]);
    await scheduler.settle(written.mapping.writeAndWait(0, Number.POSITIVE_INFINITY));
    await scheduler.quiesce();
    assert.equal(cache.dirtyBytes + cache.writebackBytes, 0);
    checkCache(cache, [written.mapping, source.mapping], true);
    assert.ok(cache.reclaimedFolios > 0);
    await written.mapping.evict();
    await source.mapping.evict();
    assert.equal(cache.memory.used, 0);
  }));

test('the least recently used clean folio goes first, and one that was used since gets a second chance', () => {
  const { cache, bdi } = stubCache({ budget: 8 * PAGE_SIZE });
  const file = new StubFile(bdi, { noReadahead: true });
  // Never used after they came, as readahead leaves them.
  for (let page = 0; page < 8; page++) {
    const folio = make(file, page);
    folio.endRead(true);
    folio.put();
  }
  readPage(file, 0);
  readPage(file, 2);
  readPage(file, 100);
  assert.deepEqual(
    foliosOf(file.mapping).map(([page]) => page),
    [0, 2, 3, 4, 5, 6, 7, 100],
  );
  readPage(file, 101);
  assert.deepEqual(
    foliosOf(file.mapping).map(([page]) => page),
    [0, 2, 4, 5, 6, 7, 100, 101],
  );
  // The chance is spent: unless they are used again they go in their turn.
  for (let page = 200; page < 208; page++) readPage(file, page);
  assert.ok(file.mapping.find(0) === undefined && file.mapping.find(2 * PAGE_SIZE) === undefined);
  checkCache(cache, [file.mapping], true);
});

test('when every folio was used since the last look, the oldest still goes', () => {
  const { cache, bdi } = stubCache({ budget: 4 * PAGE_SIZE });
  const file = new StubFile(bdi, { noReadahead: true });
  for (let page = 0; page < 4; page++) readPage(file, page);
  readPage(file, 50);
  assert.deepEqual(
    foliosOf(file.mapping).map(([page]) => page),
    [1, 2, 3, 50],
  );
  assert.equal(cache.reclaimedFolios, 1);
});

test('reclaim never takes a dirty, locked, held or written folio, nor one that its owner keeps', () => {
  const { cache, bdi } = stubCache({ budget: 8 * PAGE_SIZE, dirtyRatio: 1 });
  const file = new StubFile(bdi, { noReadahead: true, orderMax: 0 });
  const { mapping } = file;
  let kept: Folio | undefined;
  mapping.ops = { ...mapping.ops, releaseFolio: (folio) => folio !== kept };
  for (let page = 0; page < 6; page++) readPage(file, page);
  file.dirty(0, PAGE_SIZE);
  (mapping.find(PAGE_SIZE) as Folio).tryLock();
  (mapping.find(2 * PAGE_SIZE) as Folio).get();
  const written = mapping.find(3 * PAGE_SIZE) as Folio;
  written.tryLock();
  mapping.startWriteback(written);
  written.unlock();
  kept = mapping.find(4 * PAGE_SIZE);
  for (let page = 10; page < 60; page++) readPage(file, page);
  assert.deepEqual(
    foliosOf(mapping)
      .slice(0, 5)
      .map(([page]) => page),
    [0, 1, 2, 3, 4],
  );
  assert.equal(mapping.find(5 * PAGE_SIZE), undefined);
  checkCache(cache, [mapping], false);
});

test('a store through a mapped view is found when reclaim wants the folio: it is dirty, not lost', () => {
  const { cache, bdi } = stubCache({ budget: 4 * PAGE_SIZE });
  const file = new StubFile(bdi, { noReadahead: true });
  file.mapping.ops = { ...file.mapping.ops, dirtyFolio: (folio) => file.mapping.setDirty(folio) };
  readPage(file, 0);
  const stored = file.mapping.find(0) as Folio;
  stored.setMapWritable();
  stored.markMapDirty();
  for (let page = 10; page < 20; page++) readPage(file, page);
  assert.equal(file.mapping.find(0), stored);
  assert.ok(stored.isDirty && !stored.isMapWritable);
  checkCache(cache, [file.mapping], true);
});

test('reclaim that empties the cache ends there, also when it asks for more than there is', () => {
  const { cache, bdi } = stubCache({ budget: 8 * PAGE_SIZE });
  const file = new StubFile(bdi, { noReadahead: true });
  const unused = (page: number): void => {
    const folio = make(file, page);
    folio.endRead(true);
    folio.put();
  };
  unused(0);
  assert.equal(cache.shrink(Number.POSITIVE_INFINITY), PAGE_SIZE);
  assert.equal(cache.folioCount, 0);
  assert.equal(cache.shrink(Number.POSITIVE_INFINITY), 0);
  // The same inside an allocation: one small folio is in the way of a run of all the memory.
  unused(3);
  const all = file.mapping.tryCreateOrder(16, 3, true);
  assert.equal(all?.order, 3);
  checkCache(cache, [file.mapping], false);
});

test('shrink frees what is missing, not more', () => {
  const { cache, bdi } = stubCache({ budget: 16 * PAGE_SIZE });
  const file = new StubFile(bdi, { noReadahead: true });
  for (let page = 0; page < 12; page++) readPage(file, page);
  assert.equal(cache.shrink(6 * PAGE_SIZE), 2 * PAGE_SIZE);
  assert.equal(cache.memory.free, 6 * PAGE_SIZE);
  assert.equal(cache.shrink(6 * PAGE_SIZE), 0);
});

test('a large folio that would be nice does not cost much of the cache when free memory is in pieces', () => {
  const { cache, bdi } = stubCache({ budget: 2048 * PAGE_SIZE });
  const file = new StubFile(bdi, { noReadahead: true, orderMax: 0, size: 2 ** 30 });
  for (let page = 0; page < 2048; page++) {
    const folio = make(file, page);
    folio.endRead(true);
    if (page % 2 === 1) folio.put(); // the others stay held: no two free pages join
  }
  const large = new StubFile(bdi);
  const folio = large.mapping.tryCreate(0, 512 * PAGE_SIZE);
  assert.ok(folio !== undefined);
  assert.ok(cache.reclaimedFolios <= 128, `${cache.reclaimedFolios} folios dropped for one of ${folio.pages} pages`);
});

test('two tasks that wait for memory do not wake each other for ever: turns of the event loop still come', async () => {
  const { cache, bdi } = stubCache({ budget: 4 * PAGE_SIZE });
  const file = new StubFile(bdi, { orderMax: 0 });
  const { mapping } = file;
  // Clean, free folios that their owner keeps: each scan tries them.
  let tries = 0;
  let keep = true;
  mapping.ops = {
    ...mapping.ops,
    releaseFolio: () => {
      assert.ok(++tries < 10_000, 'tasks that wait for memory keep the event loop busy');
      return !keep;
    },
  };
  for (let page = 0; page < 4; page++) {
    const folio = make(file, page);
    folio.markUptodate();
    folio.unlock();
    folio.put();
  }
  const waiters = [10, 11, 12].map((page) => mapping.getFolio(page * PAGE_SIZE, 1, 0));
  assert.equal(await settles(Promise.race(waiters)), false);
  const before = tries;
  await turns(20);
  assert.equal(tries, before, 'waiters try again although nothing changed');
  keep = false;
  const news = mapping.find(0) as Folio;
  news.get();
  news.put(); // somebody let go of a folio
  for (const folio of await Promise.all(waiters)) {
    folio.unlock();
    folio.put();
  }
  checkCache(cache, [mapping], true);
});

test('a task that waits for memory is woken by a put, an unlock, a removal and the end of writeback', async () => {
  const news: Record<string, (file: StubFile, folio: Folio, requests: HeldRequests) => void> = {
    put(_, folio) {
      folio.unlock();
      folio.put();
    },
    unlock(_, folio) {
      folio.put();
      folio.unlock();
    },
    remove(file, folio) {
      file.mapping.remove(folio);
      folio.unlock();
      folio.put();
    },
    writeback(file, folio, requests) {
      file.mapping.setDirty(folio);
      folio.unlock();
      folio.put();
      bdiOf(file).wakeFlusher();
      void turns().then(() => requests.endAll());
    },
  };
  const bdiOf = (file: StubFile): BackingDevice => file.mapping.bdi;
  for (const [name, happen] of Object.entries(news)) {
    const requests = new HeldRequests();
    const { cache, bdi } = stubCache({ budget: 4 * PAGE_SIZE, dirtyRatio: 1, dirtyBackgroundRatio: 1 });
    const file = new StubFile(bdi, { orderMax: 0, post: requests.post });
    const held = [0, 1, 2, 3].map((page) => make(file, page));
    for (const folio of held) folio.markUptodate();
    const waiting = file.mapping.getFolio(9 * PAGE_SIZE, 1, 0);
    assert.equal(await settles(waiting), false, name);
    happen(file, held[2] as Folio, requests);
    const got = await waiting;
    assert.equal(got.index, 9, name);
    assert.equal(file.mapping.find(2 * PAGE_SIZE), undefined, name);
    got.unlock();
    got.put();
    for (const each of [0, 1, 3]) {
      held[each]?.unlock();
      held[each]?.put();
    }
    checkCache(cache, [file.mapping], true);
  }
});

test('a folio that becomes free wakes those whom it can serve, not all who wait for memory', async () => {
  const requests = new HeldRequests();
  const { cache, bdi } = stubCache({ budget: 64 * PAGE_SIZE }, { readaheadMax: 0 });
  const file = new StubFile(bdi, { size: 2 ** 40, post: requests.post, orderMax: 0 });
  let waits = 0;
  const waitForMemory = cache.waitForMemory.bind(cache);
  cache.waitForMemory = (order) => {
    waits++;
    return waitForMemory(order);
  };
  const count = 1000;
  let done = 0;
  for (let i = 0; i < count; i++) {
    const reading = filemapRead(file.mapping, i * 10 * PAGE_SIZE, new Uint8Array(1), readOptions());
    void Promise.resolve(reading).then(() => done++);
  }
  assert.equal(waits, count - 64);
  while (requests.endOne()) await turns(1);
  assert.equal(done, count);
  assert.ok(waits <= 3 * count, `${waits} waits of ${count} readers`);
  checkCache(cache, [file.mapping], true);
});

test('one who waits for more memory than there is keeps nothing from those who want less', async () => {
  const { cache, bdi } = stubCache({ budget: 8 * PAGE_SIZE });
  const large = new StubFile(bdi, { orderMin: 2 });
  const small = new StubFile(bdi, { orderMax: 0 });
  const held = Array.from({ length: 8 }, (_, page) => make(small, page));
  for (const folio of held) folio.markUptodate();
  const waitsLong = [0, 1, 2].map((n) => large.mapping.getFolio(n * 4 * PAGE_SIZE, 1, 0));
  const served = small.mapping.getFolio(100 * PAGE_SIZE, 1, 0);
  const free = (page: number): void => {
    held[page]?.unlock();
    held[page]?.put();
  };
  free(6);
  assert.ok(await settles(served), 'the page that is free is for who wants one');
  assert.equal(await settles(Promise.race(waitsLong)), false);
  for (const page of [0, 1, 2, 3]) free(page);
  const first = await Promise.race(waitsLong);
  assert.equal(first.order, 2);
  for (const page of [4, 5, 7]) free(page);
  const last = await served;
  for (const folio of [first, last]) {
    folio.unlock();
    folio.put();
  }
  for (const waiting of waitsLong) {
    const folio = await waiting;
    if (folio === first) continue;
    folio.unlock();
    folio.put();
  }
  checkCache(cache, [large.mapping, small.mapping], true);
});

test('a task that waits for memory has the dirty folios of other files written, below any ratio', async () => {
  const { cache, bdi } = stubCache({ budget: 4 * PAGE_SIZE, dirtyRatio: 1, dirtyBackgroundRatio: 1 });
  const file = new StubFile(bdi, { orderMax: 0 });
  const other = new StubFile(bdi, { orderMax: 0 });
  file.dirty(0, 4 * PAGE_SIZE, 5);
  const folio = await other.mapping.getFolio(0, 1, 0);
  assert.ok(file.pagesOf('write').length > 0);
  folio.unlock();
  folio.put();
  checkCache(cache, [file.mapping, other.mapping], true);
});

test('writers pass the dirty limit by at most one folio each, however many there are', () =>
  forEachSeed('throttle', 12, async (prng) => {
    const scheduler = new SimScheduler(prng.fork());
    const cache = new PageCache({ budget: 4 * MIB, clock: scheduler.clock });
    const orderMax = prng.pick([0, 2, 5]);
    const limits = prng.pick([
      [undefined, 0.8 * MIB],
      [300_000, 300_000],
      [0, 0],
    ] as const);
    const bdi = new BackingDevice(cache, limits[0] === undefined ? {} : { dirtyLimit: limits[0] });
    const writerCount = prng.between(1, 30);
    const files = [0, 1, 2].map(() => new StubFile(bdi, { post: (fire) => scheduler.post(fire), orderMax, size: 0 }));
    const most = limits[1] + writerCount * (PAGE_SIZE << orderMax);
    scheduler.onTurn = () =>
      assert.ok(cache.dirtyBytes + cache.writebackBytes <= most, `${cache.dirtyBytes} + ${cache.writebackBytes} above ${most}`);
    const writers = Array.from({ length: writerCount }, (_, n) =>
      scheduler.spawn(`writer ${n}`, async () => {
        const file = prng.pick(files);
        for (let at = 0; at < 8; at++) {
          const done = run(file.write((n * 1000 + at * 32) * PAGE_SIZE, 32 * PAGE_SIZE, n));
          if (isPromise(done)) await done;
        }
      }),
    );
    await scheduler.run(writers);
    assert.ok(cache.throttledWriters > 0);
    for (const file of files) await scheduler.settle(file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY));
    await scheduler.quiesce();
    checkCache(
      cache,
      files.map(({ mapping }) => mapping),
      true,
    );
  }));

test('a writer below the limit is told so without a promise', () => {
  const { cache, bdi } = stubCache({ budget: MIB });
  const file = new StubFile(bdi);
  assert.equal(cache.balanceDirty(file.mapping), undefined);
  assert.equal(cache.throttledWriters, 0);
});

test('freed memory is poisoned, and a folio that leaves shows it', async () => {
  const { cache, bdi } = stubCache({ budget: MIB, poison: 0xdb });
  const file = new StubFile(bdi);
  readPage(file, 0);
  const folio = file.mapping.find(0) as Folio;
  await file.mapping.evict();
  assert.ok(folio.bytes(0, PAGE_SIZE).every((byte) => byte === 0xdb));
  assert.equal(cache.memory.used, 0);
});
