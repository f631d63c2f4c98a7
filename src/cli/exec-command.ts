import { spawn } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import { hasCode } from '../base/fs-error.ts';
import type { CommandLine } from './parse.ts';
import { endMount, leave, mountServed, printNotice } from './served-mount.ts';
import { sourceRequest } from './source.ts';

/** Exit statuses of programs that run programs. Source: POSIX, env. */
const CANNOT_START = 126;
const NOT_THERE = 127;
const SIGNALLED = 128;

const PASSED_ON = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGQUIT'] as const;
/** What a terminal sends to all of its foreground, the program included. */
const FROM_TERMINAL: readonly string[] = ['SIGINT', 'SIGQUIT'];

export async function execCommand(line: CommandLine): Promise<number> {
  const { source, options } = sourceRequest(line);
  const signals = holdSignals();
  const directory = mkdtempSync(join(tmpdir(), 'iomap-exec-'));
  try {
    const served = await mountServed({ source, directory, options, pidfile: undefined }, printNotice);
    const { mounted } = served;
    try {
      return await runProgram(withDirectory(line.program, mounted.directory), mounted.directory, signals);
    } finally {
      // What the program left running may use the mount for ever, and whoever waits for that may have enough of it.
      signals.to = () => {
        leave(served);
        rmdirSync(directory);
        process.kill(process.pid, 'SIGKILL');
      };
      await endMount(mounted);
    }
  } finally {
    rmdirSync(directory);
  }
}

/** The words with the directory in them: for {} alone, and at the start of {}/PATH. */
export function withDirectory(words: readonly string[], directory: string): string[] {
  return words.map((word) => (word === '{}' || word.startsWith('{}/') ? directory + word.slice(2) : word));
}

/** Signals that came, and to whom they go. */
interface Signals {
  readonly came: NodeJS.Signals[];
  to: ((signal: NodeJS.Signals) => void) | undefined;
}

/** From here on no signal ends this process, so that it always gets to unmount; but a second one before there is a program. */
function holdSignals(): Signals {
  const signals: Signals = { came: [], to: undefined };
  for (const signal of PASSED_ON) {
    process.on(signal, () => {
      if (signals.to !== undefined) signals.to(signal);
      else if (signals.came.push(signal) > 1) process.kill(process.pid, 'SIGKILL');
    });
  }
  return signals;
}

/** Its exit status, as a shell has it. */
function runProgram([file = '', ...args]: readonly string[], directory: string, signals: Signals): Promise<number> {
  const [early] = signals.came;
  if (early !== undefined) return Promise.resolve(SIGNALLED + constants.signals[early]);
  return new Promise((resolve) => {
    const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, IOMAP_DIR: directory } });
    signals.to = (signal) => {
      if (!(isatty(0) && FROM_TERMINAL.includes(signal))) child.kill(signal);
    };
    child.once('error', (error) => {
      process.stderr.write(`iomap: ${error.message}\n`);
      resolve(hasCode(error, 'ENOENT') ? NOT_THERE : CANNOT_START);
    });
    child.once('exit', (code, signal) => resolve(code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal])));
  });
}
