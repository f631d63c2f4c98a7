import type { AbortSignalLike } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import type { Timespec } from '../vfs/attr.ts';
import { nameOf, nameOfText } from '../vfs/name.ts';
import { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } from '../vfs/uapi.ts';
import { builtin, hasNode } from './platform.ts';

// Arguments as node:fs checks them: same classes, codes and messages. Source: the documentation of node:fs and of Node's error codes, and
// what Node 20 and 26 answer.

/** A path as node:fs takes it. */
export type PathLike = string | Uint8Array | URL;

/** What node:fs takes for the moments of utimes: seconds, also as text, or a Date. */
export type TimeLike = string | number | Date;

const INT32_MAX = 2 ** 31 - 1;
const UINT32_MAX = 2 ** 32 - 1;
/** Characters of a value that an error message shows. */
const SHOWN_MAX = 128;

/** An error with one of Node's codes, printed as Node prints its own. */
export function nodeError(Base: ErrorConstructor | TypeErrorConstructor | RangeErrorConstructor, code: string, message: string): Error {
  const error = new Base(message);
  // The code is in the first line of the stack, but not in the name.
  const name = error.name;
  error.name = `${name} [${code}]`;
  void error.stack;
  Reflect.deleteProperty(error, 'name');
  Object.defineProperty(error, 'toString', { value: () => `${name} [${code}]: ${message}`, configurable: true, writable: true });
  return Object.assign(error, { code });
}

/** ERR_INVALID_ARG_TYPE; `expected` is the part between "must be" and the received value: "of type number". */
export function invalidType(name: string, expected: string, value: unknown): Error {
  return nodeError(TypeError, 'ERR_INVALID_ARG_TYPE', `The ${quoted(name)} must be ${expected}. Received ${describe(value)}`);
}

export function invalidValue(name: string, value: unknown, reason = 'is invalid'): Error {
  const kind = name.includes('.') ? 'property' : 'argument';
  const shown = inspect(value);
  const text = shown.length > SHOWN_MAX ? `${shown.slice(0, SHOWN_MAX)}...` : shown;
  return nodeError(TypeError, 'ERR_INVALID_ARG_VALUE', `The ${kind} '${name}' ${reason}. Received ${text}`);
}

/** ERR_OUT_OF_RANGE; `range` says what the value must be: ">= 0". */
export function outOfRange(name: string, range: string, value: unknown): Error {
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${numberText(value)}`;
  return nodeError(RangeError, 'ERR_OUT_OF_RANGE', message);
}

function quoted(name: string): string {
  if (name.endsWith(' argument')) return name;
  return `"${name}" ${name.includes('.') ? 'property' : 'argument'}`;
}

function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object') {
    const name = (value as { constructor?: { name?: string } }).constructor?.name;
    return name ? `an instance of ${name}` : inspect(value, -1);
  }
  const shown = inspect(value);
  return `type ${typeof value} (${shown.length > 28 ? `${shown.slice(0, 25)}...` : shown})`;
}

function inspect(value: unknown, depth = 2): string {
  if (hasNode) return builtin<{ inspect(value: unknown, options: object): string }>('node:util').inspect(value, { depth, colors: false });
  return typeof value === 'string' ? `'${value}'` : typeof value === 'bigint' ? `${value}n` : String(value);
}

/** Large whole numbers get separators. */
function numberText(value: unknown): string {
  if (typeof value === 'number' && Number.isInteger(value) && Math.abs(value) > 2 ** 32) return separated(String(value));
  if (typeof value === 'bigint') return `${value > 2n ** 32n || value < -(2n ** 32n) ? separated(String(value)) : String(value)}n`;
  return inspect(value);
}

function separated(digits: string): string {
  return digits.replace(/\B(?=(?:\d{3})+$)/g, '_');
}

// Values.

export function validateInteger(
  value: unknown,
  name: string,
  min: number = Number.MIN_SAFE_INTEGER,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
  return value;
}

export function validateInt32(value: unknown, name: string, min: number = -INT32_MAX - 1, max: number = INT32_MAX): number {
  return validateInteger(value, name, min, max);
}

export function validateUint32(value: unknown, name: string): number {
  return validateInteger(value, name, 0, UINT32_MAX);
}

/** A user or group number of chown: -1 leaves it as it is. */
export function validateId(value: unknown, name: string): number {
  return validateInteger(value, name, -1, UINT32_MAX);
}

/** A descriptor, whether it is open or not. */
export function validateFd(value: unknown): number {
  return validateInt32(value, 'fd', 0);
}

export function validateBoolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value);
  return value;
}

export function validateFunction<T>(value: T, name: string): T {
  if (typeof value !== 'function') throw invalidType(name, 'of type function', value);
  return value;
}

export function validateObject<T>(value: T, name: string): T {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw invalidType(name, 'of type object', value);
  return value;
}

const ENCODINGS = new Set([
  'utf8',
  'utf-8',
  'utf16le',
  'utf-16le',
  'ucs2',
  'ucs-2',
  'latin1',
  'binary',
  'ascii',
  'hex',
  'base64',
  'base64url',
]);

/** One of Node's encodings, or none. */
export function validateEncoding(value: unknown, name = 'encoding'): string | null | undefined {
  if (!value) return value as null | undefined;
  if (typeof value !== 'string' || !ENCODINGS.has(value.toLowerCase())) throw invalidValue(name, value, 'is invalid encoding');
  return value;
}

export function validateAbortSignal(value: unknown, name = 'options.signal'): AbortSignalLike | undefined {
  if (value === undefined) return undefined;
  if (value === null || typeof value !== 'object' || !('aborted' in value)) throw invalidType(name, 'an instance of AbortSignal', value);
  return value as AbortSignalLike;
}

/** An option that names an encoding, and one that gives up. */
export interface CommonOptions {
  encoding?: string | null | undefined;
  signal?: AbortSignalLike | undefined;
}

/**
 * Options with their defaults: an object, the name of an encoding, or nothing. Functions count as nothing, as in node:fs.
 *
 * Shape:  a fresh object; what is absent or undefined has its default. Its encoding and signal are checked.
 */
export function toOptions<D extends object>(options: unknown, defaults: D = {} as D): D & CommonOptions {
  if (options === undefined || options === null) return { ...defaults };
  const given = typeof options === 'string' ? { encoding: options } : typeof options === 'function' ? {} : (options ?? {});
  if (typeof given !== 'object') throw invalidType('options', 'one of type string or object', options);
  const all = { ...defaults } as Record<string, unknown>;
  for (const key in given) {
    const value = (given as Record<string, unknown>)[key];
    if (value !== undefined) all[key] = value;
  }
  if (all['encoding'] !== 'buffer') validateEncoding(all['encoding']);
  validateAbortSignal(all['signal']);
  return all as unknown as D & CommonOptions;
}

// Paths, flags, modes, moments.

/** The name (name.ts) of a path that a caller gave. */
export function toPath(value: unknown, name = 'path'): string {
  if (typeof value === 'string') {
    if (value.includes('\0')) throw withNul(name, value);
    return nameOfText(value);
  }
  if (value instanceof Uint8Array) {
    if (value.includes(0)) throw withNul(name, value);
    return nameOf(value);
  }
  if (isUrl(value)) return toPath(builtin<{ fileURLToPath(url: unknown): string }>('node:url').fileURLToPath(value), name);
  throw invalidType(name, 'of type string or an instance of Buffer or URL', value);
}

function withNul(name: string, value: unknown): Error {
  return invalidValue(name, value, 'must be a string, Uint8Array, or URL without null bytes');
}

function isUrl(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  const url = value as { href?: unknown; protocol?: unknown; auth?: unknown; path?: unknown };
  return Boolean(url.href && url.protocol) && url.auth === undefined && url.path === undefined;
}

const FLAGS = new Map<string, number>([
  ['r', O_RDONLY],
  ['r+', O_RDWR],
  ['w', O_TRUNC | O_CREAT | O_WRONLY],
  ['w+', O_TRUNC | O_CREAT | O_RDWR],
]);
for (const mark of ['a', 'a+']) {
  FLAGS.set(mark, O_APPEND | O_CREAT | (mark.length > 1 ? O_RDWR : O_WRONLY));
}
// 'x' and 's' stand on either side of the letter.
for (const [mark, flags] of [...FLAGS]) {
  const letter = mark.slice(0, 1);
  const rest = mark.slice(1);
  const extra: [string, number][] =
    letter === 'r'
      ? [['s', O_SYNC]]
      : letter === 'w'
        ? [['x', O_EXCL]]
        : [
            ['x', O_EXCL],
            ['s', O_SYNC],
          ];
  for (const [sign, bits] of extra) {
    FLAGS.set(letter + sign + rest, flags | bits);
    FLAGS.set(sign + letter + rest, flags | bits);
  }
}

/** O_* of flags as node:fs takes them. */
export function toFlags(value: unknown, fallback: string | number = O_RDONLY, name = 'flags'): number {
  if (typeof value === 'number') return validateInt32(value, name);
  if (value === null || value === undefined) return toFlags(fallback, O_RDONLY, name);
  const flags = typeof value === 'string' ? FLAGS.get(value) : undefined;
  if (flags === undefined) throw invalidValue(name, value);
  return flags;
}

/** Mode bits from a number or octal digits. */
export function toMode(value: unknown, fallback?: number, name = 'mode'): number {
  const mode = value ?? fallback;
  if (typeof mode !== 'string') return validateUint32(mode, name);
  if (!/^[0-7]+$/.test(mode)) throw invalidValue(name, value, 'must be a 32-bit unsigned integer or an octal string');
  return validateUint32(Number.parseInt(mode, 8), name);
}

/** A moment of utimes. Numbers are seconds, and negative ones mean now, as in Node; a Date keeps its milliseconds exactly. */
export function toTimestamp(value: unknown, name = 'time'): Timespec {
  // biome-ignore lint/suspicious/noSelfCompare: text that is no number is none.
  if (typeof value === 'string' && +value === +value) return ofSeconds(+value);
  if (typeof value === 'number' && Number.isFinite(value)) return ofSeconds(value < 0 ? Date.now() / 1000 : value);
  if (!(value instanceof Date)) throw invalidType(name, 'an instance of Date or an Time in seconds', value);
  const ms = value.getTime();
  if (Number.isNaN(ms)) throw new FsError('EINVAL', 'utime');
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: (ms - sec * 1000) * 1e6 };
}

function ofSeconds(seconds: number): Timespec {
  const sec = Math.floor(seconds);
  return { sec, nsec: Math.floor((seconds - sec) * 1e9) };
}

/** Where a read of `length` bytes begins: undefined, null and -1 mean the file's position, which is null here. */
export function toReadPosition(value: unknown, length: number): number | null {
  if (typeof value === 'number') return validateInteger(value, 'position', -1) === -1 ? null : value;
  if (value === undefined || value === null) return null;
  if (typeof value !== 'bigint') throw invalidType('position', 'of type bigint or integer', value);
  const max = 2n ** 63n - 1n - BigInt(length);
  if (value < -1n || value > max) throw outOfRange('position', `>= -1 && <= ${max}`, value);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FsError('EOVERFLOW', 'read');
  return value === -1n ? null : Number(value);
}

/** A view of any kind as bytes over the same memory. */
export function toBytes(view: ArrayBufferView): Uint8Array {
  return view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

export function validateBuffer(value: unknown, name = 'buffer'): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (!ArrayBuffer.isView(value)) throw invalidType(name, 'an instance of Buffer, TypedArray, or DataView', value);
  return toBytes(value);
}

export function validateBuffers(value: unknown, name = 'buffers'): Uint8Array[] {
  if (!Array.isArray(value) || !value.every((each) => ArrayBuffer.isView(each))) throw invalidType(name, 'an ArrayBufferView[]', value);
  return value.map(toBytes);
}
