import { assert } from '../base/assert.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { roundDown, roundUp } from '../base/ranges.ts';
import type { DaxDevice } from '../block/dax-device.ts';
import { readableMemory } from './dax-entries.ts';
import { IOMAP_F_SHARED, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_UNWRITTEN, type Iomap, typeName } from './iomap.ts';
import type { IomapIter } from './iter.ts';

// What a DAX operation stores to blocks before the caller's bytes: the old content of what a write to shared blocks does not cover.
// All of it is flushed at once, since end() is going to make these blocks the file's.

export function readsAsZeros(map: Iomap): boolean {
  return map.type === IOMAP_HOLE || map.type === IOMAP_UNWRITTEN;
}

/** The memory device of a mapping with data. Errors: EIO where there is none, and the inode is bad. */
export function daxDeviceOf(iter: IomapIter, map: Iomap, syscall: string): DaxDevice {
  const isData = map.type === IOMAP_MAPPED || map.type === IOMAP_UNWRITTEN;
  if (isData && map.daxDev !== undefined && map.addrOf(map.offset) >= 0) return map.daxDev;
  if (isData) iter.inode.markBad();
  throw new FsError('EIO', syscall, {
    detail: `inode ${iter.inode.ino} at byte ${iter.pos}: ${typeName(map.type)} without device memory`,
  });
}

/** The memory device of a mapping that may be stored to: mapped, or where shared blocks are going to be replaced. Errors: EIO. */
export function writableDeviceOf(iter: IomapIter, syscall: string): DaxDevice {
  const { iomap } = iter;
  if (iomap.type === IOMAP_MAPPED || (iomap.type === IOMAP_UNWRITTEN && isShared(iomap))) return daxDeviceOf(iter, iomap, syscall);
  throw new FsError('EIO', syscall, {
    detail: `inode ${iter.inode.ino} at byte ${iter.pos}: ${typeName(iomap.type)} cannot be stored to; begin has to convert it`,
  });
}

export function isShared(map: Iomap): boolean {
  return (map.flags & IOMAP_F_SHARED) !== 0;
}

/** Before the bytes [start, end) of a mapping of new blocks are stored: fills the rest of their first and last block. */
export function fillEdges(iter: IomapIter, start: number, end: number): void {
  const { blockSize } = iter.inode;
  const first = roundDown(start, blockSize);
  const last = roundUp(end, blockSize);
  heal(iter, first, last);
  fill(iter, first, start);
  fill(iter, end, last);
}

/** Stores the old content of the blocks that hold a byte of [start, end) to the blocks that replace them. */
export function fillBlocks(iter: IomapIter, start: number, end: number): void {
  const { blockSize } = iter.inode;
  const first = roundDown(start, blockSize);
  const last = roundUp(end, blockSize);
  heal(iter, first, last);
  fill(iter, first, last);
}

/** Whole blocks that are about to get all of their content have nothing to lose to poison. */
function heal(iter: IomapIter, start: number, end: number): void {
  const daxDev = writableDeviceOf(iter, 'write');
  assert(start >= iter.iomap.offset && end <= iter.iomap.end, 'a mapping of new blocks ends inside a block');
  const addr = iter.iomap.addrOf(start);
  if (daxDev.isPoisoned(addr, end - start)) zeroMemory(daxDev, addr, end - start, 'write');
}

/**
 * Stores the old content of the file bytes [start, end): a copy of a mapped source. Without a separate source, or with one that was never
 * written, it is zeros: blocks marked shared that have no source replace a hole.
 */
function fill(iter: IomapIter, start: number, end: number): void {
  if (start === end) return;
  const { iomap, srcmap } = iter;
  const to = writableDeviceOf(iter, 'write');
  if (readsAsZeros(srcmap)) {
    zeroMemory(to, iomap.addrOf(start), end - start, 'write');
    return;
  }
  const from = daxDeviceOf(iter, srcmap, 'read');
  assert(start >= srcmap.offset && end <= srcmap.end, 'a source map ends inside a block');
  for (let pos = start; pos < end; ) {
    const old = readableMemory(from, srcmap.addrOf(pos), end - pos, 'read');
    const target = readableMemory(to, iomap.addrOf(pos), old.length, 'write');
    target.set(target.length === old.length ? old : old.subarray(0, target.length));
    to.flush(iomap.addrOf(pos), target.length);
    pos += target.length;
  }
}

/** Zeros device memory, durably. Errors: EIO for a poisoned page that is not covered whole. */
export function zeroMemory(daxDev: DaxDevice, addr: number, length: number, syscall: string): void {
  try {
    daxDev.zero(addr, length);
  } catch (error) {
    throw poisonAsEio(error, syscall);
  }
}

/** What callers get of poison: an I/O error. */
export function poisonAsEio(error: unknown, syscall: string): unknown {
  return hasCode(error, 'EHWPOISON') ? new FsError('EIO', syscall, { cause: error, detail: (error as Error).message }) : error;
}
