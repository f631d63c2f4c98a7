import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { ROOT } from '../vfs/caller.ts';
import { Vfs } from '../vfs/vfs.ts';
import { opendir } from './dir.ts';
import { FdTable } from './fd-table.ts';
import { promised, type VolumeState } from './state.ts';
import * as calls from './tree-calls.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e'];

async function newState(): Promise<VolumeState> {
  const state: VolumeState = { vfs: new Vfs(new MemFs()), caller: ROOT, fds: new FdTable(), dev: 1 };
  for (const name of NAMES) await promised(() => calls.mkdir(state, `/d/${name}/below`, { recursive: true }));
  await promised(() => calls.symlink(state, '..', '/d/a/up'));
  return state;
}

test('a Dir gives every name once, and then null, however few it reads at once', async () => {
  const state = await newState();
  for (const bufferSize of [1, 2, 32]) {
    const dir = await promised(() => opendir(state, '/d', { bufferSize }));
    const names: unknown[] = [];
    for (let dirent = await dir.read(); dirent !== null; dirent = await dir.read()) names.push(dirent.name);
    assert.deepEqual(names.sort(), NAMES);
    assert.equal(await dir.read(), null);
    assert.equal(dir.readSync(), null);
    await dir.close();
  }
});

test('iterating closes the Dir, also when it is left early', async () => {
  const state = await newState();
  const dir = await promised(() => opendir(state, '/d'));
  for await (const dirent of dir) {
    assert.equal(dirent.parentPath, '/d');
    assert.ok(dirent.isDirectory());
    break;
  }
  await assert.rejects(dir.read(), { code: 'ERR_DIR_CLOSED', message: 'Directory handle was closed' });
  const second = await promised(() => opendir(state, '/d'));
  assert.equal([...second].length, NAMES.length);
  assert.throws(() => second.readSync(), { code: 'ERR_DIR_CLOSED' });
  assert.throws(() => second.closeSync(), { code: 'ERR_DIR_CLOSED' });
  await assert.rejects(second.close(), { code: 'ERR_DIR_CLOSED' });
});

test('a recursive Dir gives what is below, and does not follow symbolic links', async () => {
  const state = await newState();
  const paths: string[] = [];
  for await (const { parentPath, name } of await promised(() => opendir(state, '/d', { recursive: true })))
    paths.push(`${parentPath}/${name}`);
  assert.deepEqual(paths.sort(), [...NAMES.flatMap((name) => [`/d/${name}`, `/d/${name}/below`]), '/d/a/up'].sort());
});

test('reads that overlap are answered in order, and exclude synchronous ones', async () => {
  const state = await newState();
  const dir = await promised(() => opendir(state, '/d', { bufferSize: 2 }));
  const reads = NAMES.map(() => dir.read());
  assert.throws(() => dir.readSync(), { code: 'ERR_DIR_CONCURRENT_OPERATION' });
  assert.throws(() => dir.closeSync(), { code: 'ERR_DIR_CONCURRENT_OPERATION' });
  assert.deepEqual((await Promise.all(reads)).map((dirent) => dirent?.name).sort(), NAMES);
  const closed = dir.close();
  await assert.rejects(dir.close(), { code: 'ERR_DIR_CLOSED' });
  await closed;
});

test('a Dir can be disposed of twice, calls back, and names its path and bytes', async () => {
  const state = await newState();
  const dir = await promised(() => opendir(state, '/d/', 'buffer'));
  assert.equal(dir.path, '/d/');
  const dirent = await new Promise((resolve) => dir.read((_, value) => resolve(value)));
  assert.ok(Buffer.isBuffer((dirent as { name: unknown }).name));
  assert.throws(() => dir.read(5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
  dir[Symbol.dispose]();
  await dir[Symbol.asyncDispose]();
});

test('bufferSize is a positive number', async () => {
  const state = await newState();
  const open = (bufferSize: unknown) => promised(() => opendir(state, '/d', { bufferSize: bufferSize as number }));
  await assert.rejects(open(0), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
  await assert.rejects(open('a'), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
});
