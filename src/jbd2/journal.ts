import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { RwLock } from '../base/lock.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import { Bio, REQ_FUA, REQ_META, REQ_OP_WRITE, REQ_PREFLUSH, REQ_SYNC } from '../block/bio.ts';
import { flushDevice, submitAndWait } from '../block/block-device.ts';
import type { BufferCache, BufferHead } from '../block/buffer-cache.ts';
import { HandleLog, type HandleLogOptions } from './handle.ts';
import {
  isTidAfter,
  JBD2_CRC32C_CHKSUM,
  JBD2_FEATURE_COMPAT_CHECKSUM,
  JBD2_FEATURE_INCOMPAT_64BIT,
  JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT,
  JBD2_FEATURE_INCOMPAT_CSUM_V2,
  JBD2_FEATURE_INCOMPAT_CSUM_V3,
  JBD2_FEATURE_INCOMPAT_REVOKE,
  JBD2_FLAG_ESCAPE,
  JBD2_SUPERBLOCK_V1,
  JBD2_SUPERBLOCK_V2,
  JournalFormat,
  type JournalGeometry,
  type JournalSuperblock,
  type JournalTag,
  needsEscape,
  nextTid,
} from './journal-format.ts';
import type { JournalLocation } from './journal-location.ts';

/** What may wait in core for its way home, bytes: logs of large volumes are larger than that. */
const LIVE_BYTES_MAX = 2 ** 26;

export interface JournalOptions extends HandleLogOptions {
  readonly location: JournalLocation;
  /** The time of day, for commit blocks. */
  now(): { readonly sec: number; readonly nsec: number };
  /** What the volume has: its log gets the same. */
  readonly hasMetadataCsum: boolean;
  readonly is64bit: boolean;
  /** A checksum for each transaction where the volume has no metadata_csum. */
  readonly hasJournalChecksum?: boolean;
  /**
   * Writes the commit block together with what it commits: one flush less. A transaction that a crash tears is found by its checksums, and
   * the recovery fails where they are of version 2 or 3.
   */
  readonly isAsync?: boolean;
}

/** Changes that are committed together. */
class Transaction {
  readonly tid: number;
  readonly members = new Set<BufferHead>();
  /** Blocks whose older copies in the log are not to be replayed. */
  readonly revoked = new Set<number>();
  onCommit: (() => void)[] = [];
  /** The commit that is under way, for all who want it. */
  commit: Promise<boolean> | undefined;
  /** The device is being flushed for it, or was: what is written from here on may not be covered. */
  isFlushing = false;

  constructor(tid: number) {
    this.tid = tid;
  }

  get isEmpty(): boolean {
    return this.members.size === 0 && this.revoked.size === 0;
  }
}

/** A transaction that is in the log and not all home. */
interface LiveTransaction {
  readonly tid: number;
  /** All blocks that it has in the log, by their home. */
  readonly blocknrs: readonly number[];
  /** Those of which it has the newest committed content. */
  readonly heads: Set<JournalHead>;
}

/** What the log knows of a block, while the block is in a transaction that is not checkpointed. */
class JournalHead {
  readonly bh: BufferHead;
  /** The newest content that is committed and not home; frozen. */
  committed: Uint8Array | undefined;
  live: LiveTransaction | undefined;

  constructor(bh: BufferHead) {
    this.bh = bh;
  }
}

/**
 * A log as the kernel's jbd2 writes it.
 *
 * Invariants:
 * 1. An array that a transaction was closed with is never changed again: who changes the block gets a copy. So the log and the block's
 *    home get what was committed, whatever runs meanwhile.
 * 2. #mutex: at most one commit or checkpoint at a time. It is taken before `lock`, and nobody waits for it with `lock` held.
 * 3. Nothing goes home that is not committed, and nothing leaves the log before it is home and the device flushed.
 * 4. #logged has every block that a recovery now could replay. A block that is not in it needs no revoke record.
 * 5. What the superblock in core says of the log's start is true at any time, also if the device has an older one.
 */
export class Journal extends HandleLog {
  readonly creditsMax: number;
  /** Why the log was aborted before it was loaded: a negative errno, or 0. */
  errno: number;
  readonly #location: JournalLocation;
  readonly #format: JournalFormat;
  readonly #now: JournalOptions['now'];
  readonly #isAsync: boolean;
  readonly #sb: JournalSuperblock;
  /** The log is the blocks [first, last) of the journal. */
  readonly #first: number;
  readonly #last: number;
  /** Blocks that a transaction may take. */
  readonly #transactionMax: number;
  /** Blocks in the log beyond which what is committed goes home. */
  readonly #liveMax: number;
  readonly #mutex = new RwLock();
  #running: Transaction;
  #committing: Transaction | undefined;
  /** Contents that #committing was closed with. */
  #frozen = new Map<BufferHead, Uint8Array>();
  #committedTid: number;
  /** Oldest first. */
  #live: LiveTransaction[] = [];
  /** Blocks in the log, by their home: the last transaction that has them. */
  readonly #logged = new Map<number, number>();
  /** The next block to write, and how many blocks before it are live. */
  #head: number;
  #used = 0;
  /** The record of an abort, on its way. */
  #abortWrite: Promise<void> | undefined;

  private constructor(buffers: BufferCache, options: JournalOptions, { sb, first, last }: JournalGeometry) {
    super(buffers, options);
    this.#location = options.location;
    this.#sb = sb;
    this.#first = first;
    this.#last = last;
    this.#now = options.now;
    this.#isAsync = options.isAsync ?? false;
    this.errno = 0 - Math.abs(sb.s_errno);
    setFeatures(sb, options);
    this.#format = new JournalFormat(sb, this.#location.blockSize);
    this.#transactionMax = Math.floor((last - first) / 4);
    this.#liveMax = Math.min((last - first) / 2, LIVE_BYTES_MAX / this.#location.blockSize);
    const { tagsPerBlock } = this.#format;
    this.creditsMax = Math.floor(((this.#transactionMax - 2) * tagsPerBlock) / (tagsPerBlock + 1));
    this.#head = sb.s_head >= first && sb.s_head < last ? sb.s_head : first;
    // One more than the superblock says, as other writers do: a number is not used twice whatever happened to its first use.
    this.#running = new Transaction(nextTid(sb.s_sequence));
    this.#committedTid = sb.s_sequence;
  }

  /**
   * A log to write to. It has to be empty: recoverJournal() and resetJournal() come first.
   *
   * Errors: EIO; as readJournalSuperblock(); EUCLEAN for a log that is not empty, EROFS for one with features that only readers may ignore.
   */
  static load(buffers: BufferCache, options: JournalOptions): MaybePromise<Journal> {
    return then(options.location.readSuperblock(), (geometry) => {
      if (geometry.isReadOnly) throw new FsError('EROFS', 'mount', { detail: 'journal: unknown features' });
      if (geometry.sb.s_start !== 0) throw new FsError('EUCLEAN', 'mount', { detail: 'journal: not empty' });
      return new Journal(buffers, options, geometry);
    });
  }

  /** Forgets, durably, why the log was aborted once. */
  clearErrno(): MaybePromise<void> {
    this.errno = 0;
    this.#sb.s_errno = 0;
    return this.#location.writeSuperblock(this.#sb);
  }

  get runningTid(): number {
    return this.#running.tid;
  }

  get isDirty(): boolean {
    return this.#isChanged || this.#committing !== undefined;
  }

  get isBusy(): boolean {
    return this.#mutex.isLocked;
  }

  get #isChanged(): boolean {
    return !this.#running.isEmpty || this.#running.onCommit.length > 0;
  }

  isCommitted(tid: number): boolean {
    return !isTidAfter(tid, this.#committedTid);
  }

  // Members of the running transaction.

  isMember(bh: BufferHead): boolean {
    return this.#running.members.has(bh);
  }

  join(bh: BufferHead): void {
    this.#running.members.add(bh);
    bh.journalHead ??= new JournalHead(bh);
  }

  leave(bh: BufferHead): void {
    this.#running.members.delete(bh);
    this.#release(bh);
  }

  /** Lets go of a block that no transaction has any more. */
  #release(bh: BufferHead): void {
    const head = bh.journalHead as JournalHead | undefined;
    if (head?.committed === undefined && !this.#running.members.has(bh) && !this.#frozen.has(bh)) bh.journalHead = undefined;
  }

  isRevoked(blocknr: number): boolean {
    return this.#running.revoked.has(blocknr);
  }

  setRevoked(blocknr: number, isRevoked: boolean): void {
    if (!isRevoked) this.#running.revoked.delete(blocknr);
    else if (this.#logged.has(blocknr)) this.#running.revoked.add(blocknr);
  }

  isUnused(bh: BufferHead, data: Uint8Array): boolean {
    return (bh.journalHead as JournalHead | undefined)?.committed !== data && this.#frozen.get(bh) !== data;
  }

  hasRoom(credits: number): boolean {
    const { members, revoked } = this.#running;
    return this.#running.isEmpty || this.#blocksFor(members.size + credits, revoked.size) <= this.#transactionMax;
  }

  /** Blocks in the log of a transaction of so many blocks and revokes. */
  #blocksFor(members: number, revokes: number): number {
    return members + Math.ceil(members / this.#format.tagsPerBlock) + Math.ceil(revokes / this.#format.revokesPerBlock) + 1;
  }

  protected finishHandle(onCommit: readonly (() => void)[]): void {
    for (const done of onCommit) this.#running.onCommit.push(done);
  }

  // Commit.

  commit(tid: number = this.#running.tid): MaybePromise<boolean> {
    if (this.isCommitted(tid)) return false;
    const transaction = tid === this.#committing?.tid ? this.#committing : this.#running;
    if (this.aborted !== undefined) throw this.abortError('fsync');
    return run(this.#share(transaction));
  }

  /** The commit of a transaction, for one more who wants it. */
  *#share(transaction: Transaction): Task<boolean> {
    const isCovered = !transaction.isFlushing;
    let done: MaybePromise<boolean> | undefined = transaction.commit;
    if (done === undefined) {
      done = run(this.#commit(transaction));
      if (isPromise(done)) transaction.commit = done as Promise<boolean>;
    }
    const hasFlushed = yield* wait(done);
    return hasFlushed && isCovered;
  }

  /** Commits the running transaction. False if there was nothing in it. */
  *#commit(transaction: Transaction): Task<boolean> {
    yield* wait(this.#mutex.lock());
    try {
      if (this.aborted !== undefined) throw this.abortError('fsync');
      assert(transaction === this.#running, 'a commit of the running transaction');
      yield* wait(this.lock.lock());
      try {
        this.#switch(transaction);
      } finally {
        this.lock.unlock();
      }
      if (!transaction.isEmpty) {
        yield* wait(this.hooks.writeOrdered?.(transaction.tid));
        yield* this.#write(transaction);
        this.#finish(transaction);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#mutex.unlock();
      transaction.commit = undefined;
    }
    const { onCommit } = transaction;
    transaction.onCommit = [];
    for (const done of onCommit) done();
    if (transaction.isEmpty) return false;
    if (this.#used > this.#liveMax) this.#inBackground(() => this.#checkpoint(false));
    return true;
  }

  /** Closes the transaction and opens the next one, unless there is nothing in it. */
  #switch(transaction: Transaction): void {
    this.call(() => this.hooks.beforeCommit?.((bh) => this.#access(bh)));
    if (transaction.isEmpty) return;
    for (const bh of transaction.members) {
      bh.seal?.(bh);
      this.#frozen.set(bh, bh.data);
      this.#logged.set(bh.blocknr, transaction.tid);
    }
    this.#committing = transaction;
    this.#running = new Transaction(nextTid(transaction.tid));
  }

  #access(bh: BufferHead): Uint8Array {
    if (!this.#running.members.has(bh)) {
      bh.data = this.copy(bh.data);
      this.join(bh);
      this.setRevoked(bh.blocknr, false);
    }
    bh.decoded = undefined;
    return bh.data;
  }

  /** Writes a closed transaction to the log; durable when done. */
  *#write(transaction: Transaction): Task<void> {
    const { tid } = transaction;
    const size = this.#last - this.#first;
    const needed = this.#blocksFor(this.#frozen.size, transaction.revoked.size);
    // One block stays free, so that a full log is not taken for an empty one.
    if (needed > size - 1) throw new FsError('ENOSPC', 'write', { detail: `journal: a transaction of ${needed} blocks` });
    if (needed > size - 1 - this.#used) yield* this.#checkpointLive(false);

    const hasNewFeature = transaction.revoked.size > 0 && (this.#sb.s_feature_incompat & JBD2_FEATURE_INCOMPAT_REVOKE) === 0;
    if (hasNewFeature) this.#sb.s_feature_incompat |= JBD2_FEATURE_INCOMPAT_REVOKE;
    if (this.#sb.s_start === 0 || hasNewFeature) {
      // A recovery has to know where the log begins before it can be asked to find this transaction.
      if (this.#sb.s_start === 0) {
        this.#sb.s_start = this.#head;
        this.#sb.s_sequence = tid;
      }
      yield* wait(this.#location.writeSuperblock(this.#sb));
    }

    const { blocks, crc } = this.#encode(transaction);
    const { sec, nsec } = this.#now();
    const commitBlock = this.#format.commitBlock(tid, Math.max(0, sec), nsec, crc);
    assert(blocks.length + 1 === needed, 'a transaction takes the blocks that were counted for it');
    if (this.#isAsync) {
      transaction.isFlushing = true;
      if (this.#location.isExternal) yield* wait(flushDevice(this.buffers.bdev));
      yield* this.#writeLog([...blocks, commitBlock], 0);
      yield* wait(flushDevice(this.#location.bdev));
    } else {
      yield* this.#writeLog(blocks, 0);
      if (this.aborted !== undefined) throw this.abortError('fsync');
      transaction.isFlushing = true;
      if (this.#location.isExternal) yield* wait(flushDevice(this.buffers.bdev));
      yield* this.#writeLog([commitBlock], REQ_PREFLUSH | REQ_FUA);
    }
    this.#used += needed;
  }

  /** The blocks of a transaction but for the last, as they are in the log, and version 1's checksum of them. */
  #encode({ tid, revoked }: Transaction): { blocks: Uint8Array[]; crc: number } {
    const format = this.#format;
    const blocks: Uint8Array[] = [];
    let crc = ~0 >>> 0;
    const revokes = [...revoked];
    for (let at = 0; at < revokes.length; at += format.revokesPerBlock) {
      blocks.push(format.revokeBlock(tid, revokes.slice(at, at + format.revokesPerBlock)));
    }
    const members = [...this.#frozen];
    for (let at = 0; at < members.length; at += format.tagsPerBlock) {
      const tags: JournalTag[] = [];
      const stored: Uint8Array[] = [];
      for (const [bh, data] of members.slice(at, at + format.tagsPerBlock)) {
        const isEscaped = needsEscape(data);
        const logged = isEscaped ? data.slice().fill(0, 0, 4) : data;
        tags.push({ blocknr: bh.blocknr, flags: isEscaped ? JBD2_FLAG_ESCAPE : 0, checksum: format.dataCsum(tid, logged) });
        stored.push(logged);
      }
      blocks.push(format.descriptor(tid, tags), ...stored);
      if (format.csumVersion === 1) {
        for (const block of blocks.slice(-stored.length - 1)) crc = format.addToTransaction(crc, block);
      }
    }
    return { blocks, crc };
  }

  /** Writes blocks at the head of the log, and moves it. */
  *#writeLog(blocks: readonly Uint8Array[], flags: number): Task<void> {
    const { bdev, blockSize } = this.#location;
    const most = Math.max(1, Math.floor(bdev.bioSizeMax / blockSize));
    const writes: MaybePromise<number>[] = [];
    for (let at = 0; at < blocks.length; ) {
      const { addr, count } = this.#location.runFrom(this.#head);
      const part = blocks.slice(at, at + Math.min(count, this.#last - this.#head, most));
      const bio = new Bio(REQ_OP_WRITE, addr, REQ_META | REQ_SYNC | flags, () => {}, part, part.length * blockSize);
      writes.push(submitAndWait(bdev, bio));
      at += part.length;
      this.#head += part.length;
      if (this.#head >= this.#last) this.#head = this.#first;
    }
    // All of them end before an error is told: their memory is not ours before.
    let failed = 0;
    for (const write of writes) {
      const status = yield* wait(write);
      if (status < 0) failed = status;
    }
    if (failed < 0) throw FsError.of(failed, 'write', { detail: `journal on ${bdev.name}` });
  }

  /** A transaction is durable. */
  #finish(transaction: Transaction): void {
    const live: LiveTransaction = {
      tid: transaction.tid,
      blocknrs: [...this.#frozen.keys()].map(({ blocknr }) => blocknr),
      heads: new Set(),
    };
    const frozen = this.#frozen;
    this.#frozen = new Map();
    this.#committing = undefined;
    for (const [bh, data] of frozen) {
      const head = bh.journalHead as JournalHead;
      // The former content is nobody's: a handle that is open now keeps this one or a later one.
      if (head.committed !== undefined) this.reuse(head.committed);
      head.live?.heads.delete(head);
      head.committed = data;
      head.live = live;
      live.heads.add(head);
    }
    for (const blocknr of transaction.revoked) {
      const bh = this.buffers.peek(blocknr);
      const head = bh?.journalHead as JournalHead | undefined;
      if (bh === undefined || head === undefined) continue;
      // From here on the block may be file data: nothing of it goes home.
      head.live?.heads.delete(head);
      head.live = undefined;
      head.committed = undefined;
      this.#release(bh);
      this.buffers.forget(blocknr);
    }
    this.#live.push(live);
    this.#committedTid = transaction.tid;
  }

  // Checkpoint.

  checkpoint(): MaybePromise<void> {
    return run(this.#commitAndCheckpoint());
  }

  *#commitAndCheckpoint(): Task<void> {
    yield* wait(this.commit());
    yield* wait(this.#checkpoint(true));
  }

  #checkpoint(makesEmpty: boolean): MaybePromise<void> {
    return run(this.#checkpointTask(makesEmpty));
  }

  *#checkpointTask(makesEmpty: boolean): Task<void> {
    yield* wait(this.#mutex.lock());
    try {
      if (this.aborted !== undefined) throw this.abortError('fsync');
      yield* this.#checkpointLive(makesEmpty);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#mutex.unlock();
    }
  }

  /** Writes home what is committed, and frees the log. `makesEmpty`: the log says so, so that nobody has to look for transactions. */
  *#checkpointLive(makesEmpty: boolean): Task<void> {
    const sb = this.#sb;
    const live = this.#live;
    if (live.length === 0 && (!makesEmpty || sb.s_start === 0)) return;
    const heads = live.flatMap((transaction) => [...transaction.heads]);
    if (heads.length > 0)
      yield* wait(this.buffers.write(heads.map(({ bh, committed }) => ({ blocknr: bh.blocknr, data: committed as Uint8Array }))));
    if (live.length > 0) yield* wait(flushDevice(this.buffers.bdev));
    sb.s_start = makesEmpty ? 0 : this.#head;
    sb.s_sequence = nextTid(this.#committedTid);
    if (makesEmpty) sb.s_head = this.#head;
    yield* wait(this.#location.writeSuperblock(sb));

    this.#live = [];
    this.#used = 0;
    for (const head of heads) {
      head.committed = undefined;
      head.live = undefined;
      this.#release(head.bh);
    }
    for (const { tid, blocknrs } of live) {
      for (const blocknr of blocknrs) if (this.#logged.get(blocknr) === tid) this.#logged.delete(blocknr);
    }
    if (!this.lock.isLocked) this.buffers.trim();
  }

  protected onTimer(): void {
    if (this.#isChanged) {
      this.#inBackground(() => this.commit());
      // The next time finds nothing to commit, if it is quiet, and empties the log.
      this.armTimer();
    } else if (this.#live.length > 0 || this.#sb.s_start !== 0) {
      this.#inBackground(() => this.#checkpoint(true));
    }
  }

  /** What fails has aborted the log: those who ask later are told. */
  #inBackground(action: () => MaybePromise<unknown>): void {
    try {
      const done = action();
      if (isPromise(done)) done.catch(() => {});
    } catch {
      assert(this.aborted !== undefined, 'a failure in the background aborts the log');
    }
  }

  // Failure and end.

  /** An error of the log itself: nothing that follows could be trusted. */
  #fail(error: unknown): never {
    if (this.aborted === undefined) {
      this.abort(error instanceof FsError ? error : new FsError('EIO', 'fsync', { cause: error }));
      if (!(error instanceof FsError)) throw error;
    }
    throw this.abortError('fsync');
  }

  protected recordAbort(why: FsError): void {
    this.#sb.s_errno = why.errno;
    try {
      const written = this.#location.writeSuperblock(this.#sb);
      // A device that takes nothing any more does not take this either.
      if (isPromise(written)) this.#abortWrite = written.catch(() => {});
    } catch {
      return;
    }
  }

  override close(): MaybePromise<void> {
    return run(this.#close());
  }

  *#close(): Task<void> {
    try {
      yield* wait(super.close());
    } finally {
      yield* wait(this.#abortWrite);
    }
  }
}

/** Gives an empty log the features that the volume wants of it. Those that it has stay. */
function setFeatures(sb: JournalSuperblock, options: JournalOptions): void {
  if (sb.h_blocktype === JBD2_SUPERBLOCK_V1) {
    // Its successor differs by fields that the first version did not have.
    sb.h_blocktype = JBD2_SUPERBLOCK_V2;
    sb.s_nr_users = 1;
  }
  const hasBlockCsum = (sb.s_feature_incompat & (JBD2_FEATURE_INCOMPAT_CSUM_V2 | JBD2_FEATURE_INCOMPAT_CSUM_V3)) !== 0;
  if (options.hasMetadataCsum && !hasBlockCsum) {
    sb.s_feature_compat &= ~JBD2_FEATURE_COMPAT_CHECKSUM;
    sb.s_feature_incompat |= JBD2_FEATURE_INCOMPAT_CSUM_V3;
    sb.s_checksum_type = JBD2_CRC32C_CHKSUM;
  } else if (options.hasJournalChecksum === true && !hasBlockCsum) {
    sb.s_feature_compat |= JBD2_FEATURE_COMPAT_CHECKSUM;
  }
  if (options.is64bit) sb.s_feature_incompat |= JBD2_FEATURE_INCOMPAT_64BIT;
  if (options.isAsync === true) sb.s_feature_incompat |= JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT;
}
