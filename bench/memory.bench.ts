// Bytes that the engine keeps for each cached 4 KiB beside the data itself: objects, tree, allocator tables, per-block state. Beside it
// the kernel's figures: the size of its state record, which ours has to match, and buffer heads of 104 bytes a block, which it replaced.

import { folioStateUsage } from '../src/iomap/folio-state.ts';
import { PAGE_SIZE } from '../src/pagecache/page-memory.ts';
import { ExtentFile, now } from './support/extent-file.ts';
import { collectGarbage, KIB, MIB, scaled, table } from './support/harness.ts';

const SIZE = scaled(128 * MIB, 2 * MIB);
const BUFFER_HEAD = 104;
/** Bytes of the kernel's record: two counters and a lock, and two bits a block in whole 64-bit words. Source: Linux struct iomap_folio_state */
const kernelRecord = (blocks: number): number => 16 + Math.ceil((2 * blocks) / 64) * 8;
const SLAB = 2 * MIB;
const data = new Uint8Array(2 * MIB).fill(0x5a);

interface Case {
  readonly name: string;
  readonly blockSize: number;
  /** Pages of a folio: 2^order. */
  readonly order: number;
  /** Every folio gets something partial, so that it needs its record. */
  readonly isPartial: boolean;
}

const cases: Case[] = [
  { name: 'folio 4 KiB, block 4 KiB', blockSize: 4096, order: 0, isPartial: true },
  { name: 'folio 4 KiB, block 512 B, never partial', blockSize: 512, order: 0, isPartial: false },
  { name: 'folio 4 KiB, block 512 B', blockSize: 512, order: 0, isPartial: true },
  { name: 'folio 64 KiB, block 4 KiB', blockSize: 4096, order: 4, isPartial: true },
  { name: 'folio 2 MiB, block 4 KiB', blockSize: 4096, order: 9, isPartial: true },
  { name: 'folio 2 MiB, block 512 B', blockSize: 512, order: 9, isPartial: true },
];

/** Bytes of objects and of memory outside the heap, now that nothing is garbage. */
function used(): number {
  collectGarbage('major');
  collectGarbage('major'); // what finalizers of the first let go
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function fill(file: ExtentFile, { order, isPartial }: Case): void {
  const folioSize = PAGE_SIZE * 2 ** order;
  const piece = data.subarray(0, folioSize);
  const one = data.subarray(0, 1);
  for (let pos = 0; pos < SIZE; pos += folioSize) {
    now(file.write(pos, piece));
    if (isPartial) now(file.write(pos, one)); // one byte of a block: from here on blocks are told apart
  }
}

const rows = cases.map((each) => {
  // Everything of the same kind once before, so that code, feedback and chunks of records are there already.
  const warm = new ExtentFile({ size: SIZE, blockSize: each.blockSize, orderMax: each.order });
  fill(warm, each);
  now(warm.drop());
  const file = new ExtentFile({ size: SIZE, blockSize: each.blockSize, orderMax: each.order });
  const stateBefore = folioStateUsage();
  const before = used();
  fill(file, each);
  const cached = used() - before;
  const state = folioStateUsage();
  const stateBytes = state.bytes - stateBefore.bytes;
  const records = state.records - stateBefore.records;
  const dataBytes = Math.ceil(SIZE / SLAB) * SLAB;
  const folios = file.cache.folioCount;
  if (folios !== SIZE / (PAGE_SIZE * 2 ** each.order)) throw new Error(`${each.name}: ${folios} folios`);
  const pages = SIZE / PAGE_SIZE;
  const blocks = (PAGE_SIZE * 2 ** each.order) / each.blockSize;
  now(file.drop());
  return {
    'what is cached': each.name,
    'objects B/4 KiB': ((cached - dataBytes) / pages).toFixed(1),
    'state B/4 KiB': (stateBytes / pages).toFixed(2),
    'all B/4 KiB': ((cached - dataBytes + stateBytes) / pages).toFixed(1),
    'buffer heads B/4 KiB': ((BUFFER_HEAD * PAGE_SIZE) / each.blockSize).toFixed(0),
    'state B/folio': (stateBytes / folios).toFixed(1),
    'kernel record': records > 0 ? kernelRecord(blocks) : 0,
    'buffer heads B/folio': BUFFER_HEAD * blocks,
  };
});
table(`memory of ${SIZE / MIB} MiB cached and dirty, beside the data`, rows, [
  `heap and external memory after garbage collection, minus the slabs of ${SLAB / KIB} KiB that hold the data; all folios dirty, so the tree is tagged`,
  'objects: folios, tree, and 9 bytes a page of budget in the page allocator; state: records of folioStateUsage(), whose chunks were there before',
]);
