import { Buffer } from 'node:buffer';
import { constants } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Cases, Scene } from './scene.ts';

// Functions that take a path and say or change what stands in the tree.

/** Types of the tree's names that stat follows, and of those that it cannot follow. */
const names = [
  'file',
  'exec',
  'dir',
  'link',
  'dirlink',
  'dangling',
  'loop',
  'missing',
  'file/',
  'dir/',
  'link/',
  'dirlink/',
  'dir/.',
  'dir/..',
  'file/.',
  'dir//a',
];

/** Times to the millisecond: what is left of a finer one depends on how often it went through a floating point number. */
const times = async (t: Scene, name: string) => {
  const { atimeMs, mtimeMs } = await t.fs.lstat(t.at(name));
  const { atimeNs, mtimeNs } = await t.fs.lstat(t.at(name), { bigint: true });
  return [atimeMs, mtimeMs, Number(atimeNs) / 1e6, Number(mtimeNs) / 1e6].map(Math.round);
};

/** Times that a file can be given. */
const someTimes = {
  zero: 0,
  'a second': 1,
  'a fraction': 1234.5678,
  milliseconds: 1700000000.123,
  'a string': '1700000000',
  'a string with a fraction': '123.5',
  'a Date': new Date(1_600_000_000_123),
  'a Date before 1970': new Date(-1500),
  'after 2038': 4_294_967_296,
};

export const pathCases: Cases = {
  ...Object.fromEntries(names.map((name) => [`stat: ${name}`, (t: Scene) => t.fs.stat(t.at(name))])),
  ...Object.fromEntries(names.map((name) => [`lstat: ${name}`, (t: Scene) => t.fs.lstat(t.at(name))])),
  'stat: bigint': (t) => t.fs.stat(t.at('file'), { bigint: true }),
  'lstat: bigint of a symbolic link': (t) => t.fs.lstat(t.at('link'), { bigint: true }),
  'stat: path as a Buffer': (t) => t.fs.stat(Buffer.from(t.at('file'))),
  'stat: path as a Uint8Array': (t) => t.fs.stat(new Uint8Array(Buffer.from(t.at('file')))),
  'stat: path as a URL': (t) => t.fs.stat(pathToFileURL(t.at('file'))),
  'stat: missing, as a Buffer': (t) => t.fs.stat(Buffer.from(t.at('missing'))),
  'stat: missing, as a URL': (t) => t.fs.stat(pathToFileURL(t.at('missing'))),
  'stat: missing, without an error': (t) => t.fs.stat(t.at('missing'), { throwIfNoEntry: false }),
  'stat: through a file, without an error': (t) => t.fs.stat(t.at('file/x'), { throwIfNoEntry: false }),
  'stat: through a loop, without an error': (t) => t.fs.stat(t.at('loop'), { throwIfNoEntry: false }),
  'lstat: missing, without an error': (t) => t.fs.lstat(t.at('missing'), { throwIfNoEntry: false }),
  'stat: dates are the times in milliseconds': async (t) => {
    await t.fs.utimes(t.at('file'), 1000.25, 2000.75);
    const { atime, mtime, atimeMs, mtimeMs } = await t.fs.stat(t.at('file'));
    return { atime, mtime, atimeMs, mtimeMs };
  },
  'stat: dates can be set': async (t) => {
    const stats = await t.fs.stat(t.at('file'));
    stats.atime = new Date(5);
    return stats.atime;
  },
  'stat: link count of a file with two names': async (t) => {
    await t.fs.link(t.at('file'), t.at('new'));
    const [one, two] = [await t.fs.stat(t.at('file')), await t.fs.stat(t.at('new'))];
    return { nlink: one.nlink, same: one.ino === two.ino && one.dev === two.dev };
  },
  'stat: blocks count 512 bytes': async (t) => {
    await t.fs.writeFile(t.at('new'), Buffer.alloc(1 << 16));
    return (await t.fs.stat(t.at('new'))).blocks >= 128;
  },

  ...Object.fromEntries(names.map((name) => [`access: ${name}`, (t: Scene) => t.fs.access(t.at(name))])),
  'access: each mode of a plain file': (t) => t.each([0, 1, 2, 3, 4, 5, 6, 7], (mode) => t.fs.access(t.at('file'), mode)),
  'access: each mode of an executable': (t) => t.each([0, 1, 2, 3, 4, 5, 6, 7], (mode) => t.fs.access(t.at('exec'), mode)),
  'access: each mode of a directory': (t) => t.each([0, 1, 2, 3, 4, 5, 6, 7], (mode) => t.fs.access(t.at('dir'), mode)),
  'access: constants': (t) => {
    const { F_OK, R_OK, W_OK, X_OK } = t.fs.constants;
    return [F_OK, R_OK, W_OK, X_OK];
  },
  'constants: those that node:fs has for files': (t) =>
    Object.keys(constants)
      .filter((name) => /^(?:O_|S_|[FRWX]_OK|UV_DIRENT_|COPYFILE_)/.test(name))
      .map((name) => [name, t.fs.constants[name]]),

  ...Object.fromEntries(names.map((name) => [`realpath: ${name}`, (t: Scene) => t.fs.realpath(t.at(name))])),
  'realpath: dots and slashes': (t) =>
    t.each(['./file', 'dir/../file', 'dir/./sub//c', 'dirlink/../file', 'dirlink/sub/../a', '../oracle/file'], (name) =>
      t.fs.realpath(t.at(name)),
    ),
  'realpath: absolute target': async (t) => {
    await t.fs.symlink(t.at('dir/sub'), t.at('new'));
    return t.fs.realpath(t.at('new/c'));
  },
  'realpath: chain of links': async (t) => {
    for (let i = 0; i < 10; i++) await t.fs.symlink(i === 0 ? 'dir' : `chain${i - 1}`, t.at(`chain${i}`));
    return t.fs.realpath(t.at('chain9/a'));
  },
  'stat: 40 links follow, 41 do not': async (t) => {
    for (let i = 0; i < 41; i++) await t.fs.symlink(i === 0 ? 'file' : `chain${i - 1}`, t.at(`chain${i}`));
    return t.outcomes(
      () => t.fs.stat(t.at('chain39')),
      () => t.fs.stat(t.at('chain40')),
    );
  },
  'realpath: encodings': (t) =>
    t.each(['utf8', 'buffer', 'hex', 'latin1', { encoding: 'buffer' }, { encoding: 'base64' }], async (encoding) => {
      const path = await t.fs.realpath(t.at('link'), encoding);
      return [typeof path, path.length > 0];
    }),

  ...Object.fromEntries(names.map((name) => [`readlink: ${name}`, (t: Scene) => t.fs.readlink(t.at(name))])),
  'readlink: encodings': (t) =>
    t.each(
      ['utf8', 'buffer', 'hex', 'latin1', 'base64', 'utf16le', { encoding: 'buffer' }, { encoding: 'base64url' }, undefined],
      (encoding) => t.fs.readlink(t.at('link'), encoding),
    ),
  'readlink: bytes that are no UTF-8': async (t) => {
    await t.fs.symlink(Buffer.from([0x61, 0xff, 0xfe]), t.at('new'));
    return [await t.fs.readlink(t.at('new')), await t.fs.readlink(t.at('new'), 'buffer'), await t.fs.readlink(t.at('new'), 'latin1')];
  },

  'symlink: new': (t) => t.fs.symlink('file', t.at('new')),
  'symlink: target as a Buffer': (t) => t.fs.symlink(Buffer.from('file'), t.at('new')),
  'symlink: target as a URL': async (t) => {
    await t.fs.symlink(pathToFileURL(t.at('file')), t.at('new'));
    return t.fs.readlink(t.at('new'));
  },
  'symlink: each type': (t) => t.each(['dir', 'file', 'junction', undefined], (type) => t.fs.symlink('file', t.at(`new-${type}`), type)),
  'symlink: over a file': (t) => t.fs.symlink('other', t.at('file')),
  'symlink: over a dangling link': (t) => t.fs.symlink('other', t.at('dangling')),
  'symlink: empty target': (t) => t.fs.symlink('', t.at('new')),
  'symlink: target of 4095 bytes, and of 4096': (t) =>
    t.each([4095, 4096], (length) => t.fs.symlink('t'.repeat(length), t.at(`new${length}`))),
  'symlink: trailing slash': (t) => t.fs.symlink('file', t.at('new/')),

  'link: new': (t) => t.fs.link(t.at('file'), t.at('new')),
  'link: into a directory': (t) => t.fs.link(t.at('file'), t.at('dir/new')),
  'link: over a file': (t) => t.fs.link(t.at('file'), t.at('other')),
  'link: missing': (t) => t.fs.link(t.at('missing'), t.at('new')),
  'link: directory': (t) => t.fs.link(t.at('dir'), t.at('new')),
  'link: symbolic link is not followed': (t) => t.fs.link(t.at('link'), t.at('new')),
  'link: dangling link': (t) => t.fs.link(t.at('dangling'), t.at('new')),
  'link: trailing slash': (t) => t.fs.link(t.at('file'), t.at('new/')),
  'link: to itself': (t) => t.fs.link(t.at('file'), t.at('file')),

  'rename: new name': (t) => t.fs.rename(t.at('file'), t.at('new')),
  'rename: over a file': (t) => t.fs.rename(t.at('file'), t.at('other')),
  'rename: into a directory': (t) => t.fs.rename(t.at('file'), t.at('dir/file')),
  'rename: to itself': (t) => t.fs.rename(t.at('file'), t.at('file')),
  'rename: missing': (t) => t.fs.rename(t.at('missing'), t.at('new')),
  'rename: missing to itself': (t) => t.fs.rename(t.at('missing'), t.at('missing')),
  'rename: into a missing directory': (t) => t.fs.rename(t.at('file'), t.at('missing/new')),
  'rename: below a file': (t) => t.fs.rename(t.at('file'), t.at('other/new')),
  'rename: directory': (t) => t.fs.rename(t.at('dir'), t.at('new')),
  'rename: directory over an empty one': (t) => t.fs.rename(t.at('dir'), t.at('hollow')),
  'rename: directory over a full one': (t) => t.fs.rename(t.at('hollow'), t.at('dir')),
  'rename: directory over a file': (t) => t.fs.rename(t.at('dir'), t.at('file')),
  'rename: file over a directory': (t) => t.fs.rename(t.at('file'), t.at('hollow')),
  'rename: directory into itself': (t) => t.fs.rename(t.at('dir'), t.at('dir/new')),
  'rename: directory into its child': (t) => t.fs.rename(t.at('dir'), t.at('dir/sub/new')),
  'rename: directory over its ancestor': (t) => t.fs.rename(t.at('dir/sub'), t.at('dir')),
  'rename: symbolic link itself': (t) => t.fs.rename(t.at('link'), t.at('new')),
  'rename: over a symbolic link': (t) => t.fs.rename(t.at('file'), t.at('dirlink')),
  'rename: directory over a symbolic link to one': (t) => t.fs.rename(t.at('hollow'), t.at('dirlink')),
  'rename: file with a trailing slash': (t) => t.fs.rename(t.at('file/'), t.at('new')),
  'rename: file to a trailing slash': (t) => t.fs.rename(t.at('file'), t.at('new/')),
  'rename: directory to a trailing slash': (t) => t.fs.rename(t.at('dir'), t.at('new/')),
  'rename: dot': (t) => t.fs.rename(t.at('dir/.'), t.at('new')),
  'rename: dot dot': (t) => t.fs.rename(t.at('dir/sub/..'), t.at('new')),
  'rename: onto dot': (t) => t.fs.rename(t.at('hollow'), t.at('dir/.')),
  'rename: between two names of one inode': async (t) => {
    await t.fs.link(t.at('file'), t.at('new'));
    await t.fs.rename(t.at('file'), t.at('new'));
  },

  'unlink: file': (t) => t.fs.unlink(t.at('file')),
  'unlink: symbolic link': (t) => t.fs.unlink(t.at('link')),
  'unlink: symbolic link to a directory': (t) => t.fs.unlink(t.at('dirlink')),
  'unlink: symbolic link to a directory, trailing slash': (t) => t.fs.unlink(t.at('dirlink/')),
  'unlink: dangling link': (t) => t.fs.unlink(t.at('dangling')),
  'unlink: loop': (t) => t.fs.unlink(t.at('loop')),
  'unlink: directory': (t) => t.fs.unlink(t.at('dir')),
  'unlink: empty directory': (t) => t.fs.unlink(t.at('hollow')),
  'unlink: missing': (t) => t.fs.unlink(t.at('missing')),
  'unlink: trailing slash': (t) => t.fs.unlink(t.at('file/')),
  'unlink: dot': (t) => t.fs.unlink(t.at('dir/.')),
  'unlink: one of two names': async (t) => {
    await t.fs.link(t.at('file'), t.at('new'));
    await t.fs.unlink(t.at('file'));
    return (await t.fs.stat(t.at('new'))).nlink;
  },

  'rmdir: empty': (t) => t.fs.rmdir(t.at('hollow')),
  'rmdir: trailing slash': (t) => t.fs.rmdir(t.at('hollow/')),
  'rmdir: full': (t) => t.fs.rmdir(t.at('dir')),
  'rmdir: file': (t) => t.fs.rmdir(t.at('file')),
  'rmdir: missing': (t) => t.fs.rmdir(t.at('missing')),
  'rmdir: symbolic link to a directory': (t) => t.fs.rmdir(t.at('dirlink')),
  'rmdir: symbolic link to a directory, trailing slash': (t) => t.fs.rmdir(t.at('dirlink/')),
  'rmdir: dot': (t) => t.fs.rmdir(t.at('hollow/.')),
  'rmdir: dot dot': (t) => t.fs.rmdir(t.at('hollow/..')),
  'rmdir: recursive false': (t) => t.fs.rmdir(t.at('dir'), { recursive: false }),
  'rmdir: recursive': (t) => t.fs.rmdir(t.at('dir'), { recursive: true }),
  'rmdir: recursive, missing': (t) => t.fs.rmdir(t.at('missing'), { recursive: true }),
  'rmdir: recursive, file': (t) => t.fs.rmdir(t.at('file'), { recursive: true }),

  'mkdir: new': (t) => t.fs.mkdir(t.at('new')),
  'mkdir: mode': (t) => t.fs.mkdir(t.at('new'), 0o700),
  'mkdir: mode is masked': (t) => t.fs.mkdir(t.at('new'), 0o777),
  'mkdir: mode as a string': (t) => t.fs.mkdir(t.at('new'), '700'),
  'mkdir: mode in options': (t) => t.fs.mkdir(t.at('new'), { mode: 0o750 }),
  'mkdir: mode in options as a string': (t) => t.fs.mkdir(t.at('new'), { mode: '0750' }),
  'mkdir: sticky': (t) => t.fs.mkdir(t.at('new'), 0o1777),
  'mkdir: set-gid': (t) => t.fs.mkdir(t.at('new'), 0o2777),
  'mkdir: null for options': (t) => t.fs.mkdir(t.at('new'), null),
  'mkdir: trailing slash': (t) => t.fs.mkdir(t.at('new/')),
  'mkdir: over each name': (t) => t.each(names, (name) => t.fs.mkdir(t.at(name))),
  'mkdir: recursive over each name': (t) => t.each(names, (name) => t.fs.mkdir(t.at(name), { recursive: true })),
  'mkdir: recursive tells the first that it made': (t) =>
    t.each(['new', 'new/a', 'new/a', 'new/a/b/c', 'dir/x/y', 'dirlink/z/z', 'new/d//e/'], (name) =>
      t.fs.mkdir(t.at(name), { recursive: true }),
    ),
  'mkdir: recursive below each name': (t) => t.each(names, (name) => t.fs.mkdir(t.at(`${name}/p/q`), { recursive: true })),
  'mkdir: recursive with a mode': (t) => t.fs.mkdir(t.at('p/q/r'), { recursive: true, mode: 0o700 }),
  'mkdir: recursive with dots': (t) => t.fs.mkdir(t.at('p/../q/./r'), { recursive: true }),
  'mkdir: path as a Buffer': (t) => t.fs.mkdir(Buffer.from(t.at('new'))),
  'mkdir: recursive, path as a Buffer': (t) => t.fs.mkdir(Buffer.from(t.at('p/q')), { recursive: true }),
  'mkdir: recursive, path as a URL': (t) => t.fs.mkdir(pathToFileURL(t.at('p/q')), { recursive: true }),
  'mkdir: name that is no UTF-8': async (t) => {
    await t.fs.mkdir(Buffer.concat([Buffer.from(t.at('hollow/')), Buffer.from([0xff])]));
    const found = [await t.fs.readdir(t.at('hollow')), await t.fs.readdir(t.at('hollow'), 'buffer')];
    await t.fs.rm(t.at('hollow'), { recursive: true });
    return found;
  },

  'mkdtemp: six characters behind the prefix': async (t) => {
    const path: string = await t.fs.mkdtemp(t.at('hollow/tmp-'));
    const { mode } = await t.fs.stat(path);
    await t.fs.rmdir(path);
    return { starts: path.startsWith(t.at('hollow/tmp-')), length: path.length - t.at('hollow/tmp-').length, mode };
  },
  'mkdtemp: prefix that is a directory': async (t) => {
    const path: string = await t.fs.mkdtemp(t.at('hollow/'));
    await t.fs.rmdir(path);
    return [path.startsWith(t.at('hollow/')), path.length - t.root.length];
  },
  'mkdtemp: encodings': (t) =>
    t.each(['utf8', 'buffer', 'hex', { encoding: 'buffer' }, undefined], async (encoding) => {
      const path = await t.fs.mkdtemp(t.at('hollow/tmp-'), encoding);
      await t.fs.rm(t.at('hollow'), { recursive: true });
      await t.fs.mkdir(t.at('hollow'));
      return typeof path === 'string' ? 'string' : path.constructor.name;
    }),
  'mkdtemp: below a missing directory': (t) => t.fs.mkdtemp(t.at('missing/tmp-')),
  'mkdtemp: below a file': (t) => t.fs.mkdtemp(t.at('file/tmp-')),
  'mkdtemp: two differ': async (t) => {
    const paths = [await t.fs.mkdtemp(t.at('hollow/')), await t.fs.mkdtemp(t.at('hollow/'))];
    for (const path of paths) await t.fs.rmdir(path);
    return paths[0] !== paths[1];
  },
  'mkdtempDisposable: path, and what removes it': async (t) => {
    const made = await t.fs.mkdtempDisposable(t.at('hollow/tmp-'));
    await t.fs.writeFile(`${made.path}/x`, 'x');
    const there = (await t.fs.readdir(t.at('hollow'))).length;
    await made.remove();
    return { there, left: await t.fs.readdir(t.at('hollow')), members: Object.keys(made).sort() };
  },

  'rm: file': (t) => t.fs.rm(t.at('file')),
  'rm: missing': (t) => t.fs.rm(t.at('missing')),
  'rm: missing, force': (t) => t.fs.rm(t.at('missing'), { force: true }),
  'rm: below a missing directory, force': (t) => t.fs.rm(t.at('missing/x'), { force: true }),
  'rm: below a file, force': (t) => t.fs.rm(t.at('file/x'), { force: true }),
  'rm: missing, recursive': (t) => t.fs.rm(t.at('missing'), { recursive: true }),
  'rm: missing, recursive and force': (t) => t.fs.rm(t.at('missing'), { recursive: true, force: true }),
  'rm: directory': (t) => t.fs.rm(t.at('dir')),
  'rm: empty directory': (t) => t.fs.rm(t.at('hollow')),
  'rm: directory, force': (t) => t.fs.rm(t.at('dir'), { force: true }),
  'rm: directory, recursive': (t) => t.fs.rm(t.at('dir'), { recursive: true }),
  'rm: file, recursive': (t) => t.fs.rm(t.at('file'), { recursive: true }),
  'rm: symbolic link to a file': (t) => t.fs.rm(t.at('link')),
  'rm: symbolic link to a directory': (t) => t.fs.rm(t.at('dirlink')),
  'rm: symbolic link to a directory, recursive': (t) => t.fs.rm(t.at('dirlink'), { recursive: true }),
  'rm: symbolic link inside': async (t) => {
    await t.fs.symlink('../file', t.at('dir/out'));
    await t.fs.rm(t.at('dir'), { recursive: true });
  },
  'rm: dangling link': (t) => t.fs.rm(t.at('dangling')),
  'rm: loop, recursive': (t) => t.fs.rm(t.at('loop'), { recursive: true }),
  'rm: trailing slash': (t) => t.fs.rm(t.at('file/')),
  'rm: directory with a trailing slash, recursive': (t) => t.fs.rm(t.at('dir/'), { recursive: true }),
  'rm: path as a Buffer': (t) => t.fs.rm(Buffer.from(t.at('file'))),
  'rm: directory as a Buffer, recursive': (t) => t.fs.rm(Buffer.from(t.at('dir')), { recursive: true }),
  'rm: path as a URL': (t) => t.fs.rm(pathToFileURL(t.at('dir')), { recursive: true }),
  'rm: retries': (t) => t.fs.rm(t.at('dir'), { recursive: true, maxRetries: 2, retryDelay: 1 }),

  'chmod: each bit': (t) =>
    t.each([0, 0o1, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o7777], async (mode) => {
      await t.fs.chmod(t.at('exec'), mode);
      return (await t.fs.stat(t.at('exec'))).mode;
    }),
  'chmod: mode as a string': (t) =>
    t.each(['600', '0640', '0o600', '0x1ff', ' 600', '6 00', '888', '77777'], async (mode) => {
      await t.fs.chmod(t.at('exec'), mode);
      return (await t.fs.stat(t.at('exec'))).mode;
    }),
  'chmod: mode with type bits': async (t) => {
    await t.fs.chmod(t.at('file'), 0o100600);
  },
  'chmod: symbolic link is followed': (t) => t.fs.chmod(t.at('link'), 0o600),
  'chmod: directory': (t) => t.fs.chmod(t.at('hollow'), 0o700),
  'chmod: missing': (t) => t.fs.chmod(t.at('missing'), 0o600),
  'chmod: dangling': (t) => t.fs.chmod(t.at('dangling'), 0o600),
  'chmod: trailing slash': (t) => t.fs.chmod(t.at('file/'), 0o600),

  'chown: to oneself': async (t) => {
    const { uid, gid } = await t.fs.stat(t.at('file'));
    await t.fs.chown(t.at('file'), uid, gid);
  },
  'chown: unchanged by -1': (t) => t.fs.chown(t.at('file'), -1, -1),
  'chown: to another': (t) => t.fs.chown(t.at('file'), 1000, 1001),
  'chown: symbolic link is followed': (t) => t.fs.chown(t.at('link'), 1000, 1001),
  'chown: clears set-id bits': async (t) => {
    await t.fs.chmod(t.at('exec'), 0o6755);
    await t.fs.chown(t.at('exec'), 1000, 1001);
  },
  'chown: missing': (t) => t.fs.chown(t.at('missing'), 0, 0),
  'chown: largest': (t) => t.fs.chown(t.at('file'), 2 ** 32 - 2, 2 ** 32 - 2),
  'chown: 2 ** 32 - 1 leaves it': (t) => t.fs.chown(t.at('file'), 2 ** 32 - 1, 2 ** 32 - 1),
  'lchown: symbolic link itself': (t) => t.fs.lchown(t.at('link'), 1000, 1001),
  'lchown: file': (t) => t.fs.lchown(t.at('file'), 1000, 1001),
  'lchown: missing': (t) => t.fs.lchown(t.at('missing'), 0, 0),
  'lchown: dangling link': (t) => t.fs.lchown(t.at('dangling'), 0, 0),

  ...Object.fromEntries(
    Object.entries(someTimes).flatMap(([name, time]) => [
      [
        `utimes: ${name}`,
        async (t: Scene) => {
          await t.fs.utimes(t.at('file'), time, time);
          return times(t, 'file');
        },
      ],
      [
        `lutimes: ${name}`,
        async (t: Scene) => {
          await t.fs.lutimes(t.at('link'), time, time);
          return times(t, 'link');
        },
      ],
    ]),
  ),
  'utimes: access and modification differ': async (t) => {
    await t.fs.utimes(t.at('file'), 100, 200);
    return times(t, 'file');
  },
  'utimes: symbolic link is followed': async (t) => {
    await t.fs.utimes(t.at('link'), 100, 200);
    return times(t, 'file');
  },
  // Node takes a negative number for now; the past is a Date.
  'utimes: a negative number is now': async (t) => {
    await t.fs.utimes(t.at('file'), -1, -1.5);
    const { atimeMs, mtimeMs } = await t.fs.stat(t.at('file'));
    return [atimeMs, mtimeMs].map((time) => Math.abs(time - Date.now()) < 60_000);
  },
  'utimes: directory': async (t) => {
    await t.fs.utimes(t.at('hollow'), 100, 200);
    return times(t, 'hollow');
  },
  'utimes: missing': (t) => t.fs.utimes(t.at('missing'), 1, 1),
  'utimes: dangling': (t) => t.fs.utimes(t.at('dangling'), 1, 1),
  'lutimes: missing': (t) => t.fs.lutimes(t.at('missing'), 1, 1),
  'lutimes: dangling link': async (t) => {
    await t.fs.lutimes(t.at('dangling'), 100, 200);
    return times(t, 'dangling');
  },

  'truncate: to nothing': (t) => t.fs.truncate(t.at('file')),
  'truncate: shorter': (t) => t.fs.truncate(t.at('file'), 5),
  'truncate: longer shows zeroes': (t) => t.fs.truncate(t.at('file'), 20),
  'truncate: same size': (t) => t.fs.truncate(t.at('file'), 12),
  'truncate: negative is zero': (t) => t.fs.truncate(t.at('file'), -5),
  'truncate: symbolic link is followed': (t) => t.fs.truncate(t.at('link'), 5),
  'truncate: missing': (t) => t.fs.truncate(t.at('missing'), 5),
  'truncate: dangling': (t) => t.fs.truncate(t.at('dangling'), 5),
  'truncate: directory': (t) => t.fs.truncate(t.at('dir'), 0),
  'truncate: shorter and longer again shows zeroes': async (t) => {
    await t.fs.truncate(t.at('file'), 5);
    await t.fs.truncate(t.at('file'), 12);
  },
  'truncate: large and sparse': async (t) => {
    await t.fs.truncate(t.at('empty'), 2 ** 33);
    const { size, blocks } = await t.fs.stat(t.at('empty'));
    await t.fs.truncate(t.at('empty'), 0);
    return { size, blocks };
  },

  'statfs: types of its members': (t) => t.fs.statfs(t.root),
  'statfs: bigint': (t) => t.fs.statfs(t.at('file'), { bigint: true }),
  'statfs: missing': (t) => t.fs.statfs(t.at('missing')),
  'statfs: through a link': (t) => t.fs.statfs(t.at('link')),
};

/** What only the promises have. */
export const promisesPathCases: Cases = {
  'lchmod: Linux has none': (t) => t.fs.lchmod(t.at('file'), 0o600),
};

/** What only the synchronous functions have. */
export const syncPathCases: Cases = {
  'exists: each name': (t) => t.each(names, (name) => t.fs.exists(t.at(name))),
  'exists: what is no path': (t) => t.each([undefined, null, 1, {}, '', 'a\0b', Symbol('path')], (path) => t.fs.exists(path)),
};
