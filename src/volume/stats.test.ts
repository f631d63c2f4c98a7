import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import type { Attr } from '../vfs/attr.ts';
import { S_IFDIR, S_IFLNK, S_IFREG } from '../vfs/uapi.ts';
import { Dirent } from './dirent.ts';
import { BigIntStats, StatFs, Stats, statFsOf, statsOf } from './stats.ts';

const attr: Attr = {
  ino: 12,
  size: 1221,
  blocks: 8,
  blksize: 4096,
  mode: S_IFREG | 0o644,
  nlink: 1,
  uid: 3,
  gid: 4,
  rdev: 0,
  atime: 1_795_261_076,
  atimeNsec: 447_706_919,
  mtime: -2,
  mtimeNsec: 500_000_000,
  ctime: 0,
  ctimeNsec: 0,
  btime: 5,
  btimeNsec: 999_999_999,
};

test('times are milliseconds with fractions, and dates are rounded to them', () => {
  const stats = statsOf(attr, false, 7);
  assert.ok(stats instanceof Stats);
  assert.equal(stats.atimeMs, 1_795_261_076_447 + 0.706919);
  assert.equal(stats.atime.toISOString(), '2026-11-21T11:37:56.448Z');
  assert.equal(stats.mtimeMs, -1500);
  assert.equal(stats.birthtime.getTime(), 6000);
  assert.equal(stats.dev, 7);
});

test('bigint times are whole milliseconds with the nanoseconds beside them', () => {
  const stats = statsOf(attr, true, 7);
  assert.ok(stats instanceof BigIntStats);
  assert.equal(stats.atimeNs, 1_795_261_076_447_706_919n);
  assert.equal(stats.atimeMs, 1_795_261_076_447n);
  assert.equal(stats.mtimeNs, -1_500_000_000n);
  assert.equal(stats.atime.toISOString(), '2026-11-21T11:37:56.447Z');
});

test('fields come in the order of node:fs', () => {
  // Where Node has the dates as fields, they are the last ones.
  const fields = (stats: object) => Object.keys(stats).filter((key) => !key.endsWith('time'));
  assert.deepEqual(Object.keys(statsOf(attr, false, 7)), fields(fs.statSync('/')));
  assert.deepEqual(Object.keys(statsOf(attr, true, 7)), fields(fs.statSync('/', { bigint: true })));
  const statFs = statFsOf({ type: 1, bsize: 2, blocks: 3, bfree: 4, bavail: 5, files: 6, ffree: 7, namelen: 255 }, false);
  assert.ok(statFs instanceof StatFs);
  assert.deepEqual(
    Object.keys(statFs).filter((key) => key !== 'frsize'),
    Object.keys(fs.statfsSync('/')).filter((key) => key !== 'frsize'),
  );
});

test('the type of a file is one of seven', () => {
  const stats = statsOf({ ...attr, mode: S_IFLNK | 0o777 }, false, 7);
  assert.ok(stats.isSymbolicLink());
  assert.ok(!stats.isFile() && !stats.isDirectory() && !stats.isFIFO() && !stats.isSocket());
  assert.ok(!stats.isBlockDevice() && !stats.isCharacterDevice());
  assert.ok(statsOf(attr, true, 7).isFile());
});

test('a Dirent knows its name, its directory and its type', () => {
  const dirent = new Dirent('a', '/d', S_IFDIR);
  assert.deepEqual(Object.keys(dirent), ['name', 'parentPath']);
  assert.equal(dirent.path, '/d');
  assert.ok(dirent.isDirectory() && !dirent.isFile());
  const unknown = new Dirent('a', '/d', 0);
  assert.ok(!unknown.isDirectory() && !unknown.isFile());
});
