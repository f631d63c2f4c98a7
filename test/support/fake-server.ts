import { FsError } from '../../src/base/fs-error.ts';
import { isPromise, type MaybePromise, then } from '../../src/base/task.ts';
import { type Bio, REQ_OP_WRITE } from '../../src/block/bio.ts';
import { gather, scatter } from '../../src/block/vec.ts';
import { finishFolioRead } from '../../src/iomap/buffered-read.ts';
import type { FileIo } from '../../src/iomap/file-io.ts';
import type { ReadContext, WritepageContext } from '../../src/iomap/hooks.ts';
import { IOMAP_MAPPED, IOMAP_NOWAIT } from '../../src/iomap/iomap.ts';
import type { IomapIter } from '../../src/iomap/iter.ts';
import { finishFolioWrite } from '../../src/iomap/writeback.ts';
import type { Folio } from '../../src/pagecache/folio.ts';
import { FlatModel } from './model.ts';
import type { FileOp } from './test-fs.ts';

/** One written range on its way to the server. */
interface Sent {
  readonly folio: Folio;
  readonly pos: number;
  readonly length: number;
  readonly data: Uint8Array;
}

/**
 * The other end of a file whose data has no blocks here: every range is MAPPED without a device, and the hooks fetch and send bytes.
 *
 * `pause` decides for each request whether it is answered at once or at an event; answers come in any order.
 */
export class FakeServer {
  readonly content = new FlatModel();
  /** Bytes that travelled. */
  bytesRead = 0;
  bytesWritten = 0;
  /** Chance hook: true fails a request. */
  fails: () => boolean = () => false;
  readonly io: FileIo;
  readonly #pause: (label: string) => MaybePromise<void>;

  constructor(blockSize: number, pause: (label: string) => MaybePromise<void>) {
    this.#pause = pause;
    this.io = {
      ops: {
        // Begin needs no answer of the server: whatever is asked for is there.
        iomapBegin: (_inode, pos, length, flags, map, _srcmap, iter) => {
          (iter.private as FileOp | undefined)?.underLock();
          map.type = IOMAP_MAPPED;
          map.offset = pos - (pos % blockSize);
          map.length = Math.ceil((pos + length) / blockSize) * blockSize - map.offset;
          if ((flags & IOMAP_NOWAIT) === 0) return this.#pause('begin');
        },
        foreign: true,
      },
      readOps: { readFolioRange: (iter, ctx, length) => this.#readInto(iter, ctx, length) },
      writeOps: {
        readFolioRange: (_iter, folio, pos, length) =>
          then(this.#pause('fetch'), () => {
            this.#check('read');
            folio.bytes(pos - folio.pos, length).set(this.#fetch(pos, length));
          }),
      },
      writebackOps: {
        writebackRange: (wpc, folio, pos, length, endPos) => {
          // The request carries a copy: the folio may be written again before the server has it.
          const data = folio.bytes(pos - folio.pos, Math.min(length, endPos - pos)).slice();
          wpc.iomap.type = IOMAP_MAPPED;
          wpc.wbCtx ??= [];
          (wpc.wbCtx as Sent[]).push({ folio, pos, length, data });
          return length;
        },
        writebackSubmit: (wpc, error) => this.#send(wpc, error),
      },
    };
  }

  /** A direct request. */
  submit(bio: Bio, pos: number): void {
    const serve = (): void => {
      if (this.fails()) {
        bio.end(-5);
        return;
      }
      if (bio.op === REQ_OP_WRITE) this.#store(pos, gather(bio.vec, 0, bio.length));
      else scatter(this.#fetch(pos, bio.length), bio.vec, 0);
      bio.end(0);
    };
    void then(this.#pause('direct'), serve);
  }

  #fetch(pos: number, length: number): Uint8Array {
    this.bytesRead += length;
    return this.content.readPadded(pos, length);
  }

  #store(pos: number, data: Uint8Array): void {
    this.bytesWritten += data.length;
    this.content.write(pos, data);
  }

  #check(syscall: string): void {
    if (this.fails()) throw new FsError('EIO', syscall);
  }

  #readInto(iter: IomapIter, ctx: ReadContext, length: number): void {
    const folio = ctx.curFolio as Folio;
    const offset = iter.pos - folio.pos;
    const { pos } = iter;
    void then(this.#pause('read'), () => {
      const failed = this.fails();
      if (!failed) folio.bytes(offset, length).set(this.#fetch(pos, length));
      finishFolioRead(folio, offset, length, failed ? -5 : 0);
    });
  }

  #send(wpc: WritepageContext, error: unknown): void {
    const { inode } = wpc;
    const batch = wpc.wbCtx as Sent[];
    wpc.wbCtx = undefined;
    for (const { folio, pos, length, data } of batch) {
      const finish = (): void => {
        if (error !== undefined || this.fails()) inode.setError(-5);
        else this.#store(pos, data);
        finishFolioWrite(inode, folio, length);
      };
      const paused = error === undefined ? this.#pause('write') : undefined;
      if (isPromise(paused)) void paused.then(finish);
      else finish();
    }
  }
}
