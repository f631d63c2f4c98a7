import { Buffer } from 'node:buffer';

// Turns what a call of node:fs or of a Volume gives, or throws, into plain data in which nothing is left that two equal filesystems may
// answer differently: the root of the scene, inode and descriptor numbers, times that nobody set.

/** What a call came to: the record of its value, or of its error. */
export type Outcome = { readonly value: unknown } | { readonly error: unknown; readonly threw?: boolean };

/** Members of Stats that are compared for files; of a directory the rest of them is the filesystem's own affair. */
const statNumbers = ['mode', 'uid', 'gid'];
const statFileNumbers = ['nlink', 'size'];
const statOwn = ['dev', 'rdev', 'blksize', 'ino', 'blocks', 'atimeMs', 'mtimeMs', 'ctimeMs', 'birthtimeMs'];
const statNs = ['atimeNs', 'mtimeNs', 'ctimeNs', 'birthtimeNs'];
const statDates = ['atime', 'mtime', 'ctime', 'birthtime'];
const typeQuestions = ['isFile', 'isDirectory', 'isSymbolicLink', 'isFIFO', 'isSocket', 'isCharacterDevice', 'isBlockDevice'];

type Members = Record<string, unknown>;

export class Recorder {
  /** The path that is written as '<root>' wherever it shows up. */
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  record(value: unknown): unknown {
    if (typeof value === 'string') return value.replaceAll(this.root, '<root>');
    if (typeof value === 'function') return `function ${value.name}`;
    if (typeof value === 'symbol') return String(value);
    if (typeof value !== 'object' || value === null) return value;
    if (value instanceof Error) return this.recordError(value);
    if (value instanceof Date) return { class: 'Date', time: value.getTime() };
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return this.recordBytes(value);
    if (Array.isArray(value)) return Array.from(value, (element) => this.record(element));
    if (value instanceof Map) return [...value].map(([key, element]) => [this.record(key), this.record(element)]);
    return this.recordObject(value);
  }

  recordError(error: Error): unknown {
    const kinds = { RangeError, TypeError, AggregateError };
    const kind = Object.entries(kinds).find(([, Kind]) => error instanceof Kind)?.[0] ?? 'Error';
    const members = error as unknown as Members;
    // Errors of system calls have no cause in Node; ours may say there what was wrong with the arguments.
    const names = ['code', 'errno', 'syscall', 'path', 'dest', 'info', 'errors', ...(error.name === 'AbortError' ? ['cause'] : [])];
    const known = names.filter((name) => members[name] !== undefined);
    const shape = {
      kind,
      name: error.name,
      message: this.record(error.message),
      ...Object.fromEntries(known.map((name) => [name, this.record(members[name])])),
    };
    // The last six characters of what mkdtemp tried are random.
    const drawn = members['syscall'] === 'mkdtemp' ? String(members['path']).slice(-6) : '';
    if (drawn === '') return shape;
    return Object.fromEntries(
      Object.entries(shape).map(([key, member]) => [key, typeof member === 'string' ? member.replace(drawn, 'XXXXXX') : member]),
    );
  }

  private recordBytes(bytes: ArrayBufferView | ArrayBuffer): unknown {
    const raw = ArrayBuffer.isView(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) : Buffer.from(bytes);
    const text = this.record(raw.toString('latin1')) as string;
    const long = text.length > 1000;
    return { class: bytes.constructor.name, ...(long ? { length: text.length, start: text.slice(0, 100) } : { latin1: text }) };
  }

  private recordObject(value: object): unknown {
    const name = Object.getPrototypeOf(value) === null ? 'null' : value.constructor.name;
    const members = value as Members;
    switch (name) {
      case 'Object':
      case 'null':
        return Object.fromEntries(Object.entries(members).map(([key, element]) => [key, this.record(element)]));
      case 'Stats':
      case 'BigIntStats':
        return this.recordStats(name, members);
      // Node's own kind of Dirent, where it had to ask for the type.
      case 'DirentFromStats':
      case 'Dirent':
        return { class: 'Dirent', name: this.record(members['name']), parentPath: this.record(members['parentPath']), ...answers(members) };
      case 'StatFs':
        return { class: name, ...Object.fromEntries(Object.entries(members).map(([key, element]) => [key, typeof element])) };
      case 'Dir':
        return { class: name, path: this.record(members['path']) };
      case 'FileHandle':
        return { class: name, fd: typeof members['fd'] };
      default:
        return { class: name };
    }
  }

  private recordStats(name: string, stats: Members): unknown {
    const isDirectory = (stats['isDirectory'] as () => boolean).call(stats);
    const same = isDirectory ? statNumbers : [...statNumbers, ...statFileNumbers];
    return {
      class: name,
      ...Object.fromEntries(same.map((key) => [key, stats[key]])),
      ...Object.fromEntries(statOwn.map((key) => [key, typeof stats[key]])),
      ...(name === 'BigIntStats' ? Object.fromEntries(statNs.map((key) => [key, typeof stats[key]])) : {}),
      ...Object.fromEntries(statDates.map((key) => [key, stats[key] instanceof Date])),
      ...answers(stats),
    };
  }
}

/** What the isFile() family says, in one word. */
function answers(entry: Members): { is: string } {
  return { is: typeQuestions.filter((question) => (entry[question] as () => boolean).call(entry)).join(' ') };
}
