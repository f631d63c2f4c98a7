import test from 'node:test';
import { MODEL_KINDS } from '../support/ext4-model.ts';
import { runExt4Tree } from '../support/ext4-model-trees.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';

// A sample of what `npm run fuzz -- ext4-trees` explores without end.
test('any sequence of operations on a tree of files, on every kind of volume and over mounts, agrees with a plain model of it', {
  skip: whyNoE2fsprogs() ?? false,
}, async () => {
  await forEachSeed('ext4-trees', MODEL_KINDS.length, (_prng, seed) => runExt4Tree(seed));
});
