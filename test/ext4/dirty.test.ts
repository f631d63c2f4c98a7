// Images that the kernel left dirty: copies of the backing file while it was mounted and busy. What we replay is what the kernel replays.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Prng } from '../../src/base/prng.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { RecordingDevice } from '../../src/block/recording-device.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import {
  assertClean,
  type CrashKind,
  freshDevice,
  inFolder,
  mountKind,
  readAll,
  readInto,
  readTree,
  runTool,
  type Tree,
  whyNoKernel,
  writeOut,
} from '../support/ext4-crash.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';
import type { VfsFace } from '../support/vfs-face.ts';

interface DirtyKind extends CrashKind {
  /** Options of the kernel's mount. */
  readonly kernel?: string;
  readonly isFast?: boolean;
}

const SMALL = '-b 1024 -J size=1';

const KINDS: readonly DirtyKind[] = [
  { title: 'ext4', options: '-t ext4 -b 4096 -J size=4', size: 24 },
  { title: 'ext4 with blocks of 1 KiB', options: `-t ext4 ${SMALL}`, size: 16 },
  { title: 'ext4 with 32-bit tags', options: `-t ext4 ${SMALL} -O ^64bit`, size: 16 },
  { title: 'ext4 without checksums', options: `-t ext4 ${SMALL} -O ^metadata_csum`, size: 16 },
  {
    title: 'ext4 with a checksum for each transaction',
    options: `-t ext4 ${SMALL} -O ^metadata_csum`,
    size: 16,
    kernel: 'journal_checksum',
  },
  { title: 'ext3', options: `-t ext3 ${SMALL}`, size: 16 },
  { title: 'ext4 with asynchronous commits', options: `-t ext4 ${SMALL}`, size: 16, kernel: 'journal_async_commit,data=writeback' },
  { title: 'ext4 with data in the log', options: `-t ext4 -b 1024 -J size=2`, size: 16, kernel: 'data=journal' },
  { title: 'ext4 with an external journal', options: '-t ext4 -b 1024', size: 16, journal: 2 },
  { title: 'ext4 with an orphan file', options: `-t ext4 ${SMALL} -O orphan_file`, size: 16 },
  { title: 'ext4 with inline data', options: `-t ext4 ${SMALL} -O inline_data`, size: 16 },
  { title: 'ext4 with fast commits', options: '-t ext4 -b 4096 -J size=8 -O fast_commit', size: 32, isFast: true },
  { title: 'ext4 with fast commits and blocks of 1 KiB', options: '-t ext4 -b 1024 -J size=4 -O fast_commit', size: 32, isFast: true },
  {
    title: 'ext4 with fast commits and inline data',
    options: '-t ext4 -b 1024 -J size=4 -O fast_commit,inline_data',
    size: 32,
    isFast: true,
  },
];

const why = whyNoE2fsprogs() ?? whyNoKernel() ?? false;

describe('an image that the kernel left dirty', { skip: why }, () => {
  for (const kind of KINDS) {
    test(`${kind.title} replays to what the kernel had`, async () => {
      await forEachSeed(kind.title, kind.isFast === true ? 2 : 1, (prng) => inFolder((folder) => runKind(kind, prng, folder)));
      assert.equal(withFastCommits.has(kind), kind.isFast === true, 'fast commits are where they should be');
    });
  }
});

/** Not each commit is a fast one, but some are. */
const withFastCommits = new Set<DirtyKind>();

async function runKind(kind: DirtyKind, prng: Prng, folder: string): Promise<void> {
  const image = join(folder, 'image');
  const files = [{ path: image, at: 0, size: kind.size }];
  if (kind.journal !== undefined) files.push({ path: join(folder, 'journal'), at: kind.size, size: kind.journal });
  const fresh = freshDevice(kind);
  for (const { path, at, size } of files) writeOut(fresh, path, at * 2 ** 20, size * 2 ** 20);

  let live: Tree = new Map();
  const device = withKernel(kind, folder, (mountpoint) => {
    const open = work(prng, mountpoint, kind.isFast === true);
    if (kind.isFast === true) live = syncEach(mountpoint);
    const copy = new MemoryDevice({ size: fresh.size, name: 'image', chunkSize: 65536, hasVolatileCache: true });
    for (const { path, at } of files) readInto(copy, path, at * 2 ** 20);
    for (const fd of open) fs.closeSync(fd);
    return copy;
  });

  for (const { path, at, size } of files) writeOut(device, path, at * 2 ** 20, size * 2 ** 20);
  const replayed = kernelReplay(kind, folder);
  // What was committed fast is what the kernel had: its replay miscounts links of directories, and fails for some of its own commits. But the
  // commits do not have all that becomes of inline data: then it is what the replay gives.
  const expected = kind.isFast === true ? live : (replayed as Tree);

  const before = digestOf(device);
  const readOnly = await mountKind(kind, device, { readOnly: true });
  if (readOnly.warnings.some((warning) => /had fast commits: \d+ changes/.test(warning))) withFastCommits.add(kind);
  assert.match(readOnly.warnings.join('\n'), /was not unmounted: replayed/, 'there was something to replay');
  assertSameTree(await ourTree(readOnly.face), expected, replayed, 'a read-only mount');
  await readOnly.end();
  assert.equal(digestOf(device), before, 'a read-only mount changes no byte');

  await checkInterrupted(kind, prng, device, expected, replayed);
  const world = await mountKind(kind, device);
  assertSameTree(await ourTree(world.face), expected, replayed, 'a writable mount');
  await world.end();
  assertClean(kind, device, 'what we have replayed');
}

/** A power cut in our replay changes nothing of what the next one gives. */
async function checkInterrupted(
  kind: DirtyKind,
  prng: Prng,
  dirty: MemoryDevice,
  expected: Tree,
  replayed: Tree | undefined,
): Promise<void> {
  const device = new RecordingDevice(dirty.snapshot());
  await (await mountKind(kind, device)).end();
  for (const state of device.crashStates(prng, { cutsMax: 3, statesPerCut: 1 })) {
    const left = state.materialise();
    const world = await mountKind(kind, left);
    assertSameTree(await ourTree(world.face), expected, replayed, `a mount after ${state.text} of another`);
    await world.end();
    assertClean(kind, left, 'what was replayed twice');
  }
}

/** The tree after the kernel's own replay. Undefined where it fails, as it does for some fast commits. */
function kernelReplay(kind: DirtyKind, folder: string): Tree | undefined {
  try {
    return withKernel(kind, folder, (mountpoint) => kernelTree(mountpoint));
  } catch (error) {
    if (kind.isFast === true) return undefined;
    throw error;
  }
}

function assertSameTree(got: Tree, expected: Tree, replayed: Tree | undefined, what: string): void {
  for (const [path, line] of got) if (replayed?.get(path) === line && expected.has(path)) expected.set(path, line);
  const sorted = (tree: Tree): string[] => [...tree].map(([path, line]) => `${path} ${line}`).sort();
  assert.deepEqual(sorted(got), sorted(expected), `the tree of ${what} is that of the kernel`);
}

/** Mounts the image in `folder` by the kernel, with its journal where that is a file of its own. */
function withKernel<T>(kind: DirtyKind, folder: string, use: (mountpoint: string) => T): T {
  const mountpoint = join(folder, 'mnt');
  fs.mkdirSync(mountpoint, { recursive: true });
  const loop = kind.journal === undefined ? undefined : runTool('losetup', ['-f', '--show', join(folder, 'journal')]).trim();
  try {
    // Nothing is committed by time while the image is copied.
    const options = ['loop', 'commit=600', ...(kind.kernel?.split(',') ?? []), ...(loop === undefined ? [] : [`journal_path=${loop}`])];
    runTool('mount', ['-t', 'ext4', '-o', options.join(','), join(folder, 'image'), mountpoint]);
    try {
      return use(mountpoint);
    } finally {
      runTool('umount', [mountpoint]);
    }
  } finally {
    if (loop !== undefined) runTool('losetup', ['-d', loop]);
  }
}

/** Keeps a mounted volume busy. Returns descriptors that are still open, of files that may have no names. */
function work(prng: Prng, root: string, isFast: boolean): number[] {
  const dirs = [root];
  const files: string[] = [];
  const open: number[] = [];
  let last = 0;
  const newPath = (): string => join(prng.pick(dirs), `f${++last}${'-'.repeat(prng.chance(0.2) ? prng.below(150) : 0)}`);
  const take = (): string => files.splice(prng.below(files.length), 1)[0] as string;
  const write = (path: string, pos: number): void => {
    const fd = fs.openSync(path, fs.existsSync(path) ? 'r+' : 'w+');
    fs.writeSync(fd, prng.bytes(prng.pick([10, 100, 3000, 40000])), 0, undefined, pos);
    if (prng.chance(0.6)) fs.fsyncSync(fd);
    if (prng.chance(0.1)) open.push(fd);
    else fs.closeSync(fd);
  };
  const steps = isFast ? 60 : 150;
  if (isFast) {
    // What fast commits are not made for comes first, and then one whole commit.
    fs.mkdirSync(join(root, 'before'));
    dirs.push(join(root, 'before'));
    for (let i = 0; i < 10; i++) {
      files.push(newPath());
      write(files.at(-1) as string, 0);
    }
    runTool('sync', ['-f', root]);
  }
  for (let i = 0; i < steps; i++) {
    const action = prng.below(isFast ? 8 : 11);
    if (action <= 1 || files.length === 0) {
      const path = newPath();
      write(path, 0);
      files.push(path);
    } else if (action <= 3) {
      const path = prng.pick(files);
      write(path, prng.chance(0.5) ? fs.statSync(path).size : prng.below(100_000));
    } else if (action === 4) fs.unlinkSync(take());
    else if (action === 5) {
      const path = prng.chance(0.3) && files.length > 1 ? take() : newPath();
      if (files.length === 0) continue;
      fs.renameSync(take(), path);
      files.push(path);
    } else if (action === 6) {
      const path = newPath();
      fs.linkSync(prng.pick(files), path);
      files.push(path);
    } else if (action === 7) {
      const path = prng.pick(files);
      if (prng.chance(0.5)) fs.truncateSync(path, prng.below(60_000));
      else fs.chmodSync(path, prng.pick([0o600, 0o644]));
      if (prng.chance(0.5)) write(path, 0);
    } else if (action === 8) {
      const path = newPath();
      fs.mkdirSync(path);
      dirs.push(path);
    } else if (action === 9) fs.symlinkSync('t'.repeat(prng.pick([5, 59, 60, 300])), newPath());
    else if (dirs.length > 1) {
      // One that is empty, or not.
      const path = prng.pick(dirs.slice(1));
      if (fs.readdirSync(path).length > 0) continue;
      fs.rmdirSync(path);
      dirs.splice(dirs.indexOf(path), 1);
    }
  }
  // The last word is one that counts.
  const fd = fs.openSync(join(root, 'last'), 'w');
  fs.writeSync(fd, 'last');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
  return open;
}

/** Makes each file durable by itself. Returns what there is. */
function syncEach(root: string): Tree {
  const tree = kernelTree(root);
  for (const path of tree.keys()) {
    if (!fs.lstatSync(join(root, path)).isFile()) continue;
    const fd = fs.openSync(join(root, path), 'r');
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  }
  return tree;
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

function digestOf(device: MemoryDevice): string {
  const sum = createHash('sha256');
  for (let at = 0; at < device.size; at += 2 ** 20) sum.update(device.read(at, Math.min(2 ** 20, device.size - at)));
  return sum.digest('hex');
}

function lineOf(stat: { ino: number; mode: number; nlink: number; size: number; uid: number }, more: string): string {
  const size = uapi.isDirectory(stat.mode) ? '' : ` size ${stat.size}`;
  return `inode ${stat.ino} ${stat.mode.toString(8)} links ${stat.nlink} owner ${stat.uid}${size} ${more}`;
}

function kernelTree(root: string): Tree {
  const tree: Tree = new Map();
  const visit = (path: string): void => {
    const at = join(root, path);
    const stat = fs.lstatSync(at);
    if (stat.isSymbolicLink()) tree.set(path, lineOf(stat, fs.readlinkSync(at)));
    else tree.set(path, lineOf(stat, stat.isFile() ? hash(fs.readFileSync(at)) : ''));
    if (stat.isDirectory()) for (const name of fs.readdirSync(at)) visit(path === '/' ? `/${name}` : `${path}/${name}`);
  };
  visit('/');
  return tree;
}

async function ourTree(face: VfsFace): Promise<Tree> {
  const tree: Tree = new Map();
  for (const path of (await readTree(face)).keys()) {
    const stat = await face.lstat(path);
    let more = '';
    if (uapi.isSymlink(stat.mode)) more = await face.readlink(path);
    else if (uapi.isRegular(stat.mode)) more = hash(await readAll(face, path));
    tree.set(path, lineOf(stat, more));
  }
  return tree;
}
