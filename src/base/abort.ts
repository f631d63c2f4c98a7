import { FsError } from './fs-error.ts';

/** The part of an AbortSignal that the engine uses; it plays the kernel's fatal signal. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
}

/** Stops an operation whose caller gave up. Errors: EINTR, with the signal's reason as cause. */
export function checkAborted(signal: AbortSignalLike | undefined, syscall: string): void {
  if (signal?.aborted === true) throw new FsError('EINTR', syscall, { cause: signal.reason });
}
