import type { Attr, DirEntry, Timespec } from '../../src/vfs/attr.ts';
import type { Caller } from '../../src/vfs/caller.ts';
import { O_DIRECTORY, O_NOATIME, O_RDONLY } from '../../src/vfs/uapi.ts';
import type { Vfs } from '../../src/vfs/vfs.ts';
import { assertSameBytes } from './model.ts';
import type { TreeHandle, TreeModel, TreeNode } from './tree-model.ts';

/**
 * Compares a real tree with the model of it: every name, attribute and extended attribute, and with `hasData` every byte. The caller may do
 * everything.
 */
export async function compareTree(vfs: Vfs, by: Caller, model: TreeModel, hasData = true): Promise<void> {
  await new Comparison(vfs, by, model, hasData).run();
}

class Comparison {
  readonly #vfs: Vfs;
  readonly #by: Caller;
  readonly #model: TreeModel;
  readonly #hasData: boolean;

  constructor(vfs: Vfs, by: Caller, model: TreeModel, hasData: boolean) {
    this.#vfs = vfs;
    this.#by = by;
    this.#model = model;
    this.#hasData = hasData;
  }

  async run(): Promise<void> {
    await this.#directory(this.#model.root, '/');
    const { files, ffree } = await this.#vfs.statfs(this.#by, '/');
    check(files - ffree, this.#model.inodesElse + this.#model.inodes, 'inodes in use');
  }

  async #directory(dir: TreeNode, path: string): Promise<void> {
    const file = await this.#vfs.open(this.#by, path, O_RDONLY | O_DIRECTORY | O_NOATIME);
    const names: string[] = [];
    // Closed also where they differ: the comparison with another model may come next.
    try {
      for (;;) {
        const entries = await file.readdir(this.#by, 7);
        if (entries.length === 0) break;
        for (const entry of entries) {
          names.push(entry.name);
          checkEntry(entry, dir);
        }
      }
    } finally {
      await file.close(this.#by);
    }
    check(names.sort().join('/'), [...dir.entries.keys()].sort().join('/'), 'names', path);
    await this.#attributes(dir, path);
    for (const [name, node] of dir.entries) {
      const below = `${path === '/' ? '' : path}/${name}`;
      if (node.isDirectory) await this.#directory(node, below);
      else await this.#file(node, below);
    }
  }

  async #file(node: TreeNode, path: string): Promise<void> {
    await this.#attributes(node, path);
    if (node.isSymlink) {
      check(await this.#vfs.readlink(this.#by, path), node.target, 'target', path);
      node.loose.atime.push(this.#model.now);
    }
    if (!node.isRegular || !this.#hasData) return;
    const file = await this.#vfs.open(this.#by, path, O_RDONLY | O_NOATIME);
    const into = new Uint8Array(node.data.size + 1);
    const count = await file.read(this.#by, into, 0);
    await file.close(this.#by);
    assertSameBytes(into.subarray(0, count), node.data.content, quoted(path));
  }

  async #attributes(node: TreeNode, path: string): Promise<void> {
    checkAttr(await this.#vfs.stat(this.#by, path, false), node, path);
    if (node.xattrs.size === 0) return;
    const names = await this.#vfs.listxattr(this.#by, path, false);
    check([...names].sort().join(), [...node.xattrs.keys()].sort().join(), 'names of attributes', path);
    for (const [name, value] of node.xattrs) checkXattr(await this.#vfs.getxattr(this.#by, path, name, false), value);
  }
}

/** A name in a listing leads to the node that the model has there. */
function checkEntry({ name, type, ino }: DirEntry, dir: TreeNode): void {
  const node = dir.entries.get(name);
  if (node === undefined) throw new Error(`lists ${quoted(name)}, which is not there`);
  check(type, node.type, 'type in a listing', name);
  if (node.ino !== undefined) check(ino, node.ino, 'inode number in a listing', name);
}

/** `path`: whose `what` it is. */
export function check(actual: unknown, expected: unknown, what: string, path?: string): void {
  if (actual === expected) return;
  throw new Error(`${what}${path === undefined ? '' : ` of ${quoted(path)}`}: ${String(actual)}, expected ${String(expected)}`);
}

export function checkXattr(actual: Uint8Array | undefined, expected: Uint8Array | undefined): void {
  if (actual === undefined || expected === undefined) check(actual, expected, 'value of the attribute');
  else assertSameBytes(actual, expected, 'value of the attribute');
}

export function checkAttr(attr: Attr, node: TreeNode, path: string): void {
  check(attr.mode.toString(8), (node.type | node.perm).toString(8), 'mode', path);
  check(attr.nlink, node.nlink, 'nlink', path);
  check(attr.uid, node.uid, 'uid', path);
  check(attr.gid, node.gid, 'gid', path);
  check(attr.rdev, node.rdev, 'rdev', path);
  if (node.size !== undefined) check(attr.size, node.size, 'size', path);
  if (node.isRegular) {
    const { unit, overhead } = node.space;
    const most = ((node.blocks.size + overhead) * unit) / 512;
    if (attr.blocks > most) throw new Error(`blocks of ${quoted(path)}: ${attr.blocks}, at most ${most} can be used`);
  }
  node.ino ??= attr.ino;
  check(attr.ino, node.ino, 'inode number', path);
  if (!isSame(node.btime, { sec: attr.btime, nsec: attr.btimeNsec })) check(attr.btime, node.btime.sec, 'btime', path);
  for (const which of ['atime', 'mtime', 'ctime'] as const) {
    const actual = { sec: attr[which], nsec: attr[`${which}Nsec`] };
    const loose = node.loose[which];
    if (!isSame(actual, node[which]) && !loose.some((time) => isSame(time, actual))) {
      check(text(actual), [node[which], ...loose].map(text).join(' or '), which, path);
    }
    node[which] = actual;
    loose.length = 0;
  }
}

export function checkListing(entries: readonly DirEntry[], handle: TreeHandle, count: number): void {
  const { listing, node } = handle;
  if (listing === undefined) throw new Error('the model lists no such directory');
  if (entries.length > count) throw new Error(`${entries.length} names, asked for ${count}`);
  for (const entry of entries) {
    const { name } = entry;
    checkEntry(entry, node);
    if (listing.seen.has(name) && listing.steady.has(name)) throw new Error(`lists ${quoted(name)} again`);
    listing.seen.add(name);
  }
  if (entries.length > 0) return;
  for (const name of listing.steady)
    if (!listing.seen.has(name)) throw new Error(`never lists ${quoted(name)}, which was there all the time`);
}

function isSame(a: Timespec, b: Timespec): boolean {
  return a.sec === b.sec && a.nsec === b.nsec;
}

function text({ sec, nsec }: Timespec): string {
  return `${sec}.${String(nsec).padStart(9, '0')}`;
}

export function quoted(path: string): string {
  return JSON.stringify(path.length > 80 ? `${path.slice(0, 20)}…${path.length}` : path);
}
