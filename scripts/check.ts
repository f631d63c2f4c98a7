// Runs every check, two at a time, and prints each one's result; what a failed check printed, in full. Exits 1 if any failed.
// Usage: npm run check [-- NAME ...]

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { matches, root, runProgram, tool } from './tree.ts';

interface Check {
  name: string;
  says: string;
  repeat: string;
  file: string;
  args: string[];
}

const checks: Check[] = [
  {
    name: 'types',
    says: 'everything compiles',
    repeat: 'npx tsc',
    file: tool('tsc'),
    args: ['-p', 'tsconfig.json', '--noEmit', '--tsBuildInfoFile', 'build/tsconfig.check.tsbuildinfo'],
  },
  {
    name: 'engine',
    says: 'the engine compiles without Node and DOM',
    repeat: 'npx tsc -p tsconfig.engine.json',
    file: tool('tsc'),
    args: ['-p', 'tsconfig.engine.json'],
  },
  {
    name: 'lint',
    says: 'lint and format',
    repeat: 'npx biome check; npm run fix',
    file: tool('biome'),
    args: ['check', '--error-on-warnings'],
  },
  {
    name: 'layers',
    says: 'arrows, cycles, orphans',
    repeat: 'npm run check -- layers',
    file: process.execPath,
    args: [script('check-layers')],
  },
  {
    name: 'tidy',
    says: 'what does not belong in a tree',
    repeat: 'npm run check -- tidy',
    file: process.execPath,
    args: [script('check-tidy')],
  },
];

const chosen = checks.filter((check) => matches(check.name, process.argv.slice(2)));
if (chosen.length === 0) throw new Error(`no such check; there are: ${checks.map((check) => check.name).join(' ')}`);
if (!existsSync(join(root, 'node_modules'))) throw new Error('node_modules is missing: npm ci');

const results = await Promise.all(
  chosen.map(async (check) => {
    const started = Date.now();
    const result = await runProgram(check.file, check.args);
    return { check, ...result, seconds: ((Date.now() - started) / 1000).toFixed(1) };
  }),
);

for (const { check, code, output, seconds } of results) {
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${check.name}: ${check.says} (${seconds} s)`);
  // The project's own checks say what they counted; compiler and linter are interesting only when they complain.
  if (code !== 0 || check.file === process.execPath) console.log(output.trimEnd().replaceAll(/^/gm, '  '));
  if (code !== 0) console.log(`  repeat: ${check.repeat}`);
}

const failed = results.filter((result) => result.code !== 0).map((result) => result.check.name);
console.log(failed.length === 0 ? 'check: all passed' : `check: FAILED: ${failed.join(' ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;

function script(name: string): string {
  return `build/scripts/${name}.js`;
}
