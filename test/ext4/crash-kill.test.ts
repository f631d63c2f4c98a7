// The process that serves a mounted image is killed under load: what an fsync has promised is there when it is mounted again.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Prng } from '../../src/base/prng.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import {
  assertClean,
  assertReplayOnly,
  type CrashKind,
  e2fsck,
  freshDevice,
  inFolder,
  mountKind,
  readAll,
  readInto,
  writeOut,
} from '../support/ext4-crash.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { whyNoMount, withDirectory } from '../support/fuse-mount.ts';
import { forEachSeed } from '../support/seeds.ts';

const KINDS: readonly CrashKind[] = [
  { title: 'ext4', options: '-t ext4 -b 4096 -J size=4', size: 32 },
  { title: 'ext4 with small blocks', options: '-t ext4 -b 1024 -J size=1 -O inline_data,orphan_file', size: 32 },
  { title: 'ext3', options: '-t ext3 -b 1024 -J size=1', size: 32 },
];
const RECORD = 1000;

const why = whyNoE2fsprogs() ?? (whyNoMount() || undefined) ?? false;

describe('a server of an image that is killed', { skip: why }, () => {
  test('has every byte and every name whose fsync returned on the image', () =>
    forEachSeed('kill -9', 3, (prng, seed) => inFolder((folder) => runKill(KINDS[seed % KINDS.length] as CrashKind, prng, folder))));
});

/** What was promised: bytes of each name. */
type Promised = Map<string, number>;

async function runKill(kind: CrashKind, prng: Prng, folder: string): Promise<void> {
  const image = join(folder, 'image');
  writeOut(freshDevice(kind), image);
  const promised: Promised = new Map();
  await withDirectory(async (directory) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('./crash-child.js', import.meta.url)), image, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const gone = new Promise((resolve) => child.once('exit', resolve));
    try {
      await new Promise<void>((resolve, reject) => {
        child.stdout.once('data', resolve);
        child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
      });
      // Calls on the mount block this process: somebody else has to do it.
      const delay = (prng.between(200, 1200) / 1000).toFixed(3);
      spawn('sh', ['-c', `sleep ${delay}; kill -9 ${child.pid}`], { stdio: 'ignore' });
      load(prng.fork(), directory, promised);
    } finally {
      child.kill('SIGKILL');
      await gone;
    }
  });
  assert(promised.size > 0, 'something was promised before the end');

  const device = new MemoryDevice({ size: kind.size * 2 ** 20, name: 'image', chunkSize: 65536, hasVolatileCache: true });
  readInto(device, image);
  const { text } = e2fsck(kind, device.snapshot(), ['-fy']);
  assertReplayOnly(text);
  const world = await mountKind(kind, device);
  for (const [name, count] of promised) {
    const bytes = await readAll(world.face, `/${name}`);
    assert(bytes.length >= count * RECORD, `${name} has ${bytes.length} bytes of ${count * RECORD}`);
    for (let i = 0; i * RECORD < bytes.length; i++) {
      const got = bytes.subarray(i * RECORD, (i + 1) * RECORD);
      const isRight = Buffer.from(got).equals(record(name, i).subarray(0, got.length));
      assert(isRight || (i >= count && got.every((byte) => byte === 0)), `record ${i} of ${name}, of which ${count} were promised`);
    }
  }
  await world.end();
  assertClean(kind, device, 'what was mounted again');
}

/** Appends to files, a record and an fsync at a time, and saves new ones by rename, until nobody answers. */
function load(prng: Prng, directory: string, promised: Promised): void {
  const open: { name: string; fd: number; count: number }[] = [];
  const sync = (name: string, fd: number, count: number): void => {
    if (prng.chance(0.5)) fs.fsyncSync(fd);
    else fs.fdatasyncSync(fd);
    promised.set(name, count);
  };
  try {
    for (let step = 0; ; step++) {
      const action = open.length < 4 ? 0 : prng.below(10);
      if (action === 0) {
        const name = `f${step}`;
        const fd = fs.openSync(join(directory, name), 'w+');
        fs.fsyncSync(fd);
        promised.set(name, 0);
        open.push({ name, fd, count: 0 });
      } else if (action === 1) {
        const name = `s${step}`;
        const fd = fs.openSync(join(directory, `${name}.new`), 'w');
        fs.writeSync(fd, record(name, 0));
        fs.fsyncSync(fd);
        fs.closeSync(fd);
        fs.renameSync(join(directory, `${name}.new`), join(directory, name));
        const dir = fs.openSync(directory, 'r');
        fs.fsyncSync(dir);
        fs.closeSync(dir);
        promised.set(name, 1);
      } else {
        const file = prng.pick(open);
        fs.writeSync(file.fd, record(file.name, file.count));
        file.count++;
        if (prng.chance(0.8)) sync(file.name, file.fd, file.count);
      }
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!['ENOTCONN', 'ECONNABORTED', 'EIO', 'ENODEV', 'ENOSPC'].includes(code ?? '')) throw error;
  } finally {
    for (const { fd } of open) {
      try {
        fs.closeSync(fd);
      } catch {
        // Nobody is there to close it.
      }
    }
  }
}

/** Bytes that say whose they are. */
function record(name: string, index: number): Buffer {
  return Buffer.alloc(RECORD, `${name} ${index};`);
}
