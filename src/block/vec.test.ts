import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { gather, scatter, slice } from './vec.ts';

test('pieces behave as one run of bytes', () => {
  const seed = Number(process.env['SEED'] ?? 1);
  const prng = new Prng(seed);
  for (let round = 0; round < 500; round++) {
    const vec = Array.from({ length: prng.below(6) }, () => prng.bytes(prng.below(9)));
    const flat = Uint8Array.from(vec.flatMap((bytes) => [...bytes]));
    const from = prng.between(0, flat.length);
    const length = prng.between(0, flat.length - from);
    const at = `seed ${seed}, round ${round}`;
    assert.deepEqual(gather(vec, from, length), flat.slice(from, from + length), at);
    assert.ok(
      slice(vec, from, length).every((part) => part.length > 0),
      at,
    );
    const fresh = prng.bytes(length);
    scatter(fresh, vec, from);
    flat.set(fresh, from);
    assert.deepEqual(gather(vec, 0, flat.length), flat, at);
  }
});
