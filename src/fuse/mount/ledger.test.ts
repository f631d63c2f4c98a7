import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRNO } from '../../base/errno.ts';
import { nameBytes, nameOfText } from '../../vfs/name.ts';
import { FUSE_FORGET, FUSE_LOOKUP, FUSE_READ } from '../abi/opcodes.ts';
import { Ledger } from './ledger.ts';
import { prometheusText } from './metrics.ts';

interface Asked {
  readonly unique: number;
  readonly opcode: number;
  readonly node?: number;
  readonly name?: string;
}

function ask(ledger: Ledger, { unique, opcode, node = 1, name = '' }: Asked): void {
  const text = nameBytes(nameOfText(name));
  const message = new Uint8Array(40 + text.length + 1);
  message.set(text, 40);
  const data = new DataView(message.buffer);
  data.setUint32(0, message.length, true);
  data.setUint32(4, opcode, true);
  data.setBigUint64(8, BigInt(unique), true);
  data.setBigUint64(16, BigInt(node), true);
  data.setUint32(24, 1000, true);
  data.setUint32(32, 4711, true);
  ledger.received(message, data, message.length);
}

function answer(ledger: Ledger, unique: number, errno = 0): void {
  const data = new DataView(new ArrayBuffer(16));
  data.setInt32(4, -errno, true);
  data.setBigUint64(8, BigInt(unique), true);
  ledger.answered(data, 16);
}

test('a request is in flight from its arrival to its answer, also for another thread', () => {
  const ledger = new Ledger();
  const elsewhere = new Ledger(ledger.memory);
  ask(ledger, { unique: 2, opcode: FUSE_LOOKUP, node: 5, name: 'näme' });
  ask(ledger, { unique: 4, opcode: FUSE_READ, node: 2 ** 40 });
  const [first, second] = elsewhere.inFlight;
  assert.deepEqual(
    { ...first, ageMs: 0 },
    { unique: 2, operation: 'FUSE_LOOKUP', node: 5, name: nameOfText('näme'), path: undefined, pid: 4711, uid: 1000, ageMs: 0 },
  );
  assert.deepEqual([second?.operation, second?.node, second?.name], ['FUSE_READ', 2 ** 40, undefined]);
  answer(ledger, 2);
  assert.deepEqual(
    elsewhere.inFlight.map(({ unique }) => unique),
    [4],
  );
});

test('the path of a request that waits is its own, and cut where it is long', () => {
  const ledger = new Ledger();
  ask(ledger, { unique: 2, opcode: FUSE_READ });
  ledger.waits(2, '/a/b');
  assert.equal(ledger.inFlight[0]?.path, '/a/b');
  ledger.waits(2, `/${'x'.repeat(10_000)}`);
  assert.equal(ledger.inFlight[0]?.path?.length, 511);
  answer(ledger, 2);
  ask(ledger, { unique: 2 + 2 * 1024, opcode: FUSE_READ }); // the same slot
  assert.equal(ledger.inFlight[0]?.path, undefined);
  ledger.waits(2, '/gone'); // nobody's any more
  assert.equal(ledger.inFlight[0]?.path, undefined);
});

test('more requests than there are slots are counted all the same', () => {
  const ledger = new Ledger();
  for (let i = 1; i <= 3000; i++) ask(ledger, { unique: 2 * i, opcode: FUSE_READ });
  const noted = ledger.inFlight.length;
  assert.ok(noted > 512 && noted <= 1024, String(noted));
  for (let i = 1; i <= 3000; i++) answer(ledger, 2 * i);
  assert.deepEqual(ledger.inFlight, []);
  assert.equal(ledger.metrics.operations['FUSE_READ']?.count, noted);
});

test('answers are counted by operation, error and time, and in the text of Prometheus', () => {
  const ledger = new Ledger();
  for (const errno of [0, ERRNO.ENOENT, ERRNO.ENOENT, 255]) {
    ask(ledger, { unique: 2, opcode: FUSE_LOOKUP, name: 'x' });
    answer(ledger, 2, errno);
  }
  ask(ledger, { unique: 0, opcode: FUSE_FORGET });
  const { operations, inFlight } = ledger.metrics;
  assert.equal(inFlight, 0);
  assert.equal(operations['FUSE_FORGET']?.count, 1);
  const lookup = operations['FUSE_LOOKUP'] ?? assert.fail('not counted');
  assert.equal(lookup.count, 4);
  assert.equal(lookup.errors['ENOENT'], 2);
  assert.equal(
    lookup.buckets.reduce((sum, count) => sum + count),
    4,
  );
  const text = prometheusText([{ directory: '/a"b\\', metrics: ledger.metrics }]);
  assert.match(text, /^iomap_fuse_requests_total\{mount="\/a\\"b\\\\",operation="FUSE_LOOKUP"\} 4$/m);
  assert.match(text, /^iomap_fuse_errors_total\{mount="[^{}]*",operation="FUSE_LOOKUP",errno="ENOENT"\} 2$/m);
  assert.match(text, /le="\+Inf"\} 4$/m);
  assert.doesNotMatch(text, /duration_seconds_bucket\{[^}]*FUSE_FORGET/);
});
