import { spawn } from 'node:child_process';
import { FsError } from '../../base/fs-error.ts';

export interface ProgramResult {
  readonly code: number | null;
  /** Both of its outputs. */
  readonly text: string;
}

/** Administration tools are not in the path of everybody; what they say is read. */
export const TOOL_ENV: NodeJS.ProcessEnv = {
  ...process.env,
  LC_ALL: 'C',
  PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`,
};

/**
 * Runs a program to its end; `fd` is its descriptor 3.
 *
 * Errors: ENOENT if it is not there.
 */
export function runProgram(command: string, args: readonly string[], fd?: number): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])], env: TOOL_ENV });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => (text += piece.toString()));
    child.once('error', (error) => reject(new FsError('ENOENT', command, { cause: error, detail: `${command} cannot be started` })));
    child.once('close', (code) => resolve({ code, text }));
  });
}
