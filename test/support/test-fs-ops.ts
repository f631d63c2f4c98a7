import { assert } from '../../src/base/assert.ts';
import { run } from '../../src/base/task.ts';
import { flushDevice } from '../../src/block/block-device.ts';
import type { FallocateOps } from '../../src/iomap/fallocate.ts';
import type { SyncFsOps, SyncOps } from '../../src/iomap/fsync.ts';
import type { RemapOps } from '../../src/iomap/remap.ts';
import type { Inode } from '../../src/vfs/inode.ts';
import type { TestFs, TestInode } from './test-fs.ts';

/** All that the recipes for sizes, blocks and durability take of a filesystem. */
export type TestFsOps = Required<Omit<FallocateOps, 'convertToUnwritten'>> & RemapOps & SyncOps & SyncFsOps;

/** The test filesystem's hooks. `note` is told the name of each with its numbers when it is called. */
export function testFsOps(fs: TestFs, note: (step: string) => void = () => {}): TestFsOps {
  const { blockSize } = fs;
  const own = (inode: Inode) => inode as TestInode;
  // A range whose blocks change has nothing in the cache that storage does not have.
  const checkClean = (inode: Inode, start: number, end: number) => {
    const { mapping } = inode;
    assert(
      mapping.invalidateLock.isExclusive && inode.lock.isExclusive && inode.dioCount === 0,
      'blocks change under a file that is in use',
    );
    assert(!mapping.hasFolios(start, end), `[${start}, ${end}) is cached while its blocks change`);
  };
  return {
    io: fs.io,
    durableSize: (inode) => own(inode).diskSize,
    setSize(inode, size) {
      note(`setSize ${size}`);
      assert(inode.size === size && inode.lock.isExclusive, 'the size in core is not yet the new one');
      fs.setSize(own(inode), size);
    },
    freeBlocks(inode, start, end) {
      note(`freeBlocks ${start} ${end}`);
      return run(
        (function* () {
          yield* fs.unstuff(own(inode));
          fs.removeBlocks(own(inode), start, end);
        })(),
      );
    },
    allocateUnwritten(inode, start, end) {
      note(`allocateUnwritten ${start} ${end}`);
      return run(fs.preallocate(own(inode), start, end - start));
    },
    shiftExtents(inode, from, to) {
      note(`shiftExtents ${from} ${to}`);
      checkClean(inode, Math.min(from, to), Number.POSITIVE_INFINITY);
      for (const fork of [own(inode).data, own(inode).cow]) {
        assert(to > from || fork.slice(to / blockSize, from / blockSize).length === 0, 'blocks are moved onto others');
        const moved = fork.remove(from / blockSize, Number.POSITIVE_INFINITY);
        for (const extent of moved) fork.insert({ ...extent, block: extent.block + (to - from) / blockSize });
      }
      own(inode).bump();
    },
    remapExtents(src, srcPos, dst, dstPos, length) {
      note(`remapExtents ${srcPos} ${dstPos} ${length}`);
      checkClean(dst, dstPos, dstPos + length);
      return run(
        (function* () {
          yield* fs.unstuff(own(src));
          yield* fs.unstuff(own(dst));
          fs.shareBlocks(own(src), srcPos, own(dst), dstPos, length);
        })(),
      );
    },
    async commit(_inode, datasync) {
      note(datasync ? 'commit data' : 'commit');
      await run(fs.commit());
      return true;
    },
    inodes: () => fs.inodes,
    async commitAll() {
      note('commitAll');
      await run(fs.commit());
      return true;
    },
    flushDevices() {
      note('flush');
      return flushDevice(fs.bdev);
    },
  };
}
