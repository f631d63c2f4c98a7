// An ext4 image, mounted: by this project, by Debian's fuse2fs, and by the kernel through a loop device. The rows of one comparison are one
// use: data read and written, files made, listed and removed, programs that do so.
//
// Needs root, fuse2fs, fio. Flags: --rows=PART,PART (all); --scale=X (sizes and numbers of files); --at=DIRECTORY (where the images lie);
// --old=SRC (the folder `src` of another build takes part too); --without=NAME,NAME (kernel, say); --profile=DIRECTORY (writes profiles of the
// serving threads there).

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Prng } from '../src/base/prng.ts';
import { Contest, type Contestant, fuse2fs, kernel, ours, run } from './support/ext4-sides.ts';
import { type Comparison, compare, flag, KIB, Measured, MIB, type Side, scaled } from './support/harness.ts';

const SIZE = scaled(128 * MIB, MIB);
const FILES = scaled(10_000, 1);
const TREE_FILES = scaled(2000, 1);
const RANDOM_READS = scaled(16_000, 16);
const FSYNCS = scaled(200, 1);
const RANDOM_WRITES = scaled(4000, 1);

interface Row {
  readonly title: string;
  readonly count: number;
  readonly unit: string;
  before?(each: Contestant): unknown;
  run(each: Contestant): unknown;
}

const piece = new Uint8Array(MIB).fill(0x5a);
const block = new Uint8Array(4 * KIB).fill(0xa5);

function writeLarge(path: string): void {
  const fd = openSync(path, 'w');
  for (let pos = 0; pos < SIZE; pos += MIB) writeSync(fd, piece, 0, MIB, pos);
  fsyncSync(fd);
  closeSync(fd);
}

function readLarge(path: string): void {
  const fd = openSync(path, 'r');
  for (let pos = 0; pos < SIZE; pos += MIB) if (readSync(fd, piece, 0, MIB, pos) !== MIB) throw new Error(`short read at ${pos}`);
  closeSync(fd);
}

function hasLarge(each: Contestant): void {
  if (!exists(each.path('large'))) writeLarge(each.path('large'));
}

/** Milliseconds that fio worked, without its start. */
function fio(each: Contestant, jobs: number, total: number, ...options: string[]): Measured {
  const args = ['--name=x', `--filename=${each.path('large')}`, `--size=${SIZE}`, '--bs=4k', '--ioengine=psync', '--thread'];
  const counts = [`--numjobs=${jobs}`, `--number_ios=${total / jobs}`, '--group_reporting', '--invalidate=0', '--fallocate=none'];
  const output = execFileSync('fio', [...args, ...counts, ...options, '--output-format=json'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const report = JSON.parse(output.slice(output.indexOf('{'))) as FioReport;
  const [job] = report.jobs;
  if (job === undefined || job.error !== 0) throw new Error(`fio failed: ${output}`);
  return new Measured(job.job_runtime / jobs);
}

interface FioReport {
  readonly jobs: readonly { readonly error: number; readonly job_runtime: number }[];
}

function makeFiles(folder: string): void {
  mkdirSync(folder);
  for (let i = 0; i < FILES; i++) {
    const fd = openSync(`${folder}/file-${i}`, 'wx');
    writeSync(fd, block);
    closeSync(fd);
  }
}

function hasFiles(each: Contestant): void {
  if (!exists(each.path('files'))) makeFiles(each.path('files'));
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function remove(path: string): void {
  run('rm', '-rf', path);
}

/** A tree as of sources: small files, some larger ones, a few directories deep. The same for each seed. */
function makeTree(folder: string): void {
  const prng = new Prng(5);
  const folders = [folder];
  mkdirSync(folder);
  for (let i = 0; i < TREE_FILES; i++) {
    if (i % 20 === 0) {
      const made = join(folders[prng.below(folders.length)] as string, `folder-${i}`);
      mkdirSync(made);
      folders.push(made);
    }
    const size = prng.below(16) === 0 ? prng.below(256 * KIB) : prng.below(12 * KIB);
    writeFileSync(join(folders[prng.below(folders.length)] as string, `file-${i}.txt`), prng.bytes(size));
  }
}

const scratch = mkdtempSync(join(tmpdir(), 'iomap-ext4-tree-'));
process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
const archive = join(scratch, 'tree.tar');
makeTree(join(scratch, 'tree'));
run('tar', 'cf', archive, '-C', scratch, 'tree');

function extract(each: Contestant, name: string): void {
  mkdirSync(each.path(name));
  run('tar', 'xf', archive, '-C', each.path(name));
}

async function withTree(each: Contestant): Promise<void> {
  if (!exists(each.path('from'))) extract(each, 'from');
}

const MIBS = SIZE / MIB;
const rows: readonly Row[] = [
  {
    title: 'sequential write and fsync',
    ...{ count: MIBS, unit: 'MiB' },
    before: (each) => remove(each.path('large')),
    run: (each) => writeLarge(each.path('large')),
  },
  {
    title: 'sequential read, cold',
    ...{ count: MIBS, unit: 'MiB' },
    before: async (each) => {
      hasLarge(each);
      await each.cool();
    },
    run: (each) => readLarge(each.path('large')),
  },
  {
    title: 'sequential read, warm',
    ...{ count: MIBS, unit: 'MiB' },
    before: (each) => {
      hasLarge(each);
      readLarge(each.path('large'));
    },
    run: (each) => readLarge(each.path('large')),
  },
  ...[1, 16].map((jobs) => ({
    title: `random 4 KiB read, cold, ${jobs} jobs`,
    ...{ count: RANDOM_READS, unit: 'reads' },
    before: async (each: Contestant) => {
      hasLarge(each);
      await each.cool();
    },
    run: (each: Contestant) => fio(each, jobs, RANDOM_READS, '--rw=randread'),
  })),
  {
    title: 'random 4 KiB write, fsync after each',
    ...{ count: FSYNCS, unit: 'writes' },
    before: hasLarge,
    run: (each) => fio(each, 1, FSYNCS, '--rw=randwrite', '--fsync=1'),
  },
  {
    title: 'random 4 KiB write, fsync after each, 8 jobs',
    ...{ count: FSYNCS, unit: 'writes' },
    before: hasLarge,
    run: (each) => fio(each, 8, FSYNCS, '--rw=randwrite', '--fsync=1'),
  },
  {
    title: 'random 4 KiB write, fsync at the end',
    ...{ count: RANDOM_WRITES, unit: 'writes' },
    before: hasLarge,
    run: (each) => fio(each, 1, RANDOM_WRITES, '--rw=randwrite', '--end_fsync=1'),
  },
  {
    title: 'random 4 KiB read, O_DIRECT',
    ...{ count: RANDOM_READS, unit: 'reads' },
    before: hasLarge,
    run: (each) => fio(each, 1, RANDOM_READS, '--rw=randread', '--direct=1'),
  },
  {
    title: 'random 4 KiB write, O_DIRECT',
    ...{ count: RANDOM_WRITES, unit: 'writes' },
    before: hasLarge,
    run: (each) => fio(each, 1, RANDOM_WRITES, '--rw=randwrite', '--direct=1'),
  },
  {
    title: 'create files of 4 KiB, syncfs',
    ...{ count: FILES, unit: 'files' },
    before: (each) => remove(each.path('files')),
    run: (each) => {
      makeFiles(each.path('files'));
      each.syncfs();
    },
  },
  {
    title: 'stat all, cold',
    ...{ count: FILES, unit: 'files' },
    before: async (each) => {
      hasFiles(each);
      await each.cool();
    },
    run: (each) => {
      for (let i = 0; i < FILES; i++) if (lstatSync(each.path(`files/file-${i}`)).size !== block.length) throw new Error('size');
    },
  },
  {
    title: 'readdir, cold',
    ...{ count: FILES, unit: 'names' },
    before: async (each) => {
      hasFiles(each);
      await each.cool();
    },
    run: (each) => {
      if (readdirSync(each.path('files')).length !== FILES) throw new Error('names');
    },
  },
  {
    title: 'unlink all, syncfs',
    ...{ count: FILES, unit: 'files' },
    before: hasFiles,
    run: (each) => {
      for (let i = 0; i < FILES; i++) unlinkSync(each.path(`files/file-${i}`));
      each.syncfs();
      rmSync(each.path('files'), { recursive: true });
    },
  },
  {
    title: 'tar x, syncfs',
    ...{ count: TREE_FILES, unit: 'files' },
    before: (each) => remove(each.path('tar')),
    run: (each) => {
      extract(each, 'tar');
      each.syncfs();
    },
  },
  {
    title: 'cp -a, cold, syncfs',
    ...{ count: TREE_FILES, unit: 'files' },
    before: async (each) => {
      await withTree(each);
      remove(each.path('copy'));
      await each.cool();
    },
    run: (each) => {
      run('cp', '-a', each.path('from'), each.path('copy'));
      each.syncfs();
    },
  },
  {
    title: 'rm -rf, cold, syncfs',
    ...{ count: TREE_FILES, unit: 'files' },
    before: async (each) => {
      if (!exists(each.path('gone'))) extract(each, 'gone');
      await each.cool();
    },
    run: (each) => {
      remove(each.path('gone'));
      each.syncfs();
    },
  },
];

const profile = flag('profile');
const old = flag('old');
const without = (flag('without') ?? '').split(',');
const nodeArgs = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`, '--cpu-prof-interval=500'];
const servers = [ours('iomap', undefined, nodeArgs), ...(old === undefined ? [] : [ours('old', old)]), fuse2fs(), kernel()];
const contest = new Contest(
  servers.filter(({ name }) => !without.includes(name)),
  1024 * MIB,
  flag('at'),
);
const notes = [contest.kind, 'fuse2fs -s -o entry_timeout=3600,negative_timeout=3600: no journal is written there'];
const wanted = flag('rows')?.split(',') ?? [''];
try {
  for (const row of rows) {
    if (!wanted.some((part) => row.title.includes(part))) continue;
    const sides = contest.contestants.map(
      (each): Side => ({
        name: each.name,
        before: async () => {
          await each.mount();
          await row.before?.(each);
          each.syncfs();
        },
        run: () => row.run(each),
        after: () => each.syncfs(),
      }),
    );
    const comparison: Comparison = { title: row.title, count: row.count, unit: row.unit, sides, notes };
    await compare(comparison);
  }
} finally {
  await contest.end();
}
