import type { ErrnoCode } from '../../base/errno.ts';
import type { RequestBodies } from './bodies.ts';
import {
  cuse_init_in,
  cuse_init_out,
  fuse_access_in,
  fuse_attr_out,
  fuse_batch_forget_in,
  fuse_bmap_in,
  fuse_bmap_out,
  fuse_copy_file_range_in,
  fuse_copy_file_range_out,
  fuse_create_in,
  fuse_entry_out,
  fuse_fallocate_in,
  fuse_flush_in,
  fuse_forget_in,
  fuse_forget_one,
  fuse_fsync_in,
  fuse_getattr_in,
  fuse_getxattr_in,
  fuse_getxattr_out,
  fuse_init_in,
  fuse_init_out,
  fuse_interrupt_in,
  fuse_ioctl_in,
  fuse_ioctl_out,
  fuse_link_in,
  fuse_lk_in,
  fuse_lk_out,
  fuse_lseek_in,
  fuse_lseek_out,
  fuse_mkdir_in,
  fuse_mknod_in,
  fuse_notify_retrieve_in,
  fuse_open_in,
  fuse_open_out,
  fuse_poll_in,
  fuse_poll_out,
  fuse_read_in,
  fuse_release_in,
  fuse_removemapping_in,
  fuse_removemapping_one,
  fuse_rename_in,
  fuse_rename2_in,
  fuse_setattr_in,
  fuse_setupmapping_in,
  fuse_setxattr_in,
  fuse_statfs_out,
  fuse_statx_in,
  fuse_statx_out,
  fuse_syncfs_in,
  fuse_write_in,
  fuse_write_out,
  type WireForm,
} from './structs.ts';

// One row per operation: what its request and its reply are made of, and what the kernel makes of ENOSYS.
// Source: Linux include/uapi/linux/fuse.h; which answers are remembered, and what they mean, was observed on Linux 6.18.

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_SETATTR = 4;
export const FUSE_READLINK = 5;
export const FUSE_SYMLINK = 6;
export const FUSE_MKNOD = 8;
export const FUSE_MKDIR = 9;
export const FUSE_UNLINK = 10;
export const FUSE_RMDIR = 11;
export const FUSE_RENAME = 12;
export const FUSE_LINK = 13;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_SETXATTR = 21;
export const FUSE_GETXATTR = 22;
export const FUSE_LISTXATTR = 23;
export const FUSE_REMOVEXATTR = 24;
export const FUSE_FLUSH = 25;
export const FUSE_INIT = 26;
export const FUSE_OPENDIR = 27;
export const FUSE_READDIR = 28;
export const FUSE_RELEASEDIR = 29;
export const FUSE_FSYNCDIR = 30;
export const FUSE_GETLK = 31;
export const FUSE_SETLK = 32;
export const FUSE_SETLKW = 33;
export const FUSE_ACCESS = 34;
export const FUSE_CREATE = 35;
export const FUSE_INTERRUPT = 36;
export const FUSE_BMAP = 37;
export const FUSE_DESTROY = 38;
export const FUSE_IOCTL = 39;
export const FUSE_POLL = 40;
export const FUSE_NOTIFY_REPLY = 41;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;
export const FUSE_READDIRPLUS = 44;
export const FUSE_RENAME2 = 45;
export const FUSE_LSEEK = 46;
export const FUSE_COPY_FILE_RANGE = 47;
export const FUSE_SETUPMAPPING = 48;
export const FUSE_REMOVEMAPPING = 49;
export const FUSE_SYNCFS = 50;
export const FUSE_TMPFILE = 51;
export const FUSE_STATX = 52;
export const FUSE_COPY_FILE_RANGE_64 = 53;
export const CUSE_INIT = 4096;
/** INIT and CUSE_INIT of a peer with the other byte order. */
export const FUSE_INIT_BSWAP_RESERVED = 26 << 24;
export const CUSE_INIT_BSWAP_RESERVED = 16 << 16;

/**
 * What a name in a request may be. None holds a NUL, none is empty.
 *
 * entry: one component, no slash, not '.' or '..'. lookup: the same, or '.' or '..'. text: any bytes.
 */
export type NameKind = 'entry' | 'lookup' | 'text';

/**
 * What the kernel makes of ENOSYS. An error in its place, or success, or a fallback by other operations, all remembered for the session:
 * the operation is not sent again. ENOSYS itself and ENOTTY reach the caller each time. ignored: no one hears of it. off: the same, and
 * remembered.
 */
export type Enosys =
  | 'success'
  | 'fallback'
  | 'ignored'
  | 'off'
  | Extract<ErrnoCode, 'ENOSYS' | 'EPERM' | 'EINVAL' | 'EOPNOTSUPP' | 'ENOTTY'>;

/** One operation. A request is in_header, `in`, names each with a NUL, data, extensions; a reply out_header, `out`, data. */
export interface Operation {
  /** The C name. */
  readonly name: string;
  readonly opcode: number;
  /** Minor version of the protocol. */
  readonly since: number;
  readonly in: WireForm | undefined;
  readonly names: readonly NameKind[];
  /** Bytes of data after the names, as `in` claims them; without it there are none. */
  readonly dataLength: ((bodies: RequestBodies) => number) | undefined;
  /** Makes an inode: security contexts and groups may follow. */
  readonly creates: boolean;
  /** Takes a reply. What takes none has an id nevertheless. */
  readonly replies: boolean;
  readonly out: readonly WireForm[];
  /** after: bytes follow `out`. instead: only bytes, unless the request asked for size 0. */
  readonly outData: 'none' | 'after' | 'instead';
  /** Lookups that a reply counts: of its entry, or of each entry of a listing that has a nodeid and is not '.' or '..'. */
  readonly lookups: 0 | 1 | 'entries';
  readonly enosys: Enosys;
  /** ENOSYS is remembered for the session. */
  readonly sticky: boolean;
}

const REACHES_EACH_TIME: readonly Enosys[] = ['ENOSYS', 'ENOTTY', 'ignored'];

function row(name: string, opcode: number, since: number, given: Partial<Operation> = {}): Operation {
  const { out = [], enosys = 'ENOSYS' } = given;
  return {
    name,
    opcode,
    since,
    in: given.in,
    names: given.names ?? [],
    dataLength: given.dataLength,
    creates: given.creates ?? false,
    replies: given.replies ?? true,
    out,
    outData: given.outData ?? 'none',
    lookups: given.lookups ?? (out[0] === fuse_entry_out ? 1 : 0),
    enosys,
    sticky: !REACHES_EACH_TIME.includes(enosys),
  };
}

// biome-ignore format: one row per operation
export const OPERATIONS: readonly Operation[] = [
  row('FUSE_LOOKUP', FUSE_LOOKUP, 0, { names: ['lookup'], out: [fuse_entry_out] }),
  row('FUSE_FORGET', FUSE_FORGET, 0, { in: fuse_forget_in, replies: false, enosys: 'ignored' }),
  row('FUSE_GETATTR', FUSE_GETATTR, 0, { in: fuse_getattr_in, out: [fuse_attr_out] }),
  row('FUSE_SETATTR', FUSE_SETATTR, 1, { in: fuse_setattr_in, out: [fuse_attr_out] }),
  row('FUSE_READLINK', FUSE_READLINK, 0, { outData: 'after' }),
  row('FUSE_SYMLINK', FUSE_SYMLINK, 1, { names: ['entry', 'text'], creates: true, out: [fuse_entry_out] }),
  row('FUSE_MKNOD', FUSE_MKNOD, 1, { in: fuse_mknod_in, names: ['entry'], creates: true, out: [fuse_entry_out] }),
  row('FUSE_MKDIR', FUSE_MKDIR, 1, { in: fuse_mkdir_in, names: ['entry'], creates: true, out: [fuse_entry_out] }),
  row('FUSE_UNLINK', FUSE_UNLINK, 1, { names: ['entry'] }),
  row('FUSE_RMDIR', FUSE_RMDIR, 1, { names: ['entry'] }),
  row('FUSE_RENAME', FUSE_RENAME, 1, { in: fuse_rename_in, names: ['entry', 'entry'] }),
  row('FUSE_LINK', FUSE_LINK, 1, { in: fuse_link_in, names: ['entry'], out: [fuse_entry_out], enosys: 'EPERM' }),
  // no OPEN and RELEASE any more; FLUSH still comes, with fh 0
  row('FUSE_OPEN', FUSE_OPEN, 1, { in: fuse_open_in, out: [fuse_open_out], enosys: 'success' }),
  row('FUSE_READ', FUSE_READ, 1, { in: fuse_read_in, outData: 'after' }),
  row('FUSE_WRITE', FUSE_WRITE, 1, { in: fuse_write_in, dataLength: (b) => b.write_in.size, out: [fuse_write_out] }),
  row('FUSE_STATFS', FUSE_STATFS, 0, { out: [fuse_statfs_out] }),
  row('FUSE_RELEASE', FUSE_RELEASE, 1, { in: fuse_release_in, enosys: 'ignored' }),
  row('FUSE_FSYNC', FUSE_FSYNC, 1, { in: fuse_fsync_in, enosys: 'success' }),
  row('FUSE_SETXATTR', FUSE_SETXATTR, 1, { in: fuse_setxattr_in, names: ['text'],
    dataLength: (b) => b.setxattr_in.size, enosys: 'EOPNOTSUPP' }),
  row('FUSE_GETXATTR', FUSE_GETXATTR, 1, { in: fuse_getxattr_in, names: ['text'],
    out: [fuse_getxattr_out], outData: 'instead', enosys: 'EOPNOTSUPP' }),
  row('FUSE_LISTXATTR', FUSE_LISTXATTR, 1, { in: fuse_getxattr_in, out: [fuse_getxattr_out], outData: 'instead', enosys: 'EOPNOTSUPP' }),
  row('FUSE_REMOVEXATTR', FUSE_REMOVEXATTR, 1, { names: ['text'], enosys: 'EOPNOTSUPP' }),
  row('FUSE_FLUSH', FUSE_FLUSH, 1, { in: fuse_flush_in, enosys: 'success' }),
  row('FUSE_INIT', FUSE_INIT, 0, { in: fuse_init_in, out: [fuse_init_out] }),
  // no OPENDIR and RELEASEDIR any more; listings are cached
  row('FUSE_OPENDIR', FUSE_OPENDIR, 1, { in: fuse_open_in, out: [fuse_open_out], enosys: 'success' }),
  row('FUSE_READDIR', FUSE_READDIR, 1, { in: fuse_read_in, outData: 'after' }),
  row('FUSE_RELEASEDIR', FUSE_RELEASEDIR, 1, { in: fuse_release_in, enosys: 'ignored' }),
  row('FUSE_FSYNCDIR', FUSE_FSYNCDIR, 2, { in: fuse_fsync_in, enosys: 'success' }),
  row('FUSE_GETLK', FUSE_GETLK, 7, { in: fuse_lk_in, out: [fuse_lk_out] }),
  row('FUSE_SETLK', FUSE_SETLK, 7, { in: fuse_lk_in }),
  row('FUSE_SETLKW', FUSE_SETLKW, 7, { in: fuse_lk_in }),
  row('FUSE_ACCESS', FUSE_ACCESS, 3, { in: fuse_access_in, enosys: 'success' }),
  // MKNOD, then OPEN
  row('FUSE_CREATE', FUSE_CREATE, 3, { in: fuse_create_in, names: ['entry'], creates: true,
    out: [fuse_entry_out, fuse_open_out], enosys: 'fallback' }),
  // may be answered with EAGAIN (send it again) or ENOSYS, with its own unique
  row('FUSE_INTERRUPT', FUSE_INTERRUPT, 7, { in: fuse_interrupt_in, replies: false, enosys: 'off' }),
  row('FUSE_BMAP', FUSE_BMAP, 8, { in: fuse_bmap_in, out: [fuse_bmap_out], enosys: 'success' }), // block 0
  row('FUSE_DESTROY', FUSE_DESTROY, 8, { enosys: 'ignored' }),
  row('FUSE_IOCTL', FUSE_IOCTL, 11, { in: fuse_ioctl_in, dataLength: (b) => b.ioctl_in.in_size,
    out: [fuse_ioctl_out], outData: 'after', enosys: 'ENOTTY' }),
  row('FUSE_POLL', FUSE_POLL, 11, { in: fuse_poll_in, out: [fuse_poll_out], enosys: 'success' }), // always ready
  row('FUSE_NOTIFY_REPLY', FUSE_NOTIFY_REPLY, 15, { in: fuse_notify_retrieve_in, dataLength: (b) => b.notify_retrieve_in.size,
    replies: false, enosys: 'ignored' }),
  row('FUSE_BATCH_FORGET', FUSE_BATCH_FORGET, 16, { in: fuse_batch_forget_in, dataLength: (b) => b.batch_forget_in.count * fuse_forget_one.size,
    replies: false, enosys: 'ignored' }),
  row('FUSE_FALLOCATE', FUSE_FALLOCATE, 19, { in: fuse_fallocate_in, enosys: 'EOPNOTSUPP' }),
  row('FUSE_READDIRPLUS', FUSE_READDIRPLUS, 21, { in: fuse_read_in, outData: 'after', lookups: 'entries' }),
  row('FUSE_RENAME2', FUSE_RENAME2, 23, { in: fuse_rename2_in, names: ['entry', 'entry'], enosys: 'EINVAL' }),
  row('FUSE_LSEEK', FUSE_LSEEK, 24, { in: fuse_lseek_in, out: [fuse_lseek_out], enosys: 'fallback' }), // the file is data up to its size
  // READ and WRITE
  row('FUSE_COPY_FILE_RANGE', FUSE_COPY_FILE_RANGE, 28, { in: fuse_copy_file_range_in, out: [fuse_write_out], enosys: 'fallback' }),
  row('FUSE_SETUPMAPPING', FUSE_SETUPMAPPING, 31, { in: fuse_setupmapping_in }),
  row('FUSE_REMOVEMAPPING', FUSE_REMOVEMAPPING, 31, { in: fuse_removemapping_in,
    dataLength: (b) => b.removemapping_in.count * fuse_removemapping_one.size }),
  row('FUSE_SYNCFS', FUSE_SYNCFS, 34, { in: fuse_syncfs_in, enosys: 'success' }),
  // the name is '/'
  row('FUSE_TMPFILE', FUSE_TMPFILE, 37, { in: fuse_create_in, names: ['text'], creates: true,
    out: [fuse_entry_out, fuse_open_out], enosys: 'EOPNOTSUPP' }),
  row('FUSE_STATX', FUSE_STATX, 39, { in: fuse_statx_in, out: [fuse_statx_out], enosys: 'fallback' }), // GETATTR
  // COPY_FILE_RANGE
  row('FUSE_COPY_FILE_RANGE_64', FUSE_COPY_FILE_RANGE_64, 45, { in: fuse_copy_file_range_in,
    out: [fuse_copy_file_range_out], enosys: 'fallback' }),
  row('CUSE_INIT', CUSE_INIT, 12, { in: cuse_init_in, out: [cuse_init_out], outData: 'after' }),
];

// CUSE_INIT is far away from the others; an array with a hole that wide would be slow.
const byOpcode: (Operation | undefined)[] = [];
for (const operation of OPERATIONS) if (operation.opcode !== CUSE_INIT) byOpcode[operation.opcode] = operation;
const cuseInit = OPERATIONS.find((operation) => operation.opcode === CUSE_INIT);

/** The row of an opcode, undefined for one that these tables do not know. */
export function operationOf(opcode: number): Operation | undefined {
  return opcode === CUSE_INIT ? cuseInit : byOpcode[opcode];
}

/** FUSE_* of an opcode, for people. */
export function opcodeName(opcode: number): string {
  return operationOf(opcode)?.name ?? `opcode ${opcode}`;
}
