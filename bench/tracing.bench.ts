// What watching the engine costs: cached reads and writes of 4 KiB, alone, with a subscriber on every trace point, and alone again.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { traceNames } from '../src/base/tracer.ts';
import '../src/node.ts';
import { ExtentFile, now } from './support/extent-file.ts';
import { compare, KIB, MIB, type Side } from './support/harness.ts';

const SIZE = 16 * MIB;
const LENGTH = 4 * KIB;
const CALLS = 200_000;
const file = new ExtentFile({ size: SIZE });
const data = new Uint8Array(LENGTH).fill(0x5a);
const into = new Uint8Array(LENGTH);
for (let pos = 0; pos < SIZE; pos += MIB) now(file.write(pos, new Uint8Array(MIB)));
now(file.sync());

let events = 0;
const listen = (): void => {
  events++;
};
const watch = (on: typeof subscribe | typeof unsubscribe) => () => {
  for (const name of traceNames()) on(name, listen);
};

function sides(run: () => void): Side[] {
  return [
    { name: 'nobody watches', run },
    { name: 'all is watched', before: watch(subscribe), run, after: watch(unsubscribe) },
  ];
}

const calls = (call: (pos: number) => void) => () => {
  for (let i = 0, pos = 0; i < CALLS; i++, pos = (pos + LENGTH) % SIZE) call(pos);
};

for (const [title, run] of [
  ['cached read of 4 KiB', calls((pos) => now(file.read(pos, into)))],
  ['cached write of 4 KiB', calls((pos) => now(file.write(pos, data)))],
] as const) {
  events = 0;
  watch(subscribe)();
  run();
  watch(unsubscribe)();
  const perCall = events / CALLS;
  await compare({ title: `tracing: ${title}`, count: CALLS, unit: 'calls', sides: sides(run), notes: [`${perCall} events a call`] });
}
