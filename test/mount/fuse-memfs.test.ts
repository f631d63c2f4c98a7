// The conformance map through a kernel mount of memfs.

import { accessSync, constants, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mount } from '../../src/fuse/mount/mount.ts';
import { runConformance } from '../conformance/run.ts';
import { HostFace } from '../support/host-face.ts';

const READS = 'the kernel reads from its own cache, and tells nobody';

runConformance('memfs through a kernel mount behaves as the map says', async () => {
  if (process.getuid?.() !== 0) return 'mounting takes root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    return `/dev/fuse cannot be used: ${(error as Error).message}`;
  }
  const directory = mkdtempSync(join(tmpdir(), 'iomap-fuse-'));
  const mounted = await mount(new URL('./mem-source.js', import.meta.url), directory);
  return {
    open: () => new HostFace(directory, directory),
    lacks: {
      shiftRange: 'the kernel sends only preallocation, holes and zeros to FUSE',
      fiemap: 'the kernel has no request for it',
      remount: 'the kernel counts removed files that it still knows, and refuses',
      'data: a file that would be too large is EFBIG': 'positions here go up to 2^53 - 1',
      'time: reading moves an atime that is older than mtime': READS,
      'time: reading moves an atime that is a day old': READS,
      'time: reading at the end moves atime too': READS,
    },
    end: async () => {
      await mounted.unmount();
      rmdirSync(directory);
    },
  };
});
