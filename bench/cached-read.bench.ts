// Reads of 4 KiB from a file that is cached: through the engine, answered synchronously, against fs.readSync on the host's own cache.

import { readSync, writeSync } from 'node:fs';
import { Prng } from '../src/base/prng.ts';
import { ExtentFile, now } from './support/extent-file.ts';
import { compare, KIB, MIB, scaled } from './support/harness.ts';
import { HostFile } from './support/host-file.ts';

const SIZE = scaled(256 * MIB, MIB);
const LENGTH = 4 * KIB;
const READS = SIZE / LENGTH;

const ours = new ExtentFile({ size: SIZE });
const host = new HostFile(SIZE);
const into = new Uint8Array(LENGTH);
const data = new Uint8Array(MIB);
for (let i = 0; i < MIB; i++) data[i] = i % 251;
for (let pos = 0; pos < SIZE; pos += MIB) {
  now(ours.write(pos, data));
  writeSync(host.fd, data, 0, MIB, pos);
}
now(ours.sync());

const sequential = Float64Array.from({ length: READS }, (_, i) => i * LENGTH);
const prng = new Prng(1);
const random = Float64Array.from({ length: READS }, () => prng.below(READS) * LENGTH);

/** The same file, cached in folios of 4 KiB: as many look-ups in the tree as it can take. */
const small = new ExtentFile({ size: SIZE, orderMax: 0 });
for (let pos = 0; pos < SIZE; pos += MIB) now(small.write(pos, data));
now(small.sync());

for (const [order, positions] of [
  ['sequential', sequential],
  ['random', random],
] as const) {
  const read = (file: ExtentFile) => () => {
    for (const pos of positions) if (now(file.read(pos, into)) !== LENGTH) throw new Error(`short read at ${pos}`);
  };
  await compare({
    title: `cached read of 4 KiB, ${order}`,
    count: READS,
    unit: 'reads',
    sides: [
      { name: 'engine', run: read(ours) },
      { name: 'engine, 4 KiB folios', run: read(small) },
      {
        name: 'fs.readSync',
        run: () => {
          for (const pos of positions) if (readSync(host.fd, into, 0, LENGTH, pos) !== LENGTH) throw new Error(`short read at ${pos}`);
        },
      },
    ],
    notes: [`file of ${SIZE / MIB} MiB, one buffer; engine: folios of 1 MiB, and of 4 KiB; fs: ${host.kind}`],
  });
}
host.close();
