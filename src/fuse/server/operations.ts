import { ERRNO } from '../../base/errno.ts';
import { FsError, hasCode } from '../../base/fs-error.ts';
import { IovIter } from '../../base/iov-iter.ts';
import { type MaybePromise, run, type Task, then, wait } from '../../base/task.ts';
import type { Attr, AttrChanges, DirEntry, Entry, FileLock } from '../../vfs/attr.ts';
import { makedev } from '../../vfs/attr.ts';
import type { Caller } from '../../vfs/caller.ts';
import type { CreateReply, FileSystem, OpenTraits } from '../../vfs/file-system.ts';
import { nameBytes, nameOf } from '../../vfs/name.ts';
import { killSetId as killSetIdOf } from '../../vfs/permission.ts';
import { XATTR_NAME_POSIX_ACL_ACCESS } from '../../vfs/posix-acl.ts';
import {
  F_UNLCK,
  LOCK_END,
  O_ACCMODE,
  O_CREAT,
  O_DSYNC,
  O_EXCL,
  O_NOCTTY,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
  RENAME_EXCHANGE,
  RW_KILL_SUIDGID,
  RWF_DSYNC,
  RWF_NOAPPEND,
  RWF_SYNC,
  S_IFDIR,
  S_ISGID,
} from '../../vfs/uapi.ts';
import type { DirentWriter } from '../abi/dirents.ts';
import * as flag from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import * as op from '../abi/opcodes.ts';
import { IOCTL_DATA, REPLY_BODY, type ReplyEncoder } from '../abi/reply-encoder.ts';
import type { Request } from '../abi/request.ts';
import { fuse_file_lock } from '../abi/structs.ts';
import { clampedLength, lockOffset } from '../abi/words.ts';
import type { IoModes } from './io-modes.ts';
import type { KeptWrites } from './kept-writes.ts';
import { type LockOwners, NO_OWNER } from './lock-owners.ts';
import type { NodeTable } from './node-table.ts';
import type { Agreement, ServerOptions } from './options.ts';
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
  readonly options: ServerOptions;
  /** What the kernel has looked up, as far as the server has to know it. */
  readonly nodes: NodeTable;
  readonly modes: IoModes;
  readonly kept: KeptWrites;
  /** Wakes those who poll with a handle of the kernel's. */
  wakePoll(kh: number): void;
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

/** A name and its inode: the lookup is the kernel's from here on. `found`: where, unless it has no name here. */
function answerEntry(
  context: OperationContext,
  reply: PendingReply,
  entry: MaybePromise<Entry>,
  parent: number,
  found: string | undefined,
): MaybePromise<unknown> {
  return then(entry, (made) => {
    checkEntry(context, made);
    context.nodes.note(made, parent, found);
    return handOver(
      reply,
      (encoder) => encoder.entry(made),
      () => forget(context, made.node),
    );
  });
}

/** Takes back a lookup that the kernel was to have. */
function forget({ fs, nodes, modes }: OperationContext, node: number): void {
  const last = nodes.forget(node, 1);
  if (last !== undefined) modes.forgotten(last);
  fs.forget(node, 1);
}

/** Errors: EIO for an inode whose data is to be served in another way than so far; its lookup is taken back. */
function checkEntry({ fs, modes }: OperationContext, entry: Entry): void {
  try {
    modes.checkEntry(entry);
  } catch (error) {
    fs.forget(entry.node, 1);
    throw error;
  }
}

/** A new file, open. `found`: its name, if it has one. `opened`: O_*, as the kernel has them. */
function answerCreate(
  context: OperationContext,
  reply: PendingReply,
  created: MaybePromise<CreateReply>,
  parent: number,
  found: string | undefined,
  opened: number,
): MaybePromise<unknown> {
  const { fs, nodes, kept } = context;
  return then(created, ({ entry, fh, traits }) => {
    const close = (): MaybePromise<unknown> => {
      kept.closed(entry.node, opened);
      forget(context, entry.node);
      return fs.release(entry.node, fh);
    };
    const answer = (flags: number): MaybePromise<unknown> => {
      const backing = backingOf(context, entry.node, flags);
      return handOver(reply, (encoder) => encoder.create(entry, 0, fh, flags, backing), close);
    };
    try {
      checkEntry(context, entry);
    } catch (error) {
      return undone(fs.release(entry.node, fh), error);
    }
    nodes.note(entry, parent, found);
    kept.opened(entry.node, opened);
    return withOpenFlags(context, entry.node, traits, answer, close);
  });
}

/** Goes on with FOPEN_* for an open file, which is closed where it cannot be served. */
function withOpenFlags(
  { modes }: OperationContext,
  node: number,
  traits: OpenTraits | undefined,
  next: (flags: number) => MaybePromise<unknown>,
  close: () => MaybePromise<unknown>,
): MaybePromise<unknown> {
  let flags: MaybePromise<number>;
  try {
    flags = modes.openFlags(node, traits);
  } catch (error) {
    return undone(close(), error);
  }
  return flags instanceof Promise ? flags.then(next, (error: unknown) => undone(close(), error)) : next(flags);
}

/** Throws `error` once what it left behind is taken back. */
function undone(takenBack: MaybePromise<unknown>, error: unknown): MaybePromise<never> {
  return then(takenBack, () => {
    throw error;
  });
}

/** The number that goes with FOPEN_PASSTHROUGH. */
function backingOf({ nodes }: OperationContext, node: number, openFlags: number): number {
  return (openFlags & flag.FOPEN_PASSTHROUGH) === 0 ? 0 : (nodes.get(node)?.backing ?? 0);
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

/** The kernel keeps what is written, and hands it down when it likes. */
function hasWriteback({ agreement }: OperationContext): boolean {
  return init.hasInitFlag(agreement.flags, init.FUSE_WRITEBACK_CACHE);
}

/** O_* of the kernel, without what is not the filesystem's: creation is done, truncation comes by itself. */
function openFlags(context: OperationContext, flags: number): number {
  let asked = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | 0x20);
  if (hasWriteback(context)) {
    // Pages that are written in part are read first, by the handle of the writer.
    if ((asked & O_ACCMODE) === O_WRONLY) asked = (asked & ~O_ACCMODE) | O_RDWR;
  }
  return asked;
}

/** Where a file would end. Errors: EFBIG past 2^53 - 1, which no file here reaches. */
function fileEnd(asked: () => number, syscall: string): number {
  try {
    return asked();
  } catch (error) {
    throw hasCode(error, 'EOVERFLOW') ? new FsError('EFBIG', syscall, { cause: error }) : error;
  }
}

function changesOf(request: Request): AttrChanges {
  const { setattr_in: asked } = request;
  const { valid } = asked;
  const changes: AttrChanges = {};
  if ((valid & flag.FATTR_MODE) !== 0) changes.mode = asked.mode & 0o7777;
  if ((valid & flag.FATTR_UID) !== 0) changes.uid = asked.uid;
  if ((valid & flag.FATTR_GID) !== 0) changes.gid = asked.gid;
  if ((valid & flag.FATTR_SIZE) !== 0) changes.size = fileEnd(() => asked.size, 'truncate');
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

/** Takes S_ISGID off, as one who is not in the group of the file may not leave it on when he sets its ACL. */
function killSgid(fs: FileSystem, caller: Caller, node: number): MaybePromise<unknown> {
  return then(fs.getattr(caller, node), ({ mode }) =>
    (mode & S_ISGID) === 0 ? undefined : fs.setattr(caller, node, { mode: mode & 0o7777 & ~S_ISGID }),
  );
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
  const { fs, nodes } = context;
  const { nodeid } = request;
  const [from, to] = [name(context, request), name2(context, request)];
  return then(fs.rename(caller, nodeid, from, newdir, to, flags), () => {
    nodes.moved(nodeid, from, newdir, to, (flags & RENAME_EXCHANGE) !== 0);
    return reply.empty();
  });
}

function remove(
  { nodes }: OperationContext,
  reply: PendingReply,
  parent: number,
  gone: string,
  removed: MaybePromise<void>,
): MaybePromise<unknown> {
  return then(removed, () => {
    nodes.removed(parent, gone);
    return reply.empty();
  });
}

function copyFileRange(context: OperationContext, request: Request, caller: Caller, max: number): MaybePromise<number> {
  const { fs } = context;
  const { nodeid } = request;
  const { len, fh_in, off_in, nodeid_out, fh_out, off_out } = request.copy_file_range_in;
  const length = Math.min(clampedLength(len), max);
  return then(killSetId(fs, caller, nodeid_out, fh_out), () =>
    fs.copyFileRange(caller, nodeid, fh_in, off_in, nodeid_out, fh_out, off_out, length, 0),
  );
}

/** '.' and '..' come first, at the positions 1 and 2; those of the filesystem follow. */
const DOTS = ['.', '..'];
const DOT_BYTES = DOTS.map((dot) => nameBytes(dot));
/** Bytes of a record with a short name: what is asked of the filesystem at once fits, more or less. */
const DIRENT_GUESS = 40;
const DIRENTPLUS_GUESS = 176;

/** Number of an inode that is not known. Source: libfuse, FUSE_UNKNOWN_INO. */
const UNKNOWN_INO = 0xffffffff;

function readdir(context: OperationContext, request: Request, caller: Caller, reply: PendingReply, plus: boolean): MaybePromise<unknown> {
  const { fs, nodes } = context;
  const { nodeid } = request;
  const { fh, offset, size } = request.read_in;
  checkRoom(context, size);
  const count = Math.max(1, Math.floor(size / (plus ? DIRENTPLUS_GUESS : DIRENT_GUESS)));
  const answer = (entries: readonly DirEntry[], dots: Dots): void => {
    const bytes = context.takeBuffer(REPLY_BODY + size);
    let shown = 0;
    try {
      const packed = packEntries(context, bytes, size, dots, offset, entries, plus);
      if (reply.send((encoder) => encoder.data(context.dirents.length), bytes)) shown = packed;
    } finally {
      for (const [index, { name: text, entry }] of entries.entries()) {
        if (entry === undefined) continue;
        if (index < shown && nodes.agrees(entry)) nodes.note(entry, nodeid, text);
        // What did not fit, or did not arrive, was not looked up.
        else fs.forget(entry.node, 1);
      }
      context.releaseBuffer(bytes);
    }
  };
  return then(fs.readdir(caller, nodeid, fh, Math.max(0, offset - DOTS.length), count, plus), (entries) =>
    offset >= DOTS.length ? answer(entries, NO_DOTS) : then(dotsOf(context, caller, nodeid), (dots) => answer(entries, dots)),
  );
}

/** Inode numbers of '.' and '..'. */
interface Dots {
  readonly own: number;
  readonly parent: number;
}

const NO_DOTS: Dots = { own: 0, parent: 0 };

function dotsOf({ fs, nodes }: OperationContext, caller: Caller, node: number): MaybePromise<Dots> {
  return then(fs.getattr(caller, node), ({ ino: own }) => {
    if (node === fs.root) return { own, parent: own };
    const above = nodes.get(node);
    if (above?.name !== undefined) return then(fs.getattr(caller, above.parent), ({ ino }) => ({ own, parent: ino }));
    if (!fs.isExportable) return { own, parent: UNKNOWN_INO };
    return then(fs.parentOf(caller, node), ({ node: found, attr }) => {
      fs.forget(found, 1);
      return { own, parent: attr.ino };
    });
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
  { nodes, dirents }: OperationContext,
  bytes: Uint8Array,
  size: number,
  dots: Dots,
  offset: number,
  entries: readonly DirEntry[],
  plus: boolean,
): number {
  dirents.begin(bytes, REPLY_BODY, size);
  for (let dot = offset; dot < DOTS.length; dot++) {
    const ino = dot === 0 ? dots.own : dots.parent;
    const dotName = DOT_BYTES[dot] as Uint8Array;
    const fits = plus ? dirents.tryAddPlus(undefined, 0, ino, dot + 1, S_IFDIR, dotName) : dirents.tryAdd(ino, dot + 1, S_IFDIR, dotName);
    if (!fits && dot === offset) throw tooSmall(size);
    if (!fits) return 0;
  }
  let shown = 0;
  for (const { name: text, ino, next, type, entry } of entries) {
    const position = next + DOTS.length;
    const fits = plus
      ? dirents.tryAddPlus(entry !== undefined && nodes.agrees(entry) ? entry : undefined, 0, ino, position, type, nameBytes(text))
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
  const { fs, kept } = context;
  const { nodeid } = request;
  const { flags, open_flags } = request.open_in;
  if (context.options.noOpen === true) throw new FsError('ENOSYS', 'open');
  const truncates = (flags & O_TRUNC) !== 0;
  const kills = (open_flags & flag.FUSE_OPEN_KILL_SUIDGID) !== 0;
  return then(fs.open(caller, nodeid, openFlags(context, flags)), ({ fh, traits }) => {
    const close = (): MaybePromise<unknown> => {
      kept.closed(nodeid, flags);
      return fs.release(nodeid, fh);
    };
    kept.opened(nodeid, flags);
    const hand = (fopen: number): MaybePromise<unknown> => {
      const backing = backingOf(context, nodeid, fopen);
      return handOver(reply, (encoder) => encoder.open(fh, fopen, backing), close);
    };
    const answer = (): MaybePromise<unknown> => withOpenFlags(context, nodeid, traits, hand, close);
    if (!truncates) return answer();
    const changes: AttrChanges = { size: 0, mtime: 'now', ...(kills ? { killSuidgid: true } : {}) };
    let truncated: MaybePromise<Attr>;
    try {
      truncated = fs.setattr(caller, nodeid, changes, fh);
    } catch (error) {
      return undone(close(), error);
    }
    return truncated instanceof Promise ? truncated.then(answer, (error: unknown) => undone(close(), error)) : answer();
  });
}

/** The inode itself, or the directory that it is in, for who has a file handle of it and nothing else. Errors: ESTALE. */
function lookupDots(context: OperationContext, request: Request, caller: Caller): MaybePromise<Entry> {
  const { fs, agreement } = context;
  if (!init.hasInitFlag(agreement.flags, init.FUSE_EXPORT_SUPPORT)) throw new FsError('ESTALE', 'lookup');
  return request.nameEnd - request.nameStart === 1 ? fs.iget(caller, request.nodeid) : fs.parentOf(caller, request.nodeid);
}

const DOT = 0x2e;

/** Is the name of a LOOKUP '.' or '..'? */
function isDots({ bytes, nameStart, nameEnd }: Request): boolean {
  return bytes[nameStart] === DOT && (nameEnd === nameStart + 1 || (nameEnd === nameStart + 2 && bytes[nameStart + 1] === DOT));
}

/** A security context of an inode to be made, as the attribute that it becomes. */
interface Label {
  readonly name: string;
  readonly value: Uint8Array;
}

/** Undefined where there are none, which is what most say. */
function labelsOf({ bytes, securityContexts }: Request): readonly Label[] | undefined {
  if (securityContexts.length === 0) return undefined;
  return securityContexts.map(({ name: { start, end }, value }) => ({
    name: nameOf(bytes, start, end),
    value: bytes.slice(value.start, value.end),
  }));
}

/**
 * Gives a new inode its security contexts. What cannot have them stays without (EOPNOTSUPP); where they cannot be set otherwise, `unmake`
 * takes the new name back.
 */
function labelled<T>(
  { fs }: OperationContext,
  caller: Caller,
  labels: readonly Label[] | undefined,
  made: MaybePromise<T>,
  entryOf: (made: T) => Entry,
  unmake: (made: T) => MaybePromise<unknown>,
): MaybePromise<T> {
  if (labels === undefined) return made;
  const label = function* (): Task<T> {
    const done = yield* wait(made);
    try {
      for (const { name: attribute, value } of labels) yield* wait(fs.setxattr(caller, entryOf(done).node, attribute, value, 0));
    } catch (error) {
      if (error instanceof FsError && error.code === 'EOPNOTSUPP') return done;
      yield* wait(unmake(done));
      throw error;
    }
    return done;
  };
  return run(label());
}

/** Answers one of the operations that make a name, with its inode. */
function make(
  context: OperationContext,
  request: Request,
  caller: Caller,
  reply: PendingReply,
  create: (fs: FileSystem, parent: number, name: string) => MaybePromise<Entry>,
  isDir = false,
): MaybePromise<unknown> {
  const { fs } = context;
  const { nodeid } = request;
  const text = name(context, request);
  const labels = labelsOf(request);
  const made = labelled(
    context,
    caller,
    labels,
    create(fs, nodeid, text),
    (entry) => entry,
    ({ node }) => {
      fs.forget(node, 1);
      return isDir ? fs.rmdir(caller, nodeid, text) : fs.unlink(caller, nodeid, text);
    },
  );
  return answerEntry(context, reply, made, nodeid, text);
}

function write(context: OperationContext, request: Request, caller: Caller, reply: PendingReply): MaybePromise<unknown> {
  const { write_in: asked } = request;
  const { fh, write_flags, flags } = asked;
  const offset = fileEnd(() => asked.offset, 'write');
  const isWriteback = (write_flags & flag.FUSE_WRITE_CACHE) !== 0;
  let rwf = (write_flags & flag.FUSE_WRITE_KILL_SUIDGID) !== 0 ? RW_KILL_SUIDGID : 0;
  // A cache that keeps writes knows where appends go, and hands them down in any order.
  if (hasWriteback(context)) rwf |= RWF_NOAPPEND;
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
    (context, request, caller, reply) => {
      const { nodeid } = request;
      if (isDots(request)) return answerEntry(context, reply, lookupDots(context, request, caller), nodeid, undefined);
      const text = name(context, request);
      return then(context.fs.lookup(caller, nodeid, text), (entry) => {
        if (entry === undefined) return reply.error(-ERRNO.ENOENT);
        return answerEntry(context, reply, entry, nodeid, text);
      });
    },
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
    (context, request, caller, reply) => {
      const to = target(request);
      return make(context, request, caller, reply, (fs, parent, text) => fs.symlink(caller, parent, text, to));
    },
  ],
  [
    op.FUSE_MKNOD,
    (context, request, caller, reply) => {
      const { mode, rdev, umask } = request.mknod_in;
      const device = makedev((rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00));
      return make(context, request, caller, reply, (fs, parent, text) => fs.mknod({ ...caller, umask }, parent, text, mode, device));
    },
  ],
  [
    op.FUSE_MKDIR,
    (context, request, caller, reply) => {
      const { mode, umask } = request.mkdir_in;
      return make(context, request, caller, reply, (fs, parent, text) => fs.mkdir({ ...caller, umask }, parent, text, mode & 0o1777), true);
    },
  ],
  [
    op.FUSE_UNLINK,
    (context, request, caller, reply) => {
      const text = name(context, request);
      return remove(context, reply, request.nodeid, text, context.fs.unlink(caller, request.nodeid, text));
    },
  ],
  [
    op.FUSE_RMDIR,
    (context, request, caller, reply) => {
      const text = name(context, request);
      return remove(context, reply, request.nodeid, text, context.fs.rmdir(caller, request.nodeid, text));
    },
  ],
  [op.FUSE_RENAME, (context, request, caller, reply) => rename(context, request, caller, reply, request.rename_in.newdir, 0)],
  [
    op.FUSE_RENAME2,
    (context, request, caller, reply) => rename(context, request, caller, reply, request.rename2_in.newdir, request.rename2_in.flags),
  ],
  [
    op.FUSE_LINK,
    (context, request, caller, reply) => {
      const { nodeid } = request;
      const text = name(context, request);
      return answerEntry(context, reply, context.fs.link(caller, request.link_in.oldnodeid, nodeid, text), nodeid, text);
    },
  ],
  [op.FUSE_OPEN, open],
  [
    op.FUSE_CREATE,
    (context, request, caller, reply) => {
      const { fs } = context;
      const { nodeid } = request;
      const { flags, mode, umask } = request.create_in;
      const text = name(context, request);
      const labels = labelsOf(request);
      const created = fs.create({ ...caller, umask }, nodeid, text, mode & 0o7777, openFlags(context, flags));
      const unmake = ({ entry, fh }: CreateReply): MaybePromise<unknown> => {
        fs.forget(entry.node, 1);
        return then(fs.release(entry.node, fh), () => fs.unlink(caller, nodeid, text));
      };
      const made = labelled(context, caller, labels, created, ({ entry }) => entry, unmake);
      return answerCreate(context, reply, made, nodeid, text, flags);
    },
  ],
  [
    op.FUSE_TMPFILE,
    (context, request, caller, reply) => {
      const { fs } = context;
      const { nodeid } = request;
      const { flags, mode, umask } = request.create_in;
      const labels = labelsOf(request);
      const created = fs.tmpfile({ ...caller, umask }, nodeid, mode & 0o7777, openFlags(context, flags) | (flags & O_EXCL));
      const unmake = ({ entry, fh }: CreateReply): MaybePromise<unknown> => {
        fs.forget(entry.node, 1);
        return fs.release(entry.node, fh);
      };
      const made = labelled(context, caller, labels, created, ({ entry }) => entry, unmake);
      return answerCreate(context, reply, made, nodeid, undefined, flags);
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
      const { fs, owners, kept } = context;
      const { nodeid } = request;
      const { fh, flags, release_flags, lock_owner } = request.release_in;
      kept.closed(nodeid, flags);
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
    ({ fs, modes, options }, request, caller, reply) => {
      const { nodeid } = request;
      if (options.noOpendir === true) throw new FsError('ENOSYS', 'opendir');
      return then(fs.opendir(caller, nodeid, request.open_in.flags), ({ fh, traits }) =>
        handOver(
          reply,
          (encoder) => encoder.open(fh, modes.directoryFlags(traits)),
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
        if (value === undefined) return reply.error(-ERRNO.ENODATA);
        return answerSized(context, reply, size, value);
      });
    },
  ],
  [
    op.FUSE_SETXATTR,
    ({ fs }, request, caller, reply) => {
      const value = request.bytes.slice(request.dataStart, request.dataEnd);
      const { nodeid } = request;
      const { flags, setxattr_flags } = request.setxattr_in;
      const attribute = attributeName(request);
      const killsSgid = (setxattr_flags & flag.FUSE_SETXATTR_ACL_KILL_SGID) !== 0 && attribute === XATTR_NAME_POSIX_ACL_ACCESS;
      const done = fs.setxattr(caller, nodeid, attribute, value, flags);
      return answerEmpty(reply, killsSgid ? then(done, () => killSgid(fs, caller, nodeid)) : done);
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
    (context, request, caller, reply) => {
      const { fs, kept } = context;
      const { nodeid } = request;
      const { fh, whence } = request.lseek_in;
      const pos = seekOffset(request);
      return then(hasWriteback(context) ? kept.flush(nodeid, pos) : undefined, () =>
        then(fs.lseek(caller, nodeid, fh, pos, whence), (found) => reply.send((encoder) => encoder.lseek(found))),
      );
    },
  ],
  [
    op.FUSE_FALLOCATE,
    ({ fs }, request, caller, reply) => {
      const { fallocate_in: asked, nodeid } = request;
      const { fh, mode } = asked;
      const offset = fileEnd(() => asked.offset, 'fallocate');
      const length = fileEnd(() => asked.length, 'fallocate');
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
      const { fh, cmd, out_size, flags } = request.ioctl_in;
      // Pointers of a program of another word size cannot be told from numbers; those of a character device are none of ours.
      if ((flags & (flag.FUSE_IOCTL_COMPAT | flag.FUSE_IOCTL_COMPAT_X32 | flag.FUSE_IOCTL_UNRESTRICTED)) !== 0) {
        throw new FsError('ENOTTY', 'ioctl', { detail: `flags ${flags}` });
      }
      checkRoom(context, out_size);
      const arg = request.bytes.slice(request.dataStart, request.dataEnd);
      return then(context.fs.ioctl(caller, request.nodeid, fh, cmd, arg, out_size), ({ result, data }) => {
        if (data.length > out_size) throw new FsError('EIO', 'ioctl', { detail: `${data.length} bytes for a room of ${out_size}` });
        const bytes = context.takeBuffer(IOCTL_DATA + data.length);
        try {
          bytes.set(data, IOCTL_DATA);
          reply.send((encoder) => encoder.ioctl(result, data.length), bytes);
        } finally {
          context.releaseBuffer(bytes);
        }
      });
    },
  ],
  [
    op.FUSE_POLL,
    (context, request, caller, reply) => {
      const { fh, kh, flags, events } = request.poll_in;
      const wake = (flags & flag.FUSE_POLL_SCHEDULE_NOTIFY) === 0 ? undefined : (): void => context.wakePoll(kh);
      return then(context.fs.poll(caller, request.nodeid, fh, events, wake), (revents) => reply.send((encoder) => encoder.poll(revents)));
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
