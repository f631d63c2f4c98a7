import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { ROOT } from '../vfs/caller.ts';
import { Vfs } from '../vfs/vfs.ts';
import { FdTable } from './fd-table.ts';
import { writePath } from './file-calls.ts';
import { atOnce, type VolumeState } from './state.ts';
import * as calls from './tree-calls.ts';
import { type FileChange, type WatchOptions, watch, watchEvents } from './watch.ts';

function newState(): VolumeState {
  const state: VolumeState = { vfs: new Vfs(new MemFs()), caller: ROOT, fds: new FdTable(), dev: 1 };
  atOnce(calls.mkdir(state, '/dir/sub', { recursive: true }));
  return state;
}

const touch = (state: VolumeState, path: string) => atOnce(writePath(state, path, 'text', {}, 'w'));

/** An iterator that watches already, with its first answer. */
async function begun(state: VolumeState, path: string, options?: WatchOptions) {
  const changes = watch(state, path, options);
  const first = changes.next();
  // Until the watch is set, which is a matter of promises only.
  for (let i = 0; i < 10; i++) await Promise.resolve();
  return { changes, first };
}

async function take(changes: AsyncGenerator<FileChange, void>, first: Promise<IteratorResult<FileChange, void>>, count: number) {
  const taken: unknown[] = [];
  for (let next = first; taken.length < count; next = changes.next()) {
    const { value } = await next;
    taken.push([value?.eventType, value?.filename]);
    if (taken.length === count) break;
  }
  await changes.return();
  return taken;
}

test('watch tells names that come and go, and contents that change', async () => {
  const state = newState();
  const { changes, first } = await begun(state, '/dir');
  touch(state, '/dir/new');
  atOnce(calls.rename(state, '/dir/new', '/dir/other'));
  atOnce(calls.unlink(state, '/dir/other'));
  touch(state, '/dir/sub/unheard');
  const taken = await take(changes, first, 5);
  assert.deepEqual(taken[0], ['rename', 'new']);
  assert.deepEqual(taken[1], ['change', 'new']);
  assert.deepEqual(taken.slice(-3), [
    ['rename', 'new'],
    ['rename', 'other'],
    ['rename', 'other'],
  ]);
});

test('a recursive watch tells paths below', async () => {
  const state = newState();
  const { changes, first } = await begun(state, '/dir', { recursive: true });
  touch(state, '/dir/sub/deep');
  assert.deepEqual(await take(changes, first, 2), [
    ['rename', 'sub/deep'],
    ['change', 'sub/deep'],
  ]);
});

test('a watched file goes by its own name', async () => {
  const state = newState();
  touch(state, '/dir/file');
  const { changes, first } = await begun(state, '/dir/file');
  atOnce(calls.chmod(state, '/dir/file', 0o600));
  assert.deepEqual(await take(changes, first, 1), [['change', 'file']]);
});

test('a signal ends a watch that waits', async () => {
  const state = newState();
  const abort = new AbortController();
  const { changes, first } = await begun(state, '/dir', { signal: abort.signal });
  abort.abort();
  await assert.rejects(first, { name: 'AbortError', code: 'ABORT_ERR' });
  assert.deepEqual(await changes.next(), { value: undefined, done: true });
});

test('events that nobody takes are lost, or end the watch', async () => {
  const state = newState();
  for (const overflow of ['ignore', 'error'] as const) {
    const { changes, first } = await begun(state, '/dir', { maxQueue: 1, overflow });
    for (const name of ['a', 'b', 'c']) atOnce(calls.mkdir(state, `/dir/${name}${overflow}`));
    if (overflow === 'ignore') assert.deepEqual(await take(changes, first, 1), [['rename', 'aignore']]);
    else await assert.rejects(first, { code: 'ERR_FS_WATCH_QUEUE_OVERFLOW', message: 'fs.watch() queued more than 1 events' });
  }
});

test('what is ignored is not told', async () => {
  const state = newState();
  const { changes, first } = await begun(state, '/dir', { ignore: ['*.log', /^x/, (name) => name === 'no'] });
  for (const name of ['a.log', 'xy', 'no', 'yes']) atOnce(calls.mkdir(state, `/dir/${name}`));
  assert.deepEqual(await take(changes, first, 1), [['rename', 'yes']]);
});

test('what cannot be watched fails at the first call of next', async () => {
  const state = newState();
  await assert.rejects(watch(state, '/none').next(), {
    code: 'ENOENT',
    syscall: 'watch',
    path: '/none',
    message: "ENOENT: no such file or directory, watch '/none'",
    filename: '/none',
  });
  await assert.rejects(watch(state, '/dir', { recursive: 'a' as never }).next(), { code: 'ERR_INVALID_ARG_TYPE' });
  await assert.rejects(watch(state, '/dir', { overflow: 'a' as never }).next(), { code: 'ERR_INVALID_ARG_VALUE' });
  await assert.rejects(watch(state, '/dir', { signal: 5 as never }).next(), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => watchEvents(state, '/none'), { code: 'ENOENT', syscall: 'watch', filename: '/none' });
});

test('watchEvents calls its listener later, until it is closed', async () => {
  const state = newState();
  const heard: unknown[] = [];
  const watcher = watchEvents(state, '/dir', (eventType, filename) => heard.push([eventType, filename]));
  atOnce(calls.mkdir(state, '/dir/a'));
  assert.deepEqual(heard, []);
  await Promise.resolve();
  assert.deepEqual(heard, [['rename', 'a']]);
  const closed = new Promise<void>((resolve) => watcher.on('close', resolve));
  watcher.close();
  atOnce(calls.mkdir(state, '/dir/b'));
  await closed;
  assert.equal(heard.length, 1);
});
