// Several programs at once on ext4 volumes of many kinds, on a device that completes requests in any order; every other seed one program
// alone, with much data (test/support/ext4-model-tasks.ts). e2fsck judges what they leave.
// Usage: node build/test/fuzz/ext4-tasks.js --from S --seeds N [--json] [--trace]; 1,000 seeds: npm run fuzz -- ext4-tasks --seeds 1000
// Exits 1 after the first seed that fails, with its last steps and the command that repeats it. --trace prints every step.

import { runExt4Tasks } from '../support/ext4-model-tasks.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';

await fuzzProgram('ext4-tasks', (seed, trace) => runExt4Tasks(seed, seed % 2 === 0, trace));
