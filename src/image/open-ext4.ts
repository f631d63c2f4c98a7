import type { BlockDevice } from '../block/block-device.ts';
import { type Ext4Options, mountExt4 } from '../fs/ext4/mount.ts';
import { Volume, type VolumeOptions } from '../volume/volume.ts';
import { type ImageOptions, openImage } from './image.ts';

/**
 * An ext2, ext3 or ext4 volume with the shape of node:fs: on a device, which stays open, or in a file or block device of the host, which has
 * it alone until it is closed. `volume.close()` writes everything and ends it.
 *
 * Errors: as mountExt4; of a path, as openImage.
 */
export async function openExt4(
  device: BlockDevice | string,
  options: (Ext4Options | ImageOptions) & VolumeOptions & Pick<Ext4Options, 'onWarning'> = {},
): Promise<Volume> {
  const isPath = typeof device === 'string';
  const fs = isPath ? await openImage(device, options as ImageOptions, options.onWarning) : await mountExt4(device, options as Ext4Options);
  return Volume.create(fs, options);
}
