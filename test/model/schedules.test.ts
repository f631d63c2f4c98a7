import test from 'node:test';
import { runSchedule } from '../support/schedule-world.ts';
import { forEachSeed } from '../support/seeds.ts';

// A sample of what `npm run fuzz -- schedules` explores without end.
test('invariant 65: any schedule of concurrent operations agrees with the model, settles, and leaves everything consistent', async () => {
  await forEachSeed('schedules', 300, (_prng, seed) => runSchedule(seed));
});
