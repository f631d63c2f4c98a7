import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { hasCode } from '../../base/fs-error.ts';
import { parseAclText } from '../../vfs/posix-acl.ts';
import { decodeAcl, encodeAcl } from './acl-format.ts';

const ACL = Uint8Array.from(Buffer.from('010000000100060002000700e80300000400040008000500d00700001000070020000400', 'hex'));

test('an ACL is stored as a kernel stores it', () => {
  const acl = parseAclText('u::rw,u:1000:rwx,g::r,g:2000:r-x,m::rwx,o::r');
  assert.deepEqual(encodeAcl(acl), ACL);
  assert.deepEqual(decodeAcl(ACL), acl);
});

test('damaged ACLs are refused', () =>
  forEachSeed('ACLs', 200, (prng) => {
    const bytes = ACL.slice(0, prng.chance(0.5) ? ACL.length : prng.below(ACL.length));
    if (bytes.length > 0) bytes[prng.below(bytes.length)] = prng.below(256);
    try {
      assert.deepEqual(encodeAcl(decodeAcl(bytes)), bytes);
    } catch (error) {
      assert.ok(hasCode(error, 'EUCLEAN'), String(error));
    }
  }));
