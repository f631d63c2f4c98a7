import { assert } from '../../src/base/assert.ts';
import { roundUp } from '../../src/base/ranges.ts';
import { allUptodate, blocksOf, dirtyRunEnd, hasState, isBlockUptodate, nextDirty } from '../../src/iomap/folio-state.ts';
import type { Folio } from '../../src/pagecache/folio.ts';
import { PAGE_SIZE } from '../../src/pagecache/page-memory.ts';
import { DELALLOC } from './extent-map.ts';
import type { TestFs, TestInode } from './test-fs.ts';

export interface CheckOptions {
  /** Writeback failed, or a device was full: blocks may be reserved or dirty that would not be otherwise. */
  hadErrors?: boolean;
}

/**
 * Asserts what is always true of a filesystem on which nothing is going on: no lock held, nothing in flight, flags and blocks in step.
 * Numbers are those of the invariants of the specification, section 23.
 */
export function checkConsistent(fs: TestFs, options: CheckOptions = {}): void {
  const { cache } = fs;
  let dirtyBytes = 0;
  let cachedBytes = 0;
  for (const inode of fs.inodes) {
    checkLocks(inode);
    let bytes = 0;
    let dirty = 0;
    for (
      let folio = inode.mapping.next(0, Number.MAX_SAFE_INTEGER);
      folio !== undefined;
      folio = inode.mapping.next(folio.end, Number.MAX_SAFE_INTEGER)
    ) {
      checkFolio(inode, folio);
      bytes += folio.size;
      if (folio.isDirty) dirty += folio.size;
    }
    assert(bytes === inode.mapping.cachedBytes, `inode ${inode.ino}: ${bytes} bytes cached, ${inode.mapping.cachedBytes} counted`);
    assert(dirty === inode.mapping.dirtyBytes, `inode ${inode.ino}: ${dirty} bytes dirty, ${inode.mapping.dirtyBytes} counted`);
    assert(inode.mapping.writebackBytes === 0, `inode ${inode.ino}: bytes in writeback`);
    if (options.hadErrors !== true && inode.server === undefined) checkReservations(inode);
    cachedBytes += bytes;
    dirtyBytes += dirty;
  }
  assert(cache.memory.used <= cache.memory.budget, 'the cache is over its budget');
  assert(cache.memory.used === cachedBytes, `${cache.memory.used} bytes of memory used for ${cachedBytes} bytes of folios`);
  assert(cache.dirtyBytes === dirtyBytes && cache.writebackBytes === 0, 'the dirty counters of the cache are off');
  assert(fs.begun === fs.ended, `invariant 22: ${fs.begun} mappings begun, ${fs.ended} ended`);
  assert(fs.foliosGot === fs.foliosPut, `invariant 22: ${fs.foliosGot} folios got, ${fs.foliosPut} put`);
  assert(fs.openTransactions === 0, `${fs.openTransactions} folio transactions are open`);
  assert(fs.sb.work.pending === 0 && fs.background === 0, 'work is in flight');
  assert(!fs.sb.freezeWrite.isLocked && !fs.sb.freezeFs.isLocked, 'a freeze lock is held');
  checkBlocks(fs);
}

function checkLocks(inode: TestInode): void {
  assert(!inode.lock.isLocked, `inode ${inode.ino}: inode lock is held`);
  assert(!inode.mapping.invalidateLock.isLocked, `inode ${inode.ino}: invalidate lock is held`);
  assert(inode.dioCount === 0, `invariant 51: inode ${inode.ino}: ${inode.dioCount} direct requests`);
  assert(!inode.isBad, `inode ${inode.ino} is marked bad`);
}

function checkFolio(inode: TestInode, folio: Folio): void {
  const what = `inode ${inode.ino}: folio [${folio.pos}, ${folio.end})`;
  const { blockSize } = inode;
  assert(!folio.isLocked, `${what} is locked`);
  assert(!folio.isWriteback, `${what} is in writeback`);
  assert(folio.refs === 0, `${what} is held ${folio.refs} times`);
  assert(folio.size >= blockSize && folio.size >= PAGE_SIZE, `${what} is smaller than a block`);
  assert(!hasState(folio) || blocksOf(folio, blockSize) > 1, `invariant 1: ${what} has one block and a record`);
  assert(!hasState(folio) || allUptodate(folio) === folio.isUptodate, `invariant 3: ${what}: flag and blocks differ in uptodate`);
  if (!hasState(folio)) assert(!folio.isDirty || folio.isUptodate, `invariant 4: ${what} is dirty and not uptodate`);
  let isAnyDirty = false;
  forDirtyBlocks(inode, folio, (start) => {
    isAnyDirty = true;
    assert(isBlockUptodate(folio, start - folio.pos), `invariant 4: ${what}: block at ${start} is dirty and not uptodate`);
    assert(folio.isDirty || start >= inode.size, `invariant 5: ${what}: block at ${start} is dirty in a clean folio`);
  });
  assert(!folio.isDirty || isAnyDirty, `${what} is dirty without a dirty block`);
  assert(!folio.isDirty || folio.pos < inode.size, `${what} is dirty past the end at ${inode.size}`);
}

function forDirtyBlocks(inode: TestInode, folio: Folio, visit: (start: number) => void): void {
  for (let at = nextDirty(folio, 0, folio.size); at >= 0; ) {
    const end = dirtyRunEnd(folio, at, folio.size);
    for (let block = at; block < end; block += inode.blockSize) visit(folio.pos + block);
    at = end < folio.size ? nextDirty(folio, end, folio.size) : -1;
  }
}

/**
 * Invariants 32 and 33: a block is reserved exactly if it is dirty, has no blocks yet, and lies inside the file. A dirty block without
 * a place holds zeros: a mapped store dirtied its page while it lay past the end of the file, which has grown since.
 */
function checkReservations(inode: TestInode): void {
  const { fs, blockSize } = inode;
  const dirty = new Set<number>();
  for (
    let folio = inode.mapping.next(0, Number.MAX_SAFE_INTEGER);
    folio !== undefined;
    folio = inode.mapping.next(folio.end, Number.MAX_SAFE_INTEGER)
  ) {
    if (folio.isDirty) forDirtyBlocks(inode, folio, (start) => start < inode.size && dirty.add(start / blockSize));
  }
  for (const fork of [inode.data, inode.cow]) {
    for (const { block, count, addr } of fork.all) {
      if (addr !== DELALLOC) continue;
      for (let at = block; at < block + count; at++) {
        assert(
          at * blockSize < roundUp(inode.size, blockSize),
          `invariant 33: inode ${inode.ino}: block ${at} is reserved past the end at ${inode.size}`,
        );
        assert(dirty.has(at), `invariant 32: inode ${inode.ino}: block ${at} is reserved and not dirty`);
      }
    }
  }
  for (const block of dirty) {
    const extent = inode.data.at(block);
    const hasPlace = inode.cow.at(block) !== undefined || (extent !== undefined && !(extent.written && fs.allocator.isShared(extent.addr)));
    const isEmpty = (): boolean => {
      const folio = inode.mapping.find(block * blockSize) as Folio;
      const length = Math.min(blockSize, inode.size - block * blockSize);
      return extent === undefined && folio.bytes(block * blockSize - folio.pos, length).every((byte) => byte === 0);
    };
    assert(hasPlace || isEmpty(), `invariant 32: inode ${inode.ino}: block ${block} is dirty and has no place to go`);
  }
}

/** Every block belongs to those extents that say so, and to no others. */
function checkBlocks(fs: TestFs): void {
  const users = new Map<number, number>();
  let reserved = 0;
  for (const inode of fs.inodes) {
    for (const { addr, count } of [...inode.data.all, ...inode.cow.all]) {
      if (addr === DELALLOC) reserved += count;
      else for (let block = addr; block < addr + count; block++) users.set(block, (users.get(block) ?? 0) + 1);
    }
  }
  assert(reserved === fs.allocator.reserved, `${reserved} blocks reserved in files, ${fs.allocator.reserved} in the allocator`);
  for (const [block, count] of users)
    assert(fs.allocator.usersOf(block) === count, `block ${block} has ${count} users, ${fs.allocator.usersOf(block)} counted`);
}
