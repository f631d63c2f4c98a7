import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkMetricsAddress, metricsEndpoint } from './metrics-endpoint.ts';

function ask(where: object): Promise<[status: number | undefined, text: string]> {
  return new Promise((resolve, reject) => {
    get(where, (response) => {
      let text = '';
      response.on('data', (piece) => (text += String(piece)));
      response.once('end', () => resolve([response.statusCode, text]));
    }).once('error', reject);
  });
}

test('metrics are served at a port of the loopback, and nothing else is', async () => {
  let count = 0;
  const endpoint = await metricsEndpoint('127.0.0.1:0', () => `count ${++count}\n`);
  const [, port] = /^127\.0\.0\.1:(\d+)$/.exec(endpoint.address) ?? assert.fail(endpoint.address);
  assert.deepEqual(await ask({ port, path: '/metrics' }), [200, 'count 1\n']);
  assert.deepEqual(await ask({ port, path: '/metrics?x=1' }), [200, 'count 2\n']);
  assert.equal((await ask({ port, path: '/other' }))[0], 404);
  await assert.rejects(
    metricsEndpoint(endpoint.address, () => ''),
    { code: 'EADDRINUSE' },
  );
  await endpoint.close();
  await assert.rejects(ask({ port, path: '/metrics' }), { code: 'ECONNREFUSED' });
});

test('a socket in the file system goes with its endpoint, and what is no dead socket is not replaced', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'iomap-metrics-'));
  try {
    const path = join(folder, 'socket');
    const endpoint = await metricsEndpoint(`unix:${path}`, () => 'text');
    assert.deepEqual(await ask({ socketPath: path, path: '/' }), [200, 'text']);
    await assert.rejects(
      metricsEndpoint(`unix:${path}`, () => ''),
      { code: 'EADDRINUSE' },
    );
    await endpoint.close();
    assert.ok(!existsSync(path));
    writeFileSync(path, 'a file');
    await assert.rejects(
      metricsEndpoint(`unix:${path}`, () => ''),
      { code: 'EADDRINUSE' },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('addresses of the network are refused', () => {
  for (const at of ['0.0.0.0:1', '10.0.0.1:80', '[::]:1', 'unix:relative', '127.0.0.1:65536', '127.0.0.1', ':80', '']) {
    assert.throws(() => checkMetricsAddress(at), { code: 'EINVAL' }, at);
  }
  for (const at of ['127.0.0.1:0', '[::1]:9', 'localhost:65535', 'unix:/a b']) checkMetricsAddress(at);
});
