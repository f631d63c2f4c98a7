import { FsError } from '../../base/fs-error.ts';
import { type MaybePromise, type Task, then } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import { pad, struct, u32 } from '../../layout/struct.ts';
import { type Caller, hasCap } from '../../vfs/caller.ts';
import { isOwnerOrCapable } from '../../vfs/permission.ts';
import { CAP_LINUX_IMMUTABLE } from '../../vfs/uapi.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { RO_COMPAT_PROJECT } from './features.ts';
import {
  EXT4_APPEND_FL,
  EXT4_CASEFOLD_FL,
  EXT4_DIRSYNC_FL,
  EXT4_EXTENTS_FL,
  EXT4_FL_USER_MODIFIABLE,
  EXT4_FL_USER_VISIBLE,
  EXT4_IMMUTABLE_FL,
  EXT4_JOURNAL_DATA_FL,
  EXT4_NOATIME_FL,
  EXT4_NODUMP_FL,
  EXT4_PROJINHERIT_FL,
  EXT4_SYNC_FL,
  EXT4_TOPDIR_FL,
} from './format.ts';
import { modifyInode } from './inode-table.ts';
import { transfer } from './quota.ts';
import { countInodes } from './xattr.ts';

// The commands that lsattr, chattr and their like use. The numbers hold the size of the argument in bits 16 to 29. FS_IOC_*FLAGS say long and
// mean int. Source: Linux include/uapi/linux/fs.h

export const FS_IOC_GETFLAGS = 0x80086601;
export const FS_IOC_SETFLAGS = 0x40086602;
export const FS_IOC_GETVERSION = 0x80087601;
export const FS_IOC_FSGETXATTR = 0x801c581f;
export const FS_IOC_FSSETXATTR = 0x401c5820;

/** struct fsxattr. */
// biome-ignore format: one row per field, as the format is drawn
export const fsxattr = struct('fsxattr', 28, {
  fsx_xflags:     u32(0), // FS_XFLAG_*
  fsx_extsize:    u32(4),
  fsx_nextents:   u32(8),
  fsx_projid:     u32(12),
  fsx_cowextsize: u32(16),
  fsx_pad:        pad(20, 8),
});

/** FS_XFLAG_* and what they are on the inode. */
const XFLAGS: readonly (readonly [number, number])[] = [
  [0x00000008, EXT4_IMMUTABLE_FL],
  [0x00000010, EXT4_APPEND_FL],
  [0x00000020, EXT4_SYNC_FL],
  [0x00000040, EXT4_NOATIME_FL],
  [0x00000080, EXT4_NODUMP_FL],
  [0x00000200, EXT4_PROJINHERIT_FL],
];

export interface IoctlCall {
  readonly caller: Caller;
  readonly inode: Ext4Inode;
  readonly cmd: number;
  readonly arg: Uint8Array;
  /** Bytes of the largest answer. */
  readonly outSize: number;
  /** Runs a change of metadata. */
  change<T>(body: (h: Handle) => Task<T>): MaybePromise<T>;
  /** As `change`, with the file at rest, its data at its place on the device and nothing of it in core. */
  changeSettled<T>(body: (h: Handle) => Task<T>): MaybePromise<T>;
}

/** What FS_IOC_SETFLAGS changes: EXT4_FL_USER_MODIFIABLE is without the flag that changes how data is kept. */
const FLAGS_MASK = EXT4_FL_USER_MODIFIABLE | EXT4_JOURNAL_DATA_FL;

interface Answer {
  readonly result: number;
  readonly data: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** Errors: ENOTTY for commands that are not known; EINVAL, EPERM, EACCES, EOPNOTSUPP of those that are. */
export function fileIoctl(call: IoctlCall): MaybePromise<Answer> {
  const { inode, cmd, arg, outSize } = call;
  switch (cmd >>> 0) {
    case FS_IOC_GETFLAGS:
      return word(inode.flags & EXT4_FL_USER_VISIBLE, outSize);
    case FS_IOC_GETVERSION:
      return word(inode.generation, outSize);
    case FS_IOC_SETFLAGS:
      if (arg.length < 4) throw new FsError('EINVAL', 'ioctl');
      return setFlags(call, new DataView(arg.buffer, arg.byteOffset).getUint32(0, true), FLAGS_MASK);
    case FS_IOC_FSGETXATTR: {
      if (outSize < fsxattr.size) throw new FsError('EINVAL', 'ioctl');
      const data = new Uint8Array(fsxattr.size);
      const xflags = XFLAGS.reduce((all, [flag, own]) => ((inode.flags & own) === 0 ? all : all | flag), 0) >>> 0;
      fsxattr.write(data, 0, { fsx_xflags: xflags, fsx_projid: inode.projid });
      return { result: 0, data };
    }
    case FS_IOC_FSSETXATTR:
      return setXflags(call);
    default:
      throw new FsError('ENOTTY', 'ioctl');
  }
}

function word(value: number, outSize: number): Answer {
  if (outSize < 4) throw new FsError('EINVAL', 'ioctl');
  // The commands say 8 bytes, and their users have room for 4.
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value >>> 0, true);
  return { result: 0, data };
}

function setXflags(call: IoctlCall): MaybePromise<Answer> {
  const { inode, arg } = call;
  if (arg.length < fsxattr.size) throw new FsError('EINVAL', 'ioctl');
  const { fsx_xflags, fsx_projid } = fsxattr.read(arg);
  const known = XFLAGS.reduce((all, [flag]) => all | flag, 0);
  if ((fsx_xflags & ~known) !== 0) throw new FsError('EOPNOTSUPP', 'ioctl');
  const mask = XFLAGS.reduce((all, [, own]) => all | own, 0);
  const flags = XFLAGS.reduce((all, [flag, own]) => ((fsx_xflags & flag) === 0 ? all : all | own), 0);
  if (fsx_projid === inode.projid) return setFlags(call, (inode.flags & ~mask) | flags, mask);
  const { sb } = inode;
  if (!isOwnerOrCapable(call.caller, inode)) throw new FsError('EPERM', 'ioctl');
  if (!sb.es.hasRoCompat(RO_COMPAT_PROJECT) || inode.extraIsize < 32)
    throw new FsError('EOPNOTSUPP', 'ioctl', { detail: 'feature project' });
  const moved = call.change(function* (h) {
    yield* modifyInode(h, inode);
    yield* transfer(h, inode, { uid: inode.uid, gid: inode.gid, projid: fsx_projid }, yield* countInodes(inode));
    inode.projid = fsx_projid;
    inode.ctime = sb.env.now();
  });
  return then(moved, () => setFlags(call, (inode.flags & ~mask) | flags, mask));
}

function setFlags(call: IoctlCall, asked: number, mask: number): MaybePromise<Answer> {
  const { caller, inode } = call;
  if (!isOwnerOrCapable(caller, inode)) throw new FsError('EACCES', 'ioctl');
  let flags = asked;
  if (!inode.isDirectory) flags &= ~(EXT4_DIRSYNC_FL | EXT4_TOPDIR_FL);
  if (!inode.isDirectory && !inode.isRegular) flags &= EXT4_NODUMP_FL | EXT4_NOATIME_FL;
  const changed = (flags ^ inode.flags) & EXT4_FL_USER_VISIBLE;
  if ((changed & (EXT4_IMMUTABLE_FL | EXT4_APPEND_FL)) !== 0 && !hasCap(caller, CAP_LINUX_IMMUTABLE)) throw new FsError('EPERM', 'ioctl');
  if (((flags ^ inode.flags) & EXT4_EXTENTS_FL & mask) !== 0)
    throw new FsError('EOPNOTSUPP', 'ioctl', { detail: 'changing how a file is mapped' });
  if (((flags ^ inode.flags) & EXT4_CASEFOLD_FL & mask) !== 0) throw new FsError('EOPNOTSUPP', 'ioctl', { detail: 'feature casefold' });
  const isJournalChange = ((flags ^ inode.flags) & EXT4_JOURNAL_DATA_FL & mask) !== 0;
  if (isJournalChange && !hasCap(caller, CAP_LINUX_IMMUTABLE)) throw new FsError('EPERM', 'ioctl');
  const apply = function* (h: Handle): Task<void> {
    yield* modifyInode(h, inode);
    inode.flags = ((inode.flags & ~mask) | (flags & mask)) >>> 0;
    inode.ctime = inode.sb.env.now();
  };
  const done = isJournalChange && inode.isRegular ? call.changeSettled(apply) : call.change(apply);
  return then(done, () => ({ result: 0, data: NOTHING }));
}
