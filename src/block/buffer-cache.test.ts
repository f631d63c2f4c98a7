import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { isPromise } from '../base/task.ts';
import type { Bio } from './bio.ts';
import { REQ_OP_READ, REQ_OP_WRITE } from './bio.ts';
import { BufferCache, type BufferHead } from './buffer-cache.ts';
import { FaultyDevice } from './faulty-device.ts';
import { FilterDevice } from './filter-device.ts';
import { MemoryDevice } from './memory-device.ts';
import { SimulatedDevice } from './simulated-device.ts';

const BLOCK = 1024;
const COUNT = 256;

/** Writes down what it is asked for. */
class Watched extends FilterDevice {
  readonly requests: { op: number; addr: number; length: number }[] = [];

  constructor(inner: MemoryDevice) {
    super(inner, 'watched');
  }

  submit(bio: Bio): void {
    this.requests.push({ op: bio.op, addr: bio.addr / BLOCK, length: bio.length / BLOCK });
    this.inner.submit(bio);
  }
}

function device(): MemoryDevice {
  const bdev = new MemoryDevice({ size: COUNT * BLOCK });
  for (let block = 0; block < COUNT; block++) bdev.fill(block, block * BLOCK, BLOCK);
  return bdev;
}

function now<T>(value: T | Promise<T>): T {
  assert(!isPromise(value), 'an answer without a promise');
  return value as T;
}

test('a block is read once, and is the same object from then on', () => {
  const bdev = new Watched(device());
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  const bh = now(cache.read(7)) as BufferHead;
  assert(bh.data.every((byte) => byte === 7) && bh.isUptodate && !bh.isDirty);
  assert.equal(cache.read(7), bh);
  assert.equal(cache.peek(7), bh);
  assert.equal(cache.peek(8), undefined);
  assert.equal(bdev.requests.length, 1);
});

test('a block outside the device is EUCLEAN', () => {
  const cache = new BufferCache(device(), BLOCK, 2 ** 20);
  for (const blocknr of [COUNT, -1, 2 ** 48, Number.NaN])
    assert.throws(
      () => cache.read(blocknr),
      (error) => hasCode(error, 'EUCLEAN'),
    );
});

test('a read that fails is told, and tried again by the next', () => {
  const bdev = new FaultyDevice(device(), new Prng(1));
  bdev.inject({ ops: ['read'], times: 1, errno: 'EIO' });
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  assert.throws(
    () => cache.read(7),
    (error) => hasCode(error, 'EIO'),
  );
  assert.equal(cache.peek(7), undefined);
  assert.equal((now(cache.read(7)) as BufferHead).data[0], 7);
});

test('readAhead reads what is missing, neighbours in one request', () => {
  const bdev = new Watched(device());
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  now(cache.read(12));
  now(cache.readAhead(10, 6));
  now(cache.readAhead(COUNT - 2, 1000));
  assert.deepEqual(bdev.requests, [
    { op: REQ_OP_READ, addr: 12, length: 1 },
    { op: REQ_OP_READ, addr: 10, length: 2 },
    { op: REQ_OP_READ, addr: 13, length: 3 },
    { op: REQ_OP_READ, addr: COUNT - 2, length: 2 },
  ]);
  assert.equal(cache.peek(15)?.data[0], 15);
});

test('one bad block costs a reader of its neighbour nothing but another read', () => {
  const bdev = new FaultyDevice(device(), new Prng(1));
  bdev.inject({ ops: ['read'], addr: 11 * BLOCK, length: BLOCK, errno: 'EIO' });
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  now(cache.readAhead(10, 3));
  assert.equal((now(cache.read(10)) as BufferHead).data[0], 10);
  assert.throws(
    () => cache.read(11),
    (error) => hasCode(error, 'EIO'),
  );
});

test('readers of a block that is on its way share the read', async () => {
  const bdev = new SimulatedDevice({ size: COUNT * BLOCK, prng: new Prng(1), base: device() });
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  const ahead = cache.readAhead(4, 3);
  const reads = [cache.read(5), cache.read(5)];
  assert.equal(bdev.inFlight, 1);
  bdev.drain();
  await ahead;
  const [a, b] = (await Promise.all(reads)) as [BufferHead, BufferHead];
  assert.equal(a, b);
  assert.equal(a.data[0], 5);
});

test('a block that is made new while it is read ahead keeps its new content', async () => {
  const bdev = new SimulatedDevice({ size: COUNT * BLOCK, prng: new Prng(1), base: device() });
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  const ahead = cache.readAhead(5, 1);
  const reader = cache.read(5);
  const bh = cache.create(5);
  bh.data.fill(99);
  bdev.drain();
  await ahead;
  assert.equal(await reader, bh);
  assert(cache.peek(5) === bh && bh.data.every((byte) => byte === 99));
});

test('a block that is forgotten while it is read is read anew', async () => {
  const bdev = new SimulatedDevice({ size: COUNT * BLOCK, prng: new Prng(1), base: device() });
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  const ahead = cache.readAhead(5, 1);
  cache.forget(5);
  bdev.drain();
  await ahead;
  assert.equal(cache.peek(5), undefined);
});

test('create makes a block all zero, without a read, and leaves the former array alone', () => {
  const bdev = new Watched(device());
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  assert.deepEqual(cache.create(3).data, new Uint8Array(BLOCK));
  assert.equal(bdev.requests.length, 0);
  const bh = now(cache.read(4)) as BufferHead;
  const { data } = bh;
  Object.assign(bh, { checked: 5, decoded: {}, seal: () => {} });
  assert.equal(cache.create(4), bh);
  assert.deepEqual([bh.data, bh.checked, bh.decoded, bh.seal], [new Uint8Array(BLOCK), 0, undefined, undefined]);
  assert(data.every((byte) => byte === 4));
});

test('writeDirty seals and writes what is dirty, sorted, and nothing twice', () => {
  const memory = device();
  const bdev = new Watched(memory);
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  for (const blocknr of [9, 3, 8]) {
    const bh = cache.create(blocknr);
    bh.isDirty = true;
    bh.seal = (sealed) => sealed.data.fill(0x40 + sealed.blocknr);
  }
  now(cache.writeDirty());
  now(cache.writeDirty());
  assert.deepEqual(bdev.requests, [
    { op: REQ_OP_WRITE, addr: 3, length: 1 },
    { op: REQ_OP_WRITE, addr: 8, length: 2 },
  ]);
  assert.equal(memory.read(9 * BLOCK, 1)[0], 0x49);
});

test('what could not be written stays dirty', () => {
  const bdev = new FaultyDevice(device(), new Prng(1));
  bdev.inject({ ops: ['write'], times: 1, errno: 'ENOSPC' });
  const cache = new BufferCache(bdev, BLOCK, 2 ** 20);
  cache.create(3).isDirty = true;
  assert.throws(
    () => cache.writeDirty(),
    (error) => hasCode(error, 'ENOSPC'),
  );
  assert(cache.peek(3)?.isDirty);
  now(cache.writeDirty());
  assert(!cache.peek(3)?.isDirty);
});

test('trim keeps what is dirty, in a log, or used since the last time', () => {
  const cache = new BufferCache(device(), BLOCK, 20 * BLOCK);
  for (let block = 0; block < 40; block++) (now(cache.read(block)) as BufferHead).wasUsed = false;
  const dirty = cache.peek(0) as BufferHead;
  dirty.isDirty = true;
  const logged = cache.peek(1) as BufferHead;
  logged.journalHead = {};
  dirty.wasUsed = false;
  logged.wasUsed = false;
  now(cache.read(2));
  cache.trim();
  const left = Array.from({ length: 40 }, (_, block) => block).filter((block) => cache.peek(block) !== undefined);
  assert.equal(left.length, 18);
  assert.deepEqual(left.slice(0, 3), [0, 1, 2]);
});

test('trim comes back to blocks that had to stay, once they are written', () => {
  const cache = new BufferCache(device(), BLOCK, 20 * BLOCK);
  for (let block = 0; block < 100; block++) cache.create(block).isDirty = true;
  cache.trim();
  now(cache.writeDirty());
  cache.trim();
  const left = Array.from({ length: 100 }, (_, block) => block).filter((block) => cache.peek(block) !== undefined);
  assert.equal(left.length, 18);
});

test('dropClean leaves nothing that can be read again', () => {
  const cache = new BufferCache(device(), BLOCK, 2 ** 20);
  now(cache.readAhead(0, 10));
  (cache.peek(4) as BufferHead).isDirty = true;
  cache.dropClean();
  assert.deepEqual(
    Array.from({ length: 10 }, (_, block) => cache.peek(block) !== undefined),
    Array.from({ length: 10 }, (_, block) => block === 4),
  );
});
