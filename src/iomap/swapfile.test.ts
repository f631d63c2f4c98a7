import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_DIRTY,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  type IomapType,
} from './iomap.ts';
import { type SwapArea, swapActivate } from './swapfile.ts';

const PAGE = 4096;

interface Piece {
  length: number;
  addr: number;
  type?: IomapType;
  flags?: number;
  isForeign?: boolean;
}

const elsewhere = new MemoryDevice({ size: 2 ** 26 });

/** A file made of pieces one after the other, all lengths in bytes. */
function fileOf(pieces: Piece[], blockSize = 1024, size = pieces.reduce((sum, { length }) => sum + length, 0)): LinearFile {
  const file: LinearFile = new LinearFile({
    size,
    blockSize,
    map: (pos, _length, _flags, map) => {
      let offset = 0;
      for (const { length, addr, type = IOMAP_MAPPED, flags = 0, isForeign } of pieces) {
        if (pos < offset + length) {
          Object.assign(map, { type, flags, offset, length });
          if (type === IOMAP_INLINE) map.inlineData = new Uint8Array(length);
          if (type !== IOMAP_MAPPED && type !== IOMAP_UNWRITTEN) return;
          map.addr = addr;
          map.bdev = isForeign ? elsewhere : file.device;
          return;
        }
        offset += length;
      }
    },
  });
  return file;
}

async function activate(pieces: Piece[], options: { max?: number; blockSize?: number; size?: number } = {}): Promise<SwapArea> {
  const file = fileOf(pieces, options.blockSize, options.size);
  return swapActivate(file.inode, file.io.ops, { bdev: file.device, ...(options.max === undefined ? {} : { max: options.max }) });
}

test('mappings that follow each other on the device are one extent; the header does not count for the span', async () => {
  assert.deepEqual(
    await activate([
      { length: 4 * PAGE, addr: 100 * PAGE },
      { length: 4 * PAGE, addr: 104 * PAGE, type: IOMAP_UNWRITTEN },
      { length: 2 * PAGE, addr: 90 * PAGE },
    ]),
    {
      extents: [
        { startPage: 0, pageCount: 8, addr: 100 * PAGE },
        { startPage: 8, pageCount: 2, addr: 90 * PAGE },
      ],
      pageCount: 10,
      spanPages: 108 - 90,
    },
  );
  // Only the header lies low.
  const low = await activate([
    { length: PAGE, addr: 0 },
    { length: 2 * PAGE, addr: 50 * PAGE },
  ]);
  assert.equal(low.spanPages, 2);
});

test('bug 37: an extent inside one page, or over parts of two, gives no pages and not a negative number of them', async () => {
  const area = await activate([
    { length: 4 * PAGE, addr: 0 },
    { length: 1024, addr: 20 * PAGE + 1024 },
    { length: 2048, addr: 31 * PAGE - 1024 },
    { length: 1024, addr: 50 * PAGE },
    { length: 2 * PAGE, addr: 60 * PAGE + 2048 },
  ]);
  assert.deepEqual(area.extents, [
    { startPage: 0, pageCount: 4, addr: 0 },
    { startPage: 4, pageCount: 1, addr: 61 * PAGE },
  ]);
  await assert.rejects(
    async () =>
      activate([
        { length: 1024, addr: 1024 },
        { length: 4096, addr: 10 * PAGE + 512 * 2 },
      ]),
    {
      code: 'EINVAL',
      message: /has not one usable page/,
    },
  );
});

test('the maximum cuts the list, and with it the span', async () => {
  const pieces = [
    { length: 4 * PAGE, addr: 8 * PAGE },
    { length: 4 * PAGE, addr: 20 * PAGE },
    { length: 4 * PAGE, addr: 40 * PAGE },
  ];
  const area = await activate(pieces, { max: 6 });
  assert.deepEqual(
    area.extents.map(({ pageCount }) => pageCount),
    [4, 2],
  );
  assert.equal(area.spanPages, 22 - 9);
  await assert.rejects(async () => activate(pieces, { max: 1 }), { code: 'EINVAL' });
});

test('what lies past the last whole page of the file is not used', async () => {
  const area = await activate([{ length: 64 * PAGE, addr: 0 }], { size: 5 * PAGE + 100 });
  assert.deepEqual(area.extents, [{ startPage: 0, pageCount: 5, addr: 0 }]);
});

test('invariant 59: what cannot be swapped to is refused, and the message says why and where', async () => {
  const good = { length: 4 * PAGE, addr: 0 };
  const cases: [Piece, RegExp][] = [
    [{ length: PAGE, addr: 0, type: IOMAP_HOLE }, /at byte 16384: the file has unallocated extents/],
    [{ length: PAGE, addr: 0, type: IOMAP_DELALLOC }, /has unallocated extents/],
    [{ length: PAGE, addr: 0, type: IOMAP_INLINE }, /is inline/],
    [{ length: PAGE, addr: 8 * PAGE, flags: IOMAP_F_DIRTY }, /is not committed/],
    [{ length: PAGE, addr: 8 * PAGE, flags: IOMAP_F_SHARED }, /has shared extents/],
    [{ length: PAGE, addr: 8 * PAGE, isForeign: true }, /is outside the main device/],
  ];
  for (const [piece, message] of cases) {
    await assert.rejects(async () => activate([good, piece]), { code: 'EINVAL', syscall: 'swapon', message });
  }
  await assert.rejects(async () => activate([{ length: PAGE, addr: 0 }], { size: 1000 }), {
    code: 'EINVAL',
    message: /smaller than a page/,
  });
});

test('the file is made durable before its mappings are looked at', async () => {
  const order: string[] = [];
  const file = fileOf([{ length: 4 * PAGE, addr: 0 }]);
  const ops = {
    iomapBegin: (...args: Parameters<typeof file.io.ops.iomapBegin>) => {
      order.push('begin');
      return file.io.ops.iomapBegin(...args);
    },
  };
  const fsync = async () => {
    order.push('fsync');
  };
  await swapActivate(file.inode, ops, { bdev: file.device, fsync });
  assert.deepEqual(order, ['fsync', 'begin']);
});

test('invariant 59: the list holds exactly the whole pages of the runs on the device', () =>
  forEachSeed('swap', 300, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096]);
    const unit = (bytes: number) => Math.floor(bytes / blockSize) * blockSize;
    const pieces: Piece[] = [];
    let addr = 0;
    for (let i = prng.between(1, 12); i > 0; i--) {
      const length = Math.max(blockSize, unit(prng.between(1, 5 * PAGE)));
      if (prng.chance(0.6)) addr = unit(prng.below(2 ** 25));
      pieces.push({ length, addr });
      addr += length;
    }
    const total = pieces.reduce((sum, { length }) => sum + length, 0);
    const wholePages = Math.floor(total / PAGE) * PAGE;
    // By block: a page is usable if its blocks lie one after the other in the file, inside one run.
    const expected: number[] = [];
    let runStart = -1;
    let runEnd = -1;
    const close = () => {
      for (let page = Math.ceil(runStart / PAGE); runStart >= 0 && (page + 1) * PAGE <= runEnd; page++) expected.push(page);
    };
    let offset = 0;
    for (const piece of pieces) {
      const length = Math.min(piece.length, wholePages - offset);
      if (length <= 0) break;
      if (piece.addr !== runEnd) {
        close();
        runStart = piece.addr;
      }
      runEnd = piece.addr + length;
      offset += length;
    }
    close();
    if (expected.length <= 1) {
      await assert.rejects(async () => activate(pieces, { blockSize }), { code: 'EINVAL' });
      return;
    }
    const area = await activate(pieces, { blockSize });
    const actual: number[] = [];
    let next = 0;
    for (const { startPage, pageCount, addr: at } of area.extents) {
      assert.equal(startPage, next);
      assert.equal(at % PAGE, 0);
      for (let i = 0; i < pageCount; i++) actual.push(at / PAGE + i);
      next += pageCount;
    }
    assert.deepEqual(actual, expected);
    assert.equal(area.pageCount, expected.length);
    assert.equal(area.spanPages, 1 + Math.max(...expected.slice(1)) - Math.min(...expected.slice(1)));
  }));
