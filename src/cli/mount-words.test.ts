import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MOUNT_WORDS, mountOptionsOf } from './mount-words.ts';
import { UsageError } from './usage-error.ts';

test('without words nobody else may enter, as with libfuse', () => {
  assert.deepEqual(mountOptionsOf([], 'mount'), { allowOther: false });
});

test('words become options of the library, over several -o', () => {
  assert.deepEqual(mountOptionsOf(['allow_other,ro,nosuid', 'nodev,noexec,noatime,fsname=a/b,subtype=x'], 'mount'), {
    allowOther: true,
    readOnly: true,
    nosuid: true,
    nodev: true,
    noexec: true,
    noatime: true,
    fsname: 'a/b',
    subtype: 'x',
  });
});

test('of two words that say the opposite the last one counts', () => {
  assert.equal(mountOptionsOf(['ro,rw'], 'mount').readOnly, false);
  assert.equal(mountOptionsOf(['rw', 'ro'], 'mount').readOnly, true);
  assert.equal(mountOptionsOf(['sync,async'], 'mount').sync, false);
});

test('every word of the table is taken, and refused with a value too many or too few', () => {
  for (const { name, value } of MOUNT_WORDS) {
    const [right, wrong] = value === undefined ? [name, `${name}=x`] : [`${name}=x`, name];
    mountOptionsOf([right], 'mount');
    assert.throws(() => mountOptionsOf([wrong], 'mount'), UsageError, wrong);
  }
});

test('what is unknown, not served, or would not pass through the mount table is refused with the word', () => {
  const words = ['bogus', 'RO', '', 'max_read=4096', 'constructor', 'fsname=', 'fsname=--bind', 'fsname=a b', 'subtype=a\\b'];
  for (const word of words) {
    assert.throws(
      () => mountOptionsOf([`ro,${word}`], 'mount'),
      (error) => error instanceof UsageError && error.message.includes(`'${word}'`),
      word,
    );
  }
});
