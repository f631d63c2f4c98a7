import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cookies } from './cookies.ts';

test('a small position is its own number', () => {
  const cookies = new Cookies();
  assert.equal(cookies.of(7n), 7);
  assert.equal(cookies.positionOf(7), 7n);
  assert.equal(cookies.positionOf(0), 0n);
});

test('a position of 63 bits has a number that is safe, the same each time', () => {
  const cookies = new Cookies();
  const positions = [2n ** 63n - 1n, 2n ** 52n, 0x7123456789abcdefn];
  const numbers = positions.map((position) => cookies.of(position));
  assert.ok(numbers.every((number) => Number.isSafeInteger(number) && number > 0));
  assert.equal(new Set(numbers).size, positions.length);
  assert.deepEqual(
    numbers.map((number) => cookies.positionOf(number)),
    positions,
  );
  assert.deepEqual(
    positions.map((position) => cookies.of(position)),
    numbers,
  );
});

test('a number that was never given is of no position', () => {
  assert.equal(new Cookies().positionOf(2 ** 52), undefined);
});
