import { type AbortSignalLike, checkAborted, interrupted, onAbort } from '../base/abort.ts';
import { FsError } from '../base/fs-error.ts';
import { checkPosition } from '../base/ranges.ts';
import { type Deferred, deferred, type MaybePromise } from '../base/task.ts';
import type { FileLock, LockRequest } from './attr.ts';
import type { Caller } from './caller.ts';
import type { NodeId } from './file-system.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_END } from './uapi.ts';

// Advisory locks, as fcntl(2) and flock(2) tell. Each file has two spaces that know nothing of each other: byte ranges, and flock, whose
// locks are ranges too, always the whole. Source: fcntl(2), "Advisory record locking", "Open file description locks"; flock(2).
//
// 1. The locks of one owner in one space are sorted, do not overlap, and neighbours that touch are of different types.
// 2. Locks of different owners overlap only if both are for reading.
// 3. A request waits only while its `blocker` holds a lock that conflicts with it. So only what the blocker gives up can let it go on.
// 4. A request that waits keeps nobody else out: who finds no lock in its way has its lock at once. Those that wait are served in the order
//    in which they came, by the one who gives up a lock, before anybody else can ask.
// 5. A space has an entry for an owner only if he holds a lock, the table one for a file only if there are locks.

/** Locks and waiting requests of one file in one space. */
export const LOCKS_MAX = 100_000;

/** The advisory locks of all files of a filesystem. */
export class LockTable {
  readonly #ranges = new Map<NodeId, LockSpace>();
  readonly #flocks = new Map<NodeId, LockSpace>();
  /** What processes wait for, over all files: edges of the graph in which deadlocks are cycles. */
  readonly #waiting: WaitGraph = new Map();

  /** The byte-range lock that keeps `lock` from being set: of several, that of the earliest owner. Errors: EINVAL, EOVERFLOW. */
  get(node: NodeId, lock: FileLock): FileLock | undefined {
    checkLock(lock, 'fcntl');
    if (lock.type === F_UNLCK) throw new FsError('EINVAL', 'fcntl');
    const found = this.#ranges.get(node)?.conflict(lock);
    return found?.ofd === true ? { ...found, pid: -1 } : found;
  }

  /**
   * Sets, changes or takes back a lock.
   *
   * Blocks:  with `request.wait`, until nobody's lock is in the way.
   * Errors:  EINVAL for a type or range that is none, EOVERFLOW past 2^53 - 1; EAGAIN where it may not wait; EDEADLK where a process would
   *          wait for itself; EINTR when the caller's signal fires; ENOLCK past LOCKS_MAX. Nothing has changed then, but with flock the old
   *          lock is gone when the new one is not to be had, as in Linux: except for `caller.nowait`, which never changes anything.
   */
  set(node: NodeId, lock: FileLock, request: LockRequest, caller: Caller): MaybePromise<void> {
    const spaces = request.flock ? this.#flocks : this.#ranges;
    let space = spaces.get(node);
    const wanted: FileLock = request.flock ? { ...lock, start: 0, end: LOCK_END } : lock;
    checkLock(wanted, request.flock ? 'flock' : 'fcntl');
    if (space === undefined) {
      if (lock.type === F_UNLCK) return;
      spaces.set(node, (space = new LockSpace(request.flock, this.#waiting)));
    }
    try {
      return space.set(wanted, request.wait, caller);
    } finally {
      if (space.isEmpty) spaces.delete(node);
    }
  }

  /** Takes the byte-range locks of an owner back. Requests of an open file that still wait end with EBADF; those of a process go on. */
  releaseOwner(node: NodeId, owner: number): void {
    this.#release(this.#ranges, node, owner);
  }

  /** Takes the flock of an open file back, when its last descriptor is closed. Requests of it that still wait end with EBADF. */
  releaseFlock(node: NodeId, owner: number): void {
    this.#release(this.#flocks, node, owner);
  }

  /** Does anybody hold a lock of either kind? */
  hasLocks(node: NodeId): boolean {
    return this.#ranges.has(node) || this.#flocks.has(node);
  }

  #release(spaces: Map<NodeId, LockSpace>, node: NodeId, owner: number): void {
    const space = spaces.get(node);
    space?.release(owner);
    if (space?.isEmpty === true) spaces.delete(node);
  }
}

/** Waiting requests of processes, by owner. */
type WaitGraph = Map<number, Set<Waiter>>;

interface Waiter extends Deferred<void> {
  readonly space: LockSpace;
  readonly lock: FileLock;
  readonly signal: AbortSignalLike | undefined;
  /** Owner of a lock that is in the way. */
  blocker: number;
  stopListening: () => void;
}

/** The locks of one file that know of each other. */
class LockSpace {
  readonly #isFlock: boolean;
  readonly #waiting: WaitGraph;
  readonly #locks = new Map<number, FileLock[]>();
  /** In the order in which they came. */
  readonly #waiters = new Set<Waiter>();
  /** Locks of all owners. */
  #count = 0;

  constructor(isFlock: boolean, waiting: WaitGraph) {
    this.#isFlock = isFlock;
    this.#waiting = waiting;
  }

  get isEmpty(): boolean {
    return this.#locks.size === 0; // and nobody waits where nobody holds
  }

  /** The first lock of another owner that conflicts with `lock`. */
  conflict(lock: FileLock): FileLock | undefined {
    for (const [owner, locks] of this.#locks) {
      const found = owner === lock.owner ? undefined : conflictIn(locks, lock);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  set(lock: FileLock, mayWait: boolean, caller: Caller): MaybePromise<void> {
    if (lock.type === F_UNLCK) {
      if (this.#put(lock)) this.#wake(lock.owner);
      return;
    }
    const found = this.conflict(lock);
    if (found !== undefined && caller.nowait === true) throw this.#error('EAGAIN');

    let changed = false;
    if (this.#isFlock) {
      const held = this.#locks.get(lock.owner)?.[0];
      if (held?.type === lock.type) return;
      // A conversion gives up the old lock before it looks for the new one, which may be lost to those who wait.
      changed = held !== undefined && this.#put({ ...lock, type: F_UNLCK });
    }
    try {
      if (found !== undefined) return this.#waitFor(lock, found.owner, mayWait, caller.signal);
      changed = this.#put(lock) || changed;
    } finally {
      if (changed) this.#wake(lock.owner);
    }
  }

  release(owner: number): void {
    for (const waiter of this.#waiters) {
      if (waiter.lock.owner !== owner || !(this.#isFlock || waiter.lock.ofd === true)) continue;
      this.#end(waiter);
      waiter.reject(this.#error('EBADF'));
    }
    const locks = this.#locks.get(owner);
    if (locks === undefined) return;
    this.#locks.delete(owner);
    this.#count -= locks.length;
    this.#wake(owner);
  }

  #error(code: 'EAGAIN' | 'EBADF' | 'EDEADLK' | 'ENOLCK'): FsError {
    return new FsError(code, this.#isFlock ? 'flock' : 'fcntl');
  }

  /** Puts `lock` in place of what its owner holds there. Shape: did he give up anything that may have been in somebody's way? */
  #put(lock: FileLock): boolean {
    const locks = this.#locks.get(lock.owner) ?? [];
    const isUnlock = lock.type === F_UNLCK;
    let { start, end } = lock;

    let from = firstEndingAt(locks, start);
    let to = from;
    let weakened = false;
    for (let held = locks[to]; held !== undefined && held.start <= end; held = locks[++to]) {
      weakened ||= isUnlock || (held.type === F_WRLCK && lock.type === F_RDLCK);
    }

    // What sticks out at both ends stays, and grows together with the new lock if it is of its type; so do neighbours that touch it.
    const first = locks[from];
    const last = locks[to - 1];
    let head = to > from && first !== undefined && first.start < start ? { ...first, end: start - 1 } : undefined;
    let tail = to > from && last !== undefined && last.end > end ? { ...last, start: end + 1 } : undefined;
    const before = locks[from - 1];
    const after = locks[to];
    if (head?.type === lock.type) {
      start = head.start;
      head = undefined;
    } else if (head === undefined && before?.type === lock.type && before.end + 1 === start) {
      start = before.start;
      from--;
    }
    if (tail?.type === lock.type) {
      end = tail.end;
      tail = undefined;
    } else if (tail === undefined && after?.type === lock.type && after.start === end + 1) {
      end = after.end;
      to++;
    }
    const pieces = [head, isUnlock ? undefined : { ...lock, start, end }, tail].filter((piece) => piece !== undefined);

    const grown = pieces.length - (to - from);
    if (this.#count + this.#waiters.size + grown > LOCKS_MAX) throw this.#error('ENOLCK');
    locks.splice(from, to - from, ...pieces);
    this.#count += grown;
    if (locks.length === 0) this.#locks.delete(lock.owner);
    else this.#locks.set(lock.owner, locks);
    return weakened;
  }

  #waitFor(lock: FileLock, blocker: number, mayWait: boolean, signal: AbortSignalLike | undefined): Promise<void> {
    if (!mayWait) throw this.#error('EAGAIN');
    checkAborted(signal, this.#isFlock ? 'flock' : 'fcntl');
    if (this.#wouldDeadlock(lock)) throw this.#error('EDEADLK');
    if (this.#count + this.#waiters.size >= LOCKS_MAX) throw this.#error('ENOLCK');

    const waiter: Waiter = { ...deferred(), space: this, lock, signal, blocker, stopListening: () => {} };
    this.#waiters.add(waiter);
    if (this.#isKnownToWait(lock)) {
      const ofOwner = this.#waiting.get(lock.owner);
      if (ofOwner === undefined) this.#waiting.set(lock.owner, new Set([waiter]));
      else ofOwner.add(waiter);
    }
    waiter.stopListening = onAbort(signal, () => this.#interrupt(waiter));
    return waiter.promise;
  }

  #interrupt(waiter: Waiter): void {
    if (!this.#waiters.has(waiter)) return;
    this.#end(waiter);
    waiter.reject(interrupted(waiter.signal as AbortSignalLike, this.#isFlock ? 'flock' : 'fcntl'));
  }

  /** The waiter is no longer one. Its promise is the business of who says so. */
  #end(waiter: Waiter): void {
    waiter.stopListening();
    this.#waiters.delete(waiter);
    const ofOwner = this.#waiting.get(waiter.lock.owner);
    if (ofOwner?.delete(waiter) === true && ofOwner.size === 0) this.#waiting.delete(waiter.lock.owner);
  }

  /** Serves those whom `owner` kept waiting. Who gets his lock may give up another by that, and so serve others. */
  #wake(owner: number): void {
    const owners = new Set([owner]);
    for (let again = true; again; ) {
      again = false;
      for (const waiter of this.#waiters) {
        if (!owners.has(waiter.blocker) || !this.#retry(waiter)) continue;
        owners.add(waiter.lock.owner);
        again = true; // for those that came earlier
      }
    }
  }

  /** Shape: did the waiter get its lock and give up another by that? */
  #retry(waiter: Waiter): boolean {
    if (waiter.signal?.aborted === true) {
      this.#interrupt(waiter); // by a signal that nobody can listen to
      return false;
    }
    const found = this.conflict(waiter.lock);
    if (found !== undefined) {
      waiter.blocker = found.owner;
      // While it waited, somebody who waits for it may have got one of the locks that it waits for, in another of his threads.
      if (!this.#wouldDeadlock(waiter.lock)) return false;
      this.#end(waiter);
      waiter.reject(this.#error('EDEADLK'));
      return false;
    }
    this.#end(waiter);
    try {
      const weakened = this.#put(waiter.lock);
      waiter.resolve();
      return weakened;
    } catch (error) {
      waiter.reject(error);
      return false;
    }
  }

  #isKnownToWait(lock: FileLock): boolean {
    return !this.#isFlock && lock.ofd !== true;
  }

  /** Does one of those who are in the way of `lock` wait for its owner, himself or through others? */
  #wouldDeadlock(lock: FileLock): boolean {
    if (!this.#isKnownToWait(lock)) return false;
    const reached = new Set<number>();
    this.#addBlockers(lock, reached);
    for (const owner of reached) {
      if (owner === lock.owner) return true;
      for (const waiter of this.#waiting.get(owner) ?? []) waiter.space.#addBlockers(waiter.lock, reached);
    }
    return false;
  }

  /** Adds the owners of all locks that conflict with `lock`. */
  #addBlockers(lock: FileLock, owners: Set<number>): void {
    for (const [owner, locks] of this.#locks) {
      if (owner !== lock.owner && !owners.has(owner) && conflictIn(locks, lock) !== undefined) owners.add(owner);
    }
  }
}

/** Index of the first of sorted locks whose end is at `pos` or behind it. */
function firstEndingAt(locks: readonly FileLock[], pos: number): number {
  let low = 0;
  let high = locks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((locks[middle] as FileLock).end < pos) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first of one owner's locks that keeps another owner's `lock` out. */
function conflictIn(locks: readonly FileLock[], lock: FileLock): FileLock | undefined {
  for (let i = firstEndingAt(locks, lock.start); i < locks.length; i++) {
    const held = locks[i] as FileLock;
    if (held.start > lock.end) return undefined;
    if (held.type === F_WRLCK || lock.type === F_WRLCK) return held;
  }
  return undefined;
}

function checkLock(lock: FileLock, syscall: string): void {
  const { type, start, end } = lock;
  if (type !== F_RDLCK && type !== F_WRLCK && type !== F_UNLCK) throw new FsError('EINVAL', syscall);
  checkPosition(syscall, start);
  if (end !== LOCK_END) checkPosition(syscall, end);
  if (end < start) throw new FsError('EINVAL', syscall);
}
