import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { nodeVfsProvider } from '../../src/volume/node-vfs.ts';
import { Volume } from '../../src/volume/volume.ts';
import { MemFs } from '../support/mem-fs.ts';

const flag = '--experimental-vfs';
const missing = process.allowedNodeEnvironmentFlags.has(flag) ? false : `Node ${process.version} has no node:vfs`;

test('node:fs reaches a volume by a provider of node:vfs', { skip: missing }, () => {
  const script = fileURLToPath(new URL('./node-vfs-script.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [flag, '--no-warnings', script], { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.equal(stdout, 'all is right\n');
  assert.equal(status, 0);
});

test('without node:vfs the provider says so', async () => {
  const volume = Volume.create(new MemFs());
  assert.throws(() => nodeVfsProvider(volume), { code: 'ERR_IOMAP_NO_NODE', message: /node:vfs/ });
  await volume.close();
});
