// Power cuts under ext4: a random workload on a volume whose device writes everything down, and what has to be true of every state that a
// power cut may leave.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FsError } from '../../src/base/fs-error.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, type MaybePromise } from '../../src/base/task.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import type { CrashState } from '../../src/block/crash-states.ts';
import { type Fault, type FaultOp, FaultyDevice } from '../../src/block/faulty-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { PartitionDevice } from '../../src/block/partition-device.ts';
import { RecordingDevice } from '../../src/block/recording-device.ts';
import { SimulatedDevice } from '../../src/block/simulated-device.ts';
import { type Ext4Options, mountExt4 } from '../../src/fs/ext4/mount.ts';
import { PageCache } from '../../src/pagecache/page-cache.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import type { PosixFile } from './posix-face.ts';
import { ManualClock } from './stub-file.ts';
import { VfsFace } from './vfs-face.ts';

export const TOOL_ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C', MKE2FS_SYNC: '0' };
const MIB = 2 ** 20;
const CHUNK = 65536;
const SCRATCH = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A kind of volume, and how it is mounted. */
export interface CrashKind {
  readonly title: string;
  /** Options of mke2fs. */
  readonly options: string;
  /** MiB. */
  readonly size: number;
  /** MiB behind the volume for an external journal. */
  readonly journal?: number;
  readonly mount?: Ext4Options;
  readonly hasExtents?: boolean;
  readonly hasClusters?: boolean;
}

const SMALL = '-b 1024 -J size=1';

export const CRASH_KINDS: readonly CrashKind[] = [
  { title: 'ext4', options: `-t ext4 ${SMALL}`, size: 8 },
  { title: 'ext4 with blocks of 4 KiB', options: '-t ext4 -b 4096 -J size=4', size: 16 },
  { title: 'ext4 below a cache of another', options: `-t ext4 ${SMALL}`, size: 8, mount: { uncached: true } },
  { title: 'ext4 without metadata_csum', options: `-t ext4 ${SMALL} -O ^metadata_csum,^64bit`, size: 8 },
  { title: 'ext4 with 32-bit descriptors', options: `-t ext4 ${SMALL} -O ^64bit -g 2048`, size: 8 },
  { title: 'ext4 with an orphan file', options: `-t ext4 ${SMALL} -O orphan_file`, size: 8 },
  { title: 'ext4 with inline data', options: `-t ext4 ${SMALL} -O inline_data,ea_inode -I 256`, size: 8 },
  { title: 'ext4 with data in the log', options: `-t ext4 ${SMALL}`, size: 8, mount: { data: 'journal' } },
  { title: 'ext4 with an external journal', options: '-t ext4 -b 1024', size: 8, journal: 2 },
  { title: 'ext3', options: `-t ext3 ${SMALL}`, size: 8, hasExtents: false },
  { title: 'ext4 with clusters', options: '-t ext4 -b 1024 -J size=1 -O bigalloc -C 4096', size: 16, hasClusters: true },
  { title: 'ext4 with quotas', options: `-t ext4 ${SMALL} -O quota,project -E quotatype=usrquota:grpquota:prjquota`, size: 8 },
  {
    title: 'ext4 with all that is new below a cache of another',
    options: `-t ext4 ${SMALL} -O inline_data,ea_inode,orphan_file,metadata_csum_seed,quota`,
    size: 8,
    mount: { uncached: true },
  },
];

const UUID = '7a6b5c4d-3e2f-4a1b-8c9d-0e1f2a3b4c5d';

/** Made once for each kind: both parts, one behind the other. */
const fresh = new Map<CrashKind, MemoryDevice>();

export function freshDevice(kind: CrashKind): MemoryDevice {
  let device = fresh.get(kind);
  if (device === undefined) {
    device = makeDevice(kind);
    fresh.set(kind, device);
  }
  return device.snapshot();
}

function makeDevice(kind: CrashKind): MemoryDevice {
  return inFolder((folder) => {
    const image = join(folder, 'image');
    const parts = [image];
    // The same seed finds the same volume: also its names in the same order.
    const more = kind.options.includes('-E ')
      ? kind.options.replace('-E ', `-E hash_seed=${UUID},`)
      : `${kind.options} -E hash_seed=${UUID}`;
    const options = ['-q', '-F', '-U', UUID, ...more.split(' ')];
    truncate(image, kind.size * MIB);
    if (kind.journal === undefined) runTool('mke2fs', [...options, image]);
    else {
      const journal = join(folder, 'journal');
      truncate(journal, kind.journal * MIB);
      runTool('mke2fs', ['-q', '-F', '-b', '1024', '-O', 'journal_dev', journal]);
      // mke2fs takes block devices only.
      const loop = runTool('losetup', ['-f', '--show', journal]).trim();
      try {
        runTool('mke2fs', [...options, '-J', `device=${loop}`, image]);
      } finally {
        runTool('losetup', ['-d', loop]);
      }
      parts.push(journal);
    }
    // A superblock is never torn here: nobody could mount it before its log is replayed, neither e2fsck nor the kernel.
    const device = new MemoryDevice({
      ...{ size: sizeOf(kind), name: 'image', chunkSize: CHUNK, logicalBlockSize: 1024 },
      hasVolatileCache: true,
    });
    let at = 0;
    for (const part of parts) at += readInto(device, part, at);
    return device;
  });
}

function sizeOf(kind: CrashKind): number {
  return (kind.size + (kind.journal ?? 0)) * MIB;
}

export function runTool(command: string, args: readonly string[], expected: readonly number[] = [0]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env: TOOL_ENV });
  assert(expected.includes(status ?? -1), `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

function truncate(path: string, size: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  closeSync(fd);
}

export function inFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(SCRATCH, 'iomap-crash-'));
  const clean = (): void => rmSync(folder, { recursive: true, force: true });
  let answer: T;
  try {
    answer = use(folder);
  } catch (error) {
    clean();
    throw error;
  }
  if (isPromise(answer)) return (answer as Promise<unknown>).finally(clean) as T;
  clean();
  return answer;
}

const ZEROS = Buffer.alloc(CHUNK);

/** Puts a file at `at` of a device. Returns its length. */
export function readInto(device: MemoryDevice, path: string, at = 0): number {
  const fd = openSync(path, 'r');
  const chunk = Buffer.alloc(CHUNK);
  let done = 0;
  for (;;) {
    const count = readSync(fd, chunk, 0, CHUNK, done);
    if (count === 0) break;
    if (!chunk.subarray(0, count).equals(ZEROS.subarray(0, count))) device.write(at + done, chunk.subarray(0, count));
    done += count;
  }
  closeSync(fd);
  return done;
}

/** Writes [at, at + size) of a device into a file; what is zero stays a hole. */
export function writeOut(device: MemoryDevice, path: string, at = 0, size: number = device.size): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  for (let done = 0; done < size; done += CHUNK) {
    const chunk = device.read(at + done, Math.min(CHUNK, size - done));
    if (!ZEROS.subarray(0, chunk.length).equals(chunk)) writeSync(fd, chunk, 0, chunk.length, done);
  }
  closeSync(fd);
}

/** Runs e2fsck; -y changes the device. Shape: exit status and what it says. */
export function e2fsck(kind: CrashKind, device: MemoryDevice, options: readonly string[]): { status: number | null; text: string } {
  return inFolder((folder) => {
    const image = join(folder, 'image');
    const journal = join(folder, 'journal');
    writeOut(device, image, 0, kind.size * MIB);
    const args = [...options];
    if (kind.journal !== undefined) {
      writeOut(device, journal, kind.size * MIB, kind.journal * MIB);
      args.push('-j', journal);
    }
    const { status, stdout, stderr } = spawnSync('e2fsck', [...args, image], { env: TOOL_ENV, encoding: 'utf8' });
    if (!options.includes('-fn')) {
      device.fill(0, 0, device.size);
      readInto(device, image);
      if (kind.journal !== undefined) readInto(device, journal, kind.size * MIB);
    }
    return { status, text: stdout + stderr };
  });
}

export function assertClean(kind: CrashKind, device: MemoryDevice, what: string): void {
  const { status, text } = e2fsck(kind, device, ['-fn']);
  assert.equal(status, 0, `e2fsck -fn of ${what}: exit ${status}\n${text}`);
  assert.doesNotMatch(text, /<y>|<n>|WARNING|\bfix\?/i, `e2fsck -fn of ${what}`);
}

/** What e2fsck says while it replays a log and finishes orphans: anything else is damage. */
const REPLAY_LINES = [
  /^e2fsck \d/,
  /recovering journal$/,
  /^Setting free (inodes|blocks) count to/,
  /^Clearing orphaned inode \d+ \(/,
  /^Truncating orphaned inode \d+ \(/,
  /^Pass \d/,
  // What it has truncated itself, as a rule.
  /^Inode \d+ extent tree \(at level \d\) could be (shorter|narrower)\.( {2}Optimize\? yes)?$/,
  /^$/,
  /FILE SYSTEM WAS MODIFIED/,
  /^.*: \d+\/\d+ files \(.*\), \d+\/\d+ blocks$/,
  // The superblock's own counters are not in the log.
  /^Free (blocks|inodes) count wrong \(\d+, counted=\d+\)\.$/,
  // Set while the volume is mounted, whether anybody is in the file or not.
  /^Feature orphan_present is set but orphan file is clean\.$/,
  // e2fsck finishes those that are in it first, and empties the file at the end.
  /^Orphan file \(inode \d+\) block \d+ is not clean\.$/,
  /^(Fix|Clear)\? yes$/,
];

const KNOWN_WARNINGS = /was not unmounted|deleted files and \d+ truncations finished/;

/** The list of orphans of a volume with errors on record is not believed: they are found as what they are, and their space. */
const ORPHAN_LINES = [
  /^Deleted inode \d+ has zero dtime\.( {2}Fix\? yes)?$/,
  /^(Block|Inode) bitmap differences: ( -(\d+|\(\d+--\d+\)))+$/,
  /^Update quota info for quota type \d\? yes$/,
  /^(Free blocks|Free inodes|Directories) count wrong for group #\d+ \(\d+, counted=\d+\)\.$/,
];

/**
 * e2fsck 1.47 ends an orphan without the inodes that hold values of its attributes, and finds these later without a name. It does so on
 * volumes of the kernel, too: what we make of such a state is judged alone.
 */
function forgetsValues(text: string): boolean {
  return /^Clearing orphaned inode/m.test(text) && /^Unattached inode/m.test(text);
}

export function assertReplayOnly(text: string, mayHaveErrors = false): void {
  const lines = mayHaveErrors ? [...REPLAY_LINES, ...ORPHAN_LINES] : REPLAY_LINES;
  const strange = text.split('\n').filter((line) => !lines.some((known) => known.test(line.trim())));
  assert.deepEqual(strange, [], `e2fsck -fy finds more than a log to replay:\n${text}`);
}

/** A mounted volume with time of its own. */
export interface World {
  readonly face: VfsFace;
  readonly clock: ManualClock;
  readonly warnings: string[];
  isReadOnly(): boolean;
  /** Ends what is mounted. */
  end(): MaybePromise<void>;
}

/** Mounts a device of `kind`. */
export async function mountKind(kind: CrashKind, device: BlockDevice, options: Ext4Options = {}): Promise<World> {
  const clock = new ManualClock();
  const warnings: string[] = [];
  const part = (start: number, size: number): BlockDevice =>
    kind.journal === undefined ? device : new PartitionDevice(device, start * MIB, size * MIB);
  const fs = await mountExt4(part(0, kind.size), {
    ...kind.mount,
    ...(kind.journal === undefined ? {} : { journalDevice: part(kind.size, kind.journal) }),
    atime: 'noatime',
    clock,
    now: () => 1_700_000_000_000 + clock.now(),
    seed: 1,
    cache: new PageCache({ clock, budget: 16 * MIB }),
    onWarning: (message) => warnings.push(message),
    ...options,
  });
  const face = new VfsFace(new Vfs(fs));
  face.umask(0);
  return { face, clock, warnings, isReadOnly: () => fs.isReadOnly, end: () => face.end() };
}

/** What is at each path: type and number, permissions, links, target, attributes. */
export type Tree = Map<string, string>;

export async function readTree(face: VfsFace): Promise<Tree> {
  const tree: Tree = new Map();
  const visit = async (path: string): Promise<void> => {
    const stat = await face.lstat(path);
    const xattrs: string[] = [];
    for (const name of (await face.llistxattr(path)).sort()) {
      xattrs.push(`${name}=${digest(await face.lgetxattr(path, name))}`);
    }
    const target = uapi.isSymlink(stat.mode) ? ` -> ${await face.readlink(path)}` : '';
    tree.set(path, `${stat.ino} ${stat.mode.toString(8)} links ${stat.nlink}${target} ${xattrs.join(' ')}`);
    if (!uapi.isDirectory(stat.mode)) return;
    const dir = await face.open(path, uapi.O_RDONLY | uapi.O_DIRECTORY);
    const names: string[] = [];
    for (;;) {
      const found = await dir.getdents();
      if (found.length === 0) break;
      for (const { name } of found) if (name !== '.' && name !== '..') names.push(name);
    }
    await dir.close();
    for (const name of names) await visit(path === '/' ? `/${name}` : `${path}/${name}`);
  };
  await visit('/');
  return tree;
}

function digest(bytes: Uint8Array): string {
  let hash = 0;
  for (const byte of bytes) hash = (Math.imul(hash, 31) + byte) | 0;
  return `${bytes.length}:${(hash >>> 0).toString(16)}`;
}

function inoOf(line: string): number {
  return Number.parseInt(line, 10);
}

/** The inode behind each name, by the inode of its directory and the name. */
function entriesOf(tree: Tree): Map<string, number> {
  const entries = new Map<string, number>();
  for (const [path, line] of tree) {
    const slash = path.lastIndexOf('/');
    const parent = tree.get(path.slice(0, slash) || '/');
    if (path !== '/' && parent !== undefined) entries.set(`${inoOf(parent)}/${path.slice(slash + 1)}`, inoOf(line));
  }
  return entries;
}

function linesOf(tree: Tree): Map<number, string> {
  return new Map([...tree.values()].map((line) => [inoOf(line), line]));
}

/** Bytes that say whose they are. */
const GRANULE = 64;
const MAGIC = 0x600dda7a;

/** What a granule holds: 0 for zeros, otherwise the number of the write and the place that it was written for. */
type Content = number;
const PLACES = 2 ** 20;

/** The history of one file. */
class FileModel {
  readonly id: number;
  readonly ino: number;
  readonly born: number;
  /** For each granule what it held, since when. */
  readonly history = new Map<number, { op: number; content: Content }[]>();
  readonly sizes: { op: number; size: number }[] = [{ op: 0, size: 0 }];
  /** What some promise says: all that was written up to `op`, of these bytes. It holds where the mark is in the log. */
  readonly floors: { mark: string; op: number; from: number; to: number }[] = [];
  /** An operation failed half way: only whose bytes these are is known. */
  isLoose = false;
  /** It is open in the workload. */
  file: PosixFile | undefined;

  constructor(id: number, ino: number, born: number) {
    this.id = id;
    this.ino = ino;
    this.born = born;
  }

  get size(): number {
    return this.sizes.at(-1)?.size ?? 0;
  }

  contentOf(granule: number): Content {
    return this.history.get(granule)?.at(-1)?.content ?? 0;
  }

  set(op: number, granule: number, content: Content): void {
    const entries = this.history.get(granule);
    if (entries !== undefined) entries.push({ op, content });
    else this.history.set(granule, [{ op, content }]);
  }

  setSize(op: number, size: number): void {
    this.sizes.push({ op, size });
  }

  /** Everything in [from, to) becomes zero. */
  clear(op: number, from: number, to: number): void {
    for (const granule of this.history.keys()) {
      if (granule >= from && granule < to && this.contentOf(granule) !== 0) this.set(op, granule, 0);
    }
  }

  /** Errors: an AssertionError, if a power cut cannot have left this. `marks`: in the log before it; `last`: the last operation begun. */
  check(bytes: Uint8Array, marks: ReadonlySet<string>, last: number): void {
    const floors = this.floors.filter(({ mark }) => marks.has(mark));
    const whole = Math.max(0, ...floors.filter(({ to }) => to === Number.POSITIVE_INFINITY).map(({ op }) => op));
    if (!this.isLoose) {
      const at = this.sizes.findLastIndex(({ op }) => op <= whole);
      const possible = this.sizes.slice(Math.max(0, at)).filter(({ op }, i) => i === 0 || op <= last);
      const sizes = possible.map(({ size }) => size);
      const range = `${Math.min(...sizes)}..${Math.max(...sizes)}`;
      assert(bytes.length >= Math.min(...sizes) && bytes.length <= Math.max(...sizes), `size ${bytes.length}, possible is ${range}`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let granule = 0; (granule + 1) * GRANULE <= bytes.length; granule++) {
      const content = this.#decode(view, granule);
      if (this.isLoose) continue;
      const pos = granule * GRANULE;
      let floor = 0;
      for (const { op, from, to } of floors) if (from <= pos && pos < to) floor = Math.max(floor, op);
      const history = this.history.get(granule) ?? [];
      const at = history.findLastIndex(({ op }) => op <= floor);
      const isZeroPossible = at < 0;
      const possible = history.slice(Math.max(0, at)).filter(({ op }, i) => (i === 0 && at >= 0) || op <= last);
      const isPossible = (isZeroPossible && content === 0) || possible.some((entry) => entry.content === content);
      const told = possible.map(({ op, content: each }) => `${name(each)} of operation ${op}`).join(', ');
      assert(isPossible, `byte ${pos}: ${name(content)}; since operation ${floor}: ${isZeroPossible ? 'zeros, ' : ''}${told}`);
    }
  }

  #decode(view: DataView, granule: number): Content {
    const at = granule * GRANULE;
    const words = Array.from({ length: GRANULE / 4 }, (_, i) => view.getUint32(at + i * 4, true));
    if (words.every((word) => word === 0)) return 0;
    const [magic, id, serial, place] = words as [number, number, number, number];
    const isWhole = words.every((word, i) => word === words[i % 4]);
    assert(
      isWhole && magic === MAGIC && id === this.id,
      `byte ${at}: foreign content ${words
        .slice(0, 8)
        .map((word) => word.toString(16))
        .join(' ')}`,
    );
    return serial * PLACES + place;
  }
}

function name(content: Content): string {
  return content === 0 ? 'zeros' : `write ${Math.floor(content / PLACES)} for granule ${content % PLACES}`;
}

function pattern(id: number, serial: number, from: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count * GRANULE);
  const words = new Uint32Array(bytes.buffer);
  for (let i = 0; i < words.length; i += 4) {
    words[i] = MAGIC;
    words[i + 1] = id;
    words[i + 2] = serial;
    words[i + 3] = from + Math.floor((i * 4) / GRANULE);
  }
  return bytes;
}

/** What may go wrong in a workload that knows no limits. */
const FAILURES = ['EIO', 'EROFS'];
const REFUSALS = [
  'ENOSPC',
  'EOPNOTSUPP',
  'EINVAL',
  'EEXIST',
  'ENOTEMPTY',
  'EFBIG',
  'ENODATA',
  'EISDIR',
  'ENOTDIR',
  'ENOENT',
  'EXDEV',
  'EDQUOT',
];

/** How a workload is run. */
export interface WorkloadOptions extends Ext4Options {
  /** The device fails now and then. */
  readonly isFaulty?: boolean;
}

/** A workload on one volume, and what is known of it. */
export class CrashWorkload {
  readonly kind: CrashKind;
  readonly device: RecordingDevice;
  /** The tree after each operation. */
  readonly trees: Tree[] = [];
  readonly log: string[] = [];
  readonly #prng: Prng;
  readonly #world: World;
  readonly #faulty: FaultyDevice | undefined;
  readonly #files: FileModel[] = [];
  /** The last operation that changed the inode or its names. */
  readonly #touched = new Map<number, number>();
  /** Promises about the tree: it is that after operation `op`, or a later one. */
  readonly #treeFloors: { mark: string; op: number }[] = [];
  #op = 0;
  #lastMark = 0;
  #lastName = 0;
  #serial = 0;
  readonly #faults: Fault[] = [];

  private constructor(kind: CrashKind, prng: Prng, device: RecordingDevice, world: World, faulty: FaultyDevice | undefined) {
    this.#faulty = faulty;
    this.kind = kind;
    this.device = device;
    this.#prng = prng;
    this.#world = world;
  }

  static async start(kind: CrashKind, prng: Prng, { isFaulty = false, ...options }: WorkloadOptions = {}): Promise<CrashWorkload> {
    const base = freshDevice(kind);
    await age(kind, base, prng.chance(0.5) ? prng.below(300) : 0);
    let inner: BlockDevice = base;
    if (prng.chance(0.5)) {
      const { size, logicalBlockSize } = base;
      const how = { copiesAtSubmit: true, hasVolatileCache: true, hasFua: prng.chance(0.5) };
      const simulated = { size, logicalBlockSize, base, prng: prng.fork(), ...how };
      const late = new SimulatedDevice(simulated);
      // One request for each that was submitted ends in a turn of its own: which, the device picks.
      late.autoRun({ post: () => void setImmediate(() => late.step()) });
      inner = late;
    }
    const faulty = isFaulty ? new FaultyDevice(inner, prng.fork()) : undefined;
    const device = new RecordingDevice(faulty ?? inner, base);
    const world = await mountKind(kind, device, options);
    const workload = new CrashWorkload(kind, prng, device, world, faulty);
    workload.trees.push(await readTree(world.face));
    return workload;
  }

  async run(count: number): Promise<void> {
    while (this.#op < count) await this.#step();
  }

  /** The volume is abandoned. Nothing of it runs on. */
  async abandon(): Promise<void> {
    await this.#world.end();
  }

  async #step(): Promise<void> {
    const prng = this.#prng;
    const op = ++this.#op;
    this.device.mark(`begin ${op}`);
    const actions = [
      ...[this.#create, this.#create, this.#create, this.#append, this.#append, this.#append, this.#overwrite, this.#overwrite],
      ...[this.#truncate, this.#truncate, this.#fallocate, this.#fallocate, this.#fsync, this.#fsync, this.#fsync, this.#replace],
      ...[this.#rename, this.#rename, this.#link, this.#unlink, this.#unlink, this.#mkdir, this.#rmdir, this.#symlink, this.#xattr],
      ...[this.#xattr, this.#tmpfile, this.#chmod, this.#time, this.#many, this.#syncfs],
    ];
    const action = prng.pick(actions);
    const fault = this.#inject();
    try {
      await action.call(this, op);
    } catch (error) {
      const isRefusal = error instanceof FsError && (REFUSALS.includes(error.code) || (this.hasFailed && FAILURES.includes(error.code)));
      if (!isRefusal) throw error;
      this.log.push(`${op}: ${error.message}`);
    } finally {
      fault?.remove();
    }
    const before = this.trees.at(-1) as Tree;
    const after = await readTree(this.#world.face);
    const entriesBefore = entriesOf(before);
    const entriesAfter = entriesOf(after);
    for (const [entry, ino] of [...entriesBefore, ...entriesAfter]) {
      // A name came or went: of this inode, in its directory. What lies below a directory that is renamed keeps its name.
      if (entriesBefore.get(entry) === entriesAfter.get(entry)) continue;
      this.#touched.set(ino, op);
      this.#touched.set(Number.parseInt(entry, 10), op);
    }
    const linesBefore = linesOf(before);
    for (const [ino, line] of linesOf(after)) if (linesBefore.has(ino) && linesBefore.get(ino) !== line) this.#touched.set(ino, op);
    this.trees.push(after);
  }

  /** Whether the device has failed so far. */
  get hasFailed(): boolean {
    return this.#faults.some(({ hits }) => hits > 0);
  }

  /** Does the volume still take changes? */
  get isReadOnly(): boolean {
    return this.#world.isReadOnly();
  }

  /** For the next operation, perhaps. */
  #inject(): Fault | undefined {
    if (this.#faulty === undefined || !this.#prng.chance(0.1)) return undefined;
    const fault = this.#faulty.inject({
      ops: this.#prng.pick<readonly FaultOp[]>([['read'], ['write'], ['write'], ['flush']]),
      skip: this.#prng.below(4),
      times: this.#prng.between(1, 3),
      errno: 'EIO',
      isTorn: this.#prng.chance(0.5),
    });
    this.#faults.push(fault);
    return fault;
  }

  /** A name came or went: of this inode, in its directory. */
  #touch(op: number, path: string, line: string): void {
    this.#touched.set(inoOf(line), op);
    const parent = this.trees.at(-1)?.get(path.slice(0, path.lastIndexOf('/')) || '/');
    if (parent !== undefined) this.#touched.set(inoOf(parent), op);
  }

  #path(isDirectory: boolean): string | undefined {
    const found: string[] = [];
    for (const [path, line] of this.trees.at(-1) as Tree) {
      if (path.startsWith('/lost+found')) continue;
      if (/^\d+ 4/.test(line) === isDirectory) found.push(path);
    }
    return found.length === 0 ? undefined : this.#prng.pick(found);
  }

  #newName(): string {
    const parent = this.#path(true) as string;
    // Long names make directories split.
    const name = `n${++this.#lastName}${this.#prng.chance(0.3) ? '-'.repeat(this.#prng.below(200)) : ''}`;
    return parent === '/' ? `/${name}` : `${parent}/${name}`;
  }

  #newFile(ino: number, op: number): FileModel {
    const model = new FileModel(this.#files.length + 1, ino, op);
    this.#files.push(model);
    return model;
  }

  /** A file with a name, or sometimes one that is open without. */
  #pickFile(): { path: string | undefined; model: FileModel } | undefined {
    const open = this.#files.filter(({ file }) => file !== undefined);
    if (open.length > 0 && this.#prng.chance(0.2)) return { path: undefined, model: this.#prng.pick(open) };
    const tree = this.trees.at(-1) as Tree;
    const found = [...tree].filter(([, line]) => /^\d+ 10/.test(line));
    if (found.length === 0) return undefined;
    const [path, line] = this.#prng.pick(found);
    const model = this.#files.findLast(({ ino }) => ino === inoOf(line));
    return model === undefined ? undefined : { path, model };
  }

  async #withFile(use: (file: PosixFile, model: FileModel, path: string | undefined) => Promise<void>): Promise<void> {
    const found = this.#pickFile();
    if (found === undefined) return;
    const { path, model } = found;
    if (model.file !== undefined) return use(model.file, model, path);
    const file = await this.#world.face.open(path as string, uapi.O_RDWR);
    try {
      await use(file, model, path);
    } finally {
      await file.close();
    }
  }

  async #write(file: PosixFile, model: FileModel, from: number, count: number, rwf = 0): Promise<void> {
    const serial = ++this.#serial;
    const op = this.#op;
    this.log.push(`${op}: write ${serial} file ${model.id} granules ${from}+${count}${rwf === 0 ? '' : ' dsync'}`);
    for (let i = 0; i < count; i++) model.set(op, from + i, serial * PLACES + from + i);
    const size = (from + count) * GRANULE;
    if (size > model.size) model.setSize(op, size);
    let written = 0;
    try {
      written = await file.writev([pattern(model.id, serial, from, count)], from * GRANULE, rwf);
    } finally {
      if (written !== count * GRANULE) model.isLoose = true;
    }
    if (rwf !== 0 && written > 0) this.#promiseBytes(model, op, from * GRANULE, size);
  }

  #promiseBytes(model: FileModel, op: number, from: number, to: number): void {
    const mark = `mark ${++this.#lastMark}`;
    model.floors.push({ mark, op, from, to });
    // The size covers what is there.
    this.device.mark(mark);
  }

  async #create(op: number): Promise<void> {
    const path = this.#newName();
    const file = await this.#world.face.open(path, uapi.O_RDWR | uapi.O_CREAT | uapi.O_EXCL);
    const { ino } = await file.fstat();
    const model = this.#newFile(ino, op);
    this.log.push(`${op}: create ${path} file ${model.id} inode ${ino}`);
    if (this.#prng.chance(0.8)) await this.#write(file, model, 0, this.#length());
    if (this.#prng.chance(0.3)) await this.#sync(file, model, path, false);
    if (this.#prng.chance(0.2)) model.file = file;
    else await file.close();
  }

  #length(): number {
    return this.#prng.between(1, this.#prng.pick([2, 8, 70, 300]));
  }

  #append(op: number): Promise<void> {
    return this.#withFile(async (file, model) => {
      const gap = this.#prng.chance(0.2) ? this.#prng.below(400) : 0;
      const rwf = this.#prng.chance(0.15) ? uapi.RWF_DSYNC : 0;
      if (model.size / GRANULE + gap < 8000 && op > 0) await this.#write(file, model, model.size / GRANULE + gap, this.#length(), rwf);
    });
  }

  #overwrite(): Promise<void> {
    return this.#withFile(async (file, model) => {
      const size = model.size / GRANULE;
      if (size === 0) return;
      const rwf = this.#prng.chance(0.15) ? uapi.RWF_DSYNC : 0;
      await this.#write(file, model, this.#prng.below(size), this.#length(), rwf);
    });
  }

  #truncate(op: number): Promise<void> {
    return this.#withFile(async (file, model) => {
      const size = this.#prng.chance(0.2) ? 0 : this.#prng.below(model.size / GRANULE + 50) * GRANULE;
      this.log.push(`${op}: truncate file ${model.id} to ${size}`);
      model.clear(op, size / GRANULE, Number.POSITIVE_INFINITY);
      model.setSize(op, size);
      await file.ftruncate(size);
    });
  }

  #fallocate(op: number): Promise<void> {
    return this.#withFile(async (file, model) => {
      const prng = this.#prng;
      const unit = this.kind.hasClusters === true || this.kind.options.includes('4096') ? 4096 : 1024;
      const mode = prng.pick([
        0,
        uapi.FALLOC_FL_KEEP_SIZE,
        uapi.FALLOC_FL_PUNCH_HOLE | uapi.FALLOC_FL_KEEP_SIZE,
        uapi.FALLOC_FL_ZERO_RANGE,
        uapi.FALLOC_FL_COLLAPSE_RANGE,
        uapi.FALLOC_FL_INSERT_RANGE,
      ]);
      const isShift = mode === uapi.FALLOC_FL_COLLAPSE_RANGE || mode === uapi.FALLOC_FL_INSERT_RANGE;
      const step = isShift ? unit : GRANULE;
      const from = prng.below(Math.ceil(model.size / step) + 2) * step;
      const length = prng.between(1, isShift ? 8 : 300) * step;
      this.log.push(`${op}: fallocate ${mode} file ${model.id} bytes ${from}+${length}`);
      const size = model.size;
      const isLoose = model.isLoose;
      model.isLoose = true; // unless it succeeds
      await file.fallocate(mode, from, length);
      model.isLoose = isLoose;
      const first = from / GRANULE;
      const end = (from + length) / GRANULE;
      if (mode === 0 || mode === uapi.FALLOC_FL_ZERO_RANGE) {
        if (from + length > size) model.setSize(op, from + length);
      }
      if ((mode & uapi.FALLOC_FL_PUNCH_HOLE) !== 0 || mode === uapi.FALLOC_FL_ZERO_RANGE) model.clear(op, first, end);
      if (isShift) this.#shift(op, model, first, mode === uapi.FALLOC_FL_COLLAPSE_RANGE ? first - end : end - first);
    });
  }

  /** Extents move one after another, with holes in between: everything behind may be as before, as after, or zero. */
  #shift(op: number, model: FileModel, first: number, by: number): void {
    const after = new Map<number, Content>();
    for (const granule of model.history.keys()) {
      const content = model.contentOf(granule);
      if (granule >= first - Math.min(0, by) && content !== 0) after.set(granule + by, content);
    }
    const all = new Set([...model.history.keys(), ...after.keys()]);
    for (const granule of all) {
      if (granule < first) continue;
      model.set(op, granule, 0);
      model.set(op, granule, after.get(granule) ?? 0);
    }
    model.setSize(op, model.size + by * GRANULE);
  }

  #fsync(): Promise<void> {
    if (this.#prng.chance(0.2)) return this.#fsyncDir();
    return this.#withFile((file, model, path) => this.#sync(file, model, path, this.#prng.chance(0.4)));
  }

  async #sync(file: PosixFile, model: FileModel, path: string | undefined, datasync: boolean): Promise<void> {
    const op = this.#op;
    const mark = `mark ${++this.#lastMark}`;
    this.log.push(`${op}: ${datasync ? 'fdatasync' : 'fsync'} file ${model.id} ${path ?? ''} as ${mark}`);
    model.floors.push({ mark, op, from: 0, to: Number.POSITIVE_INFINITY });
    const touched = datasync ? (model.size > 0 ? model.born : 0) : (this.#touched.get(model.ino) ?? model.born);
    this.#treeFloors.push({ mark, op: touched });
    try {
      await (datasync ? file.fdatasync() : file.fsync());
    } catch (error) {
      // What could not be written is given up, and the next one need not know of it.
      model.isLoose = true;
      throw error;
    }
    this.device.mark(mark);
  }

  async #fsyncDir(): Promise<void> {
    const path = this.#path(true) as string;
    const mark = `mark ${++this.#lastMark}`;
    const ino = inoOf(this.trees.at(-1)?.get(path) as string);
    this.log.push(`${this.#op}: fsync ${path} as ${mark}`);
    this.#treeFloors.push({ mark, op: this.#touched.get(ino) ?? 0 });
    const dir = await this.#world.face.open(path, uapi.O_RDONLY | uapi.O_DIRECTORY);
    await dir.fsync();
    this.device.mark(mark);
    await dir.close();
  }

  async #syncfs(op: number): Promise<void> {
    const mark = `mark ${++this.#lastMark}`;
    this.log.push(`${op}: syncfs as ${mark}`);
    for (const model of this.#files) model.floors.push({ mark, op, from: 0, to: Number.POSITIVE_INFINITY });
    this.#treeFloors.push({ mark, op: op - 1 });
    const root = await this.#world.face.open('/', uapi.O_RDONLY | uapi.O_DIRECTORY);
    try {
      await root.syncfs();
    } catch (error) {
      for (const model of this.#files) model.isLoose = true;
      throw error;
    }
    this.device.mark(mark);
    await root.close();
  }

  /** As programs save a file: a new one takes the old one's place. */
  async #replace(op: number): Promise<void> {
    const found = this.#pickFile();
    if (found?.path === undefined) return;
    const path = this.#newName();
    const file = await this.#world.face.open(path, uapi.O_RDWR | uapi.O_CREAT | uapi.O_EXCL);
    const { ino } = await file.fstat();
    const model = this.#newFile(ino, op);
    this.log.push(`${op}: create ${path} file ${model.id} inode ${ino}, to replace ${found.path}`);
    await this.#write(file, model, 0, this.#length());
    if (this.#prng.chance(0.5)) await this.#sync(file, model, path, false);
    await file.close();
    // The name of before must not be in a tree that could be the one after this operation.
    this.trees.push(await readTree(this.#world.face));
    this.#touch(op, path, this.trees.at(-1)?.get(path) as string);
    this.device.mark(`begin ${++this.#op}`);
    await this.#world.face.rename(path, found.path);
  }

  async #rename(op: number): Promise<void> {
    const from = this.#path(this.#prng.chance(0.3));
    if (from === undefined || from === '/') return;
    const isExchange = this.#prng.chance(0.2);
    const to = isExchange || this.#prng.chance(0.3) ? this.#path(false) : this.#newName();
    if (to === undefined) return;
    this.log.push(`${op}: ${isExchange ? 'exchange' : 'rename'} ${from} ${to}`);
    await this.#world.face.rename(from, to, isExchange ? uapi.RENAME_EXCHANGE : 0);
  }

  async #link(op: number): Promise<void> {
    const from = this.#path(false);
    if (from === undefined) return;
    const to = this.#newName();
    this.log.push(`${op}: link ${from} ${to}`);
    await this.#world.face.link(from, to);
  }

  async #unlink(op: number): Promise<void> {
    const path = this.#path(false);
    if (path === undefined) return;
    this.log.push(`${op}: unlink ${path}`);
    await this.#world.face.unlink(path);
  }

  async #mkdir(op: number): Promise<void> {
    const path = this.#newName();
    this.log.push(`${op}: mkdir ${path}`);
    await this.#world.face.mkdir(path, 0o777);
  }

  async #rmdir(op: number): Promise<void> {
    const path = this.#path(true);
    if (path === undefined || path === '/') return;
    this.log.push(`${op}: rmdir ${path}`);
    await this.#world.face.rmdir(path);
  }

  async #symlink(op: number): Promise<void> {
    const path = this.#newName();
    this.log.push(`${op}: symlink ${path}`);
    await this.#world.face.symlink(`t${op}`.padEnd(this.#prng.pick([5, 59, 60, 400]), '.'), path);
  }

  async #xattr(op: number): Promise<void> {
    const path = this.#path(this.#prng.chance(0.3));
    if (path === undefined) return;
    const name = `user.${this.#prng.pick(['a', 'b', 'c'])}`;
    if ((await this.#world.face.lstat(path)).mode >> 12 === 0o12) return; // links have no such attributes
    if (this.#prng.chance(0.3)) {
      this.log.push(`${op}: removexattr ${path} ${name}`);
      return this.#world.face.removexattr(path, name);
    }
    const length = this.#prng.pick([1, 30, 200, 700, 3000]);
    this.log.push(`${op}: setxattr ${path} ${name} ${length} bytes`);
    await this.#world.face.setxattr(path, name, this.#prng.bytes(length));
  }

  async #tmpfile(op: number): Promise<void> {
    const parent = this.#path(true) as string;
    const file = await this.#world.face.open(parent, uapi.O_RDWR | uapi.O_TMPFILE);
    const { ino } = await file.fstat();
    const model = this.#newFile(ino, op);
    this.log.push(`${op}: tmpfile in ${parent} file ${model.id} inode ${ino}`);
    await this.#write(file, model, 0, this.#length());
    if (this.#prng.chance(0.6)) {
      const path = this.#newName();
      this.log.push(`${op}: link file ${model.id} ${path}`);
      await file.linkTo(path);
    }
    if (this.#prng.chance(0.5)) model.file = file;
    else await file.close();
  }

  async #chmod(op: number): Promise<void> {
    const path = this.#path(this.#prng.chance(0.2));
    if (path === undefined || path === '/') return;
    if ((await this.#world.face.lstat(path)).mode >> 12 === 0o12) return;
    this.log.push(`${op}: chmod ${path}`);
    await this.#world.face.chmod(path, this.#prng.pick([0o600, 0o644, 0o777]));
  }

  /** Time goes by: data is written back, changes are committed. Files that are open are closed. */
  async #time(op: number): Promise<void> {
    for (const model of this.#files) {
      const { file } = model;
      if (file === undefined || !this.#prng.chance(0.5)) continue;
      this.log.push(`${op}: close file ${model.id}`);
      model.file = undefined;
      await file.close();
    }
    const ms = this.#prng.pick([1000, 6000, 40000]);
    this.log.push(`${op}: ${ms} ms`);
    await this.#world.clock.advance(ms);
  }

  /** Many names in a directory of their own, each an operation. */
  async #many(): Promise<void> {
    const parent = this.#path(true) as string;
    const count = this.#prng.between(5, 25);
    for (let i = 0; i < count; i++) {
      const path = `${parent === '/' ? '' : parent}/m${++this.#lastName}${'x'.repeat(this.#prng.below(100))}`;
      this.log.push(`${this.#op}: symlink ${path}`);
      await this.#world.face.symlink('many', path);
      if (i === count - 1) return;
      const tree = await readTree(this.#world.face);
      this.trees.push(tree);
      this.#touch(this.#op, path, tree.get(path) as string);
      this.device.mark(`begin ${++this.#op}`);
    }
  }

  /** Everything that has to be true of a state. `asks`: the kernel is asked, too. */
  async check(state: CrashState, asksKernel = false): Promise<void> {
    const { kind } = this;
    const marks = new Set(state.marks);
    let last = 0;
    for (const mark of state.marks) if (mark.startsWith('begin ')) last = Number(mark.slice(6));
    const device = state.materialise();

    const repaired = device.snapshot();
    const { status, text } = e2fsck(kind, repaired, ['-fy']);
    assert((status ?? 99) <= 1, `e2fsck -fy: exit ${status}\n${text}`);
    if (!forgetsValues(text)) assertReplayOnly(text, this.hasFailed);
    assertClean(kind, repaired, 'what e2fsck has replayed');

    const before = asksKernel ? device.snapshot() : undefined;
    const readOnly = await mountKind(kind, device, { readOnly: true });
    const seen = await readTree(readOnly.face);
    await readOnly.end();

    const world = await mountKind(kind, device);
    const tree = await readTree(world.face);
    assert.deepEqual(seen, tree, 'the tree of a read-only mount is that of a writable one');
    const at = this.#findTree(tree, marks, last);
    for (const [path, line] of tree) {
      if (!/^\d+ 10/.test(line)) continue;
      const model = this.#files.findLast(({ ino, born }) => ino === inoOf(line) && born <= at);
      assert(model !== undefined, `${path} is none of the files of the workload`);
      const bytes = await readAll(world.face, path);
      try {
        model.check(bytes, marks, last);
      } catch (error) {
        throw new Error(`${path}, file ${model.id}, inode ${model.ino}: ${(error as Error).message}`, { cause: error });
      }
    }
    // It is a volume to work with.
    await world.face.mkdir('/after');
    await world.face.rmdir('/after');
    const complaints = world.warnings.filter(
      (warning) => !KNOWN_WARNINGS.test(warning) && !(this.hasFailed && /has errors on record/.test(warning)),
    );
    assert.deepEqual(complaints, []);
    await world.end();
    if (this.hasFailed) assertReplayOnly(e2fsck(kind, device, ['-fy']).text, true);
    assertClean(kind, device, 'what we have replayed');

    if (!forgetsValues(text)) {
      const again = await mountKind(kind, repaired, { readOnly: true });
      assert.deepEqual(await readTree(again.face), tree, 'e2fsck and we replay to the same tree');
      await again.end();
    }
    if (before !== undefined) assert.deepEqual(kernelTree(kind, before), [...tree.keys()].sort(), 'the kernel replays to the same tree');
  }

  /** The operation after which the tree was this one. */
  #findTree(tree: Tree, marks: ReadonlySet<string>, last: number): number {
    const floor = Math.max(0, ...this.#treeFloors.filter(({ mark }) => marks.has(mark)).map(({ op }) => op));
    let nearest: { op: number; differences: string[] } | undefined;
    for (let op = floor; op <= Math.min(last, this.trees.length - 1); op++) {
      const differences = compare(this.trees[op] as Tree, tree);
      if (differences.length === 0) return op;
      if (nearest === undefined || differences.length < nearest.differences.length) nearest = { op, differences };
    }
    assert.fail(
      `the tree is that after none of the operations ${floor}..${last}; nearest ${nearest?.op}:\n${nearest?.differences.join('\n')}`,
    );
  }
}

function compare(expected: Tree, got: Tree): string[] {
  const differences: string[] = [];
  for (const [path, line] of expected) if (got.get(path) !== line) differences.push(`${path}: ${line}; is ${got.get(path) ?? 'not there'}`);
  for (const path of got.keys()) if (!expected.has(path)) differences.push(`${path}: is there`);
  return differences;
}

export async function readAll(face: VfsFace, path: string): Promise<Uint8Array> {
  const file = await face.open(path, uapi.O_RDONLY);
  const { size } = await file.fstat();
  const bytes = await file.pread(size, 0);
  await file.close();
  // As long as the size says: a hole at the end is read as well.
  assert.equal(bytes.length, size, `${path} is read to its end`);
  return bytes.slice();
}

/** Moves the place in the log where the next transaction goes. */
async function age(kind: CrashKind, device: MemoryDevice, commits: number): Promise<void> {
  if (commits === 0) return;
  const world = await mountKind(kind, device);
  const root = await world.face.open('/', uapi.O_RDONLY | uapi.O_DIRECTORY);
  for (let i = 0; i < commits; i++) {
    await root.fchmod(i % 2 === 0 ? 0o700 : 0o755);
    await root.fsync();
  }
  await root.close();
  await world.end();
}

/** All paths as the kernel sees them after its own replay; of `device`, or of a copy of it. */
export function kernelTree(kind: CrashKind, device: MemoryDevice): string[] {
  assert.equal(kind.journal, undefined, 'the kernel is not given external journals here');
  return inFolder((folder) => {
    const image = join(folder, 'image');
    writeOut(device, image, 0, kind.size * MIB);
    return inMount(folder, image, (mountpoint) =>
      runTool('find', [mountpoint, '-printf', '/%P\\n'])
        .split('\n')
        .filter((line) => line !== '')
        .sort(),
    );
  });
}

/** Mounts an image by the kernel, on a loop device. */
export function inMount<T>(folder: string, image: string, use: (mountpoint: string) => T, options = 'loop'): T {
  const mountpoint = join(folder, 'mnt');
  spawnSync('mkdir', ['-p', mountpoint]);
  runTool('mount', ['-t', 'ext4', '-o', options, image, mountpoint]);
  try {
    return use(mountpoint);
  } finally {
    const { status } = spawnSync('umount', [mountpoint], { env: TOOL_ENV, stdio: 'ignore' });
    if (status !== 0) spawnSync('umount', ['--lazy', mountpoint], { env: TOOL_ENV, stdio: 'ignore' });
  }
}

/** Why the kernel cannot be asked, or undefined. */
export function whyNoKernel(): string | undefined {
  if (process.platform !== 'linux') return 'loop mounts are Linux mounts';
  if (process.getuid?.() !== 0) return 'loop mounts need root';
  if (!existsSync('/dev/loop-control')) return 'there are no loop devices';
  return undefined;
}

/** Not of external journals; of quotas not everywhere. */
function canAskKernel(kind: CrashKind): boolean {
  return kind.journal === undefined && !kind.options.includes('quota') && whyNoKernel() === undefined;
}

/** As runCrash, with a device that fails now and then: what is said to be durable is, and nothing else is damaged. */
export async function runFailing(seed: number, count: number, trace?: (line: string) => void): Promise<CrashRun> {
  const prng = new Prng(seed);
  const kind = CRASH_KINDS.filter(({ journal }) => journal === undefined)[seed % (CRASH_KINDS.length - 1)] as CrashKind;
  const workload = await CrashWorkload.start(kind, prng, { isFaulty: true, ...(prng.chance(0.5) ? { metadataCache: 32768 } : {}) });
  let states = 0;
  try {
    await workload.run(prng.between(30, 120));
    trace?.(`${kind.title}: ${workload.hasFailed ? 'failed' : 'whole'}, ${workload.isReadOnly ? 'read-only' : 'writable'}`);
    for (const state of workload.device.crashStates(prng, { cutsMax: count, statesPerCut: 1 })) {
      states++;
      await explained(workload, state, () => workload.check(state));
    }
  } finally {
    await workload.abandon().catch(() => {});
  }
  return { states, kind: kind.title };
}

async function explained(workload: CrashWorkload, state: CrashState, check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    throw new Error(`${workload.kind.title}, ${state.text}: ${(error as Error).message}\n${workload.log.slice(-400).join('\n')}`, {
      cause: error,
    });
  }
}

export interface CrashRun {
  /** States checked. */
  readonly states: number;
  readonly kind: string;
}

/**
 * One workload, and some of the states that power cuts in it may leave.
 *
 * Errors: what is wrong with the first state that is, with the text that describes it and the operations before.
 */
export async function runCrash(seed: number, count: number, trace?: (line: string) => void, asksKernel = 0.05): Promise<CrashRun> {
  const prng = new Prng(seed);
  const kinds = CRASH_KINDS.filter(({ journal }) => journal === undefined || whyNoKernel() === undefined);
  const kind = kinds[seed % kinds.length] as CrashKind;
  trace?.(`${kind.title}`);
  const workload = await CrashWorkload.start(kind, prng);
  let states = 0;
  try {
    await workload.run(prng.between(30, 120));
    for (const state of workload.device.crashStates(prng, { cutsMax: count, statesPerCut: 3 })) {
      // The first two of a cut are none and all of what may be lost; most of them come from elsewhere.
      if (states >= count) break;
      if (!prng.chance(0.5)) continue;
      states++;
      trace?.(state.text);
      const asks = canAskKernel(kind) && prng.chance(asksKernel);
      await explained(workload, state, () => workload.check(state, asks));
    }
  } finally {
    await workload.abandon();
  }
  return { states, kind: kind.title };
}
