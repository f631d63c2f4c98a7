import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bytes, cstr, pad, s8, s16, s32, s64, struct, u8, u16, u16array, u32, u32array, u64, u64big, type Values } from './struct.ts';

// biome-ignore format: one row per field, as the format is drawn
const FIELDS = {
  a_u8:    u8(0),
  a_s8:    s8(1),
  a_u16:   u16(2),
  a_u32:   u32(4),
  a_u64:   u64(8),
  a_s64:   s64(16),
  a_big:   u64big(24),
  a_s16:   s16(32),
  a_hole:  pad(34, 2),
  a_s32:   s32(36),
  a_bytes: bytes(40, 4),
  a_text:  cstr(44, 8),
  a_words: u16array(52, 2),
  a_longs: u32array(56, 3),
  a_tail:  pad(68, 4),
};
const sample = struct('sample', 72, FIELDS);
const sampleBig = struct('sample_be', 72, FIELDS, { endian: 'big' });

const VALUES: Values<typeof sample> = {
  a_u8: 0xfe,
  a_s8: -2,
  a_u16: 0xfedc,
  a_u32: 0xfedcba98,
  a_u64: 0x1f_edcb_a987_6543,
  a_s64: -3,
  a_big: 0xfedc_ba98_7654_3210n,
  a_s16: -4,
  a_s32: -5,
  a_bytes: Uint8Array.of(1, 2, 3, 4),
  a_text: 'hä',
  a_words: [0x0102, 0x0304],
  a_longs: [0x01020304, 0, 0xffffffff],
};

const LITTLE = hex(`fe fe dcfe 98badcfe 436587a9cbed1f00 fdffffffffffffff 1032547698badcfe fcff 0000 fbffffff
  01020304 68c3a40000000000 0201 0403 04030201 00000000 ffffffff 00000000`);
const BIG = hex(`fe fe fedc fedcba98 001fedcba9876543 fffffffffffffffd fedcba9876543210 fffc 0000 fffffffb
  01020304 68c3a40000000000 0102 0304 01020304 00000000 ffffffff 00000000`);

function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
}

for (const [table, vector] of [
  [sample, LITTLE],
  [sampleBig, BIG],
] as const) {
  test(`${table.name}: read and write agree with bytes laid out by hand`, () => {
    assert.equal(vector.length, table.size);
    assert.deepEqual(table.read(vector), VALUES);
    const out = new Uint8Array(table.size + 6).fill(0xff);
    table.write(out, 3, VALUES);
    assert.deepEqual(out.subarray(3, 3 + table.size), vector);
    assert.ok([...out.subarray(0, 3), ...out.subarray(3 + table.size)].every((byte) => byte === 0xff));
  });

  test(`${table.name}: the cursor's setters lay out the same bytes`, () => {
    const out = new Uint8Array(table.size);
    const view = table.view().at(out);
    const { a_words, a_longs, ...rest } = VALUES;
    Object.assign(view, rest);
    for (const [i, value] of a_words.entries()) view.a_words.set(i, value);
    for (const [i, value] of a_longs.entries()) view.a_longs.set(i, value);
    assert.deepEqual(out, vector);
  });
}

test('one cursor walks over many records and buffers, views that start anywhere', () => {
  const entry = struct('entry', 6, { id: u32(0), kind: u16(4) });
  const memory = new Uint8Array(100).subarray(7, 7 + 6 * 10);
  for (let i = 0; i < 10; i++) entry.write(memory, i * 6, { id: i * 1000, kind: i });
  const view = entry.view();
  for (let i = 9; i >= 0; i--) {
    view.at(memory, i * 6);
    assert.deepEqual([view.id, view.kind], [i * 1000, i]);
  }
  view.at(Uint8Array.of(1, 0, 0, 0, 2, 0));
  assert.deepEqual([view.id, view.kind], [1, 2]);
  view.at(memory, 6).kind = 7;
  assert.equal(entry.read(memory, 6).kind, 7);
});

test('a claim beyond the bytes is refused, and the cursor stays', () => {
  const view = sample.view().at(LITTLE);
  for (const [from, offset] of [
    [LITTLE, 1],
    [LITTLE, -1],
    [LITTLE, 72],
    [LITTLE, 0.5],
    [LITTLE, Number.NaN],
    [LITTLE, Infinity],
    [LITTLE, 2 ** 53],
    [LITTLE.subarray(0, 71), 0],
    [new Uint8Array(0), 0],
  ] as const) {
    assert.throws(() => view.at(from, offset), { code: 'EUCLEAN', errno: -117 });
    assert.throws(() => sample.read(from, offset), { code: 'EUCLEAN' });
    assert.throws(() => sample.write(from, offset, {}), { code: 'EUCLEAN' });
  }
  assert.equal(view.a_u16, 0xfedc);
  assert.equal(LITTLE[0], 0xfe);
  const peer = struct('peer', 4, { len: u32(0) }, { malformed: 'EPROTO' });
  assert.throws(() => peer.read(new Uint8Array(3)), { code: 'EPROTO' });
});

test('64-bit numbers: exact up to 2^53 - 1, refused past it', () => {
  const two = struct('two', 16, { u: u64(0), s: s64(8) });
  const out = new Uint8Array(16);
  const view = two.view().at(out);
  for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
    view.u = value;
    view.s = -value;
    assert.equal(view.u, value);
    assert.equal(view.s, value === 0 ? 0 : -value);
    assert.equal(new DataView(out.buffer).getBigInt64(8, true), -BigInt(value));
  }
  for (const value of [2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
    new DataView(out.buffer).setBigUint64(0, value, true);
    assert.throws(() => view.u, { code: 'EOVERFLOW' });
  }
  for (const value of [2n ** 53n, -(2n ** 53n), -(2n ** 63n)]) {
    new DataView(out.buffer).setBigInt64(8, value, true);
    assert.throws(() => view.s, { code: 'EOVERFLOW' });
  }
});

test('a value that a field cannot hold is refused, and nothing is stored', () => {
  const out = LITTLE.slice();
  const view = sample.view().at(out);
  const refused: [keyof typeof VALUES, unknown][] = [
    ['a_u8', 256],
    ['a_u8', -1],
    ['a_s8', 128],
    ['a_u16', 65536],
    ['a_s16', -32769],
    ['a_u32', 2 ** 32],
    ['a_u32', -1],
    ['a_u32', 1.5],
    ['a_u32', Number.NaN],
    ['a_s32', 2 ** 31],
    ['a_u64', -1],
    ['a_u64', 2 ** 53],
    ['a_s64', -(2 ** 53)],
    ['a_big', -1n],
    ['a_big', 2n ** 64n],
    ['a_text', '123456789'],
    ['a_text', 'äöüéè'],
  ];
  for (const [field, value] of refused)
    assert.throws(() => Object.assign(view, { [field]: value }), { code: 'EOVERFLOW' }, `${field} = ${value}`);
  assert.throws(() => view.a_words.set(0, 65536), { code: 'EOVERFLOW' });
  assert.throws(() => view.a_words.set(2, 0), { code: 'ERR_ASSERTION' });
  assert.throws(() => view.a_longs.get(-1), { code: 'ERR_ASSERTION' });
  assert.throws(() => (view.a_bytes = Uint8Array.of(1)), { code: 'ERR_ASSERTION' });
  assert.throws(() => sample.write(out, 0, { a_words: [1] }), { code: 'ERR_ASSERTION' });
});

test('text ends at the first NUL or fills the field', () => {
  const label = struct('label', 4, { text: cstr(0, 4) });
  assert.equal(label.read(Uint8Array.of(65, 0, 66, 67)).text, 'A');
  assert.equal(label.read(Uint8Array.of(65, 66, 67, 68)).text, 'ABCD');
  const out = Uint8Array.of(9, 9, 9, 9);
  label.view().at(out).text = 'x';
  assert.deepEqual([...out], [120, 0, 0, 0]);
});

test('bytes of a cursor are a view, those of read() a copy', () => {
  const out = LITTLE.slice();
  const copy = sample.read(out).a_bytes;
  const view = sample.view().at(out).a_bytes;
  out[40] = 99;
  assert.equal(view[0], 99);
  assert.equal(copy[0], 1);
});

test('write() leaves no old byte behind', () => {
  const out = new Uint8Array(72).fill(0xaa);
  sample.write(out, 0, { a_u8: 1 });
  assert.deepEqual([...out], [1, ...new Array(71).fill(0)]);
});

test('a table that does not tile its size is refused at load', () => {
  const refuse = (size: number, fields: Parameters<typeof struct>[2], message: RegExp) =>
    assert.throws(() => struct('bad', size, fields), message);
  refuse(8, { a: u32(0), b: u32(3) }, /b at 3 overlaps/);
  refuse(8, { a: u16(0), b: u32(4) }, /nothing covers \[2, 4\) before b/);
  refuse(8, { b: u32(4) }, /nothing covers \[0, 4\)/);
  refuse(8, { a: u32(0) }, /fields end at 4, size is 8/);
  refuse(4, { a: u64(0) }, /fields end at 8, size is 4/);
  refuse(4, { at: u32(0) }, /taken by the cursor/);
  refuse(4, { a: u32(0), b: pad(4, 0) }, /length 0/);
  assert.equal(struct('any_order', 8, { b: u32(4), a: u32(0) }).offsetOf('b'), 4);
});

test('offsets agree with those of a C compiler', {
  skip: spawnSync('cc', ['--version']).status === 0 ? false : 'no C compiler here',
}, () => {
  const source = `#include <stddef.h>
    #include <stdint.h>
    #include <stdio.h>
    struct sample { uint8_t a_u8; int8_t a_s8; uint16_t a_u16; uint32_t a_u32; uint64_t a_u64; int64_t a_s64; uint64_t a_big; int16_t a_s16;
      int32_t a_s32; uint8_t a_bytes[4]; char a_text[8]; uint16_t a_words[2]; uint32_t a_longs[3]; };
    #define SHOW(f) printf("%s %zu %zu\\n", #f, offsetof(struct sample, f), sizeof(((struct sample *)0)->f));
    int main(void) { ${Object.keys(VALUES)
      .map((field) => `SHOW(${field})`)
      .join(' ')} printf("size %zu 0\\n", sizeof(struct sample)); }`;
  const dir = mkdtempSync(join(tmpdir(), 'iomap-struct-'));
  try {
    writeFileSync(join(dir, 'sample.c'), source);
    execFileSync('cc', ['-o', join(dir, 'sample'), join(dir, 'sample.c')]);
    for (const line of execFileSync(join(dir, 'sample'), { encoding: 'utf8' }).trim().split('\n')) {
      const [field, offset, length] = line.split(' ') as [keyof typeof VALUES | 'size', string, string];
      if (field === 'size') assert.equal(sample.size, Number(offset));
      else assert.deepEqual([field, sample.offsetOf(field), sample.fields[field].length], [field, Number(offset), Number(length)]);
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});
