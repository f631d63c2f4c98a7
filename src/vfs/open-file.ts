import type { Errseq } from '../base/errseq.ts';
import { FsError } from '../base/fs-error.ts';
import { ReadaheadState } from '../pagecache/readahead.ts';
import type { Inode } from './inode.ts';

/** An open file: what every descriptor made by one open shares, duplicates included. */
export class OpenFile {
  readonly inode: Inode;
  #ra: ReadaheadState | undefined = undefined;
  #errorsSeen: Errseq;

  constructor(inode: Inode) {
    this.inode = inode;
    this.#errorsSeen = inode.mapping.errors.sample();
  }

  /** Of those who read: made by the first read. */
  get ra(): ReadaheadState {
    this.#ra ??= new ReadaheadState();
    return this.#ra;
  }

  /** Reports writeback errors since the last call, once. Errors: the recorded errno. */
  checkWritebackErrors(syscall = 'fsync'): void {
    const { errno, since } = this.inode.mapping.errors.checkAndAdvance(this.#errorsSeen);
    this.#errorsSeen = since;
    if (errno < 0) throw FsError.of(errno, syscall);
  }
}
