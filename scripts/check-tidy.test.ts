import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tidy } from './check-tidy.ts';

// What must be found is put together from parts, so that the check of this file finds nothing.
const bad: [file: string, line: string][] = [
  ['docs/a.md', `see /${'home'}/me/notes`],
  ['package-lock.json', '      "resolved": "x"'],
  ['.npmrc', `x=https:/${'/registry'}.example.org/`],
  ['src/base/a.ts', `// TO${'DO'}: later`],
  ['src/base/a.test.ts', `test.${'skip'}('x', () => {});`],
  ['src/base/a.test.ts', `test('x', { ${'skip'}: true }, () => {});`],
  ['README.md', 'words '],
  ['README.md', 'words\r'],
  ['src/base/folio_state.ts', 'const x = 1;'],
  ['src/pageCache/folio.ts', 'const x = 1;'],
  ['src/base/all.ts', `/** All. */\nexport * from './a.ts';\nexport type {\n  B,\n} from './b.ts';\n`],
];

const good: [file: string, line: string][] = [
  ['docs/a.md', ['the folder `at/home/` and `.', 'work/`'].join('/')],
  ['src/base/a.ts', `// TO${'DO'} (#12): later`],
  ['src/base/a.ts', 'this.registry.nodes.get(id)'],
  ['src/base/a.test.ts', `// the kernel of 6.1 has no such call\ntest.${'skip'}('x', () => {});`],
  ['src/base/a.test.ts', `t.skip('needs root');`],
  ['src/base/folio-state.test.ts', 'const x = 1;'],
  ['src/index.ts', `export * from './a.ts';\n`],
  ['src/base/a.ts', `export * from './a.ts';\nexport const x = 1;\n`],
];

test('every rule finds its example', () => {
  for (const [file, line] of bad) assert.equal(tidy(file, line).length, 1, `${file}: ${line}`);
});

test('nothing is found in what is fine', () => {
  for (const [file, line] of good) assert.deepEqual(tidy(file, line), [], `${file}: ${line}`);
});
