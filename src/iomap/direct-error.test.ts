import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { FsError } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { directIo } from './direct-io.ts';
import { IOMAP_MAPPED, IOMAP_WRITE } from './iomap.ts';

test('after a direct write that failed half way the cache says what the device says', async () => {
  const file: LinearFile = new LinearFile({
    size: 8192,
    fill: 0x11,
    orderMax: 0,
    map: async (pos, _length, flags, map) => {
      const offset = pos - (pos % 4096);
      if ((flags & IOMAP_WRITE) !== 0 && offset > 0) {
        file.device.release(); // the first half has arrived
        throw new FsError('ENOSPC', 'write');
      }
      Object.assign(map, { type: IOMAP_MAPPED, offset, length: 4096, addr: offset, bdev: file.device });
    },
  });
  // A reader caches the old bytes while the first half is on its way.
  file.device.holds = (bio) => bio.isWrite;
  const before = file.ops.iomapBegin;
  let hasRead = false;
  const ops: typeof file.ops = {
    ...file.ops,
    iomapBegin: async (...args) => {
      if (args[1] > 0 && !hasRead) {
        hasRead = true;
        assert.equal((await file.read(0, 1))[0], 0x11);
      }
      await before.apply(file.ops, args);
    },
  };
  const writing = directIo({ pos: 0, flags: 0 }, file.inode, new IovIter(new Uint8Array(8192).fill(7)), true, ops, undefined, 0);
  await assert.rejects(Promise.resolve(writing), { code: 'ENOSPC' });
  assert.deepEqual(file.device.inner.read(0, 4096), new Uint8Array(4096).fill(7));
  assert.deepEqual(await file.read(0, 4096), file.device.inner.read(0, 4096));
});
