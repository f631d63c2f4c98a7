// The conformance map through kernel mounts of mirrors of the kernel's own file systems.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mount } from '../../src/fuse/mount/mount.ts';
import type { MountOptions } from '../../src/fuse/mount/mount-options.ts';
import { runConformance } from '../conformance/run.ts';
import { whyNoMount, withDirectory } from '../support/fuse-mount.ts';
import { HostFace } from '../support/host-face.ts';
import { mountFresh } from '../support/loop-mount.ts';

const READS = 'the kernel reads from its own cache, and tells nobody';

/** What FUSE does in its own way: with each write passed on at once, and with the kernel's own cache. */
const FUSE = {
  shiftRange: 'the kernel sends only preallocation, holes and zeros to FUSE',
  fiemap: 'the kernel has no request for it',
  'data: a file that would be too large is EFBIG': 'positions here go up to 2^53 - 1',
  'time: reading at the end moves atime too': 'the kernel knows the end, and tells nobody',
  'whole: read-only: reading leaves atime': 'the kernel tells nobody that a mount became read-only',
};
const WRITEBACK = {
  ...FUSE,
  'time: reading moves an atime that is older than mtime': READS,
  'time: reading moves an atime that is a day old': READS,
};

runConformance('a mirror of tmpfs through a kernel mount behaves as the map says', () => {
  return target('tmpfs', { writebackCache: true }, { ...WRITEBACK, zeroRange: 'tmpfs punches only' });
});
runConformance('a mirror of ext4 through a kernel mount as it is by default, without a writeback cache, behaves as the map says', () => {
  return target('ext4', {}, FUSE);
});

test('a mirror and its directory see each other’s changes at once', { skip: whyNoMount(), timeout: 20_000 }, () =>
  withDirectory(async (scratch) => {
    const [host, mirrored] = [join(scratch, 'host'), join(scratch, 'mirrored')];
    for (const directory of [host, mirrored]) mkdirSync(directory);
    const mounted = await mount(new URL('./mirror-source.js', import.meta.url), mirrored, { args: { directory: host } });
    const fd = openSync(join(mirrored, 'file'), 'w+');
    try {
      writeSync(fd, 'by the mount');
      assert.equal(readFileSync(join(host, 'file'), 'utf8'), 'by the mount');
      for (const text of ['by the host', 'by the host, once more and longer', 'short']) {
        writeFileSync(join(host, 'file'), text);
        assert.equal(statSync(join(mirrored, 'file')).size, text.length);
        assert.equal(readFileSync(join(mirrored, 'file'), 'utf8'), text);
      }
      renameSync(join(host, 'file'), join(host, 'other'));
      assert.deepEqual(readdirSync(mirrored), ['other']);
      assert.throws(() => statSync(join(mirrored, 'file')), { code: 'ENOENT' });
    } finally {
      closeSync(fd);
      await mounted.unmount();
    }
  }),
);

async function target(type: string, options: MountOptions, lacks: Record<string, string>) {
  if (process.getuid?.() !== 0) return 'mounting takes root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    return `/dev/fuse cannot be used: ${(error as Error).message}`;
  }
  const host = mountFresh(type);
  if (typeof host === 'string') return host;
  const directory = mkdtempSync(join(tmpdir(), 'iomap-mirror-'));
  const end = await serve(directory, { ...options, args: { directory: host.mountpoint } });
  return {
    open: () => new HostFace(directory, directory),
    lacks,
    end: async () => {
      await end();
      rmdirSync(directory);
      host.end();
    },
  };
}

/** Mounts from another process. Returns what unmounts. */
async function serve(directory: string, options: MountOptions): Promise<() => Promise<void>> {
  const script = fileURLToPath(new URL('./mirror-process.js', import.meta.url));
  const child = spawn(process.execPath, [script, directory, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  await Promise.race([
    once(child.stdout, 'data'),
    exited.then(([code]) => {
      throw new Error(`the process that mounts ended with ${code}`);
    }),
  ]);
  return async () => {
    child.stdin.end();
    const [code] = await exited;
    if (code !== 0) throw new Error(`the process that mounts ended with ${code}`);
  };
}
