import { isPromise } from './task.ts';

/**
 * Work that must not run on the stack of whoever completes a request: it may need locks that the code on that stack holds.
 * Each piece starts in a microtask of its own, in the order posted; pieces that wait do not hold up the next.
 */
export class WorkQueue {
  #running = 0;
  #idle: (() => void)[] = [];

  /** Pieces posted and not finished. */
  get pending(): number {
    return this.#running;
  }

  post(work: () => unknown): void {
    this.#running++;
    void Promise.resolve().then(() => {
      try {
        const done = work();
        if (isPromise(done)) void done.then(this.#done, this.#failed);
        else this.#done();
      } catch (error) {
        this.#failed(error);
      }
    });
  }

  /** Resolves when nothing is pending. */
  async drain(): Promise<void> {
    while (this.#running > 0) await new Promise<void>((wake) => this.#idle.push(wake));
  }

  readonly #done = (): void => {
    if (--this.#running > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const wake of idle) wake();
  };

  // Completion work reports its own errors to where they belong. What still gets here is a bug, and goes to the host's handler.
  readonly #failed = (error: unknown): void => {
    this.#done();
    throw error;
  };
}
