import assert from 'node:assert/strict';
import { makedev } from '../../src/vfs/attr.ts';
import { O_RDONLY, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, S_IFCHR, S_IFMT } from '../../src/vfs/uapi.ts';
import type { PosixFace } from '../support/posix-face.ts';
import { all, type Behaviour, type Behaviours, fails, isThere, mkdirs, namesIn, needs, OLD, put, text, textIn } from './behaviour.ts';

/** Makes one thing of each kind: what a rename meets. */
async function make(fs: PosixFace, kind: 'file' | 'link' | 'empty' | 'full', path: string): Promise<void> {
  if (kind === 'file') await put(fs, path, `file ${path}`);
  else if (kind === 'link') await fs.symlink(`to ${path}`, path);
  else await fs.mkdir(path);
  if (kind === 'full') await put(fs, `${path}/inner`, `inner of ${path}`);
}

const KINDS = ['file', 'link', 'empty', 'full'] as const;
const words = { file: 'a file', link: 'a link', empty: 'an empty directory', full: 'a full directory' };

/** Every kind over every kind. */
function combinations(): Behaviours {
  const behaviours: Behaviours = {};
  for (const from of KINDS) {
    for (const to of KINDS) {
      const [fromDir, toDir] = [from === 'empty' || from === 'full', to === 'empty' || to === 'full'];
      const code = fromDir && !toDir ? 'ENOTDIR' : !fromDir && toDir ? 'EISDIR' : to === 'full' ? 'ENOTEMPTY' : undefined;
      const run: Behaviour = async (fs) => {
        await make(fs, from, 'a');
        await make(fs, to, 'b');
        const [a, b] = [(await fs.lstat('a')).ino, (await fs.lstat('b')).ino];
        if (code === undefined) {
          await fs.rename('a', 'b');
          assert.ok(!(await isThere(fs, 'a')));
          assert.equal((await fs.lstat('b')).ino, a);
        } else {
          await fails(code, () => fs.rename('a', 'b'));
          assert.deepEqual([(await fs.lstat('a')).ino, (await fs.lstat('b')).ino], [a, b]);
        }
      };
      behaviours[`${words[from]} onto ${words[to]} ${code === undefined ? 'replaces it' : `is ${code}`}`] = run;
      behaviours[`${words[from]} and ${words[to]} are exchanged`] = needs('exchange', async (fs) => {
        await mkdirs(fs, 'x', 'y');
        await make(fs, from, 'x/a');
        await make(fs, to, 'y/b');
        const [a, b] = [(await fs.lstat('x/a')).ino, (await fs.lstat('y/b')).ino];
        await fs.rename('x/a', 'y/b', RENAME_EXCHANGE);
        assert.deepEqual([(await fs.lstat('x/a')).ino, (await fs.lstat('y/b')).ino], [b, a]);
        if (to === 'full') assert.equal(await textIn(fs, 'x/a/inner'), 'inner of y/b');
        assert.equal((await fs.stat('x')).nlink, toDir ? 3 : 2);
        assert.equal((await fs.stat('y')).nlink, fromDir ? 3 : 2);
      });
    }
  }
  return behaviours;
}

/** Renaming. */
export const renames: Behaviours = {
  ...combinations(),
  'a file to a new name': async (fs) => {
    await put(fs, 'a', 'content');
    const { ino } = await fs.stat('a');
    await fs.rename('a', 'b');
    assert.ok(!(await isThere(fs, 'a')));
    assert.equal((await fs.stat('b')).ino, ino);
    assert.equal(await textIn(fs, 'b'), 'content');
  },
  'a file into another directory': async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await put(fs, 'x/a', 'content');
    await fs.rename('x/a', 'y/b');
    assert.deepEqual([await namesIn(fs, 'x'), await namesIn(fs, 'y')], [[], ['b']]);
  },
  'a directory with all below it': async (fs) => {
    await mkdirs(fs, 'x', 'x/d', 'x/d/e', 'y');
    await put(fs, 'x/d/e/f', 'content');
    await fs.rename('x/d', 'y/moved');
    assert.equal(await textIn(fs, 'y/moved/e/f'), 'content');
    assert.deepEqual([(await fs.stat('x')).nlink, (await fs.stat('y')).nlink], [2, 3]);
  },
  'a directory within its parent leaves link counts': async (fs) => {
    await mkdirs(fs, 'x', 'x/d');
    await fs.rename('x/d', 'x/e');
    assert.equal((await fs.stat('x')).nlink, 3);
  },
  'a directory over an empty one takes one link off the parent': async (fs) => {
    await mkdirs(fs, 'x', 'x/d', 'x/e');
    await fs.rename('x/d', 'x/e');
    assert.equal((await fs.stat('x')).nlink, 3);
  },
  'to itself changes nothing': async (fs) => {
    await put(fs, 'a', 'content');
    await fs.mkdir('d');
    await fs.rename('a', 'a');
    await fs.rename('d', 'd');
    await fs.rename('d', 'd/../d');
    assert.equal(await textIn(fs, 'a'), 'content');
  },
  'between two names of one file changes nothing': async (fs) => {
    await put(fs, 'a', 'content');
    await fs.link('a', 'b');
    await fs.rename('a', 'b');
    assert.deepEqual(await namesIn(fs, '.'), ['a', 'b']);
    assert.equal((await fs.stat('a')).nlink, 2);
  },
  'a directory into itself is EINVAL': async (fs) => {
    await mkdirs(fs, 'd', 'd/e');
    await fails('EINVAL', () => fs.rename('d', 'd/x'));
    await fails('EINVAL', () => fs.rename('d', 'd/e/x'));
    await fails('EINVAL', () => fs.rename('d', 'd/e'));
  },
  'a directory onto one that it is below is ENOTEMPTY': async (fs) => {
    await mkdirs(fs, 'd', 'd/e', 'd/e/g');
    await fails('ENOTEMPTY', () => fs.rename('d/e', 'd'));
    await fails('ENOTEMPTY', () => fs.rename('d/e/g', 'd'));
  },
  'a directory through a link into itself is EINVAL': async (fs) => {
    await mkdirs(fs, 'd', 'd/e');
    await fs.symlink('d/e', 'l');
    await fails('EINVAL', () => fs.rename('d', 'l/x'));
  },
  'a missing name is ENOENT, whatever the other is': async (fs) => {
    await put(fs, 'f');
    await fs.mkdir('d');
    for (const to of ['x', 'f', 'd', 'missing']) await fails('ENOENT', () => fs.rename('missing', to));
  },
  'into a missing directory is ENOENT': async (fs) => {
    await put(fs, 'f');
    await fails('ENOENT', () => fs.rename('f', 'missing/f'));
  },
  'a directory takes slashes after both names': async (fs) => {
    await fs.mkdir('d');
    await fs.rename('d/', 'e/');
    assert.deepEqual(await namesIn(fs, '.'), ['e']);
  },
  'a file with a slash after either name is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.rename('f', 'g/'));
    await fails('ENOTDIR', () => fs.rename('f/', 'g'));
  },
  'a link to a directory with a slash after it is ENOTDIR': async (fs) => {
    await fs.mkdir('d');
    await fs.symlink('d', 'l');
    await fails('ENOTDIR', () => fs.rename('l/', 'x'));
    await fails('ENOTDIR', () => fs.rename('d', 'l/'));
  },
  'a link is renamed itself': async (fs) => {
    await put(fs, 'f', 'content');
    await fs.symlink('f', 'l');
    await fs.rename('l', 'm');
    assert.equal(await fs.readlink('m'), 'f');
    assert.equal(await textIn(fs, 'f'), 'content');
  },
  'what is replaced lives on while it is open': async (fs) => {
    await put(fs, 'a', 'new');
    await put(fs, 'b', 'old');
    const file = await fs.open('b', O_RDONLY);
    await fs.rename('a', 'b');
    assert.equal(text(await all(file)), 'old');
    assert.equal((await file.fstat()).nlink, 0);
    assert.equal(await textIn(fs, 'b'), 'new');
    await file.close();
  },
  'what is replaced keeps its other names': async (fs) => {
    await put(fs, 'a', 'new');
    await put(fs, 'b', 'old');
    await fs.link('b', 'c');
    await fs.rename('a', 'b');
    assert.equal(await textIn(fs, 'c'), 'old');
    assert.equal((await fs.stat('c')).nlink, 1);
  },
  'an open file follows its new name': async (fs) => {
    await put(fs, 'a', 'content');
    const file = await fs.open('a', O_RDONLY);
    await fs.rename('a', 'b');
    await put(fs, 'a', 'other');
    assert.equal(text(await all(file)), 'content');
    assert.equal((await file.fstat()).ino, (await fs.stat('b')).ino);
    await file.close();
  },
  'a replaced directory that is open has no links and lists ENOENT': async (fs) => {
    await mkdirs(fs, 'd', 'e');
    const dir = await fs.open('e', O_RDONLY);
    await fs.rename('d', 'e');
    assert.equal((await dir.fstat()).nlink, 0);
    await fails('ENOENT', () => dir.getdents());
    await dir.close();
  },
  'marks mtime and ctime of both directories, and ctime of the file': async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await put(fs, 'x/f');
    for (const path of ['x/f', 'x', 'y']) await fs.utimens(path, OLD, OLD);
    const before = await fs.stat('x/f');
    await fs.rename('x/f', 'y/f');
    for (const path of ['x', 'y']) assert.notEqual((await fs.stat(path)).mtime, OLD.sec, path);
    const after = await fs.stat('y/f');
    assert.equal(after.mtime, OLD.sec);
    assert.ok(after.ctime * 1e9 + after.ctimeNsec >= before.ctime * 1e9 + before.ctimeNsec);
  },
  'RENAME_NOREPLACE renames to a free name': async (fs) => {
    await put(fs, 'a', 'content');
    await fs.rename('a', 'b', RENAME_NOREPLACE);
    assert.equal(await textIn(fs, 'b'), 'content');
  },
  'RENAME_NOREPLACE onto any name is EEXIST': async (fs) => {
    await put(fs, 'a', 'a');
    await put(fs, 'b', 'b');
    await fs.mkdir('d');
    await fs.symlink('nowhere', 'l');
    for (const to of ['a', 'b', 'd', 'l']) await fails('EEXIST', () => fs.rename('a', to, RENAME_NOREPLACE));
    assert.equal(await textIn(fs, 'b'), 'b');
  },
  'RENAME_NOREPLACE to . or .. is EEXIST': async (fs) => {
    await put(fs, 'a');
    await fs.mkdir('d');
    await fails('EEXIST', () => fs.rename('a', 'd/.', RENAME_NOREPLACE));
    await fails('EEXIST', () => fs.rename('a', 'd/..', RENAME_NOREPLACE));
  },
  'RENAME_EXCHANGE with a missing name is ENOENT': needs('exchange', async (fs) => {
    await put(fs, 'a');
    await fails('ENOENT', () => fs.rename('a', 'missing', RENAME_EXCHANGE));
    await fails('ENOENT', () => fs.rename('missing', 'a', RENAME_EXCHANGE));
  }),
  'RENAME_EXCHANGE of a directory with one below it is EINVAL': needs('exchange', async (fs) => {
    await mkdirs(fs, 'd', 'd/e', 'd/e/g');
    await fails('EINVAL', () => fs.rename('d', 'd/e', RENAME_EXCHANGE));
    await fails('EINVAL', () => fs.rename('d/e/g', 'd', RENAME_EXCHANGE));
  }),
  'RENAME_EXCHANGE of two names of one file changes nothing': needs('exchange', async (fs) => {
    await put(fs, 'a', 'content');
    await fs.link('a', 'b');
    await fs.rename('a', 'b', RENAME_EXCHANGE);
    assert.equal((await fs.stat('a')).nlink, 2);
  }),
  'RENAME_EXCHANGE of directories moves their ..': needs('exchange', async (fs) => {
    await mkdirs(fs, 'x', 'y', 'x/d', 'y/e');
    await fs.rename('x/d', 'y/e', RENAME_EXCHANGE);
    assert.equal((await fs.stat('y/e/..')).ino, (await fs.stat('y')).ino);
    assert.equal((await fs.stat('x/d/..')).ino, (await fs.stat('x')).ino);
  }),
  'RENAME_EXCHANGE with a slash after a file is ENOTDIR': needs('exchange', async (fs) => {
    await put(fs, 'f');
    await fs.mkdir('d');
    await fails('ENOTDIR', () => fs.rename('d', 'f/', RENAME_EXCHANGE));
    await fails('ENOTDIR', () => fs.rename('f/', 'd', RENAME_EXCHANGE));
  }),
  'RENAME_EXCHANGE excludes the other flags': needs('exchange', async (fs) => {
    await put(fs, 'a');
    await put(fs, 'b');
    await fails('EINVAL', () => fs.rename('a', 'b', RENAME_EXCHANGE | RENAME_NOREPLACE));
    await fails('EINVAL', () => fs.rename('a', 'b', RENAME_EXCHANGE | RENAME_WHITEOUT));
  }),
  'unknown flags are EINVAL': async (fs) => {
    await put(fs, 'a');
    await fails('EINVAL', () => fs.rename('a', 'b', 8));
    assert.ok(await isThere(fs, 'a'));
  },
  'RENAME_WHITEOUT leaves a character device 0:0 behind': needs('whiteout', async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await put(fs, 'x/a', 'content');
    await fs.rename('x/a', 'y/b', RENAME_WHITEOUT);
    const whiteout = await fs.lstat('x/a');
    assert.equal(whiteout.mode & S_IFMT, S_IFCHR);
    assert.equal(whiteout.rdev, makedev(0, 0));
    assert.equal(await textIn(fs, 'y/b'), 'content');
    await fs.unlink('x/a');
  }),
  'RENAME_WHITEOUT replaces like a plain rename': needs('whiteout', async (fs) => {
    await put(fs, 'a', 'new');
    await put(fs, 'b', 'old');
    await fs.rename('a', 'b', RENAME_WHITEOUT);
    assert.equal(await textIn(fs, 'b'), 'new');
    assert.equal((await fs.lstat('a')).mode & S_IFMT, S_IFCHR);
  }),
  'RENAME_WHITEOUT goes with RENAME_NOREPLACE': needs('whiteout', async (fs) => {
    await put(fs, 'a', 'new');
    await put(fs, 'b', 'old');
    await fails('EEXIST', () => fs.rename('a', 'b', RENAME_WHITEOUT | RENAME_NOREPLACE));
    await fs.rename('a', 'c', RENAME_WHITEOUT | RENAME_NOREPLACE);
    assert.equal(await textIn(fs, 'c'), 'new');
  }),
};
