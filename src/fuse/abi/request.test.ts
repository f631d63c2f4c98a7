import assert from 'node:assert/strict';
import { type HeapProfiler, Session } from 'node:inspector';
import { test } from 'node:test';
import {
  GETATTR,
  GETATTR_INTERRUPT,
  GETATTR_RESENT,
  hex,
  INIT,
  INIT_SWAPPED,
  MKDIR,
  MKDIR_GROUPS,
  MKDIR_SECURITY,
  NOTIFY_REPLY,
  URING_LOOKUP,
} from '../../../test/support/fuse-samples.ts';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Prng } from '../../base/prng.ts';
import type { WireAttr } from './attr.ts';
import { type AnyCursor, cursorOf } from './bodies.ts';
import { FUSE_READ_LOCKOWNER, FUSE_WRITE_CACHE } from './flags.ts';
import { initFlagNames } from './init-flags.ts';
import * as op from './opcodes.ts';
import { ReplyEncoder } from './reply-encoder.ts';
import { type ByteRange, Request } from './request.ts';
import { RequestEncoder } from './request-encoder.ts';

const ATTR = Object.fromEntries(
  'ino size blocks blksize mode nlink uid gid rdev atime atimeNsec mtime mtimeNsec ctime ctimeNsec btime btimeNsec'
    .split(' ')
    .map((key) => [key, 1]),
) as unknown as WireAttr;
const CALLER = { uid: 1000, gid: 100, pid: 4711 };
const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (request: Request, { start, end }: ByteRange) => new TextDecoder().decode(request.bytes.subarray(start, end));
const name = (request: Request) => textOf(request, { start: request.nameStart, end: request.nameEnd });
const name2 = (request: Request) => textOf(request, { start: request.name2Start, end: request.name2End });
const data = (request: Request) => textOf(request, { start: request.dataStart, end: request.dataEnd });

/** A request of this opcode with plausible content, encoded. `fill` sets fields of the struct. */
function encode(opcode: number, fill: (encoder: RequestEncoder) => void = () => {}, tail = true): Uint8Array {
  const encoder = new RequestEncoder(new Uint8Array(4096));
  encoder.begin(opcode, 10, 1, CALLER);
  fill(encoder);
  const row = op.operationOf(opcode) as op.Operation;
  if (tail) {
    if (opcode === op.FUSE_TMPFILE) encoder.name(bytesOf('/'));
    else for (const [index] of row.names.entries()) encoder.name(bytesOf(['one', 'two'][index] as string));
    encoder.reserve(row.dataLength?.(encoder) ?? 0);
  }
  return encoder.bytes.slice(0, encoder.end());
}

test('INIT of a kernel: version, readahead, flags in both words', () => {
  const request = new Request().decode(INIT);
  assert.equal(request.operation?.name, 'FUSE_INIT');
  assert.deepEqual([INIT.length, request.unique, request.nodeid], [104, 2, 0]);
  const { major, minor, max_readahead, flags, flags2 } = request.init_in;
  assert.deepEqual(
    { major, minor, max_readahead, flags, flags2 },
    { major: 7, minor: 45, max_readahead: 131072, flags: 0x73fffffb, flags2: 0x7fd },
  );
  const names = initFlagNames({ flags, flags2 });
  assert.equal(names.length, 38);
  for (const absent of ['FILE_OPS', 'MAP_ALIGNMENT', 'SUBMOUNTS', 'INIT_RESERVED', 'HAS_INODE_DAX'])
    assert.ok(!names.includes(`FUSE_${absent}`));
});

test('INIT of any length from 8 bytes on is taken, what is not there is zero, and flags2 counts with FUSE_INIT_EXT only', () => {
  const request = new Request();
  for (const length of [8, 16, 20, 64, 80]) {
    const message = new Uint8Array(40 + length);
    message.set(INIT.subarray(0, Math.min(message.length, INIT.length)));
    new DataView(message.buffer).setUint32(0, message.length, true);
    request.decode(message);
    const { minor, flags, flags2 } = request.init_in;
    assert.deepEqual([minor, flags, flags2], [45, length < 16 ? 0 : 0x73fffffb, length < 20 ? 0 : 0x7fd], `${length} bytes`);
  }
  const message = INIT.slice();
  message[40 + 15] = 0x33;
  assert.equal(request.decode(message).init_in.flags2, 0);
  assert.throws(
    () => request.decode(hex('2e000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 00000000 070000002d00')),
    {
      code: 'EPROTO',
    },
  );
});

test('INIT in the other byte order is recognized', () => {
  assert.throws(() => new Request().decode(INIT_SWAPPED), { code: 'EPROTO', message: /other byte order/ });
});

test('a creating request with both contexts: name, no security context, one group, at an odd place', () => {
  const request = new Request();
  request.decode(MKDIR);
  assert.equal(request.operation?.name, 'FUSE_MKDIR');
  assert.deepEqual([request.unique, request.nodeid, request.uid, request.gid, request.pid], [4, 1, 4321, 1234, 12345]);
  assert.deepEqual([request.mkdir_in.mode, request.mkdir_in.umask, name(request)], [0o755, 0o22, 'newd']);
  assert.deepEqual([request.groups, request.securityContexts], [[77], []]);
  request.decode(MKDIR_SECURITY);
  assert.deepEqual([name(request), request.groups, request.securityContexts], ['newd', [], []]);
  request.decode(MKDIR_GROUPS);
  assert.deepEqual([name(request), request.groups, request.securityContexts], ['newd', [77], []]);
});

test('the answer to a RETRIEVE comes with the number that was asked with, and its data', () => {
  const request = new Request().decode(NOTIFY_REPLY);
  assert.deepEqual([request.operation?.name, request.operation?.replies], ['FUSE_NOTIFY_REPLY', false]);
  assert.deepEqual([request.unique, request.notify_retrieve_in.size, data(request)], [4242, 5, 'hello']);
});

test('a request in an io_uring entry: header, struct and the rest from three places', () => {
  const request = new Request().decodeEntry(URING_LOOKUP.header, URING_LOOKUP.payload, URING_LOOKUP.payloadLength);
  assert.deepEqual([request.operation?.name, request.unique, name(request)], ['FUSE_LOOKUP', 4, 'f']);
  assert.throws(() => request.decodeEntry(URING_LOOKUP.header, URING_LOOKUP.payload, 3), { code: 'EPROTO' });

  // The same for every operation, from its contiguous form.
  const contiguous = new Request();
  for (const row of op.OPERATIONS) {
    if ([op.FUSE_INIT, op.FUSE_FORGET, op.FUSE_BATCH_FORGET, op.FUSE_INTERRUPT].includes(row.opcode)) continue;
    const message = encode(row.opcode, (encoder) => row.opcode === op.FUSE_WRITE && (encoder.write_in.size = 7));
    const split = 40 + (row.in?.size ?? 0);
    const header = new Uint8Array(288);
    header.set(message.subarray(0, 40));
    header.set(message.subarray(40, split), 128);
    request.decodeEntry(header, message.subarray(split), message.length - split);
    contiguous.decode(message);
    assert.deepEqual([name(request), name2(request), data(request)], [name(contiguous), name2(contiguous), data(contiguous)], row.name);
  }
});

test('an interrupt and a copy sent again name the request that they are about', () => {
  const request = new Request().decode(GETATTR);
  assert.deepEqual([request.unique, request.isResend], [6, false]);
  request.decode(GETATTR_RESENT);
  assert.deepEqual([request.unique, request.isResend], [6, true]);
  request.decode(GETATTR_INTERRUPT);
  assert.deepEqual([request.unique, request.interruptedUnique, request.hasId], [7, 6, true]);
});

test('every operation: what was encoded is decoded, and nothing is left over', () => {
  const request = new Request();
  for (const row of op.OPERATIONS) {
    const message = encode(row.opcode);
    request.decode(message);
    assert.equal(request.operation, row);
    assert.deepEqual([request.unique, request.nodeid, request.uid, request.gid, request.pid], [10, 1, 1000, 100, 4711]);
    const names = row.opcode === op.FUSE_TMPFILE ? ['/', ''] : [row.names.length > 0 ? 'one' : '', row.names.length > 1 ? 'two' : ''];
    assert.deepEqual([name(request), name2(request)], names, row.name);

    // One byte less, or more, is not this request.
    if (row.opcode === op.FUSE_INIT) continue;
    for (const length of [message.length - 1, message.length + 1]) {
      const wrong = new Uint8Array(length);
      wrong.set(message.subarray(0, Math.min(length, message.length)));
      new DataView(wrong.buffer).setUint32(0, length, true);
      assert.throws(() => request.decode(wrong), { code: 'EPROTO' }, `${row.name} of ${length} bytes`);
    }
  }
});

test('fields arrive where they were put, up to 2^53 - 1; past it reading them is EOVERFLOW', () => {
  const request = new Request();
  request.decode(
    encode(op.FUSE_READ, ({ read_in }) => {
      read_in.fh = 2 ** 53 - 1;
      read_in.offset = 2 ** 40 + 1;
      read_in.size = 131072;
      read_in.read_flags = FUSE_READ_LOCKOWNER;
      read_in.lock_owner = 0xfedc_ba98_7654_3210n;
      read_in.flags = 0x8000;
    }),
  );
  const { fh, offset, size, read_flags, lock_owner, flags } = request.read_in;
  assert.deepEqual([fh, offset, size, read_flags, flags], [2 ** 53 - 1, 2 ** 40 + 1, 131072, FUSE_READ_LOCKOWNER, 0x8000]);
  assert.equal(lock_owner, 0xfedc_ba98_7654_3210n);

  const message = encode(op.FUSE_READ);
  message[40 + 15] = 0x7f;
  request.decode(message);
  assert.throws(() => request.read_in.offset, { code: 'EOVERFLOW' });

  const write = encode(op.FUSE_WRITE, (encoder) => {
    encoder.write_in.size = 5;
    encoder.write_in.write_flags = FUSE_WRITE_CACHE;
    encoder.bytes.set(bytesOf('hello'), 80);
  });
  request.decode(write);
  assert.deepEqual([data(request), request.write_in.write_flags], ['hello', FUSE_WRITE_CACHE]);
});

test('FORGET and BATCH_FORGET are walked alike', () => {
  const request = new Request();
  const nodes = (message: Uint8Array) => {
    request.decode(message);
    return Array.from({ length: request.forgetCount }, (_, index) => {
      request.forgetAt(index);
      return [request.forgetNodeid, request.forgetNlookup];
    });
  };
  const forget = encode(op.FUSE_FORGET, (encoder) => (encoder.forget_in.nlookup = 28));
  assert.deepEqual(nodes(forget), [[1, 28]]);
  const batch = encode(
    op.FUSE_BATCH_FORGET,
    (encoder) => {
      encoder.batch_forget_in.count = 2;
      encoder.forgetOne(5, 1).forgetOne(2 ** 40, 3);
    },
    false,
  );
  assert.deepEqual(nodes(batch), [
    [5, 1],
    [2 ** 40, 3],
  ]);
  // A count of 2^64 - 1 is rounded, and is more than any server has given.
  batch.fill(0xff, 56, 64);
  assert.deepEqual(nodes(batch)[0], [5, 2 ** 64]);
  // More than there are.
  batch[40] = 3;
  assert.throws(() => request.decode(batch), { code: 'EPROTO', message: /48 bytes of data are claimed, 32 are there/ });
  batch.fill(0xff, 40, 44);
  assert.throws(() => request.decode(batch), { code: 'EPROTO' });
});

test('names: without an end, empty, with a slash, dots', () => {
  const request = new Request();
  const named = (opcode: number, ...names: string[]) => {
    const encoder = new RequestEncoder(new Uint8Array(4096)).begin(opcode, 10, 1, CALLER);
    for (const text of names) encoder.name(bytesOf(text));
    return encoder.bytes.slice(0, encoder.end());
  };
  const unended = named(op.FUSE_LOOKUP, 'abc').slice(0, -1);
  unended[0] = unended.length;
  const refused: [Uint8Array, RegExp][] = [
    [unended, /a name of 3 bytes without an end/],
    [named(op.FUSE_LOOKUP, ''), /an empty name/],
    [named(op.FUSE_LOOKUP, 'a/b'), /with a slash/],
    [named(op.FUSE_UNLINK, '..'), /'\.' or '\.\.'/],
    [named(op.FUSE_MKDIR, '.'), /'\.' or '\.\.'/],
    [named(op.FUSE_RENAME, 'a', '/'), /with a slash/],
    [named(op.FUSE_RENAME, 'a'), /a name of 0 bytes without an end/],
    [named(op.FUSE_UNLINK, 'a', 'b'), /0 bytes of data are claimed, 2 are there/],
    [named(op.FUSE_SYMLINK, 'a', ''), /an empty name/],
  ];
  for (const [message, reason] of refused) {
    assert.throws(() => request.decode(message), { code: 'EPROTO', errno: -71, message: reason });
    assert.ok(request.hasId, 'it can be answered');
  }
  for (const dots of ['.', '..', '...', '.a']) assert.equal(name(request.decode(named(op.FUSE_LOOKUP, dots))), dots);
  assert.equal(name(request.decode(named(op.FUSE_UNLINK, '...'))), '...');
  request.decode(named(op.FUSE_SYMLINK, 'link', '../a/b'));
  assert.deepEqual([name(request), name2(request)], ['link', '../a/b']);
  // Bytes that are no UTF-8 are bytes of a name like others.
  const raw = new RequestEncoder(new Uint8Array(100)).begin(op.FUSE_LOOKUP, 10, 1, CALLER).name(Uint8Array.of(0xff, 0x80));
  request.decode(raw.bytes, raw.end());
  assert.deepEqual([...request.bytes.subarray(request.nameStart, request.nameEnd)], [0xff, 0x80]);
});

test('headers: too short, another length, no number, a node that no one gave', () => {
  const request = new Request();
  const good = encode(op.FUSE_GETATTR);
  const wrong = (change: (view: DataView) => void) => {
    const message = good.slice();
    change(new DataView(message.buffer));
    return message;
  };
  for (const [message, hasId] of [
    [good.subarray(0, 39), false],
    [new Uint8Array(0), false],
    [wrong((view) => view.setUint32(0, 57, true)), false],
    [wrong((view) => view.setUint32(0, 0xffffffff, true)), false],
    [wrong((view) => view.setBigUint64(8, 0n, true)), false],
    [wrong((view) => view.setBigUint64(8, 2n ** 62n, true)), false],
    [wrong((view) => view.setBigUint64(16, 2n ** 53n, true)), true],
    [wrong((view) => view.setUint16(36, 1, true)), true],
  ] as const) {
    assert.throws(() => request.decode(message), { code: 'EPROTO' });
    assert.equal(request.hasId, hasId);
  }
  // What the tables do not know can be answered too.
  request.decode(wrong((view) => view.setUint32(4, 999, true)));
  assert.deepEqual([request.operation, request.opcode, request.hasId, request.dataEnd - request.dataStart], [undefined, 999, true, 16]);
  request.decode(wrong((view) => view.setUint32(4, 4095, true)));
  assert.equal(request.operation, undefined);
  // A forget of older kernels has no number.
  const forget = encode(op.FUSE_FORGET);
  forget.fill(0, 8, 16);
  assert.equal(request.decode(forget).forgetCount, 1);
});

test('security contexts and groups: what was encoded is decoded', () => {
  const encoder = new RequestEncoder(new Uint8Array(4096)).begin(op.FUSE_CREATE, 10, 1, CALLER).name(bytesOf('file'));
  encoder.securityContexts([
    { name: bytesOf('security.selinux'), value: bytesOf('system_u:object_r:t:s0\0') },
    { name: bytesOf('security.x'), value: new Uint8Array(0) },
  ]);
  encoder.groups([5, 6, 4_000_000_000]);
  const request = new Request().decode(encoder.bytes, encoder.end());
  assert.equal(name(request), 'file');
  assert.deepEqual(request.groups, [5, 6, 4_000_000_000]);
  assert.deepEqual(
    request.securityContexts.map((context) => [textOf(request, context.name), textOf(request, context.value)]),
    [
      ['security.selinux', 'system_u:object_r:t:s0\0'],
      ['security.x', ''],
    ],
  );
});

test('extensions that lie about their size, count or kind are refused', () => {
  const request = new Request();
  const block = (...words: number[]) => {
    const encoder = new RequestEncoder(new Uint8Array(4096)).begin(op.FUSE_MKDIR, 10, 1, CALLER).name(bytesOf('newd'));
    const start = encoder.reserve(words.length * 4);
    const view = new DataView(encoder.bytes.buffer);
    for (const [index, word] of words.entries()) view.setUint32(start + index * 4, word, true);
    const length = encoder.end();
    view.setUint16(36, words.length / 2, true);
    return encoder.bytes.slice(0, length);
  };
  const TEXT = 0x78; // "x", NUL
  assert.deepEqual(request.decode(block(16, 32, 1, 77)).groups, [77]);
  assert.deepEqual(request.decode(block(12, 32, 0, 0)).groups, [], 'its size need not be a multiple of 8');
  assert.equal(request.decode(block(24, 1, 0, 0, TEXT, 0)).securityContexts.length, 1);
  for (const [words, reason] of [
    [[0, 32], /size 0/],
    [[7, 32], /size 7/],
    [[16, 32], /size 16, 8 are left/],
    [[0xffffffff, 32], /size 4294967295/],
    [[8, 32], /-1 groups/],
    [[16, 32, 2, 77], /2 groups in 16 bytes/],
    [[16, 32, 0xffffffff, 77], /4294967295 groups/],
    [[16, 33, 0, 0], /type 33 was not agreed on/],
    [[8, 0, 8, 0], /comes twice/],
    [[16, 32, 1, 77, 16, 32, 1, 77], /comes twice/],
    [[16, 0, 0, 0], /16 bytes without a context/],
    [[8, 1], /context 0 of 1 is past/],
    [[24, 1, 7, 0, TEXT, 0], /context 0 of 7 bytes, 6 are left/],
    [[24, 1, 0, 0, 0, 0], /has no name/],
    [[24, 1, 0, 0, 0x78787878, 0x78787878], /has no name/],
    [[24, 31, 0, 0, TEXT, 0], /context 1 of 31 is past/],
  ] as const) {
    assert.throws(() => request.decode(block(...words)), { code: 'EPROTO', message: reason }, words.join(' '));
  }
  // The area is larger than the message, and larger than what the name leaves.
  for (const extlen of [2, 3, 0xffff]) {
    const message = block(8, 0);
    new DataView(message.buffer).setUint16(36, extlen, true);
    assert.throws(() => request.decode(message), { code: 'EPROTO' }, `total_extlen ${extlen}`);
  }
});

test('older peers send shorter structs: the rest is zero', () => {
  const request = new Request();
  const encoder = new RequestEncoder(new Uint8Array(4096));
  request.agree(8, false);
  encoder.agree(8, false);
  const send = (opcode: number, fill: () => void, text?: string, tail?: Uint8Array) => {
    encoder.begin(opcode, 10, 1, CALLER);
    fill();
    if (text !== undefined) encoder.name(bytesOf(text));
    if (tail !== undefined) encoder.data(tail);
    return request.decode(encoder.bytes.slice(0, encoder.end()), encoder.end());
  };
  const fillWrite = () => Object.assign(encoder.write_in, { fh: 3, offset: 4, size: 2, flags: 1 });
  assert.equal(send(op.FUSE_WRITE, fillWrite, undefined, bytesOf('ab')).dataStart, 64);
  assert.deepEqual([request.write_in.fh, request.write_in.offset, request.write_in.flags, data(request)], [3, 4, 0, 'ab']);
  send(op.FUSE_MKNOD, () => Object.assign(encoder.mknod_in, { mode: 0o644, rdev: 1, umask: 0o77 }), 'node');
  assert.deepEqual([request.mknod_in.mode, request.mknod_in.umask, name(request)], [0o644, 0, 'node']);
  send(op.FUSE_GETATTR, () => {});
  assert.deepEqual([encoder.end(), request.getattr_in.getattr_flags], [40, 0]);
  send(op.FUSE_SETXATTR, () => (encoder.setxattr_in.size = 1), 'user.a', bytesOf('v'));
  assert.deepEqual([request.setxattr_in.setxattr_flags, name(request), data(request)], [0, 'user.a', 'v']);
  request.agree(45, true);
  assert.equal(request.decode(encode(op.FUSE_SETXATTR)).setxattr_in.setxattr_flags, 0);
});

// Every getter of the operation's struct: a number, or EOVERFLOW for a u64 past 2^53 - 1.
function readFields(request: Request): void {
  const form = request.operation?.in;
  if (form === undefined) return;
  const cursor = cursorOf(request, form) as AnyCursor & Record<string, unknown>;
  for (const field of Object.keys((form as unknown as { fields: object }).fields)) {
    try {
      void cursor[field];
    } catch (error) {
      assert.equal((error as FsError).code, 'EOVERFLOW');
    }
  }
}

function checkRanges(request: Request, length: number): void {
  const ranges = [request.nameStart, request.nameEnd, request.name2Start, request.name2End, request.dataStart, request.dataEnd];
  for (const [index, at] of ranges.entries()) {
    assert.ok(at >= 0 && at <= length);
    assert.ok(index % 2 === 0 || at >= (ranges[index - 1] as number));
  }
  for (const { name, value } of request.securityContexts) {
    assert.ok(name.start < name.end && name.end < value.start && value.start <= value.end && value.end <= length);
  }
  assert.ok(request.groups.length <= length / 4);
  for (let index = 0; index < request.forgetCount; index++) request.forgetAt(index);
}

function mutate(prng: Prng, message: Uint8Array): Uint8Array {
  let mutant = message.slice();
  const view = () => new DataView(mutant.buffer);
  for (let change = prng.between(1, 4); change > 0; change--) {
    const at = prng.below(mutant.length);
    const word = Math.min(at & ~3, mutant.length - 4);
    switch (prng.below(6)) {
      case 0:
        mutant[at] = prng.below(256);
        break;
      case 1:
        mutant[at] = prng.pick([0, 0xff, 0x2f, 0x2e]);
        break;
      case 2:
        if (word >= 0) view().setUint32(word, prng.pick([0, 1, 7, 8, 31, 32, 33, 0x7fffffff, 0x80000000, 0xffffffff]), true);
        break;
      case 3:
        mutant = mutant.slice(0, at + 1);
        break;
      case 4: {
        const longer = new Uint8Array(mutant.length + prng.between(1, 64));
        longer.set(prng.bytes(longer.length));
        longer.set(mutant);
        mutant = longer;
        break;
      }
      case 5:
        if (mutant.length >= 40) view().setUint16(36, prng.pick([0, 1, 2, 3, 0xffff]), true);
        break;
    }
  }
  // Most of them claim their true length, else nothing behind the first check would be reached.
  if (mutant.length >= 4 && prng.chance(0.95)) view().setUint32(0, mutant.length, true);
  return mutant;
}

/** What decoding comes to: all that is read of the message, or the error. */
function outcome(request: Request, bytes: Uint8Array, length: number): unknown[] | string {
  try {
    request.decode(bytes, length);
  } catch (error) {
    assert.ok(error instanceof FsError, String(error));
    assert.equal(error.code, 'EPROTO', error.message);
    return error.message;
  }
  checkRanges(request, length);
  readFields(request);
  const contexts = request.securityContexts.map((context) => [textOf(request, context.name), textOf(request, context.value)]);
  return [request.opcode, request.unique, request.nodeid, name(request), name2(request), data(request), [...request.groups], contexts];
}

test('random and mutated requests are decoded, or refused with EPROTO, by their own bytes alone', () =>
  forEachSeed('fuse requests', 20, (prng) => {
    const request = new Request();
    const seeds = [MKDIR, MKDIR_GROUPS, INIT, NOTIFY_REPLY, GETATTR_INTERRUPT, ...op.OPERATIONS.map((row) => encode(row.opcode))];
    const memory = new Uint8Array(1024);
    let decoded = 0;
    for (let step = 0; step < 1000; step++) {
      const message = prng.chance(0.1) ? prng.bytes(prng.below(200)) : mutate(prng, prng.pick(seeds));
      if (prng.chance(0.05)) request.agree(prng.pick([3, 8, 11, 22, 32, 45]), prng.chance(0.5));
      // In the middle of other memory: what is there must not make a difference.
      const start = prng.below(64);
      const [inZeros, inLetters] = [0, 0x41].map((byte) => {
        memory.fill(byte);
        memory.set(message, start);
        return outcome(request, memory.subarray(start, start + message.length + 200), message.length);
      });
      assert.deepEqual(inZeros, inLetters);
      if (typeof inZeros === 'object') decoded++;
    }
    assert.ok(decoded > 50, `only ${decoded} were decoded`);
  }));

test('random memory of io_uring entries is decoded, or refused with EPROTO', () =>
  forEachSeed('fuse entries', 10, (prng) => {
    const request = new Request();
    let decoded = 0;
    for (let step = 0; step < 500; step++) {
      const row = prng.pick(op.OPERATIONS);
      const message = encode(row.opcode);
      const split = 40 + (row.in?.size ?? 0);
      const header = prng.bytes(288);
      header.set(message.subarray(0, 40));
      header.set(message.subarray(40, split), 128);
      const payload = mutate(prng, new Uint8Array([...message.subarray(split), 0, 0, 0, 0]));
      for (let change = prng.below(3); change > 0; change--) header[prng.below(288)] = prng.below(256);
      const length = prng.chance(0.7) ? Math.min(message.length - split, payload.length) : prng.below(payload.length + 1);
      try {
        request.decodeEntry(header, payload, length);
        decoded++;
        checkRanges(request, length);
      } catch (error) {
        assert.ok(error instanceof FsError, String(error));
        assert.equal(error.code, 'EPROTO', error.message);
      }
    }
    assert.ok(decoded > 50, `only ${decoded} were decoded`);
  }));

/** Bytes that a run of `work` allocates, those that are collected meanwhile too. */
function allocated(work: () => unknown): number {
  const session = new Session();
  session.connect();
  session.post('HeapProfiler.startSampling', {
    samplingInterval: 1024,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  } as object);
  work();
  let sum = 0;
  session.post('HeapProfiler.stopSampling', (error, { profile }) => {
    assert.equal(error, null);
    const add = (node: HeapProfiler.SamplingHeapProfileNode) => {
      sum += node.selfSize;
      node.children.forEach(add);
    };
    add(profile.head);
  });
  session.disconnect();
  return sum;
}

test('hot requests are decoded, and answered, without allocating', (t) => {
  const request = new Request();
  const reply = new ReplyEncoder(new Uint8Array(65536));
  const messages = [op.FUSE_LOOKUP, op.FUSE_GETATTR, op.FUSE_READ, op.FUSE_FORGET, op.FUSE_RELEASE, op.FUSE_FLUSH, op.FUSE_READDIRPLUS].map(
    (opcode) => encode(opcode),
  );
  messages.push(encode(op.FUSE_WRITE, ({ write_in }) => Object.assign(write_in, { size: 100 })));
  // One buffer for all, as a transport has it; each message is copied in.
  const buffer = new Uint8Array(65536);
  const decode = () => {
    let sum = 0;
    for (let i = 0; i < 100_000; i++) {
      const message = messages[i % messages.length] as Uint8Array;
      buffer.set(message);
      request.decode(buffer, message.length);
      sum += request.unique + request.nodeid + request.nameEnd + request.dataEnd;
      if (request.opcode === op.FUSE_READ) sum += request.read_in.offset + request.read_in.size + request.read_in.fh;
      if (request.opcode === op.FUSE_WRITE) sum += request.write_in.offset + request.write_in.size;
      if (request.opcode === op.FUSE_FORGET) request.forgetAt(0);
    }
    return sum;
  };
  const answer = () => {
    let sum = 0;
    for (let i = 0; i < 100_000; i++) {
      reply.to(i + 1);
      sum += i % 3 === 0 ? reply.attr(ATTR, 1000) : i % 3 === 1 ? reply.data(4096) : reply.empty();
    }
    return sum;
  };
  for (const [what, work] of [
    ['decoded', decode],
    ['answered', answer],
  ] as const) {
    work(); // compiled by now
    work();
    const perMessage = allocated(work) / 100_000;
    t.diagnostic(`${perMessage} bytes for each request ${what}`);
    // The smallest object has 16 bytes, a view of an array more than 100.
    assert.ok(perMessage < 8, `${perMessage} bytes for each request ${what}`);
  }
});
