import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import type { Prng } from '../base/prng.ts';
import { type Entry, type Tag, XArray } from './xarray.ts';

interface Item extends Entry {
  readonly tags: Set<Tag>;
}

const TAGS: readonly Tag[] = [0, 1, 2];

/** A sorted list of entries: what the tree is compared with. */
class Model {
  readonly items: Item[] = [];

  at(index: number): Item | undefined {
    return this.next(index, index + 1);
  }

  next(from: number, to: number, tag?: Tag): Item | undefined {
    if (from >= to) return undefined;
    return this.items.find((each) => each.index + 2 ** each.order > from && each.index < to && (tag === undefined || each.tags.has(tag)));
  }

  add(item: Item): void {
    this.items.push(item);
    this.items.sort((a, b) => a.index - b.index);
  }
}

/** Indices that meet: inside one node, around the borders of nodes and trees, and far out. */
function indexOf(prng: Prng): number {
  const base = prng.pick([0, 0, 64 - 2, 4096 - 8, 2 ** 18 - 8, 2 ** 30 - 16, 2 ** 30, 2 ** 31 - 8, 2 ** 32 - 64, 2 ** 41 - 2048]);
  return Math.min(base + prng.below(prng.pick([4, 64, 1024])), 2 ** 41 - 1);
}

function check(array: XArray<Item>, model: Model, prng: Prng, step: string): void {
  const index = indexOf(prng);
  assert.equal(array.load(index), model.at(index), `${step}: load(${index})`);
  const from = indexOf(prng);
  const to = prng.chance(0.2) ? Number.POSITIVE_INFINITY : prng.chance(0.5) ? from + prng.below(3000) : indexOf(prng);
  for (const tag of [undefined, ...TAGS])
    assert.equal(array.next(from, to, tag), model.next(from, to, tag), `${step}: next(${from}, ${to}, ${tag})`);
}

test('agrees with a list of entries: orders 0 to 9, indices up to 2^41, tags, ranges, erasure', () =>
  forEachSeed('xarray', 60, (prng) => {
    const array = new XArray<Item>();
    const model = new Model();
    for (let i = 0; i < 400; i++) {
      const step = `step ${i}`;
      const op = prng.pick(['store', 'store', 'store', 'erase', 'setTag', 'setTag', 'clearTag']);
      if (op === 'store') {
        const order = prng.between(0, 9);
        const wanted = indexOf(prng);
        const index = wanted - (wanted % 2 ** order);
        if (model.next(index, index + 2 ** order) !== undefined) continue;
        const item: Item = { index, order, tags: new Set() };
        array.store(item);
        model.add(item);
        for (const tag of TAGS) assert.equal(array.hasTag(item, tag), false, `${step}: a new entry has tag ${tag}`);
      } else if (model.items.length > 0) {
        const item = prng.pick(model.items);
        const tag = prng.pick(TAGS);
        if (op === 'erase') {
          array.erase(item);
          model.items.splice(model.items.indexOf(item), 1);
          assert.equal(array.load(item.index), undefined);
        } else if (op === 'setTag') {
          array.setTag(item, tag);
          item.tags.add(tag);
        } else {
          array.clearTag(item, tag);
          item.tags.delete(tag);
        }
      }
      for (let n = 0; n < 3; n++) check(array, model, prng, step);
    }
    for (const item of model.items) {
      for (const tag of TAGS) assert.equal(array.hasTag(item, tag), item.tags.has(tag), `tag ${tag} of ${item.index}`);
      assert.equal(array.load(item.index + 2 ** item.order - 1), item, 'last index of the entry');
    }
    // A walk finds each once, in order; then all of them go, and nothing stays behind.
    for (const tag of [undefined, ...TAGS]) {
      const seen: Item[] = [];
      for (let at = 0; ; ) {
        const item = array.next(at, Number.POSITIVE_INFINITY, tag);
        if (item === undefined) break;
        seen.push(item);
        at = item.index + 2 ** item.order;
      }
      assert.deepEqual(
        seen,
        model.items.filter((each) => tag === undefined || each.tags.has(tag)),
      );
    }
    for (const item of prng.shuffle([...model.items])) array.erase(item);
    for (const tag of [undefined, ...TAGS]) assert.equal(array.next(0, Number.POSITIVE_INFINITY, tag), undefined);
  }));

test('an entry that stands where another one went has none of its tags', () => {
  const array = new XArray<Item>();
  for (const order of [0, 3, 5, 6, 9]) {
    const old: Item = { index: 0, order, tags: new Set() };
    array.store(old);
    for (const tag of TAGS) array.setTag(old, tag);
    array.erase(old);
    const item: Item = { index: 0, order: 0, tags: new Set() };
    array.store(item);
    for (const tag of TAGS) {
      assert.equal(array.hasTag(item, tag), false);
      assert.equal(array.next(0, 1024, tag), undefined);
    }
    array.erase(item);
  }
});

test('two entries in one place, and the erasure of one that is not there, are our own mistake', () => {
  const array = new XArray<Item>();
  const large: Item = { index: 512, order: 9, tags: new Set() };
  array.store(large);
  assert.throws(() => array.store({ index: 600, order: 0, tags: new Set() }), { code: 'ERR_ASSERTION' });
  assert.throws(() => array.store({ index: 512, order: 9, tags: new Set() }), { code: 'ERR_ASSERTION' });
  assert.equal(array.load(600), large);
  assert.equal(array.next(0, 512), undefined);
  assert.throws(() => array.erase({ index: 0, order: 0, tags: new Set() }), { code: 'ERR_ASSERTION' });
});

test('an entry that was alone keeps its tags when a tree grows around it, and as the tree grows', () =>
  forEachSeed('xarray growth', 30, (prng) => {
    const array = new XArray<Item>();
    const model = new Model();
    const first: Item = { index: prng.pick([0, 0, 512]), order: prng.between(0, 9), tags: new Set(TAGS.filter(() => prng.chance(0.5))) };
    const others = [600, 5000, 2 ** 19, 2 ** 29, 2 ** 31].map((index): Item => ({ index: index * 2, order: 0, tags: new Set() }));
    for (const item of [first, ...others]) {
      array.store(item);
      model.add(item);
      for (const tag of item.tags) array.setTag(item, tag);
      for (const each of model.items) for (const tag of TAGS) assert.equal(array.hasTag(each, tag), each.tags.has(tag));
      for (let i = 0; i < 20; i++) check(array, model, prng, `after ${item.index}`);
      for (const tag of TAGS) assert.equal(array.next(0, Number.POSITIVE_INFINITY, tag), first.tags.has(tag) ? first : undefined);
    }
    for (const tag of first.tags) array.clearTag(first, tag);
    for (const tag of TAGS) assert.equal(array.next(0, Number.POSITIVE_INFINITY, tag), undefined);
    for (const item of model.items) array.erase(item);
    assert.equal(array.next(0, Number.POSITIVE_INFINITY), undefined);
  }));

test('a search for a tag skips what does not have it: cost does not grow with untagged entries', () => {
  const array = new XArray<Item>();
  const count = 200_000;
  let last: Item | undefined;
  for (let index = 0; index < count; index++) {
    last = { index, order: 0, tags: new Set() };
    array.store(last);
  }
  array.setTag(last as Item, 0);
  // 20 000 searches over 200 000 entries: minutes if each entry were looked at, milliseconds if each node is.
  for (let i = 0; i < 20_000; i++) assert.equal(array.next(0, count, 0), last);
});
