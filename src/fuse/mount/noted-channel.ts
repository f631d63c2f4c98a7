import { ERRNO } from '../../base/errno.ts';
import { isPromise, type MaybePromise } from '../../base/task.ts';
import {
  FUSE_FSYNC,
  FUSE_FSYNCDIR,
  FUSE_INIT,
  FUSE_READ,
  FUSE_READDIR,
  FUSE_READDIRPLUS,
  FUSE_RELEASE,
  FUSE_RELEASEDIR,
  FUSE_WRITE,
  operationOf,
} from '../abi/opcodes.ts';
import { type FuseChannel, SESSION_END } from '../transport/channel.ts';
import type { Ledger } from './ledger.ts';

/** What others than the owner and root may do with what they have: their right was checked when it was opened. Source: libfuse, allow_root. */
const OPENED_BEFORE: readonly number[] = [
  FUSE_INIT,
  FUSE_READ,
  FUSE_WRITE,
  FUSE_FSYNC,
  FUSE_RELEASE,
  FUSE_READDIR,
  FUSE_READDIRPLUS,
  FUSE_FSYNCDIR,
  FUSE_RELEASEDIR,
];

/**
 * A channel whose requests and answers are noted in a ledger; with `owner`, one that answers everybody but that user and root with EACCES: the
 * kernel has no such option of its own, and lets everybody in for it.
 */
export class NotedChannel implements FuseChannel {
  readonly wakeIn?: (delayMs: number) => void;
  readonly backingOpen?: (fd: number) => MaybePromise<number>;
  readonly backingClose?: (backingId: number) => MaybePromise<void>;
  readonly #channel: FuseChannel;
  readonly #ledger: Ledger;
  readonly #owner: number | undefined;
  readonly #refusal = new Uint8Array(16);
  /** Of the buffers that come again and again. */
  readonly #views = new WeakMap<Uint8Array, DataView>();

  constructor(channel: FuseChannel, ledger: Ledger, owner?: number) {
    this.#channel = channel;
    this.#ledger = ledger;
    this.#owner = owner;
    if (channel.wakeIn !== undefined) this.wakeIn = channel.wakeIn.bind(channel);
    if (channel.backingOpen !== undefined) this.backingOpen = channel.backingOpen.bind(channel);
    if (channel.backingClose !== undefined) this.backingClose = channel.backingClose.bind(channel);
  }

  receive(into: Uint8Array, mayBlock: boolean): MaybePromise<number> {
    for (;;) {
      const length = this.#channel.receive(into, mayBlock);
      if (isPromise(length)) return this.#receiveLater(into, mayBlock, length as Promise<number>);
      if (length === SESSION_END || this.#note(into, length)) return length;
    }
  }

  async #receiveLater(into: Uint8Array, mayBlock: boolean, first: Promise<number>): Promise<number> {
    const length = await first;
    return length === SESSION_END || this.#note(into, length) ? length : this.receive(into, mayBlock);
  }

  /** False for a message that is answered here. */
  #note(message: Uint8Array, length: number): boolean {
    const data = this.#viewOf(message);
    this.#ledger.received(message, data, length);
    if (this.#owner === undefined || length < 40 || !this.#isRefused(data, this.#owner)) return true;
    const answer = this.#viewOf(this.#refusal);
    answer.setUint32(0, 16, true);
    answer.setInt32(4, -ERRNO.EACCES, true);
    answer.setBigUint64(8, data.getBigUint64(8, true), true);
    try {
      this.send(this.#refusal, 16);
    } catch {
      // Nobody waits for it any more.
    }
    return false;
  }

  #isRefused(data: DataView, owner: number): boolean {
    const opcode = data.getUint32(4, true);
    const uid = data.getUint32(24, true);
    if (uid === 0 || uid === owner || OPENED_BEFORE.includes(opcode)) return false;
    return operationOf(opcode)?.replies !== false;
  }

  send(bytes: Uint8Array, length: number): void {
    this.#ledger.answered(this.#viewOf(bytes), length);
    this.#channel.send(bytes, length);
  }

  notify(bytes: Uint8Array): Promise<void> {
    return this.#channel.notify(bytes);
  }

  close(): void {
    this.#channel.close();
  }

  #viewOf(bytes: Uint8Array): DataView {
    let view = this.#views.get(bytes);
    if (view === undefined) {
      view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#views.set(bytes, view);
    }
    return view;
  }
}
