import { ERRNO } from '../base/errno.ts';
import { FsError } from '../base/fs-error.ts';
import { roundDown } from '../base/ranges.ts';
import { isPromise, type MaybePromise, then } from '../base/task.ts';
import { Bio, type BioOp, emptyBio, REQ_ATOMIC, REQ_FUA, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE } from './bio.ts';

/**
 * A device of fixed size that serves bios.
 *
 * Contract of submit(): bio.end(status) is called exactly once, inside submit() or later, in any order; it never throws. A request
 * outside [0, size) or not aligned to logicalBlockSize ends with -EIO or -EINVAL and touches nothing. A write is durable after a flush
 * that was submitted after its end, or at its own end when it carries REQ_FUA. REQ_FUA and REQ_PREFLUSH are obeyed by every device.
 */
export interface BlockDevice {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Unit of every request, bytes. */
  readonly logicalBlockSize: number;
  /** What byteOffset of every piece of memory must be a multiple of; 1 where it does not matter. */
  readonly dmaAlignment: number;
  /** Largest request, bytes. */
  readonly bioSizeMax: number;
  /** Completed writes may be lost at power cut until a flush. */
  readonly hasVolatileCache: boolean;
  /** REQ_FUA is served without a whole flush. */
  readonly hasFua: boolean;
  /** Data must not change while a write is in flight, since the device reads the memory after submit() returned. */
  readonly stableWrites: boolean;
  /** Smallest and largest write that is never torn, bytes, powers of two; 0 where there is none. */
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;
  submit(bio: Bio): void;
  /** Ends the device's own resources. Requests in flight complete first. */
  close?(): MaybePromise<void>;
}

/** Submits a bio and gives its status: at once if the device completed it inside submit(). */
export function submitAndWait(bdev: BlockDevice, bio: Bio): MaybePromise<number> {
  let resolve: ((status: number) => void) | undefined;
  const onEnd = bio.onEnd;
  bio.onEnd = (ended) => {
    onEnd(ended);
    resolve?.(ended.status);
  };
  bdev.submit(bio);
  if (bio.hasEnded) return bio.status;
  return new Promise((r) => {
    resolve = r;
  });
}

const nothing = (): void => {};

/** One request, or several in turn where `bytes` is larger than the device takes at once. */
function transfer(bdev: BlockDevice, op: BioOp, addr: number, bytes: Uint8Array, flags: number, syscall: string): void | Promise<void> {
  const bio = new Bio(op, addr, flags, nothing);
  const taken = bytes.length <= bdev.bioSizeMax ? bytes : bytes.subarray(0, roundDown(bdev.bioSizeMax, bdev.logicalBlockSize));
  bio.add(taken);
  const done = check(submitAndWait(bdev, bio), bdev, addr, syscall);
  if (taken === bytes) return done;
  return then(done, () => transfer(bdev, op, addr + taken.length, bytes.subarray(taken.length), flags, syscall));
}

function check(status: MaybePromise<number>, bdev: BlockDevice, addr: number, syscall: string): void | Promise<void> {
  if (isPromise(status)) return status.then((value) => check(value as number, bdev, addr, syscall));
  if (status < 0) throw FsError.of(status, syscall, { detail: `${bdev.name} at byte ${addr}` });
}

/** Reads device bytes [addr, addr + into.length). Errors: the device's, as FsError. */
export function readDevice(bdev: BlockDevice, addr: number, into: Uint8Array): void | Promise<void> {
  return transfer(bdev, REQ_OP_READ, addr, into, 0, 'read');
}

/** Writes device bytes [addr, addr + from.length); durable at return if `fua`, else after the next flush. */
export function writeDevice(bdev: BlockDevice, addr: number, from: Uint8Array, fua = false): void | Promise<void> {
  return transfer(bdev, REQ_OP_WRITE, addr, from, fua ? REQ_FUA : 0, 'write');
}

/** Makes all completed writes durable. Nothing to do on a device without a volatile cache. */
export function flushDevice(bdev: BlockDevice): void | Promise<void> {
  if (!bdev.hasVolatileCache) return;
  return check(submitAndWait(bdev, emptyBio(REQ_OP_FLUSH, 0, 0, 0, nothing)), bdev, 0, 'fsync');
}

/**
 * What every device asks of a request before it touches the medium: 0, or a negative errno.
 *
 * Errors:  EINVAL where it is misaligned, larger than bioSizeMax, a read or write without memory, or an atomic write of a size that the
 *          device cannot keep whole; EIO where it lies outside the device.
 * Source:  Linux block/blk-core.c
 */
export function checkBio(bdev: BlockDevice, bio: Bio): number {
  const { op, addr, length, vec } = bio;
  if (op === REQ_OP_FLUSH) return 0;
  if (addr % bdev.logicalBlockSize !== 0 || length % bdev.logicalBlockSize !== 0) return -ERRNO.EINVAL;
  if (!(addr >= 0 && length > 0 && length <= bdev.size - addr)) return -ERRNO.EIO;
  if (op !== REQ_OP_READ && op !== REQ_OP_WRITE) return 0;
  if (vec.length === 0 || length > bdev.bioSizeMax) return -ERRNO.EINVAL;
  if (bdev.dmaAlignment > 1 && vec.some((bytes) => bytes.byteOffset % bdev.dmaAlignment !== 0)) return -ERRNO.EINVAL;
  if (op === REQ_OP_READ || (bio.flags & REQ_ATOMIC) === 0) return 0;
  const { atomicWriteMin, atomicWriteMax } = bdev;
  return atomicWriteMax > 0 && length <= atomicWriteMax && length % atomicWriteMin === 0 ? 0 : -ERRNO.EINVAL;
}
