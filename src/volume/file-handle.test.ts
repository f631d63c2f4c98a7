import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { deferred, type MaybePromise } from '../base/task.ts';
import type { Caller } from '../vfs/caller.ts';
import type { Fh, Kiocb, NodeId } from '../vfs/file-system.ts';
import { type FileHandle, FileHandle as FileHandleClass } from './file-handle.ts';
import { Volume } from './volume.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** A volume with '/file', which holds `content`, open as `flags` say. */
async function withFile(content: string, flags: string, use: (handle: FileHandle, volume: Volume) => Promise<void>): Promise<void> {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', content);
  const handle = await volume.open('/file', flags);
  await use(handle, volume);
  await handle.close();
}

/** A filesystem whose reads wait until they are let go. */
class SlowFs extends MemFs {
  isSlow = false;
  readonly go = deferred();

  override read(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    if (!this.isSlow) return super.read(caller, node, fh, iocb, into);
    return this.go.promise.then(() => super.read(caller, node, fh, iocb, into));
  }
}

test('read takes a buffer with numbers, a buffer with options, options alone, or nothing', () =>
  withFile('hello world', 'r', async (handle) => {
    const buffer = Buffer.alloc(8);
    assert.deepEqual(await handle.read(buffer, 2, 3, 6), { bytesRead: 3, buffer });
    assert.equal(text(buffer), '\0\0wor\0\0\0');
    assert.deepEqual(await handle.read(buffer, { position: 0 }), { bytesRead: 8, buffer });
    assert.equal(text(buffer), 'hello wo');
    assert.equal((await handle.read({ buffer, offset: 1, length: 2, position: 4n })).bytesRead, 2);
    assert.equal(text(buffer), 'ho lo wo');
    const own = await handle.read();
    assert.equal(own.bytesRead, 11, 'reads above had positions of their own');
    assert.equal(own.buffer.length, 16384);
    assert.equal((await handle.read()).bytesRead, 0);
  }));

test('read and write move the position only where they are given none', () =>
  withFile('abcdef', 'r+', async (handle) => {
    const buffer = Buffer.alloc(2);
    await handle.read(buffer, 0, 2, null);
    await handle.read(buffer, 0, 2, 4);
    await handle.write('XY');
    assert.equal(await handle.readFile('utf8'), 'ef', 'readFile goes on from the position');
    await handle.write('__', 0);
    assert.equal(text((await handle.read({ buffer: Buffer.alloc(6), position: 0 })).buffer), '__XYef');
  }));

test('write takes views of every kind, and text in every encoding', () =>
  withFile('', 'w+', async (handle) => {
    assert.equal((await handle.write(new Uint16Array([0x6261]))).bytesWritten, 2);
    assert.equal((await handle.write(new DataView(new ArrayBuffer(1)))).bytesWritten, 1);
    assert.equal((await handle.write('6869', null, 'hex')).bytesWritten, 2);
    assert.equal((await handle.write(Buffer.from('0123'), { offset: 1, length: 2 })).bytesWritten, 2);
    assert.equal((await handle.writev([Buffer.from('x'), Buffer.from('yz')])).bytesWritten, 3);
    assert.equal(text((await handle.read({ position: 0, buffer: Buffer.alloc(10) })).buffer), 'ab\0hi12xyz');
  }));

test('readv fills one buffer after the other and ends at the first that is not filled', () =>
  withFile('abcde', 'r', async (handle) => {
    const buffers = [Buffer.alloc(2), Buffer.alloc(0), Buffer.alloc(2), Buffer.alloc(2), Buffer.from('zz')];
    assert.deepEqual(await handle.readv(buffers, 0), { bytesRead: 5, buffers });
    assert.deepEqual(buffers.map(text), ['ab', '', 'cd', 'e\0', 'zz']);
    await assert.rejects(handle.readv([]), { code: 'EINVAL', syscall: 'read' });
  }));

test('a file opened to append appends, whatever the position', () =>
  withFile('abc', 'a+', async (handle) => {
    await handle.write('X', 0);
    await handle.appendFile('Y');
    assert.equal(text((await handle.read({ position: 0, buffer: Buffer.alloc(5) })).buffer), 'abcXY');
  }));

test('writeFile takes text, bytes, and what comes in pieces', () =>
  withFile('', 'w+', async (handle, volume) => {
    await handle.writeFile('a');
    await handle.writeFile(new Uint8Array([98]));
    await handle.writeFile(['c', Buffer.from('d')]);
    await handle.writeFile(
      (async function* () {
        yield 'e';
        yield new Uint16Array([0x6766]);
      })(),
      { flush: true },
    );
    assert.equal(await volume.readFile('/file', 'utf8'), 'abcdefg');
  }));

test('attributes are read and changed through the open file', () =>
  withFile('abc', 'r+', async (handle, volume) => {
    await handle.chmod(0o640);
    await handle.chown(7, 8);
    await handle.utimes(1, new Date(2500));
    const stats = await handle.stat();
    assert.deepEqual([stats.mode & 0o7777, stats.uid, stats.gid, stats.atimeMs, stats.mtimeMs, stats.size], [0o640, 7, 8, 1000, 2500, 3]);
    assert.equal((await handle.stat({ bigint: true })).mtimeNs, 2_500_000_000n);
    await handle.truncate(1);
    await handle.truncate(2);
    await handle.sync();
    await handle.datasync();
    assert.equal(await volume.readFile('/file', 'utf8'), 'a\0');
  }));

test('wrong arguments reject, and do not throw', () =>
  withFile('abc', 'r', async (handle) => {
    await assert.rejects(handle.read(5 as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"options" argument/ });
    await assert.rejects(handle.read(Buffer.alloc(2), 3), { code: 'ERR_OUT_OF_RANGE' });
    await assert.rejects(handle.write(5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
    await assert.rejects(handle.stat({ signal: 5 as never }), { code: 'ERR_INVALID_ARG_TYPE', message: /options\.signal/ });
    await assert.rejects(handle.write('x'), { code: 'EBADF', syscall: 'write', message: 'EBADF: bad file descriptor, write' });
  }));

test('after close every method says that the file is closed', () =>
  withFile('abc', 'r', async (handle, volume) => {
    const fd = handle.fd;
    await handle.close();
    await handle.close();
    assert.equal(handle.fd, -1);
    await assert.rejects(handle.read(), { code: 'EBADF', syscall: 'read', message: 'file closed' });
    await assert.rejects(handle.sync(), { code: 'EBADF', syscall: 'fsync', message: 'file closed' });
    assert.throws(() => handle.readableWebStream(), { code: 'ERR_INVALID_STATE', message: 'Invalid state: The FileHandle is closed' });
    assert.throws(() => handle.createReadStream(), { code: 'ERR_OUT_OF_RANGE' });
    const next = await volume.open('/file');
    assert.equal(next.fd, fd, 'the number is free again');
    await next.close();
  }));

test('close waits for what is under way, and lets nothing begin (invariant 1)', async () => {
  const fs = new SlowFs();
  await using volume = Volume.create(fs);
  await volume.writeFile('/file', 'abc');
  const handle = await volume.open('/file');
  fs.isSlow = true;
  const reading = handle.read();
  const closing = handle.close();
  await assert.rejects(handle.read(), { message: 'file closed' });
  const order: string[] = [];
  const both = Promise.all([reading.then(() => order.push('read')), closing.then(() => order.push('close'))]);
  fs.go.resolve();
  await both;
  assert.deepEqual(order, ['read', 'close']);
  assert.equal((await reading).bytesRead, 3);
});

test('a descriptor closed behind the back of its handle is EBADF once', () =>
  withFile('abc', 'r', async (handle, volume) => {
    volume.sync.closeSync(handle.fd);
    await assert.rejects(handle.read(Buffer.alloc(1)), { code: 'EBADF', message: 'EBADF: bad file descriptor, read' });
    const other = await volume.open('/file');
    await assert.rejects(handle.close(), { code: 'EBADF', syscall: 'close' });
    assert.equal((await other.read()).bytesRead, 3, 'the number belongs to somebody else by now');
    await other.close();
  }));

test('a handle tells when it is closed, and is closed at the end of its scope', () =>
  withFile('abc', 'r', async (_handle, volume) => {
    const events: string[] = [];
    {
      await using handle = await volume.open('/file');
      handle.on('close', () => events.push('close'));
      assert.ok(handle instanceof FileHandleClass);
    }
    assert.deepEqual(events, ['close']);
  }));

test('a signal ends what waits, with an AbortError', () =>
  withFile('abc', 'r', async (handle, volume) => {
    await using other = await volume.open('/file', 'r+');
    await other.lock();
    const controller = new AbortController();
    const waiting = handle.lock({ type: 'shared', signal: controller.signal });
    controller.abort();
    await assert.rejects(waiting, { name: 'AbortError', code: 'ABORT_ERR' });
    await assert.rejects(handle.readFile({ signal: AbortSignal.abort() }), { name: 'AbortError', code: 'ABORT_ERR' });
    await assert.rejects(handle.read({ signal: AbortSignal.abort() }), { name: 'AbortError', code: 'ABORT_ERR' });
  }));

test('a signal that comes between two pieces ends a write, and the maker of the pieces is told', async () => {
  await using volume = Volume.create(new MemFs());
  const handle = await volume.open('/file', 'w');
  const controller = new AbortController();
  let isTold = false;
  const pieces = async function* (): AsyncGenerator<string> {
    try {
      yield 'a';
      controller.abort();
      yield 'b';
      yield 'c';
    } finally {
      isTold = true;
    }
  };
  await assert.rejects(handle.writeFile(pieces(), { signal: controller.signal }), { name: 'AbortError' });
  assert.ok(isTold);
  assert.equal(await volume.readFile('/file', 'utf8'), 'a');
  await handle.close();
});

test('holes are punched, found and mapped', () =>
  withFile('x'.repeat(16384), 'r+', async (handle, volume) => {
    await handle.fallocate(4096, 8192, { punchHole: true });
    assert.equal((await handle.stat()).size, 16384);
    assert.equal(await handle.seekHole(0), 4096);
    assert.equal(await handle.seekData(4096), 12288);
    await assert.rejects(handle.seekData(16384), { code: 'ENXIO', syscall: 'lseek' });
    assert.equal((await handle.readFile()).length, 16384, 'the position is where it was');
    await handle.sync();
    const extents = await handle.fiemap();
    assert.deepEqual(
      extents.map(({ logical, length }) => [logical, length]),
      [
        [0, 4096],
        [12288, 4096],
      ],
    );
    assert.equal((await handle.fiemap({ max: 1 })).length, 1);
    await assert.rejects(handle.fallocate(0, 0), { code: 'EINVAL', syscall: 'fallocate' });
    await handle.fallocate(20000, 100);
    assert.equal((await volume.stat('/file')).size, 20100);
  }));

test('ranges are copied between open files', () =>
  withFile('0123456789', 'r', async (handle, volume) => {
    const other = await volume.open('/other', 'w+');
    assert.equal(await handle.copyFileRange(other, { position: 2, length: 3 }), 3);
    assert.equal(await handle.copyFileRange(other, { position: 8, otherPosition: 3 }), 2);
    assert.equal(await volume.readFile('/other', 'utf8'), '23489');
    await other.close();
  }));

test('attributes and access control lists are those of the file', () =>
  withFile('', 'r+', async (handle, volume) => {
    await handle.setXattr('user.a', 'ä');
    assert.deepEqual(await handle.getXattr('user.a'), Buffer.from('ä'));
    assert.equal(await handle.getXattr('user.b'), undefined);
    await assert.rejects(handle.setXattr('user.a', '', { create: true }), { code: 'EEXIST' });
    await assert.rejects(handle.setXattr('user.b', '', { replace: true }), { code: 'ENODATA' });
    assert.deepEqual(await handle.listXattr(), ['user.a']);
    await handle.removeXattr('user.a');
    await assert.rejects(handle.removeXattr('user.a'), { code: 'ENODATA', syscall: 'fremovexattr' });

    await handle.setAcl('u::rw,u:1000:r,g::r,m::r,o::-');
    assert.deepEqual(await handle.getAcl(), await volume.getAcl('/file'));
    assert.equal((await handle.getAcl())?.length, 5);
    assert.equal((await volume.stat('/file')).mode & 0o777, 0o640);
    await handle.setAcl(undefined);
    await handle.setAcl(undefined);
    assert.equal((await handle.getAcl())?.length, 3);
    assert.equal(await handle.getAcl({ default: true }), undefined);
  }));

test('locks of two handles are in each other’s way', () =>
  withFile('abc', 'r+', async (handle, volume) => {
    await using other = await volume.open('/file', 'r+');
    await handle.lock({ start: 1, length: 1 });
    await assert.rejects(other.lock({ wait: false }), { code: 'EAGAIN', syscall: 'fcntl' });
    await other.lock({ start: 2, wait: false });
    assert.deepEqual(await other.getLock({ type: 'shared', length: 2 }), { type: 'exclusive', start: 1, length: 1, pid: -1 });
    const waiting = other.lock({ type: 'shared', length: 2 });
    await handle.unlock();
    await waiting;
    await handle.lock({ kind: 'flock' });
    await assert.rejects(other.lock({ kind: 'flock', wait: false }), { code: 'EAGAIN', syscall: 'flock' });
    await assert.rejects(other.lock({ kind: 'bogus' as never }), { code: 'ERR_INVALID_ARG_VALUE' });
  }));

test('a mapped view sees writes, is seen by reads, and outlives the handle', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', 'abcdef');
  const handle = await volume.open('/file', 'r+');
  const view = await handle.map({ writable: true });
  assert.equal(view.length, 6);
  await handle.write('X', 1);
  await handle.close();
  const bytes = Buffer.alloc(3);
  await view.load(0, bytes);
  assert.equal(text(bytes), 'aXc');
  await view.store(2, Buffer.from('Y'));
  assert.equal(await volume.readFile('/file', 'utf8'), 'aXYdef');
  await view.close();
});
