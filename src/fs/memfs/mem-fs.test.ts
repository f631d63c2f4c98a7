import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../base/clock.ts';
import { IovIter } from '../../base/iov-iter.ts';
import { isPromise, type MaybePromise } from '../../base/task.ts';
import { PageCache } from '../../pagecache/page-cache.ts';
import { type Entry, makedev } from '../../vfs/attr.ts';
import { callerOf, ROOT } from '../../vfs/caller.ts';
import type { Notifier } from '../../vfs/file-system.ts';
import {
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_UNDEFINED_ID,
  ACL_USER,
  ACL_USER_OBJ,
  aclFromMode,
  formatAcl,
  type PosixAcl,
  parseAcl,
  XATTR_NAME_POSIX_ACL_ACCESS,
  XATTR_NAME_POSIX_ACL_DEFAULT,
} from '../../vfs/posix-acl.ts';
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  LOCK_END,
  O_EXCL,
  O_NOATIME,
  O_RDONLY,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_IFSOCK,
  XATTR_CREATE,
  XATTR_REPLACE,
} from '../../vfs/uapi.ts';
import { MemFs, type MemFsOptions } from './mem-fs.ts';

const user = callerOf({ uid: 1000, gid: 100 });
const NOWAIT = { ...ROOT, nowait: true };

/** What was answered; nothing here may have to wait. */
function now<T>(answer: MaybePromise<T>): T {
  assert.ok(!isPromise(answer), 'had to wait');
  return answer as T;
}

/** A clock that the test turns. Milliseconds since 1970. */
function manualClock(): Clock & { ms: number } {
  return {
    ms: 1_000_000_000_000,
    now() {
      return this.ms;
    },
    yield: () => Promise.resolve(),
    timer: () => () => {},
  };
}

/** Calls for the things that tests do all the time, by root, with assertions that they answer at once. */
class Setup {
  readonly fs: MemFs;
  readonly clock = manualClock();

  constructor(options: MemFsOptions = {}) {
    this.fs = new MemFs({ clock: this.clock, ...options });
  }

  mkdir(name: string, parent = 1, mode = 0o755): Entry {
    return now(this.fs.mkdir(ROOT, parent, name, mode));
  }

  file(name: string, parent = 1, mode = 0o644, caller = ROOT): Entry {
    return now(this.fs.mknod(caller, parent, name, S_IFREG | mode, 0));
  }

  write(node: number, text: string, pos = 0, flags = 0): void {
    const { fh } = this.fs.open(ROOT, node, O_RDWR);
    now(this.fs.write(ROOT, node, fh, { pos, flags }, new IovIter(new TextEncoder().encode(text))));
    now(this.fs.release(node, fh));
  }

  read(node: number): string {
    const { fh } = this.fs.open(ROOT, node, O_RDONLY);
    const into = new Uint8Array(1000);
    const count = now(this.fs.read(ROOT, node, fh, { pos: 0, flags: 0 }, into));
    now(this.fs.release(node, fh));
    return new TextDecoder().decode(into.subarray(0, count));
  }

  names(node = 1): string[] {
    const { fh } = this.fs.opendir(ROOT, node, 0);
    const names = this.fs.readdir(ROOT, node, fh, 0, 1000, false).map(({ name }) => name);
    now(this.fs.releasedir(node, fh));
    return names;
  }

  nlink(node: number): number {
    return this.fs.getattr(ROOT, node).nlink;
  }

  rename(from: string, to: string, flags = 0): void {
    now(this.fs.rename(ROOT, 1, from, 1, to, flags));
  }
}

// Numbers and names.

test('a new filesystem is an empty root directory', () => {
  const { fs } = new Setup();
  const attr = fs.getattr(ROOT, fs.root);
  assert.equal(attr.mode, S_IFDIR | 0o755);
  assert.equal(attr.nlink, 2);
  assert.equal(attr.ino, fs.root);
  assert.equal(fs.lookup(ROOT, fs.root, 'a'), undefined);
});

test('lookup finds what was made, and absence is a value', () => {
  const t = new Setup();
  const made = t.file('a');
  const found = t.fs.lookup(ROOT, 1, 'a');
  assert.equal(found?.node, made.node);
  assert.equal(found?.attr.mode, S_IFREG | 0o644);
  assert.deepEqual(found?.io, { mode: 'iomap' });
  assert.equal(t.fs.lookup(ROOT, 1, 'b'), undefined);
  assert.throws(() => t.fs.lookup(ROOT, made.node, 'a'), { code: 'ENOTDIR' });
});

test('a number that was never given, or was forgotten as often as given, is stale', () => {
  const t = new Setup();
  const { node } = t.file('a');
  assert.throws(() => t.fs.getattr(ROOT, 99), { code: 'ESTALE' });
  t.fs.lookup(ROOT, 1, 'a');
  t.fs.forget(node, 1);
  t.fs.getattr(ROOT, node);
  t.fs.forget(node, 1);
  assert.throws(() => t.fs.getattr(ROOT, node), { code: 'ESTALE' });
  assert.equal(t.fs.lookup(ROOT, 1, 'a')?.node, node);
  t.fs.forget(99, 1); // of nobody
  t.fs.forget(1, 1000); // the root is not forgotten
  t.fs.getattr(ROOT, 1);
});

test('an inode without names lives until it is forgotten and closed', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  const free = t.fs.statfs(ROOT, 1).ffree;
  now(t.fs.unlink(ROOT, 1, 'a'));
  assert.equal(t.nlink(node), 0);
  now(t.fs.write(ROOT, node, fh, { pos: 0, flags: 0 }, new IovIter(new Uint8Array(10))));
  t.fs.forget(node, 1);
  assert.equal(t.fs.getattr(ROOT, node).size, 10);
  assert.equal(t.fs.statfs(ROOT, 1).ffree, free);
  now(t.fs.release(node, fh));
  assert.throws(() => t.fs.getattr(ROOT, node), { code: 'ESTALE' });
  assert.equal(t.fs.statfs(ROOT, 1).ffree, free + 1);
  assert.equal(t.fs.statfs(ROOT, 1).bfree, t.fs.statfs(ROOT, 1).blocks);
});

test('numbers are not used again', () => {
  const t = new Setup();
  const { node } = t.file('a');
  now(t.fs.unlink(ROOT, 1, 'a'));
  t.fs.forget(node, 1);
  assert.notEqual(t.file('a').node, node);
});

test('data survives that its inode was forgotten', () => {
  const t = new Setup();
  const { node } = t.file('a');
  t.write(node, 'still here');
  t.fs.forget(node, 1);
  const again = t.fs.lookup(ROOT, 1, 'a') as Entry;
  assert.equal(again.attr.size, 10);
  assert.equal(t.read(node), 'still here');
});

test('mknod makes every type, and devices have their numbers', () => {
  const t = new Setup();
  const rdev = makedev(8, 1);
  for (const type of [S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK]) {
    const { attr } = now(t.fs.mknod(ROOT, 1, `${type}`, type | 0o640, rdev));
    assert.equal(attr.mode, type | 0o640);
    assert.equal(attr.rdev, type === S_IFCHR || type === S_IFBLK ? rdev : 0);
    assert.equal(attr.nlink, 1);
  }
  assert.equal(now(t.fs.mknod(ROOT, 1, 'plain', 0o600, 0)).attr.mode, S_IFREG | 0o600);
  assert.throws(() => t.fs.mknod(ROOT, 1, 'x', S_IFDIR | 0o755, 0), { code: 'EPERM' });
  assert.throws(() => t.fs.mknod(ROOT, 1, 'x', S_IFLNK | 0o777, 0), { code: 'EINVAL' });
});

test('a name is taken once', () => {
  const t = new Setup();
  t.file('a');
  for (const make of [
    () => t.file('a'),
    () => t.mkdir('a'),
    () => t.fs.symlink(ROOT, 1, 'a', 'x'),
    () => t.fs.create(ROOT, 1, 'a', 0o644, O_RDWR),
    () => t.fs.link(ROOT, t.file('b').node, 1, 'a'),
  ])
    assert.throws(make, { code: 'EEXIST' });
});

test('new files belong to the caller, or to the group of a set-group-id directory', () => {
  const t = new Setup();
  const { attr } = t.file('a', 1, 0o666, user);
  assert.deepEqual([attr.uid, attr.gid, attr.mode], [1000, 100, S_IFREG | 0o644]);
  const dir = t.mkdir('d').node;
  now(t.fs.setattr(ROOT, dir, { gid: 5, mode: 0o2777 }));
  assert.equal(t.file('b', dir, 0o666, user).attr.gid, 5);
  assert.equal(now(t.fs.mkdir(user, dir, 'sub', 0o777)).attr.mode, S_IFDIR | 0o2755);
});

test('directories count their links', () => {
  const t = new Setup();
  const { node } = t.mkdir('d');
  assert.equal(t.nlink(1), 3);
  t.mkdir('sub', node);
  assert.equal(t.nlink(node), 3);
  now(t.fs.rmdir(ROOT, node, 'sub'));
  assert.equal(t.nlink(node), 2);
  now(t.fs.rmdir(ROOT, 1, 'd'));
  assert.equal(t.nlink(1), 2);
  assert.equal(t.nlink(node), 0);
});

test('unlink is for files and rmdir for empty directories', () => {
  const t = new Setup();
  const { node } = t.mkdir('d');
  t.file('f', node);
  assert.throws(() => t.fs.unlink(ROOT, 1, 'd'), { code: 'EISDIR' });
  assert.throws(() => t.fs.rmdir(ROOT, 1, 'd'), { code: 'ENOTEMPTY' });
  assert.throws(() => t.fs.rmdir(ROOT, node, 'f'), { code: 'ENOTDIR' });
  assert.throws(() => t.fs.unlink(ROOT, node, 'x'), { code: 'ENOENT' });
  assert.throws(() => t.fs.rmdir(ROOT, node, 'x'), { code: 'ENOENT' });
  now(t.fs.unlink(ROOT, node, 'f'));
  now(t.fs.rmdir(ROOT, 1, 'd'));
});

test('a removed directory lists nothing and takes no names', () => {
  const t = new Setup();
  const { node } = t.mkdir('d');
  const { fh } = t.fs.opendir(ROOT, node, 0);
  now(t.fs.rmdir(ROOT, 1, 'd'));
  assert.deepEqual(t.fs.readdir(ROOT, node, fh, 0, 10, true), []);
  const other = t.file('other').node;
  for (const make of [
    () => t.file('a', node),
    () => t.fs.tmpfile(ROOT, node, 0o600, O_RDWR),
    () => t.fs.link(ROOT, other, node, 'a'),
    () => t.fs.rename(ROOT, 1, 'other', node, 'a', 0),
  ])
    assert.throws(make, { code: 'ENOENT' });
  assert.equal(t.fs.lookup(ROOT, node, 'a'), undefined);
});

test('a symbolic link says where it leads, byte for byte', () => {
  const t = new Setup();
  const target = 'caf\u00e9/\udcff'; // the last one is no UTF-8
  const { node, attr } = now(t.fs.symlink(ROOT, 1, 'l', target));
  assert.equal(t.fs.readlink(ROOT, node), target);
  assert.equal(attr.mode, S_IFLNK | 0o777);
  assert.equal(attr.size, 7);
  assert.throws(() => t.fs.readlink(ROOT, 1), { code: 'EINVAL' });
  assert.throws(() => t.fs.open(ROOT, node, O_RDONLY), { code: 'ELOOP' });
});

test('a link is one more name of the same inode', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const entry = now(t.fs.link(ROOT, node, 1, 'b'));
  assert.equal(entry.node, node);
  assert.equal(entry.attr.nlink, 2);
  t.write(node, 'shared');
  now(t.fs.unlink(ROOT, 1, 'a'));
  assert.equal(t.nlink(node), 1);
  assert.equal(t.read(node), 'shared');
  assert.throws(() => t.fs.link(ROOT, t.mkdir('d').node, 1, 'e'), { code: 'EPERM' });
});

test('an inode whose last name is gone gets no other, and 65,000 names are enough', () => {
  const t = new Setup();
  const { node } = t.file('0');
  for (let i = 1; i < 65_000; i++) now(t.fs.link(ROOT, node, 1, `${i}`));
  assert.throws(() => t.fs.link(ROOT, node, 1, 'more'), { code: 'EMLINK' });
  const gone = t.file('gone').node;
  now(t.fs.unlink(ROOT, 1, 'gone'));
  assert.throws(() => t.fs.link(ROOT, gone, 1, 'back'), { code: 'ENOENT' });
});

test('a tmpfile has no name, and gets one unless it was made exclusively', () => {
  const t = new Setup();
  const { entry, fh } = now(t.fs.tmpfile(ROOT, 1, 0o600, O_RDWR));
  assert.equal(entry.attr.nlink, 0);
  assert.deepEqual(t.names(), []);
  now(t.fs.link(ROOT, entry.node, 1, 'named'));
  assert.deepEqual(t.names(), ['named']);
  now(t.fs.unlink(ROOT, 1, 'named'));
  assert.throws(() => t.fs.link(ROOT, entry.node, 1, 'again'), { code: 'ENOENT' });
  now(t.fs.release(entry.node, fh));

  const exclusive = now(t.fs.tmpfile(ROOT, 1, 0o600, O_RDWR | O_EXCL));
  assert.throws(() => t.fs.link(ROOT, exclusive.entry.node, 1, 'x'), { code: 'ENOENT' });
  t.fs.forget(exclusive.entry.node, 1);
  now(t.fs.release(exclusive.entry.node, exclusive.fh));
  assert.throws(() => t.fs.getattr(ROOT, exclusive.entry.node), { code: 'ESTALE' });
});

test('create makes a regular file and opens it', () => {
  const t = new Setup();
  const { entry, fh } = now(t.fs.create(user, 1, 'a', 0o666, O_RDWR));
  assert.equal(entry.attr.mode, S_IFREG | 0o644);
  assert.equal(now(t.fs.write(user, entry.node, fh, { pos: 0, flags: 0 }, new IovIter(new Uint8Array(3)))), 3);
  assert.equal(t.fs.getattr(ROOT, entry.node).size, 3);
});

test('open is for regular files', () => {
  const t = new Setup();
  assert.throws(() => t.fs.open(ROOT, 1, O_RDONLY), { code: 'EISDIR' });
  const fifo = now(t.fs.mknod(ROOT, 1, 'p', S_IFIFO | 0o600, 0)).node;
  assert.throws(() => t.fs.open(ROOT, fifo, O_RDONLY), { code: 'ENXIO' });
  assert.throws(() => t.fs.opendir(ROOT, fifo, 0), { code: 'ENOTDIR' });
});

test('a handle that is none, or of another inode, is a bad one', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const other = t.file('b').node;
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  const dir = t.fs.opendir(ROOT, 1, 0).fh;
  const into = new Uint8Array(1);
  assert.throws(() => t.fs.read(ROOT, node, 999, { pos: 0, flags: 0 }, into), { code: 'EBADF' });
  assert.throws(() => t.fs.read(ROOT, other, fh, { pos: 0, flags: 0 }, into), { code: 'EBADF' });
  assert.throws(() => t.fs.read(ROOT, 1, dir, { pos: 0, flags: 0 }, into), { code: 'EISDIR' });
  assert.throws(() => t.fs.readdir(ROOT, node, fh, 0, 1, false), { code: 'ENOTDIR' });
  assert.throws(() => t.fs.fsyncdir(ROOT, 1, 999), { code: 'EBADF' });
  assert.throws(() => t.fs.release(other, fh), { code: 'EBADF' });
  now(t.fs.release(node, fh));
  assert.throws(() => t.fs.release(node, fh), { code: 'EBADF' });
});

// Rename.

test('rename moves a name and replaces what had it', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const old = t.file('b').node;
  t.rename('a', 'b');
  assert.deepEqual(t.names(), ['b']);
  assert.equal(t.fs.lookup(ROOT, 1, 'b')?.node, node);
  assert.equal(t.nlink(node), 1);
  assert.equal(t.nlink(old), 0);
  assert.throws(() => t.rename('a', 'c'), { code: 'ENOENT' });
});

test('rename of two names of one file does nothing', () => {
  const t = new Setup();
  const { node } = t.file('a');
  now(t.fs.link(ROOT, node, 1, 'b'));
  t.rename('a', 'b');
  t.rename('a', 'a');
  assert.deepEqual(t.names(), ['a', 'b']);
  assert.equal(t.nlink(node), 2);
  assert.throws(() => t.rename('a', 'b', RENAME_NOREPLACE), { code: 'EEXIST' });
});

test('rename of a directory moves its parent link', () => {
  const t = new Setup();
  const a = t.mkdir('a').node;
  const b = t.mkdir('b').node;
  t.mkdir('d', a);
  now(t.fs.rename(ROOT, a, 'd', b, 'e', 0));
  assert.equal(t.nlink(a), 2);
  assert.equal(t.nlink(b), 3);
  now(t.fs.rename(ROOT, b, 'e', b, 'f', 0));
  assert.equal(t.nlink(b), 3);
  assert.deepEqual(t.names(b), ['f']);
});

test('a directory replaces an empty directory only, a file no directory', () => {
  const t = new Setup();
  const full = t.mkdir('full').node;
  t.file('x', full);
  t.mkdir('empty');
  t.mkdir('d');
  t.file('f');
  assert.throws(() => t.rename('d', 'full'), { code: 'ENOTEMPTY' });
  assert.throws(() => t.rename('d', 'f'), { code: 'ENOTDIR' });
  assert.throws(() => t.rename('f', 'd'), { code: 'EISDIR' });
  t.rename('d', 'empty');
  assert.deepEqual(t.names(), ['full', 'empty', 'f']);
  assert.equal(t.nlink(1), 4);
});

test('a directory is not moved below itself', () => {
  const t = new Setup();
  const a = t.mkdir('a').node;
  const b = t.mkdir('b', a).node;
  t.mkdir('c', b);
  assert.throws(() => t.fs.rename(ROOT, 1, 'a', b, 'x', 0), { code: 'EINVAL' });
  assert.throws(() => t.fs.rename(ROOT, 1, 'a', a, 'x', 0), { code: 'EINVAL' });
  assert.throws(() => t.fs.rename(ROOT, b, 'c', 1, 'a', 0), { code: 'ENOTEMPTY' });
  assert.throws(() => t.fs.rename(ROOT, b, 'c', 1, 'a', RENAME_EXCHANGE), { code: 'EINVAL' });
  assert.throws(() => t.fs.rename(ROOT, 1, 'a', b, 'c', RENAME_EXCHANGE), { code: 'EINVAL' });
});

test('RENAME_NOREPLACE replaces nothing', () => {
  const t = new Setup();
  t.file('a');
  t.file('b');
  assert.throws(() => t.rename('a', 'b', RENAME_NOREPLACE), { code: 'EEXIST' });
  t.rename('a', 'c', RENAME_NOREPLACE);
  assert.deepEqual(t.names(), ['b', 'c']);
});

test('RENAME_EXCHANGE swaps two names, of whatever types', () => {
  const t = new Setup();
  const dir = t.mkdir('d').node;
  const sub = t.mkdir('sub', dir).node;
  const file = t.file('f').node;
  now(t.fs.rename(ROOT, 1, 'f', dir, 'sub', RENAME_EXCHANGE));
  assert.equal(t.fs.lookup(ROOT, 1, 'f')?.node, sub);
  assert.equal(t.fs.lookup(ROOT, dir, 'sub')?.node, file);
  assert.equal(t.nlink(dir), 2);
  assert.equal(t.nlink(1), 4);
  assert.equal(t.nlink(sub), 2);
  assert.equal(t.nlink(file), 1);
  // Its parent is the root now: what was above it can move below it.
  now(t.fs.rename(ROOT, 1, 'd', sub, 'd', 0));
  assert.throws(() => t.rename('f', 'none', RENAME_EXCHANGE), { code: 'ENOENT' });
});

test('RENAME_WHITEOUT leaves a character device 0:0', () => {
  const t = new Setup({ inodes: 3 });
  const { node } = t.file('a');
  t.rename('a', 'b', RENAME_WHITEOUT);
  const { attr } = t.fs.lookup(ROOT, 1, 'a') as Entry;
  assert.equal(attr.mode, S_IFCHR);
  assert.equal(attr.rdev, 0);
  assert.equal(attr.nlink, 1);
  assert.equal(t.nlink(node), 1);
  assert.throws(() => t.rename('b', 'c', RENAME_WHITEOUT), { code: 'ENOSPC' });
  assert.deepEqual(t.names(), ['a', 'b']);
});

test('rename flags that are unknown or contradict each other are refused', () => {
  const t = new Setup();
  t.file('a');
  t.file('b');
  for (const flags of [RENAME_EXCHANGE | RENAME_NOREPLACE, RENAME_EXCHANGE | RENAME_WHITEOUT, 8]) {
    assert.throws(() => t.rename('a', 'b', flags), { code: 'EINVAL' });
  }
});

// Directories.

test('readdir lists types, and with attributes counts lookups', () => {
  const t = new Setup();
  const file = t.file('f').node;
  const dir = t.mkdir('d').node;
  const { fh } = t.fs.opendir(ROOT, 1, 0);
  t.fs.forget(file, 1);
  const plain = t.fs.readdir(ROOT, 1, fh, 0, 10, false);
  assert.deepEqual(
    plain.map(({ name, ino, type, entry }) => [name, ino, type, entry]),
    [
      ['f', file, S_IFREG, undefined],
      ['d', dir, S_IFDIR, undefined],
    ],
  );
  assert.throws(() => t.fs.getattr(ROOT, file), { code: 'ESTALE' });
  const [first] = t.fs.readdir(ROOT, 1, fh, 0, 1, true);
  assert.deepEqual(first?.entry?.attr, t.fs.getattr(ROOT, file));
  t.fs.forget(file, 1);
  assert.throws(() => t.fs.getattr(ROOT, file), { code: 'ESTALE' });
});

test('readdir goes on behind a name that is gone by now', () => {
  const t = new Setup();
  for (const name of ['a', 'b', 'c', 'd']) t.file(name);
  const { fh } = t.fs.opendir(ROOT, 1, 0);
  const first = t.fs.readdir(ROOT, 1, fh, 0, 2, false);
  for (const name of ['a', 'b', 'c']) now(t.fs.unlink(ROOT, 1, name));
  t.file('e');
  t.rename('e', 'd'); // d stays where it is
  const rest = t.fs.readdir(ROOT, 1, fh, first[1]?.next as number, 10, false);
  assert.deepEqual(
    rest.map(({ name }) => name),
    ['d'],
  );
});

test('an open directory keeps its number', () => {
  const t = new Setup();
  const { node } = t.mkdir('d');
  const { fh } = t.fs.opendir(ROOT, node, 0);
  t.fs.forget(node, 1);
  assert.deepEqual(t.fs.readdir(ROOT, node, fh, 0, 10, false), []);
  t.fs.fsyncdir(ROOT, node, fh);
  now(t.fs.releasedir(node, fh));
  assert.throws(() => t.fs.getattr(ROOT, node), { code: 'ESTALE' });
});

// Attributes.

test('attributes that were answered do not change afterwards', () => {
  const t = new Setup();
  const { node, attr } = t.file('a');
  const before = { ...attr };
  attr.uid = 77;
  t.write(node, 'abc');
  assert.equal(before.size, 0);
  assert.equal(t.fs.getattr(ROOT, node).uid, 0);
});

test('setattr changes what is given and moves ctime', () => {
  const t = new Setup();
  const { node } = t.file('a');
  t.clock.ms += 5000;
  const attr = now(t.fs.setattr(ROOT, node, { mode: 0o104755, uid: 3, gid: 4 }));
  assert.deepEqual([attr.mode, attr.uid, attr.gid], [S_IFREG | 0o4755, 3, 4]);
  assert.equal(attr.ctime, 1_000_000_005);
  assert.equal(attr.mtime, 1_000_000_000);
  assert.equal(now(t.fs.setattr(ROOT, node, { killSuidgid: true })).mode, S_IFREG | 0o755);
  assert.equal(now(t.fs.setattr(ROOT, node, { ctime: { sec: 9, nsec: 8 } })).ctimeNsec, 8);
});

test('times are set to what is given, or to now', () => {
  const t = new Setup();
  const { node } = t.file('a');
  t.clock.ms += 1500.25;
  const attr = now(t.fs.setattr(ROOT, node, { atime: { sec: -5, nsec: 999_999_999 }, mtime: 'now' }));
  assert.deepEqual([attr.atime, attr.atimeNsec], [-5, 999_999_999]);
  assert.deepEqual([attr.mtime, attr.mtimeNsec], [1_000_000_001, 500_250_000]);
  assert.equal(attr.btime, 1_000_000_000);
});

test('names, and what happens to them, move the times of their directories', () => {
  const t = new Setup();
  const dir = t.mkdir('d').node;
  const times = () => {
    const { mtime, ctime } = t.fs.getattr(ROOT, dir);
    return [mtime, ctime];
  };
  const at = (seconds: number) => [1_000_000_000 + seconds, 1_000_000_000 + seconds];
  t.clock.ms += 1000;
  const { node } = t.file('a', dir);
  assert.deepEqual(times(), at(1));
  t.clock.ms += 1000;
  now(t.fs.rename(ROOT, dir, 'a', 1, 'a', 0));
  assert.deepEqual(times(), at(2));
  assert.equal(t.fs.getattr(ROOT, node).ctime, 1_000_000_002);
  t.clock.ms += 1000;
  now(t.fs.link(ROOT, node, dir, 'b'));
  assert.deepEqual(times(), at(3));
  t.clock.ms += 1000;
  now(t.fs.unlink(ROOT, dir, 'b'));
  assert.deepEqual(times(), at(4));
  assert.equal(t.fs.getattr(ROOT, node).ctime, 1_000_000_004);
});

test('reading moves atime by the policy', () => {
  for (const [atime, expected] of [
    ['relatime', [1, 1, 90_003]],
    ['strictatime', [1, 3, 90_003]],
    ['noatime', [0, 0, 0]],
  ] as const) {
    const t = new Setup({ atime });
    const { node } = t.file('a');
    t.write(node, 'x');
    const seen: number[] = [];
    for (const seconds of [1, 2, 90_000]) {
      t.clock.ms += seconds * 1000;
      t.read(node);
      seen.push(t.fs.getattr(ROOT, node).atime - 1_000_000_000);
    }
    assert.deepEqual(seen, expected, atime);
  }
});

test('O_NOATIME, a read-only and a frozen filesystem leave atime alone', () => {
  const t = new Setup({ atime: 'strictatime' });
  const { node } = t.file('a');
  const { fh } = t.fs.open(ROOT, node, O_RDONLY | O_NOATIME);
  const into = new Uint8Array(1);
  t.clock.ms += 1000;
  now(t.fs.read(ROOT, node, fh, { pos: 0, flags: 0 }, into));
  t.fs.isReadOnly = true;
  t.read(node);
  t.fs.isReadOnly = false;
  now(t.fs.freeze());
  t.read(node);
  now(t.fs.thaw());
  assert.equal(t.fs.getattr(ROOT, node).atime, 1_000_000_000);
  t.read(node);
  assert.equal(t.fs.getattr(ROOT, node).atime, 1_000_000_001);
});

test('a size is for regular files, and moves mtime', () => {
  const t = new Setup();
  const { node } = t.file('a');
  t.write(node, 'abcdef');
  t.clock.ms += 1000;
  const attr = now(t.fs.setattr(ROOT, node, { size: 3 }));
  assert.deepEqual([attr.size, attr.mtime], [3, 1_000_000_001]);
  assert.equal(t.read(node), 'abc');
  assert.equal(now(t.fs.setattr(ROOT, node, { size: 5, mtime: { sec: 1, nsec: 0 } })).mtime, 1);
  assert.equal(t.read(node), 'abc\0\0');
  assert.throws(() => t.fs.setattr(ROOT, 1, { size: 0 }), { code: 'EISDIR' });
  const fifo = now(t.fs.mknod(ROOT, 1, 'p', S_IFIFO | 0o600, 0)).node;
  assert.throws(() => t.fs.setattr(ROOT, fifo, { size: 0 }), { code: 'EINVAL' });
});

test('set-id bits and capabilities go with the first byte written by who may not keep them', () => {
  const t = new Setup();
  const { node } = t.file('a', 1, 0o6755);
  now(t.fs.setxattr(ROOT, node, 'security.capability', new Uint8Array([1]), 0));
  t.write(node, 'x');
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o6755);
  assert.equal(t.fs.getxattr(ROOT, node, 'security.capability'), undefined);
  t.write(node, 'x', 0, RW_KILL_SUIDGID);
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o755);
  now(t.fs.setattr(ROOT, node, { mode: 0o2644 }));
  t.write(node, 'x', 0, RW_KILL_SUIDGID);
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o2644);
  t.write(node, 'x', 0, RW_KILL_SUIDGID | RW_KILL_SGID);
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o644);
});

test('a new owner or size ends the capabilities of an executable', () => {
  const t = new Setup();
  const { node } = t.file('a');
  for (const changes of [{ uid: 5 }, { gid: 5 }, { size: 1 }]) {
    now(t.fs.setxattr(ROOT, node, 'security.capability', new Uint8Array([1]), 0));
    now(t.fs.setattr(ROOT, node, { mode: 0o700 }));
    assert.ok(t.fs.getxattr(ROOT, node, 'security.capability'));
    now(t.fs.setattr(ROOT, node, changes));
    assert.equal(t.fs.getxattr(ROOT, node, 'security.capability'), undefined);
  }
});

// Extended attributes.

test('extended attributes are set, listed, read and removed', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const value = new Uint8Array([1, 2, 3]);
  now(t.fs.setxattr(ROOT, node, 'user.a', value, 0));
  now(t.fs.setxattr(ROOT, node, 'trusted.b', new Uint8Array(0), 0));
  value[0] = 9;
  assert.deepEqual(t.fs.getxattr(ROOT, node, 'user.a'), new Uint8Array([1, 2, 3]));
  assert.deepEqual(t.fs.getxattr(ROOT, node, 'trusted.b'), new Uint8Array(0));
  assert.equal(t.fs.getxattr(ROOT, node, 'user.none'), undefined);
  assert.deepEqual(t.fs.listxattr(ROOT, node), ['user.a', 'trusted.b']);
  assert.deepEqual(t.fs.listxattr(user, node), ['user.a']);
  now(t.fs.removexattr(ROOT, node, 'user.a'));
  assert.throws(() => t.fs.removexattr(ROOT, node, 'user.a'), { code: 'ENODATA' });
});

test('XATTR_CREATE and XATTR_REPLACE', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const value = new Uint8Array(1);
  assert.throws(() => t.fs.setxattr(ROOT, node, 'user.a', value, XATTR_REPLACE), { code: 'ENODATA' });
  now(t.fs.setxattr(ROOT, node, 'user.a', value, XATTR_CREATE));
  assert.throws(() => t.fs.setxattr(ROOT, node, 'user.a', value, XATTR_CREATE), { code: 'EEXIST' });
  now(t.fs.setxattr(ROOT, node, 'user.a', value, XATTR_REPLACE));
  assert.throws(() => t.fs.setxattr(ROOT, node, 'user.a', value, 4), { code: 'EINVAL' });
});

test('extended attributes have limits', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const set = (name: string, length: number) => t.fs.setxattr(ROOT, node, name, new Uint8Array(length), 0);
  assert.throws(() => set('user.a', 65537), { code: 'E2BIG' });
  assert.throws(() => set(`user.${'x'.repeat(251)}`, 1), { code: 'ERANGE' });
  assert.throws(() => set('user.', 1), { code: 'EINVAL' });
  assert.throws(() => set('other.a', 1), { code: 'EOPNOTSUPP' });
  assert.throws(() => t.fs.getxattr(ROOT, node, 'system.other'), { code: 'EOPNOTSUPP' });
  now(set('user.a', 65536));
  now(set('user.b', 65000));
  assert.throws(() => set('user.c', 600), { code: 'ENOSPC' });
  now(set('user.b', 64000)); // replaced, not added
  now(set('user.c', 600));
});

test('user attributes are for regular files and directories', () => {
  const t = new Setup();
  const link = now(t.fs.symlink(ROOT, 1, 'l', 'x')).node;
  const value = new Uint8Array(1);
  assert.throws(() => t.fs.setxattr(ROOT, link, 'user.a', value, 0), { code: 'EPERM' });
  assert.throws(() => t.fs.removexattr(ROOT, link, 'user.a'), { code: 'EPERM' });
  assert.equal(t.fs.getxattr(ROOT, link, 'user.a'), undefined);
  now(t.fs.setxattr(ROOT, link, 'trusted.a', value, 0));
  now(t.fs.setxattr(ROOT, 1, 'user.a', value, 0));
});

const named: PosixAcl = [
  { tag: ACL_USER_OBJ, perm: 6, id: ACL_UNDEFINED_ID },
  { tag: ACL_USER, perm: 7, id: 42 },
  { tag: ACL_GROUP_OBJ, perm: 4, id: ACL_UNDEFINED_ID },
  { tag: ACL_MASK, perm: 5, id: ACL_UNDEFINED_ID },
  { tag: ACL_OTHER, perm: 0, id: ACL_UNDEFINED_ID },
];

test('an access ACL and the mode say the same', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const get = () => {
    const value = t.fs.getxattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS);
    return value === undefined ? undefined : parseAcl(value);
  };
  now(t.fs.setxattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(named), 0));
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o650);
  assert.deepEqual(get(), named);
  now(t.fs.setattr(ROOT, node, { mode: 0o721 }));
  assert.deepEqual(
    get()?.map(({ perm }) => perm),
    [7, 7, 4, 2, 1],
  );
  // One that says no more than a mode becomes the mode.
  now(t.fs.setxattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(aclFromMode(0o604)), 0));
  assert.equal(get(), undefined);
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o604);
  now(t.fs.setxattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(named), 0));
  now(t.fs.removexattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS));
  now(t.fs.removexattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS));
  assert.equal(get(), undefined);
});

test('ACLs that are none, or where none can be, are refused', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const link = now(t.fs.symlink(ROOT, 1, 'l', 'x')).node;
  const acl = formatAcl(named);
  assert.throws(() => t.fs.setxattr(ROOT, node, XATTR_NAME_POSIX_ACL_ACCESS, acl.subarray(0, 10), 0), { code: 'EINVAL' });
  assert.throws(() => t.fs.setxattr(ROOT, node, XATTR_NAME_POSIX_ACL_DEFAULT, acl, 0), { code: 'EACCES' });
  assert.throws(() => t.fs.setxattr(ROOT, link, XATTR_NAME_POSIX_ACL_ACCESS, acl, 0), { code: 'EOPNOTSUPP' });
});

test('a default ACL is inherited, and the umask does not count then', () => {
  const t = new Setup();
  const dir = t.mkdir('d').node;
  now(t.fs.setxattr(ROOT, dir, XATTR_NAME_POSIX_ACL_DEFAULT, formatAcl(named), 0));
  const file = t.file('f', dir, 0o666);
  assert.equal(file.attr.mode, S_IFREG | 0o640);
  const access = t.fs.getxattr(ROOT, file.node, XATTR_NAME_POSIX_ACL_ACCESS) as Uint8Array;
  assert.deepEqual(
    parseAcl(access)?.map(({ perm }) => perm),
    [6, 7, 4, 4, 0],
  );
  const sub = t.mkdir('sub', dir, 0o777);
  assert.deepEqual(parseAcl(t.fs.getxattr(ROOT, sub.node, XATTR_NAME_POSIX_ACL_DEFAULT) as Uint8Array), named);
  const link = now(t.fs.symlink(ROOT, dir, 'l', 'x'));
  assert.equal(link.attr.mode, S_IFLNK | 0o777);
  assert.deepEqual(t.fs.listxattr(ROOT, link.node), []);
});

// The whole.

test('inodes are limited', () => {
  const t = new Setup({ inodes: 3, userInodes: 1 });
  t.file('a', 1, 0o644, user);
  assert.throws(() => t.file('b', 1, 0o644, user), { code: 'EDQUOT', syscall: 'mknod' });
  t.file('b');
  assert.throws(() => t.mkdir('c'), { code: 'ENOSPC', syscall: 'mkdir' });
  const { files, ffree } = t.fs.statfs(ROOT, 1);
  assert.deepEqual([files, ffree], [3, 0]);
  assert.deepEqual(t.fs.usageOf(1000), { bytes: 0, inodes: 1 });
  assert.deepEqual(t.names(), ['a', 'b']);
});

test('a chown past the quota of the new owner changes nothing', () => {
  const t = new Setup({ userBytes: 4096 });
  const { node } = t.file('a');
  t.write(node, 'x'.repeat(5000));
  assert.throws(() => t.fs.setattr(ROOT, node, { uid: 1000, mode: 0o777, size: 0 }), { code: 'EDQUOT' });
  const attr = t.fs.getattr(ROOT, node);
  assert.deepEqual([attr.uid, attr.mode, attr.size], [0, S_IFREG | 0o644, 5000]);
  now(t.fs.setattr(ROOT, node, { size: 4096 }));
  now(t.fs.setattr(ROOT, node, { uid: 1000 }));
  assert.deepEqual(t.fs.usageOf(1000), { bytes: 4096, inodes: 1 });
});

test('a read-only filesystem refuses every change', () => {
  const t = new Setup();
  const { node } = t.file('a');
  t.write(node, 'sealed');
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  t.fs.isReadOnly = true;
  const value = new Uint8Array(1);
  for (const change of [
    () => t.file('b'),
    () => t.mkdir('b'),
    () => t.fs.symlink(ROOT, 1, 'b', 'x'),
    () => t.fs.link(ROOT, node, 1, 'b'),
    () => t.fs.unlink(ROOT, 1, 'a'),
    () => t.fs.rmdir(ROOT, 1, 'a'),
    () => t.rename('a', 'b'),
    () => t.fs.create(ROOT, 1, 'b', 0o644, O_RDWR),
    () => t.fs.tmpfile(ROOT, 1, 0o644, O_RDWR),
    () => t.fs.open(ROOT, node, O_RDWR),
    () => t.fs.write(ROOT, node, fh, { pos: 0, flags: 0 }, new IovIter(value)),
    () => t.fs.fallocate(ROOT, node, fh, 0, 0, 10),
    () => t.fs.setattr(ROOT, node, { mode: 0 }),
    () => t.fs.setattr(ROOT, node, { size: 0 }),
    () => t.fs.setxattr(ROOT, node, 'user.a', value, 0),
    () => t.fs.removexattr(ROOT, node, 'user.a'),
  ])
    assert.throws(change, { code: 'EROFS' });
  assert.equal(t.read(node), 'sealed');
  assert.ok(new MemFs({ readOnly: true }).isReadOnly);
});

test('a frozen filesystem lets changes wait, or refuses those that will not', async () => {
  const t = new Setup();
  const { node } = t.file('a');
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  t.write(node, 'before');
  now(t.fs.freeze());
  const bytes = new Uint8Array([65]);
  for (const change of [
    () => t.fs.mkdir(NOWAIT, 1, 'd', 0o755),
    () => t.fs.unlink(NOWAIT, 1, 'a'),
    () => t.fs.setattr(NOWAIT, node, { mode: 0 }),
    () => t.fs.setattr(NOWAIT, node, { size: 0 }),
    () => t.fs.write(NOWAIT, node, fh, { pos: 0, flags: 0 }, new IovIter(bytes)),
    () => t.fs.fallocate(NOWAIT, node, fh, 0, 0, 10),
    () => t.fs.copyFileRange(NOWAIT, node, fh, 0, node, fh, 100, 1, 0),
  ])
    assert.throws(change, { code: 'EAGAIN' });
  assert.equal(t.read(node), 'before');
  const waiting = [
    t.fs.mkdir(ROOT, 1, 'd', 0o755),
    t.fs.write(ROOT, node, fh, { pos: 0, flags: 0 }, new IovIter(bytes)),
    t.fs.setattr(ROOT, node, { size: 3, mode: 0o600 }),
  ];
  for (const answer of waiting) assert.ok(isPromise(answer));
  assert.deepEqual(t.names(), ['a']);
  assert.equal(t.read(node), 'before');
  now(t.fs.thaw());
  await Promise.all(waiting);
  assert.deepEqual(t.names(), ['a', 'd']);
  assert.equal(t.read(node), 'Aef');
  assert.equal(t.fs.getattr(ROOT, node).mode, S_IFREG | 0o600);
  assert.throws(() => t.fs.thaw(), { code: 'EINVAL' });
});

test('after a shutdown everything fails with EIO', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  assert.throws(() => t.fs.shutdown(3), { code: 'EINVAL' });
  now(t.fs.shutdown(0));
  for (const call of [
    () => t.fs.getattr(ROOT, 1),
    () => t.fs.lookup(ROOT, 1, 'a'),
    () => t.mkdir('d'),
    () => t.fs.read(ROOT, node, fh, { pos: 0, flags: 0 }, new Uint8Array(1)),
    () => t.fs.write(ROOT, node, fh, { pos: 0, flags: 0 }, new IovIter(new Uint8Array(1))),
    () => t.fs.fsync(ROOT, node, fh, false),
    () => t.fs.statfs(ROOT, 1),
    () => t.fs.syncfs(ROOT),
    () => t.fs.freeze(),
    () => t.fs.shutdown(0),
  ])
    assert.throws(call, { code: 'EIO' });
  now(t.fs.release(node, fh));
  t.fs.forget(node, 1);
});

test('statfs tells the size of blocks, the length of names and the magic of tmpfs', () => {
  const { bsize, namelen, type, blocks, bavail } = new Setup({ bytes: 1_000_000 }).fs.statfs(ROOT, 1);
  assert.deepEqual([bsize, namelen, type, blocks, bavail], [4096, 255, 0x01021994, 244, 244]);
});

test('locks are kept, and flock goes with the open file', async () => {
  const t = new Setup();
  const { node } = t.file('a');
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  const lock = { type: F_WRLCK, start: 0, end: 9, pid: 5, owner: 1 };
  await t.fs.setlk(ROOT, node, fh, lock, { flock: false, wait: false });
  const found = now(t.fs.getlk(ROOT, node, fh, { ...lock, type: F_RDLCK, owner: 2, end: LOCK_END }));
  assert.equal(found?.pid, 5);
  await t.fs.setlk(ROOT, node, fh, { ...lock, type: F_UNLCK }, { flock: false, wait: false });
  assert.equal(now(t.fs.getlk(ROOT, node, fh, { ...lock, owner: 2 })), undefined);
  const whole = { type: F_WRLCK, start: 0, end: LOCK_END, pid: 5, owner: 1 };
  await t.fs.setlk(ROOT, node, fh, whole, { flock: true, wait: false });
  const other = t.fs.open(ROOT, node, O_RDWR).fh;
  const conflict = async () => t.fs.setlk(ROOT, node, other, { ...whole, owner: 2 }, { flock: true, wait: false });
  await assert.rejects(conflict, { code: 'EAGAIN' });
  now(t.fs.release(node, fh, 1));
  await conflict();
});

test('what is not here answers as a system without it', () => {
  const t = new Setup();
  const { node } = t.file('a');
  const { fh } = t.fs.open(ROOT, node, O_RDWR);
  assert.throws(() => t.fs.ioctl(ROOT, node, fh, 0x5401, new Uint8Array(0), 0), { code: 'ENOTTY' });
  assert.ok(now(t.fs.poll(ROOT, node, fh, 0xff)) > 0);
  t.fs.attach({} as Notifier)();
});

test('destroy gives back all memory of a shared cache', () => {
  const cache = new PageCache({ budget: 1 << 20, clock: manualClock() });
  const t = new Setup({ cache });
  for (let i = 0; i < 10; i++) t.write(t.file(`${i}`).node, 'x'.repeat(10_000));
  assert.ok(cache.memory.used > 0);
  now(t.fs.destroy());
  assert.equal(cache.memory.used, 0);
  assert.equal(cache.dirtyBytes, 0);
  assert.equal(cache.devices.size, 0);
});
