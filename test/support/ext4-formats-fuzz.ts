// Damaged volumes by seed: volumes of several kinds, filled once, of which metadata is changed at random, with checksums made right again or not,
// and which are then mounted and used (ext4-formats-exercise.ts).

import assert from 'node:assert/strict';
import { IovIter } from '../../src/base/iov-iter.ts';
import { Prng } from '../../src/base/prng.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import { exercise, type Outcome } from './ext4-formats-exercise.ts';
import { type BlockKind, Ext4Layout, type MetadataBlock } from './ext4-formats-layout.ts';
import { makeVolume, type VolumeKind } from './ext4-volume.ts';

/** Kinds of volumes that are damaged. Fixed times, identities and seeds: a seed means the same volume everywhere. */
export const KINDS: readonly VolumeKind[] = [
  { options: '-t ext4 -b 1024 -I 256', size: 6 },
  { options: '-t ext4 -b 1024 -O inline_data,ea_inode,orphan_file,metadata_csum_seed,large_dir', size: 6 },
  { options: '-t ext4 -b 4096 -O inline_data', size: 12 },
  { options: '-t ext2 -b 1024 -I 128', size: 5 },
  { options: '-t ext3 -b 1024', size: 6 },
  { options: '-t ext4 -b 1024 -O ^metadata_csum,uninit_bg', size: 6 },
  { options: '-t ext4 -b 1024 -O bigalloc,^resize_inode -C 4096', size: 8 },
  { options: '-t ext4 -b 1024 -O quota,project -E quotatype=usrquota:grpquota:prjquota', size: 6 },
  { options: '-t ext4 -b 1024 -O ^has_journal,meta_bg,^resize_inode -g 512', size: 6 },
];

/** A filled volume: unmounted, and as it is while mounted, which is what a crash leaves. */
export interface FilledVolume {
  readonly clean: MemoryDevice;
  readonly busy: MemoryDevice;
  readonly layout: Ext4Layout;
}

const filled = new Map<VolumeKind, Promise<FilledVolume>>();

/** A volume of a kind, made once. */
export function filledVolume(kind: VolumeKind): Promise<FilledVolume> {
  let volume = filled.get(kind);
  if (volume === undefined) {
    const uuid = '00112233-4455-6677-8899-aabbccddeeff';
    const extended = /-E (\S+)/.exec(kind.options)?.[1];
    const options = `${kind.options.replace(/-E \S+/, '')} -U ${uuid} -E hash_seed=${uuid}${extended === undefined ? '' : `,${extended}`}`;
    volume = fill(makeVolume({ ...kind, options }));
    filled.set(kind, volume);
  }
  return volume;
}

async function fill(bdev: MemoryDevice): Promise<FilledVolume> {
  const options = { now: () => 1_700_000_000_000, seed: 1 };
  const fs = await mountExt4(bdev, options);
  const prng = new Prng(1);
  await fillTree(fs, prng);
  await fs.destroy();
  const layout = new Ext4Layout(bdev);
  const again = bdev.snapshot();
  const mounted = await mountExt4(again, options);
  await fillMore(mounted, prng);
  await mounted.syncfs(ROOT);
  const busy = again.snapshot();
  await mounted.destroy();
  return { clean: bdev, busy, layout };
}

async function makeFile(
  fs: FileSystem,
  dir: number,
  name: string,
  pieces: readonly { pos: number; length: number }[],
  prng: Prng,
): Promise<number> {
  const { entry, fh } = await fs.create(ROOT, dir, name, 0o644, uapi.O_RDWR);
  for (const { pos, length } of pieces) await fs.write(ROOT, entry.node, fh, { pos, flags: 0 }, new IovIter(prng.bytes(length)));
  await fs.fsync(ROOT, entry.node, fh, false);
  await fs.release(entry.node, fh);
  return entry.node;
}

async function fillTree(fs: FileSystem, prng: Prng): Promise<void> {
  const dir = async (parent: number, name: string): Promise<number> => (await fs.mkdir(ROOT, parent, name, 0o755)).node;
  const { root } = fs;
  const large = await dir(root, 'large');
  for (let i = 0; i < 420; i++) await fs.mknod(ROOT, large, `${String(i).padStart(3, '0')}-${'n'.repeat(215)}`, uapi.S_IFREG | 0o644, 0);
  const indexed = await dir(root, 'indexed');
  for (let i = 0; i < 60; i++) await fs.mknod(ROOT, indexed, `name-${i}-${'y'.repeat(60)}`, uapi.S_IFREG | 0o600, 0);
  const small = await dir(await dir(await dir(root, 'a'), 'b'), 'c');
  await makeFile(fs, small, 'tiny', [{ pos: 0, length: 40 }], prng);
  await makeFile(fs, small, 'inline', [{ pos: 0, length: 110 }], prng);
  await makeFile(fs, root, 'contiguous', [{ pos: 0, length: 90_000 }], prng);
  const holes = Array.from({ length: 120 }, (_, i) => ({ pos: i * 8192, length: 1500 }));
  await makeFile(fs, root, 'holes', holes, prng);
  await makeFile(
    fs,
    root,
    'far',
    [
      { pos: 0, length: 10 },
      { pos: 2 ** 31 + 5000, length: 10 },
    ],
    prng,
  );
  const { entry, fh } = await fs.create(ROOT, root, 'preallocated', 0o644, uapi.O_RDWR);
  try {
    await fs.fallocate(ROOT, entry.node, fh, 0, 0, 100_000);
  } catch {
    // Files of block pointers have no such blocks.
  }
  await fs.write(ROOT, entry.node, fh, { pos: 40_000, flags: 0 }, new IovIter(prng.bytes(5000)));
  await fs.release(entry.node, fh);
  await fs.symlink(ROOT, root, 'fast', 'a/b/c');
  await fs.symlink(ROOT, root, 'slow', 'd/'.repeat(100));
  await fs.mknod(ROOT, root, 'device', uapi.S_IFCHR | 0o600, 0x1234);
  await fs.mknod(ROOT, root, 'pipe', uapi.S_IFIFO | 0o600, 0);
  const attributed = await makeFile(fs, root, 'attributed', [{ pos: 0, length: 3000 }], prng);
  const twin = await makeFile(fs, root, 'twin', [{ pos: 0, length: 30 }], prng);
  for (const node of [attributed, twin, small]) {
    await fs.setxattr(ROOT, node, 'user.small', new Uint8Array(20).fill(1), 0);
    await fs.setxattr(ROOT, node, 'user.medium', new Uint8Array(500).fill(2), 0);
  }
  try {
    await fs.setxattr(ROOT, attributed, 'user.large', new Uint8Array(3000).fill(3), 0);
  } catch {
    // There is no ea_inode.
  }
  await fs.link(ROOT, attributed, small, 'hard link');
  for (let i = 0; i < 20; i++) await fs.unlink(ROOT, indexed, `name-${i}-${'y'.repeat(60)}`);
}

/** What is in the log of a volume that was not unmounted: removals too, and files without names. */
async function fillMore(fs: FileSystem, prng: Prng): Promise<void> {
  const { root } = fs;
  await makeFile(fs, root, 'late', [{ pos: 0, length: 5000 }], prng);
  const kept = await fs.lookup(ROOT, root, 'contiguous');
  if (kept !== undefined) await fs.open(ROOT, kept.node, uapi.O_RDWR);
  await fs.unlink(ROOT, root, 'contiguous');
  const { entry, fh } = await fs.tmpfile(ROOT, root, 0o600, uapi.O_RDWR);
  await fs.write(ROOT, entry.node, fh, { pos: 0, flags: 0 }, new IovIter(prng.bytes(3000)));
  await fs.syncfs(ROOT);
  const indexed = await fs.lookup(ROOT, root, 'indexed');
  for (let i = 20; i < 50 && indexed !== undefined; i++) await fs.unlink(ROOT, indexed.node, `name-${i}-${'y'.repeat(60)}`);
  await fs.mkdir(ROOT, root, 'late directory', 0o755);
}

/** One damaged volume, mounted and used. Errors: any that is not an FsError, and a session that takes too much. */
export async function damagedVolume(seed: number, trace?: (line: string) => void): Promise<Outcome> {
  const prng = new Prng(seed);
  const kind = KINDS[seed % KINDS.length] as VolumeKind;
  const { clean, busy, layout } = await filledVolume(kind);
  let bdev = (prng.chance(0.7) ? clean : busy).snapshot();
  trace?.(`mke2fs ${kind.options}`);
  if (prng.chance(0.04)) {
    bdev = truncated(bdev, prng.chance(0.5) ? 512 * prng.below(40) : 512 * prng.below(bdev.size / 512));
    trace?.(`truncated to ${bdev.size} bytes`);
  } else {
    // Either what the whole volume stands on, of which a little already has it refused; or its tree, in many places, so that much is met in one go.
    const isTree = prng.chance(0.75);
    for (let count = isTree ? prng.between(2, 16) : prng.pick([1, 1, 2, 3]); count > 0; count--) damage(bdev, layout, prng, isTree, trace);
  }
  const readOnly = prng.chance(0.35);
  const options = {
    readOnly,
    now: () => 1_700_000_100_000,
    uncached: prng.chance(0.1),
    ...(prng.chance(0.5) ? { errors: 'continue' as const } : {}),
    ...(prng.chance(0.1) ? { data: 'journal' as const } : {}),
  };
  trace?.(`mount ${JSON.stringify(options)}`);
  const outcome = await exercise(bdev, prng, options, (what, { message }) => trace?.(`  ${what}: ${message}`));
  trace?.(JSON.stringify(outcome));
  if (!readOnly && prng.chance(0.2)) await exercise(bdev, prng, { readOnly: true });
  return outcome;
}

function truncated(bdev: MemoryDevice, size: number): MemoryDevice {
  const short = new MemoryDevice({ size: Math.max(512, size), name: bdev.name, chunkSize: 65536 });
  short.write(0, bdev.read(0, short.size));
  return short;
}

/** Words that are often taken for sizes, counts and places. */
const WORDS = [0, 1, 2, 3, 7, 8, 11, 12, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe];

/** Where the fields are that say most: bytes of a block, or of a record of the inode table. */
const FIELDS: Readonly<Record<BlockKind, readonly (readonly [start: number, end: number])[]>> = {
  superblock: [
    [0, 0x60],
    [0xcc, 0x110],
    [0x150, 0x178],
    [0x240, 0x288],
  ],
  descriptors: [[0, 64]],
  blockBitmap: [[0, 64]],
  inodeBitmap: [[0, 64]],
  inodeTable: [
    [0, 8],
    [0x14, 0x28],
    [0x28, 0x40],
    [0x28, 0x64],
    [0x64, 0x80],
    [0x80, 0x84],
    [0xa0, 0xe0],
  ],
  extents: [
    [0, 12],
    [12, 36],
  ],
  pointers: [[0, 64]],
  directory: [
    [0, 24],
    [24, 64],
  ],
  xattrs: [
    [0, 32],
    [32, 72],
  ],
  orphans: [[0, 32]],
  quota: [[0, 64]],
  symlink: [[0, 16]],
  journal: [[0, 96]],
  mmp: [[0, 0x80]],
};

/** What the files and directories of a volume are made of. */
const TREE: readonly BlockKind[] = [
  'inodeTable',
  'inodeTable',
  'inodeTable',
  'inodeTable',
  'extents',
  'pointers',
  'directory',
  'directory',
  'xattrs',
  'symlink',
  'quota',
  'orphans',
];

function damage(bdev: MemoryDevice, layout: Ext4Layout, prng: Prng, isTree: boolean, trace?: (line: string) => void): void {
  const there = new Set(layout.blocks.map(({ kind }) => kind));
  const kind = prng.pick((isTree ? TREE : [...there]).filter((each) => there.has(each)));
  const candidates = layout.blocks.filter((each) => each.kind === kind);
  const { blockSize } = layout;
  // An owner first, so that small ones are met as often as large ones; its first block, which is the root of what is a tree, more often.
  const owner = prng.pick([...new Set(candidates.map(({ ino }) => ino))]);
  const owned = candidates.filter(({ ino }) => ino === owner);
  let place: MetadataBlock = prng.chance(0.3) ? (owned[0] as MetadataBlock) : prng.pick(owned);
  // Most of a journal is copies of other blocks; what describes them is what counts.
  for (let tries = 0; kind === 'journal' && tries < 40 && !isOfJournal(bdev, place, blockSize); tries++) place = prng.pick(owned);
  let record: { start: number; length: number } | undefined;
  if (kind === 'inodeTable' && prng.chance(0.9)) {
    const addr = layout.addressOf(prng.pick(isTree ? layout.interesting.filter((ino) => ino > 11) : layout.interesting));
    const block = Math.floor(addr / blockSize);
    place = candidates.find((each) => each.block === block) ?? place;
    record = { start: addr % blockSize, length: layout.inodeSize };
  }
  const addr = kind === 'superblock' ? 1024 : place.block * blockSize;
  const length = kind === 'superblock' ? 1024 : blockSize;
  const bytes = bdev.read(addr, length);
  const view = new DataView(bytes.buffer);
  const from = record?.start ?? 0;
  const within = record?.length ?? length;
  let at = from + prng.below(within);
  if (prng.chance(0.75)) {
    const [start, end] = prng.pick(FIELDS[kind]);
    at = Math.min(from + prng.between(start, end - 1), length - 1);
  } else {
    // Places with something in them more often than empty ones.
    for (let tries = 0; tries < 6 && bytes[at] === 0; tries++) at = from + prng.below(within);
  }
  const word = Math.min(at - (at % 4), length - 4);
  const half = Math.min(at - (at % 2), length - 2);
  const someBlock = (): number => prng.pick(layout.blocks).block;
  const ways: Record<string, () => void> = {
    bit: () => {
      bytes[at] = (bytes[at] as number) ^ (1 << prng.below(8));
    },
    byte: () => {
      bytes[at] = prng.below(256);
    },
    word: () => view.setUint32(word, prng.chance(0.5) ? prng.pick(WORDS) : prng.u32(), true),
    half: () => view.setUint16(half, prng.chance(0.5) ? prng.pick(WORDS) & 0xffff : prng.below(65536), true),
    near: () => view.setUint16(half, (view.getUint16(half, true) + prng.between(-4, 4)) & 0xffff, true),
    block: () => view.setUint32(word, someBlock(), true),
    number: () => view.setUint32(word, prng.below(prng.chance(0.5) ? 20 : 2000), true),
    big: () => view.setUint32(word, prng.chance(0.5) ? prng.pick(WORDS) : prng.below(5000)), // the journal's order
    swap: () => {
      const other = prng.below(length / 4) * 4;
      const kept = view.getUint32(word);
      view.setUint32(word, view.getUint32(other));
      view.setUint32(other, kept);
    },
    zero: () => void bytes.fill(0, at, Math.min(length, at + 1 + prng.below(64))),
    noise: () => void bytes.set(prng.bytes(Math.min(length - at, 1 + prng.below(64))), at),
    inode: () => view.setUint32(word, prng.pick(layout.interesting), true),
    twin: () => {
      // Two inodes with the same blocks, or one with the flags and the size of another.
      if (record === undefined) return;
      const other = bdev.read(layout.addressOf(prng.pick(layout.interesting)), layout.inodeSize);
      const [start, end] = prng.pick([
        [0x28, 0x64],
        [0, 0x78],
        [0x68, 0x6c],
        [0x20, 0x24],
      ] as const);
      bytes.set(other.subarray(start, end), record.start + start);
    },
    copy: () => {
      const source = prng.pick(layout.blocks);
      bytes.set(bdev.read(source.block * blockSize, blockSize).subarray(0, length));
    },
  };
  const way = prng.pick(Object.keys(ways));
  (ways[way] as () => void)();
  bdev.write(addr, bytes);
  const isFixed = prng.chance(0.8);
  if (isFixed) layout.fix(bdev, place);
  trace?.(
    `${way} at ${at} of block ${place.block}: ${kind}${place.ino > 0 ? ` of inode ${place.ino}` : ''}${isFixed ? ', checksum made right' : ''}`,
  );
}

function isOfJournal(bdev: MemoryDevice, { block }: MetadataBlock, blockSize: number): boolean {
  return new DataView(bdev.read(block * blockSize, 4).buffer).getUint32(0) === 0xc03b3998;
}

/** The checksums that the layout makes are those that are there. */
export function assertChecksums({ clean, layout }: FilledVolume, what: string): void {
  const copy = clean.snapshot();
  for (const place of layout.blocks) {
    layout.fix(copy, place);
    const addr = place.block * layout.blockSize;
    const { kind } = place;
    assert.deepEqual(
      copy.read(addr, layout.blockSize),
      clean.read(addr, layout.blockSize),
      `${what}: block ${place.block}, ${kind} of ${place.ino}`,
    );
  }
}
