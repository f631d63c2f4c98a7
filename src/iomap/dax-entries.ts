import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import type { Task } from '../base/task.ts';
import { WaitQueue } from '../base/wait-queue.ts';
import type { DaxDevice } from '../block/dax-device.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import { type Entry, type Tag, XArray } from '../pagecache/xarray.ts';
import type { Inode } from '../vfs/inode.ts';

/** What one entry maps: a page, or a region of 2 MiB. As a power of two of pages. */
export type DaxOrder = 0 | 9;
export const DAX_PMD_ORDER = 9;
/** Bytes of a region that one large entry maps. */
export const DAX_PMD_SIZE = PAGE_SIZE * 2 ** DAX_PMD_ORDER;

const TAG_DIRTY: Tag = 0;

// The zero page, large enough for both orders. Every hole that is mapped shares it; only reads get to see it.
let zeroPage: Uint8Array | undefined;

/**
 * What mapped views use for one page or 2 MiB region of a file.
 *
 * empty:  nothing yet, a fault is on its way; zero: the shared zero page, over a hole or unwritten blocks; device: device memory.
 */
export class DaxEntry implements Entry {
  readonly index: number;
  readonly order: DaxOrder;
  kind: 'empty' | 'zero' | 'device' = 'empty';
  daxDev: DaxDevice | undefined = undefined;
  addr = 0;
  /** Stores go to memory without a fault. */
  isWritable = false;
  /** Stored to since the last flush, as far as anybody knows. */
  isDirty = false;
  /** A fault owns it. */
  isLocked = true;
  /** What the fault that owns it is about to install is no longer true. */
  isStale = false;

  constructor(index: number, order: DaxOrder) {
    this.index = index;
    this.order = order;
  }

  /** File position of the first byte. */
  get pos(): number {
    return this.index * PAGE_SIZE;
  }

  /** Bytes. */
  get size(): number {
    return PAGE_SIZE * 2 ** this.order;
  }

  get end(): number {
    return this.pos + this.size;
  }

  /**
   * The memory at byte `offset` of the entry, at most `length` bytes, fewer where the device's memory breaks.
   *
   * Shape:   a view on the device, or on the shared zero page, which nobody may store to.
   * Errors:  EIO for poison.
   */
  memory(offset: number, length: number): Uint8Array {
    if (this.kind === 'zero') {
      zeroPage ??= new Uint8Array(DAX_PMD_SIZE);
      return zeroPage.subarray(offset, offset + length);
    }
    assert(this.kind === 'device' && this.daxDev !== undefined, 'memory of an entry that maps nothing');
    return readableMemory(this.daxDev, this.addr + offset, length, 'mmap');
  }

  flush(): void {
    if (this.kind === 'device') this.daxDev?.flush(this.addr, this.size);
  }
}

/** Device memory from `addr` on, at most `length` bytes. Errors: EIO for poison. */
export function readableMemory(daxDev: DaxDevice, addr: number, length: number, syscall: string): Uint8Array {
  if (daxDev.contiguous(addr, length) === 0) throw new FsError('EIO', syscall, { detail: `poison on ${daxDev.name} at byte ${addr}` });
  return daxDev.bytes(addr, length);
}

/** Memory behind a file range that its holder uses without asking again. Blocks of the range are not freed before release(). */
export class DaxPin {
  /** File range, bytes. */
  readonly start: number;
  readonly end: number;
  readonly isWrite: boolean;
  /** The bytes of the range, in pieces, in order. */
  readonly memory: readonly Uint8Array[];
  readonly #entries: DaxEntries;
  readonly #places: readonly DaxPlace[];

  constructor(
    entries: DaxEntries,
    start: number,
    end: number,
    isWrite: boolean,
    memory: readonly Uint8Array[],
    places: readonly DaxPlace[],
  ) {
    this.#entries = entries;
    this.start = start;
    this.end = end;
    this.isWrite = isWrite;
    this.memory = memory;
    this.#places = places;
  }

  /** Makes what the holder stored durable. */
  flush(): void {
    if (this.isWrite) for (const { daxDev, addr, length } of this.#places) daxDev.flush(addr, length);
  }

  /** Ends the use of the memory; stores made through it are durable afterwards. */
  release(): void {
    this.#entries.unpin(this);
  }
}

/** A run of device memory. */
export interface DaxPlace {
  readonly daxDev: DaxDevice;
  readonly addr: number;
  readonly length: number;
}

const records = new WeakMap<Inode, DaxEntries>();

/**
 * What the mapped views of one DAX file use: the engine's page table and the kernel's DAX entries in one.
 *
 * Invariants:
 * 1. Entries do not overlap. isWritable implies isDirty; isDirty and the dirty tag are the same; only device entries have them.
 * 2. A store goes through a writable entry or a pin, so flushing dirty entries and pins leaves nothing of the file volatile.
 * 3. A locked entry belongs to one fault from before it asks for the mapping until it has installed the answer. Dropping a locked
 *    entry marks it stale: its fault asks again. So dropping, flushing and write-protecting never wait.
 * 4. A pin outlives the entries it was made from.
 */
export class DaxEntries {
  readonly #tree = new XArray<DaxEntry>();
  readonly #pins = new Set<DaxPin>();
  readonly #unlocked = new WaitQueue();
  readonly #unpinned = new WaitQueue();
  /** Entries, those under a fault included. */
  count = 0;
  dirtyCount = 0;

  /** The record of a file. Made at first use, at best when the inode is instantiated: a file that has one is a DAX file from then on. */
  static of(inode: Inode): DaxEntries {
    let entries = records.get(inode);
    if (entries === undefined) {
      entries = new DaxEntries();
      records.set(inode, entries);
    }
    return entries;
  }

  /** The entry that maps the byte at `pos`. */
  find(pos: number): DaxEntry | undefined {
    const entry = this.#tree.load(Math.floor(pos / PAGE_SIZE));
    return entry === undefined || entry.kind === 'empty' ? undefined : entry;
  }

  /**
   * The entry for a fault at `pos`, locked, made if there is none.
   *
   * Shape:   undefined if a region of 2 MiB is asked for and a page of it has an entry of its own. A 2 MiB entry in the way of a page
   *          is taken apart, unless it already allows the access: then it is the answer.
   * Blocks:  for another fault on the same entry.
   */
  *lock(pos: number, order: DaxOrder, isWrite: boolean): Task<DaxEntry | undefined> {
    const page = Math.floor(pos / PAGE_SIZE);
    const pages = 2 ** order;
    const index = page - (page % pages);
    for (;;) {
      const entry = this.#tree.next(index, index + pages);
      if (entry !== undefined && entry.order < order) return undefined;
      if (entry?.isLocked === true) {
        yield this.#unlocked.wait();
        continue;
      }
      if (entry !== undefined) {
        if (entry.order === order || allows(entry, isWrite)) {
          entry.isLocked = true;
          return entry;
        }
        this.#clean(entry);
        this.#erase(entry);
      }
      const made = new DaxEntry(index, order);
      this.#tree.store(made);
      this.count++;
      return made;
    }
  }

  /** Ends a fault. An entry that maps nothing goes. */
  unlock(entry: DaxEntry): void {
    assert(entry.isLocked, 'unlock of a DAX entry that is not locked');
    entry.isLocked = false;
    entry.isStale = false;
    if (entry.kind === 'empty') this.#erase(entry);
    this.#unlocked.wakeAll();
  }

  /** Takes what a locked entry maps out of all views until its fault is answered. Dirty memory stays, since it is still to be flushed. */
  unmap(entry: DaxEntry): void {
    assert(entry.isLocked, 'a DAX entry was unmapped without its lock');
    if (entry.isDirty) return;
    entry.kind = 'empty';
    entry.daxDev = undefined;
  }

  /** Lets a locked entry map the zero page. */
  installZero(entry: DaxEntry): void {
    assert(entry.isLocked && !entry.isStale && !entry.isDirty, 'zero page in place of data');
    entry.kind = 'zero';
    entry.daxDev = undefined;
    entry.addr = 0;
  }

  /** Lets a locked entry map device memory from `addr` on. */
  installDevice(entry: DaxEntry, daxDev: DaxDevice, addr: number, isWritable: boolean): void {
    assert(entry.isLocked && !entry.isStale, 'installed an entry that another fault owns, or a stale mapping');
    if (entry.isDirty && (entry.daxDev !== daxDev || entry.addr !== addr)) this.#clean(entry);
    entry.kind = 'device';
    entry.daxDev = daxDev;
    entry.addr = addr;
    if (isWritable) this.#open(entry);
  }

  /** Opens the entry for stores if it still maps `addr`; false if it does not, or is under another fault. */
  openForStores(entry: DaxEntry, daxDev: DaxDevice, addr: number): boolean {
    const isSame = entry.kind === 'device' && entry.daxDev === daxDev && entry.addr === addr && this.#tree.load(entry.index) === entry;
    if (!isSame || entry.isLocked) return false;
    this.#open(entry);
    return true;
  }

  #open(entry: DaxEntry): void {
    entry.isWritable = true;
    if (entry.isDirty) return;
    entry.isDirty = true;
    this.#tree.setTag(entry, TAG_DIRTY);
    this.dirtyCount++;
  }

  /**
   * Takes the entries that overlap [start, end) out of all views: the next access asks the filesystem. What was stored stays: dirty
   * memory is flushed first, since after a failure it may still be the file's.
   */
  drop(start: number, end: number): void {
    if (this.count === 0 || start >= end) return;
    const to = Math.ceil(end / PAGE_SIZE);
    for (let from = Math.floor(start / PAGE_SIZE); ; ) {
      const entry = this.#tree.next(from, to);
      if (entry === undefined) return;
      this.#clean(entry);
      if (entry.isLocked) {
        entry.isStale = true;
        this.unmap(entry);
      } else {
        this.#erase(entry);
      }
      from = entry.index + 2 ** entry.order;
    }
  }

  /**
   * Makes every store to [start, end) durable, whole entries at a time, and has the next store to each entry fault.
   *
   * Errors:  those of the device; every entry is tried, those that failed stay dirty, the first error is thrown.
   */
  writeback(start: number, end: number): void {
    let failure: unknown;
    const to = Math.ceil(end / PAGE_SIZE);
    for (let from = Math.floor(start / PAGE_SIZE); this.dirtyCount > 0; ) {
      const entry = this.#tree.next(from, to, TAG_DIRTY);
      if (entry === undefined) break;
      try {
        this.#clean(entry);
      } catch (error) {
        failure ??= error;
      }
      from = entry.index + 2 ** entry.order;
    }
    for (const pin of this.#pins) {
      if (pin.start >= end || pin.end <= start) continue;
      try {
        pin.flush();
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Write-protects, flushes, and only then takes the dirty tag off: a failed flush leaves the entry dirty. */
  #clean(entry: DaxEntry): void {
    entry.isWritable = false;
    if (!entry.isDirty) return;
    entry.flush();
    entry.isDirty = false;
    this.#tree.clearTag(entry, TAG_DIRTY);
    this.dirtyCount--;
  }

  #erase(entry: DaxEntry): void {
    this.#tree.erase(entry);
    this.count--;
  }

  /** Keeps the blocks of [start, end) where they are until the pin is released. */
  pin(start: number, end: number, isWrite: boolean, memory: readonly Uint8Array[], places: readonly DaxPlace[]): DaxPin {
    const pin = new DaxPin(this, start, end, isWrite, memory, places);
    this.#pins.add(pin);
    return pin;
  }

  unpin(pin: DaxPin): void {
    if (!this.#pins.delete(pin)) return;
    this.#unpinned.wakeAll();
    pin.flush();
  }

  isPinned(start: number, end: number): boolean {
    for (const pin of this.#pins) if (pin.start < end && pin.end > start) return true;
    return false;
  }

  /** Resolves when a pin was released. */
  waitUnpin(): Promise<void> {
    return this.#unpinned.wait();
  }
}

/** True if the entry serves a load, or a store, without a fault. */
export function allows(entry: DaxEntry, isWrite: boolean): boolean {
  return entry.kind !== 'empty' && (!isWrite || entry.isWritable);
}

/** True if the file is read and written by DAX. */
export function isDax(inode: Inode): boolean {
  return records.has(inode);
}

/** Sharing blocks between two files takes both by DAX, or neither. Errors: EINVAL. */
export function checkDaxRemap(source: Inode, destination: Inode): void {
  if (isDax(source) !== isDax(destination)) throw new FsError('EINVAL', 'remap', { detail: 'one file is by DAX, the other is not' });
}
