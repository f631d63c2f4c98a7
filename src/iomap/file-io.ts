import type { AddressSpaceOps } from '../pagecache/address-space.ts';
import { inodeOf } from '../vfs/inode.ts';
import { readahead, readFolio } from './buffered-read.ts';
import { dirtyWholeFolio, freeState, isPartiallyUptodate } from './folio-state.ts';
import type { IomapOps, ReadOps, WritebackOps, WriteOps } from './hooks.ts';
import { traceInvalidate } from './trace.ts';
import { writepages } from './writeback.ts';

/** All hooks of a file whose data is cached here. */
export interface FileIo {
  readonly ops: IomapOps;
  readonly readOps: ReadOps;
  readonly writeOps: WriteOps;
  readonly writebackOps: WritebackOps;
  readonly private?: unknown;
}

/** The cache's side of a file over mappings: give it to the inode at its making. */
export function iomapAddressSpaceOps(io: FileIo): AddressSpaceOps {
  return {
    readFolio: (mapping, folio) => readFolio(mapping, folio, io),
    readahead: (control) => readahead(control, io),
    writepages: (mapping, wbc) => writepages(mapping, wbc, io),
    isPartiallyUptodate,
    dirtyFolio: (folio) => {
      if (folio.mapping !== undefined) dirtyWholeFolio(folio, inodeOf(folio.mapping));
    },
    releaseFolio: (folio) => {
      if (folio.isDirty) return false;
      freeState(folio);
      return true;
    },
    invalidateFolio: (folio) => {
      if (traceInvalidate.channel.hasSubscribers && folio.mapping !== undefined) {
        traceInvalidate.channel.publish({ ino: inodeOf(folio.mapping).ino, pos: folio.pos, length: folio.size });
      }
      freeState(folio);
    },
  };
}
