// The kernel's role for tests of the FUSE server, over a channel in memory.

import assert from 'node:assert/strict';
import { ERRNO, type ErrnoCode } from '../../src/base/errno.ts';
import { FsError } from '../../src/base/fs-error.ts';
import type { MaybePromise } from '../../src/base/task.ts';
import * as op from '../../src/fuse/abi/opcodes.ts';
import { Reply } from '../../src/fuse/abi/reply.ts';
import { RequestEncoder, type WireCaller } from '../../src/fuse/abi/request-encoder.ts';
import { fuse_file_lock } from '../../src/fuse/abi/structs.ts';
import type { ServerOptions } from '../../src/fuse/server/options.ts';
import { FuseServer } from '../../src/fuse/server/server.ts';
import { type FuseChannel, SESSION_END } from '../../src/fuse/transport/channel.ts';
import { type LoopbackEnd, loopbackPair } from '../../src/fuse/transport/loopback.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';
import { nameBytes } from '../../src/vfs/name.ts';
import { O_RDWR } from '../../src/vfs/uapi.ts';
import { FilterFs, type FsFilter } from './filter-fs.ts';
import { MemFs } from './mem-fs.ts';

const MIB = 2 ** 20;
export const ROOT_ID = 1;
const CALLER: WireCaller = { uid: 0, gid: 0, pid: 77 };

export type Fill = (request: RequestEncoder) => unknown;
export const named =
  (...names: string[]): Fill =>
  (request) => {
    for (const name of names) request.name(nameBytes(name));
  };

/** The kernel's role, one message at a time. */
export class Peer {
  readonly reply = new Reply();
  /** Who asks. */
  caller: WireCaller = CALLER;
  readonly #channel: FuseChannel;
  readonly #encoder = new RequestEncoder(new Uint8Array(2 * MIB));
  readonly #into = new Uint8Array(2 * MIB);
  #unique = 0;

  constructor(channel: FuseChannel) {
    this.#channel = channel;
  }

  /** Sends a request. Shape: its number. */
  post(opcode: number, node: number, fill?: Fill, unique: number = (this.#unique += 2)): number {
    const encoder = this.#encoder.begin(opcode, unique, node, this.caller);
    fill?.(encoder);
    this.raw(encoder.bytes, encoder.end());
    return unique;
  }

  raw(bytes: Uint8Array, length: number = bytes.length): void {
    this.#channel.send(bytes, length);
  }

  /** The next message; undefined at the end. */
  async next(): Promise<Reply | undefined> {
    const length = await this.#channel.receive(this.#into, false);
    return length === SESSION_END ? undefined : this.reply.decode(this.#into, length);
  }

  /** Sends a request and takes its answer, which has to be the next message. `asked`: bytes of data asked for. */
  async ask(opcode: number, node: number, fill?: Fill, asked = 0): Promise<Reply> {
    const unique = this.post(opcode, node, fill);
    const reply = await this.next();
    assert.equal(reply?.unique, unique, 'the answer to what was asked');
    return reply.error === 0 ? reply.decodeBody(opcode, asked) : reply;
  }

  /** The same where it has to succeed. */
  async must(opcode: number, node: number, fill?: Fill, asked = 0): Promise<Reply> {
    const reply = await this.ask(opcode, node, fill, asked);
    assert.equal(reply.error, 0);
    return reply;
  }

  async fails(code: ErrnoCode, opcode: number, node: number, fill?: Fill): Promise<void> {
    assert.equal((await this.ask(opcode, node, fill)).error, -ERRNO[code]);
  }

  init(offer: { major?: number; minor?: number; mask?: bigint } = {}): number {
    const { major = 7, minor = 45, mask = 0x7fd_73ff_fffbn } = offer;
    return this.post(op.FUSE_INIT, 0, ({ init_in }) => {
      init_in.major = major;
      init_in.minor = minor;
      init_in.max_readahead = 131072;
      init_in.flags = Number(mask & 0xffff_ffffn);
      init_in.flags2 = Number(mask >> 32n);
    });
  }

  close(): void {
    this.#channel.close();
  }

  // Requests that several tests make.

  async create(name: string): Promise<{ node: number; fh: number }> {
    const fill: Fill = (request) => {
      request.create_in.flags = O_RDWR;
      request.create_in.mode = 0o100644;
      request.name(nameBytes(name));
    };
    const { entry_out, open_out } = await this.must(op.FUSE_CREATE, ROOT_ID, fill);
    return { node: entry_out.nodeid, fh: open_out.fh };
  }

  async open(node: number, flags = O_RDWR): Promise<number> {
    return (await this.must(op.FUSE_OPEN, node, ({ open_in }) => (open_in.flags = flags))).open_out.fh;
  }

  async read(node: number, fh: number, offset: number, size: number): Promise<Uint8Array> {
    const { bytes, dataStart, dataEnd } = await this.must(op.FUSE_READ, node, reading(fh, offset, size), size);
    return bytes.slice(dataStart, dataEnd);
  }
}

export function reading(fh: number, offset: number, size: number): Fill {
  return ({ read_in }) => {
    read_in.fh = fh;
    read_in.offset = offset;
    read_in.size = size;
  };
}

export function writing(fh: number, offset: number, data: Uint8Array): Fill {
  return (request) => {
    request.write_in.fh = fh;
    request.write_in.offset = offset;
    request.write_in.size = data.length;
    request.data(data);
  };
}

export function locking(fh: number, owner: bigint, type: number, lk_flags = 0): Fill {
  return ({ lk_in }) => {
    lk_in.fh = fh;
    lk_in.owner = owner;
    fuse_file_lock.write(lk_in.lk, 0, { start: 0n, end: 0x7fff_ffff_ffff_ffffn, type, pid: 77 });
    lk_in.lk_flags = lk_flags;
  };
}

export function flushing(fh: number, owner: bigint): Fill {
  return ({ flush_in }) => {
    flush_in.fh = fh;
    flush_in.lock_owner = owner;
  };
}

/** A channel whose answers can be lost, as when the caller is gone before they are there. */
class LossyChannel implements FuseChannel {
  /** What the next send fails with. */
  loss: ErrnoCode | undefined;
  readonly #inner: FuseChannel;

  constructor(inner: FuseChannel) {
    this.#inner = inner;
  }

  receive(into: Uint8Array, mayBlock: boolean): MaybePromise<number> {
    return this.#inner.receive(into, mayBlock);
  }

  send(bytes: Uint8Array, length: number): void {
    const { loss } = this;
    this.loss = undefined;
    if (loss !== undefined) throw new FsError(loss, 'write');
    this.#inner.send(bytes, length);
  }

  notify(bytes: Uint8Array): Promise<void> {
    return this.#inner.notify(bytes);
  }

  close(): void {
    this.#inner.close();
  }
}

export interface Bench {
  readonly peer: Peer;
  readonly server: FuseServer;
  readonly channel: LossyChannel;
  /** The kernel's end. */
  readonly near: LoopbackEnd;
  /** What whoever runs the server was told. */
  readonly notices: string[];
  readonly bugs: { error: unknown; request: string }[];
  /** Resolves with what run() threw. */
  readonly ended: Promise<unknown>;
}

/** Serves `fs`, before INIT. */
export function served(fs: FileSystem, options: ServerOptions = {}): Bench {
  const [near, far] = loopbackPair();
  const channel = new LossyChannel(far);
  const bugs: Bench['bugs'] = [];
  const notices: string[] = [];
  const server = new FuseServer(fs, channel, options, {
    onBug: (error, request) => bugs.push({ error, request }),
    onNotice: (text) => notices.push(text),
  });
  return {
    peer: new Peer(near),
    server,
    channel,
    near,
    notices,
    bugs,
    ended: server.run().then(
      () => undefined,
      (error: unknown) => error,
    ),
  };
}

/** Serves `fs`, runs `use` after INIT, ends the session. What is left as a bug is a failure. */
export async function session(fs: FileSystem, use: (bench: Bench) => Promise<void>, options: ServerOptions = {}): Promise<void> {
  const bench = served(fs, options);
  try {
    bench.peer.init();
    assert.equal((await bench.peer.next())?.error, 0);
    await use(bench);
    bench.peer.close();
    assert.equal(await bench.ended, undefined);
    assert.deepEqual(bench.bugs, []);
  } finally {
    bench.peer.close();
  }
}

export const filtered = (filter: FsFilter, inner: FileSystem = new MemFs()): FileSystem => new FilterFs(inner, filter).fs;
