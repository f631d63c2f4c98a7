// A volume of ext4 without mkfs and mount: a MemoryDevice, the real BufferCache, and small stand-ins for the log, the handle, the allocator
// and modifyInode. Code under test that allocates is imported behind useFakes():
//
//   import { useFakes } from '../../../test/support/ext4-world.ts';
//   useFakes();
//   const { mapBlocks } = await import('./block-map.ts');

import { register } from 'node:module';
import { assert } from '../../src/base/assert.ts';
import { FsError } from '../../src/base/fs-error.ts';
import { RwLock } from '../../src/base/lock.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, run, type Task } from '../../src/base/task.ts';
import { BufferCache, type BufferHead } from '../../src/block/buffer-cache.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import type { AllocOptions, BlockRun } from '../../src/fs/ext4/block-alloc.ts';
import { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import { Ext4Sb } from '../../src/fs/ext4/ext4-sb.ts';
import { EXT_MAX_BLOCKS, EXT4_EXTENTS_FL } from '../../src/fs/ext4/format.ts';
import type { Superblock } from '../../src/fs/ext4/superblock.ts';
import { SystemZone } from '../../src/fs/ext4/system-zone.ts';
import type { Handle, MetadataLog } from '../../src/jbd2/log.ts';
import { S_IFREG } from '../../src/vfs/uapi.ts';

/**
 * From here on, what src/fs/ext4 imports from block-alloc.ts and inode-table.ts comes from this file. Only modules that are imported later
 * see it: by `await import()`, of modules that this file does not import itself.
 */
export function useFakes(): void {
  const hook = `export async function resolve(specifier, context, next) {
    const isFaked = /\\/src\\/fs\\/ext4\\//.test(context.parentURL ?? '') && /^\\.\\/(block-alloc|inode-table)\\.[jt]s$/.test(specifier);
    return isFaked ? { url: ${JSON.stringify(import.meta.url)}, shortCircuit: true } : next(specifier, context);
  }`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
}

/** The value of a task that has everything in core. */
export function now<T>(task: Task<T>): T {
  const value = run(task);
  assert(!isPromise(value), 'the task waited');
  return value;
}

// ---- volume

export interface FakeSbOptions {
  /** Default 1024. Smaller than 512: blocks of 512 of which only the beginning is used, so that trees of few entries have many levels. */
  readonly blockSize?: number;
  /** Blocks of the volume, default 65536. */
  readonly blocks?: number;
  readonly clusterRatio?: number;
  readonly csumSeed?: number;
  /** metadata_csum, default true. */
  readonly hasCsum?: boolean;
  /** Blocks from here on are free, default 16. */
  readonly firstFree?: number;
  /** Further properties of the superblock. */
  readonly es?: object;
}

/** A mounted volume, all of whose blocks from `firstFree` on are free, with a FakeLog. */
export function fakeSb(options: FakeSbOptions = {}): Ext4Sb {
  const { blockSize = 1024, blocks = 65536, clusterRatio = 1, csumSeed = 0x12345678, hasCsum = true, firstFree = 16 } = options;
  const bufferSize = Math.max(512, blockSize);
  const bdev = new MemoryDevice({ size: bufferSize * blocks, chunkSize: 65536 });
  const es = {
    blockSize,
    clusterRatio,
    csumSeed,
    hasMetadataCsum: hasCsum,
    firstDataBlock: blockSize === 1024 && clusterRatio === 1 ? 1 : 0,
    blocksCount: blocks,
    blocksPerGroup: blockSize * 8 * clusterRatio,
    clustersPerGroup: blockSize * 8,
    groupCount: Math.ceil(blocks / (blockSize * 8 * clusterRatio)),
    hasCompat: () => false,
    hasIncompat: () => false,
    hasRoCompat: () => false,
    ...options.es,
  } as unknown as Superblock;
  const env = { now: () => ({ sec: 1_700_000_000, nsec: 0 }), prng: new Prng(1) };
  const buffers = new BufferCache(bdev, bufferSize, 2 ** 26);
  const sb = new Ext4Sb(bdev, buffers, es, new SystemZone(), new FakeLog(buffers), env, false);
  ALLOCATORS.set(sb, new FakeAllocator(blocks, clusterRatio, firstFree));
  return sb;
}

export interface FakeInodeOptions {
  readonly mode?: number;
  readonly flags?: number;
  readonly generation?: number;
}

/** An inode in core, without blocks. i_block is all zero: the caller makes what it needs of it. */
export function fakeInode(sb: Ext4Sb, ino = 12, options: FakeInodeOptions = {}): Ext4Inode {
  const inode = new Ext4Inode(sb, ino);
  inode.mode = options.mode ?? S_IFREG | 0o644;
  inode.flags = options.flags ?? EXT4_EXTENTS_FL;
  inode.generation = options.generation ?? 0x01020304;
  inode.nlink = 1;
  return inode;
}

// ---- log and handle

/** A log without a device: a commit seals the blocks that were changed and writes them home at once. */
export class FakeLog implements MetadataLog {
  readonly lock = new RwLock();
  readonly creditsMax = 100_000;
  readonly buffers: BufferCache;
  runningTid = 1;
  aborted: FsError | undefined = undefined;
  isDirty = false;
  readonly isBusy = false;
  /** Blocks that handles of the transaction forgot. */
  readonly forgotten = new Set<number>();
  readonly onCommits: (() => void)[] = [];

  constructor(buffers: BufferCache) {
    this.buffers = buffers;
  }

  start(credits: number): FakeHandle {
    return new FakeHandle(this, credits);
  }

  isCommitted(tid: number): boolean {
    return tid < this.runningTid;
  }

  commit(): boolean {
    this.runningTid++;
    for (const done of this.onCommits.splice(0)) done();
    for (const blocknr of this.forgotten) this.buffers.forget(blocknr);
    this.forgotten.clear();
    this.isDirty = false;
    assert(!isPromise(this.buffers.writeDirty()), 'the device answers at once');
    return true;
  }

  checkpoint(): void {
    this.commit();
  }

  abort(why: FsError): void {
    this.aborted = why;
  }

  close(): void {
    this.commit();
  }
}

interface Saved {
  readonly bh: BufferHead;
  readonly data: Uint8Array;
  readonly checked: number;
  readonly seal: ((bh: BufferHead) => void) | undefined;
  readonly isDirty: boolean;
  readonly isUptodate: boolean;
}

export class FakeHandle implements Handle {
  readonly log: FakeLog;
  readonly tid: number;
  isSync = false;
  isOpen = true;
  /** What extend() may still give out. */
  extensible = Number.POSITIVE_INFINITY;
  /** Blocks that joined. */
  used = 0;
  #limit: number;
  readonly #saved = new Map<number, Saved>();
  #forgotten: number[] = [];
  #undos: (() => void)[] = [];
  #lasts: (() => void)[] = [];
  #commits: (() => void)[] = [];

  constructor(log: FakeLog, credits: number) {
    this.log = log;
    this.tid = log.runningTid;
    this.#limit = credits;
  }

  get credits(): number {
    return this.#limit - this.used;
  }

  getWriteAccess(bh: BufferHead): Uint8Array {
    assert(this.isOpen, 'the handle is open');
    assert(bh.isUptodate, `block ${bh.blocknr} is uptodate`);
    if (this.#saved.has(bh.blocknr)) return bh.data;
    this.#join(bh);
    bh.data = bh.data.slice();
    bh.decoded = undefined;
    bh.isDirty = true;
    return bh.data;
  }

  getCreateAccess(blocknr: number): BufferHead {
    assert(this.isOpen, 'the handle is open');
    this.log.forgotten.delete(blocknr);
    const known = this.log.buffers.peek(blocknr);
    if (known !== undefined && !this.#saved.has(blocknr)) this.#join(known);
    const bh = this.log.buffers.create(blocknr);
    if (!this.#saved.has(blocknr)) {
      this.#join(bh);
      this.#saved.set(blocknr, { bh, data: bh.data, checked: 0, seal: undefined, isDirty: false, isUptodate: false });
    }
    bh.isDirty = true;
    return bh;
  }

  #join(bh: BufferHead): void {
    assert(this.credits > 0, `${this.#limit} credits are enough`);
    this.used++;
    const { data, checked, seal, isDirty, isUptodate } = bh;
    this.#saved.set(bh.blocknr, { bh, data, checked, seal, isDirty, isUptodate });
  }

  forget(blocknr: number): void {
    assert(this.isOpen, 'the handle is open');
    this.log.forgotten.add(blocknr);
    this.#forgotten.push(blocknr);
  }

  onRollback(undo: () => void): void {
    this.#undos.push(undo);
  }

  onStop(last: () => void): void {
    this.#lasts.push(last);
  }

  onCommit(done: () => void): void {
    this.#commits.push(done);
  }

  extend(credits: number): boolean {
    if (credits > this.extensible) return false;
    this.extensible -= credits;
    this.#limit += credits;
    return true;
  }

  restart(credits: number): void {
    this.stop();
    this.isOpen = true;
    this.used = 0;
    this.#limit = credits;
    this.#saved.clear();
    this.#forgotten = [];
    this.#undos = [];
    this.#lasts = [];
    this.#commits = [];
    INODES.delete(this);
  }

  stop(): void {
    assert(this.isOpen, 'the handle is open');
    for (const last of this.#lasts) last();
    this.isOpen = false;
    this.log.isDirty = true;
    this.log.onCommits.push(...this.#commits);
    if (this.isSync) this.log.commit();
  }

  rollback(): void {
    assert(this.isOpen, 'the handle is open');
    this.isOpen = false;
    for (const undo of this.#undos.reverse()) undo();
    for (const blocknr of this.#forgotten) this.log.forgotten.delete(blocknr);
    for (const { bh, data, checked, seal, isDirty, isUptodate } of this.#saved.values()) {
      bh.data = data;
      bh.checked = checked;
      bh.decoded = undefined;
      bh.seal = seal;
      bh.isDirty = isDirty;
      bh.isUptodate = isUptodate;
      if (!isUptodate) this.log.buffers.forget(bh.blocknr);
    }
  }
}

// ---- inode-table.ts

const INODES = new WeakMap<Handle, Set<Ext4Inode>>();

/** As in inode-table.ts, without a record: the fields are as before when the handle is rolled back. */
export function* modifyInode(h: Handle, inode: Ext4Inode): Task<void> {
  const known = INODES.get(h) ?? new Set<Ext4Inode>();
  INODES.set(h, known);
  if (known.has(inode)) return;
  known.add(inode);
  const fields = { ...inode, iBlock: inode.iBlock.slice(), ea: inode.ea.slice() };
  h.onRollback(() => {
    Object.assign(inode, fields);
  });
}

/** As in inode-table.ts, without what i_blocks can count. */
export function sizeMaxOf(inode: Ext4Inode): number {
  const pointers = inode.sb.blockSize / 4;
  const lblkEnd = inode.hasExtents ? EXT_MAX_BLOCKS : 12 + pointers + pointers ** 2 + pointers ** 3;
  return Math.min(EXT_MAX_BLOCKS, lblkEnd) * inode.sb.blockSize;
}

// ---- block-alloc.ts

const ALLOCATORS = new WeakMap<Ext4Sb, FakeAllocator>();

/** What allocBlocks and freeBlocks of this file do on `sb`. */
export function allocatorOf(sb: Ext4Sb): FakeAllocator {
  const allocator = ALLOCATORS.get(sb);
  assert(allocator !== undefined, 'the volume is of fakeSb()');
  return allocator;
}

/** First fit from the goal on, around the volume, by whole clusters. */
export class FakeAllocator {
  /** 1: in use. By cluster. */
  readonly bits: Uint8Array;
  readonly clusterRatio: number;
  /** Longest run that is given out, in blocks; a test makes it small, or a function, to scatter a file. */
  runMax: () => number = () => Number.POSITIVE_INFINITY;
  /** The next so many calls succeed, the one behind them has ENOSPC. */
  failAfter = Number.POSITIVE_INFINITY;
  /** Blocks that were freed as metadata, since the test last cleared it. */
  readonly freedAsMetadata = new Set<number>();
  readonly freedAsData = new Set<number>();

  constructor(blocks: number, clusterRatio: number, firstFree: number) {
    this.clusterRatio = clusterRatio;
    this.bits = new Uint8Array(Math.floor(blocks / clusterRatio));
    this.bits.fill(1, 0, Math.ceil(firstFree / clusterRatio));
  }

  isUsed(block: number): boolean {
    return this.bits[Math.floor(block / this.clusterRatio)] === 1;
  }

  /** The clusters in use from `firstFree` on, by number. */
  usedFrom(firstFree: number): number[] {
    const used: number[] = [];
    for (let at = Math.ceil(firstFree / this.clusterRatio); at < this.bits.length; at++) if (this.bits[at] === 1) used.push(at);
    return used;
  }

  alloc({ goal, count, countMin = 1, end = Number.POSITIVE_INFINITY }: AllocOptions): BlockRun {
    const ratio = this.clusterRatio;
    if (this.failAfter-- <= 0) throw new FsError('ENOSPC', 'ext4');
    const limit = Math.min(this.bits.length, Math.floor(end / ratio));
    const wanted = Math.max(1, Math.ceil(Math.min(count, Math.max(this.runMax(), countMin)) / ratio));
    const least = Math.ceil(countMin / ratio);
    const first = goal >= 0 && goal < limit * ratio ? Math.floor(goal / ratio) : 0;
    for (let i = 0; i < limit; i++) {
      const at = (first + i) % limit;
      let length = 0;
      while (length < wanted && at + length < limit && this.bits[at + length] === 0) length++;
      if (length < least) continue;
      this.bits.fill(1, at, at + length);
      return { start: at * ratio, count: length * ratio };
    }
    throw new FsError('ENOSPC', 'ext4');
  }

  free(start: number, count: number): void {
    const ratio = this.clusterRatio;
    assert(start % ratio === 0 && count % ratio === 0 && count > 0, `[${start}, ${start + count}) is whole clusters`);
    for (let at = start / ratio; at < (start + count) / ratio; at++) {
      if (this.bits[at] !== 1) throw new FsError('EUCLEAN', 'ext4', { detail: `cluster ${at} is not in use` });
      this.bits[at] = 0;
    }
  }

  take(start: number, count: number): void {
    this.bits.fill(1, start / this.clusterRatio, (start + count) / this.clusterRatio);
  }
}

/** As in block-alloc.ts: whole clusters. */
export function* allocBlocks(h: Handle, inode: Ext4Inode, options: AllocOptions): Task<BlockRun> {
  const allocator = allocatorOf(inode.sb);
  yield* modifyInode(h, inode);
  const got = allocator.alloc(options);
  inode.blocks += (got.count * inode.sb.blockSize) / 512;
  h.onRollback(() => allocator.free(got.start, got.count));
  return got;
}

/** As in block-alloc.ts: whole clusters, free again when the handle is committed. */
export function* freeBlocks(h: Handle, inode: Ext4Inode, start: number, count: number, isMetadata: boolean): Task<void> {
  const allocator = allocatorOf(inode.sb);
  const { freedAsMetadata, freedAsData } = allocator;
  yield* modifyInode(h, inode);
  allocator.free(start, count);
  allocator.take(start, count);
  h.onCommit(() => allocator.free(start, count));
  inode.blocks -= (count * inode.sb.blockSize) / 512;
  for (let at = start; at < start + count; at++) {
    (isMetadata ? freedAsMetadata : freedAsData).add(at);
    if (isMetadata) h.forget(at);
  }
}

/** As in block-alloc.ts. */
export function* charge(h: Handle, inode: Ext4Inode, bytes: number): Task<void> {
  yield* modifyInode(h, inode);
  inode.blocks += bytes / 512;
  yield* inode.sb.quota.chargeBlocks(h, inode, bytes);
}

export function goalOf(inode: Ext4Inode): number {
  return Math.min(inode.ino * 64, inode.sb.es.blocksCount - 1);
}
