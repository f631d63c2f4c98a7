import assert from 'node:assert/strict';
import test from 'node:test';
import { TestFile } from '../../test/support/test-file.ts';
import { TestFs } from '../../test/support/test-fs.ts';
import { Prng } from '../base/prng.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { evictInode } from './evict.ts';

async function world() {
  const bdev = new FaultyDevice(new MemoryDevice({ size: 2 ** 24 }), new Prng(1));
  const fs = new TestFs({ bdev });
  const file = new TestFile(fs);
  await file.write(0, new Uint8Array(10_000).fill(0x33));
  return { bdev, fs, file, inode: file.inode };
}

test('a file that stays is written, then leaves the cache, then its filesystem', async () => {
  const { bdev, fs, inode } = await world();
  let released = 0;
  await evictInode(inode, {
    isDeleted: false,
    release: () => {
      released++;
      assert.equal(inode.mapping.cachedBytes, 0);
    },
  });
  assert.equal(released, 1);
  assert.equal(fs.cache.folioCount, 0);
  assert.equal(inode.diskSize, 10_000);
  const { addr } = inode.data.at(0) ?? { addr: -1 };
  const first = new Uint8Array(4096);
  first.set((bdev.inner as MemoryDevice).read(addr * 4096, 4096));
  assert.deepEqual(first, new Uint8Array(4096).fill(0x33));
});

test('a deleted file is not written, and so is a bad one', async () => {
  for (const isBad of [false, true]) {
    const { bdev, inode } = await world();
    const fault = bdev.inject({ ops: ['write'], errno: 'EIO' });
    if (isBad) inode.markBad();
    await evictInode(inode, { isDeleted: !isBad });
    assert.equal(fault.hits, 0);
    assert.equal(inode.mapping.cachedBytes, 0);
    assert.equal(inode.mapping.dirtyBytes, 0);
  }
});

test('data that cannot be written is lost, and syncfs is told', async () => {
  const { bdev, fs, inode } = await world();
  bdev.inject({ ops: ['write'], errno: 'EIO' });
  await evictInode(inode, { isDeleted: false });
  assert.equal(inode.mapping.cachedBytes, 0);
  assert.equal(fs.sb.errors.check(0), -5);
});

test('it waits for writeback and for direct I/O that is in flight', async () => {
  const { bdev, fs, inode } = await world();
  const fault = bdev.inject({ ops: ['write'], hangs: true });
  await inode.mapping.startWrite(0, 10_000);
  inode.dioBegin();
  let isDone = false;
  const evicted = Promise.resolve(evictInode(inode, { isDeleted: true })).then(() => {
    isDone = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(inode.mapping.writebackBytes > 0 && !isDone, true);
  fault.remove();
  bdev.release();
  await fs.settle();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(inode.mapping.cachedBytes, 0);
  assert.equal(isDone, false);
  inode.dioEnd();
  await evicted;
});
