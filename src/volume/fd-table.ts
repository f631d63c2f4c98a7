import { FsError } from '../base/fs-error.ts';
import type { FileDescription } from '../vfs/file-description.ts';

/** The first descriptor that is given out: programs expect 0 to 2 to be their standard streams. */
const FD_MIN = 3;

/** Descriptors of a volume: small numbers for its open files, the lowest free one first. */
export class FdTable {
  // Index fd - FD_MIN; holes are undefined. Invariant: everything below #free is taken.
  readonly #files: (FileDescription | undefined)[] = [];
  #free = 0;
  #count = 0;

  /** How many are open. */
  get size(): number {
    return this.#count;
  }

  /** Gives `file` a descriptor. */
  add(file: FileDescription): number {
    const index = this.#free;
    this.#files[index] = file;
    this.#count++;
    do this.#free++;
    while (this.#files[this.#free] !== undefined);
    return index + FD_MIN;
  }

  find(fd: number): FileDescription | undefined {
    return this.#files[fd - FD_MIN];
  }

  /** Errors: EBADF. */
  get(fd: number, syscall: string): FileDescription {
    const file = this.find(fd);
    if (file === undefined) throw new FsError('EBADF', syscall);
    return file;
  }

  /** Takes the descriptor back; the file is the caller's to close. Errors: EBADF. */
  remove(fd: number, syscall: string): FileDescription {
    const file = this.get(fd, syscall);
    const index = fd - FD_MIN;
    this.#files[index] = undefined;
    this.#count--;
    this.#free = Math.min(this.#free, index);
    return file;
  }

  /** Frees the descriptor if it is still that of `file`. */
  release(fd: number, file: FileDescription): void {
    if (this.#files[fd - FD_MIN] === file) this.remove(fd, 'close');
  }
}
