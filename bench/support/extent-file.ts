// A file on a memory device whose mappings all have one length, chosen by the benchmark: the smallest filesystem that costs what a
// mapping costs.

import { IovIter } from '../../src/base/iov-iter.ts';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';
import { flushDevice } from '../../src/block/block-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { blockFileIo } from '../../src/iomap/block-file-io.ts';
import { bufferedFileWrite } from '../../src/iomap/buffered-file.ts';
import { bufferedRead } from '../../src/iomap/buffered-read.ts';
import { type FileIo, iomapAddressSpaceOps } from '../../src/iomap/file-io.ts';
import { fsyncFile } from '../../src/iomap/fsync.ts';
import { IOMAP_MAPPED, type Iomap } from '../../src/iomap/iomap.ts';
import { BackingDevice } from '../../src/pagecache/backing-device.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { Inode } from '../../src/vfs/inode.ts';
import { OpenFile } from '../../src/vfs/open-file.ts';
import { SuperBlock } from '../../src/vfs/super-block.ts';

export interface ExtentFileOptions {
  /** i_size, and size of the device, bytes. */
  size: number;
  blockSize?: number;
  /** Bytes of each mapping, a divisor of `size`; one mapping over all of the file if absent. */
  extentSize?: number;
  /** Neighbours in the file are no neighbours on the device, so that no request spans two mappings. */
  isScattered?: boolean;
  /** Cache budget, bytes; default: the file and a quarter. */
  budget?: number;
  /** Share of the budget that may be dirty; default: all of it, so that no flusher runs beside the benchmark. It starts at half of it. */
  dirtyRatio?: number;
  readaheadMax?: number;
  orderMax?: number;
  /** The device has all its memory, touched, from the start. */
  populate?: boolean;
}

export class ExtentFile {
  readonly cache: PageCache;
  readonly device: MemoryDevice;
  readonly inode: Inode;
  readonly file: OpenFile;
  readonly io: FileIo;
  /** Mappings handed out. */
  begins = 0;

  constructor(options: ExtentFileOptions) {
    const { size, blockSize = 4096, extentSize = size, isScattered = false, readaheadMax } = options;
    const { budget = size + size / 4, dirtyRatio = 1 } = options;
    this.cache = new PageCache({ budget, dirtyRatio, dirtyBackgroundRatio: dirtyRatio < 1 ? dirtyRatio / 2 : 1 });
    this.device = new MemoryDevice({ size, populate: options.populate ?? false });
    const bdi = new BackingDevice(this.cache, readaheadMax === undefined ? {} : { readaheadMax });
    const sb = new SuperBlock(this.cache, bdi);
    const extents = size / extentSize;
    const map = (pos: number, iomap: Iomap): void => {
      this.begins++;
      const index = Math.floor(pos / extentSize);
      iomap.type = IOMAP_MAPPED;
      iomap.offset = index * extentSize;
      iomap.length = extentSize;
      // Pairs change places: near enough that memory is walked as before, and never the next address.
      iomap.addr = (isScattered && extents > 1 ? index ^ 1 : index) * extentSize;
      iomap.bdev = this.device;
    };
    this.io = blockFileIo(
      { iomapBegin: (_inode, pos, _length, _flags, iomap) => map(pos, iomap) },
      {
        mapBlocks: (wpc, pos) => {
          if (!wpc.iomap.covers(pos)) map(pos, wpc.iomap);
        },
      },
    );
    const { orderMax } = options;
    this.inode = new Inode(sb, { blockSize, size, ...(orderMax === undefined ? {} : { orderMax }), ops: iomapAddressSpaceOps(this.io) });
    this.file = new OpenFile(this.inode);
  }

  /** pwrite: the whole call, locks included. */
  write(pos: number, from: Uint8Array): MaybePromise<number> {
    return bufferedFileWrite({ pos, flags: 0 }, this.inode, new IovIter(from), this.io);
  }

  /** pread: the whole call. */
  read(pos: number, into: Uint8Array): MaybePromise<number> {
    return bufferedRead({ pos, flags: 0, ra: this.file.ra }, this.inode, into);
  }

  /** fsync. */
  sync(): MaybePromise<void> {
    return fsyncFile(this.file, { commit: () => false, flushDevices: () => flushDevice(this.device) });
  }

  /** Lets the garbage collector have all of it: a timer looks after dirty data. */
  close(): void {
    this.inode.mapping.bdi.close();
  }

  /** Forgets what is cached, dirty data included. The memory stays with the cache. */
  drop(): MaybePromise<void> {
    return this.inode.mapping.truncateRange(0, Number.MAX_SAFE_INTEGER);
  }
}

/** The answer itself: on a memory device nothing waits, and a benchmark that does would measure turns of the event loop. */
export function now<T>(answer: MaybePromise<T>): T {
  if (isPromise(answer)) throw new Error('an operation had to wait');
  return answer;
}
