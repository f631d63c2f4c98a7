import { FsError, hasCode } from '../../base/fs-error.ts';
import { type Deferred, deferred } from '../../base/task.ts';
import type { Notifier } from '../../vfs/file-system.ts';
import { nameBytes } from '../../vfs/name.ts';
import { FUSE_EXPIRE_ONLY } from '../abi/flags.ts';
import * as code from '../abi/notify.ts';
import type { FuseChannel } from '../transport/channel.ts';
import type { NodeTable } from './node-table.ts';

/** Bytes of a message before its name, data or nodes, more or less: no struct is longer. */
const HEAD = 64;
/** Numbers of RETRIEVE are apart from those of requests, which count from 2 on. */
const RETRIEVE_FIRST = 2 ** 52;

/** The way to the kernel, with an account of what is on it. */
export class Outbox {
  readonly #channel: FuseChannel;
  /** Of the protocol; undefined before INIT. */
  minor: number | undefined;
  /** Notifications that the kernel has not taken yet. */
  underWay = 0;
  /** Those of them that it may hold. What is given later waits behind them. */
  held = 0;
  taken = 0;
  unknown = 0;
  failed = 0;

  constructor(channel: FuseChannel) {
    this.#channel = channel;
  }

  /** Resolves when the kernel has taken it. `tail`: bytes behind the struct. */
  async give(kind: number, tail: number, isHeld: boolean, encode: (encoder: code.NotifyEncoder) => number): Promise<void> {
    const { minor } = this;
    const row = code.notificationOf(kind);
    if (minor === undefined) throw new FsError('ENODEV', 'notify', { detail: 'before INIT' });
    if (row !== undefined && minor < row.since) throw new FsError('ENOSYS', 'notify', { detail: `${row.name} came with 7.${row.since}` });
    const bytes = new Uint8Array(HEAD + tail);
    const length = encode(new code.NotifyEncoder(bytes));
    this.underWay++;
    if (isHeld) this.held++;
    try {
      await this.#channel.notify(bytes.subarray(0, length));
      this.taken++;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) this.unknown++;
      else this.failed++;
      throw error;
    } finally {
      this.underWay--;
      if (isHeld) this.held--;
    }
  }
}

/**
 * What the server tells the kernel without being asked, message by message. It goes out from another thread (FuseChannel.notify), since the
 * kernel may hold a notification until requests are answered that have to do with it.
 *
 * Nothing here can wait for itself. A promise resolves with true when the kernel has taken the notification, and with false as soon as a
 * request is under way: then it is on its way, and taken no later than when that request is answered; so the handler of the request may
 * wait for the promise. Its errors are counted then, not told. Locks that are waited for hold nothing up.
 *
 * Errors: ENOENT where the kernel knows nothing of the node or name; ENOSYS where its protocol is too old; ENODEV before INIT and at the end.
 */
export class Notifications {
  readonly #outbox: Outbox;
  readonly #isServing: () => boolean;
  readonly #waiters = new Set<Deferred<boolean>>();
  readonly #retrieves = new Map<number, Deferred<Uint8Array>>();
  #lastRetrieve = RETRIEVE_FIRST;

  /** `isServing`: a request is under way whose answer may be what the kernel waits for before it takes a notification. */
  constructor(outbox: Outbox, isServing: () => boolean) {
    this.#outbox = outbox;
    this.#isServing = isServing;
  }

  /** Whoever polls with this handle of the kernel's asks again. */
  poll(kh: number): Promise<boolean> {
    return this.#send(code.FUSE_NOTIFY_POLL, 0, (encoder) => encoder.poll(kh), false);
  }

  /** Attributes are stale, and cached data of [pos, pos + length), of 0 to the end; a negative `pos` means attributes only. */
  invalInode(node: number, pos: number, length: number): Promise<boolean> {
    return this.#send(code.FUSE_NOTIFY_INVAL_INODE, 0, (encoder) => encoder.invalInode(node, pos, length), pos >= 0);
  }

  /** Drops a name. */
  invalEntry(parent: number, name: string): Promise<boolean> {
    return this.#sendEntry(parent, name, 0);
  }

  /** The name is asked for again at its next use, and stays until then. Needs 7.38; before, it is invalEntry. */
  expireEntry(parent: number, name: string): Promise<boolean> {
    return this.#sendEntry(parent, name, (this.#outbox.minor ?? 0) >= 38 ? FUSE_EXPIRE_ONLY : 0);
  }

  #sendEntry(parent: number, name: string, flags: number): Promise<boolean> {
    const bytes = nameBytes(name);
    return this.#send(code.FUSE_NOTIFY_INVAL_ENTRY, bytes.length, (encoder) => encoder.invalEntry(parent, bytes, flags));
  }

  /** The name is gone, and its inode with it. Errors: ENOENT where it leads to another inode; ENOTEMPTY, EBUSY. */
  delete(parent: number, child: number, name: string): Promise<boolean> {
    const bytes = nameBytes(name);
    return this.#send(code.FUSE_NOTIFY_DELETE, bytes.length, (encoder) => encoder.delete(parent, child, bytes));
  }

  /** Puts data into the page cache. What fills a page neither whole nor up to the end of the file is not kept. */
  store(node: number, offset: number, data: Uint8Array): Promise<boolean> {
    return this.#send(code.FUSE_NOTIFY_STORE, data.length, (encoder) => encoder.store(node, offset, data));
  }

  /**
   * What the page cache has of [offset, offset + size).
   *
   * Shape:   the bytes from `offset` on, as far as they are cached without a hole, at most the largest write.
   * Errors:  EDEADLK while a request is under way, and when one begins: its handler could be who waits for the answer.
   */
  async retrieve(node: number, offset: number, size: number): Promise<Uint8Array> {
    if (this.#isServing()) throw deadlock();
    const unique = ++this.#lastRetrieve;
    const answer = deferred<Uint8Array>();
    this.#retrieves.set(unique, answer);
    try {
      void this.#send(code.FUSE_NOTIFY_RETRIEVE, 0, (encoder) => encoder.retrieve(unique, node, offset, size)).catch(answer.reject);
      return await answer.promise;
    } finally {
      this.#retrieves.delete(unique);
    }
  }

  /**
   * Every request that was received and is not answered comes again. Those that the server works on are answered once; what was received and
   * lost, say by a server before this one, is served.
   */
  resend(): Promise<boolean> {
    return this.#send(code.FUSE_NOTIFY_RESEND, 0, (encoder) => encoder.resend(), false);
  }

  /** All names, and listings, are asked for again at their next use. */
  incEpoch(): Promise<boolean> {
    return this.#send(code.FUSE_NOTIFY_INC_EPOCH, 0, (encoder) => encoder.incEpoch(), false);
  }

  /** Nodes that are of no use any more: where nobody uses them the kernel forgets them. */
  prune(nodes: readonly number[]): Promise<boolean> {
    return this.#send(code.FUSE_NOTIFY_PRUNE, nodes.length * 8, (encoder) => encoder.prune(nodes));
  }

  // For the server.

  /** The kernel is to answer: the event loop has to turn then. */
  get isRetrieving(): boolean {
    return this.#retrieves.size > 0;
  }

  /** The answer to RETRIEVE. `bytes` stays the caller's. */
  retrieved(unique: number, bytes: Uint8Array): void {
    this.#retrieves.get(unique)?.resolve(bytes.slice());
  }

  /** A request is under way from here on: its handler may be one who waits for a notification, and the kernel for its answer. */
  requestBegan(): void {
    if (this.#waiters.size > 0) {
      for (const waiter of this.#waiters) waiter.resolve(false);
      this.#waiters.clear();
    }
    if (this.#retrieves.size > 0) for (const waiter of this.#retrieves.values()) waiter.reject(deadlock());
  }

  /** The session is over. */
  end(): void {
    for (const waiter of this.#retrieves.values()) waiter.reject(new FsError('ENODEV', 'notify'));
  }

  /** `isHeld`: the kernel may have to wait before it takes it. */
  async #send(kind: number, tail: number, encode: (encoder: code.NotifyEncoder) => number, isHeld = true): Promise<boolean> {
    const canWait = isHeld || this.#outbox.held > 0;
    const taken = this.#outbox.give(kind, tail, isHeld, encode).then(() => true);
    if (!canWait) return taken;
    if (this.#isServing()) {
      taken.catch(() => {}); // counted
      return false;
    }
    const waiter = deferred<boolean>();
    this.#waiters.add(waiter);
    taken.then(waiter.resolve, waiter.reject).finally(() => this.#waiters.delete(waiter));
    return waiter.promise;
  }
}

function deadlock(): FsError {
  return new FsError('EDEADLK', 'notify', { detail: 'a request is under way' });
}

/** Names, and inodes, that wait to be told of; past that everything is told to be stale. */
const NAMES_MAX = 4096;
const INODES_MAX = 16384;
/** Notifications that are given to the channel before the first of them is taken. */
const WINDOW = 16;

interface Range {
  /** Negative: attributes only. */
  pos: number;
  end: number;
}

interface StaleName {
  readonly parent: number;
  readonly name: string;
  /** The inode that went with it. */
  readonly child: number | undefined;
}

/**
 * What the filesystem tells its kernel mount. Nothing here waits, and nobody waits for it: changes are noted, one note for each inode and
 * name, and go out while the event loop turns. If there are too many, all names and all inodes that the kernel has are told to be stale
 * instead, one after the other. What the kernel does not know it need not be told: ENOENT is no error.
 */
export class NotifyQueue implements Notifier {
  /** Nobody waits for what goes out here, so it waits for the kernel whatever is served. */
  readonly #notify: Notifications;
  readonly #nodes: NodeTable;
  readonly #onError: (error: unknown) => void;
  readonly #inodes = new Map<number, Range>();
  readonly #names = new Map<string, StaleName>();
  /** Inodes that are left of all that have to be told. */
  #sweep: number[] = [];
  #isEverything = false;
  #isScheduled = false;
  #underWay = 0;
  #overflows = 0;

  constructor(outbox: Outbox, nodes: NodeTable, onError: (error: unknown) => void) {
    this.#notify = new Notifications(outbox, () => false);
    this.#nodes = nodes;
    this.#onError = onError;
  }

  /** Something is left to be told. */
  get isBusy(): boolean {
    return this.#underWay > 0 || this.queued > 0;
  }

  get queued(): number {
    return this.#inodes.size + this.#names.size + this.#sweep.length + (this.#isEverything ? 1 : 0);
  }

  get overflows(): number {
    return this.#overflows;
  }

  // Notifier.

  invalInode(node: number, pos: number, length: number): void {
    const end = length === 0 ? Number.POSITIVE_INFINITY : pos + length;
    const old = this.#inodes.get(node);
    if (old === undefined) {
      if (this.#inodes.size >= INODES_MAX) this.#overflow();
      else this.#inodes.set(node, { pos, end: pos < 0 ? pos : end });
    } else if (pos >= 0) {
      old.end = old.pos < 0 ? end : Math.max(old.end, end);
      old.pos = old.pos < 0 ? pos : Math.min(old.pos, pos);
    }
    this.#schedule();
  }

  invalEntry(parent: number, name: string): void {
    this.#stale({ parent, name, child: undefined });
  }

  delete(parent: number, child: number, name: string): void {
    this.#stale({ parent, name, child });
  }

  #stale(stale: StaleName): void {
    const key = `${stale.parent}/${stale.name}`;
    if (!this.#names.has(key) && this.#names.size >= NAMES_MAX) this.#overflow();
    else this.#names.set(key, stale);
    this.#schedule();
  }

  #overflow(): void {
    this.#overflows++;
    this.#inodes.clear();
    this.#names.clear();
    this.#isEverything = true;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // What one operation changes is noted before any of it is told.
    void Promise.resolve().then(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#underWay < WINDOW) {
      const told = this.#next();
      if (told === undefined) return;
      this.#underWay++;
      told
        .catch((error: unknown) => {
          // At the end of a session there is nobody left to be told.
          if (!hasCode(error, 'ENOENT') && !hasCode(error, 'ENODEV') && !hasCode(error, 'ENOTCONN')) this.#onError(error);
        })
        .finally(() => {
          this.#underWay--;
          this.#schedule();
        });
    }
  }

  #next(): Promise<unknown> | undefined {
    if (this.#isEverything) {
      this.#isEverything = false;
      this.#sweep = this.#nodes.ids();
      const names = this.#nodes.names();
      return this.#notify.incEpoch().catch(() => {
        // An older kernel is told name by name, as far as they were heard of.
        for (const { parent, name } of names.slice(0, NAMES_MAX)) this.#names.set(`${parent}/${name}`, { parent, name, child: undefined });
      });
    }
    const swept = this.#sweep.pop();
    if (swept !== undefined) return this.#notify.invalInode(swept, 0, 0);
    for (const [key, { parent, name, child }] of this.#names) {
      this.#names.delete(key);
      if (child === undefined) return this.#notify.invalEntry(parent, name);
      // A kernel that cannot remove it, since it is mounted on, say, can still ask again.
      return this.#notify.delete(parent, child, name).catch(() => this.#notify.invalEntry(parent, name));
    }
    for (const [node, { pos, end }] of this.#inodes) {
      this.#inodes.delete(node);
      return this.#notify.invalInode(node, pos, pos < 0 || end === Number.POSITIVE_INFINITY ? 0 : end - pos);
    }
    return undefined;
  }
}
