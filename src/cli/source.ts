import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { MountOptions } from '../fuse/mount/mount-options.ts';
import type { MemSourceArgs } from './mem-source.ts';
import type { MirrorSourceArgs } from './mirror-source.ts';
import { UsageError } from './usage-error.ts';

/** What makes the filesystem: a module for the serving thread, and what its function is called with. */
export interface Source {
  /** As typed. */
  readonly text: string;
  readonly url: string;
  readonly args: unknown;
  /** What the mount table shows as the device. */
  readonly fsname: string;
  /** How such a filesystem is served, where that is not as the library does it by default. */
  readonly options: MountOptions;
}

const SUFFIXES: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Of a name in the mount table; mount(8) passes on what fits a page with all other options. */
const NAME_LENGTH_MAX = 1024;

/**
 * Reads a SOURCE. Whether the module is there shows when it is loaded.
 *
 * Errors: UsageError.
 */
export function sourceOf(text: string, json: string | undefined, command: string): Source {
  if (text === '') throw new UsageError('SOURCE is empty', command);
  const [, kind, rest = ''] = /^(mem|mirror):(.*)$/s.exec(text) ?? [];
  if (kind !== undefined && json !== undefined) throw new UsageError('--args is for modules', command);
  if (kind === 'mem') {
    const args = memArgs(rest, command);
    return { text, url: new URL('./mem-source.js', import.meta.url).href, args, fsname: 'mem', options: {} };
  }
  if (kind === 'mirror') {
    if (rest === '') throw new UsageError('mirror: takes a directory', command);
    const args: MirrorSourceArgs = { directory: resolve(rest) };
    const url = new URL('./mirror-source.js', import.meta.url).href;
    // The host changes the files too, so that size and times are the host's, and data is there as soon as it is written.
    return { text, url, args, fsname: shownOr(`mirror:${args.directory}`, 'mirror'), options: { writebackCache: false } };
  }
  const isUrl = /^[a-z][a-z0-9+.-]+:/i.test(text);
  if (isUrl && !/^(?:file|data):/i.test(text)) throw new UsageError(`SOURCE '${text}' is of no known kind`, command);
  const url = isUrl ? text : pathToFileURL(resolve(text)).href;
  const args = json === undefined ? undefined : parsed(json, command);
  return { text, url, args, fsname: shownOr(isUrl ? text : resolve(text), 'iomap'), options: {} };
}

/** What the mount table can show. */
function shownOr(name: string, otherwise: string): string {
  return name.length <= NAME_LENGTH_MAX && /^[\w.:/@+-]+$/.test(name) ? name : otherwise;
}

function memArgs(words: string, command: string): MemSourceArgs {
  const args: { bytes?: number; inodes?: number } = {};
  for (const word of words === '' ? [] : words.split(',')) {
    const [, name, digits, suffix = ''] = /^(size|inodes)=(\d+)([kmgt]?)$/i.exec(word) ?? [];
    const count = Number(digits) * (SUFFIXES[suffix.toLowerCase()] ?? Number.NaN);
    if (name === undefined || !Number.isSafeInteger(count) || count === 0) {
      throw new UsageError(`'${word}' of mem:, which takes size=BYTES and inodes=COUNT`, command);
    }
    args[name.toLowerCase() === 'size' ? 'bytes' : 'inodes'] = count;
  }
  return args;
}

function parsed(json: string, command: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new UsageError(`--args is no JSON: ${(error as Error).message}`, command);
  }
}
