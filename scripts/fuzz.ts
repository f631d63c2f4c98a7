// Runs every program in test/fuzz over a range of seeds, in parallel over the cores. Prints how many seeds passed, and for a failing seed
// the command that repeats it.
// Usage: npm run fuzz [-- PART-OF-NAME ...] [--seeds N] [--from S] [--minutes M]
// A program is test/fuzz/NAME.ts: `--from S --seeds N` runs the seeds S .. S+N-1, exits 0 or 1, and prints for a failure
// `seed N failed: ... repeat: ...`. With --minutes and no --from the first seed is taken from the clock, so that each run sees new ones.

import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { compiled, filesBelow, matches, plural, runProgram } from './tree.ts';

const seedsDefault = 200;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: 'string' }, from: { type: 'string' }, minutes: { type: 'string' } },
});
const minutes = number('minutes', values.minutes);
const from = number('from', values.from) ?? (minutes === undefined ? 1 : Math.floor(Date.now() / 1000));
const seeds = number('seeds', values.seeds) ?? (minutes === undefined ? seedsDefault : Number.POSITIVE_INFINITY);
const workers = availableParallelism();

const programs = filesBelow('test/fuzz')
  .filter((file) => /^test\/fuzz\/[^/]+\.ts$/.test(file) && !file.endsWith('.test.ts') && !file.endsWith('.d.ts'))
  .filter((file) => matches(basename(file, '.ts'), positionals));
if (programs.length === 0) {
  console.error(`fuzz: no program in test/fuzz matches: ${positionals.join(' ') || '(all)'}`);
  process.exitCode = 1;
}

for (const program of programs) {
  const deadlineMs = minutes === undefined ? Number.POSITIVE_INFINITY : Date.now() + (minutes * 60_000) / programs.length;
  if (!(await fuzz(program, deadlineMs))) process.exitCode = 1;
}

/** True if every seed passed. After the first failure no new chunk starts. */
async function fuzz(program: string, deadlineMs: number): Promise<boolean> {
  const name = basename(program, '.ts');
  // Small enough that the cores end together, large enough that starting Node (40 ms) does not count.
  const chunk = Number.isFinite(seeds) ? Math.max(1, Math.ceil(seeds / (workers * 4))) : 50;
  const started = Date.now();
  const failures: string[] = [];
  let next = 0;
  let passed = 0;

  const work = async () => {
    while (failures.length === 0 && next < seeds && Date.now() < deadlineMs) {
      const first = from + next;
      const count = Math.min(chunk, seeds - next);
      next += count;
      const args = ['--enable-source-maps', compiled(program), '--from', String(first), '--seeds', String(count)];
      const { code, output } = await runProgram(process.execPath, args);
      if (code === 0) passed += count;
      else failures.push(describe(name, first, count, code, output));
      if (process.stdout.isTTY) process.stdout.write(`\r${name}: ${passed}${Number.isFinite(seeds) ? ` of ${seeds}` : ''} seeds`);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));

  if (process.stdout.isTTY) process.stdout.write('\r\x1b[K');
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`${name}: ${plural(passed, 'seed')} passed, from ${from}, in ${seconds} s${failures.length > 0 ? '; FAILED' : ''}`);
  for (const failure of failures) console.error(failure);
  return failures.length === 0;
}

function describe(name: string, first: number, count: number, code: number, output: string): string {
  const failedSeeds = [...output.matchAll(/^seed (\d+) failed/gm)].map((match) => Number(match[1]));
  const repeats = failedSeeds.length > 0 ? failedSeeds.map((seed) => repeat(name, seed, 1)) : [repeat(name, first, count)];
  const tail = output.trimEnd().split('\n').slice(-60).join('\n');
  return [tail, `exit ${code}`, ...repeats].join('\n');
}

function repeat(name: string, first: number, count: number): string {
  return `repeat: npm run fuzz -- ${name} --from ${first} --seeds ${count}`;
}

function number(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!(value >= 0) || text.trim() === '') throw new Error(`--${flag} takes a number, not: ${text}`);
  return value;
}
