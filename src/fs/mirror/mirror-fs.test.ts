import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { hasCode } from '../../base/fs-error.ts';
import { IovIter, type WriteSource } from '../../base/iov-iter.ts';
import { Libc, MNT_DETACH, RLIMIT_NOFILE } from '../../sys/libc.ts';
import type { Entry } from '../../vfs/attr.ts';
import { callerOf, ROOT } from '../../vfs/caller.ts';
import { nameOf } from '../../vfs/name.ts';
import {
  isDirectory,
  isSymlink,
  O_APPEND,
  O_DIRECT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  RWF_APPEND,
  RWF_NOAPPEND,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
} from '../../vfs/uapi.ts';
import { MirrorFs, type MirrorFsOptions } from './mirror-fs.ts';

const ALICE = callerOf({ uid: 1001, gid: 1001 });
const MS_BIND = 4096;
const CAP_SYS_RESOURCE = 1n << 24n;

function unavailable(): string | undefined {
  if (process.platform !== 'linux') return 'the calls are those of Linux';
  try {
    new Libc();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const notRoot = process.getuid?.() === 0 ? false : 'only root acts for others';

describe('MirrorFs', { skip: unavailable() ?? false }, () => {
  /** A mirror of a fresh directory, beside which `outside` is. */
  function fresh(t: TestContext, options?: MirrorFsOptions) {
    const scratch = fs.mkdtempSync(join(tmpdir(), 'iomap-mirror-'));
    const [dir, outside] = [join(scratch, 'mirrored'), join(scratch, 'outside')];
    fs.chmodSync(scratch, 0o755);
    fs.mkdirSync(dir);
    fs.mkdirSync(outside);
    const mirror = new MirrorFs(dir, options);
    t.after(() => {
      mirror.destroy();
      fs.rmSync(scratch, { recursive: true, force: true });
    });
    return { mirror, dir, outside };
  }

  function lookup(mirror: MirrorFs, name: string, parent: number = mirror.root): Entry {
    const found = mirror.lookup(ROOT, parent, name);
    assert.ok(found, `${name} is not there`);
    return found;
  }

  function write(mirror: MirrorFs, node: number, fh: number, text: string, pos: number, flags = 0): { count: number; pos: number } {
    const iocb = { pos, flags };
    return { count: mirror.write(ROOT, node, fh, iocb, new IovIter(Buffer.from(text))) as number, pos: iocb.pos };
  }

  function read(mirror: MirrorFs, node: number, fh: number, length: number, pos: number): string {
    const into = new Uint8Array(length);
    return Buffer.from(into.subarray(0, mirror.read(ROOT, node, fh, { pos, flags: 0 }, into))).toString();
  }

  const descriptors = (): number => fs.readdirSync('/proc/self/fd').length;

  /** Who this thread is to the kernel, and what it gives to new files. */
  const identity = (): string[] => {
    const status = fs.readFileSync('/proc/thread-self/status', 'utf8').split('\n');
    return status.filter((line) => /^(?:Uid|Gid|Groups|CapEff|Umask):/.test(line));
  };

  test('the host changes files too, unless whoever made the mirror knows that it does not', (t) => {
    assert.equal(fresh(t).mirror.changesElsewhere, true);
    assert.equal(fresh(t, { validMs: 1000 }).mirror.changesElsewhere, true);
    assert.equal(fresh(t, { validMs: Number.POSITIVE_INFINITY }).mirror.changesElsewhere, false);
  });

  test('attributes are those of the host', (t) => {
    const { mirror, dir } = fresh(t);
    const path = join(dir, 'file');
    fs.writeFileSync(path, 'content');
    fs.chmodSync(path, 0o4640);
    fs.utimesSync(path, -5.5, 1_000_000_000);
    const { attr } = lookup(mirror, 'file');
    const host = fs.statSync(path, { bigint: true });
    assert.deepEqual([attr.ino, attr.size, attr.mode, attr.nlink, attr.uid, attr.gid, attr.blocks, attr.blksize].map(BigInt), [
      host.ino,
      host.size,
      host.mode,
      host.nlink,
      host.uid,
      host.gid,
      host.blocks,
      host.blksize,
    ]);
    for (const name of ['atime', 'mtime', 'ctime'] as const) {
      assert.equal(BigInt(attr[name]) * 1_000_000_000n + BigInt(attr[`${name}Nsec`]), host[`${name}Ns`], name);
    }
    assert.deepEqual(mirror.statfs(ROOT, mirror.root).type, Number(fs.statfsSync(dir).type));
  });

  test('hard links are one node, and other files are others', (t) => {
    const { mirror, dir } = fresh(t);
    fs.writeFileSync(join(dir, 'one'), '');
    fs.linkSync(join(dir, 'one'), join(dir, 'two'));
    fs.writeFileSync(join(dir, 'three'), '');
    assert.equal(lookup(mirror, 'one').node, lookup(mirror, 'two').node);
    assert.notEqual(lookup(mirror, 'one').node, lookup(mirror, 'three').node);
    assert.equal(mirror.lookup(ROOT, mirror.root, 'four'), undefined);
  });

  test('a node is held by a descriptor until its last lookup is forgotten, and its number is nobody else afterwards', (t) => {
    const { mirror, dir } = fresh(t);
    fs.writeFileSync(join(dir, 'file'), '');
    const before = descriptors();
    const { node, attr } = lookup(mirror, 'file');
    lookup(mirror, 'file');
    assert.equal(descriptors(), before + 1);
    fs.unlinkSync(join(dir, 'file'));
    assert.equal(mirror.getattr(ROOT, node).nlink, 0, 'held without a name');
    mirror.forget(node, 1);
    assert.equal(mirror.getattr(ROOT, node).ino, attr.ino);
    mirror.forget(node, 1);
    assert.equal(descriptors(), before);
    assert.throws(() => mirror.getattr(ROOT, node), { code: 'ESTALE' });
    for (let i = 0; i < 10; i++) {
      fs.writeFileSync(join(dir, 'again'), '');
      const again = lookup(mirror, 'again');
      assert.notEqual(again.node, node, 'even where the host has used the inode number again');
      mirror.forget(again.node, 1);
      fs.unlinkSync(join(dir, 'again'));
    }
    mirror.forget(mirror.root, 100);
    assert.ok(isDirectory(mirror.getattr(ROOT, mirror.root).mode));
  });

  test('an open file outlives its lookups and its names', (t) => {
    const { mirror } = fresh(t);
    const { entry, fh } = mirror.create(ROOT, mirror.root, 'file', 0o600, O_RDWR);
    mirror.unlink(ROOT, mirror.root, 'file');
    mirror.forget(entry.node, 1);
    write(mirror, entry.node, fh, 'kept', 0);
    assert.equal(read(mirror, entry.node, fh, 10, 0), 'kept');
    mirror.release(entry.node, fh);
    assert.throws(() => mirror.getattr(ROOT, entry.node), { code: 'ESTALE' });
  });

  test('unknown handles are EBADF, and those of another node too', (t) => {
    const { mirror } = fresh(t);
    const one = mirror.create(ROOT, mirror.root, 'one', 0o600, O_RDWR);
    const two = mirror.create(ROOT, mirror.root, 'two', 0o600, O_RDWR);
    mirror.release(one.entry.node, one.fh);
    for (const fh of [one.fh, two.fh, 4711]) {
      assert.throws(() => mirror.fsync(ROOT, one.entry.node, fh, false), { code: 'EBADF' });
      assert.throws(() => mirror.release(one.entry.node, fh), { code: 'EBADF' });
    }
    assert.throws(() => mirror.lookup(ROOT, 4711, 'x'), { code: 'ESTALE' });
    assert.throws(() => mirror.open(ROOT, 4711, O_RDONLY), { code: 'ESTALE' });
  });

  test('destroy closes everything', () => {
    const dir = fs.mkdtempSync(join(tmpdir(), 'iomap-mirror-'));
    const before = descriptors();
    const mirror = new MirrorFs(dir);
    mirror.create(ROOT, mirror.root, 'file', 0o600, O_RDWR);
    mirror.opendir(ROOT, mirror.root, 0);
    mirror.tmpfile(ROOT, mirror.root, 0o600, O_RDWR);
    assert.ok(descriptors() > before);
    mirror.destroy();
    assert.equal(descriptors(), before);
    fs.rmSync(dir, { recursive: true });
  });

  describe('does not leave the directory', () => {
    test('by a name that is no name', (t) => {
      const { mirror } = fresh(t);
      const { node } = mirror.mkdir(ROOT, mirror.root, 'dir', 0o755);
      for (const name of ['..', '.', '', 'dir/..', '../outside', '/etc', 'a\0b']) {
        for (const call of [
          () => mirror.lookup(ROOT, node, name),
          () => mirror.mkdir(ROOT, node, name, 0o755),
          () => mirror.create(ROOT, node, name, 0o644, O_RDWR),
          () => mirror.unlink(ROOT, node, name),
          () => mirror.rmdir(ROOT, node, name),
          () => mirror.rename(ROOT, node, name, node, 'x', 0),
          () => mirror.rename(ROOT, mirror.root, 'dir', node, name, 0),
          () => mirror.link(ROOT, node, node, name),
          () => mirror.symlink(ROOT, node, name, 'x'),
        ]) {
          assert.throws(call, { code: 'EINVAL' }, JSON.stringify(name));
        }
      }
    });

    test('when a directory that is known becomes a symbolic link', (t) => {
      const { mirror, dir, outside } = fresh(t);
      fs.mkdirSync(join(dir, 'sub'));
      fs.writeFileSync(join(outside, 'secret'), 'secret');
      const held = lookup(mirror, 'sub').node;
      fs.renameSync(join(dir, 'sub'), join(dir, 'moved'));
      fs.symlinkSync(outside, join(dir, 'sub'));

      assert.equal(mirror.lookup(ROOT, held, 'secret'), undefined);
      mirror.mkdir(ROOT, held, 'made', 0o755);
      assert.deepEqual(fs.readdirSync(join(dir, 'moved')), ['made']);
      mirror.create(ROOT, held, 'file', 0o644, O_RDWR);
      assert.deepEqual(fs.readdirSync(outside), ['secret']);

      const link = lookup(mirror, 'sub');
      assert.ok(isSymlink(link.attr.mode));
      assert.equal(mirror.readlink(ROOT, link.node), outside);
      assert.throws(() => mirror.lookup(ROOT, link.node, 'secret'), { code: 'ENOTDIR' });
      assert.throws(() => mirror.create(ROOT, link.node, 'made', 0o644, O_RDWR), { code: 'ENOTDIR' });
      assert.throws(() => mirror.opendir(ROOT, link.node, 0), { code: 'ENOTDIR' });
      assert.throws(() => mirror.unlink(ROOT, link.node, 'secret'), { code: 'ENOTDIR' });
    });

    test('when a directory becomes a symbolic link again and again while names below it are used', (t) => {
      const { mirror, dir, outside } = fresh(t);
      fs.writeFileSync(join(outside, 'name'), 'secret');
      for (let round = 0; round < 20; round++) {
        fs.mkdirSync(join(dir, 'sub'));
        fs.writeFileSync(join(dir, 'sub', 'name'), 'inside');
        const sub = lookup(mirror, 'sub').node;
        const swap = (): void => {
          fs.rmSync(join(dir, 'sub'), { recursive: true });
          fs.symlinkSync(outside, join(dir, 'sub'));
        };
        if (round % 2 === 0) swap();
        const found = mirror.lookup(ROOT, sub, 'name');
        if (round % 2 !== 0) swap();
        if (found !== undefined) {
          const { fh } = mirror.open(ROOT, found.node, O_RDWR);
          assert.equal(read(mirror, found.node, fh, 100, 0), 'inside');
          mirror.setattr(ROOT, found.node, { size: 0, mode: 0o777 });
        }
        fs.rmSync(join(dir, 'sub'));
      }
      assert.equal(fs.readFileSync(join(outside, 'name'), 'utf8'), 'secret');
    });

    test('by a symbolic link where a file was: what is done is done to the link, or refused', (t) => {
      const { mirror, dir, outside } = fresh(t);
      const secret = join(outside, 'secret');
      fs.writeFileSync(secret, 'secret', { mode: 0o600 });
      fs.utimesSync(secret, 5, 5);
      fs.symlinkSync(secret, join(dir, 'link'));
      const before = fs.statSync(secret);
      const { node } = lookup(mirror, 'link');
      assert.throws(() => mirror.open(ROOT, node, O_RDWR), { code: 'ELOOP' });
      assert.throws(() => mirror.setattr(ROOT, node, { size: 0 }), { code: 'EINVAL' });
      assert.throws(() => mirror.setattr(ROOT, node, { mode: 0o777 }), { code: 'ENOTSUP' });
      assert.throws(() => mirror.setxattr(ROOT, node, 'user.x', Buffer.from('x'), 0), { code: 'EPERM' });
      assert.throws(() => mirror.create(ROOT, mirror.root, 'link', 0o666, O_RDWR), { code: 'EEXIST' });
      mirror.setattr(ROOT, node, { mtime: { sec: 9, nsec: 1 }, ...(notRoot === false ? { uid: 1001, gid: 1001 } : {}) });
      mirror.link(ROOT, node, mirror.root, 'again');
      assert.equal(fs.readlinkSync(join(dir, 'again')), secret);
      assert.equal(fs.lstatSync(join(dir, 'link')).mtimeMs, 9000.000001);
      assert.deepEqual(fs.statSync(secret), before);
    });

    test('by a dangling symbolic link that a new file would go through', (t) => {
      const { mirror, dir, outside } = fresh(t);
      fs.symlinkSync(join(outside, 'new'), join(dir, 'link'));
      assert.throws(() => mirror.create(ROOT, mirror.root, 'link', 0o666, O_RDWR), { code: 'EEXIST' });
      assert.throws(() => mirror.mkdir(ROOT, mirror.root, 'link', 0o777), { code: 'EEXIST' });
      assert.throws(() => mirror.mknod(ROOT, mirror.root, 'link', 0o666, 0), { code: 'EEXIST' });
      assert.deepEqual(fs.readdirSync(outside), []);
    });

    test('into what is mounted below it, be it of the same filesystem', { skip: notRoot }, (t) => {
      const { mirror, dir, outside } = fresh(t);
      const libc = new Libc();
      const bytes = (text: string) => Buffer.from(text);
      fs.mkdirSync(join(dir, 'mountpoint'));
      fs.mkdirSync(join(dir, 'plain'));
      try {
        libc.mount(bytes(outside), bytes(join(dir, 'mountpoint')), bytes(''), MS_BIND, bytes(''));
      } catch (error) {
        return t.skip(`nothing can be mounted here: ${(error as Error).message}`);
      }
      try {
        assert.throws(() => mirror.lookup(ROOT, mirror.root, 'mountpoint'), { code: 'EXDEV' });
        const { fh } = mirror.opendir(ROOT, mirror.root, 0);
        const listed = mirror.readdir(ROOT, mirror.root, fh, 0, 10, true);
        assert.deepEqual(listed.map(({ name, entry }) => [name, entry !== undefined]).sort(), [
          ['mountpoint', false],
          ['plain', true],
        ]);
      } finally {
        libc.umount2(bytes(join(dir, 'mountpoint')), MNT_DETACH);
      }
      assert.ok(lookup(mirror, 'mountpoint'));
      return undefined;
    });
  });

  test('a listing in small steps has every name once, and goes on by any handle of the directory', (t) => {
    const { mirror, dir } = fresh(t);
    const names = Array.from({ length: 700 }, (_, i) => `name-${i}`);
    for (const name of names) fs.writeFileSync(join(dir, name), '');
    const handles = [mirror.opendir(ROOT, mirror.root, 0).fh, mirror.opendir(ROOT, mirror.root, 0).fh];
    const found: string[] = [];
    let offset = 0;
    for (let step = 0; ; step++) {
      const some = mirror.readdir(ROOT, mirror.root, handles[step % 2] as number, offset, 1 + (step % 13), false);
      if (some.length === 0) break;
      found.push(...some.map(({ name }) => name));
      for (const { next } of some) assert.ok(Number.isSafeInteger(next) && next > 0);
      offset = some.at(-1)?.next ?? 0;
    }
    assert.deepEqual(found.sort(), names.sort());
    const [first, second] = mirror.readdir(ROOT, mirror.root, handles[0] as number, 0, 2, false);
    assert.deepEqual(mirror.readdir(ROOT, mirror.root, handles[1] as number, first?.next ?? 0, 1, false), [second]);
    assert.throws(() => mirror.readdir(ROOT, mirror.root, handles[0] as number, 2 ** 53 - 1, 1, false), { code: 'EINVAL' });
  });

  test('names of the host that are no text come and go as they are', (t) => {
    const { mirror, dir } = fresh(t);
    const bytes = Buffer.from([0x66, 0xff, 0x80]);
    fs.writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), bytes]), 'x');
    const { fh } = mirror.opendir(ROOT, mirror.root, 0);
    const [only] = mirror.readdir(ROOT, mirror.root, fh, 0, 10, true);
    assert.equal(only?.name, nameOf(bytes));
    assert.equal(lookup(mirror, only?.name ?? '').node, only?.entry?.node);
    mirror.unlink(ROOT, mirror.root, nameOf(bytes));
    assert.deepEqual(fs.readdirSync(dir), []);
  });

  test('appending goes to the end of the host file and tells where that was', (t) => {
    const { mirror, dir } = fresh(t);
    const { entry, fh } = mirror.create(ROOT, mirror.root, 'log', 0o600, O_RDWR);
    const { node } = entry;
    write(mirror, node, fh, 'one', 0);
    fs.appendFileSync(join(dir, 'log'), '-host-');
    assert.deepEqual(write(mirror, node, fh, 'two', 0, RWF_APPEND), { count: 3, pos: 12 });
    const appending = mirror.open(ROOT, node, O_WRONLY | O_APPEND).fh;
    assert.deepEqual(write(mirror, node, appending, 'three', 1), { count: 5, pos: 17 });
    assert.deepEqual(write(mirror, node, appending, 'O', 0, RWF_NOAPPEND), { count: 1, pos: 1 });
    assert.equal(fs.readFileSync(join(dir, 'log'), 'utf8'), 'One-host-twothree');
  });

  test('a write takes all buffers at once, and from a source that waits piece by piece', async (t) => {
    const { mirror, dir } = fresh(t);
    const { entry, fh } = mirror.create(ROOT, mirror.root, 'file', 0o600, O_RDWR);
    const vec = new IovIter(['a', '', 'bc', 'def'].map((text) => Buffer.from(text)));
    vec.advance(1);
    assert.equal(mirror.write(ROOT, entry.node, fh, { pos: 0, flags: 0 }, vec), 5);
    assert.equal(vec.count, 0);

    const inner = new IovIter(Buffer.from('waiting'));
    const waiting: WriteSource = {
      get count() {
        return inner.count;
      },
      faultIn: (length) => Promise.resolve(Math.min(length, 3)),
      copyTo: (into, at, length) => inner.copyTo(into, at, length),
      revert: (length) => inner.revert(length),
    };
    const iocb = { pos: 5, flags: 0 };
    assert.equal(await mirror.write(ROOT, entry.node, fh, iocb, waiting), 7);
    assert.equal(iocb.pos, 12);
    assert.equal(fs.readFileSync(join(dir, 'file'), 'utf8'), 'bcdefwaiting');
  });

  test('what a failed write took is given back', (t) => {
    const { mirror } = fresh(t);
    const { entry, fh } = mirror.create(ROOT, mirror.root, 'file', 0o600, O_RDONLY);
    const source = new IovIter([Buffer.from('abc'), Buffer.from('de')]);
    assert.throws(() => mirror.write(ROOT, entry.node, fh, { pos: 0, flags: 0 }, source), { code: 'EBADF' });
    assert.equal(source.count, 5);
  });

  test('O_DIRECT works with memory that is not aligned', (t) => {
    const { mirror, dir } = fresh(t);
    fs.writeFileSync(join(dir, 'file'), '');
    const { node } = lookup(mirror, 'file');
    let fh: number;
    try {
      ({ fh } = mirror.open(ROOT, node, O_RDWR | O_DIRECT));
    } catch (error) {
      if (!hasCode(error, 'EINVAL')) throw error;
      return t.skip('the filesystem of the temporary directory has no O_DIRECT');
    }
    const data = new Uint8Array(8192 + 1).subarray(1).map((_, i) => i % 251);
    const source = new IovIter([data.subarray(0, 5), data.subarray(5)]);
    assert.equal(mirror.write(ROOT, node, fh, { pos: 0, flags: 0 }, source), 8192);
    const into = new Uint8Array(8192 + 3).subarray(3);
    assert.equal(mirror.read(ROOT, node, fh, { pos: 0, flags: 0 }, into), 8192);
    assert.deepEqual(Buffer.from(into), Buffer.from(data));
    assert.throws(() => mirror.read(ROOT, node, fh, { pos: 1, flags: 0 }, into), { code: 'EINVAL' });
    return undefined;
  });

  test('a file without a name gets one, unless it was made to have none', (t) => {
    const { mirror, dir } = fresh(t);
    let made: ReturnType<MirrorFs['tmpfile']>;
    try {
      made = mirror.tmpfile(ROOT, mirror.root, 0o644, O_RDWR);
    } catch (error) {
      if (!hasCode(error, 'ENOTSUP')) throw error;
      return t.skip('the filesystem of the temporary directory has no O_TMPFILE');
    }
    const { entry, fh } = made;
    write(mirror, entry.node, fh, 'linked', 0);
    assert.equal(mirror.link(ROOT, entry.node, mirror.root, 'name').node, entry.node);
    assert.equal(fs.readFileSync(join(dir, 'name'), 'utf8'), 'linked');
    const nameless = mirror.tmpfile(ROOT, mirror.root, 0o644, O_RDWR | O_EXCL);
    assert.throws(() => mirror.link(ROOT, nameless.entry.node, mirror.root, 'other'), { code: 'ENOENT' });
    return undefined;
  });

  test('what is no regular file is not opened', (t) => {
    const { mirror } = fresh(t);
    const pipe = mirror.mknod(ROOT, mirror.root, 'pipe', S_IFIFO | 0o666, 0);
    assert.throws(() => mirror.open(ROOT, pipe.node, O_RDONLY), { code: 'ENXIO' });
    assert.throws(() => mirror.open(ROOT, mirror.root, O_RDONLY), { code: 'EISDIR' });
  });

  test('read-only changes nothing, not even times of access', (t) => {
    const { mirror, dir } = fresh(t, { readOnly: true });
    const path = join(dir, 'file');
    fs.writeFileSync(path, 'content');
    fs.utimesSync(path, 5, 1_000_000_000);
    const { node } = lookup(mirror, 'file');
    const { fh } = mirror.open(ROOT, node, O_RDONLY);
    assert.equal(read(mirror, node, fh, 10, 0), 'content');
    assert.equal(fs.statSync(path).atimeMs, 5000);
    for (const call of [
      () => mirror.open(ROOT, node, O_WRONLY),
      () => mirror.create(ROOT, mirror.root, 'x', 0o600, O_RDWR),
      () => mirror.tmpfile(ROOT, mirror.root, 0o600, O_RDWR),
      () => mirror.mkdir(ROOT, mirror.root, 'x', 0o700),
      () => mirror.mknod(ROOT, mirror.root, 'x', S_IFIFO, 0),
      () => mirror.symlink(ROOT, mirror.root, 'x', 'y'),
      () => mirror.link(ROOT, node, mirror.root, 'x'),
      () => mirror.unlink(ROOT, mirror.root, 'file'),
      () => mirror.rmdir(ROOT, mirror.root, 'x'),
      () => mirror.rename(ROOT, mirror.root, 'file', mirror.root, 'x', 0),
      () => mirror.setattr(ROOT, node, { mode: 0 }),
      () => mirror.setxattr(ROOT, node, 'user.x', new Uint8Array(1), 0),
      () => mirror.removexattr(ROOT, node, 'user.x'),
      () => mirror.fallocate(ROOT, node, fh, 0, 0, 1),
      () => mirror.write(ROOT, node, fh, { pos: 0, flags: 0 }, new IovIter(new Uint8Array(1))),
    ]) {
      assert.throws(call, { code: 'EROFS' });
    }
    assert.deepEqual(fs.readdirSync(dir), ['file']);
  });

  describe('for others', { skip: notRoot }, () => {
    test('what they make is theirs at once, and the thread is itself afterwards', (t) => {
      const { mirror, dir } = fresh(t);
      const before = identity();
      const caller = callerOf({ uid: 1001, gid: 1002, groups: [2000], umask: 0o027 });
      mirror.mkdir(caller, mirror.root, 'dir', 0o777); // the directory is root's: who may is the face's to say
      mirror.symlink(caller, mirror.root, 'link', 'x');
      mirror.mknod(caller, mirror.root, 'pipe', S_IFIFO | 0o666, 0);
      mirror.create(caller, mirror.root, 'file', 0o4755, O_RDWR);
      const made = (name: string): (number | string)[] => {
        const { uid, gid, mode } = fs.lstatSync(join(dir, name));
        return [uid, gid, (mode & 0o7777).toString(8)];
      };
      assert.deepEqual(made('dir'), [1001, 1002, '750']);
      assert.deepEqual(made('link').slice(0, 2), [1001, 1002]);
      assert.deepEqual(made('pipe'), [1001, 1002, '640']);
      assert.deepEqual(made('file'), [1001, 1002, '4750']);
      assert.throws(() => mirror.mkdir(caller, mirror.root, 'dir', 0o777), { code: 'EEXIST' });
      assert.deepEqual(identity(), before);
    });

    test('in a worker the ids and the mask are those of its thread', async (t) => {
      const { dir } = fresh(t);
      const before = identity();
      const turn = new Int32Array(new SharedArrayBuffer(4));
      const code = `
        import { parentPort, workerData } from 'node:worker_threads';
        const { MirrorFs } = await import(workerData.module);
        const mirror = new MirrorFs(workerData.dir);
        const caller = { uid: 1001, gid: 1001, groups: [2000], caps: 0, umask: 0, pid: 0 };
        parentPort.postMessage('begins');
        while (Atomics.load(workerData.turn, 0) === 0) {
          mirror.mkdir(caller, mirror.root, 'dir', 0o777);
          mirror.rmdir(caller, mirror.root, 'dir');
        }
        mirror.mkdir(caller, mirror.root, 'last', 0o777);
        mirror.destroy();`;
      const module = new URL('./mirror-fs.js', import.meta.url).href;
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: { module, dir, turn } });
      const exited = once(worker, 'exit');
      await once(worker, 'message');
      for (let i = 0; i < 200; i++) {
        fs.mkdirSync(join(dir, `main-${i}`));
        const { uid, gid, mode } = fs.statSync(join(dir, `main-${i}`));
        assert.deepEqual([uid, gid, mode & 0o777], [0, 0, 0o755]);
      }
      Atomics.store(turn, 0, 1);
      assert.deepEqual(await exited, [0]);
      const { uid, mode } = fs.statSync(join(dir, 'last'));
      assert.deepEqual([uid, mode & 0o777], [1001, 0o777]);
      assert.deepEqual(identity(), before);
    });

    test('a directory with S_ISGID hands its group on, and bits that are not theirs to give are not given', (t) => {
      const { mirror, dir } = fresh(t);
      fs.mkdirSync(join(dir, 'shared'));
      fs.chownSync(join(dir, 'shared'), 0, 2000);
      fs.chmodSync(join(dir, 'shared'), 0o2777);
      const shared = lookup(mirror, 'shared').node;
      const make = (name: string, groups: number[]): string => {
        const { entry } = mirror.create({ ...ALICE, groups, umask: 0 }, shared, name, 0o2775, O_RDWR);
        return `${entry.attr.uid}:${entry.attr.gid} ${(entry.attr.mode & 0o7777).toString(8)}`;
      };
      assert.equal(make('stranger', []), '1001:2000 775');
      assert.equal(make('member', [2000]), '1001:2000 2775');
      const { attr } = mirror.mkdir(ALICE, shared, 'sub', 0o755);
      assert.deepEqual([attr.gid, attr.mode & 0o7777], [2000, 0o2755]);
    });

    test('device files and whiteouts are made where the face says so', (t) => {
      const { mirror } = fresh(t);
      const { attr } = mirror.mknod(ROOT, mirror.root, 'null', S_IFCHR | 0o666, 0x103);
      assert.deepEqual([attr.mode & S_IFMT, attr.rdev], [S_IFCHR, 0x103]);
    });

    test('a write by them takes set-id bits off where the face says so', (t) => {
      const { mirror, dir } = fresh(t);
      const path = join(dir, 'file');
      fs.writeFileSync(path, '');
      const { node } = lookup(mirror, 'file');
      const { fh } = mirror.open(ROOT, node, O_RDWR);
      const after = (mode: number, flags: number): string => {
        fs.chmodSync(path, mode);
        write(mirror, node, fh, 'x', 0, flags);
        return (fs.statSync(path).mode & 0o7777).toString(8);
      };
      assert.equal(after(0o6755, 0), '6755');
      assert.equal(after(0o6755, RW_KILL_SUIDGID), '755');
      assert.equal(after(0o6745, RW_KILL_SUIDGID), '2745');
      assert.equal(after(0o6745, RW_KILL_SUIDGID | RW_KILL_SGID), '745');
    });

    test('a user without privileges makes everything as himself, and the host refuses him what it refuses him', (t) => {
      const { mirror: asRoot, dir } = fresh(t);
      asRoot.mkdir(ALICE, asRoot.root, 'hers', 0o755);
      asRoot.create(ROOT, asRoot.root, 'roots', 0o600, O_RDWR);
      const [gid, uid] = [process.getegid?.() ?? 0, process.geteuid?.() ?? 0];
      process.setegid?.(ALICE.gid);
      process.seteuid?.(ALICE.uid);
      let mirror: MirrorFs | undefined;
      try {
        fs.accessSync(dir); // the way there is open to everybody
        mirror = new MirrorFs(dir);
        const hers = lookup(mirror, 'hers').node;
        const { entry, fh } = mirror.create(ROOT, hers, 'file', 0o644, O_RDWR);
        write(mirror, entry.node, fh, 'mine', 0);
        assert.equal(read(mirror, entry.node, fh, 10, 0), 'mine');
        const again = mirror.open(ROOT, entry.node, O_RDWR);
        mirror.setattr(ROOT, entry.node, { size: 2, mode: 0o400, mtime: 'now' }, again.fh);
        assert.equal(entry.attr.uid, ALICE.uid);
        assert.throws(() => mirror?.mkdir(ROOT, mirror.root, 'x', 0o755), { code: 'EACCES' });
        assert.throws(() => mirror?.open(ROOT, lookup(mirror, 'roots').node, O_RDONLY), { code: 'EACCES' });
      } catch (error) {
        if (!hasCode(error, 'EACCES') || mirror !== undefined) throw error;
        t.skip('the temporary directory is closed to others');
      } finally {
        process.seteuid?.(uid);
        process.setegid?.(gid);
        mirror?.destroy();
      }
    });

    // The last one: what a process takes from its limit it may not be able to give back.
    test('the soft limit of descriptors is raised when it is met, and at the hard one it is EMFILE', (t) => {
      const { mirror, dir } = fresh(t);
      const libc = new Libc();
      const [soft, hard] = libc.getrlimit(RLIMIT_NOFILE);
      const few = BigInt(Math.max(...fs.readdirSync('/proc/self/fd').map(Number)) + 20);
      const names = Array.from({ length: Number(few) }, (_, i) => `${i}`);
      for (const name of ['one more', ...names]) fs.writeFileSync(join(dir, name), '');
      libc.setrlimit(RLIMIT_NOFILE, few, hard);
      const entries = names.map((name) => lookup(mirror, name));
      assert.ok(libc.getrlimit(RLIMIT_NOFILE)[0] > few);

      // Who may raise the hard limit as well meets none.
      const isPrivileged = (libc.capget().effective & CAP_SYS_RESOURCE) !== 0n;
      if (isPrivileged) return libc.setrlimit(RLIMIT_NOFILE, soft, hard);
      libc.setrlimit(RLIMIT_NOFILE, few, few);
      assert.throws(() => lookup(mirror, 'one more'), { code: 'EMFILE' });
      const { node } = entries[0] as Entry;
      assert.throws(() => mirror.open(ROOT, node, O_RDONLY), { code: 'EMFILE' });
      assert.equal(mirror.getattr(ROOT, node).size, 0, 'what is held goes on');
      for (const entry of entries) mirror.forget(entry.node, 1);
      assert.ok(lookup(mirror, 'one more'));
      return undefined;
    });
  });
});
