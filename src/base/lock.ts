import { assert } from './assert.ts';
import { Fifo } from './fifo.ts';

interface Waiter {
  readonly exclusive: boolean;
  readonly grant: () => void;
}

/**
 * Shared and exclusive lock for tasks on one event loop.
 *
 * Invariants:
 * 1. holders = -1 when held exclusively, the number of shared holders otherwise.
 * 2. First come, first served: nobody passes a waiter, so a writer is not starved by readers.
 * 3. A lock is handed over in the turn in which it is unlocked: between unlock and the waiter's next step nobody else gets it.
 * 4. No re-entrance.
 */
export class RwLock {
  #holders = 0;
  #waiters: Fifo<Waiter> | undefined;

  /** True while somebody holds the lock exclusively. */
  get isExclusive(): boolean {
    return this.#holders < 0;
  }

  get isLocked(): boolean {
    return this.#holders !== 0;
  }

  tryLock(): boolean {
    if (this.#holders !== 0) return false;
    this.#holders = -1;
    return true;
  }

  tryLockShared(): boolean {
    if (this.#holders < 0 || (this.#waiters !== undefined && this.#waiters.length > 0)) return false;
    this.#holders++;
    return true;
  }

  /** Takes the lock exclusively; a promise when it has to wait. */
  lock(): void | Promise<void> {
    if (!this.tryLock()) return this.#wait(true);
  }

  lockShared(): void | Promise<void> {
    if (!this.tryLockShared()) return this.#wait(false);
  }

  unlock(): void {
    assert(this.#holders === -1, 'unlock of a lock that is not held exclusively');
    this.#holders = 0;
    this.#grant();
  }

  unlockShared(): void {
    assert(this.#holders > 0, 'unlockShared of a lock that is not held shared');
    if (--this.#holders === 0) this.#grant();
  }

  #wait(exclusive: boolean): Promise<void> {
    this.#waiters ??= new Fifo();
    const waiters = this.#waiters;
    return new Promise((grant) => {
      waiters.push({ exclusive, grant });
    });
  }

  #grant(): void {
    const waiters = this.#waiters;
    if (waiters === undefined) return;
    for (let next = waiters.peek(); next !== undefined; next = waiters.peek()) {
      if (next.exclusive) {
        if (this.#holders !== 0) return;
        this.#holders = -1;
      } else {
        if (this.#holders < 0) return;
        this.#holders++;
      }
      waiters.shift();
      next.grant();
    }
  }
}
