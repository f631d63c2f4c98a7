// Random operations on whole trees of files, on memfs through a Vfs and on a plain model, one tree for each seed (test/support/tree-ops.ts).
// Usage: node build/test/fuzz/trees.js --from S --seeds N [--json] [--trace]; 10,000 seeds: npm run fuzz -- trees --seeds 10000
// Exits 1 after the first seed that fails, with its last steps and the command that repeats it. --trace prints every step.

import { fuzzProgram } from '../support/fuzz-program.ts';
import { runTree } from '../support/tree-ops.ts';

await fuzzProgram('trees', (seed, trace) => runTree(seed, trace));
