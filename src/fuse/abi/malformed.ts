import { FsError } from '../../base/fs-error.ts';

/** The error for what a peer sent. `place`: where in which message, and what is wrong there. */
export function malformed(place: string): FsError {
  return new FsError('EPROTO', 'read', { detail: place });
}
