// What a server tells the kernel by itself, on mounts that are served in this process: other programs use them meanwhile.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { IovIter } from '../../src/base/iov-iter.ts';
import { deferred, type MaybePromise } from '../../src/base/task.ts';
import { attach } from '../../src/fuse/mount/attachment.ts';
import { newControl } from '../../src/fuse/mount/mount.ts';
import { mountHere } from '../../src/fuse/mount/mount-here.ts';
import type { ServerOptions } from '../../src/fuse/server/options.ts';
import { FuseServer } from '../../src/fuse/server/server.ts';
import { DevFuse } from '../../src/fuse/transport/dev-fuse.ts';
import { type Caller, ROOT } from '../../src/vfs/caller.ts';
import type { FileSystem, Kiocb, Notifier } from '../../src/vfs/file-system.ts';
import { nameBytes } from '../../src/vfs/name.ts';
import { SharedFileSystem } from '../../src/vfs/shared-file-system.ts';
import { O_CREAT, O_RDWR, O_TRUNC } from '../../src/vfs/uapi.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import { whyNoMount, withDirectory } from '../support/fuse-mount.ts';
import { MemFs } from '../support/mem-fs.ts';

/**
 * Runs a script in a directory. Shape: what it printed, and its exit code behind it if that is not 0. The shell goes there itself: to start a
 * program there, this thread would wait for the directory that it serves.
 */
async function sh(script: string, directory: string): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C', DIRECTORY: directory };
  const child = spawn('sh', ['-c', `cd "$DIRECTORY" || exit 99; ${script}`], { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'], env });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => (text += piece.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return code === 0 ? text : `${text}exit ${code}`;
}

/** Mounts `fs` with a server in reach, on this thread's event loop. */
async function withServer(
  fs: FileSystem,
  use: (directory: string, server: FuseServer, notices: readonly string[]) => Promise<void>,
  options: ServerOptions = {},
): Promise<void> {
  await withDirectory(async (directory) => {
    const { mode } = await fs.getattr(ROOT, fs.root);
    const control = newControl();
    const attachment = await attach(directory, { rootMode: mode, checksAccess: false, isReadOnly: false }, {}, control);
    const device = new DevFuse(attachment.fd, { onEventLoop: true, control });
    const ready = deferred();
    const notices: string[] = [];
    const hooks = { onReady: () => ready.resolve(), onNotice: (text: string) => notices.push(text) };
    const server = new FuseServer(fs, device, options, hooks);
    const ended = server.run();
    await ready.promise;
    try {
      await use(directory, server, notices);
    } finally {
      await attachment.unmount(true);
      await ended;
      device.close();
      await device.closed;
    }
  });
}

/** Tells the kernel about the very directory and file that the request has locked there, and waits for that if it may. */
class TellingFs extends MemFs {
  server: FuseServer | undefined;
  notifier: Notifier | undefined;
  readonly told: boolean[] = [];

  override attach(notifier: Notifier): () => void {
    this.notifier = notifier;
    return super.attach(notifier);
  }
  override lookup(caller: Caller, parent: number, name: string): never {
    this.notifier?.invalEntry(parent, name);
    this.notifier?.invalInode(parent, 0, 0);
    return this.#after(
      () => this.server?.notify.invalEntry(parent, name),
      () => super.lookup(caller, parent, name),
    ) as never;
  }
  override read(caller: Caller, node: number, fh: number, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    this.notifier?.invalInode(node, 0, 0);
    return this.#after(
      () => this.server?.notify.invalInode(node, 0, 0),
      () => super.read(caller, node, fh, iocb, into),
    );
  }
  async #after<T>(tell: () => Promise<boolean> | undefined, answer: () => T | Promise<T>): Promise<T> {
    await new Promise((resolve) => setImmediate(resolve));
    const is = await tell();
    if (is !== undefined) this.told.push(is);
    return answer();
  }
}

suite('notifications on a mount', { skip: whyNoMount() }, () => {
  test('a handler may wait for a notification that the kernel holds until it answers: nothing hangs', { timeout: 30_000 }, () => {
    const fs = new TellingFs();
    return withServer(fs, async (directory, server) => {
      fs.server = server;
      const script = 'echo content > file; for i in 1 2 3 4 5; do cat file; ls -l file > /dev/null; mkdir d; mv d e; rmdir e; done';
      assert.equal(await sh(script, directory), 'content\n'.repeat(5));
      assert.ok(fs.told.length > 5);
      assert.ok(
        fs.told.every((is) => !is),
        'none was waited for until the kernel took it',
      );
      for (let turns = 0; server.metrics.notifications.underWay > 0; turns++) {
        assert.ok(turns < 1000, 'all are taken in the end');
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      assert.ok(server.metrics.notifications.taken > 0);
    });
  });

  test('raw notifications do what they say', { timeout: 30_000 }, () => {
    const counts = new Map<string, number>();
    class CountingFs extends MemFs {
      override lookup(...args: Parameters<MemFs['lookup']>): ReturnType<MemFs['lookup']> {
        counts.set('lookup', (counts.get('lookup') ?? 0) + 1);
        return super.lookup(...args);
      }
      override read(...args: Parameters<MemFs['read']>): ReturnType<MemFs['read']> {
        counts.set('read', (counts.get('read') ?? 0) + 1);
        return super.read(...args);
      }
    }
    const fs = new CountingFs();
    return withServer(fs, async (directory, { notify, nodes }) => {
      assert.equal(await sh('printf hello > file; cat file', directory), 'hello');
      const node = fs.lookup(ROOT, 1, 'file')?.node ?? 0;
      const during = async (script: string): Promise<[string, number, number]> => {
        counts.clear();
        const said = await sh(script, directory);
        return [said, counts.get('lookup') ?? 0, counts.get('read') ?? 0];
      };
      assert.deepEqual(await during('cat file'), ['hello', 0, 0]);
      assert.equal(await notify.invalInode(node, 0, 0), true);
      assert.deepEqual(await during('cat file'), ['hello', 0, 1]);
      await notify.expireEntry(1, 'file');
      assert.deepEqual((await during('cat file')).slice(0, 2), ['hello', 1]);
      await notify.incEpoch();
      assert.deepEqual((await during('cat file')).slice(0, 2), ['hello', 1]);
      assert.deepEqual(await notify.retrieve(node, 1, 3), nameBytes('ell'));
      await notify.store(node, 0, nameBytes('HELLO'));
      assert.equal((await during('cat file'))[0], 'HELLO');
      await notify.invalEntry(1, 'file');
      assert.deepEqual((await during('cat file'))[1], 1);
      await assert.rejects(notify.invalEntry(1, 'nothing'), { code: 'ENOENT' });
      await assert.rejects(notify.invalInode(4711, 0, 0), { code: 'ENOENT' });
      await assert.rejects(notify.delete(1, 4711, 'file'), { code: 'ENOENT' });
      assert.equal((await during('cat file'))[1], 1); // it was dropped all the same
      assert.equal(await notify.delete(1, node, 'file'), true);
      assert.equal(await notify.prune([node, 4711]), true);
      assert.equal(await notify.resend(), true);
      assert.equal(await notify.poll(99), true);
      assert.equal(nodes.size, 0);
    });
  });

  test('a Vfs and a mount of one filesystem show each other’s changes at once, though all is cached for ever', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const shared = new SharedFileSystem(new MemFs());
      const vfs = new Vfs(shared.face());
      const mounted = await mountHere(shared.face(), directory);
      try {
        const put = async (path: string, text: string): Promise<void> => {
          const file = await vfs.open(ROOT, path, O_RDWR | O_CREAT | O_TRUNC);
          await file.write(ROOT, new IovIter(nameBytes(text)), 0);
          await file.close(ROOT);
        };
        // A notification has been taken once the kernel shows it; each is asked for until it does, or the test runs out of time.
        const shows = async (script: string, expected: string): Promise<void> => {
          for (;;) {
            const said = await sh(script, directory);
            if (said === expected) return;
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        };
        await put('/f', 'one');
        await shows('cat f; ls', 'onef\n');
        await put('/f', 'longer');
        await shows('cat f; stat -c %s f', 'longer6\n');
        await put('/g', 'new');
        await shows('ls; cat g', 'f\ng\nnew');
        await vfs.rename(ROOT, '/g', '/h');
        await shows('ls; cat h', 'f\nh\nnew');
        await vfs.link(ROOT, '/h', '/i');
        await shows('stat -c %h h i', '2\n2\n');
        await vfs.unlink(ROOT, '/i');
        await shows('stat -c %h h; ls', '1\nf\nh\n');
        await vfs.setattr(ROOT, '/h', { mode: 0o600 });
        await shows('stat -c %a h', '600\n');
        await vfs.unlink(ROOT, '/h');
        await shows('ls', 'f\n');

        assert.equal(await sh('printf changed > f; mkdir d; mv f d/f', directory), '');
        assert.equal((await vfs.stat(ROOT, '/d/f')).size, 7);
        await assert.rejects(async () => vfs.stat(ROOT, '/f'), { code: 'ENOENT' });
      } finally {
        await mounted.unmount();
      }
      assert.equal((await vfs.stat(ROOT, '/d/f')).size, 7);
      await vfs.close();
    }),
  );

  test('who polls is woken', { timeout: 30_000 }, () => {
    let isReady = false;
    const asked: number[] = [];
    class PollFs extends MemFs {
      override poll(_caller: Caller, _node: number, _fh: number, events: number, wake?: () => void): number {
        asked.push(events);
        if (isReady) return 1;
        if (wake !== undefined) {
          setTimeout(() => {
            isReady = true;
            wake();
          }, 50);
        }
        return 0;
      }
    }
    return withServer(new PollFs(), async (directory) => {
      await sh('echo > file', directory);
      const script = 'open my $f, "<", "file" or die; my $r = ""; vec($r, fileno($f), 1) = 1; print scalar(select($r, undef, undef, 20))';
      assert.equal(await sh(`perl -e '${script}'`, directory), '1');
      assert.ok(asked.length >= 2);
    });
  });

  test('a request that never returns is ETIMEDOUT for its caller, and the mount goes on', { timeout: 30_000 }, () => {
    class StuckFs extends MemFs {
      override mkdir(...args: Parameters<MemFs['mkdir']>): ReturnType<MemFs['mkdir']> {
        return args[2] === 'stuck' ? new Promise(() => {}) : super.mkdir(...args);
      }
    }
    return withServer(
      new StuckFs(),
      async (directory, server, notices) => {
        assert.match(await sh('mkdir stuck', directory), /timed out.*exit 1/s);
        assert.equal(await sh('mkdir fine; ls', directory), 'fine\n');
        assert.match(notices.join(), /FUSE_MKDIR of node 1 was answered with ETIMEDOUT/);
        const { timedOut, late } = server.metrics;
        assert.deepEqual([timedOut, late], [1, 1]);
      },
      { requestTimeout: 0.3 },
    );
  });

  test('direct files are read past the cache, passthrough files by the kernel', { timeout: 30_000 }, async (t) => {
    const { openSync, closeSync, writeFileSync, constants } = await import('node:fs');
    await withDirectory(async (outside) => {
      writeFileSync(join(outside, 'backing'), 'of the host');
      const fd = openSync(join(outside, 'backing'), constants.O_RDWR);
      const reads: string[] = [];
      class ModesFs extends MemFs {
        readonly #names = new Map<number, string>();
        override lookup(...args: Parameters<MemFs['lookup']>): ReturnType<MemFs['lookup']> {
          const entry = super.lookup(...args);
          if (entry === undefined) return undefined;
          this.#names.set(entry.node, args[2]);
          const io =
            args[2] === 'direct'
              ? ({ mode: 'direct' } as const)
              : args[2] === 'pass'
                ? ({ mode: 'passthrough', backingId: 1 } as const)
                : entry.io;
          return { ...entry, io };
        }
        override read(...args: Parameters<MemFs['read']>): ReturnType<MemFs['read']> {
          reads.push(this.#names.get(args[1]) ?? '');
          return super.read(...args);
        }
        override backingFd(): number {
          return fd;
        }
      }
      const fs = new ModesFs();
      for (const name of ['direct', 'pass', 'cached']) {
        const { entry, fh } = await fs.create(ROOT, 1, name, 0o644, O_RDWR);
        await fs.write(ROOT, entry.node, fh, { pos: 0, flags: 0 }, new IovIter(nameBytes('of memory  ')));
        await fs.release(entry.node, fh);
      }
      try {
        await withServer(
          fs,
          async (directory, _server, notices) => {
            for (let i = 0; i < 2; i++) assert.equal(await sh('cat direct cached', directory), 'of memory  '.repeat(2));
            assert.equal(reads.filter((name) => name === 'cached').length, 1);
            assert.ok(reads.filter((name) => name === 'direct').length >= 2);
            if (notices.length > 0) return t.diagnostic(notices.join());
            const said = await sh('cat pass; cat pass', directory);
            if (notices.length > 0) return t.skip(notices.join());
            assert.equal(said, 'of the host'.repeat(2));
            assert.equal(reads.includes('pass'), false);
          },
          { passthrough: true },
        );
      } finally {
        closeSync(fd);
      }
    });
  });
});
