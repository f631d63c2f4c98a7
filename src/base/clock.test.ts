import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, systemClock, WatchedClock } from './clock.ts';

test('time does not go back, and a yield lets timers and I/O that are due go first', async () => {
  const before = systemClock.now();
  let fired = false;
  setImmediate(() => {
    fired = true;
  });
  await systemClock.yield();
  assert.ok(fired);
  assert.ok(systemClock.now() >= before);
});

test('a timer fires once, not at all when it is cancelled, and does not keep the process alive', async () => {
  let fired = 0;
  const cancelled = systemClock.timer(1, () => assert.fail('cancelled'));
  const idle = process.getActiveResourcesInfo().length;
  const stop = systemClock.timer(60_000, () => assert.fail('too early'));
  assert.equal(process.getActiveResourcesInfo().length, idle);
  cancelled();
  await new Promise<void>((resolve) => {
    const alive = setTimeout(() => {}, 10_000); // our timer alone would let the process end
    systemClock.timer(1, () => {
      fired++;
      clearTimeout(alive);
      resolve();
    });
  });
  for (let i = 0; i < 5; i++) await systemClock.yield();
  assert.equal(fired, 1);
  stop();
});

test('a delay longer than the host can count is long, not short', async () => {
  // Node cuts such delays to 1 ms: a flusher with "never" for its period would spin.
  const warnings: Error[] = [];
  const warn = (warning: Error): void => void warnings.push(warning);
  process.on('warning', warn);
  const stops = [2 ** 31, 2 ** 40, Number.POSITIVE_INFINITY].map((delayMs) =>
    systemClock.timer(delayMs, () => assert.fail(`${delayMs} ms are over`)),
  );
  // Timers that were cut short are due before this one.
  await new Promise((resolve) => setTimeout(resolve, 2));
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', warn);
  for (const stop of stops) stop();
  assert.deepEqual(warnings, []);
});

test('a watched clock says when the first of its timers is due, and nothing once all fired or were cancelled', () => {
  let now = 100;
  const fires: (() => void)[] = [];
  let cancelled = 0;
  const clock: Clock = {
    now: () => now,
    yield: async () => {},
    timer: (_delayMs, fire) => {
      fires.push(fire);
      return () => cancelled++;
    },
  };
  const watched = new WatchedClock(clock);
  assert.equal(watched.nextDue, undefined);
  const seen: string[] = [];
  const cancel = watched.timer(50, () => seen.push(`first ${watched.nextDue}`));
  now = 110;
  watched.timer(20, () => seen.push(`second ${watched.nextDue}`));
  assert.equal(watched.nextDue, 130);
  fires[1]?.();
  assert.deepEqual(seen, ['second 150']);
  cancel();
  assert.equal(cancelled, 1);
  assert.equal(watched.nextDue, undefined);
});
