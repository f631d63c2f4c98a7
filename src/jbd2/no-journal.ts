import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { flushDevice } from '../block/block-device.ts';
import type { BufferCache, BufferHead } from '../block/buffer-cache.ts';
import { HandleLog, type HandleLogOptions } from './handle.ts';

/** Dirty blocks beyond which the next handle waits for a commit. */
const DIRTY_MAX = 8192;

/**
 * The log of a volume that has none: changed blocks are dirty until a commit writes them to their places. Handles are atomic in core; a
 * crash in a commit leaves any part of it.
 */
export class NoJournal extends HandleLog {
  readonly creditsMax = DIRTY_MAX;
  #tid = 1;
  #committedTid = 0;
  /** Blocks that became dirty since the last commit began. */
  #dirtyCount = 0;
  /** A commit failed. */
  #mustCommit = false;
  #onCommit: (() => void)[] = [];
  /** The commit that runs. Those who come meanwhile wait for it, and then for the next. */
  #commit: Promise<unknown> | undefined;
  /** Arrays are on their way to the device: an array that was somebody's data before is not used for something else. */
  #isWriting = false;

  constructor(buffers: BufferCache, options: HandleLogOptions = {}) {
    super(buffers, options);
  }

  get runningTid(): number {
    return this.#tid;
  }

  get isDirty(): boolean {
    return this.#isChanged || this.#commit !== undefined;
  }

  get isBusy(): boolean {
    return this.#commit !== undefined;
  }

  isCommitted(tid: number): boolean {
    return tid <= this.#committedTid;
  }

  commit(tid: number = this.#tid): MaybePromise<boolean> {
    return this.isCommitted(tid) ? false : run(this.#commitUpTo(tid));
  }

  *#commitUpTo(tid: number): Task<boolean> {
    while (this.#commit !== undefined) {
      // Its error is for those who asked for it; the next commit writes the same blocks again.
      yield* wait(this.#commit.catch(() => {}));
      if (this.isCommitted(tid)) return false;
    }
    const done = run(this.#commitAll());
    if (!isPromise(done)) return done;
    this.#commit = done;
    try {
      return yield* wait(done as Promise<boolean>);
    } finally {
      this.#commit = undefined;
    }
  }

  *#commitAll(): Task<boolean> {
    if (this.aborted !== undefined) throw this.abortError('fsync');
    yield* wait(this.hooks.writeOrdered?.(this.#tid));
    yield* wait(this.lock.lock());
    const onCommit = this.#onCommit;
    try {
      let written: MaybePromise<void>;
      try {
        this.call(() => this.hooks.beforeCommit?.((bh) => this.#access(bh)));
        if (!this.#isChanged) return false;
        this.#onCommit = [];
        this.#dirtyCount = 0;
        this.#mustCommit = false;
        this.#tid++;
        // Blocks are sealed and taken in this turn, while no handle is open.
        this.#isWriting = true;
        written = this.buffers.writeDirty();
      } finally {
        this.lock.unlock();
      }
      const last = this.#tid - 1;
      yield* wait(written);
      yield* wait(flushDevice(this.buffers.bdev));
      this.#committedTid = last;
    } catch (error) {
      // All of it waits for the next try.
      this.#mustCommit = true;
      if (this.#onCommit !== onCommit) this.#onCommit = [...onCommit, ...this.#onCommit];
      throw error;
    } finally {
      this.#isWriting = false;
    }
    for (const done of onCommit) done();
    return true;
  }

  #access(bh: BufferHead): Uint8Array {
    bh.decoded = undefined;
    this.join(bh);
    return bh.data;
  }

  get #isChanged(): boolean {
    return this.#dirtyCount > 0 || this.#mustCommit || this.#onCommit.length > 0;
  }

  checkpoint(): MaybePromise<void> {
    return run(this.#checkpoint());
  }

  *#checkpoint(): Task<void> {
    yield* wait(this.commit());
  }

  isMember(bh: BufferHead): boolean {
    return bh.isDirty;
  }

  join(bh: BufferHead): void {
    if (!bh.isDirty) this.#dirtyCount++;
    bh.isDirty = true;
  }

  leave(bh: BufferHead): void {
    if (bh.isDirty) this.#dirtyCount--;
    bh.isDirty = false;
  }

  isRevoked(): boolean {
    return false;
  }

  setRevoked(): void {}

  isUnused(): boolean {
    return !this.#isWriting;
  }

  hasRoom(credits: number): boolean {
    return this.#dirtyCount === 0 || this.#dirtyCount + credits <= DIRTY_MAX;
  }

  protected finishHandle(onCommit: readonly (() => void)[]): void {
    for (const done of onCommit) this.#onCommit.push(done);
  }

  protected onTimer(): void {
    try {
      const done = this.commit();
      if (isPromise(done)) done.catch(() => this.armTimer());
    } catch {
      // What could not be written is dirty still; a sync says why.
      this.armTimer();
    }
  }

  protected recordAbort(): void {}
}
