import { FlatModel, firstDifference } from './model.ts';

/**
 * What one operation does to a file, from before it may have begun to after it has surely ended.
 *
 * Invariants:
 * 1. Ordered effects happen in the order in which their operations get the inode lock, which they take exclusively.
 * 2. An unordered one (a store through a mapped view, a direct write under the shared lock) may happen at any moment of its life.
 */
class Effect {
  readonly name: string;
  readonly isOrdered: boolean;
  /** File range that it changes; what the range holds afterwards, zeros where there is no data. */
  start: number;
  end: number;
  data: Uint8Array | undefined;
  /** Where data[0] goes. */
  dataPos: number;
  /** The smallest and the largest size that it may give the file. */
  sizeLow = Number.POSITIVE_INFINITY;
  sizeHigh = 0;
  /** It has surely happened, and will not again. */
  isOver = false;
  /** How many bytes of it happened, while those that had the lock before are not counted yet. */
  done: number | undefined;
  /** Does the first `done` bytes of it to the model. */
  happen: (done: number) => void = () => {};
  /** Called when older alternatives of its range are gone. */
  afterwards: (() => void) | undefined;
  /** Effects whose order relative to this one nobody knows. */
  readonly rivals: Effect[] = [];

  constructor(name: string, isOrdered: boolean, start: number, end: number, data: Uint8Array | undefined) {
    this.name = name;
    this.isOrdered = isOrdered;
    this.start = start;
    this.end = end;
    this.data = data;
    this.dataPos = start;
  }

  clone(): Effect {
    return Object.assign(new Effect(this.name, this.isOrdered, this.start, this.end, this.data), { dataPos: this.dataPos });
  }

  byteAt(pos: number): number {
    const at = pos - this.dataPos;
    return this.data !== undefined && at >= 0 && at < this.data.length ? (this.data[at] as number) : 0;
  }

  covers(pos: number): boolean {
    return pos >= this.start && pos < this.end;
  }
}

/** Bytes that the range may hold instead of the model's. */
interface Alternative {
  readonly pos: number;
  readonly bytes: Uint8Array;
}

/** A read in progress: every byte must be what it was at the start, or what some effect since then made of it. */
export interface Watch {
  readonly pos: number;
  readonly base: Uint8Array; // zeros behind the end of the file
  readonly alternatives: Alternative[];
  readonly effects: Effect[];
  sizeMin: number;
  sizeMax: number;
}

/** One operation in progress, as its task sees it. */
export interface Change {
  /** An ordered operation has the inode lock: this is its place in the order. */
  locked(): void;
  /** It has happened, to `done` bytes of what was announced (default: all). It counts once all that had the lock before it are counted. */
  apply(done?: number): void;
  /** It is over; without apply() nothing happened. */
  end(): void;
  /** It is over and failed: any part of it may have happened. */
  endUndefined(): void;
}

/**
 * A flat model under concurrent operations: which bytes may a file hold now, and which may a read have seen?
 *
 * Bytes whose order of effects nobody knows have alternatives, until an ordered effect that came after all of them settles what they are.
 */
export class FileHistory {
  readonly model = new FlatModel();
  #alternatives: Alternative[] = [];
  readonly #open = new Set<Effect>();
  readonly #watches = new Set<Watch>();
  /** Ordered effects whose operations got the lock, in that order, as far as they are not counted. */
  #queue: Effect[] = [];

  get isQuiet(): boolean {
    return this.#open.size === 0;
  }

  /** A write under the exclusive inode lock. */
  write(name: string, pos: number, data: Uint8Array): Change {
    return this.#write(new Effect(name, true, pos, pos + data.length, data), data);
  }

  /** A direct write: it may extend the file, and its order relative to what goes on beside it is unknown. */
  directWrite(name: string, pos: number, data: Uint8Array): Change {
    return this.#write(new Effect(name, false, pos, pos + data.length, data), data);
  }

  #write(effect: Effect, data: Uint8Array): Change {
    const pos = effect.start;
    effect.sizeHigh = effect.end;
    this.#begin(effect);
    return this.#change(effect, (done) => {
      effect.end = pos + done;
      if (done === 0) effect.start = effect.end;
      else effect.start = Math.min(pos, this.model.size); // a write past the end makes the gap zeros, for good
      this.model.write(pos, data.subarray(0, done));
    });
  }

  /** A store through a mapped view: it does not extend the file, and what it puts behind the end is nothing. */
  store(name: string, pos: number, data: Uint8Array): Change {
    const effect = this.#begin(new Effect(name, false, pos, pos + data.length, data));
    return this.#change(effect, () => {
      const inside = Math.max(0, Math.min(data.length, this.model.size - pos));
      this.model.write(pos, data.subarray(0, inside));
      // The rest is data after all if something that goes on has made the file larger already.
      effect.afterwards = () => this.#alternatives.push({ pos: pos + inside, bytes: data.slice(inside) });
    });
  }

  zero(name: string, pos: number, length: number): Change {
    const effect = this.#begin(new Effect(name, true, pos, pos + length, undefined));
    return this.#change(effect, () => this.model.zero(pos, length));
  }

  truncate(name: string, size: number): Change {
    const effect = new Effect(name, true, size, Number.POSITIVE_INFINITY, undefined);
    effect.sizeLow = size;
    effect.sizeHigh = size;
    return this.#change(this.#begin(effect), () => {
      effect.start = Math.min(this.model.size, size);
      this.model.truncate(size);
    });
  }

  /** Makes the file at least so large. */
  grow(name: string, size: number): Change {
    const effect = new Effect(name, true, size, size, undefined);
    effect.sizeHigh = size;
    return this.#change(this.#begin(effect), () => {
      effect.start = Math.min(this.model.size, size);
      if (size > this.model.size) this.model.truncate(size);
    });
  }

  /** Starts to note what a read of [pos, pos + length) may see. */
  watch(pos: number, length: number): Watch {
    const { size } = this.model;
    const watch: Watch = {
      pos,
      base: this.model.readPadded(pos, length),
      alternatives: this.#alternatives.slice(),
      effects: [...this.#open],
      sizeMin: size,
      sizeMax: size,
    };
    for (const effect of this.#open) this.#noteSize(watch, effect);
    this.#watches.add(watch);
    return watch;
  }

  /** Ends a watch; throws if the read returned what it may not. */
  check(watch: Watch, got: Uint8Array, what: string): void {
    this.#watches.delete(watch);
    const lengthMin = Math.min(watch.base.length, Math.max(0, watch.sizeMin - watch.pos));
    const lengthMax = Math.min(watch.base.length, Math.max(0, watch.sizeMax - watch.pos));
    if (got.length < lengthMin || got.length > lengthMax) {
      throw new Error(`${what}: ${got.length} bytes at ${watch.pos}; ${lengthMin} to ${lengthMax} expected`);
    }
    const base = watch.base.subarray(0, got.length);
    const first = firstDifference(got, base);
    if (first < 0) return;
    for (let at = first; at < got.length; at++) {
      const value = got[at] as number;
      if (value === base[at]) continue;
      const pos = watch.pos + at;
      const isGap = value === 0 && pos >= watch.sizeMin;
      if (isGap || watch.effects.some((effect) => effect.covers(pos) && effect.byteAt(pos) === value)) continue;
      if (watch.alternatives.some((each) => alternativeAt(each, pos) === value)) continue;
      throw new Error(
        `${what}: byte ${pos} is ${hex(value)}; may be ${this.#allowed(pos, base[at] as number, watch.alternatives, watch.effects)}\n  ${around(got, at)}`,
      );
    }
  }

  /** Ends a watch whose answer does not count. */
  forget(watch: Watch): void {
    this.#watches.delete(watch);
  }

  /** What a watch allows up to now, whatever happens later. */
  fork(watch: Watch): Watch {
    // The effects go on living: each is taken with the range that it has now, which is the largest that it may have.
    const effects = watch.effects.map((effect) => effect.clone());
    return { ...watch, effects };
  }

  /** Throws unless the whole file is what it may be now. Only while nothing is in progress. */
  checkAll(got: Uint8Array, what: string): void {
    this.check(this.watch(0, this.model.size + 1), got, what);
  }

  /** Takes the file at its word where several contents were possible: what was seen at rest is what it is. */
  settle(got: Uint8Array): void {
    for (const { pos, bytes } of this.#alternatives) {
      const end = Math.min(pos + bytes.length, this.model.size);
      if (end > pos) this.model.write(pos, got.slice(pos, end));
    }
    this.#alternatives = [];
  }

  #allowed(pos: number, base: number, alternatives: Alternative[], effects: Effect[]): string {
    const values = [`${hex(base)}`];
    for (const each of alternatives)
      if (alternativeAt(each, pos) !== undefined) values.push(`${hex(alternativeAt(each, pos) as number)} (either)`);
    for (const effect of effects) if (effect.covers(pos)) values.push(`${hex(effect.byteAt(pos))} (${effect.name})`);
    return values.join(', ');
  }

  #begin(effect: Effect): Effect {
    for (const other of this.#open) {
      if (other.isOrdered && effect.isOrdered) continue;
      other.rivals.push(effect);
      effect.rivals.push(other);
    }
    this.#open.add(effect);
    for (const watch of this.#watches) {
      watch.effects.push(effect);
      this.#noteSize(watch, effect);
    }
    return effect;
  }

  #noteSize(watch: Watch, effect: Effect): void {
    watch.sizeMin = Math.min(watch.sizeMin, effect.sizeLow);
    watch.sizeMax = Math.max(watch.sizeMax, effect.sizeHigh);
  }

  #change(effect: Effect, happen: (done: number) => void): Change {
    effect.happen = happen;
    let hasPlace = false;
    const locked = (): void => {
      if (effect.isOrdered && !hasPlace) this.#queue.push(effect);
      hasPlace = true;
    };
    return {
      locked,
      apply: (done = effect.end - effect.start) => {
        if (effect.isOrdered && !hasPlace) return; // it asked the filesystem for nothing: there was nothing to do
        effect.done = done;
        if (effect.isOrdered) this.#drain();
      },
      end: () => {
        if (effect.isOver || (effect.isOrdered && effect.done !== undefined)) return;
        if (effect.done !== undefined) {
          this.#happen(effect, effect.done);
          return;
        }
        effect.end = effect.start;
        this.#giveUp(effect);
      },
      endUndefined: () => {
        this.#alternate(effect, effect.start, Number.isFinite(effect.end) ? effect.end : this.model.size);
        this.#giveUp(effect);
      },
    };
  }

  #giveUp(effect: Effect): void {
    this.#finish(effect);
    this.#queue = this.#queue.filter((each) => each !== effect);
    this.#drain();
  }

  /** Counts what has happened, in the order of the lock. */
  #drain(): void {
    for (let first = this.#queue[0]; first?.done !== undefined; first = this.#queue[0]) {
      this.#queue.shift();
      this.#happen(first, first.done);
    }
  }

  #happen(effect: Effect, done: number): void {
    effect.happen(done);
    this.#alternatives = this.#alternatives.flatMap((each) => without(each, effect.start, effect.end));
    for (const watch of this.#watches) {
      watch.sizeMin = Math.min(watch.sizeMin, this.model.size);
      watch.sizeMax = Math.max(watch.sizeMax, this.model.size);
    }
    effect.afterwards?.();
    this.#addRivals(effect);
    this.#finish(effect);
  }

  /** The model has this effect's bytes now; those of rivals that are over may be there as well. */
  #addRivals(effect: Effect): void {
    for (const rival of effect.rivals) {
      if (!rival.isOver) continue;
      this.#alternate(rival, Math.max(rival.start, effect.start), Math.min(rival.end, effect.end, this.model.size));
    }
  }

  #alternate(effect: Effect, start: number, end: number): void {
    if (start >= end) return;
    const bytes = new Uint8Array(end - start);
    for (let pos = start; pos < end; pos++) bytes[pos - start] = effect.byteAt(pos);
    this.#alternatives.push({ pos: start, bytes });
  }

  #finish(effect: Effect): void {
    effect.isOver = true;
    this.#open.delete(effect);
  }
}

function alternativeAt(each: Alternative, pos: number): number | undefined {
  return each.bytes[pos - each.pos];
}

/** What is left of an alternative when [start, end) is settled. */
function without(each: Alternative, start: number, end: number): Alternative[] {
  const last = each.pos + each.bytes.length;
  if (last <= start || each.pos >= end) return [each];
  const left: Alternative[] = [];
  if (each.pos < start) left.push({ pos: each.pos, bytes: each.bytes.subarray(0, start - each.pos) });
  if (last > end) left.push({ pos: end, bytes: each.bytes.subarray(end - each.pos) });
  return left;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}

function around(bytes: Uint8Array, at: number): string {
  const from = Math.max(0, at - 8);
  return [...bytes.subarray(from, at + 16)].map((byte, i) => (from + i === at ? `>${hex(byte)}` : hex(byte))).join(' ');
}
