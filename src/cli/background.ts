import { fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FsError } from '../base/fs-error.ts';
import { RemoteError } from './failure.ts';
import type { FromServing } from './serve.ts';
import { type MountFacts, type MountRequest, printNotice } from './served-mount.ts';

/**
 * Mounts in a process of its own, which outlives this one. `log` is a file that gets what that process prints later.
 *
 * Errors: what the other process failed with; then nothing is mounted.
 */
export async function serveInBackground(request: MountRequest, log: string | undefined): Promise<MountFacts> {
  const output = log === undefined ? ('ignore' as const) : openSync(log, 'a');
  // None of our own descriptors but the log: somebody may be waiting for the end of our output.
  const child = fork(fileURLToPath(new URL('./serve.js', import.meta.url)), [], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', output, output, 'ipc'],
  });
  if (typeof output === 'number') closeSync(output);
  return new Promise<MountFacts>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      const how = signal === null ? `with status ${code}` : `by ${signal}`;
      reject(new FsError('EIO', 'mount', { path: request.directory, detail: `the serving process ended ${how} before it said anything` }));
    });
    child.once('message', (message: FromServing) => {
      if ('failure' in message) return reject(new RemoteError(message.failure));
      for (const text of message.warnings) printNotice(text);
      child.disconnect();
      child.unref();
      resolve(message.facts);
    });
    child.send(request, (error) => {
      // An exit is reported by its own event, which knows more.
      if (error !== null) child.once('close', () => reject(error));
    });
  });
}
