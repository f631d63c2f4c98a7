import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { hasCode } from '../base/fs-error.ts';
import type { Prng } from '../base/prng.ts';
import { TAG_DIRTY } from '../pagecache/address-space.ts';
import { IOMAP_DELALLOC, IOMAP_F_SHARED, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_UNWRITTEN, type IomapType } from './iomap.ts';
import { unshare } from './unshare.ts';

async function unshareLocked(file: LinearFile, pos: number, length: number): Promise<void> {
  await file.inode.lock.lock();
  await file.inode.mapping.invalidateLock.lock();
  try {
    await unshare(file.inode, pos, length, file.io);
  } finally {
    file.inode.mapping.invalidateLock.unlock();
    file.inode.lock.unlock();
  }
}

function sharedFile(prng: Prng, size: number) {
  const blockSize = prng.pick([512, 1024, 4096, 16384]);
  const file = new BlockFile({ blockSize, size, fill: 0xdb, orderMin: prng.below(3), extentMax: prng.pick([2, 1000]) });
  const blocks = Math.ceil(size / blockSize);
  const model = new Uint8Array(size);
  for (let block = 0; block < blocks; block++) {
    const type = prng.pick<IomapType>([IOMAP_MAPPED, IOMAP_MAPPED, IOMAP_HOLE, IOMAP_UNWRITTEN]);
    file.set(block, block + 1, type);
    if (type !== IOMAP_MAPPED) continue;
    const data = prng.bytes(blockSize);
    file.device.inner.write(block * blockSize, data);
    model.set(data.subarray(0, Math.min(blockSize, size - block * blockSize)), block * blockSize);
    if (prng.chance(0.6)) file.shared.add(block);
  }
  return { file, model, blockSize, blocks };
}

test('invariant 28: unshare leaves the content as it was, gives the file blocks of its own, and reads shared blocks only', () =>
  forEachSeed('unshare', 80, async (prng) => {
    const size = 1 + prng.below(150_000);
    const { file, model, blockSize } = sharedFile(prng, size);
    if (prng.chance(0.5)) await file.read(prng.below(size), 20_000);
    const wasShared = new Set(file.shared);
    file.device.clear();
    const start = blockSize * prng.below(Math.ceil(size / blockSize));
    const length = blockSize * (1 + prng.below(20)) + prng.pick([0, 1_000_000]);
    await unshareLocked(file, start, length);
    for (const { addr, length: read } of file.device.reads()) {
      for (let at = addr; at < addr + read; at += blockSize) assert.ok(wasShared.has(at / blockSize), `block at ${at} was read`);
    }
    assertSameBytes(await file.read(0, size), model, 'content');
    await file.sync();
    const end = Math.min(start + length, size);
    for (const block of wasShared) {
      const isInside = block * blockSize >= start && block * blockSize < end;
      assert.equal(file.shared.has(block), !isInside, `block ${block}`);
    }
    await file.dropCache();
    assertSameBytes(await file.read(0, size), model, 'content after writeback');
    file.check();
  }));

test('bug 3: blocks that are not cached are read before they are dirtied', async () => {
  for (const blockSize of [1024, 4096]) {
    const file = new BlockFile({ blockSize, size: 65536, initial: IOMAP_MAPPED, fill: 0x3c });
    for (let block = 0; block < 65536 / blockSize; block++) file.shared.add(block);
    await unshareLocked(file, 0, 65536); // whole folios: a write would not read them
    assert.deepEqual(await file.read(0, 65536), new Uint8Array(65536).fill(0x3c));
    await file.sync();
    await file.dropCache();
    assert.deepEqual(await file.read(0, 65536), new Uint8Array(65536).fill(0x3c));
  }
});

test('bug 4: nothing past the end of the file, and nothing that is only reserved, is dirtied', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 5000, initial: IOMAP_MAPPED, fill: 1, orderMin: 0 });
  for (let block = 0; block < 64; block++) file.shared.add(block);
  await unshareLocked(file, 0, 65536);
  for (const folio of file.folios()) assert.ok(folio.pos < 5000);
  assert.equal(file.copies.size, 5, 'copies for the blocks of the file');
  await unshareLocked(file, 5000, 1000);
  await unshareLocked(file, 2 ** 40, 1000);
  assert.equal(file.copies.size, 5);
  // SHARED over a reservation, or with a source that is no data: not wanted.
  for (const source of [IOMAP_HOLE, IOMAP_DELALLOC, IOMAP_UNWRITTEN]) {
    const other: LinearFile = new LinearFile({
      size: 65536,
      map: (_pos, _length, _flags, map, srcmap) => {
        Object.assign(map, { type: IOMAP_DELALLOC, flags: IOMAP_F_SHARED, offset: 0, length: 65536 });
        if (source !== IOMAP_HOLE) Object.assign(srcmap, { type: source, offset: 0, length: 65536 });
        if (source === IOMAP_UNWRITTEN) Object.assign(srcmap, { addr: 0, bdev: other.device });
      },
    });
    await unshareLocked(other, 0, 65536);
    assert.equal(other.inode.mapping.next(0, 65536, TAG_DIRTY), undefined);
    assert.equal(other.folios().length, 0);
    other.check();
  }
});

test('S5: a mapping that is not SHARED is left alone although it has a source', async () => {
  const file: LinearFile = new LinearFile({
    size: 65536,
    map: (_pos, _length, _flags, map, srcmap) => {
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 65536, addr: 65536, bdev: file.device });
      Object.assign(srcmap, { type: IOMAP_MAPPED, offset: 0, length: 65536, addr: 0, bdev: file.device });
    },
  });
  await unshareLocked(file, 0, 65536);
  assert.equal(file.folios().length, 0);
});

test('a shared block that cannot be read fails unshare, and is not dirtied', async () => {
  const file = new BlockFile({ blockSize: 1024, size: 65536, initial: IOMAP_MAPPED, fill: 1, orderMax: 0 });
  for (let block = 0; block < 64; block++) file.shared.add(block);
  file.device.fails = (bio) => (bio.op === 0 && bio.addr >= 8192 ? -5 : 0);
  await assert.rejects(unshareLocked(file, 0, 65536), (error) => hasCode(error, 'EIO'));
  const dirty = file.folios().filter((folio) => folio.isDirty);
  assert.deepEqual(
    dirty.map((folio) => folio.pos),
    [0, 4096],
  );
  file.check();
});
