// memfs behaves as the map says, in this process.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../src/fs/memfs/mem-fs.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';
import { Vfs, type VfsOptions } from '../../src/vfs/vfs.ts';
import { VfsFace } from '../support/vfs-face.ts';
import { CONFORMANCE } from './map.ts';
import { runConformance } from './run.ts';
import { waitingFs } from './waiting-fs.ts';

/** What a Vfs does in its own way. */
const lacks = {
  'data: a file that would be too large is EFBIG': 'EOVERFLOW: positions here go up to 2^53 - 1, and the one asked for is no number',
};

function target(wrap: (fs: FileSystem) => FileSystem, options: VfsOptions = {}) {
  return {
    open: () => {
      const fs = new MemFs();
      const setReadOnly = (isReadOnly: boolean) => Object.defineProperty(fs, 'isReadOnly', { value: isReadOnly, configurable: true });
      return new VfsFace(new Vfs(wrap(fs), options), setReadOnly);
    },
    lacks,
  };
}

test('the conformance map has at least 300 behaviours', () => {
  assert.ok(CONFORMANCE.size >= 300, `${CONFORMANCE.size} behaviours`);
});

runConformance('memfs behaves as the map says', () => target((fs) => fs));
runConformance('memfs behaves as the map says when each of its answers waits', () => target(waitingFs));
runConformance('memfs behaves as the map says when few names are cached', () => target((fs) => fs, { dentryBytes: 0 }));
