import { assert } from '../../src/base/assert.ts';
import type { Prng } from '../../src/base/prng.ts';

/**
 * The blocks of a device: free, or used by one or several files. A use that ended counts until it is durable that it ended: until then a
 * power cut brings it back, so that the block is neither handed out nor written in place.
 *
 * Invariants:
 * 1. A block is handed out only when it is free, and its uses end as often as they began (asserted).
 * 2. Reservations never pass the free blocks: turning one into blocks cannot fail for want of space.
 */
export class BlockAllocator {
  readonly #users: Int16Array; // by block: uses, those that ended included
  readonly #ended: Int16Array; // by block: uses that ended, and may come back
  readonly #prng: Prng;
  readonly #runMax: number;
  #free: number;
  #reserved = 0;

  /** Hands out runs of at most `runMax` blocks, from places drawn by seed. */
  constructor(blocks: number, prng: Prng, runMax: number) {
    this.#users = new Int16Array(blocks);
    this.#ended = new Int16Array(blocks);
    this.#prng = prng;
    this.#runMax = runMax;
    this.#free = blocks;
  }

  /** Blocks that can be promised. */
  get available(): number {
    return this.#free - this.#reserved;
  }

  get free(): number {
    return this.#free;
  }

  get reserved(): number {
    return this.#reserved;
  }

  reserve(count: number): boolean {
    if (count > this.available) return false;
    this.#reserved += count;
    return true;
  }

  unreserve(count: number): void {
    assert(count <= this.#reserved, 'more reservations released than made');
    this.#reserved -= count;
  }

  /** A run of at least one and at most `count` free blocks, used once. The caller has seen to it that one is there. */
  allocate(count: number): { addr: number; count: number } {
    assert(this.#free > 0, 'allocation from a full device');
    const users = this.#users;
    let addr = this.#prng.below(users.length);
    while (users[addr] !== 0) addr = (addr + 1) % users.length;
    const max = Math.min(count, this.#runMax);
    let taken = 0;
    for (; taken < max && users[addr + taken] === 0; taken++) users[addr + taken] = 1;
    this.#free -= taken;
    return { addr, count: taken };
  }

  /** Another file uses the blocks too. */
  share(addr: number, count: number): void {
    for (let block = addr; block < addr + count; block++) {
      assert(this.usersOf(block) > 0, `block ${block} is shared but nobody uses it`);
      this.#users[block] = (this.#users[block] as number) + 1;
    }
  }

  /** Must a write to the block go elsewhere? */
  isShared(block: number): boolean {
    return (this.#users[block] as number) > 1;
  }

  /** Uses that have not ended. */
  usersOf(block: number): number {
    return (this.#users[block] as number) - (this.#ended[block] as number);
  }

  /** One use of each of the blocks ends; every one of them is to be released when that is durable. */
  retire(addr: number, count: number): void {
    for (let block = addr; block < addr + count; block++) {
      assert(this.usersOf(block) > 0, `block ${block} is freed twice`);
      this.#ended[block] = (this.#ended[block] as number) + 1;
    }
  }

  /** One use of each of the blocks ends for good. Returns those that nobody uses any more: they are to be released. */
  drop(addr: number, count: number): number[] {
    this.retire(addr, count);
    const unused: number[] = [];
    for (let block = addr; block < addr + count; block++) {
      if (this.usersOf(block) === 0) unused.push(block);
      else this.release(block);
    }
    return unused;
  }

  /** A use that ended will not come back: with the last the block is free. */
  release(block: number): void {
    assert((this.#ended[block] as number) > 0, `block ${block} is released but no use of it ended`);
    this.#ended[block] = (this.#ended[block] as number) - 1;
    this.#users[block] = (this.#users[block] as number) - 1;
    if (this.#users[block] === 0) this.#free++;
  }

  /** Takes note of blocks that a file has from an earlier life of the filesystem. */
  claim(addr: number, count: number): void {
    for (let block = addr; block < addr + count; block++) {
      if (this.#users[block] === 0) this.#free--;
      this.#users[block] = (this.#users[block] as number) + 1;
    }
  }
}
