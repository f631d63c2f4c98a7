import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { Fifo } from './fifo.ts';

test('agrees with an array', () =>
  forEachSeed('fifo', 30, (prng) => {
    const fifo = new Fifo<number>();
    const model: number[] = [];
    const growing = prng.chance(0.5) ? 3 : 1;
    for (let step = 0; step < 1000; step++) {
      const op = prng.below(3 + growing);
      if (op < growing) {
        fifo.push(step);
        model.push(step);
      } else if (op < growing + 2) {
        assert.equal(fifo.peek(), model[0]);
        assert.equal(fifo.shift(), model.shift());
      } else {
        const item = prng.chance(0.8) && model.length > 0 ? prng.pick(model) : -1;
        assert.equal(fifo.remove(item), model.includes(item));
        if (model.includes(item)) model.splice(model.indexOf(item), 1);
      }
      assert.equal(fifo.length, model.length);
    }
    while (model.length > 0) assert.equal(fifo.shift(), model.shift());
    assert.equal(fifo.shift(), undefined);
    assert.equal(fifo.peek(), undefined);
    assert.equal(fifo.length, 0);
  }));
