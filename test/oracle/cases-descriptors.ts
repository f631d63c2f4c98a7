import { Buffer } from 'node:buffer';
import type { Cases, Scene, Untyped } from './scene.ts';

// The synchronous calls that take a descriptor, under their names without Sync.

const bytes = (text: string) => Buffer.from(text);

const withFd =
  (test: (fd: number, t: Scene) => unknown, flag: Untyped = 'r+', name = 'file') =>
  async (t: Scene) =>
    test(await t.fs.open(t.at(name), flag), t);

/** A read, and the memory that it went to. */
const readFrom = async (t: Scene, fd: Untyped, memory: Untyped, ...rest: Untyped[]) => ({
  bytesRead: await t.fs.read(fd, memory, ...rest),
  memory,
});

const noFds: readonly Untyped[] = [undefined, null, -1, 1.5, NaN, Infinity, 2 ** 31, '3', {}, true, 12345];

/** Each function of a descriptor, with good arguments. */
const functions: Record<string, (fs: Untyped, fd: Untyped) => unknown> = {
  close: (fs, fd) => fs.close(fd),
  fchmod: (fs, fd) => fs.fchmod(fd, 0o700),
  fchown: (fs, fd) => fs.fchown(fd, 0, 0),
  fdatasync: (fs, fd) => fs.fdatasync(fd),
  fstat: (fs, fd) => fs.fstat(fd),
  fsync: (fs, fd) => fs.fsync(fd),
  ftruncate: (fs, fd) => fs.ftruncate(fd, 5),
  futimes: (fs, fd) => fs.futimes(fd, 1, 2),
  read: (fs, fd) => fs.read(fd, Buffer.alloc(4)),
  readv: (fs, fd) => fs.readv(fd, [Buffer.alloc(4)]),
  'write, string': (fs, fd) => fs.write(fd, 'x'),
  'write, bytes': (fs, fd) => fs.write(fd, bytes('x')),
  writev: (fs, fd) => fs.writev(fd, [bytes('x')]),
};

const reads: Record<string, Untyped[]> = {
  nothing: [],
  offset: [2],
  'offset, length': [2, 3],
  'offset, length, position': [2, 3, 6],
  nulls: [null, null, null],
  'offset, length, null': [0, 4, null],
  options: [{ offset: 1, length: 3, position: 6 }],
  'empty options': [{}],
  'a position of -1': [0, 4, -1],
  'a position that is a bigint': [0, 4, 6n],
  'a position below -1': [0, 4, -2],
  'a position that is a fraction': [0, 4, 1.5],
  'a position that is a string': [0, 4, '1'],
  'a position past the end': [0, 4, 100],
  'an offset below zero': [-1, 1, 0],
  'an offset past the end': [9, 1, 0],
  'a length below zero': [0, -1, 0],
  'a length past the end': [0, 9, 0],
  'a length of nothing': [0, 0, 0],
  'an offset that is a string': ['1', 1, 0],
};

const writes: Record<string, Untyped[]> = {
  'a buffer': [bytes('ABCD')],
  'a buffer, offset, length, position': [bytes('ABCD'), 1, 2, 6],
  'a buffer, offset, length, null': [bytes('ABCD'), 1, 2, null],
  'a buffer and options': [bytes('ABCD'), { offset: 1, length: 2, position: 6 }],
  'a string': ['ABCD'],
  'a string, position': ['ABCD', 6],
  'a string, position, encoding': ['4142', 6, 'hex'],
  'a string, no encoding': ['ABCD', 0, 'no-encoding'],
  'an offset past the end': [bytes('ABCD'), 5],
  'a length past the end': [bytes('ABCD'), 2, 3],
  'a length below zero': [bytes('ABCD'), 0, -1],
  'a position that is a string': [bytes('ABCD'), 0, 4, '6'],
  'a number': [5],
  undefined: [undefined],
  null: [null],
  'an object': [{}],
  'a Uint16Array': [new Uint16Array([0x4142])],
};

export const descriptorCases: Cases = {
  'open: a small number': withFd((fd) => Number.isInteger(fd) && fd > 2),
  'open: names': (t) =>
    t.each(
      ['file', 'dir', 'link', 'dangling', 'loop', 'missing', 'file/', 'missing/x', 'file/x'],
      async (name) => typeof (await t.fs.open(t.at(name), 'r+')),
    ),
  'open: flags': (t) =>
    t.each(['r', 'wx', 'a+', 'as', 'q', '', null, undefined, 1.5, {}], async (flag) => typeof (await t.fs.open(t.at('file'), flag))),
  ...Object.fromEntries(Object.entries(functions).map(([name, call]) => [`${name}: good`, withFd((fd, t) => call(t.fs, fd))])),
  ...Object.fromEntries(
    Object.entries(functions).map(([name, call]) => [
      `${name}: closed`,
      withFd(async (fd, t) => {
        await t.fs.close(fd);
        return call(t.fs, fd);
      }),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(functions).map(([name, call]) => [
      `${name}: what is no descriptor`,
      (t: Scene) => t.each(noFds, (fd) => call(t.fs, fd)),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(functions)
      .filter(([name]) => name !== 'close')
      .map(([name, call]) => [`${name}: of a directory`, withFd((fd, t) => call(t.fs, fd), 'r', 'dir')]),
  ),
  ...Object.fromEntries(
    Object.entries(reads).map(([name, args]) => [
      `read: ${name}`,
      withFd((fd, t) =>
        t.outcomes(
          () => readFrom(t, fd, Buffer.from('........'), ...args),
          () => readFrom(t, fd, Buffer.alloc(2)),
        ),
      ),
    ]),
  ),
  'read: what is no memory': withFd((fd, t) =>
    t.each([undefined, null, 'x', 1, {}, [], new ArrayBuffer(2)], (memory) => t.fs.read(fd, memory)),
  ),
  'read: kinds of memory': withFd((fd, t) =>
    t.each([new Uint16Array(2), new DataView(new ArrayBuffer(3)), new Uint8Array(0)], (memory) =>
      readFrom(t, fd, memory, 0, memory.byteLength, 0),
    ),
  ),
  'read: of a descriptor that writes only': withFd((fd, t) => t.fs.read(fd, Buffer.alloc(2)), 'a'),
  'readv: two buffers': withFd(async (fd, t) => {
    const buffers = [Buffer.alloc(3), Buffer.alloc(4)];
    return [await t.fs.readv(fd, buffers), buffers, await t.fs.readv(fd, buffers, 8), buffers];
  }),
  'readv: what are no buffers': withFd((fd, t) => t.each([undefined, null, [], ['x'], bytes('x')], (buffers) => t.fs.readv(fd, buffers))),
  ...Object.fromEntries(
    Object.entries(writes).map(([name, args]) => [
      `write: ${name}`,
      withFd((fd, t) =>
        t.outcomes(
          () => t.fs.write(fd, ...args),
          () => t.fs.write(fd, '!'),
        ),
      ),
    ]),
  ),
  'write: of a descriptor that reads only': withFd(
    (fd, t) =>
      t.outcomes(
        () => t.fs.write(fd, 'x'),
        () => t.fs.write(fd, bytes('x')),
        () => t.fs.writev(fd, [bytes('x')]),
        () => t.fs.ftruncate(fd, 1),
      ),
    'r',
  ),
  'writev: two buffers': withFd((fd, t) =>
    t.outcomes(
      () => t.fs.writev(fd, [bytes('AB'), bytes('CD')]),
      () => t.fs.writev(fd, [bytes('E'), bytes('F')], 8),
      () => t.fs.writev(fd, []),
    ),
  ),
  'writev: what are no buffers': withFd((fd, t) => t.each([undefined, null, ['x'], bytes('x')], (buffers) => t.fs.writev(fd, buffers))),
  'ftruncate: each length': withFd((fd, t) =>
    t.each([undefined, 0, 20, -1, null, '3', 1.5, NaN], async (length) => {
      await t.fs.ftruncate(fd, length);
      return (await t.fs.fstat(fd)).size;
    }),
  ),
  'fchmod: what is no mode': withFd((fd, t) =>
    t.each([undefined, null, -1, 1.5, 2 ** 32, 'x', {}, '600'], (mode) => t.fs.fchmod(fd, mode)),
  ),
  'fchown: what is no owner': withFd((fd, t) => t.each([undefined, null, -2, 1.5, 2 ** 32, '0'], (uid) => t.fs.fchown(fd, uid, 0))),
  'futimes: what is no time': withFd((fd, t) => t.each([undefined, null, NaN, Infinity, 'x', {}], (time) => t.fs.futimes(fd, time, 1))),
  'fstat: bigint': withFd((fd, t) => t.fs.fstat(fd, { bigint: true })),
  'readFile: of a descriptor, from where it stands': withFd(async (fd, t) => {
    await t.fs.read(fd, Buffer.alloc(6));
    return [await t.fs.readFile(fd, 'utf8'), await t.fs.readFile(fd, 'utf8')];
  }),
  'writeFile: to a descriptor, from where it stands': withFd(async (fd, t) => {
    await t.fs.read(fd, Buffer.alloc(6));
    await t.fs.writeFile(fd, 'W');
  }),
  'appendFile: to a descriptor': withFd((fd, t) => t.fs.appendFile(fd, 'more')),
  'readFile: of what is no open descriptor': (t) => t.each([12345, -1, 1.5], (fd) => t.fs.readFile(fd)),
  'writeFile: to what is no open descriptor': (t) => t.each([12345, -1, 1.5], (fd) => t.fs.writeFile(fd, 'x')),
  'close: a descriptor is given again': withFd(async (fd, t) => {
    await t.fs.close(fd);
    return (await t.fs.open(t.at('file'))) === fd;
  }),
  'unlink: descriptor outlives the name': withFd(async (fd, t) => {
    await t.fs.unlink(t.at('file'));
    await t.fs.write(fd, 'HELLO', 0);
    return [(await t.fs.fstat(fd)).nlink, await t.fs.readFile(fd, 'utf8')];
  }),
};
