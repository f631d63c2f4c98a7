// Writes of 4 KiB at random positions of a file, then fsync: through the engine onto a memory device, against fs.writeSync on the
// host's tmpfs, at the same positions.

import { fsyncSync, ftruncateSync, writeSync } from 'node:fs';
import { Prng } from '../src/base/prng.ts';
import { ExtentFile, now } from './support/extent-file.ts';
import { compare, KIB, MIB, scaled } from './support/harness.ts';
import { HostFile } from './support/host-file.ts';

const SIZE = scaled(512 * MIB, MIB);
const LENGTH = 4 * KIB;
const WRITES = SIZE / LENGTH / 4;
const data = new Uint8Array(LENGTH).fill(0x5a);
const fill = new Uint8Array(MIB).fill(0x11);
const host = new HostFile(SIZE);
for (let pos = 0; pos < SIZE; pos += MIB) writeSync(host.fd, fill, 0, MIB, pos);

const prng = new Prng(1);
const positions = Float64Array.from({ length: WRITES }, () => prng.below(SIZE / LENGTH) * LENGTH);

const uncached = new ExtentFile({ size: SIZE, populate: true });
const cached = new ExtentFile({ size: SIZE, populate: true });
for (const file of [cached, uncached]) {
  for (let pos = 0; pos < SIZE; pos += MIB) now(file.write(pos, fill));
  now(file.sync());
}

function write(file: ExtentFile): void {
  for (const pos of positions) now(file.write(pos, data));
  now(file.sync());
}

function hostWrite(host: HostFile): void {
  for (const pos of positions) writeSync(host.fd, data, 0, LENGTH, pos);
  fsyncSync(host.fd);
}

const sparse = new HostFile(SIZE);

await compare({
  title: 'write 4 KiB at random positions, fsync',
  count: WRITES,
  unit: 'writes',
  sides: [
    { name: 'engine, file cached', run: () => write(cached) },
    { name: 'engine, nothing cached', before: () => uncached.drop(), run: () => write(uncached) },
    { name: 'fs, file there', run: () => hostWrite(host) },
    {
      name: 'fs, file empty',
      before: () => {
        ftruncateSync(sparse.fd, 0);
        ftruncateSync(sparse.fd, SIZE);
      },
      run: () => hostWrite(sparse),
    },
  ],
  pairs: [
    ['fs, file there', 'engine, file cached'],
    ['fs, file empty', 'engine, nothing cached'],
    ['fs, file there', 'engine, nothing cached'],
  ],
  notes: [
    `file of ${SIZE / MIB} MiB, seed ${prng.seed}; engine: cache of ${(SIZE * 1.25) / MIB} MiB, nothing written back before fsync; fs: ${host.kind}`,
    'cached: folios of 1 MiB, dirty block by block; not cached: each first write of a page makes a folio of 4 KiB in recycled memory',
    'fs: the pages of the file are there, or are made by the first write to each',
  ],
});
host.close();
sparse.close();
