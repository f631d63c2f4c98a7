// The ways in which a mount comes to its directory, beside that of root and that of users (user-mount.test.ts).

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mount } from '../../src/fuse/mount/mount.ts';
import { isMounted, MEM_SOURCE, whyNoMount, withDirectory } from '../support/fuse-mount.ts';

const USER_CHILD = fileURLToPath(new URL('./user-mount-child.js', import.meta.url));
const KILLED_CHILD = fileURLToPath(new URL('./auto-unmount-child.js', import.meta.url));

const skip = whyNoMount();

test('a descriptor that somebody else has mounted is served, and stays theirs to unmount', { skip, timeout: 30_000 }, () =>
  withDirectory(async (directory) => {
    const fd = openSync('/dev/fuse', 'r+');
    const words = 'fd=3,rootmode=40000,user_id=0,group_id=0';
    const { status, stderr } = spawnSync('mount', ['-i', '-t', 'fuse.iomap', '-o', words, 'iomap', directory], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    const mounted = await mount(MEM_SOURCE, `/dev/fd/${fd}`);
    writeFileSync(join(directory, 'file'), 'content');
    assert.equal(readFileSync(join(directory, 'file'), 'utf8'), 'content');
    assert.ok(mounted.directory === directory || mounted.directory === `/dev/fd/${fd}`, mounted.directory);
    const over = mounted.unmount();
    // Where the kernel does not tell of what directory the descriptor is, the end comes with the next request.
    spawn('stat', ['-f', directory], { stdio: 'ignore' });
    await over;
    assert.ok(isMounted(directory));
    assert.throws(() => statfsSync(directory), { code: 'ENOTCONN' });
  }),
);

test('what is no descriptor of a device is refused', { skip }, async () => {
  await assert.rejects(mount(MEM_SOURCE, '/dev/fd/9999'), { code: 'EBADF' });
  const fd = openSync('/dev/null', 'r+');
  try {
    await assert.rejects(mount(MEM_SOURCE, `/dev/fd/${fd}`), { code: 'EINVAL', message: /\/dev\/null, not \/dev\/fuse/ });
  } finally {
    closeSync(fd);
  }
});

test('a filesystem that cannot be served as it is asked to is refused at INIT, and nothing stays mounted', { skip, timeout: 30_000 }, () =>
  withDirectory(async (directory) => {
    const refused = { code: 'EINVAL', message: /^EINVAL: invalid argument, mount \(noOpen, noOpendir: the filesystem keeps open files\)$/ };
    await assert.rejects(mount(MEM_SOURCE, directory, { noOpen: true }), refused);
    assert.equal(isMounted(directory), false);
    const mounted = await mount(MEM_SOURCE, directory);
    await mounted.unmount();
  }),
);

const noNamespace = spawnSync('unshare', ['-Urm', 'true']).status === 0 ? false : 'there are no user namespaces';

test('the root of a user namespace mounts', { skip: skip || noNamespace, timeout: 30_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'iomap-userns-'));
  try {
    const words = ['-Urm', process.execPath, USER_CHILD, directory, 'unmount'];
    const { status, stdout, stderr } = spawnSync('unshare', words, { encoding: 'utf8', timeout: 20_000 });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^content/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('with autoUnmount the mount of a process that is killed is taken away', { skip, timeout: 30_000 }, () =>
  withDirectory(async (directory) => {
    const child = spawn(process.execPath, [KILLED_CHILD, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'exit');
    await once(child.stdout, 'data');
    assert.ok(isMounted(directory));
    child.kill('SIGKILL');
    await ended;
    while (isMounted(directory)) await new Promise(setImmediate);
  }),
);
