import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DaxFs } from '../../test/support/dax-fs.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { Prng } from '../base/prng.ts';
import { deferred, then } from '../base/task.ts';
import { DAX_PMD_SIZE, DaxEntries, type DaxOrder } from './dax-entries.ts';
import { type DaxFault, daxFault, daxFinishSyncFault } from './dax-fault.ts';
import { DaxView } from './dax-view.ts';
import { IOMAP_DAX, IOMAP_FAULT, IOMAP_WRITE } from './iomap.ts';

const PAGE = 4096;
const MIB2 = DAX_PMD_SIZE;
const PMD_PAGES = MIB2 / PAGE;

function fault(pos: number, isWrite: boolean, order: DaxOrder = 0, more: Partial<DaxFault> = {}): DaxFault {
  return { pos, isWrite, order, areaStart: 0, areaEnd: 2 ** 40, ...more };
}

/** A filesystem of 16 MiB with one file of 6 MiB: a mapped region, a hole, and a region at a misaligned device address. */
function large(options = {}) {
  const fs = new DaxFs({ size: 16 * 2 ** 20, ...options });
  const file = fs.create(3 * MIB2);
  const data = new Prng(3).bytes(MIB2);
  fs.place(file, 0, 2 * PMD_PAGES, PMD_PAGES, data);
  fs.place(file, 2 * PMD_PAGES, 4 * PMD_PAGES + 1, PMD_PAGES, data);
  return { fs, file, data };
}

test('a page fault maps device memory: a load read-only, a store writable and dirty, after asking again', () => {
  const fs = new DaxFs();
  const file = fs.create(2 * PAGE);
  fs.place(file, 0, 7, 2, new Prng(1).bytes(2 * PAGE));
  const { inode } = file;
  const read = daxFault(inode, fault(5000, false), fs.ops);
  assert.ok('outcome' in read && read.outcome === 'mapped');
  const { entry } = read;
  assert.deepEqual([entry.pos, entry.size, entry.addr, entry.isWritable, entry.isDirty], [PAGE, PAGE, 8 * PAGE, false, false]);
  assert.equal(entry.memory(0, PAGE).buffer, fs.device.bytes(0, 1).buffer);

  const write = daxFault(inode, fault(5000, true), fs.ops);
  assert.ok('outcome' in write && write.outcome === 'mapped');
  assert.equal(write.entry, entry);
  assert.deepEqual([entry.isWritable, entry.isDirty], [true, true]);
  assert.deepEqual(
    fs.begun.map((each) => each.flags),
    [IOMAP_DAX | IOMAP_FAULT, IOMAP_DAX | IOMAP_FAULT | IOMAP_WRITE],
  );
  assert.equal(DaxEntries.of(inode).count, 1);
});

test('a load of a hole maps the shared zero page; a store or a write in its place is seen through every view', async () => {
  const fs = new DaxFs();
  const file = fs.create(3 * PAGE);
  fs.place(file, 1, 9, 1);
  const view = fs.view(file, 0, 3 * PAGE);
  const other = fs.view(file, PAGE, PAGE);
  const into = new Uint8Array(3 * PAGE).fill(1);
  await view.load(0, into);
  assertSameBytes(into, new Uint8Array(3 * PAGE), 'zeros');
  const { free } = fs.allocator;
  assert.equal(DaxEntries.of(file.inode).find(0)?.kind, 'zero');

  await fs.write(file, 10, Uint8Array.of(1, 2, 3));
  await other.store(5, Uint8Array.of(9));
  const expected = new Uint8Array(3 * PAGE);
  expected.set([1, 2, 3], 10);
  expected[PAGE + 5] = 9;
  await view.load(0, into);
  assertSameBytes(into, expected, 'both are seen');
  assert.equal(fs.allocator.free, free - 1);
  const zero = DaxEntries.of(file.inode).find(2 * PAGE);
  assert.ok(zero?.kind === 'zero' && zero.memory(0, PAGE).every((byte) => byte === 0));
});

test('SIGBUS past the end of the file; a store where blocks are not pages; a page that is not one mapping', async () => {
  const fs = new DaxFs();
  const file = fs.create(PAGE + 1);
  assert.throws(() => daxFault(file.inode, fault(2 * PAGE, false), fs.ops), { code: 'EFAULT' });
  assert.throws(() => fs.view(file, 0, 3 * PAGE).load(2 * PAGE, new Uint8Array(1)), { code: 'EFAULT' });
  await fs.view(file, 0, 3 * PAGE).load(2 * PAGE - 1, new Uint8Array(1));

  const big = new DaxFs({ blockSize: 16384 });
  const bigFile = big.create(16384);
  big.place(bigFile, 0, 1, 1, new Uint8Array(16384).fill(4));
  const into = new Uint8Array(3);
  await big.view(bigFile, 0, 16384).load(PAGE - 1, into);
  assert.deepEqual([...into], [4, 4, 4]);
  assert.throws(() => big.view(bigFile, 0, 16384).store(0, into), { code: 'EOPNOTSUPP' });

  const small = new DaxFs({ blockSize: 1024 });
  const smallFile = small.create(PAGE);
  small.place(smallFile, 0, 0, 2, new Uint8Array(2048));
  assert.throws(() => daxFault(smallFile.inode, fault(0, false), small.ops), { code: 'EIO' });
  assert.equal(DaxEntries.of(smallFile.inode).count, 0, 'a failed fault leaves nothing');
});

test('invariant 60: a 2 MiB fault falls back rather than mapping outside the file mapping', () => {
  const { fs, file } = large();
  const { inode } = file;
  const outcome = (...args: Parameters<typeof fault>) => {
    const result = daxFault(inode, fault(...args), fs.ops);
    assert.ok('outcome' in result);
    DaxEntries.of(inode).drop(0, 3 * MIB2);
    return result.outcome;
  };
  assert.equal(outcome(5, false, 9), 'mapped');
  assert.equal(outcome(5, true, 9), 'mapped');
  assert.equal(outcome(MIB2, false, 9), 'mapped', 'huge zero page');
  // Outside of the view, on either side.
  assert.equal(outcome(5, false, 9, { areaStart: PAGE }), 'fallback');
  assert.equal(outcome(5, false, 9, { areaEnd: MIB2 - PAGE }), 'fallback');
  assert.equal(outcome(5, false, 9, { areaEnd: MIB2 }), 'mapped');
  // A private store.
  assert.equal(outcome(5, true, 9, { cowPage: new Uint8Array(PAGE) }), 'fallback');
  // A misaligned device address.
  assert.equal(outcome(2 * MIB2, false, 9), 'fallback');
  assert.equal(outcome(2 * MIB2, false, 0), 'mapped');
  // A region that passes the end of the file.
  inode.size = MIB2 - 1;
  assert.equal(outcome(5, false, 9), 'fallback');
  assert.throws(() => daxFault(inode, fault(MIB2, false, 9), fs.ops), { code: 'EFAULT' });
  inode.size = 3 * MIB2;
  // A mapping that is shorter.
  file.extents.remove(PMD_PAGES - 1, PMD_PAGES);
  assert.equal(outcome(5, false, 9), 'fallback');
});

test('a 2 MiB fault falls back over poison, over memory that breaks, and where a page has an entry', () => {
  const poisoned = large();
  poisoned.fs.device.poison(2 * MIB2 + 5 * PAGE, 1);
  assert.equal((daxFault(poisoned.file.inode, fault(0, false, 9), poisoned.fs.ops) as { outcome: string }).outcome, 'fallback');
  assert.throws(() => daxFault(poisoned.file.inode, fault(5 * PAGE, false), poisoned.fs.ops), { code: 'EIO' });

  const broken = large({ runSize: 2 ** 20 });
  assert.equal((daxFault(broken.file.inode, fault(0, true, 9), broken.fs.ops) as { outcome: string }).outcome, 'fallback');

  const { fs, file } = large();
  void daxFault(file.inode, fault(3 * PAGE, false), fs.ops);
  const begun = fs.begun.length;
  assert.equal((daxFault(file.inode, fault(0, false, 9), fs.ops) as { outcome: string }).outcome, 'fallback');
  assert.equal(fs.begun.length, begun, 'the filesystem is not asked');
});

test('a view uses 2 MiB entries where it can; a store to a read-only one that cannot become writable takes it apart', async () => {
  const { fs, file, data } = large();
  const entries = DaxEntries.of(file.inode);
  const view = fs.view(file, 0, 3 * MIB2);
  const into = new Uint8Array(3 * MIB2);
  await view.load(0, into);
  const expected = new Uint8Array(3 * MIB2);
  expected.set(data);
  expected.set(data, 2 * MIB2);
  assertSameBytes(into, expected, 'load');
  assert.equal(entries.count, 2 + PMD_PAGES, 'two large entries, the misaligned region page by page');

  await view.store(MIB2 + 7, Uint8Array.of(5)); // a hole: the filesystem allocates what it is asked for, wherever
  expected[MIB2 + 7] = 5;
  assert.ok((entries.find(MIB2 + 7)?.isDirty ?? false) && (entries.find(MIB2 + 7)?.isWritable ?? false));

  const copy = fs.create(3 * MIB2);
  await fs.reflink(file, copy, 1, 1);
  await view.load(0, into);
  assertSameBytes(into, expected, 'after sharing');
  await view.store(PAGE + 1, Uint8Array.of(6));
  expected[PAGE + 1] = 6;
  await view.load(0, into);
  assertSameBytes(into, expected, 'after a store to a shared page');
  assert.equal(entries.find(PAGE)?.order, 0);
  assertSameBytes(fs.content(copy).subarray(PAGE, 2 * PAGE), data.subarray(PAGE, 2 * PAGE), 'the other file');
  fs.fsync(file);
  assertSameBytes(fs.content(file, fs.device.durableImage()), expected, 'durable');
});

test('a store to a shared region of 2 MiB gets 2 MiB of its own', async () => {
  const { fs, file, data } = large();
  const copy = fs.create(MIB2);
  await fs.reflink(file, copy, 0, PMD_PAGES);
  // The allocator's first fit from a chosen place.
  fs.allocator.allocate = (count) => {
    fs.allocator.use(6 * PMD_PAGES, count);
    return { addr: 6 * PMD_PAGES, count };
  };
  const view = fs.view(copy, 0, MIB2);
  await view.store(10, Uint8Array.of(1));
  assert.deepEqual([DaxEntries.of(copy.inode).find(0)?.order, DaxEntries.of(copy.inode).find(0)?.addr], [9, 6 * MIB2]);
  const expected = data.slice();
  expected[10] = 1;
  assertSameBytes(fs.content(copy), expected, 'the file');
  assertSameBytes(fs.content(file).subarray(0, MIB2), data, 'the other file');
});

test('bug 48: a fault whose commit fails maps nothing', async () => {
  const fs = new DaxFs();
  const a = fs.create(PAGE);
  const b = fs.create(PAGE);
  fs.place(a, 0, 0, 1, new Uint8Array(PAGE).fill(3));
  await fs.reflink(a, b, 0, 1);
  const view = fs.view(b, 0, PAGE);
  await view.load(0, new Uint8Array(1));
  fs.failEnd = () => Object.assign(new Error('log is full'), { code: 'ENOSPC' });
  assert.throws(() => view.store(0, Uint8Array.of(1)), { code: 'ENOSPC' });
  const entries = DaxEntries.of(b.inode);
  assert.deepEqual([entries.find(0), entries.count, entries.dirtyCount], [undefined, 0, 0]);
  fs.failEnd = undefined;
  await view.store(0, Uint8Array.of(1));
  assert.equal(fs.content(a)[0], 3);
  assert.equal(fs.content(b)[0], 1);
});

test('MAP_SYNC: a store waits for the commit that makes its blocks the file’s', async () => {
  const fs = new DaxFs();
  const file = fs.create(2 * PAGE);
  const synced: number[] = [];
  const fsync = (start: number, end: number) => {
    synced.push(start, end);
    fs.fsync(file, start, end);
  };
  const view = fs.view(file, 0, 2 * PAGE, { isSync: true, fsync });
  await view.store(PAGE + 1, Uint8Array.of(1));
  assert.deepEqual(synced, [PAGE, 2 * PAGE]);
  fs.device.flush(0, fs.device.size); // all that the application has to do
  assert.equal(fs.content(file, fs.device.durableImage())[PAGE + 1], 1);
  await view.store(PAGE, Uint8Array.of(1));
  assert.deepEqual(synced, [PAGE, 2 * PAGE], 'mapped: no commit');
  assert.throws(() => new DaxView(file.inode, 0, PAGE, fs.ops, { isSync: true }), { code: 'EOPNOTSUPP' });

  // Between the fault and the end of its commit the blocks move: the store must not go to the old ones.
  const result = daxFault(file.inode, fault(0, true, 0, { isSync: true }), fs.ops);
  assert.ok('outcome' in result && result.outcome === 'needDsync');
  assert.equal(result.entry.isWritable, false);
  assert.equal(
    daxFinishSyncFault(file.inode, result, () => DaxEntries.of(file.inode).drop(0, PAGE)),
    false,
  );
});

test('a fault that was answered before its blocks moved asks again', async () => {
  const fs = new DaxFs();
  const a = fs.create(PAGE);
  const b = fs.create(PAGE);
  fs.place(a, 0, 0, 1, new Uint8Array(PAGE).fill(3));
  await fs.reflink(a, b, 0, 1);
  const view = fs.view(b, 0, PAGE);
  const gate = deferred();
  const end = fs.ops.iomapEnd as NonNullable<typeof fs.ops.iomapEnd>;
  let isHeld = true;
  fs.ops.iomapEnd = (...args) => (isHeld && args[4] === (IOMAP_DAX | IOMAP_FAULT) ? gate.promise.then(() => end(...args)) : end(...args));
  const into = new Uint8Array(PAGE);
  const loading = view.load(0, into); // its begin has answered with the shared block
  isHeld = false;
  await fs.write(b, 0, new Uint8Array(10).fill(8));
  gate.resolve();
  await loading;
  assert.equal(into[0], 8);
  assert.equal(DaxEntries.of(b.inode).find(0)?.addr, (b.extents.at(0)?.addr ?? 0) * PAGE);
});

/** A file of one page whose block is not its alone, and a write to it whose end() waits for the gate. */
async function gatedWrite(prepare: (view: DaxView) => unknown) {
  const fs = new DaxFs();
  const file = fs.create(PAGE);
  fs.place(file, 0, 0, 1, new Uint8Array(PAGE).fill(3));
  const view = fs.view(file, 0, PAGE);
  await prepare(view);
  fs.allocator.use(0, 1);
  const gate = deferred();
  const end = fs.ops.iomapEnd as NonNullable<typeof fs.ops.iomapEnd>;
  fs.ops.iomapEnd = (...args) => (args[4] === (IOMAP_DAX | IOMAP_WRITE) ? gate.promise.then(() => end(...args)) : end(...args));
  const writing = fs.write(file, 0, new Uint8Array(10).fill(8));
  assert.ok(writing instanceof Promise);
  return { fs, file, view, gate, writing };
}

test('a load between the stores of a write and its commit leaves no view on the old blocks', async () => {
  const { view, gate, writing } = await gatedWrite(() => {});
  const into = new Uint8Array(1);
  await view.load(0, into); // old or new: the write is not over
  gate.resolve();
  await writing;
  await view.load(0, into);
  assert.equal(into[0], 8);
});

test('a store between the stores of a write and its commit is not lost with the old blocks', async () => {
  // Some filesystems write out of place although nothing is shared, so the page may be open for stores.
  const { fs, file, view, gate, writing } = await gatedWrite((view) => view.store(100, Uint8Array.of(4)));
  const storing = view.store(50, Uint8Array.of(9));
  gate.resolve();
  await writing;
  await storing;
  const expected = new Uint8Array(PAGE).fill(3).fill(8, 0, 10);
  expected[50] = 9;
  expected[100] = 4;
  assertSameBytes(fs.content(file), expected, 'the file');
});

test('a load sees a write that is over, also while a store that got the blocks for it has not mapped them', async () => {
  for (const isHole of [true, false]) {
    const fs = new DaxFs();
    const file = fs.create(PAGE);
    if (!isHole) {
      fs.place(file, 0, 0, 1, new Uint8Array(PAGE).fill(3));
      await fs.reflink(file, fs.create(PAGE), 0, 1);
    }
    const view = fs.view(file, 0, PAGE);
    const into = new Uint8Array(PAGE);
    await view.load(0, into); // maps the zero page, or the shared block
    // New blocks are in the file as soon as begin has them, shared ones are replaced by end: either answers the fault late.
    const gate = deferred();
    const { iomapBegin: begin, iomapEnd: end } = fs.ops as Required<typeof fs.ops>;
    const isLate = (flags: number): boolean => flags === (IOMAP_DAX | IOMAP_FAULT | IOMAP_WRITE);
    fs.ops.iomapBegin = (...args) => {
      const [inode, pos, length, flags, map] = args;
      const begun = begin(...args);
      if (!isHole || !isLate(flags)) return begun;
      return then(end(inode, pos, length, 0, flags, map), () => gate.promise);
    };
    fs.ops.iomapEnd = (...args) => {
      if (!isLate(args[4])) return end(...args);
      return isHole ? undefined : then(end(...args), () => gate.promise);
    };
    const storing = view.store(100, Uint8Array.of(4));
    assert.ok(storing instanceof Promise);
    await fs.write(file, 0, new Uint8Array(10).fill(8));
    const loading = view.load(0, into);
    gate.resolve();
    await loading;
    assert.equal(into[0], 8, isHole ? 'over the zero page' : 'over a shared block');
    await storing;
    const expected = new Uint8Array(PAGE).fill(isHole ? 0 : 3).fill(8, 0, 10);
    expected[100] = 4;
    assertSameBytes(fs.content(file), expected, 'the file');
  }
});

test('two stores to one page: the second fault waits for the first and does not ask', async () => {
  const fs = new DaxFs({ asyncShare: 1 });
  const file = fs.create(PAGE);
  const view = fs.view(file, 0, PAGE);
  await Promise.all([view.store(0, Uint8Array.of(1)), view.store(1, Uint8Array.of(2))]);
  assert.deepEqual([...fs.content(file).subarray(0, 2)], [1, 2]);
  assert.equal(fs.begun.length, 1);
});

test('stores wait for a frozen filesystem and for the invalidate lock; loads only for the latter', async () => {
  const fs = new DaxFs();
  const file = fs.create(PAGE);
  fs.place(file, 0, 0, 1, new Uint8Array(PAGE));
  const view = fs.view(file, 0, PAGE);
  assert.equal(fs.sb.freezeWrite.tryLock(), true);
  const storing = view.store(0, Uint8Array.of(1));
  assert.ok(storing instanceof Promise);
  assert.equal(view.load(0, new Uint8Array(1)), undefined);
  assert.equal(fs.content(file)[0], 0);
  fs.sb.freezeWrite.unlock();
  await storing;
  assert.equal(fs.content(file)[0], 1);
});

test('a private view keeps its stores to itself', async () => {
  const fs = new DaxFs();
  const file = fs.create(2 * PAGE + 10);
  fs.place(file, 0, 0, 1, new Uint8Array(PAGE).fill(3));
  const { free } = fs.allocator;
  const mine = fs.view(file, 0, 3 * PAGE, { isPrivate: true });
  await mine.store(PAGE - 2, Uint8Array.of(1, 1, 2, 2));
  const into = new Uint8Array(6);
  await mine.load(PAGE - 3, into);
  assert.deepEqual([...into], [3, 1, 1, 2, 2, 0]);
  assert.equal(fs.allocator.free, free);
  await fs.write(file, 0, Uint8Array.of(7));
  await fs.write(file, 2 * PAGE, Uint8Array.of(7));
  await mine.load(0, into.subarray(0, 1));
  await mine.load(2 * PAGE, into.subarray(1, 2));
  assert.deepEqual([...into.subarray(0, 2)], [3, 7], 'its own copy, and the file where it has none');
  assert.equal(DaxEntries.of(file.inode).dirtyCount, 0);
  assert.equal(mine.sync(), undefined);
  assert.throws(() => mine.pin(0, 1, false), { code: 'EOPNOTSUPP' });
  assert.throws(() => mine.store(3 * PAGE, Uint8Array.of(1)), { code: 'EFBIG' });
  file.inode.size = 10;
  assert.throws(() => mine.load(PAGE, into), { code: 'EFAULT' });
});

test('poison under a mapped page fails the load, and the store', async () => {
  const fs = new DaxFs();
  const file = fs.create(PAGE);
  fs.place(file, 0, 0, 1, new Uint8Array(PAGE));
  const view = fs.view(file, 0, PAGE);
  await view.store(0, Uint8Array.of(1));
  fs.device.poison(0, 1);
  assert.throws(() => view.load(0, new Uint8Array(1)), { code: 'EIO' });
  assert.throws(() => view.store(0, new Uint8Array(1)), { code: 'EIO' });
  assert.throws(() => view.pin(0, 1, false), { code: 'EIO' });
  assert.equal(await fs.write(file, 0, new Uint8Array(PAGE).fill(2)), PAGE);
  const into = new Uint8Array(1);
  await view.load(0, into);
  assert.equal(into[0], 2);
});
