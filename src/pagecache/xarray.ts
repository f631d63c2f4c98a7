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
  /** undefined for a root, until its tree grows. */
  parent: Node<T> | undefined;
  /** The index of the first slot. */
  readonly start: number;
  readonly slots: (Node<T> | T | undefined)[];
  count = 0;
  // Two 32-bit words for each tag; no array until something is tagged.
  tags: number[] | undefined = undefined;

  constructor(shift: number, parent: Node<T> | undefined, start: number) {
    this.shift = shift;
    this.parent = parent;
    this.start = start;
    this.slots = new Array(SLOTS).fill(undefined);
  }

  /** Indices that its slots stand for. */
  get span(): number {
    return SLOTS << this.shift;
  }

  hasAny(tag: number): boolean {
    const { tags } = this;
    return tags !== undefined && ((tags[tag * 2] as number) | (tags[tag * 2 + 1] as number)) !== 0;
  }
}

/**
 * Sparse array of entries by index up to 2^41, with tags that are searched as fast as entries. A radix tree of 64-slot nodes; an
 * entry of order 6k + j stands in 2^j neighbouring slots of level k.
 *
 * Invariants:
 * 1. A tag bit of an inner slot is set exactly if some entry below it has the tag.
 * 2. #leaf is a node of the tree whose slots are single indices: the last one that a search came to, since the next is often for a
 *    neighbour.
 * 3. While #only is set it is the only entry, and starts at index 0: there is no tree. Most files need none.
 * 4. A tree is as high as the highest index it ever held asks for.
 */
export class XArray<T extends Entry> {
  #only: T | undefined = undefined;
  /** Of #only: a bit for each tag. */
  #onlyTags = 0;
  /** Tree 0, where nearly every file ends. */
  #low: Node<T> | undefined = undefined;
  /** The other trees by number, ascending. */
  #far: Map<number, Node<T>> | undefined = undefined;
  #leaf: Node<T> | undefined = undefined;

  /** The entry that covers `index`. */
  load(index: number): T | undefined {
    const only = this.#only;
    if (only !== undefined) return index < 1 << only.order ? only : undefined;
    const leaf = this.#leaf;
    if (leaf !== undefined) {
      const at = index - leaf.start;
      if (at >= 0 && at < SLOTS) return leaf.slots[at] as T | undefined;
    }
    let node = this.#rootFor(index);
    if (node === undefined) return undefined;
    const low = index % TREE_SPAN;
    while (node.shift > 0) {
      const slot: Node<T> | T | undefined = node.slots[(low >>> node.shift) & (SLOTS - 1)];
      if (!(slot instanceof Node)) return slot;
      node = slot;
    }
    this.#leaf = node;
    return node.slots[low & (SLOTS - 1)] as T | undefined;
  }

  /** Puts an entry where nothing is. */
  store(entry: T): void {
    if (this.#only !== undefined) this.#plant(this.#only);
    if (entry.index > 0 || this.#low !== undefined || this.#far !== undefined) this.#insert(entry);
    else this.#only = entry;
  }

  /** From the entry that was the only one to a tree with it. */
  #plant(only: T): void {
    const tags = this.#onlyTags;
    this.#only = undefined;
    this.#onlyTags = 0;
    this.#insert(only);
    for (let tag = 0; tag < TAGS; tag++) if ((tags & (1 << tag)) !== 0) this.setTag(only, tag as Tag);
  }

  #insert(entry: T): void {
    const shift = levelShift(entry.order);
    const low = entry.index % TREE_SPAN;
    const node = this.#cursor(entry, shift) ?? this.#grow(entry.index, shift);
    const first = (low >>> shift) & (SLOTS - 1);
    const slots = 1 << (entry.order - shift);
    for (let i = first; i < first + slots; i++) {
      assert(node.slots[i] === undefined, 'xarray: index is taken');
      node.slots[i] = entry;
    }
    node.count += slots;
  }

  /** The node of a level that has a slot for `index`, made if need be. */
  #grow(index: number, shift: number): Node<T> {
    const high = Math.floor(index / TREE_SPAN);
    const low = index % TREE_SPAN;
    const root = this.#root(high);
    let node = root ?? new Node<T>(rootShift(low, shift), undefined, high * TREE_SPAN);
    while (node.shift < shift || low >= node.span) node = heightened(node);
    if (node !== root) this.#setRoot(high, node);
    while (node.shift > shift) {
      const i: number = (low >>> node.shift) & (SLOTS - 1);
      let child: Node<T> | T | undefined = node.slots[i];
      if (child === undefined) {
        child = new Node<T>(node.shift - BITS, node, node.start + i * 2 ** node.shift);
        node.slots[i] = child;
        node.count++;
      }
      assert(child instanceof Node, 'xarray: a larger entry covers this index');
      node = child;
    }
    if (shift === 0) this.#leaf = node;
    return node;
  }

  /** Takes an entry out, with its tags. */
  erase(entry: T): void {
    if (this.#isOnly(entry)) {
      this.#only = undefined;
      this.#onlyTags = 0;
      return;
    }
    let node = this.#nodeOf(entry);
    for (let tag = 0; tag < TAGS; tag++) this.#clear(node, entry, tag as Tag);
    const low = entry.index % TREE_SPAN;
    const first = (low >>> node.shift) & (SLOTS - 1);
    const slots = 1 << (entry.order - node.shift);
    for (let i = first; i < first + slots; i++) node.slots[i] = undefined;
    node.count -= slots;
    while (node.count === 0) {
      if (node === this.#leaf) this.#leaf = undefined;
      const { parent } = node;
      if (parent === undefined) {
        this.#setRoot(Math.floor(entry.index / TREE_SPAN), undefined);
        return;
      }
      parent.slots[(low >>> parent.shift) & (SLOTS - 1)] = undefined;
      parent.count--;
      node = parent;
    }
  }

  hasTag(entry: T, tag: Tag): boolean {
    if (this.#isOnly(entry)) return (this.#onlyTags & (1 << tag)) !== 0;
    const node = this.#nodeOf(entry);
    const i = ((entry.index % TREE_SPAN) >>> node.shift) & (SLOTS - 1);
    return node.tags !== undefined && ((node.tags[tag * 2 + (i >>> 5)] as number) & (1 << (i & 31))) !== 0;
  }

  setTag(entry: T, tag: Tag): void {
    if (this.#isOnly(entry)) {
      this.#onlyTags |= 1 << tag;
      return;
    }
    const low = entry.index % TREE_SPAN;
    let slots = 1 << (entry.order - levelShift(entry.order));
    for (let node: Node<T> | undefined = this.#nodeOf(entry); node !== undefined; node = node.parent) {
      const hadTag = node.hasAny(tag);
      node.tags ??= new Array<number>(TAGS * 2).fill(0);
      const { tags } = node;
      const first = (low >>> node.shift) & (SLOTS - 1);
      for (let i = first; i < first + slots; i++) {
        const word = tag * 2 + (i >>> 5);
        tags[word] = (tags[word] as number) | (1 << (i & 31));
      }
      if (hadTag) return; // so those above know
      slots = 1;
    }
  }

  clearTag(entry: T, tag: Tag): void {
    if (this.#isOnly(entry)) this.#onlyTags &= ~(1 << tag);
    else this.#clear(this.#nodeOf(entry), entry, tag);
  }

  #clear(holder: Node<T>, entry: T, tag: Tag): void {
    const low = entry.index % TREE_SPAN;
    let slots = 1 << (entry.order - holder.shift);
    for (let node: Node<T> | undefined = holder; node !== undefined; node = node.parent) {
      const { tags } = node;
      if (tags === undefined) return;
      const first = (low >>> node.shift) & (SLOTS - 1);
      for (let i = first; i < first + slots; i++) {
        const word = tag * 2 + (i >>> 5);
        tags[word] = (tags[word] as number) & ~(1 << (i & 31));
      }
      if (node.hasAny(tag)) return; // others below still have it
      slots = 1;
    }
  }

  /** The first entry that covers any index of [from, to), with the tag if one is given. */
  next(from: number, to: number, tag?: Tag): T | undefined {
    if (from >= to) return undefined;
    const only = this.#only;
    if (only !== undefined) {
      const isAskedFor = from < 1 << only.order && (tag === undefined || (this.#onlyTags & (1 << tag)) !== 0);
      return isAskedFor ? only : undefined;
    }
    const leaf = this.#leaf;
    let start = from;
    if (leaf !== undefined) {
      const end = leaf.start + SLOTS;
      if (from >= leaf.start && from < end) {
        const low = from % TREE_SPAN;
        const found = this.#nextIn(leaf, low, low + Math.min(to, end) - from, tag);
        if (found !== undefined || to <= end) return found;
        start = end;
      }
    }
    const found = this.#low === undefined ? undefined : this.#nextBelow(this.#low, start, to, tag);
    if (found !== undefined || this.#far === undefined) return found;
    for (const root of this.#far.values()) {
      const far = this.#nextBelow(root, start, to, tag);
      if (far !== undefined) return far;
    }
    return undefined;
  }

  /** The first that a whole tree has. */
  #nextBelow(root: Node<T>, start: number, to: number, tag: Tag | undefined): T | undefined {
    const from = Math.max(start - root.start, 0);
    const end = Math.min(to - root.start, root.span);
    return from < end ? this.#nextIn(root, from, end, tag) : undefined;
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
      if (shift === 0 || !(slot instanceof Node)) {
        if (shift === 0) this.#leaf = node;
        return slot as T;
      }
      const slotStart = (((from >>> shift) & ~(SLOTS - 1)) | i) * 2 ** shift;
      const found = this.#nextIn(slot, Math.max(from, slotStart), to, tag);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Root of the tree of that number. */
  #root(high: number): Node<T> | undefined {
    return high === 0 ? this.#low : this.#far?.get(high);
  }

  #setRoot(high: number, root: Node<T> | undefined): void {
    if (high === 0) {
      this.#low = root;
      return;
    }
    const trees = new Map(this.#far);
    if (root === undefined) trees.delete(high);
    else trees.set(high, root);
    this.#far = trees.size === 0 ? undefined : new Map([...trees].sort(([a], [b]) => a - b));
  }

  /** Root of the tree that has an index, if it is high enough for it. */
  #rootFor(index: number): Node<T> | undefined {
    const root = index < TREE_SPAN ? this.#low : this.#root(Math.floor(index / TREE_SPAN));
    return root === undefined || index - root.start >= root.span ? undefined : root;
  }

  /** Is it the entry without a tree? Then it is the only one that may be asked about. */
  #isOnly(entry: T): boolean {
    if (this.#only === undefined) return false;
    assert(this.#only === entry, 'xarray: the entry is not here');
    return true;
  }

  /** #leaf, if it is the node for an entry of this level. */
  #cursor(entry: T, shift: number): Node<T> | undefined {
    const leaf = this.#leaf;
    if (shift !== 0 || leaf === undefined) return undefined;
    const at = entry.index - leaf.start;
    return at >= 0 && at < SLOTS ? leaf : undefined;
  }

  /** The node whose slots hold the entry. */
  #nodeOf(entry: T): Node<T> {
    const shift = levelShift(entry.order);
    let node = this.#cursor(entry, shift);
    if (node !== undefined) return node;
    const low = entry.index % TREE_SPAN;
    node = this.#rootFor(entry.index);
    while (node !== undefined && node.shift > shift) {
      const child: Node<T> | T | undefined = node.slots[(low >>> node.shift) & (SLOTS - 1)];
      node = child instanceof Node ? child : undefined;
    }
    if (node === undefined) throw new AssertionError('xarray: the entry is not here');
    if (shift === 0) this.#leaf = node;
    return node;
  }
}

/** Level of the root of the lowest tree that has an index and a level. */
function rootShift(low: number, shift: number): number {
  let top = shift;
  while (low >= SLOTS << top) top += BITS;
  return top;
}

/** A new root above another. */
function heightened<T>(root: Node<T>): Node<T> {
  const above = new Node<T>(root.shift + BITS, undefined, root.start);
  root.parent = above;
  above.slots[0] = root;
  above.count = 1;
  for (let tag = 0; tag < TAGS; tag++) {
    if (!root.hasAny(tag)) continue;
    above.tags ??= new Array<number>(TAGS * 2).fill(0);
    above.tags[tag * 2] = 1;
  }
  return above;
}

function levelShift(order: number): number {
  return order - (order % BITS);
}
