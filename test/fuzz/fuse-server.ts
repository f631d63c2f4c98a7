// A hostile kernel: random and mutated requests, by seed, to a FUSE server of memfs over an in-memory channel. Every answer is a legal reply
// to a request that was sent, each request gets one at most, and in the end the session is over and the filesystem unharmed.
// Usage: node build/test/fuzz/fuse-server.js --from S --seeds N [--json]
// Exits 1 after the first seed that fails, with the command that repeats it.

import assert from 'node:assert/strict';
import { FsError } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import {
  FUSE_COPY_FILE_RANGE_64,
  FUSE_CREATE,
  FUSE_FORGET,
  FUSE_INIT,
  FUSE_IOCTL,
  FUSE_MKDIR,
  FUSE_NOTIFY_REPLY,
  FUSE_POLL,
  FUSE_STATX,
  FUSE_TMPFILE,
  FUSE_WRITE,
  OPERATIONS,
  operationOf,
} from '../../src/fuse/abi/opcodes.ts';
import { Reply } from '../../src/fuse/abi/reply.ts';
import { FuseServer } from '../../src/fuse/server/server.ts';
import { SESSION_END } from '../../src/fuse/transport/channel.ts';
import { loopbackPair } from '../../src/fuse/transport/loopback.ts';
import type { Caller } from '../../src/vfs/caller.ts';
import * as samples from '../support/fuse-samples.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';
import { MemFs } from '../support/mem-fs.ts';

const STEPS = 300;
const BUFFER = 1 << 17;
/** Kernels of all ages, one of which is played. */
const MINORS = [23, 28, 31, 36, 39, 45];

/** What memfs has no use for: polls that wake their callers, and ioctls that answer as much as there is room for, or more. */
class FuzzedFs extends MemFs {
  readonly #prng: Prng;

  constructor(prng: Prng) {
    super({ bytes: 2 ** 22, inodes: 200 });
    this.#prng = prng;
  }

  override poll(_caller: Caller, _node: number, _fh: number, events: number, wake?: () => void): number {
    if (wake !== undefined) setImmediate(wake);
    return events & 0x1f;
  }

  override ioctl(_caller: Caller, _node: number, _fh: number, cmd: number, arg: Uint8Array, outSize: number) {
    if (cmd % 4 === 0) throw new FsError('ENOTTY', 'ioctl');
    const length = cmd % 4 === 1 ? outSize + 1 : Math.min(outSize, arg.length);
    return { result: cmd % 2 === 0 ? -this.#prng.below(100) : cmd, data: new Uint8Array(length) };
  }
}

async function oneSeed(prng: Prng): Promise<void> {
  const bugs: unknown[] = [];
  const [kernel, device] = loopbackPair();
  const server = new FuseServer(
    new FuzzedFs(prng),
    device,
    { maxWrite: 65536, securityContext: prng.chance(0.5), paths: prng.chance(0.3), writebackCache: prng.chance(0.5) },
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
      if (reply.notification !== undefined) continue;
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

  const first = Uint8Array.from(samples.INIT);
  new DataView(first.buffer).setUint32(44, prng.pick(MINORS) as number, true);
  kernel.send(first, first.length);
  const retrieved: Promise<unknown>[] = [];
  for (let step = 0; step < STEPS; step++) {
    const unique = 4 + 2 * step;
    const message = makeRequest(prng, unique);
    const opcode = new DataView(message.buffer).getUint32(4, true);
    if (operationOf(opcode)?.replies !== false) asked.set(unique, opcode);
    if (prng.chance(0.02)) retrieved.push(...tellSomething(server, prng));
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
  await Promise.all(retrieved);
  if (error !== undefined) assert.ok(error instanceof FsError && error.code === 'EPROTO', String(error));
  if (bugs.length > 0) throw bugs[0];
}

/** Answers whose shape depends on how they were asked. */
function isOpen(opcode: number): boolean {
  const row = operationOf(opcode);
  return row?.outData === 'instead';
}

/** Notifications of all kinds. Shape: what of them is waited for; none waits past the end of the session. */
function tellSomething({ notify }: FuseServer, prng: Prng): Promise<unknown>[] {
  const node = 1 + prng.below(6);
  const told = [
    (): Promise<unknown> => notify.invalInode(node, prng.below(100) - 1, prng.below(5000)),
    () => notify.invalEntry(node, 'a'),
    () => notify.expireEntry(node, 'b'),
    () => notify.delete(node, 1 + prng.below(6), 'c'),
    () => notify.store(node, prng.below(5000), prng.bytes(prng.below(100))),
    () => notify.retrieve(node, prng.below(5000), prng.below(70_000)),
    () => notify.resend(),
    () => notify.incEpoch(),
    () => notify.prune([node, node + 1]),
  ];
  const expected = ['ENODEV', 'ENOSYS', 'EDEADLK', 'ENOBUFS'];
  return [
    (prng.pick(told) as (typeof told)[number])().catch((error: unknown) => {
      assert.ok(error instanceof FsError && expected.includes(error.code), String(error));
    }),
  ];
}

/** The area of extensions at the end of a message: groups, security contexts, and what is neither. */
function makeExtensions(prng: Prng): Uint8Array {
  const area = new Uint8Array(8 * prng.below(12));
  const view = new DataView(area.buffer);
  for (let at = 0; at + 8 <= area.length; ) {
    const room = area.length - at;
    const size = prng.chance(0.8) ? 8 + 8 * prng.below(room / 8) : prng.below(2 ** 10);
    view.setUint32(at, size, true);
    view.setUint32(at + 4, prng.pick([0, 1, 2, 32, 33, prng.below(2 ** 32)]) as number, true);
    for (let word = at + 8; word + 4 <= Math.min(at + size, area.length); word += 4) view.setUint32(word, prng.below(12), true);
    at += Math.max(8, size);
  }
  return area;
}

/** Operations that are rare in a random choice of all, and have a body of their own. */
const SPECIAL = [FUSE_POLL, FUSE_IOCTL, FUSE_STATX, FUSE_TMPFILE, FUSE_COPY_FILE_RANGE_64, FUSE_NOTIFY_REPLY, FUSE_CREATE, FUSE_MKDIR];

/** A request with small numbers in it, so that some mean something. */
function makeRequest(prng: Prng, unique: number): Uint8Array {
  const special = prng.chance(0.4) ? operationOf(prng.pick(SPECIAL) as number) : undefined;
  const row = special ?? (prng.pick(OPERATIONS) as (typeof OPERATIONS)[number]);
  const size = 40 + (row.in?.size ?? 0);
  const names = row.names.map(() => prng.pick(['a\0', 'b\0', 'c\0', 'user.x\0', '\0', 'a/b\0', `${'n'.repeat(300)}\0`, 'x']));
  const data = prng.chance(0.3) ? prng.bytes(prng.below(100)) : new Uint8Array(0);
  const extensions = prng.chance(0.2) ? makeExtensions(prng) : new Uint8Array(0);
  const tail = new Uint8Array([...new TextEncoder().encode(names.join('')), ...data, ...extensions]);
  const message = new Uint8Array(size + tail.length);
  const view = new DataView(message.buffer);
  for (let at = 40; at + 4 <= size; at += 4) view.setUint32(at, prng.chance(0.8) ? prng.below(8) : prng.below(2 ** 32), true);
  message.set(tail, size);
  view.setUint32(0, message.length, true);
  view.setUint32(4, row.opcode, true);
  view.setBigUint64(8, BigInt(unique), true);
  view.setBigUint64(16, BigInt(1 + prng.below(6)), true);
  view.setUint32(24, prng.pick([0, 1000]), true);
  view.setUint16(36, prng.chance(0.9) ? extensions.length / 8 : prng.below(20), true);
  if (row.opcode === FUSE_FORGET) view.setBigUint64(40, BigInt(prng.below(3)), true);
  // Data has the length that the struct claims, sometimes.
  const lengthAt = new Map([
    [FUSE_WRITE, 56],
    [FUSE_IOCTL, 64],
    [FUSE_NOTIFY_REPLY, 56],
  ]).get(row.opcode);
  if (lengthAt !== undefined && prng.chance(0.7)) view.setUint32(lengthAt, data.length, true);
  // An answer to RETRIEVE has the number of its question.
  if (row.opcode === FUSE_NOTIFY_REPLY && prng.chance(0.8)) view.setBigUint64(8, 2n ** 52n + BigInt(1 + prng.below(4)), true);
  for (let change = prng.chance(0.2) ? prng.below(4) : 0; change > 0; change--)
    message[16 + prng.below(message.length - 16)] = prng.below(256);
  return message;
}

await fuzzProgram('fuse-server', (seed) => oneSeed(new Prng(seed)));
