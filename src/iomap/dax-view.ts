import { FsError } from '../base/fs-error.ts';
import { checkRange, roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import { daxWriteback } from './dax.ts';
import { DAX_PMD_ORDER, DaxEntries, type DaxOrder, type DaxPin, type DaxPlace } from './dax-entries.ts';
import { daxFault, daxFinishSyncFault } from './dax-fault.ts';
import type { IomapOps } from './hooks.ts';

export interface DaxViewOptions {
  /** MAP_PRIVATE: stores are seen by this view only. */
  readonly isPrivate?: boolean;
  /** MAP_SYNC: a stored byte needs no more than flush() of the device to survive a crash. Takes `fsync`. */
  readonly isSync?: boolean;
  /** Makes [start, end) of the file and what leads to it durable. Default: daxWriteback, for filesystems without a journal. */
  readonly fsync?: (start: number, end: number, datasync: boolean) => MaybePromise<void>;
}

/**
 * A range of a DAX file as memory of this process: loads and stores go to the device itself.
 *
 * A load or a store is a call. It uses the file's entries as a processor uses a page table, and faults where they do not allow it.
 *
 * Errors:  EFAULT where the kernel would send SIGBUS past the end of the file; EIO for poison; those of the filesystem's hooks.
 */
export class DaxView {
  readonly inode: Inode;
  /** File position of byte 0 of the view: a multiple of the page size. */
  readonly offset: number;
  readonly length: number;
  readonly #ops: IomapOps;
  readonly #entries: DaxEntries;
  readonly #fsync: NonNullable<DaxViewOptions['fsync']>;
  readonly #isSync: boolean;
  /** Pages that a private view has stored to, by file position. */
  readonly #copies: Map<number, Uint8Array> | undefined;

  constructor(inode: Inode, offset: number, length: number, ops: IomapOps, options: DaxViewOptions = {}) {
    checkRange('mmap', offset, length);
    if (offset % PAGE_SIZE !== 0) throw new FsError('EINVAL', 'mmap', { detail: `offset ${offset} is no page` });
    if (options.isSync === true && (options.isPrivate === true || options.fsync === undefined)) {
      throw new FsError('EOPNOTSUPP', 'mmap', { detail: 'MAP_SYNC of a private view, or without fsync' });
    }
    this.inode = inode;
    this.offset = offset;
    this.length = length;
    this.#ops = ops;
    this.#entries = DaxEntries.of(inode);
    this.#isSync = options.isSync === true;
    this.#fsync = options.fsync ?? ((start, end) => daxWriteback(inode, start, end));
    this.#copies = options.isPrivate === true ? new Map() : undefined;
  }

  /** Copies the bytes [at, at + into.length) of the view. Bytes past the end of the file in its last page read as what is stored there. */
  load(at: number, into: Uint8Array): MaybePromise<void> {
    checkRange('mmap', at, into.length, this.length);
    return run(this.#load(this.offset + at, into));
  }

  *#load(pos: number, into: Uint8Array): Task<void> {
    for (let done = 0; done < into.length; ) {
      const memory = this.#memory(pos + done, into.length - done, false) ?? (yield* this.#fault(pos + done, into.length - done, false));
      into.set(memory, done);
      done += memory.length;
    }
  }

  /** Stores `from` at byte `at` of the view. What was stored before an error stays. */
  store(at: number, from: Uint8Array): MaybePromise<void> {
    checkRange('mmap', at, from.length, this.length);
    return run(this.#store(this.offset + at, from));
  }

  *#store(pos: number, from: Uint8Array): Task<void> {
    for (let done = 0; done < from.length; ) {
      const memory = this.#memory(pos + done, from.length - done, true) ?? (yield* this.#fault(pos + done, from.length - done, true));
      memory.set(from.subarray(done, done + memory.length));
      done += memory.length;
    }
  }

  /** Makes what was stored to [at, at + length) durable (MS_SYNC). */
  sync(at = 0, length: number = this.length - at): MaybePromise<void> {
    checkRange('mmap', at, length, this.length);
    if (this.#copies === undefined && length > 0) return this.#fsync(this.offset + at, this.offset + at + length, false);
  }

  /**
   * The memory of [at, at + length) itself, to be used until release(): what a device doing I/O to the view would be given.
   *
   * Shape:   truncate and punch wait for the release; the view stays usable meanwhile. Without `isWrite` nobody may store to it.
   * Errors:  EOPNOTSUPP for a private view; as load and store otherwise.
   */
  pin(at: number, length: number, isWrite: boolean): MaybePromise<DaxPin> {
    checkRange('mmap', at, length, this.length);
    if (this.#copies !== undefined) throw new FsError('EOPNOTSUPP', 'mmap', { detail: 'pin of a private view' });
    return run(this.#pin(this.offset + at, this.offset + at + length, isWrite));
  }

  *#pin(start: number, end: number, isWrite: boolean): Task<DaxPin> {
    for (;;) {
      const memory: Uint8Array[] = [];
      const places: DaxPlace[] = [];
      let pos = start;
      // All of it in one turn: a page that was mapped before another page's fault may be gone after it.
      for (let piece: Uint8Array | undefined; pos < end; pos += piece.length) {
        piece = this.#memory(pos, end - pos, isWrite);
        if (piece === undefined) break;
        memory.push(piece);
        const entry = this.#entries.find(pos);
        if (entry?.daxDev !== undefined) places.push({ daxDev: entry.daxDev, addr: entry.addr + (pos - entry.pos), length: piece.length });
      }
      if (pos === end) return this.#entries.pin(start, end, isWrite, memory, places);
      yield* this.#fault(pos, end - pos, isWrite);
    }
  }

  /** The memory at file position `pos`, at most `length` bytes; undefined if the access has to fault. */
  #memory(pos: number, length: number, isWrite: boolean): Uint8Array | undefined {
    const copy = this.#copies?.get(roundDown(pos, PAGE_SIZE));
    if (copy !== undefined) {
      if (roundDown(pos, PAGE_SIZE) >= this.inode.size) return undefined;
      const offset = pos % PAGE_SIZE;
      return copy.subarray(offset, Math.min(PAGE_SIZE, offset + length));
    }
    if (isWrite && this.#copies !== undefined) return undefined;
    const entry = this.#entries.find(pos);
    if (entry === undefined || (isWrite && !entry.isWritable)) return undefined;
    const end = Math.min(pos + length, entry.end, roundUp(this.inode.size, PAGE_SIZE));
    return end > pos ? entry.memory(pos - entry.pos, end - pos) : undefined;
  }

  /** Faults until the access is allowed: for the 2 MiB region if that can be, else for the page. Gives the memory. */
  *#fault(pos: number, length: number, isWrite: boolean): Task<Uint8Array> {
    const { inode } = this;
    const { freezeWrite } = inode.sb;
    const { invalidateLock } = inode.mapping;
    const isPrivateStore = isWrite && this.#copies !== undefined;
    const takesFreeze = isWrite && !isPrivateStore;
    if (takesFreeze) yield* wait(freezeWrite.lockShared());
    try {
      yield* wait(invalidateLock.lockShared());
      try {
        if (isPrivateStore) yield* this.#copyPage(pos);
        let order: DaxOrder = DAX_PMD_ORDER;
        for (;;) {
          // Used in the turn in which it is found, before anything can take it away.
          const memory = this.#memory(pos, length, isWrite);
          if (memory !== undefined) return memory;
          if (!(yield* this.#faultOnce(pos, isWrite, order))) order = 0;
        }
      } finally {
        invalidateLock.unlockShared();
      }
    } finally {
      if (takesFreeze) freezeWrite.unlockShared();
    }
  }

  /** False if the fault has to be tried again for the page. */
  *#faultOnce(pos: number, isWrite: boolean, order: DaxOrder): Task<boolean> {
    const area = { areaStart: this.offset, areaEnd: this.offset + this.length };
    const result = yield* wait(daxFault(this.inode, { pos, isWrite, order, isSync: this.#isSync, ...area }, this.#ops));
    if (result.outcome === 'needDsync') yield* wait(daxFinishSyncFault(this.inode, result, this.#fsync));
    return result.outcome !== 'fallback';
  }

  *#copyPage(pos: number): Task<void> {
    const page = roundDown(pos, PAGE_SIZE);
    const cowPage = new Uint8Array(PAGE_SIZE);
    const area = { areaStart: this.offset, areaEnd: this.offset + this.length };
    yield* wait(daxFault(this.inode, { pos, isWrite: true, order: 0, cowPage, ...area }, this.#ops));
    if (this.#copies?.has(page) !== true) this.#copies?.set(page, cowPage);
  }
}
