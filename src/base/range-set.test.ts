import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { RangeSet } from './range-set.ts';

test('a RangeSet agrees with a set of integers', () =>
  forEachSeed('range-set', 40, (prng) => {
    const ranges = new RangeSet();
    const model = new Set<number>();
    for (let step = 0; step < 300; step++) {
      const start = prng.below(60);
      const end = start + prng.below(12);
      const isAdd = prng.chance(0.5);
      let changed = 0;
      for (let value = start; value < end; value++) {
        if (model.has(value) === isAdd) continue;
        changed++;
        if (isAdd) model.add(value);
        else model.delete(value);
      }
      assert.equal(isAdd ? ranges.add(start, end) : ranges.delete(start, end), changed);
      assert.equal(ranges.size, model.size);
      for (let value = 0; value < 75; value++) {
        assert.equal(ranges.has(value), model.has(value));
        let stop = value;
        while (stop < 75 && model.has(stop) === model.has(value)) stop++;
        assert.equal(ranges.runEnd(value), stop === 75 ? Number.POSITIVE_INFINITY : stop);
      }
      let before = -1;
      for (const range of ranges.ranges()) {
        assert(range.start > before && range.end > range.start, 'sorted, disjoint, apart');
        before = range.end;
      }
    }
  }));
