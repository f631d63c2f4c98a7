import type { AbortSignalLike } from '../base/abort.ts';
import { CAP_ALL } from './uapi.ts';

/** On whose behalf a request is made: what permission checks and ownership of new files need. */
export interface Caller {
  /** File system ids (fsuid, fsgid). */
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** Effective capabilities, CAP_* masks. */
  readonly caps: number;
  /** Mode bits that new files do not get; not used where the directory has a default ACL. */
  readonly umask: number;
  /** For locks and messages only. */
  readonly pid: number;
  /** Answer at once: what would have to wait fails with EAGAIN and has changed nothing. */
  readonly nowait?: boolean;
  /** Ends what waits, with EINTR. */
  readonly signal?: AbortSignalLike | undefined;
}

/** Root with every capability: who edits an image owns all of it. */
export const ROOT: Caller = { uid: 0, gid: 0, groups: [], caps: CAP_ALL, umask: 0o022, pid: 0 };

/** A caller with these ids; capabilities are all for uid 0 and none for others, unless told. */
export function callerOf(ids: Partial<Caller>): Caller {
  const uid = ids.uid ?? 0;
  return {
    uid,
    gid: ids.gid ?? uid,
    groups: ids.groups ?? [],
    caps: ids.caps ?? (uid === 0 ? CAP_ALL : 0),
    umask: ids.umask ?? 0o022,
    pid: ids.pid ?? 0,
  };
}

export function hasCap(caller: Caller, cap: number): boolean {
  return (caller.caps & cap) !== 0;
}

export function inGroup(caller: Caller, gid: number): boolean {
  return caller.gid === gid || caller.groups.includes(gid);
}
