import assert from 'node:assert/strict';
import fs from 'node:fs';
import { buffer, text } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { Volume } from './volume.ts';

test('streams are those of Node', async () => {
  await using volume = Volume.create(new MemFs());
  const writing = volume.createWriteStream('/file');
  assert.ok(writing instanceof fs.WriteStream);
  writing.write('hello ');
  writing.end('world');
  await finished(writing);
  assert.equal(writing.bytesWritten, 11);

  const reading = volume.createReadStream('/file', { start: 2, end: 7, highWaterMark: 3 });
  assert.ok(reading instanceof fs.ReadStream);
  assert.equal(await text(reading), 'llo wo');
  assert.equal(reading.path, '/file');
  await using check = await volume.open('/file');
  assert.equal(check.fd, 3, 'both have given their descriptors back');
});

test('a pipe carries more than a stream holds', async () => {
  await using volume = Volume.create(new MemFs());
  const bytes = Buffer.alloc(300_000, 'abcdefg');
  await volume.writeFile('/from', bytes);
  await pipeline(volume.createReadStream('/from'), volume.createWriteStream('/to', { flush: true }));
  assert.deepEqual(await volume.readFile('/to'), bytes);
  assert.deepEqual(await buffer(volume.createReadStream(Buffer.from('/to'))), bytes);
});

test('several chunks at once go through writev', async () => {
  await using volume = Volume.create(new MemFs());
  const stream = volume.createWriteStream('/file', { flags: 'a' });
  stream.cork();
  for (const chunk of ['a', 'b', 'c']) stream.write(chunk);
  stream.uncork();
  stream.end();
  await finished(stream);
  assert.equal(await volume.readFile('/file', 'utf8'), 'abc');
});

test('a stream that cannot open fails with the path', async () => {
  await using volume = Volume.create(new MemFs());
  const error = { code: 'ENOENT', syscall: 'open', path: '/none', message: "ENOENT: no such file or directory, open '/none'" };
  await assert.rejects(finished(volume.createReadStream('/none').resume()), error);
  await assert.rejects(finished(volume.createWriteStream('/none/x').end()), { ...error, path: '/none/x', message: /open '\/none\/x'$/ });
});

test('options are checked by Node, when the stream is made', async () => {
  await using volume = Volume.create(new MemFs());
  assert.throws(() => volume.createReadStream('/file', { start: 5, end: 2 }), { code: 'ERR_OUT_OF_RANGE', message: /"start"/ });
  assert.throws(() => volume.createReadStream('/file', 'bogus' as never), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => volume.createReadStream(5 as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"path"/ });
});

test('streams of a handle close it at their end, or not', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', 'abc\ndef\n');
  const first = await volume.open('/file');
  assert.equal(await text(first.createReadStream()), 'abc\ndef\n');
  assert.equal(first.fd, -1);

  const second = await volume.open('/file', 'r+');
  const stream = second.createWriteStream({ start: 4, autoClose: false });
  stream.end('XYZ');
  await finished(stream);
  assert.equal(text instanceof Function && second.fd, 3);
  assert.equal(await text(volume.createReadStream('/ignored', { fd: second, start: 0 })), 'abc\nXYZ\n');
  assert.equal(second.fd, -1);
});

test('closing a handle ends its streams', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', 'x'.repeat(1000));
  const handle = await volume.open('/file');
  const stream = handle.createReadStream({ highWaterMark: 10 });
  stream.on('error', () => {});
  await handle.close();
  assert.ok(stream.destroyed);
});

test('a file is read line by line', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', 'one\ntwo\r\nthree');
  const handle = await volume.open('/file');
  const lines: string[] = [];
  for await (const line of handle.readLines()) lines.push(line);
  assert.deepEqual(lines, ['one', 'two', 'three']);
});

test('a web stream reads from the position on, one at a time', async () => {
  await using volume = Volume.create(new MemFs());
  const bytes = Buffer.alloc(50_000, '0123456');
  await volume.writeFile('/file', bytes);
  const handle = await volume.open('/file');
  await handle.read(Buffer.alloc(7), 0, 7, null);
  const stream = handle.readableWebStream({ autoClose: true });
  assert.throws(() => handle.readableWebStream(), { code: 'ERR_INVALID_STATE', message: 'Invalid state: The FileHandle is locked' });
  assert.deepEqual(await buffer(stream), bytes.subarray(7));
  assert.equal(handle.fd, -1);
});
