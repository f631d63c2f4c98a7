import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { isPromise, type MaybePromise } from '../base/task.ts';
import type { FileLock } from './attr.ts';
import { type Caller, ROOT } from './caller.ts';
import { LOCKS_MAX, LockTable } from './file-locks.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_END } from './uapi.ts';

const NODE = 7;
const NOW = { flock: false, wait: false };
const WAIT = { flock: false, wait: true };
const FLOCK = { flock: true, wait: false };
const FLOCK_WAIT = { flock: true, wait: true };

/** A lock of bytes [start, end] for owner `owner`, who is the process of that number times 10. */
function lock(type: number, owner: number, start = 0, end = LOCK_END): FileLock {
  return { type, start, end, owner, pid: owner * 10 };
}

const read = (owner: number, start?: number, end?: number) => lock(F_RDLCK, owner, start, end);
const write = (owner: number, start?: number, end?: number) => lock(F_WRLCK, owner, start, end);
const unlock = (owner: number, start?: number, end?: number) => lock(F_UNLCK, owner, start, end);

function granted(result: MaybePromise<void>): void {
  assert.equal(result, undefined, 'the lock is there at once');
}

/** A table on one file, and what becomes of its requests. */
class Rig {
  readonly table = new LockTable();
  readonly log: string[] = [];

  now(lock: FileLock): void {
    granted(this.table.set(NODE, lock, NOW, ROOT));
  }

  flock(lock: FileLock): void {
    granted(this.table.set(NODE, lock, FLOCK, ROOT));
  }

  /** Asks, and logs `name` when it has the lock, `name: code` if it fails. */
  async wait(name: string, lock: FileLock, request = WAIT, caller: Caller = ROOT): Promise<void> {
    const pending = this.table.set(NODE, lock, request, caller);
    assert.ok(isPromise(pending), `${name} has to wait`);
    await pending.then(
      () => this.log.push(name),
      (error) => this.log.push(`${name}: ${error.code}`),
    );
  }

  /** What a stranger finds when he asks for byte `pos`: type and owner. */
  at(pos: number): string {
    const found = this.table.get(NODE, write(-1, pos, pos));
    return found === undefined ? '-' : `${found.type === F_WRLCK ? 'w' : 'r'}${found.owner}`;
  }

  /** Bytes 0 to 9 and the far end. */
  get map(): string {
    return [...Array(10).keys(), Number.MAX_SAFE_INTEGER].map((pos) => this.at(pos)).join(' ');
  }
}

/** After the promises that are settled now have told. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test('readers share, a writer is alone, and an owner is never in his own way', () => {
  const { table } = new Rig();
  granted(table.set(NODE, read(1, 0, 9), NOW, ROOT));
  granted(table.set(NODE, read(2, 5, 14), NOW, ROOT));
  assert.throws(() => table.set(NODE, write(1, 0, 9), NOW, ROOT), { code: 'EAGAIN', syscall: 'fcntl' });
  granted(table.set(NODE, write(1, 0, 4), NOW, ROOT));
  assert.throws(() => table.set(NODE, read(2, 4, 4), NOW, ROOT), { code: 'EAGAIN' });
  granted(table.set(NODE, write(2, 10, 20), NOW, ROOT));
  granted(table.set(NODE, read(2, 10, 20), NOW, ROOT));
  assert.deepEqual(table.get(NODE, read(3)), write(1, 0, 4));
  assert.deepEqual(table.get(NODE, write(1)), { ...read(2, 5, 20) });
  assert.equal(table.get(NODE, read(1, 5)), undefined);
  assert.equal(table.get(NODE + 1, write(3)), undefined);
});

test('ranges of one owner split, shrink, and grow together with neighbours of their type', () => {
  const rig = new Rig();
  rig.now(write(1, 0, 9));
  rig.now(read(1, 3, 5));
  assert.equal(rig.map, 'w1 w1 w1 r1 r1 r1 w1 w1 w1 w1 -');
  rig.now(unlock(1, 4, 7));
  assert.equal(rig.map, 'w1 w1 w1 r1 - - - - w1 w1 -');
  rig.now(write(1, 3, 7));
  assert.deepEqual(rig.table.get(NODE, read(2)), write(1, 0, 9), 'one lock again');
  rig.now(write(1, 10, LOCK_END));
  assert.deepEqual(rig.table.get(NODE, read(2)), write(1));
  rig.now(unlock(1, 5, 5));
  assert.deepEqual(rig.table.get(NODE, read(2, 5)), write(1, 6));
  rig.now(unlock(1));
  assert.equal(rig.table.hasLocks(NODE), false);
});

test('unlocking what is not locked is fine, also in a file without locks', () => {
  const rig = new Rig();
  rig.now(unlock(1, 5, 6));
  rig.flock(unlock(1));
  assert.equal(rig.table.hasLocks(NODE), false);
  rig.now(read(1, 0, 1));
  rig.now(unlock(1, 5, 6));
  rig.now(unlock(2));
  assert.equal(rig.map, 'r1 r1 - - - - - - - - -');
});

test('a range or type that is none is EINVAL, a position past 2^53 - 1 EOVERFLOW', () => {
  const { table } = new Rig();
  const bad = [
    read(1, -1, 5),
    read(1, 5, 4),
    read(1, 0.5, 4),
    read(1, 0, 4.5),
    read(1, Number.NaN, 4),
    read(1, 0, Number.NaN),
    read(1, LOCK_END),
  ];
  for (const each of [...bad, lock(3, 1), lock(-1, 1)]) {
    assert.throws(() => table.set(NODE, each, NOW, ROOT), { code: 'EINVAL' });
    assert.throws(() => table.get(NODE, each), { code: 'EINVAL' });
  }
  assert.throws(() => table.set(NODE, read(1, 2 ** 53, LOCK_END), NOW, ROOT), { code: 'EOVERFLOW' });
  assert.throws(() => table.set(NODE, unlock(1, 0, 2 ** 60), NOW, ROOT), { code: 'EOVERFLOW' });
  assert.throws(() => table.get(NODE, unlock(1)), { code: 'EINVAL' });
  assert.throws(() => table.set(NODE, lock(9, 1), FLOCK, ROOT), { code: 'EINVAL', syscall: 'flock' });
  granted(table.set(NODE, read(1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER), NOW, ROOT));
  granted(table.set(NODE, read(1, Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER - 1), NOW, ROOT));
  assert.deepEqual(table.get(NODE, write(2)), read(1, Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER));
  assert.equal(table.hasLocks(8), false);
});

test('the lock of an open file is told with pid -1', () => {
  const { table } = new Rig();
  granted(table.set(NODE, { ...write(1), ofd: true }, NOW, ROOT));
  assert.deepEqual(table.get(NODE, read(2)), { ...write(1), ofd: true, pid: -1 });
});

test('who waits gets his lock in the order of arrival, when all that was in the way is gone', async () => {
  const rig = new Rig();
  rig.now(read(1, 0, 4));
  rig.now(read(2, 5, 9));
  const all = [rig.wait('a', write(3, 0, 9)), rig.wait('b', write(4, 0, 0)), rig.wait('c', write(5, 6, 6)), rig.wait('d', write(6, 0, 0))];
  rig.now(unlock(1, 1, 4)); // not enough for anybody
  await settled();
  assert.deepEqual(rig.log, []);
  rig.now(unlock(2));
  await settled();
  assert.deepEqual(rig.log, ['c'], 'the first still waits for byte 0, and keeps nobody from what is free');
  rig.now(unlock(1));
  await settled();
  assert.deepEqual(rig.log, ['c', 'b']);
  rig.now(unlock(4));
  rig.now(unlock(5));
  await settled();
  assert.deepEqual(rig.log, ['c', 'b', 'd']);
  rig.now(unlock(6));
  await Promise.all(all);
  assert.deepEqual(rig.log, ['c', 'b', 'd', 'a']);
  assert.equal(rig.map, 'w3 w3 w3 w3 w3 w3 w3 w3 w3 w3 -');
});

test('whoever gives a lock up hands it over before anybody else can ask', async () => {
  const rig = new Rig();
  rig.now(write(1));
  const waiting = rig.wait('waiter', write(2));
  rig.now(unlock(1));
  assert.throws(() => rig.table.set(NODE, write(3), NOW, ROOT), { code: 'EAGAIN' });
  await waiting;
  assert.deepEqual(rig.log, ['waiter']);
});

test('a downgrade lets readers in, and a granted request that downgrades what its owner had does too', async () => {
  const rig = new Rig();
  rig.now(write(1, 0, 4));
  rig.now(write(2, 5, 9));
  const early = rig.wait('reader of 0', read(3, 0, 0));
  const downgrade = rig.wait('downgrade', read(1, 0, 9));
  const late = rig.wait('reader of 1', read(4, 1, 1));
  rig.now(read(2, 5, 9));
  await Promise.all([early, downgrade, late]);
  assert.deepEqual(rig.log, ['downgrade', 'reader of 1', 'reader of 0']);
});

test('releaseOwner takes back the ranges of one owner and wakes who waited; his flock and other owners stay', async () => {
  const rig = new Rig();
  rig.now(read(1, 0, 1));
  rig.now(write(1, 5, 6));
  rig.now(read(2, 0, 0));
  rig.flock(write(1));
  const waiting = rig.wait('next', write(3, 1, 6));
  rig.table.releaseOwner(NODE, 1);
  await waiting;
  assert.equal(rig.map, 'r2 w3 w3 w3 w3 w3 w3 - - - -');
  assert.throws(() => rig.table.set(NODE, read(3), FLOCK, ROOT), { code: 'EAGAIN' });
  rig.table.releaseOwner(NODE, 1);
  rig.table.releaseOwner(NODE + 1, 1);
  rig.table.releaseOwner(NODE, 2);
  rig.table.releaseOwner(NODE, 3);
  assert.equal(rig.table.hasLocks(NODE), true);
  rig.table.releaseFlock(NODE, 1);
  assert.equal(rig.table.hasLocks(NODE), false);
});

test('with its release, requests of an open file end with EBADF; those of a process go on', async () => {
  const rig = new Rig();
  rig.now(write(1));
  rig.flock(write(1));
  const waiting = [
    rig.wait('process', write(2)),
    rig.wait('open file', { ...write(3), ofd: true }),
    rig.wait('flock', write(2), FLOCK_WAIT),
  ];
  rig.table.releaseOwner(NODE, 2);
  rig.table.releaseOwner(NODE, 3);
  rig.table.releaseFlock(NODE, 2);
  await settled();
  assert.deepEqual(rig.log, ['open file: EBADF', 'flock: EBADF']);
  rig.table.releaseOwner(NODE, 1);
  await Promise.all(waiting);
  assert.equal(rig.log[2], 'process');
});

test('who may not wait gets EAGAIN instead, and keeps what he has', () => {
  const rig = new Rig();
  const nowait = { ...ROOT, nowait: true };
  rig.now(read(1));
  rig.now(read(2));
  rig.flock(read(1));
  rig.flock(read(2));
  assert.throws(() => rig.table.set(NODE, write(1), WAIT, nowait), { code: 'EAGAIN' });
  assert.throws(() => rig.table.set(NODE, write(1), FLOCK_WAIT, nowait), { code: 'EAGAIN', syscall: 'flock' });
  assert.throws(() => rig.table.set(NODE, write(3), { flock: true, wait: false }, ROOT), { code: 'EAGAIN' });
  rig.table.releaseFlock(NODE, 2);
  assert.throws(() => rig.table.set(NODE, write(3), FLOCK, ROOT), { code: 'EAGAIN' }, 'the first still has its flock');
});

test('flock knows nothing of ranges, and covers the whole file whatever range it is asked for', () => {
  const rig = new Rig();
  rig.now(write(1));
  rig.flock(write(2, 5, 6));
  assert.throws(() => rig.table.set(NODE, read(3, 7, 8), FLOCK, ROOT), { code: 'EAGAIN' });
  rig.flock(unlock(2, 1, 1));
  rig.flock(read(3));
  rig.flock(read(4));
  assert.deepEqual(rig.table.get(NODE, read(2)), write(1), 'getlk tells of ranges only');
});

test('a conversion of flock gives the old lock up first: with LOCK_NB it may be lost', async () => {
  const rig = new Rig();
  rig.flock(read(1));
  rig.flock(read(2));
  assert.throws(() => rig.table.set(NODE, write(1), FLOCK, ROOT), { code: 'EAGAIN' });
  rig.flock(write(2)); // nobody else is left
  const downgraded = rig.wait('reader', read(1), FLOCK_WAIT);
  rig.flock(read(2));
  await downgraded;
});

test('two readers who both convert their flock do not deadlock: the first gave way', async () => {
  const rig = new Rig();
  rig.flock(read(1));
  rig.flock(read(2));
  const first = rig.wait('first', write(1), FLOCK_WAIT);
  rig.flock(write(2));
  await settled();
  assert.deepEqual(rig.log, []);
  rig.flock(unlock(2));
  await first;
});

test('who waited for an old flock waits for the other holders when a conversion gives it up, and keeps his place', async () => {
  const rig = new Rig();
  rig.flock(read(1));
  rig.flock(read(2));
  rig.flock(read(3));
  const writer = rig.wait('writer', write(4), FLOCK_WAIT);
  assert.throws(() => rig.table.set(NODE, write(1), FLOCK, ROOT), { code: 'EAGAIN' });
  const converted = rig.wait('converted', write(2), FLOCK_WAIT);
  rig.flock(unlock(3));
  await writer;
  rig.table.releaseFlock(NODE, 4);
  await converted;
  assert.deepEqual(rig.log, ['writer', 'converted']);
});

test('a signal ends a wait with EINTR and its reason, and then the lock goes to the next', async () => {
  const rig = new Rig();
  const controller = new AbortController();
  rig.now(write(1));
  const pending = rig.table.set(NODE, write(2), WAIT, { ...ROOT, signal: controller.signal });
  const next = rig.wait('next', write(3));
  const reason = new Error('gave up');
  controller.abort(reason);
  await assert.rejects(pending as Promise<void>, { code: 'EINTR', syscall: 'fcntl', cause: reason });
  rig.now(unlock(1));
  await next;
  assert.equal(rig.at(0), 'w3');
});

test('a signal that has fired keeps nobody from a free lock, and from waiting; after the lock is there it ends nothing', async () => {
  const rig = new Rig();
  const fired = { ...ROOT, signal: AbortSignal.abort() };
  granted(rig.table.set(NODE, write(1), WAIT, fired));
  granted(rig.table.set(NODE, write(1), FLOCK_WAIT, fired));
  assert.throws(() => rig.table.set(NODE, write(2), WAIT, fired), { code: 'EINTR', syscall: 'fcntl' });
  assert.throws(() => rig.table.set(NODE, write(2), FLOCK_WAIT, fired), { code: 'EINTR', syscall: 'flock' });

  const controller = new AbortController();
  const waiting = rig.wait('waiter', write(2), WAIT, { ...ROOT, signal: controller.signal });
  rig.now(unlock(1));
  controller.abort();
  await waiting;
  assert.deepEqual(rig.log, ['waiter']);
  assert.equal(rig.at(0), 'w2');
});

test('a signal that nobody can listen to is noticed when the lock comes free', async () => {
  const rig = new Rig();
  const signal = { aborted: false };
  rig.now(write(1));
  const waiting = rig.wait('waiter', write(2), WAIT, { ...ROOT, signal });
  const next = rig.wait('next', write(3));
  signal.aborted = true;
  rig.now(unlock(1));
  await Promise.all([waiting, next]);
  assert.deepEqual(rig.log.sort(), ['next', 'waiter: EINTR']);
});

test('processes that would wait for each other, over files and through others, get EDEADLK', async () => {
  const { table } = new Rig();
  const ring = [1, 2, 3, 4];
  for (const owner of ring) granted(table.set(owner, write(owner), NOW, ROOT)); // file n is owner n's
  const waiting = ring.slice(0, -1).map((owner) => table.set(owner + 1, read(owner, 5, 5), WAIT, ROOT));
  assert.throws(() => table.set(1, write(4, 3, 3), WAIT, ROOT), { code: 'EDEADLK' });
  assert.throws(() => table.set(3, write(4, 3, 3), WAIT, ROOT), { code: 'EDEADLK' }, 'two of them are a ring too');
  assert.throws(() => table.set(1, write(4, 3, 3), NOW, ROOT), { code: 'EAGAIN' });
  for (const owner of [4, 3, 2]) {
    table.releaseOwner(owner, owner);
    await waiting[owner - 2];
  }
  table.releaseOwner(1, 1);
  granted(table.set(1, write(4), NOW, ROOT));
});

test('a deadlock is seen through any of those who are in the way, not the first only', async () => {
  const rig = new Rig();
  rig.now(read(1, 0, 0));
  rig.now(read(2, 1, 1));
  rig.now(write(3, 9, 9));
  const waiting = rig.wait('second', read(2, 9, 9));
  assert.throws(() => rig.table.set(NODE, write(3, 0, 1), WAIT, ROOT), { code: 'EDEADLK' });
  rig.now(unlock(3));
  await waiting;
});

test('a process with two threads can close a ring while it waits: who waits in it gets EDEADLK when he is served next', async () => {
  const rig = new Rig();
  rig.now(write(1, 0, 0));
  rig.now(read(3, 5, 5));
  const second = rig.wait('second', write(2, 0, 0)); // 2 waits for 1
  const first = rig.wait('first', write(1, 5, 6)); // 1 waits for 3
  rig.now(read(2, 6, 6)); // in another thread: now 1 waits for 2 as well
  rig.now(unlock(3));
  await first;
  assert.deepEqual(rig.log, ['first: EDEADLK']);
  rig.now(unlock(1));
  await second;
});

test('open files and flock take no part in deadlocks', async () => {
  const rig = new Rig();
  const ofd = (lock: FileLock) => ({ ...lock, ofd: true });
  rig.now(ofd(write(1, 0, 0)));
  rig.now(ofd(write(2, 1, 1)));
  const controller = new AbortController();
  const caller = { ...ROOT, signal: controller.signal };
  rig.flock(write(3));
  granted(rig.table.set(NODE + 1, write(4), FLOCK, ROOT));
  const waiting = [
    rig.wait('a', ofd(write(1, 1, 1)), WAIT, caller),
    rig.wait('b', ofd(write(2, 0, 0)), WAIT, caller),
    rig.wait('c', write(4), FLOCK_WAIT, caller),
    assert.rejects(rig.table.set(NODE + 1, write(3), FLOCK_WAIT, caller) as Promise<void>, { code: 'EINTR' }),
  ];
  controller.abort();
  await Promise.all(waiting);
  assert.deepEqual(rig.log.sort(), ['a: EINTR', 'b: EINTR', 'c: EINTR']);
});

test('locks and requests of one file are bounded: ENOLCK, with nothing changed', async () => {
  const { table } = new Rig();
  for (let i = 0; i < LOCKS_MAX - 1; i++) granted(table.set(NODE, write(1, 2 * i, 2 * i), NOW, ROOT));
  const last = 2 * (LOCKS_MAX - 1);
  granted(table.set(NODE, write(1, last, last + 8), NOW, ROOT));
  assert.throws(() => table.set(NODE, write(1, last + 10, last + 10), NOW, ROOT), { code: 'ENOLCK', syscall: 'fcntl' });
  assert.throws(() => table.set(NODE, unlock(1, last + 4, last + 4), NOW, ROOT), { code: 'ENOLCK' }, 'a split takes one more');
  assert.throws(() => table.set(NODE, write(2), WAIT, ROOT), { code: 'ENOLCK' });
  assert.deepEqual(table.get(NODE, read(2, last)), write(1, last, last + 8));
  granted(table.set(NODE + 1, write(1), NOW, ROOT));
  granted(table.set(NODE, write(1, 1, 1), NOW, ROOT)); // three become one
  granted(table.set(NODE, write(1, last + 10, last + 10), NOW, ROOT));
  granted(table.set(NODE, write(1), NOW, ROOT));
  assert.deepEqual(table.get(NODE, read(2)), write(1));
});

// The model: for each byte and owner what he holds there, and the requests that wait in the order in which they came.

const BYTES = 12;
const OWNERS = [1, 2, 3, 4];

interface Request {
  readonly lock: FileLock;
  readonly flock: boolean;
  readonly controller: AbortController;
  outcome: string | undefined;
}

class Model {
  /** [space][byte][owner] is F_RDLCK, F_WRLCK or nothing; the last byte stands for all that follow. */
  readonly held = [0, 1].map(() => Array.from({ length: BYTES }, () => new Map<number, number>()));
  waiting: Request[] = [];

  /** Bytes that a lock covers. */
  bytes({ lock, flock }: Pick<Request, 'lock' | 'flock'>): Map<number, number>[] {
    const held = this.held[flock ? 1 : 0] as Map<number, number>[];
    return flock ? held : held.filter((_, pos) => pos >= lock.start && pos <= lock.end);
  }

  blockers(request: Pick<Request, 'lock' | 'flock'>): number[] {
    const { owner, type } = request.lock;
    const inTheWay = (other: number) =>
      this.bytes(request).some((byte) => byte.has(other) && (byte.get(other) === F_WRLCK || type === F_WRLCK));
    return OWNERS.filter((other) => other !== owner && inTheWay(other));
  }

  put(request: Pick<Request, 'lock' | 'flock'>): void {
    const { owner, type } = request.lock;
    for (const byte of this.bytes(request)) {
      if (type === F_UNLCK) byte.delete(owner);
      else byte.set(owner, type);
    }
  }

  /** Is there a way from an owner back to himself, if this request waits too? */
  isDeadlock(request: Request): boolean {
    if (request.flock) return false;
    const edges = [...this.waiting, request].filter((each) => !each.flock);
    const reach = (from: number, seen: number[]): boolean =>
      edges
        .filter((edge) => edge.lock.owner === from)
        .flatMap((edge) => this.blockers(edge))
        .some((to) => to === request.lock.owner || (!seen.includes(to) && reach(to, [...seen, to])));
    return reach(request.lock.owner, []);
  }

  set(request: Request, mayWait: boolean): string | undefined {
    const { lock, flock } = request;
    if (lock.type === F_UNLCK) {
      this.put(request);
      return 'ok';
    }
    if (flock && this.held[1]?.[0]?.get(lock.owner) === lock.type) return 'ok';
    if (flock) this.put({ lock: { ...lock, type: F_UNLCK }, flock });
    if (this.blockers(request).length === 0) {
      this.put(request);
      return 'ok';
    }
    if (!mayWait) return 'EAGAIN';
    if (this.isDeadlock(request)) return 'EDEADLK';
    this.waiting.push(request);
    return undefined;
  }

  /** Serves who can be served, from the first on, until nobody can. Shape: those who were. */
  serve(): Request[] {
    const served: Request[] = [];
    for (let again = true; again; ) {
      again = false;
      for (const request of [...this.waiting]) {
        if (this.blockers(request).length > 0) continue;
        this.put(request);
        served.push(request);
        this.waiting = this.waiting.filter((each) => each !== request);
        again = true;
      }
    }
    return served;
  }
}

test('the table agrees with a model that keeps every byte of every owner', () =>
  forEachSeed('lock table', 60, async (prng) => {
    const table = new LockTable();
    const model = new Model();
    for (let step = 0; step < 150; step++) {
      // An owner that waits is one thread: he does nothing else.
      const idle = OWNERS.filter((owner) => model.waiting.every((request) => request.lock.owner !== owner));
      if (model.waiting.length > 0 && (idle.length === 0 || prng.below(12) === 0)) {
        const given = prng.pick(model.waiting);
        model.waiting = model.waiting.filter((request) => request !== given);
        given.controller.abort();
        await settled();
        assert.equal(given.outcome, 'EINTR', `step ${step}`);
        continue;
      }
      const start = prng.below(BYTES);
      const type = prng.pick([F_RDLCK, F_WRLCK, F_UNLCK]);
      const end = prng.below(5) === 0 ? LOCK_END : start + prng.below(BYTES - start);
      const owner = prng.pick(idle);
      const request: Request = {
        lock: lock(type, owner, start, end === BYTES - 1 ? LOCK_END : end),
        flock: prng.below(5) === 0,
        controller: new AbortController(),
        outcome: undefined,
      };
      const wait = prng.below(2) === 0;

      if (prng.below(15) === 0) {
        const whole = { lock: unlock(owner), flock: request.flock };
        if (request.flock) table.releaseFlock(NODE, owner);
        else table.releaseOwner(NODE, owner);
        model.put(whole);
      } else {
        const caller = { ...ROOT, signal: request.controller.signal };
        let result: MaybePromise<void>;
        try {
          result = table.set(NODE, request.lock, { flock: request.flock, wait }, caller);
          if (!isPromise(result)) request.outcome = 'ok';
          else {
            result.then(
              () => (request.outcome = 'ok'),
              (error) => (request.outcome = error.code),
            );
          }
        } catch (error) {
          request.outcome = (error as { code: string }).code;
        }
        assert.equal(
          request.outcome,
          model.set(request, wait),
          `step ${step}: ${JSON.stringify({ ...request.lock, flock: request.flock, wait })}`,
        );
      }
      const served = model.serve();
      await settled();
      for (const each of served) assert.equal(each.outcome, 'ok', `step ${step}: served`);
      for (const each of model.waiting) assert.equal(each.outcome, undefined, `step ${step}: still waits`);

      for (let pos = 0; pos < BYTES; pos++) {
        for (const asker of OWNERS) {
          for (const wanted of [F_RDLCK, F_WRLCK]) {
            const probe = lock(wanted, asker, pos, pos === BYTES - 1 ? LOCK_END : pos);
            const found = table.get(NODE, probe);
            const blockers = model.blockers({ lock: probe, flock: false });
            if (found === undefined) assert.deepEqual(blockers, [], `step ${step}: byte ${pos}`);
            else assert.ok(blockers.includes(found.owner), `step ${step}: byte ${pos}`);
          }
        }
      }
      const isHeld = model.held.some((bytes) => bytes.some((byte) => byte.size > 0));
      assert.equal(table.hasLocks(NODE), isHeld, `step ${step}: hasLocks`);
      // What touches and is of one type is one lock: the first that a stranger meets spans all of it.
      for (const each of OWNERS) {
        const { held } = model;
        const first = held[0]?.findIndex((byte) => byte.has(each)) ?? -1;
        const found = first < 0 ? undefined : table.get(NODE, write(99, first, first));
        if (found?.owner !== each) continue;
        const rest = held[0]?.findIndex((byte, pos) => pos > first && byte.get(each) !== held[0]?.[first]?.get(each)) ?? -1;
        assert.deepEqual([found.start, found.end], [first, rest < 0 ? LOCK_END : rest - 1], `step ${step}: extent`);
      }
    }
    for (const request of model.waiting) request.controller.abort();
    for (const owner of OWNERS) {
      table.releaseOwner(NODE, owner);
      table.releaseFlock(NODE, owner);
    }
    assert.equal(table.hasLocks(NODE), false);
  }));
