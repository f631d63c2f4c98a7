/** Host positions below it stand for themselves; above it they are places in the table. */
const FIRST_MAPPED = 2 ** 52;

/**
 * Positions in one directory of the host as numbers: filesystems that list by hash (ext4) use 63 bits for them.
 *
 * The table belongs to the directory, not to an open file: the kernel lists from a cache that one reader began and another goes on with.
 */
export class Cookies {
  #numbers: Map<bigint, number> | undefined = undefined;
  readonly #positions: bigint[] = [];

  /** The number of a position. */
  of(position: bigint): number {
    if (position > 0n && position < BigInt(FIRST_MAPPED)) return Number(position);
    this.#numbers ??= new Map();
    const known = this.#numbers.get(position);
    if (known !== undefined) return known;
    const number = FIRST_MAPPED + this.#positions.length;
    this.#positions.push(position);
    this.#numbers.set(position, number);
    return number;
  }

  /** The position of a number, or undefined for one that was never given. */
  positionOf(number: number): bigint | undefined {
    return number < FIRST_MAPPED ? BigInt(number) : this.#positions[number - FIRST_MAPPED];
  }
}
