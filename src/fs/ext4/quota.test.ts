import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { type FakeHandle, type FakeLog, inodeWorld, newInode, now, useInodeFakes } from '../../../test/support/xattr-world.ts';
import { errnoCodeOf, hasCode } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { BufferHead } from '../../block/buffer-cache.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { INCOMPAT_EXTENTS, RO_COMPAT_PROJECT, RO_COMPAT_QUOTA } from './features.ts';
import { EXT4_EA_INODE_FL } from './format.ts';

useInodeFakes();
const { chargeBlocks, chargeInodes, GRPQUOTA, hasQuota, openQuota, PRJQUOTA, readDquot, setLimits, transfer, USRQUOTA } = await import(
  './quota.ts'
);
const { appendFileBlock, initBlockMap } = await import('./block-map.ts');

const INOS = [13, 14, 12] as const;
const MAGICS = ['111fc0d9', '2719c0d9', '143fc0d9'] as const;

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

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));

/** The first bytes of the 1 KiB blocks of a file that mke2fs has made, with 2 inodes and 16384 bytes of id 0. */
function freshFile(type: number): Uint8Array {
  const file = new Uint8Array(6144);
  file.set(hex(`${MAGICS[type]}01000000803a0900803a090000000000060000000000000005000000`));
  for (let depth = 0; depth < 4; depth++) file[1024 * (depth + 1)] = depth + 2;
  file.set(hex('0000000000000000010000000000000000000000000000000000000000000000'), 5120);
  file[5120 + 16 + 24] = 2;
  file.set(hex('0040'), 5120 + 16 + 48);
  return file;
}

function world(blockSize = 4096, mutate: (file: Uint8Array) => void = () => {}): Ext4Sb {
  const sb = inodeWorld({ blockSize, blocks: 16384, incompat: INCOMPAT_EXTENTS, roCompat: RO_COMPAT_QUOTA | RO_COMPAT_PROJECT });
  const { fields } = sb.es;
  [fields.s_usr_quota_inum, fields.s_grp_quota_inum, fields.s_prj_quota_inum] = INOS;
  for (const [type, ino] of INOS.entries()) {
    const inode = newInode(sb, ino);
    const content = freshFile(type);
    mutate(content);
    update(sb, function* (h) {
      yield* initBlockMap(h, inode);
      for (let pos = 0; pos < content.length; pos += blockSize) {
        const { bh } = yield* appendFileBlock(h, inode);
        bh.data.set(content.subarray(pos, pos + blockSize));
      }
      inode.size = content.length;
    });
  }
  return sb;
}

const usage = (sb: Ext4Sb, type: number, id: number): [number, number] => {
  const dquot = now(readDquot(sb, type, id));
  return [dquot?.dqb_curspace ?? -1, dquot?.dqb_curinodes ?? -1];
};

test('a fresh file is read and counted on', () => {
  const sb = world();
  assert.equal(hasQuota(sb), false);
  now(openQuota(sb));
  const inode = newInode(sb, 20);
  assert.deepEqual(usage(sb, USRQUOTA, 0), [16384, 2]);
  update(sb, (h) => chargeBlocks(h, inode, 4096));
  update(sb, (h) => chargeInodes(h, inode, 1));
  for (const type of [USRQUOTA, GRPQUOTA, PRJQUOTA]) assert.deepEqual(usage(sb, type, 0), [20480, 3]);
  inode.uid = 1000;
  update(sb, (h) => chargeBlocks(h, inode, 8192));
  assert.deepEqual(usage(sb, USRQUOTA, 1000), [8192, 0]);
  assert.deepEqual(usage(sb, GRPQUOTA, 0), [28672, 3]);
});

test('inodes of the volume itself and values of attributes are not counted', () => {
  const sb = world();
  now(openQuota(sb));
  const value = newInode(sb, 30);
  value.flags |= EXT4_EA_INODE_FL;
  for (const inode of [value, newInode(sb, 12), newInode(sb, 8)]) update(sb, (h) => chargeInodes(h, inode, 1));
  assert.deepEqual(usage(sb, USRQUOTA, 0), [16384, 2]);
  update(sb, (h) => chargeInodes(h, newInode(sb, 2), 1));
  assert.deepEqual(usage(sb, USRQUOTA, 0), [16384, 3]);
});

test('a transfer moves everything between those that differ', () => {
  const sb = world();
  now(openQuota(sb));
  const inode = newInode(sb, 20);
  inode.blocks = 16;
  update(sb, (h) => transfer(h, inode, { uid: 5, gid: 0, projid: 7 }, 1));
  assert.deepEqual(usage(sb, USRQUOTA, 5), [8192, 1]);
  assert.deepEqual(usage(sb, USRQUOTA, 0), [8192, 1]);
  assert.deepEqual(usage(sb, GRPQUOTA, 0), [16384, 2]);
  assert.deepEqual(usage(sb, PRJQUOTA, 7), [8192, 1]);
});

test('hard limits hold at once and soft ones after their grace, where they are enforced', () => {
  const sb = world();
  now(openQuota(sb, [USRQUOTA]));
  const inode = newInode(sb, 20);
  inode.uid = 1000;
  inode.gid = 1000;
  const limits = { dqb_ihardlimit: 2, dqb_isoftlimit: 0, dqb_bhardlimit: 16, dqb_bsoftlimit: 8 };
  update(sb, (h) => setLimits(h, sb, USRQUOTA, 1000, limits));
  update(sb, (h) => setLimits(h, sb, GRPQUOTA, 1000, { ...limits, dqb_bhardlimit: 1 }));
  const isQuota = (error: unknown): boolean => hasCode(error, 'EDQUOT');
  update(sb, (h) => chargeBlocks(h, inode, 12288));
  assert.equal(now(readDquot(sb, USRQUOTA, 1000))?.dqb_btime, 1_700_000_000 + 604800);
  assert.throws(() => update(sb, (h) => chargeBlocks(h, inode, 8192)), isQuota);
  assert.deepEqual(usage(sb, GRPQUOTA, 1000), [12288, 0], 'the other types were rolled back with it');
  update(sb, (h) => chargeBlocks(h, inode, 8192, true));
  update(sb, (h) => chargeBlocks(h, inode, -8192));
  update(sb, (h) => chargeInodes(h, inode, 2));
  assert.throws(() => update(sb, (h) => chargeInodes(h, inode, 1)), isQuota);
  sb.env.now = () => ({ sec: 1_700_604_801, nsec: 0 });
  assert.throws(() => update(sb, (h) => chargeBlocks(h, inode, 4096)), isQuota);
  update(sb, (h) => chargeBlocks(h, inode, -8192));
  assert.equal(now(readDquot(sb, USRQUOTA, 1000))?.dqb_btime, 0);
  update(sb, (h) => chargeBlocks(h, inode, 4096));
});

test('id 0 with nothing keeps its record', () => {
  const sb = world();
  now(openQuota(sb));
  const inode = newInode(sb, 20);
  update(sb, (h) => chargeBlocks(h, inode, -16384));
  update(sb, (h) => chargeInodes(h, inode, -2));
  assert.deepEqual(usage(sb, USRQUOTA, 0), [0, 0]);
  now(openQuota(sb));
  update(sb, (h) => chargeInodes(h, inode, 1));
  assert.deepEqual(usage(sb, USRQUOTA, 0), [0, 1]);
});

test('many ids agree with a map, and the tree is found again; half of the changes are rolled back', () =>
  forEachSeed('quota model', 12, (prng) => {
    const sb = world(prng.pick([1024, 4096]));
    now(openQuota(sb));
    const inode = newInode(sb, 20);
    inode.gid = 77;
    const ids = Array.from({ length: 60 }, (_, i) => prng.pick([i, 65536 + i, prng.u32(), 2 ** 32 - 1 - i]));
    const model = new Map<number, [number, number]>([[0, [16384, 2]]]);
    for (let step = 0; step < 300; step++) {
      inode.uid = prng.pick(ids);
      const [space, inodes] = model.get(inode.uid) ?? [0, 0];
      const bytes = 1024 * prng.below(10);
      const h = (sb.log as FakeLog).start(100);
      now(chargeBlocks(h, inode, bytes));
      now(chargeInodes(h, inode, 1));
      if (prng.chance(0.4)) h.rollback();
      else {
        h.stop();
        model.set(inode.uid, [space + bytes, inodes + 1]);
      }
      if (step % 50 === 0) {
        (sb.log as FakeLog).commit();
        sb.buffers.dropClean();
        now(openQuota(sb));
      }
    }
    now(openQuota(sb));
    for (const id of ids) assert.deepEqual(usage(sb, USRQUOTA, id), model.get(id) ?? [0, 0]);
  }));

test('a damaged file gives an error or an answer', () =>
  forEachSeed('mutated quota files', 150, (prng) => {
    const sb = world(1024, (file) => {
      for (let i = 0; i < 1 + prng.below(3); i++) {
        const at = prng.pick([prng.below(32), 1024 * (1 + prng.below(4)), 5120 + prng.below(100), prng.below(6144)]);
        file[at] = prng.pick([0, 1, 2, 5, 6, 255]);
      }
    });
    const inode = newInode(sb, 20);
    const attempts: (() => unknown)[] = [
      () => now(openQuota(sb)),
      ...[0, 1, 300, 0, 0x01020304].map((uid) => () => {
        inode.uid = uid;
        update(sb, (h) => chargeBlocks(h, inode, 1024));
      }),
    ];
    for (const attempt of attempts) {
      try {
        attempt();
      } catch (error) {
        assert.notEqual(errnoCodeOf(error), undefined, String((error as Error).stack));
      }
    }
  }));

test('what is no quota file is refused', () => {
  for (const at of [0, 4, 20]) {
    const sb = world(1024, (file) => file.fill(0, at, at + 4));
    assert.throws(
      () => now(openQuota(sb)),
      (error) => hasCode(error, 'EUCLEAN'),
    );
  }
  const sb = world();
  assert.ok((sb.buffers.read(16) as BufferHead).isUptodate);
  sb.es.fields.s_grp_quota_inum = INOS[0];
  assert.throws(
    () => now(openQuota(sb)),
    (error) => hasCode(error, 'EUCLEAN'),
  );
});
