// A process of its own that serves memfs on its event loop, mounted on the directory argv[2], and then uses the mount itself, or keeps its
// thread busy while another does: argv[3].
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { mountHere } from '../../src/fuse/mount/mount-here.ts';
import { MemFs } from '../support/mem-fs.ts';

const [, , directory = '', what] = process.argv;
const WATCHDOG_MS = 400;
const mounted = await mountHere(new MemFs(), directory, { watchdogMs: WATCHDOG_MS });
if (what === 'itself') {
  try {
    statSync(join(directory, 'file'));
  } catch (error) {
    console.log(`statSync: ${(error as NodeJS.ErrnoException).code}`);
  }
} else if (what === 'program') {
  const { status } = spawnSync('sh', ['-c', 'ls -l "$0"/file; exit $?', directory], { stdio: 'ignore' });
  console.log(status === 0 ? 'the program went on' : 'the program failed');
} else {
  const other = spawn('stat', [directory], { stdio: 'ignore' });
  const ended = once(other, 'exit');
  for (const end = Date.now() + 4 * WATCHDOG_MS; Date.now() < end; );
  await ended;
  await stat(directory);
  console.log('works');
  await mounted.unmount();
}
console.log(`ended: ${(await mounted.ended)?.code}`);
