// Cyclic redundancy checks as on-disk formats use them: the running value goes in and comes out as it is, without a final inversion.

/** crc32c (Castagnoli, reflected polynomial 0x82F63B78) of bytes [start, end), going on from `crc`: ~0 >>> 0 at the beginning of most formats. */
export function crc32c(crc: number, bytes: Uint8Array, start = 0, end: number = bytes.length): number {
  let value = crc | 0;
  let at = start;
  // Eight bytes at a time: one table for each distance from the end of the eight.
  for (const stop = end - 7; at < stop; at += 8) {
    const low =
      value ^
      ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24));
    value =
      (T32C[0x700 | (low & 0xff)] as number) ^
      (T32C[0x600 | ((low >>> 8) & 0xff)] as number) ^
      (T32C[0x500 | ((low >>> 16) & 0xff)] as number) ^
      (T32C[0x400 | (low >>> 24)] as number) ^
      (T32C[0x300 | (bytes[at + 4] as number)] as number) ^
      (T32C[0x200 | (bytes[at + 5] as number)] as number) ^
      (T32C[0x100 | (bytes[at + 6] as number)] as number) ^
      (T32C[bytes[at + 7] as number] as number);
  }
  for (; at < end; at++) value = (T32C[(value ^ (bytes[at] as number)) & 0xff] as number) ^ (value >>> 8);
  return value >>> 0;
}

/** crc32c of the four bytes of a little-endian word. */
export function crc32cWord(crc: number, word: number): number {
  let value = (crc ^ word) | 0;
  for (let i = 0; i < 4; i++) value = (T32C[value & 0xff] as number) ^ (value >>> 8);
  return value >>> 0;
}

/** crc16 (reflected polynomial 0xA001). */
export function crc16(crc: number, bytes: Uint8Array, start = 0, end: number = bytes.length): number {
  let value = crc & 0xffff;
  for (let at = start; at < end; at++) value = (T16[(value ^ (bytes[at] as number)) & 0xff] as number) ^ (value >>> 8);
  return value;
}

/** crc32 with its bits in the order of transmission (polynomial 0x04C11DB7, not reflected), as old journals have it. */
export function crc32be(crc: number, bytes: Uint8Array, start = 0, end: number = bytes.length): number {
  let value = crc | 0;
  for (let at = start; at < end; at++) value = (T32BE[(value >>> 24) ^ (bytes[at] as number)] as number) ^ (value << 8);
  return value >>> 0;
}

function reflected(polynomial: number, value: number): number {
  let crc = value;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ polynomial : crc >>> 1;
  return crc;
}

/** Entry 256 * n + b: what byte b does to the value when n more bytes follow. */
const T32C: Int32Array = ((): Int32Array => {
  const table = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) table[byte] = reflected(0x82f63b78, byte);
  for (let at = 256; at < table.length; at++) {
    const before = table[at - 256] as number;
    table[at] = (table[before & 0xff] as number) ^ (before >>> 8);
  }
  return table;
})();

const T32 = Int32Array.from({ length: 256 }, (_, byte) => reflected(0xedb88320, byte));

const T16 = Uint16Array.from({ length: 256 }, (_, byte) => reflected(0xa001, byte));

const T32BE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});

/** crc32 as in zip and GPT: reflected polynomial 0xEDB88320, inverted at both ends. */
export function crc32(bytes: Uint8Array): number {
  let value = -1;
  for (let at = 0; at < bytes.length; at++) value = (T32[(value ^ (bytes[at] as number)) & 0xff] as number) ^ (value >>> 8);
  return ~value >>> 0;
}
