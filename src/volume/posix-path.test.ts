import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { basename, child, dirname, join, normalize, resolve } from './posix-path.ts';

test('paths are taken apart and put together as node:path does it', () =>
  forEachSeed('posix-path', 20, (prng) => {
    const parts = ['', '.', '..', 'a', 'b.c', '...', '/', '//'];
    const path = () => Array.from({ length: prng.below(6) }, () => prng.pick(parts)).join(prng.pick(['', '/']));
    for (let i = 0; i < 200; i++) {
      const [a, b] = [path(), path()];
      assert.equal(normalize(a), posix.normalize(a), `normalize(${a})`);
      assert.equal(join(a, b), posix.join(a, b), `join(${a}, ${b})`);
      assert.equal(resolve(a, b), posix.resolve('/', a, b), `resolve(${a}, ${b})`);
      // Where slashes are doubled, Node keeps some of them.
      assert.equal(dirname(normalize(a)), posix.dirname(posix.normalize(a)), `dirname(${a})`);
      assert.equal(basename(a), posix.basename(a), `basename(${a})`);
    }
  }));

test('child leaves the directory as it is written', () => {
  assert.equal(child('', 'a'), 'a');
  assert.equal(child('/', 'a'), '/a');
  assert.equal(child('./x/', 'a'), './x/a');
  assert.equal(child('x/../y', 'a'), 'x/../y/a');
});
