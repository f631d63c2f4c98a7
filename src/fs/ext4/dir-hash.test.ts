import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DX_HASH_HALF_MD4, DX_HASH_LEGACY, DX_HASH_TEA, NameHasher } from './dir-hash.ts';

// Made by: debugfs -R 'dx_hash -h <alg> [-s <seed>] "<name>"' img. The unsigned rows by directories that the kernel wrote.

const NO_SEED = [0, 0, 0, 0];
/** 00112233-4455-6677-8899-aabbccddeeff as little-endian words. */
const SEED = [0x33221100, 0x77665544, 0xbbaa9988, 0xffeeddcc];
const text = (name: string): Uint8Array => Uint8Array.from(name, (character) => character.charCodeAt(0));
const HIGH = text('caf\xc3\xa9-\xc3\xbf');

const ROWS: [string, Uint8Array, string, string, string, string, string][] = [
  ['a', text('a'), 'd5fa7d7a acb48187', '93752ee6 578c30ba', '6d0ea4c0 c18922df', 'f9b90e84 211795e4', 'e74b53e2'],
  ['hello', text('hello'), '1746da32 420013b5', '344ca36e 2ef16de2', '6f5bb1a8 231917c2', '9e019d48 b0a99d55', '32252546'],
  ['lost+found', text('lost+found'), '591de422 6ffc56e0', '1efb822c 2a3bb222', '2dbf9e80 bfebee4f', 'd06209f0 605a7d48', '5e2aba24'],
  [
    'a to 9',
    text('abcdefghijklmnopqrstuvwxyz0123456789'),
    '97c69942 2630f912',
    '5d29bcf4 54a598a3',
    'e073581c 45be1a19',
    'a13203d0 5230414a',
    '9015281a',
  ],
  ['255 x', text('x'.repeat(255)), '2aa7169e 655f9d9c', '5966f920 26281ca3', '6c4c00ee 0eafdb6b', 'c4143c16 cb830954', '30557da6'],
];
const SIGNED = ['18673c36 8a8840ec', '77a82754 4fec0eaa', 'b2bc0e4c e6185f0e', '804a2ec4 48a719b4', '8a541502'] as const;
const UNSIGNED = ['0af99998 8568aad8', '4a1a5128 c50c769c', '55b23570 7c55e545', '28f1ff76 371124ee', 'f387cd04'] as const;

function hashes(name: Uint8Array, isUnsigned: boolean): string[] {
  const word = (value: number): string => value.toString(16).padStart(8, '0');
  const of = (version: number, seed: number[]): string => {
    const hasher = new NameHasher(version, seed, isUnsigned);
    const hash = hasher.hash(name);
    return version === DX_HASH_LEGACY ? word(hash) : `${word(hash)} ${word(hasher.minor)}`;
  };
  return [
    of(DX_HASH_HALF_MD4, NO_SEED),
    of(DX_HASH_HALF_MD4, SEED),
    of(DX_HASH_TEA, NO_SEED),
    of(DX_HASH_TEA, SEED),
    of(DX_HASH_LEGACY, SEED),
  ];
}

test('ASCII names hash to the published values, signed and unsigned alike', () => {
  for (const [title, name, ...expected] of ROWS) {
    assert.deepEqual(hashes(name, false), expected, title);
    assert.deepEqual(hashes(name, true), expected, title);
  }
});

test('bytes above 127 count as negative or not, as the superblock says', () => {
  assert.deepEqual(hashes(HIGH, false), [...SIGNED]);
  assert.deepEqual(hashes(HIGH, true), [...UNSIGNED]);
});

test('a hasher gives the same answer for a name inside a block, and after other names', () => {
  const hasher = new NameHasher(DX_HASH_HALF_MD4, SEED, false);
  hasher.hash(text('something else'));
  assert.equal(hasher.hash(text('..hello..'), 2, 7).toString(16), '344ca36e');
});

test('five long names collide in the legacy hash', () => {
  const hasher = new NameHasher(DX_HASH_LEGACY, SEED, false);
  for (const end of ['D=F99', '@=9O=', 'D=F@@', '3IB6D', 'D=FEE']) {
    assert.equal(hasher.hash(text('p'.repeat(240) + end)).toString(16), 'ede57a64');
  }
});
