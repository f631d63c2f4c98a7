import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeInode, fakeSb, now, useFakes } from '../../../test/support/ext4-world.ts';
import { crc32c } from '../../base/crc.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Handle } from '../../jbd2/log.ts';
import { S_IFDIR } from '../../vfs/uapi.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { EXT4_EXTENTS_FL } from './format.ts';

useFakes();
const { appendLeaf, isIndexLike, needLeaf, readLeaf } = await import('./dir-block.ts');
const { RecordFormat } = await import('./dir-record.ts');
const { dx_countlimit, dx_entry, dxChecksum } = await import('./htree.ts');
const { initBlockMap } = await import('./block-map.ts');

/** The seed of the vectors: crc32c of the UUID 00112233-4455-6677-8899-aabbccddeeff. */
const UUID = Uint8Array.from({ length: 16 }, (_, i) => i * 0x11);

function newDir(blockSize: number, hasCsum = true): { dir: Ext4Inode; h: Handle } {
  const es = { inodesCount: 1000, hasIncompat: () => true, hasCompat: () => true };
  const sb = fakeSb({ blockSize, hasCsum, csumSeed: crc32c(0xffffffff, UUID), es });
  const dir = fakeInode(sb, 12, { mode: S_IFDIR | 0o755, flags: EXT4_EXTENTS_FL, generation: 0x01020304 });
  const h = sb.log.start(100) as Handle;
  now(initBlockMap(h, dir));
  return { dir, h };
}

/** The block as it goes to the device. */
function sealed(bh: BufferHead): Uint8Array {
  bh.seal?.(bh);
  return bh.data;
}

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

test('the checksum of an empty leaf is the published one', () => {
  const { dir, h } = newDir(1024);
  assert.equal(dir.csumSeed.toString(16), 'a07fe7a3');
  const data = sealed(now(appendLeaf(h, dir, new RecordFormat(dir))).bh);
  assert.equal(hex(data.subarray(0, 8)), '00000000f4030000');
  assert.equal(hex(data.subarray(1012)), '000000000c0000dee3fffa6b');
});

test('the checksum of an index node is the published one', () => {
  const data = new Uint8Array(1024);
  data.set([0, 0, 0, 0, 0, 4]);
  dx_entry.write(data, 8, { block: 5 });
  dx_countlimit.view().at(data, 8).limit = 126;
  dx_countlimit.view().at(data, 8).count = 1;
  assert.equal(dxChecksum(data, 8, 126, newDir(1024).dir.csumSeed).toString(16), 'f57673ad');
});

test('a block of 64 KiB says its length in 16 bits, with a tail and without', () => {
  for (const [hasCsum, expected] of [
    [true, 'f4ff'],
    [false, 'ffff'],
  ] as const) {
    const { dir, h } = newDir(65536, hasCsum);
    const format = new RecordFormat(dir);
    const { bh } = now(appendLeaf(h, dir, format));
    assert.equal(hex(sealed(bh).subarray(4, 6)), expected);
    void h.stop();
    void dir.sb.log.commit();
    dir.sb.buffers.dropClean();
    assert.ok(now(readLeaf(dir, format, 0)) !== undefined, 'and is read again');
  }
  const format = new RecordFormat(newDir(65536).dir);
  for (const recLen of [12, 65532, 65536]) assert.equal(format.decodeRecLen(format.encodeRecLen(recLen)), recLen);
  assert.equal(format.decodeRecLen(0), 65536);
  assert.equal(format.decodeRecLen(1), 65536, 'the low bits are bits 16 and 17');
});

test('a block is verified once, not again after a change in core, and again from the device', () => {
  const { dir, h } = newDir(1024);
  const format = new RecordFormat(dir);
  const { bh } = now(appendLeaf(h, dir, format));
  bh.data[100] = 7; // under the checksum, which is not made yet
  bh.checked = 0;
  assert.equal(now(readLeaf(dir, format, 0)), bh);
  void h.stop();
  void dir.sb.log.commit();
  dir.sb.buffers.dropClean();
  const anew = now(needLeaf(dir, format, 0));
  assert.notEqual(anew, bh);
  anew.data[100] = 8;
  anew.isDirty = true;
  void dir.sb.buffers.writeDirty();
  dir.sb.buffers.dropClean();
  assert.throws(() => now(readLeaf(dir, format, 0)), { code: 'EBADMSG' });
});

test('bytes like a tail at the end of a root are no tail', () => {
  const { dir } = newDir(1024);
  const format = new RecordFormat(dir);
  const root = new Uint8Array(1024);
  root.set([12, 0, 0, 0, 12, 0, 1, 2, 0x2e]);
  root.set([2, 0, 0, 0, 0xf4, 3, 2, 2, 0x2e, 0x2e], 12);
  root.set([0, 0, 0, 0, 12, 0, 0, 0xde], 1012);
  assert.ok(isIndexLike(format, root));
  root[17] = 2;
  assert.ok(!isIndexLike(format, root));
});

test('a hole is passed over by readers, and an error for a change', () => {
  const { dir, h } = newDir(1024);
  const format = new RecordFormat(dir);
  dir.size = 4096;
  assert.equal(now(readLeaf(dir, format, 2)), undefined);
  assert.throws(() => now(needLeaf(dir, format, 2)), { code: 'EUCLEAN' });
  h.rollback();
});
