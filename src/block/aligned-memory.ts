import { FsError } from '../base/fs-error.ts';

// JavaScript cannot see addresses, and an ArrayBuffer starts some bytes past a page. The memory of a WebAssembly.Memory starts at a
// page, so what is cut out of it at page offsets can be handed to O_DIRECT.

/** Bytes; the largest alignment that a device asks for. */
export const PAGE_SIZE = 4096;
const WASM_PAGE_SIZE = 65536;

// Browsers and Node have it, the language's own types do not.
const host = globalThis as unknown as {
  WebAssembly?: { Memory: new (limits: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer } };
};

const aligned = new WeakSet<ArrayBufferLike>();

/** Fresh zeroed memory that starts at a page. Costs address space, so take it rarely and in large pieces. Errors: ENOMEM. */
export function alignedBytes(length: number): Uint8Array {
  const pages = Math.ceil(length / WASM_PAGE_SIZE);
  try {
    if (host.WebAssembly === undefined) throw new FsError('ENOTSUP', 'mmap', { detail: 'no WebAssembly.Memory here' });
    const { buffer } = new host.WebAssembly.Memory({ initial: pages, maximum: pages });
    aligned.add(buffer);
    return new Uint8Array(buffer, 0, length);
  } catch (cause) {
    throw new FsError('ENOMEM', 'mmap', { cause, detail: `${length} aligned bytes` });
  }
}

/** True if `bytes` is known to start at a page: it was cut out of alignedBytes() at a page offset. */
export function isPageAligned(bytes: Uint8Array): boolean {
  return bytes.byteOffset % PAGE_SIZE === 0 && aligned.has(bytes.buffer);
}
