import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile, type LinearOptions } from '../../test/support/linear-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import type { Folio } from '../pagecache/folio.ts';
import { IOCB_DONTCACHE } from './iocb.ts';
import { IOEND_BATCH_MAX, IOEND_BOUNDARY, IOEND_DONTCACHE, IOEND_SHARED, IOEND_UNWRITTEN, type Ioend, type IoendOps } from './ioend.ts';
import {
  IOMAP_F_ANON_WRITE,
  IOMAP_F_BOUNDARY,
  IOMAP_F_INTEGRITY,
  IOMAP_F_SHARED,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
} from './iomap.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Place {
  type?: number;
  flags?: number;
  addr?: number;
  offset?: number;
  length?: number;
}

/** A file of 4 KiB folios whose writeback goes where `place` says for each byte, with all ends on record. */
function placed(place: (pos: number) => Place, options: LinearOptions & { hooks?: Partial<IoendOps> } = {}) {
  const { hooks, ...rest } = options;
  const ends: { offset: number; size: number; flags: number; error: number; merged: number }[] = [];
  const file: LinearFile = new LinearFile({
    size: 2 ** 20,
    orderMax: 0,
    ...rest,
    ioend: {
      mapBlocks: (wpc, pos) => {
        Object.assign(wpc.iomap, { type: IOMAP_MAPPED, flags: 0, offset: 0, length: 2 ** 25, addr: 0, bdev: file.device }, place(pos));
      },
      endIoend: (ioend: Ioend) => {
        ends.push({ offset: ioend.offset, size: ioend.size, flags: ioend.flags, error: ioend.error, merged: ioend.merged.length });
      },
      ...hooks,
    },
  });
  return { file, ends };
}

const extent = (pos: number, length: number, rest: Place = {}): Place => {
  const offset = pos - (pos % length);
  return { offset, length, addr: offset, ...rest };
};

async function dirty(file: LinearFile, from: number, to: number): Promise<void> {
  for (let pos = from; pos < to; pos += 4096) await file.write(pos, new Uint8Array(4096).fill(pos / 4096));
}

test('ranges that follow each other in the file and on the device are one request', async () => {
  const { file } = placed((pos) => extent(pos, 8192));
  await dirty(file, 0, 65536);
  await file.sync();
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 0, length: 65536 }]);
});

test('G4: a gap in the file, another place, another kind, or a boundary begin a new request', async () => {
  const cases: [string, (pos: number) => Place, number[]][] = [
    ['another place', (pos) => extent(pos, 16384, { addr: (pos < 16384 ? 0 : 2 ** 20) + (pos - (pos % 16384)) }), [0, 2 ** 20 + 16384]],
    ['swapped', (pos) => extent(pos, 16384, { addr: pos < 16384 ? 16384 : 0 }), [16384, 0]],
    ['unwritten', (pos) => extent(pos, 16384, { type: pos < 16384 ? IOMAP_MAPPED : IOMAP_UNWRITTEN }), [0, 16384]],
    ['shared', (pos) => extent(pos, 16384, { flags: pos < 16384 ? 0 : IOMAP_F_SHARED }), [0, 16384]],
    ['integrity', (pos) => extent(pos, 16384, { flags: pos < 16384 ? 0 : IOMAP_F_INTEGRITY }), [0, 16384]],
    ['boundary', (pos) => extent(pos, 16384, { flags: pos < 16384 ? 0 : IOMAP_F_BOUNDARY }), [0, 16384]],
  ];
  for (const [name, place, addresses] of cases) {
    const { file } = placed(place);
    await dirty(file, 0, 32768);
    await file.sync();
    assert.deepEqual(
      file.device.writes().map(({ addr, length }) => [addr, length]),
      addresses.map((addr) => [addr, 16384]),
      name,
    );
    file.check();
  }
  const { file } = placed(() => ({}));
  await dirty(file, 0, 8192);
  await dirty(file, 12288, 16384);
  await file.sync();
  assert.deepEqual(
    file.device.writes().map(({ addr, length }) => [addr, length]),
    [
      [0, 8192],
      [12288, 4096],
    ],
  );
});

test('G3: a boundary counts at the start of its mapping only', async () => {
  const { file, ends } = placed((pos) => extent(pos, 16384, { flags: IOMAP_F_BOUNDARY, type: IOMAP_UNWRITTEN }));
  await dirty(file, 4096, 32768);
  await file.sync();
  assert.deepEqual(
    ends.map(({ offset, size, flags, merged }) => [offset, size, (flags & IOEND_BOUNDARY) !== 0, merged]),
    [
      [4096, 12288, false, 0],
      [16384, 16384, true, 0],
    ],
  );
});

test('DONTCACHE: folios that are to be dropped are sent and completed apart', async () => {
  const { file, ends } = placed(() => ({}), { hooks: {} });
  await dirty(file, 0, 8192);
  await file.write(8192, new Uint8Array(8192), IOCB_DONTCACHE);
  await file.sync();
  await file.sb.work.drain();
  assert.deepEqual(
    file.device.writes().map(({ addr, length }) => [addr, length]),
    [
      [0, 8192],
      [8192, 8192],
    ],
  );
  assert.deepEqual(
    ends.map(({ offset, flags }) => [offset, flags]),
    [[8192, IOEND_DONTCACHE]],
  );
  assert.equal(file.folios().length, 2);
});

test('invariant 37: no request is larger than the device takes', async () => {
  for (const bioSizeMax of [4096, 12288, 65536, 10_000]) {
    for (const [blockSize, orderMin] of [
      [4096, 0],
      [4096, 5],
      [512, 5],
      [16384, 2],
      [65536, 4],
    ] as const) {
      const file = new LinearFile({ blockSize, orderMin, size: 2 ** 18, bioSizeMax });
      const data = new Uint8Array(2 ** 18 - 100).map((_, i) => i % 251);
      await file.write(0, data);
      await file.sync();
      for (const { length } of file.device.writes()) assert.ok(length <= bioSizeMax);
      assert.deepEqual(file.device.inner.read(0, data.length), data);
      file.check();
    }
  }
});

test('invariant 37: no request has more than 4096 folios', async () => {
  const folios = IOEND_BATCH_MAX + 10;
  const { file } = placed(() => ({}), { size: folios * 4096, cache: { budget: 64 * 2 ** 20, dirtyRatio: 1, dirtyBackgroundRatio: 1 } });
  await dirty(file, 0, folios * 4096);
  await file.sync();
  assert.deepEqual(
    file.device.writes().map(({ length }) => length / 4096),
    [IOEND_BATCH_MAX, 10],
  );
});

test('invariant 36, bug 12: the size of an ioend ends at the byte where the file ends, not at its block', async () => {
  for (const size of [1, 4095, 4096, 4097, 10_000]) {
    const sizes: [number, number][] = [];
    const file: BlockFile = new BlockFile({
      size: 0,
      initial: IOMAP_UNWRITTEN,
      orderMax: 0,
      onEnd: (ioend) => void sizes.push([ioend.offset, ioend.end]),
    });
    await file.write(0, new Uint8Array(size).fill(1));
    await file.sync();
    assert.deepEqual(sizes, [[0, size]]);
    assert.equal(file.durableSize, size);
    assert.equal(file.device.writes()[0]?.length, Math.ceil(size / 4096) * 4096, 'the device gets whole blocks');
  }
});

test('bug 12, Y5: an append into the last block while it is in flight does not make its padding durable', async () => {
  const file: BlockFile = new BlockFile({ size: 0, initial: IOMAP_UNWRITTEN, orderMax: 0, blockSize: 4096 });
  await file.write(0, new Uint8Array(100).fill(1));
  file.device.holds = (bio) => bio.op === 1;
  const first = file.sync();
  await file.write(100, new Uint8Array(100).fill(2));
  assert.equal(file.inode.size, 200);
  file.device.holds = () => false;
  file.device.release();
  await first;
  await file.sb.work.drain();
  assert.equal(file.durableSize, 100, 'the second append is not durable yet');
  await file.sync();
  assert.equal(file.durableSize, 200);
  file.check();
});

test('G6: after a clamp at the end of the file nothing is appended', async () => {
  const { file } = placed(() => ({}), { size: 5000, blockSize: 1024 });
  await file.write(0, new Uint8Array(5000));
  const sizes: [number, number][] = [];
  file.device.fails = (bio) => {
    sizes.push([bio.addr, bio.length]);
    return 0;
  };
  await file.sync();
  assert.deepEqual(sizes, [[0, 5120]]);
});

test('invariant 38: the writeback bit stays until conversion or remap of the last range is done, and clears once', async () => {
  let finish!: () => void;
  const gate = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const file: BlockFile = new BlockFile({
    blockSize: 1024,
    size: 16384,
    initial: IOMAP_UNWRITTEN,
    orderMin: 2,
    extentMax: 3,
    onEnd: () => gate,
  });
  await file.write(0, new Uint8Array(16384).fill(1));
  const folio = file.folioAt(0);
  let ended = 0;
  const { mapping } = file.inode;
  const endWriteback = mapping.endWriteback.bind(mapping);
  mapping.endWriteback = (each: Folio) => {
    ended++;
    for (let block = 0; block < 16; block++) assert.equal(file.typeOf(block), IOMAP_MAPPED, 'converted first');
    endWriteback(each);
  };
  const syncing = file.sync();
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(folio.isWriteback, true, 'the data is on the device, the blocks are not converted');
  finish();
  await syncing;
  assert.deepEqual([folio.isWriteback, ended], [false, 1]);
  file.check();
});

test('C2: completions that came together are sorted and merged where nothing speaks against it', () =>
  forEachSeed('merging', 80, async (prng) => {
    const { file, ends } = placed(
      (pos) => {
        const index = Math.floor(pos / 8192);
        const kind = kinds[index] as (typeof kinds)[number];
        return extent(pos, 8192, kind);
      },
      { size: 20 * 8192 },
    );
    const kinds = Array.from({ length: 20 }, (_, index) => ({
      type: prng.pick([IOMAP_UNWRITTEN, IOMAP_UNWRITTEN, IOMAP_UNWRITTEN, IOMAP_MAPPED]),
      flags: prng.pick([0, 0, 0, IOMAP_F_SHARED, IOMAP_F_BOUNDARY]),
      addr: prng.chance(0.8) ? index * 8192 : 2 ** 20 + (index * 3 + 1) * 8192,
    }));
    const bad = new Set([prng.below(20), 100]);
    file.device.fails = (bio) => (bad.has(Math.floor(bio.filePos / 8192)) && prng.seed % 2 === 0 ? -5 : 0);
    file.device.holds = (bio) => bio.op === 1;
    for (let index = 0; index < 20; index++) if (prng.chance(0.9)) await dirty(file, index * 8192, index * 8192 + 8192);
    const expectedBytes = file.inode.mapping.dirtyBytes;
    const syncing = file.sync();
    // The device answers in any order, in one turn.
    while (file.device.held.length > 0) file.device.release(prng.below(file.device.held.length));
    await Promise.resolve(syncing).catch((error) => assert.ok(hasCode(error, 'EIO')));
    await file.sb.work.drain();
    const done = file.device.writes().reduce((sum, { length }) => sum + length, 0);
    assert.equal(done, expectedBytes);
    for (let i = 0; i < ends.length; i++) {
      const end = ends[i] as (typeof ends)[number];
      const previous = ends[i - 1];
      if (previous !== undefined) assert.ok(end.offset >= previous.offset + previous.size, 'sorted, without overlap');
      // Everything merged is of one kind, and no boundary lies inside.
      for (let at = end.offset; at < end.offset + end.size; at += 8192) {
        const kind = kinds[at / 8192] as (typeof kinds)[number];
        assert.equal((end.flags & IOEND_UNWRITTEN) !== 0, kind.type === IOMAP_UNWRITTEN);
        assert.equal((end.flags & IOEND_SHARED) !== 0, (kind.flags & IOMAP_F_SHARED) !== 0);
        if (at > end.offset) {
          assert.equal(kind.flags & IOMAP_F_BOUNDARY, 0);
          assert.equal(kind.addr, (kinds[at / 8192 - 1] as (typeof kinds)[number]).addr + 8192, 'contiguous on the device');
        }
      }
      // And what could be merged with its neighbour was.
      if (previous === undefined || previous.offset + previous.size !== end.offset || end.error !== previous.error) continue;
      const [left, right] = [kinds[end.offset / 8192 - 1], kinds[end.offset / 8192]] as [(typeof kinds)[number], (typeof kinds)[number]];
      const couldMerge =
        left.type === right.type &&
        ((left.flags ^ right.flags) & IOMAP_F_SHARED) === 0 &&
        (right.flags & IOMAP_F_BOUNDARY) === 0 &&
        right.addr === left.addr + 8192;
      assert.equal(couldMerge, false, `${end.offset} was not merged`);
    }
    file.check();
  }));

test('C1: a plain overwrite ends in the device completion; an error, and whatever takes work, in a task', async () => {
  const { file, ends } = placed(() => ({}));
  await dirty(file, 0, 4096);
  file.device.holds = (bio) => bio.op === 1;
  const plain = file.sync();
  file.device.release();
  assert.equal(file.folioAt(0).isWriteback, false, 'at once');
  assert.equal(ends.length, 0);
  await plain;
  await dirty(file, 0, 4096);
  const failing = file.sync();
  file.device.fails = () => -5;
  file.device.release();
  assert.equal(file.folioAt(0).isWriteback, true, 'not on the stack of the device');
  await assert.rejects(Promise.resolve(failing), (error) => hasCode(error, 'EIO'));
  assert.deepEqual(
    ends.map(({ error }) => error),
    [-5],
    'the filesystem is told',
  );
});

test('C2: one inode has one completion task at a time', async () => {
  let running = 0;
  const { file } = placed((pos) => extent(pos, 4096, { type: IOMAP_UNWRITTEN }), {
    hooks: {
      endIoend: async () => {
        assert.equal(++running, 1);
        await turn();
        running--;
      },
    },
  });
  await dirty(file, 0, 4096);
  await dirty(file, 40960, 45056);
  await dirty(file, 81920, 86016);
  file.device.holds = (bio) => bio.op === 1;
  const syncing = file.sync();
  while (file.device.held.length > 0) {
    file.device.release(0);
    await null;
    await null;
    await null;
  }
  await syncing;
  file.check();
});

test('invariant 39: an error of submission after N folios: all N lose the writeback bit, and nobody waits for ever', async () => {
  for (const fails of ['prepare', 'prepare later', 'requestMax', 'device'] as const) {
    const { file } = placed(() => ({ type: IOMAP_UNWRITTEN }), {
      hooks: {
        prepareIoend: () => {
          if (fails === 'prepare') throw new FsError('ENOSPC', 'write');
          if (fails === 'prepare later') return turn().then(() => Promise.reject(new FsError('ENOSPC', 'write')));
          return undefined;
        },
        requestMax: (ioend) => {
          if (fails === 'requestMax') throw new FsError('ENOSPC', 'write');
          return ioend.length;
        },
      },
    });
    file.device.fails = () => (fails === 'device' ? -28 : 0);
    await dirty(file, 0, 20 * 4096);
    await assert.rejects(file.sync(), (error) => hasCode(error, 'ENOSPC'));
    for (const folio of file.folios()) assert.deepEqual([folio.isWriteback, folio.isDirty, folio.isUptodate], [false, false, true]);
    assert.equal(file.inode.mapping.writebackBytes, 0);
    file.check();
  }
});

test('5.4: a batch of an inode that went bad is completed as failed, not written', async () => {
  const { file, ends } = placed((pos) => (pos >= 16384 ? { addr: 2 ** 50 } : {}));
  await dirty(file, 0, 32768);
  await assert.rejects(file.sync(), (error) => hasCode(error, 'EUCLEAN'));
  assert.equal(file.inode.isBad, true);
  assert.deepEqual(file.device.writes(), []);
  assert.ok(ends.every(({ error }) => error < 0));
  assert.equal(file.inode.mapping.writebackBytes, 0);
});

test('C5: an ioend that is sent in parts ends with the last of them, and an error of one part is recorded', async () => {
  for (const bad of [undefined, 8192] as const) {
    const sent: [number, number][] = [];
    const { file, ends } = placed(() => ({ type: IOMAP_UNWRITTEN }), {
      size: 30_000,
      hooks: {
        requestMax: () => 8192,
        prepareIoend: (ioend) => void sent.push([ioend.offset, ioend.size]),
      },
    });
    file.device.fails = (bio) => (bio.addr === bad ? -5 : 0);
    file.device.holds = (bio) => bio.op === 1;
    await file.write(0, new Uint8Array(30_000).fill(6));
    const syncing = file.sync();
    assert.deepEqual(sent, [
      [0, 8192],
      [8192, 8192],
      [16384, 8192],
      [24576, 5424],
    ]);
    file.device.release(3);
    file.device.release(0);
    file.device.release(1);
    for (let i = 0; i < 5; i++) await turn();
    for (const folio of file.folios()) assert.equal(folio.isWriteback, true, 'the whole waits for its last part');
    file.device.release();
    if (bad === undefined) await syncing;
    else await assert.rejects(Promise.resolve(syncing), (error) => hasCode(error, 'EIO'));
    assert.equal(
      ends.reduce((sum, { size }) => sum + size, 0),
      30_000,
    );
    file.check();
  }
});

test('a request size of nothing is EIO, not an endless split', async () => {
  for (const max of [0, -4096, Number.NaN]) {
    const { file } = placed(() => ({}), { hooks: { requestMax: () => max } });
    await dirty(file, 0, 8192);
    await assert.rejects(file.sync(), (error) => hasCode(error, 'EIO'));
    file.check();
  }
});

test('ANON_WRITE: the address is chosen when the request is sent; without one it is EIO', async () => {
  const anonymous = () => ({ flags: IOMAP_F_ANON_WRITE, addr: IOMAP_NULL_ADDR });
  let next = 2 ** 20;
  const { file } = placed(anonymous, {
    hooks: {
      requestMax: () => 12288,
      prepareIoend: (ioend) => {
        assert.equal(ioend.addr, IOMAP_NULL_ADDR);
        ioend.addr = next;
        next += 65536;
      },
    },
  });
  await dirty(file, 0, 20480);
  await file.sync();
  assert.deepEqual(
    file.device.writes().map(({ addr, length }) => [addr, length]),
    [
      [2 ** 20, 12288],
      [2 ** 20 + 65536, 8192],
    ],
  );
  assert.equal(file.device.inner.read(2 ** 20 + 65536, 1)[0], 3);
  file.check();
  const nobody = placed(anonymous);
  await dirty(nobody.file, 0, 8192);
  await assert.rejects(nobody.file.sync(), (error) => hasCode(error, 'EIO'));
  assert.deepEqual(nobody.file.device.writes(), []);
  nobody.file.check();
});

test('an error of the filesystem at the end counts as one of the write', async () => {
  const { file } = placed(() => ({ type: IOMAP_UNWRITTEN }), {
    hooks: {
      endIoend: () => {
        throw new FsError('EDQUOT', 'write');
      },
    },
  });
  await dirty(file, 0, 8192);
  await assert.rejects(file.sync(), (error) => hasCode(error, 'EDQUOT'));
  file.check();
});

test('INTEGRITY goes with the request', async () => {
  const { file } = placed(() => ({ flags: IOMAP_F_INTEGRITY }));
  const flags: number[] = [];
  file.device.fails = (bio) => {
    flags.push(bio.flags);
    return 0;
  };
  await dirty(file, 0, 4096);
  await file.sync();
  assert.equal(flags.length, 1);
  assert.notEqual((flags[0] as number) & (1 << 6), 0);
});
