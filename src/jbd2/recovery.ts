import { FsError } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { type BlockDevice, flushDevice, readDevice, writeDevice } from '../block/block-device.ts';
import { BufferCache } from '../block/buffer-cache.ts';
import type { OverlayDevice } from '../block/overlay-device.ts';
import { type FastCommitRecord, FastCommitScan } from './fast-commit.ts';
import {
  commit_header,
  isEscaped,
  isTidAfter,
  JBD2_COMMIT_BLOCK,
  JBD2_DESCRIPTOR_BLOCK,
  JBD2_FEATURE_INCOMPAT_FAST_COMMIT,
  JBD2_FLAG_ESCAPE,
  JBD2_REVOKE_BLOCK,
  JournalFormat,
  type JournalGeometry,
  needsEscape,
  nextTid,
  restoreMagic,
} from './journal-format.ts';
import type { JournalLocation } from './journal-location.ts';

/** Bytes of the log that are read at once, and blocks that are written at once. */
const READ_MAX = 2 ** 17;
const WRITE_MAX = 256;

/** Where the blocks of a replayed log go. */
export interface RecoverySink {
  /** The content of a block of the volume; the array is the sink's own. The last word on a block counts. */
  apply(blocknr: number, data: Uint8Array): MaybePromise<void>;
  /** Everything is durable at return, as far as the sink is. */
  finish(): MaybePromise<void>;
}

export interface RecoveryResult {
  /** Blocks that went to the sink, and those that did not since they were revoked. */
  readonly replayed: number;
  readonly revoked: number;
  /** Transactions in the log. */
  readonly transactions: number;
  /** The last transaction that the volume has now. */
  readonly lastTid: number;
  /** What the superblock of the emptied log says. */
  readonly nextSequence: number;
  /** The block of the journal that the transaction after the last would begin with. */
  readonly head: number;
  /** Why the log was aborted: a negative errno; 0 if it was not. */
  readonly errno: number;
  /** What was committed behind the last transaction, in order: for the filesystem to apply, before resetJournal(). */
  readonly fastCommits: readonly FastCommitRecord[];
}

/** Writes a replayed log to the volume. */
export class DeviceSink implements RecoverySink {
  readonly #buffers: BufferCache;
  readonly #waiting = new Map<number, Uint8Array>();

  constructor(bdev: BlockDevice, blockSize: number) {
    this.#buffers = new BufferCache(bdev, blockSize, 0);
  }

  apply(blocknr: number, data: Uint8Array): MaybePromise<void> {
    this.#waiting.set(blocknr, data);
    if (this.#waiting.size >= WRITE_MAX) return this.#write();
  }

  finish(): MaybePromise<void> {
    return run(this.#finish());
  }

  *#finish(): Task<void> {
    yield* wait(this.#write());
    yield* wait(flushDevice(this.#buffers.bdev));
  }

  #write(): MaybePromise<void> {
    const blocks = [...this.#waiting].map(([blocknr, data]) => ({ blocknr, data }));
    this.#waiting.clear();
    return this.#buffers.write(blocks);
  }
}

/** Puts a replayed log before a volume that is not written. */
export class OverlaySink implements RecoverySink {
  readonly #overlay: OverlayDevice;

  constructor(overlay: OverlayDevice) {
    this.#overlay = overlay;
  }

  apply(blocknr: number, data: Uint8Array): void {
    this.#overlay.put(blocknr * data.length, data);
  }

  finish(): void {}
}

/**
 * Brings a volume to the state of the last transaction that its log has whole.
 *
 * Shape:  `blockCount`: blocks of the volume. The log is left as it is: a second recovery, after a crash in this one, does the same again.
 *         resetJournal() ends it.
 * Errors: EIO; EUCLEAN for what no writer leaves, EBADMSG for a wrong checksum where a crash does not explain it, EINVAL for a revoke
 *         block of a wrong size; of the sink.
 * Source: Linux fs/jbd2/recovery.c
 */
export function recoverJournal(location: JournalLocation, blockCount: number, sink: RecoverySink): MaybePromise<RecoveryResult> {
  return run(recover(location, blockCount, sink));
}

function* recover(location: JournalLocation, blockCount: number, sink: RecoverySink): Task<RecoveryResult> {
  const geometry = yield* wait(location.readSuperblock());
  return yield* new Recovery(location, geometry, blockCount, sink).run();
}

/** Makes the log empty, durably, after a recovery whose sink was the device. The reason of an abort stays. */
export function resetJournal(location: JournalLocation, result: RecoveryResult): MaybePromise<void> {
  return run(reset(location, result));
}

function* reset(location: JournalLocation, { nextSequence }: RecoveryResult): Task<void> {
  const { sb } = yield* wait(location.readSuperblock());
  if (sb.s_start !== 0) yield* wait(location.writeSuperblock({ ...sb, s_start: 0, s_sequence: nextSequence, s_head: 0 }));
}

/**
 * Makes a transaction of `blocks` the only one in a log that was replayed to its device: durable when done, and not at all before. What was
 * committed fast since the last one is void from then on. Another recovery brings the blocks home.
 *
 * Errors: EIO; ENOSPC where the log is too small for it.
 */
export function appendTransaction(
  location: JournalLocation,
  result: RecoveryResult,
  blocks: readonly { readonly blocknr: number; readonly data: Uint8Array }[],
  time: { readonly sec: number; readonly nsec: number },
): MaybePromise<void> {
  return run(append(location, result, blocks, time));
}

function* append(
  location: JournalLocation,
  { lastTid, head }: RecoveryResult,
  blocks: readonly { readonly blocknr: number; readonly data: Uint8Array }[],
  { sec, nsec }: { readonly sec: number; readonly nsec: number },
): Task<void> {
  const { sb, first, last } = yield* wait(location.readSuperblock());
  const format = new JournalFormat(sb, location.blockSize);
  const tid = nextTid(lastTid);
  const out: Uint8Array[] = [];
  let crc = ~0 >>> 0;
  for (let at = 0; at < blocks.length; at += format.tagsPerBlock) {
    const part = blocks.slice(at, at + format.tagsPerBlock).map(({ blocknr, data }) => {
      const flags = needsEscape(data) ? JBD2_FLAG_ESCAPE : 0;
      const logged = flags === 0 ? data : data.slice().fill(0, 0, 4);
      return { logged, tag: { blocknr, flags, checksum: format.dataCsum(tid, logged) } };
    });
    const from = out.length;
    out.push(
      format.descriptor(
        tid,
        part.map(({ tag }) => tag),
      ),
      ...part.map(({ logged }) => logged),
    );
    if (format.csumVersion === 1) for (const block of out.slice(from)) crc = format.addToTransaction(crc, block);
  }
  if (out.length + 1 > last - first - 1)
    throw new FsError('ENOSPC', 'mount', { detail: `journal: ${out.length + 1} blocks of fast commits` });

  // From here on the log begins with a transaction that is not there yet, and says what it said.
  yield* wait(location.writeSuperblock({ ...sb, s_start: head, s_sequence: tid, s_head: 0 }));
  let at = head;
  for (const block of out) {
    yield* wait(writeDevice(location.bdev, location.runFrom(at).addr, block));
    at = at + 1 >= last ? first : at + 1;
  }
  yield* wait(flushDevice(location.bdev));
  yield* wait(writeDevice(location.bdev, location.runFrom(at).addr, format.commitBlock(tid, Math.max(0, sec), nsec, crc)));
  yield* wait(flushDevice(location.bdev));
}

/** What a pass does with the blocks of the transactions up to the end. */
interface Visitor {
  descriptor?(tid: number, block: Uint8Array, firstData: number): Task<void>;
  revoke?(tid: number, block: Uint8Array): void;
}

class Recovery {
  readonly #location: JournalLocation;
  readonly #geometry: JournalGeometry;
  readonly #format: JournalFormat;
  readonly #blockCount: number;
  readonly #sink: RecoverySink;
  /** Blocks that the log has content for, so that what is remembered of revokes is bounded by the log. */
  readonly #targets = new Set<number>();
  readonly #revokedBy = new Map<number, number>();
  #transactions = 0;
  /** Where the walk over the transactions ended. */
  #head: number;
  /** The last transaction that was seen, whole or not. */
  #lastSeen: number;
  #replayed = 0;
  #revoked = 0;
  #chunk: Uint8Array = new Uint8Array(0);
  /** First journal block in #chunk. */
  #chunkStart = -1;

  constructor(location: JournalLocation, geometry: JournalGeometry, blockCount: number, sink: RecoverySink) {
    this.#location = location;
    this.#geometry = geometry;
    this.#format = new JournalFormat(geometry.sb, location.blockSize);
    this.#blockCount = blockCount;
    this.#sink = sink;
    this.#lastSeen = geometry.sb.s_sequence;
    this.#head = geometry.sb.s_start;
  }

  *run(): Task<RecoveryResult> {
    const { sb } = this.#geometry;
    const errno = 0 - Math.abs(sb.s_errno);
    if (sb.s_start === 0) {
      const lastTid = (sb.s_sequence - 1) >>> 0;
      return { replayed: 0, revoked: 0, transactions: 0, lastTid, nextSequence: sb.s_sequence, head: this.#head, errno, fastCommits: [] };
    }
    const end = yield* this.#scan();
    yield* this.#pass(end, { revoke: (tid, block) => this.#noteRevokes(tid, block) });
    let isDamaged = false;
    const replay: Visitor = {
      descriptor: function* (this: Recovery, tid: number, block: Uint8Array, firstData: number): Task<void> {
        if (!(yield* this.#replay(tid, block, firstData))) isDamaged = true;
      }.bind(this),
    };
    yield* this.#pass(end, replay);
    yield* wait(this.#sink.finish());
    if (isDamaged) throw badChecksum('of data');
    return {
      replayed: this.#replayed,
      revoked: this.#revoked,
      transactions: this.#transactions,
      lastTid: (end - 1) >>> 0,
      // One transaction past the end may be in the log in part, or whole behind a damaged one: its number is not used again.
      nextSequence: nextTid(isTidAfter(this.#lastSeen, end) ? this.#lastSeen : end),
      head: this.#head,
      errno,
      fastCommits: yield* this.#readFastCommits(end),
    };
  }

  /** Finds the end: the first transaction that is not in the log whole. */
  *#scan(): Task<number> {
    const { sb, first, last } = this.#geometry;
    const format = this.#format;
    let at = sb.s_start;
    let tid = sb.s_sequence;
    let used = 0;
    let lastCommitSec = 0n;
    // A descriptor or revoke block had a wrong checksum: stale, or corrupt.
    let isSuspect = false;
    // Before the first transaction with a wrong checksum, if there is one.
    let end: number | undefined;
    let crc = ~0 >>> 0;

    for (;;) {
      const block = yield* this.#read(at);
      const type = format.typeOf(block, tid);
      at = this.#next(at);
      used++;
      if (type === JBD2_DESCRIPTOR_BLOCK) {
        this.#lastSeen = tid;
        if (!format.verifyTail(block)) isSuspect = true;
        const tags = format.readTags(block);
        if (format.csumVersion === 1 && end === undefined) crc = format.addToTransaction(crc, block);
        used += tags.length;
        if (used > last - first) break;
        for (const { blocknr } of tags) {
          this.#targets.add(blocknr);
          if (format.csumVersion === 1 && end === undefined) crc = format.addToTransaction(crc, yield* this.#read(at));
          at = this.#next(at);
        }
      } else if (type === JBD2_REVOKE_BLOCK) {
        this.#lastSeen = tid;
        if (!format.verifyTail(block)) isSuspect = true;
      } else if (type === JBD2_COMMIT_BLOCK) {
        const header = commit_header.read(block);
        if (isSuspect) {
          if (header.h_commit_sec >= lastCommitSec) throw badChecksum(`in transaction ${tid}`);
          return end ?? tid;
        }
        const isUnsigned = header.h_chksum_type === 0 && header.h_chksum_size === 0 && header.h_chksum[0] === 0;
        const isRight =
          format.csumVersion === 1
            ? isUnsigned || (header.h_chksum_type === 1 && header.h_chksum_size === 4 && header.h_chksum[0] === crc)
            : format.verifyCommit(block);
        if (format.csumVersion === 1 && end !== undefined) return end;
        crc = ~0 >>> 0;
        this.#lastSeen = tid;
        if (isRight) {
          lastCommitSec = header.h_commit_sec;
        } else {
          if (header.h_commit_sec < lastCommitSec) return end ?? tid;
          end ??= tid;
          if (!format.isAsync) return end;
        }
        tid = nextTid(tid);
      } else {
        return end ?? tid;
      }
      if (used > last - first) break;
    }
    if (isSuspect) return end ?? tid;
    throw new FsError('EUCLEAN', 'mount', { detail: `journal: transaction ${tid} has more blocks than the log` });
  }

  /** Walks over the transactions before `end`. Errors: EIO if the log is not what it was in the scan. */
  *#pass(end: number, visitor: Visitor): Task<void> {
    const { sb, first, last } = this.#geometry;
    const format = this.#format;
    let at = sb.s_start;
    let tid = sb.s_sequence;
    this.#transactions = 0;
    this.#head = at;
    for (let used = 0; isTidAfter(end, tid); ) {
      // The next read moves the bytes that this one points at.
      const block = (yield* this.#read(at)).slice();
      const type = format.typeOf(block, tid);
      at = this.#next(at);
      used++;
      if (type === JBD2_DESCRIPTOR_BLOCK) {
        const { length } = format.readTags(block);
        if (visitor.descriptor !== undefined) yield* visitor.descriptor(tid, block, at);
        for (let i = 0; i < length; i++) at = this.#next(at);
        used += length;
      } else if (type === JBD2_REVOKE_BLOCK) {
        visitor.revoke?.(tid, block);
      } else if (type === JBD2_COMMIT_BLOCK) {
        this.#transactions++;
        tid = nextTid(tid);
        this.#head = at;
      } else {
        used = Infinity;
      }
      if (used > last - first) throw new FsError('EIO', 'mount', { detail: `journal: transaction ${tid} changed while it was replayed` });
    }
  }

  #noteRevokes(tid: number, block: Uint8Array): void {
    for (const blocknr of this.#format.readRevokes(block)) {
      const known = this.#revokedBy.get(blocknr);
      if (this.#targets.has(blocknr) && (known === undefined || isTidAfter(tid, known))) this.#revokedBy.set(blocknr, tid);
    }
  }

  /** Gives the data of one descriptor to the sink. False if some had a wrong checksum. */
  *#replay(tid: number, block: Uint8Array, firstData: number): Task<boolean> {
    const format = this.#format;
    if (!format.verifyTail(block)) throw badChecksum(`of a descriptor of transaction ${tid}`);
    let isRight = true;
    let at = firstData;
    for (const tag of format.readTags(block)) {
      const source = at;
      at = this.#next(at);
      const { blocknr } = tag;
      if (blocknr >= this.#blockCount || this.#location.contains(blocknr))
        throw new FsError('EUCLEAN', 'mount', { detail: `journal: block ${blocknr} of ${this.#blockCount} in transaction ${tid}` });
      const revokedBy = this.#revokedBy.get(blocknr);
      if (revokedBy !== undefined && !isTidAfter(tid, revokedBy)) {
        this.#revoked++;
        continue;
      }
      const data = (yield* this.#read(source)).slice();
      if (format.csumVersion >= 2 && format.dataCsum(tid, data) !== tag.checksum) {
        isRight = false;
        continue;
      }
      if (isEscaped(tag)) restoreMagic(data);
      yield* wait(this.#sink.apply(blocknr, data));
      this.#replayed++;
    }
    return isRight;
  }

  *#readFastCommits(tid: number): Task<readonly FastCommitRecord[]> {
    const { sb, fcFirst, fcLast } = this.#geometry;
    if ((sb.s_feature_incompat & JBD2_FEATURE_INCOMPAT_FAST_COMMIT) === 0) return [];
    const scan = new FastCommitScan(tid);
    for (let at = fcFirst; at < fcLast; at++) if (!scan.add((yield* this.#read(at)).slice())) break;
    return scan.records;
  }

  #next(block: number): number {
    return block + 1 >= this.#geometry.last ? this.#geometry.first : block + 1;
  }

  /** A block of the journal. Shape: a view, until the next read. */
  *#read(block: number): Task<Uint8Array> {
    const { blockSize } = this.#format;
    if (this.#chunkStart < 0 || block < this.#chunkStart || block >= this.#chunkStart + this.#chunk.length / blockSize) {
      const { addr, count } = this.#location.runFrom(block);
      const blocks = Math.min(count, Math.max(1, Math.floor(READ_MAX / blockSize)));
      this.#chunk = new Uint8Array(blocks * blockSize);
      this.#chunkStart = -1;
      yield* wait(readDevice(this.#location.bdev, addr, this.#chunk));
      this.#chunkStart = block;
    }
    const start = (block - this.#chunkStart) * blockSize;
    return this.#chunk.subarray(start, start + blockSize);
  }
}

function badChecksum(detail: string): FsError {
  return new FsError('EBADMSG', 'mount', { detail: `journal: checksum ${detail}` });
}
