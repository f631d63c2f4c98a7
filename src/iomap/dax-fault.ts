import { FsError } from '../base/fs-error.ts';
import { roundDown } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { DaxDevice } from '../block/dax-device.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import { daxDeviceOf, fillBlocks, isShared, readsAsZeros, writableDeviceOf } from './dax-cow.ts';
import { allows, DAX_PMD_ORDER, DaxEntries, type DaxEntry, type DaxOrder, readableMemory } from './dax-entries.ts';
import type { IomapOps } from './hooks.ts';
import { IOMAP_DAX, IOMAP_F_DIRTY, IOMAP_FAULT, IOMAP_MAPPED, IOMAP_WRITE } from './iomap.ts';
import { IomapIter } from './iter.ts';

/** An access of a mapped view that its entries do not allow. */
export interface DaxFault {
  /** File position that was touched. */
  readonly pos: number;
  readonly isWrite: boolean;
  /** Asks for a page, or for the 2 MiB region around it. */
  readonly order: DaxOrder;
  /** File range of the view, bytes. */
  readonly areaStart: number;
  readonly areaEnd: number;
  /** MAP_SYNC: a store must never reach blocks that a crash takes away from the file. */
  readonly isSync?: boolean;
  /** Where a private view (MAP_PRIVATE) wants its own copy of the page for a store. */
  readonly cowPage?: Uint8Array | undefined;
}

/**
 * mapped:     the entry allows the access.
 * needDsync:  MAP_SYNC, and the blocks are the file's only after a commit: daxFinishSyncFault() goes on.
 * fallback:   no 2 MiB entry is possible here; fault for the page.
 * copied:     cowPage has the page.
 */
export type DaxFaultResult =
  | { readonly outcome: 'mapped'; readonly entry: DaxEntry }
  | { readonly outcome: 'needDsync'; readonly entry: DaxEntry; readonly daxDev: DaxDevice; readonly addr: number }
  | { readonly outcome: 'fallback' }
  | { readonly outcome: 'copied' };

const FALLBACK: DaxFaultResult = { outcome: 'fallback' };
const COPIED: DaxFaultResult = { outcome: 'copied' };

/** What the body of a fault found out: where the memory is, undefined for the zero page. */
interface Found {
  readonly daxDev: DaxDevice | undefined;
  readonly addr: number;
  readonly needsCommit: boolean;
}

/**
 * Gives mapped views of a DAX file memory for the page, or the 2 MiB region, at fault.pos. A store asks the filesystem even if the page is
 * mapped for loads.
 *
 * Shape:   the entry's memory() is the file until the entry is dropped; a view finds it again by position. A 2 MiB region is mapped
 *          only if it lies in the view and in the file, is one mapping, and starts at a multiple of 2 MiB of a device whose memory
 *          does not break in it.
 * Blocks:  for begin and end, and for another fault on the same page.
 * Locks:   the caller holds the mapping's invalidate lock shared, for a store also the freeze lock.
 * Errors:  EFAULT (SIGBUS) past the end of the file; EIO for poison and unusable mappings; EOPNOTSUPP for a store where blocks are not
 *          pages, since it could never be written back; those of the hooks.
 * Source:  Linux fs/dax.c, dax_iomap_fault.
 */
export function daxFault(inode: Inode, fault: DaxFault, ops: IomapOps): MaybePromise<DaxFaultResult> {
  const { pos, isWrite, order, cowPage } = fault;
  const isShare = isWrite && cowPage === undefined;
  const size = PAGE_SIZE * 2 ** order;
  const start = roundDown(pos, size);
  if (roundDown(pos, PAGE_SIZE) >= inode.size) throw new FsError('EFAULT', 'mmap', { detail: `byte ${pos} is past the end of the file` });
  if (isShare && inode.blockSize !== PAGE_SIZE) {
    throw new FsError('EOPNOTSUPP', 'mmap', { detail: `stores through a DAX view with blocks of ${inode.blockSize} bytes` });
  }
  if (order === DAX_PMD_ORDER) {
    const isInside = start >= fault.areaStart && start + size <= fault.areaEnd && start + size <= inode.size;
    if (cowPage !== undefined || !isInside) return FALLBACK;
  }
  return run(cowPage === undefined ? faultShared(inode, fault, start, size, ops) : faultPrivate(inode, start, cowPage, ops));
}

function* faultShared(inode: Inode, fault: DaxFault, start: number, size: number, ops: IomapOps): Task<DaxFaultResult> {
  const { isWrite, order } = fault;
  const entries = DaxEntries.of(inode);
  const entry = yield* entries.lock(start, order, isWrite);
  if (entry === undefined) return FALLBACK;
  try {
    while (!allows(entry, isWrite)) {
      entry.isStale = false;
      // The file may have other blocks as soon as begin() or end() gave them to it, and a write() that is over may have stored there:
      // until these are mapped, loads do not go to the old ones or to the zero page, but wait for this fault.
      if (isWrite) entries.unmap(entry);
      const found = yield* findMemory(inode, start, size, isWrite, order, ops);
      if (found === undefined) return FALLBACK;
      // Blocks may have moved since begin() answered; end() has committed what this fault did, so it is asked again and finds it.
      if (entry.isStale) continue;
      if (found.daxDev === undefined) {
        entries.installZero(entry);
      } else {
        const { daxDev, addr } = found;
        const needsDsync = fault.isSync === true && found.needsCommit;
        entries.installDevice(entry, daxDev, addr, isWrite && !needsDsync);
        if (isWrite && needsDsync) return { outcome: 'needDsync', entry, daxDev, addr };
      }
    }
    return { outcome: 'mapped', entry };
  } finally {
    entries.unlock(entry);
  }
}

/** Asks the filesystem where [start, start + size) is. Undefined if it cannot be mapped by one large entry. */
function* findMemory(inode: Inode, start: number, size: number, isWrite: boolean, order: DaxOrder, ops: IomapOps): Task<Found | undefined> {
  let found: Found | undefined;
  const iter = new IomapIter(inode, ops, start, size, IOMAP_DAX | IOMAP_FAULT | (isWrite ? IOMAP_WRITE : 0));
  yield* iter.each(() => {
    found = iter.usableLength() < size ? undefined : lookAt(iter, size, isWrite, order);
    if (found !== undefined) iter.advanceFull();
  });
  // Installed only now: blocks that end() could not commit are not the file's.
  if (found !== undefined || order === DAX_PMD_ORDER) return found;
  throw new FsError('EIO', 'mmap', { detail: `inode ${inode.ino} at byte ${start}: the mapping does not cover the page` });
}

function lookAt(iter: IomapIter, size: number, isWrite: boolean, order: DaxOrder): Found | undefined {
  const { iomap, pos } = iter;
  if (!isWrite && readsAsZeros(iomap)) return { daxDev: undefined, addr: 0, needsCommit: false };
  const isLarge = order === DAX_PMD_ORDER;
  if (isLarge && iomap.type !== IOMAP_MAPPED && !isShared(iomap)) return undefined;
  const daxDev = isWrite ? writableDeviceOf(iter, 'mmap') : daxDeviceOf(iter, iomap, 'mmap');
  const addr = iomap.addrOf(pos);
  if (addr % size !== 0) {
    if (isLarge) return undefined;
    throw new FsError('EIO', 'mmap', { detail: `${daxDev.name} byte ${addr} is no page` });
  }
  if (isLarge && daxDev.contiguous(addr, size) < size) return undefined;
  if (isWrite && isShared(iomap)) fillBlocks(iter, pos, pos + size);
  if (daxDev.contiguous(addr, size) < size) throw new FsError('EIO', 'mmap', { detail: `poison on ${daxDev.name} at byte ${addr}` });
  return { daxDev, addr, needsCommit: (iomap.flags & IOMAP_F_DIRTY) !== 0 };
}

/** Fills the private copy of a page. */
function* faultPrivate(inode: Inode, start: number, cowPage: Uint8Array, ops: IomapOps): Task<DaxFaultResult> {
  const iter = new IomapIter(inode, ops, start, PAGE_SIZE, IOMAP_DAX | IOMAP_FAULT);
  yield* iter.each(() => {
    const { iomap, pos } = iter;
    const at = pos - start;
    if (readsAsZeros(iomap)) {
      cowPage.fill(0, at, at + iter.usableLength());
      iter.advanceFull();
      return;
    }
    const daxDev = daxDeviceOf(iter, iomap, 'mmap');
    const memory = readableMemory(daxDev, iomap.addrOf(pos), iter.usableLength(), 'mmap');
    cowPage.set(memory, at);
    iter.advance(memory.length);
  });
  return COPIED;
}

/**
 * Goes on with a MAP_SYNC store that needs a commit: syncs the page or region, then opens it for stores.
 *
 * Shape:   false if the blocks moved meanwhile; the store faults again.
 * Locks:   as daxFault.
 */
export function daxFinishSyncFault(
  inode: Inode,
  result: DaxFaultResult & { outcome: 'needDsync' },
  fsync: (start: number, end: number, datasync: boolean) => MaybePromise<void>,
): MaybePromise<boolean> {
  return run(finishSync(inode, result, fsync));
}

function* finishSync(
  inode: Inode,
  { entry, daxDev, addr }: DaxFaultResult & { outcome: 'needDsync' },
  fsync: (start: number, end: number, datasync: boolean) => MaybePromise<void>,
): Task<boolean> {
  yield* wait(fsync(entry.pos, entry.end, true));
  return DaxEntries.of(inode).openForStores(entry, daxDev, addr);
}
