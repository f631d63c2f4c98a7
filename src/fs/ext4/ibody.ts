import { assert } from '../../base/assert.ts';
import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { modifyInode } from './inode-table.ts';
import {
  EXT4_XATTR_MAGIC,
  ext4_xattr_ibody_header,
  freeSpace,
  IBODY_AREA,
  packEntries,
  parseEntries,
  type XattrEntry,
} from './xattr-format.ts';

// The area behind the fields of an inode. Attributes and inline data share it, and both read and write it here only: as a whole list, so that
// no part of it moves under the other.

/** Bytes of the area; 0 where the inode has none: small inodes, and those that were made before the extra fields were. */
function areaLength(inode: Ext4Inode): number {
  return inode.extraIsize === 0 || inode.ea.length < ext4_xattr_ibody_header.size * 2 ? 0 : inode.ea.length;
}

const header = ext4_xattr_ibody_header.view();

/** Does the inode say that there are attributes in it? Nearly none does, and each write asks. */
export function hasIbody(inode: Ext4Inode): boolean {
  return areaLength(inode) !== 0 && header.at(inode.ea).h_magic === EXT4_XATTR_MAGIC;
}

/** The attributes in the inode, in their order. Values are views that stay as they are when the area is written. Errors: EUCLEAN. */
export function readIbody(inode: Ext4Inode): XattrEntry[] {
  if (!hasIbody(inode)) return [];
  return parseEntries(inode.ea, IBODY_AREA, `attributes in inode ${inode.ino}`);
}

/** Bytes that are left beside these entries; below 0 where they do not fit. */
export function ibodySpace(inode: Ext4Inode, entries: readonly XattrEntry[]): number {
  return freeSpace(entries, areaLength(inode), IBODY_AREA);
}

/** Replaces the attributes in the inode by entries that fit. */
export function* writeIbody(h: Handle, inode: Ext4Inode, entries: readonly XattrEntry[]): Task<void> {
  assert(entries.length === 0 || ibodySpace(inode, entries) >= 0, 'the entries fit');
  yield* modifyInode(h, inode);
  if (areaLength(inode) === 0) return;
  const area = new Uint8Array(inode.ea.length);
  if (entries.length > 0) {
    ext4_xattr_ibody_header.write(area, 0, { h_magic: EXT4_XATTR_MAGIC });
    packEntries(area, entries, IBODY_AREA);
  }
  inode.ea = area;
}
