// One image for each seed, in turns with the kernel's driver by loop mount, ten turns of each side (test/support/ext4-model-alternate.ts).
// Needs root. Usage: node build/test/fuzz/ext4-alternate.js --from S --seeds N [--json] [--trace]
// Exits 1 after the first seed that fails, with its last steps and the command that repeats it. --trace prints every step.

import { runAlternate } from '../support/ext4-model-alternate.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';

await fuzzProgram('ext4-alternate', async (seed, trace) => {
  const why = await runAlternate(seed, 10, trace);
  if (why !== undefined) trace?.(why);
});
