import test from 'node:test';
import { runExt4Tasks } from '../support/ext4-model-tasks.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';

// A sample of what `npm run fuzz -- ext4-tasks` explores without end.
const skip = whyNoE2fsprogs() ?? false;

test('the data of files is a flat run of bytes, through and past the cache, whatever is allocated, punched and moved, until space ends', {
  skip,
}, async () => {
  await forEachSeed('ext4-tasks', 16, (_prng, seed) => runExt4Tasks(seed, false));
});

test('programs that work at the same time, on a device that answers later, find what each has left', { skip }, async () => {
  await forEachSeed('ext4-tasks', 16, (_prng, seed) => runExt4Tasks(seed, true));
});
