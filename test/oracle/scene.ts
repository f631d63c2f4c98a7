import type { Outcome } from './recorder.ts';
import { Recorder } from './recorder.ts';

/**
 * A filesystem API, or something that it gave, without its types: wrong calls are half of the table.
 */
// biome-ignore lint/suspicious/noExplicitAny: the compiler may not refuse the calls whose errors are compared
export type Untyped = any;

/** One row of the table: what it returns or throws is recorded, and so is the tree that it leaves. */
export type Case = (scene: Scene) => unknown;
export type Cases = Record<string, Case>;

/** Which half of node:fs: what gives promises, or the namesakes that end in Sync. */
export type Form = 'promises' | 'sync';

/** Where cases run: one API over one filesystem. `api` has the names of node:fs/promises, whatever is behind them. */
export interface Subject {
  readonly api: Untyped;
  readonly root: string;
  /** The synchronous API, with which every scene is laid out and read back. */
  readonly sync: Untyped;
  /** Runs a case as another user, where the subject has one. */
  as?(run: () => Promise<Outcome>): Promise<Outcome>;
  close(): Promise<void>;
}

/** A fresh tree for one case. */
export class Scene {
  /** The API under test. Handles, directories and descriptors that it opens are closed when the case is over. */
  readonly fs: Untyped;
  readonly root: string;
  /** The path of a name below the root. */
  readonly at = (name: string): string => `${this.root}/${name}`;

  private readonly subject: Subject;
  private readonly recorder: Recorder;
  private readonly opened = new Set<Untyped>();
  /** Errors that a call threw in place of returning. */
  private readonly thrown = new WeakSet<object>();

  private constructor(subject: Subject) {
    this.subject = subject;
    this.root = subject.root;
    this.recorder = new Recorder(subject.root);
    this.fs = new Proxy(subject.api, { get: (api, name) => (typeof api[name] === 'function' ? this.wrapped(api, name) : api[name]) });
  }

  /** Runs a case in its own tree: the usual one, and what `layOutMore` adds. */
  static async run(subject: Subject, test: Case, layOutMore?: (subject: Subject) => void): Promise<{ outcome: Outcome; tree: unknown }> {
    const scene = new Scene(subject);
    layOut(subject);
    layOutMore?.(subject);
    const run = () => scene.outcome(() => test(scene));
    const outcome = await (subject.as === undefined ? run() : subject.as(run));
    await scene.closeAll();
    return { outcome, tree: scene.tree() };
  }

  /** What a call comes to, as data. */
  async outcome(call: () => unknown): Promise<Outcome> {
    try {
      return { value: this.recorder.record(await call()) };
    } catch (error) {
      const threw = this.thrown.has(error as object);
      return { error: this.recorder.record(error), ...(threw ? { threw } : {}) };
    }
  }

  /** What several calls come to, one after the other. */
  async outcomes(...calls: readonly (() => unknown)[]): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    for (const call of calls) outcomes.push(await this.outcome(call));
    return outcomes;
  }

  /** What a call with each of the arguments comes to. */
  each(args: readonly unknown[], call: (argument: Untyped) => unknown): Promise<Outcome[]> {
    return this.outcomes(...args.map((argument) => () => call(argument)));
  }

  private wrapped(api: Untyped, name: string | symbol): Untyped {
    return (...args: unknown[]) => {
      let result: Untyped;
      try {
        result = api[name](...args);
      } catch (error) {
        this.thrown.add(error as object);
        throw error;
      }
      if (name !== 'open' && name !== 'opendir' && name !== 'close') return result;
      return result.then((handle: Untyped) => {
        if (name === 'close') this.opened.delete(args[0]);
        else this.opened.add(handle);
        return handle;
      });
    };
  }

  private async closeAll(): Promise<void> {
    for (const handle of this.opened) {
      // Most cases have closed what they opened; then this is refused.
      await this.outcome(() => (typeof handle === 'number' ? this.subject.api.close(handle) : handle.close()));
    }
  }

  /** The whole tree: kind, mode and owner of each name, and content or target. Where the case took our own rights away, the refusal. */
  private tree(): unknown {
    const fs = this.subject.sync;
    const found: Record<string, unknown> = {};
    const orCode = (read: () => unknown): unknown => {
      try {
        return read();
      } catch (error) {
        return (error as { code?: unknown }).code;
      }
    };
    const visit = (path: string): unknown =>
      orCode(() =>
        fs
          .readdirSync(path)
          .sort()
          .map((name: string) => look(`${path}/${name}`)),
      );
    const look = (path: string): void => {
      found[path.slice(this.root.length)] = orCode(() => {
        const stats = fs.lstatSync(path);
        const shape = `${stats.mode.toString(8)} ${stats.uid}:${stats.gid}`;
        if (stats.isDirectory()) return [shape, visit(path)];
        // The size of a link is that of its target, in which the root may be.
        if (stats.isSymbolicLink()) return [shape, stats.nlink, this.recorder.record(fs.readlinkSync(path))];
        const content = stats.isFile() ? orCode(() => fs.readFileSync(path)) : undefined;
        return [shape, stats.nlink, stats.size, this.recorder.record(content)];
      });
    };
    visit(this.root);
    return found;
  }
}

/** The tree that every case starts from. */
function layOut({ sync: fs, root }: Subject): void {
  fs.mkdirSync(`${root}/dir/sub`, { recursive: true });
  fs.mkdirSync(`${root}/hollow`);
  const files = {
    file: 'hello world\n',
    other: 'other\n',
    empty: '',
    lines: 'one\ntwo\r\n\nfour',
    'dir/a': 'a',
    'dir/b.txt': 'bb',
    'dir/sub/c': 'ccc',
  };
  for (const [name, content] of Object.entries(files)) fs.writeFileSync(`${root}/${name}`, content);
  fs.writeFileSync(`${root}/exec`, '#!/bin/sh\n', { mode: 0o755 });
  const links = { link: 'file', dirlink: 'dir', dangling: 'missing', loop: 'loop' };
  for (const [name, target] of Object.entries(links)) fs.symlinkSync(target, `${root}/${name}`);
}
