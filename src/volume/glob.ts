import { GLOBSTAR, Minimatch, type MinimatchOptions, type ParseReturnFiltered } from 'minimatch';
import type { ErrnoCode } from '../base/errno.ts';
import { hasCode } from '../base/fs-error.ts';
import { type Task, wait } from '../base/task.ts';
import type { Attr, DirEntry } from '../vfs/attr.ts';
import { nameOfText } from '../vfs/name.ts';
import { isDirectory, isSymlink, S_IFDIR, S_IFMT } from '../vfs/uapi.ts';
import { Dirent } from './dirent.ts';
import { basename, child, dirname, join, resolve } from './posix-path.ts';
import { promised, type VolumeState } from './state.ts';
import { encodeName } from './text.ts';
import { type Abortable, begin, checkSignal, listSorted, typeOf } from './tree-calls.ts';
import { invalidType, toPath, validateObject } from './validate.ts';

export interface GlobOptions extends Abortable {
  /** Where relative patterns begin. Default: the root of the volume. */
  cwd?: string | URL | undefined;
  /** Leaves out what it answers true for, or what matches, and all that is below. It is asked by name, and for directories by path, too. */
  exclude?: readonly string[] | ((fileName: string) => boolean) | ((dirent: Dirent) => boolean) | undefined;
  withFileTypes?: boolean | undefined;
  /** Goes through symbolic links that no pattern names, but not around in circles. */
  followSymlinks?: boolean | undefined;
}

export type GlobMatch = string | Dirent;

/** All paths that match, in the order of the walk. */
export function* glob(state: VolumeState, patterns: string | readonly string[], options?: GlobOptions): Task<GlobMatch[]> {
  const walk = new GlobWalk(state, patterns, options);
  const all: GlobMatch[] = [];
  for (let some = yield* walk.step(); some !== undefined; some = yield* walk.step()) for (const match of some) all.push(match);
  return all;
}

/** The same, as the walk comes to them. */
export async function* globEach(
  state: VolumeState,
  patterns: string | readonly string[],
  options?: GlobOptions,
): AsyncGenerator<GlobMatch, void, undefined> {
  const walk = new GlobWalk(state, patterns, options);
  for (;;) {
    const some = await promised(() => walk.step(), options?.signal);
    if (some === undefined) return;
    yield* some;
  }
}

/** As node:fs has them on Linux; a backslash is a separator there, not an escape. */
const MINIMATCH_OPTIONS: MinimatchOptions = {
  nocase: false,
  windowsPathsNoEscape: true,
  nonegate: true,
  nocomment: true,
  optimizationLevel: 2,
  platform: 'linux',
  nocaseMagicOnly: true,
};

export function globPattern(pattern: string, options: MinimatchOptions = {}): Minimatch {
  return new Minimatch(nameOfText(pattern), { ...MINIMATCH_OPTIONS, ...options });
}

type Part = ParseReturnFiltered;

/** A place in a pattern: parts[at] is what the next name has to match. */
interface Place {
  readonly parts: readonly Part[];
  readonly at: number;
}

/** Inode numbers of a directory and those above it. */
interface Chain {
  readonly ino: number;
  readonly above: Chain | undefined;
}

/** A directory in which patterns go on. */
interface Visit {
  /** From the root of the volume. */
  readonly path: string;
  /** As results show it; '' for where relative patterns begin. */
  readonly shown: string;
  /** File type bits: of a symbolic link where the name is one. */
  readonly type: number;
  readonly places: readonly Place[];
  readonly chain: Chain;
}

/** What a name in a directory matches. */
interface Step {
  /** Its path is a result. */
  matches: boolean;
  /** What goes on in it if it is a directory, and if it is a symbolic link to one. */
  readonly inside: Place[];
  readonly insideLink: Place[];
}

/**
 * All patterns in one walk: each directory is listed at most once for what can match in it, and not at all where only names without
 * wildcards are wanted. Where there is nothing, or nothing that the caller may see, nothing matches.
 */
class GlobWalk {
  readonly #state: VolumeState;
  readonly #options: GlobOptions;
  readonly #cwd: string;
  readonly #patterns: Part[][];
  readonly #excluded: Minimatch[];
  readonly #seen = new Set<string>();
  /** Directories to come, from #next on. */
  #visits: Visit[] | undefined;
  #next = 0;

  constructor(state: VolumeState, patterns: string | readonly string[], options: GlobOptions = {}) {
    const wanted = typeof patterns === 'string' ? [patterns] : stringsOf(patterns, 'patterns');
    validateObject(options, 'options');
    const { exclude, cwd } = options;
    if (exclude !== undefined && exclude !== null && typeof exclude !== 'function' && !Array.isArray(exclude)) {
      throw invalidType('options.exclude', 'of type function or string[]', exclude);
    }
    this.#state = begin(state, options);
    this.#options = options;
    this.#cwd = resolve('/', cwd === undefined || cwd === null ? '' : toPath(cwd, 'options.cwd'));
    this.#patterns = wanted.filter((pattern) => pattern !== '').flatMap((pattern) => globPattern(pattern).set);
    this.#excluded = Array.isArray(exclude) ? stringsOf(exclude, 'options.exclude').map((pattern) => globPattern(pattern)) : [];
  }

  /** What the next directory has to give; undefined when there is none left. */
  *step(): Task<GlobMatch[] | undefined> {
    checkSignal(this.#state);
    this.#visits ??= yield* this.#begin();
    const visit = this.#visits[this.#next];
    if (visit === undefined) return undefined;
    this.#next++;
    // What was visited is not kept for ever.
    if (this.#next > 1024) {
      this.#visits.splice(0, this.#next);
      this.#next = 0;
    }
    const out: GlobMatch[] = [];
    yield* this.#visit(visit, out);
    return out;
  }

  *#begin(): Task<Visit[]> {
    const relative: Place[] = [];
    const absolute: Place[] = [];
    for (const parts of this.#patterns) {
      const isAbsolute = parts[0] === '' && parts.length > 1;
      (isAbsolute ? absolute : relative).push({ parts, at: isAbsolute ? 1 : 0 });
    }
    const visits: Visit[] = [];
    for (const [path, shown, places] of [[this.#cwd, '', relative] as const, ['/', '/', absolute] as const]) {
      const attr = places.length === 0 ? undefined : yield* this.#stat(path, true);
      if (attr === undefined || !isDirectory(attr.mode)) continue;
      visits.push({ path, shown, type: S_IFDIR, places, chain: { ino: attr.ino, above: undefined } });
    }
    return visits;
  }

  *#visit(visit: Visit, out: GlobMatch[]): Task<void> {
    const { path, shown } = visit;
    const here = places(visit.places);
    if (here.ends) this.#emit(visit.path, shown, visit.type, out);
    if (here.up.length > 0) yield* this.#goUp(visit, here.up);

    if (here.wild.length === 0) {
      for (const name of here.literal.keys()) {
        const attr = yield* this.#stat(child(path, name), false);
        if (attr !== undefined) yield* this.#enter(visit, here, name, attr.mode & S_IFMT, attr.ino, out);
      }
      return;
    }
    for (const entry of yield* this.#list(path)) {
      if (stepOf(here, entry.name) === undefined) continue;
      yield* this.#enter(visit, here, entry.name, yield* typeOf(this.#state, path, entry), entry.ino, out);
    }
  }

  /** One name of a directory: gives it, goes into it. */
  *#enter(visit: Visit, here: Places, name: string, type: number, ino: number, out: GlobMatch[]): Task<void> {
    const step = stepOf(here, name);
    if (step === undefined) return;
    const path = child(visit.path, name);
    const shown = child(visit.shown, name);
    if (this.#isExcluded(name, path, shown, type)) return;

    let inside: readonly Place[] = [];
    let { chain } = visit;
    if (isDirectory(type)) {
      inside = step.inside;
      chain = { ino, above: chain };
    } else if (isSymlink(type)) {
      inside = this.#options.followSymlinks ? step.inside : step.insideLink;
      const target = inside.length === 0 ? undefined : yield* this.#stat(path, true);
      const isLoop = target !== undefined && this.#options.followSymlinks === true && isIn(chain, target.ino);
      if (target === undefined || !isDirectory(target.mode) || isLoop) inside = [];
      else chain = { ino: target.ino, above: chain };
    }
    // What goes on inside and needs nothing more gives the directory itself, when it is visited.
    if (inside.length > 0) this.#visits?.push({ path, shown, type, places: inside, chain });
    const isGivenInside = inside.some((place) => place.parts[place.at] === GLOBSTAR && place.at === place.parts.length - 1);
    if (step.matches && !isGivenInside) this.#emit(path, shown, type, out);
  }

  *#goUp(visit: Visit, places: readonly Place[]): Task<void> {
    const path = dirname(visit.path);
    const attr = yield* this.#stat(path, true);
    if (attr === undefined) return;
    this.#visits?.push({ path, shown: join(visit.shown, '..'), type: S_IFDIR, places, chain: { ino: attr.ino, above: undefined } });
  }

  #emit(path: string, shown: string, type: number, out: GlobMatch[]): void {
    const text = shown === '' ? '.' : shown;
    if (this.#seen.has(text)) return;
    this.#seen.add(text);
    out.push(this.#options.withFileTypes ? direntOf(path, type) : (encodeName(text) as string));
  }

  #isExcluded(name: string, path: string, shown: string, type: number): boolean {
    if (this.#excluded.length > 0) {
      const forms = isDirectory(type) ? [shown, `${shown}/`] : [shown];
      return this.#excluded.some((pattern) => forms.some((form) => pattern.match(form)));
    }
    const { exclude, withFileTypes } = this.#options;
    if (typeof exclude !== 'function') return false;
    if (withFileTypes) return Boolean((exclude as (dirent: Dirent) => boolean)(direntOf(path, type)));
    const isExcluded = exclude as (fileName: string) => boolean;
    if (isExcluded(encodeName(name) as string)) return true;
    return isDirectory(type) && shown !== name && Boolean(isExcluded(encodeName(shown) as string));
  }

  *#stat(path: string, follow: boolean): Task<Attr | undefined> {
    try {
      return yield* wait(this.#state.vfs.stat(this.#state.caller, path, follow));
    } catch (error) {
      return nothingIf(error, undefined);
    }
  }

  *#list(path: string): Task<DirEntry[]> {
    try {
      return yield* listSorted(this.#state, path, true);
    } catch (error) {
      return nothingIf(error, []);
    }
  }
}

const NOTHING_THERE: readonly ErrnoCode[] = ['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'ENAMETOOLONG'];

function nothingIf<T>(error: unknown, nothing: T): T {
  if (NOTHING_THERE.some((code) => hasCode(error, code))) return nothing;
  throw error;
}

/** What the patterns want of one directory. */
interface Places {
  /** The directory itself is a result. */
  ends: boolean;
  /** Where a pattern goes on in the directory above. */
  readonly up: Place[];
  /** Where a pattern goes on below a name without wildcards. */
  readonly literal: Map<string, Place[]>;
  /** Where the next part is one with wildcards, or a globstar. */
  readonly wild: Place[];
}

function places(from: readonly Place[]): Places {
  const here: Places = { ends: false, up: [], literal: new Map(), wild: [] };
  const all = [...from];
  const seen = new Map<readonly Part[], Set<number>>();
  for (const place of all) {
    const { parts, at } = place;
    const known = seen.get(parts) ?? new Set();
    if (known.has(at)) continue;
    seen.set(parts, known.add(at));
    const part = parts[at];
    const next = { parts, at: at + 1 };
    if (part === undefined || (part === '' && at === parts.length - 1)) here.ends = true;
    else if (part === GLOBSTAR) {
      here.wild.push(place);
      // It stands for no directory at all, too.
      all.push(next);
    } else if (part === '.' || part === '') all.push(next);
    else if (part === '..') here.up.push(next);
    else if (typeof part === 'string') here.literal.set(part, [...(here.literal.get(part) ?? []), next]);
    else here.wild.push(place);
  }
  return here;
}

/** undefined if the name matches nothing. */
function stepOf(here: Places, name: string): Step | undefined {
  const step: Step = { matches: false, inside: [], insideLink: [] };
  for (const next of here.literal.get(name) ?? []) goOn(step, next, true);
  for (const { parts, at } of here.wild) {
    const part = parts[at];
    if (part === GLOBSTAR) {
      if (name.startsWith('.')) continue;
      if (at === parts.length - 1) step.matches = true;
      step.inside.push({ parts, at });
    } else if (part instanceof RegExp && part.test(name)) goOn(step, { parts, at: at + 1 }, false);
  }
  return step.matches || step.inside.length > 0 ? step : undefined;
}

function goOn(step: Step, next: Place, isLiteral: boolean): void {
  if (next.at === next.parts.length) {
    step.matches = true;
    return;
  }
  step.inside.push(next);
  if (isLiteral) step.insideLink.push(next);
}

function isIn(chain: Chain | undefined, ino: number): boolean {
  for (let at = chain; at !== undefined; at = at.above) if (at.ino === ino) return true;
  return false;
}

function direntOf(path: string, type: number): Dirent {
  return new Dirent(encodeName(basename(path)) as string, encodeName(dirname(path)) as string, type);
}

function stringsOf(values: unknown, name: string): string[] {
  if (!Array.isArray(values)) throw invalidType(name, typeof values === 'object' ? 'an instance of Array' : 'of type string', values);
  values.forEach((value, index) => {
    if (typeof value !== 'string') throw invalidType(`${name}[${index}]`, 'of type string', value);
  });
  return values;
}
