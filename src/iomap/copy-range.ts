import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { checkPosition, checkRange } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { ReadaheadState } from '../pagecache/readahead.ts';
import type { Inode } from '../vfs/inode.ts';
import { bufferedFileWrite } from './buffered-file.ts';
import { bufferedRead } from './buffered-read.ts';
import { type FallocateOps, punchHole } from './fallocate.ts';
import type { FileIo } from './file-io.ts';
import { seekData, seekHole } from './seek.ts';
import { setSize } from './truncate.ts';

/** Bytes that are copied in one step. */
const STEP = 128 * 1024;

/** One range of a file that is to be copied into another, or elsewhere in the same. Bytes. */
export interface CopyRange {
  readonly src: Inode;
  readonly srcPos: number;
  readonly dst: Inode;
  readonly dstPos: number;
  readonly length: number;
}

/**
 * copy_file_range: data is copied from cache to cache, and where the source has a hole the destination gets one.
 *
 * Shape:   bytes copied, short at the end of the source and where an error ended it after some bytes.
 * Errors:  EINVAL for ranges of one file that overlap; EFBIG; ENOSPC, EDQUOT.
 */
export function copyRange(range: CopyRange, io: FileIo, ops: FallocateOps): MaybePromise<number> {
  const { src, srcPos, dst, dstPos } = range;
  checkPosition('copy_file_range', srcPos);
  checkRange('copy_file_range', 0, range.length);
  const length = Math.max(0, Math.min(range.length, src.size - srcPos));
  checkRange('copy_file_range', dstPos, length, dst.sizeMax);
  if (src === dst && Math.abs(srcPos - dstPos) < length) throw new FsError('EINVAL', 'copy_file_range');
  return run(copy({ src, srcPos, dst, dstPos, length }, io, ops));
}

function* copy({ src, srcPos, dst, dstPos, length }: CopyRange, io: FileIo, ops: FallocateOps): Task<number> {
  const buffer = new Uint8Array(Math.min(STEP, length));
  const ra = new ReadaheadState();
  let done = 0;
  try {
    while (done < length) {
      const pos = srcPos + done;
      const end = srcPos + length;
      const data = Math.min(yield* dataFrom(src, pos, io), end);
      if (data > pos) {
        yield* clear(dst, dstPos + done, data - pos, ops);
        done += data - pos;
        continue;
      }
      const stop = Math.min(yield* wait(seekHole(src, pos, io.ops, io.writeOps.iomapValid)), end, pos + STEP);
      const count = yield* wait(bufferedRead({ pos, flags: 0, ra }, src, buffer.subarray(0, stop - pos)));
      if (count === 0) break; // truncated meanwhile
      const source = new IovIter(buffer.subarray(0, count));
      const written = yield* wait(bufferedFileWrite({ pos: dstPos + done, flags: 0 }, dst, source, io));
      done += written;
      if (written < count) break;
    }
  } catch (error) {
    if (done === 0 || !(error instanceof FsError)) throw error;
  }
  return done;
}

/** The next byte of data, or Infinity. */
function* dataFrom(src: Inode, pos: number, io: FileIo): Task<number> {
  try {
    return yield* wait(seekData(src, pos, io.ops, io.writeOps.iomapValid));
  } catch (error) {
    if (hasCode(error, 'ENXIO')) return Number.POSITIVE_INFINITY;
    throw error;
  }
}

/** Makes a range read as zeros, without blocks where it can be, and the file large enough to hold it. */
function* clear(dst: Inode, pos: number, length: number, ops: FallocateOps): Task<void> {
  const inside = Math.min(length, dst.size - pos);
  if (inside > 0) yield* wait(punchHole(dst, pos, inside, ops));
  if (pos + length > dst.size) yield* wait(setSize(dst, pos + length, ops));
}
