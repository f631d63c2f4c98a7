// Mounts that are used by their own process, killed, kept busy, refused, and made and ended many times.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mount } from '../../src/fuse/mount/mount.ts';
import { isMounted, MEM_SOURCE, whyNoMount, withDirectory, withMount } from '../support/fuse-mount.ts';

const CHILD = fileURLToPath(new URL('./serve-child.js', import.meta.url));
const FAULTY = new URL('./faulty-source.js', import.meta.url);

/** A process that serves a mount. Resolves once it is there. */
async function serveElsewhere(directory: string, what: 'serve' | 'exit' | 'exit-busy'): Promise<ChildProcess> {
  const child = spawn(process.execPath, [CHILD, directory, what], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = (await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), once(child, 'exit')])) as unknown[];
  assert.equal(String(said), 'mounted\n');
  return child;
}

const exitOf = async (child: ChildProcess): Promise<unknown> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode ?? child.signalCode;
};

const entriesOf = (directory: string): number => readdirSync(directory).length;

suite('mounts', { skip: whyNoMount() }, () => {
  test('the calling thread may use its own mount synchronously', { timeout: 20_000 }, () =>
    withMount(async (directory) => {
      const file = join(directory, 'file');
      const bytes = Buffer.alloc(3_000_000, 'abcdefg');
      writeFileSync(file, bytes);
      assert.ok(readFileSync(file).equals(bytes));
      truncateSync(file, 10);
      assert.equal(readFileSync(file, 'utf8'), 'abcdefgabc');
      mkdirSync(join(directory, 'a', 'b'), { recursive: true });
      renameSync(file, join(directory, 'a', 'b', 'c'));
      symlinkSync('b/c', join(directory, 'a', 'link'));
      assert.equal(statSync(join(directory, 'a', 'link')).size, 10);
      assert.deepEqual(readdirSync(join(directory, 'a')).sort(), ['b', 'link']);
      rmSync(join(directory, 'a'), { recursive: true });
      assert.deepEqual(readdirSync(directory), []);
    }),
  );

  test('a server that is killed during load leaves ENOTCONN, hangs nobody, and its directory can be used again', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const server = await serveElsewhere(directory, 'serve');
      // Each ends at its first error.
      const script =
        'while :; do dd if=/dev/zero of=load.$$ bs=64k count=32 conv=fsync; cat load.$$; ls -la; echo round >&3; rm load.$$; done';
      const loads = [1, 2, 3].map(() => {
        return spawn('sh', ['-ec', script], { cwd: directory, stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
      });
      try {
        await Promise.all(loads.map((load) => once(load.stdio[3] as NodeJS.ReadableStream, 'data')));
        server.kill('SIGKILL');
        assert.equal(await exitOf(server), 'SIGKILL');
        for (const load of loads) assert.notEqual(await exitOf(load), 0);
        assert.throws(() => statSync(directory), { code: 'ENOTCONN' });
        assert.throws(() => writeFileSync(join(directory, 'file'), ''), { code: 'ENOTCONN' });
      } finally {
        server.kill('SIGKILL');
        for (const load of loads) load.kill('SIGKILL');
      }
      const gone = spawn('umount', [directory]);
      assert.equal(await exitOf(gone), 0);
      const again = await mount(MEM_SOURCE, directory);
      writeFileSync(join(directory, 'file'), 'new');
      assert.equal(readFileSync(join(directory, 'file'), 'utf8'), 'new');
      await again.unmount();
    }),
  );

  test('a mount in use is EBUSY and goes on; taken out of the tree, it ends with its last user', { timeout: 20_000 }, () =>
    withDirectory(async (directory) => {
      const mounted = await mount(MEM_SOURCE, directory);
      const file = join(directory, 'file');
      writeFileSync(file, 'content');
      const fd = openSync(file, 'r');
      await assert.rejects(mounted.unmount(), { code: 'EBUSY' });
      assert.equal(readFileSync(file, 'utf8'), 'content');

      let isOver = false;
      const over = mounted.unmount({ lazy: true }).then(() => (isOver = true));
      while (isMounted(directory)) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(readdirSync(directory), []);
      const bytes = Buffer.alloc(10);
      assert.equal(readSync(fd, bytes, 0, 10, 0), 7);
      assert.equal(isOver, false);
      closeSync(fd);
      await over;
      assert.equal(await mounted.ended, undefined);
      await mounted.unmount();
    }),
  );

  test('an unmount by somebody else ends the mount too', { timeout: 20_000 }, () =>
    withDirectory(async (directory) => {
      const mounted = await mount(MEM_SOURCE, directory);
      assert.equal(await exitOf(spawn('umount', [directory])), 0);
      assert.equal(await mounted.ended, undefined);
      await mounted.unmount();
    }),
  );

  test('an administrator can abort a mount: callers fail, and the mount has ended', { timeout: 20_000 }, (t) =>
    withDirectory(async (directory) => {
      const mounted = await mount(MEM_SOURCE, directory);
      // The connection is named by the minor number of the device that the mount is.
      const connection = String(statSync(directory).dev & 0xff);
      await withDirectory(async (control) => {
        if ((await exitOf(spawn('mount', ['-t', 'fusectl', 'fusectl', control]))) !== 0) return t.skip('fusectl cannot be mounted');
        writeFileSync(join(control, connection, 'abort'), '1');
        assert.equal(await mounted.ended, undefined);
        assert.throws(() => statfsSync(directory), { code: 'ENOTCONN' });
      });
      await mounted.unmount();
      assert.equal(isMounted(directory), false);
    }),
  );

  test('what cannot be mounted says why, and leaves nothing behind', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const code = (text: string): string => `data:text/javascript,${encodeURIComponent(text)}`;
      const threads = entriesOf('/proc/self/task');
      const fds = entriesOf('/proc/self/fd');
      const file = join(directory, 'file');
      writeFileSync(file, '');
      const refused: [string, URL | string, string, object, object?][] = [
        ['throws', code("export default () => { throw new Error('no such image') }"), directory, { code: 'EIO', message: /no such image/ }],
        [
          'throws an error of a filesystem',
          code("export default async () => { throw Object.assign(new Error('x'), { code: 'EUCLEAN' }) }"),
          directory,
          { code: 'EUCLEAN' },
        ],
        ['throws when it is loaded', code("throw new Error('broken module')"), directory, { message: /broken module/ }],
        ['is no module', code('this is no JavaScript'), directory, { code: 'EIO' }],
        ['does not exist', new URL('./no-such-source.js', import.meta.url), directory, { message: /no-such-source/ }],
        ['has no default export', code('export const fs = 1'), directory, { code: 'EINVAL', message: /default export/ }],
        ['makes no FileSystem', code('export default () => ({})'), directory, { code: 'EINVAL', message: /no FileSystem/ }],
        ['leaves at once', code('process.exit(0)'), directory, { code: 'EIO' }],
        ['is for a missing directory', MEM_SOURCE, join(directory, 'missing'), { code: 'ENOENT' }],
        ['is for a file', MEM_SOURCE, file, { code: 'ENOTDIR' }],
        ['has a largest write that is none', MEM_SOURCE, directory, { code: 'EINVAL' }, { maxWrite: 1 }],
        ['has a name with words for mount(8)', MEM_SOURCE, directory, { code: 'EINVAL' }, { fsname: 'a,dev' }],
      ];
      for (const [what, source, where, error, options] of refused) {
        await assert.rejects(mount(source, where, options), error, `a source that ${what}`);
        assert.equal(isMounted(directory), false, what);
      }
      assert.equal(entriesOf('/proc/self/fd'), fds);
      assert.equal(entriesOf('/proc/self/task'), threads);
    }),
  );

  test('a fault in the filesystem is EIO for one request; one that nobody catches ends the mount', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const bugs: string[] = [];
      const fds = entriesOf('/proc/self/fd');
      const mounted = await mount(FAULTY, directory, { onBug: (request, stack) => bugs.push(`${request}: ${stack}`) });
      assert.throws(() => mkdirSync(join(directory, 'throw')), { code: 'EIO' });
      mkdirSync(join(directory, 'fine'));
      const child = spawn('mkdir', [join(directory, 'die')], { stdio: 'ignore' });
      const error = await mounted.ended;
      assert.match(String(error), /a fault that nobody catches/);
      assert.notEqual(await exitOf(child), 0);
      assert.equal(isMounted(directory), false);
      assert.match(bugs.join(), /^FUSE_MKDIR: TypeError: a fault of the filesystem\n/);
      await assert.rejects(mounted.unmount(), { code: 'EIO' });
      assert.equal(entriesOf('/proc/self/fd'), fds);
    }),
  );

  test('a request that never returns shows as long as it is under way, and ends when its time is up', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const mounted = await mount(FAULTY, directory, { requestTimeout: 2 });
      const child = spawn('mkdir', [join(directory, 'stuck')], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, LC_ALL: 'C' },
      });
      let said = '';
      child.stderr.on('data', (piece: Buffer) => (said += piece.toString()));
      const closed = once(child, 'close');
      // What comes before it (GETATTR, LOOKUP) shows too, for a moment.
      const stuck = () => mounted.inFlight.find(({ operation }) => operation === 'FUSE_MKDIR');
      while (stuck() === undefined) {
        assert.equal(child.exitCode, null);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const request = stuck();
      assert.deepEqual([request?.node, request?.name, request?.pid], [1, 'stuck', child.pid]);
      // Others are served meanwhile.
      mkdirSync(join(directory, 'fine'));
      await closed;
      assert.equal(child.exitCode, 1);
      assert.match(said, /timed out/);
      assert.deepEqual(mounted.inFlight, []);
      assert.deepEqual(mounted.metrics.operations['FUSE_MKDIR']?.errors, { ETIMEDOUT: 1 });
      await mounted.unmount();
    }),
  );

  for (const what of ['exit', 'exit-busy'] as const) {
    test(`a process that leaves leaves no mount: ${what}`, { timeout: 20_000 }, () =>
      withDirectory(async (directory) => {
        const child = await serveElsewhere(directory, what);
        try {
          assert.equal(await exitOf(child), 3);
          assert.equal(isMounted(directory), false);
          assert.deepEqual(readdirSync(directory), []);
        } finally {
          child.kill('SIGKILL');
        }
      }),
    );
  }
});
