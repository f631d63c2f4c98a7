import { assert } from '../../base/assert.ts';
import type { WatchedClock } from '../../base/clock.ts';
import { FsError } from '../../base/fs-error.ts';
import { IovIter, type WriteSource } from '../../base/iov-iter.ts';
import { roundDown, roundUp } from '../../base/ranges.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../../base/task.ts';
import { bufferedFileWrite, type FileWriteOptions } from '../../iomap/buffered-file.ts';
import { bufferedRead } from '../../iomap/buffered-read.ts';
import { type CopyRange, copyRange } from '../../iomap/copy-range.ts';
import { directRead, directWrite } from '../../iomap/direct-file.ts';
import { fallocate } from '../../iomap/fallocate.ts';
import { fiemap } from '../../iomap/fiemap.ts';
import { Freezer } from '../../iomap/freeze.ts';
import { fsyncFile, type SyncFsOps, SyncfsErrors, type SyncOps, syncFs } from '../../iomap/fsync.ts';
import { withLayoutLocked } from '../../iomap/layout-lock.ts';
import { seekData, seekHole } from '../../iomap/seek.ts';
import { setSize } from '../../iomap/truncate.ts';
import type { Handle } from '../../jbd2/log.ts';
import { type AtimePolicy, needsAtimeUpdate } from '../../vfs/atime.ts';
import {
  type Attr,
  type AttrChanges,
  type DirEntry,
  type Entry,
  type FileExtent,
  type IoMode,
  makedev,
  type StatFs,
} from '../../vfs/attr.ts';
import { type Caller, hasCap, inGroup } from '../../vfs/caller.ts';
import {
  type CreateReply,
  type Fh,
  FileSystem,
  type Kiocb,
  type NodeId,
  type OpenReply,
  SHUTDOWN_DEFAULT,
  SHUTDOWN_LOGFLUSH,
  SHUTDOWN_NOLOGFLUSH,
} from '../../vfs/file-system.ts';
import { type Inode, inodeOf } from '../../vfs/inode.ts';
import { nameOf } from '../../vfs/name.ts';
import { OpenFile } from '../../vfs/open-file.ts';
import { checkMayHaveXattr, killedMode, modeAfterWrite } from '../../vfs/permission.ts';
import {
  chmodAcl,
  equivalentMode,
  formatAcl,
  isAclName,
  parseAcl,
  XATTR_NAME_POSIX_ACL_ACCESS,
  XATTR_NAME_POSIX_ACL_DEFAULT,
} from '../../vfs/posix-acl.ts';
import type { SuperBlock } from '../../vfs/super-block.ts';
import {
  CAP_FSETID,
  CAP_SYS_ADMIN,
  isDirectory,
  isRegular,
  isSymlink,
  NAME_MAX,
  O_ACCMODE,
  O_APPEND,
  O_DIRECT,
  O_EXCL,
  O_NOATIME,
  O_RDONLY,
  O_TRUNC,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  RWF_APPEND,
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
  S_ISGID,
  SEEK_DATA,
  SEEK_HOLE,
  XATTR_CREATE,
  XATTR_REPLACE,
  XATTR_SIZE_MAX,
} from '../../vfs/uapi.ts';
import { readFileBlock } from './block-map.ts';
import { DirCursor, lookupName, parentOf, readDir } from './directory.ts';
import { type Ext4Data, type Ext4File, truncateBlocks } from './ext4-data.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { INCOMPAT_EA_INODE, INCOMPAT_INLINE_DATA } from './features.ts';
import {
  EXT4_APPEND_FL,
  EXT4_ENCRYPT_FL,
  EXT4_IMMUTABLE_FL,
  EXT4_NOATIME_FL,
  EXT4_ROOT_INO,
  EXT4_SUPER_MAGIC,
  EXT4_SYNC_FL,
  EXT4_VERITY_FL,
} from './format.ts';
import { hasIbody } from './ibody.ts';
import { inlineCapacity, readInline, startInline } from './inline-data.ts';
import { freeInode, isInodeInUse } from './inode-alloc.ts';
import { getInode, modifyInode } from './inode-table.ts';
import { fileIoctl } from './ioctl.ts';
import { isJournalled } from './journalled-data.ts';
import {
  create,
  deviceOf,
  inodeOfHit,
  link,
  makeNode,
  mayUseReserved,
  modeOfFileType,
  type NewNode,
  rename,
  rmdir,
  unlink,
} from './name-ops.ts';
import { addOrphan, removeOrphan } from './orphan.ts';
import { transfer } from './quota.ts';
import { atOnce, CREDITS, look, update } from './update.ts';
import { countInodes, getXattr, listXattrs, releaseXattrs, setXattr } from './xattr.ts';

/** Capabilities of an executable: void once somebody writes to it or it changes hands. */
const XATTR_NAME_CAPS = 'security.capability';
const IO: IoMode = { mode: 'iomap' };
/** The faces' number of the root; all others have the number of the inode. Inode 1 is never seen. */
const ROOT_NODE = 1;
/** Inodes kept in core, beside those that are open: about 1 KiB each. */
const INODE_CACHE = 32768;
/** Bytes that copy_file_range copies for a caller who will not wait. */
const COPY_AT_ONCE = 128 * 1024;
/** Bytes that a copy past the cache moves at a time. */
const COPY_STEP = 1024 * 1024;

export interface Ext4FsOptions {
  /** When reading changes atime. Default 'relatime'. */
  readonly atime?: AtimePolicy;
  /** Inodes kept in core beside those that are open. Default 32768, about 1 KiB each. */
  readonly inodeCache?: number;
  /** Something above caches file data: reads and writes go past the cache here, straight to the device. Default: no. */
  readonly uncached?: boolean;
}

/** What mount hands over: the volume, its data, and how to end it. */
export interface Ext4Volume {
  readonly sb: Ext4Sb;
  readonly superBlock: SuperBlock;
  readonly data: Ext4Data;
  /** Is something beside the log on its way to the device? */
  isBusy(): boolean;
  /** All timers of the volume are set by this one. */
  readonly clock: WatchedClock;
  /** Writes the superblock's counters, in the log. */
  syncSuper(): Task<void>;
  /** The end, with everything written. */
  unmount(): Task<void>;
}

interface OpenHandle {
  readonly inode: Ext4Inode;
  readonly flags: number;
  /** Of a regular file. */
  readonly file: OpenFile | undefined;
  /** Of a directory. */
  readonly cursor: DirCursor | undefined;
}

/**
 * ext2, ext3 and ext4 as a FileSystem.
 *
 * Invariants:
 * 1. sb.inodes has every inode with a lookup or an open file. One without names, lookups and open files is deleted, in the background
 *    where the device waits; destroy() waits for that.
 * 2. Each operation changes metadata in one handle, or in several with the inode on the list of orphans between them.
 */
export class Ext4Fs extends FileSystem {
  /** Becomes true when damage ends writing. */
  override isReadOnly: boolean;
  override readonly isExportable = true;
  readonly #volume: Ext4Volume;
  readonly #sb: Ext4Sb;
  readonly #data: Ext4Data;
  readonly #superBlock: SuperBlock;
  readonly #atime: AtimePolicy;
  readonly #isUncached: boolean;
  readonly #inodeCache: number;
  readonly #handles = new Map<Fh, OpenHandle>();
  readonly #background = new Set<Promise<unknown>>();
  readonly #freezer: Freezer;
  readonly #syncOps: SyncOps & SyncFsOps;
  #lastFh = 0;
  #isShutdown = false;

  constructor(volume: Ext4Volume, options: Ext4FsOptions = {}) {
    super();
    this.#volume = volume;
    this.#sb = volume.sb;
    this.isReadOnly = volume.sb.isReadOnly;
    volume.sb.onReadOnly = () => {
      this.isReadOnly = true;
    };
    this.#data = volume.data;
    this.#superBlock = volume.superBlock;
    this.#atime = options.atime ?? 'relatime';
    this.#isUncached = options.uncached ?? false;
    this.#inodeCache = options.inodeCache ?? INODE_CACHE;
    const { sb } = volume;
    const { bdi } = volume.superBlock;
    this.#syncOps = {
      inodes: () => [...bdi.dirtyMappings].map(inodeOf),
      commit: (inode, datasync) => run(this.#commit((inode as Ext4File).owner, datasync)),
      commitAll: () => run(this.#commitAll()),
      flushDevices: () => sb.flush(),
    };
    this.#freezer = new Freezer(volume.superBlock, {
      ...this.#syncOps,
      freezeFs: () => sb.log.checkpoint(),
    });
  }

  override get needsEventLoop(): boolean {
    return this.#sb.log.isBusy || this.#background.size > 0 || this.#volume.isBusy();
  }

  /** What is changed and not committed is committed by a timer. */
  override get nextDue(): number | undefined {
    return this.#volume.clock.nextDue;
  }

  override destroy(): MaybePromise<void> {
    return run(this.#destroy());
  }

  *#destroy(): Task<void> {
    while (this.#background.size > 0) yield* wait(Promise.all(this.#background));
    const wasShutdown = this.#isShutdown;
    this.#isShutdown = true;
    this.#handles.clear();
    for (const inode of [...this.#sb.inodes.values()]) {
      inode.opens = 0;
      inode.nlookup = 0;
      try {
        yield* this.#evict(inode, wasShutdown);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
    }
    yield* this.#volume.unmount();
    this.#superBlock.bdi.close();
  }

  // Inodes.

  lookup(caller: Caller, parent: NodeId, name: string): MaybePromise<Entry | undefined> {
    const dir = this.#directory(parent, 'lookup');
    return this.#look(caller, 'lookup', () => this.#lookupTask(dir, name));
  }

  *#lookupTask(dir: Ext4Inode, name: string): Task<Entry | undefined> {
    const hit = yield* lookupName(dir, name);
    return hit === undefined ? undefined : this.#entry(yield* inodeOfHit(this.#sb, dir, hit));
  }

  forget(node: NodeId, nlookup: number): void {
    const { inodes, parkedLookups } = this.#sb;
    const ino = inoOf(node);
    const inode = inodes.get(ino);
    if (inode === undefined) {
      const left = (parkedLookups.get(ino) ?? 0) - nlookup;
      if (left > 0) parkedLookups.set(ino, left);
      else parkedLookups.delete(ino);
      return;
    }
    inode.nlookup = Math.max(0, inode.nlookup - nlookup);
    this.#put(inode);
  }

  override iget(caller: Caller, node: NodeId): MaybePromise<Entry> {
    this.#checkRunning('lookup');
    const sb = this.#sb;
    const ino = inoOf(node);
    const isPossible = ino === EXT4_ROOT_INO || (Number.isInteger(ino) && ino >= sb.es.firstIno && ino <= sb.es.inodesCount);
    if (!isPossible || sb.hiddenInodes.has(ino)) throw new FsError('ESTALE', 'lookup');
    const entry = (inode: Ext4Inode): Entry => this.#entry(inode);
    return this.#look(caller, 'lookup', function* () {
      if (!sb.inodes.has(ino) && !(yield* isInodeInUse(sb, ino))) throw new FsError('ESTALE', 'lookup');
      const inode = yield* getInode(sb, ino);
      if (inode.nlink === 0 && inode.opens === 0 && inode.nlookup === 0) throw new FsError('ESTALE', 'lookup');
      return entry(inode);
    });
  }

  override parentOf(caller: Caller, node: NodeId): MaybePromise<Entry> {
    const dir = this.#directory(node, 'lookup');
    const sb = this.#sb;
    const entry = (inode: Ext4Inode): Entry => this.#entry(inode);
    return this.#look(caller, 'lookup', function* () {
      if (dir.nlink === 0) throw new FsError('ENOENT', 'lookup');
      return entry(dir.ino === EXT4_ROOT_INO ? dir : yield* getInode(sb, yield* parentOf(dir)));
    });
  }

  getattr(_caller: Caller, node: NodeId): Attr {
    return this.#attr(this.#inode(node, 'getattr'));
  }

  #attr(inode: Ext4Inode): Attr {
    const { file } = inode;
    const isDevice = (inode.mode & S_IFMT) === S_IFCHR || (inode.mode & S_IFMT) === S_IFBLK;
    const { atime, mtime, ctime, crtime = ctime } = inode;
    const delayed = file === undefined ? 0 : file.delayed.size * (this.#sb.blockSize / 512);
    const hasNsec = inode.extraIsize > 0; // small inodes round times, and have rounded them here already
    const size = file?.size ?? inode.size;
    // A file of no blocks would be taken for a hole.
    const inline = inode.hasInlineData && inode.isRegular ? Math.ceil(size / 512) : 0;
    let rdev = 0;
    if (isDevice) {
      const { major, minor } = deviceOf(inode);
      rdev = makedev(major, minor);
    }
    return {
      ino: inode.ino,
      size,
      blocks: inode.blocks + delayed + inline,
      blksize: this.#sb.blockSize,
      mode: inode.mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      rdev,
      atime: atime.sec,
      atimeNsec: hasNsec ? atime.nsec : 0,
      mtime: mtime.sec,
      mtimeNsec: hasNsec ? mtime.nsec : 0,
      ctime: ctime.sec,
      ctimeNsec: hasNsec ? ctime.nsec : 0,
      btime: crtime.sec,
      btimeNsec: hasNsec ? crtime.nsec : 0,
    };
  }

  override setattr(caller: Caller, node: NodeId, changes: AttrChanges, fh?: Fh): MaybePromise<Attr> {
    const inode = this.#inode(node, 'setattr');
    const { size } = changes;
    if (!this.#isOfWrites(changes, fh)) this.#checkChangeable(inode, changes);
    if (size === undefined) return this.#change(caller, 'setattr', (h) => this.#applyChanges(h, inode, changes));

    if (isDirectory(inode.mode)) throw new FsError('EISDIR', 'truncate');
    if (!isRegular(inode.mode)) throw new FsError('EINVAL', 'truncate');
    const file = this.#data.open(inode);
    this.#beginData(caller, 'truncate', file);
    const { blockSize, owner } = file;
    const isShrink = size <= file.size && owner.size >= size;
    const isGrowth = size >= file.size && owner.size === file.size && file.size % blockSize === 0;
    if (!(isShrink || isGrowth) || (this.#sb.clusterRatio > 1 && !file.delayed.isEmpty)) this.#refuseToWait(caller, 'truncate');
    this.#settlesAtOnce(caller, 'truncate', file);
    const zeroEnd = roundUp(size, blockSize);
    if (caller.nowait === true && !this.#data.zeroesAtOnce(file, Math.min(size, file.size), zeroEnd))
      throw new FsError('EAGAIN', 'truncate');
    const isNothing = size === file.size && inode.blocks === 0 && file.delayed.isEmpty;
    if (size === 0 && !isNothing) inode.wasTruncated = true;
    const resized = isNothing ? undefined : setSize(file, size, this.#data.fallocateOpsOf(inode));
    return this.#held(
      inode,
      then(resized, () => this.#change(caller, 'setattr', (h) => this.#applyChanges(h, inode, changes))),
    );
  }

  /** Are these the times of writes that a cache above has kept, told through a file that may write? The writes were allowed. */
  #isOfWrites(changes: AttrChanges, fh: Fh | undefined): boolean {
    const handle = fh === undefined ? undefined : this.#handles.get(fh);
    if (handle === undefined || (handle.flags & O_ACCMODE) === O_RDONLY) return false;
    return Object.keys(changes).every((name) => name === 'mtime' || name === 'ctime');
  }

  /** Errors: EPERM where flags keep the inode as it is. */
  #checkChangeable(inode: Ext4Inode, changes: AttrChanges): void {
    const { size, atime, mtime } = changes;
    const isTouch = atime === 'now' && mtime === 'now';
    if ((inode.flags & EXT4_IMMUTABLE_FL) !== 0) throw new FsError('EPERM', 'setattr');
    if ((inode.flags & EXT4_APPEND_FL) === 0) return;
    const isForbidden = changes.mode !== undefined || changes.uid !== undefined || changes.gid !== undefined || size !== undefined;
    if (isForbidden || ((atime !== undefined || mtime !== undefined) && !isTouch)) throw new FsError('EPERM', 'setattr');
  }

  *#applyChanges(h: Handle, inode: Ext4Inode, changes: AttrChanges): Task<Attr> {
    const { mode, uid = inode.uid, gid = inode.gid, atime, mtime, ctime } = changes;
    yield* modifyInode(h, inode);
    if (uid !== inode.uid || gid !== inode.gid) {
      yield* transfer(h, inode, { uid, gid, projid: inode.projid }, yield* countInodes(inode));
      inode.uid = uid;
      inode.gid = gid;
    }
    if (mode !== undefined) {
      inode.mode = inode.type | (mode & S_IALLUGO);
      const value = yield* getXattr(inode, XATTR_NAME_POSIX_ACL_ACCESS);
      const acl = value === undefined ? undefined : parseAcl(value);
      if (acl !== undefined) yield* setXattr(h, inode, XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(chmodAcl(acl, mode)));
    }
    if (changes.killSuidgid === true && !inode.isDirectory) inode.mode = killedMode(inode.mode);
    if (changes.size !== undefined || changes.uid !== undefined || changes.gid !== undefined) yield* this.#dropCaps(h, inode);
    const now = this.#sb.env.now();
    if (atime !== undefined) inode.atime = atime === 'now' ? now : { ...atime };
    if (mtime !== undefined) inode.mtime = mtime === 'now' ? now : { ...mtime };
    else if (changes.size !== undefined) inode.mtime = now;
    inode.ctime = ctime === undefined ? now : { ...ctime };
    inode.version++;
    if ((inode.flags & EXT4_SYNC_FL) !== 0) h.isSync = true;
    return this.#attr(inode);
  }

  *#dropCaps(h: Handle, inode: Ext4Inode): Task<void> {
    if (!isRegular(inode.mode)) return;
    if ((yield* getXattr(inode, XATTR_NAME_CAPS)) !== undefined) yield* setXattr(h, inode, XATTR_NAME_CAPS, undefined, 0);
  }

  override readlink(caller: Caller, node: NodeId): MaybePromise<string> {
    const inode = this.#inode(node, 'readlink');
    if (!isSymlink(inode.mode)) throw new FsError('EINVAL', 'readlink');
    const accessed = (): void => this.#accessed(inode, 0);
    return this.#look(caller, 'readlink', function* () {
      const target = yield* readTarget(inode);
      accessed();
      return target;
    });
  }

  // Names.

  override mknod(caller: Caller, parent: NodeId, name: string, mode: number, rdev: number): MaybePromise<Entry> {
    const type = mode & S_IFMT;
    if (type === S_IFDIR) throw new FsError('EPERM', 'mknod');
    if (type !== 0 && ![S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK].includes(type)) throw new FsError('EINVAL', 'mknod');
    return this.#create(caller, parent, name, { mode: type === 0 ? mode | S_IFREG : mode, rdev }, 'mknod');
  }

  override mkdir(caller: Caller, parent: NodeId, name: string, mode: number): MaybePromise<Entry> {
    return this.#create(caller, parent, name, { mode: (mode & 0o1777) | S_IFDIR }, 'mkdir');
  }

  override symlink(caller: Caller, parent: NodeId, name: string, target: string): MaybePromise<Entry> {
    return this.#create(caller, parent, name, { mode: S_IFLNK | 0o777, target }, 'symlink');
  }

  #create(caller: Caller, parent: NodeId, name: string, node: NewNode, syscall: string): MaybePromise<Entry> {
    const dir = this.#directory(parent, syscall);
    const done = this.#change(caller, syscall, (h) => create(h, caller, dir, name, node, syscall));
    return then(done, (inode) => this.#entry(inode));
  }

  override link(caller: Caller, node: NodeId, newParent: NodeId, newName: string): MaybePromise<Entry> {
    const inode = this.#inode(node, 'link');
    const dir = this.#directory(newParent, 'link');
    const done = this.#change(caller, 'link', (h) => link(h, inode, dir, newName, inode.isLinkable));
    return then(done, () => {
      inode.isLinkable = false;
      return this.#entry(inode);
    });
  }

  override unlink(caller: Caller, parent: NodeId, name: string): MaybePromise<void> {
    const dir = this.#directory(parent, 'unlink');
    return then(
      this.#change(caller, 'unlink', (h) => unlink(h, dir, name)),
      (inode) => this.#put(inode),
    );
  }

  override rmdir(caller: Caller, parent: NodeId, name: string): MaybePromise<void> {
    const dir = this.#directory(parent, 'rmdir');
    return then(
      this.#change(caller, 'rmdir', (h) => rmdir(h, dir, name)),
      (inode) => this.#put(inode),
    );
  }

  override rename(caller: Caller, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): MaybePromise<void> {
    const isExchange = (flags & RENAME_EXCHANGE) !== 0;
    const known = isExchange ? RENAME_EXCHANGE : RENAME_NOREPLACE | RENAME_WHITEOUT;
    if ((flags & ~known) !== 0) throw new FsError('EINVAL', 'rename');
    const from = this.#directory(parent, 'rename');
    const to = this.#directory(newParent, 'rename');
    const flushed = this.#flushReplacement(caller, from, name, to, newName);
    return then(flushed, () => {
      const done = this.#change(caller, 'rename', (h) => rename(h, caller, from, name, to, newName, flags));
      return then(done, (gone) => {
        if (gone !== undefined) this.#put(gone);
      });
    });
  }

  /** A file that is to take another's place has its data on the device before: programs save files so, and count on it. */
  #flushReplacement(caller: Caller, from: Ext4Inode, name: string, to: Ext4Inode, newName: string): MaybePromise<void> {
    const sb = this.#sb;
    if (this.#isUncached || this.#superBlock.bdi.dirtyMappings.size === 0 || caller.nowait === true) return;
    const found = run(
      look(sb, function* () {
        if ((yield* lookupName(to, newName)) === undefined) return undefined;
        const hit = yield* lookupName(from, name);
        return hit === undefined ? undefined : sb.inodes.get(hit.ino);
      }),
    );
    return then(found, (inode): MaybePromise<void> => {
      const { file } = inode ?? {};
      if (file === undefined || file.delayed.isEmpty) return undefined;
      // An error is for fsync to tell.
      const done = file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY);
      return isPromise(done) ? (done as Promise<void>).catch(() => {}) : undefined;
    });
  }

  // Open files.

  override open(_caller: Caller, node: NodeId, flags: number): OpenReply {
    const inode = this.#inode(node, 'open');
    if (inode.isDirectory) throw new FsError('EISDIR', 'open');
    if (isSymlink(inode.mode)) throw new FsError('ELOOP', 'open');
    if (!isRegular(inode.mode)) throw new FsError('ENXIO', 'open');
    const isWriter = (flags & O_ACCMODE) !== O_RDONLY;
    if (this.isReadOnly && isWriter) throw new FsError('EROFS', 'open');
    if ((inode.flags & EXT4_ENCRYPT_FL) !== 0) throw new FsError('ENOKEY', 'open', { detail: 'the file is encrypted' });
    if ((inode.flags & EXT4_VERITY_FL) !== 0) {
      throw new FsError(isWriter ? 'EPERM' : 'EOPNOTSUPP', 'open', { detail: 'the file is sealed by fs-verity (feature verity)' });
    }
    if (isWriter && (inode.flags & EXT4_IMMUTABLE_FL) !== 0) throw new FsError('EPERM', 'open');
    const isAppend = (flags & O_APPEND) !== 0 && (flags & O_TRUNC) === 0;
    if (isWriter && (inode.flags & EXT4_APPEND_FL) !== 0 && !isAppend) throw new FsError('EPERM', 'open');
    return { fh: this.#openHandle(inode, flags) };
  }

  override create(caller: Caller, parent: NodeId, name: string, mode: number, flags: number): MaybePromise<CreateReply> {
    const dir = this.#directory(parent, 'open');
    const node = { mode: (mode & S_IALLUGO) | S_IFREG };
    const done = this.#change(caller, 'open', (h) => create(h, caller, dir, name, node, 'open'));
    return then(done, (inode) => ({ entry: this.#entry(inode), fh: this.#openHandle(inode, flags) }));
  }

  override tmpfile(caller: Caller, parent: NodeId, mode: number, flags: number): MaybePromise<CreateReply> {
    const dir = this.#directory(parent, 'open');
    const done = this.#change(caller, 'open', function* (h) {
      const inode = yield* makeNode(h, caller, dir, { mode: (mode & S_IALLUGO) | S_IFREG }, 'open');
      yield* addOrphan(h, inode);
      return inode;
    });
    return then(done, (inode) => {
      inode.isLinkable = (flags & O_EXCL) === 0;
      return { entry: this.#entry(inode), fh: this.#openHandle(inode, flags) };
    });
  }

  override read(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    const { inode, file, flags } = this.#file(node, fh, 'read');
    const nowait = caller.nowait === true || (iocb.flags & RWF_NOWAIT) !== 0;
    const kiocb = { pos: iocb.pos, flags: nowait ? iocb.flags | RWF_NOWAIT : iocb.flags, signal: iocb.signal, ra: file.ra };
    const isPlain = !inode.hasInlineData && !isJournalled(inode);
    if (isPlain && (this.#isUncached || (flags & O_DIRECT) !== 0)) this.#refuseDevice(caller, 'read');
    let count: MaybePromise<number>;
    if (isPlain && this.#isUncached) count = this.#readUncached(kiocb, file.inode as Ext4File, into);
    else if (isPlain && (flags & O_DIRECT) !== 0) {
      count = directRead(kiocb, file.inode, new IovIter(into), {
        ...this.#data.directIo(file.inode as Ext4File),
        bufferedRead: (rest, iov) =>
          then(bufferedRead({ ...kiocb, pos: rest.pos }, file.inode, restOf(iov, into)), (n) => moved(rest, iov, n)),
      });
    } else count = bufferedRead(kiocb, file.inode, into);
    return this.#held(
      inode,
      then(count, (got) => {
        iocb.pos = kiocb.pos;
        this.#accessed(inode, flags);
        return got;
      }),
    );
  }

  /** A read past the cache, of any bytes: what is not whole sectors goes through memory of its own. */
  #readUncached(kiocb: Kiocb & { pos: number }, file: Ext4File, into: Uint8Array): MaybePromise<number> {
    const { logicalBlockSize: unit } = this.#sb.bdev;
    if (kiocb.pos >= file.size) return 0;
    if (kiocb.pos % unit === 0 && into.length % unit === 0) return directRead(kiocb, file, new IovIter(into), this.#data.directIo(file));
    const start = roundDown(kiocb.pos, unit);
    const end = Math.ceil((kiocb.pos + into.length) / unit) * unit;
    const whole = new Uint8Array(end - start);
    const around = { pos: start, flags: kiocb.flags, signal: kiocb.signal };
    return then(directRead(around, file, new IovIter(whole), this.#data.directIo(file)), (got) => {
      const skip = kiocb.pos - start;
      const count = Math.max(0, Math.min(got - skip, into.length));
      into.set(whole.subarray(skip, skip + count));
      kiocb.pos += count;
      return count;
    });
  }

  override write(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    const { inode, file, flags } = this.#file(node, fh, 'write');
    const nowait = caller.nowait === true || (iocb.flags & RWF_NOWAIT) !== 0;
    const target = file.inode as Ext4File;
    this.#beginData(caller, 'write', target);
    // A write past the cache ends in a task of its own.
    if (this.#isUncached || (flags & O_DIRECT) !== 0) this.#refuseToWait(caller, 'write');
    else if (isJournalled(inode) || this.#sb.es.hasIncompat(INCOMPAT_INLINE_DATA)) this.#refuseDevice(caller, 'write');
    target.isRoots = mayUseReserved(this.#sb, caller);
    const sync = (inode.flags & EXT4_SYNC_FL) !== 0 ? RWF_SYNC : 0;
    const asked = (iocb.flags & ~(RWF_NOWAIT | RW_KILL_SUIDGID | RW_KILL_SGID)) | sync;
    const kiocb = { pos: iocb.pos, flags: nowait ? asked | RWF_NOWAIT : asked, signal: iocb.signal };
    const options = this.#writeOptions(inode, file, iocb.flags | sync);
    const done = this.#writeBytes(kiocb, target, source, flags, options);
    return this.#held(
      inode,
      then(done, (written) => {
        iocb.pos = kiocb.pos;
        if (written > 0) this.#touched(inode);
        return written;
      }),
    );
  }

  #writeBytes(
    kiocb: Kiocb & { pos: number },
    file: Ext4File,
    source: WriteSource,
    flags: number,
    options: FileWriteOptions,
  ): MaybePromise<number> {
    const { owner } = file;
    const canInline = this.#sb.es.hasIncompat(INCOMPAT_INLINE_DATA) && file.size === 0 && owner.blocks === 0 && file.delayed.isEmpty;
    if (canInline && !owner.hasInlineData && kiocb.pos + source.count <= inlineCapacity(owner) && source.count > 0) {
      const sb = this.#sb;
      const started = run(update(sb, 'write', CREDITS, (h) => startInline(h, owner)));
      return then(started, () => bufferedFileWrite(kiocb, file, source, this.#data.ioOf(file.owner), options));
    }
    if (owner.hasInlineData || isJournalled(owner) || !(source instanceof IovIter)) return this.#writeThrough(kiocb, file, source, options);
    if (this.#isUncached) return this.#writeUncached(kiocb, file, source, options);
    if ((flags & O_DIRECT) === 0) return bufferedFileWrite(kiocb, file, source, this.#data.ioOf(file.owner), options);
    const { prepare, sync } = options;
    return directWrite(kiocb, file, source, {
      ...this.#data.directIo(file),
      ...(prepare === undefined ? {} : { prepare }),
      ...(sync === undefined ? {} : { sync }),
      bufferedWrite: (rest, iov) => bufferedFileWrite(rest, file, iov, this.#data.ioOf(owner), options),
    });
  }

  /** Through the cache, which keeps nothing dirty where another cache lies above. */
  #writeThrough(kiocb: Kiocb & { pos: number }, file: Ext4File, source: WriteSource, options: FileWriteOptions): MaybePromise<number> {
    if (this.#isUncached && (kiocb.flags & RWF_NOWAIT) !== 0) throw new FsError('EAGAIN', 'write');
    const written = bufferedFileWrite(kiocb, file, source, this.#data.ioOf(file.owner), options);
    if (!this.#isUncached) return written;
    return then(written, (count) => then(file.mapping.writeAndWait(kiocb.pos - count, kiocb.pos), () => count));
  }

  /**
   * Past the cache, as the cache above hands it down: whole blocks, but for the end of the file, which is padded with the zeros that belong
   * behind it anyway. What is neither goes through the cache here.
   */
  #writeUncached(kiocb: Kiocb & { pos: number }, file: Ext4File, source: IovIter, options: FileWriteOptions): MaybePromise<number> {
    const { blockSize } = file;
    const { pos } = kiocb;
    const count = source.count;
    const end = pos + count;
    const tail = end % blockSize;
    const isAppend = (kiocb.flags & RWF_APPEND) !== 0; // where that is, is known under locks only
    const isWhole = !isAppend && pos % blockSize === 0 && (tail === 0 || end >= file.size);
    if (!isWhole || end > file.sizeMax) return this.#writeThrough(kiocb, file, source, options);
    const { prepare, sync } = options;
    const io = {
      ...this.#data.directIo(file, end),
      ...(prepare === undefined ? {} : { prepare }),
      ...(sync === undefined ? {} : { sync }),
    };
    if (tail === 0) return directWrite(kiocb, file, source, io);
    const padded = new IovIter([...restOfSource(source), new Uint8Array(blockSize - tail)]);
    return then(directWrite(kiocb, file, padded, io), (written) => {
      const taken = Math.min(written, count);
      source.advance(taken);
      kiocb.pos = pos + taken;
      return taken;
    });
  }

  /** What a write does beside writing. */
  #writeOptions(inode: Ext4Inode, file: OpenFile, flags: number): FileWriteOptions {
    const options: { -readonly [K in keyof FileWriteOptions]: FileWriteOptions[K] } = {};
    const mode = modeAfterWrite(inode.mode, flags);
    const mayHaveCaps = inode.fileAcl !== 0 || hasIbody(inode);
    if (mode !== inode.mode || mayHaveCaps) {
      const dropCaps = (h: Handle): Task<void> => this.#dropCaps(h, inode);
      const sb = this.#sb;
      options.prepare = () =>
        run(
          (function* (): Task<void> {
            const now = modeAfterWrite(inode.mode, flags);
            const hasCaps = yield* look(sb, () => getXattr(inode, XATTR_NAME_CAPS));
            if (now === inode.mode && hasCaps === undefined) return;
            yield* update(sb, 'write', CREDITS, function* (h): Task<void> {
              yield* modifyInode(h, inode);
              inode.mode = now;
              yield* dropCaps(h);
            });
          })(),
        );
    }
    if ((flags & (RWF_DSYNC | RWF_SYNC)) !== 0) {
      options.sync = (start, end, datasync) => fsyncFile(file, this.#syncOps, { start, end, datasync });
    }
    return options;
  }

  override flush(_caller: Caller, node: NodeId, fh: Fh): MaybePromise<void> {
    const { file, inode } = this.#handle(node, fh, 'close');
    if (file === undefined || inode.file === undefined) return;
    // A file that was cut to nothing and written anew is on the device when it is closed: programs save files so, and count on it.
    if (!inode.wasTruncated || this.#isUncached) return;
    inode.wasTruncated = false;
    void inode.file.mapping.startWrite(0, Number.POSITIVE_INFINITY);
  }

  override release(node: NodeId, fh: Fh, flockOwner?: number): MaybePromise<void> {
    const handle = this.#handles.get(fh);
    if (handle === undefined || handle.inode.ino !== inoOf(node)) throw new FsError('EBADF', 'close');
    const released = super.release(node, fh, flockOwner);
    this.#handles.delete(fh);
    this.#close(handle.inode);
    return released;
  }

  override fsync(caller: Caller, node: NodeId, fh: Fh, datasync: boolean, start?: number, end?: number): MaybePromise<void> {
    const { inode, file } = this.#file(node, fh, 'fsync');
    const done = fsyncFile(file, this.#syncOps, { datasync, start: start ?? 0, end: end ?? Number.POSITIVE_INFINITY });
    return this.#held(inode, refuseToWait(caller, 'fsync', done));
  }

  /** Everything about one inode is durable. Shape: as SyncOps.commit. */
  *#commit(inode: Ext4Inode, datasync: boolean): Task<boolean> {
    const sb = this.#sb;
    if (sb.isReadOnly) return this.#checkWhole('fsync');
    if (inode.isLazy && !datasync) yield* this.#storeTimes(inode);
    const tid = datasync ? inode.datasyncTid : inode.syncTid;
    if (tid === 0 || sb.log.isCommitted(tid)) return false;
    return yield* wait(sb.log.commit(tid));
  }

  /** True, on a volume that is read-only: nothing waits to be written. Errors: EROFS where an error made it so, and changes are lost. */
  #checkWhole(syscall: string): true {
    const cause = this.#sb.log.aborted;
    if (cause !== undefined) throw new FsError('EROFS', syscall, { cause });
    return true;
  }

  *#storeTimes(inode: Ext4Inode): Task<void> {
    yield* update(this.#sb, 'fsync', CREDITS, (h) => modifyInode(h, inode));
  }

  *#commitAll(): Task<boolean> {
    const sb = this.#sb;
    if (sb.isReadOnly) return this.#checkWhole('syncfs');
    // Files whose last names are gone: their blocks are free when this is done.
    if (this.#background.size > 0) yield* wait(Promise.all(this.#background));
    for (const inode of [...sb.lazyInodes]) if (inode.isLazy) yield* this.#storeTimes(inode);
    yield* this.#volume.syncSuper();
    return yield* wait(sb.log.commit());
  }

  override lseek(caller: Caller, node: NodeId, fh: Fh, pos: number, whence: number): MaybePromise<number> {
    const { inode, file } = this.#file(node, fh, 'lseek');
    const seek = whence === SEEK_DATA ? seekData : whence === SEEK_HOLE ? seekHole : undefined;
    if (seek === undefined) throw new FsError('EINVAL', 'lseek');
    const { ops, writeOps } = this.#data.ioOf(inode);
    return this.#held(inode, refuseToWait(caller, 'lseek', seek(file.inode, pos, ops, writeOps.iomapValid)));
  }

  override fallocate(caller: Caller, node: NodeId, fh: Fh, mode: number, offset: number, length: number): MaybePromise<void> {
    const { inode, file } = this.#file(node, fh, 'fallocate');
    const target = file.inode as Ext4File;
    this.#checkMayModify(inode, 'fallocate');
    this.#beginData(caller, 'fallocate', target);
    target.isRoots = mayUseReserved(this.#sb, caller);
    const isWhole = [offset, length, target.size].every((bytes) => bytes % target.blockSize === 0);
    if (!isWhole || inode.size !== target.size || target.mapping.dirtyBytes > 0) this.#refuseToWait(caller, 'fallocate');
    this.#settlesAtOnce(caller, 'fallocate', target);
    const done = then(fallocate(target, mode, offset, length, this.#data.fallocateOpsOf(inode)), () => this.#modified(caller, inode));
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
    this.#checkMayModify(inode, 'copy_file_range');
    const target = file.inode as Ext4File;
    this.#beginData(caller, 'copy_file_range', target);
    target.isRoots = mayUseReserved(this.#sb, caller);
    const range = { src: source.inode, srcPos, dst: target, dstPos, length };
    if (caller.nowait === true) {
      // Data only, and not too much of it: what the cache takes at once.
      range.length = Math.min(length, COPY_AT_ONCE, Math.max(0, source.inode.size - srcPos));
      const { cache, bdi } = target.mapping;
      cache.shrink(2 * range.length); // read, and written
      const hasRoom = cache.memory.free >= 2 * range.length && !cache.isOverBackground(bdi);
      if (!hasRoom || this.#isUncached || dstPos > target.size || !this.#isData(source.inode, srcPos, range.length)) {
        this.#refuseToWait(caller, 'copy_file_range');
      }
      this.#settlesAtOnce(caller, 'copy_file_range', target);
    }
    range.length = Math.max(0, Math.min(range.length, source.inode.size - srcPos));
    const isPast = this.#isUncached && this.#canCopyPast(range);
    const copying = isPast ? run(this.#copyPast(range)) : copyRange(range, this.#data.ioOf(inode), this.#data.fallocateOpsOf(inode));
    const done = then(copying, (copied) => {
      this.#accessed(from, opened);
      if (copied === 0) return 0;
      const settled = this.#isUncached && !isPast ? target.mapping.writeAndWait(dstPos, dstPos + copied) : undefined;
      return then(settled, () => then(this.#modified(caller, inode), () => copied));
    });
    return this.#held(from, this.#held(inode, done));
  }

  /** Is a copy whole blocks of data, from file to file, that need nothing from the cache? */
  #canCopyPast({ src, srcPos, dst, dstPos, length }: CopyRange): boolean {
    const isPlain = (file: Inode): boolean => {
      const { owner } = file as Ext4File;
      return !owner.hasInlineData && !isJournalled(owner);
    };
    const isWhole = srcPos % src.blockSize === 0 && dstPos % dst.blockSize === 0 && dstPos <= dst.size;
    const canInline = this.#sb.es.hasIncompat(INCOMPAT_INLINE_DATA) && dst.size === 0;
    const isPossible = src !== dst && length > 0 && isWhole && !canInline && isPlain(src) && isPlain(dst) && dstPos + length <= dst.sizeMax;
    return isPossible && this.#isData(src, srcPos, length);
  }

  /** Copies past the cache. Shape: as copyRange. */
  *#copyPast({ src, srcPos, dst, dstPos, length }: CopyRange): Task<number> {
    const buffer = new Uint8Array(Math.min(COPY_STEP, length));
    let done = 0;
    try {
      while (done < length) {
        const into = buffer.subarray(0, Math.min(buffer.length, length - done));
        const count = yield* wait(this.#readUncached({ pos: srcPos + done, flags: 0, signal: undefined }, src as Ext4File, into));
        if (count === 0) break; // truncated meanwhile
        const source = new IovIter(into.subarray(0, count));
        const written = yield* wait(this.#writeUncached({ pos: dstPos + done, flags: 0, signal: undefined }, dst as Ext4File, source, {}));
        done += written;
        if (written < count) break;
      }
    } catch (error) {
      if (done === 0 || !(error instanceof FsError)) throw error;
    }
    return done;
  }

  override fiemap(caller: Caller, node: NodeId, start: number, length: number, flags: number, max?: number): MaybePromise<FileExtent[]> {
    const inode = this.#inode(node, 'fiemap');
    if (!isRegular(inode.mode)) throw new FsError('EOPNOTSUPP', 'fiemap');
    const request = { start, length, flags, max: max ?? Number.POSITIVE_INFINITY };
    const answer = then(fiemap(this.#data.open(inode), request, this.#data.ioOf(inode).ops), ({ extents }) => extents);
    return this.#held(inode, refuseToWait(caller, 'fiemap', answer));
  }

  override ioctl(
    caller: Caller,
    node: NodeId,
    _fh: Fh,
    cmd: number,
    arg: Uint8Array,
    outSize: number,
  ): MaybePromise<{ result: number; data: Uint8Array }> {
    const inode = this.#inode(node, 'ioctl');
    const change = <T>(body: (h: Handle) => Task<T>): MaybePromise<T> => this.#change(caller, 'ioctl', body);
    return fileIoctl({ caller, inode, cmd, arg, outSize, change, changeSettled: (body) => this.#changeSettled(inode, body) });
  }

  /** Runs a change of how the data of a file is kept: at rest, with all of it at its place on the device, and nothing of it in core. */
  #changeSettled<T>(inode: Ext4Inode, body: (h: Handle) => Task<T>): MaybePromise<T> {
    if (this.isReadOnly) throw new FsError('EROFS', 'ioctl');
    const sb = this.#sb;
    const file = this.#data.open(inode);
    const changed = withLayoutLocked('ioctl', [file], function* (): Task<T> {
      yield* wait(file.mapping.writeAndWait(0, Number.POSITIVE_INFINITY));
      yield* wait(file.mapping.invalidateRange(0, Number.POSITIVE_INFINITY));
      yield* wait(sb.log.checkpoint());
      sb.buffers.dropClean();
      return yield* update(sb, 'ioctl', CREDITS, body);
    });
    return this.#held(inode, changed);
  }

  // Directories.

  override opendir(_caller: Caller, node: NodeId, flags: number): OpenReply {
    return { fh: this.#openHandle(this.#directory(node, 'opendir'), flags) };
  }

  readdir(caller: Caller, node: NodeId, fh: Fh, offset: number, count: number, plus: boolean): MaybePromise<DirEntry[]> {
    const { inode: dir, flags, cursor } = this.#handle(node, fh, 'scandir');
    if (cursor === undefined) throw new FsError('ENOTDIR', 'scandir');
    const sb = this.#sb;
    const entry = (inode: Ext4Inode): Entry => this.#entry(inode);
    const accessed = (): void => this.#accessed(dir, flags);
    return this.#look(caller, 'scandir', function* () {
      const { names } = yield* readDir(dir, offset, count, cursor);
      const listed: DirEntry[] = [];
      for (const found of names) {
        const { name, ino, next } = found;
        let type = modeOfFileType(found.type);
        let its: Entry | undefined;
        if (plus || type === 0) {
          const inode = yield* inodeOfListed(sb, ino);
          if (inode !== undefined) {
            type = inode.type;
            if (plus) its = entry(inode);
          }
        }
        listed.push({ name, ino, type, next, entry: its });
      }
      accessed();
      return listed;
    });
  }

  override releasedir(node: NodeId, fh: Fh): MaybePromise<void> {
    return this.release(node, fh);
  }

  override fsyncdir(caller: Caller, node: NodeId, fh: Fh, datasync: boolean): MaybePromise<void> {
    const { inode } = this.#handle(node, fh, 'fsync');
    const done = run(this.#commit(inode, datasync));
    return refuseToWait(
      caller,
      'fsync',
      then(done, () => {}),
    );
  }

  // Extended attributes.

  override getxattr(caller: Caller, node: NodeId, name: string): MaybePromise<Uint8Array | undefined> {
    const inode = this.#inode(node, 'getxattr');
    checkXattrName(inode, name, 'getxattr');
    return this.#look(caller, 'getxattr', () => getXattr(inode, name));
  }

  override setxattr(caller: Caller, node: NodeId, name: string, value: Uint8Array, flags: number): MaybePromise<void> {
    const inode = this.#inode(node, 'setxattr');
    checkXattrName(inode, name, 'setxattr');
    if (value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG', 'setxattr');
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new FsError('EINVAL', 'setxattr');
    this.#checkMayModify(inode, 'setxattr', true);
    if (isAclName(name)) {
      const acl = parseAcl(value);
      if (name === XATTR_NAME_POSIX_ACL_DEFAULT && acl !== undefined && !inode.isDirectory) throw new FsError('EACCES', 'setxattr');
    } else checkMayHaveXattr(inode.mode, name, 'setxattr');
    const now = this.#sb.env.now();
    return this.#change(caller, 'setxattr', function* (h) {
      yield* modifyInode(h, inode);
      if (isAclName(name)) yield* setAcl(h, caller, inode, name, value);
      else yield* setXattr(h, inode, name, value, flags);
      inode.ctime = now;
    });
  }

  override listxattr(caller: Caller, node: NodeId): MaybePromise<string[]> {
    const inode = this.#inode(node, 'listxattr');
    return this.#look(caller, 'listxattr', function* () {
      const names = yield* listXattrs(inode);
      return hasCap(caller, CAP_SYS_ADMIN) ? names : names.filter((name) => !name.startsWith('trusted.'));
    });
  }

  override removexattr(caller: Caller, node: NodeId, name: string): MaybePromise<void> {
    const inode = this.#inode(node, 'removexattr');
    checkXattrName(inode, name, 'removexattr');
    this.#checkMayModify(inode, 'removexattr', true);
    if (!isAclName(name)) checkMayHaveXattr(inode.mode, name, 'removexattr');
    const now = this.#sb.env.now();
    return this.#change(caller, 'removexattr', function* (h) {
      const isThere = (yield* getXattr(inode, name)) !== undefined;
      if (!isThere && isAclName(name)) return; // an ACL that is not there may be removed
      if (!isThere) throw new FsError('ENODATA', 'removexattr');
      yield* modifyInode(h, inode);
      yield* setXattr(h, inode, name, undefined, 0);
      inode.ctime = now;
    });
  }

  // The whole.

  override statfs(_caller: Caller, node: NodeId): StatFs {
    this.#inode(node, 'statfs');
    const { es, allocator } = this.#sb;
    const overhead = this.#sb.overhead;
    const bfree = Math.max(0, es.freeClusters - es.dirtyClusters) * es.clusterRatio;
    return {
      type: EXT4_SUPER_MAGIC,
      bsize: es.blockSize,
      blocks: es.blocksCount - overhead,
      bfree,
      bavail: Math.min(bfree, allocator.available(false) * es.clusterRatio),
      files: es.inodesCount,
      ffree: es.freeInodes,
      namelen: NAME_MAX,
    };
  }

  override syncfs(caller: Caller): MaybePromise<void> {
    this.#checkRunning('syncfs');
    if (this.#sb.isReadOnly) return void this.#checkWhole('syncfs');
    // What fails before it is waited for is on record only.
    return refuseToWait(caller, 'syncfs', syncFs(this.#syncOps, new SyncfsErrors(this.#superBlock)));
  }

  override freeze(): MaybePromise<void> {
    this.#checkRunning('freeze');
    if (this.#sb.isReadOnly) throw new FsError('EROFS', 'freeze');
    return this.#freezer.freeze();
  }

  override thaw(): MaybePromise<void> {
    this.#checkRunning('thaw');
    return this.#freezer.thaw();
  }

  override shutdown(how: number): MaybePromise<void> {
    this.#checkRunning('shutdown');
    if (!(how >= SHUTDOWN_DEFAULT && how <= SHUTDOWN_NOLOGFLUSH)) throw new FsError('EINVAL', 'shutdown');
    const { log } = this.#sb;
    const before: MaybePromise<unknown> =
      how === SHUTDOWN_DEFAULT ? syncFs(this.#syncOps) : how === SHUTDOWN_LOGFLUSH ? log.commit() : undefined;
    return then(before, () => {
      this.#isShutdown = true;
      log.abort(new FsError('EIO', 'shutdown', { detail: 'the filesystem is shut down' }));
    });
  }

  // What the operations are made of.

  #checkRunning(syscall: string): void {
    if (this.#isShutdown) throw new FsError('EIO', syscall, { detail: 'the filesystem is shut down' });
  }

  /** Errors: ESTALE for a number that nobody was given, or that was forgotten. */
  #inode(node: NodeId, syscall: string): Ext4Inode {
    this.#checkRunning(syscall);
    const inode = this.#sb.inodes.get(inoOf(node)) ?? this.#unpark(node);
    if (inode === undefined || (inode.nlookup === 0 && inode.opens === 0 && node !== ROOT_NODE)) throw new FsError('ESTALE', syscall);
    return inode;
  }

  /** An inode that a face knows, and that had to make way: read again. */
  #unpark(node: NodeId): Ext4Inode | undefined {
    const sb = this.#sb;
    const ino = inoOf(node);
    if (!sb.parkedLookups.has(ino)) return undefined;
    const inode = run(look(sb, () => getInode(sb, ino)));
    assert(!isPromise(inode), 'lookups are parked where the device answers at once');
    return inode;
  }

  #directory(node: NodeId, syscall: string): Ext4Inode {
    const inode = this.#inode(node, syscall);
    if (!inode.isDirectory) throw new FsError('ENOTDIR', syscall);
    return inode;
  }

  #handle(node: NodeId, fh: Fh, syscall: string): OpenHandle {
    this.#checkRunning(syscall);
    const handle = this.#handles.get(fh);
    if (handle === undefined || handle.inode.ino !== inoOf(node)) throw new FsError('EBADF', syscall);
    return handle;
  }

  #file(node: NodeId, fh: Fh, syscall: string): OpenHandle & { readonly file: OpenFile } {
    const handle = this.#handle(node, fh, syscall);
    if (handle.file === undefined) throw new FsError('EISDIR', syscall);
    return handle as OpenHandle & { readonly file: OpenFile };
  }

  #openHandle(inode: Ext4Inode, flags: number): Fh {
    inode.opens++;
    const file = inode.isRegular ? new OpenFile(this.#data.open(inode)) : undefined;
    const cursor = inode.isDirectory ? new DirCursor() : undefined;
    this.#handles.set(++this.#lastFh, { inode, flags, file, cursor });
    return this.#lastFh;
  }

  /** The answer of a call on the data of an inode, which stays open until it is there. */
  #held<T>(inode: Ext4Inode, answer: MaybePromise<T>): MaybePromise<T> {
    if (!isPromise(answer)) return answer;
    inode.opens++;
    return (answer as Promise<T>).finally(() => this.#close(inode));
  }

  #close(inode: Ext4Inode): void {
    inode.opens--;
    this.#put(inode);
  }

  /** Answers with an inode, which counts as a lookup. Nothing changes but through this interface, so answers stay true. */
  #entry(inode: Ext4Inode): Entry {
    inode.nlookup++;
    this.#shrink();
    const infinity = Number.POSITIVE_INFINITY;
    const node = inode.ino === EXT4_ROOT_INO ? ROOT_NODE : inode.ino;
    return { node, generation: inode.generation, attr: this.#attr(inode), entryValidMs: infinity, attrValidMs: infinity, io: IO };
  }

  /** Somebody lost interest in an inode, or a name was taken from it. */
  #put(inode: Ext4Inode): void {
    if (inode.opens > 0 || inode.nlookup > 0 || inode.ino === EXT4_ROOT_INO || inode.isLeaving) return;
    if (inode.nlink > 0) {
      this.#shrink();
      return;
    }
    this.#inBackground(this.#evict(inode, false));
  }

  /**
   * Inodes that nobody has open make way, the oldest first, when there are too many. Of one that a face still knows its lookups are kept, where
   * the device answers at once, so that it can be read again in the middle of anything.
   */
  #shrink(): void {
    const sb = this.#sb;
    if (sb.inodes.size <= this.#inodeCache) return;
    let left = Math.ceil(this.#inodeCache / 8);
    for (const inode of sb.inodes.values()) {
      if (left-- <= 0) return;
      const { ino, opens, nlookup, handle, isLeaving, nlink } = inode;
      const isBusy = opens > 0 || handle !== undefined || isLeaving || nlink === 0 || (nlookup > 0 && !sb.answersAtOnce);
      if (isBusy || ino === EXT4_ROOT_INO || ino < sb.es.firstIno || sb.hiddenInodes.has(ino)) {
        // To the end of the line.
        sb.inodes.delete(ino);
        sb.inodes.set(ino, inode);
      } else if (inode.file === undefined && !inode.isLazy) this.#drop(inode);
      else this.#inBackground(this.#evict(inode, false));
    }
  }

  /** Out of core; its lookups are remembered. */
  #drop(inode: Ext4Inode): void {
    const { inodes, parkedLookups } = this.#sb;
    inodes.delete(inode.ino);
    if (inode.nlookup > 0) parkedLookups.set(inode.ino, inode.nlookup);
  }

  #inBackground(task: Task<unknown>): void {
    let done: MaybePromise<unknown>;
    try {
      done = run(task);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      this.#sb.noteError(error, 0, 0);
      return;
    }
    if (!isPromise(done)) return;
    const ended = done
      .catch((error: unknown) => {
        if (error instanceof FsError) this.#sb.noteError(error, 0, 0);
        else throw error;
      })
      .finally(() => this.#background.delete(ended));
    this.#background.add(ended);
  }

  /** The end of an inode in core; of the file itself where it has no names. */
  *#evict(inode: Ext4Inode, isAborted: boolean): Task<void> {
    const sb = this.#sb;
    if (inode.isLeaving) return;
    inode.isLeaving = true;
    try {
      const isDeleted = inode.nlink === 0;
      yield* wait(this.#data.close(inode, isDeleted || isAborted));
      const isIdle = (): boolean => {
        const isKnown = inode.nlookup > 0 && !sb.answersAtOnce;
        return !isKnown && inode.opens === 0 && inode.file === undefined && inode.handle === undefined && inode.ino !== EXT4_ROOT_INO;
      };
      if (isAborted || sb.isReadOnly) {
        if (isIdle()) this.#drop(inode);
        return;
      }
      if (inode.nlink === 0 && inode.mode !== 0 && inode.ino >= sb.es.firstIno && !sb.hiddenInodes.has(inode.ino)) {
        yield* deleteInode(inode);
        return;
      }
      if (inode.isLazy) yield* this.#storeTimes(inode);
      // Somebody may have come back for it meanwhile.
      if (isIdle()) this.#drop(inode);
    } finally {
      inode.isLeaving = false;
    }
  }

  #look<T>(caller: Caller, syscall: string, body: () => Task<T>): MaybePromise<T> {
    this.#checkRunning(syscall);
    if (caller.nowait === true) {
      if (this.#sb.log.lock.isExclusive) throw new FsError('EAGAIN', syscall);
      return atOnce(this.#sb, syscall, look(this.#sb, body));
    }
    return run(look(this.#sb, body));
  }

  /** Runs a change of names or attributes, or has it wait until the filesystem is thawed. */
  #change<T>(caller: Caller, syscall: string, body: (h: Handle) => Task<T>): MaybePromise<T> {
    if (this.isReadOnly) throw new FsError('EROFS', syscall);
    const { freezeWrite } = this.#superBlock;
    const nowait = caller.nowait === true;
    if (freezeWrite.tryLockShared()) {
      let done: MaybePromise<T>;
      try {
        const task = update(this.#sb, syscall, CREDITS, body);
        done = nowait ? atOnce(this.#sb, syscall, task) : run(task);
      } catch (error) {
        freezeWrite.unlockShared();
        throw error;
      }
      if (isPromise(done)) return (done as Promise<T>).finally(() => freezeWrite.unlockShared());
      freezeWrite.unlockShared();
      return done;
    }
    if (nowait) throw new FsError('EAGAIN', syscall);
    return (freezeWrite.lockShared() as Promise<void>)
      .then(() => run(update(this.#sb, syscall, CREDITS, body)))
      .finally(() => freezeWrite.unlockShared());
  }

  /** Before the engine changes data, under locks that it takes itself. Errors: EROFS; EAGAIN for who will not wait for them. */
  #beginData(caller: Caller, syscall: string, file: Ext4File): void {
    if (this.isReadOnly) throw new FsError('EROFS', syscall);
    if (caller.nowait !== true) return;
    const { freezeWrite } = this.#superBlock;
    const isFrozen = !freezeWrite.tryLockShared();
    if (!isFrozen) freezeWrite.unlockShared();
    if (isFrozen || file.lock.isLocked || file.mapping.invalidateLock.isLocked || this.#sb.log.lock.isLocked)
      throw new FsError('EAGAIN', syscall);
  }

  /** Errors: EAGAIN for who will not wait, unless nothing is in flight and the device lets nobody wait. */
  #settlesAtOnce(caller: Caller, syscall: string, file: Ext4File): void {
    const isIdle = this.#sb.answersAtOnce && file.mapping.writebackBytes === 0 && file.dioCount === 0;
    if (!isIdle) this.#refuseToWait(caller, syscall);
  }

  /** Errors: EAGAIN for who will not wait, where the device lets one wait. */
  #refuseDevice(caller: Caller, syscall: string): void {
    if (!this.#sb.answersAtOnce) this.#refuseToWait(caller, syscall);
  }

  /** Errors: EAGAIN for who will not wait. */
  #refuseToWait(caller: Caller, syscall: string): void {
    if (caller.nowait === true) throw new FsError('EAGAIN', syscall);
  }

  /** Has the range no hole, as far as can be said at once? */
  #isData(file: Inode, pos: number, length: number): boolean {
    if (length === 0) return true;
    const { ops, writeOps } = this.#data.ioOf((file as Ext4File).owner);
    const hole = seekHole(file, pos, ops, writeOps.iomapValid);
    if (!isPromise(hole)) return (hole as number) >= pos + length;
    hole.catch(() => {});
    return false;
  }

  #checkMayModify(inode: Ext4Inode, syscall: string, mayAppend = false): void {
    const flags = EXT4_IMMUTABLE_FL | (mayAppend ? 0 : EXT4_APPEND_FL);
    if ((inode.flags & flags) !== 0) throw new FsError('EPERM', syscall);
  }

  /** After data changed other than by a write. */
  #modified(caller: Caller, inode: Ext4Inode): MaybePromise<void> {
    const dropCaps = (h: Handle): Task<void> => this.#dropCaps(h, inode);
    const now = this.#sb.env.now();
    return this.#change(caller, 'setattr', function* (h) {
      yield* modifyInode(h, inode);
      yield* dropCaps(h);
      inode.mtime = inode.ctime = now;
      inode.version++;
    });
  }

  /** After a write: the times reach the device with the next change of the inode, or when somebody asks for it. */
  #touched(inode: Ext4Inode): void {
    inode.mtime = inode.ctime = this.#sb.env.now();
    inode.version++;
    this.#markLazy(inode);
  }

  #markLazy(inode: Ext4Inode): void {
    inode.isLazy = true;
    this.#sb.lazyInodes.add(inode);
  }

  #accessed(inode: Ext4Inode, flags: number): void {
    if ((flags & O_NOATIME) !== 0 || this.isReadOnly || this.#freezer.isFrozen || (inode.flags & EXT4_NOATIME_FL) !== 0) return;
    const now = this.#sb.env.now();
    const { atime, mtime, ctime } = inode;
    const times = {
      atime: atime.sec,
      atimeNsec: atime.nsec,
      mtime: mtime.sec,
      mtimeNsec: mtime.nsec,
      ctime: ctime.sec,
      ctimeNsec: ctime.nsec,
    };
    if (!needsAtimeUpdate(this.#atime, times, inode.mode, now)) return;
    inode.atime = now;
    this.#markLazy(inode);
  }
}

function inoOf(node: NodeId): number {
  return node === ROOT_NODE ? EXT4_ROOT_INO : node;
}

/** The end of a file without names: its blocks, attributes, record and number are free. In several handles if it is large. */
export function* deleteInode(inode: Ext4Inode): Task<void> {
  const { sb } = inode;
  if (inode.isRegular || inode.isDirectory || isSymlink(inode.mode)) {
    if (!inode.hasInlineData && !isFastSymlink(inode)) yield* truncateBlocks(inode, 0);
  }
  yield* update(sb, 'unlink', CREDITS, function* (h): Task<void> {
    yield* modifyInode(h, inode);
    yield* releaseXattrs(h, inode);
    yield* removeOrphan(h, inode);
    yield* freeInode(h, inode);
  });
  sb.inodes.delete(inode.ino);
}

/** Does the target stand in the inode? */
function isFastSymlink(inode: Ext4Inode): boolean {
  if (!isSymlink(inode.mode) || inode.hasInlineData || inode.hasExtents || inode.size >= 60) return false;
  // With ea_inode the blocks of values are counted too.
  const { es, blockSize, clusterRatio } = inode.sb;
  return es.hasIncompat(INCOMPAT_EA_INODE) || inode.blocks <= (inode.fileAcl === 0 ? 0 : (blockSize / 512) * clusterRatio);
}

/** Errors: EUCLEAN for a target that is none. */
function* readTarget(inode: Ext4Inode): Task<string> {
  const { sb, size } = inode;
  const bad = (): never => sb.corrupted(`the target of symbolic link ${inode.ino}`);
  if ((inode.flags & EXT4_ENCRYPT_FL) !== 0) throw new FsError('ENOKEY', 'readlink', { detail: 'the link is encrypted' });
  if (size === 0 || size >= sb.blockSize) return bad();
  let bytes: Uint8Array;
  if (inode.hasInlineData) bytes = readInline(inode);
  else if (isFastSymlink(inode)) bytes = inode.iBlock.slice(0, size);
  else bytes = ((yield* readFileBlock(inode, 0)) ?? bad()).data.slice(0, size);
  if (bytes.length !== size || bytes.includes(0)) return bad();
  return nameOf(bytes);
}

/** What a listing tells of a name that leads to nonsense is its name and number. */
function* inodeOfListed(sb: Ext4Sb, ino: number): Task<Ext4Inode | undefined> {
  if (!(ino === EXT4_ROOT_INO || (ino >= sb.es.firstIno && ino <= sb.es.inodesCount)) || sb.hiddenInodes.has(ino)) return undefined;
  try {
    const inode = yield* getInode(sb, ino);
    return inode.nlink === 0 ? undefined : inode;
  } catch (error) {
    if (error instanceof FsError) return undefined;
    throw error;
  }
}

/** Errors: with caller.nowait EAGAIN where the answer has to be waited for. */
function refuseToWait<T>(caller: Caller, syscall: string, answer: MaybePromise<T>): MaybePromise<T> {
  if (caller.nowait !== true || !isPromise(answer)) return answer;
  answer.catch(() => {});
  throw new FsError('EAGAIN', syscall);
}

/** Errors: EOPNOTSUPP for the ACL of a symbolic link, and what is kept under names of our own. */
function checkXattrName(inode: Ext4Inode, name: string, syscall: string): void {
  if (isAclName(name) && isSymlink(inode.mode)) throw new FsError('EOPNOTSUPP', syscall);
}

/** An ACL without entries removes; an access ACL that says no more than the mode becomes the mode. */
function* setAcl(h: Handle, caller: Caller, inode: Ext4Inode, name: string, value: Uint8Array): Task<void> {
  const acl = parseAcl(value);
  let isNeeded = acl !== undefined;
  if (name === XATTR_NAME_POSIX_ACL_ACCESS && acl !== undefined) {
    const { permissions, isMinimal } = equivalentMode(acl);
    inode.mode = (inode.mode & ~0o777) | permissions;
    if (!inGroup(caller, inode.gid) && !hasCap(caller, CAP_FSETID)) inode.mode &= ~S_ISGID;
    isNeeded = !isMinimal;
  }
  if (acl !== undefined && isNeeded) yield* setXattr(h, inode, name, formatAcl(acl), 0);
  else if ((yield* getXattr(inode, name)) !== undefined) yield* setXattr(h, inode, name, undefined, 0);
}

/** The memory that is left of a source. */
function restOfSource(source: IovIter): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let skip = source.done;
  for (const segment of source.segments) {
    if (skip >= segment.length) skip -= segment.length;
    else {
      parts.push(skip === 0 ? segment : segment.subarray(skip));
      skip = 0;
    }
  }
  return parts;
}

function restOf(iov: IovIter, into: Uint8Array): Uint8Array {
  return into.subarray(iov.done);
}

function moved(rest: { pos: number }, iov: IovIter, count: number): number {
  iov.advance(count);
  rest.pos += count;
  return count;
}
