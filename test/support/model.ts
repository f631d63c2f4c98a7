/** A file as a flat run of bytes, and the operations on it: what every real file is compared with. */
export class FlatModel {
  #bytes = new Uint8Array(0);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The content: a view, valid until the next operation. */
  get content(): Uint8Array {
    return this.#bytes.subarray(0, this.#size);
  }

  write(pos: number, data: Uint8Array): void {
    if (data.length === 0) return;
    this.#size = Math.max(this.#size, pos + data.length);
    this.#grow(this.#size);
    this.#bytes.set(data, pos);
  }

  /** Growing shows zeros, never old bytes. */
  truncate(size: number): void {
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
    this.#grow(size);
  }

  /** Zeroes what is inside the file; the size stays. Also what punching a hole shows. */
  zero(pos: number, length: number): void {
    this.#bytes.fill(0, Math.min(pos, this.#size), Math.min(pos + length, this.#size));
  }

  /** A copy of [pos, pos + length), short at the end of the file. */
  read(pos: number, length: number): Uint8Array {
    return this.content.slice(Math.min(pos, this.#size), Math.min(pos + length, this.#size));
  }

  /** A copy of [pos, pos + length), with zeros behind the end of the file. */
  readPadded(pos: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    out.set(this.read(pos, length));
    return out;
  }

  #grow(size: number): void {
    if (size <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(size, this.#bytes.length * 2));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }
}

/**
 * Throws unless the bytes are equal.
 *
 * Errors:  says where the first difference is, how many there are, and what both sides have around it.
 */
export function assertSameBytes(actual: Uint8Array, expected: Uint8Array, what: string, pos = 0): void {
  const difference = firstDifference(actual, expected);
  if (difference < 0) return;
  if (difference === Math.min(actual.length, expected.length)) {
    throw new Error(`${what}: ${actual.length} bytes from ${pos}, expected ${expected.length}`);
  }
  let count = 0;
  let last = difference;
  for (let at = difference; at < Math.min(actual.length, expected.length); at++) {
    if (actual[at] === expected[at]) continue;
    count++;
    last = at;
  }
  throw new Error(
    `${what}: byte ${pos + difference} differs (${count} bytes up to ${pos + last})\n${context('actual  ', actual, difference)}\n${context('expected', expected, difference)}`,
  );
}

/** Index of the first byte that differs, the shorter length if one is a prefix of the other, -1 if they are equal. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1;
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return at;
  return length;
}

function context(name: string, bytes: Uint8Array, at: number): string {
  const from = Math.max(0, at - 8);
  const hex = [...bytes.subarray(from, at + 16)].map((byte, i) => `${from + i === at ? '>' : ''}${byte.toString(16).padStart(2, '0')}`);
  return `  ${name} ${hex.join(' ')}`;
}
