import { FsError } from '../../base/fs-error.ts';

interface Run {
  readonly start: number;
  readonly end: number;
  /** The inode that the run belongs to; 0: to the volume. */
  readonly ino: number;
}

/** The blocks that hold metadata of fixed place: superblocks, descriptors, bitmaps, inode tables, the journal. No extent leads there. */
export class SystemZone {
  /** Sorted, without overlap. */
  #runs: Run[] = [];

  /** All runs at once. Errors: EUCLEAN where two overlap, with both in the message. */
  set(runs: Iterable<{ readonly start: number; readonly count: number; readonly what: string }>): void {
    const sorted = [...runs].sort((a, b) => a.start - b.start);
    const merged: Run[] = [];
    let before: { start: number; count: number; what: string } | undefined;
    for (const run of sorted) {
      if (before !== undefined && run.start < before.start + before.count) {
        throw new FsError('EUCLEAN', 'mount', { detail: `${run.what} at block ${run.start} overlaps ${before.what} at ${before.start}` });
      }
      before = run;
      const last = merged.at(-1);
      if (last !== undefined && last.end === run.start)
        merged[merged.length - 1] = { start: last.start, end: run.start + run.count, ino: 0 };
      else merged.push({ start: run.start, end: run.start + run.count, ino: 0 });
    }
    this.#runs = merged;
  }

  /** A run of blocks that belongs to one inode, which alone may map it. Errors: EUCLEAN where it is metadata already. */
  add(start: number, count: number, ino: number): void {
    if (!this.allows(start, count, 0))
      throw new FsError('EUCLEAN', 'mount', { detail: `blocks of inode ${ino} at ${start} overlap metadata` });
    const at = this.#firstEndingAfter(start);
    this.#runs.splice(at, 0, { start, end: start + count, ino });
  }

  /** Is [start, start + count) free of metadata, but for that of `ino`? */
  allows(start: number, count: number, ino: number): boolean {
    const end = start + count;
    for (let i = this.#firstEndingAfter(start); i < this.#runs.length; i++) {
      const run = this.#runs[i] as Run;
      if (run.start >= end) return true;
      if (run.ino === 0 || run.ino !== ino) return false;
    }
    return true;
  }

  /** Blocks in all. */
  get blocks(): number {
    return this.#runs.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** The runs within [start, end), cut to it. */
  *runsIn(start: number, end: number): Iterable<{ readonly start: number; readonly end: number }> {
    for (let i = this.#firstEndingAfter(start); i < this.#runs.length; i++) {
      const run = this.#runs[i] as Run;
      if (run.start >= end) return;
      if (run.ino === 0) yield { start: Math.max(start, run.start), end: Math.min(end, run.end) };
    }
  }

  #firstEndingAfter(block: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if ((this.#runs[mid] as Run).end > block) high = mid;
      else low = mid + 1;
    }
    return low;
  }
}
