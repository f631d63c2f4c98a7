import { Buffer } from 'node:buffer';
import type { Case, Cases, Untyped } from './scene.ts';

// Arguments that no filesystem gets to see: each function with each kind of wrong path, and with wrong options.

const NUL = '\0';

/** What is no path, and no descriptor either. */
const noPaths: readonly Untyped[] = [
  undefined,
  null,
  1.5,
  true,
  {},
  [],
  ['file'],
  () => 'file',
  new Date(0),
  new Uint16Array(2),
  `a${NUL}b`,
  Buffer.from(`a${NUL}b`),
  new Uint8Array([0x61, 0]),
];

const noUrls: readonly Untyped[] = [
  new URL('http://host/file'),
  new URL('file://host/file'),
  new URL('file:///a%2fb'),
  new URL('file:///a%00b'),
  { href: 'file:///file', protocol: 'file:' },
];

/** Each function with a path in one of its arguments. */
const withPath: Record<string, (fs: Untyped, path: Untyped, at: (name: string) => string) => unknown> = {
  access: (fs, path) => fs.access(path),
  appendFile: (fs, path) => fs.appendFile(path, 'x'),
  chmod: (fs, path) => fs.chmod(path, 0o644),
  chown: (fs, path) => fs.chown(path, 0, 0),
  'copyFile, source': (fs, path, at) => fs.copyFile(path, at('new')),
  'copyFile, destination': (fs, path, at) => fs.copyFile(at('file'), path),
  'cp, source': (fs, path, at) => fs.cp(path, at('new')),
  'cp, destination': (fs, path, at) => fs.cp(at('file'), path),
  lchown: (fs, path) => fs.lchown(path, 0, 0),
  'link, existing': (fs, path, at) => fs.link(path, at('new')),
  'link, new': (fs, path, at) => fs.link(at('file'), path),
  lstat: (fs, path) => fs.lstat(path),
  lutimes: (fs, path) => fs.lutimes(path, 1, 1),
  mkdir: (fs, path) => fs.mkdir(path),
  'mkdir, recursive': (fs, path) => fs.mkdir(path, { recursive: true }),
  mkdtemp: (fs, path) => fs.mkdtemp(path),
  open: (fs, path) => fs.open(path),
  opendir: (fs, path) => fs.opendir(path),
  readFile: (fs, path) => fs.readFile(path),
  readdir: (fs, path) => fs.readdir(path),
  'readdir, recursive': (fs, path) => fs.readdir(path, { recursive: true }),
  readlink: (fs, path) => fs.readlink(path),
  realpath: (fs, path) => fs.realpath(path),
  'rename, old': (fs, path, at) => fs.rename(path, at('new')),
  'rename, new': (fs, path, at) => fs.rename(at('file'), path),
  rm: (fs, path) => fs.rm(path),
  rmdir: (fs, path) => fs.rmdir(path),
  stat: (fs, path) => fs.stat(path),
  statfs: (fs, path) => fs.statfs(path),
  'symlink, target': (fs, path, at) => fs.symlink(path, at('new')),
  'symlink, path': (fs, path) => fs.symlink('file', path),
  truncate: (fs, path) => fs.truncate(path, 1),
  unlink: (fs, path) => fs.unlink(path),
  utimes: (fs, path) => fs.utimes(path, 1, 1),
  writeFile: (fs, path) => fs.writeFile(path, 'x'),
};

/** Options are undefined, an encoding, or an object. */
const noOptions: readonly Untyped[] = [null, 1, true, Symbol('options'), [], 'no-encoding', ''];
const noEncodings: readonly Untyped[] = [null, 1, true, {}, 'no-encoding', '', 'UTF8', 'buffer'];

/** Each function that takes an encoding, as options or in them. */
const withEncoding: Record<string, (fs: Untyped, at: (name: string) => string, options: Untyped) => unknown> = {
  appendFile: (fs, at, options) => fs.appendFile(at('file'), '6162', options),
  opendir: async (fs, at, options) => (await fs.opendir(at('dir'), options)).path,
  readFile: (fs, at, options) => fs.readFile(at('file'), options),
  readdir: async (fs, at, options) => (await fs.readdir(at('dir/sub'), options)).length,
  readlink: (fs, at, options) => fs.readlink(at('link'), options),
  realpath: (fs, at, options) => fs.realpath(at('link'), options),
  writeFile: (fs, at, options) => fs.writeFile(at('file'), '6162', options),
};

/** Each function whose options are an object, with one member that has to be of some type. */
const withMember: Record<string, (fs: Untyped, at: (name: string) => string, value: Untyped) => unknown> = {
  'cp, dereference': (fs, at, dereference) => fs.cp(at('file'), at('new'), { dereference }),
  'cp, errorOnExist': (fs, at, errorOnExist) => fs.cp(at('file'), at('new'), { errorOnExist }),
  'cp, filter': (fs, at, filter) => fs.cp(at('file'), at('new'), { filter }),
  'cp, force': (fs, at, force) => fs.cp(at('file'), at('new'), { force }),
  'cp, mode': (fs, at, mode) => fs.cp(at('file'), at('new'), { mode }),
  'cp, preserveTimestamps': (fs, at, preserveTimestamps) => fs.cp(at('file'), at('new'), { preserveTimestamps }),
  'cp, recursive': (fs, at, recursive) => fs.cp(at('file'), at('new'), { recursive }),
  'cp, verbatimSymlinks': (fs, at, verbatimSymlinks) => fs.cp(at('file'), at('new'), { verbatimSymlinks }),
  'mkdir, mode': (fs, at, mode) => fs.mkdir(at('new'), { mode }),
  'mkdir, recursive': (fs, at, recursive) => fs.mkdir(at('new'), { recursive }),
  'readFile, flag': (fs, at, flag) => fs.readFile(at('file'), { flag }),
  'rm, force': (fs, at, force) => fs.rm(at('file'), { force }),
  'rm, maxRetries': (fs, at, maxRetries) => fs.rm(at('file'), { maxRetries }),
  'rm, recursive': (fs, at, recursive) => fs.rm(at('file'), { recursive }),
  'rm, retryDelay': (fs, at, retryDelay) => fs.rm(at('file'), { retryDelay }),
  'stat, bigint': async (fs, at, bigint) => typeof (await fs.stat(at('file'), { bigint })).size,
  'statfs, bigint': async (fs, at, bigint) => typeof (await fs.statfs(at('file'), { bigint })).bsize,
  'writeFile, flag': (fs, at, flag) => fs.writeFile(at('file'), 'x', { flag }),
  'writeFile, flush': (fs, at, flush) => fs.writeFile(at('file'), 'x', { flush }),
  'writeFile, mode': (fs, at, mode) => fs.writeFile(at('new'), 'x', { mode }),
};
const noMembers: readonly Untyped[] = [null, -1, 1.5, 2 ** 32, NaN, 'yes', '9', {}, 10n];

/** Each function with a number that has a range. */
const withNumber: Record<string, (fs: Untyped, at: (name: string) => string, value: Untyped) => unknown> = {
  'access, mode': (fs, at, value) => fs.access(at('file'), value),
  'chmod, mode': (fs, at, value) => fs.chmod(at('file'), value),
  'chown, uid': (fs, at, value) => fs.chown(at('file'), value, 0),
  'chown, gid': (fs, at, value) => fs.chown(at('file'), 0, value),
  'copyFile, mode': (fs, at, value) => fs.copyFile(at('file'), at('new'), value),
  'lchown, uid': (fs, at, value) => fs.lchown(at('link'), value, 0),
  'lchown, gid': (fs, at, value) => fs.lchown(at('link'), 0, value),
  'mkdir, mode': (fs, at, value) => fs.mkdir(at('new'), value),
  'open, flags': async (fs, at, value) => typeof (await fs.open(at('file'), value)),
  'open, mode': async (fs, at, value) => typeof (await fs.open(at('new'), 'w', value)),
  'truncate, length': async (fs, at, value) => {
    await fs.truncate(at('file'), value);
    const { size } = await fs.stat(at('file'));
    await fs.truncate(at('file'), 0);
    return size;
  },
};
const noNumbers: readonly Untyped[] = [
  undefined,
  null,
  -1,
  -2,
  1.5,
  8,
  0o10000,
  2 ** 31,
  2 ** 32,
  NaN,
  Infinity,
  '7',
  '',
  'x',
  {},
  true,
  10n,
];

const noTimes: readonly Untyped[] = [undefined, null, NaN, Infinity, -Infinity, 'x', '', {}, true, 10n, Symbol('time')];

/** All bits that there are: what open makes of them is the affair of each kernel. */
const isOddFlag = (name: string, value: unknown) => /, flags?$/.test(name) && typeof value === 'number' && value < 0;

function rows<F>(functions: Record<string, F>, title: (name: string) => string, test: (f: F, name: string) => Case): Cases {
  return Object.fromEntries(Object.entries(functions).map(([name, f]) => [title(name), test(f, name)]));
}

export const argumentCases: Cases = {
  ...rows(
    withPath,
    (name) => `${name}: what is no path`,
    (f) => (t) => t.each(noPaths, (path) => f(t.fs, path, t.at)),
  ),
  ...rows(
    withPath,
    (name) => `${name}: URLs that are no path`,
    (f) => (t) => t.each(noUrls, (path) => f(t.fs, path, t.at)),
  ),
  ...rows(
    // An empty prefix is a right one: it makes a directory in the current one.
    Object.fromEntries(Object.entries(withPath).filter(([name]) => name !== 'mkdtemp')),
    (name) => `${name}: empty path`,
    (f) => (t) => f(t.fs, '', t.at),
  ),
  ...rows(
    withPath,
    (name) => `${name}: name of 256 bytes`,
    (f) => (t) => f(t.fs, t.at('n'.repeat(256)), t.at),
  ),
  ...rows(
    withPath,
    (name) => `${name}: path of 5000 bytes`,
    (f) => (t) => f(t.fs, t.at('hollow/../'.repeat(500) + 'file'), t.at),
  ),
  ...rows(
    withPath,
    (name) => `${name}: path through a file`,
    (f) => (t) => f(t.fs, t.at('file/x'), t.at),
  ),
  ...rows(
    withPath,
    (name) => `${name}: path through a missing directory`,
    (f) => (t) => f(t.fs, t.at('missing/x'), t.at),
  ),
  ...rows(
    withPath,
    (name) => `${name}: path through a symbolic link to itself`,
    (f) => (t) => f(t.fs, t.at('loop/x'), t.at),
  ),
  ...rows(
    withEncoding,
    (name) => `${name}: what is no options`,
    (f) => (t) => t.each(noOptions, (options) => f(t.fs, t.at, options)),
  ),
  ...rows(
    withEncoding,
    (name) => `${name}: what is no encoding`,
    (f) => (t) => t.each(noEncodings, (encoding) => f(t.fs, t.at, { encoding })),
  ),
  ...rows(
    withMember,
    (name) => `${name}: what is no value of it`,
    (f, name) => (t) =>
      t.each(
        noMembers.filter((value) => !isOddFlag(name, value)),
        (value) => f(t.fs, t.at, value),
      ),
  ),
  ...rows(
    withNumber,
    (name) => `${name}: what is no value of it`,
    (f, name) => (t) =>
      t.each(
        // Node's process itself aborts on some modes past 2 ** 31.
        noNumbers.filter((value) => !(name.endsWith(', mode') && value === 2 ** 31) && !isOddFlag(name, value)),
        (value) => f(t.fs, t.at, value),
      ),
  ),
  'stat: bigint and symbol are no path': (t) => t.each([10n, Symbol('path')], (path) => t.fs.stat(path)),
  'utimes: a Date that is none': (t) => t.fs.utimes(t.at('file'), new Date(NaN), new Date(NaN)),
  'lutimes: a Date that is none': (t) => t.fs.lutimes(t.at('link'), new Date(NaN), new Date(NaN)),
  'utimes: what is no access time': (t) => t.each(noTimes, (time) => t.fs.utimes(t.at('file'), time, 1)),
  'utimes: what is no modification time': (t) => t.each(noTimes, (time) => t.fs.utimes(t.at('file'), 1, time)),
  'lutimes: what is no access time': (t) => t.each(noTimes, (time) => t.fs.lutimes(t.at('link'), time, 1)),
  'lutimes: what is no modification time': (t) => t.each(noTimes, (time) => t.fs.lutimes(t.at('link'), 1, time)),
  'rm: what is no options': (t) => t.each([null, 1, 'x', true, []], (options) => t.fs.rm(t.at('missing'), options)),
  'rmdir: what is no options': (t) => t.each([null, 1, 'x', true, []], (options) => t.fs.rmdir(t.at('missing'), options)),
  'cp: what is no options': (t) => t.each([null, 1, 'x', true, []], (options) => t.fs.cp(t.at('file'), t.at('new'), options)),
  'stat: what is no options': (t) => t.each([null, 1, 'x', true, []], async (options) => (await t.fs.stat(t.at('file'), options)).size),
  'lstat: what is no options': (t) => t.each([null, 1, 'x', true, []], async (options) => (await t.fs.lstat(t.at('link'), options)).size),
  'mkdtemp: what is no options': (t) =>
    t.each([null, 1, true, [], 'no-encoding', '', { encoding: 'no-encoding' }], async (options) =>
      t.fs.rmdir(await t.fs.mkdtemp(t.at('new'), options)),
    ),
  'symlink: what is no type': (t) => t.each([null, 'x', 1, {}, ''], (type) => t.fs.symlink('file', t.at('new'), type)),
  'writeFile: what is no data': (t) =>
    t.each([undefined, null, 1, 10n, true, Symbol('data'), {}, () => 1, new ArrayBuffer(2), new Date(0)], (data) =>
      t.fs.writeFile(t.at('new'), data),
    ),
  'appendFile: what is no data': (t) =>
    t.each([undefined, null, 1, 10n, true, Symbol('data'), {}, () => 1, new ArrayBuffer(2)], (data) => t.fs.appendFile(t.at('new'), data)),
};
