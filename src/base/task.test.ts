import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deferred, isPromise, type MaybePromise, run, type Task, then, wait } from './task.ts';

function* sum(values: MaybePromise<number>[]): Task<number> {
  let total = 0;
  for (const value of values) total += yield* wait(value);
  return total;
}

test('a task that never waits answers without a promise', () => {
  assert.equal(run(sum([1, 2, 3])), 6);
  assert.equal(run(sum([])), 0);
});

test('a task that waits answers with a promise, and goes on where it stood', async () => {
  const second = deferred<number>();
  const answer = run(sum([1, second.promise, 3]));
  assert.ok(isPromise(answer));
  second.resolve(20);
  assert.equal(await answer, 24);
});

test('what a task throws before its first wait is thrown, and rejects after it', async () => {
  function* fail(first: MaybePromise<void>): Task<void> {
    yield* wait(first);
    throw new Error('stop');
  }
  assert.throws(() => run(fail(undefined)), /stop/);
  const later = run(fail(Promise.resolve()));
  assert.ok(isPromise(later));
  await assert.rejects(later, /stop/);
});

test('a rejection arrives in the task as an exception: it can be caught, and finally runs once', async () => {
  const log: string[] = [];
  function* careful(): Task<string> {
    try {
      yield* wait(Promise.reject(new Error('lost')));
      return 'never';
    } catch (error) {
      log.push((error as Error).message);
      return yield* wait(Promise.resolve('caught'));
    } finally {
      log.push('finally');
    }
  }
  assert.equal(await run(careful()), 'caught');
  assert.deepEqual(log, ['lost', 'finally']);
});

test('a rejection with undefined is an exception as well', async () => {
  function* careful(): Task<string> {
    try {
      yield* wait(Promise.reject(undefined));
      return 'nothing was thrown';
    } catch (error) {
      return `thrown: ${error}`;
    }
  }
  assert.equal(await run(careful()), 'thrown: undefined');
});

test('an answer that is itself a promise is waited for', async () => {
  function* hand(): Task<MaybePromise<number>> {
    return Promise.resolve(5);
  }
  assert.equal(await run(hand()), 5);
});

test('tasks nest without a promise, and then() keeps to the same rule', async () => {
  function* outer(inner: MaybePromise<number>): Task<number> {
    return (yield* sum([1, inner])) * 10;
  }
  assert.equal(run(outer(1)), 20);
  assert.equal(await run(outer(Promise.resolve(2))), 30);
  assert.equal(
    then(2, (value) => value + 1),
    3,
  );
  assert.equal(await then(Promise.resolve(2), (value) => value + 1), 3);
  assert.throws(() =>
    then(2, () => {
      throw new Error('at once');
    }),
  );
});

test('anything with a then is waited for, and nothing else', async () => {
  const key = 'then';
  assert.ok(isPromise({ [key]: () => {} }));
  for (const value of [undefined, null, 0, 'then', {}, [], () => {}]) assert.ok(!isPromise(value));
  const thenable = { [key]: (resolve: (value: number) => void) => resolve(9) } as unknown as Promise<number>;
  assert.equal(await run(sum([thenable])), 9);
});

test('ten thousand waits do not deepen the stack, and other tasks get their turns', async () => {
  let turns = 0;
  function* long(): Task<number> {
    for (let i = 0; i < 10_000; i++) yield* wait(Promise.resolve());
    return turns;
  }
  const other = (async () => {
    for (let i = 0; i < 100; i++, turns++) await undefined;
  })();
  assert.equal(await run(long()), 100);
  await other;
});
