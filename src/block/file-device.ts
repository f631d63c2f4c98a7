import * as fs from 'node:fs';
import { ERRNO } from '../base/errno.ts';
import { Fifo } from '../base/fifo.ts';
import { errnoOf, FsError, hasCode } from '../base/fs-error.ts';
import { roundDown } from '../base/ranges.ts';
import type { MaybePromise } from '../base/task.ts';
import { WaitQueue } from '../base/wait-queue.ts';
import { alignedBytes, isPageAligned, PAGE_SIZE } from './aligned-memory.ts';
import { type Bio, REQ_FUA, REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE_ZEROES, REQ_PREFLUSH } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';
import { checkGeometry } from './memory-device.ts';
import { gather, scatter } from './vec.ts';

/** Most buffers of one readv or writev. Source: Linux UIO_MAXIOV. */
const IOV_MAX = 1024;
/** How often in a row a call may say "try again" before we believe it. */
const RETRY_MAX = 1000;
/** Zeros written by one call, and largest transfer through one bounce slot. */
const ZEROES_MAX = 2 ** 24;
const SLOT_SIZE = 2 ** 20;
const SLOT_COUNT = 16;

export interface FileDeviceOptions {
  readOnly?: boolean;
  /** O_DIRECT: past the host's page cache. */
  direct?: boolean;
  /** Default: what the host says of the device below, else 512, or 4096 with `direct`. */
  logicalBlockSize?: number;
  /** Bytes to show. A regular file may be shorter (the rest reads as zeros) or longer. Default: all whole blocks that are there. */
  size?: number;
  /** Makes the file if it is missing, and gives it `size` bytes, sparse, if it is shorter. */
  create?: boolean;
  /**
   * Blocks the thread in every call and completes inside submit(). For scripts, and for threads that have nothing else to do. 'transfers': but
   * for flushes, as soon as they turn out to take so long that the thread had better do something else meanwhile.
   */
  sync?: boolean | 'transfers';
}

/** The calls that a FileDevice makes on its file, so that a test can make them fail. */
export interface FileIo {
  readv(fd: number, vec: Uint8Array[], pos: number, done: (error: unknown, count: number) => void): void;
  writev(fd: number, vec: Uint8Array[], pos: number, done: (error: unknown, count: number) => void): void;
  fdatasync(fd: number, done: (error: unknown) => void): void;
  /** Calls `again` a moment later. */
  retry(again: () => void): void;
}

export const asyncFileIo: FileIo = {
  readv: (fd, vec, pos, done) => fs.readv(fd, vec, pos, done),
  writev: (fd, vec, pos, done) => fs.writev(fd, vec, pos, done),
  fdatasync: (fd, done) => fs.fdatasync(fd, done),
  retry: (again) => void setTimeout(again, 1),
};

export const syncFileIo: FileIo = {
  readv: (fd, vec, pos, done) => attempt(() => fs.readvSync(fd, vec, pos), done),
  writev: (fd, vec, pos, done) => attempt(() => fs.writevSync(fd, vec, pos), done),
  fdatasync(fd, done) {
    const sync = (): number => {
      fs.fdatasyncSync(fd);
      return 0;
    };
    attempt(sync, done);
  },
  retry: (again) => again(),
};

/** A flush is left to another thread where it takes longer than that, milliseconds: about what handing it over and back costs. */
const FLUSH_HERE_MS = 0.3;
/** Flushes left to another thread until one is timed here again. */
const FLUSH_TRIAL = 64;

/** The calls for `sync: 'transfers'`: flushes are made in this thread only while they are quick, as on a filesystem in memory. */
export function transferFileIo(): FileIo {
  let usualMs = 0;
  let handedOver = 0;
  return {
    ...syncFileIo,
    fdatasync(fd, done) {
      if (usualMs > FLUSH_HERE_MS && ++handedOver % FLUSH_TRIAL !== 0) {
        asyncFileIo.fdatasync(fd, done);
        return;
      }
      const begun = performance.now();
      syncFileIo.fdatasync(fd, (error) => {
        usualMs += (performance.now() - begun - usualMs) / 4;
        done(error);
      });
    },
  };
}

// `done` stays outside the try: what it throws is not the call's.
function attempt(call: () => number, done: (error: unknown, count: number) => void): void {
  let count = 0;
  let failed: unknown = null;
  try {
    count = call();
  } catch (error) {
    failed = error;
  }
  done(failed, count);
}

/**
 * A regular file or a block special file of the host.
 *
 * Memory is passed by reference (stableWrites), except in direct mode, where it is copied through page-aligned memory unless it was cut
 * out of alignedBytes(). Discard does nothing: node:fs has no call for it, and "may read as anything" allows the old content.
 *
 * Invariants:
 * 1. Every admitted request is counted in #inFlight from submit() until its end() has returned.
 * 2. At most one fdatasync runs at a time. A request that comes while one runs waits for the next, which serves all that wait: writes
 *    that ended during the running one are not covered by it.
 * 3. After a failed fdatasync every later one fails too. The host reports a lost write once and then calls its pages clean, so a
 *    later success would say of lost data that it is durable.
 */
export class FileDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment = 1;
  readonly bioSizeMax = 2 ** 24;
  readonly hasVolatileCache = true;
  readonly hasFua = false;
  readonly stableWrites = true;
  readonly atomicWriteMin = 0;
  readonly atomicWriteMax = 0;
  readonly readOnly: boolean;
  readonly direct: boolean;
  /** The open file, for calls that node:fs does not have. */
  readonly fd: number;
  readonly #io: FileIo;
  #inFlight = 0;
  #isClosed = false;
  readonly #idle = new WaitQueue();
  #isSyncing = false;
  #syncErrno = 0;
  #syncWaiters: ((status: number) => void)[] = [];
  #slots: Uint8Array[] | undefined;
  readonly #slotWaiters = new Fifo<(slot: Uint8Array) => void>();

  private constructor(path: string, fd: number, geometry: Geometry, options: FileDeviceOptions, io: FileIo) {
    this.name = path;
    this.fd = fd;
    this.size = geometry.size;
    this.logicalBlockSize = geometry.logicalBlockSize;
    this.readOnly = options.readOnly ?? false;
    this.direct = options.direct ?? false;
    this.#io = io;
  }

  /**
   * Opens a device on a file of the host.
   *
   * Blocks: for as long as the host's open() does.
   * Errors: the host's; EISDIR, ENOTBLK for what is neither file nor block device; EINVAL if the host refuses O_DIRECT there, if `size`
   *         does not fit the device, or for `create` without `size`; ENOTSUP where the size of a block device cannot be found.
   */
  static open(path: string, options: FileDeviceOptions = {}, io: FileIo = ioOf(options)): FileDevice {
    if (options.create === true && (options.size === undefined || options.readOnly === true)) {
      throw new FsError('EINVAL', 'open', { path, detail: 'create needs a size and a writable device' });
    }
    const fd = openFile(path, options);
    try {
      const geometry = measure(path, fd, options);
      if (options.direct === true) probeDirect(path, fd, geometry);
      return new FileDevice(path, fd, geometry, options, io);
    } catch (error) {
      fs.closeSync(fd);
      throw error instanceof FsError ? error : FsError.of(errnoOf(error), 'open', { path, cause: error });
    }
  }

  submit(bio: Bio): void {
    const status = this.#checkBio(bio);
    if (status !== 0) {
      bio.end(status);
      return;
    }
    this.#inFlight++;
    if (bio.op === REQ_OP_FLUSH || (bio.op !== REQ_OP_READ && (bio.flags & REQ_PREFLUSH) !== 0)) {
      this.#sync((flushed) => {
        if (flushed < 0 || bio.op === REQ_OP_FLUSH) this.#finish(bio, flushed);
        else this.#start(bio);
      });
    } else {
      this.#start(bio);
    }
  }

  /** Waits for the requests in flight and closes the file. Does not flush. Later requests end with -ENODEV. */
  close(): MaybePromise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#inFlight === 0) return fs.closeSync(this.fd);
    return this.#idle.wait().then(() => fs.closeSync(this.fd));
  }

  #checkBio(bio: Bio): number {
    if (this.#isClosed) return -ERRNO.ENODEV;
    if (this.readOnly && bio.op !== REQ_OP_READ && bio.op !== REQ_OP_FLUSH) return -ERRNO.EROFS;
    return checkBio(this, bio);
  }

  #finish(bio: Bio, status: number): void {
    try {
      bio.end(status);
    } finally {
      if (--this.#inFlight === 0) this.#idle.wakeAll();
    }
  }

  #start(bio: Bio): void {
    this.#transfer(bio, (status) => {
      if (status === 0 && bio.op !== REQ_OP_READ && (bio.flags & REQ_FUA) !== 0) this.#sync((synced) => this.#finish(bio, synced));
      else this.#finish(bio, status);
    });
  }

  #transfer(bio: Bio, done: (status: number) => void): void {
    if (bio.op === REQ_OP_DISCARD) done(0);
    else if (bio.op === REQ_OP_WRITE_ZEROES) this.#writeZeroes(bio.addr, bio.length, done);
    else if (this.direct && !bio.vec.every((bytes) => isPageAligned(bytes) && bytes.length % this.logicalBlockSize === 0))
      this.#bounce(bio, done);
    else this.#move(bio.op !== REQ_OP_READ, bio.vec, bio.addr, done);
  }

  /** Moves all bytes of `vec`, in as many calls as it takes. */
  #move(isWrite: boolean, vec: readonly Uint8Array[], addr: number, done: (status: number) => void): void {
    let pos = addr;
    let index = 0; // the piece to go on with
    let skip = 0; // and how much of it is done
    let retries = 0;

    const next = (): void => {
      while (index < vec.length && skip === (vec[index] as Uint8Array).length) {
        index++;
        skip = 0;
      }
      if (index === vec.length) {
        done(0);
        return;
      }
      const batch = vec.slice(index, index + IOV_MAX);
      if (skip > 0) batch[0] = (batch[0] as Uint8Array).subarray(skip);
      if (isWrite) this.#io.writev(this.fd, batch, pos, moved);
      else this.#io.readv(this.fd, batch, pos, moved);
    };

    const moved = (error: unknown, count: number): void => {
      if (error !== null && error !== undefined) {
        const errno = errnoOf(error);
        if ((errno === -ERRNO.EINTR || errno === -ERRNO.EAGAIN) && retries++ < RETRY_MAX) this.#io.retry(next);
        else done(errno);
        return;
      }
      retries = 0;
      // O_DIRECT moves whole blocks, except for a read that met the end of the file.
      const whole = this.direct ? roundDown(count, this.logicalBlockSize) : count;
      if (!isWrite && (count === 0 || whole < count)) {
        advance(count);
        for (; index < vec.length; index++, skip = 0) (vec[index] as Uint8Array).fill(0, skip);
        done(0);
      } else if (whole === 0) {
        done(-ERRNO.EIO);
      } else {
        advance(whole);
        next();
      }
    };

    const advance = (count: number): void => {
      pos += count;
      let left = count;
      while (index < vec.length) {
        const rest = (vec[index] as Uint8Array).length - skip;
        if (left < rest) break;
        left -= rest;
        index++;
        skip = 0;
      }
      skip += left;
    };

    next();
  }

  /** Moves a request through page-aligned memory, one slot at a time. */
  #bounce(bio: Bio, done: (status: number) => void): void {
    const isWrite = bio.op !== REQ_OP_READ;
    this.#getSlot((slot) => {
      let at = 0;
      const next = (): void => {
        const part = slot.subarray(0, Math.min(SLOT_SIZE, bio.length - at));
        if (isWrite) gather(bio.vec, at, part.length, part);
        this.#move(isWrite, [part], bio.addr + at, (status) => {
          if (status === 0 && !isWrite) scatter(part, bio.vec, at);
          at += part.length;
          if (status === 0 && at < bio.length) {
            next();
            return;
          }
          this.#putSlot(slot);
          done(status);
        });
      };
      next();
    });
  }

  #getSlot(use: (slot: Uint8Array) => void): void {
    if (this.#slots === undefined) {
      const memory = alignedBytes(SLOT_SIZE * SLOT_COUNT);
      this.#slots = Array.from({ length: SLOT_COUNT }, (_, index) => memory.subarray(index * SLOT_SIZE, (index + 1) * SLOT_SIZE));
    }
    const slot = this.#slots.pop();
    if (slot === undefined) this.#slotWaiters.push(use);
    else use(slot);
  }

  #putSlot(slot: Uint8Array): void {
    const waiter = this.#slotWaiters.shift();
    if (waiter === undefined) (this.#slots as Uint8Array[]).push(slot);
    else waiter(slot);
  }

  #writeZeroes(addr: number, length: number, done: (status: number) => void): void {
    zeroes ??= alignedBytes(SLOT_SIZE);
    const count = Math.min(length, ZEROES_MAX);
    const vec: Uint8Array[] = [];
    for (let at = 0; at < count; at += SLOT_SIZE) vec.push(zeroes.subarray(0, Math.min(SLOT_SIZE, count - at)));
    this.#move(true, vec, addr, (status) => {
      if (status < 0 || count === length) done(status);
      else this.#writeZeroes(addr + count, length - count, done);
    });
  }

  #sync(done: (status: number) => void): void {
    this.#syncWaiters.push(done);
    if (!this.#isSyncing) this.#runSync();
  }

  #runSync(): void {
    const served = this.#syncWaiters;
    this.#syncWaiters = [];
    if (this.#syncErrno !== 0) {
      for (const done of served) done(this.#syncErrno);
      return;
    }
    this.#isSyncing = true;
    this.#io.fdatasync(this.fd, (error) => {
      this.#isSyncing = false;
      if (error !== null && error !== undefined) this.#syncErrno = errnoOf(error);
      if (this.#syncWaiters.length > 0) this.#runSync();
      for (const done of served) done(this.#syncErrno);
    });
  }
}

function ioOf({ sync }: FileDeviceOptions): FileIo {
  if (sync === 'transfers') return transferFileIo();
  return sync === true ? syncFileIo : asyncFileIo;
}

let zeroes: Uint8Array | undefined;

interface Geometry {
  size: number;
  logicalBlockSize: number;
}

function openFile(path: string, options: FileDeviceOptions): number {
  const { O_RDONLY, O_RDWR, O_CREAT, O_DIRECT } = fs.constants;
  if (options.direct === true && O_DIRECT === undefined) throw new FsError('EINVAL', 'open', { path, detail: 'this host has no O_DIRECT' });
  const flags =
    (options.readOnly === true ? O_RDONLY : O_RDWR) | (options.create === true ? O_CREAT : 0) | (options.direct === true ? O_DIRECT : 0);
  try {
    // Asked before open, since open of a FIFO waits for its other end.
    const stat = fs.statSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) throw new FsError('EISDIR', 'open', { path });
    if (stat !== undefined && !stat.isFile() && !stat.isBlockDevice()) throw new FsError('ENOTBLK', 'open', { path });
    return fs.openSync(path, flags, 0o666);
  } catch (error) {
    if (error instanceof FsError) throw error;
    const refused = options.direct === true && hasCode(error, 'EINVAL');
    throw FsError.of(errnoOf(error), 'open', { path, cause: error, ...(refused ? { detail: 'the file system refuses O_DIRECT' } : {}) });
  }
}

function measure(path: string, fd: number, options: FileDeviceOptions): Geometry {
  const stat = fs.fstatSync(fd, { bigint: true });
  const isBlock = stat.isBlockDevice();
  if (!isBlock && !stat.isFile()) throw new FsError('ENOTBLK', 'open', { path });
  const below = sysfsOf(isBlock ? stat.rdev : stat.dev);
  const told = isBlock || options.direct === true ? blockSizeOf(below) : 512;
  const logicalBlockSize = options.logicalBlockSize ?? told ?? PAGE_SIZE;

  const there = isBlock ? blockDeviceSize(path, below) : Number(stat.size);
  const size = options.size ?? roundDown(there, logicalBlockSize);
  checkGeometry(size, logicalBlockSize);
  if (isBlock && size > there) throw new FsError('EINVAL', 'open', { path, detail: `size ${size}, the device has ${there}` });
  if (!isBlock && options.create === true && there < size) fs.ftruncateSync(fd, size);
  return { size, logicalBlockSize };
}

/** Linux's directory of a block device. Source: glibc's dev_t: 12 + 20 bits of major, 8 + 24 of minor, interleaved. */
function sysfsOf(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `/sys/dev/block/${major}:${minor}`;
}

function blockDeviceSize(path: string, sysfs: string): number {
  // In units of 512 bytes whatever the block size.
  const sectors = readNumber(`${sysfs}/size`);
  if (sectors === undefined) throw new FsError('ENOTSUP', 'open', { path, detail: `size of a block device without ${sysfs}/size` });
  return sectors * 512;
}

function blockSizeOf(sysfs: string): number | undefined {
  // A partition has no queue of its own; its disk is the directory above.
  return readNumber(`${sysfs}/queue/logical_block_size`) ?? readNumber(`${sysfs}/../queue/logical_block_size`);
}

function readNumber(path: string): number | undefined {
  try {
    const number = Number(fs.readFileSync(path, 'latin1').trim());
    return Number.isSafeInteger(number) ? number : undefined;
  } catch {
    return undefined;
  }
}

// Some file systems take O_DIRECT at open and refuse it at the first read.
function probeDirect(path: string, fd: number, { size, logicalBlockSize }: Geometry): void {
  if (size === 0) return;
  try {
    fs.readSync(fd, alignedBytes(logicalBlockSize), 0, logicalBlockSize, 0);
  } catch (cause) {
    if (!hasCode(cause, 'EINVAL')) throw cause;
    throw new FsError('EINVAL', 'open', { path, cause, detail: `the file system refuses O_DIRECT in blocks of ${logicalBlockSize}` });
  }
}
