// biome-ignore-all format: one row per field, as the formats are drawn
import { struct, u16, u32, u64 } from '../../layout/struct.ts';

// Quota files, "vfsv1": blocks of 1 KiB. The first has header and info; from the second on grows a tree of references, a level for each byte of
// an id, which leads to a block with the record of that id among others. Little-endian.
// Source: quota-tools documentation of the format; Linux fs/quota/quotaio_v2.h, quota_tree.h.

/** Unit of the file, whatever the block size of the volume. */
export const QT_BLKSIZE = 1024;
/** Block of the root of the tree. */
export const QT_TREEOFF = 1;
/** Levels of references. */
export const QT_DEPTH = 4;

// By type: users, groups, projects.
export const QUOTA_MAGICS: readonly number[] = [0xd9c01f11, 0xd9c01927, 0xd9c03f14];
export const QUOTA_VERSION = 1;

export const v2_disk_dqheader = struct('v2_disk_dqheader', 8, { dqh_magic: u32(0), dqh_version: u32(4) });

/** Behind the header. */
export const v2_disk_dqinfo = struct('v2_disk_dqinfo', 24, {
  dqi_bgrace:     u32(0),  // seconds that a soft limit of space may be exceeded
  dqi_igrace:     u32(4),  // and one of inodes
  dqi_flags:      u32(8),
  dqi_blocks:     u32(12), // of the file
  dqi_free_blk:   u32(16), // first block of the list of those that hold nothing, 0: none
  dqi_free_entry: u32(20), // first block of the list of those with records that have room for more, 0: none
});

/** At the start of a block with records. */
export const qt_disk_dqdbheader = struct('qt_disk_dqdbheader', 16, {
  dqdh_next_free: u32(0),
  dqdh_prev_free: u32(4),
  dqdh_entries:   u16(8), // records in use
  dqdh_pad1:      u16(10),
  dqdh_pad2:      u32(12),
});

/** What an id has and may have. A record of zeros is not in use. */
export const v2r1_disk_dqblk = struct('v2r1_disk_dqblk', 72, {
  dqb_id:         u32(0),
  dqb_pad:        u32(4),
  dqb_ihardlimit: u64(8),  // inodes; 0: no limit
  dqb_isoftlimit: u64(16),
  dqb_curinodes:  u64(24),
  dqb_bhardlimit: u64(32), // units of 1024 bytes; 0: no limit
  dqb_bsoftlimit: u64(40),
  dqb_curspace:   u64(48), // bytes
  dqb_btime:      u64(56), // when the grace of space ends, 0: it did not begin
  dqb_itime:      u64(64), // of inodes; 1 in a record of an id 0 that would otherwise be all zeros
});

/** Records in a block. */
export const DQUOTS_PER_BLOCK = Math.floor((QT_BLKSIZE - qt_disk_dqdbheader.size) / v2r1_disk_dqblk.size);
