import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from '../base/task.ts';
import { MemoryDaxDevice } from '../block/dax-device.ts';
import { DAX_PMD_SIZE, DaxEntries, type DaxEntry, type DaxOrder } from './dax-entries.ts';

const PAGE = 4096;
const MIB2 = DAX_PMD_SIZE;

function lock(entries: DaxEntries, pos: number, order: DaxOrder, isWrite = false): DaxEntry {
  const entry = run(entries.lock(pos, order, isWrite));
  assert.ok(entry !== undefined && !(entry instanceof Promise));
  return entry;
}

test('an entry maps nothing before it is installed, and goes if it never is', () => {
  const entries = new DaxEntries();
  const entry = lock(entries, 5 * PAGE + 1, 0);
  assert.equal(entries.find(5 * PAGE), undefined);
  assert.equal(entries.count, 1);
  assert.throws(() => entry.memory(0, 1), /maps nothing/);
  entries.unlock(entry);
  assert.equal(entries.count, 0);
  assert.throws(() => entries.unlock(entry), /not locked/);
});

test('writable implies dirty; writeback flushes whole entries of the range, write-protects, and only then takes the tag off', () => {
  const device = new MemoryDaxDevice({ size: 4 * MIB2, trackDurability: true });
  const entries = new DaxEntries();
  const install = (pos: number, order: DaxOrder, isWritable: boolean) => {
    const entry = lock(entries, pos, order, isWritable);
    entries.installDevice(entry, device, entry.pos, isWritable);
    entries.unlock(entry);
    return entry;
  };
  const small = install(0, 0, true);
  const readOnly = install(PAGE, 0, false);
  const large = install(MIB2 + 9 * PAGE, 9, true);
  assert.deepEqual([large.pos, large.end, large.isDirty, readOnly.isDirty, entries.dirtyCount], [MIB2, 2 * MIB2, true, false, 2]);
  assert.equal(entries.find(MIB2 + MIB2 / 2), large);

  const order: string[] = [];
  const flush = device.flush.bind(device);
  device.flush = (addr, length) => {
    order.push(`${addr}+${length} writable ${large.isWritable} dirty ${large.isDirty}`);
    flush(addr, length);
  };
  large.memory(MIB2 - 1, 1)[0] = 7;
  entries.writeback(2 * MIB2 - 1, 2 * MIB2);
  assert.deepEqual(order, [`${MIB2}+${MIB2} writable false dirty true`]);
  assert.deepEqual([large.isWritable, large.isDirty, entries.dirtyCount], [false, false, 1]);
  assert.equal(device.durableImage()[2 * MIB2 - 1], 7);
  entries.drop(0, Number.POSITIVE_INFINITY);
  assert.equal(order.length, 2, 'dirty memory is flushed before it is let go');
  assert.deepEqual([entries.count, entries.dirtyCount, entries.find(0), small.isDirty], [0, 0, undefined, false]);
});

test('the entry of a page excludes one of its region; a region is taken apart for a page that it does not serve', () => {
  const device = new MemoryDaxDevice({ size: 2 * MIB2 });
  const entries = new DaxEntries();
  const large = lock(entries, 0, 9);
  entries.installDevice(large, device, 0, false);
  entries.unlock(large);
  const served = lock(entries, 3 * PAGE, 0, false);
  assert.equal(served, large);
  entries.unlock(served);
  const page = lock(entries, 3 * PAGE, 0, true);
  assert.deepEqual([page.order, page.index, entries.count], [0, 3, 1]);
  assert.equal(entries.find(0), undefined);
  assert.equal(run(entries.lock(0, 9, false)), undefined);
  entries.unlock(page);
});

test('a locked entry makes others wait; dropping it makes it stale without waiting', async () => {
  const entries = new DaxEntries();
  const device = new MemoryDaxDevice({ size: MIB2 });
  const first = lock(entries, 0, 0);
  const second = run(entries.lock(0, 0, false));
  assert.ok(second instanceof Promise);
  entries.drop(0, 1);
  assert.equal(first.isStale, true);
  assert.throws(() => entries.installDevice(first, device, 0, false), /stale/);
  entries.unlock(first);
  const again = await second;
  assert.ok(again !== undefined && again !== first && !again.isStale);
  entries.installZero(again);
  entries.unlock(again);
  assert.equal(entries.openForStores(again, device, 0), false);
});

test('pins are found by range until they are released, which flushes what they stored', async () => {
  const device = new MemoryDaxDevice({ size: MIB2, trackDurability: true });
  const entries = new DaxEntries();
  const pin = entries.pin(PAGE, 2 * PAGE, true, [device.bytes(0, PAGE)], [{ daxDev: device, addr: 0, length: PAGE }]);
  assert.deepEqual([entries.isPinned(0, PAGE), entries.isPinned(0, PAGE + 1), entries.isPinned(2 * PAGE, 9 * PAGE)], [false, true, false]);
  const waiting = entries.waitUnpin();
  pin.memory[0]?.fill(3);
  pin.release();
  await waiting;
  assert.equal(entries.isPinned(0, MIB2), false);
  assert.equal(device.durableImage()[0], 3);
});
