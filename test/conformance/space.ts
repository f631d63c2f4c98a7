import assert from 'node:assert/strict';
import { O_APPEND, O_RDONLY, O_RDWR, SEEK_DATA, SEEK_HOLE } from '../../src/vfs/uapi.ts';
import type { PosixFace, PosixFile } from '../support/posix-face.ts';
import { all, type Behaviour, type Behaviours, type Feature, fails, needs, pattern, put, withFile } from './behaviour.ts';

// Source: Linux include/uapi/linux/falloc.h, fiemap.h.
const KEEP_SIZE = 0x01;
const PUNCH_HOLE = 0x02;
const COLLAPSE_RANGE = 0x08;
const ZERO_RANGE = 0x10;
const INSERT_RANGE = 0x20;
const FIEMAP_EXTENT_LAST = 1;
const FIEMAP_EXTENT_UNWRITTEN = 0x800;

const BLOCK = 4096; // of every filesystem here, or a multiple of theirs

/** Runs on a file with this content, opened for both. */
const on = (feature: Feature | Feature[], content: Uint8Array | string, use: (file: PosixFile, fs: PosixFace) => unknown): Behaviour =>
  needs(feature, async (fs) => {
    await put(fs, 'f', content);
    await withFile(fs, 'f', O_RDWR, (file) => use(file, fs) as Promise<void>);
  });

function same(got: Uint8Array, expected: Uint8Array): void {
  const at = expected.findIndex((byte, i) => got[i] !== byte);
  assert.ok(at < 0, `byte ${at} is ${got[at]}, not ${expected[at]}`);
  assert.equal(got.length, expected.length);
}

/** The pattern of this length with zeros in [from, to). */
const holed = (length: number, from: number, to: number) => pattern(length).fill(0, from, to);

/** A mode that does something on its own to a range of a file of one block per pattern: what every mode refuses alike. */
function refusals(feature: Feature, name: string, mode: number): Behaviours {
  return {
    [`${name} needs an open file that is written`]: needs(feature, async (fs) => {
      await put(fs, 'f', pattern(3 * BLOCK));
      await withFile(fs, 'f', O_RDONLY, (file) => fails('EBADF', () => file.fallocate(mode, 0, BLOCK)));
    }),
    [`${name} of no length or from a negative offset is EINVAL`]: on(feature, pattern(3 * BLOCK), async (file) => {
      await fails('EINVAL', () => file.fallocate(mode, 0, 0));
      await fails('EINVAL', () => file.fallocate(mode, 0, -BLOCK));
      await fails('EINVAL', () => file.fallocate(mode, -BLOCK, BLOCK));
      same(await all(file), pattern(3 * BLOCK));
    }),
  };
}

/** Space of files: fallocate in all its modes, fiemap. */
export const space: Behaviours = {
  ...refusals('fallocate', 'fallocate', 0),
  ...refusals('punch', 'punching', PUNCH_HOLE | KEEP_SIZE),
  ...refusals('zeroRange', 'zeroing', ZERO_RANGE),
  ...refusals('shiftRange', 'collapsing', COLLAPSE_RANGE),
  ...refusals('shiftRange', 'inserting', INSERT_RANGE),
  'fallocate extends a file with zeros': on('fallocate', 'abc', async (file) => {
    await file.fallocate(0, 0, 3 * BLOCK);
    assert.equal((await file.fstat()).size, 3 * BLOCK);
    const expected = new Uint8Array(3 * BLOCK);
    expected.set(Buffer.from('abc'));
    same(await all(file), expected);
  }),
  'fallocate within the file leaves size and bytes': on('fallocate', pattern(3 * BLOCK), async (file) => {
    await file.fallocate(0, BLOCK, BLOCK);
    same(await all(file), pattern(3 * BLOCK));
  }),
  'fallocate takes space': on('fallocate', '', async (file) => {
    await file.fallocate(0, 0, 64 * BLOCK);
    assert.ok((await file.fstat()).blocks >= (64 * BLOCK) / 512);
  }),
  'fallocate fills a hole with space that reads zeros': on('fallocate', '', async (file) => {
    await file.ftruncate(8 * BLOCK);
    await file.fallocate(0, 2 * BLOCK, 2 * BLOCK);
    assert.ok((await file.fstat()).blocks >= (2 * BLOCK) / 512);
    same(await all(file), new Uint8Array(8 * BLOCK));
  }),
  'fallocate that keeps the size takes space past the end': on('fallocate', 'abc', async (file) => {
    await file.fallocate(KEEP_SIZE, 0, 64 * BLOCK);
    const stat = await file.fstat();
    assert.equal(stat.size, 3);
    assert.ok(stat.blocks >= (64 * BLOCK) / 512);
    assert.equal((await all(file)).length, 3);
  }),
  'a write into space past the end shows zeros before it': on('fallocate', 'abc', async (file) => {
    await file.fallocate(KEEP_SIZE, 0, 16 * BLOCK);
    await file.pwrite('x', 8 * BLOCK);
    const expected = new Uint8Array(8 * BLOCK + 1);
    expected.set(Buffer.from('abc'));
    expected[8 * BLOCK] = 0x78;
    same(await all(file), expected);
  }),
  'truncation gives space past the end back': on('fallocate', 'abc', async (file) => {
    await file.fallocate(KEEP_SIZE, 0, 64 * BLOCK);
    await file.ftruncate(3);
    assert.ok((await file.fstat()).blocks < (64 * BLOCK) / 512);
  }),
  'fallocate of what is too large is EFBIG': on('fallocate', '', (file) =>
    fails('EFBIG', () => file.fallocate(0, 2 ** 63 - 1024, 1024 * 1024)),
  ),
  'an unknown mode is EOPNOTSUPP': on('fallocate', 'abc', (file) => fails('EOPNOTSUPP', () => file.fallocate(0x8000, 0, BLOCK))),
  'fallocate of a directory is EISDIR or EBADF': needs('fallocate', async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, (dir) => fails('EBADF', () => dir.fallocate(0, 0, BLOCK)));
  }),
  'punching makes zeros and leaves the size': on('punch', pattern(5 * BLOCK), async (file) => {
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, BLOCK, 2 * BLOCK);
    same(await all(file), holed(5 * BLOCK, BLOCK, 3 * BLOCK));
  }),
  'punching at unaligned edges zeros exactly the range': on('punch', pattern(5 * BLOCK), async (file) => {
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 1000, 3 * BLOCK);
    same(await all(file), holed(5 * BLOCK, 1000, 1000 + 3 * BLOCK));
  }),
  'punching within a block zeros exactly the range': on('punch', pattern(2 * BLOCK), async (file) => {
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 100, 50);
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, BLOCK - 1, 2);
    const expected = holed(2 * BLOCK, 100, 150).fill(0, BLOCK - 1, BLOCK + 1);
    same(await all(file), expected);
  }),
  'punching past the end leaves the size': on('punch', pattern(BLOCK), async (file) => {
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 100, 100 * BLOCK);
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 200 * BLOCK, BLOCK);
    same(await all(file), holed(BLOCK, 100, BLOCK));
  }),
  'punching gives space back': on('punch', pattern(64 * BLOCK), async (file) => {
    await file.fsync();
    const before = (await file.fstat()).blocks;
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, BLOCK, 62 * BLOCK);
    const after = (await file.fstat()).blocks;
    assert.ok(after <= before - (61 * BLOCK) / 512, `${before} blocks, then ${after}`);
  }),
  'punching makes a hole that SEEK_HOLE finds': on(['punch', 'sparse'], pattern(64 * BLOCK), async (file) => {
    await file.fsync();
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 16 * BLOCK, 16 * BLOCK);
    assert.equal(await file.lseek(0, SEEK_HOLE), 16 * BLOCK);
    assert.equal(await file.lseek(16 * BLOCK, SEEK_DATA), 32 * BLOCK);
  }),
  'punching without keeping the size is EOPNOTSUPP': on('punch', pattern(BLOCK), (file) =>
    fails('EOPNOTSUPP', () => file.fallocate(PUNCH_HOLE, 0, BLOCK)),
  ),
  'a hole is written again': on('punch', pattern(4 * BLOCK), async (file) => {
    await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 0, 4 * BLOCK);
    await file.pwrite('x', BLOCK + 5);
    const expected = new Uint8Array(4 * BLOCK);
    expected[BLOCK + 5] = 0x78;
    same(await all(file), expected);
  }),
  'zeroing makes zeros': on('zeroRange', pattern(5 * BLOCK), async (file) => {
    await file.fallocate(ZERO_RANGE, 1000, 2 * BLOCK);
    same(await all(file), holed(5 * BLOCK, 1000, 1000 + 2 * BLOCK));
  }),
  'zeroing over the end extends, unless it keeps the size': on('zeroRange', pattern(BLOCK), async (file) => {
    await file.fallocate(ZERO_RANGE | KEEP_SIZE, 100, 2 * BLOCK);
    assert.equal((await file.fstat()).size, BLOCK);
    await file.fallocate(ZERO_RANGE, 100, 2 * BLOCK);
    assert.equal((await file.fstat()).size, 100 + 2 * BLOCK);
    const expected = new Uint8Array(100 + 2 * BLOCK);
    expected.set(pattern(100));
    same(await all(file), expected);
  }),
  'collapsing takes a range out': on('shiftRange', pattern(6 * BLOCK), async (file) => {
    await file.fallocate(COLLAPSE_RANGE, BLOCK, 2 * BLOCK);
    const was = pattern(6 * BLOCK);
    same(await all(file), Uint8Array.from([...was.subarray(0, BLOCK), ...was.subarray(3 * BLOCK)]));
  }),
  'collapsing a range that is not made of blocks is EINVAL': on('shiftRange', pattern(6 * BLOCK), async (file) => {
    await fails('EINVAL', () => file.fallocate(COLLAPSE_RANGE, 100, BLOCK));
    await fails('EINVAL', () => file.fallocate(COLLAPSE_RANGE, BLOCK, 100));
  }),
  'collapsing to the end or past it is EINVAL': on('shiftRange', pattern(6 * BLOCK), async (file) => {
    await fails('EINVAL', () => file.fallocate(COLLAPSE_RANGE, 4 * BLOCK, 2 * BLOCK));
    await fails('EINVAL', () => file.fallocate(COLLAPSE_RANGE, 4 * BLOCK, 4 * BLOCK));
    same(await all(file), pattern(6 * BLOCK));
  }),
  'collapsing goes with no other mode': on('shiftRange', pattern(6 * BLOCK), async (file) => {
    await fails('EOPNOTSUPP', () => file.fallocate(COLLAPSE_RANGE | KEEP_SIZE, 0, BLOCK));
    await fails('EOPNOTSUPP', () => file.fallocate(COLLAPSE_RANGE | INSERT_RANGE, 0, BLOCK));
  }),
  'inserting moves the rest up and leaves a hole': on('shiftRange', pattern(4 * BLOCK), async (file) => {
    await file.fallocate(INSERT_RANGE, BLOCK, 2 * BLOCK);
    const was = pattern(4 * BLOCK);
    same(await all(file), Uint8Array.from([...was.subarray(0, BLOCK), ...new Uint8Array(2 * BLOCK), ...was.subarray(BLOCK)]));
  }),
  'inserting what is not made of blocks is EINVAL': on('shiftRange', pattern(4 * BLOCK), async (file) => {
    await fails('EINVAL', () => file.fallocate(INSERT_RANGE, 100, BLOCK));
    await fails('EINVAL', () => file.fallocate(INSERT_RANGE, BLOCK, 100));
  }),
  'inserting at the end or past it is EINVAL': on('shiftRange', pattern(4 * BLOCK), async (file) => {
    await fails('EINVAL', () => file.fallocate(INSERT_RANGE, 4 * BLOCK, BLOCK));
    await fails('EINVAL', () => file.fallocate(INSERT_RANGE, 8 * BLOCK, BLOCK));
  }),
  'an unaligned tail moves with collapsing and inserting': on('shiftRange', pattern(3 * BLOCK + 100), async (file) => {
    await file.fallocate(INSERT_RANGE, 0, BLOCK);
    await file.fallocate(COLLAPSE_RANGE, BLOCK, BLOCK);
    const was = pattern(3 * BLOCK + 100);
    same(await all(file), Uint8Array.from([...new Uint8Array(BLOCK), ...was.subarray(BLOCK)]));
  }),
  'a file opened for appending is allocated but not punched twice': needs(['fallocate', 'punch'], async (fs) => {
    await put(fs, 'f', pattern(2 * BLOCK));
    await withFile(fs, 'f', O_RDWR | O_APPEND, async (file) => {
      await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 0, BLOCK);
      await file.fallocate(PUNCH_HOLE | KEEP_SIZE, 0, BLOCK);
      same(await all(file), holed(2 * BLOCK, 0, BLOCK));
    });
  }),
  'fiemap tells an extent for what is written, the last one marked': on('fiemap', pattern(4 * BLOCK), async (file) => {
    await file.fsync();
    const extents = await file.fiemap(0, 2 ** 40);
    assert.ok(extents.length > 0);
    assert.equal(extents[0]?.logical, 0);
    let end = 0;
    for (const { logical, length } of extents) {
      assert.equal(logical, end);
      end = logical + length;
    }
    assert.ok(end >= 4 * BLOCK);
    assert.deepEqual(
      extents.map(({ flags }) => (flags & FIEMAP_EXTENT_LAST) !== 0),
      extents.map((_, i) => i === extents.length - 1),
    );
  }),
  'fiemap tells nothing for holes and for an empty file': on('fiemap', '', async (file) => {
    assert.deepEqual(await file.fiemap(0, 2 ** 40), []);
    await file.ftruncate(100 * BLOCK);
    assert.deepEqual(await file.fiemap(0, 2 ** 40), []);
    await file.pwrite(pattern(BLOCK), 50 * BLOCK);
    await file.fsync();
    const [extent] = await file.fiemap(0, 2 ** 40);
    assert.ok(extent !== undefined && extent.logical > 0 && extent.logical <= 50 * BLOCK);
  }),
  'fiemap marks what is allocated and not written': on(['fiemap', 'fallocate'], '', async (file) => {
    await file.fallocate(0, 0, 4 * BLOCK);
    const extents = await file.fiemap(0, 2 ** 40);
    assert.ok(extents.length > 0);
    for (const { flags } of extents) assert.ok((flags & FIEMAP_EXTENT_UNWRITTEN) !== 0);
  }),
};
