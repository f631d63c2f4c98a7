import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deferred } from '../../base/task.ts';
import { LockOwners, NO_OWNER } from './lock-owners.ts';

test('an owner has one number over all open files, until the last one is done with him', () => {
  const owners = new LockOwners();
  assert.equal(owners.find(7n), NO_OWNER);
  const number = owners.note(1, 7n);
  assert.notEqual(number, NO_OWNER);
  assert.equal(owners.note(2, 7n), number);
  assert.notEqual(owners.note(2, 8n), number);
  owners.drop(1, 7n);
  assert.equal(owners.find(7n), number);
  owners.drop(1, 7n);
  owners.drop(2, 7n);
  assert.equal(owners.find(7n), NO_OWNER);
  assert.equal(owners.take(2).length, 1);
  assert.equal(owners.size, 0);
});

test('an open file that ends tells whom it had, once', () => {
  const owners = new LockOwners();
  const numbers = [owners.note(1, 1n), owners.note(1, 2n)];
  assert.deepEqual(owners.take(1), numbers);
  assert.deepEqual(owners.take(1), []);
  assert.equal(owners.size, 0);
});

test('who waits for a lock stays who he is although his file is closed, and is known when he gets it', async () => {
  const owners = new LockOwners();
  const number = owners.note(1, 7n);
  const request = deferred();
  owners.hold(1, 7n, request.promise);
  owners.drop(1, 7n);
  assert.equal(owners.find(7n), number);
  request.resolve();
  await request.promise;
  assert.equal(owners.note(1, 7n), number);
  assert.deepEqual(owners.take(1), [number]);
  assert.equal(owners.size, 0);
});
