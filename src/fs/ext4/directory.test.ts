import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allocatorOf, fakeInode, fakeSb, now, useFakes } from '../../../test/support/ext4-world.ts';
import { forEachSeed } from '../../../test/support/seeds.ts';
import type { Prng } from '../../base/prng.ts';
import type { Handle } from '../../jbd2/log.ts';
import { S_IFDIR } from '../../vfs/uapi.ts';
import type { DirName } from './directory.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { COMPAT_DIR_INDEX, INCOMPAT_EXTENTS, INCOMPAT_FILETYPE, INCOMPAT_INLINE_DATA, INCOMPAT_LARGEDIR } from './features.ts';
import { EXT4_CASEFOLD_FL, EXT4_ENCRYPT_FL, EXT4_EXTENTS_FL, EXT4_FT_DIR, EXT4_FT_REG_FILE, EXT4_INDEX_FL } from './format.ts';

useFakes();
const { checkDir } = await import('../../../test/support/check-dir.ts');
const { addName, DirCursor, initDir, isEmptyDir, lookupName, parentOf, readDir, removeName, replaceName, setParent } = await import(
  './directory.ts'
);

interface WorldOptions {
  readonly blockSize?: number;
  readonly hasCsum?: boolean;
  readonly compat?: number;
  readonly incompat?: number;
  readonly hash?: number;
  readonly blocks?: number;
  readonly isUnsigned?: boolean;
}

const INODES = 2 ** 31;
const PARENT = 2;
const FULL = INCOMPAT_FILETYPE | INCOMPAT_EXTENTS;

function volume(options: WorldOptions = {}): Ext4Sb {
  const { compat = COMPAT_DIR_INDEX, incompat = FULL } = options;
  const sb = fakeSb({
    ...options,
    es: {
      inodesCount: INODES,
      inodeSize: 256,
      hashSeed: [0x33221100, 0x77665544, 0xbbaa9988, 0xffeeddcc],
      hasUnsignedHash: options.isUnsigned ?? false,
      fields: { s_def_hash_version: options.hash ?? 1 },
      hasCompat: (mask: number) => (compat & mask) !== 0,
      hasIncompat: (mask: number) => (incompat & mask) !== 0,
      hasRoCompat: () => false,
    },
  });
  sb.noteError = (_error, ino) => noted.push(ino);
  return sb;
}

/** Directories that were found to be damaged. */
const noted: number[] = [];

/** Runs a change in a handle of its own; undone if it throws. */
function change(sb: Ext4Sb, fn: (h: Handle) => void): void {
  const h = sb.log.start(100_000) as Handle;
  try {
    fn(h);
  } catch (error) {
    h.rollback();
    throw error;
  }
  void h.stop();
}

function newDir(sb: Ext4Sb, options: { flags?: number; ino?: number } = {}): Ext4Inode {
  const dir = fakeInode(sb, options.ino ?? 12, { mode: S_IFDIR | 0o755, flags: EXT4_EXTENTS_FL });
  dir.extraIsize = 32;
  dir.ea = new Uint8Array(96);
  change(sb, (h) => now(initDir(h, dir, PARENT)));
  if (options.flags !== undefined) dir.flags |= options.flags;
  return dir;
}

const add = (dir: Ext4Inode, name: string, ino: number, type: number = EXT4_FT_REG_FILE): void =>
  change(dir.sb, (h) => now(addName(h, dir, name, ino, type)));

function remove(dir: Ext4Inode, name: string): void {
  change(dir.sb, (h) => {
    const hit = now(lookupName(dir, name));
    assert.ok(hit !== undefined, `${name} is there`);
    now(removeName(h, dir, hit));
  });
}

/** All names, by calls of `count` names. */
function list(dir: Ext4Inode, count = 1000, cursor = new DirCursor()): DirName[] {
  const all: DirName[] = [];
  for (let cookie = 0; ; ) {
    const { names } = now(readDir(dir, cookie, count, cursor));
    if (names.length === 0) return all;
    assert.ok(names.length <= count);
    all.push(...names);
    assert.ok((names.at(-1)?.next as number) >= cookie, 'cookies do not go back');
    cookie = names.at(-1)?.next as number;
  }
}

function listed(dir: Ext4Inode, count?: number): Map<string, number> {
  const names = list(dir, count);
  const map = new Map(names.map(({ name, ino }) => [name, ino]));
  assert.equal(map.size, names.length, 'each name comes once');
  return map;
}

/** Drops everything in core after it is home, so that it is read and checked anew. */
function reload(sb: Ext4Sb): void {
  void sb.log.commit();
  sb.buffers.dropClean();
}

const sorted = (map: Map<string, number>): [string, number][] => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

function randomName(prng: Prng, long: boolean): string {
  const length = long ? prng.between(100, 240) : prng.between(1, 40);
  return `${prng.below(10_000_000).toString(36)}${'abcdefgh\u00e9\udc90-'[prng.below(11)]}`.padEnd(length, '.');
}

test('a new directory has its parent and no names', () => {
  for (const incompat of [FULL, FULL | INCOMPAT_INLINE_DATA]) {
    const sb = volume({ incompat });
    const dir = newDir(sb);
    assert.equal(dir.hasInlineData, incompat !== FULL);
    assert.equal(now(parentOf(dir)), PARENT);
    assert.equal(now(isEmptyDir(dir)), true);
    assert.deepEqual(list(dir), []);
    change(sb, (h) => now(setParent(h, dir, 77)));
    assert.equal(now(parentOf(dir)), 77);
    add(dir, 'x', 100);
    assert.equal(now(isEmptyDir(dir)), false);
    assert.equal(now(lookupName(dir, 'x'))?.ino, 100);
    assert.equal(now(lookupName(dir, '..')), undefined);
    remove(dir, 'x');
    assert.equal(now(isEmptyDir(dir)), true);
  }
});

test('what is no name is refused', () => {
  const dir = newDir(volume());
  for (const [name, code] of [
    ['', 'EINVAL'],
    ['.', 'EINVAL'],
    ['..', 'EINVAL'],
    ['a/b', 'EINVAL'],
    ['a\0', 'EINVAL'],
    ['x'.repeat(256), 'ENAMETOOLONG'],
    ['é'.repeat(128), 'ENAMETOOLONG'],
  ] as const) {
    assert.throws(() => add(dir, name, 100), { code });
  }
  add(dir, 'x'.repeat(255), 100);
  add(dir, 'x', 100);
  assert.throws(() => add(dir, 'x', 101), { code: 'EEXIST' });
});

test('an inline directory is what the kernel writes', () => {
  const dir = newDir(volume({ incompat: FULL | INCOMPAT_INLINE_DATA }));
  add(dir, 'a', 0x3a2);
  add(dir, 'b', 0x3a3);
  const hex = [...dir.iBlock].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  assert.equal(hex, `02000000${'a20300000c00010161000000'}${'a30300002c00010162000000'}${'00'.repeat(32)}`);
  assert.equal(dir.size, 60);
});

test('an inline directory fills its inode, then moves to a block, and keeps its names', () => {
  for (const compat of [0, COMPAT_DIR_INDEX]) {
    const dir = newDir(volume({ incompat: FULL | INCOMPAT_INLINE_DATA, compat }));
    const expected = new Map<string, number>();
    for (let i = 0; dir.hasInlineData; i++) {
      add(dir, `name${i}`, 100 + i);
      expected.set(`name${i}`, 100 + i);
      assert.deepEqual(sorted(listed(dir, 1)), sorted(expected));
    }
    assert.ok(expected.size > 6, `${expected.size} names`);
    assert.deepEqual(sorted(now(checkDir(dir)).names), sorted(expected));
    assert.equal(now(checkDir(dir)).parent, PARENT);
  }
});

for (const [title, options] of [
  ['extents, checksums, half MD4', {}],
  ['TEA, unsigned, without checksums', { hasCsum: false, hash: 2, isUnsigned: true }],
  ['the legacy hash', { hash: 0 }],
  ['no dir_index', { compat: 0 }],
  ['no dir_index and no checksums', { compat: 0, hasCsum: false }],
  ['no filetype', { incompat: INCOMPAT_EXTENTS }],
  ['large_dir', { incompat: FULL | INCOMPAT_LARGEDIR }],
  ['inline_data', { incompat: FULL | INCOMPAT_INLINE_DATA }],
  ['inline_data without dir_index', { incompat: FULL | INCOMPAT_INLINE_DATA, compat: 0 }],
  ['blocks of 64 KiB', { blockSize: 65536, blocks: 4096 }],
] as [string, WorldOptions][]) {
  test(`a directory agrees with a map: ${title}`, () =>
    forEachSeed(title, 3, (prng) => {
      const sb = volume(options);
      const dir = newDir(sb);
      const model = new Map<string, number>();
      const long = prng.chance(0.6);
      const steps = options.blockSize === 65536 ? 1500 : 700;
      for (let step = 0; step < steps; step++) {
        const growing = Math.floor(step / 300) % 2 === 0;
        const roll = prng.below(100);
        const known = model.size > 0 ? prng.pick([...model.keys()]) : undefined;
        if (roll < (growing ? 70 : 25) || known === undefined) {
          const name = randomName(prng, long);
          if (model.has(name)) assert.throws(() => add(dir, name, 50), { code: 'EEXIST' });
          else {
            assert.equal(now(lookupName(dir, name)), undefined);
            add(dir, name, 100 + step);
            model.set(name, 100 + step);
          }
        } else if (roll < 85) {
          remove(dir, known);
          model.delete(known);
        } else if (roll < 92) {
          change(sb, (h) => {
            const hit = now(lookupName(dir, known));
            assert.ok(hit !== undefined);
            // Others in between do not spoil the hit.
            const name = randomName(prng, long);
            if (!model.has(name)) {
              now(addName(h, dir, name, 60, EXT4_FT_REG_FILE));
              model.set(name, 60);
            }
            now(replaceName(h, dir, hit, 5000 + step, EXT4_FT_DIR));
          });
          model.set(known, 5000 + step);
        } else if (roll < 96) {
          const h = sb.log.start(100_000) as Handle;
          for (let i = prng.below(20); i > 0; i--)
            now(addName(h, dir, `r${i} ${randomName(prng, long)}`.slice(0, 200), 1, EXT4_FT_REG_FILE));
          const hit = now(lookupName(dir, known));
          if (hit !== undefined) now(removeName(h, dir, hit));
          h.rollback();
        } else if (roll < 97) reload(sb);
        assert.equal(now(lookupName(dir, known ?? 'none'))?.ino, known === undefined ? undefined : model.get(known));
        if (step % 50 === 0) assert.deepEqual(sorted(listed(dir, prng.between(1, 40))), sorted(model));
      }
      reload(sb);
      assert.deepEqual(sorted(listed(dir)), sorted(model));
      if (!dir.hasInlineData) {
        const checked = now(checkDir(dir));
        assert.deepEqual(sorted(checked.names), sorted(model));
        assert.equal(dir.isIndexed, options.compat !== 0 && checked.blocks > 1);
      }
      for (const name of model.keys()) remove(dir, name);
      assert.equal(now(isEmptyDir(dir)), true);
      assert.deepEqual(list(dir), []);
    }));
}

test('an index grows to two levels, and to three with large_dir only', () => {
  // 1 KiB: 123 entries in the root, 126 in a node, 4 names of 240 bytes in a leaf.
  for (const incompat of [FULL, FULL | INCOMPAT_LARGEDIR]) {
    const sb = volume({ incompat, blocks: 2 ** 17 });
    const dir = newDir(sb);
    const isLarge = incompat !== FULL;
    const total = isLarge ? 45_000 : 3_000;
    const h = sb.log.start(10_000_000) as Handle;
    for (let i = 0; i < total; i++) now(addName(h, dir, `${i}`.padEnd(240, 'x'), 100 + i, EXT4_FT_REG_FILE));
    void h.stop();
    reload(sb);
    const checked = now(checkDir(dir));
    assert.equal(checked.names.size, total);
    assert.equal(checked.levels, isLarge ? 3 : 2);
    for (let i = 0; i < total; i += 97) assert.equal(now(lookupName(dir, `${i}`.padEnd(240, 'x')))?.ino, 100 + i);
    assert.equal(listed(dir).size, total);
  }
});

test('the root of an index is what the kernel writes', () => {
  for (const [blockSize, ino, expected] of [
    [4096, 14, '0e0000000c0001022e00000002000000f40f02022e2e00000000000001080000fb01'],
    [1024, 12, '0c0000000c0001022e00000002000000f40302022e2e000000000000010801007b00'],
  ] as const) {
    const sb = volume({ blockSize });
    const dir = newDir(sb, { ino });
    for (let i = 0; i < 900; i++) add(dir, `${i}`.padEnd(blockSize === 1024 ? 200 : 20, 'k'), 100 + i);
    const data = (sb.buffers.read(rootBlock(dir)) as { data: Uint8Array }).data;
    assert.equal([...data.subarray(0, 34)].map((byte) => byte.toString(16).padStart(2, '0')).join(''), expected);
  }
});

test('an index that cannot grow is ENOSPC, and nothing is changed by it', () => {
  const sb = volume({ blocks: 2 ** 17, hasCsum: false });
  const dir = newDir(sb);
  let count = 0;
  const h = sb.log.start(10_000_000) as Handle;
  assert.throws(
    () => {
      for (; count < 100_000; count++) now(addName(h, dir, `${count}`.padEnd(250, 'x'), 100 + count, EXT4_FT_REG_FILE));
    },
    { code: 'ENOSPC' },
  );
  void h.stop();
  assert.ok(count > 20_000, `${count} names fit`);
  const { names, levels } = now(checkDir(dir));
  assert.equal(names.size, count);
  assert.equal(levels, 2);
});

test('a run of equal hashes goes on in the next leaf, and is found there', () => {
  // Five names that all have the legacy hash ede57a64.
  const ends = ['D=F99', '@=9O=', 'D=F@@', '3IB6D', 'D=FEE'];
  const colliding = ends.map((end) => 'p'.repeat(240) + end);
  const sb = volume({ hash: 0 });
  const dir = newDir(sb);
  for (let i = 0; i < 8; i++) add(dir, `${i}`.padEnd(245, 'q'), 100 + i);
  for (const [i, name] of colliding.entries()) add(dir, name, 200 + i);
  reload(sb);
  assert.equal(now(checkDir(dir)).continued, 1);
  for (const [i, name] of colliding.entries()) assert.equal(now(lookupName(dir, name))?.ino, 200 + i);
  for (const count of [1, 2, 3, 100]) assert.equal(listed(dir, count).size, 13);
  assert.equal(now(lookupName(dir, `${'p'.repeat(240)}zzzzz`)), undefined);

  // While others of the run go, the rest still comes once.
  const cursor = new DirCursor();
  const seen: string[] = [];
  for (let cookie = 0; ; ) {
    const { names } = now(readDir(dir, cookie, 1, cursor));
    const [name] = names;
    if (name === undefined) break;
    seen.push(name.name);
    cookie = name.next;
    if (colliding.includes(name.name)) remove(dir, name.name);
  }
  assert.deepEqual([...seen].sort(), [...new Set(seen)].sort());
  assert.equal(seen.length, 13);
});

test('a reader goes on inside a run of equal hashes, by memory where others went, and by number without', () => {
  const colliding = ['D=F99', '@=9O=', 'D=F@@', '3IB6D', 'D=FEE'].map((end) => 'p'.repeat(240) + end);
  const dir = newDir(volume({ hash: 0 }));
  for (const [i, name] of colliding.entries()) add(dir, name, 200 + i);
  const cursor = new DirCursor();
  const { names } = now(readDir(dir, 0, 100, cursor));
  assert.equal(names.length, 5);
  const rest = (cookie: number, memory?: InstanceType<typeof DirCursor>): string[] =>
    now(readDir(dir, cookie, 100, memory)).names.map(({ name }) => name);
  for (let i = 0; i < 5; i++) {
    const cookie = (names[i] as DirName).next;
    assert.deepEqual(
      rest(cookie),
      names.slice(i + 1).map(({ name }) => name),
      'without memory',
    );
  }
  // Two of the answer reached the reader, and the first is gone when it asks for the others.
  remove(dir, (names[0] as DirName).name);
  assert.deepEqual(
    rest((names[1] as DirName).next, cursor),
    names.slice(2).map(({ name }) => name),
  );
});

test('a linear directory has new names where others were removed, and does not grow for them', () => {
  const dir = newDir(volume({ compat: 0 }));
  for (let i = 0; i < 100; i++) add(dir, `${i}`.padEnd(100, 'r'), 100 + i);
  const { size } = dir;
  assert.ok(size > 8 * 1024);
  for (const i of [80, 3, 41]) remove(dir, `${i}`.padEnd(100, 'r'));
  for (const i of [1000, 1001, 1002]) add(dir, `${i}`.padEnd(100, 'r'), i);
  assert.equal(dir.size, size);
  assert.equal(now(checkDir(dir)).names.size, 100);
});

test('a leaf of two names, the first of them short, is not taken for an empty one', () => {
  const count = 100;
  const nameOf = (i: number): string => `${100 + i}`;
  // Which two names begin a leaf is up to the hash: each pair of neighbours is left alone once.
  for (let first = 0; first < count - 1; first++) {
    const sb = volume({ hasCsum: false });
    const dir = newDir(sb);
    for (let i = 0; i < count; i++) add(dir, nameOf(i), 100 + i);
    const inOrder = [...listed(dir, 200).keys()];
    const kept = inOrder.slice(first, first + 2);
    for (const name of inOrder) if (!kept.includes(name)) remove(dir, name);
    for (let i = 0; i < 10; i++) add(dir, `new${i}`, 300 + i);
    assert.equal(now(checkDir(dir)).names.size, 12);
    for (const name of kept) assert.ok(listed(dir, 200).has(name), name);
  }
});

test('an index that leads to one leaf twice is no index', () => {
  const sb = volume({ hasCsum: false });
  const dir = newDir(sb);
  for (let i = 0; i < 60; i++) add(dir, `${i}`.padEnd(100, 'd'), 100 + i);
  reload(sb);
  damage(sb, rootBlock(dir), (data) => data.copyWithin(32 + 12, 32 + 20, 32 + 24));
  noted.length = 0;
  assert.equal(listed(dir, 5).size, 60);
  assert.deepEqual(noted, [dir.ino]);
});

test('who lists a directory sees each name that stays exactly once, whatever the others do', () =>
  forEachSeed('listing', 25, (prng, seed) => {
    const options: WorldOptions[] = [{}, { hash: 0 }, { compat: 0 }, { incompat: FULL | INCOMPAT_INLINE_DATA }];
    const chosen = options[seed % options.length] as WorldOptions;
    const sb = volume(seed % 8 < 4 ? chosen : { ...chosen, incompat: FULL | INCOMPAT_INLINE_DATA });
    const dir = newDir(sb);
    const stay = new Map<string, number>();
    const come: string[] = [];
    const start = prng.below(3) === 0 ? prng.below(5) : prng.below(200);
    for (let i = 0; i < start; i++) {
      const name = `${i} ${randomName(prng, prng.chance(0.3))}`;
      add(dir, name, 100 + i);
      if (prng.chance(0.6)) stay.set(name, 100 + i);
      else come.push(name);
    }
    const cursor = new DirCursor();
    const seen = new Map<string, number>();
    let fresh = 0;
    for (let cookie = 0; ; ) {
      const { names } = now(readDir(dir, cookie, prng.between(1, 30), cursor));
      if (names.length === 0) break;
      // Sometimes only a part of the answer reaches the reader, who asks again from there.
      const used = names.slice(0, prng.chance(0.3) ? prng.between(1, names.length) : names.length);
      for (const { name, ino, next } of used) {
        if (stay.has(name)) assert.ok(!seen.has(name), `${name} comes once`);
        seen.set(name, ino);
        cookie = next;
      }
      for (let i = prng.below(40); i > 0 && fresh < 300; i--) {
        if (come.length > 0 && prng.chance(0.5)) {
          const [name] = come.splice(prng.below(come.length), 1);
          remove(dir, name as string);
        } else {
          const name = `new ${fresh++} ${randomName(prng, prng.chance(0.5))}`;
          add(dir, name, 9000);
          come.push(name);
        }
      }
      if (prng.chance(0.1)) reload(sb);
    }
    for (const [name, ino] of stay) assert.equal(seen.get(name), ino, `${name} comes`);
  }));

test('a full volume leaves the directory as it was', () => {
  const sb = volume();
  const dir = newDir(sb);
  const expected = new Map<string, number>();
  for (let i = 0; i < 400; i++) {
    const name = `${i}`.padEnd(60, 'y');
    allocatorOf(sb).failAfter = i % 3 === 0 ? 0 : Number.POSITIVE_INFINITY;
    const before = dir.size;
    try {
      add(dir, name, 100 + i);
      expected.set(name, 100 + i);
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ENOSPC');
      assert.equal(dir.size, before);
    }
  }
  assert.ok(expected.size < 400);
  reload(sb);
  assert.deepEqual(sorted(now(checkDir(dir)).names), sorted(expected));
});

test('an index that is damaged is read as a linear directory, and given up by the next insertion', () => {
  for (const hasCsum of [true, false]) {
    const sb = volume({ hasCsum });
    const dir = newDir(sb);
    const expected = new Map<string, number>();
    for (let i = 0; i < 300; i++) {
      add(dir, `name ${i}`.padEnd(80, 'z'), 100 + i);
      expected.set(`name ${i}`.padEnd(80, 'z'), 100 + i);
    }
    reload(sb);
    const root = rootBlock(dir);
    damage(sb, root, (data) => {
      data[34] = 0xff; // count
      data[35] = 0xff;
    });
    noted.length = 0;
    assert.deepEqual(sorted(listed(dir, 7)), sorted(expected));
    assert.deepEqual(noted, [dir.ino], 'it is on record once');
    assert.equal(now(lookupName(dir, 'name 5'.padEnd(80, 'z')))?.ino, 105);
    assert.equal(now(parentOf(dir)), PARENT);
    const { names } = now(readDir(dir, 2 ** 52 + 4096, 10_000));
    assert.equal(names.length, expected.size, 'a walk that began by hash goes on');
    add(dir, 'one more', 7);
    assert.equal(dir.flags & EXT4_INDEX_FL, 0);
    expected.set('one more', 7);
    reload(sb);
    assert.deepEqual(sorted(now(checkDir(dir)).names), sorted(expected));
  }
});

function rootBlock(dir: Ext4Inode): number {
  const view = new DataView(dir.iBlock.buffer, dir.iBlock.byteOffset);
  return view.getUint32(12 + 8, true);
}

/** Changes a block on the device, under whatever checksum it has. */
function damage(sb: Ext4Sb, blocknr: number, fn: (data: Uint8Array) => void): void {
  sb.buffers.dropClean();
  const bh = sb.buffers.read(blocknr) as { data: Uint8Array; isDirty: boolean };
  fn(bh.data);
  bh.isDirty = true;
  void sb.buffers.writeDirty();
  sb.buffers.dropClean();
}

test('a wrong checksum is EBADMSG', () => {
  const sb = volume();
  const dir = newDir(sb);
  add(dir, 'name', 100);
  reload(sb);
  damage(sb, rootBlock(dir), (data) => {
    data[33] = (data[33] as number) ^ 1;
  });
  assert.throws(() => now(lookupName(dir, 'name')), { code: 'EBADMSG' });
  assert.throws(() => list(dir), { code: 'EBADMSG' });
  assert.throws(() => now(isEmptyDir(dir)), { code: 'EBADMSG' });
  assert.throws(() => add(dir, 'other', 100), { code: 'EBADMSG' });
});

test('names that are none are hidden, and their directory is not empty', () => {
  const sb = volume({ hasCsum: false });
  const dir = newDir(sb);
  add(dir, 'ab', 100);
  reload(sb);
  damage(sb, rootBlock(dir), (data) => {
    data[33] = 0x2f;
  });
  assert.deepEqual(list(dir), []);
  assert.equal(now(lookupName(dir, 'a/')), undefined);
  assert.equal(now(isEmptyDir(dir)), false);
});

test('whatever the bytes of a directory are, every call answers or fails as an FsError', () =>
  forEachSeed('mutation', 150, (prng) => {
    const sb = volume({ hasCsum: false, hash: prng.below(3), incompat: FULL | (prng.chance(0.5) ? INCOMPAT_LARGEDIR : 0) });
    const dir = newDir(sb);
    const total = prng.pick([1, 3, 40, 400]);
    const h = sb.log.start(1_000_000) as Handle;
    for (let i = 0; i < total; i++) now(addName(h, dir, `${i}`.padEnd(prng.between(1, 200), 'm'), 100 + i, EXT4_FT_REG_FILE));
    void h.stop();
    void sb.log.commit();
    const first = rootBlock(dir);
    const blocks = dir.size / sb.blockSize;
    for (let i = prng.between(1, 6); i > 0; i--) {
      damage(sb, first + (prng.chance(0.5) ? 0 : prng.below(blocks)), (data) => {
        const at = prng.chance(0.5) ? prng.below(64) : prng.below(data.length);
        const value = prng.pick([0, 1, 0xff, 0x7f, 0x80, prng.below(256)]);
        for (let n = prng.between(1, 4); n > 0; n--) data[(at + n) % data.length] = value;
      });
    }
    const guard = (fn: () => void): void => {
      try {
        fn();
      } catch (error) {
        assert.ok(typeof (error as { errno?: unknown }).errno === 'number', String((error as Error).stack));
      }
    };
    guard(() => {
      const cursor = new DirCursor();
      let cookie = 0;
      for (let calls = 0; calls < 2000; calls++) {
        const { names } = now(readDir(dir, cookie, 50, cursor));
        if (names.length === 0) return;
        const next = names.at(-1)?.next as number;
        assert.ok(next > cookie, 'a listing goes on');
        cookie = next;
      }
      assert.fail('a listing ends');
    });
    for (let i = 0; i < 10; i++) {
      guard(() => void now(lookupName(dir, `${prng.below(total)}`.padEnd(prng.between(1, 200), 'm'))));
      guard(() => add(dir, `other ${i}`.padEnd(prng.between(1, 250), 'n'), 5));
      guard(() => {
        const hit = now(lookupName(dir, `other ${i}`));
        if (hit !== undefined) change(sb, (handle) => now(removeName(handle, dir, hit)));
      });
    }
    guard(() => void now(isEmptyDir(dir)));
    guard(() => void now(parentOf(dir)));
    guard(() => change(sb, (handle) => now(setParent(handle, dir, 9))));
    guard(() => void sb.log.commit());
  }));

test('a directory that folds case finds the exact name first, then one that differs in case or form, and takes no new ones', () => {
  const dir = newDir(volume());
  add(dir, 'Strasse', 100);
  add(dir, 'STRASSE', 101);
  add(dir, 'Caf\u00e9', 102);
  add(dir, 'raw\udcff', 103);
  dir.flags |= EXT4_CASEFOLD_FL;
  assert.equal(now(lookupName(dir, 'STRASSE'))?.ino, 101);
  assert.equal(now(lookupName(dir, 'strasse'))?.ino, 100);
  assert.equal(now(lookupName(dir, 'CAFE\u0301'))?.ino, 102);
  assert.equal(now(lookupName(dir, 'RAW\udcff')), undefined);
  assert.equal(now(lookupName(dir, 'raw\udcff'))?.ino, 103);
  assert.equal(listed(dir).size, 4);
  assert.throws(() => add(dir, 'new', 5), { code: 'EOPNOTSUPP', message: /casefold/ });
  remove(dir, 'strasse');
  assert.equal(now(lookupName(dir, 'strasse'))?.ino, 101);
});

test('an encrypted directory lists names that can be looked up and removed, and takes no new ones', () => {
  const sb = volume();
  const dir = newDir(sb);
  const total = 60;
  for (let i = 0; i < total; i++) add(dir, `${i}`.padEnd(16 + i * 4 > 255 ? 250 : 16 + i * 4, '\udcfe'), 100 + i);
  dir.flags |= EXT4_ENCRYPT_FL;
  const names = list(dir, 7);
  assert.equal(new Set(names.map(({ name }) => name)).size, total);
  for (const { name, ino } of names) {
    assert.match(name, /^_[\w-]{1,254}$/);
    assert.equal(now(lookupName(dir, name))?.ino, ino);
  }
  assert.equal(now(lookupName(dir, '_AAAA')), undefined);
  assert.throws(() => add(dir, 'new', 5), { code: 'ENOKEY' });
  for (const { name } of names) remove(dir, name);
  assert.equal(now(isEmptyDir(dir)), true);
});

test('a listing decodes a leaf once', () => {
  const sb = volume({ blockSize: 4096 });
  const dir = newDir(sb);
  const h = sb.log.start(1_000_000) as Handle;
  for (let i = 0; i < 5000; i++) now(addName(h, dir, `some file ${i}`, 100 + i, EXT4_FT_REG_FILE));
  void h.stop();
  assert.equal(listed(dir, 10).size, 5000);
  const decoded = (): unknown[] => {
    const all: unknown[] = [];
    for (let block = 0; block < 1000; block++) all.push(sb.buffers.peek(block)?.decoded);
    return all.filter((value) => value !== undefined);
  };
  const before = decoded();
  assert.ok(before.length > 30, `${before.length} leaves`);
  assert.equal(listed(dir, 3).size, 5000);
  assert.ok(decoded().every((value, i) => value === before[i]));
});
