// Runs every test that needs no mount: beside the sources, in test/ and of the scripts. Prints node's report.
// Usage: npm test [-- PART-OF-PATH ...] [--name REGEXP] [--node PATH | --node current]

import { runTests } from './run-tests.ts';
import { filesBelow } from './tree.ts';

const sources = ['src', 'test', 'scripts']
  .flatMap((folder) => filesBelow(folder))
  .filter((file) => file.endsWith('.test.ts'))
  .filter((file) => !file.startsWith('test/mount/') && !file.startsWith('test/fuzz/'));

process.exitCode = await runTests({ verb: 'test', sources });
