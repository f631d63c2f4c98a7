// Prints what does not belong in the tree, as file:line: what. Looks at the files that git tracks or would add. Exits 1 on any finding.
// Usage: npm run check -- tidy

import { execFileSync } from 'node:child_process';
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { plural, root } from './tree.ts';

const sizeMax = 2 ** 20;
const text = /(?:\.(?:ts|js|json|md|sh|yml|yaml|c|h)|\/run|^\.[a-z]+)$/;

// Patterns are put together from parts where this file would match itself.
const machinePath = new RegExp(`(?<![\\w.~-])/(?:${['work', 'root', 'home'].join('|')}|tmp/bash${'_'}jobs)/`);
const registry = new RegExp(`//[\\w.-]*registry|npm${'js'}\\.(?:org|com)|yarn${'pkg'}\\.com|npm${'mirror'}\\.com`);
const openEnd = new RegExp(`\\b(?:TO${'DO'}|FIX${'ME'}|X${'XX'})\\b(?!.*#\\d)`);
const issue = 'without an issue (#123)';

/** A test that is left out or alone, unless it says why: with a string, or with a comment on its line or the line above. */
const held = /\b(?:test|it|describe|suite)\.(?:only|skip|todo)\(|\bt\.(?:skip|todo)\(\s*\)|\b(?:only|skip|todo): *true\b/;

/** The findings about one file. */
export function tidy(file: string, content: string): string[] {
  const findings: string[] = [];
  const find = (line: number, what: string) => findings.push(`${file}:${line + 1}: ${what}`);
  const lines = content.split('\n');
  const isTestFile = file.endsWith('.test.ts') || /^test\/.*\.ts$/.test(file);

  for (const [i, line] of lines.entries()) {
    if (machinePath.test(line)) find(i, 'a path of somebody’s machine');
    if (registry.test(line)) find(i, 'the name of a registry');
    if (file.endsWith('package-lock.json') && line.includes('"resolved":')) find(i, 'a resolved address in the lockfile');
    if (openEnd.test(line)) find(i, `an open end ${issue}`);
    if (isTestFile && held.test(line) && !line.includes('//') && !lines[i - 1]?.trimStart().startsWith('//')) {
      find(i, 'a test that is skipped or alone, without a comment that says why');
    }
    if (file.endsWith('.md') && /[ \t\r]$/.test(line)) find(i, 'white space at the end of the line');
  }

  if (file.startsWith('src/')) {
    for (const name of file.split('/').slice(1)) {
      if (!/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z0-9]+)*$/.test(name)) find(0, `${name} is not kebab-case`);
    }
    if (file.endsWith('.ts') && file !== 'src/index.ts' && file !== 'src/node.ts' && isBarrel(content))
      find(0, 'a file of re-exports only');
  }
  return findings;
}

function isBarrel(content: string): boolean {
  const code = content.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const rest = code.replace(/\bexport\s+(?:type\s+)?(?:\*(?:\s+as\s+\w+)?|\{[^}]*\})\s*from\s*['"][^'"]*['"]\s*;?/g, '');
  return rest !== code && rest.trim() === '';
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
  const files = listed.split('\0').filter((file) => file !== '' && lstatSync(join(root, file), { throwIfNoEntry: false })?.isFile());
  const findings: string[] = [];
  for (const file of files) {
    const { size } = lstatSync(join(root, file));
    if (size > sizeMax) findings.push(`${file}:1: ${size} bytes; more than ${sizeMax}`);
    else if (text.test(file)) findings.push(...tidy(file, readFileSync(join(root, file), 'utf8')));
  }
  console.log(`tidy: ${plural(findings.length, 'finding')} in ${plural(files.length, 'file')}`);
  for (const finding of findings) console.log(`  ${finding}`);
  process.exitCode = findings.length === 0 ? 0 : 1;
}
