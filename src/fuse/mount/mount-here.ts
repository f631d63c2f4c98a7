import { readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { errnoCodeOf, FsError } from '../../base/fs-error.ts';
import { deferred } from '../../base/task.ts';
import { ROOT } from '../../vfs/caller.ts';
import type { FileSystem } from '../../vfs/file-system.ts';
import { type Agreement, bufferSize, maxWriteOf, type ServerOptions } from '../server/options.ts';
import { FuseServer } from '../server/server.ts';
import type { FuseChannel } from '../transport/channel.ts';
import { DevFuse } from '../transport/dev-fuse.ts';
import { type Attachment, attach, wake } from './attachment.ts';
import { Ledger } from './ledger.ts';
import { afterEnd, endpointOf, Mount, mountDirectory, newControl, printBug, printNotice } from './mount.ts';
import { type MountOptions, ownerOf, serverOptionsOf } from './mount-options.ts';
import { NotedChannel } from './noted-channel.ts';
import { BEAT, BEATS, FIRED, SIGNS, STOP, type WatchdogData } from './watchdog-signs.ts';

export interface ServeOptions extends ServerOptions {
  /** INIT is answered. */
  readonly onReady?: (agreement: Agreement) => void;
  /** As in MountOptions. */
  readonly onBug?: (request: string, stack: string) => void;
  readonly onNotice?: (text: string) => void;
}

/**
 * Serves a filesystem to whoever is at the other end of a channel, in this thread and on its event loop, until the session ends; then ends the
 * filesystem. Something else may run in between: at no time does the thread stand still in the channel.
 *
 * Errors: those of the channel; EPROTO for a peer that does not speak FUSE; those of ending the filesystem.
 */
export async function serve(fs: FileSystem, channel: FuseChannel, options: ServeOptions = {}): Promise<void> {
  const { onReady, onBug = printBug, onNotice = printNotice, ...serverOptions } = options;
  const server = new FuseServer(fs, new LoopChannel(channel), serverOptions, {
    ...(onReady === undefined ? {} : { onReady }),
    onBug: (error, request) => onBug(request, error instanceof Error ? (error.stack ?? error.message) : String(error)),
    onNotice,
  });
  await server.run();
}

/** A channel in which the thread never stands still. */
class LoopChannel implements FuseChannel {
  readonly backingOpen?: NonNullable<FuseChannel['backingOpen']>;
  readonly backingClose?: NonNullable<FuseChannel['backingClose']>;
  readonly #channel: FuseChannel;

  constructor(channel: FuseChannel) {
    this.#channel = channel;
    if (channel.backingOpen !== undefined) this.backingOpen = channel.backingOpen.bind(channel);
    if (channel.backingClose !== undefined) this.backingClose = channel.backingClose.bind(channel);
  }

  receive(into: Uint8Array): ReturnType<FuseChannel['receive']> {
    return this.#channel.receive(into, false);
  }

  send(bytes: Uint8Array, length: number): void {
    this.#channel.send(bytes, length);
  }

  notify(bytes: Uint8Array): Promise<void> {
    return this.#channel.notify(bytes);
  }

  close(): void {
    this.#channel.close();
  }
}

export interface MountHereOptions extends Omit<MountOptions, 'args'> {
  /**
   * Milliseconds after which a synchronous call of this thread on its own mount is noticed; it ends the mount, with EDEADLK. Default 5000; 0 is
   * never.
   */
  readonly watchdogMs?: number;
}

/**
 * Mounts a filesystem that lives in this thread, and serves it on its event loop. Takes one thread of Node's pool while it lasts.
 *
 * This thread must not use the mount synchronously, and must not wait synchronously for a program that does: nobody would answer. Both are
 * noticed after `watchdogMs`, and end the mount.
 *
 * Errors: as mount(); EDEADLK in `ended`.
 */
export async function mountHere(fs: FileSystem, directory: string, options: MountHereOptions = {}): Promise<Mount> {
  const where = mountDirectory(directory, options);
  const { onBug = printBug, onNotice = printNotice, watchdogMs = 5000, ...rest } = options;
  const ledger = new Ledger();
  const control = newControl();
  const { mode } = await fs.getattr(ROOT, fs.root);
  const facts = { rootMode: mode, checksAccess: fs.checksAccess, isReadOnly: fs.isReadOnly };
  const endpoint = await endpointOf(options, where, ledger);
  let attachment: Attachment;
  try {
    attachment = await attach(where, facts, options, control);
  } catch (error) {
    await endpoint?.close();
    throw error;
  }
  const { fd, directory: place = where } = attachment;
  const atExit = (): void => attachment.endNow(false);
  process.once('exit', atExit);

  const mailbox = new Uint8Array(new SharedArrayBuffer(bufferSize(maxWriteOf(options))));
  const device = new DevFuse(fd, { onEventLoop: true, control, mailbox, wake: () => wake(place) });
  const signs = new Int32Array(new SharedArrayBuffer(4 * SIGNS));
  const thread = readlinkSync('/proc/thread-self');
  const watched: WatchdogData = { fd, directory: place, control, mailbox, ledger: ledger.memory, signs, thread, watchdogMs };
  const watchdog = watchdogMs > 0 ? watch(watched) : undefined;

  const ready = deferred<Agreement>();
  const channel = new NotedChannel(device, ledger, ownerOf(options));
  const served = serve(fs, channel, { ...serverOptionsOf(rest), onReady: ready.resolve, onBug, onNotice });
  const ended = served.then(
    () => undefined,
    (error: unknown) => new FsError(errnoCodeOf(error) ?? 'EIO', 'mount', { path: place, detail: String(error), cause: error }),
  );
  const over = ended.then(async (failure) => {
    process.removeListener('exit', atExit);
    device.close();
    await device.closed;
    await watchdog?.stop();
    const detail = 'the thread that serves it made a synchronous call on it, and waited for itself';
    const error = Atomics.load(signs, FIRED) !== 0 ? new FsError('EDEADLK', 'mount', { path: place, detail }) : failure;
    await afterEnd(attachment, endpoint, error);
    return error;
  });
  const early = over.then((error): never => {
    throw error ?? new FsError('EIO', 'mount', { path: place, detail: 'it ended before it began' });
  });
  const { minor } = await Promise.race([ready.promise, early]);
  early.catch(() => {});
  return new Mount({ attachment, directory: place, minor, ledger, metricsAddress: endpoint?.address, ended: over });
}

/** Starts the thread that looks after this one, and the signs that this one gives. */
function watch(workerData: WatchdogData): { stop(): Promise<void> } {
  const { signs, watchdogMs } = workerData;
  const beat = setInterval(() => Atomics.add(signs, BEAT, 1), Math.max(1, watchdogMs / BEATS / 2));
  beat.unref();
  const worker = new Worker(new URL('./watchdog.js', import.meta.url), { workerData, trackUnmanagedFds: false });
  worker.unref();
  return {
    async stop() {
      clearInterval(beat);
      Atomics.store(signs, STOP, 1);
      Atomics.notify(signs, STOP);
      await worker.terminate();
    },
  };
}
