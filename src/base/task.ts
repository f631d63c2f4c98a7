// One loop for the answer that is in memory and for the one that waits: an operation is written once, as a generator that yields
// a promise only where it has to wait. run() drives it; as long as nothing is yielded it runs to its end without a promise.

/** An operation that may wait. It yields promises and is resumed with what they resolve to. */
export type Task<T> = Generator<PromiseLike<unknown>, T, unknown>;

/** A value, or the promise of one where the answer has to wait. */
export type MaybePromise<T> = T | Promise<T>;

export function isPromise(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

/**
 * Inside a Task, and for `yield*` at once: the value itself, or what the promise resolves to. Most values are there already, and a generator for
 * each would take longer than much of what the Tasks do: one object answers for all of them.
 */
export function wait<T>(value: MaybePromise<T>): Task<T> {
  if (isPromise(value)) return resolved(value) as Task<T>;
  atHand.step.value = value;
  return atHand as unknown as Task<T>;
}

function* resolved(value: PromiseLike<unknown>): Task<unknown> {
  return yield value;
}

/** A Task that has ended before it begins: with the value of the last wait(). */
const atHand = {
  step: { done: true, value: undefined as unknown },
  next: () => atHand.step,
  [Symbol.iterator]: () => atHand,
};

/** Runs a Task: answers at once when it never waits, and with a promise otherwise. What the Task throws before its first wait is thrown. */
export function run<T>(task: Task<T>): MaybePromise<T> {
  const step = task.next();
  return step.done === true ? step.value : settle(task, step.value);
}

async function settle<T>(task: Task<T>, first: PromiseLike<unknown>): Promise<T> {
  let pending = first;
  for (;;) {
    let value: unknown;
    let failed = false;
    try {
      value = await pending;
    } catch (error) {
      failed = true;
      value = error;
    }
    const step = failed ? task.throw(value) : task.next(value);
    if (step.done === true) return step.value;
    pending = step.value;
  }
}

/** Goes on with `next` at once or when the promise resolves. */
export function then<T, R>(value: MaybePromise<T>, next: (value: T) => MaybePromise<R>): MaybePromise<R> {
  return isPromise(value) ? (value as Promise<T>).then(next) : next(value);
}

/** A promise with its two ends in reach. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
