// What serving processes note about their mounts, for status and umount: one file per mount, named by its device number, and gone with it.
// It is told to nobody that a note is true: a process may have been killed, and its numbers given to others, so readers compare.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MountEntry } from './mount-table.ts';

export interface Registration {
  readonly device: string;
  readonly directory: string;
  readonly type: string;
  readonly fsname: string;
  /** SOURCE, as typed. */
  readonly source: string;
  /** Of the serving process. */
  readonly pid: number;
  /** When that process started, in clock ticks since boot: a pid alone may be another's by now. */
  readonly startTime: string;
}

/** Where the notes are; undefined if there is no place for them. */
export function runtimeDir(): string | undefined {
  const { IOMAP_RUNTIME_DIR, XDG_RUNTIME_DIR } = process.env;
  if (IOMAP_RUNTIME_DIR !== undefined && IOMAP_RUNTIME_DIR !== '') return IOMAP_RUNTIME_DIR;
  if (process.getuid?.() === 0) return '/run/iomap';
  return XDG_RUNTIME_DIR === undefined || XDG_RUNTIME_DIR === '' ? undefined : join(XDG_RUNTIME_DIR, 'iomap');
}

/** Notes that this process serves a mount. Returns what takes the note away; undefined if there is no place that can be written to. */
export function register(entry: MountEntry, source: string): (() => void) | undefined {
  const directory = runtimeDir();
  const startTime = startTimeOf(process.pid);
  if (directory === undefined || startTime === undefined) return undefined;
  const { device, type, fsname } = entry;
  const note: Registration = { device, directory: entry.directory, type, fsname, source, pid: process.pid, startTime };
  const file = fileOf(directory, device);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const fresh = `${file}.${process.pid}`;
    writeFileSync(fresh, JSON.stringify(note));
    renameSync(fresh, file); // readers see all of it or nothing
  } catch {
    return undefined;
  }
  return () => {
    // The number may have been given to a mount of another process between the end of ours and now.
    if (read(file)?.pid === process.pid) rmSync(file, { force: true });
  };
}

/** The note about a mount, if it is about this one. */
export function registrationOf({ device, directory, type, fsname }: MountEntry): Registration | undefined {
  const folder = runtimeDir();
  const note = folder === undefined ? undefined : read(fileOf(folder, device));
  const fits = note?.device === device && note.directory === directory && note.type === type && note.fsname === fsname;
  return fits ? note : undefined;
}

/** True while the process that made the note runs. */
export function isServing({ pid, startTime }: Registration): boolean {
  return startTimeOf(pid) === startTime;
}

/** Where the process that serves a mount of this device number can be asked about it; undefined if there is no place for it. */
export function controlSocketOf(device: string): string | undefined {
  const directory = runtimeDir();
  return directory === undefined ? undefined : join(directory, `${device.replace(':', '-')}.sock`);
}

/** Takes away what a process that was killed left behind. */
export function forgetMount(note: Registration): void {
  const directory = runtimeDir();
  if (directory === undefined || isServing(note)) return;
  const file = fileOf(directory, note.device);
  if (read(file)?.pid !== note.pid) return;
  rmSync(file, { force: true });
  rmSync(file.replace(/json$/, 'sock'), { force: true });
}

function fileOf(directory: string, device: string): string {
  return join(directory, `${device.replace(':', '-')}.json`);
}

function read(file: string): Registration | undefined {
  let note: Partial<Registration>;
  try {
    note = JSON.parse(readFileSync(file, 'utf8')) as Partial<Registration>;
  } catch {
    return undefined; // not there, or written by something else
  }
  const isNote = typeof note === 'object' && note !== null && Number.isInteger(note.pid) && typeof note.source === 'string';
  return isNote ? (note as Registration) : undefined;
}

/** Field 22 of /proc/PID/stat; undefined if there is no such process, or only what is left of it until its parent asks. */
function startTimeOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name, field 2, is in parentheses and may have spaces and parentheses in it.
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' ? undefined : rest[18];
}
