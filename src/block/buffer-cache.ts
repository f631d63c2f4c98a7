import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import { Bio, REQ_META, REQ_OP_READ, REQ_OP_WRITE } from './bio.ts';
import { type BlockDevice, submitAndWait } from './block-device.ts';

/** Largest request that neighbours are gathered into, bytes. */
const REQUEST_MAX = 2 ** 20;

/** One block of metadata in core: the kernel's buffer_head. */
export class BufferHead {
  /** Block of the device, in units of the cache's blockSize. */
  readonly blocknr: number;
  /** The content. Its owner may replace the array instead of changing it: read the property anew after every wait. */
  data: Uint8Array;
  isUptodate = false;
  /** The device has something else, and nobody but the cache will write it. */
  isDirty = false;
  /** Which check of its reader the content has passed; 0 when it is new in core. The reader's own numbers. */
  checked = 0;
  /** What the reader has decoded from the content, for as long as `checked` holds. */
  decoded: unknown = undefined;
  /** Brings the content into the form that goes to the device (checksums), when it is about to leave memory. */
  seal: ((bh: BufferHead) => void) | undefined = undefined;
  /** The log's record, while the block is part of a transaction that is not checkpointed. It keeps the block in core. */
  journalHead: object | undefined = undefined;
  reading: Promise<void> | undefined = undefined;
  /** Asked for since trim() last came by. */
  wasUsed = false;

  constructor(blocknr: number, data: Uint8Array) {
    this.blocknr = blocknr;
    this.data = data;
  }
}

/**
 * The metadata blocks of a device in core.
 *
 * A block stays the same object from its first use until trim(): who calls trim() makes sure that nobody is in the middle of using one.
 * Dirty blocks, those that are being read and those of a log are not trimmed.
 */
export class BufferCache {
  readonly bdev: BlockDevice;
  readonly blockSize: number;
  /** Blocks of the device. */
  readonly blockCount: number;
  /** Blocks that trim() leaves. */
  readonly #countMax: number;
  /** In the order in which trim() looks at them. */
  readonly #blocks = new Map<number, BufferHead>();
  /** Blocks beyond which trim() may find something to drop: more than countMax while most have to stay. */
  #trimAt: number;

  /** `budget`: bytes that trim() leaves. */
  constructor(bdev: BlockDevice, blockSize: number, budget: number) {
    assert(blockSize % bdev.logicalBlockSize === 0, 'a block is whole device blocks');
    this.bdev = bdev;
    this.blockSize = blockSize;
    this.blockCount = Math.floor(bdev.size / blockSize);
    this.#countMax = Math.max(16, Math.floor(budget / blockSize));
    this.#trimAt = this.#countMax;
  }

  /** The block, uptodate. Errors: EUCLEAN outside the device; the device's. */
  read(blocknr: number): MaybePromise<BufferHead> {
    const bh = this.#blocks.get(blocknr) ?? this.#add(blocknr);
    bh.wasUsed = true;
    if (bh.isUptodate) return bh;
    // What others read may have failed for a neighbour's sake, or be out of the cache by then.
    if (bh.reading !== undefined) return bh.reading.then(() => this.read(blocknr));
    return then(this.#fill([bh]), () => this.#uptodate(bh));
  }

  #uptodate(bh: BufferHead): BufferHead {
    if (!bh.isUptodate) throw new FsError('EIO', 'read', { detail: `${this.bdev.name}, block ${bh.blocknr}` });
    return bh;
  }

  /** The block if it is in core and uptodate. */
  peek(blocknr: number): BufferHead | undefined {
    const bh = this.#blocks.get(blocknr);
    if (bh?.isUptodate !== true) return undefined;
    bh.wasUsed = true;
    return bh;
  }

  /** The block for new content: uptodate and all zero, whatever the device has. */
  create(blocknr: number): BufferHead {
    const known = this.#blocks.get(blocknr);
    // A read ahead that is under way goes on with the object that it began with.
    const bh = known === undefined || known.reading !== undefined ? this.#add(blocknr) : known;
    bh.wasUsed = true;
    if (bh.isUptodate) bh.data = new Uint8Array(this.blockSize);
    bh.isUptodate = true;
    bh.checked = 0;
    bh.decoded = undefined;
    bh.seal = undefined;
    return bh;
  }

  /** Reads what is missing of [blocknr, blocknr + count), in few requests. Errors: none; who needs a block that failed reads it. */
  readAhead(blocknr: number, count: number): MaybePromise<void> {
    const missing: BufferHead[] = [];
    const end = Math.min(this.blockCount, blocknr + count);
    for (let at = Math.max(0, blocknr); at < end; at++) {
      const known = this.#blocks.get(at);
      if (known?.isUptodate === true || known?.reading !== undefined) continue;
      missing.push(known ?? this.#add(at));
    }
    if (missing.length > 0) return this.#fill(missing);
  }

  /** The content is worth nothing any more. A block of a log is not forgotten by this. */
  forget(blocknr: number): void {
    const bh = this.#blocks.get(blocknr);
    if (bh === undefined || bh.journalHead !== undefined) return;
    bh.isDirty = false;
    bh.isUptodate = false;
    this.#blocks.delete(blocknr);
  }

  /** Writes all dirty blocks. Not durable before a flush. */
  writeDirty(): MaybePromise<void> {
    const dirty = [...this.#blocks.values()].filter((bh) => bh.isDirty);
    if (dirty.length === 0) return;
    for (const bh of dirty) {
      bh.seal?.(bh);
      bh.isDirty = false;
    }
    return run(this.#writeDirty(dirty));
  }

  *#writeDirty(dirty: BufferHead[]): Task<void> {
    try {
      yield* wait(this.write(dirty.map((bh) => ({ blocknr: bh.blocknr, data: bh.data }))));
    } catch (error) {
      for (const bh of dirty) bh.isDirty = true;
      throw error;
    }
  }

  /** Writes contents to their blocks, neighbours together. The arrays are left alone until it resolves. Errors: the device's, the first. */
  write(blocks: readonly { readonly blocknr: number; readonly data: Uint8Array }[]): MaybePromise<void> {
    const sorted = [...blocks].sort((a, b) => a.blocknr - b.blocknr);
    // Blocks that had to stay for it do not any more, once it is done.
    this.#trimAt = this.#countMax;
    return this.#transfer(
      REQ_OP_WRITE,
      sorted.map(({ blocknr }) => blocknr),
      sorted.map(({ data }) => data),
    );
  }

  /** Drops what was not used for a while, beyond the budget. */
  trim(): void {
    if (this.#blocks.size <= this.#trimAt) return;
    // A step further than asked, so that not every call walks.
    const enough = this.#countMax * 0.9;
    for (const [blocknr, bh] of this.#blocks) {
      if (bh.isDirty || bh.reading !== undefined || bh.journalHead !== undefined) continue;
      this.#blocks.delete(blocknr);
      if (bh.wasUsed) {
        // Its turn comes again at the end.
        bh.wasUsed = false;
        this.#blocks.set(blocknr, bh);
      } else if (this.#blocks.size <= enough) {
        break;
      }
    }
    this.#trimAt = Math.max(this.#countMax, Math.floor(this.#blocks.size * 1.1));
  }

  /** Drops everything that is not dirty and not of a log. */
  dropClean(): void {
    for (const [blocknr, bh] of this.#blocks) {
      if (!bh.isDirty && bh.reading === undefined && bh.journalHead === undefined) this.#blocks.delete(blocknr);
    }
  }

  #add(blocknr: number): BufferHead {
    if (!(blocknr >= 0 && blocknr < this.blockCount)) {
      throw new FsError('EUCLEAN', 'read', { detail: `block ${blocknr} of ${this.blockCount} on ${this.bdev.name}` });
    }
    const bh = new BufferHead(blocknr, new Uint8Array(this.blockSize));
    this.#blocks.set(blocknr, bh);
    return bh;
  }

  /** Reads blocks, sorted by number. Those that fail stay not uptodate, and are forgotten. */
  #fill(bhs: readonly BufferHead[]): MaybePromise<void> {
    const done = this.#transfer(
      REQ_OP_READ,
      bhs.map(({ blocknr }) => blocknr),
      bhs.map(({ data }) => data),
      (index, status) => {
        const bh = bhs[index] as BufferHead;
        bh.reading = undefined;
        bh.isUptodate = status === 0;
        if (status !== 0 && this.#blocks.get(bh.blocknr) === bh) this.#blocks.delete(bh.blocknr);
      },
    );
    if (!isPromise(done)) return;
    const ended = (done as Promise<void>).catch(() => {});
    for (const bh of bhs) if (!bh.isUptodate) bh.reading = ended;
    return ended;
  }

  /** One request for each run of neighbours; `onBlock` is called for each block. Without it the first error is thrown. */
  #transfer(
    op: typeof REQ_OP_READ | typeof REQ_OP_WRITE,
    blocknrs: readonly number[],
    memory: Uint8Array[],
    onBlock?: (index: number, status: number) => void,
  ): MaybePromise<void> {
    const runMax = Math.max(1, Math.floor(Math.min(REQUEST_MAX, this.bdev.bioSizeMax) / this.blockSize));
    let waiting: Promise<void>[] | undefined;
    let failed = 0;
    for (let start = 0; start < blocknrs.length; ) {
      let end = start + 1;
      while (end < blocknrs.length && end - start < runMax && blocknrs[end] === (blocknrs[end - 1] as number) + 1) end++;
      const first = start;
      const length = (end - start) * this.blockSize;
      const bio = new Bio(op, (blocknrs[start] as number) * this.blockSize, REQ_META, () => {}, memory.slice(start, end), length);
      const settle = (status: number): void => {
        if (status !== 0 && failed === 0) failed = status;
        if (onBlock !== undefined) for (let index = first; index < first + length / this.blockSize; index++) onBlock(index, status);
      };
      const status = submitAndWait(this.bdev, bio);
      if (isPromise(status)) {
        waiting ??= [];
        waiting.push((status as Promise<number>).then(settle));
      } else {
        settle(status);
      }
      start = end;
    }
    const check = (): void => {
      if (failed !== 0 && onBlock === undefined)
        throw FsError.of(failed, op === REQ_OP_READ ? 'read' : 'write', { detail: this.bdev.name });
    };
    if (waiting === undefined) check();
    else return Promise.all(waiting).then(check);
  }
}
