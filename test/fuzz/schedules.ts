// Random schedules of concurrent operations on the test filesystem, one world for each seed (test/support/schedule-world.ts).
// Usage: node build/test/fuzz/schedules.js --from S --seeds N [--json] [--trace]
// Exits 1 after the first seed that fails, with the command that repeats it. --trace prints every operation.

import { parseArgs } from 'node:util';
import { runSchedule } from '../support/schedule-world.ts';

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
    await runSchedule(seed, values.trace === true ? (line) => console.log(line) : undefined);
    passed++;
  } catch (error) {
    failure = { seed, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    if (error instanceof Error && error.cause instanceof Error) failure.error += `\ncaused by ${error.cause.stack ?? error.cause.message}`;
  }
}
if (values.json === true) console.log(JSON.stringify({ passed, from, ms: Date.now() - started, failure }));
else if (failure === undefined)
  console.log(`schedules: ${passed} seeds passed, from ${from}, in ${((Date.now() - started) / 1000).toFixed(1)} s`);
if (failure !== undefined) {
  console.log(`seed ${failure.seed} failed: ${failure.error}\nrepeat: npm run fuzz -- schedules --from ${failure.seed} --seeds 1`);
  process.exitCode = 1;
}
