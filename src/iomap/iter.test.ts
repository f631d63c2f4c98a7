import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile, type LinearOptions } from '../../test/support/linear-file.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { isPromise, type MaybePromise } from '../base/task.ts';
import type { Folio } from '../pagecache/folio.ts';
import { bufferedFileWrite } from './buffered-file.ts';
import { bufferedRead } from './buffered-read.ts';
import { bufferedWrite } from './buffered-write.ts';
import { IOMAP_F_FOLIO_BATCH, IOMAP_F_SIZE_CHANGED, IOMAP_F_STALE, IOMAP_MAPPED, IOMAP_NOWAIT, IOMAP_WRITE, type Iomap } from './iomap.ts';
import { IomapIter, iterate } from './iter.ts';
import { unshare } from './unshare.ts';
import { truncatePage, zeroRange } from './zero-range.ts';

interface End {
  readonly pos: number;
  readonly length: number;
  readonly written: number;
  readonly flags: number;
}

/** A file mapped in extents of `extent` bytes, with the ends of all mappings on record. */
function walk(options: LinearOptions & { extent?: number; endError?: (written: number) => void } = {}) {
  const { extent = 8192, endError, ...rest } = options;
  const ends: End[] = [];
  const file: LinearFile = new LinearFile({
    size: 65536,
    map: (pos, _length, _flags, map) => {
      map.type = IOMAP_MAPPED;
      map.offset = pos - (pos % extent);
      map.length = extent;
      map.addr = map.offset;
      map.bdev = file.device;
    },
    end: (_inode, pos, length, written, _flags, map) => {
      ends.push({ pos, length, written, flags: map.flags });
      endError?.(written);
    },
    ...rest,
  });
  const iterOver = (pos: number, length: number, flags = 0) => new IomapIter(file.inode, file.ops, pos, length, flags);
  return { file, ends, iterOver };
}

test('a walk covers the range once, mapping by mapping, and tells end what was processed', async () => {
  const { ends, iterOver } = walk();
  const iter = iterOver(1000, 20000);
  const seen: [number, number][] = [];
  await iterate(iter, (each) => {
    seen.push([each.pos, each.usableLength()]);
    each.advanceFull();
  });
  assert.deepEqual(seen, [
    [1000, 7192],
    [8192, 8192],
    [16384, 4616],
  ]);
  assert.deepEqual(
    ends.map(({ pos, length, written }) => [pos, length, written]),
    [
      [1000, 7192, 7192],
      [8192, 8192, 8192],
      [16384, 4616, 4616],
    ],
  );
  assert.equal(iter.length, 0);
});

test('a walk in which nothing waits answers at once', () => {
  const { iterOver } = walk();
  assert.equal(
    isPromise(
      iterate(iterOver(0, 65536), (each) => {
        each.advanceFull();
      }),
    ),
    false,
  );
});

test('I8: a body may advance many times, but never past its range', () => {
  const { iterOver } = walk();
  const iter = iterOver(0, 100);
  void iterate(iter, (each) => {
    for (let i = 0; i < 99; i++) each.advance(1);
    assert.throws(() => each.advance(2), /past its range/);
    assert.throws(() => each.advance(-1), /past its range/);
    assert.equal(each.pos, 99);
    each.advance(1);
  });
  assert.equal(iter.pos, 100);
});

test('I11: a body that does nothing ends the walk without an error', () => {
  const { file, ends, iterOver } = walk();
  let calls = 0;
  void iterate(iterOver(0, 65536), (each) => {
    calls++;
    if (calls === 1) each.advance(10);
  });
  assert.equal(calls, 2);
  assert.equal(file.begins, 2);
  assert.deepEqual(
    ends.map((end) => end.written),
    [10, 0],
  );
});

test('invariant 24: a stale step is mapped again, with and without progress', () => {
  const { file, ends, iterOver } = walk();
  let calls = 0;
  const positions: number[] = [];
  void iterate(iterOver(0, 8192), (each) => {
    positions.push(each.pos);
    calls++;
    if (calls <= 3) {
      if (calls === 2) each.advance(4096);
      each.markStale();
      return;
    }
    each.advanceFull();
  });
  assert.deepEqual(positions, [0, 0, 4096, 4096]);
  assert.equal(file.begins, 4);
  assert.deepEqual(
    ends.map(({ written, flags }) => [written, (flags & IOMAP_F_STALE) !== 0]),
    [
      [0, true],
      [4096, true],
      [0, true],
      [4096, false],
    ],
  );
});

test('invariant 22: every begin that succeeds has one end, whatever begin, the body and end do', async () => {
  const boom = () => {
    throw new FsError('ENOSPC', 'write');
  };
  const bodies: ((iter: IomapIter) => MaybePromise<void>)[] = [
    (iter) => iter.advanceFull(),
    () => {},
    boom,
    async () => boom(),
    (iter) => {
      iter.advance(1);
      boom();
    },
    async (iter) => {
      await null;
      iter.advanceFull();
    },
  ];
  for (const body of bodies) {
    for (const endError of [undefined, boom]) {
      const { file, ends, iterOver } = walk(endError === undefined ? {} : { endError });
      try {
        await iterate(iterOver(0, 20000), body);
      } catch (error) {
        assert.ok(hasCode(error, 'ENOSPC'));
      }
      assert.ok(file.begins > 0);
      assert.equal(file.begins, file.ends);
      assert.equal(ends.length, file.begins);
    }
  }
  // begin fails: nothing to end
  let begins = 0;
  const { file, ends, iterOver } = walk({
    map: (pos, _length, _flags, map) => {
      begins++;
      if (pos > 0) throw new FsError('EDQUOT', 'write');
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 4096, addr: 0, bdev: file.device });
    },
  });
  await assert.rejects(
    async () => iterate(iterOver(0, 8192), (each) => each.advanceFull()),
    (error) => hasCode(error, 'EDQUOT'),
  );
  assert.equal(begins, 2);
  assert.equal(ends.length, 1);
});

test('E2: the error of the body wins over that of end', () => {
  const { iterOver } = walk({
    endError: () => {
      throw new FsError('ENOTBLK', 'write');
    },
  });
  assert.throws(
    () =>
      iterate(iterOver(0, 100), () => {
        throw new FsError('EINVAL', 'write');
      }),
    (error) => hasCode(error, 'EINVAL'),
  );
});

test('E2: an error of end after progress takes the bytes of that mapping back, and no others', () => {
  const { iterOver } = walk({
    endError: (written) => {
      if (written === 4000) throw new FsError('EIO', 'write');
    },
  });
  const iter = iterOver(0, 12192);
  assert.throws(
    () => iterate(iter, (each) => each.advanceFull()),
    (error) => hasCode(error, 'EIO'),
  );
  assert.equal(iter.pos, 8192);
  assert.equal(iter.length, 4000);
});

test('the error of end after progress does not over-report the bytes of a write', async () => {
  const { file } = walk({
    endError: (written) => {
      if (written === 4000) throw new FsError('EIO', 'write');
    },
  });
  assert.equal(await file.write(0, new Uint8Array(12192)), 8192);
});

test('invariant 66: a request of no bytes calls no hook', async () => {
  const { file, iterOver } = walk();
  const { inode, io } = file;
  const none = new Uint8Array(0);
  assert.equal(
    iterate(iterOver(100, 0), () => assert.fail('body')),
    undefined,
  );
  assert.equal(bufferedRead({ pos: 100, flags: 0 }, inode, none), 0);
  assert.equal(bufferedWrite({ pos: 100, flags: 0 }, inode, new IovIter(none), io), 0);
  assert.equal(bufferedFileWrite({ pos: 1e6, flags: 0 }, inode, new IovIter(none), io, { prepare: () => assert.fail('prepare') }), 0);
  assert.equal(zeroRange(inode, 100, 0, io), false);
  assert.equal(truncatePage(inode, 8192, io), false);
  assert.equal(unshare(inode, 100, 0, io), undefined);
  assert.equal(unshare(inode, 1e6, 100, io), undefined);
  assert.equal(inode.mapping.writeAndWait(0, 0), undefined);
  assert.equal(file.begins, 0);
  assert.deepEqual(file.device.requests, []);
  assert.equal(inode.lock.isLocked, false);
});

test('I16: end sees that the write raised the size', async () => {
  const { file, ends } = walk();
  await file.write(65000, new Uint8Array(100));
  await file.write(65536, new Uint8Array(100));
  assert.deepEqual(
    ends.map((end) => (end.flags & IOMAP_F_SIZE_CHANGED) !== 0),
    [false, true],
  );
});

test('S2: the usable length is clipped by a source map, and the source falls back to the mapping', () => {
  const { file } = walk({
    map: (_pos, _length, _flags, map, srcmap) => {
      Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 65536, addr: 0, bdev: file.device });
      Object.assign(srcmap, { type: IOMAP_MAPPED, offset: 4096, length: 4096, addr: 131072, bdev: file.device });
    },
  });
  const iter = new IomapIter(file.inode, file.ops, 4096, 20000, IOMAP_WRITE);
  assert.throws(
    () =>
      iterate(iter, (each) => {
        assert.equal(each.usableLength(), 4096);
        assert.equal(each.source.addr, 131072);
        each.advanceFull();
      }),
    (error) => hasCode(error, 'EUCLEAN'), // at 8192 the source map does not hold the position
  );
  const plain = walk();
  void iterate(plain.iterOver(0, 100), (each) => {
    assert.equal(each.source, each.iomap);
    each.advanceFull();
  });
});

test('records are cleared between steps', () => {
  const seen: unknown[] = [];
  const { file, iterOver } = walk({
    map: (pos, _length, _flags, map, srcmap) => {
      seen.push([map.type, map.flags, map.private, map.inlineData, map.validityCookie, srcmap.type]);
      Object.assign(map, {
        type: IOMAP_MAPPED,
        flags: 4,
        offset: pos,
        length: 4096,
        addr: pos,
        bdev: file.device,
        private: 'x',
        validityCookie: 9,
      });
      srcmap.copyFrom(map);
    },
  });
  void iterate(iterOver(0, 8192), (each) => each.advanceFull());
  assert.deepEqual(seen, [
    [0, 0, undefined, undefined, 0, 0],
    [0, 0, undefined, undefined, 0, 0],
  ]);
});

test('bug 43: the folios of a batch are put when the body or the next begin fails, and at the end', async () => {
  for (const failure of ['body', 'begin', 'none'] as const) {
    const { file } = walk();
    await file.write(0, new Uint8Array(16384));
    const folios = file.folios().slice(0, 2);
    const ops = {
      ...file.ops,
      iomapBegin: (...[, pos, , , map, , iter]: Parameters<typeof file.ops.iomapBegin>) => {
        for (const folio of folios) folio.get();
        iter.fbatch = folios.slice();
        if (failure === 'begin' && pos > 0) throw new FsError('EIO', 'fallocate');
        Object.assign(map, { type: IOMAP_MAPPED, flags: IOMAP_F_FOLIO_BATCH, offset: pos, length: 4096, addr: pos, bdev: file.device });
      },
    };
    try {
      await iterate(new IomapIter(file.inode, ops, 0, 8192, 2), (each) => {
        if (failure === 'body') throw new FsError('EIO', 'fallocate');
        each.advanceFull();
      });
      assert.equal(failure, 'none');
    } catch (error) {
      assert.ok(hasCode(error, 'EIO'));
    }
    assert.deepEqual(
      folios.map((folio: Folio) => folio.refs),
      folios.map(() => 0),
    );
  }
});

test('invariant 20: under NOWAIT a begin that waits is EAGAIN at once, and is ended when it gets through', async () => {
  let finish!: () => void;
  const { file, ends } = walk({
    map: (pos, _length, _flags, map: Iomap) =>
      new Promise<void>((resolve) => {
        finish = () => {
          Object.assign(map, { type: IOMAP_MAPPED, offset: pos, length: 4096, addr: pos, bdev: file.device });
          resolve();
        };
      }),
  });
  assert.throws(
    () => iterate(new IomapIter(file.inode, file.ops, 0, 4096, IOMAP_NOWAIT), () => assert.fail('body')),
    (error) => hasCode(error, 'EAGAIN'),
  );
  assert.equal(ends.length, 0);
  finish();
  await new Promise(setImmediate);
  assert.deepEqual(
    ends.map(({ pos, written }) => [pos, written]),
    [[0, 0]],
  );
});

test('a bad inode is not mapped at all', () => {
  const { file, iterOver } = walk();
  file.inode.markBad();
  assert.throws(
    () => iterate(iterOver(0, 10), () => assert.fail('body')),
    (error) => hasCode(error, 'EIO'),
  );
  assert.equal(file.begins, 0);
});
