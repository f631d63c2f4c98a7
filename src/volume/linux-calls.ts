import { type Task, wait } from '../base/task.ts';
import type { FileExtent } from '../vfs/attr.ts';
import type { FileDescription, LockKind, LockRange } from '../vfs/file-description.ts';
import type { FileView } from '../vfs/file-view.ts';
import { nameOfText } from '../vfs/name.ts';
import { aclFromMode, type PosixAcl } from '../vfs/posix-acl.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_END, SEEK_DATA, SEEK_HOLE, XATTR_CREATE, XATTR_REPLACE } from '../vfs/uapi.ts';
import { type AclOptions, getAcl, setAcl } from './acl.ts';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_ZERO_RANGE,
} from './constants.ts';
import { face, faced } from './node-error.ts';
import { encodeText, toBuffer } from './platform.ts';
import type { VolumeState } from './state.ts';
import { invalidType, invalidValue, toBytes, validateInteger, validateObject } from './validate.ts';

// Operations on open files that Linux has and node:fs lacks. Each is written once: promises and their Sync namesakes run the same Task.

export interface FallocateOptions {
  /** FALLOC_FL_*, or'ed with what the names below say. */
  mode?: number | undefined;
  keepSize?: boolean | undefined;
  punchHole?: boolean | undefined;
  zeroRange?: boolean | undefined;
  /** Takes the range out: what is behind it moves to its place. */
  collapse?: boolean | undefined;
  /** Makes room: what is at offset and behind moves back. */
  insert?: boolean | undefined;
  unshare?: boolean | undefined;
}

/** Allocates, punches, zeroes, takes out or makes room, as fallocate(2). */
export function* fallocate(
  state: VolumeState,
  file: FileDescription,
  offset: unknown,
  length: unknown,
  options: FallocateOptions = {},
): Task<void> {
  const pos = validateInteger(offset, 'offset');
  const count = validateInteger(length, 'length');
  const mode = fallocateMode(validateObject(options, 'options'));
  yield* faced(() => file.fallocate(state.caller, mode, pos, count), 'fallocate');
}

function fallocateMode(options: FallocateOptions): number {
  let mode = validateInteger(options.mode ?? 0, 'options.mode');
  if (options.keepSize === true) mode |= FALLOC_FL_KEEP_SIZE;
  // A hole never changes the size, and has to say so.
  if (options.punchHole === true) mode |= FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (options.zeroRange === true) mode |= FALLOC_FL_ZERO_RANGE;
  if (options.collapse === true) mode |= FALLOC_FL_COLLAPSE_RANGE;
  if (options.insert === true) mode |= FALLOC_FL_INSERT_RANGE;
  if (options.unshare === true) mode |= FALLOC_FL_UNSHARE_RANGE;
  return mode;
}

/** Where data begins at `pos` or behind. The position stays. Errors: ENXIO if none follows. */
export function seekData(state: VolumeState, file: FileDescription, pos: unknown): Task<number> {
  return seek(state, file, pos, SEEK_DATA);
}

/** Where a hole begins at `pos` or behind; the end of the file counts as one. The position stays. Errors: ENXIO past the end. */
export function seekHole(state: VolumeState, file: FileDescription, pos: unknown): Task<number> {
  return seek(state, file, pos, SEEK_HOLE);
}

function* seek(state: VolumeState, file: FileDescription, pos: unknown, whence: number): Task<number> {
  const from = validateInteger(pos, 'pos');
  const { position } = file;
  try {
    return yield* wait(file.lseek(state.caller, from, whence));
  } catch (error) {
    throw face(error, 'lseek');
  } finally {
    file.position = position;
  }
}

export interface FiemapOptions {
  start?: number | undefined;
  /** Bytes; absent: to the end. */
  length?: number | undefined;
  /** At most so many extents. */
  max?: number | undefined;
  /** FIEMAP_FLAG_*. */
  flags?: number | undefined;
}

/** The extents of a range of the file. */
export function* fiemap(state: VolumeState, file: FileDescription, options: FiemapOptions = {}): Task<FileExtent[]> {
  const bag = validateObject(options, 'options');
  const start = validateInteger(bag.start ?? 0, 'options.start', 0);
  const length = validateInteger(bag.length ?? Number.MAX_SAFE_INTEGER - start, 'options.length', 0);
  const flags = validateInteger(bag.flags ?? 0, 'options.flags', 0);
  const max = bag.max === undefined ? undefined : validateInteger(bag.max, 'options.max', 0);
  return yield* faced(() => file.fiemap(state.caller, start, length, flags, max), 'fiemap');
}

export interface CopyRangeOptions {
  /** Default 0. */
  position?: number | undefined;
  /** Where the bytes go in the other file. Default 0. */
  otherPosition?: number | undefined;
  /** Bytes; absent: to the end. */
  length?: number | undefined;
}

/** Copies bytes of this file into another open one. Shape: bytes copied, fewer at the end. */
export function* copyFileRange(
  state: VolumeState,
  file: FileDescription,
  other: FileDescription,
  options: CopyRangeOptions = {},
): Task<number> {
  const bag = validateObject(options, 'options');
  const position = validateInteger(bag.position ?? 0, 'options.position', 0);
  const otherPosition = validateInteger(bag.otherPosition ?? 0, 'options.otherPosition', 0);
  const length = validateInteger(bag.length ?? Number.MAX_SAFE_INTEGER, 'options.length', 0);
  return yield* faced(() => file.copyRange(state.caller, position, other, otherPosition, length), 'copy_file_range');
}

// Extended attributes and access control lists.

export interface SetXattrOptions {
  /** EEXIST if it is there. */
  create?: boolean | undefined;
  /** ENODATA if it is not. */
  replace?: boolean | undefined;
}

/** The value, or undefined where there is none. */
export function* fgetxattr(state: VolumeState, file: FileDescription, name: unknown): Task<Uint8Array | undefined> {
  const attribute = attributeName(name);
  const value = yield* faced(() => file.getxattr(state.caller, attribute), 'fgetxattr');
  return value === undefined ? undefined : toBuffer(value);
}

export function* fsetxattr(
  state: VolumeState,
  file: FileDescription,
  name: unknown,
  value: unknown,
  options: SetXattrOptions = {},
): Task<void> {
  const attribute = attributeName(name);
  const bag = validateObject(options, 'options');
  const flags = (bag.create === true ? XATTR_CREATE : 0) | (bag.replace === true ? XATTR_REPLACE : 0);
  const bytes = xattrBytes(value);
  yield* faced(() => file.setxattr(state.caller, attribute, bytes, flags), 'fsetxattr');
}

export function flistxattr(state: VolumeState, file: FileDescription): Task<string[]> {
  return faced(() => file.listxattr(state.caller), 'flistxattr');
}

/** Errors: ENODATA where there is none. */
export function* fremovexattr(state: VolumeState, file: FileDescription, name: unknown): Task<void> {
  const attribute = attributeName(name);
  yield* faced(() => file.removexattr(state.caller, attribute), 'fremovexattr');
}

function attributeName(name: unknown): string {
  if (typeof name !== 'string') throw invalidType('name', 'of type string', name);
  return nameOfText(name);
}

function xattrBytes(value: unknown): Uint8Array {
  if (typeof value === 'string') return encodeText(value, 'utf8');
  if (!ArrayBuffer.isView(value)) throw invalidType('value', 'of type string or an instance of Buffer, TypedArray, or DataView', value);
  return toBytes(value);
}

/** What decides about access, from the mode where there is no list; with `default` undefined where there is none. */
export function* fgetacl(state: VolumeState, file: FileDescription, options: AclOptions = {}): Task<PosixAcl | undefined> {
  const bag = validateObject(options, 'options');
  const acl = yield* faced(() => getAcl(bag, (name) => file.getxattr(state.caller, name)), 'fgetxattr');
  if (acl !== undefined || bag.default === true) return acl;
  return aclFromMode((yield* faced(() => file.stat(state.caller), 'fstat')).mode);
}

/** A list, its text, or undefined to remove it. */
export function* fsetacl(
  state: VolumeState,
  file: FileDescription,
  acl: PosixAcl | string | undefined,
  options: AclOptions = {},
): Task<void> {
  const store = {
    set: (name: string, value: Uint8Array) => file.setxattr(state.caller, name, value),
    remove: (name: string) => file.removexattr(state.caller, name),
  };
  yield* faced(() => setAcl(acl, validateObject(options, 'options'), store), 'fsetxattr');
}

// Locks.

export interface LockOptions {
  /** Default: 'exclusive'. */
  type?: 'shared' | 'exclusive' | undefined;
  start?: number | undefined;
  /** Bytes; absent or 0: to the end, wherever it comes to be. */
  length?: number | undefined;
  /** Wait for locks in the way, which is the default; otherwise EAGAIN. */
  wait?: boolean | undefined;
  /** Default: 'ofd', a lock of bytes that belongs to this open file. */
  kind?: LockKind | undefined;
}

/** A lock that is in the way. */
export interface LockHolder {
  readonly type: 'shared' | 'exclusive';
  readonly start: number;
  /** Bytes; 0: to the end. */
  readonly length: number;
  /** -1 for a lock of an open file. */
  readonly pid: number;
}

/** Takes an advisory lock. Blocks: until it is granted, unless told not to. Errors: EAGAIN, EDEADLK. */
export function* lock(state: VolumeState, file: FileDescription, options: LockOptions = {}): Task<void> {
  const { kind, range, syscall } = lockCall(options, lockType(options));
  yield* faced(() => file.lock(state.caller, kind, range, options.wait !== false), syscall);
}

export function* unlock(state: VolumeState, file: FileDescription, options: LockOptions = {}): Task<void> {
  const { kind, range, syscall } = lockCall(options, F_UNLCK);
  yield* faced(() => file.lock(state.caller, kind, range, false), syscall);
}

/** A lock of somebody else that would keep this one waiting, or undefined. */
export function* getLock(state: VolumeState, file: FileDescription, options: LockOptions = {}): Task<LockHolder | undefined> {
  const { kind, range, syscall } = lockCall(options, lockType(options));
  const found = yield* faced(() => file.getLock(state.caller, kind, range), syscall);
  if (found === undefined) return undefined;
  const length = found.end === LOCK_END ? 0 : found.end - found.start + 1;
  return { type: found.type === F_RDLCK ? 'shared' : 'exclusive', start: found.start, length, pid: found.pid };
}

function lockType(options: LockOptions): number {
  const { type = 'exclusive' } = validateObject(options, 'options');
  if (type !== 'shared' && type !== 'exclusive') throw invalidValue('options.type', type, "must be one of: 'shared', 'exclusive'");
  return type === 'shared' ? F_RDLCK : F_WRLCK;
}

function lockCall(options: LockOptions, type: number): { kind: LockKind; range: LockRange; syscall: string } {
  const { kind = 'ofd', start = 0, length = 0 } = validateObject(options, 'options');
  if (kind !== 'ofd' && kind !== 'posix' && kind !== 'flock') {
    throw invalidValue('options.kind', kind, "must be one of: 'ofd', 'posix', 'flock'");
  }
  validateInteger(start, 'options.start', 0);
  validateInteger(length, 'options.length', 0);
  return { kind, range: { type, start, end: length === 0 ? LOCK_END : start + length - 1 }, syscall: kind === 'flock' ? 'flock' : 'fcntl' };
}

// Memory.

export interface MapOptions {
  offset?: number | undefined;
  /** Bytes; absent: to the end of the file. */
  length?: number | undefined;
  writable?: boolean | undefined;
}

/** A range of the file as memory. It keeps the file open until it is closed itself. */
export function* map(state: VolumeState, file: FileDescription, options: MapOptions = {}): Task<FileView> {
  const { offset = 0, length, writable = false } = validateObject(options, 'options');
  validateInteger(offset, 'options.offset', 0);
  const bytes =
    length === undefined
      ? (yield* faced(() => file.stat(state.caller), 'mmap')).size - offset
      : validateInteger(length, 'options.length', 0);
  return yield* faced(() => file.map(state.caller, offset, bytes, writable), 'mmap');
}
