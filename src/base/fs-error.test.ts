import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { getSystemErrorMap } from 'node:util';
import { codeOf, ERRNO, type ErrnoCode, messageOf } from './errno.ts';
import { errnoOf, FsError, type FsErrorDetail, hasCode } from './fs-error.ts';

const isLinux = process.platform === 'linux';
const missing = join(import.meta.dirname, 'no-such-directory', 'no-such-file');

interface NativeError extends Error {
  code: ErrnoCode;
  errno: number;
  syscall: string;
  path?: string;
  dest?: string;
}

function caught(run: () => unknown): NativeError {
  try {
    run();
  } catch (error) {
    return error as NativeError;
  }
  throw new Error('nothing was thrown');
}

// Each is an error that node:fs really throws, so that the words and fields are Node's own and not our memory of them.
const natives: Record<string, () => unknown> = {
  'no path': () => {
    const fd = fs.openSync('/dev/null', 'r');
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  },
  'one path': () => fs.openSync(missing, 'r'),
  'two paths': () => fs.renameSync(missing, `${missing}-2`),
  'a file that is there': () => fs.mkdirSync(import.meta.dirname),
  'a directory': () => fs.readFileSync(import.meta.dirname),
  'a file as directory': () => fs.readdirSync(join(import.meta.filename, 'x')),
  'a bad descriptor': () => fs.fstatSync(1_000_000),
};

for (const [what, provoke] of Object.entries(natives)) {
  test(`has the shape of the node:fs error: ${what}`, { skip: isLinux ? false : 'the numbers are those of Linux' }, () => {
    const native = caught(provoke);
    const detail: FsErrorDetail = {};
    if (native.path !== undefined) detail.path = native.path;
    if (native.dest !== undefined) detail.dest = native.dest;
    const ours = new FsError(native.code, native.syscall, detail);
    assert.equal(ours.message, native.message);
    assert.equal(ours.name, native.name);
    assert.equal(String(ours), String(native));
    assert.deepEqual(Object.entries(ours), Object.entries(native)); // fields, and their order in what people print
    assert.deepEqual(Object.getOwnPropertyNames(ours).sort(), Object.getOwnPropertyNames(native).sort());
    assert.equal(JSON.stringify(ours), JSON.stringify(native));
    assert.equal(ours.stack?.split('\n')[0], native.stack?.split('\n')[0]);
    assert.ok(ours instanceof Error);
    assert.equal(errnoOf(native), native.errno);
    assert.equal(errnoOf(ours), native.errno);
    assert.ok(hasCode(native, native.code) && hasCode(ours, native.code));
  });
}

test('every number and every word that Node knows is the same here', { skip: isLinux ? false : 'the numbers are those of Linux' }, () => {
  const node = new Map([...getSystemErrorMap()].map(([number, [code, message]]) => [code, { number, message }]));
  let compared = 0;
  for (const code of Object.keys(ERRNO) as ErrnoCode[]) {
    const expected = node.get(code);
    if (expected === undefined) continue;
    compared++;
    assert.equal(-ERRNO[code], expected.number, code);
    assert.equal(messageOf(code), expected.message, code);
  }
  assert.ok(compared > 60, `compared ${compared}`);
});

test('an error with a cause and a detail says both', () => {
  const cause = new Error('underneath');
  const error = new FsError('EIO', 'read', { cause, detail: 'byte 7' });
  assert.equal(error.message, 'EIO: i/o error, read (byte 7)');
  assert.equal(error.cause, cause);
  assert.ok(!Object.keys(error).includes('cause'));
  assert.ok(!('cause' in new FsError('EIO', 'read')));
});

test('numbers of either sign have names, and what is no error number is EIO', () => {
  for (const [code, number] of Object.entries(ERRNO)) {
    assert.equal(ERRNO[codeOf(number)], number, code);
    assert.equal(FsError.of(-number, 'read').errno, -number, code);
  }
  assert.equal(codeOf(-28), 'ENOSPC');
  assert.equal(codeOf(0), 'EIO');
  assert.equal(codeOf(99999), 'EIO');
});

test('anything thrown has a number', () => {
  for (const thrown of [undefined, null, 5, 'EIO', {}, new Error('x'), { code: 'ERR_INVALID_ARG_TYPE' }, { code: 20 }])
    assert.equal(errnoOf(thrown), -5);
  for (const code of ['constructor', 'toString', '__proto__']) assert.equal(errnoOf({ code }), -5, code);
  assert.equal(errnoOf({ code: 'ENOSPC' }), -28);
  assert.ok(!hasCode(undefined, 'EIO') && !hasCode('EIO', 'EIO'));
});
