import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAborted } from './abort.ts';
import { AssertionError, assert as assertInvariant } from './assert.ts';

test('an aborted signal is EINTR with its reason as the cause; no signal is none', () => {
  checkAborted(undefined, 'read');
  const controller = new AbortController();
  checkAborted(controller.signal, 'read');
  const reason = new Error('gave up');
  controller.abort(reason);
  assert.throws(() => checkAborted(controller.signal, 'read'), { code: 'EINTR', syscall: 'read', cause: reason });
});

test('a broken invariant stops with a stack and a code of its own', () => {
  assertInvariant(true, 'holds');
  assert.throws(
    () => assertInvariant(false, 'does not hold'),
    (error) => error instanceof AssertionError && error.code === 'ERR_ASSERTION' && /abort\.test/.test(error.stack ?? ''),
  );
});
