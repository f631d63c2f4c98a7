import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { MemFs } from '../../test/support/mem-fs.ts';
import { FsError } from '../base/fs-error.ts';
import type { MaybePromise } from '../base/task.ts';
import type { Caller } from '../vfs/caller.ts';
import type { Fh, Kiocb, NodeId } from '../vfs/file-system.ts';
import { Volume } from './volume.ts';

/** A filesystem whose data is far away: it answers no one who does not wait. */
class DistantFs extends MemFs {
  isDistant = false;
  minds = true;

  override read(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    if (!this.isDistant) return super.read(caller, node, fh, iocb, into);
    if (caller.nowait === true && this.minds) throw new FsError('EAGAIN', 'read');
    return Promise.resolve().then(() => super.read(caller, node, fh, iocb, into));
  }
}

test('promises and synchronous methods see the same files and descriptors', async () => {
  await using volume = Volume.create(new MemFs());
  const { sync } = volume;
  await volume.mkdir('/a/b', { recursive: true });
  sync.writeFileSync('/a/b/c', 'abc');
  assert.equal(await volume.readFile('/a/b/c', 'utf8'), 'abc');
  const handle = await volume.open('/a/b/c');
  const bytes = Buffer.alloc(3);
  assert.equal(sync.readSync(handle.fd, bytes, 0, 3, 0), 3);
  assert.equal(sync.readFileSync(handle.fd, 'utf8'), 'abc');
  await handle.close();
  assert.throws(() => sync.readSync(3, bytes), { code: 'EBADF', message: 'EBADF: bad file descriptor, read' });
});

test('a whole file is written and read with flags, modes and encodings', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', '6869', { encoding: 'hex', mode: 0o600 });
  await volume.writeFile('/file', '!', { flag: 'a' });
  await volume.appendFile('/file', ['?', '?']);
  assert.equal(await volume.readFile('/file', { encoding: 'utf8' }), 'hi!??');
  assert.ok(Buffer.isBuffer(await volume.readFile('/file')));
  assert.equal((await volume.stat('/file')).mode & 0o777, 0o600);
  await assert.rejects(volume.writeFile('/file', '', { flag: 'wx' }), { code: 'EEXIST', syscall: 'open', path: '/file' });
  await assert.rejects(volume.readFile('/'), { code: 'EISDIR', syscall: 'read' });
  await assert.rejects(volume.writeFile('/file', 5 as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"data" argument/ });
  assert.equal((await volume.stat('/file')).size, 5, 'a wrong argument changes nothing');
  assert.throws(() => volume.sync.writeFileSync('/file', ['a'] as never), { code: 'ERR_INVALID_ARG_TYPE' });
});

test('a handle stands for its path where node:fs takes one', async () => {
  await using volume = Volume.create(new MemFs());
  const handle = await volume.open('/file', 'w+');
  await volume.writeFile(handle, 'abc');
  await volume.appendFile(handle, 'def');
  assert.equal(await volume.readFile('/file', 'utf8'), 'abcdef');
  assert.equal(await volume.readFile(handle, 'utf8'), '', 'from the position on');
  await handle.close();
});

test('no descriptor is left open by an operation that fails', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.mkdir('/dir');
  await assert.rejects(volume.readFile('/dir'));
  const broken = (function* () {
    yield 'a';
    throw new Error('no more');
  })();
  await assert.rejects(volume.writeFile('/file', broken), { message: 'no more' });
  assert.equal(volume.sync.openSync('/file'), 3);
  await volume
    .as({ uid: 0 })
    .open('/file')
    .then((handle) => handle.close());
});

test('who waits not gets EAGAIN from what has to wait', async () => {
  const fs = new DistantFs();
  await using volume = Volume.create(fs);
  await volume.writeFile('/file', 'abc');
  fs.isDistant = true;
  assert.throws(() => volume.sync.readFileSync('/file'), { code: 'EAGAIN', syscall: 'read' });
  assert.equal(volume.sync.openSync('/file'), 3, 'the descriptor was given back');
  fs.minds = false;
  assert.throws(() => volume.sync.readSync(3, Buffer.alloc(1)), { code: 'EAGAIN', message: /this call has to wait/ });
  assert.equal(await volume.readFile('/file', 'utf8'), 'abc');
});

test('another caller has other rights to the same files', async () => {
  await using volume = Volume.create(new MemFs(), { umask: 0o077 });
  await volume.writeFile('/secret', 'x');
  assert.equal((await volume.stat('/secret')).mode & 0o777, 0o600);
  const guest = volume.as({ uid: 1000 });
  await assert.rejects(guest.readFile('/secret'), { code: 'EACCES', message: "EACCES: permission denied, open '/secret'" });
  assert.throws(() => guest.sync.writeFileSync('/mine', ''), { code: 'EACCES' });
  await volume.chmod('/', 0o777);
  guest.sync.writeFileSync('/mine', '');
  const { uid, gid, mode, dev } = await volume.stat('/mine');
  assert.deepEqual([uid, gid, mode & 0o777], [1000, 1000, 0o600]);
  assert.equal(dev, guest.sync.statSync('/mine').dev, 'one volume, one device');
});

test('volumes are different devices', async () => {
  await using one = Volume.create(new MemFs());
  await using other = Volume.create(new MemFs());
  assert.notEqual((await one.stat('/')).dev, (await other.stat('/')).dev);
});

test('a signal that has come already ends every operation before it begins', async () => {
  await using volume = Volume.create(new MemFs());
  const signal = AbortSignal.abort();
  const aborted = { name: 'AbortError', code: 'ABORT_ERR' };
  await assert.rejects(volume.writeFile('/file', 'x', { signal }), aborted);
  assert.equal(volume.sync.existsSync('/file'), false);
  await assert.rejects(volume.mkdir('/dir', { signal }), aborted);
  await assert.rejects(volume.chmod('/', 0o700, { signal }), aborted);
  await assert.rejects(volume.open('/file', 'w', 0o666, { signal }), aborted);
  await assert.rejects(volume.stat('/', { signal }), aborted);
  assert.equal(volume.sync.existsSync('/file'), false);
  await assert.rejects(volume.stat('/', { signal: 5 as never }), { code: 'ERR_INVALID_ARG_TYPE' });
});

test('after close everything fails with EBADF, and closing again does nothing', async () => {
  const volume = Volume.create(new MemFs());
  const handle = await volume.open('/file', 'w');
  await volume.close();
  await volume.close();
  await assert.rejects(volume.stat('/'), { code: 'EBADF' });
  await assert.rejects(handle.write('x'), { code: 'EBADF' });
  assert.throws(() => volume.sync.readdirSync('/'), { code: 'EBADF' });
});

test('bytes that are no text survive in names', async () => {
  await using volume = Volume.create(new MemFs());
  const name = Buffer.from([0x2f, 0x61, 0xff]);
  await volume.writeFile(name, 'x');
  assert.deepEqual(await volume.readdir('/', 'buffer'), [name.subarray(1)]);
  assert.deepEqual(await volume.readdir('/'), ['a\ufffd']);
  await assert.rejects(volume.readFile('/a\ufffd'), { code: 'ENOENT' });
  await volume.unlink(name);
  assert.deepEqual(await volume.readdir('/'), []);
});

test('descriptors have the synchronous methods of what node:fs lacks', async () => {
  await using volume = Volume.create(new MemFs());
  const { sync } = volume;
  const fd = sync.openSync('/file', 'w+');
  sync.fallocateSync(fd, 0, 8192);
  sync.writeSync(fd, 'x', 5000);
  sync.fsyncSync(fd);
  assert.equal(sync.fstatSync(fd).size, 8192);
  assert.equal(sync.seekHoleSync(fd, 0) >= 0, true);
  sync.fsetXattrSync(fd, 'user.a', 'b');
  assert.deepEqual(sync.flistXattrSync(fd), ['user.a']);
  const other = sync.openSync('/other', 'w+');
  assert.equal(sync.copyFileRangeSync(fd, other, { position: 4999, length: 3 }), 3);
  assert.equal(sync.readFileSync('/other', 'latin1'), '\0x\0');
  sync.lockSync(fd);
  const again = sync.openSync('/file', 'r+');
  assert.throws(() => sync.lockSync(again), { code: 'EAGAIN' });
  for (const each of [fd, other, again]) sync.closeSync(each);
  assert.throws(() => sync.fallocateSync(fd, 0, 1), { code: 'EBADF', syscall: 'fallocate' });
  assert.throws(() => sync.ftruncateSync(fd, 1.5), { code: 'ERR_OUT_OF_RANGE' }, 'arguments are checked before the descriptor');
});

test('without Node everything works but what is made of Node', async () => {
  const script = `
    delete globalThis.Buffer;
    process.getBuiltinModule = undefined;
    const { MemFs } = await import(${JSON.stringify(new URL('../fs/memfs/mem-fs.js', import.meta.url))});
    const { Volume } = await import(${JSON.stringify(new URL('./volume.js', import.meta.url))});
    const volume = Volume.create(new MemFs());
    await volume.writeFile('/file', 'hällo');
    const handle = await volume.open('/file');
    const { bytesRead } = await handle.read({ buffer: new Uint8Array(3) });
    await handle.close();
    const codes = [() => volume.createReadStream('/file'), () => volume.sync.readFileSync('/file', 'hex'), () => volume.sync.statSync(5)].map((call) => {
      try {
        return call();
      } catch (error) {
        return error.code;
      }
    });
    const bytes = await volume.readFile('/file');
    console.log([await volume.readFile('/file', 'utf8'), bytes.constructor.name, bytesRead, ...codes].join(' '));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  assert.equal(stdout.trim(), 'hällo Uint8Array 3 ERR_IOMAP_NO_NODE ERR_IOMAP_NO_NODE ERR_INVALID_ARG_TYPE');
});
