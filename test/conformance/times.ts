import assert from 'node:assert/strict';
import { O_APPEND, O_CREAT, O_NOATIME, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from '../../src/vfs/uapi.ts';
import type { PosixFace, PosixStat } from '../support/posix-face.ts';
import { type Behaviour, type Behaviours, fails, mkdirs, moved, needs, OLD, put, withFile } from './behaviour.ts';

const nsOf = (stat: PosixStat, which: 'atime' | 'mtime' | 'ctime') => BigInt(stat[which]) * 1_000_000_000n + BigInt(stat[`${which}Nsec`]);

/**
 * Which of atime, mtime and ctime of `path` an action moves. atime and mtime stand in the past before, and ctime is watched until the clock
 * of the filesystem, which ticks, has gone on.
 */
async function movedBy(fs: PosixFace, path: string, act: () => unknown): Promise<string> {
  await fs.utimens(path, OLD, OLD);
  const before = await fs.lstat(path);
  await nextTick(fs, before);
  await act();
  return moved(before, await fs.lstat(path));
}

/** Waits until a new file would get a later ctime than this one has: at most some milliseconds, the tick of the kernel's coarse clock. */
async function nextTick(fs: PosixFace, stat: PosixStat): Promise<void> {
  for (let i = 0; ; i++) {
    await put(fs, 'clock', String(i));
    await fs.chmod('clock', 0o600 + (i % 8));
    if (nsOf(await fs.stat('clock'), 'ctime') > nsOf(stat, 'ctime')) return;
    assert.ok(i < 100_000, 'the clock of the filesystem stands still');
  }
}

const moves =
  (expected: string, act: (fs: PosixFace) => unknown, content = 'content'): Behaviour =>
  async (fs) => {
    await put(fs, 'f', content);
    assert.equal(await movedBy(fs, 'f', () => act(fs)), expected);
  };

const dirMoves =
  (expected: string, act: (fs: PosixFace) => unknown): Behaviour =>
  async (fs) => {
    await mkdirs(fs, 'd', 'd/sub');
    await put(fs, 'd/file', 'content');
    await put(fs, 'outside');
    assert.equal(await movedBy(fs, 'd', () => act(fs)), expected);
  };

const FAR = { sec: 4_000_000_000, nsec: 250_000_000 }; // a part that a double holds exactly, as OLD has

/** atime, mtime and ctime: which moves when, and what they can hold. */
export const times: Behaviours = {
  'write moves mtime and ctime': moves('mtime ctime', (fs) => withFile(fs, 'f', O_WRONLY, (file) => file.write('x'))),
  'an append moves mtime and ctime': moves('mtime ctime', (fs) => withFile(fs, 'f', O_WRONLY | O_APPEND, (file) => file.write('x'))),
  'a write of nothing moves nothing': moves('', (fs) => withFile(fs, 'f', O_WRONLY, (file) => file.write(''))),
  'open and close move nothing': moves('', (fs) => withFile(fs, 'f', O_RDWR | O_CREAT, () => {})),
  'O_TRUNC moves mtime and ctime': moves('mtime ctime', (fs) => withFile(fs, 'f', O_WRONLY | O_TRUNC, () => {})),
  'O_TRUNC of an empty file moves mtime and ctime': moves('mtime ctime', (fs) => withFile(fs, 'f', O_WRONLY | O_TRUNC, () => {}), ''),
  'truncate moves mtime and ctime': moves('mtime ctime', (fs) => fs.truncate('f', 3)),
  'ftruncate to the size that it has moves mtime and ctime': moves('mtime ctime', (fs) =>
    withFile(fs, 'f', O_WRONLY, (file) => file.ftruncate(7)),
  ),
  'chmod moves ctime': moves('ctime', (fs) => fs.chmod('f', 0o600)),
  'chmod to the same mode moves ctime': moves('ctime', (fs) => fs.chmod('f', 0o644)),
  'chown moves ctime': moves('ctime', (fs) => fs.chown('f', 5, 5)),
  'link and unlink move ctime': moves('ctime', async (fs) => {
    await fs.link('f', 'g');
    await fs.unlink('g');
  }),
  'rename moves ctime': moves('ctime', async (fs) => {
    await fs.rename('f', 'g');
    await fs.rename('g', 'f');
  }),
  'stat, access and readlink move nothing': moves('', async (fs) => {
    await fs.symlink('f', 'l');
    await fs.stat('f');
    await fs.access('l', 4);
    await fs.readlink('l');
  }),
  'setxattr moves ctime': needs(
    'xattr',
    moves('ctime', (fs) => fs.setxattr('f', 'user.a', 'x')),
  ),
  'fallocate moves mtime and ctime': needs(
    'fallocate',
    moves('mtime ctime', (fs) => withFile(fs, 'f', O_WRONLY, (file) => file.fallocate(0, 0, 10_000))),
  ),
  'punching moves mtime and ctime': needs(
    'punch',
    moves('mtime ctime', (fs) => withFile(fs, 'f', O_WRONLY, (file) => file.fallocate(3, 0, 3))),
  ),
  'copy_file_range moves mtime and ctime of the copy': needs(
    'copyRange',
    moves('mtime ctime', async (fs) => {
      await put(fs, 'source', 'some content');
      await withFile(fs, 'source', O_RDONLY, (from) => withFile(fs, 'f', O_WRONLY, (to) => from.copyFileRange(0, to, 0, 5)));
    }),
  ),
  'reading moves an atime that is older than mtime': needs('atime', async (fs) => {
    await put(fs, 'f', 'content');
    await fs.utimens('f', OLD, { ...OLD, sec: OLD.sec + 1 });
    const before = await fs.stat('f');
    await withFile(fs, 'f', O_RDONLY, (file) => file.read(3));
    assert.equal(moved(before, await fs.stat('f')), 'atime');
  }),
  'reading moves an atime that is a day old': needs(
    'atime',
    moves('atime', (fs) => withFile(fs, 'f', O_RDONLY, (file) => file.read(3))),
  ),
  'reading leaves an atime that is newer than mtime and ctime': needs('atime', async (fs) => {
    await put(fs, 'f', 'content');
    await fs.utimens('f', { sec: 2_100_000_000, nsec: 0 }, OLD);
    const before = await fs.stat('f');
    await withFile(fs, 'f', O_RDONLY, (file) => file.read(3));
    assert.equal(moved(before, await fs.stat('f')), '');
  }),
  'reading with O_NOATIME moves nothing': moves('', (fs) => withFile(fs, 'f', O_RDONLY | O_NOATIME, (file) => file.read(3))),
  'reading at the end moves atime too': needs(
    'atime',
    moves('atime', (fs) => withFile(fs, 'f', O_RDONLY, (file) => file.pread(3, 100))),
  ),
  'listing moves atime of a directory': needs(
    'atime',
    dirMoves('atime', (fs) => withFile(fs, 'd', O_RDONLY, (dir) => dir.getdents())),
  ),
  'following a link moves its atime': needs('atime', async (fs) => {
    await put(fs, 'f', 'content');
    await fs.symlink('f', 'l');
    await fs.lutimens('l', OLD, OLD);
    const before = await fs.lstat('l');
    await fs.stat('l');
    assert.equal(moved(before, await fs.lstat('l')), 'atime');
  }),
  'a new file moves mtime and ctime of its directory': dirMoves('mtime ctime', (fs) => put(fs, 'd/new')),
  'a new directory, link or name does as well': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'f');
    assert.equal(await movedBy(fs, 'd', () => fs.mkdir('d/a')), 'mtime ctime');
    assert.equal(await movedBy(fs, 'd', () => fs.symlink('t', 'd/b')), 'mtime ctime');
    assert.equal(await movedBy(fs, 'd', () => fs.link('f', 'd/c')), 'mtime ctime');
    assert.equal(await movedBy(fs, 'd', () => fs.mknod('d/e', 0o010600)), 'mtime ctime');
  },
  'a removed name moves mtime and ctime of its directory': dirMoves('mtime ctime', (fs) => fs.unlink('d/file')),
  'a removed directory moves mtime and ctime of its parent': dirMoves('mtime ctime', (fs) => fs.rmdir('d/sub')),
  'a rename within moves mtime and ctime of the directory': dirMoves('mtime ctime', (fs) => fs.rename('d/file', 'd/other')),
  'a rename to elsewhere moves mtime and ctime of the directory': dirMoves('mtime ctime', (fs) => fs.rename('d/file', 'moved')),
  'a rename from elsewhere moves mtime and ctime of the directory': dirMoves('mtime ctime', (fs) => fs.rename('outside', 'd/moved')),
  'opening, writing and chmod of a file leave its directory': dirMoves('', async (fs) => {
    await withFile(fs, 'd/file', O_RDWR | O_CREAT, (file) => file.write('x'));
    await fs.chmod('d/file', 0o600);
    await fs.truncate('d/file', 0);
  }),
  'what fails moves nothing': dirMoves('', async (fs) => {
    await fails('ENOENT', () => fs.unlink('d/missing'));
    await fails('EEXIST', () => fs.mkdir('d/sub'));
    await fails('ENOTEMPTY', () => fs.rmdir('d'));
    await fails('EISDIR', () => fs.rename('d/file', 'd/sub'));
  }),
  'a new file has the three times of its making': async (fs) => {
    await put(fs, 'before');
    await nextTick(fs, await fs.stat('before'));
    const file = await fs.open('f', O_WRONLY | O_CREAT);
    const stat = await file.fstat();
    assert.equal(nsOf(stat, 'atime'), nsOf(stat, 'mtime'));
    assert.equal(nsOf(stat, 'mtime'), nsOf(stat, 'ctime'));
    assert.ok(nsOf(stat, 'ctime') > nsOf(await fs.stat('before'), 'ctime'));
    await file.close();
  },
  'utimensat sets both times and moves ctime': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', OLD, FAR);
    const stat = await fs.stat('f');
    assert.deepEqual([stat.atime, stat.atimeNsec, stat.mtime, stat.mtimeNsec], [OLD.sec, OLD.nsec, FAR.sec, FAR.nsec]);
    await nextTick(fs, stat);
    await fs.utimens('f', OLD, FAR);
    assert.equal(moved(stat, await fs.stat('f')), 'ctime');
  },
  'utimensat leaves what it is told to omit': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', OLD, OLD);
    await fs.utimens('f', 'omit', FAR);
    const stat = await fs.stat('f');
    assert.deepEqual([stat.atime, stat.mtime], [OLD.sec, FAR.sec]);
    await nextTick(fs, stat);
    await fs.utimens('f', 'omit', 'omit');
    assert.equal(moved(stat, await fs.stat('f')), '');
  },
  'utimensat sets one to now and one to a moment': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', OLD, 'now');
    const stat = await fs.stat('f');
    assert.equal(stat.atime, OLD.sec);
    assert.equal(nsOf(stat, 'mtime'), nsOf(stat, 'ctime'));
  },
  'utimensat of a link follows it, or not': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.lutimens('l', OLD, OLD);
    assert.equal((await fs.lstat('l')).mtime, OLD.sec);
    assert.notEqual((await fs.stat('f')).mtime, OLD.sec);
    await fs.utimens('l', FAR, FAR);
    assert.equal((await fs.stat('f')).mtime, FAR.sec);
    assert.equal((await fs.lstat('l')).mtime, OLD.sec);
  },
  'futimens sets times of an open file, also one opened for reading': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_RDONLY, (file) => file.futimens(OLD, FAR));
    assert.equal((await fs.stat('f')).mtimeNsec, FAR.nsec);
  },
  'times are kept to the nanosecond': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', { sec: 1_234_567_890, nsec: 1 }, { sec: 1_234_567_890, nsec: 999_999_999 });
    const stat = await fs.stat('f');
    assert.deepEqual([stat.atimeNsec, stat.mtimeNsec], [1, 999_999_999]);
  },
  'times before 1970 are kept': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', { sec: -1, nsec: 500_000_000 }, { sec: -1_000_000_000, nsec: 250_000_000 });
    const stat = await fs.stat('f');
    assert.deepEqual([stat.atime, stat.atimeNsec, stat.mtime, stat.mtimeNsec], [-1, 500_000_000, -1_000_000_000, 250_000_000]);
  },
  'times after 2038 and after 2106 are kept': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', { sec: 2 ** 31, nsec: 500_000_000 }, { sec: 2 ** 32 + 5, nsec: 125_000_000 });
    const stat = await fs.stat('f');
    assert.deepEqual([stat.atime, stat.mtime, stat.mtimeNsec], [2 ** 31, 2 ** 32 + 5, 125_000_000]);
  },
  'the moment zero is a time like any other': async (fs) => {
    await put(fs, 'f');
    await fs.utimens('f', { sec: 0, nsec: 0 }, { sec: 0, nsec: 0 });
    const stat = await fs.stat('f');
    assert.deepEqual([stat.atime, stat.mtime, stat.mtimeNsec], [0, 0, 0]);
  },
  'nanoseconds of a second or more are EINVAL': async (fs) => {
    await put(fs, 'f');
    for (const nsec of [1_000_000_000, -1]) await fails('EINVAL', () => fs.utimens('f', { sec: 0, nsec }, OLD));
  },
};
