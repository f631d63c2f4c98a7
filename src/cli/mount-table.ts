import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type Registration, registrationOf } from './registry.ts';

/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  /** MAJOR:MINOR of its superblock. */
  readonly device: string;
  readonly directory: string;
  readonly type: string;
  readonly fsname: string;
  /** Of the mount and of the superblock. */
  readonly words: readonly string[];
}

/** A mount that iomap serves, or served. */
export interface OurMount {
  readonly entry: MountEntry;
  /** Absent for a mount that a program made through the library. */
  readonly registration: Registration | undefined;
}

/** The mounts that this process sees, in order: of several on one directory, the last is the one in sight. */
export function readMountTable(): MountEntry[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [front = '', back = ''] = line.split(' - ');
    const [, , device, , directory, words] = front.split(' ');
    const [type, fsname, more = ''] = back.split(' ');
    if (device === undefined || directory === undefined || words === undefined || type === undefined || fsname === undefined) continue;
    entries.push({
      device,
      directory: unescaped(directory),
      type,
      fsname: unescaped(fsname),
      words: [...words.split(','), ...more.split(',')],
    });
  }
  return entries;
}

/** Space, tab, newline and backslash are written as \ and three octal digits. */
function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** This mount as one of ours, by its type or by what its serving process noted; undefined for those of others. */
export function asOurs(entry: MountEntry): OurMount | undefined {
  if (!entry.type.startsWith('fuse.')) return undefined;
  const registration = registrationOf(entry);
  return entry.type === 'fuse.iomap' || registration !== undefined ? { entry, registration } : undefined;
}

/**
 * The mount in sight at a directory. A stale or silent mount cannot be looked at, so its name is compared before anything asks for it.
 *
 * Shape: undefined if nothing is mounted there.
 */
export function mountAt(directory: string, table = readMountTable()): MountEntry | undefined {
  const at = (path: string) => table.findLast((entry) => entry.directory === path);
  const named = resolve(directory);
  return at(named) ?? at(tryRealpath(named) ?? join(tryRealpath(dirname(named)) ?? dirname(named), basename(named)));
}

function tryRealpath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined; // not there, or a stale mount
  }
}
