// The smallest filesystem that shows what iomap asks for: where does this byte range live? Files are lists of extents on one device;
// blocks are given out unwritten, and become file data when what was written to them is stable. No directories, nothing on disk but data.
import {
  BackingDevice,
  type BlockDevice,
  blockFileIo,
  bufferedFileWrite,
  bufferedRead,
  type FileIo,
  FsError,
  flushDevice,
  fsyncFile,
  Inode,
  IOEND_UNWRITTEN,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  type Ioend,
  type Iomap,
  type IomapOps,
  IovIter,
  iomapAddressSpaceOps,
  OpenFile,
  PageCache,
  SuperBlock,
  type WritepageContext,
} from '../src/node.ts';

const BLOCK_SIZE = 4096;

/** File bytes [offset, offset + length) at device bytes from `addr`; unwritten ones read as zeros. Sorted by offset, without overlap. */
export interface Extent {
  offset: number;
  length: number;
  addr: number;
  unwritten: boolean;
}

export class ExtentFs {
  readonly sb: SuperBlock;
  readonly bdev: BlockDevice;
  #nextFree = 0;
  #nextIno = 1;

  constructor(bdev: BlockDevice, cache = new PageCache()) {
    this.bdev = bdev;
    this.sb = new SuperBlock(cache, new BackingDevice(cache, { readaheadMax: 1024 * 1024 }));
  }

  /** A file of `size` bytes with the given extents. */
  file(size = 0, extents: Extent[] = []): ExtentFile {
    return new ExtentFile(this, this.#nextIno++, size, extents);
  }

  /** Device address of `length` free bytes. */
  allocate(length: number): number {
    if (this.#nextFree + length > this.bdev.size) throw new FsError('ENOSPC', 'write');
    const addr = this.#nextFree;
    this.#nextFree += length;
    return addr;
  }
}

export class ExtentFile implements IomapOps {
  readonly fs: ExtentFs;
  readonly inode: Inode;
  readonly open: OpenFile;
  readonly io: FileIo;
  extents: Extent[];
  /** Grows with every change of `extents`: tells mappings that are still true from those that are not. */
  #sequence = 0;

  constructor(fs: ExtentFs, ino: number, size: number, extents: Extent[]) {
    this.fs = fs;
    this.extents = extents;
    this.io = blockFileIo(
      this,
      { mapBlocks: (wpc, pos) => this.#mapBlocks(wpc, pos), endIoend: (ioend) => this.#endIoend(ioend) },
      (_inode, map) => map.validityCookie === this.#sequence,
    );
    this.inode = new Inode(fs.sb, {
      ino,
      size,
      blockSize: BLOCK_SIZE,
      stableWrites: fs.bdev.stableWrites,
      ops: iomapAddressSpaceOps(this.io),
    });
    this.open = new OpenFile(this.inode);
  }

  /** The one question. The answer is the whole extent, or the whole hole up to the next. */
  iomapBegin(inode: Inode, pos: number, length: number, flags: number, map: Iomap): void {
    let next = this.extents.findIndex((extent) => extent.offset + extent.length > pos);
    if (next < 0) next = this.extents.length;
    const extent = this.extents[next];
    if ((extent === undefined || extent.offset > pos) && (flags & IOMAP_WRITE) !== 0) {
      this.#fillHole(next, pos, length);
      this.iomapBegin(inode, pos, length, flags, map);
      return;
    }
    map.validityCookie = this.#sequence;
    if (extent !== undefined && extent.offset <= pos) {
      map.type = extent.unwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED;
      map.flags = extent.unwritten ? IOMAP_F_NEW : 0;
      map.offset = extent.offset;
      map.length = extent.length;
      map.addr = extent.addr;
      map.bdev = this.fs.bdev;
      return;
    }
    map.type = IOMAP_HOLE;
    map.offset = pos - (pos % BLOCK_SIZE);
    map.length = (extent?.offset ?? Number.MAX_SAFE_INTEGER - (Number.MAX_SAFE_INTEGER % BLOCK_SIZE)) - map.offset;
  }

  /** Unwritten blocks for the part of [pos, pos + length) that lies before the extent at index `next`. */
  #fillHole(next: number, pos: number, length: number): void {
    const offset = pos - (pos % BLOCK_SIZE);
    const limit = this.extents[next]?.offset ?? Number.POSITIVE_INFINITY;
    const end = Math.min(Math.ceil((pos + length) / BLOCK_SIZE) * BLOCK_SIZE, limit);
    this.extents.splice(next, 0, { offset, length: end - offset, addr: this.fs.allocate(end - offset), unwritten: true });
    this.#sequence++;
  }

  /** Writeback asks the same question, and keeps the answer for the ranges that follow while it is true. */
  #mapBlocks(wpc: WritepageContext, pos: number): void {
    if (wpc.iomap.covers(pos) && wpc.iomap.validityCookie === this.#sequence) return;
    wpc.iomap.clear();
    this.iomapBegin(wpc.inode, pos, BLOCK_SIZE, 0, wpc.iomap);
  }

  /** The data is stable: what was unwritten is file data from here on. */
  #endIoend(ioend: Ioend): void {
    if (ioend.error < 0 || (ioend.flags & IOEND_UNWRITTEN) === 0) return;
    const from = ioend.offset;
    const to = ioend.offset + ioend.length;
    this.extents = this.extents.flatMap((extent) => {
      const start = Math.max(from, extent.offset);
      const end = Math.min(to, extent.offset + extent.length);
      if (!extent.unwritten || start >= end) return [extent];
      const part = (a: number, b: number, unwritten: boolean) => ({
        offset: a,
        length: b - a,
        addr: extent.addr + a - extent.offset,
        unwritten,
      });
      const parts = [part(extent.offset, start, true), part(start, end, false), part(end, extent.offset + extent.length, true)];
      return parts.filter((each) => each.length > 0);
    });
    this.#sequence++;
  }

  async write(pos: number, data: Uint8Array, flags = 0): Promise<number> {
    return bufferedFileWrite({ pos, flags }, this.inode, new IovIter(data), this.io);
  }

  async read(pos: number, length: number): Promise<Uint8Array> {
    const into = new Uint8Array(length);
    return into.subarray(0, await bufferedRead({ pos, flags: 0, ra: this.open.ra }, this.inode, into));
  }

  /** Everything written so far is on the device, or this throws. */
  async fsync(): Promise<void> {
    // Extents live in memory only: there is no metadata to commit.
    await fsyncFile(this.open, { commit: () => false, flushDevices: () => flushDevice(this.fs.bdev) });
  }
}
