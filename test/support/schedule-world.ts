import { FsError } from '../../src/base/fs-error.ts';
import { RwLock } from '../../src/base/lock.ts';
import { Prng } from '../../src/base/prng.ts';
import { FaultyDevice } from '../../src/block/faulty-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { SimulatedDevice } from '../../src/block/simulated-device.ts';
import { IOCB_DONTCACHE, IOCB_DSYNC, IOCB_NOWAIT } from '../../src/iomap/iocb.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { checkConsistent } from './check-consistent.ts';
import { type Change, FileHistory, type Watch } from './history.ts';
import { SimScheduler, type SimTask } from './scheduler.ts';
import { StableCheckDevice } from './stable-check-device.ts';
import { TestFile } from './test-file.ts';
import { type DurableState, GARBAGE, TestFs, type TestFsOptions } from './test-fs.ts';

// Invariant 65: several tasks on one or two files, over a device that completes in any order, with every choice drawn from one seed.

/** What a seed decides before anything happens. */
export interface ScheduleConfig {
  /** 'exact': nothing fails. 'full': a small device, and reservations that fail. 'faulty': device requests and conversions fail. */
  readonly kind: 'exact' | 'full' | 'faulty';
  readonly fs: Omit<TestFsOptions, 'bdev' | 'prng' | 'cache' | 'scheduler'>;
  readonly budget: number;
  readonly deviceSize: number;
  readonly hasVolatileCache: boolean;
  readonly copiesAtSubmit: boolean;
  readonly bioSizeMax: number;
  readonly files: number;
  /** The files have no blocks: their data is fetched from a server and sent there. */
  readonly usesServer: boolean;
  /** Direct I/O and mapped views on the same file have no order that one could check: a file has one or the other. */
  readonly usesDirect: boolean;
  readonly tasks: number;
  readonly opsPerTask: number;
  /** Bytes; operations stay below. */
  readonly fileMax: number;
  /** Chance after each event that some file's cookie moves for no reason. */
  readonly bumpShare: number;
  readonly crashes: boolean;
}

export function drawConfig(prng: Prng): ScheduleConfig {
  const blockSize = prng.pick([512, 1024, 1024, 4096, 4096, 4096, 16384, 65536]);
  const kind = prng.pick(['exact', 'exact', 'exact', 'exact', 'full', 'faulty'] as const);
  const unit = Math.max(4096, blockSize);
  const budget = prng.pick([16, 32, 64, 256]) * unit;
  const usesServer = prng.chance(0.15);
  return {
    kind,
    fs: {
      blockSize,
      orderMax: prng.pick([0, 1, 2, 4, 8]),
      mode: prng.pick(['delalloc', 'delalloc', 'unwritten', 'mapped-new']),
      extentMax: prng.pick([1, 2, 3, 8, 64, 1024]),
      asyncShare: prng.pick([0, 0.2, 0.6]),
      folioBatch: prng.chance(0.5),
      journalData: prng.chance(0.2),
      commitShare: prng.pick([0, 0.1, 0.5]),
      inlineMax: prng.chance(0.2) ? prng.pick([60, 300, 512]) : 0,
    },
    budget,
    deviceSize: kind === 'full' ? 24 * unit : Math.max(8 * 2 ** 20, 256 * blockSize),
    hasVolatileCache: prng.chance(0.5),
    copiesAtSubmit: prng.chance(0.4),
    bioSizeMax: prng.pick([unit, 4 * unit, 2 ** 20]),
    files: usesServer ? 1 : prng.pick([1, 1, 2]),
    usesServer,
    usesDirect: prng.chance(0.4),
    tasks: prng.between(2, 5),
    opsPerTask: prng.between(3, 14),
    fileMax: prng.pick([4, 12, 40]) * unit,
    bumpShare: prng.pick([0, 0, 0.02, 0.15]),
    crashes: !usesServer && prng.chance(0.3),
  };
}

/** Where written data comes from: bytes that are neither zero nor garbage. */
const pool = new Prng(7).bytes(2 ** 21).map((byte) => 1 + (byte % 127));
/** Devices full of garbage, by size: copied on write by each run. */
const blankDevices = new Map<number, MemoryDevice>();

function blankDevice(size: number): MemoryDevice {
  let device = blankDevices.get(size);
  if (device === undefined) {
    device = new MemoryDevice({ size, chunkSize: 16384 });
    device.fill(GARBAGE);
    blankDevices.set(size, device);
  }
  return device;
}

/** One file, what it may hold, and what of it was surely durable. */
interface Subject {
  readonly file: TestFile;
  readonly history: FileHistory;
  /** From the start of the last fsync that succeeded: what a crash now may show. */
  durable: Watch;
  /** Truncates exclusively, direct writes past the end shared: which of two came first decides the size. */
  readonly sizeLock: RwLock;
  /** Truncates in progress, and begun ever. */
  truncating: number;
  truncates: number;
  /** An operation that changes the size failed half way: the content is not known any more. */
  isUnknown: boolean;
}

interface Operation {
  readonly kind: string;
  /** Does it, and says what it did. */
  readonly run: (subject: Subject, prng: Prng, what: string) => Promise<string>;
}

interface Crash {
  readonly image: MemoryDevice;
  readonly state: DurableState;
  readonly watches: { ino: number; watch: Watch; history: FileHistory }[];
}

class NamedTask implements SimTask {
  name: string;
  done: Promise<unknown> = Promise.resolve();

  constructor(name: string) {
    this.name = name;
  }
}

/** Runs one seed. Throws at the first thing that may not be. `trace` prints what happens. */
export async function runSchedule(seed: number, trace?: (line: string) => void): Promise<void> {
  const prng = new Prng(seed);
  const config = drawConfig(prng);
  trace?.(JSON.stringify(config));
  await new ScheduleWorld(config, prng, trace).run();
}

class ScheduleWorld {
  readonly #config: ScheduleConfig;
  readonly #prng: Prng;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #scheduler: SimScheduler;
  readonly #device: SimulatedDevice;
  readonly #faulty: FaultyDevice;
  readonly #fs: TestFs;
  readonly #subjects: Subject[] = [];
  /** Reflink exclusively, everything else shared: what is copied must be known. */
  readonly #rest = new RwLock();
  readonly #chances: Prng;
  readonly #operations: readonly Operation[];
  #areFaultsOn = true;
  #crash: Crash | undefined;
  #crashTurn: number;

  constructor(config: ScheduleConfig, prng: Prng, trace: ((line: string) => void) | undefined) {
    this.#config = config;
    this.#prng = prng;
    this.#trace = trace;
    this.#chances = prng.fork();
    this.#operations = this.#drawOperations();
    this.#scheduler = new SimScheduler(prng.fork(), { onTurn: () => this.#turn(), describe: () => this.#describe() });
    this.#device = new SimulatedDevice({
      size: config.deviceSize,
      prng: prng.fork(),
      copiesAtSubmit: config.copiesAtSubmit,
      hasVolatileCache: config.hasVolatileCache,
      bioSizeMax: config.bioSizeMax,
      base: blankDevice(config.deviceSize),
    });
    this.#device.autoRun(this.#scheduler);
    this.#faulty = new FaultyDevice(new StableCheckDevice(this.#device), prng.fork());
    const { clock } = this.#scheduler;
    this.#fs = new TestFs({
      ...config.fs,
      bdev: this.#faulty,
      prng: prng.fork(),
      cache: new PageCache({ budget: config.budget, clock, poison: 0xcc, dirtyRatio: 0.5, dirtyBackgroundRatio: 0.25 }),
      scheduler: this.#scheduler,
      clock,
    });
    if (config.kind === 'full') this.#fs.faults.enospc = 0.02;
    if (config.kind === 'faulty') {
      this.#fs.faults.conversion = 0.05;
      this.#faulty.inject({ ops: ['read', 'write', 'flush'], probability: 0.04, errno: 'EIO', isTorn: true });
    }
    for (let i = 0; i < config.files; i++) {
      const history = new FileHistory();
      const inode = config.usesServer ? this.#fs.createServerInode() : this.#fs.createInode();
      if (inode.server !== undefined && config.kind === 'faulty')
        inode.server.fails = () => this.#areFaultsOn && this.#chances.chance(0.04);
      this.#subjects.push({
        file: new TestFile(this.#fs, inode),
        history,
        durable: this.#watchAll(history),
        sizeLock: new RwLock(),
        truncating: 0,
        truncates: 0,
        isUnknown: false,
      });
    }
    this.#crashTurn = config.crashes ? this.#chances.below(400) : -1;
  }

  async run(): Promise<void> {
    const tasks: NamedTask[] = [];
    for (let i = 0; i < this.#config.tasks; i++) {
      const task = new NamedTask(`task ${i}`);
      task.done = this.#scheduler.pause(task.name).then(() => this.#task(task, this.#prng.fork()));
      tasks.push(task);
    }
    await this.#scheduler.run(tasks);
    await this.#scheduler.quiesce();
    await this.#scheduler.settle(this.#fs.settle());
    this.#check();
    this.#faulty.heal();
    this.#areFaultsOn = false;
    Object.assign(this.#fs.faults, { enospc: 0, conversion: 0 });
    for (const subject of this.#subjects) await this.#checkContent(subject);
    await this.#checkDurable();
    if (this.#crash !== undefined) await this.#checkCrash(this.#crash);
    await this.#evict();
  }

  get #isExact(): boolean {
    return this.#config.kind !== 'faulty';
  }

  #turn(): void {
    if (this.#config.bumpShare > 0 && this.#chances.chance(this.#config.bumpShare)) this.#fs.bumpSomeFile();
    if (this.#scheduler.turns === this.#crashTurn && this.#isExact) this.#cutPower();
  }

  // ---- What tasks do --------------------------------------------------------------------------------------------------------------

  async #task(task: NamedTask, prng: Prng): Promise<void> {
    const name = task.name;
    for (let i = 0; i < this.#config.opsPerTask; i++) {
      const subject = prng.pick(this.#subjects);
      const { kind, run } = prng.pick(this.#operations);
      const what = `${name}.${i} ${kind} of file ${subject.file.inode.ino}`;
      task.name = what;
      const turn = this.#scheduler.turns;
      const isAlone = kind === 'reflink';
      await (isAlone ? this.#rest.lock() : this.#rest.lockShared());
      try {
        const result = await run(subject, prng, what);
        this.#trace?.(`${turn}-${this.#scheduler.turns} ${what}: ${result}`);
      } catch (error) {
        this.#trace?.(`${turn}-${this.#scheduler.turns} ${what}: ${String(error)}`);
        if (!this.#mayFail(error)) throw new Error(`${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      } finally {
        if (isAlone) this.#rest.unlock();
        else this.#rest.unlockShared();
      }
      if (prng.chance(0.3)) await this.#scheduler.pause(name);
    }
    task.name = `${name} (done)`;
  }

  #mayFail(error: unknown): boolean {
    if (!(error instanceof FsError)) return false;
    const { code } = error;
    if (code === 'EAGAIN' || code === 'EFAULT') return true;
    if (code === 'ENOSPC') return this.#config.kind !== 'exact';
    return code === 'EIO' && this.#config.kind === 'faulty';
  }

  /** Every operation as often as it is to be drawn. */
  #drawOperations(): readonly Operation[] {
    const sharesBlocks = this.#config.files > 1;
    const { usesDirect } = this.#config;
    const weighted: [string, number, Operation['run']][] = [
      ['write', 6, (...args) => this.#write(...args)],
      ['read', 4, (...args) => this.#read(...args)],
      ['truncate', 1, (...args) => this.#truncate(...args)],
      ['punch', 1, (...args) => this.#punch(...args)],
      ['zero', 1, (...args) => this.#zero(...args)],
      ['prealloc', 1, (...args) => this.#prealloc(...args)],
      ['fsync', 1, (subject) => this.#fsync(subject)],
      ['drop', 1, (subject, prng) => this.#drop(subject, prng)],
      ['reflink', sharesBlocks ? 2 : 0, (...args) => this.#reflink(...args)],
      ['unshare', sharesBlocks ? 1 : 0, (subject, prng) => this.#unshare(subject, prng)],
      ['directWrite', usesDirect ? 3 : 0, (...args) => this.#directWrite(...args)],
      ['directRead', usesDirect ? 2 : 0, (...args) => this.#directRead(...args)],
      ['store', usesDirect ? 0 : 4, (...args) => this.#store(...args)],
      ['load', usesDirect ? 0 : 2, (...args) => this.#load(...args)],
    ];
    return weighted.flatMap(([kind, weight, run]) => Array.from({ length: weight }, () => ({ kind, run })));
  }

  /** A range drawn so that edges of blocks, pages and the file are met often. */
  #range(subject: Subject, prng: Prng, lengthMax = this.#config.fileMax / 2): [pos: number, length: number] {
    const { fileMax } = this.#config;
    const { blockSize } = this.#fs;
    const { size } = subject.file;
    let pos = prng.pick([prng.below(fileMax), prng.below(Math.max(1, size)), Math.min(size, fileMax - 1)]);
    if (prng.chance(0.3)) pos -= pos % prng.pick([blockSize, 4096]);
    let length = prng.pick([1 + prng.below(200), 1 + prng.below(8192), 1 + prng.below(lengthMax), blockSize, 2 * blockSize]);
    length = Math.min(length, lengthMax, fileMax - pos);
    return [pos, length];
  }

  #data(prng: Prng, length: number): Uint8Array {
    const at = prng.below(pool.length - length);
    return pool.subarray(at, at + length);
  }

  /** Runs an operation with what it does to the model; what is thrown leaves the range undefined if it may have happened in part. */
  async #change<T>(change: Change, operation: () => Promise<T>, done: (result: T) => number | undefined): Promise<T> {
    try {
      const result = await operation();
      change.apply(done(result));
      change.end();
      return result;
    } catch (error) {
      change.endUndefined();
      throw error;
    }
  }

  async #write(subject: Subject, prng: Prng, what: string): Promise<string> {
    const [pos, length] = this.#range(subject, prng);
    const data = this.#data(prng, length);
    let flags = 0;
    if (prng.chance(0.05)) flags |= IOCB_NOWAIT;
    if (prng.chance(0.1)) flags |= IOCB_DONTCACHE;
    if (prng.chance(0.05)) flags |= IOCB_DSYNC;
    const change = subject.history.write(what, pos, data);
    try {
      const onLocked = (): void => change.locked();
      const onWritten = (count: number): void => change.apply(count);
      const written = await subject.file.write(pos, data, { flags, onLocked, onWritten });
      if ((flags & IOCB_DSYNC) === 0) change.apply(written);
      return `${written} of ${length} at ${pos}`;
    } finally {
      change.end();
    }
  }

  async #read(subject: Subject, prng: Prng, what: string): Promise<string> {
    const [pos, length] = this.#range(subject, prng);
    const flags = (prng.chance(0.05) ? IOCB_NOWAIT : 0) | (prng.chance(0.1) ? IOCB_DONTCACHE : 0);
    const watch = subject.history.watch(pos, length);
    const got = await subject.file.read(pos, length, flags);
    if ((flags & IOCB_NOWAIT) !== 0) watch.sizeMin = Math.min(watch.sizeMin, pos + got.length); // may be short
    this.#checkRead(subject, watch, got, what);
    return `${got.length} of ${length} at ${pos}`;
  }

  #checkRead(subject: Subject, watch: Watch, got: Uint8Array, what: string): void {
    if (this.#isExact && !subject.isUnknown) subject.history.check(watch, got, what);
    else subject.history.forget(watch);
  }

  async #directWrite(subject: Subject, prng: Prng, what: string): Promise<string> {
    let [pos, length] = this.#range(subject, prng);
    pos -= pos % 512;
    length = Math.max(512, length - (length % 512));
    const data = this.#data(prng, length);
    await subject.sizeLock.lockShared();
    const change = subject.history.directWrite(what, pos, data);
    try {
      await this.#change(
        change,
        () => subject.file.directWrite(pos, data),
        (written) => written,
      );
    } catch (error) {
      if (pos + length > subject.history.model.size) subject.isUnknown = true;
      throw error;
    } finally {
      subject.sizeLock.unlockShared();
    }
    return `${length} at ${pos}`;
  }

  async #directRead(subject: Subject, prng: Prng, what: string): Promise<string> {
    let [pos, length] = this.#range(subject, prng);
    pos -= pos % 512;
    length = Math.max(512, length - (length % 512));
    const watch = subject.history.watch(pos, length);
    const got = await subject.file.directRead(pos, length);
    this.#checkRead(subject, watch, got, what);
    return `${got.length} of ${length} at ${pos}`;
  }

  async #store(subject: Subject, prng: Prng, what: string): Promise<string> {
    const { size } = subject.file;
    if (size === 0) return 'nothing to map';
    const pos = prng.chance(0.3) ? Math.max(0, size - 1 - prng.below(100)) : prng.below(size);
    const length = 1 + prng.below(prng.pick([8, 100, 5000])); // may pass the end: what is stored there is nothing
    const data = this.#data(prng, length);
    const change = subject.history.store(what, pos, data);
    await this.#change(
      change,
      () => subject.file.store(pos, data),
      () => undefined,
    );
    return `${length} at ${pos}`;
  }

  async #load(subject: Subject, prng: Prng, what: string): Promise<string> {
    const { size } = subject.history.model;
    if (size === 0) return 'nothing to map';
    const pos = prng.below(size);
    const length = 1 + prng.below(Math.min(size - pos, 10_000));
    const watch = subject.history.watch(pos, length);
    watch.sizeMax = Math.max(watch.sizeMax, pos + length);
    const got = await subject.file.load(pos, length);
    this.#checkRead(subject, watch, got, what);
    return `${length} at ${pos}`;
  }

  async #truncate(subject: Subject, prng: Prng, what: string): Promise<string> {
    const { fileMax } = this.#config;
    const { blockSize } = this.#fs;
    let size = prng.pick([prng.below(fileMax), prng.below(subject.file.size + 1), subject.file.size + prng.below(2 * blockSize)]);
    size = Math.min(size, fileMax);
    if (prng.chance(0.3)) size -= size % blockSize;
    await subject.sizeLock.lock();
    subject.truncating++;
    subject.truncates++;
    try {
      const change = subject.history.truncate(what, size);
      await this.#change(
        change,
        () => subject.file.truncate(size, { onLocked: () => change.locked() }),
        () => undefined,
      );
    } catch (error) {
      subject.isUnknown = true;
      throw error;
    } finally {
      subject.truncating--;
      subject.sizeLock.unlock();
    }
    return `to ${size}`;
  }

  async #punch(subject: Subject, prng: Prng, what: string): Promise<string> {
    const [pos, length] = this.#range(subject, prng);
    const change = subject.history.zero(what, pos, length);
    await this.#change(
      change,
      () => subject.file.punch(pos, length, { onLocked: () => change.locked() }),
      () => undefined,
    );
    return `${length} at ${pos}`;
  }

  async #zero(subject: Subject, prng: Prng, what: string): Promise<string> {
    const [pos, length] = this.#range(subject, prng);
    const change = subject.history.zero(what, pos, length);
    await this.#change(
      change,
      () => subject.file.zero(pos, length, { onLocked: () => change.locked() }),
      () => undefined,
    );
    return `${length} at ${pos}`;
  }

  async #prealloc(subject: Subject, prng: Prng, what: string): Promise<string> {
    const [pos, length] = this.#range(subject, prng);
    if (prng.chance(0.5)) {
      await subject.file.prealloc(pos, length);
      return `${length} at ${pos}, size kept`;
    }
    await subject.sizeLock.lock();
    try {
      const change = subject.history.grow(what, pos + length);
      await this.#change(
        change,
        () => subject.file.prealloc(pos, length, { keepSize: false, onLocked: () => change.locked() }),
        () => undefined,
      );
    } catch (error) {
      subject.isUnknown = true;
      throw error;
    } finally {
      subject.sizeLock.unlock();
    }
    return `${length} at ${pos}`;
  }

  async #fsync(subject: Subject): Promise<string> {
    const watch = this.#watchAll(subject.history);
    const { truncating, truncates } = subject;
    let kept = watch;
    try {
      await subject.file.fsync();
      // A truncate that has dropped data from the cache, and is not durable itself yet, leaves nothing to sync.
      if (truncating === 0 && subject.truncates === truncates) [kept, subject.durable] = [subject.durable, watch];
    } finally {
      subject.history.forget(kept);
    }
    return 'done';
  }

  async #drop(subject: Subject, prng: Prng): Promise<string> {
    if (prng.chance(0.5)) return `${this.#fs.cache.shrink(Number.MAX_SAFE_INTEGER)} bytes of clean folios`;
    await subject.file.dropCache();
    return 'the whole file';
  }

  /** While it runs no other operation does, but writeback and completions go on. */
  async #reflink(subject: Subject, prng: Prng, what: string): Promise<string> {
    const src = this.#subjects.find((each) => each !== subject) as Subject;
    const { blockSize } = this.#fs;
    const { size } = src.file;
    if (size === 0 || src.isUnknown) return 'nothing to share';
    const srcPos = prng.below(Math.ceil(size / blockSize)) * blockSize;
    let dstPos = prng.chance(0.5) ? srcPos : prng.below(this.#config.fileMax / blockSize) * blockSize;
    dstPos = Math.min(dstPos, this.#config.fileMax - blockSize);
    const length = Math.min(size - srcPos, 1 + prng.below(this.#config.fileMax), this.#config.fileMax - dstPos);
    // What the source holds where several contents are possible is what it shows now.
    src.history.settle(await src.file.readAll());
    const data = src.history.model.readPadded(srcPos, length);
    const change = subject.history.write(what, dstPos, data);
    try {
      const shared = await this.#change(
        change,
        () => subject.file.reflinkFrom(src.file, srcPos, dstPos, length, { onLocked: () => change.locked() }),
        (count) => count,
      );
      return `${shared} of ${length} from ${srcPos} to ${dstPos}`;
    } catch (error) {
      subject.isUnknown = true;
      throw error;
    }
  }

  async #unshare(subject: Subject, prng: Prng): Promise<string> {
    const [pos, length] = this.#range(subject, prng);
    await subject.file.unshare(pos, length);
    return `${length} at ${pos}`;
  }

  // ---- What must be true ------------------------------------------------------------------------------------------------------------

  #watchAll(history: FileHistory): Watch {
    return history.watch(0, this.#config.fileMax + 1);
  }

  #check(): void {
    checkConsistent(this.#fs, { hadErrors: this.#config.kind !== 'exact' });
  }

  /** At rest the file is what the model is: out of the cache, then from the device. */
  async #checkContent(subject: Subject): Promise<void> {
    const { file, history } = subject;
    const what = `file ${file.inode.ino} at rest`;
    const cached = await this.#scheduler.settle(file.readAll());
    if (this.#isExact && !subject.isUnknown) {
      history.checkAll(cached, what);
      history.settle(cached);
    }
    await this.#scheduler.settle(file.fsync().catch((error) => this.#afterErrors(error)));
    await this.#scheduler.settle(file.fsync()); // an error is told once
    await this.#scheduler.settle(file.dropCache());
    await this.#scheduler.quiesce();
    this.#check();
    if (file.inode.mapping.cachedBytes > 0) throw new Error(`${what}: the cache did not go away`);
    const stored = await this.#scheduler.settle(file.readAll());
    if (this.#isExact && !subject.isUnknown) history.checkAll(stored, `${what}, from the device`);
  }

  #afterErrors(error: unknown): void {
    if (this.#config.kind === 'exact') throw error;
  }

  /** After fsync a power cut loses nothing. */
  async #checkDurable(): Promise<void> {
    await this.#scheduler.quiesce();
    for (const subject of this.#subjects) {
      const { file, history, isUnknown } = subject;
      await this.#scheduler.settle(file.fsync());
      const { server } = file.inode;
      if (server !== undefined && this.#isExact && !isUnknown)
        history.checkAll(server.content.content, `file ${file.inode.ino} on the server`);
    }
    if (this.#config.usesServer) return;
    const image = this.#device.powerCut(this.#chances);
    const fs = TestFs.mount({ ...this.#config.fs, bdev: image, cache: new PageCache({ budget: 4 * 2 ** 20 }) }, this.#fs.durable);
    for (const { file, history, isUnknown } of this.#subjects) {
      const after = await new TestFile(fs, fs.inode(file.inode.ino)).readAll();
      if (this.#isExact && !isUnknown) history.checkAll(after, `file ${file.inode.ino} after fsync and a power cut`);
    }
  }

  #cutPower(): void {
    this.#crash = {
      image: this.#device.powerCut(this.#chances),
      state: this.#fs.durable,
      watches: this.#subjects.map(({ file, history, durable }) => ({ ino: file.inode.ino, watch: history.fork(durable), history })),
    };
    this.#trace?.(`${this.#scheduler.turns} power cut`);
  }

  /** Of what was durable nothing is lost, and nothing shows that nobody wrote. */
  async #checkCrash({ image, state, watches }: Crash): Promise<void> {
    const fs = TestFs.mount({ ...this.#config.fs, bdev: image, cache: new PageCache({ budget: 4 * 2 ** 20 }) }, state);
    for (const { ino, watch, history } of watches) {
      const known = state.files.some((file) => file.ino === ino);
      const after = known ? await new TestFile(fs, fs.inode(ino)).readAll() : new Uint8Array(0);
      if (this.#subjects.every(({ isUnknown }) => !isUnknown)) history.check(watch, after, `file ${ino} after a power cut`);
    }
  }

  /** The end of all files: nothing of them stays behind in the cache. */
  async #evict(): Promise<void> {
    for (const { inode } of this.#subjects.map(({ file }) => file)) await this.#scheduler.settle(inode.mapping.evict());
    await this.#scheduler.quiesce();
    if (this.#fs.cache.memory.used > 0) throw new Error('memory is used although no file is cached');
  }

  #describe(): string {
    const lines: string[] = [];
    for (const { inode } of this.#subjects.map(({ file }) => file)) {
      const { mapping } = inode;
      const locks = `lock ${inode.lock.isLocked}, invalidate ${mapping.invalidateLock.isLocked}, dio ${inode.dioCount}`;
      lines.push(`file ${inode.ino}: size ${inode.size}, ${locks}, ${mapping.dirtyBytes} dirty, ${mapping.writebackBytes} in writeback`);
      for (let folio = mapping.next(0, 2 ** 50); folio !== undefined; folio = mapping.next(folio.end, 2 ** 50)) {
        const flags = [
          folio.isLocked && 'locked',
          folio.isWriteback && 'writeback',
          folio.isDirty && 'dirty',
          !folio.isUptodate && 'not uptodate',
        ];
        lines.push(`  folio [${folio.pos}, ${folio.end}) held ${folio.refs} times ${flags.filter(Boolean).join(' ')}`);
      }
    }
    const { memory, dirtyBytes, writebackBytes } = this.#fs.cache;
    lines.push(
      `cache: ${memory.used} of ${memory.budget} bytes, ${dirtyBytes} dirty, ${writebackBytes} in writeback; device: ${this.#device.inFlight} in flight`,
    );
    return lines.join('\n');
  }
}
