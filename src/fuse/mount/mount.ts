import { spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, realpathSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { ERRNO, type ErrnoCode } from '../../base/errno.ts';
import { FsError } from '../../base/fs-error.ts';
import { S_IFMT } from '../../vfs/uapi.ts';
import { maxWriteOf, type ServerOptions } from '../server/options.ts';
import type { FromWorker, ToWorker, WorkerData } from './messages.ts';

export interface MountOptions extends ServerOptions {
  /** What the source's function is called with; crosses to the serving thread as postMessage carries it. */
  readonly args?: unknown;
  /** Shown as the device of the mount. Default 'iomap'. */
  readonly fsname?: string;
  /** Shown as fuse.SUBTYPE. Default 'iomap'. */
  readonly subtype?: string;
  /** Users other than the one who mounts may enter. Default: yes for root. */
  readonly allowOther?: boolean;
  readonly readOnly?: boolean;
  readonly nosuid?: boolean;
  readonly nodev?: boolean;
  readonly noexec?: boolean;
  readonly noatime?: boolean;
  /** Faults: requests that were answered with EIO because of an error in the filesystem's code. Default: printed to stderr. */
  readonly onBug?: (request: string, stack: string) => void;
}

/** A mount that works. */
export class Mount implements AsyncDisposable {
  /** Where it is, without symbolic links. */
  readonly directory: string;
  /** The protocol that was agreed on is 7.minor. */
  readonly minor: number;
  /** Resolves when the mount is over, however that came; with the error that ended it, if one did. */
  readonly ended: Promise<FsError | undefined>;

  /** @internal */
  constructor(directory: string, minor: number, ended: Promise<FsError | undefined>) {
    this.directory = directory;
    this.minor = minor;
    this.ended = ended;
  }

  /**
   * Unmounts and waits until the filesystem has ended. With `lazy` it is taken out of the tree now, and ends when nobody uses it any more.
   *
   * Errors: EBUSY while it is in use; the one that ended the filesystem.
   */
  async unmount(options: { readonly lazy?: boolean } = {}): Promise<void> {
    const { code, text } = await run('umount', [...(options.lazy === true ? ['-l'] : []), this.directory]);
    if (code !== 0 && !/not mounted|no mount point/.test(text)) throw failed('umount', text, this.directory);
    const error = await this.ended;
    if (error !== undefined) throw error;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unmount();
  }
}

/**
 * Mounts a filesystem on a directory.
 *
 * `source` is the URL of a module whose default export is called with `options.args` and makes the FileSystem. It runs in a thread of its own,
 * which waits in the device's read: this thread stays free, and may use the mount synchronously.
 *
 * Errors:  ENOTDIR, ENOENT for the directory; EPERM without the right to mount; EINVAL for a source that makes no FileSystem; what the source
 *          throws, and what mount(8) says.
 */
export async function mount(source: URL | string, directory: string, options: MountOptions = {}): Promise<Mount> {
  maxWriteOf(options);
  const where = realpathSync(directory);
  if (!statSync(where).isDirectory()) throw new FsError('ENOTDIR', 'mount', { path: directory });
  if (process.getuid?.() !== 0) throw new FsError('EPERM', 'mount', { path: directory, detail: 'mounting takes root' });

  const { onBug = printBug, args, fsname: _, ...rest } = options;
  const serverOptions = JSON.parse(JSON.stringify(rest)) as ServerOptions;
  const data: WorkerData = { source: String(source), args, options: serverOptions };
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: data, trackUnmanagedFds: false });
  const talk = new Conversation(worker, onBug);

  const loaded = await talk.next('loaded');
  const fd = openSync('/dev/fuse', constants.O_RDWR);
  try {
    await mountDevice(fd, where, loaded, options);
  } catch (error) {
    closeSync(fd);
    await worker.terminate();
    throw error;
  }
  // The thread has the descriptor from here on, and closes it.
  const atExit = (): void => {
    spawnSync('umount', ['-l', where]);
  };
  process.once('exit', atExit);
  const ended = talk.ended.finally(() => process.removeListener('exit', atExit));
  worker.postMessage({ kind: 'serve', fd } satisfies ToWorker);
  try {
    const { minor } = await talk.next('ready');
    return new Mount(where, minor, ended);
  } catch (error) {
    await run('umount', ['-l', where]);
    throw error;
  }
}

type Loaded = Extract<FromWorker, { kind: 'loaded' }>;

/** Has mount(8) mount the descriptor, which it inherits as number 3. */
async function mountDevice(fd: number, directory: string, loaded: Loaded, options: MountOptions): Promise<void> {
  const words = [
    'fd=3',
    `rootmode=${(loaded.rootMode & S_IFMT).toString(8)}`,
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    options.readOnly === true || loaded.isReadOnly ? 'ro' : 'rw',
  ];
  if (options.allowOther !== false) words.push('allow_other');
  if (!loaded.checksAccess) words.push('default_permissions');
  for (const word of ['nosuid', 'nodev', 'noexec', 'noatime'] as const) if (options[word] === true) words.push(word);
  const { subtype = 'iomap', fsname = 'iomap' } = options;
  for (const name of [subtype, fsname]) {
    if (!/^[\w.:/@+-]+$/.test(name)) throw new FsError('EINVAL', 'mount', { path: directory, detail: `name '${name}'` });
  }
  const { code, text } = await run('mount', ['-i', '-t', `fuse.${subtype}`, '-o', words.join(','), fsname, directory], fd);
  if (code !== 0) throw failed('mount', text, directory);
}

/** The words of the serving thread, in order. */
class Conversation {
  readonly ended: Promise<FsError | undefined>;
  #expect: { readonly kind: FromWorker['kind']; readonly resolve: (message: never) => void } | undefined;

  constructor(worker: Worker, onBug: NonNullable<MountOptions['onBug']>) {
    this.ended = new Promise((resolve) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'bug') onBug(message.request, message.stack);
        else if (message.kind === 'ended') resolve(message.error === undefined ? undefined : errorOf(message.error));
        else if (this.#expect?.kind === message.kind) this.#expect.resolve(message as never);
      });
      worker.once('error', (error) => resolve(new FsError('EIO', 'mount', { cause: error, detail: String(error.message) })));
      worker.once('exit', () => resolve(undefined));
    });
  }

  /** The next message of this kind. Errors: the one that ended the thread instead. */
  async next<K extends FromWorker['kind']>(kind: K): Promise<Extract<FromWorker, { kind: K }>> {
    const said = new Promise<Extract<FromWorker, { kind: K }>>((resolve) => {
      this.#expect = { kind, resolve };
    });
    const ended = this.ended.then((error): never => {
      throw error ?? new FsError('EIO', 'mount', { detail: 'the serving thread ended' });
    });
    return Promise.race([said, ended]);
  }
}

function errorOf({ message, code }: { readonly message: string; readonly code: string | undefined }): FsError {
  const known = code !== undefined && Object.hasOwn(ERRNO, code) ? (code as ErrnoCode) : 'EIO';
  return new FsError(known, 'mount', { detail: message });
}

function printBug(request: string, stack: string): void {
  process.stderr.write(`iomap: ${request} was answered with EIO: ${stack}\n`);
}

function failed(syscall: string, text: string, path: string): FsError {
  const code: ErrnoCode = /busy/.test(text) ? 'EBUSY' : /permission|superuser|only root/i.test(text) ? 'EPERM' : 'EIO';
  return new FsError(code, syscall, { path, detail: text.trim() });
}

/** Runs a program; `fd` is its descriptor 3. */
function run(command: string, args: readonly string[], fd?: number): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => (text += piece.toString()));
    child.once('error', (error) => reject(new FsError('ENOENT', command, { cause: error, detail: `${command} cannot be started` })));
    child.once('close', (code) => resolve({ code, text }));
  });
}
