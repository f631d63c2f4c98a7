import { FsError } from '../base/fs-error.ts';
import { Bio } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';
import { FilterDevice } from './filter-device.ts';

/** The bytes [start, start + size) of another device, as a device. */
export class PartitionDevice extends FilterDevice {
  override readonly name: string;
  override readonly size: number;
  readonly start: number;
  override readonly atomicWriteMin: number;
  override readonly atomicWriteMax: number;

  /** Errors: EINVAL where the range is not whole blocks of the device, or not on it. */
  constructor(inner: BlockDevice, start: number, size: number, name: string = `${inner.name}+${start}`) {
    super(inner, 'partition');
    const unit = inner.logicalBlockSize;
    if (!(start >= 0 && size > 0 && start % unit === 0 && size % unit === 0 && size <= inner.size - start)) {
      throw new FsError('EINVAL', 'open', {
        detail: `bytes ${start}+${size} of ${inner.name}, which has ${inner.size} in blocks of ${unit}`,
      });
    }
    this.name = name;
    this.start = start;
    this.size = size;
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
    this.inner.submit(moved);
  }
}
