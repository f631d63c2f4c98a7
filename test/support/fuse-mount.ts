// Mounts of our own for tests.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Mount, mount } from '../../src/fuse/mount/mount.ts';
import type { MountOptions } from '../../src/fuse/mount/mount-options.ts';

/** What is served unless a test says otherwise. */
export const MEM_SOURCE: URL = new URL('../mount/mem-source.js', import.meta.url);

/** Why this machine cannot mount, or false. */
export function whyNoMount(): string | false {
  if (process.platform !== 'linux') return 'mounts are Linux mounts';
  if (process.getuid?.() !== 0) return 'mounting takes root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    return `/dev/fuse cannot be used: ${(error as Error).message}`;
  }
  return false;
}

/** Runs `use` with an empty directory, on which nothing is mounted afterwards, whatever happens. */
export async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'iomap-fuse-'));
  const clean = (): void => {
    while (isMounted(directory)) if (spawnSync('umount', ['-f', '-l', directory], { stdio: 'ignore' }).status !== 0) break;
    rmSync(directory, { recursive: true, force: true });
  };
  process.once('exit', clean);
  try {
    await use(directory);
  } finally {
    process.off('exit', clean);
    clean();
  }
}

/** Runs `use` with a mount, by default of memfs, that ends with it. */
export function withMount(use: (directory: string, mounted: Mount) => Promise<void>, options?: MountOptions): Promise<void> {
  return withDirectory(async (directory) => {
    const mounted = await mount(MEM_SOURCE, directory, options);
    await use(directory, mounted);
    await mounted.unmount();
  });
}

/** Does something of ours or of others cover the directory? It is not asked itself, since it may not answer. */
export function isMounted(directory: string): boolean {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === directory);
}
