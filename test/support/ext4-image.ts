// Images of ext4 made by mke2fs, and the parts of the driver that read and change them in memory, without a mount: no journal, no cache of data.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert } from '../../src/base/assert.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise, run, type Task } from '../../src/base/task.ts';
import { readDevice, writeDevice } from '../../src/block/block-device.ts';
import { BufferCache } from '../../src/block/buffer-cache.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { BlockAllocator } from '../../src/fs/ext4/block-alloc.ts';
import { Ext4Sb } from '../../src/fs/ext4/ext4-sb.ts';
import { Groups } from '../../src/fs/ext4/groups.ts';
import { modifySuperblock, readSuperblock } from '../../src/fs/ext4/superblock.ts';
import { SystemZone } from '../../src/fs/ext4/system-zone.ts';
import type { Handle } from '../../src/jbd2/log.ts';
import { NoJournal } from '../../src/jbd2/no-journal.ts';
import { ensure } from './loop-mount.ts';

const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

/** Why images cannot be made or checked here, as text; false where they can. */
export const noE2fsprogs: string | false = ensure('mke2fs', 'e2fsprogs') ?? false;

/** An image file in a folder of its own. */
export class ImageFile {
  readonly #folder = mkdtempSync(join(tmpdir(), 'iomap-ext4-'));
  readonly path = join(this.#folder, 'image');

  /** `size`: bytes. `options`: of mke2fs. */
  constructor(size: number, options: readonly string[]) {
    writeFileSync(this.path, '');
    truncateSync(this.path, size);
    execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', ...options, this.path], { env, stdio: 'pipe' });
  }

  /** Runs a shell command with $0 as the directory where the kernel has mounted the image. Answers why not, as text, if it cannot. */
  withMount(command: string): string | undefined {
    const mountpoint = join(this.#folder, 'mnt');
    mkdirSync(mountpoint, { recursive: true });
    const mounted = spawnSync('mount', ['-t', 'ext4', '-o', 'loop', this.path, mountpoint], { env, encoding: 'utf8' });
    if (mounted.status !== 0) return `cannot be mounted here: ${mounted.stderr}`;
    try {
      execFileSync('sh', ['-ec', command, mountpoint], { env, stdio: 'pipe' });
    } finally {
      const { status } = spawnSync('umount', [mountpoint], { env, stdio: 'ignore' });
      if (status !== 0) spawnSync('umount', ['--lazy', mountpoint], { env, stdio: 'ignore' }); // still busy: leaves with its last user
    }
    return undefined;
  }

  /** What debugfs answers. `mode`: '-w' for a request that changes something. */
  debugfs(request: string, ...mode: '-w'[]): string {
    return execFileSync('debugfs', [...mode, '-R', request, this.path], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  }

  /** Number of the inode with this path. */
  inoOf(path: string): number {
    return Number(/Inode: (\d+)/.exec(this.debugfs(`stat ${path}`))?.[1]);
  }

  /** Has e2fsck put right what is wrong. */
  repair(): void {
    spawnSync('e2fsck', ['-fy', this.path], { env, stdio: 'ignore' });
  }

  /** What e2fsck finds: empty where everything is right. */
  fsck(): string {
    const { status, stdout } = spawnSync('e2fsck', ['-fn', this.path], { env, encoding: 'utf8' });
    return status === 0 ? '' : stdout;
  }

  open(): OpenImage {
    return new OpenImage(this.path);
  }

  /** Removes the file. */
  end(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** The volume of an image file, read into memory. */
export class OpenImage {
  readonly #path: string;
  readonly #bdev: MemoryDevice;
  readonly sb: Ext4Sb;

  constructor(path: string) {
    this.#path = path;
    const bytes = readFileSync(path);
    this.#bdev = new MemoryDevice({ size: bytes.length });
    void writeDevice(this.#bdev, 0, bytes);
    const { es } = readSuperblock(bytes.subarray(1024, 2048), path, bytes.length);
    const buffers = new BufferCache(this.#bdev, es.blockSize, 2 ** 26);
    const log = new NoJournal(buffers, {
      hooks: { beforeCommit: (access) => this.sb.groups.flush(access) },
    });
    const environment = { now: () => ({ sec: 1_700_000_000, nsec: 0 }), prng: new Prng(1) };
    this.sb = new Ext4Sb(this.#bdev, buffers, es, new SystemZone(), log, environment, false);
    this.sb.groups = this.now(Groups.load(this.sb, false));
    this.sb.allocator = new BlockAllocator(this.sb);
  }

  /** The value of a task: the image is in memory. */
  now<T>(task: Task<T>): T {
    const value = run(task);
    assert(!isPromise(value), 'an image in memory answers at once');
    return value as T;
  }

  /** One change: whole, or not at all by an error. */
  update<T>(body: (h: Handle) => Task<T>): T {
    const h = this.sb.log.start(100) as Handle;
    let answer: T;
    try {
      answer = this.now(body(h));
    } catch (error) {
      h.rollback();
      throw error;
    }
    assert(!isPromise(h.stop()), 'a handle in memory stops at once');
    return answer;
  }

  /** Writes everything back into the file. */
  save(): void {
    const { sb } = this;
    this.update(function* (h) {
      yield* modifySuperblock(h, sb);
      sb.es.finish();
    });
    assert(!isPromise(sb.log.commit()), 'a device in memory answers at once');
    const bytes = new Uint8Array(this.#bdev.size);
    void readDevice(this.#bdev, 0, bytes);
    writeFileSync(this.#path, bytes);
  }
}
