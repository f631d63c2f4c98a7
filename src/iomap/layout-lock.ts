import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import type { Inode } from '../vfs/inode.ts';

/**
 * Runs `body` with the files at rest: nobody writes to them, fills their cache, stores through a new fault or does direct I/O. What
 * changes the size of a file or where its blocks live runs inside.
 *
 * Locks:   in this order: freeze lock shared; inode locks exclusively, by inode number; then direct I/O that is in flight is waited for,
 *          since the inode lock keeps new ones out; invalidate locks exclusively, by inode number. The caller holds none of them.
 * Errors:  EIO for a bad inode; those of the body.
 */
export function withLayoutLocked<T>(syscall: string, inodes: readonly [Inode, ...Inode[]], body: () => Task<T>): MaybePromise<T> {
  return run(locked(syscall, inodes, body));
}

function* locked<T>(syscall: string, inodes: readonly [Inode, ...Inode[]], body: () => Task<T>): Task<T> {
  const { sb } = inodes[0];
  const ordered = [...new Set(inodes)].sort((a, b) => a.ino - b.ino);
  const unlocks: (() => void)[] = [];
  try {
    yield* wait(sb.freezeWrite.lockShared());
    unlocks.push(() => sb.freezeWrite.unlockShared());
    for (const inode of ordered) {
      yield* wait(inode.lock.lock());
      unlocks.push(() => inode.lock.unlock());
    }
    for (const inode of ordered) yield* wait(inode.dioWait());
    for (const { mapping } of ordered) {
      yield* wait(mapping.invalidateLock.lock());
      unlocks.push(() => mapping.invalidateLock.unlock());
    }
    for (const inode of ordered) inode.checkGood(syscall);
    return yield* body();
  } finally {
    for (const unlock of unlocks.reverse()) unlock();
  }
}
