import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimScheduler } from '../../test/support/scheduler.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { RwLock } from './lock.ts';

/** Lets every microtask that is due run. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('free, shared and exclusive: who may enter at once', () => {
  const lock = new RwLock();
  assert.equal(lock.lock(), undefined); // no promise where nothing waits
  assert.ok(lock.isExclusive && lock.isLocked);
  assert.equal(lock.tryLock(), false);
  assert.equal(lock.tryLockShared(), false);
  lock.unlock();
  assert.equal(lock.lockShared(), undefined);
  assert.equal(lock.tryLockShared(), true);
  assert.ok(lock.isLocked && !lock.isExclusive);
  assert.equal(lock.tryLock(), false);
  lock.unlockShared();
  assert.equal(lock.tryLock(), false);
  lock.unlockShared();
  assert.ok(!lock.isLocked);
  assert.throws(() => lock.unlock(), { code: 'ERR_ASSERTION' });
  assert.throws(() => lock.unlockShared(), { code: 'ERR_ASSERTION' });
});

test('a writer that waits is not starved: readers that come later stand behind it', async () => {
  const lock = new RwLock();
  const order: string[] = [];
  void lock.lockShared();
  const writer = Promise.resolve(lock.lock()).then(() => order.push('writer'));
  assert.equal(lock.tryLockShared(), false);
  const readers = ['a', 'b'].map((name) => Promise.resolve(lock.lockShared()).then(() => order.push(name)));
  await turn();
  assert.deepEqual(order, []);
  lock.unlockShared();
  await writer;
  await turn();
  assert.deepEqual(order, ['writer']);
  lock.unlock();
  await Promise.all(readers); // both at once
  assert.deepEqual(order, ['writer', 'a', 'b']);
  assert.ok(lock.isLocked && !lock.isExclusive);
});

test('the lock is handed over in the turn of the unlock: nobody slips in before the waiter runs', async () => {
  const lock = new RwLock();
  void lock.lock();
  let entered = false;
  const waiter = Promise.resolve(lock.lock()).then(() => {
    entered = true;
  });
  lock.unlock();
  assert.ok(!entered && lock.isExclusive);
  assert.equal(lock.tryLock(), false);
  assert.equal(lock.tryLockShared(), false);
  await waiter;
  lock.unlock();
  assert.ok(!lock.isLocked);
});

test('never a writer beside anybody, and first come, first served, in any interleaving', () =>
  forEachSeed('lock', 100, async (prng) => {
    const scheduler = new SimScheduler(prng.fork());
    const lock = new RwLock();
    let readers = 0;
    let writers = 0;
    let tickets = 0;
    let lastWriter = -1;
    const queue: { ticket: number; exclusive: boolean }[] = [];
    const tasks = Array.from({ length: 20 }, (_, i) =>
      scheduler.spawn(`task ${i}`, async () => {
        for (let round = prng.between(1, 5); round > 0; round--) {
          const exclusive = prng.chance(0.4);
          const entry = { ticket: tickets++, exclusive };
          queue.push(entry);
          await (exclusive ? lock.lock() : lock.lockShared());
          // Whoever is still queued before us must be a reader beside whom we may stand.
          const ahead = queue.slice(0, queue.indexOf(entry));
          assert.ok(
            ahead.every((each) => !each.exclusive && !exclusive),
            'a waiter was passed',
          );
          queue.splice(queue.indexOf(entry), 1);
          if (exclusive) {
            assert.ok(entry.ticket > lastWriter);
            lastWriter = entry.ticket;
            writers++;
          } else readers++;
          assert.ok(writers === 0 || (writers === 1 && readers === 0), `${writers} writers beside ${readers} readers`);
          await scheduler.pause('inside');
          if (exclusive) {
            writers--;
            lock.unlock();
          } else {
            readers--;
            lock.unlockShared();
          }
          await scheduler.pause('outside');
        }
      }),
    );
    await scheduler.run(tasks);
    assert.ok(!lock.isLocked);
  }));
