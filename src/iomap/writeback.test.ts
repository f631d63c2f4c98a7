import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile, type LinearOptions } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { WB_SYNC_NONE } from '../pagecache/backing-device.ts';
import type { Folio } from '../pagecache/folio.ts';
import { OpenFile } from '../vfs/open-file.ts';
import { nextDirty } from './folio-state.ts';
import type { WritebackOps } from './hooks.ts';
import { IOMAP_DELALLOC, IOMAP_F_FSVERITY, IOMAP_HOLE, IOMAP_INLINE, IOMAP_MAPPED, IOMAP_UNWRITTEN, type IomapType } from './iomap.ts';
import { finishFolioWrite } from './writeback.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Maps writeback 1:1 onto the device, with what a test says on top. */
function mapTo(file: () => LinearFile, patch: (pos: number) => object = () => ({})): LinearOptions {
  return {
    ioend: {
      mapBlocks: (wpc, pos) => {
        Object.assign(wpc.iomap, { type: IOMAP_MAPPED, flags: 0, offset: 0, length: 2 ** 24, addr: 0, bdev: file().device }, patch(pos));
      },
    },
  };
}

function background(file: LinearFile, options: Partial<{ nrToWrite: number; rangeCyclic: boolean; onlyDropbehind: boolean }> = {}) {
  const { mapping } = file.inode;
  const wbc = {
    syncMode: WB_SYNC_NONE,
    start: 0,
    end: Number.POSITIVE_INFINITY,
    nrToWrite: Number.POSITIVE_INFINITY,
    rangeCyclic: false,
    onlyDropbehind: false,
    ...options,
  } as const;
  return mapping.writepages(wbc);
}

test('invariant 34: each dirty block inside the file is in one submitted range of a pass, clean blocks in none', () =>
  forEachSeed('dirty blocks', 100, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = 1 + prng.below(300_000);
    const file = new BlockFile({
      blockSize,
      size,
      initial: prng.pick<IomapType>([IOMAP_MAPPED, IOMAP_HOLE, IOMAP_UNWRITTEN]),
      fill: 1,
      orderMin: prng.below(4),
      extentMax: prng.pick([1, 3, 1000]),
    });
    await file.read(0, size);
    for (let round = 0; round < 3; round++) {
      const dirty = new Set<number>();
      for (let i = 0; i < 6; i++) {
        const pos = prng.below(size);
        const length = Math.min(size - pos, 1 + prng.below(prng.pick([100, 30_000])));
        await file.write(pos, prng.bytes(length));
        for (let block = Math.floor(pos / blockSize); block * blockSize < pos + length; block++) dirty.add(block);
      }
      file.device.clear();
      await file.sync();
      const written: number[] = [];
      for (const { addr, length } of file.device.writes()) {
        assert.equal(length % blockSize, 0);
        for (let at = addr; at < addr + length; at += blockSize) written.push(at / blockSize);
      }
      assert.equal(new Set(written).size, written.length, 'no block twice');
      assert.deepEqual(
        written.sort((a, b) => a - b),
        [...dirty].sort((a, b) => a - b),
      );
      file.check();
      file.device.clear();
      await file.sync();
      assert.deepEqual(file.device.requests, [], 'all is clean');
    }
  }));

test('invariant 35: behind the end of the file every device write has zeros', () =>
  forEachSeed('tails', 60, async (prng) => {
    const blockSize = prng.pick([512, 4096, 16384]);
    const size = 1 + prng.below(40_000);
    const file = new LinearFile({ blockSize, size, fill: 0xdb, orderMin: prng.below(3) });
    const view = file.view(2 ** 20);
    for (let step = 0; step < 5; step++) {
      if (prng.chance(0.5)) await file.write(prng.below(size), prng.bytes(1));
      await view.store(Math.floor((size - 1) / 4096) * 4096, new Uint8Array(4096).fill(0xee));
      await file.sync();
      for (const { addr, length } of file.device.writes()) {
        const bytes = file.device.inner.read(addr, length);
        if (addr + length > size) assert.ok(bytes.subarray(Math.max(0, size - addr)).every((byte) => byte === 0));
        assert.ok(addr + length <= Math.ceil(size / blockSize) * blockSize);
      }
    }
  }));

test('B8: a dirty folio wholly past the end is not written, and is clean after the pass', async () => {
  for (const start of [8192, 12288]) {
    const file = new LinearFile({ size: 65536, orderMax: 0, blockSize: 1024 });
    await file.write(start, new Uint8Array(4096));
    file.inode.size = 8192;
    await file.sync();
    assert.deepEqual(file.device.requests, []);
    assert.equal(file.inode.mapping.isDirty, false);
    assert.equal(nextDirty(file.folioAt(start), 0, 4096), -1);
    file.check();
  }
});

test('B8, FSVERITY: what lies past the end is written where it is metadata', async () => {
  const file = new LinearFile({ size: 65536, orderMax: 0, blockSize: 1024, mapFlags: IOMAP_F_FSVERITY });
  await file.write(8192, new Uint8Array(4096).fill(7));
  file.inode.size = 100;
  file.inode.hasVerityTail = true;
  await file.sync();
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 8192, length: 4096 }]);
  assert.deepEqual(file.device.inner.read(8192, 4096), new Uint8Array(4096).fill(7));
});

test('B16: the folio is not locked while its I/O runs', async () => {
  const file = new LinearFile({ size: 4096 });
  await file.write(0, new Uint8Array(4096).fill(1));
  file.device.holds = (bio) => bio.op === 1;
  const syncing = file.sync();
  const folio = file.folioAt(0);
  assert.deepEqual([folio.isWriteback, folio.isLocked, folio.isDirty], [true, false, false]);
  file.device.release();
  await syncing;
  file.check();
});

test('invariant 43: without stable writes a rewrite in flight leaves the folio dirty, and the next pass sends it', async () => {
  for (const blockSize of [1024, 4096]) {
    const file = new LinearFile({ blockSize, size: 4096 });
    await file.write(0, new Uint8Array(4096).fill(1));
    file.device.holds = (bio) => bio.op === 1;
    const syncing = file.sync();
    assert.equal(await file.write(100, new Uint8Array(10).fill(2)), 10, 'does not wait');
    file.device.holds = () => false;
    file.device.release();
    await syncing;
    const folio = file.folioAt(0);
    assert.deepEqual([folio.isDirty, folio.isWriteback], [true, false]);
    file.device.clear();
    await file.sync();
    assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 0, length: blockSize }], 'the block that was written again');
    const expected = new Uint8Array(4096).fill(1);
    expected.fill(2, 100, 110);
    assert.deepEqual(file.device.inner.read(0, 4096), expected);
    file.check();
  }
});

test('invariant 43: with stable writes the device sees one version, and the writer waits', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 4096, stableWrites: true });
  await file.write(0, new Uint8Array(4096).fill(1));
  file.device.holds = (bio) => bio.op === 1;
  const syncing = file.sync();
  let written = false;
  const writing = file.write(0, new Uint8Array(4096).fill(2)).then(() => {
    written = true;
  });
  await turn();
  assert.equal(written, false);
  file.device.holds = () => false;
  file.device.release(); // the device reads the memory now
  assert.deepEqual(file.device.inner.read(0, 4096), new Uint8Array(4096).fill(1));
  await Promise.all([syncing, writing]);
  await file.sync();
  assert.deepEqual(file.device.inner.read(0, 4096), new Uint8Array(4096).fill(2));
  file.check();
});

test('invariant 42, bug 33: a hole is skipped; a reservation and inline data are EIO, and nothing is sent', async () => {
  for (const blockSize of [1024, 4096]) {
    for (const [type, code] of [
      [IOMAP_HOLE, undefined],
      [IOMAP_DELALLOC, 'EIO'],
      [IOMAP_INLINE, 'EIO'],
    ] as const) {
      const file: LinearFile = new LinearFile({
        blockSize,
        size: 65536,
        ...mapTo(
          () => file,
          () => ({ type, addr: -1, bdev: undefined, inlineData: new Uint8Array(65536) }),
        ),
      });
      await file.write(0, new Uint8Array(8192).fill(1));
      if (code === undefined) await file.sync();
      else await assert.rejects(file.sync(), (error) => hasCode(error, code));
      assert.deepEqual(file.device.writes(), []);
      assert.equal(file.inode.mapping.isDirty, false);
      file.check();
    }
  }
});

test('B18: holes among mapped blocks of one folio are skipped, the others written, the folio ends', async () => {
  const file: LinearFile = new LinearFile({
    blockSize: 1024,
    size: 16384,
    orderMin: 2,
    ...mapTo(
      () => file,
      (pos) => {
        const block = Math.floor(pos / 1024);
        const place = { offset: block * 1024, length: 1024, addr: block * 1024 };
        return block % 3 === 1 ? { ...place, type: IOMAP_HOLE, addr: -1, bdev: undefined } : place;
      },
    ),
  });
  await file.write(0, new Uint8Array(16384).fill(1));
  await file.sync();
  const written = file.device.writes().flatMap(({ addr, length }) => Array.from({ length: length / 1024 }, (_, i) => addr / 1024 + i));
  assert.deepEqual(written, [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15]);
  file.check();
});

test('invariant 40: an error in one folio of an integrity pass: the others are still written, and the first error returned', async () => {
  for (const bad of [0, 2, 4]) {
    const file: LinearFile = new LinearFile({
      size: 65536,
      orderMax: 0,
      ...mapTo(
        () => file,
        (pos) => {
          if (pos === bad * 4096) throw new FsError('ENOSPC', 'write');
          if (pos === 3 * 4096) throw new FsError('EDQUOT', 'write');
          return {};
        },
      ),
    });
    for (let i = 0; i < 5; i++) await file.write(i * 4096, new Uint8Array(4096).fill(i + 1));
    const first = bad < 3 ? 'ENOSPC' : 'EDQUOT';
    await assert.rejects(file.sync(), (error) => hasCode(error, first));
    for (let i = 0; i < 5; i++) assert.equal(file.device.inner.read(i * 4096, 1)[0], i === bad || i === 3 ? 0 : i + 1, `folio ${i}`);
    file.check();
  }
});

test('B4: a background pass stops at an error, and what it had batched is written', async () => {
  const file: LinearFile = new LinearFile({
    size: 65536,
    orderMax: 0,
    ...mapTo(
      () => file,
      (pos) => {
        if (pos === 8192) throw new FsError('ENOSPC', 'write');
        return {};
      },
    ),
  });
  for (let i = 0; i < 5; i++) await file.write(i * 4096, new Uint8Array(4096).fill(i + 1));
  await assert.rejects(
    async () => background(file),
    (error) => hasCode(error, 'ENOSPC'),
  );
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 0, length: 8192 }]);
  assert.deepEqual(
    file.folios().map((folio) => folio.isDirty),
    [false, false, false, true, true],
  );
  file.check();
});

test('bug 11, B13: after an error of mapping no dirty bit is left, and nothing is written twice', async () => {
  let fails = true;
  const file: LinearFile = new LinearFile({
    blockSize: 1024,
    size: 65536,
    orderMin: 2,
    ...mapTo(
      () => file,
      (pos) => {
        if (fails && pos >= 4096) throw new FsError('EIO', 'write');
        return pos < 4096 ? { length: 4096 } : {};
      },
    ),
  });
  await file.write(0, new Uint8Array(16384).fill(1));
  await file.write(5000, new Uint8Array(10).fill(2));
  await assert.rejects(file.sync());
  const folio = file.folioAt(0);
  assert.equal(nextDirty(folio, 0, folio.size), -1);
  file.check();
  fails = false;
  file.device.clear();
  await file.sync();
  assert.deepEqual(file.device.requests, []);
  await file.write(9000, Uint8Array.of(3));
  await file.sync();
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 8192, length: 1024 }]);
});

for (const where of ['device', 'mapping', 'conversion'] as const) {
  test(`invariant 41, bug 14: after a failure of the ${where} folios are uptodate, clean, and read as they were written`, async () => {
    const file: BlockFile = new BlockFile({
      blockSize: 1024,
      size: 65536,
      initial: IOMAP_UNWRITTEN,
      orderMax: 1,
      onEnd: (ioend) => {
        if (where === 'conversion' && ioend.error === 0) throw new FsError('ENOSPC', 'write');
      },
      ...(where === 'mapping'
        ? {
            ioend: {
              mapBlocks: () => {
                throw new FsError('ENOSPC', 'write');
              },
            },
          }
        : {}),
    });
    const data = new Prng(1).bytes(30_000);
    await file.write(0, data);
    const cached = file.folios();
    if (where === 'device') file.device.fails = (bio) => (bio.op === 1 ? -28 : 0);
    await assert.rejects(file.sync(), (error) => hasCode(error, 'ENOSPC'));
    assert.deepEqual(file.folios(), cached, 'nothing is dropped');
    assertSameBytes(await file.read(0, 30_000), data, 'cache');
    for (const folio of cached) assert.deepEqual([folio.isDirty, folio.isWriteback, folio.isLocked], [false, false, false]);
    file.check();
    // It can be written again, and then it gets there.
    file.device.fails = () => 0;
    if (where !== 'device') return;
    await file.write(0, data);
    await file.sync();
    await file.dropCache();
    assertSameBytes(await file.read(0, 30_000), data, 'disk');
  });
}

test('device errors of writeback reach the next fsync of each opener, once', async () => {
  const file = new LinearFile({ size: 65536 });
  const [before, also] = [new OpenFile(file.inode), new OpenFile(file.inode)];
  await file.write(0, new Uint8Array(4096));
  file.device.fails = () => -5;
  await assert.rejects(file.sync(), (error) => hasCode(error, 'EIO'));
  const after = new OpenFile(file.inode); // nobody was told yet: this one is too
  file.device.fails = () => 0;
  await file.sync();
  for (const open of [before, also, after]) {
    assert.throws(
      () => open.checkWritebackErrors(),
      (error) => hasCode(error, 'EIO'),
    );
    open.checkWritebackErrors();
  }
  new OpenFile(file.inode).checkWritebackErrors(); // told: a new opener starts afresh
  // The neighbour on the same filesystem never hears of it.
});

test('bug 40: an error of a background pass is kept on the mapping, not in the pass that is gone', async () => {
  const file = new LinearFile({ size: 65536 });
  const open = new OpenFile(file.inode);
  await file.write(0, new Uint8Array(4096));
  file.device.holds = (bio) => bio.op === 1;
  await background(file); // the pass is over, its request is not
  file.device.fails = () => -5;
  file.device.holds = () => false;
  file.device.release();
  await file.sb.work.drain();
  assert.throws(
    () => open.checkWritebackErrors(),
    (error) => hasCode(error, 'EIO'),
  );
  assert.equal(file.sb.errors.check(0), -5, 'and on the superblock, for syncfs');
});

test('the events of lost data carry the exact range, once', async () => {
  const events: unknown[] = [];
  const file = new BlockFile({ blockSize: 1024, size: 10_000, initial: IOMAP_UNWRITTEN, orderMax: 0, extentMax: 2 });
  file.sb.watchErrors(({ kind, pos, length, errno }) => events.push([kind, pos, length, errno]));
  await file.write(0, new Uint8Array(10_000));
  file.device.fails = () => -5;
  await assert.rejects(file.sync());
  await file.sb.work.drain();
  assert.deepEqual(events, [['data-lost', 0, 10_000, -5]]);
});

test('integrity passes write what was dirty at their start, and end although more is dirtied all the time', async () => {
  const file = new LinearFile({ size: 2 ** 20, orderMax: 0 });
  for (let i = 0; i < 8; i++) await file.write(i * 4096, new Uint8Array(4096).fill(1));
  let more = 8;
  file.device.fails = (bio) => {
    // Each write of the device dirties a folio further on.
    if (bio.op === 1 && more < 200) void file.write(more++ * 4096, new Uint8Array(4096).fill(2));
    return 0;
  };
  await file.sync();
  assert.equal(
    file.device.writes().reduce((sum, { length }) => sum + length, 0),
    8 * 4096,
  );
  assert.ok(file.inode.mapping.isDirty);
});

test('an integrity pass waits for a folio in flight and writes it again if it is dirty; a background pass skips it', async () => {
  const file = new LinearFile({ size: 8192, orderMax: 0 });
  await file.write(0, new Uint8Array(8192).fill(1));
  file.device.holds = (bio) => bio.op === 1;
  const first = file.sync();
  await file.write(0, Uint8Array.of(2));
  file.device.clear();
  await background(file);
  assert.deepEqual(file.device.requests, []);
  const second = file.sync();
  await turn();
  assert.deepEqual(file.device.requests, []);
  file.device.release();
  for (let i = 0; i < 5; i++) {
    await turn();
    file.device.release();
  }
  await Promise.all([first, second]);
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 0, length: 4096 }]);
  assert.equal(file.device.inner.read(0, 1)[0], 2);
  file.check();
});

test('B6: a cyclic background pass goes on where the last one stopped, and wraps', async () => {
  const file = new LinearFile({ size: 10 * 4096, orderMax: 0 });
  const dirtyAll = async () => {
    for (let i = 0; i < 10; i++) await file.write(i * 4096, new Uint8Array(4096));
  };
  const written = () => {
    const blocks = file.device.writes().flatMap(({ addr, length }) => Array.from({ length: length / 4096 }, (_, i) => addr / 4096 + i));
    file.device.clear();
    return blocks;
  };
  await dirtyAll();
  await background(file, { rangeCyclic: true, nrToWrite: 4 });
  assert.deepEqual(written(), [0, 1, 2, 3]);
  await background(file, { rangeCyclic: true, nrToWrite: 4 });
  assert.deepEqual(written(), [4, 5, 6, 7]);
  await dirtyAll();
  await background(file, { rangeCyclic: true, nrToWrite: 4 });
  assert.deepEqual(written(), [8, 9, 0, 1]);
  await background(file, { nrToWrite: 3 });
  assert.deepEqual(written(), [2, 3, 4], 'not cyclic: from the start');
  await background(file, { rangeCyclic: true });
  assert.deepEqual(written(), [5, 6, 7]);
  assert.equal(file.inode.mapping.writebackIndex, 0);
});

test('Y6: a folio that is truncated while the pass waits for its lock is left alone', async () => {
  const file = new LinearFile({ size: 16384, orderMax: 0 });
  await file.write(0, new Uint8Array(16384).fill(1));
  const second = file.folioAt(4096);
  second.get();
  assert.ok(second.tryLock());
  const syncing = file.sync();
  await turn();
  file.inode.mapping.remove(second);
  second.unlock();
  second.put();
  await syncing;
  const written = file.device.writes().map(({ addr, length }) => [addr, length]);
  assert.deepEqual(written, [
    [0, 4096],
    [8192, 8192],
  ]);
  file.check();
});

test('a pass keeps nothing unsent while it waits for a folio lock', async () => {
  const file = new LinearFile({ size: 16384, orderMax: 0, stableWrites: true });
  await file.write(0, new Uint8Array(16384).fill(1));
  // Somebody holds the second folio and waits until the first one is stable.
  const [first, second] = file.folios() as [Folio, Folio];
  second.get();
  assert.ok(second.tryLock());
  const syncing = file.sync();
  await turn();
  assert.equal(first.isWriteback, false, 'sent, not batched');
  second.unlock();
  second.put();
  await syncing;
  file.check();
});

// ---- other hooks than block devices

/** Writeback as to a server: requests are answered by the test, or at once. */
function remote(options: LinearOptions & { max?: number; isSync?: boolean } = {}) {
  const { max = Number.POSITIVE_INFINITY, isSync = false, ...rest } = options;
  const sent: { folio: Folio; pos: number; length: number; data: Uint8Array; endPos: number }[] = [];
  const log: string[] = [];
  const writebackOps: WritebackOps = {
    writebackRange: (wpc, folio, pos, length, endPos) => {
      const count = Math.min(length, max);
      wpc.iomap.type = IOMAP_MAPPED;
      log.push(`${pos}+${count}`);
      sent.push({ folio, pos, length: count, data: folio.bytes(pos - folio.pos, count).slice(), endPos });
      wpc.wbCtx = sent;
      if (isSync) finishFolioWrite(wpc.inode, folio, count);
      return count;
    },
    writebackSubmit: (wpc) => {
      log.push('submit');
      wpc.wbCtx = undefined;
    },
  };
  const file = new LinearFile({
    map: (_pos, _length, _flags, map) => void Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 2 ** 40 }),
    writebackOps,
    ...rest,
  });
  return { file, sent, log };
}

test('invariant 7: hooks may complete inside their call, later, and in any order; writeback ends once', () =>
  forEachSeed('completions', 60, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const isSync = prng.chance(0.3);
    const { file, sent } = remote({ blockSize, orderMin: prng.below(4), isSync, max: blockSize * prng.between(1, 5) });
    const data = prng.bytes(1 + prng.below(100_000));
    await file.write(0, data);
    const endWriteback = file.inode.mapping.endWriteback.bind(file.inode.mapping);
    const ended = new Map<Folio, number>();
    file.inode.mapping.endWriteback = (folio) => {
      ended.set(folio, (ended.get(folio) ?? 0) + 1);
      endWriteback(folio);
    };
    const syncing = file.sync();
    while (!isSync && sent.length > 0) {
      const [each] = sent.splice(prng.below(sent.length), 1);
      assert.ok(each?.folio.isWriteback);
      finishFolioWrite(file.inode, each.folio, each.length);
    }
    await syncing;
    for (const folio of file.folios()) assert.equal(ended.get(folio), 1, 'invariant 38');
    file.check();
  }));

test('hooks: whole-file content, with the end of the file for each range', async () => {
  const { file, sent, log } = remote({ blockSize: 4096, isSync: true, orderMin: 1 });
  const data = new Prng(2).bytes(10_000);
  await file.write(0, data);
  await file.sync();
  assert.deepEqual(log, ['0+8192', '8192+4096', 'submit']);
  assert.deepEqual(
    sent.map(({ endPos }) => endPos),
    [8192, 10_000],
  );
  const content = new Uint8Array(12288);
  content.set(data);
  for (const { pos, data: bytes } of sent) assert.deepEqual(bytes, content.slice(pos, pos + bytes.length));
});

test('5.4: an answer that is no byte count is EIO, and ends the folio', async () => {
  for (const answer of [0, -1, 8193, Number.NaN]) {
    for (const blockSize of [1024, 4096]) {
      const file = new LinearFile({
        blockSize,
        size: 4096,
        writebackOps: { writebackRange: () => answer, writebackSubmit: () => {} },
      });
      await file.write(0, new Uint8Array(4096));
      await assert.rejects(file.sync(), (error) => error instanceof RangeError || hasCode(error, 'EIO' as ErrnoCode));
      assert.equal(file.inode.mapping.lastError, -5);
      file.check();
    }
  }
});

test('a submit that fails is the error of the pass, and holds up nothing', async () => {
  const file = new LinearFile({
    size: 16384,
    orderMax: 0,
    writebackOps: {
      writebackRange: (wpc, folio, _pos, length) => {
        wpc.iomap.type = IOMAP_MAPPED;
        ((wpc.wbCtx ??= []) as [Folio, number][]).push([folio, length]);
        return length;
      },
      writebackSubmit: (wpc) => {
        for (const [folio, length] of wpc.wbCtx as [Folio, number][]) finishFolioWrite(wpc.inode, folio, length);
        wpc.wbCtx = undefined;
        throw new FsError('ECONNRESET', 'write');
      },
    },
  });
  await file.write(0, new Uint8Array(16384));
  const second = file.folioAt(4096);
  second.get();
  assert.ok(second.tryLock()); // so that the batch is sent in the middle of the pass, too
  const syncing = file.sync();
  await turn();
  second.unlock();
  second.put();
  await assert.rejects(syncing, (error) => hasCode(error, 'ECONNRESET'));
  assert.equal(file.inode.mapping.isDirty, false);
  file.check();
});

test('2.7: of a server-fetched file only dirty blocks travel', async () => {
  const { file, log } = remote({ blockSize: 4096, size: 2 ** 20, orderMin: 8, isSync: true });
  file.inode.size = 2 ** 20;
  (file.io.writeOps as { readFolioRange?: unknown }).readFolioRange = (_iter: unknown, folio: Folio, pos: number, length: number) => {
    folio.bytes(pos - folio.pos, length).fill(1);
  };
  await file.write(5 * 4096 + 1, Uint8Array.of(1));
  await file.write(100 * 4096, new Uint8Array(8192));
  await file.sync();
  assert.deepEqual(log, ['20480+4096', '409600+8192', 'submit']);
});

test('invariant 25, Y12: a pass keeps its mapping between ranges, and nothing goes to a place that a remap has left', async () => {
  const MOVED = 2 ** 20;
  let sequence = 0;
  let base = 0;
  const asked: number[] = [];
  const file: LinearFile = new LinearFile({
    size: 8 * 4096,
    orderMax: 0,
    bioSizeMax: 4096, // a request is sent as soon as the next range comes
    ioend: {
      mapBlocks: (wpc, pos) => {
        // The engine hands the last mapping back untouched: the filesystem compares its cookie, and maps again only when it has to.
        if (wpc.iomap.covers(pos) && wpc.iomap.validityCookie === sequence) return;
        asked.push(pos);
        wpc.iomap.clear();
        Object.assign(wpc.iomap, {
          type: IOMAP_MAPPED,
          offset: 0,
          length: 8 * 4096,
          addr: base,
          bdev: file.device,
          validityCookie: sequence,
        });
      },
      prepareIoend: (ioend) => {
        if (ioend.offset !== 2 * 4096) return;
        base = MOVED; // a remap while the third block is on its way
        sequence++;
      },
    },
  });
  await file.write(0, new Uint8Array(8 * 4096).fill(7));
  await file.sync();
  const places = file.device.writes().map(({ addr }) => addr);
  // The fourth range was mapped before the third was sent; whatever is mapped after the remap goes to the new place.
  assert.deepEqual(places, [0, 1, 2, 3].map((block) => block * 4096).concat([4, 5, 6, 7].map((block) => MOVED + block * 4096)));
  assert.deepEqual(asked, [0, 4 * 4096]);
});
