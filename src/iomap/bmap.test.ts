import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { TestFile } from '../../test/support/test-file.ts';
import { TestFs } from '../../test/support/test-fs.ts';
import { FsError } from '../base/fs-error.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { bmap } from './bmap.ts';
import { IOMAP_DELALLOC, IOMAP_HOLE, IOMAP_INLINE, IOMAP_MAPPED, IOMAP_UNWRITTEN, type IomapType } from './iomap.ts';

function fileOf(type: IomapType, addr: number, deviceSize?: number): LinearFile {
  const file: LinearFile = new LinearFile({
    size: 65536,
    ...(deviceSize === undefined ? {} : { deviceSize }),
    map: (_pos, _length, _flags, map) => {
      map.type = type;
      map.length = 65536;
      if (type === IOMAP_INLINE) map.inlineData = new Uint8Array(65536);
      if ((type !== IOMAP_MAPPED && type !== IOMAP_UNWRITTEN) || addr < 0) return;
      map.addr = addr;
      map.bdev = file.device;
    },
  });
  return file;
}

test('invariant 58: only mapped blocks have a number', async () => {
  const at = async (type: IomapType, block: number, addr = 40960) => {
    const { inode, io } = fileOf(type, addr);
    return bmap(inode, block, io.ops);
  };
  assert.equal(await at(IOMAP_MAPPED, 0), 10);
  assert.equal(await at(IOMAP_MAPPED, 3), 13);
  for (const type of [IOMAP_HOLE, IOMAP_DELALLOC, IOMAP_UNWRITTEN, IOMAP_INLINE] as const) assert.equal(await at(type, 3), 0);
  assert.equal(await at(IOMAP_MAPPED, 3, -1), 0, 'no address');
  assert.equal(await at(IOMAP_MAPPED, 3, 512), 0, 'not whole blocks');
});

test('invariant 58: delayed allocations get their block first', async () => {
  const fs = new TestFs({ bdev: new MemoryDevice({ size: 2 ** 22 }), blockSize: 1024 });
  const file = new TestFile(fs);
  await file.write(2048, new Uint8Array(1024).fill(0x5c));
  const block = await bmap(file.inode, 2, fs.io.ops);
  assert.ok(block > 0 || file.inode.data.at(2)?.addr === 0);
  assert.equal(block, file.inode.data.at(2)?.addr);
  assert.deepEqual((fs.bdev as MemoryDevice).read(block * 1024, 1024), new Uint8Array(1024).fill(0x5c));
  assert.equal(await bmap(file.inode, 0, fs.io.ops), 0);
});

test('numbers that do not fit an int are 0', async () => {
  const size = 2 ** 31 * 4096;
  const { inode, io } = fileOf(IOMAP_MAPPED, size - 8192, 2 ** 31 * 4096 + 65536);
  assert.equal(await bmap(inode, 1, io.ops), 2 ** 31 - 1);
  assert.equal(await bmap(inode, 2, io.ops), 0);
});

test('errors are 0, except a block number that is none', async () => {
  const { inode } = fileOf(IOMAP_MAPPED, 0);
  const failing = {
    iomapBegin: () => {
      throw new FsError('EIO', 'iomap');
    },
  };
  assert.equal(await bmap(inode, 1, failing), 0);
  assert.equal(await bmap(inode, 2 ** 52, failing), 0);
  assert.throws(() => bmap(inode, -1, failing), { code: 'EINVAL' });
});
