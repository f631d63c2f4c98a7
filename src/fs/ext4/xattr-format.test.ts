import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { hasCode } from '../../base/fs-error.ts';
import {
  BLOCK_AREA,
  checksumBlock,
  compareKeys,
  ext4_xattr_header,
  freeSpace,
  fullNameOf,
  hashBlock,
  hashEntry,
  hashInodeEntry,
  IBODY_AREA,
  keyOf,
  packEntries,
  parseEntries,
  type XattrEntry,
} from './xattr-format.ts';

// Vectors: images that a kernel has written (6.18), with the UUID 00112233-4455-6677-8899-aabbccddeeff.
const S = 0xb720167d;
const ACL = '010000000100060002000700e80300000400040008000500d00700001000070020000400';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const text = (value: string): Uint8Array => Uint8Array.from(Buffer.from(value, 'latin1'));

function entry(name: string, value: Uint8Array): XattrEntry {
  const key = keyOf(name, 'test');
  return { ...key, value, inum: 0, size: value.length, hash: hashEntry(key.name, value) };
}

test('hashes of entries and blocks are those that a kernel has stored', () => {
  const big = entry('user.b', new Uint8Array(600).fill(0x42));
  const acl = entry('system.posix_acl_access', hex(ACL));
  assert.equal(big.hash, 0x00000062);
  assert.equal(acl.hash, 0x03f607f3);
  assert.equal(hashBlock([big, acl]), 0x039407f3);
  assert.equal(hashInodeEntry(text('big'), 0x2c3f5b77), 0xa9785b76);
  assert.equal(hashEntry(text('a'), text('hello')), 0x65686c62);
  assert.equal(hashBlock([big, { ...acl, hash: 0 }]), 0, 'a block with an entry without hash is not shared');
});

test('names with high bytes have two hashes, by the sign of a char', () => {
  assert.equal(hashEntry(hex('ff'), new Uint8Array(0)), 0xff);
  assert.equal(hashEntry(hex('ff'), new Uint8Array(0), true), 0xffffffff);
});

test('a block is packed and summed as a kernel does it', () => {
  const block = new Uint8Array(1024);
  const hello = entry('user.a', text('hello'));
  ext4_xattr_header.write(block, 0, { h_magic: 0xea020000, h_refcount: 1, h_blocks: 1, h_hash: hashBlock([hello]) });
  packEntries(block, [hello], BLOCK_AREA);
  assert.equal(Buffer.from(block.subarray(32, 56)).toString('hex'), '0101f8030000000005000000626c686561000000'.concat('00000000'));
  assert.equal(checksumBlock(S, 300, block), 0x541effee);
});

test('full names and keys lead to each other; what has no index is refused or hidden', () => {
  for (const name of [
    'user.x',
    'trusted.a.b',
    'security.selinux',
    'system.posix_acl_access',
    'system.posix_acl_default',
    'gnu.x',
    'user.\udc80',
  ]) {
    assert.equal(fullNameOf(keyOf(name, 'test')), name);
  }
  assert.equal(fullNameOf({ index: 7, name: text('data') }), undefined);
  assert.equal(fullNameOf({ index: 99, name: text('x') }), undefined);
  const refused = (name: string, code: 'EOPNOTSUPP' | 'EINVAL' | 'ERANGE') =>
    assert.throws(
      () => keyOf(name, 'test'),
      (error) => hasCode(error, code),
      name.slice(0, 40),
    );
  for (const name of ['', 'x', 'system.data', 'system.posix_acl_accessx', 'btrfs.x']) refused(name, 'EOPNOTSUPP');
  refused('user.', 'EINVAL');
  refused('user.a\0b', 'EINVAL');
  refused(`user.${'x'.repeat(251)}`, 'ERANGE');
  assert.equal(keyOf(`user.${'x'.repeat(250)}`, 'test').name.length, 250);
});

test('the room of an inode of 256 bytes holds 68 bytes of inline data', () => {
  const data: XattrEntry = { index: 7, name: text('data'), value: new Uint8Array(68), inum: 0, size: 68, hash: 0 };
  assert.equal(freeSpace([data], 96, IBODY_AREA), 0);
});

function randomEntries(prng: { below(n: number): number; bytes(n: number): Uint8Array }): XattrEntry[] {
  return Array.from({ length: prng.below(8) }, (_, i) => {
    const value = prng.bytes(prng.below(40));
    const name = prng.bytes(1 + prng.below(12)).map((byte) => byte || 1);
    name[0] = i + 1;
    return { index: 1, name, value, inum: 0, size: value.length, hash: prng.below(2 ** 32) };
  });
}

test('what is packed is parsed again, in blocks and inodes', () =>
  forEachSeed('pack and parse', 200, (prng) => {
    for (const shape of [BLOCK_AREA, IBODY_AREA]) {
      const area = new Uint8Array(1024);
      const entries = randomEntries(prng);
      assert.ok(freeSpace(entries, area.length, shape) >= 0);
      packEntries(area, entries, shape);
      assert.deepEqual(
        parseEntries(area, shape, 'test').map((e) => ({ ...e, name: e.name.slice(), value: e.value.slice() })),
        entries,
      );
      assert.equal(compareKeys({ index: 1, name: text('b') }, { index: 1, name: text('ab') }) < 0, true, 'short names first');
    }
  }));

test('an area of any bytes is parsed or refused', () =>
  forEachSeed('mutated areas', 300, (prng) => {
    const shape = prng.pick([BLOCK_AREA, IBODY_AREA]);
    const area = new Uint8Array(prng.pick([8, 96, 256, 1024]));
    const entries = randomEntries(prng);
    if (freeSpace(entries, area.length, shape) >= 0) packEntries(area, entries, shape);
    for (let i = 0; i < 1 + prng.below(6); i++) area[prng.below(area.length)] = prng.pick([0, 1, 4, 255, prng.below(256)]);
    try {
      for (const { value, inum, size } of parseEntries(area, shape, 'test')) assert.ok(inum !== 0 || value.length === size);
    } catch (error) {
      assert.ok(hasCode(error, 'EUCLEAN'), String(error));
    }
  }));
