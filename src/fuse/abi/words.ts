// 64-bit words as plain numbers, without a bigint on the way. Little-endian.

/** Bit 63 of a unique, in its upper half: the kernel sends a copy of a request that it has sent before. */
const FUSE_UNIQUE_RESEND_HIGH = 0x80000000;
/** Bit 0 of a unique: the kernel interrupts the request of the number without it. */
export const FUSE_INT_REQ_BIT = 1;
/** Upper half of 2^53 - 1. */
const HIGH_MAX = 0x1fffff;

/** The number of a request without its resend bit; -1 if no counter that started at 0 comes there. */
export function uniqueAt(data: DataView, at: number): number {
  const high = data.getUint32(at + 4, true) & 0x7fffffff;
  return high > HIGH_MAX ? -1 : high * 2 ** 32 + data.getUint32(at, true);
}

export function isResendAt(data: DataView, at: number): boolean {
  return data.getUint32(at + 4, true) >= FUSE_UNIQUE_RESEND_HIGH;
}

export function putUnique(data: DataView, at: number, unique: number, isResend: boolean): void {
  data.setUint32(at, unique % 2 ** 32, true);
  data.setUint32(at + 4, Math.floor(unique / 2 ** 32) + (isResend ? FUSE_UNIQUE_RESEND_HIGH : 0), true);
}

/** A u64 that is compared with numbers of our own: past 2^53 it is rounded, and equals none of them. */
export function roundedU64At(data: DataView, at: number): number {
  return data.getUint32(at + 4, true) * 2 ** 32 + data.getUint32(at, true);
}

/** Last byte of a lock that has no end. */
const OFFSET_MAX = 0x7fff_ffff_ffff_ffffn;

/** First or last byte of a fuse_file_lock; Infinity past 2^53 - 2, where no file goes on. */
export function lockOffset(word: bigint): number {
  return word >= BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(word);
}

/** The other way. */
export function lockWord(offset: number): bigint {
  return offset >= Number.MAX_SAFE_INTEGER ? OFFSET_MAX : BigInt(offset);
}

/** A length of copy_file_range, which may say "all": at most 2^53 - 1. */
export function clampedLength(word: bigint): number {
  return word > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(word);
}
