import assert from 'node:assert/strict';
import { makedev } from '../../src/vfs/attr.ts';
import {
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../../src/vfs/uapi.ts';
import { all, type Behaviours, fails, isThere, mkdirs, namesIn, needs, OLD, pattern, put, text, textIn } from './behaviour.ts';

/** Names of files: link, unlink, mknod, and files without a name. */
export const links: Behaviours = {
  'a link is the same file': async (fs) => {
    await put(fs, 'a', 'content');
    await fs.link('a', 'b');
    const [a, b] = [await fs.stat('a'), await fs.stat('b')];
    assert.equal(a.ino, b.ino);
    assert.deepEqual([a.nlink, b.nlink], [2, 2]);
    await put(fs, 'b', 'changed');
    assert.equal(await textIn(fs, 'a'), 'changed');
    await fs.chmod('b', 0o600);
    assert.equal((await fs.stat('a')).mode & 0o777, 0o600);
  },
  'unlink takes one name': async (fs) => {
    await put(fs, 'a', 'content');
    await fs.link('a', 'b');
    await fs.unlink('a');
    assert.equal((await fs.stat('b')).nlink, 1);
    assert.equal(await textIn(fs, 'b'), 'content');
  },
  'a link into another directory': async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await put(fs, 'x/a');
    await fs.link('x/a', 'y/b');
    assert.equal((await fs.stat('x/a')).ino, (await fs.stat('y/b')).ino);
  },
  'link of a missing file is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.link('missing', 'b'));
    await put(fs, 'a');
    await fails('ENOENT', () => fs.link('a', 'missing/b'));
  },
  'link to a name that is taken is EEXIST': async (fs) => {
    await put(fs, 'a');
    await put(fs, 'b');
    await fs.mkdir('d');
    await fails('EEXIST', () => fs.link('a', 'b'));
    await fails('EEXIST', () => fs.link('a', 'a'));
    await fails('EEXIST', () => fs.link('a', 'd'));
    assert.equal((await fs.stat('a')).nlink, 1);
  },
  'link of a directory is EPERM': async (fs) => {
    await fs.mkdir('d');
    await fails('EPERM', () => fs.link('d', 'e'));
  },
  'link of a symbolic link is of the link itself': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.link('l', 'm');
    assert.equal((await fs.lstat('m')).mode & S_IFMT, S_IFLNK);
    assert.equal((await fs.lstat('l')).nlink, 2);
    assert.equal(await fs.readlink('m'), 'f');
  },
  'link that follows is of what the link leads to': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.link('l', 'm', true);
    assert.equal((await fs.lstat('m')).ino, (await fs.lstat('f')).ino);
  },
  'link marks ctime of the file, and mtime and ctime of the directory': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'f');
    await fs.utimens('f', OLD, OLD);
    await fs.utimens('d', OLD, OLD);
    await fs.link('f', 'd/g');
    assert.notEqual((await fs.stat('d')).mtime, OLD.sec);
    assert.equal((await fs.stat('f')).mtime, OLD.sec);
  },
  '100 links of one file count': async (fs) => {
    await put(fs, 'f');
    for (let i = 0; i < 100; i++) await fs.link('f', `l${i}`);
    assert.equal((await fs.stat('f')).nlink, 101);
    for (let i = 0; i < 100; i += 2) await fs.unlink(`l${i}`);
    assert.equal((await fs.stat('l99')).nlink, 51);
  },
  'unlink of a directory is EISDIR': async (fs) => {
    await fs.mkdir('d');
    await fails('EISDIR', () => fs.unlink('d'));
    await fails('EISDIR', () => fs.unlink('d/'));
    assert.ok(await isThere(fs, 'd'));
  },
  'unlink frees the name at once': async (fs) => {
    await put(fs, 'f', 'old');
    await fs.unlink('f');
    await fails('ENOENT', () => fs.stat('f'));
    await (await fs.open('f', O_RDWR | O_CREAT | O_EXCL)).close();
    assert.equal(await textIn(fs, 'f'), '');
  },
  'unlink marks mtime and ctime of the directory': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/f');
    await fs.utimens('d', OLD, OLD);
    await fs.unlink('d/f');
    assert.notEqual((await fs.stat('d')).mtime, OLD.sec);
  },
  'an open file without a name is read and written': async (fs) => {
    await put(fs, 'f', 'content');
    const file = await fs.open('f', O_RDWR);
    await fs.unlink('f');
    assert.equal((await file.fstat()).nlink, 0);
    assert.equal(text(await all(file)), 'content');
    await file.pwrite(pattern(10_000), 5000);
    assert.equal((await file.fstat()).size, 15_000);
    await file.ftruncate(3);
    assert.equal(text(await all(file)), 'con');
    await file.fchmod(0o600);
    assert.equal((await file.fstat()).mode, S_IFREG | 0o600);
    await file.fsync();
    await file.close();
  },
  'an open file without a name is another than the new one of its name': async (fs) => {
    await put(fs, 'f', 'old');
    const file = await fs.open('f', O_RDWR);
    await fs.unlink('f');
    await put(fs, 'f', 'new');
    await file.write('OLD');
    assert.equal(await textIn(fs, 'f'), 'new');
    assert.notEqual((await file.fstat()).ino, (await fs.stat('f')).ino);
    await file.close();
  },
  'a file whose last name is gone gets no further one': async (fs) => {
    await put(fs, 'f');
    const file = await fs.open('f', O_RDWR);
    await fs.unlink('f');
    await fails('ENOENT', () => file.linkTo('g'));
    await file.close();
  },
  'two open files share what has no name': async (fs) => {
    await put(fs, 'f', 'content');
    const one = await fs.open('f', O_RDWR);
    const two = await fs.open('f', O_RDONLY);
    await fs.unlink('f');
    await one.write('CON');
    await one.close();
    assert.equal(text(await all(two)), 'CONtent');
    await two.close();
  },
  'symlink to a name that is taken is EEXIST': async (fs) => {
    await put(fs, 'f');
    await fs.mkdir('d');
    await fails('EEXIST', () => fs.symlink('t', 'f'));
    await fails('EEXIST', () => fs.symlink('t', 'd'));
  },
  'a symbolic link has the size of its target and one name': async (fs) => {
    await fs.symlink('some/target', 'l');
    const stat = await fs.lstat('l');
    assert.deepEqual([stat.size, stat.nlink], [11, 1]);
  },
  'a long target is kept as a short one': async (fs) => {
    for (const length of [1, 23, 24, 59, 60, 61, 255, 511, 1000]) {
      const target = 't'.repeat(Math.min(length, 255)) + '/u'.repeat(Math.max(0, Math.floor((length - 255) / 2)));
      await fs.symlink(target, `l${length}`);
      assert.equal(await fs.readlink(`l${length}`), target);
    }
  },
  'mknod makes a FIFO and a regular file': async (fs) => {
    await fs.mknod('p', S_IFIFO | 0o644);
    await fs.mknod('f', S_IFREG | 0o640);
    assert.equal((await fs.stat('p')).mode, S_IFIFO | 0o644);
    assert.equal((await fs.stat('f')).mode, S_IFREG | 0o640);
    await put(fs, 'f', 'content');
    assert.equal(await textIn(fs, 'f'), 'content');
  },
  'mknod without a type makes a regular file': async (fs) => {
    await fs.mknod('f', 0o600);
    assert.equal((await fs.stat('f')).mode, S_IFREG | 0o600);
  },
  'mknod makes devices and sockets with their numbers': needs('mknod', async (fs) => {
    await fs.mknod('c', S_IFCHR | 0o600, makedev(1, 3));
    await fs.mknod('b', S_IFBLK | 0o600, makedev(259, 70_000));
    await fs.mknod('s', S_IFSOCK | 0o600);
    const [c, b] = [await fs.stat('c'), await fs.stat('b')];
    assert.deepEqual([c.mode & S_IFMT, c.rdev], [S_IFCHR, makedev(1, 3)]);
    assert.deepEqual([b.mode & S_IFMT, b.rdev], [S_IFBLK, makedev(259, 70_000)]);
    assert.equal((await fs.stat('s')).mode & S_IFMT, S_IFSOCK);
    await fails('ENXIO', () => fs.open('s', O_RDWR));
  }),
  'mknod of a directory is EPERM, and of what is no type EINVAL': async (fs) => {
    await fails('EPERM', () => fs.mknod('x', S_IFDIR | 0o700));
    await fails('EINVAL', () => fs.mknod('x', S_IFLNK | 0o700));
    await fails('EINVAL', () => fs.mknod('x', 0o130000 | 0o700));
  },
  'mknod of a name that is taken is EEXIST': async (fs) => {
    await put(fs, 'f');
    await fails('EEXIST', () => fs.mknod('f', S_IFIFO | 0o600));
    await fails('EEXIST', () => fs.mknod('f', S_IFREG | 0o600));
  },
  'special files are linked, renamed and removed like others': async (fs) => {
    await fs.mknod('p', S_IFIFO | 0o600);
    await fs.link('p', 'q');
    await fs.rename('p', 'r');
    assert.equal((await fs.stat('q')).nlink, 2);
    await fs.unlink('q');
    await fs.unlink('r');
    assert.deepEqual(await namesIn(fs, '.'), []);
  },
  'a special file is not truncated by path': async (fs) => {
    await fs.mknod('p', S_IFIFO | 0o600);
    await fails('EINVAL', () => fs.truncate('p', 0));
  },
};
