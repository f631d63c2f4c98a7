// biome-ignore-all format: one row per field, as the formats are drawn
import { bytes, type Fields, pad, type Struct, s32, s64, struct, u16, u32, u64, u64big, type View } from '../../layout/struct.ts';

// The C structs of FUSE up to protocol 7.45: name, size, fields with offset and unit. Little-endian: both sides run on one machine, and
// we run on no big-endian one. Every struct is padded to 8 bytes by its C definition, so offsets are the same for 32-bit servers.
// Source: Linux include/uapi/linux/fuse.h.
//
// Numbers: ids that this side or the kernel counts up (nodeid, fh, kh) and all sizes and positions are checked numbers (u64: reading one
// past 2^53 - 1 is EOVERFLOW). Opaque words (lock owners), ends of locks and lengths that say "all" are u64big.

/** What the tables say of any struct. */
export interface WireForm {
  /** The C name. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Minor version of the protocol that introduced it. */
  readonly since: number;
  /** Shorter forms, newest first: a peer of a minor below `before` sends and expects the first `size` bytes only. */
  readonly compat: readonly CompatSize[];
}

export interface CompatSize {
  readonly before: number;
  /** Bytes. */
  readonly size: number;
}

/** A struct of the protocol. */
export type WireStruct<F extends Fields> = Struct<F> & WireForm;

/** The cursor of a struct. */
export type ViewOf<S> = S extends Struct<infer F> ? View<F> : never;

type Compat = readonly CompatSize[];

function wire<const F extends Fields>(since: number, name: string, size: number, fields: F, compat: Compat = []): WireStruct<F> {
  return { ...struct(name, size, fields, { malformed: 'EPROTO' }), since, compat };
}

/** Bytes of a struct as a peer of this minor version sends it. */
export function sizeAt(form: WireForm, minor: number): number {
  let { size } = form;
  for (const shorter of form.compat) if (minor < shorter.before) size = shorter.size;
  return size;
}

// Framing.

export const fuse_in_header = wire(0, 'fuse_in_header', 40, {
  len:          u32(0),    // bytes of the whole message, with this header and the extensions
  opcode:       u32(4),
  unique:       u64big(8), // number of the request; bit 0: its interrupt, bit 63: a copy sent again. Decoded by words.ts
  nodeid:       u64(16),   // 0 for messages without a node
  uid:          u32(24),   // the caller's fsuid; 0xffffffff where an id-mapped mount hides it
  gid:          u32(28),
  pid:          u32(32),   // 0 for work of the kernel itself
  total_extlen: u16(36),   // extensions at the end of the message, units of 8 bytes; 7.38, zero before
  padding:      pad(38, 2),
});

export const fuse_out_header = wire(0, 'fuse_out_header', 16, {
  len:    u32(0),
  error:  s32(4),    // 0 or -511..-1; of a notification (unique 0) its code, positive
  unique: u64big(8), // that of the request, bit 63 included
});

// Shared by several operations.

export const fuse_attr = wire(0, 'fuse_attr', 88, {
  ino:       u64(0),
  size:      u64(8),  // bytes
  blocks:    u64(16), // units of 512 bytes
  atime:     s64(24), // seconds; unsigned in C, and negative before 1970 nevertheless
  mtime:     s64(32),
  ctime:     s64(40),
  atimensec: u32(48),
  mtimensec: u32(52),
  ctimensec: u32(56),
  mode:      u32(60),
  nlink:     u32(64),
  uid:       u32(68),
  gid:       u32(72),
  rdev:      u32(76), // minor 0..7, major 8..19, minor 20..31
  blksize:   u32(80), // 7.9
  flags:     u32(84), // FUSE_ATTR_*; 7.32, padding before
}, [{ before: 9, size: 80 }]);

export const fuse_kstatfs = wire(0, 'fuse_kstatfs', 80, {
  blocks:  u64(0),  // in units of frsize
  bfree:   u64(8),
  bavail:  u64(16),
  files:   u64(24),
  ffree:   u64(32),
  bsize:   u32(40), // bytes
  namelen: u32(44),
  frsize:  u32(48), // bytes; 7.4
  padding: pad(52, 4),
  spare:   pad(56, 24),
}, [{ before: 4, size: 48 }]);

export const fuse_file_lock = wire(7, 'fuse_file_lock', 24, {
  start: u64big(0), // first byte
  end:   u64big(8), // last byte; 0x7fffffffffffffff: to the end wherever it comes to be
  type:  u32(16),   // F_RDLCK, F_WRLCK, F_UNLCK
  pid:   u32(20),
});

// Replies that several operations share.

export const fuse_entry_out = wire(0, 'fuse_entry_out', 128, {
  nodeid:           u64(0),  // 0: there is no such name, for entry_valid
  generation:       u64(8),  // (nodeid, generation) names one inode for ever
  entry_valid:      u64(16), // seconds
  attr_valid:       u64(24),
  entry_valid_nsec: u32(32),
  attr_valid_nsec:  u32(36),
  attr:             bytes(40, 88),
}, [{ before: 9, size: 120 }]);

export const fuse_attr_out = wire(0, 'fuse_attr_out', 104, {
  attr_valid:      u64(0), // seconds
  attr_valid_nsec: u32(8),
  dummy:           pad(12, 4),
  attr:            bytes(16, 88),
}, [{ before: 9, size: 96 }]);

export const fuse_open_out = wire(1, 'fuse_open_out', 16, {
  fh:         u64(0),
  open_flags: u32(8),  // FOPEN_*
  backing_id: s32(12), // of FUSE_DEV_IOC_BACKING_OPEN; 7.40, padding before
});

// Names and inodes.

export const fuse_forget_in = wire(0, 'fuse_forget_in', 8, {
  nlookup: u64(0),
});

export const fuse_batch_forget_in = wire(16, 'fuse_batch_forget_in', 8, {
  count: u32(0), // of fuse_forget_one that follow
  dummy: pad(4, 4),
});

export const fuse_forget_one = wire(16, 'fuse_forget_one', 16, {
  nodeid:  u64(0),
  nlookup: u64(8),
});

export const fuse_getattr_in = wire(9, 'fuse_getattr_in', 16, {
  getattr_flags: u32(0), // FUSE_GETATTR_*
  dummy:         pad(4, 4),
  fh:            u64(8), // only with FUSE_GETATTR_FH
}, [{ before: 9, size: 0 }]);

export const fuse_setattr_in = wire(1, 'fuse_setattr_in', 88, {
  valid:      u32(0),  // FATTR_*: which of the fields are meant
  padding:    pad(4, 4),
  fh:         u64(8),
  size:       u64(16), // bytes
  lock_owner: u64big(24),
  atime:      s64(32), // seconds
  mtime:      s64(40),
  ctime:      s64(48), // 7.23
  atimensec:  u32(56),
  mtimensec:  u32(60),
  ctimensec:  u32(64), // 7.23
  mode:       u32(68), // with the file type
  unused4:    pad(72, 4),
  uid:        u32(76),
  gid:        u32(80),
  unused5:    pad(84, 4),
});

export const fuse_mknod_in = wire(1, 'fuse_mknod_in', 16, {
  mode:    u32(0),
  rdev:    u32(4),
  umask:   u32(8), // 7.12
  padding: pad(12, 4),
}, [{ before: 12, size: 8 }]);

export const fuse_mkdir_in = wire(1, 'fuse_mkdir_in', 8, {
  mode:  u32(0), // without S_IFDIR
  umask: u32(4), // 7.12, padding before
});

export const fuse_rename_in = wire(1, 'fuse_rename_in', 8, {
  newdir: u64(0), // nodeid; the header has that of the old directory
});

export const fuse_rename2_in = wire(23, 'fuse_rename2_in', 16, {
  newdir:  u64(0),
  flags:   u32(8), // RENAME_*
  padding: pad(12, 4),
});

export const fuse_link_in = wire(1, 'fuse_link_in', 8, {
  oldnodeid: u64(0), // the inode; the header has the new directory
});

export const fuse_access_in = wire(3, 'fuse_access_in', 8, {
  mask:    u32(0),
  padding: pad(4, 4),
});

export const fuse_statx_in = wire(39, 'fuse_statx_in', 24, {
  getattr_flags: u32(0),
  reserved:      pad(4, 4),
  fh:            u64(8),
  sx_flags:      u32(16), // AT_STATX_*
  sx_mask:       u32(20), // STATX_*
});

export const fuse_sx_time = wire(39, 'fuse_sx_time', 16, {
  tv_sec:     s64(0),
  tv_nsec:    u32(8),
  __reserved: pad(12, 4),
});

export const fuse_statx = wire(39, 'fuse_statx', 256, {
  mask:            u32(0),        // STATX_* that are filled
  blksize:         u32(4),
  attributes:      u64(8),        // STATX_ATTR_*
  nlink:           u32(16),
  uid:             u32(20),
  gid:             u32(24),
  mode:            u16(28),
  __spare0:        pad(30, 2),
  ino:             u64(32),
  size:            u64(40),
  blocks:          u64(48),       // units of 512 bytes
  attributes_mask: u64(56),
  atime:           bytes(64, 16), // fuse_sx_time, and so are the next three
  btime:           bytes(80, 16),
  ctime:           bytes(96, 16),
  mtime:           bytes(112, 16),
  rdev_major:      u32(128),
  rdev_minor:      u32(132),
  dev_major:       u32(136),
  dev_minor:       u32(140),
  __spare2:        pad(144, 112),
});

export const fuse_statx_out = wire(39, 'fuse_statx_out', 288, {
  attr_valid:      u64(0),  // seconds
  attr_valid_nsec: u32(8),
  flags:           u32(12), // FUSE_ATTR_*
  spare:           pad(16, 16),
  stat:            bytes(32, 256),
});

// Open files.

export const fuse_open_in = wire(1, 'fuse_open_in', 8, {
  flags:      u32(0), // O_*, without O_CREAT, O_EXCL, O_NOCTTY
  open_flags: u32(4), // FUSE_OPEN_*; 7.33, unused before
});

export const fuse_create_in = wire(3, 'fuse_create_in', 16, {
  flags:      u32(0),  // O_*
  mode:       u32(4),
  umask:      u32(8),  // 7.12
  open_flags: u32(12), // FUSE_OPEN_*; 7.33, padding before
}, [{ before: 12, size: 8 }]);

export const fuse_release_in = wire(1, 'fuse_release_in', 24, {
  fh:            u64(0),
  flags:         u32(8),     // O_*
  release_flags: u32(12),    // FUSE_RELEASE_*; 7.8
  lock_owner:    u64big(16), // with FUSE_RELEASE_FLOCK_UNLOCK; 7.8
}, [{ before: 8, size: 16 }]);

export const fuse_flush_in = wire(1, 'fuse_flush_in', 24, {
  fh:         u64(0),
  unused:     pad(8, 4),
  padding:    pad(12, 4),
  lock_owner: u64big(16), // 7.8
}, [{ before: 8, size: 16 }]);

export const fuse_read_in = wire(1, 'fuse_read_in', 40, {
  fh:         u64(0),
  offset:     u64(8),     // bytes; of a directory: the `off` of an entry, or 0
  size:       u32(16),    // bytes
  read_flags: u32(20),    // FUSE_READ_*; 7.9
  lock_owner: u64big(24), // with FUSE_READ_LOCKOWNER; 7.9
  flags:      u32(32),    // O_* of the open file; 7.9
  padding:    pad(36, 4),
}, [{ before: 9, size: 24 }]);

export const fuse_write_in = wire(1, 'fuse_write_in', 40, {
  fh:          u64(0),
  offset:      u64(8),
  size:        u32(16),    // bytes of data that follow
  write_flags: u32(20),    // FUSE_WRITE_*
  lock_owner:  u64big(24), // with FUSE_WRITE_LOCKOWNER; 7.9
  flags:       u32(32),    // O_* of the open file, 0 with FUSE_WRITE_CACHE; 7.9
  padding:     pad(36, 4),
}, [{ before: 9, size: 24 }]);

export const fuse_write_out = wire(1, 'fuse_write_out', 8, {
  size:    u32(0), // bytes taken
  padding: pad(4, 4),
});

export const fuse_statfs_out = wire(1, 'fuse_statfs_out', 80, {
  st: bytes(0, 80),
}, [{ before: 4, size: 48 }]);

export const fuse_fsync_in = wire(1, 'fuse_fsync_in', 16, {
  fh:          u64(0),
  fsync_flags: u32(8), // FUSE_FSYNC_*
  padding:     pad(12, 4),
});

export const fuse_lk_in = wire(7, 'fuse_lk_in', 48, {
  fh:       u64(0),
  owner:    u64big(8),
  lk:       bytes(16, 24),
  lk_flags: u32(40), // FUSE_LK_*; 7.9
  padding:  pad(44, 4),
}, [{ before: 9, size: 40 }]);

export const fuse_lk_out = wire(7, 'fuse_lk_out', 24, {
  lk: bytes(0, 24), // F_UNLCK: nothing is in the way
});

export const fuse_bmap_in = wire(8, 'fuse_bmap_in', 16, {
  block:     u64(0), // of the file, in units of blocksize
  blocksize: u32(8), // bytes
  padding:   pad(12, 4),
});

export const fuse_bmap_out = wire(8, 'fuse_bmap_out', 8, {
  block: u64(0), // of the device
});

export const fuse_ioctl_in = wire(11, 'fuse_ioctl_in', 32, {
  fh:       u64(0),
  flags:    u32(8),     // FUSE_IOCTL_*
  cmd:      u32(12),
  arg:      u64big(16), // the pointer of the calling program
  in_size:  u32(24),    // bytes of data that follow
  out_size: u32(28),    // bytes that the reply may carry
});

export const fuse_ioctl_iovec = wire(16, 'fuse_ioctl_iovec', 16, {
  base: u64big(0),
  len:  u64big(8),
});

export const fuse_ioctl_out = wire(11, 'fuse_ioctl_out', 16, {
  result:   s32(0),
  flags:    u32(4), // FUSE_IOCTL_RETRY, of CUSE only
  in_iovs:  u32(8),
  out_iovs: u32(12),
});

export const fuse_poll_in = wire(11, 'fuse_poll_in', 24, {
  fh:     u64(0),
  kh:     u64(8),  // to be named by FUSE_NOTIFY_POLL
  flags:  u32(16), // FUSE_POLL_*
  events: u32(20), // POLL*; 7.21, padding before
});

export const fuse_poll_out = wire(11, 'fuse_poll_out', 8, {
  revents: u32(0),
  padding: pad(4, 4),
});

export const fuse_fallocate_in = wire(19, 'fuse_fallocate_in', 32, {
  fh:      u64(0),
  offset:  u64(8),
  length:  u64(16),
  mode:    u32(24), // FALLOC_FL_*
  padding: pad(28, 4),
});

export const fuse_lseek_in = wire(24, 'fuse_lseek_in', 24, {
  fh:      u64(0),
  offset:  u64(8),
  whence:  u32(16), // SEEK_DATA, SEEK_HOLE
  padding: pad(20, 4),
});

export const fuse_lseek_out = wire(24, 'fuse_lseek_out', 8, {
  offset: u64(0),
});

export const fuse_copy_file_range_in = wire(28, 'fuse_copy_file_range_in', 56, {
  fh_in:      u64(0),
  off_in:     u64(8),
  nodeid_out: u64(16),
  fh_out:     u64(24),
  off_out:    u64(32),
  len:        u64big(40), // bytes; may say "all"
  flags:      u64big(48),
});

export const fuse_copy_file_range_out = wire(45, 'fuse_copy_file_range_out', 8, {
  bytes_copied: u64(0),
});

export const fuse_syncfs_in = wire(34, 'fuse_syncfs_in', 8, {
  padding: pad(0, 8),
});

// Directories.

export const fuse_dirent = wire(1, 'fuse_dirent', 24, {
  ino:     u64(0),
  off:     u64(8),  // where the listing goes on after this name: opaque, above 0
  namelen: u32(16), // bytes of the name that follows, padded with zeros to 8
  type:    u32(20), // file type bits of a mode, shifted down by 12
});

export const fuse_direntplus = wire(21, 'fuse_direntplus', 152, {
  entry_out: bytes(0, 128), // nodeid 0: not looked up
  dirent:    bytes(128, 24),
});

// Extended attributes.

export const fuse_setxattr_in = wire(1, 'fuse_setxattr_in', 16, {
  size:           u32(0), // bytes of the value, which follows the name
  flags:          u32(4), // XATTR_*
  setxattr_flags: u32(8), // FUSE_SETXATTR_*; only where FUSE_SETXATTR_EXT is agreed
  padding:        pad(12, 4),
}, [{ before: 33, size: 8 }]);

export const fuse_getxattr_in = wire(1, 'fuse_getxattr_in', 8, {
  size:    u32(0), // room for the answer; 0 asks for its size
  padding: pad(4, 4),
});

export const fuse_getxattr_out = wire(1, 'fuse_getxattr_out', 8, {
  size:    u32(0),
  padding: pad(4, 4),
});

// The session.

export const fuse_init_in = wire(0, 'fuse_init_in', 64, {
  major:         u32(0),
  minor:         u32(4),
  max_readahead: u32(8),  // bytes; 7.6
  flags:         u32(12), // FUSE_* 0..31; 7.6
  flags2:        u32(16), // FUSE_* 32..63, with FUSE_INIT_EXT; 7.36
  unused:        pad(20, 44),
}, [{ before: 36, size: 16 }, { before: 6, size: 8 }]);

export const fuse_init_out = wire(0, 'fuse_init_out', 64, {
  major:                u32(0),
  minor:                u32(4),
  max_readahead:        u32(8),  // bytes; 7.6
  flags:                u32(12), // 7.5
  max_background:       u16(16), // 7.13; 0: the kernel's own
  congestion_threshold: u16(18), // 7.13; 0: the kernel's own
  max_write:            u32(20), // bytes; 7.5
  time_gran:            u32(24), // nanoseconds; 7.23
  max_pages:            u16(28), // with FUSE_MAX_PAGES; 7.28
  map_alignment:        u16(30), // log2 of bytes, with FUSE_MAP_ALIGNMENT; 7.31
  flags2:               u32(32), // with FUSE_INIT_EXT; 7.36
  max_stack_depth:      u32(36), // with FUSE_PASSTHROUGH; 7.40
  request_timeout:      u16(40), // seconds, with FUSE_REQUEST_TIMEOUT; 7.43
  unused:               pad(42, 22),
}, [{ before: 23, size: 24 }, { before: 5, size: 8 }]);

export const fuse_interrupt_in = wire(7, 'fuse_interrupt_in', 8, {
  unique: u64big(0), // of the request to be interrupted
});

export const cuse_init_in = wire(12, 'cuse_init_in', 16, {
  major:  u32(0),
  minor:  u32(4),
  unused: pad(8, 4),
  flags:  u32(12), // CUSE_*
});

export const cuse_init_out = wire(12, 'cuse_init_out', 72, {
  major:     u32(0),
  minor:     u32(4),
  unused:    pad(8, 4),
  flags:     u32(12),
  max_read:  u32(16),
  max_write: u32(20),
  dev_major: u32(24),
  dev_minor: u32(28),
  spare:     pad(32, 40),
});

// DAX.

export const fuse_setupmapping_in = wire(31, 'fuse_setupmapping_in', 40, {
  fh:      u64(0),
  foffset: u64(8),  // bytes of the file
  len:     u64(16),
  flags:   u64(24), // FUSE_SETUPMAPPING_FLAG_*
  moffset: u64(32), // bytes of the window
});

export const fuse_removemapping_in = wire(31, 'fuse_removemapping_in', 4, {
  count: u32(0), // of fuse_removemapping_one that follow, unaligned
});

export const fuse_removemapping_one = wire(31, 'fuse_removemapping_one', 16, {
  moffset: u64(0),
  len:     u64(8),
});

// Extensions, at the end of a message.

export const fuse_ext_header = wire(38, 'fuse_ext_header', 8, {
  size: u32(0), // bytes with this header
  type: u32(4), // 0..31: a fuse_secctx_header, and this is its count; FUSE_EXT_GROUPS
});

export const fuse_secctx_header = wire(36, 'fuse_secctx_header', 8, {
  size:      u32(0), // bytes of the whole block
  nr_secctx: u32(4),
});

export const fuse_secctx = wire(36, 'fuse_secctx', 8, {
  size:    u32(0), // bytes of the value, which follows the name; the next one starts at a multiple of 8
  padding: pad(4, 4),
});

export const fuse_supp_groups = wire(38, 'fuse_supp_groups', 4, {
  nr_groups: u32(0), // of gids that follow, 4 bytes each
});

// Notifications.

export const fuse_notify_poll_wakeup_out = wire(11, 'fuse_notify_poll_wakeup_out', 8, {
  kh: u64(0),
});

export const fuse_notify_inval_inode_out = wire(12, 'fuse_notify_inval_inode_out', 24, {
  ino: u64(0),  // nodeid
  off: s64(8),  // negative: attributes only
  len: s64(16), // 0 and below: to the end
});

export const fuse_notify_inval_entry_out = wire(12, 'fuse_notify_inval_entry_out', 16, {
  parent:  u64(0),
  namelen: u32(8),  // without the NUL that is there
  flags:   u32(12), // FUSE_EXPIRE_ONLY; 7.38, padding before
});

export const fuse_notify_delete_out = wire(18, 'fuse_notify_delete_out', 24, {
  parent:  u64(0),
  child:   u64(8),
  namelen: u32(16), // without the NUL that is there
  padding: pad(20, 4),
});

export const fuse_notify_store_out = wire(15, 'fuse_notify_store_out', 24, {
  nodeid:  u64(0),
  offset:  u64(8),
  size:    u32(16), // bytes of data that follow
  padding: pad(20, 4),
});

export const fuse_notify_retrieve_out = wire(15, 'fuse_notify_retrieve_out', 32, {
  notify_unique: u64(0), // comes back as the unique of FUSE_NOTIFY_REPLY
  nodeid:        u64(8),
  offset:        u64(16),
  size:          u32(24),
  padding:       pad(28, 4),
});

/** Of FUSE_NOTIFY_REPLY. The size of fuse_write_in, so that data is at the same place. */
export const fuse_notify_retrieve_in = wire(15, 'fuse_notify_retrieve_in', 40, {
  dummy1: pad(0, 8),
  offset: u64(8),
  size:   u32(16), // bytes of data that follow
  dummy2: pad(20, 4),
  dummy3: pad(24, 8),
  dummy4: pad(32, 8),
});

export const fuse_notify_prune_out = wire(45, 'fuse_notify_prune_out', 16, {
  count:   u32(0), // of nodeids that follow, 8 bytes each
  padding: pad(4, 4),
  spare:   pad(8, 8),
});

// The device.

/** Argument of FUSE_DEV_IOC_BACKING_OPEN. */
export const fuse_backing_map = wire(40, 'fuse_backing_map', 16, {
  fd:      s32(0),
  flags:   u32(4), // 0
  padding: pad(8, 8),
});

// io_uring.

export const fuse_uring_ent_in_out = wire(42, 'fuse_uring_ent_in_out', 32, {
  flags:      u64big(0),
  commit_id:  u64big(8),
  payload_sz: u32(16), // bytes of the payload buffer that are used
  padding:    pad(20, 4),
  reserved:   pad(24, 8),
});

export const fuse_uring_req_header = wire(42, 'fuse_uring_req_header', 288, {
  in_out:          bytes(0, 128),   // fuse_in_header, and fuse_out_header over it
  op_in:           bytes(128, 128), // first struct of the request
  ring_ent_in_out: bytes(256, 32),
});

/** At byte 48 of a submission of 128 bytes. */
export const fuse_uring_cmd_req = wire(42, 'fuse_uring_cmd_req', 24, {
  flags:     u64big(0),
  commit_id: u64big(8),
  qid:       u16(16),
  padding:   pad(18, 6),
});
