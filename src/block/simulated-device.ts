import { FsError } from '../base/fs-error.ts';
import type { Prng } from '../base/prng.ts';
import { type Bio, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';
import { MemoryDevice } from './memory-device.ts';
import { type PendingRequest, PowerCutModel } from './power-cut.ts';
import { gather } from './vec.ts';

/** Takes events that may happen next, in any order; a test picks. */
export interface Scheduler {
  post(event: () => void): void;
}

export interface SimulatedDeviceOptions {
  /** Bytes. */
  size: number;
  /** Picks which request completes next. */
  prng: Prng;
  name?: string;
  logicalBlockSize?: number;
  /** Takes a write's data at submission. Default: at completion, from the submitter's memory. */
  copiesAtSubmit?: boolean;
  /** Completed writes may be lost at a power cut until a flush. */
  hasVolatileCache?: boolean;
  hasFua?: boolean;
  bioSizeMax?: number;
  atomicWriteMax?: number;
  /** The content to begin with. Default: zeros. */
  base?: MemoryDevice;
}

interface Request {
  readonly bio: Bio;
  /** Undefined for a read. */
  readonly pending: PendingRequest | undefined;
}

/**
 * A device that completes nothing by itself: step() picks one request by seed, moves its data and ends it.
 *
 * A flush takes its turn like any request; it covers the writes that had completed when it was submitted, no more. Reads see completed
 * writes, flushed or not.
 */
export class SimulatedDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment = 1;
  readonly bioSizeMax: number;
  readonly hasVolatileCache: boolean;
  readonly hasFua: boolean;
  readonly stableWrites: boolean;
  readonly atomicWriteMin: number;
  readonly atomicWriteMax: number;
  /** Requests ended so far, and the most that were ever in flight. */
  completedCount = 0;
  inFlightMax = 0;
  readonly #prng: Prng;
  /** What reads see. */
  readonly #content: MemoryDevice;
  /** What a power cut keeps. */
  readonly #model: PowerCutModel;
  readonly #queue: Request[] = [];
  #scheduler: Scheduler | undefined;
  #nextId = 0;

  constructor(options: SimulatedDeviceOptions) {
    const { size, logicalBlockSize = 512 } = options;
    if (options.base !== undefined && options.base.size !== size)
      throw new FsError('EINVAL', 'open', { detail: `size ${size}, base has ${options.base.size}` });
    this.#content = options.base?.snapshot() ?? new MemoryDevice({ size, logicalBlockSize });
    this.name = options.name ?? 'simulated';
    this.size = size;
    this.logicalBlockSize = logicalBlockSize;
    this.bioSizeMax = options.bioSizeMax ?? 2 ** 20;
    this.hasVolatileCache = options.hasVolatileCache ?? false;
    this.hasFua = options.hasFua ?? false;
    this.stableWrites = options.copiesAtSubmit !== true;
    this.atomicWriteMax = options.atomicWriteMax ?? 0;
    this.atomicWriteMin = this.atomicWriteMax > 0 ? logicalBlockSize : 0;
    this.#prng = options.prng;
    this.#model = new PowerCutModel(this.#content, logicalBlockSize, this.hasVolatileCache);
  }

  /** Requests that have not ended. */
  get inFlight(): number {
    return this.#queue.length;
  }

  submit(bio: Bio): void {
    const status = checkBio(this, bio);
    if (status !== 0) {
      bio.end(status);
      return;
    }
    const data = bio.op === REQ_OP_WRITE && !this.stableWrites ? gather(bio.vec, 0, bio.length) : undefined;
    const pending = bio.op === REQ_OP_READ ? undefined : this.#model.submit(this.#nextId++, bio.op, bio.flags, bio.addr, bio.length, data);
    const request = { bio, pending };
    this.#queue.push(request);
    this.inFlightMax = Math.max(this.inFlightMax, this.#queue.length);
    this.#post(request);
  }

  /** Completes one request. False if there is none. */
  step(): boolean {
    if (this.#queue.length === 0) return false;
    this.#complete(this.#prng.below(this.#queue.length));
    return true;
  }

  /** Completes all requests, those too that are submitted meanwhile. */
  drain(): void {
    while (this.step());
  }

  /** From now on `scheduler` decides when each request completes, also those in flight. step() may still be called. */
  autoRun(scheduler: Scheduler): void {
    this.#scheduler = scheduler;
    for (const request of this.#queue) this.#post(request);
  }

  /** The content that a power cut now leaves, drawn from all that are possible. The device itself goes on. */
  powerCut(prng: Prng): MemoryDevice {
    for (const { bio, pending } of this.#queue) {
      // The device may have read any moment's memory by now; the present one stands for it.
      if (pending !== undefined && this.stableWrites && bio.op === REQ_OP_WRITE) pending.data = gather(bio.vec, 0, bio.length);
    }
    return this.#model.cut(this.#model.draw(prng));
  }

  /** A copy of what reads see: bytes [addr, addr + length), past the queue. */
  read(addr: number, length: number): Uint8Array {
    return this.#content.read(addr, length);
  }

  #post(request: Request): void {
    this.#scheduler?.post(() => {
      const at = this.#queue.indexOf(request);
      if (at >= 0) this.#complete(at);
    });
  }

  #complete(at: number): void {
    const [request] = this.#queue.splice(at, 1) as [Request];
    const { bio, pending } = request;
    if (bio.op === REQ_OP_READ) {
      let addr = bio.addr;
      for (const piece of bio.vec) {
        piece.set(this.#content.read(addr, piece.length));
        addr += piece.length;
      }
    } else if (pending !== undefined) {
      if (bio.op === REQ_OP_WRITE) {
        if (this.stableWrites) pending.data = gather(bio.vec, 0, bio.length);
        this.#content.write(bio.addr, pending.data as Uint8Array);
      } else if (bio.op !== REQ_OP_FLUSH) {
        this.#content.fill(0, bio.addr, bio.length);
      }
      this.#model.complete(pending, 0);
    }
    this.completedCount++;
    bio.end(0);
  }
}
