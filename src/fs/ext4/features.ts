// The feature words of the superblock: a bit and a name each, and what may be done with an image that has them.
// Source: Linux fs/ext4/ext4.h, e2fsprogs lib/e2p/feature.c (names).

// s_feature_compat: an image with one that is not known can be written all the same.
export const COMPAT_DIR_PREALLOC = 0x1;
export const COMPAT_HAS_JOURNAL = 0x4;
export const COMPAT_EXT_ATTR = 0x8;
export const COMPAT_RESIZE_INODE = 0x10;
export const COMPAT_DIR_INDEX = 0x20;
export const COMPAT_SPARSE_SUPER2 = 0x200;
export const COMPAT_FAST_COMMIT = 0x400;
export const COMPAT_STABLE_INODES = 0x800;
export const COMPAT_ORPHAN_FILE = 0x1000;

// s_feature_incompat: an image with one that is not known cannot even be read.
export const INCOMPAT_COMPRESSION = 0x1;
export const INCOMPAT_FILETYPE = 0x2;
export const INCOMPAT_RECOVER = 0x4;
export const INCOMPAT_JOURNAL_DEV = 0x8;
export const INCOMPAT_META_BG = 0x10;
export const INCOMPAT_EXTENTS = 0x40;
export const INCOMPAT_64BIT = 0x80;
export const INCOMPAT_MMP = 0x100;
export const INCOMPAT_FLEX_BG = 0x200;
export const INCOMPAT_EA_INODE = 0x400;
export const INCOMPAT_DIRDATA = 0x1000;
export const INCOMPAT_CSUM_SEED = 0x2000;
export const INCOMPAT_LARGEDIR = 0x4000;
export const INCOMPAT_INLINE_DATA = 0x8000;
export const INCOMPAT_ENCRYPT = 0x10000;
export const INCOMPAT_CASEFOLD = 0x20000;

// s_feature_ro_compat: an image with one that is not known can be read only.
export const RO_COMPAT_SPARSE_SUPER = 0x1;
export const RO_COMPAT_LARGE_FILE = 0x2;
export const RO_COMPAT_BTREE_DIR = 0x4;
export const RO_COMPAT_HUGE_FILE = 0x8;
export const RO_COMPAT_GDT_CSUM = 0x10;
export const RO_COMPAT_DIR_NLINK = 0x20;
export const RO_COMPAT_EXTRA_ISIZE = 0x40;
export const RO_COMPAT_HAS_SNAPSHOT = 0x80;
export const RO_COMPAT_QUOTA = 0x100;
export const RO_COMPAT_BIGALLOC = 0x200;
export const RO_COMPAT_METADATA_CSUM = 0x400;
export const RO_COMPAT_REPLICA = 0x800;
export const RO_COMPAT_READONLY = 0x1000;
export const RO_COMPAT_PROJECT = 0x2000;
export const RO_COMPAT_SHARED_BLOCKS = 0x4000;
export const RO_COMPAT_VERITY = 0x8000;
export const RO_COMPAT_ORPHAN_PRESENT = 0x10000;

type Word = 'compat' | 'incompat' | 'ro_compat';

const NAMES: Record<Word, readonly (string | undefined)[]> = {
  compat: ['dir_prealloc', 'imagic_inodes', 'has_journal', 'ext_attr', 'resize_inode', 'dir_index', 'lazy_bg', undefined].concat([
    'snapshot_bitmap',
    'sparse_super2',
    'fast_commit',
    'stable_inodes',
    'orphan_file',
  ]),
  incompat: ['compression', 'filetype', 'needs_recovery', 'journal_dev', 'meta_bg', undefined, 'extent', '64bit', 'mmp', 'flex_bg'].concat([
    'ea_inode',
    undefined,
    'dirdata',
    'metadata_csum_seed',
    'large_dir',
    'inline_data',
    'encrypt',
    'casefold',
  ] as string[]),
  ro_compat: ['sparse_super', 'large_file', 'btree_dir', 'huge_file', 'uninit_bg', 'dir_nlink', 'extra_isize', 'snapshot', 'quota'].concat([
    'bigalloc',
    'metadata_csum',
    'replica',
    'read-only',
    'project',
    'shared_blocks',
    'verity',
    'orphan_present',
  ]),
};

/** The names of the bits of a feature word, as mke2fs and dumpe2fs have them. */
export function featureNames(word: Word, bits: number): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if (((bits >>> bit) & 1) !== 0) names.push(NAMES[word][bit] ?? `FEATURE_${word[0]?.toUpperCase()}${bit}`);
  }
  return names;
}
