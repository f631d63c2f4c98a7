import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { MemoryDaxDevice } from './dax-device.ts';

test('stores through one view are seen through another, up to the end of a run', () => {
  const device = new MemoryDaxDevice({ size: 64 * 1024, runSize: 16 * 1024 });
  assert.equal(device.contiguous(0, 64 * 1024), 16 * 1024);
  assert.equal(device.contiguous(16_000, 1000), 384);
  assert.equal(device.contiguous(64 * 1024, 0), 0);
  device.bytes(16_000, 1000).fill(7);
  assert.equal(device.bytes(16_383, 1)[0], 7);
  assert.equal(device.bytes(16_384, 1)[0], 0);
  assert.equal(device.bytes(100, 50).length, 50);
  assert.equal(device.bytes(64 * 1024, 0).length, 0);
  assert.throws(() => device.bytes(65_000, 1000), { code: 'EFBIG' });
  assert.equal(new MemoryDaxDevice({ size: 64 * 1024 }).contiguous(0, 64 * 1024), 64 * 1024);
  for (const options of [{ size: 0 }, { size: 1000 }, { size: 8192, runSize: 1000 }, { size: 8192, pageSize: 3000 }]) {
    assert.throws(() => new MemoryDaxDevice(options), { code: 'EINVAL' });
  }
});

test('no view covers poison; only whole pages heal', () => {
  const device = new MemoryDaxDevice({ size: 64 * 1024, trackDurability: true });
  device.zero(0, 64 * 1024);
  device.poison(8192 + 100, 1);
  assert.equal(device.contiguous(0, 64 * 1024), 8192);
  assert.equal(device.contiguous(8200, 10), 0);
  assert.equal(device.bytes(4096, 8192).length, 4096);
  assert.throws(() => device.bytes(8192, 1), { code: 'EHWPOISON' });
  assert.ok(device.isPoisoned(0, 8193) && !device.isPoisoned(0, 8192) && device.isPoisoned(12_287, 1) && !device.isPoisoned(12_288, 1));
  assert.ok(!device.isPoisoned(8192, 0));

  assert.throws(() => device.recoveryWrite(8192, new Uint8Array(4095)), { code: 'EHWPOISON' });
  assert.throws(() => device.recoveryWrite(8193, new Uint8Array(8192)), { code: 'EHWPOISON' });
  assert.throws(() => device.zero(8193, 100), { code: 'EHWPOISON' });
  assert.ok(device.isPoisoned(8192, 1));

  device.recoveryWrite(8000, new Uint8Array(4288).fill(5));
  assert.equal(device.bytes(8192, 4096)[4095], 5);
  assert.equal(device.durableImage()[8192], 5, 'a recovery write is durable');

  device.poison(0, 8192);
  device.zero(0, 4096);
  assert.equal(device.bytes(0, 1)[0], 0);
  assert.ok(device.isPoisoned(0, 8192));
  device.clearPoison(0, 8192);
  assert.ok(!device.isPoisoned(0, 8192));
  assert.equal(device.bytes(4096, 1)[0], 0);
});

test('a power cut keeps what was flushed, and of the rest what it likes', () => {
  const device = new MemoryDaxDevice({ size: 8192, runSize: 4096, trackDurability: true });
  const store = (addr: number, value: number): void => void (device.bytes(addr, 1)[0] = value);
  store(100, 1);
  store(4200, 2);
  device.flush(100, 1);
  assert.deepEqual([device.durableImage()[100], device.durableImage()[4200]], [1, 0]);
  assert.equal(device.flushCount, 1);
  assert.equal(device.flushedBytes, 1);
  store(100, 3);
  const seen = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) {
    const image = device.durableImage(new Prng(seed));
    seen.add(`${image[100]} ${image[4200]}`);
  }
  assert.deepEqual([...seen].sort(), ['1 0', '1 2', '3 0', '3 2']);
  device.flush(0, 8192);
  assert.deepEqual([device.durableImage()[100], device.durableImage()[4200]], [3, 2]);
  assert.throws(() => new MemoryDaxDevice({ size: 4096 }).durableImage(), { code: 'ENOTSUP' });
});
