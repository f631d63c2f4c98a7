import assert from 'node:assert/strict';
import {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  SEEK_CUR,
} from '../../src/vfs/uapi.ts';
import {
  ALICE,
  all,
  type Behaviours,
  commons,
  fails,
  isThere,
  modeOf,
  namesIn,
  needs,
  owned,
  put,
  text,
  textIn,
  withFile,
} from './behaviour.ts';

/** Flags of open. */
export const opens: Behaviours = {
  'O_CREAT makes an empty regular file': async (fs) => {
    const file = await fs.open('f', O_RDONLY | O_CREAT, 0o644);
    const stat = await file.fstat();
    assert.equal(stat.mode, S_IFREG | 0o644);
    assert.equal(stat.size, 0);
    assert.equal(stat.nlink, 1);
    assert.equal(stat.blocks, 0);
    await file.close();
  },
  'O_CREAT opens what is there and leaves it': async (fs) => {
    await put(fs, 'f', 'content');
    await withFile(fs, 'f', O_RDWR | O_CREAT, async (file) => assert.equal(text(await all(file)), 'content'));
    assert.equal(await modeOf(fs, 'f'), 0o644);
  },
  'O_CREAT makes a file where a link leads nowhere': async (fs) => {
    await fs.symlink('target', 'l');
    await put(fs, 'l', 'through');
    assert.equal(await textIn(fs, 'target'), 'through');
  },
  'O_CREAT behind a link into a missing directory is ENOENT': async (fs) => {
    await fs.symlink('missing/target', 'l');
    await fails('ENOENT', () => fs.open('l', O_WRONLY | O_CREAT));
  },
  'O_CREAT behind a link whose target ends with a slash is EISDIR': async (fs) => {
    await fs.symlink('target/', 'l');
    await fails('EISDIR', () => fs.open('l', O_WRONLY | O_CREAT));
  },
  'O_CREAT with O_EXCL refuses every name that is there': async (fs) => {
    await put(fs, 'f');
    await fs.mkdir('d');
    await fs.symlink('nowhere', 'l');
    await fs.symlink('l2', 'l2');
    for (const path of ['f', 'd', 'l', 'l2']) await fails('EEXIST', () => fs.open(path, O_RDWR | O_CREAT | O_EXCL));
    assert.ok(!(await isThere(fs, 'nowhere')));
  },
  'O_CREAT with O_EXCL makes a new file': async (fs) => {
    await (await fs.open('f', O_RDWR | O_CREAT | O_EXCL)).close();
    assert.ok(await isThere(fs, 'f'));
  },
  'O_CREAT of a directory is EISDIR': async (fs) => {
    await fs.mkdir('d');
    await fails('EISDIR', () => fs.open('d', O_RDONLY | O_CREAT));
    await fails('EISDIR', () => fs.open('d/', O_RDONLY | O_CREAT));
  },
  'O_CREAT with O_DIRECTORY is EINVAL': async (fs) => {
    await fails('EINVAL', () => fs.open('x', O_RDONLY | O_CREAT | O_DIRECTORY));
    assert.ok(!(await isThere(fs, 'x')));
  },
  'a directory opens for reading only': async (fs) => {
    await fs.mkdir('d');
    await fails('EISDIR', () => fs.open('d', O_WRONLY));
    await fails('EISDIR', () => fs.open('d', O_RDWR));
    await (await fs.open('d', O_RDONLY)).close();
  },
  'a directory is not truncated': async (fs) => {
    await fs.mkdir('d');
    await fails('EISDIR', () => fs.open('d', O_RDONLY | O_TRUNC));
    await fails('EISDIR', () => fs.truncate('d', 0));
  },
  'bytes of a directory are not read': async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      await fails('EISDIR', () => dir.read(10));
      await fails('EISDIR', () => dir.pread(10, 0));
      await fails('EBADF', () => dir.write('x'));
      await fails('EINVAL', () => dir.ftruncate(0));
    });
  },
  'O_DIRECTORY of a file is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.open('f', O_RDONLY | O_DIRECTORY));
    await fs.symlink('f', 'l');
    await fails('ENOTDIR', () => fs.open('l', O_RDONLY | O_DIRECTORY));
  },
  'O_NOFOLLOW of a link is ELOOP': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.symlink('nowhere', 'dangling');
    await fails('ELOOP', () => fs.open('l', O_RDONLY | O_NOFOLLOW));
    await fails('ELOOP', () => fs.open('dangling', O_RDWR | O_CREAT | O_NOFOLLOW));
    assert.ok(!(await isThere(fs, 'nowhere')));
  },
  'O_NOFOLLOW follows links on the way': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/f', 'content');
    await fs.symlink('d', 'l');
    await withFile(fs, 'l/f', O_RDONLY | O_NOFOLLOW, async (file) => assert.equal(text(await all(file)), 'content'));
  },
  'O_NOFOLLOW with O_DIRECTORY of a link is ENOTDIR': async (fs) => {
    await fs.mkdir('d');
    await fs.symlink('d', 'l');
    await fails('ENOTDIR', () => fs.open('l', O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
  },
  'O_TRUNC empties a file': async (fs) => {
    await put(fs, 'f', 'content');
    const { ino } = await fs.stat('f');
    await (await fs.open('f', O_WRONLY | O_TRUNC)).close();
    const stat = await fs.stat('f');
    assert.equal(stat.size, 0);
    assert.equal(stat.ino, ino);
  },
  'O_TRUNC empties a file that is opened for reading': async (fs) => {
    await put(fs, 'f', 'content');
    await withFile(fs, 'f', O_RDONLY | O_TRUNC, async (file) => assert.equal((await file.fstat()).size, 0));
  },
  'O_TRUNC needs write permission': needs('users', async (fs) => {
    await put(fs, 'f', 'content');
    await fs.chmod('f', 0o644);
    await fs.as(ALICE, () => fails('EACCES', () => fs.open('f', O_RDONLY | O_TRUNC)));
    assert.equal(await textIn(fs, 'f'), 'content');
  }),
  'O_TRUNC leaves other open files open, at their positions': async (fs) => {
    await put(fs, 'f', '0123456789');
    await withFile(fs, 'f', O_RDWR, async (file) => {
      await file.read(5);
      await (await fs.open('f', O_WRONLY | O_TRUNC)).close();
      assert.equal((await file.read(5)).length, 0);
      assert.equal(await file.lseek(0, SEEK_CUR), 5);
      await file.write('x');
      assert.equal(text(await all(file)), '\0\0\0\0\0x');
    });
  },
  'a file opened for reading is not written': async (fs) => {
    await put(fs, 'f', 'content');
    await withFile(fs, 'f', O_RDONLY, async (file) => {
      await fails('EBADF', () => file.write('x'));
      await fails('EBADF', () => file.pwrite('x', 0));
      await fails('EBADF', () => file.writev(['x']));
      await fails('EINVAL', () => file.ftruncate(0));
    });
  },
  'a file opened for writing is not read': async (fs) => {
    await put(fs, 'f', 'content');
    await withFile(fs, 'f', O_WRONLY, async (file) => {
      await fails('EBADF', () => file.read(1));
      await fails('EBADF', () => file.pread(1, 0));
      await fails('EBADF', () => file.readv([1]));
    });
  },
  'what is opened stays as it was opened when the mode changes': needs('users', async (fs) => {
    await commons(fs, 'd');
    await fs.as(ALICE, async () => {
      const file = await fs.open('d/f', O_RDWR | O_CREAT, 0o000);
      await file.write('written');
      assert.equal(text(await all(file)), 'written');
      await fails('EACCES', () => fs.open('d/f', O_RDONLY));
      await file.close();
    });
  }),
  'two opens of one file have a position each': async (fs) => {
    await put(fs, 'f', 'abcdef');
    const one = await fs.open('f', O_RDONLY);
    const two = await fs.open('f', O_RDONLY);
    assert.equal(text(await one.read(3)), 'abc');
    assert.equal(text(await two.read(2)), 'ab');
    assert.equal(text(await one.read(3)), 'def');
    await one.close();
    await two.close();
  },
  'O_APPEND writes at the end, wherever the position is': async (fs) => {
    await put(fs, 'f', 'abc');
    await withFile(fs, 'f', O_RDWR | O_APPEND, async (file) => {
      assert.equal(await file.lseek(0, SEEK_CUR), 0);
      assert.equal(text(await file.read(1)), 'a');
      await file.write('def');
      assert.equal(await file.lseek(0, SEEK_CUR), 6);
      assert.equal(text(await all(file)), 'abcdef');
    });
  },
  'O_APPEND appends with pwrite too, and the position stays': async (fs) => {
    await put(fs, 'f', 'abc');
    await withFile(fs, 'f', O_RDWR | O_APPEND, async (file) => {
      await file.pwrite('X', 0);
      assert.equal(text(await all(file)), 'abcX');
      assert.equal(await file.lseek(0, SEEK_CUR), 0);
    });
  },
  'appends of two open files follow each other': async (fs) => {
    await put(fs, 'f');
    const one = await fs.open('f', O_WRONLY | O_APPEND);
    const two = await fs.open('f', O_WRONLY | O_APPEND);
    for (const each of ['a', 'b', 'c']) {
      await one.write(each);
      await two.write(each.toUpperCase());
    }
    await one.close();
    await two.close();
    assert.equal(await textIn(fs, 'f'), 'aAbBcC');
  },
  'appends that overlap in time keep each other whole': async (fs) => {
    await put(fs, 'f');
    const files = await Promise.all(
      ['a', 'b', 'c', 'd'].map(async (letter) => ({ letter, file: await fs.open('f', O_WRONLY | O_APPEND) })),
    );
    await Promise.all(files.flatMap(({ letter, file }) => [0, 1, 2].map(() => file.write(letter.repeat(5000)))));
    for (const { file } of files) await file.close();
    const runs = (await textIn(fs, 'f')).match(/(.)\1*/g) ?? [];
    assert.equal(runs.join('').length, 60_000);
    for (const run of runs) assert.equal(run.length % 5000, 0);
  },
  'O_SYNC and O_DSYNC write like any other': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_WRONLY | O_SYNC, (file) => file.write('sync'));
    await withFile(fs, 'f', O_WRONLY | O_DSYNC | O_APPEND, (file) => file.write('dsync'));
    assert.equal(await textIn(fs, 'f'), 'syncdsync');
  },
  'O_NOATIME is for the owner': needs('users', async (fs) => {
    await put(fs, 'f', 'content');
    await owned(fs, 'own', ALICE, 0o644, 'content');
    await fs.as(ALICE, async () => {
      await fails('EPERM', () => fs.open('f', O_RDONLY | O_NOATIME));
      await (await fs.open('own', O_RDONLY | O_NOATIME)).close();
    });
    await (await fs.open('own', O_RDONLY | O_NOATIME)).close();
  }),
  'O_PATH opens without permission of the file, for nothing but fstat': needs(['oPath', 'users'], async (fs) => {
    await put(fs, 'f', 'content', 0o600);
    await fs.as(ALICE, async () => {
      const file = await fs.open('f', O_PATH);
      assert.equal((await file.fstat()).size, 7);
      await fails('EBADF', () => file.read(1));
      await fails('EBADF', () => file.pwrite('x', 0));
      await fails('EBADF', () => file.fchmod(0o666));
      await fails('EBADF', () => file.ftruncate(0));
      await file.close();
    });
  }),
  'O_PATH with O_NOFOLLOW opens a link itself': needs('oPath', async (fs) => {
    await fs.symlink('nowhere', 'l');
    await withFile(fs, 'l', O_PATH | O_NOFOLLOW, async (file) => assert.equal((await file.fstat()).ino, (await fs.lstat('l')).ino));
  }),
  'O_PATH makes nothing': needs('oPath', async (fs) => {
    await fails('ENOENT', () => fs.open('x', O_PATH | O_CREAT));
  }),
  'O_NONBLOCK changes nothing for files': async (fs) => {
    await put(fs, 'f', 'content');
    await withFile(fs, 'f', O_RDWR | O_NONBLOCK, async (file) => {
      assert.equal(text(await file.read(3)), 'con');
      assert.equal(await file.write('T'), 1);
    });
    assert.equal(await textIn(fs, 'f'), 'conTent');
  },
  'an access mode of 3 is neither read nor written': async (fs) => {
    await put(fs, 'f', 'content');
    await withFile(fs, 'f', 3, async (file) => {
      await fails('EBADF', () => file.read(1));
      await fails('EBADF', () => file.write('x'));
    });
  },
  'a closed file frees what has no name': async (fs) => {
    await put(fs, 'f', 'content');
    const file = await fs.open('f', O_RDONLY);
    await fs.unlink('f');
    await file.close();
    assert.deepEqual(await namesIn(fs, '.'), []);
  },
  'O_PATH opens a FIFO without anybody on the other side': needs('oPath', async (fs) => {
    await fs.mknod('p', S_IFIFO | 0o600);
    await withFile(fs, 'p', O_PATH, async (file) => assert.equal((await file.fstat()).mode & S_IFMT, S_IFIFO));
  }),
  'O_TMPFILE makes a file without a name': needs('tmpfile', async (fs) => {
    const file = await fs.open('.', O_RDWR | O_TMPFILE, 0o640);
    const stat = await file.fstat();
    assert.equal(stat.mode, S_IFREG | 0o640);
    assert.equal(stat.nlink, 0);
    await file.write('content');
    assert.equal(text(await all(file)), 'content');
    assert.deepEqual(await namesIn(fs, '.'), []);
    await file.close();
  }),
  'O_TMPFILE is for writing': needs('tmpfile', async (fs) => {
    await fails('EINVAL', () => fs.open('.', O_RDONLY | O_TMPFILE));
    await (await fs.open('.', O_WRONLY | O_TMPFILE)).close();
  }),
  'O_TMPFILE wants a directory that is there': needs('tmpfile', async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.open('f', O_RDWR | O_TMPFILE));
    await fails('ENOENT', () => fs.open('missing', O_RDWR | O_TMPFILE));
    await fs.mkdir('d');
    await fs.symlink('d', 'l');
    await fails('ENOTDIR', () => fs.open('l', O_RDWR | O_TMPFILE | O_NOFOLLOW));
    await (await fs.open('l', O_RDWR | O_TMPFILE)).close();
  }),
  'O_TMPFILE needs write permission of the directory': needs(['tmpfile', 'users'], async (fs) => {
    await fs.mkdir('d', 0o755);
    await fs.as(ALICE, () => fails('EACCES', () => fs.open('d', O_RDWR | O_TMPFILE)));
  }),
  'a link gives an O_TMPFILE its first name': needs('tmpfile', async (fs) => {
    const file = await fs.open('.', O_RDWR | O_TMPFILE, 0o600);
    await file.write('content');
    await file.linkTo('named');
    assert.equal((await file.fstat()).nlink, 1);
    assert.equal(await textIn(fs, 'named'), 'content');
    await file.linkTo('again');
    assert.equal((await fs.stat('named')).nlink, 2);
    await fails('EEXIST', () => file.linkTo('named'));
    await file.close();
    assert.equal(await textIn(fs, 'again'), 'content');
  }),
  'O_TMPFILE with O_EXCL never gets a name': needs('tmpfile', async (fs) => {
    const file = await fs.open('.', O_RDWR | O_TMPFILE | O_EXCL);
    await fails('ENOENT', () => file.linkTo('named'));
    await file.close();
  }),
  'O_TMPFILE obeys the umask': needs('tmpfile', async (fs) => {
    fs.umask(0o077);
    const file = await fs.open('.', O_RDWR | O_TMPFILE, 0o666);
    assert.equal((await file.fstat()).mode & 0o777, 0o600);
    await file.close();
  }),
};
