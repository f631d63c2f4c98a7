import { hasCode } from '../../src/base/fs-error.ts';
import { IovIter, type WriteSource } from '../../src/base/iov-iter.ts';
import { run, type Task, then, wait } from '../../src/base/task.ts';
import { bufferedFileWrite } from '../../src/iomap/buffered-file.ts';
import { bufferedRead } from '../../src/iomap/buffered-read.ts';
import { type DirectFileIo, directRead, directWrite } from '../../src/iomap/direct-file.ts';
import { type DirectOps, IOMAP_DIO_COW } from '../../src/iomap/direct-io.ts';
import { type FallocateOps, fallocateZeroRange, preallocate, punchHole, unshareRange } from '../../src/iomap/fallocate.ts';
import type { FileIo } from '../../src/iomap/file-io.ts';
import { MappedView } from '../../src/iomap/mapped-view.ts';
import { type RemapOps, reflink } from '../../src/iomap/remap.ts';
import { setSize } from '../../src/iomap/truncate.ts';
import { zeroRange } from '../../src/iomap/zero-range.ts';
import type { Inode } from '../../src/vfs/inode.ts';
import { OpenFile } from '../../src/vfs/open-file.ts';
import type { FileOp, TestFs, TestInode } from './test-fs.ts';

/** What a test may want to know of a call. */
export interface CallOptions {
  /** IOCB_*. */
  flags?: number;
  /** Called once the call holds the inode lock exclusively, before it changes anything. Calls that change nothing may leave it out. */
  onLocked?: () => void;
  /** Called when so many bytes are written and the lock is off, before the sync that IOCB_DSYNC asks for. */
  onWritten?: (count: number) => void;
}

/** An open file of a TestFs: the calls of a program, each with the locking of a real filesystem. */
export class TestFile {
  readonly fs: TestFs;
  readonly inode: TestInode;
  readonly open: OpenFile;

  constructor(fs: TestFs, inode: TestInode = fs.createInode()) {
    this.fs = fs;
    this.inode = inode;
    this.open = new OpenFile(inode);
  }

  get size(): number {
    return this.inode.size;
  }

  /** write(2) at `pos`: bytes accepted. */
  async write(pos: number, data: Uint8Array | WriteSource, options: CallOptions = {}): Promise<number> {
    const source = data instanceof Uint8Array ? new IovIter(data) : data;
    const iocb = { pos, flags: options.flags ?? 0 };
    const sync = (start: number, end: number): Promise<void> => {
      options.onWritten?.(end - start);
      return this.fsync();
    };
    return bufferedFileWrite(iocb, this.inode, source, this.#io(options), { sync });
  }

  /** A copy of what read(2) gives for [pos, pos + length): short at the end of the file. */
  async read(pos: number, length: number, flags = 0): Promise<Uint8Array> {
    const into = new Uint8Array(length).fill(0xee);
    const count = await bufferedRead({ pos, flags, ra: this.open.ra }, this.inode, into);
    return into.subarray(0, count);
  }

  async readAll(): Promise<Uint8Array> {
    return this.read(0, this.inode.size + 1);
  }

  /** write(2) past the cache (O_DIRECT). */
  async directWrite(pos: number, data: Uint8Array, options: CallOptions = {}): Promise<number> {
    const { fs, inode } = this;
    const io = this.#io(options);
    const direct: DirectFileIo = {
      ops: io.ops,
      private: io.private,
      dops: {
        endIo: (_iocb, _inode, start, size, errno, flags) =>
          run(fs.endDirectWrite(inode, start, size, errno, (flags & IOMAP_DIO_COW) !== 0)),
        ...this.#submitIo,
      },
      sync: () => this.fsync(),
      zeroGap: (start, end) => then(zeroRange(inode, start, end - start, io), () => undefined),
      bufferedWrite: (iocb, source) => bufferedFileWrite(iocb, inode, source, io),
    };
    return directWrite({ pos, flags: options.flags ?? 0 }, inode, new IovIter(data), direct);
  }

  async directRead(pos: number, length: number, flags = 0): Promise<Uint8Array> {
    const { inode } = this;
    const into = new Uint8Array(length).fill(0xee);
    const submitIo = this.#submitIo;
    const direct: DirectFileIo = {
      ops: inode.io.ops,
      ...(submitIo === undefined ? {} : { readDops: submitIo }),
      bufferedRead: (iocb, iov) => {
        const rest = new Uint8Array(iov.count);
        return then(bufferedRead(iocb, inode, rest), (count) => iov.copyFrom(rest.subarray(0, count)));
      },
    };
    const count = await directRead({ pos, flags }, inode, new IovIter(into), direct);
    return into.subarray(0, count);
  }

  /** Direct requests of a file without blocks go to its server. */
  get #submitIo(): DirectOps | undefined {
    const { server } = this.inode;
    return server === undefined ? undefined : { submitIo: (_iter, bio, pos) => server.submit(bio, pos) };
  }

  async truncate(size: number, options: CallOptions = {}): Promise<void> {
    await setSize(this.inode, size, this.#ops(options));
  }

  async punch(pos: number, length: number, options: CallOptions = {}): Promise<void> {
    await punchHole(this.inode, pos, length, this.#ops(options));
  }

  /** fallocate(ZERO_RANGE): the range reads as zeros and has blocks. */
  async zero(pos: number, length: number, options: CallOptions & { keepSize?: boolean } = {}): Promise<void> {
    await fallocateZeroRange(this.inode, pos, length, options.keepSize ?? true, this.#ops(options));
  }

  async prealloc(pos: number, length: number, options: CallOptions & { keepSize?: boolean } = {}): Promise<void> {
    await preallocate(this.inode, pos, length, options.keepSize ?? true, this.#ops(options));
  }

  async unshare(pos: number, length: number, options: CallOptions = {}): Promise<void> {
    await unshareRange(this.inode, pos, length, true, this.#ops(options));
  }

  /** Makes [dstPos, dstPos + length) share the blocks of a range of another file. Bytes that are shared. */
  async reflinkFrom(src: TestFile, srcPos = 0, dstPos = 0, length: number = src.size, options: CallOptions = {}): Promise<number> {
    return reflink({ src: src.inode, srcPos, dst: this.inode, dstPos, length, canShorten: true }, this.#ops(options));
  }

  /** All data, the size and the extents are durable. Errors: those of writeback since the last call, once. */
  async fsync(): Promise<void> {
    try {
      await this.inode.mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
    } catch (error) {
      this.open.checkWritebackErrors();
      throw error;
    }
    await run(this.fs.commit());
    this.open.checkWritebackErrors();
  }

  /** A range of the file as memory. */
  map(pos: number, length: number): MappedView {
    return new MappedView(this.inode, pos, length, this.inode.io);
  }

  /** Stores through a mapped view. Errors: EFAULT past the end of the file. */
  async store(pos: number, data: Uint8Array): Promise<void> {
    if (this.inode.inline !== undefined) await run(this.#unstuff());
    await this.map(pos, data.length).store(0, data);
  }

  async load(pos: number, length: number): Promise<Uint8Array> {
    const into = new Uint8Array(length);
    await this.map(pos, length).load(0, into);
    return into;
  }

  /** Inline data cannot be mapped for stores: a fault holds a folio that moving the data needs. */
  *#unstuff(): Task<void> {
    yield* wait(this.inode.lock.lock());
    try {
      yield* this.fs.unstuff(this.inode);
    } finally {
      this.inode.lock.unlock();
    }
  }

  /** Writes what is dirty and empties the cache of the file, as far as nobody uses it. */
  async dropCache(): Promise<void> {
    await this.inode.mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
    try {
      await this.inode.mapping.invalidateRange(0, Number.POSITIVE_INFINITY);
    } catch (error) {
      if (!hasCode(error, 'EBUSY')) throw error;
    }
  }

  /** The engine's hooks for one call. */
  #io(options: CallOptions): FileIo {
    const { onLocked } = options;
    if (onLocked === undefined) return this.inode.io;
    let isFirst = true;
    const op: FileOp = {
      underLock: () => {
        if (isFirst) onLocked();
        isFirst = false;
      },
    };
    return { ...this.inode.io, private: op };
  }

  #ops(options: CallOptions): FallocateOps & RemapOps {
    const { fs } = this;
    const io = this.#io(options);
    /** A hook of the recipes: says that the lock is held, waits as a transaction would, and changes the file. */
    const step = (change: () => Task<void>) =>
      run(
        (function* (): Task<void> {
          (io.private as FileOp | undefined)?.underLock();
          yield* wait(fs.pause('transaction'));
          yield* change();
        })(),
      );
    return {
      io,
      durableSize: (inode) => (inode as TestInode).diskSize,
      setSize: (inode, size) =>
        step(function* () {
          fs.setSize(inode as TestInode, size);
        }),
      freeBlocks: (inode, start, end) =>
        step(function* () {
          yield* fs.unstuff(inode as TestInode);
          fs.removeBlocks(inode as TestInode, start, end);
        }),
      allocateUnwritten: (inode, start, end) => step(() => fs.preallocate(inode as TestInode, start, end - start)),
      remapExtents: (src: Inode, srcPos: number, dst: Inode, dstPos: number, length: number) =>
        step(function* () {
          yield* fs.unstuff(src as TestInode);
          yield* fs.unstuff(dst as TestInode);
          fs.shareBlocks(src as TestInode, srcPos, dst as TestInode, dstPos, length);
        }),
    };
  }
}
