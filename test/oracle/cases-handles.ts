import { Buffer } from 'node:buffer';
import type { Cases, Scene, Untyped } from './scene.ts';

// open and FileHandle: flags, positions, every form of read and write, what is closed.

const flags = [
  'r',
  'r+',
  'rs',
  'rs+',
  'sr+',
  'w',
  'wx',
  'xw',
  'w+',
  'wx+',
  'a',
  'ax',
  'as',
  'sa',
  'a+',
  'ax+',
  'as+',
  'sa+',
  'R',
  'rw',
  '',
  ' r',
  'r ',
  'rx',
];
const names = [
  'file',
  'dir',
  'link',
  'dirlink',
  'dangling',
  'loop',
  'missing',
  'file/',
  'dir/',
  'missing/',
  'missing/x',
  'file/x',
  'dir/.',
  'dangling/',
];

const bytes = (text: string) => Buffer.from(text);

/** An open handle of a file, and what a case does with it. */
const withHandle =
  (test: (handle: Untyped, t: Scene) => unknown, flag = 'r+', name = 'file') =>
  async (t: Scene) => {
    const handle = await t.fs.open(t.at(name), flag);
    return test(handle, t);
  };

/** What reading gave, with the memory that it went to. */
const readResult = async (promise: Promise<Untyped>) => {
  const { bytesRead, buffer, buffers } = await promise;
  return { bytesRead, ...(buffers ? { buffers } : { buffer: buffer.byteLength > 100 ? buffer.byteLength : buffer }) };
};

/** Arguments of read(). A length that is no integer is not among them: it ends the process of Node 20. */
const reads: Record<string, (memory: Uint8Array) => Untyped[]> = {
  'a buffer': (memory) => [memory],
  'a buffer, offset': (memory) => [memory, 2],
  'a buffer, offset, length': (memory) => [memory, 2, 3],
  'a buffer, offset, length, position': (memory) => [memory, 2, 3, 6],
  'a buffer, offset, length, null': (memory) => [memory, 0, 4, null],
  'a buffer, offset, null, position': (memory) => [memory, 2, null, 6],
  'a buffer, null, null, null': (memory) => [memory, null, null, null],
  'a buffer, undefined': (memory) => [memory, undefined, undefined, undefined],
  'a position of -1': (memory) => [memory, 0, 4, -1],
  'a position that is a bigint': (memory) => [memory, 0, 4, 6n],
  'a position past the end': (memory) => [memory, 0, 4, 100],
  'a length of nothing': (memory) => [memory, 0, 0, 0],
  'an offset at the end': (memory) => [memory, 8, 0, 0],
  'an options object': (memory) => [{ buffer: memory, offset: 1, length: 3, position: 6 }],
  'an options object with a buffer only': (memory) => [{ buffer: memory }],
  'a buffer and an options object': (memory) => [memory, { offset: 1, length: 3, position: 6 }],
  'a buffer and empty options': (memory) => [memory, {}],
  'a Uint16Array': () => [new Uint16Array(3)],
  'a DataView': () => [new DataView(new ArrayBuffer(5), 1)],
  'empty memory': () => [new Uint8Array(0)],
  'empty memory with a length': () => [new Uint8Array(0), 0, 1],
  'an offset below zero': (memory) => [memory, -1],
  'an offset past the end': (memory) => [memory, 9],
  'an offset that is a fraction': (memory) => [memory, 1.5],
  'an offset that is a string': (memory) => [memory, '1'],
  'a length below zero': (memory) => [memory, 0, -1],
  'a length past the end': (memory) => [memory, 0, 9],
  'a length past the end behind an offset': (memory) => [memory, 4, 5],
  'a position below -1': (memory) => [memory, 0, 4, -2],
  'a position that is a fraction': (memory) => [memory, 0, 4, 1.5],
  'a position that is a string': (memory) => [memory, 0, 4, '1'],
  'a position that is a bigint below -1': (memory) => [memory, 0, 4, -2n],
  'a position of 2 ** 53': (memory) => [memory, 0, 4, 2 ** 53],
  'a position of 2n ** 63n - 1n': (memory) => [memory, 0, 4, 2n ** 63n - 1n],
  'a position of 2n ** 63n': (memory) => [memory, 0, 4, 2n ** 63n],
  'a string': () => ['memory'],
  'a number': () => [1],
  null: () => [null],
  'an ArrayBuffer': () => [new ArrayBuffer(4)],
  'an array': () => [[1, 2]],
};

/** Arguments of write(). */
const writes: Record<string, Untyped[]> = {
  'a buffer': [bytes('ABCD')],
  'a buffer, offset': [bytes('ABCD'), 2],
  'a buffer, offset, length': [bytes('ABCD'), 1, 2],
  'a buffer, offset, length, position': [bytes('ABCD'), 1, 2, 6],
  'a buffer, null, null, null': [bytes('ABCD'), null, null, null],
  'a buffer, undefined': [bytes('ABCD'), undefined, undefined, undefined],
  'a position past the end': [bytes('ABCD'), 0, 4, 20],
  'a position of -1': [bytes('ABCD'), 0, 4, -1],
  'a position that is a bigint': [bytes('ABCD'), 0, 4, 6n],
  'a position that is a string': [bytes('ABCD'), 0, 4, '6'],
  'a position that is a fraction': [bytes('ABCD'), 0, 4, 1.5],
  'a position below -1': [bytes('ABCD'), 0, 4, -2],
  'a length of nothing': [bytes('ABCD'), 0, 0],
  'empty memory': [new Uint8Array(0)],
  'a buffer and an options object': [bytes('ABCD'), { offset: 1, length: 2, position: 6 }],
  'a buffer and empty options': [bytes('ABCD'), {}],
  'a buffer and null options': [bytes('ABCD'), null],
  'an options object': [{ buffer: bytes('ABCD') }],
  'a string': ['ABCD'],
  'a string, position': ['ABCD', 6],
  'a string, null': ['ABCD', null],
  'a string, position, encoding': ['4142', 6, 'hex'],
  'a string, null, encoding': ['QUJD', null, 'base64'],
  'a string, encoding in the wrong place': ['4142', 'hex'],
  'a string, no encoding': ['ABCD', 0, 'no-encoding'],
  'hex with an odd length': ['414', 0, 'hex'],
  'an empty string': [''],
  'a string that is not ASCII': ['é€'],
  'a Uint16Array': [new Uint16Array([0x4142])],
  'a DataView': [new DataView(new Uint8Array([65, 66, 67]).buffer, 1)],
  'an offset below zero': [bytes('ABCD'), -1],
  'an offset past the end': [bytes('ABCD'), 5],
  'an offset that is a fraction': [bytes('ABCD'), 0.5],
  'an offset that is a string': [bytes('ABCD'), '1'],
  'a length below zero': [bytes('ABCD'), 0, -1],
  'a length past the end': [bytes('ABCD'), 0, 5],
  'a length past the end behind an offset': [bytes('ABCD'), 2, 3],
  'a number': [5],
  null: [null],
  undefined: [undefined],
  'an array': [[1, 2]],
  'an object': [{}],
  'an ArrayBuffer': [new ArrayBuffer(2)],
};

/** Arguments of readv(), and of writev() with the same shapes. */
const vectors: Record<string, () => Untyped[]> = {
  'two buffers': () => [[bytes('ABC'), bytes('DEFG')]],
  'two buffers, position': () => [[bytes('ABC'), bytes('DEFG')], 3],
  'two buffers, null': () => [[bytes('ABC'), bytes('DEFG')], null],
  'two buffers, a position that is no number': () => [[bytes('ABC'), bytes('DEFG')], 'x'],
  'kinds of views': () => [[new Uint8Array([65]), new Uint16Array([0x4243]), new DataView(new ArrayBuffer(2))], 0],
  'an empty buffer among them': () => [[bytes('A'), bytes(''), bytes('B')]],
  'no buffers': () => [[]],
  'no buffers, position': () => [[], 3],
  'what is no array': () => [bytes('A')],
  'an array of strings': () => [['A']],
  'an array with a hole': () => [[bytes('A'), undefined]],
  undefined: () => [undefined],
  null: () => [null],
};

/** Every method of a handle, with good arguments. */
const methods: Record<string, (handle: Untyped) => unknown> = {
  appendFile: (handle) => handle.appendFile('x'),
  chmod: (handle) => handle.chmod(0o600),
  chown: (handle) => handle.chown(0, 0),
  datasync: (handle) => handle.datasync(),
  read: (handle) => readResult(handle.read(Buffer.alloc(4))),
  'read without arguments': (handle) => readResult(handle.read()),
  readFile: (handle) => handle.readFile(),
  readv: (handle) => readResult(handle.readv([Buffer.alloc(4)])),
  stat: (handle) => handle.stat(),
  'stat, bigint': (handle) => handle.stat({ bigint: true }),
  sync: (handle) => handle.sync(),
  truncate: (handle) => handle.truncate(5),
  'truncate without a length': (handle) => handle.truncate(),
  utimes: (handle) => handle.utimes(1, 2),
  write: (handle) => handle.write('x'),
  writeFile: (handle) => handle.writeFile('x'),
  writev: (handle) => handle.writev([bytes('x'), bytes('y')]),
};

export const handleCases: Cases = {
  ...Object.fromEntries(
    names.flatMap((name) =>
      ['r', 'r+', 'w', 'wx', 'a'].map((flag) => [
        `open: ${name}, flag '${flag}'`,
        async (t: Scene) => {
          const handle = await t.fs.open(t.at(name), flag);
          await handle.close();
        },
      ]),
    ),
  ),
  ...Object.fromEntries(
    flags.map((flag) => [
      `open: flag '${flag}', of a file and of nothing`,
      (t: Scene) =>
        t.each(['file', 'missing'], async (name) => {
          const handle = await t.fs.open(t.at(name), flag);
          const outcomes = await t.outcomes(
            () => handle.write('XY', 1),
            () => readResult(handle.read(Buffer.alloc(4), 0, 4, 0)),
            () => handle.stat(),
          );
          await handle.close();
          return outcomes;
        }),
    ]),
  ),
  'open: without flags': async (t) => t.each([undefined, null], async (flag) => (await t.fs.open(t.at('file'), flag)).readFile('utf8')),
  'open: what is no flag': (t) => t.each([1.5, {}, [], true, 10n, NaN, 2 ** 31, Symbol('flag')], (flag) => t.fs.open(t.at('file'), flag)),
  'open: what is no mode': (t) => t.each([1.5, {}, 'x', -1, 2 ** 32, true, 10n], (mode) => t.fs.open(t.at('new'), 'w', mode)),
  'open: modes': (t) =>
    t.each([undefined, null, 0o600, '640', 0o777, 0o4755, 0o1000], async (mode) => {
      const handle = await t.fs.open(t.at('new'), 'w', mode);
      const stats = await handle.stat();
      await handle.close();
      await t.fs.unlink(t.at('new'));
      return stats.mode;
    }),
  'open: mode without a right to write is for the next': withHandle(async (_, t) => {
    const handle = await t.fs.open(t.at('new'), 'w', 0o400);
    return handle.write('x');
  }),
  'open: O_EXCL': (t) => t.each(['file', 'new', 'link', 'dangling'], async (name) => (await t.fs.open(t.at(name), 0o301)).fd > 0),
  'open: O_DIRECTORY': (t) =>
    t.each(['file', 'dir', 'dirlink', 'missing', 'link'], async (name) => (await t.fs.open(t.at(name), 0o200000)).fd > 0),
  'open: O_NOFOLLOW': (t) =>
    t.each(['file', 'dir', 'dirlink', 'missing', 'link'], async (name) => (await t.fs.open(t.at(name), 0o400000)).fd > 0),
  'open: O_DIRECTORY with O_CREAT': (t) =>
    t.each(['file', 'dir', 'missing'], async (name) => (await t.fs.open(t.at(name), 0o200100)).fd > 0),
  'open: O_TRUNC': withHandle((handle) => handle.stat(), 0o1002 as Untyped),
  'open: O_RDONLY with O_TRUNC': withHandle((handle) => handle.stat(), 0o1000 as Untyped),
  'open: O_TMPFILE has no name': async (t) => {
    const handle = await t.fs.open(t.at('hollow'), 0o20200002, 0o600);
    await handle.write('text');
    const { nlink, size, mode } = await handle.stat();
    return { nlink, size, mode, left: await t.fs.readdir(t.at('hollow')) };
  },
  'open: O_TMPFILE to read only': (t) => t.fs.open(t.at('hollow'), 0o20200000),
  'open: O_TMPFILE of a file': (t) => t.fs.open(t.at('file'), 0o20200002),
  'open: O_PATH can do little': async (t) => {
    const handle = await t.fs.open(t.at('file'), 0o10000000);
    return t.outcomes(
      () => handle.stat(),
      () => readResult(handle.read(Buffer.alloc(4))),
      () => handle.write('x'),
      () => handle.truncate(0),
      () => handle.chmod(0o600),
      () => handle.sync(),
    );
  },
  'open: directory can do little': withHandle(
    (handle, t) =>
      t.outcomes(
        () => handle.stat(),
        () => readResult(handle.read(Buffer.alloc(4))),
        () => handle.readFile(),
        () => handle.readv([Buffer.alloc(4)]),
        () => handle.write('x'),
        () => handle.truncate(0),
        () => handle.chmod(0o700),
        () => handle.utimes(1, 2),
        () => handle.sync(),
        () => handle.datasync(),
      ),
    'r',
    'dir',
  ),
  'open: handle outlives the name': withHandle(async (handle, t) => {
    await t.fs.unlink(t.at('file'));
    await handle.write('HELLO', 0);
    const { nlink, size } = await handle.stat();
    return { nlink, size, text: await handle.readFile('utf8') };
  }),
  'open: handle follows a rename': withHandle(async (handle, t) => {
    await t.fs.rename(t.at('file'), t.at('new'));
    await handle.write('HELLO', 0);
  }),
  'open: two handles have two positions': withHandle(async (handle, t) => {
    const other = await t.fs.open(t.at('file'));
    return t.outcomes(
      () => readResult(handle.read(Buffer.alloc(5))),
      () => readResult(other.read(Buffer.alloc(3))),
      () => readResult(handle.read(Buffer.alloc(3))),
    );
  }),

  ...Object.fromEntries(
    Object.entries(reads).map(([name, args]) => [
      `read: ${name}`,
      withHandle(async (handle, t) =>
        t.outcomes(
          () => readResult(handle.read(...args(Buffer.from('........')))),
          () => readResult(handle.read(Buffer.alloc(2))),
        ),
      ),
    ]),
  ),
  'read: without arguments': withHandle((handle) => readResult(handle.read())),
  'read: an empty object': withHandle((handle) => readResult(handle.read({}))),
  'read: to the end and past it': withHandle((handle, t) => t.each([8, 8, 8], (length) => readResult(handle.read(Buffer.alloc(length))))),
  'read: result is the memory that was given': withHandle(async (handle) => {
    const memory = new Uint8Array(4);
    return (await handle.read(memory)).buffer === memory;
  }),
  'read: of a handle that writes only': withHandle((handle) => handle.read(Buffer.alloc(4)), 'a'),
  ...Object.fromEntries(
    Object.entries(vectors).map(([name, args]) => [
      `readv: ${name}`,
      withHandle((handle, t) =>
        t.outcomes(
          () => readResult(handle.readv(...args())),
          () => readResult(handle.read(Buffer.alloc(2))),
        ),
      ),
    ]),
  ),
  'readv: past the end': withHandle((handle) => readResult(handle.readv([Buffer.alloc(10), Buffer.alloc(10)], 8))),

  ...Object.fromEntries(
    Object.entries(writes).map(([name, args]) => [
      `write: ${name}`,
      withHandle((handle, t) =>
        t.outcomes(
          () => handle.write(...args),
          () => handle.write('!'),
        ),
      ),
    ]),
  ),
  'write: of a handle that reads only': withHandle(
    (handle, t) =>
      t.outcomes(
        () => handle.write('x'),
        () => handle.write(bytes('x')),
        () => handle.writev([bytes('x')]),
        () => handle.writeFile('x'),
        () => handle.truncate(1),
      ),
    'r',
  ),
  'write: append goes to the end whatever the position': withHandle(async (handle) => {
    await handle.write('one', 0);
    await handle.write(bytes('two'), 0, 3, 1);
  }, 'a'),
  ...Object.fromEntries(
    Object.entries(vectors).map(([name, args]) => [
      `writev: ${name}`,
      withHandle((handle, t) =>
        t.outcomes(
          () => handle.writev(...args()),
          () => handle.write('!'),
        ),
      ),
    ]),
  ),

  ...Object.fromEntries(Object.entries(methods).map(([name, call]) => [`FileHandle ${name}: open`, withHandle((handle) => call(handle))])),
  ...Object.fromEntries(
    Object.entries(methods).map(([name, call]) => [
      `FileHandle ${name}: closed`,
      withHandle(async (handle) => {
        await handle.close();
        return call(handle);
      }),
    ]),
  ),
  'FileHandle close: twice': withHandle(async (handle, t) => [await handle.close(), await t.outcome(() => handle.close()), handle.fd]),
  'FileHandle close: two at a time': withHandle((handle) => Promise.all([handle.close(), handle.close()])),
  'FileHandle close: waits for what is under way': withHandle(async (handle) => {
    const read = handle.read(Buffer.alloc(5));
    const closed = handle.close();
    return [await readResult(read), await closed];
  }),
  'FileHandle close: event': withHandle(async (handle) => {
    const closed = new Promise((resolve) => handle.on('close', resolve));
    await handle.close();
    return closed;
  }),
  'FileHandle Symbol.asyncDispose': withHandle(async (handle) => {
    await handle[Symbol.asyncDispose]();
    return handle.fd;
  }),
  'FileHandle Symbol.asyncDispose: after close': withHandle(async (handle, t) => {
    await handle.close();
    return t.outcome(() => handle[Symbol.asyncDispose]());
  }),
  'FileHandle fd: a number, and afterwards -1': withHandle(async (handle) => {
    const before = Number.isInteger(handle.fd) && handle.fd > 2;
    await handle.close();
    return [before, handle.fd];
  }),
  'FileHandle fd: cannot be set': withHandle((handle, t) =>
    t.outcome(() => {
      handle.fd = 5;
    }),
  ),

  'FileHandle readFile: from where it stands': withHandle(async (handle) => {
    await handle.read(Buffer.alloc(6));
    return [await handle.readFile('utf8'), await handle.readFile('utf8')];
  }),
  'FileHandle readFile: what is no options': withHandle((handle, t) =>
    t.each([null, 1, true, 'no-encoding', { encoding: 1 }], (options) => handle.readFile(options)),
  ),
  'FileHandle readFile: aborted signal': withHandle((handle) => handle.readFile({ signal: AbortSignal.abort() })),
  'FileHandle writeFile: from where it stands': withHandle(async (handle) => {
    await handle.read(Buffer.alloc(6));
    await handle.writeFile('W');
  }),
  'FileHandle writeFile: does not cut': withHandle((handle) => handle.writeFile('HE')),
  'FileHandle writeFile: encodings': withHandle((handle, t) =>
    t.each(['hex', { encoding: 'base64' }, 'no-encoding', null], (encoding) => handle.writeFile('4142', encoding)),
  ),
  'FileHandle writeFile: an iterable': withHandle((handle) => handle.writeFile(['one', 'two'])),
  'FileHandle writeFile: what is no data': withHandle((handle, t) =>
    t.each([undefined, null, 1, {}, Symbol('x')], (data) => handle.writeFile(data)),
  ),
  'FileHandle writeFile: aborted signal': withHandle((handle) => handle.writeFile('x', { signal: AbortSignal.abort() })),
  'FileHandle appendFile: from where it stands': withHandle(async (handle) => {
    await handle.read(Buffer.alloc(6));
    await handle.appendFile('W');
  }),
  'FileHandle appendFile: of an appending handle': withHandle((handle) => handle.appendFile('more'), 'a'),

  'FileHandle truncate: each length': withHandle((handle, t) =>
    t.each([undefined, 0, 5, 20, -1, null, '3', 1.5, NaN, Infinity, 2 ** 53, 10n], async (length) => {
      await handle.truncate(length);
      return (await handle.stat()).size;
    }),
  ),
  'FileHandle truncate: leaves the position': withHandle(async (handle) => {
    await handle.read(Buffer.alloc(6));
    await handle.truncate(2);
    await handle.write('X');
  }),
  'FileHandle chmod: what is no mode': withHandle((handle, t) =>
    t.each([undefined, null, -1, 1.5, 2 ** 32, 'x', {}, '600'], (mode) => handle.chmod(mode)),
  ),
  'FileHandle chown: what is no owner': withHandle((handle, t) =>
    t.each([undefined, null, -2, 1.5, 2 ** 32, '0', {}], (uid) => handle.chown(uid, 0)),
  ),
  'FileHandle chown: what is no group': withHandle((handle, t) =>
    t.each([undefined, null, -2, 1.5, 2 ** 32, '0', {}], (gid) => handle.chown(0, gid)),
  ),
  'FileHandle chown: to another': withHandle((handle) => handle.chown(1000, 1001)),
  'FileHandle utimes: each form': withHandle((handle, t) =>
    t.each([0, 1.5, '123', new Date(2000), NaN, 'x', undefined, null, Infinity, {}], async (time) => {
      await handle.utimes(time, time);
      const { atimeMs, mtimeMs } = await handle.stat();
      return [atimeMs, mtimeMs];
    }),
  ),
  'FileHandle stat: what is no options': withHandle((handle, t) =>
    t.each([null, 1, 'x', true], async (options) => (await handle.stat(options)).size),
  ),
  'FileHandle: a read-only handle can do this': withHandle(
    (handle, t) =>
      t.outcomes(
        () => handle.chmod(0o600),
        () => handle.utimes(1, 2),
        () => handle.sync(),
        () => handle.datasync(),
        () => handle.stat(),
      ),
    'r',
  ),
  'FileHandle: methods of another object': async (t) => {
    const handle = await t.fs.open(t.at('file'));
    return t.outcomes(
      () => t.fs.readFile(handle, 'utf8'),
      () => t.fs.readFile(handle, 'utf8'),
      () => t.fs.stat(handle),
    );
  },
  'writeFile: to a handle': withHandle((handle, t) => t.fs.writeFile(handle, 'HELLO')),
  'writeFile: to a handle, flags are of no use': withHandle((handle, t) => t.fs.writeFile(handle, 'HELLO', { flag: 'a' })),
  'appendFile: to a handle': withHandle(async (handle, t) => {
    await t.fs.appendFile(handle, 'HELLO');
    await t.fs.appendFile(handle, '!');
  }),
  'readFile: of a closed handle': withHandle(async (handle, t) => {
    await handle.close();
    return t.outcomes(
      () => t.fs.readFile(handle),
      () => t.fs.writeFile(handle, 'x'),
      () => t.fs.appendFile(handle, 'x'),
    );
  }),
};
