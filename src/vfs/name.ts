import { decodeUtf8, encodeUtf8 } from '../layout/utf8.ts';

// Names are bytes on every face of the kernel, and text in JavaScript. Inside, a name is a string that keeps every byte: what is valid
// UTF-8 is the text, and each byte that is not stands as the lone surrogate U+DC00 + byte (U+DC80 to U+DCFF), which no text contains.
// Both directions are exact, so a name that somebody else wrote can be listed, opened and removed.

/** The name of bytes [from, to). */
export function nameOf(bytes: Uint8Array, from = 0, to: number = bytes.length): string {
  const text = decodeUtf8(bytes, from, to);
  return text.includes('\ufffd') ? escapeInvalid(bytes, from, to) : text;
}

/** The bytes of a name. Surrogates that stand for no byte become U+FFFD, as in any encoder. */
export function nameBytes(name: string): Uint8Array {
  return isEscaped(name) ? unescapeBytes(name) : encodeUtf8(name);
}

/** Bytes of a name, counted without making them. */
export function nameLength(name: string): number {
  let length = name.length;
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit >= 0xdc80 && unit <= 0xdcff) continue; // one byte
    if (unit < 0x800) length += 1;
    else if (unit >= 0xd800 && unit <= 0xdbff && (name.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      length += 2; // four bytes in two units
      i++;
    } else length += 2;
  }
  return length;
}

/** Text for people: bytes that are no UTF-8 show as U+FFFD, as in any decoder. */
export function nameText(name: string): string {
  return isEscaped(name) ? decodeUtf8(unescapeBytes(name)) : name;
}

/** A name from text that a caller gave: lone surrogates are no bytes of anybody, and become U+FFFD as in any encoder. */
export function nameOfText(text: string): string {
  return isEscaped(text) ? decodeUtf8(encodeUtf8(text)) : text;
}

/** Does it hold a surrogate without its partner? */
function isEscaped(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    if ((unit & 0xf800) !== 0xd800) continue;
    if (unit >= 0xdc00 || (name.charCodeAt(i + 1) & 0xfc00) !== 0xdc00) return true;
    i++;
  }
  return false;
}

/** Decodes piece by piece: what is malformed is taken byte by byte. */
function escapeInvalid(bytes: Uint8Array, from: number, to: number): string {
  let name = '';
  for (let at = from; at < to; ) {
    const length = sequenceLength(bytes, at, to);
    // The decoder knows what is overlong, a surrogate or too large; U+FFFD that was not written means that it refused.
    const text = decodeUtf8(bytes, at, at + length);
    if (length === 0 || (text.includes('\ufffd') && !isReplacement(bytes, at))) {
      name += String.fromCharCode(0xdc00 + (bytes[at] as number));
      at++;
    } else {
      name += text;
      at += length;
    }
  }
  return name;
}

/** Bytes of the sequence that starts at `at`, as its first byte says; 0 if it cannot start one or would not fit. */
function sequenceLength(bytes: Uint8Array, at: number, to: number): number {
  const first = bytes[at] as number;
  const length =
    first < 0x80 ? 1 : first >= 0xc2 && first <= 0xdf ? 2 : (first & 0xf0) === 0xe0 ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length === 0 || at + length > to) return 0;
  for (let i = 1; i < length; i++) if (((bytes[at + i] as number) & 0xc0) !== 0x80) return 0;
  return length;
}

/** Is it U+FFFD itself, written as such? */
function isReplacement(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0xef && bytes[at + 1] === 0xbf && bytes[at + 2] === 0xbd;
}

function unescapeBytes(name: string): Uint8Array {
  const out = new Uint8Array(nameLength(name));
  let at = 0;
  for (let i = 0; i < name.length; ) {
    const unit = name.charCodeAt(i);
    if (unit >= 0xdc80 && unit <= 0xdcff) {
      out[at++] = unit - 0xdc00;
      i++;
      continue;
    }
    const pair = (unit & 0xfc00) === 0xd800 && (name.charCodeAt(i + 1) & 0xfc00) === 0xdc00;
    const piece = encodeUtf8(name.slice(i, i + (pair ? 2 : 1)));
    out.set(piece, at);
    at += piece.length;
    i += pair ? 2 : 1;
  }
  return out;
}
