import { FsError } from '../../base/fs-error.ts';
import type { Task } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import { formatAcl, parseAcl } from '../../vfs/posix-acl.ts';
import { XATTR_CREATE, XATTR_REPLACE, XATTR_SIZE_MAX } from '../../vfs/uapi.ts';
import { decodeAcl, encodeAcl } from './acl-format.ts';
import { chargeValue, createValue, derefValue, readValue } from './ea-inode.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { COMPAT_EXT_ATTR, INCOMPAT_EA_INODE } from './features.ts';
import { ibodySpace, readIbody, writeIbody } from './ibody.ts';
import { modifySuperblock } from './superblock.ts';
import { blockSpace, makeRoom, readBlockEntries, releaseBlock, writeBlockEntries } from './xattr-block.ts';
import {
  compareKeys,
  entrySpace,
  fullNameOf,
  hashInodeEntry,
  isAcl,
  isSameValue,
  keyOf,
  type XattrEntry,
  type XattrKey,
} from './xattr-format.ts';

// Extended attributes by their full names. An attribute is in the inode where there is room (ibody.ts), else in its block (xattr-block.ts);
// a large value may lie in an inode of its own (ea-inode.ts), and either place refers to it. Values of ACLs are those of userspace here.

/** The value of an attribute, the caller's own; undefined without it. Errors: EOPNOTSUPP for a name of no known kind; EUCLEAN, EBADMSG. */
export function* getXattr(inode: Ext4Inode, name: string): Task<Uint8Array | undefined> {
  const key = keyOf(name, 'getxattr');
  const entry = find(readIbody(inode), key) ?? find(yield* readBlockEntries(inode), key);
  if (entry === undefined) return undefined;
  checkSize(inode, entry);
  const value = entry.inum === 0 ? entry.value : yield* readValue(inode, entry);
  return isAcl(key) ? formatAcl(decodeAcl(value)) : value.slice();
}

/** The full names of the attributes. Errors: EUCLEAN, EBADMSG. */
export function* listXattrs(inode: Ext4Inode): Task<string[]> {
  const names = new Set<string>();
  for (const entry of [...readIbody(inode), ...(yield* readBlockEntries(inode))]) {
    const name = fullNameOf(entry);
    if (name !== undefined) names.add(name);
  }
  return [...names];
}

/**
 * Sets an attribute, or removes it where `value` is undefined. Removing what is not there is nothing, unless `flags` say XATTR_REPLACE.
 *
 * Errors:  EEXIST, ENODATA by `flags`; EOPNOTSUPP for a name of no known kind, ERANGE for a long one, E2BIG for a long value, EINVAL for what
 *          is no ACL; ENOSPC where it has no place; EDQUOT.
 */
export function* setXattr(h: Handle, inode: Ext4Inode, name: string, value: Uint8Array | undefined, flags = 0): Task<void> {
  const key = keyOf(name, 'setxattr');
  if (value !== undefined && value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG', 'setxattr');
  const ibody = readIbody(inode);
  const block = yield* readBlockEntries(inode);
  const old = find(ibody, key) ?? find(block, key);
  if (old !== undefined && value !== undefined && (flags & XATTR_CREATE) !== 0) throw new FsError('EEXIST', 'setxattr');
  if (old === undefined && (flags & XATTR_REPLACE) !== 0) throw new FsError('ENODATA', value === undefined ? 'removexattr' : 'setxattr');
  const stored = storedValue(key, value);
  if (stored === undefined && old === undefined) return;
  if (stored !== undefined && old !== undefined && old.inum === 0 && isSameValue(old.value, stored)) return;

  yield* noteFeature(h, inode.sb);
  // The attribute leaves both places and comes back to one. Entries that stay are where they were.
  const nextIbody = ibody.filter((entry) => compareKeys(entry, key) !== 0);
  const nextBlock = block.filter((entry) => compareKeys(entry, key) !== 0);
  if (stored !== undefined) {
    const { inInode, inBlock } = placeOf(inode, key, stored, nextIbody, nextBlock);
    const entry = inInode ? yield* externalEntry(h, inode, key, stored) : { ...key, value: stored, inum: 0, size: stored.length, hash: 0 };
    (inBlock ? nextBlock : nextIbody).push(entry);
  }
  if (nextBlock.length !== block.length || find(nextBlock, key) !== undefined) yield* writeBlockEntries(h, inode, nextBlock);
  if (nextIbody.length !== ibody.length || find(nextIbody, key) !== undefined) {
    yield* writeIbody(h, inode, nextIbody);
    yield* dropValues(
      h,
      inode,
      ibody.filter((entry) => compareKeys(entry, key) === 0),
    );
  }
}

/**
 * Gives up the block of an inode that is deleted, and all its values in inodes. Other attributes end with its record. Restarts the handle where
 * there are many values, with all that is whole: the inode is an orphan meanwhile.
 */
export function* releaseXattrs(h: Handle, inode: Ext4Inode): Task<void> {
  if (inode.fileAcl !== 0) yield* releaseBlock(h, inode);
  for (;;) {
    const ibody = readIbody(inode);
    const value = ibody.find(({ inum }) => inum !== 0);
    if (value === undefined) return;
    yield* makeRoom(h);
    yield* writeIbody(
      h,
      inode,
      ibody.filter((entry) => entry !== value),
    );
    yield* dropValues(h, inode, [value]);
  }
}

/** What an inode counts for in quotas: itself, and its values in inodes of their own. */
export function* countInodes(inode: Ext4Inode): Task<number> {
  const entries = [...readIbody(inode), ...(yield* readBlockEntries(inode))];
  return 1 + entries.filter(({ inum }) => inum !== 0).length;
}

/** The volume says that it has attributes, once it does. */
function* noteFeature(h: Handle, sb: Ext4Sb): Task<void> {
  const { es } = sb;
  if (es.hasCompat(COMPAT_EXT_ATTR)) return;
  if (es.fields.s_rev_level === 0) throw new FsError('EOPNOTSUPP', 'setxattr', { detail: 'a volume of revision 0 has no features' });
  yield* modifySuperblock(h, sb);
  es.fields.s_feature_compat = (es.fields.s_feature_compat | COMPAT_EXT_ATTR) >>> 0;
}

function find(entries: readonly XattrEntry[], key: XattrKey): XattrEntry | undefined {
  return entries.find((entry) => compareKeys(entry, key) === 0);
}

/** A value outside of the list has a size that nothing else bounds. */
function checkSize(inode: Ext4Inode, { size }: XattrEntry): void {
  if (size > XATTR_SIZE_MAX) inode.sb.corrupted(`inode ${inode.ino}: an attribute of ${size} bytes`);
}

/** The value as it is stored; undefined for none: an ACL without entries is none. */
function storedValue(key: XattrKey, value: Uint8Array | undefined): Uint8Array | undefined {
  if (value === undefined || !isAcl(key)) return value;
  const acl = parseAcl(value);
  return acl === undefined ? undefined : encodeAcl(acl);
}

/** Where a new value goes, beside what stays. Errors: ENOSPC. */
function placeOf(
  inode: Ext4Inode,
  { name }: XattrKey,
  value: Uint8Array,
  ibody: readonly XattrEntry[],
  block: readonly XattrEntry[],
): { inInode: boolean; inBlock: boolean } {
  const { sb } = inode;
  const mayBeInInode = sb.es.hasIncompat(INCOMPAT_EA_INODE) && value.length > 0;
  // Half a block would leave no room for others.
  const isLarge = value.length > sb.blockSize / 2;
  const inInodeFirst = mayBeInInode && isLarge;
  for (const inInode of inInodeFirst ? [true] : mayBeInInode ? [false, true] : [false]) {
    const space = entrySpace({ name, value: inInode ? value.subarray(0, 0) : value });
    // A link with blocks counted and no block of attributes looks to e2fsck as if its text were block pointers.
    const mayBeInIbody = !inInode || !inode.isSymlink;
    if (mayBeInIbody && ibodySpace(inode, ibody) >= space) return { inInode, inBlock: false };
    if (blockSpace(sb, block) >= space) return { inInode, inBlock: true };
  }
  throw new FsError('ENOSPC', 'setxattr', { detail: `no room for ${value.length} bytes` });
}

function* externalEntry(h: Handle, inode: Ext4Inode, { index, name }: XattrKey, value: Uint8Array): Task<XattrEntry> {
  const { inum, checksum } = yield* createValue(h, inode, value);
  const hash = hashInodeEntry(name, checksum);
  return { index, name, value: value.subarray(0, 0), inum, size: value.length, hash };
}

/** Drops the references of entries that were in the inode itself. */
function* dropValues(h: Handle, inode: Ext4Inode, entries: readonly XattrEntry[]): Task<void> {
  for (const { inum, size } of entries) {
    if (inum === 0) continue;
    yield* chargeValue(h, inode, size, -1);
    yield* derefValue(h, inode.sb, inum);
  }
}
