// Create, stat, list and remove 100,000 empty files in 100 directories: a Volume over memfs, node:fs on tmpfs, and the memfs package, by
// their synchronous calls and by promises, one awaited after the other. --scale=X takes X times as many files.

import * as nodeFs from 'node:fs';
import { memfs } from 'memfs';
import { MemFs } from '../src/fs/memfs/mem-fs.ts';
import { Volume } from '../src/volume/volume.ts';
import { type Comparison, compare, type Side, scaled } from './support/harness.ts';
import { HostFolder } from './support/host-folder.ts';

const FILES = scaled(100_000, 100);
const DIRECTORIES = 100;
const PER_DIRECTORY = FILES / DIRECTORIES;

/** The calls of node:fs that are measured: what all three have. */
interface SyncFace {
  openSync(path: string, flags: string): number;
  closeSync(fd: number): void;
  mkdirSync(path: string): unknown;
  statSync(path: string): { size: number };
  readdirSync(path: string): unknown[];
  unlinkSync(path: string): void;
}

interface PromiseFace {
  open(path: string, flags: string): Promise<{ close(): Promise<void> }>;
  stat(path: string): Promise<{ size: number }>;
  readdir(path: string): Promise<unknown[]>;
  unlink(path: string): Promise<void>;
}

/** One filesystem with the tree of directories in it. */
class Contestant {
  readonly name: string;
  readonly sync: SyncFace;
  readonly promises: PromiseFace;
  readonly directories: readonly string[];
  readonly paths: readonly string[];
  #hasFiles = false;

  constructor(name: string, sync: SyncFace, promises: PromiseFace, base: string) {
    this.name = name;
    this.sync = sync;
    this.promises = promises;
    this.directories = Array.from({ length: DIRECTORIES }, (_, i) => `${base}/directory-${i}`);
    this.paths = this.directories.flatMap((directory) => Array.from({ length: PER_DIRECTORY }, (_, i) => `${directory}/file-${i}.txt`));
    for (const directory of this.directories) sync.mkdirSync(directory);
  }

  /** All files are there. */
  fill(): void {
    if (!this.#hasFiles) this.create();
  }

  /** None is. */
  empty(): void {
    if (this.#hasFiles) this.unlink();
  }

  create(): void {
    const { sync } = this;
    for (const path of this.paths) sync.closeSync(sync.openSync(path, 'wx'));
    this.#hasFiles = true;
  }

  stat(): void {
    const { sync } = this;
    for (const path of this.paths) if (sync.statSync(path).size !== 0) throw new Error(`${path} is not empty`);
  }

  readdir(): void {
    const { sync } = this;
    for (const directory of this.directories) check(sync.readdirSync(directory).length);
  }

  unlink(): void {
    const { sync } = this;
    for (const path of this.paths) sync.unlinkSync(path);
    this.#hasFiles = false;
  }

  async createAsync(): Promise<void> {
    const { promises } = this;
    for (const path of this.paths) await (await promises.open(path, 'wx')).close();
    this.#hasFiles = true;
  }

  async statAsync(): Promise<void> {
    const { promises } = this;
    for (const path of this.paths) if ((await promises.stat(path)).size !== 0) throw new Error(`${path} is not empty`);
  }

  async readdirAsync(): Promise<void> {
    const { promises } = this;
    for (const directory of this.directories) check((await promises.readdir(directory)).length);
  }

  async unlinkAsync(): Promise<void> {
    const { promises } = this;
    for (const path of this.paths) await promises.unlink(path);
    this.#hasFiles = false;
  }
}

function check(names: number): void {
  if (names !== PER_DIRECTORY) throw new Error(`${names} names, not ${PER_DIRECTORY}`);
}

const folder = new HostFolder(FILES, 0);
const volume = Volume.create(new MemFs());
const packaged = memfs().fs;
const contestants = [
  new Contestant('Volume', volume.sync, volume, ''),
  new Contestant('node:fs', nodeFs, nodeFs.promises, folder.path),
  new Contestant('memfs package', packaged as unknown as SyncFace, packaged.promises as unknown as PromiseFace, ''),
];

const notes = [`${FILES} files in ${DIRECTORIES} directories; node:fs: ${folder.kind}`];
const phases: readonly [string, (each: Contestant) => Omit<Side, 'name'>, (each: Contestant) => Omit<Side, 'name'>][] = [
  [
    'create',
    (each) => ({ before: () => each.empty(), run: () => each.create() }),
    (each) => ({ before: () => each.empty(), run: () => each.createAsync() }),
  ],
  [
    'stat',
    (each) => ({ before: () => each.fill(), run: () => each.stat() }),
    (each) => ({ before: () => each.fill(), run: () => each.statAsync() }),
  ],
  [
    'readdir',
    (each) => ({ before: () => each.fill(), run: () => each.readdir() }),
    (each) => ({ before: () => each.fill(), run: () => each.readdirAsync() }),
  ],
  [
    'unlink',
    (each) => ({ before: () => each.fill(), run: () => each.unlink() }),
    (each) => ({ before: () => each.fill(), run: () => each.unlinkAsync() }),
  ],
];

for (const [phase, sync, promises] of phases) {
  for (const [form, side] of [
    ['synchronous', sync],
    ['promises', promises],
  ] as const) {
    const comparison: Comparison = {
      title: `${phase}, ${form}`,
      count: FILES,
      unit: phase === 'readdir' ? 'names' : 'files',
      sides: contestants.map((each) => ({ name: each.name, ...side(each) })),
      notes,
    };
    await compare(comparison);
  }
}
await volume.close();
folder.close();
