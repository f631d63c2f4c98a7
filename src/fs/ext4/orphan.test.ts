import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { type FakeHandle, type FakeLog, getInode, inodeWorld, newInode, now, useInodeFakes } from '../../../test/support/xattr-world.ts';
import { crc32c, crc32cWord } from '../../base/crc.ts';
import { errnoCodeOf, hasCode } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { COMPAT_ORPHAN_FILE, INCOMPAT_EXTENTS, RO_COMPAT_ORPHAN_PRESENT } from './features.ts';

useInodeFakes();
const { addOrphan, clearOrphanList, hasOrphans, isOrphan, loadOrphans, removeOrphan } = await import('./orphan.ts');
const { initBlockMap, insertBlocks } = await import('./block-map.ts');

const S = 0xb720167d;
const FILE_INO = 12;
const FILE_BLOCK = 500;
/** A block of the orphan file in blocks of 1 KiB has room for so many. */
const SLOTS = (1024 - 8) / 4;

function update<T>(sb: Ext4Sb, body: (h: FakeHandle) => Task<T>): T {
  const h = (sb.log as FakeLog).start(100);
  try {
    const answer = now(body(h));
    h.stop();
    return answer;
  } catch (error) {
    h.rollback();
    throw error;
  }
}

const load = (sb: Ext4Sb): number[] => now(loadOrphans(sb, (ino) => getInode(sb, ino)));

/** A volume with inodes from 20 on, and an orphan file of so many blocks. */
function world(count: number, fileBlocks = 0, options: { hasCsum?: boolean } = {}): { sb: Ext4Sb; inodes: Ext4Inode[] } {
  const sb = inodeWorld({
    ...options,
    csumSeed: S,
    incompat: INCOMPAT_EXTENTS,
    ...(fileBlocks > 0 ? { compat: COMPAT_ORPHAN_FILE, roCompat: RO_COMPAT_ORPHAN_PRESENT } : {}),
  });
  const inodes = Array.from({ length: count }, (_, i) => newInode(sb, 20 + i));
  if (fileBlocks > 0) {
    sb.es.fields.s_orphan_file_inum = FILE_INO;
    const file = newInode(sb, FILE_INO);
    file.generation = 0;
    file.size = fileBlocks * 1024;
    update(sb, function* (h) {
      yield* initBlockMap(h, file);
      yield* insertBlocks(h, file, 0, FILE_BLOCK, fileBlocks, false);
    });
    for (let i = 0; i < fileBlocks; i++) {
      const bh = block(sb, FILE_BLOCK + i);
      bh.isDirty = true;
      const { data } = bh;
      new DataView(data.buffer).setUint32(1016, 0x0b10ca04, true);
      if (i === 0) new DataView(data.buffer).setUint32(0, 13, true);
      const seed = crc32cWord(crc32cWord(file.csumSeed, FILE_BLOCK + i), 0);
      new DataView(data.buffer).setUint32(1020, i === 0 ? 0xfdbadd94 : crc32c(seed, data, 0, 1016), true);
    }
  }
  return { sb, inodes };
}

function block(sb: Ext4Sb, blocknr: number): BufferHead & { data: Uint8Array<ArrayBuffer> } {
  return sb.buffers.read(blocknr) as BufferHead & { data: Uint8Array<ArrayBuffer> };
}

/** The list as the next mount finds it. */
function listOnDisk(sb: Ext4Sb, inodes: readonly Ext4Inode[]): number[] {
  const found: number[] = [];
  for (let ino = sb.es.lastOrphan; ino !== 0; ino = inodes.find((inode) => inode.ino === ino)?.dtime ?? 0) {
    found.push(ino);
    assert.ok(found.length <= inodes.length, 'the list ends');
  }
  return found;
}

test('the list is headed by the newest, and each names the next', () => {
  const { sb, inodes } = world(3);
  assert.deepEqual(load(sb), []);
  for (const inode of inodes) update(sb, (h) => addOrphan(h, inode));
  assert.deepEqual(listOnDisk(sb, inodes), [22, 21, 20]);
  assert.deepEqual(load(sb), [22, 21, 20]);
  update(sb, (h) => removeOrphan(h, inodes[1] as Ext4Inode));
  assert.deepEqual(listOnDisk(sb, inodes), [22, 20]);
  assert.equal(inodes[1]?.dtime, 0);
  assert.equal(isOrphan(inodes[1] as Ext4Inode), false);
  update(sb, (h) => clearOrphanList(h, sb));
  assert.equal(sb.es.lastOrphan, 0);
  assert.equal(hasOrphans(sb), false);
});

test('the list agrees with a set under random changes, half of them rolled back', () =>
  forEachSeed('orphan list', 60, (prng) => {
    const { sb, inodes } = world(8);
    load(sb);
    let model: number[] = [];
    for (let step = 0; step < 80; step++) {
      const h = (sb.log as FakeLog).start(100);
      let next = model;
      for (let i = prng.between(1, 3); i > 0; i--) {
        const inode = prng.pick(inodes);
        const isAdd = prng.chance(0.6);
        now(isAdd ? addOrphan(h, inode) : removeOrphan(h, inode));
        if (!isAdd) next = next.filter((ino) => ino !== inode.ino);
        else if (!next.includes(inode.ino)) next = [inode.ino, ...next];
      }
      if (prng.chance(0.5)) h.rollback();
      else {
        h.stop();
        model = next;
      }
      assert.deepEqual(listOnDisk(sb, inodes), model);
      for (const each of inodes) assert.equal(isOrphan(each), model.includes(each.ino));
    }
    assert.deepEqual(load(sb), model);
  }));

test('a list that goes in circles or to reserved inodes ends there, and is noted', () => {
  const { sb, inodes } = world(3);
  const noted: string[] = [];
  sb.noteError = (error) => noted.push(error.code);
  const [a, b] = inodes as [Ext4Inode, Ext4Inode];
  sb.es.lastOrphan = a.ino;
  a.dtime = b.ino;
  b.dtime = a.ino;
  assert.deepEqual(load(sb), [a.ino, b.ino]);
  b.dtime = 2;
  assert.deepEqual(load(sb), [a.ino, b.ino]);
  sb.es.lastOrphan = 8;
  assert.deepEqual(load(sb), []);
  assert.deepEqual(noted, ['EUCLEAN', 'EUCLEAN', 'EUCLEAN']);
});

test('a block of the orphan file has the checksum of a kernel', () => {
  const { sb } = world(0, 1);
  const orphan = newInode(sb, 13);
  assert.deepEqual(load(sb), [13]);
  update(sb, (h) => removeOrphan(h, orphan));
  assert.equal(hasOrphans(sb), false);
  update(sb, (h) => addOrphan(h, orphan));
  (sb.log as FakeLog).commit();
  const { data } = block(sb, FILE_BLOCK);
  assert.equal(new DataView(data.buffer).getUint32(1020, true), 0xfdbadd94);
  assert.equal(orphan.dtime, 0, 'i_dtime is no link');
  sb.buffers.dropClean();
  block(sb, FILE_BLOCK).data[4] = 1;
  assert.throws(
    () => load(sb),
    (error) => hasCode(error, 'EBADMSG'),
  );
});

test('a full orphan file is continued by the list', () => {
  const { sb, inodes } = world(2 * SLOTS + 2, 2);
  load(sb);
  for (const inode of inodes) update(sb, (h) => addOrphan(h, inode));
  assert.deepEqual(
    listOnDisk(sb, inodes),
    inodes
      .slice(-3)
      .map(({ ino }) => ino)
      .reverse(),
  );
  assert.ok(inodes.every(isOrphan));
  update(sb, (h) => removeOrphan(h, inodes[5] as Ext4Inode));
  update(sb, (h) => addOrphan(h, inodes[5] as Ext4Inode));
  assert.equal(inodes[5]?.dtime, 0, 'the slot is used again');
  (sb.log as FakeLog).commit();
  sb.buffers.dropClean();
  assert.equal(new Set(load(sb)).size, inodes.length + 1);
});

test('slots agree with a set under random changes, half of them rolled back', () =>
  forEachSeed('orphan file', 20, (prng) => {
    const { sb, inodes } = world(6, 2);
    load(sb);
    const model = new Set([13]);
    for (let step = 0; step < 60; step++) {
      const inode = prng.pick(inodes);
      const h = (sb.log as FakeLog).start(100);
      const isAdd = prng.chance(0.6);
      now(isAdd ? addOrphan(h, inode) : removeOrphan(h, inode));
      if (prng.chance(0.5)) h.rollback();
      else {
        h.stop();
        if (isAdd) model.add(inode.ino);
        else model.delete(inode.ino);
      }
      for (const each of inodes) assert.equal(isOrphan(each), model.has(each.ino));
    }
    (sb.log as FakeLog).commit();
    sb.buffers.dropClean();
    assert.deepEqual(new Set(load(sb)), model);
  }));

test('a damaged orphan file gives an error or orphans that can be', () =>
  forEachSeed('mutated orphan file', 100, (prng) => {
    const { sb } = world(3, 2, { hasCsum: false });
    for (let i = 0; i < 3; i++)
      block(sb, FILE_BLOCK + prng.below(2)).data[prng.chance(0.5) ? prng.below(1024) : 1016 + prng.below(8)] = prng.below(256);
    try {
      for (const ino of load(sb)) assert.ok(ino >= 11 && ino <= 1000 && ino !== FILE_INO);
    } catch (error) {
      assert.notEqual(errnoCodeOf(error), undefined, String(error));
    }
  }));
