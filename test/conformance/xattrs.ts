import assert from 'node:assert/strict';
import { O_RDONLY, O_RDWR, S_IFIFO, XATTR_CREATE, XATTR_REPLACE } from '../../src/vfs/uapi.ts';
import { ALICE, allNeed, type Behaviours, BOB, fails, needs, owned, ownedDir, pattern, put, text, withFile } from './behaviour.ts';

/** Extended attributes. */
export const xattrs: Behaviours = allNeed('xattr', {
  'a file has none at first': async (fs) => {
    await put(fs, 'f');
    assert.deepEqual(await fs.listxattr('f'), []);
    await fails('ENODATA', () => fs.getxattr('f', 'user.a'));
    await fails('ENODATA', () => fs.removexattr('f', 'user.a'));
  },
  'what is set is got and listed': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.a', 'one');
    await fs.setxattr('f', 'user.b', 'two');
    assert.equal(text(await fs.getxattr('f', 'user.a')), 'one');
    assert.deepEqual((await fs.listxattr('f')).sort(), ['user.a', 'user.b']);
  },
  'a value is replaced by a longer and by a shorter one': async (fs) => {
    await put(fs, 'f');
    for (const value of ['short', 'a much longer value than before', 's']) {
      await fs.setxattr('f', 'user.a', value);
      assert.equal(text(await fs.getxattr('f', 'user.a')), value);
    }
    assert.deepEqual(await fs.listxattr('f'), ['user.a']);
  },
  'a value may be empty, and may hold any byte': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.empty', '');
    assert.equal((await fs.getxattr('f', 'user.empty')).length, 0);
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await fs.setxattr('f', 'user.bytes', bytes);
    assert.deepEqual([...(await fs.getxattr('f', 'user.bytes'))], [...bytes]);
  },
  'removed is gone': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.a', 'x');
    await fs.setxattr('f', 'user.b', 'y');
    await fs.removexattr('f', 'user.a');
    await fails('ENODATA', () => fs.getxattr('f', 'user.a'));
    assert.deepEqual(await fs.listxattr('f'), ['user.b']);
  },
  'XATTR_CREATE of what is there is EEXIST': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.a', 'x', XATTR_CREATE);
    await fails('EEXIST', () => fs.setxattr('f', 'user.a', 'y', XATTR_CREATE));
    assert.equal(text(await fs.getxattr('f', 'user.a')), 'x');
  },
  'XATTR_REPLACE of what is not there is ENODATA': async (fs) => {
    await put(fs, 'f');
    await fails('ENODATA', () => fs.setxattr('f', 'user.a', 'x', XATTR_REPLACE));
    await fs.setxattr('f', 'user.a', 'x');
    await fs.setxattr('f', 'user.a', 'y', XATTR_REPLACE);
    assert.equal(text(await fs.getxattr('f', 'user.a')), 'y');
  },
  'unknown flags are EINVAL': async (fs) => {
    await put(fs, 'f');
    await fails('EINVAL', () => fs.setxattr('f', 'user.a', 'x', 4));
  },
  'a name has up to 255 bytes': async (fs) => {
    await put(fs, 'f');
    const name = `user.${'n'.repeat(250)}`;
    await fs.setxattr('f', name, 'x');
    assert.deepEqual(await fs.listxattr('f'), [name]);
    await fails('ERANGE', () => fs.setxattr('f', `${name}n`, 'x'));
    await fails('ERANGE', () => fs.getxattr('f', `${name}n`));
  },
  'a name of no bytes is ERANGE': async (fs) => {
    await put(fs, 'f');
    await fails('ERANGE', () => fs.setxattr('f', '', 'x'));
    await fails('ERANGE', () => fs.getxattr('f', ''));
  },
  'a name without a known prefix is EOPNOTSUPP': async (fs) => {
    await put(fs, 'f');
    await fails('EOPNOTSUPP', () => fs.setxattr('f', 'a', 'x'));
    await fails('EOPNOTSUPP', () => fs.setxattr('f', 'foo.a', 'x'));
    await fails('EOPNOTSUPP', () => fs.getxattr('f', 'foo.a'));
    await fails('EOPNOTSUPP', () => fs.removexattr('f', 'foo.a'));
  },
  'a prefix alone is EINVAL': async (fs) => {
    await put(fs, 'f');
    await fails('EINVAL', () => fs.setxattr('f', 'user.', 'x'));
  },
  'a value of more than 65536 bytes is E2BIG': async (fs) => {
    await put(fs, 'f');
    await fails('E2BIG', () => fs.setxattr('f', 'user.a', pattern(65_537)));
  },
  'a value of 2000 bytes is kept': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.a', pattern(2000));
    assert.deepEqual([...(await fs.getxattr('f', 'user.a'))], [...pattern(2000)]);
  },
  '30 attributes are kept': async (fs) => {
    await put(fs, 'f');
    for (let i = 0; i < 30; i++) await fs.setxattr('f', `user.name${i}`, `value ${i}`);
    for (let i = 0; i < 30; i += 2) await fs.removexattr('f', `user.name${i}`);
    assert.equal((await fs.listxattr('f')).length, 15);
    assert.equal(text(await fs.getxattr('f', 'user.name29')), 'value 29');
  },
  'an open file has the same ones': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_RDONLY, async (file) => {
      await file.fsetxattr('user.a', 'x', XATTR_CREATE);
      assert.equal(text(await fs.getxattr('f', 'user.a')), 'x');
      assert.equal(text(await file.fgetxattr('user.a')), 'x');
      assert.deepEqual(await file.flistxattr(), ['user.a']);
      await file.fremovexattr('user.a');
      await fails('ENODATA', () => file.fgetxattr('user.a'));
    });
  },
  'an open file without a name keeps them': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.a', 'x');
    await withFile(fs, 'f', O_RDWR, async (file) => {
      await fs.unlink('f');
      assert.equal(text(await file.fgetxattr('user.a')), 'x');
      await file.fsetxattr('user.b', 'y');
    });
  },
  'names of a file share them': async (fs) => {
    await put(fs, 'f');
    await fs.link('f', 'g');
    await fs.setxattr('f', 'user.a', 'x');
    assert.equal(text(await fs.getxattr('g', 'user.a')), 'x');
    await fs.rename('g', 'h');
    assert.equal(text(await fs.getxattr('h', 'user.a')), 'x');
  },
  'a new file of an old name has none': async (fs) => {
    await put(fs, 'f');
    await fs.setxattr('f', 'user.a', 'x');
    await fs.unlink('f');
    await put(fs, 'f');
    assert.deepEqual(await fs.listxattr('f'), []);
  },
  'a directory has some too': async (fs) => {
    await fs.mkdir('d');
    await fs.setxattr('d', 'user.a', 'x');
    assert.deepEqual(await fs.listxattr('d'), ['user.a']);
    await put(fs, 'd/f');
    assert.deepEqual(await fs.listxattr('d/f'), []);
  },
  'a link has none in user.': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fails('EPERM', () => fs.lsetxattr('l', 'user.a', 'x'));
    await fails('ENODATA', () => fs.lgetxattr('l', 'user.a'));
    await fails('EPERM', () => fs.lremovexattr('l', 'user.a'));
    assert.deepEqual(await fs.llistxattr('l'), []);
  },
  'a special file has none in user.': async (fs) => {
    await fs.mknod('p', S_IFIFO | 0o600);
    await fails('EPERM', () => fs.setxattr('p', 'user.a', 'x'));
  },
  'links are followed unless told': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.setxattr('l', 'user.a', 'x');
    assert.equal(text(await fs.getxattr('f', 'user.a')), 'x');
    assert.deepEqual(await fs.listxattr('l'), ['user.a']);
    await fs.removexattr('l', 'user.a');
    assert.deepEqual(await fs.listxattr('f'), []);
  },
  'a missing file is ENOENT': async (fs) => {
    await fails('ENOENT', () => fs.setxattr('missing', 'user.a', 'x'));
    await fails('ENOENT', () => fs.getxattr('missing', 'user.a'));
    await fails('ENOENT', () => fs.listxattr('missing'));
    await fails('ENOENT', () => fs.removexattr('missing', 'user.a'));
  },
  'user. is read and written by the permissions of the file': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o640);
    await fs.setxattr('f', 'user.a', 'x');
    await fs.as(BOB, async () => {
      await fails('EACCES', () => fs.getxattr('f', 'user.a'));
      await fails('EACCES', () => fs.setxattr('f', 'user.a', 'y'));
      await fails('EACCES', () => fs.removexattr('f', 'user.a'));
      assert.deepEqual(await fs.listxattr('f'), ['user.a']);
    });
    await fs.as(ALICE, () => fs.setxattr('f', 'user.a', 'y'));
    await fs.chmod('f', 0o444);
    await fs.as(ALICE, async () => {
      assert.equal(text(await fs.getxattr('f', 'user.a')), 'y');
      await fails('EACCES', () => fs.setxattr('f', 'user.a', 'z'));
    });
  }),
  'user. of a sticky directory is written by its owner': needs('users', async (fs) => {
    await ownedDir(fs, 'd', ALICE, 0o1777);
    await fs.as(BOB, () => fails('EPERM', () => fs.setxattr('d', 'user.a', 'x')));
    await fs.as(ALICE, () => fs.setxattr('d', 'user.a', 'x'));
  }),
  'trusted. is for root': needs(['trustedXattr', 'users'], async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.setxattr('f', 'trusted.a', 'x');
    assert.equal(text(await fs.getxattr('f', 'trusted.a')), 'x');
    assert.deepEqual(await fs.listxattr('f'), ['trusted.a']);
    await fs.as(ALICE, async () => {
      await fails('ENODATA', () => fs.getxattr('f', 'trusted.a'));
      await fails('EPERM', () => fs.setxattr('f', 'trusted.a', 'y'));
      await fails('EPERM', () => fs.removexattr('f', 'trusted.a'));
      assert.deepEqual(await fs.listxattr('f'), []);
    });
  }),
  'trusted. is on links and special files too': needs('trustedXattr', async (fs) => {
    await fs.symlink('nowhere', 'l');
    await fs.mknod('p', S_IFIFO | 0o600);
    await fs.lsetxattr('l', 'trusted.a', 'x');
    await fs.setxattr('p', 'trusted.a', 'y');
    assert.equal(text(await fs.lgetxattr('l', 'trusted.a')), 'x');
    assert.equal(text(await fs.getxattr('p', 'trusted.a')), 'y');
  }),
  'security. is read by everybody and written by root': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.setxattr('f', 'security.test', 'x');
    await fs.as(ALICE, async () => {
      assert.equal(text(await fs.getxattr('f', 'security.test')), 'x');
      await fails('EPERM', () => fs.setxattr('f', 'security.test', 'y'));
    });
  }),
});
