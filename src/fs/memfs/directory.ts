import { FsError } from '../../base/fs-error.ts';
import type { MemInode } from './mem-inode.ts';

/** One name of a directory. */
export interface Dirent {
  readonly name: string;
  /** Position in listings, above 0: later names have higher ones, and none is given twice. */
  readonly cookie: number;
  /** undefined once the name is gone. */
  inode: MemInode | undefined;
}

/** One that is not gone. */
type LiveDirent = Dirent & { readonly inode: MemInode };

/**
 * The names of a directory, found by name and listed in the order in which they came.
 *
 * A listing goes on behind a cookie, whatever was added or removed meanwhile: names that stay are listed once. A name that leads to
 * another inode (rename over it, exchange) stays where it is.
 *
 * Invariants:
 * 1. `#order` is sorted by cookie and holds every entry of `#names`; at most half of it is entries that are gone.
 */
export class Directory {
  /** Of the directory itself; undefined for the root. */
  parent: MemInode | undefined;
  readonly #names = new Map<string, Dirent>();
  #order: Dirent[] = [];
  #cookie = 0;

  constructor(parent: MemInode | undefined) {
    this.parent = parent;
  }

  get count(): number {
    return this.#names.size;
  }

  get(name: string): MemInode | undefined {
    return this.#names.get(name)?.inode;
  }

  /** Errors: ENOENT. */
  find(name: string, syscall: string): MemInode {
    const inode = this.get(name);
    if (inode === undefined) throw new FsError('ENOENT', syscall);
    return inode;
  }

  /** Makes `name` lead to `inode`, whether it is new or led elsewhere. */
  set(name: string, inode: MemInode): void {
    const known = this.#names.get(name);
    if (known !== undefined) {
      known.inode = inode;
      return;
    }
    const entry: Dirent = { name, cookie: ++this.#cookie, inode };
    this.#names.set(name, entry);
    this.#order.push(entry);
  }

  remove(name: string): void {
    const entry = this.#names.get(name);
    if (entry === undefined) return;
    entry.inode = undefined;
    this.#names.delete(name);
    if (this.#order.length > 2 * this.#names.size) this.#order = this.#order.filter(isLive);
  }

  /** At most `count` entries with cookies above `cookie`, in order. */
  list(cookie: number, count: number): LiveDirent[] {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#order[middle] as Dirent).cookie <= cookie) low = middle + 1;
      else high = middle;
    }
    const entries: LiveDirent[] = [];
    for (; low < this.#order.length && entries.length < count; low++) {
      const entry = this.#order[low] as Dirent;
      if (isLive(entry)) entries.push(entry);
    }
    return entries;
  }
}

function isLive(entry: Dirent): entry is LiveDirent {
  return entry.inode !== undefined;
}
