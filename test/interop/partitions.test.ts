// Partition tables as sfdisk writes them, and damaged ones.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { FsError } from '../../src/base/fs-error.ts';
import type { Prng } from '../../src/base/prng.ts';
import { readDevice, writeDevice } from '../../src/block/block-device.ts';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { PartitionDevice } from '../../src/block/partition-device.ts';
import { readPartitions } from '../../src/block/partition-table.ts';
import { inFile, loadImage } from '../support/ext4-volume.ts';
import { ensure } from '../support/loop-mount.ts';
import { forEachSeed } from '../support/seeds.ts';

const SIZE = 64 * 2 ** 20;
const skip = ensure('sfdisk', 'fdisk') ?? false;

const TABLES = {
  gpt: 'label: gpt\nsize=8M\nsize=1M\nsize=20M\n',
  'a record of four': 'label: dos\nsize=8M\nsize=1M\nsize=2M\nsize=3M\n',
  'logical partitions': 'label: dos\nsize=8M\nsize=40M, type=5\nsize=4M\nsize=5M\nsize=6M\n',
  'gpt with gaps in the numbers': 'label: gpt\nimage7: size=8M\nimage3: size=1M\n',
};

interface Told {
  readonly device: MemoryDevice;
  readonly partitions: readonly { readonly number: number; readonly start: number; readonly size: number }[];
}

function partitioned(script: string): Told {
  return inFile((path) => {
    writeFileSync(path, '');
    truncateSync(path, SIZE);
    const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
    execFileSync('sfdisk', ['-q', path], { env, input: script.replaceAll('image', path), stdio: ['pipe', 'ignore', 'pipe'] });
    const told = JSON.parse(execFileSync('sfdisk', ['-J', path], { env, encoding: 'utf8' })) as {
      partitiontable: { partitions: { node: string; start: number; size: number; type: string }[] };
    };
    const partitions = told.partitiontable.partitions
      .filter(({ type }) => type !== '5')
      .map(({ node, start, size }) => ({ number: Number(node.slice(path.length)), start: start * 512, size: size * 512 }));
    return { device: loadImage(path, SIZE), partitions };
  });
}

for (const [title, script] of Object.entries(TABLES)) {
  test(`partitions are where sfdisk says: ${title}`, { skip }, async () => {
    const { device, partitions } = partitioned(script);
    assert.ok(partitions.length > 1);
    assert.deepEqual(
      await readPartitions(device),
      [...partitions].sort((a, b) => a.number - b.number),
    );
  });
}

test('a GPT whose first copy is damaged is read from its second', { skip }, async () => {
  const { device, partitions } = partitioned(TABLES.gpt);
  device.write(512 + 30, Uint8Array.of(0xff));
  assert.deepEqual(await readPartitions(device), partitions);
  device.write(SIZE - 512 + 30, Uint8Array.of(0xff));
  await assert.rejects(async () => readPartitions(device), { code: 'EUCLEAN' });
});

test('a disk without a table has no partitions', async () => {
  assert.deepEqual(await readPartitions(new MemoryDevice({ size: 4096 })), []);
});

test('damaged tables are answered with partitions on the disk, or an error', { skip }, async () => {
  const fresh = [TABLES.gpt, TABLES['logical partitions']].map((script) => partitioned(script).device);
  await forEachSeed('partition tables', 300, async (prng: Prng) => {
    const device = prng.pick(fresh).snapshot();
    for (let i = 0; i < 4; i++) {
      // The record, the table, or the records of logical partitions.
      const sector = prng.pick([0, 1, 2, 2048 * 9, 2048 * 10, SIZE / 512 - 1]);
      device.write(sector * 512 + prng.pick([446 + prng.below(66), prng.below(512)]), prng.bytes(1));
    }
    try {
      for (const { start, size } of await readPartitions(device)) assert.ok(start >= 0 && size > 0 && start + size <= SIZE);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
    }
  });
});

test('a partition is a device: its bytes are those of the disk, and nothing reaches past it', { skip }, async () => {
  const { device, partitions } = partitioned(TABLES.gpt);
  const { start, size } = partitions[1] as Told['partitions'][number];
  const partition = new PartitionDevice(device, start, size);
  await writeDevice(partition, 4096, new Uint8Array(512).fill(7));
  assert.deepEqual(device.read(start + 4096, 512), new Uint8Array(512).fill(7));
  const last = new Uint8Array(512);
  await readDevice(partition, size - 512, last);
  await assert.rejects(async () => readDevice(partition, size, last), { code: 'EIO' });
  await assert.rejects(async () => readDevice(partition, size - 256, last), { code: 'EINVAL' });
  assert.throws(() => new PartitionDevice(device, start, SIZE), { code: 'EINVAL' });
  assert.throws(() => new PartitionDevice(device, 100, 512), { code: 'EINVAL' });
});
