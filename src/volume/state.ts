import type { AbortSignalLike } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import { isPromise, run, type Task } from '../base/task.ts';
import type { Caller } from '../vfs/caller.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { FdTable } from './fd-table.ts';
import { unlessAborted } from './node-error.ts';

/** What the operations of a volume work on: which files, on whose behalf, and its open descriptors. */
export interface VolumeState {
  readonly vfs: Vfs;
  readonly caller: Caller;
  readonly fds: FdTable;
  /** Device number that the volume's files show. */
  readonly dev: number;
  /** Where relative paths begin; the root if absent. */
  readonly cwd?: string;
}

/** The same volume and caller, for one operation that `signal` ends. */
export function withSignal<S extends VolumeState>(state: S, signal: AbortSignalLike | undefined): S {
  return signal === undefined ? state : { ...state, caller: { ...state.caller, signal } };
}

/** The same volume for another caller. */
export function withCaller<S extends VolumeState>(state: S, caller: Caller): S {
  return { ...state, caller };
}

/** A promise for what a Task answers. What `task` throws, argument errors too, rejects it. */
export async function promised<T>(task: () => Task<T>, signal?: AbortSignalLike): Promise<T> {
  try {
    return await run(task());
  } catch (error) {
    throw unlessAborted(error, signal);
  }
}

/** What a Task answers, now. Errors: EAGAIN if it would have to wait. */
export function atOnce<T>(task: Task<T>): T {
  const answer = run(task);
  if (!isPromise(answer)) return answer as T;
  // What it comes to is nobody's any more.
  answer.then(undefined, () => {});
  throw new FsError('EAGAIN', 'sync', { detail: 'this call has to wait; use the method that returns a promise' });
}
