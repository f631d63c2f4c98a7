import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertSameBytes } from '../../../test/support/model.ts';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { IovIter, type WriteSource } from '../../base/iov-iter.ts';
import type { Prng } from '../../base/prng.ts';
import { deferred, isPromise, type MaybePromise } from '../../base/task.ts';
import { FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_UNKNOWN, FIEMAP_EXTENT_UNWRITTEN, FIEMAP_FLAG_SYNC } from '../../iomap/fiemap.ts';
import { PageCache } from '../../pagecache/page-cache.ts';
import { callerOf, ROOT } from '../../vfs/caller.ts';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_ZERO_RANGE,
  O_RDWR,
  RWF_APPEND,
  RWF_ATOMIC,
  RWF_DONTCACHE,
  RWF_DSYNC,
  RWF_NOWAIT,
  RWF_SYNC,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
} from '../../vfs/uapi.ts';
import { MemFs, type MemFsOptions } from './mem-fs.ts';

const BLOCK = 4096;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
/** What only a 53-bit position reaches: the last whole block of the largest file. */
const FAR = 2 ** 53 - 2 * BLOCK;
const user = callerOf({ uid: 1000 });

/** What was answered; nothing here may have to wait. */
function now<T>(answer: MaybePromise<T>): T {
  assert.ok(!isPromise(answer), 'had to wait');
  return answer as T;
}

function filled(length: number, byte = 1): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

/** One open file of a filesystem. */
class File {
  readonly fs: MemFs;
  readonly node: number;
  readonly fh: number;

  constructor(fs: MemFs, name = 'f', caller = ROOT) {
    const { entry, fh } = now(fs.create(caller, 1, name, 0o644, O_RDWR));
    this.fs = fs;
    this.node = entry.node;
    this.fh = fh;
  }

  /** What it reads from its start, by a handle of its own. */
  readAnew(length: number): Uint8Array {
    const { fh } = this.fs.open(ROOT, this.node, O_RDWR);
    const into = filled(length, 0xee);
    const count = now(this.fs.read(ROOT, this.node, fh, { pos: 0, flags: 0 }, into));
    now(this.fs.release(this.node, fh));
    return into.subarray(0, count);
  }

  get size(): number {
    return this.fs.getattr(ROOT, this.node).size;
  }

  /** Blocks that it is charged for. */
  get blocks(): number {
    return this.fs.getattr(ROOT, this.node).blocks / 8;
  }

  write(pos: number, data: Uint8Array, flags = 0): number {
    const iocb = { pos, flags };
    const written = now(this.fs.write(ROOT, this.node, this.fh, iocb, new IovIter(data)));
    if ((flags & RWF_APPEND) === 0) assert.equal(iocb.pos, pos + written);
    return written;
  }

  read(pos: number, length: number): Uint8Array {
    const into = filled(length, 0xee);
    const iocb = { pos, flags: 0 };
    const count = now(this.fs.read(ROOT, this.node, this.fh, iocb, into));
    assert.equal(iocb.pos, pos + count);
    return into.subarray(0, count);
  }

  truncate(size: number): void {
    assert.equal(now(this.fs.setattr(ROOT, this.node, { size })).size, size);
  }

  fallocate(mode: number, offset: number, length: number): void {
    now(this.fs.fallocate(ROOT, this.node, this.fh, mode, offset, length));
  }

  copy(pos: number, to: File, posOut: number, length: number): number {
    return now(this.fs.copyFileRange(ROOT, this.node, this.fh, pos, to.node, to.fh, posOut, length, 0));
  }

  sync(): void {
    now(this.fs.fsync(ROOT, this.node, this.fh, false));
  }

  seek(pos: number, whence: number): number {
    return now(this.fs.lseek(ROOT, this.node, this.fh, pos, whence));
  }

  /** [position, length, flags] of each extent. */
  extents(flags = 0): [number, number, number][] {
    const extents = now(this.fs.fiemap(ROOT, this.node, 0, Number.POSITIVE_INFINITY, flags));
    return extents.map(({ logical, length, flags: told }) => [logical, length, told]);
  }

  /** Puts its data into blocks and drops its cache, as the face does that forgets it. */
  forget(): void {
    this.close();
    this.fs.forget(this.node, 1);
  }

  close(): void {
    now(this.fs.release(this.node, this.fh));
  }
}

function setup(options: MemFsOptions = {}): { fs: MemFs; file: File } {
  const fs = new MemFs(options);
  return { fs, file: new File(fs) };
}

test('what is written is read, short at the end', () => {
  const { file } = setup();
  file.write(0, filled(5000, 7));
  assert.deepEqual(file.read(4990, 100), filled(10, 7));
  assert.equal(file.read(5000, 1).length, 0);
  assert.equal(file.read(FAR, 1).length, 0);
});

test('bad positions are refused', () => {
  const { fs, file } = setup();
  for (const pos of [-1, 1.5, Number.NaN]) {
    assert.throws(() => file.read(pos, 1), { code: 'EINVAL' });
    assert.throws(() => file.write(pos, filled(1)), { code: 'EINVAL' });
  }
  assert.throws(() => file.write(2 ** 53 - 1, filled(1)), { code: 'EFBIG' });
  assert.throws(() => fs.setattr(ROOT, file.node, { size: 2 ** 53 - 1 }), { code: 'EFBIG' });
  assert.equal(file.size, 0);
});

test('an append goes to the end, whatever the position', () => {
  const { fs, file } = setup();
  file.write(0, filled(10, 1));
  const iocb = { pos: 3, flags: RWF_APPEND };
  now(fs.write(ROOT, file.node, file.fh, iocb, new IovIter(filled(2, 2))));
  assert.equal(iocb.pos, 12);
  assert.deepEqual(file.read(9, 10), new Uint8Array([1, 2, 2]));
});

test('synchronous writes are in blocks at return', () => {
  const { fs, file } = setup();
  for (const [i, flags] of [RWF_DSYNC, RWF_SYNC].entries()) {
    file.write(i * BLOCK, filled(BLOCK), flags);
    assert.deepEqual(file.extents().at(-1), [0, (i + 1) * BLOCK, FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_LAST]);
  }
  now(fs.fsync(ROOT, file.node, file.fh, true, 0, 10));
});

test('flags that a memory filesystem has no use for are refused, NOWAIT has nothing to wait for', () => {
  const { fs, file } = setup();
  assert.throws(() => file.write(0, filled(1), RWF_ATOMIC), { code: 'EOPNOTSUPP' });
  assert.throws(() => file.write(0, filled(1), RWF_DONTCACHE), { code: 'EOPNOTSUPP' });
  assert.equal(file.write(100_000, filled(BLOCK), RWF_NOWAIT), BLOCK); // past the end, not cached
  file.forget();
  fs.lookup(ROOT, 1, 'f');
  const { fh } = fs.open(ROOT, file.node, O_RDWR);
  const into = filled(10);
  assert.equal(now(fs.read(ROOT, file.node, fh, { pos: 0, flags: RWF_NOWAIT }, into)), 10);
});

test('a sparse file takes what was written, wherever that is', () => {
  const { file } = setup();
  file.write(FAR, filled(BLOCK, 5));
  file.write(0, filled(1, 6));
  assert.equal(file.size, FAR + BLOCK);
  assert.equal(file.blocks, 2);
  assert.equal(file.seek(1, SEEK_HOLE), BLOCK);
  assert.equal(file.seek(BLOCK, SEEK_DATA), FAR);
  assert.equal(file.seek(FAR, SEEK_HOLE), FAR + BLOCK);
  file.fallocate(PUNCH, 1, FAR - 1);
  file.truncate(FAR + 10);
  assert.deepEqual(file.read(FAR - 5, 100), new Uint8Array([0, 0, 0, 0, 0, ...filled(10, 5)]));
  file.truncate(0);
  assert.equal(file.blocks, 0);
});

test('dirty data is data to SEEK_DATA, and preallocated space is not', () => {
  const { file } = setup();
  file.fallocate(0, 0, 4 * BLOCK);
  file.write(2 * BLOCK, filled(1));
  for (let round = 0; round < 2; round++) {
    assert.equal(file.seek(0, SEEK_DATA), 2 * BLOCK);
    assert.equal(file.seek(0, SEEK_HOLE), 0);
    assert.equal(file.seek(2 * BLOCK, SEEK_HOLE), 3 * BLOCK);
    assert.throws(() => file.seek(3 * BLOCK, SEEK_DATA), { code: 'ENXIO' });
    file.sync();
  }
  assert.throws(() => file.seek(4 * BLOCK, SEEK_HOLE), { code: 'ENXIO' });
  assert.throws(() => file.seek(0, SEEK_END), { code: 'EINVAL' });
});

test('fiemap tells reserved blocks from stored ones, and can have dirty data stored first', () => {
  const { file } = setup();
  file.write(0, filled(2 * BLOCK));
  file.fallocate(FALLOC_FL_KEEP_SIZE, 4 * BLOCK, BLOCK);
  assert.deepEqual(file.extents(), [
    [0, 2 * BLOCK, FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_UNKNOWN],
    [4 * BLOCK, BLOCK, FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_LAST],
  ]);
  assert.deepEqual(file.extents(FIEMAP_FLAG_SYNC)[0], [0, 2 * BLOCK, FIEMAP_EXTENT_UNKNOWN]);
  assert.equal(now(file.fs.fiemap(ROOT, file.node, 0, 10 * BLOCK, 0, 1)).length, 1);
  assert.throws(() => file.fs.fiemap(ROOT, 1, 0, 1, 0), { code: 'EOPNOTSUPP' });
});

test('preallocation gives blocks, and the size unless it is to stay', () => {
  const { file } = setup();
  file.fallocate(FALLOC_FL_KEEP_SIZE, 0, 3 * BLOCK);
  assert.deepEqual([file.size, file.blocks], [0, 3]);
  file.fallocate(0, 100, 2 * BLOCK);
  assert.deepEqual([file.size, file.blocks], [2 * BLOCK + 100, 3]);
  assert.deepEqual(file.read(0, 10), filled(10, 0));
});

test('a hole is punched where there was data', () => {
  const { file } = setup();
  file.write(0, filled(4 * BLOCK));
  file.fallocate(PUNCH, 100, 2 * BLOCK);
  assert.deepEqual([file.size, file.blocks], [4 * BLOCK, 3]);
  assert.deepEqual(file.read(100, 2 * BLOCK), filled(2 * BLOCK, 0));
  assert.deepEqual(file.read(0, 100), filled(100));
  assert.deepEqual(file.read(2 * BLOCK + 100, 100), filled(100));
});

test('a zeroed range keeps its blocks', () => {
  const { file } = setup();
  file.write(0, filled(4 * BLOCK));
  file.sync();
  file.fallocate(FALLOC_FL_ZERO_RANGE, BLOCK, 2 * BLOCK);
  assert.equal(file.blocks, 4);
  assert.equal(file.seek(0, SEEK_HOLE), BLOCK);
  assert.deepEqual(file.read(BLOCK, 2 * BLOCK), filled(2 * BLOCK, 0));
});

test('collapse takes a range out and insert makes one', () => {
  const { file } = setup();
  for (let i = 0; i < 4; i++) file.write(i * BLOCK, filled(BLOCK, i + 1));
  file.fallocate(FALLOC_FL_COLLAPSE_RANGE, BLOCK, 2 * BLOCK);
  assert.deepEqual([file.size, file.blocks], [2 * BLOCK, 2]);
  assert.equal(file.read(BLOCK, 1)[0], 4);
  file.fallocate(FALLOC_FL_INSERT_RANGE, BLOCK, 5 * BLOCK);
  assert.deepEqual([file.size, file.blocks], [7 * BLOCK, 2]);
  assert.equal(file.read(BLOCK, 1)[0], 0);
  assert.equal(file.read(6 * BLOCK, 1)[0], 4);
  assert.throws(() => file.fallocate(FALLOC_FL_COLLAPSE_RANGE, 1, BLOCK), { code: 'EINVAL' });
  assert.throws(() => file.fallocate(FALLOC_FL_COLLAPSE_RANGE, 6 * BLOCK, BLOCK), { code: 'EINVAL' });
});

test('nothing is shared: unsharing gives blocks to holes', () => {
  const { file } = setup();
  file.write(0, filled(BLOCK));
  file.truncate(3 * BLOCK);
  file.fallocate(FALLOC_FL_UNSHARE_RANGE, 0, 3 * BLOCK);
  assert.equal(file.blocks, 3);
  assert.deepEqual(file.read(0, BLOCK), filled(BLOCK));
});

test('modes of fallocate that do not go together, and empty ranges, are refused', () => {
  const { file } = setup();
  assert.throws(() => file.fallocate(FALLOC_FL_PUNCH_HOLE, 0, BLOCK), { code: 'EOPNOTSUPP' });
  assert.throws(() => file.fallocate(0x1000, 0, BLOCK), { code: 'EOPNOTSUPP' });
  assert.throws(() => file.fallocate(0, 0, 0), { code: 'EINVAL' });
  assert.throws(() => file.fallocate(0, -1, 5), { code: 'EINVAL' });
  assert.throws(() => file.fallocate(0, FAR, 3 * BLOCK), { code: 'EFBIG' });
});

test('a copy copies data and leaves holes', () => {
  const { fs, file } = setup();
  const other = new File(fs, 'other');
  file.write(10, filled(BLOCK, 3));
  file.write(FAR, filled(100, 4));
  other.write(0, filled(10 * BLOCK, 9));
  assert.equal(file.copy(0, other, 0, 2 ** 53 - 1), FAR + 100);
  assert.deepEqual([other.size, other.blocks], [FAR + 100, 3]);
  assert.deepEqual(other.read(0, BLOCK + 20).subarray(5, 15), new Uint8Array([0, 0, 0, 0, 0, 3, 3, 3, 3, 3]));
  assert.deepEqual(other.read(5 * BLOCK, BLOCK), filled(BLOCK, 0));
  assert.deepEqual(other.read(FAR, 200), filled(100, 4));
  assert.equal(file.copy(FAR + 100, other, 0, 10), 0);
});

test('a copy inside one file may not overlap itself', () => {
  const { fs, file } = setup();
  file.write(0, filled(3 * BLOCK, 3));
  assert.throws(() => file.copy(0, file, BLOCK, 2 * BLOCK), { code: 'EINVAL' });
  assert.equal(file.copy(0, file, 4 * BLOCK + 1, 100), 100);
  assert.deepEqual(file.read(4 * BLOCK, 200), new Uint8Array([0, ...filled(100, 3)]));
  const flags = 1;
  assert.throws(() => fs.copyFileRange(ROOT, file.node, file.fh, 0, file.node, file.fh, BLOCK, 1, flags), { code: 'EINVAL' });
});

test('a copy that runs out of space says how far it came', () => {
  const { fs, file } = setup({ bytes: 10 * BLOCK });
  const other = new File(fs, 'other');
  file.write(0, filled(7 * BLOCK));
  assert.equal(file.copy(0, other, 0, 7 * BLOCK), 3 * BLOCK);
  assert.throws(() => file.copy(0, other, 5 * BLOCK, BLOCK), { code: 'ENOSPC' });
});

test('a write gets what space there is, then ENOSPC; at writeback none can be missing', () => {
  const { fs, file } = setup({ bytes: 10 * BLOCK });
  assert.equal(file.write(100, filled(20 * BLOCK)), 10 * BLOCK - 100);
  assert.throws(() => file.write(10 * BLOCK, filled(1)), { code: 'ENOSPC', syscall: 'write' });
  assert.equal(file.size, 10 * BLOCK);
  assert.equal(fs.statfs(ROOT, 1).bfree, 0);
  file.write(0, filled(10 * BLOCK, 2)); // in place
  file.sync();
  assert.throws(() => file.fallocate(0, 0, 11 * BLOCK), { code: 'ENOSPC' });
  assert.equal(file.blocks, 10);
  file.truncate(0);
  assert.equal(fs.statfs(ROOT, 1).bfree, 10);
  file.fallocate(0, 0, 10 * BLOCK);
});

test('an owner gets what his quota allows, then EDQUOT', () => {
  const fs = new MemFs({ userBytes: 4 * BLOCK });
  const file = new File(fs, 'f', user);
  assert.equal(file.write(0, filled(5 * BLOCK)), 4 * BLOCK);
  assert.throws(() => file.write(4 * BLOCK, filled(1)), { code: 'EDQUOT' });
  assert.deepEqual(fs.usageOf(1000), { bytes: 4 * BLOCK, inodes: 1 });
  file.fallocate(PUNCH, 0, BLOCK);
  assert.equal(file.write(8 * BLOCK, filled(1)), 1);
  new File(fs, 'other').write(0, filled(100 * BLOCK)); // of somebody else
});

/** A source that fails after some bytes, as memory of a dying process does. */
function brokenSource(data: Uint8Array, good: number): WriteSource {
  let at = 0;
  return {
    get count() {
      return data.length - at;
    },
    faultIn: (length) => Math.min(length, good - at),
    copyTo(into, to, length) {
      const count = Math.min(length, good - at);
      into.set(data.subarray(at, at + count), to);
      at += count;
      return count;
    },
    revert(length) {
      at -= length;
    },
  };
}

function copySevens(into: Uint8Array, at: number, length: number): number {
  into.fill(7, at, at + length);
  return length;
}

test('a write that falls short gives back what it had reserved and did not use', () => {
  const { fs, file } = setup();
  const source = brokenSource(filled(10 * BLOCK), 2 * BLOCK + 10);
  assert.equal(now(fs.write(ROOT, file.node, file.fh, { pos: 0, flags: 0 }, source)), 2 * BLOCK + 10);
  assert.equal(file.blocks, 3);
  assert.throws(() => fs.write(ROOT, file.node, file.fh, { pos: 10 * BLOCK, flags: 0 }, brokenSource(filled(10), 0)), { code: 'EFAULT' });
  assert.equal(file.blocks, 3);
  file.sync();
  assert.deepEqual(file.read(0, 4 * BLOCK), filled(2 * BLOCK + 10));
});

test('dirty blocks that a truncate cut off and another brought back are holes', () => {
  const { file } = setup();
  file.write(0, filled(4 * BLOCK)); // one folio
  file.truncate(BLOCK);
  file.truncate(4 * BLOCK);
  file.sync();
  assert.equal(file.blocks, 1);
  assert.deepEqual(file.read(BLOCK, 3 * BLOCK), filled(3 * BLOCK, 0));
});

test('space that was reserved and never written is freed with the file', () => {
  const { fs, file } = setup({ bytes: 100 * BLOCK });
  file.fallocate(FALLOC_FL_KEEP_SIZE, 50 * BLOCK, 10 * BLOCK);
  file.write(0, filled(BLOCK));
  now(fs.unlink(ROOT, 1, 'f'));
  fs.forget(file.node, 1);
  file.write(BLOCK, filled(BLOCK)); // open still
  assert.equal(file.blocks, 12);
  file.close();
  assert.equal(fs.statfs(ROOT, 1).bfree, 100);
});

test('64 MiB pass through a cache of 4 MiB, and no call has to wait', () => {
  const cache = new PageCache({ budget: 4 << 20 });
  const fs = new MemFs({ cache });
  const file = new File(fs);
  const size = 64 << 20;
  const nowait = { ...ROOT, nowait: true };
  const chunk = new Uint8Array(256 * 1024);
  for (let pos = 0; pos < size; pos += chunk.length) {
    chunk.fill(pos / chunk.length);
    assert.equal(now(fs.write(nowait, file.node, file.fh, { pos, flags: 0 }, new IovIter(chunk))), chunk.length);
  }
  assert.equal(cache.throttledWriters, 0);
  assert.ok(cache.memory.used <= 4 << 20);
  const other = new File(fs, 'all at once');
  assert.equal(other.write(0, new Uint8Array(size)), size);
  const into = new Uint8Array(chunk.length);
  for (let pos = 0; pos < size; pos += chunk.length) {
    assert.equal(now(fs.read(nowait, file.node, file.fh, { pos, flags: 0 }, into)), chunk.length);
    assert.ok(into.every((byte) => byte === ((pos / chunk.length) & 0xff)));
  }
  assert.equal(file.copy(0, other, 0, size), size);
  assert.equal(cache.throttledWriters, 0);
});

test('caches down to the smallest serve all sizes of writes without waiting', () => {
  for (const budget of [64 << 10, 256 << 10, 1 << 20]) {
    const cache = new PageCache({ budget });
    const file = new File(new MemFs({ cache }));
    for (const length of [1, BLOCK, 10_000, 100_000, 1 << 20]) {
      for (let i = 0; i < 10; i++) assert.equal(file.write(i * length, filled(length, i)), length);
      assert.equal(file.read(0, 10 * length).length, Math.min(file.size, 10 * length));
    }
    assert.equal(cache.throttledWriters, 0, `${budget} bytes`);
  }
});

test('a write whose source is slow keeps others out, and those who will not wait are told', async () => {
  const { fs, file } = setup();
  const nowait = { ...ROOT, nowait: true };
  const ready = deferred();
  const slow: WriteSource = {
    ...brokenSource(filled(10), 10),
    count: 10,
    faultIn: (length) => ready.promise.then(() => length),
    copyTo: copySevens,
  };
  assert.throws(() => fs.write(nowait, file.node, file.fh, { pos: 0, flags: 0 }, slow), { code: 'EAGAIN' });
  const writing = fs.write(ROOT, file.node, file.fh, { pos: 0, flags: 0 }, slow);
  assert.ok(isPromise(writing));
  const quick = new IovIter(filled(5));
  assert.throws(() => fs.write(nowait, file.node, file.fh, { pos: 0, flags: 0 }, quick), { code: 'EAGAIN' });
  assert.throws(() => fs.write(ROOT, file.node, file.fh, { pos: 0, flags: RWF_NOWAIT }, quick), { code: 'EAGAIN' });
  assert.throws(() => fs.setattr(nowait, file.node, { size: 0 }), { code: 'EAGAIN' });
  assert.throws(() => fs.fallocate(nowait, file.node, file.fh, 0, 0, 1), { code: 'EAGAIN' });
  assert.equal(quick.count, 5);
  ready.resolve();
  assert.equal(await writing, 10);
  assert.deepEqual(file.read(0, 20), filled(10, 7));
});

/** Makes, writes and closes more files than stay in core. */
function closeMany(fs: MemFs): void {
  for (let i = 0; i < 1000; i++) {
    const small = new File(fs, `small-${i}`);
    small.write(0, filled(1));
    small.close();
  }
}

test('small files that nobody has open make way for others; their data is in blocks', () => {
  const cache = new PageCache();
  const { fs } = setup({ cache });
  const files = Array.from({ length: 1000 }, (_, i) => new File(fs, `small-${i}`));
  for (const [i, file] of files.entries()) {
    file.write(0, filled(10, i));
    file.close();
  }
  const used = cache.memory.used;
  assert.ok(used <= 300 * BLOCK, `${used} bytes are cached`);
  for (const file of files) file.truncate(5);
  for (const [i, file] of files.entries()) {
    assert.equal(file.size, 5);
    assert.deepEqual(file.readAnew(20), filled(5, i));
  }
  assert.ok(cache.memory.used <= 300 * BLOCK);
});

test('a file that was closed and is open again stays in core', () => {
  const { fs, file } = setup();
  file.write(0, filled(10));
  file.close();
  const again = fs.open(ROOT, file.node, O_RDWR);
  const write = (pos: number): void => {
    now(fs.write(ROOT, file.node, again.fh, { pos, flags: 0 }, new IovIter(filled(10, 2))));
  };
  write(0);
  closeMany(fs);
  write(10);
  assert.deepEqual(file.readAnew(30), filled(20, 2));
  assert.equal(file.size, 20);
});

test('a file with much in the cache keeps it, whatever is opened and closed after it', () => {
  const cache = new PageCache();
  const { fs, file } = setup({ cache });
  file.write(0, filled(16 << 20));
  file.close();
  closeMany(fs);
  assert.ok(cache.memory.used >= 16 << 20);
});

test('a write that waits goes to the file, though its handle was given back and many files were closed since', async () => {
  const { fs, file } = setup();
  const ready = deferred();
  const slow: WriteSource = { ...brokenSource(filled(0), 0), count: 10, faultIn: () => ready.promise.then(() => 10), copyTo: copySevens };
  const writing = fs.write(ROOT, file.node, file.fh, { pos: 0, flags: 0 }, slow);
  assert.ok(isPromise(writing));
  file.close();
  closeMany(fs);
  ready.resolve();
  assert.equal(await writing, 10);
  assert.equal(file.size, 10);
  assert.deepEqual(file.readAnew(20), filled(10, 7));
});

test('a write looks again at a block that was stored while it waited for its source', async () => {
  const cache = new PageCache({ budget: 1 << 20 });
  const { fs, file } = setup({ cache });
  file.write(0, filled(BLOCK, 1));
  const ready = deferred();
  const slow: WriteSource = { ...brokenSource(filled(0), 0), count: 10, faultIn: () => ready.promise.then(() => 10), copyTo: copySevens };
  const writing = fs.write(ROOT, file.node, file.fh, { pos: 5, flags: 0 }, slow);
  file.sync();
  cache.shrink(1 << 20);
  assert.equal(cache.memory.used, 0);
  ready.resolve();
  assert.equal(await writing, 10);
  assert.deepEqual(file.read(0, 20), new Uint8Array([...filled(5, 1), ...filled(10, 7), ...filled(5, 1)]));
});

test('the flusher of the cache stores what nobody synced', async () => {
  const timers: (() => void)[] = [];
  const clock = {
    ms: 0,
    now: () => clock.ms,
    yield: () => Promise.resolve(),
    timer: (_delayMs: number, fire: () => void) => {
      timers.push(fire);
      return () => {};
    },
  };
  const cache = new PageCache({ clock });
  const file = new File(new MemFs({ cache, clock }));
  file.write(0, filled(BLOCK));
  clock.ms += 60_000;
  timers[0]?.();
  for (let turn = 0; turn < 100 && cache.dirtyBytes > 0; turn++) await Promise.resolve();
  assert.deepEqual(file.extents(), [[0, BLOCK, FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_LAST]]);
});

/** A file as a flat array that may become longer or shorter in the middle. */
class Model {
  bytes = new Uint8Array(0);

  resize(size: number): void {
    const bytes = new Uint8Array(size);
    bytes.set(this.bytes.subarray(0, size));
    this.bytes = bytes;
  }

  write(pos: number, data: Uint8Array): void {
    if (data.length === 0) return;
    if (pos + data.length > this.bytes.length) this.resize(pos + data.length);
    this.bytes.set(data, pos);
  }

  splice(from: number, to: number, insert: number): void {
    const bytes = new Uint8Array(this.bytes.length - (to - from) + insert);
    bytes.set(this.bytes.subarray(0, from));
    bytes.set(this.bytes.subarray(to), from + insert);
    this.bytes = bytes;
  }
}

/** A change of one file, on it and on its model. */
type Change = (prng: Prng, file: File, model: Model, other: { file: File; model: Model }) => void;

const SPAN = 30 * BLOCK;
const range = (prng: Prng): [number, number] => [prng.below(SPAN), prng.between(1, prng.chance(0.5) ? 3 * BLOCK : SPAN / 2)];

const changes: Record<string, Change> = {
  write(prng, file, model) {
    const [pos, length] = range(prng);
    const data = prng.bytes(length);
    assert.equal(file.write(pos, data), length);
    model.write(pos, data);
  },
  append(prng, file, model) {
    const data = prng.bytes(prng.between(1, BLOCK));
    file.write(0, data, RWF_APPEND);
    model.write(model.bytes.length, data);
  },
  truncate(prng, file, model) {
    const size = prng.below(SPAN);
    file.truncate(size);
    model.resize(size);
  },
  preallocate(prng, file, model) {
    const [pos, length] = range(prng);
    const keep = prng.chance(0.5);
    file.fallocate(keep ? FALLOC_FL_KEEP_SIZE : 0, pos, length);
    if (!keep && pos + length > model.bytes.length) model.resize(pos + length);
  },
  punch(prng, file, model) {
    const [pos, length] = range(prng);
    file.fallocate(PUNCH, pos, length);
    model.bytes.fill(0, pos, pos + length);
  },
  zero(prng, file, model) {
    const [pos, length] = range(prng);
    file.fallocate(FALLOC_FL_ZERO_RANGE, pos, length);
    if (pos + length > model.bytes.length) model.resize(pos + length);
    model.bytes.fill(0, pos, pos + length);
  },
  collapse(prng, file, model) {
    const blocks = Math.floor(model.bytes.length / BLOCK);
    if (blocks < 3) return;
    const from = prng.below(blocks - 2) * BLOCK;
    const length = BLOCK * prng.between(1, Math.min(5, blocks - 1 - from / BLOCK));
    if (from + length >= model.bytes.length) return;
    file.fallocate(FALLOC_FL_COLLAPSE_RANGE, from, length);
    model.splice(from, from + length, 0);
  },
  insert(prng, file, model) {
    if (model.bytes.length < 1 || model.bytes.length > 3 * SPAN) return;
    const at = prng.below(Math.ceil(model.bytes.length / BLOCK)) * BLOCK;
    const length = BLOCK * prng.between(1, 5);
    file.fallocate(FALLOC_FL_INSERT_RANGE, at, length);
    model.splice(at, at, length);
  },
  copy(prng, file, model, other) {
    const [pos, length] = range(prng);
    const posOut = prng.below(SPAN);
    const data = model.bytes.slice(pos, pos + length);
    assert.equal(file.copy(pos, other.file, posOut, length), data.length);
    other.model.write(posOut, data);
  },
  sync(_prng, file) {
    file.sync();
  },
};

test('files agree with flat arrays, under every change of their data and the smallest of caches', () =>
  forEachSeed('data', 25, (prng) => {
    const cache = new PageCache({ budget: prng.pick([64 << 10, 512 << 10, 16 << 20]), poison: 0xd5 });
    const fs = new MemFs({ cache });
    const pair = [0, 1].map((i) => ({ file: new File(fs, `${i}`), model: new Model() })) as [Pair, Pair];
    for (let step = 0; step < 120; step++) {
      const which = prng.below(2);
      const one = pair[which] as Pair;
      const other = pair[1 - which] as Pair;
      const name = prng.pick(Object.keys(changes));
      (changes[name] as Change)(prng, one.file, one.model, other);
      if (prng.chance(0.6)) continue; // what was not looked at is not cached
      for (const { file, model } of pair) {
        assert.equal(file.size, model.bytes.length, `step ${step}: ${name}`);
        assertSameBytes(file.read(0, 8 * SPAN), model.bytes, `step ${step}: ${name}`);
        checkReports(file, model.bytes, `step ${step}: ${name}`);
      }
      if (prng.chance(0.1)) one.file = reopened(one.file, `${which}`);
    }
    // Everything is charged, and given back.
    const { blocks, bfree } = fs.statfs(ROOT, 1);
    assert.equal(blocks - bfree, pair[0].file.blocks + pair[1].file.blocks);
    for (const [i, { file }] of pair.entries()) {
      now(fs.unlink(ROOT, 1, `${i}`));
      file.forget();
    }
    assert.equal(fs.statfs(ROOT, 1).bfree, blocks);
    assert.deepEqual(fs.usageOf(0), { bytes: 0, inodes: 1 });
    assert.equal(cache.memory.used, 0);
    now(fs.destroy());
  }));

interface Pair {
  file: File;
  readonly model: Model;
}

/** The same file after the face forgot it: all of it comes from blocks. */
function reopened(file: File, name: string): File {
  file.forget();
  const { node } = file.fs.lookup(ROOT, 1, name) as { node: number };
  return Object.assign(Object.create(File.prototype) as File, { fs: file.fs, node, fh: file.fs.open(ROOT, node, O_RDWR).fh });
}

/** No byte that is not zero lies in what SEEK_HOLE and fiemap call holes, and blocks counts what fiemap lists. */
function checkReports(file: File, bytes: Uint8Array, what: string): void {
  for (let pos = 0; pos < bytes.length; ) {
    const hole = file.seek(pos, SEEK_HOLE);
    if (hole >= bytes.length) break;
    let data = bytes.length;
    try {
      data = file.seek(hole, SEEK_DATA);
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ENXIO');
    }
    assert.ok(data > hole, what);
    assert.equal(
      Buffer.compare(bytes.subarray(hole, data), new Uint8Array(data - hole)),
      0,
      `${what}: data in the hole [${hole}, ${data})`,
    );
    pos = data;
  }
  let listed = 0;
  for (const [, length] of file.extents()) listed += length;
  assert.equal(listed, file.blocks * BLOCK, what);
}

test('whatever many users do, their usage is the sum of what they have, and 0 in the end', () =>
  forEachSeed('quota', 20, (prng) => {
    const fs = new MemFs({ bytes: 200 * BLOCK, inodes: 30, userBytes: 80 * BLOCK, userInodes: 12 });
    const files = new Map<string, File>();
    const attempt = (change: () => void): void => {
      try {
        change();
      } catch (error) {
        assert.ok(['ENOSPC', 'EDQUOT', 'EINVAL'].includes((error as { code: string }).code), String(error));
      }
    };
    for (let step = 0; step < 300; step++) {
      const name = prng.pick([...files.keys(), '']);
      const file = files.get(name);
      if (file === undefined) {
        const made = `${step}`;
        attempt(() => void files.set(made, new File(fs, made, callerOf({ uid: prng.below(3) }))));
      } else if (prng.chance(0.1)) {
        now(fs.unlink(ROOT, 1, name));
        file.forget();
        files.delete(name);
      } else if (prng.chance(0.2)) attempt(() => void now(fs.setattr(ROOT, file.node, { uid: prng.below(3) })));
      else {
        const pos = prng.below(40) * BLOCK;
        const length = prng.between(1, 20) * BLOCK;
        attempt(
          prng.pick([
            () => void file.write(pos, filled(length)),
            () => file.truncate(pos),
            () => file.fallocate(FALLOC_FL_KEEP_SIZE, pos, length),
            () => file.fallocate(PUNCH, pos, length),
            () => file.fallocate(FALLOC_FL_COLLAPSE_RANGE, pos, length),
          ]),
        );
      }
      for (const uid of [0, 1, 2]) {
        const own = [...files.values()].map(({ node }) => fs.getattr(ROOT, node)).filter((attr) => attr.uid === uid);
        const bytes = own.reduce((sum, { blocks }) => sum + blocks * 512, 0);
        assert.deepEqual(fs.usageOf(uid), { bytes, inodes: own.length + (uid === 0 ? 1 : 0) }, `step ${step}, uid ${uid}`);
        if (uid > 0) assert.ok(bytes <= 80 * BLOCK && own.length <= 12);
      }
    }
    for (const [name, file] of files) {
      now(fs.unlink(ROOT, 1, name));
      file.forget();
    }
    const { blocks, bfree, files: inodes, ffree } = fs.statfs(ROOT, 1);
    assert.deepEqual([bfree, ffree], [blocks, inodes - 1]);
  }));
