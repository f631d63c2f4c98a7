// What is large: directories, files, numbers of links. ENTRIES=1000000 makes the directory as large as it is meant to be.

import assert from 'node:assert/strict';
import test from 'node:test';
import { errnoCodeOf } from '../../src/base/fs-error.ts';
import { IovIter } from '../../src/base/iov-iter.ts';
import type { MemoryDevice } from '../../src/block/memory-device.ts';
import type { Ext4Fs } from '../../src/fs/ext4/ext4-fs.ts';
import { mountExt4 } from '../../src/fs/ext4/mount.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import { O_CREAT, O_RDWR, S_IFREG } from '../../src/vfs/uapi.ts';
import { assertClean, makeVolume, whyNoE2fsprogs } from '../support/ext4-volume.ts';

const skip = whyNoE2fsprogs() ?? false;
const ENTRIES = Number(process.env['ENTRIES'] ?? 20_000);

async function remounted(fs: Ext4Fs, bdev: MemoryDevice): Promise<Ext4Fs> {
  await fs.destroy();
  assertClean(bdev);
  return mountExt4(bdev);
}

async function codeOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    return errnoCodeOf(error) ?? String(error);
  }
  return 'success';
}

test('a directory holds very many names: each is found, listed once, and can go', { skip }, async (t) => {
  const isHuge = ENTRIES > 100_000;
  const bdev = makeVolume({ options: `-t ext4 -b 4096 -N ${ENTRIES + 5000}`, size: isHuge ? 1024 : 128 });
  let fs = await mountExt4(bdev);
  const { node: dir } = await fs.mkdir(ROOT, fs.root, 'many', 0o755);
  let started = performance.now();
  const rate = (what: string, count: number): void => {
    t.diagnostic(`${what}: ${Math.round(count / ((performance.now() - started) / 1000))}/s`);
    started = performance.now();
  };
  const nameOf = (i: number): string => `name-${(i * 2_654_435_761) % 2 ** 32}-${i}`;
  for (let i = 0; i < ENTRIES; i++) {
    const { node } = await fs.mknod(ROOT, dir, nameOf(i), S_IFREG | 0o644, 0);
    fs.forget(node, 1);
  }
  rate('create', ENTRIES);
  fs = await remounted(fs, bdev);
  started = performance.now();
  const parent = (await fs.lookup(ROOT, fs.root, 'many'))?.node ?? 0;
  for (let i = 0; i < ENTRIES; i += 7) {
    const entry = await fs.lookup(ROOT, parent, nameOf(i));
    assert.ok(entry !== undefined, nameOf(i));
    fs.forget(entry.node, 1);
  }
  assert.equal(await fs.lookup(ROOT, parent, 'nobody'), undefined);
  rate('look up', Math.ceil(ENTRIES / 7));

  const { fh } = await fs.opendir(ROOT, parent, 0);
  const seen = new Set<string>();
  let removed = 0;
  for (let offset = 0; ; ) {
    const entries = await fs.readdir(ROOT, parent, fh, offset, 1000, false);
    const last = entries.at(-1);
    if (last === undefined) break;
    offset = last.next;
    for (const { name } of entries) {
      assert.ok(!seen.has(name), `${name} comes twice`);
      seen.add(name);
    }
    // What goes behind the place of the listing changes nothing before it.
    if (removed < ENTRIES / 10) await fs.unlink(ROOT, parent, last.name);
    if (removed < ENTRIES / 10) removed++;
  }
  assert.equal(seen.size - (seen.has('.') ? 2 : 0), ENTRIES);
  await fs.releasedir(parent, fh);
  rate('list', ENTRIES);
  let gone = 0;
  for (const name of seen) if (gone < ENTRIES / 2 && (await codeOf(() => fs.unlink(ROOT, parent, name))) === 'success') gone++;
  rate('unlink', gone);
  fs = await remounted(fs, bdev);
  await fs.destroy();
});

for (const { title, options, limit } of [
  { title: 'extents of 4 KiB', options: '-t ext4 -b 4096', limit: (2 ** 32 - 1) * 4096 },
  { title: 'extents of 1 KiB', options: '-t ext4 -b 1024', limit: (2 ** 32 - 1) * 1024 },
  // Less than 2 TiB: i_blocks counts sectors, those of pointers too.
  { title: 'pointers to blocks of 4 KiB', options: '-t ext3 -b 4096', limit: 2 ** 41 },
  { title: 'pointers to blocks of 1 KiB', options: '-t ext2 -b 1024', limit: (12 + 256 + 256 ** 2 + 256 ** 3) * 1024 },
]) {
  test(`a file reaches as far as the format does, and no further: ${title}`, { skip }, async () => {
    const bdev = makeVolume({ options, size: 16 });
    let fs = await mountExt4(bdev);
    const { entry, fh } = await fs.create(ROOT, fs.root, 'large', 0o644, O_RDWR | O_CREAT);
    const sizeMax = limit;
    const last = options.includes('ext3') ? sizeMax - 2 ** 33 : sizeMax - 7;
    const places = [2 ** 31 - 3, 2 ** 32 - 3, 2 ** 33 + 5, last];
    const word = (i: number): Uint8Array => Uint8Array.from({ length: 7 }, (_, at) => 1 + i * 7 + at);
    for (const [i, pos] of places.entries()) {
      assert.equal(await fs.write(ROOT, entry.node, fh, { pos, flags: 0 }, new IovIter(word(i))), 7, `write at ${pos}`);
    }
    assert.equal(await codeOf(() => fs.write(ROOT, entry.node, fh, { pos: sizeMax, flags: 0 }, new IovIter(word(0)))), 'EFBIG');
    assert.equal(await codeOf(() => fs.setattr(ROOT, entry.node, { size: sizeMax + 1 })), 'EFBIG');
    await fs.release(entry.node, fh);
    fs = await remounted(fs, bdev);
    const again = await fs.lookup(ROOT, fs.root, 'large');
    assert.ok(again !== undefined);
    assert.equal(again.attr.size, (places.at(-1) as number) + 7);
    const { fh: reader } = await fs.open(ROOT, again.node, O_RDWR);
    const into = new Uint8Array(7);
    for (const [i, pos] of places.entries()) {
      assert.equal(await fs.read(ROOT, again.node, reader, { pos, flags: 0 }, into), 7);
      assert.deepEqual(into, word(i), `read at ${pos}`);
    }
    await fs.release(again.node, reader);
    await fs.unlink(ROOT, fs.root, 'large');
    fs.forget(again.node, 1);
    fs = await remounted(fs, bdev);
    await fs.destroy();
  });
}

test('a file has 65,000 names and no more, and a directory counts its subdirectories up to there', { skip }, async () => {
  const bdev = makeVolume({ options: '-t ext4 -b 1024 -N 66000 -I 128 -O ^has_journal', size: 192 });
  let fs = await mountExt4(bdev);
  const { node } = await fs.mknod(ROOT, fs.root, 'file', S_IFREG | 0o644, 0);
  const { node: links } = await fs.mkdir(ROOT, fs.root, 'links', 0o755);
  for (let i = 1; i < 65_000; i++) await fs.link(ROOT, node, links, `l${i}`);
  assert.equal(await codeOf(() => fs.link(ROOT, node, links, 'more')), 'EMLINK');
  assert.equal((await fs.getattr(ROOT, node)).nlink, 65_000);
  const { node: parent } = await fs.mkdir(ROOT, fs.root, 'dirs', 0o755);
  for (let i = 2; i < 65_001; i++) {
    const { node: child } = await fs.mkdir(ROOT, parent, `d${i}`, 0o755);
    fs.forget(child, 1);
  }
  assert.equal((await fs.getattr(ROOT, parent)).nlink, 1, 'more than can be counted');
  fs = await remounted(fs, bdev);
  await fs.destroy();
});
