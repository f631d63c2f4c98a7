// The conformance map on mirrors of the kernel's own file systems, in this process.

import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { MirrorFs } from '../../src/fs/mirror/mirror-fs.ts';
import { Libc } from '../../src/sys/libc.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import { type ConformanceTarget, runConformance } from '../conformance/run.ts';
import { mountFresh } from '../support/loop-mount.ts';
import { VfsFace } from '../support/vfs-face.ts';

const EFBIG = 'EOVERFLOW: positions here go up to 2^53 - 1, and the one asked for is no number';

/** What a Vfs, and what is mirrored, do in their own way. */
const LACKS: Record<string, Record<string, string>> = {
  tmpfs: {
    zeroRange: 'tmpfs punches only',
    shiftRange: 'tmpfs punches only',
    fiemap: 'the bytes of tmpfs are nowhere',
    'data: a file that would be too large is EFBIG': EFBIG,
  },
  ext4: { 'data: a file that would be too large is EFBIG': EFBIG },
};

for (const [type, lacks] of Object.entries(LACKS)) {
  runConformance(`a mirror of ${type} behaves as the map says`, () => target(type, lacks));
}

function target(type: string, lacks: Record<string, string>): (ConformanceTarget & { end(): void }) | string {
  try {
    new Libc();
  } catch (error) {
    return `system calls cannot be made from here: ${(error as Error).message}`;
  }
  const mount = mountFresh(type);
  if (typeof mount === 'string') return mount;
  const open = () => {
    const fs = new MirrorFs(mkdtempSync(join(mount.mountpoint, 'mirror-')));
    const caller = { uid: 0, gid: 0, groups: [], caps: -1, umask: 0, pid: 0 };
    fs.setattr(caller, fs.root, { mode: 0o755 });
    return new VfsFace(new Vfs(fs), (isReadOnly) => {
      fs.isReadOnly = isReadOnly;
    });
  };
  return { open, lacks, end: mount.end };
}
