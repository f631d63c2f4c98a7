// The other side of the comparisons: a file of the host's own, through node:fs, in memory if the host has a tmpfs.

import { closeSync, mkdtempSync, openSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TMPFS_MAGIC = 0x01021994;

/** A temporary file that is gone when the program ends, however it ends. */
export class HostFile {
  readonly fd: number;
  /** What to call it in a table. */
  readonly kind: string;
  readonly #folder: string;

  constructor(size: number) {
    const tmpfs = ['/dev/shm', '/run', '/tmp', tmpdir()].find((folder) => isTmpfs(folder, size));
    const base = tmpfs ?? tmpdir();
    this.kind = tmpfs === undefined ? `${base}, NOT a tmpfs` : `tmpfs at ${base}`;
    this.#folder = mkdtempSync(join(base, 'iomap-bench-'));
    this.fd = openSync(join(this.#folder, 'file'), 'w+');
    process.once('exit', this.#remove);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  }

  close(): void {
    closeSync(this.fd);
    process.removeListener('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => rmSync(this.#folder, { recursive: true, force: true });
}

function isTmpfs(folder: string, size: number): boolean {
  try {
    const { type, bavail, bsize } = statfsSync(folder);
    return type === TMPFS_MAGIC && bavail * bsize > size;
  } catch {
    return false;
  }
}
