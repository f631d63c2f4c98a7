import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { BlockMap, HOLE, RESERVED } from './block-map.ts';

test('an empty map is one hole', () => {
  const map = new BlockMap();
  assert.equal(map.at(2 ** 40), HOLE);
  assert.equal(map.next(0), Number.POSITIVE_INFINITY);
  assert.equal(map.runEnd(5, 100), 100);
  assert.ok(map.isEmpty);
});

test('a run ends where the kind of the blocks changes, not where their places do', () => {
  const map = new BlockMap();
  for (const [block, place] of [
    [10, 7],
    [11, 3],
    [12, RESERVED],
    [13, RESERVED],
    [200, 1],
  ] as const)
    map.set(block, place);
  assert.equal(map.runEnd(0, 1000), 10);
  assert.equal(map.runEnd(10, 1000), 12);
  assert.equal(map.runEnd(12, 1000), 14);
  assert.equal(map.runEnd(12, 13), 13);
  assert.equal(map.runEnd(14, 1000), 200);
  assert.equal(map.runEnd(201, 1000), 1000);
});

test('blocks at the two ends of the largest file cost as much as neighbours', () => {
  const map = new BlockMap();
  map.set(2 ** 41 - 1, 5);
  map.set(0, 4);
  assert.equal(map.next(1), 2 ** 41 - 1);
  const removed: number[] = [];
  map.remove(1, Number.POSITIVE_INFINITY, (block, place) => removed.push(block, place));
  assert.deepEqual(removed, [2 ** 41 - 1, 5]);
  map.shift(0, 2 ** 40);
  assert.equal(map.at(2 ** 40), 4);
  assert.equal(map.next(0), 2 ** 40);
});

test('every change moves the sequence number', () => {
  const map = new BlockMap();
  const seen = new Set([map.sequence]);
  map.set(1, RESERVED);
  seen.add(map.sequence);
  map.set(1, 9);
  seen.add(map.sequence);
  map.remove(1, 2, () => {});
  seen.add(map.sequence);
  assert.equal(seen.size, 4);
});

test('the map agrees with an array', () =>
  forEachSeed('block map', 30, (prng) => {
    const size = 600;
    const map = new BlockMap();
    let model = new Array<number>(size).fill(HOLE);
    for (let step = 0; step < 300; step++) {
      const block = prng.below(size);
      const end = prng.between(block, size);
      const action = prng.below(10);
      if (action < 6) {
        const place = prng.chance(0.3) ? RESERVED : prng.between(1, 1000);
        map.set(block, place);
        model[block] = place;
      } else if (action < 8) {
        const removed: number[] = [];
        const expected: number[] = [];
        for (let at = block; at < end; at++) if (model[at] !== HOLE) expected.push(at, model[at] as number);
        map.remove(block, end, (at, place) => removed.push(at, place));
        model.fill(HOLE, block, end);
        assert.deepEqual(removed, expected);
      } else {
        // As collapse and insert do it, cut off at the end of the model.
        const to = prng.chance(0.5) ? end : prng.below(block + 1);
        const moved = model.slice(block);
        if (to < block) map.remove(to, block, () => {});
        map.shift(block, to);
        map.remove(size, Number.POSITIVE_INFINITY, () => {});
        model = [...model.slice(0, Math.min(to, block)), ...new Array<number>(Math.max(0, to - block)).fill(HOLE), ...moved];
        model = [...model, ...new Array<number>(size).fill(HOLE)].slice(0, size);
      }
      for (let at = 0; at < size; at += prng.between(1, 40)) {
        assert.equal(map.at(at), model[at], `step ${step}: block ${at}`);
        const next = model.findIndex((place, i) => i >= at && place !== HOLE);
        assert.equal(map.next(at), next < 0 ? Number.POSITIVE_INFINITY : next);
        const stop = model.findIndex((place, i) => i > at && Math.sign(place) !== Math.sign(model[at] as number));
        assert.equal(map.runEnd(at, size), stop < 0 ? size : stop);
      }
    }
    assert.equal(
      map.isEmpty,
      model.every((place) => place === HOLE),
    );
  }));
