import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StubFile, settles, stubCache, turns } from '../../test/support/stub-file.ts';
import type { Folio } from './folio.ts';
import { PAGE_SIZE } from './page-memory.ts';

function makeFolio(options: { order?: number; pos?: number; stableWrites?: boolean } = {}): { file: StubFile; folio: Folio } {
  const { bdi } = stubCache({ budget: 4 * 2 ** 20, poison: 0xdb });
  const file = new StubFile(bdi, { stableWrites: options.stableWrites ?? false });
  const pos = options.pos ?? 0;
  const folio = file.mapping.tryCreate(pos, PAGE_SIZE << (options.order ?? 0));
  assert.ok(folio !== undefined);
  return { file, folio };
}

test('a new folio is locked, held once, not uptodate, clean, and where it should be', () => {
  const { file, folio } = makeFolio({ order: 3, pos: 2 ** 40 });
  assert.ok(folio.isLocked && !folio.isUptodate && !folio.isDirty && !folio.isWriteback);
  assert.equal(folio.refs, 1);
  assert.deepEqual([folio.pos, folio.end, folio.size, folio.pages, folio.order], [2 ** 40, 2 ** 40 + 8 * PAGE_SIZE, 8 * PAGE_SIZE, 8, 3]);
  assert.equal(file.mapping.find(2 ** 40 + 8 * PAGE_SIZE - 1), folio);
  assert.equal(file.mapping.find(2 ** 40 + 8 * PAGE_SIZE), undefined);
  assert.equal(folio.bytes(0, folio.size).length, folio.size);
});

test('its bytes are its own, in any slab', () => {
  const { bdi } = stubCache({ budget: 6 * 2 ** 20 });
  const file = new StubFile(bdi);
  const folios = Array.from({ length: 6 * 256 }, (_, i) => file.mapping.tryCreateOrder(i, 0, false) as Folio);
  for (const [i, folio] of folios.entries()) folio.bytes(0, PAGE_SIZE).fill(i);
  (folios[1000] as Folio).zero(10, 20);
  folios.forEach((folio, i) => {
    const bytes = folio.bytes(0, PAGE_SIZE);
    const expected = new Uint8Array(PAGE_SIZE).fill(i);
    if (i === 1000) expected.fill(0, 10, 20);
    assert.equal(Buffer.compare(bytes, expected), 0, `folio ${i}`);
  });
});

test('the lock goes to waiters in order, and never through a moment in which it is free', async () => {
  const { folio } = makeFolio();
  const order: string[] = [];
  const waiters = ['a', 'b', 'c'].map(async (name) => {
    folio.get();
    await folio.lock();
    order.push(name);
    await turns(1);
    assert.equal(folio.tryLock(), false);
    folio.unlock();
    assert.equal(folio.isLocked, name !== 'c', 'handed over');
    folio.put();
  });
  await turns();
  assert.deepEqual(order, []);
  folio.unlock();
  assert.ok(folio.isLocked);
  assert.equal(folio.tryLock(), false);
  await Promise.all(waiters);
  assert.deepEqual(order, ['a', 'b', 'c']);
  assert.ok(!folio.isLocked);
  assert.equal(folio.lock(), undefined); // no promise where nothing waits
});

test('unlocking what is not locked, putting what is not held, and waiting for what is not held are our own mistakes', () => {
  const { folio } = makeFolio();
  folio.unlock();
  assert.throws(() => folio.unlock(), { code: 'ERR_ASSERTION' });
  assert.throws(() => folio.endRead(true), { code: 'ERR_ASSERTION' });
  folio.put();
  assert.throws(() => folio.put(), { code: 'ERR_ASSERTION' });
  folio.tryLock();
  assert.throws(() => folio.lock(), { code: 'ERR_ASSERTION' });
});

test('invariant 67: ending a read sets uptodate and unlocks in one turn', async () => {
  const { folio } = makeFolio();
  folio.get();
  const waiter = Promise.resolve(folio.lock()).then(() => folio.isUptodate);
  folio.endRead(true);
  assert.ok(folio.isUptodate);
  assert.equal(await waiter, true);
  folio.unlock();
});

test('bug 28: a folio that was marked uptodate while its read is pending is found at the end of the read, not toggled off', () => {
  const { folio } = makeFolio();
  folio.markUptodate();
  assert.throws(() => folio.endRead(true), { code: 'ERR_ASSERTION' });
  assert.ok(folio.isUptodate);
});

test('invariant 14: a failed read leaves the folio unlocked and not uptodate, and never takes uptodate away', () => {
  const { folio } = makeFolio();
  folio.endRead(false);
  assert.ok(!folio.isLocked && !folio.isUptodate);
  folio.tryLock();
  folio.markUptodate();
  folio.endRead(false);
  assert.ok(folio.isUptodate);
});

test('all who wait for writeback are woken at its end, and one that begins again is waited for too', async () => {
  const { file, folio } = makeFolio();
  assert.equal(folio.waitWriteback(), undefined);
  file.mapping.startWriteback(folio);
  const first = folio.waitWriteback();
  const second = folio.waitWriteback();
  assert.equal(await settles(first), false);
  file.mapping.endWriteback(folio);
  file.mapping.startWriteback(folio); // before the waiters had their turn
  assert.equal(await settles(Promise.race([first, second])), false);
  file.mapping.endWriteback(folio);
  await Promise.all([first, second]);
  assert.equal(folio.refs, 1);
});

test('only files that want stable data wait for writeback before a store', async () => {
  for (const stableWrites of [false, true]) {
    const { file, folio } = makeFolio({ stableWrites });
    assert.equal(folio.waitStable(), undefined);
    file.mapping.startWriteback(folio);
    const stable = folio.waitStable();
    assert.equal(stable !== undefined, stableWrites);
    file.mapping.endWriteback(folio);
    await stable;
  }
});

test('the memory of a folio that left the cache lives until the last put', () => {
  const { file, folio } = makeFolio();
  const { memory } = file.mapping.cache;
  folio.bytes(0, 4).set([1, 2, 3, 4]);
  folio.get();
  file.mapping.remove(folio);
  assert.equal(file.mapping.find(0), undefined);
  folio.unlock();
  folio.put();
  assert.equal(memory.used, PAGE_SIZE);
  assert.deepEqual([...folio.bytes(0, 4)], [1, 2, 3, 4]);
  folio.put();
  assert.equal(memory.used, 0);
  assert.deepEqual([...folio.bytes(0, 4)], [0xdb, 0xdb, 0xdb, 0xdb]);
});

test('a mapped view that stored since the last cleaning is known once', () => {
  const { folio } = makeFolio();
  assert.equal(folio.mkclean(), false);
  folio.setMapWritable();
  assert.ok(folio.isMapWritable);
  folio.markMapDirty();
  assert.equal(folio.mkclean(), true);
  assert.ok(!folio.isMapWritable && !folio.isMapDirty);
  assert.equal(folio.mkclean(), false);
});
