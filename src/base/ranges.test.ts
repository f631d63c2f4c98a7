import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from './prng.ts';
import {
  checkFilePosition,
  checkPosition,
  checkRange,
  fromU64,
  isPowerOfTwo,
  log2Floor,
  POSITION_MAX,
  roundDown,
  roundUp,
} from './ranges.ts';

test('rounding is exact past 2^32, against bigint', () => {
  const prng = new Prng(1);
  for (let i = 0; i < 2000; i++) {
    const unit = 2 ** prng.between(0, 30);
    const value = prng.below(2 ** prng.between(1, 52));
    const down = (BigInt(value) / BigInt(unit)) * BigInt(unit);
    assert.equal(BigInt(roundDown(value, unit)), down);
    assert.equal(BigInt(roundUp(value, unit)), down === BigInt(value) ? down : down + BigInt(unit));
  }
  assert.equal(roundUp(2 ** 40 + 1, 4096), 2 ** 40 + 4096);
  assert.equal(roundDown(3 * 7 + 2, 7), 21); // any unit, not only powers of two
});

test('powers of two and their exponents over the whole range of positions', () => {
  for (let exponent = 0; exponent <= 52; exponent++) {
    const value = 2 ** exponent;
    assert.ok(isPowerOfTwo(value), `2^${exponent}`);
    assert.equal(log2Floor(value), exponent);
    if (exponent < 2) continue;
    assert.ok(!isPowerOfTwo(value - 1) && !isPowerOfTwo(value + 1), `neighbours of 2^${exponent}`);
    assert.equal(log2Floor(value - 1), exponent - 1);
    assert.equal(log2Floor(value + 1), exponent);
  }
  assert.equal(log2Floor(POSITION_MAX), 52);
  for (const none of [0, -1, -4, 0.5, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) assert.ok(!isPowerOfTwo(none), `${none}`);
});

test('a range from outside is refused by what is wrong with it', () => {
  const code = (expected: string) => ({ code: expected, syscall: 'pread' });
  for (const pos of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    assert.throws(() => checkPosition('pread', pos), code('EINVAL'), `position ${pos}`);
    assert.throws(() => checkRange('pread', pos, 1), code('EINVAL'), `position ${pos}`);
    assert.throws(() => checkRange('pread', 0, pos), code('EINVAL'), `length ${pos}`);
  }
  assert.throws(() => checkRange('pread', 1n as unknown as number, 1), code('EINVAL'));
  assert.throws(() => checkRange('pread', 0, '1' as unknown as number), code('EINVAL'));
  assert.throws(() => checkPosition('pread', 2 ** 53), code('EOVERFLOW'));
  assert.throws(() => checkRange('pread', 2 ** 60, 1), code('EOVERFLOW'));
  assert.throws(() => checkRange('pread', POSITION_MAX, 1), code('EFBIG'));
  assert.throws(() => checkRange('pread', 1, 2 ** 53), code('EFBIG'));
  assert.throws(() => checkRange('pread', 900, 101, 1000), code('EFBIG'));
  checkRange('pread', POSITION_MAX, 0);
  checkRange('pread', 0, POSITION_MAX);
  checkRange('pread', 900, 100, 1000);
});

test('a wire u64 becomes a position, or EOVERFLOW', () => {
  assert.equal(fromU64(0n, 'read'), 0);
  assert.equal(fromU64(2n ** 53n - 1n, 'read'), POSITION_MAX);
  for (const value of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) assert.throws(() => fromU64(value, 'read'), { code: 'EOVERFLOW' });
});

test('a file cannot have bytes where no position reaches', () => {
  checkFilePosition('write', POSITION_MAX);
  for (const pos of [2 ** 53, 2 ** 63, Number.POSITIVE_INFINITY]) assert.throws(() => checkFilePosition('write', pos), { code: 'EFBIG' });
  for (const pos of [-1, 0.5, Number.NaN]) assert.throws(() => checkFilePosition('write', pos), { code: 'EINVAL' });
});
