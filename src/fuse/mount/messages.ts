import type { ServerOptions } from '../server/options.ts';

// What the thread that mounts and the thread that serves say to each other. What was asked and answered is not said: it is in the ledger.

/** Where the filesystem comes from: made inside the serving thread, so that the calling one may use its own mount synchronously. */
export interface WorkerData {
  /** URL of a module whose default export makes the FileSystem. */
  readonly source: string;
  /** What it is called with. */
  readonly args: unknown;
  readonly options: ServerOptions;
  /** Of the Ledger. */
  readonly ledger: SharedArrayBuffer;
  /** Of the DevFuse. */
  readonly control: Int32Array;
  /** The one user beside root who may enter, where the kernel lets all in. */
  readonly owner: number | undefined;
}

/** What mounting has to know of a filesystem. */
export interface FilesystemFacts {
  /** Mode of its root. */
  readonly rootMode: number;
  readonly checksAccess: boolean;
  readonly isReadOnly: boolean;
}

export type ToWorker =
  /** The descriptor is mounted: serve it. It is the worker's from here on. `directory`: where, if that is known. */
  | { readonly kind: 'serve'; readonly fd: number; readonly directory: string | undefined }
  /** It could not be mounted: end the filesystem. */
  | { readonly kind: 'stop' };

export type FromWorker =
  /** The filesystem is there. */
  | ({ readonly kind: 'loaded' } & FilesystemFacts)
  /** INIT is answered: the mount works. */
  | { readonly kind: 'ready'; readonly minor: number }
  /** The thread is about to stand still: the mount is to be asked something in so many milliseconds, so that it looks at its timers. */
  | { readonly kind: 'wake'; readonly delayMs: number }
  /** A request failed by a fault, and was answered with EIO. */
  | { readonly kind: 'bug'; readonly request: string; readonly stack: string }
  /** Something that whoever runs the filesystem should know. */
  | { readonly kind: 'notice'; readonly text: string }
  /** It is over: the session ended, or could not begin. The descriptor is closed. */
  | { readonly kind: 'ended'; readonly error: { readonly message: string; readonly code: string | undefined } | undefined };
