import { IMAGE_WORDS } from './image-words.ts';
import { MOUNT_WORDS } from './mount-words.ts';
import { COMMANDS, type CommandRow, EXIT_STATUS, GLOBAL_OPTIONS, type OptionRow, SOURCES } from './option-table.ts';

const WIDTH = 100;

/** `iomap mount SOURCE DIR [-o WORD,...] ...`, on one line. */
export function synopsisOf(command: CommandRow): string {
  const options = command.options.filter(({ name }) => name !== 'help').map((option) => `[${spelled(option)}]`);
  const operands = command.operands.map(({ name, choices }) => choices?.join('|') ?? name);
  const program = command.program === undefined ? [] : ['--', `${command.program.name} [ARG...]`];
  return ['iomap', command.name, ...options, ...operands, ...program].join(' ');
}

/** An option as it is typed: by its letter where it has a value and a letter, else by its name. */
function spelled({ name, short, value }: OptionRow): string {
  if (value === undefined) return `--${name}`;
  return short === undefined ? `--${name} ${value.name}` : `-${short} ${value.name}`;
}

/** All spellings of an option: `-o, --options WORD,...`. */
export function spellingsOf({ name, short, value }: OptionRow): string {
  return `${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value.name}`}`;
}

export function meaningOf({ meaning, default: without }: OptionRow): string {
  return without === undefined ? meaning : `${meaning} (default: ${without})`;
}

export function spellingOfWord({ name, value }: { readonly name: string; readonly value?: string }): string {
  return value === undefined ? name : `${name}=${value}`;
}

export function takesSource(command: CommandRow): boolean {
  return command.operands.some(({ kind }) => kind === 'source');
}

/** What `iomap --help` prints. */
export function helpText(): string {
  return [
    'Filesystems in TypeScript as kernel mounts.',
    '',
    'usage:',
    ...COMMANDS.map((command) => wrapped(synopsisOf(command), '  ', '      ')),
    '',
    'commands:',
    ...rows(COMMANDS.map(({ name, summary }) => [name, summary])),
    '',
    'options:',
    ...rows(GLOBAL_OPTIONS.map((option) => [spellingsOf(option), meaningOf(option)])),
    '',
    'exit status:',
    ...rows(EXIT_STATUS.map(({ status, meaning }) => [status, meaning])),
    '',
    'iomap COMMAND --help says more about one; iomap man prints everything.',
    '',
  ].join('\n');
}

/** What `iomap COMMAND --help` prints. */
export function commandHelp(command: CommandRow): string {
  const { summary, operands, program, options, details } = command;
  const lines = [wrapped(`usage: ${synopsisOf(command)}`, '', '    '), '', `${summary[0]?.toUpperCase()}${summary.slice(1)}.`, ''];
  const named = program === undefined ? operands : [...operands, program];
  if (named.length > 0) lines.push(...rows(named.map(({ name, meaning }) => [name, meaning])), '');
  lines.push('options:', ...rows(options.map((option) => [spellingsOf(option), meaningOf(option)])), '');
  if (takesSource(command)) lines.push('SOURCE is one of:', ...rows(SOURCES.map(({ form, meaning }) => [form, meaning])), '');
  if (options.some(({ value }) => value?.kind === 'words')) {
    lines.push('words of -o:', ...rows(MOUNT_WORDS.map((word) => [spellingOfWord(word), word.meaning])), '');
    lines.push('words of -o for images:', ...rows(IMAGE_WORDS.map((word) => [spellingOfWord(word), word.meaning])), '');
  }
  for (const paragraph of details) lines.push(wrapped(paragraph, '', ''), '');
  return lines.join('\n');
}

/** One line to go with an error. */
export function hint(command: string | undefined): string {
  return `iomap${command === undefined ? '' : ` ${command}`} --help says what there is`;
}

/** Two columns; the second is wrapped. */
function rows(pairs: readonly (readonly [left: string, right: string])[]): string[] {
  const column = Math.min(30, Math.max(...pairs.map(([left]) => left.length))) + 4;
  return pairs.map(([left, right]) => {
    const start = `  ${left}`.padEnd(column);
    return start.length > column
      ? `${start}\n${wrapped(right, ' '.repeat(column), ' '.repeat(column))}`
      : wrapped(right, start, ' '.repeat(column));
  });
}

/** Words on lines of at most WIDTH characters, where the words allow. `first` and `next` are what lines begin with. */
function wrapped(text: string, first: string, next: string): string {
  const lines: string[] = [];
  let line = first;
  let isEmpty = true;
  for (const word of text.split(' ')) {
    if (!isEmpty && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = next;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line].join('\n');
}
