import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile, type LinearOptions } from '../../test/support/linear-file.ts';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter, type WriteSource } from '../base/iov-iter.ts';
import { Prng } from '../base/prng.ts';
import { isPromise, type MaybePromise } from '../base/task.ts';
import { FGP_NOWAIT } from '../pagecache/address-space.ts';
import { bufferedFileWrite } from './buffered-file.ts';
import { bufferedWrite } from './buffered-write.ts';
import { folioStateUsage, hasState, isBlockUptodate } from './folio-state.ts';
import { IOCB_ATOMIC, IOCB_DONTCACHE, IOCB_NOWAIT } from './iocb.ts';
import {
  IOMAP_DELALLOC,
  IOMAP_F_FSVERITY,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_F_STALE,
  IOMAP_F_ZERO_TAIL,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  type Iomap,
  type IomapType,
} from './iomap.ts';
import { unshare } from './unshare.ts';

const MIB = 1024 * 1024;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A source of a write whose every copy is cut by the test: it returns how many of `asked` bytes get through. */
class Stingy implements WriteSource {
  readonly data: Uint8Array;
  readonly cut: (asked: number) => number;
  at = 0;
  copies = 0;
  faults = 0;
  onFault: () => MaybePromise<number | undefined> = () => undefined;

  constructor(data: Uint8Array, cut: (asked: number) => number) {
    this.data = data;
    this.cut = cut;
  }

  get count(): number {
    return this.data.length - this.at;
  }

  faultIn(length: number): MaybePromise<number> {
    this.faults++;
    const answer = this.onFault();
    if (isPromise(answer)) return answer.then((value) => (value as number | undefined) ?? Math.min(length, this.count));
    return answer ?? Math.min(length, this.count);
  }

  copyTo(into: Uint8Array, at: number, length: number): number {
    this.copies++;
    const copied = Math.min(length, this.count, this.cut(length));
    into.set(this.data.subarray(this.at, this.at + copied), at);
    this.at += copied;
    return copied;
  }

  revert(length: number): void {
    this.at -= length;
  }
}

function writeFrom(file: LinearFile, pos: number, source: WriteSource, flags = 0): MaybePromise<number> {
  return bufferedWrite({ pos, flags }, file.inode, source, file.io);
}

test('seed 000: a write of bytes 1..1048575 into an absent 1 MiB folio of a 2 MiB file reads its first and last block only', async () => {
  const file = new LinearFile({ size: 2 * MIB, fill: 0x11 });
  const data = new Uint8Array(MIB - 2).fill(0x77);
  assert.equal(await file.write(1, data), data.length);
  assert.equal(file.cache.folioCount, 1);
  const folio = file.inode.mapping.find(0);
  assert.equal(folio?.size, MIB);
  assert.deepEqual(file.device.requests, [
    { op: 'read', addr: 0, length: 4096 },
    { op: 'read', addr: MIB - 4096, length: 4096 },
  ]);
  const expected = new Uint8Array(MIB).fill(0x77);
  expected[0] = 0x11;
  expected[MIB - 1] = 0x11;
  assert.deepEqual(await file.read(0, MIB), expected);
  file.device.clear();
  await file.sync();
  assert.deepEqual(file.device.requests, [{ op: 'write', addr: 0, length: MIB }]);
  // One byte more: one block goes out.
  file.device.clear();
  await file.write(5 * 4096 + 7, Uint8Array.of(1));
  await file.sync();
  assert.deepEqual(file.device.requests, [{ op: 'write', addr: 5 * 4096, length: 4096 }]);
  await file.dropCache();
  expected[5 * 4096 + 7] = 1;
  assert.deepEqual(await file.read(0, MIB), expected);
});

test('invariant 8: a write of a whole absent folio allocates no record and reads nothing', async () => {
  const file = new LinearFile({ size: MIB, fill: 0x11 });
  await file.write(0, new Uint8Array(65536).fill(3));
  const folio = file.inode.mapping.find(0);
  assert.equal(folio?.size, 65536);
  assert.equal(folio !== undefined && hasState(folio), false);
  assert.equal(file.device.requests.length, 0);
});

test('a cached read answers without a promise', async () => {
  const file = new LinearFile({ size: MIB, fill: 0x11 });
  await file.read(0, MIB);
  const { bufferedRead } = await import('./buffered-read.ts');
  const into = new Uint8Array(4096);
  assert.equal(bufferedRead({ pos: 8192, flags: 0 }, file.inode, into), 4096);
  assert.deepEqual(into, new Uint8Array(4096).fill(0x11));
});

// ---- what is read, what is written

test('invariant 9: a write of [1, F-1) into an absent folio reads its first and last block, once, for every block and folio size', async () => {
  for (const blockSize of [512, 1024, 4096, 8192, 65536]) {
    for (const folioSize of [4096, 16384, 65536, MIB, 2 * MIB]) {
      if (folioSize < blockSize) continue;
      const file = new LinearFile({ blockSize, size: 4 * MIB, fill: 0x11 });
      const data = new Uint8Array(folioSize - 2).fill(0x77);
      assert.equal(await file.write(1, data), data.length);
      assert.equal(file.folioAt(0).size, folioSize);
      const blocks = folioSize / blockSize;
      const expected =
        blocks >= 3
          ? [
              { op: 'read', addr: 0, length: blockSize },
              { op: 'read', addr: folioSize - blockSize, length: blockSize },
            ]
          : [{ op: 'read', addr: 0, length: folioSize }];
      assert.deepEqual(file.device.requests, expected, `blocks of ${blockSize}, folio of ${folioSize}`);
      const content = new Uint8Array(folioSize).fill(0x77);
      content[0] = content[folioSize - 1] = 0x11;
      assert.deepEqual(await file.read(0, folioSize), content);
      file.check();
    }
  }
});

test('invariant 10: after that, writeback carries the folio; after one byte in a cached folio, one block', async () => {
  for (const blockSize of [512, 1024, 4096, 16384]) {
    for (const folioSize of [16384, 65536, MIB]) {
      const file = new LinearFile({ blockSize, size: 4 * MIB, fill: 0x11 });
      await file.write(1, new Uint8Array(folioSize - 2).fill(0x77));
      file.device.clear();
      await file.sync();
      assert.equal(
        file.device.writes().reduce((sum, { length }) => sum + length, 0),
        folioSize,
      );
      file.device.clear();
      const block = Math.floor(folioSize / blockSize / 2);
      await file.write(block * blockSize + 3, Uint8Array.of(1));
      await file.sync();
      assert.deepEqual(file.device.requests, [{ op: 'write', addr: block * blockSize, length: blockSize }]);
      file.check();
    }
  }
});

test('invariant 12: blocks that a write covers whole are never read', () =>
  forEachSeed('whole blocks', 60, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384, 65536]);
    const file = new LinearFile({ blockSize, size: 4 * MIB, fill: 0x11, orderMin: prng.below(4) });
    for (let i = 0; i < 10; i++) {
      const pos = prng.below(2 * MIB);
      const length = 1 + prng.below(prng.pick([100, blockSize * 3, MIB]));
      file.device.clear();
      await file.write(pos, prng.bytes(length));
      for (const read of file.device.reads()) {
        for (let at = read.addr; at < read.addr + read.length; at += blockSize) {
          assert.ok(at < pos || at + blockSize > pos + length, `block at ${at} is covered by ${pos}+${length} and was read`);
        }
      }
    }
    file.check();
  }));

test('invariant 8: whole folios of every size are written without a record and without a read', async () => {
  for (const folioSize of [4096, 16384, 65536, 2 * MIB]) {
    const before = folioStateUsage().records;
    const file = new LinearFile({ blockSize: 512, size: 8 * MIB, fill: 1 });
    await file.write(2 * MIB, new Uint8Array(folioSize));
    assert.equal(file.folioAt(2 * MIB).size, folioSize);
    assert.equal(hasState(file.folioAt(2 * MIB)), false);
    assert.equal(folioStateUsage().records, before);
    assert.deepEqual(file.device.requests, []);
  }
});

test('invariant 11: the rest of a block over a hole, a reservation, unwritten or new blocks reads as zeros', () =>
  forEachSeed('no garbage', 60, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384, 65536]);
    const type = prng.pick<IomapType>([IOMAP_HOLE, IOMAP_DELALLOC, IOMAP_UNWRITTEN]);
    const size = 256 * 1024;
    const file = new BlockFile({ blockSize, size, fill: 0xdb, initial: type });
    const model = new Uint8Array(size);
    for (let i = 0; i < 8; i++) {
      const pos = prng.below(size - 1);
      const data = prng.bytes(1 + prng.below(Math.min(size - pos, 20_000)));
      await file.write(pos, data);
      model.set(data, pos);
    }
    assert.deepEqual(file.device.reads(), []);
    assert.deepEqual(await file.read(0, size), model);
    await file.sync();
    await file.dropCache();
    assert.deepEqual(await file.read(0, size), model);
    // The device, too, has zeros around the data in every block that was written.
    for (const block of file.ofType(IOMAP_MAPPED, size / blockSize)) {
      assert.deepEqual(file.device.inner.read(block * blockSize, blockSize), model.slice(block * blockSize, (block + 1) * blockSize));
    }
    file.check();
  }));

test('invariant 11: blocks that begin says are new are zeroed around the data, not read', async () => {
  const file = new LinearFile({ size: 65536, fill: 0xdb, mapFlags: IOMAP_F_NEW });
  await file.write(5000, Uint8Array.of(7));
  const expected = new Uint8Array(4096);
  expected[5000 - 4096] = 7;
  assert.deepEqual(file.folioAt(4096).bytes(0, 4096), expected);
  assert.deepEqual(file.device.requests, []);
});

test('the tail of the last block behind the end of the file is zero in the cache, whatever the device holds there', async () => {
  for (const blockSize of [512, 4096, 16384]) {
    const file = new LinearFile({ blockSize, size: 700, fill: 0xdb });
    await file.write(10, Uint8Array.of(1));
    const folio = file.folioAt(0);
    assert.deepEqual(
      folio.bytes(700, Math.min(blockSize, folio.size) - 700 > 0 ? blockSize - 700 : 0),
      new Uint8Array(Math.max(0, blockSize - 700)),
    );
    file.inode.size = 700;
    await file.sync();
    for (const { addr, length } of file.device.writes()) {
      const bytes = file.device.inner.read(addr, length);
      if (addr + length > 700) assert.ok(bytes.subarray(Math.max(0, 700 - addr)).every((byte) => byte === 0));
    }
  }
});

test('ZERO_TAIL: behind the written bytes the rest of the last block is zeroed although the mapping is mapped', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 16384, fill: 0x99, mapFlags: IOMAP_F_ZERO_TAIL, orderMin: 2 });
  await file.write(1500, new Uint8Array(1000).fill(1)); // [1500, 2500): head block 1, tail block 2
  assert.deepEqual(file.device.reads(), [{ op: 'read', addr: 1024, length: 1024 }], 'the head is read, the tail is not');
  const folio = file.folioAt(0);
  const expected = new Uint8Array(2048);
  expected.fill(0x99, 0, 476);
  expected.fill(1, 476, 1476);
  assert.deepEqual(folio.bytes(1024, 2048), expected);
  // Head and tail in one block.
  file.device.clear();
  await file.write(5 * 1024 + 10, new Uint8Array(5).fill(2));
  assert.deepEqual(file.device.reads(), [{ op: 'read', addr: 5120, length: 1024 }]);
  const block = new Uint8Array(1024);
  block.fill(0x99, 0, 10);
  block.fill(2, 10, 15);
  assert.deepEqual(folio.bytes(5120, 1024), block);
});

test('FSVERITY: a write past the end of the file reads the block it falls in', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 100, fill: 0x77, mapFlags: IOMAP_F_FSVERITY });
  file.inode.hasVerityTail = true;
  await bufferedWrite({ pos: 5000, flags: 0 }, file.inode, new IovIter(Uint8Array.of(1)), file.io, { raisesSize: false });
  assert.deepEqual(file.device.reads(), [{ op: 'read', addr: 4096, length: 1024 }]);
  assert.equal(file.folioAt(4096).bytes(0, 1)[0], 0x77);
  await file.sync();
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 4096, length: 1024 }]);
});

test('head and tail of one write are fetched together where the gap is small enough', async () => {
  for (const [mergeGap, requests] of [
    [0, 2],
    [4095, 2],
    [4096, 1],
    [MIB, 1],
  ] as const) {
    const file = new LinearFile({ blockSize: 4096, size: MIB, fill: 0x11, orderMin: 4, writeOps: { mergeGap } });
    await file.write(100, new Uint8Array(2 * 4096).fill(0x22)); // blocks 0, 1, 2: one whole block between
    assert.equal(file.device.reads().length, requests, `gap ${mergeGap}`);
    const expected = new Uint8Array(3 * 4096).fill(0x11);
    expected.fill(0x22, 100, 100 + 8192);
    assert.deepEqual(await file.read(0, 3 * 4096), expected);
    file.check();
  }
});

test('S3: with a source map old bytes come from it and new ones go to the mapping', async () => {
  const file: LinearFile = new LinearFile({
    blockSize: 1024,
    size: 16384,
    orderMin: 2,
    map: (_pos, _length, flags, map, srcmap) => {
      const source = (flags & IOMAP_WRITE) !== 0 ? srcmap : map;
      if ((flags & IOMAP_WRITE) !== 0) {
        Object.assign(map, { type: IOMAP_UNWRITTEN, flags: IOMAP_F_SHARED, offset: 0, length: 16384, addr: 65536, bdev: file.device });
      }
      Object.assign(source, { type: IOMAP_MAPPED, offset: 0, length: 16384, addr: 0, bdev: file.device });
    },
    ioend: {
      mapBlocks: (wpc) => {
        Object.assign(wpc.iomap, { type: IOMAP_MAPPED, flags: IOMAP_F_SHARED, offset: 0, length: 16384, addr: 65536, bdev: file.device });
      },
    },
  });
  file.device.inner.fill(0x51, 0, 16384);
  file.device.inner.fill(0xbd, 65536, 16384);
  await file.write(1100, new Uint8Array(2000).fill(2));
  await file.sync();
  assert.deepEqual(file.device.requests, [
    { op: 'read', addr: 1024, length: 1024 },
    { op: 'read', addr: 3072, length: 1024 },
    { op: 'write', addr: 65536 + 1024, length: 3072 },
  ]);
  const copy = new Uint8Array(3072).fill(0x51);
  copy.fill(2, 76, 2076);
  assert.deepEqual(file.device.inner.read(65536 + 1024, 3072), copy);
  assert.deepEqual(file.device.inner.read(0, 16384), new Uint8Array(16384).fill(0x51), 'the shared blocks are as they were');
});

test('out of place always: every write goes to a fresh place, and the source map is where the last one went', () =>
  forEachSeed('log-structured', 30, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096]);
    const size = 32 * blockSize;
    const place = new Map<number, number>(); // block -> device address
    let next = 0;
    const file: LinearFile = new LinearFile({
      blockSize,
      size,
      fill: 0xdb,
      map: (pos, _length, flags, map, srcmap) => {
        const block = Math.floor(pos / blockSize);
        const old = place.get(block);
        const at = { offset: block * blockSize, length: blockSize };
        const source = (flags & IOMAP_WRITE) !== 0 ? srcmap : map;
        if ((flags & IOMAP_WRITE) !== 0) Object.assign(map, { ...at, type: IOMAP_DELALLOC, flags: IOMAP_F_SHARED });
        if (old !== undefined) Object.assign(source, { ...at, type: IOMAP_MAPPED, addr: old, bdev: file.device });
        else Object.assign(source, { ...at, type: source === srcmap ? IOMAP_UNWRITTEN : IOMAP_HOLE });
      },
      ioend: {
        mapBlocks: (wpc, pos) => {
          const block = Math.floor(pos / blockSize);
          const addr = (next = (next + blockSize) % (32 * MIB));
          place.set(block, addr);
          Object.assign(wpc.iomap, {
            type: IOMAP_MAPPED,
            flags: IOMAP_F_SHARED,
            offset: block * blockSize,
            length: blockSize,
            addr,
            bdev: file.device,
          });
        },
      },
    });
    const model = new Uint8Array(size);
    for (let step = 0; step < 30; step++) {
      const pos = prng.below(size);
      const data = prng.bytes(1 + prng.below(size - pos));
      await file.write(pos, data);
      model.set(data, pos);
      if (prng.chance(0.4)) {
        await file.sync();
        await file.dropCache();
      }
      assert.deepEqual(await file.read(0, size), model);
      file.check();
    }
  }));

// ---- short copies

test('invariant 15, bug 6: a source that yields one byte at a time ends, with the right content, for every folio size', async () => {
  for (const blockSize of [512, 4096]) {
    for (const orderMin of [0, 2, 4]) {
      const file = new LinearFile({ blockSize, size: 65536, fill: 0x11, orderMin });
      const data = new Prng(7).bytes(5000);
      const source = new Stingy(data, () => 1);
      assert.equal(await writeFrom(file, 3000, source), 5000);
      assert.ok(source.copies < 5100, `${source.copies} copies`);
      const expected = new Uint8Array(65536).fill(0x11);
      expected.set(data, 3000);
      assert.deepEqual(await file.read(0, 65536), expected);
      file.check();
    }
  }
});

test('invariant 15: a short copy on a folio that is not uptodate counts nothing, and is made again', async () => {
  const file = new LinearFile({ blockSize: 4096, size: 65536, fill: 0x11, orderMin: 2 });
  let first = true;
  const source = new Stingy(new Uint8Array(16384).fill(5), (asked) => {
    if (!first) return asked;
    first = false;
    return 100;
  });
  const iocb = { pos: 0, flags: 0 };
  assert.equal(await bufferedWrite(iocb, file.inode, source, file.io), 16384);
  assert.equal(iocb.pos, 16384);
  assert.deepEqual(await file.read(0, 16384), new Uint8Array(16384).fill(5));
  file.check();
});

test('W31: a short copy that ends on a block border, or in a valid block, counts up to there', async () => {
  const cases: [pos: number, copied: number, valid: [number, number] | undefined, counted: number][] = [
    [0, 4096, undefined, 4096], // ends on a border
    [0, 5000, undefined, 4096], // the part of block 1 is given back
    [0, 4095, undefined, 0],
    [100, 50, undefined, 50], // inside the head block, which was filled
    [100, 5000, undefined, 3996], // head counts, part of block 1 does not
    [0, 5000, [4096, 4096], 5000], // ends in a block that is valid
    [0, 9000, [4096, 4096], 8192],
  ];
  for (const [pos, copied, valid, counted] of cases) {
    const file = new LinearFile({ blockSize: 4096, size: 65536, fill: 0x11, orderMin: 3 });
    if (valid !== undefined) await file.write(valid[0], new Uint8Array(valid[1]).fill(9));
    let calls = 0;
    // The second fault-in fails, so that the call ends with what the first copy was worth.
    const source = new Stingy(new Uint8Array(20_000).fill(5), () => copied);
    source.onFault = () => (++calls > 1 ? 0 : undefined);
    const iocb = { pos, flags: 0 };
    if (counted === 0) {
      await assert.rejects(
        async () => bufferedWrite(iocb, file.inode, source, file.io),
        (error) => hasCode(error, 'EFAULT'),
      );
    } else {
      assert.equal(await bufferedWrite(iocb, file.inode, source, file.io), counted);
    }
    assert.equal(iocb.pos, pos + counted);
    assert.equal(source.at, counted, 'what does not count is given back');
    const expected = new Uint8Array(32768).fill(0x11);
    if (valid !== undefined) expected.fill(9, valid[0], valid[0] + valid[1]);
    expected.fill(5, pos, pos + counted);
    assert.deepEqual(await file.read(0, 32768), expected, JSON.stringify([pos, copied]));
    file.check();
  }
});

test('bug 41: a short copy never leaves memory of nobody in a block that is marked valid', () =>
  forEachSeed('short copies', 150, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const type = prng.pick<IomapType>([IOMAP_HOLE, IOMAP_UNWRITTEN, IOMAP_MAPPED]);
    const size = 128 * 1024;
    const file = new BlockFile({ blockSize, size, fill: 0x33, initial: type, orderMin: prng.below(5) });
    const model = new Uint8Array(size).fill(type === IOMAP_MAPPED ? 0x33 : 0);
    for (let step = 0; step < 6; step++) {
      const pos = prng.below(size - 1);
      const data = prng.bytes(1 + prng.below(Math.min(size - pos, 40_000)));
      let faultsLeft = prng.below(12);
      const source = new Stingy(data, (asked) => prng.pick([0, 1, asked, prng.below(asked + 1), prng.below(600)]));
      source.onFault = () => (faultsLeft-- <= 0 ? 0 : undefined);
      const iocb = { pos, flags: 0 };
      try {
        await bufferedWrite(iocb, file.inode, source, file.io);
      } catch (error) {
        assert.ok(hasCode(error, 'EFAULT'));
      }
      const counted = iocb.pos - pos;
      assert.equal(source.at, counted);
      model.set(data.subarray(0, counted), pos);
      // Every valid block, read or not, holds file content.
      for (const folio of file.folios()) {
        for (let at = 0; at < folio.size; at += blockSize) {
          if (!isBlockUptodate(folio, at)) continue;
          const start = folio.pos + at;
          const content = new Uint8Array(blockSize);
          content.set(model.subarray(start, start + blockSize));
          assert.deepEqual(folio.bytes(at, blockSize), content, `block at ${start}`);
        }
      }
      assert.deepEqual(await file.read(0, size), model);
      await file.sync();
      if (prng.chance(0.5)) await file.dropCache();
      file.check();
    }
  }));

test('W33: a copy of nothing dirties nothing', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 65536, fill: 1 });
  await file.read(0, 4096);
  let calls = 0;
  const source = new Stingy(new Uint8Array(100), () => 0);
  source.onFault = () => (++calls > 1 ? 0 : undefined);
  await assert.rejects(
    async () => writeFrom(file, 0, source),
    (error) => hasCode(error, 'EFAULT'),
  );
  assert.equal(file.inode.mapping.isDirty, false);
  file.check();
});

test('a source that copies nothing for a while lets others run, and gets there', async () => {
  const file = new LinearFile({ size: 65536, fill: 1 });
  let resident = false;
  setImmediate(() => {
    resident = true;
  });
  const source = new Stingy(new Uint8Array(10_000).fill(4), (asked) => (resident ? asked : 0));
  assert.equal(await writeFrom(file, 0, source), 10_000);
  resident = false;
  await assert.rejects(
    async () => writeFrom(file, 0, new Stingy(new Uint8Array(10), () => 0), IOCB_NOWAIT),
    (error) => hasCode(error, 'EAGAIN'),
  );
  file.check();
});

test('invariant 18, bug 7: what was accepted is returned, whatever stopped the write', async () => {
  const stops: Record<string, { options?: LinearOptions; source?: (stingy: Stingy) => void; signalAt?: number; code: string }> = {
    begin: { options: { map: (pos, _l, _f, map) => oneExtent(file, pos, map, 'begin') }, code: 'ENOSPC' },
    fault: { source: (stingy) => void (stingy.onFault = () => (stingy.at >= 8192 ? 0 : undefined)), code: 'EFAULT' },
    head: { code: 'EIO' },
    signal: { signalAt: 8192, code: 'EINTR' },
  };
  let file!: LinearFile;
  const oneExtent = (at: LinearFile, pos: number, map: Iomap, what: string) => {
    if (what === 'begin' && pos >= 8192) throw new FsError('ENOSPC', 'write');
    const offset = pos - (pos % 4096);
    Object.assign(map, { type: IOMAP_MAPPED, offset, length: 4096, addr: offset, bdev: at.device });
  };
  for (const [name, { options, source: prepare, signalAt, code }] of Object.entries(stops)) {
    for (const from of [0, 8192]) {
      file = new LinearFile({ size: 65536, fill: 1, orderMax: 0, ...options });
      // The tail of the range is a part of a block, which cannot be read.
      file.device.fails = (bio) => (name === 'head' ? -5 : bio.addr > 2 ** 40 ? -5 : 0);
      const length = name === 'head' ? (from === 0 ? 8192 + 100 : 100) : 16384;
      const stingy = new Stingy(new Uint8Array(length).fill(6), (asked) => asked);
      if (from === 8192 && name === 'fault') stingy.onFault = () => 0;
      else prepare?.(stingy);
      const signal = {
        get aborted() {
          return signalAt !== undefined && (from > 0 || stingy.at >= signalAt);
        },
      };
      const iocb = { pos: from, flags: 0, signal };
      if (from === 0) {
        assert.equal(await bufferedWrite(iocb, file.inode, stingy, file.io), 8192, name);
        assert.equal(iocb.pos, 8192);
      } else {
        await assert.rejects(
          async () => bufferedWrite(iocb, file.inode, stingy, file.io),
          (error) => hasCode(error, code as 'EIO'),
          name,
        );
        assert.equal(iocb.pos, from);
      }
      file.check();
    }
  }
});

// ---- the end of the file

test('invariant 17, bug 15: a failed write past the end leaves no folio of its own there, and no dirty byte inside the file is lost', () =>
  forEachSeed('failed extension', 200, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = prng.pick([0, 1, 511, 512, 513, 4095, 4096, 4097, 20_000]);
    const file = new BlockFile({ blockSize, size, initial: IOMAP_HOLE, fill: 0xdb, orderMin: prng.below(3) });
    const model = new Uint8Array(size);
    if (size > 0) {
      const data = prng.bytes(size);
      await file.write(0, data); // dirty, inside the file
      model.set(data);
    }
    const before = new Set(file.folios());
    const pos = Math.max(0, size - prng.below(2000) + prng.pick([0, 0, 1000]));
    const failsAt = prng.below(20_000);
    const source = new Stingy(prng.bytes(30_000), (asked) => Math.min(asked, failsAt));
    const mode = prng.below(3);
    let copies = 0;
    if (mode === 0) source.onFault = () => (source.at >= failsAt || ++copies > 3 ? 0 : undefined);
    if (mode === 1) file.free = prng.below(4);
    if (mode === 2) source.onFault = () => (++copies > 1 ? 0 : undefined);
    if (pos > size) {
      await file.zero(size, pos - size);
    }
    const iocb = { pos, flags: 0 };
    try {
      await bufferedWrite(iocb, file.inode, source, file.io);
    } catch (error) {
      assert.ok(hasCode(error, 'EFAULT') || hasCode(error, 'ENOSPC'));
    }
    const counted = iocb.pos - pos;
    const newSize = counted > 0 ? Math.max(size, pos + counted) : size;
    assert.equal(file.inode.size, newSize);
    const expected = new Uint8Array(newSize);
    expected.set(model);
    if (counted > 0) expected.set(source.data.subarray(0, counted), pos);
    assert.deepEqual(await file.read(0, 100_000), expected);
    for (const folio of file.folios()) assert.ok(before.has(folio) || folio.pos < newSize, `folio at ${folio.pos}, size ${newSize}`);
    await file.sync();
    await file.dropCache();
    assert.deepEqual(await file.read(0, 100_000), expected);
    file.check();
  }));

test('invariant 19: the size is raised after the copy, under the folio lock: who sees it sees the data', async () => {
  const file = new LinearFile({ blockSize: 1024, size: 0 });
  const data = new Prng(3).bytes(100_000);
  const source = new Stingy(data, (asked) => Math.min(asked, 3000));
  const sizes: number[] = [];
  const check = () => {
    // Called when nothing is locked, between the folios.
    assert.ok(file.inode.size <= source.at);
    sizes.push(file.inode.size);
    const into = new Uint8Array(file.inode.size);
    const seen = into.length === 0 ? 0 : file.inode.mapping.find(file.inode.size - 1)?.isLocked;
    assert.notEqual(seen, true);
    for (let pos = 0; pos < into.length; ) {
      const folio = file.folioAt(pos);
      const count = Math.min(folio.end, into.length) - pos;
      into.set(folio.bytes(pos - folio.pos, count), pos);
      pos += count;
    }
    assert.deepEqual(into, data.slice(0, file.inode.size));
    return undefined;
  };
  source.onFault = check;
  assert.equal(await writeFrom(file, 0, source), data.length);
  assert.ok(sizes.length > 3);
  assert.deepEqual(
    sizes,
    sizes.slice().sort((a, b) => a - b),
  );
  assert.equal(file.inode.size, data.length);
});

test('invariant 19: at the moment the size grows, the folio is locked and its bytes are there', async () => {
  const file = new LinearFile({ blockSize: 4096, size: 0, orderMax: 0 });
  const data = new Prng(4).bytes(10_000);
  let size = 0;
  const growths: number[] = [];
  Object.defineProperty(file.inode, 'size', {
    get: () => size,
    set: (value: number) => {
      const folio = file.folioAt(value - 1);
      assert.equal(folio.isLocked, true);
      assert.deepEqual(folio.bytes(0, value - folio.pos), data.slice(folio.pos, value));
      assert.equal(file.inode.lock.isExclusive, true);
      size = value;
      growths.push(value);
    },
  });
  await file.write(0, data);
  assert.deepEqual(growths, [4096, 8192, 10_000]);
});

// ---- stale mappings, hooks

test('bug 1, Y1: a mapping that went stale while the write waited does not zero over data on disk', async () => {
  // A write over unwritten blocks; before it locks its second folio, that block is written back, converted and dropped.
  const file = new BlockFile({ blockSize: 4096, size: 65536, initial: IOMAP_UNWRITTEN, fill: 0xdb, orderMax: 0, isValidated: true });
  let armed = true;
  const source = new Stingy(new Uint8Array(8192 + 100).fill(3), (asked) => asked);
  source.onFault = async () => {
    if (!armed || source.at !== 8192) return undefined;
    armed = false;
    // Somebody else's bytes went into the third block, were written and converted, and left the cache.
    file.device.inner.fill(0x5a, 8192, 4096);
    file.set(2, 3, IOMAP_MAPPED);
    return undefined;
  };
  assert.equal(await writeFrom(file, 0, source), 8292);
  const expected = new Uint8Array(4096).fill(0x5a);
  expected.fill(3, 0, 100);
  assert.deepEqual(await file.read(8192, 4096), expected);
  assert.ok(file.begins >= 2, 'mapped again');
  file.check();
});

test('V2, invariant 22: a stale folio is put with 0 bytes, untouched, and the step is ended stale', async () => {
  let valid = false;
  const puts: [number, number][] = [];
  const ends: [number, boolean][] = [];
  const file: LinearFile = new LinearFile({
    size: 65536,
    fill: 1,
    writeOps: {
      getFolio: (iter, pos, length) => iter.inode.mapping.getFolio(pos, length, 0),
      putFolio: (_inode, pos, copied, folio) => {
        puts.push([pos, copied]);
        if (copied === 0) assert.equal(folio.isDirty, false);
        folio.unlock();
        folio.put();
      },
      iomapValid: () => {
        const answer = valid;
        valid = !valid;
        return answer;
      },
    },
    end: (_inode, _pos, _length, written, _flags, map) => void ends.push([written, (map.flags & IOMAP_F_STALE) !== 0]),
  });
  assert.equal(await file.write(100, new Uint8Array(10).fill(2)), 10);
  assert.deepEqual(puts, [
    [100, 0],
    [100, 10],
  ]);
  assert.deepEqual(ends, [
    [0, true],
    [10, false],
  ]);
});

test('invariant 22: every folio that getFolio gave is put once, on every path', () =>
  forEachSeed('get and put', 150, async (prng) => {
    let gets = 0;
    let puts = 0;
    const file = new BlockFile({
      blockSize: prng.pick([512, 4096]),
      size: 65536,
      initial: prng.pick<IomapType>([IOMAP_MAPPED, IOMAP_HOLE, IOMAP_UNWRITTEN]),
      fill: 1,
      writeOps: {
        getFolio: (iter, pos, length) => {
          if (prng.chance(0.15)) throw new FsError('ENOMEM', 'write');
          gets++;
          const folio = iter.inode.mapping.getFolio(pos, length, 0);
          return prng.chance(0.3) ? Promise.resolve(folio) : folio;
        },
        putFolio: (_inode, _pos, copied, folio) => {
          assert.ok(copied >= 0 && folio.isLocked);
          puts++;
          folio.unlock();
          folio.put();
          return prng.chance(0.3) ? Promise.resolve() : undefined;
        },
        iomapValid: () => prng.chance(0.9),
      },
    });
    file.device.fails = (bio) => (bio.op === 0 && prng.chance(0.2) ? -5 : 0);
    for (let step = 0; step < 8; step++) {
      const pos = prng.below(60_000);
      const source = new Stingy(prng.bytes(1 + prng.below(20_000)), (asked) => (prng.chance(0.7) ? asked : prng.below(asked + 1)));
      source.onFault = () => (prng.chance(0.05) ? 0 : undefined);
      try {
        if (prng.chance(0.7)) await writeFrom(file, pos, source);
        else await file.zero(pos, 1 + prng.below(5000));
      } catch (error) {
        assert.ok(hasCode(error, 'EIO') || hasCode(error, 'ENOMEM') || hasCode(error, 'EFAULT'), String(error));
      }
      assert.equal(gets, puts);
      assert.equal(file.begins, file.ends);
    }
    await file.sync();
    file.check();
  }));

test('bug 47: per-folio transactions: buffers are added while the folio is locked, and a get that fails leaves none open', async () => {
  const log: string[] = [];
  let open = 0;
  let failsAt = -1;
  const file = new LinearFile({
    size: 65536,
    fill: 1,
    orderMax: 0,
    writeOps: {
      getFolio: async (iter, pos, length) => {
        open++;
        log.push(`begin ${pos}`);
        try {
          if (pos === failsAt) throw new FsError('ENOMEM', 'write');
          return await iter.inode.mapping.getFolio(pos, length, 0);
        } catch (error) {
          open--;
          log.push(`abort ${pos}`);
          throw error;
        }
      },
      putFolio: async (_inode, pos, copied, folio) => {
        assert.equal(folio.isLocked, true, 'nobody can write the folio back before its buffers are in the transaction');
        if (copied > 0) log.push(`add ${pos}+${copied}`);
        folio.unlock();
        folio.put();
        await turn();
        open--;
        log.push(`commit ${pos}`);
      },
    },
  });
  assert.equal(await file.write(100, new Uint8Array(4096).fill(2)), 4096);
  assert.deepEqual(log, ['begin 100', 'add 100+3996', 'commit 100', 'begin 4096', 'add 4096+100', 'commit 4096']);
  log.length = 0;
  failsAt = 8192;
  assert.equal(await file.write(4096, new Uint8Array(8192)), 4096);
  await assert.rejects(file.write(8192, new Uint8Array(10)), (error) => hasCode(error, 'ENOMEM'));
  assert.equal(open, 0);
  assert.deepEqual(log.slice(-2), ['begin 8192', 'abort 8192']);
  // A head block that cannot be read: the transaction is closed with nothing in it.
  log.length = 0;
  file.device.fails = () => -5;
  await assert.rejects(file.write(20_000, new Uint8Array(10)), (error) => hasCode(error, 'EIO'));
  assert.deepEqual(log, ['begin 20000', 'commit 20000']);
  assert.equal(open, 0);
  file.check();
});

test('a head or tail block that cannot be read fails the write, keeps the folio clean, and reports the exact range', async () => {
  const events: unknown[] = [];
  const file = new LinearFile({ blockSize: 1024, size: 65536, fill: 1, orderMin: 2 });
  file.sb.watchErrors(({ kind, pos, length, errno }) => events.push([kind, pos, length, errno]));
  file.device.fails = () => -5;
  await assert.rejects(file.write(1500, new Uint8Array(10)), (error) => hasCode(error, 'EIO'));
  await file.sb.work.drain();
  assert.deepEqual(events, [['buffered-read', 1024, 1024, -5]]);
  const folio = file.folioAt(0);
  assert.deepEqual([folio.isDirty, folio.isUptodate, isBlockUptodate(folio, 1024)], [false, false, false]);
  assert.equal(file.inode.mapping.errorCount, 0);
  file.check();
});

// ---- instruments: what is locked, what waits

test('invariant 64: no folio is locked at throttling, begin, end, and while the source is read', () =>
  forEachSeed('no lock held', 60, async (prng) => {
    const blockSize = prng.pick([512, 4096, 16384]);
    const log = new Set<string>();
    const nothingLocked = (where: string): void => {
      log.add(where);
      for (const folio of file.folios()) assert.equal(folio.isLocked, false, `${where}: folio at ${folio.pos} is locked`);
    };
    const file: BlockFile = new BlockFile({ blockSize, size: 100_000, fill: 1, extentMax: 3, orderMin: prng.below(3) });
    const { iomapBegin, iomapEnd, ...rest } = file.ops;
    const ops = {
      ...rest,
      iomapBegin: (...args: Parameters<typeof iomapBegin>) => {
        nothingLocked('begin');
        return iomapBegin(...args);
      },
      iomapEnd: (...args: Parameters<NonNullable<typeof iomapEnd>>) => {
        nothingLocked('end');
        return iomapEnd?.(...args);
      },
    };
    const io = { ...file.io, ops };
    file.cache.balanceDirty = () => {
      nothingLocked('throttle');
      return prng.chance(0.3) ? turn() : undefined;
    };
    const { waitForMemory } = file.cache;
    file.cache.waitForMemory = (order) => {
      nothingLocked('memory');
      return waitForMemory.call(file.cache, order);
    };
    for (let step = 0; step < 6; step++) {
      const pos = prng.below(100_000);
      const source = new Stingy(prng.bytes(1 + prng.below(30_000)), (asked) => (prng.chance(0.7) ? asked : prng.below(asked + 1)));
      source.onFault = () => {
        nothingLocked('source');
        return prng.chance(0.3) ? turn().then(() => undefined) : undefined;
      };
      switch (prng.below(4)) {
        case 0:
          for (let block = 0; block < 10; block++) file.shared.add(block);
          await unshare(file.inode, pos % 50_000, 10_000, io);
          break;
        case 1:
          await file.zero(pos, 5000);
          break;
        default:
          await bufferedFileWrite({ pos, flags: 0 }, file.inode, source, io);
      }
      if (prng.chance(0.3)) await file.sync();
    }
    for (const where of ['begin', 'end']) assert.ok(log.has(where));
  }));

test('invariant 20: a NOWAIT write answers or throws in the same turn at each place where it could wait', async () => {
  const declines = (file: LinearFile, call: () => unknown, what: string) => {
    const refs = new Map(file.folios().map((folio) => [folio, folio.refs]));
    assert.throws(
      () => assert.equal(isPromise(call()), false, `${what} waited`),
      (error) => hasCode(error, 'EAGAIN'),
      what,
    );
    assert.equal(file.inode.mapping.isDirty, false, what);
    for (const folio of file.folios()) assert.equal(folio.refs, refs.get(folio) ?? 0, what);
  };
  const write = (file: LinearFile, pos: number, length: number) =>
    writeFrom(file, pos, new IovIter(new Uint8Array(length).fill(8)), IOCB_NOWAIT);

  const plain = new LinearFile({ size: 65536, fill: 1 });
  assert.equal(write(plain, 4096, 4096), 4096, 'nothing to wait for');
  const readsHead = new LinearFile({ size: 65536, fill: 1 });
  declines(readsHead, () => write(readsHead, 100, 10), 'head block');
  assert.deepEqual(readsHead.device.requests, []);
  declines(readsHead, () => write(readsHead, 0, 10), 'tail block');

  const throttled = new LinearFile({ size: 65536 });
  throttled.cache.balanceDirty = () => new Promise(() => {});
  declines(throttled, () => write(throttled, 0, 4096), 'throttle');

  const locked = new LinearFile({ size: 65536, fill: 1 });
  await locked.read(0, 4096);
  locked.folioAt(0).get();
  locked.folioAt(0).tryLock();
  declines(locked, () => write(locked, 0, 4096), 'folio lock');

  const behind = new LinearFile({ size: 8192, fill: 1, orderMax: 0 });
  await behind.write(8192, new Uint8Array(4096)); // a folio past the end, which somebody holds
  await behind.sync();
  behind.inode.size = 8192;
  behind.folioAt(8192).get();
  behind.folioAt(8192).tryLock();
  declines(behind, () => write(behind, 8192, 4096), 'folio lock past the end');

  const stable = new LinearFile({ size: 65536, stableWrites: true });
  await stable.write(0, new Uint8Array(4096));
  stable.device.holds = () => true;
  const syncing = stable.sync();
  declines(stable, () => write(stable, 0, 4096), 'stable pages');
  stable.device.release();
  await syncing;
  assert.equal(write(stable, 0, 4096), 4096);

  const sourceWaits = new LinearFile({ size: 65536 });
  const source = new Stingy(new Uint8Array(4096), (asked) => asked);
  source.onFault = () => Promise.reject(new FsError('EIO', 'read'));
  declines(sourceWaits, () => writeFrom(sourceWaits, 0, source, IOCB_NOWAIT), 'source');

  const begins = new LinearFile({ size: 65536, map: () => new Promise<void>(() => {}) });
  declines(begins, () => write(begins, 0, 4096), 'begin');

  let finishGet!: () => void;
  let puts = 0;
  const gets: LinearFile = new LinearFile({
    size: 65536,
    writeOps: {
      getFolio: (iter, pos, length) =>
        new Promise((resolve) => {
          finishGet = () => resolve(iter.inode.mapping.getFolio(pos, length, FGP_NOWAIT));
        }),
      putFolio: (_inode, _pos, copied, folio) => {
        assert.equal(copied, 0);
        puts++;
        folio.unlock();
        folio.put();
      },
    },
  });
  declines(gets, () => write(gets, 0, 4096), 'getFolio');
  finishGet();
  await turn();
  assert.equal(puts, 1);

  // The whole call: freeze lock, inode lock, the gap behind the end, attributes that are prepared later.
  const calls = new LinearFile({ size: 100, fill: 1 });
  const call = (pos: number, prepare?: () => Promise<void>) =>
    bufferedFileWrite(
      { pos, flags: IOCB_NOWAIT },
      calls.inode,
      new IovIter(new Uint8Array(4096)),
      calls.io,
      prepare === undefined ? {} : { prepare },
    );
  await calls.sb.freezeWrite.lock();
  declines(calls, () => call(0), 'freeze');
  calls.sb.freezeWrite.unlock();
  await calls.inode.lock.lock();
  declines(calls, () => call(0), 'inode lock');
  calls.inode.lock.unlock();
  declines(calls, () => call(8192, async () => assert.fail('prepared for nothing')), 'gap');
  declines(calls, () => call(0, () => Promise.reject(new FsError('EIO', 'write'))), 'prepare');
  assert.equal(calls.inode.lock.isLocked || calls.sb.freezeWrite.isLocked, false);
  assert.equal(call(0), 4096);
  await turn();
});

test('invariant 20: after some bytes a NOWAIT write is short', () => {
  const file = new LinearFile({ size: 65536, fill: 1, orderMax: 0 });
  const iocb = { pos: 0, flags: IOCB_NOWAIT };
  assert.equal(bufferedWrite(iocb, file.inode, new IovIter(new Uint8Array(8192 + 10)), file.io), 8192, 'the tail block would be read');
  assert.equal(iocb.pos, 8192);
  file.check();
});

test('invariant 63: a buffered ATOMIC call is EOPNOTSUPP and has no side effect', async () => {
  const file = new LinearFile({ size: 1000, fill: 1 });
  let prepared = 0;
  const source = new IovIter(new Uint8Array(4096));
  for (const call of [
    async () => bufferedWrite({ pos: 0, flags: IOCB_ATOMIC }, file.inode, source, file.io),
    async () => bufferedFileWrite({ pos: 10_000, flags: IOCB_ATOMIC }, file.inode, source, file.io, { prepare: () => void prepared++ }),
  ]) {
    await assert.rejects(call, (error) => hasCode(error, 'EOPNOTSUPP'));
  }
  assert.deepEqual([prepared, file.begins, file.folios().length, source.done, file.inode.size], [0, 0, 0, 0, 1000]);
  assert.equal(file.inode.lock.isLocked, false);
});

// ---- DONTCACHE

test('invariant 62: folios that a DONTCACHE write made are gone after writeback, those that were there stay', async () => {
  const file = new LinearFile({ size: 65536, fill: 1, orderMax: 0 });
  await file.read(0, 4096); // cached by somebody else; readahead brings more
  await file.dropCache();
  await file.write(0, new Uint8Array(4096).fill(2));
  const kept = file.folioAt(0);
  await file.write(0, new Uint8Array(16384).fill(3), IOCB_DONTCACHE);
  assert.deepEqual(
    file.folios().map((folio) => folio.isDropbehind),
    [false, true, true, true],
  );
  await file.sync();
  await file.sb.work.drain();
  assert.deepEqual(file.folios(), [kept]);
  assert.deepEqual(file.device.inner.read(0, 16384), new Uint8Array(16384).fill(3));
  file.check();
});

test('invariant 62: the flusher starts by itself, and a folio that somebody else reads meanwhile stays', async () => {
  const file = new LinearFile({ size: 65536, fill: 1, orderMax: 0 });
  await file.write(0, new Uint8Array(8192).fill(3), IOCB_DONTCACHE);
  assert.deepEqual(await file.read(4096, 10), new Uint8Array(10).fill(3));
  for (let i = 0; i < 10; i++) await turn();
  await file.sb.work.drain();
  assert.deepEqual(
    file.folios().map((folio) => folio.pos),
    [4096],
  );
  assert.equal(file.folioAt(4096).isDropbehind, false);
  file.check();
});

test('bug 27: overwriting a folio of a DONTCACHE write by another one keeps it to be dropped; a plain write keeps it cached', async () => {
  const file = new LinearFile({ size: 65536, orderMax: 0 });
  await file.write(0, new Uint8Array(8192).fill(1), IOCB_DONTCACHE);
  await file.write(0, new Uint8Array(4096).fill(2), IOCB_DONTCACHE);
  await file.write(4096, new Uint8Array(4096).fill(2));
  assert.deepEqual(
    file.folios().map((folio) => folio.isDropbehind),
    [true, false],
  );
  await file.sync();
  await file.sb.work.drain();
  assert.deepEqual(
    file.folios().map((folio) => folio.pos),
    [4096],
  );
});

// bug 46 (dropbehind not kept on split) cannot exist here: folios are never split. A large folio leaves the cache whole.

// ---- inline data

/** A file in a buffer of `capacity` bytes near its inode. */
function stuffed(size: number, capacity: number, options: LinearOptions = {}) {
  const data = new Prng(size).bytes(capacity);
  const file = new LinearFile({
    size,
    map: (_pos, _length, _flags, map) => {
      map.type = IOMAP_INLINE;
      map.offset = 0;
      map.length = capacity;
      map.inlineData = data;
    },
    ...options,
  });
  return { data, file };
}

test('invariant 21: after a write the inline buffer is the folio prefix, the folio is clean, and writeback never sees it', () =>
  forEachSeed('stuffed', 60, async (prng) => {
    const capacity = prng.pick([60, 156, 3000]);
    const size = prng.below(capacity + 1);
    const { data, file } = stuffed(size, capacity, { blockSize: prng.pick([512, 1024, 4096, 16384]) });
    let model = data.slice(0, size);
    for (let step = 0; step < 10; step++) {
      const pos = prng.below(capacity);
      const bytes = prng.bytes(1 + prng.below(capacity - pos));
      assert.equal(await file.fileWrite(pos, bytes), bytes.length);
      const grown = new Uint8Array(Math.max(model.length, pos + bytes.length));
      grown.set(model);
      grown.set(bytes, pos);
      model = grown;
      assert.equal(file.inode.size, model.length);
      assert.equal(file.inode.isDirty, true, 'the inode is to be written');
      const folio = file.folioAt(0);
      assert.deepEqual([folio.isDirty, file.inode.mapping.isDirty], [false, false]);
      assert.deepEqual(folio.bytes(0, model.length), model);
      assert.deepEqual(data.slice(0, model.length), model, 'the gap that an extension leaves is zeros in the buffer too');
      assert.deepEqual(await file.read(0, 5000), model);
      if (prng.chance(0.3)) await file.dropCache();
    }
    await file.sync();
    assert.deepEqual(file.device.requests, []);
    file.check();
  }));

test('inline data: a write that does not fit is refused before it changes a byte', async () => {
  const { data, file } = stuffed(50, 60, { blockSize: 4096 });
  const before = data.slice();
  (file.ops as { iomapBegin: unknown }).iomapBegin = (_i: unknown, _p: number, _l: number, _f: number, map: Iomap) => {
    Object.assign(map, { type: IOMAP_INLINE, offset: 0, length: 4096, inlineData: data }); // claims more than it has
  };
  await assert.rejects(file.write(40, new Uint8Array(30).fill(9)), (error) => hasCode(error, 'EIO'));
  assert.deepEqual(data, before);
  assert.equal(file.inode.size, 50);
  assert.deepEqual(await file.read(0, 100), before.slice(0, 50));
});

test('inline data: a filesystem unstuffs when the file outgrows its buffer', async () => {
  const data = new Uint8Array(64).fill(7);
  let isStuffed = true;
  const file: LinearFile = new LinearFile({
    size: 64,
    map: (pos, length, flags, map) => {
      if (isStuffed && (flags & IOMAP_WRITE) !== 0 && pos + length > 64) {
        isStuffed = false;
        file.device.inner.write(0, data);
      }
      if (isStuffed) Object.assign(map, { type: IOMAP_INLINE, offset: 0, length: 64, inlineData: data });
      else Object.assign(map, { type: IOMAP_MAPPED, offset: 0, length: 65536, addr: 0, bdev: file.device });
    },
  });
  await file.write(10, Uint8Array.of(1));
  assert.equal(data[10], 1);
  await file.write(64, new Uint8Array(5000).fill(2));
  assert.equal(data[63], 7);
  await file.sync();
  await file.dropCache();
  const expected = new Uint8Array(5064).fill(2);
  expected.fill(7, 0, 64);
  expected[10] = 1;
  assert.deepEqual(await file.read(0, 6000), expected);
});

test('a source map of inline packets feeds head and tail blocks, whatever the sizes of the packets', () =>
  forEachSeed('packets', 80, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = prng.between(1, 100_000);
    const packet = prng.pick([100, 512, 700, 5000, 9999]);
    const old = prng.bytes(size);
    const written = new Set<number>(); // blocks that are on the device now
    const file: LinearFile = new LinearFile({
      blockSize,
      size,
      orderMin: prng.below(3),
      fill: 0xdb,
      map: (pos, _length, flags, map, srcmap) => {
        const block = Math.floor(pos / blockSize);
        if (written.has(block)) {
          Object.assign(map, {
            type: IOMAP_MAPPED,
            offset: block * blockSize,
            length: blockSize,
            addr: block * blockSize,
            bdev: file.device,
          });
          return;
        }
        // A packet, as far as it lies in this block: its neighbours may have moved to the device.
        const offset = Math.max(pos - (pos % packet), block * blockSize);
        const packetEnd = pos - (pos % packet) + packet;
        const blockEnd = (block + 1) * blockSize;
        const source = (flags & IOMAP_WRITE) !== 0 ? srcmap : map;
        if ((flags & IOMAP_WRITE) !== 0) Object.assign(map, { type: IOMAP_DELALLOC, offset: block * blockSize, length: blockSize });
        if (pos >= size)
          Object.assign(source, {
            type: (flags & IOMAP_WRITE) !== 0 ? IOMAP_UNWRITTEN : IOMAP_HOLE,
            offset: block * blockSize,
            length: blockSize,
          });
        else
          Object.assign(source, {
            type: IOMAP_INLINE,
            offset,
            length: Math.min(packetEnd, blockEnd, size) - offset,
            inlineData: old.subarray(offset, packetEnd),
          });
      },
      ioend: {
        mapBlocks: (wpc, pos) => {
          const block = Math.floor(pos / blockSize);
          written.add(block);
          Object.assign(wpc.iomap, {
            type: IOMAP_MAPPED,
            offset: block * blockSize,
            length: blockSize,
            addr: block * blockSize,
            bdev: file.device,
          });
        },
      },
    });
    let model = old.slice();
    for (let step = 0; step < 8; step++) {
      const pos = prng.below(size + 1);
      const bytes = prng.bytes(1 + prng.below(prng.pick([10, 3000, 40_000])));
      assert.equal(await file.fileWrite(pos, bytes), bytes.length);
      const grown = new Uint8Array(Math.max(model.length, pos + bytes.length));
      grown.set(model);
      grown.set(bytes, pos);
      model = grown;
      assertSameBytes(await file.read(0, 200_000), model, `step ${step}`);
      if (prng.chance(0.3)) {
        await file.sync();
        await file.dropCache();
      }
      file.check();
    }
  }));

test('invariant 23, bug 1: whatever happens to the blocks at any wait of a long write, its content and that of others is right', () =>
  forEachSeed('cookie', 120, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = 200_000;
    const file = new BlockFile({
      blockSize,
      size,
      initial: prng.pick<IomapType>([IOMAP_UNWRITTEN, IOMAP_HOLE]),
      fill: 0xdb,
      orderMin: prng.below(3),
      orderMax: 4,
      isValidated: true,
    });
    const model = new Uint8Array(size);
    const pos = prng.below(50_000);
    const data = prng.bytes(size - pos - prng.below(50_000));
    const source = new Stingy(data, (asked) => Math.min(asked, 10_000));
    const { mapping } = file.inode;
    let isPaused = false;
    source.onFault = async () => {
      if (isPaused || prng.chance(0.3)) return undefined;
      isPaused = true;
      // Memory pressure: what is dirty goes out, is converted, and leaves the cache, behind and before the write.
      await mapping.writeAndWait(0, size);
      if (prng.chance(0.7)) await mapping.invalidateRange(0, size);
      // A mapped store of somebody else, where the write is not or not yet.
      const at = prng.below(size);
      const byte = prng.below(256);
      await file.view(size).store(at, Uint8Array.of(byte));
      if (at < pos + source.at || at >= pos + data.length) model[at] = byte;
      if (at >= pos && at < pos + source.at) data[at - pos] = byte; // it came after the copy
      if (prng.chance(0.5)) {
        await mapping.writeAndWait(0, size);
        await mapping.invalidateRange(0, size);
      }
      isPaused = false;
      return undefined;
    };
    await file.inode.lock.lock();
    assert.equal(await writeFrom(file, pos, source), data.length);
    file.inode.lock.unlock();
    model.set(data, pos);
    assertSameBytes(await file.read(0, size), model, 'cache');
    await file.sync();
    await file.dropCache();
    assertSameBytes(await file.read(0, size), model, 'disk');
    file.check();
  }));

test('invariant 17: a folio past the end that could not be prepared for the write is gone', async () => {
  for (const pos of [0, 100, 8192]) {
    const file = new LinearFile({
      size: 0,
      blockSize: 1024,
      orderMin: 1,
      writeOps: {
        iomapValid: () => {
          throw new FsError('EIO', 'write');
        },
      },
    });
    await assert.rejects(file.write(pos, new Uint8Array(100)), (error) => hasCode(error, 'EIO'));
    assert.deepEqual(file.folios(), []);
    file.check();
  }
});

test('the fast path of a write from memory declines where something has to be fetched, decided or waited for, and the slow path agrees', () =>
  forEachSeed('fast and slow path', 60, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096, 16384]);
    const size = prng.below(200_000);
    const make = () => new BlockFile({ blockSize, size, initial: IOMAP_MAPPED, fill: 0xdb, orderMin: 0 });
    const [fast, slow] = [make(), make()];
    for (let step = 0; step < 20; step++) {
      const pos = prng.below(fast.inode.size + 1);
      const data = prng.bytes(1 + prng.below(40_000));
      const write = async (file: BlockFile, source: WriteSource) => {
        await file.inode.lock.lock();
        try {
          return await bufferedWrite({ pos, flags: 0 }, file.inode, source, file.io);
        } finally {
          file.inode.lock.unlock();
        }
      };
      // A source that does not say that it stays in memory takes the slow path for every folio.
      const hidden = new IovIter(data);
      const plain: WriteSource = {
        get count() {
          return hidden.count;
        },
        faultIn: (length) => hidden.faultIn(length),
        copyTo: (into, at, length) => hidden.copyTo(into, at, length),
        revert: (length) => hidden.revert(length),
      };
      assert.equal(await write(fast, new IovIter(data)), await write(slow, plain));
      assert.equal(fast.inode.size, slow.inode.size);
      assert.deepEqual(fast.device.requests, slow.device.requests);
      if (prng.chance(0.2)) await Promise.all([fast.sync(), slow.sync()]);
      assert.deepEqual(fast.device.requests, slow.device.requests);
    }
    assert.deepEqual(await fast.read(0, fast.inode.size), await slow.read(0, slow.inode.size));
    fast.check();
    slow.check();
  }));
