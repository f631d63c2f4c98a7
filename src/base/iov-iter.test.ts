import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { IovIter } from './iov-iter.ts';
import type { Prng } from './prng.ts';

/** Segments of random lengths, empty ones among them and at both ends. */
function segmentsOf(prng: Prng): Uint8Array[] {
  const segments: Uint8Array[] = [];
  for (let count = prng.between(0, 8); count > 0; count--) segments.push(prng.bytes(prng.chance(0.3) ? 0 : prng.between(1, 40)));
  return segments;
}

test('agrees with one flat buffer: copies, zeroing, peek, advance, revert, truncate over empty segments', () =>
  forEachSeed('iov-iter', 200, (prng) => {
    const segments = segmentsOf(prng);
    const iter = new IovIter(segments);
    const flat = () => Buffer.concat(segments);
    const total = flat().length;
    let at = 0;
    let cut = total; // where truncate ended it
    for (let step = 0; step < 60; step++) {
      const left = cut - at;
      const op = prng.pick(['advance', 'revert', 'peek', 'copyTo', 'copyFrom', 'zero', 'truncate', 'reexpand']);
      const want = prng.below(50);
      if (op === 'advance') {
        iter.advance(Math.min(want, left));
        at += Math.min(want, left);
      } else if (op === 'revert') {
        const count = Math.min(want, at);
        iter.revert(count);
        at -= count;
      } else if (op === 'peek' && left > 0 && want > 0) {
        const piece = iter.peek(want);
        assert.ok(piece.length > 0 && piece.length <= Math.min(want, left), `step ${step}: piece of ${piece.length}`);
        assert.deepEqual(Buffer.from(piece), flat().subarray(at, at + piece.length));
        assert.ok(segments.some((segment) => segment.buffer === piece.buffer)); // the memory itself, not a copy
      } else if (op === 'copyTo') {
        const into = new Uint8Array(60);
        const copied = iter.copyTo(into, 5, want);
        assert.equal(copied, Math.min(want, left), `step ${step}: copyTo`);
        assert.deepEqual(Buffer.from(into.subarray(5, 5 + copied)), flat().subarray(at, at + copied));
        assert.ok(into.subarray(5 + copied).every((byte) => byte === 0));
        at += copied;
      } else if (op === 'copyFrom') {
        const from = prng.bytes(want);
        const expected = flat();
        const copied = iter.copyFrom(from);
        assert.equal(copied, Math.min(want, left), `step ${step}: copyFrom`);
        expected.set(from.subarray(0, copied), at);
        assert.deepEqual(flat(), expected);
        at += copied;
      } else if (op === 'zero') {
        const expected = flat();
        const zeroed = iter.zero(want);
        assert.equal(zeroed, Math.min(want, left), `step ${step}: zero`);
        expected.fill(0, at, at + zeroed);
        assert.deepEqual(flat(), expected);
        at += zeroed;
      } else if (op === 'truncate') {
        iter.truncate(want);
        cut = Math.min(cut, at + want);
      } else if (op === 'reexpand') {
        cut = total;
        iter.reexpand(cut - at);
      }
      assert.equal(iter.count, cut - at, `step ${step}: ${op}: count`);
      assert.equal(iter.done, at, `step ${step}: ${op}: done`);
      assert.equal(iter.faultIn(want), Math.min(want, cut - at));
    }
  }));

test('nothing at all is an iterator too', () => {
  for (const vec of [[], [new Uint8Array(0)], [new Uint8Array(0), new Uint8Array(0)]]) {
    const iter = new IovIter(vec);
    assert.equal(iter.count, 0);
    assert.equal(iter.copyTo(new Uint8Array(4), 0, 4), 0);
    assert.equal(iter.copyFrom(new Uint8Array(4)), 0);
    iter.advance(0);
    iter.revert(0);
    assert.throws(() => iter.peek(1), { code: 'ERR_ASSERTION' });
  }
});

test('passing either end is our own mistake', () => {
  const iter = new IovIter(new Uint8Array(10));
  assert.throws(() => iter.advance(11), { code: 'ERR_ASSERTION' });
  iter.advance(10);
  assert.throws(() => iter.revert(11), { code: 'ERR_ASSERTION' });
  iter.revert(10);
  assert.equal(iter.count, 10);
});

test('bug 31: reverting twice goes back twice, and is seen when it passes the start', () => {
  const iter = new IovIter([new Uint8Array(4), new Uint8Array(0), new Uint8Array(4)]);
  iter.advance(6);
  iter.revert(3);
  assert.equal(iter.done, 3);
  assert.throws(() => iter.revert(4), { code: 'ERR_ASSERTION' });
  assert.equal(iter.done, 3);
});
