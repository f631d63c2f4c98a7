import { crc32 } from '../base/crc.ts';
import { FsError } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { bytes, pad, struct, u8, u32, u64 } from '../layout/struct.ts';
import { type BlockDevice, readDevice } from './block-device.ts';

// Where the partitions of a disk are: GPT, or the table of a master boot record with its chain of logical partitions. Little-endian.
// Source: UEFI specification, chapter 5.

/** A partition, in bytes of the disk. */
export interface Partition {
  /** As in the names of Linux: 1 to 4, logical ones from 5 on, with GPT the place in the table. */
  readonly number: number;
  readonly start: number;
  readonly size: number;
}

/** Bytes of a sector, as far as tables count in them. */
const SECTOR = 512;
const MBR_SIGNATURE = 0xaa55;
const MBR_ENTRIES = 446;
const TYPE_EMPTY = 0;
const TYPES_EXTENDED = [0x05, 0x0f, 0x85];
const TYPE_GPT = 0xee;
/** Logical partitions followed at most: a chain may be a circle. */
const LOGICAL_MAX = 128;
const GPT_ENTRIES_MAX = 1024;

// biome-ignore format: one row per field, as the format is drawn
const mbr_entry = struct('mbr_entry', 16, {
  boot:    u8(0),
  chs1:    bytes(1, 3),
  type:    u8(4),
  chs2:    bytes(5, 3),
  lba:     u32(8),  // sectors from the start of the disk, of the extended partition, or of this table
  sectors: u32(12),
});

// biome-ignore format: one row per field, as the format is drawn
const gpt_header = struct('gpt_header', 92, {
  signature:   bytes(0, 8), // "EFI PART"
  revision:    u32(8),
  header_size: u32(12),
  header_crc:  u32(16),     // of header_size bytes, with zeros here
  reserved:    pad(20, 4),
  my_lba:      u64(24),
  other_lba:   u64(32),
  first_lba:   u64(40),
  last_lba:    u64(48),
  disk_guid:   bytes(56, 16),
  entries_lba: u64(72),
  entry_count: u32(80),
  entry_size:  u32(84),
  entries_crc: u32(88),
});

// biome-ignore format: one row per field, as the format is drawn
const gpt_entry = struct('gpt_entry', 56, {
  type_guid: bytes(0, 16),
  guid:      bytes(16, 16),
  first_lba: u64(32),
  last_lba:  u64(40), // included
  flags:     bytes(48, 8),
});

const EFI_PART = Uint8Array.from('EFI PART', (c) => c.charCodeAt(0));

/**
 * The partitions of a disk, by number; none where it has no table.
 *
 * Errors: EUCLEAN for a table that makes no sense; the device's.
 */
export function readPartitions(bdev: BlockDevice): MaybePromise<Partition[]> {
  return run(partitions(bdev));
}

function* partitions(bdev: BlockDevice): Task<Partition[]> {
  const sector = yield* readSectors(bdev, 0, 1);
  if (sector === undefined || !hasSignature(sector)) return [];
  const entries = [0, 1, 2, 3].map((index) => mbr_entry.read(sector, MBR_ENTRIES + index * mbr_entry.size));
  if (entries.some(({ type }) => type === TYPE_GPT)) return yield* gptPartitions(bdev);
  const found: Partition[] = [];
  let number = 0;
  for (const { type, lba, sectors } of entries) {
    number++;
    if (type === TYPE_EMPTY || sectors === 0) continue;
    if (TYPES_EXTENDED.includes(type)) yield* logicalPartitions(bdev, lba, found);
    else add(bdev, found, number, lba, sectors);
  }
  return found.sort((a, b) => a.number - b.number);
}

function hasSignature(sector: Uint8Array): boolean {
  return ((sector[510] as number) | ((sector[511] as number) << 8)) === MBR_SIGNATURE;
}

/** Each logical partition has a table of its own, with where the next one is. */
function* logicalPartitions(bdev: BlockDevice, extended: number, found: Partition[]): Task<void> {
  let table = extended;
  for (let index = 0; index < LOGICAL_MAX; index++) {
    const sector = yield* readSectors(bdev, table, 1);
    if (sector === undefined || !hasSignature(sector)) return;
    const data = mbr_entry.read(sector, MBR_ENTRIES);
    const next = mbr_entry.read(sector, MBR_ENTRIES + mbr_entry.size);
    if (data.type !== TYPE_EMPTY && data.sectors > 0) add(bdev, found, 5 + index, table + data.lba, data.sectors);
    if (next.type === TYPE_EMPTY || next.sectors === 0) return;
    table = extended + next.lba;
  }
  throw new FsError('EUCLEAN', 'open', { detail: `${bdev.name}: the logical partitions do not end` });
}

function add(bdev: BlockDevice, found: Partition[], number: number, lba: number, sectors: number): void {
  const start = lba * SECTOR;
  const size = sectors * SECTOR;
  if (start + size > bdev.size)
    throw new FsError('EUCLEAN', 'open', { detail: `${bdev.name}: partition ${number} ends behind the device` });
  found.push({ number, start, size });
}

/** The primary table, or the one at the end of the disk where that is damaged; in sectors of 512 bytes, or of 4096. */
function* gptPartitions(bdev: BlockDevice): Task<Partition[]> {
  for (const unit of [SECTOR, 4096]) {
    for (const at of [unit, bdev.size - unit]) {
      const table = yield* gptTable(bdev, at, unit);
      if (table !== undefined) return table;
    }
  }
  throw new FsError('EUCLEAN', 'open', { detail: `${bdev.name}: neither of the two GPT tables is whole` });
}

function* gptTable(bdev: BlockDevice, at: number, unit: number): Task<Partition[] | undefined> {
  const sector = yield* readBytes(bdev, at, unit);
  if (sector === undefined) return undefined;
  const header = gpt_header.view().at(sector);
  if (!header.signature.every((byte, i) => byte === EFI_PART[i])) return undefined;
  const { header_size, header_crc, entries_lba, entry_count, entry_size, entries_crc } = header;
  if (header_size < gpt_header.size || header_size > unit) return undefined;
  header.header_crc = 0;
  if (crc32(sector.subarray(0, header_size)) !== header_crc) return undefined;
  if (entry_size < 128 || entry_size % 8 !== 0 || entry_size > 4096 || entry_count > GPT_ENTRIES_MAX) return undefined;
  const length = entry_count * entry_size;
  const entries = yield* readBytes(bdev, entries_lba * unit, length);
  if (entries === undefined || crc32(entries) !== entries_crc) return undefined;
  const found: Partition[] = [];
  const entry = gpt_entry.view();
  for (let index = 0; index < entry_count; index++) {
    entry.at(entries, index * entry_size);
    if (entry.type_guid.every((byte) => byte === 0)) continue;
    const start = entry.first_lba * unit;
    const size = (entry.last_lba - entry.first_lba + 1) * unit;
    if (!(size > 0 && start + size <= bdev.size)) {
      throw new FsError('EUCLEAN', 'open', { detail: `${bdev.name}: partition ${index + 1} is not on the device` });
    }
    found.push({ number: index + 1, start, size });
  }
  return found;
}

function readSectors(bdev: BlockDevice, lba: number, count: number): Task<Uint8Array | undefined> {
  return readBytes(bdev, lba * SECTOR, count * SECTOR);
}

/** Bytes from anywhere; undefined where the device ends before. */
function* readBytes(bdev: BlockDevice, at: number, length: number): Task<Uint8Array | undefined> {
  const unit = bdev.logicalBlockSize;
  const start = Math.floor(at / unit) * unit;
  const end = Math.ceil((at + length) / unit) * unit;
  if (!(at >= 0 && end <= bdev.size)) return undefined;
  const whole = new Uint8Array(end - start);
  yield* wait(readDevice(bdev, start, whole));
  return whole.subarray(at - start, at - start + length);
}
