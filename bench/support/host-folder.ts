// The other side of comparisons of names: a folder of the host's own, in memory if the host has a tmpfs.

import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TMPFS_MAGIC = 0x01021994;

/** A temporary folder that is gone, with what is in it, when the program ends, however it ends. */
export class HostFolder {
  readonly path: string;
  /** What to call it in a table. */
  readonly kind: string;

  /** Room for `inodes` files of `bytes` in all. */
  constructor(inodes: number, bytes: number) {
    const tmpfs = ['/dev/shm', '/run', '/tmp', tmpdir()].find((folder) => isTmpfs(folder, inodes, bytes));
    const base = tmpfs ?? tmpdir();
    this.kind = tmpfs === undefined ? `${base}, NOT a tmpfs` : `tmpfs at ${base}`;
    this.path = mkdtempSync(join(base, 'iomap-bench-'));
    process.once('exit', this.#remove);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  }

  close(): void {
    process.removeListener('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => rmSync(this.path, { recursive: true, force: true });
}

function isTmpfs(folder: string, inodes: number, bytes: number): boolean {
  try {
    const { type, bavail, bsize, ffree } = statfsSync(folder);
    return type === TMPFS_MAGIC && bavail * bsize > bytes && ffree > inodes;
  } catch {
    return false;
  }
}
