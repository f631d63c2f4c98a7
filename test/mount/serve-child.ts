// A process of its own that mounts memfs on the directory argv[2]. argv[3] says what it does then: 'serve' until it is killed, 'exit', or
// 'exit-busy', with a file of its own mount open.
import { openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mount } from '../../src/fuse/mount/mount.ts';
import { MEM_SOURCE } from '../support/fuse-mount.ts';

const [, , directory = '', what] = process.argv;
await mount(MEM_SOURCE, directory);
process.stdout.write('mounted\n');
if (what === 'exit-busy') {
  const file = join(directory, 'file');
  writeFileSync(file, 'dirty');
  openSync(file, 'r+');
}
if (what !== 'serve') process.exit(3);
