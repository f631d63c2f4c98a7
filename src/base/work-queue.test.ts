import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deferred } from './task.ts';
import { WaitQueue } from './wait-queue.ts';
import { WorkQueue } from './work-queue.ts';

test('invariant 54: work never runs on the stack of who posts it, and starts in the order posted', async () => {
  const queue = new WorkQueue();
  const log: number[] = [];
  for (let i = 0; i < 5; i++) queue.post(() => log.push(i));
  assert.deepEqual(log, []);
  assert.equal(queue.pending, 5);
  await queue.drain();
  assert.deepEqual(log, [0, 1, 2, 3, 4]);
  assert.equal(queue.pending, 0);
});

test('a piece that waits holds up nobody but drain', async () => {
  const queue = new WorkQueue();
  const gate = deferred();
  const log: string[] = [];
  queue.post(async () => {
    await gate.promise;
    log.push('slow');
  });
  queue.post(() => log.push('quick'));
  let drained = false;
  const drain = queue.drain().then(() => {
    drained = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(log, ['quick']);
  assert.ok(!drained);
  queue.post(() => log.push('later'));
  gate.resolve();
  await drain;
  assert.deepEqual(log, ['quick', 'later', 'slow']);
});

test('work posted by work is drained too', async () => {
  const queue = new WorkQueue();
  let depth = 0;
  const next = (): void => {
    if (++depth < 100) queue.post(next);
  };
  queue.post(next);
  await queue.drain();
  assert.equal(depth, 100);
});

test('a piece that fails is counted as done, and its error reaches the handler of the host', async () => {
  const queue = new WorkQueue();
  const errors: unknown[] = [];
  const handlers = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (error) => errors.push(error));
  try {
    queue.post(() => {
      throw new Error('at once');
    });
    queue.post(async () => {
      throw new Error('later');
    });
    await queue.drain();
    assert.equal(queue.pending, 0);
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.removeAllListeners('unhandledRejection');
    for (const handler of handlers) process.on('unhandledRejection', handler);
  }
  assert.deepEqual(errors.map((error) => (error as Error).message).sort(), ['at once', 'later']);
});

test('a wait queue wakes those who waited at the call, once', async () => {
  const queue = new WaitQueue();
  assert.ok(!queue.hasWaiters);
  queue.wakeAll();
  let woken = 0;
  const waiter = async (): Promise<void> => {
    await queue.wait();
    woken++;
    await queue.wait(); // waits again: the next wake is for this one
    woken++;
  };
  const waiters = [waiter(), waiter()];
  assert.ok(queue.hasWaiters);
  queue.wakeAll();
  assert.ok(!queue.hasWaiters);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(woken, 2);
  queue.wakeAll();
  await Promise.all(waiters);
  assert.equal(woken, 4);
});
