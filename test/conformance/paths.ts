import assert from 'node:assert/strict';
import { MAXSYMLINKS, O_CREAT, O_DIRECTORY, O_RDONLY, O_WRONLY, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT } from '../../src/vfs/uapi.ts';
import type { PosixFace } from '../support/posix-face.ts';
import { ALICE, type Behaviours, commons, fails, isThere, mkdirs, namesIn, needs, put, textIn } from './behaviour.ts';

/** 'd/' and 'd/f'. */
async function tree(fs: PosixFace): Promise<void> {
  await fs.mkdir('d');
  await put(fs, 'd/f', 'content');
}

/** A name that can be listed, opened and removed. */
const keepsName = (name: string) => async (fs: PosixFace) => {
  await put(fs, name, 'x');
  await fs.mkdir('d');
  await put(fs, `d/${name}`, 'y');
  assert.deepEqual(await namesIn(fs, 'd'), [name]);
  assert.equal(await textIn(fs, name), 'x');
  await fs.rename(name, `d/${name}`);
  assert.equal(await textIn(fs, `d/${name}`), 'x');
  await fs.unlink(`d/${name}`);
  assert.deepEqual(await namesIn(fs, 'd'), []);
};

const tooLong = 'n'.repeat(256);

/** Resolution of paths: components, dots, slashes, lengths, symbolic links. */
export const paths: Behaviours = {
  'a missing name is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.stat('missing'));
    await fails('ENOENT', () => fs.open('missing', O_RDONLY));
    await fails('ENOENT', () => fs.unlink('missing'));
    await fails('ENOENT', () => fs.rmdir('missing'));
    await fails('ENOENT', () => fs.readlink('missing'));
    await fails('ENOENT', () => fs.chmod('missing', 0o600));
    await fails('ENOENT', () => fs.truncate('missing', 0));
  },
  'a missing directory on the way is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.stat('missing/x'));
    await fails('ENOENT', () => fs.open('missing/x', O_WRONLY | O_CREAT));
    await fails('ENOENT', () => fs.mkdir('missing/x'));
    await fails('ENOENT', () => fs.symlink('t', 'missing/x'));
  },
  'a file on the way is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.stat('f/x'));
    await fails('ENOTDIR', () => fs.open('f/x', O_WRONLY | O_CREAT));
    await fails('ENOTDIR', () => fs.mkdir('f/x'));
    await fails('ENOTDIR', () => fs.unlink('f/x'));
    await fails('ENOTDIR', () => fs.rename('f/x', 'y'));
    await fails('ENOTDIR', () => fs.rename('f', 'f/x'));
  },
  'a file with a slash after it is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.stat('f/'));
    await fails('ENOTDIR', () => fs.lstat('f/'));
    await fails('ENOTDIR', () => fs.open('f/', O_RDONLY));
    await fails('ENOTDIR', () => fs.unlink('f/'));
    await fails('ENOTDIR', () => fs.truncate('f/', 0));
  },
  'a file has neither . nor ..': async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.stat('f/.'));
    await fails('ENOTDIR', () => fs.stat('f/..'));
  },
  'a directory is found with slashes and dots after it': async (fs) => {
    await fs.mkdir('d');
    const { ino } = await fs.stat('d');
    for (const path of ['d/', 'd//', 'd/.', 'd/./', './d', './/./d/.']) assert.equal((await fs.stat(path)).ino, ino, path);
  },
  'slashes in a row are one': async (fs) => {
    await tree(fs);
    assert.equal(await textIn(fs, 'd///f'), 'content');
  },
  '.. is the parent': async (fs) => {
    await tree(fs);
    await mkdirs(fs, 'd/e', 'd/e/g');
    assert.equal((await fs.stat('d/e/g/../..')).ino, (await fs.stat('d')).ino);
    assert.equal(await textIn(fs, 'd/e/../f'), 'content');
    assert.equal(await textIn(fs, 'd/e/g/../../../d/f'), 'content');
  },
  '.. of a missing directory is ENOENT': async (fs) => {
    await put(fs, 'f');
    await fails('ENOENT', () => fs.stat('missing/../f'));
  },
  '.. follows a directory that has moved': async (fs) => {
    await mkdirs(fs, 'a', 'b', 'a/d');
    await fs.rename('a/d', 'b/d');
    assert.equal((await fs.stat('b/d/..')).ino, (await fs.stat('b')).ino);
  },
  'an empty path is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.stat(''));
    await fails('ENOENT', () => fs.open('', O_RDONLY));
    await fails('ENOENT', () => fs.open('', O_WRONLY | O_CREAT));
    await fails('ENOENT', () => fs.mkdir(''));
    await fails('ENOENT', () => fs.unlink(''));
    await fails('ENOENT', () => fs.rmdir(''));
    await fails('ENOENT', () => fs.readlink(''));
  },
  'an empty path on either side of rename and link is ENOENT': async (fs) => {
    await put(fs, 'f');
    await fails('ENOENT', () => fs.rename('', 'x'));
    await fails('ENOENT', () => fs.rename('f', ''));
    await fails('ENOENT', () => fs.link('', 'x'));
    await fails('ENOENT', () => fs.link('f', ''));
  },
  'a name has up to 255 bytes': keepsName('n'.repeat(255)),
  'a name of 255 bytes in longer characters is kept': keepsName(`${'\u20ac'.repeat(84)}abc`),
  'a name of 256 bytes is ENAMETOOLONG': async (fs) => {
    await fails('ENAMETOOLONG', () => fs.stat(tooLong));
    await fails('ENAMETOOLONG', () => fs.open(tooLong, O_WRONLY | O_CREAT));
    await fails('ENAMETOOLONG', () => fs.mkdir(tooLong));
    await fails('ENAMETOOLONG', () => fs.symlink('t', tooLong));
    await fails('ENAMETOOLONG', () => fs.unlink(tooLong));
    await fails('ENAMETOOLONG', () => fs.stat(`${tooLong}/x`));
  },
  'a name of 86 characters in 258 bytes is ENAMETOOLONG': async (fs) => {
    await fails('ENAMETOOLONG', () => fs.mkdir('\u20ac'.repeat(86)));
  },
  'a name of 256 bytes is ENAMETOOLONG for rename and link on both sides': async (fs) => {
    await put(fs, 'f');
    await fails('ENAMETOOLONG', () => fs.rename('f', tooLong));
    await fails('ENAMETOOLONG', () => fs.rename(tooLong, 'x'));
    await fails('ENAMETOOLONG', () => fs.link('f', tooLong));
    await fails('ENAMETOOLONG', () => fs.link(tooLong, 'x'));
  },
  'a missing directory before a name that is too long is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.stat(`missing/${tooLong}`));
  },
  'a path has up to 4095 bytes': async (fs) => {
    await put(fs, 'f', 'content');
    const path = `${'./'.repeat(2047)}f`;
    assert.equal(path.length, 4095);
    assert.equal(await textIn(fs, path), 'content');
  },
  'a path of 4096 bytes is ENAMETOOLONG': async (fs) => {
    await put(fs, 'f');
    const path = `.//${'./'.repeat(2046)}f`;
    assert.equal(path.length, 4096);
    await fails('ENAMETOOLONG', () => fs.stat(path));
    await fails('ENAMETOOLONG', () => fs.mkdir(path));
    await fails('ENAMETOOLONG', () => fs.rename('f', path));
  },
  'the target of a symbolic link has up to 1023 bytes everywhere': async (fs) => {
    const target = `${'./'.repeat(511)}f`;
    await put(fs, 'f', 'content');
    await fs.symlink(target, 'l');
    assert.equal(await fs.readlink('l'), target);
    assert.equal(await textIn(fs, 'l'), 'content');
  },
  'the target of a symbolic link has up to 4095 bytes': needs('symlinkMax', async (fs) => {
    const target = `${'./'.repeat(2047)}f`;
    await put(fs, 'f', 'content');
    await fs.symlink(target, 'l');
    assert.equal(await fs.readlink('l'), target);
    assert.equal((await fs.lstat('l')).size, 4095);
    assert.equal(await textIn(fs, 'l'), 'content');
  }),
  'a target of 4096 bytes is ENAMETOOLONG': async (fs) => {
    await fails('ENAMETOOLONG', () => fs.symlink('t'.repeat(4096), 'l'));
  },
  'a target of no bytes is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.symlink('', 'l'));
  },
  'a symbolic link is followed by stat and not by lstat': async (fs) => {
    await put(fs, 'f', 'content');
    await fs.symlink('f', 'l');
    assert.equal((await fs.stat('l')).ino, (await fs.stat('f')).ino);
    const link = await fs.lstat('l');
    assert.equal(link.mode & S_IFMT, S_IFLNK);
    assert.equal(link.size, 1);
    assert.equal(await textIn(fs, 'l'), 'content');
  },
  'a symbolic link is all permission bits': async (fs) => {
    fs.umask(0o077);
    await fs.symlink('t', 'l');
    assert.equal((await fs.lstat('l')).mode, S_IFLNK | 0o777);
  },
  'a symbolic link on the way is followed by lstat too': async (fs) => {
    await tree(fs);
    await fs.symlink('d', 'l');
    assert.equal((await fs.lstat('l/f')).ino, (await fs.stat('d/f')).ino);
  },
  'a target starts at the directory of its link': async (fs) => {
    await mkdirs(fs, 'a', 'a/b');
    await put(fs, 'a/f', 'in a');
    await put(fs, 'f', 'at the top');
    await fs.symlink('../f', 'a/b/l');
    assert.equal(await textIn(fs, 'a/b/l'), 'in a');
    await fs.rename('a/b/l', 'a/l');
    assert.equal(await textIn(fs, 'a/l'), 'at the top');
  },
  '.. behind a link is the parent of where it leads': async (fs) => {
    await mkdirs(fs, 'a', 'a/b');
    await put(fs, 'a/f', 'in a');
    await put(fs, 'f', 'at the top');
    await fs.symlink('a/b', 'l');
    assert.equal(await textIn(fs, 'l/../f'), 'in a');
  },
  '40 symbolic links are followed': async (fs) => {
    await put(fs, 'l0', 'end');
    for (let i = 1; i <= MAXSYMLINKS; i++) await fs.symlink(`l${i - 1}`, `l${i}`);
    assert.equal(await textIn(fs, `l${MAXSYMLINKS}`), 'end');
  },
  '41 symbolic links are ELOOP': async (fs) => {
    await put(fs, 'l0', 'end');
    for (let i = 1; i <= MAXSYMLINKS + 1; i++) await fs.symlink(`l${i - 1}`, `l${i}`);
    await fails('ELOOP', () => fs.stat(`l${MAXSYMLINKS + 1}`));
    assert.equal((await fs.lstat(`l${MAXSYMLINKS + 1}`)).mode & S_IFMT, S_IFLNK);
  },
  'links on the way and at the end count together': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/f', 'end');
    await fs.symlink('.', 'd/l');
    assert.equal(await textIn(fs, `d/${'l/'.repeat(40)}f`), 'end');
    await fails('ELOOP', () => fs.stat(`d/${'l/'.repeat(41)}f`));
  },
  'a link to itself is ELOOP': async (fs) => {
    await fs.symlink('l', 'l');
    await fails('ELOOP', () => fs.stat('l'));
    await fails('ELOOP', () => fs.open('l', O_RDONLY));
    await fails('ELOOP', () => fs.open('l', O_WRONLY | O_CREAT));
    await fails('ELOOP', () => fs.stat('l/x'));
    await fails('ELOOP', () => fs.chmod('l', 0o600));
    await fs.unlink('l');
  },
  'two links to each other are ELOOP': async (fs) => {
    await fs.symlink('b', 'a');
    await fs.symlink('a', 'b');
    await fails('ELOOP', () => fs.stat('a'));
    assert.equal(await fs.readlink('a'), 'b');
  },
  'a link that leads nowhere is there for lstat only': async (fs) => {
    await fs.symlink('nowhere', 'l');
    await fails('ENOENT', () => fs.stat('l'));
    await fails('ENOENT', () => fs.open('l', O_RDONLY));
    await fails('ENOENT', () => fs.stat('l/'));
    assert.equal(await fs.readlink('l'), 'nowhere');
    assert.equal((await fs.lstat('l')).mode & S_IFMT, S_IFLNK);
  },
  'a link to a file with a slash after it is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fails('ENOTDIR', () => fs.stat('l/'));
    await fails('ENOTDIR', () => fs.lstat('l/'));
  },
  'a link to a directory with a slash after it is the directory': async (fs) => {
    await fs.mkdir('d');
    await fs.symlink('d', 'l');
    assert.equal((await fs.lstat('l/')).ino, (await fs.stat('d')).ino);
    await fails('EINVAL', () => fs.readlink('l/'));
  },
  'the slash after a target counts too': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f/', 'l');
    await fails('ENOTDIR', () => fs.stat('l'));
  },
  'readlink of what is no link is EINVAL': async (fs) => {
    await tree(fs);
    await fails('EINVAL', () => fs.readlink('d'));
    await fails('EINVAL', () => fs.readlink('d/f'));
  },
  'slashes after targets in the middle say nothing of the last name': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/f', 'content');
    await fs.symlink('d/', 'l');
    await fs.symlink('l//', 'm');
    await fs.symlink('m/', 'n');
    for (const path of ['l/f', 'm/f', 'n/f', 'n///f']) assert.equal((await fs.stat(path)).size, 7, path);
    await fs.unlink('n/f');
    await fails('ENOENT', () => fs.stat('d/f'));
  },
  'mkdir takes a slash after the new name': async (fs) => {
    await fs.mkdir('d/');
    await fs.mkdir('d/e//');
    assert.equal((await fs.stat('d/e')).mode & S_IFMT, S_IFDIR);
  },
  'only a directory is made with a slash after its name': async (fs) => {
    await put(fs, 'f');
    await fails('EISDIR', () => fs.open('x/', O_WRONLY | O_CREAT));
    await fails('ENOENT', () => fs.symlink('t', 'x/'));
    await fails('ENOENT', () => fs.link('f', 'x/'));
    await fails('ENOENT', () => fs.mknod('x/', S_IFIFO | 0o600));
    assert.ok(!(await isThere(fs, 'x')));
  },
  'mkdir where a link leads nowhere is EEXIST': async (fs) => {
    await fs.symlink('nowhere', 'l');
    await fails('EEXIST', () => fs.mkdir('l'));
    await fails('EEXIST', () => fs.mkdir('l/'));
    assert.ok(!(await isThere(fs, 'nowhere')));
  },
  'new names are never made behind a link': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('nowhere', 'l');
    await fails('EEXIST', () => fs.symlink('t', 'l'));
    await fails('EEXIST', () => fs.link('f', 'l'));
    await fails('EEXIST', () => fs.mknod('l', S_IFIFO | 0o600));
  },
  'rmdir of a link to a directory is ENOTDIR, with a slash too': async (fs) => {
    await fs.mkdir('d');
    await fs.symlink('d', 'l');
    await fails('ENOTDIR', () => fs.rmdir('l'));
    await fails('ENOTDIR', () => fs.rmdir('l/'));
  },
  'unlink of a link removes the link, not what it leads to': async (fs) => {
    await put(fs, 'f', 'content');
    await fs.symlink('f', 'l');
    await fs.unlink('l');
    assert.equal(await textIn(fs, 'f'), 'content');
  },
  '. and .. cannot be made': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'f');
    for (const path of ['d/.', 'd/..']) {
      await fails('EEXIST', () => fs.mkdir(path));
      await fails('EEXIST', () => fs.symlink('t', path));
      await fails('EEXIST', () => fs.link('f', path));
      await fails('EEXIST', () => fs.mknod(path, S_IFIFO | 0o600));
    }
  },
  '. and .. cannot be removed': async (fs) => {
    await mkdirs(fs, 'd', 'd/e');
    await fails('EINVAL', () => fs.rmdir('d/.'));
    await fails('EINVAL', () => fs.rmdir('.'));
    await fails('ENOTEMPTY', () => fs.rmdir('d/e/..'));
    await fails('EISDIR', () => fs.unlink('d/.'));
    await fails('EISDIR', () => fs.unlink('d/..'));
  },
  '. and .. cannot be renamed, nor renamed to': async (fs) => {
    await mkdirs(fs, 'd', 'e');
    await fails('EBUSY', () => fs.rename('d/.', 'x'));
    await fails('EBUSY', () => fs.rename('d/..', 'x'));
    await fails('EBUSY', () => fs.rename('e', 'd/.'));
    await fails('EBUSY', () => fs.rename('e', 'd/..'));
  },
  '. and .. cannot be created by open': async (fs) => {
    await fs.mkdir('d');
    await fails('EISDIR', () => fs.open('d/.', O_RDONLY | O_CREAT));
    await fails('EISDIR', () => fs.open('d/..', O_WRONLY | O_CREAT));
  },
  'names that differ in case are two': async (fs) => {
    await put(fs, 'name', 'lower');
    await put(fs, 'NAME', 'upper');
    assert.equal(await textIn(fs, 'name'), 'lower');
  },
  'names that differ in normalisation are two': async (fs) => {
    await put(fs, '\u00e9', 'one character');
    await put(fs, 'e\u0301', 'two characters');
    assert.equal(await textIn(fs, '\u00e9'), 'one character');
  },
  'names keep blanks, quotes, backslashes': keepsName(' a"b\'c\\d\t '),
  'names keep control characters': keepsName('a\nb\r\x01\x7f'),
  'names keep bytes that are no UTF-8': keepsName('a\udcff\udc80b'),
  'names keep half of a character at the end': keepsName('a\udcc3'),
  'names of three dots and of dots with others are plain': keepsName('...'),
  'names keep characters beyond 16 bits': keepsName('\u{1f4be}'),
  'targets keep bytes that are no UTF-8': async (fs) => {
    await fs.symlink('t\udcfe\n', 'l');
    assert.equal(await fs.readlink('l'), 't\udcfe\n');
    await put(fs, 'l', 'through');
    assert.equal(await textIn(fs, 't\udcfe\n'), 'through');
  },
  'a directory of 100 levels works': async (fs) => {
    let path = 'd';
    for (let i = 0; i < 100; i++) {
      await fs.mkdir(path);
      path += '/d';
    }
    await put(fs, `${path}`, 'deep');
    assert.equal(await textIn(fs, path), 'deep');
    assert.equal((await fs.stat(`${'d/'.repeat(100)}${'../'.repeat(99)}`)).ino, (await fs.stat('d')).ino);
  },
  'a link to a directory opens as the directory': async (fs) => {
    await tree(fs);
    await fs.symlink('d', 'l');
    const dir = await fs.open('l', O_RDONLY | O_DIRECTORY);
    assert.deepEqual(
      (await dir.getdents()).map(({ name }) => name),
      ['f'],
    );
    await dir.close();
  },
  'a directory without search permission hides what is below': needs('users', async (fs) => {
    await commons(fs, 'd', 0o766);
    await put(fs, 'd/f');
    await fs.as(ALICE, async () => {
      await fails('EACCES', () => fs.stat('d/f'));
      await fails('EACCES', () => fs.stat('d/missing'));
      await fails('EACCES', () => fs.stat('d/.'));
      await fails('EACCES', () => fs.stat('d/..'));
      await fs.stat('d');
      assert.deepEqual(await namesIn(fs, 'd'), ['f']);
    });
  }),
  'a directory on the way without search permission hides a link too': needs('users', async (fs) => {
    await commons(fs, 'd', 0o700);
    await put(fs, 'd/f');
    await fs.symlink('d/f', 'l');
    await fs.as(ALICE, async () => {
      await fails('EACCES', () => fs.stat('l'));
      await fs.lstat('l');
    });
  }),
  'a directory with search permission only opens what is named and lists nothing': needs('users', async (fs) => {
    await commons(fs, 'd', 0o711);
    await put(fs, 'd/f', 'content');
    await fs.as(ALICE, async () => {
      assert.equal(await textIn(fs, 'd/f'), 'content');
      await fails('EACCES', () => fs.open('d', O_RDONLY));
    });
  }),
};
