import type { AbortSignalLike } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import type { WriteSource } from '../base/iov-iter.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Attr, AttrChanges, DirEntry, Entry, FileExtent, FileLock, LockRequest, StatFs } from './attr.ts';
import type { Caller } from './caller.ts';
import { LockTable } from './file-locks.ts';
import { DEFAULT_POLLMASK, isDirectory, NAME_MAX, O_TRUNC, S_IFREG, SEEK_DATA, SEEK_HOLE } from './uapi.ts';

declare const brand: unique symbol;
/** Number of an inode in a FileSystem, counted by lookups until it is forgotten. Plain numbers may be given for it. */
export type NodeId = number & { readonly [brand]?: 'NodeId' };
/** Number of an open file in a FileSystem. */
export type Fh = number & { readonly [brand]?: 'Fh' };

/** One read or write call: the kernel's kiocb. The position moves with the bytes. */
export interface Kiocb {
  pos: number;
  /** RWF_*, RW_*. */
  readonly flags: number;
  readonly signal?: AbortSignalLike | undefined;
}

/**
 * How an open file differs from what the IoMode of its inode says. Faces with a cache in front of the filesystem, as a kernel mount is, go by
 * it; within this process every call comes here anyway.
 */
export interface OpenTraits {
  /** Past the cache: every call comes here. */
  readonly direct?: boolean;
  /** With `direct`: writes that do not extend the file may overlap. */
  readonly parallelWrites?: boolean;
  /** What is cached of the file is of no use any more. */
  readonly dropsCache?: boolean;
  /** There is a position, but it cannot be set. */
  readonly nonseekable?: boolean;
  /** There is no position. */
  readonly stream?: boolean;
  /** flush has nothing to do: it need not be called. */
  readonly noflush?: boolean;
  /** Of a directory: its listing is not to be kept. */
  readonly uncachedListing?: boolean;
}

/** What open answers. */
export interface OpenReply {
  readonly fh: Fh;
  readonly traits?: OpenTraits;
}

export interface CreateReply extends OpenReply {
  readonly entry: Entry;
}

/**
 * Where a filesystem tells its faces what changed behind their back. Numbers and names that nobody knows are ignored.
 *
 * It may be called at any time, also while the filesystem answers a request, and answers at once: a face that has to wait before it can
 * believe what it is told does so by itself. There is nothing to be waited for, and so nothing that could wait for itself.
 */
export interface Notifier {
  /** Attributes are stale, and cached data of [pos, pos + length), of 0 to the end; a negative position means attributes only. */
  invalInode(node: NodeId, pos: number, length: number): void;
  /** The name may lead elsewhere now. */
  invalEntry(parent: NodeId, name: string): void;
  /** The name is gone, and `child` with it if that was its last one. */
  delete(parent: NodeId, child: NodeId, name: string): void;
  /**
   * For those who watch: something happened to `name` in the directory `node`, or to `node` itself where that is ''. `mask` is one IN_* bit
   * (fsnotify.ts). It says nothing about what is stale. Absent while nobody watches.
   */
  readonly event?: ((node: NodeId, name: string, mask: number) => void) | undefined;
}

/** shutdown: what becomes of what is not durable. Source: the numbers of EXT4_IOC_SHUTDOWN. */
export const SHUTDOWN_DEFAULT = 0; // sync everything first
export const SHUTDOWN_LOGFLUSH = 1; // write the journal, not the data
export const SHUTDOWN_NOLOGFLUSH = 2; // stop at once, as if the plug were pulled

/**
 * The waist: what every filesystem is and every face serves. Inodes by number, names within directories, open files by handle, in the
 * kernel's own words. Everything in it can cross a FUSE channel: numbers, names, bytes; no object of one side is held by the other.
 *
 * A filesystem implements what it has. Each operation here answers what a system without it answers.
 *
 * Contract of all operations:
 * - `node` is one that lookup, or an operation that answers an Entry, has given and that is not forgotten, or `root`. Others: ESTALE.
 * - `name` is one component, not empty, '.' or '..', no slash, no NUL, at most nameMax bytes (see name.ts). Others are the face's mistake.
 * - Ownership: an answer belongs to the caller and does not change afterwards; a buffer belongs to the caller and is not kept.
 * - Permissions are the face's business, by permission.ts, unless `checksAccess`: then this filesystem refuses by itself. What only the
 *   filesystem can see it always checks: names that exist (EEXIST), kinds (ENOTDIR, EISDIR), directories that are not empty, a directory
 *   renamed below itself (EINVAL), space (ENOSPC, EDQUOT), read-only (EROFS).
 * - Calls may overlap. Each is atomic to the others: they see it not begun or done.
 * - Answers at once when the answer is in memory, with a promise when it waits. With `caller.nowait` it throws EAGAIN instead of waiting,
 *   and has changed nothing then.
 */
export abstract class FileSystem {
  /** The root directory. Never forgotten. */
  readonly root: NodeId = 1;
  /** Bytes of the longest name. */
  readonly nameMax: number = NAME_MAX;
  /** Nothing changes: the face answers EROFS without asking. */
  readonly isReadOnly: boolean = false;
  /** How long attributes that getattr and setattr answer hold, milliseconds. Infinity where all changes come through this interface. */
  readonly attrValidMs: number = Number.POSITIVE_INFINITY;
  /** Permissions are checked here, with what only this side knows. */
  readonly checksAccess: boolean = false;
  /** Files change through others than this face (attach): a face leaves sizes and times to the filesystem, and does not hold writes back. */
  readonly changesElsewhere: boolean = false;
  /** open and opendir keep nothing, and every operation takes 0 for what they answer: a face may leave them out. */
  readonly isStateless: boolean = false;
  /** Numbers of inodes last: iget answers for those that were forgotten, and parentOf for directories. */
  readonly isExportable: boolean = false;
  #locks: LockTable | undefined;

  /**
   * Something is under way here, though nobody asks: an answer of the network or of a device is to come. A face that serves this filesystem in a thread of
   * its own asks before each request that it waits for; while this is true it waits by way of the event loop, so that timers fire, which
   * takes about twice as long for each request. So: true while there is something to wait for, and no longer. What waits for time to pass says
   * nextDue instead.
   */
  get needsEventLoop(): boolean {
    return false;
  }

  /**
   * When the event loop has to turn next, milliseconds of performance.now(), though nothing is under way: a timer is due then. Undefined:
   * nothing waits for time to pass. Unlike needsEventLoop this costs a request nothing.
   */
  get nextDue(): number | undefined {
    return undefined;
  }

  /** A face begins: changes that it did not make are told to `notifier`. Returns the function that ends this. By default there are none. */
  attach(_notifier: Notifier): () => void {
    return () => {};
  }

  /** Ends everything: writes what is dirty, gives back what is held. Nothing is called afterwards. */
  destroy(): MaybePromise<void> {}

  // Inodes.

  /** The inode behind a name, or undefined. Counts one lookup. */
  abstract lookup(caller: Caller, parent: NodeId, name: string): MaybePromise<Entry | undefined>;

  /** Takes `nlookup` lookups back. At 0, and when no handle is open, the number is no one's. */
  abstract forget(node: NodeId, nlookup: number): void;

  /** The inode with this number, whether it was forgotten or not. Counts one lookup. Errors: ESTALE where there is none, or numbers do not last. */
  iget(_caller: Caller, _node: NodeId): MaybePromise<Entry> {
    throw new FsError('ESTALE', 'lookup');
  }

  /** The directory that a directory is in; of the root, itself. Counts one lookup. Errors: ESTALE where that is not known. */
  parentOf(_caller: Caller, _node: NodeId): MaybePromise<Entry> {
    throw new FsError('ESTALE', 'lookup');
  }

  abstract getattr(caller: Caller, node: NodeId, fh?: Fh): MaybePromise<Attr>;

  /** Changes attributes, all or none. Shape: the attributes afterwards. */
  setattr(_caller: Caller, _node: NodeId, _changes: AttrChanges, _fh?: Fh): MaybePromise<Attr> {
    throw new FsError('EPERM', 'setattr');
  }

  /** Asked only where `checksAccess`. Errors: EACCES. */
  access(_caller: Caller, _node: NodeId, _mask: number): MaybePromise<void> {}

  /** Target of a symbolic link, as a name (name.ts). Errors: EINVAL for anything else. */
  readlink(_caller: Caller, _node: NodeId): MaybePromise<string> {
    throw new FsError('EINVAL', 'readlink');
  }

  // Names. `mode` is without caller.umask, which the filesystem takes off unless the directory has a default ACL.

  mknod(_caller: Caller, _parent: NodeId, _name: string, _mode: number, _rdev: number): MaybePromise<Entry> {
    throw new FsError('EPERM', 'mknod');
  }

  mkdir(_caller: Caller, _parent: NodeId, _name: string, _mode: number): MaybePromise<Entry> {
    throw new FsError('EPERM', 'mkdir');
  }

  unlink(_caller: Caller, _parent: NodeId, _name: string): MaybePromise<void> {
    throw new FsError('EPERM', 'unlink');
  }

  rmdir(_caller: Caller, _parent: NodeId, _name: string): MaybePromise<void> {
    throw new FsError('EPERM', 'rmdir');
  }

  symlink(_caller: Caller, _parent: NodeId, _name: string, _target: string): MaybePromise<Entry> {
    throw new FsError('EPERM', 'symlink');
  }

  /** `flags` are RENAME_*. Two names of one inode: nothing happens, and it succeeds. */
  rename(_caller: Caller, _parent: NodeId, _name: string, _newParent: NodeId, _newName: string, _flags: number): MaybePromise<void> {
    throw new FsError('EPERM', 'rename');
  }

  /** A further name. Errors: EPERM for a directory; EMLINK; ENOENT for an inode without names that is no tmpfile. */
  link(_caller: Caller, _node: NodeId, _newParent: NodeId, _newName: string): MaybePromise<Entry> {
    throw new FsError('EPERM', 'link');
  }

  // Open files.

  /** `flags` are O_*, without those that creation used up (O_CREAT, O_EXCL). O_TRUNC is asked for by setattr. */
  open(_caller: Caller, _node: NodeId, _flags: number): MaybePromise<OpenReply> {
    throw new FsError('EACCES', 'open');
  }

  /** Makes a regular file and opens it. Errors: EEXIST if the name is taken. */
  create(caller: Caller, parent: NodeId, name: string, mode: number, flags: number): MaybePromise<CreateReply> {
    return run(this.#mknodAndOpen(caller, parent, name, mode, flags));
  }

  *#mknodAndOpen(caller: Caller, parent: NodeId, name: string, mode: number, flags: number): Task<CreateReply> {
    const entry = yield* wait(this.mknod(caller, parent, name, (mode & 0o7777) | S_IFREG, 0));
    try {
      return { entry, ...(yield* wait(this.open(caller, entry.node, flags & ~O_TRUNC))) };
    } catch (error) {
      this.forget(entry.node, 1);
      throw error;
    }
  }

  /** A regular file without a name, opened; link gives it one unless O_EXCL is in `flags`. */
  tmpfile(_caller: Caller, _parent: NodeId, _mode: number, _flags: number): MaybePromise<CreateReply> {
    throw new FsError('EOPNOTSUPP', 'open');
  }

  /** Fills `into` from iocb.pos. Shape: bytes read, short at the end of the file only; iocb.pos moves with them. */
  read(_caller: Caller, _node: NodeId, _fh: Fh, _iocb: Kiocb, _into: Uint8Array): MaybePromise<number> {
    throw new FsError('EINVAL', 'read');
  }

  /** Takes bytes from `source`, at the end of the file with RWF_APPEND. Shape: bytes taken, more than 0; iocb.pos moves behind them. */
  write(_caller: Caller, _node: NodeId, _fh: Fh, _iocb: Kiocb, _source: WriteSource): MaybePromise<number> {
    throw new FsError('EINVAL', 'write');
  }

  /** One descriptor of the open file is closed; others may be left. Errors become those of close(2). */
  flush(_caller: Caller, _node: NodeId, _fh: Fh, _lockOwner: number): MaybePromise<void> {}

  /** The open file is closed. Byte-range locks of the owners were taken back before; its flock ends here. */
  release(node: NodeId, _fh: Fh, flockOwner?: number): MaybePromise<void> {
    if (flockOwner !== undefined) this.#locks?.releaseFlock(node, flockOwner);
  }

  /** [start, end) and what leads to it is durable. `datasync`: without what reading it back does not need. */
  fsync(_caller: Caller, _node: NodeId, _fh: Fh, _datasync: boolean, _start?: number, _end?: number): MaybePromise<void> {
    throw new FsError('EINVAL', 'fsync');
  }

  /** Errors: ENXIO past the end, and where no data follows. */
  lseek(caller: Caller, node: NodeId, fh: Fh, pos: number, whence: number): MaybePromise<number> {
    return run(this.#seekAsOneExtent(caller, node, fh, pos, whence));
  }

  /** A file of which nothing is known is data from end to end. */
  *#seekAsOneExtent(caller: Caller, node: NodeId, fh: Fh, pos: number, whence: number): Task<number> {
    const { size } = yield* wait(this.getattr(caller, node, fh));
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError('EINVAL', 'lseek');
    if (!(pos >= 0) || pos >= size) throw new FsError('ENXIO', 'lseek');
    return whence === SEEK_DATA ? pos : size;
  }

  /** `mode` is FALLOC_FL_*. */
  fallocate(_caller: Caller, _node: NodeId, _fh: Fh, _mode: number, _offset: number, _length: number): MaybePromise<void> {
    throw new FsError('EOPNOTSUPP', 'fallocate');
  }

  /** Copies without the bytes passing the face. Shape: bytes copied, 0 at the end. Errors: EOPNOTSUPP, EXDEV: the face copies by itself. */
  copyFileRange(
    _caller: Caller,
    _nodeIn: NodeId,
    _fhIn: Fh,
    _posIn: number,
    _nodeOut: NodeId,
    _fhOut: Fh,
    _posOut: number,
    _length: number,
    _flags: number,
  ): MaybePromise<number> {
    throw new FsError('EOPNOTSUPP', 'copy_file_range');
  }

  /** Shape: what the command answers, at most `outSize` bytes. */
  ioctl(
    _caller: Caller,
    _node: NodeId,
    _fh: Fh,
    _cmd: number,
    _arg: Uint8Array,
    _outSize: number,
  ): MaybePromise<{ result: number; data: Uint8Array }> {
    throw new FsError('ENOTTY', 'ioctl');
  }

  /**
   * Events of `events` that are there now (POLL*).
   *
   * Shape:  `wake`, if it is given, is to be called once when one of the others may have come; whoever waits asks again then. It may be called
   *         at any time, too often and too late, also after release; not at all where all of `events` are there, or come never.
   */
  poll(_caller: Caller, _node: NodeId, _fh: Fh, events: number, _wake?: () => void): MaybePromise<number> {
    return events & DEFAULT_POLLMASK;
  }

  /** Where the file lives. Shape: at most `max` extents that touch the range; all if absent. */
  fiemap(_caller: Caller, _node: NodeId, _start: number, _length: number, _flags: number, _max?: number): MaybePromise<FileExtent[]> {
    throw new FsError('EOPNOTSUPP', 'fiemap');
  }

  /** The lock that keeps `lock` from being set, or undefined. */
  getlk(_caller: Caller, node: NodeId, _fh: Fh, lock: FileLock): MaybePromise<FileLock | undefined> {
    return this.#locks?.get(node, lock);
  }

  /** Sets, changes or takes back a lock. Errors: EAGAIN; with `wait` EDEADLK, EINTR. */
  setlk(caller: Caller, node: NodeId, _fh: Fh, lock: FileLock, request: LockRequest): MaybePromise<void> {
    this.#locks ??= new LockTable();
    return this.#locks.set(node, lock, request, caller);
  }

  /** Descriptor in this process of the open file behind passthrough files with this number (IoMode), for faces that hand it on to the kernel. */
  backingFd(_backingId: number): number | undefined {
    return undefined;
  }

  // Directories.

  opendir(_caller: Caller, _node: NodeId, _flags: number): MaybePromise<OpenReply> {
    return { fh: 0 };
  }

  /**
   * The names from `offset` on: 0, or the `next` of a name. Without '.' and '..'.
   *
   * Shape:  some, at most `count`; none at the end. A name that was there all the time comes exactly once.
   */
  abstract readdir(caller: Caller, node: NodeId, fh: Fh, offset: number, count: number, plus: boolean): MaybePromise<DirEntry[]>;

  releasedir(_node: NodeId, _fh: Fh): MaybePromise<void> {}

  fsyncdir(_caller: Caller, _node: NodeId, _fh: Fh, _datasync: boolean): MaybePromise<void> {
    throw new FsError('EINVAL', 'fsync');
  }

  // Extended attributes, by their whole names. ACLs are among them (posix-acl.ts).

  /** undefined where there is none. */
  getxattr(_caller: Caller, _node: NodeId, _name: string): MaybePromise<Uint8Array | undefined> {
    throw new FsError('EOPNOTSUPP', 'getxattr');
  }

  /** Errors: EEXIST, ENODATA for XATTR_CREATE, XATTR_REPLACE; E2BIG, ENOSPC. */
  setxattr(_caller: Caller, _node: NodeId, _name: string, _value: Uint8Array, _flags: number): MaybePromise<void> {
    throw new FsError('EOPNOTSUPP', 'setxattr');
  }

  listxattr(_caller: Caller, _node: NodeId): MaybePromise<string[]> {
    throw new FsError('EOPNOTSUPP', 'listxattr');
  }

  /** Errors: ENODATA where there is none. */
  removexattr(_caller: Caller, _node: NodeId, _name: string): MaybePromise<void> {
    throw new FsError('EOPNOTSUPP', 'removexattr');
  }

  // The whole.

  statfs(_caller: Caller, _node: NodeId): MaybePromise<StatFs> {
    throw new FsError('ENOSYS', 'statfs');
  }

  syncfs(_caller: Caller): MaybePromise<void> {}

  /** Stands still, in a state that can be copied, until thawed. */
  freeze(): MaybePromise<void> {
    throw new FsError('EOPNOTSUPP', 'freeze');
  }

  thaw(): MaybePromise<void> {
    throw new FsError('EOPNOTSUPP', 'thaw');
  }

  /** Stops: everything fails with EIO from here on. `how` is SHUTDOWN_*. */
  shutdown(_how: number): MaybePromise<void> {
    throw new FsError('EOPNOTSUPP', 'shutdown');
  }
}

/** Errors: ENOTDIR. */
export function checkDirectory(mode: number, syscall: string): void {
  if (!isDirectory(mode)) throw new FsError('ENOTDIR', syscall);
}
