// A tree that has everything a volume can hold, made by the kernel's calls in a mounted directory; and what is to be seen of a tree, as plain
// records, by the kernel and by us, so that the two can be compared.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { FsError } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import type { MaybePromise } from '../../src/base/task.ts';
import { FIEMAP_EXTENT_DATA_INLINE, FIEMAP_EXTENT_MERGED, FIEMAP_EXTENT_NOT_ALIGNED } from '../../src/iomap/fiemap.ts';
import { AT_SYMLINK_NOFOLLOW, type FiemapExtent, Libc } from '../../src/sys/libc.ts';
import { type Attr, makedev } from '../../src/vfs/attr.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';
import { nameBytes, nameOf } from '../../src/vfs/name.ts';
import * as uapi from '../../src/vfs/uapi.ts';

const AT_FDCWD = -100;
const STATX_BTIME = 0x800;
/** Bytes of a file that are compared at its start and its end; all of smaller ones. */
const CONTENT = 2 ** 20;
const EXTENTS_MAX = 5000;

/** What there is to see of one name. */
export interface Seen {
  readonly ino: number;
  /** Where this inode has been described already: under its first name. */
  readonly sameAs?: string;
  readonly attr?: Record<string, number | undefined>;
  readonly xattrs?: Record<string, string>;
  readonly target?: string;
  readonly content?: string;
  readonly extents?: readonly FiemapExtent[];
}

export interface TreeOptions {
  /** Names of the large directory. */
  readonly largeNames: number;
  /** Bytes of a value that wants an inode of its own; 0: there are none. */
  readonly largeValue: number;
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text, 'latin1');

/** An attribute that the volume has no room for, or no way to keep, is not there. */
function ifPossible(body: () => void): void {
  try {
    body();
  } catch (error) {
    const { code } = error as { code?: string };
    if (!['ENOSPC', 'EOPNOTSUPP', 'E2BIG', 'ENOTSUP', 'EINVAL', 'EFBIG'].includes(code ?? '')) throw error;
  }
}

/** Makes the tree, by the calls of whatever is mounted at `root`. */
export function makeTree(root: string, { largeNames, largeValue }: TreeOptions): void {
  const libc = new Libc();
  const prng = new Prng(largeNames + 1);
  const at = (...names: string[]): string => join(root, ...names);
  const path = (name: string): Uint8Array => Buffer.from(at(name));
  const set = (name: string, key: string, value: Uint8Array): void =>
    ifPossible(() => libc.setxattr(path(name), bytesOf(key), value, 0, false));
  const write = (name: string, ...pieces: { pos: number; data: Uint8Array }[]): void => {
    const fd = fs.openSync(at(name), 'w');
    for (const { pos, data } of pieces) fs.writeSync(fd, data, 0, data.length, pos);
    fs.closeSync(fd);
  };

  // Files: empty, of a few bytes, of as many as fit an inode, of blocks; with holes, with blocks that were never written, far out.
  for (const size of [0, 1, 30, 59, 60, 61, 100, 128, 129, 200, 500, 700, 1023, 1024, 4097, 70_000, 300_000]) {
    write(`size-${size}`, { pos: 0, data: prng.bytes(size) });
  }
  write('holes', ...Array.from({ length: 150 }, (_, i) => ({ pos: i * 3 * 4096 * (i % 7 === 0 ? 2 : 1), data: prng.bytes(100 + i) })));
  write('far', { pos: 0, data: prng.bytes(10) }, { pos: 2 ** 31 + 123_456, data: prng.bytes(5000) });
  write('end', { pos: 50_000, data: prng.bytes(77) });
  write('preallocated');
  ifPossible(() => {
    const fd = fs.openSync(at('preallocated'), 'r+');
    try {
      libc.fallocate(fd, 0, 0, 400_000);
      fs.writeSync(fd, prng.bytes(9000), 0, 9000, 130_000);
      libc.fallocate(fd, uapi.FALLOC_FL_KEEP_SIZE, 400_000, 65_536);
      libc.fallocate(fd, uapi.FALLOC_FL_PUNCH_HOLE | uapi.FALLOC_FL_KEEP_SIZE, 200_000, 50_000);
    } finally {
      fs.closeSync(fd);
    }
  });
  write('shrunk', { pos: 0, data: prng.bytes(200_000) });
  fs.truncateSync(at('shrunk'), 33_333);

  // Owners, modes, times before 1970 and past 2038.
  write('owned', { pos: 0, data: prng.bytes(10) });
  fs.chownSync(at('owned'), 70_001, 131_072);
  fs.chmodSync(at('owned'), 0o6751);
  const times: [string, { sec: number; nsec: number }][] = [
    ['past', { sec: -315_619_200, nsec: 5 }],
    ['future', { sec: 4_102_444_800, nsec: 123_456_789 }],
    ['last', { sec: 15_032_385_535, nsec: 999_999_999 }],
  ];
  for (const [name, time] of times) {
    write(name);
    libc.utimensat(path(name), time, time, 0);
  }

  // Everything that is no file.
  fs.symlinkSync('a', at('link-1'));
  for (const length of [59, 60, 61, 300, 1000]) fs.symlinkSync('t/'.repeat(500).slice(0, length), at(`link-${length}`));
  libc.mknod(path('character'), uapi.S_IFCHR | 0o640, makedev(4, 64));
  libc.mknod(path('block'), uapi.S_IFBLK | 0o600, makedev(300, 70_000));
  libc.mknod(path('pipe'), uapi.S_IFIFO | 0o622, 0);
  libc.mknod(path('socket'), uapi.S_IFSOCK | 0o755, 0);
  fs.linkSync(at('size-4097'), at('hard link'));

  // Attributes: none, in the inode, in a block, shared, in an inode of their own; ACLs.
  for (const name of ['one', 'two', 'three', 'directory']) {
    if (name === 'directory') fs.mkdirSync(at(name));
    else write(name, { pos: 0, data: prng.bytes(20) });
    set(name, 'user.small', Buffer.from('v'));
    set(name, 'user.empty', new Uint8Array(0));
    set(name, 'trusted.name', Buffer.from('t'.repeat(30)));
    set(name, `user.${'n'.repeat(200)}`, new Uint8Array(300).fill(7));
    set(name, 'security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex'));
  }
  if (largeValue > 0) for (const name of ['one', 'three']) set(name, 'user.large', new Uint8Array(largeValue).fill(9));
  const acl = (user: number): Uint8Array => {
    const entries = [
      [0x01, 6, -1],
      [0x02, 7, user],
      [0x04, 4, -1],
      [0x08, 5, 2000],
      [0x10, 7, -1],
      [0x20, 4, -1],
    ];
    const bytes = Buffer.alloc(4 + 8 * entries.length);
    bytes.writeUInt32LE(2, 0);
    entries.forEach(([tag, perm, id], i) => {
      bytes.writeUInt16LE(tag as number, 4 + 8 * i);
      bytes.writeUInt16LE(perm as number, 6 + 8 * i);
      bytes.writeInt32LE(id as number, 8 + 8 * i);
    });
    return bytes;
  };
  set('two', 'system.posix_acl_access', acl(1000));
  set('directory', 'system.posix_acl_access', acl(1000));
  set('directory', 'system.posix_acl_default', acl(1001));

  // Directories: empty, of a few names, of names of all kinds, deep, indexed, and with an index of two levels.
  fs.mkdirSync(at('empty'));
  fs.mkdirSync(at('few'));
  for (const name of ['a', 'b', 'c']) write(join('few', name), { pos: 0, data: bytesOf(name) });
  fs.mkdirSync(at('names'));
  for (const name of ['.hidden', ' ', '\n', 'ä€😀', 'x'.repeat(255), '-rf', '*']) write(join('names', name));
  libc.mknod(Buffer.concat([path('names'), Buffer.from([0x2f, 0xff, 0xfe, 0x80])]), uapi.S_IFREG | 0o644, 0);
  fs.mkdirSync(at(...'deep/er/and/er/down'.split('/')), { recursive: true });
  fs.mkdirSync(at('indexed'));
  for (let i = 0; i < 400; i++) fs.linkSync(at('hard link'), at('indexed', `name-${i}`));
  for (let i = 0; i < 400; i += 3) fs.unlinkSync(at('indexed', `name-${i}`));
  fs.mkdirSync(at('large'));
  for (let i = 0; i < largeNames; i++) fs.linkSync(at('one'), at('large', `${i}${'y'.repeat(240)}`));
}

/** What the kernel has to say about the tree at `root`, by path. */
export function seenByKernel(root: string): Map<string, Seen> {
  const libc = new Libc();
  const tree = new Map<string, Seen>();
  const first = new Map<number, string>();
  const look = (path: Buffer, name: string): void => {
    const st = libc.statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
    const sameAs = first.get(st.stx_ino);
    if (sameAs !== undefined) {
      tree.set(name, { ino: st.stx_ino, sameAs });
      return;
    }
    first.set(st.stx_ino, name);
    const type = st.stx_mode & uapi.S_IFMT;
    const hasBtime = (st.stx_mask & STATX_BTIME) !== 0;
    const attr = {
      mode: st.stx_mode,
      nlink: st.stx_nlink,
      uid: st.stx_uid,
      gid: st.stx_gid,
      size: st.stx_size,
      blocks: st.stx_blocks,
      blksize: st.stx_blksize,
      rdev: makedev(st.stx_rdev_major, st.stx_rdev_minor),
      atime: st.stx_atime_sec,
      atimeNsec: st.stx_atime_nsec,
      mtime: st.stx_mtime_sec,
      mtimeNsec: st.stx_mtime_nsec,
      ctime: st.stx_ctime_sec,
      ctimeNsec: st.stx_ctime_nsec,
      ...(hasBtime ? { btime: st.stx_btime_sec, btimeNsec: st.stx_btime_nsec } : {}),
    };
    const xattrs: Record<string, string> = {};
    for (const key of Buffer.from(libc.listxattr(path, false)).toString('latin1').split('\0').filter(Boolean).sort()) {
      xattrs[key] = Buffer.from(libc.getxattr(path, bytesOf(key), false)).toString('hex');
    }
    let more: Partial<Seen> = {};
    if (type === uapi.S_IFLNK) more = { target: nameOf(libc.readlink(path)) };
    else if (type === uapi.S_IFREG) {
      const fd = fs.openSync(path, 'r');
      try {
        const read = (pos: number, into: Uint8Array): number => fs.readSync(fd, into, 0, into.length, pos);
        more = { content: contentOf(st.stx_size, read), extents: extentsOf(libc.fiemap(fd, 0, 2 ** 52, 0, EXTENTS_MAX)) };
      } finally {
        fs.closeSync(fd);
      }
    }
    tree.set(name, { ino: st.stx_ino, attr, xattrs, ...more });
    if (type !== uapi.S_IFDIR) return;
    for (const child of fs.readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare)) {
      look(Buffer.concat([path, Buffer.from('/'), child]), `${name}/${nameOf(child)}`);
    }
  };
  look(Buffer.from(root), '');
  return tree;
}

function contentOf(size: number, read: (pos: number, into: Uint8Array) => number): string {
  const hash = createHash('sha1');
  const into = new Uint8Array(Math.min(size, CONTENT));
  hash.update(into.subarray(0, read(0, into)));
  if (size > CONTENT) hash.update(into.subarray(0, read(size - CONTENT, into)));
  return hash.digest('hex');
}

/** The same, as a filesystem of ours has it. Its device answers at once. */
export function seenByUs(volume: FileSystem): Map<string, Seen> {
  const tree = new Map<string, Seen>();
  const first = new Map<number, string>();
  const look = (node: number, attr: Attr, name: string): void => {
    const sameAs = first.get(attr.ino);
    if (sameAs !== undefined) {
      tree.set(name, { ino: attr.ino, sameAs });
      return;
    }
    first.set(attr.ino, name);
    const { ino, ...rest } = attr;
    const type = attr.mode & uapi.S_IFMT;
    const xattrs: Record<string, string> = {};
    for (const key of now(volume.listxattr(ROOT, node)).sort()) {
      xattrs[key] = Buffer.from(now(volume.getxattr(ROOT, node, key)) as Uint8Array).toString('hex');
    }
    let more: Partial<Seen> = {};
    if (type === uapi.S_IFLNK) more = { target: now(volume.readlink(ROOT, node)) };
    else if (type === uapi.S_IFREG) {
      const { fh } = now(volume.open(ROOT, node, uapi.O_RDONLY));
      const read = (pos: number, into: Uint8Array): number => {
        let done = 0;
        while (done < into.length) {
          const count = now(volume.read(ROOT, node, fh, { pos: pos + done, flags: 0 }, into.subarray(done)));
          if (count === 0) break;
          done += count;
        }
        return done;
      };
      const extents = extentsOf(now(volume.fiemap(ROOT, node, 0, 2 ** 52, 0, EXTENTS_MAX)));
      more = { content: contentOf(attr.size, read), extents };
      now(volume.release(node, fh));
    }
    tree.set(name, { ino, attr: rest, xattrs, ...more });
    if (type !== uapi.S_IFDIR) return;
    const { fh } = now(volume.opendir(ROOT, node, 0));
    const names: string[] = [];
    for (let offset = 0; ; ) {
      const entries = now(volume.readdir(ROOT, node, fh, offset, 500, false));
      if (entries.length === 0) break;
      for (const entry of entries) {
        offset = entry.next;
        if (entry.name !== '.' && entry.name !== '..') names.push(entry.name);
      }
    }
    now(volume.releasedir(node, fh));
    for (const child of names.sort(byBytes)) {
      const entry = now(volume.lookup(ROOT, node, child));
      if (entry === undefined) throw new Error(`${name}/${child} is listed and not found`);
      look(entry.node, entry.attr, `${name}/${child}`);
    }
  };
  const root = now(volume.iget(ROOT, volume.root));
  look(root.node, root.attr, '');
  return tree;
}

/**
 * Extents as they can be compared: we tell no place of inline data, and not that it is not aligned; how many blocks with pointers the kernel puts
 * together depends on what it has in core, so that all of them are.
 */
function extentsOf(extents: readonly FiemapExtent[]): FiemapExtent[] {
  const joined: { logical: number; physical: number; length: number; flags: number }[] = [];
  for (const { logical, physical, length, flags } of extents) {
    const before = joined.at(-1);
    const goesOn = before !== undefined && before.logical + before.length === logical && before.physical + before.length === physical;
    if (goesOn && (flags & before.flags & FIEMAP_EXTENT_MERGED) !== 0) {
      before.length += length;
      before.flags |= flags;
    } else {
      const isInline = (flags & FIEMAP_EXTENT_DATA_INLINE) !== 0;
      joined.push(
        isInline ? { logical, physical: 0, length, flags: flags & ~FIEMAP_EXTENT_NOT_ALIGNED } : { logical, physical, length, flags },
      );
    }
  }
  return joined;
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(nameBytes(a), nameBytes(b));
}

/** Both see the same. What the kernel does not tell, a time of birth that the volume has no place for, is not compared. */
export function assertSameTree(ours: Map<string, Seen>, kernel: Map<string, Seen>): void {
  assert.deepEqual([...ours.keys()], [...kernel.keys()], 'names');
  for (const [path, expected] of kernel) {
    const { attr, ...actual } = ours.get(path) as Seen;
    const { btime, btimeNsec, ...rest } = attr ?? {};
    const told = expected.attr?.['btime'] === undefined ? rest : { ...rest, btime, btimeNsec };
    assert.deepEqual(attr === undefined ? actual : { ...actual, attr: told }, expected, `'${path.slice(0, 60)}'`);
  }
}

/** The answer of a volume in memory. */
export function now<T>(answer: MaybePromise<T>): T {
  if (answer instanceof Promise) {
    answer.catch(() => {});
    throw new FsError('EAGAIN', 'open', { detail: 'a volume in memory answers at once' });
  }
  return answer;
}
