import { Buffer } from 'node:buffer';
import { finished, pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import type { Cases, Scene, Untyped } from './scene.ts';

// Streams of a path and of a handle, lines, web streams.

/** What a stream says until it is closed: its events in order, with what they carry; chunks as they come. */
const drama = async (stream: Untyped, watched = ['open', 'ready', 'end', 'finish', 'error', 'close']) => {
  const events: unknown[] = [];
  for (const name of watched) {
    stream.on(name, (detail: unknown) => events.push(name === 'error' ? [name, detail] : name));
  }
  const chunks: unknown[] = [];
  if (stream.readable !== undefined && !stream.writable) stream.on('data', (chunk: unknown) => chunks.push(chunk));
  await new Promise((resolve) => stream.once('close', resolve));
  return { events, chunks };
};

const read = (name: string, options?: Untyped) => (t: Scene) => drama(t.fs.createReadStream(t.at(name), options));
const write =
  (name: string, options?: Untyped, chunks: readonly Untyped[] = ['one', Buffer.from('two')]) =>
  async (t: Scene) => {
    const stream = t.fs.createWriteStream(t.at(name), options);
    const told = drama(stream);
    for (const chunk of chunks) stream.write(chunk);
    stream.end();
    return { ...(await told), bytesWritten: stream.bytesWritten };
  };

const lines = async (iterable: AsyncIterable<Untyped>) => {
  const found: Untyped[] = [];
  for await (const line of iterable) found.push(line);
  return found;
};

const withHandle =
  (test: (handle: Untyped, t: Scene) => unknown, flag = 'r+', name = 'file') =>
  async (t: Scene) =>
    test(await t.fs.open(t.at(name), flag), t);

export const streamCases: Cases = {
  'createReadStream: whole file': read('file'),
  'createReadStream: encoding': read('file', 'utf8'),
  'createReadStream: encoding in options': read('file', { encoding: 'hex' }),
  'createReadStream: start': read('file', { start: 6 }),
  'createReadStream: end is included': read('file', { end: 4 }),
  'createReadStream: start and end': read('file', { start: 3, end: 7 }),
  'createReadStream: start past the end': read('file', { start: 100 }),
  'createReadStream: end past the end': read('file', { start: 6, end: 100 }),
  'createReadStream: one byte': read('file', { start: 0, end: 0 }),
  'createReadStream: end Infinity': read('file', { end: Infinity }),
  'createReadStream: highWaterMark': read('file', { highWaterMark: 5 }),
  'createReadStream: highWaterMark and range': read('file', { highWaterMark: 2, start: 1, end: 5, encoding: 'utf8' }),
  'createReadStream: empty file': read('empty'),
  'createReadStream: link': read('link'),
  'createReadStream: missing': read('missing'),
  'createReadStream: directory': read('dir'),
  'createReadStream: loop': read('loop'),
  'createReadStream: below a file': read('file/x'),
  'createReadStream: flag r+': read('file', { flags: 'r+' }),
  'createReadStream: flag a+ makes it': read('new', { flags: 'a+' }),
  'createReadStream: flag w cannot be read': read('new', { flags: 'w' }),
  'createReadStream: emitClose true': read('file', { emitClose: true }),
  'createReadStream: path as a Buffer': (t) => drama(t.fs.createReadStream(Buffer.from(t.at('file')))),
  'createReadStream: path as a URL': (t) => drama(t.fs.createReadStream(pathToFileURL(t.at('file')))),
  'createReadStream: members': async (t) => {
    const stream = t.fs.createReadStream(t.at('file'), { start: 2, end: 5 });
    const before = {
      path: stream.path,
      pending: stream.pending,
      bytesRead: stream.bytesRead,
      flags: stream.flags,
      mode: stream.mode,
      start: stream.start,
      end: stream.end,
      autoClose: stream.autoClose,
    };
    await drama(stream);
    return { before, after: { pending: stream.pending, bytesRead: stream.bytesRead, destroyed: stream.destroyed, closed: stream.closed } };
  },
  'createReadStream: autoClose false stays open': async (t) => {
    const stream = t.fs.createReadStream(t.at('file'), { autoClose: false });
    const chunks = await lines(stream.iterator({ destroyOnReturn: false }));
    const { destroyed } = stream;
    await new Promise((resolve) => stream.close(resolve));
    return { chunks, destroyed };
  },
  'createReadStream: for await': async (t) => lines(t.fs.createReadStream(t.at('lines'), { highWaterMark: 4, encoding: 'utf8' })),
  'createReadStream: destroy before it opens': async (t) => {
    const stream = t.fs.createReadStream(t.at('file'));
    const told = drama(stream);
    stream.destroy();
    return told;
  },
  'createReadStream: destroy with an error': async (t) => {
    const stream = t.fs.createReadStream(t.at('file'));
    const told = drama(stream);
    stream.destroy(new Error('enough'));
    return told;
  },
  'createReadStream: aborted signal': read('file', { signal: AbortSignal.abort() }),
  'createReadStream: aborted later': async (t) => {
    const controller = new AbortController();
    const told = drama(t.fs.createReadStream(t.at('file'), { signal: controller.signal }));
    controller.abort();
    return told;
  },
  'createReadStream: what is no start': (t) =>
    t.each([-1, 1.5, '1', NaN, null, 2 ** 53], (start) => drama(t.fs.createReadStream(t.at('file'), { start }))),
  'createReadStream: what is no end': (t) =>
    t.each([-1, 1.5, '1', NaN, 2 ** 53], (end) => drama(t.fs.createReadStream(t.at('file'), { end }))),
  'createReadStream: start behind end': (t) => t.fs.createReadStream(t.at('file'), { start: 5, end: 2 }),
  'createReadStream: what is no options': (t) =>
    t.each([1, true, 'no-encoding', { encoding: 'no-encoding' }], (options) => t.fs.createReadStream(t.at('file'), options)),
  'createReadStream: what is no path': (t) => t.each([undefined, null, 1, {}, 'a\0b'], (path) => t.fs.createReadStream(path)),
  'createReadStream: what is no flag': (t) => t.fs.createReadStream(t.at('file'), { flags: 'q' }).on('error', () => undefined),
  'createReadStream: what is no signal': (t) => t.each([1, 'x', {}], (signal) => t.fs.createReadStream(t.at('file'), { signal })),
  'createReadStream: 200,000 bytes': async (t) => {
    await t.fs.writeFile(t.at('new'), Buffer.alloc(200_000, 'x'));
    const chunks = await lines(t.fs.createReadStream(t.at('new')));
    await t.fs.unlink(t.at('new'));
    return chunks.map((chunk) => chunk.length);
  },

  'createWriteStream: new file': write('new'),
  'createWriteStream: over a file': write('file'),
  'createWriteStream: nothing': write('new', undefined, []),
  'createWriteStream: start': write('file', { flags: 'r+', start: 6 }),
  'createWriteStream: start past the end': write('file', { flags: 'r+', start: 20 }),
  'createWriteStream: flag a': write('file', { flags: 'a' }),
  'createWriteStream: flag wx of a new file': write('new', { flags: 'wx' }),
  'createWriteStream: flag wx of a file': write('file', { flags: 'wx' }),
  'createWriteStream: flag r cannot be written': write('file', { flags: 'r' }),
  'createWriteStream: mode': write('new', { mode: 0o600 }),
  'createWriteStream: encoding': write('new', { encoding: 'hex' }, ['6162', '63']),
  'createWriteStream: encoding as options': write('new', 'base64', ['YWJj']),
  'createWriteStream: flush': write('new', { flush: true }),
  'createWriteStream: small highWaterMark': write('new', { highWaterMark: 2 }, ['one', 'two', 'three']),
  'createWriteStream: directory': write('dir'),
  'createWriteStream: below a missing directory': write('missing/new'),
  'createWriteStream: loop': write('loop'),
  'createWriteStream: through a dangling link': write('dangling'),
  'createWriteStream: emitClose true': write('new', { emitClose: true }),
  'createWriteStream: what is no start': (t) => t.each([-1, 1.5, '1', NaN], (start) => write('new', { start })(t)),
  'createWriteStream: what is no options': (t) =>
    t.each([1, true, 'no-encoding'], (options) => t.fs.createWriteStream(t.at('new'), options)),
  'createWriteStream: what is no flush': (t) => t.each([1, 'x', {}], (flush) => t.fs.createWriteStream(t.at('new'), { flush })),
  'createWriteStream: what is no path': (t) => t.each([undefined, null, 1, {}, 'a\0b'], (path) => t.fs.createWriteStream(path)),
  'createWriteStream: what is no chunk': async (t) => {
    const stream = t.fs.createWriteStream(t.at('new'));
    const told = drama(stream);
    const refused = await t.outcomes(
      () => stream.write(1),
      () => stream.write(null),
      () => stream.write({}),
    );
    stream.end();
    return { refused, told: await told };
  },
  'createWriteStream: write after end': async (t) => {
    const stream = t.fs.createWriteStream(t.at('new'));
    const told = drama(stream);
    stream.end('one');
    stream.write('two');
    return told;
  },
  'createWriteStream: corked writes': async (t) => {
    const stream = t.fs.createWriteStream(t.at('new'));
    const told = drama(stream);
    stream.cork();
    for (const chunk of ['one', 'two', 'three']) stream.write(chunk);
    stream.uncork();
    stream.end();
    return told;
  },
  'createWriteStream: members': async (t) => {
    const stream = t.fs.createWriteStream(t.at('new'), { start: 2 });
    const before = {
      path: stream.path,
      pending: stream.pending,
      bytesWritten: stream.bytesWritten,
      flags: stream.flags,
      mode: stream.mode,
      start: stream.start,
    };
    stream.end('text');
    await drama(stream);
    return { before, after: { pending: stream.pending, bytesWritten: stream.bytesWritten, destroyed: stream.destroyed } };
  },
  'createWriteStream: callbacks of write and close': async (t) => {
    const stream = t.fs.createWriteStream(t.at('new'));
    const written = await new Promise((resolve) => stream.write('text', (error: unknown) => resolve(error ?? null)));
    const closed = await new Promise((resolve) => stream.close((error: unknown) => resolve(error ?? null)));
    return [written, closed];
  },
  'createWriteStream: aborted signal': write('file', { flags: 'r+', signal: AbortSignal.abort() }, []),
  'createWriteStream: two streams, one pipeline': async (t) => {
    await pipeline(t.fs.createReadStream(t.at('file'), { highWaterMark: 3 }), t.fs.createWriteStream(t.at('new')));
  },
  'createWriteStream: pipeline that fails': (t) =>
    pipeline(t.fs.createReadStream(t.at('missing')), t.fs.createWriteStream(t.at('other'), { flags: 'r+' })),

  'FileHandle createReadStream: whole': withHandle((handle) => drama(handle.createReadStream())),
  'FileHandle createReadStream: closes the handle': withHandle(async (handle) => {
    await drama(handle.createReadStream());
    return handle.fd;
  }),
  'FileHandle createReadStream: autoClose false': withHandle(async (handle, t) => {
    const chunks = await lines(handle.createReadStream({ autoClose: false, encoding: 'utf8' }));
    return { chunks, open: handle.fd > 0, stat: (await t.outcome(() => handle.stat())) !== undefined };
  }),
  'FileHandle createReadStream: range': withHandle((handle) =>
    drama(handle.createReadStream({ start: 2, end: 6, encoding: 'latin1', highWaterMark: 2 })),
  ),
  'FileHandle createReadStream: from where it stands': withHandle(async (handle) => {
    await handle.read(Buffer.alloc(6));
    return drama(handle.createReadStream());
  }),
  'FileHandle createReadStream: of a closed handle': withHandle(async (handle, t) => {
    await handle.close();
    return t.outcome(() => drama(handle.createReadStream()));
  }),
  'FileHandle createWriteStream: whole': withHandle(async (handle) => {
    const stream = handle.createWriteStream();
    const told = drama(stream);
    stream.end('HELLO');
    return told;
  }),
  'FileHandle createWriteStream: start': withHandle(async (handle) => {
    const stream = handle.createWriteStream({ start: 6 });
    stream.end('W');
    await finished(stream);
  }),
  'FileHandle createWriteStream: autoClose false': withHandle(async (handle) => {
    const stream = handle.createWriteStream({ autoClose: false });
    await new Promise((resolve) => stream.end('HELLO', resolve));
    const open = handle.fd > 0;
    stream.destroy();
    await new Promise((resolve) => stream.once('close', resolve));
    return [open, handle.fd];
  }),
  'FileHandle createWriteStream: flush': withHandle(async (handle) => {
    const stream = handle.createWriteStream({ flush: true });
    stream.end('HELLO');
    await finished(stream);
  }),
  'FileHandle createWriteStream: of a handle that reads only': withHandle(async (handle) => {
    const stream = handle.createWriteStream();
    const told = drama(stream);
    stream.end('HELLO');
    return told;
  }, 'r'),

  'FileHandle readLines: each line ending': withHandle(async (handle) => lines(handle.readLines()), 'r', 'lines'),
  'FileHandle readLines: start and end': withHandle(async (handle) => lines(handle.readLines({ start: 4, end: 9 })), 'r', 'lines'),
  'FileHandle readLines: encoding': withHandle(async (handle) => lines(handle.readLines({ encoding: 'latin1' })), 'r', 'lines'),
  'FileHandle readLines: of an empty file': withHandle(async (handle) => lines(handle.readLines()), 'r', 'empty'),
  'FileHandle readLines: closes the handle': withHandle(
    async (handle) => {
      const closed = new Promise((resolve) => handle.once('close', resolve));
      await lines(handle.readLines());
      await closed;
      return handle.fd;
    },
    'r',
    'lines',
  ),

  'FileHandle readableWebStream: whole': withHandle(async (handle) => {
    const chunks: number[] = [];
    for await (const chunk of handle.readableWebStream())
      chunks.push(...new Uint8Array(chunk.buffer ?? chunk, chunk.byteOffset ?? 0, chunk.byteLength));
    return Buffer.from(chunks);
  }),
  'FileHandle readableWebStream: bytes': withHandle(async (handle) => {
    const chunks: number[] = [];
    for await (const chunk of handle.readableWebStream({ type: 'bytes' }))
      chunks.push(...new Uint8Array(chunk.buffer ?? chunk, chunk.byteOffset ?? 0, chunk.byteLength));
    return Buffer.from(chunks);
  }),
  'FileHandle readableWebStream: twice': withHandle(async (handle, t) => {
    await lines(handle.readableWebStream());
    return t.outcome(() => handle.readableWebStream());
  }),
  'FileHandle readableWebStream: of a closed handle': withHandle(async (handle, t) => {
    await handle.close();
    return t.outcome(() => handle.readableWebStream());
  }),
};
