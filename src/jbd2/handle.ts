import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { FsError } from '../base/fs-error.ts';
import { RwLock } from '../base/lock.ts';
import { type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import type { BufferCache, BufferHead } from '../block/buffer-cache.ts';
import type { Handle, LogHooks, MetadataLog } from './log.ts';

/** Arrays kept for the next copy of a block. */
const SPARE_MAX = 128;

export interface HandleLogOptions {
  readonly hooks?: LogHooks;
  /** For commits by time. Default: none. */
  readonly clock?: Clock;
  /** How old a change gets before it is committed. Default: 5 seconds. */
  readonly commitIntervalMs?: number;
}

/** The log's lock; trims the cache in the turn in which nobody is left who may be in the middle of using a block. */
class MetadataLock extends RwLock {
  readonly #buffers: BufferCache;

  constructor(buffers: BufferCache) {
    super();
    this.#buffers = buffers;
  }

  override unlock(): void {
    super.unlock();
    if (!this.isLocked) this.#buffers.trim();
  }

  override unlockShared(): void {
    super.unlockShared();
    if (!this.isLocked) this.#buffers.trim();
  }
}

/**
 * The part of a log that its handles meet: the lock, the running transaction's members, copies of blocks.
 *
 * Invariants:
 * 1. At most one handle is open, and the lock is held exclusively for as long.
 * 2. The array of a member of the running transaction belongs to that transaction alone: nobody is writing it anywhere.
 */
export abstract class HandleLog implements MetadataLog {
  readonly lock: RwLock;
  readonly buffers: BufferCache;
  abstract readonly runningTid: number;
  abstract readonly creditsMax: number;
  abstract readonly isDirty: boolean;
  abstract readonly isBusy: boolean;
  protected readonly hooks: LogHooks;
  readonly #clock: Clock | undefined;
  readonly #intervalMs: number;
  #cancelTimer: (() => void) | undefined;
  #isClosed = false;
  #aborted: FsError | undefined;
  #isInCallback = false;
  readonly #spare: Uint8Array[] = [];

  constructor(buffers: BufferCache, options: HandleLogOptions) {
    this.buffers = buffers;
    this.lock = new MetadataLock(buffers);
    this.hooks = options.hooks ?? {};
    this.#clock = options.clock;
    this.#intervalMs = options.commitIntervalMs ?? 5000;
  }

  get aborted(): FsError | undefined {
    return this.#aborted;
  }

  abstract isCommitted(tid: number): boolean;
  abstract commit(tid?: number): MaybePromise<boolean>;
  abstract checkpoint(): MaybePromise<void>;

  /** Is the block part of the running transaction? */
  abstract isMember(bh: BufferHead): boolean;
  abstract join(bh: BufferHead): void;
  abstract leave(bh: BufferHead): void;
  abstract isRevoked(blocknr: number): boolean;
  /** Older copies of the block in the log are not to be replayed, or are again. */
  abstract setRevoked(blocknr: number, isRevoked: boolean): void;
  /** May the array, which the block had before this handle, take something else now? */
  abstract isUnused(bh: BufferHead, data: Uint8Array): boolean;
  /** Room for so many more members in the running transaction? */
  abstract hasRoom(credits: number): boolean;
  /** The handle's changes are whole and part of the running transaction. */
  protected abstract finishHandle(onCommit: readonly (() => void)[]): void;
  /** Time for what is done by time. Errors: none. */
  protected abstract onTimer(): void;
  /** What an abort leaves behind for the next mount. */
  protected abstract recordAbort(why: FsError): void;

  start(credits: number): MaybePromise<Handle> {
    assert(credits <= this.creditsMax, `a handle of ${credits} credits, the log takes ${this.creditsMax}`);
    assert(!this.#isInCallback, 'a handle inside a handle');
    return then(this.takeLock(credits), () => new LogHandle(this, credits));
  }

  /** Takes the lock for a change of `credits` blocks. Errors: as start(). */
  takeLock(credits: number): MaybePromise<void> {
    if (this.#aborted === undefined && this.lock.tryLock()) {
      if (this.hasRoom(credits)) return;
      this.lock.unlock();
    }
    return run(this.#takeLock(credits));
  }

  *#takeLock(credits: number): Task<void> {
    for (;;) {
      this.#checkWritable();
      yield* wait(this.lock.lock());
      if (this.#aborted === undefined && this.hasRoom(credits)) return;
      // A commit waits for handles: not with the lock.
      this.lock.unlock();
      if (this.#aborted === undefined) yield* wait(this.commit());
    }
  }

  #checkWritable(): void {
    if (this.#aborted !== undefined) throw new FsError('EROFS', 'write', { detail: 'the log is aborted', cause: this.#aborted });
  }

  /** What a caller gets who wants something durable after an abort. */
  protected abortError(syscall: string): FsError {
    return new FsError('EIO', syscall, { detail: 'the log is aborted', cause: this.#aborted });
  }

  /** The changes of an open handle stay. */
  endHandle(hasChanged: boolean, onCommit: readonly (() => void)[]): void {
    this.finishHandle(onCommit);
    if (hasChanged || onCommit.length > 0) this.armTimer();
    this.lock.unlock();
  }

  /** Calls something that must not begin a handle. */
  call(callback: () => void): void {
    this.#isInCallback = true;
    try {
      callback();
    } finally {
      this.#isInCallback = false;
    }
  }

  copy(data: Uint8Array): Uint8Array {
    const copy = this.#spare.pop() ?? new Uint8Array(data.length);
    copy.set(data);
    return copy;
  }

  /** An array that nobody looks at any more. */
  reuse(data: Uint8Array): void {
    if (this.#spare.length < SPARE_MAX) this.#spare.push(data);
  }

  abort(why: FsError): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = why;
    this.#stopTimer();
    this.recordAbort(why);
    this.hooks.onAbort?.(why);
  }

  close(): MaybePromise<void> {
    this.#isClosed = true;
    this.#stopTimer();
    if (this.#aborted === undefined) return this.checkpoint();
  }

  protected armTimer(): void {
    if (this.#clock === undefined || this.#cancelTimer !== undefined || this.#isClosed || this.#aborted !== undefined) return;
    this.#cancelTimer = this.#clock.timer(this.#intervalMs, () => {
      this.#cancelTimer = undefined;
      this.onTimer();
    });
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}

/** A block as it was before the handle. */
interface Before {
  /** Undefined for a block that was forgotten without being in core. */
  readonly bh: BufferHead | undefined;
  /** Undefined for a block that was not in core before it was made. */
  readonly data: Uint8Array | undefined;
  readonly checked: number;
  readonly seal: BufferHead['seal'];
  readonly isMember: boolean;
  readonly isRevoked: boolean;
  /** The handle's last word on it was forget(). */
  isForgotten: boolean;
}

/**
 * The one handle of a log, from start() to stop() or rollback().
 *
 * Invariant: while the handle is open, #blocks has the former state of every block that it touched.
 */
class LogHandle implements Handle {
  readonly log: HandleLog;
  isSync = false;
  #tid: number;
  #credits: number;
  /** Whether the lock is held for it. */
  #isOpen = true;
  /** A restart failed: nothing is left to stop or to undo. */
  #hasFailed = false;
  readonly #blocks = new Map<number, Before>();
  #onRollback: (() => void)[] = [];
  #onStop: (() => void)[] = [];
  #onCommit: (() => void)[] = [];

  constructor(log: HandleLog, credits: number) {
    this.log = log;
    this.#tid = log.runningTid;
    this.#credits = credits;
  }

  get tid(): number {
    return this.#tid;
  }

  get credits(): number {
    return this.#credits;
  }

  getWriteAccess(bh: BufferHead): Uint8Array {
    this.#checkOpen();
    assert(bh.isUptodate, `write access to block ${bh.blocknr}, which is not read`);
    const before = this.#before(bh.blocknr, bh);
    if (bh.data === before.data) bh.data = this.log.copy(bh.data);
    bh.decoded = undefined;
    this.#join(bh, before);
    return bh.data;
  }

  getCreateAccess(blocknr: number): BufferHead {
    this.#checkOpen();
    const known = this.log.buffers.peek(blocknr);
    let before = known === undefined ? this.#blocks.get(blocknr) : this.#before(blocknr, known);
    const bh = this.log.buffers.create(blocknr);
    if (before === undefined || before.bh === undefined) {
      // In core from here on only.
      before = {
        bh,
        data: undefined,
        checked: 0,
        seal: undefined,
        isMember: false,
        isRevoked: before?.isRevoked ?? this.log.isRevoked(blocknr),
        isForgotten: false,
      };
      this.#blocks.set(blocknr, before);
    }
    this.#join(bh, before);
    return bh;
  }

  forget(blocknr: number): void {
    this.#checkOpen();
    const bh = this.log.buffers.peek(blocknr);
    const before = this.#before(blocknr, bh);
    before.isForgotten = true;
    if (bh !== undefined && this.log.isMember(bh)) this.log.leave(bh);
    this.log.setRevoked(blocknr, true);
  }

  onRollback(undo: () => void): void {
    this.#checkOpen();
    this.#onRollback.push(undo);
  }

  onStop(last: () => void): void {
    this.#checkOpen();
    this.#onStop.push(last);
  }

  onCommit(done: () => void): void {
    this.#checkOpen();
    this.#onCommit.push(done);
  }

  extend(credits: number): boolean {
    this.#checkOpen();
    if (!this.log.hasRoom(this.#credits + credits)) return false;
    this.#credits += credits;
    return true;
  }

  restart(credits: number): MaybePromise<void> {
    this.#checkOpen();
    assert(credits <= this.log.creditsMax, `a handle of ${credits} credits, the log takes ${this.log.creditsMax}`);
    this.#finish();
    return run(this.#restart(credits));
  }

  *#restart(credits: number): Task<void> {
    try {
      yield* wait(this.log.takeLock(credits));
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    }
    this.#isOpen = true;
    this.#tid = this.log.runningTid;
    this.#credits = credits;
  }

  stop(): MaybePromise<void> {
    if (this.#hasFailed) return;
    this.#checkOpen();
    this.#finish();
    if (!this.isSync) return;
    return then(this.log.commit(this.#tid), () => {});
  }

  rollback(): void {
    if (this.#hasFailed) return;
    this.#checkOpen();
    this.#undo();
  }

  #checkOpen(): void {
    assert(this.#isOpen, 'use of a handle that has ended');
  }

  /** The state before this handle, noted at the first call for a block. */
  #before(blocknr: number, bh: BufferHead | undefined): Before {
    const known = this.#blocks.get(blocknr);
    if (known !== undefined && (known.bh !== undefined || bh === undefined)) return known;
    const before: Before = {
      bh,
      data: bh?.data,
      checked: bh?.checked ?? 0,
      seal: bh?.seal,
      isMember: bh !== undefined && this.log.isMember(bh),
      isRevoked: known?.isRevoked ?? this.log.isRevoked(blocknr),
      isForgotten: known?.isForgotten ?? false,
    };
    this.#blocks.set(blocknr, before);
    return before;
  }

  #join(bh: BufferHead, before: Before): void {
    before.isForgotten = false;
    if (!this.log.isMember(bh)) {
      assert(this.#credits > 0, `block ${bh.blocknr} does not fit the credits of the handle`);
      this.#credits--;
      this.log.join(bh);
    }
    this.log.setRevoked(bh.blocknr, false);
  }

  #finish(): void {
    const { log } = this;
    try {
      // What is called may add another.
      for (let i = 0; i < this.#onStop.length; i++) log.call(this.#onStop[i] as () => void);
    } catch (error) {
      this.#undo();
      throw error;
    }
    const hasChanged = this.#blocks.size > 0;
    for (const [blocknr, { bh, data, isForgotten }] of this.#blocks) {
      if (isForgotten) log.buffers.forget(blocknr);
      else if (bh !== undefined && data !== undefined && data !== bh.data && log.isUnused(bh, data)) log.reuse(data);
    }
    const onCommit = this.#onCommit;
    this.#clear();
    log.endHandle(hasChanged, onCommit);
  }

  #undo(): void {
    const { log } = this;
    try {
      for (const [blocknr, before] of this.#blocks) {
        if (before.bh !== undefined) restore(log, before.bh, before);
        log.setRevoked(blocknr, before.isRevoked);
      }
      for (const undo of this.#onRollback.reverse()) log.call(undo);
    } finally {
      this.#clear();
      log.endHandle(false, []);
    }
  }

  #clear(): void {
    this.#isOpen = false;
    this.#blocks.clear();
    this.#onRollback = [];
    this.#onStop = [];
    this.#onCommit = [];
  }
}

function restore(log: HandleLog, bh: BufferHead, before: Before): void {
  if (log.isMember(bh) !== before.isMember) {
    if (before.isMember) log.join(bh);
    else log.leave(bh);
  }
  bh.decoded = undefined;
  if (before.data === undefined) {
    log.buffers.forget(bh.blocknr);
    return;
  }
  if (bh.data !== before.data) {
    log.reuse(bh.data);
    bh.data = before.data;
  }
  bh.checked = before.checked;
  bh.seal = before.seal;
}
