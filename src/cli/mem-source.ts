// The source mem: as a module for the thread that serves.

import { MemFs } from '../fs/memfs/mem-fs.ts';

export interface MemSourceArgs {
  readonly bytes?: number;
  readonly inodes?: number;
}

export default (args: MemSourceArgs): MemFs => new MemFs(args);
