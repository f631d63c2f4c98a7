// Volumes of ext2, ext3 and ext4 in image files, mounted by us through the kernel, judged by e2fsck.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { type Mount, mount } from '../../src/fuse/mount/mount.ts';
import type { MountOptions } from '../../src/fuse/mount/mount-options.ts';
import type { ImageOptions } from '../../src/image/image.ts';
import type { ImageSourceArgs } from '../../src/image/image-source.ts';
import { whyNoE2fsprogs } from './ext4-volume.ts';
import { whyNoMount, withDirectory } from './fuse-mount.ts';

const ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
const CHUNK = 2 ** 20;

/** The module that serves an image. */
export const IMAGE_SOURCE: URL = new URL('../../src/image/image-source.js', import.meta.url);

/** Why images cannot be mounted here, or false. */
export function whyNoImages(): string | false {
  return whyNoMount() || (whyNoE2fsprogs() ?? false);
}

/** What a fresh image is: options of mke2fs as in a shell, and MiB. */
export interface ImageKind {
  readonly options?: string;
  readonly size?: number;
}

/** An image file and the directory that it is mounted on. */
export class ImageMount {
  readonly image: string;
  readonly directory: string;
  #mounted: Mount | undefined;

  /** Below `folder`, which the caller removes, with a mount that is still there. */
  constructor(folder: string, { options = '-t ext4', size = 512 }: ImageKind = {}) {
    this.image = join(folder, 'image');
    this.directory = join(folder, 'mnt');
    mkdirSync(this.directory);
    const fd = openSync(this.image, 'w');
    ftruncateSync(fd, size * 2 ** 20);
    closeSync(fd);
    execFileSync('mke2fs', ['-q', '-F', ...options.split(' ').filter(Boolean), this.image], { env: ENV, stdio: 'pipe' });
  }

  get mounted(): Mount {
    assert(this.#mounted !== undefined, 'the image is not mounted');
    return this.#mounted;
  }

  async mount(options: ImageOptions = {}, mountOptions: MountOptions = {}): Promise<void> {
    const args: ImageSourceArgs = { path: this.image, options };
    this.#mounted = await mount(IMAGE_SOURCE, this.directory, { args, fsname: this.image, ...mountOptions });
  }

  /** Unmounts, if it is mounted. */
  async unmount(): Promise<void> {
    const mounted = this.#mounted;
    await mounted?.unmount();
    this.#mounted = undefined;
  }

  /** Unmounts, and asks e2fsck, which has nothing to say. */
  async unmountClean(): Promise<void> {
    await this.unmount();
    this.assertClean();
  }

  /** After a failure: nothing is mounted any more. Never fails. */
  async end(): Promise<void> {
    const mounted = this.#mounted;
    this.#mounted = undefined;
    if (mounted === undefined) return;
    // By force: what a failure left open would keep it for ever.
    spawnSync('umount', ['-f', '-l', this.directory], { stdio: 'ignore' });
    await mounted.ended;
  }

  assertClean(): void {
    const { status, stdout, stderr } = spawnSync('e2fsck', ['-fn', this.image], { env: ENV, encoding: 'utf8', maxBuffer: 2 ** 26 });
    assert.equal(status, 0, `e2fsck -fn: exit ${status}\n${stdout}${stderr}`);
    assert.doesNotMatch(stdout, /<y>|<n>|WARNING|\bfix\?/i);
  }

  /** Checksum of all bytes of the image. */
  hash(): string {
    const hash = createHash('sha256');
    const fd = openSync(this.image, 'r');
    const chunk = new Uint8Array(CHUNK);
    for (let count = readSync(fd, chunk); count > 0; count = readSync(fd, chunk)) hash.update(chunk.subarray(0, count));
    closeSync(fd);
    return hash.digest('hex');
  }
}

/** Runs `use` with a fresh image, not mounted yet, which is unmounted and checked afterwards. */
export function withImage(kind: ImageKind, use: (volume: ImageMount) => Promise<void>): Promise<void> {
  return withDirectory(async (folder) => {
    const volume = new ImageMount(folder, kind);
    try {
      await use(volume);
      await volume.unmountClean();
    } finally {
      await volume.end();
    }
  });
}
