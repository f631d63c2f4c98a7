// Images change hands between the kernel's driver and ours, again and again. A sample of what `npm run fuzz -- ext4-alternate` explores:
// ROUNDS=n makes each seed longer.

import test from 'node:test';
import { runAlternate } from '../support/ext4-model-alternate.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';

const why = whyNoE2fsprogs() ?? (process.getuid?.() === 0 ? undefined : 'mounting images needs root');

test('the kernel and we find what the other left, in turns, and e2fsck nothing wrong', { skip: why ?? false }, async (t) => {
  await forEachSeed('ext4-alternate', 18, async (_prng, seed) => {
    const reason = await runAlternate(seed, Number(process.env['ROUNDS'] ?? 2));
    if (reason !== undefined) t.diagnostic(`seed ${seed} is left out: ${reason}`);
  });
});
