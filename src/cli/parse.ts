import { parseArgs } from 'node:util';
import { COMMANDS, type CommandRow, commandOf, GLOBAL_OPTIONS, type OptionRow } from './option-table.ts';
import { UsageError } from './usage-error.ts';

/** A command line that agrees with the table. */
export interface CommandLine {
  /** Absent: options of `iomap` itself. */
  readonly command: CommandRow | undefined;
  /** As many as the command has. */
  readonly operands: readonly string[];
  /** What follows `--`, of commands that run a program. */
  readonly program: readonly string[];
  has(option: string): boolean;
  /** The values of an option, in order. */
  values(option: string): readonly string[];
  value(option: string): string | undefined;
}

/**
 * Reads the words after `iomap`. With --help, operands may be missing.
 *
 * Errors: UsageError.
 */
export function parseCommandLine(words: readonly string[]): CommandLine {
  const [first] = words;
  if (first === undefined) throw new UsageError('no command');
  if (first.startsWith('-')) return parseWords(undefined, GLOBAL_OPTIONS, words);
  const command = commandOf(first);
  if (command === undefined) throw new UsageError(`no command '${first}'; there are ${COMMANDS.map(({ name }) => name).join(', ')}`);
  const line = parseWords(command, command.options, words.slice(1));
  if (!line.has('help')) checkOperands(command, line);
  return line;
}

function parseWords(command: CommandRow | undefined, options: readonly OptionRow[], words: readonly string[]): CommandLine {
  const { tokens } = tokensOf(command, options, words);
  const given = new Map<string, string[]>();
  const operands: string[] = [];
  const program: string[] = [];
  let isProgram = false;
  for (const token of tokens) {
    if (token.kind === 'option-terminator') isProgram = command?.program !== undefined;
    else if (token.kind === 'positional') (isProgram ? program : operands).push(token.value);
    else given.set(token.name, [...(given.get(token.name) ?? []), ...(token.value === undefined ? [] : [token.value])]);
  }
  for (const { name, repeats } of options) {
    if (repeats !== true && (given.get(name)?.length ?? 0) > 1) throw new UsageError(`--${name} is given twice`, command?.name);
  }
  return {
    command,
    operands,
    program,
    has: (option) => given.has(option),
    values: (option) => given.get(option) ?? [],
    value: (option) => given.get(option)?.[0],
  };
}

function tokensOf(command: CommandRow | undefined, options: readonly OptionRow[], words: readonly string[]) {
  const config = options.map(({ name, short, value }) => [
    name,
    { type: value === undefined ? ('boolean' as const) : ('string' as const), multiple: true, ...(short === undefined ? {} : { short }) },
  ]);
  try {
    return parseArgs({
      args: [...words],
      options: Object.fromEntries(config),
      allowPositionals: command !== undefined,
      tokens: true,
      strict: true,
    });
  } catch (error) {
    // The first sentence says what; the others are advice about `--`, which means something else here.
    const [what = ''] = (error as Error).message.split(/[.\n](?:\s|$)/);
    throw new UsageError(what, command?.name);
  }
}

function checkOperands({ name, operands, program }: CommandRow, line: CommandLine): void {
  const missing = operands[line.operands.length];
  if (missing !== undefined) throw new UsageError(`${missing.name} is missing`, name);
  const extra = line.operands[operands.length];
  if (extra !== undefined)
    throw new UsageError(`'${extra}' is one operand too many${program === undefined ? '' : '; programs follow --'}`, name);
  if (program !== undefined && line.program.length === 0) throw new UsageError(`-- ${program.name} is missing`, name);
  for (const [i, { name: operand, choices }] of operands.entries()) {
    const word = line.operands[i] ?? '';
    if (choices !== undefined && !choices.includes(word)) {
      throw new UsageError(`${operand} '${word}'; there is ${choices.join(', ')}`, name);
    }
  }
}
