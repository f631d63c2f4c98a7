import { FsError } from './fs-error.ts';

// Positions and lengths are plain numbers in bytes, ranges are half open: [start, end).
// No bit operators here: they cut at 32 bits.

/** The largest file size and position + 1: 2^53 - 1. */
export const POSITION_MAX = Number.MAX_SAFE_INTEGER;

export function roundDown(value: number, unit: number): number {
  return value - (value % unit);
}

export function roundUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + (unit - rest);
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}

/** The exponent of the largest power of two that is not above `value` (value >= 1). */
export function log2Floor(value: number): number {
  if (value < 2 ** 31) return 31 - Math.clz32(value);
  return 31 + log2Floor(Math.floor(value / 2 ** 31));
}

/**
 * Checks a position and a length that come from a caller.
 *
 * Errors:  EINVAL for a negative or fractional number or one that is none; EOVERFLOW for a position past 2^53 - 1;
 *          EFBIG where the end of the range would pass `sizeMax`.
 */
export function checkRange(syscall: string, pos: number, length: number, sizeMax: number = POSITION_MAX): void {
  checkPosition(syscall, pos);
  if (typeof length !== 'number' || !Number.isInteger(length) || length < 0)
    throw new FsError('EINVAL', syscall, { detail: `length ${length}` });
  if (length > sizeMax - pos) throw new FsError('EFBIG', syscall, { detail: `range ${pos}+${length} passes ${sizeMax}` });
}

/** Checks one position or size. Errors: EINVAL, EOVERFLOW as in checkRange. */
export function checkPosition(syscall: string, pos: number): void {
  if (typeof pos !== 'number' || !Number.isInteger(pos) || pos < 0) throw new FsError('EINVAL', syscall, { detail: `position ${pos}` });
  if (pos > POSITION_MAX) throw new FsError('EOVERFLOW', syscall, { detail: `position ${pos}` });
}

/** Checks where a file is to have bytes. Errors: EINVAL as in checkRange; EFBIG for a position past 2^53 - 1. */
export function checkFilePosition(syscall: string, pos: number): void {
  if (pos > POSITION_MAX) throw new FsError('EFBIG', syscall, { detail: `position ${pos}` });
  checkPosition(syscall, pos);
}

/** Turns a wire u64 into a size or position. Errors: EOVERFLOW past 2^53 - 1. */
export function fromU64(value: bigint, syscall: string): number {
  if (value > BigInt(POSITION_MAX)) throw new FsError('EOVERFLOW', syscall, { detail: `value ${value}` });
  return Number(value);
}
