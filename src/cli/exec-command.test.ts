import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withDirectory } from './exec-command.ts';

test('the directory takes the place of {} alone and of {} before a path, and of nothing else', () => {
  const words = ['{}', '{}/a', 'x{}', '{}x', '{"a":{}}', '$1{}', ''];
  assert.deepEqual(withDirectory(words, '/d'), ['/d', '/d/a', 'x{}', '{}x', '{"a":{}}', '$1{}', '']);
});
