import assert from 'node:assert/strict';
import { test } from 'node:test';
import { helperWords } from './helper-words.ts';
import { UsageError } from './usage-error.ts';

test('what mount(8) gives its helper becomes a mount command, without the words of fstab', () => {
  const given = ['/srv/a.img', '/mnt', '-n', '-o', 'rw,noauto,nofail,x-systemd.automount,_netdev,commit=2', '-t', 'fuse.iomap'];
  assert.deepEqual(helperWords(given), ['mount', '-o', 'rw,commit=2', '--', '/srv/a.img', '/mnt']);
  assert.deepEqual(helperWords(['mem:', '/mnt', '-o', 'defaults']), ['mount', '--', 'mem:', '/mnt']);
});

test('a dry run of mount(8) mounts nothing', () => {
  assert.equal(helperWords(['mem:', '/mnt', '-fnv']), undefined);
});

test('what mount(8) does not say is refused', () => {
  for (const words of [['mem:'], ['mem:', '/mnt', 'x'], ['mem:', '/mnt', '--help'], ['mem:', '/mnt', '-o']]) {
    assert.throws(() => helperWords(words), UsageError, words.join(' '));
  }
});
