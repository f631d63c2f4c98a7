import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import type { Inode } from '../vfs/inode.ts';
import { checkMapping } from './check-mapping.ts';
import type { IomapOps } from './hooks.ts';
import { IOMAP_F_STALE, IOMAP_HOLE, IOMAP_NOWAIT, Iomap } from './iomap.ts';
import { traceIterBegin, traceIterEnd, traceIterStale } from './trace.ts';

/**
 * The walk over the mappings of a file range: every operation is a body run once for each mapping.
 *
 * Invariants:
 * 1. pos moves only through advance(); pos + length is constant, except that a failed end() puts both back (3).
 * 2. Every begin() that succeeded is followed by exactly one end(), whatever the body did.
 * 3. The body's error wins over the error of end(). If only end() fails, the bytes of that mapping do not count: pos goes back.
 * 4. A step that ends STALE is mapped again at the same position; a step that moved nothing without being STALE ends the walk.
 */
export class IomapIter {
  readonly inode: Inode;
  readonly ops: IomapOps;
  /** Operation flags, IOMAP_WRITE and so on. */
  readonly flags: number;
  /** Next byte to process. */
  pos: number;
  /** Bytes left. */
  length: number;
  /** pos when the current mapping was obtained. */
  iterStartPos = 0;
  readonly iomap = new Iomap();
  readonly srcmap = new Iomap();
  /** Held dirty folios of the mapping, ascending, for zeroing (IOMAP_F_FOLIO_BATCH). Put by the iterator. */
  fbatch: Folio[] = [];
  /** The caller's, for the filesystem. */
  readonly private: unknown;

  constructor(inode: Inode, ops: IomapOps, pos: number, length: number, flags: number, priv?: unknown) {
    this.inode = inode;
    this.ops = ops;
    this.pos = pos;
    this.length = length;
    this.flags = flags;
    this.private = priv;
  }

  /** Where the old bytes of the range are: the source map, or the mapping itself. */
  get source(): Iomap {
    return this.srcmap.type === IOMAP_HOLE ? this.iomap : this.srcmap;
  }

  /** Bytes from pos on that the body may process now. */
  usableLength(): number {
    return this.#usable(this.pos, this.length);
  }

  #usable(pos: number, length: number): number {
    let end = this.iomap.end;
    if (this.srcmap.type !== IOMAP_HOLE) end = Math.min(end, this.srcmap.end);
    return Math.min(length, end - pos);
  }

  /** Records that `count` bytes were processed. */
  advance(count: number): void {
    assert(count >= 0 && count <= this.length, 'iomap iterator moved past its range');
    this.pos += count;
    this.length -= count;
  }

  advanceFull(): void {
    this.advance(this.usableLength());
  }

  get isStale(): boolean {
    return (this.iomap.flags & IOMAP_F_STALE) !== 0;
  }

  /** Ends the step: the range is mapped again. */
  markStale(): void {
    this.iomap.flags |= IOMAP_F_STALE;
    if (traceIterStale.channel.hasSubscribers) traceIterStale.channel.publish({ ino: this.inode.ino, pos: this.pos });
  }

  /** Runs `body` on each mapping of the range. The body throws on error; bytes it advanced over before that count. */
  *each(body: (iter: IomapIter) => MaybePromise<void>): Task<void> {
    while (this.length > 0) {
      try {
        const begun = this.#begin();
        if (isPromise(begun)) yield begun;
      } catch (thrown) {
        this.#release(); // a batch that begin attached before it failed goes too
        throw thrown;
      }
      let error: unknown;
      try {
        const done = body(this);
        if (isPromise(done)) yield done;
      } catch (thrown) {
        error = thrown ?? new FsError('EIO', 'iomap');
      }
      let endError: unknown;
      try {
        const ended = this.#end();
        if (isPromise(ended)) yield ended;
      } catch (thrown) {
        endError = thrown ?? new FsError('EIO', 'iomap');
      }
      if (!this.#ended(error, endError)) return;
    }
  }

  /** Obtains the mapping at pos. */
  #begin(): MaybePromise<void> {
    const { inode, pos, length, flags, iomap, srcmap } = this;
    inode.checkGood('iomap');
    const answer = this.ops.iomapBegin(inode, pos, length, flags, iomap, srcmap, this);
    if (!isPromise(answer)) return this.#begun();
    if ((flags & IOMAP_NOWAIT) === 0) return answer.then(() => this.#begun());
    // Somebody may not wait, and the filesystem does: let it finish by itself, and undo what it did.
    answer.then(() => this.ops.iomapEnd?.(inode, pos, length, 0, flags, iomap)).catch(() => {});
    throw new FsError('EAGAIN', 'iomap');
  }

  #begun(): MaybePromise<void> {
    const { inode, pos, flags, iomap, srcmap } = this;
    try {
      checkMapping(inode, pos, flags, iomap, srcmap, this.ops.foreign === true);
    } catch (error) {
      return run(this.#refuse(error));
    }
    this.iterStartPos = pos;
    if (traceIterBegin.channel.hasSubscribers) {
      const { type, offset, length: mapLength, addr, flags: mapFlags } = iomap;
      traceIterBegin.channel.publish({ ino: inode.ino, pos, length: this.length, flags, type, offset, mapLength, addr, mapFlags });
    }
  }

  /** Ends a mapping that cannot be true. That is the error, whatever end() says of it. */
  *#refuse(error: unknown): Task<never> {
    const { inode, pos, flags, iomap } = this;
    try {
      yield* wait(this.ops.iomapEnd?.(inode, pos, Math.max(0, this.usableLength()), 0, flags, iomap));
    } catch {
      // Of a filesystem whose answers are nonsense.
    }
    this.#release();
    throw error;
  }

  /** Tells the filesystem that the current mapping is done with. */
  #end(): MaybePromise<void> {
    const { inode, iterStartPos, flags, iomap } = this;
    const processed = this.pos - iterStartPos;
    return this.ops.iomapEnd?.(inode, iterStartPos, this.#usable(iterStartPos, this.length + processed), processed, flags, iomap);
  }

  /** Lets go of the current mapping and decides: true to go on. */
  #ended(bodyError: unknown, endError: unknown): boolean {
    const { inode, iterStartPos, flags } = this;
    const processed = this.pos - iterStartPos;
    if (traceIterEnd.channel.hasSubscribers) {
      traceIterEnd.channel.publish({ ino: inode.ino, pos: iterStartPos, length: this.length + processed, written: processed, flags });
    }
    const stale = this.isStale;
    this.#release();
    if (bodyError !== undefined) throw bodyError;
    if (endError !== undefined) {
      this.pos -= processed;
      this.length += processed;
      throw endError;
    }
    return this.length > 0 && (processed > 0 || stale);
  }

  #release(): void {
    if (this.fbatch.length > 0) {
      for (const folio of this.fbatch) folio.put();
      this.fbatch = [];
    }
    this.iomap.clear();
    this.srcmap.clear();
  }
}

/** Runs `body` on each mapping of [pos, pos + length): at once where no hook waits. A length of 0 calls nothing. */
export function iterate(iter: IomapIter, body: (iter: IomapIter) => MaybePromise<void>): MaybePromise<void> {
  return iter.length === 0 ? undefined : run(iter.each(body));
}
