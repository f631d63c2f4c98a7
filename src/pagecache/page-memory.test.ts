import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { ORDER_MAX, PAGE_SIZE, PageMemory } from './page-memory.ts';

const MIB = 2 ** 20;

test('runs are naturally aligned and never overlap; bytes are what was put there; everything joins again', () =>
  forEachSeed('page-memory', 40, (prng) => {
    const budget = prng.pick([PAGE_SIZE, 3 * PAGE_SIZE, 64 * PAGE_SIZE, 2 * MIB, 5 * MIB, 8 * MIB]);
    const memory = new PageMemory(budget, prng.chance(0.5) ? 0xa5 : undefined);
    assert.ok(memory.budget <= budget && memory.budget > budget / 2, `budget ${memory.budget} of ${budget}`);
    const runs: { pfn: number; order: number; mark: number }[] = [];
    const owner = new Map<number, number>(); // page frame -> mark of the run that has it
    const view = ({ pfn, order }: { pfn: number; order: number }) => {
      const start = memory.byteOffset(pfn);
      return memory.slabOf(pfn).subarray(start, start + (PAGE_SIZE << order));
    };
    let used = 0;
    for (let step = 1; step <= 400; step++) {
      if (prng.chance(0.55)) {
        const order = prng.between(0, Math.min(memory.orderMax, prng.pick([0, 2, 9])));
        const pfn = memory.tryAlloc(order);
        if (pfn < 0) continue;
        assert.equal(pfn % 2 ** order, 0, `step ${step}: run ${pfn} of order ${order} is not aligned`);
        assert.equal(view({ pfn, order }).length, PAGE_SIZE << order);
        for (let page = pfn; page < pfn + 2 ** order; page++) {
          assert.ok(!owner.has(page), `step ${step}: page ${page} is handed out twice`);
          owner.set(page, step);
        }
        const run = { pfn, order, mark: step & 0xff };
        view(run).fill(run.mark);
        runs.push(run);
        used += PAGE_SIZE << order;
      } else if (runs.length > 0) {
        const run = runs.splice(prng.below(runs.length), 1)[0] as (typeof runs)[0];
        const bytes = view(run);
        assert.ok(bytes[0] === run.mark && bytes[bytes.length - 1] === run.mark, `step ${step}: somebody wrote into run ${run.pfn}`);
        memory.release(run.pfn, run.order);
        for (let page = run.pfn; page < run.pfn + 2 ** run.order; page++) owner.delete(page);
        used -= PAGE_SIZE << run.order;
      } else memory.trim();
      assert.equal(memory.used, used);
      assert.equal(memory.free, memory.budget - used);
      assert.ok(memory.resident <= memory.budget && memory.resident >= used, `resident ${memory.resident}`);
    }
    for (const run of runs) memory.release(run.pfn, run.order);
    // Coalescing: all of the budget can be had in the largest runs, and once more after it was given back.
    for (let round = 0; round < 2; round++) {
      const all: number[] = [];
      for (let pfn = memory.tryAlloc(memory.orderMax); pfn >= 0; pfn = memory.tryAlloc(memory.orderMax)) all.push(pfn);
      assert.equal(memory.used, memory.budget);
      assert.equal(memory.tryAlloc(0), -1);
      for (const pfn of all) memory.release(pfn, memory.orderMax);
      assert.equal(memory.trim(), memory.budget);
      assert.equal(memory.resident, 0);
    }
  }));

test('a slab goes back to the host only when all of it is free', () => {
  const memory = new PageMemory(4 * MIB);
  const large = memory.tryAlloc(ORDER_MAX);
  const page = memory.tryAlloc(0);
  assert.equal(memory.resident, 4 * MIB);
  memory.release(large, ORDER_MAX);
  assert.equal(memory.trim(), 2 * MIB);
  assert.equal(memory.trim(), 0);
  assert.equal(memory.resident, 2 * MIB);
  assert.equal(memory.used, PAGE_SIZE);
  memory.release(page, 0);
  assert.equal(memory.trim(), 2 * MIB);
  assert.equal(memory.resident, 0);
  assert.ok(memory.tryAlloc(ORDER_MAX) >= 0);
});

test('memory nobody owns is poisoned, from the first byte of a new slab on', () => {
  const memory = new PageMemory(MIB, 0xdd);
  const isPoisoned = (pfn: number, order: number) => {
    const start = memory.byteOffset(pfn);
    return memory
      .slabOf(pfn)
      .subarray(start, start + (PAGE_SIZE << order))
      .every((byte) => byte === 0xdd);
  };
  const pfn = memory.tryAlloc(3);
  const neighbour = memory.tryAlloc(0);
  assert.ok(isPoisoned(pfn, 3));
  memory.slabOf(pfn).fill(1);
  memory.release(pfn, 3);
  assert.ok(isPoisoned(pfn, 3));
  assert.equal(memory.slabOf(neighbour)[memory.byteOffset(neighbour)], 1); // what is owned is left alone
});

test('a budget below one page, and a run larger than the budget, are our own mistake', () => {
  assert.throws(() => new PageMemory(PAGE_SIZE - 1), { code: 'ERR_ASSERTION' });
  const memory = new PageMemory(4 * PAGE_SIZE);
  assert.equal(memory.orderMax, 2);
  assert.throws(() => memory.tryAlloc(3), { code: 'ERR_ASSERTION' });
  assert.equal(memory.used, 0);
});

test('runs past 2^31 bytes are addressed right', () => {
  // Host memory of slabs costs nothing until it is touched.
  const memory = new PageMemory(2 ** 31 + 4 * MIB);
  let last = -1;
  for (let i = 0; i < 1026; i++) last = memory.tryAlloc(ORDER_MAX);
  assert.equal(last, 1025 * 512);
  assert.equal(memory.byteOffset(last + 3), 3 * PAGE_SIZE);
  assert.equal(memory.used, 2 ** 31 + 4 * MIB);
  assert.equal(memory.tryAlloc(0), -1);
  memory.slabOf(last)[0] = 7;
  assert.equal(memory.slabOf(0)[0], 0);
});
