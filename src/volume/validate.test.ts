import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { ownerChanges, readTarget, writeTarget } from './file-calls.ts';
import {
  invalidType,
  toFlags,
  toMode,
  toOptions,
  toPath,
  toTimestamp,
  validateBoolean,
  validateBuffer,
  validateBuffers,
  validateFd,
  validateFunction,
  validateInteger,
  validateObject,
} from './validate.ts';

/** A path that does not exist: what node:fs says about other arguments comes before it looks. */
const NOWHERE = '/nonexistent/iomap';

interface Thrown {
  name: string;
  code: unknown;
  message: string;
}

/** Our error for a value and Node's are told apart by nothing that a program can see. */
function sameAsNode(values: readonly unknown[], ours: (value: unknown) => unknown, nodes: (value: never) => unknown): void {
  for (const value of values) {
    const expected = thrown(() => nodes(value as never));
    const actual = thrown(() => ours(value));
    // What Node does not mind fails with a system call, or not at all.
    const isArgumentError = typeof expected?.code === 'string' && expected.code.startsWith('ERR_');
    assert.deepEqual(actual, isArgumentError ? expected : undefined, `for ${inspect(value)}`);
  }
}

function thrown(call: () => unknown): Thrown | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    const { name, code, message } = error as Error & { code?: unknown };
    return { name, code, message };
  }
}

const odd = [
  undefined,
  null,
  5,
  1.5,
  Number.NaN,
  12n,
  true,
  '',
  'x',
  Symbol('x'),
  {},
  [],
  new Map(),
  () => {},
  class A {},
  Object.create(null),
];

test('paths are refused as node:fs refuses them', () => {
  class Foo {
    a = 1;
  }
  const values = [
    ...odd.filter((value) => typeof value !== 'string'),
    -0,
    'a\0b',
    `${'x'.repeat(5000)}\0`,
    Buffer.from('a\0b'),
    new Uint16Array([47]),
    new DataView(new ArrayBuffer(3)),
    new Foo(),
    new URL('http://x/y'),
    new URL('file:///etc/a%2Fb'),
    new URL('file:///etc%00'),
    new URL('file://host/etc'),
    { href: 'file:///etc/', protocol: 'file:' },
  ];
  sameAsNode(values, toPath, (value) => fs.statSync(value));
});

test('a path keeps every byte', () => {
  assert.equal(toPath('/ä'), '/ä');
  assert.equal(toPath(Buffer.from('/ä')), '/ä');
  assert.equal(toPath(new Uint8Array([0x2f, 0xff])), '/\udcff');
  assert.equal(toPath('/\udcff'), '/\ufffd', 'a lone surrogate of the caller is no byte');
  assert.equal(toPath(new URL('file:///a%20b')), '/a b');
  assert.equal(toPath(''), '');
});

test('the name of an argument is in its error', () => {
  assert.throws(() => toPath(5, 'target'), /The "target" argument must be of type string/);
  assert.throws(() => toPath('\0', 'oldPath'), /The argument 'oldPath' must be a string/);
});

test('flags are those of node:fs', () => {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_SYNC } = fs.constants;
  const write = O_TRUNC | O_CREAT;
  const append = O_APPEND | O_CREAT;
  const expected: Record<string, number> = {
    r: O_RDONLY,
    rs: O_RDONLY | O_SYNC,
    sr: O_RDONLY | O_SYNC,
    'r+': O_RDWR,
    'rs+': O_RDWR | O_SYNC,
    'sr+': O_RDWR | O_SYNC,
    w: write | O_WRONLY,
    wx: write | O_WRONLY | O_EXCL,
    xw: write | O_WRONLY | O_EXCL,
    'w+': write | O_RDWR,
    'wx+': write | O_RDWR | O_EXCL,
    'xw+': write | O_RDWR | O_EXCL,
    a: append | O_WRONLY,
    ax: append | O_WRONLY | O_EXCL,
    xa: append | O_WRONLY | O_EXCL,
    as: append | O_WRONLY | O_SYNC,
    sa: append | O_WRONLY | O_SYNC,
    'a+': append | O_RDWR,
    'ax+': append | O_RDWR | O_EXCL,
    'xa+': append | O_RDWR | O_EXCL,
    'as+': append | O_RDWR | O_SYNC,
    'sa+': append | O_RDWR | O_SYNC,
  };
  for (const [text, flags] of Object.entries(expected)) assert.equal(toFlags(text), flags, text);
  assert.equal(toFlags(undefined), O_RDONLY);
  assert.equal(toFlags(null, 'w'), write | O_WRONLY);
  assert.equal(toFlags(O_RDWR), O_RDWR);
});

test('flags and modes are refused as node:fs refuses them', () => {
  const numbers = [-1, 2 ** 31, 2 ** 32, Number.POSITIVE_INFINITY];
  sameAsNode([...odd, ...numbers, 'R', 'rw', 'wr', 's', 'wxs'], toFlags, (value) => fs.openSync(NOWHERE, value));
  // 2 ** 31 is fine for Node's check and ends the process in its C++.
  const modes = [...odd, ...numbers.filter((value) => value !== 2 ** 31), '755', '0o755', '8', '777777777777', '-1'];
  sameAsNode(
    modes,
    (value) => toMode(value),
    (value) => fs.chmodSync(NOWHERE, value),
  );
  sameAsNode(
    modes,
    (value) => toMode(value, 0o666),
    (value) => fs.openSync(NOWHERE, 'r', value),
  );
  assert.equal(toMode('755'), 0o755);
  assert.equal(toMode(undefined, 0o644), 0o644);
});

test('moments are refused as node:fs refuses them, and are otherwise exact', () => {
  const values = [...odd, '', 'abc', '0x10', ' 5 ', '1e3', Number.POSITIVE_INFINITY, new Date(0)];
  sameAsNode(values, toTimestamp, (value) => fs.utimesSync(NOWHERE, value, 0));
  assert.deepEqual(toTimestamp(1.5), { sec: 1, nsec: 500_000_000 });
  assert.deepEqual(toTimestamp('-0.5'), { sec: -1, nsec: 500_000_000 });
  assert.deepEqual(toTimestamp(new Date(1_700_000_000_123)), { sec: 1_700_000_000, nsec: 123_000_000 });
  assert.deepEqual(toTimestamp(new Date(-1500)), { sec: -2, nsec: 500_000_000 });
  assert.ok(Math.abs(toTimestamp(-5).sec - Date.now() / 1000) < 60, 'a negative number means now');
  assert.throws(() => toTimestamp(new Date(Number.NaN)), { code: 'EINVAL' });
});

test('owners and descriptors are refused as node:fs refuses them', () => {
  const values = [...odd, -2, -1, 2 ** 32, 2 ** 32 - 1, '0'];
  sameAsNode(
    values,
    (value) => ownerChanges(value, 0),
    (value) => fs.chownSync(NOWHERE, value, 0),
  );
  sameAsNode(
    values,
    (value) => ownerChanges(0, value),
    (value) => fs.chownSync(NOWHERE, 0, value),
  );
  assert.deepEqual(ownerChanges(-1, 7), { gid: 7 });
  // 2 ** 30 is a number of no open file. Symbols and the like end Node's process here.
  sameAsNode([undefined, null, true, 'x', {}, 1.5, Number.NaN, -1, 2 ** 31, 2 ** 30], validateFd, (value) => fs.fstatSync(value));
});

test('options are refused as node:fs refuses them', () => {
  const file = import.meta.filename;
  const signals = [5, null, 'x', {}, true].map((signal) => ({ signal }));
  const encodings = [5, 'bogus', {}, true, null, 'UTF-8', 'hex', 'ucs2'].map((encoding) => ({ encoding }));
  const values = [5, true, Symbol('x'), 'bogus', 'utf-8', 12n, undefined, null, {}, [], ...encodings];
  sameAsNode(
    values,
    (value) => toOptions(value),
    (value) => fs.readFileSync(file, value),
  );
  sameAsNode(
    signals,
    (value) => toOptions(value),
    (value) => fs.createReadStream(NOWHERE, value).on('error', () => {}),
  );
});

test('options come with their defaults, in an object of their own', () => {
  const defaults = { encoding: 'utf8', flag: 'w' };
  assert.deepEqual(toOptions(undefined, defaults), defaults);
  assert.deepEqual(toOptions('hex', defaults), { encoding: 'hex', flag: 'w' });
  assert.deepEqual(toOptions({ flag: undefined, mode: 5 }, defaults), { encoding: 'utf8', flag: 'w', mode: 5 });
  assert.deepEqual(
    toOptions(() => {}, defaults),
    defaults,
  );
  assert.notEqual(toOptions(defaults), defaults);
});

test('the arguments of a read are refused as node:fs refuses them', () => {
  const fd = fs.openSync(import.meta.filename, 'r');
  try {
    const bytes = Buffer.alloc(8);
    sameAsNode(
      odd,
      (value) => validateBuffer(value),
      (value) => fs.readSync(fd, value, 0, 1, 0),
    );
    sameAsNode(
      [-1, 1.5, '1', 2 ** 53],
      (offset) => readTarget(bytes, { offset }),
      (offset) => fs.readSync(fd, bytes, { offset }),
    );
    sameAsNode(
      [-1, 9, 8, 0],
      (length) => readTarget(bytes, { length }),
      (length) => fs.readSync(fd, bytes, { length }),
    );
    assert.throws(() => readTarget(Buffer.alloc(0), { length: 1 }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /is empty and cannot be written/,
    });
    assert.throws(() => readTarget(bytes, { position: -2 }), {
      code: 'ERR_OUT_OF_RANGE',
      message: /It must be >= -1 && <= 9007199254740991/,
    });
    assert.throws(() => readTarget(bytes, { position: '1' }), { code: 'ERR_INVALID_ARG_TYPE', message: /of type bigint or integer/ });
    assert.throws(() => readTarget(bytes, { position: 2n ** 63n }), { code: 'ERR_OUT_OF_RANGE' });
    assert.equal(readTarget(bytes, { position: 2n })?.position, 2);
    assert.equal(readTarget(bytes, { position: -1 })?.position, null);
  } finally {
    fs.closeSync(fd);
  }
});

test('the arguments of a write are refused as node:fs refuses them', () => {
  const fd = fs.openSync('/dev/null', 'r+');
  try {
    const bytes = Buffer.alloc(8);
    const written = (...args: unknown[]) => (fs.writeSync as (...all: unknown[]) => number)(fd, ...args);
    sameAsNode(
      odd,
      (value) => writeTarget(value),
      (value) => written(value),
    );
    sameAsNode(
      [-1, 9, 1.5, '1', 12n],
      (value) => writeTarget(bytes, value),
      (value) => written(bytes, value),
    );
    sameAsNode(
      [-1, 9, '1', null],
      (value) => writeTarget(bytes, 0, value),
      (value) => written(bytes, 0, value),
    );
    sameAsNode(
      ['hex', 'HEX', 'bogus', 5],
      (value) => writeTarget('686', 0, value),
      (value) => written('686', 0, value),
    );
    sameAsNode(
      [null, [5], [bytes, 'x'], bytes, {}],
      (value) => validateBuffers(value),
      (value) => fs.writevSync(fd, value),
    );
  } finally {
    fs.closeSync(fd);
  }
  assert.deepEqual(writeTarget('6869', 3, 'hex'), { from: Buffer.from('hi'), position: 3 });
  assert.deepEqual(writeTarget(Buffer.from('abcd'), 1, 2, 5), { from: new Uint8Array([98, 99]), position: 5 });
  assert.equal(writeTarget(Buffer.from('a'), 0, 1, -1).position, null);
});

test('a part of a buffer is a view of the same memory', () => {
  const bytes = new Uint16Array(4);
  const target = readTarget(bytes, { offset: 2, length: 3 });
  target?.into.fill(7);
  assert.deepEqual([...new Uint8Array(bytes.buffer)], [0, 0, 7, 7, 7, 0, 0, 0]);
});

test('plain values are checked with the words of Node', () => {
  assert.throws(() => validateInteger('1', 'len'), {
    code: 'ERR_INVALID_ARG_TYPE',
    message: `The "len" argument must be of type number. Received type string ('1')`,
  });
  assert.throws(() => validateInteger(2 ** 53, 'len'), { code: 'ERR_OUT_OF_RANGE', message: /Received 9_007_199_254_740_992$/ });
  assert.throws(() => validateBoolean(1, 'options.flush'), {
    message: 'The "options.flush" property must be of type boolean. Received type number (1)',
  });
  assert.throws(() => validateFunction(1, 'filter'), {
    message: 'The "filter" argument must be of type function. Received type number (1)',
  });
  assert.throws(() => validateObject([], 'options'), {
    message: 'The "options" argument must be of type object. Received an instance of Array',
  });
});

test('an argument error shows its code where Node shows it', () => {
  const error = invalidType('x', 'of type number', 'y') as Error & { code: string };
  assert.deepEqual(Object.keys(error), ['code']);
  assert.equal(error.name, 'TypeError');
  assert.equal(String(error), `TypeError [ERR_INVALID_ARG_TYPE]: ${error.message}`);
  assert.match(error.stack ?? '', /^TypeError \[ERR_INVALID_ARG_TYPE\]: The "x" argument/);
  assert.ok(error instanceof TypeError);
});
