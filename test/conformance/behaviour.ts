// A behaviour: one thing that is true of file systems on Linux, as a function that throws where it is not. Collected in map.ts.

import assert from 'node:assert/strict';
import type { ErrnoCode } from '../../src/base/errno.ts';
import type { MaybePromise } from '../../src/base/task.ts';
import { O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY, S_IALLUGO } from '../../src/vfs/uapi.ts';
import { type Ids, Inexpressible, type PosixFace, type PosixFile, type PosixStat } from '../support/posix-face.ts';

/** What a file system, or a face, may lack as a whole. */
export const FEATURES = {
  users: 'acting as another user',
  mknod: 'device files and sockets',
  oPath: 'O_PATH',
  tmpfile: 'O_TMPFILE',
  exchange: 'RENAME_EXCHANGE',
  whiteout: 'RENAME_WHITEOUT',
  symlinkMax: 'targets of symbolic links up to 4095 bytes',
  atime: 'access times by the rules of relatime',
  sparse: 'holes: SEEK_DATA and SEEK_HOLE tell them from data',
  fallocate: 'fallocate, keeping the size or not',
  punch: 'FALLOC_FL_PUNCH_HOLE',
  zeroRange: 'FALLOC_FL_ZERO_RANGE',
  shiftRange: 'FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE',
  copyRange: 'copy_file_range',
  fiemap: 'FS_IOC_FIEMAP',
  xattr: 'extended attributes in user.',
  trustedXattr: 'extended attributes in trusted.',
  acl: 'POSIX ACLs',
  processes: 'locks of several processes, and waiting for them',
  posixLocks: 'record locks of processes',
  ofdLocks: 'record locks of open files',
  flock: 'flock',
  remount: 'becoming read-only',
} as const;
export type Feature = keyof typeof FEATURES;

export interface Behaviour {
  (fs: PosixFace): Promise<void>;
  /** Features without which it says nothing. */
  readonly needs?: readonly Feature[];
}

export type Behaviours = Record<string, Behaviour>;

/** A behaviour that needs features. */
export function needs(features: Feature | readonly Feature[], run: Behaviour): Behaviour {
  const all = [...(run.needs ?? []), ...(typeof features === 'string' ? [features] : features)];
  return Object.assign((fs: PosixFace) => run(fs), { needs: all });
}

/** Behaviours that all need the same features. */
export function allNeed(features: Feature | readonly Feature[], behaviours: Behaviours): Behaviours {
  return Object.fromEntries(Object.entries(behaviours).map(([name, run]) => [name, needs(features, run)]));
}

export const ALICE: Ids = { uid: 1001, gid: 1001 };
export const BOB: Ids = { uid: 1002, gid: 1002 };
/** A group that nobody is in by gid. */
export const STAFF = 2000;
export const ALICE_OF_STAFF: Ids = { ...ALICE, groups: [STAFF] };

/** A moment long ago: what is not it any more has moved. */
export const OLD = { sec: 1_000_000_000, nsec: 125_000_000 };

/** The call fails with this code. */
export async function fails(code: ErrnoCode, call: () => MaybePromise<unknown>): Promise<void> {
  const here = new Error();
  let got = 'success';
  try {
    await call();
  } catch (error) {
    if (error instanceof Inexpressible) throw error;
    got = (error as { code?: string }).code ?? String(error);
    if (got === code || (code === 'EOPNOTSUPP' && got === 'ENOTSUP')) return; // one number on Linux, with two names
  }
  // The stack of an assertion made here would end in this function.
  const failure = new assert.AssertionError({ message: `expected ${code}, got ${got}`, actual: got, expected: code, operator: 'fails' });
  if (here.stack !== undefined) failure.stack = here.stack.replace(/^Error/, `${failure.name}: ${failure.message}`);
  throw failure;
}

/** Writes a file from its beginning, made if it is not there. */
export async function put(fs: PosixFace, path: string, data: Uint8Array | string = '', mode = 0o666): Promise<void> {
  const file = await fs.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (data.length > 0) await file.write(data);
  await file.close();
}

export async function bytesIn(fs: PosixFace, path: string): Promise<Uint8Array> {
  const file = await fs.open(path, O_RDONLY);
  try {
    return await all(file);
  } finally {
    await file.close();
  }
}

/** Content of a file as text. */
export async function textIn(fs: PosixFace, path: string): Promise<string> {
  return text(await bytesIn(fs, path));
}

/** Everything from the beginning of an open file, up to 1 MiB. */
export async function all(file: PosixFile): Promise<Uint8Array> {
  return await file.pread(1024 * 1024, 0);
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

/** Bytes of which no two places nearby look alike, none of them 0. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((i * 31 + Math.floor(i / 256) * 17 + seed * 53) % 255) + 1);
}

/** Opens, runs, closes. */
export async function withFile<T>(fs: PosixFace, path: string, flags: number, use: (file: PosixFile) => MaybePromise<T>): Promise<T> {
  const file = await fs.open(path, flags);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

export async function isThere(fs: PosixFace, path: string): Promise<boolean> {
  try {
    await fs.lstat(path);
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return false;
    throw error;
  }
}

/** Names in a directory, sorted. */
export async function namesIn(fs: PosixFace, path: string): Promise<string[]> {
  const dir = await fs.open(path, O_RDONLY);
  const names: string[] = [];
  for (;;) {
    const some = await dir.getdents();
    if (some.length === 0) break;
    names.push(...some.map(({ name }) => name));
  }
  await dir.close();
  return names.sort();
}

/** Permission and set-id bits. */
export async function modeOf(fs: PosixFace, path: string): Promise<number> {
  return (await fs.lstat(path)).mode & S_IALLUGO;
}

/** A directory in which everybody may do everything. */
export async function commons(fs: PosixFace, path: string, mode = 0o777): Promise<void> {
  await fs.mkdir(path);
  await fs.chmod(path, mode);
}

/** An empty file of this owner and mode. */
export async function owned(fs: PosixFace, path: string, ids: Ids, mode: number, data: Uint8Array | string = ''): Promise<void> {
  await put(fs, path, data);
  await fs.chown(path, ids.uid, ids.gid);
  await fs.chmod(path, mode);
}

/** A directory of this owner and mode. */
export async function ownedDir(fs: PosixFace, path: string, ids: Ids, mode: number): Promise<void> {
  await fs.mkdir(path);
  await fs.chown(path, ids.uid, ids.gid);
  await fs.chmod(path, mode);
}

/** Which of the times are no longer those that `was` says. */
export function moved(was: PosixStat, is: PosixStat): string {
  const names = (['atime', 'mtime', 'ctime'] as const).filter((name) => was[name] !== is[name] || was[`${name}Nsec`] !== is[`${name}Nsec`]);
  return names.join(' ');
}

/** An arm of the path that is a directory per name. */
export async function mkdirs(fs: PosixFace, ...paths: string[]): Promise<void> {
  for (const path of paths) await fs.mkdir(path);
}
