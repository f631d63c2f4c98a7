// Bits in a Uint32Array, addressed from a base bit so that several maps share one array.

/** Sets the bits [from, to). */
export function setBits(words: Uint32Array, from: number, to: number): void {
  for (let bit = from; bit < to; bit = wordEnd(bit)) words[bit >>> 5] = (words[bit >>> 5] as number) | maskOf(bit, to);
}

/** Clears the bits [from, to). */
export function clearBits(words: Uint32Array, from: number, to: number): void {
  for (let bit = from; bit < to; bit = wordEnd(bit)) words[bit >>> 5] = (words[bit >>> 5] as number) & ~maskOf(bit, to);
}

export function testBit(words: Uint32Array, bit: number): boolean {
  return ((words[bit >>> 5] as number) & (1 << (bit & 31))) !== 0;
}

/** The first set bit in [from, to), or `to`. */
export function nextSetBit(words: Uint32Array, from: number, to: number): number {
  return nextBit(words, from, to, 0);
}

/** The first clear bit in [from, to), or `to`. */
export function nextClearBit(words: Uint32Array, from: number, to: number): number {
  return nextBit(words, from, to, -1);
}

export function countBits(words: Uint32Array, from: number, to: number): number {
  let count = 0;
  for (let bit = from; bit < to; bit = wordEnd(bit)) {
    for (let bits = (words[bit >>> 5] as number) & maskOf(bit, to); bits !== 0; bits &= bits - 1) count++;
  }
  return count;
}

function nextBit(words: Uint32Array, from: number, to: number, invert: number): number {
  let bit = from;
  while (bit < to) {
    const bits = (((words[bit >>> 5] as number) ^ invert) >>> (bit & 31)) >>> 0;
    if (bits !== 0) {
      const found = bit + 31 - Math.clz32(bits & -bits);
      return found < to ? found : to;
    }
    bit = (bit | 31) + 1;
  }
  return to;
}

/** The first bit of the next word. */
function wordEnd(bit: number): number {
  return (bit | 31) + 1;
}

/** The bits of [bit, to) that are in the word of `bit`. */
function maskOf(bit: number, to: number): number {
  const width = Math.min(wordEnd(bit), to) - bit;
  return width === 32 ? -1 : ((1 << width) - 1) << (bit & 31);
}
