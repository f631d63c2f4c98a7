import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32c } from '../base/crc.ts';
import { hasCode } from '../base/fs-error.ts';
import { FastCommitScan } from './fast-commit.ts';

const HEAD = 9;
const TAIL = 8;
const SIZE = 1024;

const u32 = (...values: number[]): number[] =>
  values.flatMap((value) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]);
const tl = (tag: number, length: number): number[] => [tag & 0xff, tag >> 8, length & 0xff, length >> 8];
const tlv = (tag: number, value: number[]): number[] => [...tl(tag, value.length), ...value];
const head = (tid: number, features = 0): number[] => tlv(HEAD, u32(features, tid));
const name = (text: string): number[] => [...Buffer.from(text)];
const link = (text: string): number[] => tlv(4, [...u32(12, 14), ...name(text)]);

/** The parts, a tail with their checksum, and padding to the end of the block. */
function commit(parts: number[], tid: number, size = SIZE): Uint8Array {
  const block = new Uint8Array(size);
  const at = parts.length;
  block.set([...parts, ...tl(TAIL, size - at - 4), ...u32(tid)]);
  block.set(u32(crc32c(0, block, 0, at + 8)), at + 8);
  return block;
}

test('a fast commit of the kernel is read', () => {
  const block = new Uint8Array(4096);
  block.set(Buffer.from('09000800000000000300000004000c000c0000000e0000006e6577320800e00f03000000', 'hex'));
  block.set(u32(0x09ad9f4d), 36);
  const scan = new FastCommitScan(3);
  assert.equal(scan.add(block), true);
  assert.deepEqual(scan.records, [{ tag: 'link', parent: 12, ino: 14, name: Uint8Array.from(name('new2')) }]);
});

test('all kinds of changes are read', () => {
  const extent = [...u32(7), 0x03, 0x80, 1, 0, ...u32(5)];
  const raw = Array.from({ length: 160 }, (_, i) => (i === 128 ? 32 : i === 129 ? 0 : i));
  const parts = [
    head(3),
    tlv(1, [...u32(20), ...extent]),
    tlv(2, u32(21, 8, 9)),
    tlv(3, [...u32(2, 22), ...name('a')]),
    tlv(7, [1, 2, 3]),
    tlv(5, [...u32(2, 23), ...name('b')]),
    tlv(6, [...u32(24), ...raw]),
  ].flat();
  const scan = new FastCommitScan(3);
  assert.equal(scan.add(commit(parts, 3)), true);
  assert.deepEqual(scan.records, [
    { tag: 'add_range', ino: 20, lblk: 7, length: 3, start: 2 ** 32 + 5, isUnwritten: true },
    { tag: 'del_range', ino: 21, lblk: 8, length: 9 },
    { tag: 'creat', parent: 2, ino: 22, name: Uint8Array.from(name('a')) },
    { tag: 'unlink', parent: 2, ino: 23, name: Uint8Array.from(name('b')) },
    { tag: 'inode', ino: 24, raw: Uint8Array.from(raw) },
  ]);
});

test('only what a tail covers counts', () => {
  const scan = new FastCommitScan(3);
  assert.equal(scan.add(commit([...head(3), ...link('one')], 3)), true);
  assert.equal(scan.add(commit(link('two'), 3)), true);
  const torn = commit(link('three'), 3);
  torn[13] = 0x55;
  assert.equal(scan.add(torn), false);
  assert.deepEqual(
    scan.records.map((record) => ('name' in record ? Buffer.from(record.name).toString() : '')),
    ['one', 'two'],
  );
});

test('the area counts for nothing when it is of another transaction, or does not begin with a head', () => {
  for (const block of [commit([...head(2), ...link('one')], 2), commit(link('one'), 3), new Uint8Array(SIZE)]) {
    const scan = new FastCommitScan(3);
    assert.equal(scan.add(block), false);
    assert.deepEqual(scan.records, []);
  }
});

test('a head with features is refused', () => {
  assert.throws(
    () => new FastCommitScan(3).add(commit(head(3, 1), 3)),
    (error) => hasCode(error, 'EOPNOTSUPP'),
  );
});

for (const [what, change] of [
  ['a value that is longer than the block', tl(4, SIZE)],
  ['a name of no bytes', tlv(4, u32(1, 2))],
  ['a name of 256 bytes', tlv(4, [...u32(1, 2), ...new Array<number>(256).fill(65)])],
  ['a value that is too short', tlv(3, u32(1))],
  ['a range of another size', tlv(1, u32(1, 2, 3))],
  ['a range of no blocks', tlv(1, u32(1, 2, 0, 0))],
  ['a range past the largest file', tlv(2, u32(1, 0xffffffff, 2))],
  ['an inode of 127 bytes', tlv(6, [...u32(1), ...new Array<number>(127).fill(0)])],
  ['an inode that claims to be longer', tlv(6, [...u32(1), ...new Array<number>(132).fill(0xff)])],
  ['an unknown tag', tlv(10, u32(1))],
] as const) {
  test(`nothing counts from ${what} on`, () => {
    const scan = new FastCommitScan(3);
    scan.add(commit([...head(3), ...link('one')], 3));
    assert.equal(scan.add(commit([...change], 3)), false);
    assert.equal(scan.records.length, 1);
  });
}
