import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import { FsError } from '../base/fs-error.ts';
import { IovIter, type WriteSource } from '../base/iov-iter.ts';
import type { MaybePromise } from '../base/task.ts';
import type { Attr } from '../vfs/attr.ts';
import type { Caller } from '../vfs/caller.ts';
import type { Fh, Kiocb, NodeId } from '../vfs/file-system.ts';
import { isRegular } from '../vfs/uapi.ts';
import { Volume } from './volume.ts';

/** Its files say that they have `size` bytes, whatever they have. */
class SizeFs extends MemFs {
  size: number | undefined;

  override getattr(caller: Caller, node: NodeId): Attr {
    const attr = super.getattr(caller, node);
    return this.size === undefined || !isRegular(attr.mode) ? attr : { ...attr, size: this.size };
  }
}

/** Its writes take at most `most` bytes. */
class ShortFs extends MemFs {
  most = 3;

  override write(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    if (this.most === 0) return 0;
    const some = new Uint8Array(this.most);
    const count = source.copyTo(some, 0, this.most);
    return super.write(caller, node, fh, iocb, new IovIter(some.subarray(0, count)));
  }
}

/** Its files cannot be closed without an error. */
class ClosingFs extends MemFs {
  override flush(): void {
    throw new FsError('EDQUOT', 'flush');
  }
}

test('a file that says that it is empty is read to its end', async () => {
  const fs = new SizeFs();
  await using volume = Volume.create(fs);
  const bytes = Buffer.alloc(200_000, 'abcdefg');
  await volume.writeFile('/file', bytes);
  fs.size = 0;
  assert.deepEqual(await volume.readFile('/file'), bytes);
  assert.deepEqual(volume.sync.readFileSync('/file'), bytes);
});

test('a file that is shorter than it says gives what it has', async () => {
  const fs = new SizeFs();
  await using volume = Volume.create(fs);
  await volume.writeFile('/file', 'abc');
  fs.size = 10;
  assert.equal(await volume.readFile('/file', 'utf8'), 'abc');
});

test('a file of 2 GiB is too large for readFile, and nothing is allocated for it', async () => {
  const fs = new SizeFs();
  await using volume = Volume.create(fs);
  await volume.writeFile('/file', 'abc');
  fs.size = 2 ** 31;
  const expected = { name: 'RangeError', code: 'ERR_FS_FILE_TOO_LARGE', message: 'File size (2147483648) is greater than 2 GiB' };
  await assert.rejects(volume.readFile('/file'), expected);
  assert.throws(() => volume.sync.readFileSync('/file'), expected);
});

test('writeFile goes on after a short write, and write does not', async () => {
  await using volume = Volume.create(new ShortFs());
  await volume.writeFile('/file', 'abcdefgh');
  assert.equal(await volume.readFile('/file', 'utf8'), 'abcdefgh');
  await using handle = await volume.open('/file', 'r+');
  assert.equal((await handle.write('ABCDEFGH', 0)).bytesWritten, 3);
});

test('a filesystem that takes nothing is an error, not a loop', async () => {
  const fs = new ShortFs();
  await using volume = Volume.create(fs);
  fs.most = 0;
  await assert.rejects(volume.writeFile('/file', 'abc'), { code: 'EIO', syscall: 'write' });
});

test('an error of closing is told, unless there was one before', async () => {
  await using volume = Volume.create(new ClosingFs());
  await assert.rejects(volume.writeFile('/file', 'abc'), { code: 'EDQUOT', syscall: 'close' });
  assert.equal(volume.sync.existsSync('/file'), true);
  await assert.rejects(volume.readFile('/file'), { code: 'EDQUOT', syscall: 'close' });
  await assert.rejects(volume.readFile('/file', 'buffer' as never), { code: 'ERR_UNKNOWN_ENCODING' });
  const broken = (function* () {
    yield 'a';
    throw new Error('no more');
  })();
  await assert.rejects(volume.writeFile('/file', broken), { message: 'no more' });
});

test('what cannot be encoded truncates nothing', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', 'abc');
  await assert.rejects(volume.writeFile('/file', 'x', { encoding: 'buffer' }), { code: 'ERR_UNKNOWN_ENCODING' });
  assert.equal(await volume.readFile('/file', 'utf8'), 'abc');
});

test('who aborts in the turn of the call has aborted it', async () => {
  await using volume = Volume.create(new MemFs());
  await volume.writeFile('/file', 'abc');
  const controller = new AbortController();
  const reading = volume.readFile('/file', { signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(reading, { name: 'AbortError', code: 'ABORT_ERR', cause: controller.signal.reason });
});
