import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, ListenOptions } from 'node:net';
import { connect } from 'node:net';
import { errnoCodeOf, FsError } from '../../base/fs-error.ts';

/** What prints metrics to those who ask over HTTP. It keeps no process alive. */
export interface MetricsEndpoint {
  /** As it was given, with the port that it got. */
  readonly address: string;
  close(): Promise<void>;
}

/**
 * Listens at 'unix:/path', or at 'ADDRESS:PORT' of the loopback.
 *
 * Errors: EINVAL for any other place: what a filesystem does is not for the network; EADDRINUSE, EACCES.
 */
export async function metricsEndpoint(at: string, text: () => string): Promise<MetricsEndpoint> {
  const options = listenOptions(at);
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const isFound = request.method === 'GET' && (pathname === '/metrics' || pathname === '/');
    response.writeHead(isFound ? 200 : 404, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8', connection: 'close' });
    response.end(isFound ? text() : 'GET /metrics\n');
  });
  server.unref();
  if (options.path !== undefined) await removeDeadSocket(options.path);
  await listen(server, options, at);
  if (options.path !== undefined) chmodSync(options.path, 0o600);
  const address = server.address() as AddressInfo | string;
  return {
    address: typeof address === 'string' ? at : at.replace(/\d+$/, String(address.port)),
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

function listenOptions(at: string): ListenOptions {
  const [, path] = /^unix:(\/.+)$/s.exec(at) ?? [];
  if (path !== undefined) return { path };
  const [, bracketed, plain, port] = /^(?:\[(::1)\]|(127(?:\.\d{1,3}){3}|localhost)):(\d{1,5})$/.exec(at) ?? [];
  if (port === undefined || Number(port) > 65535) {
    throw new FsError('EINVAL', 'listen', { detail: `metrics at '${at}'; there is unix:/PATH, 127.0.0.1:PORT and [::1]:PORT` });
  }
  return { host: bracketed ?? plain ?? '', port: Number(port) };
}

/** Errors: EINVAL for an address that is none. */
export function checkMetricsAddress(at: string): void {
  listenOptions(at);
}

function listen(server: Server, options: ListenOptions, at: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(new FsError(errnoCodeOf(cause) ?? 'EIO', 'listen', { detail: at, cause })));
    server.listen(options, () => resolve());
  });
}

/** One of a process that was killed. One that somebody listens at stays, and so does what is no socket: listening fails then. */
function removeDeadSocket(path: string): Promise<void> {
  return new Promise((resolve) => {
    let isSocket = false;
    try {
      isSocket = lstatSync(path).isSocket();
    } catch {
      // Nothing is there.
    }
    if (!isSocket) return resolve();
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', (error) => {
      if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') unlinkSync(path);
      resolve();
    });
  });
}
