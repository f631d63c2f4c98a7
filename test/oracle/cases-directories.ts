import { Buffer } from 'node:buffer';
import { pathToFileURL } from 'node:url';
import type { Cases, Scene, Untyped } from './scene.ts';

// Directories: readdir, opendir and Dir, glob.

const names = ['dir', 'dir/', 'hollow', 'file', 'missing', 'dirlink', 'link', 'dangling', 'loop', 'dir/..', 'file/'];

/** No order is promised. */
const sorted = (found: readonly Untyped[]): readonly Untyped[] => {
  const key = (entry: Untyped) =>
    entry instanceof Uint8Array ? Buffer.from(entry).toString('latin1') : entry.name ? `${entry.parentPath}/${entry.name}` : entry;
  return [...found].sort((a, b) => (key(a) < key(b) ? -1 : 1));
};

const drain = async (iterable: AsyncIterable<Untyped>) => {
  const found: Untyped[] = [];
  for await (const entry of iterable) found.push(entry);
  return sorted(found);
};

const readdirOptions: Record<string, Untyped> = {
  nothing: {},
  'an encoding': 'utf8',
  'encoding hex': 'hex',
  'encoding latin1': { encoding: 'latin1' },
  buffer: 'buffer',
  'buffer in options': { encoding: 'buffer' },
  null: null,
  withFileTypes: { withFileTypes: true },
  'withFileTypes and buffer': { withFileTypes: true, encoding: 'buffer' },
  recursive: { recursive: true },
  'recursive and withFileTypes': { recursive: true, withFileTypes: true },
  'recursive and buffer': { recursive: true, encoding: 'buffer' },
};

export const directoryCases: Cases = {
  ...Object.fromEntries(names.map((name) => [`readdir: ${name}`, async (t: Scene) => sorted(await t.fs.readdir(t.at(name)))])),
  ...Object.fromEntries(
    names.map((name) => [
      `readdir: ${name}, withFileTypes`,
      async (t: Scene) => sorted(await t.fs.readdir(t.at(name), { withFileTypes: true })),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(readdirOptions).map(([name, options]) => [
      `readdir: options: ${name}`,
      async (t: Scene) => sorted(await t.fs.readdir(t.root, options)),
    ]),
  ),
  'readdir: recursive, of a file': (t) => t.fs.readdir(t.at('file'), { recursive: true }),
  'readdir: recursive, missing': (t) => t.fs.readdir(t.at('missing'), { recursive: true }),
  'readdir: recursive, by dots': async (t) => sorted(await t.fs.readdir(t.at('dir/..'), { recursive: true })),
  'readdir: recursive, with a link that leads back up': async (t) => {
    await t.fs.symlink('.', t.at('dir/sub/again'));
    return sorted(await t.fs.readdir(t.at('dir/sub'), { recursive: true }));
  },
  'readdir: recursive, trailing slash': async (t) => sorted(await t.fs.readdir(t.at('dir/'), { recursive: true, withFileTypes: true })),
  'readdir: what is no recursive': (t) =>
    t.each([null, 0, 1, 'x', {}], async (recursive) => (await t.fs.readdir(t.root, { recursive })).length),
  'readdir: what is no withFileTypes': (t) =>
    t.each([null, 0, 1, 'x', {}], async (withFileTypes) => typeof (await t.fs.readdir(t.root, { withFileTypes }))[0]),
  'readdir: path as a Buffer': async (t) => sorted(await t.fs.readdir(Buffer.from(t.at('dir')))),
  'readdir: path as a Buffer, withFileTypes': async (t) => sorted(await t.fs.readdir(Buffer.from(t.at('dir')), { withFileTypes: true })),
  'readdir: path as a URL': async (t) => sorted(await t.fs.readdir(pathToFileURL(t.at('dir')))),
  'readdir: path as a URL, recursive': async (t) => sorted(await t.fs.readdir(pathToFileURL(t.at('dir')), { recursive: true })),
  'readdir: 1000 names': async (t) => {
    for (let i = 0; i < 1000; i++) await t.fs.writeFile(t.at(`hollow/${i}`), '');
    const found = await t.fs.readdir(t.at('hollow'));
    await t.fs.rm(t.at('hollow'), { recursive: true });
    return [found.length, new Set(found).size];
  },
  'readdir: names are sorted': async (t) => {
    for (const name of ['b', 'a', 'c', 'B', 'é', 'Z', '10', '9']) await t.fs.writeFile(t.at(`hollow/${name}`), '');
    return t.fs.readdir(t.at('hollow'), { withFileTypes: false }).then(sorted);
  },
  'Dirent: what it answers': async (t) => {
    const entries = await t.fs.readdir(t.root, { withFileTypes: true });
    return sorted(entries).map((entry) => [
      entry.name,
      entry.isFile(),
      entry.isDirectory(),
      entry.isSymbolicLink(),
      Object.keys(entry).includes('name'),
    ]);
  },

  'opendir: what is no file': (t) => t.each(names, async (name) => (await t.fs.opendir(t.at(name))).path),
  'opendir: what is no recursive': (t) =>
    t.each([null, 1, 'x'], async (recursive) => (await t.fs.opendir(t.at('dir'), { recursive })).path),
};

/** Dir by promises. */
export const promisesDirectoryCases: Cases = {
  'opendir: read until null': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    const found: Untyped[] = [];
    for (let entry = await dir.read(); entry !== null; entry = await dir.read()) found.push(entry);
    const after = await dir.read();
    await dir.close();
    return { path: dir.path, found: sorted(found), after };
  },
  'opendir: for await closes it': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    const found = await drain(dir);
    return {
      found,
      after: await t.outcomes(
        () => dir.read(),
        () => dir.close(),
      ),
    };
  },
  'opendir: leaving for await closes it': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    for await (const _ of dir) break;
    return t.outcomes(
      () => dir.read(),
      () => dir.close(),
    );
  },
  'opendir: entries()': async (t) => drain((await t.fs.opendir(t.at('dir'))).entries()),
  'opendir: each bufferSize': (t) => t.each([1, 2, 3, 32, 1000], async (bufferSize) => drain(await t.fs.opendir(t.root, { bufferSize }))),
  'opendir: recursive': async (t) => drain(await t.fs.opendir(t.root, { recursive: true })),
  'opendir: recursive by read': async (t) => {
    const dir = await t.fs.opendir(t.root, { recursive: true });
    const found: Untyped[] = [];
    for (let entry = await dir.read(); entry !== null; entry = await dir.read()) found.push(entry);
    await dir.close();
    return sorted(found);
  },
  'opendir: encodings': (t) =>
    t.each(['utf8', 'buffer', 'hex', { encoding: 'buffer' }, { encoding: 'latin1' }], async (encoding) =>
      (await drain(await t.fs.opendir(t.at('dir/sub'), encoding))).map((entry) => entry.name),
    ),
  'opendir: empty': async (t) => drain(await t.fs.opendir(t.at('hollow'))),
  'opendir: path as a Buffer': async (t) => drain(await t.fs.opendir(Buffer.from(t.at('dir/sub')))),
  'opendir: path as a URL': async (t) => drain(await t.fs.opendir(pathToFileURL(t.at('dir/sub')))),
  'opendir: closed': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    await dir.close();
    return t.outcomes(
      () => dir.read(),
      () => dir.close(),
      () => dir.closeSync(),
      () => dir.readSync(),
      () => drain(dir),
    );
  },
  'opendir: readSync and closeSync': async (t) => {
    const dir = await t.fs.opendir(t.at('dir/sub'));
    return t.outcomes(
      () => dir.readSync(),
      () => dir.readSync(),
      () => dir.closeSync(),
      () => dir.closeSync(),
    );
  },
  'opendir: callbacks': async (t) => {
    const dir = await t.fs.opendir(t.at('dir/sub'));
    const read = await new Promise((resolve) => dir.read((error: unknown, entry: unknown) => resolve([error, entry])));
    const closed = await new Promise((resolve) => dir.close((error: unknown) => resolve([error ?? null])));
    return { read, closed };
  },
  'opendir: what is no callback': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    return t.each([1, 'x', {}, null], (callback) => dir.read(callback));
  },
  'opendir: closeSync while a read is under way': async (t) => {
    const dir = await t.fs.opendir(t.at('dir/sub'));
    const read = dir.read();
    const refused = await t.outcome(() => dir.closeSync());
    return { refused, read: await read };
  },
  'opendir: two reads at a time': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    return sorted(await Promise.all([dir.read(), dir.read(), dir.read()]));
  },
  'Dir: Symbol.asyncDispose': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    await dir[Symbol.asyncDispose]();
    return t.outcomes(
      () => dir.read(),
      () => dir[Symbol.asyncDispose](),
    );
  },
};

/** Dir by synchronous calls. */
export const syncDirectoryCases: Cases = {
  // Where it is promised, Node throws what it finds here past every handler.
  'opendir: what is no bufferSize': (t) =>
    t.each([0, -1, 1.5, NaN, '1', null, 2 ** 32, {}], async (bufferSize) => (await t.fs.opendir(t.at('dir'), { bufferSize })).path),
  'opendir: readSync until null': async (t) => {
    const dir = await t.fs.opendir(t.at('dir'));
    const found: Untyped[] = [];
    for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) found.push(entry);
    const after = dir.readSync();
    dir.closeSync();
    return {
      found: sorted(found),
      after,
      closed: await t.outcomes(
        () => dir.readSync(),
        () => dir.closeSync(),
      ),
    };
  },
  'opendir: recursive by readSync': async (t) => {
    const dir = await t.fs.opendir(t.root, { recursive: true });
    const found: Untyped[] = [];
    for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) found.push(entry);
    dir.closeSync();
    return sorted(found);
  },
};

const patterns = [
  '*',
  '**',
  '**/*',
  '*.txt',
  '**/*.txt',
  'dir/*',
  'dir/**',
  'd*/s*/c',
  '{file,other,missing}',
  '[fo]*',
  '?ile',
  'f???',
  '!(file)',
  '+(f|i|l|e)',
  'dirlink/*',
  'dirlink/**',
  'missing/*',
  'file',
  'file/*',
  './file',
  'dir/../file',
  '',
  '*/',
  '**/',
  '.*',
];

/** Patterns below the root; globSync gives an array, glob an iterator. */
const glob = async (t: Scene, pattern: Untyped, options?: Untyped): Promise<readonly Untyped[]> => {
  const found = await t.fs.glob(pattern, { cwd: t.root, ...options });
  return Array.isArray(found) ? sorted(found) : drain(found);
};

/** Both forms, where the running Node has them. */
export const globCases: Cases = {
  ...Object.fromEntries(patterns.map((pattern) => [`glob: '${pattern}'`, (t: Scene) => glob(t, pattern)])),
  'glob: several patterns': (t) => glob(t, ['*.txt', 'dir/*', 'file', 'f*']),
  'glob: no patterns': (t) => glob(t, []),
  'glob: withFileTypes': (t) => glob(t, 'dir/**', { withFileTypes: true }),
  'glob: absolute pattern': (t) => glob(t, `${t.root}/dir/*`),
  'glob: cwd as a URL': (t) => glob(t, '*', { cwd: pathToFileURL(t.at('dir')) }),
  'glob: cwd below': (t) => glob(t, '**', { cwd: t.at('dir') }),
  'glob: cwd missing': (t) => glob(t, '*', { cwd: t.at('missing') }),
  'glob: exclude by function': (t) => glob(t, '**', { exclude: (name: string) => name.startsWith('d') }),
  'glob: exclude by function, withFileTypes': (t) =>
    glob(t, '**', { cwd: t.at('dir'), withFileTypes: true, exclude: (entry: Untyped) => entry.name === 'sub' }),
  'glob: exclude by patterns': (t) => glob(t, '**', { exclude: ['dir/sub', '*ink', 'f*'] }),
  'glob: what is no exclude': (t) => t.each([1, 'x', {}, [1], null], (exclude) => glob(t, '*', { exclude })),
  'glob: what is no pattern': (t) => t.each([undefined, null, 1, {}, [1], ['file', null]], (pattern) => glob(t, pattern)),
};
