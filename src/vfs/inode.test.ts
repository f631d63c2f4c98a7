import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settles } from '../../test/support/stub-file.ts';
import { POSITION_MAX } from '../base/ranges.ts';
import { BackingDevice } from '../pagecache/backing-device.ts';
import { PageCache } from '../pagecache/page-cache.ts';
import { Inode, inodeOf } from './inode.ts';
import { OpenFile } from './open-file.ts';
import { type FsErrorReport, SuperBlock } from './super-block.ts';

function superBlock(sizeMax?: number): SuperBlock {
  const cache = new PageCache({ budget: 2 ** 20 });
  return new SuperBlock(cache, new BackingDevice(cache), sizeMax);
}

test('folios are never smaller than a block, and blocks are powers of two from 512 bytes to 64 KiB', () => {
  const sb = superBlock();
  for (const [blockSize, orderMin] of [
    [512, 0],
    [4096, 0],
    [8192, 1],
    [65536, 4],
  ] as const) {
    const inode = new Inode(sb, { blockSize });
    assert.equal(inode.mapping.orderMin, orderMin, `block size ${blockSize}`);
    assert.ok(inode.mapping.orderMax >= orderMin);
    assert.equal(inodeOf(inode.mapping), inode);
  }
  assert.equal(new Inode(sb, { blockSize: 512, orderMin: 2 }).mapping.orderMin, 2);
  assert.equal(new Inode(sb, { blockSize: 65536, orderMax: 1 }).mapping.orderMax, 4);
  for (const blockSize of [0, 256, 1000, 131072, Number.NaN])
    assert.throws(() => new Inode(sb, { blockSize }), { code: 'ERR_ASSERTION' }, `${blockSize}`);
});

test('a block that is larger than all memory is refused when the file is opened, not when it is read', () => {
  const cache = new PageCache({ budget: 8192 });
  const sb = new SuperBlock(cache, new BackingDevice(cache));
  assert.throws(() => new Inode(sb, { blockSize: 65536 }), { code: 'ERR_ASSERTION' });
});

test('the largest size is one of whole blocks', () => {
  assert.equal(new Inode(superBlock(), { blockSize: 4096 }).sizeMax, 2 ** 53 - 4096);
  assert.equal(new Inode(superBlock(10_000), { blockSize: 4096 }).sizeMax, 8192);
  assert.ok(new Inode(superBlock(POSITION_MAX), { blockSize: 512 }).sizeMax <= POSITION_MAX);
});

test('invariant 51: the count of direct requests ends where it began, and who waits for it is woken at 0', async () => {
  const inode = new Inode(superBlock(), { blockSize: 4096 });
  assert.equal(inode.dioWait(), undefined);
  inode.dioBegin();
  inode.dioBegin();
  const waits = [inode.dioWait(), inode.dioWait()];
  inode.dioEnd();
  assert.equal(await settles(Promise.race(waits)), false);
  inode.dioEnd();
  inode.dioBegin(); // before the waiters had their turn
  assert.equal(await settles(Promise.race(waits)), false);
  inode.dioEnd();
  await Promise.all(waits);
  assert.throws(() => inode.dioEnd(), { code: 'ERR_ASSERTION' });
});

test('a bad inode refuses I/O', () => {
  const inode = new Inode(superBlock(), { blockSize: 4096, ino: 12 });
  inode.checkGood('read');
  inode.markBad();
  assert.throws(() => inode.checkGood('read'), { code: 'EIO', syscall: 'read' });
});

test('invariant 55: an error of writeback is told once to every open file, once to syncfs, and not to who opens after it was seen', () => {
  const sb = superBlock();
  const inode = new Inode(sb, { blockSize: 4096 });
  const other = new Inode(sb, { blockSize: 4096 });
  const [a, b] = [new OpenFile(inode), new OpenFile(inode)];
  const elsewhere = new OpenFile(other);
  const sinceMount = sb.errors.sample();
  a.checkWritebackErrors();
  inode.setError(-5);
  inode.setError(-28);
  const early = new OpenFile(inode);
  assert.throws(() => a.checkWritebackErrors(), { code: 'ENOSPC', syscall: 'fsync' });
  a.checkWritebackErrors();
  const late = new OpenFile(inode);
  late.checkWritebackErrors();
  assert.throws(() => b.checkWritebackErrors('close'), { code: 'ENOSPC', syscall: 'close' });
  assert.throws(() => early.checkWritebackErrors(), { code: 'ENOSPC' });
  for (const each of [a, b, early, late, elsewhere]) each.checkWritebackErrors();
  assert.equal(sb.errors.checkAndAdvance(sinceMount).errno, -28);
  assert.deepEqual([inode.mapping.errorCount, inode.mapping.lastError], [2, -28]);
});

test('bug 39: error reports reach watchers in a later turn; retries, fallbacks and successes are none', async () => {
  const sb = superBlock();
  const inode = new Inode(sb, { blockSize: 4096 });
  inode.reportError('data-lost', 0, 1, -5); // nobody watches
  const seen: FsErrorReport[] = [];
  const stop = sb.watchErrors((report) => seen.push(report));
  for (const errno of [-11, -15, 0, 5]) inode.reportError('direct-write', 0, 4096, errno);
  inode.reportError('data-lost', 2 ** 40, 4096, -5);
  assert.deepEqual(seen, []);
  await sb.work.drain();
  assert.deepEqual(seen, [{ kind: 'data-lost', inode, pos: 2 ** 40, length: 4096, errno: -5 }]);
  stop();
  inode.reportError('metadata', 0, 0, -5);
  await sb.work.drain();
  assert.equal(seen.length, 1);
});
