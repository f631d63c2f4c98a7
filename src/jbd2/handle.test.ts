import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_SIZE, buffersOf, journalOptions, makeVolume, now, VOLUME_BLOCKS } from '../../test/support/journal-world.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { isPromise } from '../base/task.ts';
import type { BufferCache, BufferHead } from '../block/buffer-cache.ts';
import { FaultyDevice } from '../block/faulty-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { SimulatedDevice } from '../block/simulated-device.ts';
import type { HandleLogOptions } from './handle.ts';
import { Journal } from './journal.ts';
import type { Handle, MetadataLog } from './log.ts';
import { NoJournal } from './no-journal.ts';

interface Made {
  readonly log: MetadataLog;
  readonly buffers: BufferCache;
  readonly bdev: MemoryDevice;
}

const LOGS: Record<string, (options?: HandleLogOptions, budget?: number) => Made> = {
  journal(options = {}, budget = 2 ** 20) {
    const bdev = makeVolume();
    const buffers = buffersOf(bdev, budget);
    return { log: now(Journal.load(buffers, { ...journalOptions(bdev), ...options })), buffers, bdev };
  },
  'no journal'(options = {}, budget = 2 ** 20) {
    const bdev = new MemoryDevice({ size: VOLUME_BLOCKS * BLOCK_SIZE, hasVolatileCache: true });
    const buffers = buffersOf(bdev, budget);
    return { log: new NoJournal(buffers, options), buffers, bdev };
  },
};

function begin(log: MetadataLog, credits = 10): Handle {
  return now(log.start(credits)) as Handle;
}

function block(buffers: BufferCache, blocknr: number): BufferHead {
  return now(buffers.read(blocknr)) as BufferHead;
}

function write(handle: Handle, buffers: BufferCache, blocknr: number, byte: number): Uint8Array {
  return handle.getWriteAccess(block(buffers, blocknr)).fill(byte);
}

for (const [name, make] of Object.entries(LOGS)) {
  test(`${name}: random handles, some rolled back, leave in core and on the device what a model says`, () =>
    forEachSeed(name, 10, (prng) => {
      const { log, buffers, bdev } = make({}, 20 * BLOCK_SIZE);
      const model = Array.from({ length: 50 }, () => new Uint8Array(BLOCK_SIZE));
      const known = new Set(model.keys());
      for (let step = 0; step < 100; step++) {
        const handle = begin(log, 20);
        const before = model.map((bytes) => bytes.slice());
        const knownBefore = new Set(known);
        for (let n = prng.below(6); n > 0; n--) {
          const blocknr = prng.below(50);
          const byte = prng.below(256);
          const change = prng.below(4);
          if (change === 0) {
            handle.forget(blocknr);
            known.delete(blocknr);
          } else if (change === 1 || !known.has(blocknr)) {
            const { data } = handle.getCreateAccess(blocknr);
            assert(data.every((each) => each === 0));
            (model[blocknr] as Uint8Array).fill(0);
            data[5] = byte;
            (model[blocknr] as Uint8Array)[5] = byte;
            known.add(blocknr);
          } else {
            handle.getWriteAccess(block(buffers, blocknr)).fill(byte, 10, 20);
            (model[blocknr] as Uint8Array).fill(byte, 10, 20);
          }
        }
        if (prng.chance(0.4)) {
          handle.rollback();
          before.forEach((bytes, blocknr) => {
            model[blocknr] = bytes;
          });
          known.clear();
          for (const blocknr of knownBefore) known.add(blocknr);
        } else {
          handle.isSync = prng.chance(0.2);
          now(handle.stop());
        }
        for (const blocknr of known) assert.deepEqual(block(buffers, blocknr).data, model[blocknr], `step ${step}, block ${blocknr}`);
      }
      now(log.close());
      for (const blocknr of known)
        assert.deepEqual(bdev.read(blocknr * BLOCK_SIZE, BLOCK_SIZE), model[blocknr], `block ${blocknr} at home`);
    }));

  test(`${name}: write access gives an array of its own, once, and drops what was decoded`, () => {
    const { log, buffers } = make();
    const bh = block(buffers, 3);
    Object.assign(bh, { checked: 4, decoded: 'old' });
    const before = bh.data;
    const handle = begin(log);
    const data = handle.getWriteAccess(bh);
    assert(data !== before && bh.data === data && bh.decoded === undefined && bh.checked === 4);
    assert.equal(handle.getWriteAccess(bh), data);
    assert.equal(handle.credits, 9);
    now(handle.stop());
  });

  test(`${name}: a rollback puts back content, check, seal and decoding, and undoes the rest newest first`, () => {
    const { log, buffers } = make();
    const seal = (): void => {};
    const bh = block(buffers, 3);
    Object.assign(bh, { checked: 4, seal });
    const before = bh.data;
    const handle = begin(log);
    const undone: number[] = [];
    handle.getCreateAccess(3);
    bh.decoded = 'new';
    handle.onRollback(() => undone.push(1));
    handle.onRollback(() => undone.push(2));
    handle.onCommit(() => undone.push(3));
    handle.getCreateAccess(4);
    handle.rollback();
    assert.deepEqual([bh.data === before, bh.checked, bh.seal, bh.decoded], [true, 4, seal, undefined]);
    assert.deepEqual(undone, [2, 1]);
    assert.equal(buffers.peek(4), undefined);
    assert.equal(log.isDirty, false);
    now(log.commit());
    assert.deepEqual(undone, [2, 1]);
  });

  test(`${name}: a rollback leaves what an earlier handle of the transaction changed`, () => {
    const { log, buffers, bdev } = make();
    const first = begin(log);
    write(first, buffers, 3, 1);
    now(first.stop());
    const second = begin(log);
    write(second, buffers, 3, 2);
    second.forget(3);
    second.rollback();
    now(log.close());
    assert.equal(bdev.read(3 * BLOCK_SIZE, 1)[0], 1);
  });

  test(`${name}: what is done before a stop is part of the handle, and takes it back if it fails`, () => {
    const { log, buffers } = make();
    const handle = begin(log);
    handle.onStop(() => {
      write(handle, buffers, 3, 1);
      handle.onStop(() => void write(handle, buffers, 4, 1));
    });
    now(handle.stop());
    assert.deepEqual([block(buffers, 3).data[0], block(buffers, 4).data[0]], [1, 1]);
    const failing = begin(log);
    write(failing, buffers, 3, 2);
    failing.onStop(() => {
      throw new FsError('EUCLEAN', 'write');
    });
    assert.throws(
      () => failing.stop(),
      (error) => hasCode(error, 'EUCLEAN'),
    );
    assert.equal(block(buffers, 3).data[0], 1);
    assert.equal(log.lock.isLocked, false);
  });

  test(`${name}: callbacks of a commit come when it is durable, in order`, () => {
    const { log, buffers } = make();
    const done: number[] = [];
    const handle = begin(log);
    write(handle, buffers, 3, 1);
    handle.onCommit(() => done.push(1));
    handle.onCommit(() => done.push(2));
    const { tid } = handle;
    now(handle.stop());
    assert.deepEqual(done, []);
    assert.equal(log.isCommitted(tid), false);
    assert.equal(now(log.commit(tid)), true);
    assert.deepEqual(done, [1, 2]);
    assert.equal(log.isCommitted(tid), true);
    assert.equal(now(log.commit(tid)), false);
    assert.equal(log.isDirty, false);
  });

  test(`${name}: a handle that is sync is durable when it stops`, () => {
    const { log, buffers } = make();
    const handle = begin(log);
    write(handle, buffers, 3, 1);
    handle.isSync = true;
    const { tid } = handle;
    now(handle.stop());
    assert.equal(log.isCommitted(tid), true);
  });

  test(`${name}: a restart keeps what was done, and what follows can be rolled back`, () => {
    const { log, buffers } = make();
    const handle = begin(log);
    write(handle, buffers, 3, 1);
    now(handle.restart(5));
    assert.equal(handle.credits, 5);
    write(handle, buffers, 3, 2);
    handle.rollback();
    assert.equal(block(buffers, 3).data[0], 1);
  });

  test(`${name}: the second handle waits for the first, and readers see none of it half done`, async () => {
    const { log, buffers } = make();
    const first = begin(log);
    const second = log.start(5);
    assert(isPromise(second));
    write(first, buffers, 3, 1);
    assert.equal(log.lock.tryLockShared(), false);
    now(first.stop());
    const handle = await second;
    assert.equal(log.lock.isExclusive, true);
    handle.rollback();
    assert.equal(log.lock.isLocked, false);
  });

  test(`${name}: our mistakes are found: too many blocks, too many credits, use after the end, a handle in a callback`, () => {
    const { log, buffers } = make();
    const handle = begin(log, 1);
    write(handle, buffers, 3, 1);
    assert.throws(() => write(handle, buffers, 4, 1), { code: 'ERR_ASSERTION' });
    handle.rollback();
    assert.throws(() => handle.getCreateAccess(5), { code: 'ERR_ASSERTION' });
    assert.throws(() => log.start(log.creditsMax + 1), { code: 'ERR_ASSERTION' });
    const nested = begin(log);
    nested.onStop(() => void log.start(1));
    assert.throws(() => nested.stop(), { code: 'ERR_ASSERTION' });
    begin(log).rollback();
  });

  test(`${name}: nothing changes after an abort`, () => {
    const aborted: unknown[] = [];
    const { log, buffers } = make({ hooks: { onAbort: (why) => aborted.push(why) } });
    const handle = begin(log);
    write(handle, buffers, 3, 1);
    now(handle.stop());
    const why = new FsError('EUCLEAN', 'ext4');
    log.abort(why);
    log.abort(new FsError('EIO', 'ext4'));
    assert.equal(log.aborted, why);
    assert.deepEqual(aborted, [why]);
    assert.throws(
      () => log.start(1),
      (error) => hasCode(error, 'EROFS'),
    );
    assert.throws(
      () => log.commit(),
      (error) => hasCode(error, 'EIO'),
    );
    now(log.close());
  });

  test(`${name}: an abort between the parts of a handle fails its restart, and there is nothing to roll back`, () => {
    const { log } = make();
    const handle = begin(log);
    log.abort(new FsError('EIO', 'ext4'));
    assert.throws(
      () => handle.restart(1),
      (error) => hasCode(error, 'EROFS'),
    );
    handle.rollback();
    assert.equal(log.lock.isLocked, false);
  });

  test(`${name}: blocks are sealed when they leave memory, and what comes late is put in before`, () => {
    let late = 0;
    const hooks = {
      beforeCommit(access: (bh: BufferHead) => Uint8Array): void {
        if (late > 0) access(block(made.buffers, 4)).fill(late);
      },
    };
    const made: Made = make({ hooks });
    const { log, buffers, bdev } = made;
    const handle = begin(log);
    write(handle, buffers, 3, 1);
    block(buffers, 3).seal = (bh) => {
      bh.data[0] = 0x77;
    };
    now(handle.stop());
    late = 9;
    assert.notEqual(block(buffers, 3).data[0], 0x77);
    now(log.checkpoint());
    assert.equal(bdev.read(3 * BLOCK_SIZE, 1)[0], 0x77);
    assert.equal(bdev.read(4 * BLOCK_SIZE, 1)[0], 9);
  });

  test(`${name}: file data that has to go first is written without the lock`, () => {
    const order: string[] = [];
    const made: Made = make({
      hooks: {
        writeOrdered(tid) {
          assert.equal(made.log.lock.isLocked, false);
          order.push(`data of ${tid}`);
        },
      },
    });
    const handle = begin(made.log);
    write(handle, made.buffers, 3, 1);
    const { tid } = handle;
    handle.onCommit(() => order.push('durable'));
    now(handle.stop());
    now(made.log.commit());
    assert.deepEqual(order, [`data of ${tid}`, 'durable']);
  });

  test(`${name}: the cache is trimmed when nobody is left with the lock`, () => {
    const { log, buffers } = make({}, 20 * BLOCK_SIZE);
    assert.equal(log.lock.tryLockShared(), true);
    assert.equal(log.lock.tryLockShared(), true);
    for (let at = 0; at < 60; at++) block(buffers, at).wasUsed = false;
    log.lock.unlockShared();
    assert.notEqual(buffers.peek(0), undefined);
    (buffers.peek(0) as BufferHead).wasUsed = false;
    log.lock.unlockShared();
    assert.equal(buffers.peek(0), undefined);
  });
}

test('no journal: blocks that could not be written are written by the next commit', () => {
  const faulty = new FaultyDevice(new MemoryDevice({ size: VOLUME_BLOCKS * BLOCK_SIZE, hasVolatileCache: true }), new Prng(1));
  const buffers = buffersOf(faulty);
  const log = new NoJournal(buffers);
  const handle = begin(log);
  write(handle, buffers, 3, 1);
  let isDone = false;
  handle.onCommit(() => {
    isDone = true;
  });
  const { tid } = handle;
  now(handle.stop());
  faulty.inject({ ops: ['write'], times: 1, errno: 'ENOSPC' });
  assert.throws(
    () => log.commit(),
    (error) => hasCode(error, 'ENOSPC'),
  );
  assert(!isDone && log.isDirty && !log.isCommitted(tid));
  faulty.inject({ ops: ['flush'], times: 1, errno: 'EIO' });
  assert.throws(
    () => log.commit(),
    (error) => hasCode(error, 'EIO'),
  );
  assert(!isDone && log.isDirty && !log.isCommitted(tid));
  assert.equal(now(log.commit()), true);
  assert(isDone && !log.isDirty && log.isCommitted(tid));
});

test('no journal: a block that changes while it is written gets another array', async () => {
  const bdev = new SimulatedDevice({ size: VOLUME_BLOCKS * BLOCK_SIZE, prng: new Prng(1), hasVolatileCache: true });
  const buffers = buffersOf(bdev);
  const log = new NoJournal(buffers);
  const first = begin(log);
  first.getCreateAccess(3).data.fill(1);
  now(first.stop());
  const commit = log.commit();
  const second = begin(log);
  write(second, buffers, 3, 2);
  second.getCreateAccess(4).data.fill(2);
  now(second.stop());
  const third = begin(log);
  write(third, buffers, 4, 3);
  now(third.stop());
  bdev.drain();
  await Promise.resolve();
  for (let turn = 0; turn < 10; turn++) {
    bdev.drain();
    await Promise.resolve();
  }
  assert.equal(await commit, true);
  assert(bdev.read(3 * BLOCK_SIZE, BLOCK_SIZE).every((byte) => byte === 1));
  assert.equal(log.isDirty, true);
});
