import { spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, realpathSync, statfsSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { type ErrnoCode, isErrnoCode } from '../../base/errno.ts';
import { FsError, hasCode } from '../../base/fs-error.ts';
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
  const order = (message: ToWorker): void => worker.postMessage(message);

  const loaded = await talk.next('loaded');
  let fd: number | undefined;
  try {
    fd = openSync('/dev/fuse', constants.O_RDWR);
    await mountDevice(fd, where, loaded, options);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    order({ kind: 'stop' });
    await talk.ended;
    throw error;
  }
  const device = fd;
  const atExit = (): void => detachNow(where);
  process.once('exit', atExit);
  // A thread that dies while it waits for a request is not gone before that wait is over.
  worker.once('error', () => void run('umount', ['-f', '-l', where]));
  const ended = talk.ended.then(async ({ error, died }) => {
    process.removeListener('exit', atExit);
    // Nobody reads the descriptor any more: whoever waits for an answer gets ENOTCONN.
    if (died) closeSync(device);
    if (error !== undefined && isDead(where)) await run('umount', ['-l', where]);
    return error;
  });
  order({ kind: 'serve', fd });
  try {
    const { minor } = await talk.next('ready');
    return new Mount(where, minor, ended);
  } catch (error) {
    await ended;
    throw error;
  }
}

/** Is a mount here whose server is gone? */
function isDead(where: string): boolean {
  try {
    statfsSync(where);
    return false;
  } catch (error) {
    return hasCode(error, 'ENOTCONN');
  }
}

/** The process exits. The thread that serves has to come out of its read for that, even if somebody uses the mount and goes on to. */
function detachNow(where: string): void {
  if (spawnSync('umount', [where], { stdio: 'ignore' }).status === 0) return;
  spawnSync('sync', ['-f', where], { stdio: 'ignore' });
  spawnSync('umount', ['-f', '-l', where], { stdio: 'ignore' });
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

/** How a thread ended: `died` without saying so, and without closing anything. */
interface End {
  readonly error: FsError | undefined;
  readonly died: boolean;
}

/** The words of the serving thread, in order. */
class Conversation {
  /** When the thread is gone. */
  readonly ended: Promise<End>;
  #expect: { readonly kind: FromWorker['kind']; readonly resolve: (message: never) => void } | undefined;

  constructor(worker: Worker, onBug: NonNullable<MountOptions['onBug']>) {
    this.ended = new Promise((resolve) => {
      let end: End = { error: new FsError('EIO', 'mount', { detail: 'the serving thread ended' }), died: true };
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'bug') onBug(message.request, message.stack);
        else if (message.kind === 'ended') {
          end = { error: message.error === undefined ? undefined : errorOf(message.error), died: false };
          // Timers and whatever else a filesystem leaves behind keep it from ending by itself.
          void worker.terminate();
        } else if (this.#expect?.kind === message.kind) this.#expect.resolve(message as never);
      });
      worker.once('error', (error) => {
        end = { error: new FsError('EIO', 'mount', { cause: error, detail: String(error.message) }), died: end.died };
      });
      worker.once('exit', () => resolve(end));
    });
  }

  /** The next message of this kind. Errors: the one that ended the thread instead. */
  async next<K extends FromWorker['kind']>(kind: K): Promise<Extract<FromWorker, { kind: K }>> {
    const said = new Promise<Extract<FromWorker, { kind: K }>>((resolve) => {
      this.#expect = { kind, resolve };
    });
    const ended = this.ended.then(({ error }): never => {
      throw error ?? new FsError('EIO', 'mount', { detail: 'the serving thread ended' });
    });
    return Promise.race([said, ended]);
  }
}

function errorOf({ message, code }: { readonly message: string; readonly code: string | undefined }): FsError {
  const known = isErrnoCode(code) ? code : 'EIO';
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
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])],
      env: { ...process.env, LC_ALL: 'C' }, // what it says is read
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => (text += piece.toString()));
    child.once('error', (error) => reject(new FsError('ENOENT', command, { cause: error, detail: `${command} cannot be started` })));
    child.once('close', (code) => resolve({ code, text }));
  });
}
