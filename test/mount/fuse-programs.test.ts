// Programs that people run, on mounts of memfs and of a mirror.

import { existsSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mount } from '../../src/fuse/mount/mount.ts';
import { MEM_SOURCE, whyNoMount } from '../support/fuse-mount.ts';
import { type Ground, IS_LONG, runPrograms } from '../support/programs.ts';

runPrograms('programs run on a mount of memfs', () => ground(MEM_SOURCE, {}));

/** Each goes through other calls of the host; the others do what one of these does. */
const ON_MIRROR = ['cp -a', 'fio verifies what it wrote: mmap', 'sqlite'];
runPrograms(
  'programs run on a mount of a mirror',
  async () => {
    const host = mkdtempSync(join(tmpdir(), 'iomap-host-'));
    const end = (): void => rmSync(host, { recursive: true, force: true });
    const source = new URL('./mirror-source.js', import.meta.url);
    return ground(source, { args: { directory: host }, writebackCache: false }, end);
  },
  (name) => IS_LONG || ON_MIRROR.some((start) => name.startsWith(start)),
);

async function ground(source: URL, options: object, end?: () => void): Promise<Ground | string> {
  const why = whyNoMount();
  if (why !== false) return why;
  const directory = mkdtempSync(join(tmpdir(), 'iomap-programs-'));
  const mounted = await mount(source, directory, options);
  return {
    directory,
    end: async (hasFailed) => {
      await mounted.unmount({ lazy: hasFailed });
      if (existsSync(directory)) rmdirSync(directory);
      end?.();
    },
  };
}
