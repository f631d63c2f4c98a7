// Random schedules of concurrent operations on the test filesystem, one world for each seed (test/support/schedule-world.ts).
// Usage: node build/test/fuzz/schedules.js --from S --seeds N [--json] [--trace]
// Exits 1 after the first seed that fails, with the command that repeats it. --trace prints every operation.

import { fuzzProgram } from '../support/fuzz-program.ts';
import { runSchedule } from '../support/schedule-world.ts';

await fuzzProgram('schedules', (seed, trace) => runSchedule(seed, trace));
