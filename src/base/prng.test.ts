import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from './prng.ts';

const MASK = 0xffff_ffffn;

/** splitmix32 and xoshiro128** once more, in bigint and straight from their definitions. */
function reference(seed: number): () => number {
  let state = (BigInt(seed) & MASK) ^ (BigInt(seed) >> 32n);
  const next = (): bigint => {
    state = (state + 0x9e3779b9n) & MASK;
    let z = ((state ^ (state >> 16n)) * 0x85ebca6bn) & MASK;
    z = ((z ^ (z >> 13n)) * 0xc2b2ae35n) & MASK;
    return z ^ (z >> 16n);
  };
  const rotl = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & MASK;
  const s: [bigint, bigint, bigint, bigint] = [next(), next(), next(), next() | 1n];
  return () => {
    const result = (rotl((s[1] * 5n) & MASK, 7n) * 9n) & MASK;
    const t = (s[1] << 9n) & MASK;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 11n);
    return Number(result);
  };
}

test('the numbers are those of splitmix32 and xoshiro128**', () => {
  for (const seed of [0, 1, 2, 42, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 2 ** 32, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER]) {
    const prng = new Prng(seed);
    const expected = reference(seed);
    for (let i = 0; i < 200; i++) assert.equal(prng.u32(), expected(), `seed ${seed}, number ${i}`);
  }
});

test('golden values: a printed seed repeats its run in every later version', () => {
  const prng = new Prng(42);
  assert.deepEqual([prng.u32(), prng.u32(), prng.u32()], [2_837_322_924, 544_945_897, 479_756_282]);
  assert.deepEqual([prng.below(10), prng.below(1000), prng.below(2 ** 40)], [8, 79, 28_972_362_243]);
  assert.deepEqual([...prng.bytes(7)], [32, 200, 75, 66, 102, 181, 116]);
  assert.deepEqual(prng.shuffle([1, 2, 3, 4, 5, 6]), [5, 4, 3, 6, 1, 2]);
  assert.equal(prng.fork().u32(), 3_778_532_643);
});

test('numbers stay inside their limits, also past 2^32, and use all of them', () => {
  const prng = new Prng(7);
  for (const limit of [1, 2, 3, 10, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 40, 2 ** 53]) {
    let top = 0;
    for (let i = 0; i < 300; i++) {
      const value = prng.below(limit);
      assert.ok(Number.isSafeInteger(value) && value >= 0 && value < limit, `${value} below ${limit}`);
      top = Math.max(top, value);
    }
    assert.ok(limit < 4 || top > limit * 0.5, `${limit}: nothing in the upper half`);
  }
  const seen = new Set<number>();
  for (let i = 0; i < 500; i++) seen.add(prng.between(3, 7));
  assert.deepEqual([...seen].sort(), [3, 4, 5, 6, 7]);
  for (let i = 0; i < 200; i++) {
    assert.equal(prng.chance(0), false);
    assert.equal(prng.chance(1), true);
  }
  assert.equal(prng.bytes(0).length, 0);
  assert.deepEqual(prng.shuffle([]), []);
  assert.equal(prng.pick(['only']), 'only');
});

test('a fork goes its own way: drawing from it does not change what the parent draws', () => {
  const a = new Prng(5);
  const b = new Prng(5);
  const fork = a.fork();
  b.fork();
  for (let i = 0; i < 10; i++) fork.u32();
  for (let i = 0; i < 10; i++) assert.equal(a.u32(), b.u32());
});
