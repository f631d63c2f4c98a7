import assert from 'node:assert/strict';
import * as nodeFs from 'node:fs';
import * as host from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { FsError } from '../base/fs-error.ts';
import type { Task } from '../base/task.ts';
import { ROOT } from '../vfs/caller.ts';
import { formatAclText } from '../vfs/posix-acl.ts';
import { Vfs } from '../vfs/vfs.ts';
import { copyFile, cp } from './copy-calls.ts';
import { opendir } from './dir.ts';
import { FdTable } from './fd-table.ts';
import { atOnce, promised, type VolumeState } from './state.ts';
import * as calls from './tree-calls.ts';

const major = Number.parseInt(process.versions.node, 10);

function newState(): VolumeState {
  return { vfs: new Vfs(new MemFs()), caller: ROOT, fds: new FdTable(), dev: 1 };
}

// One directory of the host and one of a volume, under the same path, so that errors can be compared as they are.
const root = nodeFs.mkdtempSync(join(tmpdir(), 'iomap-tree-'));
after(() => nodeFs.rmSync(root, { recursive: true }));

// Arguments are wrong on purpose in many calls.
type Call = (...args: unknown[]) => Promise<unknown>;
type Calls = Record<string, Call>;

function apiOf(state: VolumeState): Calls {
  const all = { ...calls, copyFile, cp, opendir } as unknown as Record<string, (state: VolumeState, ...args: unknown[]) => Task<unknown>>;
  return new Proxy({} as Calls, {
    get:
      (_, name: string) =>
      (...args: unknown[]) =>
        promised(() => (all[name] as (state: VolumeState, ...args: unknown[]) => Task<unknown>)(state, ...args)),
  });
}

async function outcome(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return { answer: shape(await call()) };
  } catch (error) {
    const { name, code, syscall, path, dest, errno, message, info } = error as Error & Record<string, unknown>;
    return { name, code, syscall, path, dest, errno, message: String(message).replace(/X{5,}$/, ''), info };
  }
}

/** What can be compared: no inode numbers, no times. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shape);
  if (value === null || typeof value !== 'object') return value;
  if (value instanceof Uint8Array) return [value.constructor.name, ...value];
  const some = value as Record<string, unknown> & { isFile(): boolean; isDirectory(): boolean; isSymbolicLink(): boolean };
  if ('parentPath' in some) return [some['parentPath'], shape(some['name']), some.isFile(), some.isDirectory(), some.isSymbolicLink()];
  if ('nlink' in some) {
    const { mode, uid, gid } = some;
    return { kind: some.constructor.name, mode, uid, gid, size: some.isFile() ? some['size'] : 0 };
  }
  return some.constructor.name;
}

let turn = 0;

/** Makes the same files on both sides and makes the same call. */
async function both(call: (api: Calls, dir: string) => Promise<unknown>): Promise<[ours: unknown, nodes: unknown]> {
  const dir = join(root, String(turn++));
  const state = newState();
  const api = apiOf(state);
  await api['mkdir']?.(dir, { recursive: true });
  await host.mkdir(dir);
  for (const side of [api, host as unknown as Calls]) {
    const { mkdir, symlink, chmod } = side as { mkdir: Call; symlink: Call; chmod: Call };
    await mkdir(`${dir}/dir/sub/deep`, { recursive: true });
    await mkdir(`${dir}/empty`);
    await symlink('nowhere', `${dir}/dangling`);
    await symlink('loop', `${dir}/loop`);
    await symlink('dir', `${dir}/link`);
    await symlink('../file', `${dir}/dir/flink`);
    for (const [name, text] of [
      ['file', 'hello'],
      ['other', 'x'],
      ['dir/a.js', 'a'],
      ['dir/sub/b.js', 'bb'],
      ['dir/sub/deep/c.ts', ''],
    ] as const) {
      if (side === api) await write(state, `${dir}/${name}`, text);
      else await host.writeFile(`${dir}/${name}`, text);
    }
    await chmod(`${dir}/file`, 0o640);
    await chmod(`${dir}/dir/sub`, 0o700);
  }
  const tree = async (walk: Calls): Promise<unknown[]> => {
    const out: unknown[] = [];
    const dirs = [dir];
    for (const at of dirs) {
      for (const entry of (await (walk['readdir'] as Call)(at, { withFileTypes: true })) as nodeFs.Dirent[]) {
        const path = join(at, entry.name);
        out.push([path, shape(await walk['lstat']?.(path)), entry.isSymbolicLink() ? await walk['readlink']?.(path) : '']);
        if (entry.isDirectory()) dirs.push(path);
      }
    }
    return out.sort((a, b) => (((a as string[])[0] as string) < ((b as string[])[0] as string) ? -1 : 1));
  };
  const ours = [await outcome(() => call(api, dir)), await tree(api)];
  const nodes = [await outcome(() => call(host as unknown as Calls, dir)), await tree(host as unknown as Calls)];
  return [ours, nodes];
}

async function write(state: VolumeState, path: string, text: string): Promise<void> {
  const { vfs, caller } = state;
  const file = await vfs.open(caller, path, nodeFs.constants.O_CREAT | nodeFs.constants.O_WRONLY | nodeFs.constants.O_TRUNC);
  const { IovIter } = await import('../base/iov-iter.ts');
  if (text !== '') await file.write(caller, new IovIter(new TextEncoder().encode(text)), 0);
  await file.close(caller);
}

/** [method, arguments]; '@' at the front of a text is the directory. */
type Case = [string, ...unknown[]];

const cases: Case[] = [
  ['stat', '@/file'],
  ['stat', '@/file', { bigint: true }],
  ['stat', '@/none'],
  ['stat', '@/file/x'],
  ['stat', '@/loop'],
  ['stat', ''],
  ['stat', 5],
  ['stat'],
  ['stat', 'a\0b'],
  ['stat', new URL('http://x/')],
  ['lstat', '@/loop'],
  ['lstat', '@/none'],
  ['access', '@/none'],
  ['access', '@/file'],
  ['access', '@/file', 9],
  ['access', '@/file', 'r'],
  ['access', '@/file', -1],
  ['access', '@/file', null],
  ['chmod', '@/none', 0o600],
  ['chmod', '@/file', 0o4711],
  ['chmod', '@/file', '600'],
  ['chmod', '@/file', '888'],
  ['chmod', '@/file', -1],
  ['chmod', '@/file'],
  ['lchmod', '@/file', 0o600],
  ['chown', '@/none', 0, 0],
  ['chown', '@/file', 7, 8],
  ['chown', '@/file', -1, 8],
  ['chown', '@/file', -2, 8],
  ['chown', '@/file', 1.5, 8],
  ['chown', '@/file', 1],
  ['lchown', '@/link', 7, 8],
  ['lchown', '@/none', 7, 8],
  ['lchown', '@/none', 'a', 8],
  ['utimes', '@/none', 1, 1],
  ['utimes', '@/file', 1, new Date(5)],
  ['utimes', '@/file'],
  ['utimes', '@/file', {}, 1],
  ['utimes', '@/file', Number.NaN, 1],
  ['lutimes', '@/none', 1, 1],
  ['lutimes', '@/dangling', 1, '2'],
  ['truncate', '@/none'],
  ['truncate', '@/file'],
  ['truncate', '@/file', 3],
  ['truncate', '@/file', 100],
  ['truncate', '@/file', -1],
  ['truncate', '@/file', 1.5],
  ['truncate', '@/file', 'x'],
  ['truncate', '@/dir', 1],
  ['statfs', '@/none'],
  ['readdir', '@/none'],
  ['readdir', '@/file'],
  ['readdir', '@/dir'],
  ['readdir', '@/link'],
  ['readdir', '@/dir', 'buffer'],
  ['readdir', '@/dir', 'hex'],
  ['readdir', '@/dir', 'bogus'],
  ['readdir', '@/dir', 5],
  ['readdir', '@/dir/', { withFileTypes: true }],
  ['readdir', '@/dir', { withFileTypes: true, encoding: 'buffer' }],
  ['readdir', '@/dir', { recursive: true, withFileTypes: true }],
  ['readdir', '@/dir', { recursive: true }],
  ['mkdir', '@/dir'],
  ['mkdir', '@/none/x'],
  ['mkdir', '@/new', 0o700],
  ['mkdir', '@/new', '0711'],
  ['mkdir', '@/new', { mode: '999' }],
  ['mkdir', '@/new', { recursive: 1 }],
  ['mkdir', '@/new', null],
  ['mkdir', '@/new/x/y', { recursive: true, mode: 0o700 }],
  ['mkdir', '@/new/./q/../r//s/', { recursive: true }],
  ['mkdir', '@/dir/sub', { recursive: true }],
  ['mkdir', '@/link', { recursive: true }],
  ['mkdir', '@/file', { recursive: true }],
  ['mkdir', '@/file/x/y', { recursive: true }],
  ['mkdir', '@/dangling', { recursive: true }],
  ['mkdir', '', { recursive: true }],
  ['mkdir', '/', { recursive: true }],
  ['mkdtemp', 5],
  ['mkdtemp', '@/a\0'],
  ['mkdtemp', '@/t', 'bogus'],
  ['rm', '@/none'],
  ['rm', '@/none', { force: true }],
  ['rm', '@/file'],
  ['rm', '@/link'],
  ['rm', '@/dir'],
  ['rm', '@/dir', { force: true }],
  ['rm', '@/dir', { recursive: true }],
  ['rm', '@/link', { recursive: true }],
  ['rm', '@/dangling', { recursive: true, force: true }],
  ['rm', '@/file/'],
  ['rm', '@/file/x'],
  ['rm', '@/file/x', { force: true }],
  ['rm', ''],
  ['rm', '@/file', 5],
  ['rm', '@/file', null],
  ['rm', '@/file', { force: 1 }],
  ['rm', '@/file', { recursive: 'a' }],
  ['rm', '@/file', { maxRetries: -1 }],
  ['rm', '@/file', { retryDelay: 'x' }],
  ['rmdir', '@/none'],
  ['rmdir', '@/dir'],
  ['rmdir', '@/file'],
  ['rmdir', '@/empty'],
  ['rmdir', '@/empty', 5],
  ['unlink', '@/none'],
  ['unlink', '@/dir'],
  ['unlink', '@/link'],
  ['rename', '@/none', '@/b'],
  ['rename', '@/file', '@/other'],
  ['rename', '@/dir', '@/dir/sub/x'],
  ['rename', '@/dir', '@/empty'],
  ['rename', '@/empty', '@/dir'],
  ['rename', '@/file', '@/dir'],
  ['rename', '@/file', 5],
  ['rename', 5, 6],
  ['link', '@/none', '@/b'],
  ['link', '@/file', '@/b'],
  ['link', '@/file', '@/dir'],
  ['link', '@/dir', '@/b'],
  ['link', null, '@/b'],
  ['link', '@/file', null],
  ['symlink', 'to', '@/file'],
  ['symlink', 'to', '@/none/x'],
  ['symlink', 'to', '@/new', 'dir'],
  ['symlink', '', '@/new'],
  ['symlink', 5, '@/new'],
  ['symlink', 'to', 6],
  ['readlink', '@/link'],
  ['readlink', '@/link', 'buffer'],
  ['readlink', '@/link', { encoding: 'hex' }],
  ['readlink', '@/link', 'bogus'],
  ['readlink', '@/file'],
  ['readlink', '@/none'],
  ['realpath', '@/link/../file'],
  ['realpath', '@/link/sub/..'],
  ['realpath', '@/link', 'buffer'],
  ['realpath', '@/none'],
  ['realpath', '@/loop'],
  ['realpath', '@/dangling'],
  ['realpath', '@/file/x'],
  ['realpath', '@/file/..'],
  ['realpath', ''],
  ['copyFile', '@/none', '@/b'],
  ['copyFile', '@/file', '@/b'],
  ['copyFile', '@/file', '@/other'],
  ['copyFile', '@/file', '@/other', 1],
  ['copyFile', '@/file', '@/b', 2],
  ['copyFile', '@/file', '@/dir'],
  ['copyFile', '@/file', '@/link', 1],
  ['copyFile', '@/file', '@/file'],
  ['copyFile', '@/file', '@/none/b'],
  ['copyFile', '@/file', '@/dangling'],
  ['copyFile', '@/dir', '@/b'],
  ['copyFile', '@/file', '@/b', 8],
  ['copyFile', '@/file', '@/b', -1],
  ['copyFile', '@/file', '@/b', 'a'],
  ['copyFile', '@/file', 6],
  ['copyFile', 5, 6],
  ['cp', '@/none', '@/b'],
  ['cp', '@/file', '@/b'],
  ['cp', '@/file', '@/other'],
  ['cp', '@/file', '@/other', { force: false }],
  ['cp', '@/file', '@/other', { force: false, errorOnExist: true }],
  ['cp', '@/file', '@/other', { errorOnExist: true }],
  ['cp', '@/file', '@/x/y/z'],
  ['cp', '@/file', '@/dir'],
  ['cp', '@/file', '@/file'],
  ['cp', '@/file', '@/dangling'],
  ['cp', '@/file', '@/link'],
  ['cp', '@/file', '@/b', { mode: 1 }],
  ['cp', '@/file', '@/b', { preserveTimestamps: true }],
  ['cp', '@/dir', '@/b'],
  ['cp', '@/dir', '@/b', { recursive: true }],
  ['cp', '@/dir/', '@/b/', { recursive: true }],
  ['cp', '@/dir', '@/b', { recursive: true, verbatimSymlinks: true }],
  ['cp', '@/dir', '@/b', { recursive: true, dereference: true }],
  ['cp', '@/dir', '@/empty', { recursive: true }],
  ['cp', '@/dir', '@/dir', { recursive: true }],
  ['cp', '@/dir', '@/dir/sub/n', { recursive: true }],
  ['cp', '@/dir', '@/link/n', { recursive: true }],
  ['cp', '@/dir', '@/file', { recursive: true }],
  ['cp', '@/dir', '@/link', { recursive: true }],
  ['cp', '@/dir', '@/b', { recursive: true, filter: (path: string) => !path.endsWith('.js') }],
  ['cp', '@/file', '@/b', { filter: async () => false }],
  ['cp', '@/link', '@/b'],
  ['cp', '@/link', '@/b', { verbatimSymlinks: true }],
  ['cp', '@/link', '@/b', { recursive: true, dereference: true }],
  ['cp', '@/link', '@/empty'],
  ['cp', '@/link', '@/file'],
  ['cp', '@/link', '@/dangling'],
  ['cp', '@/dangling', '@/b'],
  ['cp', '@/dangling', '@/b', { dereference: true }],
  ['cp', '@/file/x', '@/b'],
  ['cp', '@/file', '@/other/x/y'],
  ['cp', '@/file', '@/b', { dereference: true, verbatimSymlinks: true }],
  ['cp', '@/file', '@/b', { filter: 5 }],
  ['cp', '@/file', '@/b', { recursive: 1 }],
  ['cp', '@/file', '@/b', { mode: 99 }],
  ['cp', '@/file', '@/b', { mode: 'a' }],
  ['cp', '@/file', '@/b', 5],
  ['cp', '@/file', '@/b', null],
  ['cp', 5, '@/b'],
  ['cp', '@/file', 5],
  ['opendir', '@/none'],
  ['opendir', '@/file'],
  ['opendir', '@/dir', 5],
  ['opendir', '@/dir', 'bogus'],
  ['opendir', 5],
];

/** What only the current Node does as we do. */
const current: Case[] = [
  ['stat', '@/none', { throwIfNoEntry: false }],
  ['stat', '@/file/x', { throwIfNoEntry: false }],
  ['stat', '@/file', null],
  ['stat', '@/file', 5],
  ['readdir', '@/dir', { recursive: true, encoding: 'buffer' }],
  ['rmdir', '@/empty', { recursive: true }],
  ['symlink', 'to', '@/new', 'bogus'],
  ['symlink', 'to', '@/new', 5],
  ['cp', '@/dir', '@/empty', { recursive: true, force: false, errorOnExist: true }],
];

for (const [name, ...args] of [...cases, ...(major >= 26 ? current : [])]) {
  const shown = args.map((arg) => (typeof arg === 'number' ? String(arg) : JSON.stringify(arg))).join(', ');
  test(`${name}(${shown}) does what node:fs/promises does`, async () => {
    const at = (dir: string) => args.map((arg) => (typeof arg === 'string' ? arg.replace(/^@/, dir) : arg));
    const [ours, nodes] = await both((api, dir) => (api[name] as Call)(...at(dir)));
    assert.deepEqual(ours, nodes);
  });
}

test('mkdtemp makes a directory that was not there, and looks for another name where one is', async () => {
  const state = newState();
  const numbers = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999];
  const random = () => numbers.shift() ?? 0;
  assert.equal(await promised(() => calls.mkdtemp(state, '/t-', {}, random)), '/t-aaaaaa');
  assert.equal(await promised(() => calls.mkdtemp(state, '/t-', 'utf8', random)), '/t-999999');
  assert.equal((await promised(() => calls.stat(state, '/t-999999')))?.mode, 0o040700);
  await assert.rejects(
    promised(() => calls.mkdtemp(state, '/none/t-')),
    { code: 'ENOENT', syscall: 'mkdtemp', path: '/none/t-XXXXXX' },
  );
});

test('a temporary directory removes itself with what is in it', async () => {
  const state = newState();
  const dir = await promised(() => calls.mkdtempDisposable(state, '/t-'));
  await write(state, `${dir.path}/file`, 'x');
  await dir[Symbol.asyncDispose]();
  await dir.remove();
  const second = atOnce(calls.mkdtempDisposableSync(state, '/t-', 'hex'));
  second[Symbol.dispose]();
  assert.deepEqual(await promised(() => calls.readdir(state, '/')), []);
});

test('names that are no UTF-8 are listed by their bytes and removed', async () => {
  const state = newState();
  const bytes = Buffer.from([0x2f, 0x62, 0xff, 0x78]);
  await promised(() => calls.mkdir(state, bytes));
  await promised(() => calls.mkdir(state, '/b\u{1f600}'));
  await promised(() => calls.mkdir(state, '/b\uffee'));
  const names = (await promised(() => calls.readdir(state, '/', 'buffer'))) as Uint8Array[];
  assert.deepEqual(
    names.map((name) => Buffer.from(name).toString('hex')),
    ['62efbfae', '62f09f9880', '62ff78'],
  );
  await promised(() => calls.rmdir(state, bytes));
  assert.equal((await promised(() => calls.readdir(state, '/'))).length, 2);
});

test('rm -r removes links, not what they lead to, and all that is below', async () => {
  const state = newState();
  await promised(() => calls.mkdir(state, '/keep/inner', { recursive: true }));
  await promised(() => calls.mkdir(state, '/gone/a/b', { recursive: true }));
  for (let i = 0; i < 3000; i++) await promised(() => calls.mkdir(state, `/gone/a/${i}`));
  await promised(() => calls.symlink(state, '/keep', '/gone/a/link'));
  await promised(() => calls.rm(state, '/gone', { recursive: true }));
  assert.deepEqual(await promised(() => calls.readdir(state, '/', { recursive: true })), ['keep', 'keep/inner']);
});

test('rm tries again what is busy, as often as it is told', async () => {
  const state = newState();
  await promised(() => calls.mkdir(state, '/dir'));
  let left = 2;
  const { vfs } = state;
  const rmdir: Vfs['rmdir'] = (...args) => {
    if (left-- > 0) throw new FsError('EBUSY', 'rmdir');
    return vfs.rmdir(...args);
  };
  const busy = new Proxy(vfs, { get: (_, name: keyof Vfs) => (name === 'rmdir' ? rmdir : (vfs[name] as () => void).bind?.(vfs)) });
  const each = { ...state, vfs: busy };
  await assert.rejects(
    promised(() => calls.rm(each, '/dir', { recursive: true })),
    { code: 'EBUSY', syscall: 'rmdir', path: '/dir' },
  );
  left = 2;
  await promised(() => calls.rm(each, '/dir', { recursive: true, maxRetries: 2, retryDelay: 0 }));
  assert.deepEqual(await promised(() => calls.readdir(state, '/')), []);
});

test('rename can refuse to replace, exchange, and leave a whiteout', async () => {
  const state = newState();
  await write(state, '/a', 'a');
  await promised(() => calls.mkdir(state, '/b'));
  await assert.rejects(
    promised(() => calls.rename(state, '/a', '/b', { noReplace: true })),
    { code: 'EEXIST', syscall: 'rename', path: '/a', dest: '/b' },
  );
  await promised(() => calls.rename(state, '/a', '/b', { exchange: true }));
  assert.equal((await promised(() => calls.lstat(state, '/a')))?.isDirectory(), true);
  await promised(() => calls.rename(state, '/b', '/c', { whiteout: true }));
  assert.equal((await promised(() => calls.lstat(state, '/b')))?.isCharacterDevice(), true);
});

test('extended attributes are set, listed and removed by path', async () => {
  const state = newState();
  await write(state, '/a', 'a');
  await promised(() => calls.setXattr(state, '/a', 'user.x', 'value', { create: true }));
  await assert.rejects(
    promised(() => calls.setXattr(state, '/a', 'user.x', 'other', { create: true })),
    { code: 'EEXIST', syscall: 'setxattr', path: '/a' },
  );
  await assert.rejects(
    promised(() => calls.setXattr(state, '/a', 'user.y', 'other', { replace: true })),
    { code: 'ENODATA' },
  );
  assert.equal(String(await promised(() => calls.getXattr(state, '/a', 'user.x'))), 'value');
  assert.equal(await promised(() => calls.getXattr(state, '/a', 'user.y')), undefined);
  assert.deepEqual(await promised(() => calls.listXattr(state, '/a')), ['user.x']);
  await promised(() => calls.removeXattr(state, '/a', 'user.x'));
  await assert.rejects(
    promised(() => calls.removeXattr(state, '/a', 'user.x')),
    { code: 'ENODATA', syscall: 'removexattr' },
  );
});

test('an access list is that of the mode until one is set', async () => {
  const state = newState();
  await promised(() => calls.mkdir(state, '/d', 0o750));
  assert.equal(formatAclText((await promised(() => calls.getAcl(state, '/d'))) ?? []), 'user::rwx,group::r-x,other::---');
  assert.equal(await promised(() => calls.getAcl(state, '/d', { default: true })), undefined);
  const text = 'user::rwx,user:7:r-x,group::r-x,mask::r-x,other::---';
  await promised(() => calls.setAcl(state, '/d', text));
  await promised(() => calls.setAcl(state, '/d', text, { default: true }));
  assert.equal(formatAclText((await promised(() => calls.getAcl(state, '/d'))) ?? []), text);
  assert.equal(formatAclText((await promised(() => calls.getAcl(state, '/d', { default: true }))) ?? []), text);
  await promised(() => calls.setAcl(state, '/d', undefined, { default: true }));
  assert.equal(await promised(() => calls.getAcl(state, '/d', { default: true })), undefined);
});

test('mknod makes special files', async () => {
  const state = newState();
  await promised(() => calls.mknod(state, '/null', { type: 'char', mode: 0o666, major: 1, minor: 3 }));
  const attr = await promised(() => calls.lstat(state, '/null'));
  assert.equal(attr?.isCharacterDevice(), true);
  assert.equal(attr?.rdev, 0x103);
  assert.equal(attr?.mode, 0o020644);
  await assert.rejects(
    promised(() => calls.mknod(state, '/x', { type: 'file' as never })),
    { code: 'ERR_INVALID_ARG_VALUE' },
  );
});

test('realpathLexical fails where lstat or stat fails', async () => {
  const state = newState();
  await promised(() => calls.mkdir(state, '/d/e', { recursive: true }));
  await promised(() => calls.symlink(state, '/d/e', '/link'));
  await promised(() => calls.symlink(state, 'nowhere', '/dangling'));
  assert.equal(atOnce(calls.realpathLexical(state, '/link/../link')), '/d/e');
  assert.equal(atOnce(calls.realpathLexical(state, '')), '/');
  assert.throws(() => atOnce(calls.realpathLexical(state, '/none/x')), { code: 'ENOENT', syscall: 'lstat', path: '/none' });
  assert.throws(() => atOnce(calls.realpathLexical(state, '/dangling')), { code: 'ENOENT', syscall: 'stat', path: '/dangling' });
});

test('a signal that is aborted ends what takes options', async () => {
  const state = newState();
  const signal = AbortSignal.abort();
  const tasks = [
    () => calls.stat(state, '/', { signal }),
    () => calls.readdir(state, '/', { signal }),
    () => calls.mkdir(state, '/a', { signal, recursive: true }),
    () => calls.rm(state, '/a', { signal, recursive: true }),
    () => calls.rename(state, '/a', '/b', { signal }),
    () => calls.statfs(state, '/', { signal }),
    () => calls.syncfs(state, { signal }),
    () => calls.getXattr(state, '/', 'user.x', { signal }),
  ] as (() => Task<unknown>)[];
  for (const task of tasks) await assert.rejects(promised(task), { name: 'AbortError', code: 'ABORT_ERR' });
});

test('exists answers false to whatever is wrong', () => {
  const state = newState();
  assert.equal(atOnce(calls.exists(state, '/')), true);
  assert.equal(atOnce(calls.exists(state, '/none')), false);
  assert.equal(atOnce(calls.exists(state, 5 as never)), false);
});
