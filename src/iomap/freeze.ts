import { FsError } from '../base/fs-error.ts';
import { RwLock } from '../base/lock.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { SuperBlock } from '../vfs/super-block.ts';
import { type SyncFsOps, syncFs } from './fsync.ts';

/** What freezing takes of a filesystem beside syncing. */
export interface FreezeOps extends SyncFsOps {
  /** Everything is synced and no transaction runs: brings storage into a state that mounts without recovery. */
  freezeFs?(): MaybePromise<void>;
  /** Undoes freezeFs, before transactions run again. */
  thawFs?(): MaybePromise<void>;
}

/**
 * Freezing of one filesystem: storage stands still, in a state that can be copied.
 *
 * Levels, each reached only after the one before is complete:
 *   write       no writer, truncate, fallocate or new store through a mapped view; those that run end first
 *   synced      everything is on storage
 *   fs          no transaction; those that run end first
 *   complete    freezeFs() is done
 *
 * Invariants:
 * 1. `count` freezes are to be thawed; the filesystem is frozen exactly while it is above 0 and no change is under way.
 * 2. Freezing and thawing come one after the other, first come first served.
 * 3. A freeze that fails leaves the filesystem as it was; a thaw that fails leaves it frozen.
 */
export class Freezer {
  readonly #sb: SuperBlock;
  readonly #ops: FreezeOps;
  readonly #changing = new RwLock();
  #count = 0;

  constructor(sb: SuperBlock, ops: FreezeOps) {
    this.#sb = sb;
    this.#ops = ops;
  }

  get isFrozen(): boolean {
    return this.#count > 0;
  }

  /** Freezes, or adds one to the freezes of a frozen filesystem. Blocks: for writers, for all dirty data, for transactions. Errors: those of syncing and of the hook. */
  freeze(): MaybePromise<void> {
    return run(this.#freeze());
  }

  /** Takes one freeze back; the last one thaws. Errors: EINVAL where nothing is frozen; those of the hook. */
  thaw(): MaybePromise<void> {
    return run(this.#thaw());
  }

  *#freeze(): Task<void> {
    const { freezeWrite, freezeFs } = this.#sb;
    yield* wait(this.#changing.lock());
    try {
      if (this.#count === 0) {
        yield* wait(freezeWrite.lock());
        try {
          yield* wait(syncFs(this.#ops));
          yield* wait(freezeFs.lock());
          try {
            yield* wait(this.#ops.freezeFs?.());
          } catch (error) {
            freezeFs.unlock();
            throw error;
          }
        } catch (error) {
          freezeWrite.unlock();
          throw error;
        }
      }
      this.#count++;
    } finally {
      this.#changing.unlock();
    }
  }

  *#thaw(): Task<void> {
    yield* wait(this.#changing.lock());
    try {
      if (this.#count === 0) throw new FsError('EINVAL', 'thaw', { detail: 'not frozen' });
      if (this.#count === 1) {
        yield* wait(this.#ops.thawFs?.());
        this.#sb.freezeFs.unlock();
        this.#sb.freezeWrite.unlock();
      }
      this.#count--;
    } finally {
      this.#changing.unlock();
    }
  }
}
