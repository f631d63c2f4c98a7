import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkCache, foliosOf, HeldRequests, StubFile, settles, stubCache, turns } from '../../test/support/stub-file.ts';
import { isPromise, run } from '../base/task.ts';
import { FGP_DONTCACHE } from './address-space.ts';
import { BackingDevice, WB_SYNC_NONE } from './backing-device.ts';
import type { Folio } from './folio.ts';
import { PageCache } from './page-cache.ts';
import { PAGE_SIZE } from './page-memory.ts';

const MIB = 2 ** 20;

test('the flusher starts at the background ratio, and writes until it is below', async () => {
  const { cache, bdi } = stubCache({ budget: 1000 * PAGE_SIZE, dirtyRatio: 0.2, dirtyBackgroundRatio: 0.1 });
  assert.equal(cache.memory.budget, 512 * PAGE_SIZE); // whole slabs
  const file = new StubFile(bdi, { orderMax: 0 });
  file.dirty(0, 51 * PAGE_SIZE);
  assert.equal(cache.balanceDirty(file.mapping), undefined);
  await turns();
  assert.equal(file.requests.length, 0);
  file.dirty(51 * PAGE_SIZE, PAGE_SIZE);
  assert.equal(cache.balanceDirty(file.mapping), undefined); // this writer does not wait for it
  assert.equal(file.requests.length, 0); // nor writes on its own stack
  await turns();
  assert.equal(file.pagesOf('write').length, 52);
  assert.equal(file.passes[0]?.syncMode, WB_SYNC_NONE);
  assert.ok(!bdi.isFlushing);
  checkCache(cache, [file.mapping], true);
});

test('data that has been dirty for dirtyExpireMs is written, whatever its amount; younger data is not', async () => {
  const { cache, bdi, clock } = stubCache({ budget: MIB, dirtyExpireMs: 30_000, dirtyWritebackMs: 5_000 });
  const old = new StubFile(bdi);
  const young = new StubFile(bdi);
  old.dirty(0, PAGE_SIZE);
  await clock.advance(12_000);
  young.dirty(0, PAGE_SIZE);
  await clock.advance(17_000); // 29 s
  assert.equal(old.requests.length, 0);
  await clock.advance(6_000); // 35 s: looked at every 5 s
  assert.equal(old.pagesOf('write').length, 1);
  assert.equal(young.requests.length, 0);
  await clock.advance(15_000);
  assert.equal(young.pagesOf('write').length, 1);
  await clock.advance(100_000);
  assert.equal(clock.timerCount, 0, 'a timer although nothing is dirty');
  checkCache(cache, [old.mapping, young.mapping], true);
});

test('a file that is never clean for a moment is written back once in dirtyExpireMs, not all the time', async () => {
  const { bdi, clock } = stubCache({ budget: MIB, dirtyExpireMs: 30_000, dirtyWritebackMs: 5_000 });
  const file = new StubFile(bdi, { orderMax: 0 });
  let passes = 0;
  file.mapping.ops = {
    ...file.mapping.ops,
    writepages: async (mapping, wbc) => {
      assert.ok(++passes < 100, 'the flusher does not end');
      file.dirty((passes % 7) * PAGE_SIZE, PAGE_SIZE);
      await file.writepages(mapping, wbc);
      file.dirty(((passes + 1) % 7) * PAGE_SIZE, PAGE_SIZE); // while the pass runs, behind it
    },
  };
  file.dirty(0, PAGE_SIZE);
  await clock.advance(120_000);
  assert.ok(passes >= 3 && passes <= 5, `${passes} passes in two minutes`);
});

test('a timer does not keep the process alive, nor does a device with dirty data', () => {
  const idle = process.getActiveResourcesInfo().length;
  const cache = new PageCache({ budget: MIB });
  const bdi = new BackingDevice(cache);
  new StubFile(bdi).dirty(0, PAGE_SIZE);
  assert.equal(process.getActiveResourcesInfo().length, idle);
  bdi.close();
  assert.equal(cache.devices.size, 0);
});

test('nothing spins while nothing can be written, and writing goes on by itself once it can', async () => {
  const { cache, bdi, clock } = stubCache({ budget: 64 * PAGE_SIZE, dirtyRatio: 0.5, dirtyWritebackMs: 5_000 });
  const file = new StubFile(bdi, { orderMax: 0 });
  const { writepages } = file.mapping.ops;
  let passes = 0;
  let stuck = true;
  file.mapping.ops = {
    ...file.mapping.ops,
    writepages: (mapping, wbc) => {
      passes++;
      if (!stuck) return writepages?.(mapping, wbc);
      // What a filesystem does that has to leave its folios dirty: it looked at each.
      for (let folio = mapping.next(0, 1e9, 0); folio !== undefined; folio = mapping.next(folio.end, 1e9, 0)) {
        if (!folio.tryLock()) continue;
        mapping.clearDirtyForIo(folio);
        mapping.setDirty(folio);
        folio.unlock();
      }
    },
  };
  const writers = [0, 1, 2].map((n) => run(file.write(n * MIB, 16 * PAGE_SIZE, n)));
  const other = new StubFile(bdi, { orderMax: 0 });
  const held = Array.from({ length: 64 - cache.folioCount }, (_, page) => other.mapping.tryCreateOrder(page, 0, false) as Folio);
  const starved = [0, 1].map((n) => other.mapping.getFolio((1000 + n) * PAGE_SIZE, 1, 0)); // they wait for memory
  await turns(20);
  const before = passes;
  await turns(200);
  assert.ok(passes <= before + 1, `${passes - before} passes in 200 turns in which nothing could be written`);
  await clock.advance(30_000);
  assert.ok(passes > before && passes <= before + 20, `${passes - before} passes in half a minute`);
  stuck = false;
  for (const folio of held.slice(8)) {
    folio.unlock();
    folio.put();
  }
  await clock.advance(5_000);
  await Promise.all(writers);
  for (const folio of [...(await Promise.all(starved)), ...held.slice(0, 8)]) {
    folio.unlock();
    folio.put();
  }
  await file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
  await clock.advance(10_000);
  checkCache(cache, [file.mapping, other.mapping], true);
});

test('a file that cannot be written does not hold up the others of its device', async () => {
  for (const inFlight of [false, true]) {
    const requests = new HeldRequests();
    const { cache, bdi } = stubCache({ budget: 64 * PAGE_SIZE, dirtyRatio: 0.25, dirtyBackgroundRatio: 0 });
    const stuck = new StubFile(bdi, { orderMax: 0, post: requests.post });
    const file = new StubFile(bdi, { orderMax: 0 });
    if (inFlight) {
      // Dirty again while its only folio is in flight, and that takes long.
      stuck.dirty(0, PAGE_SIZE, 1);
      void stuck.mapping.startWrite(0, PAGE_SIZE);
      stuck.dirty(0, PAGE_SIZE, 2);
    } else {
      stuck.mapping.ops = { writepages: () => {} };
      stuck.dirty(0, PAGE_SIZE, 1);
    }
    const done = run(file.write(0, 100 * PAGE_SIZE, 3));
    assert.ok(isPromise(done));
    assert.ok(await settles(done, 200), `a writer waits for another file's folios (in flight: ${inFlight})`);
    assert.ok(stuck.mapping.isDirty);
    requests.endAll();
    if (inFlight) {
      await turns();
      requests.endAll();
      checkCache(cache, [stuck.mapping, file.mapping], true);
    }
  }
});

test("a device whose requests do not end holds up nobody else's flusher", async () => {
  const hung = new HeldRequests();
  const cache = stubCache({ budget: 256 * PAGE_SIZE, dirtyRatio: 0.5, dirtyBackgroundRatio: 0 }).cache;
  const dead = new BackingDevice(cache, { name: 'dead' });
  const live = new BackingDevice(cache, { name: 'live' });
  const onDead = new StubFile(dead, { orderMax: 0, post: hung.post });
  const stuck = new StubFile(live, { orderMax: 0 });
  const onLive = new StubFile(live, { orderMax: 0 });
  onDead.dirty(0, 8 * PAGE_SIZE);
  dead.wakeFlusher();
  // The live device's flusher finds a file of which nothing can be written, while the other device has requests in flight.
  const { writepages } = stuck.mapping.ops;
  stuck.mapping.ops = { writepages: () => {} };
  stuck.dirty(0, PAGE_SIZE);
  live.wakeFlusher();
  await turns();
  assert.equal(onDead.inFlight, 8);
  onLive.dirty(0, 8 * PAGE_SIZE);
  live.wakeFlusher();
  await turns();
  assert.equal(onLive.pagesOf('write').length, 8, 'the flusher sleeps until the other device has news');
  stuck.mapping.ops = { writepages: writepages as NonNullable<typeof writepages> };
  hung.endAll();
});

test('at most one flusher runs for a device, and new dirt that comes while it writes is written too', async () => {
  const requests = new HeldRequests();
  const { cache, bdi } = stubCache({ budget: MIB, dirtyBackgroundRatio: 0 });
  const file = new StubFile(bdi, { orderMax: 0, post: requests.post });
  let running = 0;
  const { writepages } = file.mapping.ops;
  file.mapping.ops = {
    ...file.mapping.ops,
    writepages: async (mapping, wbc) => {
      assert.equal(++running, 1);
      await turns(3);
      await writepages?.(mapping, wbc);
      running--;
    },
  };
  file.dirty(0, PAGE_SIZE);
  for (let i = 0; i < 5; i++) bdi.wakeFlusher();
  await turns(2);
  file.dirty(PAGE_SIZE, PAGE_SIZE);
  bdi.wakeFlusher();
  await turns(20);
  requests.endAll();
  await turns();
  assert.equal(cache.dirtyBytes, 0);
  checkCache(cache, [file.mapping], true);
});

test('a device that answers at once does not keep the event loop from turning', async () => {
  const { cache, bdi } = stubCache({ budget: 64 * MIB, dirtyRatio: 1, dirtyBackgroundRatio: 0 });
  const file = new StubFile(bdi);
  file.dirty(0, 48 * MIB);
  bdi.wakeFlusher();
  let turnCount = 0;
  while (cache.dirtyBytes > 0) {
    await turns(1);
    turnCount++;
  }
  assert.ok(turnCount >= 12, `48 MiB written in ${turnCount} turns`); // 4 MiB at a time
});

test('slices: a large file does not make a small one wait until all of it is written', async () => {
  const { bdi } = stubCache({ budget: 64 * MIB, dirtyRatio: 1, dirtyBackgroundRatio: 0 });
  const order: string[] = [];
  const large = new StubFile(bdi, { orderMax: 4 });
  const small = new StubFile(bdi, { orderMax: 0 });
  large.dirty(0, 24 * MIB);
  small.dirty(0, PAGE_SIZE);
  for (const [name, file] of [
    ['large', large],
    ['small', small],
  ] as const) {
    const { writepages } = file.mapping.ops;
    file.mapping.ops = {
      ...file.mapping.ops,
      writepages: (mapping, wbc) => {
        order.push(name);
        return writepages?.(mapping, wbc);
      },
    };
  }
  bdi.wakeFlusher();
  await turns(50);
  assert.deepEqual(order.slice(0, 3), ['large', 'small', 'large']);
  assert.equal(order.filter((name) => name === 'large').length, 6); // 4 MiB each
  // A cyclic pass goes on where the last one stopped.
  const pages = large.pagesOf('write').map(([page]) => page);
  assert.deepEqual(
    pages,
    [...pages].sort((a, b) => a - b),
  );
});

test('N4, N6: what DONTCACHE wrote is written soon and dropped, below any ratio, and other dirty data is left alone', async () => {
  const { cache, bdi } = stubCache({ budget: MIB });
  const plain = new StubFile(bdi, { orderMax: 0 }); // dirty before, and first in line
  const file = new StubFile(bdi, { orderMax: 0 });
  plain.dirty(0, 3 * PAGE_SIZE);
  file.dirty(9 * PAGE_SIZE, PAGE_SIZE);
  file.dirty(0, 4 * PAGE_SIZE, 1, FGP_DONTCACHE);
  bdi.wakeFlusherDropbehind(4 * PAGE_SIZE);
  assert.equal(file.requests.length, 0); // never on the stack of the writer
  await turns(20);
  assert.deepEqual(
    file.pagesOf('write').map(([page]) => page),
    [0, 1, 2, 3],
  );
  assert.deepEqual(foliosOf(file.mapping), [[9, 0]]);
  assert.equal(plain.requests.length, 0);
  assert.ok(plain.mapping.isDirty && file.mapping.isDirty && !bdi.isFlushing);
  checkCache(cache, [plain.mapping, file.mapping], true);
});

test('N4: DONTCACHE data behind many files without any is still written, in one go', async () => {
  const { bdi } = stubCache({ budget: MIB });
  const plain = Array.from({ length: 20 }, () => new StubFile(bdi, { orderMax: 0 }));
  for (const each of plain) each.dirty(0, PAGE_SIZE);
  const file = new StubFile(bdi, { orderMax: 0 });
  file.dirty(0, PAGE_SIZE, 1, FGP_DONTCACHE);
  bdi.wakeFlusherDropbehind(PAGE_SIZE);
  await turns(60);
  assert.deepEqual(foliosOf(file.mapping), []);
  for (const each of plain) assert.ok(each.passes.length <= 1, `${each.passes.length} passes over a file that has none`);
});

test('N6: background writing of other data does not count as what DONTCACHE asked for', async () => {
  const { cache, bdi } = stubCache({ budget: 64 * PAGE_SIZE, dirtyRatio: 1, dirtyBackgroundRatio: 0.5 });
  const plain = new StubFile(bdi, { orderMax: 0 });
  const file = new StubFile(bdi, { orderMax: 0 });
  plain.dirty(0, 33 * PAGE_SIZE); // alone above the background ratio: this goes first
  file.dirty(0, PAGE_SIZE, 1, FGP_DONTCACHE);
  bdi.wakeFlusherDropbehind(PAGE_SIZE);
  await turns(20);
  assert.equal(plain.mapping.dirtyBytes, 0);
  assert.deepEqual(foliosOf(file.mapping), []);
  checkCache(cache, [plain.mapping, file.mapping], true);
});

test('a request for DONTCACHE data that is clean by now ends the flusher', async () => {
  const { bdi } = stubCache({ budget: MIB });
  const plain = new StubFile(bdi);
  plain.dirty(0, PAGE_SIZE);
  bdi.wakeFlusherDropbehind(100 * PAGE_SIZE);
  await turns(10);
  assert.ok(!bdi.isFlushing);
  const passes = plain.passes.length;
  bdi.wakeFlusher();
  await turns();
  assert.equal(plain.passes.length, passes); // the wish is not kept for later
});

test('an error of a background pass ends neither the flusher nor the other files', async () => {
  const { cache, bdi } = stubCache({ budget: MIB, dirtyBackgroundRatio: 0 });
  const bad = new StubFile(bdi, { orderMax: 0 });
  const good = new StubFile(bdi, { orderMax: 0 });
  bad.fails = () => true;
  bad.dirty(0, 3 * PAGE_SIZE);
  good.dirty(0, 3 * PAGE_SIZE);
  const seen: number[] = [];
  cache.onMappingError = (_, errno) => seen.push(errno);
  bdi.wakeFlusher();
  await turns(20);
  assert.deepEqual(seen, [-5, -5, -5]);
  assert.equal(bad.mapping.errors.check(0), -5);
  assert.equal(good.pagesOf('write').length, 3);
  assert.equal(cache.dirtyBytes, 0);
  assert.ok(!bdi.isFlushing);
});

test('a device that is closed has no timer', async () => {
  const { cache, bdi, clock } = stubCache({ budget: MIB });
  const file = new StubFile(bdi);
  file.dirty(0, PAGE_SIZE);
  await file.mapping.evict();
  bdi.close();
  assert.equal(clock.timerCount, 0);
  assert.equal(cache.devices.size, 0);
});
