// Reads of 4 KiB through a FileHandle, each awaited: a Volume over memfs, node:fs/promises on tmpfs, and the memfs package.

import { promises as nodeFs } from 'node:fs';
import { join } from 'node:path';
import { memfs } from 'memfs';
import { Prng } from '../src/base/prng.ts';
import { MemFs } from '../src/fs/memfs/mem-fs.ts';
import { Volume } from '../src/volume/volume.ts';
import { compare, KIB, MIB, type Side, scaled } from './support/harness.ts';
import { HostFolder } from './support/host-folder.ts';

const SIZE = scaled(64 * MIB, MIB);
const LENGTH = 4 * KIB;
const READS = SIZE / LENGTH;

/** What all three file handles have. */
interface Handle {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  write(buffer: Uint8Array, offset: number, length: number, position: number): Promise<unknown>;
  close(): Promise<void>;
}

const folder = new HostFolder(1, SIZE);
const volume = Volume.create(new MemFs());
const files: readonly [string, Handle][] = [
  ['Volume', await volume.open('/file', 'w+')],
  ['node:fs/promises', await nodeFs.open(join(folder.path, 'file'), 'w+')],
  ['memfs package', (await memfs().fs.promises.open('/file', 'w+')) as unknown as Handle],
];

const data = new Uint8Array(MIB);
for (let i = 0; i < MIB; i++) data[i] = i % 251;
for (const [, file] of files) for (let pos = 0; pos < SIZE; pos += MIB) await file.write(data, 0, MIB, pos);

const into = new Uint8Array(LENGTH);
const prng = new Prng(1);
const orders = {
  sequential: Float64Array.from({ length: READS }, (_, i) => i * LENGTH),
  random: Float64Array.from({ length: READS }, () => prng.below(READS) * LENGTH),
};

for (const [order, positions] of Object.entries(orders)) {
  const side = ([name, file]: readonly [string, Handle]): Side => ({
    name,
    run: async () => {
      for (const pos of positions) {
        const { bytesRead } = await file.read(into, 0, LENGTH, pos);
        if (bytesRead !== LENGTH) throw new Error(`short read at ${pos}`);
      }
    },
  });
  await compare({
    title: `FileHandle.read of 4 KiB, cached, ${order}`,
    count: READS,
    unit: 'reads',
    sides: files.map(side),
    notes: [`file of ${SIZE / MIB} MiB, one buffer, one read at a time; node:fs/promises: ${folder.kind}`],
  });
}
for (const [, file] of files) await file.close();
await volume.close();
folder.close();
