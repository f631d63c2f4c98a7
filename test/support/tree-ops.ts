import { type Clock, systemClock } from '../../src/base/clock.ts';
import { FsError } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../../src/base/task.ts';
import { MemFs } from '../../src/fs/memfs/mem-fs.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import type { Attr, DirEntry, Timespec } from '../../src/vfs/attr.ts';
import { type Caller, callerOf, ROOT } from '../../src/vfs/caller.ts';
import type { FileDescription } from '../../src/vfs/file-description.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';
import type { FileView } from '../../src/vfs/file-view.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import { assertSameBytes } from './model.ts';
import { slowed } from './slow-fs.ts';
import { check, checkAttr, checkListing, checkXattr, compareTree, quoted } from './tree-compare.ts';
import {
  BLOCK,
  type Changes,
  COLLAPSE_RANGE,
  INSERT_RANGE,
  KEEP_SIZE,
  PUNCH_HOLE,
  Refusal,
  type SpaceRules,
  type TreeHandle,
  TreeModel,
  TreeNode,
  ZERO_RANGE,
} from './tree-model.ts';

// Random operations on a whole tree of files, through a Vfs and on the model of it, one tree for each seed.

const { O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY } = uapi;

/** What a seed decides before anything happens. */
export interface TreeConfig {
  readonly steps: number;
  /** Bytes of the page cache. */
  readonly budget: number;
  /** Bytes for names in core: the fewest that a Vfs keeps, or enough for all. */
  readonly dentryBytes: number;
  /** Inodes that there can be, or any number. */
  readonly inodesMax: number | undefined;
  /** Bytes of data that there can be, or any number. */
  readonly bytesMax: number | undefined;
  /** Chance that a call is made with nowait first. */
  readonly nowaitShare: number;
  /** Files reach up to about here, bytes. */
  readonly fileMax: number;
  /** Chance of a step that is a batch of calls which nobody waits for in between. */
  readonly batchShare: number;
  /** Chance that the filesystem answers a call later; one with nowait gets EAGAIN instead. */
  readonly slowShare: number;
}

function drawConfig(prng: Prng): TreeConfig {
  return {
    steps: prng.between(200, 400),
    budget: prng.pick([16, 64, 256]) * BLOCK,
    dentryBytes: prng.pick([0, 2 ** 20]),
    inodesMax: prng.chance(0.2) ? prng.between(6, 16) : undefined,
    bytesMax: prng.chance(0.2) ? prng.between(3, 20) * BLOCK : undefined,
    nowaitShare: prng.pick([0, 0.5, 1]),
    fileMax: prng.pick([3, 8, 24]) * BLOCK,
    batchShare: prng.pick([0, 0.05, 0.2]),
    slowShare: prng.pick([0, 0, 0.2, 0.5]),
  };
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'é', '\u{1f4c1}', '\udc80x', 'n'.repeat(255)];
const XATTRS = ['user.a', 'user.b', 'user.c', 'trusted.t'];
const MODES = [
  0o777, 0o777, 0o777, 0o666, 0o777, 0o755, 0o700, 0o644, 0o600, 0o666, 0o640, 0o1777, 0o2775, 0o4755, 0o6711, 0o2644, 0o070, 0,
];
const UMASKS = [0, 0o022, 0o077];

/** Written data: nothing in it is zero, so that a hole cannot pass for it. */
const pool = new Prng(11).bytes(2 ** 18).map((byte) => 1 + (byte % 255));

/** Seconds of the first moment, and of a day. */
const EPOCH_S = 1_000_000;
const DAY_S = 24 * 60 * 60;
const HANDLES_MAX = 8;
const LOG_MAX = 20;

/** A filesystem under test, of which there is as much as anybody asks for. */
export interface TreeSubject {
  /** An empty tree, while it is mounted. */
  readonly fs: FileSystem;
  readonly space: SpaceRules;
  /** Ends it and mounts it again: nothing is lost. */
  remount(): Promise<void>;
  /** The end. Throws if anything is not as it has to be. The tree is empty again. */
  close(): Promise<void>;
}

/** Makes a filesystem with data in `cache` and times by `clock`. */
export type MakeSubject = (cache: PageCache, clock: Clock, prng: Prng) => Promise<TreeSubject>;

/**
 * Runs one seed, on memfs or what `make` makes. Throws at the first thing that may not be, with the last steps. `trace` is told each step.
 */
export async function runTree(seed: number, trace?: (line: string) => void, make?: MakeSubject): Promise<void> {
  const prng = new Prng(seed);
  const drawn = drawConfig(prng);
  const config = make === undefined ? drawn : { ...drawn, inodesMax: undefined, bytesMax: undefined };
  trace?.(JSON.stringify(config));
  const world = await TreeWorld.make(config, prng, trace, make);
  try {
    await world.run();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${message}\n${JSON.stringify(config)}\nlast steps:\n${world.log.join('\n')}`, { cause: error });
  }
}

/** The filesystem under test, and what it takes to make its page cache small. */
class Mount {
  /** Undefined for memfs, which ends with the process. */
  readonly subject: TreeSubject | undefined;
  fs: FileSystem;
  readonly #filler: Vfs;
  readonly #budget: number;
  readonly #slowShare: number;
  readonly #prng: Prng;

  static async make(config: TreeConfig, clock: Clock, prng: Prng, make: MakeSubject | undefined): Promise<Mount> {
    const cache = new PageCache({ budget: config.budget, clock });
    return new Mount(config, clock, prng, cache, await make?.(cache, clock, prng));
  }

  private constructor(config: TreeConfig, clock: Clock, prng: Prng, cache: PageCache, subject: TreeSubject | undefined) {
    const { budget, inodesMax, bytesMax, slowShare } = config;
    this.subject = subject;
    this.#slowShare = slowShare;
    this.#prng = prng;
    this.fs = this.#slow(subject?.fs ?? new MemFs({ cache, clock, inodes: inodesMax, bytes: bytesMax }));
    this.#filler = new Vfs(new MemFs({ cache, clock }), { clock });
    this.#budget = budget;
  }

  #slow(fs: FileSystem): FileSystem {
    return this.#slowShare === 0 ? fs : slowed(fs, this.#slowShare, this.#prng);
  }

  async remount(): Promise<void> {
    if (this.subject === undefined) return;
    await this.subject.remount();
    this.fs = this.#slow(this.subject.fs);
  }

  /** Every clean page goes: another file takes all of the cache, and is gone again. */
  async dropPages(): Promise<void> {
    const file = await this.#filler.open(ROOT, '/filler', O_RDWR | O_CREAT | O_TRUNC);
    await file.truncate(ROOT, this.#budget);
    const into = new Uint8Array(BLOCK);
    for (let pos = 0; pos < this.#budget; pos += BLOCK) await file.read(ROOT, into, pos);
    await file.close(ROOT);
    await this.#filler.unlink(ROOT, '/filler');
  }

  async close(): Promise<void> {
    await this.#filler.close();
    await this.subject?.close();
  }
}

/** A call: on the real tree, on the model, and how the two answers compare. */
interface Call {
  readonly text: string;
  readonly caller: Caller;
  real(caller: Caller): MaybePromise<unknown>;
  model(): unknown;
  /** What it needs space for, if space can end. */
  readonly space?: Space;
  /** The call on the model where it stops after fewer bytes, as it may for a caller who will not wait. */
  partly?(bytes: number): unknown;
  /** Takes effect even if it fails: it is not made twice. */
  readonly isOnce?: boolean;
  /** Throws unless the answers agree; what of the model depends on the real answer happens here. Equal answers agree by default. */
  settle?(actual: never, expected: never): void;
}

interface Space {
  readonly node: TreeNode;
  /** Bytes that it sets, and the most blocks for them. */
  readonly bytes: number;
  /** The call on the model where there was space for fewer bytes. */
  partly?(bytes: number): unknown;
  /** What the model does where there was none at all. */
  refused?(): void;
}

/** An open file on both sides. */
interface Open {
  readonly id: number;
  readonly handle: TreeHandle;
  readonly file: FileDescription;
}

class TreeWorld {
  readonly log: string[] = [];
  readonly #config: TreeConfig;
  readonly #prng: Prng;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #clock: StepClock;
  readonly #mount: Mount;
  #model: TreeModel;
  readonly #root: Caller;
  readonly #users: readonly Caller[];
  #vfs: Vfs;
  #open: Open[] = [];
  #lastId = 0;
  #step = 0;

  static async make(
    config: TreeConfig,
    prng: Prng,
    trace: ((line: string) => void) | undefined,
    make: MakeSubject | undefined,
  ): Promise<TreeWorld> {
    const clock = new StepClock();
    return new TreeWorld(config, prng, trace, clock, await Mount.make(config, clock, prng.fork(), make));
  }

  private constructor(config: TreeConfig, prng: Prng, trace: ((line: string) => void) | undefined, clock: StepClock, mount: Mount) {
    this.#config = config;
    this.#prng = prng;
    this.#trace = trace;
    this.#clock = clock;
    this.#mount = mount;
    this.#root = callerOf({ uid: 0, umask: 0o022, pid: 1 });
    this.#users = [
      callerOf({ uid: 1000, gid: 100, groups: [300], umask: prng.pick(UMASKS), pid: 2 }),
      callerOf({ uid: 1001, gid: 101, groups: [300, 301], umask: prng.pick(UMASKS), pid: 3 }),
    ];
    const { inodesMax } = config;
    this.#vfs = this.#newVfs();
    const { moment } = this.#clock;
    this.#model = new TreeModel(moment, new TreeNode(uapi.S_IFDIR, 0o755, 0, 0, moment, mount.subject?.space));
    if (inodesMax !== undefined) this.#model.inodesMax = inodesMax;
  }

  #newVfs(): Vfs {
    return new Vfs(this.#mount.fs, { clock: this.#clock, dentryBytes: this.#config.dentryBytes });
  }

  async run(): Promise<void> {
    const before = await this.#vfs.statfs(this.#root, '/');
    this.#model.inodesElse = before.files - before.ffree - this.#model.inodes;
    // Somewhere that everyone can make names in.
    await this.#do(this.#setattrCall(this.#root, '/', { mode: this.#prng.pick([0o777, 0o777, 0o1777, 0o2777]) }, true));
    for (this.#step = 0; this.#step < this.#config.steps; this.#step++) {
      if (this.#prng.chance(this.#config.batchShare)) await (this.#prng.chance(0.7) ? this.#batch() : this.#race());
      else await this.#one();
    }
    await this.#closeAll();
    await this.#compareTree();
    await this.#remount();
    await this.#compareTree();
    await this.#removeAll();
    const after = await this.#vfs.statfs(this.#root, '/');
    // Directories keep the space that they once needed.
    const keys = this.#mount.subject === undefined ? (['bfree', 'bavail', 'ffree'] as const) : (['ffree'] as const);
    for (const key of keys) check(after[key], before[key], `statfs ${key} of the emptied tree`);
    await this.#vfs.close();
    await this.#mount.close();
  }

  // One call.

  /** Makes the call on both sides and compares. */
  async #do(call: Call): Promise<void> {
    this.#tick();
    const line = `${call.caller.uid} ${call.text}`;
    this.#say(line);
    const pending = this.#start(call);
    const actual = isPromise(pending) ? ((await pending) as Outcome) : pending;
    this.#trace?.(`  ${actual.code ?? 'ok'}`);
    const { value, isAtOnce } = actual;
    const { partly } = call;
    if (isAtOnce === true && this.#mount.subject !== undefined && partly !== undefined && typeof value === 'number' && value > 0) {
      finish(
        call,
        actual,
        attempt(() => partly(value)),
      );
    } else if (call.space === undefined || !this.#ranOut(call, call.space, actual)) finish(call, actual, attempt(call.model));
  }

  /** Did the call end, or stop early, because there may not have been space for all of it? The model follows. */
  #ranOut(call: Call, space: Space, actual: Outcome): boolean {
    const { bytesMax } = this.#config;
    const blocks = Math.ceil(space.bytes / BLOCK) + 1;
    if (bytesMax === undefined || (this.#model.blocksUsed() + blocks) * BLOCK <= bytesMax) return false;
    if (actual.code === 'ENOSPC') {
      this.#model.refuseSpace(call.caller, space.node);
      space.refused?.();
      return true;
    }
    const { value } = actual;
    const { partly } = space;
    if (partly === undefined || typeof value !== 'number' || value === 0 || value >= space.bytes) return false;
    finish(
      call,
      actual,
      attempt(() => partly(value)),
    );
    return true;
  }

  /** Makes all calls at one moment without waiting in between: their answers may not depend on the order. */
  async #together(calls: readonly Call[]): Promise<void> {
    this.#tick();
    for (const call of calls) this.#say(`| ${call.caller.uid} ${call.text}`);
    this.#model.isConcurrent = true;
    const expected = calls.map((call) => attempt(call.model));
    this.#model.isConcurrent = false;
    const pending = calls.map((call) =>
      this.#start(call.partly !== undefined && this.#mount.subject !== undefined ? { ...call, isOnce: true } : call),
    );
    if (this.#prng.chance(0.2)) this.#vfs.dropCaches();
    const actual = await Promise.all(pending);
    for (const [i, call] of calls.entries()) finish(call, actual[i] as Outcome, expected[i] as Outcome);
  }

  #tick(): void {
    this.#clock.tick(this.#prng);
    this.#model.now = this.#clock.moment;
  }

  #say(text: string): void {
    const line = `${this.#step}: ${text}`;
    this.log.push(line);
    if (this.log.length > LOG_MAX) this.log.shift();
    this.#trace?.(line);
  }

  /** The real call; with nowait first, if the dice say so: it answers at once, or fails with EAGAIN and has done nothing. */
  #start(call: Call): MaybePromise<Outcome> {
    if (call.isOnce !== true && this.#prng.chance(this.#config.nowaitShare)) {
      const outcome = attempt(() => call.real({ ...call.caller, nowait: true }));
      if (isPromise(outcome.value)) throw new Error(`${call.text}: with nowait it answers with a promise`);
      if (outcome.code !== 'EAGAIN') return { ...outcome, isAtOnce: true };
    }
    const outcome = attempt(() => call.real(call.caller));
    if (!isPromise(outcome.value)) return outcome;
    return outcome.value.then(
      (value) => ({ value, code: undefined }),
      (error: unknown) => ({ value: error, code: codeOf(error) }),
    );
  }

  // Random choices.

  #caller(): Caller {
    return this.#prng.chance(0.45) ? this.#root : this.#prng.pick(this.#users);
  }

  #name(): string {
    if (this.#prng.chance(0.01)) return 'n'.repeat(256);
    // Mostly the first few, so that names meet.
    return this.#prng.chance(0.7) ? (NAMES[this.#prng.below(5)] as string) : this.#prng.pick(NAMES);
  }

  /** A path, mostly of something that is there; with `fresh` mostly of something that is not, in a directory that is. */
  #path(kind: 'any' | 'directory' | 'fresh' | 'link' = 'any'): string {
    const prng = this.#prng;
    if (prng.chance(0.005)) return '';
    if (prng.chance(0.005)) return `/${'a/'.repeat(2100)}`;
    const names: string[] = [];
    let at = this.#model.root;
    while (names.length < 6) {
      const isDeep = names.length >= 3;
      const below = [...at.entries];
      const directories = below.filter(([, node]) => node.isDirectory || node.isSymlink);
      if (directories.length === 0 || prng.chance(isDeep ? 0.8 : 0.4)) {
        if (kind === 'directory') break;
        const wanted = kind === 'link' ? below.filter(([, node]) => node.isSymlink) : below;
        if (kind === 'fresh' || wanted.length === 0 || prng.chance(0.1)) names.push(this.#name());
        else names.push(prng.pick(wanted)[0]);
        break;
      }
      const [name, node] = prng.pick(directories);
      names.push(name);
      if (node.isDirectory) at = node;
      else if (prng.chance(0.5)) break; // whatever the link leads to
    }
    if (prng.chance(0.05)) names.splice(prng.below(names.length + 1), 0, prng.pick(['.', '..', '..', this.#name()]));
    const path = names.join(prng.chance(0.02) ? '//' : '/');
    return `${prng.chance(0.05) && path !== '' ? '' : '/'}${path}${prng.chance(0.04) ? '/' : ''}`;
  }

  #length(): number {
    const { fileMax } = this.#config;
    return this.#prng.chance(0.3) ? this.#prng.between(1, 100) : this.#prng.between(1, Math.floor(fileMax / 3));
  }

  #pos(): number {
    const { fileMax } = this.#config;
    return this.#prng.chance(0.4) ? this.#prng.below(fileMax / BLOCK) * BLOCK : this.#prng.below(fileMax);
  }

  #data(length = this.#length()): Uint8Array {
    const at = this.#prng.below(pool.length - length);
    return pool.subarray(at, at + length);
  }

  /** An open file, if there is one; mostly one of the kind that is asked for. */
  #handle(kind: 'file' | 'directory'): Open | undefined {
    const wanted = this.#open.filter(({ handle }) => handle.node.isDirectory === (kind === 'directory'));
    return wanted.length > 0 ? this.#prng.pick(wanted) : undefined;
  }

  // Steps.

  /** One random call. */
  async #one(): Promise<void> {
    const caller = this.#caller();
    const call = this.#draw(caller);
    if (call !== undefined) return this.#do(call);
    await this.#event();
  }

  /** What is no call of a program, or many. */
  async #event(): Promise<void> {
    const kind = this.#prng.below(10);
    this.#say(`event ${kind}`);
    if (kind < 4) this.#vfs.dropCaches();
    else if (kind < 6) await this.#vfs.syncfs(this.#root);
    else if (kind < 8) await this.#mount.dropPages();
    else if (kind < 9) {
      await this.#closeAll();
      await this.#remount();
    } else await this.#compareTree();
  }

  #draw(caller: Caller): Call | undefined {
    const prng = this.#prng;
    const roll = prng.below(100);
    if (roll < 10) return this.#openCall(caller, this.#path(prng.chance(0.5) ? 'fresh' : 'any'), this.#openFlags());
    if (roll < 15) return this.#mkdirCall(caller, this.#path('fresh'));
    if (roll < 18) return this.#symlinkCall(caller, prng.chance(0.7) ? this.#path() : this.#name(), this.#path('fresh'));
    if (roll < 21) return this.#linkCall(caller, this.#path(), this.#path('fresh'));
    if (roll < 22) return this.#mknodCall(caller, this.#path('fresh'));
    if (roll < 31) return this.#renameCall(caller, this.#path(), this.#path(prng.chance(0.4) ? 'fresh' : 'any'));
    if (roll < 35) return this.#unlinkCall(caller, this.#path());
    if (roll < 38) return this.#rmdirCall(caller, this.#path(prng.chance(0.7) ? 'directory' : 'any'));
    if (roll < 44) return this.#statCall(caller, this.#path(), prng.chance(0.6));
    if (roll < 46) return this.#readlinkCall(caller, this.#path('link'));
    if (roll < 47) return this.#accessCall(caller, this.#path());
    if (roll < 48) return this.#realpathCall(caller, this.#path());
    if (roll < 53) return this.#setattrCall(caller, this.#path(), this.#changes(), prng.chance(0.8));
    if (roll < 55) return this.#truncateCall(caller, this.#path());
    if (roll < 60) return this.#xattrCall(caller, this.#path());
    if (roll < 96) return this.#drawOnHandle(caller);
    return undefined;
  }

  #drawOnHandle(caller: Caller): Call | undefined {
    const prng = this.#prng;
    if (this.#open.length >= HANDLES_MAX) return this.#closeCall(prng.pick(this.#open));
    const directory = this.#handle('directory');
    if (directory !== undefined && prng.chance(0.3)) return this.#onDirectory(caller, directory);
    const open = this.#handle('file');
    if (open === undefined) return this.#openCall(caller, this.#path(), prng.pick([O_RDWR | O_CREAT, O_RDONLY | O_DIRECTORY]));
    const roll = prng.below(100);
    if (roll < 30)
      return this.#writeCall(caller, open, this.#data(prng.chance(0.03) ? 0 : undefined), prng.chance(0.3) ? null : this.#pos());
    if (roll < 48) return this.#readCall(caller, open, this.#length(), prng.chance(0.3) ? null : this.#pos());
    if (roll < 54) return this.#ftruncateCall(caller, open);
    if (roll < 68) return this.#fallocateCall(caller, open);
    if (roll < 74) return this.#copyCall(caller, open, this.#handle('file') ?? open);
    if (roll < 80) return this.#seekCall(caller, open);
    if (roll < 84) return this.#fstatCall(caller, open);
    if (roll < 87) return this.#fsyncCall(caller, open);
    if (roll < 90) return this.#viewCall(caller, open);
    if (roll < 92) return this.#linkOpenCall(caller, open, this.#path('fresh'));
    if (roll < 94) return this.#fsetattrCall(caller, open, this.#changes());
    if (roll < 96) return this.#wholeCall(caller, open);
    return this.#closeCall(open);
  }

  #onDirectory(caller: Caller, open: Open): Call {
    const roll = this.#prng.below(10);
    if (roll < 7) return this.#readdirCall(caller, open);
    if (roll < 8) return this.#seekCall(caller, open);
    if (roll < 9) return this.#fstatCall(caller, open);
    return this.#prng.chance(0.5) ? this.#closeCall(open) : this.#readCall(caller, open, 10, 0);
  }

  /** Paths of all directories but the root, with a slash at the end, without symbolic links. */
  #directories(): string[] {
    const below = [...this.#model.everything()].filter(({ node }) => node.isDirectory);
    return below.map(({ dir, name }) => `${dir === '/' ? '' : dir}/${name}/`);
  }

  /** Calls whose answers do not depend on their order: each kind on a thing of its own. */
  async #batch(): Promise<void> {
    const prng = this.#prng;
    const calls: Call[] = [];
    const used = new Set<unknown>();
    // Names that are only made, each once, in one directory, or only removed.
    const dir = prng.pick(['/', ...this.#directories()]);
    const kind = prng.pick(['make', 'remove'] as const);
    const count = prng.between(1, 5);
    const caller = this.#caller();
    for (const name of prng.shuffle([...NAMES]).slice(0, count)) {
      const path = dir + name;
      // Inodes run out for whoever comes last, as space does: an order after all.
      if (kind === 'remove') calls.push(this.#unlinkCall(caller, path));
      else if (this.#config.inodesMax === undefined) {
        calls.push(prng.chance(0.5) ? this.#mkdirCall(caller, path) : this.#symlinkCall(caller, 'x', path));
      }
    }
    // Each file read through any number of open files, or written through one.
    for (const open of prng.shuffle([...this.#open])) {
      const { node } = open.handle;
      if (node.isDirectory || used.has(node)) continue;
      used.add(node);
      const roll = this.#config.bytesMax === undefined ? prng.below(3) : 1;
      if (roll === 0) calls.push(this.#writeCall(caller, open, this.#data(), this.#pos()));
      else if (roll === 1) for (let i = 0; i < 3; i++) calls.push(this.#readCall(caller, open, this.#length(), this.#pos()));
      else {
        // Ranges of their own, inside the file or in order of position: no gap between them depends on who is first.
        const from = this.#pos();
        for (let i = 0; i < 3; i++) {
          if ((open.handle.flags & O_APPEND) === 0)
            calls.push(this.#writeCall(caller, open, this.#data(1 + prng.below(3000)), from + i * 3000));
        }
      }
    }
    prng.shuffle(calls);
    if (calls.length > 0) await this.#together(calls);
  }

  /**
   * Calls that get in each other's way: names of one or two directories, made, moved and removed at the same time. Their answers and the
   * tree afterwards must be those of one order.
   */
  async #race(): Promise<void> {
    const prng = this.#prng;
    const names = NAMES.slice(0, 3);
    const isSteady = (path: string): boolean => path.split('/').every((name) => !names.includes(name));
    const dirs = prng.shuffle(['/', ...this.#directories().filter(isSteady)]).slice(0, 2);
    const path = (): string => prng.pick(dirs) + prng.pick(names);
    const calls = Array.from({ length: prng.between(2, 4) }, () => {
      const caller = this.#caller();
      switch (prng.below(7)) {
        case 0:
          return this.#mkdirCall(caller, path());
        case 1:
          return this.#symlinkCall(caller, 'x', path());
        case 2:
          // Of a file that stays where it is: a link finds it first, and makes its name later.
          return this.#linkCall(caller, prng.pick(dirs) + prng.pick(NAMES.slice(3, 6)), path());
        case 3:
          return this.#unlinkCall(caller, path());
        case 4:
          return this.#rmdirCall(caller, path());
        default:
          return this.#renameCall(caller, path(), path());
      }
    });
    this.#tick();
    for (const { caller, text } of calls) this.#say(`|| ${caller.uid} ${text}`);
    const pending = calls.map((call) => this.#start(call));
    if (prng.chance(0.2)) this.#vfs.dropCaches();
    const actual = (await Promise.all(pending)).map(({ code }) => code);
    this.#trace?.(`  ${actual.map((code) => code ?? 'ok').join(' ')}`);
    await this.#settleRace(calls, actual);
  }

  /** Finds an order in which the model answers as the real tree did, and looks like it. */
  async #settleRace(calls: readonly Call[], actual: readonly (string | undefined)[]): Promise<void> {
    const before = this.#model;
    let failure: unknown;
    for (const order of permutations(calls.length)) {
      const { model, handles } = before.clone();
      this.#model = model; // the calls speak of it
      model.isConcurrent = true;
      const agrees = order.every((i) => attempt((calls[i] as Call).model).code === actual[i]);
      model.isConcurrent = false;
      if (!agrees) continue;
      // A call that fails may have read links before the other call took away what they led to.
      for (const link of linksBelow(model.root)) link.loose.atime.push(model.now);
      const open = this.#open;
      this.#open = open.map((each) => ({ ...each, handle: handles.get(each.handle) as TreeHandle }));
      try {
        await compareTree(this.#vfs, this.#root, model, false);
        return;
      } catch (error) {
        failure = error;
        this.#open = open;
      }
    }
    this.#model = before;
    const answers = actual.map((code) => code ?? 'success').join(', ');
    throw new Error(`no order of the calls explains ${answers}`, { cause: failure });
  }

  // Calls by path.

  #openFlags(): number {
    const prng = this.#prng;
    if (prng.chance(0.1)) return O_TMPFILE | prng.pick([O_RDWR, O_RDWR, O_WRONLY, O_RDONLY]) | (prng.chance(0.3) ? O_EXCL : 0);
    if (prng.chance(0.2)) return O_DIRECTORY | O_RDONLY;
    let flags = prng.pick([O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR]);
    if (prng.chance(0.6)) flags |= O_CREAT;
    for (const flag of [O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW]) if (prng.chance(0.12)) flags |= flag;
    if (prng.chance(0.04)) flags |= O_DIRECTORY;
    if (prng.chance(0.08)) flags |= O_NOATIME;
    if ((flags & O_CREAT) === 0) flags &= ~O_EXCL;
    return flags;
  }

  #openCall(caller: Caller, path: string, flags: number): Call {
    const mode = this.#prng.pick(MODES);
    const vfs = this.#vfs;
    return {
      text: `open ${quoted(path)} ${flags.toString(8)} ${mode.toString(8)}`,
      caller,
      real: (by) => vfs.open(by, path, flags, mode),
      model: () => this.#model.open(caller, path, flags, mode),
      settle: (file: FileDescription, handle: TreeHandle) => {
        const id = ++this.#lastId;
        this.#open.push({ id, handle, file });
        this.log[this.log.length - 1] += ` -> #${id}`;
      },
    };
  }

  #mkdirCall(caller: Caller, path: string): Call {
    const mode = this.#prng.pick(MODES);
    return {
      text: `mkdir ${quoted(path)} ${mode.toString(8)}`,
      caller,
      real: (by) => this.#vfs.mkdir(by, path, mode),
      model: () => this.#model.mkdir(caller, path, mode),
      settle: () => {},
    };
  }

  #mknodCall(caller: Caller, path: string): Call {
    const { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } = uapi;
    const mode = this.#prng.pick(MODES) | this.#prng.pick([0, S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK]);
    const rdev = this.#prng.pick([0, 0x103]);
    return {
      text: `mknod ${quoted(path)} ${mode.toString(8)} ${rdev}`,
      caller,
      real: (by) => this.#vfs.mknod(by, path, mode, rdev),
      model: () => this.#model.mknod(caller, path, mode, rdev),
      settle: () => {},
    };
  }

  #symlinkCall(caller: Caller, target: string, path: string): Call {
    return {
      text: `symlink ${quoted(target)} ${quoted(path)}`,
      caller,
      real: (by) => this.#vfs.symlink(by, target, path),
      model: () => this.#model.symlink(caller, target, path),
      settle: () => {},
    };
  }

  #linkCall(caller: Caller, existing: string, path: string): Call {
    const follow = this.#prng.chance(0.3);
    return {
      text: `link ${quoted(existing)} ${quoted(path)}${follow ? ' follow' : ''}`,
      caller,
      real: (by) => this.#vfs.link(by, existing, path, follow),
      model: () => this.#model.link(caller, existing, path, follow),
      settle: () => {},
    };
  }

  #linkOpenCall(caller: Caller, open: Open, path: string): Call {
    return {
      text: `link #${open.id} ${quoted(path)}`,
      caller,
      real: (by) => open.file.link(by, path),
      model: () => this.#model.linkOpen(caller, open.handle, path),
      settle: () => {},
    };
  }

  #unlinkCall(caller: Caller, path: string): Call {
    return {
      text: `unlink ${quoted(path)}`,
      caller,
      real: (by) => this.#vfs.unlink(by, path),
      model: () => this.#model.unlink(caller, path),
    };
  }

  #rmdirCall(caller: Caller, path: string): Call {
    return {
      text: `rmdir ${quoted(path)}`,
      caller,
      real: (by) => this.#vfs.rmdir(by, path),
      model: () => this.#model.rmdir(caller, path),
    };
  }

  #renameCall(caller: Caller, from: string, to: string): Call {
    const flags = this.#prng.chance(0.6) ? 0 : this.#prng.pick([1, 1, 2, 2, 2, 4, 5, 3, 6, 8]);
    return {
      text: `rename ${quoted(from)} ${quoted(to)} ${flags}`,
      caller,
      real: (by) => this.#vfs.rename(by, from, to, flags),
      model: () => this.#model.rename(caller, from, to, flags),
    };
  }

  #statCall(caller: Caller, path: string, follow: boolean): Call {
    return {
      text: `stat ${quoted(path)}${follow ? '' : ' nofollow'}`,
      caller,
      real: (by) => this.#vfs.stat(by, path, follow),
      model: () => this.#model.stat(caller, path, follow),
      settle: (attr: Attr, node: TreeNode) => checkAttr(attr, node, path),
    };
  }

  #readlinkCall(caller: Caller, path: string): Call {
    return {
      text: `readlink ${quoted(path)}`,
      caller,
      real: (by) => this.#vfs.readlink(by, path),
      model: () => this.#model.readlink(caller, path),
    };
  }

  #accessCall(caller: Caller, path: string): Call {
    const mask = this.#prng.below(8);
    return {
      text: `access ${quoted(path)} ${mask}`,
      caller,
      real: (by) => this.#vfs.access(by, path, mask),
      model: () => this.#model.access(caller, path, mask),
    };
  }

  #realpathCall(caller: Caller, path: string): Call {
    return {
      text: `realpath ${quoted(path)}`,
      caller,
      real: (by) => this.#vfs.realpath(by, path),
      model: () => this.#model.walk(caller, path, true),
      settle: (real: string, node: TreeNode) => {
        const found = this.#model.walk(this.#root, real, false);
        if (found !== node || /(^|\/)\.{0,2}(\/|$)/.test(real.slice(1)) !== (real === '/'))
          throw new Error(`realpath answers ${quoted(real)}`);
      },
    };
  }

  #changes(): Changes {
    const prng = this.#prng;
    const roll = prng.below(10);
    if (roll < 4) return { mode: prng.pick(MODES) };
    if (roll < 6)
      return prng.pick([{ uid: prng.pick([0, 1000, 1001]) }, { gid: prng.pick([0, 100, 101, 300, 301]) }, { uid: 1001, gid: 101 }]);
    const time = (): Timespec | 'now' => (prng.chance(0.3) ? 'now' : { sec: prng.between(-5, 2 * EPOCH_S), nsec: prng.below(1e9) });
    return prng.pick([{ atime: time() }, { mtime: time() }, { atime: time(), mtime: time() }, { atime: 'now', mtime: 'now' }]);
  }

  #setattrCall(caller: Caller, path: string, changes: Changes, follow: boolean): Call {
    // What chmod of a symbolic link does is not the same everywhere.
    const follows = follow || changes.mode !== undefined;
    return {
      text: `setattr ${quoted(path)} ${JSON.stringify(changes)}${follows ? '' : ' nofollow'}`,
      caller,
      real: (by) => this.#vfs.setattr(by, path, changes, follows),
      model: () => this.#model.setattr(caller, this.#model.walk(caller, path, follows), changes),
    };
  }

  #truncateCall(caller: Caller, path: string): Call {
    const size = this.#prng.chance(0.05) ? -1 : this.#pos();
    return {
      text: `truncate ${quoted(path)} ${size}`,
      caller,
      real: (by) => this.#vfs.truncate(by, path, size),
      model: () => this.#model.truncate(caller, path, size),
    };
  }

  #xattrCall(caller: Caller, path: string): Call {
    const prng = this.#prng;
    const name = prng.pick(XATTRS);
    const follow = prng.chance(0.8);
    const tail = `${quoted(path)} ${name}${follow ? '' : ' nofollow'}`;
    const node = (): TreeNode => this.#model.walk(caller, path, follow);
    switch (prng.below(4)) {
      case 0: {
        const value = this.#data(prng.pick([0, 1, 20, 300]));
        const flags = prng.pick([0, 0, 0, 1, 2, 3]);
        return {
          text: `setxattr ${tail} ${value.length} bytes, flags ${flags}`,
          caller,
          real: (by) => this.#vfs.setxattr(by, path, name, value, flags, follow),
          model: () => this.#model.setxattr(caller, node(), name, value, flags),
        };
      }
      case 1:
        return {
          text: `getxattr ${tail}`,
          caller,
          // Both stand for an attribute that is not there, or is not for this caller.
          real: (by) => run(orValue(() => this.#vfs.getxattr(by, path, name, follow), 'ENODATA', undefined)),
          model: () => this.#model.getxattr(caller, node(), name),
          settle: checkXattr,
        };
      case 2:
        return {
          text: `removexattr ${tail}`,
          caller,
          real: (by) => this.#vfs.removexattr(by, path, name, follow),
          model: () => this.#model.removexattr(caller, node(), name),
        };
      default:
        return {
          text: `listxattr ${quoted(path)}${follow ? '' : ' nofollow'}`,
          caller,
          real: (by) => this.#vfs.listxattr(by, path, follow),
          model: () => this.#model.listxattr(caller, node()),
          settle: (actual: string[], expected: string[]) => check([...actual].sort().join(), expected.join(), 'names of attributes'),
        };
    }
  }

  // Calls on open files.

  #readCall(caller: Caller, { id, handle, file }: Open, length: number, pos: number | null): Call {
    const into = new Uint8Array(length);
    return {
      text: `read #${id} ${pos ?? `at ${handle.pos}`} ${length}`,
      caller,
      real: (by) => file.read(by, into, pos),
      model: () => this.#model.read(handle, length, pos),
      partly: (bytes) => this.#model.read(handle, Math.min(bytes, length), pos),
      settle: (count: number, expected: Uint8Array) => {
        assertSameBytes(into.subarray(0, count), expected, `read #${id}`, pos ?? 0);
        check(file.position, handle.pos, 'the position');
      },
    };
  }

  /** All of it, in one call. */
  #wholeCall(caller: Caller, open: Open): Call {
    return this.#readCall(caller, open, open.handle.node.data.size + 1, 0);
  }

  #writeCall(caller: Caller, { id, handle, file }: Open, data: Uint8Array, pos: number | null): Call {
    return {
      text: `write #${id} ${pos ?? `at ${handle.pos}`} ${data.length}`,
      caller,
      real: (by) => file.write(by, new IovIter(data), pos),
      model: () => this.#model.write(caller, handle, data, pos),
      partly: (bytes) => this.#model.write(caller, handle, data.subarray(0, bytes), pos),
      space: {
        node: handle.node,
        bytes: data.length,
        partly: (bytes) => this.#model.write(caller, handle, data.subarray(0, bytes), pos),
      },
      settle: (count: number, expected: number) => {
        check(count, expected, 'bytes written');
        check(file.position, handle.pos, 'the position');
      },
    };
  }

  #ftruncateCall(caller: Caller, { id, handle, file }: Open): Call {
    const size = this.#prng.chance(0.2) ? handle.node.data.size : this.#pos();
    return {
      text: `ftruncate #${id} ${size}`,
      caller,
      real: (by) => file.truncate(by, size),
      model: () => this.#model.ftruncate(caller, handle, size),
    };
  }

  #fallocateCall(caller: Caller, { id, handle, file }: Open): Call {
    const prng = this.#prng;
    const { unit, allocates } = handle.node.space;
    const drawn = prng.pick([
      0,
      KEEP_SIZE,
      PUNCH_HOLE | KEEP_SIZE,
      PUNCH_HOLE | KEEP_SIZE,
      ZERO_RANGE,
      ZERO_RANGE | KEEP_SIZE,
      COLLAPSE_RANGE,
      INSERT_RANGE,
      PUNCH_HOLE,
      0x400,
    ]);
    const mode = allocates ? drawn : PUNCH_HOLE | KEEP_SIZE;
    const isShift = mode === COLLAPSE_RANGE || mode === INSERT_RANGE;
    const aligned = isShift && prng.chance(0.9);
    const blocks = Math.ceil(handle.node.data.size / unit);
    const offset = aligned ? prng.below(blocks + 1) * unit : this.#pos();
    const length = aligned ? prng.between(1, 3) * unit : prng.chance(0.02) ? 0 : this.#length();
    return {
      text: `fallocate #${id} mode ${mode} ${offset}+${length}`,
      caller,
      real: (by) => file.fallocate(by, mode, offset, length),
      model: () => this.#model.fallocate(caller, handle, mode, offset, length),
      space: {
        node: handle.node,
        bytes: length,
        // As on xfs: the range is freed first, so that it is zero even if there are no blocks for it then.
        refused: () => {
          if ((mode & ZERO_RANGE) !== 0) handle.node.data.zero(offset, length);
        },
      },
    };
  }

  #copyCall(caller: Caller, from: Open, to: Open): Call {
    const [pos, posOut, length] = [this.#pos(), this.#pos(), this.#length()];
    return {
      text: `copy #${from.id} ${pos} to #${to.id} ${posOut}, ${length}`,
      caller,
      real: (by) => from.file.copyRange(by, pos, to.file, posOut, length),
      model: () => this.#model.copyRange(caller, from.handle, pos, to.handle, posOut, length),
      space: { node: to.handle.node, bytes: length },
      settle: (count: number, expected: ReturnType<TreeModel['copyRange']>) => {
        if (count > expected.most || (count === 0 && expected.most > 0)) throw new Error(`copied ${count} of ${expected.most} bytes`);
        expected.finish(count);
      },
    };
  }

  #seekCall(caller: Caller, open: Open): Call {
    const { id, handle, file } = open;
    const prng = this.#prng;
    const { node } = handle;
    const whence = node.isDirectory ? uapi.SEEK_SET : prng.below(5);
    if (whence === uapi.SEEK_DATA || whence === uapi.SEEK_HOLE) return this.#seekExtentCall(caller, open, whence);
    const offset = node.isDirectory ? 0 : this.#pos() - (prng.chance(0.3) ? this.#config.fileMax : 0);
    return {
      text: `lseek #${id} ${offset} ${whence}`,
      caller,
      real: (by) => file.lseek(by, offset, whence),
      model: () => this.#model.seek(handle, offset, whence),
    };
  }

  /** What is not zero is data; what no block can hold is a hole. */
  #seekExtentCall(caller: Caller, { id, handle, file }: Open, whence: number): Call {
    const pos = this.#pos();
    const { node } = handle;
    const isData = whence === uapi.SEEK_DATA;
    const { SEEK_DATA } = uapi;
    return {
      text: `lseek #${id} ${pos} ${whence === SEEK_DATA ? 'data' : 'hole'}`,
      caller,
      // The end is an answer too.
      real: (by) => run(orValue(() => file.lseek(by, pos, whence), 'ENXIO', -1)),
      model: () => 0,
      settle: (found: number) => {
        const { size, content } = node.data;
        const firstData = content.findIndex((byte, at) => at >= pos && byte !== 0);
        if (found === -1) {
          if (pos < size && (!isData || firstData >= 0)) throw new Error('ENXIO, and there is something');
          return;
        }
        handle.pos = found;
        if (pos >= size || found < pos || found > size) throw new Error(`found ${found} in ${size} bytes`);
        const { unit, blockSize } = node.space;
        const at = Math.floor(found / unit);
        const blockEnd = (Math.floor(found / blockSize) + 1) * blockSize;
        if (isData) {
          if (firstData >= 0 && firstData < found) throw new Error(`found data at ${found}, it starts before ${firstData}`);
          if (!node.blocks.has(at)) throw new Error(`found data at ${found}, where nothing was written`);
        } else if (found < size && content.subarray(found, blockEnd).some((byte) => byte !== 0)) {
          throw new Error(`found a hole at ${found}, where data is`);
        } else {
          for (let block = Math.floor(pos / unit); found > pos && block * unit < found; block++) {
            if (!node.blocks.has(block)) throw new Error(`found a hole at ${found}, but block ${block} was never written`);
          }
        }
      },
    };
  }

  #fstatCall(caller: Caller, { id, handle, file }: Open): Call {
    return {
      text: `fstat #${id}`,
      caller,
      real: (by) => file.stat(by),
      model: () => handle.node,
      settle: (attr: Attr, node: TreeNode) => checkAttr(attr, node, `#${id}`),
    };
  }

  #fsetattrCall(caller: Caller, { id, handle, file }: Open, changes: Changes): Call {
    return {
      text: `fsetattr #${id} ${JSON.stringify(changes)}`,
      caller,
      real: (by) => file.setattr(by, changes),
      model: () => this.#model.setattr(caller, handle.node, changes),
    };
  }

  #fsyncCall(caller: Caller, { id, file }: Open): Call {
    const datasync = this.#prng.chance(0.5);
    return { text: `fsync #${id}`, caller, real: (by) => file.fsync(by, datasync), model: () => undefined };
  }

  /** A store through a mapped view and a load of what it covers. */
  #viewCall(caller: Caller, { id, handle, file }: Open): Call {
    const { node } = handle;
    const pos = this.#pos();
    const data = this.#data();
    const into = new Uint8Array(data.length);
    // A store that fails half way leaves a half: not where space can end.
    const stores = this.#config.bytesMax === undefined && this.#prng.chance(0.5);
    return {
      text: `map #${id} ${pos}+${data.length} ${stores ? 'store' : 'load'}`,
      caller,
      real: (by) => run(useView(file.map(by, pos, data.length, stores), stores ? data : undefined, into)),
      model: () => {
        if (!handle.reads || (stores && !handle.writes)) throw new Refusal('EACCES');
        const { size } = node.data;
        if (pos + data.length > Math.ceil(size / BLOCK) * BLOCK) throw new Refusal('EFAULT');
        const inFile = Math.max(0, Math.min(data.length, size - pos));
        if (stores && inFile > 0) this.#model.store(node, pos, data.subarray(0, inFile));
        node.loose.atime.push(this.#model.now);
        return node.data.readPadded(pos, data.length);
      },
      settle: (_: undefined, expected: Uint8Array) => assertSameBytes(into, expected, `view of #${id}`, pos),
    };
  }

  #readdirCall(caller: Caller, { id, handle, file }: Open): Call {
    const count = this.#prng.pick([1, 2, 3, 100]);
    return {
      text: `readdir #${id} ${count}`,
      caller,
      real: (by) => file.readdir(by, count),
      model: () => {
        if (handle.node.nlink === 0) throw new Refusal('ENOENT');
        this.#model.listed(handle);
      },
      settle: (entries: DirEntry[]) => checkListing(entries, handle, count),
    };
  }

  #closeCall(open: Open): Call {
    return {
      text: `close #${open.id}`,
      caller: { ...open.file.opener, nowait: false },
      isOnce: true,
      real: (by) => open.file.close(by),
      model: () => {
        this.#model.close(open.handle);
        this.#open = this.#open.filter((each) => each !== open);
      },
    };
  }

  // The whole.

  async #closeAll(): Promise<void> {
    for (const open of this.#open) await this.#do(this.#closeCall(open));
  }

  /** Forgets all that a face knows of the tree: everything is as before for the next one. */
  async #remount(): Promise<void> {
    this.#say('remount');
    this.#vfs.dropCaches();
    check(this.#vfs.dcache.vnodeCount, 1, 'inodes in core after everything is forgotten');
    await this.#mount.remount();
    this.#vfs = this.#newVfs();
  }

  /** Every name, attribute, byte and extended attribute. */
  #compareTree(): Promise<void> {
    this.#say('compare the tree');
    return compareTree(this.#vfs, this.#root, this.#model);
  }

  /** Removes everything, the deepest names first. */
  async #removeAll(): Promise<void> {
    this.#say('remove everything');
    const all = [...this.#model.everything()].reverse();
    for (const { dir, name, node } of all) {
      const path = `${dir === '/' ? '' : dir}/${name}`;
      await this.#do(node.isDirectory ? this.#rmdirCall(this.#root, path) : this.#unlinkCall(this.#root, path));
    }
    for (const { node } of all) check(node.nlink, 0, 'links of what has no name');
    check(this.#model.inodes, 1, 'inodes of the model');
    this.#vfs.dropCaches();
  }
}

/** Time that stands still during a call, and passes between calls. */
class StepClock implements Clock {
  #ms = EPOCH_S * 1000;

  get moment(): Timespec {
    return { sec: Math.floor(this.#ms / 1000), nsec: (this.#ms % 1000) * 1e6 };
  }

  tick(prng: Prng): void {
    this.#ms += prng.chance(0.02) ? DAY_S * 1000 : prng.pick([1, 10, 1000]);
  }

  now(): number {
    return this.#ms;
  }

  yield(): Promise<void> {
    return systemClock.yield();
  }

  timer(): () => void {
    return () => {};
  }
}

interface Outcome {
  readonly value: unknown;
  readonly code: string | undefined;
  /** Of a call with nowait: reads and writes may stop where they would have to wait. */
  readonly isAtOnce?: boolean;
}

function attempt(call: () => unknown): Outcome {
  try {
    return { value: call(), code: undefined };
  } catch (error) {
    return { value: error, code: codeOf(error) };
  }
}

/** Errors: whatever is no refusal by a code. */
function codeOf(error: unknown): string {
  if (error instanceof Refusal || error instanceof FsError) return error.code;
  throw error;
}

function finish(call: Call, actual: Outcome, expected: Outcome): void {
  if (actual.code !== expected.code) {
    const words = ({ code }: Outcome): string => code ?? 'success';
    throw new Error(`${call.text}: ${words(actual)}, expected ${words(expected)}`, { cause: actual.value });
  }
  if (actual.code !== undefined) return;
  try {
    if (call.settle === undefined) check(actual.value, expected.value, 'the answer');
    else call.settle(actual.value as never, expected.value as never);
  } catch (error) {
    throw new Error(`${call.text}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** What the call answers, or `value` where it fails with `code`. */
function* orValue<T>(call: () => MaybePromise<T>, code: string, value: T): Task<T> {
  try {
    return yield* wait(call());
  } catch (error) {
    if (codeOf(error) === code) return value;
    throw error;
  }
}

function* useView(view: FileView, data: Uint8Array | undefined, into: Uint8Array): Task<void> {
  try {
    if (data !== undefined) yield* wait(view.store(0, data));
    yield* wait(view.load(0, into));
  } finally {
    yield* wait(view.close());
  }
}

/** The symbolic links in a tree. */
function linksBelow(dir: TreeNode): TreeNode[] {
  return [...dir.entries.values()].flatMap((node) => (node.isDirectory ? linksBelow(node) : node.isSymlink ? [node] : []));
}

function* permutations(count: number): Generator<readonly number[]> {
  function* from(chosen: readonly number[]): Generator<readonly number[]> {
    if (chosen.length === count) yield chosen;
    for (let i = 0; i < count; i++) if (!chosen.includes(i)) yield* from([...chosen, i]);
  }
  yield* from([]);
}
