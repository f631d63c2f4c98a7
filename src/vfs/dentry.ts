import type { Vnode } from './vnode.ts';

/** A name in a directory that leads to an inode. Moves with renames; gone when `isHashed` is false. */
export class Dentry {
  name: string;
  parent: Vnode;
  readonly vnode: Vnode;
  /** Clock milliseconds until which the name is believed. */
  validUntil: number;
  isHashed = true;
  /** Used since the reclaimer last came by. */
  isReferenced = false;
  lruPrev: Dentry | undefined = undefined;
  lruNext: Dentry | undefined = undefined;

  constructor(parent: Vnode, name: string, vnode: Vnode, validUntil: number) {
    this.parent = parent;
    this.name = name;
    this.vnode = vnode;
    this.validUntil = validUntil;
  }
}
