// The hashes of names that order an indexed directory. Source: Linux fs/ext4/hash.c, documented values.

/** dx_root_info.hash_version, and s_def_hash_version. */
export const DX_HASH_LEGACY = 0;
export const DX_HASH_HALF_MD4 = 1;
export const DX_HASH_TEA = 2;
/** Keyed by the encryption key of the directory: records carry it, nobody without the key computes it. */
export const DX_HASH_SIPHASH = 6;

/** Stands for the end of a directory in positions of readers, so no name has it. */
const HASH_EOF = 0xfffffffe;

const SEED_DEFAULT: readonly number[] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
const MD4_K2 = 0x5a827999;
const MD4_K3 = 0x6ed9eba1;
const TEA_DELTA = 0x9e3779b9;

/** Hashes names in one way. It keeps the second half of the last answer: use it before the next name. */
export class NameHasher {
  readonly version: number;
  /** Orders names of equal hash; 0 with the legacy hash. Unsigned 32 bits, of the last name. */
  minor = 0;
  readonly #isUnsigned: boolean;
  readonly #seed: Int32Array;
  readonly #state = new Int32Array(4);
  readonly #words = new Int32Array(8);

  /** `version`: 0 to 2. `seed`: four words, of which all zero means the default. */
  constructor(version: number, seed: readonly number[], isUnsigned: boolean) {
    this.version = version;
    this.#isUnsigned = isUnsigned;
    this.#seed = Int32Array.from(seed.some((word) => word !== 0) ? seed : SEED_DEFAULT);
  }

  /** The hash of bytes [from, to): unsigned 32 bits, of which bit 0 is clear. */
  hash(bytes: Uint8Array, from = 0, to: number = bytes.length): number {
    let hash: number;
    this.minor = 0;
    if (this.version === DX_HASH_LEGACY) {
      hash = this.#legacy(bytes, from, to);
    } else {
      this.#state.set(this.#seed);
      const isTea = this.version === DX_HASH_TEA;
      const chunk = isTea ? 16 : 32;
      for (let at = from; at < to; at += chunk) {
        this.#fillWords(bytes, at, to, chunk / 4);
        if (isTea) this.#tea();
        else this.#halfMd4();
      }
      hash = this.#state[isTea ? 0 : 1] as number;
      this.minor = (this.#state[isTea ? 1 : 2] as number) >>> 0;
    }
    hash = (hash & ~1) >>> 0;
    return hash === HASH_EOF ? HASH_EOF - 2 : hash;
  }

  #byte(value: number): number {
    return this.#isUnsigned ? value : (value << 24) >> 24;
  }

  #legacy(bytes: Uint8Array, from: number, to: number): number {
    let hash0 = 0x12a3fe2d;
    let hash1 = 0x37abe8f9;
    for (let at = from; at < to; at++) {
      let hash = (hash1 + (hash0 ^ Math.imul(this.#byte(bytes[at] as number), 7152373))) | 0;
      if (hash < 0) hash = (hash - 0x7fffffff) | 0;
      hash1 = hash0;
      hash0 = hash;
    }
    return hash0 << 1;
  }

  /** The bytes from `from` on as `count` words. What is left of the name pads: its length, in each byte. */
  #fillWords(bytes: Uint8Array, from: number, to: number, count: number): void {
    const words = this.#words;
    const left = to - from;
    let pad = left | (left << 8);
    pad |= pad << 16;
    const end = Math.min(to, from + count * 4);
    let value = pad;
    let index = 0;
    for (let at = from; at < end; at++) {
      value = (this.#byte(bytes[at] as number) + (value << 8)) | 0;
      if (((at - from) & 3) === 3) {
        words[index++] = value;
        value = pad;
      }
    }
    if (index < count) words[index++] = value;
    while (index < count) words[index++] = pad;
  }

  #halfMd4(): void {
    const state = this.#state;
    const w = this.#words;
    let a = state[0] as number;
    let b = state[1] as number;
    let c = state[2] as number;
    let d = state[3] as number;
    for (let i = 0; i < 8; i += 4) {
      a = rol(a + (d ^ (b & (c ^ d))) + (w[i] as number), 3);
      d = rol(d + (c ^ (a & (b ^ c))) + (w[i + 1] as number), 7);
      c = rol(c + (b ^ (d & (a ^ b))) + (w[i + 2] as number), 11);
      b = rol(b + (a ^ (c & (d ^ a))) + (w[i + 3] as number), 19);
    }
    for (let i = 1; i >= 0; i--) {
      a = rol(a + (((b & c) + ((b ^ c) & d)) | 0) + (w[i] as number) + MD4_K2, 3);
      d = rol(d + (((a & b) + ((a ^ b) & c)) | 0) + (w[i + 2] as number) + MD4_K2, 5);
      c = rol(c + (((d & a) + ((d ^ a) & b)) | 0) + (w[i + 4] as number) + MD4_K2, 9);
      b = rol(b + (((c & d) + ((c ^ d) & a)) | 0) + (w[i + 6] as number) + MD4_K2, 13);
    }
    for (let i = 3; i >= 1; i -= 2) {
      a = rol(a + (b ^ c ^ d) + (w[i] as number) + MD4_K3, 3);
      d = rol(d + (a ^ b ^ c) + (w[i + 4] as number) + MD4_K3, 9);
      c = rol(c + (d ^ a ^ b) + (w[i - 1] as number) + MD4_K3, 11);
      b = rol(b + (c ^ d ^ a) + (w[i + 3] as number) + MD4_K3, 15);
    }
    state[0] = (state[0] as number) + a;
    state[1] = (state[1] as number) + b;
    state[2] = (state[2] as number) + c;
    state[3] = (state[3] as number) + d;
  }

  #tea(): void {
    const state = this.#state;
    const k = this.#words;
    let b0 = state[0] as number;
    let b1 = state[1] as number;
    let sum = 0;
    for (let round = 0; round < 16; round++) {
      sum = (sum + TEA_DELTA) | 0;
      b0 = (b0 + ((((b1 << 4) + (k[0] as number)) | 0) ^ ((b1 + sum) | 0) ^ (((b1 >>> 5) + (k[1] as number)) | 0))) | 0;
      b1 = (b1 + ((((b0 << 4) + (k[2] as number)) | 0) ^ ((b0 + sum) | 0) ^ (((b0 >>> 5) + (k[3] as number)) | 0))) | 0;
    }
    state[0] = (state[0] as number) + b0;
    state[1] = (state[1] as number) + b1;
  }
}

function rol(value: number, bits: number): number {
  const word = value | 0;
  return (word << bits) | (word >>> (32 - bits));
}
