import { type MaybePromise, then } from '../../src/base/task.ts';
import type { Inode } from '../../src/vfs/inode.ts';

/**
 * What a recipe does to a file, step by step: locks, flushes and drops by what the recipe calls, hooks by what the test notes.
 *
 * Shape:   one line for each step that began; ranges in bytes. Locks are named by the inode number.
 */
export class StepLog {
  readonly steps: string[] = [];

  note(step: string): void {
    this.steps.push(step);
  }

  /** The steps since the last call. */
  take(): string[] {
    return this.steps.splice(0);
  }

  /** Watches what is called on an inode, its locks and its mapping. */
  watch(inode: Inode): void {
    const { mapping, ino } = inode;
    this.#wrap(inode.lock, 'lock', () => `lock ${ino}`);
    this.#wrap(inode, 'dioWait', () => `dioWait ${ino}`);
    this.#wrap(mapping.invalidateLock, 'lock', () => `invalidateLock ${ino}`);
    this.#wrap(mapping, 'writeAndWait', (start, end) => `write ${ino} ${start} ${end}`);
    this.#wrap(mapping, 'truncateRange', (start, end) => `drop ${ino} ${start} ${end}`);
    this.#wrap(mapping, 'invalidateRange', (start, end) => `invalidate ${ino} ${start} ${end}`);
    let { size } = inode;
    Object.defineProperty(inode, 'size', {
      get: () => size,
      set: (value: number) => {
        size = value;
        this.note(`size ${ino} ${value}`);
      },
    });
  }

  #wrap<K extends string>(
    object: Record<K, (...args: never[]) => MaybePromise<void>>,
    name: K,
    describe: (...args: unknown[]) => string,
  ): void {
    const inner = object[name].bind(object) as (...args: unknown[]) => MaybePromise<void>;
    object[name] = (...args: unknown[]) => {
      this.note(describe(...args));
      return then(inner(...args), () => undefined);
    };
  }
}
