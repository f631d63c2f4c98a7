// Programs that people run, on mounts of ext4 images; e2fsck and a second mount judge what they leave.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { changesOf, type Ground, IS_LONG, manifestOf, runPrograms } from '../support/programs.ts';
import { type ImageKind, ImageMount, whyNoImages } from '../support/programs-image.ts';

const KINDS: readonly (ImageKind & { readonly title: string })[] = [
  { title: 'ext4', options: '-t ext4 -b 4096', size: 1024 },
  { title: 'ext4 with what is new', options: '-t ext4 -b 4096 -O inline_data,ea_inode,orphan_file,bigalloc -C 16384', size: 1024 },
  { title: 'ext4 with blocks of 1 KiB', options: '-t ext4 -b 1024', size: 1024 },
  { title: 'ext3', options: '-t ext3 -b 4096', size: 1024 },
  { title: 'ext2 with blocks of 2 KiB', options: '-t ext2 -b 2048', size: 1024 },
];

for (const { title, ...kind } of IS_LONG ? KINDS : KINDS.slice(0, 1)) {
  runPrograms(`programs run on a mount of ${title}`, () => ground(kind));
}

async function ground(kind: ImageKind): Promise<Ground | string> {
  const why = whyNoImages();
  if (why !== false) return why;
  const folder = mkdtempSync(join(tmpdir(), 'iomap-programs-'));
  const volume = new ImageMount(folder, kind);
  await volume.mount();
  const { directory } = volume;
  return {
    directory,
    end: async (hasFailed) => {
      try {
        if (hasFailed) return;
        const before = await manifestOf(directory);
        await volume.unmountClean();
        await volume.mount();
        assert.deepEqual(changesOf(before, await manifestOf(directory)), []);
        await volume.unmountClean();
      } finally {
        await volume.end();
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}
