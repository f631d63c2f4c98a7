import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FileDescription } from '../vfs/file-description.ts';
import { FdTable } from './fd-table.ts';

const file = (name: string) => ({ name }) as unknown as FileDescription;

test('the lowest free descriptor is given out, from 3 on', () => {
  const fds = new FdTable();
  assert.deepEqual([fds.add(file('a')), fds.add(file('b')), fds.add(file('c'))], [3, 4, 5]);
  fds.remove(4, 'close');
  fds.remove(3, 'close');
  assert.deepEqual([fds.add(file('d')), fds.add(file('e')), fds.add(file('f'))], [3, 4, 6]);
  assert.equal(fds.size, 4);
});

test('a descriptor that is not open is EBADF in the call that asks', () => {
  const fds = new FdTable();
  const fd = fds.add(file('a'));
  fds.remove(fd, 'close');
  for (const bad of [fd, 0, 99, -1])
    assert.throws(() => fds.get(bad, 'fstat'), { code: 'EBADF', message: 'EBADF: bad file descriptor, fstat' });
  assert.throws(() => fds.remove(fd, 'close'), { code: 'EBADF', syscall: 'close' });
});

test('a descriptor that has got another file is not released', () => {
  const fds = new FdTable();
  const [first, second] = [file('a'), file('b')];
  const fd = fds.add(first);
  fds.remove(fd, 'close');
  assert.equal(fds.add(second), fd);
  fds.release(fd, first);
  assert.equal(fds.get(fd, 'read'), second);
  fds.release(fd, second);
  assert.equal(fds.size, 0);
});
