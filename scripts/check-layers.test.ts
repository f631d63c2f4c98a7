import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createVirtualFileSystem } from 'typescript/unstable/fs';
import { checkLayers } from './check-layers.ts';
import { readImports } from './imports.ts';

/** The findings of one rule over a tree that exists only in memory. */
function findings(rule: string, tree: Record<string, string>): string[] {
  const files = Object.fromEntries(Object.entries(tree).map(([path, text]) => [`/tree/${path}`, text]));
  const found = checkLayers(readImports('/tree', createVirtualFileSystem(files))).find(({ name }) => name === rule);
  assert.ok(found);
  return found.findings;
}

const clean = {
  'src/index.ts': `export { read } from './iomap/buffered-read.ts';\n`,
  'src/base/assert.ts': 'export const assert = 1;\n',
  'src/vfs/inode.ts': `import { assert } from '../base/assert.ts';\nexport const inode = assert;\n`,
  'src/iomap/buffered-read.ts': `import { inode } from '../vfs/inode.ts';\nexport const read = inode;\n`,
  'src/iomap/buffered-read.test.ts': `import 'node:test';\nimport { read } from './buffered-read.ts';\nimport '../../test/support/model.ts';\n`,
  'test/support/model.ts': 'export const model = 1;\n',
};

test('a clean tree has no findings', () => {
  for (const rule of ['arrows', 'cycles', 'orphans', 'platform', 'buffered']) assert.deepEqual(findings(rule, clean), [], rule);
});

test('every form of import is seen, and what only looks like one is not', () => {
  const text = [
    `import { a, type B } from './a.ts';`,
    `import type { B as C } from './a.ts';`,
    `import './a.ts';`,
    `export * from './a.ts';`,
    `export type { B } from './a.ts';`,
    `export const f = (): Promise<import('./a.ts').B> => import('./a.ts');`,
    `export const name = './a.ts'; import(name);`,
    '/* import "./no.ts" */ // import("./no.ts")',
    'export const t = `',
    `import './no.ts'; \${a}`,
    `\`; export const r = /import('.\\/no.ts')/;`,
  ];
  const files = createVirtualFileSystem({
    '/tree/src/base/b.ts': text.join('\n'),
    '/tree/src/base/a.ts': 'export const a = 1; export type B = 1;',
  });
  const seen = readImports('/tree', files).imports.map(({ line, to, typeOnly }) => `${line} ${to} ${typeOnly ? 'type' : 'value'}`);
  assert.deepEqual(seen, [
    '1 src/base/a.ts value',
    '2 src/base/a.ts type',
    '3 src/base/a.ts value',
    '4 src/base/a.ts value',
    '5 src/base/a.ts type',
    '6 src/base/a.ts type',
    '6 src/base/a.ts value',
    '7 undefined value',
  ]);
});

test('arrows: an import upward is found, also of a type only, with file and line', () => {
  const tree = { ...clean, 'src/base/assert.ts': `\nimport type { inode } from '../vfs/inode.ts';\nexport const assert = 1;\n` };
  assert.deepEqual(findings('arrows', tree), ['src/base/assert.ts:2: base does not import src/vfs/inode.ts']);
});

test('arrows: a filesystem does not import its sibling, and may import what all filesystems share', () => {
  const tree = {
    'src/fs/memfs/memfs.ts': `import { x } from '../ext4/ext4.ts';\nimport { y } from '../shared.ts';\nexport const z = x + y;\n`,
    'src/fs/ext4/ext4.ts': 'export const x = 1;\n',
    'src/fs/shared.ts': 'export const y = 1;\n',
  };
  assert.deepEqual(findings('arrows', tree), ['src/fs/memfs/memfs.ts:1: fs/memfs does not import src/fs/ext4/ext4.ts']);
});

test('arrows: folders without a row, missing files, and imports of tests are found', () => {
  const tree = {
    'src/utils/x.ts': 'export const x = 1;\n',
    'src/base/a.ts': `import './gone.ts';\nimport './b.test.ts';\nimport '../../test/support/model.ts';\n`,
    'src/base/b.test.ts': `import '../vfs/inode.ts';\nimport '../../test/support/model.ts';\n`,
    'src/vfs/inode.ts': 'export const inode = 1;\n',
    'test/support/model.ts': 'export const model = 1;\n',
  };
  assert.deepEqual(findings('arrows', tree), [
    'src/utils/x.ts: src/utils has no row in the table of arrows',
    'src/base/a.ts:1: base does not import src/base/gone.ts, which is not there',
    'src/base/a.ts:2: base does not import src/base/b.test.ts',
    'src/base/a.ts:3: base does not import test/support/model.ts',
    'src/base/b.test.ts:1: base does not import src/vfs/inode.ts',
  ]);
});

test('cycles: between files at run time, between folders also of types', () => {
  const files = {
    'src/base/a.ts': `import { b } from './b.ts';\nexport const a = b;\n`,
    'src/base/b.ts': `import { c } from './c.ts';\nexport const b = c;\n`,
    'src/base/c.ts': `import { a } from './a.ts';\nexport const c = a;\n`,
  };
  assert.deepEqual(findings('cycles', files), [
    'files import each other: src/base/a.ts -> src/base/b.ts -> src/base/c.ts -> src/base/a.ts',
  ]);
  assert.deepEqual(findings('cycles', { ...files, 'src/base/c.ts': `import type { a } from './a.ts';\nexport const c = 1;\n` }), []);

  const folders = { ...clean, 'src/base/assert.ts': `import type { inode } from '../vfs/inode.ts';\nexport const assert = 1;\n` };
  assert.deepEqual(findings('cycles', folders), ['folders import each other: base -> vfs -> base']);
});

test('orphans: a file that only its own test reaches, and all that only it reaches', () => {
  const tree = {
    ...clean,
    'src/base/lonely.ts': `import { below } from './below.ts';\nexport const lonely = below;\n`,
    'src/base/lonely.test.ts': `import { lonely } from './lonely.ts';\n`,
    'src/base/below.ts': 'export const below = 1;\n',
    'test/support/unused.ts': 'export const unused = 1;\n',
  };
  assert.deepEqual(findings('orphans', tree), [
    'src/base/below.ts: no one imports it',
    'src/base/lonely.ts: no one imports it',
    'test/support/unused.ts: no one imports it',
  ]);
  assert.deepEqual(
    findings('orphans', { ...tree, 'test/model/all.test.ts': `import '../../src/base/lonely.ts';\nimport '../support/unused.ts';\n` }),
    [],
  );
});

test('platform: node: and packages outside of the platform files, and an engine that reaches them', () => {
  const tree = {
    'src/block/file-device.ts': `import { openSync } from 'node:fs';\nexport const open = openSync;\n`,
    'src/block/memory-device.ts': `import type { open } from './file-device.ts';\nexport type Open = typeof open;\n`,
    'src/vfs/inode.ts': `import koffi from 'koffi';\nexport const name = 'x';\nawait import(name);\n`,
    'src/vfs/inode.test.ts': `import 'node:test';\n`,
  };
  assert.deepEqual(findings('platform', tree), [
    'src/vfs/inode.ts:1: imports koffi',
    'src/vfs/inode.ts:3: imports what is not a literal',
    'src/block/memory-device.ts: the engine reaches the platform: src/block/memory-device.ts -> src/block/file-device.ts',
  ]);
});

test('platform: the node:fs-shaped face may name types of Node, and one file of it imports a package that runs anywhere', () => {
  const tree = {
    'src/volume/volume.ts': `import type { Stats } from 'node:fs';\nexport type S = Stats;\n`,
    'src/volume/file.ts': `import { open } from 'node:fs';\nexport const o = open;\n`,
    'src/volume/glob.ts': `import { Minimatch } from 'minimatch';\nexport const M = Minimatch;\n`,
    'src/volume/other.ts': `import { Minimatch } from 'minimatch';\nexport const M = Minimatch;\n`,
    'src/vfs/vfs.ts': `import type { Stats } from 'node:fs';\nexport type S = Stats;\n`,
  };
  assert.deepEqual(findings('platform', tree), [
    'src/volume/file.ts:1: imports node:fs',
    'src/volume/other.ts:1: imports minimatch',
    'src/vfs/vfs.ts:1: imports node:fs',
  ]);
});

test('platform: the mirror of host directories meets it, no other filesystem does, and the engine does not reach the mirror', () => {
  const tree = {
    'src/sys/libc.ts': `import koffi from 'koffi';\nexport const libc = koffi;\n`,
    'src/fs/mirror/mirror-fs.ts': `import 'node:fs';\nimport { libc } from '../../sys/libc.ts';\nexport const mirror = libc;\n`,
    'src/fs/memfs/mem-fs.ts': `import 'node:fs';\nimport { libc } from '../../sys/libc.ts';\nexport const mem = libc;\n`,
    'src/index.ts': `export { mirror } from './fs/mirror/mirror-fs.ts';\n`,
  };
  assert.deepEqual(findings('arrows', tree), ['src/fs/memfs/mem-fs.ts:2: fs/memfs does not import src/sys/libc.ts']);
  assert.deepEqual(findings('platform', tree), [
    'src/fs/memfs/mem-fs.ts:1: imports node:fs',
    'src/fs/memfs/mem-fs.ts: the engine reaches the platform: src/fs/memfs/mem-fs.ts -> src/sys/libc.ts',
    'src/index.ts: the engine reaches the platform: src/index.ts -> src/fs/mirror/mirror-fs.ts',
  ]);
});

test('buffered: a module of buffered I/O does not reach bio or a device, over any path', () => {
  const tree = {
    'src/iomap/iomap.ts': `import type { Device } from '../block/block-device.ts';\nexport type Iomap = Device;\n`,
    'src/iomap/seek.ts': `import { through } from './through.ts';\nexport const seek = through;\n`,
    'src/iomap/through.ts': `import { bio } from './bio.ts';\nexport const through = bio;\n`,
    'src/iomap/bio.ts': `export const bio = 1;\n`,
    'src/iomap/iter.ts': `import { device } from '../block/block-device.ts';\nexport const iter = device;\n`,
    'src/block/block-device.ts': 'export type Device = 1;\nexport const device = 1;\n',
  };
  assert.deepEqual(findings('buffered', tree), [
    'src/iomap/iter.ts: buffered I/O reaches src/block/block-device.ts: src/iomap/iter.ts -> src/block/block-device.ts',
    'src/iomap/seek.ts: buffered I/O reaches src/iomap/bio.ts: src/iomap/seek.ts -> src/iomap/through.ts -> src/iomap/bio.ts',
  ]);
});
