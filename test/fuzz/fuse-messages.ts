// Random and mutated FUSE messages, by seed, to the decoders of both roles: each is decoded, or refused with an FsError of EPROTO or
// EOVERFLOW; nothing else, and nothing outside of the message is read.
// Usage: node build/test/fuzz/fuse-messages.js --from S --seeds N [--json]
// Exits 1 after the first seed that fails, with the command that repeats it.

import assert from 'node:assert/strict';
import { FsError } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import { OPERATIONS } from '../../src/fuse/abi/opcodes.ts';
import { Reply } from '../../src/fuse/abi/reply.ts';
import { Request } from '../../src/fuse/abi/request.ts';
import { RequestEncoder } from '../../src/fuse/abi/request-encoder.ts';
import { nameBytes } from '../../src/vfs/name.ts';
import * as samples from '../support/fuse-samples.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';

const STEPS = 500;
/** As kernels sent them, and one of each operation. */
const messages = [...Object.values(samples).filter((sample) => sample instanceof Uint8Array), ...OPERATIONS.map(requestOf)];

function requestOf({ opcode, names }: (typeof OPERATIONS)[number]): Uint8Array {
  const encoder = new RequestEncoder(new Uint8Array(4096)).begin(opcode, 4, 1, { uid: 0, gid: 0, pid: 7 });
  for (const _ of names) encoder.name(nameBytes('name'));
  return encoder.bytes.slice(0, encoder.end());
}

function oneSeed(prng: Prng): void {
  const request = new Request();
  const reply = new Reply();
  const memory = new Uint8Array(8192);
  for (let step = 0; step < STEPS; step++) {
    const message = makeMessage(prng);
    const start = prng.below(64);
    // Twice, with other bytes around it: what is there makes no difference.
    const ends = [0, 0x41].map((around) => {
      memory.fill(around);
      memory.set(message, start);
      const inside = memory.subarray(start, start + message.length + 100);
      return [outcome(() => request.decode(inside, message.length)), outcome(() => readReply(reply, inside, message.length, step))];
    });
    assert.deepEqual(ends[0], ends[1]);
    if (prng.chance(0.02)) {
      const minor = prng.below(50);
      request.agree(minor, prng.chance(0.5));
      reply.agree(minor);
    }
  }
}

/** A message with its own length in front, most of the time. */
function makeMessage(prng: Prng): Uint8Array {
  const message = prng.chance(0.2) ? prng.bytes(16 + prng.below(300)) : Uint8Array.from(prng.pick(messages));
  for (let change = prng.below(6); change > 0; change--) message[prng.below(message.length)] = prng.below(256);
  const view = new DataView(message.buffer);
  if (prng.chance(0.5) && message.length >= 8) view.setUint32(4, (prng.pick(OPERATIONS) as { opcode: number }).opcode, true);
  const cut = prng.chance(0.2) ? message.slice(0, prng.below(message.length + 1)) : message;
  if (prng.chance(0.9) && cut.length >= 4) new DataView(cut.buffer).setUint32(0, cut.length, true);
  return cut;
}

function readReply(reply: Reply, bytes: Uint8Array, length: number, step: number): void {
  reply.decode(bytes, length);
  const row = OPERATIONS[step % OPERATIONS.length];
  if (reply.error === 0 && reply.notification === undefined && row !== undefined) reply.decodeBody(row.opcode, step % 3 === 0 ? 4096 : 0);
}

/** What came of it, in words. */
function outcome(decode: () => unknown): string {
  try {
    decode();
    return 'decoded';
  } catch (error) {
    if (!(error instanceof FsError) || !['EPROTO', 'EOVERFLOW'].includes(error.code)) throw error;
    return error.message;
  }
}

await fuzzProgram('fuse-messages', (seed) => oneSeed(new Prng(seed)));
