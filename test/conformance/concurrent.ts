import assert from 'node:assert/strict';
import type { MaybePromise } from '../../src/base/task.ts';
import {
  F_WRLCK,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  XATTR_CREATE,
} from '../../src/vfs/uapi.ts';
import { Inexpressible } from '../support/posix-face.ts';
import { all, type Behaviours, bytesIn, isThere, mkdirs, namesIn, needs, pattern, put, text, textIn, withFile } from './behaviour.ts';

/** Starts all calls before any is waited for. Shape: 'ok' or the code of each, in their order. */
async function together(calls: readonly (() => MaybePromise<unknown>)[]): Promise<string[]> {
  return await Promise.all(
    calls.map(async (call) => {
      try {
        await call();
        return 'ok';
      } catch (error) {
        if (error instanceof Inexpressible) throw error;
        return (error as { code?: string }).code ?? String(error);
      }
    }),
  );
}

/** One succeeded, and all others have this code. */
function oneWins(outcomes: readonly string[], code: string): void {
  assert.deepEqual(
    [...outcomes].sort((a, b) => Number(b === 'ok') - Number(a === 'ok')),
    outcomes.map((_, i) => (i === 0 ? 'ok' : code)),
  );
}

const TEN = Array.from({ length: 10 }, (_, i) => i);

/** Calls that are on their way at once. Where a call ends before the next one begins, as in the kernel for one thread, this holds anyway. */
export const concurrent: Behaviours = {
  'of many exclusive creations of a name one wins': async (fs) => {
    oneWins(await together(TEN.map(() => async () => (await fs.open('f', O_RDWR | O_CREAT | O_EXCL)).close())), 'EEXIST');
  },
  'of many creations of a name all open the same file': async (fs) => {
    const files = await Promise.all(TEN.map(async () => fs.open('f', O_RDWR | O_CREAT)));
    const numbers = await Promise.all(files.map(async (file) => (await file.fstat()).ino));
    assert.equal(new Set(numbers).size, 1);
    for (const file of files) await file.close();
  },
  'of many mkdir of a name one wins': async (fs) => {
    oneWins(await together(TEN.map(() => () => fs.mkdir('d'))), 'EEXIST');
    assert.equal((await fs.stat('.')).nlink, 3);
  },
  'of many links to a name one wins': async (fs) => {
    for (const i of TEN) await put(fs, `f${i}`);
    oneWins(await together(TEN.map((i) => () => fs.link(`f${i}`, 'l'))), 'EEXIST');
    const counts = await Promise.all(TEN.map(async (i) => (await fs.stat(`f${i}`)).nlink));
    assert.equal(
      counts.reduce((sum, nlink) => sum + nlink, 0),
      11,
    );
  },
  'of many unlinks of a name one wins': async (fs) => {
    await put(fs, 'f');
    oneWins(await together(TEN.map(() => () => fs.unlink('f'))), 'ENOENT');
  },
  'of many rmdir of a name one wins': async (fs) => {
    await fs.mkdir('d');
    oneWins(await together(TEN.map(() => () => fs.rmdir('d'))), 'ENOENT');
    assert.equal((await fs.stat('.')).nlink, 2);
  },
  'of many renames of a name one wins': async (fs) => {
    await put(fs, 'f', 'content');
    oneWins(await together(TEN.map((i) => () => fs.rename('f', `g${i}`))), 'ENOENT');
    const [name] = await namesIn(fs, '.');
    assert.deepEqual([(await namesIn(fs, '.')).length, await textIn(fs, name ?? '')], [1, 'content']);
  },
  'of many renames to a free name without replacing one wins': async (fs) => {
    for (const i of TEN) await put(fs, `f${i}`);
    oneWins(await together(TEN.map((i) => () => fs.rename(`f${i}`, 'g', RENAME_NOREPLACE))), 'EEXIST');
    assert.equal((await namesIn(fs, '.')).length, 10);
  },
  'of many renames to a name the last one stays': async (fs) => {
    for (const i of TEN) await put(fs, `f${i}`, `content ${i}`);
    await together(TEN.map((i) => () => fs.rename(`f${i}`, 'g')));
    assert.deepEqual(await namesIn(fs, '.'), ['g']);
    assert.match(await textIn(fs, 'g'), /^content \d$/);
  },
  'two names renamed onto each other leave one': async (fs) => {
    await put(fs, 'a', 'a');
    await put(fs, 'b', 'b');
    assert.deepEqual(await together([() => fs.rename('a', 'b'), () => fs.rename('b', 'a')]), ['ok', 'ok']);
    const names = await namesIn(fs, '.');
    assert.equal(names.length, 1);
    assert.equal(await textIn(fs, names[0] ?? ''), names[0]);
  },
  'an even number of exchanges changes nothing': needs('exchange', async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await put(fs, 'x/a', 'a');
    await put(fs, 'y/b', 'b');
    await together(TEN.map(() => () => fs.rename('x/a', 'y/b', RENAME_EXCHANGE)));
    assert.deepEqual([await textIn(fs, 'x/a'), await textIn(fs, 'y/b')], ['a', 'b']);
  }),
  'two directories are not moved into each other': async (fs) => {
    await mkdirs(fs, 'x', 'y', 'x/in', 'y/in');
    const outcomes = await together([() => fs.rename('x', 'y/in/x'), () => fs.rename('y', 'x/in/y')]);
    assert.equal(outcomes.filter((outcome) => outcome === 'ok').length, 1);
    assert.ok(outcomes.includes('ENOENT') || outcomes.includes('EINVAL'));
    assert.equal((await namesIn(fs, '.')).length, 1);
  },
  'a directory is removed or takes a new name, not both': async (fs) => {
    for (const i of TEN) {
      await fs.mkdir(`d${i}`);
      const [made, removed] = await together([() => put(fs, `d${i}/f`), () => fs.rmdir(`d${i}`)]);
      if (made === 'ok') {
        assert.equal(removed, 'ENOTEMPTY');
        assert.ok(await isThere(fs, `d${i}/f`));
      } else {
        assert.deepEqual([made, removed], ['ENOENT', 'ok']);
        assert.ok(!(await isThere(fs, `d${i}`)));
      }
    }
  },
  '100 names made at once are all there': async (fs) => {
    await fs.mkdir('d');
    const names = Array.from({ length: 100 }, (_, i) => `name${String(i).padStart(3, '0')}`);
    await Promise.all(names.map((name, i) => (i % 2 === 0 ? put(fs, `d/${name}`) : fs.mkdir(`d/${name}`))));
    assert.deepEqual(await namesIn(fs, 'd'), names);
    assert.equal((await fs.stat('d')).nlink, 52);
  },
  '100 links made and removed at once are counted': async (fs) => {
    await put(fs, 'f');
    await Promise.all(Array.from({ length: 100 }, async (_, i) => fs.link('f', `l${i}`)));
    assert.equal((await fs.stat('f')).nlink, 101);
    await Promise.all(Array.from({ length: 100 }, async (_, i) => fs.unlink(`l${i}`)));
    assert.equal((await fs.stat('f')).nlink, 1);
  },
  'a name that is looked up while it is renamed is found at one of both places': async (fs) => {
    await put(fs, 'a', 'content');
    const [, a, b] = await together([() => fs.rename('a', 'b'), () => fs.stat('a'), () => fs.stat('b')]);
    assert.ok([a, b].every((outcome) => outcome === 'ok' || outcome === 'ENOENT'));
    assert.ok(!(await isThere(fs, 'a')));
    assert.equal(await textIn(fs, 'b'), 'content');
  },
  'a file opened while it is unlinked is the file, or is not there': async (fs) => {
    for (const i of TEN) {
      await put(fs, 'f', `content ${i}`);
      await together([
        () => withFile(fs, 'f', O_RDONLY, async (file) => assert.equal(text(await all(file)), `content ${i}`)),
        () => fs.unlink('f'),
      ]).then(([opened]) => assert.ok(opened === 'ok' || opened === 'ENOENT', opened));
      assert.ok(!(await isThere(fs, 'f')));
    }
  },
  'writes to parts of a file that lie apart are all there': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_RDWR, async (file) => {
      await Promise.all(TEN.map(async (i) => file.pwrite(pattern(5000, i), i * 5000)));
    });
    assert.deepEqual(Buffer.from(await bytesIn(fs, 'f')), Buffer.concat(TEN.map((i) => pattern(5000, i))));
  },
  'reads of one open file at once each have bytes of their own': async (fs) => {
    await put(fs, 'f', '0123456789');
    await withFile(fs, 'f', O_RDONLY, async (file) => {
      const pieces = await Promise.all(TEN.map(async () => text(await file.read(1))));
      assert.equal(pieces.sort().join(''), '0123456789');
    });
  },
  'writes of one open file at once each have a place of their own': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_WRONLY, async (file) => {
      await Promise.all(TEN.map(async (i) => file.write(String(i).repeat(100))));
    });
    const runs = (await textIn(fs, 'f')).match(/.{100}/g) ?? [];
    assert.deepEqual(
      runs.sort(),
      TEN.map((i) => String(i).repeat(100)),
    );
  },
  'truncations at once leave one of the sizes, and zeros': async (fs) => {
    await put(fs, 'f', pattern(20_000));
    await Promise.all(TEN.map(async (i) => fs.truncate('f', i * 3000)));
    const { size } = await fs.stat('f');
    assert.equal(size % 3000, 0);
    await fs.truncate('f', 0);
    await fs.truncate('f', 30_000);
    assert.ok((await bytesIn(fs, 'f')).every((byte) => byte === 0));
  },
  'O_TRUNC and writes at once leave a file of what was written': async (fs) => {
    await put(fs, 'f', 'xxxx');
    await together(TEN.map((i) => () => (i % 2 === 0 ? put(fs, 'f', 'yy') : withFile(fs, 'f', O_WRONLY | O_TRUNC, () => {}))));
    assert.match(await textIn(fs, 'f'), /^(yy)?$/);
  },
  'chmod and chown at once both count': async (fs) => {
    await put(fs, 'f');
    await Promise.all([fs.chmod('f', 0o640), fs.chown('f', 5, -1), fs.chown('f', -1, 6), fs.chmod('f', 0o640)]);
    const stat = await fs.stat('f');
    assert.deepEqual([stat.mode & 0o777, stat.uid, stat.gid], [0o640, 5, 6]);
  },
  'of many setxattr that create one wins': needs('xattr', async (fs) => {
    await put(fs, 'f');
    oneWins(await together(TEN.map((i) => () => fs.setxattr('f', 'user.a', String(i), XATTR_CREATE))), 'EEXIST');
  }),
  'of many write locks one wins': needs('ofdLocks', async (fs) => {
    await put(fs, 'f');
    const files = await Promise.all(TEN.map(async () => fs.open('f', O_RDWR)));
    oneWins(await together(files.map((file) => () => file.setlk('ofd', { type: F_WRLCK, start: 0, end: 9 }))), 'EAGAIN');
    for (const file of files) await file.close();
  }),
  'syncs and writes at once succeed': async (fs) => {
    await put(fs, 'f');
    await withFile(fs, 'f', O_RDWR, async (file) => {
      const calls = TEN.flatMap((i) => [() => file.pwrite(pattern(9000, i), i * 100), () => file.fsync(), () => file.fdatasync()]);
      assert.ok((await together(calls)).every((outcome) => outcome === 'ok'));
      assert.equal((await file.fstat()).size, 9900);
    });
  },
  'a listing at once with creations has what was there': async (fs) => {
    await fs.mkdir('d');
    for (const i of TEN) await put(fs, `d/old${i}`);
    const [names] = await Promise.all([namesIn(fs, 'd'), ...TEN.map((i) => put(fs, `d/new${i}`))]);
    assert.equal(names.filter((name) => name.startsWith('old')).length, 10);
    assert.equal(new Set(names).size, names.length);
  },
};
