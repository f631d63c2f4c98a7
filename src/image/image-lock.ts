import { spawnSync } from 'node:child_process';
import { fstatSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { FsError, hasCode } from '../base/fs-error.ts';

/** flock(1) says so when somebody else has the lock. */
const CONFLICT = 1;

/**
 * Takes the lock of an image, shared for reading and alone for writing: flock(2) on the open file, which ends with it, however the process
 * ends. flock(1) of util-linux makes the call on the descriptor that it inherits, so no native code is needed here.
 *
 * Errors: EBUSY where another has it, or where the kernel has it mounted or attached to a loop device.
 */
export function lockImage(fd: number, path: string, readOnly: boolean): void {
  if (process.platform !== 'linux') return;
  const { status, error } = spawnSync('flock', [readOnly ? '-s' : '-x', '-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
  if (error !== undefined && !hasCode(error, 'ENOENT')) throw new FsError('EIO', 'open', { path, cause: error });
  if (status === CONFLICT) throw new FsError('EBUSY', 'open', { path, detail: 'somebody else has the image open for writing' });
  if (readOnly) return;
  const user = kernelUser(fd, path);
  if (user !== undefined) throw new FsError('EBUSY', 'open', { path, detail: user });
}

/** What the kernel uses the file or device for. */
function kernelUser(fd: number, path: string): string | undefined {
  const stat = fstatSync(fd, { bigint: true });
  if (stat.isBlockDevice()) {
    const major = ((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & 0xfffff000n);
    const minor = (stat.rdev & 0xffn) | ((stat.rdev >> 12n) & 0xffffff00n);
    for (const line of read('/proc/self/mountinfo').split('\n')) {
      const [, , device, , mountpoint] = line.split(' ');
      if (device === `${major}:${minor}`) return `the kernel has it mounted on ${mountpoint}`;
    }
    return undefined;
  }
  const real = realpathSync(path);
  for (const name of list('/sys/block')) {
    if (name.startsWith('loop') && read(`/sys/block/${name}/loop/backing_file`).trimEnd() === real) return `/dev/${name} is attached to it`;
  }
  return undefined;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
