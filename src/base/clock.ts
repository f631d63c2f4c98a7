/** Time and turns of the event loop, injected so that a test can own both. */
export interface Clock {
  /** Milliseconds that never go back; fractions allowed. */
  now(): number;
  /** Resolves in a later turn, after I/O and timers that are due had their chance. */
  yield(): Promise<void>;
  /** Calls `fire` once after `delayMs`; returns the cancel function. A timer alone does not keep the process alive. */
  timer(delayMs: number, fire: () => void): () => void;
}

// What the host offers. Browsers, workers and Node all have the first two; setImmediate is Node's.
const host = globalThis as unknown as {
  performance: { now(): number };
  setTimeout(fire: () => void, delayMs: number): unknown;
  clearTimeout(timer: unknown): void;
  setImmediate?(fire: () => void): unknown;
};

/** The longest delay that hosts can count; they fire at once for a longer one. */
const DELAY_MAX_MS = 2 ** 31 - 1;

/** A clock that knows when its next timer is due: for who has to see to it that the event loop turns then. */
export class WatchedClock implements Clock {
  /** When the first of the timers that wait is due, in time of now(); undefined: none waits. */
  nextDue: number | undefined = undefined;
  readonly #clock: Clock;
  readonly #waiting = new Set<{ readonly due: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  yield(): Promise<void> {
    return this.#clock.yield();
  }

  timer(delayMs: number, fire: () => void): () => void {
    const entry = { due: this.#clock.now() + delayMs };
    const leave = (): void => {
      this.#waiting.delete(entry);
      this.#update();
    };
    const cancel = this.#clock.timer(delayMs, () => {
      leave();
      fire();
    });
    this.#waiting.add(entry);
    this.#update();
    return () => {
      leave();
      cancel();
    };
  }

  #update(): void {
    let next: number | undefined;
    for (const { due } of this.#waiting) if (next === undefined || due < next) next = due;
    this.nextDue = next;
  }
}

/** The host's own time. */
export const systemClock: Clock = {
  now: () => host.performance.now(),
  yield: () =>
    new Promise((resolve) => {
      if (host.setImmediate !== undefined) host.setImmediate(resolve);
      else host.setTimeout(resolve, 0);
    }),
  timer(delayMs, fire) {
    const timer = host.setTimeout(fire, Math.min(delayMs, DELAY_MAX_MS));
    (timer as { unref?: () => void }).unref?.();
    return () => host.clearTimeout(timer);
  },
};
