// What a session can beside files and names: modes of I/O, polls, time limits, file handles, labels, counters. The tests play the kernel.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filtered, locking, named, ROOT_ID, reading, served, session, writing } from '../../../test/support/fuse-peer.ts';
import { MemFs } from '../../../test/support/mem-fs.ts';
import { deferred, type MaybePromise } from '../../base/task.ts';
import type { IoMode } from '../../vfs/attr.ts';
import type { Caller } from '../../vfs/caller.ts';
import { ROOT } from '../../vfs/caller.ts';
import type { CreateReply, FileSystem, OpenReply, OpenTraits } from '../../vfs/file-system.ts';
import { nameBytes, nameOf } from '../../vfs/name.ts';
import { XATTR_NAME_POSIX_ACL_ACCESS } from '../../vfs/posix-acl.ts';
import { SharedFileSystem } from '../../vfs/shared-file-system.ts';
import { F_RDLCK, F_WRLCK, O_CREAT, O_RDWR, S_ISGID, S_ISUID } from '../../vfs/uapi.ts';
import { Vfs } from '../../vfs/vfs.ts';
import { DirentReader } from '../abi/dirents.ts';
import * as flag from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import * as op from '../abi/opcodes.ts';
import { Reply } from '../abi/reply.ts';
import type { FuseChannel } from '../transport/channel.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Files are served as their names say, or as `traits` does. */
class ModesFs extends MemFs {
  traits: OpenTraits | undefined;
  readonly modes = new Map<string, IoMode>();
  backing: number | undefined = 42;

  override lookup(...args: Parameters<MemFs['lookup']>): ReturnType<MemFs['lookup']> {
    const entry = super.lookup(...args);
    const io = this.modes.get(args[2]);
    return entry === undefined || io === undefined ? entry : { ...entry, io };
  }
  override create(...args: Parameters<MemFs['create']>): MaybePromise<CreateReply> {
    const created = super.create(...args) as CreateReply;
    const io = this.modes.get(args[2]);
    return { ...created, ...this.#traits(), entry: io === undefined ? created.entry : { ...created.entry, io } };
  }
  override open(...args: Parameters<MemFs['open']>): OpenReply {
    return { ...super.open(...args), ...this.#traits() };
  }
  override opendir(...args: Parameters<MemFs['opendir']>): OpenReply {
    return { ...super.opendir(...args), ...this.#traits() };
  }
  override backingFd(backingId: number): number | undefined {
    return this.backing === undefined ? undefined : this.backing + backingId;
  }
  #traits(): { traits?: OpenTraits } {
    return this.traits === undefined ? {} : { traits: this.traits };
  }
}

test('files are opened in the mode that their inode came with', async () => {
  const fs = new ModesFs();
  fs.modes.set('direct', { mode: 'direct' });
  fs.modes.set('cached', { mode: 'cached' });
  await session(fs, async ({ peer }) => {
    const flagsOf = async (name: string): Promise<number[]> => {
      const fill = (request: Parameters<NonNullable<Parameters<typeof peer.must>[2]>>[0]): void => {
        request.create_in.flags = O_RDWR;
        request.create_in.mode = 0o100644;
        request.name(nameBytes(name));
      };
      const made = await peer.must(op.FUSE_CREATE, ROOT_ID, fill);
      const first = made.open_out.open_flags;
      const node = made.entry_out.nodeid;
      return [first, (await peer.must(op.FUSE_OPEN, node, ({ open_in }) => (open_in.flags = O_RDWR))).open_out.open_flags];
    };
    assert.deepEqual(await flagsOf('file'), [flag.FOPEN_KEEP_CACHE, flag.FOPEN_KEEP_CACHE]);
    assert.deepEqual(await flagsOf('cached'), [flag.FOPEN_KEEP_CACHE, flag.FOPEN_KEEP_CACHE]);
    assert.deepEqual(await flagsOf('direct'), [flag.FOPEN_DIRECT_IO, flag.FOPEN_DIRECT_IO]);
    const rows: [OpenTraits, number][] = [
      [{ direct: true }, flag.FOPEN_DIRECT_IO],
      [{ direct: true, parallelWrites: true }, flag.FOPEN_DIRECT_IO | flag.FOPEN_PARALLEL_DIRECT_WRITES],
      [{ parallelWrites: true }, flag.FOPEN_KEEP_CACHE],
      [{ dropsCache: true }, 0],
      [{ nonseekable: true }, flag.FOPEN_KEEP_CACHE | flag.FOPEN_NONSEEKABLE],
      [{ stream: true, direct: true }, flag.FOPEN_DIRECT_IO | flag.FOPEN_STREAM],
      [{ noflush: true }, flag.FOPEN_KEEP_CACHE | flag.FOPEN_NOFLUSH],
    ];
    for (const [index, [traits, expected]] of rows.entries()) {
      fs.traits = traits;
      assert.deepEqual(await flagsOf(`traits ${index}`), [expected, expected], JSON.stringify(traits));
    }
    const directory = async (traits: OpenTraits | undefined): Promise<number> => {
      fs.traits = traits;
      return (await peer.must(op.FUSE_OPENDIR, ROOT_ID)).open_out.open_flags;
    };
    assert.equal(await directory(undefined), flag.FOPEN_CACHE_DIR | flag.FOPEN_KEEP_CACHE);
    assert.equal(await directory({ dropsCache: true }), flag.FOPEN_CACHE_DIR);
    assert.equal(await directory({ uncachedListing: true }), 0);
  });
});

test('a mode cannot change while the kernel has the inode, and may once it was forgotten', async () => {
  const fs = new ModesFs();
  fs.modes.set('f', { mode: 'direct' });
  await session(fs, async ({ peer, notices }) => {
    const { node, fh } = await peer.create('f');
    fs.modes.set('f', { mode: 'cached' });
    await peer.fails('EIO', op.FUSE_LOOKUP, ROOT_ID, named('f'));
    assert.match(notices.join(), /node 2: its mode is direct .* cannot become cached \(EBUSY\)/);
    fs.modes.set('f', { mode: 'direct' });
    await peer.must(op.FUSE_LOOKUP, ROOT_ID, named('f'));
    await peer.must(op.FUSE_RELEASE, node, ({ release_in }) => (release_in.fh = fh));
    peer.post(op.FUSE_FORGET, node, ({ forget_in }) => (forget_in.nlookup = 2));
    await peer.fails('ESTALE', op.FUSE_GETATTR, node); // what was refused was not counted
    fs.modes.set('f', { mode: 'cached' });
    await peer.must(op.FUSE_LOOKUP, ROOT_ID, named('f'));
  });
});

for (const late of [false, true]) {
  test(`passthrough files are opened with the kernel’s number, ${late ? 'when it is there' : 'at once'}, as long as somebody has them`, async () => {
    const fs = new ModesFs();
    for (const name of ['a', 'b']) fs.modes.set(name, { mode: 'passthrough', backingId: 5 });
    const bench = served(fs, { passthrough: true });
    const { peer, channel, notices } = bench;
    const calls: string[] = [];
    Object.assign(channel, {
      backingOpen: (fd: number): MaybePromise<number> => {
        calls.push(`open ${fd}`);
        return late ? turn().then(() => 3) : 3;
      },
      backingClose: (id: number): void => void calls.push(`close ${id}`),
    });
    peer.init();
    const agreed = (await peer.next())?.decodeBody(op.FUSE_INIT);
    assert.equal(agreed?.init_out.max_stack_depth, 1);
    const a = await peer.create('a');
    const opened = await peer.must(op.FUSE_OPEN, a.node, ({ open_in }) => (open_in.flags = O_RDWR));
    assert.deepEqual([opened.open_out.open_flags, opened.open_out.backing_id], [flag.FOPEN_PASSTHROUGH, 3]);
    fs.traits = { direct: true };
    const direct = await peer.must(op.FUSE_OPEN, a.node, ({ open_in }) => (open_in.flags = O_RDWR));
    assert.equal(direct.open_out.open_flags, flag.FOPEN_PASSTHROUGH | flag.FOPEN_DIRECT_IO);
    fs.traits = { stream: true };
    await peer.fails('EIO', op.FUSE_OPEN, a.node, ({ open_in }) => (open_in.flags = O_RDWR));
    fs.traits = undefined;
    const b = await peer.create('b');
    assert.deepEqual(calls, ['open 47']);
    peer.post(op.FUSE_FORGET, a.node, ({ forget_in }) => (forget_in.nlookup = 1));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    assert.deepEqual(calls, ['open 47']);
    peer.post(op.FUSE_FORGET, b.node, ({ forget_in }) => (forget_in.nlookup = 1));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    assert.deepEqual(calls, ['open 47', 'close 3']);
    assert.match(notices.join(), /passthrough cannot be a stream.*EINVAL/);
    peer.close();
    assert.equal(await bench.ended, undefined);
  });
}

test('without passthrough its files are served by the cache, until they are forgotten', async () => {
  const fs = new ModesFs();
  fs.modes.set('a', { mode: 'passthrough', backingId: 5 });
  await session(fs, async ({ peer, notices, channel }) => {
    const { node } = await peer.create('a');
    Object.assign(channel, { backingOpen: () => assert.fail('it was decided') });
    const { open_out } = await peer.must(op.FUSE_OPEN, node, ({ open_in }) => (open_in.flags = O_RDWR));
    assert.equal(open_out.open_flags, flag.FOPEN_KEEP_CACHE);
    assert.equal(notices.length, 1);
    assert.match(notices.join(), /served by the cache instead of passthrough/);
  });
});

test('who polls is woken by a notification with his handle, if he asked for one', async () => {
  const wakes: (() => void)[] = [];
  const fs = new (class extends MemFs {
    override poll(_caller: Caller, _node: number, _fh: number, _events: number, wake?: () => void): number {
      if (wake !== undefined) wakes.push(wake);
      return 0;
    }
  })();
  await session(fs, async ({ peer, near }) => {
    const heard: number[] = [];
    near.onNotify = (bytes) => {
      const told = new Reply().decode(bytes);
      assert.equal(told.notification?.name, 'FUSE_NOTIFY_POLL');
      heard.push(Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(16, true)));
    };
    const { node, fh } = await peer.create('file');
    const poll = async (kh: number, flags: number): Promise<void> => {
      const reply = await peer.must(op.FUSE_POLL, node, ({ poll_in }) => {
        Object.assign(poll_in, { fh, kh, flags, events: 1 });
      });
      assert.equal(reply.poll_out.revents, 0);
    };
    await poll(11, 0);
    assert.equal(wakes.length, 0);
    await poll(12, flag.FUSE_POLL_SCHEDULE_NOTIFY);
    wakes[0]?.();
    await turn();
    assert.deepEqual(heard, [12]);
  });
});

test('ioctl: room is bounded, and programs of another word size, and character devices, are refused', async () => {
  const fs = new (class extends MemFs {
    override ioctl(
      _c: Caller,
      _n: number,
      _fh: number,
      cmd: number,
      arg: Uint8Array,
      outSize: number,
    ): { result: number; data: Uint8Array } {
      return {
        result: cmd,
        data: Uint8Array.from(arg)
          .reverse()
          .subarray(0, cmd === 9 ? outSize + 1 : outSize),
      };
    }
  })();
  await session(fs, async ({ peer, bugs }) => {
    const { node, fh } = await peer.create('file');
    const call = (cmd: number, flags: number, data: number[], out_size: number) =>
      [
        op.FUSE_IOCTL,
        node,
        (request: Parameters<NonNullable<Parameters<typeof peer.must>[2]>>[0]): void => {
          Object.assign(request.ioctl_in, { fh, cmd, flags, in_size: data.length, out_size });
          request.data(Uint8Array.from(data));
        },
      ] as const;
    const reply = await peer.must(...call(7, flag.FUSE_IOCTL_DIR, [1, 2, 3], 2), 2);
    assert.equal(reply.ioctl_out.result, 7);
    assert.deepEqual([...reply.bytes.subarray(reply.dataStart, reply.dataEnd)], [3, 2]);
    for (const flags of [flag.FUSE_IOCTL_COMPAT | flag.FUSE_IOCTL_32BIT, flag.FUSE_IOCTL_COMPAT_X32, flag.FUSE_IOCTL_UNRESTRICTED]) {
      await peer.fails('ENOTTY', ...call(7, flags, [], 0));
    }
    await peer.fails('EINVAL', ...call(7, 0, [], 2 ** 31));
    await peer.fails('EIO', ...call(9, 0, [1, 2, 3], 1)); // more than there is room for
    assert.deepEqual(bugs, []);
  });
});

test('a request whose time is up is answered with ETIMEDOUT and interrupted; its late answer is dropped, and what it hands over taken back', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const gate = deferred();
  const signals: (() => boolean | undefined)[] = [];
  const inner = new MemFs();
  const fs = filtered(
    {
      after: (name, args) => {
        if (name !== 'lookup' && name !== 'create') return;
        signals.push(() => (args[0] as Caller).signal?.aborted);
        return gate.promise;
      },
    },
    inner,
  );
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  inner.forget((await inner.mkdir(ROOT, 1, 'd', 0o755)).node, 1);
  await session(
    fs,
    async ({ peer, server, notices }) => {
      const first = peer.post(op.FUSE_LOOKUP, ROOT_ID, named('d'));
      await peer.must(op.FUSE_GETATTR, ROOT_ID);
      now = 6_000;
      const second = peer.post(op.FUSE_CREATE, ROOT_ID, (request) => {
        request.create_in.mode = 0o100644;
        request.name(nameBytes('f'));
      });
      await peer.must(op.FUSE_GETATTR, ROOT_ID);
      assert.deepEqual(
        server.inFlight.map(({ operation, since }) => [operation, since]),
        [
          ['FUSE_LOOKUP', 0],
          ['FUSE_CREATE', 6000],
        ],
      );
      now = 10_000;
      t.mock.timers.tick(10_000);
      let reply = await peer.next();
      assert.deepEqual([reply?.unique, reply?.error], [first, -110]);
      assert.deepEqual(
        signals.map((is) => is()),
        [true, false],
      );
      assert.equal(server.inFlight.length, 1);
      now = 16_000;
      t.mock.timers.tick(6_000);
      reply = await peer.next();
      assert.deepEqual([reply?.unique, reply?.error], [second, -110]);
      let { timedOut, late, inFlight } = server.metrics;
      assert.deepEqual([timedOut, late, inFlight], [2, 2, 0]);
      assert.equal(notices.length, 2);
      gate.resolve();
      await peer.must(op.FUSE_GETATTR, ROOT_ID);
      await turn();
      ({ timedOut, late, inFlight } = server.metrics);
      assert.deepEqual([timedOut, late, inFlight], [2, 0, 0]);
      await peer.fails('ESTALE', op.FUSE_GETATTR, 2); // nobody has looked it up
    },
    { requestTimeout: 10 },
  );
});

test('who waits for a lock has time, unless the kernel would end the connection over it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  for (const kernelHasIt of [false, true]) {
    now = 0;
    const options = { requestTimeout: 10, ...(kernelHasIt ? {} : { withoutFlags: [init.FUSE_REQUEST_TIMEOUT] }) };
    await session(
      new MemFs(),
      async ({ peer, server }) => {
        const { node, fh } = await peer.create('file');
        await peer.must(op.FUSE_SETLK, node, locking(fh, 1n, F_WRLCK));
        peer.post(op.FUSE_SETLKW, node, locking(fh, 2n, F_RDLCK));
        await peer.must(op.FUSE_GETATTR, ROOT_ID);
        now = 60_000;
        t.mock.timers.tick(60_000);
        await turn();
        assert.equal(server.inFlight.length, kernelHasIt ? 0 : 1);
        if (kernelHasIt) assert.equal((await peer.next())?.error, -110);
      },
      options,
    );
  }
});

test('a request that comes again while it is under way is answered once, with the mark of the copy', async () => {
  const gate = deferred();
  await session(filtered({ before: (name) => (name === 'mkdir' ? gate.promise : undefined) }), async ({ peer }) => {
    const unique = peer.post(op.FUSE_MKDIR, ROOT_ID, named('d'));
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    const again = new Uint8Array(40 + 8 + 2);
    const view = new DataView(again.buffer);
    view.setUint32(0, again.length, true);
    view.setUint32(4, op.FUSE_MKDIR, true);
    view.setBigUint64(8, BigInt(unique) + 2n ** 63n, true);
    view.setBigUint64(16, 1n, true);
    again.set(nameBytes('d'), 48);
    peer.raw(again);
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    gate.resolve();
    const reply = await peer.next();
    assert.deepEqual([reply?.unique, reply?.isResend, reply?.error], [unique, true, 0]);
    await peer.must(op.FUSE_LOOKUP, ROOT_ID, named('d'));
  });
});

test('file handles: "." is the node itself and ".." where it is, also when they were forgotten', async () => {
  await session(new MemFs(), async ({ peer }) => {
    const parent = (await peer.must(op.FUSE_MKDIR, ROOT_ID, named('d'))).entry_out.nodeid;
    const child = (await peer.must(op.FUSE_MKDIR, parent, named('e'))).entry_out.nodeid;
    peer.post(op.FUSE_FORGET, child, ({ forget_in }) => (forget_in.nlookup = 1));
    await peer.fails('ESTALE', op.FUSE_GETATTR, child);
    assert.equal((await peer.must(op.FUSE_LOOKUP, child, named('.'))).entry_out.nodeid, child);
    await peer.must(op.FUSE_GETATTR, child);
    assert.equal((await peer.must(op.FUSE_LOOKUP, child, named('..'))).entry_out.nodeid, parent);
    assert.equal((await peer.must(op.FUSE_LOOKUP, parent, named('..'))).entry_out.nodeid, ROOT_ID);
    await peer.fails('ESTALE', op.FUSE_LOOKUP, 4711, named('.'));
    peer.post(op.FUSE_FORGET, child, ({ forget_in }) => (forget_in.nlookup = 1));
    await peer.must(op.FUSE_RMDIR, parent, named('e'));
    await peer.fails('ESTALE', op.FUSE_LOOKUP, child, named('.'));
  });
  await session(new MemFs(), ({ peer }) => peer.fails('ESTALE', op.FUSE_LOOKUP, ROOT_ID, named('.')), { exportSupport: false });
});

test('files of a filesystem that keeps none open are used without OPEN', async () => {
  const inner = new MemFs();
  const fs = new (class extends MemFs {
    override readonly isStateless = true;
    override opendir(): OpenReply {
      return assert.fail('nobody opens');
    }
    override open(): OpenReply {
      return assert.fail('nobody opens');
    }
  })();
  await session(
    fs,
    async ({ peer }) => {
      await peer.fails('ENOSYS', op.FUSE_OPEN, ROOT_ID);
      await peer.fails('ENOSYS', op.FUSE_OPENDIR, ROOT_ID);
    },
    { noOpen: true, noOpendir: true },
  );
  await inner.destroy();
});

test('new inodes get the security contexts of their makers; what cannot have them stays without, what fails is not made', async () => {
  const gate = { code: undefined as 'EOPNOTSUPP' | 'ENOSPC' | undefined };
  const inner = new MemFs();
  const fs = filtered(
    {
      before: (name) =>
        name === 'setxattr' && gate.code !== undefined ? Promise.reject(Object.assign(new Error('x'), { code: gate.code })) : undefined,
    },
    inner,
  );
  const contexts = [{ name: nameBytes('security.selinux'), value: nameBytes('user_u:object_r:x\0') }];
  await session(
    fs,
    async ({ peer }) => {
      const make = (name: string) => (request: Parameters<NonNullable<Parameters<typeof peer.must>[2]>>[0]) => {
        request.name(nameBytes(name));
        request.securityContexts(contexts);
      };
      const { nodeid } = (await peer.must(op.FUSE_MKDIR, ROOT_ID, make('d'))).entry_out;
      assert.equal(nameOf(inner.getxattr(ROOT, nodeid, 'security.selinux') as Uint8Array), 'user_u:object_r:x\0');
      const made = await peer.must(op.FUSE_CREATE, ROOT_ID, (request) => {
        request.create_in.mode = 0o100644;
        make('f')(request);
      });
      assert.ok(inner.getxattr(ROOT, made.entry_out.nodeid, 'security.selinux'));
      await peer.must(op.FUSE_MKDIR, ROOT_ID, (request) => {
        request.name(nameBytes('none'));
        request.securityContexts([]); // as a kernel without labels has it
      });
      gate.code = 'ENOSPC';
      await peer.fails('ENOSPC', op.FUSE_MKDIR, ROOT_ID, make('full'));
      await peer.fails('ENOSPC', op.FUSE_CREATE, ROOT_ID, (request) => {
        request.create_in.mode = 0o100644;
        make('full file')(request);
      });
      gate.code = undefined;
      for (const name of ['full', 'full file']) await peer.fails('ENOENT', op.FUSE_LOOKUP, ROOT_ID, named(name));
    },
    { securityContext: true },
  );
});

test('set-id bits go with an ACL, a copy and a preallocation of one who may not keep them', async () => {
  const fs = new MemFs();
  await session(fs, async ({ peer }) => {
    const { node, fh } = await peer.create('file');
    await peer.must(op.FUSE_WRITE, node, writing(fh, 0, new Uint8Array(10)));
    const setMode = (mode: number) =>
      peer.must(op.FUSE_SETATTR, node, ({ setattr_in }) => Object.assign(setattr_in, { valid: flag.FATTR_MODE, mode }));
    const modeOf = (): number => fs.getattr(ROOT, node).mode & 0o7777;
    const acl = minimalAcl();
    const setAcl = (setxattr_flags: number) =>
      peer.must(op.FUSE_SETXATTR, node, (request) => {
        Object.assign(request.setxattr_in, { size: acl.length, setxattr_flags });
        request.name(nameBytes(XATTR_NAME_POSIX_ACL_ACCESS)).data(acl);
      });
    await setMode(S_ISGID | 0o755);
    await setAcl(0);
    assert.equal(modeOf() & S_ISGID, S_ISGID);
    await setAcl(flag.FUSE_SETXATTR_ACL_KILL_SGID);
    assert.equal(modeOf() & S_ISGID, 0);

    await setMode(S_ISUID | S_ISGID | 0o755);
    peer.caller = { uid: 1000, gid: 1000, pid: 1 };
    await peer.must(op.FUSE_COPY_FILE_RANGE_64, node, ({ copy_file_range_in }) => {
      Object.assign(copy_file_range_in, { fh_in: fh, off_in: 0, nodeid_out: node, fh_out: fh, off_out: 100, len: 5n });
    });
    assert.equal(modeOf() & (S_ISUID | S_ISGID), 0);
  });
});

/** u::rwx g::r-x o::r-x, as setxattr takes it. */
function minimalAcl(): Uint8Array {
  const bytes = new Uint8Array(4 + 3 * 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 2, true);
  for (const [index, [tag, perm]] of [[1, 7] as const, [4, 5] as const, [0x20, 5] as const].entries()) {
    view.setUint16(4 + index * 8, tag, true);
    view.setUint16(6 + index * 8, perm, true);
    view.setUint32(8 + index * 8, 0xffffffff, true);
  }
  return bytes;
}

for (const [isExportable, expected] of [[true, 1001] as const, [false, 0xffffffff] as const]) {
  test(`a listing tells inode numbers of "." and "..", not numbers of nodes, ${isExportable ? 'where' : 'as far as'} the parent is known`, async () => {
    const renumbered = new (class extends MemFs {
      override getattr(...args: Parameters<MemFs['getattr']>): ReturnType<MemFs['getattr']> {
        const attr = super.getattr(...args);
        return { ...attr, ino: attr.ino + 1000 };
      }
      override parentOf(...args: Parameters<MemFs['parentOf']>): ReturnType<MemFs['parentOf']> {
        const entry = super.parentOf(...args);
        return { ...entry, attr: { ...entry.attr, ino: entry.attr.ino + 1000 } };
      }
    })();
    Object.defineProperty(renumbered, 'isExportable', { value: isExportable });
    await session(renumbered, async ({ peer }) => {
      const { nodeid } = (await peer.must(op.FUSE_MKDIR, ROOT_ID, named('d'))).entry_out;
      const dots = async (node: number): Promise<unknown[]> => {
        const { fh } = (await peer.must(op.FUSE_OPENDIR, node)).open_out;
        const { bytes, dataStart, dataEnd } = await peer.must(op.FUSE_READDIR, node, reading(fh, 0, 4096), 4096);
        const records = new DirentReader().begin(bytes, dataStart, dataEnd, false, 255);
        const found = new Map<string, number>();
        while (records.step()) found.set(nameOf(bytes, records.nameStart, records.nameEnd), records.ino);
        return [found.get('.'), found.get('..')];
      };
      assert.deepEqual(await dots(ROOT_ID), [1001, 1001]);
      assert.deepEqual(await dots(nodeid), [nodeid + 1000, expected]);
    });
  });
}

test('answers that nobody waits for any more are counted, and what they handed over is taken back', () =>
  session(new MemFs(), async ({ peer, server, channel }) => {
    channel.loss = 'ENOENT';
    peer.post(op.FUSE_MKDIR, ROOT_ID, named('d'));
    await peer.fails('ESTALE', op.FUSE_GETATTR, 2);
    const { inFlight, timedOut, late, unwanted } = server.metrics;
    assert.deepEqual([inFlight, timedOut, late, unwanted], [0, 0, 0, 1]);
    assert.deepEqual(structuredClone(server.metrics), server.metrics);
  }));

for (const paths of [true, false]) {
  test(`a request under way is told ${paths ? 'with its path, as its names were last heard' : 'without its path, if that is not wanted'}`, async () => {
    let gate = deferred();
    await session(
      filtered({ before: (name) => (name === 'statfs' ? gate.promise : undefined) }),
      async ({ peer, server }) => {
        const d = (await peer.must(op.FUSE_MKDIR, ROOT_ID, named('d'))).entry_out.nodeid;
        const e = (await peer.must(op.FUSE_MKDIR, d, named('e'))).entry_out.nodeid;
        const pathOf = async (node: number): Promise<string | undefined> => {
          gate = deferred();
          peer.post(op.FUSE_STATFS, node);
          await peer.must(op.FUSE_GETATTR, ROOT_ID);
          const path = server.inFlight[0]?.path;
          gate.resolve();
          await peer.next();
          return path;
        };
        assert.equal(await pathOf(e), paths ? '/d/e' : undefined);
        assert.equal(await pathOf(ROOT_ID), paths ? '/' : undefined);
        await peer.must(op.FUSE_RENAME, ROOT_ID, (request) => {
          request.rename_in.newdir = 1;
          named('d', 'moved')(request);
        });
        assert.equal(await pathOf(e), paths ? '/moved/e' : undefined);
        await peer.must(op.FUSE_RMDIR, d, named('e'));
        assert.equal(await pathOf(e), undefined);
      },
      { paths },
    );
  });
}

test('while a filesystem needs the event loop, or something is on its way to the kernel, the thread does not stand still', async () => {
  let needs = false;
  const fs = new (class extends MemFs {
    override get needsEventLoop(): boolean {
      return needs;
    }
  })();
  const { peer, channel, server, near, ended } = served(fs);
  const asked: boolean[] = [];
  const receive = channel.receive.bind(channel);
  channel.receive = (into, mayBlock) => {
    asked.push(mayBlock);
    return receive(into, mayBlock);
  };
  const last = async (): Promise<boolean | undefined> => {
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    await turn();
    return asked.at(-1);
  };
  peer.init();
  await peer.next();
  assert.equal(await last(), true);
  needs = true;
  assert.equal(await last(), false);
  needs = false;
  assert.equal(await last(), true);
  const hold = deferred();
  near.onNotify = () => hold.promise;
  const told = server.notify.invalInode(1, -1, 0);
  assert.equal(await last(), false);
  hold.resolve();
  await told;
  assert.equal(await last(), true);
  peer.close();
  assert.equal(await ended, undefined);
});

test('until a timer of the filesystem is due the thread may stand still if the channel wakes it then, and only then', async () => {
  let nextDue: number | undefined;
  const fs = new (class extends MemFs {
    override get nextDue(): number | undefined {
      return nextDue;
    }
  })();
  const { peer, channel, ended } = served(fs);
  const asked: boolean[] = [];
  const receive = channel.receive.bind(channel);
  channel.receive = (into, mayBlock) => {
    asked.push(mayBlock);
    return receive(into, mayBlock);
  };
  const last = async (): Promise<boolean | undefined> => {
    await peer.must(op.FUSE_GETATTR, ROOT_ID);
    await turn();
    return asked.at(-1);
  };
  peer.init();
  await peer.next();
  assert.equal(await last(), true);
  nextDue = performance.now() + 60_000;
  assert.equal(await last(), false);
  const alarms: number[] = [];
  (channel as FuseChannel).wakeIn = (delayMs) => alarms.push(delayMs);
  assert.equal(await last(), true);
  assert.equal(await last(), true);
  assert.equal(alarms.length, 1); // one alarm for one timer
  assert.ok((alarms[0] as number) > 50_000 && (alarms[0] as number) <= 60_000);
  nextDue = performance.now() + 30_000;
  assert.equal(await last(), true);
  assert.equal(alarms.length, 2); // an earlier one
  nextDue = performance.now();
  assert.equal(await last(), false); // it is due
  nextDue = undefined;
  assert.equal(await last(), true);
  peer.close();
  assert.equal(await ended, undefined);
});

test('a mount and a Vfs of one filesystem: what one changes the other is told, and asks again', async () => {
  const shared = new SharedFileSystem(new MemFs());
  const vfs = new Vfs(shared.face());
  const face: FileSystem = shared.face();
  await session(face, async ({ peer, near, server }) => {
    assert.equal(init.hasInitFlag(server.agreement.flags, init.FUSE_WRITEBACK_CACHE), false);
    const heard: string[] = [];
    near.onNotify = (bytes) => {
      const told = new Reply().decode(bytes);
      const isInode = told.notification?.name === 'FUSE_NOTIFY_INVAL_INODE';
      const what = isInode ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(16, true) : nameOf(bytes, told.nameStart, told.nameEnd);
      heard.push(`${told.notification?.name.slice(12)} ${what}`);
    };
    const { node, fh } = await peer.create('f');
    assert.equal((await vfs.stat(ROOT, '/f')).size, 0);
    await peer.must(op.FUSE_WRITE, node, writing(fh, 0, new Uint8Array(100)));
    assert.equal((await vfs.stat(ROOT, '/f')).size, 100);
    await turn();
    assert.deepEqual(heard, []); // what it did itself it knows

    await vfs.truncate(ROOT, '/f', 10);
    await (await vfs.open(ROOT, '/g', O_RDWR | O_CREAT)).close(ROOT);
    await vfs.unlink(ROOT, '/f');
    await turn();
    assert.deepEqual([...new Set(heard)].sort(), ['DELETE f', 'INVAL_ENTRY g', 'INVAL_INODE 1', `INVAL_INODE ${node}`]);
    await peer.fails('ENOENT', op.FUSE_LOOKUP, ROOT_ID, named('f'));
  });
  assert.equal((await vfs.stat(ROOT, '/g')).size, 0);
  await vfs.close();
});
