// The thread that serves a mount: makes the filesystem, waits in read(2) on the device, answers. Started by mount.ts.

import { parentPort, workerData } from 'node:worker_threads';
import { FsError } from '../../base/fs-error.ts';
import { ROOT } from '../../vfs/caller.ts';
import { FileSystem } from '../../vfs/file-system.ts';
import { FuseServer } from '../server/server.ts';
import { DevFuse } from '../transport/dev-fuse.ts';
import { wake } from './attachment.ts';
import { Ledger } from './ledger.ts';
import type { FromWorker, ToWorker, WorkerData } from './messages.ts';
import { NotedChannel } from './noted-channel.ts';

const { source, args, options, ledger, control, owner } = workerData as WorkerData;
const tell = (message: FromWorker): void => parentPort?.postMessage(message);

async function load(): Promise<FileSystem> {
  const module = (await import(source)) as { default?: (args: unknown, notice: (text: string) => void) => unknown };
  if (typeof module.default !== 'function')
    throw new FsError('EINVAL', 'mount', { detail: `${source} has no function as its default export` });
  const fs = await module.default(args, (text) => tell({ kind: 'notice', text }));
  if (!(fs instanceof FileSystem)) throw new FsError('EINVAL', 'mount', { detail: `${source} made no FileSystem` });
  return fs;
}

/** Serves until the mount is over, then ends the filesystem. */
async function serve(fs: FileSystem, fd: number, directory: string | undefined): Promise<void> {
  const waking = { wake: () => wake(directory as string), wakeIn: (delayMs: number) => tell({ kind: 'wake', delayMs }) };
  const device = new DevFuse(fd, { control, ...(directory === undefined ? {} : waking) });
  const requests = new Ledger(ledger);
  try {
    const server = new FuseServer(fs, new NotedChannel(device, requests, owner), options, {
      onWait: (unique, path) => requests.waits(unique, path),
      onReady: ({ minor }) => tell({ kind: 'ready', minor }),
      onBug: (error, request) => tell({ kind: 'bug', request, stack: stackOf(error) }),
      onNotice: (text) => tell({ kind: 'notice', text }),
    });
    await server.run();
  } finally {
    device.close();
    await device.closed;
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function whatIs(error: unknown): { message: string; code: string | undefined } {
  const { message, code } = error as { message?: unknown; code?: unknown };
  return { message: String(message ?? error), code: typeof code === 'string' ? code : undefined };
}

try {
  const fs = await load();
  const { mode } = await fs.getattr(ROOT, fs.root);
  const order = await new Promise<ToWorker>((resolve) => {
    parentPort?.once('message', resolve);
    tell({ kind: 'loaded', rootMode: mode, checksAccess: fs.checksAccess, isReadOnly: fs.isReadOnly });
  });
  if (order.kind === 'serve') await serve(fs, order.fd, order.directory);
  else await fs.destroy();
  tell({ kind: 'ended', error: undefined });
} catch (error) {
  tell({ kind: 'ended', error: whatIs(error) });
}
parentPort?.close();
