import type { FsError } from '../base/fs-error.ts';
import type { RwLock } from '../base/lock.ts';
import type { MaybePromise } from '../base/task.ts';
import type { BufferHead } from '../block/buffer-cache.ts';

/**
 * One atomic change of metadata: what is changed in one handle is on the device wholly or not at all after a crash (with a journal), and
 * in core wholly or not at all after an error (always: rollback).
 *
 * The holder has the log's lock exclusively from start() to stop(): there is one handle at a time, and nobody reads half a change. It waits
 * for nothing but the reads of its own blocks meanwhile: not for folios, not for data, not for a commit.
 */
export interface Handle {
  readonly log: MetadataLog;
  /** The transaction that the changes belong to. */
  readonly tid: number;
  /** Blocks that may still join. */
  readonly credits: number;
  /**
   * The content of a block, to be changed by the caller until stop(): the array is bh.data from now on, and the block part of the
   * transaction. Idempotent. What was read from bh.data before is the old content.
   */
  getWriteAccess(bh: BufferHead): Uint8Array;
  /** As getWriteAccess for a block that is new in its role: all zero, without a read. Takes back a forget of the same transaction. */
  getCreateAccess(blocknr: number): BufferHead;
  /**
   * A block of metadata (or of journalled data) is freed: older copies of it in the log are not replayed, and it is never written home
   * again once this transaction is committed.
   */
  forget(blocknr: number): void;
  /** Takes back something in core if the handle is rolled back. Called newest first. */
  onRollback(undo: () => void): void;
  /** Before the handle stops; what it does is part of the handle. Answers at once. */
  onStop(last: () => void): void;
  /** After the transaction is durable: freed blocks may be used again, say. Not called when the log was aborted before. */
  onCommit(done: () => void): void;
  /** The caller wants the commit before it answers: stop() returns only when it is done. */
  isSync: boolean;
  /** Room for `credits` more blocks in this transaction? If not, the caller makes everything whole and restarts. */
  extend(credits: number): boolean;
  /** Stops, with everything whole as it is, and starts anew: others may come in between. Cannot be rolled back behind it. */
  restart(credits: number): MaybePromise<void>;
  /** Ends the change. Errors: of a commit that was asked for by isSync. */
  stop(): MaybePromise<void>;
  /** Undoes the change in core, then ends it. */
  rollback(): void;
}

/**
 * Where metadata goes: a journal (journal.ts), or straight home (no-journal.ts).
 *
 * Invariants:
 * 1. `lock` is held exclusively by each handle, by the switch of transactions in a commit, and shared by those who only read metadata.
 * 2. Nobody who holds `lock`, in either way, waits for a commit.
 */
export interface MetadataLog {
  readonly lock: RwLock;
  /** The transaction that takes changes now: of the next handle, at least. */
  readonly runningTid: number;
  /** Why nothing can be changed any more. */
  readonly aborted: FsError | undefined;
  /** Blocks that a handle may have at most. */
  readonly creditsMax: number;
  /** Begins a change of at most `credits` blocks. Errors: EROFS after an abort; those of a commit that had to make room. */
  start(credits: number): MaybePromise<Handle>;
  /** Is there anything that a crash now would lose? */
  readonly isDirty: boolean;
  /** A commit or a checkpoint is under way, and waits for a device. */
  readonly isBusy: boolean;
  /** True if everything up to this transaction is durable. */
  isCommitted(tid: number): boolean;
  /**
   * Everything up to `tid` (default: up to now) is durable at return. Shape: true if the device was flushed for it meanwhile.
   *
   * Errors: EIO of the log, which is aborted by it.
   */
  commit(tid?: number): MaybePromise<boolean>;
  /** Everything is home and durable, and the log empty. */
  checkpoint(): MaybePromise<void>;
  /** No change from here on: later handles get EROFS, and what is not committed never will be. Idempotent. */
  abort(why: FsError): void;
  /** checkpoint(), unless aborted, and the end of timers. */
  close(): MaybePromise<void>;
}

/** What a log asks of the filesystem above it. */
export interface LogHooks {
  /**
   * A transaction is about to be closed: the lock is held exclusively, no handle is open. What is late in core is put into blocks here, by
   * `access` as by Handle.getWriteAccess.
   */
  beforeCommit?(access: (bh: BufferHead) => Uint8Array): void;
  /**
   * Writes file data that has to be on the device before transaction `tid` may be: the lock is not held. It need not flush. An error aborts
   * a journal: who can do without the data keeps it to itself.
   */
  writeOrdered?(tid: number): MaybePromise<void>;
  /** The log is aborted. */
  onAbort?(why: FsError): void;
}
