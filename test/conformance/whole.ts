import assert from 'node:assert/strict';
import { O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, R_OK, S_IFIFO, W_OK } from '../../src/vfs/uapi.ts';
import type { PosixFace } from '../support/posix-face.ts';
import { type Behaviour, type Behaviours, fails, mkdirs, needs, OLD, pattern, put, text, textIn, withFile } from './behaviour.ts';

/** Runs where everything is read-only: 'd' with the file 'd/f', a directory 'd/e', a link 'd/l' and a FIFO 'd/p'. */
const readOnly = (use: (fs: PosixFace) => unknown): Behaviour =>
  needs('remount', async (fs) => {
    await mkdirs(fs, 'd', 'd/e');
    await put(fs, 'd/f', 'content');
    await fs.symlink('f', 'd/l');
    await fs.mknod('d/p', S_IFIFO | 0o600);
    await fs.utimens('d/f', OLD, OLD);
    await fs.remount(true);
    try {
      await use(fs);
    } finally {
      await fs.remount(false);
    }
  });

/** The file system as a whole: its figures, and what it refuses while it is read-only. */
export const whole: Behaviours = {
  'statfs has figures that fit together': async (fs) => {
    const stat = await fs.statfs('.');
    assert.ok(stat.type > 0);
    assert.ok(stat.bsize >= 512 && Number.isInteger(Math.log2(stat.bsize)));
    assert.ok(stat.blocks > 0 && stat.bfree <= stat.blocks && stat.bavail <= stat.bfree);
    assert.ok(stat.ffree <= stat.files);
    assert.equal(stat.namelen, 255);
  },
  'statfs says the same of every file': async (fs) => {
    await put(fs, 'f');
    await fs.mkdir('d');
    const [one, two, three] = [await fs.statfs('.'), await fs.statfs('f'), await fs.statfs('d')];
    assert.deepEqual([two.type, two.blocks, two.bsize], [one.type, one.blocks, one.bsize]);
    assert.equal(three.type, one.type);
  },
  'statfs of a missing file is ENOENT': (fs) => fails('ENOENT', () => fs.statfs('missing')),
  'statfs tells that space is taken and given back': async (fs) => {
    const size = 4 * 1024 * 1024;
    const before = await fs.statfs('.');
    await put(fs, 'f', pattern(size));
    await withFile(fs, 'f', O_RDWR, (file) => file.fsync());
    const full = await fs.statfs('.');
    assert.ok((before.bfree - full.bfree) * full.bsize >= size / 2);
    assert.ok((await fs.stat('f')).blocks * 512 >= size);
  },
  'blksize is a power of two': async (fs) => {
    await put(fs, 'f');
    const { blksize } = await fs.stat('f');
    assert.ok(blksize >= 512 && Number.isInteger(Math.log2(blksize)));
  },
  'inode numbers differ and stay': async (fs) => {
    const seen = new Set<number>();
    for (let i = 0; i < 50; i++) {
      await put(fs, `f${i}`);
      seen.add((await fs.stat(`f${i}`)).ino);
    }
    assert.equal(seen.size, 50);
    const { ino } = await fs.stat('f7');
    await fs.rename('f7', 'moved');
    await fs.chmod('moved', 0o600);
    assert.equal((await fs.stat('moved')).ino, ino);
  },
  'read-only: files are read, listed and looked at': readOnly(async (fs) => {
    assert.equal(await textIn(fs, 'd/f'), 'content');
    assert.equal(await fs.readlink('d/l'), 'f');
    await fs.access('d/f', R_OK);
    await withFile(fs, 'd', O_RDONLY, async (dir) => assert.equal((await dir.getdents()).length, 4));
  }),
  'read-only: opening for writing is EROFS': readOnly(async (fs) => {
    await fails('EROFS', () => fs.open('d/f', O_WRONLY));
    await fails('EROFS', () => fs.open('d/f', O_RDWR));
    await fails('EROFS', () => fs.open('d/f', O_RDONLY | O_TRUNC));
    await fails('EROFS', () => fs.open('d/new', O_RDWR | O_CREAT));
    await withFile(fs, 'd/f', O_RDONLY | O_CREAT, async (file) => assert.equal(text(await file.read(3)), 'con'));
  }),
  'read-only: new names are EROFS': readOnly(async (fs) => {
    await fails('EROFS', () => fs.mkdir('d/new'));
    await fails('EROFS', () => fs.symlink('t', 'd/new'));
    await fails('EROFS', () => fs.link('d/f', 'd/new'));
    await fails('EROFS', () => fs.mknod('d/new', S_IFIFO | 0o600));
    await fails('EROFS', () => fs.rename('d/f', 'd/new'));
  }),
  'read-only: removal is EROFS': readOnly(async (fs) => {
    await fails('EROFS', () => fs.unlink('d/f'));
    await fails('EROFS', () => fs.rmdir('d/e'));
  }),
  'read-only: a name that is taken is EEXIST, one that is missing EROFS or ENOENT': readOnly(async (fs) => {
    await fails('EEXIST', () => fs.mkdir('d/e'));
    await fails('EEXIST', () => fs.symlink('t', 'd/f'));
    await fails('ENOENT', () => fs.open('d/missing', O_RDONLY));
  }),
  'read-only: attributes are EROFS': readOnly(async (fs) => {
    await fails('EROFS', () => fs.chmod('d/f', 0o600));
    await fails('EROFS', () => fs.chown('d/f', 5, 5));
    await fails('EROFS', () => fs.utimens('d/f', OLD, OLD));
    await fails('EROFS', () => fs.truncate('d/f', 0));
    await withFile(fs, 'd/f', O_RDONLY, async (file) => {
      await fails('EROFS', () => file.fchmod(0o600));
      await fails('EROFS', () => file.futimens(OLD, OLD));
    });
  }),
  'read-only: extended attributes are EROFS': needs(
    'xattr',
    readOnly(async (fs) => {
      await fails('EROFS', () => fs.setxattr('d/f', 'user.a', 'x'));
      await fails('EROFS', () => fs.removexattr('d/f', 'user.a'));
      await fails('ENODATA', () => fs.getxattr('d/f', 'user.a'));
    }),
  ),
  'read-only: access tells so of files and directories, not of special files': readOnly(async (fs) => {
    await fails('EROFS', () => fs.access('d/f', W_OK));
    await fails('EROFS', () => fs.access('d', W_OK));
    await fs.access('d/p', W_OK);
  }),
  'read-only: reading leaves atime': readOnly(async (fs) => {
    await textIn(fs, 'd/f');
    assert.equal((await fs.stat('d/f')).atime, OLD.sec);
  }),
};
