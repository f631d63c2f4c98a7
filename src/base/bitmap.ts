// Bits in a Uint32Array, addressed from a base bit so that several maps share one array.

/** Sets the bits [from, to). */
export function setBits(words: Uint32Array, from: number, to: number): void {
  forWords(from, to, (word, mask) => {
    words[word] = (words[word] as number) | mask;
  });
}

/** Clears the bits [from, to). */
export function clearBits(words: Uint32Array, from: number, to: number): void {
  forWords(from, to, (word, mask) => {
    words[word] = (words[word] as number) & ~mask;
  });
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
  forWords(from, to, (word, mask) => {
    let bits = (words[word] as number) & mask;
    for (; bits !== 0; bits &= bits - 1) count++;
  });
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

function forWords(from: number, to: number, visit: (word: number, mask: number) => void): void {
  let bit = from;
  while (bit < to) {
    const end = Math.min((bit | 31) + 1, to);
    const width = end - bit;
    visit(bit >>> 5, width === 32 ? -1 : ((1 << width) - 1) << (bit & 31));
    bit = end;
  }
}
