// What the server tells without being asked; the tests play a kernel that takes it, refuses it, or holds it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FilterFs } from '../../../test/support/filter-fs.ts';
import { type Bench, filtered, locking, named, ROOT_ID, served, session, writing } from '../../../test/support/fuse-peer.ts';
import { MemFs } from '../../../test/support/mem-fs.ts';
import { FsError } from '../../base/fs-error.ts';
import { deferred, type MaybePromise } from '../../base/task.ts';
import type { Notifier } from '../../vfs/file-system.ts';
import { nameOf } from '../../vfs/name.ts';
import { F_RDLCK, F_WRLCK, O_RDONLY, O_RDWR, SEEK_DATA } from '../../vfs/uapi.ts';
import { FUSE_EXPIRE_ONLY } from '../abi/flags.ts';
import * as code from '../abi/notify.ts';
import * as op from '../abi/opcodes.ts';
import { Reply, type Reply as Told } from '../abi/reply.ts';
import { REPLY_BODY } from '../abi/reply-encoder.ts';
import * as structs from '../abi/structs.ts';

/** What a notification says, with its struct as its table reads it. */
function whatIs(bytes: Uint8Array): Record<string, unknown> & { code: number } {
  const told: Told = new Reply().decode(bytes);
  const row = told.notification ?? assert.fail('a notification');
  const out = row.out === undefined ? {} : structOf(row.out.name, bytes);
  const name = told.nameEnd > told.nameStart ? { name: nameOf(bytes, told.nameStart, told.nameEnd) } : {};
  const data = told.dataEnd > told.dataStart ? { data: [...bytes.subarray(told.dataStart, told.dataEnd)] } : {};
  return { code: row.code, ...out, ...name, ...data };
}

function structOf(name: string, bytes: Uint8Array): Record<string, unknown> {
  const form = (structs as unknown as Record<string, { read(bytes: Uint8Array, at: number): Record<string, unknown> }>)[name];
  return form?.read(bytes, REPLY_BODY) ?? assert.fail(name);
}

/** Notes what the kernel is told. `answer` may refuse it, or hold it up. */
function listen({ near }: Bench, answer: (told: ReturnType<typeof whatIs>) => MaybePromise<void> = () => {}): ReturnType<typeof whatIs>[] {
  const heard: ReturnType<typeof whatIs>[] = [];
  near.onNotify = (bytes) => {
    const told = whatIs(bytes);
    heard.push(told);
    return answer(told);
  };
  return heard;
}

const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

test('every notification reaches the kernel as its table has it', () =>
  session(new MemFs(), async (bench) => {
    const { notify } = bench.server;
    const heard = listen(bench);
    assert.equal(await notify.poll(77), true);
    await notify.invalInode(5, 4096, 100);
    await notify.invalInode(5, -1, 0);
    await notify.invalEntry(1, 'grün');
    await notify.expireEntry(1, 'name');
    await notify.delete(1, 9, 'gone');
    await notify.store(5, 10, Uint8Array.of(1, 2, 3));
    await notify.resend();
    await notify.incEpoch();
    await notify.prune([3, 4]);
    const pick = ({ code: kind, ...rest }: (typeof heard)[number]): unknown[] => [
      kind,
      ...['kh', 'ino', 'off', 'len', 'parent', 'child', 'nodeid', 'offset', 'flags', 'count', 'name']
        .filter((key) => rest[key] !== undefined)
        .map((key) => rest[key]),
    ];
    assert.deepEqual(heard.map(pick), [
      [code.FUSE_NOTIFY_POLL, 77],
      [code.FUSE_NOTIFY_INVAL_INODE, 5, 4096, 100],
      [code.FUSE_NOTIFY_INVAL_INODE, 5, -1, 0],
      [code.FUSE_NOTIFY_INVAL_ENTRY, 1, 0, 'grün'],
      [code.FUSE_NOTIFY_INVAL_ENTRY, 1, FUSE_EXPIRE_ONLY, 'name'],
      [code.FUSE_NOTIFY_DELETE, 1, 9, 'gone'],
      [code.FUSE_NOTIFY_STORE, 5, 10],
      [code.FUSE_NOTIFY_RESEND],
      [code.FUSE_NOTIFY_INC_EPOCH],
      [code.FUSE_NOTIFY_PRUNE, 2],
    ]);
    assert.deepEqual(heard[6]?.['data'], [1, 2, 3]);
    assert.equal(bench.server.metrics.notifications.taken, 10);
  }));

test('before a file that is open for writing is asked for data and holes, the kernel hands down what it keeps of it', () =>
  session(new MemFs(), async (bench) => {
    const { peer } = bench;
    const { node, fh } = await peer.create('file');
    const gate = deferred<void>();
    const heard = listen(bench, () => gate.promise);
    const asked = peer.post(op.FUSE_LSEEK, node, ({ lseek_in }) => Object.assign(lseek_in, { fh, offset: 4096, whence: SEEK_DATA }));
    while (heard.length === 0) await turns(1);
    assert.deepEqual(
      heard.map(({ code: kind, ino, off, len }) => [kind, ino, off, len]),
      [[code.FUSE_NOTIFY_INVAL_INODE, node, 4096, 0]],
    );
    // It takes the notification when its writes are answered.
    await peer.must(op.FUSE_WRITE, node, writing(fh, 5000, Uint8Array.of(1)));
    gate.resolve();
    const found = await peer.next();
    assert.deepEqual([found?.unique, found?.error], [asked, 0]); // ENXIO without the write

    // Without a writer it keeps nothing.
    const { open_out } = await peer.must(op.FUSE_OPEN, node, ({ open_in }) => Object.assign(open_in, { flags: O_RDONLY }));
    await peer.must(op.FUSE_RELEASE, node, ({ release_in }) => Object.assign(release_in, { fh, flags: O_RDWR }));
    await peer.must(op.FUSE_LSEEK, node, ({ lseek_in }) => Object.assign(lseek_in, { fh: open_out.fh, offset: 0, whence: SEEK_DATA }));
    assert.equal(heard.length, 1);
  }));

test('the kernel’s answer to a notification is its caller’s', () =>
  session(new MemFs(), async (bench) => {
    listen(bench, ({ code: kind }) => {
      throw new FsError(kind === code.FUSE_NOTIFY_DELETE ? 'ENOTEMPTY' : 'ENOENT', 'write');
    });
    const { notify } = bench.server;
    await assert.rejects(notify.invalEntry(1, 'unknown'), { code: 'ENOENT' });
    await assert.rejects(notify.delete(1, 2, 'full'), { code: 'ENOTEMPTY' });
    const { taken, unknown, failed, underWay } = bench.server.metrics.notifications;
    assert.deepEqual([taken, unknown, failed, underWay], [0, 1, 1, 0]);
  }));

test('what the agreed protocol does not have is ENOSYS, and before INIT there is nobody to tell', async () => {
  const bench = served(new MemFs());
  const { notify } = bench.server;
  await assert.rejects(notify.invalInode(1, -1, 0), { code: 'ENODEV' });
  bench.peer.init({ minor: 37 });
  await bench.peer.next();
  const heard = listen(bench);
  for (const call of [() => notify.resend(), () => notify.incEpoch(), () => notify.prune([2])]) {
    await assert.rejects(call(), { code: 'ENOSYS' });
  }
  await notify.expireEntry(1, 'a');
  assert.equal(heard[0]?.['flags'], 0); // it came with 7.38
  bench.peer.close();
  assert.equal(await bench.ended, undefined);
  await assert.rejects(notify.invalInode(1, -1, 0), { code: 'ENODEV' });
});

test('RETRIEVE answers with the bytes of the page cache', () =>
  session(new MemFs(), async (bench) => {
    const { peer, server } = bench;
    const heard = listen(bench);
    const asked = server.notify.retrieve(5, 4096, 100);
    const second = server.notify.retrieve(6, 0, 10);
    await turns(2);
    const uniques = heard.map((told) => Number(told['notify_unique']));
    const answer = (unique: number, node: number, data: Uint8Array): void => {
      peer.post(
        op.FUSE_NOTIFY_REPLY,
        node,
        (request) => {
          request.notify_retrieve_in.size = data.length;
          request.data(data);
        },
        unique,
      );
    };
    answer(uniques[1] as number, 6, new Uint8Array(0));
    answer(4711, 6, Uint8Array.of(9)); // that nobody asked for
    answer(uniques[0] as number, 5, Uint8Array.of(7, 8));
    assert.deepEqual([await asked, await second], [Uint8Array.of(7, 8), new Uint8Array(0)]);

    near(bench, () => {
      throw new FsError('ENOENT', 'write');
    });
    await assert.rejects(server.notify.retrieve(5, 0, 10), { code: 'ENOENT' });
    near(bench, undefined);
    const late = server.notify.retrieve(5, 0, 10);
    const lost = assert.rejects(late, { code: 'ENODEV' });
    peer.close();
    await lost;
  }));

function near(bench: Bench, onNotify: (() => void) | undefined): void {
  bench.near.onNotify = onNotify ?? ((): void => {});
}

for (const late of [false, true]) {
  test(`a handler that waits for a notification which waits for its answer does not wait for ever, ${late ? 'later' : 'at once'}`, async () => {
    const answered = deferred();
    let bench: Bench | undefined;
    const seen: unknown[] = [];
    const fs = filtered({
      before: async (name, args) => {
        if (name !== 'lookup' && name !== 'read') return;
        if (late) await new Promise((resolve) => setImmediate(resolve));
        const { notify } = bench?.server ?? assert.fail();
        const node = args[1] as number;
        seen.push(await (name === 'lookup' ? notify.invalEntry(node, args[2] as string) : notify.invalInode(node, 0, 0)));
        seen.push(await notify.poll(1)); // waits behind it
        await assert.rejects(notify.retrieve(node, 0, 1), { code: 'EDEADLK' });
      },
    });
    await session(fs, async (begun) => {
      bench = begun;
      const { peer, near: kernel, server } = begun;
      const { node, fh } = await peer.create('file');
      // As the kernel does it: the directory is locked by the lookup, the page by the read.
      kernel.onNotify = () => answered.promise;
      await peer.must(op.FUSE_LOOKUP, ROOT_ID, named('file'));
      await peer.read(node, fh, 0, 10);
      assert.deepEqual(seen, [false, false, false, false]);
      assert.equal(server.metrics.notifications.underWay, 4);
      answered.resolve();
      await turns();
      assert.equal(server.metrics.notifications.taken, 4);
    });
  });
}

test('a request that begins ends the wait for a notification that was sent before; one that waits for a lock does not', async () => {
  const gate = deferred();
  await session(filtered({ before: (name) => (name === 'statfs' ? gate.promise : undefined) }), async (bench) => {
    const { peer, server, near: kernel } = bench;
    const { node, fh } = await peer.create('file');
    const hold = deferred();
    kernel.onNotify = () => hold.promise;
    await peer.must(op.FUSE_SETLK, node, locking(fh, 1n, F_WRLCK));
    peer.post(op.FUSE_SETLKW, node, locking(fh, 2n, F_RDLCK));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    let told: boolean | undefined;
    const waits = server.notify.invalEntry(ROOT_ID, 'file').then((is) => (told = is));
    const bytes = assert.rejects(server.notify.retrieve(node, 0, 1), { code: 'EDEADLK' });
    await turns();
    assert.equal(told, undefined);
    peer.post(op.FUSE_STATFS, ROOT_ID);
    assert.equal(await waits, false);
    await bytes;
    hold.resolve();
    gate.resolve();
    await peer.next();
  });
});

test('the filesystem is attached from INIT to the end, and what it tells goes out once for each inode and name', async () => {
  const filter = new FilterFs(new MemFs());
  let notices: readonly string[] = [];
  let notifier: Notifier | undefined;
  await session(filter.fs, async (begun) => {
    notices = begun.notices;
    notifier = filter.notifier ?? assert.fail('attached');
    const heard = listen(begun);
    for (let i = 0; i < 50; i++) {
      notifier.invalInode(7, -1, 0);
      notifier.invalInode(8, 100 * i, 50);
      notifier.invalInode(9, 10, 0);
      notifier.invalInode(9, 500, 20);
      notifier.invalEntry(1, 'a');
      notifier.delete(1, 5, 'b');
    }
    await turns();
    const inodes = heard
      .filter((told) => told.code === code.FUSE_NOTIFY_INVAL_INODE)
      .map((told) => [told['ino'], told['off'], told['len']]);
    assert.deepEqual(inodes, [
      [7, -1, 0],
      [8, 0, 4950],
      [9, 10, 0],
    ]);
    assert.deepEqual(
      heard.filter((told) => told.code !== code.FUSE_NOTIFY_INVAL_INODE).map((told) => [told.code, told['name']]),
      [
        [code.FUSE_NOTIFY_INVAL_ENTRY, 'a'],
        [code.FUSE_NOTIFY_DELETE, 'b'],
      ],
    );
    assert.equal(begun.server.metrics.notifications.queued, 0);
  });
  notifier?.invalInode(7, 0, 0); // nobody is there any more
  await turns();
  assert.deepEqual(notices, []);
});

test('what the kernel does not know is no error; a name that it cannot remove is asked for again; other errors are told', async () => {
  const filter = new FilterFs(new MemFs());
  await session(filter.fs, async (bench) => {
    const heard = listen(bench, ({ code: kind, name }) => {
      if (kind === code.FUSE_NOTIFY_DELETE) throw new FsError('EBUSY', 'write');
      if (name === 'unknown') throw new FsError('ENOENT', 'write');
      if (name === 'bad') throw new FsError('ENAMETOOLONG', 'write');
    });
    filter.notifier?.delete(1, 5, 'mounted on');
    filter.notifier?.invalEntry(1, 'unknown');
    await turns();
    assert.equal(bench.notices.length, 0);
    filter.notifier?.invalEntry(1, 'bad');
    await turns();
    assert.deepEqual(
      heard.map((told) => [told.code, told['name']]),
      [
        [code.FUSE_NOTIFY_DELETE, 'mounted on'],
        [code.FUSE_NOTIFY_INVAL_ENTRY, 'unknown'],
        [code.FUSE_NOTIFY_INVAL_ENTRY, 'mounted on'],
        [code.FUSE_NOTIFY_INVAL_ENTRY, 'bad'],
      ],
    );
    assert.equal(bench.notices.length, 1);
    assert.match(bench.notices.join(), /ENAMETOOLONG/);
  });
});

for (const minor of [45, 37]) {
  test(`too many changes become: everything is stale, in a protocol of 7.${minor}`, async () => {
    const fs = new (class extends MemFs {
      override readonly changesElsewhere = true;
    })();
    const filter = new FilterFs(fs);
    const bench = served(filter.fs);
    const { peer, server } = bench;
    peer.init({ minor });
    await peer.next();
    const { node } = await peer.create('known');
    const hold = deferred();
    const heard = listen(bench, () => hold.promise);
    for (let i = 0; i < 10_000; i++) filter.notifier?.invalEntry(1, `name ${i}`);
    for (let i = 0; i < 40_000; i++) filter.notifier?.invalInode(1000 + i, -1, 0);
    assert.ok(server.metrics.notifications.queued < 25_000);
    assert.ok(server.metrics.notifications.overflows >= 2);
    hold.resolve();
    for (let i = 0; i < 2000 && server.metrics.notifications.queued + server.metrics.notifications.underWay > 0; i++) await turns(50);
    const epochs = heard.filter((told) => told.code === code.FUSE_NOTIFY_INC_EPOCH).length;
    assert.equal(epochs, minor === 45 ? 1 : 0);
    if (minor < 44) assert.ok(heard.some((told) => told.code === code.FUSE_NOTIFY_INVAL_ENTRY && told['name'] === 'known'));
    assert.ok(heard.some((told) => told['ino'] === node && told['off'] === 0 && told['len'] === 0));
    peer.close();
    assert.equal(await bench.ended, undefined);
    assert.deepEqual(bench.notices, []);
  });
}
