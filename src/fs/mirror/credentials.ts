import { isMainThread } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import { FsError, hasCode } from '../../base/fs-error.ts';
import { type Capabilities, CLONE_FS, type Libc } from '../../sys/libc.ts';
import type { Caller } from '../../vfs/caller.ts';
import {
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
  CAP_LINUX_IMMUTABLE,
  CAP_MKNOD,
} from '../../vfs/uapi.ts';

const bits = (mask: number): bigint => BigInt(mask >>> 0);

/** What the kernel takes away with an fsuid of 0. Source: Linux include/linux/capability.h, CAP_FS_SET. */
const CAP_FS_SET = bits(CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH | CAP_FOWNER | CAP_FSETID | CAP_LINUX_IMMUTABLE | CAP_MKNOD);
/** The face has decided that the caller may, by groups and ACLs of which the host, asked again, would not know. */
const ALLOWED_BY_FACE = bits(CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH | CAP_MKNOD);
const CAP_SETGID = 1n << 6n;
const CAP_SETUID = 1n << 7n;

/** Who this thread is when it acts for nobody. */
interface Self {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly capabilities: Capabilities;
}

/**
 * Makes things on the host as the caller would have made them.
 *
 * A file that root makes and then gives away is root's for a moment, with set-id bits and on root's quota, and loses the bits with the
 * gift. So the thread takes the caller's fsuid, fsgid and groups instead: the host itself then applies what it knows of directories with
 * S_ISGID, default ACLs, bits that only members of a group may set, and quotas. Who is not root makes everything as himself.
 *
 * The ids are those of this thread only. The umask is too in a worker, if the kernel lets it; otherwise it is that of the process while a
 * call lasts. A process that changes its own ids (process.seteuid) changes those of all its threads, this one included.
 */
export class Credentials {
  readonly #libc: Libc;
  readonly #self: Self | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
    if (!isMainThread) tryUnshareMask(libc);
    const capabilities = libc.capget();
    const needed = CAP_SETUID | CAP_SETGID;
    const [uid, gid] = [process.geteuid?.() ?? -1, process.getegid?.() ?? -1];
    if (uid === 0 && (capabilities.effective & needed) === needed) {
      this.#self = { uid, gid, groups: libc.getgroups(), capabilities };
    }
  }

  /** Runs a call that creates. Errors: its own; EPERM for a caller whom this user namespace does not know. */
  as<T>(caller: Caller, create: () => T): T {
    const before = this.#libc.umask(caller.umask & 0o777);
    try {
      return this.#self === undefined || isSelf(this.#self, caller) ? create() : this.#impersonate(this.#self, caller, create);
    } finally {
      this.#libc.umask(before);
    }
  }

  #impersonate<T>(self: Self, caller: Caller, create: () => T): T {
    const libc = this.#libc;
    const { effective, permitted, inheritable } = self.capabilities;
    const kept = ALLOWED_BY_FACE | (bits(caller.caps) & CAP_FS_SET);
    try {
      libc.setThreadGroups(caller.groups);
      libc.setfsgid(caller.gid);
      libc.setfsuid(caller.uid);
      if (libc.setfsuid(-1) !== caller.uid || libc.setfsgid(-1) !== caller.gid) throw new FsError('EPERM', 'setfsuid');
      libc.capset({ effective: (effective & ~CAP_FS_SET) | (effective & kept), permitted, inheritable });
      return create();
    } finally {
      libc.setfsuid(self.uid);
      libc.setfsgid(self.gid);
      libc.setThreadGroups(self.groups);
      libc.capset(self.capabilities);
      assert(libc.setfsuid(-1) === self.uid && libc.setfsgid(-1) === self.gid, 'the thread is not itself again');
    }
  }
}

/** Gives the thread a umask of its own. */
function tryUnshareMask(libc: Libc): void {
  try {
    libc.unshare(CLONE_FS);
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error; // containers forbid it
  }
}

/** Does the host treat them alike? Groups matter only to those without CAP_FSETID. */
function isSelf(self: Self, caller: Caller): boolean {
  return caller.uid === self.uid && caller.gid === self.gid && (bits(caller.caps) & CAP_FS_SET) === CAP_FS_SET;
}
