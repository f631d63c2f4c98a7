import { AssertionError, assert } from '../base/assert.ts';
import { isPowerOfTwo, log2Floor } from '../base/ranges.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { AddressSpace } from './address-space.ts';
import type { Folio } from './folio.ts';
import { PAGE_SIZE } from './page-memory.ts';

/** What the user of a file said about his reads (posix_fadvise). */
export type ReadaheadHint = 'normal' | 'random' | 'sequential' | 'noreuse';

/**
 * One open file's readahead window, in pages. Source: Linux mm/readahead.c, struct file_ra_state.
 */
export class ReadaheadState {
  start = 0;
  size = 0;
  /** Pages before the end of the window whose reading starts the next window. */
  asyncSize = 0;
  order = 0;
  /** Position behind the last byte read, or -1. */
  prevPos = -1;
  hint: ReadaheadHint = 'normal';
}

/** Locked, held folios to be filled, handed out in order. Those not taken are dropped by the caller of readahead. */
export class ReadaheadControl {
  readonly mapping: AddressSpace;
  /** File position of the first byte, and bytes in all. */
  readonly pos: number;
  readonly length: number;
  readonly #folios: Folio[];
  #next = 0;

  constructor(mapping: AddressSpace, folios: Folio[]) {
    this.mapping = mapping;
    this.#folios = folios;
    this.pos = folios[0]?.pos ?? 0;
    this.length = (folios[folios.length - 1]?.end ?? this.pos) - this.pos;
  }

  /** The next folio; its lock and reference go to the taker. */
  nextFolio(): Folio | undefined {
    return this.#folios[this.#next] === undefined ? undefined : this.#folios[this.#next++];
  }

  /** Folios nobody took. */
  get rest(): Folio[] {
    return this.#folios.slice(this.#next);
  }
}

/** A reader misses at `index`: reads at least the `count` pages it wants, and what a sequential reader will want next. */
export function syncReadahead(
  mapping: AddressSpace,
  ra: ReadaheadState,
  index: number,
  count: number,
  dontcache: boolean,
): MaybePromise<void> {
  const max = windowMax(mapping, ra, count);
  if (ra.hint === 'random' || max === 0) return readPages(mapping, index, Math.min(count, Math.max(max, 1)), 0, -1, dontcache);
  const previous = ra.prevPos < 0 ? -1 : Math.floor(ra.prevPos / PAGE_SIZE);
  const isSequential = index === 0 || count > max || (previous >= 0 && index - previous >= 0 && index - previous <= 1);
  if (isSequential) {
    ra.start = index;
    ra.size = firstWindow(count, max);
    ra.asyncSize = ra.size > count ? ra.size - count : Math.floor(ra.size / 2);
  } else {
    const history = cachedBefore(mapping, index, max);
    if (history <= count) return readPages(mapping, index, count, orderOf(count), -1, dontcache); // random: just the request
    ra.start = index;
    ra.size = Math.min((history === index ? history * 2 : history) + count, max);
    ra.asyncSize = 1;
  }
  // What was asked for in one piece may be cached in one piece.
  ra.order = orderOf(count);
  return submitWindow(mapping, ra, dontcache);
}

/** A reader reaches the folio that carries the mark: starts the next window before the reader needs it. */
export function asyncReadahead(
  mapping: AddressSpace,
  ra: ReadaheadState,
  folio: Folio,
  count: number,
  dontcache: boolean,
): MaybePromise<void> {
  folio.setReadaheadMark(false);
  const max = windowMax(mapping, ra, count);
  if (max === 0 || ra.hint === 'random') return;
  const { index } = folio;
  const expected = ra.start + ra.size - ra.asyncSize;
  if (index <= expected && expected < index + folio.pages) {
    ra.start += ra.size;
  } else {
    // The window is another reader's: start a new one at the first page that is missing.
    const missing = firstMissing(mapping, index + 1, index + max);
    if (missing < 0) return;
    ra.start = missing;
    ra.size = missing - index + count;
  }
  ra.size = nextWindow(ra.size, max);
  ra.asyncSize = ra.size;
  ra.order += 2;
  return submitWindow(mapping, ra, dontcache);
}

/** Share of the memory budget that one call of forceReadahead fills at most: it is advice, and must not empty the cache. */
const FORCE_SHARE = 4;

/**
 * Reads what is missing of [start, start + length) into the cache whatever the pattern (POSIX_FADV_WILLNEED).
 *
 * Shape:   starts the reads; stops early where memory runs out, at the end of the file and at a quarter of the memory budget.
 * Blocks:  for the invalidate lock, which the caller does not hold, and for what the filesystem waits for to start a read.
 */
export function forceReadahead(mapping: AddressSpace, start: number, length: number): MaybePromise<void> {
  const first = Math.floor(start / PAGE_SIZE);
  const pages = Math.min(
    Math.ceil((start + length) / PAGE_SIZE) - first,
    Math.floor(mapping.cache.memory.budget / FORCE_SHARE / PAGE_SIZE),
  );
  return pages > 0 ? run(fillGaps(mapping, first, first + pages)) : undefined;
}

function* fillGaps(mapping: AddressSpace, first: number, end: number): Task<void> {
  yield* wait(mapping.invalidateLock.lockShared());
  try {
    for (let index = first; index < end; ) {
      const missing = firstMissing(mapping, index, end - 1);
      if (missing < 0) return;
      yield* wait(readPages(mapping, missing, end - missing, orderOf(end - missing), -1, false));
      const folio = mapping.folios.load(missing);
      if (folio === undefined) return; // end of the file, or no memory
      index = folio.index + folio.pages;
    }
  } finally {
    mapping.invalidateLock.unlockShared();
  }
}

function windowMax(mapping: AddressSpace, ra: ReadaheadState, count: number): number {
  const pages = Math.floor(mapping.bdi.readaheadMax / PAGE_SIZE);
  const max = ra.hint === 'sequential' ? pages * 2 : pages;
  const optimal = Math.floor(mapping.bdi.ioOptimal / PAGE_SIZE);
  return count > max ? Math.max(max, Math.min(count, optimal)) : max;
}

function firstWindow(count: number, max: number): number {
  let size = isPowerOfTwo(count) ? count : 2 ** (log2Floor(count) + 1);
  if (size <= max / 32) size *= 4;
  else if (size <= max / 4) size *= 2;
  else size = max;
  return size;
}

function nextWindow(size: number, max: number): number {
  if (size < max / 16) return size * 4;
  return size <= max / 2 ? size * 2 : max;
}

function orderOf(pages: number): number {
  return pages <= 1 ? 0 : log2Floor(pages);
}

/** Pages cached without a gap before `index`, at most `max`. */
function cachedBefore(mapping: AddressSpace, index: number, max: number): number {
  let at = index;
  while (at > 0 && index - at < max) {
    const folio = mapping.folios.load(at - 1);
    if (folio === undefined) break;
    at = folio.index;
  }
  return Math.min(index - at, max);
}

/** The first page of [from, to] that is not cached, or -1. */
function firstMissing(mapping: AddressSpace, from: number, to: number): number {
  for (let at = from; at <= to; ) {
    const folio = mapping.folios.load(at);
    if (folio === undefined) return at;
    at = folio.index + folio.pages;
  }
  return -1;
}

function submitWindow(mapping: AddressSpace, ra: ReadaheadState, dontcache: boolean): MaybePromise<void> {
  ra.order = Math.min(ra.order, mapping.orderMax, orderOf(Math.max(ra.size, 1)));
  return readPages(mapping, ra.start, ra.size, ra.order, ra.start + ra.size - ra.asyncSize, dontcache);
}

/** Makes folios for pages that are not cached yet, up to the first that is, and has them filled. `mark` is the page whose reader goes on. */
function readPages(
  mapping: AddressSpace,
  start: number,
  count: number,
  orderWanted: number,
  mark: number,
  dontcache: boolean,
): MaybePromise<void> {
  if (mapping.ops.readahead === undefined) return; // nobody would take them
  const endOfFile = Math.ceil(mapping.host.size / PAGE_SIZE);
  const end = Math.min(start + count, endOfFile);
  const folios: Folio[] = [];
  for (let index = start; index < end; ) {
    // Naturally aligned, inside the window.
    let order = Math.min(orderWanted, mapping.orderMax);
    while (order > mapping.orderMin && (index % 2 ** order !== 0 || index + 2 ** order > end)) order--;
    let folio: Folio | undefined;
    order = Math.max(order, mapping.orderMin);
    for (; folio === undefined && order >= mapping.orderMin; order--)
      folio = mapping.tryCreateOrder(index, order, order === mapping.orderMin);
    if (folio === undefined) break; // cached already, or no memory: the reader comes back for it
    if (dontcache) folio.setDropbehind(true);
    if (mark >= folio.index && mark < folio.index + folio.pages) folio.setReadaheadMark(true);
    folios.push(folio);
    index = folio.index + folio.pages;
  }
  return folios.length === 0 ? undefined : run(fill(new ReadaheadControl(mapping, folios)));
}

/** Errors end readahead silently: the reader comes back for the folio, and gets them. */
function* fill(control: ReadaheadControl): Task<void> {
  try {
    yield* wait(control.mapping.ops.readahead?.(control));
  } catch (error) {
    if (error instanceof AssertionError) throw error;
  } finally {
    dropRest(control);
  }
}

function dropRest(control: ReadaheadControl): void {
  for (const folio of control.rest) {
    assert(folio.mapping === control.mapping, 'a readahead folio left the cache while it was locked');
    control.mapping.remove(folio);
    folio.unlock();
    folio.put();
  }
}
