import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Quota } from './quota.ts';

const block = 4096;

test('blocks are taken up to the limit, and none where there are fewer than the least', () => {
  const quota = new Quota({ bytes: 10 * block }, block);
  assert.equal(quota.takeBlocks(1, 8, 1, 'write'), 8);
  assert.equal(quota.takeBlocks(1, 8, 1, 'write'), 2);
  assert.throws(() => quota.takeBlocks(1, 1, 1, 'write'), { code: 'ENOSPC', syscall: 'write' });
  quota.releaseBlocks(1, 10);
  assert.throws(() => quota.takeBlocks(1, 11, 11, 'fallocate'), { code: 'ENOSPC' });
  assert.equal(quota.total.blocks, 0);
});

test('an owner has a limit of his own, the superuser has none', () => {
  const quota = new Quota({ bytes: 100 * block, userBytes: 4 * block, userInodes: 1 }, block);
  assert.equal(quota.takeBlocks(7, 9, 1, 'write'), 4);
  assert.throws(() => quota.takeBlocks(7, 1, 1, 'write'), { code: 'EDQUOT' });
  assert.equal(quota.takeBlocks(8, 3, 1, 'write'), 3);
  assert.equal(quota.takeBlocks(0, 50, 1, 'write'), 50);
  quota.takeInode(7, 'mkdir');
  assert.throws(() => quota.takeInode(7, 'mkdir'), { code: 'EDQUOT' });
  quota.takeInode(0, 'mkdir');
  quota.takeInode(0, 'mkdir');
});

test('a file changes hands with all it has, or not at all', () => {
  const quota = new Quota({ userBytes: 4 * block }, block);
  quota.takeInode(7, 'open');
  quota.takeBlocks(7, 3, 3, 'write');
  quota.takeBlocks(8, 2, 2, 'write');
  assert.throws(() => quota.checkTransfer(8, 3, 'chown'), { code: 'EDQUOT', syscall: 'chown' });
  quota.checkTransfer(9, 3, 'chown');
  quota.transfer(7, 9, 3);
  assert.deepEqual(quota.usageOf(7), { blocks: 0, inodes: 0 });
  assert.deepEqual(quota.usageOf(9), { blocks: 3, inodes: 1 });
  assert.deepEqual(quota.total, { blocks: 5, inodes: 1 });
});
