import type { AbortSignalLike } from '../base/abort.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { errnoCodeOf, FsError, type FsErrorDetail } from '../base/fs-error.ts';
import { type MaybePromise, type Task, wait } from '../base/task.ts';
import { nameText } from '../vfs/name.ts';

/**
 * An error of the layers below as node:fs shows it: with Node's name of the system call, and the path that the caller gave.
 *
 * Shape:  an FsError of the same code; if the original said more than its code, or was no FsError, it is the cause. What has no error
 *         number (argument errors, our own mistakes) comes back as it is.
 */
export function face(error: unknown, syscall: string, path?: string, dest?: string): Error {
  const code = errnoCode(error);
  if (code === undefined) return error as Error;
  const detail: FsErrorDetail = {};
  if (path !== undefined) detail.path = nameText(path);
  if (dest !== undefined) detail.dest = nameText(dest);
  if (!isPlain(error)) detail.cause = error;
  return new FsError(code, syscall, detail);
}

/** Inside a Task: what `operation` answers; its errors with their face on. */
export function* faced<T>(operation: () => MaybePromise<T>, syscall: string, path?: string, dest?: string): Task<T> {
  try {
    return yield* wait(operation());
  } catch (error) {
    throw face(error, syscall, path, dest);
  }
}

function errnoCode(error: unknown): ErrnoCode | undefined {
  return error instanceof Error ? errnoCodeOf(error) : undefined;
}

/** Says no more than its code, system call and paths do. */
function isPlain(error: unknown): boolean {
  return error instanceof FsError && error.cause === undefined && !error.message.endsWith(')');
}

/** What an aborted operation of Node fails with. */
export function abortError(signal?: AbortSignalLike): Error {
  const error = new Error('The operation was aborted', signal?.reason === undefined ? undefined : { cause: signal.reason });
  const { stack } = error;
  Object.assign(error, { code: 'ABORT_ERR', name: 'AbortError' });
  if (stack !== undefined) error.stack = stack.replace(/^Error/, 'AbortError');
  return error;
}

/** An error as it leaves an operation with a signal: interrupted by it means aborted. */
export function unlessAborted(error: unknown, signal: AbortSignalLike | undefined): unknown {
  return signal?.aborted === true && errnoCode(error) === 'EINTR' ? abortError(signal) : error;
}

/** What the operating system said, in the words of an error of fs.cp. */
export interface SystemErrorInfo {
  /** Names of the error and of the call: 'EISDIR', 'cp'. */
  code: string;
  syscall: string;
  message: string;
  /** Linux number, positive. */
  errno: number;
  path?: string;
  dest?: string;
}

/** Node's SystemError: a code of its own ('ERR_FS_EISDIR'), the general words for it, and what the system said. */
export function systemError(code: string, words: string, context: SystemErrorInfo): Error {
  // In Node's order: message, path, then the rest.
  const info: SystemErrorInfo = {
    message: context.message,
    ...(context.path === undefined ? {} : { path: nameText(context.path) }),
    syscall: context.syscall,
    errno: context.errno,
    code: context.code,
    ...(context.dest === undefined ? {} : { dest: nameText(context.dest) }),
  };
  let message = `${words}: ${info.syscall} returned ${info.code} (${info.message})`;
  if (info.path !== undefined) message += ` ${info.path}`;
  if (info.dest !== undefined) message += ` => ${info.dest}`;

  const error = new Error(message);
  const { stack } = error;
  Object.defineProperty(error, 'name', { value: 'SystemError', configurable: true, writable: true });
  Object.defineProperty(error, 'toString', { value: () => `SystemError [${code}]: ${message}`, configurable: true, writable: true });
  if (stack !== undefined) error.stack = stack.replace(/^Error/, `SystemError [${code}]`);
  const { errno, syscall, path, dest } = info;
  return Object.assign(error, { code, info, errno, syscall }, path === undefined ? {} : { path }, dest === undefined ? {} : { dest });
}
