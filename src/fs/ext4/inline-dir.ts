import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import { appendDirBlock, changeLeaf, DOT_NAME, DOT_SIZE, DOTDOT_NAME, initLeaf, leafRoom, nameExists } from './dir-block.ts';
import { checkRecords, findRoom, insertRecord, NAME_EXISTS, type RecordFormat, RecordWalk, setRecLen, writeRecord } from './dir-record.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import { EXT4_FT_DIR } from './format.ts';
import { clearInline, getInlineValue, INLINE_HEAD_SIZE, inlineCapacity, setInlineValue, startInline } from './inline-data.ts';
import { modifyInode } from './inode-table.ts';

// Directories that lie in their inode. i_block has the parent's number and a first area of records, the attribute system.data a second one.
// There is no "." and no "..". Source: Linux fs/ext4/inline.c, documented layout.

const PARENT_SIZE = 4;
const NO_NAME = new Uint8Array(0);

/** Records [from, end) of `bytes`. */
export interface InlineArea {
  readonly isValue: boolean;
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly end: number;
  /** What makes an offset here the one that the record gets in a block, should the directory need one. */
  readonly shift: number;
}

/** Both areas, checked: not to be changed but by changeInline. Errors: EUCLEAN. */
export function inlineAreas(dir: Ext4Inode, format: RecordFormat): InlineArea[] {
  const value = getInlineValue(dir);
  if (dir.size !== INLINE_HEAD_SIZE + value.length)
    dir.sb.corrupted(`directory ${dir.ino}: size ${dir.size} with ${value.length} bytes inline`);
  const shift = 2 * DOT_SIZE - PARENT_SIZE;
  const areas = [
    { isValue: false, bytes: dir.iBlock, from: PARENT_SIZE, end: INLINE_HEAD_SIZE, shift },
    { isValue: true, bytes: value, from: 0, end: value.length, shift: shift + INLINE_HEAD_SIZE },
  ];
  for (const { bytes, from, end } of areas) {
    const wrong = checkRecords(format, bytes, from, end);
    if (wrong !== undefined) dir.sb.corrupted(`directory ${dir.ino}, inline: ${wrong}`);
  }
  return areas;
}

/** Changes the bytes of one area. */
export function* changeInline(h: Handle, dir: Ext4Inode, area: InlineArea, change: (bytes: Uint8Array) => void): Task<void> {
  yield* modifyInode(h, dir);
  const bytes = area.bytes.slice();
  change(bytes);
  if (area.isValue) yield* setInlineValue(h, dir, bytes);
  else dir.iBlock = bytes;
}

/** Adds a name; false where there is no room for it in the inode. Errors: EEXIST. */
export function* insertInline(h: Handle, dir: Ext4Inode, format: RecordFormat, name: Uint8Array, ino: number, type: number): Task<boolean> {
  const size = format.recSize(name.length);
  const areas = inlineAreas(dir, format);
  const rooms = areas.map(({ bytes, from, end }) => findRoom(format, bytes, from, end, name, size));
  if (rooms.includes(NAME_EXISTS)) throw nameExists(dir);
  const at = rooms.findIndex((room) => room >= 0);
  const area = areas[at];
  if (area !== undefined) {
    yield* changeInline(h, dir, area, (bytes) => insertRecord(format, bytes, area.end, rooms[at] as number, name, ino, type));
    return true;
  }
  // The attribute grows by a record, if the inode has the room.
  const { bytes: old } = areas[1] as InlineArea;
  const grown = new Uint8Array(old.length + size);
  grown.set(old);
  writeRecord(format, grown, old.length, size, name, ino, type);
  if (INLINE_HEAD_SIZE + grown.length > inlineCapacity(dir)) return false;
  yield* modifyInode(h, dir);
  yield* setInlineValue(h, dir, grown);
  dir.size = INLINE_HEAD_SIZE + grown.length;
  return true;
}

/** The directory above. */
export function inlineParent(dir: Ext4Inode): number {
  return new DataView(dir.iBlock.buffer, dir.iBlock.byteOffset).getUint32(0, true);
}

export function setInlineParent(dir: Ext4Inode, parent: number): void {
  new DataView(dir.iBlock.buffer, dir.iBlock.byteOffset).setUint32(0, parent, true);
}

/** Makes a new directory an inline one; false where its inode has no room for that. */
export function* initInline(h: Handle, dir: Ext4Inode, format: RecordFormat, parent: number): Task<boolean> {
  if (!(yield* startInline(h, dir))) return false;
  setInlineParent(dir, parent);
  writeRecord(format, dir.iBlock, PARENT_SIZE, INLINE_HEAD_SIZE - PARENT_SIZE, NO_NAME, 0, 0);
  dir.size = INLINE_HEAD_SIZE;
  return true;
}

/** Makes an inline directory one of a block. Records keep their order, and stand where `shift` says. */
export function* inlineToBlock(h: Handle, dir: Ext4Inode, format: RecordFormat): Task<void> {
  const areas = inlineAreas(dir, format);
  const parent = inlineParent(dir);
  yield* clearInline(h, dir);
  dir.size = 0;
  const { bh } = yield* appendDirBlock(h, dir);
  const data = changeLeaf(h, dir, bh);
  initDots(dir, format, data, parent);
  setRecLen(format, data, DOT_SIZE, DOT_SIZE);
  let last = DOT_SIZE;
  for (const { bytes, from, end, shift } of areas) {
    data.set(bytes.subarray(from, end), from + shift);
    const walk = new RecordWalk(format, bytes, from, end);
    while (walk.next()) last = walk.offset + shift;
  }
  setRecLen(format, data, last, leafRoom(dir) - last);
}

/** Makes the first block of a directory without names. */
export function initDots(dir: Ext4Inode, format: RecordFormat, data: Uint8Array, parent: number): void {
  initLeaf(dir, format, data);
  writeRecord(format, data, 0, DOT_SIZE, DOT_NAME, dir.ino, EXT4_FT_DIR);
  writeRecord(format, data, DOT_SIZE, leafRoom(dir) - DOT_SIZE, DOTDOT_NAME, parent, EXT4_FT_DIR);
}
