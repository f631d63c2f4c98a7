import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FakeLog, fakeInode, fakeSb, now, useFakes } from '../../../test/support/ext4-world.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT_MAX_BLOCKS, EXT4_EXTENTS_FL } from './format.ts';

useFakes();
const map = await import('./block-map.ts');

/** Of the volume with UUID 00112233-4455-6677-8899-aabbccddeeff. */
const CSUM_SEED = 0xb720167d;

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replace(/[ |]/g, ''), 'hex'));
}

/** Puts bytes on the device, as a stranger would. */
function poke(sb: Ext4Sb, blocknr: number, bytes: Uint8Array): void {
  const bh = sb.buffers.create(blocknr);
  bh.data.set(bytes);
  bh.isDirty = true;
  assert.equal(sb.buffers.writeDirty(), undefined);
  sb.buffers.dropClean();
}

interface Entry {
  readonly lblk: number;
  /** ee_len as it is stored; of an index: not used. */
  readonly len?: number;
  readonly to: number;
}

/** A node as the format has it, whatever sense it makes. */
function node(depth: number, max: number, entries: readonly Entry[], changes: { magic?: number; count?: number } = {}): Uint8Array {
  const bytes = new Uint8Array(12 + 12 * Math.max(4, entries.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, changes.magic ?? 0xf30a, true);
  view.setUint16(2, changes.count ?? entries.length, true);
  view.setUint16(4, max, true);
  view.setUint16(6, depth, true);
  for (const [i, { lblk, len = 1, to }] of entries.entries()) {
    const at = 12 + i * 12;
    view.setUint32(at, lblk, true);
    if (depth === 0) {
      view.setUint16(at + 4, len, true);
      view.setUint16(at + 6, Math.floor(to / 2 ** 32), true);
      view.setUint32(at + 8, to % 2 ** 32, true);
    } else {
      view.setUint32(at + 4, to % 2 ** 32, true);
      view.setUint16(at + 8, Math.floor(to / 2 ** 32), true);
      view.setUint16(at + 10, 0xabcd, true);
    }
  }
  return bytes;
}

function withRoot(sb: Ext4Sb, root: Uint8Array, flags = EXT4_EXTENTS_FL): Ext4Inode {
  const inode = fakeInode(sb, 12, { flags });
  inode.iBlock = new Uint8Array(60);
  inode.iBlock.set(root.subarray(0, 60));
  return inode;
}

// Root and leaves that the kernel wrote.

test('a root written by the kernel maps as it should', () => {
  const sb = fakeSb({ blockSize: 4096, blocks: 16384 });
  const inode = withRoot(
    sb,
    bytesOf(
      '0af3030004000000 00000000 | 00000000 0280 0000 ee0c0000 | 02000000 0100 0000 f00c0000 | 03000000 0d80 0000 f10c0000' +
        '00'.repeat(12),
    ),
  );
  assert.deepEqual(now(map.mapBlocks(inode, 1)), { lblk: 0, count: 2, pblk: 3310, isUnwritten: true });
  assert.deepEqual(now(map.mapBlocks(inode, 2)), { lblk: 2, count: 1, pblk: 3312, isUnwritten: false });
  assert.deepEqual(now(map.mapBlocks(inode, 15)), { lblk: 3, count: 13, pblk: 3313, isUnwritten: true });
  assert.deepEqual(now(map.mapBlocks(inode, 16)), { lblk: 16, count: EXT_MAX_BLOCKS - 16, pblk: 0, isUnwritten: false });
});

test('a tree of 600 extents written by the kernel maps as it should', () => {
  const sb = fakeSb({ blockSize: 4096, blocks: 16384, hasCsum: false });
  const inode = withRoot(
    sb,
    bytesOf('0af3020004000100 00000000 | 00000000 3d0c0000 0000 0000 | a8020000 3e0c0000 0000 0400' + '00'.repeat(24)),
  );
  const entries = Array.from({ length: 600 }, (_, i) => ({ lblk: 2 * i, to: 0x83d + 2 * i }));
  const first = node(0, 340, entries.slice(0, 340));
  assert.deepEqual(first.subarray(0, 36), bytesOf('0af3540154010000 00000000 | 00000000 0100 0000 3d080000 | 02000000 0100 0000 3f080000'));
  poke(sb, 3133, first);
  poke(sb, 3134, node(0, 340, entries.slice(340)));
  assert.deepEqual(now(map.mapBlocks(inode, 678)), { lblk: 678, count: 1, pblk: 0x83d + 678, isUnwritten: false });
  assert.deepEqual(now(map.mapBlocks(inode, 679)), { lblk: 679, count: 1, pblk: 0, isUnwritten: false });
  assert.deepEqual(now(map.mapBlocks(inode, 1198)), { lblk: 1198, count: 1, pblk: 0x83d + 1198, isUnwritten: false });
  assert.equal(now(map.countTreeBlocks(inode)), 2);
  const found: number[] = [];
  now(map.forEachExtent(inode, 100, 201, ({ lblk }) => found.push(lblk)));
  assert.deepEqual(
    found,
    Array.from({ length: 51 }, (_, i) => 100 + 2 * i),
  );
});

test('a block of the tree leaves memory with the checksum that the kernel would give it', () => {
  const sb = fakeSb({ csumSeed: CSUM_SEED });
  const inode = withRoot(sb, node(1, 4, [{ lblk: 0, to: 50 }]));
  assert.equal(inode.csumSeed, 0xa07fe7a3);
  const leaf = new Uint8Array(1024);
  leaf.set(node(0, 84, [{ lblk: 0, to: 0x100 }]));
  new DataView(leaf.buffer).setUint32(1020, 0x6c865f4d, true);
  poke(sb, 50, leaf);
  assert.equal(now(map.mapBlocks(inode, 0)).pblk, 0x100);
  const log = sb.log as FakeLog;
  const h = log.start(20);
  now(map.insertBlocks(h, inode, 10, 0x200, 1, false));
  now(map.convertBlocks(h, inode, 10, 1, true));
  h.stop();
  log.commit();
  sb.buffers.dropClean();
  assert.equal(now(map.mapBlocks(inode, 10)).pblk, 0x200, 'it is believed when it is read back');
  const other = withRoot(sb, inode.iBlock);
  other.generation++;
  sb.buffers.dropClean();
  assert.throws(() => now(map.mapBlocks(other, 0)), { code: 'EBADMSG' }, 'the checksum is that of one inode');
});

test('a wrong checksum is EBADMSG, each time', () => {
  const sb = fakeSb();
  const inode = withRoot(sb, node(1, 4, [{ lblk: 0, to: 50 }]));
  poke(sb, 50, node(0, 84, [{ lblk: 0, to: 100 }]));
  for (let i = 0; i < 2; i++) assert.throws(() => now(map.mapBlocks(inode, 0)), { code: 'EBADMSG' });
});

const GOOD_LEAF = node(0, 84, [{ lblk: 0, to: 100 }]);

/** Roots that no tree has, and blocks 50, 51 ... below them. */
const hostile: Record<string, { root: Uint8Array; blocks?: Uint8Array[]; lblk?: number }> = {
  'magic of the root': { root: node(0, 4, [], { magic: 0xf30b }) },
  'a root of more than 4': { root: node(0, 5, []) },
  'a root with room for none': { root: node(0, 0, []) },
  'more entries than room': { root: node(0, 2, [], { count: 3 }) },
  'a root of depth 6': { root: node(6, 4, [{ lblk: 0, to: 50 }]), blocks: [GOOD_LEAF] },
  'an index root without entries': { root: node(1, 4, []) },
  'an extent of no blocks': { root: node(0, 4, [{ lblk: 0, len: 0, to: 100 }]) },
  'extents out of order': {
    root: node(0, 4, [
      { lblk: 10, to: 100 },
      { lblk: 5, to: 200 },
    ]),
  },
  'extents that overlap': {
    root: node(0, 4, [
      { lblk: 0, len: 3, to: 100 },
      { lblk: 2, to: 200 },
    ]),
  },
  'an extent past the last file block': { root: node(0, 4, [{ lblk: EXT_MAX_BLOCKS - 1, len: 2, to: 100 }]) },
  'an extent past the end of the volume': { root: node(0, 4, [{ lblk: 0, len: 2, to: 65_535 }]) },
  'an extent at a block of 48 bits': { root: node(0, 4, [{ lblk: 0, to: 2 ** 48 - 1 }]) },
  'an extent at block 0': { root: node(0, 4, [{ lblk: 0, to: 0 }]) },
  'an extent in the inode table': { root: node(0, 4, [{ lblk: 0, len: 200, to: 900 }]) },
  'an index into the inode table': { root: node(1, 4, [{ lblk: 0, to: 1005 }]) },
  'an index past the end': { root: node(1, 4, [{ lblk: 0, to: 70_000 }]) },
  'indexes out of order': {
    root: node(1, 4, [
      { lblk: 9, to: 50 },
      { lblk: 9, to: 51 },
    ]),
    blocks: [GOOD_LEAF, GOOD_LEAF],
  },
  'magic of a leaf': { root: node(1, 4, [{ lblk: 0, to: 50 }]), blocks: [node(0, 84, [{ lblk: 0, to: 100 }], { magic: 0 })] },
  'a leaf of more than there is room for': { root: node(1, 4, [{ lblk: 0, to: 50 }]), blocks: [node(0, 85, [{ lblk: 0, to: 100 }])] },
  'a node with room for one': { root: node(1, 4, [{ lblk: 0, to: 50 }]), blocks: [node(0, 1, [{ lblk: 0, to: 100 }])] },
  'a depth that jumps': { root: node(2, 4, [{ lblk: 0, to: 50 }]), blocks: [GOOD_LEAF] },
  'a node that is its own child': { root: node(1, 4, [{ lblk: 0, to: 50 }]), blocks: [node(1, 84, [{ lblk: 0, to: 50 }])] },
  'an index block without entries': { root: node(2, 4, [{ lblk: 0, to: 50 }]), blocks: [node(1, 84, [])] },
  'a leaf that begins before its index': { root: node(1, 4, [{ lblk: 5, to: 50 }]), blocks: [GOOD_LEAF], lblk: 6 },
  'a leaf that goes over the next index': {
    root: node(1, 4, [
      { lblk: 0, to: 50 },
      { lblk: 5, to: 51 },
    ]),
    blocks: [node(0, 84, [{ lblk: 0, len: 6, to: 100 }]), node(0, 84, [{ lblk: 5, to: 200 }])],
  },
  'the same leaf twice': {
    root: node(1, 4, [
      { lblk: 0, to: 50 },
      { lblk: 5, to: 50 },
    ]),
    blocks: [GOOD_LEAF],
    lblk: 5,
  },
};

for (const [name, { root, blocks = [], lblk = 0 }] of Object.entries(hostile)) {
  test(`an extent tree is refused: ${name}`, () => {
    const sb = fakeSb({ hasCsum: false });
    sb.zone.set([{ start: 1000, count: 100, what: 'inode table' }]);
    for (const [i, block] of blocks.entries()) poke(sb, 50 + i, block);
    const inode = withRoot(sb, root);
    for (let i = 0; i < 2; i++) assert.throws(() => now(map.mapBlocks(inode, lblk)), { code: 'EUCLEAN' });
    const h = (sb.log as FakeLog).start(1000);
    assert.throws(() => now(map.insertBlocks(h, inode, lblk, 300, 1, false)), { code: 'EUCLEAN' });
    h.rollback();
  });
}

test('on a volume of clusters an extent that does not lie in them as its file blocks do is refused', () => {
  const sb = fakeSb({ clusterRatio: 4 });
  assert.equal(now(map.mapBlocks(withRoot(sb, node(0, 4, [{ lblk: 1, to: 101 }])), 1)).pblk, 101);
  assert.throws(() => now(map.mapBlocks(withRoot(sb, node(0, 4, [{ lblk: 1, to: 102 }])), 1)), { code: 'EUCLEAN' });
});

test('the inode that owns a part of the zone, and no other, may map it', () => {
  const sb = fakeSb({ hasCsum: false });
  sb.zone.add(1000, 100, 8);
  const root = node(0, 4, [{ lblk: 0, len: 100, to: 1000 }]);
  const journal = fakeInode(sb, 8);
  journal.iBlock = root.slice(0, 60);
  assert.equal(now(map.mapBlocks(journal, 5)).pblk, 1000);
  assert.throws(() => now(map.mapBlocks(withRoot(sb, root), 5)), { code: 'EUCLEAN' });
});

test('a tree whose indexes begin before their leaves is mapped and changed', () => {
  const sb = fakeSb({ hasCsum: false });
  const lax = node(1, 4, [
    { lblk: 0, to: 50 },
    { lblk: 100, to: 51 },
  ]);
  poke(sb, 50, node(0, 84, [{ lblk: 10, len: 5, to: 200 }]));
  poke(sb, 51, node(0, 84, [{ lblk: 150, len: 5, to: 300 }]));
  const inode = withRoot(sb, lax);
  assert.equal(now(map.mapBlocks(inode, 3)).pblk, 0);
  assert.deepEqual(now(map.mapBlocks(inode, 120)), { lblk: 100, count: 50, pblk: 0, isUnwritten: false });
  const h = (sb.log as FakeLog).start(100);
  // Over the border of the two leaves.
  now(map.insertBlocks(h, inode, 90, 400, 40, false));
  h.stop();
  for (let lblk = 90; lblk < 130; lblk++) {
    const found = now(map.mapBlocks(inode, lblk));
    assert.equal(found.pblk + lblk - found.lblk, 310 + lblk);
  }
  assert.equal(now(map.mapBlocks(inode, 130)).pblk, 0);
  assert.equal(now(map.mapBlocks(inode, 152)).pblk, 300);
});

test('block pointers that lead to metadata or past the end are refused', () => {
  const sb = fakeSb({ hasCsum: false });
  sb.zone.set([{ start: 1000, count: 100, what: 'inode table' }]);
  const root = (slot: number, to: number): Uint8Array => {
    const bytes = new Uint8Array(60);
    new DataView(bytes.buffer).setUint32(slot * 4, to, true);
    return bytes;
  };
  for (const [slot, to] of [
    [0, 1050],
    [3, 70_000],
    [12, 1050],
    [14, 0xffffffff],
  ] as const) {
    assert.throws(() => now(map.mapBlocks(withRoot(sb, root(slot, to), 0), 0)), { code: 'EUCLEAN' });
  }
  const block = new Uint8Array(1024);
  new DataView(block.buffer).setUint32(40, 1050, true);
  poke(sb, 50, block);
  const inode = withRoot(sb, root(12, 50), 0);
  for (let i = 0; i < 2; i++) assert.throws(() => now(map.mapBlocks(inode, 12)), { code: 'EUCLEAN' });
});

test('a block of pointers that leads to itself ends with its level', () => {
  const sb = fakeSb({ hasCsum: false });
  const block = new Uint8Array(1024);
  const view = new DataView(block.buffer);
  for (let i = 0; i < 256; i++) view.setUint32(i * 4, 50, true);
  poke(sb, 50, block);
  const iBlock = new Uint8Array(60);
  new DataView(iBlock.buffer).setUint32(14 * 4, 50, true);
  const inode = withRoot(sb, iBlock, 0);
  assert.equal(now(map.mapBlocks(inode, 12 + 256 + 256 ** 2 + 77)).pblk, 50);
  const ignore = (): void => {};
  assert.throws(() => now(map.forEachExtent(inode, 0, EXT_MAX_BLOCKS, ignore)), { code: 'EUCLEAN' }, 'more blocks than there are');
  assert.throws(() => now(map.countTreeBlocks(inode)), { code: 'EUCLEAN' }, 'more blocks than there are');
});
