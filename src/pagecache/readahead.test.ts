import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { checkCache, foliosOf, HeldRequests, patternByte, StubFile, settles, stubCache, turns } from '../../test/support/stub-file.ts';
import type { MaybePromise } from '../base/task.ts';
import type { AddressSpaceOps } from './address-space.ts';
import type { BackingDeviceOptions } from './backing-device.ts';
import { filemapRead } from './filemap.ts';
import type { Folio } from './folio.ts';
import { PAGE_SIZE } from './page-memory.ts';
import { forceReadahead, type ReadaheadControl, ReadaheadState } from './readahead.ts';

const MIB = 2 ** 20;
const PAGES_32 = 32 * PAGE_SIZE; // the default window of 128 KiB

function openFile(options: { size?: number; orderMax?: number; orderMin?: number; device?: BackingDeviceOptions; budget?: number } = {}) {
  const { cache, bdi } = stubCache({ budget: options.budget ?? 16 * MIB }, options.device);
  const { size = 64 * MIB, orderMax = 0, orderMin = 0 } = options;
  const file = new StubFile(bdi, { size, orderMax, orderMin });
  return { cache, file, mapping: file.mapping, ra: new ReadaheadState() };
}

function read(file: StubFile, ra: ReadaheadState, pos: number, length: number, dontcache = false): MaybePromise<number> {
  const into = new Uint8Array(length);
  const count = filemapRead(file.mapping, pos, into, { ra, nowait: false, dontcache });
  if (typeof count === 'number') for (const at of [0, count - 1]) if (at >= 0 && at < count) assert.equal(into[at], patternByte(pos + at));
  return count;
}

/** readNow(), on a device that answers at once. */
function readNow(file: StubFile, ra: ReadaheadState, pos: number, length: number, dontcache = false): number {
  const count = read(file, ra, pos, length, dontcache);
  assert.ok(typeof count === 'number', 'the read had to wait');
  return count;
}

/** [first page, pages] of what was read from storage since the last call, requests that follow each other joined. */
function fetched(file: StubFile): [number, number][] {
  const joined: [number, number][] = [];
  for (const [page, pages] of file.pagesOf('read')) {
    const last = joined[joined.length - 1];
    if (last !== undefined && last[0] + last[1] === page) last[1] += pages;
    else joined.push([page, pages]);
  }
  file.requests.length = 0;
  return joined;
}

function marks(file: StubFile): number[] {
  const found: number[] = [];
  for (const [page] of foliosOf(file.mapping)) if (file.mapping.find(page * PAGE_SIZE)?.isReadaheadMark) found.push(page);
  return found;
}

test('first window: the request rounded up to a power of two, times 4, times 2 or the largest', () => {
  // Request in pages -> window, and the page whose reader goes on.
  const table = [
    [1, 4, 1],
    [2, 4, 2],
    [3, 8, 3],
    [4, 8, 4],
    [5, 16, 5],
    [8, 16, 8],
    [9, 32, 9],
    [16, 32, 16],
    [31, 32, 31],
    [32, 32, 16], // all of it was asked for: half of it is left when the next begins
  ] as const;
  for (const [request, window, mark] of table) {
    const { file, ra } = openFile();
    readNow(file, ra, 0, request * PAGE_SIZE);
    // The mark may lie inside the request: then its reader has already started the next window.
    const [first] = fetched(file);
    assert.deepEqual([ra.start, ra.size].reduce((a, b) => a + b) >= window && first?.[0], 0, `${request} pages`);
    if (mark >= request) {
      assert.deepEqual(first, [0, window], `window of a request of ${request} pages`);
      assert.deepEqual(marks(file), [mark], `mark of a request of ${request} pages`);
    } else assert.equal(first?.[1], window * 2, `window of a request of ${request} pages, and the next`);
  }
});

test('the next window starts when its mark is reached: times 4, times 2, then the largest', () => {
  const { file, ra } = openFile({ device: { readaheadMax: 128 * PAGE_SIZE } });
  const starts: [number, number][] = [];
  for (let page = 0; page < 400; page++) {
    readNow(file, ra, page * PAGE_SIZE, PAGE_SIZE);
    for (const [start, pages] of fetched(file)) {
      starts.push([start, pages]);
      if (page > 0) assert.ok(start > page, `page ${page} was waited for`); // always before the reader needs it
    }
  }
  assert.deepEqual(starts.slice(0, 6), [
    [0, 4], // 1 <= 128/32
    [4, 16], // 4 < 128/16
    [20, 32],
    [52, 64],
    [116, 128],
    [244, 128],
  ]);
});

test('a reader in large pieces, or in odd ones, is sequential too', () => {
  for (const length of [100, 5000, 3 * PAGE_SIZE, 10 * PAGE_SIZE + 1, 100 * PAGE_SIZE]) {
    const { file, ra } = openFile({ size: 4 * MIB });
    for (let pos = 0; pos < file.size; pos += length) readNow(file, ra, pos, length);
    const pages = file.pagesOf('read');
    assert.equal(pages.length, 1024, `pieces of ${length}: each page is read once`);
    assert.deepEqual(
      pages.map(([page]) => page),
      Array.from({ length: 1024 }, (_, i) => i),
    );
  }
});

test('random reads fetch what they ask for and no more, and leave the window alone', () => {
  const { file, ra } = openFile();
  readNow(file, ra, 0, PAGE_SIZE);
  fetched(file);
  const window = { ...ra };
  for (const page of [100, 5000, 700, 3000]) {
    readNow(file, ra, page * PAGE_SIZE + 5, 10);
    assert.deepEqual(fetched(file), [[page, 1]]);
    readNow(file, ra, page * PAGE_SIZE + PAGE_SIZE * 200, 3 * PAGE_SIZE);
    assert.deepEqual(fetched(file), [[page + 200, 3]]);
  }
  assert.deepEqual(
    { start: ra.start, size: ra.size, asyncSize: ra.asyncSize },
    { start: window.start, size: window.size, asyncSize: window.asyncSize },
  );
});

test('a miss behind cached pages of another reader is a stream: history decides', () => {
  const { file } = openFile();
  const first = new ReadaheadState();
  for (let page = 0; page < 10; page++) readNow(file, first, (100 + page) * PAGE_SIZE, PAGE_SIZE);
  void file.mapping.truncateRange(108 * PAGE_SIZE, Number.POSITIVE_INFINITY);
  fetched(file);
  const second = new ReadaheadState();
  readNow(file, second, 108 * PAGE_SIZE, PAGE_SIZE); // eight cached pages before it, one asked for
  assert.deepEqual(fetched(file), [[108, 9]]);
  assert.equal(second.asyncSize, 1);
  // Cached from the start of the file: a whole-file read, twice the history.
  const { file: other } = openFile();
  const ra = new ReadaheadState();
  ra.hint = 'random';
  for (let page = 0; page < 6; page++) readNow(other, ra, page * PAGE_SIZE, PAGE_SIZE);
  fetched(other);
  readNow(other, new ReadaheadState(), 6 * PAGE_SIZE, PAGE_SIZE);
  assert.deepEqual(fetched(other), [[6, 13]]);
});

test('a single request larger than the window is read in pieces of the optimal size', () => {
  const { file, ra } = openFile({ device: { readaheadMax: PAGES_32, ioOptimal: 100 * PAGE_SIZE } });
  readNow(file, ra, 5 * PAGE_SIZE, 64 * PAGE_SIZE);
  assert.deepEqual(fetched(file), [[5, 64]]); // in one go, and no window: it is not larger than the device likes
  readNow(file, ra, 500 * PAGE_SIZE, 120 * PAGE_SIZE);
  const [first] = fetched(file);
  assert.equal(first?.[0], 500);
  assert.ok((first?.[1] ?? 0) >= 120);
});

test('hints: random reads the request, sequential doubles the window, noreuse leaves no trace of use', () => {
  const random = openFile();
  random.ra.hint = 'random';
  for (let page = 0; page < 5; page++) {
    readNow(random.file, random.ra, page * PAGE_SIZE, PAGE_SIZE);
    assert.deepEqual(fetched(random.file), [[page, 1]]);
  }
  readNow(random.file, random.ra, 100 * PAGE_SIZE, 3 * PAGE_SIZE);
  assert.deepEqual(fetched(random.file), [[100, 3]]);

  const sequential = openFile();
  sequential.ra.hint = 'sequential';
  readNow(sequential.file, sequential.ra, 0, 32 * PAGE_SIZE);
  assert.deepEqual(fetched(sequential.file), [[0, 64]]);

  const noreuse = openFile();
  noreuse.ra.hint = 'noreuse';
  for (let round = 0; round < 2; round++) readNow(noreuse.file, noreuse.ra, 0, PAGE_SIZE); // the second finds it cached
  assert.equal((noreuse.mapping.find(0) as Folio).isReferenced, false);
  noreuse.ra.hint = 'normal';
  readNow(noreuse.file, noreuse.ra, 0, PAGE_SIZE);
  assert.equal((noreuse.mapping.find(0) as Folio).isReferenced, true);
});

test('a device without readahead is read page by page', () => {
  const { file, ra } = openFile({ device: { readaheadMax: 0 } });
  readNow(file, ra, 0, 3 * PAGE_SIZE);
  assert.deepEqual(file.pagesOf('read'), [
    [0, 1],
    [1, 1],
    [2, 1],
  ]);
  assert.deepEqual(marks(file), []);
});

test('no page past the last one of the file is read', () => {
  for (const size of [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE, 40 * PAGE_SIZE + 9, 2 ** 40 + 5]) {
    const { file, ra } = openFile({ size });
    const last = Math.ceil(size / PAGE_SIZE) - 1;
    const first = Math.max(0, last - 60);
    for (let page = first; page <= last; page++) readNow(file, ra, page * PAGE_SIZE, PAGE_SIZE);
    assert.equal(readNow(file, ra, size, PAGE_SIZE), 0);
    const pages = file.pagesOf('read').map(([page]) => page);
    assert.equal(Math.max(...pages), last, `size ${size}`);
    assert.equal(new Set(pages).size, pages.length);
  }
});

test('a window ends at the first page that is cached', () => {
  const { file, ra } = openFile();
  readNow(file, new ReadaheadState(), 10 * PAGE_SIZE, 1);
  fetched(file);
  readNow(file, ra, 0, 16 * PAGE_SIZE);
  assert.deepEqual(fetched(file)[0], [0, 10]);
});

test('folios grow with each window, stay aligned, inside the window and the limit', () => {
  const { file, mapping, ra } = openFile({ orderMax: 5, device: { readaheadMax: 128 * PAGE_SIZE } });
  for (let page = 0; page < 500; page++) readNow(file, ra, page * PAGE_SIZE, PAGE_SIZE);
  const folios = foliosOf(mapping);
  for (const [page, order] of folios) assert.equal(page % 2 ** order, 0);
  const largest = Math.max(...folios.map(([, order]) => order));
  assert.equal(largest, 5);
  const early = folios.filter(([page]) => page < 4).map(([, order]) => order);
  const late = folios.filter(([page]) => page > 100).map(([, order]) => order);
  assert.deepEqual(early, [0, 0, 0, 0]);
  assert.ok(late.length <= 40, `${late.length} folios for 400 pages`);
  assert.equal(
    file.pagesOf('read').reduce((sum, [, pages]) => sum + pages, 0),
    folios.reduce((sum, [, order]) => sum + 2 ** order, 0),
  );
});

test('what was asked for in one piece is cached in one piece', () => {
  const { file, mapping, ra } = openFile({ orderMax: 9 });
  readNow(file, ra, 0, 16 * PAGE_SIZE);
  assert.deepEqual(foliosOf(mapping)[0], [0, 4]);
});

test('blocks larger than pages: folios are never smaller than a block, at the end of the file too', () => {
  const { file, mapping, ra } = openFile({ orderMin: 2, orderMax: 4, size: 21 * PAGE_SIZE });
  for (let pos = 0; pos < file.size; pos += 1000) readNow(file, ra, pos, 1000);
  for (const [page, order] of foliosOf(mapping)) assert.ok(order >= 2 && page % 2 ** order === 0, `page ${page} order ${order}`);
  const pages = file.pagesOf('read').reduce((sum, [, count]) => sum + count, 0);
  assert.equal(pages, 24);
});

test('a DONTCACHE read marks what it brings in, nothing else (N1)', () => {
  const { file, mapping, ra } = openFile();
  readNow(file, new ReadaheadState(), 2 * PAGE_SIZE, 1);
  readNow(file, ra, 0, PAGE_SIZE, true);
  assert.equal(mapping.find(0), undefined); // N3: dropped after the copy
  assert.equal((mapping.find(PAGE_SIZE) as Folio).isDropbehind, true);
  assert.equal((mapping.find(2 * PAGE_SIZE) as Folio).isDropbehind, false);
});

/** The policy of spec section 7 once more, over sets of pages; folios are pages. */
class PolicyModel {
  readonly cached = new Set<number>();
  readonly marked = new Set<number>();
  fetches: number[] = [];
  readonly max: number;
  readonly optimal: number;
  readonly endPage: number;

  constructor(max: number, optimal: number, endPage: number) {
    this.max = max;
    this.optimal = optimal;
    this.endPage = endPage;
  }

  read(opener: ModelOpener, pos: number, length: number): void {
    if (length <= 0) return;
    const last = Math.ceil((pos + length) / PAGE_SIZE);
    for (let page = Math.floor(pos / PAGE_SIZE); page < last; page++) {
      const want = last - page;
      const max = this.#windowMax(opener, want);
      if (!this.cached.has(page)) {
        this.#sync(opener, page, want, max);
        this.#fetch(page, 1, -1); // whatever the policy did, this page is read
      }
      if (this.marked.delete(page)) this.#async(opener, page, want, max);
      opener.behind = Math.min((page + 1) * PAGE_SIZE, pos + length);
    }
  }

  #windowMax(opener: ModelOpener, want: number): number {
    const max = opener.hint === 'sequential' ? 2 * this.max : this.max;
    return want > max ? Math.max(max, Math.min(want, this.optimal)) : max;
  }

  #sync(opener: ModelOpener, page: number, want: number, max: number): void {
    if (opener.hint === 'random' || max === 0) {
      this.#fetch(page, Math.min(want, Math.max(max, 1)), -1);
      return;
    }
    const lastPage = opener.behind === undefined ? undefined : Math.floor(opener.behind / PAGE_SIZE);
    const follows = lastPage !== undefined && (page === lastPage || page === lastPage + 1);
    if (page === 0 || want > max || follows) {
      let size = 1;
      while (size < want) size *= 2;
      size = size * 32 <= max ? size * 4 : size * 4 <= max ? size * 2 : max;
      opener.window = [page, size, size > want ? size - want : Math.floor(size / 2)];
    } else {
      let history = 0;
      while (history < max && this.cached.has(page - 1 - history)) history++;
      if (history <= want) {
        this.#fetch(page, want, -1);
        return;
      }
      opener.window = [page, Math.min(max, want + history * (history === page ? 2 : 1)), 1];
    }
    this.#submit(opener);
  }

  #async(opener: ModelOpener, page: number, want: number, max: number): void {
    if (max === 0 || opener.hint === 'random') return;
    let [start, size, ahead] = opener.window;
    if (page === start + size - ahead) start += size;
    else {
      let miss = page + 1;
      while (this.cached.has(miss)) miss++;
      if (miss - page > max) return;
      start = miss;
      size = miss - page + want;
    }
    size = size * 16 < max ? size * 4 : size * 2 <= max ? size * 2 : max;
    ahead = size;
    opener.window = [start, size, ahead];
    this.#submit(opener);
  }

  #submit(opener: ModelOpener): void {
    const [start, size, ahead] = opener.window;
    this.#fetch(start, size, start + size - ahead);
  }

  #fetch(start: number, count: number, mark: number): void {
    for (let page = start; page < Math.min(start + count, this.endPage) && !this.cached.has(page); page++) {
      this.cached.add(page);
      this.fetches.push(page);
      if (page === mark) this.marked.add(page);
    }
  }
}

class ModelOpener {
  behind: number | undefined;
  window: [start: number, size: number, ahead: number] = [0, 0, 0];
  hint: ReadaheadState['hint'] = 'normal';
}

test('windows by seed agree with an independent model of the policy', () =>
  forEachSeed('readahead', 25, (prng) => {
    const max = prng.pick([0, 1, 2, 8, 32, 40, 128]);
    const optimal = prng.pick([0, max, 100]);
    const size = prng.between(1, 3000) * PAGE_SIZE - prng.pick([0, 1, 4000]);
    const { cache, file, mapping } = openFile({
      size,
      budget: 16 * MIB,
      device: { readaheadMax: max * PAGE_SIZE, ioOptimal: optimal * PAGE_SIZE },
    });
    const model = new PolicyModel(max, optimal, Math.ceil(size / PAGE_SIZE));
    const openers = Array.from({ length: prng.between(1, 3) }, () => ({ ra: new ReadaheadState(), model: new ModelOpener(), pos: 0 }));
    for (let step = 0; step < 80; step++) {
      const opener = prng.pick(openers);
      if (prng.chance(0.2)) opener.pos = prng.below(size);
      if (prng.chance(0.05)) opener.model.hint = opener.ra.hint = prng.pick(['normal', 'normal', 'random', 'sequential', 'noreuse']);
      if (prng.chance(0.1)) {
        // Some pages go, as under memory pressure; their marks go with them.
        const first = prng.below(model.endPage);
        const pages = prng.between(1, 30);
        void mapping.truncateRange(first * PAGE_SIZE, (first + pages) * PAGE_SIZE);
        for (let page = first; page < first + pages; page++) {
          model.cached.delete(page);
          model.marked.delete(page);
        }
      }
      const length = prng.pick([1, 100, PAGE_SIZE, 3 * PAGE_SIZE, 9 * PAGE_SIZE + 7, 200 * PAGE_SIZE]);
      const wanted = Math.max(0, Math.min(length, size - opener.pos));
      file.requests.length = 0;
      model.fetches = [];
      assert.equal(readNow(file, opener.ra, opener.pos, length), wanted);
      model.read(opener.model, opener.pos, wanted);
      assert.deepEqual(
        file.pagesOf('read').map(([page]) => page),
        model.fetches,
        `step ${step}: ${length} bytes at page ${opener.pos / PAGE_SIZE}, window ${max}`,
      );
      assert.deepEqual(
        marks(file),
        [...model.marked].sort((a, b) => a - b),
        `step ${step}: marks`,
      );
      opener.pos += wanted;
    }
    checkCache(cache, [mapping], true);
  }));

test('WILLNEED fills every gap of its range, whatever is cached between, and ends at the end of the file', () => {
  const { cache, file, mapping } = openFile({ size: 40 * PAGE_SIZE + 1, orderMax: 3 });
  const random = new ReadaheadState();
  random.hint = 'random';
  for (const page of [0, 7, 8, 20]) readNow(file, random, page * PAGE_SIZE, 1);
  fetched(file);
  void forceReadahead(mapping, 0, 30 * PAGE_SIZE);
  assert.deepEqual(fetched(file), [
    [1, 6],
    [9, 11],
    [21, 9],
  ]);
  void forceReadahead(mapping, 35 * PAGE_SIZE, Number.POSITIVE_INFINITY);
  assert.deepEqual(fetched(file), [[35, 6]]);
  void forceReadahead(mapping, 0, 40 * PAGE_SIZE);
  assert.deepEqual(fetched(file), [[30, 5]]);
  for (const [start, length] of [
    [50 * PAGE_SIZE, PAGE_SIZE],
    [5, 0],
  ] as const)
    assert.equal(forceReadahead(mapping, start, length), undefined);
  assert.deepEqual(fetched(file), []);
  assert.ok(!mapping.invalidateLock.isLocked);
  checkCache(cache, [mapping], true);
});

test('WILLNEED of a huge range does not take all memory', () => {
  const requests = new HeldRequests();
  const { bdi, cache } = stubCache({ budget: 256 * PAGE_SIZE });
  const file = new StubFile(bdi, { size: 2 ** 40, post: requests.post });
  void forceReadahead(file.mapping, 0, 2 ** 40);
  assert.ok(cache.memory.used > 0 && cache.memory.used <= 64 * PAGE_SIZE, `${cache.memory.used} bytes in flight`);
  requests.endAll();
  checkCache(cache, [file.mapping], true);
});

test('WILLNEED waits for whoever changes where blocks live', async () => {
  const { file, mapping } = openFile();
  void mapping.invalidateLock.lock();
  const done = forceReadahead(mapping, 0, PAGE_SIZE);
  assert.equal(await settles(done), false);
  assert.equal(file.requests.length, 0);
  mapping.invalidateLock.unlock();
  await done;
  assert.equal(file.requests.length, 1);
});

test('RA2: folios that the filesystem does not take are dropped, and read one by one', () => {
  const { cache, file, mapping, ra } = openFile();
  mapping.ops = {
    ...mapping.ops,
    readahead: (control) => {
      const taken = control.nextFolio() as Folio; // the first only
      taken.endRead(false);
      taken.put();
    },
  };
  assert.equal(readNow(file, ra, 0, 2 * PAGE_SIZE), 2 * PAGE_SIZE);
  assert.deepEqual(
    foliosOf(mapping).map(([page]) => page),
    [0, 1],
  );
  checkCache(cache, [mapping], true);
});

test('RA4: an error of the filesystem ends readahead silently: no folio stays locked, the reader gets its data or its own error', async () => {
  for (const later of [false, true]) {
    const { cache, file, mapping, ra } = openFile();
    const fail = (): MaybePromise<void> => {
      const error = Object.assign(new Error('no mapping'), { code: 'EIO' });
      if (later) return turns(1).then(() => Promise.reject(error));
      throw error;
    };
    mapping.ops = { ...mapping.ops, readahead: fail };
    assert.equal(await read(file, ra, 0, 2 * PAGE_SIZE), 2 * PAGE_SIZE);
    // The same for the window that a mark starts.
    mapping.ops = { ...mapping.ops, readahead: file.readahead };
    await read(file, ra, 100 * PAGE_SIZE, PAGE_SIZE);
    await read(file, ra, 101 * PAGE_SIZE, PAGE_SIZE);
    mapping.ops = { ...mapping.ops, readahead: fail };
    for (let page = 102; page < 130; page++) assert.equal(await read(file, ra, page * PAGE_SIZE, PAGE_SIZE), PAGE_SIZE);
    checkCache(cache, [mapping], true);
  }
});

test('a broken invariant inside readahead is not silent, and leaves no reference behind', async () => {
  const { file, mapping, ra } = openFile();
  await read(file, ra, 0, PAGE_SIZE);
  const marked = mapping.find(PAGE_SIZE) as Folio;
  assert.ok(marked.isReadaheadMark);
  const broken: NonNullable<AddressSpaceOps['readahead']> = (_: ReadaheadControl) => breakInvariant();
  mapping.ops = { ...mapping.ops, readahead: broken };
  assert.throws(() => readNow(file, ra, PAGE_SIZE, PAGE_SIZE), { code: 'ERR_ASSERTION' });
  assert.equal(marked.refs, 0);
  assert.ok(!mapping.invalidateLock.isLocked);
});

function breakInvariant(): never {
  // Any broken invariant of the engine: here, putting a folio that nobody holds.
  const { bdi } = stubCache({ budget: MIB });
  const other = new StubFile(bdi).mapping.tryCreateOrder(0, 0, false) as Folio;
  other.put();
  other.put();
  throw new Error('a put too many was not noticed');
}
