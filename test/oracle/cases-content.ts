import { Buffer } from 'node:buffer';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import type { Cases, Scene, Untyped } from './scene.ts';

// Whole files: readFile, writeFile, appendFile, copyFile.

const encodings = ['utf8', 'utf-8', 'latin1', 'binary', 'ascii', 'hex', 'base64', 'base64url', 'utf16le', 'ucs2', 'UTF-8', 'Hex'];
const flags = [
  'r',
  'r+',
  'rs',
  'rs+',
  'sr',
  'sr+',
  'w',
  'wx',
  'xw',
  'w+',
  'wx+',
  'xw+',
  'a',
  'ax',
  'xa',
  'as',
  'sa',
  'a+',
  'ax+',
  'as+',
  'W',
  '',
  'rw',
  '0',
];
const names = [
  'file',
  'empty',
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
];

/** Bytes that are not all UTF-8. */
const oddBytes = Buffer.from([0x68, 0xc3, 0xa9, 0xff, 0x00, 0xe2, 0x82, 0x0a]);

/** What can be written at once, by kind. */
const datas: Record<string, () => Untyped> = {
  'a string': () => 'text',
  'a string that is not ASCII': () => 'é€😀',
  'a lone surrogate': () => 'a\ud800b',
  'an empty string': () => '',
  'a Buffer': () => Buffer.from('bytes'),
  'a Uint8Array': () => new Uint8Array([1, 2, 255]),
  'a Uint16Array': () => new Uint16Array([1, 0x100]),
  'a Float64Array': () => new Float64Array([1.5]),
  'a DataView': () => new DataView(new Uint8Array([9, 8, 7]).buffer, 1),
  'part of a buffer': () => new Uint8Array(new Uint8Array([1, 2, 3, 4]).buffer, 1, 2),
  'an empty Buffer': () => Buffer.alloc(0),
};

/** What only the promises take: data in pieces. */
const pieces: Record<string, () => Untyped> = {
  'an array of strings': () => ['one', 'two', ''],
  'an array of Buffers': () => [Buffer.from('one'), new Uint8Array([0x32])],
  'an array with what is no data': () => ['one', 2],
  'a Set': () => new Set(['one', 'two']),
  'a generator': () =>
    (function* () {
      yield 'one';
      yield Buffer.from('two');
    })(),
  'a generator that throws': () =>
    (function* () {
      yield 'one';
      throw new Error('no more');
    })(),
  'an async generator': () =>
    (async function* () {
      yield 'one';
      yield 'two';
    })(),
  'an async generator that throws': () =>
    (async function* () {
      yield 'one';
      throw new TypeError('no more');
    })(),
  'a Readable': () => Readable.from(['one', 'two']),
  'a Readable of bytes': () => Readable.from([Buffer.from('one')], { objectMode: false }),
  'a web stream': () => new Blob(['one', 'two']).stream(),
  'a String object': () => new String('one'),
};

const aborted = () => AbortSignal.abort();
const abortedFor = (reason: unknown) => AbortSignal.abort(reason);

const perName = (title: string, call: (t: Scene, path: string) => unknown): Cases =>
  Object.fromEntries(names.map((name) => [`${title}: ${name}`, (t: Scene) => call(t, t.at(name))]));
const perFlag = (title: string, call: (t: Scene, flag: string, path: string) => unknown): Cases =>
  Object.fromEntries(
    flags.map((flag) => [
      `${title}: flag '${flag}'`,
      (t: Scene) =>
        t.outcomes(
          () => call(t, flag, t.at('file')),
          () => call(t, flag, t.at('missing')),
        ),
    ]),
  );

export const contentCases: Cases = {
  ...perName('readFile', (t, path) => t.fs.readFile(path)),
  ...perFlag('readFile', (t, flag, path) => t.fs.readFile(path, { flag })),
  ...Object.fromEntries(
    encodings.map((encoding) => [
      `readFile: encoding ${encoding}`,
      async (t: Scene) => {
        await t.fs.writeFile(t.at('new'), oddBytes);
        return t.outcomes(
          () => t.fs.readFile(t.at('new'), encoding),
          () => t.fs.readFile(t.at('new'), { encoding }),
        );
      },
    ]),
  ),
  'readFile: null for encoding': (t) => t.fs.readFile(t.at('file'), { encoding: null }),
  'readFile: flag as a number': (t) => t.each([0, 1, 2, 0o100, 0o200], (flag) => t.fs.readFile(t.at('file'), { flag })),
  'readFile: byte order mark is kept': async (t) => {
    await t.fs.writeFile(t.at('new'), '\ufefftext');
    return [await t.fs.readFile(t.at('new')), (await t.fs.readFile(t.at('new'), 'utf8')).length];
  },
  'readFile: 300,000 bytes': async (t) => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
    await t.fs.writeFile(t.at('new'), bytes);
    const read = await t.fs.readFile(t.at('new'));
    const text = await t.fs.readFile(t.at('new'), 'utf8');
    await t.fs.unlink(t.at('new'));
    return [read.length, Buffer.compare(read, bytes), text === bytes.toString('utf8')];
  },
  'readFile: characters that lie across 64 KiB': async (t) => {
    const text = '€'.repeat(100_000);
    await t.fs.writeFile(t.at('new'), text);
    const read = await t.fs.readFile(t.at('new'), 'utf8');
    await t.fs.unlink(t.at('new'));
    return read === text;
  },
  'readFile: path as a Buffer': (t) => t.fs.readFile(Buffer.from(t.at('file')), 'utf8'),
  'readFile: path as a URL': (t) => t.fs.readFile(pathToFileURL(t.at('file')), 'utf8'),
  'readFile: path as a URL with escapes': async (t) => {
    await t.fs.writeFile(t.at('a b%c#d?e'), 'x');
    return t.fs.readFile(pathToFileURL(t.at('a b%c#d?e')), 'utf8');
  },
  'readFile: result is its own memory': async (t) => {
    const [one, two] = [await t.fs.readFile(t.at('file')), await t.fs.readFile(t.at('file'))];
    one.fill(0);
    return two;
  },

  ...perName('writeFile', (t, path) => t.fs.writeFile(path, 'x')),
  ...perFlag('writeFile', (t, flag, path) => t.fs.writeFile(path, 'x', { flag })),
  ...Object.fromEntries(
    Object.entries(datas).map(([name, data]) => [`writeFile: ${name}`, (t: Scene) => t.fs.writeFile(t.at('new'), data())]),
  ),
  ...Object.fromEntries(
    encodings.map((encoding) => [
      `writeFile: encoding ${encoding}`,
      (t: Scene) =>
        t.outcomes(
          () => t.fs.writeFile(t.at('new'), '6162é', encoding),
          () => t.fs.writeFile(t.at('new2'), 'zz6 1=', { encoding }),
        ),
    ]),
  ),
  'writeFile: encoding does not touch bytes': (t) => t.fs.writeFile(t.at('new'), Buffer.from('6162'), 'hex'),
  'writeFile: shorter than before': (t) => t.fs.writeFile(t.at('file'), 'x'),
  "writeFile: flag 'r+' leaves the rest": (t) => t.fs.writeFile(t.at('file'), 'HE', { flag: 'r+' }),
  'writeFile: flag as a number': (t) => t.each([0, 1, 2, 0o101, 0o301, 0o2001], (flag) => t.fs.writeFile(t.at('file'), 'x', { flag })),
  'writeFile: mode of a new file': (t) => t.fs.writeFile(t.at('new'), 'x', { mode: 0o600 }),
  'writeFile: mode is masked': (t) => t.fs.writeFile(t.at('new'), 'x', { mode: 0o777 }),
  'writeFile: mode as a string': (t) => t.fs.writeFile(t.at('new'), 'x', { mode: '640' }),
  'writeFile: mode of a file that is there': (t) => t.fs.writeFile(t.at('file'), 'x', { mode: 0o600 }),
  'writeFile: mode without a right to write': (t) => t.fs.writeFile(t.at('new'), 'x', { mode: 0o400 }),
  'writeFile: flush': (t) => t.each([true, false, null, undefined], (flush) => t.fs.writeFile(t.at('new'), 'x', { flush })),
  'writeFile: path as a URL': (t) => t.fs.writeFile(pathToFileURL(t.at('new')), 'x'),
  'writeFile: path as a Buffer': (t) => t.fs.writeFile(Buffer.from(t.at('new')), 'x'),
  'writeFile: clears set-id bits unless privileged': async (t) => {
    await t.fs.chmod(t.at('exec'), 0o6755);
    await t.fs.writeFile(t.at('exec'), 'x');
  },

  ...perName('appendFile', (t, path) => t.fs.appendFile(path, 'x')),
  ...perFlag('appendFile', (t, flag, path) => t.fs.appendFile(path, 'x', { flag })),
  ...Object.fromEntries(
    Object.entries(datas).map(([name, data]) => [`appendFile: ${name}`, (t: Scene) => t.fs.appendFile(t.at('file'), data())]),
  ),
  'appendFile: encodings': (t) => t.each(encodings, (encoding) => t.fs.appendFile(t.at('file'), '6162', encoding)),
  'appendFile: mode of a new file': (t) => t.fs.appendFile(t.at('new'), 'x', { mode: 0o600 }),
  'appendFile: flush': (t) => t.fs.appendFile(t.at('file'), 'x', { flush: true }),

  ...perName('copyFile, source', (t, path) => t.fs.copyFile(path, t.at('new'))),
  ...perName('copyFile, destination', (t, path) => t.fs.copyFile(t.at('other'), path)),
  'copyFile: mode goes with it': (t) => t.fs.copyFile(t.at('exec'), t.at('new')),
  'copyFile: mode of what is there changes': (t) => t.fs.copyFile(t.at('exec'), t.at('file')),
  'copyFile: set-id bits': async (t) => {
    await t.fs.chmod(t.at('exec'), 0o6755);
    await t.fs.copyFile(t.at('exec'), t.at('new'));
  },
  'copyFile: to itself': (t) => t.fs.copyFile(t.at('file'), t.at('file')),
  'copyFile: to itself by a link': (t) => t.fs.copyFile(t.at('link'), t.at('file')),
  'copyFile: COPYFILE_EXCL': (t) =>
    t.outcomes(
      () => t.fs.copyFile(t.at('file'), t.at('new'), t.fs.constants.COPYFILE_EXCL),
      () => t.fs.copyFile(t.at('file'), t.at('new'), t.fs.constants.COPYFILE_EXCL),
      () => t.fs.copyFile(t.at('file'), t.at('dangling'), t.fs.constants.COPYFILE_EXCL),
    ),
  'copyFile: COPYFILE_FICLONE falls back': (t) => t.fs.copyFile(t.at('file'), t.at('new'), t.fs.constants.COPYFILE_FICLONE),
  'copyFile: large and sparse': async (t) => {
    await t.fs.truncate(t.at('file'), 1 << 20);
    await t.fs.copyFile(t.at('file'), t.at('new'));
    const [one, two] = [await t.fs.readFile(t.at('file')), await t.fs.readFile(t.at('new'))];
    await t.fs.truncate(t.at('file'), 0);
    await t.fs.truncate(t.at('new'), 0);
    return one.equals(two);
  },
};

/** What only the promises have. */
export const promisesContentCases: Cases = {
  ...Object.fromEntries(
    Object.entries(pieces).map(([name, data]) => [`writeFile: ${name}`, (t: Scene) => t.fs.writeFile(t.at('file'), data())]),
  ),
  ...Object.fromEntries(
    Object.entries(pieces).map(([name, data]) => [`appendFile: ${name}`, (t: Scene) => t.fs.appendFile(t.at('file'), data())]),
  ),
  'writeFile: pieces with an encoding': (t) => t.fs.writeFile(t.at('new'), ['6162', '63'], 'hex'),
  'readFile: aborted signal': (t) => t.fs.readFile(t.at('file'), { signal: aborted() }),
  'readFile: aborted for a reason': (t) => t.fs.readFile(t.at('file'), { signal: abortedFor(new Error('reason')) }),
  'readFile: aborted for what is no error': (t) => t.fs.readFile(t.at('file'), { signal: abortedFor('reason') }),
  'readFile: aborted, missing': (t) => t.fs.readFile(t.at('missing'), { signal: aborted() }),
  'readFile: aborted while it is under way': (t) => {
    const controller = new AbortController();
    const read = t.fs.readFile(t.at('file'), { signal: controller.signal });
    controller.abort();
    return read;
  },
  'readFile: signal that stays quiet': (t) => t.fs.readFile(t.at('file'), { signal: new AbortController().signal, encoding: 'utf8' }),
  'readFile: what is no signal': (t) =>
    t.each([null, 1, 'x', {}, { aborted: true }, new AbortController()], (signal) => t.fs.readFile(t.at('file'), { signal })),
  'writeFile: aborted signal': (t) => t.fs.writeFile(t.at('file'), 'x', { signal: aborted() }),
  'writeFile: aborted for a reason': (t) => t.fs.writeFile(t.at('file'), 'x', { signal: abortedFor(new TypeError('reason')) }),
  'writeFile: aborted, of an iterable': (t) => t.fs.writeFile(t.at('file'), ['x'], { signal: aborted() }),
  'writeFile: aborted between two pieces': (t) => {
    const controller = new AbortController();
    const data = (async function* () {
      yield 'one';
      controller.abort();
      yield 'two';
    })();
    return t.fs.writeFile(t.at('file'), data, { signal: controller.signal });
  },
  'writeFile: what is no signal': (t) => t.each([null, 1, 'x', {}], (signal) => t.fs.writeFile(t.at('file'), 'x', { signal })),
  'appendFile: aborted signal': (t) => t.fs.appendFile(t.at('file'), 'x', { signal: aborted() }),
  'writeFile: two at a time to two files': async (t) => {
    await Promise.all([t.fs.writeFile(t.at('new1'), 'one'), t.fs.writeFile(t.at('new2'), 'two')]);
  },
};
