// Volumes of many kinds, in memory, for random operations that are compared with a model: made once for each kind, mounted for each run.

import assert from 'node:assert/strict';
import type { Clock } from '../../src/base/clock.ts';
import type { Prng } from '../../src/base/prng.ts';
import type { MemoryDevice } from '../../src/block/memory-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { type Ext4Options, mountExt4 } from '../../src/fs/ext4/mount.ts';
import type { PageCache } from '../../src/pagecache/page-cache.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { NodeId } from '../../src/vfs/file-system.ts';
import { assertClean, makeVolume, type VolumeKind } from './ext4-volume.ts';
import type { SpaceRules } from './tree-model.ts';
import type { TreeSubject } from './tree-ops.ts';

/** A kind of volume, and how it is mounted. */
export interface ModelKind extends VolumeKind {
  readonly name: string;
  /** Bytes. */
  readonly blockSize: number;
  /** Bytes, with bigalloc. Default: one block. */
  readonly clusterSize?: number;
  /** Files are mapped by block pointers. */
  readonly hasPointers?: boolean;
  /** Inodes have no room for more than seconds. */
  readonly isSmall?: boolean;
  readonly mount?: Ext4Options;
}

const QUOTAS = 'quota,project -E quotatype=usrquota:grpquota:prjquota';

export const MODEL_KINDS: readonly ModelKind[] = [
  { name: 'ext4', options: '-t ext4 -b 4096', blockSize: 4096 },
  { name: 'blocks of 1 KiB', options: '-t ext4 -b 1024', blockSize: 1024 },
  { name: 'blocks of 2 KiB, inodes of 128 bytes', options: '-t ext4 -b 2048 -I 128', blockSize: 2048, isSmall: true },
  { name: 'blocks of 64 KiB', options: '-t ext4 -b 65536', blockSize: 65536, size: 128 },
  { name: 'inline data', options: '-t ext4 -b 4096 -O inline_data', blockSize: 4096 },
  { name: 'inline data, blocks of 1 KiB', options: '-t ext4 -b 1024 -I 512 -O inline_data,ea_inode', blockSize: 1024 },
  { name: 'clusters', options: '-t ext4 -b 4096 -O bigalloc -C 16384', blockSize: 4096, clusterSize: 16384, size: 64 },
  { name: 'clusters of 8 KiB', options: '-t ext4 -b 1024 -O bigalloc -C 8192', blockSize: 1024, clusterSize: 8192, size: 64 },
  { name: 'quotas', options: `-t ext4 -b 4096 -O ${QUOTAS}`, blockSize: 4096 },
  { name: 'orphan file', options: '-t ext4 -b 4096 -O orphan_file,metadata_csum_seed', blockSize: 4096 },
  { name: 'no journal', options: '-t ext4 -b 4096 -O ^has_journal', blockSize: 4096 },
  { name: 'no journal, blocks of 1 KiB', options: '-t ext4 -b 1024 -O ^has_journal,^metadata_csum', blockSize: 1024 },
  { name: 'ext3', options: '-t ext3 -b 4096', blockSize: 4096, hasPointers: true },
  { name: 'ext3, blocks of 1 KiB', options: '-t ext3 -b 1024', blockSize: 1024, hasPointers: true },
  { name: 'ext2', options: '-t ext2 -b 1024', blockSize: 1024, hasPointers: true },
  { name: 'uncached', options: '-t ext4 -b 4096', blockSize: 4096, mount: { uncached: true } },
  { name: 'uncached, inline data', options: '-t ext4 -b 4096 -O inline_data', blockSize: 4096, mount: { uncached: true } },
  { name: 'uncached ext2', options: '-t ext2 -b 4096', blockSize: 4096, hasPointers: true, mount: { uncached: true } },
  {
    name: 'uncached, clusters',
    options: '-t ext4 -b 4096 -O bigalloc -C 16384',
    blockSize: 4096,
    clusterSize: 16384,
    size: 64,
    mount: { uncached: true },
  },
  { name: 'data in the journal', options: '-t ext4 -b 4096', blockSize: 4096, mount: { data: 'journal' } },
  {
    name: 'everything new',
    options: `-t ext4 -b 4096 -O inline_data,ea_inode,orphan_file,metadata_csum_seed,${QUOTAS}`,
    blockSize: 4096,
  },
];

const fresh = new Map<string, MemoryDevice>();

/** A new volume of a kind. */
export function freshVolume(kind: VolumeKind): MemoryDevice {
  const key = `${kind.options} ${kind.size ?? 0}`;
  let volume = fresh.get(key);
  if (volume === undefined) fresh.set(key, (volume = makeVolume(kind)));
  return volume.snapshot();
}

export function spaceRules({ blockSize, clusterSize = blockSize, hasPointers }: ModelKind): SpaceRules {
  // Attributes, nodes of the tree or blocks of pointers, and clusters that are promised although the file has a part of them.
  return { unit: clusterSize, blockSize, overhead: clusterSize > blockSize ? 40 : 20, allocates: hasPointers !== true };
}

/** What the kinds have in common under test: mounted, unmounted and judged. */
export class Ext4Subject implements TreeSubject {
  readonly kind: ModelKind;
  readonly space: SpaceRules;
  readonly bdev: MemoryDevice;
  fs!: Ext4Fs;
  readonly #options: Ext4Options;
  /** The directory that stands for the root: one below it, which has lost+found. */
  #root: NodeId | undefined;
  #freeAtFirst = 0;

  static async make(kind: ModelKind, cache: PageCache | undefined, clock: Clock | undefined, prng: Prng): Promise<Ext4Subject> {
    const subject = new Ext4Subject(kind, cache, clock, prng.u32());
    await subject.#mount();
    subject.#freeAtFirst = subject.#free();
    const { node } = await subject.fs.mkdir(ROOT, subject.fs.root, 'fresh', 0o755);
    subject.#become(node);
    return subject;
  }

  private constructor(kind: ModelKind, cache: PageCache | undefined, clock: Clock | undefined, seed: number) {
    this.kind = kind;
    this.space = spaceRules(kind);
    this.bdev = freshVolume(kind);
    this.#options = {
      ...kind.mount,
      ...(cache === undefined ? {} : { cache }),
      ...(clock === undefined ? {} : { clock, now: () => clock.now() }),
      seed,
      errors: 'continue',
      onWarning: (message) => this.warnings.push(message),
    };
  }

  /** What the volume had to say since it was mounted last: nothing is right. */
  readonly warnings: string[] = [];

  async #mount(): Promise<void> {
    this.fs = await mountExt4(this.bdev, this.#options);
    if (this.#root !== undefined) this.#become((await this.fs.lookup(ROOT, this.fs.root, 'fresh'))?.node);
  }

  #become(node: NodeId | undefined): void {
    assert.ok(node !== undefined, 'the directory is gone');
    this.#root = node;
    Object.defineProperty(this.fs, 'root', { value: node, configurable: true });
  }

  /** Blocks that are neither in use nor promised. */
  #free(): number {
    return (this.fs.statfs(ROOT, this.fs.root) as { bfree: number }).bfree;
  }

  /** Unmounts, has e2fsck look at it, and mounts again: what was free before is free still. */
  async remount(): Promise<void> {
    await this.fs.syncfs(ROOT);
    const before = this.#free();
    await this.#unmount();
    await this.#mount();
    assert.equal(this.#free(), before, 'free blocks after unmounting: promises were left, or blocks got lost');
  }

  async #unmount(): Promise<void> {
    await this.fs.destroy();
    assert.deepEqual(this.warnings, [], 'what the volume has to say');
    assertClean(this.bdev, this.kind.name);
  }

  /** The tree is empty, as everything is but the directory itself. */
  async close(): Promise<void> {
    // Whoever used it may have ended it.
    await this.fs.destroy();
    this.#root = undefined;
    await this.#mount();
    await this.fs.rmdir(ROOT, this.fs.root, 'fresh');
    await this.fs.syncfs(ROOT);
    assert.equal(this.#free(), this.#freeAtFirst, 'free blocks of the emptied volume');
    await this.#unmount();
  }
}
