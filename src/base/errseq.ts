// A 32-bit record of the last error of a mapping or superblock and of who has seen it. Source: Linux lib/errseq.c.
//   bits 0..11 errno, bit 12 SEEN, bits 13..31 counter
const ERRNO_MASK = 0xfff;
const SEEN = 0x1000;
const COUNTER_STEP = 0x2000;

/** What an opener holds: the value it has reported up to. */
export type Errseq = number;

/**
 * Errors that happen after the answer (writeback), each reported once to every opener.
 *
 * Invariant: the counter moves only when an error arrives after somebody looked, so errors between two looks cost one step.
 */
export class ErrseqRecord {
  #value: Errseq = 0;

  /** Records `errno` (negative). */
  set(errno: number): void {
    const number = -errno & ERRNO_MASK;
    if (number === 0) return;
    let value = (this.#value & ~(ERRNO_MASK | SEEN)) | number;
    if ((this.#value & SEEN) !== 0) value += COUNTER_STEP;
    this.#value = value >>> 0;
  }

  /** The value a new opener starts from: 0 while an error is unseen, so that the opener reports it. */
  sample(): Errseq {
    return (this.#value & SEEN) === 0 ? 0 : this.#value;
  }

  /** 0, or the negative errno recorded since `since`; does not mark it seen. */
  check(since: Errseq): number {
    return this.#value === since ? 0 : -(this.#value & ERRNO_MASK);
  }

  /** Reports to one opener: the negative errno (0 for none) and the value to keep as its new `since`. */
  checkAndAdvance(since: Errseq): { errno: number; since: Errseq } {
    if (this.#value === since) return { errno: 0, since };
    this.#value = (this.#value | SEEN) >>> 0;
    return { errno: -(this.#value & ERRNO_MASK), since: this.#value };
  }
}
