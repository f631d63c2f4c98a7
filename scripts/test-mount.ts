// Runs the tests that mount for real, one file after the other, since they share the kernel. Prints node's report.
// Usage: npm run test:mount [-- PART-OF-PATH ...] [--name REGEXP] [--node PATH | --node current]

import { runTests } from './run-tests.ts';
import { filesBelow } from './tree.ts';

const sources = filesBelow('test/mount').filter((file) => file.endsWith('.test.ts'));

if (sources.length === 0) console.log('test:mount: skipped, because test/mount holds no *.test.ts: nothing in this version mounts yet');
else process.exitCode = await runTests({ verb: 'run test:mount', sources, concurrency: 1 });
