import type { ServerOptions } from '../server/options.ts';
import type { InFlight } from '../server/server.ts';

// What the thread that mounts and the thread that serves say to each other.

/** Where the filesystem comes from: made inside the serving thread, so that the calling one may use its own mount synchronously. */
export interface WorkerData {
  /** URL of a module whose default export makes the FileSystem. */
  readonly source: string;
  /** What it is called with. */
  readonly args: unknown;
  readonly options: ServerOptions;
}

export type ToWorker =
  /** The descriptor is mounted: serve it. It is the worker's from here on. */
  | { readonly kind: 'serve'; readonly fd: number }
  /** It could not be mounted: end the filesystem. */
  | { readonly kind: 'stop' };

export type FromWorker =
  /** The filesystem is there. `rootMode` is that of its root. */
  | { readonly kind: 'loaded'; readonly rootMode: number; readonly checksAccess: boolean; readonly isReadOnly: boolean }
  /** INIT is answered: the mount works. */
  | { readonly kind: 'ready'; readonly minor: number }
  /** A request failed by a fault, and was answered with EIO. */
  | { readonly kind: 'bug'; readonly request: string; readonly stack: string; readonly inFlight: readonly InFlight[] }
  /** It is over: the session ended, or could not begin. The descriptor is closed. */
  | { readonly kind: 'ended'; readonly error: { readonly message: string; readonly code: string | undefined } | undefined };
