// The conformance map through kernel mounts of ext2 and ext4 images.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runConformance } from '../conformance/run.ts';
import { HostFace } from '../support/host-face.ts';
import { type ImageKind, ImageMount, whyNoImages } from '../support/programs-image.ts';

const READS = 'the kernel reads from its own cache, and tells nobody';
const POINTERS = 'files of block pointers have no unwritten blocks';
const SMALL = 'blocks of 1 KiB';

/** What FUSE does in its own way. */
const FUSE = {
  shiftRange: 'the kernel sends only preallocation, holes and zeros to FUSE',
  fiemap: 'the kernel has no request for it',
  'data: a file that would be too large is EFBIG': 'the kernel takes writes at any position into its cache; their fsync is EFBIG',
  'time: reading moves an atime that is older than mtime': READS,
  'time: reading moves an atime that is a day old': READS,
  'time: reading at the end moves atime too': READS,
  'whole: read-only: reading leaves atime': 'the kernel tells nobody that a mount became read-only',
};

const KINDS: readonly (ImageKind & { readonly title: string; readonly lacks?: Record<string, string> })[] = [
  { title: 'ext4', options: '-t ext4 -b 4096' },
  { title: 'ext4 with what is new', options: '-t ext4 -b 4096 -O inline_data,ea_inode,orphan_file' },
  {
    title: 'ext2 with blocks of 1 KiB',
    options: '-t ext2 -b 1024',
    lacks: {
      fallocate: POINTERS,
      zeroRange: POINTERS,
      'path: the target of a symbolic link has up to 4095 bytes': SMALL,
      'xattr: a value of 2000 bytes is kept': SMALL,
    },
  },
];

for (const { title, lacks = {}, ...kind } of KINDS) {
  runConformance(`${title} through a kernel mount behaves as the map says`, async () => {
    const why = whyNoImages();
    if (why !== false) return why;
    const folder = mkdtempSync(join(tmpdir(), 'iomap-ext4-'));
    const volume = new ImageMount(folder, kind);
    await volume.mount();
    return {
      open: () => new HostFace(volume.directory, volume.directory),
      lacks: { ...FUSE, ...lacks },
      end: async () => {
        await volume.unmountClean();
        rmSync(folder, { recursive: true });
      },
    };
  });
}
