import { type AbortSignalLike, checkAborted } from '../base/abort.ts';
import { errnoOf, FsError } from '../base/fs-error.ts';
import { roundDown, roundUp } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import { FGP_DONTCACHE, FGP_NOWAIT } from '../pagecache/address-space.ts';
import type { Folio } from '../pagecache/folio.ts';
import { ensureState, hasState, isBlockUptodate, markDirty, markUptodate } from './folio-state.ts';
import type { IomapOps, WriteOps } from './hooks.ts';
import { IOMAP_DONTCACHE, IOMAP_F_FOLIO_BATCH, IOMAP_F_ZERO_TAIL, IOMAP_INLINE, IOMAP_NOWAIT, IOMAP_UNSHARE, typeName } from './iomap.ts';
import { IomapIter, iterate } from './iter.ts';
import { type FolioRange, needsZeroing, nextReadRange, zeroPastEof } from './read-range.ts';

// One folio of a write: get it, make the bytes around the write valid, and after the copy say which blocks hold what.

/** What operations that change cached data need of a filesystem. */
export interface WriteIo {
  readonly ops: IomapOps;
  readonly writeOps?: WriteOps;
  readonly private?: unknown;
}

const NO_HOOKS: WriteOps = {};

export function writeOpsOf(io: WriteIo): WriteOps {
  return io.writeOps ?? NO_HOOKS;
}

/**
 * The folio at iter.pos, locked and held, with every byte valid around [iter.pos, iter.pos + length) in the blocks it touches.
 *
 * Shape:   undefined if the mapping went stale, or no folio of the batch is left. The caller clips `length` to the folio.
 * Blocks:  for the folio and for the head and tail block; under IOMAP_NOWAIT for neither (EAGAIN).
 * Errors:  the folio is put before anything is thrown: EINTR, EAGAIN, EIO, the hooks' own.
 */
export function writeBegin(iter: IomapIter, wops: WriteOps, length: number, signal?: AbortSignalLike): MaybePromise<Folio | undefined> {
  checkAborted(signal, 'write');
  let got: MaybePromise<Folio | undefined>;
  if ((iter.iomap.flags & IOMAP_F_FOLIO_BATCH) !== 0) got = run(nextOfBatch(iter));
  else if (wops.getFolio !== undefined) got = wops.getFolio(iter, iter.pos, length);
  else {
    const fgp = (iter.flags & IOMAP_NOWAIT ? FGP_NOWAIT : 0) | (iter.flags & IOMAP_DONTCACHE ? FGP_DONTCACHE : 0);
    got = iter.inode.mapping.getFolio(iter.pos, length, fgp);
  }
  if (!isPromise(got)) return prepare(iter, wops, got, length);
  if ((iter.flags & IOMAP_NOWAIT) === 0) return got.then((folio) => prepare(iter, wops, folio as Folio | undefined, length));
  // A hook that waits where nobody may: what it gets goes back.
  got.then((folio) => putFolio(iter, wops, folio as Folio, 0)).catch(() => {});
  throw new FsError('EAGAIN', 'write');
}

function prepare(iter: IomapIter, wops: WriteOps, folio: Folio | undefined, length: number): MaybePromise<Folio | undefined> {
  if (folio === undefined) return undefined;
  const failed = (error: unknown): MaybePromise<never> => {
    return then(putFolio(iter, wops, folio, 0), () => {
      throw error;
    });
  };
  let isValid: boolean;
  try {
    isValid = wops.iomapValid?.(iter.inode, iter.iomap) !== false;
  } catch (error) {
    return failed(error);
  }
  if (!isValid) {
    iter.markStale();
    return then(putFolio(iter, wops, folio, 0), () => undefined);
  }
  try {
    // A batch moved iter.pos on to its folio: what is left of the range counts, not what was asked for.
    const end = iter.pos + Math.min(length, iter.usableLength());
    const filled = fill(iter, wops, folio, iter.pos, Math.min(end, folio.end));
    return isPromise(filled) ? (filled as Promise<void>).then(() => folio, failed) : folio;
  } catch (error) {
    return failed(error);
  }
}

/** Hands a folio back: to the hook that gave it, or unlocked and put. */
export function putFolio(iter: IomapIter, wops: WriteOps, folio: Folio, copied: number): MaybePromise<void> {
  if (wops.putFolio !== undefined && (iter.iomap.flags & IOMAP_F_FOLIO_BATCH) === 0) {
    return wops.putFolio(iter.inode, iter.pos, copied, folio);
  }
  folio.unlock();
  folio.put();
}

/** The next folio of the batch at or behind iter.pos; moves iter.pos up to it: what lies between is clean or absent. */
function* nextOfBatch(iter: IomapIter): Task<Folio | undefined> {
  const folio = iter.fbatch.find((each) => each.end > iter.pos);
  if (folio === undefined || folio.pos >= iter.pos + iter.usableLength()) return undefined;
  folio.get();
  yield* wait(folio.lock());
  if (folio.mapping !== iter.inode.mapping) {
    folio.unlock();
    folio.put();
    iter.markStale();
    return undefined;
  }
  yield* wait(folio.waitStable());
  if (folio.pos > iter.pos) iter.advance(folio.pos - iter.pos);
  return folio;
}

/** Is every block valid, or wholly overwritten, that a write of these bytes of the folio touches? The folio has its record then. */
export function isWritable(folio: Folio, offset: number, length: number, blockSize: number): boolean {
  if (length === folio.size) return true; // no read, no record
  ensureState(folio, blockSize);
  if (folio.isUptodate) return true;
  const end = offset + length;
  return (offset % blockSize === 0 || isBlockUptodate(folio, offset)) && (end % blockSize === 0 || isBlockUptodate(folio, end));
}

/** Makes the blocks valid that [pos, end) of the folio touches only in part. */
function fill(iter: IomapIter, wops: WriteOps, folio: Folio, pos: number, end: number): MaybePromise<void> {
  const { inode, source } = iter;
  const unshare = (iter.flags & IOMAP_UNSHARE) !== 0;
  if (iter.iomap.type === IOMAP_INLINE) checkInlineFits(iter, pos, end); // before anything is copied over the folio
  if (source.type === IOMAP_INLINE) return fillInline(iter, folio, pos, end);
  if (!unshare && pos <= folio.pos && end >= folio.end) return; // no read, no record
  ensureState(folio, inode.blockSize);
  if (folio.isUptodate) return;

  const { blockSize } = inode;
  const headStart = roundDown(pos, blockSize);
  const tailEnd = roundUp(end, blockSize);
  if (unshare) return run(fillRange(iter, wops, folio, headStart, tailEnd, pos, end));
  const hasHead = headStart < pos && !isBlockUptodate(folio, headStart - folio.pos);
  const hasTail = end < tailEnd && !isBlockUptodate(folio, end - folio.pos);
  if (!hasHead && !hasTail) return;
  const headEnd = headStart + blockSize;
  const tailStart = tailEnd - blockSize;
  const needsNoTail = (iter.iomap.flags & IOMAP_F_ZERO_TAIL) !== 0 && tailStart >= headEnd;
  if (hasHead && hasTail && !needsNoTail && tailStart - headEnd <= (wops.mergeGap ?? 0))
    return run(fillRange(iter, wops, folio, headStart, tailEnd, pos, end));
  return run(fillTwo(iter, wops, folio, hasHead ? headStart : -1, hasTail ? tailStart : -1, pos, end));
}

function* fillTwo(iter: IomapIter, wops: WriteOps, folio: Folio, head: number, tail: number, pos: number, end: number): Task<void> {
  const { blockSize } = iter.inode;
  if (head >= 0) yield* fillRange(iter, wops, folio, head, head + blockSize, pos, end);
  if (tail >= 0 && tail !== head) yield* fillRange(iter, wops, folio, tail, tail + blockSize, pos, end);
}

/** Reads or zeroes the blocks of [from, to) that are not uptodate. The write itself will cover [pos, end). */
function* fillRange(iter: IomapIter, wops: WriteOps, folio: Folio, from: number, to: number, pos: number, end: number): Task<void> {
  const { inode, source } = iter;
  const range: FolioRange = { pos: from, end: from };
  const zeroTail = (iter.iomap.flags & IOMAP_F_ZERO_TAIL) !== 0;
  for (let at = from; at < to; at = range.end) {
    nextReadRange(inode, folio, at, to, range);
    if (range.pos >= range.end) return;
    const length = range.end - range.pos;
    const isTailOnly = zeroTail && range.pos >= pos && range.end > end;
    if (needsZeroing(inode, source, range.pos) || isTailOnly) {
      if ((iter.flags & IOMAP_UNSHARE) !== 0) {
        throw new FsError('EIO', 'unshare', { detail: `byte ${range.pos}: the shared data is ${typeName(source.type)}` });
      }
      // The bytes that the write is to cover too: it may fall short, and the blocks are marked valid here.
      folio.zero(range.pos - folio.pos, range.end - folio.pos);
    } else {
      if ((iter.flags & IOMAP_NOWAIT) !== 0) throw new FsError('EAGAIN', 'write');
      if (wops.readFolioRange === undefined) throw new FsError('EIO', 'write', { detail: 'no hook to read part of a folio' });
      try {
        yield* wait(wops.readFolioRange(iter, folio, range.pos, length));
      } catch (error) {
        inode.reportError('buffered-read', range.pos, length, errnoOf(error));
        throw error;
      }
      zeroPastEof(inode, folio, range.pos, range.end);
      if (zeroTail && range.end > end) folio.zero(Math.max(end, range.pos) - folio.pos, range.end - folio.pos);
    }
    markUptodate(folio, range.pos - folio.pos, length);
  }
}

/** Copies inline data into the folio: all of it where it is the whole file, else the packets that hold the blocks of [pos, end). */
function fillInline(iter: IomapIter, folio: Folio, pos: number, end: number): MaybePromise<void> {
  const { inode, source } = iter;
  if (folio.isUptodate) return;
  const isWhole = source.offset === 0 && source.end >= inode.size;
  if (!isWhole && pos <= folio.pos && end >= folio.end) return;
  ensureState(folio, inode.blockSize);
  if (isWhole) {
    const data = source.inlineData as Uint8Array;
    const range: FolioRange = { pos: 0, end: 0 };
    for (let at = folio.pos; at < folio.end; at = range.end) {
      nextReadRange(inode, folio, at, folio.end, range);
      if (range.pos >= range.end) break;
      copyPacket(folio, data.subarray(range.pos, Math.min(range.end, inode.size)), range.pos, range.end);
    }
    markUptodate(folio, 0, folio.size);
    return;
  }
  const from = roundDown(pos, inode.blockSize);
  const to = Math.min(roundUp(end, inode.blockSize), folio.end);
  return run(fillPackets(iter, folio, from, to));
}

/** Feeds the packets of [from, to) into blocks that are not uptodate. */
function* fillPackets(iter: IomapIter, folio: Folio, from: number, to: number): Task<void> {
  const { inode } = iter;
  const { blockSize } = inode;
  for (let block = from; block < to; block += blockSize) {
    if (isBlockUptodate(folio, block - folio.pos)) continue;
    const packets = new IomapIter(inode, iter.ops, block, blockSize, iter.flags & IOMAP_NOWAIT, iter.private);
    yield* wait(
      iterate(packets, () => {
        const { iomap, pos } = packets;
        const stop = pos + packets.usableLength();
        if (iomap.type !== IOMAP_INLINE && !needsZeroing(inode, iomap, pos)) {
          throw new FsError('EIO', 'write', { detail: `byte ${pos}: inline data goes over into ${typeName(iomap.type)} inside a block` });
        }
        const data = iomap.inlineData?.subarray(pos - iomap.offset, Math.max(pos, Math.min(stop, inode.size)) - iomap.offset);
        copyPacket(folio, data ?? new Uint8Array(0), pos, stop);
        packets.advance(stop - pos);
      }),
    );
    markUptodate(folio, block - folio.pos, blockSize);
  }
}

/** Inline data is written into its buffer. Errors: EIO for bytes that it has no room for. */
function checkInlineFits(iter: IomapIter, pos: number, end: number): void {
  const { inode, iomap } = iter;
  if (pos >= iomap.offset && end - iomap.offset <= (iomap.inlineData as Uint8Array).length) return;
  throw new FsError('EIO', 'write', { detail: `inode ${inode.ino}: bytes [${pos}, ${end}) do not fit the inline data` });
}

/** Puts `data` at file position `pos` and zeros from its end to `end`. */
function copyPacket(folio: Folio, data: Uint8Array, pos: number, end: number): void {
  const at = pos - folio.pos;
  folio.slab.set(data, folio.base + at);
  folio.zero(at + data.length, end - folio.pos);
}

/**
 * After `copied` of `length` bytes went into the folio at `pos`: marks what is valid and dirty.
 *
 * Shape:   bytes that count. Fewer than copied where a block is now part new, part unknown: those are to be written again.
 */
export function writeEnd(iter: IomapIter, folio: Folio, pos: number, length: number, copied: number): number {
  const { inode, iomap } = iter;
  const offset = pos - folio.pos;
  if (copied === 0) return 0;
  if (iomap.type === IOMAP_INLINE) {
    // The buffer is the file; the folio stays clean, since writeback has nowhere to put it.
    (iomap.inlineData as Uint8Array).set(folio.bytes(offset, copied), pos - iomap.offset);
    inode.markDirty();
    return copied;
  }
  let accepted = copied;
  if (copied < length && !folio.isUptodate) {
    if (!hasState(folio)) ensureState(folio, inode.blockSize);
    const end = offset + copied;
    const isEndValid = end % inode.blockSize === 0 || isBlockUptodate(folio, end);
    if (!isEndValid) accepted = Math.max(0, roundDown(pos + copied, inode.blockSize) - pos);
    if (accepted === 0) return 0;
  }
  markUptodate(folio, offset, accepted);
  markDirty(folio, offset, accepted);
  return accepted;
}
