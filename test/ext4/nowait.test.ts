// Callers that will not wait get EAGAIN, and nothing has changed then.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IovIter } from '../../src/base/iov-iter.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise } from '../../src/base/task.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import { FaultyDevice } from '../../src/block/faulty-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { type Caller, ROOT } from '../../src/vfs/caller.ts';
import type { Fh, NodeId } from '../../src/vfs/file-system.ts';
import { O_RDWR } from '../../src/vfs/uapi.ts';
import { assertClean, makeVolume, whyNoE2fsprogs } from '../support/ext4-volume.ts';

const skip = whyNoE2fsprogs() ?? false;
const NOWAIT: Caller = { ...ROOT, nowait: true };

function mounted(bdev: BlockDevice, cache?: PageCache): Ext4Fs {
  const fs = mountExt4(bdev, cache === undefined ? {} : { cache });
  assert.ok(!isPromise(fs));
  return fs;
}

interface File {
  readonly node: NodeId;
  readonly fh: Fh;
}

async function created(fs: Ext4Fs, name: string): Promise<File> {
  const { entry, fh } = await fs.create(ROOT, fs.root, name, 0o644, O_RDWR);
  return { node: entry.node, fh };
}

function write(fs: Ext4Fs, caller: Caller, { node, fh }: File, pos: number, length: number): number | Promise<number> {
  return fs.write(caller, node, fh, { pos, flags: 0 }, new IovIter(new Uint8Array(length).fill(7)));
}

test('a new size is not waited for where new data over unwritten blocks would be written first', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 4096' });
  const fs = mounted(bdev);
  const file = await created(fs, 'f');
  await fs.fallocate(ROOT, file.node, file.fh, 0, 0, 8192);
  await write(fs, ROOT, file, 0, 8192);
  assert.throws(() => fs.setattr(NOWAIT, file.node, { size: 5000 }, file.fh), { code: 'EAGAIN' });
  assert.equal((await fs.getattr(ROOT, file.node)).size, 8192);
  await fs.fsync(ROOT, file.node, file.fh, false);
  await write(fs, ROOT, file, 0, 8192);
  const answer = fs.setattr(NOWAIT, file.node, { size: 5000 }, file.fh);
  assert.ok(!isPromise(answer), 'over written blocks there is nothing to wait for');
  assert.equal(answer.size, 5000);
  await fs.destroy();
  assertClean(bdev);
});

test('a new size past the largest is refused at once, also behind a page that is dirty', { skip }, async () => {
  const fs = mounted(makeVolume({ options: '-t ext4 -b 1024' }));
  const file = await created(fs, 'f');
  await write(fs, ROOT, file, 0, 1024);
  await fs.fsync(ROOT, file.node, file.fh, false);
  await write(fs, ROOT, file, 0, 1024);
  assert.throws(() => fs.setattr(NOWAIT, file.node, { size: Number.MAX_SAFE_INTEGER }, file.fh), { code: 'EFBIG' });
  await fs.destroy();
});

test('a new size is not waited for where there is no memory for the block that it cuts', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 65536', size: 64 });
  const fs = mounted(bdev, new PageCache({ budget: 65536 }));
  const cut = await created(fs, 'cut');
  const other = await created(fs, 'other');
  await write(fs, ROOT, cut, 0, 65536);
  await fs.fsync(ROOT, cut.node, cut.fh, false);
  assert.equal(write(fs, ROOT, other, 0, 65536), 65536);
  assert.throws(() => fs.setattr(NOWAIT, cut.node, { size: 40000 }, cut.fh), { code: 'EAGAIN' });
  assert.equal((await fs.getattr(ROOT, cut.node)).size, 65536);
  await fs.fsync(ROOT, other.node, other.fh, false);
  const answer = fs.setattr(NOWAIT, cut.node, { size: 40000 }, cut.fh);
  assert.ok(!isPromise(answer));
  await fs.destroy();
  assertClean(bdev);
});

test('a write that will not wait for a page gives back the space it was promised at once', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 1024' });
  let fs = mounted(bdev);
  const { node, fh } = await created(fs, 'f');
  await write(fs, ROOT, { node, fh }, 0, 1024);
  await fs.setattr(ROOT, node, { size: 4096 }, fh);
  await fs.destroy();

  const faulty = new FaultyDevice(bdev, new Prng(1));
  fs = mounted(faulty);
  const found = await fs.lookup(ROOT, fs.root, 'f');
  assert.ok(found !== undefined);
  const opened = await fs.open(ROOT, found.node, O_RDWR);
  const file = { node: found.node, fh: opened.fh };
  const { bfree } = await fs.statfs(ROOT, fs.root);
  const fault = faulty.inject({ ops: ['read'], hangs: true });
  const reading = fs.read(ROOT, file.node, file.fh, { pos: 0, flags: 0 }, new Uint8Array(1024));
  assert.ok(isPromise(reading));
  assert.throws(() => write(fs, NOWAIT, file, 2048, 1024), { code: 'EAGAIN' });
  assert.equal((await fs.statfs(ROOT, fs.root)).bfree, bfree);
  fault.remove();
  faulty.release();
  assert.equal(await reading, 1024);
  assert.equal(write(fs, NOWAIT, file, 2048, 1024), 1024);
  assert.equal((await fs.statfs(ROOT, fs.root)).bfree, bfree - 1);
  await fs.destroy();
  assertClean(bdev);
});
