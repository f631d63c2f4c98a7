import { FsError } from '../base/fs-error.ts';
import type { WriteSource } from '../base/iov-iter.ts';
import { checkRange, roundUp } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { lockUptodateFolio } from '../pagecache/filemap.ts';
import type { Folio } from '../pagecache/folio.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import { ReadaheadState } from '../pagecache/readahead.ts';
import type { Inode } from '../vfs/inode.ts';
import { dirtyWholeFolio } from './folio-state.ts';
import { pageMkwrite } from './page-mkwrite.ts';
import type { WriteIo } from './write-begin.ts';

/**
 * A file range as memory of this process, MAP_SHARED: loads and stores go to the same folios as read and write.
 *
 * A store is a call. The first one after each write-protection of a folio asks the filesystem (page_mkwrite); those that follow go to
 * memory alone, as the processor's would, and are found at the next write-protection.
 *
 * Errors:  EFAULT past the end of the file and EIO where it cannot be read, for which the kernel sends SIGBUS; for a store also what
 *          the filesystem says when it has no blocks for it (ENOSPC, EDQUOT).
 */
export class MappedView {
  readonly inode: Inode;
  /** File position of byte 0 of the view. */
  readonly offset: number;
  readonly length: number;
  readonly #io: WriteIo;
  readonly #ra = new ReadaheadState();

  constructor(inode: Inode, offset: number, length: number, io: WriteIo) {
    checkRange('mmap', offset, length);
    this.inode = inode;
    this.offset = offset;
    this.length = length;
    this.#io = io;
  }

  /** Copies the bytes [at, at + into.length) of the view. Bytes past the end of the file in its last page read as what is stored there. */
  load(at: number, into: Uint8Array): MaybePromise<void> {
    this.#check(at, into.length);
    return run(this.#load(this.offset + at, into));
  }

  *#load(pos: number, into: Uint8Array): Task<void> {
    for (let done = 0; done < into.length; ) {
      const folio = yield* lockUptodateFolio(this.inode.mapping, pos + done, this.#ra);
      const offset = pos + done - folio.pos;
      // A large folio may go on behind the last page of the file; the mapping does not.
      const count = Math.min(into.length - done, folio.size - offset, Math.max(0, roundUp(this.inode.size, PAGE_SIZE) - (pos + done)));
      into.set(folio.bytes(offset, count), done);
      folio.markAccessed();
      folio.unlock();
      folio.put();
      done += count;
    }
  }

  /** Stores `from` at byte `at` of the view. What was stored before an error stays. */
  store(at: number, from: Uint8Array): MaybePromise<void> {
    this.#check(at, from.length);
    return run(this.#store(this.offset + at, from));
  }

  *#store(pos: number, from: Uint8Array): Task<void> {
    for (let done = 0; done < from.length; ) {
      const at = pos + done;
      const { inode } = this;
      if (at >= roundUp(inode.size, PAGE_SIZE)) throw new FsError('EFAULT', 'mmap', { detail: `byte ${at} is past the end of the file` });
      const seen = inode.mapping.find(at);
      // Open for stores: memory is all it takes.
      const isOpen = seen?.isMapWritable === true && seen.isUptodate;
      const folio = isOpen ? seen : yield* this.#faultWritable(at);
      // The size is looked at again: a truncate may have come before the folio lock.
      const count = Math.min(from.length - done, folio.end - at, Math.max(0, roundUp(inode.size, PAGE_SIZE) - at));
      folio.bytes(at - folio.pos, count).set(from.subarray(done, done + count));
      if (count > 0) folio.markMapDirty();
      done += count;
      if (!isOpen) {
        folio.unlock();
        folio.put();
      }
    }
  }

  /** The folio at `pos`, locked, held and open for stores. */
  *#faultWritable(pos: number): Task<Folio> {
    const { inode } = this;
    yield* wait(inode.sb.freezeWrite.lockShared());
    try {
      for (;;) {
        // Read first: reading takes the invalidate lock by itself.
        const held = yield* lockUptodateFolio(inode.mapping, pos, this.#ra);
        held.unlock();
        held.put();
        yield* wait(inode.mapping.invalidateLock.lockShared());
        try {
          const folio = yield* wait(inode.mapping.lockFolio(pos));
          if (folio === undefined) continue; // dropped meanwhile
          try {
            if (!folio.isUptodate) throw new FsError('EAGAIN', 'mmap');
            if (!folio.isMapWritable) yield* wait(pageMkwrite(folio, this.#io));
            return folio;
          } catch (error) {
            const again = !folio.isUptodate;
            folio.unlock();
            folio.put();
            if (!again) throw error;
          }
        } finally {
          inode.mapping.invalidateLock.unlockShared();
        }
      }
    } finally {
      inode.sb.freezeWrite.unlockShared();
    }
  }

  /** Writes back what was stored in [at, at + length) of the view and waits for it (MS_SYNC). */
  sync(at = 0, length: number = this.length): MaybePromise<void> {
    this.#check(at, length);
    const { mapping } = this.inode;
    const start = this.offset + at;
    // Stores since the folio was opened are known to the folio only.
    for (let folio = mapping.next(start, start + length); folio !== undefined; folio = mapping.next(folio.end, start + length)) {
      if (folio.isMapDirty && !folio.isDirty) dirtyWholeFolio(folio, this.inode);
    }
    return mapping.writeAndWait(start, start + length);
  }

  /** The bytes [at, at + length) as the source of a write: read when asked for, never while a folio is locked. */
  source(at: number, length: number): WriteSource {
    this.#check(at, length);
    return new MappedSource(this, at, length);
  }

  #check(at: number, length: number): void {
    checkRange('mmap', at, length, this.length);
  }
}

/** A write's source that is itself cached file data, maybe of the very file that is written. */
class MappedSource implements WriteSource {
  readonly #view: MappedView;
  #at: number;
  count: number;

  constructor(view: MappedView, at: number, length: number) {
    this.#view = view;
    this.#at = at;
    this.count = length;
  }

  faultIn(length: number): MaybePromise<number> {
    const resident = this.#resident(Math.min(length, this.count));
    return resident > 0 ? resident : run(this.#fault());
  }

  *#fault(): Task<number> {
    const one = new Uint8Array(1);
    try {
      yield* wait(this.#view.load(this.#at, one));
    } catch {
      return 0;
    }
    return 1;
  }

  /** Bytes at the front that are cached and valid, at most `length`. */
  #resident(length: number): number {
    const { inode, offset } = this.#view;
    const start = offset + this.#at;
    let pos = start;
    // As in any mmap the rest of the last page can be read too.
    const end = Math.min(start + length, roundUp(inode.size, PAGE_SIZE));
    while (pos < end) {
      const folio = inode.mapping.find(pos);
      if (folio === undefined || !folio.isUptodate) break;
      pos = Math.min(folio.end, end);
    }
    return pos - start;
  }

  copyTo(into: Uint8Array, at: number, length: number): number {
    const { inode, offset } = this.#view;
    const count = this.#resident(Math.min(length, this.count));
    for (let done = 0; done < count; ) {
      const folio = inode.mapping.find(offset + this.#at) as Folio;
      const from = offset + this.#at - folio.pos;
      const piece = Math.min(count - done, folio.size - from);
      // The destination may be the same memory: set() copies as if through a temporary.
      into.set(folio.bytes(from, piece), at + done);
      this.#at += piece;
      done += piece;
    }
    this.count -= count;
    return count;
  }

  revert(length: number): void {
    this.#at -= length;
    this.count += length;
  }
}
