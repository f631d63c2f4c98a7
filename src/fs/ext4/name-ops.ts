import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import { majorOf, minorOf, type Timespec } from '../../vfs/attr.ts';
import { type Caller, hasCap } from '../../vfs/caller.ts';
import { nameBytes, nameLength } from '../../vfs/name.ts';
import { inheritOwner } from '../../vfs/permission.ts';
import {
  createAcl,
  formatAcl,
  type NewAcl,
  parseAcl,
  XATTR_NAME_POSIX_ACL_ACCESS,
  XATTR_NAME_POSIX_ACL_DEFAULT,
} from '../../vfs/posix-acl.ts';
import {
  CAP_SYS_RESOURCE,
  isDirectory,
  isSymlink,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../../vfs/uapi.ts';
import { appendFileBlock, initBlockMap } from './block-map.ts';
import { addName, type DirHit, initDir, isEmptyDir, lookupName, parentOf, removeName, replaceName, setParent } from './directory.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { INCOMPAT_EXTENTS, RO_COMPAT_DIR_NLINK } from './features.ts';
import {
  EXT4_APPEND_FL,
  EXT4_CASEFOLD_FL,
  EXT4_COMPR_FL,
  EXT4_DIRSYNC_FL,
  EXT4_EXTENTS_FL,
  EXT4_FT_BLKDEV,
  EXT4_FT_CHRDEV,
  EXT4_FT_DIR,
  EXT4_FT_FIFO,
  EXT4_FT_REG_FILE,
  EXT4_FT_SOCK,
  EXT4_FT_SYMLINK,
  EXT4_FT_UNKNOWN,
  EXT4_IMMUTABLE_FL,
  EXT4_JOURNAL_DATA_FL,
  EXT4_LINK_MAX,
  EXT4_NOATIME_FL,
  EXT4_NODUMP_FL,
  EXT4_NOTAIL_FL,
  EXT4_PROJINHERIT_FL,
  EXT4_ROOT_INO,
  EXT4_SECRM_FL,
  EXT4_SYNC_FL,
  EXT4_TOPDIR_FL,
  EXT4_UNRM_FL,
} from './format.ts';
import { allocInode, chargeNewInode } from './inode-alloc.ts';
import { getInode, modifyInode } from './inode-table.ts';
import { addOrphan, removeOrphan } from './orphan.ts';
import { getXattr, setXattr } from './xattr.ts';

// What changes names, each within one handle. Times of all that is touched are those of the handle's begin.

/** The longest target that stands in the inode. */
const FAST_SYMLINK_MAX = 59;
/** Steps from a directory to the root, at most: more is a loop. */
const DEPTH_MAX = 65536;
/** Flags of a directory that what is made in it gets. */
const INHERITED_FL =
  EXT4_SECRM_FL |
  EXT4_UNRM_FL |
  EXT4_COMPR_FL |
  EXT4_SYNC_FL |
  EXT4_NODUMP_FL |
  EXT4_NOATIME_FL |
  EXT4_JOURNAL_DATA_FL |
  EXT4_NOTAIL_FL |
  EXT4_DIRSYNC_FL |
  EXT4_PROJINHERIT_FL |
  EXT4_CASEFOLD_FL;
const REGULAR_FL = INHERITED_FL & ~(EXT4_DIRSYNC_FL | EXT4_TOPDIR_FL | EXT4_CASEFOLD_FL | EXT4_PROJINHERIT_FL);
const OTHER_FL = EXT4_NODUMP_FL | EXT4_NOATIME_FL;

/** file_type of directory entries for a mode, where the volume has them. */
export function fileTypeOf(sb: Ext4Sb, mode: number): number {
  if (!sb.hasFiletype) return EXT4_FT_UNKNOWN;
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EXT4_FT_REG_FILE;
    case S_IFDIR:
      return EXT4_FT_DIR;
    case S_IFCHR:
      return EXT4_FT_CHRDEV;
    case S_IFBLK:
      return EXT4_FT_BLKDEV;
    case S_IFIFO:
      return EXT4_FT_FIFO;
    case S_IFSOCK:
      return EXT4_FT_SOCK;
    case S_IFLNK:
      return EXT4_FT_SYMLINK;
    default:
      return EXT4_FT_UNKNOWN;
  }
}

/** S_IFMT bits of a file_type, 0 where it does not say. */
export function modeOfFileType(type: number): number {
  return [0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK][type] ?? 0;
}

/** The inode that a name leads to. Errors: EUCLEAN where it is one that no name may lead to. */
export function* inodeOfHit(sb: Ext4Sb, dir: Ext4Inode, hit: DirHit): Task<Ext4Inode> {
  const { ino } = hit;
  if (!(ino === EXT4_ROOT_INO || (ino >= sb.es.firstIno && ino <= sb.es.inodesCount)) || sb.hiddenInodes.has(ino)) {
    return sb.corrupted(`a name in directory ${dir.ino} leads to inode ${ino}`);
  }
  const inode = yield* getInode(sb, ino);
  if (inode.nlink === 0) return sb.corrupted(`a name in directory ${dir.ino} leads to inode ${ino}, which has no names`);
  return inode;
}

/** Errors: ENOENT for a directory that was removed: it gets no names any more. */
export function checkAlive(dir: Ext4Inode, syscall: string): void {
  if (dir.nlink === 0) throw new FsError('ENOENT', syscall);
}

/** Errors: EPERM where the directory's flags keep its names as they are. */
function checkMayAdd(dir: Ext4Inode, syscall: string): void {
  if ((dir.flags & EXT4_IMMUTABLE_FL) !== 0) throw new FsError('EPERM', syscall);
}

/** Errors: EPERM where the flags of either say that the name stays. */
function checkMayRemove(dir: Ext4Inode, inode: Ext4Inode, syscall: string): void {
  const flags = EXT4_IMMUTABLE_FL | EXT4_APPEND_FL;
  if ((dir.flags & flags) !== 0 || (inode.flags & flags) !== 0) throw new FsError('EPERM', syscall);
}

/** What a new inode is made of, beside its directory. */
export interface NewNode {
  readonly mode: number;
  readonly rdev?: number;
  readonly target?: string;
}

/**
 * A new inode as the caller and the directory make it, without a name.
 *
 * Errors: ENOSPC, EDQUOT.
 */
export function* makeNode(h: Handle, caller: Caller, dir: Ext4Inode, node: NewNode, syscall: string): Task<Ext4Inode> {
  const { sb } = dir;
  checkAlive(dir, syscall);
  const { uid, gid, mode: asked } = inheritOwner(caller, dir, node.mode);
  const isLink = isSymlink(asked);
  const defaultBytes = isLink ? undefined : yield* getXattr(dir, XATTR_NAME_POSIX_ACL_DEFAULT);
  const defaultAcl = defaultBytes === undefined ? undefined : parseAcl(defaultBytes);
  const acls: NewAcl = isLink ? { mode: asked } : createAcl(defaultAcl, asked, caller.umask, isDirectory(asked));

  const inode = yield* allocInode(h, sb, dir, acls.mode);
  const now = sb.env.now();
  inode.uid = uid;
  inode.gid = gid;
  inode.atime = inode.mtime = inode.ctime = now;
  inode.crtime = now;
  const inherited = isDirectory(asked) ? INHERITED_FL : (asked & S_IFMT) === S_IFREG ? REGULAR_FL : OTHER_FL;
  inode.flags = (dir.flags & inherited) >>> 0;
  const isMapped = isDirectory(asked) || (asked & S_IFMT) === S_IFREG || (isLink && nameLength(node.target as string) > FAST_SYMLINK_MAX);
  if (isMapped && sb.es.hasIncompat(INCOMPAT_EXTENTS)) inode.flags = (inode.flags | EXT4_EXTENTS_FL) >>> 0;
  if ((dir.flags & EXT4_PROJINHERIT_FL) !== 0) inode.projid = dir.projid;
  yield* chargeNewInode(h, inode);

  if ((asked & S_IFMT) === S_IFREG) yield* initBlockMap(h, inode);
  else if (isDirectory(asked)) yield* initDir(h, inode, dir.ino);
  else if (isLink) yield* setTarget(h, inode, node.target as string);
  else if ((asked & S_IFMT) === S_IFCHR || (asked & S_IFMT) === S_IFBLK) putDevice(inode, node.rdev ?? 0);
  const { access, default: inheritedAcl } = acls;
  if (access !== undefined) yield* setXattr(h, inode, XATTR_NAME_POSIX_ACL_ACCESS, formatAcl(access));
  if (inheritedAcl !== undefined) yield* setXattr(h, inode, XATTR_NAME_POSIX_ACL_DEFAULT, formatAcl(inheritedAcl));
  return inode;
}

function* setTarget(h: Handle, inode: Ext4Inode, target: string): Task<void> {
  const { sb } = inode;
  const bytes = nameBytes(target);
  if (bytes.length > sb.blockSize - 1) throw new FsError('ENAMETOOLONG', 'symlink');
  if (bytes.length <= FAST_SYMLINK_MAX) {
    inode.iBlock.fill(0);
    inode.iBlock.set(bytes);
    inode.size = bytes.length;
    return;
  }
  yield* initBlockMap(h, inode);
  const { bh } = yield* appendFileBlock(h, inode);
  h.getWriteAccess(bh).set(bytes);
  inode.size = bytes.length;
}

/** Device numbers in i_block: the old form where both halves have 8 bits. */
function putDevice(inode: Ext4Inode, rdev: number): void {
  const major = majorOf(rdev);
  const minor = minorOf(rdev);
  const view = new DataView(inode.iBlock.buffer, inode.iBlock.byteOffset);
  inode.iBlock.fill(0);
  if (major < 256 && minor < 256) view.setUint32(0, (major << 8) | minor, true);
  else view.setUint32(4, ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0, true);
}

/** The device behind a special file: major and minor. */
export function deviceOf(inode: Ext4Inode): { readonly major: number; readonly minor: number } {
  const view = new DataView(inode.iBlock.buffer, inode.iBlock.byteOffset);
  const old = view.getUint32(0, true);
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
  const wide = view.getUint32(4, true);
  return { major: (wide >>> 8) & 0xfff, minor: (wide & 0xff) | ((wide >>> 12) & 0xfff00) };
}

/** Makes a new inode with its first name. Errors: EEXIST, EMLINK; those of makeNode. */
export function* create(h: Handle, caller: Caller, dir: Ext4Inode, name: string, node: NewNode, syscall: string): Task<Ext4Inode> {
  checkAlive(dir, syscall);
  checkMayAdd(dir, syscall);
  if ((yield* lookupName(dir, name)) !== undefined) throw new FsError('EEXIST', syscall);
  const inode = yield* makeNode(h, caller, dir, node, syscall);
  yield* modifyInode(h, dir);
  if (inode.isDirectory) {
    addSubdirectory(dir, syscall);
    inode.nlink = 2;
  } else {
    inode.nlink = 1;
  }
  yield* addName(h, dir, name, inode.ino, fileTypeOf(inode.sb, inode.mode));
  changed(dir, inode.ctime);
  syncIfAsked(h, dir);
  return inode;
}

/** A further name for an inode. Errors: EEXIST, EPERM, ENOENT, EMLINK, EXDEV between projects. */
export function* link(h: Handle, inode: Ext4Inode, dir: Ext4Inode, name: string, isLinkable: boolean): Task<void> {
  const { sb } = inode;
  checkAlive(dir, 'link');
  checkMayAdd(dir, 'link');
  if ((yield* lookupName(dir, name)) !== undefined) throw new FsError('EEXIST', 'link');
  if (inode.isDirectory || (inode.flags & (EXT4_IMMUTABLE_FL | EXT4_APPEND_FL)) !== 0) throw new FsError('EPERM', 'link');
  if (inode.nlink === 0 && !isLinkable) throw new FsError('ENOENT', 'link');
  if (inode.nlink >= EXT4_LINK_MAX) throw new FsError('EMLINK', 'link');
  checkProject(inode, dir, 'link');
  yield* modifyInode(h, inode);
  yield* modifyInode(h, dir);
  if (inode.nlink === 0) yield* removeOrphan(h, inode);
  inode.nlink++;
  inode.ctime = sb.env.now();
  yield* addName(h, dir, name, inode.ino, fileTypeOf(sb, inode.mode));
  changed(dir, inode.ctime);
  syncIfAsked(h, dir);
}

function checkProject(inode: Ext4Inode, dir: Ext4Inode, syscall: string): void {
  if ((dir.flags & EXT4_PROJINHERIT_FL) !== 0 && dir.projid !== inode.projid) throw new FsError('EXDEV', syscall);
}

/** Takes a name of a file that is no directory. Returns the inode, an orphan if that was its last name. Errors: ENOENT, EISDIR, EPERM. */
export function* unlink(h: Handle, dir: Ext4Inode, name: string): Task<Ext4Inode> {
  const { sb } = dir;
  const hit = yield* lookupName(dir, name);
  if (hit === undefined) throw new FsError('ENOENT', 'unlink');
  const inode = yield* inodeOfHit(sb, dir, hit);
  if (inode.isDirectory) throw new FsError('EISDIR', 'unlink');
  checkMayRemove(dir, inode, 'unlink');
  yield* modifyInode(h, dir);
  yield* modifyInode(h, inode);
  yield* removeName(h, dir, hit);
  const now = sb.env.now();
  changed(dir, now);
  yield* dropName(h, inode, now);
  syncIfAsked(h, dir);
  return inode;
}

/** One name less. */
function* dropName(h: Handle, inode: Ext4Inode, now: Timespec): Task<void> {
  if (inode.nlink > 0) inode.nlink--;
  inode.ctime = now;
  if (inode.nlink === 0) yield* addOrphan(h, inode);
}

/** Removes an empty directory. Returns its inode, an orphan. Errors: ENOENT, ENOTDIR, ENOTEMPTY, EPERM. */
export function* rmdir(h: Handle, dir: Ext4Inode, name: string): Task<Ext4Inode> {
  const { sb } = dir;
  const hit = yield* lookupName(dir, name);
  if (hit === undefined) throw new FsError('ENOENT', 'rmdir');
  const inode = yield* inodeOfHit(sb, dir, hit);
  if (!inode.isDirectory) throw new FsError('ENOTDIR', 'rmdir');
  if (inode.ino === EXT4_ROOT_INO || inode === dir) return sb.corrupted(`directory ${dir.ino} is below itself`);
  if (!(yield* isEmptyDir(inode))) throw new FsError('ENOTEMPTY', 'rmdir');
  checkMayRemove(dir, inode, 'rmdir');
  yield* modifyInode(h, dir);
  yield* modifyInode(h, inode);
  yield* removeName(h, dir, hit);
  const now = sb.env.now();
  changed(dir, now);
  dropSubdirectory(dir);
  yield* endDirectory(h, inode, now);
  syncIfAsked(h, dir);
  return inode;
}

function* endDirectory(h: Handle, inode: Ext4Inode, now: Timespec): Task<void> {
  inode.nlink = 0;
  inode.ctime = now;
  yield* addOrphan(h, inode);
}

/**
 * Renames, by `flags` without replacing (EEXIST), by exchange, or leaving a whiteout. Shape: what has lost its last name, if anything has.
 *
 * Errors: ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EMLINK, EXDEV, EPERM; EINVAL for a directory below itself.
 */
export function* rename(
  h: Handle,
  caller: Caller,
  from: Ext4Inode,
  name: string,
  to: Ext4Inode,
  newName: string,
  flags: number,
): Task<Ext4Inode | undefined> {
  const { sb } = from;
  const isExchange = (flags & RENAME_EXCHANGE) !== 0;
  const hit = yield* lookupName(from, name);
  if (hit === undefined) throw new FsError('ENOENT', 'rename');
  const inode = yield* inodeOfHit(sb, from, hit);
  const targetHit = yield* lookupName(to, newName);
  if (targetHit === undefined && isExchange) throw new FsError('ENOENT', 'rename');
  if (targetHit !== undefined && (flags & RENAME_NOREPLACE) !== 0) throw new FsError('EEXIST', 'rename');
  const target = targetHit === undefined ? undefined : yield* inodeOfHit(sb, to, targetHit);
  if (target === inode) return undefined; // two names of one file stay two names
  if (inode.isDirectory && (yield* isWithin(to, inode))) throw new FsError('EINVAL', 'rename');
  if (target?.isDirectory === true && (yield* isWithin(from, target))) throw new FsError(isExchange ? 'EINVAL' : 'ENOTEMPTY', 'rename');
  checkMayRemove(from, inode, 'rename');
  checkMayAdd(to, 'rename');
  if (target !== undefined) checkMayRemove(to, target, 'rename');
  checkProject(inode, to, 'rename');
  if (isExchange && target !== undefined) checkProject(target, from, 'rename');
  if (!isExchange) {
    if (target === undefined) checkAlive(to, 'rename');
    else yield* checkReplaceable(inode, target);
  }

  const now = sb.env.now();
  yield* modifyInode(h, from);
  yield* modifyInode(h, to);
  yield* modifyInode(h, inode);
  if (target !== undefined) yield* modifyInode(h, target);
  if (isExchange && target !== undefined && targetHit !== undefined) {
    yield* exchange(h, { from, to, hit, targetHit, inode, target });
    target.ctime = now;
  } else {
    const whiteout = (flags & RENAME_WHITEOUT) === 0 ? undefined : yield* makeNode(h, caller, from, { mode: S_IFCHR, rdev: 0 }, 'rename');
    const type = fileTypeOf(sb, inode.mode);
    if (targetHit === undefined) yield* addName(h, to, newName, inode.ino, type);
    else yield* replaceName(h, to, targetHit, inode.ino, type);
    // The insertion may have moved the old name within the directory.
    const old = targetHit === undefined && from === to ? ((yield* lookupName(from, name)) as DirHit) : hit;
    if (whiteout === undefined) {
      yield* removeName(h, from, old);
    } else {
      whiteout.nlink = 1;
      yield* replaceName(h, from, old, whiteout.ino, fileTypeOf(sb, whiteout.mode));
    }
    if (inode.isDirectory && from !== to) {
      yield* setParent(h, inode, to.ino);
      dropSubdirectory(from);
      if (target?.isDirectory !== true) addSubdirectory(to, 'rename');
    } else if (target?.isDirectory === true) {
      dropSubdirectory(to);
    }
    if (target?.isDirectory === true) yield* endDirectory(h, target, now);
    else if (target !== undefined) yield* dropName(h, target, now);
  }
  inode.ctime = now;
  changed(from, now);
  changed(to, now);
  syncIfAsked(h, from);
  syncIfAsked(h, to);
  return !isExchange && target?.nlink === 0 ? target : undefined;
}

interface Exchange {
  readonly from: Ext4Inode;
  readonly to: Ext4Inode;
  readonly hit: DirHit;
  readonly targetHit: DirHit;
  readonly inode: Ext4Inode;
  readonly target: Ext4Inode;
}

function* exchange(h: Handle, { from, to, hit, targetHit, inode, target }: Exchange): Task<void> {
  const { sb } = from;
  yield* replaceName(h, to, targetHit, inode.ino, fileTypeOf(sb, inode.mode));
  yield* replaceName(h, from, hit, target.ino, fileTypeOf(sb, target.mode));
  if (from === to) return;
  if (inode.isDirectory) yield* setParent(h, inode, to.ino);
  if (target.isDirectory) yield* setParent(h, target, from.ino);
  if (inode.isDirectory === target.isDirectory) return;
  const [loses, gains] = inode.isDirectory ? [from, to] : [to, from];
  addSubdirectory(gains, 'rename');
  dropSubdirectory(loses);
}

/** Errors: ENOTDIR, EISDIR, ENOTEMPTY. */
function* checkReplaceable(inode: Ext4Inode, target: Ext4Inode): Task<void> {
  if (inode.isDirectory && !target.isDirectory) throw new FsError('ENOTDIR', 'rename');
  if (!inode.isDirectory && target.isDirectory) throw new FsError('EISDIR', 'rename');
  if (target.isDirectory && !(yield* isEmptyDir(target))) throw new FsError('ENOTEMPTY', 'rename');
}

/** Is `dir` the inode itself, or somewhere below it? Errors: EUCLEAN where the way up does not end. */
function* isWithin(dir: Ext4Inode, inode: Ext4Inode): Task<boolean> {
  const { sb } = dir;
  let at = dir;
  for (let steps = 0; steps < DEPTH_MAX; steps++) {
    if (at === inode) return true;
    if (at.ino === EXT4_ROOT_INO || at.nlink === 0) return false;
    const parent = yield* parentOf(at);
    sb.groups.checkIno(parent, `'..' of directory ${at.ino}`);
    at = yield* getInode(sb, parent);
    if (!at.isDirectory) return sb.corrupted(`'..' leads to inode ${at.ino}, which is no directory`);
  }
  return sb.corrupted(`the way up from directory ${dir.ino} does not end`);
}

/** One more '..' leads here. A count that is too large for its field stays 1 for good (dir_nlink). Errors: EMLINK. */
function addSubdirectory(dir: Ext4Inode, syscall: string): void {
  if (dir.nlink === 1) return;
  if (dir.nlink < EXT4_LINK_MAX) dir.nlink++;
  else if (dir.sb.es.hasRoCompat(RO_COMPAT_DIR_NLINK)) dir.nlink = 1;
  else throw new FsError('EMLINK', syscall);
}

function dropSubdirectory(dir: Ext4Inode): void {
  if (dir.nlink > 2) dir.nlink--;
}

function changed(dir: Ext4Inode, now: Timespec): void {
  dir.mtime = dir.ctime = now;
  dir.version++;
}

function syncIfAsked(h: Handle, dir: Ext4Inode): void {
  if ((dir.flags & (EXT4_SYNC_FL | EXT4_DIRSYNC_FL)) !== 0) h.isSync = true;
}

/** May the caller use what is kept for root? */
export function mayUseReserved(sb: Ext4Sb, caller: Caller): boolean {
  const { s_def_resuid: uid, s_def_resgid: gid } = sb.es.fields;
  return caller.uid === uid || hasCap(caller, CAP_SYS_RESOURCE) || (gid !== 0 && (caller.gid === gid || caller.groups.includes(gid)));
}
