// A filesystem whose every answer waits: what a Vfs does at once over memory, it does here in pieces, between which others run.

import type { FileSystem } from '../../src/vfs/file-system.ts';
import { FilterFs } from '../support/filter-fs.ts';

/** `fs` with promises for answers, the errors among them. */
export function waitingFs(fs: FileSystem): FileSystem {
  return new FilterFs(fs, { before: async () => {} }).fs;
}
