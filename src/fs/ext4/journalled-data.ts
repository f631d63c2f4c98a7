import { errnoOf } from '../../base/fs-error.ts';
import { isPromise, type MaybePromise, run, type Task, wait } from '../../base/task.ts';
import { finishFolioRead } from '../../iomap/buffered-read.ts';
import type { FileIo } from '../../iomap/file-io.ts';
import type { IomapOps, WriteOps } from '../../iomap/hooks.ts';
import { IOMAP_HOLE, IOMAP_MAPPED } from '../../iomap/iomap.ts';
import { finishFolioWrite } from '../../iomap/writeback.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Folio } from '../../pagecache/folio.ts';
import { convertBlocks, mapBlocks } from './block-map.ts';
import type { Ext4File } from './ext4-data.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT4_JOURNAL_DATA_FL } from './format.ts';
import { CREDITS, look, update } from './update.ts';

/** Blocks of data in one handle: what is committed together is at least that much. */
const BATCH = 32;

/** Does the data of this file go through the log (data=journal, chattr +j)? */
export function isJournalled({ flags, isRegular, sb }: Ext4Inode): boolean {
  return isRegular && (sb.journalsData || (flags & EXT4_JOURNAL_DATA_FL) !== 0);
}

/** What journalled data needs of the other kind. */
export interface BlockSource {
  /** Gives a promised block of the file a place, in this handle. */
  place(h: Handle, file: Ext4File, lblk: number): Task<number>;
  /** Raises the size on the device, in this handle. */
  grow(h: Handle, file: Ext4File, size: number): Task<void>;
  /** The handle is whole: what was promised to [first, end) has its place. */
  placed(file: Ext4File, first: number, end: number): void;
}

/**
 * The hooks of files whose data goes through the log, as metadata does.
 *
 * A write puts each folio into the running transaction while the folio is locked, block and size and place together: per-folio callouts are
 * for this and for nothing else. What reaches the folio in other ways (mapped stores, zeroing) follows at writeback. All blocks are read and
 * written through the cache of the log's buffers, since the device has older ones until a checkpoint.
 */
export function journalledFileIo(sb: Ext4Sb, ops: IomapOps, isValid: NonNullable<WriteOps['iomapValid']>, source: BlockSource): FileIo {
  return {
    ops,
    readOps: {
      readFolioRange: (iter, ctx, length) => {
        const folio = ctx.curFolio as Folio;
        const offset = iter.pos - folio.pos;
        finishWith(
          () => run(fill(sb, folio, offset, length, iter.iomap.addrOf(iter.pos))),
          (errno) => finishFolioRead(folio, offset, length, errno),
        );
      },
    },
    writeOps: {
      iomapValid: isValid,
      readFolioRange: (iter, folio, pos, length) => run(fill(sb, folio, pos - folio.pos, length, iter.source.addrOf(pos))),
      putFolio: (inode, pos, copied, folio) => run(put(sb, inode as Ext4File, folio, pos, copied, source)),
    },
    writebackOps: {
      writebackRange: (wpc, folio, pos, length) => {
        const file = wpc.inode as Ext4File;
        return run(
          (function* (): Task<number> {
            const { blockSize } = file;
            const first = Math.floor(pos / blockSize);
            const found = yield* look(sb, () => mapBlocks(file.owner, first));
            const isHole = found.pblk === 0 && !file.delayed.has(first);
            wpc.iomap.clear();
            wpc.iomap.type = isHole ? IOMAP_HOLE : IOMAP_MAPPED;
            wpc.iomap.offset = pos;
            wpc.iomap.length = isHole ? Math.min(length, blockSize) : length;
            if (isHole) return wpc.iomap.length;
            yield* log(sb, file, folio, pos, length, source);
            finishFolioWrite(file, folio, length);
            return length;
          })(),
        );
      },
      writebackSubmit: () => {},
    },
  };
}

/** Owes `finish` exactly one call, now or later. */
function finishWith(start: () => MaybePromise<void>, finish: (errno: number) => void): void {
  let done: MaybePromise<void>;
  try {
    done = start();
  } catch (error) {
    finish(errnoOf(error));
    return;
  }
  if (!isPromise(done)) finish(0);
  else
    void (done as Promise<void>).then(
      () => finish(0),
      (error: unknown) => finish(errnoOf(error)),
    );
}

/** Fills bytes of a folio from the blocks at device byte `addr`. */
function* fill(sb: Ext4Sb, folio: Folio, offset: number, length: number, addr: number): Task<void> {
  const { blockSize } = sb;
  for (let done = 0; done < length; ) {
    const at = addr + done;
    const within = at % blockSize;
    const count = Math.min(blockSize - within, length - done);
    const { data } = yield* wait(sb.read(Math.floor(at / blockSize)));
    folio.slab.set(data.subarray(within, within + count), folio.base + offset + done);
    done += count;
  }
}

function* put(sb: Ext4Sb, file: Ext4File, folio: Folio, pos: number, copied: number, source: BlockSource): Task<void> {
  try {
    if (copied > 0 && !file.owner.hasInlineData) yield* log(sb, file, folio, pos, copied, source);
  } finally {
    folio.unlock();
    folio.put();
  }
}

/** Puts the blocks of a folio that hold [pos, pos + length) into the running transaction, those that differ from what is there. */
function* log(sb: Ext4Sb, file: Ext4File, folio: Folio, pos: number, length: number, source: BlockSource): Task<void> {
  const { blockSize, owner } = file;
  const end = Math.ceil((pos + length) / blockSize);
  for (let first = Math.floor(pos / blockSize); first < end; first += BATCH) {
    const stop = Math.min(end, first + BATCH);
    yield* update(sb, 'write', CREDITS + BATCH * 2, function* (h): Task<void> {
      let isChanged = false;
      for (let lblk = first; lblk < stop; lblk++) {
        const content = folio.bytes(lblk * blockSize - folio.pos, blockSize);
        const found = yield* mapBlocks(owner, lblk);
        const known = found.pblk === 0 || found.isUnwritten ? undefined : sb.buffers.peek(found.pblk + (lblk - found.lblk));
        if (known !== undefined && isSame(known.data, content)) continue;
        isChanged = true;
        if (found.pblk !== 0 && found.isUnwritten) yield* convertBlocks(h, owner, lblk, 1, false);
        const block = found.pblk === 0 ? yield* source.place(h, file, lblk) : found.pblk + (lblk - found.lblk);
        h.getCreateAccess(block).data.set(content);
      }
      const size = Math.min(file.size, Math.max(pos + length, stop * blockSize));
      if (size > owner.size) yield* source.grow(h, file, size);
      if (isChanged) {
        h.onStop(() => {
          owner.datasyncTid = h.tid;
          owner.syncTid = h.tid;
        });
      }
    });
    source.placed(file, first, stop);
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
