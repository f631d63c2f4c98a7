import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc16, crc32, crc32be, crc32c, crc32cWord } from './crc.ts';

const digits = Uint8Array.from('123456789', (c) => c.charCodeAt(0));

test('the check values of the polynomials come out, without the final inversion', () => {
  assert.equal(crc32c(0xffffffff, digits), 0x1cf96d7c);
  assert.equal(crc16(0xffff, digits), 0x4b37);
  assert.equal(crc32(digits), 0xcbf43926);
  // CRC-32/BZIP2 is the same with a final inversion.
  assert.equal(~crc32be(0xffffffff, digits) >>> 0, 0xfc891918);
});

test('bytes may come in any pieces', () => {
  const bytes = Uint8Array.from({ length: 67 }, (_, i) => (i * 37 + 11) & 0xff);
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.equal(crc32c(crc32c(7, bytes, 0, cut), bytes, cut), crc32c(7, bytes));
    assert.equal(crc16(crc16(7, bytes, 0, cut), bytes, cut), crc16(7, bytes));
    assert.equal(crc32be(crc32be(7, bytes, 0, cut), bytes, cut), crc32be(7, bytes));
  }
  assert.equal(crc32cWord(0xffffffff, 0x04030201), crc32c(0xffffffff, Uint8Array.of(1, 2, 3, 4)));
});
