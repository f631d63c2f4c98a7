import assert from 'node:assert/strict';
import test from 'node:test';
import { TestFile } from '../../test/support/test-file.ts';
import { TestFs } from '../../test/support/test-fs.ts';
import { testFsOps } from '../../test/support/test-fs-ops.ts';
import { FsError } from '../base/fs-error.ts';
import { deferred } from '../base/task.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { Freezer } from './freeze.ts';

function world() {
  const fs = new TestFs({ bdev: new MemoryDevice({ size: 2 ** 24 }) });
  const steps: string[] = [];
  const ops = {
    ...testFsOps(fs, (step) => steps.push(step)),
    freezeFs: () => {
      assert.ok(fs.sb.freezeWrite.isExclusive && fs.sb.freezeFs.isExclusive);
      assert.equal(file.inode.mapping.isDirty, false, 'frozen with dirty data');
      steps.push('freezeFs');
    },
    thawFs: () => {
      assert.ok(fs.sb.freezeFs.isExclusive);
      steps.push('thawFs');
    },
  };
  const file = new TestFile(fs);
  return { fs, steps, ops, file, freezer: new Freezer(fs.sb, ops) };
}

/** True once `promise` is settled; looks after every other task had its turn. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  await new Promise((resolve) => setImmediate(resolve));
  return settled;
}

test('freezing: writers end, everything is synced, transactions end, storage is brought to rest; in this order', async () => {
  const { fs, steps, file, freezer } = world();
  await file.write(0, new Uint8Array(10_000).fill(1));
  await fs.sb.freezeWrite.lockShared(); // a writer
  await fs.sb.freezeFs.lockShared(); // a transaction
  const frozen = Promise.resolve(freezer.freeze());
  const lateWriter = file.write(0, new Uint8Array(10).fill(2));
  assert.equal(await isSettled(frozen), false);
  assert.deepEqual(steps, [], 'synced while a writer runs');
  fs.sb.freezeWrite.unlockShared();
  assert.equal(await isSettled(frozen), false);
  assert.deepEqual(steps, ['commitAll'], 'writers are gone, a transaction runs');
  fs.sb.freezeFs.unlockShared();
  await frozen;
  assert.deepEqual(steps, ['commitAll', 'freezeFs']);
  assert.equal(freezer.isFrozen, true);

  // Nobody changes anything; readers read.
  const others = [lateWriter, file.truncate(5), file.store(0, new Uint8Array(1)), file.punch(0, 4096)];
  for (const other of others) assert.equal(await isSettled(other), false);
  assert.deepEqual(await file.read(0, 3), new Uint8Array(3).fill(1));
  await freezer.thaw();
  await Promise.all(others);
  assert.equal(file.size, 5);
  assert.equal(freezer.isFrozen, false);
});

test('freezes are counted, and come one after the other', async () => {
  const { fs, steps, freezer } = world();
  await Promise.all([freezer.freeze(), freezer.freeze(), freezer.freeze()]);
  assert.deepEqual(steps, ['commitAll', 'freezeFs']);
  await freezer.thaw();
  await freezer.thaw();
  assert.equal(fs.sb.freezeWrite.isExclusive, true);
  await freezer.thaw();
  assert.deepEqual(steps, ['commitAll', 'freezeFs', 'thawFs']);
  assert.equal(fs.sb.freezeWrite.isLocked || fs.sb.freezeFs.isLocked, false);
  assert.throws(() => freezer.thaw(), { code: 'EINVAL' });
});

test('a thaw that comes while a freeze is under way waits for it', async () => {
  const { fs, freezer } = world();
  await fs.sb.freezeWrite.lockShared();
  const frozen = Promise.resolve(freezer.freeze());
  const thawed = Promise.resolve(freezer.thaw());
  assert.equal(await isSettled(thawed), false);
  fs.sb.freezeWrite.unlockShared();
  await Promise.all([frozen, thawed]);
  assert.equal(freezer.isFrozen, false);
});

test('a freeze that fails leaves everything running, a thaw that fails leaves it frozen', async () => {
  const { fs, ops } = world();
  const fail = () => {
    throw new FsError('EIO', 'freeze');
  };
  for (const broken of [{ commitAll: fail }, { freezeFs: fail }]) {
    const freezer = new Freezer(fs.sb, { ...ops, ...broken });
    await assert.rejects(async () => freezer.freeze(), { code: 'EIO' });
    assert.equal(fs.sb.freezeWrite.isLocked || fs.sb.freezeFs.isLocked || freezer.isFrozen, false);
  }
  let isBroken = true;
  const gate = deferred();
  const freezer = new Freezer(fs.sb, { ...ops, thawFs: () => (isBroken ? fail() : gate.promise) });
  await freezer.freeze();
  await assert.rejects(async () => freezer.thaw(), { code: 'EIO' });
  assert.equal(freezer.isFrozen && fs.sb.freezeFs.isExclusive, true);
  isBroken = false;
  const thawed = Promise.resolve(freezer.thaw());
  assert.equal(fs.sb.freezeFs.isExclusive, true, 'transactions run before the filesystem is ready');
  gate.resolve();
  await thawed;
  assert.equal(fs.sb.freezeFs.isLocked, false);
});
