import { TracePoint } from '../base/tracer.ts';

// Where the engine can be watched. Each event carries the inode number and the file range in bytes.

/** A mapping was obtained: { ino, pos, length, flags, type, offset, mapLength, addr, mapFlags }. */
export const traceIterBegin = new TracePoint('iomap:iter_begin');
/** A mapping was finished: { ino, pos, length, written, flags }. */
export const traceIterEnd = new TracePoint('iomap:iter_end');
/** A mapping was found stale: { ino, pos }. */
export const traceIterStale = new TracePoint('iomap:iter_stale');
/** A folio is read: { ino, pos, length }. */
export const traceReadFolio = new TracePoint('iomap:read_folio');
/** Readahead: { ino, pos, length }. */
export const traceReadahead = new TracePoint('iomap:readahead');
/** A buffered write begins: { ino, pos, length, flags }. */
export const traceWrite = new TracePoint('iomap:write');
/** One dirty range goes to storage: { ino, pos, length }. */
export const traceWritebackRange = new TracePoint('iomap:writeback_range');
/** A written range is complete on storage: { ino, pos, length, errno }. */
export const traceIoend = new TracePoint('iomap:ioend');
/** A direct request: { ino, pos, length, flags }. */
export const traceDirect = new TracePoint('iomap:direct');
/** Cached data is dropped: { ino, pos, length }. */
export const traceInvalidate = new TracePoint('iomap:invalidate');
/** A range is zeroed: { ino, pos, length }. */
export const traceZeroRange = new TracePoint('iomap:zero_range');
