import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { clearBits, countBits, nextClearBit, nextSetBit, setBits, testBit } from './bitmap.ts';

const BITS = 320;

test('agrees with an array of booleans, whatever the words a range touches', () =>
  forEachSeed('bitmap', 50, (prng) => {
    const words = new Uint32Array(BITS / 32);
    const model = new Array<boolean>(BITS).fill(false);
    for (let step = 0; step < 200; step++) {
      // Borders of words are where masks go wrong: one bound in two is one.
      const bound = () => (prng.chance(0.5) ? prng.between(0, 10) * 32 : prng.between(0, BITS));
      const [from, to] = [bound(), bound()].sort((a, b) => a - b) as [number, number];
      if (prng.chance(0.5)) {
        setBits(words, from, to);
        model.fill(true, from, to);
      } else {
        clearBits(words, from, to);
        model.fill(false, from, to);
      }
      const [low, high] = [bound(), bound()].sort((a, b) => a - b) as [number, number];
      const range = model.slice(low, high);
      const first = (value: boolean) => (range.includes(value) ? low + range.indexOf(value) : high);
      assert.equal(nextSetBit(words, low, high), first(true), `step ${step}: set bit of [${low}, ${high})`);
      assert.equal(nextClearBit(words, low, high), first(false), `step ${step}: clear bit of [${low}, ${high})`);
      assert.equal(countBits(words, low, high), range.filter(Boolean).length, `step ${step}: count of [${low}, ${high})`);
    }
    for (let bit = 0; bit < BITS; bit++) assert.equal(testBit(words, bit), model[bit], `bit ${bit}`);
  }));

test('the top bit of a word is a bit like any other, and an empty range has none', () => {
  const words = new Uint32Array(2);
  setBits(words, 31, 32);
  assert.equal(words[0], 0x8000_0000);
  assert.equal(nextSetBit(words, 0, 64), 31);
  assert.equal(nextClearBit(words, 31, 64), 32);
  assert.equal(nextSetBit(words, 31, 31), 31);
  assert.equal(nextClearBit(words, 40, 40), 40);
  assert.equal(countBits(words, 31, 31), 0);
  setBits(words, 5, 5);
  assert.equal(countBits(words, 0, 64), 1);
});
