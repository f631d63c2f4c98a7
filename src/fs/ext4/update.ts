import { FsError, hasCode } from '../../base/fs-error.ts';
import { isPromise, type Task, wait } from '../../base/task.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Ext4Sb } from './ext4-sb.ts';

/** Blocks that an operation on names, attributes or one run of data may touch; the log makes room for as many. */
export const CREDITS = 96;

/**
 * Runs a change of metadata in a handle: all of it or, by an error, nothing. What is freed and not yet durable is waited for where only that
 * keeps an allocation from succeeding.
 *
 * Errors: EROFS; those of `body`. Wrong bytes that it met are noted on the volume.
 */
export function* update<T>(sb: Ext4Sb, syscall: string, credits: number, body: (h: Handle) => Task<T>): Task<T> {
  for (let attempt = 0; ; attempt++) {
    sb.checkWritable(syscall);
    const h = yield* wait(sb.log.start(Math.min(credits, sb.log.creditsMax)));
    let isWhole = false;
    try {
      const answer = yield* body(h);
      isWhole = true;
      const stopped = h.stop();
      if (isPromise(stopped)) yield stopped;
      return answer;
    } catch (error) {
      if (isWhole) throw error; // of the commit that was asked for
      h.rollback();
      isWhole = true;
      if (attempt === 0 && hasCode(error, 'ENOSPC') && sb.allocator.leaving > 0) {
        yield* wait(sb.log.commit());
        continue;
      }
      if (error instanceof FsError && (error.code === 'EUCLEAN' || error.code === 'EBADMSG' || error.code === 'EIO')) sb.failed(error);
      throw error;
    } finally {
      // Given up in the middle, by somebody who will not wait.
      if (!isWhole) h.rollback();
    }
  }
}

/** Reads metadata: no change is half done meanwhile. */
export function* look<T>(sb: Ext4Sb, body: () => Task<T>): Task<T> {
  const { lock } = sb.log;
  const locked = lock.lockShared();
  if (isPromise(locked)) yield locked;
  try {
    return yield* body();
  } finally {
    lock.unlockShared();
  }
}

/**
 * Runs a task for a caller who will not wait: gives it up where it would have to.
 *
 * Errors: EAGAIN; nothing has changed then. `lock` is asked first: a wait for it cannot be given up.
 */
export function atOnce<T>(sb: Ext4Sb, syscall: string, task: Task<T>): T {
  if (!sb.log.lock.isLocked) {
    const step = task.next();
    if (step.done === true) return step.value;
    step.value.then(
      () => {},
      () => {},
    );
    task.return(undefined as T);
  }
  throw new FsError('EAGAIN', syscall);
}
