import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import type { Prng } from '../base/prng.ts';
import { nameBytes, nameLength, nameOf, nameOfText, nameText } from './name.ts';

/** Text as the platform decodes it; undefined where the bytes are no UTF-8. */
function strictText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const looseText = (bytes: Uint8Array) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);

/** Everything that is true of the name of any bytes. */
function check(bytes: Uint8Array): void {
  const name = nameOf(bytes);
  const shown = Array.from(bytes, (byte) => byte.toString(16)).join(' ');
  assert.deepEqual(nameBytes(name), bytes, shown);
  assert.equal(nameLength(name), bytes.length, shown);
  assert.equal(nameText(name), looseText(bytes), shown);
  const text = strictText(bytes);
  if (text !== undefined) assert.equal(name, text, shown);
  else assert.match(name, /[\udc80-\udcff]/u, shown);
}

test('names of one and two bytes, all of them, keep every byte', () => {
  check(new Uint8Array(0));
  for (let first = 0; first < 256; first++) {
    check(Uint8Array.of(first));
    for (let second = 0; second < 256; second++) check(Uint8Array.of(first, second));
  }
});

test('sequences of three and four bytes at the edges of what is valid keep every byte', () => {
  const edges = [0x00, 0x2f, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xf0, 0xff];
  for (const first of [0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff]) {
    for (const second of edges) {
      for (const third of edges) {
        check(Uint8Array.of(first, second, third));
        for (const fourth of [0x41, 0x80, 0xbf, 0xc2]) check(Uint8Array.of(first, second, third, fourth));
      }
    }
  }
});

test('each byte that is no UTF-8 stands as a lone surrogate, beside the text that is', () => {
  const cases: [bytes: number[], name: string][] = [
    [[0x61, 0xff, 0x62], 'a\udcffb'],
    [[0xe2, 0x82], '\udce2\udc82'], // cut short
    [[0xe2, 0x82, 0xac, 0xe2], '€\udce2'],
    [[0xc0, 0xaf], '\udcc0\udcaf'], // an overlong slash
    [[0xe0, 0x80, 0xaf], '\udce0\udc80\udcaf'],
    [[0xed, 0xa0, 0x80], '\udced\udca0\udc80'], // a surrogate in three bytes
    [[0xf4, 0x90, 0x80, 0x80], '\udcf4\udc90\udc80\udc80'], // past U+10FFFF
    [[0xf0, 0x9f, 0x98, 0x80, 0x80], '\u{1f600}\udc80'],
    [[0x80, 0xef, 0xbf, 0xbd, 0x80], '\udc80\ufffd\udc80'], // U+FFFD itself is text
    [[0xef, 0xbb, 0xbf, 0x61], '\ufeffa'],
  ];
  for (const [bytes, name] of cases) {
    assert.equal(nameOf(Uint8Array.from(bytes)), name);
    check(Uint8Array.from(bytes));
  }
});

/** Pieces of text and of what is none, in any order. */
function randomBytes(prng: Prng): Uint8Array {
  const pieces = Array.from({ length: prng.below(12) }, () => {
    const text = prng.pick(['a', 'é', '€', '\u{1f600}', '\ufffd', '\u{10ffff}', '\ud7ff', '\ue000', '\x7f']);
    const encoded = new TextEncoder().encode(text);
    return prng.below(3) === 0
      ? encoded.subarray(prng.below(2), prng.below(encoded.length + 1))
      : prng.below(4) === 0
        ? prng.bytes(2)
        : encoded;
  });
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}

test('any mixture of text and other bytes turns back into the same bytes', () =>
  forEachSeed('names', 2000, (prng) => check(randomBytes(prng))));

test('the name of a part of some bytes is that of the part', () => {
  const bytes = Uint8Array.of(0x2f, 0xe2, 0x82, 0xac, 0xff, 0x2f);
  assert.equal(nameOf(bytes, 1, 5), '€\udcff');
  assert.equal(nameOf(bytes, 2), '\udc82\udcac\udcff/');
  assert.equal(nameOf(Uint8Array.of(0xef, 0xbf, 0xbd), 0, 2), '\udcef\udcbf');
  assert.equal(nameOf(bytes, 1, 3), '\udce2\udc82', 'a sequence that goes on behind the end is cut short');
});

test('surrogates that stand for no byte become U+FFFD', () => {
  for (const name of ['\ud800', '\udc00', '\udc7f', '\udd00', '\udfff', 'a\ud800b', '\ud800\ud800', '\udfff\udcff']) {
    const bytes = nameBytes(name);
    assert.equal(nameLength(name), bytes.length, JSON.stringify(name));
    assert.equal(nameOf(bytes), name.replace(/[\ud800-\udbff\udc00-\udc7f\udd00-\udfff]/g, '\ufffd'), JSON.stringify(name));
  }
});

test('the half of a pair is no byte, even where its number is one', () => {
  const text = '\u{10080}\u{100ff}'; // second halves U+DC80 and U+DCFF
  assert.equal(nameLength(text), 8);
  assert.deepEqual(nameBytes(text), new TextEncoder().encode(text));
  const mixed = `${text}\udc80${text}`;
  assert.equal(nameLength(mixed), 17);
  assert.equal(nameOf(nameBytes(mixed)), mixed);
});

test('text from a caller names the bytes of its UTF-8: lone surrogates are U+FFFD in it', () => {
  assert.equal(nameOfText('a€\u{1f600}'), 'a€\u{1f600}');
  assert.equal(nameOfText('a\udcffb'), 'a\ufffdb');
  assert.equal(nameOfText('\udc80\u{10080}\ud800'), '\ufffd\u{10080}\ufffd');
  assert.equal(nameText(nameOfText('\ud800')), '\ufffd');
});
