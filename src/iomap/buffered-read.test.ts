import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile, type LinearOptions } from '../../test/support/linear-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { isPromise } from '../base/task.ts';
import { REQ_RAHEAD } from '../block/bio.ts';
import type { Folio } from '../pagecache/folio.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import { bufferedRead, finishFolioRead } from './buffered-read.ts';
import { ensureState, isBlockUptodate, markUptodate } from './folio-state.ts';
import type { ReadOps } from './hooks.ts';
import { IOCB_NOWAIT } from './iocb.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_FSVERITY,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  type Iomap,
  type IomapType,
} from './iomap.ts';
import { nextReadRange } from './read-range.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A file whose bytes come from an array by hooks, as from a server; the fetches wait until the test answers them. */
class Fetched {
  readonly file: LinearFile;
  readonly data: Uint8Array;
  readonly fetches: { folio: Folio; offset: number; length: number; pos: number }[] = [];
  readonly log: string[] = [];
  isSync = false;
  errnoOf: (pos: number) => number = () => 0;

  constructor(size: number, options: LinearOptions & { extent?: number } = {}) {
    const { extent = Number.MAX_SAFE_INTEGER, ...rest } = options;
    this.data = new Prng(size).bytes(size);
    const readOps: ReadOps = {
      readFolioRange: (iter, ctx, length) => {
        const folio = ctx.curFolio as Folio;
        const errno = this.errnoOf(iter.pos);
        if (errno === -11) throw new FsError('EAGAIN', 'read'); // a congested hook declines
        this.log.push(`${iter.pos}+${length}`);
        this.fetches.push({ folio, offset: iter.pos - folio.pos, length, pos: iter.pos });
        if (this.isSync) this.answer();
      },
      submitRead: () => this.log.push('submit'),
    };
    this.file = new LinearFile({
      size,
      map: (pos, _length, _flags, map) => {
        const offset = pos - (pos % extent);
        Object.assign(map, { type: IOMAP_MAPPED, offset, length: Math.min(extent, Number.MAX_SAFE_INTEGER - offset) });
      },
      readOps,
      ...rest,
    });
  }

  /** Answers the fetch at `index`, by default the first. */
  answer(index = 0): void {
    const [fetch] = this.fetches.splice(index, 1);
    if (fetch === undefined) return;
    const { folio, offset, length, pos } = fetch;
    const errno = this.errnoOf(pos);
    if (errno === 0) {
      folio.bytes(offset, length).fill(0xdd); // a server sends whole blocks, whatever lies behind the end
      folio.bytes(offset, length).set(this.data.subarray(pos, pos + length));
    }
    finishFolioRead(folio, offset, length, errno);
  }
}

test('table 2.3: what a read sees of each type of mapping, for every block size', async () => {
  for (const blockSize of [512, 1024, 4096, 16384, 65536]) {
    const size = 8 * blockSize;
    const file = new BlockFile({ blockSize, size, fill: 0x11 });
    const types: IomapType[] = [
      IOMAP_MAPPED,
      IOMAP_HOLE,
      IOMAP_UNWRITTEN,
      IOMAP_DELALLOC,
      IOMAP_MAPPED,
      IOMAP_HOLE,
      IOMAP_MAPPED,
      IOMAP_UNWRITTEN,
    ];
    const expected = new Uint8Array(size);
    for (const [block, type] of types.entries()) {
      file.set(block, block + 1, type);
      if (type === IOMAP_MAPPED) expected.fill(0x11, block * blockSize, (block + 1) * blockSize);
    }
    assert.deepEqual(await file.read(0, size), expected);
    assert.equal(
      file.device.reads().reduce((sum, { length }) => sum + length, 0),
      3 * blockSize,
      'only mapped blocks are read',
    );
    file.check();
  }
});

test('invariant 11: blocks marked new read as zeros, whatever the device holds', async () => {
  const file = new LinearFile({ size: 16384, fill: 0x55, mapFlags: IOMAP_F_NEW });
  assert.deepEqual(await file.read(0, 16384), new Uint8Array(16384));
  assert.deepEqual(file.device.requests, []);
});

test('bytes past the end of the file are zeros in the cache and are not read past the last block', async () => {
  for (const size of [1, 511, 512, 513, 4095, 4096, 4097, 10_000]) {
    const file = new LinearFile({ blockSize: 512, size, fill: 0x22, orderMin: 2 });
    assert.deepEqual(await file.read(0, 20_000), new Uint8Array(size).fill(0x22));
    const folio = file.folioAt(0);
    const inside = Math.min(size, folio.size);
    assert.deepEqual(folio.bytes(inside, folio.size - inside), new Uint8Array(folio.size - inside));
    for (const { addr, length } of file.device.reads()) assert.ok(addr + length <= Math.ceil(size / 512) * 512);
    file.check();
  }
});

test('FSVERITY: what lies past the end of the file is read, not zeroed', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 100, fill: 0x33, mapFlags: IOMAP_F_FSVERITY });
  file.inode.hasVerityTail = true;
  await file.read(0, 100);
  assert.deepEqual(file.folioAt(0).bytes(0, 4096), new Uint8Array(4096).fill(0x33));
});

test('verify runs before bytes count, holes are verified too, and a failure is an error of the read', async () => {
  const checked: [number, number][] = [];
  let isRotten = false;
  const file: BlockFile = new BlockFile({
    blockSize: 1024,
    size: 4096,
    fill: 0x44,
    readOps: {
      readFolioRange: (iter, ctx, length) => blockReadOps().readFolioRange(iter, ctx, length),
      submitRead: (iter, ctx) => blockReadOps().submitRead?.(iter, ctx),
      verify: async (folio, offset, length) => {
        await turn();
        assert.equal(isBlockUptodate(folio, offset), false);
        checked.push([offset, length]);
        if (isRotten && offset === 0) throw new FsError('EILSEQ', 'read');
      },
    },
  });
  file.set(0, 1, IOMAP_MAPPED);
  file.set(2, 3, IOMAP_MAPPED);
  isRotten = true;
  await assert.rejects(file.read(0, 4096), (error) => hasCode(error, 'EIO'));
  checked.length = 0;
  isRotten = false;
  const bytes = await file.read(0, 4096);
  assert.equal(bytes[0], 0x44);
  assert.equal(bytes[1024], 0);
  assert.deepEqual(checked, [[0, 1024]], 'what was verified before is not read again');
  file.check();
});

function blockReadOps(): ReadOps {
  return plain.io.readOps;
}
const plain = new LinearFile();

test('invariant 7: the pieces of a folio may be answered in any order, and the folio ends its read once', () =>
  forEachSeed('orders', 60, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096]);
    const fetched = new Fetched(60_000, { blockSize, extent: blockSize * prng.between(1, 4), orderMin: prng.below(5) });
    fetched.isSync = prng.chance(0.2);
    const { file } = fetched;
    const reading = file.read(0, 70_000);
    for (let idle = 0; idle < 4; ) {
      if (fetched.fetches.length === 0) idle++;
      else if (prng.chance(0.7)) fetched.answer(prng.below(fetched.fetches.length));
      await null;
      if (fetched.fetches.length === 0) await turn();
    }
    assert.deepEqual(await reading, fetched.data);
    file.check();
  }));

test('bug 10: two sub-folio reads that complete together leave the folio uptodate and unlocked', async () => {
  const fetched = new Fetched(4096, { blockSize: 512, extent: 2048 });
  const reading = fetched.file.read(0, 4096);
  assert.equal(fetched.fetches.length, 2);
  fetched.answer(1);
  fetched.answer(0);
  assert.deepEqual(await reading, fetched.data);
  assert.equal(fetched.file.folioAt(0).isUptodate, true);
  fetched.file.check();
});

test('invariant 67: the end of a read shows the flag and the unlocked folio in one turn', async () => {
  const fetched = new Fetched(16384, { blockSize: 1024, extent: 4096, orderMin: 2 });
  const { file } = fetched;
  const reading = file.read(0, 16384);
  const folio = file.folioAt(0);
  const unlock = folio.unlock.bind(folio);
  let unlocks = 0;
  folio.unlock = () => {
    unlocks++;
    assert.equal(folio.isUptodate, true, 'whoever gets the lock now sees the flag');
    unlock();
  };
  while (fetched.fetches.length > 0) {
    assert.equal(folio.isLocked, true);
    assert.equal(folio.isUptodate, false);
    fetched.answer();
  }
  assert.equal(unlocks, 1);
  await reading;
});

test('bug 28: a folio whose blocks are all valid while a read is pending becomes uptodate at the end of the read', async () => {
  const fetched = new Fetched(8192, { blockSize: 1024, orderMin: 1, extent: 4096 });
  const reading = fetched.file.read(0, 8192);
  const folio = fetched.file.folioAt(0);
  fetched.answer(1);
  markUptodate(folio, 0, 8192); // somebody marks the rest while the first half is in flight
  assert.equal(folio.isUptodate, false);
  fetched.answer(0);
  assert.equal(folio.isUptodate, true);
  assert.deepEqual(await reading, fetched.data);
});

test('bug 29: a folio that was handed over whole is not touched again, not even when the hook is done with it inside the call', async () => {
  for (const blockSize of [1024, 4096]) {
    const fetched = new Fetched(8 * 4096, { blockSize });
    fetched.isSync = true;
    const { file } = fetched;
    const { readFolioRange } = file.io.readOps;
    (file.io.readOps as { readFolioRange: ReadOps['readFolioRange'] }).readFolioRange = (iter, ctx, length) => {
      const folio = ctx.curFolio as Folio;
      readFolioRange(iter, ctx, length);
      if (folio.isLocked) return;
      // It is unlocked: somebody else drops it at once.
      assert.ok(folio.tryLock());
      folio.get();
      file.inode.mapping.remove(folio);
      folio.unlock();
      folio.put();
    };
    const folio = file.inode.mapping.tryCreateOrder(0, 0, true) as Folio;
    await file.inode.mapping.ops.readFolio?.(file.inode.mapping, folio);
    assert.equal(folio.mapping, undefined);
    folio.put();
    (file.io.readOps as { readFolioRange: ReadOps['readFolioRange'] }).readFolioRange = readFolioRange;
    assert.deepEqual(await file.read(0, 8 * 4096), fetched.data);
    file.check();
  }
});

test('invariant 13, Y11: a read of a partly valid folio does not change valid blocks', async () => {
  const fetched = new Fetched(16384, { blockSize: 1024, orderMin: 2 });
  const { file } = fetched;
  await file.write(2048, new Uint8Array(3072).fill(0xee));
  const reading = file.read(0, 16384);
  assert.deepEqual(fetched.log, ['0+2048', '5120+11264', 'submit']);
  while (fetched.fetches.length > 0) fetched.answer();
  const expected = fetched.data.slice();
  expected.fill(0xee, 2048, 5120);
  assert.deepEqual(await reading, expected);
  file.check();
});

test('bug 44: the part of a fetched folio that was written here survives the fetch of the rest', async () => {
  const fetched = new Fetched(65536, { blockSize: 4096, orderMin: 4 });
  const { file } = fetched;
  await file.write(8192, new Uint8Array(4096).fill(0xaa));
  assert.deepEqual((await file.read(8192, 4096)).slice(0, 4), Uint8Array.of(0xaa, 0xaa, 0xaa, 0xaa));
  assert.deepEqual(fetched.log, [], 'a valid block of a folio that is not wholly valid is served from the cache');
  const reading = file.read(0, 65536);
  while (fetched.fetches.length > 0) fetched.answer();
  const expected = fetched.data.slice();
  expected.fill(0xaa, 8192, 12288);
  assert.deepEqual(await reading, expected);
});

test('invariant 14, bug 8: an error leaves the folio unlocked and not uptodate; the next read tries again and may succeed', async () => {
  for (const blockSize of [1024, 4096]) {
    const file = new LinearFile({ blockSize, size: 16384, fill: 0x66 });
    file.device.fails = (bio) => (bio.addr === 0 ? -5 : 0);
    await assert.rejects(file.read(0, 4096), (error) => hasCode(error, 'EIO'));
    const folio = file.folioAt(0);
    assert.deepEqual([folio.isLocked, folio.isUptodate, folio.refs], [false, false, 0]);
    file.check();
    file.device.fails = () => 0;
    assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096).fill(0x66));
    file.check();
  }
});

test('bug 8: a write to a folio whose read failed is not lost', async () => {
  for (const blockSize of [512, 4096]) {
    const file = new LinearFile({ blockSize, size: 8192, fill: 0x66 });
    file.device.fails = () => -5;
    await assert.rejects(file.read(0, 8192), (error) => hasCode(error, 'EIO'));
    assert.equal(await file.write(0, new Uint8Array(4096).fill(0x77)), 4096);
    file.device.fails = () => 0;
    await file.sync();
    await file.dropCache();
    assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096).fill(0x77));
  }
});

test('F11: blocks that were read before an error stay valid', async () => {
  const fetched = new Fetched(8192, { blockSize: 1024, extent: 2048, orderMin: 1 });
  fetched.errnoOf = (pos) => (pos === 4096 ? -5 : 0);
  const { file } = fetched;
  const reading = file.read(0, 8192);
  while (fetched.fetches.length > 0) fetched.answer();
  await turn();
  while (fetched.fetches.length > 0) fetched.answer(); // the reader's own second try
  await assert.rejects(reading, (error) => hasCode(error, 'EIO'));
  const folio = file.folioAt(0);
  assert.deepEqual(
    [0, 2048, 4096, 6144].map((offset) => isBlockUptodate(folio, offset)),
    [true, true, false, true],
  );
  fetched.errnoOf = () => 0;
  fetched.log.length = 0;
  const again = file.read(0, 8192);
  while (fetched.fetches.length > 0) fetched.answer();
  assert.deepEqual(await again, fetched.data);
  assert.deepEqual(
    fetched.log.filter((entry) => entry !== 'submit'),
    ['4096+2048'],
  );
});

test('RA4, RA6: a hook that declines ends readahead silently; a reader that wants the bytes fetches them', async () => {
  const fetched = new Fetched(128 * 1024, { blockSize: 4096, orderMax: 0 });
  fetched.isSync = true;
  const { file } = fetched;
  let declines = 1;
  fetched.errnoOf = (pos) => (pos === 16384 && declines-- > 0 ? -11 : 0);
  assert.deepEqual(await file.read(0, 128 * 1024), fetched.data);
  file.check();
});

test('bug 39: a retry is not an error event, a failure is one with the exact range', async () => {
  const events: unknown[] = [];
  const fetched = new Fetched(65536, { blockSize: 4096, orderMax: 0 });
  fetched.isSync = true;
  const { file } = fetched;
  file.sb.watchErrors(({ kind, pos, length, errno }) => events.push([kind, pos, length, errno]));
  let declines = 3;
  fetched.errnoOf = (pos) => (pos === 8192 && declines-- > 0 ? -11 : 0);
  await file.read(0, 65536);
  await file.sb.work.drain();
  assert.deepEqual(events, []);
  await file.dropCache();
  fetched.errnoOf = (pos) => (pos === 8192 ? -5 : 0);
  await assert.rejects(file.read(8192, 10), (error) => hasCode(error, 'EIO'));
  await file.sb.work.drain();
  assert.ok(events.length > 0);
  for (const event of events) assert.deepEqual(event, ['buffered-read', 8192, 4096, -5]);
});

test('bug 45: the report of a read names the inode although the folio is truncated right after', async () => {
  const inodes: unknown[] = [];
  const fetched = new Fetched(4096, { blockSize: 4096 });
  const { file } = fetched;
  file.sb.watchErrors((report) => inodes.push(report.inode));
  fetched.errnoOf = () => -5;
  const reading = file.read(0, 10);
  const truncated = file.inode.mapping.truncateRange(0, 4096); // waits for the folio lock
  fetched.answer();
  fetched.errnoOf = () => 0;
  await truncated;
  while (fetched.fetches.length > 0) fetched.answer();
  await turn();
  while (fetched.fetches.length > 0) fetched.answer();
  await reading.catch(() => {});
  await file.sb.work.drain();
  assert.deepEqual(inodes, [file.inode]);
});

test('R3, bug 24: a range that starts inside a block skips to the end of a valid block, and starts inside an invalid one', () => {
  const file = new LinearFile({ blockSize: 1024, size: 16384, orderMin: 2 });
  const folio = file.inode.mapping.tryCreateOrder(0, 2, true) as Folio;
  const range = { pos: 0, end: 0 };
  const next = (pos: number, end: number) => {
    nextReadRange(file.inode, folio, pos, end, range);
    return [range.pos, range.end];
  };
  assert.deepEqual(next(100, 16384), [100, 16384]);
  markPart(folio, 1024, 1024);
  assert.deepEqual(next(1500, 16384), [2048, 16384]);
  assert.deepEqual(next(1500, 2048), [2048, 2048]);
  assert.deepEqual(next(100, 16384), [100, 1024]);
  markPart(folio, 0, 1024);
  assert.deepEqual(next(100, 16384), [2048, 16384]);
  markPart(folio, 4096, 4096);
  assert.deepEqual(next(2049, 16384), [2049, 4096]);
  assert.deepEqual(next(5000, 6000), [6000, 6000]);
});

function markPart(folio: Folio, offset: number, length: number): void {
  ensureState(folio, 1024);
  markUptodate(folio, offset, length);
}

test('bug 23: the cut at the end of the file is made in this folio, not at the end of the extent', () => {
  const file = new LinearFile({ blockSize: 1024, size: 5000, orderMin: 1 });
  const folio = file.inode.mapping.tryCreateOrder(0, 1, true) as Folio;
  ensureState(folio, 1024);
  const range = { pos: 0, end: 0 };
  nextReadRange(file.inode, folio, 0, 8192, range);
  assert.deepEqual(range, { pos: 0, end: 5120 });
  nextReadRange(file.inode, folio, 5120, 8192, range);
  assert.deepEqual(range, { pos: 5120, end: 8192 });
  file.inode.size = 100_000;
  nextReadRange(file.inode, folio, 0, 8192, range);
  assert.deepEqual(range, { pos: 0, end: 8192 });
  file.inode.size = 8192;
  nextReadRange(file.inode, folio, 0, 8192, range);
  assert.deepEqual(range, { pos: 0, end: 8192 });
});

test('bug 22: ranges past 4 GiB and 2^40 are read once, and end', async () => {
  for (const start of [2 ** 31 - 4096, 2 ** 32 - 8192, 2 ** 40, 2 ** 52]) {
    const file: LinearFile = new LinearFile({
      blockSize: 1024,
      size: start + 65536,
      map: (pos, _length, _flags, map) => {
        const offset = pos - (pos % 65536);
        Object.assign(map, { type: IOMAP_MAPPED, offset, length: 65536, addr: 0, bdev: file.device });
      },
    });
    file.device.inner.fill(0x12);
    assert.deepEqual(await file.read(start + 100, 50_000), new Uint8Array(50_000).fill(0x12));
    await file.write(start + 1001, new Uint8Array(3000).fill(0x34));
    await file.sync();
    await file.dropCache();
    assert.deepEqual((await file.read(start + 1000, 3)).slice(), Uint8Array.of(0x12, 0x34, 0x34));
    file.check();
  }
});

test('RA5: folios that are holes are unlocked uptodate without I/O', async () => {
  const file = new LinearFile({ size: 128 * 1024, type: IOMAP_HOLE, map: (_pos, _l, _f, map) => void (map.length = 2 ** 30) });
  assert.deepEqual(await file.read(0, 4096), new Uint8Array(4096));
  assert.ok(file.folios().length > 1, 'readahead');
  for (const folio of file.folios()) assert.equal(folio.isUptodate, true);
  assert.deepEqual(file.device.requests, []);
  file.check();
});

test('readahead: contiguous folios share a bio, marked as readahead, and no bio spans two mappings', async () => {
  const file: LinearFile = new LinearFile({
    size: 128 * 1024,
    fill: 1,
    orderMax: 0,
    map: (pos, _length, _flags, map) => {
      const offset = pos - (pos % 32768);
      Object.assign(map, { type: IOMAP_MAPPED, offset, length: 32768, addr: offset, bdev: file.device });
    },
  });
  const flags: number[] = [];
  file.device.fails = (bio) => {
    flags.push(bio.flags);
    return 0;
  };
  await file.read(0, 65536);
  const reads = file.device.reads();
  assert.deepEqual(reads.slice(0, 2), [
    { op: 'read', addr: 0, length: 32768 },
    { op: 'read', addr: 32768, length: 32768 },
  ]);
  assert.ok(flags.every((each) => (each & REQ_RAHEAD) !== 0));
});

test('a folio larger than the largest request is read in parts', async () => {
  for (const [blockSize, bioSizeMax] of [
    [4096, 65536],
    [512, 65536],
    [4096, 10240],
    [16384, 4096],
    [65536, 4096],
  ] as const) {
    const file = new LinearFile({ blockSize, size: 2 ** 21, fill: 3, bioSizeMax, orderMin: 5 });
    assert.deepEqual(await file.read(0, 2 ** 20), new Uint8Array(2 ** 20).fill(3));
    for (const { length } of file.device.reads()) assert.ok(length <= bioSizeMax);
    file.check();
    // An error in the middle fails the folio once, and the next read gets over it.
    await file.dropCache();
    let failures = 1;
    file.device.fails = (bio) => (bio.addr > 0 && failures-- > 0 ? -5 : 0);
    await file.read(0, 2 ** 20).catch((error) => assert.ok(hasCode(error, 'EIO')));
    assert.deepEqual(await file.read(0, 2 ** 20), new Uint8Array(2 ** 20).fill(3));
    file.check();
    // Held and released in reverse.
    await file.dropCache();
    file.device.holds = () => true;
    const reading = file.read(0, 2 ** 20);
    for (let idle = 0; idle < 5; ) {
      if (file.device.held.length === 0) {
        idle++;
        await turn();
      } else file.device.release(file.device.held.length - 1);
    }
    assert.deepEqual(await reading, new Uint8Array(2 ** 20).fill(3));
    file.check();
  }
});

test('R12, Y4: a hook may complete inside its call, after the next call, or in reverse', async () => {
  for (const order of ['inside', 'next', 'reverse'] as const) {
    const fetched = new Fetched(32768, { blockSize: 1024, extent: 3072, orderMin: 3 });
    const { file } = fetched;
    fetched.isSync = order === 'inside';
    const { readFolioRange } = file.io.readOps;
    if (order === 'next') {
      (file.io.readOps as { readFolioRange: ReadOps['readFolioRange'] }).readFolioRange = (iter, ctx, length) => {
        readFolioRange(iter, ctx, length);
        if (fetched.fetches.length > 1) fetched.answer(0);
      };
    }
    const reading = file.read(0, 32768);
    while (fetched.fetches.length > 0) fetched.answer(order === 'reverse' ? fetched.fetches.length - 1 : 0);
    assert.deepEqual(await reading, fetched.data);
    file.check();
  }
});

test('server-fetched files: mappings that end inside a block are fetched in whole blocks, each once', async () => {
  const fetched = new Fetched(50_000, { blockSize: 4096, extent: 1000, orderMin: 3 });
  fetched.isSync = true;
  assert.deepEqual(await fetched.file.read(0, 60_000), fetched.data);
  const seen = new Set<number>();
  for (const entry of fetched.log.filter((each) => each !== 'submit')) {
    const [pos, length] = entry.split('+').map(Number) as [number, number];
    assert.equal(pos % 4096, 0);
    for (let at = pos; at < pos + length; at += 4096) {
      assert.equal(seen.has(at), false);
      seen.add(at);
    }
  }
  fetched.file.check();
});

test('invariant 20: a NOWAIT read answers or throws in the same turn, at each place where it could wait', async () => {
  const fetched = new Fetched(256 * 1024, { blockSize: 4096, orderMax: 0 });
  const { file } = fetched;
  const { inode } = file;
  const read = (pos: number, length: number) => bufferedRead({ pos, flags: IOCB_NOWAIT }, inode, new Uint8Array(length));
  const declines = (call: () => unknown) =>
    assert.throws(
      () => assert.equal(isPromise(call()), false),
      (error) => hasCode(error, 'EAGAIN'),
    );
  declines(() => read(0, 10)); // nothing cached
  assert.equal(file.begins, 0);
  const reading = file.read(0, 4096);
  declines(() => read(0, 10)); // a read is in flight, the folio locked
  while (fetched.fetches.length > 0) fetched.answer();
  await reading;
  assert.equal(read(0, 4096), 4096); // cached
  const last = file.folios()[file.folios().length - 1] as Folio;
  assert.equal(read(last.pos, 8192), 4096, 'short where it would have to wait');
  const marked = file.folios().find((folio) => folio.isReadaheadMark) as Folio;
  if (marked !== undefined) assert.equal(read(marked.pos, 10), 10); // readahead would wait: it is left out
  await inode.mapping.invalidateLock.lock();
  declines(() => read(last.end, 10));
  assert.equal(read(0, 10), 10);
  inode.mapping.invalidateLock.unlock();
  const folio = file.folioAt(0);
  assert.ok(folio.tryLock());
  assert.equal(read(0, 10), 10, 'a valid folio is read whoever holds its lock');
  folio.unlock();
});

test('a reader stops at EINTR when its signal is aborted, with the bytes it has', async () => {
  const file = new LinearFile({ size: 65536, fill: 1 });
  const signal = { aborted: true };
  await assert.rejects(
    async () => bufferedRead({ pos: 0, flags: 0, signal }, file.inode, new Uint8Array(10)),
    (error) => hasCode(error, 'EINTR'),
  );
});

test('device errors reach the reader that caused them, and nobody else', async () => {
  const file = new LinearFile({ size: 65536, fill: 1, orderMax: 0 });
  file.device.fails = (bio) => (bio.addr <= 8192 && bio.addr + bio.length > 8192 && bio.length <= 4096 ? -5 : bio.length > 4096 ? -5 : 0);
  assert.equal((await file.read(0, 4096)).length, 4096);
  await assert.rejects(file.read(8192, 10), (error) => hasCode(error, 'EIO'));
  assert.equal((await file.read(4096, 8192)).length, 4096, 'short before the bad block');
  assert.equal((await file.read(12288, 10)).length, 10);
  assert.equal(file.inode.mapping.errorCount, 0, 'a read error is not a writeback error');
});

// ---- inline data

/** A small file whose data is in a buffer, as one mapping; the buffer may be larger than the file. */
function inlineFile(data: Uint8Array, size: number, options: LinearOptions = {}, length = data.length): LinearFile {
  return new LinearFile({
    size,
    map: (_pos, _length, _flags, map) => {
      map.type = IOMAP_INLINE;
      map.offset = 0;
      map.length = length;
      map.inlineData = data;
    },
    ...options,
  });
}

test('bug 25: a read of inline data makes the progress that it says, and ends', async () => {
  for (const blockSize of [512, 4096, 16384]) {
    for (const size of [0, 1, 100, 511, 512, 4000]) {
      const data = new Prng(size).bytes(4000);
      const file = inlineFile(data, size, { blockSize });
      assert.deepEqual(await file.read(0, 5000), data.slice(0, size));
      if (size === 0) continue;
      const folio = file.folioAt(0);
      assert.equal(folio.isUptodate, true);
      assert.deepEqual(folio.bytes(size, folio.size - size), new Uint8Array(folio.size - size), 'zeros behind the data');
      assert.ok(file.begins <= 2);
      file.check();
    }
  }
});

test('bug 35: an inline buffer may be as long as it is, and cross a page', async () => {
  const whole = new Prng(1).bytes(3 * PAGE_SIZE);
  // A view into a larger buffer, that starts near the end of a page.
  const data = whole.subarray(PAGE_SIZE - 50, PAGE_SIZE - 50 + 6000);
  const file = inlineFile(data, 6000, { blockSize: 1024 });
  assert.deepEqual(await file.read(0, 7000), data.slice());
  const exact = inlineFile(data.subarray(0, 10), 10);
  assert.deepEqual(await exact.read(0, 20), data.slice(0, 10));
});

test('inline data in packets that do not align with blocks: reads and readahead give the file', () =>
  forEachSeed('packets', 60, async (prng) => {
    const size = prng.pick([1000, 5000, 20_000, 400_000]);
    const data = prng.bytes(size);
    const packet = prng.pick([100, 512, 700, 1000, 4096, 5000, 9999]);
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    // Some of the packets that start on a block are holes; these may end inside a block.
    const holes = prng.chance(0.5) ? prng.between(1, 3) : 0;
    const isHole = (offset: number) => holes > 0 && offset % blockSize === 0 && (offset / blockSize) % holes === 0;
    const expected = data.slice();
    for (let at = 0; at < size; at += packet) if (isHole(at)) expected.fill(0, at, at + packet);
    const file = new LinearFile({
      size,
      blockSize,
      orderMin: prng.below(3),
      map: (pos, _length, _flags, map: Iomap) => {
        const offset = pos - (pos % packet);
        map.offset = offset;
        map.length = packet;
        if (offset >= size || isHole(offset)) {
          map.type = IOMAP_HOLE;
          return;
        }
        map.type = IOMAP_INLINE;
        map.inlineData = data.subarray(offset, offset + packet);
      },
    });
    for (let step = 0; step < 6; step++) {
      const pos = prng.below(size);
      const length = 1 + prng.below(size);
      assert.deepEqual(await file.read(pos, length), expected.slice(pos, pos + length), `read ${pos}+${length}`);
      file.check();
    }
    assert.deepEqual(await file.read(0, size + 100), expected);
    for (const folio of file.folios()) assert.equal(folio.isUptodate, true);
    await file.dropCache();
    file.check();
  }));
