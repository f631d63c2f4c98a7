import { FsError, hasCode } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import { type Caller, hasCap } from './caller.ts';
import type { Dcache } from './dcache.ts';
import type { FileSystem } from './file-system.ts';
import { checkCreate, checkDelete, isOwnerOrCapable, mayAccess } from './permission.ts';
import { type PosixAcl, parseAcl, XATTR_NAME_POSIX_ACL_ACCESS, XATTR_NAME_POSIX_ACL_DEFAULT } from './posix-acl.ts';
import { CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_ADMIN, isRegular, isSymlink, R_OK, S_ISVTX, W_OK, X_OK } from './uapi.ts';
import type { Vnode } from './vnode.ts';

/** Who may do what to which inode: modes, ACLs and capabilities, as far as the filesystem does not decide by itself. */
export class AccessControl {
  readonly #fs: FileSystem;
  readonly #dcache: Dcache;
  /** Until the filesystem says that it has no ACLs. */
  #hasAcls = true;

  constructor(fs: FileSystem, dcache: Dcache) {
    this.#fs = fs;
    this.#dcache = dcache;
  }

  /** May the caller do `mask` to the inode? Errors: EACCES, EROFS. */
  *permission(caller: Caller, vnode: Vnode, mask: number, syscall: string): Task<void> {
    checkGood(vnode, syscall);
    if ((mask & W_OK) !== 0 && this.#fs.isReadOnly && (vnode.isDirectory || isRegular(vnode.type) || isSymlink(vnode.type))) {
      throw new FsError('EROFS', syscall);
    }
    if (this.#fs.checksAccess) {
      yield* wait(this.#fs.access(caller, vnode.id, mask));
      return;
    }
    if (vnode.isDirectory && hasCap(caller, CAP_DAC_OVERRIDE)) return;
    yield* this.refresh(caller, vnode);
    if (!mayAccess(caller, vnode, yield* this.aclOf(caller, vnode), mask)) throw new FsError('EACCES', syscall);
  }

  /** May the caller search a directory, as far as what is known now says? False too where it has to be asked for. */
  maySearchAtOnce(caller: Caller, vnode: Vnode): boolean {
    if (vnode.isBad || vnode.isDead || !vnode.isDirectory || this.#fs.checksAccess) return false;
    if (hasCap(caller, CAP_DAC_OVERRIDE)) return true;
    if (!this.#dcache.areAttrsValid(vnode) || (vnode.acl === undefined && this.#hasAcls)) return false;
    return mayAccess(caller, vnode, vnode.acl ?? undefined, X_OK);
  }

  /** May the caller change the names of a directory, whatever it says? Then there is nothing to ask for. */
  #overrides(caller: Caller): boolean {
    return this.#fs.checksAccess || ((caller.caps & CAP_DAC_OVERRIDE) !== 0 && (caller.caps & CAP_FOWNER) !== 0);
  }

  /** May a name be made in a directory that is locked? Errors: EACCES, EROFS; ENOENT for one that was removed. */
  mayCreate(caller: Caller, dir: Vnode, syscall: string): MaybePromise<void> {
    if (this.#fs.isReadOnly) throw new FsError('EROFS', syscall);
    if (dir.isDead) throw new FsError('ENOENT', syscall);
    checkGood(dir, syscall);
    if (!this.#overrides(caller)) return run(this.#mayCreate(caller, dir, syscall));
  }

  *#mayCreate(caller: Caller, dir: Vnode, syscall: string): Task<void> {
    yield* this.refresh(caller, dir);
    checkCreate(caller, dir, yield* this.aclOf(caller, dir), syscall);
  }

  /** May the name of `victim` be taken from a directory that is locked? Errors: EACCES, EPERM, EROFS. */
  mayDelete(caller: Caller, dir: Vnode, victim: Vnode, syscall: string): MaybePromise<void> {
    if (this.#fs.isReadOnly) throw new FsError('EROFS', syscall);
    checkGood(dir, syscall);
    if (!this.#overrides(caller)) return run(this.#mayDelete(caller, dir, victim, syscall));
  }

  *#mayDelete(caller: Caller, dir: Vnode, victim: Vnode, syscall: string): Task<void> {
    yield* this.refresh(caller, dir);
    yield* this.refresh(caller, victim);
    checkDelete(caller, dir, yield* this.aclOf(caller, dir), victim, syscall);
  }

  /** Attributes that permission checks can trust. */
  *refresh(caller: Caller, vnode: Vnode): Task<void> {
    if (this.#dcache.areAttrsValid(vnode)) return;
    this.#dcache.noteAttr(vnode, yield* wait(this.#fs.getattr(caller, vnode.id)), this.#fs.attrValidMs);
  }

  *aclOf(caller: Caller, vnode: Vnode): Task<PosixAcl | undefined> {
    if (vnode.acl !== undefined) return vnode.acl ?? undefined;
    if (!this.#hasAcls || isSymlink(vnode.type)) return undefined;
    let bytes: Uint8Array | undefined;
    try {
      bytes = yield* wait(this.#fs.getxattr(caller, vnode.id, XATTR_NAME_POSIX_ACL_ACCESS));
    } catch (error) {
      if (!hasCode(error, 'EOPNOTSUPP') && !hasCode(error, 'ENOTSUP')) throw error;
      this.#hasAcls = false;
    }
    const acl = bytes === undefined ? undefined : storedAcl(bytes, vnode);
    vnode.acl = acl ?? null;
    return acl;
  }

  /** Who may read and write attributes of which namespace. Source: Linux fs/xattr.c, xattr_permission. */
  *mayXattr(caller: Caller, vnode: Vnode, name: string, isWrite: boolean, syscall: string): Task<void> {
    if (this.#fs.checksAccess) return;
    if (isAcl(name)) {
      if (isSymlink(vnode.type)) throw new FsError('EOPNOTSUPP', syscall);
      if (!isWrite) return;
      yield* this.refresh(caller, vnode);
      if (!isOwnerOrCapable(caller, vnode)) throw new FsError('EPERM', syscall);
      return;
    }
    if (name.startsWith('security.')) {
      if (isWrite && !hasCap(caller, CAP_SYS_ADMIN)) throw new FsError('EPERM', syscall);
      return;
    }
    if (name.startsWith('system.')) return;
    if (name.startsWith('trusted.')) {
      if (hasCap(caller, CAP_SYS_ADMIN)) return;
      if (isWrite) throw new FsError('EPERM', syscall);
      throw new FsError('ENODATA', syscall);
    }
    if (!name.startsWith('user.')) throw new FsError('EOPNOTSUPP', syscall, { detail: `no namespace of '${name}'` });
    if (!vnode.isDirectory && !isRegular(vnode.type)) {
      if (isWrite) throw new FsError('EPERM', syscall);
      throw new FsError('ENODATA', syscall);
    }
    yield* this.refresh(caller, vnode);
    if (isWrite && vnode.isDirectory && (vnode.mode & S_ISVTX) !== 0 && !isOwnerOrCapable(caller, vnode))
      throw new FsError('EPERM', syscall);
    yield* this.permission(caller, vnode, isWrite ? W_OK : R_OK, syscall);
  }
}

/** Errors: EUCLEAN for bytes that are no ACL: nobody could have set them. */
function storedAcl(bytes: Uint8Array, vnode: Vnode): PosixAcl | undefined {
  try {
    return parseAcl(bytes, 'getxattr');
  } catch (cause) {
    throw new FsError('EUCLEAN', 'getxattr', { cause, detail: `the ACL of inode ${vnode.id} is damaged` });
  }
}

/** Errors: EIO for an inode whose filesystem contradicted itself. */
export function checkGood(vnode: Vnode, syscall: string): void {
  if (vnode.isBad) throw new FsError('EIO', syscall, { detail: `inode ${vnode.id} is bad` });
}

/** Is it the name of an attribute that holds an ACL? */
export function isAcl(name: string): boolean {
  return name === XATTR_NAME_POSIX_ACL_ACCESS || name === XATTR_NAME_POSIX_ACL_DEFAULT;
}
