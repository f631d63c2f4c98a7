import type { Errseq, ErrseqRecord } from '../base/errseq.ts';
import { FsError } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';
import type { OpenFile } from '../vfs/open-file.ts';
import type { SuperBlock } from '../vfs/super-block.ts';

/** What making a file durable takes of its filesystem, after its data was written. */
export interface SyncOps {
  /**
   * Commits the metadata of `inode`, with `datasync` only what it takes to read the data back. Resolves with true if the device cache
   * was emptied after the call began (a commit with PREFLUSH and FUA): the data needs no flush of its own then.
   */
  commit(inode: Inode, datasync: boolean): MaybePromise<boolean>;
  /** Empties the volatile cache of the devices that hold file data. */
  flushDevices(): MaybePromise<void>;
}

/** What syncing all files takes beside. */
export interface SyncFsOps {
  /** All inodes in core. */
  inodes(): Iterable<Inode>;
  /** Commits all metadata; as SyncOps.commit. */
  commitAll(): MaybePromise<boolean>;
  flushDevices(): MaybePromise<void>;
}

export interface FsyncOptions {
  /** fdatasync: leave out metadata that reading the data does not need, such as times. */
  readonly datasync?: boolean;
  /** File range, bytes, half open; all of it by default. */
  readonly start?: number;
  readonly end?: number;
}

/**
 * fsync and fdatasync: what was written is durable at return. Writes the range, waits, commits, empties the device cache.
 *
 * Errors:  that of this pass; else what writeback met since this open file last asked, once. An error that was told is not told
 *          again: after a failed fsync the data may be in the cache only, and the next fsync succeeds.
 */
export function fsyncFile(file: OpenFile, ops: SyncOps, options: FsyncOptions = {}): MaybePromise<void> {
  const { start = 0, end = Number.POSITIVE_INFINITY, datasync = false } = options;
  if (!(start >= 0 && end >= start)) throw new FsError('EINVAL', 'fsync', { detail: `range [${start}, ${end})` });
  if (start === end) return;
  file.inode.checkGood('fsync');
  return run(fsync(file, start, end, datasync, ops));
}

function* fsync(file: OpenFile, start: number, end: number, datasync: boolean, ops: SyncOps): Task<void> {
  const { inode } = file;
  let failure: unknown;
  try {
    yield* wait(inode.mapping.writeAndWait(start, end));
  } catch (error) {
    failure = error;
  }
  // What this pass met is on the record too: it is told here, and taken off for this open file.
  try {
    file.checkWritebackErrors('fsync');
  } catch (error) {
    failure ??= error;
  }
  if (failure !== undefined) throw failure;
  if (!(yield* wait(ops.commit(inode, datasync)))) yield* wait(ops.flushDevices());
  file.checkWritebackErrors('fsync'); // what was in flight before the pass may have failed since
}

/** What one open file was told of the errors of its filesystem, for syncfs: as fsync does, each opener is told once. */
export class SyncfsErrors {
  readonly #record: ErrseqRecord;
  #seen: Errseq;

  constructor(sb: SuperBlock) {
    this.#record = sb.errors;
    this.#seen = sb.errors.sample();
  }

  /** Errors: the recorded errno, once. */
  check(): void {
    const { errno, since } = this.#record.checkAndAdvance(this.#seen);
    this.#seen = since;
    if (errno < 0) throw FsError.of(errno, 'syncfs');
  }
}

/**
 * syncfs: everything that was written to any file is durable at return. Starts the writes of all files, then waits for each.
 *
 * Errors:  the first of this pass; else, with `errors`, what any file met since its open file last asked. Other files are written and
 *          committed all the same.
 */
export function syncFs(ops: SyncFsOps, errors?: SyncfsErrors): MaybePromise<void> {
  return run(sync(ops, errors));
}

function* sync(ops: SyncFsOps, errors: SyncfsErrors | undefined): Task<void> {
  const inodes = [...ops.inodes()].filter(({ isBad }) => !isBad);
  let failure: unknown;
  for (const step of ['startWrite', 'writeAndWait'] as const) {
    for (const { mapping } of inodes) {
      try {
        yield* wait(mapping[step](0, Number.POSITIVE_INFINITY));
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        failure ??= error;
      }
    }
  }
  if (!(yield* wait(ops.commitAll()))) yield* wait(ops.flushDevices());
  try {
    errors?.check();
  } catch (error) {
    failure ??= error;
  }
  if (failure !== undefined) throw failure;
}
