import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirectFs, STALE } from '../../test/support/direct-fs.ts';
import { FsError, hasCode } from '../base/fs-error.ts';
import { IovIter } from '../base/iov-iter.ts';
import { Prng } from '../base/prng.ts';
import { deferred, isPromise } from '../base/task.ts';
import { bindTracer } from '../base/tracer.ts';
import { REQ_ATOMIC, REQ_FUA, REQ_INTEGRITY, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE } from '../block/bio.ts';
import { flushDevice } from '../block/block-device.ts';
import { crashStates } from '../block/crash-states.ts';
import { MemoryDevice } from '../block/memory-device.ts';
import { RecordingDevice } from '../block/recording-device.ts';
import type { FsErrorReport } from '../vfs/super-block.ts';
import { directIo, IOMAP_DIO_BOUNCE, IOMAP_DIO_FSBLOCK_ALIGNED, IOMAP_DIO_OVERWRITE_ONLY, IOMAP_DIO_PARTIAL } from './direct-io.ts';
import { IOCB_ATOMIC, IOCB_DSYNC, IOCB_NOWAIT, IOCB_SYNC } from './iocb.ts';
import {
  IOMAP_ATOMIC,
  IOMAP_DELALLOC,
  IOMAP_F_ANON_WRITE,
  IOMAP_F_ATOMIC_BIO,
  IOMAP_F_DIRTY,
  IOMAP_F_INTEGRITY,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_F_ZERO_TAIL,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  type Iomap,
} from './iomap.ts';
import { warnings } from './warnings.ts';

const BLOCK = 4096;
const EIO = -5;
const EINVAL = -22;

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);

function assertBytes(actual: Uint8Array, from: number, to: number, byte: number, what = 'bytes'): void {
  for (let at = from; at < to; at++) if (actual[at] !== byte) assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${byte}`);
}

/** The error code of what is thrown or rejected. */
async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
  return 'none';
}

/** A file of written blocks, each filled with 0x11. */
function writtenFile(blocks: number, options: ConstructorParameters<typeof DirectFs>[0] = {}): DirectFs {
  const fs = new DirectFs({ size: blocks * (options.blockSize ?? BLOCK), ...options });
  fs.put(0, blocks * fs.blockSize, 'written');
  return fs;
}

/** Memory of which only the first bytes can be reached. */
class PartlyThere extends IovIter {
  readonly #total: number;
  limit: number;

  constructor(memory: Uint8Array, limit: number) {
    super(memory);
    this.#total = memory.length;
    this.limit = limit;
  }

  override faultIn(length: number): number {
    return Math.min(length, this.count, Math.max(0, this.limit - (this.#total - this.count)));
  }
}

async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await undefined;
}

test('a direct write and read of mapped blocks answer without a promise on a device that does', () => {
  const fs = writtenFile(4);
  assert.equal(fs.write(BLOCK, filled(2 * BLOCK, 0x22)), 2 * BLOCK);
  const into = filled(4 * BLOCK, 0);
  assert.equal(fs.read(0, into), 4 * BLOCK);
  assertBytes(into, 0, BLOCK, 0x11);
  assertBytes(into, BLOCK, 3 * BLOCK, 0x22);
  assertBytes(into, 3 * BLOCK, 4 * BLOCK, 0x11);
  assert.equal(fs.inode.dioCount, 0);
});

test('iocb.pos and the iterator move by what was done; a read is cut at the end of the file', async () => {
  const fs = writtenFile(2);
  fs.inode.size = BLOCK + 100;
  const iov = new IovIter([filled(3000, 0), filled(3 * BLOCK - 3000, 0)]);
  assert.equal(await fs.read(0, filled(0, 0), { iov }), BLOCK + 100);
  assert.equal(iov.done, BLOCK + 100);
  assert.equal(await fs.read(BLOCK + 512, filled(512, 0)), 0);
  assert.equal(await fs.read(BLOCK, filled(512, 0), { doneBefore: 7 }), 107);
});

test('invariant 66: a request of no bytes calls no hook', async () => {
  const fs = writtenFile(1);
  assert.equal(fs.read(0, filled(0, 0)), 0);
  assert.equal(fs.write(0, filled(0, 0), { flags: IOCB_DSYNC | IOCB_ATOMIC }), 0);
  assert.equal(fs.readFile(0, filled(0, 0)), 0);
  assert.equal(fs.writeFile(0, filled(0, 0)), 0);
  assert.deepEqual(fs.events, []);
  assert.equal(fs.spy.requests.length, 0);
});

test('invariant 44: misaligned position, length or memory is EINVAL before any device access', async () => {
  const odd = filled(BLOCK + 1, 1).subarray(1);
  for (const isWrite of [false, true]) {
    const fs = writtenFile(4, { geometry: { dmaAlignment: 4 } });
    const refused = async (pos: number, bytes: Uint8Array, dioFlags = 0): Promise<void> => {
      assert.equal(await codeOf(() => fs.io(isWrite, pos, bytes, { dioFlags })), 'EINVAL');
    };
    await refused(100, filled(512, 0));
    await refused(0, filled(100, 0));
    await refused(0, filled(2 * BLOCK + 100, 0)); // the mapping is long enough for the first blocks
    await refused(0, odd);
    await refused(512, filled(512, 0), IOMAP_DIO_FSBLOCK_ALIGNED);
    assert.equal(await codeOf(() => fs.io(isWrite, 0, filled(0, 0), { iov: new IovIter([filled(1023, 0), filled(1, 0)]) })), 'EINVAL');
    assert.equal(fs.spy.requests.length, 0);
    assert.equal(fs.inode.dioCount, 0);
    assert.equal(fs.begins, fs.ends);
    // Bounced, the device does not see the caller's memory.
    assert.equal(await fs.io(isWrite, 0, odd, { dioFlags: IOMAP_DIO_BOUNCE }), BLOCK);
  }
});

test('invariant 44: a tail that no device block can hold is found before the blocks of an earlier mapping are sent', async () => {
  const fs = writtenFile(4, { extentMax: 1 });
  assert.equal(await codeOf(() => fs.write(0, filled(BLOCK + 300, 1))), 'EINVAL');
  assert.equal(fs.spy.requests.length, 0);
});

for (const alloc of ['unwritten', 'new'] as const) {
  test(`invariant 45: the rest of a ${alloc} block around a sub-block write is zero on the device`, async () => {
    const fs = new DirectFs({ size: 8 * BLOCK, alloc });
    assert.equal(await fs.write(BLOCK + 512, filled(1024, 0x22)), 1024);
    const block = fs.deviceBlock(BLOCK);
    assertBytes(block, 0, 512, 0);
    assertBytes(block, 512, 1536, 0x22);
    assertBytes(block, 1536, BLOCK, 0);
  });

  test(`invariant 45: also if a later part of the write to ${alloc} blocks failed`, async () => {
    for (const failing of [1, 2]) {
      const fs = new DirectFs({ size: 8 * BLOCK, alloc, geometry: { bioSizeMax: 1024 } });
      let data = 0;
      fs.spy.fails = (bio) => (bio.vec[0]?.[0] === 0x22 && data++ === failing ? EIO : 0);
      const dops = {}; // blocks stay as they are, to be looked at
      assert.equal(await codeOf(() => fs.write(512, filled(3072, 0x22), { dops })), 'EIO');
      const block = fs.deviceBlock(0);
      assertBytes(block, 0, 512, 0, 'head');
      assertBytes(block, 512, 512 + failing * 1024, 0x22, 'sent');
      // What the loop did not come to is zero as well: it is the tail of what was sent.
      assertBytes(block, 512 + (failing + 1) * 1024, BLOCK, 0, 'tail');
    }
  });
}

test('invariant 45: zeros follow data that reaches the end of the file, and data on a ZERO_TAIL mapping', async () => {
  const fs = writtenFile(2);
  fs.inode.size = BLOCK + 1024;
  await fs.write(BLOCK, filled(1024, 0x22));
  assertBytes(fs.deviceBlock(BLOCK), 0, 1024, 0x22);
  assertBytes(fs.deviceBlock(BLOCK), 1024, BLOCK, 0);
  await fs.write(0, filled(512, 0x33));
  assertBytes(fs.deviceBlock(0), 512, BLOCK, 0x11);
  fs.mapFlags = IOMAP_F_ZERO_TAIL;
  const unreachable = new PartlyThere(filled(512, 0), 0);
  assert.equal(await codeOf(() => fs.write(0, filled(0, 0), { iov: unreachable })), 'EFAULT');
  assertBytes(fs.deviceBlock(0), 512, BLOCK, 0x11, 'nothing was written');
  await fs.write(0, filled(512, 0x33));
  assertBytes(fs.deviceBlock(0), 512, BLOCK, 0);
});

test('bug 17: zeros around a write into a block larger than a page come from zero memory as large as the block', async () => {
  for (const geometry of [{}, { bioSizeMax: 4096 }]) {
    const fs = new DirectFs({ blockSize: 65536, size: 65536, alloc: 'new', geometry });
    assert.equal(await fs.write(30720, filled(512, 0x22)), 512);
    const block = fs.deviceBlock(0);
    assertBytes(block, 0, 30720, 0);
    assertBytes(block, 30720, 31232, 0x22);
    assertBytes(block, 31232, 65536, 0);
  }
});

test('invariant 46: a buffered read after a direct write returns the new bytes', async () => {
  const fs = writtenFile(4);
  assertBytes(await fs.bufferedRead(0, 4 * BLOCK), 0, 4 * BLOCK, 0x11);
  assert.equal(await fs.write(BLOCK, filled(BLOCK, 0x22)), BLOCK);
  const seen = await fs.bufferedRead(0, 4 * BLOCK);
  assertBytes(seen, 0, BLOCK, 0x11);
  assertBytes(seen, BLOCK, 2 * BLOCK, 0x22);
});

test('invariant 46: also if readahead cached the old bytes while the write was in flight', async () => {
  const fs = writtenFile(4);
  fs.spy.isHolding = true;
  const write = fs.write(BLOCK, filled(BLOCK, 0x22)) as Promise<number>;
  fs.spy.isHolding = false;
  assertBytes(await fs.bufferedRead(0, 4 * BLOCK), 0, 4 * BLOCK, 0x11); // not ordered with the write, so old bytes are right
  fs.spy.release();
  assert.equal(fs.inode.mapping.hasFolios(BLOCK, 2 * BLOCK), true, 'folios are dropped on the stack of the device');
  assert.equal(await write, BLOCK);
  assertBytes(await fs.bufferedRead(BLOCK, BLOCK), 0, BLOCK, 0x22);
});

test('invariant 47: a direct read after a buffered write returns the new bytes', async () => {
  for (const length of [BLOCK, 3 * BLOCK]) {
    const fs = writtenFile(4);
    await fs.bufferedWrite(BLOCK + 100, filled(50, 0x22));
    const into = filled(length, 0);
    assert.equal(await fs.read(BLOCK, into), length);
    assertBytes(into, 100, 150, 0x22);
    assertBytes(into, 150, length, 0x11);
  }
});

test('a direct write keeps what a buffered write left dirty beside it in the folio', async () => {
  const fs = writtenFile(4, { blockSize: 1024 });
  await fs.bufferedWrite(0, filled(100, 0x22));
  await fs.write(1024, filled(1024, 0x33));
  const seen = await fs.bufferedRead(0, 4096);
  assertBytes(seen, 0, 100, 0x22);
  assertBytes(seen, 100, 1024, 0x11);
  assertBytes(seen, 1024, 2048, 0x33);
});

test('invariant 48 and bug 20: nobody sees garbage or a size ahead of its data while unwritten blocks are written', async () => {
  const fs = new DirectFs({ size: BLOCK });
  fs.put(0, 2 * BLOCK, 'unwritten');
  const converting = deferred();
  fs.beforeConversion = () => converting.promise;
  const look = async (): Promise<void> => {
    const into = filled(2 * BLOCK, 0x55);
    assert.equal(await fs.read(0, into), BLOCK);
    assertBytes(into, 0, BLOCK, 0);
    assertBytes(await fs.bufferedRead(0, 2 * BLOCK), 0, BLOCK, 0);
    assert.equal(fs.inode.size, BLOCK);
  };
  await look();
  fs.spy.isHolding = true;
  const write = fs.write(0, filled(2 * BLOCK, 0x22)) as Promise<number>;
  fs.spy.isHolding = false;
  await look();
  fs.spy.releaseAll();
  await turns();
  await look(); // data is there, not converted: the cache has zeros now
  fs.events.length = 0;
  const dropped = fs.inode.mapping.ops.invalidateFolio;
  fs.inode.mapping.ops.invalidateFolio = (folio) => {
    fs.events.push('invalidate');
    dropped?.(folio);
  };
  converting.resolve();
  assert.equal(await write, 2 * BLOCK);
  assert.deepEqual([...new Set(fs.events)], ['convert', 'size', 'invalidate']);
  assertBytes(await fs.bufferedRead(0, 2 * BLOCK), 0, 2 * BLOCK, 0x22);
  assert.equal(fs.inode.size, 2 * BLOCK);
});

test('without an end hook the core raises i_size, after the data is there', async () => {
  const fs = writtenFile(2);
  fs.inode.size = BLOCK;
  fs.spy.isHolding = true;
  const write = fs.write(BLOCK, filled(BLOCK, 0x22), { dops: undefined });
  assert.equal(fs.inode.size, BLOCK);
  fs.spy.releaseAll();
  assert.equal(await write, BLOCK);
  assert.equal(fs.inode.size, 2 * BLOCK);
  assert.equal(fs.inode.isDirty, true);
});

test('invariant 49: an error is never a count, whichever request of several fails', async () => {
  for (const isWrite of [false, true]) {
    for (const failing of [0, 1, 2]) {
      for (const order of [
        [0, 0, 0],
        [2, 1, 0],
        [1, 1, 0],
      ]) {
        const fs = writtenFile(3, { geometry: { bioSizeMax: BLOCK } });
        fs.spy.isHolding = true;
        const iov = new IovIter(filled(3 * BLOCK, 0x22));
        const iocb = fs.io(isWrite, 0, filled(0, 0), { iov, doneBefore: 5 }) as Promise<number>;
        const bios = [...fs.spy.held];
        assert.equal(bios.length, 3);
        for (const at of order) fs.spy.release(at, fs.spy.held[at] === bios[failing] ? EIO : 0);
        assert.equal(await codeOf(() => iocb), 'EIO');
        assert.equal(iov.done, 0, 'the iterator is back where it was');
        assert.equal(fs.inode.dioCount, 0);
      }
    }
  }
});

test('invariant 49: an error of begin after some blocks were sent is the answer, once they ended', async () => {
  const fs = new DirectFs({ size: 4 * BLOCK, extentMax: 1 });
  fs.put(0, 4 * BLOCK, 'written');
  fs.override = (pos) => {
    if (pos === 2 * BLOCK) throw new FsError('ENOSPC', 'write');
    return false;
  };
  fs.spy.isHolding = true;
  const write = fs.write(0, filled(4 * BLOCK, 0x22)) as Promise<number>;
  assert.equal(isPromise(write), true);
  assert.equal(fs.inode.dioCount, 1);
  fs.spy.releaseAll();
  assert.equal(await codeOf(() => write), 'ENOSPC');
  assert.equal(fs.events.at(-1), 'endIo -28');
  assert.equal(fs.inode.dioCount, 0);
});

test('invariant 49: ENOTBLK from the filesystem gives what was done, 0 at first', async () => {
  for (const isWrite of [false, true]) {
    for (const done of [0, 1, 2]) {
      const fs = writtenFile(4, { extentMax: 1 });
      fs.override = (pos) => {
        if (pos === done * BLOCK) throw new FsError('ENOTBLK', 'write');
        return false;
      };
      const iov = new IovIter(filled(4 * BLOCK, 0x22));
      assert.equal(await fs.io(isWrite, 0, filled(0, 0), { iov }), done * BLOCK);
      assert.equal(iov.done, done * BLOCK);
      assert.equal(fs.inode.dioCount, 0);
    }
  }
});

test('ENOTBLK from begin of a one-block read is 0 too', async () => {
  const fs = writtenFile(1);
  fs.override = () => {
    throw new FsError('ENOTBLK', 'read');
  };
  assert.equal(await fs.read(0, filled(BLOCK, 0)), 0);
  assert.equal(fs.inode.dioCount, 0);
});

test('an end() that fails after progress takes its bytes out of the answer', async () => {
  const fs = writtenFile(2, { extentMax: 1 });
  fs.onEnd = () => {
    if (fs.ends === 2) throw new FsError('ENOTBLK', 'write');
  };
  const iov = new IovIter(filled(2 * BLOCK, 0x22));
  assert.equal(await fs.write(0, filled(0, 0), { iov }), BLOCK);
  assert.equal(iov.done, BLOCK);
});

test('bug 42: ENOTBLK from end() does not hide the error of the body', async () => {
  for (const isWrite of [false, true]) {
    const fs = writtenFile(2);
    fs.onEnd = (written) => {
      if (written === 0) throw new FsError('ENOTBLK', 'write');
    };
    assert.equal(await codeOf(() => fs.io(isWrite, 0, filled(100, 0))), 'EINVAL');
  }
});

test('bug 16: a partial read under NOWAIT is submitted without waiting and gives its count when it ends', async () => {
  const fs = writtenFile(4, { geometry: { bioSizeMax: BLOCK } });
  fs.spy.isHolding = true;
  const memory = filled(4 * BLOCK, 0);
  const iov = new PartlyThere(memory, 2 * BLOCK + 100);
  const options = { iov, flags: IOCB_NOWAIT, dioFlags: IOMAP_DIO_PARTIAL };
  const first = fs.read(0, memory, options) as Promise<number>;
  assert.equal(fs.spy.held.length, 2, 'all that can be read is on its way when the call returns');
  fs.spy.isHolding = false;
  fs.spy.releaseAll();
  assert.equal(await first, 2 * BLOCK);
  assert.equal(iov.done, 2 * BLOCK);
  // The memory is made reachable, and the request resumed.
  iov.limit = memory.length;
  assert.equal(await fs.read(2 * BLOCK, memory, { ...options, doneBefore: 2 * BLOCK }), 4 * BLOCK);
  assertBytes(memory, 0, 4 * BLOCK, 0x11);
});

test('memory that cannot be reached is EFAULT: with PARTIAL only before anything was done', async () => {
  for (const isWrite of [false, true]) {
    for (const type of ['written', 'hole'] as const) {
      if (type === 'hole' && isWrite) continue;
      const fs = new DirectFs({ size: 2 * BLOCK });
      if (type === 'written') fs.put(0, 2 * BLOCK, 'written');
      const memory = filled(2 * BLOCK, 0x22);
      const call = (limit: number, dioFlags: number) => () => fs.io(isWrite, 0, memory, { iov: new PartlyThere(memory, limit), dioFlags });
      assert.equal(await codeOf(call(BLOCK, 0)), 'EFAULT');
      assert.equal(await codeOf(call(100, type === 'hole' ? 0 : IOMAP_DIO_PARTIAL)), 'EFAULT');
      assert.equal(await codeOf(call(0, IOMAP_DIO_PARTIAL)), 'EFAULT');
      assert.equal(await call(BLOCK, IOMAP_DIO_PARTIAL)(), BLOCK);
      assert.equal(fs.inode.dioCount, 0);
    }
  }
});

test('bug 31: the iterator is put back once, wherever the error came from', async () => {
  const memory = filled(6 * BLOCK, 0x22);
  for (const where of ['bio', 'begin', 'memory', 'endIo', 'inline bio'] as const) {
    const fs = writtenFile(4, { extentMax: 2, geometry: { bioSizeMax: BLOCK } });
    const iov = new PartlyThere(memory, where === 'memory' ? 3 * BLOCK : 6 * BLOCK);
    iov.advance(BLOCK); // done by an earlier call
    iov.truncate(4 * BLOCK);
    if (where === 'bio') fs.spy.isHolding = true;
    if (where === 'inline bio') fs.spy.fails = () => (fs.spy.requests.length === 2 ? EIO : 0);
    if (where === 'endIo') fs.beforeConversion = () => Promise.reject(new FsError('EIO', 'write'));
    if (where === 'begin') {
      fs.override = (pos) => {
        if (pos > 0) throw new FsError('EIO', 'write');
        return false;
      };
    }
    const write = (async () => fs.write(0, memory, { iov }))();
    if (where === 'bio') {
      fs.spy.release(1, EIO);
      fs.spy.release(2, EIO);
      fs.spy.releaseAll();
    }
    assert.equal(await codeOf(() => write), where === 'memory' ? 'EFAULT' : 'EIO', where);
    assert.deepEqual([iov.done, iov.count], [BLOCK, 4 * BLOCK], where);
  }
});

interface FuaCase {
  readonly name: string;
  readonly flags?: number;
  readonly hasVolatileCache?: boolean;
  readonly hasFua?: boolean;
  readonly setUp?: (fs: DirectFs) => void;
  readonly fua: boolean;
  readonly syncs: number;
}

const FUA_CASES: FuaCase[] = [
  { name: 'a data-sync overwrite', fua: true, syncs: 0 },
  { name: 'on a device without a volatile cache', hasVolatileCache: false, hasFua: false, fua: true, syncs: 0 },
  { name: 'on a device without FUA', hasFua: false, fua: false, syncs: 1 },
  { name: 'of a mapping that needs a commit', setUp: (fs) => (fs.mapFlags = IOMAP_F_DIRTY), fua: false, syncs: 1 },
  { name: 'of new blocks', setUp: (fs) => (fs.mapFlags = IOMAP_F_NEW), fua: false, syncs: 1 },
  { name: 'of a copy of shared blocks', setUp: (fs) => (fs.mapFlags = IOMAP_F_SHARED), fua: false, syncs: 1 },
  { name: 'with full sync', flags: IOCB_DSYNC | IOCB_SYNC, fua: false, syncs: 1 },
  { name: 'with full sync alone', flags: IOCB_SYNC, fua: false, syncs: 1 },
  { name: 'without sync', flags: 0, fua: false, syncs: 0 },
];

for (const { name, flags = IOCB_DSYNC, hasVolatileCache = true, hasFua = true, setUp, fua, syncs } of FUA_CASES) {
  test(`invariant 50: FUA or a flush, ${name}`, async () => {
    const fs = writtenFile(2, { geometry: { hasVolatileCache, hasFua } });
    setUp?.(fs);
    const ranges: unknown[] = [];
    const sync = (start: number, end: number, datasync: boolean): void | Promise<void> => {
      ranges.push([start, end, datasync]);
      return flushDevice(fs.spy);
    };
    assert.equal(await fs.write(0, filled(2 * BLOCK, 0x22), { flags, sync }), 2 * BLOCK);
    for (const request of fs.spy.requests.filter(({ op }) => op === REQ_OP_WRITE)) assert.equal((request.flags & REQ_FUA) !== 0, fua);
    assert.deepEqual(ranges, syncs === 0 ? [] : [[0, 2 * BLOCK, (flags & IOCB_SYNC) === 0]]);
    assert.equal(fs.spy.flushes, syncs);
    assert.equal(await fs.read(0, filled(BLOCK, 0), { flags: IOCB_DSYNC }), BLOCK);
    assert.equal(fs.spy.flushes, syncs);
  });
}

test('bug 18: a data-sync write to unwritten blocks is not FUA but followed by a sync, after conversion', async () => {
  const fs = new DirectFs({ size: 2 * BLOCK, geometry: { hasVolatileCache: true, hasFua: true }, extentMax: 1 });
  fs.put(0, BLOCK, 'written');
  fs.put(BLOCK, BLOCK, 'unwritten');
  const sync = (): void => void fs.events.push('sync');
  await fs.write(0, filled(2 * BLOCK, 0x22), { flags: IOCB_DSYNC, sync });
  assert.deepEqual(
    fs.spy.requests.map((request) => (request.flags & REQ_FUA) !== 0),
    [true, false],
    'the first mapping could be FUA, the second clears it for the whole request',
  );
  assert.ok(fs.events.indexOf('convert') < fs.events.indexOf('sync'));
  assert.equal(fs.events.filter((event) => event === 'sync').length, 1);
});

test('bug 19: a data-sync write that grows the file is followed by a sync of the new size', async () => {
  const fs = writtenFile(2, { geometry: { hasVolatileCache: true, hasFua: true } });
  fs.inode.size = BLOCK;
  let sizeAtSync = 0;
  await fs.write(BLOCK, filled(BLOCK, 0x22), { flags: IOCB_DSYNC, sync: () => void (sizeAtSync = fs.inode.size) });
  assert.equal(sizeAtSync, 2 * BLOCK);
  assert.equal((fs.spy.requests[0]?.flags ?? 0) & REQ_FUA, 0);
});

test('a failing sync is the answer; without a sync hook the devices are flushed', async () => {
  const fs = writtenFile(1, { geometry: { hasVolatileCache: true, hasFua: false } });
  assert.equal(
    await codeOf(() =>
      fs.write(0, filled(BLOCK, 0x22), {
        flags: IOCB_DSYNC,
        sync: () => {
          throw new FsError('EROFS', 'fsync');
        },
      }),
    ),
    'EROFS',
  );
  assert.equal(fs.inode.dioCount, 0);
  assert.equal(await fs.write(0, filled(BLOCK, 0x22), { flags: IOCB_DSYNC }), BLOCK);
  assert.deepEqual([fs.spy.flushes, fs.spy.requests.at(-1)?.op], [1, REQ_OP_FLUSH]);
});

test('invariant 51: the count of direct I/O is back at 0 on every path', async () => {
  const fail = (): never => {
    throw new FsError('EIO', 'write');
  };
  const paths: ((fs: DirectFs, isWrite: boolean) => unknown)[] = [
    (fs, isWrite) => fs.io(isWrite, 0, filled(2 * BLOCK, 0)),
    (fs, isWrite) => fs.io(isWrite, 0, filled(BLOCK, 0), { dops: undefined }),
    (fs, isWrite) => fs.io(isWrite, 100, filled(100, 0)),
    (fs, isWrite) => fs.io(isWrite, 8 * BLOCK, filled(BLOCK, 0)),
    (fs, isWrite) => {
      fs.override = fail;
      return fs.io(isWrite, 0, filled(BLOCK, 0));
    },
    (fs, isWrite) => {
      fs.onEnd = fail;
      return fs.io(isWrite, 0, filled(BLOCK, 0));
    },
    (fs, isWrite) => fs.io(isWrite, 0, filled(2 * BLOCK, 0), { dops: { endIo: fail } }),
    (fs, isWrite) => fs.io(isWrite, 0, filled(2 * BLOCK, 0), { dops: { endIo: () => Promise.reject(new FsError('EIO', 'write')) } }),
    (fs, isWrite) => fs.io(isWrite, 0, filled(2 * BLOCK, 0), { dops: { submitIo: fail } }),
    (fs, isWrite) => {
      fs.spy.fails = () => EIO;
      return fs.io(isWrite, 0, filled(BLOCK, 0));
    },
    (fs, isWrite) => fs.io(isWrite, 0, filled(BLOCK, 0), { flags: IOCB_ATOMIC }),
    (fs, isWrite) => fs.io(isWrite, 0, filled(BLOCK, 0), { iov: new PartlyThere(filled(BLOCK, 0), 0) }),
  ];
  for (const [index, path] of paths.entries()) {
    for (const isWrite of [false, true]) {
      const fs = writtenFile(4);
      await codeOf(() => path(fs, isWrite));
      await fs.sb.work.drain();
      assert.equal(fs.inode.dioCount, 0, `path ${index}`);
      assert.equal(fs.begins, fs.override === fail ? fs.begins : fs.ends, `path ${index}`);
    }
  }
});

test('invariant 51: whoever cuts the file waits for direct I/O', async () => {
  for (const status of [0, EIO]) {
    const fs = writtenFile(2);
    fs.spy.isHolding = true;
    const read = codeOf(() => fs.read(0, filled(2 * BLOCK, 0)));
    let isFree = false;
    const waiting = Promise.resolve(fs.inode.dioWait()).then(() => (isFree = true));
    await turns();
    assert.equal(isFree, false);
    fs.spy.release(0, status);
    await waiting;
    assert.equal(await read, status === 0 ? 'none' : 'EIO');
  }
});

test('invariant 52: an atomic write is one request, all old or all new after any crash', async () => {
  const memory = new MemoryDevice({ size: 1024 * 1024, hasVolatileCache: true, atomicWriteMax: 65536 });
  memory.fill(STALE);
  const recording = new RecordingDevice(memory);
  const fs = new DirectFs({ size: 16 * BLOCK, bdev: recording });
  for (let block = 0; block < 16; block++) fs.blocks.set(block, { addr: (block + 1) * BLOCK, state: 'written', isShared: false });
  memory.fill(0x11, BLOCK, 16 * BLOCK);
  fs.mapFlags = IOMAP_F_ATOMIC_BIO;
  const base = memory.snapshot();
  assert.equal(await fs.write(8 * BLOCK, filled(8 * BLOCK, 0x22), { flags: IOCB_ATOMIC | IOCB_DSYNC }), 8 * BLOCK);
  assert.equal((recording.log.entries[0]?.flags ?? 0) & REQ_ATOMIC, REQ_ATOMIC);
  let states = 0;
  for (const state of crashStates(recording.log, base, new Prng(1))) {
    const content = state.materialise().read(9 * BLOCK, 8 * BLOCK);
    assertBytes(content, 0, content.length, content[0] as number, state.text);
    assert.ok(content[0] === 0x11 || content[0] === 0x22);
    states++;
  }
  assert.ok(states > 1);
});

test('invariant 52: an atomic write that cannot be one request fails before any write', async () => {
  const atomic = { flags: IOCB_ATOMIC };
  const make = (options: ConstructorParameters<typeof DirectFs>[0] = {}): DirectFs => {
    const fs = writtenFile(16, {
      geometry: { atomicWriteMin: 1024, atomicWriteMax: 16384 },
      device: { atomicWriteMax: 16384 },
      ...options,
    });
    fs.mapFlags = IOMAP_F_ATOMIC_BIO;
    return fs;
  };
  const refused: [string, DirectFs, number, IovIter | Uint8Array][] = [
    ['two mappings', make({ extentMax: 1 }), 0, filled(2 * BLOCK, 0)],
    ['larger than the device allows', make(), 0, filled(8 * BLOCK, 0)],
    ['smaller than the device allows', make(), 0, filled(512, 0)],
    [
      'larger than a request',
      make({ geometry: { atomicWriteMin: 512, atomicWriteMax: 16384, bioSizeMax: BLOCK } }),
      0,
      filled(2 * BLOCK, 0),
    ],
    ['not a power of two', make(), 0, filled(3 * BLOCK, 0)],
    ['not at a multiple of its length', make(), BLOCK, filled(2 * BLOCK, 0)],
    ['two pieces of memory', make(), 0, new IovIter([filled(BLOCK, 0), filled(BLOCK, 0)])],
    ['memory that is partly there', make(), 0, new PartlyThere(filled(2 * BLOCK, 0), BLOCK)],
  ];
  for (const [name, fs, pos, source] of refused) {
    const iov = source instanceof IovIter ? source : new IovIter(source);
    assert.equal(await codeOf(() => fs.write(pos, filled(0, 0), { ...atomic, iov })), 'EINVAL', name);
    assert.equal(fs.spy.requests.length, 0, name);
    assert.equal(fs.inode.dioCount, 0, name);
  }
  assert.equal(await codeOf(() => make().read(0, filled(BLOCK, 0), atomic)), 'EOPNOTSUPP');
  const plain = writtenFile(1);
  assert.equal(await codeOf(() => plain.write(0, filled(BLOCK, 0), atomic)), 'EINVAL', 'a filesystem that maps it as any other write');
  assert.equal(plain.spy.requests.length, 0);
});

test('an atomic write may be out of place, in as many requests as it takes; the filesystem is told', async () => {
  const fs = new DirectFs({ size: 4 * BLOCK });
  fs.put(0, 4 * BLOCK, 'written', 0x11, true);
  let seen = 0;
  fs.override = (_pos, _length, flags) => {
    seen |= flags;
    return false;
  };
  assert.equal(await fs.write(0, filled(4 * BLOCK, 0x22), { flags: IOCB_ATOMIC }), 4 * BLOCK);
  assert.equal(seen & IOMAP_ATOMIC, IOMAP_ATOMIC);
  assert.equal(fs.events.at(-1), 'remap');
  assert.equal(fs.spy.requests.length, 4);
});

test('invariant 53: OVERWRITE_ONLY allocates nothing and changes no size', async () => {
  const overwrite = { dioFlags: IOMAP_DIO_OVERWRITE_ONLY };
  const fs = new DirectFs({ size: 4 * BLOCK });
  fs.put(0, BLOCK, 'written');
  fs.put(2 * BLOCK, BLOCK, 'unwritten');
  const before = fs.blocks.size;
  assert.equal(await codeOf(() => fs.write(BLOCK, filled(BLOCK, 0), overwrite)), 'EAGAIN', 'a hole');
  assert.equal(await codeOf(() => fs.write(2 * BLOCK, filled(512, 0), overwrite)), 'EAGAIN', 'zeroing');
  const begins = fs.begins;
  assert.equal(await codeOf(() => fs.write(3 * BLOCK, filled(2 * BLOCK, 0), overwrite)), 'EAGAIN', 'past the end');
  assert.equal(fs.begins, begins, 'the filesystem is not even asked');
  assert.equal(fs.spy.requests.length, 0);
  assert.equal(await fs.write(0, filled(512, 0), overwrite), 512);
  assert.equal(await fs.write(2 * BLOCK, filled(BLOCK, 0), overwrite), BLOCK, 'a whole unwritten block needs no zeros');
  assert.deepEqual([fs.blocks.size, fs.inode.size], [before, 4 * BLOCK]);

  // A filesystem that forgets the flag.
  for (const type of [IOMAP_MAPPED, IOMAP_UNWRITTEN] as const) {
    fs.override = (_pos, _length, _flags, map) => {
      Object.assign(map, { type, flags: type === IOMAP_MAPPED ? IOMAP_F_NEW : 0, offset: 0, length: BLOCK, addr: BLOCK, bdev: fs.spy });
      return true;
    };
    const { length } = fs.spy.requests;
    assert.equal(await codeOf(() => fs.write(512, filled(512, 0), overwrite)), 'EAGAIN');
    assert.equal(fs.spy.requests.length, length);
  }
});

test('invariant 54 and bug 32: errors are completed by the work queue, never on the stack of device or caller', async () => {
  for (const isWrite of [false, true]) {
    for (const isHeld of [false, true]) {
      for (const length of [BLOCK, 2 * BLOCK]) {
        const fs = writtenFile(2);
        let isCalling = true;
        const stacks: string[] = [];
        const note = (what: string): void =>
          void stacks.push(`${what}${fs.spy.isCompleting ? ' on the device' : ''}${isCalling ? ' on the caller' : ''}`);
        fs.sb.watchErrors(() => note('report'));
        fs.spy.isHolding = isHeld;
        fs.spy.fails = isHeld ? undefined : () => EIO;
        const endIo = (): void => note('endIo');
        const dops = length === BLOCK && !isWrite ? undefined : { endIo };
        const answer = fs.io(isWrite, 0, filled(length, 0), { dops }) as Promise<number>;
        assert.equal(isPromise(answer), true);
        if (isHeld) fs.spy.release(0, EIO);
        assert.equal(fs.sb.work.pending, isHeld && dops === undefined ? 0 : 1);
        isCalling = false;
        assert.equal(await codeOf(() => answer), 'EIO');
        await fs.sb.work.drain();
        assert.deepEqual(stacks, dops === undefined ? ['report'] : ['endIo', 'report']);
      }
    }
  }
});

test('completion work runs in a task; a plain overwrite ends on the stack of the device', async () => {
  for (const state of ['written', 'unwritten'] as const) {
    const fs = new DirectFs({ size: BLOCK });
    fs.put(0, BLOCK, state);
    let isOnDevice: boolean | undefined;
    fs.beforeConversion = () => void (isOnDevice = fs.spy.isCompleting);
    fs.spy.isHolding = true;
    const write = fs.write(0, filled(BLOCK, 0x22));
    fs.spy.release();
    assert.equal(fs.inode.dioCount, state === 'written' ? 0 : 1);
    assert.equal(await write, BLOCK);
    assert.equal(isOnDevice, state === 'written');
  }
});

test('Y10: an error on bio 2 of 3 while submission still runs stops it', async () => {
  const fs = writtenFile(8, { geometry: { bioSizeMax: BLOCK } });
  fs.spy.fails = () => (fs.spy.requests.length === 2 ? EIO : 0);
  assert.equal(await codeOf(() => fs.write(0, filled(8 * BLOCK, 0x22))), 'EIO');
  assert.equal(fs.spy.requests.length, 2);
  assert.equal(fs.begins, 1);
});

test('a request that failed while the filesystem looked for the next mapping sends no more', async () => {
  const fs = new DirectFs({ size: 4 * BLOCK });
  fs.put(0, 2 * BLOCK, 'written');
  const looking = deferred();
  fs.override = async (pos) => {
    if (pos > 0) await looking.promise;
    return false;
  };
  fs.spy.isHolding = true;
  const write = fs.write(0, filled(3 * BLOCK + 512, 0x22)) as Promise<number>;
  await turns();
  fs.spy.release(0, EIO);
  looking.resolve();
  assert.equal(await codeOf(() => write), 'EIO');
  assert.equal(fs.spy.requests.length, 1);
  assert.deepEqual([fs.begins, fs.ends], [2, 2]);
});

test('protection information goes with requests on a mapping that asks for it', async () => {
  const fs = writtenFile(1);
  fs.mapFlags = IOMAP_F_INTEGRITY;
  await fs.read(0, filled(BLOCK, 0));
  await fs.write(0, filled(BLOCK, 0));
  for (const { flags } of fs.spy.requests) assert.equal(flags & REQ_INTEGRITY, REQ_INTEGRITY);
});

test('the first error wins', async () => {
  const fs = writtenFile(2, { geometry: { bioSizeMax: BLOCK } });
  fs.spy.isHolding = true;
  const write = fs.write(0, filled(2 * BLOCK, 0), {
    dops: { endIo: () => Promise.reject(new FsError('EROFS', 'write')) },
  }) as Promise<number>;
  fs.spy.release(1, -28);
  fs.spy.release(0, EIO);
  assert.equal(await codeOf(() => write), 'ENOSPC');
});

test('bug 34: a write of no bytes invalidates nothing, not even after the cache took none of the rest', async () => {
  const fs = writtenFile(4, { orderMax: 0 });
  await fs.bufferedRead(0, 4 * BLOCK);
  assert.equal(await fs.writeFile(BLOCK, filled(0, 0)), 0);
  assert.equal(await fs.write(BLOCK, filled(0, 0)), 0);
  fs.override = () => {
    throw new FsError('ENOTBLK', 'write');
  };
  assert.equal(await fs.writeFile(BLOCK, filled(512, 0), 0, { bufferedWrite: () => 0 }), 0);
  assert.equal(fs.inode.mapping.hasFolios(2 * BLOCK, 3 * BLOCK), true);
  assert.equal(fs.inode.mapping.hasFolios(0, BLOCK), true);
});

test('NOWAIT waits neither for dirty data nor for cached folios', async () => {
  const fs = writtenFile(4);
  await fs.bufferedRead(0, BLOCK);
  assert.equal(await fs.read(0, filled(BLOCK, 0), { flags: IOCB_NOWAIT }), BLOCK);
  assert.throws(
    () => fs.write(0, filled(BLOCK, 0), { flags: IOCB_NOWAIT }),
    (error) => hasCode(error, 'EAGAIN'),
  );
  await fs.bufferedWrite(0, filled(10, 0x22));
  const requests = fs.spy.requests.length;
  assert.throws(
    () => fs.read(0, filled(BLOCK, 0), { flags: IOCB_NOWAIT }),
    (error) => hasCode(error, 'EAGAIN'),
  );
  assert.equal(fs.spy.requests.length, requests);
});

test('a folio that cannot be dropped sends a write to the cache; an atomic one may try again', async () => {
  const fs = writtenFile(4);
  fs.mapFlags = IOMAP_F_ATOMIC_BIO;
  await fs.bufferedRead(0, BLOCK);
  fs.inode.mapping.ops.releaseFolio = () => false;
  assert.equal(await fs.write(0, filled(BLOCK, 0x22)), 0);
  assert.equal(await codeOf(() => fs.write(0, filled(BLOCK, 0x22), { flags: IOCB_ATOMIC })), 'EAGAIN');
  assert.equal(fs.spy.count(REQ_OP_WRITE), 0);
  assert.equal(fs.inode.dioCount, 0);
});

test('a folio dirtied over a direct write is kept, counted and reported at fsync; the write succeeds', async () => {
  const fs = writtenFile(2);
  fs.spy.isHolding = true;
  const write = fs.write(0, filled(BLOCK, 0x22));
  fs.spy.isHolding = false;
  await fs.bufferedWrite(100, filled(10, 0x33));
  const since = fs.inode.mapping.errors.sample();
  const before = warnings.dirtyAfterDirect;
  fs.spy.release();
  assert.equal(await write, BLOCK);
  assert.equal(warnings.dirtyAfterDirect, before + 1);
  assert.equal(fs.inode.mapping.errors.check(since), EIO);
});

test('an I/O error of direct I/O is not recorded on the mapping but reported with its range; mistakes of the caller are not', async () => {
  for (const isWrite of [false, true]) {
    const fs = writtenFile(4);
    const reports: FsErrorReport[] = [];
    fs.sb.watchErrors((report) => reports.push(report));
    await codeOf(() => fs.io(isWrite, 0, filled(100, 0)));
    fs.spy.fails = () => EIO;
    for (const length of [BLOCK, 2 * BLOCK]) await codeOf(() => fs.io(isWrite, BLOCK, filled(length, 0)));
    await fs.sb.work.drain();
    assert.deepEqual(
      reports.map(({ kind, pos, length, errno }) => [kind, pos, length, errno]),
      [BLOCK, 2 * BLOCK].map((length) => [isWrite ? 'direct-write' : 'direct-read', BLOCK, length, EIO]),
    );
    assert.equal(fs.inode.mapping.errorCount, 0);
  }
});

test('reads of holes and unwritten blocks are zeros, without device access', async () => {
  const fs = new DirectFs({ size: 4 * BLOCK });
  fs.put(BLOCK, BLOCK, 'unwritten');
  const into = filled(3 * BLOCK, 0x55);
  assert.equal(await fs.read(0, into), 3 * BLOCK);
  assertBytes(into, 0, 3 * BLOCK, 0);
  assert.equal(await fs.read(BLOCK, into.fill(0x55).subarray(0, BLOCK)), BLOCK);
  assertBytes(into, 0, BLOCK, 0);
  assert.equal(fs.spy.requests.length, 0);
});

test('a delayed allocation in direct I/O is EIO and counted', async () => {
  for (const isWrite of [false, true]) {
    const fs = writtenFile(2);
    const before = warnings.delallocInDirect;
    fs.override = (_pos, _length, _flags, map) => {
      Object.assign(map, { type: IOMAP_DELALLOC, offset: 0, length: 2 * BLOCK });
      return true;
    };
    assert.equal(await codeOf(() => fs.io(isWrite, 0, filled(2 * BLOCK, 0))), 'EIO');
    assert.equal(warnings.delallocInDirect, before + 1);
  }
});

test('a hole for a direct write is refused', async () => {
  const fs = writtenFile(1);
  fs.override = (_pos, _length, _flags, map) => {
    Object.assign(map, { type: IOMAP_HOLE, offset: 0, length: BLOCK });
    return true;
  };
  assert.equal(await codeOf(() => fs.write(0, filled(BLOCK, 0))), 'EUCLEAN');
});

test('inline data is copied; a write past the size zeroes the gap and grows the file', async () => {
  const fs = new DirectFs({ size: 5 });
  const inlineData = filled(512, 0x99);
  inlineData.set([1, 2, 3, 4, 5]);
  let flagsAtEnd = 0;
  fs.override = (_pos, _length, _flags, map) => {
    Object.assign(map, { type: IOMAP_INLINE, offset: 0, length: BLOCK, inlineData });
    return true;
  };
  const end = fs.ops.iomapEnd as NonNullable<typeof fs.ops.iomapEnd>;
  Object.assign(fs.ops, {
    iomapEnd: (...args: Parameters<typeof end>) => {
      flagsAtEnd = args[5].flags;
      return end(...args);
    },
  });
  const into = filled(16, 0x55);
  assert.equal(await fs.read(0, into), 5);
  assert.deepEqual([...into.subarray(0, 5)], [1, 2, 3, 4, 5]);
  const synced: number[] = [];
  assert.equal(await fs.write(8, Uint8Array.of(9, 9), { flags: IOCB_DSYNC, sync: (start, stop) => void synced.push(start, stop) }), 2);
  assert.deepEqual([...inlineData.subarray(0, 10)], [1, 2, 3, 4, 5, 0, 0, 0, 9, 9]);
  assert.deepEqual([fs.inode.size, fs.inode.isDirty], [10, true]);
  assert.deepEqual(synced, [8, 10], 'the inode is not durable yet');
  assert.notEqual(flagsAtEnd & (1 << 14), 0, 'end() is told that the size changed');
  assert.equal(await codeOf(() => fs.write(510, filled(4, 0))), 'EIO', 'the filesystem should have moved the data out');
  assert.equal(fs.spy.requests.length, 0);
});

test('BOUNCE: data does not change in flight, and what was read is stored when all of it is there', async () => {
  for (const dioFlags of [0, IOMAP_DIO_BOUNCE]) {
    const fs = writtenFile(2);
    fs.spy.isHolding = true;
    const memory = filled(BLOCK, 0x22);
    const write = fs.write(0, memory, { dioFlags });
    memory.fill(0x33);
    fs.spy.release();
    assert.equal(await write, BLOCK);
    assertBytes(fs.deviceBlock(0), 0, BLOCK, dioFlags === 0 ? 0x33 : 0x22);
  }
  const fs = writtenFile(2);
  fs.spy.isHolding = true;
  const pieces = [filled(1000, 0), filled(2 * BLOCK - 1000, 0)];
  const read = fs.read(0, filled(0, 0), { dioFlags: IOMAP_DIO_BOUNCE, iov: new IovIter(pieces) });
  fs.spy.release();
  assert.equal(await read, 2 * BLOCK);
  for (const piece of pieces) assertBytes(piece, 0, piece.length, 0x11);
  const failed = filled(2 * BLOCK, 0x44);
  const refused = fs.read(0, failed, { dioFlags: IOMAP_DIO_BOUNCE }) as Promise<number>;
  fs.spy.release(0, EIO);
  assert.equal(await codeOf(() => refused), 'EIO');
  assertBytes(failed, 0, failed.length, 0x44);
});

test('submitIo sends requests itself: it chooses addresses, and may split', async () => {
  const fs = new DirectFs({ size: 4 * BLOCK });
  fs.override = (_pos, _length, _flags, map: Iomap) => {
    Object.assign(map, { type: IOMAP_MAPPED, flags: IOMAP_F_ANON_WRITE, offset: 0, length: 4 * BLOCK, bdev: fs.spy });
    return true;
  };
  const sent: [number, number, number][] = [];
  const submitIo = (_iter: unknown, bio: { addr: number; length: number; end(status: number): void }, pos: number): void => {
    sent.push([pos, bio.addr, bio.length]);
    bio.end(0);
  };
  assert.equal(await fs.write(BLOCK, filled(2 * BLOCK, 0x22), { dops: { submitIo } }), 2 * BLOCK);
  assert.deepEqual(sent, [[BLOCK, -1, 2 * BLOCK]]);
  assert.equal(await codeOf(() => fs.write(BLOCK, filled(BLOCK, 0), { dops: {} })), 'EIO', 'nobody chooses an address');
});

test('a small read inside the file takes the short way, with the same answer', async () => {
  const fs = writtenFile(4);
  for (const [pos, length] of [
    [0, BLOCK],
    [512, 1024],
    [3 * BLOCK, BLOCK],
  ] as const) {
    const into = filled(length, 0);
    assert.equal(await fs.read(pos, into), length);
    assertBytes(into, 0, length, 0x11);
  }
  assert.equal(fs.begins, 3);
  assert.equal(fs.ends, 3);
  // Over two mappings the short way gives up, without a byte read.
  const split = writtenFile(4, { extentMax: 1 });
  assert.equal(await split.read(512, filled(BLOCK, 0)), BLOCK);
  assert.deepEqual([split.begins, split.ends, split.spy.reads], [3, 3, 2]);
  // end() fails while the read is in flight: the error waits for it.
  const failing = writtenFile(1);
  failing.spy.isHolding = true;
  failing.onEnd = () => {
    throw new FsError('EROFS', 'read');
  };
  const read = codeOf(() => failing.read(0, filled(BLOCK, 0)));
  await turns();
  assert.equal(failing.inode.dioCount, 1);
  failing.spy.release();
  assert.equal(await read, 'EROFS');
});

test('a request is cut where the device wants it, and an aborted one does not begin', async () => {
  const fs = writtenFile(4, { geometry: { bioSizeMax: 3 * 512 } });
  await fs.write(0, filled(BLOCK, 0x22));
  assert.deepEqual(
    fs.spy.requests.map(({ op, length }) => [op, length]),
    [1536, 1536, 1024].map((length) => [REQ_OP_WRITE, length]),
  );
  await fs.read(0, filled(2 * BLOCK, 0));
  assert.equal(fs.spy.count(REQ_OP_READ), 6);
  const { begins } = fs;
  const aborted = { pos: 0, flags: 0, signal: { aborted: true } };
  assert.equal(await codeOf(() => directIo(aborted, fs.inode, new IovIter(filled(512, 0)), false, fs.ops, undefined, 0)), 'EINTR');
  assert.equal(fs.begins, begins);
});

test('direct requests can be watched', async () => {
  const events: unknown[] = [];
  bindTracer((name) => ({ hasSubscribers: name === 'iomap:direct', publish: (event) => events.push(event) }));
  try {
    await writtenFile(1).read(0, filled(512, 0));
  } finally {
    bindTracer(() => ({ hasSubscribers: false, publish: () => {} }));
  }
  assert.deepEqual(events, [{ ino: 7, pos: 0, length: 512, flags: 0, isWrite: false, dioFlags: 0 }]);
});

test('a device that refuses a request because the filesystem misplaced it fails the write', async () => {
  const fs = writtenFile(1);
  fs.spy.fails = () => EINVAL;
  const reports: FsErrorReport[] = [];
  fs.sb.watchErrors((report) => reports.push(report));
  assert.equal(await codeOf(() => fs.write(0, filled(BLOCK, 0))), 'EINVAL');
  await fs.sb.work.drain();
  assert.equal(reports.length, 1, 'not the fault of the caller');
});
