// The kernel's own file systems as oracles of the conformance map.

import { existsSync } from 'node:fs';
import { Libc } from '../../src/sys/libc.ts';
import { type ConformanceTarget, runConformance } from '../conformance/run.ts';
import { HostFace } from '../support/host-face.ts';
import { mountFresh } from '../support/loop-mount.ts';

/** What each kernel file system does in its own way. */
const LACKS: Record<string, Record<string, string>> = {
  tmpfs: {
    zeroRange: 'it punches only',
    shiftRange: 'it punches only',
    fiemap: 'its bytes are nowhere',
    'data: a file that would be too large is EFBIG': 'a file has up to 2^63 - 1 bytes',
  },
  ext4: {},
  xfs: {
    symlinkMax: 'a target has 1023 bytes at most',
    'data: a file that would be too large is EFBIG': 'a file has up to 2^63 - 1 bytes',
    'rename: an empty directory onto a full directory is ENOTEMPTY': 'EEXIST, which POSIX allows too',
    'rename: a full directory onto a full directory is ENOTEMPTY': 'EEXIST, which POSIX allows too',
  },
};

for (const [type, lacks] of Object.entries(LACKS)) {
  runConformance(`the kernel's ${type} behaves as the map says`, () => target(type, lacks));
}

function target(type: string, lacks: Record<string, string>): (ConformanceTarget & { end(): void }) | string {
  try {
    new Libc();
  } catch (error) {
    return `system calls cannot be made from here: ${(error as Error).message}`;
  }
  if (!existsSync('/proc/self/fd')) return '/proc is not mounted';
  const mount = mountFresh(type);
  if (typeof mount === 'string') return mount;
  return { open: () => new HostFace(mount.mountpoint, mount.mountpoint), lacks, end: mount.end };
}
