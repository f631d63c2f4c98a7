// Whole ext2, ext3 and ext4 volumes for tests: made by mke2fs, in memory, mounted by us, judged by e2fsck.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryDevice } from '../../src/block/memory-device.ts';
import { ensure } from './loop-mount.ts';

const ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
const CHUNK = 65536;
const ZEROS = Buffer.alloc(CHUNK);

/** Why there are no volumes here, as text; undefined where there are. */
export function whyNoE2fsprogs(): string | undefined {
  return ensure('mke2fs', 'e2fsprogs');
}

/** A kind of volume: what mke2fs is told, and how large it is. */
export interface VolumeKind {
  /** Options of mke2fs, as in a shell. */
  readonly options: string;
  /** MiB. Default 16. */
  readonly size?: number;
}

/** Makes a volume. */
export function makeVolume({ options, size = 16 }: VolumeKind): MemoryDevice {
  return inFile((path) => {
    const fd = openSync(path, 'w');
    ftruncateSync(fd, size * 2 ** 20);
    closeSync(fd);
    execFileSync('mke2fs', ['-q', '-F', ...options.split(' ').filter(Boolean), path], { env: ENV, stdio: 'pipe' });
    return loadImage(path, size * 2 ** 20);
  });
}

/** The content of an image file. */
export function loadImage(path: string, size: number): MemoryDevice {
  const bdev = new MemoryDevice({ size, name: 'image', chunkSize: CHUNK, hasVolatileCache: true });
  const fd = openSync(path, 'r');
  const chunk = new Uint8Array(CHUNK);
  for (let at = 0; at < size; at += CHUNK) {
    const count = readSync(fd, chunk, 0, CHUNK, at);
    if (!isZero(chunk.subarray(0, count))) bdev.write(at, chunk.subarray(0, count));
  }
  closeSync(fd);
  return bdev;
}

function isZero(bytes: Uint8Array): boolean {
  return ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

/** Writes a device into an image file; what is zero stays a hole. */
export function saveImage(bdev: MemoryDevice, path: string): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bdev.size);
  for (let at = 0; at < bdev.size; at += CHUNK) {
    const chunk = bdev.read(at, Math.min(CHUNK, bdev.size - at));
    if (!isZero(chunk)) writeSync(fd, chunk, 0, chunk.length, at);
  }
  closeSync(fd);
}

/** Runs `use` with a file name that is gone afterwards. */
export function inFile<T>(use: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'iomap-ext4-'));
  try {
    return use(join(folder, 'image'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** e2fsck has nothing to say about the volume. */
export function assertClean(bdev: MemoryDevice, what = 'the volume'): void {
  const { status, text } = fsck(bdev);
  assert.equal(status, 0, `e2fsck -fn of ${what}: exit ${status}\n${text}`);
  assert.doesNotMatch(text, /<y>|<n>|WARNING|\bfix\?/i, `e2fsck -fn of ${what}`);
}

/** What e2fsck -fn says. `options` instead of -fn change the device. */
export function fsck(bdev: MemoryDevice, options: readonly string[] = ['-fn']): { status: number | null; text: string } {
  return inFile((path) => {
    saveImage(bdev, path);
    const { status, stdout, stderr } = spawnSync('e2fsck', [...options, path], { env: ENV, encoding: 'utf8' });
    if (!options.includes('-fn')) {
      const after = loadImage(path, bdev.size);
      for (let at = 0; at < bdev.size; at += CHUNK) bdev.write(at, after.read(at, Math.min(CHUNK, bdev.size - at)));
    }
    return { status, text: stdout + stderr };
  });
}
