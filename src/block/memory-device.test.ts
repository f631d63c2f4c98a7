import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { Bio, emptyBio, REQ_OP_DISCARD, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { readDevice } from './block-device.ts';
import { MemoryDevice } from './memory-device.ts';

const ignore = (): void => {};

test('agrees with a flat byte array, in pieces of any size and with snapshots', () => {
  const seed = Number(process.env['SEED'] ?? 1);
  for (const populate of [false, true]) {
    const prng = new Prng(seed);
    const size = 64 * 1024;
    let device = new MemoryDevice({ size, chunkSize: 4096, populate });
    let model: Uint8Array = new Uint8Array(size);
    const kept: [MemoryDevice, Uint8Array][] = [];
    for (let step = 0; step < 600; step++) {
      const addr = prng.below(size / 512) * 512;
      const length = 512 * prng.between(1, Math.min(40, (size - addr) / 512));
      const op = prng.pick(['read', 'write', 'write', 'zero', 'discard', 'fill', 'snapshot']);
      if (op === 'write' || op === 'read') {
        const bio = new Bio(op === 'write' ? REQ_OP_WRITE : REQ_OP_READ, addr, 0, ignore);
        const bytes = prng.bytes(length);
        for (let at = 0, count = 0; at < length; at += count) {
          count = Math.min(prng.below(3000), length - at);
          bio.add(bytes.subarray(at, at + count));
        }
        device.submit(bio);
        assert.ok(bio.hasEnded && bio.status === 0);
        if (op === 'write') model.set(bytes, addr);
        else assert.deepEqual(bytes, model.slice(addr, addr + length), `seed ${seed}, step ${step}`);
      } else if (op === 'zero' || op === 'discard') {
        device.submit(emptyBio(op === 'zero' ? REQ_OP_WRITE_ZEROES : REQ_OP_DISCARD, addr, length, 0, ignore));
        model.fill(0, addr, addr + length);
      } else if (op === 'fill') {
        const pattern = prng.bytes(prng.between(1, 7));
        device.fill(pattern, addr, length);
        for (let i = 0; i < length; i++) model[addr + i] = pattern[i % pattern.length] as number;
      } else {
        kept.push([device, model]);
        device = device.snapshot();
        model = model.slice();
        if (prng.chance(0.5)) [device, model] = kept.splice(prng.below(kept.length), 1, [device, model])[0] as (typeof kept)[0];
      }
    }
    for (const [each, content] of [...kept, [device, model] as const]) assert.deepEqual(each.read(0, size), content, `seed ${seed}`);
  }
});

test('a sparse device of 100 GiB costs what was written, and zeroing whole chunks gives it back', () => {
  const device = new MemoryDevice({ size: 100 * 2 ** 30 });
  device.write(99 * 2 ** 30, new Uint8Array(2 ** 20 + 512).fill(1));
  assert.equal(device.allocatedBytes, 2 ** 21);
  assert.equal(device.read(99 * 2 ** 30 + 2 ** 20, 1)[0], 1);
  assert.equal(device.read(99 * 2 ** 30 + 2 ** 20 + 512, 1)[0], 0);
  device.submit(emptyBio(REQ_OP_DISCARD, 99 * 2 ** 30, 2 ** 20, 0, ignore));
  assert.equal(device.allocatedBytes, 2 ** 20);
  device.submit(emptyBio(REQ_OP_DISCARD, 0, device.size, 0, ignore));
  assert.equal(device.allocatedBytes, 0);
});

test('a snapshot and its origin do not see each other', () => {
  const device = new MemoryDevice({ size: 8192, chunkSize: 4096 });
  device.fill(1);
  const copy = device.snapshot();
  device.fill(2, 0, 512);
  copy.fill(3, 512, 512);
  copy.fill(0, 4096, 4096);
  assert.deepEqual([device.read(0, 1)[0], device.read(512, 1)[0], device.read(4096, 1)[0]], [2, 1, 1]);
  assert.deepEqual([copy.read(0, 1)[0], copy.read(512, 1)[0], copy.read(4096, 1)[0]], [1, 3, 0]);
});

test('requests outside and geometry that makes no sense are refused', () => {
  const device = new MemoryDevice({ size: 4096 });
  assert.throws(() => readDevice(device, 4096, new Uint8Array(512)), { code: 'EIO' });
  assert.throws(() => readDevice(device, 1, new Uint8Array(512)), { code: 'EINVAL' });
  assert.throws(() => device.read(4000, 100), { code: 'EFBIG' });
  assert.throws(() => device.write(-1, new Uint8Array(1)), { code: 'EINVAL' });
  assert.throws(() => device.fill(new Uint8Array(0)), { code: 'EINVAL' });
  for (const options of [
    { size: 1000 },
    { size: -512 },
    { size: 4096, logicalBlockSize: 256 },
    { size: 6144, logicalBlockSize: 1536 },
    { size: 4096, chunkSize: 3000 },
  ]) {
    assert.throws(() => new MemoryDevice(options), { code: 'EINVAL' });
  }
});
