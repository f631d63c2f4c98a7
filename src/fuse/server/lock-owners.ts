import { assert } from '../../base/assert.ts';

/** Whoever holds no lock: none of those that LockOwners gives. */
export const NO_OWNER = 0;

/** An owner of locks, and the open files through which he has asked for one and that are not done with him. */
interface Owner {
  readonly number: number;
  readonly files: Set<number>;
  /** Requests of his that wait. */
  waiting: number;
}

/**
 * Who has asked for locks, through which open files. The wire names owners by opaque 64-bit words: processes by FLUSH, where all of their
 * locks on the file end; open files, whose locks end with them, by nothing.
 *
 * Invariants:
 * 1. An owner is known as long as a file has him or a request of his waits; what a filesystem knows of him is gone by then, since it was told to unlock.
 * 2. FLUSH drops the process that closes, so that a RELEASE, which comes any time later, unlocks nothing that it has locked since.
 */
export class LockOwners {
  readonly #owners = new Map<bigint, Owner>();
  readonly #words = new Map<number, Set<bigint>>();
  #last = NO_OWNER;

  /** Owners that are known. */
  get size(): number {
    return this.#owners.size;
  }

  /** Number of an owner who asks for a lock through an open file. */
  note(fh: number, word: bigint): number {
    let owner = this.#owners.get(word);
    if (owner === undefined) this.#owners.set(word, (owner = { number: ++this.#last, files: new Set(), waiting: 0 }));
    owner.files.add(fh);
    const words = this.#words.get(fh);
    if (words === undefined) this.#words.set(fh, new Set([word]));
    else words.add(word);
    return owner.number;
  }

  /** A request waits for its lock: meanwhile its owner stays who he is, and afterwards the open file has him, whatever was closed. */
  hold(fh: number, word: bigint, request: Promise<unknown>): void {
    const owner = this.#owners.get(word);
    assert(owner !== undefined, 'who waits was noted');
    owner.waiting++;
    const end = (): void => {
      owner.waiting--;
      this.note(fh, word);
    };
    request.then(end, end);
  }

  /** Number of an owner; NO_OWNER if he never asked. */
  find(word: bigint): number {
    return this.#owners.get(word)?.number ?? NO_OWNER;
  }

  /** The owner has nothing to do with the open file any more. */
  drop(fh: number, word: bigint): void {
    const words = this.#words.get(fh);
    if (words?.delete(word) === true && words.size === 0) this.#words.delete(fh);
    const owner = this.#owners.get(word);
    if (owner?.files.delete(fh) === true && owner.files.size === 0 && owner.waiting === 0) this.#owners.delete(word);
  }

  /** The open file ends. Shape: the owners whom it still had. */
  take(fh: number): number[] {
    const words = [...(this.#words.get(fh) ?? [])];
    const numbers = words.map((word) => this.find(word));
    for (const word of words) this.drop(fh, word);
    return numbers;
  }
}
