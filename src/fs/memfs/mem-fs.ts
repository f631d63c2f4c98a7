import { type Clock, systemClock } from '../../base/clock.ts';
import { FsError } from '../../base/fs-error.ts';
import type { WriteSource } from '../../base/iov-iter.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../../base/task.ts';
import { bufferedFileWrite, type FileWriteOptions } from '../../iomap/buffered-file.ts';
import { bufferedRead } from '../../iomap/buffered-read.ts';
import { copyRange } from '../../iomap/copy-range.ts';
import { fallocate } from '../../iomap/fallocate.ts';
import { fiemap } from '../../iomap/fiemap.ts';
import { Freezer } from '../../iomap/freeze.ts';
import { fsyncFile, type SyncFsOps, type SyncOps, syncFs } from '../../iomap/fsync.ts';
import { seekData, seekHole } from '../../iomap/seek.ts';
import { setSize } from '../../iomap/truncate.ts';
import { BackingDevice } from '../../pagecache/backing-device.ts';
import { PageCache } from '../../pagecache/page-cache.ts';
import { type AtimePolicy, needsAtimeUpdate } from '../../vfs/atime.ts';
import {
  type Attr,
  type AttrChanges,
  type DirEntry,
  type Entry,
  type FileExtent,
  type IoMode,
  type StatFs,
  type Timespec,
  timespecOf,
} from '../../vfs/attr.ts';
import type { Caller } from '../../vfs/caller.ts';
import {
  type CreateReply,
  type Fh,
  FileSystem,
  type Kiocb,
  type NodeId,
  type OpenReply,
  SHUTDOWN_DEFAULT,
  SHUTDOWN_NOLOGFLUSH,
} from '../../vfs/file-system.ts';
import { inodeOf } from '../../vfs/inode.ts';
import { nameLength } from '../../vfs/name.ts';
import { OpenFile } from '../../vfs/open-file.ts';
import { inheritOwner, killedMode, modeAfterWrite } from '../../vfs/permission.ts';
import {
  chmodAcl,
  createAcl,
  formatAcl,
  type NewAcl,
  XATTR_NAME_POSIX_ACL_ACCESS,
  XATTR_NAME_POSIX_ACL_DEFAULT,
} from '../../vfs/posix-acl.ts';
import { SuperBlock } from '../../vfs/super-block.ts';
import {
  isDirectory,
  isRegular,
  isSymlink,
  NAME_MAX,
  O_ACCMODE,
  O_EXCL,
  O_NOATIME,
  O_RDONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  RWF_DSYNC,
  RWF_NOWAIT,
  RWF_SYNC,
  S_IALLUGO,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  SEEK_DATA,
  SEEK_HOLE,
} from '../../vfs/uapi.ts';
import type { Directory } from './directory.ts';
import { BlockStore, type FileInode } from './mem-data.ts';
import { ATIME, BLOCK_SIZE, CTIME, MemInode, MTIME } from './mem-inode.ts';
import { Quota, type QuotaLimits } from './quota.ts';
import { getXattr, listXattrs, removeXattr, setXattr } from './xattrs.ts';

export interface MemFsOptions extends QuotaLimits {
  /** Where file data is cached, shared with others if they are given the same. Default: one of its own. */
  readonly cache?: PageCache;
  /** When reading changes atime. Default 'relatime'. */
  readonly atime?: AtimePolicy;
  /** Time: of the cache's timers and, as milliseconds since 1970, of files. Default: the host's. */
  readonly clock?: Clock;
  /** Default: no. */
  readonly readOnly?: boolean;
}

/** Magic number of tmpfs: to those who ask, this is one. Source: Linux include/uapi/linux/magic.h */
const TMPFS_MAGIC = 0x01021994;
/** Most names of one file, as on ext4. */
const LINK_MAX = 65000;
/** Capabilities of an executable: void once somebody writes to it or it changes hands. */
const XATTR_NAME_CAPS = 'security.capability';
const IO: IoMode = { mode: 'iomap' };

/** An open file. */
interface Handle {
  readonly inode: MemInode;
  /** O_*. */
  readonly flags: number;
  /** Of a regular file, once its data is asked for. */
  file: OpenFile | undefined;
}

interface FileHandle extends Handle {
  readonly file: OpenFile;
}

type DirInode = MemInode & { readonly directory: Directory };

/**
 * A filesystem in memory: the smallest complete one.
 *
 * Names, attributes and open files are here. File data goes through the iomap engine, page cache and all, to the blocks of a BlockStore;
 * a filesystem of your own keeps the first and replaces the second.
 *
 * Everything answers at once, except on a frozen filesystem, and where another user of a shared cache makes writers wait.
 *
 * Invariants:
 * 1. `#inodes` has the inodes with a name, a lookup or a handle. Numbers are never used again.
 * 2. Changes hold the freeze lock, shared: those of names and attributes here (#change), those of data in the engine.
 */
export class MemFs extends FileSystem {
  /** May be set at any time: a volume is filled first and sealed then. */
  override isReadOnly: boolean;
  /** Invariant 1. */
  override readonly isExportable = true;
  readonly #inodes = new Map<NodeId, MemInode>();
  readonly #handles = new Map<Fh, Handle>();
  #lastNode = 0;
  #lastFh = 0;
  #isShutdown = false;
  readonly #quota: Quota;
  readonly #atime: AtimePolicy;
  readonly #wallClock: () => number;
  readonly #sb: SuperBlock;
  readonly #store: BlockStore;
  readonly #freezer: Freezer;
  /** Blocks in memory are as durable as anything here: commits and flushes have nothing to do. */
  readonly #syncOps: SyncOps & SyncFsOps;

  constructor(options: MemFsOptions = {}) {
    super();
    const { clock } = options;
    this.isReadOnly = options.readOnly ?? false;
    this.#atime = options.atime ?? 'relatime';
    this.#wallClock = clock === undefined ? Date.now : () => clock.now();
    const cache = options.cache ?? new PageCache({ clock: clock ?? systemClock });
    const bdi = new BackingDevice(cache, { name: 'memfs' });
    this.#sb = new SuperBlock(cache, bdi);
    this.#quota = new Quota(options, BLOCK_SIZE);
    this.#store = new BlockStore(this.#sb, this.#quota);
    this.#syncOps = {
      inodes: () => [...bdi.dirtyMappings].map(inodeOf),
      commit: () => true,
      commitAll: () => true,
      flushDevices: () => {},
    };
    this.#freezer = new Freezer(this.#sb, this.#syncOps);

    const root = this.#makeInode(0, 0, S_IFDIR | 0o755, 0, undefined, 'mount');
    root.attr.nlink = 2;
  }

  /** What an owner has. */
  usageOf(uid: number): { bytes: number; inodes: number } {
    const { blocks, inodes } = this.#quota.usageOf(uid);
    return { bytes: blocks * BLOCK_SIZE, inodes };
  }

  override destroy(): MaybePromise<void> {
    return run(this.#destroy());
  }

  *#destroy(): Task<void> {
    this.#isShutdown = true;
    for (const inode of this.#inodes.values()) if (inode.type === S_IFREG) yield* wait(this.#store.close(inode, true));
    this.#inodes.clear();
    this.#handles.clear();
    this.#store.destroy();
    this.#sb.bdi.close();
  }

  // Inodes.

  lookup(_caller: Caller, parent: NodeId, name: string): Entry | undefined {
    const inode = this.#directory(parent, 'lookup').directory.get(name);
    return inode === undefined ? undefined : this.#entry(inode);
  }

  forget(node: NodeId, nlookup: number): void {
    const inode = this.#inodes.get(node);
    if (inode === undefined) return;
    inode.nlookup = Math.max(0, inode.nlookup - nlookup);
    this.#put(inode);
  }

  override iget(_caller: Caller, node: NodeId): Entry {
    this.#checkRunning('lookup');
    const inode = this.#inodes.get(node);
    if (inode === undefined) throw new FsError('ESTALE', 'lookup');
    return this.#entry(inode);
  }

  override parentOf(_caller: Caller, node: NodeId): Entry {
    const { parent } = this.#directory(node, 'lookup').directory;
    return this.#entry(parent ?? this.#directory(this.root, 'lookup'));
  }

  getattr(_caller: Caller, node: NodeId): Attr {
    return this.#inode(node, 'getattr').stat();
  }

  override setattr(caller: Caller, node: NodeId, changes: AttrChanges): MaybePromise<Attr> {
    const inode = this.#inode(node, 'setattr');
    const { size } = changes;
    if (size === undefined) return this.#change(caller, 'setattr', () => this.#applyChanges(inode, changes));

    if (isDirectory(inode.attr.mode)) throw new FsError('EISDIR', 'truncate');
    if (!isRegular(inode.attr.mode)) throw new FsError('EINVAL', 'truncate');
    this.#checkOwnerChange(inode, changes);
    return this.#withData(inode, (file) => {
      this.#beginData(isNowait(caller), 'truncate', file);
      return then(setSize(file, size, this.#store.fallocateOps), () => {
        return this.#change(caller, 'setattr', () => this.#applyChanges(inode, changes));
      });
    });
  }

  #applyChanges(inode: MemInode, changes: AttrChanges): Attr {
    const { attr } = inode;
    const { mode, uid = attr.uid, gid = attr.gid, atime, mtime, ctime } = changes;
    this.#checkOwnerChange(inode, changes);
    if (uid !== attr.uid) this.#quota.transfer(attr.uid, uid, inode.blockCount);
    attr.uid = uid;
    attr.gid = gid;
    if (mode !== undefined) {
      attr.mode = inode.type | (mode & S_IALLUGO);
      const acl = inode.acl(XATTR_NAME_POSIX_ACL_ACCESS);
      if (acl !== undefined) inode.setXattr(XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(chmodAcl(acl, mode)));
    }
    if (changes.killSuidgid === true && inode.directory === undefined) attr.mode = killedMode(attr.mode);
    if (changes.size !== undefined || changes.uid !== undefined || changes.gid !== undefined) inode.xattrs?.delete(XATTR_NAME_CAPS);

    const now = this.#now();
    if (atime !== undefined) inode.touch(ATIME, atime === 'now' ? now : atime);
    if (mtime !== undefined) inode.touch(MTIME, mtime === 'now' ? now : mtime);
    else if (changes.size !== undefined) inode.touch(MTIME, now);
    inode.touch(CTIME, ctime ?? now);
    return inode.stat();
  }

  #checkOwnerChange(inode: MemInode, { uid = inode.attr.uid }: AttrChanges): void {
    if (uid !== inode.attr.uid) this.#quota.checkTransfer(uid, inode.blockCount, 'chown');
  }

  override readlink(_caller: Caller, node: NodeId): string {
    const inode = this.#inode(node, 'readlink');
    if (inode.target === undefined) throw new FsError('EINVAL', 'readlink');
    this.#accessed(inode, 0);
    return inode.target;
  }

  // Names.

  override mknod(caller: Caller, parent: NodeId, name: string, mode: number, rdev: number): MaybePromise<Entry> {
    const type = mode & S_IFMT;
    if (type === S_IFDIR) throw new FsError('EPERM', 'mknod');
    if (type !== 0 && ![S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK].includes(type)) throw new FsError('EINVAL', 'mknod');
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    return this.#change(caller, 'mknod', () => {
      return this.#entry(this.#add(caller, parent, name, type === 0 ? mode | S_IFREG : mode, isDevice ? rdev : 0, 'mknod'));
    });
  }

  override mkdir(caller: Caller, parent: NodeId, name: string, mode: number): MaybePromise<Entry> {
    return this.#change(caller, 'mkdir', () => this.#entry(this.#add(caller, parent, name, (mode & 0o1777) | S_IFDIR, 0, 'mkdir')));
  }

  override symlink(caller: Caller, parent: NodeId, name: string, target: string): MaybePromise<Entry> {
    return this.#change(caller, 'symlink', () => {
      const inode = this.#add(caller, parent, name, S_IFLNK | 0o777, 0, 'symlink');
      inode.target = target;
      inode.attr.size = nameLength(target);
      return this.#entry(inode);
    });
  }

  override link(caller: Caller, node: NodeId, newParent: NodeId, newName: string): MaybePromise<Entry> {
    return this.#change(caller, 'link', () => {
      const inode = this.#inode(node, 'link');
      const dir = this.#directory(newParent, 'link');
      this.#checkFree(dir, newName, 'link');
      if (inode.directory !== undefined) throw new FsError('EPERM', 'link');
      if (inode.attr.nlink === 0 && !inode.isLinkable) throw new FsError('ENOENT', 'link');
      if (inode.attr.nlink >= LINK_MAX) throw new FsError('EMLINK', 'link');
      inode.isLinkable = false;
      this.#attach(dir, newName, inode);
      return this.#entry(inode);
    });
  }

  override unlink(caller: Caller, parent: NodeId, name: string): MaybePromise<void> {
    return this.#change(caller, 'unlink', () => {
      const dir = this.#directory(parent, 'unlink');
      const inode = dir.directory.find(name, 'unlink');
      if (inode.directory !== undefined) throw new FsError('EISDIR', 'unlink');
      this.#detach(dir, name, inode);
    });
  }

  override rmdir(caller: Caller, parent: NodeId, name: string): MaybePromise<void> {
    return this.#change(caller, 'rmdir', () => {
      const dir = this.#directory(parent, 'rmdir');
      const inode = dir.directory.find(name, 'rmdir');
      if (checkIsDirectory(inode, 'rmdir').directory.count > 0) throw new FsError('ENOTEMPTY', 'rmdir');
      this.#detach(dir, name, inode);
    });
  }

  override rename(caller: Caller, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): MaybePromise<void> {
    const isExchange = (flags & RENAME_EXCHANGE) !== 0;
    const known = isExchange ? RENAME_EXCHANGE : RENAME_NOREPLACE | RENAME_WHITEOUT;
    if ((flags & ~known) !== 0) throw new FsError('EINVAL', 'rename');
    return this.#change(caller, 'rename', () => {
      const from = this.#directory(parent, 'rename');
      const to = this.#directory(newParent, 'rename');
      const inode = from.directory.find(name, 'rename');
      const target = isExchange ? to.directory.find(newName, 'rename') : to.directory.get(newName);
      if (target !== undefined && (flags & RENAME_NOREPLACE) !== 0) throw new FsError('EEXIST', 'rename');
      if (target === inode) return; // two names of one file stay two names
      if (isWithin(to, inode)) throw new FsError('EINVAL', 'rename');
      if (target !== undefined && isWithin(from, target)) throw new FsError(isExchange ? 'EINVAL' : 'ENOTEMPTY', 'rename');
      let replacement: MemInode | undefined; // where the old name leads then
      if (isExchange) {
        replacement = target;
      } else {
        if (target === undefined) checkAlive(to, 'rename');
        else checkReplaceable(inode, target);
        if ((flags & RENAME_WHITEOUT) !== 0) replacement = this.#makeNode(caller, from, S_IFCHR, 0, 'rename'); // the last to fail
      }

      // Attached first, so that it is never without a name; a name that leads elsewhere now keeps its place in listings.
      this.#attach(to, newName, inode);
      if (replacement !== undefined) this.#attach(from, name, replacement);
      this.#detach(from, replacement === undefined ? name : undefined, inode);
      if (target !== undefined) this.#detach(to, undefined, target);
    });
  }

  // Open files.

  override open(_caller: Caller, node: NodeId, flags: number): OpenReply {
    const inode = this.#inode(node, 'open');
    if (inode.directory !== undefined) throw new FsError('EISDIR', 'open');
    if (isSymlink(inode.attr.mode)) throw new FsError('ELOOP', 'open');
    if (!isRegular(inode.attr.mode)) throw new FsError('ENXIO', 'open');
    if (this.isReadOnly && (flags & O_ACCMODE) !== O_RDONLY) throw new FsError('EROFS', 'open');
    return { fh: this.#openHandle(inode, flags) };
  }

  override create(caller: Caller, parent: NodeId, name: string, mode: number, flags: number): MaybePromise<CreateReply> {
    return this.#change(caller, 'open', () => {
      const inode = this.#add(caller, parent, name, (mode & S_IALLUGO) | S_IFREG, 0, 'open');
      return { entry: this.#entry(inode), fh: this.#openHandle(inode, flags) };
    });
  }

  override tmpfile(caller: Caller, parent: NodeId, mode: number, flags: number): MaybePromise<CreateReply> {
    return this.#change(caller, 'open', () => {
      const inode = this.#makeNode(caller, this.#directory(parent, 'open'), (mode & S_IALLUGO) | S_IFREG, 0, 'open');
      inode.isLinkable = (flags & O_EXCL) === 0;
      return { entry: this.#entry(inode), fh: this.#openHandle(inode, flags) };
    });
  }

  override read(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    const { inode, file, flags } = this.#file(node, fh, 'read');
    const { pos, signal } = iocb;
    // Nothing has to be fetched from far: who will not wait (RWF_NOWAIT) is served like all.
    const kiocb = { pos, flags: iocb.flags & ~RWF_NOWAIT, signal, ra: file.ra };
    const done = then(bufferedRead(kiocb, file.inode, into), (count) => {
      iocb.pos = kiocb.pos;
      this.#accessed(inode, flags);
      return count;
    });
    return atOnce(isNowait(caller, iocb.flags), 'read', this.#held(inode, done));
  }

  override write(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    const { inode, file } = this.#file(node, fh, 'write');
    const nowait = isNowait(caller, iocb.flags);
    this.#beginData(nowait, 'write', file.inode as FileInode);
    const flags = iocb.flags & ~(RWF_NOWAIT | RW_KILL_SUIDGID | RW_KILL_SGID);
    // What may still have to be waited for is the source.
    const kiocb = { pos: iocb.pos, flags: nowait && source.isResident !== true ? flags | RWF_NOWAIT : flags, signal: iocb.signal };
    const options = this.#writeOptions(inode, file, iocb.flags);
    const done = then(bufferedFileWrite(kiocb, file.inode, source, this.#store.io, options), (written) => {
      iocb.pos = kiocb.pos;
      if (written > 0) inode.touch(MTIME | CTIME, this.#now());
      return written;
    });
    return this.#held(inode, done);
  }

  /** What a write does beside writing: mostly nothing. */
  #writeOptions(inode: MemInode, file: OpenFile, flags: number): FileWriteOptions | undefined {
    const drops = modeAfterWrite(inode.attr.mode, flags) !== inode.attr.mode || inode.xattrs?.has(XATTR_NAME_CAPS) === true;
    if (!drops && (flags & (RWF_DSYNC | RWF_SYNC)) === 0) return undefined;
    return {
      prepare: () => {
        inode.attr.mode = modeAfterWrite(inode.attr.mode, flags);
        inode.xattrs?.delete(XATTR_NAME_CAPS);
      },
      sync: (start, end, datasync) => fsyncFile(file, this.#syncOps, { start, end, datasync }),
    };
  }

  override release(node: NodeId, fh: Fh, flockOwner?: number): MaybePromise<void> {
    const handle = this.#handles.get(fh);
    if (handle === undefined || handle.inode.attr.ino !== node) throw new FsError('EBADF', 'close');
    const released = super.release(node, fh, flockOwner);
    this.#handles.delete(fh);
    this.#close(handle.inode);
    return released;
  }

  override fsync(caller: Caller, node: NodeId, fh: Fh, datasync: boolean, start?: number, end?: number): MaybePromise<void> {
    const { inode, file } = this.#file(node, fh, 'fsync');
    const done = fsyncFile(file, this.#syncOps, { datasync, start: start ?? 0, end: end ?? Number.POSITIVE_INFINITY });
    return atOnce(isNowait(caller), 'fsync', this.#held(inode, done));
  }

  override lseek(caller: Caller, node: NodeId, fh: Fh, pos: number, whence: number): MaybePromise<number> {
    const { inode, file } = this.#file(node, fh, 'lseek');
    const seek = whence === SEEK_DATA ? seekData : whence === SEEK_HOLE ? seekHole : undefined;
    if (seek === undefined) throw new FsError('EINVAL', 'lseek');
    const { ops, writeOps } = this.#store.io;
    return atOnce(isNowait(caller), 'lseek', this.#held(inode, seek(file.inode, pos, ops, writeOps.iomapValid)));
  }

  override fallocate(caller: Caller, node: NodeId, fh: Fh, mode: number, offset: number, length: number): MaybePromise<void> {
    const { inode, file } = this.#file(node, fh, 'fallocate');
    this.#beginData(isNowait(caller), 'fallocate', file.inode as FileInode);
    const done = then(fallocate(file.inode, mode, offset, length, this.#store.fallocateOps), () => this.#modified(caller, inode));
    return this.#held(inode, done);
  }

  override copyFileRange(
    caller: Caller,
    nodeIn: NodeId,
    fhIn: Fh,
    srcPos: number,
    nodeOut: NodeId,
    fhOut: Fh,
    dstPos: number,
    length: number,
    flags: number,
  ): MaybePromise<number> {
    const { inode: from, file: source, flags: opened } = this.#file(nodeIn, fhIn, 'copy_file_range');
    const { inode, file } = this.#file(nodeOut, fhOut, 'copy_file_range');
    if (flags !== 0) throw new FsError('EINVAL', 'copy_file_range');
    this.#beginData(isNowait(caller), 'copy_file_range', file.inode as FileInode);
    const range = { src: source.inode, srcPos, dst: file.inode, dstPos, length };
    const done = then(copyRange(range, this.#store.io, this.#store.fallocateOps), (copied) => {
      this.#accessed(from, opened);
      return copied === 0 ? 0 : then(this.#modified(caller, inode), () => copied);
    });
    return this.#held(from, this.#held(inode, done));
  }

  override fiemap(caller: Caller, node: NodeId, start: number, length: number, flags: number, max?: number): MaybePromise<FileExtent[]> {
    const inode = this.#inode(node, 'fiemap');
    if (!isRegular(inode.attr.mode)) throw new FsError('EOPNOTSUPP', 'fiemap');
    const request = { start, length, flags, max: max ?? Number.POSITIVE_INFINITY };
    const answer = this.#withData(inode, (file) => then(fiemap(file, request, this.#store.io.ops), ({ extents }) => extents));
    return atOnce(isNowait(caller), 'fiemap', answer);
  }

  // Directories.

  override opendir(_caller: Caller, node: NodeId, flags: number): OpenReply {
    return { fh: this.#openHandle(this.#directory(node, 'opendir'), flags) };
  }

  readdir(_caller: Caller, node: NodeId, fh: Fh, offset: number, count: number, plus: boolean): DirEntry[] {
    const { inode, flags } = this.#handle(node, fh, 'scandir');
    const { directory } = checkIsDirectory(inode, 'scandir');
    this.#accessed(inode, flags);
    return directory.list(offset, count).map(({ name, cookie, inode: { attr, type }, inode: child }) => {
      return { name, ino: attr.ino, type, next: cookie, entry: plus ? this.#entry(child) : undefined };
    });
  }

  override releasedir(node: NodeId, fh: Fh): MaybePromise<void> {
    return this.release(node, fh);
  }

  override fsyncdir(_caller: Caller, node: NodeId, fh: Fh): void {
    this.#handle(node, fh, 'fsync'); // names are not cached
  }

  // Extended attributes.

  override getxattr(_caller: Caller, node: NodeId, name: string): Uint8Array | undefined {
    return getXattr(this.#inode(node, 'getxattr'), name);
  }

  override setxattr(caller: Caller, node: NodeId, name: string, value: Uint8Array, flags: number): MaybePromise<void> {
    return this.#change(caller, 'setxattr', () => {
      const inode = this.#inode(node, 'setxattr');
      setXattr(caller, inode, name, value, flags);
      inode.touch(CTIME, this.#now());
    });
  }

  override listxattr(caller: Caller, node: NodeId): string[] {
    return listXattrs(caller, this.#inode(node, 'listxattr'));
  }

  override removexattr(caller: Caller, node: NodeId, name: string): MaybePromise<void> {
    return this.#change(caller, 'removexattr', () => {
      const inode = this.#inode(node, 'removexattr');
      removeXattr(inode, name);
      inode.touch(CTIME, this.#now());
    });
  }

  // The whole.

  override statfs(_caller: Caller, node: NodeId): StatFs {
    this.#inode(node, 'statfs');
    const { blocksMax, inodesMax, total } = this.#quota;
    const bfree = Math.max(0, blocksMax - total.blocks);
    const ffree = Math.max(0, inodesMax - total.inodes);
    return { type: TMPFS_MAGIC, bsize: BLOCK_SIZE, blocks: blocksMax, bfree, bavail: bfree, files: inodesMax, ffree, namelen: NAME_MAX };
  }

  override syncfs(caller: Caller): MaybePromise<void> {
    this.#checkRunning('syncfs');
    return atOnce(isNowait(caller), 'syncfs', syncFs(this.#syncOps));
  }

  override freeze(): MaybePromise<void> {
    this.#checkRunning('freeze');
    return this.#freezer.freeze();
  }

  override thaw(): MaybePromise<void> {
    this.#checkRunning('thaw');
    return this.#freezer.thaw();
  }

  override shutdown(how: number): MaybePromise<void> {
    this.#checkRunning('shutdown');
    if (!(how >= SHUTDOWN_DEFAULT && how <= SHUTDOWN_NOLOGFLUSH)) throw new FsError('EINVAL', 'shutdown');
    return then(how === SHUTDOWN_DEFAULT ? syncFs(this.#syncOps) : undefined, () => {
      this.#isShutdown = true;
    });
  }

  // What the operations are made of.

  #checkRunning(syscall: string): void {
    if (this.#isShutdown) throw new FsError('EIO', syscall, { detail: 'the filesystem is shut down' });
  }

  /** Errors: ESTALE for a number that nobody was given, or that was forgotten. */
  #inode(node: NodeId, syscall: string): MemInode {
    this.#checkRunning(syscall);
    const inode = this.#inodes.get(node);
    if (inode === undefined || (inode.nlookup === 0 && inode.opens === 0 && node !== this.root)) throw new FsError('ESTALE', syscall);
    return inode;
  }

  #directory(node: NodeId, syscall: string): DirInode {
    return checkIsDirectory(this.#inode(node, syscall), syscall);
  }

  /** Errors: EBADF. */
  #handle(node: NodeId, fh: Fh, syscall: string): Handle {
    this.#checkRunning(syscall);
    const handle = this.#handles.get(fh);
    if (handle === undefined || handle.inode.attr.ino !== node) throw new FsError('EBADF', syscall);
    return handle;
  }

  #file(node: NodeId, fh: Fh, syscall: string): FileHandle {
    const handle = this.#handle(node, fh, syscall);
    if (handle.inode.directory !== undefined) throw new FsError('EISDIR', syscall);
    handle.file ??= new OpenFile(this.#store.open(handle.inode));
    return handle as FileHandle;
  }

  /** The answer of a call on the data of an inode, which stays open until it is there: the handle may be given back before. */
  #held<T>(inode: MemInode, answer: MaybePromise<T>): MaybePromise<T> {
    if (!isPromise(answer)) return answer;
    inode.opens++;
    return (answer as Promise<T>).finally(() => this.#close(inode));
  }

  /** A call on the data of an inode that nobody needs to have open. */
  #withData<T>(inode: MemInode, call: (file: FileInode) => MaybePromise<T>): MaybePromise<T> {
    inode.opens++;
    try {
      return this.#held(inode, call(this.#store.open(inode)));
    } finally {
      this.#close(inode);
    }
  }

  #close(inode: MemInode): void {
    inode.opens--;
    this.#put(inode);
  }

  #openHandle(inode: MemInode, flags: number): Fh {
    inode.opens++;
    this.#handles.set(++this.#lastFh, { inode, flags, file: undefined });
    return this.#lastFh;
  }

  /** Answers with an inode, which counts as a lookup. Nothing changes but through this interface, so answers stay true. */
  #entry(inode: MemInode): Entry {
    inode.nlookup++;
    const infinity = Number.POSITIVE_INFINITY;
    return { node: inode.attr.ino, generation: 0, attr: inode.stat(), entryValidMs: infinity, attrValidMs: infinity, io: IO };
  }

  /** Somebody lost interest in an inode, or a name was taken from it. */
  #put(inode: MemInode): void {
    const { ino, uid, nlink } = inode.attr;
    if (inode.opens > 0 || ino === this.root) return;
    if (inode.nlookup > 0) {
      this.#store.rest(inode);
      return;
    }
    if (inode.type === S_IFREG) void this.#store.close(inode, nlink === 0);
    if (nlink > 0) return;
    this.#inodes.delete(ino);
    this.#quota.releaseInode(uid);
  }

  /** Runs a change of names or attributes, or has it wait until the filesystem is thawed. */
  #change<T>(caller: Caller, syscall: string, change: () => T): MaybePromise<T> {
    if (this.isReadOnly) throw new FsError('EROFS', syscall);
    const { freezeWrite } = this.#sb;
    if (freezeWrite.tryLockShared()) return this.#changeLocked(change);
    if (isNowait(caller)) throw new FsError('EAGAIN', syscall);
    return (freezeWrite.lockShared() as Promise<void>).then(() => this.#changeLocked(change));
  }

  #changeLocked<T>(change: () => T): T {
    try {
      return change();
    } finally {
      this.#sb.freezeWrite.unlockShared();
    }
  }

  /** Before the engine changes data, under locks that it takes itself. Errors: EROFS; with `nowait` EAGAIN where they are not free. */
  #beginData(nowait: boolean, syscall: string, file: FileInode): void {
    if (this.isReadOnly) throw new FsError('EROFS', syscall);
    if (!nowait) return;
    const { freezeWrite } = this.#sb;
    const isFrozen = !freezeWrite.tryLockShared();
    if (!isFrozen) freezeWrite.unlockShared();
    if (isFrozen || file.lock.isLocked || file.mapping.invalidateLock.isLocked) throw new FsError('EAGAIN', syscall);
  }

  /** After data changed other than by a write. */
  #modified(caller: Caller, inode: MemInode): MaybePromise<void> {
    return this.#change(caller, 'setattr', () => {
      inode.xattrs?.delete(XATTR_NAME_CAPS);
      inode.touch(MTIME | CTIME, this.#now());
    });
  }

  #accessed(inode: MemInode, flags: number): void {
    if ((flags & O_NOATIME) !== 0 || this.isReadOnly || this.#freezer.isFrozen) return;
    const now = this.#now();
    if (needsAtimeUpdate(this.#atime, inode.attr, inode.attr.mode, now)) inode.touch(ATIME, now);
  }

  #now(): Timespec {
    return timespecOf(this.#wallClock());
  }

  /** A new inode that no name leads to. */
  #makeInode(uid: number, gid: number, mode: number, rdev: number, parent: MemInode | undefined, syscall: string): MemInode {
    this.#quota.takeInode(uid, syscall);
    const inode = new MemInode(++this.#lastNode, mode, uid, gid, rdev, this.#now(), parent);
    this.#inodes.set(inode.attr.ino, inode);
    return inode;
  }

  /** A new inode as the caller and the directory make it. */
  #makeNode(caller: Caller, dir: DirInode, asked: number, rdev: number, syscall: string): MemInode {
    const { uid, gid, mode } = inheritOwner(caller, dir.attr, asked);
    checkAlive(dir, syscall);
    const acls: NewAcl = isSymlink(mode)
      ? { mode }
      : createAcl(dir.acl(XATTR_NAME_POSIX_ACL_DEFAULT), mode, caller.umask, isDirectory(mode));
    const inode = this.#makeInode(uid, gid, acls.mode, rdev, dir, syscall);
    if (acls.access !== undefined) inode.setXattr(XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(acls.access));
    if (acls.default !== undefined) inode.setXattr(XATTR_NAME_POSIX_ACL_DEFAULT, formatAcl(acls.default));
    return inode;
  }

  /** A new inode with its first name. Errors: EEXIST; those of #makeNode. */
  #add(caller: Caller, parent: NodeId, name: string, mode: number, rdev: number, syscall: string): MemInode {
    const dir = this.#directory(parent, syscall);
    this.#checkFree(dir, name, syscall);
    const inode = this.#makeNode(caller, dir, mode, rdev, syscall);
    this.#attach(dir, name, inode);
    return inode;
  }

  #checkFree(dir: DirInode, name: string, syscall: string): void {
    checkAlive(dir, syscall);
    if (dir.directory.get(name) !== undefined) throw new FsError('EEXIST', syscall);
  }

  /** Makes a name lead to an inode. A directory counts as two names, its own and its '.', and its '..' as one more of its parent. */
  #attach(dir: DirInode, name: string, inode: MemInode): void {
    const now = this.#now();
    dir.directory.set(name, inode);
    dir.touch(MTIME | CTIME, now);
    inode.touch(CTIME, now);
    inode.attr.nlink += inode.directory === undefined ? 1 : 2;
    if (inode.directory !== undefined) {
      dir.attr.nlink++;
      inode.directory.parent = dir;
    }
  }

  /** Takes a name from an inode; without one, what the name counted for, as it leads elsewhere already. */
  #detach(dir: DirInode, name: string | undefined, inode: MemInode): void {
    const now = this.#now();
    if (name !== undefined) dir.directory.remove(name);
    dir.touch(MTIME | CTIME, now);
    inode.touch(CTIME, now);
    inode.attr.nlink -= inode.directory === undefined ? 1 : 2;
    if (inode.directory !== undefined) dir.attr.nlink--;
    this.#put(inode);
  }
}

/** Is this a call that will not wait? `flags` are RWF_*. */
function isNowait(caller: Caller, flags = 0): boolean {
  return caller.nowait === true || (flags & RWF_NOWAIT) !== 0;
}

/** Errors: ENOTDIR. */
function checkIsDirectory(inode: MemInode, syscall: string): DirInode {
  if (inode.directory === undefined) throw new FsError('ENOTDIR', syscall);
  return inode as DirInode;
}

/** Errors: ENOENT for a directory that was removed: it gets no names any more. */
function checkAlive(dir: DirInode, syscall: string): void {
  if (dir.attr.nlink === 0) throw new FsError('ENOENT', syscall);
}

/** Is `dir` the inode itself, or somewhere below it? */
function isWithin(dir: DirInode, inode: MemInode): boolean {
  for (let at: MemInode | undefined = dir; at !== undefined; at = at.directory?.parent) if (at === inode) return true;
  return false;
}

/** May a rename of `inode` replace `target`? Errors: ENOTDIR, EISDIR, ENOTEMPTY. */
function checkReplaceable(inode: MemInode, target: MemInode): void {
  if (inode.directory !== undefined && target.directory === undefined) throw new FsError('ENOTDIR', 'rename');
  if (inode.directory === undefined && target.directory !== undefined) throw new FsError('EISDIR', 'rename');
  if (target.directory !== undefined && target.directory.count > 0) throw new FsError('ENOTEMPTY', 'rename');
}

/** The answer of what changes nothing. Errors: with `nowait` EAGAIN where it has to be waited for. */
function atOnce<T>(nowait: boolean, syscall: string, answer: MaybePromise<T>): MaybePromise<T> {
  if (!nowait || !isPromise(answer)) return answer;
  answer.catch(() => {});
  throw new FsError('EAGAIN', syscall);
}
