// Prints nothing: where things are in this repository, and how a script starts a program. Shared by the other scripts.

import { type SpawnOptions, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The repository. Compiled scripts are in build/scripts. */
export const root = resolve(import.meta.dirname, '../..');

/** Files below `folder` of the tree at `base`, as sorted paths relative to `base` with forward slashes; empty if there is no such folder. */
export function filesBelow(folder: string, base = root): string[] {
  if (!existsSync(join(base, folder))) return [];
  return readdirSync(join(base, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => path.slice(base.length + 1).replaceAll('\\', '/'))
    .sort();
}

/** The compiled form of a source file. Asking the sources what to run keeps leftovers of deleted files in build/ out. */
export function compiled(source: string): string {
  return join('build', source.replace(/\.ts$/, '.js'));
}

/** One program to its end: its exit code, and what it wrote unless `stdio` says that it goes elsewhere. A signal counts as a failure. */
export function runProgram(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<{ code: number; output: string }> {
  return new Promise((done, failed) => {
    const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const chunks: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', failed);
    child.on('close', (code, signal) => {
      if (signal !== null) chunks.push(Buffer.from(`ended by ${signal}\n`));
      done({ code: code ?? 1, output: Buffer.concat(chunks).toString() });
    });
  });
}

/** The command line of the compiler or the linter, from node_modules. */
export function tool(name: 'tsc' | 'biome'): string {
  return join(root, 'node_modules', '.bin', name);
}

/** True if `path` matches what the user typed: any of the patterns is part of it, or there are none. */
export function matches(path: string, patterns: readonly string[]): boolean {
  return patterns.length === 0 || patterns.some((pattern) => path.includes(pattern));
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
