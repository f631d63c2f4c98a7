import { roundDown, roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import { dirtyRunEnd, nextDirty } from './folio-state.ts';

/** First byte of a new reservation that a write did not use: [result, end of the mapping) is to be released. */
export function firstUntouched(pos: number, written: number, blockSize: number): number {
  return written === 0 ? roundDown(pos, blockSize) : roundUp(pos + written, blockSize);
}

/**
 * Releases delayed allocations of [start, end) that no dirty data needs, after a write used only part of what it had reserved.
 *
 * `punch` removes the reserved (only the reserved) blocks of a range, atomically; it may be called with a folio locked and locks none.
 * Clean blocks lose their reservation, dirty ones inside i_size keep it, and nothing is kept past i_size: writeback never goes there.
 *
 * Locks:   the caller holds the inode lock and the invalidate lock exclusively, so that no mapped store can dirty a folio meanwhile.
 */
export function releaseDelalloc(inode: Inode, start: number, end: number, punch: (start: number, end: number) => void): MaybePromise<void> {
  if (start < end) return run(release(inode, start, end, punch));
}

function* release(inode: Inode, start: number, end: number, punch: (start: number, end: number) => void): Task<void> {
  const { mapping } = inode;
  const scanEnd = Math.min(inode.size, end);
  let punchStart = start;
  let at = start;
  while (at < scanEnd) {
    const seen = mapping.next(at, scanEnd);
    if (seen === undefined) break;
    const folio = yield* wait(mapping.lockFolio(Math.max(at, seen.pos)));
    if (folio === undefined) continue; // dropped meanwhile; what follows is found anew
    const stop = Math.min(folio.end, scanEnd);
    if (folio.isDirty) {
      // Everything up to the next dirty block goes, block by block.
      let from = Math.max(at, folio.pos);
      while (from < stop) {
        const dirty = nextDirty(folio, from - folio.pos, stop - folio.pos);
        if (dirty < 0) break;
        const dirtyStart = folio.pos + dirty;
        if (dirtyStart > punchStart) punch(punchStart, dirtyStart);
        from = folio.pos + dirtyRunEnd(folio, dirty, stop - folio.pos);
        punchStart = Math.max(punchStart, roundUp(from, inode.blockSize));
      }
    }
    at = folio.end;
    folio.unlock();
    folio.put();
  }
  if (punchStart < end) punch(punchStart, end);
}
