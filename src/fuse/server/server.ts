import type { AbortSignalLike } from '../../base/abort.ts';
import { assert } from '../../base/assert.ts';
import { ERRNO } from '../../base/errno.ts';
import { errnoCodeOf, FsError } from '../../base/fs-error.ts';
import { isPromise } from '../../base/task.ts';
import type { Caller } from '../../vfs/caller.ts';
import type { FileSystem } from '../../vfs/file-system.ts';
import { CAP_ALL } from '../../vfs/uapi.ts';
import { DirentWriter } from '../abi/dirents.ts';
import { FUSE_KERNEL_VERSION, FUSE_ROOT_ID } from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import { FUSE_DESTROY, FUSE_INIT, FUSE_INTERRUPT, FUSE_NOTIFY_REPLY, FUSE_SETLKW, opcodeName } from '../abi/opcodes.ts';
import { REPLY_BODY, ReplyEncoder } from '../abi/reply-encoder.ts';
import { Request } from '../abi/request.ts';
import { type FuseChannel, SESSION_END } from '../transport/channel.ts';
import { IoModes } from './io-modes.ts';
import { KeptWrites } from './kept-writes.ts';
import { LockOwners } from './lock-owners.ts';
import type { ServerMetrics } from './metrics.ts';
import { NodeTable } from './node-table.ts';
import { Notifications, NotifyQueue, Outbox } from './notifications.ts';
import { HANDLERS, type OperationContext } from './operations.ts';
import { type Agreement, ANSWER_MIN, agree, bufferSize, maxWriteOf, optionsFor, type ServerOptions } from './options.ts';
import { PendingReply, ReplyPath } from './reply.ts';

/** A request that waits for its filesystem. */
export interface InFlight {
  readonly unique: number;
  readonly operation: string;
  readonly node: number;
  readonly pid: number;
  /** When its wait began, clock milliseconds (performance.now). */
  readonly since: number;
  /** Of the node, with the option `paths`, as far as its names were heard of. */
  readonly path?: string | undefined;
}

export interface ServerHooks {
  /** INIT is answered. */
  onReady?(agreement: Agreement): void;
  /** A request failed by a fault of ours or of the filesystem, not by an error that it answers. It was answered with EIO. */
  onBug?(error: unknown, request: string): void;
  /** With the option `paths`: a request has to wait for the filesystem, and its node is the file of that path, as far as that is known. */
  onWait?(unique: number, path: string | undefined): void;
  /** Something that whoever runs the filesystem should know: a file that cannot be served as it says, a request whose time was up. */
  onNotice?(text: string): void;
}

/** The signal of one request: INTERRUPT aborts it. */
class Interrupt implements AbortSignalLike {
  aborted = false;
  /** Made for the first of them: few requests wait. */
  #listeners: Set<() => void> | undefined;

  abort(): void {
    if (this.aborted) return;
    this.aborted = true;
    const listeners = [...(this.#listeners ?? [])];
    this.#listeners = undefined;
    for (const listener of listeners) listener();
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    this.#listeners ??= new Set();
    this.#listeners.add(listener);
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    this.#listeners?.delete(listener);
  }
}

interface Pending extends InFlight {
  readonly interrupt: Interrupt;
  readonly reply: PendingReply;
  /** It waits for a lock, for as long as that takes: nothing in the kernel waits with it. */
  readonly isLockWait: boolean;
  /** Resolves when the answer is sent. Never fails. */
  readonly answered: Promise<void>;
}

/** How long the end of a session waits for requests that do not end, milliseconds. */
const END_WAIT_MS = 5000;

/** Buffers kept for the next answers. */
const POOL_MAX = 16;

/**
 * Serves one FileSystem to one FUSE kernel, or to whoever plays it.
 *
 * Invariants:
 * 1. Every request that is owed an answer gets exactly one, unless the session ends first.
 * 2. Lookups that an answer hands over are the kernel's exactly if the answer arrived; otherwise they are forgotten at once.
 * 3. `#pending` holds the requests whose filesystem has promised an answer and whose time is not up. While it is empty, and nothing else has
 *    to happen in this thread, the thread may wait in the channel.
 * 4. Whoever waits for a notification waits no longer than until the next request is under way (Notifications).
 */
export class FuseServer implements OperationContext {
  readonly fs: FileSystem;
  readonly dirents = new DirentWriter();
  readonly owners = new LockOwners();
  readonly options: ServerOptions;
  readonly nodes: NodeTable;
  readonly modes: IoModes;
  readonly kept: KeptWrites;
  /** What can be told to the kernel, message by message. The filesystem itself has its Notifier (FileSystem.attach). */
  readonly notify: Notifications;
  readonly #channel: FuseChannel;
  readonly #outbox: Outbox;
  readonly #queue: NotifyQueue;
  readonly #hooks: ServerHooks;
  readonly #request = new Request();
  readonly #replies: ReplyPath;
  readonly #pending = new Map<number, Pending>();
  #agreement: Agreement | undefined;
  #buffer: Uint8Array;
  #isBufferKept = false;
  /** Bytes of the buffers in the pool: any request fits into one, and any answer that agree() lets a kernel ask for. */
  readonly #poolSize: number;
  readonly #pool: Uint8Array[] = [];
  #isEnding = false;
  /** When the channel was asked to wake us, time of performance.now(). */
  #alarm = 0;
  /** A handler is running. */
  #isDispatching = false;
  #lockWaits = 0;
  #detach: (() => void) | undefined;
  /** Milliseconds; 0 for no end. */
  readonly #timeoutMs: number;
  #watchdog: NodeJS.Timeout | undefined;
  #timedOut = 0;
  /** Requests whose time was up and whose filesystem has not come back. */
  #late = 0;

  constructor(fs: FileSystem, channel: FuseChannel, options: ServerOptions = {}, hooks: ServerHooks = {}) {
    if (fs.root !== FUSE_ROOT_ID)
      throw new FsError('EINVAL', 'mount', { detail: `a root with number ${fs.root}; FUSE has ${FUSE_ROOT_ID}` });
    this.fs = fs;
    this.#channel = channel;
    this.#replies = new ReplyPath(new ReplyEncoder(new Uint8Array(65536 + 4096)), channel);
    this.#hooks = hooks;
    this.options = optionsFor(fs, options);
    const notice = (text: string): void => hooks.onNotice?.(text);
    this.nodes = new NodeTable({ all: fs.changesElsewhere, names: options.paths === true });
    this.modes = new IoModes(fs, channel, this.nodes, notice);
    this.#outbox = new Outbox(channel);
    this.kept = new KeptWrites(this.#outbox);
    this.notify = new Notifications(this.#outbox, () => this.#isDispatching || this.#pending.size > this.#lockWaits);
    this.#queue = new NotifyQueue(this.#outbox, this.nodes, (error) =>
      notice(`a change could not be told to the kernel: ${String(error)}`),
    );
    this.#timeoutMs = (options.requestTimeout ?? 0) * 1000;
    this.#poolSize = Math.max(bufferSize(maxWriteOf(options)), REPLY_BODY + ANSWER_MIN);
    this.#buffer = new Uint8Array(this.#poolSize);
  }

  get agreement(): Agreement {
    assert(this.#agreement !== undefined, 'INIT comes first');
    return this.#agreement;
  }

  /** Requests that wait for the filesystem, the oldest first. */
  get inFlight(): InFlight[] {
    return [...this.#pending.values()].map(({ unique, operation, node, pid, since }) => {
      const path = this.nodes.pathOf(node, this.fs.root);
      return { unique, operation, node, pid, since, ...(path === undefined ? {} : { path }) };
    });
  }

  get metrics(): ServerMetrics {
    const { taken, unknown, failed, underWay } = this.#outbox;
    const { overflows, queued } = this.#queue;
    return {
      inFlight: this.#pending.size,
      timedOut: this.#timedOut,
      late: this.#late,
      unwanted: this.#replies.unwanted,
      notifications: { taken, unknown, failed, overflows, underWay, queued },
    };
  }

  /**
   * Serves until the session ends, then ends the filesystem.
   *
   * Errors: those of the channel; EPROTO for a peer that does not speak FUSE; those of ending the filesystem.
   */
  async run(): Promise<void> {
    try {
      while (!this.#isEnding) {
        const received = this.#channel.receive(this.#buffer, this.#isIdle() && this.#isWokenInTime());
        const length = isPromise(received) ? await received : received;
        if (length === SESSION_END) break;
        this.#serve(length);
        // Answers that became possible go out before the thread waits again.
        if (!this.#isIdle()) await undefined;
      }
    } finally {
      this.#detach?.();
      clearTimeout(this.#watchdog);
      this.#watchdog = undefined;
      this.notify.end();
      for (const { interrupt } of this.#pending.values()) interrupt.abort();
      this.#channel.close();
      await this.#settled();
      await this.fs.destroy();
    }
  }

  /** Nothing has to happen in this thread but the next request. */
  #isIdle(): boolean {
    return (
      this.#pending.size === 0 &&
      this.#late === 0 &&
      this.#outbox.underWay === 0 &&
      !this.#queue.isBusy &&
      !this.notify.isRetrieving &&
      !this.fs.needsEventLoop
    );
  }

  /** Whoever stands still in the channel is woken before a timer of the filesystem is due for long. */
  #isWokenInTime(): boolean {
    const { nextDue } = this.fs;
    if (nextDue === undefined) return true;
    const now = performance.now();
    if (nextDue <= now || this.#channel.wakeIn === undefined) return false;
    // One that comes earlier does no harm, and asks for the next.
    if (this.#alarm <= now || this.#alarm > nextDue) {
      this.#channel.wakeIn(nextDue - now);
      this.#alarm = nextDue;
    }
    return true;
  }

  /** What is under way ends before the filesystem does; what never ends is waited for no longer than END_WAIT_MS. */
  async #settled(): Promise<void> {
    const answers = [...this.#pending.values()].map(({ answered }) => answered);
    if (answers.length === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, END_WAIT_MS);
    });
    await Promise.race([Promise.all(answers), late]);
    clearTimeout(timer);
  }

  /** The session ends: what is under way is interrupted. */
  end(): void {
    this.#isEnding = true;
    this.#channel.close();
  }

  #serve(length: number): void {
    const request = this.#request;
    let wrong: unknown;
    try {
      request.decode(this.#buffer, length);
    } catch (error) {
      wrong = error;
    }
    // Nobody to tell: whoever sends that does not speak FUSE.
    if (wrong !== undefined && !request.hasId) throw wrong;
    // Two requests of one number could not be told apart.
    const same = request.operation?.replies === false ? undefined : this.#pending.get(request.unique);
    if (same !== undefined) {
      if (!request.isResend) throw new FsError('EPROTO', 'read', { detail: `unique ${request.unique} is under way already` });
      same.reply.noteResend();
      return;
    }
    const reply = new PendingReply(this.#replies, request.unique, request.isResend);
    if (wrong !== undefined) {
      if (request.operation?.replies !== false) reply.fail(wrong);
      return;
    }
    if (request.operation?.replies === false) {
      this.#note();
      return;
    }
    if (request.opcode === FUSE_INIT) {
      this.#init(reply);
      return;
    }
    try {
      if (this.#agreement === undefined) throw new FsError('EIO', 'fuse', { detail: 'a request before INIT' });
      else if (request.opcode === FUSE_DESTROY) this.#destroy(reply);
      else this.#dispatch(reply);
    } catch (error) {
      this.#fail(reply, error, opcodeName(request.opcode));
    }
  }

  #dispatch(reply: PendingReply): void {
    const request = this.#request;
    const handler = HANDLERS.get(request.opcode);
    if (handler === undefined) {
      reply.error(-ERRNO.ENOSYS);
      return;
    }
    const interrupt = new Interrupt();
    const { unique, nodeid, pid, opcode } = request;
    let answered: unknown;
    this.#isDispatching = true;
    try {
      answered = handler(this, request, this.#caller(interrupt), reply);
    } finally {
      this.#isDispatching = false;
    }
    if (!isPromise(answered)) return;
    const operation = opcodeName(opcode);
    const kept = this.#isBufferKept ? this.#buffer : undefined;
    if (kept !== undefined) {
      this.#isBufferKept = false;
      this.#buffer = this.takeBuffer(this.#poolSize);
    }
    const ended = (answered as Promise<unknown>)
      .then(() => {})
      .catch((error: unknown) => this.#fail(reply, error, operation))
      .catch((error: unknown) => this.#hooks.onBug?.(error, operation))
      .finally(() => {
        if (this.#pending.get(unique) === pending) this.#remove(pending);
        else this.#late--;
        if (kept !== undefined) this.releaseBuffer(kept);
      });
    const isLockWait = opcode === FUSE_SETLKW;
    const since = performance.now();
    const pending: Pending = { unique, operation, node: nodeid, pid, since, interrupt, reply, isLockWait, answered: ended };
    this.#pending.set(unique, pending);
    if (this.options.paths === true) this.#hooks.onWait?.(unique, this.nodes.pathOf(nodeid, this.fs.root));
    if (isLockWait) this.#lockWaits++;
    else this.notify.requestBegan();
    if (this.#timeoutMs > 0) this.#watch();
  }

  #remove({ unique, isLockWait }: Pending): void {
    this.#pending.delete(unique);
    if (isLockWait) this.#lockWaits--;
  }

  // The watchdog. Its timer fires since the event loop turns while something is pending.

  /** May the time of a request be up? Locks are waited for as long as it takes, unless the kernel would end the connection over it. */
  #isTimed({ isLockWait }: Pending): boolean {
    return !isLockWait || init.hasInitFlag(this.agreement.flags, init.FUSE_REQUEST_TIMEOUT);
  }

  #watch(): void {
    if (this.#watchdog !== undefined) return;
    for (const pending of this.#pending.values()) {
      if (!this.#isTimed(pending)) continue;
      const left = pending.since + this.#timeoutMs - performance.now();
      this.#watchdog = setTimeout(() => this.#endLate(), Math.max(1, Math.ceil(left)));
      return;
    }
  }

  #endLate(): void {
    this.#watchdog = undefined;
    const latest = performance.now() - this.#timeoutMs;
    for (const pending of [...this.#pending.values()]) {
      if (pending.since > latest || !this.#isTimed(pending)) continue;
      const { reply, operation, interrupt, node } = pending;
      this.#remove(pending);
      this.#timedOut++;
      this.#late++;
      this.#hooks.onNotice?.(
        `${operation} of node ${node} was answered with ETIMEDOUT after ${Math.round(performance.now() - pending.since)} ms`,
      );
      try {
        reply.timeOut();
      } catch (error) {
        this.#hooks.onBug?.(error, operation);
      }
      interrupt.abort();
    }
    this.#watch();
  }

  /** On whose behalf the current request is made. What the kernel does not tell, it has checked by itself. */
  #caller(signal: Interrupt): Caller {
    const { uid, gid, pid, groups } = this.#request;
    return { uid, gid, pid, groups: groups.length === 0 ? NO_GROUPS : [...groups], caps: uid === 0 ? CAP_ALL : 0, umask: 0, signal };
  }

  /** Errors: EPROTO for a kernel that cannot be served, which is told so first: the session is over. */
  #init(reply: PendingReply): void {
    const { init_in: offer } = this.#request;
    const { major, minor, max_readahead, flags, flags2 } = offer;
    if (this.#agreement !== undefined) {
      reply.fail(new FsError('EIO', 'fuse', { detail: 'a second INIT' }));
      return;
    }
    let terms: ReturnType<typeof agree>;
    try {
      terms = agree({ major, minor, max_readahead, flags, flags2 }, this.options);
    } catch (error) {
      reply.fail(error);
      throw error;
    }
    const { reply: answer, agreement } = terms;
    if (major > FUSE_KERNEL_VERSION) {
      // It will ask again, in words that we know.
      reply.send((encoder) => encoder.init(answer));
      return;
    }
    this.#agreement = agreement;
    this.#replies.encoder.agree(agreement.minor);
    reply.send((encoder) => encoder.init(answer));
    this.#request.agree(agreement.minor, init.hasInitFlag(agreement.flags, init.FUSE_SETXATTR_EXT));
    this.modes.canPassThrough = init.hasInitFlag(agreement.flags, init.FUSE_PASSTHROUGH);
    this.#outbox.minor = agreement.minor;
    this.#detach = this.fs.attach(this.#queue);
    this.#hooks.onReady?.(agreement);
  }

  #destroy(reply: PendingReply): void {
    reply.empty();
    this.#isEnding = true;
  }

  /** What is not answered: FORGET, BATCH_FORGET, INTERRUPT, and what nobody here has asked for. */
  #note(): void {
    const request = this.#request;
    if (request.opcode === FUSE_NOTIFY_REPLY) {
      this.notify.retrieved(request.unique, request.bytes.subarray(request.dataStart, request.dataEnd));
      return;
    }
    if (request.opcode === FUSE_INTERRUPT) {
      // One for a request that is answered already is too late, and nothing.
      this.#pending.get(request.interruptedUnique)?.interrupt.abort();
      return;
    }
    for (let i = 0; i < request.forgetCount; i++) {
      request.forgetAt(i);
      const last = this.nodes.forget(request.forgetNodeid, request.forgetNlookup);
      if (last !== undefined) this.modes.forgotten(last);
      try {
        if (request.forgetNodeid !== this.fs.root) this.fs.forget(request.forgetNodeid, request.forgetNlookup);
      } catch (error) {
        this.#hooks.onBug?.(error, opcodeName(request.opcode));
      }
    }
  }

  /** Answers with the error; a fault is told too. */
  #fail(reply: PendingReply, error: unknown, operation: string): void {
    // What fails once the answer is sent has nobody else to be told to; EINVAL of the channel, say, is a reply that is none.
    const isAnswer = (!reply.isSent || reply.isTimedOut) && errnoCodeOf(error) !== undefined;
    if (!isAnswer) this.#hooks.onBug?.(error, operation);
    if (reply.isSent) return;
    if (isAnswer) reply.fail(error);
    else reply.error(-ERRNO.EIO);
  }

  // OperationContext.

  takeBuffer(bytes: number): Uint8Array {
    if (bytes > this.#poolSize) return new Uint8Array(bytes);
    return this.#pool.pop() ?? new Uint8Array(this.#poolSize);
  }

  releaseBuffer(buffer: Uint8Array): void {
    if (buffer.length === this.#poolSize && this.#pool.length < POOL_MAX) this.#pool.push(buffer);
  }

  wakePoll(kh: number): void {
    // Who does not poll any more need not be woken.
    this.notify.poll(kh).catch(() => {});
  }

  keepRequest(): void {
    this.#isBufferKept = true;
  }
}

const NO_GROUPS: readonly number[] = [];
