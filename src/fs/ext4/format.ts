// biome-ignore-all format: one row per field, as the formats are drawn
import { bytes, cstr, pad, struct, u8, u16, u32, u32array } from '../../layout/struct.ts';

// The structs of ext2, ext3 and ext4 that more than one file reads. Little-endian. Source: Linux fs/ext4/ext4.h, documented offsets.

export const EXT4_SUPER_MAGIC = 0xef53;
/** Bytes from the start of the volume, whatever the block size. */
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 1024;

export const ext4_super_block = struct('ext4_super_block', 1024, {
  s_inodes_count:         u32(0x000), // inodes per group times groups
  s_blocks_count_lo:      u32(0x004),
  s_r_blocks_count_lo:    u32(0x008), // kept for s_def_resuid, s_def_resgid and root
  s_free_blocks_count_lo: u32(0x00c), // blocks, with bigalloc too; stale after a crash
  s_free_inodes_count:    u32(0x010), // stale after a crash
  s_first_data_block:     u32(0x014), // 0, or 1 with blocks of 1 KiB without bigalloc
  s_log_block_size:       u32(0x018), // block size 1024 << n
  s_log_cluster_size:     u32(0x01c),
  s_blocks_per_group:     u32(0x020),
  s_clusters_per_group:   u32(0x024),
  s_inodes_per_group:     u32(0x028),
  s_mtime:                u32(0x02c), // last mount, seconds; high byte at s_mtime_hi
  s_wtime:                u32(0x030), // last write of the superblock
  s_mnt_count:            u16(0x034),
  s_max_mnt_count:        u16(0x036), // signed, -1: never
  s_magic:                u16(0x038),
  s_state:                u16(0x03a), // EXT4_VALID_FS, ...
  s_errors:               u16(0x03c), // EXT4_ERRORS_*
  s_minor_rev_level:      u16(0x03e),
  s_lastcheck:            u32(0x040),
  s_checkinterval:        u32(0x044),
  s_creator_os:           u32(0x048),
  s_rev_level:            u32(0x04c), // 0: inodes of 128 bytes, the first at 11, no features
  s_def_resuid:           u16(0x050),
  s_def_resgid:           u16(0x052),
  s_first_ino:            u32(0x054),
  s_inode_size:           u16(0x058),
  s_block_group_nr:       u16(0x05a), // of this copy
  s_feature_compat:       u32(0x05c),
  s_feature_incompat:     u32(0x060),
  s_feature_ro_compat:    u32(0x064),
  s_uuid:                 bytes(0x068, 16),
  s_volume_name:          cstr(0x078, 16),
  s_last_mounted:         cstr(0x088, 64),
  s_algorithm_usage_bitmap: u32(0x0c8),
  s_prealloc_blocks:      u8(0x0cc),
  s_prealloc_dir_blocks:  u8(0x0cd),
  s_reserved_gdt_blocks:  u16(0x0ce),
  s_journal_uuid:         bytes(0x0d0, 16), // not zero: an external journal
  s_journal_inum:         u32(0x0e0),
  s_journal_dev:          u32(0x0e4),
  s_last_orphan:          u32(0x0e8), // head of the list through i_dtime
  s_hash_seed:            u32array(0x0ec, 4),
  s_def_hash_version:     u8(0x0fc),
  s_jnl_backup_type:      u8(0x0fd),
  s_desc_size:            u16(0x0fe), // with 64bit only
  s_default_mount_opts:   u32(0x100),
  s_first_meta_bg:        u32(0x104),
  s_mkfs_time:            u32(0x108),
  s_jnl_blocks:           u32array(0x10c, 17), // i_block of the journal, then its size, high word first
  s_blocks_count_hi:      u32(0x150),
  s_r_blocks_count_hi:    u32(0x154),
  s_free_blocks_count_hi: u32(0x158),
  s_min_extra_isize:      u16(0x15c),
  s_want_extra_isize:     u16(0x15e),
  s_flags:                u32(0x160), // EXT2_FLAGS_*
  s_raid_stride:          u16(0x164),
  s_mmp_update_interval:  u16(0x166), // seconds
  s_mmp_block_lo:         u32(0x168),
  s_mmp_block_hi:         u32(0x16c),
  s_raid_stripe_width:    u32(0x170),
  s_log_groups_per_flex:  u8(0x174),
  s_checksum_type:        u8(0x175), // 1: crc32c
  s_encryption_level:     u8(0x176),
  s_reserved_pad:         pad(0x177, 1),
  s_kbytes_written_lo:    u32(0x178),
  s_kbytes_written_hi:    u32(0x17c),
  s_snapshot:             pad(0x180, 20),
  s_error_count:          u32(0x194),
  s_first_error_time:     u32(0x198),
  s_first_error_ino:      u32(0x19c),
  s_first_error_block_lo: u32(0x1a0),
  s_first_error_block_hi: u32(0x1a4),
  s_first_error_func:     cstr(0x1a8, 32),
  s_first_error_line:     u32(0x1c8),
  s_last_error_time:      u32(0x1cc),
  s_last_error_ino:       u32(0x1d0),
  s_last_error_line:      u32(0x1d4),
  s_last_error_block_lo:  u32(0x1d8),
  s_last_error_block_hi:  u32(0x1dc),
  s_last_error_func:      cstr(0x1e0, 32),
  s_mount_opts:           cstr(0x200, 64),
  s_usr_quota_inum:       u32(0x240),
  s_grp_quota_inum:       u32(0x244),
  s_overhead_clusters:    u32(0x248), // 0: not known
  s_backup_bgs:           u32array(0x24c, 2), // with sparse_super2; 0: none
  s_encrypt_algos:        bytes(0x254, 4),
  s_encrypt_pw_salt:      bytes(0x258, 16),
  s_lpf_ino:              u32(0x268),
  s_prj_quota_inum:       u32(0x26c),
  s_checksum_seed:        u32(0x270), // with metadata_csum_seed
  s_wtime_hi:             u8(0x274),
  s_mtime_hi:             u8(0x275),
  s_mkfs_time_hi:         u8(0x276),
  s_lastcheck_hi:         u8(0x277),
  s_first_error_time_hi:  u8(0x278),
  s_last_error_time_hi:   u8(0x279),
  s_first_error_errcode:  u8(0x27a),
  s_last_error_errcode:   u8(0x27b),
  s_encoding:             u16(0x27c),
  s_encoding_flags:       u16(0x27e),
  s_orphan_file_inum:     u32(0x280),
  s_reserved:             pad(0x284, 376),
  s_checksum:             u32(0x3fc), // crc32c of what lies before it, from ~0
});

// s_state.
export const EXT4_VALID_FS = 0x0001;
export const EXT4_ERROR_FS = 0x0002;
export const EXT4_FC_REPLAY = 0x0020;

// s_errors.
export const EXT4_ERRORS_CONTINUE = 1;
export const EXT4_ERRORS_RO = 2;
export const EXT4_ERRORS_PANIC = 3;

// s_flags.
export const EXT2_FLAGS_SIGNED_HASH = 0x0001;
export const EXT2_FLAGS_UNSIGNED_HASH = 0x0002;

// s_default_mount_opts.
export const EXT4_DEFM_JMODE = 0x0060;
export const EXT4_DEFM_JMODE_DATA = 0x0020;
export const EXT4_DEFM_JMODE_ORDERED = 0x0040;
export const EXT4_DEFM_JMODE_WBACK = 0x0060;

/** The first half of a group descriptor, all of it where s_desc_size is 32. */
export const ext4_group_desc = struct('ext4_group_desc', 32, {
  bg_block_bitmap_lo:      u32(0x00),
  bg_inode_bitmap_lo:      u32(0x04),
  bg_inode_table_lo:       u32(0x08),
  bg_free_blocks_count_lo: u16(0x0c), // clusters with bigalloc
  bg_free_inodes_count_lo: u16(0x0e),
  bg_used_dirs_count_lo:   u16(0x10),
  bg_flags:                u16(0x12), // EXT4_BG_*
  bg_exclude_bitmap_lo:    u32(0x14),
  bg_block_bitmap_csum_lo: u16(0x18),
  bg_inode_bitmap_csum_lo: u16(0x1a),
  bg_itable_unused_lo:     u16(0x1c), // inodes at the end of the table that were never used
  bg_checksum:             u16(0x1e),
});

/** The second half, from byte 32 on, of descriptors of 64 bytes and more. */
export const ext4_group_desc_hi = struct('ext4_group_desc_hi', 32, {
  bg_block_bitmap_hi:      u32(0x00),
  bg_inode_bitmap_hi:      u32(0x04),
  bg_inode_table_hi:       u32(0x08),
  bg_free_blocks_count_hi: u16(0x0c),
  bg_free_inodes_count_hi: u16(0x0e),
  bg_used_dirs_count_hi:   u16(0x10),
  bg_itable_unused_hi:     u16(0x12),
  bg_exclude_bitmap_hi:    u32(0x14),
  bg_block_bitmap_csum_hi: u16(0x18),
  bg_inode_bitmap_csum_hi: u16(0x1a),
  bg_reserved:             u32(0x1c),
});

export const EXT4_BG_INODE_UNINIT = 0x1;
export const EXT4_BG_BLOCK_UNINIT = 0x2;
export const EXT4_BG_INODE_ZEROED = 0x4;

/** The 128 bytes that every inode has. */
export const ext4_inode = struct('ext4_inode', 128, {
  i_mode:          u16(0x00),
  i_uid:           u16(0x02),
  i_size_lo:       u32(0x04),
  i_atime:         u32(0x08),
  i_ctime:         u32(0x0c),
  i_mtime:         u32(0x10),
  i_dtime:         u32(0x14), // time of deletion, or the next orphan
  i_gid:           u16(0x18),
  i_links_count:   u16(0x1a),
  i_blocks_lo:     u32(0x1c), // units of 512 bytes; of the block size with EXT4_HUGE_FILE_FL
  i_flags:         u32(0x20), // EXT4_*_FL
  i_version_lo:    u32(0x24),
  i_block:         bytes(0x28, 60),
  i_generation:    u32(0x64),
  i_file_acl_lo:   u32(0x68),
  i_size_high:     u32(0x6c),
  i_obso_faddr:    u32(0x70),
  i_blocks_high:   u16(0x74),
  i_file_acl_high: u16(0x76),
  i_uid_high:      u16(0x78),
  i_gid_high:      u16(0x7a),
  i_checksum_lo:   u16(0x7c),
  i_reserved:      u16(0x7e),
});

/** What follows; a field exists where i_extra_isize reaches its end. Offsets are those in the inode, less 128. */
export const ext4_inode_extra = struct('ext4_inode_extra', 32, {
  i_extra_isize:   u16(0x00), // bytes used behind the first 128
  i_checksum_hi:   u16(0x02),
  i_ctime_extra:   u32(0x04), // nanoseconds << 2 | bits 32 and 33 of the seconds
  i_mtime_extra:   u32(0x08),
  i_atime_extra:   u32(0x0c),
  i_crtime:        u32(0x10),
  i_crtime_extra:  u32(0x14),
  i_version_hi:    u32(0x18),
  i_projid:        u32(0x1c),
});

// i_flags.
export const EXT4_SECRM_FL = 0x00000001;
export const EXT4_UNRM_FL = 0x00000002;
export const EXT4_COMPR_FL = 0x00000004;
export const EXT4_SYNC_FL = 0x00000008;
export const EXT4_IMMUTABLE_FL = 0x00000010;
export const EXT4_APPEND_FL = 0x00000020;
export const EXT4_NODUMP_FL = 0x00000040;
export const EXT4_NOATIME_FL = 0x00000080;
export const EXT4_ENCRYPT_FL = 0x00000800;
export const EXT4_INDEX_FL = 0x00001000;
export const EXT4_JOURNAL_DATA_FL = 0x00004000;
export const EXT4_NOTAIL_FL = 0x00008000;
export const EXT4_DIRSYNC_FL = 0x00010000;
export const EXT4_TOPDIR_FL = 0x00020000;
export const EXT4_HUGE_FILE_FL = 0x00040000;
export const EXT4_EXTENTS_FL = 0x00080000;
export const EXT4_VERITY_FL = 0x00100000;
export const EXT4_EA_INODE_FL = 0x00200000;
export const EXT4_DAX_FL = 0x02000000;
export const EXT4_INLINE_DATA_FL = 0x10000000;
export const EXT4_PROJINHERIT_FL = 0x20000000;
export const EXT4_CASEFOLD_FL = 0x40000000;
/** What FS_IOC_GETFLAGS shows, and FS_IOC_SETFLAGS may change. */
export const EXT4_FL_USER_VISIBLE = 0x604bdfff;
export const EXT4_FL_USER_MODIFIABLE = 0x604b80ff;

// Inodes with a fixed number.
export const EXT4_BAD_INO = 1;
export const EXT4_ROOT_INO = 2;
export const EXT4_USR_QUOTA_INO = 3;
export const EXT4_GRP_QUOTA_INO = 4;
export const EXT4_BOOT_LOADER_INO = 5;
export const EXT4_RESIZE_INO = 7;
export const EXT4_JOURNAL_INO = 8;
export const EXT4_GOOD_OLD_FIRST_INO = 11;

/** Most names of an inode; a directory with more subdirectories says 1 (dir_nlink). */
export const EXT4_LINK_MAX = 65000;
/** Blocks of the longest written and unwritten extent. */
export const EXT_INIT_MAX_LEN = 32768;
export const EXT_UNWRITTEN_MAX_LEN = 32767;
/** One past the last block that an extent file may have. */
export const EXT_MAX_BLOCKS = 2 ** 32 - 1;

// The file_type of directory entries.
export const EXT4_FT_UNKNOWN = 0;
export const EXT4_FT_REG_FILE = 1;
export const EXT4_FT_DIR = 2;
export const EXT4_FT_CHRDEV = 3;
export const EXT4_FT_BLKDEV = 4;
export const EXT4_FT_FIFO = 5;
export const EXT4_FT_SOCK = 6;
export const EXT4_FT_SYMLINK = 7;
/** The checksum at the end of a directory block dressed as an entry. */
export const EXT4_FT_DIR_CSUM = 0xde;
