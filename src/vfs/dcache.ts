import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { FsError } from '../base/fs-error.ts';
import type { Attr, Entry, IoMode } from './attr.ts';
import { Dentry } from './dentry.ts';
import type { FileSystem, NodeId } from './file-system.ts';
import { S_IFDIR, S_IFMT } from './uapi.ts';
import { isSameIo, Vnode } from './vnode.ts';

/** What a dentry and its inode take, roughly, bytes: object headers, attributes and slots in the tables. Measured: bench/lookup-cost. */
export const DENTRY_BYTES = 384;

const IOMAP: IoMode = { mode: 'iomap' };

/**
 * Names and inodes in core of one filesystem.
 *
 * Invariants:
 * 1. Every vnode in the table has a dentry, a reference, or is the root; and at least one lookup that is owed, the root excepted.
 * 2. Dentries beyond `max` are dropped, the least recently used first (second chance), unless their inode is referenced or they have
 *    cached names below them.
 */
export class Dcache {
  readonly root: Vnode;
  readonly #fs: FileSystem;
  readonly #clock: Clock;
  readonly #max: number;
  readonly #vnodes = new Map<NodeId, Vnode>();
  #count = 0;
  #head: Dentry | undefined;
  #tail: Dentry | undefined;

  constructor(fs: FileSystem, clock: Clock, max: number) {
    this.#fs = fs;
    this.#clock = clock;
    this.#max = max;
    this.root = new Vnode(fs.root, 0, S_IFDIR, IOMAP);
    this.root.refs = 1; // never dropped
    this.#vnodes.set(fs.root, this.root);
  }

  /** Dentries held. */
  get size(): number {
    return this.#count;
  }

  /** Inodes held, the root among them. */
  get vnodeCount(): number {
    return this.#vnodes.size;
  }

  get(node: NodeId): Vnode | undefined {
    return this.#vnodes.get(node);
  }

  /** The cached, believed dentry of a name. */
  find(dir: Vnode, name: string): Dentry | undefined {
    const dentry = dir.children?.get(name);
    if (dentry === undefined) return undefined;
    if (dentry.validUntil !== Number.POSITIVE_INFINITY && dentry.validUntil <= this.#clock.now()) return undefined;
    dentry.isReferenced = true;
    return dentry;
  }

  /**
   * The inode that an answer speaks of: the one in core, or a new one.
   *
   * Errors:  EIO where the filesystem now serves the data of a live inode in another way. The inode is bad from here on.
   */
  instantiate(entry: Entry): Vnode {
    const { node, attr } = entry;
    let vnode = this.#vnodes.get(node);
    if (vnode !== undefined && vnode !== this.root && (vnode.generation !== entry.generation || vnode.type !== (attr.mode & S_IFMT))) {
      // Another object under the same number: the old one is not asked for by that number any more.
      vnode.isBad = true;
      vnode.nlookup = 0;
      this.#vnodes.delete(node);
      vnode = undefined;
    }
    if (vnode === undefined) {
      vnode = new Vnode(node, entry.generation, attr.mode & S_IFMT, entry.io);
      this.#vnodes.set(node, vnode);
    } else if (vnode !== this.root && !isSameIo(vnode.io, entry.io)) {
      vnode.isBad = true;
      this.#fs.forget(node, 1);
      throw new FsError('EIO', 'lookup', { detail: `inode ${node} changed from ${vnode.io.mode} to ${entry.io.mode} I/O while in use` });
    }
    vnode.nlookup++;
    this.noteAttr(vnode, attr, entry.attrValidMs);
    return vnode;
  }

  noteAttr(vnode: Vnode, attr: Attr, validMs: number): void {
    vnode.mode = attr.mode;
    vnode.uid = attr.uid;
    vnode.gid = attr.gid;
    vnode.attrValidUntil = validMs === Number.POSITIVE_INFINITY ? validMs : this.#clock.now() + validMs;
  }

  areAttrsValid(vnode: Vnode): boolean {
    return vnode.attrValidUntil === Number.POSITIVE_INFINITY || vnode.attrValidUntil > this.#clock.now();
  }

  /** Puts a name into its directory. An older one of the same name goes. */
  add(dir: Vnode, name: string, vnode: Vnode, validMs: number): Dentry {
    const validUntil = validMs === Number.POSITIVE_INFINITY ? validMs : this.#clock.now() + validMs;
    const old = dir.children?.get(name);
    if (old !== undefined) {
      if (old.vnode === vnode) {
        old.validUntil = validUntil;
        return old;
      }
      this.drop(old);
    }
    // A directory that turns up under another name was moved behind our back.
    if (vnode.alias !== undefined) this.drop(vnode.alias);
    const dentry = new Dentry(dir, name, vnode, validUntil);
    this.#hash(dentry);
    this.#link(dentry);
    this.#count++;
    vnode.dentries++;
    if (vnode.isDirectory) vnode.alias = dentry;
    if (this.#count > this.#max) this.#shrink();
    return dentry;
  }

  /** Takes a name, and all that is cached below it, out. */
  drop(dentry: Dentry): void {
    if (!dentry.isHashed) return;
    const { vnode } = dentry;
    // Deepest first, without recursion: names go as deep as somebody cared to make them.
    const pending = [dentry];
    while (pending.length > 0) {
      const last = pending[pending.length - 1] as Dentry;
      const children = last.vnode.alias === last ? last.vnode.children : undefined;
      if (children !== undefined && children.size > 0) {
        for (const child of children.values()) pending.push(child);
        continue;
      }
      pending.pop();
      if (last.isHashed) this.#dropOne(last);
    }
    assert(vnode.alias !== dentry, 'a dropped name is still its directory’s');
  }

  /** A name moved. What was at its new place is gone already. */
  move(dentry: Dentry, dir: Vnode, name: string): void {
    if (!dentry.isHashed) return;
    dentry.parent.children?.delete(dentry.name);
    dentry.parent = dir;
    dentry.name = name;
    this.#hash(dentry);
  }

  /** Two names changed places. */
  exchange(a: Dentry, b: Dentry): void {
    const [dirA, nameA, dirB, nameB] = [a.parent, a.name, b.parent, b.name];
    dirA.children?.delete(nameA);
    dirB.children?.delete(nameB);
    [a.parent, a.name, b.parent, b.name] = [dirB, nameB, dirA, nameA];
    this.#hash(a);
    this.#hash(b);
  }

  /** Lets go of one reference. */
  put(vnode: Vnode): void {
    assert(vnode.refs > 0, 'put of an inode that nobody holds');
    if (--vnode.refs === 0 && vnode.dentries === 0) this.#forget(vnode);
  }

  /** Takes out every name whose inode nobody holds. */
  dropAll(): void {
    // Leaves first: each round takes the names that those of the round before were below.
    while (this.#evict(this.#count, 0, true) > 0);
  }

  #hash(dentry: Dentry): void {
    const dir = dentry.parent;
    dir.children ??= new Map();
    dir.children.set(dentry.name, dentry);
  }

  #dropOne(dentry: Dentry): void {
    const { vnode, parent } = dentry;
    dentry.isHashed = false;
    if (parent.children?.get(dentry.name) === dentry) parent.children.delete(dentry.name);
    this.#unlink(dentry);
    this.#count--;
    vnode.dentries--;
    if (vnode.alias === dentry) vnode.alias = undefined;
    if (vnode.refs === 0 && vnode.dentries === 0) this.#forget(vnode);
  }

  #forget(vnode: Vnode): void {
    if (vnode === this.root) return;
    if (this.#vnodes.get(vnode.id) === vnode) this.#vnodes.delete(vnode.id);
    const owed = vnode.nlookup;
    vnode.nlookup = 0;
    if (owed > 0) this.#fs.forget(vnode.id, owed);
  }

  #shrink(): void {
    // A tenth at a time would stall one caller; a few for each new name keep the count down.
    this.#evict(8, this.#max, false);
  }

  /** Looks at `scan` dentries from the cold end and drops what nobody uses, until `target` are left. Returns how many went. */
  #evict(scan: number, target: number, evenIfReferenced: boolean): number {
    let dropped = 0;
    for (let left = scan; left > 0 && this.#count > target; left--) {
      const dentry = this.#tail as Dentry;
      const { vnode } = dentry;
      const isLeaf = vnode.children === undefined || vnode.children.size === 0;
      if (isLeaf && vnode.refs === 0 && (evenIfReferenced || !dentry.isReferenced)) {
        this.#dropOne(dentry);
        dropped++;
        continue;
      }
      dentry.isReferenced = false;
      this.#unlink(dentry);
      this.#link(dentry);
    }
    return dropped;
  }

  #link(dentry: Dentry): void {
    dentry.lruNext = this.#head;
    dentry.lruPrev = undefined;
    if (this.#head !== undefined) this.#head.lruPrev = dentry;
    this.#head = dentry;
    this.#tail ??= dentry;
  }

  #unlink(dentry: Dentry): void {
    if (dentry.lruPrev !== undefined) dentry.lruPrev.lruNext = dentry.lruNext;
    else this.#head = dentry.lruNext;
    if (dentry.lruNext !== undefined) dentry.lruNext.lruPrev = dentry.lruPrev;
    else this.#tail = dentry.lruPrev;
    dentry.lruPrev = undefined;
    dentry.lruNext = undefined;
  }
}
