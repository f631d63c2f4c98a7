// Block maps between the kernel's ext4, e2fsck and us.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Prng } from '../../src/base/prng.ts';
import { allocBlocks } from '../../src/fs/ext4/block-alloc.ts';
import {
  type BlockMapping,
  convertBlocks,
  countTreeBlocks,
  findCluster,
  forEachExtent,
  insertBlocks,
  mapBlocks,
  removeBlocks,
  shiftExtents,
} from '../../src/fs/ext4/block-map.ts';
import type { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import { EXT_MAX_BLOCKS } from '../../src/fs/ext4/format.ts';
import { getInode, modifyInode } from '../../src/fs/ext4/inode-table.ts';
import { ImageFile, noE2fsprogs, type OpenImage } from '../support/ext4-image.ts';
import { forEachSeed } from '../support/seeds.ts';

const MIB = 2 ** 20;

function inodeAt(image: ImageFile, open: OpenImage, path: string): Ext4Inode {
  return open.now(getInode(open.sb, image.inoOf(path)));
}

interface Run {
  lblk: number;
  pblk: number;
  count: number;
  isUnwritten: boolean;
}

/** Neighbours that could be one are one, so that what two readers say of a file can be compared. */
function joined(runs: readonly Run[]): Run[] {
  const out: Run[] = [];
  for (const run of runs) {
    const last = out.at(-1);
    const isNext =
      last !== undefined &&
      last.lblk + last.count === run.lblk &&
      last.pblk + last.count === run.pblk &&
      last.isUnwritten === run.isUnwritten;
    if (isNext) last.count += run.count;
    else out.push({ ...run });
  }
  return out;
}

/** What we say is in a file. */
function runsOf(open: OpenImage, inode: Ext4Inode): Run[] {
  const runs: Run[] = [];
  open.now(
    forEachExtent(inode, 0, EXT_MAX_BLOCKS, ({ lblk, pblk, count, isUnwritten }: BlockMapping) => {
      runs.push({ lblk, pblk, count, isUnwritten });
    }),
  );
  return joined(runs);
}

/** What debugfs says is in a file. */
function debugfsRuns(image: ImageFile, path: string): Run[] {
  const runs: Run[] = [];
  if (!/Flags:.*0x[0-9a-f]*[89a-f][0-9a-f]{4}\b/.test(image.debugfs(`stat ${path}`))) {
    // (0-11):513-524, (IND):525, (12-20):526-534
    for (const [, from, to, pblk] of image.debugfs(`stat ${path}`).matchAll(/\((\d+)(?:-(\d+))?\):(\d+)/g)) {
      runs.push({ lblk: Number(from), pblk: Number(pblk), count: Number(to ?? from) - Number(from) + 1, isUnwritten: false });
    }
    return joined(runs);
  }
  // " 1/ 1   1/340     0 -     0  2109 -  2109      1 Uninit": level/depth, then entry/entries.
  const line = /^ *(\d+)\/\s*(\d+)\s+\d+\/\s*\d+\s+(\d+) -\s+\d+\s+(\d+) -\s+\d+\s+(\d+) *(Uninit)?/gm;
  for (const [, level, depth, lblk, pblk, count, uninit] of image.debugfs(`dump_extents ${path}`).matchAll(line)) {
    if (level === depth) runs.push({ lblk: Number(lblk), pblk: Number(pblk), count: Number(count), isUnwritten: uninit !== undefined });
  }
  return joined(runs);
}

const kinds: Record<string, readonly string[]> = {
  'blocks of 1 KiB': ['-b', '1024'],
  'blocks of 4 KiB': ['-b', '4096'],
  'no checksums': ['-b', '1024', '-O', '^metadata_csum,^64bit'],
  clusters: ['-b', '1024', '-O', 'bigalloc', '-C', '8192'],
  'block pointers': ['-b', '1024', '-O', '^extent,^64bit,^has_journal,^huge_file'],
};

for (const [name, options] of Object.entries(kinds)) {
  test(`files that the kernel has written are mapped as debugfs says: ${name}`, { skip: noE2fsprogs }, (t) => {
    const image = new ImageFile(64 * MIB, options);
    const isExtents = name !== 'block pointers';
    try {
      const why = image.withMount(`cd "$0"; python3 -c '
import os
with open("scattered", "wb") as f:
  for i in range(2000):
    f.seek(i * 8192)
    f.write(b"x" * 100)
with open("solid", "wb") as f: f.write(b"y" * 3000000)
with open("far", "wb") as f:
  for pos in (0, 40000, 1000000, 70000000, 5000000000):
    f.seek(pos)
    f.write(b"z" * 3000)
open("empty", "w").close()
if ${isExtents ? 'True' : 'False'}:
  with open("allocated", "wb") as f:
    os.posix_fallocate(f.fileno(), 0, 2000000)
    for pos in (8192, 100000, 1500000): os.pwrite(f.fileno(), b"w" * 5000, pos)
'; sync`);
      if (why !== undefined) return t.skip(why);
      const open = image.open();
      for (const path of ['scattered', 'solid', 'far', 'empty', ...(isExtents ? ['allocated'] : [])]) {
        const inode = inodeAt(image, open, path);
        const runs = runsOf(open, inode);
        assert.deepEqual(runs, debugfsRuns(image, path), path);
        const mapped = runs.reduce((sum, { count }) => sum + count, 0);
        if (path !== 'empty') assert.ok(mapped > 0, path);
        const taken = (inode.blocks * 512) / open.sb.blockSize;
        if (open.sb.clusterRatio === 1) assert.equal(mapped + open.now(countTreeBlocks(inode)), taken, `${path}: i_blocks`);
      }
      if (isExtents) assert.ok(runsOf(open, inodeAt(image, open, 'allocated')).some(({ isUnwritten }) => isUnwritten));
    } finally {
      image.end();
    }
  });

  test(`files that we map are right for e2fsck, debugfs and the kernel: ${name}`, { skip: noE2fsprogs }, async (t) => {
    await forEachSeed(name, 3, (prng) => {
      const image = new ImageFile(32 * MIB, options);
      try {
        const why = image.withMount('touch "$0/file" "$0/other"; sync');
        if (why !== undefined) return t.skip(why);
        const open = image.open();
        const inode = inodeAt(image, open, 'file');
        for (let step = 0; step < 400; step++) change(open, inode, prng);
        finish(open, inode);
        const runs = runsOf(open, inode);
        assert.ok(runs.length > 50, `${runs.length} runs`);
        open.save();
        assert.equal(image.fsck(), '');
        assert.deepEqual(debugfsRuns(image, 'file'), runs);
        // The kernel reads it, changes it, and takes it away.
        const tail = prng.below(200_000);
        assert.equal(image.withMount(`cat "$0/file" > /dev/null; truncate -s ${tail} "$0/file"; cp "$0/file" "$0/other"; sync`), undefined);
        assert.equal(image.fsck(), '');
        const again = image.open();
        assert.deepEqual(runsOf(again, inodeAt(image, again, 'file')), debugfsRuns(image, 'file'));
        assert.deepEqual(runsOf(again, inodeAt(image, again, 'other')), debugfsRuns(image, 'other'));
        const file = inodeAt(image, again, 'file');
        again.update(function* (h) {
          for (let left = EXT_MAX_BLOCKS; left > 0; left = yield* removeBlocks(h, file, 0, left)) h.extend(100);
          file.size = 0;
        });
        assert.equal(file.blocks, 0);
        again.save();
        assert.equal(image.fsck(), '');
      } finally {
        image.end();
      }
    });
  });
}

/** One random change of what a file has in its first 3000 blocks. */
function change(open: OpenImage, inode: Ext4Inode, prng: Prng): void {
  const ratio = open.sb.clusterRatio;
  const lblk = prng.below(3000);
  const what = prng.pick(['insert', 'insert', 'insert', 'insert', 'convert', 'convert', 'remove', 'shift']);
  open.update(function* (h) {
    if (what === 'insert') {
      const hole = yield* mapBlocks(inode, lblk);
      if (hole.pblk !== 0) return;
      const count = Math.min(prng.between(1, 6), hole.lblk + hole.count - lblk);
      const isUnwritten = inode.hasExtents && prng.chance(0.6);
      for (let at = lblk; at < lblk + count; at++) {
        let cluster = ratio > 1 ? yield* findCluster(inode, at) : undefined;
        cluster ??= (yield* allocBlocks(h, inode, { goal: prng.below(30_000), count: 1 })).start;
        yield* insertBlocks(h, inode, at, cluster + (at % ratio), 1, isUnwritten);
      }
    } else if (what === 'convert' && inode.hasExtents) {
      const found = yield* mapBlocks(inode, lblk);
      if (found.pblk === 0) return;
      const count = Math.min(prng.between(1, 6), found.lblk + found.count - lblk);
      yield* convertBlocks(h, inode, lblk, count, !found.isUnwritten);
    } else if (what === 'remove') {
      assert.equal(yield* removeBlocks(h, inode, lblk, lblk + prng.between(1, 20)), lblk);
    } else if (what === 'shift' && inode.hasExtents) {
      const distance = prng.between(1, 4) * ratio;
      const from = lblk - (lblk % ratio);
      if (prng.chance(0.5)) {
        assert.equal(yield* removeBlocks(h, inode, from, from + distance), from);
        assert.equal(yield* shiftExtents(h, inode, from + distance, from), undefined);
      } else {
        assert.equal(yield* shiftExtents(h, inode, from, from + distance), undefined);
      }
    }
  });
}

/** Makes the size that of what is mapped. */
function finish(open: OpenImage, inode: Ext4Inode): void {
  const last = runsOf(open, inode).at(-1);
  assert.ok(last !== undefined);
  open.update(function* (h) {
    yield* modifyInode(h, inode);
    inode.size = (last.lblk + last.count) * open.sb.blockSize;
  });
}
