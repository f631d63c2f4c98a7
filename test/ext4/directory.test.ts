// Directories of the kernel, read here; directories of ours, read by the kernel and checked by e2fsck.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, run, type Task } from '../../src/base/task.ts';
import { BufferCache } from '../../src/block/buffer-cache.ts';
import { FileDevice } from '../../src/block/file-device.ts';
import { BlockAllocator } from '../../src/fs/ext4/block-alloc.ts';
import { addName, DirCursor, lookupName, parentOf, readDir, removeName } from '../../src/fs/ext4/directory.ts';
import type { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import { Ext4Sb } from '../../src/fs/ext4/ext4-sb.ts';
import { EXT4_FT_REG_FILE, EXT4_ROOT_INO } from '../../src/fs/ext4/format.ts';
import { Groups } from '../../src/fs/ext4/groups.ts';
import { getInode, modifyInode } from '../../src/fs/ext4/inode-table.ts';
import { modifySuperblock, readSuperblock } from '../../src/fs/ext4/superblock.ts';
import { SystemZone } from '../../src/fs/ext4/system-zone.ts';
import { update } from '../../src/fs/ext4/update.ts';
import { NoJournal } from '../../src/jbd2/no-journal.ts';
import { nameBytes, nameOf } from '../../src/vfs/name.ts';
import { checkDir } from '../support/check-dir.ts';

const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
const skip = ((): string | false => {
  if (process.getuid?.() !== 0) return 'mounting needs root';
  for (const tool of ['mke2fs', 'e2fsck', 'debugfs', 'tune2fs', 'mount']) {
    if (spawnSync('sh', ['-c', 'command -v "$0"', tool], { stdio: 'ignore', env }).status !== 0) return `${tool} is missing`;
  }
  return false;
})();

function tool(command: string, ...args: string[]): string {
  return execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env, encoding: 'utf8' });
}

// ---- images

interface Kind {
  readonly title: string;
  readonly mke2fs: readonly string[];
  readonly hash?: 'legacy' | 'half_md4' | 'tea';
  readonly isUnsigned?: boolean;
  /** Names in one directory. */
  readonly count?: number;
  readonly isLong?: boolean;
  readonly sizeMiB?: number;
  /** Levels of the index of the large directory that the kernel makes, its root included. */
  readonly levels?: number;
}

const KINDS: readonly Kind[] = [
  { title: 'half MD4, blocks of 1 KiB', mke2fs: ['-b', '1024'], levels: 2, isLong: true },
  { title: 'half MD4, unsigned', mke2fs: ['-b', '1024'], hash: 'half_md4', isUnsigned: true, levels: 1 },
  { title: 'TEA, blocks of 4 KiB', mke2fs: ['-b', '4096'], hash: 'tea', levels: 1 },
  { title: 'TEA, unsigned', mke2fs: ['-b', '1024'], hash: 'tea', isUnsigned: true, levels: 2, isLong: true },
  { title: 'legacy', mke2fs: ['-b', '2048'], hash: 'legacy', levels: 1 },
  { title: 'legacy, unsigned', mke2fs: ['-b', '1024'], hash: 'legacy', isUnsigned: true, levels: 2, isLong: true },
  { title: 'no dir_index', mke2fs: ['-b', '1024', '-O', '^dir_index'], levels: 0 },
  { title: 'no metadata_csum', mke2fs: ['-b', '1024', '-O', '^metadata_csum,^64bit'], levels: 2, isLong: true },
  { title: 'ext2', mke2fs: ['-t', 'ext2', '-b', '1024'], levels: 1 },
  { title: 'ext2 without filetype', mke2fs: ['-t', 'ext2', '-b', '1024', '-O', '^filetype'], levels: 1 },
  { title: 'inline_data', mke2fs: ['-b', '1024', '-O', 'inline_data'], levels: 1 },
  { title: 'large_dir', mke2fs: ['-b', '1024', '-O', 'large_dir'], levels: 3, count: 45_000, isLong: true, sizeMiB: 64 },
];

function makeImage(path: string, { mke2fs, hash, isUnsigned, sizeMiB = 24 }: Kind): void {
  const fd = fs.openSync(path, 'w');
  fs.ftruncateSync(fd, sizeMiB * 2 ** 20);
  fs.closeSync(fd);
  const type = mke2fs.includes('-t') ? [] : ['-t', 'ext4'];
  tool('mke2fs', '-q', '-F', ...type, '-I', '256', '-O', '^has_journal', ...mke2fs, path);
  if (hash !== undefined) tool('tune2fs', '-E', `hash_alg=${hash}`, path);
  tool('debugfs', '-w', '-R', `set_super_value flags ${isUnsigned === true ? 2 : 1}`, path);
}

function fsck(path: string): void {
  const { status, stdout } = spawnSync('e2fsck', ['-fn', path], { env, encoding: 'utf8' });
  assert.equal(status, 0, stdout);
}

/** What `fn` does with the image in the kernel. */
function inKernel<T>(image: string, fn: (root: string) => T): T {
  const root = fs.mkdtempSync(join(tmpdir(), 'iomap-dirs-mnt-'));
  try {
    tool('mount', '-o', 'loop', image, root);
    try {
      return fn(root);
    } finally {
      tool('umount', root);
    }
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

function withImage(kind: Kind, fn: (image: string) => void): void {
  const scratch = fs.mkdtempSync(join(tmpdir(), 'iomap-dirs-'));
  try {
    const image = join(scratch, 'image');
    makeImage(image, kind);
    fn(image);
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

// ---- our side: the parts of a mount that directories need

function now<T>(task: Task<T>): T {
  const value = run(task);
  assert.ok(!isPromise(value), 'the device answers at once');
  return value;
}

function inOurs<T>(image: string, isReadOnly: boolean, fn: (sb: Ext4Sb) => T): T {
  const bdev = FileDevice.open(image, { sync: true, readOnly: isReadOnly });
  try {
    const raw = new Uint8Array(2048);
    const fd = fs.openSync(image, 'r');
    fs.readSync(fd, raw);
    fs.closeSync(fd);
    const { es } = readSuperblock(raw.subarray(1024), image, bdev.size);
    const buffers = new BufferCache(bdev, es.blockSize, 2 ** 26);
    const hooks = { beforeCommit: (access: Parameters<Groups['flush']>[0]) => sb.groups.flush(access) };
    const log = new NoJournal(buffers, { hooks });
    const ids = { now: () => ({ sec: 1_700_000_000, nsec: 0 }), prng: new Prng(1) };
    const sb: Ext4Sb = new Ext4Sb(bdev, buffers, es, new SystemZone(), log, ids, isReadOnly);
    sb.groups = now(Groups.load(sb, false));
    sb.allocator = new BlockAllocator(sb);
    const answer = fn(sb);
    if (!isReadOnly) {
      now(
        update(sb, 'syncfs', 16, function* (h) {
          yield* modifySuperblock(h, sb);
          es.finish();
        }),
      );
      void log.commit();
    }
    void log.close();
    return answer;
  } finally {
    void bdev.close();
  }
}

interface Listed {
  readonly ino: number;
  readonly isDirectory: boolean;
}

function readKernel(dir: string): Map<string, Listed> {
  const names = new Map<string, Listed>();
  for (const name of fs.readdirSync(Buffer.from(dir), { encoding: 'buffer' })) {
    const stat = fs.lstatSync(Buffer.concat([Buffer.from(`${dir}/`), name]));
    names.set(nameOf(name), { ino: stat.ino, isDirectory: stat.isDirectory() });
  }
  return names;
}

function readOurs(dir: Ext4Inode, count: number): Map<string, Listed> {
  const names = new Map<string, Listed>();
  const cursor = new DirCursor();
  for (let cookie = 0; ; ) {
    const { names: some } = now(readDir(dir, cookie, count, cursor));
    const last = some.at(-1);
    if (last === undefined) return names;
    cookie = last.next;
    for (const { name, ino } of some) {
      assert.ok(!names.has(name), `${name} comes once`);
      names.set(name, { ino, isDirectory: now(getInode(dir.sb, ino)).isDirectory });
    }
  }
}

const ordered = (names: Map<string, Listed>): [string, Listed][] => [...names].sort(([a], [b]) => (a < b ? -1 : 1));

function child(dir: Ext4Inode, name: string): Ext4Inode {
  const hit = now(lookupName(dir, name));
  assert.ok(hit !== undefined, `${name} is there`);
  return now(getInode(dir.sb, hit.ino));
}

const pathIn = (root: string, name: string): Buffer => Buffer.concat([Buffer.from(`${root}/`), nameBytes(name)]);

function nameFor(i: number, isLong: boolean): string {
  const tail = ['', '.txt', '\u00e9', '\udcff\udc80', ' -'][i % 5] as string;
  return `${i}${tail}${isLong ? 'l'.repeat(150 + (i % 70)) : ''}`;
}

/** Fills directories of several sizes by the kernel: names of one file, and some directories. */
function fill(root: string, count: number, isLong: boolean): void {
  for (const [dir, size] of [
    ['empty', 0],
    ['few', 3],
    ['some', 30],
    ['many', count],
  ] as const) {
    fs.mkdirSync(`${root}/${dir}`);
    fs.writeFileSync(`${root}/${dir}.file`, '');
    for (let i = 0; i < size; i++) fs.linkSync(`${root}/${dir}.file`, pathIn(`${root}/${dir}`, nameFor(i, isLong)));
    if (size > 0) for (let i = 0; i < 5; i++) fs.mkdirSync(`${root}/${dir}/subdirectory ${i}`);
    for (let i = 0; i < size; i += 7) fs.unlinkSync(pathIn(`${root}/${dir}`, nameFor(i, isLong)));
  }
}

const DIRS = ['empty', 'few', 'some', 'many'];

for (const kind of KINDS) {
  const { count = 1500, isLong = false } = kind;
  test(`directories of the kernel are read here: ${kind.title}`, { skip }, () =>
    withImage(kind, (image) => {
      const expected = inKernel(image, (root) => {
        fill(root, count, isLong);
        return new Map(DIRS.map((dir) => [dir, readKernel(`${root}/${dir}`)]));
      });
      inOurs(image, true, (sb) => {
        const root = now(getInode(sb, EXT4_ROOT_INO));
        for (const [name, names] of expected) {
          const dir = child(root, name);
          assert.equal(now(parentOf(dir)), EXT4_ROOT_INO);
          assert.deepEqual(ordered(readOurs(dir, 77)), ordered(names), name);
          for (const [each, { ino }] of names) assert.equal(now(lookupName(dir, each))?.ino, ino);
          assert.equal(now(lookupName(dir, 'not there')), undefined);
          if (dir.hasInlineData) continue;
          const checked = now(checkDir(dir));
          assert.equal(checked.names.size, names.size);
          if (name === 'many') assert.equal(checked.levels, kind.levels === 0 ? 0 : (kind.levels as number));
        }
      });
    }),
  );

  test(`directories that are changed here are clean to e2fsck and the same to the kernel, and to and fro: ${kind.title}`, { skip }, () =>
    withImage(kind, (image) => {
      inKernel(image, (root) => fill(root, 40, isLong));
      const prng = new Prng(7);
      for (let round = 0; round < 3; round++) {
        const expected = inOurs(image, false, (sb) => {
          const root = now(getInode(sb, EXT4_ROOT_INO));
          const result = new Map<string, Map<string, Listed>>();
          for (const name of DIRS) {
            const dir = child(root, name);
            const file = child(root, `${name}.file`);
            const model = readOurs(dir, 100);
            const size = name === 'many' ? (round === 0 ? count : 1500) : 25;
            for (let i = 0; i < size; i++) {
              const fresh = `ours ${round} ${nameFor(i, isLong)}`;
              now(
                update(sb, 'link', 96, function* (h) {
                  yield* addName(h, dir, fresh, file.ino, EXT4_FT_REG_FILE);
                  yield* modifyInode(h, file);
                  file.nlink++;
                }),
              );
              model.set(fresh, { ino: file.ino, isDirectory: false });
            }
            if (name === 'many' && round === 0) assert.equal(now(checkDir(dir)).levels, kind.levels);
            for (const [old, { isDirectory }] of [...model]) {
              if (isDirectory || prng.chance(0.6)) continue;
              now(
                update(sb, 'unlink', 96, function* (h) {
                  const hit = yield* lookupName(dir, old);
                  assert.ok(hit !== undefined);
                  yield* removeName(h, dir, hit);
                  yield* modifyInode(h, file);
                  file.nlink--;
                }),
              );
              model.delete(old);
            }
            result.set(name, model);
          }
          return result;
        });
        fsck(image);
        inKernel(image, (root) => {
          for (const [name, names] of expected) {
            assert.deepEqual(ordered(readKernel(`${root}/${name}`)), ordered(names), name);
            // The kernel goes on with what it finds.
            const dir = `${root}/${name}`;
            for (let i = 0; i < 60; i++) fs.linkSync(`${root}/${name}.file`, pathIn(dir, `kernel ${round} ${nameFor(i, isLong)}`));
            for (const [i, each] of [...names.keys()].entries()) {
              if (i % 9 === 0 && names.get(each)?.isDirectory === false) fs.unlinkSync(pathIn(dir, each));
            }
          }
        });
        fsck(image);
      }
    }),
  );
}
