// A thread that ends the process when a seed of a random test does not end, or takes too much memory: what never returns cannot be stopped from
// within its own thread.

import { Worker } from 'node:worker_threads';

const SEED_MS_MAX = 60_000;
const RSS_MAX = 2 * 2 ** 30;

const WATCH = `
const { workerData } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const cell = new Int32Array(workerData.shared);
let seed = 0;
let since = Date.now();
setInterval(() => {
  const now = Atomics.load(cell, 0);
  if (now !== seed) [seed, since] = [now, Date.now()];
  const rss = process.memoryUsage.rss();
  const why = Date.now() - since > workerData.msMax ? 'does not end' : rss > workerData.rssMax ? 'takes ' + rss + ' bytes of memory' : '';
  if (seed === 0 || why === '') return;
  writeSync(1, 'seed ' + seed + ' failed: ' + why + '\\nrepeat: npm run fuzz -- ' + workerData.name + ' --from ' + seed + ' --seeds 1\\n');
  process.kill(process.pid, 'SIGKILL');
}, 500);
`;

/** `runSeed`, and after each seed the rejections that nobody has heard of; with a thread that watches over it. */
export function watched<Trace>(
  name: string,
  runSeed: (seed: number, trace?: Trace) => Promise<unknown>,
): (seed: number, trace?: Trace) => Promise<void> {
  const shared = new SharedArrayBuffer(4);
  const cell = new Int32Array(shared);
  const worker = new Worker(WATCH, { eval: true, workerData: { shared, name, msMax: SEED_MS_MAX, rssMax: RSS_MAX } });
  worker.unref();
  const unheard: unknown[] = [];
  process.on('unhandledRejection', (error) => unheard.push(error));
  return async (seed, trace) => {
    Atomics.store(cell, 0, seed);
    await runSeed(seed, trace);
    await new Promise((resolve) => setImmediate(resolve));
    Atomics.store(cell, 0, 0);
    const error = unheard.shift();
    if (error !== undefined) throw new Error('a rejection that nobody hears of', { cause: error });
  };
}
