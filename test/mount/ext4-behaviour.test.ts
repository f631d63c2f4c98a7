// Where drivers of ext4 outside the kernel break: what a mounted image does at its edges, and what it leaves in the image.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mount } from '../../src/fuse/mount/mount.ts';
import { openImage } from '../../src/image/image.ts';
import { Libc } from '../../src/sys/libc.ts';
import { nameBytes } from '../../src/vfs/name.ts';
import { FALLOC_FL_KEEP_SIZE, SEEK_DATA, SEEK_HOLE } from '../../src/vfs/uapi.ts';
import { isMounted, withDirectory } from '../support/fuse-mount.ts';
import { manifestOf, runProgram, runShell } from '../support/programs.ts';
import { IMAGE_SOURCE, type ImageKind, ImageMount, whyNoImages, withImage } from '../support/programs-image.ts';

const SERVE = fileURLToPath(new URL('./image-child.js', import.meta.url));
const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const SMALL: ImageKind = { options: '-t ext4 -b 4096', size: 64 };
const MIB = 2 ** 20;
const TIB = 2 ** 40;
const skip = whyNoImages();
const TEST = { timeout: 60_000, skip };

/** A process that serves an image. Resolves once it is mounted. */
async function serveElsewhere({ image, directory }: ImageMount): Promise<ChildProcess> {
  const child = spawn(process.execPath, [SERVE, image, directory], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = (await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), once(child, 'exit')])) as unknown[];
  assert.equal(String(said), 'mounted\n');
  return child;
}

const exitOf = async (child: ChildProcess): Promise<unknown> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode ?? child.signalCode;
};

/** Does somebody have the image open? */
const isLocked = (image: string): boolean => spawnSync('flock', ['-n', image, 'true']).status !== 0;

const errnoOf = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
  return 'no error';
};

suite('an ext4 image that is mounted', () => {
  test('answers as the kernel does at its edges', TEST, async (t) => {
    await withImage(SMALL, async (volume) => {
      await volume.mount();
      const { directory } = volume;
      const path = (name: string): string => join(directory, name);
      const libc = new Libc();

      await t.test('names of more than 255 bytes are ENAMETOOLONG, and nothing is touched', () => {
        fs.writeFileSync(path('there'), '');
        const long = path('x'.repeat(256));
        const before = [fs.statfsSync(directory).ffree, fs.statSync(directory, { bigint: true }).mtimeNs];
        const calls: Record<string, () => unknown> = {
          open: () => fs.openSync(long, 'w'),
          mkdir: () => fs.mkdirSync(long),
          mknod: () => libc.mknod(nameBytes(long), 0o10644, 0),
          symlink: () => fs.symlinkSync('target', long),
          link: () => fs.linkSync(path('there'), long),
          rename: () => fs.renameSync(path('there'), long),
          'rename from': () => fs.renameSync(long, path('there')),
          unlink: () => fs.unlinkSync(long),
          stat: () => fs.statSync(long),
        };
        for (const [name, call] of Object.entries(calls)) assert.equal(errnoOf(call), 'ENAMETOOLONG', name);
        assert.deepEqual([fs.statfsSync(directory).ffree, fs.statSync(directory, { bigint: true }).mtimeNs], before);
        fs.writeFileSync(path('x'.repeat(255)), 'long');
        assert.equal(fs.readFileSync(path('x'.repeat(255)), 'utf8'), 'long');
      });

      await t.test('a size that no file has is EFBIG: at once from truncate, at fsync from the cache of the kernel', () => {
        const fd = fs.openSync(path('large'), 'w+');
        try {
          fs.ftruncateSync(fd, 16 * TIB - 4096);
          assert.equal(fs.fstatSync(fd).size, 16 * TIB - 4096);
          for (const size of [16 * TIB + 1, 2 ** 53 - 1])
            assert.equal(
              errnoOf(() => fs.ftruncateSync(fd, size)),
              'EFBIG',
            );
          assert.equal(
            errnoOf(() => libc.fallocate(fd, 0, 20 * TIB, 4096)),
            'EFBIG',
          );
          assert.equal(fs.fstatSync(fd).size, 16 * TIB - 4096);
          assert.equal(fs.writeSync(fd, 'x', 17 * TIB), 1);
          assert.equal(
            errnoOf(() => fs.fsyncSync(fd)),
            'EFBIG',
          );
        } finally {
          fs.closeSync(fd);
        }
        fs.unlinkSync(path('large'));
      });

      await t.test('holes are holes and data is data, before and after it is written back', () => {
        const fd = fs.openSync(path('sparse'), 'w+');
        try {
          fs.ftruncateSync(fd, 10 * MIB);
          fs.writeSync(fd, 'data', MIB);
          libc.fallocate(fd, 0, 4 * MIB, MIB);
          for (const round of ['dirty', 'clean']) {
            const seen: number[] = [];
            for (let pos = 0; ; ) {
              try {
                const start = libc.lseek(fd, pos, SEEK_DATA);
                pos = libc.lseek(fd, start, SEEK_HOLE);
                seen.push(start, pos);
              } catch (error) {
                assert.equal((error as NodeJS.ErrnoException).code, 'ENXIO');
                break;
              }
            }
            assert.deepEqual(seen, [MIB, MIB + 4096], round);
            fs.fsyncSync(fd);
          }
          assert.ok(fs.fstatSync(fd).blocks * 512 >= MIB + 4096);
        } finally {
          fs.closeSync(fd);
        }
      });

      await t.test('a file that another takes the place of goes on for who has it open', () => {
        fs.writeFileSync(path('old'), 'old content');
        fs.writeFileSync(path('new'), 'new content');
        const fd = fs.openSync(path('old'), 'r+');
        try {
          const { ino } = fs.fstatSync(fd);
          fs.renameSync(path('new'), path('old'));
          const stat = fs.fstatSync(fd);
          assert.deepEqual([stat.ino, stat.nlink, stat.size], [ino, 0, 11]);
          fs.writeSync(fd, 'still', 4);
          fs.fsyncSync(fd);
          fs.fchmodSync(fd, 0o600);
          fs.ftruncateSync(fd, 9);
          assert.equal(fs.readFileSync(fd, 'utf8'), 'old still');
          assert.equal(fs.fstatSync(fd).mode & 0o777, 0o600);
          assert.equal(fs.readFileSync(path('old'), 'utf8'), 'new content');
        } finally {
          fs.closeSync(fd);
        }
      });

      await t.test('the time of birth is told, and stays', () => {
        const before = Date.now();
        fs.writeFileSync(path('born'), 'x');
        const { birthtimeMs, ctimeMs } = fs.statSync(path('born'));
        assert.ok(birthtimeMs >= before - 20 && birthtimeMs <= ctimeMs + 20, `${birthtimeMs}, from ${before} to ${ctimeMs}`);
        fs.utimesSync(path('born'), 1, 1);
        fs.renameSync(path('born'), path('reborn'));
        assert.equal(fs.statSync(path('reborn')).birthtimeMs, birthtimeMs);
      });

      await t.test('lsattr shows what chattr changes, and the flags mean what they say', async () => {
        const flags = async (name: string): Promise<string> => (await runProgram(directory, 'lsattr', '-d', name)).split(' ')[0] as string;
        const file = path('flagged');
        fs.writeFileSync(file, 'content');
        fs.mkdirSync(path('flagged-directory'));

        await runProgram(directory, 'chattr', '+i', 'flagged');
        assert.match(await flags('flagged'), /i/);
        for (const call of [
          () => fs.openSync(file, 'r+'),
          () => fs.unlinkSync(file),
          () => fs.renameSync(file, `${file}2`),
          () => fs.linkSync(file, `${file}2`),
          () => fs.chmodSync(file, 0o600),
          () => fs.truncateSync(file, 1),
        ]) {
          assert.equal(errnoOf(call), 'EPERM', String(call));
        }
        await runProgram(directory, 'chattr', '-i', '+a', 'flagged');
        assert.equal(
          errnoOf(() => fs.openSync(file, 'r+')),
          'EPERM',
        );
        assert.equal(
          errnoOf(() => fs.truncateSync(file, 1)),
          'EPERM',
        );
        fs.appendFileSync(file, ' and more');
        await runProgram(directory, 'chattr', '-a', '+j', 'flagged');
        assert.match(await flags('flagged'), /j/);
        fs.writeFileSync(file, 'x'.repeat(100_000));
        await runProgram(directory, 'chattr', '-j', '+d', '+A', 'flagged');
        assert.match(await flags('flagged'), /^-+d-*A-+e-+$/);
        assert.equal(fs.readFileSync(file, 'utf8'), 'x'.repeat(100_000));
        await runProgram(directory, 'chattr', '+dS', 'flagged-directory');
        fs.writeFileSync(path('flagged-directory/child'), '');
        assert.match(await flags('flagged-directory/child'), /S.*d/);
        await runProgram(directory, 'lsattr', '-v', 'flagged');
      });

      await t.test('copy_file_range copies, but not onto an immutable file', async () => {
        fs.writeFileSync(path('from'), 'a'.repeat(10_000));
        fs.writeFileSync(path('to'), 'b');
        const from = fs.openSync(path('from'), 'r');
        const to = fs.openSync(path('to'), 'r+');
        try {
          assert.equal(libc.copyFileRange(from, 1, to, 5000, 9000), 9000);
          await runProgram(directory, 'chattr', '+i', 'to');
          assert.equal(
            errnoOf(() => libc.copyFileRange(from, 0, to, 0, 100)),
            'EPERM',
          );
          await runProgram(directory, 'chattr', '-i', 'to');
          assert.ok(fs.readFileSync(path('to')).equals(Buffer.concat([Buffer.from('b'), Buffer.alloc(4999), Buffer.alloc(9000, 'a')])));
        } finally {
          fs.closeSync(from);
          fs.closeSync(to);
        }
      });

      await t.test('a full volume is ENOSPC, and goes on once there is room', () => {
        const { bavail } = fs.statfsSync(directory);
        const fd = fs.openSync(path('fill'), 'w+');
        try {
          assert.equal(
            errnoOf(() => libc.fallocate(fd, 0, 0, 2 * bavail * 4096)),
            'ENOSPC',
          );
          libc.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (bavail - 50) * 4096);
          const cached = fs.openSync(path('cached'), 'w');
          fs.writeSync(cached, Buffer.alloc(16 * MIB, 'x'));
          assert.equal(
            errnoOf(() => fs.fsyncSync(cached)),
            'ENOSPC',
          );
          fs.closeSync(cached);
          const direct = libc.open(nameBytes(path('direct')), fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_DIRECT, 0o644);
          assert.equal(
            errnoOf(() => libc.fallocate(direct, 0, 0, 16 * MIB)),
            'ENOSPC',
          );
          libc.close(direct);
        } finally {
          fs.closeSync(fd);
        }
        for (const name of ['fill', 'cached']) fs.unlinkSync(path(name));
        fs.writeFileSync(path('after'), Buffer.alloc(16 * MIB, 'y'), { flush: true });
        assert.ok(fs.readFileSync(path('after')).equals(Buffer.alloc(16 * MIB, 'y')));
        fs.unlinkSync(path('after'));
      });
    });
  });

  test('counts its space as the kernel does', TEST, async (t) => {
    await withImage(SMALL, async (volume) => {
      const { directory, image } = volume;
      await volume.mount();
      fs.writeFileSync(join(directory, 'file'), Buffer.alloc(5 * MIB, 'x'), { flush: true });
      for (let i = 0; i < 100; i++) fs.mkdirSync(join(directory, `d${i}`));
      const ours = fs.statfsSync(directory);
      await volume.unmountClean();
      const mounted = spawnSync('mount', ['-o', 'loop,ro', image, directory], { encoding: 'utf8' });
      if (mounted.status !== 0) return t.skip(`the kernel does not mount it here: ${mounted.stderr}`);
      try {
        const { bsize, blocks, bfree, bavail, files, ffree } = fs.statfsSync(directory);
        const { bsize: ourBsize, blocks: ourBlocks, bfree: ourBfree, bavail: ourBavail, files: ourFiles, ffree: ourFfree } = ours;
        assert.deepEqual([ourBsize, ourBlocks, ourBfree, ourBavail, ourFiles, ourFfree], [bsize, blocks, bfree, bavail, files, ffree]);
      } finally {
        assert.equal(spawnSync('umount', [directory]).status, 0);
      }
    });
  });

  test('is locked until the last byte is in the image: what unmounts returns then', TEST, async () => {
    await withImage(SMALL, async (volume) => {
      await volume.mount();
      const { directory, image } = volume;
      assert.ok(isLocked(image));
      fs.writeFileSync(join(directory, 'dirty'), Buffer.alloc(20 * MIB, 'x'));
      await volume.unmount();
      assert.ok(!isLocked(image));
      const hash = volume.hash();
      const { mtimeMs } = fs.statSync(image);
      volume.assertClean();

      // The same by the command, whose process has ended when it returns.
      const words = ['--args', JSON.stringify({ path: image, options: {} }), fileURLToPath(IMAGE_SOURCE), directory];
      const env = { ...process.env, IOMAP_RUNTIME_DIR: join(directory, '..', 'run') };
      const iomap = (...args: string[]) => spawnSync(process.execPath, [MAIN, ...args], { env, encoding: 'utf8' });
      const mounted = iomap('mount', ...words);
      assert.equal(mounted.status, 0, mounted.stderr);
      assert.ok(isLocked(image));
      fs.writeFileSync(join(directory, 'dirty'), Buffer.alloc(20 * MIB, 'y'));
      const ended = iomap('umount', directory);
      assert.equal(ended.status, 0, ended.stderr);
      assert.ok(!isLocked(image));
      const after = volume.hash();
      assert.notEqual(after, hash);
      assert.ok(fs.statSync(image).mtimeMs > mtimeMs);
      volume.assertClean();
      assert.equal(volume.hash(), after);
    });
  });

  test('is one writer’s or many readers’', TEST, async () => {
    await withImage(SMALL, async (volume) => {
      const { directory, image } = volume;
      await volume.mount();
      fs.writeFileSync(join(directory, 'file'), 'content');
      await withDirectory(async (other) => {
        const open = (readOnly: boolean) => mount(IMAGE_SOURCE, other, { args: { path: image, options: { readOnly } } });
        await assert.rejects(open(false), { code: 'EBUSY' });
        await assert.rejects(open(true), { code: 'EBUSY' });
        await assert.rejects(openImage(image), { code: 'EBUSY' });
        assert.equal(isMounted(other), false);
        await volume.unmount();
        await volume.mount({ readOnly: true });
        const reader = await open(true);
        assert.equal(fs.readFileSync(join(other, 'file'), 'utf8'), 'content');
        assert.equal(fs.readFileSync(join(directory, 'file'), 'utf8'), 'content');
        await assert.rejects(openImage(image), { code: 'EBUSY' });
        await reader.unmount();
      });
    });
  });

  test('is not changed by a byte by who mounts it read-only: clean, or with a log to replay', TEST, async () => {
    await withImage(SMALL, async (volume) => {
      const { directory, image } = volume;
      const server = await serveElsewhere(volume);
      fs.mkdirSync(join(directory, 'd'));
      fs.writeFileSync(join(directory, 'd', 'file'), 'content', { flush: true });
      server.kill('SIGKILL');
      await exitOf(server);
      spawnSync('umount', [directory]);
      const look = async (): Promise<string[]> => {
        const before = volume.hash();
        const { mtimeMs } = fs.statSync(image);
        await volume.mount({ readOnly: true });
        const manifest = await manifestOf(directory);
        assert.equal(fs.readFileSync(join(directory, 'd', 'file'), 'utf8'), 'content');
        assert.equal(
          errnoOf(() => fs.writeFileSync(join(directory, 'new'), '')),
          'EROFS',
        );
        assert.equal(
          errnoOf(() => fs.utimesSync(join(directory, 'd'), 1, 1)),
          'EROFS',
        );
        await volume.unmount();
        assert.equal(volume.hash(), before);
        assert.equal(fs.statSync(image).mtimeMs, mtimeMs);
        return manifest;
      };
      assert.match(await runShell('/', `dumpe2fs -h '${image}' 2>/dev/null`), /needs_recovery/);
      const dirty = await look();
      await volume.mount();
      await volume.unmountClean();
      assert.deepEqual(await look(), dirty);
    });
  });

  test(
    'whose server is killed under load answers ENOTCONN, hangs nobody, and has what was synced when it is mounted again',
    TEST,
    async () => {
      await withImage({ options: '-t ext4 -b 4096', size: 256 }, async (volume) => {
        const { directory } = volume;
        const server = await serveElsewhere(volume);
        // Each ends at its first error, and says what is durable.
        const script =
          'i=0; while :; do i=$((i + 1)); mkdir -p $0/$i; seq $i $((i + 5000)) > $0/$i/f; mv $0/$i/f $0/$i/g; sync -d $0/$i/g; sync $0/$i; echo $0/$i/g >&3; rm -rf $0/$((i - 5)); done';
        const loads = ['a', 'b', 'c'].map((name) => {
          return spawn('sh', ['-ec', script, name], { cwd: directory, stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
        });
        const durable: string[] = [];
        try {
          await new Promise<void>((resolve) => {
            for (const load of loads) {
              (load.stdio[3] as NodeJS.ReadableStream).on('data', (data: Buffer) => {
                durable.push(...data.toString().trim().split('\n'));
                if (durable.length >= 60) resolve();
              });
            }
          });
          server.kill('SIGKILL');
          assert.equal(await exitOf(server), 'SIGKILL');
          for (const load of loads) assert.notEqual(await exitOf(load), 0);
          assert.equal(
            errnoOf(() => fs.statSync(directory)),
            'ENOTCONN',
          );
          assert.equal(
            errnoOf(() => fs.writeFileSync(join(directory, 'file'), '')),
            'ENOTCONN',
          );
        } finally {
          server.kill('SIGKILL');
          for (const load of loads) load.kill('SIGKILL');
        }
        assert.equal(await exitOf(spawn('umount', [directory])), 0);
        assert.ok(!isLocked(volume.image));
        await volume.mount();
        for (const load of ['a', 'b', 'c']) {
          const last = Math.max(...durable.filter((name) => name.startsWith(`${load}/`)).map((name) => Number(name.split('/')[1])));
          for (let i = Math.max(1, last - 3); i <= last; i++) {
            const expected = Array.from({ length: 5001 }, (_, n) => `${i + n}\n`).join('');
            assert.equal(fs.readFileSync(join(directory, load, String(i), 'g'), 'utf8'), expected, `${load}/${i}`);
          }
        }
        fs.writeFileSync(join(directory, 'file'), 'new');
        await volume.unmountClean();
      });
    },
  );

  test('tells who syncs that its device fails, turns read-only, and ends', TEST, async () => {
    await withDirectory(async (folder) => {
      // An image with holes on a host filesystem that is smaller than what comes.
      assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', folder]).status, 0);
      const volume = new ImageMount(folder, SMALL);
      try {
        await volume.mount();
        const { directory } = volume;
        fs.writeFileSync(join(directory, 'before'), 'content', { flush: true });
        const fd = fs.openSync(join(directory, 'large'), 'w');
        fs.writeSync(fd, Buffer.alloc(30 * MIB, 'x'));
        // The device says that it is full; a disk that is broken says EIO.
        assert.equal(
          errnoOf(() => fs.fsyncSync(fd)),
          'ENOSPC',
        );
        fs.closeSync(fd);
        assert.equal(fs.readFileSync(join(directory, 'before'), 'utf8'), 'content');
        assert.match(
          errnoOf(() => fs.writeFileSync(join(directory, 'after'), 'x', { flush: true })),
          /^(EIO|EROFS)$/,
        );
        await volume.unmount().catch((error) => assert.match(String(error), /EIO|EROFS|ENOSPC/));
        assert.ok(!isLocked(volume.image));
      } finally {
        await volume.end();
      }
    });
  });
});
