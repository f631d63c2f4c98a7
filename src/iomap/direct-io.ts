import { checkAborted } from '../base/abort.ts';
import { errnoOf, FsError, hasCode } from '../base/fs-error.ts';
import type { IovIter } from '../base/iov-iter.ts';
import { checkRange, isPowerOfTwo, roundDown } from '../base/ranges.ts';
import { type Deferred, deferred, isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { type Bio, REQ_ATOMIC, REQ_FUA, REQ_INTEGRITY, REQ_OP_READ, REQ_OP_WRITE, REQ_SYNC } from '../block/bio.ts';
import { type BlockDevice, flushDevice, submitAndWait } from '../block/block-device.ts';
import type { Inode } from '../vfs/inode.ts';
import { bioBounced, bioFromMemory, bioOfZeros, type DioGeometry, dioMisalignment, NO_DEVICE, segmentsOf } from './dio-bio.ts';
import type { IomapOps } from './hooks.ts';
import { IOCB_ATOMIC, IOCB_DSYNC, IOCB_NOWAIT, IOCB_SYNC, type Iocb } from './iocb.ts';
import {
  IOMAP_ATOMIC,
  IOMAP_DELALLOC,
  IOMAP_DIRECT,
  IOMAP_F_ATOMIC_BIO,
  IOMAP_F_DIRTY,
  IOMAP_F_INTEGRITY,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_F_SIZE_CHANGED,
  IOMAP_F_ZERO_TAIL,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_NULL_ADDR,
  IOMAP_OVERWRITE_ONLY,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  typeName,
} from './iomap.ts';
import { IomapIter } from './iter.ts';
import { traceDirect } from './trace.ts';
import { warnings } from './warnings.ts';

// Options of one request.
/** The caller keeps a lock until the request is complete. Every answer here is complete, so that it asks for nothing more. */
export const IOMAP_DIO_FORCE_WAIT = 1 << 0;
/** Only blocks that hold data or need no zeroing, and no change of size; else EAGAIN. */
export const IOMAP_DIO_OVERWRITE_ONLY = 1 << 1;
/** Memory that cannot be reached ends the request with what was done before it; the caller resumes with `doneBefore`. */
export const IOMAP_DIO_PARTIAL = 1 << 2;
/** Position and length in blocks of the filesystem, not of the device. */
export const IOMAP_DIO_FSBLOCK_ALIGNED = 1 << 3;
/** Data goes through memory of our own, so that it cannot change in flight. */
export const IOMAP_DIO_BOUNCE = 1 << 4;

// What a request has written to, for DirectOps.endIo.
/** Unwritten blocks, to be converted. */
export const IOMAP_DIO_UNWRITTEN = 1 << 0;
/** Blocks that are to take the place of shared ones. */
export const IOMAP_DIO_COW = 1 << 1;

/** What a filesystem does beside mapping. */
export interface DirectOps {
  /**
   * All requests of [pos, pos + size) have ended, with `errno` (0 or negative) in all: converts unwritten blocks, remaps copied ones,
   * then raises i_size, in this order. `flags`: IOMAP_DIO_UNWRITTEN, IOMAP_DIO_COW. iocb.pos has not moved yet.
   *
   * Without this hook i_size is raised by the core.
   * Errors:  fail the request.
   */
  endIo?(iocb: Iocb, inode: Inode, pos: number, size: number, errno: number, flags: number): MaybePromise<void>;
  /** Sends the request for the file range from `pos` on in place of the device; it may choose the address, or split. Owes bio.end(). */
  submitIo?(iter: IomapIter, bio: Bio, pos: number): void;
}

export interface DirectOptions {
  /** The caller's, for the filesystem: IomapIter.private. */
  readonly private?: unknown;
  /** Bytes done before this call by the same request; added to a positive answer. */
  readonly doneBefore?: number;
  /** Makes [start, end) durable, after a write that asks for it, with the caller's locks held. Default: flushes the devices written to. */
  readonly sync?: (start: number, end: number, datasync: boolean) => MaybePromise<void>;
}

/**
 * Reads or writes [iocb.pos, iocb.pos + iov.count) of a file past its cache, between the caller's memory and the device.
 *
 * Shape:   bytes moved, short at the end of the file; iocb.pos and `iov` move by as many, and neither moves by an error of the I/O. Less
 *          than asked of a write, 0 at worst: the filesystem (ENOTBLK) or a folio that cannot be dropped wants the rest to go through
 *          the cache.
 * Locks:   the caller holds the inode lock, shared or exclusive, as directWrite says.
 * Blocks:  for the cache, for the mapping hooks, and until all is complete. Under IOCB_NOWAIT for completion only.
 * Errors:  EINVAL where position, length or memory are not aligned to the device, and for what atomic writes cannot be; EAGAIN under
 *          IOCB_NOWAIT and IOMAP_DIO_OVERWRITE_ONLY; EFAULT; those of hooks and device. An error says nothing about how much was
 *          written: the range is undefined.
 * Source:  Linux fs/iomap/direct-io.c (behaviour).
 */
export function directIo(
  iocb: Iocb,
  inode: Inode,
  iov: IovIter,
  isWrite: boolean,
  ops: IomapOps,
  dops: DirectOps | undefined,
  dioFlags: number,
  options: DirectOptions = {},
): MaybePromise<number> {
  const length = iov.count;
  if (length === 0) return 0;
  const { pos } = iocb;
  checkAborted(iocb.signal, isWrite ? 'write' : 'read');
  checkRange(isWrite ? 'write' : 'read', pos, length, isWrite ? inode.sizeMax : undefined);
  if ((iocb.flags & IOCB_ATOMIC) !== 0) checkAtomic(iov, pos, length, isWrite);
  if (traceDirect.channel.hasSubscribers)
    traceDirect.channel.publish({ ino: inode.ino, pos, length, flags: iocb.flags, isWrite, dioFlags });

  if (isWrite) return run(directIoTask(new Dio(iocb, inode, iov, true, ops, dops, dioFlags, options)));
  if (pos >= inode.size) return 0;
  const isSimple = dops === undefined && dioFlags === 0 && length <= inode.blockSize && length <= inode.size - pos;
  if (isSimple && !inode.mapping.needsWriteback(pos, pos + length)) return run(readOneBlock(iocb, inode, iov, ops, options));
  return run(directIoTask(new Dio(iocb, inode, iov, false, ops, dops, dioFlags, options)));
}

/** Whole or nothing: one piece of memory, a power of two, at a multiple of itself. Source: Linux generic_atomic_write_valid. */
function checkAtomic(iov: IovIter, pos: number, length: number, isWrite: boolean): void {
  if (!isWrite) throw new FsError('EOPNOTSUPP', 'read', { detail: 'only writes are atomic' });
  if (!isPowerOfTwo(length) || pos % length !== 0 || segmentsOf(iov) !== 1) {
    throw new FsError('EINVAL', 'write', { detail: `no atomic write of ${length} bytes at ${pos} from ${segmentsOf(iov)} pieces` });
  }
}

function operationFlags(iocb: Iocb, isWrite: boolean, dioFlags: number): number {
  let flags = IOMAP_DIRECT;
  if ((iocb.flags & IOCB_NOWAIT) !== 0) flags |= IOMAP_NOWAIT;
  if (!isWrite) return flags;
  flags |= IOMAP_WRITE;
  if ((iocb.flags & IOCB_ATOMIC) !== 0) flags |= IOMAP_ATOMIC;
  if ((dioFlags & IOMAP_DIO_OVERWRITE_ONLY) !== 0) flags |= IOMAP_OVERWRITE_ONLY;
  return flags;
}

/**
 * The read of at most a block inside the file, as databases do them by the million: one mapping, one bio, no record of a request. What
 * turns out to be anything else goes the general way.
 */
function* readOneBlock(iocb: Iocb, inode: Inode, iov: IovIter, ops: IomapOps, options: DirectOptions): Task<number> {
  const { pos } = iocb;
  const { count: length } = iov;
  let status: MaybePromise<number> | undefined;
  let error: unknown;
  let declined = false;
  inode.dioBegin();
  const iter = new IomapIter(inode, ops, pos, length, operationFlags(iocb, false, 0), options.private);
  try {
    yield* iter.each(() => {
      const bdev = deviceForOneBio(iter, iov);
      if (bdev === undefined) {
        declined = true;
        return; // no progress ends the walk
      }
      status = submitAndWait(bdev, bioFromMemory(REQ_OP_READ, iter.iomap.addrOf(pos), REQ_SYNC, iov, length, nothing));
      iter.advance(length);
    });
  } catch (thrown) {
    if (!declined) error = thrown;
  }
  if (status !== undefined) {
    const ended = yield* wait(status);
    if (ended < 0) error = FsError.of(ended, 'read', { detail: `inode ${inode.ino} at byte ${pos}` });
    if (error === undefined) {
      inode.dioEnd();
      iocb.pos = pos + length;
      return length + (options.doneBefore ?? 0);
    }
    iov.revert(length);
    yield new Promise<void>((resolve) => inode.sb.work.post(resolve)); // errors of requests come from a turn of their own
  }
  inode.dioEnd();
  if (error !== undefined) {
    if (hasCode(error, 'ENOTBLK')) return 0;
    inode.reportError('direct-read', pos, length, errnoOf(error));
    throw error;
  }
  return yield* directIoTask(new Dio(iocb, inode, iov, false, ops, undefined, 0, options));
}

const nothing = (): void => {};

/** The device that serves all of a small read with one bio, if there is such a one. */
function deviceForOneBio(iter: IomapIter, iov: IovIter): BlockDevice | undefined {
  const { iomap, pos, length } = iter;
  const { bdev } = iomap;
  if (iomap.type !== IOMAP_MAPPED || bdev === undefined || iomap.addrOf(pos) === IOMAP_NULL_ADDR) return undefined;
  if ((iomap.flags & IOMAP_F_INTEGRITY) !== 0 || iter.usableLength() < length || length > bdev.bioSizeMax) return undefined;
  if (dioMisalignment(iov, pos, length, bdev.logicalBlockSize, bdev.dmaAlignment) !== undefined) return undefined;
  return iov.faultIn(length) === length ? bdev : undefined;
}

/** One request from its first look at the cache to its end. */
function* directIoTask(dio: Dio): Task<number> {
  const { inode, iocb, pos, length, dioFlags, isWrite } = dio;
  const { mapping } = inode;
  const end = pos + length;
  const nowait = (iocb.flags & IOCB_NOWAIT) !== 0;
  if (isWrite) {
    if ((dioFlags & IOMAP_DIO_OVERWRITE_ONLY) !== 0 && end > inode.size) throw new FsError('EAGAIN', 'write');
    if (nowait && mapping.hasFolios(pos, end)) throw new FsError('EAGAIN', 'write');
    try {
      yield* wait(mapping.writeAndWait(pos, end));
      yield* wait(mapping.invalidateRange(pos, end));
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      // An atomic write cannot go through the cache; whoever keeps the folio may let go of it soon.
      if ((iocb.flags & IOCB_ATOMIC) !== 0) throw new FsError('EAGAIN', 'write', { cause: error });
      return 0;
    }
  } else {
    if (nowait && mapping.needsWriteback(pos, end)) throw new FsError('EAGAIN', 'read');
    yield* wait(mapping.writeAndWait(pos, end));
  }

  dio.begin();
  const iter = new IomapIter(inode, dio.ops, pos, length, operationFlags(iocb, isWrite, dioFlags), dio.options.private);
  try {
    yield* iter.each((step) => dio.process(step));
  } catch (error) {
    dio.stopped(error);
  }
  const answer = dio.submitted(iter.pos);
  return isPromise(answer) ? yield* wait(answer) : answer;
}

/**
 * One direct request: the requests to devices that it becomes, and what is known of them.
 *
 * Invariants:
 * 1. refs counts the bios in flight and, until submitted(), the submitter. Whoever takes it to 0 completes the request, once.
 * 2. size is what was handed over, from pos on without gaps: read, written or zeroed, if no bio fails. `iov` stands at size until
 *    submitted(), which cuts a read at i_size.
 * 3. The first error wins; after it no more data is sent, only the zeros that keep stale bytes of the last block from showing.
 * 4. Completion runs on a device's stack only where it has nothing to do: success, no completion work, no cached folio to drop.
 * 5. dioCount is held from begin() to the end of completion.
 * 6. While `writeThrough` is set, every write so far was durable at its end and needs no metadata commit.
 */
class Dio {
  readonly iocb: Iocb;
  readonly inode: Inode;
  readonly iov: IovIter;
  readonly isWrite: boolean;
  readonly ops: IomapOps;
  readonly dops: DirectOps | undefined;
  readonly dioFlags: number;
  readonly options: DirectOptions;
  readonly pos: number;
  readonly length: number;
  /** i_size, sampled once: where a read ends. */
  readonly #fileSize: number;
  readonly #iovStart: number;
  #size = 0;
  #refs = 1;
  #bioCount = 0;
  #endFlags = 0;
  #error: unknown = undefined;
  /** An error that is the caller's own: nothing for the filesystem to report. */
  #mistake: unknown = undefined;
  #needSync = false;
  #writeThrough = false;
  #completionWork = false;
  /** Devices that were written to, while a flush may be due. */
  #devices: Set<BlockDevice> | undefined = undefined;
  #answer: Deferred<number> | undefined = undefined;

  constructor(
    iocb: Iocb,
    inode: Inode,
    iov: IovIter,
    isWrite: boolean,
    ops: IomapOps,
    dops: DirectOps | undefined,
    dioFlags: number,
    options: DirectOptions,
  ) {
    this.iocb = iocb;
    this.inode = inode;
    this.iov = iov;
    this.isWrite = isWrite;
    this.ops = ops;
    this.dops = dops;
    this.dioFlags = dioFlags;
    this.options = options;
    this.pos = iocb.pos;
    this.length = iov.count;
    this.#fileSize = inode.size;
    this.#iovStart = iov.done;
  }

  get #syscall(): string {
    return this.isWrite ? 'write' : 'read';
  }

  begin(): void {
    if (this.isWrite) {
      const sync = this.iocb.flags & (IOCB_DSYNC | IOCB_SYNC);
      this.#needSync = sync !== 0;
      this.#writeThrough = sync === IOCB_DSYNC;
      this.#completionWork = this.pos + this.length > this.inode.size;
    }
    this.inode.dioBegin();
  }

  /** Does what the current mapping asks for. Ends the walk by an error, or by not moving once a request has failed. */
  process(iter: IomapIter): void {
    if (this.#error !== undefined) return;
    const { type } = iter.iomap;
    if (type === IOMAP_MAPPED || (type === IOMAP_UNWRITTEN && this.isWrite)) this.#sendMapping(iter);
    else if (type === IOMAP_INLINE) this.#copyInline(iter);
    else if (type === IOMAP_HOLE || type === IOMAP_UNWRITTEN) this.#zeroMemory(iter);
    else {
      if (type === IOMAP_DELALLOC) warnings.delallocInDirect++;
      throw this.#unusable(iter, 'has no blocks');
    }
  }

  /** A read of nothing. */
  #zeroMemory(iter: IomapIter): void {
    if (this.isWrite) throw this.#unusable(iter, 'was not allocated');
    const length = iter.usableLength();
    const count = this.iov.faultIn(length);
    this.iov.zero(count);
    this.#moved(iter, count);
    if (count < length) throw this.#callersMistake('EFAULT');
  }

  #copyInline(iter: IomapIter): void {
    const { iomap, pos, inode } = iter;
    const data = iomap.inlineData as Uint8Array; // the iterator checked it
    const length = iter.usableLength();
    const at = pos - iomap.offset;
    let count = this.iov.faultIn(length);
    if (this.isWrite) {
      this.#writeThrough = false; // reaches storage with the inode
      if (at + length > data.length) throw this.#unusable(iter, 'is too small for the write');
      const gap = Math.max(0, inode.size - iomap.offset);
      if (gap < at) data.fill(0, gap, at);
      count = this.iov.copyTo(data, at, count);
      if (count > 0 && pos + count > inode.size) {
        inode.size = pos + count;
        iomap.flags |= IOMAP_F_SIZE_CHANGED;
      }
      if (count > 0) inode.markDirty();
    } else {
      const stored = Math.min(count, Math.max(0, data.length - at));
      this.iov.copyFrom(data.subarray(at, at + stored));
      this.iov.zero(count - stored);
    }
    this.#moved(iter, count);
    if (count < length) throw this.#callersMistake('EFAULT');
  }

  /** Moves the bytes of a mapping with blocks, in as few requests as the device takes. */
  #sendMapping(iter: IomapIter): void {
    const { iov, inode, isWrite, dioFlags } = this;
    const { iomap, pos } = iter;
    const { blockSize } = inode;
    const { bdev } = iomap;
    const length = iter.usableLength();
    if (iomap.addrOf(pos) === IOMAP_NULL_ADDR && this.dops?.submitIo === undefined) throw this.#unusable(iter, 'has no device address');
    const geometry: DioGeometry = bdev ?? NO_DEVICE;
    const bounce = (dioFlags & IOMAP_DIO_BOUNCE) !== 0;
    let unit = geometry.logicalBlockSize;
    if ((dioFlags & IOMAP_DIO_FSBLOCK_ALIGNED) !== 0) unit = Math.max(unit, blockSize);
    // All that is left, not just this mapping: a request that cannot end well does not begin.
    const misalignment = dioMisalignment(iov, pos, iter.length, unit, bounce ? 1 : geometry.dmaAlignment);
    if (misalignment !== undefined) throw this.#callersMistake('EINVAL', misalignment);

    let flags = REQ_SYNC | ((iomap.flags & IOMAP_F_INTEGRITY) !== 0 ? REQ_INTEGRITY : 0);
    let needsZeros = false;
    if (isWrite) {
      needsZeros = iomap.type === IOMAP_UNWRITTEN || (iomap.flags & IOMAP_F_NEW) !== 0;
      this.#checkOverwriteOnly(iter, length);
      if (iomap.type === IOMAP_UNWRITTEN) this.#endFlags |= IOMAP_DIO_UNWRITTEN;
      if ((iomap.flags & IOMAP_F_SHARED) !== 0) this.#endFlags |= IOMAP_DIO_COW;
      if (needsZeros || (iomap.flags & IOMAP_F_SHARED) !== 0) this.#completionWork = true;
      if ((iomap.flags & IOMAP_F_ATOMIC_BIO) !== 0) {
        this.#checkAtomicBio(iter, length, geometry, bdev !== undefined);
        flags |= REQ_ATOMIC;
      } else if ((this.iocb.flags & IOCB_ATOMIC) !== 0 && !needsZeros && (iomap.flags & IOMAP_F_SHARED) === 0) {
        throw this.#callersMistake('EINVAL', `the filesystem has no atomic way to overwrite ${length} bytes at ${pos}`);
      }
      if (this.#completionWork || (iomap.flags & IOMAP_F_DIRTY) !== 0 || (geometry.hasVolatileCache && !geometry.hasFua))
        this.#writeThrough = false;
      if (this.#writeThrough) flags |= REQ_FUA;
      if (bdev !== undefined && this.#needSync) (this.#devices ??= new Set()).add(bdev);
    }

    const head = pos % blockSize;
    if (needsZeros && head > 0) this.#sendZeros(iter, geometry, pos - head, head);
    // Memory is cut where both the device's blocks and its memory alignment allow it.
    const bioSizeMax = roundDown(geometry.bioSizeMax, Math.max(unit, geometry.dmaAlignment));
    let copied = 0;
    let fault: FsError | undefined;
    while (copied < length && this.#error === undefined) {
      let count = Math.min(length - copied, bioSizeMax);
      const reachable = iov.faultIn(count);
      if (reachable < count) count = roundDown(reachable, unit);
      if (count === 0) {
        fault = this.#callersMistake('EFAULT');
        break;
      }
      const make = bounce ? bioBounced : bioFromMemory;
      const bio = make(isWrite ? REQ_OP_WRITE : REQ_OP_READ, iomap.addrOf(pos + copied), flags, iov, count, this.#bioEnded);
      copied += count;
      this.#size += count;
      this.#submit(iter, bio, pos + copied - count);
    }
    if (isWrite) {
      const end = pos + copied;
      const tail = end % blockSize;
      // Also after a failure: what was sent of the last block must not bring the block's old content to light.
      const zeroTail = bdev !== undefined && (needsZeros || (copied > 0 && ((iomap.flags & IOMAP_F_ZERO_TAIL) !== 0 || end >= inode.size)));
      if (zeroTail && tail > 0) this.#sendZeros(iter, geometry, end, blockSize - tail);
    }
    iter.advance(copied);
    if (copied < length) throw fault ?? this.#error;
  }

  #checkOverwriteOnly(iter: IomapIter, length: number): void {
    if ((this.dioFlags & IOMAP_DIO_OVERWRITE_ONLY) === 0) return;
    const { iomap, pos } = iter;
    const { blockSize } = this.inode;
    const isWhole = pos % blockSize === 0 && (pos + length) % blockSize === 0;
    // The filesystem should have said so itself. Zeros sent here could collide with those of another write to the block.
    if ((iomap.flags & IOMAP_F_NEW) !== 0 || (iomap.type === IOMAP_UNWRITTEN && !isWhole)) throw new FsError('EAGAIN', 'write');
  }

  #checkAtomicBio(iter: IomapIter, length: number, geometry: DioGeometry, hasDevice: boolean): void {
    const isAllowed = !hasDevice || (length >= geometry.atomicWriteMin && length <= geometry.atomicWriteMax);
    if (length === this.length && length <= geometry.bioSizeMax && isAllowed && this.iov.faultIn(length) === length) return;
    throw this.#callersMistake('EINVAL', `${this.length} bytes at ${iter.pos} are not one atomic request for ${geometry.name}`);
  }

  #sendZeros(iter: IomapIter, geometry: DioGeometry, pos: number, length: number): void {
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, geometry.bioSizeMax);
      this.#submit(iter, bioOfZeros(REQ_OP_WRITE, iter.iomap.addrOf(pos + done), REQ_SYNC, count, this.#bioEnded), pos + done);
      done += count;
    }
  }

  #submit(iter: IomapIter, bio: Bio, pos: number): void {
    this.#refs++;
    this.#bioCount++;
    try {
      if (this.dops?.submitIo !== undefined) this.dops.submitIo(iter, bio, pos);
      else (iter.iomap.bdev as BlockDevice).submit(bio);
    } catch (error) {
      if (!bio.hasEnded) bio.end(errnoOf(error));
    }
  }

  readonly #bioEnded = (bio: Bio): void => {
    if (bio.status < 0) {
      this.#fail(
        FsError.of(bio.status, this.#syscall, { detail: `inode ${this.inode.ino}, ${bio.length} bytes at device byte ${bio.addr}` }),
      );
    }
    if (--this.#refs > 0) return;
    const dropsFolios = this.isWrite && this.inode.mapping.cachedBytes > 0;
    if (this.#error !== undefined || this.#completionWork || dropsFolios) void this.#completeInTask();
    else void this.#settle();
  };

  #moved(iter: IomapIter, count: number): void {
    this.#size += count;
    iter.advance(count);
  }

  #fail(error: unknown): void {
    this.#error ??= error;
  }

  #callersMistake(code: 'EFAULT' | 'EINVAL', detail?: string): FsError {
    const error = new FsError(code, this.#syscall, detail === undefined ? {} : { detail });
    this.#mistake = error;
    return error;
  }

  #unusable(iter: IomapIter, why: string): FsError {
    return new FsError('EIO', this.#syscall, {
      detail: `inode ${iter.inode.ino} at byte ${iter.pos}: a ${typeName(iter.iomap.type)} mapping for direct I/O ${why}`,
    });
  }

  /** The walk ended by an error. Two are none: the filesystem wants the rest to be buffered; memory ended, and the caller is prepared. */
  stopped(error: unknown): void {
    if (hasCode(error, 'ENOTBLK')) return;
    if (hasCode(error, 'EFAULT') && (this.dioFlags & IOMAP_DIO_PARTIAL) !== 0 && this.#size > 0) return;
    this.#fail(error);
  }

  /** All is submitted, up to `reached`: gives the answer, or the promise of it. */
  submitted(reached: number): MaybePromise<number> {
    // Bytes of a mapping whose end() failed do not count; a read is cut at the end of the file.
    const unread = this.pos + this.#size - (this.isWrite ? reached : Math.min(reached, this.#fileSize));
    if (unread > 0) {
      this.iov.revert(unread);
      this.#size -= unread;
    }
    if (this.#writeThrough) this.#needSync = false;
    else if (this.#needSync) this.#completionWork = true;
    if (--this.#refs > 0) {
      this.#answer ??= deferred();
      return this.#answer.promise;
    }
    // The submitter is a task itself. Yet errors of requests come from a turn of their own, however fast the device was.
    return this.#error !== undefined && this.#bioCount > 0 ? this.#completeInTask() : run(this.#complete());
  }

  #completeInTask(): Promise<number> {
    this.#answer ??= deferred();
    this.inode.sb.work.post(() => this.#settle());
    return this.#answer.promise;
  }

  #settle(): MaybePromise<void> {
    const answer = this.#answer as Deferred<number>;
    try {
      const result = run(this.#complete());
      if (isPromise(result)) return result.then(answer.resolve, answer.reject);
      answer.resolve(result);
    } catch (error) {
      answer.reject(error);
    }
  }

  /** Metadata first, then what others see: the cache, the count that truncate waits for, the position. */
  *#complete(): Task<number> {
    const { iocb, inode, iov, isWrite, pos, dops } = this;
    const size = this.#size;
    const { mapping } = inode;
    try {
      const errno = this.#error === undefined ? 0 : errnoOf(this.#error);
      try {
        if (dops?.endIo !== undefined) yield* wait(dops.endIo(iocb, inode, pos, size, errno, this.#endFlags));
        else if (isWrite && errno === 0 && size > 0 && pos + size > inode.size) {
          inode.size = pos + size;
          inode.markDirty();
        }
      } catch (error) {
        this.#fail(error);
      }
      if (this.#error !== undefined && this.#error !== this.#mistake) {
        inode.reportError(isWrite ? 'direct-write' : 'direct-read', pos, this.length, errnoOf(this.#error));
      }
      if (isWrite && size > 0) {
        // Readahead or a fault may have cached what was there before. After an error too: what of the range is new nobody can say, but
        // the cache and the device must say the same.
        try {
          yield* wait(mapping.invalidateRange(pos, pos + size));
        } catch (error) {
          warnings.dirtyAfterDirect++;
          mapping.recordFailure(new FsError('EIO', 'write', { cause: error }));
        }
      }
    } finally {
      inode.dioEnd();
    }
    if (this.#error !== undefined) {
      iov.revert(iov.done - this.#iovStart);
      throw this.#error;
    }
    if (size === 0) return 0;
    iocb.pos = pos + size;
    if (this.#needSync) yield* this.#sync();
    return size + (this.options.doneBefore ?? 0);
  }

  *#sync(): Task<void> {
    const { sync } = this.options;
    if (sync !== undefined) yield* wait(sync(this.pos, this.pos + this.#size, (this.iocb.flags & IOCB_SYNC) === 0));
    else for (const bdev of this.#devices ?? []) yield* wait(flushDevice(bdev));
  }
}
