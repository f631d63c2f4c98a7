import { FsError } from '../base/fs-error.ts';
import { isPowerOfTwo, POSITION_MAX, roundDown, roundUp } from '../base/ranges.ts';
import type { BlockDevice } from '../block/block-device.ts';
import type { DaxDevice } from '../block/dax-device.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import type { Inode } from '../vfs/inode.ts';
import type { IomapOps } from './hooks.ts';
import type { IoendOps } from './ioend.ts';
import { IOMAP_FAULT, IOMAP_HOLE, IOMAP_MAPPED, IOMAP_WRITE, type Iomap } from './iomap.ts';

// Static file maps: where a file lives is said once, completely, and does not change. Striping spreads a range over several runs:
//
//   chunk    0    1    2    3    4    5    6          chunk c is in strip c mod n, row c div n
//   strip 0 [0 ] [3 ] [6 ]
//   strip 1 [1 ] [4 ]                                 n = 3 strips; a strip is one run of one device
//   strip 2 [2 ] [5 ]

/** A run of device bytes. All numbers are bytes but `device`, which is an index into a table of devices. */
export interface SimpleExtent {
  readonly device: number;
  readonly offset: number;
  readonly length: number;
}

/** A file range whose chunks go round over several strips. */
export interface InterleavedExtent {
  readonly chunkSize: number;
  /** File bytes that it covers; its strips may hold more. */
  readonly length: number;
  readonly strips: readonly SimpleExtent[];
}

/** A file as a list of extents, one behind the other in the file. A simple extent is an interleaved one with a single strip. */
export interface StripedLayout {
  /** File size, bytes. */
  readonly size: number;
  readonly extents: readonly (SimpleExtent | InterleavedExtent)[];
}

/** What a layout from outside has to keep to. */
export interface StripedLimits {
  /** What device offsets and lengths of extents and strips are multiples of, a power of two. Default 2 MiB. */
  readonly alignment?: number;
  /** Extents and strips in all. A message is bounded by its buffer; this bounds memory. Default 2^20. */
  readonly extentsMax?: number;
}

/** File bytes that lie side by side on one device. */
export interface StripedRun {
  /** First file byte. */
  readonly offset: number;
  readonly length: number;
  readonly device: number;
  /** Device byte of `offset`. */
  readonly addr: number;
}

/**
 * The map of one file, checked, immutable.
 *
 * Invariants:
 * 1. Every byte below `end` has exactly one place; size <= end; every place lies in its strip.
 * 2. Extents start at multiples of the chunk unit, so that runs are whole blocks but for the last one.
 */
export class StripedMap {
  /** File size, bytes. */
  readonly size: number;
  /** First byte that no extent covers. */
  readonly end: number;
  /** What all runs but the last start and end at, bytes. */
  readonly unit: number;
  readonly #extents: readonly InterleavedExtent[];
  readonly #starts: readonly number[];

  /**
   * Checks a layout, however it came here, and keeps a copy.
   *
   * Errors:  EINVAL for one that is not a map, with the place; E2BIG above extentsMax. The work is proportional to the layout.
   */
  constructor(layout: StripedLayout, limits: StripedLimits = {}) {
    const alignment = limits.alignment ?? 2 ** 21;
    if (!isPowerOfTwo(alignment)) throw bad('limits', `alignment ${alignment}`);
    this.unit = Math.min(alignment, PAGE_SIZE);
    const { size, extents } = layout;
    if (!isByteCount(size)) throw bad('map', `size ${size}`);
    if (!Array.isArray(extents) || extents.length === 0) throw bad('map', 'no extents');
    let left = limits.extentsMax ?? 2 ** 20;
    const kept: InterleavedExtent[] = [];
    const starts: number[] = [];
    let end = 0;
    for (const [i, each] of extents.entries()) {
      const where = `extent ${i}`;
      if (typeof each !== 'object' || each === null) throw bad(where, 'no record');
      left -= 'strips' in each && Array.isArray(each.strips) ? each.strips.length : 1;
      if (left < 0) throw new FsError('E2BIG', 'fmap', { detail: `${where}: more than ${limits.extentsMax ?? 2 ** 20} strips` });
      if (end % this.unit !== 0) throw bad(where, `starts at byte ${end}, behind an extent that is not whole units of ${this.unit}`);
      const extent =
        'strips' in each ? checkInterleaved(each, where, alignment, this.unit) : asInterleaved(checkRun(each, where, alignment));
      if (extent.length > POSITION_MAX - end) throw bad(where, 'the lengths pass 2^53 - 1');
      if (extent.length === 0) continue; // legal in a simple list, and covers nothing
      kept.push(extent);
      starts.push(end);
      end += extent.length;
    }
    if (end < size) throw bad('map', `covers ${end} of ${size} bytes`);
    this.size = size;
    this.end = end;
    this.#extents = kept;
    this.#starts = starts;
  }

  /** The whole run that holds the byte at `pos`; undefined where nothing does. */
  runAt(pos: number): StripedRun | undefined {
    if (!(pos >= 0 && pos < this.end)) return undefined;
    const at = this.#indexOf(pos);
    const start = this.#starts[at] as number;
    const { chunkSize, length, strips } = this.#extents[at] as InterleavedExtent;
    const count = strips.length;
    // One strip: its chunks follow each other, so the extent is one run.
    const unit = count === 1 ? length : chunkSize;
    const chunk = Math.floor((pos - start) / unit);
    const strip = strips[chunk % count] as SimpleExtent;
    const row = Math.floor(chunk / count);
    return {
      offset: start + chunk * unit,
      length: Math.min(unit, length - chunk * unit),
      device: strip.device,
      addr: strip.offset + row * unit,
    };
  }

  /** The runs of the file bytes [pos, pos + length), in order, cut to that range and to the size of the file. */
  *runs(pos: number, length: number): Generator<StripedRun> {
    const last = Math.min(pos + length, this.size);
    for (let at = pos; at < last; ) {
      const run = this.runAt(at);
      if (run === undefined) return;
      const skipped = at - run.offset;
      const count = Math.min(run.length - skipped, last - at);
      yield { offset: at, length: count, device: run.device, addr: run.addr + skipped };
      at += count;
    }
  }

  /** Every strip, a simple extent being one: what the map claims of its devices. */
  *strips(): Generator<SimpleExtent> {
    for (const extent of this.#extents) yield* extent.strips;
  }

  /** Index of the extent that holds `pos` (below end). */
  #indexOf(pos: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] as number) <= pos) low = middle;
      else high = middle;
    }
    return low;
  }
}

function bad(where: string, what: string): FsError {
  return new FsError('EINVAL', 'fmap', { detail: `${where}: ${what}` });
}

function isByteCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function checkRun({ device, offset, length }: SimpleExtent, where: string, alignment: number): SimpleExtent {
  if (!isByteCount(device)) throw bad(where, `device ${device}`);
  if (!isByteCount(offset) || offset % alignment !== 0) throw bad(where, `offset ${offset} is no multiple of ${alignment}`);
  if (!isByteCount(length) || length % alignment !== 0) throw bad(where, `length ${length} is no multiple of ${alignment}`);
  if (length > POSITION_MAX - offset) throw bad(where, `${offset} + ${length} passes 2^53 - 1`);
  return { device, offset, length };
}

function asInterleaved(extent: SimpleExtent): InterleavedExtent {
  return { chunkSize: extent.length, length: extent.length, strips: [extent] };
}

function checkInterleaved(extent: InterleavedExtent, where: string, alignment: number, unit: number): InterleavedExtent {
  const { chunkSize, length } = extent;
  if (!Array.isArray(extent.strips) || extent.strips.length === 0) throw bad(where, 'no strips');
  if (!isPowerOfTwo(chunkSize) || chunkSize % unit !== 0) throw bad(where, `chunk size ${chunkSize}`);
  if (!isByteCount(length) || length === 0) throw bad(where, `length ${length}`);
  const strips = Array.from(extent.strips, (strip: unknown, i) => {
    if (typeof strip !== 'object' || strip === null) throw bad(`${where}, strip ${i}`, 'no record');
    return checkRun(strip as SimpleExtent, `${where}, strip ${i}`, alignment);
  });
  // Enough bytes in all is not enough: each strip has to hold its own last chunk, and the last block of the file is a whole one.
  const chunks = Math.ceil(length / chunkSize);
  const tail = roundUp(length - (chunks - 1) * chunkSize, unit);
  for (const [i, strip] of strips.entries()) {
    const held = i < chunks ? Math.floor((chunks - 1 - i) / strips.length) + 1 : 0;
    const isLast = (chunks - 1) % strips.length === i;
    const needed = held * chunkSize - (isLast ? chunkSize - tail : 0);
    if (strip.length < needed) throw bad(`${where}, strip ${i}`, `holds ${strip.length} of the ${needed} bytes that fall to it`);
  }
  return { chunkSize, length, strips };
}

/** The devices that a map names by index. */
export type DeviceTable = readonly (BlockDevice | DaxDevice | undefined)[] | ReadonlyMap<number, BlockDevice | DaxDevice>;

/**
 * Mapping hooks of a file with a static map, for DAX, buffered and direct I/O alike, as its devices are. Everything inside the file is
 * mapped; nothing is ever allocated.
 *
 * Errors:  at once: EUCLEAN for a map that names a device that is not there, or bytes outside of one. From begin: ENOSPC for a write
 *          that passes the size of the file; EINVAL where blocks are larger than the map's unit.
 */
export function stripedIomapOps(map: StripedMap, devices: DeviceTable): IomapOps {
  const fill = mapper(map, devices);
  return {
    iomapBegin(inode: Inode, pos: number, length: number, flags: number, iomap: Iomap): void {
      // A store to the last page of a view ends with the page, not with the file.
      const isStore = (flags & IOMAP_FAULT) !== 0;
      const last = isStore ? pos : pos + length - 1;
      if ((flags & IOMAP_WRITE) !== 0 && last >= roundUp(map.size, isStore ? PAGE_SIZE : 1)) {
        throw new FsError('ENOSPC', 'write', { detail: `byte ${last} of a file that stays at ${map.size} bytes` });
      }
      fill(inode, pos, iomap);
    },
  };
}

/** Writeback of cached data to block devices under a static map: a mapping is true for ever, and nothing is left to do at completion. */
export function stripedIoendOps(map: StripedMap, devices: DeviceTable): IoendOps {
  const fill = mapper(map, devices);
  return {
    mapBlocks({ inode, iomap }, pos): void {
      if (iomap.covers(pos)) return;
      iomap.clear();
      fill(inode, pos, iomap);
    },
  };
}

function mapper(map: StripedMap, devices: DeviceTable): (inode: Inode, pos: number, iomap: Iomap) => void {
  const deviceAt = (index: number) => ('get' in devices ? devices.get(index) : devices[index]);
  for (const { device, offset, length } of map.strips()) {
    const found = deviceAt(device);
    if (found === undefined) throw new FsError('EUCLEAN', 'fmap', { detail: `device ${device} is not there` });
    if (offset > found.size || length > found.size - offset) {
      throw new FsError('EUCLEAN', 'fmap', { detail: `[${offset}, ${offset + length}) is not in ${found.name} of ${found.size} bytes` });
    }
  }
  return (inode, pos, iomap) => {
    const { blockSize } = inode;
    if (map.unit % blockSize !== 0) throw new FsError('EINVAL', 'fmap', { detail: `blocks of ${blockSize} in a map of ${map.unit}` });
    const run = map.runAt(pos) ?? lastRun(map, pos, blockSize);
    if (run === undefined) {
      iomap.type = IOMAP_HOLE;
      iomap.offset = roundUp(map.end, blockSize);
      iomap.length = roundDown(POSITION_MAX, blockSize) - iomap.offset;
      return;
    }
    const device = deviceAt(run.device) as BlockDevice | DaxDevice;
    iomap.type = IOMAP_MAPPED;
    iomap.offset = run.offset;
    iomap.length = roundUp(run.length, blockSize);
    iomap.addr = run.addr;
    if (isBlockDevice(device)) iomap.bdev = device;
    else iomap.daxDev = device;
  };
}

/** The last run also holds the bytes between the end of the map and the end of its block. */
function lastRun(map: StripedMap, pos: number, blockSize: number): StripedRun | undefined {
  return pos < roundUp(map.end, blockSize) ? map.runAt(map.end - 1) : undefined;
}

function isBlockDevice(device: BlockDevice | DaxDevice): device is BlockDevice {
  return 'submit' in device;
}
