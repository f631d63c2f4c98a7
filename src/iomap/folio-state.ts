import { assert } from '../base/assert.ts';
import { clearBits, nextClearBit, nextSetBit, setBits, testBit } from '../base/bitmap.ts';
import { type Folio, NO_STATE } from '../pagecache/folio.ts';
import type { Inode } from '../vfs/inode.ts';

// Which blocks of a folio are uptodate and which are dirty, and how much of its I/O is still in flight.
//
// Invariants:
// 1. A folio of one block has no record: its flags are exact. Others get one when something partial happens to them.
// 2. A record is made with the folio's flags in every bit, and stays until the folio is released or invalidated.
// 3. While no read is in flight, the folio is uptodate exactly when all uptodate bits are set.
// 4. The folio is dirty exactly when some dirty bit is set (bits past the end of the file may outlive it until writeback).
// 5. Nothing awaits between reading and writing a record: tasks see it whole.
//
// A record is 16 bytes and two bits a block, rounded up to 8 bytes, as in the kernel: no object for each folio. Records of one size
// share chunks; a handle is chunk number * CHUNK_WORDS + first word.
//   word 0  bytes of reads in flight       word 2  number of blocks n
//   word 1  bytes of writeback in flight   word 3  unused
//   then    bits 0..n-1 uptodate, bits n..2n-1 dirty

const CHUNK_SHIFT = 14;
const CHUNK_WORDS = 1 << CHUNK_SHIFT;
const READ_PENDING = 0;
const WRITE_PENDING = 1;
const BLOCKS = 2;
const BITS = 4; // first word of the bits

const chunks: Uint32Array[] = [];
const freeLists = new Map<number, number[]>(); // bytes of a record -> handles
let recordBytes = 0;
let recordCount = 0;

/** Bytes of one record for a folio of `blocks` blocks; 0 where none is needed. */
export function folioStateSize(blocks: number): number {
  return blocks <= 1 ? 0 : 16 + Math.ceil((2 * blocks) / 64) * 8;
}

/** All records that exist now. */
export function folioStateUsage(): { records: number; bytes: number } {
  return { records: recordCount, bytes: recordBytes };
}

function allocate(blocks: number): number {
  const bytes = folioStateSize(blocks);
  let free = freeLists.get(bytes);
  if (free === undefined) {
    free = [];
    freeLists.set(bytes, free);
  }
  if (free.length === 0) {
    const first = chunks.length << CHUNK_SHIFT;
    chunks.push(new Uint32Array(CHUNK_WORDS));
    const words = bytes / 4;
    for (let at = Math.floor(CHUNK_WORDS / words) - 1; at >= 0; at--) free.push(first + at * words);
  }
  recordBytes += bytes;
  recordCount++;
  return free.pop() as number;
}

function chunkOf(folio: Folio): Uint32Array {
  return chunks[folio.state >>> CHUNK_SHIFT] as Uint32Array;
}

function wordOf(folio: Folio): number {
  return folio.state & (CHUNK_WORDS - 1);
}

/** First bit of the uptodate map, in bits of the chunk. */
function bitOf(folio: Folio): number {
  return (wordOf(folio) + BITS) * 32;
}

export function hasState(folio: Folio): boolean {
  return folio.state !== NO_STATE;
}

/** Blocks of a folio. */
export function blocksOf(folio: Folio, blockSize: number): number {
  return Math.max(1, folio.size / blockSize);
}

/** Gives a folio of several blocks its record, with the folio's own flags in every bit. */
export function ensureState(folio: Folio, blockSize: number): void {
  if (folio.state !== NO_STATE) return;
  const blocks = folio.size / blockSize;
  if (blocks <= 1) return;
  const handle = allocate(blocks);
  folio.state = handle;
  const words = chunkOf(folio);
  const word = wordOf(folio);
  words.fill(0, word, word + folioStateSize(blocks) / 4);
  words[word + BLOCKS] = blocks;
  const bit = bitOf(folio);
  if (folio.isUptodate) setBits(words, bit, bit + blocks);
  if (folio.isDirty) setBits(words, bit + blocks, bit + 2 * blocks);
}

/** Gives the record back. The folio is on its way out. */
export function freeState(folio: Folio): void {
  if (folio.state === NO_STATE) return;
  const words = chunkOf(folio);
  const word = wordOf(folio);
  const blocks = words[word + BLOCKS] as number;
  assert(words[word + READ_PENDING] === 0 && words[word + WRITE_PENDING] === 0, 'folio state freed with I/O in flight');
  const bit = bitOf(folio);
  assert((nextClearBit(words, bit, bit + blocks) === bit + blocks) === folio.isUptodate, 'folio and block uptodate state differ');
  const bytes = folioStateSize(blocks);
  (freeLists.get(bytes) as number[]).push(folio.state);
  folio.state = NO_STATE;
  recordBytes -= bytes;
  recordCount--;
}

function blockCount(folio: Folio): number {
  return chunkOf(folio)[wordOf(folio) + BLOCKS] as number;
}

function blockSizeOf(folio: Folio): number {
  return folio.size / blockCount(folio);
}

/**
 * Marks the blocks that [offset, offset + length) of the folio touches uptodate; the folio too once all are and no read is in flight
 * (the end of the read does it then). Without a record the range is the whole folio.
 */
export function markUptodate(folio: Folio, offset: number, length: number): void {
  if (folio.state === NO_STATE) {
    folio.markUptodate();
    return;
  }
  if (setUptodate(folio, offset, length) && chunkOf(folio)[wordOf(folio) + READ_PENDING] === 0) folio.markUptodate();
}

/** Sets bits only. Returns whether all are set now. */
function setUptodate(folio: Folio, offset: number, length: number): boolean {
  const words = chunkOf(folio);
  const bit = bitOf(folio);
  const blocks = blockCount(folio);
  const blockSize = blockSizeOf(folio);
  if (length > 0) setBits(words, bit + Math.floor(offset / blockSize), bit + Math.ceil((offset + length) / blockSize));
  return nextClearBit(words, bit, bit + blocks) === bit + blocks;
}

/** Is the block that holds byte `offset` of the folio uptodate? */
export function isBlockUptodate(folio: Folio, offset: number): boolean {
  if (folio.isUptodate) return true;
  return folio.state !== NO_STATE && testBit(chunkOf(folio), bitOf(folio) + Math.floor(offset / blockSizeOf(folio)));
}

/** Are all blocks that [offset, offset + length) touches uptodate? Clipped to the folio; false for a folio without a record. */
export function isPartiallyUptodate(folio: Folio, offset: number, length: number): boolean {
  if (folio.state === NO_STATE) return false;
  const bit = bitOf(folio);
  const blockSize = blockSizeOf(folio);
  const last = bit + Math.ceil(Math.min(offset + length, folio.size) / blockSize);
  return nextClearBit(chunkOf(folio), bit + Math.floor(offset / blockSize), last) === last;
}

/** First byte from `offset` on, block granular, that is not uptodate, or the folio's size. */
export function nextNotUptodate(folio: Folio, offset: number): number {
  if (folio.isUptodate) return folio.size;
  if (folio.state === NO_STATE) return offset;
  const bit = bitOf(folio);
  const blocks = blockCount(folio);
  const blockSize = blockSizeOf(folio);
  const first = Math.floor(offset / blockSize);
  const found = nextClearBit(chunkOf(folio), bit + first, bit + blocks) - bit;
  return found === first ? offset : found * blockSize;
}

/** First byte from `offset` on, block granular, that is uptodate, or the folio's size. */
export function nextUptodate(folio: Folio, offset: number): number {
  if (folio.isUptodate) return offset;
  if (folio.state === NO_STATE) return folio.size;
  const bit = bitOf(folio);
  const blocks = blockCount(folio);
  const blockSize = blockSizeOf(folio);
  const first = Math.floor(offset / blockSize);
  const found = nextSetBit(chunkOf(folio), bit + first, bit + blocks) - bit;
  return found === first ? offset : Math.min(found * blockSize, folio.size);
}

/** Marks the blocks that the range touches dirty. Does not touch the folio's own flag. */
export function setDirtyBits(folio: Folio, offset: number, length: number): void {
  if (folio.state === NO_STATE || length <= 0) return;
  const blockSize = blockSizeOf(folio);
  const bit = bitOf(folio) + blockCount(folio);
  setBits(
    chunkOf(folio),
    bit + Math.floor(offset / blockSize),
    bit + Math.min(blockCount(folio), Math.ceil((offset + length) / blockSize)),
  );
}

/** Clears all dirty bits of the folio. */
export function clearDirtyBits(folio: Folio): void {
  if (folio.state === NO_STATE) return;
  const blocks = blockCount(folio);
  const bit = bitOf(folio) + blocks;
  clearBits(chunkOf(folio), bit, bit + blocks);
}

/** Start of the first dirty byte in [offset, end) of the folio, block granular, or -1. Without a record the folio's flag counts. */
export function nextDirty(folio: Folio, offset: number, end: number): number {
  if (folio.state === NO_STATE) return folio.isDirty && offset < end ? offset : -1;
  const blockSize = blockSizeOf(folio);
  const bit = bitOf(folio) + blockCount(folio);
  const last = bit + Math.ceil(end / blockSize);
  const found = nextSetBit(chunkOf(folio), bit + Math.floor(offset / blockSize), last);
  return found === last ? -1 : Math.max(offset, (found - bit) * blockSize);
}

/** End of the run of dirty blocks that starts at `offset`, at most `end`. */
export function dirtyRunEnd(folio: Folio, offset: number, end: number): number {
  if (folio.state === NO_STATE) return end;
  const blockSize = blockSizeOf(folio);
  const bit = bitOf(folio) + blockCount(folio);
  const last = bit + Math.ceil(end / blockSize);
  return Math.min(end, (nextClearBit(chunkOf(folio), bit + Math.floor(offset / blockSize), last) - bit) * blockSize);
}

/** Starts a read: its pending count begins at the folio's size, so that completions inside the loop cannot end it early. */
export function biasRead(folio: Folio): void {
  if (folio.state === NO_STATE) return;
  const words = chunkOf(folio);
  const word = wordOf(folio);
  assert(words[word + READ_PENDING] === 0, 'two reads of one folio');
  words[word + READ_PENDING] = folio.size;
}

/** Takes `bytes` off the pending read. Returns whether it is over. */
export function unpendRead(folio: Folio, bytes: number): boolean {
  return unpend(folio, READ_PENDING, bytes);
}

export function biasWrite(folio: Folio): void {
  if (folio.state === NO_STATE) return;
  const words = chunkOf(folio);
  const word = wordOf(folio);
  assert(words[word + WRITE_PENDING] === 0, 'two writebacks of one folio');
  words[word + WRITE_PENDING] = folio.size;
}

export function unpendWrite(folio: Folio, bytes: number): boolean {
  return unpend(folio, WRITE_PENDING, bytes);
}

function unpend(folio: Folio, counter: number, bytes: number): boolean {
  if (folio.state === NO_STATE) return true;
  const words = chunkOf(folio);
  const word = wordOf(folio) + counter;
  const pending = words[word] as number;
  assert(bytes <= pending, 'more I/O finished than was started');
  words[word] = pending - bytes;
  return pending === bytes;
}

/** Are all uptodate bits set? True for a folio without a record. */
export function allUptodate(folio: Folio): boolean {
  if (folio.state === NO_STATE) return true;
  const bit = bitOf(folio);
  const blocks = blockCount(folio);
  return nextClearBit(chunkOf(folio), bit, bit + blocks) === bit + blocks;
}

/** Marks blocks uptodate while a read is in flight; the folio's flag is left to the end of the read. */
export function markUptodateInRead(folio: Folio, offset: number, length: number): void {
  if (folio.state !== NO_STATE) setUptodate(folio, offset, length);
}

/** Marks the range dirty: its blocks, the folio, the file. The caller holds the folio lock. */
export function markDirty(folio: Folio, offset: number, length: number): void {
  setDirtyBits(folio, offset, length);
  folio.mapping?.setDirty(folio);
}

/** A store through a mapped view dirties all of the folio (dirty_folio). */
export function dirtyWholeFolio(folio: Folio, inode: Inode): void {
  ensureState(folio, inode.blockSize);
  markDirty(folio, 0, folio.size);
}
