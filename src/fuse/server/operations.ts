import { FsError } from '../../base/fs-error.ts';
import { IovIter } from '../../base/iov-iter.ts';
import { type MaybePromise, then } from '../../base/task.ts';
import type { Attr, AttrChanges, DirEntry, Entry, FileLock } from '../../vfs/attr.ts';
import { makedev } from '../../vfs/attr.ts';
import type { Caller } from '../../vfs/caller.ts';
import type { CreateReply, FileSystem } from '../../vfs/file-system.ts';
import { nameBytes, nameOf } from '../../vfs/name.ts';
import { killSetId as killSetIdOf } from '../../vfs/permission.ts';
import {
  F_UNLCK,
  LOCK_END,
  O_ACCMODE,
  O_APPEND,
  O_CREAT,
  O_DSYNC,
  O_EXCL,
  O_NOCTTY,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
  RW_KILL_SUIDGID,
  RWF_DSYNC,
  RWF_SYNC,
  S_IFDIR,
} from '../../vfs/uapi.ts';
import type { DirentWriter } from '../abi/dirents.ts';
import * as flag from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import * as op from '../abi/opcodes.ts';
import { IOCTL_DATA, REPLY_BODY, type ReplyEncoder } from '../abi/reply-encoder.ts';
import type { Request } from '../abi/request.ts';
import { fuse_file_lock } from '../abi/structs.ts';
import { clampedLength, lockOffset } from '../abi/words.ts';
import { type LockOwners, NO_OWNER } from './lock-owners.ts';
import type { Agreement } from './options.ts';
import type { PendingReply } from './reply.ts';

/** What an operation works with: the filesystem, what was agreed on, memory. */
export interface OperationContext {
  readonly fs: FileSystem;
  readonly agreement: Agreement;
  readonly dirents: DirentWriter;
  /** A buffer of at least so many bytes for an answer; given back by release(). */
  takeBuffer(bytes: number): Uint8Array;
  releaseBuffer(buffer: Uint8Array): void;
  /** The buffer that the request is in stays as it is until the answer is there. */
  keepRequest(): void;
  readonly owners: LockOwners;
}

/**
 * Serves one request. What it needs of `request` it takes before it returns: the message is overwritten afterwards.
 *
 * Errors: those of the filesystem; what is thrown before the answer is the answer.
 */
export type Handler = (context: OperationContext, request: Request, caller: Caller, reply: PendingReply) => MaybePromise<unknown>;

/** The name of a request in a directory. Errors: ENAMETOOLONG, since the kernel lets longer ones through. */
function name({ fs }: OperationContext, request: Request): string {
  checkName(fs, request.nameEnd - request.nameStart);
  return nameOf(request.bytes, request.nameStart, request.nameEnd);
}

function name2({ fs }: OperationContext, request: Request): string {
  checkName(fs, request.name2End - request.name2Start);
  return nameOf(request.bytes, request.name2Start, request.name2End);
}

function checkName(fs: FileSystem, length: number): void {
  if (length > fs.nameMax) throw new FsError('ENAMETOOLONG', 'lookup', { detail: `${length} bytes` });
}

/** The first name, where it is one of an attribute: those have a limit of their own, which the kernel keeps. */
function attributeName(request: Request): string {
  return nameOf(request.bytes, request.nameStart, request.nameEnd);
}

/** The second name, where it is the target of a link. */
function target(request: Request): string {
  return nameOf(request.bytes, request.name2Start, request.name2End);
}

/** Sends what hands something over: a lookup, an open file. What does not arrive is taken back. */
function handOver(
  reply: PendingReply,
  encode: (encoder: ReplyEncoder) => number,
  takeBack: () => MaybePromise<unknown>,
): MaybePromise<unknown> {
  try {
    return reply.send(encode) ? undefined : takeBack();
  } catch (error) {
    return then(takeBack(), () => {
      throw error;
    });
  }
}

/** A name and its inode: the lookup is the kernel's from here on. */
function answerEntry({ fs }: OperationContext, reply: PendingReply, entry: MaybePromise<Entry>): MaybePromise<unknown> {
  return then(entry, (made) =>
    handOver(
      reply,
      (encoder) => encoder.entry(made),
      () => fs.forget(made.node, 1),
    ),
  );
}

/** A new file, open. */
function answerCreate({ fs }: OperationContext, reply: PendingReply, created: MaybePromise<CreateReply>): MaybePromise<unknown> {
  return then(created, ({ entry, fh }) =>
    handOver(
      reply,
      (encoder) => encoder.create(entry, 0, fh, fopen(entry.io.mode)),
      () => {
        fs.forget(entry.node, 1);
        return fs.release(entry.node, fh);
      },
    ),
  );
}

function answerAttr({ fs }: OperationContext, reply: PendingReply, attr: MaybePromise<Attr>): MaybePromise<unknown> {
  return then(attr, (got) => reply.send((encoder) => encoder.attr(got, fs.attrValidMs)));
}

function answerEmpty(reply: PendingReply, done: MaybePromise<unknown>): MaybePromise<unknown> {
  return then(done, () => reply.empty());
}

/** Bytes for one who said how much room he has; 0 asks for their number. */
function answerSized(context: OperationContext, reply: PendingReply, room: number, value: Uint8Array): boolean {
  if (room === 0) return reply.send((encoder) => encoder.xattrSize(value.length));
  if (value.length > room) throw new FsError('ERANGE', 'getxattr');
  const bytes = context.takeBuffer(REPLY_BODY + value.length);
  try {
    bytes.set(value, REPLY_BODY);
    return reply.send((encoder) => encoder.data(value.length), bytes);
  } finally {
    context.releaseBuffer(bytes);
  }
}

/** O_* of the kernel, without what is not the filesystem's: creation is done, truncation comes by itself, the kernel knows where appends go. */
function openFlags(context: OperationContext, flags: number): number {
  let asked = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | 0x20);
  if (init.hasInitFlag(context.agreement.flags, init.FUSE_WRITEBACK_CACHE)) {
    // Pages that are written in part are read first, by the handle of the writer.
    asked &= ~O_APPEND;
    if ((asked & O_ACCMODE) === O_WRONLY) asked = (asked & ~O_ACCMODE) | O_RDWR;
  }
  return asked;
}

/** FOPEN_* for a file: what the kernel has cached of it stays true. */
function fopen(entryIo: string): number {
  return entryIo === 'direct' ? flag.FOPEN_DIRECT_IO : flag.FOPEN_KEEP_CACHE;
}

function changesOf(request: Request): AttrChanges {
  const { setattr_in: asked } = request;
  const { valid } = asked;
  const changes: AttrChanges = {};
  if ((valid & flag.FATTR_MODE) !== 0) changes.mode = asked.mode & 0o7777;
  if ((valid & flag.FATTR_UID) !== 0) changes.uid = asked.uid;
  if ((valid & flag.FATTR_GID) !== 0) changes.gid = asked.gid;
  if ((valid & flag.FATTR_SIZE) !== 0) changes.size = asked.size;
  if ((valid & flag.FATTR_ATIME_NOW) !== 0) changes.atime = 'now';
  else if ((valid & flag.FATTR_ATIME) !== 0) changes.atime = { sec: asked.atime, nsec: asked.atimensec };
  if ((valid & flag.FATTR_MTIME_NOW) !== 0) changes.mtime = 'now';
  else if ((valid & flag.FATTR_MTIME) !== 0) changes.mtime = { sec: asked.mtime, nsec: asked.mtimensec };
  if ((valid & flag.FATTR_CTIME) !== 0) changes.ctime = { sec: asked.ctime, nsec: asked.ctimensec };
  if ((valid & flag.FATTR_KILL_SUIDGID) !== 0) changes.killSuidgid = true;
  return changes;
}

/** Takes set-id bits off before others than root change content in ways for which the kernel has no flag to say so. */
function killSetId(fs: FileSystem, caller: Caller, node: number, fh: number): MaybePromise<unknown> {
  if (caller.uid === 0) return;
  return then(fs.getattr(caller, node, fh), (attr) => {
    const changes = killSetIdOf(caller, attr);
    return changes === undefined ? undefined : fs.setattr(caller, node, changes, fh);
  });
}

/** Where a seek begins. Errors: ENXIO for one before the file, which comes as a word past 2^63. */
function seekOffset(request: Request): number {
  try {
    return request.lseek_in.offset;
  } catch {
    throw new FsError('ENXIO', 'lseek');
  }
}

/** Moved from lock to lock. */
const lockView = fuse_file_lock.view();

function lockOf(request: Request, owner: number): FileLock {
  const { lk_in } = request;
  const lock = lockView.at(lk_in.lk, 0);
  return {
    type: lock.type,
    start: lockOffset(lock.start),
    end: lockOffset(lock.end) === Number.POSITIVE_INFINITY ? LOCK_END : lockOffset(lock.end),
    pid: lock.pid,
    owner,
  };
}

function setlk(context: OperationContext, request: Request, caller: Caller, reply: PendingReply, wait: boolean): MaybePromise<unknown> {
  const { fh, lk_flags, owner } = request.lk_in;
  const lock = lockOf(request, context.owners.note(fh, owner));
  const flock = (lk_flags & flag.FUSE_LK_FLOCK) !== 0;
  const set = context.fs.setlk(caller, request.nodeid, fh, lock, { flock, wait });
  if (set instanceof Promise) context.owners.hold(fh, owner, set);
  return answerEmpty(reply, set);
}

function unlockAll(fs: FileSystem, caller: Caller, node: number, fh: number, owner: number): MaybePromise<void> {
  const all: FileLock = { type: F_UNLCK, start: 0, end: LOCK_END, pid: caller.pid, owner };
  return fs.setlk(caller, node, fh, all, { flock: false, wait: false });
}

function rename(
  context: OperationContext,
  request: Request,
  caller: Caller,
  reply: PendingReply,
  newdir: number,
  flags: number,
): MaybePromise<unknown> {
  return answerEmpty(reply, context.fs.rename(caller, request.nodeid, name(context, request), newdir, name2(context, request), flags));
}

function copyFileRange(context: OperationContext, request: Request, caller: Caller, max: number): MaybePromise<number> {
  const { copy_file_range_in: asked } = request;
  const length = Math.min(clampedLength(asked.len), max);
  return context.fs.copyFileRange(
    caller,
    request.nodeid,
    asked.fh_in,
    asked.off_in,
    asked.nodeid_out,
    asked.fh_out,
    asked.off_out,
    length,
    0,
  );
}

/** '.' and '..' come first, at the positions 1 and 2; those of the filesystem follow. */
const DOTS = ['.', '..'];
const DOT_BYTES = DOTS.map((dot) => nameBytes(dot));
/** Bytes of a record with a short name: what is asked of the filesystem at once fits, more or less. */
const DIRENT_GUESS = 40;
const DIRENTPLUS_GUESS = 176;

function readdir(context: OperationContext, request: Request, caller: Caller, reply: PendingReply, plus: boolean): MaybePromise<unknown> {
  const { nodeid } = request;
  const { fh, offset, size } = request.read_in;
  checkRoom(context, size);
  const count = Math.max(1, Math.floor(size / (plus ? DIRENTPLUS_GUESS : DIRENT_GUESS)));
  return then(context.fs.readdir(caller, nodeid, fh, Math.max(0, offset - DOTS.length), count, plus), (entries) => {
    const bytes = context.takeBuffer(REPLY_BODY + size);
    let shown = 0;
    try {
      const packed = packEntries(context, bytes, size, nodeid, offset, entries, plus);
      if (reply.send((encoder) => encoder.data(context.dirents.length), bytes)) shown = packed;
    } finally {
      // What did not fit, or did not arrive, was not looked up.
      for (const { entry } of entries.slice(shown)) if (entry !== undefined) context.fs.forget(entry.node, 1);
      context.releaseBuffer(bytes);
    }
  });
}

/** Errors: EINVAL for more than a kernel asks for at once. */
function checkRoom({ agreement }: OperationContext, size: number): void {
  if (size > agreement.maxAnswer) throw new FsError('EINVAL', 'read', { detail: `${size} bytes, at most ${agreement.maxAnswer}` });
}

/**
 * Packs names as long as they fit.
 *
 * Shape:  how many of `entries`.
 * Errors: EINVAL where not even one name fits: an answer without names would be the end of the directory.
 */
function packEntries(
  { fs, dirents }: OperationContext,
  bytes: Uint8Array,
  size: number,
  nodeid: number,
  offset: number,
  entries: readonly DirEntry[],
  plus: boolean,
): number {
  dirents.begin(bytes, REPLY_BODY, size);
  for (let dot = offset; dot < DOTS.length; dot++) {
    const ino = dot === 0 ? nodeid : fs.root;
    const dotName = DOT_BYTES[dot] as Uint8Array;
    const fits = plus ? dirents.tryAddPlus(undefined, 0, ino, dot + 1, S_IFDIR, dotName) : dirents.tryAdd(ino, dot + 1, S_IFDIR, dotName);
    if (!fits && dot === offset) throw tooSmall(size);
    if (!fits) return 0;
  }
  let shown = 0;
  for (const { name: text, ino, next, type, entry } of entries) {
    const position = next + DOTS.length;
    const fits = plus
      ? dirents.tryAddPlus(entry, 0, ino, position, type, nameBytes(text))
      : dirents.tryAdd(ino, position, type, nameBytes(text));
    if (!fits) break;
    shown++;
  }
  if (dirents.length === 0 && entries.length > 0) throw tooSmall(size);
  return shown;
}

function tooSmall(size: number): FsError {
  return new FsError('EINVAL', 'readdir', { detail: `no name fits into ${size} bytes` });
}

function open(context: OperationContext, request: Request, caller: Caller, reply: PendingReply): MaybePromise<unknown> {
  const { fs } = context;
  const { nodeid } = request;
  const { flags, open_flags } = request.open_in;
  const truncates = (flags & O_TRUNC) !== 0;
  const kills = (open_flags & flag.FUSE_OPEN_KILL_SUIDGID) !== 0;
  return then(fs.open(caller, nodeid, openFlags(context, flags)), ({ fh }) => {
    const answer = (): MaybePromise<unknown> => {
      return handOver(
        reply,
        (encoder) => encoder.open(fh, fopen('iomap')),
        () => fs.release(nodeid, fh),
      );
    };
    if (!truncates) return answer();
    const changes: AttrChanges = { size: 0, mtime: 'now', ...(kills ? { killSuidgid: true } : {}) };
    const undo = (error: unknown): MaybePromise<never> => {
      return then(fs.release(nodeid, fh), () => {
        throw error;
      });
    };
    let truncated: MaybePromise<Attr>;
    try {
      truncated = fs.setattr(caller, nodeid, changes, fh);
    } catch (error) {
      return undo(error);
    }
    return truncated instanceof Promise ? truncated.then(answer, undo) : answer();
  });
}

function write(context: OperationContext, request: Request, caller: Caller, reply: PendingReply): MaybePromise<unknown> {
  const { fh, offset, write_flags, flags } = request.write_in;
  const isWriteback = (write_flags & flag.FUSE_WRITE_CACHE) !== 0;
  let rwf = (write_flags & flag.FUSE_WRITE_KILL_SUIDGID) !== 0 ? RW_KILL_SUIDGID : 0;
  if (!isWriteback && (flags & O_SYNC) === O_SYNC) rwf |= RWF_SYNC | RWF_DSYNC;
  else if (!isWriteback && (flags & O_DSYNC) !== 0) rwf |= RWF_DSYNC;
  const source = new IovIter(request.bytes.subarray(request.dataStart, request.dataEnd));
  const written = context.fs.write(caller, request.nodeid, fh, { pos: offset, flags: rwf, signal: caller.signal }, source);
  if (written instanceof Promise) context.keepRequest();
  return then(written, (count) => reply.send((encoder) => encoder.write(count)));
}

function read(context: OperationContext, request: Request, caller: Caller, reply: PendingReply): MaybePromise<unknown> {
  const { fh, offset, size } = request.read_in;
  checkRoom(context, size);
  const bytes = context.takeBuffer(REPLY_BODY + size);
  const into = bytes.subarray(REPLY_BODY, REPLY_BODY + size);
  const finish = (count: number): void => {
    try {
      reply.send((encoder) => encoder.data(count), bytes);
    } finally {
      context.releaseBuffer(bytes);
    }
  };
  let count: MaybePromise<number>;
  try {
    count = context.fs.read(caller, request.nodeid, fh, { pos: offset, flags: 0, signal: caller.signal }, into);
  } catch (error) {
    context.releaseBuffer(bytes);
    throw error;
  }
  if (!(count instanceof Promise)) return finish(count);
  return count.then(finish, (error: unknown) => {
    context.releaseBuffer(bytes);
    throw error;
  });
}

/** One row for each operation that is served. What has no row is answered with ENOSYS, which the kernel knows what to make of. */
export const HANDLERS: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [
    op.FUSE_LOOKUP,
    (context, request, caller, reply) =>
      then(context.fs.lookup(caller, request.nodeid, name(context, request)), (entry) => {
        if (entry === undefined) return reply.fail(new FsError('ENOENT', 'lookup'));
        return answerEntry(context, reply, entry);
      }),
  ],
  [
    op.FUSE_GETATTR,
    (context, request, caller, reply) => {
      const { getattr_flags, fh } = request.getattr_in;
      return answerAttr(
        context,
        reply,
        context.fs.getattr(caller, request.nodeid, (getattr_flags & flag.FUSE_GETATTR_FH) !== 0 ? fh : undefined),
      );
    },
  ],
  [
    op.FUSE_SETATTR,
    (context, request, caller, reply) => {
      const { valid, fh } = request.setattr_in;
      const changes = changesOf(request);
      const handle = (valid & flag.FATTR_FH) !== 0 ? fh : undefined;
      if (Object.keys(changes).length === 0) return answerAttr(context, reply, context.fs.getattr(caller, request.nodeid, handle));
      return answerAttr(context, reply, context.fs.setattr(caller, request.nodeid, changes, handle));
    },
  ],
  [
    op.FUSE_STATX,
    ({ fs }, request, caller, reply) => {
      const { getattr_flags, fh } = request.statx_in;
      const attr = fs.getattr(caller, request.nodeid, (getattr_flags & flag.FUSE_GETATTR_FH) !== 0 ? fh : undefined);
      return then(attr, (got) => reply.send((encoder) => encoder.statx(got, fs.attrValidMs, STATX_ALL)));
    },
  ],
  [
    op.FUSE_READLINK,
    (context, request, caller, reply) =>
      then(context.fs.readlink(caller, request.nodeid), (target) => {
        const value = nameBytes(target);
        const bytes = context.takeBuffer(REPLY_BODY + value.length);
        bytes.set(value, REPLY_BODY);
        reply.send((encoder) => encoder.data(value.length), bytes);
        context.releaseBuffer(bytes);
      }),
  ],
  [
    op.FUSE_SYMLINK,
    (context, request, caller, reply) =>
      answerEntry(context, reply, context.fs.symlink(caller, request.nodeid, name(context, request), target(request))),
  ],
  [
    op.FUSE_MKNOD,
    (context, request, caller, reply) => {
      const { mode, rdev, umask } = request.mknod_in;
      const device = makedev((rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00));
      return answerEntry(context, reply, context.fs.mknod({ ...caller, umask }, request.nodeid, name(context, request), mode, device));
    },
  ],
  [
    op.FUSE_MKDIR,
    (context, request, caller, reply) => {
      const { mode, umask } = request.mkdir_in;
      return answerEntry(context, reply, context.fs.mkdir({ ...caller, umask }, request.nodeid, name(context, request), mode & 0o1777));
    },
  ],
  [
    op.FUSE_UNLINK,
    (context, request, caller, reply) => answerEmpty(reply, context.fs.unlink(caller, request.nodeid, name(context, request))),
  ],
  [
    op.FUSE_RMDIR,
    (context, request, caller, reply) => answerEmpty(reply, context.fs.rmdir(caller, request.nodeid, name(context, request))),
  ],
  [op.FUSE_RENAME, (context, request, caller, reply) => rename(context, request, caller, reply, request.rename_in.newdir, 0)],
  [
    op.FUSE_RENAME2,
    (context, request, caller, reply) => rename(context, request, caller, reply, request.rename2_in.newdir, request.rename2_in.flags),
  ],
  [
    op.FUSE_LINK,
    (context, request, caller, reply) =>
      answerEntry(context, reply, context.fs.link(caller, request.link_in.oldnodeid, request.nodeid, name(context, request))),
  ],
  [op.FUSE_OPEN, open],
  [
    op.FUSE_CREATE,
    (context, request, caller, reply) => {
      const { fs } = context;
      const { flags, mode, umask } = request.create_in;
      const created = fs.create({ ...caller, umask }, request.nodeid, name(context, request), mode & 0o7777, openFlags(context, flags));
      return answerCreate(context, reply, created);
    },
  ],
  [
    op.FUSE_TMPFILE,
    (context, request, caller, reply) => {
      const { fs } = context;
      const { flags, mode, umask } = request.create_in;
      const made = fs.tmpfile({ ...caller, umask }, request.nodeid, mode & 0o7777, openFlags(context, flags) | (flags & O_EXCL));
      return answerCreate(context, reply, made);
    },
  ],
  [op.FUSE_READ, read],
  [op.FUSE_WRITE, write],
  [
    op.FUSE_FLUSH,
    (context, request, caller, reply) => {
      const { fs, owners } = context;
      const { nodeid } = request;
      const { fh, lock_owner } = request.flush_in;
      const owner = owners.find(lock_owner);
      return then(fs.flush(caller, nodeid, fh, owner), () => {
        owners.drop(fh, lock_owner);
        return answerEmpty(reply, owner === NO_OWNER ? undefined : unlockAll(fs, caller, nodeid, fh, owner));
      });
    },
  ],
  [
    op.FUSE_RELEASE,
    (context, request, caller, reply) => {
      const { fs, owners } = context;
      const { nodeid } = request;
      const { fh, release_flags, lock_owner } = request.release_in;
      const endsFlock = (release_flags & flag.FUSE_RELEASE_FLOCK_UNLOCK) !== 0;
      const flockOwner = endsFlock ? owners.find(lock_owner) : undefined;
      // Locks of open files end with them, and the kernel does not say so. Those of processes were taken back by FLUSH.
      const unlocks = owners.take(fh).map((owner) => unlockAll(fs, caller, nodeid, fh, owner));
      const unlocked: MaybePromise<unknown> = unlocks.some((each) => each instanceof Promise) ? Promise.all(unlocks) : undefined;
      return answerEmpty(
        reply,
        then(unlocked, () => fs.release(nodeid, fh, flockOwner)),
      );
    },
  ],
  [
    op.FUSE_FSYNC,
    ({ fs }, request, caller, reply) => {
      const { fh, fsync_flags } = request.fsync_in;
      return answerEmpty(reply, fs.fsync(caller, request.nodeid, fh, (fsync_flags & flag.FUSE_FSYNC_FDATASYNC) !== 0));
    },
  ],
  [
    op.FUSE_OPENDIR,
    ({ fs }, request, caller, reply) => {
      const { nodeid } = request;
      return then(fs.opendir(caller, nodeid, request.open_in.flags), ({ fh }) =>
        handOver(
          reply,
          (encoder) => encoder.open(fh, flag.FOPEN_KEEP_CACHE | flag.FOPEN_CACHE_DIR),
          () => fs.releasedir(nodeid, fh),
        ),
      );
    },
  ],
  [op.FUSE_READDIR, (context, request, caller, reply) => readdir(context, request, caller, reply, false)],
  [op.FUSE_READDIRPLUS, (context, request, caller, reply) => readdir(context, request, caller, reply, true)],
  [op.FUSE_RELEASEDIR, ({ fs }, request, _caller, reply) => answerEmpty(reply, fs.releasedir(request.nodeid, request.release_in.fh))],
  [
    op.FUSE_FSYNCDIR,
    ({ fs }, request, caller, reply) => {
      const { fh, fsync_flags } = request.fsync_in;
      return answerEmpty(reply, fs.fsyncdir(caller, request.nodeid, fh, (fsync_flags & flag.FUSE_FSYNC_FDATASYNC) !== 0));
    },
  ],
  [
    op.FUSE_GETXATTR,
    (context, request, caller, reply) => {
      const { size } = request.getxattr_in;
      return then(context.fs.getxattr(caller, request.nodeid, attributeName(request)), (value) => {
        if (value === undefined) throw new FsError('ENODATA', 'getxattr');
        return answerSized(context, reply, size, value);
      });
    },
  ],
  [
    op.FUSE_SETXATTR,
    ({ fs }, request, caller, reply) => {
      const value = request.bytes.slice(request.dataStart, request.dataEnd);
      return answerEmpty(reply, fs.setxattr(caller, request.nodeid, attributeName(request), value, request.setxattr_in.flags));
    },
  ],
  [
    op.FUSE_LISTXATTR,
    (context, request, caller, reply) => {
      const { size } = request.getxattr_in;
      return then(context.fs.listxattr(caller, request.nodeid), (names) => answerSized(context, reply, size, namesOf(names)));
    },
  ],
  [
    op.FUSE_REMOVEXATTR,
    ({ fs }, request, caller, reply) => answerEmpty(reply, fs.removexattr(caller, request.nodeid, attributeName(request))),
  ],
  [op.FUSE_ACCESS, ({ fs }, request, caller, reply) => answerEmpty(reply, fs.access(caller, request.nodeid, request.access_in.mask))],
  [
    op.FUSE_STATFS,
    ({ fs }, request, caller, reply) => then(fs.statfs(caller, request.nodeid), (st) => reply.send((encoder) => encoder.statfs(st))),
  ],
  [op.FUSE_SYNCFS, ({ fs }, _request, caller, reply) => answerEmpty(reply, fs.syncfs(caller))],
  [
    op.FUSE_GETLK,
    (context, request, caller, reply) => {
      const lock = lockOf(request, context.owners.find(request.lk_in.owner));
      return then(context.fs.getlk(caller, request.nodeid, request.lk_in.fh, lock), (found) =>
        reply.send((encoder) => encoder.lock(found ?? { ...lock, type: F_UNLCK, pid: 0 })),
      );
    },
  ],
  [op.FUSE_SETLK, (context, request, caller, reply) => setlk(context, request, caller, reply, false)],
  [op.FUSE_SETLKW, (context, request, caller, reply) => setlk(context, request, caller, reply, true)],
  [
    op.FUSE_LSEEK,
    ({ fs }, request, caller, reply) => {
      const { fh, whence } = request.lseek_in;
      return then(fs.lseek(caller, request.nodeid, fh, seekOffset(request), whence), (found) =>
        reply.send((encoder) => encoder.lseek(found)),
      );
    },
  ],
  [
    op.FUSE_FALLOCATE,
    ({ fs }, request, caller, reply) => {
      const { fh, offset, length, mode } = request.fallocate_in;
      const { nodeid } = request;
      return answerEmpty(
        reply,
        then(killSetId(fs, caller, nodeid, fh), () => fs.fallocate(caller, nodeid, fh, mode, offset, length)),
      );
    },
  ],
  [
    op.FUSE_COPY_FILE_RANGE,
    (context, request, caller, reply) =>
      then(copyFileRange(context, request, caller, COPY_MAX), (count) => reply.send((encoder) => encoder.write(count))),
  ],
  [
    op.FUSE_COPY_FILE_RANGE_64,
    (context, request, caller, reply) =>
      then(copyFileRange(context, request, caller, Number.MAX_SAFE_INTEGER), (count) => reply.send((encoder) => encoder.copied(count))),
  ],
  [
    op.FUSE_IOCTL,
    (context, request, caller, reply) => {
      const { fh, cmd, out_size } = request.ioctl_in;
      const arg = request.bytes.slice(request.dataStart, request.dataEnd);
      return then(context.fs.ioctl(caller, request.nodeid, fh, cmd, arg, out_size), ({ result, data }) => {
        if (data.length > out_size) throw new FsError('EIO', 'ioctl', { detail: `${data.length} bytes for a room of ${out_size}` });
        const bytes = context.takeBuffer(IOCTL_DATA + data.length);
        bytes.set(data, IOCTL_DATA);
        reply.send((encoder) => encoder.ioctl(result, data.length), bytes);
        context.releaseBuffer(bytes);
      });
    },
  ],
  [
    op.FUSE_POLL,
    ({ fs }, request, caller, reply) => {
      const { fh, events } = request.poll_in;
      return then(fs.poll(caller, request.nodeid, fh, events), (revents) => reply.send((encoder) => encoder.poll(revents)));
    },
  ],
]);

/** STATX_BASIC_STATS and STATX_BTIME. Source: Linux include/uapi/linux/stat.h */
const STATX_ALL = 0xfff;
/** Bytes that one COPY_FILE_RANGE copies at most: its answer has 32 bits, and nothing else should have to wait for long. */
const COPY_MAX = 2 ** 30;

/** Names with a NUL behind each. */
function namesOf(names: readonly string[]): Uint8Array {
  const pieces = names.map((each) => nameBytes(each));
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length + 1, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length + 1;
  }
  return out;
}
