// Uses a volume as many callers would, within bounds: the whole tree is listed and read, and with luck by a seed names, data and attributes are
// changed. What the filesystem refuses with an FsError is fine; everything else that it throws comes out, with what was being done.

import assert from 'node:assert/strict';
import { FsError } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import type { Prng } from '../../src/base/prng.ts';
import type { MaybePromise } from '../../src/base/task.ts';
import { type Bio, REQ_OP_FLUSH, REQ_OP_READ } from '../../src/block/bio.ts';
import type { BlockDevice } from '../../src/block/block-device.ts';
import { type Ext4Options, mountExt4 } from '../../src/fs/ext4/mount.ts';
import type { Entry } from '../../src/vfs/attr.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';
import * as uapi from '../../src/vfs/uapi.ts';

/** Names of one directory, and inodes of one volume, that are looked at. */
const NAMES_MAX = 30_000;
const INODES_MAX = 4000;
/** Requests of one session to the device, and bytes of them: far above what a volume of some MiB needs. */
const REQUESTS_MAX = 400_000;
const BYTES_MAX = 4 * 2 ** 30;
const CHUNK = 16_384;

/** A device that sees to it that nobody reads outside of it, changes it where it must not, or goes on for ever. */
export class GuardedDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly stableWrites: boolean;
  readonly atomicWriteMin = 0;
  readonly atomicWriteMax = 0;
  readonly #below: BlockDevice;
  readonly #isReadOnly: boolean;
  #requests = 0;
  #bytes = 0;
  /** What went wrong first. */
  violation: string | undefined;

  constructor(below: BlockDevice, isReadOnly: boolean) {
    this.#below = below;
    this.#isReadOnly = isReadOnly;
    this.name = below.name;
    this.size = below.size;
    this.logicalBlockSize = below.logicalBlockSize;
    this.dmaAlignment = below.dmaAlignment;
    this.bioSizeMax = below.bioSizeMax;
    this.hasVolatileCache = below.hasVolatileCache;
    this.hasFua = below.hasFua;
    this.stableWrites = below.stableWrites;
  }

  submit(bio: Bio): void {
    this.#requests++;
    this.#bytes += bio.length;
    if (this.#requests > REQUESTS_MAX || this.#bytes > BYTES_MAX) {
      throw new Error(`unbounded: ${this.#requests} requests of ${this.#bytes} bytes`);
    }
    if (bio.op !== REQ_OP_FLUSH && !(bio.addr >= 0 && bio.addr + bio.length <= this.size)) {
      this.violation ??= new Error(`bytes ${bio.addr}+${bio.length} of a device of ${this.size}`).stack ?? 'outside';
    }
    if (this.#isReadOnly && bio.op !== REQ_OP_READ)
      this.violation ??= new Error(`request ${bio.op} of a read-only mount`).stack ?? 'a write';
    this.#below.submit(bio);
  }
}

/** What came of it: the error of mount, or how many inodes were seen and how many calls failed. */
export interface Outcome {
  readonly refused: string | undefined;
  readonly inodes: number;
  readonly errors: number;
}

/** Mounts, uses and unmounts a volume. `hear` is told of each FsError. Errors: whatever is none; a device that was misused. */
export async function exercise(
  below: BlockDevice,
  prng: Prng,
  options: Ext4Options,
  hear: (what: string, error: FsError) => void = () => {},
): Promise<Outcome> {
  const bdev = new GuardedDevice(below, options.readOnly === true);
  const session = new Session(prng, hear);
  let fs: FileSystem | undefined;
  await session.attempt('mount', async () => {
    fs = await mountExt4(bdev, { seed: 1, ...options });
  });
  const refused = session.lastError;
  if (fs !== undefined) {
    await session.use(fs, options.readOnly !== true);
    const mounted = fs;
    await session.attempt('destroy', () => mounted.destroy());
  }
  assert.equal(bdev.violation, undefined);
  return { refused, inodes: session.found.length, errors: session.errors };
}

interface Found {
  readonly entry: Entry;
  readonly parent: number;
  readonly name: string;
}

class Session {
  readonly #prng: Prng;
  readonly found: Found[] = [];
  errors = 0;
  lastError: string | undefined;

  readonly #hear: (what: string, error: FsError) => void;

  constructor(prng: Prng, hear: (what: string, error: FsError) => void) {
    this.#prng = prng;
    this.#hear = hear;
  }

  /** The answer, or undefined where it is an FsError. */
  async attempt<T>(what: string, body: () => MaybePromise<T>): Promise<T | undefined> {
    try {
      return await body();
    } catch (error) {
      if (!(error instanceof FsError)) throw new Error(`${what}: ${String(error)}`, { cause: error });
      this.#hear(what, error);
      this.errors++;
      this.lastError = error.message;
      return undefined;
    }
  }

  async use(fs: FileSystem, writes: boolean): Promise<void> {
    const root = await this.attempt('iget of the root', () => fs.iget(ROOT, fs.root));
    if (root === undefined) return;
    this.found.push({ entry: root, parent: fs.root, name: '' });
    const seen = new Set<number>([fs.root]);
    for (let next = 0; next < this.found.length && this.found.length < INODES_MAX; next++)
      await this.#look(fs, this.found[next] as Found, seen);
    if (writes) {
      for (let step = 0; step < 40; step++) await this.#change(fs);
      await this.attempt('syncfs', () => fs.syncfs(ROOT));
    }
    await this.attempt('iget', () => fs.iget(ROOT, this.#prng.below(400)));
    await this.attempt('statfs', () => fs.statfs(ROOT, fs.root));
  }

  async #look(fs: FileSystem, { entry, name }: Found, seen: Set<number>): Promise<void> {
    const { node, attr } = entry;
    const what = `'${name.slice(0, 20)}' (${node})`;
    await this.attempt(`getattr of ${what}`, () => fs.getattr(ROOT, node));
    const names = await this.attempt(`listxattr of ${what}`, () => fs.listxattr(ROOT, node));
    for (const each of (names ?? []).slice(0, 50)) await this.attempt(`getxattr ${each} of ${what}`, () => fs.getxattr(ROOT, node, each));
    const type = attr.mode & uapi.S_IFMT;
    if (type === uapi.S_IFLNK) await this.attempt(`readlink of ${what}`, () => fs.readlink(ROOT, node));
    else if (type === uapi.S_IFREG) await this.#read(fs, node, attr.size, what);
    else if (type === uapi.S_IFDIR) await this.#list(fs, node, what, seen);
  }

  async #read(fs: FileSystem, node: number, size: number, what: string): Promise<void> {
    await this.attempt(`fiemap of ${what}`, () => fs.fiemap(ROOT, node, 0, Number.MAX_SAFE_INTEGER, 0, 200));
    const open = await this.attempt(`open of ${what}`, () => fs.open(ROOT, node, uapi.O_RDONLY));
    if (open === undefined) return;
    const into = new Uint8Array(CHUNK);
    for (const pos of [0, CHUNK, Math.max(0, size - 5000), this.#prng.below(size + 1)]) {
      await this.attempt(`read of ${what} at ${pos}`, () => fs.read(ROOT, node, open.fh, { pos, flags: 0 }, into));
    }
    let pos: number | undefined = 0;
    for (let count = 0; count < 20 && pos !== undefined; count++) {
      const from: number = pos;
      pos = await this.attempt(`lseek of ${what}`, () =>
        fs.lseek(ROOT, node, open.fh, from, count % 2 === 0 ? uapi.SEEK_DATA : uapi.SEEK_HOLE),
      );
    }
    await this.attempt(`release of ${what}`, () => fs.release(node, open.fh));
  }

  async #list(fs: FileSystem, node: number, what: string, seen: Set<number>): Promise<void> {
    await this.attempt(`parentOf ${what}`, () => fs.parentOf(ROOT, node));
    const open = await this.attempt(`opendir of ${what}`, () => fs.opendir(ROOT, node, 0));
    if (open === undefined) return;
    let offset = 0;
    for (let count = 0; ; ) {
      const from = offset;
      const plus = this.#prng.chance(0.5);
      const entries = await this.attempt(`readdir of ${what}`, () => fs.readdir(ROOT, node, open.fh, from, 100, plus));
      if (entries === undefined || entries.length === 0) break;
      count += entries.length;
      assert.ok(count < NAMES_MAX, `the listing of ${what} does not end`);
      for (const { name, next, entry: listed } of entries) {
        offset = next;
        if (name === '.' || name === '..') continue;
        const entry = listed ?? (await this.attempt(`lookup of ${name}`, () => fs.lookup(ROOT, node, name)));
        if (entry === undefined) continue;
        if (seen.has(entry.node) || this.found.length >= INODES_MAX) {
          fs.forget(entry.node, 1);
          continue;
        }
        seen.add(entry.node);
        this.found.push({ entry, parent: node, name });
      }
    }
    await this.attempt(`lookup in ${what}`, () => fs.lookup(ROOT, node, 'no such name'));
    await this.attempt(`releasedir of ${what}`, () => fs.releasedir(node, open.fh));
  }

  #any(type: number): Found {
    const all = this.found.filter(({ entry }) => (entry.attr.mode & uapi.S_IFMT) === type);
    return this.#prng.pick(all.length === 0 ? this.found : all);
  }

  async #change(fs: FileSystem): Promise<void> {
    const prng = this.#prng;
    const dir = this.#any(uapi.S_IFDIR).entry.node;
    const other = this.#any(uapi.S_IFDIR).entry.node;
    const file = this.#any(uapi.S_IFREG);
    const any = prng.pick(this.found);
    const fresh = `new-${prng.below(1000)}${'x'.repeat(prng.chance(0.3) ? prng.below(200) : 0)}`;
    const changes: Record<string, () => MaybePromise<unknown>> = {
      create: async () => {
        const { entry, fh } = await fs.create(ROOT, dir, fresh, 0o644, uapi.O_RDWR);
        this.found.push({ entry, parent: dir, name: fresh });
        await fs.write(ROOT, entry.node, fh, { pos: prng.below(20_000), flags: 0 }, new IovIter(prng.bytes(1 + prng.below(20_000))));
        await fs.release(entry.node, fh);
      },
      mkdir: () => fs.mkdir(ROOT, dir, fresh, 0o755),
      mknod: () => fs.mknod(ROOT, dir, fresh, uapi.S_IFIFO | 0o644, 0),
      symlink: () => fs.symlink(ROOT, dir, fresh, 't'.repeat(1 + prng.below(200))),
      link: () => fs.link(ROOT, any.entry.node, dir, fresh),
      unlink: () => fs.unlink(ROOT, any.parent, any.name),
      rmdir: () => fs.rmdir(ROOT, any.parent, any.name),
      rename: () => fs.rename(ROOT, any.parent, any.name, dir, prng.chance(0.5) ? fresh : prng.pick(this.found).name, prng.below(3)),
      tmpfile: async () => {
        const { entry, fh } = await fs.tmpfile(ROOT, other, 0o600, uapi.O_RDWR);
        await fs.release(entry.node, fh);
        fs.forget(entry.node, 1);
      },
      chmod: () => fs.setattr(ROOT, any.entry.node, { mode: prng.below(0o10000), uid: prng.below(100) }),
      truncate: () => fs.setattr(ROOT, file.entry.node, { size: prng.below(prng.chance(0.5) ? 2000 : 200_000) }),
      setxattr: () => fs.setxattr(ROOT, any.entry.node, `user.n${prng.below(5)}`, prng.bytes(prng.below(prng.chance(0.5) ? 40 : 1500)), 0),
      removexattr: async () => {
        for (const each of (await fs.listxattr(ROOT, any.entry.node)).slice(0, 3)) await fs.removexattr(ROOT, any.entry.node, each);
      },
      data: async () => {
        const { node } = file.entry;
        const { fh } = await fs.open(ROOT, node, uapi.O_RDWR);
        const pos = prng.below(Math.min(file.entry.attr.size, 2 ** 40) + 10_000);
        await this.attempt('write', () => fs.write(ROOT, node, fh, { pos, flags: 0 }, new IovIter(prng.bytes(1 + prng.below(9000)))));
        const mode = prng.pick([
          0,
          uapi.FALLOC_FL_KEEP_SIZE,
          uapi.FALLOC_FL_PUNCH_HOLE | uapi.FALLOC_FL_KEEP_SIZE,
          uapi.FALLOC_FL_ZERO_RANGE,
          uapi.FALLOC_FL_COLLAPSE_RANGE,
          uapi.FALLOC_FL_INSERT_RANGE,
        ]);
        await this.attempt('fallocate', () => fs.fallocate(ROOT, node, fh, mode, 4096 * prng.below(20), 4096 * (1 + prng.below(20))));
        if (prng.chance(0.5)) await this.attempt('fsync', () => fs.fsync(ROOT, node, fh, prng.chance(0.5)));
        await fs.release(node, fh);
      },
      forget: () => {
        if (any.entry.node === fs.root) return;
        fs.forget(any.entry.node, 1);
      },
    };
    const name = prng.pick(Object.keys(changes));
    await this.attempt(name, changes[name] as () => MaybePromise<unknown>);
  }
}
