// Who serves one ext4 image, for comparisons: this project, Debian's fuse2fs, and the kernel through a loop device.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const TMPFS_MAGIC = 0x01021994;
const MOUNT_PROGRAM = fileURLToPath(new URL('./ext4-mount.js', import.meta.url));

/** A way to mount an image. */
interface Server {
  readonly name: string;
  mount(image: string, directory: string): Promise<void>;
  unmount(directory: string): Promise<void>;
}

/** Served by a process of its own, which ends after the mount. */
class ProcessServer implements Server {
  readonly name: string;
  readonly #command: (image: string, directory: string) => string[];
  readonly #endsByInput: boolean;
  #child: ChildProcess | undefined;

  constructor(name: string, endsByInput: boolean, command: (image: string, directory: string) => string[]) {
    this.name = name;
    this.#endsByInput = endsByInput;
    this.#command = command;
  }

  async mount(image: string, directory: string): Promise<void> {
    const [program = '', ...args] = this.#command(image, directory);
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'inherit'] });
    this.#child = child;
    for (let tries = 0; spawnSync('mountpoint', ['-q', directory]).status !== 0; tries++) {
      if (child.exitCode !== null || tries > 1000) throw new Error(`${this.name} does not mount ${image}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async unmount(directory: string): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    if (this.#endsByInput) child.stdin?.end();
    else run('umount', directory);
    await ended;
    if (child.exitCode !== 0) throw new Error(`${this.name} ended with ${child.exitCode}`);
  }
}

class KernelServer implements Server {
  readonly name = 'kernel';

  async mount(image: string, directory: string): Promise<void> {
    run('mount', '-o', 'loop', image, directory);
  }

  async unmount(directory: string): Promise<void> {
    run('umount', directory);
  }
}

/** `src`: of another build. `nodeArgs`: a profiler, say. */
export function ours(name = 'iomap', src?: string, nodeArgs: readonly string[] = []): Server {
  const more = src === undefined ? [] : [src];
  return new ProcessServer(name, true, (image, directory) => [process.execPath, ...nodeArgs, MOUNT_PROGRAM, image, directory, ...more]);
}

/**
 * Single-threaded (-s): a lock around everything makes its threads wait for each other, and each request changes threads. kernel_cache is its
 * default; names may be cached for long, as nothing changes but through the mount, attributes not (its default is 0): a hard link is another
 * inode to it.
 */
export function fuse2fs(): Server {
  return new ProcessServer('fuse2fs', false, (image, directory) => [
    'fuse2fs',
    '-f',
    '-s',
    '-o',
    'entry_timeout=3600,negative_timeout=3600',
    image,
    directory,
  ]);
}

export function kernel(): Server {
  return new KernelServer();
}

/** Each server with an image and a directory of its own, all in one folder. */
export class Contest {
  readonly contestants: readonly Contestant[];
  /** Where the images lie, for a table. */
  readonly kind: string;
  readonly #folder: string;

  constructor(servers: readonly Server[], imageBytes: number, at: string = tmpdir()) {
    this.#folder = mkdtempSync(join(at, 'iomap-ext4-bench-'));
    process.once('exit', this.#remove);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
    this.kind = `images of ${imageBytes / 2 ** 20} MiB on ${statfsSync(at).type === TMPFS_MAGIC ? 'tmpfs' : 'disk'} at ${at}`;
    const fresh = join(this.#folder, 'fresh');
    const fd = openSync(fresh, 'w');
    ftruncateSync(fd, imageBytes);
    closeSync(fd);
    run('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'lazy_itable_init=0,lazy_journal_init=0', fresh);
    this.contestants = servers.map((server, index) => {
      const image = join(this.#folder, `image-${index}`);
      // Blocks that the host had to find first would cost whoever happens to use new ones.
      run('cp', '--sparse=never', fresh, image);
      return new Contestant(server, image, join(this.#folder, `mount-${index}`));
    });
    rmSync(fresh);
  }

  /** Unmounts all, and checks what they left. */
  async end(): Promise<void> {
    for (const each of this.contestants) await each.unmount();
    for (const { name, image } of this.contestants) {
      const { status, stdout } = spawnSync('e2fsck', ['-fn', image], { encoding: 'utf8' });
      if (status !== 0) throw new Error(`e2fsck of the image of ${name}: ${stdout}`);
    }
    process.removeListener('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => {
    for (const { directory } of this.contestants ?? []) if (isMounted(directory)) spawnSync('umount', ['-l', directory]);
    rmSync(this.#folder, { recursive: true, force: true });
  };
}

export class Contestant {
  readonly image: string;
  readonly directory: string;
  readonly #server: Server;
  #isMounted = false;

  constructor(server: Server, image: string, directory: string) {
    this.#server = server;
    this.image = image;
    this.directory = directory;
    mkdirSync(directory);
  }

  get name(): string {
    return this.#server.name;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  async mount(): Promise<void> {
    if (this.#isMounted) return;
    await this.#server.mount(this.image, this.directory);
    this.#isMounted = true;
  }

  async unmount(): Promise<void> {
    if (!this.#isMounted) return;
    this.#isMounted = false;
    await this.#server.unmount(this.directory);
  }

  /** Mounted anew, with nothing in any cache. */
  async cool(): Promise<void> {
    await this.unmount();
    run('sync', '-d', this.image);
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    await this.mount();
  }

  /** What is written is with the server. */
  syncfs(): void {
    run('sync', '-f', this.directory);
  }
}

function isMounted(directory: string): boolean {
  return spawnSync('mountpoint', ['-q', directory]).status === 0;
}

export function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}
