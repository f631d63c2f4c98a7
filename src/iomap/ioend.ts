import { AssertionError } from '../base/assert.ts';
import { ERRNO } from '../base/errno.ts';
import { errnoOf, FsError } from '../base/fs-error.ts';
import { roundDown } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { Bio, REQ_INTEGRITY, REQ_OP_WRITE, REQ_SYNC } from '../block/bio.ts';
import type { BlockDevice } from '../block/block-device.ts';
import { VecBuilder } from '../block/vec.ts';
import type { Folio } from '../pagecache/folio.ts';
import type { Inode } from '../vfs/inode.ts';
import { checkMapping } from './check-mapping.ts';
import type { WritebackOps, WritepageContext } from './hooks.ts';
import {
  IOMAP_F_ANON_WRITE,
  IOMAP_F_BOUNDARY,
  IOMAP_F_INTEGRITY,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
  Iomap,
  typeName,
} from './iomap.ts';
import { traceIoend } from './trace.ts';
import { finishFolioWrite } from './writeback.ts';

/** Blocks were unwritten: convert them when the data is stable. */
export const IOEND_UNWRITTEN = 1 << 0;
/** Blocks are the copy of shared ones: put them into the file when the data is stable. */
export const IOEND_SHARED = 1 << 1;
/** Folios are to be dropped afterwards. */
export const IOEND_DONTCACHE = 1 << 2;
/** Not merged with what lies before it. */
export const IOEND_BOUNDARY = 1 << 3;
/** Made by direct I/O. */
export const IOEND_DIRECT = 1 << 4;

const NO_MERGE_FLAGS = IOEND_SHARED | IOEND_UNWRITTEN | IOEND_DONTCACHE | IOEND_DIRECT;

/** Folios of one batch: keeps completions short. */
export const IOEND_BATCH_MAX = 4096;
/** Segments finished before other tasks get a turn. */
const SEGMENTS_PER_TURN = 32768;

interface Segment {
  readonly folio: Folio;
  readonly length: number;
}

const NO_IOENDS: readonly Ioend[] = [];

/**
 * One written range of a file, contiguous on the device: built during a pass, sent as one bio, completed as a whole.
 *
 * Invariants:
 * 1. offset + size never passes the end of the file as it was sampled for the last folio in it.
 * 2. Its folios carry the writeback bit until its completion, with all the filesystem's work, is done.
 */
export class Ioend {
  readonly inode: Inode;
  /** File range, bytes. The last block may be covered only up to the end of the file. */
  readonly offset: number;
  size = 0;
  /** Device address of `offset`; the filesystem sets it in prepareIoend where it was IOMAP_NULL_ADDR. */
  addr: number;
  readonly bdev: BlockDevice | undefined;
  readonly flags: number;
  /** 0 or negative. */
  error = 0;
  /** The filesystem's own. */
  private: unknown = undefined;
  /** Protection information goes with the data. */
  readonly hasIntegrity: boolean;
  readonly segments: Segment[];
  /** Whole blocks. */
  readonly memory = new VecBuilder();
  /** Bytes of memory. */
  length = 0;
  folios: number;
  /** A part of a split ioend: the whole ends with its last part. */
  parent: Ioend | undefined = undefined;
  /** Requests that have not ended: 1, or the parts. */
  remaining = 1;
  /** Merged into this one at completion. */
  merged: readonly Ioend[] = NO_IOENDS;

  constructor(
    inode: Inode,
    offset: number,
    addr: number,
    bdev: BlockDevice | undefined,
    flags: number,
    hasIntegrity: boolean,
    segments: Segment[],
  ) {
    this.inode = inode;
    this.offset = offset;
    this.addr = addr;
    this.bdev = bdev;
    this.flags = flags;
    this.hasIntegrity = hasIntegrity;
    this.segments = segments;
    this.folios = segments.length;
  }

  get end(): number {
    return this.offset + this.size;
  }

  /** Its memory so far, in order. */
  get vec(): Uint8Array[] {
    return this.memory.take();
  }
}

/** What a filesystem on block devices adds to writeback. */
export interface IoendOps {
  /**
   * Fills wpc.iomap for `pos` unless it still holds (covers pos, cookies match): MAPPED or UNWRITTEN with address and device, SHARED where
   * the blocks are a copy; HOLE where a truncate was faster. Delayed allocations become real blocks now.
   */
  mapBlocks(wpc: WritepageContext, pos: number, length: number): MaybePromise<void>;
  /** Before the bio is sent: chooses an address (ANON_WRITE), prepares a copy. Throwing completes the ioend as failed. */
  prepareIoend?(ioend: Ioend): MaybePromise<void>;
  /** Largest request for this ioend, bytes, whole blocks: it is sent in parts, each prepared and ended by itself (zone append). */
  requestMax?(ioend: Ioend): number;
  /** Has the filesystem work to do when this ioend ends, beside what its flags say (a size to raise)? */
  needsCompletion?(ioend: Ioend): boolean;
  /**
   * The data is stable, or ioend.error says that it is not. In this order: cancel the copy of a failed write; remap a copy into the file;
   * convert unwritten blocks; raise the durable size to min(ioend end, i_size). Runs as a task, on merged ranges.
   *
   * Errors:  recorded on the mapping, as if the write had failed.
   */
  endIoend?(ioend: Ioend): MaybePromise<void>;
}

const NO_SOURCE = new Iomap();

/** Ioends of one inode whose completion waits for its task. There is an entry exactly while the task is posted or running. */
const queues = new WeakMap<Inode, Ioend[]>();

/** Writeback hooks that build ioends over block devices. */
export function blockWritebackOps(ops: IoendOps): WritebackOps {
  return {
    writebackRange: (wpc, folio, pos, length, endPos) => {
      const mapped = ops.mapBlocks(wpc, pos, length);
      if (isPromise(mapped)) return mapped.then(() => addToIoend(ops, wpc, folio, pos, length, endPos));
      return addToIoend(ops, wpc, folio, pos, length, endPos);
    },
    writebackSubmit: (wpc, error) => {
      const ioend = wpc.wbCtx as Ioend;
      wpc.wbCtx = undefined;
      return submitIoend(ops, ioend, error);
    },
  };
}

/** Adds up to `length` dirty bytes at `pos` to the batch, where the mapping puts them. Returns the bytes taken. */
function addToIoend(ops: IoendOps, wpc: WritepageContext, folio: Folio, pos: number, length: number, endPos: number): MaybePromise<number> {
  const { iomap, inode } = wpc;
  if (!iomap.covers(pos)) {
    inode.markBad();
    throw new FsError('EIO', 'fsync', { detail: `inode ${inode.ino}: writeback mapping misses byte ${pos}` });
  }
  const taken = Math.min(length, iomap.end - pos);
  let flags = 0;
  switch (iomap.type) {
    case IOMAP_HOLE:
      return taken;
    case IOMAP_MAPPED:
      break;
    case IOMAP_UNWRITTEN:
      flags |= IOEND_UNWRITTEN;
      break;
    default:
      throw new FsError('EIO', 'fsync', { detail: `inode ${inode.ino} at byte ${pos}: ${typeName(iomap.type)} in writeback` });
  }
  const isAnonymous = (iomap.flags & IOMAP_F_ANON_WRITE) !== 0;
  if (iomap.bdev === undefined || (!isAnonymous && iomap.addr === IOMAP_NULL_ADDR)) {
    inode.markBad();
    throw new FsError('EIO', 'fsync', { detail: `inode ${inode.ino} at byte ${pos}: a mapping without a device address` });
  }
  checkMapping(inode, pos, 0, iomap, NO_SOURCE, false);
  if ((iomap.flags & IOMAP_F_SHARED) !== 0) flags |= IOEND_SHARED;
  if (folio.isDropbehind) flags |= IOEND_DONTCACHE;
  if ((iomap.flags & IOMAP_F_BOUNDARY) !== 0 && pos === iomap.offset) flags |= IOEND_BOUNDARY;
  const addr = iomap.addrOf(pos);

  let ioend = wpc.wbCtx as Ioend | undefined;
  let sent: MaybePromise<void> | undefined;
  if (ioend === undefined || !canAppend(ioend, wpc, flags, pos, addr, taken, folio)) {
    if (ioend !== undefined) {
      wpc.wbCtx = undefined;
      sent = submitIoend(ops, ioend, undefined);
      wpc.nrFolios = 0;
    }
    ioend = new Ioend(inode, pos, addr, iomap.bdev, flags, (iomap.flags & IOMAP_F_INTEGRITY) !== 0, [{ folio, length: taken }]);
    wpc.wbCtx = ioend;
  } else {
    if (ioend.segments[ioend.segments.length - 1]?.folio !== folio) ioend.folios++;
    ioend.segments.push({ folio, length: taken });
  }
  const from = folio.base + (pos - folio.pos);
  ioend.memory.add(folio.slab, from, from + taken);
  ioend.length += taken;
  ioend.size += taken;
  // Byte exact at the end of the file: a crash must not show the padding of the last block as data.
  if (ioend.end > endPos) ioend.size = endPos - ioend.offset;
  return isPromise(sent) ? sent.then(() => taken) : taken;
}

function canAppend(ioend: Ioend, wpc: WritepageContext, flags: number, pos: number, addr: number, length: number, folio: Folio): boolean {
  const { bdev } = ioend;
  if ((flags & IOEND_BOUNDARY) !== 0 || ((flags ^ ioend.flags) & NO_MERGE_FLAGS) !== 0) return false;
  if (pos !== ioend.end || bdev !== wpc.iomap.bdev) return false;
  if (((wpc.iomap.flags & IOMAP_F_INTEGRITY) !== 0) !== ioend.hasIntegrity) return false;
  if (ioend.addr !== IOMAP_NULL_ADDR && addr !== ioend.addr + ioend.length) return false;
  if ((addr === IOMAP_NULL_ADDR) !== (ioend.addr === IOMAP_NULL_ADDR)) return false;
  const isSameFolio = ioend.segments[ioend.segments.length - 1]?.folio === folio;
  if (ioend.folios >= IOEND_BATCH_MAX && !isSameFolio) return false;
  return ioend.length + length <= (bdev as BlockDevice).bioSizeMax;
}

/** Sends an ioend, or completes it as failed: its folios carry the writeback bit and have to lose it. */
function submitIoend(ops: IoendOps, ioend: Ioend, error: unknown): MaybePromise<void> {
  if (error !== undefined) {
    completeIoend(ops, ioend, errnoOf(error));
    return;
  }
  let max: number;
  try {
    max = requestMaxOf(ops, ioend);
  } catch (thrown) {
    completeIoend(ops, ioend, errnoOf(thrown));
    return;
  }
  if (max >= ioend.length) return send(ops, ioend);
  return run(sendParts(ops, ioend, max));
}

function* sendParts(ops: IoendOps, ioend: Ioend, max: number): Task<void> {
  const parts = split(ioend, max);
  ioend.remaining = parts.length;
  for (const part of parts) yield* wait(send(ops, part));
}

/** Largest request for this ioend: what the filesystem and the device allow. One folio's run may be longer than either. */
function requestMaxOf(ops: IoendOps, ioend: Ioend): number {
  const { bioSizeMax, logicalBlockSize } = ioend.bdev as BlockDevice;
  const { blockSize } = ioend.inode;
  const deviceMax = roundDown(bioSizeMax, bioSizeMax >= blockSize ? blockSize : logicalBlockSize);
  const max = Math.min(ops.requestMax?.(ioend) ?? Number.POSITIVE_INFINITY, deviceMax);
  if (!(max > 0)) throw new FsError('EIO', 'fsync', { detail: `inode ${ioend.inode.ino}: requests of ${max} bytes` });
  return max;
}

/** Sends an ioend, or a part of one. What the filesystem throws ends it as failed. */
function send(ops: IoendOps, ioend: Ioend): MaybePromise<void> {
  if (ops.prepareIoend !== undefined) {
    const failed = (error: unknown): void => {
      completeIoend(ops, ioend, errnoOf(error));
      if (error instanceof AssertionError) throw error;
    };
    let prepared: MaybePromise<void>;
    try {
      prepared = ops.prepareIoend(ioend);
    } catch (error) {
      return failed(error);
    }
    if (isPromise(prepared)) return (prepared as Promise<void>).then(() => issue(ops, ioend), failed);
  }
  issue(ops, ioend);
}

function issue(ops: IoendOps, ioend: Ioend): void {
  if (ioend.addr === IOMAP_NULL_ADDR) {
    completeIoend(ops, ioend, -ERRNO.EIO); // nobody chose one
    return;
  }
  const flags = REQ_SYNC | (ioend.hasIntegrity ? REQ_INTEGRITY : 0);
  const bio = new Bio(REQ_OP_WRITE, ioend.addr, flags, (ended) => completeIoend(ops, ioend, ended.status), ioend.vec, ioend.length);
  bio.filePos = ioend.offset;
  (ioend.bdev as BlockDevice).submit(bio);
}

/** Cuts an ioend into parts of at most `max` bytes. The folios stay with the whole. */
function split(ioend: Ioend, max: number): Ioend[] {
  const parts: Ioend[] = [];
  const { vec } = ioend;
  let left = ioend.size;
  let piece = 0; // of vec
  let at = 0; // byte in that piece
  for (let start = 0; start < ioend.length; ) {
    const addr = ioend.addr === IOMAP_NULL_ADDR ? IOMAP_NULL_ADDR : ioend.addr + start;
    const part = new Ioend(ioend.inode, ioend.offset + start, addr, ioend.bdev, ioend.flags, ioend.hasIntegrity, []);
    part.parent = ioend;
    while (part.length < max && piece < vec.length) {
      const bytes = vec[piece] as Uint8Array;
      const taken = Math.min(max - part.length, bytes.length - at);
      part.memory.add(bytes, at, at + taken);
      part.length += taken;
      at += taken;
      if (at === bytes.length) {
        piece++;
        at = 0;
      }
    }
    part.size = Math.min(part.length, left);
    left -= part.size;
    start += part.length;
    parts.push(part);
  }
  return parts;
}

function completeIoend(ops: IoendOps, ioend: Ioend, errno: number): void {
  if (errno < 0 && ioend.error === 0) ioend.error = errno;
  const { inode } = ioend;
  const needsTask = ioend.error < 0 || (ioend.flags & NO_MERGE_FLAGS) !== 0 || ops.needsCompletion?.(ioend) === true;
  if (!needsTask) {
    report(ioend);
    letGo(ioend);
    return;
  }
  let queue = queues.get(inode);
  if (queue !== undefined) {
    queue.push(ioend);
    return;
  }
  queue = [ioend];
  queues.set(inode, queue);
  inode.sb.work.post(() => run(completeQueue(ops, inode, queue)));
}

/** The one task of an inode: takes all that has come each time, so that neighbours become one transaction. */
function* completeQueue(ops: IoendOps, inode: Inode, queue: Ioend[]): Task<void> {
  try {
    while (queue.length > 0) yield* completeBatch(ops, queue.splice(0));
  } finally {
    queues.delete(inode);
  }
}

function* completeBatch(ops: IoendOps, batch: Ioend[]): Task<void> {
  batch.sort((a, b) => a.offset - b.offset);
  for (let i = 0; i < batch.length; ) {
    const first = batch[i++] as Ioend;
    let size = first.size;
    let length = first.length;
    const merged: Ioend[] = [];
    for (let next = batch[i]; next !== undefined && canMerge(first, size, length, next); next = batch[++i]) {
      merged.push(next);
      size += next.size;
      length += next.length;
    }
    first.merged = merged;
    first.size = size;
    first.length = length;
    if (ops.endIoend !== undefined) {
      try {
        yield* wait(ops.endIoend(first));
      } catch (error) {
        if (first.error === 0) first.error = errnoOf(error);
      }
    }
    report(first);
    let segments = 0;
    for (const part of [first, ...first.merged]) {
      letGo(part);
      segments += part.segments.length;
      if (segments >= SEGMENTS_PER_TURN) {
        segments = 0;
        yield first.inode.sb.cache.clock.yield();
      }
    }
  }
}

/** May `next` be completed together with what ends at first.offset + size? Source: the rules of ioend merging. */
function canMerge(first: Ioend, size: number, length: number, next: Ioend): boolean {
  if (first.error !== next.error || (next.flags & IOEND_BOUNDARY) !== 0) return false;
  if (((first.flags ^ next.flags) & NO_MERGE_FLAGS) !== 0) return false;
  return next.offset === first.offset + size && next.bdev === first.bdev && next.addr === first.addr + length;
}

/** The written range is where it belongs, or lost. */
function report(ioend: Ioend): void {
  const { inode, error } = ioend;
  if (traceIoend.channel.hasSubscribers)
    traceIoend.channel.publish({ ino: inode.ino, pos: ioend.offset, length: ioend.size, errno: error });
  if (error < 0) {
    inode.setError(error);
    inode.reportError('data-lost', ioend.offset, ioend.size, error);
  }
}

/** Takes the writeback off its folios, for a part of a split ioend when all of them have ended. */
function letGo(ioend: Ioend): void {
  const { parent } = ioend;
  if (parent !== undefined) {
    if (--parent.remaining === 0) finishFolios(parent);
    return;
  }
  finishFolios(ioend);
}

function finishFolios(ioend: Ioend): void {
  for (const { folio, length } of ioend.segments) finishFolioWrite(ioend.inode, folio, length);
}
