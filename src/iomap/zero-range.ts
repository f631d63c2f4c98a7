import { checkRange, roundUp } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import { IOMAP_F_FOLIO_BATCH, IOMAP_HOLE, IOMAP_UNWRITTEN, IOMAP_ZERO } from './iomap.ts';
import { IomapIter } from './iter.ts';
import { traceZeroRange } from './trace.ts';
import { warnings } from './warnings.ts';
import { putFolio, type WriteIo, writeBegin, writeEnd, writeOpsOf } from './write-begin.ts';

/**
 * Makes the bytes [pos, pos + length) read as zeros, through the cache, without allocating and without changing i_size.
 *
 * Holes and clean unwritten ranges are zeros already. Dirty data over an unwritten range is written first, so that it becomes mapped and
 * can be zeroed; a filesystem that offers the dirty folios as a batch is spared that.
 *
 * Shape:   true if any byte was zeroed in the cache.
 * Locks:   the caller holds the inode lock and the invalidate lock exclusively: what begin and end of the filesystem may count on.
 * Errors:  EINVAL, EFBIG, EOVERFLOW for the range; those of reading, of writeback and of the hooks.
 */
export function zeroRange(inode: Inode, pos: number, length: number, io: WriteIo): MaybePromise<boolean> {
  checkRange('fallocate', pos, length, inode.sizeMax);
  if (length === 0) return false;
  if (traceZeroRange.channel.hasSubscribers) traceZeroRange.channel.publish({ ino: inode.ino, pos, length });
  return run(zero(inode, pos, length, io));
}

function* zero(inode: Inode, pos: number, length: number, io: WriteIo): Task<boolean> {
  const iter = new IomapIter(inode, io.ops, pos, length, IOMAP_ZERO, io.private);
  const state = {
    // Sampled before the first mapping: a conversion between the two would otherwise be missed.
    rangeDirty: inode.mapping.needsWriteback(pos, pos + length),
    didZero: false,
  };
  yield* iter.each(() => {
    const { source } = iter;
    if ((iter.iomap.flags & IOMAP_F_FOLIO_BATCH) === 0) {
      if (source.type === IOMAP_HOLE || (source.type === IOMAP_UNWRITTEN && !state.rangeDirty)) {
        iter.advanceFull();
        return;
      }
      if (source.type === IOMAP_UNWRITTEN) {
        state.rangeDirty = false;
        iter.markStale();
        return inode.mapping.writeAndWait(iter.pos, iter.pos + iter.length);
      }
    }
    return run(zeroMapping(iter, io, state));
  });
  return state.didZero;
}

function* zeroMapping(iter: IomapIter, io: WriteIo, state: { didZero: boolean }): Task<void> {
  const wops = writeOpsOf(io);
  while (iter.length > 0 && iter.usableLength() > 0) {
    const begun = writeBegin(iter, wops, iter.usableLength());
    const folio = isPromise(begun) ? yield* wait(begun) : begun;
    if (folio === undefined) {
      if (!iter.isStale) iter.advanceFull(); // no folio of the batch is left
      return;
    }
    const { pos } = iter;
    if (folio.pos >= iter.inode.size) warnings.zeroedPastEof++;
    const bytes = Math.min(iter.usableLength(), folio.end - pos);
    let failure: unknown;
    try {
      folio.zero(pos - folio.pos, pos - folio.pos + bytes);
      folio.markAccessed();
      writeEnd(iter, folio, pos, bytes, bytes);
    } catch (error) {
      failure = error;
    }
    yield* wait(putFolio(iter, wops, folio, failure === undefined ? bytes : 0));
    if (failure !== undefined) throw failure;
    iter.advance(bytes);
    state.didZero = true;
  }
}

/** Zeroes from `pos` to the end of its block; nothing where `pos` is on a block boundary. As zeroRange otherwise. */
export function truncatePage(inode: Inode, pos: number, io: WriteIo): MaybePromise<boolean> {
  const end = roundUp(pos, inode.blockSize);
  return end === pos ? false : zeroRange(inode, pos, end - pos, io);
}
