// What is kept in core of a volume is bounded, whoever remembers how much of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPromise } from '../../src/base/task.ts';
import { REQ_OP_WRITE } from '../../src/block/bio.ts';
import { RecordingDevice } from '../../src/block/recording-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import type { Entry } from '../../src/vfs/attr.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import { O_RDWR, S_IFREG } from '../../src/vfs/uapi.ts';
import { assertClean, makeVolume, whyNoE2fsprogs } from '../support/ext4-volume.ts';

const skip = whyNoE2fsprogs() ?? false;

function mounted(bdev: ReturnType<typeof makeVolume> | RecordingDevice): Ext4Fs {
  const fs = mountExt4(bdev, { inodeCache: 40, metadataCache: 2 ** 18 });
  assert.ok(!isPromise(fs));
  return fs;
}

test('inodes that faces know make way, and are what they were when they are asked for again', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 1024' });
  const fs = mounted(bdev);
  const entries: Entry[] = [];
  for (let i = 0; i < 600; i++) entries.push((await fs.mknod(ROOT, 1, `f${i}`, S_IFREG | 0o600, 0)) as Entry);
  for (const [i, { node }] of entries.entries()) {
    await fs.setattr(ROOT, node, { mode: 0o600 + (i % 64), uid: i, size: i });
    const { fh } = await fs.open(ROOT, node, O_RDWR);
    await fs.release(node, fh);
  }
  // A second lookup of some, and both are owed.
  for (let i = 0; i < 600; i += 5) assert.equal((await fs.lookup(ROOT, 1, `f${i}`))?.node, entries[i]?.node);
  for (const [i, { node, attr }] of entries.entries()) {
    const { ino, mode, uid, size } = await fs.getattr(ROOT, node);
    assert.deepEqual([ino, mode, uid, size], [attr.ino, S_IFREG | (0o600 + (i % 64)), i, i]);
  }
  for (const [i, { node }] of entries.entries()) {
    if (i % 3 === 0) await fs.unlink(ROOT, 1, `f${i}`);
    // Without a name it is still the face's.
    assert.equal((await fs.getattr(ROOT, node)).nlink, i % 3 === 0 ? 0 : 1);
    fs.forget(node, 1);
    if (i % 5 === 0) {
      await fs.getattr(ROOT, node);
      fs.forget(node, 1);
    }
    assert.throws(() => fs.getattr(ROOT, node), { code: 'ESTALE' });
  }
  await fs.destroy();
  assertClean(bdev);
});

test('fsync of an inode that was read again waits for the transaction that may have changed it', { skip }, async () => {
  const bdev = new RecordingDevice(makeVolume({ options: '-t ext4 -b 1024' }));
  const fs = mounted(bdev);
  const { node } = (await fs.mknod(ROOT, 1, 'wanted', S_IFREG | 0o600, 0)) as Entry;
  for (let i = 0; i < 100; i++) await fs.mknod(ROOT, 1, `other${i}`, S_IFREG | 0o600, 0);
  const writes = (): number => bdev.log.entries.filter(({ op }) => op === REQ_OP_WRITE).length;
  const before = writes();
  const { fh } = await fs.open(ROOT, node, O_RDWR);
  await fs.fsync(ROOT, node, fh, false);
  assert.ok(writes() > before, 'the creation was committed');
  await fs.destroy();
});
