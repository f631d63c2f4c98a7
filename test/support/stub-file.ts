import type { Clock } from '../../src/base/clock.ts';
import { type MaybePromise, run, type Task, wait } from '../../src/base/task.ts';
import { AddressSpace, type AddressSpaceOps, type MappingHost, TAG_DIRTY, TAG_TOWRITE } from '../../src/pagecache/address-space.ts';
import { BackingDevice, type BackingDeviceOptions, WB_SYNC_ALL, type WritebackControl } from '../../src/pagecache/backing-device.ts';
import type { Folio } from '../../src/pagecache/folio.ts';
import { PageCache, type PageCacheOptions } from '../../src/pagecache/page-cache.ts';
import { PAGE_SIZE } from '../../src/pagecache/page-memory.ts';
import type { ReadaheadControl } from '../../src/pagecache/readahead.ts';

/** Time that moves when a test says so; a yield is a real turn of the event loop. */
export class ManualClock implements Clock {
  #now = 0;
  #timers: { due: number; fire: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  yield(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  timer(delayMs: number, fire: () => void): () => void {
    const timer = { due: this.#now + delayMs, fire };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  get timerCount(): number {
    return this.#timers.length;
  }

  /** Fires what becomes due, in order; work that a timer starts gets a few turns before the next. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.#now = Math.max(this.#now, next.due);
      next.fire();
      await turns();
    }
    this.#now = end;
    await turns();
  }
}

/** Lets the event loop go round, with all microtasks between. */
export async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** True if the promise is settled after a few turns. */
export async function settles(promise: unknown, count = 5): Promise<boolean> {
  let settled = false;
  const note = (): void => {
    settled = true;
  };
  Promise.resolve(promise).then(note, note);
  await turns(count);
  return settled;
}

/** Requests that end when the test says so, first come, first served. */
export class HeldRequests {
  readonly #fires: (() => void)[] = [];

  get count(): number {
    return this.#fires.length;
  }

  readonly post = (fire: () => void): void => {
    this.#fires.push(fire);
  };

  endOne(): boolean {
    const fire = this.#fires.shift();
    fire?.();
    return fire !== undefined;
  }

  endAll(): void {
    while (this.endOne());
  }
}

export interface StubRequest {
  readonly op: 'read' | 'write';
  readonly pos: number;
  readonly length: number;
}

export interface StubFileOptions {
  size?: number;
  orderMin?: number;
  orderMax?: number;
  stableWrites?: boolean;
  /** Takes requests to end them later. Default: they end at once. */
  post?: (fire: () => void) => void;
  /** Folios are read one by one. */
  noReadahead?: boolean;
}

/** Byte `pos` of a file that nobody wrote to. Not periodic in pages, so that a folio in the wrong place shows. */
export function patternByte(pos: number): number {
  return patternPage(Math.floor(pos / PAGE_SIZE))[pos % PAGE_SIZE] as number;
}

const patternPages: Uint8Array[] = [];

function patternPage(page: number): Uint8Array {
  const first = (page * 7 + Math.floor(page / 251) + 1) % 256;
  patternPages[first] ??= Uint8Array.from({ length: PAGE_SIZE }, (_, i) => first + i * 13);
  return patternPages[first];
}

/**
 * A file for tests of the cache alone. Its storage is a pattern and the pages written since; reads, readahead and writeback are the
 * simplest that keep the contract of AddressSpaceOps: whole folios, no blocks.
 */
export class StubFile implements MappingHost, AddressSpaceOps {
  size: number;
  readonly mapping: AddressSpace;
  readonly requests: StubRequest[] = [];
  /** Requests that have not ended. */
  inFlight = 0;
  /** Which requests fail with EIO. */
  fails: (request: StubRequest) => boolean = () => false;
  /** What writepages was asked to do. */
  readonly passes: WritebackControl[] = [];
  readonly readahead: NonNullable<AddressSpaceOps['readahead']>;
  readonly #written = new Map<number, Uint8Array>();
  readonly #post: ((fire: () => void) => void) | undefined;

  constructor(bdi: BackingDevice, options: StubFileOptions = {}) {
    this.size = options.size ?? 2 ** 20;
    this.#post = options.post;
    const { orderMin, orderMax, stableWrites } = options;
    this.readahead = (control) => this.#readahead(control);
    const ops: AddressSpaceOps = {
      readFolio: (_, folio) => this.#read(folio, () => {}),
      writepages: (_, wbc) => this.writepages(this.mapping, wbc),
    };
    if (options.noReadahead !== true) ops.readahead = this.readahead;
    this.mapping = new AddressSpace(bdi.cache, bdi, this, {
      ops,
      ...(orderMin !== undefined && { orderMin }),
      ...(orderMax !== undefined && { orderMax }),
      ...(stableWrites !== undefined && { stableWrites }),
    });
  }

  /** Requests of one kind as [first page, pages]. */
  pagesOf(op: StubRequest['op']): [number, number][] {
    return this.requests.filter((each) => each.op === op).map(({ pos, length }) => [pos / PAGE_SIZE, length / PAGE_SIZE]);
  }

  /** What storage holds of [pos, pos + length), whatever is cached. */
  stored(pos: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let at = pos; at < pos + length; ) {
      const page = Math.floor(at / PAGE_SIZE);
      const count = Math.min(PAGE_SIZE - (at % PAGE_SIZE), pos + length - at);
      const bytes = this.#written.get(page) ?? patternPage(page);
      out.set(bytes.subarray(at % PAGE_SIZE, (at % PAGE_SIZE) + count), at - pos);
      at += count;
    }
    return out;
  }

  /** Writes whole folios of one byte through the cache, as far as [pos, pos + length) reaches. */
  *write(pos: number, length: number, value: number, flags = 0): Task<void> {
    const end = pos + length;
    for (let at = pos; at < end; ) {
      const throttled = this.mapping.cache.balanceDirty(this.mapping);
      if (throttled !== undefined) yield throttled;
      const folio = yield* wait(this.mapping.getFolio(at, end - at, flags));
      folio.bytes(0, folio.size).fill(value);
      folio.markUptodate();
      this.mapping.setDirty(folio);
      this.size = Math.max(this.size, Math.min(folio.end, end));
      at = folio.end;
      folio.unlock();
      folio.put();
    }
  }

  /** write(), for tests in which nothing waits. */
  dirty(pos: number, length: number, value = 1, flags = 0): void {
    const done: MaybePromise<void> = run(this.write(pos, length, value, flags));
    if (done !== undefined) throw new Error('the write had to wait');
  }

  #read(folio: Folio, then: () => void): void {
    const request: StubRequest = { op: 'read', pos: folio.pos, length: folio.size };
    this.#submit(request, (ok) => {
      if (ok) {
        const bytes = folio.bytes(0, folio.size);
        bytes.set(this.stored(folio.pos, folio.size));
        if (folio.end > this.size) bytes.fill(0, Math.max(0, this.size - folio.pos));
      }
      folio.endRead(ok && !folio.isUptodate);
      then();
    });
  }

  #readahead(control: ReadaheadControl): void {
    for (let folio = control.nextFolio(); folio !== undefined; folio = control.nextFolio()) {
      const taken = folio;
      this.#read(taken, () => taken.put());
    }
  }

  #submit(request: StubRequest, end: (ok: boolean) => void): void {
    this.requests.push(request);
    this.inFlight++;
    const fire = (): void => {
      this.inFlight--;
      end(!this.fails(request));
    };
    if (this.#post === undefined) fire();
    else this.#post(fire);
  }

  writepages(mapping: AddressSpace, wbc: WritebackControl): MaybePromise<void> {
    this.passes.push(wbc);
    return run(this.#writepages(mapping, wbc));
  }

  *#writepages(mapping: AddressSpace, wbc: WritebackControl): Task<void> {
    const isIntegrity = wbc.syncMode === WB_SYNC_ALL;
    if (isIntegrity) {
      for (
        let folio = mapping.next(wbc.start, wbc.end, TAG_DIRTY);
        folio !== undefined;
        folio = mapping.next(folio.end, wbc.end, TAG_DIRTY)
      ) {
        mapping.folios.setTag(folio, TAG_TOWRITE);
      }
    }
    const cyclic = wbc.rangeCyclic ? mapping.writebackIndex * PAGE_SIZE : wbc.start;
    const spans = cyclic > wbc.start ? [[cyclic, wbc.end] as const, [wbc.start, cyclic] as const] : [[wbc.start, wbc.end] as const];
    for (const [start, end] of spans) {
      for (let at = start; ; ) {
        const folio = mapping.next(at, end, isIntegrity ? TAG_TOWRITE : TAG_DIRTY);
        if (folio === undefined) break;
        at = folio.end;
        if (wbc.onlyDropbehind && !folio.isDropbehind) continue;
        folio.get();
        yield* wait(folio.lock());
        if (folio.mapping === mapping && folio.isDirty && (isIntegrity || !folio.isWriteback)) {
          yield* wait(folio.waitWriteback());
          if (mapping.clearDirtyForIo(folio)) this.#send(folio, wbc);
        }
        folio.unlock();
        folio.put();
        if (wbc.nrToWrite <= 0) {
          if (wbc.rangeCyclic) mapping.writebackIndex = folio.index + folio.pages;
          return;
        }
      }
    }
    if (wbc.rangeCyclic) mapping.writebackIndex = 0;
  }

  #send(folio: Folio, wbc: WritebackControl): void {
    const { mapping } = this;
    mapping.startWriteback(folio);
    wbc.nrToWrite -= folio.pages;
    const data = folio.bytes(0, folio.size).slice();
    const first = folio.index;
    this.#submit({ op: 'write', pos: folio.pos, length: folio.size }, (ok) => {
      if (ok) {
        for (let page = 0; page < data.length / PAGE_SIZE; page++)
          this.#written.set(first + page, data.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE));
      } else mapping.setError(-5);
      mapping.endWriteback(folio);
    });
  }
}

/** A cache, its clock, and one device, for tests that need no more. */
export function stubCache(
  options: PageCacheOptions = {},
  deviceOptions: BackingDeviceOptions = {},
): { cache: PageCache; bdi: BackingDevice; clock: ManualClock } {
  const clock = new ManualClock();
  const cache = new PageCache({ clock, ...options });
  return { cache, bdi: new BackingDevice(cache, deviceOptions), clock };
}

/** Folios of a mapping as [first page, order]. */
export function foliosOf(mapping: AddressSpace): [number, number][] {
  const found: [number, number][] = [];
  for (
    let folio = mapping.next(0, Number.POSITIVE_INFINITY);
    folio !== undefined;
    folio = mapping.next(folio.end, Number.POSITIVE_INFINITY)
  ) {
    found.push([folio.index, folio.order]);
  }
  return found;
}

/**
 * Checks what must hold of a cache and all its files whenever no task is inside it: budget, counters, tags, references.
 *
 * `idle`: nothing is in flight, so that no folio may be held or locked.
 */
export function checkCache(cache: PageCache, mappings: readonly AddressSpace[], idle: boolean): void {
  const sums = { cached: 0, dirty: 0, writeback: 0, folios: 0 };
  const byDevice = new Map<BackingDevice, { dirty: number; writeback: number }>();
  for (const mapping of mappings) {
    const own = { cached: 0, dirty: 0, writeback: 0 };
    for (
      let folio = mapping.next(0, Number.POSITIVE_INFINITY);
      folio !== undefined;
      folio = mapping.next(folio.end, Number.POSITIVE_INFINITY)
    ) {
      expect(folio.mapping === mapping, 'a folio in the tree belongs to another mapping');
      expect(mapping.folios.hasTag(folio, TAG_DIRTY) === folio.isDirty, `dirty tag of page ${folio.index}`);
      expect(mapping.folios.hasTag(folio, 1) === folio.isWriteback, `writeback tag of page ${folio.index}`);
      if (idle)
        expect(
          !folio.isLocked && folio.refs === 0 && !folio.isWriteback,
          `page ${folio.index}: refs ${folio.refs}, locked ${folio.isLocked}`,
        );
      own.cached += folio.size;
      if (folio.isDirty) own.dirty += folio.size;
      if (folio.isWriteback) own.writeback += folio.size;
      sums.folios++;
    }
    expect(own.cached === mapping.cachedBytes, `cachedBytes ${mapping.cachedBytes}, folios have ${own.cached}`);
    expect(own.dirty === mapping.dirtyBytes, `dirtyBytes ${mapping.dirtyBytes}, folios have ${own.dirty}`);
    expect(own.writeback === mapping.writebackBytes, `writebackBytes ${mapping.writebackBytes}, folios have ${own.writeback}`);
    expect(mapping.bdi.dirtyMappings.has(mapping) === mapping.isDirty, 'dirtyMappings holds exactly the files with dirty folios');
    sums.cached += own.cached;
    sums.dirty += own.dirty;
    sums.writeback += own.writeback;
    const device = byDevice.get(mapping.bdi) ?? { dirty: 0, writeback: 0 };
    byDevice.set(mapping.bdi, { dirty: device.dirty + own.dirty, writeback: device.writeback + own.writeback });
  }
  for (const [bdi, { dirty, writeback }] of byDevice) {
    expect(
      bdi.dirtyBytes === dirty && bdi.writebackBytes === writeback,
      `device has ${bdi.dirtyBytes}, ${bdi.writebackBytes}; folios ${dirty}, ${writeback}`,
    );
  }
  expect(cache.dirtyBytes === sums.dirty && cache.writebackBytes === sums.writeback, 'counters of the cache');
  expect(cache.memory.used <= cache.memory.budget, 'the budget');
  if (idle) {
    expect(cache.memory.used === sums.cached, `memory in use ${cache.memory.used}, folios have ${sums.cached}: a leak`);
    expect(cache.folioCount === sums.folios, `list has ${cache.folioCount} folios, trees have ${sums.folios}`);
  }
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`cache: ${what}`);
}
