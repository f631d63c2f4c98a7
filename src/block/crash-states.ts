import { FsError } from '../base/fs-error.ts';
import type { Prng } from '../base/prng.ts';
import type { BioOp } from './bio.ts';
import { type DeviceLog, LOG_MARK, type LogEntry } from './device-log.ts';
import type { MemoryDevice } from './memory-device.ts';
import { type Kept, type PendingRequest, PowerCutModel } from './power-cut.ts';

/** One state that a device may be in after a power cut. */
export interface CrashState {
  /** The cut comes after this many events of the log. */
  readonly cut: number;
  /** What crashState() takes to make this state again: "cut 17 keep 3,5[0-2+7]". Numbers are entries of the log, in brackets blocks. */
  readonly text: string;
  /** The log's marks before the cut. */
  readonly marks: readonly string[];
  /** The device in this state, the caller's own. */
  materialise(): MemoryDevice;
}

export interface CrashStateLimits {
  /** Cuts to look at, picked by the generator's prng when the log has more. Default: all. */
  cutsMax?: number;
  /** States for each cut. Where all whole-request states are fewer, they all come. Default: 16. */
  statesPerCut?: number;
}

/**
 * The states that a device may keep at a cut after each event of `log`.
 *
 * Shape:  for each cut first nothing and everything of what is optional, then every subset of whole requests if they are few, else each
 *         request lost alone and kept alone, then random ones, torn too; no state of a cut comes twice. `base` is the content before
 *         the log began. materialise() costs least before the generator goes on to the next cut; later it plays the log again.
 */
export function* crashStates(
  log: DeviceLog,
  base: MemoryDevice,
  prng: Prng,
  limits: CrashStateLimits = {},
): Generator<CrashState, void, undefined> {
  const { cutsMax = Infinity, statesPerCut = 16 } = limits;
  const chosen = chooseCuts(log.time, cutsMax, prng);
  const player = new LogPlayer(log, base);
  for (let cut = 0; cut <= log.time; cut++) {
    player.playTo(cut);
    if (!chosen.has(cut)) continue;
    const marks = log.marks(cut);
    const seen = new Set<string>();
    for (const keep of choices(player.model, prng, statesPerCut)) {
      const text = describe(cut, keep);
      if (seen.has(text)) continue;
      seen.add(text);
      const materialise = (): MemoryDevice => (player.time === cut ? player.model.cut(keep) : crashState(log, base, text).materialise());
      yield { cut, text, marks, materialise };
      if (seen.size >= statesPerCut) break;
    }
  }
}

/** The state that `text` of a CrashState describes. Errors: EINVAL for a text that describes none of this log. */
export function crashState(log: DeviceLog, base: MemoryDevice, text: string): CrashState {
  const { cut, keep } = parse(text);
  if (cut > log.time) throw new FsError('EINVAL', 'open', { detail: `${text}: the log has ${log.time} events` });
  const player = new LogPlayer(log, base);
  player.playTo(cut);
  const optional = new Map(player.model.optional().map((request) => [request.id, request]));
  for (const [id, kept] of keep) {
    const request = optional.get(id);
    const blocks = request === undefined ? 0 : player.model.blocksOf(request);
    const fits = kept === 'all' || kept.every(([from, to], i) => from < to && to <= blocks && from >= (kept[i - 1]?.[1] ?? 0));
    if (request === undefined || !fits || (kept !== 'all' && !player.model.canTear(request))) {
      throw new FsError('EINVAL', 'open', { detail: `${text}: entry ${id} cannot be kept so` });
    }
  }
  return { cut, text: describe(cut, keep), marks: log.marks(cut), materialise: () => player.model.cut(keep) };
}

/** Plays a log's events into the model, forward. */
class LogPlayer {
  readonly model: PowerCutModel;
  readonly #events: LogEntry[];
  readonly #pending = new Map<LogEntry, PendingRequest>();
  #time = 0;

  /** Events played. */
  get time(): number {
    return this.#time;
  }

  constructor(log: DeviceLog, base: MemoryDevice) {
    this.model = new PowerCutModel(base, log.logicalBlockSize, log.hasVolatileCache);
    this.#events = log.events();
  }

  playTo(time: number): void {
    while (this.#time < time) {
      const entry = this.#events[this.#time++] as LogEntry;
      const request = this.#pending.get(entry);
      if (request !== undefined) {
        this.#pending.delete(entry);
        this.model.complete(request, entry.status);
      } else if (entry.op !== LOG_MARK) {
        this.#pending.set(entry, this.model.submit(entry.id, entry.op as BioOp, entry.flags, entry.addr, entry.length, entry.data));
      }
    }
  }
}

function chooseCuts(time: number, cutsMax: number, prng: Prng): Set<number> {
  const cuts = Array.from({ length: time + 1 }, (_, cut) => cut);
  return new Set(cuts.length <= cutsMax ? cuts : prng.shuffle(cuts).slice(0, cutsMax));
}

function* choices(model: PowerCutModel, prng: Prng, count: number): Generator<Map<number, Kept>> {
  const ids = model.optional().map(({ id }) => id);
  const whole = (kept: readonly number[]): Map<number, Kept> => new Map(kept.map((id) => [id, 'all']));
  yield whole([]);
  if (ids.length === 0) return;
  yield whole(ids);
  if (2 ** ids.length <= count) {
    for (let subset = 1; subset < 2 ** ids.length - 1; subset++) yield whole(ids.filter((_, i) => (subset & (1 << i)) !== 0));
  } else {
    // Half of the places at most, so that torn states come too.
    const single = prng
      .shuffle(ids.flatMap((id) => [ids.filter((other) => other !== id), [id]]))
      .slice(0, Math.max(0, Math.floor(count / 2) - 2));
    for (const kept of single) yield whole(kept);
  }
  // Some are drawn twice: a bounded number of draws, not a number of states.
  for (let draws = 0; draws < count * 2; draws++) yield model.draw(prng);
}

function describe(cut: number, keep: ReadonlyMap<number, Kept>): string {
  const parts = [...keep]
    .sort(([a], [b]) => a - b)
    .map(([id, kept]) =>
      kept === 'all' ? `${id}` : `${id}[${kept.map(([from, to]) => (to - from === 1 ? `${from}` : `${from}-${to - 1}`)).join('+')}]`,
    );
  return `cut ${cut} keep ${parts.length === 0 ? 'nothing' : parts.join(',')}`;
}

function parse(text: string): { cut: number; keep: Map<number, Kept> } {
  const [, cut, list] = /^cut (\d{1,9}) keep (nothing|[\d[\]+,-]+)$/.exec(text) ?? [];
  if (cut === undefined || list === undefined) throw new FsError('EINVAL', 'open', { detail: text });
  const keep = new Map<number, Kept>();
  for (const part of list === 'nothing' ? [] : list.split(',')) {
    const [, id, blocks] = /^(\d{1,9})(?:\[([\d+-]+)\])?$/.exec(part) ?? [];
    if (id === undefined) throw new FsError('EINVAL', 'open', { detail: text });
    keep.set(Number(id), blocks === undefined ? 'all' : blocks.split('+').map(parseRun));
  }
  return { cut: Number(cut), keep };
}

function parseRun(text: string): readonly [number, number] {
  const [from, last = from] = text.split('-').map(Number) as [number, number?];
  return [from, last + 1];
}
