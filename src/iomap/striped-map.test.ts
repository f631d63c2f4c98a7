import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertSameBytes } from '../../test/support/model.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { FsError } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { Prng } from '../base/prng.ts';
import { MemoryDaxDevice } from '../block/dax-device.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { BackingDevice } from '../pagecache/backing-device.ts';
import { filemapRead } from '../pagecache/filemap.ts';
import { PageCache } from '../pagecache/page-cache.ts';
import { ReadaheadState } from '../pagecache/readahead.ts';
import { Inode } from '../vfs/inode.ts';
import { SuperBlock } from '../vfs/super-block.ts';
import { blockFileIo } from './block-file-io.ts';
import { bufferedWrite } from './buffered-write.ts';
import { daxRw } from './dax.ts';
import { DAX_PMD_SIZE, DaxEntries } from './dax-entries.ts';
import { DaxView } from './dax-view.ts';
import { directIo } from './direct-io.ts';
import { iomapAddressSpaceOps } from './file-io.ts';
import type { InterleavedExtent, SimpleExtent, StripedLayout } from './striped-map.ts';
import { StripedMap, stripedIoendOps, stripedIomapOps } from './striped-map.ts';

const KIB = 1024;
const MIB = 1024 * 1024;

function superBlock(): SuperBlock {
  const cache = new PageCache({ budget: 4 * MIB });
  return new SuperBlock(cache, new BackingDevice(cache));
}

function strip(device: number, offset: number, length: number): SimpleExtent {
  return { device, offset, length };
}

/** Where a byte is, as the format says it, without a thought about speed. */
function placeOf(layout: StripedLayout, pos: number): { device: number; addr: number } | undefined {
  let x = pos;
  for (const extent of layout.extents) {
    if (x >= extent.length) {
      x -= extent.length;
      continue;
    }
    if (!('strips' in extent)) return { device: extent.device, addr: extent.offset + x };
    // Dealt out chunk by chunk, like cards.
    let left = x;
    for (let row = 0; ; row++) {
      for (const each of extent.strips) {
        if (left < extent.chunkSize) return { device: each.device, addr: each.offset + row * extent.chunkSize + left };
        left -= extent.chunkSize;
      }
    }
  }
  return undefined;
}

/** A layout with small units, and strips with something to spare. */
function randomLayout(prng: Prng, alignment: number): StripedLayout {
  let next = 0;
  const take = (chunks: number, chunk: number): SimpleExtent => {
    const length = Math.ceil((chunks * chunk) / alignment) * alignment + prng.below(2) * alignment;
    const extent = strip(prng.below(3), next, length);
    next += length + prng.below(3) * alignment;
    return extent;
  };
  const count = 1 + prng.below(4);
  const isInterleaved = prng.chance(0.7);
  const extents = Array.from({ length: count }, (_, i): SimpleExtent | InterleavedExtent => {
    if (!isInterleaved) return take(1 + prng.below(4), alignment);
    const strips = 1 + prng.below(7);
    const chunkSize = alignment * 2 ** prng.below(3);
    const units = 1 + prng.below(20);
    const isLast = i === count - 1;
    const length = units * alignment - (isLast ? prng.below(alignment) : 0);
    const chunks = Math.ceil(length / chunkSize);
    return {
      chunkSize,
      length,
      strips: Array.from({ length: strips }, (_, j) => take(Math.max(0, Math.ceil((chunks - j) / strips)), chunkSize)),
    };
  });
  const end = extents.reduce((sum, each) => sum + each.length, 0);
  return { size: end - prng.below(Math.min(end, alignment)), extents };
}

test('invariant 61: the resolver equals a byte by byte map', () =>
  forEachSeed('striped map', 300, (prng) => {
    const alignment = 8;
    const layout = randomLayout(prng, alignment);
    const map = new StripedMap(layout, { alignment });
    const runs = [...map.runs(0, map.size)];
    let pos = 0;
    for (const run of runs) {
      assert.equal(run.offset, pos);
      for (let at = 0; at < run.length; at++) assert.deepEqual({ device: run.device, addr: run.addr + at }, placeOf(layout, pos + at));
      pos += run.length;
    }
    assert.equal(pos, layout.size);
    for (let i = 0; i < 50; i++) {
      const at = prng.below(map.end);
      const run = map.runAt(at);
      assert.ok(run !== undefined && run.offset <= at && at < run.offset + run.length);
      assert.deepEqual({ device: run.device, addr: run.addr + (at - run.offset) }, placeOf(layout, at));
      const from = prng.below(map.size);
      const length = prng.below(map.size - from + 10);
      assert.equal(
        [...map.runs(from, length)].reduce((sum, each) => sum + each.length, 0),
        Math.min(length, map.size - from),
      );
    }
    assert.equal(map.runAt(map.end), undefined);
    assert.equal(map.runAt(-1), undefined);
  }));

test('addresses as the famfs tools and documents have them', () => {
  // Images of the original tools (size, chunk, strips), and one with several devices, worked out by hand.
  const striped3: StripedLayout = {
    size: 25178169,
    extents: [
      { chunkSize: 2 * MIB, length: 25178169, strips: [0x40000000, 0x80000000, 0xa00000].map((offset) => strip(0, offset, 0xa00000)) },
    ],
  };
  const striped4: StripedLayout = {
    size: 25178169,
    extents: [
      {
        chunkSize: 4 * MIB,
        length: 25178169,
        strips: [0x40a00000, 0x80a00000, 0x1400000, 0xc0000000].map((offset) => strip(0, offset, 0x800000)),
      },
    ],
  };
  const devices3: StripedLayout = {
    size: 17825799,
    extents: [
      {
        chunkSize: 2 * MIB,
        length: 17825799,
        strips: [strip(0, 0x1000000, 6 * MIB), strip(1, 0x4000000, 6 * MIB), strip(0, 0x9000000, 4 * MIB), strip(2, 0x200000, 4 * MIB)],
      },
    ],
  };
  const simple: StripedLayout = { size: 37, extents: [strip(0, 0xe00000, 2 * MIB)] };
  const vectors: [StripedLayout, [number, number, number, number][]][] = [
    [
      striped3,
      [
        [0, 0, 0x40000000, 2097152],
        [2097151, 0, 0x401fffff, 1],
        [2097152, 0, 0x80000000, 2097152],
        [4194304, 0, 0xa00000, 2097152],
        [6303801, 0, 0x40203039, 2084807],
        [12589084, 0, 0x4040181c, 2090980],
        [15728640, 0, 0x80500000, 1048576],
        [25165824, 0, 0x40800000, 12345],
        [25178168, 0, 0x40803038, 1],
      ],
    ],
    [
      striped4,
      [
        [4194303, 0, 0x40dfffff, 1],
        [4194304, 0, 0x80a00000, 4194304],
        [12595257, 0, 0xc0003039, 4181959],
        [16777216, 0, 0x40e00000, 4194304],
        [25165824, 0, 0x1800000, 12345],
        [25178168, 0, 0x1803038, 1],
      ],
    ],
    [
      devices3,
      [
        [0, 0, 0x1000000, 2097152],
        [2097152, 1, 0x4000000, 2097152],
        [6291456, 2, 0x200000, 2097152],
        [10609216, 1, 0x421e240, 1973696],
        [14680064, 2, 0x400000, 2097152],
        [16777216, 0, 0x1400000, 1048583],
        [17825798, 0, 0x1500006, 1],
      ],
    ],
    [simple, [[36, 0, 0xe00024, 1]]],
  ];
  for (const [layout, rows] of vectors) {
    const map = new StripedMap(layout);
    for (const [offset, device, addr, length] of rows)
      assert.deepEqual(map.runs(offset, 2 ** 40).next().value, { offset, length, device, addr });
  }
});

test('a simple extent is an interleaved one with a single strip', () => {
  const simple = new StripedMap({ size: 3145729, extents: [strip(1, 0x41200000, 4 * MIB)] });
  const single = new StripedMap({
    size: 3145729,
    extents: [{ chunkSize: 2 * MIB, length: 3145729, strips: [strip(1, 0x41200000, 4 * MIB)] }],
  });
  assert.deepEqual([...simple.runs(0, 2 ** 40)], [...single.runs(0, 2 ** 40)]);
});

test('what is not a map is refused with the place', () => {
  const good = {
    chunkSize: 2 * MIB,
    length: 10 * MIB,
    strips: [strip(0, 0, 4 * MIB), strip(0, 4 * MIB, 4 * MIB), strip(0, 8 * MIB, 2 * MIB)],
  };
  const cases: [unknown, string, RegExp][] = [
    [{ size: 0, extents: [] }, 'EINVAL', /no extents/],
    [{ size: -1, extents: [good] }, 'EINVAL', /size -1/],
    [{ size: 2 ** 60, extents: [good] }, 'EINVAL', /size/],
    [{ size: 10 * MIB + 1, extents: [good] }, 'EINVAL', /covers 10485760 of 10485761/],
    [{ size: 1, extents: [null] }, 'EINVAL', /extent 0: no record/],
    [{ size: 1, extents: [good, strip(0, 1, 2 * MIB)] }, 'EINVAL', /extent 1: offset 1/],
    [{ size: 1, extents: [strip(0, 0, 2 * MIB - 1)] }, 'EINVAL', /extent 0: length/],
    [{ size: 1, extents: [strip(0.5, 0, 2 * MIB)] }, 'EINVAL', /device 0.5/],
    [{ size: 1, extents: [strip(0, 2 ** 53 - 2 * MIB, 2 * MIB)] }, 'EINVAL', /passes 2\^53/],
    [{ size: 1, extents: [strip(0, 0, 2 ** 52), strip(0, 0, 2 ** 52)] }, 'EINVAL', /extent 1: the lengths pass/],
    [{ size: 1, extents: [{ ...good, chunkSize: 0 }] }, 'EINVAL', /chunk size 0/],
    [{ size: 1, extents: [{ ...good, chunkSize: 3 * MIB }] }, 'EINVAL', /chunk size/],
    [{ size: 1, extents: [{ ...good, chunkSize: 2048 }] }, 'EINVAL', /chunk size/],
    [{ size: 1, extents: [{ ...good, length: 0 }] }, 'EINVAL', /length 0/],
    [{ size: 1, extents: [{ ...good, strips: [] }] }, 'EINVAL', /no strips/],
    [{ size: 1, extents: [{ ...good, strips: new Array(3) }] }, 'EINVAL', /strip 0: no record/],
    [{ size: 1, extents: [{ ...good, length: 5 * MIB + 1 }, good] }, 'EINVAL', /extent 1: starts at byte 5242881/],
    // Enough in all (10 MiB), but chunk 4 would be the second one of a strip that has one.
    [
      { size: 1, extents: [{ ...good, strips: [strip(0, 0, 4 * MIB), strip(0, 0, 2 * MIB), strip(0, 0, 4 * MIB)] }] },
      'EINVAL',
      /strip 1: holds/,
    ],
    [{ size: 1, extents: Array.from({ length: 11 }, () => strip(0, 0, 2 * MIB)) }, 'E2BIG', /extent 10/],
    [{ size: 1, extents: [{ ...good, strips: new Array(2 ** 31) }] }, 'E2BIG', /extent 0/],
  ];
  assert.equal(new StripedMap({ size: 10 * MIB, extents: [good] }).end, 10 * MIB);
  for (const [layout, code, message] of cases) {
    assert.throws(
      () => new StripedMap(layout as StripedLayout, { extentsMax: 10 }),
      (error: unknown) => error instanceof FsError && error.code === code && message.test(error.message),
      message.source,
    );
  }
  assert.throws(() => new StripedMap({ size: 1, extents: [good] }, { alignment: 3 }), { code: 'EINVAL' });
  // Lists of empty extents are legal; they cover nothing.
  assert.equal(new StripedMap({ size: 0, extents: [strip(0, 0, 0)] }).runAt(0), undefined);
});

test('fuzz: a mutated layout is a map that holds, or refused', () =>
  forEachSeed('striped fuzz', 500, (prng) => {
    const layout = structuredClone(randomLayout(prng, 8)) as unknown as Record<string, unknown>;
    const mutate = (node: Record<string, unknown>): void => {
      const key = prng.pick(Object.keys(node));
      const value = node[key];
      if (typeof value === 'object' && value !== null && prng.chance(0.8)) mutate(value as Record<string, unknown>);
      else node[key] = prng.pick([0, 1, -8, 8, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 52, undefined, null, [], {}, 'x', 16]);
    };
    mutate(layout);
    let map: StripedMap;
    try {
      map = new StripedMap(layout as unknown as StripedLayout, { alignment: 8 });
    } catch (error) {
      assert.ok(error instanceof FsError, String(error));
      return;
    }
    assert.ok(map.size <= map.end);
    for (const pos of [0, map.end - 1, Math.floor(map.end / 2)]) {
      if (pos < 0 || pos >= map.end) continue;
      const run = map.runAt(pos);
      assert.ok(run !== undefined && run.length > 0 && run.offset <= pos && pos < run.offset + run.length);
      assert.ok(
        [...map.strips()].some(
          (each) => each.device === run.device && each.offset <= run.addr && run.addr + run.length <= each.offset + each.length + 8,
        ),
      );
    }
  }));

test('a map that its devices do not hold is refused', () => {
  const device = new MemoryDaxDevice({ size: 4 * MIB });
  const map = (offset: number, index = 1) => new StripedMap({ size: 1, extents: [strip(index, offset, 2 * MIB)] });
  stripedIomapOps(map(2 * MIB), [undefined, device]);
  stripedIomapOps(map(2 * MIB, 700), new Map([[700, device]]));
  assert.throws(() => stripedIomapOps(map(4 * MIB), [undefined, device]), { code: 'EUCLEAN', message: /is not in dax/ });
  assert.throws(() => stripedIomapOps(map(0), [device]), { code: 'EUCLEAN', message: /device 1/ });
});

/** A file over three strips on two devices, with chunks of 8 KiB. */
function stripedLayout(size: number): StripedLayout {
  const strips = [strip(0, 64 * KIB, 64 * KIB), strip(1, 0, 64 * KIB), strip(0, 0, 64 * KIB)];
  return { size, extents: [{ chunkSize: 8 * KIB, length: size, strips }] };
}

test('DAX over a striped map: every byte where the format says, nothing past the size of the file', async () => {
  const devices = [new MemoryDaxDevice({ size: 128 * KIB, name: 'pmem0' }), new MemoryDaxDevice({ size: 64 * KIB, name: 'pmem1' })];
  const layout = stripedLayout(150_001);
  const ops = stripedIomapOps(new StripedMap(layout, { alignment: 4096 }), devices);
  const inode = new Inode(superBlock(), { blockSize: 4096, size: layout.size });
  const data = new Prng(1).bytes(layout.size);
  assert.equal(await daxRw({ pos: 0, flags: 0 }, inode, new IovIter(data), true, ops), data.length);
  for (let pos = 0; pos < data.length; pos += 97) {
    const place = placeOf(layout, pos);
    assert.equal(devices[place?.device ?? 9]?.bytes(place?.addr ?? 0, 1)[0], data[pos]);
  }
  const into = new Uint8Array(200_000);
  assert.equal(await daxRw({ pos: 0, flags: 0 }, inode, new IovIter(into), false, ops), data.length);
  assertSameBytes(into.subarray(0, data.length), data, 'read');

  // No append, and nothing half done.
  for (const [pos, length] of [
    [layout.size, 1],
    [layout.size - 1, 2],
    [2 ** 40, 1],
  ] as const) {
    assert.throws(() => daxRw({ pos, flags: 0 }, inode, new IovIter(new Uint8Array(length)), true, ops), { code: 'ENOSPC' });
  }
  const view = new DaxView(inode, 0, 2 ** 20, ops);
  await view.store(layout.size - 1, Uint8Array.of(9, 8));
  await view.load(layout.size - 2, into.subarray(0, 3));
  assert.deepEqual([...into.subarray(0, 3)], [data.at(-2), 9, 8], 'the tail of the last page is there for views');
  assert.throws(() => view.load(155_648, into.subarray(0, 1)), { code: 'EFAULT' });
  assert.equal(inode.isBad, false);

  const large = new Inode(superBlock(), { blockSize: 16384, size: layout.size });
  assert.throws(() => daxRw({ pos: 0, flags: 0 }, large, new IovIter(into), false, ops), { code: 'EINVAL' });
});

test('chunks of 2 MiB are mapped as 2 MiB', async () => {
  const device = new MemoryDaxDevice({ size: 16 * MIB });
  const map = new StripedMap({
    size: 6 * MIB,
    extents: [{ chunkSize: 2 * MIB, length: 6 * MIB, strips: [strip(0, 8 * MIB, 4 * MIB), strip(0, 0, 4 * MIB)] }],
  });
  const inode = new Inode(superBlock(), { blockSize: 4096, size: 6 * MIB });
  const view = new DaxView(inode, 0, 6 * MIB, stripedIomapOps(map, [device]));
  await view.store(2 * MIB - 1, Uint8Array.of(1, 2));
  assert.deepEqual([device.bytes(10 * MIB - 1, 1)[0], device.bytes(0, 1)[0]], [1, 2]);
  assert.deepEqual([DaxEntries.of(inode).find(0)?.size, DaxEntries.of(inode).count], [DAX_PMD_SIZE, 2]);
});

test('direct I/O over a striped map of block devices', async () => {
  const devices = [new MemoryDevice({ size: 128 * KIB }), new MemoryDevice({ size: 64 * KIB })];
  const layout = stripedLayout(147_456);
  const ops = stripedIomapOps(new StripedMap(layout, { alignment: 4096 }), devices);
  const inode = new Inode(superBlock(), { blockSize: 4096, size: layout.size });
  const data = new Prng(1).bytes(100 * 512);
  const pos = 13 * 512;
  assert.equal(await directIo({ pos, flags: 0 }, inode, new IovIter(data), true, ops, undefined, 0), data.length);
  for (let at = 0; at < data.length; at += 97) {
    const place = placeOf(layout, pos + at);
    assert.equal(devices[place?.device ?? 9]?.read(place?.addr ?? 0, 1)[0], data[at]);
  }
  const into = new Uint8Array(data.length);
  assert.equal(await directIo({ pos, flags: 0 }, inode, new IovIter(into), false, ops, undefined, 0), data.length);
  assertSameBytes(into, data, 'read back');
  const past = async () =>
    directIo({ pos: layout.size - 512, flags: 0 }, inode, new IovIter(new Uint8Array(1024)), true, ops, undefined, 0);
  await assert.rejects(past, { code: 'ENOSPC' });
});

test('buffered I/O over a striped map of block devices', async () => {
  const devices = [new MemoryDevice({ size: 128 * KIB }), new MemoryDevice({ size: 64 * KIB })];
  const layout = stripedLayout(150_001);
  const map = new StripedMap(layout, { alignment: 4096 });
  const ops = stripedIomapOps(map, devices);
  const io = blockFileIo(ops, stripedIoendOps(map, devices));
  const inode = new Inode(superBlock(), { blockSize: 512, size: layout.size, ops: iomapAddressSpaceOps(io) });
  const data = new Prng(1).bytes(layout.size);
  assert.equal(await bufferedWrite({ pos: 0, flags: 0 }, inode, new IovIter(data), io), data.length);
  await inode.mapping.writeAndWait(0, layout.size);
  for (let pos = 0; pos < data.length; pos += 97) {
    const place = placeOf(layout, pos);
    assert.equal(devices[place?.device ?? 9]?.read(place?.addr ?? 0, 1)[0], data[pos]);
  }
  await inode.mapping.truncateRange(0, 2 ** 20);
  const into = new Uint8Array(layout.size);
  const options = { ra: new ReadaheadState(), nowait: false, dontcache: false };
  assert.equal(await filemapRead(inode.mapping, 0, into, options), layout.size);
  assertSameBytes(into, data, 'read back');
  assert.throws(() => bufferedWrite({ pos: layout.size - 5, flags: 0 }, inode, new IovIter(new Uint8Array(10)), io), { code: 'ENOSPC' });
  assert.equal(inode.size, layout.size);
});
