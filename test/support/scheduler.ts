import type { Clock } from '../../src/base/clock.ts';
import type { Prng } from '../../src/base/prng.ts';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';
import type { Scheduler } from '../../src/block/simulated-device.ts';

/** One of the operations that run() waits for. */
export interface SimTask {
  readonly name: string;
  readonly done: Promise<unknown>;
}

interface Event {
  readonly label: string;
  readonly fire: () => void;
}

interface Timer {
  readonly due: number;
  readonly order: number;
  readonly fire: () => void;
}

export interface SimSchedulerOptions {
  /** Share of events that happen only when no other can: they hold one task up while the rest of the world goes on. Default: drawn. */
  lazyShare?: number;
  /** Called after every event, when no task can go on by itself: what may change at any await is changed here. */
  onTurn?: () => void;
  /** What a reader of a deadlock wants to know. */
  describe?: () => string;
}

/** Timers that go off one after the other while nothing else happens; more of them, and nothing ever will. */
const IDLE_TIMERS_MAX = 100;
const TURNS_MAX = 2_000_000;

/**
 * The only source of order in a simulated world: everything that waits, waits for an event here, and the seed picks which comes next.
 *
 * Invariants:
 * 1. An event fires only when every task waits: no microtask is left.
 * 2. With the same seed and the same tasks the events come in the same order.
 * 3. Time stands still except when a timer goes off; a timer goes off when nothing else can happen, and now and then before.
 */
export class SimScheduler implements Scheduler {
  readonly clock: Clock;
  /** Events fired so far. */
  turns = 0;
  onTurn: (() => void) | undefined;
  describe: (() => string) | undefined;
  readonly #prng: Prng;
  readonly #lazyShare: number;
  readonly #eager: Event[] = [];
  readonly #lazy: Event[] = [];
  #timers: Timer[] = [];
  #timerCount = 0;
  #idleTimers = 0;
  #now = 0;
  #lastLabels: string[] = [];

  constructor(prng: Prng, options: SimSchedulerOptions = {}) {
    this.#prng = prng;
    this.#lazyShare = options.lazyShare ?? prng.pick([0, 0.02, 0.1, 0.3]);
    this.onTurn = options.onTurn;
    this.describe = options.describe;
    this.clock = {
      now: () => this.#now,
      yield: () => this.pause('yield'),
      timer: (delayMs, fire) => {
        const timer = { due: this.#now + delayMs, order: this.#timerCount++, fire };
        this.#timers.push(timer);
        this.#timers.sort((a, b) => a.due - b.due || a.order - b.order);
        return () => {
          this.#timers = this.#timers.filter((each) => each !== timer);
        };
      },
    };
  }

  /** Events that may fire, timers left out. */
  get pending(): number {
    return this.#eager.length + this.#lazy.length;
  }

  post(fire: () => void, label = 'device'): void {
    (this.#prng.chance(this.#lazyShare) ? this.#lazy : this.#eager).push({ label, fire });
  }

  /** Resolves at an event of its own. */
  pause(label: string): Promise<void> {
    return new Promise((resolve) => this.post(resolve, label));
  }

  /** Starts an operation at an event of its own, so that the order of starts is drawn too. */
  spawn(name: string, body: () => MaybePromise<unknown>): SimTask {
    return { name, done: this.pause(name).then(body) };
  }

  /**
   * Fires events until all tasks are settled.
   *
   * Errors:  the first that a task rejects with, at once; an error that nobody handled; a deadlock, with the tasks that are stuck.
   */
  async run(tasks: readonly SimTask[]): Promise<void> {
    const waiting = new Set(tasks);
    await this.#drive(
      () => waiting.size === 0,
      (fail) => {
        for (const task of tasks) task.done.then(() => waiting.delete(task), fail);
      },
      () => [...waiting].map(({ name }) => name).join(', '),
    );
  }

  /** Runs one operation, with whatever else is going on, and gives its result. */
  async settle<T>(value: MaybePromise<T>, name = 'operation'): Promise<T> {
    if (isPromise(value)) await this.run([{ name, done: value }]);
    return value;
  }

  /** Fires events until none is left; timers are left alone. */
  async quiesce(): Promise<void> {
    await this.#drive(
      () => this.pending === 0,
      () => {},
      () => 'quiesce',
    );
  }

  /** Fires events while `isDone` says no. A turn comes when Node has run every microtask: ticks wait for that. */
  #drive(isDone: () => boolean, watch: (fail: (error: unknown) => void) => void, stuck: () => string): Promise<void> {
    return new Promise((resolve, reject) => {
      let failed = false;
      const settled = Promise.resolve();
      const finish = (answer: () => void): void => {
        // A macrotask later, promises that were rejected without a handler have been found out.
        setImmediate(() => {
          process.off('unhandledRejection', fail);
          answer();
        });
      };
      const fail = (error: unknown): void => {
        if (failed) return;
        failed = true;
        finish(() => reject(error));
      };
      const next = (): void => {
        if (this.turns % 1024 === 1023) setImmediate(step);
        else void settled.then(() => process.nextTick(step)); // a tick asked for in a microtask comes after the last of them
      };
      const step = (): void => {
        if (failed) return;
        if (isDone()) {
          finish(() => {
            if (!failed) resolve();
          });
          return;
        }
        try {
          if (this.turns > TURNS_MAX) throw new Error(`no end after ${TURNS_MAX} events: ${stuck()}\n${this.#state()}`);
          if (!this.#fireOne()) throw new Error(`deadlock: nothing can happen any more, and these wait: ${stuck()}\n${this.#state()}`);
          this.onTurn?.();
        } catch (error) {
          fail(error);
          return;
        }
        next();
      };
      process.on('unhandledRejection', fail);
      watch(fail);
      next();
    });
  }

  #fireOne(): boolean {
    const isTimerNext = this.pending === 0 ? this.#timers.length > 0 : this.#timers.length > 0 && this.#prng.chance(0.01);
    if (isTimerNext) {
      if (++this.#idleTimers > IDLE_TIMERS_MAX) return false;
      const timer = this.#timers.shift() as Timer;
      this.#now = Math.max(this.#now, timer.due);
      this.#note('timer');
      timer.fire();
      return true;
    }
    const events = this.#eager.length === 0 || (this.#lazy.length > 0 && this.#prng.chance(1 / 64)) ? this.#lazy : this.#eager;
    if (events.length === 0) return false;
    const at = this.#prng.below(events.length);
    const event = events[at] as Event;
    const last = events.pop() as Event;
    if (at < events.length) events[at] = last;
    if (event.label !== 'yield') this.#idleTimers = 0;
    this.#note(event.label);
    event.fire();
    return true;
  }

  #note(label: string): void {
    this.turns++;
    this.#lastLabels.push(label);
    if (this.#lastLabels.length > 64) this.#lastLabels = this.#lastLabels.slice(-32);
  }

  #state(): string {
    const state = this.describe?.() ?? '';
    return `last events: ${this.#lastLabels.slice(-20).join(' ')}\npending: ${[...this.#eager, ...this.#lazy].map(({ label }) => label).join(' ') || 'none'}\n${state}`;
  }
}
