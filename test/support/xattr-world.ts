// A volume with inodes in core, on top of ext4-world.ts: what attributes, inline data, orphans and quotas are tested on.
//
//   import { useInodeFakes } from '../../../test/support/xattr-world.ts';
//   useInodeFakes();
//   const { setXattr } = await import('./xattr.ts');

import { register } from 'node:module';
import { assert } from '../../src/base/assert.ts';
import { FsError } from '../../src/base/fs-error.ts';
import type { Task } from '../../src/base/task.ts';
import type { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import type { Ext4Sb } from '../../src/fs/ext4/ext4-sb.ts';
import { COMPAT_EXT_ATTR, INCOMPAT_EA_INODE, INCOMPAT_EXTENTS } from '../../src/fs/ext4/features.ts';
import { ext4_super_block } from '../../src/fs/ext4/format.ts';
import type { Handle } from '../../src/jbd2/log.ts';
import { S_IFREG } from '../../src/vfs/uapi.ts';
import { type FakeSbOptions, fakeInode, fakeSb, modifyInode } from './ext4-world.ts';

export * from './ext4-world.ts';

/** As useFakes() of ext4-world.ts, for inode-alloc.ts too. */
export function useInodeFakes(): void {
  const hook = `export async function resolve(specifier, context, next) {
    const isFaked = /\\/src\\/fs\\/ext4\\//.test(context.parentURL ?? '') && /^\\.\\/(block-alloc|inode-table|inode-alloc)\\.[jt]s$/.test(specifier);
    return isFaked ? { url: ${JSON.stringify(import.meta.url)}, shortCircuit: true } : next(specifier, context);
  }`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
}

export interface InodeWorldOptions extends FakeSbOptions {
  readonly compat?: number;
  readonly incompat?: number;
  readonly roCompat?: number;
  /** Bytes of the area behind an inode's fields. */
  readonly eaSize?: number;
}

const INODES = new WeakMap<Ext4Sb, { inodes: Map<number, Ext4Inode>; eaSize: number }>();

/** fakeSb() with features, extents and ea_inode by default, and inodes 1 to 1000, of which the first free is 12. */
export function inodeWorld(options: InodeWorldOptions = {}): Ext4Sb {
  const { compat = COMPAT_EXT_ATTR, incompat = INCOMPAT_EXTENTS | INCOMPAT_EA_INODE, roCompat = 0, eaSize = 96 } = options;
  const raw = new Uint8Array(1024);
  const es = {
    raw,
    fields: ext4_super_block.view().at(raw),
    firstIno: 11,
    inodesCount: 1000,
    is64bit: true,
    block: 1,
    offset: 0,
    sum: () => {},
    hasCompat: (mask: number) => (compat & mask) !== 0,
    hasIncompat: (mask: number) => (incompat & mask) !== 0,
    hasRoCompat: (mask: number) => (roCompat & mask) !== 0,
    ...options.es,
  };
  const sb = fakeSb({ ...options, es });
  Object.defineProperty(sb.es, 'lastOrphan', {
    get: () => es.fields.s_last_orphan,
    set: (ino: number) => {
      es.fields.s_last_orphan = ino;
    },
  });
  INODES.set(sb, { inodes: new Map(), eaSize });
  return sb;
}

/** The inodes in use. */
export function inodesOf(sb: Ext4Sb): Map<number, Ext4Inode> {
  const world = INODES.get(sb);
  assert(world !== undefined, 'the volume is of inodeWorld()');
  return world.inodes;
}

/** An inode in use, with room for attributes. */
export function newInode(sb: Ext4Sb, ino: number, mode: number = S_IFREG | 0o644): Ext4Inode {
  const inode = fakeInode(sb, ino, { mode });
  inode.extraIsize = 32;
  inode.ea = new Uint8Array(INODES.get(sb)?.eaSize ?? 0);
  inodesOf(sb).set(ino, inode);
  return inode;
}

// ---- inode-table.ts, inode-alloc.ts

export function* getInode(sb: Ext4Sb, ino: number): Task<Ext4Inode> {
  const inode = inodesOf(sb).get(ino);
  if (inode === undefined) throw new FsError('EUCLEAN', 'ext4', { detail: `inode ${ino} is free` });
  return inode;
}

/** As inode-table.ts: enough for what is tested here. */
export function sizeMaxOf({ sb }: Ext4Inode): number {
  return (2 ** 32 - 1) * sb.blockSize;
}

export function* allocInode(h: Handle, sb: Ext4Sb, _parent: Ext4Inode, mode: number): Task<Ext4Inode> {
  const inodes = inodesOf(sb);
  let ino = 12;
  while (inodes.has(ino)) ino++;
  const inode = newInode(sb, ino, mode);
  inode.nlink = 0;
  inode.flags = 0;
  h.onRollback(() => inodes.delete(ino));
  yield* modifyInode(h, inode);
  return inode;
}

export function* freeInode(h: Handle, inode: Ext4Inode): Task<void> {
  const inodes = inodesOf(inode.sb);
  assert(inode.blocks === 0 && inode.fileAcl === 0, 'a free inode has no blocks');
  assert(inodes.delete(inode.ino), 'the inode is in use');
  h.onRollback(() => inodes.set(inode.ino, inode));
  yield* modifyInode(h, inode);
  inode.dtime = 1;
}
