import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { TestFs, type TestInode } from '../../test/support/test-fs.ts';
import { testFsOps } from '../../test/support/test-fs-ops.ts';
import { IovIter } from '../base/iov-iter.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { bufferedFileWrite } from './buffered-file.ts';
import { bufferedRead } from './buffered-read.ts';
import { preallocate, punchHole } from './fallocate.ts';
import { IOMAP_DELALLOC, IOMAP_HOLE, IOMAP_INLINE, IOMAP_MAPPED, IOMAP_REPORT, IOMAP_UNWRITTEN, type IomapType } from './iomap.ts';
import { seekData, seekHole } from './seek.ts';
import { setSize } from './truncate.ts';

/** A file of one mapping type from end to end. */
function fileOf(type: IomapType, size: number, options: { blockSize?: number } = {}): LinearFile {
  const file = new LinearFile({
    size,
    ...options,
    map: (_pos, _length, _flags, map) => {
      map.type = type;
      map.offset = 0;
      map.length = 65536;
      if (type === IOMAP_INLINE) map.inlineData = new Uint8Array(65536);
      if (type !== IOMAP_MAPPED && type !== IOMAP_UNWRITTEN) return;
      map.addr = 0;
      map.bdev = file.device;
    },
  });
  return file;
}

const ENXIO = { code: 'ENXIO', errno: -6, syscall: 'lseek' };

test('what is data and what is a hole, by type of mapping', () => {
  for (const type of [IOMAP_MAPPED, IOMAP_DELALLOC, IOMAP_INLINE] as const) {
    const { inode, io } = fileOf(type, 10_000);
    assert.equal(seekData(inode, 5000, io.ops), 5000);
    assert.equal(seekHole(inode, 5000, io.ops), 10_000);
  }
  for (const type of [IOMAP_HOLE, IOMAP_UNWRITTEN] as const) {
    const { inode, io } = fileOf(type, 10_000);
    assert.throws(() => seekData(inode, 5000, io.ops), ENXIO);
    assert.equal(seekHole(inode, 5000, io.ops), 5000);
  }
});

test('invariant 66: outside the file no hook is called', () => {
  const file = fileOf(IOMAP_MAPPED, 10_000);
  for (const pos of [-1, 10_000, 10_001]) {
    assert.throws(() => seekData(file.inode, pos, file.io.ops), ENXIO);
    assert.throws(() => seekHole(file.inode, pos, file.io.ops), ENXIO);
  }
  assert.throws(() => seekData(file.inode, 0.5, file.io.ops), { code: 'EINVAL' });
  assert.equal(file.begins, 0);
});

test('mappings are asked for with IOMAP_REPORT', () => {
  const seen: number[] = [];
  const { inode, io } = new LinearFile({
    size: 4096,
    map: (_pos, _length, flags, map) => {
      seen.push(flags);
      map.offset = 0;
      map.length = 4096;
    },
  });
  assert.equal(seekHole(inode, 0, io.ops), 0);
  assert.deepEqual(seen, [IOMAP_REPORT]);
});

test('bug 36: data over unwritten blocks is found by block, from a position inside a block too', async () => {
  const file = fileOf(IOMAP_UNWRITTEN, 65536, { blockSize: 1024 });
  const { inode, io } = file;
  await file.write(8192 + 2048, new Uint8Array(1024).fill(1)); // one block of a page of four
  assert.equal(inode.mapping.find(8192)?.isUptodate, false);
  assert.equal(seekData(inode, 0, io.ops), 10240);
  assert.equal(seekData(inode, 10240 + 700, io.ops), 10240 + 700);
  assert.throws(() => seekData(inode, 11264, io.ops), ENXIO);
  assert.equal(seekHole(inode, 0, io.ops), 0);
  assert.equal(seekHole(inode, 10240 + 700, io.ops), 11264);
  await file.write(11264, new Uint8Array(6000).fill(1)); // goes over into other folios
  assert.equal(seekHole(inode, 10240, io.ops), 11264 + 6144);
});

test('a folio that was read over an unwritten range is data: uptodate counts, not dirty', async () => {
  const file = fileOf(IOMAP_UNWRITTEN, 65536);
  await file.read(20_000, 1);
  const at = await seekData(file.inode, 0, file.io.ops);
  assert.ok(at <= 20_000 && file.inode.mapping.find(at)?.isUptodate === true);
});

test('an answer that waited is looked at again where the mapping changed meanwhile', async () => {
  // begin answers UNWRITTEN; before the answer arrives writeback converts the blocks and the cache is dropped.
  let sequence = 1;
  let type: IomapType = IOMAP_UNWRITTEN;
  const { inode, io, device } = fileOf(IOMAP_UNWRITTEN, 65536);
  let begins = 0;
  const ops = {
    iomapBegin: async (...[, , , , map]: Parameters<typeof io.ops.iomapBegin>) => {
      begins++;
      map.type = type;
      map.length = 65536;
      map.addr = 0;
      map.bdev = device;
      map.validityCookie = sequence;
      type = IOMAP_MAPPED;
      await Promise.resolve();
      if (begins === 1) sequence++;
    },
  };
  assert.equal(await seekData(inode, 4096, ops, (_inode, map) => map.validityCookie === sequence), 4096);
  assert.equal(begins, 2);
});

test('invariant 56: data and holes partition the file, and no cached change lies in a hole', () =>
  forEachSeed('seek', 20, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const fs = new TestFs({
      bdev: new MemoryDevice({ size: 2 ** 22 }),
      prng: prng.fork(),
      blockSize,
      mode: prng.pick(['delalloc', 'unwritten', 'mapped-new'] as const),
      extentMax: prng.pick([1, 3, 1000]),
      orderMax: prng.between(0, 5),
    });
    const inode = fs.createInode();
    const ops = testFsOps(fs);
    const room = 60 * blockSize;
    for (let step = 0; step < 40; step++) {
      const pos = prng.below(room);
      const length = prng.between(1, 6 * blockSize);
      await prng.pick([
        () => bufferedFileWrite({ pos, flags: 0 }, inode, new IovIter(new Uint8Array(length).fill(prng.between(1, 0x7f))), fs.io),
        () => preallocate(inode, pos, length, prng.chance(0.5), ops),
        () => punchHole(inode, pos, length, ops),
        () => setSize(inode, pos, ops),
        () => bufferedRead({ pos, flags: 0 }, inode, new Uint8Array(length)),
        () => inode.mapping.startWrite(pos, pos + length),
        () => inode.mapping.writeAndWait(0, room),
        async () => {
          await inode.mapping.writeAndWait(0, room);
          await inode.mapping.invalidateRange(0, room);
        },
      ])();
      await checkPartition(inode, fs);
    }
    await fs.settle();
  }));

async function checkPartition(inode: TestInode, fs: TestFs): Promise<void> {
  const into = new Uint8Array(inode.size);
  const runs: { start: number; end: number; data: boolean }[] = [];
  for (let pos = 0; pos < inode.size; ) {
    const hole = await seekHole(inode, pos, fs.io.ops);
    assert.ok(hole >= pos && hole <= inode.size);
    if (hole > pos) {
      assert.equal(await seekData(inode, pos, fs.io.ops), pos, 'before a hole that lies further on there is data');
      runs.push({ start: pos, end: hole, data: true });
      pos = hole;
      continue;
    }
    let data = inode.size;
    try {
      data = await seekData(inode, pos, fs.io.ops);
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ENXIO');
    }
    assert.ok(data > pos, 'a byte is in a hole and in data');
    runs.push({ start: pos, end: data, data: false });
    pos = data;
  }
  // No dirty folio in a hole, byte by byte: what is not zero is data. Read last, since reading makes data.
  await bufferedRead({ pos: 0, flags: 0 }, inode, into);
  for (const { start, end, data } of runs) {
    if (!data)
      assert.ok(
        into.subarray(start, end).every((byte) => byte === 0),
        `data in the hole [${start}, ${end})`,
      );
  }
}
