// UTF-8 by hand, since TextDecoder is not part of the language; replaces what is malformed exactly as it does.
// Source: WHATWG Encoding, "UTF-8 decoder" and "UTF-8 encoder".

/** Text of bytes [from, to). Malformed sequences become U+FFFD, so text of foreign bytes may not turn back into the same bytes. */
export function decodeUtf8(bytes: Uint8Array, from = 0, to: number = bytes.length): string {
  let text = '';
  let at = from;
  while (at < to) {
    const first = bytes[at++] as number;
    if (first < 0x80) {
      text += String.fromCharCode(first);
      continue;
    }
    let more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
    if (more === 0) {
      text += '\ufffd';
      continue;
    }
    // The second byte's range keeps out overlong forms, surrogates and what lies past U+10FFFF.
    let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    let point = first & (0x3f >> more);
    for (; more > 0 && at < to; more--) {
      const byte = bytes[at] as number;
      if (byte < low || byte > high) break;
      point = (point << 6) | (byte & 0x3f);
      low = 0x80;
      high = 0xbf;
      at++;
    }
    text += more === 0 ? String.fromCodePoint(point) : '\ufffd';
  }
  return text;
}

/** UTF-8 bytes of a text. Lone surrogates become U+FFFD. */
export function encodeUtf8(text: string): Uint8Array {
  const out = new Uint8Array(text.length * 3);
  let at = 0;
  for (const character of text) {
    let point = character.codePointAt(0) as number;
    if (point >= 0xd800 && point <= 0xdfff) point = 0xfffd;
    if (point < 0x80) {
      out[at++] = point;
    } else if (point < 0x800) {
      out[at++] = 0xc0 | (point >> 6);
      out[at++] = 0x80 | (point & 0x3f);
    } else if (point < 0x10000) {
      out[at++] = 0xe0 | (point >> 12);
      out[at++] = 0x80 | ((point >> 6) & 0x3f);
      out[at++] = 0x80 | (point & 0x3f);
    } else {
      out[at++] = 0xf0 | (point >> 18);
      out[at++] = 0x80 | ((point >> 12) & 0x3f);
      out[at++] = 0x80 | ((point >> 6) & 0x3f);
      out[at++] = 0x80 | (point & 0x3f);
    }
  }
  return out.slice(0, at);
}
