import { ErrseqRecord } from '../base/errseq.ts';
import { RwLock } from '../base/lock.ts';
import { POSITION_MAX } from '../base/ranges.ts';
import { WorkQueue } from '../base/work-queue.ts';
import type { BackingDevice } from '../pagecache/backing-device.ts';
import type { PageCache } from '../pagecache/page-cache.ts';
import type { Inode } from './inode.ts';

/** What an error report is about. */
export type FsErrorKind = 'buffered-read' | 'buffered-write' | 'direct-read' | 'direct-write' | 'data-lost' | 'metadata';

/** One failure inside the filesystem, with the exact range, for those who watch it (the kernel's fserror events). */
export interface FsErrorReport {
  readonly kind: FsErrorKind;
  readonly inode: Inode;
  /** File range, bytes. */
  readonly pos: number;
  readonly length: number;
  /** Negative. */
  readonly errno: number;
}

const EAGAIN = -11;
const ENOTBLK = -15;

/** One mounted filesystem, as far as its files share it. */
export class SuperBlock {
  readonly cache: PageCache;
  readonly bdi: BackingDevice;
  /** s_maxbytes: no file is larger. */
  readonly sizeMax: number;
  /** Last error of any file; read by syncfs. */
  readonly errors = new ErrseqRecord();
  /** Completion work of all files (conversion, remap, end of direct I/O). */
  readonly work = new WorkQueue();
  /** Writers and mkwrite hold it shared; freezing takes it exclusively. First of all locks. */
  readonly freezeWrite = new RwLock();
  /** Filesystem transactions hold it shared; freezing takes it exclusively after everything is synced. */
  readonly freezeFs = new RwLock();
  readonly #watchers = new Set<(report: FsErrorReport) => void>();

  constructor(cache: PageCache, bdi: BackingDevice, sizeMax: number = POSITION_MAX) {
    this.cache = cache;
    this.bdi = bdi;
    this.sizeMax = sizeMax;
  }

  /** Calls `watch` with every error report, in a later turn than the failure. Returns the function that ends it. */
  watchErrors(watch: (report: FsErrorReport) => void): () => void {
    this.#watchers.add(watch);
    return () => this.#watchers.delete(watch);
  }

  /** Reports a failure. Retries (EAGAIN) and fallbacks (ENOTBLK) are none. Safe under any lock: watchers run in a later turn. */
  reportError(report: FsErrorReport): void {
    if (this.#watchers.size === 0 || report.errno >= 0 || report.errno === EAGAIN || report.errno === ENOTBLK) return;
    this.work.post(() => {
      for (const watch of this.#watchers) watch(report);
    });
  }
}
