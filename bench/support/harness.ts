// Compares ways to do one thing: each round runs every side once, so that what slows the machine down for a while slows all of them.
//
// Flags: --rounds=N (7), --warmup=N (3), --scale=X (1: multiplies the sizes that a program says are scalable), --json (one line of JSON for each table
// instead of text; the same facts).

import { cpus } from 'node:os';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** One way to do it. */
export interface Side {
  readonly name: string;
  /** What has to be there before each round. Not timed. */
  before?(): MaybePromise<unknown>;
  /** The work. Timed, unless it answers with Measured; a promise is waited for only if it is one, so that a synchronous side pays for no turn. */
  run(): MaybePromise<unknown>;
  /** After each round. Not timed. */
  after?(): MaybePromise<unknown>;
}

/** What a side's work took, for a side that knows it better. */
export class Measured {
  readonly ms: number;

  constructor(ms: number) {
    this.ms = ms;
  }
}

export interface Comparison {
  readonly title: string;
  /** Work of one run, for the same unit on all sides: operations, or MiB. */
  readonly count: number;
  readonly unit: string;
  readonly sides: readonly Side[];
  /** What is compared, [name, name of what it is divided by]; all others by the first side if absent. */
  readonly pairs?: readonly (readonly [string, string])[];
  readonly notes?: readonly string[];
}

interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export interface Result {
  /** Milliseconds of each round, by the name of the side. */
  readonly samples: ReadonlyMap<string, readonly number[]>;
}

/** The value of --NAME=value, or --NAME as ''. */
export function flag(name: string): string | undefined {
  for (const arg of process.argv.slice(2)) {
    if (arg === `--${name}`) return '';
    if (arg.startsWith(`--${name}=`)) return arg.slice(name.length + 3);
  }
  return undefined;
}

export function numberFlag(name: string, fallback: number): number {
  const value = flag(name);
  if (value === undefined) return fallback;
  const number = Number(value);
  if (!(number > 0)) throw new RangeError(`--${name} takes a number above 0, not ${value}`);
  return number;
}

export const rounds = Math.max(1, Math.floor(numberFlag('rounds', 7)));
const warmupRounds = Math.max(1, Math.floor(numberFlag('warmup', 3)));
const isJson = flag('json') !== undefined;

/** `bytes` times --scale, in whole `unit`s, at least one. */
export function scaled(bytes: number, unit: number): number {
  return Math.max(1, Math.round((bytes * numberFlag('scale', 1)) / unit)) * unit;
}

/**
 * Collects garbage: the young generation, so that no side pays for what another left; all of it where memory is counted or freed.
 *
 * A full collection before each round would shrink the young generation, whose pages each round then faults in anew: a cost of this
 * harness, not of any side, and a large one in a virtual machine.
 */
export function collectGarbage(type: 'minor' | 'major'): void {
  const { gc } = globalThis as { gc?: (options?: { type: 'minor' }) => void };
  if (gc === undefined) throw new Error('start with node --expose-gc, or with npm run bench');
  if (type === 'minor') gc({ type });
  else gc(); // with options Node 20 collects the young generation only, whatever they say
}

/** Runs all sides --warmup times, then --rounds times, in turn, and prints what came out. */
export async function compare(comparison: Comparison): Promise<Result> {
  const { sides } = comparison;
  const samples = new Map<string, number[]>(sides.map(({ name }) => [name, []]));
  for (let round = -warmupRounds; round < rounds; round++) {
    for (const side of sides) {
      const ms = await time(side);
      if (round >= 0) (samples.get(side.name) as number[]).push(ms);
    }
  }
  report(comparison, samples);
  return { samples };
}

async function time(side: Side): Promise<number> {
  await side.before?.();
  collectGarbage('minor');
  const start = performance.now();
  const done = side.run();
  const answer = isPromise(done) ? await done : done;
  const ms = performance.now() - start;
  await side.after?.();
  return answer instanceof Measured ? answer.ms : ms;
}

function report(comparison: Comparison, samples: ReadonlyMap<string, readonly number[]>): void {
  const { title, count, unit, sides, notes = [] } = comparison;
  const first = sides[0] as Side;
  const pairs = comparison.pairs ?? sides.slice(1).map(({ name }) => [name, first.name] as const);
  const times = sides.map(({ name }) => ({ name, ...spread(samples.get(name) as number[]), samples: samples.get(name) as number[] }));
  const ratios = pairs.map(([of, to]) => {
    const divisors = samples.get(to) as number[];
    return { of, to, ...spread((samples.get(of) as number[]).map((ms, round) => ms / (divisors[round] as number))) };
  });
  if (isJson) {
    console.log(JSON.stringify({ title, count, unit, rounds, node: process.version, cpu: cpus()[0]?.model, times, ratios, notes }));
    return;
  }
  console.log(`${title}: ${rate(count)} ${unit} a round, ${rounds} rounds, Node ${process.version}`);
  for (const note of notes) console.log(`  ${note}`);
  const width = Math.max(...sides.map(({ name }) => name.length), ...ratios.map(({ of, to }) => of.length + to.length + 3));
  console.log(`  ${'ms'.padEnd(width)}  ${head()}  ${`${unit}/s`.padStart(12)}  ${`us/${unit}`.padStart(12)}`);
  for (const { name, min, median, max } of times) {
    const perSecond = rate((count * 1000) / median).padStart(12);
    console.log(
      `  ${name.padEnd(width)}  ${columns(min, median, max)}  ${perSecond}  ${((median * 1000) / count).toFixed(3).padStart(12)}`,
    );
  }
  console.log(`  ${'times as long, pair by pair'.padEnd(width)}  ${head()}`);
  for (const { of, to, min, median, max } of ratios) console.log(`  ${`${of} / ${to}`.padEnd(width)}  ${columns(min, median, max)}`);
  console.log('');
}

/** A table of facts that are counted, not timed. */
export function table(title: string, rows: readonly Readonly<Record<string, string | number>>[], notes: readonly string[] = []): void {
  if (isJson) {
    console.log(JSON.stringify({ title, node: process.version, cpu: cpus()[0]?.model, rows, notes }));
    return;
  }
  console.log(title);
  for (const note of notes) console.log(`  ${note}`);
  const keys = Object.keys(rows[0] ?? {});
  const cells = [keys, ...rows.map((row) => keys.map((key) => String(row[key])))];
  const widths = keys.map((_, column) => Math.max(...cells.map((row) => (row[column] as string).length)));
  for (const row of cells) console.log(`  ${row.map((cell, column) => pad(cell, widths[column] as number, column)).join('  ')}`);
  console.log('');
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2;
  return { min: sorted[0] as number, median, max: sorted[sorted.length - 1] as number };
}

function head(): string {
  return ['min', 'median', 'max'].map((name) => name.padStart(9)).join(' ');
}

function columns(...values: number[]): string {
  return values.map((value) => value.toFixed(2).padStart(9)).join(' ');
}

function rate(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toFixed(value >= 10 ? 0 : 2);
}
