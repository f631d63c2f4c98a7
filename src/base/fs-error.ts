import { codeOf, ERRNO, type ErrnoCode, isErrnoCode, messageOf } from './errno.ts';

/** What an FsError can carry beside its code and system call. */
export interface FsErrorDetail {
  path?: string;
  dest?: string;
  cause?: unknown;
  /** Where and what, for a reader: appended to the message in parentheses. */
  detail?: string;
}

/**
 * An error with the shape and message form of a node:fs error, so that a caller cannot tell it from a native one.
 *
 * Shape:  `code` is the Linux name, `errno` its number negated, `syscall` the operation; message is
 *         "CODE: words, syscall 'path' -> 'dest'", as Node prints it.
 */
export class FsError extends Error {
  // In the order in which Node's own errors have them, so that they print alike.
  readonly errno: number;
  readonly code: ErrnoCode;
  readonly syscall: string;
  declare readonly path?: string;
  declare readonly dest?: string;

  constructor(code: ErrnoCode, syscall: string, detail: FsErrorDetail = {}) {
    let message = `${code}: ${messageOf(code)}, ${syscall}`;
    if (detail.path !== undefined) message += ` '${detail.path}'`;
    if (detail.dest !== undefined) message += ` -> '${detail.dest}'`;
    if (detail.detail !== undefined) message += ` (${detail.detail})`;
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.errno = -ERRNO[code];
    this.code = code;
    this.syscall = syscall;
    if (detail.path !== undefined) this.path = detail.path;
    if (detail.dest !== undefined) this.dest = detail.dest;
  }

  /** An error from a negative (or positive) Linux number, as a device or a peer reports it. */
  static of(errno: number, syscall: string, detail?: FsErrorDetail): FsError {
    return new FsError(codeOf(errno), syscall, detail);
  }
}

// Not an own property: Node's errors show none either.
Object.defineProperty(FsError.prototype, 'name', { value: 'Error', configurable: true, writable: true });

/** The Linux name of what was thrown: that of an FsError or of a node:fs error; undefined for everything else. */
export function errnoCodeOf(error: unknown): ErrnoCode | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { code } = error as { code?: unknown };
  return isErrnoCode(code) ? code : undefined;
}

/** The negative Linux number of anything thrown: that of an FsError or of a node:fs error, else -EIO. */
export function errnoOf(error: unknown): number {
  return -ERRNO[errnoCodeOf(error) ?? 'EIO'];
}

/** True if `error` is an FsError, or a node:fs error, with this code. */
export function hasCode(error: unknown, code: ErrnoCode): boolean {
  return typeof error === 'object' && error !== null && (error as { code?: unknown }).code === code;
}
