import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { Bio, emptyBio, REQ_FUA, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { MemoryDevice } from './memory-device.ts';
import { SimulatedDevice, type SimulatedDeviceOptions } from './simulated-device.ts';

function setUp(options: Partial<SimulatedDeviceOptions> = {}, seed = 1) {
  const device = new SimulatedDevice({ size: 65536, prng: new Prng(seed), ...options });
  const ended: Bio[] = [];
  const write = (addr: number, data: number | Uint8Array, flags = 0): Bio => {
    const bio = new Bio(REQ_OP_WRITE, addr, flags, (each) => ended.push(each));
    bio.add(typeof data === 'number' ? new Uint8Array(512).fill(data) : data);
    device.submit(bio);
    return bio;
  };
  const flush = (): Bio => {
    const bio = emptyBio(REQ_OP_FLUSH, 0, 0, 0, (each) => ended.push(each));
    device.submit(bio);
    return bio;
  };
  return { device, ended, write, flush };
}

test('nothing completes before a step, and the seed picks the order', () => {
  const orders = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) {
    const { device, ended, write } = setUp({}, seed);
    for (let i = 0; i < 3; i++) write(i * 512, i);
    assert.equal(ended.length, 0);
    assert.equal(device.inFlight, 3);
    assert.ok(device.step());
    assert.equal(ended.length, 1);
    device.drain();
    assert.ok(!device.step());
    assert.equal(device.inFlightMax, 3);
    assert.equal(device.completedCount, 3);
    orders.add(ended.map(({ addr }) => addr / 512).join(''));
  }
  assert.equal(orders.size, 6, 'all orders come');
});

test('what a write stores is its memory at completion, or at submission', () => {
  for (const copiesAtSubmit of [false, true]) {
    const { device, write } = setUp({ copiesAtSubmit });
    assert.equal(device.stableWrites, !copiesAtSubmit);
    const data = new Uint8Array(512).fill(1);
    write(0, data);
    device.powerCut(new Prng(1)); // looks, and changes nothing
    data.fill(2);
    device.drain();
    assert.equal(device.read(0, 1)[0], copiesAtSubmit ? 1 : 2);
  }
});

test('reads see completed writes only, and zeroes', () => {
  const { device, write } = setUp({ base: filled(65536, 5) });
  const read = (): number => {
    const bio = new Bio(REQ_OP_READ, 0, 0, () => {});
    const into = [new Uint8Array(100), new Uint8Array(412)] as const;
    for (const piece of into) bio.add(piece);
    device.submit(bio);
    device.drain();
    return into[1][0] as number;
  };
  assert.equal(read(), 5);
  write(0, 6);
  device.drain();
  assert.equal(read(), 6);
  device.submit(emptyBio(REQ_OP_WRITE_ZEROES, 0, 1024, 0, () => {}));
  device.drain();
  assert.equal(read(), 0);
  const refused = write(65536, 1);
  assert.ok(refused.hasEnded && refused.status === -5);
});

function filled(size: number, value: number): MemoryDevice {
  const base = new MemoryDevice({ size });
  base.fill(value);
  return base;
}

test('a scheduler decides among completions, also of requests that were there before it', () => {
  const { device, ended, write } = setUp();
  const events: (() => void)[] = [];
  write(0, 1);
  device.autoRun({ post: (event) => void events.push(event) });
  write(512, 2);
  write(1024, 3);
  assert.equal(ended.length, 0);
  for (const i of [2, 0, 1]) (events[i] as () => void)();
  assert.deepEqual(
    ended.map(({ addr }) => addr),
    [1024, 0, 512],
  );
  (events[0] as () => void)();
  assert.equal(ended.length, 3, 'an event that comes twice does nothing');
});

/** All values that byte `addr` has after a power cut now. */
function outcomes(device: SimulatedDevice, ...addrs: number[]): string[] {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 200; seed++) {
    const image = device.powerCut(new Prng(seed));
    seen.add(addrs.map((addr) => image.read(addr, 1)[0]).join(' '));
  }
  return [...seen].sort();
}

test('a power cut may lose what was not flushed', () => {
  const { device, write, flush } = setUp({ hasVolatileCache: true });
  write(0, 1);
  write(512, 2);
  assert.deepEqual(outcomes(device, 0, 512), ['0 0', '0 2', '1 0', '1 2'], 'in flight');
  device.drain();
  assert.deepEqual(outcomes(device, 0, 512), ['0 0', '0 2', '1 0', '1 2'], 'completed');
  flush();
  write(1024, 3);
  while (device.inFlight > 0) device.step();
  assert.deepEqual(outcomes(device, 0, 512, 1024), ['1 2 0', '1 2 3'], 'the write completed after the flush was submitted');
});

test('a flush does not cover a write that completed after its submission', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { device, write, flush } = setUp({ hasVolatileCache: true }, seed);
    write(0, 1);
    flush();
    device.drain();
    assert.deepEqual(outcomes(device, 0), ['0', '1']);
  }
});

test('an older write in the cache never comes back over one with FUA', () => {
  const { device, write } = setUp({ hasVolatileCache: true, hasFua: true });
  write(0, 1);
  device.drain();
  write(0, 2, REQ_FUA);
  device.drain();
  assert.deepEqual(outcomes(device, 0), ['2']);
  write(0, 3);
  device.drain();
  assert.deepEqual(outcomes(device, 0), ['2', '3']);
});

test('without a volatile cache a completed write is kept', () => {
  const { device, write } = setUp();
  write(0, 1);
  device.drain();
  write(512, new Uint8Array(1024).fill(2));
  assert.deepEqual(outcomes(device, 0, 512, 1024), ['1 0 0', '1 0 2', '1 2 0', '1 2 2'], 'one in flight is torn');
});
