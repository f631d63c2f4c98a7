// The server over a channel in memory; the tests play the kernel.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Fill,
  filtered,
  flushing,
  locking,
  named,
  ROOT_ID,
  reading,
  served,
  session,
  writing,
} from '../../../test/support/fuse-peer.ts';
import { MemFs } from '../../../test/support/mem-fs.ts';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { ERRNO } from '../../base/errno.ts';
import { FsError } from '../../base/fs-error.ts';
import { deferred, type MaybePromise } from '../../base/task.ts';

import type { DirEntry, Entry } from '../../vfs/attr.ts';
import type { Caller } from '../../vfs/caller.ts';
import type { CreateReply, FileSystem, OpenReply } from '../../vfs/file-system.ts';
import { nameBytes, nameOf } from '../../vfs/name.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, O_RDWR, O_TRUNC } from '../../vfs/uapi.ts';
import { DirentReader } from '../abi/dirents.ts';
import { FATTR_SIZE, FUSE_LK_FLOCK, FUSE_RELEASE_FLOCK_UNLOCK } from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import * as op from '../abi/opcodes.ts';
import { fuse_file_lock } from '../abi/structs.ts';
import { loopbackPair } from '../transport/loopback.ts';
import { FuseServer } from './server.ts';

const MIB = 2 ** 20;

/** Keeps account of what it hands out. */
class LedgerFs extends MemFs {
  readonly lookups = new Map<number, number>();
  readonly handles = new Set<number>();
  ended = 0;

  #count(node: number, by: number): void {
    const left = (this.lookups.get(node) ?? 0) + by;
    if (left === 0) this.lookups.delete(node);
    else this.lookups.set(node, left);
  }

  #handOut<T extends MaybePromise<Entry | CreateReply | OpenReply | undefined>>(answer: T): T {
    const note = (given: Entry | CreateReply | OpenReply | undefined): void => {
      if (given !== undefined && 'node' in given) this.#count(given.node, 1);
      if (given !== undefined && 'entry' in given) this.#count(given.entry.node, 1);
      if (given !== undefined && 'fh' in given) this.handles.add(given.fh);
    };
    if (answer instanceof Promise) void answer.then(note, () => {});
    else note(answer as Awaited<T>);
    return answer;
  }

  override lookup(...args: Parameters<MemFs['lookup']>): Entry | undefined {
    return this.#handOut(super.lookup(...args));
  }
  override mkdir(...args: Parameters<FileSystem['mkdir']>): MaybePromise<Entry> {
    return this.#handOut(super.mkdir(...args));
  }
  override symlink(...args: Parameters<FileSystem['symlink']>): MaybePromise<Entry> {
    return this.#handOut(super.symlink(...args));
  }
  override link(...args: Parameters<FileSystem['link']>): MaybePromise<Entry> {
    return this.#handOut(super.link(...args));
  }
  override create(...args: Parameters<FileSystem['create']>): MaybePromise<CreateReply> {
    return this.#handOut(super.create(...args));
  }
  override open(...args: Parameters<MemFs['open']>): OpenReply {
    return this.#handOut(super.open(...args));
  }
  override readdir(...args: Parameters<MemFs['readdir']>): DirEntry[] {
    const entries = super.readdir(...args);
    for (const { entry } of entries) if (entry !== undefined) this.#count(entry.node, 1);
    return entries;
  }
  override forget(node: number, nlookup: number): void {
    this.#count(node, -nlookup);
    super.forget(node, nlookup);
  }
  override release(node: number, fh: number, flockOwner?: number): MaybePromise<void> {
    this.handles.delete(fh);
    return super.release(node, fh, flockOwner);
  }
  override destroy(): MaybePromise<void> {
    this.ended++;
    return super.destroy();
  }
}

test('INIT: the older minor holds, for the shape of messages too', async () => {
  for (const minor of [23, 31, 45, 60]) {
    const { peer, server, ended } = served(new MemFs());
    peer.init({ minor });
    const reply = (await peer.next())?.decodeBody(op.FUSE_INIT);
    assert.equal(reply?.init_out.minor, Math.min(minor, 45));
    assert.equal(server.agreement.minor, Math.min(minor, 45));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    peer.close();
    assert.equal(await ended, undefined);
  }
});

test('INIT of a kernel that is too old is refused, which ends the session', async () => {
  const fs = new LedgerFs();
  const { peer, ended } = served(fs);
  peer.init({ minor: 22 });
  assert.equal((await peer.next())?.error, -ERRNO.EPROTO);
  assert.equal(((await ended) as FsError).code, 'EPROTO');
  assert.equal(fs.ended, 1);
  assert.equal(await peer.next(), undefined);
});

test('INIT of a newer major is answered with ours, and asked again', async () => {
  const { peer, ended } = served(new MemFs());
  peer.init({ major: 8, minor: 3 });
  const first = (await peer.next())?.decodeBody(op.FUSE_INIT);
  assert.deepEqual([first?.init_out.major, first?.init_out.minor], [7, 45]);
  await peer.fails('EIO', op.FUSE_GETATTR, ROOT_ID);
  peer.init();
  assert.equal((await peer.next())?.error, 0);
  await peer.must(op.FUSE_GETATTR, ROOT_ID);
  peer.close();
  assert.equal(await ended, undefined);
});

test('INIT: options reach the kernel, as far as it has them', async () => {
  const { peer, server, ended } = served(new MemFs(), { maxWrite: 65536, writebackCache: false, maxBackground: 5 });
  peer.init({ mask: BigInt(init.FUSE_WRITEBACK_CACHE + init.FUSE_MAX_PAGES + init.FUSE_BIG_WRITES) });
  const { init_out } = (await peer.next())?.decodeBody(op.FUSE_INIT) ?? assert.fail();
  assert.deepEqual([init_out.max_write, init_out.max_pages, init_out.max_background], [65536, 16, 5]);
  assert.deepEqual(init.initFlagNames({ flags: init_out.flags, flags2: init_out.flags2 }), ['FUSE_BIG_WRITES', 'FUSE_MAX_PAGES']);
  assert.equal(server.agreement.maxWrite, 65536);
  peer.close();
  assert.equal(await ended, undefined);
});

test('before INIT, and at a second one, requests fail and the session goes on', async () => {
  const { peer, ended } = served(new MemFs());
  await peer.fails('EIO', op.FUSE_GETATTR, ROOT_ID);
  peer.init();
  assert.equal((await peer.next())?.error, 0);
  peer.init();
  assert.equal((await peer.next())?.error, -ERRNO.EIO);
  await peer.must(op.FUSE_GETATTR, ROOT_ID);
  peer.close();
  assert.equal(await ended, undefined);
});

test('requests that are none of ours, too large, or malformed fail alone', () =>
  session(new MemFs(), async ({ peer }) => {
    await peer.fails('ENOSYS', op.FUSE_BMAP, ROOT_ID);
    await peer.fails('ENAMETOOLONG', op.FUSE_LOOKUP, ROOT_ID, named('x'.repeat(256)));
    await peer.fails('EPROTO', op.FUSE_LOOKUP, ROOT_ID, named('a/b'));
    await peer.fails('EPROTO', op.FUSE_UNLINK, ROOT_ID, named('..'));
    await peer.fails('ESTALE', op.FUSE_GETATTR, 4711);
    const { node, fh } = await peer.create('file');
    await peer.fails('EINVAL', op.FUSE_READ, node, reading(fh, 0, 2 * MIB));
    const far = peer.post(op.FUSE_READ, node, (request) => {
      request.read_in.fh = fh;
      new DataView(request.bytes.buffer).setUint32(40 + 12, 0x40000000, true); // offset 2^62
    });
    const reply = await peer.next();
    assert.deepEqual([reply?.unique, reply?.error], [far, -ERRNO.EOVERFLOW]);
    const tooLarge = peer.post(op.FUSE_SETATTR, node, (request) => {
      request.setattr_in.valid = FATTR_SIZE;
      new DataView(request.bytes.buffer).setUint32(40 + 20, 0x40000000, true); // size 2^62
    });
    const refused = await peer.next();
    assert.deepEqual([refused?.unique, refused?.error], [tooLarge, -ERRNO.EFBIG]);
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
  }));

test('a message without a whole header, and a number that is under way already, end the session', async () => {
  const short = served(new MemFs());
  short.peer.init();
  await short.peer.next();
  short.peer.raw(new Uint8Array(39));
  assert.equal(((await short.ended) as FsError).code, 'EPROTO');

  const gate = deferred();
  const twice = served(filtered({ before: (name, args) => (name === 'getattr' && args[1] === ROOT_ID ? gate.promise : undefined) }));
  twice.peer.init();
  await twice.peer.next();
  const unique = twice.peer.post(op.FUSE_GETATTR, ROOT_ID);
  twice.peer.post(op.FUSE_STATFS, ROOT_ID, undefined, unique);
  assert.equal(await twice.peer.next(), undefined);
  gate.resolve();
  assert.equal(((await twice.ended) as FsError).code, 'EPROTO');
});

for (const loss of ['ENOENT', 'EOVERFLOW'] as const) {
  test(`what an answer hands over is taken back when it does not arrive: ${loss}`, async () => {
    const fs = new LedgerFs();
    const { peer, channel, bugs, ended } = served(fs);
    peer.init();
    await peer.next();
    const { node, fh } = await peer.create('there');
    const dir = (await peer.must(op.FUSE_OPENDIR, ROOT_ID)).open_out.fh;
    assert.deepEqual([...fs.lookups], [[node, 1]]);
    assert.deepEqual([...fs.handles], [fh]);

    const requests: [number, number, Fill][] = [
      [op.FUSE_LOOKUP, ROOT_ID, named('there')],
      [op.FUSE_MKDIR, ROOT_ID, named('directory')],
      [op.FUSE_SYMLINK, ROOT_ID, named('link', 'target')],
      [
        op.FUSE_LINK,
        ROOT_ID,
        (request) => {
          request.link_in.oldnodeid = node;
          named('second')(request);
        },
      ],
      [
        op.FUSE_CREATE,
        ROOT_ID,
        (request) => {
          request.create_in.flags = O_RDWR;
          request.create_in.mode = 0o100644;
          named('new')(request);
        },
      ],
      [op.FUSE_OPEN, node, ({ open_in }) => (open_in.flags = O_RDWR)],
      [op.FUSE_READDIRPLUS, ROOT_ID, reading(dir, 0, 8192)],
    ];
    for (const [opcode, on, fill] of requests) {
      channel.loss = loss;
      peer.post(opcode, on, fill);
      // The next answer says that this one was tried.
      await peer.must(op.FUSE_GETATTR, ROOT_ID);
      assert.equal(channel.loss, undefined);
      assert.deepEqual([...fs.lookups], [[node, 1]], op.opcodeName(opcode));
      assert.deepEqual([...fs.handles], [fh], op.opcodeName(opcode));
    }
    // That the caller is gone is nobody's fault. What no channel should say is.
    assert.equal(bugs.length, loss === 'ENOENT' ? 0 : requests.length);
    peer.close();
    assert.equal(await ended, undefined);
  });
}

test('FORGET and BATCH_FORGET take back what they say; too many, and numbers of no one, do no harm', async () => {
  const fs = new LedgerFs();
  await session(fs, async ({ peer }) => {
    const nodes: number[] = [];
    for (let i = 0; i < 5; i++) {
      const { entry_out } = await peer.must(op.FUSE_MKDIR, ROOT_ID, (request) => {
        request.mkdir_in.mode = 0o755;
        named(`d${i}`)(request);
      });
      nodes.push(entry_out.nodeid);
      for (let again = 0; again < i; again++) await peer.must(op.FUSE_LOOKUP, ROOT_ID, named(`d${i}`));
    }
    assert.deepEqual([...fs.lookups.values()], [1, 2, 3, 4, 5]);
    peer.post(op.FUSE_BATCH_FORGET, 0, (request) => {
      request.batch_forget_in.count = 4;
      for (const [index, node] of nodes.slice(0, 3).entries()) request.forgetOne(node, index + 1);
      request.forgetOne(ROOT_ID, 3);
    });
    peer.post(op.FUSE_FORGET, nodes[3] as number, ({ forget_in }) => (forget_in.nlookup = 3));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    assert.deepEqual(
      [...fs.lookups],
      [
        [nodes[3], 1],
        [nodes[4], 5],
      ],
    );
    peer.post(op.FUSE_FORGET, nodes[3] as number, ({ forget_in }) => (forget_in.nlookup = 1000));
    peer.post(op.FUSE_FORGET, 4711, ({ forget_in }) => (forget_in.nlookup = 1));
    await peer.must(op.FUSE_LOOKUP, ROOT_ID, named('d3'));
  });
});

test('INTERRUPT ends a lock that waits with EINTR, and nothing else', () =>
  session(new MemFs(), async ({ peer, server }) => {
    const { node, fh } = await peer.create('file');
    await peer.must(op.FUSE_SETLK, node, locking(fh, 1n, F_WRLCK));
    const waits = [2n, 3n].map((owner) => peer.post(op.FUSE_SETLKW, node, locking(fh, owner, F_RDLCK)));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    assert.deepEqual(
      server.inFlight.map(({ unique, operation, node: on, pid }) => [unique, operation, on, pid]),
      waits.map((unique) => [unique, 'FUSE_SETLKW', node, 77]),
    );

    const interrupt = (unique: number): void => {
      peer.post(op.FUSE_INTERRUPT, 0, ({ interrupt_in }) => (interrupt_in.unique = BigInt(unique)), unique + 1);
    };
    interrupt(waits[0] as number);
    const first = await peer.next();
    assert.deepEqual([first?.unique, first?.error], [waits[0], -ERRNO.EINTR]);
    interrupt(waits[0] as number); // too late
    interrupt(4712);
    await peer.must(op.FUSE_GETATTR, ROOT_ID);

    const unlock = peer.post(op.FUSE_SETLK, node, locking(fh, 1n, F_UNLCK));
    const answers = [await peer.next().then((r) => [r?.unique, r?.error]), await peer.next().then((r) => [r?.unique, r?.error])];
    assert.deepEqual(
      answers.sort((a, b) => (a[0] as number) - (b[0] as number)),
      [
        [waits[1], 0],
        [unlock, 0],
      ],
    );
    await peer.fails('EAGAIN', op.FUSE_SETLK, node, locking(fh, 4n, F_WRLCK));
    assert.deepEqual(server.inFlight, []);
  }));

test('a RELEASE that comes late unlocks nothing that its process has locked since', () =>
  session(new MemFs(), async ({ peer, server }) => {
    const { node, fh: old } = await peer.create('file');
    await peer.must(op.FUSE_SETLK, node, locking(old, 1n, F_WRLCK));
    await peer.must(op.FUSE_FLUSH, node, flushing(old, 1n));
    const fh = await peer.open(node);
    await peer.must(op.FUSE_SETLK, node, locking(fh, 1n, F_WRLCK));
    await peer.must(op.FUSE_RELEASE, node, ({ release_in }) => (release_in.fh = old));
    await peer.fails('EAGAIN', op.FUSE_SETLK, node, locking(fh, 2n, F_WRLCK));
    await peer.must(op.FUSE_FLUSH, node, flushing(fh, 1n));
    await peer.must(op.FUSE_SETLK, node, locking(fh, 2n, F_WRLCK));
    assert.equal(server.owners.size, 1);
  }));

test('locks of an open file end with it, and owners are forgotten with their files', () =>
  session(new MemFs(), async ({ peer, server }) => {
    const { node, fh } = await peer.create('file');
    const other = await peer.open(node);
    await peer.must(op.FUSE_SETLK, node, locking(fh, 1n, F_WRLCK));
    await peer.must(op.FUSE_SETLK, node, locking(fh, 9n, F_WRLCK, FUSE_LK_FLOCK));
    await peer.fails('EAGAIN', op.FUSE_SETLK, node, locking(other, 8n, F_WRLCK, FUSE_LK_FLOCK));
    const { lk_out } = await peer.must(op.FUSE_GETLK, node, locking(other, 5n, F_WRLCK));
    assert.equal(fuse_file_lock.view().at(lk_out.lk, 0).type, F_WRLCK);
    await peer.must(op.FUSE_RELEASE, node, ({ release_in }) => {
      release_in.fh = fh;
      release_in.release_flags = FUSE_RELEASE_FLOCK_UNLOCK;
      release_in.lock_owner = 9n;
    });
    await peer.must(op.FUSE_SETLK, node, locking(other, 5n, F_WRLCK));
    await peer.must(op.FUSE_SETLK, node, locking(other, 8n, F_WRLCK, FUSE_LK_FLOCK));
    await peer.must(op.FUSE_RELEASE, node, ({ release_in }) => {
      release_in.fh = other;
      release_in.release_flags = FUSE_RELEASE_FLOCK_UNLOCK;
      release_in.lock_owner = 8n;
    });
    // Every process that closes a file says who it is; most never had a lock.
    for (let owner = 100n; owner < 200n; owner++) await peer.must(op.FUSE_FLUSH, node, flushing(other, owner));
    assert.equal(server.owners.size, 0);
  }));

test('a fault is answered with EIO for that request only, and told with its request', async () => {
  const faults = new Map<string, () => MaybePromise<void>>([
    ['getattr', () => assert.fail('sync')],
    ['statfs', () => Promise.reject(new TypeError('async'))],
    ['mkdir', () => Promise.reject(new FsError('EDQUOT', 'mkdir'))],
    ['unlink', () => Promise.reject(Object.assign(new Error('of the host'), { code: 'EXDEV' }))],
  ]);
  const { peer, server, bugs, ended } = served(filtered({ before: (name) => faults.get(name)?.() }));
  peer.init();
  await peer.next();
  await peer.fails('EIO', op.FUSE_GETATTR, ROOT_ID);
  await peer.fails('EIO', op.FUSE_STATFS, ROOT_ID);
  assert.deepEqual(
    bugs.map(({ error, request }) => [(error as Error).message, request]),
    [
      ['sync', 'FUSE_GETATTR'],
      ['async', 'FUSE_STATFS'],
    ],
  );
  await peer.fails('EDQUOT', op.FUSE_MKDIR, ROOT_ID, named('d'));
  await peer.fails('EXDEV', op.FUSE_UNLINK, ROOT_ID, named('f'));
  assert.equal(bugs.length, 2);
  faults.clear();
  await peer.must(op.FUSE_GETATTR, ROOT_ID);
  assert.deepEqual(server.inFlight, []);
  peer.close();
  assert.equal(await ended, undefined);
});

test('a truncating open that cannot truncate leaves no handle', async () => {
  for (const late of [false, true]) {
    const fs = new LedgerFs();
    const error = new FsError('EDQUOT', 'open');
    const fail = (): MaybePromise<void> => {
      if (late) return Promise.reject(error);
      throw error;
    };
    await session(filtered({ before: (name) => (name === 'setattr' ? fail() : undefined) }, fs), async ({ peer }) => {
      const { node, fh } = await peer.create('file');
      await peer.fails('EDQUOT', op.FUSE_OPEN, node, ({ open_in }) => (open_in.flags = O_RDWR | O_TRUNC));
      assert.deepEqual([...fs.handles], [fh]);
    });
  }
});

test('data of requests stays as it is while others arrive, whenever the filesystem takes it', () =>
  forEachSeed('late answers', 4, async (prng) => {
    const gates: (() => void)[] = [];
    const gate = (name: string): MaybePromise<void> => {
      if (!['write', 'read', 'setxattr', 'mkdir'].includes(name) || prng.chance(0.2)) return undefined;
      const { promise, resolve } = deferred();
      gates.push(resolve);
      return promise;
    };
    await session(filtered({ before: gate }), async ({ peer, server }) => {
      const { node, fh } = await peer.create('file');
      const size = 30_000;
      const model = new Uint8Array(40 * size);
      const waits = new Set<number>();
      for (let i = 0; i < 40; i++) {
        const data = prng.bytes(prng.between(1, size));
        model.set(data, i * size);
        waits.add(peer.post(op.FUSE_WRITE, node, writing(fh, i * size, data)));
        if (prng.chance(0.3)) waits.add(peer.post(op.FUSE_MKDIR, ROOT_ID, named(`directory ${i}`)));
        if (prng.chance(0.3)) waits.add(peer.post(op.FUSE_READ, node, reading(fh, 0, 65536)));
        if (prng.chance(0.3)) prng.shuffle(gates).pop()?.();
      }
      while (waits.size > 0) {
        prng.shuffle(gates).pop()?.();
        const reply = await peer.next();
        assert.equal(reply?.error, 0);
        assert.ok(waits.delete(reply.unique), 'each is answered once');
      }
      assert.deepEqual(server.inFlight, []);
      const end = setInterval(() => gates.pop()?.(), 0);
      try {
        for (let at = 0; at < model.length; at += MIB) {
          const length = Math.min(MIB, model.length - at);
          const read = await peer.read(node, fh, at, length);
          const expected = model.subarray(at, at + read.length);
          assert.deepEqual(read, expected);
          assert.ok(read.length === length || model.subarray(at + read.length).every((byte) => byte === 0));
        }
      } finally {
        clearInterval(end);
      }
    });
  }));

test('listings are whole at every size of the room, and count the lookups of what they show only', async () => {
  const fs = new LedgerFs();
  await session(fs, async ({ peer }) => {
    const names = ['a', 'bb'.repeat(20), 'c'.repeat(255), 'd', 'e'.repeat(100), ...Array.from({ length: 20 }, (_, i) => `file ${i}`)];
    for (const name of names) {
      const { node, fh } = await peer.create(name);
      await peer.must(op.FUSE_RELEASE, node, ({ release_in }) => (release_in.fh = fh));
      peer.post(op.FUSE_FORGET, node, ({ forget_in }) => (forget_in.nlookup = 1));
    }
    const dir = (await peer.must(op.FUSE_OPENDIR, ROOT_ID)).open_out.fh;
    for (const plus of [false, true]) {
      const opcode = plus ? op.FUSE_READDIRPLUS : op.FUSE_READDIR;
      const largest = (plus ? 152 : 24) + 256;
      for (const size of [largest, largest + 1, largest + 7, largest + 8, 511, 777, 1000, 4096, 10_001]) {
        const seen: string[] = [];
        for (let offset = 0, rounds = 0; ; rounds++) {
          assert.ok(rounds < 100, 'a listing ends');
          const { bytes, dataStart, dataEnd } = await peer.must(opcode, ROOT_ID, reading(dir, offset, size), size);
          if (dataStart === dataEnd) break;
          const owed = new Map<number, number>();
          const records = new DirentReader().begin(bytes, dataStart, dataEnd, plus, 255);
          while (records.step()) {
            seen.push(nameOf(bytes, records.nameStart, records.nameEnd));
            offset = records.next;
            if (!plus) continue;
            peer.reply.entry_out.at(bytes, records.entryStart);
            const { nodeid } = peer.reply.entry_out;
            if (nodeid !== 0) owed.set(nodeid, 1);
          }
          assert.deepEqual(new Map([...fs.lookups].sort()), new Map([...owed].sort()));
          for (const node of owed.keys()) peer.post(op.FUSE_FORGET, node, ({ forget_in }) => (forget_in.nlookup = 1));
        }
        assert.deepEqual(seen.sort(), ['.', '..', ...names].sort(), `${size} bytes`);
      }
      // No room for a name is no end of the directory.
      for (const size of [0, 1, 24, 31]) await peer.fails('EINVAL', opcode, ROOT_ID, reading(dir, 0, size));
      for (const size of [0, 1, 24, 31]) await peer.fails('EINVAL', opcode, ROOT_ID, reading(dir, 2, size));
      assert.deepEqual([...fs.lookups], []);
    }
  });
});

test('an attribute is told whole or not at all: its size, ERANGE, ENODATA', () =>
  session(new MemFs(), async ({ peer }) => {
    const value = Uint8Array.of(1, 2, 3, 0, 5);
    await peer.must(op.FUSE_SETXATTR, ROOT_ID, (request) => {
      request.setxattr_in.size = value.length;
      request.name(nameBytes('user.one')).data(value);
    });
    const sized =
      (size: number, name?: string): Fill =>
      (request) => {
        request.getxattr_in.size = size;
        if (name !== undefined) named(name)(request);
      };
    assert.equal((await peer.must(op.FUSE_GETXATTR, ROOT_ID, sized(0, 'user.one'))).getxattr_out.size, 5);
    for (const room of [1, 4]) await peer.fails('ERANGE', op.FUSE_GETXATTR, ROOT_ID, sized(room, 'user.one'));
    for (const room of [5, 6, 65536]) {
      const { bytes, dataStart, dataEnd } = await peer.must(op.FUSE_GETXATTR, ROOT_ID, sized(room, 'user.one'), room);
      assert.deepEqual(bytes.slice(dataStart, dataEnd), value);
    }
    await peer.fails('ENODATA', op.FUSE_GETXATTR, ROOT_ID, sized(0, 'user.two'));

    assert.equal((await peer.must(op.FUSE_LISTXATTR, ROOT_ID, sized(0))).getxattr_out.size, 9);
    await peer.fails('ERANGE', op.FUSE_LISTXATTR, ROOT_ID, sized(8));
    const { bytes, dataStart, dataEnd } = await peer.must(op.FUSE_LISTXATTR, ROOT_ID, sized(9), 9);
    assert.equal(nameOf(bytes, dataStart, dataEnd), 'user.one\0');
  }));

test('DESTROY is answered, and ends the filesystem once', async () => {
  const fs = new LedgerFs();
  const { peer, ended } = served(fs);
  peer.init();
  await peer.next();
  await peer.must(op.FUSE_DESTROY, 0);
  assert.equal(await ended, undefined);
  assert.equal(fs.ended, 1);
  assert.equal(await peer.next(), undefined);
});

test('a session that ends interrupts what is under way, and the filesystem ends after it', async () => {
  const events: string[] = [];
  const gate = deferred();
  const inner = new LedgerFs();
  const fs = filtered(
    {
      before: (name) => (name === 'mkdir' ? gate.promise : undefined),
      after: (name, args) => {
        if (name === 'destroy') events.push(name);
        if (name === 'mkdir') events.push(`mkdir, interrupted: ${(args[0] as Caller).signal?.aborted}`);
      },
    },
    inner,
  );
  const { peer, server, bugs, ended } = served(fs);
  peer.init();
  await peer.next();
  const { node, fh } = await peer.create('file');
  await peer.must(op.FUSE_SETLK, node, locking(fh, 1n, F_WRLCK));
  peer.post(op.FUSE_SETLKW, node, locking(fh, 2n, F_WRLCK));
  peer.post(op.FUSE_MKDIR, ROOT_ID, named('late'));
  await peer.must(op.FUSE_GETATTR, ROOT_ID);
  assert.equal(server.inFlight.length, 2);
  peer.close();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(events, []);
  gate.resolve();
  assert.equal(await ended, undefined);
  assert.deepEqual(events, ['mkdir, interrupted: true', 'destroy']);
  assert.deepEqual(server.inFlight, []);
  assert.deepEqual([...inner.lookups], [[node, 1]]);
  assert.deepEqual(bugs, []);
});

test('a request that never ends holds up the end of the session for a while only', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const inner = new LedgerFs();
  const { peer, ended } = served(filtered({ before: (name) => (name === 'mkdir' ? new Promise(() => {}) : undefined) }, inner));
  peer.init();
  await peer.next();
  peer.post(op.FUSE_MKDIR, ROOT_ID, named('never'));
  await peer.must(op.FUSE_GETATTR, ROOT_ID);
  peer.close();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(inner.ended, 0);
  t.mock.timers.tick(60_000);
  assert.equal(await ended, undefined);
  assert.equal(inner.ended, 1);
});

test('end() ends a session that nothing happens in', async () => {
  const { peer, server, ended } = served(new MemFs());
  peer.init();
  await peer.next();
  server.end();
  assert.equal(await ended, undefined);
  assert.equal(await peer.next(), undefined);
});

test('a filesystem whose root has another number cannot be served', () => {
  const fs = new (class extends MemFs {
    override readonly root = 2;
  })();
  assert.throws(() => new FuseServer(fs, loopbackPair()[0]), { code: 'EINVAL' });
});
