import { DX_HASH_HALF_MD4, DX_HASH_TEA, NameHasher } from './dir-hash.ts';

// What names of an encrypted directory look like to those without its key: "_" and the base64url form of its hash and ciphertext, of which a
// long one is cut and ends in a digest. Who lists such a name can look it up and remove it by this form. It is of this driver alone: two
// names of one directory do not have the same, but nothing else is promised of it.

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const HASH_SIZE = 8;
const DIGEST_SIZE = 16;
/** Bytes of the form before it is text: as many as fit into a name. */
const FORM_MAX = 190;
const HEAD_MAX = FORM_MAX - HASH_SIZE - DIGEST_SIZE;
/** Longer ciphertexts are cut. One byte less than would fit, so that the length says which form it is. */
const WHOLE_MAX = FORM_MAX - HASH_SIZE - 1;

/** The form of ciphertext [from, to) with this hash. */
export function noKeyName(hash: number, minor: number, bytes: Uint8Array, from: number, to: number): string {
  const isWhole = to - from <= WHOLE_MAX;
  const form = new Uint8Array(isWhole ? HASH_SIZE + to - from : FORM_MAX);
  putWord(form, 0, hash);
  putWord(form, 4, minor);
  form.set(bytes.subarray(from, isWhole ? to : from + HEAD_MAX), HASH_SIZE);
  if (!isWhole) putDigest(form, HASH_SIZE + HEAD_MAX, bytes, from, to);
  return `_${encode(form)}`;
}

/** A name of that form, taken apart. */
export interface NoKeyName {
  readonly hash: number;
  readonly minor: number;
  /** Is it the form of ciphertext [from, to)? */
  matches(bytes: Uint8Array, from: number, to: number): boolean;
}

/** undefined for every other name. */
export function parseNoKeyName(name: string): NoKeyName | undefined {
  if (name[0] !== '_') return undefined;
  const form = decode(name.slice(1));
  if (form === undefined || form.length <= HASH_SIZE || form.length > FORM_MAX) return undefined;
  const hash = word(form, 0);
  const minor = word(form, 4);
  return {
    hash,
    minor,
    matches(bytes, from, to) {
      return name === noKeyName(hash, minor, bytes, from, to);
    },
  };
}

function putDigest(form: Uint8Array, at: number, bytes: Uint8Array, from: number, to: number): void {
  [DX_HASH_HALF_MD4, DX_HASH_TEA].forEach((version, i) => {
    const hasher = new NameHasher(version, [0, 0, 0, 0], true);
    putWord(form, at + i * 8, hasher.hash(bytes, from, to));
    putWord(form, at + i * 8 + 4, hasher.minor);
  });
}

function putWord(form: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) form[at + i] = value >>> (8 * i);
}

function word(form: Uint8Array, at: number): number {
  return (
    ((form[at] as number) | ((form[at + 1] as number) << 8) | ((form[at + 2] as number) << 16) | ((form[at + 3] as number) << 24)) >>> 0
  );
}

function encode(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xffff;
    for (bits += 8; bits >= 6; bits -= 6) text += DIGITS[(value >>> (bits - 6)) & 63];
  }
  return bits > 0 ? text + DIGITS[(value << (6 - bits)) & 63] : text;
}

function decode(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(Math.floor((text.length * 6) / 8));
  let at = 0;
  let bits = 0;
  let value = 0;
  for (const character of text) {
    const digit = DIGITS.indexOf(character);
    if (digit < 0) return undefined;
    value = ((value << 6) | digit) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = value >>> bits;
    }
  }
  return bytes;
}
