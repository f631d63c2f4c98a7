import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { Inode } from '../vfs/inode.ts';
import { OpenFile } from '../vfs/open-file.ts';
import { bufferedRead } from './buffered-read.ts';
import { bufferedWrite } from './buffered-write.ts';
import { iomapAddressSpaceOps } from './file-io.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_BUFFER_HEAD,
  IOMAP_F_FOLIO_BATCH,
  IOMAP_F_SIZE_CHANGED,
  IOMAP_F_STALE,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
  type Iomap,
} from './iomap.ts';

const BLOCK = 4096;
const SIZE = 16 * BLOCK;

type Patch = Partial<Record<keyof Iomap, unknown>>;

/** Each line of specification 2.10: what a filesystem or server must not say about byte 5000 of a file of 16 blocks. */
const LIES: Record<string, { map?: Patch; source?: Patch; write?: boolean; code?: 'EIO' }> = {
  'starts behind the position': { map: { offset: 2 * BLOCK, addr: 2 * BLOCK } },
  'ends before the position': { map: { offset: 0, length: BLOCK } },
  'is empty': { map: { offset: BLOCK, length: 0 } },
  'has a negative length': { map: { length: -BLOCK } },
  'has a negative start': { map: { offset: -BLOCK, length: SIZE } },
  'has a length that is no number': { map: { length: Number.NaN } },
  'has a start that is no whole number': { map: { offset: 0.5 } },
  'has a start past 2^53': { map: { offset: 2 ** 53 } },
  'passes 2^53 - 1': { map: { length: Number.MAX_SAFE_INTEGER - 1000 } },
  'has an infinite length': { map: { length: Number.POSITIVE_INFINITY } },
  'is stale from the start': { map: { flags: IOMAP_F_STALE } },
  'has the flag SIZE_CHANGED': { map: { flags: IOMAP_F_SIZE_CHANGED } },
  'has a batch where nobody zeroes': { map: { flags: IOMAP_F_FOLIO_BATCH } },
  'has an unknown flag': { map: { flags: 1 << 16 } },
  'has buffer heads': { map: { flags: IOMAP_F_BUFFER_HEAD } },
  'has type 5': { map: { type: 5 } },
  'has type 255': { map: { type: 255 } },
  'has type -1': { map: { type: -1 } },
  'has type 2.5': { map: { type: 2.5 } },
  'has type NaN': { map: { type: Number.NaN } },
  'starts inside a block': { map: { offset: 100, addr: 0 } },
  'is not whole blocks': { map: { length: 6000 } },
  'is unwritten and not whole blocks': { map: { type: IOMAP_UNWRITTEN, length: 6000 } },
  'has a misaligned address': { map: { addr: 100 } },
  'has a negative address': { map: { addr: -4096 } },
  'has an address that is no whole number': { map: { addr: 0.5 } },
  'starts outside its device': { map: { addr: 2 ** 40 } },
  'ends outside its device': { map: { length: 2 ** 40 } },
  'has a device without an address': { map: { addr: IOMAP_NULL_ADDR } },
  'has an address without a device': { map: { bdev: undefined } },
  'is a hole with an address': { map: { type: IOMAP_HOLE } },
  'is reserved and has an address': { map: { type: IOMAP_DELALLOC } },
  'is a hole for a write': { map: { type: IOMAP_HOLE, addr: IOMAP_NULL_ADDR, bdev: undefined }, write: true },
  'has a source that ends before the position': { source: { offset: 0, length: BLOCK }, write: true },
  'has a source outside its device': { source: { addr: 2 ** 40 }, write: true },
  'has a source of type 9': { source: { type: 9 }, write: true },
  'is inline without data': { map: { type: IOMAP_INLINE, addr: IOMAP_NULL_ADDR, bdev: undefined } },
  'is inline and has an address': { map: { type: IOMAP_INLINE, inlineData: new Uint8Array(SIZE) } },
  'is inline and shorter than the file': {
    map: { type: IOMAP_INLINE, addr: IOMAP_NULL_ADDR, bdev: undefined, inlineData: new Uint8Array(SIZE - 1) },
    code: 'EIO',
  },
};

function liar(lie: { map?: Patch; source?: Patch }, foreign: boolean): LinearFile {
  const file: LinearFile = new LinearFile({
    size: SIZE,
    fill: 1,
    foreign,
    map: (_pos, _length, _flags, map, srcmap) => {
      const honest = { type: IOMAP_MAPPED, offset: 0, length: SIZE, addr: 0, bdev: file.device };
      Object.assign(map, honest, lie.map);
      if (lie.source !== undefined) Object.assign(srcmap, honest, lie.source);
    },
  });
  return file;
}

for (const [name, lie] of Object.entries(LIES)) {
  for (const foreign of [false, true]) {
    test(`2.10: a mapping that ${name} is refused (${foreign ? 'server' : 'filesystem'})`, async () => {
      const code = foreign || lie.code === 'EIO' ? 'EIO' : 'EUCLEAN';
      const file = liar(lie, foreign);
      const dirty = file.folios().length;
      const other = new LinearFile({ size: SIZE, fill: 2 });
      const neighbour = new Inode(file.sb, { blockSize: BLOCK, size: SIZE, ops: iomapAddressSpaceOps(other.io) });
      const write = () => bufferedWrite({ pos: 5000, flags: 0 }, file.inode, new IovIter(Uint8Array.of(9)), file.io);
      await assert.rejects(
        async () => write(),
        (error) => hasCode(error, code),
      );
      assert.equal(file.inode.isBad, true);
      assert.equal(file.begins, 1);
      assert.equal(file.ends, 1, 'begin succeeded, so end is called');
      assert.equal(file.folios().length, dirty);
      assert.deepEqual(file.device.requests, [], 'nothing reached the device');
      // From here on nothing it says is used.
      for (const again of [
        async () => write(),
        async () => bufferedRead({ pos: 0, flags: 0 }, file.inode, new Uint8Array(10)),
        async () => file.zero(0, 10),
      ]) {
        await assert.rejects(again, (error) => hasCode(error, 'EIO'));
      }
      assert.equal(file.begins, 1);
      file.check();
      // Another file of the same filesystem goes on.
      const into = new Uint8Array(100);
      assert.equal(await bufferedRead({ pos: 0, flags: 0 }, neighbour, into), 100);
      assert.deepEqual(into, new Uint8Array(100).fill(2));
      assert.equal(await bufferedWrite({ pos: 0, flags: 0 }, neighbour, new IovIter(into), other.io), 100);
      await neighbour.mapping.writeAndWait(0, SIZE);
      assert.equal(neighbour.isBad, false);
    });
    if (lie.write === true) continue;
    test(`2.10: a mapping that ${name} fails a read (${foreign ? 'server' : 'filesystem'})`, async () => {
      const file = liar(lie, foreign);
      await assert.rejects(file.read(5000, 10), (error) => hasCode(error, 'EIO'));
      assert.equal(file.inode.isBad, true);
      assert.deepEqual(file.device.requests, []);
      file.check();
    });
  }
}

test('2.10: dirty data of an inode that went bad is not written, and each opener is told', async () => {
  let isLying = false;
  const file: LinearFile = new LinearFile({
    size: SIZE,
    map: (_pos, _length, _flags, map) => {
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: isLying ? 2 ** 40 : SIZE, addr: 0, bdev: file.device });
    },
  });
  const open = new OpenFile(file.inode);
  await file.write(0, new Uint8Array(2 * BLOCK).fill(5));
  isLying = true;
  await assert.rejects(file.write(4 * BLOCK, new Uint8Array(10)), (error) => hasCode(error, 'EUCLEAN'));
  await assert.rejects(file.sync(), (error) => hasCode(error, 'EIO'));
  assert.deepEqual(file.device.writes(), []);
  assert.throws(
    () => open.checkWritebackErrors(),
    (error) => hasCode(error, 'EIO'),
  );
  open.checkWritebackErrors();
});

test('2.10: writeback is mapped by the same rules', async () => {
  const lies: [Patch, string][] = [
    [{ offset: BLOCK }, 'EIO'],
    [{ length: BLOCK + 100 }, 'EUCLEAN'],
    [{ addr: 2 ** 40 }, 'EUCLEAN'],
    [{ addr: 7 }, 'EUCLEAN'],
    [{ bdev: undefined }, 'EIO'],
    [{ type: 7 }, 'EIO'],
  ];
  for (const [lie, code] of lies) {
    for (const blockSize of [512, BLOCK]) {
      const file: LinearFile = new LinearFile({
        size: SIZE,
        blockSize,
        ioend: {
          mapBlocks: (wpc) => {
            Object.assign(wpc.iomap, { type: IOMAP_MAPPED, flags: 0, offset: 0, length: SIZE, addr: 0, bdev: file.device }, lie);
          },
        },
      });
      await file.write(0, new Uint8Array(BLOCK).fill(5));
      await assert.rejects(file.sync(), (error) => hasCode(error, code as 'EIO'));
      assert.deepEqual(file.device.writes(), []);
      file.check();
      assert.deepEqual(
        file.folios().map((folio) => [folio.isUptodate, folio.isDirty, folio.isWriteback]),
        [[true, false, false]],
      );
    }
  }
});

test('positions past 2^53 - 1 are EOVERFLOW, past the largest file EFBIG, and no positions EINVAL', async () => {
  const file = new LinearFile({ size: SIZE, deviceSize: 2 ** 26 });
  const { inode, io } = file;
  const write = (pos: number) => bufferedWrite({ pos, flags: 0 }, inode, new IovIter(new Uint8Array(10)), io);
  const cases: [() => unknown, string][] = [
    [() => write(2 ** 53), 'EOVERFLOW'],
    [() => write(2 ** 60), 'EOVERFLOW'],
    [() => write(2 ** 53 - 5), 'EFBIG'],
    [() => write(inode.sizeMax - 9), 'EFBIG'],
    [() => write(-1), 'EINVAL'],
    [() => write(0.5), 'EINVAL'],
    [() => write(Number.NaN), 'EINVAL'],
    [() => bufferedRead({ pos: 2 ** 53, flags: 0 }, inode, new Uint8Array(10)), 'EOVERFLOW'],
    [() => bufferedRead({ pos: -1, flags: 0 }, inode, new Uint8Array(10)), 'EINVAL'],
    [() => file.fileWrite(inode.sizeMax, new Uint8Array(10)), 'EFBIG'],
    [() => file.fileWrite(2 ** 53, new Uint8Array(10)), 'EOVERFLOW'],
    [() => file.zero(2 ** 53, 10), 'EOVERFLOW'],
    [() => file.zero(inode.sizeMax - 5, 10), 'EFBIG'],
    [() => file.zero(0, 2 ** 60), 'EFBIG'],
    [async () => file.view(10, 2 ** 53), 'EOVERFLOW'],
  ];
  for (const [call, code] of cases) {
    await assert.rejects(
      async () => call(),
      (error) => hasCode(error, code as 'EFBIG'),
      call.toString(),
    );
  }
  assert.equal(file.begins, 0);
  assert.equal(await bufferedRead({ pos: 2 ** 53 - 1, flags: 0 }, inode, new Uint8Array(10)), 0);
});

test('A3: a file reaches to the last whole block below 2^53, and its last bytes can be written, read and written back', async () => {
  const file: LinearFile = new LinearFile({
    map: (pos, _length, _flags, map) => {
      const offset = pos - (pos % BLOCK);
      Object.assign(map, { type: IOMAP_MAPPED, offset, length: BLOCK, addr: offset % 65536, bdev: file.device });
    },
  });
  const end = file.inode.sizeMax;
  assert.equal(end, 2 ** 53 - BLOCK);
  file.inode.size = end - 3 * BLOCK;
  const data = new Uint8Array(2 * BLOCK + 100).map((_, i) => i % 253);
  assert.equal(await file.write(end - data.length, data), data.length);
  assert.equal(file.inode.size, end);
  await file.sync();
  await file.dropCache();
  assert.deepEqual(await file.read(end - data.length, data.length + 10), data);
  // A write call is cut at the largest size.
  assert.equal(await file.fileWrite(end - 10, new Uint8Array(100)), 10);
});
