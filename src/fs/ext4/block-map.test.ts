import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  allocatorOf,
  allocBlocks,
  type FakeHandle,
  type FakeLog,
  fakeInode,
  fakeSb,
  now,
  useFakes,
} from '../../../test/support/ext4-world.ts';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Prng } from '../../base/prng.ts';
import { isPromise, run } from '../../base/task.ts';
import type { BlockMapping } from './block-map.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT_MAX_BLOCKS, EXT4_EXTENTS_FL } from './format.ts';

useFakes();
const map = await import('./block-map.ts');

const FIRST_FREE = 16;
/** Otherwise somebody repeats one, which need not go deep. */
const ALL_SEEDS = process.env.SEED === undefined && process.env.SEEDS === undefined;

interface Block {
  pblk: number;
  isUnwritten: boolean;
}
type Model = Map<number, Block>;

function logOf(sb: Ext4Sb): FakeLog {
  return sb.log as FakeLog;
}

function newFile(sb: Ext4Sb, flags: number): Ext4Inode {
  const inode = fakeInode(sb, 12, { flags });
  const h = logOf(sb).start(100);
  now(map.initBlockMap(h, inode));
  h.stop();
  return inode;
}

// ---- an independent reader of the two forms

interface Tree {
  readonly blocks: Model;
  readonly nodes: number[];
  readonly extents: number;
  readonly depth: number;
}

/** Walks the whole tree, and checks all that a tree of ours keeps. */
function readTree(inode: Ext4Inode): Tree {
  return inode.hasExtents ? readExtents(inode) : readPointers(inode);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readBlock(sb: Ext4Sb, blocknr: number): DataView {
  const bh = sb.buffers.read(blocknr);
  assert.ok('data' in bh, 'the device answers at once');
  return viewOf(bh.data);
}

function readExtents(inode: Ext4Inode): Tree {
  const { sb } = inode;
  const blocks: Model = new Map();
  const nodes: number[] = [];
  let end = 0;
  let extents = 0;
  const walk = (node: DataView, depth: number, max: number, key: number | undefined): void => {
    assert.equal(node.getUint16(0, true), 0xf30a);
    const count = node.getUint16(2, true);
    assert.equal(node.getUint16(4, true), max, 'eh_max');
    assert.equal(node.getUint16(6, true), depth, 'eh_depth');
    assert.ok(count <= max && (count > 0 || key === undefined), `${count} entries of ${max}`);
    assert.ok(count > 0 || depth === 0, 'an empty tree is flat');
    if (key !== undefined) assert.equal(node.getUint32(12, true), key, 'the key of an index is that of its first entry');
    for (let i = 0; i < count; i++) {
      const at = 12 + i * 12;
      const lblk = node.getUint32(at, true);
      assert.ok(lblk >= end, `sorted at ${lblk}`);
      if (depth > 0) {
        const child = node.getUint32(at + 4, true) + node.getUint16(at + 8, true) * 2 ** 32;
        assert.equal(node.getUint16(at + 10, true), 0);
        nodes.push(child);
        walk(readBlock(sb, child), depth - 1, Math.floor((sb.blockSize - 12) / 12), lblk);
        continue;
      }
      extents++;
      const raw = node.getUint16(at + 4, true);
      const isUnwritten = raw > 32768;
      const length = isUnwritten ? raw - 32768 : raw;
      const pblk = node.getUint16(at + 6, true) * 2 ** 32 + node.getUint32(at + 8, true);
      assert.ok(length > 0);
      for (let b = 0; b < length; b++) blocks.set(lblk + b, { pblk: pblk + b, isUnwritten });
      end = lblk + length;
    }
  };
  const root = viewOf(inode.iBlock);
  const depth = root.getUint16(6, true);
  walk(root, depth, 4, undefined);
  return { blocks, nodes, extents, depth };
}

function readPointers(inode: Ext4Inode): Tree {
  const { sb } = inode;
  const pointers = sb.blockSize / 4;
  const blocks: Model = new Map();
  const nodes: number[] = [];
  let depth = 0;
  const walk = (blocknr: number, levels: number, first: number): void => {
    if (blocknr === 0) return;
    depth = Math.max(depth, levels);
    if (levels === 0) {
      blocks.set(first, { pblk: blocknr, isUnwritten: false });
      return;
    }
    nodes.push(blocknr);
    const before = blocks.size;
    const node = readBlock(sb, blocknr);
    for (let i = 0; i < pointers; i++) walk(node.getUint32(i * 4, true), levels - 1, first + i * pointers ** (levels - 1));
    assert.ok(blocks.size > before, 'a block of pointers is not empty');
  };
  const root = viewOf(inode.iBlock);
  for (let i = 0; i < 12; i++) walk(root.getUint32(i * 4, true), 0, i);
  let first = 12;
  for (let levels = 1; levels <= 3; levels++) {
    walk(root.getUint32((11 + levels) * 4, true), levels, first);
    first += pointers ** levels;
  }
  return { blocks, nodes, extents: blocks.size, depth };
}

/** The whole map is the model, and what is in use in the volume is exactly the file's. */
function checkFile(inode: Ext4Inode, model: Model): Tree {
  const { sb } = inode;
  const tree = readTree(inode);
  const sorted = [...model].sort(([a], [b]) => a - b);
  assert.deepEqual(
    [...tree.blocks].sort(([a], [b]) => a - b),
    sorted,
  );
  const clusters = new Set([...tree.nodes, ...[...model.values()].map(({ pblk }) => pblk)].map((b) => Math.floor(b / sb.clusterRatio)));
  assert.deepEqual(
    allocatorOf(sb).usedFrom(FIRST_FREE),
    [...clusters].sort((a, b) => a - b),
    'blocks in use',
  );
  assert.equal(inode.blocks, (clusters.size * sb.clusterRatio * sb.blockSize) / 512, 'i_blocks');
  assert.equal(now(map.countTreeBlocks(inode)), tree.nodes.length);
  return tree;
}

/** What mapBlocks says of one block. */
function checkMapping(inode: Ext4Inode, model: Model, lblk: number): void {
  const found = now(map.mapBlocks(inode, lblk));
  const block = model.get(lblk);
  assert.ok(found.lblk <= lblk && lblk < found.lblk + found.count, 'a mapping contains what was asked');
  assert.equal(found.pblk === 0 ? undefined : found.pblk + (lblk - found.lblk), block?.pblk, `block ${lblk}`);
  assert.equal(found.isUnwritten, block?.isUnwritten ?? false);
  const end = found.lblk + found.count;
  for (let at = found.lblk; at < Math.min(end, 20_000); at++) {
    const other = model.get(at);
    assert.equal(other?.pblk, found.pblk === 0 ? undefined : found.pblk + (at - found.lblk), `block ${at} in the mapping of ${lblk}`);
    assert.equal(other?.isUnwritten ?? false, found.isUnwritten);
  }
  if (found.pblk === 0 && inode.hasExtents) {
    const next = Math.min(EXT_MAX_BLOCKS, ...[...model.keys()].filter((at) => at > lblk));
    assert.equal(end, next, 'a hole goes on to the next extent');
  }
}

// ---- changes of file and model

/** Allocates blocks for a hole and maps them. */
function fill(h: FakeHandle, inode: Ext4Inode, model: Model, lblk: number, count: number, isUnwritten: boolean, goal: number): void {
  const { clusterRatio } = inode.sb;
  for (let done = 0; done < count; ) {
    const at = lblk + done;
    const inside = at % clusterRatio;
    let length = count - done;
    let pblk: number;
    const cluster = clusterRatio > 1 ? now(map.findCluster(inode, at)) : undefined;
    if (cluster !== undefined) {
      length = Math.min(length, clusterRatio - inside);
      pblk = cluster + inside;
    } else {
      // The last cluster may be partly mapped already.
      const lastStart = Math.floor((at + length - 1) / clusterRatio) * clusterRatio;
      if (lastStart > at && clusterRatio > 1 && now(map.findCluster(inode, lastStart)) !== undefined) length = lastStart - at;
      const run = now(allocBlocks(h, inode, { goal: goal + done, count: inside + length }));
      length = Math.min(length, run.count - inside);
      pblk = run.start + inside;
    }
    now(map.insertBlocks(h, inode, at, pblk, length, isUnwritten));
    for (let b = 0; b < length; b++) model.set(at + b, { pblk: pblk + b, isUnwritten });
    done += length;
  }
}

function shiftModel(model: Model, from: number, distance: number): void {
  const moved = [...model].filter(([lblk]) => lblk >= from);
  for (const [lblk] of moved) model.delete(lblk);
  for (const [lblk, block] of moved) model.set(lblk + distance, block);
}

/** Runs of blocks of the model from `lblk` on that are mapped, or not. */
function runLength(model: Model, lblk: number, max: number): number {
  const isMapped = model.has(lblk);
  let count = 1;
  while (count < max && model.has(lblk + count) === isMapped) count++;
  return count;
}

interface Shape {
  readonly blockSize: number;
  readonly clusterRatio?: number;
  readonly flags: number;
  readonly lblkMax: number;
  readonly steps: number;
}

/** Random changes, with rollbacks and failures in the middle, against the model. Answers the deepest tree there was. */
function runModel(prng: Prng, { blockSize, clusterRatio = 1, flags, lblkMax, steps }: Shape): number {
  const sb = fakeSb({ blockSize, clusterRatio, blocks: 8192, firstFree: FIRST_FREE });
  const allocator = allocatorOf(sb);
  const inode = newFile(sb, flags);
  allocator.runMax = () => prng.between(1, 12);
  let model: Model = new Map();
  let deepest = 0;
  for (let step = 0; step < steps; step++) {
    const before: Model = new Map([...model].map(([lblk, block]) => [lblk, { ...block }]));
    const h = logOf(sb).start(10_000);
    let isWhole = true;
    allocator.failAfter = prng.chance(0.1) ? prng.below(3) : Number.POSITIVE_INFINITY;
    const lblk = prng.below(lblkMax);
    const what = prng.pick(['insert', 'insert', 'insert', 'insert', 'convert', 'convert', 'remove', 'shift', 'resume', 'commit']);
    try {
      if (what === 'insert') {
        const count = Math.min(prng.between(1, 10), runLength(model, lblk, 10));
        if (!model.has(lblk)) fill(h, inode, model, lblk, count, inode.hasExtents && prng.chance(0.6), prng.below(8000));
      } else if (what === 'convert' && inode.hasExtents) {
        if (model.has(lblk)) {
          const count = runLength(model, lblk, prng.between(1, 12));
          const toUnwritten = prng.chance(0.4);
          now(map.convertBlocks(h, inode, lblk, count, toUnwritten));
          for (let b = 0; b < count; b++) (model.get(lblk + b) as Block).isUnwritten = toUnwritten;
        }
      } else if (what === 'remove') {
        const end = lblk + prng.between(1, prng.chance(0.03) ? lblkMax : 8);
        assert.equal(now(map.removeBlocks(h, inode, lblk, end)), lblk);
        for (let at = lblk; at < end; at++) model.delete(at);
      } else if (what === 'resume') {
        // With a handle that takes few steps at a time; it cannot be rolled back behind a restart.
        allocator.failAfter = Number.POSITIVE_INFINITY;
        h.extensible = 0;
        h.restart(map.creditsForRemove(inode));
        isWhole = false;
        const end = lblk + prng.between(1, prng.chance(0.1) ? lblkMax : 8);
        let calls = 0;
        for (let left = end; left > lblk; h.restart(map.creditsForRemove(inode))) {
          const next = now(map.removeBlocks(h, inode, lblk, left));
          assert.ok(next < left, 'each call gets on');
          for (let at = next; at < left; at++) model.delete(at);
          left = next;
          if (calls++ % 7 === 0) checkUncommitted(inode, model);
        }
      } else if (what === 'shift' && inode.hasExtents) {
        const distance = prng.between(1, 8) * clusterRatio;
        const from = lblk - (lblk % clusterRatio);
        allocator.failAfter = Number.POSITIVE_INFINITY;
        const isLeft = prng.chance(0.6);
        if (isLeft) {
          now(map.removeBlocks(h, inode, from, from + distance));
          for (let at = from; at < from + distance; at++) model.delete(at);
        }
        if (prng.chance(0.5)) {
          h.extensible = 0;
          h.restart(map.creditsForRemove(inode));
          isWhole = false;
        }
        let rest = isLeft ? now(map.shiftExtents(h, inode, from + distance, from)) : now(map.shiftExtents(h, inode, from, from + distance));
        while (rest !== undefined) {
          readTree(inode);
          h.restart(map.creditsForRemove(inode));
          const next = now(map.shiftExtents(h, inode, rest.from, rest.to, rest.end));
          assert.notDeepEqual(next, rest, 'each call gets on');
          rest = next;
        }
        shiftModel(model, isLeft ? from + distance : from, isLeft ? -distance : distance);
        if (!isLeft) {
          // So that the file does not grow without end.
          h.restart(10_000);
          now(map.removeBlocks(h, inode, lblkMax, EXT_MAX_BLOCKS));
          for (const at of [...model.keys()]) if (at >= lblkMax) model.delete(at);
          isWhole = false;
        }
      }
      if (isWhole && prng.chance(0.2)) {
        h.rollback();
        model = before;
      } else {
        h.stop();
      }
    } catch (error) {
      if (!(error instanceof FsError && error.code === 'ENOSPC' && isWhole)) throw error;
      h.rollback();
      model = before;
    }
    allocator.failAfter = Number.POSITIVE_INFINITY;
    if (what === 'commit') {
      logOf(sb).commit();
      sb.buffers.dropClean();
    } else {
      for (const done of logOf(sb).onCommits.splice(0)) done();
    }
    try {
      const tree = checkFile(inode, model);
      deepest = Math.max(deepest, tree.depth);
      for (let i = 0; i < 3; i++) checkMapping(inode, model, prng.below(lblkMax + 20));
    } catch (error) {
      throw new Error(`step ${step}, ${what} at ${lblk}: ${(error as Error).message}`, { cause: error });
    }
  }
  return deepest;
}

function checkUncommitted(inode: Ext4Inode, model: Model): void {
  assert.deepEqual(
    [...readTree(inode).blocks.keys()].sort((a, b) => a - b),
    [...model.keys()].sort((a, b) => a - b),
  );
}

test('an extent tree under random changes agrees with a flat map, and holds exactly its blocks', async () => {
  let deepest = 0;
  await forEachSeed('extents', 30, (prng) => {
    const blockSize = prng.pick([64, 88, 128]);
    const depth = runModel(prng, { blockSize, flags: EXT4_EXTENTS_FL, lblkMax: 500, steps: 300 });
    deepest = Math.max(deepest, depth);
  });
  assert.ok(!ALL_SEEDS || deepest >= 3, `the deepest tree had ${deepest} levels`);
});

test('an extent tree on clusters agrees with a flat map, and frees a cluster with its last block', () =>
  forEachSeed('bigalloc', 20, (prng) => {
    runModel(prng, { blockSize: 88, clusterRatio: 4, flags: EXT4_EXTENTS_FL, lblkMax: 300, steps: 200 });
  }));

test('block pointers under random changes agree with a flat map, and hold exactly their blocks', async () => {
  let deepest = 0;
  await forEachSeed('indirect', 20, (prng) => {
    deepest = Math.max(deepest, runModel(prng, { blockSize: 64, flags: 0, lblkMax: prng.pick([40, 400, 1500]), steps: 250 }));
  });
  assert.ok(!ALL_SEEDS || deepest === 3, `the deepest tree had ${deepest} levels`);
});

test('a large preallocation is converted in random order while the tree splits over many leaves', () =>
  forEachSeed('preallocation', 6, (prng) => {
    const count = 1200;
    const sb = fakeSb({ blockSize: prng.pick([128, 1024]), blocks: 8192, firstFree: FIRST_FREE });
    const inode = newFile(sb, EXT4_EXTENTS_FL);
    const model: Model = new Map();
    let h = logOf(sb).start(1000);
    fill(h, inode, model, 0, count, true, 100);
    h.stop();
    assert.equal(checkFile(inode, model).extents, 1);
    // Every other block first, so that there are as many extents as can be.
    const order = [...prng.shuffle(evens(count)), ...prng.shuffle(evens(count).map((at) => at + 1))];
    let most = 0;
    for (const [i, lblk] of order.entries()) {
      h = logOf(sb).start(map.creditsForInsert(inode, 1));
      h.extensible = 0;
      now(map.convertBlocks(h, inode, lblk, 1, false));
      h.stop();
      (model.get(lblk) as Block).isUnwritten = false;
      if (i % 100 === 0 || i === order.length / 2 - 1) most = Math.max(most, checkFile(inode, model).extents);
    }
    assert.ok(most >= count - 1, `${most} extents`);
    logOf(sb).commit();
    const tree = checkFile(inode, model);
    assert.ok(tree.extents < count / 4, `${tree.extents} extents are left of ${most}`);
  }));

function evens(count: number): number[] {
  return Array.from({ length: count / 2 }, (_, i) => i * 2);
}

test('blocks that are appended out of place fill leaf after leaf', () => {
  const sb = fakeSb({ blockSize: 1024, blocks: 65536, firstFree: FIRST_FREE });
  const inode = newFile(sb, EXT4_EXTENTS_FL);
  const model: Model = new Map();
  for (let i = 0; i < 1000; i++) {
    const h = logOf(sb).start(map.creditsForInsert(inode, 1));
    fill(h, inode, model, i, 1, false, 20_000 - 2 * i);
    h.stop();
  }
  const tree = checkFile(inode, model);
  assert.equal(tree.depth, 2);
  assert.equal(tree.extents, 1000);
  // 12 leaves of 84, and what is above them: the root has room for 4.
  assert.equal(tree.nodes.length, 13);
});

test('a tree of which little is left is flat again, and its blocks are forgotten in the log', () => {
  const sb = fakeSb({ blockSize: 64, blocks: 8192, firstFree: FIRST_FREE });
  const inode = newFile(sb, EXT4_EXTENTS_FL);
  const model: Model = new Map();
  let h = logOf(sb).start(10_000);
  for (let i = 0; i < 60; i++) fill(h, inode, model, 3 * i, 1, false, 4000 - 5 * i);
  h.stop();
  const { nodes } = readTree(inode);
  assert.ok(nodes.length > 15);
  h = logOf(sb).start(10_000);
  now(map.removeBlocks(h, inode, 9, EXT_MAX_BLOCKS));
  h.stop();
  logOf(sb).commit();
  for (const lblk of [...model.keys()]) if (lblk >= 9) model.delete(lblk);
  assert.equal(checkFile(inode, model).depth, 0);
  assert.deepEqual([...allocatorOf(sb).freedAsMetadata].sort(), nodes.sort());
});

test('where a range was taken out, extents that belong together become one', () => {
  const sb = fakeSb();
  const inode = newFile(sb, EXT4_EXTENTS_FL);
  const h = logOf(sb).start(100);
  now(map.insertBlocks(h, inode, 0, 100, 10, false));
  now(map.insertBlocks(h, inode, 15, 110, 10, false));
  now(map.insertBlocks(h, inode, 40, 150, 10, false));
  assert.equal(now(map.shiftExtents(h, inode, 15, 10)), undefined);
  h.stop();
  assert.equal(readTree(inode).extents, 2);
  assert.deepEqual(now(map.mapBlocks(inode, 12)), { lblk: 0, count: 20, pblk: 100, isUnwritten: false });
  assert.deepEqual(now(map.mapBlocks(inode, 20)), { lblk: 20, count: 15, pblk: 0, isUnwritten: false });
  assert.equal(now(map.mapBlocks(inode, 35)).pblk, 150);
});

test('extents grow to 32768 written and 32767 unwritten blocks', () => {
  const sb = fakeSb({ blockSize: 1024, blocks: 200_000, firstFree: FIRST_FREE });
  const inode = newFile(sb, EXT4_EXTENTS_FL);
  const h = logOf(sb).start(1000);
  now(map.insertBlocks(h, inode, 0, 100, 80_000, true));
  assert.equal(viewOf(inode.iBlock).getUint16(2, true), 3);
  assert.equal(viewOf(inode.iBlock).getUint16(16, true), 65535);
  // It reads as one all the same.
  assert.deepEqual(now(map.mapBlocks(inode, 5)), { lblk: 0, count: 80_000, pblk: 100, isUnwritten: true });
  now(map.convertBlocks(h, inode, 0, 80_000, false));
  assert.deepEqual(now(map.mapBlocks(inode, 5)), { lblk: 0, count: 80_000, pblk: 100, isUnwritten: false });
  now(map.insertBlocks(h, inode, 100_000, 90_000, 32_768, false));
  const root = viewOf(inode.iBlock);
  assert.equal(root.getUint16(12 + (root.getUint16(2, true) - 1) * 12 + 4, true), 0x8000);
  assert.equal(now(map.mapBlocks(inode, 132_767)).isUnwritten, false);
  // Longer than an unwritten extent can be.
  now(map.convertBlocks(h, inode, 100_000, 32_768, true));
  assert.deepEqual(now(map.mapBlocks(inode, 100_000)), { lblk: 100_000, count: 32_768, pblk: 90_000, isUnwritten: true });
  h.stop();
});

test('nodes that are not in core are waited for, and nothing else is', async () => {
  for (const flags of [EXT4_EXTENTS_FL, 0]) {
    const sb = fakeSb({ blockSize: 64, blocks: 8192, firstFree: FIRST_FREE });
    const inode = newFile(sb, flags);
    const model: Model = new Map();
    for (let i = 0; i < 60; i++) {
      const h = logOf(sb).start(1000);
      fill(h, inode, model, 3 * i, 1, false, 4000 - 5 * i);
      h.stop();
    }
    logOf(sb).commit();
    sb.buffers.dropClean();
    const { read } = sb;
    sb.read = (blocknr) => sb.buffers.peek(blocknr) ?? Promise.resolve().then(() => read.call(sb, blocknr));
    const waiting = run(map.mapBlocks(inode, 150));
    assert.ok(isPromise(waiting));
    assert.equal(((await waiting) as BlockMapping).pblk, model.get(150)?.pblk);
    assert.ok(!isPromise(run(map.mapBlocks(inode, 150))));
    sb.buffers.dropClean();
    const h = logOf(sb).start(10_000);
    await run(map.insertBlocks(h, inode, 1, 5000, 1, false));
    assert.equal(await run(map.removeBlocks(h, inode, 30, 90)), 30);
    sb.buffers.dropClean();
    assert.equal((await run(map.mapBlocks(inode, 1))).pblk, 5000);
    assert.equal((await run(map.mapBlocks(inode, 30))).pblk, 0);
    assert.equal((await run(map.mapBlocks(inode, 90))).pblk, model.get(90)?.pblk);
    h.stop();
  }
});

test('no file block is mapped past the last one', () => {
  const sb = fakeSb({ blockSize: 1024 });
  const extents = newFile(sb, EXT4_EXTENTS_FL);
  const pointers = newFile(sb, 0);
  const h = logOf(sb).start(1000);
  now(map.insertBlocks(h, extents, EXT_MAX_BLOCKS - 1, 100, 1, false));
  assert.equal(now(map.mapBlocks(extents, EXT_MAX_BLOCKS - 1)).pblk, 100);
  assert.throws(() => now(map.insertBlocks(h, extents, EXT_MAX_BLOCKS, 101, 1, false)), { code: 'EFBIG' });
  assert.throws(() => now(map.shiftExtents(h, extents, 0, 1)), { code: 'EFBIG' });
  const last = 12 + 256 + 256 ** 2 + 256 ** 3;
  now(map.insertBlocks(h, pointers, last - 1, 100, 1, false));
  assert.equal(now(map.mapBlocks(pointers, last - 1)).pblk, 100);
  assert.throws(() => now(map.insertBlocks(h, pointers, last, 101, 1, false)), { code: 'EFBIG' });
  assert.equal(now(map.mapBlocks(pointers, EXT_MAX_BLOCKS - 1)).pblk, 0);
  assert.throws(() => now(map.insertBlocks(h, pointers, 5, 101, 1, true)), { code: 'EOPNOTSUPP' });
  assert.throws(() => now(map.shiftExtents(h, pointers, 0, 1)), { code: 'EOPNOTSUPP' });
  h.stop();
});

test('a hole between block pointers is as large as what is missing', () => {
  const sb = fakeSb({ blockSize: 1024 });
  const inode = newFile(sb, 0);
  assert.deepEqual(now(map.mapBlocks(inode, 3)), { lblk: 3, count: EXT_MAX_BLOCKS - 3, pblk: 0, isUnwritten: false });
  const h = logOf(sb).start(1000);
  now(map.insertBlocks(h, inode, 12 + 256 + 5 * 256 + 7, 100, 1, false));
  h.stop();
  assert.deepEqual(now(map.mapBlocks(inode, 3)), { lblk: 3, count: 12 + 256 - 3, pblk: 0, isUnwritten: false });
  assert.equal(now(map.mapBlocks(inode, 12 + 256)).count, 5 * 256);
  const behind = now(map.mapBlocks(inode, 12 + 256 + 6 * 256));
  assert.equal(behind.lblk + behind.count, 12 + 256 + 256 * 256);
});

test('directory blocks are appended one behind the other, and use up a cluster first', () => {
  for (const clusterRatio of [1, 8]) {
    for (const flags of [EXT4_EXTENTS_FL, 0]) {
      if (clusterRatio > 1 && flags === 0) continue;
      const sb = fakeSb({ blockSize: 1024, clusterRatio, firstFree: FIRST_FREE });
      const inode = newFile(sb, flags);
      const model: Model = new Map();
      for (let i = 0; i < 30; i++) {
        const h = logOf(sb).start(100);
        const { lblk, bh } = now(map.appendFileBlock(h, inode));
        assert.equal(lblk, i);
        assert.equal(inode.size, (i + 1) * 1024);
        bh.data[0] = i + 1;
        h.stop();
        model.set(i, { pblk: bh.blocknr, isUnwritten: false });
      }
      checkFile(inode, model);
      logOf(sb).commit();
      sb.buffers.dropClean();
      now(map.readAheadFile(inode, 0, 30));
      for (let i = 0; i < 30; i++) assert.equal(now(map.readFileBlock(inode, i))?.data[0], i + 1);
      assert.equal(now(map.readFileBlock(inode, 30)), undefined);
      const h = logOf(sb).start(100);
      assert.equal(now(map.removeBlocks(h, inode, 0, EXT_MAX_BLOCKS)), 0);
      h.stop();
      logOf(sb).commit();
      checkFile(inode, new Map());
    }
  }
});

test('blocks of directories and links are forgotten in the log when they are freed, those of files are not', () => {
  const sb = fakeSb({ blockSize: 1024, firstFree: FIRST_FREE });
  const allocator = allocatorOf(sb);
  for (const [mode, isForgotten] of [
    [0o040755, true],
    [0o120777, true],
    [0o100644, false],
  ] as const) {
    const inode = fakeInode(sb, 12, { mode });
    const h = logOf(sb).start(100);
    now(map.initBlockMap(h, inode));
    const { bh } = now(map.appendFileBlock(h, inode));
    allocator.freedAsMetadata.clear();
    now(map.removeBlocks(h, inode, 0, EXT_MAX_BLOCKS));
    h.stop();
    assert.equal(allocator.freedAsMetadata.has(bh.blocknr), isForgotten, mode.toString(8));
    logOf(sb).commit();
  }
});

test('with damaged bytes in its map a file gives errors of the image, and nothing else', () =>
  forEachSeed('damage', 150, (prng) => {
    const flags = prng.chance(0.7) ? EXT4_EXTENTS_FL : 0;
    const clusterRatio = flags !== 0 && prng.chance(0.3) ? 4 : 1;
    const sb = fakeSb({ blockSize: prng.pick([64, 88]), clusterRatio, blocks: 4096, firstFree: FIRST_FREE, hasCsum: false });
    sb.zone.set([{ start: 1, count: FIRST_FREE - 1, what: 'metadata' }]);
    allocatorOf(sb).runMax = () => prng.between(1, 5);
    const inode = newFile(sb, flags);
    const model: Model = new Map();
    for (let i = 0; i < 25; i++) {
      const h = logOf(sb).start(1000);
      const lblk = prng.below(300);
      if (!model.has(lblk)) fill(h, inode, model, lblk, runLength(model, lblk, 6), flags !== 0 && prng.chance(0.5), prng.below(4000));
      h.stop();
    }
    logOf(sb).commit();
    const { nodes } = readTree(inode);
    for (let i = prng.between(1, 4); i > 0; i--) {
      const bytes = nodes.length === 0 || prng.chance(0.3) ? inode.iBlock : (sb.buffers.peek(prng.pick(nodes))?.data as Uint8Array);
      const at = prng.below(Math.min(bytes.length, sb.blockSize));
      bytes[at] = prng.chance(0.5) ? (bytes[at] as number) ^ (1 << prng.below(8)) : prng.below(256);
    }
    for (const blocknr of nodes) (sb.buffers.peek(blocknr) as { checked: number }).checked = 0;
    inode.iBlock = inode.iBlock.slice();

    for (let i = 0; i < 40; i++) {
      const h = logOf(sb).start(10_000);
      const lblk = prng.chance(0.9) ? prng.below(320) : prng.below(EXT_MAX_BLOCKS);
      try {
        const found = now(map.mapBlocks(inode, lblk));
        const room = found.lblk + found.count - lblk;
        assert.ok(found.lblk <= lblk && room > 0);
        const what = prng.pick(['insert', 'convert', 'remove', 'shift', 'walk', 'append']);
        if (what === 'insert' && found.pblk === 0) {
          const pblk = prng.between(FIRST_FREE, 1000) * clusterRatio + (lblk % clusterRatio);
          now(map.insertBlocks(h, inode, lblk, pblk, Math.min(room, prng.between(1, 9)), flags !== 0 && prng.chance(0.5)));
        } else if (what === 'convert' && found.pblk !== 0) {
          now(map.convertBlocks(h, inode, lblk, prng.between(1, Math.min(9, room)), prng.chance(0.5)));
        } else if (what === 'remove') {
          now(map.removeBlocks(h, inode, lblk, lblk + prng.between(1, 400)));
        } else if (what === 'shift') {
          const from = lblk - (lblk % clusterRatio);
          if (prng.chance(0.5)) {
            now(map.removeBlocks(h, inode, from, from + 8));
            now(map.shiftExtents(h, inode, from + 8, from));
          } else {
            now(map.shiftExtents(h, inode, from, from + 8));
          }
        } else if (what === 'walk') {
          now(map.forEachExtent(inode, 0, EXT_MAX_BLOCKS, () => {}));
          now(map.countTreeBlocks(inode));
        } else if (what === 'append') {
          inode.size = lblk * sb.blockSize;
          now(map.appendFileBlock(h, inode));
        }
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
      h.rollback();
    }
  }));
