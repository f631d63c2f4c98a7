// Images of filesystems on the host: opens, locks and recognizes them.

import { FsError } from '../base/fs-error.ts';
import type { BlockDevice } from '../block/block-device.ts';
import { FileDevice } from '../block/file-device.ts';
import { PartitionDevice } from '../block/partition-device.ts';
import { readPartitions } from '../block/partition-table.ts';
import type { Ext4Fs } from '../fs/ext4/ext4-fs.ts';
import { type Ext4Options, mountExt4 } from '../fs/ext4/mount.ts';
import { lockImage } from './image-lock.ts';

/** Where in a file the volume is, and how it is opened. All of it is plain data, so that it crosses between threads. */
export interface ImageOptions
  extends Pick<Ext4Options, 'readOnly' | 'noRecovery' | 'errors' | 'data' | 'commitInterval' | 'atime' | 'uncached' | 'enforceQuota'> {
  /** Number of a partition, as Linux counts them. */
  readonly partition?: number;
  /** Bytes before the volume, and bytes of it. */
  readonly offset?: number;
  readonly size?: number;
  /** Past the host's page cache. */
  readonly direct?: boolean;
  /** File or device with the external journal. */
  readonly journal?: string;
  /** Blocks the thread in every call, so that everything answers at once; 'transfers': but for flushes. Default: no. */
  readonly sync?: boolean | 'transfers';
}

/**
 * Opens the filesystem in a file or block device of the host. Whoever opens it for writing has it alone until destroy() has resolved, when
 * everything is durable.
 *
 * Errors: those of opening; EBUSY where somebody has it; EINVAL for what is no filesystem that is known; ENXIO for a partition that is not
 *         there; those of mounting.
 */
export async function openImage(path: string, options: ImageOptions = {}, onWarning?: (message: string) => void): Promise<Ext4Fs> {
  const { partition, offset, size, direct = false, journal, sync = false, ...mounting } = options;
  const readOnly = options.readOnly === true || options.noRecovery === true;
  const device = (file: string): FileDevice => {
    const opened = FileDevice.open(file, { readOnly, direct, sync });
    try {
      lockImage(opened.fd, file, readOnly);
      return opened;
    } catch (error) {
      void opened.close();
      throw error;
    }
  };
  const opened: BlockDevice[] = [];
  const closeAll = async (): Promise<void> => {
    for (const each of opened) await each.close?.();
  };
  try {
    const file = device(path);
    opened.push(file);
    const bdev = await volumeOf(file, { partition, offset, size });
    const journalDevice = journal === undefined ? undefined : device(journal);
    if (journalDevice !== undefined) opened.push(journalDevice);
    return await mountExt4(bdev, {
      ...mounting,
      ...(journalDevice === undefined ? {} : { journalDevice }),
      ...(onWarning === undefined ? {} : { onWarning }),
      onEnd: closeAll,
    });
  } catch (error) {
    await closeAll();
    throw error;
  }
}

type Place = { readonly [K in 'partition' | 'offset' | 'size']: number | undefined };

async function volumeOf(file: FileDevice, { partition, offset, size }: Place): Promise<BlockDevice> {
  if (partition === undefined) {
    if (offset === undefined && size === undefined) return file;
    return new PartitionDevice(
      file,
      offset ?? 0,
      size ?? file.size - (offset ?? 0) - ((file.size - (offset ?? 0)) % file.logicalBlockSize),
    );
  }
  const partitions = await readPartitions(file);
  const found = partitions.find(({ number }) => number === partition);
  if (found === undefined) {
    const there = partitions.length === 0 ? 'no partitions' : `partitions ${partitions.map(({ number }) => number).join(', ')}`;
    throw new FsError('ENXIO', 'open', { path: file.name, detail: `partition ${partition}; there are ${there}` });
  }
  return new PartitionDevice(file, found.start, found.size, `${file.name}:part${partition}`);
}
