import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { crc32c } from '../../src/base/crc.ts';
import { Prng } from '../../src/base/prng.ts';
import { isPromise } from '../../src/base/task.ts';
import { type BlockDevice, readDevice, writeDevice } from '../../src/block/block-device.ts';
import { BufferCache, type BufferHead } from '../../src/block/buffer-cache.ts';
import { FileDevice } from '../../src/block/file-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { OverlayDevice } from '../../src/block/overlay-device.ts';
import { RecordingDevice } from '../../src/block/recording-device.ts';
import { openExternalJournal } from '../../src/jbd2/external-journal.ts';
import { Journal, type JournalOptions } from '../../src/jbd2/journal.ts';
import { JournalLocation, type JournalRun } from '../../src/jbd2/journal-location.ts';
import type { Handle } from '../../src/jbd2/log.ts';
import { DeviceSink, OverlaySink, type RecoveryResult, recoverJournal, resetJournal } from '../../src/jbd2/recovery.ts';
import { forEachSeed } from '../support/seeds.ts';

const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C', MKE2FS_SYNC: '0' };
const INCOMPAT_RECOVER = 0x4;

function why(): string | false {
  if (process.platform !== 'linux') return 'loop mounts are Linux mounts';
  if (process.getuid?.() !== 0) return 'loop mounts need root';
  for (const tool of ['mke2fs', 'debugfs', 'e2fsck', 'losetup']) {
    if (spawnSync('sh', ['-c', 'command -v "$0"', tool], { stdio: 'ignore', env }).status !== 0) return `${tool} is missing`;
  }
  return false;
}

function tool(command: string, args: readonly string[], accepted: readonly number[] = [0]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env });
  assert(accepted.includes(status ?? -1), `${command} ${args.join(' ')}: ${status}\n${stdout}${stderr}`);
  return stdout;
}

function now<T>(value: T | Promise<T>): T {
  assert(!isPromise(value), 'an answer without a promise from a device that completes inside submit()');
  return value as T;
}

interface Geometry {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly hasCsum: boolean;
  readonly is64bit: boolean;
  readonly uuid: Uint8Array;
  readonly runs: readonly JournalRun[];
}

function readBytes(path: string, at: number, length: number): Uint8Array {
  const fd = openSync(path, 'r');
  const bytes = new Uint8Array(length);
  readSync(fd, bytes, 0, length, at);
  closeSync(fd);
  return bytes;
}

function geometryOf(image: string): Geometry {
  const es = readBytes(image, 1024, 1024);
  const view = new DataView(es.buffer);
  const runs: JournalRun[] = [];
  const stat = tool('debugfs', ['-R', 'stat <8>', image]);
  // Only pieces of data have a number in front; blocks of the map itself have a name.
  for (const [, first = '', last = first, start = ''] of stat.matchAll(/\((\d+)(?:-(\d+))?\):(\d+)/g)) {
    runs.push({ start: Number(start), count: Number(last) - Number(first) + 1 });
  }
  return {
    blockSize: 1024 << view.getUint32(0x18, true),
    blockCount: view.getUint32(4, true),
    hasCsum: (view.getUint32(0x64, true) & 0x400) !== 0,
    is64bit: (view.getUint32(0x60, true) & 0x80) !== 0,
    uuid: es.slice(0x68, 0x78),
    runs,
  };
}

const open = (path: string): FileDevice => FileDevice.open(path, { sync: true });

function recover(image: string, geometry = geometryOf(image)): RecoveryResult {
  const bdev = open(image);
  try {
    const location = new JournalLocation(bdev, geometry.blockSize, geometry.runs);
    const result = now(recoverJournal(location, geometry.blockCount, new DeviceSink(bdev, geometry.blockSize)));
    now(resetJournal(location, result));
    return result;
  } finally {
    now(bdev.close());
  }
}

/** Compares two images, block by block, but for those that may differ. */
function compare(image: string, other: string, { blockSize, blockCount, runs }: Geometry): void {
  const differing: number[] = [];
  const step = 256;
  for (let block = 0; block < blockCount; block += step) {
    const count = Math.min(step, blockCount - block);
    const [a, b] = [image, other].map((path) => readBytes(path, block * blockSize, count * blockSize)) as [Uint8Array, Uint8Array];
    if (Buffer.compare(a, b) === 0) continue;
    for (let i = 0; i < count; i++) {
      const part = (bytes: Uint8Array): Uint8Array => bytes.subarray(i * blockSize, (i + 1) * blockSize);
      if (Buffer.compare(part(a), part(b)) !== 0) differing.push(block + i);
    }
  }
  const superblock = blockSize === 1024 ? 1 : 0;
  assert.deepEqual(
    differing.filter((block) => block !== superblock && block !== runs[0]?.start),
    [],
  );
}

let scratch = '';
const mounted = new Set<string>();
const loops = new Set<string>();

before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'iomap-journal-'));
});

after(() => {
  for (const mountpoint of mounted) spawnSync('umount', [mountpoint], { env });
  for (const loop of loops) spawnSync('losetup', ['-d', loop], { env });
  rmSync(scratch, { recursive: true, force: true });
});

function copy(image: string, name: string): string {
  const path = join(scratch, name);
  rmSync(path, { force: true });
  tool('cp', ['--sparse=always', image, path]);
  return path;
}

function make(name: string, args: readonly string[], size = 24 * 2 ** 20): string {
  const image = join(scratch, name);
  const fd = openSync(image, 'w');
  ftruncateSync(fd, size);
  closeSync(fd);
  tool('mke2fs', ['-q', '-F', ...args, image]);
  return image;
}

function mount(image: string, options: string): string {
  const mountpoint = join(scratch, 'mnt');
  mkdirSync(mountpoint, { recursive: true });
  tool('mount', ['-o', options, image, mountpoint]);
  mounted.add(mountpoint);
  return mountpoint;
}

function umount(mountpoint: string): void {
  tool('umount', [mountpoint]);
  mounted.delete(mountpoint);
}

function loopOf(path: string): string {
  const loop = tool('losetup', ['-f', '--show', path]).trim();
  loops.add(loop);
  return loop;
}

function unloop(loop: string): void {
  tool('losetup', ['-d', loop]);
  loops.delete(loop);
}

/** Names made and removed, a block that has to be escaped, and a sync after each part. `rounds` of it wrap the log. */
function work(mountpoint: string, rounds: number): void {
  for (let round = 0; round < rounds; round++) {
    const dir = join(mountpoint, `dir${round}`);
    mkdirSync(dir);
    for (let i = 0; i < 300; i++) writeFileSync(join(dir, `a name that takes some room ${i}`), i % 10 === 0 ? 'content' : '');
    syncFile(join(mountpoint, 'escaped'), Buffer.concat([Buffer.from('c03b3998', 'hex'), Buffer.alloc(8000, round + 1)]));
    rmSync(dir, { recursive: true });
    syncFile(join(mountpoint, `file${round}`), Buffer.alloc(20000, 65 + round));
  }
}

function syncFile(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, 'w');
  writeSync(fd, bytes);
  fsyncSync(fd);
  closeSync(fd);
}

describe('logs of the kernel', { skip: why() }, () => {
  for (const [name, mke2fs, options, rounds] of [
    ['as ext4 makes it', ['-t', 'ext4'], 'loop', 1],
    ['that wrapped', ['-t', 'ext4'], 'loop', 12],
    ['with data, without 64bit', ['-t', 'ext4', '-O', '^64bit'], 'loop,data=journal', 3],
    ['with data, and checksums of version 1', ['-t', 'ext4', '-O', '^metadata_csum'], 'loop,data=journal,journal_checksum', 3],
    ['of ext3, with data', ['-t', 'ext3'], 'loop,data=journal', 3],
    ['of blocks of 1 KiB', ['-t', 'ext4', '-b', '1024'], 'loop', 2],
  ] as const) {
    test(`a log ${name} is replayed as debugfs does it`, () => {
      const image = make('kernel', mke2fs);
      const mountpoint = mount(image, options);
      work(mountpoint, rounds);
      const ours = copy(image, 'ours');
      umount(mountpoint);

      const theirs = copy(ours, 'theirs');
      const dry = copy(ours, 'dry');
      const geometry = geometryOf(ours);
      const result = recover(ours);
      assert(result.replayed > 0 && result.transactions > 0, JSON.stringify(result));
      tool('debugfs', ['-w', '-R', 'jr', theirs]);
      compare(ours, theirs, geometry);
      assert.equal(recover(ours).replayed, 0, 'a second recovery finds nothing');

      const bdev = FileDevice.open(dry, { sync: true, readOnly: true });
      const overlay = new OverlayDevice(bdev);
      const location = new JournalLocation(bdev, geometry.blockSize, geometry.runs);
      const dryResult = now(recoverJournal(location, geometry.blockCount, new OverlaySink(overlay)));
      assert.deepEqual(dryResult, result);
      const shown = new Uint8Array(geometry.blockCount * geometry.blockSize);
      now(readDevice(overlay, 0, shown));
      now(overlay.close());
      const replayed = readBytes(ours, 0, shown.length);
      const journal = (geometry.runs[0] as JournalRun).start * geometry.blockSize;
      for (const bytes of [shown, replayed]) bytes.fill(0, journal, journal + 1024);
      assert(Buffer.compare(shown, replayed) === 0, 'the overlay shows what a replay would leave');
    });
  }

  test('the records of fast commits are read', (t) => {
    const image = make('fc', ['-t', 'ext4', '-O', 'fast_commit'], 64 * 2 ** 20);
    const mountpoint = mount(image, 'loop');
    syncFile(join(mountpoint, 'old'), Buffer.alloc(5000, 1));
    tool('sync', ['-f', mountpoint]);
    syncFile(join(mountpoint, 'old'), Buffer.alloc(9000, 2));
    syncFile(join(mountpoint, 'new'), Buffer.alloc(100, 3));
    const ours = copy(image, 'ours');
    umount(mountpoint);
    const { fastCommits } = recover(ours);
    if (fastCommits.length === 0) {
      t.skip('this kernel writes no fast commits');
      return;
    }
    const names = fastCommits.flatMap((record) => ('name' in record ? [Buffer.from(record.name).toString()] : []));
    assert(names.includes('new'), names.join());
    assert(fastCommits.some(({ tag }) => tag === 'inode') && fastCommits.some(({ tag }) => tag === 'add_range'));
  });

  test('a log on a device of its own is replayed', () => {
    const journal = make('jdev', ['-O', 'journal_dev', '-b', '4096'], 8 * 2 ** 20);
    const loop = loopOf(journal);
    const image = make('kernel', ['-t', 'ext4', '-b', '4096', '-J', `device=${loop}`]);
    const mountpoint = mount(image, 'loop');
    work(mountpoint, 1);
    const ours = copy(image, 'ours');
    const oursJournal = copy(journal, 'ours-journal');
    umount(mountpoint);
    unloop(loop);

    const bdev = open(ours);
    const jdev = open(oursJournal);
    const uuid = readBytes(ours, 1024 + 0xd0, 16);
    const location = now(openExternalJournal(jdev, 4096, uuid));
    const result = now(recoverJournal(location, bdev.size / 4096, new DeviceSink(bdev, 4096)));
    now(resetJournal(location, result));
    now(bdev.close());
    now(jdev.close());
    assert(result.replayed > 0);

    // What is left to say after it: the superblock's counts, which nobody logs.
    setRecover(ours, false);
    const again = loopOf(oursJournal);
    const checked = tool('e2fsck', ['-fy', '-j', again, ours], [0, 1]);
    unloop(again);
    assert(!/[Ii]node \d+.*[?]|multiply|[Ee]ntry/.test(checked), checked);
  });
});

/** Sets or clears needs_recovery in the superblock. */
function setRecover(image: string, isSet: boolean): void {
  const es = readBytes(image, 1024, 1024);
  markRecover(es, isSet);
  const fd = openSync(image, 'r+');
  writeSync(fd, es, 0, es.length, 1024);
  closeSync(fd);
}

function markRecover(es: Uint8Array, isSet: boolean): void {
  const view = new DataView(es.buffer, es.byteOffset);
  const incompat = view.getUint32(0x60, true);
  view.setUint32(0x60, isSet ? incompat | INCOMPAT_RECOVER : incompat & ~INCOMPAT_RECOVER, true);
  if ((view.getUint32(0x64, true) & 0x400) !== 0) view.setUint32(0x3fc, crc32c(~0 >>> 0, es.subarray(0, 0x3fc)), true);
}

describe('our logs', { skip: why() }, () => {
  for (const [name, mke2fs, options] of [
    ['with checksums of version 3 and 64bit', ['-t', 'ext4'], {}],
    ['with checksums of version 3', ['-t', 'ext4', '-O', '^64bit'], {}],
    ['with checksums of version 1', ['-t', 'ext4', '-O', '^metadata_csum'], { hasJournalChecksum: true }],
    ['without checksums', ['-t', 'ext3'], {}],
    ['of blocks of 1 KiB', ['-t', 'ext4', '-b', '1024'], {}],
  ] as const) {
    test(`a log ${name} is replayed by debugfs, by e2fsck and by the kernel`, () => {
      const image = make('base', mke2fs);
      const geometry = geometryOf(image);
      setRecover(image, true);
      const bdev = open(image);
      const expected = fill(bdev, freeBlocks(image), geometry, options, new Prng(name.length));
      now(bdev.close());

      const ours = copy(image, 'ours');
      const result = recover(ours, geometry);
      assert(result.transactions > 1 && result.replayed > 0 && result.revoked > 0, JSON.stringify(result));
      expect(ours, geometry, expected);

      const byDebugfs = copy(image, 'debugfs');
      tool('debugfs', ['-w', '-R', 'jr', byDebugfs]);
      compare(ours, byDebugfs, geometry);

      const byE2fsck = copy(image, 'e2fsck');
      tool('e2fsck', ['-fy', byE2fsck], [0, 1]);
      expect(byE2fsck, geometry, expected);
      assert.equal(tool('dumpe2fs', ['-h', byE2fsck]).match(/volume name: +(\S+)/)?.[1], 'round9');

      const byKernel = copy(image, 'by-kernel');
      umount(mount(byKernel, 'loop'));
      expect(byKernel, geometry, expected);
      const fsck = tool('e2fsck', ['-fn', byKernel], [0]);
      assert(!fsck.includes('recovering'), fsck);
    });
  }

  test('what a power cut leaves of a log is replayed by debugfs as by us', () =>
    forEachSeed('power cuts', 1, (prng) => {
      const image = make('base', ['-t', 'ext4']);
      setRecover(image, true);
      const geometry = geometryOf(image);
      const size = geometry.blockCount * geometry.blockSize;
      const memory = new MemoryDevice({ size, chunkSize: 65536, hasVolatileCache: true });
      memory.write(0, readBytes(image, 0, size));
      const bdev = new RecordingDevice(memory);
      fill(bdev, freeBlocks(image), geometry, {}, prng);
      const ends = new Set<number>();
      for (const state of bdev.crashStates(prng, { cutsMax: 5, statesPerCut: 3 })) {
        const crashed = join(scratch, 'crashed');
        writeFileSync(crashed, state.materialise().read(0, size));
        const theirs = copy(crashed, 'theirs');
        ends.add(recover(crashed, geometry).lastTid);
        tool('debugfs', ['-w', '-R', 'jr', theirs]);
        compare(crashed, theirs, geometry);
      }
      assert(ends.size > 1);
    }));

  test('the kernel mounts a volume after ours was closed, and goes on with its log', () => {
    const image = make('base', ['-t', 'ext4']);
    const geometry = geometryOf(image);
    const bdev = open(image);
    const journal = load(bdev, geometry, {});
    change(journal, geometry, 1);
    now(journal.close());
    now(bdev.close());
    tool('e2fsck', ['-fn', image]);
    const mountpoint = mount(image, 'loop');
    work(mountpoint, 1);
    const crashed = copy(image, 'ours');
    umount(mountpoint);
    const theirs = copy(crashed, 'theirs');
    assert(recover(crashed).replayed > 0);
    tool('debugfs', ['-w', '-R', 'jr', theirs]);
    compare(crashed, theirs, geometry);
  });
});

function load(bdev: BlockDevice, geometry: Geometry, options: Partial<JournalOptions>): Journal {
  const location = new JournalLocation(bdev, geometry.blockSize, geometry.runs);
  let sec = 1_700_000_000;
  return now(
    Journal.load(new BufferCache(bdev, geometry.blockSize, 2 ** 20), {
      location,
      now: () => ({ sec: sec++, nsec: 0 }),
      hasMetadataCsum: geometry.hasCsum,
      is64bit: geometry.is64bit,
      ...options,
    }),
  );
}

/** Gives the volume a name, as part of a transaction. */
function change(journal: Journal, { blockSize }: Geometry, round: number, handle: Handle = now(journal.start(10))): void {
  const bh = now(journal.buffers.read(blockSize === 1024 ? 1 : 0)) as BufferHead;
  const block = handle.getWriteAccess(bh);
  const es = block.subarray(blockSize === 1024 ? 0 : 1024, blockSize === 1024 ? 1024 : 2048);
  es.fill(0, 0x78, 0x88);
  es.set(Buffer.from(`round${round}`), 0x78);
  markRecover(es, round > 0);
  now(handle.stop());
}

/** The first of many free blocks. */
function freeBlocks(image: string): number {
  const free = [...tool('dumpe2fs', [image]).matchAll(/^ {2}Free blocks: (\d+)-(\d+)$/gm)].map(
    ([, from, to]) => [Number(from), Number(to)] as const,
  );
  return (free.sort((a, b) => b[1] - b[0] - (a[1] - a[0]))[0] as readonly [number, number])[0];
}

/**
 * Logs changes of blocks that nothing is in, from `from` on, and leaves them there. Shape: what these blocks have after a replay.
 */
function fill(bdev: BlockDevice, from: number, geometry: Geometry, options: Partial<JournalOptions>, prng: Prng): Map<number, Uint8Array> {
  const expected = new Map<number, Uint8Array>();
  const bytes = (): Uint8Array => {
    const random = prng.bytes(geometry.blockSize);
    if (prng.chance(0.2)) random.set([0xc0, 0x3b, 0x39, 0x98]);
    return random;
  };
  const journal = load(bdev, geometry, options);
  const freed: number[] = [];
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 3; i++) {
      const handle = now(journal.start(100));
      for (let n = 0; n < 40; n++) {
        const block = from + prng.below(300);
        const content = bytes();
        handle.getCreateAccess(block).data.set(content);
        expected.set(block, content);
      }
      if (round > 4) {
        for (const block of prng.shuffle([...expected.keys()]).slice(0, 10)) {
          handle.forget(block);
          handle.onCommit(() => freed.push(block));
          expected.delete(block);
        }
      }
      if (i < 2) now(handle.stop());
      else change(journal, geometry, round, handle);
    }
    assert.equal(now(journal.commit()), true);
    // What was freed becomes file data: a replay must not touch it.
    for (const block of freed.splice(0)) {
      if (expected.has(block)) continue;
      const content = bytes();
      now(writeDevice(bdev, block * geometry.blockSize, content));
      expected.set(block, content);
    }
  }
  return expected;
}

function expect(image: string, { blockSize }: Geometry, expected: ReadonlyMap<number, Uint8Array>): void {
  for (const [block, content] of expected) assert.deepEqual(readBytes(image, block * blockSize, blockSize), content, `block ${block}`);
}
