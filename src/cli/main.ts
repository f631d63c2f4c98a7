#!/usr/bin/env node
// The command `iomap`. What there is to type: option-table.ts.

import { bashCompletion } from './bash-completion.ts';
import { doctorCommand } from './doctor-command.ts';
import { execCommand } from './exec-command.ts';
import { failureOf } from './failure.ts';
import { manPage } from './man-page.ts';
import { mountCommand } from './mount-command.ts';
import { type CommandLine, parseCommandLine } from './parse.ts';
import { print } from './print.ts';
import { statusCommand } from './status-command.ts';
import { umountCommand } from './umount-command.ts';
import { commandHelp, helpText, hint } from './usage.ts';
import { UsageError } from './usage-error.ts';
import { packageVersion } from './version.ts';

const COMMANDS: Readonly<Record<string, (line: CommandLine) => Promise<number> | number>> = {
  mount: mountCommand,
  umount: umountCommand,
  exec: execCommand,
  status: statusCommand,
  doctor: doctorCommand,
  completion: () => written(bashCompletion()),
  man: () => written(manPage(packageVersion())),
};

/** Answers the exit status. */
async function main(words: readonly string[]): Promise<number> {
  const line = parseCommandLine(words);
  const { command } = line;
  if (line.has('help')) return written(command === undefined ? helpText() : commandHelp(command));
  if (command !== undefined) return (await COMMANDS[command.name]?.(line)) ?? 1;
  if (!line.has('version')) throw new UsageError('no command');
  print(line, { version: packageVersion() }, packageVersion());
  return 0;
}

function written(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** Whether the error is to be JSON too, whatever is wrong with the words. What follows `--` is another program's. */
function wantsJson(words: readonly string[]): boolean {
  const end = words.indexOf('--');
  return words.slice(0, end < 0 ? words.length : end).includes('--json');
}

const words = process.argv.slice(2);
// Who reads has read enough, as `iomap man | head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
try {
  process.exitCode = await main(words);
} catch (error) {
  const isUsage = error instanceof UsageError;
  const { code, message } = isUsage ? { code: 'EINVAL', message: error.message } : failureOf(error);
  process.stderr.write(`iomap: ${message}\n${isUsage ? `${hint(error.command)}\n` : ''}`);
  if (wantsJson(words)) process.stdout.write(`${JSON.stringify({ error: { code: code ?? null, message } })}\n`);
  process.exitCode = isUsage ? 2 : 1;
}
