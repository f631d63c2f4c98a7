import { AssertionError, assert } from '../base/assert.ts';
import { errnoOf, FsError } from '../base/fs-error.ts';
import { checkPosition, roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, then } from '../base/task.ts';
import type { AddressSpace } from '../pagecache/address-space.ts';
import { filemapRead } from '../pagecache/filemap.ts';
import type { Folio } from '../pagecache/folio.ts';
import { type ReadaheadControl, ReadaheadState } from '../pagecache/readahead.ts';
import { type Inode, inodeOf } from '../vfs/inode.ts';
import { allUptodate, biasRead, ensureState, hasState, markUptodateInRead, unpendRead } from './folio-state.ts';
import type { IomapOps, ReadContext, ReadOps } from './hooks.ts';
import { IOCB_DONTCACHE, IOCB_NOWAIT, type Iocb } from './iocb.ts';
import { IOMAP_INLINE, IOMAP_MAPPED, type Iomap } from './iomap.ts';
import { IomapIter } from './iter.ts';
import { type FolioRange, needsZeroing, nextReadRange, zeroPastEof } from './read-range.ts';
import { traceReadahead, traceReadFolio } from './trace.ts';

/** What fills folios of a file. */
export interface ReadIo {
  readonly ops: IomapOps;
  readonly readOps: ReadOps;
  readonly private?: unknown;
}

/**
 * One read of a folio, or of the folios of one readahead.
 *
 * Invariants:
 * 1. `curFolio` is locked and held by this read until all its bytes were accepted by the hook; from then on it is the hook's, and
 *    is not touched here again.
 * 2. From the first accepted byte the folio's pending count is its size: what is not submitted is taken off at the end.
 */
class Reader implements ReadContext {
  readonly ops: ReadOps;
  readonly rac: ReadaheadControl | undefined;
  readonly inode: Inode;
  curFolio: Folio | undefined = undefined;
  readCtx: unknown = undefined;
  /** Bytes of curFolio that the hook accepted. */
  #submitted = 0;
  readonly #range: FolioRange = { pos: 0, end: 0 };
  // Inline data may come in packets, and holes between them end where they like: what this read has filled without a gap, so that a
  // block counts when all of it came.
  #piecesStart = -1;
  #piecesEnd = -1;

  constructor(inode: Inode, ops: ReadOps, rac: ReadaheadControl | undefined) {
    this.inode = inode;
    this.ops = ops;
    this.rac = rac;
  }

  /** Fills what the current mapping covers of curFolio. */
  readMapping(iter: IomapIter): void {
    const folio = this.curFolio as Folio;
    const { iomap, inode } = iter;
    if (iomap.type === IOMAP_INLINE || isPartOfBlock(iter, folio)) {
      this.#readPiece(iter, folio);
      return;
    }
    ensureState(folio, inode.blockSize);
    const range = this.#range;
    let left = Math.min(iter.usableLength(), folio.end - iter.pos);
    while (left > 0) {
      // Without a device the hooks work in bytes: they fetch whole blocks, so that a block is never valid in part.
      const end = iomap.bdev === undefined ? Math.min(roundUp(iter.pos + left, inode.blockSize), folio.end) : iter.pos + left;
      nextReadRange(inode, folio, iter.pos, end, range);
      const skipped = Math.min(range.pos, iter.pos + left) - iter.pos;
      iter.advance(skipped);
      left -= skipped;
      if (range.pos >= range.end || left <= 0) {
        iter.advance(Math.max(left, 0));
        return;
      }
      const length = range.end - range.pos;
      const count = Math.min(length, iter.length);
      const isZeros = needsZeroing(inode, iomap, range.pos);
      if (isZeros) folio.zero(range.pos - folio.pos, range.end - folio.pos);
      if (isZeros && this.ops.verify === undefined) {
        this.#fill(folio, range.pos - folio.pos, length);
      } else {
        this.#submit(iter, folio, length, isZeros);
        if (this.curFolio === undefined) {
          iter.advance(count);
          return;
        }
      }
      iter.advance(count);
      left -= count;
    }
  }

  /** Bytes became valid without I/O. */
  #fill(folio: Folio, offset: number, length: number): void {
    if (hasState(folio)) markUptodateInRead(folio, offset, length);
    else folio.markUptodate();
  }

  #submit(iter: IomapIter, folio: Folio, length: number, isZeros: boolean): void {
    if (this.#submitted === 0) biasRead(folio);
    const before = this.#submitted;
    this.#submitted += length;
    try {
      if (isZeros) finishVerifiedRead(this.ops, folio, iter.pos - folio.pos, length, 0);
      else this.ops.readFolioRange(iter, this, length);
    } catch (error) {
      this.#submitted = before;
      if (before === 0) unpendRead(folio, hasState(folio) ? folio.size : 0);
      throw error;
    }
    // All accepted: the folio is the hook's, and may be unlocked and gone by now.
    if (!isSubmittedInPart(folio, this.#submitted)) this.curFolio = undefined;
  }

  /** Bytes of a packet of inline data, or of a hole beside one. */
  #readPiece(iter: IomapIter, folio: Folio): void {
    const { iomap, inode, pos } = iter;
    const stop = Math.min(pos + iter.usableLength(), folio.end);
    const dataEnd = Math.max(pos, Math.min(stop, inode.size));
    if (this.#piecesEnd !== pos) this.#piecesStart = pos;
    ensureState(folio, inode.blockSize);
    // Blocks that are uptodate may hold newer data than the buffer.
    const range = this.#range;
    for (let at = pos; at < dataEnd; at = range.end) {
      nextReadRange(inode, folio, at, dataEnd, range);
      if (range.pos >= range.end) break;
      if (iomap.type === IOMAP_INLINE) copyInline(iomap, folio, range.pos, range.end);
      else folio.zero(range.pos - folio.pos, range.end - folio.pos);
    }
    // Where the file ends the data ends, and the rest of the folio is zeros.
    if (dataEnd >= inode.size) folio.zero(dataEnd - folio.pos, folio.size);
    this.#piecesEnd = dataEnd >= inode.size ? folio.end : dataEnd;
    const from = Math.max(folio.pos, roundUp(this.#piecesStart, inode.blockSize)); // pieces may have begun in an earlier folio
    const to = roundDown(this.#piecesEnd, inode.blockSize);
    if (to > from) this.#fill(folio, from - folio.pos, to - from);
    iter.advance(Math.min(this.#piecesEnd - pos, iter.length));
  }

  /** The read takes the locked folio on, with one reference, which the end of the folio's read puts. */
  start(folio: Folio | undefined): void {
    this.curFolio = folio;
    this.#submitted = 0;
  }

  /** Ends the current folio as far as this read goes, unless the hook owns it or still owes something. */
  endFolio(): void {
    const folio = this.curFolio;
    this.curFolio = undefined;
    if (folio === undefined) return;
    if (this.#submitted === 0 || unpendRead(folio, folio.size - this.#submitted)) endRead(folio, hasState(folio) && allUptodate(folio));
  }
}

/** Does a hole or the like start or end inside a block of the folio? */
function isPartOfBlock(iter: IomapIter, folio: Folio): boolean {
  const { blockSize } = iter.inode;
  if (iter.iomap.type === IOMAP_MAPPED) return false;
  return iter.pos % blockSize !== 0 || Math.min(iter.iomap.end, folio.end) % blockSize !== 0;
}

/** A folio without a record is whole: one accepted range is all of it. */
function isSubmittedInPart(folio: Folio, submitted: number): boolean {
  return submitted < folio.size && hasState(folio);
}

/** Ends the read of a folio in one step: flag, unlock, reference. */
function endRead(folio: Folio, isFull: boolean): void {
  folio.endRead(isFull && !folio.isUptodate);
  folio.put();
}

function copyInline(iomap: Iomap, folio: Folio, pos: number, end: number): void {
  const data = iomap.inlineData as Uint8Array;
  const from = pos - iomap.offset;
  folio.slab.set(data.subarray(from, from + end - pos), folio.base + (pos - folio.pos));
}

/**
 * Called by a read hook for bytes it accepted, exactly once, in any order: they are in the folio, or failed.
 *
 * Shape:   bytes [offset, offset + length) of the folio; `errno` 0 or negative. The folio may be unlocked and gone afterwards.
 */
export function finishFolioRead(folio: Folio, offset: number, length: number, errno: number): void {
  const inode = inodeOf(folio.mapping as AddressSpace);
  if (errno === 0) {
    zeroPastEof(inode, folio, folio.pos + offset, folio.pos + offset + length);
    markUptodateInRead(folio, offset, length);
  } else {
    inode.reportError('buffered-read', folio.pos + offset, length, errno);
  }
  if (unpendRead(folio, length)) endRead(folio, hasState(folio) ? allUptodate(folio) : errno === 0);
}

/** finishFolioRead, after the hooks' own check of what arrived. */
export function finishVerifiedRead(ops: ReadOps, folio: Folio, offset: number, length: number, errno: number): void {
  const { verify } = ops;
  if (errno < 0 || verify === undefined) {
    finishFolioRead(folio, offset, length, errno);
    return;
  }
  inodeOf(folio.mapping as AddressSpace).sb.work.post(async () => {
    let failed = 0;
    try {
      await verify.call(ops, folio, offset, length);
    } catch (error) {
      failed = errnoOf(error);
    }
    finishFolioRead(folio, offset, length, failed);
  });
}

/** AddressSpaceOps.readFolio over mappings: fills a locked folio and unlocks it, now or when its reads end. */
export function readFolio(mapping: AddressSpace, folio: Folio, io: ReadIo): MaybePromise<void> {
  const inode = inodeOf(mapping);
  if (traceReadFolio.channel.hasSubscribers) traceReadFolio.channel.publish({ ino: inode.ino, pos: folio.pos, length: folio.size });
  const reader = new Reader(inode, io.readOps, undefined);
  folio.get();
  reader.start(folio);
  const iter = new IomapIter(inode, io.ops, folio.pos, folio.size, 0, io.private);
  return run(
    readTask(iter, reader, () => {
      reader.readMapping(iter);
      io.readOps.submitRead?.(iter, reader);
    }),
  );
}

/** AddressSpaceOps.readahead over mappings: starts the reads of the control's folios. Errors end it silently: readers come back. */
export function readahead(control: ReadaheadControl, io: ReadIo): MaybePromise<void> {
  const inode = inodeOf(control.mapping);
  if (traceReadahead.channel.hasSubscribers) traceReadahead.channel.publish({ ino: inode.ino, pos: control.pos, length: control.length });
  const reader = new Reader(inode, io.readOps, control);
  const iter = new IomapIter(inode, io.ops, control.pos, control.length, 0, io.private);
  return run(
    readTask(iter, reader, () => {
      while (iter.length > 0 && iter.usableLength() > 0) {
        if (reader.curFolio !== undefined && iter.pos === reader.curFolio.end) reader.endFolio();
        if (reader.curFolio === undefined) {
          const folio = control.nextFolio();
          assert(folio !== undefined && folio.pos === iter.pos, 'readahead ran out of folios inside its range');
          reader.start(folio);
        }
        reader.readMapping(iter);
      }
      io.readOps.submitRead?.(iter, reader);
    }),
  );
}

function* readTask(iter: IomapIter, reader: Reader, body: () => void): Task<void> {
  try {
    yield* iter.each(body);
  } catch (error) {
    if (error instanceof AssertionError) throw error;
    iter.inode.reportError('buffered-read', iter.pos, iter.length, errnoOf(error));
    try {
      reader.ops.submitRead?.(iter, reader); // what was accepted before the error is still owed
    } catch {
      // The first error counts, and it was reported.
    }
  } finally {
    reader.endFolio();
  }
}

/**
 * Reads through the cache: the answer of read(2) for a file whose data is cached here.
 *
 * Shape:   bytes read, short at the end of the file; iocb.pos moves by as many.
 * Blocks:  for what is not cached; not under IOCB_NOWAIT (EAGAIN, or a short count).
 * Errors:  EIO; EINVAL, EOVERFLOW for a bad position; EIO for a bad inode.
 */
export function bufferedRead(iocb: Iocb, inode: Inode, into: Uint8Array): MaybePromise<number> {
  checkPosition('read', iocb.pos);
  if (into.length === 0) return 0;
  inode.checkGood('read');
  if ((iocb.flags & IOCB_DONTCACHE) !== 0 && !inode.allowsDontcache) throw new FsError('EOPNOTSUPP', 'read', { detail: 'DONTCACHE' });
  const done = filemapRead(inode.mapping, iocb.pos, into, {
    ra: iocb.ra ?? new ReadaheadState(),
    nowait: (iocb.flags & IOCB_NOWAIT) !== 0,
    dontcache: (iocb.flags & IOCB_DONTCACHE) !== 0,
    signal: iocb.signal,
  });
  return then(done, (count) => {
    iocb.pos += count;
    return count;
  });
}
