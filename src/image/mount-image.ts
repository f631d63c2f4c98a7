import { resolve } from 'node:path';
import type { Mount } from '../fuse/mount/mount.ts';
import { mount } from '../fuse/mount/mount.ts';
import type { MountOptions } from '../fuse/mount/mount-options.ts';
import type { ImageOptions } from './image.ts';

/** The module that opens an image in the serving thread; it is called with ImageSourceArgs. */
export const IMAGE_SOURCE: URL = new URL('./image-source.js', import.meta.url);

/**
 * Mounts the filesystem in an image on a directory. When `unmount()` has resolved, everything is in the image, durable.
 *
 * Errors: as mount and openImage.
 */
export function mountImage(
  path: string,
  directory: string,
  options: MountOptions & { readonly image?: ImageOptions } = {},
): Promise<Mount> {
  const { image = {}, ...rest } = options;
  const readOnly = image.readOnly === true || image.noRecovery === true || options.readOnly === true;
  const args = { path: resolve(path), options: { ...image, readOnly } };
  return mount(IMAGE_SOURCE, directory, { fsname: nameOf(args.path), ...rest, readOnly, args });
}

/** What the mount table can show as the device. */
function nameOf(path: string): string {
  return path.length <= 1024 && /^\/[\w.:/@+-]*$/.test(path) ? path : 'image';
}
