import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAborted, onAbort } from './abort.ts';
import { AssertionError, assert as assertInvariant } from './assert.ts';

test('an aborted signal is EINTR with its reason as the cause; no signal is none', () => {
  checkAborted(undefined, 'read');
  const controller = new AbortController();
  checkAborted(controller.signal, 'read');
  const reason = new Error('gave up');
  controller.abort(reason);
  assert.throws(() => checkAborted(controller.signal, 'read'), { code: 'EINTR', syscall: 'read', cause: reason });
});

test('who listens is called when the signal fires, and not after it stopped listening', () => {
  const controller = new AbortController();
  const heard: string[] = [];
  onAbort(controller.signal, () => heard.push('first'));
  const stop = onAbort(controller.signal, () => heard.push('second'));
  stop();
  stop();
  assert.deepEqual(heard, []);
  controller.abort();
  assert.deepEqual(heard, ['first']);
});

test('a signal that nobody can listen to, or none, calls nobody', () => {
  const listener = () => assert.fail('called');
  onAbort(undefined, listener)();
  onAbort({ aborted: true }, listener)();
  onAbort({ aborted: false, addEventListener: () => {} }, listener)();
});

test('a broken invariant stops with a stack and a code of its own', () => {
  assertInvariant(true, 'holds');
  assert.throws(
    () => assertInvariant(false, 'does not hold'),
    (error) => error instanceof AssertionError && error.code === 'ERR_ASSERTION' && /abort\.test/.test(error.stack ?? ''),
  );
});
