import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { FsError } from '../base/fs-error.ts';
import { abortError, face, systemError, unlessAborted } from './node-error.ts';

test('an error with its face on is that of node:fs', () => {
  const ours = face(new FsError('ENOENT', 'lookup'), 'stat', '/nonexistent/x') as FsError;
  try {
    fs.statSync('/nonexistent/x');
    assert.fail('it exists');
  } catch (error) {
    const theirs = error as NodeJS.ErrnoException;
    assert.equal(ours.message, theirs.message);
    assert.equal(ours.name, theirs.name);
    assert.deepEqual({ ...ours }, { ...theirs });
    assert.deepEqual(Object.keys(ours), Object.keys(theirs));
  }
});

test('two paths are shown with an arrow, and bytes that are no text as U+FFFD', () => {
  const error = face(new FsError('EXDEV', 'rename'), 'rename', '/a\udcff', '/b') as FsError;
  assert.equal(error.message, "EXDEV: cross-device link not permitted, rename '/a\ufffd' -> '/b'");
  assert.equal(error.dest, '/b');
});

test('what an error said beyond its code is kept as its cause', () => {
  const detailed = new FsError('EUCLEAN', 'read', { detail: 'extent 3 overlaps' });
  assert.equal((face(detailed, 'read') as Error).cause, detailed);
  assert.equal((face(detailed, 'read') as Error).message, 'EUCLEAN: structure needs cleaning, read');
  assert.equal((face(new FsError('EIO', 'read'), 'read') as Error).cause, undefined);
  const native = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', errno: -5 });
  assert.equal((face(native, 'read') as Error).cause, native);
});

test('what has no error number passes as it is', () => {
  const mistake = new TypeError('x');
  assert.equal(face(mistake, 'read'), mistake);
});

test('an aborted operation fails as in Node', async () => {
  const signal = AbortSignal.abort();
  const ours = abortError(signal) as Error & { code: string };
  const theirs = (await fs.promises.readFile(import.meta.filename, { signal }).catch((error: unknown) => error)) as Error & {
    code: string;
  };
  for (const key of ['name', 'code', 'message', 'cause'] as const) assert.equal(ours[key], theirs[key]);
  assert.equal(String(ours), String(theirs));
  assert.deepEqual(Object.keys(ours).sort(), Object.keys(theirs).sort());
});

test('EINTR means aborted only to the one who has aborted', () => {
  const interrupted = new FsError('EINTR', 'read');
  assert.equal(unlessAborted(interrupted, undefined), interrupted);
  assert.equal(unlessAborted(interrupted, new AbortController().signal), interrupted);
  assert.equal((unlessAborted(interrupted, AbortSignal.abort()) as Error).name, 'AbortError');
  const other = new FsError('EIO', 'read');
  assert.equal(unlessAborted(other, AbortSignal.abort()), other);
});

test('a system error is shaped as that of fs.cp', async () => {
  const dir = fs.mkdtempSync('/tmp/iomap-');
  try {
    const theirs = (await fs.promises.cp(dir, `${dir}-copy`).catch((error: unknown) => error)) as Error & { info: object };
    const ours = systemError('ERR_FS_EISDIR', 'Path is a directory', {
      message: `${dir} is a directory (not copied)`,
      path: dir,
      syscall: 'cp',
      errno: 21,
      code: 'EISDIR',
    }) as Error & { info: object };
    assert.equal(ours.message, theirs.message);
    assert.equal(ours.name, theirs.name);
    assert.equal(String(ours), String(theirs));
    assert.deepEqual({ ...ours }, { ...theirs });
    assert.deepEqual(Object.keys(ours.info), Object.keys(theirs.info));
  } finally {
    fs.rmdirSync(dir);
  }
});
