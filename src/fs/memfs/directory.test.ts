import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { Directory } from './directory.ts';
import type { MemInode } from './mem-inode.ts';

const inode = {} as MemInode;

/** Lists to the end in pieces; `between` runs after each. */
function listAll(directory: Directory, count: number, between: () => void = () => {}): string[] {
  const names: string[] = [];
  for (let cookie = 0; ; ) {
    const entries = directory.list(cookie, count);
    if (entries.length === 0) return names;
    for (const entry of entries) {
      names.push(entry.name);
      cookie = entry.cookie;
    }
    between();
  }
}

test('names are listed in the order in which they came', () => {
  const directory = new Directory(undefined);
  for (const name of ['z', 'a', 'm']) directory.set(name, inode);
  assert.deepEqual(listAll(directory, 2), ['z', 'a', 'm']);
  assert.equal(directory.count, 3);
});

test('a name that is made to lead elsewhere keeps its place', () => {
  const directory = new Directory(undefined);
  const other = {} as MemInode;
  directory.set('a', inode);
  directory.set('b', inode);
  directory.set('a', other);
  assert.deepEqual(listAll(directory, 10), ['a', 'b']);
  assert.equal(directory.get('a'), other);
});

test('a name that was removed and made again comes behind the others', () => {
  const directory = new Directory(undefined);
  directory.set('a', inode);
  directory.set('b', inode);
  directory.remove('a');
  directory.remove('never there');
  directory.set('a', inode);
  assert.deepEqual(listAll(directory, 1), ['b', 'a']);
});

test('while names come and go, every name that stays is listed exactly once', () =>
  forEachSeed('listing', 20, (prng) => {
    const directory = new Directory(undefined);
    const stays = new Set<string>();
    for (let i = 0; i < 300; i++) directory.set(`${i}`, inode);
    for (let i = 0; i < 300; i++) if (prng.chance(0.4)) stays.add(`${i}`);
    let made = 300;
    const seen = listAll(directory, prng.between(1, 20), () => {
      for (let i = prng.below(20); i > 0; i--) {
        const name = `${prng.below(made)}`;
        if (!stays.has(name)) directory.remove(name);
      }
      if (made < 1000) for (let i = prng.below(10); i > 0; i--) directory.set(`${made++}`, inode);
    });
    assert.equal(new Set(seen).size, seen.length, 'a name came twice');
    for (const name of stays) assert.ok(seen.includes(name), `${name} is missing`);
  }));

test('going on in a directory of 100,000 names looks at few of them', () => {
  const directory = new Directory(undefined);
  for (let i = 0; i < 100_000; i++) directory.set(`${i}`, inode);
  for (let i = 0; i < 60_000; i++) directory.remove(`${i}`);
  assert.deepEqual(
    directory.list(99_998, 10).map(({ name }) => name),
    ['99998', '99999'],
  );
  assert.equal(listAll(directory, 7).length, 40_000);
});
