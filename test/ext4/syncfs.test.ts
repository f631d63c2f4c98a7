// syncfs: what it waits for, and what it says.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IovIter } from '../../src/base/iov-iter.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise } from '../../src/base/task.ts';
import { FaultyDevice } from '../../src/block/faulty-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { Fh, NodeId } from '../../src/vfs/file-system.ts';
import { O_RDWR } from '../../src/vfs/uapi.ts';
import { assertClean, makeVolume, whyNoE2fsprogs } from '../support/ext4-volume.ts';

const skip = whyNoE2fsprogs() ?? false;

async function created(fs: Ext4Fs, name: string): Promise<{ node: NodeId; fh: Fh }> {
  const { entry, fh } = await fs.create(ROOT, fs.root, name, 0o644, O_RDWR);
  return { node: entry.node, fh };
}

async function write(fs: Ext4Fs, node: NodeId, fh: Fh, length: number): Promise<void> {
  await fs.write(ROOT, node, fh, { pos: 0, flags: 0 }, new IovIter(new Uint8Array(length).fill(7)));
}

test('syncfs waits for files whose last names are gone: their blocks are free after it', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 1024 -O ^has_journal' });
  const faulty = new FaultyDevice(bdev, new Prng(1));
  const fs = await mountExt4(faulty);
  const { bfree } = await fs.statfs(ROOT, fs.root);
  const { node, fh } = await created(fs, 'f');
  await write(fs, node, fh, 1024);
  await fs.setattr(ROOT, node, { size: 0 }, fh);
  await write(fs, node, fh, 100 * 1024);
  // Its data is on the way when the file goes, and that takes a while.
  const fault = faulty.inject({ ops: ['write'], hangs: true, times: 1 });
  await fs.flush(ROOT, node, fh);
  assert.equal(fault.hits, 1);
  await fs.unlink(ROOT, fs.root, 'f');
  await fs.release(node, fh);
  fs.forget(node, 1);
  const synced = fs.syncfs(ROOT);
  assert.ok(isPromise(synced));
  faulty.release();
  await synced;
  assert.equal((await fs.statfs(ROOT, fs.root)).bfree, bfree);
  await fs.destroy();
  assertClean(bdev);
});

test('syncfs says once what could not be written, whichever file it was of', { skip }, async () => {
  for (const failing of [0, 1, 2]) {
    const faulty = new FaultyDevice(makeVolume({ options: '-t ext4 -b 1024' }), new Prng(1));
    const fs = await mountExt4(faulty);
    for (const name of ['a', 'b', 'c']) {
      const { node, fh } = await created(fs, name);
      await write(fs, node, fh, 5000);
    }
    const fault = faulty.inject({ ops: ['write'], skip: failing, times: 1, errno: 'EIO' });
    await assert.rejects(async () => fs.syncfs(ROOT), { code: 'EIO' });
    assert.equal(fault.hits, 1);
    await fs.syncfs(ROOT);
    await fs.destroy();
  }
});
