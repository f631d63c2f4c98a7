import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FsError, hasCode } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import { Prng } from '../../src/base/prng.ts';
import { MirrorFs } from '../../src/fs/mirror/mirror-fs.ts';
import { openImage } from '../../src/image/image.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import * as uapi from '../../src/vfs/uapi.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import { MODEL_KINDS, type ModelKind } from './ext4-model.ts';
import { COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } from './tree-model.ts';

// One image, in turns with the kernel's driver: each finds what the other left, changes it, and e2fsck judges what we leave.

const ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
const {
  O_CREAT,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} = uapi;
const BLOCK = 4096;
const CHUNK = 65536;

/** What the kernel mounts everywhere. */
const KINDS = MODEL_KINDS.filter(({ blockSize, mount }) => blockSize <= 4096 && mount?.data === undefined);

const pool = new Prng(13).bytes(2 ** 20).map((byte) => 1 + (byte % 255));

/** Errors that say that something is broken. */
const BROKEN = new Set(['EIO', 'EUCLEAN', 'EBADMSG', 'ESTALE', 'EROFS', 'EBADF', 'EFAULT']);

/** Runs the seed: `rounds` turns of each side. Answers why not, as text, where the kernel cannot mount images. */
export async function runAlternate(seed: number, rounds: number, trace: (line: string) => void = () => {}): Promise<string | undefined> {
  const prng = new Prng(seed);
  const kind = KINDS[seed % KINDS.length] as ModelKind;
  const alternation = new Alternation(kind, prng, trace);
  try {
    return await alternation.run(rounds);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${kind.name}: ${message}\nlast steps:\n${alternation.log.join('\n')}`, { cause: error });
  } finally {
    alternation.end();
  }
}

class Alternation {
  readonly log: string[] = [];
  readonly #kind: ModelKind;
  readonly #prng: Prng;
  readonly #trace: (line: string) => void;
  readonly #folder = mkdtempSync(join(tmpdir(), 'iomap-alternate-'));
  readonly #image = join(this.#folder, 'image');
  readonly #mountpoint = join(this.#folder, 'mnt');
  /** What the last turn left. */
  #left = new Map<string, string>();
  #names = 0;

  constructor(kind: ModelKind, prng: Prng, trace: (line: string) => void) {
    this.#kind = kind;
    this.#prng = prng;
    this.#trace = trace;
  }

  async run(rounds: number): Promise<string | undefined> {
    const { options, size = 16 } = this.#kind;
    const fd = openSync(this.#image, 'w');
    ftruncateSync(fd, size * 2 ** 20);
    closeSync(fd);
    execFileSync('mke2fs', ['-q', '-F', ...options.split(' ').filter(Boolean), this.#image], { env: ENV, stdio: 'pipe' });
    mkdirSync(this.#mountpoint);
    for (let round = 0; round < rounds; round++) {
      this.#say(`round ${round}, kernel`);
      const { status, stderr } = spawnSync('mount', ['-t', 'ext4', '-o', 'loop', this.#image, this.#mountpoint], {
        env: ENV,
        encoding: 'utf8',
      });
      if (status !== 0) {
        if (round === 0) return `the kernel cannot mount ${this.#kind.name}: ${stderr.trim()}`;
        throw new Error(`the kernel does not mount what we left: ${stderr.trim()}`);
      }
      await this.#turn(new Vfs(new MirrorFs(this.#mountpoint)), round > 0);
      execFileSync('umount', [this.#mountpoint], { env: ENV, stdio: 'pipe' });

      this.#say(`round ${round}, ours`);
      const { uncached = false } = this.#kind.mount ?? {};
      const sync = this.#prng.chance(0.5);
      await this.#turn(new Vfs(await openImage(this.#image, { uncached, sync }, (message) => this.#say(`warning: ${message}`))), true);
      this.#judge();
    }
    return undefined;
  }

  /** Takes everything down. Never throws. */
  end(): void {
    spawnSync('umount', [this.#mountpoint], { env: ENV, stdio: 'ignore' });
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #judge(): void {
    const { status, stdout, stderr } = spawnSync('e2fsck', ['-fn', this.#image], { env: ENV, encoding: 'utf8' });
    if (status !== 0 || /<y>|<n>|WARNING|\bfix\?/i.test(stdout)) throw new Error(`e2fsck -fn: exit ${status}\n${stdout}${stderr}`);
  }

  #say(line: string): void {
    this.log.push(line);
    if (this.log.length > 60) this.log.shift();
    this.#trace(line);
  }

  async #turn(vfs: Vfs, isChecked: boolean): Promise<void> {
    try {
      const hasBirth = this.#kind.isSmall !== true;
      const found = await list(vfs, hasBirth);
      if (isChecked) compare(found, this.#left);
      for (let i = this.#prng.between(5, 25); i > 0; i--) await this.#change(vfs, [...found.keys()]);
      await vfs.syncfs(ROOT);
      this.#left = await list(vfs, hasBirth);
    } finally {
      await vfs.close();
    }
  }

  /** One random change. What is refused is refused. */
  async #change(vfs: Vfs, known: readonly string[]): Promise<void> {
    const prng = this.#prng;
    const isDir = (path: string): boolean => path === '' || path.endsWith('/');
    const dir = (): string => prng.pick(['/', '/', ...known.filter(isDir)]);
    const fresh = (): string => `${dir()}${prng.chance(0.2) ? 'n'.repeat(prng.between(1, 200)) : ''}f${this.#names++}`;
    const any = (): string => (known.length > 0 && prng.chance(0.9) ? prng.pick(known).replace(/\/$/, '') : fresh());
    const step = async (text: string, call: () => unknown): Promise<void> => {
      this.#say(text);
      try {
        await call();
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        if (BROKEN.has(error.code)) throw new Error(`${text}: ${error.message}`, { cause: error });
        this.#say(`  ${error.code}`);
      }
    };
    const roll = prng.below(100);
    if (roll < 8) {
      const path = fresh();
      return step(`mkdir ${path}`, () => vfs.mkdir(ROOT, path, prng.pick([0o755, 0o2775, 0o1777])));
    }
    if (roll < 14) {
      const path = fresh();
      const target = 't'.repeat(prng.pick([1, 40, 59, 60, 100, 900]));
      return step(`symlink ${path} ${target.length}`, () => vfs.symlink(ROOT, target, path));
    }
    if (roll < 17) {
      const path = fresh();
      const mode = 0o600 | prng.pick([S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK]);
      return step(`mknod ${path}`, () => vfs.mknod(ROOT, path, mode, prng.pick([0x103, 0x12345678])));
    }
    if (roll < 24) {
      const [from, to] = [any(), prng.chance(0.6) ? fresh() : any()];
      const flags = prng.pick([0, 0, 0, 1, 2]);
      return step(`rename ${from} ${to} ${flags}`, () => vfs.rename(ROOT, from, to, flags));
    }
    if (roll < 28) {
      const [from, to] = [any(), fresh()];
      return step(`link ${from} ${to}`, () => vfs.link(ROOT, from, to, false));
    }
    if (roll < 36) {
      const path = any();
      return step(`unlink ${path}`, () => vfs.unlink(ROOT, path));
    }
    if (roll < 39) {
      const path = any();
      return step(`rmdir ${path}`, () => vfs.rmdir(ROOT, path));
    }
    if (roll < 45) {
      const path = any();
      const changes = prng.pick([
        { mode: prng.below(0o10000) },
        { uid: prng.pick([0, 1000, 70_000]), gid: prng.pick([0, 100, 100_000]) },
        {
          mtime: { sec: prng.between(-1000, this.#kind.isSmall === true ? 2 ** 30 : 2 ** 33), nsec: prng.below(1e9) },
          atime: { sec: 5, nsec: 6 },
        },
      ]);
      return step(`setattr ${path} ${JSON.stringify(changes)}`, () => vfs.setattr(ROOT, path, changes, changes.mode !== undefined));
    }
    if (roll < 55) {
      const path = any();
      const name = prng.pick(['user.a', 'user.b', 'trusted.c', 'security.d']);
      if (prng.chance(0.3)) return step(`removexattr ${path} ${name}`, () => vfs.removexattr(ROOT, path, name, false));
      const at = prng.below(1000);
      const value = pool.subarray(at, at + prng.pick([0, 5, 50, 300, 2000, 5000]));
      return step(`setxattr ${path} ${name} ${value.length}`, () => vfs.setxattr(ROOT, path, name, value, 0, false));
    }
    if (roll < 60) return this.#many(step, vfs, dir());
    const path = prng.chance(0.5) ? fresh() : any();
    return step(`change ${path}`, () => this.#changeData(vfs, path));
  }

  /** Names by the hundred, so that directories get an index, and lose names again. */
  async #many(step: (text: string, call: () => unknown) => Promise<void>, vfs: Vfs, dir: string): Promise<void> {
    const count = this.#prng.between(20, 150);
    if (this.#prng.chance(0.6)) {
      const from = this.#names;
      this.#names += count;
      return step(`make ${count} in ${dir}`, async () => {
        for (let i = 0; i < count; i++) await vfs.mknod(ROOT, `${dir}many${'m'.repeat(i % 60)}${from + i}`, S_IFREG | 0o644, 0);
      });
    }
    return step(`remove ${count} from ${dir}`, async () => {
      const names = (await namesOf(vfs, dir)).filter((name) => name.startsWith('many'));
      for (const name of names.slice(0, count)) await vfs.unlink(ROOT, dir + name);
    });
  }

  async #changeData(vfs: Vfs, path: string): Promise<void> {
    const prng = this.#prng;
    let mode = S_IFREG;
    try {
      ({ mode } = await vfs.stat(ROOT, path, false));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    if ((mode & S_IFMT) !== S_IFREG) return;
    const file = await vfs.open(ROOT, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o644);
    try {
      for (let i = prng.between(1, 4); i > 0; i--) {
        const pos = prng.chance(0.02) ? 2 ** 31 + prng.below(100_000) : prng.pick([0, prng.below(100_000), prng.below(30) * BLOCK]);
        const length = prng.pick([prng.between(1, 200), prng.between(1, 60_000), prng.between(1, 10) * BLOCK]);
        const at = prng.below(pool.length - length);
        const roll = prng.below(10);
        if (roll < 5) await file.write(ROOT, new IovIter(pool.subarray(at, at + length)), pos);
        else if (roll < 7) await file.truncate(ROOT, pos);
        else {
          const what = prng.pick([0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, COLLAPSE_RANGE, INSERT_RANGE]);
          await file.fallocate(ROOT, what, pos, length);
        }
        if (prng.chance(0.2)) await file.fsync(ROOT, false);
      }
    } finally {
      await file.close(ROOT);
    }
  }
}

async function namesOf(vfs: Vfs, path: string): Promise<string[]> {
  const dir = await vfs.open(ROOT, path, O_RDONLY | O_DIRECTORY | O_NOATIME);
  const names: string[] = [];
  try {
    for (;;) {
      const entries = await dir.readdir(ROOT, 500);
      if (entries.length === 0) return names.sort();
      names.push(...entries.map(({ name }) => name));
    }
  } finally {
    await dir.close(ROOT);
  }
}

/** Everything that can be seen of a tree, but times of access: by path, with a slash at the end for directories. */
async function list(vfs: Vfs, hasBirth: boolean): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const visit = async (path: string): Promise<void> => {
    const attr = await vfs.stat(ROOT, path, false);
    const type = attr.mode & S_IFMT;
    const { ino, mode, nlink, uid, gid, rdev, size, blocks, mtime, mtimeNsec, ctime, ctimeNsec, btime, btimeNsec } = attr;
    const text = [`ino ${ino} mode ${mode.toString(8)} nlink ${nlink} owner ${uid}:${gid} rdev ${rdev} size ${size} blocks ${blocks}`];
    text.push(`mtime ${mtime}.${mtimeNsec} ctime ${ctime}.${ctimeNsec}`);
    if (hasBirth) text.push(`btime ${btime}.${btimeNsec}`);
    for (const name of [...(await vfs.listxattr(ROOT, path, false))].sort()) {
      const value = await vfs.getxattr(ROOT, path, name, false);
      text.push(`${name}=${value === undefined ? '' : createHash('sha1').update(value).digest('hex')}/${value?.length}`);
    }
    if (type === S_IFLNK) text.push(await vfs.readlink(ROOT, path));
    if (type === S_IFREG) text.push(await contentOf(vfs, path, size));
    if (type !== S_IFDIR) {
      found.set(path, text.join('\n'));
      return;
    }
    const below = path === '/' ? '/' : `${path}/`;
    found.set(below, text.join('\n'));
    for (const name of await namesOf(vfs, path)) if (!(path === '/' && name === 'lost+found')) await visit(below + name);
  };
  await visit('/');
  found.delete('/');
  return found;
}

/** A sum of the blocks that are not zero, with their places: holes and zeros are the same. */
async function contentOf(vfs: Vfs, path: string, size: number): Promise<string> {
  const file = await vfs.open(ROOT, path, O_RDONLY | O_NOATIME);
  const hash = createHash('sha1');
  const into = new Uint8Array(CHUNK);
  try {
    for (let pos = 0; pos < size; ) {
      let data: number;
      try {
        data = await file.lseek(ROOT, pos, uapi.SEEK_DATA);
      } catch (error) {
        if (hasCode(error, 'ENXIO')) break;
        // The kernel's answer behind what is stored inline, where the file is longer.
        if (!hasCode(error, 'ENOENT')) throw error;
        data = pos;
      }
      pos = data - (data % BLOCK);
      const count = await file.read(ROOT, into, pos);
      if (count === 0) throw new Error(`${path}: nothing at ${pos} of ${size}`);
      for (let at = 0; at < count; at += BLOCK) {
        const block = into.subarray(at, Math.min(at + BLOCK, count));
        if (block.some((byte) => byte !== 0)) hash.update(`${pos + at}:`).update(block);
      }
      pos += count;
    }
  } finally {
    await file.close(ROOT);
  }
  return hash.digest('hex');
}

function compare(found: ReadonlyMap<string, string>, left: ReadonlyMap<string, string>): void {
  for (const [path, text] of left) {
    if (found.get(path) !== text) throw new Error(`${path} is\n${found.get(path)}\nwhere the other side left\n${text}`);
  }
  for (const path of found.keys()) if (!left.has(path)) throw new Error(`${path} is there, and the other side did not leave it`);
}
