import type { MaybePromise } from '../base/task.ts';
import type { Bio } from './bio.ts';
import type { BlockDevice } from './block-device.ts';

/** A device that stands before another and shows the same geometry; what it does to requests is in the subclass. */
export abstract class FilterDevice implements BlockDevice {
  readonly inner: BlockDevice;
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly stableWrites: boolean;
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;

  constructor(inner: BlockDevice, kind: string) {
    this.inner = inner;
    this.name = `${kind}(${inner.name})`;
    this.size = inner.size;
    this.logicalBlockSize = inner.logicalBlockSize;
    this.dmaAlignment = inner.dmaAlignment;
    this.bioSizeMax = inner.bioSizeMax;
    this.hasVolatileCache = inner.hasVolatileCache;
    this.hasFua = inner.hasFua;
    this.stableWrites = inner.stableWrites;
    this.atomicWriteMin = inner.atomicWriteMin;
    this.atomicWriteMax = inner.atomicWriteMax;
  }

  abstract submit(bio: Bio): void;

  close(): MaybePromise<void> {
    return this.inner.close?.();
  }
}
