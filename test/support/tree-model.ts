import type { Timespec } from '../../src/vfs/attr.ts';
import { type Caller, hasCap, inGroup } from '../../src/vfs/caller.ts';
import { nameLength } from '../../src/vfs/name.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import { FlatModel } from './model.ts';

const { O_ACCMODE, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_RDONLY, O_TMPFILE, O_TRUNC, O_WRONLY } = uapi;
const { R_OK, W_OK, X_OK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_ISVTX, S_IXGRP } = uapi;
const { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SYS_ADMIN } = uapi;

/** Unit in which files take space, bytes. */
export const BLOCK = 4096;

/** How the files of a filesystem take space. */
export interface SpaceRules {
  /** Unit in which files take space, and in which ranges are moved, bytes. */
  readonly unit: number;
  /** Unit in which there is data or a hole, bytes. */
  readonly blockSize: number;
  /** Most that a file takes beside its data, units. */
  readonly overhead: number;
  /** fallocate does more than punch holes. */
  readonly allocates: boolean;
}

const PLAIN_SPACE: SpaceRules = { unit: BLOCK, blockSize: BLOCK, overhead: 0, allocates: true };

/** fallocate modes. */
export const KEEP_SIZE = 0x01;
export const PUNCH_HOLE = 0x02;
export const COLLAPSE_RANGE = 0x08;
export const ZERO_RANGE = 0x10;
export const INSERT_RANGE = 0x20;

const DAY_S = 24 * 60 * 60;

/** What a call is refused with. Not an Error: a stack for each would be most of the time of a seed. */
export class Refusal {
  readonly code: string;

  constructor(code: string) {
    this.code = code;
  }
}

/** One inode. */
export class TreeNode {
  readonly type: number;
  readonly space: SpaceRules;
  /** Mode bits without the type. */
  perm: number;
  uid: number;
  gid: number;
  rdev = 0;
  nlink = 1;
  /** Descriptions that are open. */
  opens = 0;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
  readonly btime: Timespec;
  /** Moments that these times may have instead, where nothing says which; settled when somebody looks. */
  readonly loose: { atime: Timespec[]; mtime: Timespec[]; ctime: Timespec[] } = { atime: [], mtime: [], ctime: [] };
  /** Of a directory. */
  readonly entries: Map<string, TreeNode> = new Map();
  parent: TreeNode | undefined = undefined;
  /** Of a regular file. */
  data: FlatModel = new FlatModel();
  /** Blocks that may take space. */
  blocks: Set<number> = new Set();
  /** Of a symbolic link. */
  target = '';
  readonly xattrs: Map<string, Uint8Array> = new Map();
  /** A file without a name that may get one. */
  isLinkable = false;
  /** The number that the real file turned out to have. */
  ino: number | undefined = undefined;

  constructor(type: number, perm: number, uid: number, gid: number, now: Timespec, space: SpaceRules = PLAIN_SPACE) {
    this.type = type;
    this.space = space;
    this.perm = perm;
    this.uid = uid;
    this.gid = gid;
    this.atime = now;
    this.mtime = now;
    this.ctime = now;
    this.btime = now;
    if (type === S_IFDIR) this.nlink = 2;
  }

  /** Without names below it; with the same bytes, not a copy of them. */
  clone(): TreeNode {
    const twin = new TreeNode(this.type, this.perm, this.uid, this.gid, this.btime, this.space);
    Object.assign(twin, { ...this, entries: new Map(), xattrs: new Map(this.xattrs), blocks: new Set(this.blocks) });
    Object.assign(twin, { loose: { atime: [...this.loose.atime], mtime: [...this.loose.mtime], ctime: [...this.loose.ctime] } });
    return twin;
  }

  get isDirectory(): boolean {
    return this.type === S_IFDIR;
  }

  get isRegular(): boolean {
    return this.type === S_IFREG;
  }

  get isSymlink(): boolean {
    return this.type === S_IFLNK;
  }

  /** Directories have no size that the model knows. */
  get size(): number | undefined {
    if (this.isRegular) return this.data.size;
    return this.isSymlink ? nameLength(this.target) : this.isDirectory ? undefined : 0;
  }
}

/** A listing under way: names that were there all the time have to come exactly once. */
export interface Listing {
  readonly steady: Set<string>;
  readonly seen: Set<string>;
}

/** An open file description. */
export class TreeHandle {
  readonly node: TreeNode;
  readonly flags: number;
  pos = 0;
  listing: Listing | undefined = undefined;

  constructor(node: TreeNode, flags: number) {
    this.node = node;
    this.flags = flags;
    if (node.isDirectory) this.rewind();
  }

  get reads(): boolean {
    return (this.flags & O_ACCMODE) !== O_WRONLY;
  }

  get writes(): boolean {
    return (this.flags & O_ACCMODE) !== O_RDONLY;
  }

  clone(node: TreeNode): TreeHandle {
    const twin = new TreeHandle(node, this.flags);
    twin.pos = this.pos;
    twin.listing = this.listing && { steady: new Set(this.listing.steady), seen: new Set(this.listing.seen) };
    return twin;
  }

  rewind(): void {
    this.listing = { steady: new Set(this.node.entries.keys()), seen: new Set() };
  }
}

/** The last step of a path: a name that may or may not be there, in a directory that is. */
interface Last {
  readonly dir: TreeNode;
  readonly name: string;
  readonly kind: 'normal' | 'root' | 'dot' | 'dotdot';
  readonly hasSlash: boolean;
}

export interface Changes {
  mode?: number;
  uid?: number;
  gid?: number;
  size?: number;
  atime?: Timespec | 'now';
  mtime?: Timespec | 'now';
}

/**
 * A tree of files in plain objects: what system calls do to it, and what they are refused with, in the order in which Linux looks.
 *
 * Every method takes effect whole or throws a Refusal and has changed nothing but access times and
 * set-id bits. Source: Linux fs/namei.c, fs/open.c,
 * fs/attr.c, fs/xattr.c, fs/read_write.c, and the manual pages.
 */
export class TreeModel {
  /** Moment of the call that is made. */
  now: Timespec;
  readonly root: TreeNode;
  /** Calls overlap: whether reading comes before or after a change, and with it whether atime moves, is open. */
  isConcurrent = false;
  /** Inodes that exist: with a name, or open. */
  inodes = 1;
  /** Inodes that the filesystem uses for itself. */
  inodesElse = 0;
  readonly handles: Set<TreeHandle> = new Set();
  /** Inodes that there can be. */
  inodesMax = Number.POSITIVE_INFINITY;

  constructor(now: Timespec, root: TreeNode) {
    this.now = now;
    this.root = root;
    root.parent = root;
  }

  /** The same tree once more, its files' bytes shared, and the open files of the copy by those of this one. */
  clone(): { model: TreeModel; handles: Map<TreeHandle, TreeHandle> } {
    const nodes = new Map<TreeNode, TreeNode>();
    const copy = (node: TreeNode): TreeNode => {
      const known = nodes.get(node);
      if (known !== undefined) return known;
      const twin = node.clone();
      nodes.set(node, twin);
      for (const [name, child] of node.entries) twin.entries.set(name, copy(child));
      if (node.parent !== undefined) twin.parent = copy(node.parent);
      return twin;
    };
    const model = new TreeModel(this.now, copy(this.root));
    model.inodes = this.inodes;
    model.inodesMax = this.inodesMax;
    model.inodesElse = this.inodesElse;
    const handles = new Map<TreeHandle, TreeHandle>();
    for (const handle of this.handles) {
      const twin = handle.clone(copy(handle.node));
      handles.set(handle, twin);
      model.handles.add(twin);
    }
    return { model, handles };
  }

  // Paths.

  /** The inode that a path leads to. */
  walk(caller: Caller, path: string, follow: boolean): TreeNode {
    checkPath(path);
    return this.#walk(caller, this.root, path, follow, { count: 0 });
  }

  #walk(caller: Caller, from: TreeNode, path: string, follow: boolean, links: { count: number }): TreeNode {
    let node = from;
    const names = path.split('/').filter((name) => name !== '');
    const hasSlash = path.endsWith('/');
    for (const [i, name] of names.entries()) {
      const isLast = i === names.length - 1;
      this.#mayAccess(caller, node, X_OK);
      let next = this.#step(node, name);
      if (next === undefined) throw new Refusal('ENOENT');
      if (next.isSymlink && (!isLast || follow || hasSlash)) next = this.#follow(caller, node, next, true, links);
      if ((!isLast || hasSlash) && !next.isDirectory) throw new Refusal('ENOTDIR');
      node = next;
    }
    return node;
  }

  #step(dir: TreeNode, name: string): TreeNode | undefined {
    if (name === '.') return dir;
    if (name === '..') return dir.parent;
    if (nameLength(name) > uapi.NAME_MAX) throw new Refusal('ENAMETOOLONG');
    return dir.entries.get(name);
  }

  #follow(caller: Caller, dir: TreeNode, link: TreeNode, follow: boolean, links: { count: number }): TreeNode {
    this.#countLink(link, links);
    return this.#walk(caller, link.target.startsWith('/') ? this.root : dir, link.target, follow, links);
  }

  #countLink(link: TreeNode, links: { count: number }): void {
    if (links.count++ >= uapi.MAXSYMLINKS) throw new Refusal('ELOOP');
    this.#accessed(link);
  }

  /** All of a path but its last name. */
  #parent(caller: Caller, path: string, from: TreeNode = this.root, links: { count: number } = { count: 0 }): Last {
    checkPath(path);
    const names = path.split('/').filter((name) => name !== '');
    const name = names.pop();
    if (name === undefined) return { dir: from, name: '', kind: 'root', hasSlash: false };
    const dir = names.length === 0 ? from : this.#walk(caller, from, `${names.join('/')}/`, true, links);
    this.#mayAccess(caller, dir, X_OK);
    return { dir, name, kind: name === '.' ? 'dot' : name === '..' ? 'dotdot' : 'normal', hasSlash: path.endsWith('/') };
  }

  /** Where a new name goes: filename_create. */
  #place(caller: Caller, path: string, isDirectory: boolean): Last {
    const last = this.#parent(caller, path);
    if (last.kind !== 'normal') throw new Refusal('EEXIST');
    if (this.#step(last.dir, last.name) !== undefined) throw new Refusal('EEXIST');
    if (last.hasSlash && !isDirectory) throw new Refusal('ENOENT');
    return last;
  }

  // Permissions.

  #mayAccess(caller: Caller, node: TreeNode, mask: number): void {
    if (!isAllowed(caller, node, mask)) throw new Refusal('EACCES');
  }

  #mayDelete(caller: Caller, dir: TreeNode, victim: TreeNode, isDirectory: boolean): void {
    this.#mayAccess(caller, dir, W_OK | X_OK);
    const isSticky = (dir.perm & S_ISVTX) !== 0 && victim.uid !== caller.uid && dir.uid !== caller.uid;
    if (isSticky && !hasCap(caller, CAP_FOWNER)) throw new Refusal('EPERM');
    if (isDirectory && !victim.isDirectory) throw new Refusal('ENOTDIR');
    if (isDirectory && victim === this.root) throw new Refusal('EBUSY');
    if (!isDirectory && victim.isDirectory) throw new Refusal('EISDIR');
  }

  // Names.

  stat(caller: Caller, path: string, follow: boolean): TreeNode {
    return this.walk(caller, path, follow);
  }

  readlink(caller: Caller, path: string): string {
    const node = this.walk(caller, path, false);
    if (!node.isSymlink) throw new Refusal('EINVAL');
    this.#accessed(node);
    return node.target;
  }

  access(caller: Caller, path: string, mask: number): void {
    const node = this.walk(caller, path, true);
    if (mask !== 0) this.#mayAccess(caller, node, mask);
  }

  realpath(caller: Caller, path: string): string {
    return this.pathOf(this.walk(caller, path, true));
  }

  /** A path of a node that has one. */
  pathOf(node: TreeNode): string {
    if (node === this.root) return '/';
    for (const { dir, name, node: each } of this.everything()) if (each === node) return `${dir === '/' ? '' : dir}/${name}`;
    throw new Error('the node has no name');
  }

  /** Every name with the path of its directory, parents first. */
  *everything(dir: TreeNode = this.root, path = '/'): Generator<{ dir: string; name: string; node: TreeNode }> {
    for (const [name, node] of dir.entries) {
      yield { dir: path, name, node };
      if (node.isDirectory) yield* this.everything(node, `${path === '/' ? '' : path}/${name}`);
    }
  }

  mkdir(caller: Caller, path: string, mode: number): TreeNode {
    const { dir, name } = this.#place(caller, path, true);
    this.#mayAccess(caller, dir, W_OK | X_OK);
    const node = this.#make(caller, dir, S_IFDIR, mode & (0o777 | S_ISVTX));
    if ((dir.perm & S_ISGID) !== 0) node.perm |= S_ISGID;
    this.#enter(dir, name, node);
    return node;
  }

  mknod(caller: Caller, path: string, mode: number, rdev: number): TreeNode {
    const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
    if (type === S_IFDIR) throw new Refusal('EPERM');
    if (type === S_IFLNK) throw new Refusal('EINVAL');
    const { dir, name } = this.#place(caller, path, false);
    this.#mayAccess(caller, dir, W_OK | X_OK);
    const isDevice = type === S_IFCHR || type === uapi.S_IFBLK;
    if (isDevice && !(type === S_IFCHR && rdev === 0) && !hasCap(caller, CAP_MKNOD)) throw new Refusal('EPERM');
    const node = this.#make(caller, dir, type, mode & 0o7777);
    if (isDevice) node.rdev = rdev;
    this.#enter(dir, name, node);
    return node;
  }

  symlink(caller: Caller, target: string, path: string): TreeNode {
    checkPath(target);
    const { dir, name } = this.#place(caller, path, false);
    this.#mayAccess(caller, dir, W_OK | X_OK);
    const node = this.#make({ ...caller, umask: 0 }, dir, S_IFLNK, 0o777);
    node.target = target;
    this.#enter(dir, name, node);
    return node;
  }

  link(caller: Caller, existing: string, path: string, follow: boolean): TreeNode {
    const node = this.walk(caller, existing, follow);
    const { dir, name } = this.#place(caller, path, false);
    this.#mayAccess(caller, dir, W_OK | X_OK);
    if (node.isDirectory) throw new Refusal('EPERM');
    this.#enter(dir, name, node);
    node.nlink++;
    this.#changed(node);
    return node;
  }

  unlink(caller: Caller, path: string): void {
    const { dir, name, kind, hasSlash } = this.#parent(caller, path);
    if (kind !== 'normal') throw new Refusal('EISDIR');
    const node = this.#step(dir, name);
    if (node === undefined) throw new Refusal('ENOENT');
    if (hasSlash) throw new Refusal(node.isDirectory ? 'EISDIR' : 'ENOTDIR');
    this.#mayDelete(caller, dir, node, false);
    this.#leave(dir, name);
    this.#drop(node);
  }

  rmdir(caller: Caller, path: string): void {
    const { dir, name, kind } = this.#parent(caller, path);
    if (kind !== 'normal') throw new Refusal(kind === 'root' ? 'EBUSY' : kind === 'dot' ? 'EINVAL' : 'ENOTEMPTY');
    const node = this.#step(dir, name);
    if (node === undefined) throw new Refusal('ENOENT');
    this.#mayDelete(caller, dir, node, true);
    if (node.entries.size > 0) throw new Refusal('ENOTEMPTY');
    this.#leave(dir, name);
    this.#drop(node);
  }

  rename(caller: Caller, from: string, to: string, flags: number): void {
    const { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } = uapi;
    const exchanges = (flags & RENAME_EXCHANGE) !== 0;
    if (flags > 7 || (exchanges && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) !== 0)) throw new Refusal('EINVAL');
    const a = this.#parent(caller, from);
    const b = this.#parent(caller, to);
    if (a.kind !== 'normal') throw new Refusal('EBUSY');
    if (b.kind !== 'normal') throw new Refusal((flags & RENAME_NOREPLACE) !== 0 ? 'EEXIST' : 'EBUSY');
    const source = this.#step(a.dir, a.name);
    if (source === undefined) throw new Refusal('ENOENT');
    const target = this.#step(b.dir, b.name);
    if ((flags & RENAME_NOREPLACE) !== 0 && target !== undefined) throw new Refusal('EEXIST');
    if (exchanges) {
      if (target === undefined) throw new Refusal('ENOENT');
      if (!target.isDirectory && b.hasSlash) throw new Refusal('ENOTDIR');
    }
    if (!source.isDirectory && (a.hasSlash || (!exchanges && b.hasSlash))) throw new Refusal('ENOTDIR');
    if (isAncestor(source, b.dir)) throw new Refusal('EINVAL');
    if (target !== undefined && isAncestor(target, a.dir)) throw new Refusal(exchanges ? 'EINVAL' : 'ENOTEMPTY');
    if (source === target) return;
    this.#mayDelete(caller, a.dir, source, source.isDirectory);
    if (target === undefined) this.#mayAccess(caller, b.dir, W_OK | X_OK);
    else this.#mayDelete(caller, b.dir, target, (exchanges ? target : source).isDirectory);
    if (a.dir !== b.dir) {
      if (source.isDirectory) this.#mayAccess(caller, source, W_OK);
      if (exchanges && target?.isDirectory === true) this.#mayAccess(caller, target, W_OK);
    }
    if (!exchanges && target !== undefined && target.entries.size > 0) throw new Refusal('ENOTEMPTY');
    const whiteout = (flags & RENAME_WHITEOUT) !== 0 ? this.#make({ ...caller, umask: 0 }, a.dir, S_IFCHR, 0) : undefined;

    this.#leave(a.dir, a.name);
    if (target !== undefined) {
      this.#leave(b.dir, b.name);
      if (exchanges) {
        this.#enter(a.dir, a.name, target);
        this.#changed(target);
      } else this.#drop(target);
    }
    this.#enter(b.dir, b.name, source);
    this.#changed(source);
    if (whiteout !== undefined) this.#enter(a.dir, a.name, whiteout);
  }

  #make(caller: Caller, dir: TreeNode, type: number, mode: number): TreeNode {
    if (this.inodes >= this.inodesMax) throw new Refusal('ENOSPC');
    const takesGroup = (dir.perm & S_ISGID) !== 0;
    const gid = takesGroup ? dir.gid : caller.gid;
    // Who is not of the group gets no program that runs as it.
    const isGroupProgram = type !== S_IFDIR && (mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP);
    const losesSgid = takesGroup && isGroupProgram && !inGroup(caller, gid) && !hasCap(caller, CAP_FSETID);
    const perm = (losesSgid ? mode & ~S_ISGID : mode) & ~caller.umask;
    this.inodes++;
    return new TreeNode(type, perm, caller.uid, gid, this.now, dir.space);
  }

  #enter(dir: TreeNode, name: string, node: TreeNode): void {
    dir.entries.set(name, node);
    if (node.isDirectory) {
      dir.nlink++;
      node.parent = dir;
    }
    this.#modified(dir);
  }

  #leave(dir: TreeNode, name: string): void {
    const node = dir.entries.get(name) as TreeNode;
    dir.entries.delete(name);
    if (node.isDirectory) dir.nlink--;
    this.#modified(dir);
    for (const { node: open, listing } of this.handles) if (open === dir) listing?.steady.delete(name);
  }

  /** One name less. */
  #drop(node: TreeNode): void {
    node.nlink -= node.isDirectory ? 2 : 1;
    this.#changed(node);
    this.#reap(node);
  }

  #reap(node: TreeNode): void {
    if (node.nlink === 0 && node.opens === 0) this.inodes--;
  }

  // Times.

  #modified(node: TreeNode): void {
    settle(node, 'mtime', this.now);
    settle(node, 'ctime', this.now);
  }

  #changed(node: TreeNode): void {
    settle(node, 'ctime', this.now);
  }

  /** mtime and ctime may move, or not. */
  #mayBeModified(node: TreeNode): void {
    node.loose.mtime.push(this.now);
    node.loose.ctime.push(this.now);
  }

  /** relatime. */
  #accessed(node: TreeNode): void {
    const { atime, mtime, ctime, loose } = node;
    const isOpen = loose.atime.length + loose.mtime.length + loose.ctime.length > 0;
    if (isOpen || this.isConcurrent) loose.atime.push(this.now);
    else if (!isAfter(atime, mtime) || !isAfter(atime, ctime) || this.now.sec - atime.sec >= DAY_S) node.atime = this.now;
  }

  // Attributes.

  setattr(caller: Caller, node: TreeNode, changes: Changes): void {
    const { mode, uid, gid, atime, mtime } = changes;
    const isOwner = caller.uid === node.uid || hasCap(caller, CAP_FOWNER);
    const isTouch = atime === 'now' && mtime === 'now';
    if (isTouch && !isOwner && !isAllowed(caller, node, W_OK)) throw new Refusal('EACCES');
    const mayChown = hasCap(caller, CAP_CHOWN);
    if (uid !== undefined && !mayChown && !(caller.uid === node.uid && uid === node.uid)) throw new Refusal('EPERM');
    if (gid !== undefined && !mayChown && !(caller.uid === node.uid && (gid === node.gid || inGroup(caller, gid))))
      throw new Refusal('EPERM');
    if (mode !== undefined && !isOwner) throw new Refusal('EPERM');
    if ((atime !== undefined || mtime !== undefined) && !isTouch && !isOwner) throw new Refusal('EPERM');

    const gidAfter = gid ?? node.gid;
    if (uid !== undefined || gid !== undefined) {
      if (!node.isDirectory) node.perm &= ~setIdsLost(caller, node);
      if (uid !== undefined) node.uid = uid;
      node.gid = gidAfter;
    }
    if (mode !== undefined) {
      node.perm = mode & 0o7777;
      if (!inGroup(caller, gidAfter) && !hasCap(caller, CAP_FSETID)) node.perm &= ~S_ISGID;
    }
    if (atime !== undefined) settle(node, 'atime', atime === 'now' ? this.now : atime);
    if (mtime !== undefined) settle(node, 'mtime', mtime === 'now' ? this.now : mtime);
    this.#changed(node);
  }

  truncate(caller: Caller, path: string, size: number): void {
    if (size < 0) throw new Refusal('EINVAL');
    const node = this.walk(caller, path, true);
    if (node.isDirectory) throw new Refusal('EISDIR');
    if (!node.isRegular) throw new Refusal('EINVAL');
    this.#mayAccess(caller, node, W_OK);
    this.#resize(caller, node, size);
  }

  #resize(caller: Caller, node: TreeNode, size: number): void {
    if (size === node.data.size) this.#mayBeModified(node);
    else this.#modified(node);
    this.#killPrivileges(caller, node);
    node.data.truncate(size);
    for (const block of node.blocks) if (block * node.space.unit >= size) node.blocks.delete(block);
  }

  /** Whoever writes into a program takes its set-id bits off. */
  #killPrivileges(caller: Caller, node: TreeNode): boolean {
    const before = node.perm;
    if (!hasCap(caller, CAP_FSETID)) node.perm &= ~setIdsLost(caller, node);
    return node.perm !== before;
  }

  // Extended attributes. An undefined answer stands for ENODATA.

  getxattr(caller: Caller, node: TreeNode, name: string): Uint8Array | undefined {
    if (name.startsWith('trusted.') && !hasCap(caller, CAP_SYS_ADMIN)) return undefined;
    if (name.startsWith('user.') && !node.isRegular && !node.isDirectory) return undefined;
    if (!name.startsWith('trusted.')) this.#mayAccess(caller, node, R_OK);
    return node.xattrs.get(name);
  }

  setxattr(caller: Caller, node: TreeNode, name: string, value: Uint8Array, flags: number): void {
    if (flags > 3) throw new Refusal('EINVAL');
    if (value.length > uapi.XATTR_SIZE_MAX) throw new Refusal('E2BIG');
    this.#mayChangeXattr(caller, node, name);
    if ((flags & uapi.XATTR_CREATE) !== 0 && node.xattrs.has(name)) throw new Refusal('EEXIST');
    if ((flags & uapi.XATTR_REPLACE) !== 0 && !node.xattrs.has(name)) throw new Refusal('ENODATA');
    node.xattrs.set(name, value);
    this.#changed(node);
  }

  removexattr(caller: Caller, node: TreeNode, name: string): void {
    this.#mayChangeXattr(caller, node, name);
    if (!node.xattrs.delete(name)) throw new Refusal('ENODATA');
    this.#changed(node);
  }

  listxattr(caller: Caller, node: TreeNode): string[] {
    return [...node.xattrs.keys()].filter((name) => !name.startsWith('trusted.') || hasCap(caller, CAP_SYS_ADMIN)).sort();
  }

  #mayChangeXattr(caller: Caller, node: TreeNode, name: string): void {
    if (name.startsWith('trusted.')) {
      if (!hasCap(caller, CAP_SYS_ADMIN)) throw new Refusal('EPERM');
      return;
    }
    if (!node.isRegular && !node.isDirectory) throw new Refusal('EPERM');
    const isSticky = node.isDirectory && (node.perm & S_ISVTX) !== 0;
    if (isSticky && caller.uid !== node.uid && !hasCap(caller, CAP_FOWNER)) throw new Refusal('EPERM');
    this.#mayAccess(caller, node, W_OK);
  }

  // Open files.

  open(caller: Caller, path: string, flags: number, mode: number): TreeHandle {
    if ((flags & O_TMPFILE) === O_TMPFILE) return this.#tmpfile(caller, path, flags, mode);
    if ((flags & O_CREAT) !== 0 && (flags & O_DIRECTORY) !== 0) throw new Refusal('EINVAL');
    checkPath(path);
    const follow = (flags & O_NOFOLLOW) === 0 && (flags & (O_CREAT | O_EXCL)) !== (O_CREAT | O_EXCL);
    if ((flags & O_CREAT) === 0) return this.#openNode(caller, this.walk(caller, path, follow), flags);

    const links = { count: 0 };
    for (let last = this.#parent(caller, path, this.root, links); ; ) {
      const { dir, name, kind, hasSlash } = last;
      if (kind === 'normal' && hasSlash) throw new Refusal('EISDIR');
      const node = kind === 'root' ? this.root : this.#step(dir, name);
      if (node === undefined) return this.#create(caller, dir, name, flags, mode);
      if (!node.isSymlink || !follow) return this.#openNode(caller, node, flags);
      this.#countLink(node, links);
      last = this.#parent(caller, node.target, node.target.startsWith('/') ? this.root : dir, links);
    }
  }

  #create(caller: Caller, dir: TreeNode, name: string, flags: number, mode: number): TreeHandle {
    this.#mayAccess(caller, dir, W_OK | X_OK);
    const node = this.#make(caller, dir, S_IFREG, mode & 0o7777);
    this.#enter(dir, name, node);
    return this.#handle(node, flags);
  }

  #openNode(caller: Caller, node: TreeNode, flags: number): TreeHandle {
    if ((flags & O_CREAT) !== 0) {
      if ((flags & O_EXCL) !== 0) throw new Refusal('EEXIST');
      if (node.isDirectory) throw new Refusal('EISDIR');
    }
    if ((flags & O_DIRECTORY) !== 0 && !node.isDirectory) throw new Refusal('ENOTDIR');
    if (node.isSymlink) throw new Refusal('ELOOP');
    const mask = maskOf(flags);
    if (node.isDirectory && (mask & W_OK) !== 0) throw new Refusal('EISDIR');
    if (mask !== 0) this.#mayAccess(caller, node, mask);
    if ((flags & O_NOATIME) !== 0 && caller.uid !== node.uid && !hasCap(caller, CAP_FOWNER)) throw new Refusal('EPERM');
    if (!node.isDirectory && !node.isRegular) throw new Refusal('ENXIO'); // nothing is behind devices, FIFOs and sockets here
    if ((flags & O_TRUNC) !== 0 && node.isRegular) {
      this.#resize(caller, node, 0);
      this.#modified(node);
    }
    return this.#handle(node, flags);
  }

  #tmpfile(caller: Caller, path: string, flags: number, mode: number): TreeHandle {
    if ((flags & O_ACCMODE) === O_RDONLY) throw new Refusal('EINVAL');
    const dir = this.walk(caller, path, (flags & O_NOFOLLOW) === 0);
    if (!dir.isDirectory) throw new Refusal('ENOTDIR');
    this.#mayAccess(caller, dir, W_OK | X_OK);
    const node = this.#make(caller, dir, S_IFREG, mode & 0o7777);
    node.nlink = 0;
    node.isLinkable = (flags & O_EXCL) === 0;
    return this.#handle(node, flags);
  }

  #handle(node: TreeNode, flags: number): TreeHandle {
    node.opens++;
    const handle = new TreeHandle(node, flags);
    this.handles.add(handle);
    return handle;
  }

  close(handle: TreeHandle): void {
    this.handles.delete(handle);
    handle.node.opens--;
    this.#reap(handle.node);
  }

  read(handle: TreeHandle, length: number, pos: number | null): Uint8Array {
    const { node } = handle;
    if (!handle.reads) throw new Refusal('EBADF');
    if (node.isDirectory) throw new Refusal('EISDIR');
    if (pos !== null && pos < 0) throw new Refusal('EINVAL');
    const data = node.data.read(pos ?? handle.pos, length);
    if (pos === null) handle.pos += data.length;
    if (length > 0 && (handle.flags & O_NOATIME) === 0) this.#accessed(node);
    return data;
  }

  /** Bytes written: all. */
  write(caller: Caller, handle: TreeHandle, data: Uint8Array, pos: number | null): number {
    const { node } = handle;
    if (!handle.writes) throw new Refusal('EBADF');
    if (pos !== null && pos < 0) throw new Refusal('EINVAL');
    if (data.length === 0) return 0;
    const at = (handle.flags & O_APPEND) !== 0 ? node.data.size : (pos ?? handle.pos);
    this.#killPrivileges(caller, node);
    node.data.write(at, data);
    this.#mark(node, at, data.length);
    this.#modified(node);
    if (pos === null) handle.pos = at + data.length;
    return data.length;
  }

  ftruncate(caller: Caller, handle: TreeHandle, size: number): void {
    if (size < 0 || !handle.writes || !handle.node.isRegular) throw new Refusal('EINVAL');
    this.#resize(caller, handle.node, size);
  }

  /** SEEK_SET, SEEK_CUR and SEEK_END. */
  seek(handle: TreeHandle, offset: number, whence: number): number {
    const { node } = handle;
    if (node.isDirectory) {
      handle.rewind();
      return 0;
    }
    const base = whence === uapi.SEEK_SET ? 0 : whence === uapi.SEEK_CUR ? handle.pos : node.data.size;
    if (base + offset < 0) throw new Refusal('EINVAL');
    return (handle.pos = base + offset);
  }

  fallocate(caller: Caller, handle: TreeHandle, mode: number, offset: number, length: number): void {
    const { node } = handle;
    if (offset < 0 || length <= 0) throw new Refusal('EINVAL');
    const keepsSize = (mode & KEEP_SIZE) !== 0;
    const what = mode & ~KEEP_SIZE;
    const isKnown =
      what === 0 ||
      what === ZERO_RANGE ||
      (what === PUNCH_HOLE ? keepsSize : what === COLLAPSE_RANGE || what === INSERT_RANGE ? !keepsSize : false);
    if (!isKnown) throw new Refusal('EOPNOTSUPP');
    if (!handle.writes) throw new Refusal('EBADF');
    const { data } = node;
    const { size } = data;
    const end = offset + length;
    // Before the filesystem looks at the range, as on xfs: set-id bits go even if it refuses.
    if (this.#killPrivileges(caller, node)) this.#changed(node);
    const { unit } = node.space;
    if (what === COLLAPSE_RANGE || what === INSERT_RANGE) {
      if (offset % unit !== 0 || length % unit !== 0) throw new Refusal('EINVAL');
      if (what === COLLAPSE_RANGE ? end >= size : offset >= size) throw new Refusal('EINVAL');
    }
    if (what === 0) this.#mayBeModified(node);
    else this.#modified(node);
    if (what === COLLAPSE_RANGE || what === INSERT_RANGE) {
      const tail = data.read(what === COLLAPSE_RANGE ? end : offset, size);
      data.truncate(offset);
      data.write(what === COLLAPSE_RANGE ? offset : end, tail);
      node.blocks = shiftedBlocks(node.blocks, offset / unit, what === COLLAPSE_RANGE ? -length / unit : length / unit);
      return;
    }
    if (what === PUNCH_HOLE) {
      data.zero(offset, length);
      for (let block = Math.ceil(offset / unit); (block + 1) * unit <= end; block++) node.blocks.delete(block);
      return;
    }
    if (!keepsSize && end > size) {
      data.truncate(end);
      this.#modified(node);
    }
    if (what === ZERO_RANGE) data.zero(offset, length);
    this.#mark(node, offset, length);
  }

  /** Bytes that would be copied; `finish` copies as many as were. */
  copyRange(
    caller: Caller,
    from: TreeHandle,
    pos: number,
    to: TreeHandle,
    posOut: number,
    length: number,
  ): { most: number; finish(count: number): void } {
    if (from.node.isDirectory || to.node.isDirectory) throw new Refusal('EISDIR');
    if (!from.reads || !to.writes || (to.flags & O_APPEND) !== 0) throw new Refusal('EBADF');
    const most = Math.max(0, Math.min(length, from.node.data.size - pos));
    if (from.node === to.node && posOut + most > pos && posOut < pos + most) throw new Refusal('EINVAL');
    return {
      most,
      finish: (count) => {
        from.node.loose.atime.push(this.now);
        if (count === 0) return;
        this.#killPrivileges(caller, to.node);
        to.node.data.write(posOut, from.node.data.read(pos, count));
        this.#mark(to.node, posOut, count);
        this.#modified(to.node);
      },
    };
  }

  fsetxattr(caller: Caller, handle: TreeHandle, name: string, value: Uint8Array, flags: number): void {
    this.setxattr(caller, handle.node, name, value, flags);
  }

  /** Blocks that all files may take, those without a name too. */
  blocksUsed(): number {
    const nodes = new Set([...this.handles].map(({ node }) => node));
    for (const { node } of this.everything()) nodes.add(node);
    let blocks = 0;
    for (const node of nodes) blocks += node.blocks.size;
    return blocks;
  }

  /** There was no space for a change of the data: nothing is changed but set-id bits. */
  refuseSpace(caller: Caller, node: TreeNode): void {
    this.#killPrivileges(caller, node);
    this.#mayBeModified(node);
  }

  /** A store through a mapped view: `mtime` moves at some time. */
  store(node: TreeNode, pos: number, data: Uint8Array): void {
    node.data.write(pos, data);
    this.#mark(node, pos, data.length);
    this.#mayBeModified(node);
  }

  /** A directory was listed through `handle`. */
  listed(handle: TreeHandle): void {
    if ((handle.flags & O_NOATIME) === 0) this.#accessed(handle.node);
  }

  /** The open file gets a name. */
  linkOpen(caller: Caller, handle: TreeHandle, path: string): TreeNode {
    const { node } = handle;
    const { dir, name } = this.#place(caller, path, false);
    this.#mayAccess(caller, dir, W_OK | X_OK);
    if (node.isDirectory) throw new Refusal('EPERM');
    if (node.nlink === 0 && !node.isLinkable) throw new Refusal('ENOENT');
    this.#enter(dir, name, node);
    node.nlink++;
    node.isLinkable = false;
    this.#changed(node);
    return node;
  }

  #mark(node: TreeNode, pos: number, length: number): void {
    const { unit } = node.space;
    for (let block = Math.floor(pos / unit); block * unit < pos + length; block++) node.blocks.add(block);
  }
}

/** May `caller` do what `mask` says to `node`? */
export function isAllowed(caller: Caller, node: TreeNode, mask: number): boolean {
  const shift = caller.uid === node.uid ? 6 : inGroup(caller, node.gid) ? 3 : 0;
  if ((mask & ~(node.perm >> shift)) === 0) return true;
  if (node.isDirectory) {
    if ((mask & W_OK) === 0 && hasCap(caller, CAP_DAC_READ_SEARCH)) return true;
    return hasCap(caller, CAP_DAC_OVERRIDE);
  }
  if (mask === R_OK && hasCap(caller, CAP_DAC_READ_SEARCH)) return true;
  return ((mask & X_OK) === 0 || (node.perm & 0o111) !== 0) && hasCap(caller, CAP_DAC_OVERRIDE);
}

/** Set-id bits that go when an owner changes or somebody without privileges writes. */
function setIdsLost(caller: Caller, node: TreeNode): number {
  const isGroupProgram = (node.perm & S_IXGRP) !== 0 || !(inGroup(caller, node.gid) || hasCap(caller, CAP_FSETID));
  return S_ISUID | (isGroupProgram ? S_ISGID : 0);
}

function maskOf(flags: number): number {
  const access = flags & O_ACCMODE;
  const mask = access === O_RDONLY ? R_OK : access === O_WRONLY ? W_OK : R_OK | W_OK;
  return (flags & O_TRUNC) !== 0 ? mask | W_OK : mask;
}

function checkPath(path: string): void {
  if (path === '') throw new Refusal('ENOENT');
  if (nameLength(path) >= uapi.PATH_MAX) throw new Refusal('ENAMETOOLONG');
}

/** Is `dir` the directory `node`, or below it? */
function isAncestor(node: TreeNode, dir: TreeNode): boolean {
  for (let each = dir; ; each = each.parent as TreeNode) {
    if (each === node) return true;
    if (each.parent === each || each.parent === undefined) return false;
  }
}

function settle(node: TreeNode, which: 'atime' | 'mtime' | 'ctime', time: Timespec): void {
  node[which] = time;
  node.loose[which].length = 0;
}

function isAfter(a: Timespec, b: Timespec): boolean {
  return a.sec > b.sec || (a.sec === b.sec && a.nsec > b.nsec);
}

function shiftedBlocks(blocks: ReadonlySet<number>, from: number, by: number): Set<number> {
  const shifted = new Set<number>();
  for (const block of blocks) {
    if (block < from) shifted.add(block);
    else if (by > 0 || block >= from - by) shifted.add(block + by);
  }
  return shifted;
}
