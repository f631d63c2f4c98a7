import { FsError } from '../base/fs-error.ts';
import { roundDown } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { Bio, REQ_INTEGRITY, REQ_OP_READ, REQ_RAHEAD, REQ_SYNC } from '../block/bio.ts';
import { type BlockDevice, submitAndWait } from '../block/block-device.ts';
import type { Folio } from '../pagecache/folio.ts';
import { finishVerifiedRead } from './buffered-read.ts';
import { hasState } from './folio-state.ts';
import type { ReadContext, ReadOps } from './hooks.ts';
import { IOMAP_F_INTEGRITY, type Iomap } from './iomap.ts';
import type { IomapIter } from './iter.ts';

// Fills folios from a block device: the default read hooks.

/** A range whose parts are in several bios, and whose blocks are valid when all have come. */
interface SplitRange {
  readonly offset: number;
  readonly length: number;
  left: number;
  errno: number;
}

interface Segment {
  readonly folio: Folio;
  /** In the folio. */
  readonly offset: number;
  readonly length: number;
  readonly splitRange: SplitRange | undefined;
}

/** A bio being built, and the folio ranges its memory belongs to. */
interface ReadBatch {
  readonly bdev: BlockDevice;
  readonly bio: Bio;
  readonly segments: Segment[];
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

/** Largest part of a range that one bio takes: whole blocks where a bio holds any. */
function partMax(bdev: BlockDevice, blockSize: number): number {
  return roundDown(bdev.bioSizeMax, bdev.bioSizeMax >= blockSize ? blockSize : bdev.logicalBlockSize);
}

function endSegment(ops: ReadOps, { folio, offset, length, splitRange }: Segment, status: number): void {
  if (splitRange === undefined) {
    finishVerifiedRead(ops, folio, offset, length, status);
    return;
  }
  if (splitRange.errno === 0) splitRange.errno = status;
  splitRange.left -= length;
  if (splitRange.left === 0) finishVerifiedRead(ops, folio, splitRange.offset, splitRange.length, splitRange.errno);
}

/** Read hooks over the device of the mapping: ranges that are contiguous on the device share one bio; none spans two mappings. */
export const bioReadOps: ReadOps = {
  readFolioRange(iter: IomapIter, ctx: ReadContext, length: number): void {
    const { iomap, inode } = iter;
    const folio = ctx.curFolio as Folio;
    const bdev = deviceOf(iomap, iter);
    const start = iter.pos - folio.pos;
    const max = partMax(bdev, inode.blockSize);
    // A part of a block does not count by itself; neither does a part of a folio that has no record of parts.
    const isOneAnswer = length > max && (max < inode.blockSize || !hasState(folio));
    const splitRange = isOneAnswer ? { offset: start, length, left: length, errno: 0 } : undefined;
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, max);
      const pos = iter.pos + done;
      const addr = iomap.addrOf(pos);
      let batch = ctx.readCtx as ReadBatch | undefined;
      if (batch === undefined || !canAppend(batch, bdev, addr, pos, count)) {
        if (batch !== undefined) submit(batch);
        const flags = (ctx.rac === undefined ? REQ_SYNC : REQ_RAHEAD) | ((iomap.flags & IOMAP_F_INTEGRITY) !== 0 ? REQ_INTEGRITY : 0);
        const segments: Segment[] = [];
        const bio = new Bio(REQ_OP_READ, addr, flags, (ended) => {
          for (const segment of segments) endSegment(ctx.ops, segment, ended.status);
        });
        bio.filePos = pos;
        batch = { bdev, bio, segments };
        ctx.readCtx = batch;
      }
      batch.bio.add(folio.bytes(start + done, count));
      batch.segments.push({ folio, offset: start + done, length: count, splitRange });
      done += count;
    }
  },

  submitRead(_iter: IomapIter, ctx: ReadContext): void {
    const batch = ctx.readCtx as ReadBatch | undefined;
    ctx.readCtx = undefined;
    if (batch !== undefined) submit(batch);
  },
};

const nothing = (): void => {};

/** WriteOps.readFolioRange over the device of the source: reads exactly the range, in one request where the device allows it. */
export function bioReadFolioRange(iter: IomapIter, folio: Folio, pos: number, length: number): MaybePromise<void> {
  return run(readParts(iter, folio, pos, length));
}

function* readParts(iter: IomapIter, folio: Folio, pos: number, length: number): Task<void> {
  const { source } = iter;
  const bdev = deviceOf(source, iter);
  const max = partMax(bdev, iter.inode.blockSize);
  const flags = REQ_SYNC | ((source.flags & IOMAP_F_INTEGRITY) !== 0 ? REQ_INTEGRITY : 0);
  for (let done = 0; done < length; ) {
    const count = Math.min(length - done, max);
    const bio = new Bio(REQ_OP_READ, source.addrOf(pos + done), flags, nothing);
    bio.filePos = pos + done;
    bio.add(folio.bytes(pos + done - folio.pos, count));
    const status = yield* wait(submitAndWait(bdev, bio));
    if (status < 0) throw FsError.of(status, 'read', { detail: `${bdev.name} at byte ${bio.addr}` });
    done += count;
  }
}
