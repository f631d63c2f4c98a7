import { type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FsError } from '../base/fs-error.ts';
import type { MountOptions } from '../fuse/mount/mount-options.ts';
import type { ImageOptions } from '../image/image.ts';
import type { ImageSourceArgs } from '../image/image-source.ts';
import { IMAGE_SOURCE } from '../image/mount-image.ts';
import { imageOptionsOf } from './image-words.ts';
import type { MemSourceArgs } from './mem-source.ts';
import type { MirrorSourceArgs } from './mirror-source.ts';
import { mountOptionsOf } from './mount-words.ts';
import type { CommandLine } from './parse.ts';
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

/** What a command line asks for: a source, and how it is mounted. */
export interface SourceRequest {
  readonly source: Source;
  readonly options: MountOptions;
}

const MODULE = /\.[mc]?[jt]s$/;

const SUFFIXES: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Of a name in the mount table; mount(8) passes on what fits a page with all other options. */
const NAME_LENGTH_MAX = 1024;

/**
 * Reads SOURCE, --args and -o. A regular file or block device that is no module is an image.
 *
 * Errors: UsageError; ENOENT for what is neither there nor a module.
 */
export function sourceRequest(line: CommandLine): SourceRequest {
  const command = line.command?.name ?? '';
  const [text = ''] = line.operands;
  const json = line.value('args');
  const place = imagePlace(text);
  const { image, rest } = imageOptionsOf(line.values('options'), place !== undefined, command);
  const options = rest.length === 0 ? mountOptionsOf([], command) : mountOptionsOf(rest, command);
  if (place === undefined) return { source: sourceOf(text, json, command), options };
  if (json !== undefined) throw new UsageError('--args is for modules', command);
  const { path, partition } = place;
  if (partition !== undefined && (image.partition ?? image.offset ?? image.size) !== undefined) {
    throw new UsageError(`SOURCE '${text}' names a partition, and so do the words of -o`, command);
  }
  const readOnly = options.readOnly === true || image.noRecovery === true;
  const opened: ImageOptions = { ...image, ...(partition === undefined ? {} : { partition }), readOnly };
  const args: ImageSourceArgs = {
    path,
    options: image.journal === undefined ? opened : { ...opened, journal: resolve(image.journal) },
  };
  const source: Source = { text, url: IMAGE_SOURCE.href, args, fsname: shownOr(path, 'image'), options: {} };
  // Users cannot have device files and set-user-ID bits of an image, which they may have made.
  const guarded = process.getuid?.() === 0 ? {} : { nosuid: true, nodev: true };
  return { source, options: { ...guarded, ...options, readOnly } };
}

/** An image, and the partition of it in IMAGE:partN; undefined for what is none. */
function imagePlace(text: string): { readonly path: string; readonly partition?: number } | undefined {
  if (/^(?:mem|mirror|file|data):/i.test(text) || text === '') return undefined;
  const whole = resolve(text);
  const found = tryStat(whole);
  if (found !== undefined) return isImage(found, whole) ? { path: whole } : undefined;
  const [, path = '', digits] = /^(.+):part(\d{1,4})$/.exec(whole) ?? [];
  const inside = digits === undefined ? undefined : tryStat(path);
  if (inside !== undefined && isImage(inside, path)) return { path, partition: Number(digits) };
  if (!MODULE.test(text) && !/^[a-z][a-z0-9+.-]+:/i.test(text))
    throw new FsError('ENOENT', 'open', { path: digits === undefined ? whole : path });
  return undefined;
}

function isImage(stat: Stats, path: string): boolean {
  return stat.isBlockDevice() || (stat.isFile() && !MODULE.test(path));
}

function tryStat(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/**
 * Reads a SOURCE that is no image. Whether the module is there shows when it is loaded.
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
