import { assert } from '../base/assert.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter, type WriteSource } from '../base/iov-iter.ts';
import { RwLock } from '../base/lock.ts';
import { checkFilePosition, checkPosition, checkRange } from '../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Attr, AttrChanges, DirEntry, FileExtent, FileLock } from './attr.ts';
import { type Caller, hasCap, inGroup } from './caller.ts';
import type { Dentry } from './dentry.ts';
import type { Fh, Kiocb } from './file-system.ts';
import { FileView } from './file-view.ts';
import { IN_MODIFY } from './fsnotify.ts';
import { acquire } from './path-walk.ts';
import { killSetId } from './permission.ts';
import {
  CAP_FSETID,
  F_UNLCK,
  FALLOC_FL_ALLOCATE_RANGE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_WRITE_ZEROES,
  FALLOC_FL_ZERO_RANGE,
  isRegular,
  LOCK_END,
  O_ACCMODE,
  O_APPEND,
  O_DSYNC,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_WRONLY,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  RWF_APPEND,
  RWF_DSYNC,
  RWF_NOAPPEND,
  RWF_SYNC,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from './uapi.ts';
import type { Vfs } from './vfs.ts';
import type { Vnode } from './vnode.ts';

/** Bytes in one step of a copy that goes through memory. */
const COPY_STEP = 256 * 1024;

export interface LockRange {
  /** F_RDLCK, F_WRLCK, F_UNLCK. */
  readonly type: number;
  readonly start: number;
  /** Last byte, included; LOCK_END for to the end. */
  readonly end: number;
}

/** 'ofd' and 'flock' locks belong to the description, 'posix' ones to the process (caller.pid) and the file. */
export type LockKind = 'posix' | 'ofd' | 'flock';

/**
 * An open file description: what open(2) makes, with its flags and position, shared by all that duplicate it.
 *
 * Invariants:
 * 1. It refers to its inode until it is closed, and until then `fh` is an open handle of the filesystem.
 * 2. The position moves under a lock of its own, so that reads and writes without one of their own come one after the other.
 */
export class FileDescription {
  readonly vfs: Vfs;
  /** Who opened it. */
  readonly opener: Caller;
  /** O_* as opened, without creation flags. */
  readonly flags: number;
  position = 0;
  readonly #vnode: Vnode;
  readonly #dentry: Dentry | undefined;
  /** Open handle of the filesystem; -1 for a mere place (O_PATH), which no call but those that need none comes past. */
  readonly #fh: Fh;
  readonly #isPath: boolean;
  readonly #id: number;
  readonly #canRead: boolean;
  readonly #canWrite: boolean;
  /** RWF_* of every write. */
  readonly #writeFlags: number;
  #lock: RwLock | undefined = undefined;
  /** Descriptors and mapped views. */
  #users = 1;
  #hasFlock = false;
  #hasOfdLocks = false;
  /** Owners of byte-range locks that were set through here. */
  #lockOwners: Set<number> | undefined = undefined;
  #isOpen = true;

  constructor(vfs: Vfs, opener: Caller, vnode: Vnode, dentry: Dentry | undefined, fh: Fh | undefined, flags: number) {
    this.vfs = vfs;
    this.opener = opener;
    this.flags = flags;
    this.#vnode = vnode;
    this.#dentry = dentry;
    this.#fh = fh ?? -1;
    this.#isPath = fh === undefined;
    this.#id = vfs.nextId();
    vnode.refs++;
    const access = flags & O_ACCMODE;
    this.#canRead = !this.#isPath && (access === O_RDONLY || access === O_RDWR);
    this.#canWrite = !this.#isPath && (access === O_WRONLY || access === O_RDWR);
    this.#writeFlags =
      ((flags & O_APPEND) !== 0 ? RWF_APPEND : 0) |
      ((flags & O_SYNC) === O_SYNC ? RWF_SYNC | RWF_DSYNC : (flags & O_DSYNC) !== 0 ? RWF_DSYNC : 0);
  }

  /** Made at first use: most files are opened and closed, or have positions given. */
  get #positionLock(): RwLock {
    this.#lock ??= new RwLock();
    return this.#lock;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** File type bits (S_IFREG, S_IFDIR). */
  get type(): number {
    return this.#vnode.type;
  }

  /**
   * Fills `into` from `pos` on, or with null from the position on, which moves. `rwf` are RWF_*.
   *
   * Shape:   bytes read, 0 at the end of the file.
   * Errors:  EBADF, EISDIR, EINVAL; those of the filesystem.
   */
  read(caller: Caller, into: Uint8Array, pos: number | null, rwf = 0): MaybePromise<number> {
    if (!this.#canRead) throw this.#bad('read');
    this.#checkOpen('read');
    if (this.#vnode.isDirectory) throw new FsError('EISDIR', 'read');
    const { signal } = caller;
    if (pos !== null) {
      checkPosition('read', pos);
      return this.#readAt(caller, { pos, flags: rwf, signal }, into);
    }
    if (!this.#positionLock.tryLock()) return run(this.#readInTurn(caller, into, rwf));
    const iocb: Kiocb = { pos: this.position, flags: rwf, signal };
    return this.#moving(iocb, () => this.#readAt(caller, iocb, into));
  }

  *#readInTurn(caller: Caller, into: Uint8Array, rwf: number): Task<number> {
    yield* wait(acquire(this.#positionLock, caller, 'read'));
    const iocb: Kiocb = { pos: this.position, flags: rwf, signal: caller.signal };
    return yield* wait(this.#moving(iocb, () => this.#readAt(caller, iocb, into)));
  }

  #readAt(caller: Caller, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    const { io } = this.#vnode;
    if (io.mode === 'passthrough') return this.#forward(iocb, this.vfs.backing(io.backingId).read(caller, into, iocb.pos, iocb.flags));
    return this.vfs.fs.read(caller, this.#vnode.id, this.#fh, iocb, into);
  }

  /**
   * Writes what `source` holds at `pos`, or with null at the position, which moves. An O_APPEND file appends whatever `pos` says.
   *
   * Shape:   bytes taken, fewer than there are where space or the largest size ends.
   * Errors:  EBADF, EINVAL, EFBIG; those of the filesystem.
   */
  write(caller: Caller, source: WriteSource, pos: number | null, rwf = 0): MaybePromise<number> {
    if (!this.#canWrite) throw this.#bad('write');
    this.#checkOpen('write');
    let flags = rwf | this.#writeFlags;
    if ((rwf & RWF_NOAPPEND) !== 0) flags &= ~RWF_APPEND;
    if (!hasCap(caller, CAP_FSETID)) flags |= RW_KILL_SUIDGID | (inGroup(caller, this.#vnode.gid) ? 0 : RW_KILL_SGID);
    const { signal } = caller;
    if (pos !== null) {
      checkFilePosition('write', pos);
      return this.#writeAt(caller, { pos, flags, signal }, source);
    }
    if (!this.#positionLock.tryLock()) return run(this.#writeInTurn(caller, source, flags));
    const iocb: Kiocb = { pos: this.position, flags, signal };
    return this.#moving(iocb, () => this.#writeAt(caller, iocb, source));
  }

  *#writeInTurn(caller: Caller, source: WriteSource, flags: number): Task<number> {
    yield* wait(acquire(this.#positionLock, caller, 'write'));
    const iocb: Kiocb = { pos: this.position, flags, signal: caller.signal };
    return yield* wait(this.#moving(iocb, () => this.#writeAt(caller, iocb, source)));
  }

  #writeAt(caller: Caller, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    if (source.count === 0) return 0;
    const { io } = this.#vnode;
    const written =
      io.mode === 'passthrough'
        ? this.#forward(
            iocb,
            this.vfs.backing(io.backingId).write(caller, source, iocb.pos, iocb.flags & ~(RW_KILL_SUIDGID | RW_KILL_SGID)),
          )
        : this.vfs.fs.write(caller, this.#vnode.id, this.#fh, iocb, source);
    const { notifications } = this.vfs;
    if (notifications.isIdle) return written;
    const note = (count: number): number => {
      if (count > 0) notifications.self(this.#vnode, this.#dentry, IN_MODIFY);
      return count;
    };
    return isPromise(written) ? (written as Promise<number>).then(note) : note(written);
  }

  #forward(iocb: Kiocb, done: MaybePromise<number>): MaybePromise<number> {
    const moved = (count: number): number => {
      iocb.pos += count;
      return count;
    };
    return isPromise(done) ? (done as Promise<number>).then(moved) : moved(done);
  }

  /** Runs a call that moves iocb.pos, with the position lock held, and lets go of it. */
  #moving(iocb: Kiocb, call: () => MaybePromise<number>): MaybePromise<number> {
    const lock = this.#positionLock;
    let done: MaybePromise<number>;
    try {
      done = call();
    } catch (error) {
      lock.unlock();
      throw error;
    }
    if (!isPromise(done)) {
      this.position = iocb.pos;
      lock.unlock();
      return done;
    }
    return (done as Promise<number>).then(
      (count) => {
        this.position = iocb.pos;
        lock.unlock();
        return count;
      },
      (error: unknown) => {
        lock.unlock();
        throw error;
      },
    );
  }

  /** Moves the position. Shape: where it is now. Errors: EINVAL; ENXIO for SEEK_DATA and SEEK_HOLE past the data. */
  lseek(caller: Caller, offset: number, whence: number): MaybePromise<number> {
    this.#checkOpen('lseek');
    return run(this.#lseek(caller, offset, whence));
  }

  *#lseek(caller: Caller, offset: number, whence: number): Task<number> {
    yield* wait(acquire(this.#positionLock, caller, 'lseek'));
    try {
      let pos = offset;
      if (whence === SEEK_CUR) pos += this.position;
      else if (whence === SEEK_END) pos += (yield* this.vfs.getattr(caller, this.#vnode, this.#fh)).size;
      else if (whence === SEEK_DATA || whence === SEEK_HOLE) {
        if (!Number.isSafeInteger(offset) || offset < 0) throw new FsError('ENXIO', 'lseek');
        pos = yield* wait(this.vfs.fs.lseek(caller, this.#vnode.id, this.#fh, offset, whence));
      } else if (whence !== SEEK_SET) throw new FsError('EINVAL', 'lseek', { detail: `whence ${whence}` });
      if (pos < 0) throw new FsError('EINVAL', 'lseek', { detail: `position ${pos}` });
      checkPosition('lseek', pos);
      this.position = pos;
      return pos;
    } finally {
      this.#positionLock.unlock();
    }
  }

  stat(caller: Caller): MaybePromise<Attr> {
    this.#checkOpen('fstat', true);
    return run(this.vfs.getattr(caller, this.#vnode, this.#isPath ? undefined : this.#fh));
  }

  /** fchmod, fchown, futimens. */
  setattr(caller: Caller, changes: AttrChanges): MaybePromise<void> {
    this.#checkOpen('setattr');
    assert(changes.size === undefined, 'the size is changed by truncate');
    return run(this.vfs.changeAttr(caller, this.#vnode, this.#dentry, changes));
  }

  /** ftruncate. Errors: EINVAL where it is not open for writing, or no regular file. */
  truncate(caller: Caller, size: number): MaybePromise<void> {
    this.#checkOpen('ftruncate');
    if (!this.#canWrite || !isRegular(this.#vnode.type)) throw new FsError('EINVAL', 'ftruncate');
    checkFilePosition('ftruncate', size);
    return run(this.vfs.changeAttr(caller, this.#vnode, this.#dentry, { size }, this.#fh));
  }

  fsync(caller: Caller, datasync: boolean): MaybePromise<void> {
    this.#checkOpen(datasync ? 'fdatasync' : 'fsync');
    const { io } = this.#vnode;
    if (this.#vnode.isDirectory) return this.vfs.fs.fsyncdir(caller, this.#vnode.id, this.#fh, datasync);
    if (io.mode === 'passthrough') return this.vfs.backing(io.backingId).fsync(caller, datasync);
    return this.vfs.fs.fsync(caller, this.#vnode.id, this.#fh, datasync);
  }

  /** `mode` is FALLOC_FL_*. Errors: EBADF, EINVAL, EFBIG, ENODEV, EOPNOTSUPP; those of the filesystem. */
  fallocate(caller: Caller, mode: number, offset: number, length: number): MaybePromise<void> {
    this.#checkOpen('fallocate');
    if (!(Number.isInteger(offset) && offset >= 0 && Number.isInteger(length) && length > 0)) {
      throw new FsError('EINVAL', 'fallocate', { detail: `range ${offset}+${length}` });
    }
    checkFallocateMode(mode);
    if (!this.#canWrite) throw this.#bad('fallocate');
    if (this.#vnode.isDirectory) throw new FsError('EISDIR', 'fallocate');
    if (offset + length > Number.MAX_SAFE_INTEGER) throw new FsError('EFBIG', 'fallocate');
    return run(this.#fallocate(caller, mode, offset, length));
  }

  *#fallocate(caller: Caller, mode: number, offset: number, length: number): Task<void> {
    yield* this.#killSetId(caller);
    yield* wait(this.vfs.fs.fallocate(caller, this.#vnode.id, this.#fh, mode, offset, length));
    this.vfs.notifications.self(this.#vnode, this.#dentry, IN_MODIFY);
  }

  /** Who changes a file without being allowed to keep set-id bits takes them off. */
  *#killSetId(caller: Caller): Task<void> {
    if (hasCap(caller, CAP_FSETID)) return;
    const changes = killSetId(caller, yield* this.vfs.getattr(caller, this.#vnode, this.#fh));
    if (changes !== undefined) yield* wait(this.vfs.fs.setattr(caller, this.#vnode.id, changes, this.#fh));
  }

  /**
   * copy_file_range(2): [pos, pos + length) to `posOut` of another open file, or of the same one. Shares or copies inside the filesystem
   * where it can, else through memory.
   *
   * Shape:   bytes copied, fewer at the end of the source. Errors: EBADF, EISDIR, EINVAL; those of reading and writing.
   */
  copyRange(caller: Caller, pos: number, out: FileDescription, posOut: number, length: number): MaybePromise<number> {
    this.#checkOpen('copy_file_range');
    out.#checkOpen('copy_file_range');
    if (!this.#canRead || !out.#canWrite || (out.flags & O_APPEND) !== 0) throw this.#bad('copy_file_range');
    if (this.#vnode.isDirectory || out.#vnode.isDirectory) throw new FsError('EISDIR', 'copy_file_range');
    checkPosition('copy_file_range', pos);
    checkPosition('copy_file_range', posOut);
    if (!Number.isInteger(length) || length < 0) throw new FsError('EINVAL', 'copy_file_range', { detail: `length ${length}` });
    return run(this.#copyRange(caller, pos, out, posOut, length));
  }

  *#copyRange(caller: Caller, pos: number, out: FileDescription, posOut: number, asked: number): Task<number> {
    const { fs } = this.vfs;
    const { size } = yield* this.vfs.getattr(caller, this.#vnode, this.#fh);
    const length = Math.min(asked, Math.max(0, size - pos), Number.MAX_SAFE_INTEGER - posOut);
    if (this.#vnode === out.#vnode && Math.abs(pos - posOut) < length)
      throw new FsError('EINVAL', 'copy_file_range', { detail: 'the ranges overlap' });
    if (length === 0) return 0;
    if (out.vfs === this.vfs) {
      yield* out.#killSetId(caller);
      try {
        const copied = yield* wait(fs.copyFileRange(caller, this.#vnode.id, this.#fh, pos, out.#vnode.id, out.#fh, posOut, length, 0));
        if (copied > 0) this.vfs.notifications.self(out.#vnode, out.#dentry, IN_MODIFY);
        return copied;
      } catch (error) {
        if (!(['EOPNOTSUPP', 'ENOTSUP', 'EXDEV', 'ENOSYS'] as const).some((code) => hasCode(error, code))) throw error;
      }
    }
    return yield* this.#copyThroughMemory(caller, pos, out, posOut, length);
  }

  *#copyThroughMemory(caller: Caller, pos: number, out: FileDescription, posOut: number, length: number): Task<number> {
    const buffer = new Uint8Array(Math.min(length, COPY_STEP));
    let done = 0;
    try {
      while (done < length) {
        const count = yield* wait(this.read(caller, buffer.subarray(0, Math.min(buffer.length, length - done)), pos + done));
        if (count === 0) break;
        const written = yield* wait(out.write(caller, new IovIter(buffer.subarray(0, count)), posOut + done));
        done += written;
        if (written < count) break;
      }
    } catch (error) {
      if (done === 0) throw error;
    }
    return done;
  }

  getxattr(caller: Caller, name: string): MaybePromise<Uint8Array | undefined> {
    this.#checkOpen('fgetxattr');
    return run(this.vfs.readXattr(caller, this.#vnode, name));
  }

  setxattr(caller: Caller, name: string, value: Uint8Array, flags = 0): MaybePromise<void> {
    this.#checkOpen('fsetxattr');
    return run(this.vfs.writeXattr(caller, this.#vnode, this.#dentry, name, value, flags));
  }

  listxattr(caller: Caller): MaybePromise<string[]> {
    this.#checkOpen('flistxattr');
    return run(this.vfs.xattrNames(caller, this.#vnode));
  }

  removexattr(caller: Caller, name: string): MaybePromise<void> {
    this.#checkOpen('fremovexattr');
    return run(this.vfs.writeXattr(caller, this.#vnode, this.#dentry, name, undefined, 0));
  }

  /** linkat(2) with AT_EMPTY_PATH: a name for this file, which gives one to an O_TMPFILE. */
  link(caller: Caller, path: string): MaybePromise<void> {
    this.#checkOpen('link', true);
    return run(this.vfs.linkVnode(caller, this.#vnode, path));
  }

  /**
   * Sets, changes or takes back an advisory lock.
   *
   * Blocks:  with `wait`. Errors: EAGAIN; EBADF for a byte-range lock of a kind that the file is not open for; EDEADLK; EINTR; EINVAL.
   */
  lock(caller: Caller, kind: LockKind, range: LockRange, wait: boolean): MaybePromise<void> {
    this.#checkOpen(kind === 'flock' ? 'flock' : 'fcntl');
    const lock = this.#lockOf(caller, kind, range);
    if (range.type !== F_UNLCK) {
      if (kind !== 'flock' && !(range.type === 0 ? this.#canRead : this.#canWrite)) throw this.#bad('fcntl');
      // Before it is granted: closing takes back what came in between too.
      if (kind === 'flock') this.#hasFlock = true;
      else if (kind === 'ofd') this.#hasOfdLocks = true;
      else {
        this.#lockOwners ??= new Set();
        this.#lockOwners.add(lock.owner);
        this.#vnode.hasPosixLocks = true;
      }
    }
    return this.vfs.fs.setlk(caller, this.#vnode.id, this.#fh, lock, { flock: kind === 'flock', wait });
  }

  /** The lock that is in the way, or undefined. Errors: EINVAL for flock, which cannot be asked. */
  getLock(caller: Caller, kind: LockKind, range: LockRange): MaybePromise<FileLock | undefined> {
    this.#checkOpen('fcntl');
    if (kind === 'flock') throw new FsError('EINVAL', 'flock');
    return this.vfs.fs.getlk(caller, this.#vnode.id, this.#fh, this.#lockOf(caller, kind, range));
  }

  #lockOf(caller: Caller, kind: LockKind, range: LockRange): FileLock {
    // Descriptions count from 1 up, processes from -1 down.
    const owner = kind === 'posix' ? posixOwner(caller) : this.#id;
    return { type: range.type, start: range.start, end: range.end, pid: caller.pid, owner, ofd: kind === 'ofd' };
  }

  ioctl(caller: Caller, cmd: number, arg: Uint8Array, outSize: number): MaybePromise<{ result: number; data: Uint8Array }> {
    this.#checkOpen('ioctl');
    return this.vfs.fs.ioctl(caller, this.#vnode.id, this.#fh, cmd, arg, outSize);
  }

  poll(caller: Caller, events: number): MaybePromise<number> {
    this.#checkOpen('poll');
    return this.vfs.fs.poll(caller, this.#vnode.id, this.#fh, events);
  }

  /** Extents that touch the range, at most `max`. `flags` are FIEMAP_FLAG_*. */
  fiemap(caller: Caller, start: number, length: number, flags: number, max?: number): MaybePromise<FileExtent[]> {
    this.#checkOpen('fiemap');
    return this.vfs.fs.fiemap(caller, this.#vnode.id, start, length, flags, max);
  }

  /** A directory's next names, at most `count`, without '.' and '..'; none at the end. lseek to 0 begins anew. */
  readdir(caller: Caller, count: number): MaybePromise<DirEntry[]> {
    this.#checkOpen('readdir');
    if (!this.#vnode.isDirectory) throw new FsError('ENOTDIR', 'readdir');
    return run(this.#readdir(caller, count));
  }

  *#readdir(caller: Caller, count: number): Task<DirEntry[]> {
    yield* wait(acquire(this.#positionLock, caller, 'readdir'));
    try {
      if (this.#vnode.isDead) throw new FsError('ENOENT', 'readdir');
      const entries = yield* wait(this.vfs.fs.readdir(caller, this.#vnode.id, this.#fh, this.position, count, false));
      const last = entries[entries.length - 1];
      if (last !== undefined) this.position = last.next;
      return entries;
    } finally {
      this.#positionLock.unlock();
    }
  }

  /**
   * A range of the file as memory, MAP_SHARED. It keeps the file open until it is closed itself.
   *
   * Errors:  EACCES without read access, and for a writable view without write access; ENODEV for what cannot be mapped; EINVAL.
   */
  map(caller: Caller, offset: number, length: number, writable: boolean): FileView {
    this.#checkOpen('mmap');
    if (!this.#canRead || (writable && !this.#canWrite)) throw new FsError('EACCES', 'mmap');
    if (!isRegular(this.#vnode.type) || this.#vnode.io.mode === 'direct') throw new FsError('ENODEV', 'mmap');
    checkRange('mmap', offset, length);
    if (length === 0) throw new FsError('EINVAL', 'mmap', { detail: 'length 0' });
    this.#users++;
    const { vfs } = this;
    return new FileView(offset, length, writable, {
      size: () => {
        const attr = vfs.fs.getattr(caller, this.#vnode.id, this.#fh);
        return isPromise(attr) ? (attr as Promise<Attr>).then(({ size }) => size) : attr.size;
      },
      read: (into, pos) => this.#readAt(caller, { pos, flags: 0 }, into),
      write: (source, pos) => this.#writeAt(caller, { pos, flags: RWF_NOAPPEND }, source),
      sync: (start, end) => vfs.fs.fsync(caller, this.#vnode.id, this.#fh, true, start, end),
      close: () => this.#drop(caller),
    });
  }

  /**
   * Closes a descriptor: byte-range locks of the caller's process on the file end, and those of this open file with its last user.
   *
   * Errors:  EBADF if it is closed already; those of flush, after everything is given back.
   */
  close(caller: Caller): MaybePromise<void> {
    if (!this.#isOpen) throw this.#bad('close');
    this.#isOpen = false;
    this.vfs.noteClosed(this);
    return run(this.#close(caller));
  }

  *#close(caller: Caller): Task<void> {
    let failure: unknown;
    if (!this.#vnode.isDirectory && !this.#isPath) {
      try {
        yield* wait(this.vfs.fs.flush(caller, this.#vnode.id, this.#fh, posixOwner(caller)));
      } catch (error) {
        failure = error;
      }
      // POSIX: any close of the file by a process takes all its locks on it back.
      if (this.#vnode.hasPosixLocks) {
        const owners = this.#lockOwners ?? new Set<number>();
        owners.add(posixOwner(caller));
        for (const owner of owners) yield* this.#unlock(caller, owner, false);
      }
    }
    const dropped = this.#drop(caller);
    if (isPromise(dropped)) yield dropped;
    if (failure !== undefined) throw failure;
  }

  *#unlock(caller: Caller, owner: number, ofd: boolean): Task<void> {
    const all: FileLock = { type: F_UNLCK, start: 0, end: LOCK_END, pid: caller.pid, owner, ofd };
    yield* wait(this.vfs.fs.setlk(caller, this.#vnode.id, this.#fh, all, { flock: false, wait: false }));
  }

  /** One user less; the last one gives the handle back. */
  #drop(caller: Caller): MaybePromise<void> {
    if (--this.#users > 0) return;
    if (this.#hasOfdLocks) return run(this.#releaseLocked(caller));
    const { dcache } = this.vfs;
    let released: MaybePromise<void>;
    try {
      released = this.#release();
    } catch (error) {
      dcache.put(this.#vnode);
      throw error;
    }
    if (isPromise(released)) return (released as Promise<void>).finally(() => dcache.put(this.#vnode));
    dcache.put(this.#vnode);
  }

  *#releaseLocked(caller: Caller): Task<void> {
    try {
      yield* this.#unlock(caller, this.#id, true);
      yield* wait(this.#release());
    } finally {
      this.vfs.dcache.put(this.#vnode);
    }
  }

  #release(): MaybePromise<void> {
    const { fs } = this.vfs;
    if (this.#isPath) return;
    if (this.#vnode.isDirectory) return fs.releasedir(this.#vnode.id, this.#fh);
    return fs.release(this.#vnode.id, this.#fh, this.#hasFlock ? this.#id : undefined);
  }

  #checkOpen(syscall: string, allowsPath = false): void {
    if (!this.#isOpen || (this.#isPath && !allowsPath)) throw this.#bad(syscall);
    if (this.vfs.isClosed) this.vfs.checkOpen(syscall);
    if (this.#vnode.isBad) throw new FsError('EIO', syscall, { detail: `inode ${this.#vnode.id} is bad` });
  }

  #bad(syscall: string): FsError {
    return new FsError('EBADF', syscall);
  }
}

/** Errors: EOPNOTSUPP for operations that are unknown, more than one, or do not go with FALLOC_FL_KEEP_SIZE as given. */
function checkFallocateMode(mode: number): void {
  const keepsSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case FALLOC_FL_ALLOCATE_RANGE:
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_UNSHARE_RANGE:
      return;
    case FALLOC_FL_PUNCH_HOLE:
      if (keepsSize) return;
      break;
    case FALLOC_FL_COLLAPSE_RANGE:
    case FALLOC_FL_INSERT_RANGE:
    case FALLOC_FL_WRITE_ZEROES:
      if (!keepsSize) return;
      break;
  }
  throw new FsError('EOPNOTSUPP', 'fallocate', { detail: `mode 0x${mode.toString(16)}` });
}

/** The owner of POSIX locks: the process. Below 0, where no description is. */
function posixOwner(caller: Caller): number {
  return -1 - caller.pid;
}
