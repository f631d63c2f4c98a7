import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsError } from '../../base/fs-error.ts';
import { SESSION_END } from './channel.ts';
import { loopbackPair } from './loopback.ts';

test('messages arrive whole and in order, as copies, whether somebody waits for them or not', async () => {
  const [a, b] = loopbackPair();
  const into = new Uint8Array(8);
  const bytes = Uint8Array.of(1, 2, 3);
  a.send(bytes, 3);
  a.send(bytes, 1);
  bytes.fill(9);
  assert.equal(b.receive(into, true), 3);
  assert.deepEqual(into.subarray(0, 3), Uint8Array.of(1, 2, 3));
  assert.equal(b.receive(into, true), 1);
  assert.equal(into[0], 1);

  const later = b.receive(into, true);
  assert.ok(later instanceof Promise);
  a.send(bytes, 2);
  bytes.fill(7);
  assert.equal(await later, 2);
  assert.deepEqual(into.subarray(0, 2), Uint8Array.of(9, 9));
});

test('both directions are apart', async () => {
  const [a, b] = loopbackPair();
  a.send(Uint8Array.of(1), 1);
  b.send(Uint8Array.of(2), 1);
  const into = new Uint8Array(1);
  assert.equal(await a.receive(into, true), 1);
  assert.equal(into[0], 2);
  assert.equal(await b.receive(into, true), 1);
  assert.equal(into[0], 1);
});

test('a message that does not fit is EINVAL, and the next one arrives', async () => {
  const [a, b] = loopbackPair();
  a.send(new Uint8Array(10), 10);
  a.send(new Uint8Array(3), 3);
  assert.throws(() => b.receive(new Uint8Array(9), true), { code: 'EINVAL' });
  assert.equal(b.receive(new Uint8Array(9), true), 3);

  const later = b.receive(new Uint8Array(9), true);
  a.send(new Uint8Array(10), 10);
  await assert.rejects(Promise.resolve(later), { code: 'EINVAL' });
  a.send(new Uint8Array(4), 4);
  assert.equal(b.receive(new Uint8Array(9), true), 4);
});

test('the end wakes who waits, on both sides; what was sent before arrives', async () => {
  const [a, b] = loopbackPair();
  const into = new Uint8Array(8);
  const waits = [a.receive(into, true), b.receive(into, true)];
  a.close();
  assert.deepEqual(await Promise.all(waits), [SESSION_END, SESSION_END]);
  assert.equal(b.receive(into, true), SESSION_END);
  assert.throws(() => a.send(into, 1), { code: 'ENODEV' });
  assert.throws(() => b.send(into, 1), { code: 'ENODEV' });
  a.close();

  const [c, d] = loopbackPair();
  c.send(into, 5);
  c.close();
  assert.equal(d.receive(into, true), 5);
  assert.equal(d.receive(into, true), SESSION_END);
});

test('a peer that does not read fills no memory: ENOBUFS', () => {
  const [a, b] = loopbackPair();
  const byte = new Uint8Array(1);
  for (let i = 0; i < 10_000; i++) a.send(byte, 1);
  assert.throws(() => a.send(byte, 1), { code: 'ENOBUFS' });
  assert.equal(b.receive(byte, true), 1);
  a.send(byte, 1);
});

test('notifications go out in a later turn, in order, and whoever plays the kernel answers or holds them', async () => {
  const [a, b] = loopbackPair();
  const heard: number[] = [];
  let go: () => void = () => {};
  a.onNotify = ([byte]) => {
    heard.push(byte as number);
    if (byte === 1) return new Promise((resolve) => (go = resolve));
    if (byte === 2) throw new FsError('ENOENT', 'write');
    return undefined;
  };
  const first = b.notify(Uint8Array.of(1));
  const second = assert.rejects(b.notify(Uint8Array.of(2)), { code: 'ENOENT' });
  const third = b.notify(Uint8Array.of(3));
  assert.deepEqual(heard, []);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(heard, [1]);
  b.send(Uint8Array.of(9), 1); // an answer passes by
  assert.equal(a.receive(new Uint8Array(1), false), 1);
  go();
  await first;
  await second;
  await third;
  assert.deepEqual(heard, [1, 2, 3]);

  go = () => {};
  const held = b.notify(Uint8Array.of(1));
  await new Promise((resolve) => setImmediate(resolve));
  const lost = assert.rejects(held, { code: 'ENODEV' });
  a.close();
  await lost;
  await assert.rejects(b.notify(Uint8Array.of(3)), { code: 'ENODEV' });

  const [c, d] = loopbackPair();
  await d.notify(Uint8Array.of(5, 6));
  assert.equal(c.receive(new Uint8Array(2), false), 2);
});
