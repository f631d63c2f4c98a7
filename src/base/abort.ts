import { FsError } from './fs-error.ts';

/** The part of an AbortSignal that the engine uses; it plays the kernel's fatal signal. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  /** Without it, what waits for something else than I/O notices the signal only when that something happens. */
  addEventListener?(type: 'abort', listener: () => void): void;
  removeEventListener?(type: 'abort', listener: () => void): void;
}

/** Stops an operation whose caller gave up. Errors: EINTR, with the signal's reason as cause. */
export function checkAborted(signal: AbortSignalLike | undefined, syscall: string): void {
  if (signal?.aborted === true) throw interrupted(signal, syscall);
}

/** The error of an operation that its signal ended: EINTR, with the signal's reason as cause. */
export function interrupted(signal: AbortSignalLike, syscall: string): FsError {
  return new FsError('EINTR', syscall, { cause: signal.reason });
}

/** Calls `listener` when the signal fires, until the function that it answers is called. A signal that has fired calls nobody. */
export function onAbort(signal: AbortSignalLike | undefined, listener: () => void): () => void {
  if (signal?.addEventListener === undefined) return () => {};
  signal.addEventListener('abort', listener);
  return () => signal.removeEventListener?.('abort', listener);
}
