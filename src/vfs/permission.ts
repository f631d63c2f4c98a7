import { FsError } from '../base/fs-error.ts';
import type { Attr, AttrChanges } from './attr.ts';
import { type Caller, hasCap, inGroup } from './caller.ts';
import { aclAllows, type PosixAcl } from './posix-acl.ts';
import {
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
  hasSetId,
  isDirectory,
  isRegular,
  R_OK,
  RW_KILL_SGID,
  RW_KILL_SUIDGID,
  S_IALLUGO,
  S_IRWXG,
  S_ISGID,
  S_ISUID,
  S_ISVTX,
  S_IXGRP,
  W_OK,
  X_OK,
} from './uapi.ts';

// Who may do what, as Linux decides it. Source: path_resolution(7), "Permissions"; capabilities(7); chown(2), chmod(2), utimensat(2);
// the behaviour of Linux fs/namei.c, fs/attr.c, fs/inode.c.

/** What of a file decides. */
export type Owned = Pick<Attr, 'mode' | 'uid' | 'gid'>;

/** May the caller do all of `mask` (R_OK, W_OK, X_OK, or'ed)? `acl` is the access ACL. */
export function mayAccess(caller: Caller, attr: Owned, acl: PosixAcl | undefined, mask: number): boolean {
  return grants(caller, attr, acl, mask & 7) || overrides(caller, attr.mode, mask & 7);
}

/** What mode and ACL say. */
function grants(caller: Caller, attr: Owned, acl: PosixAcl | undefined, mask: number): boolean {
  const { mode } = attr;
  if (caller.uid === attr.uid) return (mask & ~(mode >> 6)) === 0;
  // Without bits for the group the ACL's mask is empty, and Linux does not look at it: named users and groups count as others then.
  if (acl !== undefined && (mode & S_IRWXG) !== 0) return aclAllows(caller, attr, acl, mask);
  return (mask & ~(inGroup(caller, attr.gid) ? mode >> 3 : mode)) === 0;
}

/** What capabilities say: everything but to execute what nobody may execute. */
function overrides(caller: Caller, mode: number, mask: number): boolean {
  const isReading = isDirectory(mode) ? (mask & W_OK) === 0 : mask === R_OK;
  if (isReading && hasCap(caller, CAP_DAC_READ_SEARCH)) return true;
  return hasCap(caller, CAP_DAC_OVERRIDE) && (isDirectory(mode) || (mask & X_OK) === 0 || (mode & 0o111) !== 0);
}

/** Errors: EACCES. */
export function checkAccess(caller: Caller, attr: Owned, acl: PosixAcl | undefined, mask: number, syscall: string): void {
  if (!mayAccess(caller, attr, acl, mask)) throw new FsError('EACCES', syscall);
}

/** May the caller do what is the owner's to do? */
export function isOwnerOrCapable(caller: Caller, attr: Pick<Attr, 'uid'>): boolean {
  return caller.uid === attr.uid || hasCap(caller, CAP_FOWNER);
}

/** May a new name be made in the directory? Errors: EACCES. */
export function checkCreate(caller: Caller, dirAttr: Owned, dirAcl: PosixAcl | undefined, syscall: string): void {
  checkAccess(caller, dirAttr, dirAcl, W_OK | X_OK, syscall);
}

/** May a name of `victimAttr` be taken from the directory? Errors: EACCES; EPERM where the directory is sticky and neither is the caller's. */
export function checkDelete(
  caller: Caller,
  dirAttr: Owned,
  dirAcl: PosixAcl | undefined,
  victimAttr: Pick<Attr, 'uid'>,
  syscall: string,
): void {
  checkAccess(caller, dirAttr, dirAcl, W_OK | X_OK, syscall);
  if ((dirAttr.mode & S_ISVTX) === 0 || caller.uid === victimAttr.uid || caller.uid === dirAttr.uid) return;
  if (!hasCap(caller, CAP_FOWNER)) throw new FsError('EPERM', syscall);
}

/**
 * A mode as it is after somebody without rights over it wrote to the file: without S_ISUID, and without S_ISGID where the group may execute
 * or the writer is not of the group.
 */
export function killedMode(mode: number, isMember = true): number {
  // S_ISGID without S_IXGRP once meant mandatory locking, and is no danger where the group itself writes.
  return mode & ~(S_ISUID | ((mode & S_IXGRP) !== 0 || !isMember ? S_ISGID : 0));
}

/** The mode of a file once somebody wrote to it; `flags` are RW_KILL_*. */
export function modeAfterWrite(mode: number, flags: number): number {
  return (flags & RW_KILL_SUIDGID) === 0 ? mode : killedMode(mode, (flags & RW_KILL_SGID) === 0);
}

/** Errors: EPERM for user.* of what everybody may write without owning it: links, devices, pipes. */
export function checkMayHaveXattr(mode: number, name: string, syscall: string): void {
  if (name.startsWith('user.') && !isRegular(mode) && !isDirectory(mode)) throw new FsError('EPERM', syscall);
}

/** The change that takes the set-id bits off which the caller may not keep by changing the content; undefined if there are none. */
export function killSetId(caller: Caller, attr: Owned): AttrChanges | undefined {
  if (!hasSetId(attr.mode) || hasCap(caller, CAP_FSETID)) return undefined;
  const isMember = inGroup(caller, attr.gid);
  const mode = killedMode(attr.mode, isMember);
  if (mode === attr.mode) return undefined;
  return mode === killedMode(attr.mode) ? { killSuidgid: true } : { mode: mode & S_IALLUGO };
}

/** May the caller give a file of this group S_ISGID? */
function maySetgid(caller: Caller, gid: number): boolean {
  return inGroup(caller, gid) || hasCap(caller, CAP_FSETID);
}

/**
 * What of `changes` the caller may ask the filesystem for.
 *
 * Shape:   the changes, with a mode or killSuidgid added where set-id bits have to go: S_ISGID from a mode for a group that is not the
 *          caller's; the set-id bits of a file that gets another owner (whoever does it) or another size.
 * Errors:  EPERM for owner, mode and explicit times of a file that is not the caller's; EACCES for times of now, and a size, without
 *          write access. `isWriter` says that the file is open for writing, which is all that a size needs.
 */
export function prepareSetattr(
  caller: Caller,
  attr: Owned,
  acl: PosixAcl | undefined,
  changes: AttrChanges,
  isWriter = false,
): AttrChanges {
  const { uid, gid, mode, size, atime, mtime } = changes;
  const isOwner = caller.uid === attr.uid;
  const mayChown = hasCap(caller, CAP_CHOWN);
  const isTouch = atime === 'now' && mtime === 'now';

  if (isTouch && !isOwnerOrCapable(caller, attr)) checkAccess(caller, attr, acl, W_OK, 'utime');
  if (size !== undefined && !isWriter) checkAccess(caller, attr, acl, W_OK, 'truncate');
  if (uid !== undefined && !mayChown && !(isOwner && uid === attr.uid)) throw new FsError('EPERM', 'chown');
  if (gid !== undefined && !mayChown && !(isOwner && (gid === attr.gid || inGroup(caller, gid)))) throw new FsError('EPERM', 'chown');
  if (mode !== undefined && !isOwnerOrCapable(caller, attr)) throw new FsError('EPERM', 'chmod');
  if ((atime !== undefined || mtime !== undefined) && !isTouch && !isOwnerOrCapable(caller, attr)) throw new FsError('EPERM', 'utime');

  if (mode !== undefined) {
    return maySetgid(caller, gid ?? attr.gid) ? changes : { ...changes, mode: mode & ~S_ISGID };
  }
  const isChown = (uid !== undefined || gid !== undefined) && !isDirectory(attr.mode);
  const isTruncate = size !== undefined && isRegular(attr.mode) && !hasCap(caller, CAP_FSETID);
  if (!isChown && !isTruncate) return changes;
  return killSuidgid(caller, attr, changes, isChown);
}

/** Takes the set-id bits that an owner or a size changes away. Errors: EPERM for a chown that takes bits from a file of somebody else. */
function killSuidgid(caller: Caller, attr: Owned, changes: AttrChanges, isChown: boolean): AttrChanges {
  const killed = killedMode(attr.mode);
  let mode = maySetgid(caller, attr.gid) ? killed : killed & ~S_ISGID;
  if (isChown && mode !== attr.mode) {
    // Then it is a chmod too, with what that takes: CAP_CHOWN alone is not enough.
    if (!isOwnerOrCapable(caller, attr)) throw new FsError('EPERM', 'chown');
    if (!maySetgid(caller, changes.gid ?? attr.gid)) mode &= ~S_ISGID;
  }
  // The filesystem does it on the mode that it has by then, except what the rule there does not cover.
  return mode === killed ? { ...changes, killSuidgid: true } : { ...changes, mode: mode & S_IALLUGO };
}

/**
 * Owner, group and mode of a new file in a directory: a directory with S_ISGID hands its group on, and the bit to directories.
 *
 * `mode` is as asked for, before umask and default ACL: a bit for the group to execute that they take away still counts here.
 */
export function inheritOwner(caller: Caller, parentAttr: Owned, mode: number): { uid: number; gid: number; mode: number } {
  const { uid } = caller;
  if ((parentAttr.mode & S_ISGID) === 0) return { uid, gid: caller.gid, mode };
  const { gid } = parentAttr;
  if (isDirectory(mode)) return { uid, gid, mode: mode | S_ISGID };
  // A program that runs as a group is for members of the group to make.
  const isSetgid = (mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP);
  return { uid, gid, mode: isSetgid && !maySetgid(caller, gid) ? mode & ~S_ISGID : mode };
}
