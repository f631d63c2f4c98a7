import assert from 'node:assert/strict';
import test from 'node:test';
import { assertSameBytes } from '../../test/support/model.ts';
import { StepLog } from '../../test/support/step-log.ts';
import { TestFile } from '../../test/support/test-file.ts';
import { GARBAGE, TestFs } from '../../test/support/test-fs.ts';
import { testFsOps } from '../../test/support/test-fs-ops.ts';
import { FsError } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { dedupe, type RemapOps, type RemapRange, reflink } from './remap.ts';

const BLOCK = 4096;

async function world() {
  const memory = new MemoryDevice({ size: 2 ** 22 });
  memory.fill(GARBAGE);
  const bdev = new FaultyDevice(memory, new Prng(1));
  const fs = new TestFs({ bdev });
  const log = new StepLog();
  const ops = testFsOps(fs, (step) => log.note(step));
  const [a, b] = [new TestFile(fs), new TestFile(fs)];
  await a.write(
    0,
    new Uint8Array(6 * BLOCK + 100).map((_, i) => 1 + Math.floor(i / 1000)),
  );
  await b.write(0, new Uint8Array(4 * BLOCK).fill(0x60));
  return {
    bdev,
    fs,
    log,
    ops,
    a,
    b,
    watch: () => {
      for (const { inode } of [a, b]) log.watch(inode);
    },
  };
}

const range = (src: TestFile, srcPos: number, dst: TestFile, dstPos: number, length: number, canShorten = false): RemapRange => {
  return { src: src.inode, srcPos, dst: dst.inode, dstPos, length, canShorten };
};

test('reflink: both files locked by number, both written, destination dropped, blocks shared; whichever is the source', async () => {
  for (const isForward of [true, false]) {
    const { log, ops, a, b, watch } = await world();
    watch();
    const [src, dst] = isForward ? [a, b] : [b, a];
    await reflink(range(src, BLOCK, dst, 2 * BLOCK, BLOCK), ops);
    const [from, to] = [src.inode.ino, dst.inode.ino];
    assert.deepEqual(log.take(), [
      ...['lock 1', 'lock 2', 'dioWait 1', 'dioWait 2', 'invalidateLock 1', 'invalidateLock 2'],
      `write ${from} ${BLOCK} ${2 * BLOCK}`,
      `write ${to} ${2 * BLOCK} ${3 * BLOCK}`,
      `invalidate ${to} ${2 * BLOCK} ${3 * BLOCK}`,
      `remapExtents ${BLOCK} ${2 * BLOCK} ${BLOCK}`,
    ]);
    assert.equal(src.inode.data.at(1)?.addr, dst.inode.data.at(2)?.addr);
    assertSameBytes(await dst.read(2 * BLOCK, BLOCK), await src.read(BLOCK, BLOCK), 'shared');
  }
});

test('two clones in opposite directions at once do not wait for each other for ever', async () => {
  const { ops, a, b } = await world();
  const clones = [reflink(range(a, 0, b, 0, BLOCK), ops), reflink(range(b, BLOCK, a, BLOCK, BLOCK), ops)];
  assert.deepEqual(await Promise.all(clones), [BLOCK, BLOCK]);
  const inodes = [a.inode, b.inode];
  assert.ok(inodes.every(({ lock, mapping, sb }) => !lock.isLocked && !mapping.invalidateLock.isLocked && !sb.freezeWrite.isLocked));
});

test('a clone to the end of the source takes the rest of its last block along, and the destination grows', async () => {
  const { fs, log, ops, a, b, watch } = await world();
  watch();
  const length = 2 * BLOCK + 100;
  assert.equal(await reflink(range(a, 4 * BLOCK, b, 8 * BLOCK, length), ops), length);
  assert.equal(b.size, 8 * BLOCK + length);
  assert.deepEqual(
    log.take().filter((step) => /^(remap|size|setSize)/.test(step)),
    [`remapExtents ${4 * BLOCK} ${8 * BLOCK} ${3 * BLOCK}`, `size 2 ${b.size}`, `setSize ${b.size}`],
  );
  const expected = new Uint8Array(b.size);
  expected.fill(0x60, 0, 4 * BLOCK);
  expected.set(await a.read(4 * BLOCK, length), 8 * BLOCK);
  assertSameBytes(await b.readAll(), expected, 'content');
  await b.fsync();
  await b.dropCache();
  assertSameBytes(await b.readAll(), expected, 'storage');
  // Independent from then on.
  await a.write(4 * BLOCK, new Uint8Array(10).fill(0x11));
  await a.fsync();
  assertSameBytes(await b.readAll(), expected, 'after a write to the source');
  await fs.settle();
});

test('between the old end of the destination and the clone there are zeros', async () => {
  const { ops, a, b } = await world();
  await b.truncate(3 * BLOCK + 10);
  await b.fsync();
  await b.prealloc(0, 20 * BLOCK);
  await reflink(range(a, 0, b, 10 * BLOCK, BLOCK), ops);
  assertSameBytes(await b.read(3 * BLOCK + 10, 7 * BLOCK - 10), new Uint8Array(7 * BLOCK - 10), 'gap');
});

test('a clone past the end that fails takes the zeros before it along, whichever step fails', async () => {
  const steps: ((made: Awaited<ReturnType<typeof world>>) => Partial<RemapOps>)[] = [
    ({ bdev }) => {
      bdev.inject({ ops: ['write'], errno: 'EIO', times: 1 }); // the source is dirty
      return {};
    },
    () => ({ remapExtents: () => Promise.reject(new FsError('EIO', 'copy_file_range')) }),
    () => ({ setSize: () => Promise.reject(new FsError('EIO', 'copy_file_range')) }),
  ];
  for (const step of steps) {
    const made = await world();
    const { fs, ops, a, b } = made;
    await a.fsync();
    await b.fsync();
    fs.shareBlocks(a.inode, 0, b.inode, 6 * BLOCK, BLOCK); // a filesystem may have blocks past the end: they are zeroed before it moves
    await a.write(0, new Uint8Array(10).fill(0x11));
    await assert.rejects(async () => reflink(range(a, 0, b, 10 * BLOCK, BLOCK), { ...ops, ...step(made) }), { code: 'EIO' });
    assert.equal(b.size, 4 * BLOCK);
    assert.equal(b.inode.mapping.hasFolios(b.size, Number.MAX_SAFE_INTEGER), false);
    assertSameBytes(await b.readAll(), new Uint8Array(4 * BLOCK).fill(0x60), 'the destination is as before');
    await reflink(range(a, BLOCK, b, 10 * BLOCK, BLOCK), ops);
    assertSameBytes(await b.read(4 * BLOCK, 6 * BLOCK), new Uint8Array(6 * BLOCK), 'the gap of the next one');
  }
});

test('what is refused, and what is shortened', async () => {
  const { log, ops, a, b } = await world();
  const other = new TestFile(new TestFs({ bdev: new MemoryDevice({ size: 2 ** 22 }) }));
  const share = async (...args: Parameters<typeof range>) => reflink(range(...args), ops);
  await assert.rejects(share(a, 0, other, 0, BLOCK), { code: 'EXDEV' });
  await assert.rejects(share(a, 1, b, 0, BLOCK), { code: 'EINVAL' });
  await assert.rejects(share(a, 0, b, 1, BLOCK), { code: 'EINVAL' });
  await assert.rejects(share(a, 0, b, 0, 100), { code: 'EINVAL' });
  await assert.rejects(share(a, 8 * BLOCK, b, 0, BLOCK), { code: 'EINVAL' });
  await assert.rejects(share(a, 0, b, 0, 8 * BLOCK), { code: 'EINVAL' }, 'past the end of the source');
  await assert.rejects(
    share(a, 4 * BLOCK, b, 0, 2 * BLOCK + 100),
    { code: 'EINVAL' },
    'the end of the source in the middle of the destination',
  );
  await assert.rejects(share(a, 0, a, BLOCK, 2 * BLOCK), { code: 'EINVAL' }, 'overlap');
  await assert.rejects(share(a, -BLOCK, b, 0, BLOCK), { code: 'EINVAL' });
  await assert.rejects(share(a, 0, b, b.inode.sizeMax, BLOCK), { code: 'EFBIG' });
  assert.deepEqual(log.take(), []);
  assert.equal(await share(a, 4 * BLOCK, b, 0, 2 * BLOCK + 100, true), 2 * BLOCK);
  assert.equal(await share(a, 0, b, 8 * BLOCK, 100 * BLOCK, true), a.size);
  assert.equal(await share(a, 0, b, 0, BLOCK - 1, true), 0);
  assert.equal(await share(a, 0, a, 3 * BLOCK, 3 * BLOCK), 3 * BLOCK, 'inside one file');
});

test('invariant 66: a length of 0 calls no hook and takes no lock', async () => {
  const { log, ops, a, b, watch } = await world();
  watch();
  assert.equal(reflink(range(a, 0, b, 0, 0), ops), 0);
  assert.equal(dedupe(range(a, 0, b, 0, 0), ops), 0);
  assert.deepEqual(log.take(), []);
});

test('dedupe shares what is the same, and nothing else', async () => {
  const { fs, ops, a, b } = await world();
  const content = await a.readAll();
  await b.truncate(0);
  await b.write(0, content.slice(0, 6 * BLOCK + 100));
  await b.dropCache();
  assert.equal(await dedupe(range(a, 0, b, 0, 6 * BLOCK + 100), ops), 6 * BLOCK + 100);
  assert.deepEqual(a.inode.data.all, b.inode.data.all);
  assertSameBytes(await b.readAll(), content, 'content');
  // A difference in the last byte, and one in the cache only.
  await b.write(2 * BLOCK - 1, Uint8Array.of(0x7e));
  assert.equal(await dedupe(range(a, 0, b, 0, 2 * BLOCK), ops), undefined);
  assert.equal(await dedupe(range(a, 0, b, 0, BLOCK), ops), BLOCK);
  assert.equal((await b.read(2 * BLOCK - 1, 1))[0], 0x7e);
  await assert.rejects(async () => dedupe(range(a, 0, b, 0, 7 * BLOCK), ops), { code: 'EINVAL' });
  await fs.settle();
});

test('a file that cannot be read is not deduped', async () => {
  const { bdev, ops, a, b } = await world();
  await b.truncate(0);
  await b.write(0, (await a.readAll()).slice(0, BLOCK));
  await a.dropCache();
  bdev.inject({ ops: ['read'], errno: 'EIO', times: 1 });
  await assert.rejects(async () => dedupe(range(a, 0, b, 0, BLOCK), ops), { code: 'EIO' });
  assert.notEqual(a.inode.data.at(0)?.addr, b.inode.data.at(0)?.addr);
  assert.equal(await dedupe(range(a, 0, b, 0, BLOCK), ops), BLOCK);
});
