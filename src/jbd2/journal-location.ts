import { FsError } from '../base/fs-error.ts';
import type { MaybePromise } from '../base/task.ts';
import { run, type Task, wait } from '../base/task.ts';
import { type BlockDevice, readDevice, writeDevice } from '../block/block-device.ts';
import {
  type JournalGeometry,
  type JournalSuperblock,
  journal_superblock,
  readJournalSuperblock,
  writeJournalSuperblock,
} from './journal-format.ts';

/** Blocks of a device that follow each other. */
export interface JournalRun {
  readonly start: number;
  readonly count: number;
}

interface Piece {
  /** First block, of the journal and of the device. */
  readonly block: number;
  readonly start: number;
  readonly count: number;
}

/** Where the blocks of a journal are: those of an inode of the volume, or a device of their own. */
export class JournalLocation {
  readonly bdev: BlockDevice;
  readonly blockSize: number;
  /** Blocks of the journal. */
  readonly blockCount: number;
  /** Block of the journal that has its superblock: 0, on a device of its own 1 or 2. */
  readonly superblock: number;
  /** The journal is not on the volume that it is for. */
  readonly isExternal: boolean;
  /** By block of the journal, and by block of the device. */
  readonly #pieces: Piece[] = [];
  readonly #sorted: Piece[];

  /**
   * `runs`: all blocks of the journal in order, as blocks of the device.
   *
   * Errors: EUCLEAN where they are not on the device, or two of them are the same.
   */
  constructor(bdev: BlockDevice, blockSize: number, runs: Iterable<JournalRun>, external?: { readonly superblock: number }) {
    this.bdev = bdev;
    this.blockSize = blockSize;
    this.isExternal = external !== undefined;
    this.superblock = external?.superblock ?? 0;
    const limit = Math.floor(bdev.size / blockSize);
    let block = 0;
    for (const { start, count } of runs) {
      if (!(start >= 0 && count > 0 && start + count <= limit))
        throw new FsError('EUCLEAN', 'mount', { detail: `journal: blocks ${start} to ${start + count} of ${limit}` });
      this.#pieces.push({ block, start, count });
      block += count;
    }
    this.blockCount = block;
    this.#sorted = [...this.#pieces].sort((a, b) => a.start - b.start);
    this.#sorted.forEach((piece, index) => {
      const before = this.#sorted[index - 1];
      if (before !== undefined && piece.start < before.start + before.count)
        throw new FsError('EUCLEAN', 'mount', { detail: `journal: block ${piece.start} is there twice` });
    });
  }

  /** The longest run of neighbours on the device from a block of the journal on. Shape: bytes of the device, and blocks. */
  runFrom(block: number): { addr: number; count: number } {
    const piece = this.#pieces[firstWhere(this.#pieces, (each) => each.block + each.count > block)];
    if (piece === undefined) throw new FsError('EUCLEAN', 'mount', { detail: `journal: block ${block} of ${this.blockCount}` });
    const skip = block - piece.block;
    return { addr: (piece.start + skip) * this.blockSize, count: piece.count - skip };
  }

  /** Is this block of the volume one of the journal? */
  contains(blocknr: number): boolean {
    if (this.isExternal) return false;
    const piece = this.#sorted[firstWhere(this.#sorted, ({ start, count }) => start + count > blocknr)];
    return piece !== undefined && blocknr >= piece.start;
  }

  /** Reads and checks the superblock. Errors: EIO; as readJournalSuperblock(). */
  readSuperblock(): MaybePromise<JournalGeometry> {
    return run(this.#readSuperblock());
  }

  *#readSuperblock(): Task<JournalGeometry> {
    if (this.blockCount <= this.superblock) throw new FsError('EUCLEAN', 'mount', { detail: 'journal: no blocks' });
    const block = new Uint8Array(this.blockSize);
    yield* wait(readDevice(this.bdev, this.runFrom(this.superblock).addr, block));
    return readJournalSuperblock(block, this.blockSize, this.blockCount);
  }

  /** Writes the superblock; durable when done, with everything that was flushed before. */
  writeSuperblock(sb: JournalSuperblock): MaybePromise<void> {
    // The rest of the block is nobody's, and may hold anything that the device can write.
    const block = new Uint8Array(Math.max(journal_superblock.size, this.bdev.logicalBlockSize));
    writeJournalSuperblock(block, sb);
    return writeDevice(this.bdev, this.runFrom(this.superblock).addr, block, true);
  }
}

/** The first index for which `holds`, which then holds for all that follow; the length if there is none. */
function firstWhere(pieces: readonly Piece[], holds: (piece: Piece) => boolean): number {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const mid = (low + high) >>> 1;
    if (holds(pieces[mid] as Piece)) high = mid;
    else low = mid + 1;
  }
  return low;
}
