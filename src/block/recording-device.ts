import type { Prng } from '../base/prng.ts';
import type { MaybePromise } from '../base/task.ts';
import { type Bio, REQ_OP_READ } from './bio.ts';
import { type BlockDevice, checkBio } from './block-device.ts';
import { type CrashState, type CrashStateLimits, crashState, crashStates } from './crash-states.ts';
import { DeviceLog, type LogEntry } from './device-log.ts';
import { FilterDevice } from './filter-device.ts';
import { MemoryDevice } from './memory-device.ts';
import { gather } from './vec.ts';

/**
 * A device that writes down every write, write-zeroes, discard and flush of another, with the data.
 *
 * The log says of each request when it was submitted and when it completed; from it come the states that a power cut may leave.
 */
export class RecordingDevice extends FilterDevice {
  readonly log: DeviceLog;
  /** The content before the log began. */
  readonly base: MemoryDevice;

  /** `base` is needed for crash states unless `inner` is a MemoryDevice, or empty. */
  constructor(inner: BlockDevice, base?: MemoryDevice) {
    super(inner, 'recording');
    this.log = new DeviceLog(inner);
    const before = base ?? (inner instanceof MemoryDevice ? inner : undefined);
    this.base = before?.snapshot() ?? new MemoryDevice({ size: inner.size, logicalBlockSize: inner.logicalBlockSize, chunkSize: 65536 });
  }

  submit(bio: Bio): void {
    // What the device refuses touches nothing.
    if (bio.op === REQ_OP_READ || checkBio(this, bio) !== 0) {
      this.inner.submit(bio);
      return;
    }
    const entry = this.log.submit(bio);
    const onEnd = bio.onEnd;
    let isSubmitting = true;
    bio.onEnd = (ended) => {
      this.log.complete(entry, ended.status);
      if (!isSubmitting && this.stableWrites) entry.changedInFlight = hasChanged(entry, ended);
      ended.onEnd = onEnd;
      onEnd(ended);
    };
    this.inner.submit(bio);
    isSubmitting = false;
  }

  /** Puts a label into the log. */
  mark(label: string): void {
    this.log.mark(label);
  }

  /** Writes whose memory changed while they were in flight, on a device that reads it as late as that: torn by the submitter. */
  get unstableWrites(): LogEntry[] {
    return this.log.entries.filter(({ changedInFlight }) => changedInFlight);
  }

  replay(onto: BlockDevice, upTo?: number): MaybePromise<void> {
    return this.log.replay(onto, upTo);
  }

  crashStates(prng: Prng, limits?: CrashStateLimits): Generator<CrashState, void, undefined> {
    return crashStates(this.log, this.base, prng, limits);
  }

  /** One state again, by its text. */
  crashState(text: string): CrashState {
    return crashState(this.log, this.base, text);
  }
}

function hasChanged(entry: LogEntry, bio: Bio): boolean {
  const { data } = entry;
  return data !== undefined && gather(bio.vec, 0, bio.length).some((byte, i) => byte !== data[i]);
}
