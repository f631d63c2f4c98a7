// Random operations on whole trees of files, on ext4 volumes of many kinds and on a plain model, one tree for each seed
// (test/support/ext4-model-trees.ts, tree-ops.ts); e2fsck judges each volume whenever it is unmounted.
// Usage: node build/test/fuzz/ext4-trees.js --from S --seeds N [--json] [--trace]; 1,000 seeds: npm run fuzz -- ext4-trees --seeds 1000
// Exits 1 after the first seed that fails, with its last steps and the command that repeats it. --trace prints every step.

import { runExt4Tree } from '../support/ext4-model-trees.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';

await fuzzProgram('ext4-trees', (seed, trace) => runExt4Tree(seed, trace));
