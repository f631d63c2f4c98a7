import { relative } from 'node:path';
import { Prng } from '../../src/base/prng.ts';

/**
 * Runs `fn` for `count` seeds, each with a generator of its own.
 *
 * SEED=n runs that seed only, SEEDS=count another number of them.
 * Errors:  the first failure, with the seed and the command that repeats it.
 */
export async function forEachSeed(name: string, count: number, fn: (prng: Prng, seed: number) => unknown): Promise<void> {
  const only = number('SEED');
  const first = only ?? 1;
  const last = only ?? number('SEEDS') ?? count;
  for (let seed = first; seed <= last; seed++) {
    try {
      await fn(new Prng(seed), seed);
    } catch (error) {
      const file = relative(process.cwd(), process.argv[1] ?? '');
      throw new Error(`${name}: seed ${seed} failed: ${describe(error)}\nrepeat: SEED=${seed} node --test ${file}`, { cause: error });
    }
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function number(variable: string): number | undefined {
  const text = process.env[variable];
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${variable} takes a number, not: ${text}`);
  return value;
}
