import { FsError } from '../base/fs-error.ts';
import type { MaybePromise } from '../base/task.ts';
import { Bio } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';

/** The bytes [start, start + size) of another device, as a device. */
export class PartitionDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly start: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly stableWrites: boolean;
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;
  readonly #inner: BlockDevice;

  /** Errors: EINVAL where the range is not whole blocks of the device, or not on it. */
  constructor(inner: BlockDevice, start: number, size: number, name: string = `${inner.name}+${start}`) {
    const unit = inner.logicalBlockSize;
    if (!(start >= 0 && size > 0 && start % unit === 0 && size % unit === 0 && size <= inner.size - start)) {
      throw new FsError('EINVAL', 'open', {
        detail: `bytes ${start}+${size} of ${inner.name}, which has ${inner.size} in blocks of ${unit}`,
      });
    }
    this.#inner = inner;
    this.name = name;
    this.start = start;
    this.size = size;
    this.logicalBlockSize = unit;
    this.dmaAlignment = inner.dmaAlignment;
    this.bioSizeMax = inner.bioSizeMax;
    this.hasVolatileCache = inner.hasVolatileCache;
    this.hasFua = inner.hasFua;
    this.stableWrites = inner.stableWrites;
    // Where a unit of atomic writes begins is said for the whole device.
    const isAligned = inner.atomicWriteMax > 0 && start % inner.atomicWriteMax === 0;
    this.atomicWriteMin = isAligned ? inner.atomicWriteMin : 0;
    this.atomicWriteMax = isAligned ? inner.atomicWriteMax : 0;
  }

  submit(bio: Bio): void {
    const status = checkBio(this, bio);
    if (status !== 0) {
      bio.end(status);
      return;
    }
    const moved = new Bio(bio.op, bio.addr + this.start, bio.flags, ({ status: ended }) => bio.end(ended), bio.vec, bio.length);
    moved.filePos = bio.filePos;
    this.#inner.submit(moved);
  }

  close(): MaybePromise<void> {
    return this.#inner.close?.();
  }
}
