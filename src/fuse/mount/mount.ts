import { closeSync, realpathSync, statfsSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { isErrnoCode } from '../../base/errno.ts';
import { FsError, hasCode } from '../../base/fs-error.ts';
import { maxWriteOf } from '../server/options.ts';
import { CONTROL_CLOSED, CONTROL_WORDS } from '../transport/dev-fuse.ts';
import { type Attachment, attach, passedDescriptor, wake } from './attachment.ts';
import { type InFlightRequest, Ledger } from './ledger.ts';
import type { FromWorker, ToWorker, WorkerData } from './messages.ts';
import { type Metrics, prometheusText } from './metrics.ts';
import { checkMetricsAddress, type MetricsEndpoint, metricsEndpoint } from './metrics-endpoint.ts';
import { checkMountOptions, type MountOptions, ownerOf, serverOptionsOf } from './mount-options.ts';

export type { MountOptions };

/** What a Mount is made of. */
export interface MountParts {
  readonly attachment: Attachment;
  readonly directory: string;
  readonly minor: number;
  readonly ledger: Ledger;
  readonly metricsAddress: string | undefined;
  readonly ended: Promise<FsError | undefined>;
}

/** A mount that works. */
export class Mount implements AsyncDisposable {
  /** Where it is, without symbolic links. */
  readonly directory: string;
  /** The protocol that was agreed on is 7.minor. */
  readonly minor: number;
  /** Where its metrics are served, with the port that was taken; undefined where that was not asked for. */
  readonly metricsAddress: string | undefined;
  /** Resolves when the mount is over, however that came; with the error that ended it, if one did. */
  readonly ended: Promise<FsError | undefined>;
  readonly #attachment: Attachment;
  readonly #ledger: Ledger;

  /** @internal */
  constructor({ attachment, directory, minor, ledger, metricsAddress, ended }: MountParts) {
    this.directory = directory;
    this.minor = minor;
    this.metricsAddress = metricsAddress;
    this.ended = ended;
    this.#attachment = attachment;
    this.#ledger = ledger;
  }

  /** Requests that have no answer yet, the oldest first. Asks nobody: also while the filesystem does not answer at all. */
  get inFlight(): InFlightRequest[] {
    return this.#ledger.inFlight;
  }

  /** Counts since the mount began. */
  get metrics(): Metrics {
    return this.#ledger.metrics;
  }

  /**
   * Unmounts and waits until the filesystem has ended. With `lazy` it is taken out of the tree now, and ends when nobody uses it any more.
   *
   * Errors: EBUSY while it is in use; the one that ended the filesystem.
   */
  async unmount(options: { readonly lazy?: boolean } = {}): Promise<void> {
    await this.#attachment.unmount(options.lazy === true);
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
 * As root, also as that of a user namespace, it goes through mount(8), otherwise through fusermount3, which takes koffi. A `directory` of the form
 * /dev/fd/N is a descriptor of /dev/fuse that somebody else has mounted and passed on: it is served, and unmounting only ends that.
 *
 * Errors:  ENOTDIR, ENOENT for the directory; EPERM without the right to mount; EINVAL for a source that makes no FileSystem; what the source
 *          throws, and what mount(8) and fusermount3 say.
 */
export async function mount(source: URL | string, directory: string, options: MountOptions = {}): Promise<Mount> {
  const where = mountDirectory(directory, options);
  const { onBug = printBug, onNotice = printNotice, args } = options;
  const ledger = new Ledger();
  const control = newControl();
  const endpoint = await endpointOf(options, where, ledger);
  const serverOptions = serverOptionsOf(options);
  const data: WorkerData = {
    source: String(source),
    args,
    options: serverOptions,
    ledger: ledger.memory,
    control,
    owner: ownerOf(options),
  };
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: data, trackUnmanagedFds: false });
  const talk = new Conversation(worker, onBug, onNotice);
  const order = (message: ToWorker): void => worker.postMessage(message);

  let attachment: Attachment;
  try {
    const loaded = await talk.next('loaded');
    try {
      attachment = await attach(where, loaded, options, control);
    } catch (error) {
      order({ kind: 'stop' });
      await talk.ended;
      throw error;
    }
  } catch (error) {
    await endpoint?.close();
    throw error;
  }
  const atExit = (): void => attachment.endNow(true);
  process.once('exit', atExit);
  // A thread that dies while it waits for a request is not gone before that wait is over.
  worker.once('error', () => void attachment.end());
  const { directory: place } = attachment;
  if (place !== undefined) talk.wake = () => wake(place);
  const ended = talk.ended.then(async ({ error, died }) => {
    process.removeListener('exit', atExit);
    // Nobody reads the descriptor any more: whoever waits for an answer gets ENOTCONN.
    if (died && Atomics.exchange(control, 0, CONTROL_CLOSED) !== CONTROL_CLOSED) closeSync(attachment.fd);
    await afterEnd(attachment, endpoint, error);
    return error;
  });
  order({ kind: 'serve', fd: attachment.fd, directory: attachment.directory });
  try {
    const { minor } = await talk.next('ready');
    const metricsAddress = endpoint?.address;
    return new Mount({ attachment, directory: attachment.directory ?? where, minor, ledger, metricsAddress, ended });
  } catch (error) {
    await ended;
    throw error;
  }
}

/**
 * Where to mount, without symbolic links.
 *
 * Errors: ENOENT, ENOTDIR; EINVAL for the options.
 */
export function mountDirectory(directory: string, options: MountOptions): string {
  maxWriteOf(options);
  checkMountOptions(options);
  if (options.metrics !== undefined) checkMetricsAddress(options.metrics);
  if (passedDescriptor(directory) !== undefined) return directory;
  const where = realpathSync(directory);
  if (!statSync(where).isDirectory()) throw new FsError('ENOTDIR', 'mount', { path: directory });
  return where;
}

export function newControl(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS));
}

export async function endpointOf({ metrics }: MountOptions, directory: string, ledger: Ledger): Promise<MetricsEndpoint | undefined> {
  if (metrics === undefined) return undefined;
  return metricsEndpoint(metrics, () => prometheusText([{ directory, metrics: ledger.metrics }]));
}

/** The server is gone, and has said `error`. */
export async function afterEnd(attachment: Attachment, endpoint: MetricsEndpoint | undefined, error: FsError | undefined): Promise<void> {
  const { directory } = attachment;
  if (error !== undefined && directory !== undefined && isDead(directory)) await attachment.unmount(true).catch(() => {});
  await attachment.release();
  await endpoint?.close();
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

/** How a thread ended: `died` without saying so, and without closing anything. */
interface End {
  readonly error: FsError | undefined;
  readonly died: boolean;
}

/** The words of the serving thread, in order. */
class Conversation {
  /** When the thread is gone. */
  readonly ended: Promise<End>;
  /** Has the kernel send the thread some message, if it is mounted somewhere. */
  wake: () => void = () => {};
  #alarm: NodeJS.Timeout | undefined;
  #expect: { readonly kind: FromWorker['kind']; readonly resolve: (message: never) => void } | undefined;

  constructor(worker: Worker, onBug: NonNullable<MountOptions['onBug']>, onNotice: NonNullable<MountOptions['onNotice']>) {
    this.ended = new Promise((resolve) => {
      let end: End = { error: new FsError('EIO', 'mount', { detail: 'the serving thread ended' }), died: true };
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'bug') onBug(message.request, message.stack);
        else if (message.kind === 'notice') onNotice(message.text);
        else if (message.kind === 'wake') this.#setAlarm(message.delayMs);
        else if (message.kind === 'ended') {
          end = { error: message.error === undefined ? undefined : errorOf(message.error), died: false };
          // Timers and whatever else a filesystem leaves behind keep it from ending by itself.
          void worker.terminate();
        } else if (this.#expect?.kind === message.kind) this.#expect.resolve(message as never);
      });
      worker.once('error', (error) => {
        end = { error: new FsError('EIO', 'mount', { cause: error, detail: String(error.message) }), died: end.died };
      });
      worker.once('exit', () => {
        clearTimeout(this.#alarm);
        resolve(end);
      });
    });
  }

  /** The thread stands still, and has something to do in a while. */
  #setAlarm(delayMs: number): void {
    clearTimeout(this.#alarm);
    this.#alarm = setTimeout(() => this.wake(), delayMs).unref();
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

/** The error of another thread here, whose text says once what it is. */
function errorOf({ message, code }: { readonly message: string; readonly code: string | undefined }): FsError {
  const known = isErrnoCode(code) ? code : 'EIO';
  const what = message.startsWith(`${code}: `) ? message.slice(message.indexOf(', ') + 2) : message;
  const [, detail = what] = /^mount \((.*)\)$/s.exec(what) ?? [];
  return new FsError(known, 'mount', { detail });
}

export function printBug(request: string, stack: string): void {
  process.stderr.write(`iomap: ${request} was answered with EIO: ${stack}\n`);
}

export function printNotice(text: string): void {
  process.stderr.write(`iomap: ${text}\n`);
}
