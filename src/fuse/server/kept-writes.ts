import type { MaybePromise } from '../../base/task.ts';
import { O_ACCMODE, O_RDONLY } from '../../vfs/uapi.ts';
import { FUSE_NOTIFY_INVAL_INODE } from '../abi/notify.ts';
import type { Outbox } from './notifications.ts';

/**
 * Files of which the kernel may keep what was written: those that somebody has open for writing, as closing hands it down.
 *
 * LSEEK is asked of the filesystem without that being handed down first, unlike all else that depends on it: data that only the kernel has
 * would be a hole to who copies the file, or behind its end. A notification that the pages are stale is what makes the kernel write them.
 */
export class KeptWrites {
  readonly #outbox: Outbox;
  readonly #writers = new Map<number, number>();
  #flushes = 0;

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  /** A file that the kernel has opened. `flags`: O_*, as the kernel has them. */
  opened(node: number, flags: number): void {
    if ((flags & O_ACCMODE) !== O_RDONLY) this.#writers.set(node, (this.#writers.get(node) ?? 0) + 1);
  }

  closed(node: number, flags: number): void {
    if ((flags & O_ACCMODE) === O_RDONLY) return;
    const left = (this.#writers.get(node) ?? 0) - 1;
    if (left > 0) this.#writers.set(node, left);
    else this.#writers.delete(node);
  }

  /**
   * Has the kernel hand down what it keeps of a file from `pos` on.
   *
   * Blocks: until it has; the answers to the writes that come with it must not wait for this.
   */
  flush(node: number, pos: number): MaybePromise<void> {
    // The asker holds the lock of the inode. What the kernel holds up may wait for that; only other flushes do not.
    if (!this.#writers.has(node) || this.#outbox.held > this.#flushes) return undefined;
    this.#flushes++;
    const taken = this.#outbox.give(FUSE_NOTIFY_INVAL_INODE, 0, true, (encoder) => encoder.invalInode(node, pos, 0));
    // An error is that the kernel knows nothing of the file: then it keeps nothing.
    return taken
      .catch(() => {})
      .finally(() => {
        this.#flushes--;
      });
  }
}
