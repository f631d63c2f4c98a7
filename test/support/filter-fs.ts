import assert from 'node:assert/strict';
import { isPromise, type MaybePromise, then } from '../../src/base/task.ts';
import type { Entry } from '../../src/vfs/attr.ts';
import type { FileSystem, NodeId, Notifier } from '../../src/vfs/file-system.ts';

/** What a test changes about a filesystem. */
export interface FsFilter {
  /** Before each operation, by its name; a promise holds it up, an error is its answer. */
  before?(op: string, args: readonly unknown[]): MaybePromise<void>;
  /** Before the answer of each operation goes out. */
  after?(op: string, args: readonly unknown[]): MaybePromise<void>;
  /** Every entry that goes out. */
  entry?(entry: Entry): Entry;
}

/**
 * A filesystem behind another one, as a test wants it: slow, failing, changing its answers. It counts lookups as the contract has it, and
 * asserts that nobody forgets more than he looked up, or uses a number that he has forgotten.
 */
export class FilterFs {
  /** What is given to a Vfs. */
  readonly fs: FileSystem;
  /** Lookups that are not forgotten, by node. */
  readonly owed = new Map<NodeId, number>();
  /** Operations, by name. */
  readonly calls = new Map<string, number>();
  notifier: Notifier | undefined;

  constructor(inner: FileSystem, filter: FsFilter = {}) {
    const count = (entry: Entry): Entry => {
      this.owed.set(entry.node, (this.owed.get(entry.node) ?? 0) + 1);
      return filter.entry?.(entry) ?? entry;
    };
    const answer = (op: string, value: unknown): unknown => {
      if (value === undefined || value === null) return value;
      if (op === 'create' || op === 'tmpfile') return { ...(value as object), entry: count((value as { entry: Entry }).entry) };
      if (['lookup', 'mknod', 'mkdir', 'symlink', 'link'].includes(op)) return count(value as Entry);
      return value;
    };
    this.fs = new Proxy(inner, {
      get: (target, key) => {
        const member = Reflect.get(target, key, target) as unknown;
        if (typeof member !== 'function') return member;
        const op = String(key);
        const call = (args: unknown[]): unknown => Reflect.apply(member, target, args);
        if (op === 'attach') {
          return (notifier: Notifier) => {
            this.notifier = notifier;
            return call([notifier]);
          };
        }
        if (op === 'forget') {
          return (node: NodeId, nlookup: number) => {
            const left = (this.owed.get(node) ?? 0) - nlookup;
            assert.ok(left >= 0, `node ${node}: ${nlookup} lookups are forgotten, ${left + nlookup} are owed`);
            if (left === 0) this.owed.delete(node);
            else this.owed.set(node, left);
            call([node, nlookup]);
          };
        }
        return (...args: unknown[]) => {
          this.calls.set(op, (this.calls.get(op) ?? 0) + 1);
          const before = filter.before?.(op, args);
          const result = isPromise(before) ? (before as Promise<void>).then(() => call(args)) : call(args);
          return then(result as MaybePromise<unknown>, (value) => {
            const counted = answer(op, value);
            return then(filter.after?.(op, args) as MaybePromise<void>, () => counted);
          });
        };
      },
    });
  }

  /** How often an operation came. */
  count(op: string): number {
    return this.calls.get(op) ?? 0;
  }
}
