import type { MaybePromise } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import type { ReadaheadControl } from '../pagecache/readahead.ts';
import type { Inode } from '../vfs/inode.ts';
import type { Iomap } from './iomap.ts';
import type { IomapIter } from './iter.ts';

/**
 * What a filesystem answers: where does this byte range live? The only vector that every filesystem has.
 *
 * Errors:  a hook that fails throws (or rejects with) an FsError; its errno is what the caller of the operation gets.
 */
export interface IomapOps {
  /**
   * Maps the range [pos, pos + length) for the operation `flags` (IOMAP_WRITE, ...).
   *
   * Shape:   fills `map`, caller-owned and cleared, with the whole extent or hole that holds `pos`; it may be larger than the
   *          request, the caller trims. For out-of-place writes also `srcmap`, with where the old bytes are.
   * Blocks:  allowed, except under IOMAP_NOWAIT: then EAGAIN.
   */
  iomapBegin(inode: Inode, pos: number, length: number, flags: number, map: Iomap, srcmap: Iomap, iter: IomapIter): MaybePromise<void>;
  /**
   * Finishes a mapping: called exactly once for each begin that succeeded. `written` bytes from `pos` of the `length` usable ones were
   * processed; what begin reserved beyond them is to be released. `map.flags` tells SIZE_CHANGED and STALE.
   */
  iomapEnd?(inode: Inode, pos: number, length: number, written: number, flags: number, map: Iomap): MaybePromise<void>;
  /** Answers come from another process or machine: a bad one is the peer's fault (EIO), not a damaged image (EUCLEAN). */
  readonly foreign?: boolean;
}

/** Hooks of operations that change cached data. All optional but readFolioRange where blocks are partly written over existing data. */
export interface WriteOps {
  /** A locked, held folio for a write of `length` bytes at `pos`; the default takes it from the cache. */
  getFolio?(iter: IomapIter, pos: number, length: number): MaybePromise<Folio>;
  /** Called for every folio that getFolio gave, with `copied` >= 0, still locked. Unlocks and puts it. */
  putFolio?(inode: Inode, pos: number, copied: number, folio: Folio): MaybePromise<void>;
  /** Is the mapping still true? Called with the folio locked, before its content is touched. Pure; no I/O. */
  iomapValid?(inode: Inode, map: Iomap): boolean;
  /** Fills exactly the bytes [pos, pos + length) of the file into the folio, before it returns or resolves. */
  readFolioRange?(iter: IomapIter, folio: Folio, pos: number, length: number): MaybePromise<void>;
  /** Head and tail block of one write are fetched as one range if at most this many bytes lie between them. Default 0. */
  readonly mergeGap?: number;
}

/** State of one read of a folio or of one readahead, shared with the read hooks. */
export interface ReadContext {
  readonly ops: ReadOps;
  /** The folio being filled. */
  readonly curFolio: Folio | undefined;
  readonly rac: ReadaheadControl | undefined;
  /** The hook's own batch. */
  readCtx: unknown;
}

/** Hooks that fetch data into folios. */
export interface ReadOps {
  /**
   * Starts, or does, the read of `length` bytes at iter.pos into ctx.curFolio. When it returns, it owes finishFolioRead for these
   * bytes exactly once, inside the call or later; when it throws, it owes nothing for them.
   */
  readFolioRange(iter: IomapIter, ctx: ReadContext, length: number): void;
  /** Sends what was batched. Called at the end of every mapping and of the whole read. */
  submitRead?(iter: IomapIter, ctx: ReadContext): void;
  /**
   * Checks bytes that came from storage, or zeros that stand for a hole, before they count as uptodate (fs-verity). Runs as a task.
   *
   * Errors:  what it throws fails the read of these bytes.
   */
  verify?(folio: Folio, offset: number, length: number): MaybePromise<void>;
}

/** State of one writeback pass over a file, shared with the writeback hooks. */
export interface WritepageContext {
  readonly inode: Inode;
  /** The mapping of the last range; the hook checks that it still holds before it uses it again. */
  readonly iomap: Iomap;
  readonly ops: WritebackOps;
  /** True in passes somebody waits for. */
  readonly isIntegrity: boolean;
  /** Folios with something in the current batch. */
  nrFolios: number;
  /** The hook's current batch. */
  wbCtx: unknown;
}

/** Hooks that send dirty data to where it lives. */
export interface WritebackOps {
  /**
   * Maps and queues up to `length` dirty bytes at `pos` of the folio; owes finishFolioWrite for what it accepted unless wpc.iomap is a
   * HOLE afterwards. Returns the bytes handled, above 0. `endPos`: the end of the file as sampled for this folio.
   */
  writebackRange(wpc: WritepageContext, folio: Folio, pos: number, length: number, endPos: number): MaybePromise<number>;
  /** Sends the current batch (wpc.wbCtx). With `error` set it completes the batch as failed; folios in it carry the writeback bit. */
  writebackSubmit(wpc: WritepageContext, error: unknown): MaybePromise<void>;
}
