// A file written in pieces of 1 MiB and made durable, then read back with nothing cached: through the engine onto a memory device,
// through node:fs onto the host's tmpfs, and as one copy between two buffers, which is the least that any of this can cost.
//
// Memory is half of the story, so both halves are shown: fresh memory costs a page fault for each 4 KiB at its first store, in this
// process or in the kernel; recycled memory was touched before (the engine's slabs and device, the tmpfs file's pages, the buffers).

import { fsyncSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { isPromise } from '../src/base/task.ts';
import { ExtentFile, now } from './support/extent-file.ts';
import { collectGarbage, compare, MIB, scaled } from './support/harness.ts';
import { HostFile } from './support/host-file.ts';

const SIZE = scaled(256 * MIB, MIB);
const data = new Uint8Array(MIB).fill(0x5a);
const into = new Uint8Array(MIB);
const host = new HostFile(SIZE);
const from = new Uint8Array(SIZE).fill(1);
const to = new Uint8Array(SIZE).fill(2);
const budget = SIZE + SIZE / 4;
const setting = `file of ${SIZE / MIB} MiB; engine: cache of ${budget / MIB} MiB, nothing written back before fsync; fs: ${host.kind}`;

function write(file: ExtentFile): void {
  for (let pos = 0; pos < SIZE; pos += MIB) now(file.write(pos, data));
  now(file.sync());
}

/** With the flusher beside the writer, who waits for it at the limit. */
async function writeThrottled(file: ExtentFile): Promise<void> {
  for (let pos = 0; pos < SIZE; pos += MIB) {
    const written = file.write(pos, data);
    if (isPromise(written)) await written;
  }
  await file.sync();
}

function read(file: ExtentFile): void {
  for (let pos = 0; pos < SIZE; pos += MIB) if (now(file.read(pos, into)) !== MIB) throw new Error(`short read at ${pos}`);
}

function hostWrite(): void {
  for (let pos = 0; pos < SIZE; pos += MIB) writeSync(host.fd, data, 0, MIB, pos);
  fsyncSync(host.fd);
}

const memcpy = { name: 'memcpy, recycled', run: () => to.set(from) };

{
  let fresh: ExtentFile | undefined;
  await compare({
    title: 'write 1 MiB at a time, fsync: fresh memory',
    count: SIZE / MIB,
    unit: 'MiB',
    sides: [
      {
        name: 'engine, all fresh',
        before: () => {
          fresh = new ExtentFile({ size: SIZE });
        },
        run: () => write(fresh as ExtentFile),
        after: () => {
          fresh?.close();
          fresh = undefined;
          collectGarbage('major'); // its memory, and that of the copies below
        },
      },
      { name: 'fs, fresh', before: () => ftruncateSync(host.fd, 0), run: hostWrite },
      { name: 'memcpy, fresh', run: () => new Uint8Array(SIZE).set(from) },
      memcpy,
    ],
    notes: [setting, 'the engine touches twice the memory of the others: its cache and its device'],
  });
}

// Data goes to the device while the processor still has it in its own cache.
const streaming = new ExtentFile({ size: SIZE, populate: true, budget: 32 * MIB, dirtyRatio: 0.5 });
await writeThrottled(streaming);
const recycled = new ExtentFile({ size: SIZE, populate: true });
write(recycled);
hostWrite();

await compare({
  title: 'write 1 MiB at a time, fsync: recycled memory',
  count: SIZE / MIB,
  unit: 'MiB',
  sides: [
    { name: 'engine', before: () => recycled.drop(), run: () => write(recycled) },
    { name: 'engine, cache of 32 MiB', before: () => streaming.drop(), run: () => writeThrottled(streaming) },
    { name: 'fs', run: hostWrite },
    memcpy,
  ],
  pairs: [
    ['fs', 'engine'],
    ['fs', 'engine, cache of 32 MiB'],
    ['engine', 'memcpy, recycled'],
    ['engine, cache of 32 MiB', 'memcpy, recycled'],
  ],
  notes: [
    setting,
    'engine: nothing cached at the start; with a cache of 32 MiB the flusher writes beside the writer, from 8 MiB of dirty data on',
    'fs: the pages of the file are there',
  ],
});

// One window for the whole call, as a device with large requests asks for, beside the usual 128 KiB.
const wide = new ExtentFile({ size: SIZE, populate: true, readaheadMax: MIB });
write(wide);
await compare({
  title: 'read 1 MiB at a time, nothing cached: recycled memory',
  count: SIZE / MIB,
  unit: 'MiB',
  sides: [
    { name: 'engine, window 1 MiB', before: () => wide.drop(), run: () => read(wide) },
    { name: 'engine, window 128 KiB', before: () => recycled.drop(), run: () => read(recycled) },
    {
      name: 'fs',
      run: () => {
        for (let pos = 0; pos < SIZE; pos += MIB) readSync(host.fd, into, 0, MIB, pos);
      },
    },
    memcpy,
  ],
  pairs: [
    ['fs', 'engine, window 128 KiB'],
    ['fs', 'engine, window 1 MiB'],
    ['engine, window 128 KiB', 'memcpy, recycled'],
    ['engine, window 1 MiB', 'memcpy, recycled'],
  ],
  notes: [setting, 'fs reads its page cache, which is where a tmpfs keeps its files: one copy, where a cold read is two'],
});

await compare({
  title: 'read 1 MiB at a time, nothing cached: fresh memory',
  count: SIZE / MIB,
  unit: 'MiB',
  sides: [
    {
      name: 'engine',
      before: () => {
        now(wide.drop());
        wide.cache.memory.trim();
      },
      run: () => read(wide),
    },
    {
      name: 'fs',
      run: () => {
        for (let pos = 0; pos < SIZE; pos += MIB) readSync(host.fd, into, 0, MIB, pos);
      },
    },
    memcpy,
  ],
  notes: [setting, 'engine: the cache has given its slabs back, and takes new ones'],
});
host.close();
