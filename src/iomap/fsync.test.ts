import assert from 'node:assert/strict';
import test from 'node:test';
import { TestFile } from '../../test/support/test-file.ts';
import { TestFs } from '../../test/support/test-fs.ts';
import { testFsOps } from '../../test/support/test-fs-ops.ts';
import { Prng } from '../base/prng.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { OpenFile } from '../vfs/open-file.ts';
import { fsyncFile, SyncfsErrors, syncFs } from './fsync.ts';

const EIO = { code: 'EIO', syscall: 'fsync' };

function world() {
  const bdev = new FaultyDevice(new MemoryDevice({ size: 2 ** 24, hasVolatileCache: true }), new Prng(1));
  const fs = new TestFs({ bdev });
  const steps: string[] = [];
  const ops = testFsOps(fs, (step) => steps.push(step));
  const file = new TestFile(fs);
  const dirty = (pos = 0) => file.write(pos, new Uint8Array(4096).fill(7));
  /** Has the next write of data fail, somewhere nobody waits for it. */
  const failWriteback = async () => {
    await dirty();
    const fault = bdev.inject({ ops: ['write'], errno: 'EIO', times: 1 });
    await file.inode.mapping.startWrite(0, 4096);
    await fs.settle();
    assert.equal(fault.hits, 1);
    fault.remove();
  };
  const fsync = (open: OpenFile) => fsyncFile(open, ops);
  return { bdev, fs, steps, ops, file, inode: file.inode, dirty, failWriteback, fsync };
}

test('invariant 55: each opener gets each writeback error once', async () => {
  const { file, inode, failWriteback, fsync } = world();
  const openers = [file.open, new OpenFile(inode), new OpenFile(inode)];
  for (let round = 0; round < 3; round++) {
    await failWriteback();
    for (const open of openers) {
      await assert.rejects(async () => fsync(open), EIO);
      await fsync(open);
    }
  }
  // Several errors between two calls are one.
  await failWriteback();
  await failWriteback();
  await assert.rejects(async () => fsync(file.open), EIO);
  await fsync(file.open);
});

test('invariant 55: an opener after the error gets it while nobody has seen it, and not once somebody has', async () => {
  const { inode, failWriteback, fsync } = world();
  await failWriteback();
  const before = new OpenFile(inode);
  await assert.rejects(async () => fsync(before), EIO);
  const after = new OpenFile(inode);
  await fsync(after);
});

test('invariant 55: duplicates of a descriptor share one open file, and with it what was told', async () => {
  const { file, failWriteback, fsync } = world();
  const descriptors = new Map([
    [3, file.open],
    [4, file.open], // dup(3)
  ]);
  await failWriteback();
  await assert.rejects(async () => fsync(descriptors.get(3) as OpenFile), EIO);
  await fsync(descriptors.get(4) as OpenFile);
});

test('an error that fsync itself meets is told once too, and nothing is committed after it', async () => {
  const { bdev, file, inode, dirty, steps, fsync } = world();
  const other = new OpenFile(inode);
  await dirty();
  bdev.inject({ ops: ['write'], errno: 'EIO', times: 1 });
  await assert.rejects(async () => fsync(file.open), EIO);
  assert.deepEqual(steps, []);
  await fsync(file.open);
  await assert.rejects(async () => fsync(other), EIO);
  await fsync(other);
});

test('the order: data, its completion, commit, device cache; no flush of its own where the commit did one', async () => {
  const { fs, file, steps, ops, dirty } = world();
  await dirty();
  const commits: boolean[] = [];
  let answer = false;
  const own = {
    ...ops,
    commit: (_inode: unknown, datasync: boolean) => {
      assert.equal(file.inode.mapping.needsWriteback(0, 4096), false, 'commit before the data was written');
      assert.equal(file.inode.data.at(0)?.written, true, 'commit before the completion');
      commits.push(datasync);
      return answer;
    },
  };
  await fsyncFile(file.open, own, { datasync: true });
  assert.deepEqual(steps, ['flush']);
  answer = true;
  await fsyncFile(file.open, own);
  assert.deepEqual(steps, ['flush']);
  assert.deepEqual(commits, [true, false]);
  await fs.settle();
});

test('an error that turns up during the commit is told', async () => {
  const { file, inode, ops } = world();
  const own = {
    ...ops,
    commit: () => {
      inode.setError(-5);
      return true;
    },
  };
  await assert.rejects(async () => fsyncFile(file.open, own), EIO);
  await fsyncFile(file.open, ops);
});

test('ranges: what is outside stays dirty; invariant 66: an empty one calls no hook', async () => {
  const { file, inode, ops, steps, dirty } = world();
  await dirty(0);
  await dirty(2 ** 20);
  await fsyncFile(file.open, ops, { start: 0, end: 4096 });
  assert.equal(inode.mapping.needsWriteback(0, 4096), false);
  assert.equal(inode.mapping.needsWriteback(2 ** 20, 2 ** 20 + 4096), true);
  steps.length = 0;
  await fsyncFile(file.open, ops, { start: 4096, end: 4096 });
  assert.deepEqual(steps, []);
  assert.throws(() => fsyncFile(file.open, ops, { start: 4096, end: 0 }), { code: 'EINVAL' });
  inode.markBad();
  assert.throws(() => fsyncFile(file.open, ops), { code: 'EIO' });
});

test('syncfs writes all files, goes on after an error, and tells it once to each opener', async () => {
  const { bdev, fs, file, ops, steps, dirty } = world();
  const other = new TestFile(fs);
  const [first, second] = [new SyncfsErrors(fs.sb), new SyncfsErrors(fs.sb)];
  await dirty();
  await other.write(0, new Uint8Array(4096).fill(9));
  bdev.inject({ ops: ['write'], errno: 'ENOSPC', times: 1 });
  await assert.rejects(async () => syncFs(ops, first), { code: 'ENOSPC' });
  assert.equal(file.inode.mapping.isDirty || other.inode.mapping.isDirty, false);
  assert.deepEqual(steps, ['commitAll']);
  await syncFs(ops, first);
  await assert.rejects(async () => syncFs(ops, second), { code: 'ENOSPC', syscall: 'syncfs' });
  await syncFs(ops, second);
  // One of the two files keeps its own error for fsync.
  const told = await Promise.allSettled([file, other].map(async ({ open }) => fsyncFile(open, ops)));
  assert.deepEqual(told.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
});
