import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, Gate, turn, vfsWorld } from '../../test/support/vfs-world.ts';
import { FsError } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import type { Entry, IoMode } from './attr.ts';
import { type Caller, callerOf, ROOT } from './caller.ts';
import { DENTRY_BYTES } from './dcache.ts';
import type { WatchEvent } from './fsnotify.ts';
import { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TMPFILE, RENAME_EXCHANGE, S_IFCHR, S_IFREG, SEEK_SET } from './uapi.ts';

const now: Caller = { ...ROOT, nowait: true };
const data = new TextEncoder();

test('every lookup is forgotten once nobody uses the inode, and none that is used', async () => {
  const { vfs, filter, file } = vfsWorld();
  await vfs.mkdir(ROOT, '/a', 0o755);
  await vfs.mkdir(ROOT, '/a/b', 0o755);
  const open = await file('/a/b/f');
  await vfs.link(ROOT, '/a/b/f', '/a/g');
  for (let i = 0; i < 5; i++) await vfs.stat(ROOT, '/a/b/f');
  await (await file('/a/other')).close(ROOT);
  assert.equal(filter.owed.size, 4);

  vfs.dropCaches();
  // The open file keeps itself and the directories above the name that it was opened by.
  const { ino } = await open.stat(ROOT);
  assert.ok(filter.owed.has(ino));
  assert.equal(await open.write(ROOT, new IovIter(data.encode('still here')), 0), 10);
  await open.close(ROOT);
  vfs.dropCaches();
  assert.deepEqual([...filter.owed], []);
  assert.equal(vfs.dcache.vnodeCount, 1);
  assert.equal((await vfs.stat(ROOT, '/a/g')).nlink, 2);
});

test('names in core stay within their budget, the used ones first of all', async () => {
  const { vfs, filter, file } = vfsWorld({}, { dentryBytes: 100 * DENTRY_BYTES });
  await vfs.mkdir(ROOT, '/kept', 0o755);
  const open = await file('/kept/open');
  for (let i = 0; i < 2000; i++) {
    await (await file(`/f${i}`)).close(ROOT);
    await vfs.stat(ROOT, '/kept/open');
  }
  assert.ok(vfs.dcache.size <= 101, `${vfs.dcache.size} names`);
  assert.ok(filter.owed.size <= 101);
  const lookups = filter.count('lookup');
  await vfs.stat(ROOT, '/kept/open');
  assert.equal(filter.count('lookup'), lookups, 'what is used all the time was dropped');
  assert.equal((await vfs.stat(ROOT, '/f0')).size, 0);
  await open.close(ROOT);
  assert.equal((await vfs.open(ROOT, '/', 0)).isOpen, true);
});

test('how a file is served is fixed when its inode is instantiated: a live one is refused, the next one is free', async () => {
  let io: IoMode = { mode: 'iomap' };
  let ino = 0;
  const { vfs, filter, file } = vfsWorld({ entry: (entry: Entry) => (entry.attr.ino === ino ? { ...entry, io } : entry) });
  await (await file('/other')).close(ROOT);
  const first = await file('/f');
  ino = (await first.stat(ROOT)).ino;
  await first.write(ROOT, new IovIter(data.encode('kept')), 0);
  assert.equal((await vfs.stat(ROOT, '/f')).size, 4);

  for (const mode of ['cached', 'direct'] as const) {
    io = { mode };
    filter.notifier?.invalEntry(1, 'f');
    await assert.rejects(async () => vfs.stat(ROOT, '/f'), { code: 'EIO', message: new RegExp(`changed from iomap to ${mode} I/O`) });
    assert.throws(() => first.read(ROOT, new Uint8Array(4), 0), { code: 'EIO' }, 'an inode of two minds does no I/O');
  }
  assert.equal((await vfs.stat(ROOT, '/other')).size, 0, 'the others are not concerned');

  await first.close(ROOT);
  const next = await vfs.open(ROOT, '/f', O_RDONLY);
  assert.throws(() => next.map(ROOT, 0, 4, false), { code: 'ENODEV' }, 'the new inode is a direct one');
  assert.equal(await next.read(ROOT, new Uint8Array(9), 0), 4);
});

test('files of several modes live in one filesystem; a direct one cannot be mapped', async () => {
  const modes = new Map<string, IoMode>();
  let next: IoMode = { mode: 'iomap' };
  const { vfs, file } = vfsWorld({ entry: (entry: Entry) => ({ ...entry, io: next }) });
  for (const mode of ['iomap', 'cached', 'direct'] as const) {
    next = { mode };
    modes.set(mode, next);
    const open = await file(`/${mode}`);
    await open.write(ROOT, new IovIter(data.encode(mode)), 0);
    const into = new Uint8Array(10);
    assert.equal(await open.read(ROOT, into, 0), mode.length);
    if (mode === 'direct') assert.throws(() => open.map(ROOT, 0, 10, true), { code: 'ENODEV' });
    else await open.map(ROOT, 0, 10, true).close();
    await open.close(ROOT);
  }
  await vfs.close();
});

test('a passthrough file is the file behind it', async () => {
  let isPassthrough = false;
  const { vfs, file } = vfsWorld({ entry: (entry) => (isPassthrough ? { ...entry, io: { mode: 'passthrough', backingId: 3 } } : entry) });
  const backing = await file('/behind');
  isPassthrough = true;
  const front = await file('/front');
  assert.throws(() => front.read(ROOT, new Uint8Array(1), 0), { code: 'EIO' }, 'nothing is registered');
  const end = vfs.registerBacking(3, backing);
  assert.throws(() => vfs.registerBacking(3, backing), { code: 'EBUSY' });
  assert.equal(await front.write(ROOT, new IovIter(data.encode('through')), null), 7);
  assert.equal(front.position, 7);
  const into = new Uint8Array(7);
  assert.equal(await backing.read(ROOT, into, 0), 7);
  assert.equal(await front.read(ROOT, into, 0), 7);
  assert.deepEqual(into, data.encode('through'));
  await front.fsync(ROOT, false);
  end();
});

test('another object under a number is another inode; the old one does no I/O', async () => {
  let generation = 0;
  const { vfs, file } = vfsWorld({ entry: (entry) => ({ ...entry, generation, entryValidMs: 0 }) });
  const old = await file('/f');
  generation = 1;
  await vfs.stat(ROOT, '/f');
  assert.throws(() => old.read(ROOT, new Uint8Array(1), 0), { code: 'EIO' });
  const fresh = await vfs.open(ROOT, '/f', O_RDONLY);
  assert.equal(await fresh.read(ROOT, new Uint8Array(1), 0), 0);
});

test('names are believed as long as the filesystem said', async () => {
  let time = 1000;
  const clock = { now: () => time, yield: turn, timer: () => () => {} };
  const { vfs, filter, file } = vfsWorld({ entry: (entry) => ({ ...entry, entryValidMs: 50 }) }, { clock });
  await (await file('/f')).close(ROOT);
  await vfs.stat(ROOT, '/f');
  const before = filter.count('lookup');
  await vfs.stat(ROOT, '/f');
  assert.equal(filter.count('lookup'), before);
  time += 50;
  await vfs.stat(ROOT, '/f');
  assert.equal(filter.count('lookup'), before + 1);
});

test('what a filesystem says has changed is asked for again, also when the old answer is still on its way', async () => {
  const gate = new Gate();
  gate.isOpen = true;
  const { vfs, filter, file } = vfsWorld({ after: gate.before });
  await (await file('/f')).close(ROOT);
  const before = filter.count('lookup');
  filter.notifier?.invalEntry(1, 'f');
  filter.notifier?.invalEntry(77, 'nobody');
  filter.notifier?.invalInode(77, 0, 0);
  await vfs.stat(ROOT, '/f');
  assert.equal(filter.count('lookup'), before + 1);

  filter.notifier?.delete(1, 77, 'f');
  gate.isOpen = false;
  gate.holds = (op) => op === 'lookup';
  const answer = vfs.stat(ROOT, '/f');
  await turn();
  assert.deepEqual(gate.waiting, ['lookup']);
  filter.notifier?.invalEntry(1, 'f');
  await gate.open();
  await answer;
  await vfs.stat(ROOT, '/f');
  assert.equal(filter.count('lookup'), before + 3);
});

test('with nowait a call that meets another one says EAGAIN, and has done nothing', async () => {
  const gate = new Gate();
  const { vfs, filter, names } = vfsWorld({ before: gate.before });
  gate.holds = (op) => op === 'mkdir';
  const slow = vfs.mkdir(ROOT, '/slow', 0o755);
  await turn();
  for (const call of [
    () => vfs.mkdir(now, '/fast', 0o755),
    () => vfs.open(now, '/file', O_RDWR | O_CREAT),
    () => vfs.rename(now, '/x', '/y'),
    () => vfs.unlink(now, '/x'),
    () => vfs.symlink(now, 'a', '/link'),
  ]) {
    assert.throws(call, { code: 'EAGAIN' });
  }
  await gate.open();
  await slow;
  assert.deepEqual(await names('/'), ['slow']);
  assert.equal(filter.count('mkdir'), 1);
  atOnce(vfs.mkdir(now, '/fast', 0o755));
});

test('of many who create one name exclusively, one succeeds', async () => {
  const { vfs } = vfsWorld({ before: turn });
  const made = await Promise.allSettled(Array.from({ length: 50 }, () => vfs.open(ROOT, '/one', O_RDWR | O_CREAT | O_EXCL)));
  assert.equal(made.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const each of made) if (each.status === 'rejected') assert.equal((each.reason as FsError).code, 'EEXIST');
});

test('nothing is made in a directory that is on its way out', async () => {
  const gate = new Gate();
  gate.isOpen = true;
  const { vfs, names } = vfsWorld({ before: gate.before });
  await vfs.mkdir(ROOT, '/d', 0o755);
  gate.isOpen = false;
  gate.holds = (op) => op === 'rmdir';
  const removing = vfs.rmdir(ROOT, '/d');
  await turn();
  const late = Promise.allSettled([vfs.mkdir(ROOT, '/d/x', 0o755), vfs.open(ROOT, '/d/y', O_RDWR | O_CREAT), vfs.rename(ROOT, '/d', '/e')]);
  await gate.open();
  await removing;
  const ended = await late;
  assert.deepEqual(
    ended.map((each) => (each.status === 'rejected' ? (each.reason as FsError).code : 'made')),
    ['ENOENT', 'ENOENT', 'ENOENT'],
  );
  assert.deepEqual(await names('/'), []);
});

test('two directories that are renamed into each other at once make no circle', async () => {
  const { vfs } = vfsWorld({ before: turn });
  for (let round = 0; round < 10; round++) {
    await vfs.mkdir(ROOT, '/a', 0o755);
    await vfs.mkdir(ROOT, '/b', 0o755);
    const both = await Promise.allSettled([vfs.rename(ROOT, '/a', '/b/a'), vfs.rename(ROOT, '/b', '/a/b')]);
    assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    for (const path of ['/a/b', '/b/a', '/a', '/b']) await Promise.resolve(vfs.rmdir(ROOT, path)).catch(() => {});
    assert.equal((await vfs.stat(ROOT, '/')).nlink, 2, 'all is gone again');
  }
});

test('renames across directories in all directions, lookups, creations and removals at once come to an end', async () => {
  const { vfs, names } = vfsWorld({ before: turn });
  const dirs = ['/a', '/a/b', '/c', '/c/d'];
  for (const dir of dirs) await vfs.mkdir(ROOT, dir, 0o755);
  const calls: Promise<unknown>[] = [];
  const go = (call: () => unknown): void => {
    calls.push((async () => call())());
  };
  for (let i = 0; i < 200; i++) {
    const from = dirs[i % 4] as string;
    const to = dirs[(i * 7 + 3) % 4] as string;
    go(() => vfs.open(ROOT, `${from}/f${i % 9}`, O_RDWR | O_CREAT));
    go(() => vfs.rename(ROOT, `${from}/f${i % 9}`, `${to}/f${(i + 1) % 9}`));
    go(() => vfs.rename(ROOT, `${from}/f${i % 9}`, `${to}/f${i % 5}`, RENAME_EXCHANGE));
    go(() => vfs.stat(ROOT, `${to}/f${i % 9}`));
    if (i % 3 === 0) go(() => vfs.unlink(ROOT, `${to}/f${i % 9}`));
    if (i % 10 === 0) go(() => vfs.rename(ROOT, '/a/b', '/c/d/b'));
    if (i % 10 === 5) go(() => vfs.rename(ROOT, '/c/d', '/a/d'));
  }
  for (const each of await Promise.allSettled(calls)) {
    if (each.status === 'rejected') assert.ok(each.reason instanceof FsError, String(each.reason));
  }
  // What is cached is what is there.
  const cached = new Map<string, string[]>();
  for (const dir of ['/a', '/c']) cached.set(dir, await names(dir));
  for (const [dir, list] of cached) for (const name of list) assert.ok((await vfs.stat(ROOT, `${dir}/${name}`, false)).ino > 0);
  await vfs.close();
});

test('reads and writes without a position come one after the other', async () => {
  const { vfs, file } = vfsWorld({ before: turn });
  const open = await file('/f');
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => open.write(ROOT, new IovIter(data.encode(`line ${String(i).padStart(2)}\n`)), null)),
  );
  assert.equal(open.position, 160);
  await open.lseek(ROOT, 0, SEEK_SET);
  const pieces = Array.from({ length: 20 }, () => new Uint8Array(8));
  await Promise.all(pieces.map((into) => open.read(ROOT, into, null)));
  assert.deepEqual(
    pieces.map((piece) => new TextDecoder().decode(piece)),
    Array.from({ length: 20 }, (_, i) => `line ${String(i).padStart(2)}\n`),
  );
  await vfs.close();
});

test('a call that fails at its filesystem leaves no lock, no reference and no name behind', async () => {
  let fails = false;
  const { vfs, filter, file, names } = vfsWorld({
    before: (op) => {
      if (fails && !['forget', 'release', 'flush'].includes(op)) throw new FsError('EIO', op);
    },
  });
  await vfs.mkdir(ROOT, '/d', 0o755);
  await (await file('/d/f')).close(ROOT);
  fails = true;
  for (const call of [
    () => vfs.stat(ROOT, '/d/x'),
    () => vfs.open(ROOT, '/d/new', O_RDWR | O_CREAT),
    () => vfs.open(ROOT, '/d/f', O_RDWR),
    () => vfs.mkdir(ROOT, '/d/new', 0o755),
    () => vfs.unlink(ROOT, '/d/f'),
    () => vfs.rmdir(ROOT, '/d'),
    () => vfs.rename(ROOT, '/d/f', '/g'),
    () => vfs.link(ROOT, '/d/f', '/g'),
    () => vfs.symlink(ROOT, 'x', '/d/l'),
    () => vfs.setattr(ROOT, '/d/f', { mode: 0o600 }),
    () => vfs.truncate(ROOT, '/d/f', 5),
    () => vfs.readlink(ROOT, '/d/l'),
    () => vfs.open(ROOT, '/d', O_RDWR | O_TMPFILE),
  ]) {
    await assert.rejects(async () => call(), { code: 'EIO' }, String(call));
  }
  fails = false;
  assert.deepEqual(await names('/d'), ['f']);
  await vfs.rename(ROOT, '/d/f', '/f');
  await vfs.unlink(ROOT, '/f');
  await vfs.rmdir(ROOT, '/d');
  vfs.dropCaches();
  assert.deepEqual([...filter.owed], []);
});

test('closing closes what is open; everything says EBADF from then on', async () => {
  const { vfs, filter, file } = vfsWorld();
  const open = await file('/f');
  await open.lock(ROOT, 'ofd', { type: 1, start: 0, end: 10 }, false);
  await vfs.close();
  await vfs.close();
  assert.deepEqual([filter.count('release'), filter.count('destroy')], [1, 1]);
  assert.equal(open.isOpen, false);
  assert.throws(() => vfs.stat(ROOT, '/f'), { code: 'EBADF' });
  assert.throws(() => open.read(ROOT, new Uint8Array(1), 0), { code: 'EBADF' });
});

test('closing waits for the files of callers who would not wait themselves', async () => {
  const { vfs, filter } = vfsWorld({ before: (op) => (op === 'flush' ? turn() : undefined) });
  atOnce(vfs.open(now, '/f', O_RDWR | O_CREAT));
  await vfs.close();
  assert.deepEqual([filter.count('flush'), filter.count('release')], [1, 1]);
});

test('watches tell what happens in a directory, to a file, and in a tree', async () => {
  const { vfs, file } = vfsWorld();
  await vfs.mkdir(ROOT, '/d', 0o755);
  await vfs.mkdir(ROOT, '/d/e', 0o755);
  const flat: WatchEvent[] = [];
  const tree: WatchEvent[] = [];
  const own: WatchEvent[] = [];
  const ends = [
    await vfs.watch(ROOT, '/d', {}, (event) => flat.push(event)),
    await vfs.watch(ROOT, '/', { recursive: true }, (event) => tree.push(event)),
  ];
  const open = await file('/d/e/f');
  ends.push(await vfs.watch(ROOT, '/d/e/f', {}, (event) => own.push(event)));
  await open.write(ROOT, new IovIter(data.encode('x')), 0);
  await open.setattr(ROOT, { mode: 0o600 });
  await open.close(ROOT);
  await vfs.rename(ROOT, '/d/e/f', '/d/g');
  await vfs.unlink(ROOT, '/d/g');
  const of = (events: WatchEvent[]): [number, string][] => events.map(({ mask, name }) => [mask, name]);
  assert.deepEqual(of(flat), [
    [0x80, 'g'],
    [0x200, 'g'],
  ]);
  assert.deepEqual(of(tree), [
    [0x100, 'd/e/f'],
    [0x2, 'd/e/f'],
    [0x4, 'd/e/f'],
    [0x40, 'd/e/f'],
    [0x80, 'd/g'],
    [0x200, 'd/g'],
  ]);
  assert.deepEqual(of(own), [
    [0x2, ''],
    [0x4, ''],
    [0x800, ''],
    [0x400, ''],
  ]);
  for (const end of ends) end();
  for (const end of ends) end();
  assert.ok(vfs.notifications.isIdle);
});

test('devices, FIFOs and sockets can be made and named, and have nothing behind them', async () => {
  const { vfs } = vfsWorld();
  await vfs.mknod(ROOT, '/null', S_IFCHR | 0o666, 0x103);
  assert.equal((await vfs.stat(ROOT, '/null')).rdev, 0x103);
  assert.throws(() => vfs.open(ROOT, '/null', O_RDWR), { code: 'ENXIO' });
  const user = callerOf({ uid: 1000 });
  assert.throws(() => vfs.mknod(user, '/x', S_IFCHR, 1), { code: 'EACCES' });
  await vfs.setattr(ROOT, '/', { mode: 0o777 });
  assert.throws(() => vfs.mknod(user, '/x', S_IFCHR, 1), { code: 'EPERM' });
  await vfs.mknod(user, '/x', S_IFREG | 0o600, 0);
});

test('a mapped view is the file: stores are read, writes are loaded, past the end is EFAULT', async () => {
  const { vfs, file } = vfsWorld();
  const open = await file('/f');
  await open.write(ROOT, new IovIter(data.encode('hello, world')), 0);
  const view = open.map(ROOT, 0, 8192, true);
  await view.store(7, data.encode('WORLD and what is past the end'));
  const into = new Uint8Array(16);
  assert.equal(await open.read(ROOT, into, 0), 12);
  assert.deepEqual(into.subarray(0, 12), data.encode('hello, WORLD'));
  await view.load(0, into);
  assert.deepEqual(into, data.encode('hello, WORLD\0\0\0\0'));
  assert.throws(() => view.load(4096, into), { code: 'EFAULT' });
  assert.throws(() => view.load(8190, into), { code: 'EINVAL' });
  await open.close(ROOT);
  await view.sync();
  await view.load(0, into);
  await view.close();
  assert.throws(() => view.load(0, into), { code: 'EBADF' });
  const readOnly = (await vfs.open(ROOT, '/f', O_RDONLY)).map(ROOT, 0, 4, false);
  assert.throws(() => readOnly.store(0, into.subarray(0, 1)), { code: 'EACCES' });
});
