// Volumes as mke2fs makes them, in more than forty ways, filled by the kernel: what we read of them is what the kernel reads. Those that the kernel
// cannot mount here are filled by debugfs from a directory of the host.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { type Ext4Options, mountExt4 } from '../../src/fs/ext4/mount.ts';
import { openImage } from '../../src/image/image.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import { GuardedDevice } from '../support/ext4-formats-exercise.ts';
import { assertSameTree, makeTree, now, type Seen, seenByKernel, seenByUs } from '../support/ext4-formats-tree.ts';
import { loadImage, makeVolume, saveImage, whyNoE2fsprogs } from '../support/ext4-volume.ts';

const ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

interface Kind {
  readonly mke2fs: string;
  /** MiB. Default 16. */
  readonly size?: number;
  /** Commands on the fresh image, and after the kernel has filled and read it; IMAGE is its name. */
  readonly fresh?: readonly string[];
  readonly afterwards?: readonly string[];
  /** Names of the large directory. Default: as many as make an index of two levels. */
  readonly largeNames?: number;
  /** What a mount for writing is refused by. */
  readonly refusesWriting?: RegExp;
}

const hash = (name: string): string => `tune2fs -E hash_alg=${name} IMAGE`;
const UNSIGNED = 'debugfs -w -R "set_super_value flags 2" IMAGE';

const KINDS: readonly Kind[] = [
  // Block and inode sizes.
  ...[1024, 2048, 4096].flatMap((b) =>
    [128, 256, 512, 1024].map((i) => ({ mke2fs: `-t ext4 -b ${b} -I ${i}`, size: b === 4096 ? 24 : 16 })),
  ),
  // The older formats.
  { mke2fs: '-t ext2 -b 1024' },
  { mke2fs: '-t ext2 -b 2048 -I 128' },
  { mke2fs: '-t ext2 -b 4096 -I 256', size: 24 },
  { mke2fs: '-t ext2 -b 1024 -r 0' },
  { mke2fs: '-t ext2 -b 1024 -O ^filetype' },
  { mke2fs: '-t ext2 -b 1024 -O ^dir_index,^sparse_super,^large_file,^ext_attr,^resize_inode' },
  { mke2fs: '-t ext3 -b 1024 -I 128' },
  { mke2fs: '-t ext3 -b 4096', size: 24 },
  // One feature less.
  { mke2fs: '-t ext4 -b 1024 -O ^extent,^64bit' },
  { mke2fs: '-t ext4 -b 1024 -O ^64bit' },
  { mke2fs: '-t ext4 -b 1024 -O ^flex_bg' },
  { mke2fs: '-t ext4 -b 1024 -O ^has_journal' },
  { mke2fs: '-t ext4 -b 1024 -O ^resize_inode' },
  { mke2fs: '-t ext4 -b 1024 -O ^metadata_csum' },
  { mke2fs: '-t ext4 -b 1024 -O ^metadata_csum,uninit_bg' },
  { mke2fs: '-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^64bit', size: 40 },
  { mke2fs: '-t ext4 -b 1024 -O ^huge_file,^dir_nlink,^extra_isize,^dir_index' },
  { mke2fs: '-t ext4 -b 4096 -O ^filetype', size: 24 },
  { mke2fs: '-t ext4 -b 1024 -E lazy_itable_init=1', size: 40 },
  // One feature more.
  { mke2fs: '-t ext4 -b 1024 -O meta_bg,^resize_inode', size: 40 },
  { mke2fs: '-t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit -g 1024', size: 24 },
  { mke2fs: '-t ext4 -b 1024 -O sparse_super2', size: 40 },
  { mke2fs: '-t ext4 -b 4096 -O bigalloc -C 16384', size: 64 },
  { mke2fs: '-t ext4 -b 4096 -O bigalloc -C 65536', size: 96, largeNames: 600 },
  { mke2fs: '-t ext4 -b 1024 -O bigalloc,^resize_inode -C 8192', size: 40 },
  { mke2fs: '-t ext4 -b 1024 -O metadata_csum_seed', fresh: ['tune2fs -U 99112233-4455-6677-8899-aabbccddeeff IMAGE'] },
  { mke2fs: '-t ext4 -b 1024 -O large_dir', largeNames: 900 },
  { mke2fs: '-t ext4 -b 1024 -O inline_data' },
  { mke2fs: '-t ext4 -b 4096 -O inline_data -I 512', size: 24 },
  { mke2fs: '-t ext4 -b 2048 -O inline_data -I 1024' },
  { mke2fs: '-t ext4 -b 1024 -O ea_inode' },
  { mke2fs: '-t ext4 -b 4096 -O ea_inode -I 512', size: 24 },
  { mke2fs: '-t ext4 -b 1024 -O orphan_file' },
  { mke2fs: '-t ext4 -b 1024 -O fast_commit' },
  { mke2fs: '-t ext4 -b 1024 -O stable_inodes,encrypt' },
  { mke2fs: '-t ext4 -b 1024 -O inline_data,ea_inode,orphan_file,metadata_csum_seed,large_dir,fast_commit,sparse_super2,^resize_inode' },
  { mke2fs: '-t ext4 -b 4096 -O ^has_journal,^metadata_csum,inline_data,ea_inode,bigalloc -C 8192', size: 64 },
  // Hashes of directories.
  { mke2fs: '-t ext4 -b 1024', fresh: [hash('legacy')] },
  { mke2fs: '-t ext4 -b 1024', fresh: [hash('tea')] },
  { mke2fs: '-t ext4 -b 1024', fresh: [UNSIGNED] },
  { mke2fs: '-t ext4 -b 1024', fresh: [hash('legacy'), UNSIGNED] },
  { mke2fs: '-t ext4 -b 1024', fresh: [hash('tea'), UNSIGNED] },
  // What the kernel here cannot mount, or waits for, is there after it has read the volume.
  { mke2fs: '-t ext4 -b 1024 -I 256', afterwards: ['tune2fs -O quota IMAGE'] },
  { mke2fs: '-t ext4 -b 1024 -I 256', afterwards: ['tune2fs -O project -Q usrquota,grpquota,prjquota IMAGE'] },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['tune2fs -O mmp IMAGE'] },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['tune2fs -O verity IMAGE'] },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['tune2fs -O casefold IMAGE'] },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['tune2fs -O ^has_journal IMAGE'] },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['debugfs -w -R "feature FEATURE_C31" IMAGE'] },
  {
    mke2fs: '-t ext4 -b 1024',
    afterwards: ['debugfs -w -R "feature FEATURE_R30" IMAGE'],
    refusesWriting: /EOPNOTSUPP.*FEATURE_R30.*read-only/,
  },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['debugfs -w -R "feature shared_blocks" IMAGE'], refusesWriting: /EOPNOTSUPP.*shared_blocks/ },
  { mke2fs: '-t ext4 -b 1024', afterwards: ['debugfs -w -R "feature read-only" IMAGE'], refusesWriting: /EOPNOTSUPP.*read-only/ },
];

const why = whyNoE2fsprogs() ?? (process.getuid?.() === 0 ? undefined : 'mounting needs root');
const skip = why ?? false;

describe('volumes as mke2fs makes them', { skip }, () => {
  let folder = '';
  let mountpoint = '';
  before(() => {
    folder = fs.mkdtempSync(join(tmpdir(), 'formats-'));
    mountpoint = join(folder, 'mnt');
    fs.mkdirSync(mountpoint);
  });
  after(() => {
    spawnSync('umount', [mountpoint], { env: ENV, stdio: 'ignore' });
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const shell = (command: string, image: string): void => {
    execFileSync('sh', ['-c', command.replaceAll('IMAGE', `'${image}'`)], { env: ENV, stdio: 'pipe' });
  };

  /** Runs `body` while the kernel has the image mounted. */
  const mounted = <T>(image: string, options: string, body: () => T): T => {
    execFileSync('mount', ['-t', 'ext4', '-o', `loop,${options}`, image, mountpoint], { env: ENV, stdio: 'pipe' });
    try {
      return body();
    } finally {
      execFileSync('umount', [mountpoint], { env: ENV, stdio: 'pipe' });
    }
  };

  /** An image of that kind, filled, and what the kernel sees in it. */
  const filled = ({ mke2fs, size = 16, fresh = [], afterwards = [], largeNames }: Kind): { image: string; tree: Map<string, Seen> } => {
    const image = join(folder, 'image');
    fs.rmSync(image, { force: true });
    fs.writeFileSync(image, '');
    fs.truncateSync(image, size * 2 ** 20);
    execFileSync('mke2fs', ['-q', '-F', ...mke2fs.split(' '), image], { env: ENV, stdio: 'pipe' });
    for (const command of fresh) shell(command, image);
    const perLeaf = Math.floor(Number(/-b (\d+)/.exec(mke2fs)?.[1]) / 256);
    const twoLevels = Math.min(2400, Math.ceil((perLeaf * perLeaf * 256) / 8));
    const largeValue = mke2fs.includes('ea_inode') ? 6000 : 0;
    mounted(image, 'noatime,user_xattr,acl', () => makeTree(mountpoint, { largeNames: largeNames ?? twoLevels, largeValue }));
    const tree = mounted(image, 'ro', () => seenByKernel(mountpoint));
    for (const command of afterwards) shell(command, image);
    return { image, tree };
  };

  test('there are more than forty of them', () => assert.ok(KINDS.length > 40, `${KINDS.length}`));

  for (const kind of KINDS) {
    const { mke2fs, size = 16, fresh = [], afterwards = [], refusesWriting } = kind;
    const title = [`mke2fs ${mke2fs}`, ...fresh, ...afterwards].join(', then ');
    test(`${title}: reads as the kernel reads it`, async () => {
      const { image, tree } = filled(kind);
      const bdev = loadImage(image, size * 2 ** 20);
      const guard = new GuardedDevice(bdev, true);
      const volume = now(mountExt4(guard, { readOnly: true, atime: 'strictatime' }));
      assertSameTree(seenByUs(volume), tree);
      await volume.destroy();
      assert.equal(guard.violation, undefined);
      if (refusesWriting !== undefined) assert.throws(() => now(mountExt4(bdev.snapshot())), refusesWriting);
    });
  }

  test('blocks of 64 KiB, filled by debugfs, read as what was put in', async () => {
    const source = join(folder, 'source');
    fs.mkdirSync(source);
    const commands: string[] = ['mkdir d', 'mkdir d/e', 'symlink link d/e', `symlink slow ${'s'.repeat(100)}`];
    const contents = new Map<string, Buffer>();
    for (const size of [0, 10, 70_000, 300_000]) {
      const content = Buffer.alloc(size, `${size} `);
      fs.writeFileSync(join(source, `${size}`), content);
      contents.set(`/d/file-${size}`, content);
      commands.push(`write ${join(source, `${size}`)} d/file-${size}`);
    }
    commands.push('ea_set d/file-10 user.name value', 'set_inode_field d/file-10 uid 70001');
    for (let i = 0; i < 300; i++) commands.push(`link d/file-10 d/e/name-${i}`);
    commands.push('set_inode_field d/file-10 links_count 301', 'cd d', 'mknod pipe p', 'mknod device c 4 64');
    const image = join(folder, 'image');
    for (const options of [
      '-t ext4 -b 65536',
      '-t ext4 -b 65536 -I 1024 -O inline_data',
      '-t ext2 -b 65536',
      '-t ext4 -b 32768 -O ^metadata_csum',
    ]) {
      saveImage(makeVolume({ options, size: 64 }), image);
      const list = join(folder, 'commands');
      fs.writeFileSync(list, commands.join('\n'));
      execFileSync('debugfs', ['-w', '-f', list, image], { env: ENV, stdio: 'pipe' });
      const volume = now(mountExt4(loadImage(image, 64 * 2 ** 20), { readOnly: true }));
      const tree = seenByUs(volume);
      for (const [path, content] of contents) {
        const seen = tree.get(path);
        const first = seen?.sameAs === undefined ? seen : tree.get(seen.sameAs);
        assert.equal(first?.content, createHash('sha1').update(content).digest('hex'), `${options}: ${path}`);
      }
      const file = tree.get(tree.get('/d/file-10')?.sameAs ?? '');
      assert.equal(file?.attr?.['uid'], 70_001, options);
      assert.equal(file?.xattrs?.['user.name'], Buffer.from('value').toString('hex'), options);
      assert.deepEqual([tree.get('/link')?.target, tree.get('/slow')?.target], ['d/e', 's'.repeat(100)], options);
      assert.equal(tree.get('/d/device')?.attr?.['rdev'], 4 * 256 + 64, options);
      // How many links debugfs could make there: it does not move a directory out of its inode.
      const listed = execFileSync('debugfs', ['-R', 'ls -p d/e', image], {
        env: ENV,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const names = [...listed.matchAll(/name-\d+/g)].map(([name]) => `/d/e/${name}`).sort();
      assert.ok(names.length === (options.includes('inline') ? 3 : 300), `${options}: ${names.length} names`);
      assert.deepEqual([...tree.keys()].filter((path) => path.startsWith('/d/e/name-')).sort(), names, options);
      await volume.destroy();
    }
  });

  test('an external journal is one of another device, asked for by name where it is not given', async () => {
    const journal = makeVolume({ options: '-O journal_dev -b 1024', size: 8 });
    const path = join(folder, 'journal');
    saveImage(journal, path);
    const device = execFileSync('losetup', ['--find', '--show', path], { env: ENV, encoding: 'utf8' }).trim();
    try {
      const bdev = makeVolume({ options: `-t ext4 -b 1024 -J device=${device}` });
      const changed = loadImage(path, 8 * 2 ** 20);
      assert.throws(() => now(mountExt4(bdev, { readOnly: true })), /EINVAL.*journal on another device/);
      assert.throws(() => now(mountExt4(changed)), /EOPNOTSUPP.*journal of another volume/);
      const volume = now(mountExt4(bdev, { journalDevice: changed }));
      now(volume.mkdir(ROOT, volume.root, 'made', 0o755));
      await volume.destroy();
      const again = now(mountExt4(bdev, { journalDevice: changed, readOnly: true }));
      assert.notEqual(now(again.lookup(ROOT, again.root, 'made')), undefined);
      await again.destroy();
    } finally {
      execFileSync('losetup', ['-d', device], { env: ENV, stdio: 'pipe' });
    }
  });

  test('an incompatible feature that is not known is refused by its name', () => {
    const image = join(folder, 'image');
    const features: [string, RegExp][] = [
      ['FEATURE_I30', /EOPNOTSUPP.*FEATURE_I30/],
      ['compression', /EOPNOTSUPP.*compression/],
      ['dirdata', /EOPNOTSUPP.*dirdata/],
    ];
    for (const [feature, message] of features) {
      saveImage(makeVolume({ options: '-t ext4 -b 1024', size: 8 }), image);
      shell(`debugfs -w -R "feature ${feature}" IMAGE`, image);
      const bdev = loadImage(image, 8 * 2 ** 20);
      for (const readOnly of [true, false]) assert.throws(() => now(mountExt4(bdev.snapshot(), { readOnly })), message, feature);
    }
  });

  test('a read-only mount changes not one byte of the image, however it was left', async () => {
    const image = join(folder, 'image');
    const digest = (): string => createHash('sha1').update(fs.readFileSync(image)).digest('hex');
    for (const options of ['-t ext4 -b 1024', '-t ext3 -b 1024', '-t ext4 -b 4096 -O orphan_file', '-t ext2 -b 1024']) {
      saveImage(makeVolume({ options }), image);
      const left = join(folder, 'left');
      mounted(image, 'strictatime', () => {
        makeTree(mountpoint, { largeNames: 50, largeValue: 0 });
        execFileSync('sync', ['-f', mountpoint], { env: ENV });
        const held = fs.openSync(join(mountpoint, 'holes'), 'r');
        fs.unlinkSync(join(mountpoint, 'holes'));
        fs.renameSync(join(mountpoint, 'far'), join(mountpoint, 'few', 'far'));
        execFileSync('sync', ['-f', mountpoint], { env: ENV });
        fs.copyFileSync(image, left); // as a crash leaves it: with a journal to replay, and with a file without names
        fs.closeSync(held);
      });
      fs.renameSync(left, image);
      const before = digest();
      const kinds: Ext4Options[] = [{}, { atime: 'strictatime' }, { noRecovery: true }];
      for (const kind of kinds) {
        const volume: Ext4Fs = await openImage(image, { ...kind, readOnly: true, sync: true });
        const tree = seenByUs(volume);
        if (kind.noRecovery !== true) {
          assert.ok(tree.has('/few/far') && !tree.has('/holes'), options);
          assert.equal(tree.get('/size-300000')?.attr?.['size'], 300_000);
        }
        assert.throws(() => now(volume.mkdir(ROOT, volume.root, 'made', 0o755)), { code: 'EROFS' });
        await volume.destroy();
        assert.equal(digest(), before, `${options} ${JSON.stringify(kind)}`);
      }
    }
  });
});
