import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FilterFs } from '../../test/support/filter-fs.ts';
import { MemFs } from '../../test/support/mem-fs.ts';
import { IovIter } from '../base/iov-iter.ts';
import { deferred } from '../base/task.ts';
import type { Entry, FileLock } from './attr.ts';
import { ROOT } from './caller.ts';
import type { FileSystem, NodeId, Notifier } from './file-system.ts';
import {
  IN_ATTRIB,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_MODIFY,
  IN_MOVE_SELF,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  type WatchEvent,
} from './fsnotify.ts';
import { nameBytes } from './name.ts';
import { SharedFileSystem } from './shared-file-system.ts';
import { F_UNLCK, F_WRLCK, LOCK_END, O_CREAT, O_RDWR, RENAME_EXCHANGE, RWF_APPEND } from './uapi.ts';
import { Vfs } from './vfs.ts';

const bytes = (text: string): IovIter => new IovIter(nameBytes(text));

/** Two faces; what the second hears is kept as words. */
function twoFaces(inner: FileSystem = new MemFs()): {
  shared: SharedFileSystem;
  one: FileSystem;
  two: FileSystem;
  heard: string[];
  own: string[];
} {
  const shared = new SharedFileSystem(inner);
  const [one, two] = [shared.face(), shared.face()];
  const [heard, own]: [string[], string[]] = [[], []];
  const noting = (words: string[]): Notifier => ({
    invalInode: (node, pos, length) => words.push(`inode ${node} ${pos} ${length}`),
    invalEntry: (parent, name) => words.push(`entry ${parent} ${name}`),
    delete: (parent, child, name) => words.push(`delete ${parent} ${child} ${name}`),
  });
  one.attach(noting(own));
  two.attach(noting(heard));
  return { shared, one, two, heard, own };
}

test('a face hears what the others change, and nothing of what it changes itself', async () => {
  const { one, heard, own } = twoFaces();
  const { root } = one;
  const told = async (change: () => unknown): Promise<string[]> => {
    heard.length = 0;
    await change();
    return [...heard];
  };
  const made = (): Entry => one.lookup(ROOT, root, 'd') as Entry;
  assert.deepEqual(await told(() => one.mkdir(ROOT, root, 'd', 0o755)), ['entry 1 d', 'inode 1 0 0']);
  const d = made().node;
  const { entry, fh } = await one.create(ROOT, d, 'f', 0o644, O_RDWR);
  const f = entry.node;
  assert.deepEqual(await told(() => one.write(ROOT, f, fh, { pos: 10, flags: 0 }, bytes('hello'))), [`inode ${f} 10 5`]);
  assert.deepEqual(await told(() => one.write(ROOT, f, fh, { pos: 0, flags: RWF_APPEND }, bytes('ab'))), [`inode ${f} 15 2`]);
  assert.deepEqual(await told(() => one.setattr(ROOT, f, { mode: 0o600 })), [`inode ${f} -1 0`]);
  assert.deepEqual(await told(() => one.setattr(ROOT, f, { size: 3 })), [`inode ${f} 3 0`]);
  assert.deepEqual(await told(() => one.fallocate(ROOT, f, fh, 0, 0, 4096)), [`inode ${f} 0 0`]);
  assert.deepEqual(await told(() => one.setxattr(ROOT, f, 'user.x', nameBytes('1'), 0)), [`inode ${f} -1 0`]);
  assert.deepEqual(await told(() => one.removexattr(ROOT, f, 'user.x')), [`inode ${f} -1 0`]);
  assert.deepEqual(await told(() => one.link(ROOT, f, root, 'g')), ['entry 1 g', 'inode 1 0 0', `inode ${f} -1 0`]);
  assert.deepEqual(await told(() => one.symlink(ROOT, root, 's', 'd/f')), ['entry 1 s', 'inode 1 0 0']);
  assert.deepEqual(await told(() => one.rename(ROOT, root, 'g', d, 'h', 0)), [
    'entry 1 g',
    'inode 1 0 0',
    `entry ${d} h`,
    `inode ${d} 0 0`,
    `inode ${f} -1 0`,
  ]);
  assert.equal((await told(() => one.rename(ROOT, root, 's', d, 'h', RENAME_EXCHANGE))).length, 6);
  // One of two names is gone, and then the last one.
  assert.deepEqual(await told(() => one.unlink(ROOT, root, 's')), ['entry 1 s', 'inode 1 0 0', `inode ${f} -1 0`]);
  assert.deepEqual(await told(() => one.unlink(ROOT, d, 'f')), [`delete ${d} ${f} f`, `inode ${d} 0 0`, `inode ${f} -1 0`]);
  await one.unlink(ROOT, d, 'h');
  assert.deepEqual(await told(() => one.rmdir(ROOT, root, 'd')), [`delete 1 ${d} d`, 'inode 1 0 0', `inode ${d} -1 0`]);
  assert.deepEqual(await told(() => one.read(ROOT, f, fh, { pos: 0, flags: 0 }, new Uint8Array(3))), []);
  assert.deepEqual(await told(() => one.tmpfile(ROOT, root, 0o644, O_RDWR)), []);
  await assert.rejects(async () => one.unlink(ROOT, root, 'nothing'), { code: 'ENOENT' });
  assert.deepEqual(own, []);
});

test('what the filesystem tells by itself all faces hear; an answer that waits is told when it is there', async () => {
  const gate = deferred();
  const filter = new FilterFs(new MemFs(), { before: (op) => (op === 'mkdir' ? gate.promise : undefined) });
  const { one, heard, own } = twoFaces(filter.fs);
  filter.notifier?.invalInode(7, 1, 2);
  filter.notifier?.invalEntry(1, 'x');
  filter.notifier?.delete(1, 7, 'y');
  assert.deepEqual(heard, ['inode 7 1 2', 'entry 1 x', 'delete 1 7 y']);
  assert.deepEqual(own, heard);
  heard.length = 0;
  const making = one.mkdir(ROOT, 1, 'd', 0o755);
  assert.deepEqual(heard, []);
  gate.resolve();
  await making;
  assert.deepEqual(heard, ['entry 1 d', 'inode 1 0 0']);
});

test('a face that is alone asks for nothing more than it was asked for', async () => {
  const filter = new FilterFs(new MemFs());
  const shared = new SharedFileSystem(filter.fs);
  const face = shared.face();
  assert.equal(face.needsEventLoop, false);
  await face.mkdir(ROOT, 1, 'a', 0o755);
  await face.rename(ROOT, 1, 'a', 1, 'b', 0);
  await face.rmdir(ROOT, 1, 'b');
  assert.deepEqual([...filter.calls.keys()].sort(), ['mkdir', 'rename', 'rmdir']);
  const second = shared.face();
  assert.equal(face.needsEventLoop, true);
  await second.destroy();
  assert.equal(face.needsEventLoop, false);
  await face.destroy();
});

test('locks of the same number in two faces are locks of two, and end with their face', async () => {
  const { one, two } = twoFaces();
  const { entry, fh } = await one.create(ROOT, 1, 'f', 0o644, O_RDWR);
  const node: NodeId = entry.node;
  const lock = (type: number): FileLock => ({ type, start: 0, end: LOCK_END, pid: 1, owner: 1 });
  const theirs = (await two.lookup(ROOT, 1, 'f')) as Entry;
  assert.equal(theirs.node, node);
  const other = (await two.open(ROOT, node, O_RDWR)).fh;
  for (const flock of [false, true]) {
    await one.setlk(ROOT, node, fh, lock(F_WRLCK), { flock, wait: false });
    await assert.rejects(async () => two.setlk(ROOT, node, other, lock(F_WRLCK), { flock, wait: false }), { code: 'EAGAIN' });
  }
  assert.equal((await two.getlk(ROOT, node, other, lock(F_WRLCK)))?.type, F_WRLCK);
  await one.setlk(ROOT, node, fh, lock(F_UNLCK), { flock: false, wait: false });
  await two.setlk(ROOT, node, other, lock(F_WRLCK), { flock: false, wait: false });
  await one.destroy();
  await two.setlk(ROOT, node, other, lock(F_WRLCK), { flock: true, wait: false });
});

test('what a face leaves behind is taken back, and the filesystem ends with the last one', async () => {
  const filter = new FilterFs(new MemFs());
  const { shared, one, two } = twoFaces(filter.fs);
  await one.mkdir(ROOT, 1, 'd', 0o755);
  const { entry } = await one.create(ROOT, 1, 'f', 0o644, O_RDWR);
  const dir = await one.opendir(ROOT, 1, 0);
  assert.equal((await one.readdir(ROOT, 1, dir.fh, 0, 100, false)).length, 2);
  await two.lookup(ROOT, 1, 'f');
  assert.equal(filter.owed.get(entry.node), 2);
  two.forget(entry.node, 5); // more than it has: those of the others are not its to give
  assert.equal(filter.owed.get(entry.node), 1);
  await one.destroy();
  await one.destroy();
  assert.equal(filter.count('destroy'), 0);
  assert.equal(filter.count('release') + filter.count('releasedir'), 2);
  assert.deepEqual([...filter.owed], []);
  await two.destroy();
  assert.equal(filter.count('destroy'), 1);
  assert.throws(() => shared.face(), { code: 'EBADF' });
});

/** What watches of two Vfs hear, as words, for the time of one call. */
function hearing(heard: string[]): (change: () => unknown) => Promise<string[]> {
  return async (change) => {
    heard.length = 0;
    await change();
    return [...heard];
  };
}

const EVENTS: Readonly<Record<number, string>> = {
  [IN_MODIFY]: 'modify',
  [IN_ATTRIB]: 'attrib',
  [IN_MOVED_FROM]: 'from',
  [IN_MOVED_TO]: 'to',
  [IN_CREATE]: 'create',
  [IN_DELETE]: 'delete',
  [IN_DELETE_SELF]: 'delete self',
  [IN_MOVE_SELF]: 'move self',
};

test('watches of one Vfs hear what another changes, as they hear its own', async () => {
  const shared = new SharedFileSystem(new MemFs());
  const [a, b] = [new Vfs(shared.face()), new Vfs(shared.face())];
  for (const [own, other] of [
    [a, a],
    [a, b],
  ] as const) {
    const heard: string[] = [];
    const told = hearing(heard);
    const note = (whose: string) => (event: WatchEvent) => heard.push(`${whose} ${EVENTS[event.mask]} ${event.name}`.trim());
    await own.mkdir(ROOT, '/d', 0o755);
    await own.mkdir(ROOT, '/d/sub', 0o755);
    await (await own.open(ROOT, '/d/file', O_RDWR | O_CREAT, 0o644)).close(ROOT);
    const ends = [
      await own.watch(ROOT, '/d', {}, note('d')),
      await own.watch(ROOT, '/', { recursive: true }, note('all')),
      await own.watch(ROOT, '/d/file', {}, note('file')),
    ];
    assert.deepEqual(await told(() => other.mkdir(ROOT, '/d/new', 0o755)), ['d create new', 'all create d/new']);
    assert.deepEqual(await told(async () => (await other.open(ROOT, '/d/f', O_RDWR | O_CREAT, 0o644)).close(ROOT)), [
      'd create f',
      'all create d/f',
    ]);
    const file = await other.open(ROOT, '/d/file', O_RDWR);
    const modified = ['file modify', 'd modify file', 'all modify d/file'];
    assert.deepEqual(await told(() => file.write(ROOT, bytes('abc'), 0)), modified);
    assert.deepEqual(await told(() => other.setattr(ROOT, '/d/file', { size: 1 })), modified);
    assert.deepEqual(await told(() => file.fallocate(ROOT, 0, 0, 4096)), modified);
    const attributes = modified.map((words) => words.replace('modify', 'attrib'));
    assert.deepEqual(await told(() => other.setattr(ROOT, '/d/file', { mode: 0o600 })), attributes);
    assert.deepEqual(await told(() => other.setxattr(ROOT, '/d/file', 'user.x', nameBytes('1'), 0)), attributes);
    assert.deepEqual(await told(() => other.rename(ROOT, '/d/file', '/d/sub/moved')), [
      'd from file',
      'all from d/file',
      'all to d/sub/moved',
      'file move self',
    ]);
    // Under its new name, and under none once that is gone.
    assert.deepEqual(await told(() => file.write(ROOT, bytes('abc'), 0)), ['file modify', 'all modify d/sub/moved']);
    assert.deepEqual(await told(() => other.rename(ROOT, '/d/f', '/d/sub/moved', RENAME_EXCHANGE)), [
      'd from f',
      'all from d/f',
      'all to d/sub/moved',
      'all from d/sub/moved',
      'd to f',
      'all to d/f',
      'file move self',
    ]);
    assert.deepEqual(await told(() => other.unlink(ROOT, '/d/f')), ['d delete f', 'all delete d/f', 'file delete self']);
    assert.deepEqual(await told(() => file.write(ROOT, bytes('abc'), 0)), ['file modify']);
    await file.close(ROOT);
    await other.unlink(ROOT, '/d/sub/moved');
    assert.deepEqual(await told(() => other.rmdir(ROOT, '/d/sub')), ['d delete sub', 'all delete d/sub']);
    for (const end of ends) end();
    assert.deepEqual(await told(() => other.rmdir(ROOT, '/d/new')), []);
    await other.rmdir(ROOT, '/d');
  }
  await a.close();
  await b.close();
});

test('a file that was renamed behind the back of a face is not told under its old name', async () => {
  const shared = new SharedFileSystem(new MemFs());
  const [one, two] = [shared.face(), shared.face()];
  const { entry, fh } = await one.create(ROOT, 1, 'old', 0o644, O_RDWR);
  await two.rename(ROOT, 1, 'old', 1, 'new', 0);
  const heard: string[] = [];
  const nothing = (): void => {};
  two.attach({
    invalInode: nothing,
    invalEntry: nothing,
    delete: nothing,
    event: (node, name, mask) => heard.push(`${node} ${name} ${EVENTS[mask]}`),
  });
  await one.write(ROOT, entry.node, fh, { pos: 0, flags: 0 }, bytes('x'));
  assert.deepEqual(heard, [`${entry.node}  modify`]);
});

test('nothing is looked up for watches while nobody watches', async () => {
  const filter = new FilterFs(new MemFs());
  const shared = new SharedFileSystem(filter.fs);
  const [a, b] = [new Vfs(shared.face()), new Vfs(shared.face())];
  const file = await a.open(ROOT, '/f', O_RDWR | O_CREAT, 0o666);
  const lookups = filter.count('lookup');
  await file.write(ROOT, bytes('x'), 0);
  assert.equal(filter.count('lookup'), lookups);
  const end = await b.watch(ROOT, '/', {}, () => {});
  const watched = filter.count('lookup');
  await file.write(ROOT, bytes('x'), 0);
  assert.equal(filter.count('lookup'), watched + 1);
  end();
  await a.close();
  await b.close();
  assert.deepEqual([...filter.owed], []);
});

test('two Vfs over one filesystem believe each other’s names, permissions and data at once', async () => {
  const shared = new SharedFileSystem(new MemFs());
  const [a, b] = [new Vfs(shared.face()), new Vfs(shared.face())];
  const user = { ...ROOT, uid: 1000, gid: 1000, caps: 0 };
  const file = await a.open(ROOT, '/f', O_RDWR | O_CREAT, 0o666);
  await file.write(ROOT, bytes('old'), 0);
  assert.equal((await b.stat(ROOT, '/f')).size, 3);
  await a.mkdir(ROOT, '/d', 0o755);
  await (await a.open(ROOT, '/d/x', O_RDWR | O_CREAT, 0o644)).close(ROOT);
  assert.equal((await b.stat(user, '/d/x')).size, 0);
  await a.setattr(ROOT, '/d', { mode: 0o700 });
  await assert.rejects(async () => b.stat(user, '/d/x'), { code: 'EACCES' });
  await a.rename(ROOT, '/d', '/e');
  await assert.rejects(async () => b.stat(ROOT, '/d'), { code: 'ENOENT' });
  assert.equal((await b.stat(ROOT, '/e/x')).size, 0);
  await b.unlink(ROOT, '/e/x');
  await b.rmdir(ROOT, '/e');
  await assert.rejects(async () => a.stat(ROOT, '/e'), { code: 'ENOENT' });
  await a.unlink(ROOT, '/f');
  await b.open(ROOT, '/f', O_RDWR | O_CREAT, 0o666);
  assert.equal((await a.stat(ROOT, '/f')).size, 0);
  await a.close();
  assert.equal((await b.stat(ROOT, '/f')).size, 0);
  await b.close();
});
