import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { decodeUtf8, encodeUtf8 } from './utf8.ts';

test('encoding agrees with the host', () => {
  for (const text of ['', 'abc', 'ä€😀', '\ud800', 'a\udc00b', '\ud83d\ude00\ud83d', '\u0000\u007f\u0080\u07ff\u0800\uffff\u{10ffff}']) {
    assert.deepEqual(encodeUtf8(text), new Uint8Array(new TextEncoder().encode(text)));
  }
});

test('decoding agrees with the host, malformed bytes too', () => {
  const seed = Number(process.env['SEED'] ?? 1);
  const prng = new Prng(seed);
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const leads = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff];
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from({ length: prng.below(9) }, () => prng.pick(leads));
    assert.equal(decodeUtf8(bytes), decoder.decode(bytes), `seed ${seed}, round ${round}: ${bytes.join(' ')}`);
  }
  assert.equal(decodeUtf8(encodeUtf8('xäöy'), 1, 5), 'äö');
});
