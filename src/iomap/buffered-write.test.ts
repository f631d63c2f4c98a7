import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { hasState } from './folio-state.ts';

const MIB = 1024 * 1024;

test('seed 000: a write of bytes 1..1048575 into an absent 1 MiB folio of a 2 MiB file reads its first and last block only', async () => {
  const file = new LinearFile({ size: 2 * MIB, fill: 0x11 });
  const data = new Uint8Array(MIB - 2).fill(0x77);
  assert.equal(await file.write(1, data), data.length);
  assert.equal(file.cache.folioCount, 1);
  const folio = file.inode.mapping.find(0);
  assert.equal(folio?.size, MIB);
  assert.deepEqual(file.device.requests, [
    { op: 'read', addr: 0, length: 4096 },
    { op: 'read', addr: MIB - 4096, length: 4096 },
  ]);
  const expected = new Uint8Array(MIB).fill(0x77);
  expected[0] = 0x11;
  expected[MIB - 1] = 0x11;
  assert.deepEqual(await file.read(0, MIB), expected);
  file.device.clear();
  await file.sync();
  assert.deepEqual(file.device.requests, [{ op: 'write', addr: 0, length: MIB }]);
  // One byte more: one block goes out.
  file.device.clear();
  await file.write(5 * 4096 + 7, Uint8Array.of(1));
  await file.sync();
  assert.deepEqual(file.device.requests, [{ op: 'write', addr: 5 * 4096, length: 4096 }]);
  await file.dropCache();
  expected[5 * 4096 + 7] = 1;
  assert.deepEqual(await file.read(0, MIB), expected);
});

test('invariant 8: a write of a whole absent folio allocates no record and reads nothing', async () => {
  const file = new LinearFile({ size: MIB, fill: 0x11 });
  await file.write(0, new Uint8Array(65536).fill(3));
  const folio = file.inode.mapping.find(0);
  assert.equal(folio?.size, 65536);
  assert.equal(folio !== undefined && hasState(folio), false);
  assert.equal(file.device.requests.length, 0);
});

test('a cached read answers without a promise', async () => {
  const file = new LinearFile({ size: MIB, fill: 0x11 });
  await file.read(0, MIB);
  const { bufferedRead } = await import('./buffered-read.ts');
  const into = new Uint8Array(4096);
  assert.equal(bufferedRead({ pos: 8192, flags: 0 }, file.inode, into), 4096);
  assert.deepEqual(into, new Uint8Array(4096).fill(0x11));
});
