import { FsError } from '../../base/fs-error.ts';
import { type Caller, hasCap, inGroup } from '../../vfs/caller.ts';
import { nameLength } from '../../vfs/name.ts';
import { checkMayHaveXattr } from '../../vfs/permission.ts';
import {
  equivalentMode,
  formatAcl,
  isAclName,
  parseAcl,
  XATTR_NAME_POSIX_ACL_ACCESS,
  XATTR_NAME_POSIX_ACL_DEFAULT,
} from '../../vfs/posix-acl.ts';
import { CAP_FSETID, CAP_SYS_ADMIN, S_ISGID, XATTR_CREATE, XATTR_NAME_MAX, XATTR_REPLACE, XATTR_SIZE_MAX } from '../../vfs/uapi.ts';
import type { MemInode } from './mem-inode.ts';

// Extended attributes by namespace, as Linux treats them: user.* on files and directories only, trusted.* listed for the privileged,
// security.* as it comes, and the two ACLs, of which the access ACL and the mode say the same thing.

const NAMESPACES = ['user.', 'trusted.', 'security.'] as const;
/** Bytes of all attributes of one file, names and values. Source: Linux include/linux/xattr.h, SIMPLE_XATTR_MAX_SIZE. */
const TOTAL_MAX = 128 * 1024;

export function getXattr(inode: MemInode, name: string): Uint8Array | undefined {
  checkName(inode, name, 'getxattr');
  return inode.xattrs?.get(name)?.slice();
}

/** Errors: EEXIST, ENODATA by `flags`; E2BIG, ENOSPC; EPERM, EACCES, EOPNOTSUPP where the file cannot have it; EINVAL for a bad ACL. */
export function setXattr(caller: Caller, inode: MemInode, name: string, value: Uint8Array, flags: number): void {
  checkName(inode, name, 'setxattr');
  if (value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG', 'setxattr');
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new FsError('EINVAL', 'setxattr');
  if (isAclName(name)) {
    setAcl(caller, inode, name, value);
    return;
  }
  checkMayHaveXattr(inode.attr.mode, name, 'setxattr');
  const isKnown = inode.xattrs?.has(name) === true;
  if (isKnown && (flags & XATTR_CREATE) !== 0) throw new FsError('EEXIST', 'setxattr');
  if (!isKnown && (flags & XATTR_REPLACE) !== 0) throw new FsError('ENODATA', 'setxattr');
  let total = nameLength(name) + value.length;
  for (const [other, { length }] of inode.xattrs ?? []) if (other !== name) total += nameLength(other) + length;
  if (total > TOTAL_MAX) throw new FsError('ENOSPC', 'setxattr');
  inode.setXattr(name, value.slice());
}

export function listXattrs(caller: Caller, inode: MemInode): string[] {
  const names = [...(inode.xattrs?.keys() ?? [])];
  return hasCap(caller, CAP_SYS_ADMIN) ? names : names.filter((name) => !name.startsWith('trusted.'));
}

/** Errors: ENODATA; an ACL that is not there may be removed. */
export function removeXattr(inode: MemInode, name: string): void {
  checkName(inode, name, 'removexattr');
  if (isAclName(name)) {
    inode.xattrs?.delete(name);
    return;
  }
  checkMayHaveXattr(inode.attr.mode, name, 'removexattr');
  if (inode.xattrs?.delete(name) !== true) throw new FsError('ENODATA', 'removexattr');
}

/** An ACL without entries removes; an access ACL that says no more than the mode becomes the mode. */
function setAcl(caller: Caller, inode: MemInode, name: string, value: Uint8Array): void {
  const { attr } = inode;
  const acl = parseAcl(value);
  if (name === XATTR_NAME_POSIX_ACL_DEFAULT && acl !== undefined && inode.directory === undefined) throw new FsError('EACCES', 'setxattr');
  let isNeeded = acl !== undefined;
  if (name === XATTR_NAME_POSIX_ACL_ACCESS && acl !== undefined) {
    const { permissions, isMinimal } = equivalentMode(acl);
    attr.mode = (attr.mode & ~0o777) | permissions;
    if (!inGroup(caller, attr.gid) && !hasCap(caller, CAP_FSETID)) attr.mode &= ~S_ISGID;
    isNeeded = !isMinimal;
  }
  if (acl !== undefined && isNeeded) inode.setXattr(name, formatAcl(acl));
  else inode.xattrs?.delete(name);
}

/** Errors: EOPNOTSUPP outside the namespaces, and for the ACL of a symbolic link; EINVAL for a namespace alone; ERANGE. */
function checkName(inode: MemInode, name: string, syscall: string): void {
  if (isAclName(name)) {
    if (inode.target !== undefined) throw new FsError('EOPNOTSUPP', syscall);
    return;
  }
  const length = nameLength(name);
  if (length === 0 || length > XATTR_NAME_MAX) throw new FsError('ERANGE', syscall);
  const namespace = NAMESPACES.find((each) => name.startsWith(each));
  if (namespace === undefined) throw new FsError('EOPNOTSUPP', syscall);
  if (name === namespace) throw new FsError('EINVAL', syscall);
}
