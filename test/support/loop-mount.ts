// Filesystems of the kernel for tests: a tmpfs, or an image file on a loop device, made, mounted and taken down again.

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface LoopMount {
  readonly mountpoint: string;
  /** Takes everything down. Never throws. */
  end(): void;
}

const IMAGE_SIZE = 512 * 1024 * 1024; // sparse; mkfs.xfs makes nothing below 300 MiB

const MKFS: Record<string, { command: string; options: string[]; debianPackage: string }> = {
  ext4: { command: 'mkfs.ext4', options: ['-q', '-F'], debianPackage: 'e2fsprogs' },
  xfs: { command: 'mkfs.xfs', options: ['-q', '-f'], debianPackage: 'xfsprogs' },
};

/** Mounts a fresh filesystem: 'tmpfs', or a type of MKFS. Answers why not, as text, where this machine cannot. */
export function mountFresh(type: string): LoopMount | string {
  if (process.platform !== 'linux') return 'mounts are Linux mounts';
  if (process.getuid?.() !== 0) return 'mounting needs root';
  const mkfs = MKFS[type];
  const missing = mkfs === undefined ? undefined : ensure(mkfs.command, mkfs.debianPackage);
  if (missing !== undefined) return missing;

  const scratch = mkdtempSync(join(tmpdir(), `iomap-${type}-`));
  const mountpoint = join(scratch, 'mnt');
  mkdirSync(mountpoint);
  const end = () => takeDown(scratch, mountpoint);
  const forget = guard(end);
  try {
    if (mkfs === undefined) tool('mount', ['-t', type, '-o', 'size=512m', type, mountpoint]);
    else {
      const image = join(scratch, 'image');
      const fd = openSync(image, 'w');
      ftruncateSync(fd, IMAGE_SIZE);
      closeSync(fd);
      tool(mkfs.command, [...mkfs.options, image]);
      tool('mount', ['-t', type, '-o', 'loop', image, mountpoint]);
    }
  } catch (error) {
    forget();
    end();
    return `${type} cannot be mounted here: ${error instanceof Error ? error.message.trim() : String(error)}`;
  }
  return {
    mountpoint,
    end: () => {
      forget();
      end();
    },
  };
}

/** A process that exits early, or that a signal ends, leaves nothing mounted. Returns what forgets about it. */
function guard(end: () => void): () => void {
  const stop = (signal: NodeJS.Signals): void => {
    end();
    process.kill(process.pid, signal); // the handler is gone, so that it ends as it would have
  };
  process.once('exit', end);
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  return () => {
    process.off('exit', end);
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  };
}

/** Makes sure that a program is there, by apt-get as root on Debian. Answers why not, as text. */
export function ensure(command: string, debianPackage: string): string | undefined {
  if (isThere(command)) return undefined;
  if (process.getuid?.() !== 0) return `${command} is missing, and only root can install ${debianPackage}`;
  if (!isThere('apt-get')) return `${command} is missing, and this is no Debian to install ${debianPackage} on`;
  const { status } = spawnSync('apt-get', ['install', '-y', '--no-install-recommends', debianPackage], { stdio: 'ignore' });
  return status === 0 && isThere(command) ? undefined : `${command} is missing, and apt-get could not install ${debianPackage}`;
}

/** Where administration tools are, which is not in the path of everybody. */
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

function isThere(command: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', command], { stdio: 'ignore', env }).status === 0;
}

function tool(command: string, args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], env });
}

function takeDown(scratch: string, mountpoint: string): void {
  const { status } = spawnSync('umount', [mountpoint], { stdio: 'ignore', env });
  // Still busy: leaves with its last user. An error may also be that it was never mounted.
  if (status !== 0) spawnSync('umount', ['--lazy', mountpoint], { stdio: 'ignore', env });
  rmSync(scratch, { recursive: true, force: true });
}
