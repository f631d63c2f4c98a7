import assert from 'node:assert/strict';
import * as nodeFs from 'node:fs';
import * as host from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { ROOT } from '../vfs/caller.ts';
import { Vfs } from '../vfs/vfs.ts';
import { FdTable } from './fd-table.ts';
import { writePath } from './file-calls.ts';
import { type GlobOptions, glob, globEach } from './glob.ts';
import { atOnce, promised, type VolumeState } from './state.ts';
import * as calls from './tree-calls.ts';

const DIRS = ['a/b/c', '.hidden', 'empty'];
const FILES = ['a/x.js', 'a/b/y.js', 'a/b/c/z.ts', '.h.js', '.hidden/q.js', 'X.JS', 'n1.js'];
const LINKS = [
  ['a/up', '..'],
  ['la', 'a'],
  ['dangling', 'nowhere'],
  ['a/lx', 'x.js'],
] as const;

function newState(): VolumeState {
  return { vfs: new Vfs(new MemFs()), caller: ROOT, fds: new FdTable(), dev: 1 };
}

const root = nodeFs.mkdtempSync(join(tmpdir(), 'iomap-glob-'));
after(() => nodeFs.rmSync(root, { recursive: true }));

function makeTree(): VolumeState {
  const state = newState();
  for (const dir of DIRS) atOnce(calls.mkdir(state, `${root}/${dir}`, { recursive: true }));
  for (const file of FILES) atOnce(writePath(state, `${root}/${file}`, 'text', {}, 'w'));
  for (const [path, target] of LINKS) atOnce(calls.symlink(state, target, `${root}/${path}`));
  return state;
}

const state = makeTree();
for (const dir of DIRS) nodeFs.mkdirSync(join(root, dir), { recursive: true });
for (const file of FILES) nodeFs.writeFileSync(join(root, file), 'text');
for (const [path, target] of LINKS) nodeFs.symlinkSync(target, join(root, path));

const ours = (patterns: string | string[], options: GlobOptions = {}): string[] =>
  (atOnce(glob(state, patterns, { cwd: root, ...options })) as string[]).sort();

type HostGlob = (patterns: string | string[], options: object) => AsyncIterable<string>;
const hostGlob = (host as unknown as { glob?: HostGlob }).glob;
// The patterns below are those for which Node's own two implementations agree with each other.
const skip = hostGlob === undefined ? 'this Node has no glob' : false;

const PATTERNS = (
  '**/*.js * ** a/** a/**/ ./a/* a/../a/*.js */x.js **/b nope nope/* a/x.js a/ {a,la}/*.js !(a) a/up/* la/** .* .hidden/* **/.h* x.js ' +
  'a/b/../x.js [a-z]* a/x.js/* **/c/** a/**/b/**/*.ts **/ +(a|la)/b dangling a//x.js ?? **/**/x.js a/x.js/ dangling/* */ la/ l*/** l*/x.js ' +
  '**/lx a/lx n?.js [!X]*.js a/./x.js empty/** empty/* n\\1.js **/*.{js,ts}'
).split(' ');

for (const pattern of PATTERNS) {
  test(`glob('${pattern}') finds what node:fs/promises finds`, { skip }, async () => {
    const found: string[] = [];
    for await (const path of hostGlob?.(pattern, { cwd: root }) ?? []) found.push(path);
    assert.deepEqual(ours(pattern), found.sort());
  });
}

test('glob finds what several patterns match, each once', () => {
  assert.deepEqual(ours(['a/*.js', 'a/x.*', 'nope']), ['a/x.js']);
  assert.deepEqual(ours([`${root}/a/*.js`, '']), [`${root}/a/x.js`]);
});

test('exclude leaves out names, paths, and what is below them', () => {
  assert.deepEqual(ours('**/*.js', { exclude: (name: string) => name === 'b' || name === 'n1.js' }), ['a/x.js']);
  assert.deepEqual(ours('**/*.js', { exclude: (name: string) => name === 'a/b' }), ['a/x.js', 'n1.js']);
  assert.deepEqual(ours('**/*.{js,ts}', { exclude: ['a/b/**'] }), ['a/x.js', 'n1.js']);
});

test('withFileTypes gives entries, to exclude too', () => {
  const seen: string[] = [];
  const exclude = (dirent: { name: string }) => {
    seen.push(dirent.name);
    return false;
  };
  const found = atOnce(glob(state, 'a/b/*', { cwd: root, withFileTypes: true, exclude })) as unknown as nodeFs.Dirent[];
  assert.deepEqual(
    found.map(({ name, parentPath }) => [name, parentPath]),
    [
      ['c', `${root}/a/b`],
      ['y.js', `${root}/a/b`],
    ],
  );
  assert.deepEqual(
    found.map((dirent) => dirent.isDirectory()),
    [true, false],
  );
  assert.deepEqual(seen, ['a', 'b', 'c', 'y.js']);
});

test('followSymlinks goes through links, but not around in circles', () => {
  assert.deepEqual(ours('**/*.ts', { followSymlinks: true }), ['a/b/c/z.ts', 'la/b/c/z.ts']);
});

test('directories that cannot match are not listed', () => {
  const listed: string[] = [];
  const { vfs } = state;
  const open: Vfs['open'] = (...args) => {
    listed.push(args[1].slice(root.length));
    return vfs.open(...args);
  };
  const counting = new Proxy(vfs, { get: (_, name: keyof Vfs) => (name === 'open' ? open : (vfs[name] as () => void).bind?.(vfs)) });
  const found = atOnce(glob({ ...state, vfs: counting }, ['a/b/*.js', 'empty/none'], { cwd: root }));
  assert.deepEqual(found, ['a/b/y.js']);
  assert.deepEqual(listed, ['/a/b']);
});

test('globEach gives matches one by one, and ends with its signal', async () => {
  const found: unknown[] = [];
  for await (const path of globEach(state, '**/*.js', { cwd: root })) found.push(path);
  assert.deepEqual(found.sort(), ours('**/*.js'));
  const signal = AbortSignal.abort();
  await assert.rejects(globEach(state, '**', { cwd: root, signal }).next(), { name: 'AbortError' });
});

test('glob checks its arguments as node:fs does', async () => {
  const wrong: [unknown, unknown?][] = [[5], [['a', 5]], ['*', 5], ['*', null], ['*', { exclude: 5 }], ['*', { exclude: [5] }]];
  for (const [pattern, options] of wrong) {
    await assert.rejects(
      promised(() => glob(state, pattern as string, options as object)),
      { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' },
    );
  }
});
