import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { Prng } from '../base/prng.ts';
import { isPromise } from '../base/task.ts';
import { Bio, emptyBio, REQ_OP_DISCARD, REQ_OP_READ, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { flushDevice, readDevice, submitAndWait, writeDevice } from './block-device.ts';
import { FaultyDevice } from './faulty-device.ts';
import { MemoryDevice } from './memory-device.ts';
import { OverlayDevice } from './overlay-device.ts';

const SIZE = 64 * 512;

function now<T>(value: T | Promise<T>): T {
  assert(!isPromise(value), 'an answer without a promise');
  return value as T;
}

test('reads agree with a flat array, and the device below never changes', () =>
  forEachSeed('overlay', 20, (prng) => {
    const inner = new MemoryDevice({ size: SIZE });
    const original = prng.bytes(SIZE);
    inner.write(0, original);
    const overlay = new OverlayDevice(inner);
    const model = original.slice();
    for (let step = 0; step < 60; step++) {
      const addr = prng.below(64) * 512;
      const length = Math.min(SIZE - addr, prng.between(1, 8) * 512);
      switch (prng.below(4)) {
        case 0: {
          const bytes = prng.bytes(length);
          now(writeDevice(overlay, addr, bytes));
          model.set(bytes, addr);
          // The caller's memory is its own again.
          bytes.fill(0);
          break;
        }
        case 1:
          assert.equal(
            submitAndWait(
              overlay,
              emptyBio(REQ_OP_WRITE_ZEROES, addr, length, 0, () => {}),
            ),
            0,
          );
          model.fill(0, addr, addr + length);
          break;
        case 2: {
          const bytes = prng.bytes(length);
          overlay.put(addr, bytes);
          model.set(bytes, addr);
          break;
        }
        default: {
          const half = Math.floor(length / 2);
          const pieces = [new Uint8Array(half), new Uint8Array(length - half)];
          assert.equal(submitAndWait(overlay, new Bio(REQ_OP_READ, addr, 0, () => {}, [...pieces], length)), 0);
          assert.deepEqual(Buffer.concat(pieces), Buffer.from(model.slice(addr, addr + length)));
        }
      }
    }
    assert.equal(
      submitAndWait(
        overlay,
        emptyBio(REQ_OP_DISCARD, 0, 512, 0, () => {}),
      ),
      0,
    );
    now(flushDevice(overlay));
    assert.deepEqual(inner.read(0, SIZE), original);
    assert(overlay.overlaidBytes <= SIZE);
  }));

test('an error of the device below is told', () => {
  const faulty = new FaultyDevice(new MemoryDevice({ size: SIZE }), new Prng(1));
  const overlay = new OverlayDevice(faulty);
  overlay.put(0, new Uint8Array(512));
  faulty.inject({ ops: ['read'], errno: 'EIO' });
  assert.throws(() => readDevice(overlay, 0, new Uint8Array(1024)), { code: 'EIO' });
});

test('a request outside the device, or not aligned, is refused', () => {
  const overlay = new OverlayDevice(new MemoryDevice({ size: SIZE }));
  assert.throws(() => writeDevice(overlay, SIZE, new Uint8Array(512)), { code: 'EIO' });
  assert.throws(() => writeDevice(overlay, 1, new Uint8Array(512)), { code: 'EINVAL' });
});
