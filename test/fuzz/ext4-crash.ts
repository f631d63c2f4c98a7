// Power cuts under ext4: for each seed a workload on a volume, and a few of the states that its device may be left in
// (test/support/ext4-crash.ts). Each fourth has a device that fails now and then.
// Usage: node build/test/fuzz/ext4-crash.js --from S --seeds N [--json] [--trace]; 200 seeds are 1,000 states: npm run fuzz -- ext4-crash
// Exits 1 after the first seed that fails, with the state, the operations before it, and the command that repeats it.

import { runCrash, runFailing } from '../support/ext4-crash.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';

const why = whyNoE2fsprogs();
if (why === undefined) await fuzzProgram('ext4-crash', (seed, trace) => (seed % 4 === 0 ? runFailing : runCrash)(seed, 5, trace));
else console.log(`ext4-crash: not run: ${why}`);
