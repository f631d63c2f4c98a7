// Attributes of files on a mounted volume, with their owners, quotas and ends; after an unmount, and after a crash.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errnoCodeOf } from '../../src/base/fs-error.ts';
import type { MemoryDevice } from '../../src/block/memory-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import type { Entry } from '../../src/vfs/attr.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { NodeId } from '../../src/vfs/file-system.ts';
import { S_IFLNK, S_IFREG } from '../../src/vfs/uapi.ts';
import { assertClean, makeVolume, whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { forEachSeed } from '../support/seeds.ts';

const skip = whyNoE2fsprogs() ?? false;

interface File {
  readonly node: NodeId;
  readonly attributes: Map<string, Uint8Array>;
}

for (const { title, options } of [
  { title: 'values in inodes, quotas, an orphan file', options: '-t ext4 -b 4096 -O ea_inode,inline_data,quota,project,orphan_file' },
  { title: 'blocks of 1 KiB', options: '-t ext4 -b 1024 -O ea_inode,inline_data,quota' },
  { title: 'ext3', options: '-t ext3 -b 1024' },
]) {
  test(`attributes of a mounted volume are what they were after an unmount and a crash: ${title}`, { skip }, () =>
    forEachSeed(`mounted attributes, ${title}`, 3, async (prng) => {
      const bdev = makeVolume({ options, size: 24 });
      let fs: Ext4Fs = await mountExt4(bdev, { seed: prng.u32() });
      const files = new Map<string, File>();
      const names = ['a', 'b', 'c', 'd', 'e'];

      const check = async (on: Ext4Fs): Promise<void> => {
        for (const [name, { attributes }] of files) {
          const entry = await on.lookup(ROOT, on.root, name);
          assert.ok(entry !== undefined, name);
          assert.deepEqual(new Set(await on.listxattr(ROOT, entry.node)), new Set(attributes.keys()));
          for (const [key, value] of attributes) assert.deepEqual(await on.getxattr(ROOT, entry.node, key), value);
          on.forget(entry.node, 1);
        }
      };
      const remount = async (from: MemoryDevice): Promise<void> => {
        const other = await mountExt4(from, { seed: 1 });
        await check(other);
        await other.destroy();
        assertClean(from);
      };

      for (let step = 0; step < 120; step++) {
        const name = prng.pick(names);
        const file = files.get(name);
        const key = prng.pick(['user.a', 'user.b', 'security.c', 'trusted.d']);
        if (file === undefined) {
          const isLink = prng.chance(0.2);
          const entry = isLink
            ? await fs.symlink(ROOT, fs.root, name, 'x'.repeat(prng.between(1, 100)))
            : await fs.mknod(ROOT, fs.root, name, S_IFREG | 0o644, 0);
          assert.equal((entry.attr.mode & S_IFLNK) === S_IFLNK, isLink);
          files.set(name, { node: entry.node, attributes: new Map() });
        } else if (prng.chance(0.08)) {
          await fs.unlink(ROOT, fs.root, name);
          files.delete(name);
          // Some are open when the crash comes.
          if (prng.chance(0.7)) fs.forget(file.node, 1);
        } else if (prng.chance(0.15)) {
          await fs.setattr(ROOT, file.node, { uid: prng.below(50), gid: prng.below(3) });
        } else if (prng.chance(0.25)) {
          if (file.attributes.delete(key)) await fs.removexattr(ROOT, file.node, key);
        } else {
          const value = prng.bytes(prng.below(prng.pick([20, 200, 900, 9000])));
          try {
            await fs.setxattr(ROOT, file.node, key, value, 0);
            file.attributes.set(key, value);
          } catch (error) {
            const code = errnoCodeOf(error);
            assert.ok(code === 'ENOSPC' || code === 'EPERM', String((error as Error).stack)); // EPERM: user.* of a link
          }
        }
      }
      await check(fs);
      await fs.syncfs(ROOT);
      await remount(bdev.snapshot());
      await fs.destroy();
      assertClean(bdev);
      fs = await mountExt4(bdev, { seed: 2 });
      await check(fs);
      await fs.destroy();
      assertClean(bdev);
    }),
  );
}

test('a short link with a large attribute is read and removed as a link, not as block pointers', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 1024 -O ea_inode', size: 16 });
  let fs = await mountExt4(bdev);
  let { node } = await fs.symlink(ROOT, fs.root, 'link', 'xxxxxxxx');
  await fs.setxattr(ROOT, node, 'security.big', new Uint8Array(5000), 0);
  assert.equal(await fs.readlink(ROOT, node), 'xxxxxxxx');
  await fs.destroy();
  assertClean(bdev);
  fs = await mountExt4(bdev);
  ({ node } = (await fs.lookup(ROOT, fs.root, 'link')) as Entry);
  await fs.unlink(ROOT, fs.root, 'link');
  fs.forget(node, 1);
  await fs.destroy();
  assertClean(bdev);
});
