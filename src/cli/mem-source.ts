// The source mem: as a module for the thread that serves.

import { MemFs } from '../fs/memfs/mem-fs.ts';
import { ROOT } from '../vfs/caller.ts';

export interface MemSourceArgs {
  readonly bytes?: number;
  readonly inodes?: number;
}

/** Its root is of who mounts it. */
export default async (args: MemSourceArgs): Promise<MemFs> => {
  const fs = new MemFs(args);
  const [uid = 0, gid = 0] = [process.getuid?.(), process.getgid?.()];
  if (uid !== 0) await fs.setattr(ROOT, fs.root, { uid, gid });
  return fs;
};
