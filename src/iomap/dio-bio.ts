import { FsError } from '../base/fs-error.ts';
import type { IovIter } from '../base/iov-iter.ts';
import { Bio, type BioOp, REQ_OP_READ } from '../block/bio.ts';
import { gather, scatter } from '../block/vec.ts';

// Requests over the caller's memory: what of it a device takes, and how it becomes a bio.

/** What direct I/O has to know of the device below a mapping. */
export interface DioGeometry {
  readonly name: string;
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;
}

/** Stands for the device of a mapping that has none: the filesystem sends the requests itself and knows its own limits. */
export const NO_DEVICE: DioGeometry = {
  name: 'no device',
  logicalBlockSize: 1,
  dmaAlignment: 1,
  bioSizeMax: 2 ** 20,
  hasVolatileCache: true,
  hasFua: false,
  atomicWriteMin: 0,
  atomicWriteMax: 0,
};

/** Zeros for the largest block there is. Nobody writes here. */
const ZEROS = new Uint8Array(65536);

/**
 * What is wrong with position, length or memory of what is left of a request; undefined if a device takes it.
 *
 * Position and length are multiples of `unit`; every piece of memory starts, and all but the last end, at a multiple of `dmaAlignment`, so
 * that wherever the request is cut the device can take the parts.
 */
export function dioMisalignment(iov: IovIter, pos: number, length: number, unit: number, dmaAlignment: number): string | undefined {
  if (pos % unit !== 0 || length % unit !== 0) return `direct I/O of ${length} bytes at ${pos} is not in units of ${unit}`;
  if (dmaAlignment <= 1) return undefined;
  let skip = iov.done;
  let left = length;
  for (const segment of iov.segments) {
    if (left <= 0) break;
    const start = Math.min(skip, segment.length);
    skip -= start;
    const count = Math.min(segment.length - start, left);
    left -= count;
    if (count === 0) continue;
    if ((segment.byteOffset + start) % dmaAlignment !== 0 || (left > 0 && count % dmaAlignment !== 0)) {
      return `memory for direct I/O is not aligned to ${dmaAlignment}`;
    }
  }
  return undefined;
}

/** How many pieces of memory what is left of `iov` lies in. */
export function segmentsOf(iov: IovIter): number {
  let skip = iov.done;
  let left = iov.count;
  let count = 0;
  for (const { length } of iov.segments) {
    const start = Math.min(skip, length);
    skip -= start;
    const here = Math.min(length - start, left);
    left -= here;
    if (here > 0) count++;
  }
  return count;
}

/** The request for the next `length` bytes of `iov`, which moves over them. The device works on the caller's own memory. */
export function bioFromMemory(op: BioOp, addr: number, flags: number, iov: IovIter, length: number, onEnd: (bio: Bio) => void): Bio {
  const bio = new Bio(op, addr, flags, onEnd);
  while (bio.length < length) {
    const piece = iov.peek(length - bio.length);
    if (piece.length === 0) throw new FsError('EFAULT', op === REQ_OP_READ ? 'read' : 'write', { detail: 'memory was taken away' });
    bio.add(piece);
    iov.advance(piece.length);
  }
  return bio;
}

/**
 * As bioFromMemory, through memory of our own: the data cannot change while the request is in flight. What was read is copied out when
 * all of it is there.
 */
export function bioBounced(op: BioOp, addr: number, flags: number, iov: IovIter, length: number, onEnd: (bio: Bio) => void): Bio {
  const { vec } = bioFromMemory(op, addr, flags, iov, length, onEnd);
  if (op !== REQ_OP_READ) {
    const bio = new Bio(op, addr, flags, onEnd);
    bio.add(gather(vec, 0, length));
    return bio;
  }
  const bounce = new Uint8Array(length);
  const bio = new Bio(op, addr, flags, (ended) => {
    if (ended.status === 0) scatter(bounce, vec, 0);
    onEnd(ended);
  });
  bio.add(bounce);
  return bio;
}

/** The request that writes `length` zeros, at most a block. */
export function bioOfZeros(op: BioOp, addr: number, flags: number, length: number, onEnd: (bio: Bio) => void): Bio {
  const bio = new Bio(op, addr, flags, onEnd);
  bio.add(ZEROS.subarray(0, length));
  return bio;
}
