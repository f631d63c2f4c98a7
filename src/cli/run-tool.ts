import { spawn } from 'node:child_process';
import { FsError } from '../base/fs-error.ts';

export interface ToolResult {
  /** Null if a signal ended it. */
  readonly code: number | null;
  /** Both of its outputs. */
  readonly output: string;
}

/**
 * Runs a program to its end, in English. After `timeoutMs` it is killed.
 *
 * Errors: ENOENT if it is not there.
 */
export function runTool(file: string, args: readonly string[], timeoutMs?: number): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
      killSignal: 'SIGKILL',
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => (output += piece.toString()));
    child.once('error', (error) => reject(new FsError('ENOENT', file, { cause: error, detail: `${file} cannot be started` })));
    child.once('close', (code) => resolve({ code, output }));
  });
}
