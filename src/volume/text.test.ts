import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtin, decodeText, encodeText, isBuffer, toBuffer } from './platform.ts';
import { encodeName } from './text.ts';

test('a name comes in the encoding that was asked for', () => {
  assert.equal(encodeName('ä'), 'ä');
  assert.equal(encodeName('ä', null), 'ä');
  assert.equal(encodeName('ä', 'hex'), 'c3a4');
  assert.equal(encodeName('ä', 'latin1'), 'Ã¤');
  assert.deepEqual(encodeName('ä', 'buffer'), Buffer.from('ä'));
});

test('bytes that are no text are kept by every encoding but text', () => {
  assert.equal(encodeName('\udcff'), '\ufffd');
  assert.deepEqual(encodeName('\udcff', 'buffer'), Buffer.from([0xff]));
  assert.equal(encodeName('\udcff', 'hex'), 'ff');
});

test('a Buffer lies over the same memory', () => {
  const bytes = new Uint8Array(8).subarray(2, 5);
  const buffer = toBuffer(bytes);
  assert.ok(isBuffer(buffer) && !isBuffer(bytes));
  buffer[0] = 7;
  assert.equal(bytes[0], 7);
  assert.equal(toBuffer(buffer), buffer);
});

test('text and bytes turn into each other as Buffers do it', () => {
  assert.deepEqual(encodeText('6869', 'hex'), Buffer.from('hi'));
  assert.equal(decodeText(new Uint8Array([0x68, 0x69]), 'base64'), 'aGk=');
  assert.throws(() => decodeText(new Uint8Array(1), 'buffer'), { code: 'ERR_UNKNOWN_ENCODING' });
});

test('a module that Node does not have is named in the error', () => {
  assert.throws(() => builtin('node:nothing'), { code: 'ERR_IOMAP_NO_NODE', message: /node:nothing/ });
});
