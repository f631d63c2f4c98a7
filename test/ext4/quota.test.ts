// Quota files that we keep, as e2fsck counts them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../src/base/fs-error.ts';
import { appendFileBlock, removeBlocks } from '../../src/fs/ext4/block-map.ts';
import type { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import { allocInode, freeInode } from '../../src/fs/ext4/inode-alloc.ts';
import { getInode, modifyInode } from '../../src/fs/ext4/inode-table.ts';
import { chargeInodes, openQuota, readDquot, setLimits, transfer, USRQUOTA } from '../../src/fs/ext4/quota.ts';
import { countInodes, setXattr } from '../../src/fs/ext4/xattr.ts';
import { ImageFile, noE2fsprogs, type OpenImage } from '../support/ext4-image.ts';
import { forEachSeed } from '../support/seeds.ts';

const MIB = 2 ** 20;
const FILES = ['a', 'b', 'c'];

function openImage(options: readonly string[]): { image: ImageFile; open: OpenImage; files: Ext4Inode[] } {
  const image = new ImageFile(32 * MIB, ['-O', 'quota,project,ea_inode,^has_journal', ...options]);
  for (const name of FILES) image.debugfs(`write /dev/null ${name}`, '-w');
  image.repair();
  assert.equal(image.fsck(), '');
  const open = image.open();
  open.now(openQuota(open.sb, [USRQUOTA]));
  const files = FILES.map((name) => open.now(getInode(open.sb, image.inoOf(`/${name}`))));
  return { image, open, files };
}

for (const { title, options } of [
  { title: 'blocks of 1 KiB', options: ['-b', '1024'] },
  { title: 'blocks of 4 KiB', options: ['-b', '4096'] },
  { title: 'bigalloc', options: ['-b', '4096', '-O', 'bigalloc', '-C', '16384'] },
]) {
  test(`e2fsck counts what we have counted: ${title}`, { skip: noE2fsprogs }, () =>
    forEachSeed(`quota, ${title}`, 3, (prng) => {
      const { image, open, files } = openImage(options);
      const { sb } = open;
      try {
        const ops = {
          *write(h, inode) {
            for (let i = prng.below(12); i > 0; i--) yield* appendFileBlock(h, inode);
          },
          *truncate(h, inode) {
            yield* modifyInode(h, inode);
            assert.equal(yield* removeBlocks(h, inode, 0, 2 ** 31), 0);
            inode.size = 0;
          },
          *xattr(h, inode) {
            const size = prng.pick([20, 400, sb.blockSize * 3]);
            yield* setXattr(h, inode, prng.pick(['user.a', 'user.b']), prng.chance(0.3) ? undefined : prng.bytes(size));
          },
          *chown(h, inode) {
            const id = () => prng.pick([0, prng.below(40), prng.u32() % (2 ** 32 - 2)]);
            const to = { uid: id(), gid: id(), projid: id() };
            yield* transfer(h, inode, to, yield* countInodes(inode));
            yield* modifyInode(h, inode);
            Object.assign(inode, to);
          },
          *create(h, inode) {
            const made = yield* allocInode(h, sb, inode, inode.mode);
            made.uid = inode.uid;
            yield* chargeInodes(h, made, 1);
            yield* freeInode(h, made);
          },
        } satisfies Record<string, (h: Parameters<Parameters<OpenImage['update']>[0]>[0], inode: Ext4Inode) => Generator>;
        for (let step = 0; step < 150; step++) {
          const inode = prng.pick(files);
          const op = ops[prng.pick(Object.keys(ops) as (keyof typeof ops)[])];
          const refused = new Error('rolled back');
          try {
            open.update(function* (h) {
              yield* op(h, inode);
              if (prng.chance(0.2)) throw refused;
            });
          } catch (error) {
            if (error !== refused) throw error;
          }
        }
        open.save();
        assert.equal(image.fsck(), '');
      } finally {
        image.end();
      }
    }),
  );
}

test('a limit holds for blocks, inodes and attributes, and what it refuses leaves nothing', { skip: noE2fsprogs }, () => {
  const { image, open, files } = openImage(['-b', '1024']);
  try {
    const { sb } = open;
    const [inode] = files as [Ext4Inode];
    open.update(function* (h) {
      yield* transfer(h, inode, { uid: 1000, gid: 0, projid: 0 }, 1);
      yield* modifyInode(h, inode);
      inode.uid = 1000;
      yield* setLimits(h, sb, USRQUOTA, 1000, { dqb_bhardlimit: 3, dqb_bsoftlimit: 0, dqb_ihardlimit: 1, dqb_isoftlimit: 0 });
    });
    const isQuota = (error: unknown): boolean => hasCode(error, 'EDQUOT');
    for (let i = 0; i < 3; i++) open.update((h) => appendFileBlock(h, inode));
    assert.throws(() => open.update((h) => appendFileBlock(h, inode)), isQuota);
    assert.throws(() => open.update((h) => setXattr(h, inode, 'user.a', new Uint8Array(500))), isQuota);
    assert.throws(() => open.update((h) => setXattr(h, inode, 'user.a', new Uint8Array(5000))), isQuota);
    assert.equal(open.now(readDquot(sb, USRQUOTA, 1000))?.dqb_curspace, 3072);
    open.save();
    assert.equal(image.fsck(), '');
  } finally {
    image.end();
  }
});
