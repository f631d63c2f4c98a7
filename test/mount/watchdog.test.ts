import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isMounted, whyNoMount, withDirectory } from '../support/fuse-mount.ts';

const CHILD = fileURLToPath(new URL('./watchdog-child.js', import.meta.url));

const skip = whyNoMount();

test('a thread that uses its own mount synchronously is freed, and the mount ends with EDEADLK', { skip, timeout: 30_000 }, () =>
  withDirectory(async (directory) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CHILD, directory, 'itself'], { encoding: 'utf8', timeout: 20_000 });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^statSync: E[A-Z]+\nended: EDEADLK\n$/);
    assert.match(stderr, /waits for itself in a synchronous call/);
    assert.equal(isMounted(directory), false);
  }),
);

test('so is one that waits synchronously for a program that uses the mount', { skip, timeout: 30_000 }, () =>
  withDirectory(async (directory) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CHILD, directory, 'program'], { encoding: 'utf8', timeout: 20_000 });
    assert.equal(status, 0, stderr);
    assert.equal(stdout, 'the program failed\nended: EDEADLK\n');
    assert.equal(isMounted(directory), false);
  }),
);

test('a thread that is only busy is left alone', { skip, timeout: 30_000 }, () =>
  withDirectory(async (directory) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CHILD, directory, 'busy'], { encoding: 'utf8', timeout: 20_000 });
    assert.equal(status, 0, stderr);
    assert.equal(stdout, 'works\nended: undefined\n');
    assert.equal(isMounted(directory), false);
  }),
);
