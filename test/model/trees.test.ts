import test from 'node:test';
import { forEachSeed } from '../support/seeds.ts';
import { runTree } from '../support/tree-ops.ts';

// A sample of what `npm run fuzz -- trees` explores without end.
test('any sequence of operations on a tree of files, by several callers, agrees with a plain model of it and leaves nothing behind', async () => {
  await forEachSeed('trees', 120, (_prng, seed) => runTree(seed));
});
