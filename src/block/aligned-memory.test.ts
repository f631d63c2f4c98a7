import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alignedBytes, isPageAligned } from './aligned-memory.ts';

test('aligned memory is known by its place', () => {
  const memory = alignedBytes(100_000);
  assert.equal(memory.length, 100_000);
  assert.ok(memory.every((byte) => byte === 0));
  assert.ok(isPageAligned(memory));
  assert.ok(isPageAligned(memory.subarray(8192, 8704)));
  assert.ok(!isPageAligned(memory.subarray(512)));
  assert.ok(!isPageAligned(new Uint8Array(4096)));
});

test('more than there is gives ENOMEM', () => {
  assert.throws(() => alignedBytes(2 ** 40), { code: 'ENOMEM' });
});
