import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { bashCompletion } from './bash-completion.ts';
import { manPage } from './man-page.ts';
import { MOUNT_WORDS } from './mount-words.ts';
import { COMMANDS, ENVIRONMENT, GLOBAL_OPTIONS, SOURCES } from './option-table.ts';
import { commandHelp, helpText, synopsisOf } from './usage.ts';

const hasBash = spawnSync('bash', ['-c', '((BASH_VERSINFO[0] >= 4))']).status === 0;
const needsBash = hasBash ? false : 'bash 4 is not there';

/** What bash offers for the last word, with the generated script. */
function completed(...words: string[]): string[] {
  const script = `${bashCompletion()}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _iomap; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync('bash', ['-c', script, 'bash', 'iomap', ...words], { encoding: 'utf8', cwd: '/' });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  return stdout.split('\n').filter((line) => line !== '');
}

test('the help lists all commands, and that of a command all its options', () => {
  for (const command of COMMANDS) {
    assert.ok(helpText().includes(command.summary), command.name);
    const text = commandHelp(command);
    for (const { name } of command.options) assert.ok(text.includes(`--${name}`), `${command.name} --${name}`);
    for (const { name } of command.operands) assert.ok(text.includes(name), `${command.name} ${name}`);
  }
});

test('no line of the help is wider than 100 characters', () => {
  for (const text of [helpText(), ...COMMANDS.map(commandHelp)]) {
    for (const line of text.split('\n')) assert.ok(line.length <= 100, line);
  }
});

test('a synopsis has options, operands and program in the order in which they are typed', () => {
  const exec = COMMANDS.find(({ name }) => name === 'exec');
  assert.ok(exec);
  assert.equal(synopsisOf(exec), 'iomap exec [-o WORD,...] [--args JSON] SOURCE -- COMMAND [ARG...]');
});

test('the man page has every option, word, source and variable, and no line that roff takes for a request by mistake', () => {
  const page = manPage('1.2.3');
  const plain = page.replaceAll('\\-', '-').replaceAll('\\fB', '').replaceAll('\\fR', '');
  const options = [...GLOBAL_OPTIONS, ...COMMANDS.flatMap((command) => command.options)].map(({ name }) => `--${name}`);
  const names = [
    ...options,
    ...MOUNT_WORDS.map(({ name }) => name),
    ...SOURCES.map(({ form }) => form),
    ...ENVIRONMENT.map(({ name }) => name),
  ];
  for (const name of names) assert.ok(plain.includes(name), name);
  assert.match(page, /^\.TH IOMAP 1 "" "iomap 1\.2\.3"/);
  for (const line of page.split('\n')) assert.match(line, /^(?:\.(?:TH|SH|SS|TP|PP)(?: |$)|[^.'])|^$/, line);
});

test('completion offers commands, options, words after a comma, and sources', { skip: needsBash }, () => {
  assert.deepEqual(
    completed('').filter((word) => !word.startsWith('-')),
    COMMANDS.map(({ name }) => name),
  );
  assert.deepEqual(completed('um'), ['umount']);
  assert.deepEqual(completed('mount', '--fo'), ['--foreground']);
  assert.deepEqual(completed('mount', '-o', 'ro,noe'), ['ro,noexec']);
  assert.deepEqual(completed('mount', '-o', 'fsn'), ['fsname=']);
  assert.ok(completed('mount', '').includes('mem:'));
  assert.ok(completed('mount', 'mem:', '/de').includes('/dev'));
  assert.deepEqual(completed('completion', ''), ['bash']);
});

test('completion counts neither options nor their values as operands', { skip: needsBash }, () => {
  assert.ok(completed('mount', '-o', 'ro', '--json', 'mem:', '/de').includes('/dev'));
  assert.ok(completed('mount', '-o', 'ro', '').includes('mem:'));
  assert.ok(completed('mount', '--pidfile', '/de').includes('/dev'));
  assert.ok(completed('mount', '-o', 'fsname', '=', 'x', '').includes('mem:'));
  assert.ok(completed('mount', 'mirror', ':', '/de').includes('/dev'));
  assert.ok(completed('mount', 'mirror', ':', '/dev', '/pro').includes('/proc'));
});

test('completion after -- is that of a program', { skip: needsBash }, () => {
  assert.ok(completed('exec', 'mem:', '').includes('--'));
  assert.ok(completed('exec', 'mem:', '--', 'bas').includes('bash'));
  assert.ok(completed('exec', 'mem:', '--', 'ls', '/de').includes('/dev'));
});
