import { RwLock } from '../base/lock.ts';
import type { IoMode } from './attr.ts';
import type { Dentry } from './dentry.ts';
import type { NodeId } from './file-system.ts';
import type { Watch } from './fsnotify.ts';
import type { PosixAcl } from './posix-acl.ts';
import { isDirectory } from './uapi.ts';

/**
 * An inode as a face of the filesystem knows it: its number, counted by lookups.
 *
 * Invariants:
 * 1. `nlookup` lookups are owed to the filesystem; they are forgotten, all at once, when no dentry and no reference is left.
 * 2. `io` is that of the instantiation. An answer with another mode makes the inode bad (Dcache.instantiate).
 * 3. A directory has at most one dentry, `alias`, and none of its ancestors is dropped before it.
 * 4. Names below a directory change only under its lock held exclusively; a dead one, whose name is gone, gets no new ones.
 */
export class Vnode {
  readonly id: NodeId;
  readonly generation: number;
  /** S_IFMT bits. */
  readonly type: number;
  readonly io: IoMode;
  // What permission checks need, as last heard, and the clock's milliseconds until which it holds. Who wants attributes asks for them.
  mode: number;
  uid = 0;
  gid = 0;
  attrValidUntil: number = Number.NEGATIVE_INFINITY;
  nlookup = 0;
  /** Open files, walks under way: whoever needs the inode beyond this turn. */
  refs = 0;
  dentries = 0;
  /** Names below a directory, as far as they are cached. */
  children: Map<string, Dentry> | undefined = undefined;
  alias: Dentry | undefined = undefined;
  /** Access ACL: null where there is none, undefined until asked for. */
  acl: PosixAcl | null | undefined = undefined;
  isDead = false;
  /** Names below a directory that were said to have changed behind our back, counted. */
  invalidations = 0;
  isBad = false;
  /** Some process has set POSIX locks: closing the file takes back those of the one that closes. */
  hasPosixLocks = false;
  watches: Set<Watch> | undefined = undefined;
  #lock: RwLock | undefined = undefined;

  constructor(id: NodeId, generation: number, type: number, io: IoMode) {
    this.id = id;
    this.generation = generation;
    this.type = type;
    this.mode = type;
    this.io = io;
  }

  get isDirectory(): boolean {
    return isDirectory(this.type);
  }

  /** Of a directory: shared by lookups, exclusive by what changes its names. */
  get lock(): RwLock {
    this.#lock ??= new RwLock();
    return this.#lock;
  }
}

/** Same kind of data path, with the same storage behind it? */
export function isSameIo(a: IoMode, b: IoMode): boolean {
  if (a.mode !== b.mode) return false;
  return a.mode !== 'passthrough' || a.backingId === (b as typeof a).backingId;
}
