import { AssertionError, assert } from '../base/assert.ts';

/** What the array holds: an entry covers 2^order indices from `index`, naturally aligned. */
export interface Entry {
  readonly index: number;
  readonly order: number;
}

const SLOTS = 64;
const BITS = 6;
const LEVEL_BITS = 30; // what one tree covers: five levels of six bits, so that positions inside it fit 32-bit operators
const TREE_SPAN = 2 ** LEVEL_BITS;
const TAGS = 3;

export type Tag = 0 | 1 | 2;

class Node<T> {
  readonly shift: number;
  readonly slots: (Node<T> | T | undefined)[];
  count = 0;
  // Two 32-bit words for each tag; no array until something is tagged.
  tags: Uint32Array | undefined = undefined;

  constructor(shift: number) {
    this.shift = shift;
    this.slots = new Array(SLOTS).fill(undefined);
  }
}

/**
 * Sparse array of entries by index up to 2^41, with tags that are searched as fast as entries. A radix tree of 64-slot nodes; an
 * entry of order 6k + j stands in 2^j neighbouring slots of level k.
 *
 * Invariant: a tag bit of an inner slot is set exactly if some entry below it has the tag.
 */
export class XArray<T extends Entry> {
  readonly #trees = new Map<number, Node<T>>();
  #high: number[] = []; // keys of #trees, ascending
  #low: Node<T> | undefined; // tree 0, where nearly every file ends

  /** The entry that covers `index`. */
  load(index: number): T | undefined {
    let node: Node<T> | undefined;
    if (index < TREE_SPAN) node = this.#low;
    else {
      node = this.#trees.get(Math.floor(index / TREE_SPAN));
      index %= TREE_SPAN;
    }
    if (node === undefined) return undefined;
    for (;;) {
      const slot: Node<T> | T | undefined = node.slots[(index >>> node.shift) & (SLOTS - 1)];
      if (!(slot instanceof Node)) return slot;
      node = slot;
    }
  }

  /** Puts an entry where nothing is. */
  store(entry: T): void {
    const high = Math.floor(entry.index / TREE_SPAN);
    const low = entry.index % TREE_SPAN;
    let node = this.#trees.get(high);
    if (node === undefined) {
      node = new Node(LEVEL_BITS - BITS);
      this.#trees.set(high, node);
      this.#high.push(high);
      this.#high.sort((a, b) => a - b);
      if (high === 0) this.#low = node;
    }
    const shift = levelShift(entry.order);
    while (node.shift > shift) {
      const i: number = (low >>> node.shift) & (SLOTS - 1);
      let child: Node<T> | T | undefined = node.slots[i];
      if (child === undefined) {
        child = new Node<T>(node.shift - BITS);
        node.slots[i] = child;
        node.count++;
      }
      assert(child instanceof Node, 'xarray: a larger entry covers this index');
      node = child;
    }
    const first = (low >>> shift) & (SLOTS - 1);
    const slots = 1 << (entry.order - shift);
    for (let i = first; i < first + slots; i++) {
      assert(node.slots[i] === undefined, 'xarray: index is taken');
      node.slots[i] = entry;
    }
    node.count += slots;
  }

  /** Takes an entry out, with its tags. */
  erase(entry: T): void {
    for (let tag = 0; tag < TAGS; tag++) this.clearTag(entry, tag as Tag);
    const path = this.#path(entry);
    let node = path[path.length - 1] as Node<T>;
    const low = entry.index % TREE_SPAN;
    const first = (low >>> node.shift) & (SLOTS - 1);
    const slots = 1 << (entry.order - node.shift);
    for (let i = first; i < first + slots; i++) node.slots[i] = undefined;
    node.count -= slots;
    for (let level = path.length - 1; node.count === 0; level--) {
      if (level === 0) {
        const high = Math.floor(entry.index / TREE_SPAN);
        this.#trees.delete(high);
        this.#high = this.#high.filter((each) => each !== high);
        if (high === 0) this.#low = undefined;
        return;
      }
      node = path[level - 1] as Node<T>;
      node.slots[(low >>> node.shift) & (SLOTS - 1)] = undefined;
      node.count--;
    }
  }

  hasTag(entry: T, tag: Tag): boolean {
    const path = this.#path(entry);
    const node = path[path.length - 1] as Node<T>;
    const i = ((entry.index % TREE_SPAN) >>> node.shift) & (SLOTS - 1);
    return node.tags !== undefined && ((node.tags[tag * 2 + (i >>> 5)] as number) & (1 << (i & 31))) !== 0;
  }

  setTag(entry: T, tag: Tag): void {
    const low = entry.index % TREE_SPAN;
    const path = this.#path(entry);
    for (let level = path.length - 1; level >= 0; level--) {
      const node = path[level] as Node<T>;
      node.tags ??= new Uint32Array(TAGS * 2);
      const first = (low >>> node.shift) & (SLOTS - 1);
      const slots = level === path.length - 1 ? 1 << (entry.order - node.shift) : 1;
      for (let i = first; i < first + slots; i++) {
        const word = tag * 2 + (i >>> 5);
        node.tags[word] = (node.tags[word] as number) | (1 << (i & 31));
      }
    }
  }

  clearTag(entry: T, tag: Tag): void {
    const low = entry.index % TREE_SPAN;
    const path = this.#path(entry);
    for (let level = path.length - 1; level >= 0; level--) {
      const node = path[level] as Node<T>;
      if (node.tags === undefined) return;
      const first = (low >>> node.shift) & (SLOTS - 1);
      const slots = level === path.length - 1 ? 1 << (entry.order - node.shift) : 1;
      for (let i = first; i < first + slots; i++) {
        const word = tag * 2 + (i >>> 5);
        node.tags[word] = (node.tags[word] as number) & ~(1 << (i & 31));
      }
      if (((node.tags[tag * 2] as number) | (node.tags[tag * 2 + 1] as number)) !== 0) return; // others below still have it
    }
  }

  /** The first entry that covers any index of [from, to), with the tag if one is given. */
  next(from: number, to: number, tag?: Tag): T | undefined {
    if (from >= to) return undefined;
    for (const high of this.#high) {
      const base = high * TREE_SPAN;
      if (base >= to) return undefined;
      if (base + TREE_SPAN <= from) continue;
      const root = this.#trees.get(high) as Node<T>;
      const found = this.#nextIn(root, Math.max(from - base, 0), Math.min(to - base, TREE_SPAN), tag);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #nextIn(node: Node<T>, from: number, to: number, tag: Tag | undefined): T | undefined {
    const shift = node.shift;
    let i = (from >>> shift) & (SLOTS - 1);
    const last = ((to - 1) >>> shift) - ((from >>> shift) - i); // slot of the last index asked for, may lie behind this node
    for (; i < SLOTS && i <= last; i++) {
      if (tag !== undefined) {
        if (node.tags === undefined) return undefined;
        const bits = (node.tags[tag * 2 + (i >>> 5)] as number) >>> (i & 31);
        if (bits === 0) {
          i |= 31;
          continue;
        }
        i += 31 - Math.clz32(bits & -bits);
        if (i > last) return undefined;
      }
      const slot = node.slots[i];
      if (slot === undefined) continue;
      if (!(slot instanceof Node)) return slot;
      const slotStart = (((from >>> shift) & ~(SLOTS - 1)) | i) * 2 ** shift;
      const found = this.#nextIn(slot, Math.max(from, slotStart), to, tag);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Nodes from the root to the one whose slots hold the entry. */
  #path(entry: T): Node<T>[] {
    const low = entry.index % TREE_SPAN;
    let node = this.#trees.get(Math.floor(entry.index / TREE_SPAN));
    const path: Node<T>[] = [];
    const shift = levelShift(entry.order);
    while (node !== undefined) {
      path.push(node);
      if (node.shift === shift) return path;
      const child: Node<T> | T | undefined = node.slots[(low >>> node.shift) & (SLOTS - 1)];
      node = child instanceof Node ? child : undefined;
    }
    throw new AssertionError('xarray: the entry is not here');
  }
}

function levelShift(order: number): number {
  return order - (order % BITS);
}
