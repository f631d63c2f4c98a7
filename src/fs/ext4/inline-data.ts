import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import { initBlockMap } from './block-map.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { INCOMPAT_EXTENTS } from './features.ts';
import { EXT4_EXTENTS_FL, EXT4_INLINE_DATA_FL } from './format.ts';
import { ibodySpace, readIbody, writeIbody } from './ibody.ts';
import { modifyInode } from './inode-table.ts';
import { compareKeys, EXT4_XATTR_INDEX_SYSTEM, entrySpace, type XattrKey } from './xattr-format.ts';

// Content inside the inode: the first bytes in i_block, the rest in the value of an attribute "system.data" of the in-inode area, which is there
// even when it is empty. Source: Linux fs/ext4/inline.c, kernel documentation of ext4, "Inline Data".

/** Bytes of i_block. */
export const INLINE_HEAD_SIZE = 60;

const SYSTEM_DATA: XattrKey = {
  index: EXT4_XATTR_INDEX_SYSTEM,
  name: Uint8Array.from('data', (character) => character.charCodeAt(0)),
};

function isSystemData(entry: XattrKey): boolean {
  return compareKeys(entry, SYSTEM_DATA) === 0;
}

/** Is there a place for what is behind i_block? */
export function hasInlineValue(inode: Ext4Inode): boolean {
  return readIbody(inode).some(isSystemData);
}

/** What is behind i_block: a view that stays as it is when something else is set. Errors: EUCLEAN where an inline inode has none. */
export function getInlineValue(inode: Ext4Inode): Uint8Array {
  const entry = readIbody(inode).find(isSystemData);
  if (entry === undefined || entry.inum !== 0) return inode.sb.corrupted(`inode ${inode.ino}: inline data without its attribute`);
  return entry.value;
}

/** Sets what is behind i_block; undefined takes the attribute away. Errors: ENOSPC where it does not fit beside the other attributes. */
export function* setInlineValue(h: Handle, inode: Ext4Inode, bytes: Uint8Array | undefined): Task<void> {
  const entries = readIbody(inode).filter((entry) => !isSystemData(entry));
  if (bytes !== undefined) {
    if (INLINE_HEAD_SIZE + bytes.length > inlineCapacity(inode)) throw new FsError('ENOSPC', 'write', { detail: 'no room in the inode' });
    entries.push({ ...SYSTEM_DATA, value: bytes, inum: 0, size: bytes.length, hash: 0 });
  }
  yield* writeIbody(h, inode, entries);
}

/** Bytes of content that fit into the inode as it is, i_block included; 0 where it has no room even for an empty attribute. */
export function inlineCapacity(inode: Ext4Inode): number {
  const others = readIbody(inode).filter((entry) => !isSystemData(entry));
  const space = ibodySpace(inode, others) - entrySpace({ name: SYSTEM_DATA.name, value: EMPTY });
  return space < 0 ? 0 : INLINE_HEAD_SIZE + Math.floor(space / 4) * 4;
}

const EMPTY = new Uint8Array(0);

/** The content, the caller's own: up to the size of the file, or less where nothing is stored that far: zeros follow. Errors: EUCLEAN. */
export function readInline(inode: Ext4Inode): Uint8Array {
  const value = getInlineValue(inode);
  const content = new Uint8Array(Math.min(inode.size, INLINE_HEAD_SIZE + value.length));
  content.set(inode.iBlock.subarray(0, Math.min(content.length, INLINE_HEAD_SIZE)));
  if (content.length > INLINE_HEAD_SIZE) content.set(value.subarray(0, content.length - INLINE_HEAD_SIZE), INLINE_HEAD_SIZE);
  return content;
}

/** Makes `bytes` the whole content, and their number the size. Shape: false where they do not fit; nothing is changed then. */
export function* writeInline(h: Handle, inode: Ext4Inode, bytes: Uint8Array): Task<boolean> {
  const capacity = inlineCapacity(inode);
  if (bytes.length > capacity || capacity === 0) return false;
  yield* modifyInode(h, inode);
  const head = new Uint8Array(INLINE_HEAD_SIZE);
  head.set(bytes.subarray(0, INLINE_HEAD_SIZE));
  inode.iBlock = head;
  inode.size = bytes.length;
  yield* setInlineValue(h, inode, bytes.subarray(INLINE_HEAD_SIZE));
  return true;
}

/** Makes an inode without blocks inline and empty. Shape: false where there is no room for it; nothing is changed then. */
export function* startInline(h: Handle, inode: Ext4Inode): Task<boolean> {
  if (inlineCapacity(inode) === 0) return false;
  yield* modifyInode(h, inode);
  inode.flags = ((inode.flags & ~EXT4_EXTENTS_FL) | EXT4_INLINE_DATA_FL) >>> 0;
  return yield* writeInline(h, inode, EMPTY);
}

/** Takes the content out of the inode, which has no blocks and its size then. What was there is the caller's to move. */
export function* clearInline(h: Handle, inode: Ext4Inode): Task<void> {
  yield* setInlineValue(h, inode, undefined);
  const hasExtents = inode.sb.es.hasIncompat(INCOMPAT_EXTENTS);
  inode.flags = ((inode.flags & ~EXT4_INLINE_DATA_FL) | (hasExtents ? EXT4_EXTENTS_FL : 0)) >>> 0;
  inode.iBlock = new Uint8Array(INLINE_HEAD_SIZE);
  yield* initBlockMap(h, inode);
}
