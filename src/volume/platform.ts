import { decodeUtf8, encodeUtf8 } from '../layout/utf8.ts';

// What a Volume takes from the platform that it runs on: built-in modules of Node, and Buffer. Both are looked up when they are needed, so
// that everything else works where there is no Node.

interface NodeGlobals {
  readonly process?: { getBuiltinModule?(name: string): unknown };
  readonly Buffer?: BufferConstructorLike;
}

interface BufferConstructorLike {
  from(memory: ArrayBufferLike, offset: number, length: number): Uint8Array;
  from(text: unknown, encoding: string): Uint8Array;
  isBuffer(value: unknown): boolean;
  allocUnsafe(length: number): Uint8Array;
}

const globals = globalThis as NodeGlobals;
const modules = new Map<string, unknown>();

/** Is there a Node below that gives its built-in modules? */
export const hasNode: boolean = typeof globals.process?.getBuiltinModule === 'function';

/** A built-in module of Node. Errors: one with code ERR_IOMAP_NO_NODE where there is no Node, or none that has it. */
export function builtin<T>(name: string): T {
  const known = modules.get(name);
  if (known !== undefined) return known as T;
  const module = globals.process?.getBuiltinModule?.(name);
  if (module === undefined) {
    const error = new Error(`This needs ${name} of Node.js 20.19 or later, which is not there`);
    throw Object.assign(error, { code: 'ERR_IOMAP_NO_NODE' });
  }
  modules.set(name, module);
  return module as T;
}

/** The same memory as a Buffer, where there are Buffers. */
export function toBuffer(bytes: Uint8Array): Uint8Array {
  if (globals.Buffer === undefined || globals.Buffer.isBuffer(bytes)) return bytes;
  return globals.Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function isBuffer(value: unknown): boolean {
  return globals.Buffer?.isBuffer(value) === true;
}

/** Bytes of a text in one of Node's encodings. Errors: as from Buffer.from; without Buffers ERR_IOMAP_NO_NODE for any but UTF-8. */
export function encodeText(text: unknown, encoding: string): Uint8Array {
  if (globals.Buffer === undefined && typeof text === 'string' && isUtf8(encoding)) return encodeUtf8(text);
  return bufferOf().from(text, encoding);
}

/** Text of bytes in one of Node's encodings. Errors: as from Buffer.toString; without Buffers ERR_IOMAP_NO_NODE for any but UTF-8. */
export function decodeText(bytes: Uint8Array, encoding: string): string {
  if (globals.Buffer === undefined && isUtf8(encoding)) return decodeUtf8(bytes);
  const buffer = bufferOf().from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (buffer as unknown as { toString(encoding: string): string }).toString(encoding);
}

function isUtf8(encoding: string): boolean {
  return /^utf-?8$/i.test(encoding);
}

function bufferOf(): BufferConstructorLike {
  return globals.Buffer ?? builtin<{ Buffer: BufferConstructorLike }>('node:buffer').Buffer;
}

/** Memory for what is about to be read: a Buffer whose bytes are anything, where there are Buffers. */
export function allocate(length: number): Uint8Array {
  return globals.Buffer === undefined ? new Uint8Array(length) : globals.Buffer.allocUnsafe(length);
}
