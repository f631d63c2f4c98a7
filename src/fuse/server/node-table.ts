import type { Entry, IoMode } from '../../vfs/attr.ts';
import { isSameIo } from '../../vfs/vnode.ts';

/** A node that the kernel has looked up. */
export interface KnownNode {
  readonly node: number;
  lookups: number;
  readonly io: IoMode;
  /** Where it was last found. */
  parent: number;
  name: string | undefined;
  /** The kernel's number of the file behind it; 0 where it is served without. Decided by the first open, until the node is forgotten. */
  backing: number | undefined;
}

/** What a table knows nodes for. */
export interface NodeTableOptions {
  /** Every node, not only those whose data is served in a way of their own. */
  readonly all: boolean;
  /** Names too, so that paths can be told. */
  readonly names: boolean;
}

/** Directories that a path is made of at most: names that changed behind our back may make a ring. */
const DEPTH_MAX = 256;

/**
 * Nodes that the kernel has looked up and not forgotten, as far as the server has to know them: all where changes come from elsewhere or paths
 * are wanted; otherwise those whose data is served in a way of its own, and none at all where there are no such files.
 *
 * Invariant: a node is here as long as lookups are owed for it, and `io` is that of its first entry.
 */
export class NodeTable {
  readonly #nodes = new Map<number, KnownNode>();
  readonly #options: NodeTableOptions;
  /** Nodes by directory and name, where names are kept. */
  readonly #byName = new Map<string, number>();
  /** Some file is served in a way of its own: from here on all nodes are known. */
  #isMixed = false;

  constructor(options: NodeTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(node: number): KnownNode | undefined {
    return this.#nodes.size === 0 ? undefined : this.#nodes.get(node);
  }

  /** All that are known now. */
  ids(): number[] {
    return [...this.#nodes.keys()];
  }

  /** Names that are known now, with their directories. */
  names(): { readonly parent: number; readonly name: string }[] {
    const out: { parent: number; name: string }[] = [];
    for (const { parent, name } of this.#nodes.values()) if (name !== undefined) out.push({ parent, name });
    return out;
  }

  /** May the kernel be given this entry? No if its data was to be served in another way so far. */
  agrees(entry: Entry): boolean {
    const known = this.get(entry.node);
    return known === undefined || isSameIo(known.io, entry.io);
  }

  /** An entry that the kernel has now. */
  note(entry: Entry, parent: number, name: string | undefined): void {
    if (!this.#options.all && !this.#options.names && !this.#isMixed) {
      if (entry.io.mode === 'iomap') return;
      this.#isMixed = true;
    }
    let known = this.#nodes.get(entry.node);
    if (known === undefined) {
      known = { node: entry.node, lookups: 0, io: entry.io, parent, name: undefined, backing: undefined };
      this.#nodes.set(entry.node, known);
    }
    known.lookups++;
    if (name !== undefined) this.#setName(known, parent, name);
  }

  /** Shape: the node if that was the last of its lookups. */
  forget(node: number, nlookup: number): KnownNode | undefined {
    const known = this.get(node);
    if (known === undefined) return undefined;
    known.lookups -= nlookup;
    if (known.lookups > 0) return undefined;
    this.#nodes.delete(node);
    this.#dropName(known);
    return known;
  }

  /** A name leads to another place. */
  moved(parent: number, name: string, newParent: number, newName: string, isExchange: boolean): void {
    if (!this.#options.names) return;
    const [moved, other] = [this.#at(parent, name), this.#at(newParent, newName)];
    if (other !== undefined) this.#dropName(other);
    if (moved !== undefined) this.#setName(moved, newParent, newName);
    if (isExchange && other !== undefined) this.#setName(other, parent, name);
  }

  removed(parent: number, name: string): void {
    if (!this.#options.names) return;
    const known = this.#at(parent, name);
    if (known !== undefined) this.#dropName(known);
  }

  /** The path of a node as its names were last heard; undefined where they are not known up to the root. */
  pathOf(node: number, root: number): string | undefined {
    if (!this.#options.names) return undefined;
    const names: string[] = [];
    for (let at = node; at !== root; ) {
      const known = this.#nodes.get(at);
      if (known?.name === undefined || names.length === DEPTH_MAX) return undefined;
      names.push(known.name);
      at = known.parent;
    }
    return `/${names.reverse().join('/')}`;
  }

  #at(parent: number, name: string): KnownNode | undefined {
    const node = this.#byName.get(keyOf(parent, name));
    return node === undefined ? undefined : this.#nodes.get(node);
  }

  #setName(known: KnownNode, parent: number, name: string): void {
    if (known.parent === parent && known.name === name) return;
    this.#dropName(known);
    known.parent = parent;
    known.name = name;
    if (this.#options.names) this.#byName.set(keyOf(parent, name), known.node);
  }

  #dropName(known: KnownNode): void {
    const { parent, name, node } = known;
    known.name = undefined;
    if (name === undefined || !this.#options.names) return;
    const key = keyOf(parent, name);
    if (this.#byName.get(key) === node) this.#byName.delete(key);
  }
}

function keyOf(parent: number, name: string): string {
  return `${parent}/${name}`;
}
