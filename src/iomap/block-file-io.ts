import type { Inode } from '../vfs/inode.ts';
import { bioReadFolioRange, bioReadOps } from './bio-read.ts';
import type { FileIo } from './file-io.ts';
import type { IomapOps } from './hooks.ts';
import { blockWritebackOps, type IoendOps } from './ioend.ts';
import type { Iomap } from './iomap.ts';

/** All hooks of a file on block devices, for a filesystem with nothing special: mappings, how to write them back, when they are true. */
export function blockFileIo(ops: IomapOps, ioendOps: IoendOps, iomapValid?: (inode: Inode, map: Iomap) => boolean): FileIo {
  return {
    ops,
    readOps: bioReadOps,
    writeOps: { readFolioRange: bioReadFolioRange, ...(iomapValid === undefined ? {} : { iomapValid }) },
    writebackOps: blockWritebackOps(ioendOps),
  };
}
