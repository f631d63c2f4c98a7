import assert from 'node:assert/strict';
import { test } from 'node:test';
import { journalSuperblock, TEST_UUID } from '../../test/support/journal-world.ts';
import { hasCode } from '../base/fs-error.ts';
import {
  JBD2_FLAG_ESCAPE,
  JournalFormat,
  type JournalSuperblock,
  journal_superblock,
  needsEscape,
  readJournalSuperblock,
  restoreMagic,
  writeJournalSuperblock,
} from './journal-format.ts';

const V3_64BIT = { s_feature_incompat: 0x12, s_checksum_type: 4 };

function formatOf(fields: Partial<JournalSuperblock>, blockSize = 4096): JournalFormat {
  return new JournalFormat(journalSuperblock({ s_blocksize: blockSize, ...fields }), blockSize);
}

/** Spaces are for the reader; `n×xx` is a run of one byte. */
function hex(text: string): Uint8Array {
  return Uint8Array.from(
    text.split(' ').flatMap((part) => {
      const [, count = '1', digits = part] = /^(\d+)×([0-9a-f]+)$/.exec(part) ?? [];
      return Array.from({ length: Number(count) }, () => digits.match(/../g) ?? []).flat();
    }),
    (digits) => Number.parseInt(digits, 16),
  );
}

function block(text: string, size = 4096): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(hex(text));
  return bytes;
}

function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
}

test('a superblock has the checksum that the kernel gives it', () => {
  const sb = journalSuperblock({ ...V3_64BIT, s_blocksize: 4096, s_maxlen: 1024, s_sequence: 2, s_start: 1 });
  const raw = new Uint8Array(4096);
  writeJournalSuperblock(raw, sb);
  assert.equal(word(raw, 0xfc), 0x8afc9195);
  assert.deepEqual(readJournalSuperblock(raw, 4096, 1024), {
    sb: { ...sb, s_checksum: 0x8afc9195 },
    first: 1,
    last: 1024,
    fcFirst: 1024,
    fcLast: 1024,
    isReadOnly: false,
  });
});

test('a commit block is that of the kernel, byte by byte', () => {
  const commit = block(`c03b3998 00000002 00000002 00000000 5983fef2 28×00 000000006b010ea1 0ef06873`);
  const format = formatOf(V3_64BIT);
  assert.deepEqual(format.commitBlock(2, 0x6b010ea1, 0x0ef06873, 0), commit);
  assert(format.verifyCommit(commit));
});

test('a commit block is right too where only its first sector was written, and wrong where its header was changed', () => {
  const format = formatOf(V3_64BIT);
  const torn = format.commitBlock(2, 5, 6, 0);
  torn.fill(0x5a, 512);
  assert(format.verifyCommit(torn));
  torn.fill(1, 0x3b, 0x3c);
  assert(!format.verifyCommit(torn));
});

test('a descriptor with one tag is that of the kernel, byte by byte', () => {
  const format = formatOf(V3_64BIT);
  const checksum = format.dataCsum(2, new Uint8Array(4096));
  assert.equal(checksum, 0xd714b6a9);
  const expected = block('c03b3998 00000001 00000002 00000014 00000008 00000000 d714b6a9');
  new DataView(expected.buffer).setUint32(4092, 0xa23708bc);
  assert.deepEqual(format.descriptor(2, [{ blocknr: 0x14, flags: 0, checksum }]), expected);
  assert(format.verifyTail(expected));
  assert.deepEqual(format.readTags(expected), [{ blocknr: 0x14, flags: 8, checksum }]);
});

test('a descriptor of the kernel is read: the first tag has a UUID behind it, the others have not', () => {
  const format = formatOf(V3_64BIT);
  const descriptor = block('c03b3998 00000001 00000002 00000014 00000000 00000000 372b07be 16×00 00000001 0000000a 00000000 6d8aae5a');
  assert.deepEqual(format.readTags(descriptor), [
    { blocknr: 0x14, flags: 0, checksum: 0x372b07be },
    { blocknr: 1, flags: 0xa, checksum: 0x6d8aae5a },
  ]);
});

test('a revoke block is that of the kernel, byte by byte', () => {
  const format = formatOf(V3_64BIT);
  const expected = block('c03b3998 00000005 00000003 00000018 0000000000000593');
  new DataView(expected.buffer).setUint32(4092, 0xfee89844);
  assert.deepEqual(format.revokeBlock(3, [1427]), expected);
  assert.deepEqual(format.readRevokes(expected), [1427]);
});

test('a revoke block that counts less than its header or more than the block is refused', () => {
  const format = formatOf(V3_64BIT);
  for (const count of [0, 15, 4093, 0xffffffff]) {
    const revoke = block('c03b3998 00000005 00000003');
    new DataView(revoke.buffer).setUint32(12, count);
    assert.throws(
      () => format.readRevokes(revoke),
      (error) => hasCode(error, 'EINVAL'),
      `${count} bytes`,
    );
  }
});

for (const [name, fields, tagSize] of [
  ['none', {}, 8],
  ['64bit', { s_feature_incompat: 2 }, 12],
  ['csum_v2', { s_feature_incompat: 8 }, 10],
  ['csum_v2 and 64bit', { s_feature_incompat: 0xa }, 14],
  ['csum_v3', { s_feature_incompat: 0x10 }, 16],
  ['csum_v3 and 64bit', { s_feature_incompat: 0x12 }, 16],
] as const) {
  test(`a full descriptor and a full revoke block read as they were written: ${name}`, () => {
    const format = formatOf(fields, 1024);
    assert.equal(format.tagSize, tagSize);
    const high = format.is64bit ? 7 * 2 ** 32 : 0;
    const mask = { 0: 0, 1: 0, 2: 0xffff, 3: 0xffffffff }[format.csumVersion];
    const tags = Array.from({ length: format.tagsPerBlock }, (_, i) => ({
      blocknr: high + 1000 + i,
      flags: i % 3 === 0 ? JBD2_FLAG_ESCAPE : 0,
      checksum: ((0x89abcde0 + i) & mask) >>> 0,
    }));
    const read = format.readTags(format.descriptor(9, tags));
    assert.deepEqual(
      read.map((tag) => ({ ...tag, flags: tag.flags & JBD2_FLAG_ESCAPE })),
      tags,
    );
    const revokes = Array.from({ length: format.revokesPerBlock }, (_, i) => high + i);
    assert.deepEqual(format.readRevokes(format.revokeBlock(9, revokes)), revokes);
  });
}

test('a descriptor that never says "last" ends with its block', () => {
  const format = formatOf({ s_feature_incompat: 0x12 }, 1024);
  const descriptor = format.newBlock(1, 5);
  descriptor.fill(0xff, 12);
  descriptor.forEach((_, at) => {
    if (at >= 12 && (at - 12) % 16 === 7) descriptor[at] = 2;
  });
  assert.equal(format.readTags(descriptor).length, Math.floor((1024 - 4 - 12) / 16));
});

test('a block of another transaction, of another kind, or of none has no type', () => {
  const format = formatOf({});
  assert.equal(format.typeOf(format.newBlock(2, 7), 7), 2);
  assert.equal(format.typeOf(format.newBlock(2, 7), 8), 0);
  assert.equal(format.typeOf(new Uint8Array(4096), 0), 0);
});

test('data that begins with the magic of the log is escaped, and restored', () => {
  const data = hex('c03b3998 00000001');
  assert(needsEscape(data));
  data.fill(0, 0, 4);
  assert(!needsEscape(data));
  restoreMagic(data);
  assert.deepEqual(data, hex('c03b3998 00000001'));
});

test('a superblock of version 1 has no features, whatever follows it', () => {
  const raw = new Uint8Array(1024).fill(0xff, 0x24);
  journal_superblock.write(raw, 0, {
    ...journalSuperblock({ h_blocktype: 3 }),
    s_feature_incompat: 0xffffffff,
    s_feature_compat: 0xffffffff,
  });
  const { sb } = readJournalSuperblock(raw, 1024, 1024);
  assert.equal(sb.s_feature_incompat, 0);
});

for (const [what, fields, code] of [
  ['no magic', { h_magic: 1 }, 'EUCLEAN'],
  ['another kind of block', { h_blocktype: 1 }, 'EUCLEAN'],
  ['another block size', { s_blocksize: 2048 }, 'EUCLEAN'],
  ['more blocks than there are', { s_maxlen: 1025 }, 'EUCLEAN'],
  ['too few blocks', { s_maxlen: 1023 }, 'EUCLEAN'],
  ['no blocks', { s_maxlen: 0 }, 'EUCLEAN'],
  ['a log that begins at its superblock', { s_first: 0 }, 'EUCLEAN'],
  ['a log that begins behind its end', { s_first: 1024 }, 'EUCLEAN'],
  ['a start before the log', { s_first: 5, s_start: 4 }, 'EUCLEAN'],
  ['a start behind the log', { s_start: 1024 }, 'EUCLEAN'],
  ['more fast commits than blocks', { s_feature_incompat: 0x20, s_num_fc_blocks: 0xffffffff }, 'EUCLEAN'],
  ['too little besides fast commits', { s_feature_incompat: 0x20, s_num_fc_blocks: 1 }, 'EUCLEAN'],
  ['an unknown feature', { s_feature_incompat: 0x40 }, 'EOPNOTSUPP'],
  ['checksums of versions 2 and 3', { s_feature_incompat: 0x18, s_checksum_type: 4 }, 'EUCLEAN'],
  ['checksums of versions 1 and 3', { s_feature_compat: 1, s_feature_incompat: 0x10, s_checksum_type: 4 }, 'EUCLEAN'],
  ['an unknown checksum', { s_feature_incompat: 0x10, s_checksum_type: 1 }, 'EUCLEAN'],
] as const) {
  test(`a superblock with ${what} is refused`, () => {
    const raw = new Uint8Array(1024);
    writeJournalSuperblock(raw, journalSuperblock(fields));
    assert.throws(
      () => readJournalSuperblock(raw, 1024, 1024),
      (error) => hasCode(error, code),
    );
  });
}

test('a superblock with a wrong checksum is refused', () => {
  const raw = new Uint8Array(1024);
  writeJournalSuperblock(raw, journalSuperblock(V3_64BIT));
  readJournalSuperblock(raw, 1024, 1024);
  raw[0x1b] = 77;
  assert.throws(
    () => readJournalSuperblock(raw, 1024, 1024),
    (error) => hasCode(error, 'EBADMSG'),
  );
});

test("the seed of all checksums is the journal's own UUID", () => {
  const other = formatOf({ ...V3_64BIT, s_uuid: TEST_UUID.map((byte) => byte ^ 1) });
  assert.notEqual(other.dataCsum(2, new Uint8Array(4096)), 0xd714b6a9);
});
