// BufferHead.checked: which kind of content a cached block has been found to be, so that it is validated once and not per access. A block
// that is met in another role than before is validated anew.

export const CHECKED_EXTENT = 1;
export const CHECKED_DIR_LEAF = 2;
export const CHECKED_DX = 3;
export const CHECKED_XATTR = 4;
export const CHECKED_BITMAP = 5;
export const CHECKED_ITABLE = 6;
export const CHECKED_ORPHAN = 7;
export const CHECKED_QUOTA = 8;
export const CHECKED_INDIRECT = 9;
