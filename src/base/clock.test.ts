import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from './clock.ts';

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
