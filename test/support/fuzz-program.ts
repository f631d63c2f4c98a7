import { parseArgs } from 'node:util';

/**
 * The whole of a program in test/fuzz: runs `runSeed` for each seed that the command line asks for, --from S --seeds N, and prints what came
 * of it, with --json as one line of JSON.
 *
 * `trace` prints a line if --trace is given, and is undefined otherwise. Exits 1 after the first seed that fails, with the command that
 * repeats it.
 */
export async function fuzzProgram(
  name: string,
  runSeed: (seed: number, trace: ((line: string) => void) | undefined) => unknown,
): Promise<void> {
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
  const trace = values.trace === true ? (line: string) => console.log(line) : undefined;
  const started = Date.now();
  let passed = 0;
  let failure: { seed: number; error: string } | undefined;
  for (let seed = from; seed < from + seeds && failure === undefined; seed++) {
    try {
      await runSeed(seed, trace);
      passed++;
    } catch (error) {
      failure = { seed, error: describe(error) };
    }
  }
  if (values.json === true) console.log(JSON.stringify({ passed, from, ms: Date.now() - started, failure }));
  else if (failure === undefined)
    console.log(`${name}: ${passed} seeds passed, from ${from}, in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  if (failure !== undefined) {
    console.log(`seed ${failure.seed} failed: ${failure.error}\nrepeat: npm run fuzz -- ${name} --from ${failure.seed} --seeds 1`);
    process.exitCode = 1;
  }
}

/** The stack, and those of what is behind it. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  let text = error.stack ?? error.message;
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) text += `\ncaused by ${cause.stack ?? cause.message}`;
  return text;
}
