import assert from 'node:assert/strict';
import { O_DIRECTORY, O_RDONLY, O_RDWR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from '../../src/vfs/uapi.ts';
import type { PosixDirent, PosixFile } from '../support/posix-face.ts';
import { type Behaviours, fails, isThere, mkdirs, namesIn, OLD, put, withFile } from './behaviour.ts';

/** What is left of a listing, `count` at a time. */
async function rest(dir: PosixFile, count?: number): Promise<PosixDirent[]> {
  const found: PosixDirent[] = [];
  for (;;) {
    const some = await dir.getdents(count);
    if (some.length === 0) return found;
    if (count !== undefined) assert.ok(some.length <= count);
    found.push(...some);
  }
}

const sorted = (entries: readonly PosixDirent[]) => entries.map(({ name }) => name).sort();

const range = (count: number) => Array.from({ length: count }, (_, i) => `name${String(i).padStart(4, '0')}`);

/** Directories: making, removing, listing. */
export const directories: Behaviours = {
  'mkdir makes an empty directory of two links': async (fs) => {
    await fs.mkdir('d', 0o755);
    const stat = await fs.stat('d');
    assert.equal(stat.mode, S_IFDIR | 0o755);
    assert.equal(stat.nlink, 2);
    assert.deepEqual(await namesIn(fs, 'd'), []);
  },
  'a directory has a link for each directory in it': async (fs) => {
    await mkdirs(fs, 'd', 'd/a', 'd/b', 'd/c');
    await put(fs, 'd/f');
    assert.equal((await fs.stat('d')).nlink, 5);
    await fs.rmdir('d/b');
    assert.equal((await fs.stat('d')).nlink, 4);
  },
  'mkdir of a name that is taken is EEXIST': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'f');
    await fails('EEXIST', () => fs.mkdir('d'));
    await fails('EEXIST', () => fs.mkdir('f'));
  },
  'mkdir marks mtime and ctime of the parent': async (fs) => {
    await fs.mkdir('d');
    await fs.utimens('d', OLD, OLD);
    await fs.mkdir('d/e');
    const stat = await fs.stat('d');
    assert.notEqual(stat.mtime, OLD.sec);
    assert.ok(stat.ctime >= stat.mtime);
  },
  'rmdir removes an empty directory': async (fs) => {
    await fs.mkdir('d');
    await fs.rmdir('d');
    assert.ok(!(await isThere(fs, 'd')));
  },
  'rmdir takes a slash': async (fs) => {
    await fs.mkdir('d');
    await fs.rmdir('d/');
    assert.ok(!(await isThere(fs, 'd')));
  },
  'rmdir of a directory that is not empty is ENOTEMPTY': async (fs) => {
    await mkdirs(fs, 'd', 'd/e', 'g', 'h');
    await put(fs, 'g/f');
    await fs.symlink('nowhere', 'h/l');
    for (const path of ['d', 'g', 'h']) await fails('ENOTEMPTY', () => fs.rmdir(path));
    await fs.rmdir('d/e');
    await fs.rmdir('d');
  },
  'rmdir of a file is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.rmdir('f'));
    await fails('ENOTDIR', () => fs.rmdir('f/'));
  },
  'rmdir marks mtime of the parent': async (fs) => {
    await mkdirs(fs, 'd', 'd/e');
    await fs.utimens('d', OLD, OLD);
    await fs.rmdir('d/e');
    assert.notEqual((await fs.stat('d')).mtime, OLD.sec);
  },
  'a removed directory that is open has no links and lists ENOENT': async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      await fs.rmdir('d');
      const stat = await dir.fstat();
      assert.equal(stat.nlink, 0);
      assert.equal(stat.mode & S_IFDIR, S_IFDIR);
      await fails('ENOENT', () => dir.getdents());
    });
  },
  'a removed directory that is open is another than the new one of its name': async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      await fs.rmdir('d');
      await fs.mkdir('d');
      await put(fs, 'd/f');
      assert.notEqual((await dir.fstat()).ino, (await fs.stat('d')).ino);
      await fails('ENOENT', () => dir.getdents());
    });
  },
  'a listing has every name once, with inode and type': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/file');
    await fs.mkdir('d/dir');
    await fs.symlink('nowhere', 'd/link');
    await fs.mknod('d/fifo', S_IFIFO | 0o600);
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      const found = await rest(dir);
      assert.deepEqual(sorted(found), ['dir', 'fifo', 'file', 'link']);
      const types: Record<string, number> = { dir: S_IFDIR, fifo: S_IFIFO, file: S_IFREG, link: S_IFLNK };
      for (const { name, ino, type } of found) {
        assert.equal(ino, (await fs.lstat(`d/${name}`)).ino);
        if (type !== 0) assert.equal(type, types[name], name);
      }
    });
  },
  'an empty directory lists nothing': async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      assert.deepEqual(await dir.getdents(), []);
      assert.deepEqual(await dir.getdents(), []);
    });
  },
  'a listing of a file is ENOTDIR': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_RDONLY, (file) => fails('ENOTDIR', () => file.getdents()));
  },
  '1000 names are listed, in pieces too': async (fs) => {
    await fs.mkdir('d');
    const names = range(1000);
    for (const name of names) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      assert.deepEqual(sorted(await rest(dir)), names);
      await dir.seekdir(0);
      assert.deepEqual(sorted(await rest(dir, 7)), names);
    });
  },
  '1000 directories are counted, and gone when removed': async (fs) => {
    await fs.mkdir('d');
    for (const name of range(1000)) await fs.mkdir(`d/${name}`);
    assert.equal((await fs.stat('d')).nlink, 1002);
    for (const name of range(1000)) await fs.rmdir(`d/${name}`);
    assert.equal((await fs.stat('d')).nlink, 2);
    await fs.rmdir('d');
  },
  'names of 255 bytes are listed by the hundred': async (fs) => {
    await fs.mkdir('d');
    const names = range(300).map((name) => name.padEnd(255, 'x'));
    for (const name of names) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, async (dir) => assert.deepEqual(sorted(await rest(dir, 11)), names));
  },
  'a listing goes on where another of the same directory has nothing to say': async (fs) => {
    await fs.mkdir('d');
    const names = range(50);
    for (const name of names) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, (one) =>
      withFile(fs, 'd', O_RDONLY, async (two) => {
        const [first, second] = [await one.getdents(10), await two.getdents(3)];
        assert.deepEqual(sorted([...first, ...(await rest(one))]), names);
        assert.deepEqual(sorted([...second, ...(await rest(two))]), names);
      }),
    );
  },
  'a position leads back to the name after it': async (fs) => {
    await fs.mkdir('d');
    for (const name of range(100)) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      const found = await rest(dir, 9);
      for (const i of [0, 13, 50, 98]) {
        await dir.seekdir(found[i]!.next);
        assert.equal((await dir.getdents(1))[0]?.name, found[i + 1]?.name);
      }
      await dir.seekdir(found[99]!.next);
      assert.deepEqual(await dir.getdents(), []);
    });
  },
  'a position is good in a later listing': async (fs) => {
    await fs.mkdir('d');
    for (const name of range(100)) await put(fs, `d/${name}`);
    const found = await withFile(fs, 'd', O_RDONLY, (dir) => rest(dir));
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      await dir.seekdir(found[41]!.next);
      assert.deepEqual(sorted(await rest(dir)), sorted(found.slice(42)));
    });
  },
  'names that stay are listed once while others go': async (fs) => {
    await fs.mkdir('d');
    const names = range(200);
    for (const name of names) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      const seen = await dir.getdents(50);
      const stay = names.filter((_, i) => i % 2 === 0);
      for (const name of names) if (!stay.includes(name)) await fs.unlink(`d/${name}`);
      const found = sorted([...seen, ...(await rest(dir, 50))]);
      assert.equal(new Set(found).size, found.length);
      assert.deepEqual(
        stay.filter((name) => !found.includes(name)),
        [],
      );
    });
  },
  'names that stay are listed once while others come': async (fs) => {
    await fs.mkdir('d');
    const names = range(200);
    for (const name of names) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      const seen = await dir.getdents(50);
      for (const name of names) await put(fs, `d/later-${name}`);
      const found = sorted([...seen, ...(await rest(dir, 50))]);
      assert.equal(new Set(found).size, found.length);
      assert.deepEqual(
        names.filter((name) => !found.includes(name)),
        [],
      );
    });
  },
  'a listing that removes as it goes removes all': async (fs) => {
    await fs.mkdir('d');
    for (const name of range(300)) await put(fs, `d/${name}`);
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      for (let some = await dir.getdents(10); some.length > 0; some = await dir.getdents(10)) {
        for (const { name } of some) await fs.unlink(`d/${name}`);
      }
    });
    await fs.rmdir('d');
  },
  'a listing from the beginning shows what came since': async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      assert.deepEqual(await rest(dir), []);
      await put(fs, 'd/new');
      await dir.seekdir(0);
      assert.deepEqual(sorted(await rest(dir)), ['new']);
    });
  },
  'a name that is listed again after removal is the new file': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/f');
    await fs.unlink('d/f');
    await fs.mkdir('d/f');
    await withFile(fs, 'd', O_RDONLY | O_DIRECTORY, async (dir) => {
      const [entry] = await rest(dir);
      assert.equal(entry?.ino, (await fs.stat('d/f')).ino);
      assert.ok(entry?.type === 0 || entry?.type === S_IFDIR);
    });
  },
  'a directory is synced': async (fs) => {
    await fs.mkdir('d');
    await put(fs, 'd/f');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      await dir.fsync();
      await dir.fdatasync();
    });
  },
  'a directory has attributes by its open file': async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, async (dir) => {
      await dir.fchmod(0o700);
      await dir.fchown(5, 6);
      await dir.futimens(OLD, OLD);
    });
    const stat = await fs.stat('d');
    assert.deepEqual([stat.mode, stat.uid, stat.gid, stat.mtime], [S_IFDIR | 0o700, 5, 6, OLD.sec]);
  },
  'a file and a directory never take each other for their own': async (fs) => {
    await put(fs, 'f');
    await fs.unlink('f');
    await fs.mkdir('f');
    await fails('EISDIR', () => fs.open('f', O_RDWR));
    await fs.rmdir('f');
    await put(fs, 'f');
    await fails('ENOTDIR', () => fs.open('f', O_RDONLY | O_DIRECTORY));
  },
};
