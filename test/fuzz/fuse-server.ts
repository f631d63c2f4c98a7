// A hostile kernel: random and mutated requests, by seed, to a FUSE server of memfs over an in-memory channel. Every answer is a legal reply
// to a request that was sent, each request gets one at most, and in the end the session is over and the filesystem unharmed.
// Usage: node build/test/fuzz/fuse-server.js --from S --seeds N [--json]
// Exits 1 after the first seed that fails, with the command that repeats it.

import assert from 'node:assert/strict';
import { FsError } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import { FUSE_FORGET, FUSE_INIT, OPERATIONS, operationOf } from '../../src/fuse/abi/opcodes.ts';
import { Reply } from '../../src/fuse/abi/reply.ts';
import { FuseServer } from '../../src/fuse/server/server.ts';
import { SESSION_END } from '../../src/fuse/transport/channel.ts';
import { loopbackPair } from '../../src/fuse/transport/loopback.ts';
import * as samples from '../support/fuse-samples.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';
import { MemFs } from '../support/mem-fs.ts';

const STEPS = 300;
const BUFFER = 1 << 17;

async function oneSeed(prng: Prng): Promise<void> {
  const bugs: unknown[] = [];
  const [kernel, device] = loopbackPair();
  const server = new FuseServer(
    new MemFs({ bytes: 2 ** 22, inodes: 200 }),
    device,
    { maxWrite: 65536 },
    { onBug: (error) => bugs.push(error) },
  );
  const ended = server.run().then(
    () => undefined,
    (error: unknown) => error,
  );
  const asked = new Map<number, number>([[2, FUSE_INIT]]);
  const reply = new Reply();
  const answers = (async () => {
    for (const into = new Uint8Array(BUFFER); ; ) {
      const length = await kernel.receive(into, false);
      if (length === SESSION_END) return;
      reply.decode(into, length);
      const opcode = asked.get(reply.unique);
      assert.ok(
        opcode !== undefined,
        `an answer of ${length} bytes, error ${reply.error}, to ${reply.unique}, which nobody asked or which is answered`,
      );
      asked.delete(reply.unique);
      if (reply.error === 0 && operationOf(opcode) !== undefined && !isOpen(opcode)) reply.decodeBody(opcode, BUFFER);
    }
  })();
  answers.catch(() => {}); // told when everything was sent

  kernel.send(samples.INIT, samples.INIT.length);
  for (let step = 0; step < STEPS; step++) {
    const unique = 4 + 2 * step;
    const message = makeRequest(prng, unique);
    const opcode = new DataView(message.buffer).getUint32(4, true);
    if (operationOf(opcode)?.replies !== false) asked.set(unique, opcode);
    try {
      kernel.send(message, message.length);
    } catch (error) {
      assert.ok(error instanceof FsError && error.code === 'ENODEV', String(error));
      break; // it hung up, as it may
    }
    if (prng.chance(0.2)) await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setImmediate(resolve));
  kernel.close();
  await answers;
  const error = await ended;
  if (error !== undefined) assert.ok(error instanceof FsError && error.code === 'EPROTO', String(error));
  if (bugs.length > 0) throw bugs[0];
}

/** Answers whose shape depends on how they were asked. */
function isOpen(opcode: number): boolean {
  const row = operationOf(opcode);
  return row?.outData === 'instead';
}

/** A request with small numbers in it, so that some mean something. */
function makeRequest(prng: Prng, unique: number): Uint8Array {
  const row = prng.pick(OPERATIONS) as (typeof OPERATIONS)[number];
  const size = 40 + (row.in?.size ?? 0);
  const names = row.names.map(() => prng.pick(['a\0', 'b\0', 'c\0', 'user.x\0', '\0', 'a/b\0', `${'n'.repeat(300)}\0`, 'x']));
  const data = prng.chance(0.3) ? prng.bytes(prng.below(100)) : new Uint8Array(0);
  const tail = new Uint8Array([...new TextEncoder().encode(names.join('')), ...data]);
  const message = new Uint8Array(size + tail.length);
  const view = new DataView(message.buffer);
  for (let at = 40; at + 4 <= size; at += 4) view.setUint32(at, prng.chance(0.8) ? prng.below(8) : prng.below(2 ** 32), true);
  message.set(tail, size);
  view.setUint32(0, message.length, true);
  view.setUint32(4, row.opcode, true);
  view.setBigUint64(8, BigInt(unique), true);
  view.setBigUint64(16, BigInt(1 + prng.below(6)), true);
  view.setUint32(24, prng.pick([0, 1000]), true);
  if (row.opcode === FUSE_FORGET) view.setBigUint64(40, BigInt(prng.below(3)), true);
  // Data has the length that the struct claims, sometimes.
  if (row.opcode === 16 && prng.chance(0.7)) view.setUint32(56, data.length, true);
  for (let change = prng.chance(0.2) ? prng.below(4) : 0; change > 0; change--)
    message[16 + prng.below(message.length - 16)] = prng.below(256);
  return message;
}

await fuzzProgram('fuse-server', (seed) => oneSeed(new Prng(seed)));
