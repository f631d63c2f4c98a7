import assert from 'node:assert/strict';
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_END, O_RDONLY, O_RDWR, O_WRONLY } from '../../src/vfs/uapi.ts';
import type { PosixFace, PosixFile, PosixLock, PosixLockKind, PosixProcess } from '../support/posix-face.ts';
import { all, type Behaviour, type Behaviours, type Feature, fails, needs, put, text, withFile } from './behaviour.ts';

// flock(2).
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_UN = 8;

const read = (start: number, end: number) => ({ type: F_RDLCK, start, end });
const write = (start: number, end: number) => ({ type: F_WRLCK, start, end });
const un = (start: number, end: number) => ({ type: F_UNLCK, start, end });

/** Two open files of one file of 100 bytes. Record locks of a process never conflict with its own, so the second one asks with OFD locks. */
const two = (features: Feature | Feature[], use: (one: PosixFile, other: PosixFile, fs: PosixFace) => unknown): Behaviour =>
  needs(features, async (fs) => {
    await put(fs, 'f', 'x'.repeat(100));
    await withFile(fs, 'f', O_RDWR, (one) => withFile(fs, 'f', O_RDWR, (other) => use(one, other, fs) as Promise<void>));
  });

/** The bytes of 0..29 that a write lock from elsewhere meets locked: one letter per byte, r, w or -. */
async function picture(other: PosixFile): Promise<string> {
  let picture = '';
  for (let at = 0; at < 30; at++) {
    const found = await other.getlk('ofd', write(at, at));
    picture += found === undefined ? '-' : found.type === F_WRLCK ? 'w' : 'r';
  }
  return picture;
}

/** What holds of both kinds of record locks. */
function both(kind: PosixLockKind, words: string): Behaviours {
  const features: Feature[] = kind === 'posix' ? ['posixLocks', 'ofdLocks'] : ['ofdLocks'];
  return {
    [`${words}: a write lock keeps out every lock of the range`]: two(features, async (one, other) => {
      await one.setlk(kind, write(10, 19));
      for (const [start, end] of [
        [10, 19],
        [0, 10],
        [19, 30],
        [15, 15],
        [0, LOCK_END],
      ] as const) {
        await fails('EAGAIN', () => other.setlk('ofd', write(start, end)));
        await fails('EAGAIN', () => other.setlk('ofd', read(start, end)));
      }
      await other.setlk('ofd', write(0, 9));
      await other.setlk('ofd', write(20, LOCK_END));
    }),
    [`${words}: read locks share, and keep out writers`]: two(features, async (one, other) => {
      await one.setlk(kind, read(10, 19));
      await other.setlk('ofd', read(0, 30));
      await other.setlk('ofd', un(0, 30));
      await fails('EAGAIN', () => other.setlk('ofd', write(19, 30)));
    }),
    [`${words}: the lock in the way is told`]: two(features, async (one, other) => {
      assert.equal(await other.getlk('ofd', write(0, LOCK_END)), undefined);
      await one.setlk(kind, read(10, 19));
      assert.deepEqual(await other.getlk('ofd', write(15, 15)), read(10, 19));
      assert.equal(await other.getlk('ofd', read(15, 15)), undefined);
      assert.equal(await other.getlk('ofd', write(20, 30)), undefined);
      assert.equal(await other.getlk('ofd', write(0, 9)), undefined);
    }),
    [`${words}: a lock to the end has no end`]: two(features, async (one, other) => {
      await one.setlk(kind, write(10, LOCK_END));
      assert.deepEqual(await other.getlk('ofd', write(2 ** 40, 2 ** 40)), write(10, LOCK_END));
    }),
    [`${words}: locks past the end of the file are locks`]: two(features, async (one, other) => {
      await one.setlk(kind, write(1000, 1999));
      assert.deepEqual(await other.getlk('ofd', write(1500, 1500)), write(1000, 1999));
    }),
    [`${words}: unlocking the middle leaves both ends`]: two(features, async (one, other) => {
      await one.setlk(kind, write(0, 29));
      await one.setlk(kind, un(10, 19));
      assert.equal(await picture(other), `${'w'.repeat(10)}${'-'.repeat(10)}${'w'.repeat(10)}`);
      assert.deepEqual(await other.getlk('ofd', write(25, 25)), write(20, 29));
    }),
    [`${words}: neighbours of one type become one`]: two(features, async (one, other) => {
      await one.setlk(kind, write(0, 9));
      await one.setlk(kind, write(20, 29));
      await one.setlk(kind, write(10, 19));
      assert.deepEqual(await other.getlk('ofd', write(15, 15)), write(0, 29));
    }),
    [`${words}: overlapping locks of one type become one`]: two(features, async (one, other) => {
      await one.setlk(kind, read(0, 15));
      await one.setlk(kind, read(10, 29));
      assert.deepEqual(await other.getlk('ofd', write(29, 29)), read(0, 29));
    }),
    [`${words}: a lock of the other type changes its part`]: two(features, async (one, other) => {
      await one.setlk(kind, write(0, 29));
      await one.setlk(kind, read(10, 19));
      assert.equal(await picture(other), `${'w'.repeat(10)}${'r'.repeat(10)}${'w'.repeat(10)}`);
      await one.setlk(kind, write(0, 29));
      assert.equal(await picture(other), 'w'.repeat(30));
    }),
    [`${words}: a read lock that others share is not made a write lock`]: two(features, async (one, other) => {
      await one.setlk(kind, read(0, 29));
      await other.setlk('ofd', read(10, 19));
      await fails('EAGAIN', () => one.setlk(kind, write(0, 29)));
      await one.setlk(kind, write(20, 29));
      await other.setlk('ofd', un(10, 19));
      await one.setlk(kind, write(0, 29));
      assert.equal(await picture(other), 'w'.repeat(30));
    }),
    [`${words}: unlocking what is not locked succeeds`]: two(features, (one) => one.setlk(kind, un(0, LOCK_END))),
    [`${words}: a write lock needs a file that is written, a read lock one that is read`]: two(features, async (_one, _other, fs) => {
      await withFile(fs, 'f', O_RDONLY, (file) => fails('EBADF', () => file.setlk(kind, write(0, 9))));
      await withFile(fs, 'f', O_WRONLY, (file) => fails('EBADF', () => file.setlk(kind, read(0, 9))));
    }),
    [`${words}: a range before the beginning is EINVAL`]: two(features, (one) => fails('EINVAL', () => one.setlk(kind, read(-10, -5)))),
    [`${words}: an unknown type is EINVAL`]: two(features, (one) => fails('EINVAL', () => one.setlk(kind, { type: 7, start: 0, end: 9 }))),
    [`${words}: locks are advice`]: two(features, async (one, other) => {
      await one.setlk(kind, write(0, LOCK_END));
      await other.pwrite('y', 0);
      assert.equal(text(await all(other))[0], 'y');
      await other.ftruncate(0);
    }),
    [`${words}: locks belong to the file, not to a name`]: two(features, async (one, _other, fs) => {
      await one.setlk(kind, write(0, 9));
      await fs.link('f', 'g');
      await withFile(fs, 'g', O_RDWR, (file) => fails('EAGAIN', () => file.setlk('ofd', write(0, 9))));
      await put(fs, 'new');
      await fs.rename('new', 'f');
      await withFile(fs, 'f', O_RDWR, (file) => file.setlk('ofd', write(0, 9)));
    }),
    [`${words}: a hundred locks are kept apart`]: two(features, async (one, other) => {
      for (let i = 0; i < 100; i++) await one.setlk(kind, write(i * 10, i * 10 + 4));
      assert.deepEqual(await other.getlk('ofd', write(505, 512)), write(510, 514));
      for (let i = 0; i < 100; i += 2) await one.setlk(kind, un(i * 10, i * 10 + 4));
      assert.equal(await other.getlk('ofd', write(505, 509)), undefined);
      assert.deepEqual(await other.getlk('ofd', write(500, 512)), write(510, 514));
    }),
  };
}

/** Other processes, each with the file of 100 bytes open for both. */
const processes = (count: number, features: Feature[], use: (all: Locker[], fs: PosixFace) => Promise<void>): Behaviour =>
  needs(['processes', ...features], async (fs) => {
    await put(fs, 'f', 'x'.repeat(100));
    const lockers: Locker[] = [];
    for (let i = 0; i < count; i++) lockers.push(await Locker.start(fs));
    await use(lockers, fs);
  });

/** One process with one open file. */
class Locker {
  readonly process: PosixProcess;
  readonly fd: number;

  constructor(process: PosixProcess, fd: number) {
    this.process = process;
    this.fd = fd;
  }

  static async start(fs: PosixFace): Promise<Locker> {
    const process = await fs.fork();
    return new Locker(process, await process.open('f', O_RDWR));
  }

  set(lock: PosixLock, kind: PosixLockKind | 'flock' = 'posix'): Promise<void> {
    return this.process.lock(this.fd, kind, lock, false);
  }

  wait(lock: PosixLock, kind: PosixLockKind | 'flock' = 'posix'): Promise<void> {
    return this.process.lock(this.fd, kind, lock, true);
  }

  get(lock: PosixLock): Promise<PosixLock | undefined> {
    return this.process.getlk(this.fd, 'posix', lock);
  }
}

/** A lock that the second one waits for is granted by what the first one does, and not before. */
const grantedBy = (kind: PosixLockKind | 'flock', release: (holder: Locker) => Promise<void>): Behaviour =>
  processes(2, [kind === 'flock' ? 'flock' : `${kind}Locks`], async ([holder, waiter]) => {
    assert.ok(holder !== undefined && waiter !== undefined);
    await holder.set(write(0, LOCK_END), kind);
    let isReleased = false;
    const granted = waiter.wait(write(0, LOCK_END), kind).then(() => assert.ok(isReleased, 'granted while it was held'));
    // Whether the other one waits already or not: the lock is held until here.
    isReleased = true;
    await release(holder);
    await granted;
  });

/** Advisory locks. */
export const locks: Behaviours = {
  ...both('posix', 'of processes'),
  ...both('ofd', 'of open files'),
  'of processes: a process does not keep itself out': two('posixLocks', async (one, other) => {
    await one.setlk('posix', write(0, 9));
    assert.equal(await other.getlk('posix', write(0, 9)), undefined);
    await other.setlk('posix', read(5, 9));
  }),
  'of processes: closing any open file of the file gives all back': two(['posixLocks', 'ofdLocks'], async (one, other, fs) => {
    await one.setlk('posix', write(0, 9));
    await withFile(fs, 'f', O_RDONLY, () => {});
    assert.equal(await other.getlk('ofd', write(0, 9)), undefined);
  }),
  'of processes: closing another file gives nothing back': two(['posixLocks', 'ofdLocks'], async (one, other, fs) => {
    await put(fs, 'g');
    await one.setlk('posix', write(0, 9));
    await withFile(fs, 'g', O_RDONLY, () => {});
    assert.deepEqual(await other.getlk('ofd', write(0, 9)), write(0, 9));
  }),
  'of open files: another open file of the same process is kept out': two('ofdLocks', async (one, other) => {
    await one.setlk('ofd', write(0, 9));
    await fails('EAGAIN', () => other.setlk('ofd', write(0, 9)));
    await one.setlk('ofd', write(0, 9));
  }),
  'of open files: closing gives its own back, and only those': two('ofdLocks', async (one, other, fs) => {
    await one.setlk('ofd', write(0, 9));
    const third = await fs.open('f', O_RDWR);
    await third.setlk('ofd', write(20, 29));
    await third.close();
    assert.equal(await picture(other), `${'w'.repeat(10)}${'-'.repeat(20)}`);
  }),
  'of open files: a lock of the process keeps them out': two(['posixLocks', 'ofdLocks'], async (one, other) => {
    await one.setlk('posix', read(0, 9));
    await fails('EAGAIN', () => one.setlk('ofd', write(0, 9)));
    await other.setlk('ofd', read(0, 9));
    await fails('EAGAIN', () => one.setlk('posix', write(0, 9)));
  }),
  'of whole files: shared ones share, an exclusive one is alone': two('flock', async (one, other, fs) => {
    await one.flock(LOCK_SH);
    await other.flock(LOCK_SH);
    await withFile(fs, 'f', O_RDONLY, (third) => fails('EAGAIN', () => third.flock(LOCK_EX)));
    await other.flock(LOCK_UN);
    await one.flock(LOCK_EX);
    await fails('EAGAIN', () => other.flock(LOCK_SH));
    await fails('EAGAIN', () => other.flock(LOCK_EX));
  }),
  'of whole files: an exclusive one becomes shared': two('flock', async (one, other) => {
    await one.flock(LOCK_EX);
    await one.flock(LOCK_SH);
    await other.flock(LOCK_SH);
  }),
  'of whole files: setting again and unlocking twice succeed': two('flock', async (one) => {
    await one.flock(LOCK_EX);
    await one.flock(LOCK_EX);
    await one.flock(LOCK_UN);
    await one.flock(LOCK_UN);
  }),
  'of whole files: closing gives back': two('flock', async (_one, other, fs) => {
    await withFile(fs, 'f', O_RDONLY, (third) => third.flock(LOCK_EX));
    await other.flock(LOCK_EX);
  }),
  'of whole files: a file opened for reading is locked exclusively': two('flock', async (_one, other, fs) => {
    await withFile(fs, 'f', O_RDONLY, async (third) => {
      await third.flock(LOCK_EX);
      await fails('EAGAIN', () => other.flock(LOCK_SH));
    });
  }),
  'of whole files: record locks are apart': two(['flock', 'ofdLocks'], async (one, other) => {
    await one.flock(LOCK_EX);
    await other.setlk('ofd', write(0, LOCK_END));
    assert.deepEqual(await one.getlk('ofd', read(0, 0)), write(0, LOCK_END));
    await fails('EAGAIN', () => other.flock(LOCK_SH));
  }),
  'of whole files: directories are locked': needs('flock', async (fs) => {
    await fs.mkdir('d');
    await withFile(fs, 'd', O_RDONLY, (one) =>
      withFile(fs, 'd', O_RDONLY, async (other) => {
        await one.flock(LOCK_EX);
        await fails('EAGAIN', () => other.flock(LOCK_EX));
      }),
    );
  }),
  'between processes: a write lock keeps the other out, and is told': processes(2, ['posixLocks'], async ([one, other]) => {
    await one?.set(write(10, 19));
    await fails('EAGAIN', async () => other?.set(read(15, 30)));
    assert.deepEqual(await other?.get(read(0, LOCK_END)), write(10, 19));
    assert.equal(await one?.get(write(0, LOCK_END)), undefined);
    await other?.set(write(20, 29));
    assert.deepEqual(await one?.get(write(0, LOCK_END)), write(20, 29));
  }),
  'between processes: read locks are shared': processes(3, ['posixLocks'], async ([one, two, three]) => {
    await one?.set(read(0, 9));
    await two?.set(read(5, 19));
    await fails('EAGAIN', async () => three?.set(write(9, 9)));
    await one?.set(un(0, 9));
    await fails('EAGAIN', async () => three?.set(write(9, 9)));
    await three?.set(write(0, 4));
  }),
  'between processes: closing another descriptor of the file gives locks back': processes(2, ['posixLocks'], async ([one, other]) => {
    await one?.set(write(0, 9));
    await one?.process.close((await one?.process.open('f', O_RDONLY)) ?? -1);
    await other?.set(write(0, 9));
  }),
  'between processes: who waits is served when the lock is given back': grantedBy('posix', (holder) => holder.set(un(0, LOCK_END))),
  'between processes: who waits is served when the file is closed': grantedBy('posix', (holder) => holder.process.close(holder.fd)),
  'between processes: who waits for an open file is served': grantedBy('ofd', (holder) => holder.set(un(0, LOCK_END), 'ofd')),
  'between processes: who waits for an open file is served when it is closed': grantedBy('ofd', (holder) =>
    holder.process.close(holder.fd),
  ),
  'between processes: who waits for a whole file is served': grantedBy('flock', (holder) => holder.set(un(0, LOCK_END), 'flock')),
  'between processes: who waits for a whole file is served when it is closed': grantedBy('flock', (holder) =>
    holder.process.close(holder.fd),
  ),
  'between processes: an exit gives everything back': processes(2, ['posixLocks', 'ofdLocks', 'flock'], async ([one, other]) => {
    await one?.set(write(0, 9));
    await one?.set(write(20, 29), 'ofd');
    await one?.set(write(0, LOCK_END), 'flock');
    await one?.process.exit();
    await other?.set(write(0, LOCK_END));
    await other?.set(write(0, LOCK_END), 'flock');
  }),
  'between processes: readers that wait for a writer are served together': processes(3, ['posixLocks'], async ([writer, ...readers]) => {
    await writer?.set(write(0, 9));
    const granted = Promise.all(readers.map((reader) => reader.wait(read(0, 9))));
    await writer?.set(un(0, 9));
    await granted;
    assert.deepEqual(await writer?.get(write(0, 9)), read(0, 9));
  }),
  'between processes: a reader that waits for a writer is served when the writer becomes a reader': processes(
    2,
    ['posixLocks'],
    async ([writer, reader]) => {
      await writer?.set(write(0, 9));
      const granted = reader?.wait(read(0, 9));
      await writer?.set(read(0, 9));
      await granted;
      await fails('EAGAIN', async () => writer?.set(write(0, 9)));
    },
  ),
  'between processes: a writer waits for the last of several readers': processes(3, ['posixLocks'], async ([writer, one, two]) => {
    await one?.set(read(0, 9));
    await two?.set(read(5, 14));
    const granted = writer?.wait(write(0, 19));
    await one?.set(un(0, LOCK_END));
    await two?.set(un(0, LOCK_END));
    await granted;
    assert.deepEqual(await one?.get(read(3, 3)), write(0, 19));
  }),
  'between processes: who waits for a part is served when that part is given back': processes(2, ['posixLocks'], async ([one, two]) => {
    await one?.set(write(0, 29));
    const granted = two?.wait(write(10, 19));
    await one?.set(un(10, 19));
    await granted;
    await fails('EAGAIN', async () => two?.set(write(9, 9)));
  }),
  'between processes: a circle of waits is EDEADLK for one, and the other is served': processes(2, ['posixLocks'], async ([one, two]) => {
    assert.ok(one !== undefined && two !== undefined);
    await one.set(write(0, 9));
    await two.set(write(10, 19));
    const ask = async (locker: Locker, wanted: PosixLock, held: PosixLock): Promise<string> => {
      try {
        await locker.wait(wanted);
        return 'served';
      } catch (error) {
        await locker.set({ ...held, type: F_UNLCK });
        return (error as { code?: string }).code ?? String(error);
      }
    };
    const outcome = await Promise.all([ask(one, write(10, 19), write(0, 9)), ask(two, write(0, 9), write(10, 19))]);
    assert.deepEqual(outcome.sort(), ['EDEADLK', 'served']);
  }),
  'of whole files: an unknown operation is EINVAL': two('flock', (one) => fails('EINVAL', () => one.flock(0))),
};
