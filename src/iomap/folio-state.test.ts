import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockFile } from '../../test/support/block-file.ts';
import { LinearFile } from '../../test/support/linear-file.ts';
import { forEachSeed } from '../../test/support/seeds.ts';
import { PAGE_SIZE } from '../pagecache/page-memory.ts';
import {
  allUptodate,
  biasRead,
  clearDirtyBits,
  dirtyRunEnd,
  ensureState,
  folioStateSize,
  folioStateUsage,
  freeState,
  hasState,
  isBlockUptodate,
  isPartiallyUptodate,
  markDirty,
  markUptodate,
  nextDirty,
  nextNotUptodate,
  nextUptodate,
  setDirtyBits,
  unpendRead,
  unpendWrite,
} from './folio-state.ts';
import type { IomapType } from './iomap.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Folio bytes, block bytes, blocks, bytes of the record. Source: specification 4.3. */
const TABLE = [
  [4 * KIB, 4 * KIB, 1, 0],
  [4 * KIB, KIB, 4, 24],
  [4 * KIB, 512, 8, 24],
  [16 * KIB, 4 * KIB, 4, 24],
  [64 * KIB, 64 * KIB, 1, 0],
  [64 * KIB, 4 * KIB, 16, 24],
  [64 * KIB, KIB, 64, 32],
  [256 * KIB, 4 * KIB, 64, 32],
  [MIB, 4 * KIB, 256, 80],
  [2 * MIB, 4 * KIB, 512, 144],
  [2 * MIB, KIB, 2048, 528],
  [2 * MIB, 512, 4096, 1040],
] as const;

/** A file whose only folio has `folioSize` bytes, not uptodate and without a record, locked. */
function oneFolio(folioSize: number, blockSize: number) {
  const file = new LinearFile({ blockSize, size: folioSize });
  const folio = file.inode.mapping.tryCreateOrder(0, Math.log2(folioSize / PAGE_SIZE), true);
  assert.ok(folio !== undefined && folio.size === folioSize);
  return { file, folio };
}

test('invariant 2: the bytes of a record are those of the table, for every folio and block size', () => {
  for (const [folioSize, blockSize, blocks, bytes] of TABLE) {
    assert.equal(folioStateSize(blocks), bytes, `${folioSize} / ${blockSize}`);
    const { folio } = oneFolio(folioSize, blockSize);
    const before = folioStateUsage();
    ensureState(folio, blockSize);
    const after = folioStateUsage();
    assert.equal(after.bytes - before.bytes, bytes);
    assert.equal(after.records - before.records, bytes === 0 ? 0 : 1);
    ensureState(folio, blockSize); // once
    assert.deepEqual(folioStateUsage(), after);
    freeState(folio);
    assert.deepEqual(folioStateUsage(), before);
  }
});

test('invariant 2: a record costs what the table says when a write makes it', async () => {
  for (const [folioSize, blockSize, blocks, bytes] of TABLE) {
    if (blocks === 1) continue;
    const file = new LinearFile({ blockSize, size: 4 * MIB, fill: 1 });
    const before = folioStateUsage().bytes;
    await file.write(1, new Uint8Array(folioSize - 2));
    assert.equal(file.folioAt(0).size, folioSize);
    assert.equal(folioStateUsage().bytes - before, bytes);
    await file.sync();
    await file.dropCache();
    assert.equal(folioStateUsage().bytes, before);
  }
});

test('invariant 1: a folio of one block never has a record', async () => {
  await forEachSeed('one block', 20, async (prng) => {
    const blockSize = prng.pick([4 * KIB, 8 * KIB, 64 * KIB]);
    const file = new BlockFile({ blockSize, orderMax: Math.log2(blockSize / PAGE_SIZE), initial: 2, fill: 7, size: 8 * blockSize });
    const before = folioStateUsage().records;
    const view = file.view(8 * blockSize);
    for (let step = 0; step < 60; step++) {
      const pos = prng.below(7 * blockSize);
      const length = 1 + prng.below(2 * blockSize);
      switch (prng.below(6)) {
        case 0:
        case 1:
          await file.write(pos, prng.bytes(length));
          break;
        case 2:
          await file.read(pos, length);
          break;
        case 3:
          await file.zero(pos, length);
          break;
        case 4:
          if (pos < file.inode.size) await view.store(pos, prng.bytes(1));
          break;
        default:
          await file.sync();
      }
      for (const folio of file.folios()) assert.equal(folio.size, blockSize);
      assert.equal(folioStateUsage().records, before);
      file.check();
    }
  });
});

test('bug 9: a record made for an uptodate, dirty folio has all bits set', () => {
  const { file, folio } = oneFolio(16 * KIB, KIB);
  folio.markUptodate();
  file.inode.mapping.setDirty(folio);
  ensureState(folio, KIB);
  assert.equal(allUptodate(folio), true);
  assert.equal(isPartiallyUptodate(folio, 0, folio.size), true);
  assert.equal(nextDirty(folio, 0, folio.size), 0);
  assert.equal(dirtyRunEnd(folio, 0, folio.size), folio.size);
});

test('bug 9: blocks of a folio that was written whole reach storage after a record is made for it', async () => {
  const file = new LinearFile({ blockSize: KIB, size: 64 * KIB, fill: 1 });
  await file.write(0, new Uint8Array(16 * KIB).fill(2));
  assert.equal(hasState(file.folioAt(0)), false);
  await file.write(3000, Uint8Array.of(3)); // makes the record
  assert.equal(hasState(file.folioAt(0)), true);
  await file.sync();
  assert.deepEqual(file.device.writes(), [{ op: 'write', addr: 0, length: 16 * KIB }]);
});

test('invariant 6: a record with I/O in flight is not given back', () => {
  const { folio } = oneFolio(16 * KIB, KIB);
  ensureState(folio, KIB);
  biasRead(folio);
  assert.throws(() => freeState(folio), /in flight/);
  assert.equal(unpendRead(folio, folio.size), true);
  assert.throws(() => unpendWrite(folio, 1), /more I\/O finished/);
  freeState(folio);
  assert.equal(hasState(folio), false);
});

test('invariant 3: on the way out, the flag and the bits of a folio have to agree', () => {
  const { folio } = oneFolio(16 * KIB, KIB);
  ensureState(folio, KIB);
  folio.markUptodate();
  assert.throws(() => freeState(folio), /differ/);
  markUptodate(folio, 0, folio.size);
  freeState(folio);
});

test('bug 28: while a read is pending, bits that become complete leave the flag to the end of the read', () => {
  const { folio } = oneFolio(16 * KIB, KIB);
  ensureState(folio, KIB);
  biasRead(folio);
  markUptodate(folio, 0, folio.size);
  assert.equal(folio.isUptodate, false);
  assert.equal(unpendRead(folio, folio.size), true);
  folio.endRead(true);
  assert.equal(folio.isUptodate, true);
});

test('F10: partly uptodate is asked block by block, clipped to the folio, and is false without a record', () => {
  const { folio } = oneFolio(16 * KIB, KIB);
  assert.equal(isPartiallyUptodate(folio, 0, 1), false);
  ensureState(folio, KIB);
  markUptodate(folio, 15 * KIB, KIB);
  assert.equal(isPartiallyUptodate(folio, 15 * KIB, KIB), true);
  assert.equal(isPartiallyUptodate(folio, 15 * KIB + 7, MIB), true);
  assert.equal(isPartiallyUptodate(folio, 15 * KIB - 1, 2), false);
  assert.equal(isPartiallyUptodate(folio, 14 * KIB, KIB), false);
});

test('bits agree with two arrays of booleans', () =>
  forEachSeed('bits', 40, (prng) => {
    const [folioSize, blockSize, blocks] = prng.pick(TABLE.filter(([, , n]) => n > 1));
    const { file, folio } = oneFolio(folioSize, blockSize);
    const neighbour = oneFolio(folioSize, blockSize).folio; // a record beside it: must not change
    ensureState(folio, blockSize);
    ensureState(neighbour, blockSize);
    const uptodate = new Array<boolean>(blocks).fill(false);
    const dirty = new Array<boolean>(blocks).fill(false);
    const bytes = (first: (block: number) => boolean, from: number): number => {
      for (let block = Math.floor(from / blockSize); block < blocks; block++) {
        if (first(block)) return Math.max(from, block * blockSize);
      }
      return folioSize;
    };
    for (let step = 0; step < 60; step++) {
      const offset = prng.below(folioSize);
      const length = Math.min(1 + prng.below(prng.pick([blockSize, 4 * blockSize, folioSize])), folioSize - offset);
      const [from, to] = [Math.floor(offset / blockSize), Math.ceil((offset + length) / blockSize)];
      const op = prng.below(8);
      if (op < 4) {
        markUptodate(folio, offset, length);
        uptodate.fill(true, from, to);
      } else if (op < 7) {
        setDirtyBits(folio, offset, length);
        dirty.fill(true, from, to);
      } else {
        clearDirtyBits(folio);
        dirty.fill(false);
      }
      assert.equal(folio.isUptodate, !uptodate.includes(false));
      const at = prng.below(folioSize);
      const end = at + 1 + prng.below(folioSize - at);
      assert.equal(isBlockUptodate(folio, at), uptodate[Math.floor(at / blockSize)]);
      assert.equal(
        nextUptodate(folio, at),
        bytes((block) => uptodate[block] === true, at),
      );
      assert.equal(
        nextNotUptodate(folio, at),
        bytes((block) => uptodate[block] === false, at),
      );
      const found = bytes((block) => dirty[block] === true, at);
      const endOfBlocks = Math.ceil(end / blockSize) * blockSize;
      assert.equal(nextDirty(folio, at, end), found < endOfBlocks ? found : -1);
      if (found < end)
        assert.equal(
          dirtyRunEnd(folio, found, end),
          Math.min(
            end,
            bytes((block) => dirty[block] === false, found),
          ),
        );
    }
    assert.equal(nextUptodate(neighbour, 0), folioSize);
    assert.equal(nextDirty(neighbour, 0, folioSize), -1);
    markDirty(folio, 0, 1);
    assert.equal(folio.isDirty, true);
    assert.equal(file.inode.mapping.dirtyBytes, folioSize);
  }));

test('invariants 3, 4 and 5: at every turn an unlocked folio is in step: its flags with its blocks, dirty blocks with valid ones', () =>
  forEachSeed('in step', 60, async (prng) => {
    const blockSize = prng.pick([512, 1024, 4096]);
    const size = 100_000;
    const file = new BlockFile({ blockSize, size, initial: prng.pick<IomapType>([0, 2, 3]), fill: 1, orderMin: prng.below(4) });
    const look = (): void => {
      for (const folio of file.folios()) {
        if (folio.isLocked) continue;
        if (hasState(folio)) assert.equal(allUptodate(folio), folio.isUptodate, 'invariant 3');
        let isAnyDirty = false;
        for (let at = 0; at < folio.size; at += blockSize) {
          if (nextDirty(folio, at, at + blockSize) < 0) continue;
          isAnyDirty = true;
          assert.ok(isBlockUptodate(folio, at), 'invariant 4');
          assert.ok(folio.isDirty || folio.isWriteback || folio.pos + at >= file.inode.size, 'invariant 5');
        }
        assert.equal(folio.isDirty, isAnyDirty && folio.isDirty, 'F13');
      }
    };
    file.device.holds = () => prng.chance(0.5);
    file.device.fails = () => (prng.chance(0.1) ? -5 : 0);
    const calls: Promise<unknown>[] = [];
    let running = 0;
    for (let step = 0; step < 15; step++) {
      const pos = prng.below(size);
      const length = Math.min(size - pos, 1 + prng.below(20_000));
      running++;
      calls.push(
        (prng.chance(0.5) ? file.write(pos, prng.bytes(length)) : prng.chance(0.5) ? file.read(pos, length) : file.sync())
          .catch((error: unknown) => assert.equal((error as { code?: string }).code, 'EIO'))
          .finally(() => running--),
      );
      look();
      await new Promise(setImmediate);
      look();
      if (file.device.held.length > 0) file.device.release(prng.below(file.device.held.length));
      look();
    }
    for (let idle = 0; running > 0 || file.device.held.length > 0; ) {
      if (file.device.held.length > 0) file.device.release(prng.below(file.device.held.length));
      else if (++idle > 1000) throw new Error('deadlock');
      await new Promise(setImmediate);
      look();
    }
    await Promise.all(calls);
    await file.sb.work.drain();
    look();
  }));
