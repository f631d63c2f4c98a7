import { assert } from '../../base/assert.ts';
import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { RO_COMPAT_PROJECT, RO_COMPAT_QUOTA } from './features.ts';
import { EXT4_EA_INODE_FL, EXT4_ROOT_INO } from './format.ts';
import { getInode } from './inode-table.ts';
import { type Dquot, QuotaFile } from './quota-file.ts';

// Who has how much. Invariants:
// 1. With the feature on, the records of an inode's owner, group and project count its blocks and itself, in each handle.
// 2. Inodes of the volume itself (journal, quota files, ...) and values of attributes are not counted; a value is counted for each inode that
//    has it (ea-inode.ts).

export const USRQUOTA = 0;
export const GRPQUOTA = 1;
export const PRJQUOTA = 2;

/** Whose record. */
export interface QuotaIds {
  readonly uid: number;
  readonly gid: number;
  readonly projid: number;
}

interface VolumeQuota {
  /** By type; those that the volume has. */
  readonly files: readonly (QuotaFile | undefined)[];
  /** Types whose limits hold. */
  readonly enforced: ReadonlySet<number>;
  /** Inodes that are not counted, beside the reserved ones. */
  readonly exempt: ReadonlySet<number>;
}

const QUOTAS = new WeakMap<Ext4Sb, VolumeQuota>();

/**
 * Reads the heads of the quota files, if the volume has them: from here on everything is counted. `enforced`: types whose limits hold.
 *
 * Errors: EUCLEAN for files that are none.
 */
export function* openQuota(sb: Ext4Sb, enforced: Iterable<number> = []): Task<void> {
  const { es } = sb;
  if (!es.hasRoCompat(RO_COMPAT_QUOTA)) return;
  const { s_usr_quota_inum, s_grp_quota_inum, s_prj_quota_inum, s_orphan_file_inum } = es.fields;
  const inums = [s_usr_quota_inum, s_grp_quota_inum, es.hasRoCompat(RO_COMPAT_PROJECT) ? s_prj_quota_inum : 0];
  const files: (QuotaFile | undefined)[] = [];
  for (const [type, ino] of inums.entries()) {
    if (ino === 0) {
      files.push(undefined);
      continue;
    }
    if (ino === EXT4_ROOT_INO || inums.indexOf(ino) !== type) sb.corrupted(`inode ${ino} as the quota file of type ${type}`);
    const inode = yield* getInode(sb, ino);
    const file = new QuotaFile(inode, type);
    yield* file.check();
    files.push(file);
  }
  sb.quota = { chargeBlocks, chargeInodes };
  QUOTAS.set(sb, { files, enforced: new Set(enforced), exempt: new Set([...inums, s_orphan_file_inum]) });
}

/** Is anything counted? */
export function hasQuota(sb: Ext4Sb): boolean {
  return QUOTAS.has(sb);
}

function isCounted(quota: VolumeQuota, { ino, flags, sb }: Ext4Inode): boolean {
  if ((flags & EXT4_EA_INODE_FL) !== 0 || quota.exempt.has(ino)) return false;
  return ino === EXT4_ROOT_INO || ino >= sb.es.firstIno;
}

function idOf(type: number, { uid, gid, projid }: QuotaIds): number {
  return type === USRQUOTA ? uid : type === GRPQUOTA ? gid : projid;
}

/** Counts `bytes` of blocks for the owners of an inode, or takes them off. `mayExceed`: limits are not asked. Errors: EDQUOT. */
export function chargeBlocks(h: Handle, inode: Ext4Inode, bytes: number, mayExceed = false): Task<void> {
  return charge(h, inode, bytes, 0, mayExceed);
}

/** Counts inodes for the owners of an inode, or takes them off. Errors: EDQUOT. */
export function chargeInodes(h: Handle, inode: Ext4Inode, count: number, mayExceed = false): Task<void> {
  return charge(h, inode, 0, count, mayExceed);
}

function* charge(h: Handle, inode: Ext4Inode, bytes: number, inodes: number, mayExceed: boolean): Task<void> {
  const quota = QUOTAS.get(inode.sb);
  if (quota === undefined || (bytes === 0 && inodes === 0) || !isCounted(quota, inode)) return;
  for (const [type, file] of quota.files.entries()) {
    if (file !== undefined) yield* add(h, quota, file, idOf(type, inode), bytes, inodes, mayExceed);
  }
}

/**
 * Moves what an inode has to new owners, before its fields say so. `inodes`: the inode itself and its values in inodes of their own
 * (countInodes in xattr.ts).
 *
 * Errors: EDQUOT.
 */
export function* transfer(h: Handle, inode: Ext4Inode, to: QuotaIds, inodes: number, mayExceed = false): Task<void> {
  const quota = QUOTAS.get(inode.sb);
  if (quota === undefined || !isCounted(quota, inode)) return;
  const bytes = inode.blocks * 512;
  for (const [type, file] of quota.files.entries()) {
    if (file === undefined || idOf(type, inode) === idOf(type, to)) continue;
    yield* add(h, quota, file, idOf(type, to), bytes, inodes, mayExceed);
    yield* add(h, quota, file, idOf(type, inode), -bytes, -inodes, true);
  }
}

/** What an id has and may have; undefined where its type is not counted. */
export function* readDquot(sb: Ext4Sb, type: number, id: number): Task<Dquot | undefined> {
  const file = QUOTAS.get(sb)?.files[type];
  return file === undefined ? undefined : yield* file.read(id);
}

/** Sets what an id may have: limits of inodes, and of space in units of 1024 bytes; 0 for no limit. */
export function* setLimits(
  h: Handle,
  sb: Ext4Sb,
  type: number,
  id: number,
  limits: Pick<Dquot, 'dqb_ihardlimit' | 'dqb_isoftlimit' | 'dqb_bhardlimit' | 'dqb_bsoftlimit'>,
): Task<void> {
  const file = QUOTAS.get(sb)?.files[type];
  assert(file !== undefined, 'limits of a type that is counted');
  const dquot = yield* file.modify(h, id);
  Object.assign(dquot, limits);
  file.finish(id, dquot);
}

function* add(h: Handle, quota: VolumeQuota, file: QuotaFile, id: number, bytes: number, inodes: number, mayExceed: boolean): Task<void> {
  const { sb } = file.inode;
  const isEnforced = quota.enforced.has(file.type);
  const { dqi_bgrace, dqi_igrace } = yield* file.info();
  const dquot = yield* file.modify(h, id);
  // A record that counts less than is taken off was wrong before: it does not become negative.
  dquot.dqb_curspace = Math.max(0, dquot.dqb_curspace + bytes);
  dquot.dqb_curinodes = Math.max(0, dquot.dqb_curinodes + inodes);
  if (isEnforced) {
    const now = sb.env.now().sec;
    const { dqb_curspace, dqb_bsoftlimit, dqb_bhardlimit, dqb_btime } = dquot;
    const { dqb_curinodes, dqb_isoftlimit, dqb_ihardlimit, dqb_itime } = dquot;
    const [space, hard, soft] = [dqb_curspace, dqb_bhardlimit * QUOTABLOCK_SIZE, dqb_bsoftlimit * QUOTABLOCK_SIZE];
    dquot.dqb_btime = judge(space, bytes, hard, soft, dqb_btime, now, dqi_bgrace, mayExceed);
    dquot.dqb_itime = judge(dqb_curinodes, inodes, dqb_ihardlimit, dqb_isoftlimit, dqb_itime, now, dqi_igrace, mayExceed);
  }
  file.finish(id, dquot);
}

/** Unit of limits of space, bytes. */
const QUOTABLOCK_SIZE = 1024;

/** Seconds at which the grace of a soft limit ends, 0: it is not exceeded. Errors: EDQUOT. */
function judge(
  used: number,
  change: number,
  hard: number,
  soft: number,
  endsAt: number,
  now: number,
  grace: number,
  mayExceed: boolean,
): number {
  const isOver = soft > 0 && used > soft;
  if (change > 0 && !mayExceed) {
    if (hard > 0 && used > hard) throw new FsError('EDQUOT', 'ext4');
    if (isOver && endsAt > 0 && now >= endsAt) throw new FsError('EDQUOT', 'ext4');
  }
  if (!isOver) return 0;
  return endsAt === 0 ? now + grace : endsAt;
}
