import { assert } from '../../src/base/assert.ts';
import { type Bio, REQ_OP_WRITE } from '../../src/block/bio.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import { FilterDevice } from '../../src/block/filter-device.ts';
import { gather } from '../../src/block/vec.ts';

/** A device that asserts, where it needs data that does not change in flight, that none did (invariant 43). */
export class StableCheckDevice extends FilterDevice {
  constructor(inner: BlockDevice) {
    super(inner, 'stable-check');
  }

  submit(bio: Bio): void {
    if (bio.op !== REQ_OP_WRITE || !this.stableWrites) {
      this.inner.submit(bio);
      return;
    }
    const before = gather(bio.vec, 0, bio.length);
    const onEnd = bio.onEnd;
    bio.onEnd = (ended) => {
      const after = gather(bio.vec, 0, bio.length);
      assert(Buffer.compare(before, after) === 0, `invariant 43: data of a write of ${bio.length} bytes to ${bio.addr} changed in flight`);
      ended.onEnd = onEnd;
      onEnd(ended);
    };
    this.inner.submit(bio);
  }
}
