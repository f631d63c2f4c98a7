// What a user does with a mount on the directory argv[2], by argv[3]: 'unmount', 'exit', 'exit-busy', or an option that is to be refused.
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mount } from '../../src/fuse/mount/mount.ts';

const SOURCE = new URL('./user-mount-source.js', import.meta.url);
const [, , directory = '', what = ''] = process.argv;
const file = join(directory, 'file');

if (what.startsWith('allow')) {
  try {
    await mount(SOURCE, directory, { [what]: true });
  } catch (error) {
    console.log(`refused: ${(error as NodeJS.ErrnoException).code} ${(error as Error).message}`);
  }
} else {
  const mounted = await mount(SOURCE, directory, {});
  writeFileSync(file, 'content');
  if (what === 'unmount') {
    const line =
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .find((each) => each.includes(` ${directory} `)) ?? '';
    const words = ['nosuid', 'nodev'].filter((word) => line.includes(word));
    console.log([readFileSync(file, 'utf8'), ...words].join(' '));
    await mounted.unmount();
  } else {
    if (what === 'exit-busy') openSync(file, 'r+');
    process.exit(3);
  }
}
