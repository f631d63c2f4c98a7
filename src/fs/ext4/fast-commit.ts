import { type Task, wait } from '../../base/task.ts';
import type { FastCommitRecord } from '../../jbd2/fast-commit.ts';
import type { Handle } from '../../jbd2/log.ts';
import { nameOf } from '../../vfs/name.ts';
import { isDirectory } from '../../vfs/uapi.ts';
import { convertBlocks, initBlockMap, insertBlocks, mapBlocks, removeBlocks } from './block-map.ts';
import { addName, initDir, lookupName, removeName, replaceName } from './directory.ts';
import { deleteInode } from './ext4-fs.ts';
import { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { INCOMPAT_EXTENTS } from './features.ts';
import { EXT4_EXTENTS_FL, EXT4_INDEX_FL, EXT4_INLINE_DATA_FL, EXT4_LINK_MAX, EXT4_ROOT_INO } from './format.ts';
import { clearInline, hasInlineValue, setInlineValue } from './inline-data.ts';
import { chargeNewInode, claimInode, isInodeInUse } from './inode-alloc.ts';
import { checkInode, decodeRecord, getInode, modifyInode } from './inode-table.ts';
import { fileTypeOf } from './name-ops.ts';
import { addOrphan, isOrphan, removeOrphan } from './orphan.ts';
import { transfer } from './quota.ts';
import { CREDITS, look, update } from './update.ts';
import { countInodes } from './xattr.ts';

type NameRecord = Extract<FastCommitRecord, { readonly parent: number }>;
type RecordOf<Tag extends FastCommitRecord['tag']> = Extract<FastCommitRecord, { readonly tag: Tag }>;

/**
 * Does what fast commits say, in order, to a volume as its last whole transaction left it.
 *
 * What is logged of directories are names only: the blocks that they take are chosen anew, which is why the blocks of files are taken first.
 * What has no names in the end is an orphan.
 *
 * Errors: EUCLEAN for what makes no sense here, EBADMSG, EIO, ENOSPC: the volume is of no use then, and the log is as it was.
 * Source: Linux fs/ext4/fast_commit.c, documented format
 */
export function* applyFastCommits(sb: Ext4Sb, records: readonly FastCommitRecord[]): Task<void> {
  for (const record of records) {
    if (record.tag !== 'add_range') continue;
    const { ino, start, length } = record;
    checkRange(sb, ino, start, length);
    yield* look(sb, () => sb.allocator.reserve(start, length));
  }
  for (const record of records) {
    switch (record.tag) {
      case 'inode':
        yield* applyInode(sb, record);
        break;
      case 'add_range':
        yield* addRange(sb, record);
        break;
      case 'del_range':
        yield* removeRange(sb, record);
        break;
      case 'creat':
      case 'link':
        yield* applyName(sb, record);
        break;
      case 'unlink':
        yield* removeOldName(sb, record);
        break;
    }
  }
  yield* wait(sb.log.commit());
}

function checkRange(sb: Ext4Sb, ino: number, start: number, length: number): void {
  if (!sb.isDataRange(start, length, ino)) sb.corrupted(`fast commit: inode ${ino} with ${length} blocks at ${start}`);
}

/** Errors: EUCLEAN for a number that no file has. */
function checkIno(sb: Ext4Sb, ino: number): void {
  const isFile = ino === EXT4_ROOT_INO || (ino >= sb.es.firstIno && ino <= sb.es.inodesCount);
  if (!isFile || sb.hiddenInodes.has(ino)) sb.corrupted(`fast commit: inode ${ino}`);
}

/** Undefined where the number is free: the file was deleted later. */
function* inodeInUse(sb: Ext4Sb, ino: number): Task<Ext4Inode | undefined> {
  checkIno(sb, ino);
  return yield* look(sb, function* (): Task<Ext4Inode | undefined> {
    return (yield* isInodeInUse(sb, ino)) ? yield* getInode(sb, ino) : undefined;
  });
}

/** The record of an inode, all but where its blocks are. */
function* applyInode(sb: Ext4Sb, { ino, raw }: RecordOf<'inode'>): Task<void> {
  const record = new Ext4Inode(sb, ino);
  const bytes = new Uint8Array(sb.es.inodeSize);
  if (raw.length > bytes.length) sb.corrupted(`fast commit: inode ${ino} of ${raw.length} bytes`);
  bytes.set(raw);
  decodeRecord(record, bytes, 0);
  if (!record.isDirectory) checkInode(record, (what) => sb.corrupted(`fast commit: inode ${ino}: ${what}`));
  let known = yield* inodeInUse(sb, ino);
  if (known !== undefined && known.generation !== record.generation) {
    // Its number was used again.
    yield* deleteInode(known);
    known = undefined;
  }
  if (known === undefined && record.nlink === 0) return;
  if (known !== undefined && known.type !== record.type) sb.corrupted(`fast commit: inode ${ino} changes its type`);
  if (known !== undefined && !known.hasInlineData && record.hasInlineData) yield* emptyFile(sb, known);
  yield* update(sb, 'mount', CREDITS, function* (h): Task<void> {
    const inode = known ?? (yield* claimInode(h, sb, ino, record.mode));
    yield* modifyInode(h, inode);
    if (known === undefined) yield* beginInode(h, inode, record);
    else yield* changeInode(h, inode, record);
    if (inode.hasInlineData && !inode.isDirectory) {
      inode.iBlock = record.iBlock;
      // The record may end before the attributes, where the rest of the content would be.
      if (raw.length === bytes.length) {
        inode.extraIsize = record.extraIsize;
        inode.ea = record.ea;
      } else if (!hasInlineValue(inode)) {
        yield* setInlineValue(h, inode, new Uint8Array(0));
      }
    }
    if (inode.nlink === 0) yield* addOrphan(h, inode);
    else if (isOrphan(inode)) yield* removeOrphan(h, inode);
  });
}

/** A file that becomes inline has no blocks any more. */
function* emptyFile(sb: Ext4Sb, inode: Ext4Inode): Task<void> {
  yield* removeRange(sb, { tag: 'del_range', ino: inode.ino, lblk: 0, length: 2 ** 32 - 1 });
}

function* beginInode(h: Handle, inode: Ext4Inode, record: Ext4Inode): Task<void> {
  copyFields(inode, record);
  inode.extraIsize = record.extraIsize;
  inode.ea = record.ea;
  inode.fileAcl = record.fileAcl;
  inode.size = record.size;
  yield* chargeNewInode(h, inode);
  if (inode.isDirectory) {
    // Its blocks are made when it gets its name.
    inode.flags = (inode.flags & ~(EXT4_INDEX_FL | EXT4_INLINE_DATA_FL | EXT4_EXTENTS_FL)) >>> 0;
    if (inode.sb.es.hasIncompat(INCOMPAT_EXTENTS)) inode.flags = (inode.flags | EXT4_EXTENTS_FL) >>> 0;
    inode.size = 0;
    inode.ea = new Uint8Array(inode.ea.length);
  }
  if (inode.hasExtents || inode.isDirectory) yield* initBlockMap(h, inode);
  else inode.iBlock = record.iBlock;
}

function* changeInode(h: Handle, inode: Ext4Inode, record: Ext4Inode): Task<void> {
  const { flags, size } = inode;
  yield* transfer(h, inode, record, yield* countInodes(inode), true);
  if (inode.hasInlineData && !record.hasInlineData && !inode.isDirectory) yield* clearInline(h, inode);
  copyFields(inode, record);
  if (inode.isDirectory) {
    // Names are added one by one: how that is done is decided here.
    inode.flags = ((inode.flags & ~(EXT4_INDEX_FL | EXT4_INLINE_DATA_FL | EXT4_EXTENTS_FL)) | (flags & DIRECTORY_FORM_FL)) >>> 0;
    return;
  }
  inode.size = inode.isRegular ? record.size : size;
}

const DIRECTORY_FORM_FL = EXT4_INDEX_FL | EXT4_INLINE_DATA_FL | EXT4_EXTENTS_FL;

function copyFields(inode: Ext4Inode, record: Ext4Inode): void {
  const { mode, uid, gid, projid, nlink, flags, generation, version, atime, mtime, ctime, crtime } = record;
  Object.assign(inode, { mode, uid, gid, projid, nlink, flags, generation, version, atime, mtime, ctime, crtime });
}

function* addRange(sb: Ext4Sb, { ino, lblk, length, start, isUnwritten }: RecordOf<'add_range'>): Task<void> {
  const inode = yield* inodeInUse(sb, ino);
  if (inode === undefined || inode.isDirectory) return;
  if (inode.hasInlineData) yield* update(sb, 'mount', CREDITS, (h) => clearInline(h, inode));
  for (let at = lblk; at < lblk + length; ) {
    const from = at;
    const place = start + (from - lblk);
    const found = yield* look(sb, () => mapBlocks(inode, from));
    const end = Math.min(found.lblk + found.count, lblk + length);
    const isThere = found.pblk !== 0 && found.pblk + (from - found.lblk) === place;
    if (found.pblk !== 0 && !isThere) {
      yield* removeRange(sb, { tag: 'del_range', ino, lblk: from, length: end - from });
      continue;
    }
    yield* update(sb, 'mount', CREDITS, function* (h): Task<void> {
      yield* modifyInode(h, inode);
      if (isThere) {
        yield* convertBlocks(h, inode, from, end - from, isUnwritten);
      } else {
        yield* claimFree(h, inode, place, end - from);
        yield* insertBlocks(h, inode, from, place, end - from, isUnwritten);
      }
      inode.isMapChanged = true;
    });
    at = end;
  }
}

/** Marks the clusters of a run that are not the file's already. */
function* claimFree(h: Handle, inode: Ext4Inode, start: number, count: number): Task<void> {
  const { allocator, clusterRatio, es } = inode.sb;
  const first = start - ((start - es.firstDataBlock) % clusterRatio);
  for (let at = first; at < start + count; at += clusterRatio) {
    if (!(yield* allocator.isInUse(at))) yield* allocator.claim(h, inode, { start: at, count: clusterRatio });
    else if (clusterRatio === 1) inode.sb.corrupted(`fast commit: block ${at} of inode ${inode.ino} is in use`);
  }
}

function* removeRange(sb: Ext4Sb, { ino, lblk, length }: RecordOf<'del_range'>): Task<void> {
  const inode = yield* inodeInUse(sb, ino);
  if (inode === undefined || inode.isDirectory || inode.hasInlineData) return;
  let stop = lblk + length;
  yield* update(sb, 'mount', CREDITS, function* (h): Task<void> {
    for (;;) {
      yield* modifyInode(h, inode);
      stop = yield* removeBlocks(h, inode, lblk, stop);
      inode.isMapChanged = true;
      if (stop <= lblk) return;
      yield* wait(h.restart(CREDITS));
    }
  });
}

/** A name: the first of a new inode, or a further one. */
function* applyName(sb: Ext4Sb, { tag, parent, ino, name: bytes }: NameRecord): Task<void> {
  const dir = yield* inodeInUse(sb, parent);
  const inode = yield* inodeInUse(sb, ino);
  if (dir === undefined || inode === undefined) return;
  if (!dir.isDirectory) sb.corrupted(`fast commit: a name in inode ${parent}, which is no directory`);
  const name = nameOf(bytes);
  yield* update(sb, 'mount', CREDITS, function* (h): Task<void> {
    const hit = yield* lookupName(dir, name);
    if (hit?.ino === ino) return;
    yield* modifyInode(h, dir);
    yield* modifyInode(h, inode);
    if (isDirectory(inode.mode)) {
      if (tag !== 'creat' || inode.size > 0) sb.corrupted(`fast commit: a further name for directory ${ino}`);
      yield* initDir(h, inode, parent);
      inode.nlink = 2;
      if (dir.nlink > 1 && dir.nlink < EXT4_LINK_MAX) dir.nlink++;
    } else if (tag === 'link') {
      if (inode.nlink >= EXT4_LINK_MAX) sb.corrupted(`fast commit: inode ${ino} with ${inode.nlink} names`);
      inode.nlink++;
      if (isOrphan(inode)) yield* removeOrphan(h, inode);
    }
    const type = fileTypeOf(sb, inode.mode);
    if (hit === undefined) yield* addName(h, dir, name, ino, type);
    else yield* replaceName(h, dir, hit, ino, type);
    dir.mtime = dir.ctime = inode.ctime;
  });
}

function* removeOldName(sb: Ext4Sb, { parent, ino, name: bytes }: NameRecord): Task<void> {
  const dir = yield* inodeInUse(sb, parent);
  const inode = yield* inodeInUse(sb, ino);
  if (dir === undefined || !dir.isDirectory) return;
  const name = nameOf(bytes);
  yield* update(sb, 'mount', CREDITS, function* (h): Task<void> {
    const hit = yield* lookupName(dir, name);
    if (hit === undefined || hit.ino !== ino) return;
    yield* modifyInode(h, dir);
    yield* removeName(h, dir, hit);
    if (inode === undefined) return;
    yield* modifyInode(h, inode);
    if (inode.isDirectory) {
      inode.nlink = 0;
      if (dir.nlink > 2) dir.nlink--;
    } else if (inode.nlink > 0) {
      inode.nlink--;
    }
    if (inode.nlink === 0) yield* addOrphan(h, inode);
  });
}
