// What a serving process can be asked about its mount by other processes of the same user: HTTP on a socket beside its note.

import { chmodSync, rmSync } from 'node:fs';
import { createServer, request, type ServerResponse } from 'node:http';
import type { InFlightRequest } from '../fuse/mount/ledger.ts';
import { prometheusText } from '../fuse/mount/metrics.ts';
import type { Mount } from '../fuse/mount/mount.ts';
import { type Failure, failureOf } from './failure.ts';
import type { MountEntry } from './mount-table.ts';
import { controlSocketOf } from './registry.ts';

/** What there is to ask for. */
export interface ControlAnswers {
  /** Now. */
  readonly '/in-flight': readonly InFlightRequest[];
  /** Once the mount is over and the filesystem has ended: what that failed with. */
  readonly '/end': { readonly failure: Failure | null };
}

/** Answers questions until the mount is over. Shape: what closes it at once; undefined if there is no place for it. */
export async function openControl({ device }: MountEntry, mounted: Mount): Promise<(() => void) | undefined> {
  const path = controlSocketOf(device);
  if (path === undefined) return undefined;
  const server = createServer(({ url }, response) => {
    if (url === '/in-flight') answer(response, mounted.inFlight);
    else if (url === '/end')
      void mounted.ended.then((error) => answer(response, { failure: error === undefined ? null : failureOf(error) }));
    else if (url === '/metrics') response.end(prometheusText([mounted]));
    else response.writeHead(404, { connection: 'close' }).end();
  });
  server.unref();
  rmSync(path, { force: true }); // of a process that was killed: the number of the device is ours now
  const listens = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(path, () => resolve(true));
  });
  if (!listens) return undefined;
  chmodSync(path, 0o600);
  return () => {
    server.close();
    rmSync(path, { force: true });
  };
}

function answer(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json', connection: 'close' });
  response.end(JSON.stringify(value));
}

/** Asks the process that serves the mount of this device number; undefined if nobody answers before `signal` comes. */
export function askControl<P extends keyof ControlAnswers>(
  device: string,
  path: P,
  signal: AbortSignal,
): Promise<ControlAnswers[P] | undefined> {
  const socketPath = controlSocketOf(device);
  if (socketPath === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const asked = request({ socketPath, path, signal }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
      response.once('error', () => resolve(undefined));
      response.once('close', () => resolve(parsed<ControlAnswers[P]>(text)));
    });
    asked.once('error', () => resolve(undefined));
    asked.end();
  });
}

function parsed<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined; // cut off: who answered has ended
  }
}
