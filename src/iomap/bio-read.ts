import { FsError } from '../base/fs-error.ts';
import type { MaybePromise } from '../base/task.ts';
import { then } from '../base/task.ts';
import { Bio, REQ_INTEGRITY, REQ_OP_READ, REQ_RAHEAD, REQ_SYNC } from '../block/bio.ts';
import { type BlockDevice, submitAndWait } from '../block/block-device.ts';
import type { Folio } from '../pagecache/folio.ts';
import { finishVerifiedRead } from './buffered-read.ts';
import type { ReadContext, ReadOps } from './hooks.ts';
import { IOMAP_F_INTEGRITY, type Iomap } from './iomap.ts';
import type { IomapIter } from './iter.ts';

// Fills folios from a block device: the default read hooks.

/** A bio being built, and the folio ranges its memory belongs to. */
interface ReadBatch {
  readonly bdev: BlockDevice;
  readonly bio: Bio;
  readonly segments: { readonly folio: Folio; readonly offset: number; readonly length: number }[];
}

/** The device of a mapping, checked: block hooks need one. */
export function deviceOf(map: Iomap, iter: IomapIter): BlockDevice {
  if (map.bdev !== undefined && map.addrOf(iter.pos) >= 0) return map.bdev;
  iter.inode.markBad();
  throw new FsError('EIO', 'read', { detail: `inode ${iter.inode.ino} at byte ${iter.pos}: a mapping without a device address` });
}

function submit(batch: ReadBatch): void {
  batch.bdev.submit(batch.bio);
}

/** One bio is contiguous on the device and in the file (where a key depends on the position). */
function canAppend({ bdev, bio }: ReadBatch, to: BlockDevice, addr: number, pos: number, length: number): boolean {
  if (bdev !== to || bio.length + length > bdev.bioSizeMax) return false;
  return bio.addr + bio.length === addr && bio.filePos + bio.length === pos;
}

/** Read hooks over the device of the mapping: ranges that are contiguous on the device share one bio; none spans two mappings. */
export const bioReadOps: ReadOps = {
  readFolioRange(iter: IomapIter, ctx: ReadContext, length: number): void {
    const { iomap, pos } = iter;
    const folio = ctx.curFolio as Folio;
    const bdev = deviceOf(iomap, iter);
    const addr = iomap.addrOf(pos);
    let batch = ctx.readCtx as ReadBatch | undefined;
    if (batch === undefined || !canAppend(batch, bdev, addr, pos, length)) {
      if (batch !== undefined) submit(batch);
      const flags = (ctx.rac === undefined ? REQ_SYNC : REQ_RAHEAD) | ((iomap.flags & IOMAP_F_INTEGRITY) !== 0 ? REQ_INTEGRITY : 0);
      const segments: ReadBatch['segments'] = [];
      const bio = new Bio(REQ_OP_READ, addr, flags, (ended) => {
        for (const { folio, offset, length } of segments) finishVerifiedRead(ctx.ops, folio, offset, length, ended.status);
      });
      bio.filePos = pos;
      batch = { bdev, bio, segments };
      ctx.readCtx = batch;
    }
    const offset = pos - folio.pos;
    batch.bio.add(folio.bytes(offset, length));
    batch.segments.push({ folio, offset, length });
  },

  submitRead(_iter: IomapIter, ctx: ReadContext): void {
    const batch = ctx.readCtx as ReadBatch | undefined;
    ctx.readCtx = undefined;
    if (batch !== undefined) submit(batch);
  },
};

const nothing = (): void => {};

/** WriteOps.readFolioRange over the device of the source: one read of exactly the range. */
export function bioReadFolioRange(iter: IomapIter, folio: Folio, pos: number, length: number): MaybePromise<void> {
  const { source } = iter;
  const bdev = deviceOf(source, iter);
  const flags = REQ_SYNC | ((source.flags & IOMAP_F_INTEGRITY) !== 0 ? REQ_INTEGRITY : 0);
  const bio = new Bio(REQ_OP_READ, source.addrOf(pos), flags, nothing);
  bio.filePos = pos;
  bio.add(folio.bytes(pos - folio.pos, length));
  return then(submitAndWait(bdev, bio), (status) => {
    if (status < 0) throw FsError.of(status, 'read', { detail: `${bdev.name} at byte ${bio.addr}` });
  });
}
