import { FsError } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import type { MemoryDevice } from '../../src/block/memory-device.ts';
import { SimulatedDevice } from '../../src/block/simulated-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import { type Caller, ROOT } from '../../src/vfs/caller.ts';
import type { NodeId } from '../../src/vfs/file-system.ts';
import { O_CREAT, O_DIRECT, O_RDWR } from '../../src/vfs/uapi.ts';
import { freshVolume, MODEL_KINDS, type ModelKind } from './ext4-model.ts';
import { assertClean } from './ext4-volume.ts';
import { assertSameBytes, FlatModel } from './model.ts';
import { SimScheduler } from './scheduler.ts';
import { COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } from './tree-model.ts';

// Several programs at once on one volume: each has files of its own, in directories that all share, and its own parts of a file that all
// share, and knows what has to be in them. On a device that completes requests in any order, so that their operations overlap; or alone, on
// one that answers at once, with much data.

const NOWAIT: Caller = { ...ROOT, nowait: true };
const LOG_MAX = 40;
const LARGE = 2 ** 20;
const SLICE = 40 * 512;
const SECTOR = 512;

/** Volumes on which space runs out. */
const TINY: readonly ModelKind[] = [
  { name: 'tiny', options: '-t ext4 -b 1024 -N 64', size: 4, blockSize: 1024 },
  {
    name: 'tiny with clusters',
    options: '-t ext4 -b 1024 -O bigalloc,^has_journal -C 4096 -N 64',
    size: 4,
    blockSize: 1024,
    clusterSize: 4096,
  },
  { name: 'tiny ext2', options: '-t ext2 -b 1024 -N 64', size: 2, blockSize: 1024, hasPointers: true },
  { name: 'tiny, uncached', options: '-t ext4 -b 1024 -N 64', size: 4, blockSize: 1024, mount: { uncached: true } },
  { name: 'tiny, inline data', options: '-t ext4 -b 4096 -I 256 -O inline_data,^has_journal -N 64', size: 2, blockSize: 4096 },
];

/** Written data: nothing in it is zero, so that a hole cannot pass for it. */
const pool = new Prng(12).bytes(2 ** 20).map((byte) => 1 + (byte % 255));

interface TasksConfig {
  readonly kind: ModelKind;
  readonly isTiny: boolean;
  readonly programs: number;
  readonly steps: number;
  /** Bytes of the page cache, and of the cache of metadata. */
  readonly budget: number;
  readonly metadataCache: number;
  /** Files reach up to about here, bytes. */
  readonly fileMax: number;
  readonly nowaitShare: number;
  readonly isSimulated: boolean;
}

function drawConfig(prng: Prng, seed: number, isSimulated: boolean): TasksConfig {
  const isTiny = prng.chance(0.25);
  return {
    kind: isTiny ? prng.pick(TINY) : (MODEL_KINDS[seed % MODEL_KINDS.length] as ModelKind),
    isTiny,
    programs: isSimulated ? prng.between(2, 5) : 1,
    steps: isSimulated ? prng.between(20, 60) : prng.between(60, 150),
    budget: prng.pick([2, 4, 16]) * 2 ** 20,
    metadataCache: prng.pick([2 ** 17, 2 ** 20, 2 ** 25]),
    fileMax: prng.pick(isSimulated ? [20_000, 200_000] : [20_000, 500_000, 4_000_000]),
    nowaitShare: prng.pick([0, 0.2]),
    isSimulated,
  };
}

/** Runs one seed: `isSimulated` for several programs on a device that completes later. */
export async function runExt4Tasks(seed: number, isSimulated: boolean, trace?: (line: string) => void): Promise<void> {
  const prng = new Prng(seed);
  const config = drawConfig(prng, seed, isSimulated);
  trace?.(JSON.stringify(config));
  const world = new TasksWorld(config, prng, trace);
  try {
    await world.run();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${message}\n${JSON.stringify(config)}\nlast steps:\n${world.log.join('\n')}`, { cause: error });
  }
}

/** Where a program may put names. */
interface Folder {
  readonly node: NodeId;
  readonly name: string;
}

/** A file of one program. */
interface Own {
  readonly node: NodeId;
  readonly fh: number;
  /** Open with O_DIRECT. */
  readonly direct: number | undefined;
  folder: Folder;
  /** Undefined once it is removed. */
  name: string | undefined;
  /** Lookups that this side has counted. */
  lookups: number;
  readonly model: FlatModel;
  readonly xattrs: Map<string, Uint8Array>;
}

class TasksWorld {
  readonly log: string[] = [];
  readonly config: TasksConfig;
  readonly prng: Prng;
  readonly folders: Folder[] = [];
  fs!: Ext4Fs;
  cache!: PageCache;
  shared!: { node: NodeId; fh: number; direct: number };
  readonly #trace: ((line: string) => void) | undefined;
  readonly #scheduler: SimScheduler | undefined;
  #bdev: BlockDevice;
  readonly #memory: MemoryDevice;
  readonly #warnings: string[] = [];

  constructor(config: TasksConfig, prng: Prng, trace: ((line: string) => void) | undefined) {
    this.config = config;
    this.prng = prng;
    this.#trace = trace;
    this.#memory = freshVolume(config.kind);
    this.#bdev = this.#memory;
    if (config.isSimulated) this.#scheduler = new SimScheduler(prng.fork());
  }

  say(line: string): void {
    this.log.push(line);
    if (this.log.length > LOG_MAX) this.log.shift();
    this.#trace?.(line);
  }

  async run(): Promise<void> {
    const { config, prng } = this;
    const { size } = this.#memory;
    let simulated: SimulatedDevice | undefined;
    if (this.#scheduler !== undefined) {
      simulated = new SimulatedDevice({ size, prng: prng.fork(), base: this.#memory, hasVolatileCache: true });
      simulated.autoRun(this.#scheduler);
      this.#bdev = simulated;
    }
    await this.#mount();
    const free = await this.#free();
    for (const name of ['x', 'y', 'z'])
      this.folders.push({ node: (await this.#settle(this.fs.mkdir(ROOT, this.fs.root, name, 0o755))).node, name });
    const { entry, fh } = await this.#settle(this.fs.create(ROOT, this.fs.root, 'shared', 0o644, O_RDWR));
    const { fh: direct } = await this.#settle(this.fs.open(ROOT, entry.node, O_RDWR | O_DIRECT));
    this.shared = { node: entry.node, fh, direct };

    const programs = Array.from({ length: config.programs }, (_, id) => new Program(this, id, prng.fork()));
    if (this.#scheduler === undefined) for (const program of programs) await program.run();
    else await this.#scheduler.run(programs.map((program) => this.#scheduler!.spawn(`program ${program.id}`, () => program.run())));

    this.say('verify, remount, verify, remove');
    for (const program of programs) await this.#settle(program.verify());
    for (const program of programs) await this.#settle(program.close());
    await this.#settle(this.fs.release(entry.node, fh));
    await this.#settle(this.fs.release(entry.node, direct));
    await this.#unmount(simulated);
    await this.#mount();
    for (const folder of this.folders) Object.assign(folder, { node: (await this.fs.lookup(ROOT, this.fs.root, folder.name))!.node });
    for (const program of programs) await program.verifyByName();
    for (const program of programs) await program.removeAll();
    await this.fs.unlink(ROOT, this.fs.root, 'shared');
    for (const { name } of this.folders) await this.fs.rmdir(ROOT, this.fs.root, name);
    for (const { node } of this.folders) this.fs.forget(node, Number.MAX_SAFE_INTEGER);
    const after = await this.#free();
    if (after.join() !== free.join())
      throw new Error(`free blocks and inodes of the emptied volume: ${after.join()}, expected ${free.join()}`);
    await this.#unmount(undefined);
  }

  #settle<T>(value: MaybePromise<T>): Promise<T> {
    return this.#scheduler === undefined || this.#bdev === this.#memory ? Promise.resolve(value) : this.#scheduler.settle(value);
  }

  async #mount(): Promise<void> {
    const { budget, metadataCache, kind } = this.config;
    const clock = this.#bdev === this.#memory ? undefined : this.#scheduler?.clock;
    const options = clock === undefined ? {} : { clock };
    this.cache = new PageCache({ budget, ...options });
    this.fs = await this.#settle(
      mountExt4(this.#bdev, {
        ...kind.mount,
        ...options,
        cache: this.cache,
        metadataCache,
        seed: 1,
        errors: 'continue',
        onWarning: (message) => this.#warnings.push(message),
      }),
    );
  }

  async #free(): Promise<number[]> {
    await this.#settle(this.fs.syncfs(ROOT));
    const { bfree, ffree } = await this.fs.statfs(ROOT, this.fs.root);
    return [bfree, ffree];
  }

  async #unmount(simulated: SimulatedDevice | undefined): Promise<void> {
    const before = await this.#free();
    await this.#settle(this.fs.destroy());
    if (simulated !== undefined) {
      await this.#scheduler?.quiesce();
      if (simulated.inFlight > 0) throw new Error(`${simulated.inFlight} requests are in flight after the end`);
      const { size } = this.#memory;
      for (let at = 0; at < size; at += LARGE) this.#memory.write(at, simulated.read(at, Math.min(LARGE, size - at)));
      this.#bdev = this.#memory;
    }
    if (this.#warnings.length > 0) throw new Error(`the volume says: ${this.#warnings.join('; ')}`);
    assertClean(this.#memory, this.config.kind.name);
    const again = await mountExt4(this.#memory, { readOnly: true });
    const { bfree, ffree } = await again.statfs(ROOT, again.root);
    await again.destroy();
    if (before.join() !== [bfree, ffree].join()) throw new Error(`free before unmounting: ${before.join()}, after: ${bfree},${ffree}`);
  }
}

/** One caller, and what it knows of its files. */
class Program {
  readonly id: number;
  readonly #world: TasksWorld;
  readonly #prng: Prng;
  #files: Own[] = [];
  /** What is in this program's part of the shared file. */
  readonly #slice = new Uint8Array(SLICE);
  #sliceEnd = 0;
  #names = 0;

  constructor(world: TasksWorld, id: number, prng: Prng) {
    this.#world = world;
    this.id = id;
    this.#prng = prng;
  }

  get #fs(): Ext4Fs {
    return this.#world.fs;
  }

  async run(): Promise<void> {
    for (let step = 0; step < this.#world.config.steps; step++) await this.#step();
  }

  #say(text: string): void {
    this.#world.say(`${this.id}: ${text}`);
  }

  /**
   * Makes a call, with nowait first if the dice say so. Undefined: there was no space.
   *
   * Errors: any other.
   */
  async #do<T>(text: string, call: (caller: Caller) => MaybePromise<T>): Promise<T | undefined> {
    this.#say(text);
    if (this.#prng.chance(this.#world.config.nowaitShare)) {
      try {
        const answer = call(NOWAIT);
        if (isPromise(answer)) throw new Error(`${text}: with nowait it answers with a promise`);
        return answer as T;
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        if (error.code !== 'EAGAIN' && error.code !== 'ENOSPC') throw new Error(`${text}: ${error.message}`, { cause: error });
      }
    }
    try {
      return await call(ROOT);
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENOSPC' && this.#world.config.isTiny) {
        this.#say(`${text}: ENOSPC`);
        return undefined;
      }
      throw new Error(`${this.id}: ${text}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }

  #pos(): number {
    const { fileMax, kind } = this.#world.config;
    const at = this.#prng.below(fileMax);
    return this.#prng.chance(0.4) ? at - (at % kind.blockSize) : at;
  }

  #data(): Uint8Array {
    const { fileMax, kind } = this.#world.config;
    let length = this.#prng.chance(0.4) ? this.#prng.between(1, 200) : this.#prng.between(1, Math.min(pool.length / 2, fileMax / 2));
    if (this.#prng.chance(0.4)) length = Math.ceil(length / kind.blockSize) * kind.blockSize;
    const at = this.#prng.below(pool.length - length);
    return pool.subarray(at, at + length);
  }

  async #step(): Promise<void> {
    const prng = this.#prng;
    if (this.#files.length === 0 || (this.#files.length < 6 && prng.chance(0.12))) return this.#create();
    const file = prng.pick(this.#files);
    const roll = prng.below(100);
    if (roll < 26) return this.#write(file);
    if (roll < 40) return this.#read(file);
    if (roll < 46) return this.#truncate(file);
    if (roll < 60) return this.#fallocate(file);
    if (roll < 64) return this.#copy(prng.pick(this.#files), file);
    if (roll < 68) await this.#do(`fsync ${file.name}`, (by) => this.#fs.fsync(by, file.node, file.fh, prng.chance(0.5)));
    else if (roll < 74) return this.#rename(file);
    else if (roll < 79) return this.#remove(file);
    else if (roll < 83) return this.#xattr(file);
    else if (roll < 88) return this.#list(prng.pick(this.#world.folders));
    else if (roll < 91) return this.#lookup();
    else if (roll < 97) return this.#writeShared();
    else if (roll < 98) await this.#do('syncfs', (by) => this.#fs.syncfs(by));
    else this.#world.cache.shrink(Number.MAX_SAFE_INTEGER);
  }

  async #create(): Promise<void> {
    const folder = this.#prng.pick(this.#world.folders);
    const name = `${this.id}-${this.#names++}${this.#prng.chance(0.2) ? 'n'.repeat(200) : ''}`;
    const flags = O_RDWR | O_CREAT;
    const isTemporary = this.#prng.chance(0.1);
    const made = await this.#do(`${isTemporary ? 'tmpfile' : 'create'} ${name} ${flags.toString(8)}`, (by) =>
      isTemporary ? this.#fs.tmpfile(by, folder.node, 0o644, flags) : this.#fs.create(by, folder.node, name, 0o644, flags),
    );
    if (made === undefined) return;
    const { entry, fh } = made;
    const direct = this.#prng.chance(0.5) ? (await this.#fs.open(ROOT, entry.node, O_RDWR | O_DIRECT)).fh : undefined;
    const own: Own = {
      node: entry.node,
      fh,
      direct,
      folder,
      name: isTemporary ? undefined : name,
      lookups: 1,
      model: new FlatModel(),
      xattrs: new Map(),
    };
    if (entry.attr.size !== 0 || entry.attr.blocks !== 0)
      throw new Error(`a new file has ${entry.attr.size} bytes, ${entry.attr.blocks} blocks`);
    this.#files.push(own);
  }

  /** The open file to use: past the cache only in whole sectors. */
  #way(file: Own, pos: number, length: number): number {
    return file.direct !== undefined && pos % SECTOR === 0 && length % SECTOR === 0 ? file.direct : file.fh;
  }

  async #write(file: Own): Promise<void> {
    const data = this.#data();
    const pos = this.#prng.chance(0.3) ? file.model.size : this.#pos();
    const fh = this.#way(file, pos, data.length);
    const how = fh === file.fh ? '' : 'direct ';
    const count = await this.#do(`${how}write ${file.node} ${pos}+${data.length}`, (by) =>
      this.#fs.write(by, file.node, fh, { pos, flags: 0 }, new IovIter(data)),
    );
    // Zeros up to where it would have begun may stay, or not.
    if (count === undefined) return this.#resettle(file);
    file.model.write(pos, data.subarray(0, count));
  }

  /** After an error: what changed of the file is its size at most. */
  async #resettle(file: Own, zeroed?: { pos: number; end: number }): Promise<void> {
    const { size } = this.#fs.getattr(ROOT, file.node);
    const before = file.model.readPadded(0, size);
    if (size < file.model.size && zeroed === undefined)
      throw new Error(`after an error the file has ${size} bytes, it had ${file.model.size}`);
    const now = new Uint8Array(size);
    await this.#fs.read(ROOT, file.node, file.fh, { pos: 0, flags: 0 }, now);
    for (let at = 0; at < size; at++) {
      const mayBeZero = zeroed !== undefined && at >= zeroed.pos && at < zeroed.end && now[at] === 0;
      if (now[at] !== before[at] && !mayBeZero) throw new Error(`after an error byte ${at} is ${now[at]}, it was ${before[at]}`);
    }
    file.model.truncate(0);
    file.model.write(0, now);
  }

  async #read(file: Own): Promise<void> {
    const pos = this.#pos();
    const into = new Uint8Array(Math.ceil(this.#prng.between(1, this.#world.config.fileMax) / SECTOR) * SECTOR);
    const fh = this.#way(file, pos, into.length);
    let isShort = false;
    const count = await this.#do(`read ${file.node} ${pos}+${into.length}`, (by) => {
      isShort = by.nowait === true;
      return this.#fs.read(by, file.node, fh, { pos, flags: 0 }, into);
    });
    const expected = file.model.read(pos, isShort ? (count as number) : into.length);
    assertSameBytes(into.subarray(0, count), expected, `read of ${file.node}`, pos);
  }

  async #truncate(file: Own): Promise<void> {
    const size = this.#prng.chance(0.2) ? 0 : this.#pos();
    const answer = await this.#do(`truncate ${file.node} ${size}`, (by) => this.#fs.setattr(by, file.node, { size }));
    if (answer === undefined) return this.#resettle(file);
    if (answer.size !== size) throw new Error(`truncated to ${size}, the size is ${answer.size}`);
    file.model.truncate(size);
  }

  async #fallocate(file: Own): Promise<void> {
    const prng = this.#prng;
    const { kind } = this.#world.config;
    const unit = kind.clusterSize ?? kind.blockSize;
    const drawn = prng.pick([0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE, COLLAPSE_RANGE, INSERT_RANGE]);
    const mode = kind.hasPointers === true ? PUNCH_HOLE | KEEP_SIZE : drawn;
    let pos = this.#pos();
    let length = this.#data().length;
    const { model } = file;
    if (mode === COLLAPSE_RANGE || mode === INSERT_RANGE) {
      const units = Math.floor((model.size - 1) / unit);
      if (units < 1) return;
      pos = prng.below(units) * unit;
      length = mode === COLLAPSE_RANGE ? prng.between(1, units - pos / unit) * unit : prng.between(1, 4) * unit;
      if (mode === COLLAPSE_RANGE && pos + length >= model.size) return;
    }
    const done = await this.#do(`fallocate ${file.node} ${mode} ${pos}+${length}`, (by) => {
      const answer = this.#fs.fallocate(by, file.node, file.fh, mode, pos, length);
      return isPromise(answer) ? answer.then(() => true) : true;
    });
    const end = pos + length;
    if (done === undefined) return this.#resettle(file, { pos, end });
    if (mode === COLLAPSE_RANGE || mode === INSERT_RANGE) {
      const tail = model.read(mode === COLLAPSE_RANGE ? end : pos, model.size);
      model.truncate(pos);
      model.write(mode === COLLAPSE_RANGE ? pos : end, tail);
      return;
    }
    if ((mode & (PUNCH_HOLE | ZERO_RANGE)) !== 0) model.zero(pos, length);
    if ((mode & KEEP_SIZE) === 0 && end > model.size) model.truncate(end);
  }

  async #copy(from: Own, to: Own): Promise<void> {
    const [pos, posOut, length] = [this.#pos(), this.#pos(), this.#data().length];
    if (from === to && Math.abs(pos - posOut) < length) return;
    const count = await this.#do(`copy ${from.node} ${pos}+${length} to ${to.node} ${posOut}`, (by) =>
      this.#fs.copyFileRange(by, from.node, from.fh, pos, to.node, to.fh, posOut, length, 0),
    );
    if (count === undefined) return this.#resettle(to, { pos: posOut, end: posOut + length });
    const data = from.model.read(pos, length);
    if (count > data.length || (count < data.length && !this.#world.config.isTiny)) throw new Error(`copied ${count} of ${data.length}`);
    to.model.write(posOut, data.subarray(0, count));
    if (count < data.length) await this.#resettle(to, { pos: posOut, end: posOut + length });
  }

  async #rename(file: Own): Promise<void> {
    if (file.name === undefined) return;
    const { name: oldName, folder: old } = file;
    const folder = this.#prng.pick(this.#world.folders);
    const victim = this.#prng.chance(0.3) ? this.#files.find((each) => each !== file && each.name !== undefined) : undefined;
    const target = victim?.folder ?? folder;
    const name = victim?.name ?? `${this.id}-${this.#names++}`;
    const done = await this.#do(`rename ${oldName.slice(0, 9)} ${old.name} to ${name.slice(0, 9)} ${target.name}`, (by) => {
      const answer = this.#fs.rename(by, old.node, oldName, target.node, name, 0);
      return isPromise(answer) ? answer.then(() => true) : true;
    });
    if (done === undefined) return;
    file.name = name;
    file.folder = target;
    if (victim !== undefined) victim.name = undefined;
  }

  /** Takes the name away; the file stays open for a while, or not. */
  async #remove(file: Own): Promise<void> {
    if (file.name !== undefined) {
      const { name, folder } = file;
      const done = await this.#do(`unlink ${name.slice(0, 9)} of ${file.node}`, (by) => {
        const answer = this.#fs.unlink(by, folder.node, name);
        return isPromise(answer) ? answer.then(() => true) : true;
      });
      if (done === undefined) return; // not even a removal: no space for the log
      file.name = undefined;
    }
    if (this.#prng.chance(0.5)) await this.#close(file);
  }

  /** The last use of a file. In any order, and with others' operations in between. */
  async #close(file: Own): Promise<void> {
    this.#files = this.#files.filter((each) => each !== file);
    const first = this.#prng.chance(0.5);
    this.#say(`close ${file.node}`);
    if (first) this.#fs.forget(file.node, file.lookups);
    if (file.direct !== undefined) await this.#fs.release(file.node, file.direct);
    await this.#fs.release(file.node, file.fh);
    if (!first) this.#fs.forget(file.node, file.lookups);
  }

  async #xattr(file: Own): Promise<void> {
    const name = this.#prng.pick(['user.a', 'user.b', 'security.c']);
    const roll = this.#prng.below(3);
    if (roll === 0) {
      const value = pool.slice(0, this.#prng.pick([1, 20, 100, 300]));
      const done = await this.#do(`setxattr ${file.node} ${name} ${value.length}`, (by) => {
        const answer = this.#fs.setxattr(by, file.node, name, value, 0);
        return isPromise(answer) ? answer.then(() => true) : true;
      });
      if (done !== undefined) file.xattrs.set(name, value);
    } else if (roll === 1 && file.xattrs.has(name)) {
      const done = await this.#do(`removexattr ${file.node} ${name}`, (by) => {
        const answer = this.#fs.removexattr(by, file.node, name);
        return isPromise(answer) ? answer.then(() => true) : true;
      });
      if (done !== undefined) file.xattrs.delete(name);
    }
    await this.#checkXattrs(file);
  }

  async #checkXattrs(file: Own): Promise<void> {
    const names = [...(await this.#fs.listxattr(ROOT, file.node))].sort().join();
    const expected = [...file.xattrs.keys()].sort().join();
    if (names !== expected) throw new Error(`attributes of ${file.node}: ${names}, expected ${expected}`);
    for (const [name, value] of file.xattrs) {
      assertSameBytes((await this.#fs.getxattr(ROOT, file.node, name)) ?? new Uint8Array(0), value, `${name} of ${file.node}`);
    }
  }

  /** A listing has all of this program's names, once each. */
  async #list(folder: Folder): Promise<void> {
    this.#say(`list ${folder.name}`);
    const { fh } = await this.#fs.opendir(ROOT, folder.node, 0);
    const seen: string[] = [];
    for (let offset = 0; ; ) {
      const entries = await this.#fs.readdir(ROOT, folder.node, fh, offset, this.#prng.pick([1, 7, 100]), this.#prng.chance(0.5));
      const last = entries.at(-1);
      if (last === undefined) break;
      offset = last.next;
      for (const { name, entry } of entries) {
        if (entry !== undefined) this.#fs.forget(entry.node, 1);
        if (name.startsWith(`${this.id}-`)) seen.push(name);
      }
    }
    await this.#fs.releasedir(folder.node, fh);
    const own = this.#files.filter(({ name, folder: its }) => name !== undefined && its === folder).map(({ name }) => name);
    if (seen.sort().join() !== own.sort().join()) throw new Error(`${folder.name} lists ${seen.join()}, expected ${own.join()}`);
  }

  /** Looks somebody's name up, that may be about to go. */
  async #lookup(): Promise<void> {
    const { programs } = this.#world.config;
    const name = `${this.#prng.below(programs)}-${this.#prng.below(8)}`;
    const folder = this.#prng.pick(this.#world.folders);
    const entry = await this.#do(`lookup ${name}`, (by) => this.#fs.lookup(by, folder.node, name));
    if (entry === undefined) return;
    if (this.#prng.chance(0.5)) {
      const { node } = entry;
      const { fh } = await this.#fs.open(ROOT, node, O_RDWR);
      await this.#fs.read(ROOT, node, fh, { pos: 0, flags: 0 }, new Uint8Array(100));
      await this.#fs.release(node, fh);
    }
    this.#fs.forget(entry.node, 1);
  }

  async #writeShared(): Promise<void> {
    const { node, fh, direct } = this.#world.shared;
    const base = this.id * SLICE;
    const isDirect = this.#prng.chance(0.3);
    const at = this.#prng.below(SLICE - 1);
    const pos = isDirect ? at - (at % SECTOR) : at;
    const wanted = this.#data().subarray(0, SLICE - pos);
    const data = isDirect ? wanted.subarray(0, Math.max(wanted.length - (wanted.length % SECTOR), 0)) : wanted;
    if (data.length === 0) return;
    const through = isDirect ? direct : fh;
    const count = await this.#do(`write shared ${base + pos}+${data.length}`, (by) =>
      this.#fs.write(by, node, through, { pos: base + pos, flags: 0 }, new IovIter(data)),
    );
    this.#slice.set(data.subarray(0, count ?? 0), pos);
    if (count !== undefined) this.#sliceEnd = Math.max(this.#sliceEnd, pos + count);
    await this.#checkShared(node, fh);
  }

  async #checkShared(node: NodeId, fh: number): Promise<void> {
    if (this.#sliceEnd === 0) return;
    const into = new Uint8Array(this.#sliceEnd);
    const count = await this.#fs.read(ROOT, node, fh, { pos: this.id * SLICE, flags: 0 }, into);
    assertSameBytes(into.subarray(0, count), this.#slice.subarray(0, this.#sliceEnd), `part of ${this.id} of the shared file`);
  }

  async #checkContent(file: Own, node: NodeId, fh: number): Promise<void> {
    const into = new Uint8Array(file.model.size + 1);
    const count = await this.#fs.read(ROOT, node, fh, { pos: 0, flags: 0 }, into);
    assertSameBytes(into.subarray(0, count), file.model.content, `content of ${file.name} (${file.node})`);
  }

  async verify(): Promise<void> {
    for (const file of this.#files) {
      await this.#checkContent(file, file.node, file.fh);
      await this.#checkXattrs(file);
    }
    await this.#checkShared(this.#world.shared.node, this.#world.shared.fh);
    for (const folder of this.#world.folders) await this.#list(folder);
  }

  async close(): Promise<void> {
    const files = [...this.#files];
    for (const file of files) await this.#close(file);
    this.#files = files.filter(({ name }) => name !== undefined);
  }

  /** Finds everything again in a volume that was mounted anew. */
  async verifyByName(): Promise<void> {
    const { fs } = this.#world;
    for (const [i, file] of this.#files.entries()) {
      const entry = await fs.lookup(ROOT, file.folder.node, file.name as string);
      if (entry === undefined) throw new Error(`${file.name} is gone`);
      const { fh } = await fs.open(ROOT, entry.node, O_RDWR);
      await this.#checkContent(file, entry.node, fh);
      const again = { ...file, node: entry.node, fh, direct: undefined };
      await this.#checkXattrs(again);
      await fs.release(entry.node, fh);
      fs.forget(entry.node, 1);
      this.#files[i] = again;
    }
    const shared = await fs.lookup(ROOT, fs.root, 'shared');
    if (shared === undefined) throw new Error('the shared file is gone');
    const { fh } = await fs.open(ROOT, shared.node, O_RDWR);
    await this.#checkShared(shared.node, fh);
    await fs.release(shared.node, fh);
    fs.forget(shared.node, 1);
  }

  async removeAll(): Promise<void> {
    for (const { folder, name } of this.#files) await this.#world.fs.unlink(ROOT, folder.node, name as string);
  }
}
