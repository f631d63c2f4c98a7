// The memory of a request: pieces in order, taken as one run of bytes.

/** A copy of the bytes [from, from + length) of the pieces. */
export function gather(vec: readonly Uint8Array[], from: number, length: number, into: Uint8Array = new Uint8Array(length)): Uint8Array {
  let done = 0;
  for (const part of slice(vec, from, length)) {
    into.set(part, done);
    done += part.length;
  }
  return into;
}

/** Copies `bytes` into the pieces, from byte `to` of them on. */
export function scatter(bytes: Uint8Array, vec: readonly Uint8Array[], to: number): void {
  let done = 0;
  for (const part of slice(vec, to, bytes.length)) {
    part.set(part.length === bytes.length ? bytes : bytes.subarray(done, done + part.length));
    done += part.length;
  }
}

/** The pieces of the bytes [from, from + length), as views on the same memory. */
export function slice(vec: readonly Uint8Array[], from: number, length: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let skip = from;
  let left = length;
  for (const piece of vec) {
    if (left === 0) break;
    if (skip >= piece.length) {
      skip -= piece.length;
      continue;
    }
    const count = Math.min(piece.length - skip, left);
    parts.push(count === piece.length ? piece : piece.subarray(skip, skip + count));
    skip = 0;
    left -= count;
  }
  return parts;
}
