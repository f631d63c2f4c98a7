import assert from 'node:assert/strict';
import test from 'node:test';
import { DELALLOC } from '../../test/support/extent-map.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { TestFile } from '../../test/support/test-file.ts';
import { TestFs } from '../../test/support/test-fs.ts';
import { FsError } from '../base/fs-error.ts';
import { run } from '../base/task.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import * as all from './fiemap.ts';
import {
  FIEMAP_EXTENT_DATA_INLINE,
  FIEMAP_EXTENT_DELALLOC,
  FIEMAP_EXTENT_LAST,
  FIEMAP_EXTENT_MERGED,
  FIEMAP_EXTENT_SHARED,
  FIEMAP_EXTENT_UNKNOWN,
  FIEMAP_EXTENT_UNWRITTEN,
  FIEMAP_FLAG_SYNC,
  FIEMAP_FLAG_XATTR,
  type FiemapExtent,
  fiemap,
} from './fiemap.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_MERGED,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  type Iomap,
  type IomapType,
} from './iomap.ts';

const BLOCK = 4096;
const HERE = 1 << 20;

/** A file of one block for each piece; the rest is a hole. */
function fileOf(pieces: { type: IomapType; flags?: number; noAddress?: boolean }[]): LinearFile {
  const file: LinearFile = new LinearFile({
    size: pieces.length * BLOCK,
    map: (pos, _length, _flags, map) => {
      const at = Math.floor(pos / BLOCK);
      const piece = pieces[at];
      map.offset = at * BLOCK;
      map.length = piece === undefined ? 2 ** 53 - BLOCK - map.offset : BLOCK;
      if (piece === undefined) return;
      map.type = piece.type;
      map.flags = piece.flags ?? 0;
      if (piece.type === IOMAP_INLINE) map.inlineData = new Uint8Array(BLOCK);
      if ((piece.type !== IOMAP_MAPPED && piece.type !== IOMAP_UNWRITTEN) || piece.noAddress === true) return;
      map.addr = HERE + 2 * at * BLOCK;
      map.bdev = file.device;
    },
  });
  return file;
}

test('flags and addresses by type of mapping', async () => {
  const { inode, io } = fileOf([
    { type: IOMAP_MAPPED },
    { type: IOMAP_HOLE },
    { type: IOMAP_UNWRITTEN },
    { type: IOMAP_DELALLOC },
    { type: IOMAP_MAPPED, flags: IOMAP_F_SHARED | IOMAP_F_MERGED },
    { type: IOMAP_MAPPED, noAddress: true },
    { type: IOMAP_INLINE },
  ]);
  const extent = (at: number, flags: number, hasAddress = true): FiemapExtent => {
    return { logical: at * BLOCK, physical: hasAddress ? HERE + 2 * at * BLOCK : 0, length: BLOCK, flags };
  };
  assert.deepEqual(await fiemap(inode, {}, io.ops), {
    count: 6,
    extents: [
      extent(0, 0),
      extent(2, FIEMAP_EXTENT_UNWRITTEN),
      extent(3, FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN, false),
      extent(4, FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_MERGED),
      extent(5, FIEMAP_EXTENT_UNKNOWN, false),
      extent(6, FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_LAST, false),
    ],
  });
  assert.equal(inode.lock.isLocked, false);
});

test('invariant 57: LAST, holes, the array that is full, and the count without an array', async () => {
  const pieces = [IOMAP_HOLE, IOMAP_MAPPED, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_MAPPED, IOMAP_HOLE].map(
    (type) => ({ type }) as { type: IomapType },
  );
  const { inode, io } = fileOf(pieces);
  const list = async (max?: number, start = 0, length = Number.POSITIVE_INFINITY) => {
    const answer = await fiemap(inode, { start, length, ...(max === undefined ? {} : { max }) }, io.ops);
    return [answer.count, ...answer.extents.map(({ logical, flags }) => `${logical / BLOCK}${flags & FIEMAP_EXTENT_LAST ? ' last' : ''}`)];
  };
  assert.deepEqual(await list(), [3, '1', '3', '4 last']);
  assert.deepEqual(await list(4), [3, '1', '3', '4 last']);
  assert.deepEqual(await list(3), [3, '1', '3', '4 last'], 'just enough room: the last is known to be the last');
  assert.deepEqual(await list(2), [2, '1', '3']);
  assert.deepEqual(await list(1), [1, '1']);
  assert.deepEqual(await list(0), [3]);
  assert.deepEqual(await list(undefined, BLOCK, 1), [1, '1 last'], 'the last of the range');
  assert.deepEqual(await list(undefined, 5 * BLOCK), [0]);
});

test('bug 38: a mapping that ends nothing and moves nothing ends the walk', async () => {
  // ENOENT is how a filesystem says that there is nothing more.
  const { inode, io } = fileOf([{ type: IOMAP_MAPPED }, { type: IOMAP_MAPPED }]);
  let begins = 0;
  const ops = {
    iomapBegin(...args: Parameters<typeof io.ops.iomapBegin>) {
      begins++;
      if (args[1] >= BLOCK) throw new FsError('ENOENT', 'iomap');
      return io.ops.iomapBegin(...args);
    },
  };
  const answer = await fiemap(inode, {}, ops);
  assert.deepEqual(answer.extents, [{ logical: 0, physical: HERE, length: BLOCK, flags: FIEMAP_EXTENT_LAST }]);
  assert.equal(begins, 2);
  // A full array stops without progress: nothing more is asked for.
  begins = 0;
  const counting = {
    iomapBegin(...args: Parameters<typeof io.ops.iomapBegin>) {
      begins++;
      return io.ops.iomapBegin(...args);
    },
  };
  assert.equal((await fiemap(inode, { max: 1 }, counting)).count, 1);
  assert.equal(begins, 2);
  // Other errors are errors, and the lock is given back.
  const failing = {
    iomapBegin: () => {
      throw new FsError('EIO', 'iomap');
    },
  };
  assert.throws(() => fiemap(inode, {}, failing), { code: 'EIO' });
  assert.equal(inode.lock.isLocked, false);
});

test('extents that were told of already are not told again', async () => {
  const file = new LinearFile({ size: 16 * BLOCK });
  const ops = {
    // A mapping with a source shorter than itself is walked in two steps, and both steps answer with all of it.
    iomapBegin: (_inode: unknown, pos: number, _length: number, _flags: number, map: Iomap, srcmap: Iomap) => {
      map.offset = pos < 8 * BLOCK ? 0 : 8 * BLOCK;
      map.length = 8 * BLOCK;
      map.type = IOMAP_MAPPED;
      map.addr = map.offset;
      map.bdev = file.device;
      if (pos !== 0) return;
      srcmap.copyFrom(map);
      srcmap.length = 4 * BLOCK;
    },
  };
  const { extents } = await fiemap(file.inode, { length: 16 * BLOCK }, ops);
  assert.deepEqual(
    extents.map(({ logical, physical, length }) => [logical, physical, length].map((bytes) => bytes / BLOCK)),
    [
      [0, 0, 8],
      [8, 8, 8],
    ],
  );
});

test('requests: what is refused, and invariant 66: a length of 0 calls no hook', async () => {
  const file = fileOf([{ type: IOMAP_MAPPED }]);
  const { inode, io } = file;
  assert.deepEqual(await fiemap(inode, { length: 0, flags: FIEMAP_FLAG_SYNC }, io.ops), { extents: [], count: 0 });
  assert.throws(() => fiemap(inode, { start: -1 }, io.ops), { code: 'EINVAL' });
  assert.throws(() => fiemap(inode, { length: -1 }, io.ops), { code: 'EINVAL' });
  assert.throws(() => fiemap(inode, { max: 0.5 }, io.ops), { code: 'EINVAL' });
  assert.throws(() => fiemap(inode, { start: inode.sizeMax + 1 }, io.ops), { code: 'EFBIG' });
  assert.throws(() => fiemap(inode, { flags: FIEMAP_FLAG_XATTR }, io.ops), { code: 'EBADR' });
  assert.throws(() => fiemap(inode, { flags: 0x80 }, io.ops), { code: 'EBADR' });
  assert.equal(file.begins, 0);
  const xattrs = fileOf([{ type: IOMAP_HOLE }, { type: IOMAP_MAPPED }]);
  const answer = await fiemap(inode, { flags: FIEMAP_FLAG_XATTR }, io.ops, xattrs.io.ops);
  assert.equal(answer.extents[0]?.logical, BLOCK);
  assert.equal(file.begins, 0);
});

test('SYNC gives delayed allocations a place first, and the list is made under the shared inode lock', async () => {
  const fs = new TestFs({ bdev: new MemoryDevice({ size: 2 ** 22 }), blockSize: 1024 });
  const file = new TestFile(fs);
  await file.write(1500, new Uint8Array(3000).fill(1));
  const before = await fiemap(file.inode, {}, fs.io.ops);
  assert.ok(before.extents.every(({ flags, physical }) => (flags & FIEMAP_EXTENT_DELALLOC) !== 0 && physical === 0));
  const after = await fiemap(file.inode, { flags: FIEMAP_FLAG_SYNC }, fs.io.ops);
  assert.ok(after.extents.every(({ flags }) => (flags & (FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNWRITTEN)) === 0));
  await file.inode.lock.lock();
  let done = false;
  const waiting = Promise.resolve(fiemap(file.inode, {}, fs.io.ops)).then(() => {
    done = true;
  });
  await fs.settle();
  assert.equal(done, false);
  file.inode.lock.unlock();
  await waiting;
});

test('invariant 57: the concatenation of the extents is the extent map', () =>
  forEachSeed('fiemap', 40, async (prng) => {
    const blockSize = prng.pick([512, 4096, 8192]);
    const bdev = new MemoryDevice({ size: 2 ** 22 });
    const fs = new TestFs({
      bdev,
      prng: prng.fork(),
      blockSize,
      mode: prng.pick(['delalloc', 'unwritten'] as const),
      extentMax: prng.pick([1, 4, 100]),
    });
    const file = new TestFile(fs);
    const room = 40 * blockSize;
    for (let step = 0; step < 30; step++) {
      const pos = prng.below(room);
      const length = prng.between(1, 5 * blockSize);
      await prng.pick([
        () => file.write(pos, prng.bytes(length)),
        () => file.prealloc(pos, length),
        () => file.punch(pos, length),
        () => file.truncate(pos),
        () => file.fsync(),
      ])();
    }
    const expected: string[] = [];
    for (const { block, count, addr, written } of file.inode.data.all) {
      for (let i = 0; i < count; i++) expected.push(`${block + i} ${addr === DELALLOC ? 'delalloc' : `${addr + i} ${written}`}`);
    }
    const length = 50 * blockSize; // mappings of holes are short here: to the largest file size is a long way
    const { extents, count } = await fiemap(file.inode, { length }, fs.io.ops);
    const actual: string[] = [];
    for (const { logical, physical, length, flags } of extents) {
      for (let i = 0; i < length / blockSize; i++) {
        const place =
          flags & FIEMAP_EXTENT_DELALLOC ? 'delalloc' : `${physical / blockSize + i} ${(flags & FIEMAP_EXTENT_UNWRITTEN) === 0}`;
        actual.push(`${logical / blockSize + i} ${place}`);
      }
    }
    assert.deepEqual(actual, expected);
    assert.equal(count, extents.length);
    assert.deepEqual(
      extents.filter(({ flags }) => (flags & FIEMAP_EXTENT_LAST) !== 0),
      extents.slice(-1),
    );
    assert.equal((await fiemap(file.inode, { length, max: 0 }, fs.io.ops)).count, extents.length);
    // In pieces, as a caller with a small array asks.
    const pieces: FiemapExtent[] = [];
    for (let start = 0; ; ) {
      const { extents: some } = await fiemap(file.inode, { start, length: length - start, max: 2 }, fs.io.ops);
      pieces.push(...some);
      const last = some.at(-1);
      if (last === undefined || (last.flags & FIEMAP_EXTENT_LAST) !== 0) break;
      start = last.logical + last.length;
    }
    assert.deepEqual(pieces, extents);
    await run(fs.commit());
    await fs.settle();
  }));

test('invariant 68: every extent flag has a value of its own, one bit', () => {
  const values = Object.entries(all).filter(([name]) => name.startsWith('FIEMAP_EXTENT_')) as [string, number][];
  assert.equal(values.length, 11);
  assert.equal(new Set(values.map(([, value]) => value)).size, values.length);
  for (const [name, value] of values) assert.equal(value & (value - 1), 0, name);
});
