import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirectFs, STALE } from '../../test/support/direct-fs.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { SimScheduler } from '../../test/support/scheduler.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import type { Prng } from '../base/prng.ts';
import { REQ_OP_WRITE } from '../block/bio.ts';
import { writeDevice } from '../block/block-device.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { SimulatedDevice } from '../block/simulated-device.ts';
import { type DirectFileIo, directRead, directWrite } from './direct-file.ts';
import { IOMAP_DIO_BOUNCE, IOMAP_DIO_PARTIAL } from './direct-io.ts';
import { IOCB_APPEND, IOCB_ATOMIC, IOCB_DSYNC, IOCB_NOAPPEND, IOCB_NOWAIT } from './iocb.ts';
import { IOMAP_MAPPED } from './iomap.ts';
import { zeroRange } from './zero-range.ts';

const BLOCK = 4096;

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);

function assertBytes(actual: Uint8Array, from: number, to: number, byte: number, what = 'bytes'): void {
  for (let at = from; at < to; at++) if (actual[at] !== byte) assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${byte}`);
}

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
  return 'none';
}

function writtenFile(blocks: number, options: ConstructorParameters<typeof DirectFs>[0] = {}): DirectFs {
  const fs = new DirectFs({ size: blocks * BLOCK, ...options });
  fs.put(0, blocks * BLOCK, 'written');
  return fs;
}

async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await undefined;
}

async function contentOf(fs: DirectFs): Promise<Uint8Array> {
  const into = filled(Math.ceil(fs.inode.size / 512) * 512, 0x77);
  return into.subarray(0, await fs.readFile(0, into));
}

test('reads, and overwrites inside the file, go on side by side', async () => {
  const fs = writtenFile(4);
  fs.spy.isHolding = true;
  const calls = [
    fs.readFile(0, filled(BLOCK, 0)),
    fs.writeFile(BLOCK, filled(BLOCK, 0x22)),
    fs.writeFile(2 * BLOCK + 512, filled(512, 0x33)),
    fs.readFile(3 * BLOCK, filled(BLOCK, 0)),
  ];
  assert.equal(fs.spy.held.length, 4);
  fs.spy.releaseAll();
  assert.deepEqual(await Promise.all(calls), [BLOCK, BLOCK, 512, BLOCK]);
  assert.equal(fs.inode.lock.isLocked, false);
});

test('a write that allocates, or grows the file, has it for itself', async () => {
  for (const pos of [BLOCK, 2 * BLOCK]) {
    const fs = new DirectFs({ size: 2 * BLOCK });
    fs.put(0, BLOCK, 'written');
    fs.spy.isHolding = true;
    const write = fs.writeFile(pos, filled(BLOCK, 0x22));
    const read = fs.readFile(0, filled(BLOCK, 0));
    await turns();
    assert.equal(fs.inode.lock.isExclusive, true);
    assert.equal(fs.spy.held.length, 1);
    fs.spy.isHolding = false;
    fs.spy.releaseAll();
    assert.deepEqual([await write, await read], [BLOCK, BLOCK]);
    assertBytes(await contentOf(fs), pos, pos + BLOCK, 0x22);
  }
});

test('Y8: two unaligned writes into one new block both survive', async () => {
  for (const alloc of ['unwritten', 'new'] as const) {
    const fs = new DirectFs({ size: BLOCK, alloc });
    fs.spy.isHolding = true;
    const writes = [fs.writeFile(512, filled(512, 0x22)), fs.writeFile(2048, filled(512, 0x33))];
    while (fs.inode.lock.isLocked) {
      if (fs.spy.held.length > 0) fs.spy.release(fs.spy.held.length - 1);
      await turns(1);
    }
    assert.deepEqual(await Promise.all(writes), [512, 512]);
    const block = fs.deviceBlock(0);
    for (let at = 0; at < BLOCK; at += 512) assertBytes(block, at, at + 512, at === 512 ? 0x22 : at === 2048 ? 0x33 : 0);
  }
});

test('a write of parts of new blocks, or past the end, waits for direct I/O that holds no lock any more', async () => {
  for (const [pos, length] of [
    [BLOCK + 512, 512],
    [3 * BLOCK, BLOCK],
  ] as const) {
    const fs = new DirectFs({ size: 2 * BLOCK });
    fs.put(0, BLOCK, 'written');
    fs.spy.isHolding = true;
    const earlier = fs.write(0, filled(BLOCK, 0x22));
    assert.equal(await codeOf(() => fs.writeFile(pos, filled(length, 0), IOCB_NOWAIT)), 'EAGAIN');
    const write = fs.writeFile(pos, filled(length, 0x33));
    await turns();
    assert.equal(fs.spy.held.length, 1, 'not begun');
    fs.spy.isHolding = false;
    fs.spy.releaseAll();
    assert.deepEqual([await earlier, await write], [BLOCK, length]);
  }
});

test('an append goes to the end of the file as it is when its turn comes', async () => {
  const fs = new DirectFs({ size: 0 });
  fs.spy.isHolding = true;
  const iocbs = [0x22, 0x33, 0x44].map((byte) => {
    const iocb = { pos: 0, flags: IOCB_APPEND };
    return { iocb, done: directWrite(iocb, fs.inode, new IovIter(filled(BLOCK, byte)), fs.fileOps()) };
  });
  while (fs.inode.lock.isLocked) {
    fs.spy.releaseAll();
    await turns(1);
  }
  for (const { done } of iocbs) assert.equal(await done, BLOCK);
  assert.deepEqual(
    iocbs.map(({ iocb }) => iocb.pos),
    [BLOCK, 2 * BLOCK, 3 * BLOCK],
  );
  fs.spy.isHolding = false;
  assert.equal(await fs.writeFile(0, filled(BLOCK, 0x55), IOCB_APPEND | IOCB_NOAPPEND), BLOCK);
  const content = await contentOf(fs);
  for (const [at, byte] of [0x55, 0x33, 0x44].entries()) assertBytes(content, at * BLOCK, (at + 1) * BLOCK, byte);
});

test('NOWAIT takes no lock that somebody holds', async () => {
  const fs = writtenFile(2);
  fs.inode.lock.tryLock();
  assert.equal(await codeOf(() => fs.readFile(0, filled(BLOCK, 0), IOCB_NOWAIT)), 'EAGAIN');
  assert.equal(await codeOf(() => fs.writeFile(0, filled(BLOCK, 0), IOCB_NOWAIT)), 'EAGAIN');
  assert.equal(await codeOf(() => fs.writeFile(2 * BLOCK, filled(BLOCK, 0), IOCB_NOWAIT)), 'EAGAIN');
  fs.inode.lock.unlock();
  fs.sb.freezeWrite.tryLock();
  assert.equal(await codeOf(() => fs.writeFile(0, filled(BLOCK, 0), IOCB_NOWAIT)), 'EAGAIN');
  let isWritten = false;
  const write = Promise.resolve(fs.writeFile(0, filled(BLOCK, 0x22))).then(() => (isWritten = true));
  await turns();
  assert.equal(isWritten, false, 'frozen');
  fs.sb.freezeWrite.unlock();
  await write;
  assert.equal(fs.sb.freezeWrite.isLocked, false);
  assert.equal(fs.inode.lock.isLocked, false);
  assert.equal(await codeOf(() => fs.writeFile(0, filled(BLOCK, 0), IOCB_NOWAIT)), 'none');
});

test('a write that overwrites when it is called, and would grow the file when its turn comes, takes the lock for itself', async () => {
  const fs = writtenFile(2);
  fs.inode.lock.tryLock();
  const write = fs.writeFile(BLOCK, filled(BLOCK, 0x22));
  fs.inode.size = BLOCK; // cut meanwhile
  fs.blocks.delete(1);
  fs.inode.lock.unlock();
  assert.equal(await write, BLOCK);
  assert.equal(fs.inode.size, 2 * BLOCK);
});

test('the largest file size cuts a write, or refuses it', async () => {
  const sizeMax = 2 * BLOCK;
  const fs = writtenFile(1, { sizeMax });
  const iov = new IovIter(filled(3 * BLOCK, 0x22));
  const iocb = { pos: BLOCK, flags: 0 };
  const never = { bufferedWrite: () => assert.fail('buffered') };
  assert.equal(await directWrite(iocb, fs.inode, iov, fs.fileOps(never)), BLOCK);
  assert.deepEqual([iocb.pos, iov.done, iov.count], [sizeMax, BLOCK, 2 * BLOCK]);
  assert.equal(await codeOf(() => directWrite(iocb, fs.inode, iov, fs.fileOps())), 'EFBIG');
  assert.equal(await codeOf(() => fs.writeFile(0, filled(4 * BLOCK, 0), IOCB_ATOMIC)), 'EFBIG');
  assert.equal(iov.count, 2 * BLOCK);
  assert.equal(await codeOf(() => fs.writeFile(-1, filled(1, 0))), 'EINVAL');
  assert.equal(fs.inode.lock.isLocked, false);
});

test('invariant 30: what a mapped view stored past the end does not appear when a direct write moves the end past it', async () => {
  for (const zeroGap of [false, true]) {
    const fs = writtenFile(1);
    fs.inode.size = 100;
    await fs.bufferedWrite(0, filled(100, 0x22));
    const folio = fs.inode.mapping.find(0);
    assert.ok(folio);
    folio.bytes(100, 200).fill(STALE); // the store
    const gaps: [number, number][] = [];
    const hook = async (start: number, end: number): Promise<void> => {
      gaps.push([start, end]);
      folio.zero(start, Math.min(end, BLOCK));
    };
    assert.equal(await fs.writeFile(4 * BLOCK, filled(BLOCK, 0x33), 0, zeroGap ? { zeroGap: hook } : {}), BLOCK);
    assert.deepEqual(gaps, zeroGap ? [[100, 4 * BLOCK]] : []);
    const content = await contentOf(fs);
    assertBytes(content, 0, 100, 0x22);
    assertBytes(content, 100, 4 * BLOCK, 0);
    assertBytes(content, 4 * BLOCK, 5 * BLOCK, 0x33);
  }
  const fs = writtenFile(1);
  fs.inode.size = 100;
  await fs.bufferedWrite(0, filled(100, 0x22));
  assert.equal(await codeOf(() => fs.writeFile(BLOCK, filled(BLOCK, 0), IOCB_NOWAIT)), 'EAGAIN');
});

test('a write far past the end whose zeroing fails half way leaves no zeros in the cache', async () => {
  const file: LinearFile = new LinearFile({
    size: 5000,
    fill: 0xdb,
    orderMax: 0,
    map: (pos, _length, _flags, map) => {
      if (pos >= 20_480) throw new FsError('EIO', 'write');
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 20_480, addr: 0, bdev: file.device });
    },
  });
  const { inode, io } = file;
  const zeroGap = async (start: number, end: number): Promise<void> => {
    await zeroRange(inode, start, end - start, io);
  };
  assert.equal(
    await codeOf(() => directWrite({ pos: 40_960, flags: 0 }, inode, new IovIter(filled(BLOCK, 1)), { ops: io.ops, zeroGap })),
    'EIO',
  );
  assert.equal(inode.size, 5000);
  assert.equal(inode.mapping.hasFolios(8192, Number.MAX_SAFE_INTEGER), false);
  assert.deepEqual(await file.read(4990, 100), filled(10, 0xdb));
  assert.equal(inode.lock.isLocked || inode.mapping.invalidateLock.isLocked, false);
});

test('a write past the end that fails under NOWAIT waits for nobody who has the end of the file locked', async () => {
  const file: LinearFile = new LinearFile({
    size: 5000,
    map: (pos, _length, _flags, map) => {
      if (pos >= 8192) throw new FsError('EAGAIN', 'write');
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 8192, addr: 0, bdev: file.device });
    },
  });
  await file.read(0, 5000);
  const folio = file.folioAt(4999);
  assert.equal(folio.tryLock(), true);
  const iocb = { pos: 8192, flags: IOCB_NOWAIT };
  assert.throws(() => directWrite(iocb, file.inode, new IovIter(filled(BLOCK, 1)), { ops: file.ops }), { code: 'EAGAIN' });
  assert.equal(file.inode.lock.isLocked, false);
  folio.unlock();
});

/** A file of shared blocks in the middle: sub-block direct writes to them have to go through the cache. */
function sharedFile(more: ConstructorParameters<typeof DirectFs>[0] = {}): DirectFs {
  const fs = new DirectFs({ size: 4 * BLOCK, orderMax: 0, ...more });
  fs.put(0, BLOCK, 'written');
  fs.put(BLOCK, 2 * BLOCK, 'written', 0x11, true);
  fs.put(3 * BLOCK, BLOCK, 'written');
  return fs;
}

test('what direct I/O cannot do goes through the cache, is written back, and leaves exactly that range of the cache', async () => {
  const fs = sharedFile();
  await fs.bufferedRead(0, 4 * BLOCK);
  const old = fs.deviceBlock(BLOCK);
  const iocb = { pos: BLOCK - 512, flags: 0 };
  const iov = new IovIter(filled(1024, 0x22));
  assert.equal(await directWrite(iocb, fs.inode, iov, fs.fileOps()), 1024);
  assert.deepEqual([iocb.pos, iov.count], [BLOCK + 512, 0]);
  assertBytes(fs.deviceBlock(0), BLOCK - 512, BLOCK, 0x22);
  assertBytes(fs.deviceBlock(BLOCK), 0, 512, 0x22);
  assertBytes(fs.deviceBlock(BLOCK), 512, BLOCK, 0x11);
  assertBytes(old, 0, BLOCK, 0x11, 'the other file');
  const { mapping } = fs.inode;
  assert.deepEqual(
    [0, 1, 2, 3].map((page) => mapping.hasFolios(page * BLOCK, (page + 1) * BLOCK)),
    [false, false, true, true],
  );
  assert.equal(mapping.isDirty, false);
});

test('without a way through the cache, or where it must not be taken, the answer is an error, not 0', async () => {
  const none = { bufferedWrite: undefined, bufferedRead: undefined } as unknown as Partial<DirectFileIo>;
  const refuse = (fs: DirectFs): DirectFs => {
    fs.override = () => {
      throw new FsError('ENOTBLK', 'write');
    };
    return fs;
  };
  assert.equal(await codeOf(() => refuse(sharedFile()).writeFile(0, filled(512, 0), 0, none)), 'ENOTBLK');
  assert.equal(await codeOf(() => refuse(sharedFile()).readFile(0, filled(512, 0), 0, none)), 'ENOTBLK');
  assert.equal(await codeOf(() => refuse(sharedFile()).writeFile(0, filled(512, 0), IOCB_NOWAIT)), 'EAGAIN');
  assert.equal(await codeOf(() => refuse(sharedFile()).writeFile(0, filled(512, 0), IOCB_ATOMIC)), 'ENOTBLK');
  // Something was done: that is the answer.
  assert.equal(await sharedFile().writeFile(BLOCK - 512, filled(1024, 0), 0, { ...none, dioFlags: IOMAP_DIO_PARTIAL }), 512);
  assert.equal(await sharedFile().writeFile(BLOCK - 512, filled(1024, 0), 0, none), 512);
});

test('a read that the filesystem wants buffered goes through the cache; one at the end of the file does not', async () => {
  const fs = writtenFile(4, { extentMax: 1 });
  fs.override = (pos, _length, flags) => {
    if (pos === BLOCK && (flags & (1 << 4)) !== 0) throw new FsError('ENOTBLK', 'read');
    return false;
  };
  const into = filled(4 * BLOCK, 0);
  const iocb = { pos: 0, flags: 0 };
  assert.equal(await directRead(iocb, fs.inode, new IovIter(into), fs.fileOps()), 4 * BLOCK);
  assertBytes(into, 0, 4 * BLOCK, 0x11);
  assert.equal(iocb.pos, 4 * BLOCK);
  const never = { bufferedRead: () => assert.fail('buffered') };
  assert.equal(await fs.readFile(3 * BLOCK, filled(2 * BLOCK, 0), 0, never), BLOCK);
  assert.equal(await fs.readFile(4 * BLOCK, filled(BLOCK, 0), 0, never), 0);
  const failing = { bufferedRead: () => Promise.reject(new FsError('EIO', 'read')) };
  assert.equal(await fs.readFile(0, filled(2 * BLOCK, 0), 0, failing), BLOCK);
  assert.equal(await codeOf(() => fs.readFile(BLOCK, filled(BLOCK, 0), 0, failing)), 'EIO');
});

test('when the buffered rest cannot be written back only what went directly counts', async () => {
  for (const start of [BLOCK - 512, BLOCK]) {
    const fs = sharedFile();
    let writes = 0;
    // The copy of the shared block succeeds; writeback of the folio does not.
    fs.spy.fails = ({ op, length }) => (op === REQ_OP_WRITE && length === BLOCK && ++writes > 1 ? -5 : 0);
    const iocb = { pos: start, flags: 0 };
    const iov = new IovIter(filled(BLOCK - (start % BLOCK || BLOCK) + 512, 0x22));
    const { count } = iov;
    const write = () => directWrite(iocb, fs.inode, iov, fs.fileOps());
    if (start === BLOCK) assert.equal(await codeOf(write), 'EIO');
    else assert.equal(await write(), 512);
    assert.deepEqual([iocb.pos, iov.count], [start === BLOCK ? start : BLOCK, start === BLOCK ? count : count - 512]);
  }
});

test('prepare runs before data is sent, sync after it is there, both with the inode lock held', async () => {
  const fs = writtenFile(2);
  const log: string[] = [];
  const prepare = async (): Promise<void> => void log.push(`prepare ${fs.inode.lock.isLocked} ${fs.spy.requests.length}`);
  const sync = (start: number, end: number): void => void log.push(`sync ${fs.inode.lock.isLocked} ${start} ${end} of ${fs.inode.size}`);
  assert.equal(await fs.writeFile(2 * BLOCK, filled(BLOCK, 0x22), IOCB_DSYNC, { prepare, sync }), BLOCK);
  assert.deepEqual(log, ['prepare true 0', `sync true ${2 * BLOCK} ${3 * BLOCK} of ${3 * BLOCK}`]);
});

/** A file's bytes, each known or, after a failed write, not. */
class Model {
  bytes = new Uint8Array(0);
  #unknown = new Uint8Array(0);

  get size(): number {
    return this.bytes.length;
  }

  write(pos: number, data: Uint8Array): void {
    if (data.length === 0) return;
    if (pos + data.length > this.size) {
      const { bytes } = this;
      const unknown = this.#unknown;
      this.bytes = new Uint8Array(pos + data.length);
      this.bytes.set(bytes);
      this.#unknown = new Uint8Array(pos + data.length);
      this.#unknown.set(unknown);
    }
    this.bytes.set(data, pos);
    this.#unknown.fill(0, pos, pos + data.length);
  }

  fail(pos: number, length: number): void {
    this.#unknown.fill(1, Math.min(pos, this.size), Math.min(pos + length, this.size));
  }

  check(pos: number, seen: Uint8Array, what: string): void {
    const expected = this.bytes.slice(pos, pos + seen.length);
    for (let at = 0; at < expected.length; at++) if (this.#unknown[pos + at] === 1) expected[at] = seen[at] as number;
    assertSameBytes(seen, expected, what, pos);
  }
}

/** Bytes of the file that only one call at a time works on: no folio reaches over its ends. */
const REGION = 65536;
const REGIONS = 4;

/** A file with every kind of block, on a device that completes in any order. Faults hit direct I/O and buffered reads. */
class ModelRun {
  readonly #prng: Prng;
  readonly #isFaulty: boolean;
  readonly #scheduler: SimScheduler;
  readonly #device: SimulatedDevice;
  readonly #faulty: FaultyDevice;
  readonly #fs: DirectFs;
  readonly #model = new Model();

  constructor(prng: Prng) {
    this.#prng = prng;
    this.#isFaulty = prng.chance(0.5);
    this.#scheduler = new SimScheduler(prng.fork());
    const stale = new MemoryDevice({ size: 64 * 1024 * 1024 });
    stale.fill(STALE);
    this.#device = new SimulatedDevice({
      size: stale.size,
      prng: prng.fork(),
      base: stale,
      bioSizeMax: prng.pick([1024, 8192, 2 ** 20]),
      hasVolatileCache: prng.chance(0.5),
      hasFua: prng.chance(0.5),
      copiesAtSubmit: prng.chance(0.5),
    });
    this.#device.autoRun(this.#scheduler);
    this.#faulty = new FaultyDevice(this.#device, prng.fork());
    this.#fs = new DirectFs({
      blockSize: prng.pick([512, 1024, 4096, 16384, 65536]),
      bdev: this.#faulty,
      alloc: prng.pick(['unwritten', 'new'] as const),
      extentMax: prng.pick([1, 3, 1000]),
      prng: prng.fork(),
    });
    this.#fs.beforeConversion = () => (prng.chance(0.3) ? this.#scheduler.pause('conversion') : undefined);
  }

  async run(): Promise<void> {
    await this.#makeFile();
    if (this.#isFaulty) {
      this.#faulty.inject({ ops: ['read'], errno: 'EIO', probability: 0.03 });
      this.#faulty.inject({ ops: ['write'], errno: 'EIO', probability: 0.05, isTorn: true });
    }
    for (let step = 0; step < 40; step++) await this.#step(`step ${step}`);

    this.#faulty.heal();
    const { size } = this.#fs.inode;
    assert.equal(size, this.#model.size);
    const into = filled(Math.ceil(size / 512) * 512, 0x77);
    assert.equal(await this.#scheduler.settle(this.#fs.readFile(0, into)), size);
    this.#model.check(0, into.subarray(0, size), 'the whole file, direct');
    this.#model.check(0, await this.#scheduler.settle(this.#fs.bufferedRead(0, size)), 'the whole file, buffered');
    await this.#scheduler.quiesce();
  }

  async #makeFile(): Promise<void> {
    const fs = this.#fs;
    const { blockSize } = fs;
    const size = REGIONS * REGION;
    this.#model.write(0, new Uint8Array(size));
    for (let pos = 0; pos < size; pos += blockSize) {
      const kind = this.#prng.pick(['hole', 'unwritten', 'written', 'written', 'shared'] as const);
      if (kind === 'hole') continue;
      fs.put(pos, blockSize, kind === 'unwritten' ? 'unwritten' : 'written', 0, kind === 'shared');
      if (kind === 'unwritten') continue;
      const data = this.#prng.bytes(blockSize);
      const { addr } = fs.blocks.get(pos / blockSize) as { addr: number };
      await this.#scheduler.settle(this.#writeBlocks(addr, data));
      this.#model.write(pos, data);
    }
    fs.inode.size = size;
  }

  async #step(name: string): Promise<void> {
    const { inode } = this.#fs;
    if (this.#prng.chance(0.2)) {
      const end = Math.floor(inode.size / 512) * 512;
      await this.#scheduler.settle(this.#direct(end + 512 * this.#prng.below(32), REGION, name));
    } else {
      const regions = this.#prng.shuffle(Array.from({ length: REGIONS }, (_, i) => i)).slice(0, this.#prng.between(1, REGIONS));
      await this.#scheduler.run(
        regions.map((region) =>
          this.#scheduler.spawn(`region ${region}`, () => {
            const within = 512 * this.#prng.below(REGION / 512);
            const pos = region * REGION + within;
            return this.#prng.chance(0.6) ? this.#direct(pos, REGION - within, name) : this.#buffered(pos, REGION - within, name);
          }),
        ),
      );
    }
    assert.equal(inode.dioCount, 0, name);
    assert.equal(inode.lock.isLocked, false, name);
    assert.equal(inode.size, this.#model.size, name);
  }

  async #direct(pos: number, lengthMax: number, step: string): Promise<void> {
    const prng = this.#prng;
    const fs = this.#fs;
    const length = Math.min(lengthMax, 512 * prng.between(1, prng.pick([2, 16, 128])));
    const what = `${step}: direct I/O of ${length} bytes at ${pos}, block size ${fs.blockSize}`;
    const dioFlags = prng.chance(0.2) ? IOMAP_DIO_BOUNCE : 0;
    const io: DirectFileIo = { ops: fs.ops, dops: fs.dops, dioFlags, zeroGap: (start, end) => this.#zeroGap(start, end) };
    const bytes = prng.bytes(length);
    const cut = prng.below(length + 1);
    const iov = new IovIter([bytes.subarray(0, cut), bytes.subarray(cut)]);
    const iocb = { pos, flags: prng.chance(0.2) ? IOCB_DSYNC : 0 };
    if (prng.chance(0.5)) {
      const read = await this.#attempt(() => directRead(iocb, fs.inode, iov, io));
      assert.equal(iov.done, read ?? 0, what);
      if (read === undefined) return;
      assert.equal(read, Math.max(0, Math.min(length, fs.inode.size - pos)), what);
      this.#model.check(pos, bytes.subarray(0, read), what);
      return;
    }
    // The way through the cache is left out where faults would lose data after the answer.
    const written = await this.#attempt(() => directWrite(iocb, fs.inode, iov, this.#isFaulty ? io : { ...fs.fileOps(), ...io }));
    assert.equal(iov.done, written ?? 0, what);
    assert.equal(iocb.pos, pos + (written ?? 0), what);
    if (!this.#isFaulty) assert.equal(written, length, what);
    if (written === undefined) this.#model.fail(pos, length);
    else this.#model.write(pos, bytes.subarray(0, written));
  }

  /** Past the faults. */
  async #writeBlocks(addr: number, data: Uint8Array): Promise<void> {
    const { bioSizeMax } = this.#device;
    for (let at = 0; at < data.length; at += bioSizeMax) await writeDevice(this.#device, addr + at, data.subarray(at, at + bioSizeMax));
  }

  /** A write past the end that failed may have left its data in the last block. */
  async #zeroGap(start: number, end: number): Promise<void> {
    const { inode, blocks, blockSize } = this.#fs;
    await inode.mapping.writeAndWait(start, end);
    await inode.mapping.invalidateRange(start, end);
    const block = blocks.get(Math.floor(start / blockSize));
    const within = start % blockSize;
    if (block?.state === 'written' && within > 0) await this.#writeBlocks(block.addr + within, filled(blockSize - within, 0));
  }

  async #buffered(pos: number, lengthMax: number, step: string): Promise<void> {
    const length = this.#prng.between(1, lengthMax);
    if (!this.#isFaulty && this.#prng.chance(0.3)) {
      const data = this.#prng.bytes(length);
      assert.equal(await this.#fs.bufferedWrite(pos, data), length);
      this.#model.write(pos, data);
      return;
    }
    const seen = await this.#attempt(() => this.#fs.bufferedRead(pos, length));
    if (seen !== undefined) this.#model.check(pos, seen, `${step}: buffered read at ${pos}`);
  }

  /** Undefined where a fault, or what faults leave undone, may be the answer. */
  async #attempt<T>(call: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await call();
    } catch (error) {
      if (!this.#isFaulty || !(hasCode(error, 'EIO') || hasCode(error, 'ENOTBLK'))) throw error;
      return undefined;
    }
  }
}

test('direct I/O agrees with a flat model, over all kinds of mappings, completion orders and faults', () =>
  forEachSeed('direct I/O model', 100, (prng) => new ModelRun(prng).run()));
