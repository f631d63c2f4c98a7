import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import type { MaybePromise } from '../base/task.ts';
import type { Attr, DirEntry, Entry } from './attr.ts';
import { ROOT } from './caller.ts';
import { FileSystem, type NodeId, SHUTDOWN_DEFAULT } from './file-system.ts';
import { DEFAULT_POLLMASK, F_RDLCK, F_UNLCK, F_WRLCK, LOCK_END, S_IFDIR, S_IFREG, SEEK_DATA, SEEK_HOLE } from './uapi.ts';

/** What has to be there, and nothing else: an empty root, and a file of 10 bytes with the number 2. */
class LeastFs extends FileSystem {
  forgotten = 0;

  lookup(): undefined {
    return undefined;
  }

  forget(_node: NodeId, nlookup: number): void {
    this.forgotten += nlookup;
  }

  getattr(_caller: unknown, node: NodeId): Attr {
    return attr(node, node === this.root ? S_IFDIR | 0o755 : S_IFREG | 0o644);
  }

  readdir(): DirEntry[] {
    return [];
  }
}

function attr(ino: number, mode: number): Attr {
  const none = { atime: 0, atimeNsec: 0, mtime: 0, mtimeNsec: 0, ctime: 0, ctimeNsec: 0, btime: 0, btimeNsec: 0 };
  return { ino, mode, size: 10, blocks: 8, blksize: 4096, nlink: 1, uid: 0, gid: 0, rdev: 0, ...none };
}

test('what a filesystem does not have answers the errno that a system without it answers', () => {
  const fs = new LeastFs();
  const bytes = new Uint8Array(1);
  const iocb = { pos: 0, flags: 0 };
  const answers: [string, () => MaybePromise<unknown>, string][] = [
    ['setattr', () => fs.setattr(ROOT, 2, {}), 'EPERM'],
    ['readlink', () => fs.readlink(ROOT, 2), 'EINVAL'],
    ['mknod', () => fs.mknod(ROOT, 1, 'a', S_IFREG, 0), 'EPERM'],
    ['mkdir', () => fs.mkdir(ROOT, 1, 'a', 0o755), 'EPERM'],
    ['unlink', () => fs.unlink(ROOT, 1, 'a'), 'EPERM'],
    ['rmdir', () => fs.rmdir(ROOT, 1, 'a'), 'EPERM'],
    ['symlink', () => fs.symlink(ROOT, 1, 'a', 'b'), 'EPERM'],
    ['rename', () => fs.rename(ROOT, 1, 'a', 1, 'b', 0), 'EPERM'],
    ['link', () => fs.link(ROOT, 2, 1, 'a'), 'EPERM'],
    ['open', () => fs.open(ROOT, 2, 0), 'EACCES'],
    ['create', () => fs.create(ROOT, 1, 'a', 0o644, 0), 'EPERM'],
    ['tmpfile', () => fs.tmpfile(ROOT, 1, 0o644, 0), 'EOPNOTSUPP'],
    ['read', () => fs.read(ROOT, 2, 0, iocb, bytes), 'EINVAL'],
    ['write', () => fs.write(ROOT, 2, 0, iocb, new IovIter(bytes)), 'EINVAL'],
    ['fsync', () => fs.fsync(ROOT, 2, 0, false), 'EINVAL'],
    ['fsyncdir', () => fs.fsyncdir(ROOT, 1, 0, false), 'EINVAL'],
    ['fallocate', () => fs.fallocate(ROOT, 2, 0, 0, 0, 1), 'EOPNOTSUPP'],
    ['copy_file_range', () => fs.copyFileRange(ROOT, 2, 0, 0, 2, 0, 0, 1, 0), 'EOPNOTSUPP'],
    ['ioctl', () => fs.ioctl(ROOT, 2, 0, 1, bytes, 0), 'ENOTTY'],
    ['fiemap', () => fs.fiemap(ROOT, 2, 0, 1, 0), 'EOPNOTSUPP'],
    ['getxattr', () => fs.getxattr(ROOT, 2, 'user.a'), 'EOPNOTSUPP'],
    ['setxattr', () => fs.setxattr(ROOT, 2, 'user.a', bytes, 0), 'EOPNOTSUPP'],
    ['listxattr', () => fs.listxattr(ROOT, 2), 'EOPNOTSUPP'],
    ['removexattr', () => fs.removexattr(ROOT, 2, 'user.a'), 'EOPNOTSUPP'],
    ['statfs', () => fs.statfs(ROOT, 1), 'ENOSYS'],
    ['freeze', () => fs.freeze(), 'EOPNOTSUPP'],
    ['thaw', () => fs.thaw(), 'EOPNOTSUPP'],
    ['shutdown', () => fs.shutdown(SHUTDOWN_DEFAULT), 'EOPNOTSUPP'],
  ];
  for (const [name, call, code] of answers) assert.throws(call, { code }, name);
});

test('what every system can answer without its filesystem is answered', async () => {
  const fs = new LeastFs();
  assert.equal(await fs.poll(ROOT, 2, 0, DEFAULT_POLLMASK), DEFAULT_POLLMASK);
  assert.equal(await fs.lseek(ROOT, 2, 0, 3, SEEK_DATA), 3);
  assert.equal(await fs.lseek(ROOT, 2, 0, 3, SEEK_HOLE), 10);
  assert.throws(() => fs.lseek(ROOT, 2, 0, 10, SEEK_DATA), { code: 'ENXIO' });
  assert.throws(() => fs.lseek(ROOT, 2, 0, -1, SEEK_HOLE), { code: 'ENXIO' });
  assert.throws(() => fs.lseek(ROOT, 2, 0, 0, 0), { code: 'EINVAL' });
  for (const call of [() => fs.flush(ROOT, 2, 0, 1), () => fs.release(2, 0, 1), () => fs.syncfs(ROOT), () => fs.destroy()]) {
    assert.equal(await call(), undefined);
  }
  assert.equal(typeof fs.attach({ invalInode() {}, invalEntry() {}, delete() {} }), 'function');
});

test('locks are kept where a filesystem keeps none', async () => {
  const fs = new LeastFs();
  const lock = { type: F_WRLCK, start: 0, end: LOCK_END, pid: 7, owner: 1 };
  const request = { flock: false, wait: false };
  assert.equal(await fs.getlk(ROOT, 2, 0, lock), undefined);
  await fs.setlk(ROOT, 2, 0, lock, request);
  assert.equal((await fs.getlk(ROOT, 2, 0, { ...lock, owner: 2, type: F_RDLCK }))?.pid, 7);
  assert.throws(() => fs.setlk(ROOT, 2, 0, { ...lock, owner: 2 }, request), { code: 'EAGAIN' });
  await fs.setlk(ROOT, 2, 0, { ...lock, type: F_UNLCK }, request);
  await fs.setlk(ROOT, 2, 0, { ...lock, owner: 2 }, request);

  await fs.setlk(ROOT, 2, 0, { ...lock, owner: 3 }, { flock: true, wait: false });
  await fs.release(2, 0, 3);
  await fs.setlk(ROOT, 2, 0, { ...lock, owner: 4 }, { flock: true, wait: false });
});

test('a file is made and opened in two steps where they cannot be one, and forgotten if the second fails', async () => {
  class TwoSteps extends LeastFs {
    opens = true;

    override mknod(_caller: unknown, _parent: NodeId, _name: string, mode: number): Entry {
      return { node: 2, generation: 0, attr: attr(2, mode), entryValidMs: 0, attrValidMs: 0, io: { mode: 'direct' } };
    }

    override open(): { fh: number } {
      if (!this.opens) throw Object.assign(new Error('no'), { code: 'ENFILE' });
      return { fh: 9 };
    }
  }
  const fs = new TwoSteps();
  const { entry, fh } = await fs.create(ROOT, 1, 'a', 0o640, 0);
  assert.deepEqual([entry.attr.mode, fh, fs.forgotten], [S_IFREG | 0o640, 9, 0]);
  fs.opens = false;
  assert.throws(
    () => fs.create(ROOT, 1, 'b', 0o640, 0),
    (error) => hasCode(error, 'ENFILE'),
  );
  assert.equal(fs.forgotten, 1);
});
