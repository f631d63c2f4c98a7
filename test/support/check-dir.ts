// A directory as e2fsck looks at it: every block of it is accounted for, and what breaks a rule is an error of the test.

import assert from 'node:assert/strict';
import { crc32c } from '../../src/base/crc.ts';
import type { Task } from '../../src/base/task.ts';
import { readFileBlock } from '../../src/fs/ext4/block-map.ts';
import { NameHasher } from '../../src/fs/ext4/dir-hash.ts';
import type { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import { nameOf } from '../../src/vfs/name.ts';

export interface CheckedDir {
  /** Names and inode numbers, without "." and "..". */
  readonly names: Map<string, number>;
  readonly parent: number;
  /** Levels of the index, its root included; 0: none. */
  readonly levels: number;
  /** Keys of leaves that continue a run of equal hashes. */
  readonly continued: number;
  readonly blocks: number;
}

interface Entry {
  readonly name: string;
  readonly ino: number;
  readonly hash: number;
}

/** Reads a directory of blocks by rules of its own, and checks all of them. */
export function* checkDir(dir: Ext4Inode): Task<CheckedDir> {
  const { blockSize, hasCsum, es } = dir.sb;
  assert.equal(dir.size % blockSize, 0, 'the size is whole blocks');
  const count = dir.size / blockSize;
  const usable = hasCsum ? blockSize - 12 : blockSize;
  const blocks: DataView[] = [];
  for (let lblk = 0; lblk < count; lblk++) {
    const bh = yield* readFileBlock(dir, lblk);
    assert.ok(bh !== undefined, `block ${lblk} is no hole`);
    bh.seal?.(bh);
    blocks.push(new DataView(bh.data.slice().buffer));
  }
  const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer);
  const recLenAt = (view: DataView, at: number): number => {
    const raw = view.getUint16(at + 4, true);
    return blockSize === 65536 && (raw === 0xffff || raw === 0) ? 65536 : raw;
  };
  let hasher: NameHasher | undefined;

  const records = (lblk: number, from: number): Entry[] => {
    const view = blocks[lblk] as DataView;
    const found: Entry[] = [];
    let at = from;
    for (let recLen: number; at < usable; at += recLen) {
      recLen = recLenAt(view, at);
      const ino = view.getUint32(at, true);
      const nameLen = view.getUint8(at + 6);
      assert.ok(recLen >= 12 && recLen % 4 === 0 && recLen >= 8 + nameLen && at + recLen <= usable, `block ${lblk}, record at ${at}`);
      if (ino === 0) continue;
      assert.ok(ino <= es.inodesCount && nameLen > 0, `block ${lblk}, record at ${at}`);
      const bytes = bytesOf(view).subarray(at + 8, at + 8 + nameLen);
      found.push({ name: nameOf(bytes), ino, hash: hasher?.hash(bytes) ?? 0 });
    }
    assert.equal(at, usable, `block ${lblk}: records end at the tail`);
    if (hasCsum) {
      assert.equal(view.getUint32(usable, true), 0, `block ${lblk}: tail`);
      assert.equal(view.getUint32(usable + 4, true), 0xde00000c, `block ${lblk}: tail`);
      assert.equal(view.getUint32(usable + 8, true), crc32c(dir.csumSeed, bytesOf(view), 0, usable), `block ${lblk}: checksum`);
    }
    return found;
  };

  const names = new Map<string, number>();
  const add = (entries: Entry[]): void => {
    for (const { name, ino } of entries) {
      assert.ok(!names.has(name), `${name} is there once`);
      names.set(name, ino);
    }
  };

  const root = blocks[0] as DataView;
  assert.equal(root.getUint32(0, true), dir.ino, '"." is the directory');
  assert.equal(root.getUint16(4, true), 12);
  assert.equal(root.getUint16(8, true), 0x002e, '"."');
  assert.equal(root.getUint16(20, true), 0x2e2e, '".."');
  const parent = root.getUint32(12, true);

  if (!dir.isIndexed) {
    add(records(0, 12 + recLenAt(root, 12)));
    for (let lblk = 1; lblk < count; lblk++) add(records(lblk, 0));
    return { names, parent, levels: 0, continued: 0, blocks: count };
  }

  assert.equal(recLenAt(root, 12), blockSize - 12, '".." hides the index');
  assert.equal(root.getUint32(24, true), 0);
  const version = root.getUint8(28);
  hasher = new NameHasher(version, es.hashSeed, es.hasUnsignedHash);
  assert.equal(root.getUint8(29), 8);
  const levels = root.getUint8(30) + 1;
  const seen = new Set<number>([0]);
  let continued = 0;
  let hashMaxBefore = -1;
  let limitKey = 0;

  const visit = (lblk: number, level: number, key: number, end: number): void => {
    const view = blocks[lblk] as DataView;
    if (level === levels) {
      const entries = records(lblk, 0);
      const from = (key & ~1) >>> 0;
      for (const { name, hash } of entries) {
        assert.ok(hash >= from, `block ${lblk}: ${name} is not below the leaf's key`);
        assert.ok(hash < end || (hash === (end & ~1) >>> 0 && (end & 1) === 1), `block ${lblk}: ${name} is not above the leaf's keys`);
      }
      // A run that goes over the border of leaves is marked.
      if (hashMaxBefore === from && from > 0 && entries.some(({ hash }) => hash === from))
        assert.equal(key & 1, 1, `block ${lblk}: continued`);
      continued += key & 1;
      hashMaxBefore = Math.max(hashMaxBefore, ...entries.map(({ hash }) => hash));
      add(entries);
      return;
    }
    const base = lblk === 0 ? 32 : 8;
    if (lblk !== 0) {
      assert.equal(view.getUint32(0, true), 0, `node ${lblk}`);
      assert.equal(recLenAt(view, 0), blockSize, `node ${lblk}`);
    }
    const limit = view.getUint16(base, true);
    const used = view.getUint16(base + 2, true);
    assert.equal(limit, Math.floor((blockSize - base - (hasCsum ? 8 : 0)) / 8), `index block ${lblk}: limit`);
    assert.ok(used >= 1 && used <= limit, `index block ${lblk}: count ${used}`);
    if (hasCsum) {
      const tail = base + limit * 8;
      let crc = crc32c(dir.csumSeed, bytesOf(view), 0, base + used * 8);
      crc = crc32c(crc, bytesOf(view), tail, tail + 4);
      assert.equal(view.getUint32(tail + 4, true), crc32c(crc, new Uint8Array(4)), `index block ${lblk}: checksum`);
    }
    for (let i = 0; i < used; i++) {
      const child = view.getUint32(base + i * 8 + 4, true);
      const childKey = i === 0 ? key : view.getUint32(base + i * 8, true);
      const childEnd = i + 1 < used ? view.getUint32(base + (i + 1) * 8, true) : end;
      assert.ok((childKey & ~1) >>> 0 >= limitKey, `index block ${lblk}: keys are in order`);
      limitKey = (childKey & ~1) >>> 0;
      assert.ok(child > 0 && child < count && !seen.has(child), `index block ${lblk}: block ${child}`);
      seen.add(child);
      visit(child, level + 1, childKey, childEnd);
    }
  };
  visit(0, 0, 0, 2 ** 32);
  assert.equal(seen.size, count, 'all blocks are in the index');
  return { names, parent, levels, continued, blocks: count };
}
