import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { noKeyName, parseNoKeyName } from './no-key-name.ts';

test('a name without key leads back to its ciphertext only', () =>
  forEachSeed('no-key names', 50, (prng) => {
    const bytes = prng.bytes(prng.between(1, 255));
    const hash = prng.u32();
    const minor = prng.u32();
    const name = noKeyName(hash, minor, bytes, 0, bytes.length);
    assert.match(name, /^_[\w-]+$/);
    assert.ok(name.length <= 255, `${name.length} bytes`);
    const form = parseNoKeyName(name);
    assert.ok(form !== undefined);
    assert.equal(form.hash, hash);
    assert.equal(form.minor, minor);
    assert.ok(form.matches(bytes, 0, bytes.length));
    assert.ok(!form.matches(bytes, 0, bytes.length - 1));
    const other = bytes.slice();
    other[prng.below(other.length)] = ((other.at(0) as number) + 1 + prng.below(255)) & 0xff;
    if (Buffer.compare(other, bytes) !== 0) assert.ok(!form.matches(other, 0, other.length));
  }));

test('the form is base64url, with the hash first', () => {
  assert.equal(
    noKeyName(0xfbefbefb, 0x03020100, Uint8Array.of(0xff, 0xff, 0xfe), 0, 3),
    `_${Buffer.from('fbbeeffb00010203fffffe', 'hex').toString('base64url')}`,
  );
});

test('what is no such name is none', () => {
  for (const name of ['', '_', '_AAAA', 'abcdefghijklmnopq', '_abcdefghijkl$nopq', `_${'A'.repeat(300)}`]) {
    assert.equal(parseNoKeyName(name), undefined, name);
  }
});
