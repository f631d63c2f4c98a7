import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COMMANDS, GLOBAL_OPTIONS } from './option-table.ts';
import { parseCommandLine } from './parse.ts';
import { UsageError } from './usage-error.ts';

function refuses(words: readonly string[], message: RegExp, command?: string): void {
  assert.throws(
    () => parseCommandLine(words),
    (error) => error instanceof UsageError && message.test(error.message) && error.command === command,
    words.join(' '),
  );
}

test('operands, repeated options and values come out as they were typed', () => {
  const line = parseCommandLine(['mount', '-o', 'ro', 'mem:', '--pidfile=p', '/mnt', '-onoexec,nodev', '-f']);
  assert.equal(line.command?.name, 'mount');
  assert.deepEqual(line.operands, ['mem:', '/mnt']);
  assert.deepEqual(line.values('options'), ['ro', 'noexec,nodev']);
  assert.equal(line.value('pidfile'), 'p');
  assert.equal(line.value('log'), undefined);
  assert.ok(line.has('foreground'));
  assert.ok(!line.has('json'));
});

test('what follows -- is the program with its options', () => {
  const line = parseCommandLine(['exec', 'mem:', '--', 'ls', '-l', '--', '--json']);
  assert.deepEqual(line.operands, ['mem:']);
  assert.deepEqual(line.program, ['ls', '-l', '--', '--json']);
  assert.ok(!line.has('json'));
});

test('a command that runs no program takes operands after --', () => {
  assert.deepEqual(parseCommandLine(['umount', '--', '-odd-']).operands, ['-odd-']);
});

test('what is no command line is refused with the word', () => {
  refuses([], /no command/);
  refuses(['mout'], /'mout'.*mount/);
  refuses(['--nope'], /--nope/);
  refuses(['mount', 'mem:'], /DIR is missing/, 'mount');
  refuses(['mount', 'mem:', 'a', 'b'], /'b'/, 'mount');
  refuses(['mount', 'mem:', 'a', '--nope'], /--nope/, 'mount');
  refuses(['mount', 'mem:', 'a', '--pidfile'], /--pidfile/, 'mount');
  refuses(['mount', 'mem:', 'a', '--foreground=yes'], /--foreground/, 'mount');
  refuses(['mount', 'mem:', 'a', '--log', 'x', '--log', 'y'], /--log is given twice/, 'mount');
  refuses(['exec', 'mem:'], /COMMAND is missing/, 'exec');
  refuses(['exec', 'mem:', '--'], /COMMAND is missing/, 'exec');
  refuses(['exec', 'mem:', 'ls'], /'ls'.*--/, 'exec');
  refuses(['completion', 'fish'], /'fish'.*bash/, 'completion');
});

test('--help does not need operands', () => {
  for (const { name } of COMMANDS) assert.ok(parseCommandLine([name, '--help']).has('help'), name);
  assert.ok(parseCommandLine(['-h']).has('help'));
});

test('each option of the table has one name and one letter within its command, and --help', () => {
  for (const options of [GLOBAL_OPTIONS, ...COMMANDS.map((command) => command.options)]) {
    const spellings = options.flatMap(({ name, short }) => (short === undefined ? [name] : [name, short]));
    assert.equal(new Set(spellings).size, spellings.length, spellings.join(' '));
    assert.ok(spellings.includes('help'));
  }
});
