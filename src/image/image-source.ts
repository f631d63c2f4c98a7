// An image as a module for the thread that serves a mount.

import type { Ext4Fs } from '../fs/ext4/ext4-fs.ts';
import { type ImageOptions, openImage } from './image.ts';

export interface ImageSourceArgs {
  readonly path: string;
  readonly options: ImageOptions;
}

/** The kernel's page cache lies above, and the thread has nothing else to do, but to answer others while one waits for a flush. */
export default ({ path, options }: ImageSourceArgs): Promise<Ext4Fs> =>
  openImage(path, { uncached: true, sync: 'transfers', ...options }, (message) => process.stderr.write(`iomap: ${message}\n`));
