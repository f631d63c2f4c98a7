import type { Dentry } from './dentry.ts';
import type { Vnode } from './vnode.ts';

// Events, with the numbers of inotify(7). Source: Linux include/uapi/linux/inotify.h
export const IN_MODIFY = 0x002;
export const IN_ATTRIB = 0x004;
export const IN_MOVED_FROM = 0x040;
export const IN_MOVED_TO = 0x080;
export const IN_CREATE = 0x100;
export const IN_DELETE = 0x200;
export const IN_DELETE_SELF = 0x400;
export const IN_MOVE_SELF = 0x800;

export interface WatchEvent {
  /** One IN_* bit. */
  readonly mask: number;
  /** Name in the watched directory, '' for the watched file or directory itself; of a recursive watch the path below it. */
  readonly name: string;
}

export interface Watch {
  readonly recursive: boolean;
  readonly listener: (event: WatchEvent) => void;
}

/**
 * Who is told of changes that come through one Vfs, and of those that its filesystem tells of (Notifier.event): a watch of a whole tree hears
 * of such a directory as far as this Vfs knows the names above it. Listeners run at once, within the call that made the change, and must not
 * throw.
 */
export class Notifications {
  #count = 0;

  /** Nobody watches: nothing has to be worked out. */
  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Returns what ends the watch. The caller holds a reference to the inode meanwhile. */
  add(vnode: Vnode, watch: Watch): () => void {
    vnode.watches ??= new Set();
    const { watches } = vnode;
    watches.add(watch);
    this.#count++;
    return () => {
      if (watches.delete(watch)) this.#count--;
    };
  }

  /** Something happened to `name` in a directory. */
  entry(dir: Vnode, name: string, mask: number): void {
    if (this.#count === 0) return;
    send(dir, { mask, name }, false);
    // Upward from directory to directory, for those who watch whole trees.
    let path = name;
    let at: Vnode | undefined = dir;
    for (let steps = 0; at !== undefined && steps < 10_000; steps++) {
      send(at, { mask, name: path }, true);
      const alias: Dentry | undefined = at.alias;
      if (alias === undefined) return;
      path = `${alias.name}/${path}`;
      at = alias.parent;
    }
  }

  /** Something happened to an inode, reached by `dentry` if that is known: its own watches hear it, and those of the directory. */
  self(vnode: Vnode, dentry: Dentry | undefined, mask: number): void {
    if (this.#count === 0) return;
    send(vnode, { mask, name: '' }, false);
    send(vnode, { mask, name: '' }, true);
    if (dentry?.isHashed === true) this.entry(dentry.parent, dentry.name, mask);
  }

  /** Only those who watch the inode itself. */
  own(vnode: Vnode, mask: number): void {
    if (this.#count === 0) return;
    send(vnode, { mask, name: '' }, false);
    send(vnode, { mask, name: '' }, true);
  }
}

function send(vnode: Vnode, event: WatchEvent, recursive: boolean): void {
  if (vnode.watches === undefined) return;
  for (const watch of [...vnode.watches]) if (watch.recursive === recursive) watch.listener(event);
}
