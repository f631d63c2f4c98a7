import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BLOCK_SIZE,
  buffersOf,
  HOME_BLOCKS,
  journalOptions,
  locate,
  makeVolume,
  now,
  recoverVolume,
} from '../../test/support/journal-world.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import type { Clock } from '../base/clock.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { run, type Task, wait } from '../base/task.ts';
import { REQ_OP_FLUSH, REQ_OP_WRITE } from '../block/bio.ts';
import { type BlockDevice, flushDevice, writeDevice } from '../block/block-device.ts';
import type { BufferHead } from '../block/buffer-cache.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import type { MemoryDevice } from '../block/memory-device.ts';
import { RecordingDevice } from '../block/recording-device.ts';
import { SimulatedDevice } from '../block/simulated-device.ts';
import { Journal, type JournalOptions } from './journal.ts';
import type { JournalSuperblock } from './journal-format.ts';
import type { Handle } from './log.ts';

/** Blocks that random changes are made to. */
const WORLD_BLOCKS = 100;

/** What a block of the volume is for: metadata with this content, or file data of this number. */
type Content = { readonly meta: Uint8Array } | { readonly data: number };

const MAGIC = [0xc0, 0x3b, 0x39, 0x98];

/** Random changes through a journal, and what the volume has after each transaction. */
class World {
  readonly bdev: BlockDevice;
  readonly journal: Journal;
  readonly prng: Prng;
  readonly mark: (label: string) => void;
  readonly content: Content[];
  /** By the last transaction that is there. */
  readonly states = new Map<number, readonly Content[]>();
  readonly data = new Map<number, Uint8Array>();
  /** Freed blocks that may be used for data. */
  readonly free: number[] = [];
  #dataCount = 0;

  /** `journal`: for a device that does not complete inside submit(), as load() makes it. */
  constructor(
    bdev: BlockDevice,
    base: MemoryDevice,
    prng: Prng,
    mark: (label: string) => void,
    options: Partial<JournalOptions>,
    journal?: Journal,
  ) {
    this.bdev = bdev;
    this.prng = prng;
    this.mark = mark;
    this.content = Array.from({ length: WORLD_BLOCKS }, (_, block) => ({ meta: base.read(block * BLOCK_SIZE, BLOCK_SIZE) }));
    this.states.set(1, [...this.content]);
    const hooks = { beforeCommit: () => this.note() };
    this.journal = journal ?? now(Journal.load(buffersOf(bdev, 40 * BLOCK_SIZE), { ...journalOptions(bdev), hooks, ...options }));
  }

  static async load(
    bdev: BlockDevice,
    base: MemoryDevice,
    prng: Prng,
    mark: (label: string) => void,
    options: Partial<JournalOptions>,
  ): Promise<World> {
    let world: World | undefined;
    const hooks = { beforeCommit: () => world?.note() };
    const journal = await Journal.load(buffersOf(bdev, 40 * BLOCK_SIZE), { ...journalOptions(bdev), hooks, ...options });
    world = new World(bdev, base, prng, mark, options, journal);
    return world;
  }

  /** A transaction is closed with this. */
  note(): void {
    this.states.set(this.journal.runningTid, [...this.content]);
  }

  bytes(): Uint8Array {
    const bytes = this.prng.bytes(BLOCK_SIZE);
    if (this.prng.chance(0.2)) bytes.set(MAGIC);
    return bytes;
  }

  *change(handle: Handle, count: number): Task<void> {
    const before = [...this.content];
    const { journal, prng } = this;
    for (let i = 0; i < count; i++) {
      const block = prng.below(WORLD_BLOCKS);
      const content = this.content[block] as Content;
      const bytes = this.bytes();
      if ('data' in content) {
        // Data becomes metadata only when it is nobody's data any more: the block is not in `free`.
        if (this.free.includes(block) || !this.data.has(content.data)) continue;
        handle.getCreateAccess(block).data.set(bytes);
        this.content[block] = { meta: bytes };
      } else if (prng.chance(0.2)) {
        handle.forget(block);
        // Where it is said that the block is free.
        handle.getCreateAccess(WORLD_BLOCKS);
        const number = this.#dataCount++;
        this.content[block] = { data: number };
        if (prng.chance(0.3)) {
          handle.getCreateAccess(block).data.set(bytes);
          this.content[block] = { meta: bytes };
        } else {
          handle.onCommit(() => this.free.push(block));
        }
      } else {
        const bh = yield* wait(journal.buffers.read(block));
        assert.deepEqual(bh.data, content.meta, `block ${block} in core`);
        handle.getWriteAccess(bh).set(bytes);
        this.content[block] = { meta: bytes };
      }
    }
    if (prng.chance(0.15)) {
      handle.rollback();
      before.forEach((content, block) => {
        this.content[block] = content;
      });
      return;
    }
    handle.isSync = prng.chance(0.1);
    const { tid, isSync } = handle;
    yield* wait(handle.stop());
    if (isSync && this.journal.isCommitted(tid)) this.mark(`committed ${tid}`);
  }

  *step(): Task<void> {
    const { journal, prng } = this;
    const choice = prng.below(100);
    if (choice < 55) {
      const handle = yield* wait(journal.start(61));
      yield* this.change(handle, prng.between(1, prng.chance(0.1) ? 60 : 5));
    } else if (choice < 75) {
      const tid = journal.runningTid;
      yield* wait(journal.commit(tid));
      // Nothing is promised of a transaction that nothing is in.
      if (journal.isCommitted(tid)) this.mark(`committed ${tid}`);
    } else if (choice < 78) {
      const tid = journal.runningTid;
      yield* wait(journal.checkpoint());
      // Nothing is promised of a transaction that nothing is in.
      if (journal.isCommitted(tid)) this.mark(`committed ${tid}`);
    } else {
      const block = this.free.pop();
      if (block === undefined) return;
      const content = this.content[block] as { data: number };
      const bytes = this.bytes();
      yield* wait(writeDevice(this.bdev, block * BLOCK_SIZE, bytes));
      yield* wait(flushDevice(this.bdev));
      this.data.set(content.data, bytes);
      this.mark(`data ${content.data}`);
    }
  }

  /** Recovers a device after a power cut, and compares. */
  check(image: MemoryDevice, marks: readonly string[]): number {
    const { lastTid } = recoverVolume(image);
    const known = new Set(marks);
    const promised = marks.filter((mark) => mark.startsWith('committed ')).map((mark) => Number(mark.slice(10)));
    for (const tid of promised) if (this.states.has(tid)) assert(tid <= lastTid, `transaction ${tid} is there, the last is ${lastTid}`);
    const state = this.states.get(Math.max(1, lastTid)) as readonly Content[];
    assert(state !== undefined, `a state after transaction ${lastTid}`);
    state.forEach((content, block) => {
      const there = image.read(block * BLOCK_SIZE, BLOCK_SIZE);
      if ('meta' in content) assert.deepEqual(there, content.meta, `block ${block} after transaction ${lastTid}`);
      else if (known.has(`data ${content.data}`)) assert.deepEqual(there, this.data.get(content.data), `data in block ${block}`);
    });
    return lastTid;
  }
}

const FORMATS: Record<string, { fields: Partial<JournalSuperblock>; options: Partial<JournalOptions> }> = {
  'no checksums': { fields: {}, options: {} },
  '64bit': { fields: {}, options: { is64bit: true } },
  'checksums of version 1': { fields: {}, options: { hasJournalChecksum: true } },
  'checksums of version 2': { fields: { s_feature_incompat: 8, s_checksum_type: 4 }, options: {} },
  'checksums of version 2, 64bit': { fields: { s_feature_incompat: 8, s_checksum_type: 4 }, options: { is64bit: true } },
  'checksums of version 3': { fields: {}, options: { hasMetadataCsum: true } },
  'checksums of version 3, 64bit': { fields: {}, options: { hasMetadataCsum: true, is64bit: true } },
};

/** A volume with random content, whose log begins anywhere. */
function randomVolume(prng: Prng, fields: Partial<JournalSuperblock> = {}): MemoryDevice {
  const base = makeVolume({ ...fields, s_head: prng.pick([0, 1, 1000, 1020]) });
  for (let block = 0; block < WORLD_BLOCKS; block++) base.write(block * BLOCK_SIZE, prng.bytes(BLOCK_SIZE));
  return base;
}

/** Looks at states that a power cut may leave. Shape: how many different transactions were the last. */
function checkStates(world: World, bdev: RecordingDevice, prng: Prng): number {
  const seen = new Set<number>();
  for (const state of bdev.crashStates(prng, { cutsMax: 60, statesPerCut: 6 })) {
    try {
      seen.add(world.check(state.materialise(), state.marks));
    } catch (error) {
      throw new Error(`${state.text}: ${String(error)}`, { cause: error });
    }
  }
  return seen.size;
}

for (const [name, { fields, options }] of Object.entries(FORMATS)) {
  test(`a power cut leaves the state after a transaction that is at least the last promised one: ${name}`, () =>
    forEachSeed(name, 2, (prng) => {
      const base = randomVolume(prng, fields);
      const bdev = new RecordingDevice(base);
      const world = new World(bdev, base, prng, (label) => bdev.mark(label), options);
      for (let i = 0; i < 150; i++) now(run(world.step()));
      now(world.journal.close());
      bdev.mark(`committed ${world.journal.runningTid - 1}`);
      assert(checkStates(world, bdev, prng) > 5);
    }));
}

test('so it does while many change the volume at once, on a device that completes in any order', () =>
  forEachSeed('at once', 6, async (prng) => {
    const base = randomVolume(prng);
    const simulated = new SimulatedDevice({ size: base.size, prng, base, hasVolatileCache: true, hasFua: prng.chance(0.5) });
    const bdev = new RecordingDevice(simulated, base);
    const world = await pump(simulated, () => World.load(bdev, base, prng, (label) => bdev.mark(label), { hasMetadataCsum: true }));
    const actor = async (): Promise<void> => {
      for (let i = 0; i < 40; i++) await run(world.step());
    };
    await pump(simulated, () => Promise.all([actor(), actor(), actor(), actor()]));
    await pump(simulated, async () => world.journal.close());
    bdev.mark(`committed ${world.journal.runningTid - 1}`);
    assert.deepEqual(bdev.unstableWrites, [], 'memory that changed while it was written');
    assert(checkStates(world, bdev, prng) > 3);
  }));

/** Lets a device complete one request a turn, until the action is done. */
async function pump<T>(bdev: SimulatedDevice, action: () => Promise<T>): Promise<T> {
  let isDone = false;
  const done = action().finally(() => {
    isDone = true;
  });
  done.catch(() => {});
  while (!isDone) {
    bdev.step();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return done;
}

test('a log that goes around many times keeps what was committed', () =>
  forEachSeed('around', 3, (prng) => {
    const bdev = randomVolume(prng);
    const marks: string[] = [];
    const world = new World(bdev, bdev, prng, (label) => marks.push(label), { is64bit: true });
    let wraps = 0;
    let start = 0;
    for (let i = 0; i < 4000; i++) {
      now(run(world.step()));
      if (i % 10 !== 0) continue;
      const { sb } = now(locate(bdev).readSuperblock());
      const at = sb.s_start === 0 ? sb.s_head : sb.s_start;
      if (at < start) wraps++;
      start = at;
      if (i % 50 === 0) world.check(bdev.snapshot(), marks);
    }
    assert(wraps > 1, `${wraps} wraps`);
  }));

test('errors of the device abort the log, and leave the state after a transaction that is at least the last promised one', () =>
  forEachSeed('errors', 12, (prng) => {
    const base = randomVolume(prng);
    const faulty = new FaultyDevice(base, prng.fork());
    const bdev = new RecordingDevice(faulty, base);
    const world = new World(bdev, base, prng, (label) => bdev.mark(label), { hasMetadataCsum: true });
    faulty.inject({ ops: ['write', 'flush'], skip: prng.below(60), times: prng.between(1, 3), errno: 'EIO', isTorn: true });
    let failure: unknown;
    for (let i = 0; i < 300 && failure === undefined; i++) {
      try {
        now(run(world.step()));
      } catch (error) {
        failure = error;
      }
    }
    assert(hasCode(failure, 'EIO'), String(failure));
    const { journal } = world;
    if (journal.aborted === undefined) return; // It was file data that could not be written.
    assert.throws(
      () => journal.start(1),
      (error) => hasCode(error, 'EROFS'),
    );
    now(journal.close());
    checkStates(world, bdev, prng);
  }));

/** Time that a test moves. */
class TestClock implements Clock {
  readonly #timers: { at: number; fire: () => void }[] = [];
  #now = 0;

  now(): number {
    return this.#now;
  }

  async yield(): Promise<void> {}

  timer(delayMs: number, fire: () => void): () => void {
    const timer = { at: this.#now + delayMs, fire };
    this.#timers.push(timer);
    return () => void this.#timers.splice(this.#timers.indexOf(timer), 1);
  }

  get pending(): number {
    return this.#timers.length;
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers.filter(({ at }) => at <= this.#now)) {
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      timer.fire();
    }
  }
}

function change(journal: Journal, blocks: Iterable<number>, credits = 10): number {
  const handle = now(journal.start(credits)) as Handle;
  for (const block of blocks) handle.getCreateAccess(block).data.fill(block);
  now(handle.stop());
  return handle.tid;
}

test('a change is committed after the interval, and when it is quiet the log is emptied', () => {
  const bdev = makeVolume();
  const clock = new TestClock();
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), clock, commitIntervalMs: 5000 }));
  assert.equal(clock.pending, 0);
  const tid = change(journal, [3]);
  clock.advance(4999);
  assert.equal(journal.isCommitted(tid), false);
  clock.advance(1);
  assert.equal(journal.isCommitted(tid), true);
  assert.equal(bdev.read(3 * BLOCK_SIZE, 1)[0], 0);
  clock.advance(5000);
  assert.equal(bdev.read(3 * BLOCK_SIZE, 1)[0], 3);
  const { sb } = now(locate(bdev).readSuperblock());
  assert.deepEqual([sb.s_start, sb.s_sequence], [0, tid + 1]);
  assert.equal(clock.pending, 0);
});

test('a closed log is empty, says where the next transaction goes, and leaves no timer', () => {
  const bdev = makeVolume();
  const clock = new TestClock();
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), clock }));
  const tid = change(journal, [3, 4]);
  now(journal.close());
  assert.equal(clock.pending, 0);
  const { sb } = now(locate(bdev).readSuperblock());
  assert.deepEqual([sb.s_start, sb.s_sequence, sb.s_head, sb.s_errno], [0, tid + 1, 5, 0]);
  const again = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  assert(again.runningTid > tid);
});

test('a handle that does not fit the transaction commits it first', () => {
  const bdev = makeVolume();
  const journal = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  const numbers = Array.from({ length: 300 }, (_, block) => block);
  const first = change(journal, numbers.slice(0, 100), 100);
  assert.equal(change(journal, numbers.slice(100, 200), 100), first);
  assert.equal(journal.isCommitted(first), false);
  const handle = now(journal.start(40)) as Handle;
  assert.equal(handle.tid, first);
  assert.equal(handle.extend(100), false);
  assert.equal(handle.extend(5), true);
  handle.rollback();
  assert(change(journal, numbers.slice(200, 300), 100) > first);
  assert.equal(journal.isCommitted(first), true);
});

test('a transaction of as many blocks as a handle may have fits', () => {
  const bdev = makeVolume();
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hasMetadataCsum: true }));
  assert(journal.creditsMax > 240 && journal.creditsMax < 256, `${journal.creditsMax}`);
  const blocks = Array.from({ length: journal.creditsMax }, (_, block) => block);
  change(journal, blocks, journal.creditsMax);
  assert.equal(now(journal.commit()), true);
  assert.equal(recoverVolume(bdev).replayed, blocks.length);
});

test('a transaction that does not fit what is left of the log makes room before', () =>
  forEachSeed('room', 2, (prng) => {
    const bdev = new RecordingDevice(makeVolume());
    let late = 0;
    const hooks = {
      beforeCommit(access: (bh: BufferHead) => Uint8Array): void {
        for (let block = 0; block < late; block++) access(now(journal.buffers.read(block))).fill(255);
      },
    };
    const journal: Journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hasMetadataCsum: true, hooks }));
    const blocks = Array.from({ length: 230 }, (_, block) => block);
    for (const round of ['first', 'second']) {
      change(journal, blocks, 230);
      now(journal.commit());
      bdev.mark(round);
    }
    late = HOME_BLOCKS;
    change(journal, [3]);
    now(journal.commit());
    bdev.mark('third');
    for (const state of bdev.crashStates(prng, { cutsMax: 40, statesPerCut: 4 })) {
      const image = state.materialise();
      recoverVolume(image);
      const kinds = new Set(
        blocks.slice(4).map((block) => ({ 0: 'nothing', 255: 'third', [block]: 'first' })[image.read(block * BLOCK_SIZE, 1)[0] as number]),
      );
      assert.equal(kinds.size, 1, state.text);
      const [kind] = kinds;
      assert(
        kind !== undefined && (kind !== 'nothing' || state.marks.length === 0) && (kind === 'third' || !state.marks.includes('third')),
        state.text,
      );
    }
  }));

test('a transaction that no log has room for aborts it', () => {
  const bdev = makeVolume();
  const hooks = {
    beforeCommit(access: (bh: BufferHead) => Uint8Array): void {
      for (let block = 0; block < HOME_BLOCKS + 500; block++) access(now(journal.buffers.read(block)));
    },
  };
  const journal: Journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hooks }));
  change(journal, [3]);
  assert.throws(
    () => journal.commit(),
    (error) => hasCode(error, 'EIO'),
  );
  assert(hasCode(journal.aborted, 'ENOSPC'));
});

test('those who want the same transaction share its commit, and whoever comes behind its flush is told', async () => {
  const base = makeVolume();
  const bdev = new SimulatedDevice({ size: base.size, prng: new Prng(1), base, hasVolatileCache: true, hasFua: true });
  const journal = await pump(bdev, async () => Journal.load(buffersOf(bdev), journalOptions(bdev)));
  const tid = change(journal, [3]);
  const commits = [journal.commit(tid), journal.commit(), journal.commit(tid)];
  // Superblock, log, then the commit block, which is under way now.
  for (let i = 0; i < 2; i++) {
    bdev.step();
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  }
  const late = journal.commit(tid);
  change(journal, [4]);
  const next = journal.commit();
  assert.deepEqual(await pump(bdev, () => Promise.all([...commits, late, next])), [true, true, true, false, true]);
  assert.equal(journal.runningTid, tid + 2);
});

test('the log of a commit is flushed before its commit block, which is durable itself', () => {
  const base = makeVolume();
  const bdev = new RecordingDevice(base);
  const journal = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  change(journal, [3]);
  now(journal.commit());
  change(journal, [4]);
  const before = bdev.log.entries.length;
  now(journal.commit());
  const entries = bdev.log.entries.slice(before).map(({ op, flags, length }) => ({ op, flags: flags & 3, length }));
  assert.deepEqual(entries, [
    { op: REQ_OP_WRITE, flags: 0, length: 2 * BLOCK_SIZE },
    { op: REQ_OP_WRITE, flags: 3, length: BLOCK_SIZE },
  ]);
});

test('an asynchronous commit costs one flush, and a torn one is found', () =>
  forEachSeed('asynchronous', 10, (prng) => {
    const base = makeVolume();
    const bdev = new RecordingDevice(base);
    const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hasMetadataCsum: true, isAsync: true }));
    for (let round = 1; round <= 4; round++) {
      const handle = now(journal.start(10)) as Handle;
      for (let block = 0; block < 5; block++) handle.getCreateAccess(block).data.fill(round);
      now(handle.stop());
      now(journal.commit());
      bdev.mark(`${round}`);
    }
    assert.equal(bdev.log.entries.filter(({ op }) => op === REQ_OP_FLUSH).length, 4);
    for (const state of bdev.crashStates(prng, { statesPerCut: 8 })) {
      const image = state.materialise();
      try {
        recoverVolume(image);
      } catch (error) {
        assert(hasCode(error, 'EBADMSG'), String(error));
        continue;
      }
      const rounds = new Set(Array.from({ length: 5 }, (_, block) => image.read(block * BLOCK_SIZE, BLOCK_SIZE)[9]));
      assert.equal(rounds.size, 1, state.text);
      assert(([...rounds][0] as number) >= Number(state.marks.at(-1) ?? 0), state.text);
    }
  }));

test('an abort is recorded, and the next mount hears of it until it says so', () => {
  const bdev = makeVolume();
  const journal = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  change(journal, [3]);
  now(journal.commit());
  change(journal, [3]);
  journal.abort(new FsError('EUCLEAN', 'ext4'));
  now(journal.close());
  const result = recoverVolume(bdev);
  assert.deepEqual([result.errno, result.transactions], [-117, 1]);
  const again = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  assert.equal(again.errno, -117);
  now(again.clearErrno());
  assert.equal(now(Journal.load(buffersOf(bdev), journalOptions(bdev))).errno, 0);
});

test('a log that is not empty, or has features that only readers may ignore, is not loaded', () => {
  for (const [fields, code] of [
    [{ s_start: 1 }, 'EUCLEAN'],
    [{ s_feature_ro_compat: 1 }, 'EROFS'],
  ] as const) {
    const bdev = makeVolume(fields);
    assert.throws(
      () => Journal.load(buffersOf(bdev), journalOptions(bdev)),
      (error) => hasCode(error, code),
    );
  }
});

test('a log gets the features that its volume asks for, and revoke with the first revoked block', () => {
  const bdev = makeVolume();
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hasMetadataCsum: true, is64bit: true }));
  const incompat = (): number => now(locate(bdev).readSuperblock()).sb.s_feature_incompat;
  change(journal, [3]);
  now(journal.commit());
  assert.equal(incompat(), 0x12);
  const handle = now(journal.start(1)) as Handle;
  handle.forget(3);
  now(handle.stop());
  now(journal.commit());
  assert.equal(incompat(), 0x13);
});

test('a log of version 1 becomes one of version 2', () => {
  const bdev = makeVolume({ h_blocktype: 3, s_feature_incompat: 0xffffffff, s_num_fc_blocks: 77, s_head: 9 });
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hasMetadataCsum: true }));
  change(journal, [3]);
  now(journal.commit());
  const { sb } = now(locate(bdev).readSuperblock());
  assert.deepEqual([sb.h_blocktype, sb.s_feature_incompat, sb.s_num_fc_blocks, sb.s_start, sb.s_nr_users], [4, 0x10, 0, 1, 1]);
  assert.equal(recoverVolume(bdev).replayed, 1);
});

test('file data that cannot be written before its transaction aborts the log', () => {
  const bdev = makeVolume();
  const hooks = {
    writeOrdered(): void {
      throw new FsError('ENOSPC', 'write');
    },
  };
  const journal = now(Journal.load(buffersOf(bdev), { ...journalOptions(bdev), hooks }));
  change(journal, [3]);
  assert.throws(
    () => journal.commit(),
    (error) => hasCode(error, 'EIO'),
  );
  assert.equal(recoverVolume(bdev).replayed, 0);
});

test('a block that the log has no copy of is not revoked', () => {
  const bdev = makeVolume();
  const journal = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  change(journal, [3]);
  now(journal.checkpoint());
  const handle = now(journal.start(4)) as Handle;
  handle.forget(3);
  handle.forget(4);
  now(handle.stop());
  assert.equal(journal.isDirty, false);
});

test('a freed block is not written home, whatever the log has of it', () => {
  const bdev = makeVolume();
  const journal = now(Journal.load(buffersOf(bdev), journalOptions(bdev)));
  change(journal, [3]);
  now(journal.commit());
  const handle = now(journal.start(4)) as Handle;
  handle.forget(3);
  now(handle.stop());
  now(journal.commit());
  bdev.fill(0x99, 3 * BLOCK_SIZE, BLOCK_SIZE);
  now(journal.close());
  assert.equal(bdev.read(3 * BLOCK_SIZE, 1)[0], 0x99);
});
