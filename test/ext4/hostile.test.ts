// Volumes whose metadata lies, with checksums that say that all is well: each class of lies has the one place where it is caught, with the errno
// that tells a damaged volume, and none of them is more than an error to anybody. What nobody thought of is found by npm run fuzz -- ext4-images.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { hasCode } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import { exercise } from '../support/ext4-formats-exercise.ts';
import { assertChecksums, damagedVolume, type FilledVolume, filledVolume, KINDS } from '../support/ext4-formats-fuzz.ts';
import type { BlockKind, MetadataBlock } from '../support/ext4-formats-layout.ts';
import { now } from '../support/ext4-formats-tree.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';

const EXT4 = 0;
const NEW = 1; // inline_data, ea_inode, orphan_file
const EXT2 = 3;
const QUOTA = 7;

/** Names of filledVolume's tree that are damaged. */
const PATHS = [
  'large',
  'indexed',
  'a',
  'a/b',
  'a/b/c',
  'a/b/c/inline',
  'contiguous',
  'holes',
  'fast',
  'slow',
  'attributed',
  'twin',
] as const;
type Path = (typeof PATHS)[number];

/** A volume to be damaged, by addresses. */
class Victim {
  readonly bdev: MemoryDevice;
  readonly #volume: FilledVolume;
  readonly #inos: ReadonlyMap<string, number>;

  constructor(volume: FilledVolume, inos: ReadonlyMap<string, number>, isBusy: boolean) {
    this.#volume = volume;
    this.#inos = inos;
    this.bdev = (isBusy ? volume.busy : volume.clean).snapshot();
  }

  ino(path: Path): number {
    const ino = this.#inos.get(path);
    assert.ok(ino !== undefined, path);
    return ino;
  }

  get blockSize(): number {
    return this.#volume.layout.blockSize;
  }

  /** The blocks of that kind, of one inode if it is given. */
  places(kind: BlockKind, path?: Path): MetadataBlock[] {
    const ino = path === undefined ? undefined : this.ino(path);
    const found = this.#volume.layout.blocks.filter((each) => each.kind === kind && (ino === undefined || each.ino === ino));
    assert.ok(found.length > 0, `${kind} of ${path}`);
    return found;
  }

  read(addr: number, length: number): DataView {
    const bytes = this.bdev.read(addr, length);
    return new DataView(bytes.buffer);
  }

  /** Changes a block and makes its checksum right. */
  change(place: MetadataBlock, body: (view: DataView) => void): void {
    const addr = place.block * this.blockSize;
    const view = this.read(addr, this.blockSize);
    body(view);
    this.bdev.write(addr, new Uint8Array(view.buffer));
    this.#volume.layout.fix(this.bdev, place);
  }

  block(kind: BlockKind, body: (view: DataView) => void, index = 0, path?: Path): void {
    this.change(this.places(kind, path)[index] as MetadataBlock, body);
  }

  /** Changes the superblock; addresses count from its start. */
  superblock(body: (view: DataView) => void): void {
    const view = this.read(1024, 1024);
    body(view);
    this.bdev.write(1024, new Uint8Array(view.buffer));
    this.#volume.layout.fix(this.bdev, this.places('superblock')[0] as MetadataBlock);
  }

  /** Changes the record of an inode; addresses count from its start. */
  inode(path: Path | number, body: (view: DataView) => void): void {
    const { layout } = this.#volume;
    const addr = layout.addressOf(typeof path === 'number' ? path : this.ino(path));
    const view = this.read(addr, layout.inodeSize);
    body(view);
    this.bdev.write(addr, new Uint8Array(view.buffer));
    const block = Math.floor(addr / this.blockSize);
    layout.fix(this.bdev, this.places('inodeTable').find((each) => each.block === block) as MetadataBlock);
  }
}

/** What is asked of a damaged volume, and what it has to answer. */
interface Lie {
  readonly title: string;
  readonly kind?: number;
  /** As a crash left it. */
  readonly busy?: boolean;
  readonly tell: (victim: Victim) => void;
  /** Errors of mount, for reading only unless `writes` says otherwise; or what is asked of the mounted volume. */
  readonly mount?: readonly string[];
  readonly writes?: boolean;
  readonly ask?: (volume: Ext4Fs, victim: Victim) => unknown;
  /** Codes of which `ask` has to fail with one. Default: EUCLEAN. */
  readonly codes?: readonly string[];
}

const le16 =
  (at: number, value: number) =>
  (view: DataView): void =>
    view.setUint16(at, value, true);
const le32 =
  (at: number, value: number) =>
  (view: DataView): void =>
    view.setUint32(at, value, true);
const I_BLOCK = 0x28;

const walk = (volume: Ext4Fs, path: string): number => {
  let node: number = volume.root;
  for (const name of path.split('/')) {
    const entry = now(volume.lookup(ROOT, node, name));
    assert.ok(entry !== undefined, path);
    ({ node } = entry);
  }
  return node;
};
const list = (path: Path) => (volume: Ext4Fs) => {
  const node = walk(volume, path);
  const { fh } = now(volume.opendir(ROOT, node, 0));
  const names: string[] = [];
  for (let offset = 0; ; ) {
    const entries = now(volume.readdir(ROOT, node, fh, offset, 200, false));
    if (entries.length === 0) return names.filter((name) => name !== '.' && name !== '..');
    names.push(...entries.map(({ name }) => name));
    offset = entries.at(-1)?.next ?? 0;
  }
};
const find = (path: Path, name: string) => (volume: Ext4Fs) => now(volume.lookup(ROOT, walk(volume, path), name));
const map = (path: Path) => (volume: Ext4Fs) => now(volume.fiemap(ROOT, walk(volume, path), 0, 2 ** 52, 0));
const readTarget = (path: Path) => (volume: Ext4Fs) => now(volume.readlink(ROOT, walk(volume, path)));
const attributes =
  (path: Path, name = 'user.medium') =>
  (volume: Ext4Fs) =>
    now(volume.getxattr(ROOT, walk(volume, path), name));

const superLie = (title: string, at: number, value: number, width: 16 | 32 | 8 = 32): Lie => ({
  title: `the superblock: ${title}`,
  tell: (victim) =>
    victim.superblock((view) => {
      if (width === 32) view.setUint32(at, value, true);
      else if (width === 16) view.setUint16(at, value, true);
      else view.setUint8(at, value);
    }),
  mount: ['EUCLEAN', 'EINVAL', 'EOPNOTSUPP'],
});
const rootLie = (title: string, path: Path, body: (view: DataView) => void): Lie => ({
  title: `the root of an extent tree: ${title}`,
  tell: (victim) => victim.inode(path, body),
  ask: map(path),
});
const nodeLie = (title: string, body: (view: DataView, victim: Victim) => void): Lie => ({
  title: `a block of an extent tree: ${title}`,
  tell: (victim) => victim.block('extents', (view) => body(view, victim), 0, 'holes'),
  ask: map('holes'),
});
const leafLie = (title: string, body: (view: DataView) => void, codes?: readonly string[]): Lie => ({
  title: `a directory entry: ${title}`,
  tell: (victim) => victim.block('directory', body, 0, 'a/b'),
  ask: find('a/b', 'zzz'),
  ...(codes === undefined ? {} : { codes }),
});
const dxLie = (title: string, body: (view: DataView) => void): Lie => ({
  title: `an index of names: ${title}`,
  tell: (victim) => victim.block('directory', body, 0, 'large'),
  // The names are found without the index, or the volume says that it is damaged.
  ask: (volume) => {
    assert.notEqual(find('large', `000-${'n'.repeat(215)}`)(volume), undefined);
    now(volume.mknod(ROOT, walk(volume, 'large'), `new-${'z'.repeat(215)}`, uapi.S_IFREG | 0o644, 0));
  },
  writes: true,
  codes: ['', 'EUCLEAN', 'EBADMSG'],
});
const valuesLie = (title: string, body: (view: DataView) => void): Lie => ({
  title: `a block of attributes: ${title}`,
  tell: (victim) => victim.block('xattrs', body, 0, 'attributed'),
  ask: attributes('attributed'),
});
const journalLie = (title: string, at: number, value: number): Lie => ({
  title: `the journal's superblock: ${title}`,
  busy: true,
  tell: (victim) => victim.block('journal', (view) => view.setUint32(at, value)),
  mount: ['EUCLEAN', 'EINVAL', 'EOPNOTSUPP', 'EIO'],
});

const LIES: readonly Lie[] = [
  superLie('a block size of 128 KiB', 0x18, 7),
  superLie('a block size of 2^(2^32) bytes', 0x18, 0xffffffff),
  superLie('no blocks', 0x04, 0),
  superLie('more blocks than the device', 0x04, 0xffffffff),
  superLie('groups of no blocks', 0x20, 0),
  superLie('groups of more blocks than a bitmap has bits', 0x20, 16_384),
  superLie('groups of no inodes', 0x28, 0),
  superLie('groups of more inodes than a bitmap has bits', 0x28, 16_384),
  superLie('more inodes than the groups have', 0x00, 0x7fffffff),
  superLie('inodes of no bytes', 0x58, 0, 16),
  superLie('inodes of 100 bytes', 0x58, 100, 16),
  superLie('inodes larger than a block', 0x58, 2048, 16),
  superLie('descriptors of 63 bytes', 0xfe, 63, 16),
  superLie('descriptors larger than a block', 0xfe, 2048, 16),
  superLie('a first data block in the middle', 0x14, 77),
  superLie('a first inode of 0', 0x54, 0),
  superLie('a first inode past the last', 0x54, 0x7fffffff),
  superLie('65535 reserved descriptor blocks', 0xce, 65_535, 16),
  superLie('flexible groups of 2^32 groups', 0x174, 32, 8),
  superLie('more reserved blocks than blocks', 0x08, 0x7fffffff),
  superLie('inodes that want more extra bytes than they have', 0x15e, 4000, 16),
  superLie('a revision of the future', 0x4c, 2),
  superLie('checksums of a kind of the future', 0x175, 2, 8),
  superLie('a journal that is the root', 0xe0, 2),
  superLie('a journal that is no inode', 0xe0, 0x7fffffff),

  ...(
    [
      ['a bitmap past the end', 0x00, 0x7fffffff],
      ['a bitmap in the superblock', 0x00, 1],
      ['a table in the descriptors', 0x08, 2],
      ['a table past the end', 0x08, 6100],
    ] as const
  ).map(
    ([title, at, value]): Lie => ({
      title: `a group descriptor: ${title}`,
      tell: (victim) => victim.block('descriptors', le32(at, value)),
      mount: ['EUCLEAN', 'EBADMSG'], // what lies there is no inode of a journal
    }),
  ),
  {
    title: 'a group descriptor: both bitmaps in one block',
    tell: (victim) => victim.block('descriptors', (view) => view.setUint32(4, view.getUint32(0, true), true)),
    mount: ['EUCLEAN'],
  },
  {
    title: 'a group descriptor: more free blocks than blocks',
    tell: (victim) => victim.block('descriptors', le16(0x0c, 0xffff)),
    mount: ['EUCLEAN'],
  },

  rootLie('another magic', 'contiguous', le16(I_BLOCK, 0xf30b)),
  rootLie('more entries than room', 'contiguous', le16(I_BLOCK + 2, 5)),
  rootLie('more room than there is', 'contiguous', le16(I_BLOCK + 4, 400)),
  rootLie('a depth of 6', 'holes', le16(I_BLOCK + 6, 6)),
  rootLie('a depth that its children do not have', 'holes', le16(I_BLOCK + 6, 2)),
  rootLie('an extent of no blocks', 'contiguous', le16(I_BLOCK + 16, 0)),
  rootLie('an extent past the end of the volume', 'contiguous', le32(I_BLOCK + 20, 6140)),
  rootLie('an extent of block 2^47', 'contiguous', le16(I_BLOCK + 18, 0x8000)),
  rootLie('an extent in the inode table', 'contiguous', le32(I_BLOCK + 20, 100)),
  rootLie('an extent in the superblock', 'contiguous', le32(I_BLOCK + 20, 1)),
  rootLie('an extent past block 2^32 of the file', 'contiguous', le32(I_BLOCK + 12, 0xffffffff)),
  rootLie('a child in the inode table', 'holes', le32(I_BLOCK + 16, 100)),
  rootLie('a child past the end', 'holes', le32(I_BLOCK + 16, 0x7fffffff)),
  rootLie('the same child twice', 'holes', (view) => view.setUint32(I_BLOCK + 28, view.getUint32(I_BLOCK + 16, true), true)),
  nodeLie('another magic', le16(0, 0)),
  nodeLie('more entries than room', le16(2, 5000)),
  nodeLie('another depth', le16(6, 1)),
  nodeLie('no entries below the root', (view) => {
    view.setUint16(6, 1, true);
    view.setUint16(2, 0, true);
  }),
  nodeLie('extents that are not sorted', (view) => view.setUint32(24, 0, true)),
  nodeLie('extents that overlap', le16(16, 200)),
  nodeLie('itself for a child', (view, victim) => {
    view.setUint16(6, 1, true);
    view.setUint32(16, (victim.places('extents', 'holes')[0] as MetadataBlock).block, true);
  }),

  {
    title: 'a block pointer past the end',
    kind: EXT2,
    tell: (victim) => victim.inode('contiguous', le32(I_BLOCK, 0x7fffffff)),
    ask: map('contiguous'),
  },
  {
    title: 'a block pointer into the inode table',
    kind: EXT2,
    tell: (victim) => victim.inode('contiguous', le32(I_BLOCK + 48, 60)),
    ask: map('contiguous'),
  },
  {
    title: 'a block of pointers that leads to itself',
    kind: EXT2,
    tell: (victim) => {
      const [place] = victim.places('pointers', 'contiguous');
      victim.inode('contiguous', le32(I_BLOCK + 52, (place as MetadataBlock).block));
      victim.change(place as MetadataBlock, (view) => {
        for (let at = 0; at < victim.blockSize; at += 4) view.setUint32(at, (place as MetadataBlock).block, true);
      });
    },
    ask: map('contiguous'),
    codes: ['', 'EUCLEAN'],
  },

  { title: 'a file of 2^63 bytes', tell: (victim) => victim.inode('contiguous', le32(0x6c, 0x80000000)), ask: map('contiguous') },
  { title: 'a directory of 2^31 bytes', tell: (victim) => victim.inode('a/b', le32(4, 0x80000000)), ask: list('a/b') },
  { title: 'a directory of half a block', tell: (victim) => victim.inode('a/b', le32(4, 512)), ask: list('a/b') },
  { title: 'a directory of no bytes', tell: (victim) => victim.inode('a/b', le32(4, 0)), ask: list('a/b') },
  { title: 'extra fields that are no whole words', tell: (victim) => victim.inode('twin', le16(0x80, 31)), ask: map('twin') },
  { title: 'extra fields past the record', tell: (victim) => victim.inode('twin', le16(0x80, 132)), ask: map('twin') },

  leafLie('a length of 0', le16(12 + 12 + 4, 0)),
  leafLie('a length that is no multiple of 4', le16(12 + 12 + 4, 13)),
  leafLie('a length past the end', le16(12 + 12 + 4, 2000)),
  leafLie('a name longer than the entry', (view) => view.setUint8(12 + 4 + 2, 250)),
  leafLie('an inode past the last', le32(24, 0x7fffffff)),
  ...[0x2f, 0].map(
    (byte): Lie => ({
      title: `a directory entry: a name with byte ${byte} is listed to nobody`,
      tell: (victim) => victim.block('directory', (view) => view.setUint8(32, byte), 0, 'a/b'),
      ask: (volume) => assert.deepEqual(list('a/b')(volume), []),
      codes: ['', 'EUCLEAN'],
    }),
  ),
  ...(
    [
      ['the journal', 8],
      ['an inode that nobody uses', 1500],
    ] as const
  ).map(
    ([title, ino]): Lie => ({
      title: `a directory entry: leads to ${title}`,
      tell: (victim) => victim.block('directory', le32(24, ino), 0, 'a/b'),
      ask: find('a/b', 'c'),
      codes: ['EUCLEAN', 'EBADMSG'],
    }),
  ),
  {
    title: 'a directory below itself is not walked for ever',
    tell: (victim) => victim.block('directory', le32(24, victim.ino('a')), 0, 'a/b'),
    ask: (volume) => {
      const { node } = now(volume.mkdir(ROOT, volume.root, 'mover', 0o755));
      assert.ok(node > 0);
      now(volume.rename(ROOT, volume.root, 'mover', walk(volume, 'a/b'), 'mover', 0));
      now(volume.rename(ROOT, volume.root, 'a', walk(volume, 'a/b'), 'a', 0));
    },
    writes: true,
    codes: ['EUCLEAN', 'EINVAL', 'ELOOP'],
  },
  {
    title: "two directories that are each other's parent have no way up that does not end",
    tell: (victim) => {
      victim.block('directory', le32(12, victim.ino('a/b/c')), 0, 'a/b');
      victim.block('directory', le32(12, victim.ino('a/b')), 0, 'a/b/c');
    },
    ask: (volume) => now(volume.rename(ROOT, volume.root, 'indexed', walk(volume, 'a/b/c'), 'indexed', 0)),
    writes: true,
    codes: ['EUCLEAN', 'ELOOP'],
  },

  dxLie('another room than a block has', le16(32, 3)),
  dxLie('no entries', le16(34, 0)),
  dxLie('more entries than room', le16(34, 0xffff)),
  dxLie('a block past the end', le32(36, 100_000)),
  dxLie('the root among its leaves', le32(36, 0)),
  dxLie('the same block twice', (view) => view.setUint32(44, view.getUint32(36, true), true)),
  dxLie('hashes that are not sorted', (view) => {
    view.setUint16(34, 3, true);
    view.setUint32(40, 0xfffffff0, true);
    view.setUint32(48, 2, true);
    view.setUint32(52, 3, true);
  }),
  dxLie('three levels', (view) => view.setUint8(30, 3)),
  dxLie('a hash of the future', (view) => view.setUint8(28, 77)),

  {
    title: 'data in the inode and in extents',
    kind: NEW,
    tell: (victim) => victim.inode('a/b/c/inline', (view) => view.setUint32(0x20, view.getUint32(0x20, true) | 0x80000, true)),
    ask: map('a/b/c/inline'),
  },
  {
    title: 'data in the inode without its attribute',
    kind: NEW,
    tell: (victim) => victim.inode('a/b/c/inline', le32(0xa0, 0)),
    ask: map('a/b/c/inline'),
    codes: ['EUCLEAN', 'EIO'],
  },
  {
    title: 'data in the inode with a value outside of it',
    kind: NEW,
    tell: (victim) => victim.inode('a/b/c/inline', le16(0xa4 + 2, 0xfff0)),
    ask: map('a/b/c/inline'),
  },

  valuesLie('another magic', le32(0, 0)),
  valuesLie('nobody that refers to it', le32(4, 0)),
  valuesLie('more than 1024 that refer to it', le32(4, 2000)),
  valuesLie('two blocks', le32(8, 2)),
  valuesLie('a value past the end', le16(32 + 2, 1020)),
  valuesLie('a value over the list', le16(32 + 2, 36)),
  valuesLie('a value of 2^32 bytes', le32(32 + 8, 0xffffffff)),
  valuesLie('a list that does not end', (view) => {
    for (let at = 32; at < 1024; at += 4) view.setUint32(at, 0x01010101, true);
  }),
  {
    title: 'a block of attributes: in the inode table',
    tell: (victim) => victim.inode('attributed', le32(0x68, 100)),
    ask: attributes('attributed'),
  },
  {
    title: 'a value in an inode that is that of the attribute itself',
    kind: NEW,
    tell: (victim) => {
      // The entry of user.large is the one with a value in an inode.
      const lead = (view: DataView): void => {
        for (let at = 32; at < view.byteLength - 12; at += 4) {
          if (view.getUint32(at + 8, true) === 3000) view.setUint32(at + 4, victim.ino('attributed'), true);
        }
      };
      victim.block('xattrs', lead, 0, 'attributed');
      victim.inode('attributed', lead);
    },
    ask: attributes('attributed', 'user.large'),
  },

  { title: 'a link to nowhere', tell: (victim) => victim.inode('fast', le32(4, 0)), ask: readTarget('fast') },
  { title: 'a link longer than a block', tell: (victim) => victim.inode('slow', le32(4, 5000)), ask: readTarget('slow') },
  {
    title: 'a link with a NUL',
    tell: (victim) => victim.inode('fast', (view) => view.setUint8(I_BLOCK + 1, 0)),
    ask: readTarget('fast'),
  },
  {
    title: 'a link in the inode that is longer than there is room',
    tell: (victim) => victim.inode('fast', le32(4, 61)),
    ask: readTarget('fast'),
  },

  ...(
    [
      ['the root', 2],
      ['the journal', 8],
      ['past the last', 0x7fffffff],
    ] as const
  ).map(
    ([title, ino]): Lie => ({
      title: `an orphan that is ${title}`,
      tell: (victim) => victim.superblock(le32(0xe8, ino)),
      writes: true,
      ask: find('a/b', 'c'), // mounted all the same: the list counts as at its end
      codes: [''],
    }),
  ),
  {
    title: 'orphans in a circle',
    tell: (victim) => {
      victim.superblock(le32(0xe8, victim.ino('contiguous')));
      victim.inode('contiguous', le32(0x14, victim.ino('holes')));
      victim.inode('holes', le32(0x14, victim.ino('contiguous')));
    },
    writes: true,
    ask: find('a/b', 'c'),
    codes: [''],
  },
  {
    title: 'an orphan file without its magic',
    kind: NEW,
    busy: true,
    tell: (victim) => victim.block('orphans', (view) => view.setUint32(victim.blockSize - 8, 0)),
    writes: true,
    mount: ['', 'EUCLEAN'], // the log may have the block
  },

  { title: 'a journal of no blocks', tell: (victim) => victim.inode(8, le16(I_BLOCK + 2, 0)), mount: ['EUCLEAN'] },
  { title: 'a journal with a hole', tell: (victim) => victim.inode(8, le16(I_BLOCK + 16, 100)), mount: ['EUCLEAN'] },
  { title: 'a journal in the inode table', tell: (victim) => victim.inode(8, le32(I_BLOCK + 20, 60)), mount: ['EUCLEAN'] },
  { title: 'a journal of a few blocks', tell: (victim) => victim.inode(8, le32(4, 4096)), mount: ['EUCLEAN'] },
  { title: 'a journal that is a directory', tell: (victim) => victim.inode(8, le16(0, 0x41ed)), mount: ['EUCLEAN'] },
  journalLie('another block size', 0x0c, 4096),
  journalLie('more blocks than the file', 0x10, 0x7fffffff),
  journalLie('no blocks', 0x10, 0),
  journalLie('a first block past the end', 0x14, 5000),
  journalLie('a log that begins past the end', 0x1c, 0x7fffffff),
  journalLie('features of the future', 0x28, 0x40000012),
  {
    title: "a replay onto the journal's own blocks",
    busy: true,
    tell: (victim) => {
      const journal = victim.places('journal');
      for (const place of journal.slice(1)) {
        victim.change(place, (view) => {
          if (view.getUint32(0) === 0xc03b3998 && view.getUint32(4) === 1) view.setUint32(12, (journal[5] as MetadataBlock).block);
        });
      }
    },
    mount: ['EUCLEAN', 'EBADMSG'],
  },
  {
    title: 'a replay past the end of the volume',
    busy: true,
    tell: (victim) => {
      for (const place of victim.places('journal').slice(1)) {
        victim.change(place, (view) => {
          if (view.getUint32(0) === 0xc03b3998 && view.getUint32(4) === 1) view.setUint32(12, 0x7fffffff);
        });
      }
    },
    mount: ['EUCLEAN', 'EBADMSG'],
  },

  {
    title: 'a quota file that is the file of somebody',
    kind: QUOTA,
    tell: (victim) => victim.superblock(le32(0x240, victim.ino('contiguous'))),
    writes: true,
    mount: ['EUCLEAN', 'EBADMSG'],
  },
  {
    title: 'a tree of quota records that leads to itself',
    kind: QUOTA,
    tell: (victim) =>
      victim.block(
        'quota',
        (view) => {
          for (let at = 0; at < 1024; at += 4) view.setUint32(at, 1, true);
        },
        1,
      ),
    writes: true,
    ask: (volume) => now(volume.mknod(ROOT, volume.root, 'new', uapi.S_IFREG | 0o644, 0)),
    codes: ['EUCLEAN'],
  },
  {
    title: 'multiple mount protection in the superblock',
    tell: (victim) =>
      victim.superblock((view) => {
        view.setUint32(0x60, view.getUint32(0x60, true) | 0x100, true);
        view.setUint32(0x168, 1, true);
      }),
    writes: true,
    mount: ['EUCLEAN'],
  },
];

describe('volumes that lie', { skip: whyNoE2fsprogs() ?? false }, () => {
  const inos = new Map<number, Map<string, number>>();
  before(async () => {
    for (const kind of [EXT4, NEW, EXT2, QUOTA]) {
      const { clean } = await filledVolume(KINDS[kind] as (typeof KINDS)[number]);
      const volume = now(mountExt4(clean, { readOnly: true }));
      inos.set(kind, new Map(PATHS.map((path) => [path, walk(volume, path)])));
      await volume.destroy();
    }
  });

  const victimOf = async ({ kind = EXT4, busy = false, tell }: Lie): Promise<Victim> => {
    const volume = await filledVolume(KINDS[kind] as (typeof KINDS)[number]);
    const victim = new Victim(volume, inos.get(kind) as Map<string, number>, busy);
    tell(victim);
    return victim;
  };

  const codeOf = (body: () => unknown): string => {
    try {
      body();
      return '';
    } catch (error) {
      assert.ok(hasCode(error, (error as { code: 'EIO' }).code), String(error));
      return (error as { code: string }).code;
    }
  };

  for (const lie of LIES) {
    test(lie.title, async () => {
      const { mount, ask, writes = false, codes = ['EUCLEAN'] } = lie;
      const victim = await victimOf(lie);
      const options = { readOnly: !writes, seed: 1, now: () => 1_700_000_100_000 };
      let volume: Ext4Fs | undefined;
      const mountCode = codeOf(() => {
        volume = now(mountExt4(victim.bdev, options));
      });
      assert.ok((mount ?? ['']).includes(mountCode), `mount: ${mountCode || 'succeeds'}`);
      if (volume !== undefined && ask !== undefined) {
        const mounted = volume;
        const code = codeOf(() => ask(mounted, victim));
        assert.ok(codes.includes(code), `${code || 'succeeds'}, not ${codes.join(' or ')}`);
      }
      const mounted = volume;
      if (mounted !== undefined) codeOf(() => now(mounted.destroy()));
      // And whatever else is done to it.
      const again = await victimOf(lie);
      await exercise(again.bdev, new Prng(7), { ...options, readOnly: false });
    });
  }

  test('a time of more nanoseconds than a second has is the last of them', async () => {
    const victim = await victimOf({ title: '', tell: (each) => each.inode('twin', le32(0x88, 0xfffffffc)) });
    const volume = now(mountExt4(victim.bdev, { readOnly: true }));
    const attr = now(volume.getattr(ROOT, walk(volume, 'twin')));
    assert.equal(attr.mtimeNsec, 999_999_999);
    await volume.destroy();
  });

  test('the numbers of inodes that nobody uses are stale', async () => {
    const victim = await victimOf({ title: '', tell: () => {} });
    const volume = now(mountExt4(victim.bdev, { readOnly: true }));
    for (const ino of [0, 1, 3, 8, 700, 1500, 1536, 1537, 2 ** 40, -1, 1.5]) {
      assert.throws(() => now(volume.iget(ROOT, ino === 1 ? 5 : ino)), { code: 'ESTALE' }, `${ino}`);
    }
    await volume.destroy();
  });

  test('a device that ends anywhere in the volume is refused', async () => {
    const { clean } = await filledVolume(KINDS[EXT4] as (typeof KINDS)[number]);
    for (const size of [512, 1024, 1536, 2048, 4096, 65_536, clean.size / 2, clean.size - 512]) {
      const short = new MemoryDevice({ size, chunkSize: 65_536 });
      short.write(0, clean.read(0, size));
      for (const readOnly of [true, false]) {
        const outcome = await exercise(short.snapshot(), new Prng(1), { readOnly });
        assert.notEqual(outcome.refused, undefined, `${size}`);
      }
    }
  });

  test('the checksums that these lies carry are those of the format', async () => {
    for (const kind of KINDS) assertChecksums(await filledVolume(kind), kind.options);
  });

  test('volumes damaged at random never do more than fail', () => forEachSeed('hostile', 60, (_prng, seed) => damagedVolume(seed)));
});
