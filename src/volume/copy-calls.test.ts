import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { ROOT } from '../vfs/caller.ts';
import { Vfs } from '../vfs/vfs.ts';
import { copyFile, cp } from './copy-calls.ts';
import { FdTable } from './fd-table.ts';
import { readPath, writePath } from './file-calls.ts';
import { atOnce, promised, type VolumeState } from './state.ts';
import * as calls from './tree-calls.ts';

function newState(): VolumeState {
  return { vfs: new Vfs(new MemFs()), caller: ROOT, fds: new FdTable(), dev: 1 };
}

const write = (state: VolumeState, path: string, data: string | Uint8Array) => promised(() => writePath(state, path, data, {}, 'w'));
const read = async (state: VolumeState, path: string) => String(await promised(() => readPath(state, path, 'utf8')));
const stat = async (state: VolumeState, path: string) => {
  const attr = await promised(() => calls.lstat(state, path));
  assert.ok(attr !== undefined);
  return attr;
};

test('copyFile copies data and mode, over what was there', async () => {
  const state = newState();
  const data = new Uint8Array(300_000).map((_, i) => i * 7);
  await write(state, '/a', data);
  await write(state, '/b', 'longer than nothing');
  await promised(() => calls.chmod(state, '/a', 0o751));
  await promised(() => copyFile(state, '/a', '/b'));
  assert.deepEqual(new Uint8Array((await promised(() => readPath(state, '/b'))) as Uint8Array), data);
  assert.equal((await stat(state, '/b')).mode, 0o100751);
  await write(state, '/c', 'short');
  await promised(() => copyFile(state, '/c', '/b'));
  assert.equal(await read(state, '/b'), 'short');
});

test('copyFile and cp keep holes', async () => {
  const state = newState();
  const size = 64 * 2 ** 20;
  await write(state, '/sparse', 'head');
  await promised(() => calls.truncate(state, '/sparse', size));
  const before = await stat(state, '/sparse');
  await promised(() => copyFile(state, '/sparse', '/copy'));
  await promised(() => cp(state, '/sparse', '/copy2'));
  for (const path of ['/copy', '/copy2']) {
    const after = await stat(state, path);
    assert.equal(after.size, size);
    assert.ok(Number(after.blocks) * 512 < 2 ** 20, `${path} takes ${after.blocks} blocks, the source ${before.blocks}`);
  }
});

test('a copy that cannot share blocks is refused before anything is touched', async () => {
  const state = newState();
  await write(state, '/a', 'new');
  await write(state, '/b', 'old');
  await assert.rejects(
    promised(() => copyFile(state, '/a', '/b', 4)),
    { code: 'ENOTSUP', syscall: 'copyfile', path: '/a', dest: '/b' },
  );
  assert.equal(await read(state, '/b'), 'old');
});

test('what was made of a copy that fails is removed', async () => {
  const state: VolumeState = { ...newState(), vfs: new Vfs(new MemFs({ bytes: 3 * 2 ** 20 })) };
  await write(state, '/a', new Uint8Array(2 * 2 ** 20).fill(1));
  await assert.rejects(
    promised(() => copyFile(state, '/a', '/b')),
    { code: 'ENOSPC', syscall: 'copyfile' },
  );
  assert.equal(atOnce(calls.exists(state, '/b')), false);
});

test('cp copies contents, times, modes and links of a tree', async () => {
  const state = newState();
  await promised(() => calls.mkdir(state, '/src/sub', { recursive: true }));
  await write(state, '/src/a', 'aaa');
  await write(state, '/src/sub/b', 'bbb');
  await promised(() => calls.symlink(state, 'a', '/src/link'));
  await promised(() => calls.utimes(state, '/src/a', 5, 7.5));
  await promised(() => calls.chmod(state, '/src/sub', 0o500));
  await promised(() => cp(state, '/src', '/new/dest', { recursive: true, preserveTimestamps: true }));
  assert.equal((await stat(state, '/new/dest/a')).mtimeMs, 7500);
  assert.equal((await stat(state, '/new/dest/a')).atimeMs, 5000);
  assert.equal(await read(state, '/new/dest/a'), 'aaa');
  assert.equal(await read(state, '/new/dest/sub/b'), 'bbb');
  assert.equal(await promised(() => calls.readlink(state, '/new/dest/link')), '/src/a');
  assert.equal((await stat(state, '/new/dest/sub')).mode, 0o040500);
  // The same again: links to files are replaced.
  await promised(() => cp(state, '/src', '/new/dest', { recursive: true }));
});

test('cp at once copies a tree, and does not take a filter that waits', () => {
  const state = newState();
  const nowait: VolumeState = { ...state, caller: { ...ROOT, nowait: true } };
  atOnce(calls.mkdir(nowait, '/src/sub', { recursive: true }));
  atOnce(cp(nowait, '/src', '/dest', { recursive: true, filter: () => true }));
  assert.equal(atOnce(calls.exists(nowait, '/dest/sub')), true);
  assert.throws(() => atOnce(cp(nowait, '/src', '/other', { recursive: true, filter: async () => true })), {
    code: 'ERR_INVALID_RETURN_VALUE',
  });
});

test('cp does not copy pipes and sockets', async () => {
  const state = newState();
  await promised(() => calls.mknod(state, '/pipe', { type: 'fifo' }));
  await promised(() => calls.mknod(state, '/socket', { type: 'socket' }));
  await assert.rejects(
    promised(() => cp(state, '/pipe', '/new')),
    { code: 'ERR_FS_CP_FIFO_PIPE' },
  );
  await assert.rejects(
    promised(() => cp(state, '/socket', '/new')),
    { code: 'ERR_FS_CP_SOCKET' },
  );
});

test('depth costs cp and rm no stack', async () => {
  const state = newState();
  const path = '/deep'.concat('/d'.repeat(1500));
  await promised(() => calls.mkdir(state, path, { recursive: true }));
  await promised(() => cp(state, '/deep', '/copy', { recursive: true }));
  assert.equal(atOnce(calls.exists(state, path.replace('deep', 'copy'))), true);
  await promised(() => calls.rm(state, '/deep', { recursive: true }));
  assert.deepEqual(await promised(() => calls.readdir(state, '/')), ['copy']);
});

test('a signal ends cp with an AbortError', async () => {
  const state = newState();
  await promised(() => calls.mkdir(state, '/src/sub', { recursive: true }));
  const abort = new AbortController();
  const filter = () => {
    abort.abort();
    return true;
  };
  await assert.rejects(
    promised(() => cp(state, '/src', '/dest', { recursive: true, filter, signal: abort.signal })),
    { name: 'AbortError', code: 'ABORT_ERR' },
  );
  assert.equal(atOnce(calls.exists(state, '/dest/sub')), false);
});
