// Files that are used without the open files of a server: with no OPEN at all, and by handles that outlive what the kernel knows.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  accessSync,
  appendFileSync,
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { type Mount, mount } from '../../src/fuse/mount/mount.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { whyNoMount, withDirectory, withMount } from '../support/fuse-mount.ts';

const STATELESS = new URL('./stateless-source.js', import.meta.url);
const IMAGE = new URL('../../src/image/image-source.js', import.meta.url);

const DROP_CACHES = '/proc/sys/vm/drop_caches';
const SLAB = '2';
/** How often the kernel is asked to forget: what somebody just used it keeps for once. */
const DROPS_MAX = 50;
const HANDLE_HEADER = 8;
const HANDLE_MAX = 128;

const countOf = (mounted: Mount, operation: string): number => mounted.metrics.operations[operation]?.count ?? 0;

/** name_to_handle_at and open_by_handle_at(2). Errors: as node:fs has them, with the code only. */
class Handles {
  readonly #nameToHandle: (directory: number, name: string, handle: Uint8Array, mountId: Int32Array, flags: number) => number;
  readonly #openByHandle: (mountFd: number, handle: Uint8Array, flags: number) => number;
  readonly #errno: () => number;

  constructor() {
    const koffi = createRequire(import.meta.url)('koffi') as {
      load(library: null): { func(declaration: string): never };
      errno(): number;
    };
    const libc = koffi.load(null);
    this.#nameToHandle = libc.func('int name_to_handle_at(int, str, void *, void *, int)');
    this.#openByHandle = libc.func('int open_by_handle_at(int, void *, int)');
    this.#errno = () => koffi.errno();
  }

  of(path: string): Uint8Array {
    const handle = new Uint8Array(HANDLE_HEADER + HANDLE_MAX);
    new DataView(handle.buffer).setUint32(0, HANDLE_MAX, true);
    this.#check(this.#nameToHandle(-100, path, handle, new Int32Array(2), 0), 'name_to_handle_at');
    return handle;
  }

  open(mountFd: number, handle: Uint8Array, flags: number): number {
    return this.#check(this.#openByHandle(mountFd, handle, flags), 'open_by_handle_at');
  }

  #check(result: number, syscall: string): number {
    if (result >= 0) return result;
    const errno = this.#errno();
    throw Object.assign(new Error(`${syscall}: errno ${errno}`), { errno });
  }
}

function whyNoHandles(): string | false {
  const why = whyNoMount();
  if (why !== false) return why;
  try {
    createRequire(import.meta.url)('koffi');
    accessSync(DROP_CACHES, constants.W_OK);
  } catch (error) {
    return `handles need koffi, and ${DROP_CACHES}: ${(error as Error).message}`;
  }
  return false;
}

/** Has the kernel forget what nobody uses, until `isSo`. */
async function forgetUntil(isSo: () => boolean): Promise<void> {
  for (let drops = 0; !isSo(); drops++) {
    assert.ok(drops < DROPS_MAX, 'the kernel forgets what nobody uses');
    writeFileSync(DROP_CACHES, SLAB);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

suite('mounts without open files', { skip: whyNoMount() }, () => {
  test('a stateless filesystem is asked once whether files and directories are opened, and never again', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const mounted = await mount(STATELESS, directory, { noOpen: true, noOpendir: true });
      const file = join(directory, 'file');
      writeFileSync(file, 'first');
      for (let i = 0; i < 5; i++) {
        assert.equal(readFileSync(file, 'utf8'), `first${'+'.repeat(i)}`);
        appendFileSync(file, '+');
      }
      const fd = openSync(file, 'r+');
      ftruncateSync(fd, 2);
      fsyncSync(fd);
      closeSync(fd);
      assert.equal(readFileSync(file, 'utf8'), 'fi');
      // O_TRUNC comes as a change of the size.
      writeFileSync(file, 'x');
      assert.equal(statSync(file).size, 1);
      mkdirSync(join(directory, 'd'));
      for (let i = 0; i < 3; i++) {
        assert.deepEqual(readdirSync(directory).sort(), ['d', 'file']);
        assert.deepEqual(readdirSync(join(directory, 'd')), []);
      }
      unlinkSync(file);
      for (const operation of ['FUSE_OPEN', 'FUSE_OPENDIR']) {
        const { count, errors } = mounted.metrics.operations[operation] ?? { count: 0, errors: {} };
        assert.deepEqual([count, errors], [1, { ENOSYS: 1 }], operation);
      }
      await mounted.unmount();
    }),
  );

  test('files and directories can be asked for one without the other', { timeout: 30_000 }, () =>
    withDirectory(async (directory) => {
      const mounted = await mount(STATELESS, directory, { noOpendir: true });
      for (const name of ['a', 'b']) writeFileSync(join(directory, name), name);
      for (const name of ['a', 'b']) assert.equal(readFileSync(join(directory, name), 'utf8'), name);
      for (let i = 0; i < 3; i++) assert.deepEqual(readdirSync(directory).sort(), ['a', 'b']);
      assert.equal(countOf(mounted, 'FUSE_OPENDIR'), 1);
      assert.equal(countOf(mounted, 'FUSE_OPEN'), 2);
      await mounted.unmount();
    }),
  );
});

suite('handles of files', { skip: whyNoHandles() }, () => {
  async function outlive(directory: string, mounted: Mount): Promise<void> {
    const handles = new Handles();
    mkdirSync(join(directory, 'a'));
    mkdirSync(join(directory, 'a', 'b'));
    writeFileSync(join(directory, 'a', 'b', 'file'), 'content');
    writeFileSync(join(directory, 'a', 'gone'), 'content');
    const [file, dir, gone] = ['a/b/file', 'a/b', 'a/gone'].map((name) => handles.of(join(directory, name))) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    unlinkSync(join(directory, 'a', 'gone'));
    const root = openSync(directory, 'r');
    /** By a handle whose number the kernel has to look up. */
    const openForgotten = async (handle: Uint8Array, flags: number): Promise<number> => {
      let fd = -1;
      await forgetUntil(() => {
        const lookups = countOf(mounted, 'FUSE_LOOKUP');
        fd = handles.open(root, handle, flags);
        if (countOf(mounted, 'FUSE_LOOKUP') > lookups) return true;
        closeSync(fd);
        return false;
      });
      return fd;
    };
    try {
      const fd = await openForgotten(file, constants.O_RDWR);
      assert.equal(readFileSync(fd, 'utf8'), 'content');
      appendFileSync(fd, ' and more');
      closeSync(fd);
      assert.equal(readFileSync(join(directory, 'a', 'b', 'file'), 'utf8'), 'content and more');

      // A directory is put where it is now, which takes those above it.
      renameSync(join(directory, 'a', 'b'), join(directory, 'moved'));
      const dirFd = await openForgotten(dir, constants.O_RDONLY | constants.O_DIRECTORY);
      assert.equal(readlinkSync(`/proc/self/fd/${dirFd}`), join(directory, 'moved'));
      assert.deepEqual(readdirSync(`/proc/self/fd/${dirFd}`), ['file']);
      closeSync(dirFd);

      assert.throws(() => handles.open(root, gone, constants.O_RDONLY), { errno: 116 }, 'ESTALE for one that is gone');
    } finally {
      closeSync(root);
    }
  }

  test('those of memfs are opened after the kernel forgot what they lead to', { timeout: 60_000 }, () => withMount(outlive));

  test('those of an ext4 image too', { timeout: 60_000, skip: whyNoE2fsprogs() ?? false }, () =>
    withDirectory(async (folder) => {
      const [path, directory] = [join(folder, 'image'), join(folder, 'mount')];
      mkdirSync(directory);
      execFileSync('mke2fs', ['-q', '-t', 'ext4', '-E', 'root_owner=0:0', path, '16M'], { stdio: ['ignore', 'ignore', 'inherit'] });
      const mounted = await mount(IMAGE, directory, { args: { path, options: {} } });
      try {
        await outlive(directory, mounted);
      } finally {
        await mounted.unmount({ lazy: true });
      }
    }),
  );

  test('without export support they lead nowhere once the kernel forgot', { timeout: 60_000 }, () =>
    withMount(
      async (directory) => {
        const handles = new Handles();
        const path = join(directory, 'file');
        writeFileSync(path, 'content');
        let handle: Uint8Array;
        try {
          handle = handles.of(path);
        } catch (error) {
          // Newer kernels do not even give them.
          assert.equal((error as { errno?: unknown }).errno, 95);
          return;
        }
        const root = openSync(directory, 'r');
        await forgetUntil(() => {
          try {
            closeSync(handles.open(root, handle, constants.O_RDONLY));
            return false;
          } catch (error) {
            assert.equal((error as { errno?: unknown }).errno, 116);
            return true;
          }
        });
        closeSync(root);
      },
      { exportSupport: false },
    ),
  );
});
