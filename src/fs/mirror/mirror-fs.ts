import { readFileSync } from 'node:fs';
import { FsError, hasCode } from '../../base/fs-error.ts';
import { IovIter, type WriteSource } from '../../base/iov-iter.ts';
import { type MaybePromise, run, type Task, wait } from '../../base/task.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  F_DUPFD_CLOEXEC,
  Libc,
  RLIMIT_NOFILE,
  STATX_MNT_ID,
  type Statx,
  UTIME_NOW,
  UTIME_OMIT,
} from '../../sys/libc.ts';
import {
  type Attr,
  type AttrChanges,
  type DirEntry,
  type Entry,
  type FileExtent,
  type IoMode,
  makedev,
  type StatFs,
  type Timespec,
} from '../../vfs/attr.ts';
import { type Caller, hasCap } from '../../vfs/caller.ts';
import { type CreateReply, checkDirectory, type Fh, FileSystem, type Kiocb, type NodeId, type OpenReply } from '../../vfs/file-system.ts';
import { nameBytes, nameOf } from '../../vfs/name.ts';
import { killedMode } from '../../vfs/permission.ts';
import { XATTR_NAME_POSIX_ACL_ACCESS } from '../../vfs/posix-acl.ts';
import {
  CAP_SYS_ADMIN,
  isDirectory,
  isRegular,
  isSymlink,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_SYNC,
  O_TMPFILE,
  RENAME_WHITEOUT,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  RWF_APPEND,
  RWF_ATOMIC,
  RWF_DONTCACHE,
  RWF_DSYNC,
  RWF_HIPRI,
  RWF_NOAPPEND,
  RWF_NOWAIT,
  RWF_SYNC,
  S_IALLUGO,
  S_IFMT,
  S_IFREG,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_HOLE,
  SEEK_SET,
} from '../../vfs/uapi.ts';
import { Credentials } from './credentials.ts';
import { type HostNode, HostNodes, pathOf } from './host-nodes.ts';

export interface MirrorFsOptions {
  /** Nothing is changed through here. Default: no. */
  readonly readOnly?: boolean;
  /**
   * How long faces may use names and attributes without asking again, milliseconds. Default 0: changes on the host are seen at once. Infinity
   * where nobody else changes the directory.
   */
  readonly validMs?: number;
}

const NO_PATH = new Uint8Array(0);
/** The data is on the host; faces may keep copies of it. */
const IO: IoMode = { mode: 'cached' };
/** What of a caller's flags the host is opened with. Appends are told write by write. */
const OPEN_FLAGS = O_ACCMODE | O_NONBLOCK | O_SYNC | O_DIRECT | O_NOATIME;
const OPEN_ALWAYS = O_CLOEXEC | O_NOCTTY;
/** What of a write's flags the host is told. */
const WRITE_FLAGS = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_ATOMIC | RWF_DONTCACHE;
/** Buffers in one call. Source: Linux include/uapi/linux/uio.h, UIO_MAXIOV. */
const IOV_MAX = 1024;
/** Bytes in one step of a write from a source that is not in memory. */
const WRITE_STEP = 1024 * 1024;
/** What O_DIRECT may want memory to be aligned to. */
const DIRECT_ALIGN = 4096;
/** Bytes of a getdents64 buffer: the longest record, and a guess at the others. */
const DIRENT_MAX = 280;
const DIRENT_GUESS = 32;
const DIRENT_BUFFER_MAX = 64 * 1024;
/** Extents in one ioctl. */
const EXTENTS_STEP = 512;
const FIEMAP_EXTENT_LAST = 1;

/** An open file. */
interface Handle {
  readonly node: HostNode;
  readonly fd: number;
  /** O_* of the caller. */
  readonly flags: number;
  /** Of a directory: where its descriptor stands, as a position of the host. */
  at: bigint;
}

/**
 * A directory of the host, as it is: numbers, times, owners, modes, attributes and data are the host's, and so are errors.
 *
 * Every inode is held by a descriptor (HostNodes), and every call goes by one, with at most one name, which is never followed: whoever
 * changes names on the host, symbolic links included, changes what is found, not how far one comes. A directory that is moved out of the
 * tree while somebody holds it stays open to the one who does. What is mounted below the directory is not entered (EXDEV), so that inode
 * numbers are those of one filesystem.
 *
 * Calls are synchronous: the thread waits for the host. Locks are kept here, in numbers of this filesystem: processes of the host neither
 * see them nor are seen, and nobody waits in the kernel for them. Times of change (ctime) are the host's and cannot be set. Changes of
 * several attributes are made one after the other, what is most likely to fail first.
 *
 * Each known inode and each open file takes a descriptor. When there are none left, the limit of the process (RLIMIT_NOFILE) is raised as
 * far as it may be; after that EMFILE is the answer, until the face forgets (Vfs.dropCaches).
 *
 * Needs /proc. Things are made with the caller's ids where this process is root (Credentials); permissions are the face's to check.
 */
export class MirrorFs extends FileSystem {
  override isReadOnly: boolean;
  override readonly nameMax: number;
  override readonly attrValidMs: number;
  /** By who else has the directory. */
  override readonly changesElsewhere: boolean;
  readonly #libc = new Libc();
  readonly #credentials = new Credentials(this.#libc);
  readonly #nodes = new HostNodes(this.#libc, this.root);
  readonly #handles = new Map<Fh, Handle>();
  #lastFh = 0;
  /** Which mount the root is in, and on which device. */
  readonly #mount: Statx;
  /** The most descriptors that a process can have. */
  readonly #descriptorsMax: bigint;

  /** Errors: ENOENT, ENOTDIR, EACCES for the directory; ENOSYS where the C library cannot be called, or /proc is not there. */
  constructor(directory: string, options: MirrorFsOptions = {}) {
    super();
    this.isReadOnly = options.readOnly ?? false;
    this.attrValidMs = options.validMs ?? 0;
    this.changesElsewhere = this.attrValidMs !== Number.POSITIVE_INFINITY;
    this.#descriptorsMax = descriptorsMax();
    const fd = this.#libc.open(nameBytes(directory), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    this.#mount = this.#libc.statx(fd, NO_PATH, AT_EMPTY_PATH);
    const root = this.#nodes.add(fd, this.#mount);
    this.nameMax = this.#libc.statfs(root.path).f_namelen;
  }

  override destroy(): void {
    let failure: unknown;
    for (const { fd } of this.#handles.values()) {
      try {
        this.#libc.close(fd);
      } catch (error) {
        failure ??= error;
      }
    }
    this.#handles.clear();
    this.#nodes.closeAll();
    if (failure !== undefined) throw failure;
  }

  // Inodes.

  lookup(_caller: Caller, parent: NodeId, name: string): Entry | undefined {
    const found = this.#find(this.#nodes.get(parent, 'lookup'), componentOf(name));
    return found === undefined ? undefined : this.#entry(found);
  }

  forget(node: NodeId, nlookup: number): void {
    this.#nodes.forget(node, nlookup);
  }

  getattr(_caller: Caller, node: NodeId): Attr {
    return this.#attr(this.#nodes.get(node, 'getattr'));
  }

  override setattr(_caller: Caller, id: NodeId, changes: AttrChanges, fh?: Fh): Attr {
    const node = this.#nodes.get(id, 'setattr');
    this.#checkWritable('setattr');
    const { uid = -1, gid = -1, size, atime, mtime } = changes;
    if (uid !== -1 || gid !== -1) this.#libc.fchownat(node.fd, NO_PATH, uid, gid, AT_EMPTY_PATH);
    if (changes.mode !== undefined) this.#libc.chmod(node.path, changes.mode & S_IALLUGO);
    else if (changes.killSuidgid === true && !isDirectory(node.type)) this.#killSetId(node, true);
    if (size !== undefined) this.#truncate(node, size, fh);
    if (atime !== undefined || mtime !== undefined) this.#libc.utimensat(node.path, timeOf(atime), timeOf(mtime), 0);
    return this.#attr(node);
  }

  #truncate(node: HostNode, size: number, fh: Fh | undefined): void {
    const handle = fh === undefined ? undefined : this.#handle(node.id, fh, 'ftruncate');
    if (handle !== undefined && (handle.flags & O_ACCMODE) !== O_RDONLY) this.#libc.ftruncate(handle.fd, size);
    else this.#libc.truncate(node.path, size);
  }

  /** Takes the bits off that a writer may not keep. */
  #killSetId(node: HostNode, isMember: boolean): void {
    const { stx_mode } = this.#stat(node);
    const killed = killedMode(stx_mode, isMember);
    if (killed !== stx_mode) this.#libc.chmod(node.path, killed & S_IALLUGO);
  }

  override readlink(_caller: Caller, id: NodeId): string {
    const node = this.#nodes.get(id, 'readlink');
    if (!isSymlink(node.type)) throw new FsError('EINVAL', 'readlink');
    return nameOf(this.#libc.readlinkat(node.fd, NO_PATH));
  }

  // Names.

  override mknod(caller: Caller, parent: NodeId, name: string, mode: number, rdev: number): Entry {
    const asked = (mode & S_IFMT) === 0 ? mode | S_IFREG : mode;
    return this.#make(caller, parent, name, 'mknod', (dirfd, bytes) => this.#libc.mknodat(dirfd, bytes, asked, rdev));
  }

  override mkdir(caller: Caller, parent: NodeId, name: string, mode: number): Entry {
    return this.#make(caller, parent, name, 'mkdir', (dirfd, bytes) => this.#libc.mkdirat(dirfd, bytes, mode & S_IALLUGO));
  }

  override symlink(caller: Caller, parent: NodeId, name: string, target: string): Entry {
    return this.#make(caller, parent, name, 'symlink', (dirfd, bytes) => this.#libc.symlinkat(nameBytes(target), dirfd, bytes));
  }

  /** Makes a name as the caller. Errors: ENOENT where somebody of the host has taken it away again. */
  #make(caller: Caller, parent: NodeId, name: string, syscall: string, make: (dirfd: number, name: Uint8Array) => void): Entry {
    const dir = this.#nodes.get(parent, syscall);
    const bytes = componentOf(name);
    this.#checkWritable(syscall);
    this.#credentials.as(caller, () => make(dir.fd, bytes));
    const made = this.#find(dir, bytes);
    if (made === undefined) throw new FsError('ENOENT', syscall);
    return this.#entry(made);
  }

  override unlink(_caller: Caller, parent: NodeId, name: string): void {
    const dir = this.#nodes.get(parent, 'unlink');
    this.#checkWritable('unlink');
    this.#libc.unlinkat(dir.fd, componentOf(name), 0);
  }

  override rmdir(_caller: Caller, parent: NodeId, name: string): void {
    const dir = this.#nodes.get(parent, 'rmdir');
    this.#checkWritable('rmdir');
    this.#libc.unlinkat(dir.fd, componentOf(name), AT_REMOVEDIR);
  }

  override rename(caller: Caller, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): void {
    const from = this.#nodes.get(parent, 'rename');
    const to = this.#nodes.get(newParent, 'rename');
    this.#checkWritable('rename');
    const rename = (): void => this.#libc.renameat2(componentOf(name), componentOf(newName), flags, from.fd, to.fd);
    // What is left in its place is made, and belongs to somebody.
    if ((flags & RENAME_WHITEOUT) === 0) rename();
    else this.#credentials.as(caller, rename);
  }

  override link(_caller: Caller, id: NodeId, newParent: NodeId, newName: string): Entry {
    const node = this.#nodes.get(id, 'link');
    const dir = this.#nodes.get(newParent, 'link');
    this.#checkWritable('link');
    this.#libc.linkat(AT_FDCWD, node.path, componentOf(newName), AT_SYMLINK_FOLLOW, dir.fd);
    return this.#entry(node);
  }

  // Open files.

  override open(_caller: Caller, id: NodeId, flags: number): OpenReply {
    const node = this.#nodes.get(id, 'open');
    // Opening anything else would do something: wait for the other end of a pipe, wake a device.
    if (isDirectory(node.type)) throw new FsError('EISDIR', 'open');
    if (isSymlink(node.type)) throw new FsError('ELOOP', 'open');
    if (!isRegular(node.type)) throw new FsError('ENXIO', 'open');
    if ((flags & O_ACCMODE) !== O_RDONLY) this.#checkWritable('open');
    return { fh: this.#addHandle(node, this.#openPath(node.path, flags & OPEN_FLAGS), flags) };
  }

  /** Reading through a filesystem that is read-only here leaves no traces on the host, as far as it is ours to say. */
  #openPath(path: Uint8Array, flags: number): number {
    const open = (more: number): number => this.#descriptor(() => this.#libc.open(path, flags | more | OPEN_ALWAYS, 0));
    if (!this.isReadOnly || (flags & O_NOATIME) !== 0) return open(0);
    try {
      return open(O_NOATIME);
    } catch (error) {
      if (!hasCode(error, 'EPERM')) throw error; // not the owner
      return open(0);
    }
  }

  override create(caller: Caller, parent: NodeId, name: string, mode: number, flags: number): CreateReply {
    const dir = this.#nodes.get(parent, 'open');
    const bytes = componentOf(name);
    this.#checkWritable('open');
    const asked = (flags & OPEN_FLAGS) | OPEN_ALWAYS | O_CREAT | O_EXCL | O_NOFOLLOW;
    const fd = this.#credentials.as(caller, () => {
      return this.#descriptor(() => this.#libc.openat(dir.fd, bytes, asked, mode & S_IALLUGO));
    });
    return this.#created(fd, flags);
  }

  override tmpfile(caller: Caller, parent: NodeId, mode: number, flags: number): CreateReply {
    const dir = this.#nodes.get(parent, 'open');
    this.#checkWritable('open');
    const asked = (flags & (OPEN_FLAGS | O_EXCL)) | OPEN_ALWAYS | O_TMPFILE;
    const fd = this.#credentials.as(caller, () => {
      return this.#descriptor(() => this.#libc.openat(dir.fd, HERE, asked, mode & S_IALLUGO));
    });
    return this.#created(fd, flags);
  }

  /** A file that was made and opened in one go. */
  #created(fd: number, flags: number): CreateReply {
    try {
      const held = this.#descriptor(() => this.#libc.open(pathOf(fd), O_PATH | O_CLOEXEC, 0));
      const node = this.#hold(held);
      return { entry: this.#entry(node), fh: this.#addHandle(node, fd, flags) };
    } catch (error) {
      this.#libc.close(fd);
      throw error;
    }
  }

  override read(_caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, into: Uint8Array): number {
    const handle = this.#handle(node, fh, 'read');
    if (into.length === 0) return 0;
    const isDirect = (handle.flags & O_DIRECT) !== 0;
    const memory = isDirect && this.#misalignment(into) !== 0 ? this.#alignedMemory(into.length) : into;
    const count = this.#libc.pread(handle.fd, memory, iocb.pos);
    if (memory !== into) into.set(memory.subarray(0, count));
    iocb.pos += count;
    return count;
  }

  override write(_caller: Caller, id: NodeId, fh: Fh, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    const handle = this.#handle(id, fh, 'write');
    this.#checkWritable('write');
    if ((iocb.flags & RW_KILL_SUIDGID) !== 0) this.#killSetId(handle.node, (iocb.flags & RW_KILL_SGID) === 0);
    return source instanceof IovIter ? this.#writeVec(handle, iocb, source) : run(this.#writeSource(handle, iocb, source));
  }

  /** Everything at once, so that it is one write to the host too. */
  #writeVec(handle: Handle, iocb: Kiocb, source: IovIter): number {
    const { count } = source;
    if (count === 0) return 0;
    const pieces: Uint8Array[] = [];
    while (source.count > 0 && pieces.length < IOV_MAX) {
      const piece = source.peek(source.count);
      pieces.push(piece);
      source.advance(piece.length);
    }
    let written = 0;
    try {
      written = this.#writeAt(handle, iocb, pieces);
    } finally {
      source.revert(count - source.count - written);
    }
    return written;
  }

  *#writeSource(handle: Handle, iocb: Kiocb, source: WriteSource): Task<number> {
    const buffer = new Uint8Array(Math.min(WRITE_STEP, source.count));
    let total = 0;
    while (source.count > 0) {
      const ready = yield* wait(source.faultIn(Math.min(buffer.length, source.count)));
      const taken = ready === 0 ? 0 : source.copyTo(buffer, 0, Math.min(ready, buffer.length));
      if (taken === 0) {
        if (total === 0) throw new FsError('EFAULT', 'write');
        break;
      }
      let written = 0;
      try {
        written = this.#writeAt(handle, iocb, [buffer.subarray(0, taken)]);
      } catch (error) {
        if (total === 0) throw error;
      }
      source.revert(taken - written);
      total += written;
      if (written < taken) break;
    }
    return total;
  }

  #writeAt(handle: Handle, iocb: Kiocb, pieces: readonly Uint8Array[]): number {
    const appends = ((handle.flags & O_APPEND) !== 0 || (iocb.flags & RWF_APPEND) !== 0) && (iocb.flags & RWF_NOAPPEND) === 0;
    const flags = iocb.flags & WRITE_FLAGS;
    const vec = (handle.flags & O_DIRECT) === 0 ? pieces : [this.#gathered(pieces)];
    if (!appends) {
      const written = this.#libc.pwritev2(handle.fd, vec, iocb.pos, flags);
      iocb.pos += written;
      return written;
    }
    // The host alone knows where the end was: its own position tells.
    const written = this.#libc.pwritev2(handle.fd, vec, -1, flags | RWF_APPEND);
    iocb.pos = this.#libc.lseek(handle.fd, 0, SEEK_CUR);
    return written;
  }

  /** The bytes in one buffer that the host takes for O_DIRECT. */
  #gathered(pieces: readonly Uint8Array[]): Uint8Array {
    const [first] = pieces;
    if (pieces.length === 1 && first !== undefined && this.#misalignment(first) === 0) return first;
    const all = this.#alignedMemory(pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  #alignedMemory(length: number): Uint8Array {
    const room = new Uint8Array(length + DIRECT_ALIGN);
    const from = (DIRECT_ALIGN - this.#misalignment(room)) % DIRECT_ALIGN;
    return room.subarray(from, from + length);
  }

  #misalignment(memory: Uint8Array): number {
    return Number(this.#libc.addressOf(memory) % BigInt(DIRECT_ALIGN));
  }

  override flush(_caller: Caller, node: NodeId, fh: Fh): void {
    // Closing a copy has the host tell what it tells at close.
    this.#libc.close(this.#descriptor(() => this.#libc.fcntl(this.#handle(node, fh, 'close').fd, F_DUPFD_CLOEXEC, 0)));
  }

  override release(id: NodeId, fh: Fh, flockOwner?: number): MaybePromise<void> {
    const handle = this.#handle(id, fh, 'close');
    const released = super.release(id, fh, flockOwner);
    this.#handles.delete(fh);
    handle.node.opens--;
    this.#nodes.put(handle.node);
    this.#libc.close(handle.fd); // gone whatever it says
    return released;
  }

  override fsync(_caller: Caller, node: NodeId, fh: Fh, datasync: boolean): void {
    const { fd } = this.#handle(node, fh, 'fsync');
    if (datasync) this.#libc.fdatasync(fd);
    else this.#libc.fsync(fd);
  }

  override lseek(_caller: Caller, node: NodeId, fh: Fh, pos: number, whence: number): number {
    const { fd } = this.#handle(node, fh, 'lseek');
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError('EINVAL', 'lseek');
    return this.#libc.lseek(fd, pos, whence);
  }

  override fallocate(_caller: Caller, node: NodeId, fh: Fh, mode: number, offset: number, length: number): void {
    const { fd } = this.#handle(node, fh, 'fallocate');
    this.#checkWritable('fallocate');
    this.#libc.fallocate(fd, mode, offset, length);
  }

  override copyFileRange(
    _caller: Caller,
    nodeIn: NodeId,
    fhIn: Fh,
    posIn: number,
    nodeOut: NodeId,
    fhOut: Fh,
    posOut: number,
    length: number,
    flags: number,
  ): number {
    const from = this.#handle(nodeIn, fhIn, 'copy_file_range');
    const to = this.#handle(nodeOut, fhOut, 'copy_file_range');
    this.#checkWritable('copy_file_range');
    if (flags !== 0) throw new FsError('EINVAL', 'copy_file_range');
    return this.#libc.copyFileRange(from.fd, posIn, to.fd, posOut, length);
  }

  override fiemap(_caller: Caller, id: NodeId, start: number, length: number, flags: number, max?: number): FileExtent[] {
    const node = this.#nodes.get(id, 'fiemap');
    if (!isRegular(node.type)) throw new FsError('EOPNOTSUPP', 'fiemap');
    const most = max ?? Number.POSITIVE_INFINITY;
    const end = Math.min(start + length, Number.MAX_SAFE_INTEGER);
    const fd = this.#openPath(node.path, O_RDONLY);
    const extents: FileExtent[] = [];
    try {
      for (let from = start; from < end && extents.length < most; ) {
        const some = this.#libc.fiemap(fd, from, end - from, flags, Math.min(most - extents.length, EXTENTS_STEP));
        extents.push(...some);
        const last = some.at(-1);
        if (last === undefined || (last.flags & FIEMAP_EXTENT_LAST) !== 0) break;
        from = last.logical + last.length;
      }
    } finally {
      this.#libc.close(fd);
    }
    return extents;
  }

  // Directories.

  override opendir(_caller: Caller, id: NodeId, flags: number): OpenReply {
    const node = this.#nodes.get(id, 'opendir');
    checkDirectory(node.type, 'opendir');
    return { fh: this.#addHandle(node, this.#openPath(node.path, O_RDONLY | O_DIRECTORY | (flags & O_NOATIME)), flags) };
  }

  readdir(_caller: Caller, id: NodeId, fh: Fh, offset: number, count: number, plus: boolean): DirEntry[] {
    const handle = this.#handle(id, fh, 'scandir');
    const { node } = handle;
    const position = node.cookies.positionOf(offset);
    if (position === undefined) throw new FsError('EINVAL', 'scandir', { detail: `position ${offset}` });
    this.#seekdir(handle, position);
    const size = Math.min(DIRENT_MAX + count * DIRENT_GUESS, DIRENT_BUFFER_MAX);
    for (;;) {
      const some = this.#libc.getdents64(handle.fd, size);
      const last = some.at(-1);
      if (last === undefined) return [];
      handle.at = last.off;
      const names = some.filter(({ name }) => !isDots(name));
      const taken = names.slice(0, count);
      const next = taken.at(-1);
      if (next === undefined) continue; // only dots so far
      // What was not asked for is read again.
      if (taken.length < names.length) this.#seekdir(handle, next.off);
      return taken.map(({ name, ino, type, off }) => ({
        name: nameOf(name),
        ino,
        type: type * 0o10000,
        next: node.cookies.of(off),
        entry: plus ? this.#entryIfThere(node, name) : undefined,
      }));
    }
  }

  #seekdir(handle: Handle, position: bigint): void {
    if (handle.at === position) return;
    this.#libc.lseek(handle.fd, position, SEEK_SET);
    handle.at = position;
  }

  /** What cannot be looked up (gone by now, another mount, no permission, no descriptor left) is listed without attributes. */
  #entryIfThere(dir: HostNode, name: Uint8Array): Entry | undefined {
    try {
      const found = this.#find(dir, name);
      return found === undefined ? undefined : this.#entry(found);
    } catch (error) {
      if (error instanceof FsError) return undefined;
      throw error;
    }
  }

  override releasedir(node: NodeId, fh: Fh): MaybePromise<void> {
    return this.release(node, fh);
  }

  override fsyncdir(caller: Caller, node: NodeId, fh: Fh, datasync: boolean): void {
    this.fsync(caller, node, fh, datasync);
  }

  // Extended attributes.

  override getxattr(_caller: Caller, id: NodeId, name: string): Uint8Array | undefined {
    const node = this.#nodes.get(id, 'getxattr');
    try {
      return this.#libc.getxattr(node.path, nameBytes(name), true);
    } catch (error) {
      if (hasCode(error, 'ENODATA')) return undefined;
      throw error;
    }
  }

  override setxattr(caller: Caller, id: NodeId, name: string, value: Uint8Array, flags: number): void {
    const node = this.#nodes.get(id, 'setxattr');
    this.#checkWritable('setxattr');
    const set = (): void => this.#libc.setxattr(node.path, nameBytes(name), value, flags, true);
    // An access ACL takes S_ISGID from a file of a group that is not the caller's.
    if (name === XATTR_NAME_POSIX_ACL_ACCESS) this.#credentials.as(caller, set);
    else set();
  }

  override listxattr(caller: Caller, id: NodeId): string[] {
    const bytes = this.#libc.listxattr(this.#nodes.get(id, 'listxattr').path, true);
    const names: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const end = bytes.indexOf(0, at);
      names.push(nameOf(bytes, at, end));
      at = end + 1;
    }
    return hasCap(caller, CAP_SYS_ADMIN) ? names : names.filter((name) => !name.startsWith('trusted.'));
  }

  override removexattr(_caller: Caller, id: NodeId, name: string): void {
    const node = this.#nodes.get(id, 'removexattr');
    this.#checkWritable('removexattr');
    this.#libc.removexattr(node.path, nameBytes(name), true);
  }

  // The whole.

  override statfs(_caller: Caller, id: NodeId): StatFs {
    const raw = this.#libc.statfs(this.#nodes.get(id, 'statfs').path);
    return {
      type: raw.f_type,
      bsize: raw.f_frsize === 0 ? raw.f_bsize : raw.f_frsize, // in which the host counts
      blocks: raw.f_blocks,
      bfree: raw.f_bfree,
      bavail: raw.f_bavail,
      files: raw.f_files,
      ffree: raw.f_ffree,
      namelen: raw.f_namelen,
    };
  }

  /** Everything of the filesystem that the directory is in. */
  override syncfs(): void {
    const fd = this.#openPath(this.#nodes.get(this.root, 'syncfs').path, O_RDONLY | O_DIRECTORY);
    try {
      this.#libc.syncfs(fd);
    } finally {
      this.#libc.close(fd);
    }
  }

  // What the operations are made of.

  #checkWritable(syscall: string): void {
    if (this.isReadOnly) throw new FsError('EROFS', syscall);
  }

  /** Errors: EBADF. */
  #handle(node: NodeId, fh: Fh, syscall: string): Handle {
    const handle = this.#handles.get(fh);
    if (handle === undefined || handle.node.id !== node) throw new FsError('EBADF', syscall);
    return handle;
  }

  #addHandle(node: HostNode, fd: number, flags: number): Fh {
    node.opens++;
    this.#handles.set(++this.#lastFh, { node, fd, flags, at: 0n });
    return this.#lastFh;
  }

  #stat(node: HostNode): Statx {
    return this.#libc.statx(node.fd, NO_PATH, AT_EMPTY_PATH);
  }

  #attr(node: HostNode): Attr {
    return attrOf(this.#stat(node));
  }

  /** The node behind a name, or undefined. Errors: EXDEV for another mount. */
  #find(dir: HostNode, name: Uint8Array): HostNode | undefined {
    try {
      const stat = this.#libc.statx(dir.fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
      this.#checkMount(stat);
      // While it is held, no other inode can have its numbers: it is the one.
      const known = this.#nodes.find(stat);
      if (known !== undefined) return known;
      return this.#hold(this.#descriptor(() => this.#libc.openat(dir.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0)));
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** The node of an O_PATH descriptor, which is taken over. */
  #hold(fd: number): HostNode {
    try {
      const stat = this.#libc.statx(fd, NO_PATH, AT_EMPTY_PATH);
      this.#checkMount(stat);
      return this.#nodes.add(fd, stat);
    } catch (error) {
      this.#libc.close(fd);
      throw error;
    }
  }

  #checkMount(stat: Statx): void {
    // Mounts have numbers from Linux 5.8 on; before, devices have to do, of which an overlay may show several.
    const isSame =
      (stat.stx_mask & STATX_MNT_ID) !== 0
        ? stat.stx_mnt_id === this.#mount.stx_mnt_id
        : stat.stx_dev_major === this.#mount.stx_dev_major && stat.stx_dev_minor === this.#mount.stx_dev_minor;
    if (!isSame) throw new FsError('EXDEV', 'lookup', { detail: 'something is mounted there' });
  }

  /** Answers with a node, which counts as a lookup. */
  #entry(node: HostNode): Entry {
    try {
      const attr = this.#attr(node);
      node.nlookup++;
      return { node: node.id, generation: 0, attr, entryValidMs: this.attrValidMs, attrValidMs: this.attrValidMs, io: IO };
    } catch (error) {
      this.#nodes.put(node);
      throw error;
    }
  }

  /** Runs a call that makes a descriptor. Errors: EMFILE once no more can be had. */
  #descriptor(open: () => number): number {
    try {
      return open();
    } catch (error) {
      if (!hasCode(error, 'EMFILE') || !this.#raiseLimit()) throw error;
      return open();
    }
  }

  /** Raises the limit of descriptors, for the process and those it starts. Could it? */
  #raiseLimit(): boolean {
    const [soft, hard] = this.#libc.getrlimit(RLIMIT_NOFILE);
    // The hard limit is for the privileged to raise.
    for (const limit of [this.#descriptorsMax, hard]) {
      if (limit <= soft) continue;
      try {
        this.#libc.setrlimit(RLIMIT_NOFILE, limit, limit > hard ? limit : hard);
        return true;
      } catch (error) {
        if (!hasCode(error, 'EPERM')) throw error;
      }
    }
    return false;
  }
}

/** '.', the directory that a descriptor is of. */
const HERE = Uint8Array.of(0x2e);
const SLASH = 0x2f;

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** The bytes of one component. What is none would lead elsewhere. Errors: EINVAL. */
function componentOf(name: string): Uint8Array {
  const bytes = nameBytes(name);
  if (bytes.length === 0 || isDots(bytes) || bytes.includes(SLASH) || bytes.includes(0)) {
    throw new FsError('EINVAL', 'lookup', { detail: 'the name is not one component' });
  }
  return bytes;
}

/** Errors: ENOSYS without /proc. */
function descriptorsMax(): bigint {
  try {
    return BigInt(readFileSync('/proc/sys/fs/nr_open', 'utf8').trim());
  } catch (cause) {
    throw new FsError('ENOSYS', 'open', { cause, detail: '/proc is not mounted' });
  }
}

function timeOf(time: Timespec | 'now' | undefined): Timespec {
  if (time === undefined) return { sec: 0, nsec: UTIME_OMIT };
  return time === 'now' ? { sec: 0, nsec: UTIME_NOW } : time;
}

function attrOf(stat: Statx): Attr {
  return {
    ino: stat.stx_ino,
    size: stat.stx_size,
    blocks: stat.stx_blocks,
    blksize: stat.stx_blksize,
    mode: stat.stx_mode,
    nlink: stat.stx_nlink,
    uid: stat.stx_uid,
    gid: stat.stx_gid,
    rdev: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
    atime: stat.stx_atime_sec,
    atimeNsec: stat.stx_atime_nsec,
    mtime: stat.stx_mtime_sec,
    mtimeNsec: stat.stx_mtime_nsec,
    ctime: stat.stx_ctime_sec,
    ctimeNsec: stat.stx_ctime_nsec,
    btime: stat.stx_btime_sec,
    btimeNsec: stat.stx_btime_nsec,
  };
}
