import { isPromise, type MaybePromise, run, type Task } from '../base/task.ts';
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
  const { freezeWrite } = inodes[0].sb;
  const ordered = inodes.length === 1 ? inodes : [...new Set(inodes)].sort((a, b) => a.ino - b.ino);
  const frozen = freezeWrite.lockShared();
  if (isPromise(frozen)) yield frozen;
  // How many are held: they are let go of from the last on.
  let inodeLocks = 0;
  let invalidateLocks = 0;
  try {
    for (const { lock } of ordered) {
      const held = lock.lock();
      if (isPromise(held)) yield held;
      inodeLocks++;
    }
    for (const inode of ordered) {
      const idle = inode.dioWait();
      if (isPromise(idle)) yield idle;
    }
    for (const { mapping } of ordered) {
      const held = mapping.invalidateLock.lock();
      if (isPromise(held)) yield held;
      invalidateLocks++;
    }
    for (const inode of ordered) inode.checkGood(syscall);
    return yield* body();
  } finally {
    while (invalidateLocks > 0) (ordered[--invalidateLocks] as Inode).mapping.invalidateLock.unlock();
    while (inodeLocks > 0) (ordered[--inodeLocks] as Inode).lock.unlock();
    freezeWrite.unlockShared();
  }
}
