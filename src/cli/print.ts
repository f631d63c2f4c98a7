import type { CommandLine } from './parse.ts';

/** Prints what a command has to say: as text, or with --json the facts. */
export function print(line: CommandLine, facts: object, text: string): void {
  process.stdout.write(`${line.has('json') ? JSON.stringify(facts) : text}\n`);
}
