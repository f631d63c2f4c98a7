import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { nextDirty } from './folio-state.ts';
import { IOMAP_DELALLOC, IOMAP_F_STALE, IOMAP_FAULT, IOMAP_HOLE, IOMAP_WRITE } from './iomap.ts';
import { pageMkwrite } from './page-mkwrite.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function lockedFolio(file: LinearFile, pos: number) {
  await file.read(pos, 1);
  const folio = file.folioAt(pos);
  folio.get();
  assert.ok(folio.tryLock());
  return folio;
}

test('M3, F14: a store dirties all blocks of the folio inside the file, and has the filesystem provide them', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 10_000, initial: IOMAP_HOLE, orderMin: 2 });
  const folio = await lockedFolio(file, 0);
  await pageMkwrite(folio, file.io);
  assert.deepEqual([folio.isLocked, folio.isDirty, folio.isMapWritable], [true, true, true]);
  for (let at = 0; at < folio.size; at += 1024) assert.equal(nextDirty(folio, at, at + 1024), at < 10_000 ? at : -1);
  assert.deepEqual(file.ofType(IOMAP_DELALLOC, 64), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  folio.unlock();
  folio.put();
  await file.sync();
  assert.equal(
    file.device.writes().reduce((sum, { length }) => sum + length, 0),
    10 * 1024,
  );
  file.check();
});

test('M3: begin is asked for WRITE and FAULT, mapping by mapping, up to the end of the file', async () => {
  const asked: [number, number, number][] = [];
  const file: LinearFile = new LinearFile({
    size: 10_000,
    orderMin: 2,
    map: (pos, length, flags, map) => {
      if (flags !== 0) asked.push([pos, length, flags]);
      const offset = pos - (pos % 4096);
      Object.assign(map, { type: 2, offset, length: 4096, addr: offset, bdev: file.device });
    },
  });
  const folio = await lockedFolio(file, 0);
  await pageMkwrite(folio, file.io);
  const flags = IOMAP_WRITE | IOMAP_FAULT;
  assert.deepEqual(asked, [
    [0, 10_000, flags],
    [4096, 5904, flags],
    [8192, 1808, flags],
  ]);
  folio.unlock();
  folio.put();
});

test('M2: a folio past the end, or out of the cache, is EFAULT and stays locked', async () => {
  const file = new LinearFile({ size: 65536, fill: 1, orderMax: 0 });
  const folio = await lockedFolio(file, 8192);
  file.inode.size = 8192;
  assert.throws(
    () => pageMkwrite(folio, file.io),
    (error) => hasCode(error, 'EFAULT'),
  );
  assert.equal(folio.isLocked, true);
  file.inode.size = 65536;
  file.inode.mapping.remove(folio);
  assert.throws(
    () => pageMkwrite(folio, file.io),
    (error) => hasCode(error, 'EFAULT'),
  );
  folio.unlock();
  folio.put();
});

test('M4: without space the store fails with the error of begin', async () => {
  const file = new LinearFile({
    size: 65536,
    map: (_pos, _length, flags, map) => {
      if ((flags & IOMAP_WRITE) !== 0) throw new FsError('ENOSPC', 'mmap');
      Object.assign(map, { type: IOMAP_HOLE, offset: 0, length: 65536 });
    },
  });
  await assert.rejects(
    async () => file.view(65536).store(0, Uint8Array.of(1)),
    (error) => hasCode(error, 'ENOSPC'),
  );
  assert.equal(file.inode.mapping.isDirty, false);
  assert.equal(file.folioAt(0).isMapWritable, false);
  file.check();
});

test('M5: the store waits until the folio is stable, where that is wanted, and only there', async () => {
  for (const stableWrites of [true, false]) {
    const file = new LinearFile({ size: 4096, stableWrites });
    const view = file.view(4096);
    await view.store(0, new Uint8Array(4096).fill(1));
    file.device.holds = (bio) => bio.op === 1;
    const syncing = file.sync();
    let stored = false;
    const storing = Promise.resolve(view.store(0, Uint8Array.of(2))).then(() => {
      stored = true;
    });
    await turn();
    assert.equal(stored, !stableWrites);
    file.device.holds = () => false;
    file.device.release();
    await Promise.all([syncing, storing]);
    if (stableWrites) assert.equal(file.device.inner.read(0, 1)[0], 1, 'the device saw one version');
    assert.equal(file.folioAt(0).isDirty, true);
    await file.sync();
    assert.equal(file.device.inner.read(0, 1)[0], 2);
    file.check();
  }
});

test('V5: a store does not ask whether the mapping is still valid', async () => {
  const flags: number[] = [];
  const file = new LinearFile({
    size: 4096,
    fill: 1,
    writeOps: {
      iomapValid: () => {
        throw new Error('asked');
      },
    },
    end: (_inode, _pos, _length, _written, op, map) => void (op !== 0 && flags.push(map.flags & IOMAP_F_STALE)),
  });
  await file.view(4096).store(0, Uint8Array.of(1));
  assert.deepEqual(flags, [0]);
});
