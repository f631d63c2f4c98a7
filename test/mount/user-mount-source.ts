// memfs whose root is everybody's, as that of /tmp.
import { ROOT } from '../../src/vfs/caller.ts';
import { MemFs } from '../support/mem-fs.ts';

export default async (): Promise<MemFs> => {
  const fs = new MemFs();
  await fs.setattr(ROOT, fs.root, { mode: 0o41777 });
  return fs;
};
