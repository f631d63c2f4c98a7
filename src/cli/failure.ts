/** An error as the user sees it, and as it crosses between processes. */
export interface Failure {
  /** Of an FsError or a node:fs error. */
  readonly code: string | undefined;
  readonly message: string;
}

/** A failure of a process in the background, in the one that started it. */
export class RemoteError extends Error {
  readonly code: string | undefined;

  constructor({ code, message }: Failure) {
    super(message);
    this.code = code;
  }
}

/** An error without a code is a fault of a program, and shown with where it happened. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { code: undefined, message: String(error) };
  const { code } = error as { code?: unknown };
  if (typeof code === 'string') return { code, message: error.message };
  return { code: undefined, message: error instanceof RemoteError ? error.message : (error.stack ?? error.message) };
}
