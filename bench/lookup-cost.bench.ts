// What a name costs as its directory grows from 10 to 1,000,000 of them: stat with the name cached, and with nothing cached. And what a
// file costs: bytes of memory, beside the memfs package. --scale=X takes X times as many names in the larger directories.

import { memfs } from 'memfs';
import { IovIter } from '../src/base/iov-iter.ts';
import { Prng } from '../src/base/prng.ts';
import { MemFs } from '../src/fs/memfs/mem-fs.ts';
import { ROOT } from '../src/vfs/caller.ts';
import { O_CREAT, O_RDWR } from '../src/vfs/uapi.ts';
import { Vfs } from '../src/vfs/vfs.ts';
import { now } from './support/extent-file.ts';
import { collectGarbage, compare, scaled, table } from './support/harness.ts';

const SIZES = [10, 1000, 100_000, 1_000_000].map((size) => (size <= 1000 ? size : scaled(size, 1000)));
const LOOKUPS = scaled(50_000, 1000);
/** Names looked up before everything cached is dropped again: as many as the smallest directory has. */
const COLD_RUN = 10;

function create(vfs: Vfs, path: string, data?: Uint8Array): void {
  const file = now(vfs.open(ROOT, path, O_CREAT | O_RDWR, 0o644));
  if (data !== undefined) now(file.write(ROOT, new IovIter(data), 0));
  now(file.close(ROOT));
}

// A tree of its own for each size: what is cached of one is nothing to the others.
const trees = SIZES.map((size) => {
  const vfs = new Vfs(new MemFs(), { dentryBytes: 2 ** 31 });
  now(vfs.mkdir(ROOT, '/d', 0o755));
  for (let i = 0; i < size; i++) create(vfs, `/d/file-${i}`);
  const prng = new Prng(size);
  // Distinct within a run, so that each is cold once.
  const paths = Array.from({ length: LOOKUPS }, (_, i) => `/d/file-${size === COLD_RUN ? i % COLD_RUN : prng.below(size)}`);
  return { size, vfs, paths };
});

for (const isCold of [false, true]) {
  await compare({
    title: `stat of a name, ${isCold ? 'nothing cached' : 'cached'}`,
    count: LOOKUPS,
    unit: 'lookups',
    sides: trees.map(({ size, vfs, paths }) => ({
      name: named(size),
      before: () => {
        vfs.dropCaches();
        if (!isCold) for (const path of paths) now(vfs.stat(ROOT, path));
      },
      run: () => {
        for (const [i, path] of paths.entries()) {
          if (isCold && i % COLD_RUN === 0) vfs.dropCaches();
          now(vfs.stat(ROOT, path));
        }
      },
    })),
    notes: isCold
      ? [`all that is cached is dropped after each ${COLD_RUN} lookups, the directory with it`]
      : ['names in random order: with more of them the processor caches less, see below'],
  });
}

// What the machine does to any table of that size: the same names in a plain Map, each leading to an object that is looked into.
await compare({
  title: 'the same names in a Map',
  count: LOOKUPS,
  unit: 'lookups',
  sides: trees.map(({ size, paths }) => {
    const map = new Map<string, { size: number }>();
    for (let i = 0; i < size; i++) map.set(`file-${i}`, { size: 0 });
    return {
      name: named(size),
      run: () => {
        for (const path of paths) if (map.get(path.slice(3))?.size !== 0) throw new Error(`no ${path}`);
      },
    };
  }),
});
trees.length = 0;

// Memory.

const FILES = scaled(100_000, 1000);
const BLOCK = new Uint8Array(4096).fill(1);

interface Used {
  /** Bytes on the heap, and in buffers. */
  readonly heap: number;
  readonly buffers: number;
}

async function used(): Promise<Used> {
  // What a function that has returned still held is garbage in a later turn only.
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage('major');
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers };
}

function perFile(what: string, from: Used, to: Used): Record<string, string | number> {
  const each = (bytes: number): number => Math.round(bytes / FILES);
  return { what, 'heap bytes a file': each(to.heap - from.heap), 'buffer bytes a file': each(to.buffers - from.buffers) };
}

async function memoryOfOurs(kind: string, data?: Uint8Array): Promise<void> {
  const start = await used();
  const vfs = new Vfs(new MemFs(), { dentryBytes: 2 ** 31 });
  for (let i = 0; i < FILES; i++) create(vfs, `/file-${i}`, data);
  now(vfs.syncfs(ROOT));
  rows.push(perFile(`memfs, ${kind}, every name cached`, start, await used()));
  vfs.dropCaches();
  rows.push(perFile(`memfs, ${kind}, no name cached`, start, await used()));
  now(vfs.close());
}

async function memoryOfPackage(kind: string, data?: Uint8Array): Promise<void> {
  const start = await used();
  const { fs } = memfs();
  for (let i = 0; i < FILES; i++) {
    if (data === undefined) fs.closeSync(fs.openSync(`/file-${i}`, 'w'));
    else fs.writeFileSync(`/file-${i}`, data);
  }
  rows.push(perFile(`memfs package, ${kind}`, start, await used()));
  fs.statSync('/file-0');
}

const rows: Record<string, string | number>[] = [];
for (const [kind, data] of [['empty'], ['of 4 KiB', BLOCK]] as const) {
  await memoryOfOurs(kind, data);
  await memoryOfPackage(kind, data);
}
table('memory of a file', rows, [`${FILES} files in one directory`]);

function named(size: number): string {
  return `${size.toLocaleString('en-US')} names`;
}
