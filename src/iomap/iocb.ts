import type { AbortSignalLike } from '../base/abort.ts';
import { assert } from '../base/assert.ts';
import type { ReadaheadState } from '../pagecache/readahead.ts';

// Flags of one read or write call, with the values of RWF_*. Source: Linux include/uapi/linux/fs.h
/** Poll for the completion. */
export const IOCB_HIPRI = 1 << 0;
/** Data, and what it takes to read it back, is durable at return. */
export const IOCB_DSYNC = 1 << 1;
/** Data and all metadata are durable at return. */
export const IOCB_SYNC = 1 << 2;
/** Never wait: a partial count, or EAGAIN. */
export const IOCB_NOWAIT = 1 << 3;
/** The position is the end of the file, taken under the inode lock. */
export const IOCB_APPEND = 1 << 4;
/** The position counts although the file was opened for append. */
export const IOCB_NOAPPEND = 1 << 5;
/** All of the write, or nothing of it, survives a crash. */
export const IOCB_ATOMIC = 1 << 6;
/** Folios made by this call are dropped when they are clean. */
export const IOCB_DONTCACHE = 1 << 7;
/** Sockets and pipes only: no SIGPIPE. */
export const IOCB_NOSIGNAL = 1 << 8;
/** Through the cache to storage before the call returns (proposed). */
export const IOCB_WRITETHROUGH = 1 << 9;

const FLAGS = [IOCB_HIPRI, IOCB_DSYNC, IOCB_SYNC, IOCB_NOWAIT, IOCB_APPEND, IOCB_NOAPPEND, IOCB_ATOMIC, IOCB_DONTCACHE].concat([
  IOCB_NOSIGNAL,
  IOCB_WRITETHROUGH,
]);
assert(new Set(FLAGS).size === FLAGS.length && FLAGS.every((flag) => (flag & (flag - 1)) === 0), 'two iocb flags share a bit');

/** One read or write call on an open file: struct kiocb. */
export interface Iocb {
  /** File position of the next byte. The operation moves it over what it did. */
  pos: number;
  /** IOCB_*. */
  readonly flags: number;
  /** Stops a long operation between two steps. */
  readonly signal?: AbortSignalLike | undefined;
  /** The open file's readahead window; buffered reads only. */
  readonly ra?: ReadaheadState | undefined;
  /** The caller's, for the filesystem. */
  readonly private?: unknown;
}
