import { errnoOf, FsError } from '../base/fs-error.ts';
import { roundUp } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import { type AddressSpace, TAG_DIRTY, TAG_TOWRITE } from '../pagecache/address-space.ts';
import { WB_SYNC_ALL, type WritebackControl } from '../pagecache/backing-device.ts';
import type { Folio } from '../pagecache/folio.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import { type Inode, inodeOf } from '../vfs/inode.ts';
import { biasWrite, clearDirtyBits, dirtyRunEnd, ensureState, hasState, nextDirty, setDirtyBits, unpendWrite } from './folio-state.ts';
import type { WritebackOps, WritepageContext } from './hooks.ts';
import { IOMAP_HOLE, Iomap } from './iomap.ts';
import { traceWritebackRange } from './trace.ts';

/** What sends dirty folios of a file. */
export interface WritebackIo {
  readonly writebackOps: WritebackOps;
}

/**
 * AddressSpaceOps.writepages over mappings: writes the dirty folios that the control chooses.
 *
 * An integrity pass first marks what is dirty now and writes only that, so that new dirt cannot make it endless; it goes on after an
 * error and throws the first. A background pass skips folios in flight and stops at the first error.
 *
 * Invariant: the batch is submitted at the end, also after an error: its folios carry the writeback bit. The error of one folio does not
 * fail the others; only where nothing the filesystem said can be trusted the batch goes as failed.
 */
export function writepages(mapping: AddressSpace, wbc: WritebackControl, io: WritebackIo): MaybePromise<void> {
  return run(pass(mapping, wbc, io));
}

function* pass(mapping: AddressSpace, wbc: WritebackControl, io: WritebackIo): Task<void> {
  const inode = inodeOf(mapping);
  const isIntegrity = wbc.syncMode === WB_SYNC_ALL;
  const wpc: WritepageContext = { inode, iomap: new Iomap(), ops: io.writebackOps, isIntegrity, nrFolios: 0, wbCtx: undefined };
  let firstError: unknown;
  const note = (error: unknown): void => {
    firstError ??= error;
  };
  const cyclicStart = wbc.rangeCyclic ? mapping.writebackIndex * PAGE_SIZE : wbc.start;
  if (isIntegrity) tagForWriteback(mapping, wbc.start, wbc.end);
  const tag = isIntegrity ? TAG_TOWRITE : TAG_DIRTY;

  // A cyclic pass goes on where the last one stopped, and then round to its start.
  const spans =
    cyclicStart > wbc.start ? [[cyclicStart, wbc.end] as const, [wbc.start, cyclicStart] as const] : [[wbc.start, wbc.end] as const];
  let stoppedAt = 0;
  passes: for (const [start, end] of spans) {
    let at = start;
    for (;;) {
      const folio = mapping.next(at, end, tag);
      if (folio === undefined) break;
      at = folio.end;
      if (wbc.onlyDropbehind && !folio.isDropbehind) continue;
      folio.get();
      if (!folio.tryLock()) {
        // Whoever holds this folio may wait for one that is in the batch: nothing unsent is kept while waiting for a lock.
        yield* flushBatch(wpc, note);
        yield* wait(folio.lock());
      }
      try {
        if (folio.isWriteback && isIntegrity) yield* waitWriteback(mapping, wpc, folio, note);
        const written = tryWriteFolio(mapping, wpc, folio);
        if (isPromise(written) ? yield written : written) wbc.nrToWrite -= folio.pages;
      } catch (error) {
        note(error);
        wbc.nrToWrite -= folio.pages;
        if (!isIntegrity) stoppedAt = folio.index + folio.pages;
      } finally {
        folio.unlock();
        folio.put();
      }
      if ((firstError !== undefined && !isIntegrity) || wbc.nrToWrite <= 0) {
        stoppedAt = folio.index + folio.pages;
        break passes;
      }
    }
  }
  if (wbc.rangeCyclic) mapping.writebackIndex = stoppedAt;
  yield* flushBatch(wpc, note, inode.isBad ? (firstError ?? new FsError('EIO', 'fsync')) : undefined);
  if (firstError !== undefined) throw firstError;
}

/** Sends what is batched; with `error` as failed. An error of the sending goes to `note`: the pass goes on with other folios. */
function* flushBatch(wpc: WritepageContext, note: (error: unknown) => void, error?: unknown): Task<void> {
  if (wpc.wbCtx === undefined) return;
  try {
    yield* wait(wpc.ops.writebackSubmit(wpc, error));
  } catch (thrown) {
    note(thrown);
  }
  wpc.nrFolios = 0;
}

/** Marks what is dirty in the range for this pass. */
function tagForWriteback(mapping: AddressSpace, start: number, end: number): void {
  for (let at = start; ; ) {
    const folio = mapping.next(at, end, TAG_DIRTY);
    if (folio === undefined) return;
    mapping.folios.setTag(folio, TAG_TOWRITE);
    at = folio.end;
  }
}

/** Waits until a locked folio that is still to be written is not in flight. */
function* waitWriteback(mapping: AddressSpace, wpc: WritepageContext, folio: Folio, note: (error: unknown) => void): Task<void> {
  while (folio.isWriteback && isToWrite(mapping, folio)) {
    yield* flushBatch(wpc, note); // its own earlier write may be what it waits for
    yield* wait(folio.waitWriteback());
  }
}

function isToWrite(mapping: AddressSpace, folio: Folio): boolean {
  return folio.mapping === mapping && (folio.isDirty || folio.isMapDirty);
}

/** Writes a locked folio if it is still to be written, and not in flight. False if there was nothing to do. */
function tryWriteFolio(mapping: AddressSpace, wpc: WritepageContext, folio: Folio): MaybePromise<boolean> {
  if (!isToWrite(mapping, folio) || folio.isWriteback || !mapping.clearDirtyForIo(folio)) return false;
  return then(writebackFolio(wpc, folio), () => true);
}

/**
 * Sends the dirty blocks of one folio, locked, not dirty any more and not in writeback.
 *
 * Errors:  the hooks' own; recorded on the mapping. The folio stays uptodate and is clean: its data can still be read.
 */
export function writebackFolio(wpc: WritepageContext, folio: Folio): MaybePromise<void> {
  return run(writeFolio(wpc, folio));
}

function* writeFolio(wpc: WritepageContext, folio: Folio): Task<void> {
  const { inode } = wpc;
  const { mapping } = inode;
  const start = folio.pos;
  let end = folio.end;
  const eof = inode.size;
  if (end > eof && !inode.hasVerityTail) {
    if (start >= eof) {
      clearDirtyBits(folio); // truncate removes it
      return;
    }
    // What a mapped view stored past the end never reaches storage.
    folio.zero(eof - start, folio.size);
    end = eof;
  }
  const blocksEnd = Math.min(roundUp(end, inode.blockSize), folio.end);
  if (folio.size > inode.blockSize && !hasState(folio)) {
    ensureState(folio, inode.blockSize);
    setDirtyBits(folio, 0, end - start);
  }
  biasWrite(folio);
  mapping.startWriteback(folio);

  let submitted = 0;
  let failure: unknown;
  try {
    inode.checkGood('fsync');
    // Without a record the folio is one block, and dirty.
    let at = hasState(folio) ? nextDirty(folio, 0, blocksEnd - start) : 0;
    while (at >= 0 && at < blocksEnd - start) {
      let left = (hasState(folio) ? dirtyRunEnd(folio, at, blocksEnd - start) : blocksEnd - start) - at;
      while (left > 0) {
        const pos = start + at;
        if (traceWritebackRange.channel.hasSubscribers) traceWritebackRange.channel.publish({ ino: inode.ino, pos, length: left });
        const answer = wpc.ops.writebackRange(wpc, folio, pos, left, end);
        const handled = (isPromise(answer) ? yield answer : answer) as number;
        if (!(handled > 0 && handled <= left)) throw new RangeError(`writebackRange handled ${handled} of ${left} bytes`);
        if (wpc.iomap.type !== IOMAP_HOLE) submitted += handled;
        if (handled < left && !hasState(folio)) throw new RangeError('writebackRange split a block');
        at += handled;
        left -= handled;
      }
      at = hasState(folio) ? nextDirty(folio, at, blocksEnd - start) : -1;
    }
  } catch (error) {
    failure = error;
  }
  if (submitted > 0) wpc.nrFolios++;
  clearDirtyBits(folio);
  if (failure !== undefined) {
    const errno = errnoOf(failure);
    inode.setError(errno);
    inode.reportError('data-lost', start, end - start, errno);
  }
  // Where all was submitted the last completion ends it, and may have done so already.
  if (hasState(folio) ? submitted < folio.size && unpendWrite(folio, folio.size - submitted) : submitted === 0) mapping.endWriteback(folio);
  if (failure !== undefined) throw failure;
}

/**
 * Called for bytes that a writeback hook accepted, exactly once, in any order, after they are where they belong: converted, remapped.
 * The caller reports errors (inode.setError) itself.
 */
export function finishFolioWrite(inode: Inode, folio: Folio, length: number): void {
  if (unpendWrite(folio, length)) inode.mapping.endWriteback(folio);
}
