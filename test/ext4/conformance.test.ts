// ext2, ext3 and ext4 behave as the map says, in this process, and e2fsck finds nothing wrong with what each behaviour leaves behind.

import { then } from '../../src/base/task.ts';
import type { MemoryDevice } from '../../src/block/memory-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { type Ext4Options, mountExt4 } from '../../src/fs/ext4/mount.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import { type ConformanceTarget, runConformance } from '../conformance/run.ts';
import { assertClean, makeVolume, type VolumeKind, whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { VfsFace } from '../support/vfs-face.ts';

interface Kind extends VolumeKind {
  readonly title: string;
  /** Every so many behaviours e2fsck is asked. Default: each. */
  readonly every?: number;
  /** How it is mounted. */
  readonly mount?: Ext4Options;
  readonly lacks?: Record<string, string>;
}

const POINTERS = {
  fallocate: 'files of block pointers have no unwritten blocks',
  zeroRange: 'files of block pointers have no unwritten blocks',
  shiftRange: 'files of block pointers are not shifted',
};
const SMALL = 'blocks of 1 KiB';
const SMALL_BLOCKS = {
  'path: the target of a symbolic link has up to 4095 bytes': SMALL,
  'data: a position of many gibibytes is a position': SMALL,
  'xattr: a value of 2000 bytes is kept': SMALL,
};

const SECONDS = 'inodes of 128 bytes have no room for nanoseconds';
const WHOLE_SECONDS = {
  'time: utimensat sets both times and moves ctime': SECONDS,
  'time: futimens sets times of an open file, also one opened for reading': SECONDS,
  'time: times are kept to the nanosecond': SECONDS,
  'time: times before 1970 are kept': SECONDS,
  'time: times after 2038 and after 2106 are kept': SECONDS,
};
const CLUSTERS = {
  shiftRange: 'ranges are whole clusters',
  'space: punching gives space back': 'what is given back is whole clusters',
};
const INDIRECT = { ...POINTERS, 'data: a position of many gibibytes is a position': 'a file of block pointers has 4 TiB at most' };

const KINDS: readonly Kind[] = [
  { title: 'ext4', options: '-t ext4 -b 4096', every: 4 },
  {
    title: 'ext4 with blocks of 1 KiB and inodes of 128 bytes',
    options: '-t ext4 -b 1024 -I 128',
    lacks: { ...SMALL_BLOCKS, ...WHOLE_SECONDS },
    every: 8,
  },
  { title: 'ext4 with what is new', options: '-t ext4 -b 4096 -O inline_data,ea_inode,orphan_file,metadata_csum_seed', every: 8 },
  { title: 'ext4 without a journal', options: '-t ext4 -b 4096 -O ^has_journal', every: 8 },
  { title: 'ext4 with quotas', options: '-t ext4 -b 4096 -O quota,project -E quotatype=usrquota:grpquota:prjquota', every: 8 },
  { title: 'ext4 with clusters', options: '-t ext4 -b 4096 -O bigalloc -C 16384', size: 64, every: 8, lacks: CLUSTERS },
  { title: 'ext4 below a cache of another', options: '-t ext4 -b 4096', mount: { uncached: true }, every: 8 },
  { title: 'ext4 with its data in the log', options: '-t ext4 -b 4096', mount: { data: 'journal' }, every: 8 },
  { title: 'ext3', options: '-t ext3 -b 4096', lacks: INDIRECT, every: 8 },
  { title: 'ext2 with blocks of 1 KiB', options: '-t ext2 -b 1024', lacks: { ...POINTERS, ...SMALL_BLOCKS }, every: 8 },
];

for (const kind of KINDS) runConformance(`${kind.title} behaves as the map says`, () => target(kind));

function target(kind: Kind): ConformanceTarget | string {
  const why = whyNoE2fsprogs();
  if (why !== undefined) return why;
  const fresh = makeVolume(kind);
  let count = 0;
  return {
    open: async () => {
      const bdev = fresh.snapshot();
      const fs = await mountExt4(bdev, kind.mount);
      // The fresh directory is one below the root, which has lost+found.
      const { node } = await fs.mkdir(ROOT, fs.root, 'fresh', 0o755);
      Object.defineProperty(fs, 'root', { value: node });
      return new Ext4Face(fs, bdev, count++ % (kind.every ?? 1) === 0);
    },
    lacks: kind.lacks ?? {},
  };
}

class Ext4Face extends VfsFace {
  readonly #bdev: MemoryDevice;
  readonly #isJudged: boolean;

  constructor(fs: Ext4Fs, bdev: MemoryDevice, isJudged: boolean) {
    super(new Vfs(fs), (isReadOnly) => {
      fs.isReadOnly = isReadOnly;
    });
    this.#bdev = bdev;
    this.#isJudged = isJudged;
  }

  override end() {
    return then(super.end(), () => {
      if (this.#isJudged) assertClean(this.#bdev);
    });
  }
}
