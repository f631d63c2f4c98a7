import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { sourceOf } from './source.ts';
import { UsageError } from './usage-error.ts';

test('mem: takes a size with a suffix and a number of inodes', () => {
  assert.deepEqual(sourceOf('mem:', undefined, 'mount').args, {});
  assert.deepEqual(sourceOf('mem:size=3m,inodes=10', undefined, 'mount').args, { bytes: 3 * 2 ** 20, inodes: 10 });
  assert.deepEqual(sourceOf('mem:size=1G', undefined, 'mount').args, { bytes: 2 ** 30 });
});

test('mirror: takes a directory, and holds no written data back', () => {
  const { args, fsname, options } = sourceOf('mirror:/srv/x', undefined, 'mount');
  assert.deepEqual(args, { directory: '/srv/x' });
  assert.equal(fsname, 'mirror:/srv/x');
  assert.equal(options.writebackCache, false);
});

test('a path is a module below the working directory, and a URL is itself', () => {
  const { url, fsname } = sourceOf('some/fs.js', undefined, 'mount');
  assert.equal(url, pathToFileURL(`${process.cwd()}/some/fs.js`).href);
  assert.match(fsname, /\/some\/fs\.js$|^iomap$/);
  assert.equal(sourceOf('file:///x/fs.js', undefined, 'mount').url, 'file:///x/fs.js');
});

test('a name that the mount table cannot show becomes iomap', () => {
  assert.equal(sourceOf('/some where/fs.js', undefined, 'mount').fsname, 'iomap');
});

test('--args is JSON for modules', () => {
  assert.deepEqual(sourceOf('fs.js', '{"a":[1]}', 'mount').args, { a: [1] });
  assert.throws(() => sourceOf('fs.js', '{', 'mount'), UsageError);
  assert.throws(() => sourceOf('mem:', '{}', 'mount'), UsageError);
});

test('what is no source is refused', () => {
  for (const text of [
    '',
    'mem:size',
    'mem:size=',
    'mem:size=0',
    'mem:size=1x',
    'mem:size=9000000t',
    'mem:bogus=1',
    'mem:size=1,,',
    'http://x/',
  ]) {
    assert.throws(() => sourceOf(text, undefined, 'mount'), UsageError, text);
  }
});
