import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { RwLock } from '../base/lock.ts';
import { isPowerOfTwo, log2Floor, roundDown } from '../base/ranges.ts';
import { WaitQueue } from '../base/wait-queue.ts';
import { AddressSpace, type AddressSpaceOptions, type MappingHost } from '../pagecache/address-space.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { FsErrorKind, SuperBlock } from './super-block.ts';

export interface InodeOptions extends AddressSpaceOptions {
  ino?: number;
  /** i_size at instantiation, bytes. */
  size?: number;
  /** Block size of the filesystem, bytes: a power of two from 512 to 64 KiB. */
  blockSize: number;
  /** The largest size of this file, bytes, where it is less than that of its filesystem. */
  sizeMax?: number;
  /** Serves calls that leave nothing in the cache (RWF_DONTCACHE). Default: yes; false for files whose reads cannot be repeated. */
  allowsDontcache?: boolean;
}

/**
 * A file in core, as far as file I/O needs it.
 *
 * Invariants:
 * 1. `size` changes only under the inode lock held exclusively, and while a folio of the new end is locked if data was added.
 * 2. dioCount is the number of direct requests between their start and the end of their completion.
 * 3. A bad inode (its filesystem or server answered nonsense) refuses all I/O with EIO; its cached data is never written.
 */
export class Inode implements MappingHost {
  readonly sb: SuperBlock;
  readonly ino: number;
  readonly blockSize: number;
  /** The largest size this file may have: whole blocks. */
  readonly sizeMax: number;
  readonly allowsDontcache: boolean;
  readonly mapping: AddressSpace;
  /** i_rwsem. */
  readonly lock = new RwLock();
  /** i_size. */
  size: number;
  dioCount = 0;
  isBad = false;
  /** The file's cache past i_size holds verity metadata: EOF rules do not apply. */
  hasVerityTail = false;
  /** In-core attributes changed and are to be written by the filesystem. */
  isDirty = false;
  /** Made by the first who waits for the end of direct I/O. */
  #dioDone: WaitQueue | undefined = undefined;

  constructor(sb: SuperBlock, options: InodeOptions) {
    assert(isPowerOfTwo(options.blockSize) && options.blockSize >= 512 && options.blockSize <= 65536, `block size ${options.blockSize}`);
    this.sb = sb;
    this.ino = options.ino ?? 0;
    this.blockSize = options.blockSize;
    this.sizeMax = roundDown(Math.min(sb.sizeMax, options.sizeMax ?? sb.sizeMax), options.blockSize);
    this.allowsDontcache = options.allowsDontcache ?? true;
    this.size = options.size ?? 0;
    // No folio is smaller than a block.
    const orderMin = Math.max(log2Floor(Math.max(1, options.blockSize / PAGE_SIZE)), options.orderMin ?? 0);
    this.mapping = new AddressSpace(sb.cache, sb.bdi, this, orderMin === 0 ? options : { ...options, orderMin });
  }

  markDirty(): void {
    this.isDirty = true;
  }

  /** Its filesystem or server answered nonsense: nothing it says is trusted from here on. */
  markBad(): void {
    this.isBad = true;
  }

  checkGood(syscall: string): void {
    if (this.isBad) throw new FsError('EIO', syscall, { detail: `inode ${this.ino} is marked bad` });
  }

  dioBegin(): void {
    this.dioCount++;
  }

  dioEnd(): void {
    assert(this.dioCount > 0, 'direct I/O ended twice');
    if (--this.dioCount === 0) this.#dioDone?.wakeAll();
  }

  /** Resolves when no direct I/O is in flight. The inode lock, held exclusively, keeps new ones out. */
  dioWait(): void | Promise<void> {
    if (this.dioCount > 0) return this.#dioWait();
  }

  async #dioWait(): Promise<void> {
    this.#dioDone ??= new WaitQueue();
    while (this.dioCount > 0) await this.#dioDone.wait();
  }

  reportError(kind: FsErrorKind, pos: number, length: number, errno: number): void {
    this.sb.reportError({ kind, inode: this, pos, length, errno });
  }

  /** Keeps an error that nobody waits for, for fsync of each opener and for syncfs. */
  setError(errno: number): void {
    this.mapping.setError(errno);
    this.sb.errors.set(errno);
  }
}

/** The inode whose folios a mapping holds. Mappings of inodes are made by the Inode constructor only. */
export function inodeOf(mapping: AddressSpace): Inode {
  return mapping.host as Inode;
}
