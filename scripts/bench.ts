// Runs every bench/*.bench.ts, one after the other, so that they do not disturb each other. Prints what they print.
// Usage: npm run bench [-- PART-OF-NAME ...] [--FLAG=VALUE ...]; flags go to the programs.

import { basename } from 'node:path';
import { compiled, filesBelow, matches, runProgram } from './tree.ts';

const args = process.argv.slice(2);
const flags = args.filter((arg) => arg.startsWith('-'));
const patterns = args.filter((arg) => !arg.startsWith('-'));
const programs = filesBelow('bench').filter((file) => file.endsWith('.bench.ts') && matches(basename(file), patterns));
if (programs.length === 0) {
  console.error(`bench: no bench/*.bench.ts matches: ${patterns.join(' ') || '(all)'}`);
  process.exitCode = 1;
}

for (const program of programs) {
  console.log(`== ${basename(program, '.bench.ts')}`);
  const { code } = await runProgram(process.execPath, ['--enable-source-maps', '--expose-gc', compiled(program), ...flags], {
    stdio: 'inherit',
  });
  if (code === 0) continue;
  console.error(`exit ${code}; repeat: npm run bench -- ${[basename(program, '.bench.ts'), ...flags].join(' ')}`);
  process.exitCode = 1;
}
