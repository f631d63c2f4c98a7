import { IMAGE_WORDS } from './image-words.ts';
import { MOUNT_WORDS } from './mount-words.ts';
import { COMMANDS, type CommandRow, ENVIRONMENT, EXIT_STATUS, GLOBAL_OPTIONS, type OptionRow, SOURCES } from './option-table.ts';
import { meaningOf, spellingOfWord, spellingsOf, synopsisOf } from './usage.ts';

const EXAMPLES: readonly { readonly command: string; readonly meaning: string }[] = [
  { command: 'iomap mount disk.img /mnt', meaning: 'the ext4 filesystem in an image' },
  { command: 'iomap mount mem:size=1g /mnt -o noatime', meaning: 'a gibibyte of memory as a filesystem' },
  { command: 'iomap exec mem: -- git clone . {}/copy', meaning: 'try something, and leave nothing behind' },
  { command: 'iomap umount /mnt', meaning: 'the end of a mount, with everything written' },
];

/** What `iomap man` prints: the manual page, in the man macros of roff. */
export function manPage(version: string): string {
  return [
    `.TH IOMAP 1 "" "iomap ${version}" "User Commands"`,
    section('NAME', 'iomap \\- filesystems in TypeScript as kernel mounts'),
    '.SH SYNOPSIS',
    ...COMMANDS.map((command) => `.PP\n${text(synopsisOf(command))}`),
    section('DESCRIPTION', text('Mounts filesystems that are written in TypeScript, over FUSE, and takes care of them.')),
    terms(GLOBAL_OPTIONS.map(optionTerm)),
    '.SH COMMANDS',
    ...COMMANDS.map(commandPart),
    '.SH SOURCES',
    terms(SOURCES.map(({ form, meaning }) => [form, meaning])),
    '.SH MOUNT OPTIONS',
    terms(MOUNT_WORDS.map((word) => [spellingOfWord(word), word.meaning])),
    '.PP\nFor images:',
    terms(IMAGE_WORDS.map((word) => [spellingOfWord(word), word.meaning])),
    '.SH EXIT STATUS',
    terms(EXIT_STATUS.map(({ status, meaning }) => [status, meaning])),
    '.SH ENVIRONMENT',
    terms(ENVIRONMENT.map(({ name, meaning }) => [name, meaning])),
    '.SH EXAMPLES',
    terms(EXAMPLES.map(({ command, meaning }) => [command, meaning])),
    '.SH SEE ALSO',
    text('mount(8), umount(8), fuse(4)'),
    '',
  ].join('\n');
}

function commandPart(command: CommandRow): string {
  const operands = [...command.operands, ...(command.program === undefined ? [] : [command.program])];
  return [
    `.SS ${text(`iomap ${command.name}`)}`,
    text(synopsisOf(command)),
    '.PP',
    text(`${command.summary[0]?.toUpperCase()}${command.summary.slice(1)}.`),
    terms([...operands.map(({ name, meaning }): Term => [name, meaning]), ...command.options.map(optionTerm)]),
    ...command.details.map((paragraph) => `.PP\n${text(paragraph)}`),
  ].join('\n');
}

type Term = readonly [term: string, meaning: string];

function optionTerm(option: OptionRow): Term {
  return [spellingsOf(option), meaningOf(option)];
}

function section(title: string, body: string): string {
  return `.SH ${title}\n${body}`;
}

function terms(pairs: readonly Term[]): string {
  return pairs.map(([term, meaning]) => `.TP\n\\fB${text(term)}\\fR\n${text(meaning)}`).join('\n');
}

/** A line of text, in which nothing is a request or an escape; a dash is the character that shells read. */
function text(line: string): string {
  return line
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/, '\\&$1');
}
