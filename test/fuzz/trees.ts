// Random operations on whole trees of files, on memfs through a Vfs and on a plain model, one tree for each seed (test/support/tree-ops.ts).
// Usage: node build/test/fuzz/trees.js --from S --seeds N [--json] [--trace]; 10,000 seeds: npm run fuzz -- trees --seeds 10000
// Exits 1 after the first seed that fails, with its last steps and the command that repeats it. --trace prints every step.

import { parseArgs } from 'node:util';
import { runTree } from '../support/tree-ops.ts';

const { values } = parseArgs({
  options: {
    from: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '200' },
    json: { type: 'boolean' },
    trace: { type: 'boolean' },
  },
});
const from = Number(values.from);
const seeds = Number(values.seeds);
const started = Date.now();
let passed = 0;
let failure: { seed: number; error: string } | undefined;
for (let seed = from; seed < from + seeds && failure === undefined; seed++) {
  try {
    await runTree(seed, values.trace === true ? (line) => console.log(line) : undefined);
    passed++;
  } catch (error) {
    failure = { seed, error: describe(error) };
  }
}
const ms = Date.now() - started;
if (values.json === true) console.log(JSON.stringify({ passed, from, ms, failure }));
else if (failure === undefined) console.log(`trees: ${passed} seeds passed, from ${from}, in ${(ms / 1000).toFixed(1)} s`);
if (failure !== undefined) {
  console.log(`seed ${failure.seed} failed: ${failure.error}\nrepeat: npm run fuzz -- trees --from ${failure.seed} --seeds 1`);
  process.exitCode = 1;
}

/** The message, and the stacks of what is behind it. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  let text = error.message;
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) text += `\ncaused by ${cause.stack ?? cause.message}`;
  return text;
}
